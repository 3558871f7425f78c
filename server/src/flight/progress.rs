//! How far a statement is, for clients that show it while it runs.
//!
//! Owns: the form of the answer to [`PROGRESS_ACTION`], JSON. Does not own: counting (`cairn_engine::Session::running_statement`).
//! Asking runs no statement: it has no place in the queue, no line in a log, and is not held up by the one that runs.

use bytes::Bytes;
use cairn_engine::Session;
use serde::{Deserialize, Serialize};

/// The action that tells how far the statement is that its session began last; nothing when none runs.
pub const PROGRESS_ACTION: &str = "CairnProgress";

/// Body of the action when jobs are wanted, too.
const WITH_JOBS: &[u8] = b"jobs";

/// What the server says of a statement that runs.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct ProgressReport {
    /// It waits for its turn.
    #[serde(default)]
    pub waiting: bool,
    /// Rows read or written so far.
    #[serde(default)]
    pub rows: u64,
    /// Bytes of input read so far.
    #[serde(default)]
    pub bytes: u64,
    /// Bytes of input in all; 0 when not known.
    #[serde(default)]
    pub bytes_total: u64,
    /// Jobs that run, of whomever; none unless they are asked for and the user is a superuser.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub jobs: Vec<JobProgress>,
}

/// A job that runs.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct JobProgress {
    /// Its kind, and its table where it has one.
    pub what: String,
    /// 0.0 to 1.0.
    pub progress: f64,
}

impl ProgressReport {
    /// Body of the action.
    #[must_use]
    pub fn request(with_jobs: bool) -> Bytes {
        if with_jobs { Bytes::from_static(WITH_JOBS) } else { Bytes::new() }
    }

    /// What the action has answered; None: it is no such answer.
    #[must_use]
    pub fn read(answer: &[u8]) -> Option<Self> {
        serde_json::from_slice(answer).ok()
    }
}

impl JobProgress {
    /// Jobs that run now and that `session` may know of.
    #[must_use]
    pub fn of_session(session: &Session) -> Vec<Self> {
        let jobs = session.running_jobs().into_iter().map(|job| {
            let of_table = job.table.map(|table| format!(" {table}")).unwrap_or_default();
            Self { what: format!("{}{of_table}", job.kind), progress: job.progress }
        });
        jobs.collect()
    }
}

/// The answer to the action, asked for with `body`; None: no statement runs.
pub(super) fn answer(session: &Session, body: &[u8]) -> Option<Bytes> {
    let statement = session.running_statement()?;
    let report = ProgressReport {
        waiting: statement.is_waiting,
        rows: statement.rows,
        bytes: statement.bytes,
        bytes_total: statement.bytes_total,
        jobs: if body == WITH_JOBS { JobProgress::of_session(session) } else { Vec::new() },
    };
    // Text and numbers have a form in JSON.
    Some(serde_json::to_vec(&report).unwrap_or_default().into())
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn what_a_newer_server_says_more_is_passed_over() {
        let read = ProgressReport::read(br#"{"rows":3,"pages":7}"#).unwrap();
        assert_eq!(read, ProgressReport { rows: 3, ..ProgressReport::default() });
        assert_eq!(ProgressReport::read(b"far"), None);
    }
}
