//! A read-only follower that looks at a database all the time, whoever writes it and dies.
//!
//! Owns: the thread, opening the database again and again, and the rule that what a reader has seen is never taken back. Does not own: what it
//! looks at (`snapshot`).

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use cairn_engine::{OpenOptions, Root};
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

use super::crew::STACK_BYTES;
use super::snapshot;
use crate::connection::Connection;

/// See the module.
pub struct Watcher {
    stop: Arc<AtomicBool>,
    seen: Arc<AtomicU64>,
    thread: Option<JoinHandle<Result<u64, String>>>,
}

impl Watcher {
    /// Starts it on a database that is there.
    ///
    /// # Errors
    /// When there is no thread for it.
    pub fn start(root: &Path, seed: u64) -> std::io::Result<Self> {
        let (stop, seen) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
        let (root, stopped, newest) = (root.to_path_buf(), Arc::clone(&stop), Arc::clone(&seen));
        let thread = std::thread::Builder::new()
            .stack_size(STACK_BYTES)
            .spawn(move || watch(&root, seed, &stopped, &newest))?;
        Ok(Self { stop, seen, thread: Some(thread) })
    }

    /// The newest version it has seen.
    #[must_use]
    pub fn seen(&self) -> u64 {
        self.seen.load(Ordering::SeqCst)
    }

    /// Whether it has ended, which it does by itself only when something is wrong.
    #[must_use]
    pub fn is_over(&self) -> bool {
        self.thread.as_ref().is_none_or(JoinHandle::is_finished)
    }

    /// Ends it; how often it has looked.
    ///
    /// # Errors
    /// What was wrong.
    pub fn stop(mut self) -> Result<u64, String> {
        self.stop.store(true, Ordering::SeqCst);
        let thread = self.thread.take().ok_or("it was ended before")?;
        thread.join().unwrap_or_else(|_| Err("a panic".into()))
    }
}

impl Drop for Watcher {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::SeqCst);
        if let Some(thread) = self.thread.take() {
            // The test has failed already.
            let _ = thread.join();
        }
    }
}

fn watch(root: &Path, seed: u64, stop: &AtomicBool, seen: &AtomicU64) -> Result<u64, String> {
    let mut rng = StdRng::seed_from_u64(seed);
    let options = OpenOptions { read_only: true, create: false, ..OpenOptions::default() };
    let mut looks = 0;
    while !stop.load(Ordering::SeqCst) {
        let connection = Connection::open(Root::Path(root.to_path_buf()), options.clone())
            .map_err(|error| format!("a reader cannot open the database: {error}"))?;
        let session = connection.session();
        let mut looked = Ok(());
        for _ in 0..rng.random_range(2..20) {
            if stop.load(Ordering::SeqCst) || looked.is_err() {
                break;
            }
            looked = snapshot::look(&connection, &session, &mut rng).map(|_| ());
            let (version, newest) = (connection.version(), seen.load(Ordering::SeqCst));
            if version < newest {
                looked = looked.and(Err(format!("a reader at version {newest} was at {version} later")));
            }
            seen.store(version.max(newest), Ordering::SeqCst);
            looks += 1;
            // It shares the processors with those it looks at.
            std::thread::sleep(Duration::from_millis(rng.random_range(100..400)));
        }
        connection.end_session(session);
        connection.abandon();
        looked.map_err(|what| format!("a reader beside the writers: {what}"))?;
    }
    Ok(looks)
}
