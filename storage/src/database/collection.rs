//! When objects that nobody needs any more are deleted: one collection at a time, now and then after a checkpoint, or when it is
//! asked for. Does not own: what is deleted (`collect`).

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

use super::Database;
use crate::checkpoint::CheckpointReason;
use crate::collect::{CollectReceipt, Retained, Roots};
use crate::error::{Error, Result};
use crate::id::TableId;
use crate::jobs::{JobKind, NewJob};

/// Least time between two collections that nobody asked for.
const LEAST_GAP: Duration = Duration::from_secs(60);

/// The state of collections of one open database.
#[derive(Debug, Default)]
pub(crate) struct Collector {
    /// Held by the collection that runs; what the earlier ones remember.
    running: tokio::sync::Mutex<Roots>,
    /// When the last one began that nobody asked for.
    last: Mutex<Option<Instant>>,
    stopped: AtomicBool,
}

impl Collector {
    /// Ends the collection that runs and lets none begin.
    pub(super) fn stop(&self) {
        self.stopped.store(true, Ordering::Release);
    }

    /// Waits for the collection that was stopped.
    pub(super) async fn ended(&self) {
        drop(self.running.lock().await);
    }

    /// Whether `gap` has passed since this was last answered with yes.
    fn is_due(&self, now: Instant, gap: Duration) -> bool {
        let mut last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        let due = last.is_none_or(|last| now.duration_since(last) >= gap);
        if due {
            *last = Some(now);
        }
        due
    }
}

impl Database {
    /// Deletes the objects of a root in an object store that nobody can need any more: neither whoever opens the database, nor
    /// readers (for `reader_grace` after they were replaced), nor what runs here. A second call waits for the first. In a
    /// directory and in memory files are removed where they are replaced: nothing is done then, and the receipt is empty.
    ///
    /// # Errors
    /// `ReadOnly` on a reader, `Fenced` when another writer has taken the database over, the store's. What was deleted by then
    /// was needed by nobody.
    pub async fn collect(self: &Arc<Self>) -> Result<CollectReceipt> {
        if !self.shared.remote {
            return Ok(CollectReceipt::default());
        }
        // Only the newest version can be asked for; what was read before is pinned.
        let horizon = self.writer()?.order.published().number;
        self.collect_retaining(Retained { horizon, versions: BTreeSet::new() }).await
    }

    /// As [`collect`](Self::collect), on a store root; everything that reads of the `retained` versions need stays.
    pub(crate) async fn collect_retaining(self: &Arc<Self>, retained: Retained) -> Result<CollectReceipt> {
        self.collect_of(retained, None, true).await
    }

    async fn collect_of(
        self: &Arc<Self>,
        retained: Retained,
        table: Option<TableId>,
        asked: bool,
    ) -> Result<CollectReceipt> {
        self.writer()?;
        let database = Arc::clone(self);
        // In a task of its own: a caller that goes away leaves no job that never ends.
        tokio::spawn(async move {
            let Collector { running, stopped, .. } = &database.collector;
            let mut roots = running.lock().await;
            if stopped.load(Ordering::Acquire) {
                return Err(crate::collect::closed());
            }
            let grace = database.options.reader_grace.as_secs();
            let def = table.and_then(|id| database.snapshot().table(id)).map(|table| Arc::clone(table.def()));
            let job = database.jobs.begin(NewJob {
                kind: JobKind::Collect,
                table: def.as_deref(),
                parameters: format!("reader_grace={grace}s"),
                asked,
            });
            let run = crate::collect::run(&database, &mut roots, &retained, table, stopped, job);
            let done = database.jobs.meter(job).of(run).await;
            // Also what only DROP and TRUNCATE took away.
            database.forget_columns();
            database.job_ended(JobKind::Collect, database.jobs.end(job, &done));
            done
        })
        .await
        .map_err(|e| Error::internal(format!("a collection ended early: {e}")))?
    }

    /// Removes what nobody needs any more, now: what was replaced, and what work that failed or was killed has left. Of one table where
    /// that is given. Hot rows are written first, so that the newest manifest names nothing that was replaced. On an object store what
    /// readers may hold stays for `reader_grace`, as for [`collect`](Self::collect).
    ///
    /// # Errors
    /// `ReadOnly` on a follower, storage errors, `Cancelled`. What was removed by then was needed by nobody.
    pub async fn vacuum(self: &Arc<Self>, table: Option<TableId>) -> Result<CollectReceipt> {
        self.writer()?;
        self.checkpoint(CheckpointReason::Statement).await?;
        if self.shared.remote {
            let horizon = self.writer()?.order.published().number;
            return self.collect_of(Retained { horizon, versions: BTreeSet::new() }, table, true).await;
        }
        let database = Arc::clone(self);
        // In a task of its own: a caller that goes away leaves no job that never ends.
        tokio::spawn(async move { database.vacuum_directory(table).await })
            .await
            .map_err(|e| Error::internal(format!("a collection ended early: {e}")))?
    }

    async fn vacuum_directory(self: &Arc<Self>, table: Option<TableId>) -> Result<CollectReceipt> {
        let _one_at_a_time = self.collector.running.lock().await;
        if self.collector.stopped.load(Ordering::Acquire) {
            return Err(crate::collect::closed());
        }
        let writer = self.writer()?;
        let def = table.and_then(|id| self.snapshot().table(id)).map(|table| Arc::clone(table.def()));
        let job = self.jobs.begin(NewJob {
            kind: JobKind::Collect,
            table: def.as_deref(),
            parameters: "reason=statement".to_owned(),
            asked: true,
        });
        let stop = self.jobs.stop(job);
        let sweep = async {
            // No checkpoint runs meanwhile; commits go on.
            let newest = writer.manifest.lock().await;
            match newest.as_deref() {
                Some(newest) => crate::collect::sweep_all(self, writer, newest, table, &stop).await,
                None => Ok(CollectReceipt::default()),
            }
        };
        let done = self.jobs.meter(job).of(sweep).await;
        if let Ok(receipt) = &done {
            self.jobs.progress(job, 1.0, receipt.objects(), receipt.bytes());
        }
        self.job_ended(JobKind::Collect, self.jobs.end(job, &done));
        done
    }

    /// Begins a collection in the background, on a store root that this handle writes and not more often than makes sense.
    pub(crate) fn collect_soon(self: &Arc<Self>) {
        let gap = (self.options.reader_grace / 4).max(LEAST_GAP);
        if !self.shared.remote
            || !self.options.collects
            || self.closed.load(Ordering::Acquire)
            || self.writer().is_err()
            || self.jobs.pauses(JobKind::Collect, None)
            || !self.collector.is_due(Instant::now(), gap)
        {
            return;
        }
        let database = Arc::clone(self);
        let task = tokio::spawn(async move {
            let Ok(writer) = database.writer() else { return };
            let horizon = writer.order.published().number;
            // A failure stands in the job's row, and the next collection finds what this one left.
            let _ = database.collect_of(Retained { horizon, versions: BTreeSet::new() }, None, false).await;
        });
        self.keep_until_closed(task);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_is_due_when_the_gap_has_passed() {
        let (collector, begun) = (Collector::default(), Instant::now());
        assert!(collector.is_due(begun, LEAST_GAP));
        assert!(!collector.is_due(begun + LEAST_GAP - Duration::from_millis(1), LEAST_GAP));
        assert!(collector.is_due(begun + LEAST_GAP, LEAST_GAP));
        assert!(!collector.is_due(begun + LEAST_GAP, LEAST_GAP));
    }
}
