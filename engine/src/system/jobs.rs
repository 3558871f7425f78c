//! `system.jobs`: background work, oldest first.

use async_trait::async_trait;
use datafusion::arrow::array::ArrayRef;
use datafusion::arrow::datatypes::SchemaRef;

use super::{Kind, SystemSource, SystemTable, fractions, numbers, schema, text, texts, times};
use crate::error::Result;

/// `system.jobs`
#[derive(Debug)]
pub(super) struct Jobs;

#[async_trait]
impl SystemTable for Jobs {
    fn name(&self) -> &'static str {
        "jobs"
    }

    fn schema(&self) -> SchemaRef {
        schema(&[
            ("id", Kind::Unsigned, false),
            ("kind", Kind::Text, false),
            ("table", Kind::Text, true),
            ("parameters", Kind::Text, false),
            ("status", Kind::Text, false),
            ("attempts", Kind::Unsigned, false),
            ("progress", Kind::Fraction, false),
            ("rows", Kind::Unsigned, false),
            ("bytes", Kind::Unsigned, false),
            ("created", Kind::Time, false),
            ("started", Kind::Time, true),
            ("finished", Kind::Time, true),
            ("error", Kind::Text, true),
        ])
    }

    async fn rows(&self, source: &SystemSource) -> Result<Vec<ArrayRef>> {
        let mut rows = source.engine.database().jobs();
        rows.sort_by_key(|r| r.id);
        Ok(vec![
            numbers(rows.iter().map(|r| Some(r.id))),
            texts(rows.iter().map(|r| r.kind.as_str())),
            text(rows.iter().map(|r| r.table.as_deref())),
            texts(rows.iter().map(|r| r.parameters.as_str())),
            texts(rows.iter().map(|r| r.status.as_str())),
            numbers(rows.iter().map(|r| Some(u64::from(r.attempts)))),
            fractions(rows.iter().map(|r| Some(r.progress))),
            numbers(rows.iter().map(|r| Some(r.rows))),
            numbers(rows.iter().map(|r| Some(r.bytes))),
            times(rows.iter().map(|r| Some(r.created_us))),
            times(rows.iter().map(|r| r.started_us)),
            times(rows.iter().map(|r| r.finished_us)),
            text(rows.iter().map(|r| r.error.as_deref())),
        ])
    }
}
