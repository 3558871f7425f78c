//! Joins that let others have their turn.
//!
//! DataFusion's joins come back to their thread with rows alone. One whose condition no pair of rows meets goes on for as long as there are pairs, minutes
//! perhaps: as many of them as there are threads, and nobody else is answered. So a condition says when the turn of its join is over, by an error, which is caught
//! right above the join: the thread is given back, and the join goes on with the same pairs when others have had it.
//!
//! That depends on what a nested loop join and a hash join of DataFusion do behind an error of their condition: they have noted nothing of the pairs they asked
//! about, and ask about the same when they are polled again. A join by sorting has, so its condition never says so. The tests let each kind of join be
//! interrupted wherever it can be.
//!
//! Owns: the turn, the node above a join. Does not own: which joins have it, and the conditions that ask (`joins`).

use std::cell::Cell;
use std::error::Error;
use std::fmt;
use std::future::Future;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use datafusion::arrow::array::RecordBatch;
use datafusion::arrow::datatypes::SchemaRef;
use datafusion::common::config::ConfigOptions;
use datafusion::common::tree_node::TreeNodeRecursion;
use datafusion::common::{Result, internal_err};
use datafusion::error::DataFusionError;
use datafusion::execution::{RecordBatchStream, SendableRecordBatchStream, TaskContext};
use datafusion::physical_expr::PhysicalExpr;
use datafusion::physical_plan::coop::make_cooperative;
use datafusion::physical_plan::execution_plan::{ReplaceChildrenOptions, SchedulingType};
use datafusion::physical_plan::filter_pushdown::{
    ChildPushdownResult, FilterDescription, FilterPushdownPhase, FilterPushdownPropagation,
};
use datafusion::physical_plan::{DisplayAs, DisplayFormatType, ExecutionPlan, PlanProperties};
use futures::{Stream, StreamExt};

/// How long a join has its thread before others may have it.
pub(super) const TURN: Duration = Duration::from_millis(10);

tokio::task_local! {
    /// The turn of the join that is polled.
    static NOW: Turn;
}

/// The time that a join has its thread.
struct Turn {
    since: Instant,
    length: Duration,
    /// Whether pairs were compared since the join was polled. A join that is interrupted before never comes to an end where comparing takes longer than a turn.
    has_compared: Cell<bool>,
}

/// The turn of a join is over.
#[derive(Debug)]
struct Over;

impl fmt::Display for Over {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("others have their turn before the join goes on")
    }
}

impl Error for Over {}

/// Asks whether the condition of a join under a [`TurnsExec`] may be computed now.
///
/// # Errors
/// When the turn of the join is over; the node takes it for what it is.
pub(super) fn may_compare() -> Result<()> {
    let is_over = NOW.try_with(|turn| turn.has_compared.replace(true) && turn.since.elapsed() >= turn.length);
    match is_over {
        Ok(true) => Err(DataFusionError::External(Box::new(Over))),
        // Who runs a join without the node has no turns.
        Ok(false) | Err(_) => Ok(()),
    }
}

/// Whether the turn of the join that asks is over; the task is woken then when others have had theirs.
pub(super) fn comes_back(context: &mut Context<'_>) -> bool {
    let is_over = may_compare().is_err();
    if is_over {
        let_others(context);
    }
    is_over
}

/// Wakes the task when others have had their turn, and files and timers were looked at.
fn let_others(context: &mut Context<'_>) {
    let _ = pin!(tokio::task::yield_now()).poll(context);
}

fn is_over(error: &DataFusionError) -> bool {
    matches!(error.find_root(), DataFusionError::External(error) if error.is::<Over>())
}

/// A join that lets others have their turn, and yields after so many batches as DataFusion's leaves do.
#[derive(Clone, Debug)]
pub(super) struct TurnsExec {
    join: Arc<dyn ExecutionPlan>,
    properties: Arc<PlanProperties>,
    turn: Duration,
}

impl TurnsExec {
    pub(super) fn new(join: Arc<dyn ExecutionPlan>, turn: Duration) -> Self {
        let properties =
            PlanProperties::clone(join.properties()).with_scheduling_type(SchedulingType::Cooperative);
        Self { join, properties: Arc::new(properties), turn }
    }

