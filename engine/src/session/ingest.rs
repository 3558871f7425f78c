//! Rows that come from a client instead of from a statement.

use datafusion::execution::SendableRecordBatchStream;
use futures::FutureExt;

use super::{Session, repeat};
use crate::config::Settings;
use crate::copy::{self, IfExists, IfMissing, IngestTarget};
use crate::error::{Error, Result};
use crate::metrics::Watch;
use crate::output::Ingested;
use crate::statement::Shape;

impl Session {
    /// Writes `rows` into `target`, in one commit or as part of the open transaction. Rows are read as fast as they are
    /// written. Dropping the future changes nothing, unless its commit is durable.
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
    ) -> Result<Ingested> {
        let mut watch = self.watch(&format!("INGEST INTO {target}"));
        watch.is_ingest(target.to_string());
        match self.ingest_watched(target, if_missing, if_exists, rows, &mut watch).await {
            Ok(Ingested { rows, mut notes }) => {
                notes.extend(self.lock().notice.take());
                watch.over_rows(Ok(rows)).map(|rows| Ingested { rows, notes })
            }
            Err(error) => watch.over_uncounted(Err(error)),
        }
    }

    async fn ingest_watched(
        &self,
        target: &IngestTarget,
        if_missing: IfMissing,
        if_exists: IfExists,
        rows: SendableRecordBatchStream,
        watch: &mut Watch,
    ) -> Result<Ingested> {
        let given = self.given_for_rows();
        self.take_defaults().await?;
        let limits = self.admit(true, watch).await?;
        let settings = self.begun(given, watch);
        let (session, target, timeout) = (self.handle(), target.clone(), settings.statement_timeout);
        let ingest = async move {
            let there = match &settings.given {
                Some(given) => session.find(given).await,
                None => Ok(false),
            };
            let rows = match there? {
                true => 0,
                false => {
                    let written = session.ingest_now(&settings, &target, if_missing, if_exists, rows).await;
                    session.settled_rows(&settings, written).await?
                }
            };
            let notes = settings.given.as_ref().and_then(repeat::note).into_iter().collect();
            Ok::<_, Error>(Ingested { rows, notes })
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
