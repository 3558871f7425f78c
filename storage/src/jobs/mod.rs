//! Jobs: units of background work, as rows.
//!
//! Owns: the rows behind SHOW JOBS, how a job is told to end (`stop`), what it uses (`meter`), when one that failed is begun again,
//! how rows are kept beyond this process (`history`), and how many of each kind there were. Does not own: what a job does (`checkpoint`,
//! `index`, `compact`, `collect`), when one begins (`database`).
//!
//! One row is one piece of work, however often it is begun: an attempt at what an earlier row has not done yet goes on in that row.

mod history;
mod kind;
mod meter;
mod stop;

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

use crate::database::Clock;
use crate::error::{Error, ErrorKind, Result};
use crate::id::TableId;
use crate::metrics::{Histogram, JobFigures};
use crate::schema::TableDef;
pub(crate) use history::{read as read_history, write as write_history};
pub use kind::{JobKind, JobStatus};
pub(crate) use meter::Meter;
pub(crate) use stop::{Stop, StopReason};

/// Finished jobs kept, whatever their age.
pub(crate) const KEPT_JOBS: usize = 1_000;
/// Pause before work that nobody asked for is begun again after it failed; each is twice as long as the one before.
const PAUSE_FIRST: Duration = Duration::from_secs(10);
const PAUSE_MAX: Duration = Duration::from_secs(3600);
/// The same of checkpoints, which writers may come to wait for.
const CHECKPOINT_PAUSE_FIRST: Duration = Duration::from_secs(1);
const CHECKPOINT_PAUSE_MAX: Duration = Duration::from_secs(10);
/// Parameters of the row that stands for a paused kind.
const WHOLE_KIND: &str = "all of this kind";
/// Parameters of what RUN JOBS has queued.
pub(crate) const ASKED_FOR: &str = "asked for";

/// One job. Times in µs since 1970 UTC.
#[derive(Clone, Debug, Default)]
pub struct JobRow {
    /// Its number, from 1.
    pub id: u64,
    /// "checkpoint", "build_index", "compact", "collect"
    pub kind: String,
    /// Table it works on; None: the database.
    pub table: Option<String>,
    /// The table's id.
    pub table_id: Option<TableId>,
    /// Why and with what it runs.
    pub parameters: String,
    /// new, queued, running, retrying, paused, completed, failed or cancelled.
    pub status: String,
    /// How often it was begun.
    pub attempts: u32,
    /// When it is begun again.
    pub next_retry_us: Option<i64>,
    /// 0.0 to 1.0.
    pub progress: f64,
    /// Rows done; of a collection: objects deleted.
    pub rows: u64,
    /// Bytes written; of a collection: bytes deleted.
    pub bytes: u64,
    /// When it was made.
    pub created_us: i64,
    /// When it was begun last.
    pub started_us: Option<i64>,
    /// When it ended.
    pub finished_us: Option<i64>,
    /// When it last told how far it is.
    pub heartbeat_us: Option<i64>,
    /// Processor time of all its attempts.
    pub cpu: Duration,
    /// The most memory that its rows and buffers have held.
    pub memory_bytes: u64,
    /// Machine and process that it ran in.
    pub node: String,
    /// Why it failed, last.
    pub error: Option<String>,
}

/// A job to begin.
pub(crate) struct NewJob<'a> {
    pub(crate) kind: JobKind,
    /// None: the database.
    pub(crate) table: Option<&'a TableDef>,
    pub(crate) parameters: String,
    /// Somebody asked for it, and is told when it fails; what nobody asked for is begun again.
    pub(crate) asked: bool,
}

/// What limits jobs and their rows.
#[derive(Clone, Copy, Debug)]
pub(crate) struct JobLimits {
    /// Longest time of one attempt.
    pub(crate) timeout: Duration,
    /// How long rows of jobs that ended are kept.
    pub(crate) retention: Duration,
    /// Whether anything begins by itself.
    pub(crate) by_itself: bool,
}

/// The jobs of one process, and what is left of those of earlier ones.
#[derive(Debug)]
pub struct Jobs {
    limits: JobLimits,
    node: String,
    clock: Clock,
    held: Mutex<Held>,
}

#[derive(Debug, Default)]
struct Held {
    last_id: u64,
    /// By id.
    entries: VecDeque<Entry>,
    ended: BTreeMap<String, Ended>,
}

#[derive(Debug)]
struct Entry {
    /// Kind and status in it are those below.
    row: JobRow,
    kind: JobKind,
    status: JobStatus,
    /// Of the attempt that runs.
    stop: Stop,
    meter: Meter,
    /// Processor time of the attempts before.
    cpu_before: Duration,
    asked: bool,
    retry_at: Option<Instant>,
    /// Whether the row has changed since it was kept.
    unsaved: bool,
}

