//! The page of `GET /metrics`.
//!
//! Names begin with `cairn_`, in base units; `docs/src/metrics.md` lists them all. Those of the database and its statements are the
//! engine's (`cairn_engine::figures`), as `system.metrics` has them. Reading takes no lock that a statement waits for longer than for a look.

use cairn_engine::StatementQueue;

use super::text::Page;
use crate::server::Shared;

/// All figures of now.
pub(crate) fn page(shared: &Shared) -> String {
    let mut page = Page::default();
    process(&mut page);
    server(&mut page, shared);
    shared.metrics.http.write(&mut page);
    shared.metrics.flight.write(&mut page);
    queue(&mut page, &shared.queue);
    shared.engine.figures().iter().for_each(|family| page.family(family));
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
