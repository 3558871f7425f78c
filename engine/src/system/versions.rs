//! `system.versions`: recent commits, newest last.

use async_trait::async_trait;
use datafusion::arrow::array::ArrayRef;
use datafusion::arrow::datatypes::SchemaRef;

use super::{Kind, SystemSource, SystemTable, numbers, schema, text, texts, times};
use crate::error::Result;

/// `system.versions`
#[derive(Debug)]
pub(super) struct Versions;

#[async_trait]
impl SystemTable for Versions {
    fn name(&self) -> &'static str {
        "versions"
    }

    fn schema(&self) -> SchemaRef {
        schema(&[
            ("version", Kind::Unsigned, false),
            ("time", Kind::Time, false),
            ("commit_id", Kind::Text, false),
            ("user", Kind::Text, true),
            ("session", Kind::Text, true),
            ("request_id", Kind::Text, true),
            ("message", Kind::Text, true),
            ("tables", Kind::Text, true),
            ("rows_added", Kind::Unsigned, false),
            ("rows_deleted", Kind::Unsigned, false),
        ])
    }

    async fn rows(&self, source: &SystemSource) -> Result<Vec<ArrayRef>> {
        let mut rows = source.engine.database().versions();
        // Commits after the statement began are not the statement's.
        rows.retain(|r| r.version <= source.snapshot.version());
        rows.sort_by_key(|r| r.version);
        let tables: Vec<String> = rows
            .iter()
            .map(|r| {
                let name = |id: &cairn_storage::id::TableId| match source.snapshot.table(*id) {
                    Some(table) => table.def().qualified_name(),
                    None => format!("#{id}"),
                };
                r.tables.iter().map(name).collect::<Vec<_>>().join(", ")
            })
            .collect();
        Ok(vec![
            numbers(rows.iter().map(|r| Some(r.version.0))),
            times(rows.iter().map(|r| Some(r.time_us))),
            texts(rows.iter().map(|r| r.commit_id.to_string())),
            text(rows.iter().map(|r| given(&r.info.user))),
            text(rows.iter().map(|r| given(&r.info.session))),
            text(rows.iter().map(|r| given(&r.info.request_id))),
            text(rows.iter().map(|r| given(&r.info.message))),
            text(tables.iter().map(|t| given(t))),
            numbers(rows.iter().map(|r| Some(r.rows_added))),
            numbers(rows.iter().map(|r| Some(r.rows_deleted))),
        ])
    }
}

fn given(text: &str) -> Option<&str> {
    (!text.is_empty()).then_some(text)
}
