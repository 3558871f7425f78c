//! A database in this process.
//!
//! Owns: the engine and its one session.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use cairn_engine::{
    Durability, Engine, EngineOptions, OpenOptions, Output, Relation, RelationKind, Root, Session, SyncMode,
    default_cache_directory, default_journal_directory,
};
use cairn_server::{JobProgress, ProgressReport};
use datafusion::error::DataFusionError;
use futures::{FutureExt, StreamExt};
use tokio::runtime::Handle;
use tokio::time::timeout;

use super::Answer;
use crate::args::Sync;
use crate::failure::Failure;
use crate::names::{Names, TableName};

/// The file whose presence makes a directory a database.
const MAGIC_FILE: &str = "CAIRN";
/// How long a hurried close may take; what it leaves undone, the next opening does.
const HURRIED_CLOSE_MAX: Duration = Duration::from_secs(3);

/// How to open.
#[derive(Clone, Debug)]
pub(crate) struct Opening {
    pub(crate) read_only: bool,
    pub(crate) sync: Sync,
    /// In a bucket: also when another writer is alive.
    pub(crate) take_over: bool,
    /// In a bucket: where a commit must be before it is acknowledged.
    pub(crate) durability: Durability,
    /// In a bucket: drop what this machine's journal holds and can't be sent any more.
    pub(crate) discard_local: bool,
    pub(crate) cache: Cache,
    /// Bytes of columns that are kept decoded; None: as many as the engine thinks right.
    pub(crate) column_cache: Option<usize>,
    /// Bytes of queries and of what is kept decoded; None: as many as the engine thinks right.
    pub(crate) memory_limit: Option<usize>,
    /// Whether what keeps the database in order runs by itself.
    pub(crate) upkeep: bool,
}

impl Default for Opening {
    fn default() -> Self {
        Self {
            read_only: false,
            sync: Sync::Full,
            take_over: false,
            durability: Durability::Store,
            discard_local: false,
            cache: Cache::default(),
            column_cache: None,
            memory_limit: None,
            upkeep: true,
        }
    }
}

/// Where objects of a bucket are kept for the next read.
#[derive(Clone, Debug)]
pub(crate) struct Cache {
    /// None: nowhere.
    pub(crate) directory: Option<PathBuf>,
    pub(crate) bytes_max: u64,
}

impl Default for Cache {
    fn default() -> Self {
        let bytes_max = OpenOptions::default().cache_directory_bytes;
        Self { directory: default_cache_directory(), bytes_max }
    }
}

/// What is worth telling whoever opened a database.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Found {
    /// One that was written before, on a directory or for reading only.
    Written,
    /// None: it was made.
    Made,
    /// In a bucket, one in which nothing was written yet.
    Empty,
    /// In a bucket, one that is written at the first change, and by somebody else before, maybe.
    Followed,
}

/// See the module.
#[derive(Clone)]
pub(super) struct Local {
    engine: Arc<Engine>,
    session: Arc<Session>,
    found: Found,
    notes: Arc<[String]>,
}

impl Local {
    /// Opens `root`, making it when there is none.
    ///
    /// # Errors
    /// As the engine says; a read-only opening makes nothing.
    pub(super) async fn open(root: &str, opening: Opening) -> Result<Self, Failure> {
        let root = Root::parse(root).map_err(cairn_engine::Error::from)?;
        let is_new = matches!(&root, Root::Path(path) if !path.join(MAGIC_FILE).exists());
        let storage = OpenOptions {
            read_only: opening.read_only,
            create: !opening.read_only,
            sync: match opening.sync {
                Sync::Full => SyncMode::Full,
                Sync::Interval(at_most) => SyncMode::Interval(at_most),
                Sync::Off => SyncMode::Off,
            },
            keeps_jobs: true,
            take_over: opening.take_over,
            durability: opening.durability,
            discard_local: opening.discard_local,
            journal_directory: default_journal_directory(),
            cache_directory: opening.cache.directory,
            cache_directory_bytes: opening.cache.bytes_max,
            column_cache_bytes: opening.column_cache,
            upkeep: opening.upkeep,
            ..OpenOptions::default()
        };
        let in_bucket = matches!(root, Root::Store(_));
        let memory_limit = opening.memory_limit;
        let engine =
            Engine::open(root, EngineOptions { storage, memory_limit, ..EngineOptions::default() }).await?;
        let session = Arc::new(engine.session());
        let found = match in_bucket {
            _ if opening.read_only => Found::Written,
            true if engine.database().snapshot().version().0 == 0 => Found::Empty,
            true => Found::Followed,
            false if is_new => Found::Made,
            false => Found::Written,
        };
        let of_journal = if in_bucket { engine.database().notes() } else { &[] };
        let of_settings = engine.damaged_settings().await;
        let notes = of_journal.iter().cloned().chain(of_settings).collect();
        Ok(Self { engine, session, found, notes })
    }

