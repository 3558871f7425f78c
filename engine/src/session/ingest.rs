//! Rows that come from a client instead of from a statement.

use datafusion::execution::SendableRecordBatchStream;
use futures::FutureExt;

use super::Session;
use crate::config::Settings;
use crate::copy::{self, IfExists, IfMissing, IngestTarget};
use crate::error::Result;
use crate::metrics::Watch;
use crate::statement::Shape;

impl Session {
    /// Writes `rows` into `target`, in one commit or as part of the open transaction; returns how many. Rows are read as fast
    /// as they are written. Dropping the future changes nothing, unless its commit is durable.
    ///
    /// # Errors
    /// As `if_missing` and `if_exists` say; a column the table does not have, a value that does not fit, an error of `rows`;
    /// `Conflict` when another commit changed the table's definition meanwhile. Nothing has changed then.
    pub async fn ingest(
        &self,
        target: &IngestTarget,
        if_missing: IfMissing,
        if_exists: IfExists,
        rows: SendableRecordBatchStream,
    ) -> Result<u64> {
        let mut watch = self.watch(&format!("INGEST INTO {target}"));
        watch.is_ingest(target.to_string());
        let written = self.ingest_watched(target, if_missing, if_exists, rows, &mut watch).await;
        watch.over_rows(written)
    }

    async fn ingest_watched(
        &self,
        target: &IngestTarget,
        if_missing: IfMissing,
        if_exists: IfExists,
        rows: SendableRecordBatchStream,
        watch: &mut Watch,
    ) -> Result<u64> {
        let given = self.given_for_rows();
        self.take_defaults().await?;
        let limits = self.admit(true, watch).await?;
        let settings = Settings { given, ..self.lock().settings.clone() };
        let (session, target, timeout) = (self.handle(), target.clone(), settings.statement_timeout);
        let ingest = async move {
            let there = match &settings.given {
                Some(given) => session.find(given).await,
                None => Ok(false),
            };
            if there? {
                return Ok(0);
            }
            let written = session.ingest_now(&settings, &target, if_missing, if_exists, rows).await;
            session.settled_rows(&settings, written).await
        };
        limits.run_in_time(timeout, ingest.boxed()).await
    }

    async fn ingest_now(
        &self,
        settings: &Settings,
        target: &IngestTarget,
        if_missing: IfMissing,
        if_exists: IfExists,
        rows: SendableRecordBatchStream,
    ) -> Result<u64> {
        let db = self.engine.database();
        if db.follows() && !self.in_transaction() {
            // Rows come once: no conflict with what another writer did may be found when they have.
            db.claim().await?;
        }
        let (context, catalog) = self.context(&Shape::default(), settings, None).await?;
        let written = copy::ingest(&context, target, if_missing, if_exists, rows).await;
        drop((context, catalog));
        self.lock().unpin();
        written
    }
}
