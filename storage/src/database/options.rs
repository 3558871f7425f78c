//! Where a database lives and how it is opened.

use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use object_store::ObjectStore;

use super::clock::Clock;
use crate::computing::Computing;
use crate::error::{Error, ErrorKind, Result};
use crate::fs::FileSystem;
use crate::manifest::store::INLINE_BYTES;
use crate::object::StoreUrl;
use crate::wal::SyncMode;

/// Where a database lives.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Root {
    /// A local directory.
    Path(PathBuf),
    /// A bucket, or what stands below a prefix of one.
    Store(StoreUrl),
    /// In memory; gone when closed.
    Memory,
}

impl Root {
    /// Reads `./dir`, `file:///abs/dir`, `s3://bucket/prefix`, `gs://…`, `az://…`, `:memory:` or `memory://`.
    ///
    /// # Errors
    /// `Unsupported` for other schemes, `InvalidInput` for an empty text, a bucket without a name, a directory of another host and a
    /// name in memory.
    pub fn parse(text: &str) -> Result<Self> {
        if text == ":memory:" {
            return Ok(Self::Memory);
        }
        if text.is_empty() {
            return Err(Error::new(ErrorKind::InvalidInput, "the database's directory is empty"));
        }
        let Some((scheme, rest)) = text.split_once("://") else { return Ok(Self::Path(PathBuf::from(text))) };
        let is = |name: &str| scheme.eq_ignore_ascii_case(name);
        if is("memory") && rest.is_empty() {
            return Ok(Self::Memory);
        }
        if is("memory") {
            return Err(Error::new(ErrorKind::InvalidInput, "a database in memory has no name")
                .with_hint("write memory:// and nothing behind it"));
        }
        if !is("file") {
            return StoreUrl::parse(text).map(Self::Store);
        }
        let path = rest.strip_prefix("localhost").unwrap_or(rest);
        if path.starts_with('/') {
            return Ok(Self::Path(PathBuf::from(path)));
        }
        // Between the slashes stands a host: file://tmp/x is no directory below the present one.
        let message = format!("'{text}' is no directory of this machine");
        Err(Error::new(ErrorKind::InvalidInput, message)
            .with_hint("write file:///directory, with three slashes, or the path alone"))
    }
}

impl fmt::Display for Root {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Path(path) => path.display().fmt(f),
            Self::Store(url) => url.fmt(f),
            Self::Memory => f.write_str(":memory:"),
        }
    }
}

/// When a database on an object store begins to write, which takes it away from whoever wrote before.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ClaimAt {
    /// At the first change: whoever only looks disturbs nobody.
    #[default]
    FirstWrite,
    /// When it is opened.
    Open,
}

/// Where a commit must be before it is acknowledged, for a database on an object store.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Durability {
    /// In the store.
    #[default]
    Store,
    /// In a journal on this machine's disk; it goes to the store in the background. Losing the machine, or another writer that takes
    /// the database over before, loses it.
    Local,
}