/// All jobs of one kind that have ended.
#[derive(Debug, Default)]
struct Ended {
    completed: Histogram,
    failed: Histogram,
    rows: u64,
    bytes: u64,
}

/// How an attempt ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct JobEnd {
    pub(crate) status: JobStatus,
    /// Until it is begun again.
    pub(crate) pause: Option<Duration>,
}

/// What becomes of a job that is to be stopped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Stopped {
    /// It was not at work, and is stopped.
    Now,
    /// It will be after its step.
    Soon,
    /// It goes on to its end.
    No,
    /// It has ended before.
    Ended(JobStatus),
    /// There is no such job.
    Unknown,
}

impl Entry {
    fn set(&mut self, status: JobStatus) {
        self.status = status;
        self.row.status = status.as_str().to_owned();
        self.unsaved = true;
    }

    fn used(&mut self) {
        self.row.cpu = self.cpu_before + self.meter.cpu();
        self.row.memory_bytes = self.row.memory_bytes.max(self.meter.memory());
    }

    fn is(&self, kind: JobKind, table: Option<TableId>) -> bool {
        self.kind == kind && self.row.table_id == table
    }

    /// Ends it without an attempt.
    fn close(&mut self, status: JobStatus, error: Option<String>, now: i64) {
        self.set(status);
        self.row.finished_us = Some(now);
        self.row.next_retry_us = None;
        self.retry_at = None;
        if error.is_some() {
            self.row.error = error;
        }
    }
}

impl Held {
    fn find(&mut self, id: u64) -> Option<&mut Entry> {
        let at = self.entries.binary_search_by_key(&id, |entry| entry.row.id).ok()?;
        self.entries.get_mut(at)
    }

    /// Forgets rows of jobs that have ended.
    fn trim(&mut self, retention: Duration, now: i64) {
        let since = now.saturating_sub(i64::try_from(retention.as_micros()).unwrap_or(i64::MAX));
        self.entries.retain(|entry| {
            !entry.status.is_end() || entry.row.finished_us.is_none_or(|finished| finished >= since)
        });
        let mut more = self.entries.len().saturating_sub(KEPT_JOBS);
        if more > 0 {
            self.entries.retain(|entry| {
                let goes = more > 0 && entry.status.is_end();
                more -= usize::from(goes);
                !goes
            });
        }
    }
}

/// The pause after `attempts` attempts have failed.
fn pause_after(kind: JobKind, attempts: u32) -> Duration {
    let (first, max) = match kind {
        JobKind::Checkpoint => (CHECKPOINT_PAUSE_FIRST, CHECKPOINT_PAUSE_MAX),
        JobKind::BuildIndex | JobKind::Compact | JobKind::Collect => (PAUSE_FIRST, PAUSE_MAX),
    };
    first.saturating_mul(1 << attempts.saturating_sub(1).min(16)).min(max)
}

/// Whether two jobs are not of different indexes, as far as their parameters tell.
fn may_be_of_one_index(one: &str, other: &str) -> bool {
    let index = |of: &str| of.split(' ').find_map(|word| word.strip_prefix("index=").map(str::to_owned));
    match (index(one), index(other)) {
        (Some(one), Some(other)) => one == other,
        (None, _) | (_, None) => true,
    }
}

/// Whether a row with these parameters is of what a statement asked for.
pub(crate) fn was_asked(parameters: &str) -> bool {
    parameters == ASKED_FOR || parameters.split(' ').any(|word| word == "reason=statement")
}

/// Whether a row with these parameters stands for a paused kind.
pub(crate) fn stands_for_kind(parameters: &str) -> bool {
    parameters == WHOLE_KIND
}

/// Whether another attempt may end better.
fn may_pass(error: &Error) -> bool {
    !matches!(error.kind(), ErrorKind::ReadOnly | ErrorKind::Fenced | ErrorKind::Cancelled)
}

impl Jobs {
    pub(crate) fn new(limits: JobLimits, node: String, clock: Clock) -> Self {
        Self { limits, node, clock, held: Mutex::default() }
    }

    fn now_us(&self) -> i64 {
        self.clock.now_us()
    }

    fn held(&self) -> MutexGuard<'_, Held> {
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// All rows, by id.
    #[must_use]
    pub fn rows(&self) -> Vec<JobRow> {
        let mut held = self.held();
        held.trim(self.limits.retention, self.now_us());
        held.entries.iter_mut().for_each(Entry::used);
        held.entries.iter().map(|entry| entry.row.clone()).collect()
    }

    /// The job of that number.
    pub(crate) fn row(&self, id: u64) -> Option<JobRow> {
        let mut held = self.held();
        let entry = held.find(id)?;
        entry.used();
        Some(entry.row.clone())
    }

