//! The commit order: the one place where versions are given out and where a commit becomes durable and visible.
//!
//! Owns: the accepted head (durable or not), the group waiting for the log, the published version, and what happens
//! when the log fails. Does not own: what makes a conflict (`transaction`), bytes (`wal`).
//!
//! Order of one commit: accept (conflicts, version, row ids, under one short lock) -> log, one write and one sync for all that wait ->
//! publish -> acknowledge. Locks: `drive` before `accepted` before `published`; none is held across I/O but `drive`.
//!
//! Whoever finds nobody leading leads: it logs its own commit with all that wait. What was accepted meanwhile is logged by the next who
//! commits or by a task, so that those who commit only wait for their own answer and no lock goes from one to the next.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};
use std::time::Duration;

use bytes::Bytes;
use tokio::runtime::Handle;
use tokio::sync::oneshot;
use tokio::sync::oneshot::error::TryRecvError;

use crate::error::{Error, ErrorKind, Result};
use crate::id::{CommitId, CommitVersion, TableId};
use crate::manifest::history::CommitFound;
use crate::metrics::{CommitMetrics, WalMetrics};
use crate::version::Version;
use crate::wal::{AppendError, CommitInfo, Group, Unsent, Wal};

/// After so many groups of one commit nobody is expected to come along, but once in as many.
const ALONE_GROUPS: u32 = 16;

/// Commits kept for `system.versions`.
pub(super) const HISTORY_COMMITS: usize = 10_000;

/// One commit, for `system.versions`.
#[derive(Clone, Debug)]
pub struct VersionRow {
    /// Its version.
    pub version: CommitVersion,
    /// µs since 1970 UTC.
    pub time_us: i64,
    /// Unique id.
    pub commit_id: CommitId,
    /// Who and why.
    pub info: CommitInfo,
    /// Tables whose rows changed.
    pub tables: Vec<TableId>,
    /// Rows appended.
    pub rows_added: u64,
    /// Rows deleted one by one (TRUNCATE counts none).
    pub rows_deleted: u64,
}

/// A commit that has its version but is not durable yet.
struct Pending {
    payload: Bytes,
    row: VersionRow,
    after: Arc<Version>,
    done: oneshot::Sender<Result<()>>,
}

struct Accepted {
    head: Arc<Version>,
    pending: Vec<Pending>,
    /// Ids that clients gave to commits which were accepted here, as far as somebody may have looked for one in vain before: those
    /// since the newest manifest, and those since the oldest of `asking`. Whoever looks later finds them.
    named: HashMap<CommitId, CommitVersion>,
    /// What was published when they began to look, of all who are to commit under an id and have not yet: how many.
    asking: BTreeMap<CommitVersion, u64>,
    /// Whether somebody is about to log all of `pending`.
    led: bool,
    /// Groups of one commit since the last of several.
    alone: u32,
    poisoned: Option<Error>,
}

impl Accepted {
    /// Whether others may be about to commit too. Asking them costs one connection alone a tenth of its commits: its thread looks
    /// for other work and wakes another thread to do so.
    fn may_be_joined(&self) -> bool {
        self.led
            || self.pending.len() > 1
            || self.alone < ALONE_GROUPS
            || self.alone.is_multiple_of(ALONE_GROUPS)
    }
}

/// What the accept step hands on.
pub(crate) struct Accept {
    /// The state after the commit.
    pub(crate) after: Version,
    /// Its WAL payload.
    pub(crate) payload: Bytes,
    /// Its row of the history.
    pub(crate) row: VersionRow,
}

/// Waits for a commit's durability.
pub(crate) struct Ticket {
    done: oneshot::Receiver<Result<()>>,
    /// Whether others may be about to commit too.
    may_be_joined: bool,
}

/// Somebody looks for the commit of an id, to make it when it is not there.
pub(crate) struct Asking {
    order: Arc<CommitOrder>,
    since: CommitVersion,
}

