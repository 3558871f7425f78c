//! When tables are compacted: one pass at a time, soon after a checkpoint, or when it is asked for. Does not own: what a compaction
//! does (`compact`).
//!
//! A pass ends with a checkpoint, so that a manifest stops naming what was replaced; only then can it be removed.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, PoisonError};

use tokio::time::Instant;

use super::Database;
use crate::checkpoint::CheckpointReason;
use crate::compact::{CompactReason, CompactReceipt, Work, newest_only};
use crate::error::{Error, ErrorKind, Result};
use crate::id::{ObjectId, TableId};
use crate::jobs::JobKind;

/// Tables that are due and wait for others are shown, so many at most.
const NOTED_MAX: usize = 100;

/// The state of compactions of one open database.
#[derive(Debug, Default)]
pub(crate) struct Compactor {
    /// Held by the pass that runs.
    running: tokio::sync::Mutex<()>,
    /// Whether a pass waits to begin.
    due: AtomicBool,
    stopped: AtomicBool,
}

impl Compactor {
    /// Ends the merge that runs and lets none begin.
    pub(super) fn stop(&self) {
        self.stopped.store(true, Ordering::Release);
    }

    /// Waits for the pass that was stopped.
    pub(super) async fn ended(&self) {
        drop(self.running.lock().await);
    }
}

impl Database {
    /// Merges the segments of a table (of all tables when absent) into as few as there can be, without rows that nobody can see any
    /// more. Hot rows and deletes are written first. Readers and writers go on meanwhile. A second call waits for the first.
    ///
    /// # Errors
    /// `ReadOnly` on a follower; storage errors: what was done by then stays.
    pub async fn compact(self: &Arc<Self>, table: Option<TableId>) -> Result<CompactReceipt> {
        self.writer()?;
        self.checkpoint(CheckpointReason::Statement).await?;
        self.compact_now(table, CompactReason::Statement).await
    }

    pub(super) async fn compact_now(
        self: &Arc<Self>,
        table: Option<TableId>,
        reason: CompactReason,
    ) -> Result<CompactReceipt> {
        let database = Arc::clone(self);
        // In a task of its own: a caller that goes away leaves the merge to end.
        tokio::spawn(async move { database.compact_pass(table, reason).await })
            .await
            .map_err(|e| Error::internal(format!("a compaction ended early: {e}")))?
    }

    async fn compact_pass(
        self: &Arc<Self>,
        table: Option<TableId>,
        reason: CompactReason,
    ) -> Result<CompactReceipt> {
        let begun = Instant::now();
        let compactor = &self.compactor;
        let running = compactor.running.lock().await;
        let mut receipt = CompactReceipt::new(reason);
        if compactor.stopped.load(Ordering::Acquire) {
            return Err(Error::new(ErrorKind::Cancelled, "the database is closed"));
        }
        let retained = newest_only(self.writer()?);
        let work = Work { database: self, reason, retained: &retained, stopped: &compactor.stopped };
        let tables: Vec<TableId> = match table {
            Some(table) => vec![table],
            None => self.snapshot().state().tables.keys().copied().collect(),
        };
        let noted = self.note_due(&work, &tables);
        let mut result = Ok(());
        for id in tables {
            if reason == CompactReason::Upkeep && self.jobs.pauses(JobKind::Compact, Some(id)) {
                continue;
            }
            // It was cancelled before it began.
            if noted.get(&id).is_some_and(|job| !self.jobs.is_new(*job)) {
                continue;
            }
            result = result.and(work.table(id, &mut receipt).await);
            if compactor.stopped.load(Ordering::Acquire) || self.check_writable().is_err() {
                break;
            }
        }
        self.jobs.forget_new(noted.into_values());
        drop(running);
        if receipt.triggered && !compactor.stopped.load(Ordering::Acquire) {
            let reason = match reason {
                CompactReason::Statement => CheckpointReason::Statement,
                CompactReason::Upkeep | CompactReason::Retry => CheckpointReason::Compaction,
            };
            result = result.and(self.checkpoint(reason).await.map(|_| ()));
        }
        result?;
        receipt.duration = begun.elapsed();
        Ok(receipt)
    }

    /// Notes the tables that upkeep is going to compact, so that one sees what waits; the numbers of their rows.
    fn note_due(&self, work: &Work<'_>, tables: &[TableId]) -> HashMap<TableId, u64> {
        if work.reason != CompactReason::Upkeep {
            return HashMap::new();
        }
        let snapshot = self.snapshot();
        let due = tables.iter().filter_map(|id| {
            let table = snapshot.state().tables.get(id)?;
            let waits = !self.jobs.pauses(JobKind::Compact, Some(*id)) && work.is_due(table);
            let job =
                waits.then(|| self.jobs.note(JobKind::Compact, &table.def, work.parameters(&table.def)));
            Some((*id, job??))
        });
        due.take(NOTED_MAX).collect()
    }

    /// Writes one segment of a table anew, after the pass that runs. No checkpoint is made: the next one stops naming the old segment.
    ///
    /// # Errors
    /// `ReadOnly` on a follower, `Corrupt` when not all of it can be read, storage errors: nothing has changed then.
    pub(crate) async fn rewrite_segment(
        self: &Arc<Self>,
        table: TableId,
        segment: ObjectId,
    ) -> Result<CompactReceipt> {
        let compactor = &self.compactor;
        let _running = compactor.running.lock().await;
        let reason = CompactReason::Statement;
        let mut receipt = CompactReceipt::new(reason);
        if compactor.stopped.load(Ordering::Acquire) {
            return Err(Error::new(ErrorKind::Cancelled, "the database is closed"));
        }
        let retained = newest_only(self.writer()?);
        let work = Work { database: self, reason, retained: &retained, stopped: &compactor.stopped };
        work.rewrite(table, segment, &mut receipt).await?;
        Ok(receipt)
    }

    /// Looks in the background, after a moment in which more may come together, whether a table is to be compacted.
    pub(crate) fn compact_soon(self: &Arc<Self>) {
        if !self.options.compacts
            || self.closed.load(Ordering::Acquire)
            || self.writer().is_err()
            || self.compactor.due.swap(true, Ordering::AcqRel)
        {
            return;
        }
        let (database, delay) = (Arc::downgrade(self), self.options.compact_delay);
        let task = tokio::spawn(async move {
            tokio::time::sleep(delay).await;
            let Some(database) = database.upgrade() else { return };
            database.compactor.due.store(false, Ordering::Release);
            // A failure stands in the job's row, and the table's upkeep pauses (`jobs`).
            let _ = database.compact_now(None, CompactReason::Upkeep).await;
        });
        let mut tasks = self.tasks.lock().unwrap_or_else(PoisonError::into_inner);
        tasks.retain(|t| !t.is_finished());
        tasks.push(task);
    }
}
