//! `system.wal`: the state of the log, one row.

use async_trait::async_trait;
use cairn_storage::Root;
use datafusion::arrow::array::ArrayRef;
use datafusion::arrow::datatypes::SchemaRef;

use super::{Kind, SystemSource, SystemTable, numbers, schema, text, times};
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
            ("durability", Kind::Text, true),
            ("unsent_commits", Kind::Unsigned, true),
            ("unsent_bytes", Kind::Unsigned, true),
            ("unsent_since", Kind::Time, true),
            ("journal", Kind::Text, true),
            ("send_error", Kind::Text, true),
        ])
    }

    async fn rows(&self, source: &SystemSource) -> Result<Vec<ArrayRef>> {
        let database = source.engine.database();
        let status = database.wal_status();
        // Of the writer of a bucket with durability = 'local'; NULL everywhere else.
        let unsent = database.unsent();
        let unsent = unsent.as_ref();
        let durability =
            matches!(database.root(), Root::Store(_)).then(|| database.options().durability.as_str());
        let one = |value: u64| numbers(std::iter::once(Some(value)));
        let words = |value: Option<&str>| text(std::iter::once(value));
        Ok(vec![
            one(status.number.0),
            one(status.oldest.0),
            one(status.bytes),
            one(status.syncs),
            one(status.durable.0),
            words(durability),
            numbers(std::iter::once(unsent.map(|unsent| unsent.commits))),
            numbers(std::iter::once(unsent.map(|unsent| unsent.bytes))),
            times(std::iter::once(unsent.and_then(|unsent| unsent.since_us))),
            words(unsent.map(|unsent| unsent.journal.as_str())),
            words(unsent.and_then(|unsent| unsent.failure.as_deref())),
        ])
    }
}
