//! Statements that run now: what `system.queries` shows and KILL QUERY ends.
//!
//! Owns: their list, and telling one that it is to end. Does not own: ending it, which whoever waits for it does (`session::limits`),
//! and asking for rights (`session`).

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::{Instant, SystemTime};

use cairn_storage::ErrorKind;
use cairn_storage::id::UserId;
use tokio::sync::Notify;

use crate::context::Progress;
use crate::error::{Error, Result};
use crate::session::PartOfMemory;
use crate::statement::fingerprint;

/// Bytes of a statement's text that are kept: more than are ever read of it.
const TEXT_BYTES_MAX: usize = 65 << 10;

/// See the module.
#[derive(Debug, Default)]
pub(crate) struct RunningStatements {
    by_id: Mutex<BTreeMap<u64, Arc<RunningStatement>>>,
    last: AtomicU64,
    sessions: AtomicU64,
}

/// How far a statement is.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct StatementProgress {
    /// It waits for its turn.
    pub is_waiting: bool,
    /// Rows read or written so far; those it answers with do not count.
    pub rows: u64,
    /// Bytes of input read so far.
    pub bytes: u64,
    /// Bytes of input in all; 0 when not known.
    pub bytes_total: u64,
}

/// Whose statement one is.
#[derive(Clone, Debug)]
pub(crate) struct Whose {
    /// The number of its session.
    pub(crate) session: u64,
    /// None: of the owner of the database.
    pub(crate) user_id: Option<UserId>,
    /// Name; may be empty.
    pub(crate) user: String,
    /// Where it came from; empty: this process.
    pub(crate) client: String,
    /// What the session's statements hold.
    pub(crate) memory: Arc<PartOfMemory>,
}

/// One statement.
#[derive(Debug)]
pub(crate) struct RunningStatement {
    pub(crate) id: u64,
    pub(crate) whose: Whose,
    pub(crate) begun: SystemTime,
    pub(crate) since: Instant,
    text: String,
    is_parsed: AtomicBool,
    is_admitted: AtomicBool,
    rows: AtomicU64,
    progress: OnceLock<Arc<Progress>>,
    is_killed: AtomicBool,
    /// Wakes those who wait for `is_killed`.
    killed: Notify,
}

/// A statement's place in the list, until it is dropped.
#[derive(Debug)]
pub(crate) struct Running {
    list: Arc<RunningStatements>,
    statement: Arc<RunningStatement>,
}

impl RunningStatements {
    /// A number for a new session.
    pub(crate) fn next_session(&self) -> u64 {
        self.sessions.fetch_add(1, Ordering::Relaxed) + 1
    }

    /// A statement of that text begins.
    pub(crate) fn begin(self: &Arc<Self>, text: &str, whose: Whose) -> Running {
        let statement = Arc::new(RunningStatement {
            id: self.last.fetch_add(1, Ordering::Relaxed) + 1,
            whose,
            begun: SystemTime::now(),
            since: Instant::now(),
            text: text[..text.floor_char_boundary(TEXT_BYTES_MAX)].to_owned(),
            is_parsed: AtomicBool::new(false),
            is_admitted: AtomicBool::new(false),
            rows: AtomicU64::new(0),
            progress: OnceLock::new(),
            is_killed: AtomicBool::new(false),
            killed: Notify::new(),
        });
        self.held().insert(statement.id, Arc::clone(&statement));
        Running { list: Arc::clone(self), statement }
    }

    /// Those that run now, the oldest first.
    pub(crate) fn all(&self) -> Vec<Arc<RunningStatement>> {
        self.held().values().cloned().collect()
    }

    /// The one of that number.
    pub(crate) fn find(&self, id: u64) -> Option<Arc<RunningStatement>> {
        self.held().get(&id).cloned()
    }

    /// The one of that session that began last.
    pub(crate) fn newest_of(&self, session: u64) -> Option<Arc<RunningStatement>> {
        self.held().values().rev().find(|statement| statement.whose.session == session).cloned()
    }