    /// Counts and times by kind, of all jobs since the opening.
    #[must_use]
    pub fn figures(&self) -> Vec<JobFigures> {
        let held = self.held();
        let figures = held.ended.iter().map(|(kind, ended)| JobFigures {
            kind: kind.clone(),
            running: held
                .entries
                .iter()
                .filter(|e| e.row.kind == *kind && e.status == JobStatus::Running)
                .count() as u64,
            completed: ended.completed.figures(),
            failed: ended.failed.figures(),
            rows: ended.rows,
            bytes: ended.bytes,
        });
        figures.collect()
    }

    /// Whether a job runs now.
    #[must_use]
    pub fn is_running(&self) -> bool {
        self.held().entries.iter().any(|entry| entry.status == JobStatus::Running)
    }

    /// Error of the last attempt at a checkpoint, if it failed.
    #[must_use]
    pub fn last_error(&self) -> Option<String> {
        let held = self.held();
        let tried =
            held.entries.iter().filter(|e| e.kind == JobKind::Checkpoint && e.status != JobStatus::Running);
        tried.max_by_key(|e| e.row.heartbeat_us).and_then(|e| e.row.error.clone())
    }

    /// A job that begins now; returns its number. What waits to be begun for the same, or again, is begun.
    pub(crate) fn begin(&self, job: NewJob<'_>) -> u64 {
        let now = self.now_us();
        let mut held = self.held();
        held.trim(self.limits.retention, now);
        held.ended.entry(job.kind.as_str().to_owned()).or_default();
        let table = job.table.map(|def| def.id);
        let waits = |e: &Entry| {
            matches!(e.status, JobStatus::New | JobStatus::Queued | JobStatus::Retrying)
                && e.is(job.kind, table)
                && may_be_of_one_index(&e.row.parameters, &job.parameters)
        };
        let waiting = held.entries.iter().find(|e| waits(e)).map(|e| e.row.id);
        let id = match waiting {
            Some(id) => id,
            None => self.add(&mut held, job.kind, job.table, job.asked, now),
        };
        if let Some(entry) = held.find(id) {
            entry.set(JobStatus::Running);
            // Nobody is to read it back as it is now, but who asked for it to be kept.
            entry.unsaved = false;
            entry.used();
            entry.cpu_before = entry.row.cpu;
            (entry.stop, entry.meter) = (Stop::new(self.limits.timeout), Meter::default());
            entry.retry_at = None;
            entry.row.attempts = entry.row.attempts.saturating_add(1);
            entry.row.parameters = job.parameters;
            entry.row.node.clone_from(&self.node);
            (entry.row.started_us, entry.row.heartbeat_us) = (Some(now), Some(now));
            (entry.row.next_retry_us, entry.row.finished_us) = (None, None);
            (entry.row.progress, entry.row.rows, entry.row.bytes) = (0.0, 0, 0);
        }
        id
    }

    fn add(&self, held: &mut Held, kind: JobKind, table: Option<&TableDef>, asked: bool, now: i64) -> u64 {
        held.last_id += 1;
        let row = JobRow {
            id: held.last_id,
            kind: kind.as_str().to_owned(),
            table: table.map(TableDef::qualified_name),
            table_id: table.map(|def| def.id),
            status: JobStatus::Queued.as_str().to_owned(),
            created_us: now,
            node: self.node.clone(),
            ..JobRow::default()
        };
        held.entries.push_back(self.entry(row, kind, JobStatus::Queued, asked));
        held.last_id
    }

    fn entry(&self, row: JobRow, kind: JobKind, status: JobStatus, asked: bool) -> Entry {
        Entry {
            cpu_before: row.cpu,
            row,
            kind,
            status,
            stop: Stop::new(self.limits.timeout),
            meter: Meter::default(),
            asked,
            retry_at: None,
            unsaved: false,
        }
    }

    /// A job that somebody asks for and that is not begun yet; returns its number.
    pub(crate) fn queue(&self, kind: JobKind, table: Option<&TableDef>, parameters: String) -> u64 {
        let mut held = self.held();
        let id = self.add(&mut held, kind, table, true, self.now_us());
        if let Some(entry) = held.find(id) {
            entry.row.parameters = parameters;
            entry.unsaved = true;
        }
        id
    }

    /// Work on a table that upkeep has found due and begins when what is before it has ended; returns its number. None: its row is
    /// there already.
    pub(crate) fn note(&self, kind: JobKind, table: &TableDef, parameters: String) -> Option<u64> {
        let mut held = self.held();
        let waits = |e: &Entry| {
            matches!(e.status, JobStatus::New | JobStatus::Queued | JobStatus::Retrying)
                && e.is(kind, Some(table.id))
        };
        if held.entries.iter().any(waits) {
            return None;
        }
        let id = self.add(&mut held, kind, Some(table), false, self.now_us());
        let entry = held.find(id)?;
        entry.set(JobStatus::New);
        entry.row.parameters = parameters;
        // The next process looks anew.
        entry.unsaved = false;
        Some(id)
    }

