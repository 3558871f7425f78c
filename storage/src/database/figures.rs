//! A database at one moment: what it counted, what it holds, whether it takes commits.

use std::sync::atomic::Ordering;

use super::{Database, Half};
use crate::error::{Error, ErrorKind, Result};
use crate::metrics::{DatabaseFigures, HistogramFigures};

impl Database {
    /// Counts since the opening and sizes of now. Walks over the tables and their segments, reads no file.
    #[must_use]
    pub fn figures(&self) -> DatabaseFigures {
        let snapshot = self.snapshot();
        let mut figures = DatabaseFigures {
            version: snapshot.version(),
            commits: 0,
            commit_groups: 0,
            conflicts: 0,
            rows_added: 0,
            rows_deleted: 0,
            wal_bytes: self.wal_status().bytes,
            wal_written_bytes: 0,
            wal_syncs: HistogramFigures::default(),
            unsent: self.unsent(),
            hot_bytes: snapshot.state().hot_bytes(),
            tables: 0,
            segments: 0,
            segment_bytes: 0,
            cache: self.shared.cache.figures(),
            columns: self.shared.cache.columns().figures(),
            disk_cache: self.shared.disk_cache.as_ref().map(|cached| cached.figures()),
            objects: self.object_metrics.as_ref().map(|metrics| metrics.figures()),
            jobs: self.jobs.figures(),
        };
        for table in snapshot.state().live_tables() {
            figures.tables += 1;
            for segment in table.segments.iter().filter(|s| s.dropped_at.is_none()) {
                figures.segments += 1;
                figures.segment_bytes += segment.meta.bytes;
            }
        }
        if let Half::Writes(writer) = self.half() {
            let commits = writer.order.metrics();
            let wal = writer.order.wal_metrics();
            figures.commits = commits.commits.value();
            figures.commit_groups = commits.groups.value();
            figures.conflicts = commits.conflicts.value();
            figures.rows_added = commits.rows_added.value();
            figures.rows_deleted = commits.rows_deleted.value();
            figures.wal_written_bytes = wal.written_bytes.value();
            figures.wal_syncs = wal.syncs.figures();
        }
        figures
    }

    /// Whether commits can be made here now.
    ///
    /// # Errors
    /// `ReadOnly` on a follower or a closed database; the log's error when it has failed.
    pub fn check_writable(&self) -> Result<()> {
        if self.closed.load(Ordering::Acquire) {
            return Err(Error::new(ErrorKind::ReadOnly, "the database is closed"));
        }
        if self.claimable().is_some() && self.follows() {
            // The first change claims it.
            return Ok(());
        }
        match self.writer()?.order.poisoned() {
            Some(error) => Err(error),
            None => Ok(()),
        }
    }
}