    /// What opening a bucket did to this machine's journal of it, and what is damaged and holds nobody up.
    pub(super) fn notes(&self) -> &[String] {
        &self.notes
    }

    pub(super) fn found(&self) -> Found {
        self.found
    }

    pub(super) async fn execute(&self, sql: &str) -> Result<Answer, Failure> {
        // Boxed for the same reason as its caller's.
        let mut answer = match self.session.execute(sql, None).boxed().await? {
            Output::Rows(rows) => {
                let failed = |error: DataFusionError| Failure::from(cairn_engine::Error::from(error));
                Answer::Rows {
                    schema: rows.schema,
                    batches: rows.stream.map(move |batch| batch.map_err(failed)).boxed(),
                    notes: rows.notes,
                }
            }
            Output::Affected { verb, rows, notes } => Answer::done(verb, Some(rows), notes),
            Output::Done { verb, notes } => Answer::done(verb, None, notes),
        };
        // What was told at the opening is not told again.
        answer.notes_mut().retain(|note| !self.notes.contains(note));
        Ok(answer)
    }

    pub(super) fn end_running(&self) {
        self.session.end_running();
    }

    pub(super) fn in_transaction(&self) -> bool {
        self.session.in_transaction()
    }

    pub(super) fn progress(&self, with_jobs: bool) -> ProgressReport {
        let progress = self.session.progress();
        ProgressReport {
            // Nobody else is here to wait for.
            waiting: false,
            rows: progress.rows.load(Relaxed),
            bytes: progress.bytes.load(Relaxed),
            bytes_total: progress.bytes_total.load(Relaxed),
            jobs: if with_jobs { JobProgress::of_session(&self.session) } else { Vec::new() },
        }
    }

    pub(super) async fn names(&self) -> Names {
        let table = |Relation { schema, name, kind }| {
            let columns = self.session.columns(&schema, &name).unwrap_or_default();
            let vectors = self.session.vector_columns(&schema, &name);
            TableName { schema, name, columns, vectors, is_view: kind == RelationKind::View }
        };
        let owned = |names: Vec<&str>| names.into_iter().map(str::to_owned).collect();
        Names {
            current_schema: self.session.search_path(),
            schemas: self.session.schemas(),
            tables: self.session.relations().into_iter().map(table).collect(),
            indexes: self.session.indexes(),
            functions: self.session.functions(),
            table_functions: self.session.table_functions(),
            settings: owned(self.session.settings()),
            changeable: owned(Session::changeable_settings()),
            // Whoever can't read them completes none.
            accounts: self.session.accounts().await.unwrap_or_default(),
            prepared: self.session.prepared(),
        }
    }

    pub(super) async fn close(&self) -> Result<(), Failure> {
        Ok(self.engine.close().await?)
    }

    pub(super) async fn close_in_a_hurry(&self, work: &Handle) {
        let engine = Arc::clone(&self.engine);
        // Late or failed, it loses nothing, and nobody is left to tell.
        let _ = timeout(HURRIED_CLOSE_MAX, work.spawn(async move { engine.close().await })).await;
    }
}