    /// Whether a job was noted and waits to be begun.
    pub(crate) fn is_new(&self, id: u64) -> bool {
        self.held().find(id).is_some_and(|entry| entry.status == JobStatus::New)
    }

    /// Forgets what was noted and never begun.
    pub(crate) fn forget_new(&self, noted: impl IntoIterator<Item = u64>) {
        let mut held = self.held();
        for id in noted {
            held.entries.retain(|entry| entry.row.id != id || entry.status != JobStatus::New);
        }
    }

    /// What the job looks at between two steps.
    pub(crate) fn stop(&self, id: u64) -> Stop {
        let mut held = self.held();
        let found = held.find(id).map(|entry| entry.stop.clone());
        found.unwrap_or_else(|| Stop::new(self.limits.timeout))
    }

    /// What counts what the job uses.
    pub(crate) fn meter(&self, id: u64) -> Meter {
        self.held().find(id).map(|entry| entry.meter.clone()).unwrap_or_default()
    }

    /// Tells how far a job is.
    pub(crate) fn progress(&self, id: u64, progress: f64, rows: u64, bytes: u64) {
        if let Some(entry) = self.held().find(id) {
            (entry.row.progress, entry.row.rows, entry.row.bytes) = (progress, rows, bytes);
            entry.row.heartbeat_us = Some(self.now_us());
        }
    }

    /// Ends an attempt at a job with its result.
    pub(crate) fn end<T>(&self, id: u64, result: &Result<T, Error>) -> JobEnd {
        let now = self.now_us();
        let mut held = self.held();
        let gone = JobEnd { status: JobStatus::Cancelled, pause: None };
        let Some(entry) = held.find(id) else { return gone };
        let reason = entry.stop.reason();
        let status = match (reason, result) {
            (Some(StopReason::Dropped), _) => JobStatus::Cancelled,
            (_, Ok(_)) => JobStatus::Completed,
            (Some(StopReason::Cancelled), Err(_)) => JobStatus::Cancelled,
            (Some(StopReason::Paused), Err(_)) => JobStatus::Paused,
            (Some(StopReason::TimedOut), Err(_)) if entry.asked => JobStatus::Failed,
            (Some(StopReason::TimedOut), Err(_)) => JobStatus::Retrying,
            // The database is closed.
            (None, Err(error)) if error.kind() == ErrorKind::Cancelled => JobStatus::Cancelled,
            (None, Err(error)) if entry.asked || !may_pass(error) => JobStatus::Failed,
            (None, Err(_)) => JobStatus::Retrying,
        };
        entry.used();
        entry.set(status);
        entry.row.heartbeat_us = Some(now);
        entry.row.error = result.as_ref().err().map(|error| error.message().to_owned());
        let mut pause = None;
        if status == JobStatus::Retrying {
            let wait = pause_after(entry.kind, entry.row.attempts);
            entry.retry_at = Some(Instant::now() + wait);
            let wait_us = i64::try_from(wait.as_micros()).unwrap_or(i64::MAX);
            entry.row.next_retry_us = Some(now.saturating_add(wait_us));
            pause = Some(wait);
        }
        if status.is_end() {
            entry.row.finished_us = Some(now);
        }
        let took = now.saturating_sub(entry.row.started_us.unwrap_or(now));
        let took = Duration::from_micros(took.try_into().unwrap_or(0));
        if status == JobStatus::Completed {
            entry.row.progress = 1.0;
        }
        let (kind, rows, bytes) = (entry.row.kind.clone(), entry.row.rows, entry.row.bytes);
        let ended = held.ended.entry(kind).or_default();
        ended.rows += rows;
        ended.bytes += bytes;
        match result {
            Ok(_) => ended.completed.observe(took),
            Err(_) => ended.failed.observe(took),
        }
        JobEnd { status, pause }
    }

    /// Ends what was asked for where there was nothing to do.
    pub(crate) fn nothing_to_do(&self, id: u64) {
        if let Some(entry) = self.held().find(id)
            && matches!(entry.status, JobStatus::Queued | JobStatus::Retrying)
            && entry.retry_at.is_none()
        {
            entry.close(JobStatus::Completed, None, self.now_us());
            entry.row.progress = 1.0;
        }
    }

