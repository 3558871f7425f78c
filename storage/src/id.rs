//! The numbers that name things, one type each so that two of them cannot be swapped.
//!
//! Owns: constructors, ordering and text forms. Does not own: who hands the next one out
//! (versions and row ids: the commit order in `database`; object ids: [`ObjectIds`]).

use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};

use serde::{Deserialize, Serialize};

macro_rules! number {
    ($(#[$doc:meta])* $name:ident($inner:ty)) => {
        $(#[$doc])*
        #[derive(
            Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
        )]
        #[serde(transparent)]
        pub struct $name(pub $inner);

        impl $name {
            /// The number after this one. No number reaches the end; bytes that claim one has, have none after it.
            #[must_use]
            pub const fn next(self) -> Self {
                Self(self.0.saturating_add(1))
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.fmt(f)
            }
        }
    };
}

number! {
    /// Dense number of a commit in the whole database: +1 per commit, 0 is the empty database.
    CommitVersion(u64)
}
number! {
    /// Names one row version; unique in its table, never reused. UPDATE makes a new one.
    RowId(u64)
}
number! {
    /// A table for its whole life, renames included. Never reused.
    TableId(u64)
}
number! {
    /// A column for its whole life; also its Parquet field id. Re-adding a name is a new id.
    ColumnId(u32)
}
number! {
    /// An index for its whole life; unique in its table. Never reused.
    IndexId(u32)
}
number! {
    /// Counts the definitions a table has had; every WAL entry names the one it was written for.
    SchemaVersion(u32)
}
number! {
    /// +1 at every open for writing; object ids begin with it, so that ids never collide.
    Epoch(u64)
}
number! {
    /// Number of a WAL file (local) or WAL object (object store). Dense.
    WalNumber(u64)
}
number! {
    /// Number of a manifest. Dense; 0 means "none yet".
    ManifestNumber(u64)
}

/// Sixteen random bytes that name one commit attempt; settles lost replies and retries.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub struct CommitId(pub uuid::Uuid);

impl CommitId {
    /// A fresh random id.
    #[must_use]
    pub fn random() -> Self {
        // A generator per thread: one system call less in every commit.
        Self(uuid::Builder::from_random_bytes(rand::random()).into_uuid())
    }
}

impl fmt::Display for CommitId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// A user or role for its whole life. Random, so that one made later under the same name is another.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub struct UserId(pub u64);

impl UserId {
    /// A fresh random id; never 0.
    #[must_use]
    pub fn random() -> Self {
        Self(rand::random_range(1..=u64::MAX))
    }
}

/// Sixteen random bytes made once per database and written into every file of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct DatabaseId(pub uuid::Uuid);

impl fmt::Display for DatabaseId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// Names a segment, `.deletes` object or index unit: the writer's epoch, then a counter within it.
///
/// Text form `eeeeeeee-nnnnnnnn` (hexadecimal), as in object paths.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct ObjectId {
    /// Epoch of the writer that made it.
    pub epoch: Epoch,
    /// Counter within that epoch.
    pub sequence: u64,
}

impl fmt::Display for ObjectId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:08x}-{:08x}", self.epoch.0, self.sequence)
    }
}

/// Hands out the object ids of one epoch.
#[derive(Debug)]
pub struct ObjectIds {
    epoch: Epoch,
    next: AtomicU64,
}

impl ObjectIds {
    /// Ids of `epoch`, from 1.
    #[must_use]
    pub fn new(epoch: Epoch) -> Self {
        Self { epoch, next: AtomicU64::new(1) }
    }

    /// An id that no other object of the database has.
    pub fn next(&self) -> ObjectId {
        ObjectId { epoch: self.epoch, sequence: self.next.fetch_add(1, Ordering::Relaxed) }
    }

    /// The id that [`next`](Self::next) gives when it is called next; those that are given later are larger.
    #[must_use]
    pub(crate) fn upcoming(&self) -> ObjectId {
        ObjectId { epoch: self.epoch, sequence: self.next.load(Ordering::Relaxed) }
    }

    /// The epoch these ids carry.
    #[must_use]
    pub fn epoch(&self) -> Epoch {
        self.epoch
    }
}
