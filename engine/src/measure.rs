//! What a statement's reads cost at the object store, for EXPLAIN ANALYZE.
//!
//! Owns: the meters of a statement's plan nodes and of the files it queries, how their figures read, in the plan and in lines for files and for the
//! whole statement. Does not own: counting (`cairn_storage::object`). Only EXPLAIN ANALYZE measures: no other statement has meters, and nothing of a
//! directory shows figures that are always 0. Reads of planning count where they belong to a node, as those of footers and keys do. Files are read
//! by DataFusion's nodes, which know of no meters: all that one table of files asks for, listings and looks at schemas included, has one line.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use cairn_storage::object::{ReadFigures, ReadMeter};
use cairn_storage::{Database, Root};
use datafusion::arrow::array::{ArrayRef, RecordBatch, StringArray};
use datafusion::arrow::datatypes::SchemaRef;
use datafusion::catalog::Session;
use datafusion::error::DataFusionError;
use datafusion::execution::context::SessionState;
use datafusion::physical_plan::metrics::{Count, Metric, MetricValue, MetricsSet, Time};
use datafusion::physical_plan::stream::RecordBatchStreamAdapter;
use futures::{StreamExt, TryStreamExt};

use crate::error::Result;
use crate::output::{Output, RowStream};
use crate::stores::OpenStore;

/// The meters of a statement, in the configuration it is planned with.
#[derive(Debug, Default)]
pub(crate) struct ReadMeters {
    /// Whether what tables read is worth telling.
    of_tables: bool,
    held: Mutex<Held>,
}

#[derive(Debug, Default)]
struct Held {
    nodes: Vec<ReadMeter>,
    files: Vec<Files>,
}

/// Objects that a text in FROM names.
#[derive(Debug)]
struct Files {
    text: String,
    meter: ReadMeter,
    /// Plans find it as long as it is held.
    _open: Arc<OpenStore>,
}

impl ReadMeters {
    /// `state` with meters for a statement of `database`.
    pub(crate) fn measuring(state: &SessionState, database: &Database) -> Arc<SessionState> {
        let of_tables = matches!(database.root(), Root::Store(_));
        let mut state = state.clone();
        state.config_mut().set_extension(Arc::new(Self { of_tables, held: Mutex::default() }));
        Arc::new(state)
    }

    /// Those of the statement that is planned with `session`; None: it is not measured.
    pub(crate) fn of(session: &dyn Session) -> Option<Arc<Self>> {
        session.config().get_extension::<Self>()
    }

    /// A meter for a node that is planned with `session`; None: nobody asks for its figures.
    pub(crate) fn next(session: &dyn Session) -> Option<ReadMeter> {
        let meters = Self::of(session).filter(|meters| meters.of_tables)?;
        let meter = ReadMeter::default();
        meters.held().nodes.push(meter.clone());
        Some(meter)
    }

    /// The bucket `open` with a meter for what `text` names there.
    ///
    /// # Errors
    /// None that `open` did not have.
    pub(crate) fn of_files(&self, text: &str, open: &OpenStore) -> Result<Arc<OpenStore>> {
        let meter = ReadMeter::default();
        let metered = open.metered(meter.clone())?;
        let files = Files { text: text.to_owned(), meter, _open: Arc::clone(&metered) };
        self.held().files.push(files);
        Ok(metered)
    }

    fn held(&self) -> MutexGuard<'_, Held> {
        // Nothing panics while holding it.
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What all of them have counted.
    fn sum(&self) -> ReadFigures {
        let held = self.held();
        let meters = held.nodes.iter().chain(held.files.iter().map(|files| &files.meter));
        meters.map(ReadMeter::figures).fold(ReadFigures::default(), |sum, of_one| ReadFigures {
            requests: sum.requests + of_one.requests,
            bytes: sum.bytes + of_one.bytes,
            cached_reads: sum.cached_reads + of_one.cached_reads,
            cached_bytes: sum.cached_bytes + of_one.cached_bytes,
            waited: sum.waited + of_one.waited,
        })
    }

    /// Titles and texts of the lines: one for each text that names files, one for all of the statement. None where there is nothing to tell.
    fn lines(&self) -> (Vec<&'static str>, Vec<String>) {
        let held = self.held();
        let told = held.files.iter().map(|files| {
            let figures = shown(&files.meter.figures());
            ("Files", format!("{}: {figures}", files.text))
        });
        let mut lines: Vec<_> = told.collect();
        drop(held);
        if self.of_tables || !lines.is_empty() {
            lines.push(("Object store", shown(&self.sum())));
        }
        lines.into_iter().unzip()
    }

