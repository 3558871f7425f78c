//! The object `writer`: who writes the database, and when he last said so.
//!
//! Owns: its text and how old it may be. It decides nothing about commits: epochs and fences do. It keeps whoever only wants to
//! try something from taking a database away from the process that serves it.

use std::time::Duration;

use object_store::path::Path;
use object_store::{ObjectStore, ObjectStoreExt};
use serde::{Deserialize, Serialize};

use super::lock::host;
use crate::error::{Error, ErrorKind, Result};
use crate::id::Epoch;
use crate::object::put_own;

/// Path below the root.
pub(super) const WRITER_PATH: &str = "writer";
/// How often a writer says that it is there.
pub(super) const RENEWED_EVERY: Duration = Duration::from_secs(20);
/// A writer that has not said so for this long is taken for dead.
const ALIVE_FOR: Duration = Duration::from_secs(60);

/// What a writer says of itself.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct WriterNote {
    host: String,
    pid: u32,
    epoch: Epoch,
    /// µs since 1970 UTC.
    time_us: i64,
    /// Closed in order: nobody writes now.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    closed: bool,
    /// What it acknowledges may be in a journal of its machine only.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    journal: bool,
}

impl WriterNote {
    /// This process, at `time_us`.
    pub(super) fn of_this_process(epoch: Epoch, time_us: i64, closed: bool) -> Self {
        Self { host: host(), pid: std::process::id(), epoch, time_us, closed, journal: false }
    }

    /// The same of one that acknowledges commits from a journal, or not.
    pub(super) fn with_journal(self, journal: bool) -> Self {
        Self { journal, ..self }
    }

    /// Puts it in place of whatever stands there.
    ///
    /// # Errors
    /// The store's.
    pub(super) async fn put(&self, store: &dyn ObjectStore) -> Result<()> {
        put_own(store, WRITER_PATH.to_owned(), self.encode()?.into()).await
    }

    /// Its bytes.
    ///
    /// # Errors
    /// `Internal` when it has no form in JSON.
    pub(crate) fn encode(&self) -> Result<Vec<u8>> {
        serde_json::to_vec(self).map_err(|e| Error::internal(format!("the note of a writer: {e}")))
    }

    /// The note in `bytes`; None: they are none. It is advice: what cannot be read keeps nobody out.
    pub(crate) fn decode(bytes: &[u8]) -> Option<Self> {
        serde_json::from_slice(bytes).ok()
    }

    /// What stands there; None: nothing that can be read as such.
    ///
    /// # Errors
    /// The store's.
    pub(super) async fn read(store: &dyn ObjectStore) -> Result<Option<Self>> {
        match store.get(&Path::from(WRITER_PATH)).await {
            Ok(found) => Ok(Self::decode(&found.bytes().await?)),
            Err(object_store::Error::NotFound { .. }) => Ok(None),
            Err(error) => Err(error.into()),
        }
    }

    /// Epoch of the writer that put it.
    pub(super) fn epoch(&self) -> Epoch {
        self.epoch
    }

    /// That no writer is alive.
    ///
    /// # Errors
    /// `Unavailable` naming the one that is; the store's.
    pub(super) async fn check_nobody_writes(store: &dyn ObjectStore, now_us: i64) -> Result<()> {
        let Some(note) = Self::read(store).await? else { return Ok(()) };
        let age = now_us.saturating_sub(note.time_us);
        let alive_us = i64::try_from(ALIVE_FOR.as_micros()).unwrap_or(i64::MAX);
        if note.closed || age > alive_us || note.has_ended() {
            return Ok(());
        }
        let who = format!("pid {}, host {}, heard of {} s ago", note.pid, note.host, age.max(0) / 1_000_000);
        let error =
            Error::new(ErrorKind::Unavailable, format!("another process writes this database ({who})"))
                .with_hint(
                    "write there, or take the database over with --take-over; it can't commit any more then",
                );
        if note.journal {
            return Err(error.with_detail(
                "it acknowledges commits from a journal of its machine (durability = 'local'): those it has not sent yet would not be \
                 part of the database any more",
            ));
        }
        Err(error)
    }

    /// Whether it is known to be a process of this machine that is gone.
    fn has_ended(&self) -> bool {
        let processes = std::path::Path::new("/proc");
        self.host == host()
            && processes.join("self").exists()
            && !is_running(&processes.join(self.pid.to_string()))
    }
}

/// Whether the process of this folder of /proc runs. One that has ended stays there until its parent asks for its exit code.
fn is_running(process: &std::path::Path) -> bool {
    match std::fs::read_to_string(process.join("stat")) {
        // `pid (name) state …`; the name may hold anything.
        Ok(stat) => !stat.rsplit_once(") ").is_some_and(|(_, state)| state.starts_with(['Z', 'X'])),
        Err(error) => error.kind() != std::io::ErrorKind::NotFound,
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::path::Path;
    use std::process::Command;
    use std::time::Instant;

    use super::*;

    #[test]
    fn a_process_that_nobody_has_waited_for_does_not_run() {
        let processes = Path::new("/proc");
        if !processes.join("self").exists() {
            return;
        }
        assert!(is_running(&processes.join("self")));
        assert!(!is_running(&processes.join("0")));
        let mut child = Command::new("true").spawn().unwrap();
        let begun = Instant::now();
        while is_running(&processes.join(child.id().to_string())) {
            assert!(begun.elapsed() < Duration::from_secs(30), "it does not end");
            std::thread::sleep(Duration::from_millis(5));
        }
        assert!(child.wait().unwrap().success());
    }
}
