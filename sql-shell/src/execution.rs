//! One running statement.
//!
//! Owns: the task it runs in, apart from whoever shows its rows, so that Ctrl-C is heard whatever the statement does.
//! Memory: at most two batches wait to be shown. Dropping it cancels the statement.

use std::time::Duration;

use datafusion::arrow::array::RecordBatch;
use datafusion::arrow::datatypes::SchemaRef;
use futures::StreamExt;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio::time::timeout;

use crate::connection::{Answer, Connection};
use crate::failure::Failure;

/// Batches that may wait.
const BATCHES_WAITING_MAX: usize = 2;
/// How long a cancelled statement may take to let go before it is left to itself.
const CANCEL_WAIT: Duration = Duration::from_millis(800);

/// What a statement says, in order: `Rows` then `Batch`es, or `Done`; `Failed` ends it at any point.
pub(crate) enum Event {
    /// A result set begins.
    Rows {
        /// Its columns.
        schema: SchemaRef,
        /// Remarks for the user.
        notes: Vec<String>,
    },
    /// Its next rows.
    Batch(RecordBatch),
    /// It changed something.
    Done {
        /// "INSERT 3", "CREATE TABLE".
        tag: String,
        /// Remarks for the user.
        notes: Vec<String>,
    },
    /// It failed.
    Failed(Failure),
}

/// A statement in its task.
pub(crate) struct Execution {
    events: mpsc::Receiver<Event>,
    task: JoinHandle<()>,
    connection: Connection,
}

impl Execution {
    /// Starts `sql`.
    pub(crate) fn start(connection: &Connection, sql: &str) -> Self {
        let (send, events) = mpsc::channel(BATCHES_WAITING_MAX);
        let (runs, sql) = (connection.clone(), sql.to_owned());
        let task = connection.spawn(async move {
            if let Err(failure) = forward(&runs, &sql, &send).await {
                // Nobody listens any more only when the statement was cancelled.
                let _ = send.send(Event::Failed(failure)).await;
            }
        });
        Self { events, task, connection: connection.clone() }
    }

    /// The next event; None when the statement is over.
    pub(crate) async fn next(&mut self) -> Option<Event> {
        self.events.recv().await
    }

    /// Stops it and waits a moment for it to let go of what it holds.
    pub(crate) async fn cancel(mut self) {
        self.events.close();
        self.task.abort();
        self.connection.end_running();
        let _ = timeout(CANCEL_WAIT, &mut self.task).await;
    }

    /// After the last event: whether the statement came to its end.
    pub(crate) async fn join(mut self) -> Result<(), String> {
        (&mut self.task)
            .await
            .map_err(|_| "the statement stopped unexpectedly; this is a fault of Cairn's own".to_owned())
    }
}

impl Drop for Execution {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn forward(connection: &Connection, sql: &str, send: &mpsc::Sender<Event>) -> Result<(), Failure> {
    match connection.execute(sql).await? {
        Answer::Rows { schema, mut batches, notes } => {
            let mut listening = send.send(Event::Rows { schema, notes }).await.is_ok();
            while listening && let Some(batch) = batches.next().await {
                listening = send.send(Event::Batch(batch?)).await.is_ok();
            }
        }
        Answer::Done { tag, notes } => {
            let _ = send.send(Event::Done { tag, notes }).await;
        }
    }
    Ok(())
}