    pub(super) fn join(&self) -> &Arc<dyn ExecutionPlan> {
        &self.join
    }

    fn over(&self, children: Vec<Arc<dyn ExecutionPlan>>) -> Result<Arc<dyn ExecutionPlan>> {
        match <[_; 1]>::try_from(children) {
            Ok([join]) => Ok(Arc::new(Self::new(join, self.turn))),
            Err(children) => internal_err!("turns of {} joins", children.len()),
        }
    }
}

impl DisplayAs for TurnsExec {
    fn fmt_as(&self, t: DisplayFormatType, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match t {
            DisplayFormatType::TreeRender => Ok(()),
            DisplayFormatType::Default | DisplayFormatType::Verbose => f.write_str("TurnsExec"),
        }
    }
}

impl ExecutionPlan for TurnsExec {
    fn name(&self) -> &'static str {
        "TurnsExec"
    }

    fn properties(&self) -> &Arc<PlanProperties> {
        &self.properties
    }

    fn children(&self) -> Vec<&Arc<dyn ExecutionPlan>> {
        vec![&self.join]
    }

    fn maintains_input_order(&self) -> Vec<bool> {
        vec![true]
    }

    fn benefits_from_input_partitioning(&self) -> Vec<bool> {
        vec![false]
    }

    fn replace_children(
        self: Arc<Self>,
        children: Vec<Arc<dyn ExecutionPlan>>,
        _options: ReplaceChildrenOptions,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        self.over(children)
    }

    fn with_new_children(
        self: Arc<Self>,
        children: Vec<Arc<dyn ExecutionPlan>>,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        self.over(children)
    }

    fn apply_expressions(
        &self,
        _f: &mut dyn FnMut(&Arc<dyn PhysicalExpr>) -> Result<TreeNodeRecursion>,
    ) -> Result<TreeNodeRecursion> {
        Ok(TreeNodeRecursion::Continue)
    }

    fn gather_filters_for_pushdown(
        &self,
        _phase: FilterPushdownPhase,
        parent_filters: Vec<Arc<dyn PhysicalExpr>>,
        _config: &ConfigOptions,
    ) -> Result<FilterDescription> {
        FilterDescription::from_children(parent_filters, &self.children())
    }

    fn handle_child_pushdown_result(
        &self,
        _phase: FilterPushdownPhase,
        child_pushdown_result: ChildPushdownResult,
        _config: &ConfigOptions,
    ) -> Result<FilterPushdownPropagation<Arc<dyn ExecutionPlan>>> {
        Ok(FilterPushdownPropagation::if_all(child_pushdown_result))
    }

    fn execute(&self, partition: usize, context: Arc<TaskContext>) -> Result<SendableRecordBatchStream> {
        let joined = self.join.execute(partition, context)?;
        Ok(make_cooperative(Box::pin(Turns { joined, since: None, turn: self.turn })))
    }
}

/// The rows of a join, turn by turn.
struct Turns {
    joined: SendableRecordBatchStream,
    /// When this turn began; None: it begins with the next poll.
    since: Option<Instant>,
    turn: Duration,
}

impl Stream for Turns {
    type Item = Result<RecordBatch>;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let this = &mut *self;
        let now = Instant::now();
        let is_spent = this.since.is_some_and(|since| now.duration_since(since) >= this.turn);
        if !is_spent {
            let since = *this.since.get_or_insert(now);
            let turn = Turn { since, length: this.turn, has_compared: Cell::new(false) };
            match NOW.sync_scope(turn, || this.joined.poll_next_unpin(context)) {
                Poll::Ready(Some(Err(error))) if is_over(&error) => {}
                Poll::Pending => {
                    this.since = None;
                    return Poll::Pending;
                }
                Poll::Ready(ready) => return Poll::Ready(ready),
            }
        }
        this.since = None;
        let_others(context);
        Poll::Pending
    }
}

impl RecordBatchStream for Turns {
    fn schema(&self) -> SchemaRef {
        self.joined.schema()
    }
}
