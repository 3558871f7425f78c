//! Counters of statements: how many run, how long they took by kind and outcome, rows they answered with.
//!
//! Owns: what is counted, and told to a log, when a statement begins and ends. A statement ends with its last row, its error, or when it is dropped
//! before (then it was cancelled, class 57). Does not own: commits and jobs (`cairn_storage::metrics`), names and text forms.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::{Duration, Instant, SystemTime};

use cairn_storage::ErrorKind;
use cairn_storage::metrics::{Counter, Histogram, HistogramFigures};
use datafusion::arrow::array::RecordBatch;
use datafusion::arrow::datatypes::SchemaRef;
use datafusion::error::DataFusionError;
use datafusion::execution::{RecordBatchStream, SendableRecordBatchStream};
use futures::Stream;

use crate::error::{Error, Result};
use crate::log::{StatementLog, StatementRecord};
use crate::output::{Output, RowStream};
use crate::queue::Permit;
use crate::running::{Running, RunningStatement};
use crate::statement::{Statement, StatementKind, fingerprint, tables};

/// How statements end: well, or with an error of one of these classes of SQLSTATE; the last stands for all others.
const OUTCOMES: [&str; 23] = [
    "ok", "08", "0A", "0L", "20", "21", "22", "23", "25", "28", "2B", "34", "3D", "3F", "40", "42", "53",
    "54", "55", "57", "58", "72", "XX",
];
const OK: usize = 0;
/// Class of what the caller or a time limit stopped.
const CANCELLED: usize = 19;
const OTHER: usize = OUTCOMES.len() - 1;
const KINDS: usize = StatementKind::ALL.len();

/// See the module.
#[derive(Debug, Default)]
pub(crate) struct StatementMetrics {
    /// By kind, then outcome.
    times: [[Histogram; OUTCOMES.len()]; KINDS],
    running: Counter,
    rows: Counter,
    plans_reused: Counter,
    plans_made: Counter,
}

/// Statements of one kind that ended one way.
#[derive(Clone, Debug)]
pub struct StatementTimes {
    /// What sort of statement.
    pub kind: StatementKind,
    /// "ok", or the class of the SQLSTATE: its first two characters.
    pub outcome: &'static str,
    /// From the call until the last row was handed on, the time the reader took between rows included.
    pub times: HistogramFigures,
}

/// An engine's statements at one moment, since its opening.
#[derive(Clone, Debug)]
pub struct StatementFigures {
    /// Kinds and outcomes there have been.
    pub times: Vec<StatementTimes>,
    /// Statements that run now, those whose rows are still read included.
    pub running: u64,
    /// Rows statements answered with.
    pub rows: u64,
    /// Executions of queries that took a plan a session had kept.
    pub plans_reused: u64,
    /// Executions of queries that might have taken one, and were planned.
    pub plans_made: u64,
}

impl StatementMetrics {
    pub(crate) fn figures(&self) -> StatementFigures {
        let mut times = Vec::new();
        for (kind, outcomes) in StatementKind::ALL.into_iter().zip(&self.times) {
            for (outcome, histogram) in OUTCOMES.into_iter().zip(outcomes) {
                let figures = histogram.figures();
                if figures.count() > 0 || outcome == OUTCOMES[OK] {
                    times.push(StatementTimes { kind, outcome, times: figures });
                }
            }
        }
        StatementFigures {
            times,
            running: self.running.value(),
            rows: self.rows.value(),
            plans_reused: self.plans_reused.value(),
            plans_made: self.plans_made.value(),
        }
    }

    /// A query took a plan that its session had kept.
    pub(crate) fn plan_reused(&self) {
        self.plans_reused.one();
    }

    /// A query that may come again was planned.
    pub(crate) fn plan_made(&self) {
        self.plans_made.one();
    }
}

/// One statement that runs.
pub(crate) struct Watch {
    metrics: Arc<StatementMetrics>,
    kind: StatementKind,
    begun: Instant,
    outcome: usize,
    /// What is told of it, where somebody listens.
    told: Option<Box<Told>>,
    /// Given back when the statement has ended.
    permit: Option<Arc<Permit>>,
    /// In the list of those that run until then.
    running: Running,
}

struct Told {
    log: Arc<dyn StatementLog>,
    sql: String,
    is_parsed: bool,
    record: StatementRecord,
}

impl Watch {
    /// The statement `sql` begins, which is listed as `listed`; `log` with its user and client hears of its end.
    pub(crate) fn begin(
        metrics: &Arc<StatementMetrics>,
        sql: &str,
        listed: Running,
        log: Option<(Arc<dyn StatementLog>, String, String)>,
    ) -> Self {
        metrics.running.one();
        let told = log.map(|(log, user, client)| {
            let record = StatementRecord {
                begun: SystemTime::now(),
                took: Duration::ZERO,
                user,
                client,
                kind: StatementKind::Other,
                fingerprint: String::new(),
                tables: Vec::new(),
                rows: 0,
                error: Some(ErrorKind::Cancelled.sqlstate()),
            };
            Box::new(Told { log, sql: sql.to_owned(), is_parsed: false, record })
        });
        Self {
            metrics: Arc::clone(metrics),
            kind: StatementKind::Other,
            begun: Instant::now(),
            outcome: CANCELLED,
            told,
            permit: None,
            running: listed,
        }
    }

    /// What others see of the statement.
    pub(crate) fn running(&self) -> &Arc<RunningStatement> {
        self.running.statement()
    }

    /// The statement may run, until it ends; on threads of its own it holds `permit` as well.
    pub(crate) fn holds(&mut self, permit: Arc<Permit>) {
        self.permit = Some(permit);
    }

