//! Jobs as they are asked for: run, retried, cancelled, paused and resumed; and what is kept of them.
//!
//! Does not own: what jobs do, and the rules of their rows (`crate::jobs`).
//!
//! Rows are kept in a table (`keeps_jobs`). What was asked for is kept before it is begun; what has failed, was cancelled or paused soon
//! after; what went well with the next checkpoint that has something to write, or on closing, so that jobs never are the reason for
//! others. Keeping is best effort: a row that could not be written is written with the next.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use tokio::time::Instant;

use super::{Database, Half};
use crate::checkpoint::CheckpointReason;
use crate::compact::CompactReason;
use crate::error::{Error, ErrorKind, Result};
use crate::id::TableId;
use crate::jobs::{
    ASKED_FOR, JobEnd, JobKind, JobRow, JobStatus, Jobs, Stopped, read_history, stands_for_kind, was_asked,
    write_history,
};

/// How long CANCEL and PAUSE wait for the step of a job.
const STEP_MAX: Duration = Duration::from_secs(5);
/// How often they look.
const LOOK_EVERY: Duration = Duration::from_millis(5);

/// Which jobs to run.
#[derive(Clone, Debug, Default)]
pub struct JobsWanted {
    /// Of one kind; None: of all.
    pub kind: Option<JobKind>,
    /// Of one table; None: of all, and of the database.
    pub table: Option<TableId>,
    /// At most so many.
    pub limit: Option<u64>,
    /// What they did stays, but one that fails makes the whole fail.
    pub strict: bool,
}

/// What jobs did that were asked for.
#[derive(Clone, Debug, Default)]
pub struct JobsReceipt {
    /// Whether there was anything to do.
    pub triggered: bool,
    /// Jobs that did what they were for.
    pub completed: u64,
    /// Jobs that failed.
    pub failed: u64,
    /// Jobs that were cancelled or paused meanwhile.
    pub stopped: u64,
    /// Rows of all of them.
    pub rows: u64,
    /// Bytes of all of them.
    pub bytes: u64,
    /// How long it took.
    pub duration: Duration,
}

impl Database {
    /// Jobs of this process and, where they are kept, of earlier ones, by id.
    #[must_use]
    pub fn jobs(&self) -> Vec<JobRow> {
        if let Half::Writes(_) = self.half() {
            let snapshot = self.snapshot();
            self.jobs.drop_tables(|table| snapshot.table(table).is_some());
        }
        self.jobs.rows()
    }

    /// As [`jobs`](Self::jobs); where another process writes, those that it has kept.
    ///
    /// # Errors
    /// Storage errors of reading them.
    pub async fn all_jobs(&self) -> Result<Vec<JobRow>> {
        match self.half() {
            Half::Writes(_) => Ok(self.jobs()),
            Half::Follows(_) => read_history(&self.snapshot()).await,
        }
    }

    /// Runs jobs now and waits for them. What needs nothing done is left alone.
    ///
    /// # Errors
    /// `ReadOnly` on a follower; with `strict` the first job's that failed, with the counts in its detail.
    pub async fn run_jobs(self: &Arc<Self>, wanted: &JobsWanted) -> Result<JobsReceipt> {
        self.writer()?;
        let begun = Instant::now();
        let since = self.jobs.attempts();
        let mut result = Ok(());
        for kind in JobKind::ALL.into_iter().filter(|kind| wanted.kind.is_none_or(|wanted| wanted == *kind)) {
            // Without a kind, those of a table only.
            if wanted.kind.is_none() && wanted.table.is_some() && !kind.is_of_a_table() {
                continue;
            }
            for table in self.tables_for(kind, wanted.table) {
                if wanted.limit.is_some_and(|limit| self.jobs.counted(&since).0 >= limit) {
                    break;
                }
                result = result.and(self.run_asked(kind, table).await);
            }
        }
        let (begun_jobs, counted) = self.jobs.counted(&since);
        let receipt = JobsReceipt { triggered: begun_jobs > 0, duration: begun.elapsed(), ..counted };
        match result {
            Err(error) if wanted.strict => Err(error.with_detail(format!(
                "{} jobs completed, {} failed, {} were stopped",
                receipt.completed, receipt.failed, receipt.stopped
            ))),
            // Counted; each row says why.
            Ok(()) | Err(_) => Ok(receipt),
        }
    }

