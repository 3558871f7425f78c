//! The database: one handle on one root, for the one writer or for a reader that follows it.
//!
//! Owns: opening (lock, recovery), publishing, back-pressure, background checkpoints, following, closing. Does not own:
//! the commit order (`order`), what a checkpoint writes (`checkpoint`), conflicts (`transaction`).

pub(crate) mod advisory;
pub(crate) mod boundary;
mod claim;
mod clock;
mod collection;
mod compaction;
mod figures;
mod follow;
mod indexes;
mod jobs;
pub(crate) mod journal;
pub(crate) mod lock;
mod open;
mod options;
mod order;
pub(crate) mod replay;
#[cfg(test)]
pub(crate) mod tests;

use std::collections::HashSet;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError, Weak};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use object_store::ObjectStore;
use tokio::task::JoinHandle;

pub use clock::Clock;
pub(crate) use follow::pin_path;
pub use jobs::{JobsReceipt, JobsWanted};
pub use journal::{JournalContents, Sent, default_journal_directory};
pub use options::{ClaimAt, Durability, OpenOptions, Root};
pub use order::VersionRow;
pub(crate) use order::{Accept, CommitOrder};
pub(crate) use replay::row as replay_row;

use crate::checkpoint::{CheckpointReason, CheckpointReceipt};
use crate::collect::{Swept, Uploads};
use crate::error::{Error, ErrorKind, Result};
use crate::fs::File;
use crate::id::{CommitId, CommitVersion, DatabaseId, Epoch, ObjectId, ObjectIds};
use crate::jobs::{JobKind, JobLimits, Jobs};
use crate::manifest::history::{self, CommitFound, KnownCommits};
use crate::manifest::{Manifest, ManifestStore};
use crate::metrics::ObjectMetrics;
use crate::segment::ColumnCache;
use crate::transaction::Transaction;
use crate::verify::{Depth, Finding, VerifyScope};
use crate::version::{Shared, Snapshot, TableState};
use crate::wal::{SyncMode, Unsent, WalStatus};
use follow::Follower;

/// Least log that is worth a checkpoint while nobody commits.
const IDLE_WAL_BYTES: u64 = 1 << 20;

/// The writer's half.
#[derive(Debug)]
pub(crate) struct Writer {
    pub(crate) order: Arc<CommitOrder>,
    pub(crate) epoch: Epoch,
    /// The version it began with.
    since: CommitVersion,
    pub(crate) ids: ObjectIds,
    /// Whose objects no commit names yet.
    pub(crate) uploads: Uploads,
    /// Commits that the log has no more.
    pub(crate) known: KnownCommits,
    /// The newest manifest; holding it is what makes checkpoints one at a time.
    pub(crate) manifest: tokio::sync::Mutex<Option<Arc<Manifest>>>,
    /// Exclusive lock on the root; released on closing, at the latest when the handle goes.
    lock: Mutex<Option<Arc<dyn File>>>,
}

impl Writer {
    fn new(
        order: CommitOrder,
        epoch: Epoch,
        manifest: Option<Manifest>,
        lock: Option<Arc<dyn File>>,
    ) -> Self {
        Self {
            since: order.published().number,
            order: Arc::new(order),
            epoch,
            ids: ObjectIds::new(epoch),
            uploads: Uploads::default(),
            known: KnownCommits::default(),
            manifest: tokio::sync::Mutex::new(manifest.map(Arc::new)),
            lock: Mutex::new(lock),
        }
    }
}

#[derive(Debug)]
enum Role {
    Writer(Writer),
    Follower(Follower),
    Claimable(Box<Claimable>),
}

/// Follows until it is claimed, and writes from then on.
#[derive(Debug)]
struct Claimable {
    follower: Follower,
    writer: OnceLock<Writer>,
    /// Held while it is claimed.
    claiming: tokio::sync::Mutex<()>,
}

impl Claimable {
    fn new(follower: Follower) -> Box<Self> {
        Box::new(Self { follower, writer: OnceLock::new(), claiming: tokio::sync::Mutex::default() })
    }
}

