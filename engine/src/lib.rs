//! Cairn's sessions: parse, plan and execute SQL over `cairn-storage`.
//!
//! # Life of a query
//! 1. [`Session::execute`] parses one statement (`statement`, `dialect`) and pins one storage snapshot for it (`context`).
//! 2. Names resolve against that snapshot (`catalog`), `system.*` included (`system`).
//! 3. DataFusion plans; each table answers with a `SegmentScanExec` (`provider`, `scan`).
//! 4. [`Output`] hands the rows on as a stream (`output`).
//!
//! Wherever a name becomes something of the database, the session's rights are asked (`rights`).
//!
//! # Life of a write
//! INSERT, UPDATE, DELETE and MERGE become a node of our own, planned from the unoptimised plan (`dml`); COPY streams files into
//! the same write set (`copy`); all of them end in one `cairn_storage::Transaction`, run again on a fresh snapshot when it conflicts.

pub mod engine;
pub mod session;

mod catalog;
pub mod context;
mod defaults;
mod dialect;
mod file_access;
mod files;
mod measure;
mod memory;
mod plans;
mod provider;
mod rights;
mod rules;
mod scan;
mod search;
mod statement;
mod stores;
mod system;

mod copy;
mod ddl;
mod dml;

pub mod config;
pub mod error;
pub mod figures;
#[doc(hidden)]
pub mod fuzzing;
pub mod inspect;
mod log;
mod metrics;
pub mod output;
mod queue;
mod running;
pub mod text;

pub use cairn_storage::object::default_cache_directory;
pub use cairn_storage::wal::SyncMode;
pub use cairn_storage::{
    Durability, OfflineRepair, OpenOptions, RepairStatus, Root, default_journal_directory, repair_offline,
};
pub use cairn_udfs::vector::{dimensions, is_whole, short_text_at, text_at};
pub use copy::{IfExists, IfMissing, IngestTarget};
pub use ddl::{COLUMNS_MAX, KEY_COLUMNS_MAX, NAME_BYTES_MAX};
pub use engine::{Engine, EngineOptions};
pub use error::{Error, Position, Result};
pub use log::{StatementLog, StatementRecord};
pub use metrics::{StatementFigures, StatementTimes};
pub use output::{Ingested, Output, RowStream};
pub use queue::{QueueFigures, QueueLimits, StatementQueue};
pub use rights::Identity;
pub use running::StatementProgress;
pub use session::{Description, Parameter, Relation, RelationKind, Session, SessionLimits, repair_batch};
pub use statement::{NESTING_MAX, STATEMENT_BYTES_MAX, ScriptStatement, StatementKind};