    /// The tables that a kind of job is run for one after the other; one None: it is about the database.
    fn tables_for(&self, kind: JobKind, table: Option<TableId>) -> Vec<Option<TableId>> {
        match (kind.is_of_a_table(), table) {
            (_, Some(table)) => vec![Some(table)],
            (true, None) => self.snapshot().state().live_tables().map(|state| Some(state.def.id)).collect(),
            (false, None) => vec![None],
        }
    }

    /// Runs one kind of job because somebody wants it: noted first where it is surely done, so that it outlives this process.
    async fn run_asked(self: &Arc<Self>, kind: JobKind, table: Option<TableId>) -> Result<()> {
        let snapshot = self.snapshot();
        let def = table.and_then(|id| snapshot.table(id)).map(|table| Arc::clone(table.def()));
        let due = match kind {
            JobKind::Checkpoint => snapshot.state().tables.values().any(|table| table.is_hot()),
            JobKind::Collect => true,
            // Whether a table needs it is known when it is looked at; a row for each that does not would say nothing.
            JobKind::Compact | JobKind::BuildIndex => false,
        };
        // What it reads would stay.
        drop(snapshot);
        let queued = due.then(|| self.jobs.queue(kind, def.as_deref(), ASKED_FOR.to_owned()));
        if queued.is_some() {
            self.save_jobs().await;
        }
        let done = match kind {
            JobKind::Checkpoint => self.checkpoint(CheckpointReason::Statement).await.map(|_| ()),
            JobKind::Compact => self.compact(table).await.map(|_| ()),
            JobKind::BuildIndex => self.build_indexes(table).await.map(|_| ()),
            JobKind::Collect => self.vacuum(table).await.map(|_| ()),
        };
        if let Some(id) = queued {
            self.jobs.nothing_to_do(id);
        }
        done
    }

    /// Ends a job: one that waits at once, one that runs after its step. Returns its row.
    ///
    /// # Errors
    /// `NotFound`; `InvalidInput` when it has ended, or goes on to its end.
    pub async fn cancel_job(self: &Arc<Self>, id: u64) -> Result<JobRow> {
        self.writer()?;
        let stopped = self.jobs.cancel(id);
        self.stopped(id, stopped, "cancelled").await
    }

    /// Has a job wait until it is resumed. Returns its row.
    ///
    /// # Errors
    /// As for [`cancel_job`](Self::cancel_job).
    pub async fn pause_job(self: &Arc<Self>, id: u64) -> Result<JobRow> {
        self.writer()?;
        let stopped = self.jobs.pause(id);
        self.stopped(id, stopped, "paused").await
    }

    async fn stopped(self: &Arc<Self>, id: u64, stopped: Stopped, what: &str) -> Result<JobRow> {
        match stopped {
            Stopped::Now => self.save_jobs().await,
            Stopped::Soon => {
                let end = Instant::now() + STEP_MAX;
                let runs = || self.jobs.row(id).is_some_and(|row| row.status == JobStatus::Running.as_str());
                while runs() && Instant::now() < end {
                    tokio::time::sleep(LOOK_EVERY).await;
                }
            }
            Stopped::No => {
                let message =
                    format!("job {id} cannot be {what} any more: it is past the point of no return");
                return Err(Error::new(ErrorKind::InvalidInput, message)
                    .with_sqlstate("55000")
                    .with_detail("a checkpoint that has begun to write goes on to its end")
                    .with_hint("it ends by itself soon"));
            }
            Stopped::Ended(status) => return Err(ended(id, status)),
            Stopped::Unknown => return Err(unknown(id)),
        }
        self.jobs.row(id).ok_or_else(|| unknown(id))
    }

    /// Has no work of a kind (of all kinds when absent) begin by itself; what runs of it ends after its step and waits. Checkpoints run
    /// all the same when rows take too much memory, and on closing. Returns the rows that stand for this.
    ///
    /// # Errors
    /// `ReadOnly` on a follower.
    pub async fn pause_jobs(self: &Arc<Self>, kind: Option<JobKind>) -> Result<Vec<JobRow>> {
        self.writer()?;
        let kinds = JobKind::ALL.into_iter().filter(|each| kind.is_none_or(|kind| kind == *each));
        let ids: Vec<u64> = kinds.map(|kind| self.jobs.pause_kind(kind)).collect();
        self.save_jobs().await;
        Ok(ids.into_iter().filter_map(|id| self.jobs.row(id)).collect())
    }

    /// Has a paused job go on. Returns its row.
    ///
    /// # Errors
    /// `NotFound`; `InvalidInput` when it is not paused.
    pub async fn resume_job(self: &Arc<Self>, id: u64) -> Result<JobRow> {
        self.again(id, &[JobStatus::Paused]).await
    }

