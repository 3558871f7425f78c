//! Counters and histograms of what a database does.
//!
//! Owns: how an event is counted, a relaxed atomic addition and no lock, and the figures of one moment. Does not own: names and text
//! forms of figures, events of statements (the engine's). Everything counts from the opening of the database on.
//! Figures of one moment are read one after another: two of them may be an event apart.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use crate::id::CommitVersion;
use crate::wal::Unsent;

/// How often something happened.
#[derive(Debug, Default)]
pub struct Counter(AtomicU64);

impl Counter {
    /// Counts one.
    pub fn one(&self) {
        self.add(1);
    }

    /// Counts `n`.
    pub fn add(&self, n: u64) {
        self.0.fetch_add(n, Ordering::Relaxed);
    }

    /// Takes back `n` of what was counted: for what comes and goes.
    pub fn subtract(&self, n: u64) {
        self.0.fetch_sub(n, Ordering::Relaxed);
    }

    /// The count.
    #[must_use]
    pub fn value(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// Upper bounds of the buckets, in microseconds: 100 µs to half an hour.
pub const BUCKETS_US: [u64; 20] = [
    100,
    250,
    500,
    1_000,
    2_500,
    5_000,
    10_000,
    25_000,
    50_000,
    100_000,
    250_000,
    500_000,
    1_000_000,
    2_500_000,
    5_000_000,
    10_000_000,
    30_000_000,
    60_000_000,
    300_000_000,
    1_800_000_000,
];

/// How long something took, in buckets of fixed bounds ([`BUCKETS_US`], and one without a bound).
#[derive(Debug, Default)]
pub struct Histogram {
    buckets: [AtomicU64; BUCKETS_US.len() + 1],
    sum_ns: AtomicU64,
}

impl Histogram {
    /// Counts one that took `time`.
    pub fn observe(&self, time: Duration) {
        let us = time.as_nanos().div_ceil(1_000);
        let bucket = BUCKETS_US.partition_point(|bound| u128::from(*bound) < us);
        self.buckets[bucket].fetch_add(1, Ordering::Relaxed);
        self.sum_ns.fetch_add(u64::try_from(time.as_nanos()).unwrap_or(u64::MAX), Ordering::Relaxed);
    }

    /// The counts of now.
    #[must_use]
    pub fn figures(&self) -> HistogramFigures {
        let mut count = 0;
        let at_most = std::array::from_fn(|i| {
            count += self.buckets[i].load(Ordering::Relaxed);
            count
        });
        HistogramFigures { at_most, sum: Duration::from_nanos(self.sum_ns.load(Ordering::Relaxed)) }
    }
}

/// A histogram at one moment.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct HistogramFigures {
    /// How many took at most the bound of [`BUCKETS_US`] at the same place; the last: all.
    pub at_most: [u64; BUCKETS_US.len() + 1],
    /// What they took together.
    pub sum: Duration,
}

impl HistogramFigures {
    /// How many there were.
    #[must_use]
    pub fn count(&self) -> u64 {
        self.at_most[BUCKETS_US.len()]
    }
}

/// What is counted where commits are ordered and logged.
#[derive(Debug, Default)]
pub(crate) struct CommitMetrics {
    pub(crate) commits: Counter,
    /// Groups of commits that were made durable together.
    pub(crate) groups: Counter,
    pub(crate) conflicts: Counter,
    pub(crate) rows_added: Counter,
    pub(crate) rows_deleted: Counter,
}

/// What a log counts.
#[derive(Debug, Default)]
pub struct WalMetrics {
    /// Bytes of entries written.
    pub written_bytes: Counter,
    /// Syncs (or object puts) and their times.
    pub syncs: Histogram,
}

/// Requests to an object store, as sent: one that is tried again counts again.
#[derive(Debug, Default)]
pub struct ObjectMetrics {
    /// Reads of objects or ranges of them.
    pub gets: Counter,
    /// Questions whether an object is there.
    pub heads: Counter,
    /// Objects and parts of objects written.
    pub puts: Counter,
    /// Objects deleted.
    pub deletes: Counter,
    /// Pages of listings.
    pub lists: Counter,
    /// Requests that failed and were sent again.
    pub retries: Counter,
    /// Requests that failed for good; "not found" and "exists already" are answers.
    pub failures: Counter,
    /// Bytes the store sent.
    pub read_bytes: Counter,
    /// Bytes sent to the store.
    pub written_bytes: Counter,
    /// Times of requests.
    pub waits: Histogram,
}

/// [`ObjectMetrics`] at one moment.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ObjectFigures {
    /// See [`ObjectMetrics::gets`].
    pub gets: u64,
    /// See [`ObjectMetrics::heads`].
    pub heads: u64,
    /// See [`ObjectMetrics::puts`].
    pub puts: u64,
    /// See [`ObjectMetrics::deletes`].
    pub deletes: u64,
    /// See [`ObjectMetrics::lists`].
    pub lists: u64,
    /// See [`ObjectMetrics::retries`].
    pub retries: u64,
    /// See [`ObjectMetrics::failures`].
    pub failures: u64,
    /// See [`ObjectMetrics::read_bytes`].
    pub read_bytes: u64,
    /// See [`ObjectMetrics::written_bytes`].
    pub written_bytes: u64,
    /// See [`ObjectMetrics::waits`].
    pub waits: HistogramFigures,
}

