//! One `cairn_engine::Session` that several requests may use at a time.
//!
//! Statements run side by side, each on its own snapshot, as long as no transaction is open; those of a transaction take
//! turns, in the order they came. Rows that are read on take no turn: they keep the snapshot they were planned at.

use cairn_engine::{Description, IfExists, IfMissing, IngestTarget, Ingested, Output, Result, Session};
use datafusion::common::ParamValues;
use datafusion::execution::SendableRecordBatchStream;
use futures::FutureExt;
use tokio::sync::{Mutex, MutexGuard};

/// See the module.
#[derive(Debug)]
pub(crate) struct SqlSession {
    engine: Session,
    turn: Mutex<()>,
}

impl SqlSession {
    pub(crate) fn new(engine: Session) -> Self {
        Self { engine, turn: Mutex::new(()) }
    }

    pub(crate) fn engine(&self) -> &Session {
        &self.engine
    }

    /// Runs one statement.
    ///
    /// # Errors
    /// As [`Session::execute`].
    pub(crate) async fn execute(&self, sql: &str, params: Option<ParamValues>) -> Result<Output> {
        let _turn = self.turn().await;
        // Boxed: the compiler can't see through the engine's futures that this one may change threads.
        self.engine.execute(sql, params).boxed().await
    }

    /// Describes one statement.
    ///
    /// # Errors
    /// As [`Session::describe`].
    pub(crate) async fn describe(&self, sql: &str) -> Result<Description> {
        let _turn = self.turn().await;
        self.engine.describe(sql).boxed().await
    }

    /// Writes rows into a table.
    ///
    /// # Errors
    /// As [`Session::ingest`].
    pub(crate) async fn ingest(
        &self,
        target: &IngestTarget,
        if_missing: IfMissing,
        if_exists: IfExists,
        rows: SendableRecordBatchStream,
    ) -> Result<Ingested> {
        let _turn = self.turn().await;
        self.engine.ingest(target, if_missing, if_exists, rows).boxed().await
    }

    /// Opens a transaction that only [`end`](Self::end) ends.
    ///
    /// # Errors
    /// As [`Session::begin_transaction`].
    pub(crate) async fn begin(&self) -> Result<()> {
        self.engine.begin_transaction().boxed().await
    }

    /// Ends the open transaction after the statements of it that came before.
    ///
    /// # Errors
    /// As [`Session::end_transaction`].
    pub(crate) async fn end(&self, commit: bool) -> Result<()> {
        let _turn = self.turn().await;
        self.engine.end_transaction(commit).boxed().await
    }

    /// The right to be the one statement of the open transaction that runs; None: no transaction is open.
    pub(crate) async fn turn(&self) -> Option<MutexGuard<'_, ()>> {
        if self.engine.in_transaction() { Some(self.turn.lock().await) } else { None }
    }
}