    /// Has all paused jobs (of one kind where that is given) go on. Returns their rows.
    ///
    /// # Errors
    /// `ReadOnly` on a follower.
    pub async fn resume_jobs(self: &Arc<Self>, kind: Option<JobKind>) -> Result<Vec<JobRow>> {
        self.writer()?;
        let mut rows = Vec::new();
        for id in self.jobs.paused(kind) {
            // One that somebody else has resumed meanwhile.
            rows.extend(self.again(id, &[JobStatus::Paused]).await.ok());
        }
        for id in self.jobs.left_behind(kind) {
            rows.extend(self.again(id, &[JobStatus::Retrying]).await.ok());
        }
        Ok(rows)
    }

    /// Begins a job again that has failed, was cancelled or waits to be begun again. Returns its row; it runs in the background.
    ///
    /// # Errors
    /// `NotFound`; `InvalidInput` when it did what it was for, or runs.
    pub async fn retry_job(self: &Arc<Self>, id: u64) -> Result<JobRow> {
        self.again(id, &[JobStatus::Failed, JobStatus::Cancelled, JobStatus::Retrying]).await
    }

    /// The same of all jobs (of one table where that is given) that have failed or wait. Returns their rows.
    ///
    /// # Errors
    /// `ReadOnly` on a follower.
    pub async fn retry_jobs(self: &Arc<Self>, table: Option<TableId>) -> Result<Vec<JobRow>> {
        self.writer()?;
        let mut rows = Vec::new();
        for id in self.jobs.failed(table) {
            // One that has begun meanwhile.
            rows.extend(self.again(id, &[JobStatus::Failed, JobStatus::Retrying]).await.ok());
        }
        Ok(rows)
    }

    async fn again(self: &Arc<Self>, id: u64, from: &[JobStatus]) -> Result<JobRow> {
        self.writer()?;
        let (kind, table) = match self.jobs.again(id, from) {
            Ok(what) => what,
            Err(Stopped::Ended(status)) => return Err(ended(id, status)),
            Err(Stopped::Unknown | Stopped::Now | Stopped::Soon | Stopped::No) => return Err(unknown(id)),
        };
        // As it waits: it may have been done by the time that it is written down.
        let row = self.jobs.row(id).ok_or_else(|| unknown(id))?;
        self.save_jobs().await;
        self.begin_in_background(id, kind, table);
        Ok(row)
    }

    /// Begins a job that waits, in the background.
    fn begin_in_background(self: &Arc<Self>, id: u64, kind: JobKind, table: Option<TableId>) {
        if self.closed.load(Ordering::Acquire) {
            return;
        }
        let parameters = self.jobs.row(id).map(|row| row.parameters).unwrap_or_default();
        let database = Arc::clone(self);
        let task = tokio::spawn(async move {
            // A failure stands in the job's row.
            let _ = database.begin_waiting(kind, table, &parameters).await;
            database.jobs.nothing_to_do(id);
        });
        self.keep_until_closed(task);
    }

    /// Does what a row of these parameters is for: no less than what was asked for, whatever is paused.
    async fn begin_waiting(
        self: &Arc<Self>,
        kind: JobKind,
        table: Option<TableId>,
        parameters: &str,
    ) -> Result<()> {
        let of_all = stands_for_kind(parameters);
        let compact = match was_asked(parameters) {
            true => CompactReason::Statement,
            false if of_all => CompactReason::Upkeep,
            false => CompactReason::Retry,
        };
        match kind {
            JobKind::Checkpoint => self.checkpoint(CheckpointReason::Retry).await.map(|_| ()),
            JobKind::Compact => self.compact_now(table, compact).await.map(|_| ()),
            JobKind::BuildIndex => self.build(table, !of_all, |_| Vec::new()).await.map(|_| ()),
            JobKind::Collect => self.vacuum(table).await.map(|_| ()),
        }
    }

    /// What follows from how an attempt at a job ended: another one later, and that its row is kept.
    pub(crate) fn job_ended(self: &Arc<Self>, kind: JobKind, end: JobEnd) {
        if let Some(pause) = end.pause {
            self.begin_after(kind, pause);
        }
        if end.status != JobStatus::Completed {
            self.save_jobs_soon();
        }
    }

