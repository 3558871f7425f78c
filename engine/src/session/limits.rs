//! What one session may use.
//!
//! Owns: the limits of a session, which no setting lifts, and ending a statement, or its rows, that goes beyond one. Does not
//! own: lengths and nesting of statements (`statement`).

use std::future::Future;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use cairn_storage::ErrorKind;
use datafusion::error::DataFusionError;
use datafusion::execution::context::SessionState;
use datafusion::execution::runtime_env::RuntimeEnv;
use datafusion::execution::session_state::SessionStateBuilder;
use datafusion::physical_plan::stream::RecordBatchStreamAdapter;
use futures::StreamExt;
use tokio::time::Instant;

use super::memory::SessionMemory;
use crate::error::{Error, Result};
use crate::output::{Output, RowStream};

/// Limits of a session; None: there is none but the engine's. Going beyond one ends the statement with
/// `ErrorKind::ResourceExhausted`; the session goes on.
#[derive(Clone, Debug, Default)]
pub struct SessionLimits {
    /// Longest time of a statement, its rows included. SET statement_timeout can only shorten it.
    pub statement_timeout: Option<Duration>,
    /// Most rows of one result.
    pub rows: Option<u64>,
    /// Bytes that its queries may use together before they spill or fail, of those of the engine.
    pub memory: Option<usize>,
    /// The directory whose files its statements may read and write; None: no file.
    pub copy_root: Option<PathBuf>,
}

/// When a statement must end, and who says so.
#[derive(Clone, Copy)]
struct Deadline {
    at: Instant,
    limit: Duration,
    /// Not the session's own setting.
    imposed: bool,
}

impl SessionLimits {
    /// The state a session starts from, with memory of its own.
    pub(super) fn state(&self, template: &SessionState) -> SessionState {
        let Some(limit) = self.memory else { return template.clone() };
        let shared = template.runtime_env();
        let mut runtime = RuntimeEnv::clone(shared);
        runtime.memory_pool = Arc::new(SessionMemory::new(Arc::clone(&shared.memory_pool), limit));
        SessionStateBuilder::new_from_existing(template.clone()).with_runtime_env(Arc::new(runtime)).build()
    }

    /// Runs a statement within the limits and the time that the session has set.
    pub(super) async fn run(
        &self,
        setting: Option<Duration>,
        statement: impl Future<Output = Result<Output>>,
    ) -> Result<Output> {
        let output = match self.deadline(setting) {
            None => statement.await?,
            Some(deadline) => match tokio::time::timeout_at(deadline.at, statement).await {
                Ok(output) => match output? {
                    Output::Rows(rows) => Output::Rows(limit_time(rows, deadline)),
                    output => output,
                },
                Err(_) => return Err(timed_out(deadline)),
            },
        };
        Ok(match (output, self.rows) {
            (Output::Rows(rows), Some(most)) => Output::Rows(limit_rows(rows, most)),
            (output, _) => output,
        })
    }

    fn deadline(&self, setting: Option<Duration>) -> Option<Deadline> {
        let at = |limit, imposed| Deadline { at: Instant::now() + limit, limit, imposed };
        match (self.statement_timeout, setting) {
            (Some(most), Some(limit)) if limit < most => Some(at(limit, false)),
            (Some(most), _) => Some(at(most, true)),
            (None, Some(limit)) => Some(at(limit, false)),
            (None, None) => None,
        }
    }
}

fn timed_out(deadline: Deadline) -> Error {
    let Deadline { limit, imposed, .. } = deadline;
    if imposed {
        let message = format!("the statement ran longer than a session may let it run ({limit:?})");
        return Error::new(ErrorKind::ResourceExhausted, message)
            .map(|e| e.with_sqlstate("57014").with_hint("the limit is the server's; ask for less at once"));
    }
    Error::new(ErrorKind::Cancelled, format!("the statement ran longer than statement_timeout ({limit:?})"))
        .map(|e| e.with_hint("SET statement_timeout = '…' allows more; 0 is no limit"))
}

/// Ends the rows with an error at the deadline.
fn limit_time(rows: RowStream, deadline: Deadline) -> RowStream {
    let stream = futures::stream::unfold(Some(rows.stream), move |stream| async move {
        let mut stream = stream?;
        match tokio::time::timeout_at(deadline.at, stream.next()).await {
            Ok(Some(batch)) => Some((batch, Some(stream))),
            Ok(None) => None,
            Err(_) => Some((Err(DataFusionError::from(timed_out(deadline))), None)),
        }
    });
    RowStream {
        schema: Arc::clone(&rows.schema),
        stream: Box::pin(RecordBatchStreamAdapter::new(rows.schema, Box::pin(stream))),
    }
}

/// Ends the rows with an error instead of the batch that would be more than `most` rows.
fn limit_rows(rows: RowStream, most: u64) -> RowStream {
    let stream = futures::stream::unfold(Some((rows.stream, most)), move |state| async move {
        let (mut stream, left) = state?;
        match stream.next().await? {
            Ok(batch) => match left.checked_sub(batch.num_rows() as u64) {
                Some(left) => Some((Ok(batch), Some((stream, left)))),
                None => Some((Err(DataFusionError::from(too_many(most))), None)),
            },
            Err(error) => Some((Err(error), None)),
        }
    });
    RowStream {
        schema: Arc::clone(&rows.schema),
        stream: Box::pin(RecordBatchStreamAdapter::new(rows.schema, Box::pin(stream))),
    }
}

fn too_many(most: u64) -> Error {
    Error::new(ErrorKind::ResourceExhausted, format!("the result has more than {most} rows"))
        .map(|e| e.with_sqlstate("54000").with_hint("add LIMIT, or read it in parts"))
}
