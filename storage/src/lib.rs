//! Durable, versioned tables on a directory or an object store, without SQL.
//!
//! # Life of a write
//! 1. [`Database::begin`] pins a [`Snapshot`]; rows and row ids are collected in a [`Transaction`], which spills large
//!    write sets into segments and `.deletes` objects (`transaction`).
//! 2. [`Transaction::commit`] checks rows and keys at its snapshot, then enters the commit order: conflicts, version, row
//!    ids, one WAL entry (`transaction`, `wal`).
//! 3. One write and one sync make every waiting entry durable: the only point of no return (`database`, `wal`).
//! 4. A new immutable [`Version`](version::Version) is published and the commit acknowledged.
//! 5. Later, as jobs: a checkpoint turns memtables into segments and publishes a manifest (`checkpoint`); several segments become few
//!    (`compact`); what nothing names any more is deleted (`collect`).
//!
//! # Life of a read
//! [`Database::snapshot`] → [`TableSnapshot`]: segments with the rows deleted in each, and the memtable's batches.
//!
//! The words used here are defined in ARCHITECTURE.md.

pub mod error;
pub mod id;
pub mod schema;

pub mod fs;
pub mod manifest;
pub mod object;
pub mod segment;
pub mod wal;

mod alter;
pub mod checkpoint;
mod collect;
pub mod compact;
mod computing;
pub mod database;
#[doc(hidden)]
pub mod fuzzing;
mod held;
pub mod index;
pub mod jobs;
pub mod memtable;
pub mod metrics;
mod numbers;
pub mod repair;
#[cfg(test)]
#[path = "../../tests/src/scratch.rs"]
#[allow(unreachable_pub, reason = "it is public where tests of several crates take it from")]
mod scratch;
pub mod transaction;
pub mod verify;
pub mod version;

pub use checkpoint::{CheckpointReason, CheckpointReceipt};
pub use collect::{CollectReceipt, Collected, ObjectKind};
pub use compact::{CompactReason, CompactReceipt};
pub use computing::Computing;
pub use database::{
    ClaimAt, Clock, Database, Durability, JobsReceipt, JobsWanted, OpenOptions, Root, VersionRow,
    default_journal_directory,
};
pub use error::{Error, ErrorKind, Result};
pub use held::HeldMemory;
pub use jobs::{JobKind, JobRow, JobStatus};
pub use manifest::history::CommitFound;
pub use repair::{LOST_AND_FOUND, OfflineRepair, Repair, RepairStatus, repair_offline};
pub use transaction::{CommitOptions, CommitReceipt, LastWord, TableWriter, Transaction};
pub use verify::{Finding, FindingStatus, VerifyScope};
pub use version::{Catalog, SegmentView, Snapshot, TableSnapshot, WarmReceipt};