    /// It is no statement: a client sends rows for a table.
    pub(crate) fn is_ingest(&mut self, table: String) {
        self.kind = StatementKind::Copy;
        if let Some(told) = &mut self.told {
            told.record.tables = vec![table];
        }
    }

    /// The statement is only described.
    pub(crate) fn is_prepare(&mut self) {
        self.kind = StatementKind::Prepare;
    }

    /// The statement has been read, and is to be run.
    pub(crate) fn is(&mut self, statement: &Statement) {
        self.kind = StatementKind::of(statement);
        self.names(statement);
    }

    /// The statement has been read.
    pub(crate) fn names(&mut self, statement: &Statement) {
        self.running().is_parsed();
        if let Some(told) = &mut self.told {
            told.is_parsed = true;
            told.record.tables = tables(statement);
        }
    }

    /// It has answered; its rows are watched on.
    pub(crate) fn over(self, result: Result<Output>) -> Result<Output> {
        match result {
            Ok(Output::Rows(RowStream { schema, stream, notes })) => {
                let watched = WatchedRows { rows: stream, watch: Some(self) };
                Ok(Output::Rows(RowStream { schema, stream: Box::pin(watched), notes }))
            }
            Ok(output) => {
                let rows = if let Output::Affected { rows, .. } = &output { *rows } else { 0 };
                self.over_rows(Ok(rows)).map(|_| output)
            }
            Err(error) => self.over_uncounted(Err(error)),
        }
    }

    /// It has changed so many rows.
    pub(crate) fn over_rows(mut self, result: Result<u64>) -> Result<u64> {
        if let (Ok(rows), Some(told)) = (&result, &mut self.told) {
            told.record.rows = *rows;
        }
        self.over_uncounted(result)
    }

    /// It has come to something that has no rows.
    pub(crate) fn over_uncounted<T>(mut self, result: Result<T>) -> Result<T> {
        self.end(result.as_ref().err());
        result
    }

    fn rows(&mut self, rows: u64) {
        self.metrics.rows.add(rows);
        self.running().answers(rows);
        if let Some(told) = &mut self.told {
            told.record.rows += rows;
        }
    }

    /// It ends, well or with `error`; one that is dropped before was cancelled.
    fn end(&mut self, error: Option<&Error>) {
        self.outcome = error.map_or(OK, class);
        if let Some(told) = &mut self.told {
            told.record.error = error.map(Error::sqlstate);
        }
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        let took = self.begun.elapsed();
        self.metrics.running.subtract(1);
        self.metrics.times[self.kind as usize][self.outcome].observe(took);
        if let Some(told) = &mut self.told
            && took >= told.log.least()
        {
            told.record.took = took;
            told.record.kind = self.kind;
            told.record.fingerprint = fingerprint(&told.sql, told.is_parsed);
            told.log.ended(&told.record);
        }
        drop(self.permit.take());
    }
}

fn class(error: &Error) -> usize {
    OUTCOMES.iter().position(|class| error.sqlstate().starts_with(class)).unwrap_or(OTHER)
}

/// Rows whose end is the statement's.
struct WatchedRows {
    rows: SendableRecordBatchStream,
    watch: Option<Watch>,
}

impl Stream for WatchedRows {
    type Item = Result<RecordBatch, DataFusionError>;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let item = std::task::ready!(self.rows.as_mut().poll_next(context));
        match &item {
            Some(Ok(batch)) => {
                if let Some(watch) = &mut self.watch {
                    watch.rows(batch.num_rows() as u64);
                }
            }
            end => {
                let error = end.as_ref().and_then(|end| end.as_ref().err()).map(Error::of);
                if let Some(mut watch) = self.watch.take() {
                    watch.end(error.as_ref());
                }
            }
        }
        Poll::Ready(item)
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        self.rows.size_hint()
    }
}

impl RecordBatchStream for WatchedRows {
    fn schema(&self) -> SchemaRef {
        self.rows.schema()
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use datafusion::execution::memory_pool::UnboundedMemoryPool;

    use super::*;
    use crate::running::{RunningStatements, Whose};
    use crate::session::PartOfMemory;

    #[test]
    fn classes() {
        assert_eq!(OUTCOMES[CANCELLED], "57");
        assert_eq!(OUTCOMES[OTHER], "XX");
        let of = |state| {
            let error =
                cairn_storage::Error::new(cairn_storage::ErrorKind::InvalidInput, "").with_sqlstate(state);
            OUTCOMES[class(&error.into())]
        };
        assert_eq!((of("23505"), of("0A000"), of("72000"), of("99999")), ("23", "0A", "72", "XX"));
    }

    #[test]
    fn a_statement_that_is_dropped_was_cancelled() {
        let metrics = Arc::new(StatementMetrics::default());
        let running = Arc::new(RunningStatements::default());
        let pool = Arc::new(UnboundedMemoryPool::default());
        let memory = Arc::new(PartOfMemory::of_user(pool));
        let (user, client) = (String::new(), String::new());
        let listed =
            running.begin("UPDATE t SET a = 1", Whose { session: 1, user_id: None, user, client, memory });
        let mut watch = Watch::begin(&metrics, "UPDATE t SET a = 1", listed, None);
        assert_eq!(running.all().len(), 1);
        watch.is(&crate::statement::parse("UPDATE t SET a = 1").unwrap());
        assert_eq!(metrics.figures().running, 1);
        drop(watch);
        assert!(running.all().is_empty());
        let figures = metrics.figures();
        assert_eq!(figures.running, 0);
        let ended: Vec<_> = figures.times.iter().filter(|t| t.times.count() > 0).collect();
        assert_eq!(ended.len(), 1);
        assert_eq!((ended[0].kind, ended[0].outcome), (StatementKind::Update, "57"));
    }
}
