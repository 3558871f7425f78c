//! `system.jobs`: background work, oldest first: of this process and, where its rows are kept, of earlier ones.

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
            ("next_retry_at", Kind::Time, true),
            ("progress", Kind::Fraction, false),
            ("rows", Kind::Unsigned, false),
            ("bytes", Kind::Unsigned, false),
            ("created", Kind::Time, false),
            ("started", Kind::Time, true),
            ("finished", Kind::Time, true),
            ("heartbeat", Kind::Time, true),
            ("cpu_ms", Kind::Fraction, false),
            ("memory_bytes", Kind::Unsigned, false),
            ("node", Kind::Text, false),
            ("error", Kind::Text, true),
        ])
    }

    async fn rows(&self, source: &SystemSource) -> Result<Vec<ArrayRef>> {
        let rows = source.engine.database().all_jobs().await?;
        Ok(vec![
            numbers(rows.iter().map(|r| Some(r.id))),
            texts(rows.iter().map(|r| r.kind.as_str())),
            text(rows.iter().map(|r| r.table.as_deref())),
            texts(rows.iter().map(|r| r.parameters.as_str())),
            texts(rows.iter().map(|r| r.status.as_str())),
            numbers(rows.iter().map(|r| Some(u64::from(r.attempts)))),
            times(rows.iter().map(|r| r.next_retry_us)),
            fractions(rows.iter().map(|r| Some(r.progress))),
            numbers(rows.iter().map(|r| Some(r.rows))),
            numbers(rows.iter().map(|r| Some(r.bytes))),
            times(rows.iter().map(|r| Some(r.created_us))),
            times(rows.iter().map(|r| r.started_us)),
            times(rows.iter().map(|r| r.finished_us)),
            times(rows.iter().map(|r| r.heartbeat_us)),
            fractions(rows.iter().map(|r| Some(r.cpu.as_micros() as f64 / 1e3))),
            numbers(rows.iter().map(|r| Some(r.memory_bytes))),
            texts(rows.iter().map(|r| r.node.as_str())),
            text(rows.iter().map(|r| r.error.as_deref())),
        ])
    }
}