    fn held(&self) -> MutexGuard<'_, BTreeMap<u64, Arc<RunningStatement>>> {
        // Nothing panics while holding it.
        self.by_id.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl RunningStatement {
    /// The text without literals.
    pub(crate) fn fingerprint(&self) -> String {
        fingerprint(&self.text, self.is_parsed.load(Ordering::Relaxed))
    }

    /// `waiting` for its turn, or `running`.
    pub(crate) fn state(&self) -> &'static str {
        if self.is_admitted.load(Ordering::Relaxed) { "running" } else { "waiting" }
    }

    /// Rows answered, read from files or written so far.
    pub(crate) fn rows(&self) -> u64 {
        let progress = self.progress.get().map_or(0, |progress| progress.rows.load(Ordering::Relaxed));
        self.rows.load(Ordering::Relaxed) + progress
    }

    /// How far it is.
    pub(crate) fn how_far(&self) -> StatementProgress {
        let is_waiting = !self.is_admitted.load(Ordering::Relaxed);
        let Some(progress) = self.progress.get() else {
            return StatementProgress { is_waiting, ..StatementProgress::default() };
        };
        StatementProgress {
            is_waiting,
            rows: progress.rows.load(Ordering::Relaxed),
            bytes: progress.bytes.load(Ordering::Relaxed),
            bytes_total: progress.bytes_total.load(Ordering::Relaxed),
        }
    }

    /// The statement has been read.
    pub(crate) fn is_parsed(&self) {
        self.is_parsed.store(true, Ordering::Relaxed);
    }

    /// It waits no more.
    pub(crate) fn is_admitted(&self) {
        self.is_admitted.store(true, Ordering::Relaxed);
    }

    /// It has answered so many rows more.
    pub(crate) fn answers(&self, rows: u64) {
        self.rows.fetch_add(rows, Ordering::Relaxed);
    }

    /// Where it tells how far it is.
    pub(crate) fn tells(&self, progress: &Arc<Progress>) {
        self.progress.get_or_init(|| Arc::clone(progress));
    }

    /// It is to end.
    pub(crate) fn kill(&self) {
        self.is_killed.store(true, Ordering::SeqCst);
        self.killed.notify_waiters();
    }

    /// Waits until it is to end; its error then.
    pub(crate) async fn killed(&self) -> Error {
        // It is woken by whoever kills from here on.
        let killed = self.killed.notified();
        if !self.is_killed.load(Ordering::SeqCst) {
            killed.await;
        }
        self.ended()
    }

    /// That it is not to end.
    ///
    /// # Errors
    /// As [`killed`](Self::killed) says.
    pub(crate) fn check(&self) -> Result<()> {
        if self.is_killed.load(Ordering::SeqCst) { Err(self.ended()) } else { Ok(()) }
    }

    fn ended(&self) -> Error {
        Error::new(ErrorKind::Cancelled, format!("the statement was ended by KILL QUERY {}", self.id))
            .map(|e| e.with_sqlstate("57014"))
    }
}

impl Running {
    /// The statement.
    pub(crate) fn statement(&self) -> &Arc<RunningStatement> {
        &self.statement
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.list.held().remove(&self.statement.id);
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use datafusion::execution::memory_pool::UnboundedMemoryPool;

    use super::*;

    #[tokio::test]
    async fn whoever_waits_hears_of_the_kill_whenever_it_comes() {
        let list = Arc::new(RunningStatements::default());
        let memory = Arc::new(PartOfMemory::of_user(Arc::new(UnboundedMemoryPool::default())));
        let (user, client) = (String::new(), String::new());
        let running = list.begin("SELECT 1", Whose { session: 1, user_id: None, user, client, memory });
        let statement = Arc::clone(running.statement());
        let (mut waits, mut given_up) = (Box::pin(statement.killed()), Box::pin(statement.killed()));
        assert!(futures::poll!(&mut waits).is_pending());
        assert!(futures::poll!(&mut given_up).is_pending());
        drop(given_up);
        assert!(statement.check().is_ok());
        statement.kill();
        for error in [waits.await, statement.killed().await, statement.check().unwrap_err()] {
            assert_eq!((error.kind(), error.sqlstate()), (ErrorKind::Cancelled, "57014"));
        }
        assert!(list.find(statement.id).is_some());
        drop(running);
        assert!(list.all().is_empty());
    }
}