/// What a database does now.
enum Half<'a> {
    Writes(&'a Writer),
    Follows(&'a Follower),
}

/// One open database.
#[derive(Debug)]
pub struct Database {
    root: Root,
    options: OpenOptions,
    /// What requests to its bucket count; None: it has none.
    object_metrics: Option<Arc<ObjectMetrics>>,
    id: DatabaseId,
    pub(crate) shared: Arc<Shared>,
    pub(crate) manifests: ManifestStore,
    pub(crate) jobs: Jobs,
    /// Held by whoever keeps rows of jobs.
    saving_jobs: tokio::sync::Mutex<()>,
    role: Role,
    notes: Vec<String>,
    tasks: Mutex<Vec<JoinHandle<()>>>,
    checkpoint_due: AtomicBool,
    /// The version at the last look whether anybody commits.
    looked_at: AtomicU64,
    indexes: indexes::IndexUpkeep,
    collector: collection::Collector,
    compactor: compaction::Compactor,
    pub(crate) swept: Arc<Swept>,
    closed: AtomicBool,
}

impl Database {
    #[expect(clippy::too_many_arguments, reason = "the parts of a database, put together in two places")]
    fn over(
        root: Root,
        options: OpenOptions,
        id: DatabaseId,
        shared: Arc<Shared>,
        manifests: ManifestStore,
        role: Role,
        object_metrics: Option<Arc<ObjectMetrics>>,
        notes: Vec<String>,
    ) -> Arc<Self> {
        let limits = JobLimits {
            timeout: options.job_timeout,
            retention: options.job_retention,
            by_itself: options.upkeep,
        };
        let clock = options.clock.clone();
        Arc::new(Self {
            root,
            options,
            object_metrics,
            id,
            shared,
            manifests,
            jobs: Jobs::new(limits, jobs::node(), clock),
            saving_jobs: tokio::sync::Mutex::default(),
            role,
            notes,
            tasks: Mutex::default(),
            checkpoint_due: false.into(),
            looked_at: u64::MAX.into(),
            indexes: indexes::IndexUpkeep::default(),
            collector: collection::Collector::default(),
            compactor: compaction::Compactor::default(),
            swept: Arc::default(),
            closed: false.into(),
        })
    }

    /// The newest version published here.
    #[must_use]
    pub fn snapshot(&self) -> Snapshot {
        let version = match self.half() {
            Half::Writes(writer) => writer.order.published(),
            Half::Follows(follower) => {
                let seen = follower.published();
                // Claimed meanwhile: the follower may have let go of what it saw.
                match self.half() {
                    Half::Writes(writer) => writer.order.published(),
                    Half::Follows(_) => seen,
                }
            }
        };
        Snapshot::new(version, Arc::clone(&self.shared))
    }

    /// The columns that scans have decoded and that are kept. It keeps none until it is given a
    /// [limit](crate::segment::ColumnCache::set_limit): who plans the scans knows how much memory there is.
    #[must_use]
    pub fn columns(&self) -> &Arc<ColumnCache> {
        self.shared.cache.columns()
    }

    /// Drops what is kept decoded of segments that the newest version does not name any more.
    pub(crate) fn forget_columns(&self) {
        let columns = self.columns();
        if columns.bytes() == 0 {
            return;
        }
        let snapshot = self.snapshot();
        let segments = snapshot.state().tables.values().flat_map(|table| table.segments.iter());
        let named: HashSet<ObjectId> = segments.map(|segment| segment.meta.id).collect();
        columns.retain(|segment| named.contains(&segment));
    }

    /// A follower catches up with the writer, on object storage as far as `poll_interval` asks; a writer is always there.
    ///
    /// # Errors
    /// `Corrupt` or `Unavailable` from reading the log or a manifest; what was published stays.
    pub async fn refresh(&self) -> Result<()> {
        let max_age = if self.shared.remote { self.options.poll_interval } else { Duration::ZERO };
        self.refresh_to(max_age).await
    }

    async fn refresh_to(&self, max_age: Duration) -> Result<()> {
        match self.half() {
            Half::Writes(_) => Ok(()),
            Half::Follows(follower) => follower.refresh(self, max_age).await,
        }
    }

    fn half(&self) -> Half<'_> {
        match &self.role {
            Role::Writer(writer) => Half::Writes(writer),
            Role::Follower(follower) => Half::Follows(follower),
            Role::Claimable(claimable) => match claimable.writer.get() {
                Some(writer) => Half::Writes(writer),
                None => Half::Follows(&claimable.follower),
            },
        }
    }

    fn claimable(&self) -> Option<&Claimable> {
        match &self.role {
            Role::Claimable(claimable) => Some(claimable),
            Role::Writer(_) | Role::Follower(_) => None,
        }
    }

    /// Waits until `version` can be read here.
    ///
    /// # Errors
    /// `Unavailable` when it is not there within `timeout`; errors of [`refresh`](Self::refresh).
    pub async fn wait_for_version(&self, version: CommitVersion, timeout: Duration) -> Result<()> {
        let end = tokio::time::Instant::now() + timeout;
        loop {
            self.refresh_to(Duration::ZERO).await?;
            let now = self.snapshot().version();
            if now >= version {
                return Ok(());
            }
            if tokio::time::Instant::now() >= end {
                return Err(Error::new(
                    ErrorKind::Unavailable,
                    format!("version {version} is not there after {} ms", timeout.as_millis()),
                )
                .with_detail(format!("the newest version here is {now}")));
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }

    /// Begins a write set that reads at `snapshot`; a database on object storage is claimed for it.
    ///
    /// # Errors
    /// `ReadOnly` on a follower or a closed database; the log's error when it has failed; those of [`claim`](Self::claim), and `Conflict`
    /// when there are newer commits than `snapshot` knows.
    pub async fn begin(self: &Arc<Self>, snapshot: &Snapshot) -> Result<Transaction> {
        if self.follows() {
            // Boxed: it is large, and a writer does it once.
            Box::pin(self.claim()).await?;
        }
        let writer = self.writer()?;
        if let Some(error) = writer.order.poisoned() {
            return Err(error);
        }
        // What a follower saw may have been moved into segments since, where conflicts do not show.
        if snapshot.version() < writer.since {
            return Err(Error::new(ErrorKind::Conflict, "others have changed the database meanwhile")
                .with_hint("run the statement again"));
        }
        Ok(Transaction::new(Arc::clone(self), snapshot.clone()))
    }

    /// Whether it reads along with another writer now, and is to be [refreshed](Self::refresh) before it is read.
    #[must_use]
    pub fn follows(&self) -> bool {
        matches!(self.half(), Half::Follows(_))
    }

    /// Writes everything hot into segments and publishes a manifest. Blocks neither readers nor writers.
    ///
    /// # Errors
    /// Storage errors; the state is then as before, and durable commits stay durable.
    pub async fn checkpoint(self: &Arc<Self>, reason: CheckpointReason) -> Result<CheckpointReceipt> {
        let database = Arc::clone(self);
        // In a task of its own: dropped half-way it could leave a manifest this handle does not know.
        tokio::spawn(async move {
            database.save_jobs_before_checkpoint().await;
            let done = crate::checkpoint::run(&database, reason).await;
            database.index_soon();
            if done.as_ref().is_ok_and(|receipt| receipt.triggered) {
                database.collect_soon();
                database.compact_soon();
            }
            done
        })
        .await
        .map_err(|e| Error::internal(format!("a checkpoint ended early: {e}")))?
    }

    /// Checks every checksum and rule; one finding per object checked. Index units that cannot be used are built again in the
    /// background.
    ///
    /// # Errors
    /// Only when checking itself is impossible; damage is a finding.
    pub async fn verify(self: &Arc<Self>, scope: VerifyScope) -> Result<Vec<Finding>> {
        self.verify_to(scope, Depth::Plain).await
    }

    /// As [`verify`](Self::verify), and besides that every object says the same as the others about the same rows: the log makes the state
    /// that is read, index units have the rows and vectors of their segments, statistics are those of the values. Damage is named by its
    /// place, and found where nobody reads. Takes about twice as long.
    ///
    /// # Errors
    /// As [`verify`](Self::verify).
    pub async fn verify_deep(self: &Arc<Self>, scope: VerifyScope) -> Result<Vec<Finding>> {
        self.verify_to(scope, Depth::Deep).await
    }

    async fn verify_to(self: &Arc<Self>, scope: VerifyScope, depth: Depth) -> Result<Vec<Finding>> {
        let findings = crate::verify::run(self, scope, depth).await?;
        self.index_units_lost(findings.lost_units);
        Ok(findings.rows)
    }

    /// State of the log.
    #[must_use]
    pub fn wal_status(&self) -> WalStatus {
        match self.half() {
            Half::Writes(writer) => writer.order.wal_status(),
            Half::Follows(follower) => follower.status(),
        }
    }

    /// Commits that are acknowledged and not yet in the bucket; None unless this handle writes with [`Durability::Local`].
    #[must_use]
    pub fn unsent(&self) -> Option<Unsent> {
        match self.half() {
            Half::Writes(writer) => writer.order.unsent(),
            Half::Follows(_) => None,
        }
    }

    /// Recent commits, oldest first.
    #[must_use]
    pub fn versions(&self) -> Vec<VersionRow> {
        match self.half() {
            Half::Writes(writer) => writer.order.history(),
            Half::Follows(follower) => follower.history(),
        }
    }

    /// The commit of that id: whether a commit whose outcome was unknown took effect. Commits are known for 24 hours after the
    /// checkpoint that has their rows. On a follower as far as it has [read](Self::refresh).
    ///
    /// # Errors
    /// `Corrupt` when what may have it is damaged or missing: then nobody knows. Storage errors.
    pub async fn commit_version(&self, id: CommitId) -> Result<Option<CommitFound>> {
        let recent = match self.half() {
            Half::Writes(writer) => writer.order.commit_of(id),
            Half::Follows(follower) => follower.commit_of(id).or_else(|| match self.half() {
                // Claimed meanwhile: the follower may have let go of it.
                Half::Writes(writer) => writer.order.commit_of(id),
                Half::Follows(_) => None,
            }),
        };
        match recent {
            Some(found) => Ok(Some(found)),
            None => {
                let recorded = Arc::clone(&self.snapshot().state().recorded);
                history::find(&*self.shared.store, &recorded, id, self.options.clock.now_us()).await
            }
        }
    }

    /// The commit that one with this id, made here, would repeat. As [`commit_version`](Self::commit_version), but a writer asks the
    /// store for the ids of old commits only once: of a later writer's commits, which keep it from making any, it need not know.
    ///
    /// # Errors
    /// Storage errors; nobody knows then.
    pub async fn earlier_commit(&self, id: CommitId) -> Result<Option<CommitFound>> {
        let Half::Writes(writer) = self.half() else { return self.commit_version(id).await };
        if writer.order.poisoned().is_some() {
            return self.commit_version(id).await;
        }
        // First the log: a checkpoint that moves the commit meanwhile has it known before it leaves the log.
        if let Some(found) = writer.order.commit_of(id) {
            return Ok(Some(found));
        }
        let recorded = Arc::clone(&self.snapshot().state().recorded);
        writer.known.find(&*self.shared.store, &recorded, id, self.options.clock.now_us()).await
    }

    /// Objects below the root.
    #[must_use]
    pub fn object_store(&self) -> Arc<dyn ObjectStore> {
        Arc::clone(&self.shared.store)
    }

    /// Whether this handle only reads, whatever is asked of it.
    #[must_use]
    pub fn is_read_only(&self) -> bool {
        matches!(self.role, Role::Follower(_))
    }

    /// The database's own id.
    #[must_use]
    pub fn id(&self) -> DatabaseId {
        self.id
    }

    /// Where it lives.
    #[must_use]
    pub fn root(&self) -> &Root {
        &self.root
    }

    /// How it was opened.
    #[must_use]
    pub fn options(&self) -> &OpenOptions {
        &self.options
    }

    /// What opening found worth telling: a torn tail that was cut off, leftover files removed.
    #[must_use]
    pub fn notes(&self) -> &[String] {
        &self.notes
    }

    /// Ends cleanly: waits for running jobs, checkpoints when the log exceeds `close_wal_bytes`, seals the log,
    /// releases the lock. Nothing is lost without it. Calling it again does nothing.
    ///
    /// # Errors
    /// Storage errors of the last checkpoint or the seal; acknowledged commits are durable all the same. With [`Durability::Local`]
    /// also when some of them are not in the bucket after `commit_timeout`: the journal keeps them for the next opening.
    pub async fn close(self: &Arc<Self>) -> Result<()> {
        if self.closed.swap(true, Ordering::AcqRel) {
            return Ok(());
        }
        // A claim under way ends first, with all that it begins; none begins any more.
        if let Some(claimable) = self.claimable() {
            drop(claimable.claiming.lock().await);
        }
        self.indexes.stop();
        self.collector.stop();
        self.compactor.stop();
        let tasks = std::mem::take(&mut *self.tasks.lock().unwrap_or_else(PoisonError::into_inner));
        for task in tasks {
            // Timers and waiters; a checkpoint under way has a task of its own.
            task.abort();
        }
        let Half::Writes(writer) = self.half() else { return Ok(()) };
        drop(writer.manifest.lock().await);
        // It was told to stop; the units it has committed stay.
        self.indexes.ended().await;
        self.collector.ended().await;
        self.compactor.ended().await;
        if let Some(error) = writer.order.poisoned() {
            let sent = writer.order.drain(self.options.commit_timeout).await;
            if self.shared.remote && error.kind() != ErrorKind::Fenced && sent.is_ok() {
                claim::leave(self, writer.epoch).await;
            }
            drop(writer.lock.lock().unwrap_or_else(PoisonError::into_inner).take());
            return sent;
        }
        self.save_jobs().await;
        writer.order.settle_all().await;
        let sent = writer.order.drain(self.options.commit_timeout).await;
        let log = writer.order.wal_status();
        let is_long = self.shared.remote && log.objects >= self.options.close_wal_objects;
        let checkpoint = if sent.is_ok() && (is_long || log.bytes > self.options.close_wal_bytes) {
            self.checkpoint(CheckpointReason::Close).await.map(|_| ())
        } else {
            Ok(())
        };
        // No checkpoint begins beyond here; one that waits finds the order closed.
        let _newest = writer.manifest.lock().await;
        let closed = Error::new(ErrorKind::ReadOnly, "the database is closed");
        writer.order.poison(&closed);
        // What was accepted before that.
        writer.order.settle_all().await;
        let driving = writer.order.driving().await;
        let sealed = driving.wal().close().await;
        if self.shared.remote && sealed.is_ok() {
            claim::leave(self, writer.epoch).await;
        }
        drop(writer.lock.lock().unwrap_or_else(PoisonError::into_inner).take());
        sealed.and(checkpoint)
    }

    /// The newest manifest there is, whoever wrote it.
    ///
    /// # Errors
    /// As [`ManifestStore::newest`].
    pub(crate) async fn newest_manifest(&self) -> Result<Option<Manifest>> {
        let seen = self.snapshot().state().manifest;
        match self.shared.remote {
            true => claim::newest_for_certain(&self.manifests, &self.shared, seen).await,
            false => self.manifests.newest(seen).await,
        }
    }

    /// The writer's half.
    pub(crate) fn writer(&self) -> Result<&Writer> {
        match self.half() {
            Half::Writes(writer) => Ok(writer),
            Half::Follows(_) if self.is_read_only() => {
                Err(Error::new(ErrorKind::ReadOnly, "this database is open read-only")
                    .with_hint("open it without --read-only to write"))
            }
            Half::Follows(_) => {
                Err(Error::new(ErrorKind::ReadOnly, "nothing was written to this database here yet")
                    .with_hint("the first change takes it over for writing; until then it is read along"))
            }
        }
    }

    /// Slows commits above the soft limit and stops them at the hard one until a checkpoint has run.
    pub(crate) async fn make_room(self: &Arc<Self>) -> Result<()> {
        let hot = || self.snapshot().state().hot_bytes();
        let bytes = hot();
        if bytes < self.options.memtable_soft_bytes {
            return Ok(());
        }
        self.checkpoint_soon(CheckpointReason::WalBytes);
        if bytes < self.options.memtable_hard_bytes {
            tokio::time::sleep(Duration::from_millis(2)).await;
            return Ok(());
        }
        let end = tokio::time::Instant::now() + self.options.memtable_wait;
        while hot() >= self.options.memtable_hard_bytes {
            if tokio::time::Instant::now() >= end {
                let why = self.jobs.last_error().unwrap_or_else(|| "it is still running".to_owned());
                return Err(Error::new(
                    ErrorKind::ResourceExhausted,
                    "rows not yet in segments have reached memtable_hard_bytes and no checkpoint has made room",
                )
                .with_detail(format!("the last checkpoint: {why}"))
                .with_hint("see SHOW JOBS; free disk space, then run CHECKPOINT"));
            }
            self.checkpoint_soon(CheckpointReason::WalBytes);
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        Ok(())
    }

    /// Begins a checkpoint in the background when the log has grown enough and none is under way.
    pub(crate) fn checkpoint_if_due(self: &Arc<Self>) {
        let Half::Writes(writer) = self.half() else { return };
        let log = writer.order.wal_status();
        let is_long = self.shared.remote && log.objects >= self.options.checkpoint_wal_objects;
        if is_long || log.bytes >= self.options.checkpoint_wal_bytes {
            self.checkpoint_soon(CheckpointReason::WalBytes);
        }
    }

    /// Begins a checkpoint when nobody has committed since the last look, and there is something worth it: hot rows, which take memory, are
    /// read more slowly than segments, and are replayed at the next opening; or changes that have passed the memory by, since indexes
    /// are built and deleted rows folded after checkpoints.
    fn checkpoint_if_idle(self: &Arc<Self>) {
        let Half::Writes(writer) = self.half() else { return };
        // What is only in the journal keeps a checkpoint waiting, and nobody has asked for this one.
        if writer.order.unsent().is_some_and(|unsent| unsent.commits > 0) {
            return;
        }
        let version = writer.order.published();
        if self.looked_at.swap(version.number.0, Ordering::Relaxed) != version.number.0 {
            return;
        }
        let is_long = writer.order.wal_status().bytes >= IDLE_WAL_BYTES;
        let is_due = |table: &Arc<TableState>| (is_long && table.is_hot()) || table.has_bulk_changes();
        if version.tables.values().any(is_due) {
            self.checkpoint_soon(CheckpointReason::Idle);
        }
    }

    fn checkpoint_soon(self: &Arc<Self>, reason: CheckpointReason) {
        if self.closed.load(Ordering::Acquire) || self.checkpoint_due.load(Ordering::Acquire) {
            return;
        }
        // What is paused, or has failed just now, waits; unless writers would.
        let waits = self.jobs.pauses(JobKind::Checkpoint, None)
            && self.snapshot().state().hot_bytes() < self.options.memtable_soft_bytes;
        if waits || self.checkpoint_due.swap(true, Ordering::AcqRel) {
            return;
        }
        let database = Arc::clone(self);
        let task = tokio::spawn(async move {
            // A failure stands in the job's row, and back-pressure tells writers; commits are durable already.
            if database.checkpoint(reason).await.is_err() {
                tokio::time::sleep(Duration::from_secs(1)).await;
            }
            database.checkpoint_due.store(false, Ordering::Release);
        });
        self.keep_until_closed(task);
    }

    /// Closing ends the task.
    fn keep_until_closed(&self, task: JoinHandle<()>) {
        let mut tasks = self.tasks.lock().unwrap_or_else(PoisonError::into_inner);
        tasks.retain(|t| !t.is_finished());
        tasks.push(task);
    }

    /// Timed work: syncs of `SyncMode::Interval`, checkpoints of `checkpoint_interval` and `checkpoint_idle`.
    fn start_timers(self: &Arc<Self>) {
        if self.follows() {
            return;
        }
        let mut tasks = self.tasks.lock().unwrap_or_else(PoisonError::into_inner);
        if self.shared.remote {
            let weak = Arc::downgrade(self);
            tasks.push(tokio::spawn(async move {
                loop {
                    tokio::time::sleep(advisory::RENEWED_EVERY).await;
                    let Some(database) = weak.upgrade() else { return };
                    if !claim::renew(&database).await {
                        return;
                    }
                }
            }));
        }
        if let SyncMode::Interval(every) = self.options.sync {
            let weak = Arc::downgrade(self);
            tasks.push(tokio::spawn(repeat(weak, every, |db| async move {
                if let Ok(writer) = db.writer()
                    && let Err(error) = writer.order.driving().await.wal().sync().await
                {
                    writer.order.poison(&error);
                }
            })));
        }
        if let Some(every) = self.options.checkpoint_interval {
            let weak = Arc::downgrade(self);
            tasks.push(tokio::spawn(repeat(weak, every, |db| async move {
                db.checkpoint_soon(CheckpointReason::Interval);
            })));
        }
        if let Some(every) = self.options.checkpoint_idle {
            let weak = Arc::downgrade(self);
            tasks.push(tokio::spawn(repeat(weak, every, |db| async move { db.checkpoint_if_idle() })));
        }
    }
}

async fn repeat<F: Future<Output = ()>>(
    database: Weak<Database>,
    every: Duration,
    work: impl Fn(Arc<Database>) -> F,
) {
    loop {
        tokio::time::sleep(every.max(Duration::from_millis(1))).await;
        let Some(database) = database.upgrade() else { return };
        work(database).await;
    }
}

/// Microseconds since 1970 UTC by the machine's clock.
pub(crate) fn now_us() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_micros()).unwrap_or(i64::MAX)
}