    /// Whether work of this kind on `table` is not to begin by itself now: nothing is, it was paused, or has failed lately.
    pub(crate) fn pauses(&self, kind: JobKind, table: Option<TableId>) -> bool {
        if !self.limits.by_itself {
            return true;
        }
        let now = Instant::now();
        self.held().entries.iter().filter(|e| e.kind == kind).any(|e| match e.status {
            JobStatus::Paused => e.row.table_id.is_none() || e.row.table_id == table,
            JobStatus::Retrying => e.row.table_id == table && e.retry_at.is_some_and(|at| now < at),
            JobStatus::New
            | JobStatus::Queued
            | JobStatus::Running
            | JobStatus::Completed
            | JobStatus::Failed
            | JobStatus::Cancelled => false,
        })
    }

    /// Tells a job to end, and not to be begun again.
    pub(crate) fn cancel(&self, id: u64) -> Stopped {
        let mut held = self.held();
        let Some(entry) = held.find(id) else { return Stopped::Unknown };
        match entry.status {
            JobStatus::Running if entry.stop.ask(StopReason::Cancelled) => Stopped::Soon,
            JobStatus::Running => Stopped::No,
            JobStatus::New | JobStatus::Queued | JobStatus::Retrying | JobStatus::Paused => {
                entry.close(JobStatus::Cancelled, None, self.now_us());
                Stopped::Now
            }
            JobStatus::Completed | JobStatus::Failed | JobStatus::Cancelled => Stopped::Ended(entry.status),
        }
    }

    /// Tells a job to end, and to wait until it is resumed.
    pub(crate) fn pause(&self, id: u64) -> Stopped {
        let mut held = self.held();
        let Some(entry) = held.find(id) else { return Stopped::Unknown };
        match entry.status {
            JobStatus::Running if entry.stop.ask(StopReason::Paused) => Stopped::Soon,
            JobStatus::Running => Stopped::No,
            JobStatus::New | JobStatus::Queued | JobStatus::Retrying => {
                entry.set(JobStatus::Paused);
                (entry.retry_at, entry.row.next_retry_us) = (None, None);
                Stopped::Now
            }
            JobStatus::Paused => Stopped::Now,
            JobStatus::Completed | JobStatus::Failed | JobStatus::Cancelled => Stopped::Ended(entry.status),
        }
    }

    /// Has no work of a kind begin by itself, and tells what runs of it to wait; returns the row that stands for this.
    pub(crate) fn pause_kind(&self, kind: JobKind) -> u64 {
        let mut held = self.held();
        let running: Vec<u64> = held
            .entries
            .iter()
            .filter(|e| e.kind == kind && e.status == JobStatus::Running && !e.asked)
            .map(|e| e.row.id)
            .collect();
        for id in running {
            if let Some(entry) = held.find(id) {
                entry.stop.ask(StopReason::Paused);
            }
        }
        let whole = |e: &&Entry| {
            e.status == JobStatus::Paused && e.is(kind, None) && stands_for_kind(&e.row.parameters)
        };
        if let Some(id) = held.entries.iter().find(whole).map(|e| e.row.id) {
            return id;
        }
        let id = self.add(&mut held, kind, None, false, self.now_us());
        if let Some(entry) = held.find(id) {
            entry.set(JobStatus::Paused);
            entry.row.parameters = WHOLE_KIND.to_owned();
        }
        id
    }

    /// Paused jobs, of one kind where that is given.
    pub(crate) fn paused(&self, kind: Option<JobKind>) -> Vec<u64> {
        let held = self.held();
        let paused = held
            .entries
            .iter()
            .filter(|e| e.status == JobStatus::Paused && kind.is_none_or(|kind| kind == e.kind));
        paused.map(|e| e.row.id).collect()
    }

    /// Has a job begun that was paused or has not done what it was for; returns what it is. `from` says in which states it may be.
    pub(crate) fn again(&self, id: u64, from: &[JobStatus]) -> Result<(JobKind, Option<TableId>), Stopped> {
        let mut held = self.held();
        let Some(entry) = held.find(id) else { return Err(Stopped::Unknown) };
        if !from.contains(&entry.status) {
            return Err(Stopped::Ended(entry.status));
        }
        let what = (entry.kind, entry.row.table_id);
        if stands_for_kind(&entry.row.parameters) {
            // The pause is over.
            entry.close(JobStatus::Completed, None, self.now_us());
            entry.row.progress = 1.0;
            return Ok(what);
        }
        entry.set(JobStatus::Queued);
        (entry.row.finished_us, entry.row.next_retry_us, entry.retry_at) = (None, None, None);
        Ok(what)
    }

    /// What an earlier process has left and a pause has kept from being begun again, of one kind where that is given.
    pub(crate) fn left_behind(&self, kind: Option<JobKind>) -> Vec<u64> {
        let held = self.held();
        let left = held.entries.iter().filter(|e| {
            e.status == JobStatus::Retrying && e.retry_at.is_none() && kind.is_none_or(|kind| kind == e.kind)
        });
        left.map(|e| e.row.id).collect()
    }

