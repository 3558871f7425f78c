//! The page of `GET /metrics`.
//!
//! Names begin with `cairn_`, in base units; `docs/src/metrics.md` lists them all. Reading takes no lock that a statement waits for
//! longer than for a look.

use cairn_engine::{Engine, StatementQueue};
use cairn_storage::metrics::DatabaseFigures;

use super::text::Page;
use crate::server::Shared;

/// All figures of now.
pub(crate) fn page(shared: &Shared) -> String {
    let mut page = Page::default();
    process(&mut page);
    server(&mut page, shared);
    shared.metrics.http.write(&mut page);
    shared.metrics.flight.write(&mut page);
    statements(&mut page, &shared.engine);
    queue(&mut page, &shared.queue);
    let database = shared.engine.database();
    let writable = database.check_writable().is_ok();
    let figures = database.figures();
    commits(&mut page, &figures, writable);
    log(&mut page, &figures);
    tables(&mut page, &figures);
    jobs(&mut page, &figures);
    page.finish()
}

fn process(page: &mut Page) {
    page.gauge("cairn_build_info", "Version of Cairn; always 1.");
    page.value(&[("version", env!("CARGO_PKG_VERSION"))], 1);
    // Known on Linux.
    if let Some(bytes) = resident_bytes() {
        page.gauge("process_resident_memory_bytes", "Memory of the process that is in RAM.");
        page.value(&[], bytes);
    }
}

fn resident_bytes() -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let kib = status.lines().find_map(|l| l.strip_prefix("VmRSS:")?.trim().strip_suffix("kB"))?;
    Some(kib.trim().parse::<u64>().ok()? << 10)
}

fn server(page: &mut Page, shared: &Shared) {
    page.gauge("cairn_connections", "Open connections of all protocols.");
    page.value(&[], shared.connections.open());
    page.gauge("cairn_connections_limit", "Connections there may be.");
    page.value(&[], shared.options.connections_max);
    page.gauge("cairn_sessions", "Sessions of Flight SQL clients.");
    page.value(&[], shared.sessions.count());
    page.counter("cairn_log_lines_lost_total", "Lines of the audit and slow logs that could not be written.");
    page.value(&[], shared.log.lost());
}

fn statements(page: &mut Page, engine: &Engine) {
    let figures = engine.statement_figures();
    page.histogram(
        "cairn_statement_duration_seconds",
        "Time of statements until their last row was taken, by kind, and outcome: ok or the class of the SQLSTATE.",
    );
    for times in &figures.times {
        page.buckets(&[("kind", times.kind.name()), ("outcome", times.outcome)], &times.times);
    }
    page.gauge("cairn_statements_running", "Statements that run, those whose rows are still read included.");
    page.value(&[], figures.running);
    page.counter("cairn_rows_returned_total", "Rows that statements answered with.");
    page.value(&[], figures.rows);
    page.gauge("cairn_query_memory_bytes", "Memory queries use now, of what counts against the limit.");
    page.value(&[], engine.memory_used());
    page.gauge("cairn_query_memory_limit_bytes", "Memory queries may use together.");
    page.value(&[], engine.memory_limit());
    page.gauge("cairn_query_spilled_bytes", "Bytes that running queries hold on disk for lack of memory.");
    page.value(&[], engine.spilled_bytes());
}

fn queue(page: &mut Page, queue: &StatementQueue) {
    let figures = queue.figures();
    page.gauge("cairn_queue_running", "Statements that hold one of the places of limit.concurrent.");
    page.value(&[], figures.running);
    page.gauge("cairn_queue_waiting", "Statements that wait for such a place.");
    page.value(&[], figures.waiting);
    page.counter("cairn_queue_refused_total", "Statements refused, by reason: full or late.");
    page.value(&[("reason", "full")], figures.refused_full);
    page.value(&[("reason", "late")], figures.refused_late);
    page.histogram("cairn_queue_wait_duration_seconds", "Time that statements waited before they ran.");
    page.buckets(&[], &figures.waits);
}

fn commits(page: &mut Page, figures: &DatabaseFigures, writable: bool) {
    page.gauge("cairn_writable", "1 when changes can be made, else 0.");
    page.value(&[], u8::from(writable));
    page.gauge("cairn_commit_version", "The newest commit version.");
    page.value(&[], figures.version.0);
    page.counter("cairn_commits_total", "Commits made durable.");
    page.value(&[], figures.commits);
    page.counter(
        "cairn_commit_groups_total",
        "Writes of the log that made one or more commits durable together.",
    );
    page.value(&[], figures.commit_groups);
    page.counter("cairn_commit_conflicts_total", "Attempts to commit that lost against another commit.");
    page.value(&[], figures.conflicts);
    page.counter("cairn_rows_added_total", "Rows that commits appended.");
    page.value(&[], figures.rows_added);
    page.counter("cairn_rows_deleted_total", "Rows that commits deleted, those of TRUNCATE not counted.");
    page.value(&[], figures.rows_deleted);
}

fn log(page: &mut Page, figures: &DatabaseFigures) {
    page.counter("cairn_wal_written_bytes_total", "Bytes written to the write-ahead log.");
    page.value(&[], figures.wal_written_bytes);
    page.histogram("cairn_wal_sync_duration_seconds", "Time of syncs of the write-ahead log.");
    page.buckets(&[], &figures.wal_syncs);
    page.gauge("cairn_wal_bytes", "Bytes of entries in the files of the write-ahead log.");
    page.value(&[], figures.wal_bytes);
}

fn tables(page: &mut Page, figures: &DatabaseFigures) {
    page.gauge("cairn_memtable_bytes", "Memory of rows that are in no segment yet.");
    page.value(&[], figures.hot_bytes);
    page.gauge("cairn_tables", "Tables.");
    page.value(&[], figures.tables);
    page.gauge("cairn_segments", "Segments of the tables.");
    page.value(&[], figures.segments);
    page.gauge("cairn_segment_bytes", "Bytes of the tables' segments.");
    page.value(&[], figures.segment_bytes);
    page.gauge("cairn_cache_bytes", "Bytes of segments and indexes kept in memory.");
    page.value(&[], figures.cache.bytes);
    page.gauge("cairn_cache_limit_bytes", "Bytes of segments and indexes that may be kept in memory.");
    page.value(&[], figures.cache.limit_bytes);
    page.counter("cairn_cache_hits_total", "Parts of segments looked for in memory and found.");
    page.value(&[], figures.cache.hits);
    page.counter("cairn_cache_misses_total", "Parts of segments looked for in memory and not found.");
    page.value(&[], figures.cache.misses);
}

fn jobs(page: &mut Page, figures: &DatabaseFigures) {
    page.gauge("cairn_jobs_running", "Jobs that run now, by kind: checkpoint, build_index.");
    for job in &figures.jobs {
        page.value(&[("kind", &job.kind)], job.running);
    }
    page.histogram(
        "cairn_job_duration_seconds",
        "Time of jobs that ended, by kind and status: completed or failed.",
    );
    for job in &figures.jobs {
        page.buckets(&[("kind", &job.kind), ("status", "completed")], &job.completed);
        page.buckets(&[("kind", &job.kind), ("status", "failed")], &job.failed);
    }
    page.counter("cairn_job_rows_total", "Rows that jobs worked on, by kind.");
    for job in &figures.jobs {
        page.value(&[("kind", &job.kind)], job.rows);
    }
    page.counter("cairn_job_written_bytes_total", "Bytes that jobs wrote, by kind.");
    for job in &figures.jobs {
        page.value(&[("kind", &job.kind)], job.bytes);
    }
}
