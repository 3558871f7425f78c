//! The one way from the shell to the engine.
//!
//! Owns: the open database, its session and the threads statements run on. Does not own: showing anything.
//! Statements have a runtime of their own: however busy it is, the shell's hears Ctrl-C.

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use cairn_engine::context::Progress;
use cairn_engine::{Engine, EngineOptions, OpenOptions, Output, Result, Root, Session, SyncMode};
use futures::FutureExt;
use futures::future::BoxFuture;
use tokio::runtime::Handle;
use tokio::task::JoinHandle;
use tokio::time::timeout;

use crate::args::Sync;
use crate::names::{Names, TableName};

/// The file whose presence makes a directory a database.
const MAGIC_FILE: &str = "CAIRN";
/// How long a hurried close may take; what it leaves undone, the next opening does.
const HURRIED_CLOSE_MAX: Duration = Duration::from_secs(3);

/// How to open.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Opening {
    pub(crate) read_only: bool,
    pub(crate) sync: Sync,
}

/// An open database.
#[derive(Clone)]
pub(crate) struct Connection {
    engine: Arc<Engine>,
    session: Arc<Session>,
    work: Handle,
    created: bool,
}

impl Connection {
    /// Opens `root`, making it when there is none; its work is done on `work`.
    ///
    /// # Errors
    /// As the engine says; a read-only opening makes nothing.
    pub(crate) fn open(root: &str, opening: Opening, work: &Handle) -> Result<Self> {
        let root = Root::parse(root)?;
        let is_new = matches!(&root, Root::Path(path) if !path.join(MAGIC_FILE).exists());
        let storage = OpenOptions {
            read_only: opening.read_only,
            create: !opening.read_only,
            sync: match opening.sync {
                Sync::Full => SyncMode::Full,
                Sync::Interval(at_most) => SyncMode::Interval(at_most),
                Sync::Off => SyncMode::Off,
            },
            ..OpenOptions::default()
        };
        let engine =
            work.block_on(Engine::open(root, EngineOptions { storage, ..EngineOptions::default() }))?;
        let session = Arc::new(engine.session());
        Ok(Self { engine, session, work: work.clone(), created: is_new && !opening.read_only })
    }

    /// Whether opening made the database.
    pub(crate) fn created(&self) -> bool {
        self.created
    }

    /// Runs one statement. Dropping the future, or the stream it returns, cancels it.
    pub(crate) fn execute<'a>(&'a self, sql: &'a str) -> BoxFuture<'a, Result<Output>> {
        // Boxed: the compiler can't see through the engine's futures that this one may change threads.
        self.session.execute(sql, None).boxed()
    }

    /// Whether a transaction is open.
    pub(crate) fn in_transaction(&self) -> bool {
        self.session.in_transaction()
    }

    /// Rolls an open transaction back; whether there was one.
    pub(crate) fn roll_back(&self) -> bool {
        self.in_transaction() && self.work.block_on(self.execute("ROLLBACK")).is_ok()
    }

    /// Counters of the running statement.
    pub(crate) fn progress(&self) -> Arc<Progress> {
        self.session.progress()
    }

    /// Runs `task` where statements run.
    pub(crate) fn spawn<T: Send + 'static>(
        &self,
        task: impl Future<Output = T> + Send + 'static,
    ) -> JoinHandle<T> {
        self.work.spawn(task)
    }

    /// The names completion offers, as of now.
    pub(crate) fn names(&self) -> Names {
        let table = |(schema, name): (String, String)| {
            let columns = self.session.columns(&schema, &name).unwrap_or_default();
            let vectors = self.session.vector_columns(&schema, &name);
            TableName { schema, name, columns, vectors }
        };
        Names {
            current_schema: self.session.search_path(),
            schemas: self.session.schemas(),
            tables: self.session.tables().into_iter().map(table).collect(),
            indexes: self.session.indexes(),
            functions: self.session.functions(),
            table_functions: self.session.table_functions(),
            settings: self.session.settings().into_iter().map(str::to_owned).collect(),
        }
    }

    /// Leaves the database in order. What was acknowledged is durable without it.
    ///
    /// # Errors
    /// As the engine says; nothing acknowledged is lost.
    pub(crate) fn close(&self) -> Result<()> {
        self.work.block_on(self.engine.close())
    }

    /// As [`close`](Self::close), but not waiting for long: a statement that was cancelled may still hold every thread.
    pub(crate) async fn close_in_a_hurry(&self) {
        let engine = Arc::clone(&self.engine);
        // Late or failed, it loses nothing, and nobody is left to tell.
        let _ = timeout(HURRIED_CLOSE_MAX, self.work.spawn(async move { engine.close().await })).await;
    }
}
