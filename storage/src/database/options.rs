//! Where a database lives and how it is opened.

use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use crate::error::{Error, ErrorKind, Result};
use crate::fs::FileSystem;
use crate::wal::SyncMode;

/// Where a database lives.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Root {
    /// A local directory.
    Path(PathBuf),
    /// In memory; gone when closed.
    Memory,
}

impl Root {
    /// Reads `./dir`, `file:///abs/dir`, `:memory:` or `memory://`.
    ///
    /// # Errors
    /// `Unsupported` for other schemes, `InvalidInput` for an empty text.
    pub fn parse(text: &str) -> Result<Self> {
        if matches!(text, ":memory:" | "memory://") {
            return Ok(Self::Memory);
        }
        if let Some(path) = text.strip_prefix("file://") {
            return Ok(Self::Path(PathBuf::from(path)));
        }
        if let Some((scheme, _)) = text.split_once("://") {
            return Err(Error::new(
                ErrorKind::Unsupported,
                format!("a database on {scheme}:// is not supported yet"),
            )
            .with_hint("give a directory, or :memory:"));
        }
        if text.is_empty() {
            return Err(Error::new(ErrorKind::InvalidInput, "the database's directory is empty"));
        }
        Ok(Self::Path(PathBuf::from(text)))
    }
}

impl fmt::Display for Root {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Path(path) => path.display().fmt(f),
            Self::Memory => f.write_str(":memory:"),
        }
    }
}

/// How a database is opened. Sizes in bytes.
#[derive(Clone, Debug)]
pub struct OpenOptions {
    /// Follow another process's writes; never write.
    pub read_only: bool,
    /// Create the database when there is none.
    pub create: bool,
    /// When a commit is durable.
    pub sync: SyncMode,
    /// A checkpoint runs by itself when the log since the last one exceeds this.
    pub checkpoint_wal_bytes: u64,
    /// A checkpoint runs by itself this often while there is something to write; None: never.
    pub checkpoint_interval: Option<Duration>,
    /// On closing, a checkpoint runs when the log exceeds this.
    pub close_wal_bytes: u64,
    /// Above this much memory in hot rows, commits are slowed.
    pub memtable_soft_bytes: u64,
    /// Above this, commits wait for a checkpoint, then fail.
    pub memtable_hard_bytes: u64,
    /// How long a commit waits at the hard limit.
    pub memtable_wait: Duration,
    /// A larger write set goes into segments instead of the log.
    pub wal_entry_bytes_max: usize,
    /// How far back old row versions are kept.
    pub version_retention: Duration,
    /// Budget of cached footers, key filters and row-id columns.
    pub segment_cache_bytes: usize,
    /// A file system to use in place of the local one; for tests.
    pub fs: Option<Arc<dyn FileSystem>>,
}

impl Default for OpenOptions {
    fn default() -> Self {
        Self {
            read_only: false,
            create: true,
            sync: SyncMode::Full,
            checkpoint_wal_bytes: 64 << 20,
            checkpoint_interval: None,
            close_wal_bytes: 8 << 20,
            memtable_soft_bytes: 256 << 20,
            memtable_hard_bytes: 512 << 20,
            memtable_wait: Duration::from_secs(30),
            wal_entry_bytes_max: 16 << 20,
            version_retention: Duration::from_secs(24 * 3600),
            segment_cache_bytes: 256 << 20,
            fs: None,
        }
    }
}
