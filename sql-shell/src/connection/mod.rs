//! The one way from the shell to a database: in this process (`local`) or at a server (`remote`).
//!
//! Owns: what both have in common, and the threads statements run on. Does not own: showing anything. Statements have a runtime of
//! their own: however busy it is, the shell's hears Ctrl-C.

mod address;
mod local;
mod login;
mod prompt;
mod remote;
mod remote_names;

use std::future::Future;
use std::sync::Arc;

use cairn_server::ProgressReport;
use datafusion::arrow::array::RecordBatch;
use datafusion::arrow::datatypes::SchemaRef;
use futures::FutureExt;
use futures::future::BoxFuture;
use futures::stream::BoxStream;
use tokio::runtime::Handle;
use tokio::task::JoinHandle;

use crate::failure::Failure;
use crate::names::Names;

pub(crate) use address::Address;
use local::Local;
pub(crate) use local::{Cache, Found, Opening};
pub(crate) use login::{Login, Tls};
use remote::Remote;

/// Rows on their way; dropping them cancels the statement.
pub(crate) type Batches = BoxStream<'static, Result<RecordBatch, Failure>>;

/// What a statement answers with.
pub(crate) enum Answer {
    /// A result set.
    Rows {
        /// Its columns; equal to every batch's.
        schema: SchemaRef,
        /// Its rows.
        batches: Batches,
        /// Remarks for the user.
        notes: Vec<String>,
    },
    /// It changed something.
    Done {
        /// "INSERT 3", "CREATE TABLE".
        tag: String,
        /// Remarks for the user.
        notes: Vec<String>,
    },
}

impl Answer {
    /// For a change, with the rows it changed where they are counted.
    fn done(verb: &str, rows: Option<u64>, notes: Vec<String>) -> Self {
        let tag = rows.map_or_else(|| verb.to_owned(), |rows| format!("{verb} {rows}"));
        Self::Done { tag, notes }
    }

    /// Its remarks.
    fn notes_mut(&mut self) -> &mut Vec<String> {
        match self {
            Self::Rows { notes, .. } | Self::Done { notes, .. } => notes,
        }
    }
}

/// A session on a database.
#[derive(Clone)]
pub(crate) struct Connection {
    side: Side,
    work: Handle,
}

#[derive(Clone)]
enum Side {
    Local(Local),
    Remote(Arc<Remote>),
}

impl Connection {
    /// Opens the directory or bucket `root`, making a database when there is none; its work is done on `work`.
    ///
    /// # Errors
    /// As the engine says; a read-only opening makes nothing.
    pub(crate) fn open(root: &str, opening: Opening, work: &Handle) -> Result<Self, Failure> {
        let local = work.block_on(Local::open(root, opening))?;
        Ok(Self { side: Side::Local(local), work: work.clone() })
    }

    /// Begins a session at a server.
    ///
    /// # Errors
    /// 08001 when the server can't be reached, 28xxx when it does not let the user in, as the server says.
    pub(crate) fn connect(
        address: &Address,
        login: Option<Login>,
        tls: &Tls,
        work: &Handle,
    ) -> Result<Self, Failure> {
        let remote = work.block_on(Remote::connect(address, login, tls))?;
        Ok(Self { side: Side::Remote(Arc::new(remote)), work: work.clone() })
    }

    /// What opening did worth telling: what of a journal was sent or dropped.
    pub(crate) fn notes(&self) -> &[String] {
        match &self.side {
            Side::Local(local) => local.notes(),
            Side::Remote(_) => &[],
        }
    }

    /// What opening found.
    pub(crate) fn found(&self) -> Found {
        match &self.side {
            Side::Local(local) => local.found(),
            Side::Remote(_) => Found::Written,
        }
    }

    /// Whether files that statements name are files of this machine.
    pub(crate) fn is_local(&self) -> bool {
        matches!(self.side, Side::Local(_))
    }

    /// Runs one statement. Dropping the future, or the rows it returns, cancels it.
    pub(crate) fn execute<'a>(&'a self, sql: &'a str) -> BoxFuture<'a, Result<Answer, Failure>> {
        // Boxed: the compiler can't see through the engine's futures that this one may change threads.
        match &self.side {
            Side::Local(local) => local.execute(sql).boxed(),
            Side::Remote(remote) => remote.execute(sql).boxed(),
        }
    }

    /// Tells a statement that runs that it is to end, in case it does not hear of being dropped for a while; a server tells its own.
    pub(crate) fn end_running(&self) {
        match &self.side {
            Side::Local(local) => local.end_running(),
            Side::Remote(_) => {}
        }
    }

    /// Whether a transaction is open.
    pub(crate) fn in_transaction(&self) -> bool {
        match &self.side {
            Side::Local(local) => local.in_transaction(),
            Side::Remote(remote) => remote.in_transaction(),
        }
    }

    /// Rolls an open transaction back; whether there was one.
    pub(crate) fn roll_back(&self) -> bool {
        self.in_transaction() && self.work.block_on(self.execute("ROLLBACK")).is_ok()
    }

    /// How far the running statement is, as of now or, at a server, as it said a moment ago; with the jobs that run, if they are wanted.
    pub(crate) fn progress(&self, with_jobs: bool) -> ProgressReport {
        match &self.side {
            Side::Local(local) => local.progress(with_jobs),
            Side::Remote(remote) => remote.progress(with_jobs, &self.work),
        }
    }

    /// Runs `task` where statements run.
    pub(crate) fn spawn<T: Send + 'static>(
        &self,
        task: impl Future<Output = T> + Send + 'static,
    ) -> JoinHandle<T> {
        self.work.spawn(task)
    }

    /// The names completion offers, as of now or, at a server, a moment ago. Must not be called inside a runtime.
    pub(crate) fn names(&self) -> Arc<Names> {
        match &self.side {
            Side::Local(local) => Arc::new(self.work.block_on(local.names())),
            Side::Remote(remote) => self.work.block_on(remote.names()),
        }
    }

    /// Leaves the database in order. What was acknowledged is durable without it.
    ///
    /// # Errors
    /// As the engine says; nothing acknowledged is lost.
    pub(crate) fn close(&self) -> Result<(), Failure> {
        match &self.side {
            Side::Local(local) => self.work.block_on(local.close()),
            Side::Remote(remote) => {
                self.work.block_on(remote.close());
                Ok(())
            }
        }
    }

    /// As [`close`](Self::close), but not waiting for long: a statement that was cancelled may still hold every thread.
    pub(crate) async fn close_in_a_hurry(&self) {
        match &self.side {
            Side::Local(local) => local.close_in_a_hurry(&self.work).await,
            Side::Remote(remote) => {
                let remote = Arc::clone(remote);
                // It waits for a moment at most. Whether it was in time, nobody is left to hear.
                let _ = self.work.spawn(async move { remote.close().await }).await;
            }
        }
    }
}