impl Durability {
    /// As written and shown: `store`, `local`.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Store => "store",
            Self::Local => "local",
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
    /// A checkpoint runs by itself when nothing was committed for so long, twice as long at most, and the log since the last one is worth
    /// it (1 MiB); None: never.
    pub checkpoint_idle: Option<Duration>,
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
    /// Do by itself what keeps the database in order: checkpoints, merges, index builds, collections. Else only what is asked for, and
    /// checkpoints before writers would have to wait and on closing.
    pub upkeep: bool,
    /// Merge segments by itself after checkpoints; else only when it is asked for.
    pub compacts: bool,
    /// How long after a checkpoint that begins.
    pub compact_delay: Duration,
    /// Size that segments are merged towards.
    pub compact_segment_bytes: u64,
    /// Most bytes that one round of merging reads by itself.
    pub compact_round_bytes: u64,
    /// Most memory that the inputs of a merge take.
    pub compact_memory_bytes: u64,
    /// Keep rows of jobs in a table of the database, so that they outlive this process.
    pub keeps_jobs: bool,
    /// How long rows of jobs that ended are kept; of the newest 1,000 at most.
    pub job_retention: Duration,
    /// Longest time of one attempt at a job; then it ends after its step.
    pub job_timeout: Duration,
    /// Budget of cached footers, key filters, row-id columns and the decoded pages of lookups.
    pub segment_cache_bytes: usize,
    /// Budget of the columns that scans have decoded; 0: none are kept. None: whoever plans the scans knows how much memory there is.
    pub column_cache_bytes: Option<usize>,
    /// A table's list of segments that takes at least so much stands in objects of its own, beside the manifest; for tests.
    pub segment_list_bytes: usize,
    /// A file system to use in place of the local one, on object storage in place of the journal's directory; for tests.
    pub fs: Option<Arc<dyn FileSystem>>,
    /// On object storage: when to begin to write.
    pub claim: ClaimAt,
    /// On object storage: take the database over from a writer that is alive.
    pub take_over: bool,
    /// On object storage: how old what a reader sees may be.
    pub poll_interval: Duration,
    /// On object storage: delete what nobody needs any more, from time to time; else only when it is asked for.
    pub collects: bool,
    /// On object storage: how long replaced objects are kept for readers that may hold them.
    pub reader_grace: Duration,
    /// On object storage: least time between two objects of the log.
    pub wal_flush_interval: Duration,
    /// On object storage: a checkpoint runs by itself when the log has this many objects.
    pub checkpoint_wal_objects: u64,
    /// On object storage: on closing, a checkpoint runs when the log has this many objects.
    pub close_wal_objects: u64,
    /// On object storage: how long a commit is tried while the store does not answer; then its outcome is unknown.
    pub commit_timeout: Duration,
    /// On object storage: where objects are kept for the next read; None: nowhere.
    pub cache_directory: Option<PathBuf>,
    /// On object storage: most bytes kept there.
    pub cache_directory_bytes: u64,
    /// On object storage: where a commit must be before it is acknowledged.
    pub durability: Durability,
    /// On object storage: below which directory journals of [`Durability::Local`] stand, one for each database. Whatever the
    /// durability, opening for writing sends what an earlier process has left there; None: nobody looks.
    pub journal_directory: Option<PathBuf>,
    /// On object storage: drop the commits of this machine's journal that can't be sent any more.
    pub discard_local: bool,
    /// A store to use in place of the one the root names, already below its prefix; for tests and measurements.
    pub store: Option<Arc<dyn ObjectStore>>,
    /// What time it is; for tests.
    pub clock: Clock,
    /// Where rows are sorted and encoded; for tests.
    pub computing: Computing,
}

impl Default for OpenOptions {
    fn default() -> Self {
        Self {
            read_only: false,
            create: true,
            sync: SyncMode::Full,
            checkpoint_wal_bytes: 64 << 20,
            checkpoint_interval: None,
            checkpoint_idle: Some(Duration::from_secs(10)),
            close_wal_bytes: 8 << 20,
            memtable_soft_bytes: 256 << 20,
            memtable_hard_bytes: 512 << 20,
            memtable_wait: Duration::from_secs(30),
            wal_entry_bytes_max: 16 << 20,
            version_retention: Duration::from_secs(24 * 3600),
            upkeep: true,
            compacts: true,
            compact_delay: Duration::from_secs(1),
            compact_segment_bytes: 256 << 20,
            compact_round_bytes: 1 << 30,
            compact_memory_bytes: 256 << 20,
            keeps_jobs: false,
            job_retention: Duration::from_secs(7 * 24 * 3600),
            job_timeout: Duration::from_secs(24 * 3600),
            segment_cache_bytes: 2 << 30,
            column_cache_bytes: None,
            segment_list_bytes: INLINE_BYTES,
            fs: None,
            claim: ClaimAt::FirstWrite,
            take_over: false,
            poll_interval: Duration::from_secs(1),
            collects: true,
            reader_grace: Duration::from_secs(3600),
            wal_flush_interval: Duration::ZERO,
            checkpoint_wal_objects: 1024,
            close_wal_objects: 256,
            commit_timeout: Duration::from_secs(30),
            cache_directory: None,
            cache_directory_bytes: 10 << 30,
            durability: Durability::Store,
            journal_directory: None,
            discard_local: false,
            store: None,
            clock: Clock::default(),
            computing: Computing::default(),
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn roots_are_read() {
        let path = |text: &str| Root::Path(PathBuf::from(text));
        for (text, root) in [
            ("./a b", path("./a b")),
            ("file:///a/b", path("/a/b")),
            ("FILE://localhost/a", path("/a")),
            (":memory:", Root::Memory),
            ("memory://", Root::Memory),
        ] {
            assert_eq!(Root::parse(text).unwrap(), root, "{text}");
        }
        assert_eq!(Root::parse("s3://data/a").unwrap().to_string(), "s3://data/a");
        for (text, kind) in [
            ("", ErrorKind::InvalidInput),
            ("file://", ErrorKind::InvalidInput),
            ("file://tmp/a", ErrorKind::InvalidInput),
            ("memory://a", ErrorKind::InvalidInput),
            ("s3:///a", ErrorKind::InvalidInput),
            ("http://a/b", ErrorKind::Unsupported),
        ] {
            assert_eq!(Root::parse(text).unwrap_err().kind(), kind, "{text}");
        }
    }
}
