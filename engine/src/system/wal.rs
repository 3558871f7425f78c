//! `system.wal`: the state of the log, one row.

use async_trait::async_trait;
use datafusion::arrow::array::ArrayRef;
use datafusion::arrow::datatypes::SchemaRef;

use super::{Kind, SystemSource, SystemTable, numbers, schema};
use crate::error::Result;

/// `system.wal`
#[derive(Debug)]
pub(super) struct Wal;

#[async_trait]
impl SystemTable for Wal {
    fn name(&self) -> &'static str {
        "wal"
    }

    fn schema(&self) -> SchemaRef {
        schema(&[
            ("number", Kind::Unsigned, false),
            ("oldest_number", Kind::Unsigned, false),
            ("bytes", Kind::Unsigned, false),
            ("syncs", Kind::Unsigned, false),
            ("durable_version", Kind::Unsigned, false),
        ])
    }

    async fn rows(&self, source: &SystemSource) -> Result<Vec<ArrayRef>> {
        let status = source.engine.database().wal_status();
        let one = |value: u64| numbers(std::iter::once(Some(value)));
        Ok(vec![
            one(status.number.0),
            one(status.oldest.0),
            one(status.bytes),
            one(status.syncs),
            one(status.durable.0),
        ])
    }
}
