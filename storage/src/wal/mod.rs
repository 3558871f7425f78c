//! The write-ahead log: the truth of the database.
//!
//! Owns: entry bytes ([`codec`]), framing, files and objects, group durability, recovery's cut of a torn tail.
//! Does not own: which entry is valid now (`transaction`), what an entry does to state (`version`).
//! Order: an entry is durable when [`Wal::append`] returns; numbers of files and objects are dense.

pub mod codec;
pub mod entry;
mod file;
mod frame;
mod header;
mod object;

use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;

pub use entry::{CatalogEdit, CommitInfo, RowBody, SegmentSwap, TableChange, WalEntry};
pub use file::{FileWal, FileWalFollower, FileWalOptions, FileWalReader, Followed, WalTip};
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
    Interval(std::time::Duration),
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
    /// Whether `append` waits for others than the disk of this machine: then it must not depend on a caller who may go away.
    fn waits(&self) -> bool;
    /// For `system.wal`.
    fn status(&self) -> WalStatus;
    /// What it counts; reading waits for no append.
    fn metrics(&self) -> Arc<WalMetrics>;
}
