//! Whether a statement is to end, asked in the middle of work that does not yield.
//!
//! Whoever waits for a statement ends it where it next yields. A join compares any number of rows before it does when none of them match:
//! it asks here instead, for each batch of pairs.
//!
//! Owns: the question, and its way to where a statement works: its future, its rows, the tasks it starts. Does not own: the answer
//! (`limits`), who asks (`rules`).

use std::future::Future;
use std::sync::Arc;

use datafusion::physical_plan::stream::RecordBatchStreamAdapter;
use futures::{StreamExt, stream};

use crate::error::Result;
use crate::output::RowStream;

tokio::task_local! {
    /// The question of the statement whose task this is.
    static ASKED: Asked;
}

/// The question whether a statement may go on.
#[derive(Clone)]
pub(crate) struct Asked(Arc<dyn Fn() -> Result<()> + Send + Sync>);

impl Asked {
    /// The question that `ask` answers: with the error that the statement ends with.
    pub(crate) fn new(ask: impl Fn() -> Result<()> + Send + Sync + 'static) -> Self {
        Self(Arc::new(ask))
    }

    /// That of the statement whose task this is called in; None: of none.
    pub(super) fn of_task() -> Option<Self> {
        ASKED.try_with(Clone::clone).ok()
    }

    /// Runs `work`, where the question can be asked.
    pub(crate) fn within<F: Future>(self, work: F) -> impl Future<Output = F::Output> {
        ASKED.scope(self, work)
    }

    /// `rows`, where the question can be asked while they are made.
    pub(super) fn within_rows(self, rows: RowStream) -> RowStream {
        let RowStream { schema, stream: mut made, notes } = rows;
        let made =
            stream::poll_fn(move |context| ASKED.sync_scope(self.clone(), || made.poll_next_unpin(context)));
        RowStream {
            schema: Arc::clone(&schema),
            stream: Box::pin(RecordBatchStreamAdapter::new(schema, made)),
            notes,
        }
    }
}

/// Asks whether the statement whose task this is called in may go on. A task of none may.
///
/// # Errors
/// That of what ends the statement.
pub(crate) fn may_go_on() -> Result<()> {
    ASKED.try_with(|asked| (asked.0)()).unwrap_or(Ok(()))
}

/// `work` for a task of its own, where the question of this task's statement can be asked.
pub(crate) fn carried<F: Future>(work: F) -> impl Future<Output = F::Output> {
    let asked = Asked::of_task();
    async move {
        match asked {
            Some(asked) => asked.within(work).await,
            None => work.await,
        }
    }
}