impl Drop for Asking {
    fn drop(&mut self) {
        let mut accepted = held(&self.order.accepted);
        if let Some(count) = accepted.asking.get_mut(&self.since) {
            *count -= 1;
            if *count == 0 {
                accepted.asking.remove(&self.since);
            }
        }
    }
}

/// See the module.
pub(crate) struct CommitOrder {
    accepted: Mutex<Accepted>,
    /// Whether `accepted.poisoned` is there, which is for good: whoever begins asks, and is not to wait for those who commit.
    is_poisoned: AtomicBool,
    published: RwLock<Arc<Version>>,
    drive: Arc<tokio::sync::Mutex<()>>,
    wal: Arc<dyn Wal>,
    history: Mutex<VecDeque<VersionRow>>,
    ids: Mutex<RecentIds>,
    metrics: CommitMetrics,
}

/// Ids and times of the commits that are in no `history` object yet, in order of dense versions.
#[derive(Debug)]
struct RecentIds {
    first: CommitVersion,
    commits: Vec<(CommitId, i64)>,
}

impl std::fmt::Debug for CommitOrder {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("CommitOrder").field("wal", &self.wal).finish_non_exhaustive()
    }
}

/// Is about to log all that is pending; nobody else is meanwhile.
struct Leading(Arc<CommitOrder>);

impl Drop for Leading {
    fn drop(&mut self) {
        let mut accepted = held(&self.0.accepted);
        accepted.led = false;
        // Where logging has failed in a way nobody thought of, those who wait find their tickets closed.
        let given_up = match std::thread::panicking() {
            true => std::mem::take(&mut accepted.pending),
            false => Vec::new(),
        };
        let left = !accepted.pending.is_empty();
        // Before the task: a runtime that ends drops it at once.
        drop(accepted);
        drop(given_up);
        if left && let Ok(runtime) = Handle::try_current() {
            runtime.spawn(Arc::clone(&self.0).log_the_rest());
        }
    }
}

/// Exclusive use of the log; while it is held no group is in flight.
pub(crate) struct Driving {
    order: Arc<CommitOrder>,
    _guard: tokio::sync::OwnedMutexGuard<()>,
}