    fn batch(&self, columns: SchemaRef) -> Result<RecordBatch, DataFusionError> {
        let (titles, texts) = self.lines();
        let columns_of: Vec<ArrayRef> =
            vec![Arc::new(StringArray::from(titles)), Arc::new(StringArray::from(texts))];
        Ok(RecordBatch::try_new(columns, columns_of)?)
    }

    /// The rows of EXPLAIN ANALYZE with more behind them: what files cost, and all of the statement.
    pub(crate) fn summed_up(self: Arc<Self>, output: Output) -> Output {
        let RowStream { schema, stream, notes } = match output {
            Output::Rows(rows) => rows,
            other @ (Output::Affected { .. } | Output::Done { .. }) => return other,
        };
        let columns = Arc::clone(&schema);
        // Made when the plan has run.
        let summary = futures::stream::once(async move { self.batch(columns) });
        let summary = summary.try_filter(|batch| futures::future::ready(batch.num_rows() > 0));
        let stream = Box::pin(RecordBatchStreamAdapter::new(Arc::clone(&schema), stream.chain(summary)));
        Output::Rows(RowStream { schema, stream, notes })
    }
}

/// Figures as a line tells them.
fn shown(figures: &ReadFigures) -> String {
    format!(
        "store_requests={}, store_bytes={}, cache_reads={}, cache_bytes={}, store_wait={:?}",
        figures.requests, figures.bytes, figures.cached_reads, figures.cached_bytes, figures.waited
    )
}

/// `metrics` of a node with what its meter has counted.
pub(crate) fn with_reads(mut metrics: MetricsSet, meter: Option<&ReadMeter>) -> MetricsSet {
    let Some(figures) = meter.map(ReadMeter::figures) else { return metrics };
    for (name, figure) in [
        ("store_requests", figures.requests),
        ("store_bytes", figures.bytes),
        ("cache_reads", figures.cached_reads),
        ("cache_bytes", figures.cached_bytes),
    ] {
        let count = Count::new();
        count.add(usize::try_from(figure).unwrap_or(usize::MAX));
        metrics.push(Arc::new(Metric::new(MetricValue::Count { name: name.into(), count }, None)));
    }
    let time = Time::new();
    // One that is added is at least a nanosecond.
    if !figures.waited.is_zero() {
        time.add_duration(figures.waited);
    }
    metrics.push(Arc::new(Metric::new(MetricValue::Time { name: "store_wait".into(), time }, None)));
    metrics
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use std::time::Duration;

    use datafusion::execution::session_state::SessionStateBuilder;

    use super::*;

    #[test]
    fn meters_of_a_statement_add_up() {
        let mut state = SessionStateBuilder::new().build();
        assert!(ReadMeters::next(&state).is_none());
        let meters = Arc::new(ReadMeters::default());
        state.config_mut().set_extension(Arc::clone(&meters));
        assert!(ReadMeters::next(&state).is_none(), "tables are in a directory");
        assert_eq!(meters.lines().0.len(), 0);
        let meters = Arc::new(ReadMeters { of_tables: true, ..ReadMeters::default() });
        state.config_mut().set_extension(Arc::clone(&meters));
        let (first, second) = (ReadMeters::next(&state).unwrap(), ReadMeters::next(&state).unwrap());
        first.request(100, Duration::from_millis(2));
        second.request(20, Duration::from_millis(1));
        second.cached(3);
        let sum = meters.sum();
        assert_eq!((sum.requests, sum.bytes, sum.cached_reads, sum.cached_bytes), (2, 120, 1, 3));
        assert_eq!(sum.waited, Duration::from_millis(3));
        assert_eq!(meters.lines().0, ["Object store"]);
        let shown = with_reads(MetricsSet::new(), Some(&second));
        let of = |name: &str| shown.sum_by_name(name).unwrap().as_usize();
        assert_eq!((of("store_requests"), of("store_bytes"), of("cache_reads")), (1, 20, 1));
        assert_eq!(of("store_wait"), 1_000_000);
        assert_eq!(with_reads(MetricsSet::new(), None).iter().count(), 0);
    }
}
