//! `system.queries`: statements that run now, the oldest first. A user sees its own, a superuser all.

use std::time::UNIX_EPOCH;

use async_trait::async_trait;
use datafusion::arrow::array::ArrayRef;
use datafusion::arrow::datatypes::SchemaRef;
use datafusion::execution::memory_pool::MemoryPool;

use super::{Kind, SystemSource, SystemTable, numbers, schema, text, texts, times};
use crate::error::Result;

/// `system.queries`
#[derive(Debug)]
pub(super) struct Queries;

#[async_trait]
impl SystemTable for Queries {
    fn name(&self) -> &'static str {
        "queries"
    }

    fn schema(&self) -> SchemaRef {
        schema(&[
            ("id", Kind::Unsigned, false),
            ("session", Kind::Unsigned, false),
            ("user", Kind::Text, true),
            ("client", Kind::Text, true),
            ("state", Kind::Text, false),
            ("statement", Kind::Text, false),
            ("started", Kind::Time, false),
            ("elapsed_ms", Kind::Unsigned, false),
            ("rows", Kind::Unsigned, false),
            ("memory_bytes", Kind::Unsigned, false),
        ])
    }

    async fn rows(&self, source: &SystemSource) -> Result<Vec<ArrayRef>> {
        let mut running = source.engine.running().all();
        if let Some(user) = source.rights.user() {
            running.retain(|statement| statement.whose.user_id == Some(user));
        }
        let started = |time: std::time::SystemTime| {
            let since = time.duration_since(UNIX_EPOCH).unwrap_or_default();
            i64::try_from(since.as_micros()).ok()
        };
        let elapsed = |since: std::time::Instant| u64::try_from(since.elapsed().as_millis()).ok();
        Ok(vec![
            numbers(running.iter().map(|s| Some(s.id))),
            numbers(running.iter().map(|s| Some(s.whose.session))),
            text(running.iter().map(|s| Some(s.whose.user.as_str()).filter(|user| !user.is_empty()))),
            text(running.iter().map(|s| Some(s.whose.client.as_str()).filter(|client| !client.is_empty()))),
            texts(running.iter().map(|s| s.state())),
            texts(running.iter().map(|s| s.fingerprint())),
            times(running.iter().map(|s| started(s.begun))),
            numbers(running.iter().map(|s| elapsed(s.since))),
            numbers(running.iter().map(|s| Some(s.rows()))),
            numbers(running.iter().map(|s| Some(s.whose.memory.reserved() as u64))),
        ])
    }
}
