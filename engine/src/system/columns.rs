//! `system.columns`: the columns of every table, with Cairn's own type names.

use async_trait::async_trait;
use datafusion::arrow::array::ArrayRef;
use datafusion::arrow::datatypes::SchemaRef;

use super::{Kind, SystemSource, SystemTable, booleans, numbers, schema, text, texts};
use crate::ddl::value_unless_given;
use crate::error::Result;

/// `system.columns`
#[derive(Debug)]
pub(super) struct Columns;

#[async_trait]
impl SystemTable for Columns {
    fn name(&self) -> &'static str {
        "columns"
    }

    fn schema(&self) -> SchemaRef {
        schema(&[
            ("table_schema", Kind::Text, false),
            ("table_name", Kind::Text, false),
            ("position", Kind::Unsigned, false),
            ("name", Kind::Text, false),
            ("type", Kind::Text, false),
            ("nullable", Kind::Boolean, false),
            ("default", Kind::Text, true),
            ("key_position", Kind::Unsigned, true),
            ("column_id", Kind::Unsigned, false),
        ])
    }

    async fn rows(&self, source: &SystemSource) -> Result<Vec<ArrayRef>> {
        let mut rows = Vec::new();
        for table in source.tables() {
            rows.extend(table.columns.iter().enumerate().map(|(i, column)| (table, i, column)));
        }
        let defaults: Vec<Option<String>> = rows.iter().map(|(t, _, c)| value_unless_given(t, c)).collect();
        Ok(vec![
            texts(rows.iter().map(|(t, _, _)| t.schema.as_str())),
            texts(rows.iter().map(|(t, _, _)| t.name.as_str())),
            numbers(rows.iter().map(|(_, i, _)| Some(*i as u64 + 1))),
            texts(rows.iter().map(|(_, _, c)| c.name.as_str())),
            texts(rows.iter().map(|(_, _, c)| c.column_type.to_string())),
            booleans(rows.iter().map(|(_, _, c)| Some(c.nullable))),
            text(defaults.iter().map(Option::as_deref)),
            numbers(
                rows.iter()
                    .map(|(t, _, c)| t.primary_key.iter().position(|id| *id == c.id).map(|p| p as u64 + 1)),
            ),
            numbers(rows.iter().map(|(_, _, c)| Some(u64::from(c.id.0)))),
        ])
    }
}
