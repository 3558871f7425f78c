//! `system.prepared_statements`: what the session has prepared by name.

use std::time::UNIX_EPOCH;

use async_trait::async_trait;
use cairn_storage::schema::ColumnType;
use datafusion::arrow::array::ArrayRef;
use datafusion::arrow::datatypes::{DataType, SchemaRef};

use super::{Kind, SystemSource, SystemTable, schema, texts, times};
use crate::error::Result;

/// `system.prepared_statements`
#[derive(Debug)]
pub(super) struct PreparedStatements;

#[async_trait]
impl SystemTable for PreparedStatements {
    fn name(&self) -> &'static str {
        "prepared_statements"
    }

    fn schema(&self) -> SchemaRef {
        schema(&[
            ("name", Kind::Text, false),
            ("statement", Kind::Text, false),
            ("parameters", Kind::Text, false),
            ("prepared", Kind::Time, false),
        ])
    }

    async fn rows(&self, source: &SystemSource) -> Result<Vec<ArrayRef>> {
        let all = source.named.all();
        let prepared = |time: std::time::SystemTime| {
            let since = time.duration_since(UNIX_EPOCH).unwrap_or_default();
            i64::try_from(since.as_micros()).ok()
        };
        Ok(vec![
            texts(all.iter().map(|(name, _)| name.as_str())),
            texts(all.iter().map(|(_, statement)| statement.text.as_str())),
            texts(
                all.iter()
                    .map(|(_, statement)| statement.types().map(type_name).collect::<Vec<_>>().join(", ")),
            ),
            times(all.iter().map(|(_, statement)| prepared(statement.prepared))),
        ])
    }
}

fn type_name(data_type: Option<&DataType>) -> String {
    match data_type {
        None => "ANY".to_owned(),
        Some(data_type) => ColumnType::from_arrow(data_type)
            .map_or_else(|| data_type.to_string(), |column_type| column_type.to_string()),
    }
}