    /// Jobs that have failed or are begun again, of one table where that is given.
    pub(crate) fn failed(&self, table: Option<TableId>) -> Vec<u64> {
        let held = self.held();
        let failed = held.entries.iter().filter(|e| {
            matches!(e.status, JobStatus::Failed | JobStatus::Retrying)
                && (table.is_none() || e.row.table_id == table)
        });
        failed.map(|e| e.row.id).collect()
    }

    /// Cancels what waits for tables that are there no more.
    pub(crate) fn drop_tables(&self, is_there: impl Fn(TableId) -> bool) {
        for entry in &mut self.held().entries {
            let waits = match entry.status {
                JobStatus::New | JobStatus::Queued | JobStatus::Retrying | JobStatus::Paused => true,
                JobStatus::Running | JobStatus::Completed | JobStatus::Failed | JobStatus::Cancelled => false,
            };
            if waits && entry.row.table_id.is_some_and(|id| !is_there(id)) {
                entry.close(JobStatus::Cancelled, Some("its table was dropped".to_owned()), self.now_us());
            }
        }
    }

    /// Whether rows have changed that were not kept yet.
    pub(crate) fn has_unsaved(&self) -> bool {
        self.held().entries.iter().any(|entry| entry.unsaved)
    }

    /// The rows that have changed since they were kept; they count as kept. One that runs is kept as one that was begun.
    pub(crate) fn take_unsaved(&self) -> Vec<JobRow> {
        let mut held = self.held();
        let mut rows = Vec::new();
        for entry in held.entries.iter_mut().filter(|entry| entry.unsaved) {
            entry.unsaved = false;
            rows.push(entry.row.clone());
        }
        rows
    }

    /// Tells that rows could not be kept.
    pub(crate) fn set_unsaved(&self, rows: &[JobRow]) {
        let mut held = self.held();
        for row in rows {
            if let Some(entry) = held.find(row.id) {
                entry.unsaved = true;
            }
        }
    }

    /// Takes the rows of earlier processes over. What had not ended is begun again, what was paused stays so; returns the former.
    pub(crate) fn restore(&self, rows: Vec<JobRow>) -> Vec<(u64, JobKind, Option<TableId>)> {
        let mut held = self.held();
        let mut again = Vec::new();
        for mut row in rows {
            held.last_id = held.last_id.max(row.id);
            // Words of a later version.
            let (Some(kind), Some(mut status)) =
                (JobKind::of_name(&row.kind), JobStatus::of_name(&row.status))
            else {
                continue;
            };
            if held.entries.back().is_some_and(|last| last.row.id >= row.id) {
                continue;
            }
            let waits = match status {
                JobStatus::New | JobStatus::Queued | JobStatus::Running | JobStatus::Retrying => true,
                JobStatus::Paused | JobStatus::Completed | JobStatus::Failed | JobStatus::Cancelled => false,
            };
            if waits {
                status = JobStatus::Retrying;
                row.status = status.as_str().to_owned();
                row.next_retry_us = Some(self.now_us());
                again.push((row.id, kind, row.table_id));
            }
            let entry = self.entry(row, kind, status, false);
            held.entries.push_back(entry);
        }
        held.trim(self.limits.retention, self.now_us());
        again
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn jobs() -> Jobs {
        Jobs::new(limits(), "here/1".to_owned(), Clock::default())
    }

    fn limits() -> JobLimits {
        let hour = Duration::from_secs(3600);
        JobLimits { timeout: hour, retention: hour, by_itself: true }
    }

    fn upkeep(kind: JobKind) -> NewJob<'static> {
        NewJob { kind, table: None, parameters: String::new(), asked: false }
    }

    fn failed() -> Result<()> {
        Err(Error::new(ErrorKind::Unavailable, "the disk is gone"))
    }

    #[test]
    fn what_fails_is_begun_again_in_its_row_after_longer_pauses() {
        for (kind, pauses) in [
            (JobKind::Compact, [10, 20, 40, 80, 160, 320, 640, 1_280, 2_560, 3_600, 3_600]),
            (JobKind::Checkpoint, [1, 2, 4, 8, 10, 10, 10, 10, 10, 10, 10]),
        ] {
            let jobs = jobs();
            let id = jobs.begin(upkeep(kind));
            assert!(!jobs.pauses(kind, None) && jobs.is_running());
            for (attempt, pause) in (1..).zip(pauses) {
                let end = jobs.end(id, &failed());
                assert_eq!(
                    end,
                    JobEnd { status: JobStatus::Retrying, pause: Some(Duration::from_secs(pause)) }
                );
                let row = jobs.row(id).unwrap();
                assert_eq!((row.attempts, row.error.as_deref()), (attempt, Some("the disk is gone")));
                assert!(row.next_retry_us.is_some() && row.finished_us.is_none());
                assert!(jobs.pauses(kind, None) && !jobs.pauses(kind, Some(TableId(1))));
                assert_eq!(jobs.begin(upkeep(kind)), id);
            }
            assert_eq!(jobs.end(id, &Ok(())).status, JobStatus::Completed);
            let row = jobs.row(id).unwrap();
            assert_eq!((row.error, row.next_retry_us, row.attempts), (None, None, 12));
            assert!(!jobs.pauses(kind, None));
            assert_eq!(jobs.begin(upkeep(kind)), id + 1);
        }
    }

