//! What a statement's reads cost at the object store, for EXPLAIN ANALYZE.
//!
//! Owns: the meters of a statement's plan nodes, how their figures read, in the plan and in a line for the whole statement. Does not own:
//! counting (`cairn_storage::object`). Only EXPLAIN ANALYZE of a database on an object store measures: no other statement has meters,
//! and no plan of a directory shows figures that are always 0. Reads of planning count where they belong to a node, as those of
//! footers and keys do.

use std::sync::{Arc, Mutex, PoisonError};

use cairn_storage::Root;
use cairn_storage::object::{ReadFigures, ReadMeter};
use datafusion::arrow::array::{ArrayRef, RecordBatch, StringArray};
use datafusion::catalog::Session;
use datafusion::error::DataFusionError;
use datafusion::execution::context::SessionState;
use datafusion::physical_plan::metrics::{Count, Metric, MetricValue, MetricsSet, Time};
use datafusion::physical_plan::stream::RecordBatchStreamAdapter;
use futures::StreamExt;

use crate::context::StatementContext;
use crate::output::{Output, RowStream};

/// The meters of a statement, in the configuration it is planned with.
#[derive(Debug, Default)]
pub(crate) struct ReadMeters(Mutex<Vec<ReadMeter>>);

impl ReadMeters {
    /// `context` with meters, where what they count is worth telling.
    pub(crate) fn of(context: &StatementContext) -> Option<(Arc<Self>, StatementContext)> {
        if !matches!(context.db.root(), Root::Store(_)) {
            return None;
        }
        let meters = Arc::new(Self::default());
        let mut state = SessionState::clone(&context.state);
        state.config_mut().set_extension(Arc::clone(&meters));
        Some((meters, StatementContext { state: Arc::new(state), ..context.clone() }))
    }

    /// A meter for a node that is planned with `session`; None: nobody asks for its figures.
    pub(crate) fn next(session: &dyn Session) -> Option<ReadMeter> {
        let meters = session.config().get_extension::<Self>()?;
        let meter = ReadMeter::default();
        // Nothing panics while holding it.
        meters.0.lock().unwrap_or_else(PoisonError::into_inner).push(meter.clone());
        Some(meter)
    }

    /// What all of them have counted.
    fn sum(&self) -> ReadFigures {
        let meters = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        meters.iter().map(ReadMeter::figures).fold(ReadFigures::default(), |sum, of_node| ReadFigures {
            requests: sum.requests + of_node.requests,
            bytes: sum.bytes + of_node.bytes,
            cached_reads: sum.cached_reads + of_node.cached_reads,
            cached_bytes: sum.cached_bytes + of_node.cached_bytes,
            waited: sum.waited + of_node.waited,
        })
    }

    /// The rows of EXPLAIN ANALYZE with one more behind them: what all of the statement cost.
    pub(crate) fn summed_up(self: Arc<Self>, output: Output) -> Output {
        let RowStream { schema, stream } = match output {
            Output::Rows(rows) => rows,
            other @ (Output::Affected { .. } | Output::Done { .. }) => return other,
        };
        let columns = Arc::clone(&schema);
        let summary = async move {
            let figures = self.sum();
            let text = format!(
                "store_requests={}, store_bytes={}, cache_reads={}, cache_bytes={}, store_wait={:?}",
                figures.requests, figures.bytes, figures.cached_reads, figures.cached_bytes, figures.waited
            );
            let column = |text: &str| -> ArrayRef { Arc::new(StringArray::from(vec![text])) };
            Ok::<_, DataFusionError>(RecordBatch::try_new(
                columns,
                vec![column("Object store"), column(&text)],
            )?)
        };
        // Made when the plan has run.
        let rows = stream.chain(futures::stream::once(summary));
        let stream = Box::pin(RecordBatchStreamAdapter::new(Arc::clone(&schema), rows));
        Output::Rows(RowStream { schema, stream })
    }
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
        let (first, second) = (ReadMeters::next(&state).unwrap(), ReadMeters::next(&state).unwrap());
        first.request(100, Duration::from_millis(2));
        second.request(20, Duration::from_millis(1));
        second.cached(3);
        let sum = meters.sum();
        assert_eq!((sum.requests, sum.bytes, sum.cached_reads, sum.cached_bytes), (2, 120, 1, 3));
        assert_eq!(sum.waited, Duration::from_millis(3));
        let shown = with_reads(MetricsSet::new(), Some(&second));
        let of = |name: &str| shown.sum_by_name(name).unwrap().as_usize();
        assert_eq!((of("store_requests"), of("store_bytes"), of("cache_reads")), (1, 20, 1));
        assert_eq!(of("store_wait"), 1_000_000);
        assert_eq!(with_reads(MetricsSet::new(), None).iter().count(), 0);
    }
}
