//! The write-ahead log: the truth of the database.
//!
//! Owns: entry bytes ([`codec`]), framing, files and objects, group durability, recovery's cut of a torn tail.
//! Does not own: which entry is valid now (`transaction`), what an entry does to state (`version`).
//! Order: an entry is durable when [`Wal::append`] returns; numbers of files and objects are dense.

pub mod codec;
mod contents;
pub mod entry;
mod file;
mod frame;
mod header;
mod object;

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;

pub use contents::{LogContents, LogEntry, LogTable};
pub use entry::{CatalogEdit, CommitInfo, RowBody, SegmentSwap, TableChange, WalEntry};
pub use file::{FileWal, FileWalFollower, FileWalOptions, FileWalReader, Followed, WalTip};
pub(crate) use file::{
    Remains, Surviving, TIP_BYTES, TIP_PATH, TipFile, database_ids, mend, path as file_path, remove_log,
    remove_tip, survive,
};
pub use object::{FENCE_BYTES, ObjectWal, ObjectWalOptions, ObjectWalReader, object_path};
pub(crate) use object::{fenced, put_fence};

use crate::error::Error;
use crate::id::{CommitVersion, WalNumber};
use crate::metrics::WalMetrics;

/// When an acknowledged commit is durable.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SyncMode {
    /// Before it is acknowledged (default).
    Full,
    /// At most this long after; a crash of the machine loses up to that much.
    Interval(Duration),
    /// When the operating system likes; a crash of the machine loses what it had not written.
    Off,
}

/// A group of encoded entries with dense versions, appended and made durable together.
#[derive(Clone, Debug)]
pub struct Group {
    /// Version of the first entry.
    pub first: CommitVersion,
    /// The entries' payloads ([`codec::encode`]), in version order.
    pub entries: Vec<Bytes>,
}

impl Group {
    /// Version of the last entry.
    #[must_use]
    pub fn last(&self) -> CommitVersion {
        CommitVersion(self.first.0 + self.entries.len() as u64 - 1)
    }
}

/// Why a group was not appended.
#[derive(Debug)]
pub enum AppendError {
    /// Not one byte was written: the commits fail cleanly, the log goes on.
    Clean(Error),
    /// Bytes may have been written: outcome unknown, the log must not be written again.
    Unknown(Error),
}

/// One entry read back.
#[derive(Clone, Debug)]
pub struct Recovered {
    /// File or object it stands in.
    pub number: WalNumber,
    /// Byte offset of its frame in the file (0 in an object's first).
    pub offset: u64,
    /// Its payload, checksum verified.
    pub payload: Bytes,
}

/// What stands in the log from some point on.
#[derive(Clone, Debug, Default)]
pub struct Recovery {
    /// Entries in version order.
    pub entries: Vec<Recovered>,
    /// A torn tail that was cut off, in words (file, offset, bytes); never acknowledged entries.
    pub torn: Option<String>,
    /// Number after the last file or object.
    pub next: WalNumber,
    /// The last file or object, for the header of the next; None when there is no log at all.
    pub predecessor: Option<Predecessor>,
}

/// Where a WAL file or object ends for good: at its seal, or where recovery cut it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Predecessor {
    /// Its number.
    pub number: WalNumber,
    /// Bytes that count; what stands behind was never acknowledged.
    pub length: u64,
    /// Bytes certainly synced; the rest may stand in the page cache only.
    pub synced: u64,
    /// Last version in it and those before it.
    pub last: CommitVersion,
}

/// State of the log for `system.wal`.
#[derive(Clone, Debug, Default)]
pub struct WalStatus {
    /// File or object now appended to.
    pub number: WalNumber,
    /// Oldest file or object still kept.
    pub oldest: WalNumber,
    /// Bytes of entries in all files kept.
    pub bytes: u64,
    /// Files or objects of them.
    pub objects: u64,
    /// Syncs (or object puts) since open.
    pub syncs: u64,
    /// Last version known durable.
    pub durable: CommitVersion,
}

/// Commits that are durable in a journal on this machine, and not yet in the bucket.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Unsent {
    /// How many.
    pub commits: u64,
    /// Bytes of their entries.
    pub bytes: u64,
    /// When the oldest was made, µs since 1970 UTC; None: there is none.
    pub since_us: Option<i64>,
    /// Where the journal is.
    pub journal: String,
    /// Why the last attempt to send failed; None: none has since one succeeded.
    pub failure: Option<String>,
}

impl Unsent {
    /// "3 commits (4711 bytes), the oldest of 2026-11-22 17:15:22 UTC"
    #[must_use]
    pub fn describe(&self) -> String {
        let commits = if self.commits == 1 { "commit" } else { "commits" };
        let oldest =
            self.since_us.map_or_else(String::new, |since| format!(", the oldest of {}", utc(since)));
        format!("{} {commits} ({} bytes){oldest}", self.commits, self.bytes)
    }

    /// What a writer is told that was fenced, `error`, with what that means for these commits.
    #[must_use]
    pub(crate) fn beside(&self, error: &Error) -> Error {
        if self.commits == 0 {
            return error.clone();
        }
        let before = error.detail().map_or_else(String::new, |detail| format!("{detail}; "));
        error
            .clone()
            .with_detail(format!(
                "{before}{} were acknowledged here under durability = 'local' and are not in the bucket: they are only in the journal \
                 {}",
                self.describe(),
                self.journal
            ))
            .with_hint(
                "the journal is kept: make their changes again where the database is written now; then --discard-local drops them here",
            )
    }
}

/// A time as text.
pub(crate) fn utc(time_us: i64) -> String {
    let time = arrow::temporal_conversions::timestamp_us_to_datetime(time_us);
    time.map_or_else(|| format!("{time_us} µs"), |time| format!("{} UTC", time.format("%Y-%m-%d %H:%M:%S")))
}

/// A log that can be appended to by one writer.
///
/// Calls of `append`, `rotate` and `truncate` never overlap; the commit order sees to that.
#[async_trait]
pub trait Wal: Send + Sync + std::fmt::Debug {
    /// Appends a group; on return it is as durable as the sync mode says. Not cancel-safe: run to the end.
    async fn append(&self, group: Group) -> Result<(), AppendError>;
    /// Makes everything appended durable, whatever the sync mode (before a manifest that mentions it).
    async fn sync(&self) -> Result<(), Error>;
    /// Seals the present file and begins the next one; entries before are in files < the number returned.
    async fn rotate(&self, next_version: CommitVersion) -> Result<WalNumber, Error>;
    /// Removes whole files or objects below `number`. Their effects are in a durable manifest.
    async fn truncate(&self, below: WalNumber) -> Result<(), Error>;
    /// Seals cleanly; nothing may be appended after.
    async fn close(&self) -> Result<(), Error>;
    /// Waits, at most so long, until all that was appended before is where everybody finds it. [`rotate`](Self::rotate) needs that. A log
    /// that is in one place only has nothing to do.
    async fn drain(&self, timeout: Duration) -> Result<(), Error> {
        let _ = timeout;
        Ok(())
    }
    /// What is not yet where everybody finds it; None: there is no such thing in this log.
    fn unsent(&self) -> Option<Unsent> {
        None
    }
    /// Whether `append` waits for others than the disk of this machine: then it must not depend on a caller who may go away.
    fn waits(&self) -> bool;
    /// How it is, for `system.wal` and for whoever decides on a checkpoint, as every commit does: waits for no append.
    fn status(&self) -> WalStatus;
    /// What it counts; reading waits for no append.
    fn metrics(&self) -> Arc<WalMetrics>;
}
