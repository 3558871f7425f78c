//! The object `writer`: who writes the database, and when he last said so.
//!
//! Owns: its text, the checksum in it, and how old it may be. It decides nothing about commits: epochs and fences do. It keeps whoever only
//! wants to try something from taking a database away from the process that serves it, and tells VERIFY how far the log must go.

use std::time::Duration;

use object_store::path::Path;
use object_store::{ObjectStore, ObjectStoreExt};
use serde::{Deserialize, Serialize};

use super::lock::host;
use crate::error::{Error, ErrorKind, Result};
use crate::id::{CommitVersion, Epoch};
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
    /// The log in the bucket goes to this version at least.
    #[serde(default, skip_serializing_if = "is_none")]
    version: CommitVersion,
    /// crc32c of the same text without this, which is the last field. None: written by an earlier Cairn.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    crc32c: Option<u32>,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde calls it so")]
fn is_none(version: &CommitVersion) -> bool {
    version.0 == 0
}

impl WriterNote {
    /// This process, at `time_us`.
    pub(super) fn of_this_process(epoch: Epoch, time_us: i64, closed: bool) -> Self {
        let (host, pid, version) = (host(), std::process::id(), CommitVersion(0));
        Self { host, pid, epoch, time_us, closed, journal: false, version, crc32c: None }
    }

    /// The same of one whose commits are in the bucket up to `version`.
    pub(super) fn with_version(self, version: CommitVersion) -> Self {
        Self { version, ..self }
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

    /// Its bytes, with their checksum.
    ///
    /// # Errors
    /// `Internal` when it has no form in JSON.
    pub(crate) fn encode(&self) -> Result<Vec<u8>> {
        self.sealed()?.text()
    }

    fn text(&self) -> Result<Vec<u8>> {
        serde_json::to_vec(self).map_err(|e| Error::internal(format!("the note of a writer: {e}")))
    }

    /// The same with its checksum.
    fn sealed(&self) -> Result<Self> {
        let plain = Self { crc32c: None, ..self.clone() };
        let crc32c = Some(crc32c::crc32c(&plain.text()?));
        Ok(Self { crc32c, ..plain })
    }

    /// The note in `bytes`, each of which is as it was written. The checksum comes last, so that fields of a later Cairn are under it too.
    ///
    /// # Errors
    /// `Corrupt`.
    pub(crate) fn decode(bytes: &[u8]) -> Result<Self> {
        let damaged = |why: &str| Error::corrupt(WRITER_PATH, why);
        let note: Self = serde_json::from_slice(bytes).map_err(|e| damaged(&e.to_string()))?;
        let Some(crc32c) = note.crc32c else {
            // Of an earlier Cairn, which had these fields and no others.
            return if note.text()? == bytes { Ok(note) } else { Err(damaged("it has no checksum")) };
        };
        let end = format!(",\"crc32c\":{crc32c}}}");
        let plain =
            bytes.strip_suffix(end.as_bytes()).ok_or_else(|| damaged("it does not end with its checksum"))?;
        if crc32c::crc32c_append(crc32c::crc32c(plain), b"}") != crc32c {
            return Err(damaged("its checksum is wrong"));
        }
        Ok(note)
    }

    /// What stands there, every byte of it checked; None: nothing does.
    ///
    /// # Errors
    /// `Corrupt`; the store's.
    pub(super) async fn check(store: &dyn ObjectStore) -> Result<Option<Self>> {
        match store.get(&Path::from(WRITER_PATH)).await {
            Ok(found) => Self::decode(&found.bytes().await?).map(Some),
            Err(object_store::Error::NotFound { .. }) => Ok(None),
            Err(error) => Err(error.into()),
        }
    }

    /// The log in the bucket goes to this version at least.
    pub(super) fn version(&self) -> CommitVersion {
        self.version
    }

    /// What stands there; None: nothing that can be read as such.
    ///
    /// # Errors
    /// The store's.
    pub(super) async fn read(store: &dyn ObjectStore) -> Result<Option<Self>> {
        match store.get(&Path::from(WRITER_PATH)).await {
            // It is advice: what cannot be read keeps nobody out.
            Ok(found) => Ok(Self::decode(&found.bytes().await?).ok()),
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
    fn every_flip_and_cut_of_a_note_is_noticed() {
        let note = WriterNote::of_this_process(Epoch(7), 1_700_000_000_000_000, false)
            .with_journal(true)
            .with_version(CommitVersion(42));
        let good = note.sealed().unwrap().text().unwrap();
        let read = WriterNote::decode(&good).unwrap();
        assert_eq!((read.epoch(), read.version(), read.journal), (Epoch(7), CommitVersion(42), true));
        for at in 0..good.len() {
            WriterNote::decode(&good[..at]).unwrap_err();
            for bit in 0..8 {
                let mut bad = good.clone();
                bad[at] ^= 1 << bit;
                assert!(WriterNote::decode(&bad).is_err(), "bit {bit} of byte {at}");
            }
        }
        // One of an earlier Cairn has no checksum, one of a later Cairn has more fields.
        let old = WriterNote { version: CommitVersion(0), ..note }.text().unwrap();
        assert_eq!(WriterNote::decode(&old).unwrap().crc32c, None);
        let mut later = [&old[..old.len() - 1], b",\"more\":1}"].concat();
        let crc32c = crc32c::crc32c(&later);
        later.pop();
        later.extend_from_slice(format!(",\"crc32c\":{crc32c}}}").as_bytes());
        assert_eq!(WriterNote::decode(&later).unwrap().epoch(), Epoch(7));
    }

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
