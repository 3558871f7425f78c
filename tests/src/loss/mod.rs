//! Disks and buckets that lose what may be lost, under the whole engine: SQL in, rows out.
//!
//! Owns: scripts of a seed with the model of what they must leave (`model`), a database on a simulated disk with the ledger of what was
//! acknowledged (`database`), what goes wrong with it (`scripts`), and every step it takes, by name (`steps`, `bucket`). Does not own: the
//! disk (`cairn_storage::fs::SimFileSystem`).

pub mod bucket;
pub mod database;
pub mod model;
pub mod scripts;
pub mod steps;

use std::panic::resume_unwind;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

/// Planning in a debug build takes more than threads have by default.
const STACK_BYTES: usize = 16 << 20;
/// After so many failures it is enough.
const FAILURES_MAX: usize = 5;

/// Does `check` with all of `items`, some at a time; what failed.
///
/// # Panics
/// When a check does.
pub fn in_parallel<T: Sync>(items: &[T], check: impl Fn(&T) -> Result<(), String> + Sync) -> Vec<String> {
    let (next, failures_so_far) = (AtomicUsize::new(0), AtomicUsize::new(0));
    let work = || {
        let mut failures = Vec::new();
        while failures_so_far.load(Ordering::Relaxed) < FAILURES_MAX {
            let Some(item) = items.get(next.fetch_add(1, Ordering::Relaxed)) else { break };
            if let Err(failure) = check(item) {
                failures_so_far.fetch_add(1, Ordering::Relaxed);
                failures.push(failure);
            }
        }
        failures
    };
    thread::scope(|scope| {
        let count = thread::available_parallelism().map_or(1, usize::from).min(items.len().max(1));
        let threads: Vec<_> = (0..count)
            .map(|_| thread::Builder::new().stack_size(STACK_BYTES).spawn_scoped(scope, work).unwrap())
            .collect();
        let failures =
            threads.into_iter().map(|thread| thread.join().unwrap_or_else(|panic| resume_unwind(panic)));
        failures.flatten().collect()
    })
}
