//! Figures of a database and its statements, by their names.
//!
//! Owns: names, kinds and descriptions: the one list behind `system.metrics` and a server's page for Prometheus. Does not own: counting
//! (`metrics`, `cairn_storage::metrics`), text forms, what only a server counts. Names begin with `cairn_`, in base units;
//! `docs/src/metrics.md` lists them all. Reading takes no lock that a statement waits for longer than for a look.

use cairn_storage::metrics::{CacheFigures, DatabaseFigures, HistogramFigures, ObjectFigures};
use cairn_storage::wal::Unsent;

use crate::engine::Engine;

/// How a figure moves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FigureKind {
    /// It only grows.
    Counter,
    /// It goes up and down.
    Gauge,
    /// Times, in buckets.
    Histogram,
}

impl FigureKind {
    /// As Prometheus and `system.metrics` name it.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Counter => "counter",
            Self::Gauge => "gauge",
            Self::Histogram => "histogram",
        }
    }
}

/// What a figure is at one moment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum FigureValue {
    /// A count, a size, a state.
    Number(u64),
    /// A histogram's.
    Times(HistogramFigures),
}

/// Figures of one name.
#[derive(Clone, Debug)]
pub struct FigureFamily {
    /// The name.
    pub name: &'static str,
    /// How they move.
    pub kind: FigureKind,
    /// What they are.
    pub description: &'static str,
    /// Each with the labels that tell it from the others of its name.
    pub samples: Vec<(Vec<(&'static str, String)>, FigureValue)>,
}

impl FigureFamily {
    fn new(name: &'static str, kind: FigureKind, description: &'static str) -> Self {
        Self { name, kind, description, samples: Vec::new() }
    }

    fn sample(mut self, labels: &[(&'static str, &str)], value: FigureValue) -> Self {
        let labels = labels.iter().map(|(name, value)| (*name, (*value).to_owned())).collect();
        self.samples.push((labels, value));
        self
    }

    fn number(self, labels: &[(&'static str, &str)], value: u64) -> Self {
        self.sample(labels, FigureValue::Number(value))
    }

    fn times(self, labels: &[(&'static str, &str)], figures: &HistogramFigures) -> Self {
        self.sample(labels, FigureValue::Times(figures.clone()))
    }
}

fn counter(name: &'static str, description: &'static str) -> FigureFamily {
    FigureFamily::new(name, FigureKind::Counter, description)
}

fn gauge(name: &'static str, description: &'static str) -> FigureFamily {
    FigureFamily::new(name, FigureKind::Gauge, description)
}

fn histogram(name: &'static str, description: &'static str) -> FigureFamily {
    FigureFamily::new(name, FigureKind::Histogram, description)
}

impl Engine {
    /// All figures of now, those of one name together.
    #[must_use]
    pub fn figures(&self) -> Vec<FigureFamily> {
        let database = self.database();
        let writable = database.check_writable().is_ok();
        let figures = database.figures();
        let now_us = database.options().clock.now_us();
        let mut all = statements(self);
        all.extend(commits(&figures, writable));
        all.extend(log(&figures));
        all.extend(figures.unsent.iter().flat_map(|unsent| unsent_commits(unsent, now_us)));
        all.extend(tables(&figures));
        all.extend(figures.objects.iter().flat_map(|requests| objects(&DATABASE, requests)));
        all.extend(self.file_figures().iter().flat_map(|requests| objects(&FILES, requests)));
        all.extend(figures.disk_cache.iter().flat_map(disk_cache));
        all.extend(jobs(&figures));
        all
    }
}

fn statements(engine: &Engine) -> Vec<FigureFamily> {
    let figures = engine.statement_figures();
    let times = histogram(
        "cairn_statement_duration_seconds",
        "Time of statements until their last row was taken, by kind, and outcome: ok or the class of the SQLSTATE.",
    );
    let times = figures.times.iter().fold(times, |family, times| {
        family.times(&[("kind", times.kind.name()), ("outcome", times.outcome)], &times.times)
    });
    vec![
        times,
        gauge("cairn_statements_running", "Statements that run, those whose rows are still read included.")
            .number(&[], figures.running),
        counter("cairn_rows_returned_total", "Rows that statements answered with.").number(&[], figures.rows),
        counter("cairn_plan_cache_hits_total", "Queries run with a plan that their session had kept.")
            .number(&[], figures.plans_reused),
        counter("cairn_plan_cache_misses_total", "Queries planned whose plan might have been kept.")
            .number(&[], figures.plans_made),
        gauge("cairn_query_memory_bytes", "Memory queries use now, of what counts against the limit.")
            .number(&[], engine.memory_used() as u64),
        gauge("cairn_query_memory_limit_bytes", "Memory queries may use together.")
            .number(&[], engine.memory_limit() as u64),
        gauge("cairn_query_spilled_bytes", "Bytes that running queries hold on disk for lack of memory.")
            .number(&[], engine.spilled_bytes()),
    ]
}

fn commits(figures: &DatabaseFigures, writable: bool) -> Vec<FigureFamily> {
    vec![
        gauge("cairn_writable", "1 when changes can be made, else 0.").number(&[], u64::from(writable)),
        gauge("cairn_commit_version", "The newest commit version.").number(&[], figures.version.0),
        counter("cairn_commits_total", "Commits made durable.").number(&[], figures.commits),
        counter(
            "cairn_commit_groups_total",
            "Writes of the log that made one or more commits durable together.",
        )
        .number(&[], figures.commit_groups),
        counter("cairn_commit_conflicts_total", "Attempts to commit that lost against another commit.")
            .number(&[], figures.conflicts),
        counter("cairn_rows_added_total", "Rows that commits appended.").number(&[], figures.rows_added),
        counter("cairn_rows_deleted_total", "Rows that commits deleted, those of TRUNCATE not counted.")
            .number(&[], figures.rows_deleted),
    ]
}

fn log(figures: &DatabaseFigures) -> Vec<FigureFamily> {
    vec![
        counter("cairn_wal_written_bytes_total", "Bytes written to the write-ahead log.")
            .number(&[], figures.wal_written_bytes),
        histogram("cairn_wal_sync_duration_seconds", "Time of syncs of the write-ahead log.")
            .times(&[], &figures.wal_syncs),
        gauge("cairn_wal_bytes", "Bytes of entries in the files of the write-ahead log.")
            .number(&[], figures.wal_bytes),
    ]
}

/// What durability = 'local' has not sent yet.
fn unsent_commits(unsent: &Unsent, now_us: i64) -> Vec<FigureFamily> {
    let age_us = unsent.since_us.map_or(0, |since| now_us.saturating_sub(since).max(0));
    vec![
        gauge(
            "cairn_unsent_commits",
            "Commits acknowledged from this machine's journal and not yet in the bucket.",
        )
        .number(&[], unsent.commits),
        gauge("cairn_unsent_bytes", "Bytes of those commits' entries.").number(&[], unsent.bytes),
        gauge("cairn_unsent_age_seconds", "Age of the oldest of them, in whole seconds; 0: there is none.")
            .number(&[], age_us.unsigned_abs() / 1_000_000),
    ]
}

fn tables(figures: &DatabaseFigures) -> Vec<FigureFamily> {
    let (cache, columns) = (figures.cache, figures.columns);
    vec![
        gauge("cairn_memtable_bytes", "Memory of rows that are in no segment yet.")
            .number(&[], figures.hot_bytes),
        gauge("cairn_tables", "Tables.").number(&[], figures.tables),
        gauge("cairn_segments", "Segments of the tables.").number(&[], figures.segments),
        gauge("cairn_segment_bytes", "Bytes of the tables' segments.").number(&[], figures.segment_bytes),
        gauge("cairn_cache_bytes", "Bytes of segments and indexes kept in memory.").number(&[], cache.bytes),
        gauge("cairn_cache_limit_bytes", "Bytes of segments and indexes that may be kept in memory.")
            .number(&[], cache.limit_bytes),
        counter("cairn_cache_hits_total", "Parts of segments looked for in memory and found.")
            .number(&[], cache.hits),
        counter("cairn_cache_misses_total", "Parts of segments looked for in memory and not found.")
            .number(&[], cache.misses),
        gauge("cairn_column_cache_bytes", "Bytes of columns kept decoded for the next scan.")
            .number(&[], columns.bytes),
        gauge("cairn_column_cache_limit_bytes", "Bytes of columns that may be kept decoded.")
            .number(&[], columns.limit_bytes),
        counter("cairn_column_cache_hits_total", "Columns of row groups that a scan looked for and found.")
            .number(&[], columns.hits),
        counter(
            "cairn_column_cache_misses_total",
            "Columns of row groups that a scan looked for and did not find.",
        )
        .number(&[], columns.misses),
        counter("cairn_column_cache_evictions_total", "Columns of row groups that left memory for others.")
            .number(&[], columns.evictions),
    ]
}

/// Name and description.
type Words = (&'static str, &'static str);

/// What the figures of requests are called.
struct Requests {
    requests: Words,
    bytes: Words,
    retries: Words,
    failures: Words,
    times: Words,
}

/// Those for the database.
const DATABASE: Requests = Requests {
    requests: (
        "cairn_object_requests_total",
        "Requests sent to the object store, those tried again included, by operation.",
    ),
    bytes: ("cairn_object_bytes_total", "Bytes from and to the object store, by direction."),
    retries: ("cairn_object_retries_total", "Requests to the object store that failed and were sent again."),
    failures: ("cairn_object_failures_total", "Requests to the object store that failed for good."),
    times: ("cairn_object_request_seconds", "Time of requests to the object store."),
};

/// Those for files that COPY and queries name.
const FILES: Requests = Requests {
    requests: (
        "cairn_file_object_requests_total",
        "Requests sent for files on object storage, those tried again included, by operation.",
    ),
    bytes: ("cairn_file_object_bytes_total", "Bytes from and to object storage of files, by direction."),
    retries: (
        "cairn_file_object_retries_total",
        "Requests for files on object storage that failed and were sent again.",
    ),
    failures: (
        "cairn_file_object_failures_total",
        "Requests for files on object storage that failed for good.",
    ),
    times: ("cairn_file_object_request_seconds", "Time of requests for files on object storage."),
};

fn objects(of: &Requests, figures: &ObjectFigures) -> Vec<FigureFamily> {
    let total = |(name, description): Words| counter(name, description);
    vec![
        total(of.requests)
            .number(&[("operation", "get")], figures.gets)
            .number(&[("operation", "head")], figures.heads)
            .number(&[("operation", "put")], figures.puts)
            .number(&[("operation", "delete")], figures.deletes)
            .number(&[("operation", "list")], figures.lists),
        total(of.bytes)
            .number(&[("direction", "read")], figures.read_bytes)
            .number(&[("direction", "written")], figures.written_bytes),
        total(of.retries).number(&[], figures.retries),
        total(of.failures).number(&[], figures.failures),
        histogram(of.times.0, of.times.1).times(&[], &figures.waits),
    ]
}

fn disk_cache(figures: &CacheFigures) -> Vec<FigureFamily> {
    vec![
        gauge("cairn_disk_cache_bytes", "Bytes of the object store's objects kept on disk.")
            .number(&[], figures.bytes),
        gauge(
            "cairn_disk_cache_limit_bytes",
            "Bytes of the object store's objects that may be kept on disk.",
        )
        .number(&[], figures.limit_bytes),
        counter("cairn_disk_cache_hits_total", "Parts of objects looked for on disk and found.")
            .number(&[], figures.hits),
        counter("cairn_disk_cache_misses_total", "Parts of objects looked for on disk and not found.")
            .number(&[], figures.misses),
        counter(
            "cairn_disk_cache_failures_total",
            "Times the disk did not take a part of an object; nothing more is kept then until the process ends.",
        )
        .number(&[], figures.failures),
    ]
}

fn jobs(figures: &DatabaseFigures) -> Vec<FigureFamily> {
    let mut running =
        gauge("cairn_jobs_running", "Jobs that run now, by kind: checkpoint, compact, build_index, collect.");
    let mut times = histogram(
        "cairn_job_duration_seconds",
        "Time of jobs that ended, by kind and status: completed or failed.",
    );
    let mut rows = counter("cairn_job_rows_total", "Rows that jobs worked on, by kind.");
    let mut bytes = counter("cairn_job_written_bytes_total", "Bytes that jobs wrote, by kind.");
    for job in &figures.jobs {
        let kind = [("kind", job.kind.as_str())];
        running = running.number(&kind, job.running);
        times = times
            .times(&[("kind", job.kind.as_str()), ("status", "completed")], &job.completed)
            .times(&[("kind", job.kind.as_str()), ("status", "failed")], &job.failed);
        rows = rows.number(&kind, job.rows);
        bytes = bytes.number(&kind, job.bytes);
    }
    vec![running, times, rows, bytes]
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use std::collections::HashSet;

    use cairn_storage::Root;

    use super::*;
    use crate::EngineOptions;

    #[tokio::test]
    async fn names_are_told_apart() {
        let engine = Engine::open(Root::Memory, EngineOptions::default()).await.unwrap();
        let mut all = engine.figures();
        all.extend(objects(&DATABASE, &ObjectFigures::default()));
        all.extend(objects(&FILES, &ObjectFigures::default()));
        all.extend(disk_cache(&CacheFigures::default()));
        all.extend(unsent_commits(&Unsent::default(), 0));
        let book = include_str!("../../docs/src/metrics.md");
        let mut seen = HashSet::new();
        for family in &all {
            assert!(
                book.contains(&format!("`{}`", family.name)),
                "docs/src/metrics.md lacks {}",
                family.name
            );
            assert!(family.name.starts_with("cairn_") && seen.insert(family.name), "{}", family.name);
            assert_eq!(
                family.name.ends_with("_total"),
                family.kind == FigureKind::Counter,
                "{}",
                family.name
            );
            let times = |value: &FigureValue| matches!(value, FigureValue::Times(_));
            let is_histogram = family.kind == FigureKind::Histogram;
            assert!(family.samples.iter().all(|(_, value)| times(value) == is_histogram), "{}", family.name);
        }
    }
}