    #[test]
    fn what_upkeep_finds_is_noted_before_it_is_begun() {
        let def = crate::database::tests::definition(TableId(7), "t", true);
        let jobs = jobs();
        let id = jobs.note(JobKind::Compact, &def, "due".to_owned()).unwrap();
        let row = jobs.row(id).unwrap();
        assert_eq!((row.status.as_str(), row.attempts, row.started_us), ("new", 0, None));
        assert!(!jobs.pauses(JobKind::Compact, Some(def.id)) && !jobs.has_unsaved());
        assert_eq!(jobs.note(JobKind::Compact, &def, "due".to_owned()), None);
        assert_eq!(jobs.begin(NewJob { table: Some(&def), ..upkeep(JobKind::Compact) }), id);
        assert!(jobs.row(id).unwrap().started_us >= Some(row.created_us));
        jobs.end(id, &Ok(()));

        // What is cancelled is not begun, what is paused waits, and what was not due after all leaves no row.
        let ids: Vec<u64> = (0..3)
            .map(|_| {
                let id = jobs.note(JobKind::Compact, &def, String::new()).unwrap();
                let stopped = if id % 3 == 1 { jobs.pause(id) } else { jobs.cancel(id) };
                assert_eq!(stopped, Stopped::Now);
                id
            })
            .collect();
        assert!(ids.iter().all(|id| !jobs.is_new(*id)) && jobs.pauses(JobKind::Compact, Some(def.id)));
        let late = jobs.note(JobKind::Compact, &def, String::new()).unwrap();
        assert!(jobs.is_new(late));
        jobs.forget_new(ids.iter().copied().chain([late]));
        assert!(jobs.row(late).is_none() && ids.iter().all(|id| jobs.row(*id).is_some()));
        // One of a table stands for no kind: resumed, it is begun.
        let paused = jobs.paused(None);
        assert_eq!(paused.len(), 1);
        assert_eq!(jobs.again(paused[0], &[JobStatus::Paused]), Ok((JobKind::Compact, Some(def.id))));
        assert_eq!(jobs.row(paused[0]).unwrap().status, "queued");
    }

    #[test]
    fn nothing_begins_by_itself_where_upkeep_is_off() {
        let jobs =
            Jobs::new(JobLimits { by_itself: false, ..limits() }, "here/1".to_owned(), Clock::default());
        assert!(JobKind::ALL.into_iter().all(|kind| jobs.pauses(kind, Some(TableId(1)))));
    }

    #[test]
    fn rows_say_what_was_asked_for() {
        for (parameters, asked) in [
            (ASKED_FOR, true),
            ("table=public.t reason=statement", true),
            ("table=public.t reason=upkeep", false),
            ("reason=statements", false),
            (WHOLE_KIND, false),
            ("", false),
        ] {
            assert_eq!(was_asked(parameters), asked, "{parameters}");
        }
    }

    #[test]
    fn what_was_asked_for_fails_and_may_be_tried_again() {
        let jobs = jobs();
        let id = jobs.begin(NewJob { asked: true, ..upkeep(JobKind::Collect) });
        assert_eq!(jobs.end(id, &failed()), JobEnd { status: JobStatus::Failed, pause: None });
        assert_eq!(jobs.failed(None), [id]);
        assert_eq!(jobs.again(id, &[JobStatus::Failed]).unwrap(), (JobKind::Collect, None));
        assert_eq!(jobs.row(id).unwrap().status, "queued");
        assert_eq!(jobs.begin(upkeep(JobKind::Collect)), id);
        jobs.end(id, &Ok(()));
        assert_eq!(jobs.again(id, &[JobStatus::Failed]), Err(Stopped::Ended(JobStatus::Completed)));
        assert_eq!(jobs.again(77, &[JobStatus::Failed]), Err(Stopped::Unknown));
    }