    /// Looks again after a pause what a kind of job has to do.
    fn begin_after(self: &Arc<Self>, kind: JobKind, pause: Duration) {
        if self.closed.load(Ordering::Acquire) {
            return;
        }
        let weak = Arc::downgrade(self);
        let task = tokio::spawn(async move {
            tokio::time::sleep(pause).await;
            let Some(database) = weak.upgrade() else { return };
            match kind {
                JobKind::Checkpoint if database.jobs.pauses(JobKind::Checkpoint, None) => {}
                // Its failure stands in its row, and asks for the next.
                JobKind::Checkpoint => drop(database.checkpoint(CheckpointReason::Retry).await),
                JobKind::Compact => database.compact_soon(),
                JobKind::BuildIndex => database.index_soon(),
                JobKind::Collect => database.collect_soon(),
            }
        });
        self.keep_until_closed(task);
    }

    /// Keeps the rows that have changed, as far as this process keeps any.
    pub(crate) async fn save_jobs(self: &Arc<Self>) {
        let full = || self.snapshot().state().hot_bytes() >= self.options.memtable_soft_bytes;
        if !self.options.keeps_jobs || self.writer().is_err() || !self.jobs.has_unsaved() || full() {
            return;
        }
        let _one_at_a_time = self.saving_jobs.lock().await;
        let rows = self.jobs.take_unsaved();
        if write_history(self, &rows, &self.jobs.rows()).await.is_err() {
            self.jobs.set_unsaved(&rows);
        }
    }

    fn save_jobs_soon(self: &Arc<Self>) {
        if !self.options.keeps_jobs || self.closed.load(Ordering::Acquire) {
            return;
        }
        let database = Arc::clone(self);
        let task = tokio::spawn(async move { database.save_jobs().await });
        self.keep_until_closed(task);
    }

    /// Keeps the rows of jobs that went well with a checkpoint that has other things to write.
    pub(super) async fn save_jobs_before_checkpoint(self: &Arc<Self>) {
        let is_hot = self.snapshot().state().tables.values().any(|table| table.is_hot());
        if is_hot && !self.closed.load(Ordering::Acquire) {
            self.save_jobs().await;
        }
    }

    /// Takes over what earlier processes have kept; returns what is to be begun again. Before any job begins.
    pub(super) async fn restore_jobs(&self) -> Vec<(u64, JobKind, Option<TableId>)> {
        // A table that cannot be read is a finding of VERIFY; it keeps nobody from opening the database.
        let rows = read_history(&self.snapshot()).await.unwrap_or_default();
        self.jobs.restore(rows)
    }

    /// Begins what an earlier process has not ended; what nobody asked for stays where its kind is paused.
    pub(super) fn resume_restored(self: &Arc<Self>, waiting: Vec<(u64, JobKind, Option<TableId>)>) {
        for (id, kind, table) in waiting {
            let asked = self.jobs.row(id).is_some_and(|row| was_asked(&row.parameters));
            if asked || !self.jobs.pauses(kind, table) {
                self.begin_in_background(id, kind, table);
            }
        }
    }
}

fn unknown(id: u64) -> Error {
    Error::new(ErrorKind::NotFound, format!("there is no job {id}"))
        .with_sqlstate("42704")
        .with_hint("SHOW JOBS lists them")
}

fn ended(id: u64, status: JobStatus) -> Error {
    Error::new(ErrorKind::InvalidInput, format!("job {id} is {}", status.as_str())).with_sqlstate("55000")
}

/// This machine and process, as rows of jobs name them.
pub(super) fn node() -> String {
    format!("{}/{}", super::lock::host(), std::process::id())
}

/// How often each job was begun.
type Attempts = HashMap<u64, u32>;

impl Jobs {
    fn attempts(&self) -> Attempts {
        self.rows().into_iter().map(|row| (row.id, row.attempts)).collect()
    }

    /// How many were begun since, and what they did; what was begun by itself meanwhile counts too.
    fn counted(&self, since: &Attempts) -> (u64, JobsReceipt) {
        let (mut begun, mut receipt) = (0, JobsReceipt::default());
        for row in self.rows() {
            if row.attempts <= since.get(&row.id).copied().unwrap_or(0) {
                continue;
            }
            begun += 1;
            receipt.rows += row.rows;
            receipt.bytes += row.bytes;
            match row.status.as_str() {
                "completed" => receipt.completed += 1,
                "failed" | "retrying" => receipt.failed += 1,
                "cancelled" | "paused" => receipt.stopped += 1,
                _ => {}
            }
        }
        (begun, receipt)
    }
}