/// A poisoned std lock only says that another thread panicked; the values behind ours are swapped whole.
fn held<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl CommitOrder {
    /// Goes on from `start`; `history` are the commits since the newest manifest, which describes `described`.
    pub(crate) fn new(
        start: Arc<Version>,
        wal: Arc<dyn Wal>,
        history: Vec<VersionRow>,
        described: CommitVersion,
    ) -> Self {
        let since = history.iter().filter(|row| row.version > described);
        let commits = since.map(|row| (row.commit_id, row.time_us)).collect();
        let ids = Mutex::new(RecentIds { first: described.next(), commits });
        Self {
            ids,
            accepted: Mutex::new(Accepted {
                head: Arc::clone(&start),
                pending: Vec::new(),
                named: HashMap::new(),
                asking: BTreeMap::new(),
                led: false,
                alone: 0,
                poisoned: None,
            }),
            is_poisoned: AtomicBool::new(false),
            published: RwLock::new(start),
            drive: Arc::default(),
            wal,
            history: Mutex::new(history.into()),
            metrics: CommitMetrics::default(),
        }
    }

    pub(crate) fn wal_status(&self) -> crate::wal::WalStatus {
        self.wal.status()
    }

    pub(crate) fn wal_metrics(&self) -> Arc<WalMetrics> {
        self.wal.metrics()
    }

    pub(crate) fn metrics(&self) -> &CommitMetrics {
        &self.metrics
    }

    /// The newest durable version.
    pub(crate) fn published(&self) -> Arc<Version> {
        Arc::clone(&self.published.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// The newest accepted version, durable or not.
    pub(crate) fn head(&self) -> Arc<Version> {
        Arc::clone(&held(&self.accepted).head)
    }

    fn publish(&self, version: Arc<Version>) {
        let mut published = self.published.write().unwrap_or_else(PoisonError::into_inner);
        let before = std::mem::replace(&mut *published, version);
        drop(published);
        // Its rows and keys may go with it, which nobody is to wait for.
        drop(before);
    }

    pub(crate) fn history(&self) -> Vec<VersionRow> {
        held(&self.history).iter().cloned().collect()
    }

    /// To be taken before an id is looked for, and kept until its commit is [accepted](Self::accept) or given up.
    pub(crate) fn asking(self: &Arc<Self>) -> Asking {
        let mut accepted = held(&self.accepted);
        let since = self.published().number;
        *accepted.asking.entry(since).or_default() += 1;
        drop(accepted);
        Asking { order: Arc::clone(self), since }
    }

    /// Runs `commit` against the accepted head; when it succeeds the commit has its version. `named` is the id that a client gave
    /// it.
    ///
    /// # Errors
    /// What `commit` says; `Conflict` when a commit of that id was accepted already.
    pub(crate) fn accept(
        &self,
        named: Option<CommitId>,
        commit: impl FnOnce(&Version) -> Result<Accept>,
    ) -> Result<Ticket> {
        let mut accepted = held(&self.accepted);
        if let Some(error) = &accepted.poisoned {
            return Err(error.clone());
        }
        if let Some(id) = named
            && accepted.named.contains_key(&id)
        {
            return Err(Error::new(ErrorKind::Conflict, format!("commit {id} is under way already"))
                .with_hint("run the statement again: it is applied once"));
        }
        let Accept { after, payload, row } = commit(&accepted.head).inspect_err(|error| {
            if error.kind() == ErrorKind::Conflict {
                self.metrics.conflicts.one();
            }
        })?;
        let after = Arc::new(after);
        let (done, ticket) = oneshot::channel();
        accepted.head = Arc::clone(&after);
        accepted.named.extend(named.map(|id| (id, row.version)));
        accepted.pending.push(Pending { payload, row, after, done });
        Ok(Ticket { done: ticket, may_be_joined: accepted.may_be_joined() })
    }

    /// Waits until the commit is durable and published, leading the group itself when nobody else does.
    pub(crate) async fn settle(self: &Arc<Self>, mut ticket: Ticket) -> Result<()> {
        // Whoever is about to commit on this thread comes along: one sync for all of them. Before the lock, which whoever yields
        // would keep for as long as the others of its thread run.
        if ticket.may_be_joined {
            tokio::task::yield_now().await;
        }
        let answer = match ticket.done.try_recv() {
            Err(TryRecvError::Empty) => {
                self.lead_if_nobody_does().await;
                ticket.done.await.ok()
            }
            // A ticket that was found closed must not be asked again.
            answer => answer.ok(),
        };
        answer.unwrap_or_else(|| {
            let unknown = Error::new(ErrorKind::OutcomeUnknown, "a commit was neither done nor failed")
                .with_hint("close and open the database, then look whether the change is there");
            self.poison(&unknown);
            Err(unknown)
        })
    }

    /// Logs what was accepted while a group was logged, and whose callers therefore wait for somebody else.
    async fn log_the_rest(self: Arc<Self>) {
        // Those who have their answer come along with their next commits, or lead before this task is asked again.
        tokio::task::yield_now().await;
        self.lead_if_nobody_does().await;
    }

    async fn lead_if_nobody_does(self: &Arc<Self>) {
        let leading = {
            let mut accepted = held(&self.accepted);
            if accepted.led || accepted.pending.is_empty() {
                return;
            }
            accepted.led = true;
            Leading(Arc::clone(self))
        };
        let driving = self.driving().await;
        self.flush(driving).await;
        drop(leading);
    }

    /// Waits until everything accepted so far is durable or failed.
    pub(crate) async fn settle_all(self: &Arc<Self>) {
        let driving = self.driving().await;
        self.flush(driving).await;
    }

    /// Logs and publishes all pending commits, in a task of its own where the log waits: a caller that goes away must not take the
    /// answer for a group with it.
    async fn flush(&self, driving: Driving) {
        if !self.wal.waits() {
            return driving.flush().await;
        }
        if let Err(early) = tokio::spawn(async move { driving.flush().await }).await {
            // What of the group is durable nobody knows; those who wait for it find their tickets closed.
            self.poison(&Error::internal(format!("writing the log ended early: {early}")));
        }
    }

    pub(crate) async fn driving(self: &Arc<Self>) -> Driving {
        let guard = Arc::clone(&self.drive).lock_owned().await;
        Driving { order: Arc::clone(self), _guard: guard }
    }

    /// Stops all further commits with `error`; reads go on.
    pub(crate) fn poison(&self, error: &Error) {
        let error = match self.wal.unsent() {
            Some(unsent) if error.kind() == ErrorKind::Fenced => unsent.beside(error),
            _ => error.clone(),
        };
        self.stop(&mut held(&self.accepted), error);
    }

    fn stop(&self, accepted: &mut Accepted, error: Error) {
        accepted.poisoned.get_or_insert(error);
        self.is_poisoned.store(true, Ordering::Release);
    }

    /// Waits until everything logged so far is where everybody finds it.
    ///
    /// # Errors
    /// The log's, when it is not within `timeout`; it is durable here all the same.
    pub(crate) async fn drain(&self, timeout: Duration) -> Result<()> {
        self.wal.drain(timeout).await
    }

    /// What is durable on this machine only; None: the log knows no such thing.
    pub(crate) fn unsent(&self) -> Option<Unsent> {
        self.wal.unsent()
    }

    /// The error that stopped commits, if any.
    pub(crate) fn poisoned(&self) -> Option<Error> {
        if !self.is_poisoned.load(Ordering::Acquire) {
            return None;
        }
        held(&self.accepted).poisoned.clone()
    }

    /// The durable commit of that id, if it is younger than the newest manifest.
    pub(crate) fn commit_of(&self, id: CommitId) -> Option<CommitFound> {
        let ids = held(&self.ids);
        let at = ids.commits.iter().rposition(|(known, _)| *known == id)?;
        let version = CommitVersion(ids.first.0 + at as u64);
        Some(CommitFound { commit_id: id, version, time_us: ids.commits[at].1 })
    }

    /// The commits up to `version` that are in no `history` object yet, with the version of the first.
    pub(crate) fn ids_up_to(&self, version: CommitVersion) -> (CommitVersion, Vec<(CommitId, i64)>) {
        let ids = held(&self.ids);
        let count = version.next().0.saturating_sub(ids.first.0);
        let commits = ids.commits.iter().take(usize::try_from(count).unwrap_or(usize::MAX));
        (ids.first, commits.copied().collect())
    }

    /// The commits up to `version` are in a `history` object.
    pub(crate) fn forget_ids_up_to(&self, version: CommitVersion) {
        let mut ids = held(&self.ids);
        let count = usize::try_from(version.next().0.saturating_sub(ids.first.0)).unwrap_or(usize::MAX);
        let count = count.min(ids.commits.len());
        ids.commits.drain(..count);
        ids.first = CommitVersion(ids.first.0 + count as u64);
        drop(ids);
        let mut accepted = held(&self.accepted);
        let found = accepted.asking.keys().next().map_or(version, |since| version.min(*since));
        accepted.named.retain(|_, named| *named > found);
    }

    /// How many ids of commits are remembered.
    #[cfg(test)]
    pub(crate) fn named_kept(&self) -> usize {
        held(&self.accepted).named.len()
    }

    /// Remembers the commits of a group.
    fn record(&self, rows: Vec<VersionRow>) {
        held(&self.ids).commits.extend(rows.iter().map(|row| (row.commit_id, row.time_us)));
        self.metrics.groups.one();
        self.metrics.commits.add(rows.len() as u64);
        self.metrics.rows_added.add(rows.iter().map(|row| row.rows_added).sum());
        self.metrics.rows_deleted.add(rows.iter().map(|row| row.rows_deleted).sum());
        let mut history = held(&self.history);
        history.extend(rows);
        let beyond = history.len().saturating_sub(HISTORY_COMMITS);
        history.drain(..beyond);
    }
}

impl Driving {
    /// Logs and publishes all pending commits. No await lies between the log's answer and publishing, the file log never yields and
    /// one that does is driven by a task, so a dropped caller leaves either all or nothing of a group behind.
    pub(crate) async fn flush(&self) {
        let group = {
            let mut accepted = held(&self.order.accepted);
            let group = std::mem::take(&mut accepted.pending);
            accepted.alone = match group.len() {
                0 => accepted.alone,
                1 => accepted.alone.wrapping_add(1),
                _ => 0,
            };
            group
        };
        self.log(group).await;
    }

    /// Logs and publishes all that is accepted at one instant, with a border under its hot rows and keys: commits
    /// accepted later share no chunk and no key generation with it. Returns that version.
    ///
    /// # Errors
    /// The log's, when the versions up to the border did not become durable.
    pub(crate) async fn cut(&self) -> Result<Arc<Version>> {
        let order = &self.order;
        let (group, sealed) = {
            let mut accepted = held(&order.accepted);
            let sealed = Arc::new(accepted.head.sealed());
            accepted.head = Arc::clone(&sealed);
            match accepted.pending.last_mut() {
                Some(last) => last.after = Arc::clone(&sealed),
                None => order.publish(Arc::clone(&sealed)),
            }
            (std::mem::take(&mut accepted.pending), sealed)
        };
        self.log(group).await;
        if let Some(error) = order.poisoned() {
            return Err(error);
        }
        if order.published().number < sealed.number {
            return Err(Error::new(ErrorKind::Unavailable, "the log could not take the last commits"));
        }
        Ok(sealed)
    }

    async fn log(&self, group: Vec<Pending>) {
        let order = &self.order;
        let Some(first) = group.first() else { return };
        let entries = group.iter().map(|p| p.payload.clone()).collect();
        match order.wal.append(Group { first: first.row.version, entries }).await {
            Ok(()) => {
                let (mut rows, mut waiting) =
                    (Vec::with_capacity(group.len()), Vec::with_capacity(group.len()));
                let mut newest = None;
                for Pending { row, after, done, .. } in group {
                    rows.push(row);
                    waiting.push(done);
                    newest = Some(after);
                }
                order.record(rows);
                // All of a group are durable by now: they are seen together, by the version of the last.
                if let Some(newest) = newest {
                    order.publish(newest);
                }
                for done in waiting {
                    // The receiver may be gone: its statement was cancelled after the point of no return.
                    let _ = done.send(Ok(()));
                }
            }
            Err(AppendError::Clean(error)) => {
                // Not a byte was written: versions are given back, also those accepted on top meanwhile.
                let mut accepted = held(&order.accepted);
                let later = std::mem::take(&mut accepted.pending);
                accepted.head = order.published();
                for pending in group.iter().chain(&later) {
                    accepted.named.remove(&pending.row.commit_id);
                }
                drop(accepted);
                for pending in group.into_iter().chain(later) {
                    let _ = pending.done.send(Err(error.clone()));
                }
            }
            Err(AppendError::Unknown(error)) => {
                let stopped = match error.kind() {
                    ErrorKind::Fenced => error.clone(),
                    _ => Error::new(
                        ErrorKind::Unavailable,
                        format!(
                            "the write-ahead log failed, so this database only answers reads: {}",
                            error.message()
                        ),
                    )
                    .with_hint("check the disk, then close and open the database again")
                    .with_source(error.clone()),
                };
                let mut accepted = held(&order.accepted);
                order.stop(&mut accepted, stopped);
                let later = std::mem::take(&mut accepted.pending);
                accepted.head = order.published();
                drop(accepted);
                for pending in group.into_iter().chain(later) {
                    // Another writer's object stands where this one's would: it is nowhere.
                    if error.kind() == ErrorKind::Fenced {
                        let _ = pending.done.send(Err(error.clone()));
                        continue;
                    }
                    let unknown = Error::new(
                        ErrorKind::OutcomeUnknown,
                        format!("commit outcome unknown (id {})", pending.row.commit_id),
                    )
                    .with_detail(error.message().to_owned())
                    .with_hint("close and open the database, then look whether the change is there");
                    let _ = pending.done.send(Err(unknown));
                }
            }
        }
    }

    /// The log, with nothing in flight.
    pub(crate) fn wal(&self) -> &Arc<dyn Wal> {
        &self.order.wal
    }

    /// Replaces the published version, the head and every pending version by `change` of it: same commits, other
    /// physical layout.
    pub(crate) fn relayout(&self, change: impl Fn(&Version) -> Version) {
        let mut accepted = held(&self.order.accepted);
        self.order.publish(Arc::new(change(&self.order.published())));
        for pending in &mut accepted.pending {
            pending.after = Arc::new(change(&pending.after));
        }
        accepted.head = match accepted.pending.last() {
            Some(pending) => Arc::clone(&pending.after),
            None => self.order.published(),
        };
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use uuid::Uuid;

    use super::*;
    use crate::fs::SimFileSystem;
    use crate::id::{DatabaseId, WalNumber};
    use crate::wal::{FileWal, FileWalOptions, SyncMode};

    /// An order over an empty database.
    fn order() -> Arc<CommitOrder> {
        let options = FileWalOptions::new(DatabaseId(Uuid::from_u128(42)), SyncMode::Full);
        let fs = Arc::new(SimFileSystem::new(1));
        let wal = FileWal::create(fs, options, WalNumber(1), CommitVersion(1), None).unwrap();
        Arc::new(CommitOrder::new(Arc::default(), Arc::new(wal), Vec::new(), CommitVersion(0)))
    }

    /// A commit that changes nothing but the version.
    fn accept(order: &CommitOrder) -> Ticket {
        let accepted = order.accept(None, |head| {
            let version = head.number.next();
            let row = VersionRow {
                version,
                time_us: 0,
                commit_id: CommitId::random(),
                info: CommitInfo::default(),
                tables: Vec::new(),
                rows_added: 0,
                rows_deleted: 0,
            };
            let after = Version { number: version, ..head.clone() };
            Ok(Accept { after, payload: Bytes::from_static(b"commit"), row })
        });
        accepted.unwrap()
    }

    #[tokio::test]
    async fn a_commit_whose_group_was_given_up_before_it_asked_has_an_unknown_outcome() {
        let order = order();
        let (first, second) = (accept(&order), accept(&order));
        // As a leader leaves them who panicked.
        held(&order.accepted).pending.clear();
        assert!(order.poisoned().is_none());
        for ticket in [first, second] {
            let error = order.settle(ticket).await.unwrap_err();
            assert_eq!(error.kind(), ErrorKind::OutcomeUnknown);
        }
        assert_eq!(order.poisoned().unwrap().kind(), ErrorKind::OutcomeUnknown);
        let refused = order.accept(None, |_| Err(Error::internal("it was asked"))).err().unwrap();
        assert_eq!(refused.kind(), ErrorKind::OutcomeUnknown);
        assert_eq!(order.published().number, CommitVersion(0));
    }

    /// Whoever goes away between being accepted and being durable leaves nobody waiting.
    #[tokio::test]
    async fn a_commit_whose_leader_goes_away_is_logged_by_somebody_else() {
        let order = order();
        let (first, second) = (accept(&order), accept(&order));
        let driving = order.driving().await;
        {
            let mut leads = Box::pin(order.settle(first));
            // It yields to others, then it leads and waits for the log.
            assert!(futures::poll!(&mut leads).is_pending());
            assert!(futures::poll!(&mut leads).is_pending());
            assert!(held(&order.accepted).led);
        }
        drop(driving);
        order.settle(second).await.unwrap();
        assert_eq!(order.published().number, CommitVersion(2));
        assert_eq!(order.history().len(), 2);
        assert!(!held(&order.accepted).led);
    }
}
