//! What one session may use.
//!
//! Owns: the limits of a session, which no setting lifts, and ending a statement, or its rows, that goes beyond one, or that somebody
//! ends (KILL QUERY). Does not
//! own: lengths and nesting of statements (`statement`), what becomes of a statement on other threads (`task`).
//!
//! Time is watched by whoever waits for the statement: where that has other threads than the statement, it is over at once,
//! whatever the statement does; else when the statement next yields, or asks (`asked`).

use std::future::Future;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use cairn_storage::ErrorKind;
use datafusion::error::DataFusionError;
use datafusion::execution::context::SessionState;
use datafusion::execution::memory_pool::MemoryPool;
use datafusion::execution::runtime_env::RuntimeEnv;
use datafusion::execution::session_state::SessionStateBuilder;
use datafusion::physical_plan::stream::RecordBatchStreamAdapter;
use futures::StreamExt;
use tokio::runtime::Handle;
use tokio::task::unconstrained;
use tokio::time::Instant;

use super::asked::Asked;
use super::memory::PartOfMemory;
use super::panics::{caught, caught_rows};
use super::task::{self, Awaited};
use crate::error::{Error, Result};
use crate::output::{Output, RowStream};
use crate::queue::{Permit, StatementQueue};
use crate::rights::{UserLimit, UserLimits};
use crate::running::RunningStatement;

/// Limits of a session; None: there is none but the engine's. Going beyond one ends the statement with
/// `ErrorKind::ResourceExhausted`; the session goes on. Those that a user was given by CREATE or ALTER USER count in place of
/// `statement_timeout` and `rows`, and beside `memory`.
#[derive(Clone, Debug, Default)]
pub struct SessionLimits {
    /// Longest time of a statement, its rows included, the time it waits to run not. SET statement_timeout can only shorten it.
    pub statement_timeout: Option<Duration>,
    /// Most rows of one result.
    pub rows: Option<u64>,
    /// Bytes that its queries may use together before they spill or fail, of those of the engine.
    pub memory: Option<usize>,
    /// The directory whose files its statements may read and write; None: no file.
    pub copy_root: Option<PathBuf>,
    /// What its statements may read and write on object storage, with secrets of its own or the credentials of this process: all below one
    /// of these prefixes, as `s3://bucket/prefix`. None: nothing.
    pub copy_urls: Vec<String>,
    /// Hosts that its secrets may name as ENDPOINT, with a port where need be.
    pub copy_endpoints: Vec<String>,
    /// Where its statements wait until they may run; None: none waits.
    pub queue: Option<Arc<StatementQueue>>,
    /// The threads its statements run on; None: those of whoever waits for them.
    pub threads: Option<Handle>,
}

/// What one statement may use.
#[derive(Debug)]
pub(super) struct StatementLimits {
    time: Option<Duration>,
    rows: Option<u64>,
    threads: Option<Handle>,
    /// Its place among those that run.
    place: Option<Arc<Permit>>,
    /// Tells when somebody ends it; None: it is no statement, but a question of a client.
    running: Option<Arc<RunningStatement>>,
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
    /// The state a session starts from, with memory of its own, of which its user has a part.
    pub(super) fn state(
        &self,
        template: &SessionState,
        user: Option<&Arc<PartOfMemory>>,
    ) -> (SessionState, Arc<PartOfMemory>) {
        let mut runtime = RuntimeEnv::clone(template.runtime_env());
        if let Some(user) = user {
            runtime.memory_pool = Arc::clone(user) as Arc<dyn MemoryPool>;
        }
        // Without a limit, too: `system.queries` tells what it holds.
        let limit = self.memory.unwrap_or(usize::MAX);
        let memory = Arc::new(PartOfMemory::of_session(Arc::clone(&runtime.memory_pool), limit));
        runtime.memory_pool = Arc::clone(&memory) as Arc<dyn MemoryPool>;
        let builder = SessionStateBuilder::new_from_existing(template.clone());
        (builder.with_runtime_env(Arc::new(runtime)).build(), memory)
    }

    /// Those of a statement of somebody who was given limits.
    pub(super) fn of_statement(
        &self,
        own: UserLimits,
        place: Option<Arc<Permit>>,
        running: Option<&Arc<RunningStatement>>,
    ) -> StatementLimits {
        let time = own.of(UserLimit::StatementTimeout).map(Duration::from_millis);
        StatementLimits {
            time: time.or(self.statement_timeout),
            rows: own.of(UserLimit::Rows).or(self.rows),
            threads: self.threads.clone(),
            place,
            running: running.cloned(),
        }
    }
}

impl StatementLimits {
    /// Runs a statement within the limits and the time that the session has set.
    pub(super) async fn run(
        self,
        setting: Option<Duration>,
        statement: impl Future<Output = Result<Output>> + Send + 'static,
    ) -> Result<Output> {
        let end = self.end(setting);
        let of_rows = end.clone();
        let statement = async move {
            let asked = of_rows.asked();
            Ok::<_, Error>(match asked.clone().within(caught(statement)).await? {
                Output::Rows(rows) => Output::Rows(limit_time(asked.within_rows(caught_rows(rows)), of_rows)),
                output => output,
            })
        };
        let output = match &self.threads {
            None => in_time(end, statement).await?,
            Some(threads) => {
                match task::run_statement(threads, self.place, end.clone().comes(), statement).await? {
                    // Here for those who wait for the rows, there for rows that nobody reads on.
                    Output::Rows(rows) => Output::Rows(limit_time(rows, end)),
                    output => output,
                }
            }
        };
        Ok(limit_output(output, self.rows))
    }

