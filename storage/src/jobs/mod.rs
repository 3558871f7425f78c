//! Jobs: units of background work, as rows.
//!
//! Owns: the rows behind SHOW JOBS for the jobs of this process, and how many of each kind there were. Does not own: what a job does (`checkpoint`).

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use crate::database::now_us;
use crate::error::{Error, Result};
use crate::metrics::{Histogram, JobFigures};

/// Finished jobs kept.
const KEPT_JOBS: usize = 1_000;

/// One job. Times in µs since 1970 UTC.
#[derive(Clone, Debug)]
pub struct JobRow {
    /// Its number, from 1 in this process.
    pub id: u64,
    /// "checkpoint", "build_index", "compact", "collect"
    pub kind: String,
    /// Table it works on; None: the database.
    pub table: Option<String>,
    /// Why and with what it runs.
    pub parameters: String,
    /// running, completed or failed.
    pub status: String,
    /// How often it was begun.
    pub attempts: u32,
    /// 0.0 to 1.0.
    pub progress: f64,
    /// Rows done; of a collection: objects deleted.
    pub rows: u64,
    /// Bytes written; of a collection: bytes deleted.
    pub bytes: u64,
    /// When it was made.
    pub created_us: i64,
    /// When it began.
    pub started_us: Option<i64>,
    /// When it ended.
    pub finished_us: Option<i64>,
    /// Why it failed.
    pub error: Option<String>,
}

/// The jobs of one process.
#[derive(Debug, Default)]
pub struct Jobs {
    held: Mutex<Held>,
}

#[derive(Debug, Default)]
struct Held {
    last_id: u64,
    rows: VecDeque<JobRow>,
    ended: BTreeMap<String, Ended>,
}

/// All jobs of one kind that have ended.
#[derive(Debug, Default)]
struct Ended {
    completed: Histogram,
    failed: Histogram,
    rows: u64,
    bytes: u64,
}

impl Jobs {
    fn held(&self) -> MutexGuard<'_, Held> {
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// All rows, by id.
    #[must_use]
    pub fn rows(&self) -> Vec<JobRow> {
        self.held().rows.iter().cloned().collect()
    }

    /// Counts and times by kind, of all jobs since the opening.
    #[must_use]
    pub fn figures(&self) -> Vec<JobFigures> {
        let held = self.held();
        let figures = held.ended.iter().map(|(kind, ended)| JobFigures {
            kind: kind.clone(),
            running: held.rows.iter().filter(|r| r.kind == *kind && r.finished_us.is_none()).count() as u64,
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
        self.held().rows.iter().any(|r| r.status == "running")
    }

    /// Error of the last ended job, if it failed.
    #[must_use]
    pub fn last_error(&self) -> Option<String> {
        self.held().rows.iter().rev().find(|r| r.finished_us.is_some()).and_then(|r| r.error.clone())
    }

    /// A job that begins now; returns its id.
    pub fn begin(&self, kind: &str, parameters: String) -> u64 {
        let now = now_us();
        let mut held = self.held();
        held.last_id += 1;
        let id = held.last_id;
        if held.rows.len() == KEPT_JOBS {
            held.rows.pop_front();
        }
        if !held.ended.contains_key(kind) {
            held.ended.insert(kind.to_owned(), Ended::default());
        }
        held.rows.push_back(JobRow {
            id,
            kind: kind.to_owned(),
            table: None,
            parameters,
            status: "running".to_owned(),
            attempts: 1,
            progress: 0.0,
            rows: 0,
            bytes: 0,
            created_us: now,
            started_us: Some(now),
            finished_us: None,
            error: None,
        });
        id
    }

    /// Tells how far a job is.
    pub fn progress(&self, id: u64, progress: f64, rows: u64, bytes: u64) {
        if let Some(row) = self.held().rows.iter_mut().find(|r| r.id == id) {
            (row.progress, row.rows, row.bytes) = (progress, rows, bytes);
        }
    }

    /// Ends a job with its result.
    pub fn end<T>(&self, id: u64, result: &Result<T, Error>) {
        let now = now_us();
        let mut held = self.held();
        let Held { rows, ended, .. } = &mut *held;
        let Some(row) = rows.iter_mut().find(|r| r.id == id) else { return };
        row.finished_us = Some(now);
        let ended = ended.entry(row.kind.clone()).or_default();
        let took = Duration::from_micros(now.saturating_sub(row.created_us).try_into().unwrap_or(0));
        ended.rows += row.rows;
        ended.bytes += row.bytes;
        match result {
            Ok(_) => {
                row.status = "completed".to_owned();
                row.progress = 1.0;
                ended.completed.observe(took);
            }
            Err(error) => {
                row.status = "failed".to_owned();
                row.error = Some(error.message().to_owned());
                ended.failed.observe(took);
            }
        }
    }
}