    #[test]
    fn jobs_are_cancelled_and_paused() {
        let jobs = jobs();
        let id = jobs.begin(upkeep(JobKind::Compact));
        assert_eq!(jobs.cancel(id), Stopped::Soon);
        let stopped = jobs.stop(id).check();
        assert_eq!(jobs.end(id, &stopped).status, JobStatus::Cancelled);
        assert_eq!(jobs.cancel(id), Stopped::Ended(JobStatus::Cancelled));

        let id = jobs.begin(upkeep(JobKind::Compact));
        assert_eq!(jobs.pause(id), Stopped::Soon);
        assert_eq!(jobs.end(id, &jobs.stop(id).check()).status, JobStatus::Paused);
        assert!(jobs.pauses(JobKind::Compact, Some(TableId(3))));
        jobs.again(id, &[JobStatus::Paused]).unwrap();
        assert!(!jobs.pauses(JobKind::Compact, None));
        assert_eq!(jobs.begin(upkeep(JobKind::Compact)), id);
        // It ended before it looked.
        assert_eq!(jobs.cancel(id), Stopped::Soon);
        assert_eq!(jobs.end(id, &Ok(())).status, JobStatus::Completed);

        let id = jobs.begin(upkeep(JobKind::Checkpoint));
        jobs.stop(id).go_firm().unwrap();
        assert_eq!((jobs.cancel(id), jobs.pause(id)), (Stopped::No, Stopped::No));
        assert_eq!(jobs.cancel(99), Stopped::Unknown);
    }

    #[test]
    fn a_kind_is_paused_in_a_row_of_its_own() {
        let jobs = jobs();
        let running = jobs.begin(upkeep(JobKind::BuildIndex));
        let id = jobs.pause_kind(JobKind::BuildIndex);
        assert_eq!(jobs.pause_kind(JobKind::BuildIndex), id);
        assert_eq!(jobs.end(running, &jobs.stop(running).check()).status, JobStatus::Paused);
        assert_eq!(jobs.paused(Some(JobKind::BuildIndex)), [running, id]);
        assert!(jobs.pauses(JobKind::BuildIndex, Some(TableId(9))) && !jobs.pauses(JobKind::Compact, None));
        for paused in jobs.paused(None) {
            jobs.again(paused, &[JobStatus::Paused]).unwrap();
        }
        let statuses: Vec<String> = jobs.rows().into_iter().map(|row| row.status).collect();
        assert_eq!(statuses, ["queued", "completed"]);
        assert!(!jobs.pauses(JobKind::BuildIndex, None));
    }

    #[test]
    fn rows_outlive_their_process() {
        let before = jobs();
        for kind in JobKind::ALL {
            let id = before.begin(upkeep(kind));
            before.end(id, &Ok(()));
        }
        let asked = before.queue(JobKind::Compact, None, "asked for".to_owned());
        let paused = before.pause_kind(JobKind::Collect);
        let mut kept = before.take_unsaved();
        assert!(kept.len() == 6 && before.take_unsaved().is_empty());
        before.set_unsaved(&kept[..2]);
        assert_eq!(before.take_unsaved().len(), 2);

        // A kind of a later version.
        kept.push(JobRow {
            id: 7,
            kind: "tidy".to_owned(),
            status: "queued".to_owned(),
            ..JobRow::default()
        });
        let after = jobs();
        assert_eq!(after.restore(kept), [(asked, JobKind::Compact, None)]);
        assert_eq!(after.row(asked).unwrap().status, "retrying");
        assert!(after.pauses(JobKind::Collect, None));
        assert_eq!(after.paused(None), [paused]);
        assert_eq!(after.begin(upkeep(JobKind::Compact)), asked);
        assert_eq!(after.begin(upkeep(JobKind::Checkpoint)), 8);
    }

    #[test]
    fn rows_are_kept_for_a_while_and_not_too_many() {
        let jobs = jobs();
        let runs = jobs.begin(upkeep(JobKind::Compact));
        for _ in 0..KEPT_JOBS + 50 {
            let id = jobs.begin(upkeep(JobKind::Checkpoint));
            jobs.end(id, &Ok(()));
        }
        let rows = jobs.rows();
        assert_eq!((rows.len(), rows[0].id), (KEPT_JOBS, runs));
        let mut held = jobs.held();
        held.trim(Duration::from_secs(1), jobs.now_us() + 2_000_000);
        assert_eq!(held.entries.len(), 1);
    }

    #[test]
    fn what_waits_for_a_dropped_table_is_cancelled() {
        let jobs = jobs();
        let row = |id, table| JobRow {
            id,
            kind: "compact".to_owned(),
            status: "paused".to_owned(),
            table_id: Some(TableId(table)),
            ..JobRow::default()
        };
        jobs.restore(vec![row(1, 1), row(2, 2)]);
        jobs.drop_tables(|table| table == TableId(2));
        let rows = jobs.rows();
        assert_eq!((rows[0].status.as_str(), rows[1].status.as_str()), ("cancelled", "paused"));
    }
}
