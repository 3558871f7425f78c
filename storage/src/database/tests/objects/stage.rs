//! A few processes on a store that does what it is asked to, but for the one request that a test holds back or spoils.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use object_store::ObjectStore;
use tokio::task::JoinHandle;

use super::faults::{Op, Weather};
use super::handle::Handle;
use super::rows::{self, Change};
use super::store::{SLOTS, SimStore};
use super::trace::Trace;
use super::{LONGEST, paused};
use crate::checkpoint::CheckpointReason;
use crate::computing::Computing;
use crate::database::{ClaimAt, Database, OpenOptions, Root};
use crate::error::{ErrorKind, Result};
use crate::id::CommitId;
use crate::transaction::CommitReceipt;

/// How long replaced objects are kept.
pub(super) const GRACE: Duration = Duration::from_secs(2);

/// See the module. Cheap to clone; clones are the same one.
#[derive(Clone)]
pub(super) struct Stage {
    pub(super) store: SimStore,
    lives: Arc<AtomicU64>,
}

/// Plays one test.
pub(super) fn on_stage<F: Future<Output = ()>>(play: impl FnOnce(Stage) -> F) {
    paused(async {
        let store = SimStore::new(0, Trace::default());
        let stage = Stage { store: store.clone(), lives: Arc::default() };
        let ended = tokio::time::timeout(LONGEST, play(stage)).await;
        assert!(ended.is_ok(), "it does not come to an end");
        assert_eq!(store.violations(), Vec::<String>::new());
    });
}

impl Stage {
    /// A process of this actor; nothing is open in it yet.
    pub(super) fn process(&self, actor: &'static str) -> Handle {
        let slot = u64::from(actor.as_bytes()[0]) % SLOTS;
        self.store.handle(actor, slot, self.lives.fetch_add(1, Ordering::Relaxed), Weather::calm())
    }

    pub(super) fn options(&self, process: &Handle) -> OpenOptions {
        OpenOptions {
            store: Some(Arc::new(process.clone()) as Arc<dyn ObjectStore>),
            clock: self.store.clock(),
            take_over: true,
            wal_entry_bytes_max: 4 << 10,
            version_retention: Duration::ZERO,
            reader_grace: GRACE,
            commit_timeout: Duration::from_secs(300),
            compacts: false,
            computing: Computing::InTurn,
            ..OpenOptions::default()
        }
    }

    pub(super) async fn open(&self, options: OpenOptions) -> Result<Arc<Database>> {
        Database::open(Root::parse("s3://sim/db").unwrap(), options).await
    }

    /// Opens the database in this process and takes it over.
    pub(super) async fn writer_of(&self, process: &Handle) -> Result<Arc<Database>> {
        self.open(OpenOptions { claim: ClaimAt::Open, ..self.options(process) }).await
    }

    /// The same in a new process.
    pub(super) async fn writer(&self, actor: &'static str) -> Arc<Database> {
        self.writer_of(&self.process(actor)).await.unwrap()
    }

    /// The same as a task.
    pub(super) fn opening(&self, actor: &'static str) -> JoinHandle<Arc<Database>> {
        let stage = self.clone();
        tokio::spawn(async move { stage.writer(actor).await })
    }

    /// Opens the database; it is claimed at the first write.
    pub(super) async fn newcomer(&self, actor: &'static str) -> Arc<Database> {
        self.open(self.options(&self.process(actor))).await.unwrap()
    }

    /// Opens the database in this process, to read.
    pub(super) async fn reader_of(&self, process: &Handle) -> Arc<Database> {
        self.open(OpenOptions { read_only: true, ..self.options(process) }).await.unwrap()
    }

    /// The same in a new process.
    pub(super) async fn reader(&self, actor: &'static str) -> Arc<Database> {
        self.reader_of(&self.process(actor)).await
    }

    /// The first writer, with the table and row 1.
    pub(super) async fn begun(&self) -> Arc<Database> {
        let db = self.writer("A").await;
        create(&db).await;
        insert(&db, 1).await.unwrap();
        db
    }

    /// Path of the newest manifest.
    pub(super) fn newest_manifest(&self) -> String {
        self.store.last_below("manifest/0").unwrap().0
    }

    /// Collects until this object is gone.
    pub(super) async fn collect_away(&self, db: &Arc<Database>, path: &str) {
        for _ in 0..10 {
            if !self.store.contains(path) {
                return;
            }
            tokio::time::sleep(GRACE + Duration::from_millis(100)).await;
            db.collect().await.unwrap();
        }
        assert!(!self.store.contains(path), "{path} is never collected");
    }
}

/// Creates below a prefix.
pub(super) fn creates(prefix: &'static str) -> impl Fn(Op, &str) -> bool + Send + 'static {
    move |op, path| op == Op::Create && path.starts_with(prefix)
}

/// Reads and probes of what begins with `prefix`.
pub(super) fn looks_for(prefix: String) -> impl Fn(Op, &str) -> bool + Send + 'static {
    move |op, path| matches!(op, Op::Get | Op::Head) && path.starts_with(&prefix)
}

pub(super) async fn create(db: &Arc<Database>) {
    rows::commit(db, &Change::creating(), CommitId::random()).await.unwrap();
}

/// Inserts the row of an id.
pub(super) fn row(id: i64) -> Change {
    Change::inserting(&[(id, 10 * id)])
}

pub(super) async fn insert(db: &Arc<Database>, id: i64) -> Result<CommitReceipt> {
    rows::commit(db, &row(id), CommitId::random()).await
}

/// The same as a task.
pub(super) fn inserting(db: &Arc<Database>, id: i64) -> JoinHandle<Result<CommitReceipt>> {
    let db = Arc::clone(db);
    tokio::spawn(async move { insert(&db, id).await })
}

pub(super) async fn checkpoint(db: &Arc<Database>) {
    db.checkpoint(CheckpointReason::Statement).await.unwrap();
}

/// All ids in the table, in order.
pub(super) async fn ids(db: &Arc<Database>) -> Vec<i64> {
    let found = rows::read(&db.snapshot()).await.unwrap().unwrap();
    assert_eq!(found.wrong, None);
    found.rows.into_keys().collect()
}

/// It cannot commit any more, says why, and still reads what it had.
pub(super) async fn is_fenced(db: &Arc<Database>) {
    let before = ids(db).await;
    for id in [1_000_000, 1_000_001] {
        let error = insert(db, id).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Fenced, "{error}");
    }
    assert_eq!(ids(db).await, before);
}
