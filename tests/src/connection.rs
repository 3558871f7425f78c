//! One open database in this process.
//!
//! Owns: a runtime, an engine and a session, and how they go away: [`Connection::close`] in order,
//! [`Connection::abandon`] without a word to the storage. Does not own: a process that dies (`child`).

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use cairn_engine::{Engine, EngineOptions, OpenOptions, Output, Root, Session};
use datafusion::arrow::array::RecordBatch;
use futures::TryStreamExt;
use tokio::runtime::Runtime;

use crate::answer::{Answer, SqlError, render};
use crate::plan;

/// How long a just released lock may take to be free.
const LOCK_PATIENCE: Duration = Duration::from_secs(60);

/// SQLSTATE of a database that somebody else writes.
const LOCKED: &str = "57P03";

/// A database with one session, on a runtime of its own: nothing of it survives its end.
pub struct Connection {
    // Order of the fields is the order of dropping.
    session: Option<Session>,
    engine: Option<Arc<Engine>>,
    runtime: Option<Runtime>,
}

impl Connection {
    /// Opens the database at `root`.
    ///
    /// # Errors
    /// What the engine says.
    pub fn open(root: Root, storage: OpenOptions) -> Result<Self, SqlError> {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build();
        let options = EngineOptions { storage, ..EngineOptions::default() };
        Self::open_in(runtime.map_err(SqlError::of_test)?, root, options)
    }

    /// Opens the database at `root` on the thread that asks: nothing happens in it but while it is asked something.
    ///
    /// # Errors
    /// What the engine says.
    pub fn open_alone(root: Root, storage: OpenOptions) -> Result<Self, SqlError> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        let options = EngineOptions { storage, partitions: Some(1), ..EngineOptions::default() };
        Self::open_in(runtime.map_err(SqlError::of_test)?, root, options)
    }

    fn open_in(runtime: Runtime, root: Root, options: EngineOptions) -> Result<Self, SqlError> {
        let engine = runtime.block_on(Engine::open(root, options))?;
        let session = runtime.block_on(async { engine.session() });
        Ok(Self { session: Some(session), engine: Some(engine), runtime: Some(runtime) })
    }

    /// Opens a directory for writing, waiting for a lock that is about to be released.
    ///
    /// # Errors
    /// What the engine says, after the wait.
    pub fn open_dir(dir: &Path, storage: &OpenOptions) -> Result<Self, SqlError> {
        let started = Instant::now();
        loop {
            match Self::open(Root::Path(dir.to_path_buf()), storage.clone()) {
                Err(error) if error.sqlstate == LOCKED && started.elapsed() < LOCK_PATIENCE => {
                    std::thread::sleep(Duration::from_millis(10));
                }
                other => return other,
            }
        }
    }

    /// The engine.
    ///
    /// # Panics
    /// Never before [`close`](Self::close) or [`abandon`](Self::abandon), which take the connection.
    #[must_use]
    pub fn engine(&self) -> &Arc<Engine> {
        self.engine.as_ref().unwrap()
    }

    /// Runs a future on the connection's runtime.
    ///
    /// # Panics
    /// When called from async code.
    pub fn block_on<F: Future>(&self, future: F) -> F::Output {
        self.runtime.as_ref().unwrap().block_on(future)
    }

    /// Runs one statement.
    ///
    /// # Errors
    /// What the engine says.
    pub fn run(&self, sql: &str) -> Result<Answer, SqlError> {
        self.run_in(self.session.as_ref().unwrap(), sql)
    }

    /// Runs one statement in another session of its engine.
    ///
    /// # Errors
    /// What the engine says.
    pub fn run_in(&self, session: &Session, sql: &str) -> Result<Answer, SqlError> {
        self.block_on(async {
            match session.execute(sql, None).await? {
                Output::Rows(rows) => {
                    let batches: Vec<RecordBatch> = rows
                        .stream
                        .try_collect()
                        .await
                        .map_err(|error| SqlError::from(cairn_engine::Error::from(error)))?;
                    Ok(render(&rows.schema, &batches))
                }
                Output::Affected { rows, .. } => Ok(Answer::Affected(rows)),
                Output::Done { .. } => Ok(Answer::Done),
            }
        })
    }

    /// Another session of the engine, for [`run_in`](Self::run_in).
    ///
    /// # Panics
    /// When called from async code.
    #[must_use]
    pub fn session(&self) -> Session {
        self.block_on(async { self.engine().session() })
    }

    /// Ends a session where it may have a transaction to take back.
    ///
    /// # Panics
    /// When called from async code.
    pub fn end_session(&self, session: Session) {
        self.block_on(async move { drop(session) });
    }

    /// The plan of a query, for another process.
    ///
    /// # Errors
    /// What the engine says; that no other process can run it.
    pub fn plan(&self, sql: &str) -> Result<Vec<u8>, SqlError> {
        let session = self.session.as_ref().unwrap();
        let plan = self.block_on(session.physical_plan(sql))?;
        plan::encode(self.engine(), plan)
    }

    /// Runs one statement that must succeed; its rows.
    ///
    /// # Panics
    /// When it fails.
    #[must_use]
    pub fn rows(&self, sql: &str) -> Vec<Vec<String>> {
        match self.run(sql) {
            Ok(answer) => answer.rows(),
            Err(error) => panic!("{sql}: {error}"),
        }
    }

    /// Runs one statement that must succeed.
    ///
    /// # Panics
    /// When it fails.
    pub fn exec(&self, sql: &str) {
        if let Err(error) = self.run(sql) {
            panic!("{sql}: {error}");
        }
    }

    /// Whether a transaction is open.
    #[must_use]
    pub fn in_transaction(&self) -> bool {
        self.session.as_ref().is_some_and(Session::in_transaction)
    }

    /// Version of the newest commit.
    #[must_use]
    pub fn version(&self) -> u64 {
        self.engine().database().snapshot().version().0
    }

    /// Closes in order.
    ///
    /// # Errors
    /// What the engine says.
    pub fn close(mut self) -> Result<(), SqlError> {
        let engine = Arc::clone(self.engine());
        self.session = None;
        self.block_on(engine.close())?;
        drop(engine);
        self.end();
        Ok(())
    }

    /// Ends without closing: what is durable now is all there is.
    pub fn abandon(mut self) {
        self.end();
    }

    fn end(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            let inside = runtime.enter();
            self.session = None;
            self.engine = None;
            drop(inside);
            runtime.shutdown_timeout(LOCK_PATIENCE);
        }
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        self.end();
    }
}
