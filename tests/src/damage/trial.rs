//! One opening of a database that may be damaged, in a process that may die of it.
//!
//! Owns: opening, asking, closing, and saying what happened: answers, errors, panics, the largest request for memory. The other end is
//! `worker`, one line of JSON each way. Does not own: whether it was right (`judge`).

use std::io::{BufRead, Write};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::PathBuf;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use cairn_engine::{Engine, EngineOptions, OpenOptions, Output, Root, Session};
use datafusion::arrow::array::RecordBatch;
use futures::TryStreamExt;
use serde::{Deserialize, Serialize};

use super::allocation;
use crate::answer::{Answer, render};

/// A request of this much ends the process: no damage of a file of a few MiB may come near.
const REFUSED_BYTES: usize = 1 << 30;
/// What queries of one trial may use together.
const MEMORY_LIMIT: usize = 256 << 20;
/// How long work in the background may take to end.
const END_PATIENCE: Duration = Duration::from_secs(20);
/// Statements are planned by recursion, as deep in a test build as the stack of `cairn` allows.
const STACK_BYTES: usize = 8 << 20;

/// What to do with a database.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Trial {
    /// Where it is.
    pub root: PathBuf,
    /// Follow it instead of writing it.
    pub read_only: bool,
    /// Run VERIFY DEEP, before everything else.
    pub verifies: bool,
    /// Statements to run, one after the other, whatever the one before has said.
    pub questions: Vec<String>,
}

/// An error as a user sees it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Complaint {
    /// Five characters.
    pub sqlstate: String,
    /// Message, detail and hint.
    pub text: String,
}

impl Complaint {
    fn of(error: &cairn_engine::Error) -> Self {
        let parts = [Some(error.message()), error.detail(), error.hint()];
        let text = parts.into_iter().flatten().collect::<Vec<_>>().join("; ");
        Self { sqlstate: error.sqlstate().into(), text }
    }
}

/// What happened.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Observed {
    /// Whether it opened.
    pub opened: Result<(), Complaint>,
    /// Rows of VERIFY DEEP, if it was run.
    pub findings: Option<Result<Vec<Vec<String>>, Complaint>>,
    /// One for each question; none when it did not open.
    pub answers: Vec<Result<Answer, Complaint>>,
    /// Whether it closed in order.
    pub closed: Result<(), Complaint>,
    /// Panics of any thread, with their places.
    pub panics: Vec<String>,
    /// The largest single request for memory.
    pub largest_bytes: usize,
}

impl Observed {
    fn nothing_yet() -> Self {
        Self {
            opened: Ok(()),
            findings: None,
            answers: Vec::new(),
            closed: Ok(()),
            panics: Vec::new(),
            largest_bytes: 0,
        }
    }
}

/// Panics since the last trial.
static PANICS: Mutex<Vec<String>> = Mutex::new(Vec::new());

/// Answers trials of standard input until it ends.
///
/// # Errors
/// What is wrong with the pipes.
pub fn serve() -> Result<(), Box<dyn std::error::Error>> {
    // Of every thread: one that somebody catches is a panic all the same.
    std::panic::set_hook(Box::new(|panic| {
        PANICS.lock().unwrap_or_else(PoisonError::into_inner).push(panic.to_string());
    }));
    for line in std::io::stdin().lock().lines() {
        let trial: Trial = serde_json::from_str(&line?)?;
        let observed = run(&trial)?;
        let mut out = std::io::stdout().lock();
        writeln!(out, "{}", serde_json::to_string(&observed)?)?;
        out.flush()?;
    }
    Ok(())
}

fn run(trial: &Trial) -> std::io::Result<Observed> {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .thread_stack_size(STACK_BYTES)
        .enable_all()
        .build()?;
    allocation::begin(REFUSED_BYTES);
    // What a panic leaves is thrown away with the runtime.
    let observed = catch_unwind(AssertUnwindSafe(|| runtime.block_on(attempt(trial))));
    let largest_bytes = allocation::largest();
    runtime.shutdown_timeout(END_PATIENCE);
    let panics = std::mem::take(&mut *PANICS.lock().unwrap_or_else(PoisonError::into_inner));
    Ok(Observed { panics, largest_bytes, ..observed.unwrap_or_else(|_| Observed::nothing_yet()) })
}

async fn attempt(trial: &Trial) -> Observed {
    let mut observed = Observed::nothing_yet();
    // Nothing happens by itself but what damage makes happen.
    let storage = OpenOptions {
        read_only: trial.read_only,
        create: !trial.read_only,
        compacts: false,
        checkpoint_wal_bytes: u64::MAX,
        close_wal_bytes: u64::MAX,
        ..OpenOptions::default()
    };
    let options = EngineOptions {
        storage,
        memory_limit: Some(MEMORY_LIMIT),
        partitions: Some(2),
        ..EngineOptions::default()
    };
    let engine = match Engine::open(Root::Path(trial.root.clone()), options).await {
        Ok(engine) => engine,
        Err(error) => {
            observed.opened = Err(Complaint::of(&error));
            return observed;
        }
    };
    let session = engine.session();
    if trial.verifies {
        observed.findings = Some(ask(&session, "VERIFY DEEP").await.map(Answer::rows));
    }
    for question in &trial.questions {
        observed.answers.push(ask(&session, question).await);
    }
    drop(session);
    observed.closed = engine.close().await.map_err(|error| Complaint::of(&error));
    observed
}

async fn ask(session: &Session, sql: &str) -> Result<Answer, Complaint> {
    match session.execute(sql, None).await.map_err(|error| Complaint::of(&error))? {
        Output::Rows(rows) => {
            let batches: Vec<RecordBatch> = rows
                .stream
                .try_collect()
                .await
                .map_err(|error| Complaint::of(&cairn_engine::Error::from(error)))?;
            Ok(render(&rows.schema, &batches))
        }
        Output::Affected { rows, .. } => Ok(Answer::Affected(rows)),
        Output::Done { .. } => Ok(Answer::Done),
    }
}
