//! `system.prepared_statements`: what the session has prepared by name.

use std::time::UNIX_EPOCH;

use async_trait::async_trait;
use datafusion::arrow::array::ArrayRef;
use datafusion::arrow::datatypes::SchemaRef;

use super::{Kind, SystemSource, SystemTable, schema, texts, times};
use crate::error::Result;
use crate::session::type_name;

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
            texts(all.iter().map(|(_, statement)| {
                statement
                    .types()
                    .map(|t| t.map_or_else(|| "ANY".to_owned(), type_name))
                    .collect::<Vec<_>>()
                    .join(", ")
            })),
            times(all.iter().map(|(_, statement)| prepared(statement.prepared))),
        ])
    }
}