    /// The same on the threads of whoever waits, for what is over at once, its rows included; None: it is not.
    pub(super) async fn try_here(
        &self,
        setting: Option<Duration>,
        read: impl Future<Output = Result<Option<Output>>>,
    ) -> Result<Option<Output>> {
        let output = in_time(self.end(setting), caught(read)).await?;
        Ok(output.map(|output| limit_output(output, self.rows)))
    }

    /// The same, on the threads of whoever waits.
    pub(super) fn here(self) -> Self {
        Self { threads: None, ..self }
    }

    /// Runs what has no rows within the time.
    pub(super) async fn run_in_time<T: Send + 'static>(
        self,
        setting: Option<Duration>,
        work: impl Future<Output = Result<T>> + Send + 'static,
    ) -> Result<T> {
        let end = self.end(setting);
        let of_work = end.clone();
        let work = async move { of_work.asked().within(caught(work)).await };
        match &self.threads {
            None => in_time(end, work).await,
            Some(threads) => task::run(threads, self.place, end.comes(), work).await,
        }
    }

    fn end(&self, setting: Option<Duration>) -> End {
        End { deadline: self.deadline(setting), running: self.running.clone() }
    }

    fn deadline(&self, setting: Option<Duration>) -> Option<Deadline> {
        let at = |limit, imposed| Deadline { at: Instant::now() + limit, limit, imposed };
        match (self.time, setting) {
            (Some(most), Some(limit)) if limit < most => Some(at(limit, false)),
            (Some(most), _) => Some(at(most, true)),
            (None, Some(limit)) => Some(at(limit, false)),
            (None, None) => None,
        }
    }
}

/// What ends a statement before it has come to its own end.
#[derive(Clone)]
struct End {
    deadline: Option<Deadline>,
    running: Option<Arc<RunningStatement>>,
}

impl End {
    /// The question whether it has come, for the statement whose task this is called in; whether anybody still waits for that, too.
    fn asked(&self) -> Asked {
        let (end, awaited) = (self.clone(), Awaited::of_task());
        Asked::new(move || {
            awaited.check()?;
            end.check()
        })
    }

    /// That it has not come.
    ///
    /// # Errors
    /// As [`comes`](Self::comes) says.
    fn check(&self) -> Result<()> {
        if let Some(running) = &self.running {
            running.check()?;
        }
        match self.deadline {
            Some(deadline) if deadline.at <= Instant::now() => Err(timed_out(deadline)),
            Some(_) | None => Ok(()),
        }
    }

    /// Waits for the deadline, or for somebody who ends it.
    async fn comes(self) -> Error {
        let killed = async {
            match &self.running {
                Some(running) => running.killed().await,
                None => std::future::pending().await,
            }
        };
        let late = async {
            match self.deadline {
                Some(deadline) => {
                    tokio::time::sleep_until(deadline.at).await;
                    timed_out(deadline)
                }
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            error = killed => error,
            error = late => error,
        }
    }
}

async fn in_time<T>(end: End, work: impl Future<Output = Result<T>>) -> Result<T> {
    // Work that uses up what a task may do at a time must not keep its end from being seen.
    task::run_here(unconstrained(end.comes()), work).await
}

fn timed_out(deadline: Deadline) -> Error {
    let Deadline { limit, imposed, .. } = deadline;
    if imposed {
        let message = format!("the statement ran longer than a session may let it run ({limit:?})");
        return Error::new(ErrorKind::ResourceExhausted, message).map(|e| {
            e.with_sqlstate("57014")
                .with_hint("the limit is the server's or the user's; ask for less at once")
        });
    }
    Error::new(ErrorKind::Cancelled, format!("the statement ran longer than statement_timeout ({limit:?})"))
        .map(|e| e.with_hint("SET statement_timeout = '…' allows more; 0 is no limit"))
}

/// Ends the rows with an error when `end` comes.
fn limit_time(rows: RowStream, end: End) -> RowStream {
    let stream = futures::stream::unfold(Some((rows.stream, end)), |state| async move {
        let (mut stream, end) = state?;
        let next = tokio::select! {
            biased;
            batch = stream.next() => Ok(batch),
            error = unconstrained(end.clone().comes()) => Err(error),
        };
        match next {
            Ok(Some(batch)) => Some((batch, Some((stream, end)))),
            Ok(None) => None,
            Err(error) => Some((Err(DataFusionError::from(error)), None)),
        }
    });
    let stream = Box::pin(RecordBatchStreamAdapter::new(Arc::clone(&rows.schema), Box::pin(stream)));
    RowStream { schema: rows.schema, stream, notes: rows.notes }
}

fn limit_output(output: Output, rows: Option<u64>) -> Output {
    match (output, rows) {
        (Output::Rows(rows), Some(most)) => Output::Rows(limit_rows(rows, most)),
        (output, _) => output,
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
    let stream = Box::pin(RecordBatchStreamAdapter::new(Arc::clone(&rows.schema), Box::pin(stream)));
    RowStream { schema: rows.schema, stream, notes: rows.notes }
}

fn too_many(most: u64) -> Error {
    Error::new(ErrorKind::ResourceExhausted, format!("the result has more than {most} rows"))
        .map(|e| e.with_sqlstate("54000").with_hint("add LIMIT, or read it in parts"))
}