impl ObjectMetrics {
    /// The counts of now.
    #[must_use]
    pub fn figures(&self) -> ObjectFigures {
        ObjectFigures {
            gets: self.gets.value(),
            heads: self.heads.value(),
            puts: self.puts.value(),
            deletes: self.deletes.value(),
            lists: self.lists.value(),
            retries: self.retries.value(),
            failures: self.failures.value(),
            read_bytes: self.read_bytes.value(),
            written_bytes: self.written_bytes.value(),
            waits: self.waits.figures(),
        }
    }
}

/// Jobs of one kind.
#[derive(Clone, Debug, Default)]
pub struct JobFigures {
    /// "checkpoint", "build_index", "collect"
    pub kind: String,
    /// Jobs that run now.
    pub running: u64,
    /// Jobs that did what they were for, and their times.
    pub completed: HistogramFigures,
    /// Jobs that failed, and their times.
    pub failed: HistogramFigures,
    /// Rows of all that ended.
    pub rows: u64,
    /// Bytes written by all that ended.
    pub bytes: u64,
}

/// A cache at one moment.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct CacheFigures {
    /// Bytes held.
    pub bytes: u64,
    /// Most it may hold.
    pub limit_bytes: u64,
    /// Looked for and found.
    pub hits: u64,
    /// Looked for and not found.
    pub misses: u64,
    /// Times it was given up to keep anything more, because the disk did not take it.
    pub failures: u64,
}

/// The columns kept decoded, at one moment.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ColumnCacheFigures {
    /// Bytes held.
    pub bytes: u64,
    /// Most it may hold.
    pub limit_bytes: u64,
    /// Columns of row groups that a scan looked for and found.
    pub hits: u64,
    /// Columns of row groups that a scan looked for and did not find.
    pub misses: u64,
    /// Those that left for others.
    pub evictions: u64,
}

/// A database at one moment.
#[derive(Clone, Debug)]
pub struct DatabaseFigures {
    /// The newest version.
    pub version: CommitVersion,
    /// Commits made durable here.
    pub commits: u64,
    /// Groups they were made durable in.
    pub commit_groups: u64,
    /// Attempts that lost against another commit.
    pub conflicts: u64,
    /// Rows that commits appended.
    pub rows_added: u64,
    /// Rows that commits deleted one by one (TRUNCATE counts none).
    pub rows_deleted: u64,
    /// Bytes of entries in the log's files now.
    pub wal_bytes: u64,
    /// Bytes of entries written to the log.
    pub wal_written_bytes: u64,
    /// Syncs of the log and their times.
    pub wal_syncs: HistogramFigures,
    /// Commits that are only in this machine's journal yet; None: a commit is acknowledged when it is where everybody finds it.
    pub unsent: Option<Unsent>,
    /// Memory of hot rows.
    pub hot_bytes: u64,
    /// Tables.
    pub tables: u64,
    /// Segments of the tables.
    pub segments: u64,
    /// Bytes of those segments' objects.
    pub segment_bytes: u64,
    /// The cache of segments.
    pub cache: CacheFigures,
    /// The columns that are kept decoded for scans.
    pub columns: ColumnCacheFigures,
    /// The cache on disk of what is read from an object store; None: there is none.
    pub disk_cache: Option<CacheFigures>,
    /// Requests to the object store; None: the database is in a directory or in memory.
    pub objects: Option<ObjectFigures>,
    /// Jobs, by kind.
    pub jobs: Vec<JobFigures>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_counts_in_every_bucket_that_holds_it() {
        let histogram = Histogram::default();
        for time in [
            Duration::ZERO,
            Duration::from_micros(100),
            Duration::from_nanos(100_001),
            Duration::from_secs(1),
            Duration::from_secs(7200),
        ] {
            histogram.observe(time);
        }
        let figures = histogram.figures();
        assert_eq!((figures.at_most[0], figures.at_most[1]), (2, 3));
        assert_eq!((figures.at_most[11], figures.at_most[12]), (3, 4));
        assert_eq!((figures.at_most[19], figures.count()), (4, 5));
        assert_eq!(figures.sum, Duration::from_secs(7201) + Duration::from_nanos(200_001));
    }
}
