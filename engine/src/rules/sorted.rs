//! Joins by sorting, for statements whose hash joins need more memory than there is (ADR 47).
//!
//! A hash join holds one of its sides whole. Sorts spill, and a join of sorted sides holds the rows of one key.
//! Owns: which hash joins can be made such joins, the rules that do it, and what one attempt at a statement has to tell of its
//! joins. Does not own: when a statement is run again (`session::sorted`).
//!
//! Its rules run when sides are chosen, and before partitions and sorts are asked for. Small sides stay in hash joins: to sort what they are
//! joined with would cost more than they hold.
//!
//! DataFusion 55 has its faults with such joins, and each is kept away from. A condition beside the keys reads the wrong columns when the
//! sides were swapped, or when a projection is moved below the join: that of an inner join stands above it, outer joins with one stay. Projections
//! are moved below semi and mark joins by the columns of a join of both sides, and what is in order by the key is taken for in order by the
//! other side's columns behind it: nothing is told of the order of such a join here, and nothing passes it. Two ways of comparing keys are
//! not of one mind about NaN and -0: floating-point keys stay.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use datafusion::arrow::compute::SortOptions;
use datafusion::arrow::datatypes::{DataType, Schema};
use datafusion::common::stats::Precision;
use datafusion::common::tree_node::{Transformed, TransformedResult, TreeNode, TreeNodeRecursion};
use datafusion::common::{JoinSide, JoinType, Result, internal_err};
use datafusion::execution::{SendableRecordBatchStream, TaskContext};
use datafusion::physical_expr::expressions::Column;
use datafusion::physical_expr::{HigherOrderFunctionExpr, PhysicalExpr};
use datafusion::physical_plan::aggregates::{AggregateExec, PhysicalGroupBy};
use datafusion::physical_plan::execution_plan::ReplaceChildrenOptions;
use datafusion::physical_plan::filter::FilterExec;
use datafusion::physical_plan::joins::utils::JoinFilter;
use datafusion::physical_plan::joins::{HashJoinExec, SortMergeJoinExec};
use datafusion::physical_plan::projection::ProjectionExec;
use datafusion::physical_plan::statistics::{StatisticsArgs, StatisticsContext};
use datafusion::physical_plan::{
    DisplayAs, DisplayFormatType, ExecutionPlan, ExecutionPlanProperties, PlanProperties,
};

use super::gather::GatherExec;

/// Rows of a side that any hash join holds.
const SMALL_ROWS: usize = 1_000;

/// The joins of one attempt at a statement, in the configuration it is planned with.
#[derive(Debug, Default)]
pub(crate) struct PlannedJoins {
    sorts: bool,
    could_sort: AtomicBool,
    is_committed: AtomicBool,
}

impl PlannedJoins {
    /// Those of an attempt that joins by sorting, if it `sorts`.
    pub(crate) fn new(sorts: bool) -> Self {
        Self { sorts, ..Self::default() }
    }

    /// Whether the attempt joins by sorting.
    pub(crate) fn sorts(&self) -> bool {
        self.sorts
    }

    /// A plan of the attempt was made.
    pub(crate) fn look_at(&self, plan: &Arc<dyn ExecutionPlan>) -> Result<()> {
        let found = plan.exists(|node| {
            Ok(node
                .downcast_ref::<HashJoinExec>()
                .is_some_and(|join| join.left().is::<GatherExec>() && can_sort(join)))
        })?;
        if found {
            self.could_sort.store(true, Ordering::Relaxed);
        }
        Ok(())
    }

    /// The attempt has committed: whatever fails now, it has happened.
    pub(crate) fn commit(&self) {
        self.is_committed.store(true, Ordering::Relaxed);
    }

    /// Whether the statement, when this attempt has run out of memory, can be run once more with joins that need less.
    pub(crate) fn can_sort(&self) -> bool {
        !self.sorts && self.could_sort.load(Ordering::Relaxed) && !self.is_committed.load(Ordering::Relaxed)
    }
}

/// `plan` with joins by sorting, wherever they come from, apart from what stands above them.
pub(super) fn apart(plan: Arc<dyn ExecutionPlan>) -> Result<Arc<dyn ExecutionPlan>> {
    plan.transform_up(|plan| {
        Ok(match plan.is::<SortMergeJoinExec>() {
            true => Transformed::yes(Arc::new(UnorderedExec::new(plan)) as Arc<dyn ExecutionPlan>),
            false => Transformed::no(plan),
        })
    })
    .data()
}

/// `plan` with joins by sorting in the place of hash joins.
pub(super) fn sorted(plan: Arc<dyn ExecutionPlan>) -> Result<Arc<dyn ExecutionPlan>> {
    plan.transform_up(|plan| {
        let Some(join) = plan.downcast_ref::<HashJoinExec>() else { return Ok(Transformed::no(plan)) };
        if !can_sort(join) || join.contains_projection() || join.fetch().is_some() || is_small(join) {
            return Ok(Transformed::no(plan));
        }
        Ok(Transformed::yes(by_sorting(join)?))
    })
    .data()
}

fn by_sorting(join: &HashJoinExec) -> Result<Arc<dyn ExecutionPlan>> {
    let above = join.filter().filter(|_| *join.join_type() == JoinType::Inner);
    let sorted: Arc<dyn ExecutionPlan> = Arc::new(SortMergeJoinExec::try_new(
        Arc::clone(join.left()),
        Arc::clone(join.right()),
        join.on().to_vec(),
        if above.is_some() { None } else { join.filter().cloned() },
        *join.join_type(),
        vec![SortOptions::default(); join.on().len()],
        join.null_equality(),
    )?);
    match above {
        Some(filter) => {
            let condition = over_both_sides(filter, join.left().schema().fields().len(), &sorted.schema())?;
            Ok(Arc::new(FilterExec::try_new(condition, sorted)?))
        }
        None => Ok(sorted),
    }
}

/// The condition of an inner join on the columns that it puts out: `left` ones of the left side, then the others.
fn over_both_sides(filter: &JoinFilter, left: usize, output: &Schema) -> Result<Arc<dyn PhysicalExpr>> {
    let condition =
        Arc::clone(filter.expression()).transform_up(|expr| {
            let Some(column) = expr.downcast_ref::<Column>() else { return Ok(Transformed::no(expr)) };
            let index = match filter.column_indices().get(column.index()) {
                Some(of_side) if of_side.side == JoinSide::Left => of_side.index,
                Some(of_side) if of_side.side == JoinSide::Right => left + of_side.index,
                _ => {
                    return internal_err!(
                        "the condition of a join reads column {column}, which it does not have"
                    );
                }
            };
            Ok(Transformed::yes(
                Arc::new(Column::new(output.field(index).name(), index)) as Arc<dyn PhysicalExpr>
            ))
        });
    condition.data()
}

/// Whether a join by sorting gives the same rows.
fn can_sort(join: &HashJoinExec) -> bool {
    let is_outer = matches!(join.join_type(), JoinType::Left | JoinType::Right | JoinType::Full);
    let (left, right) = (join.left().schema(), join.right().schema());
    let is_key = |left: DataType, right: DataType| left == right && is_comparable(&left, *join.join_type());
    let filter_moves = match join.filter() {
        Some(filter) => !is_outer && !holds_lambda(filter.expression()),
        None => true,
    };
    filter_moves
        && !join.null_aware
        && join.on().iter().all(|(of_left, of_right)| {
            match (of_left.data_type(&left), of_right.data_type(&right)) {
                (Ok(left), Ok(right)) => is_key(left, right),
                _ => false,
            }
        })
}

/// Whether a condition has a lambda: its variables are columns behind those of the condition, and stay there when these become others.
fn holds_lambda(condition: &Arc<dyn PhysicalExpr>) -> bool {
    let found = condition.exists(|expr| Ok(expr.downcast_ref::<HigherOrderFunctionExpr>().is_some()));
    found.unwrap_or(true)
}

/// Whether keys of a type are compared by such a join as they are sorted.
fn is_comparable(key: &DataType, join_type: JoinType) -> bool {
    match key {
        DataType::Boolean
        | DataType::Utf8
        | DataType::LargeUtf8
        | DataType::Utf8View
        | DataType::Binary
        | DataType::LargeBinary
        | DataType::BinaryView
        | DataType::FixedSizeBinary(_)
        | DataType::Decimal128(..)
        | DataType::Timestamp(_, None)
        | DataType::Date32
        | DataType::Date64 => true,
        key if key.is_integer() => true,
        // What semi, anti and mark joins compare keys of two batches by does not know them.
        DataType::Timestamp(_, Some(_))
        | DataType::Time32(_)
        | DataType::Time64(_)
        | DataType::Decimal256(..) => {
            matches!(join_type, JoinType::Inner | JoinType::Left | JoinType::Right | JoinType::Full)
        }
        _ => false,
    }
}

/// Whether the side that a hash join holds is certainly small.
pub(super) fn is_small(join: &HashJoinExec) -> bool {
    at_most(join.left()).is_some_and(|rows| rows <= SMALL_ROWS)
}

/// Rows that `plan` has at most; None: nobody knows.
fn at_most(plan: &Arc<dyn ExecutionPlan>) -> Option<usize> {
    let aggregate = plan.downcast_ref::<AggregateExec>().map(AggregateExec::group_expr);
    if aggregate.is_some_and(PhysicalGroupBy::is_empty) {
        return Some(plan.output_partitioning().partition_count());
    }
    let adds_none = plan.is::<FilterExec>()
        || plan.is::<ProjectionExec>()
        || aggregate.is_some_and(PhysicalGroupBy::is_single)
        || plan.name() == "KeysOnceExec"
        || hands_on(plan);
    match plan.children().as_slice() {
        [] => {
            let statistics = StatisticsContext::new().compute(plan.as_ref(), &StatisticsArgs::new()).ok()?;
            match statistics.num_rows {
                Precision::Exact(rows) => Some(rows),
                Precision::Inexact(_) | Precision::Absent => None,
            }
        }
        [input] if adds_none => at_most(input),
        _ => None,
    }
}

/// Whether a node only hands rows on.
pub(super) fn hands_on(plan: &Arc<dyn ExecutionPlan>) -> bool {
    matches!(
        plan.name(),
        "RepartitionExec" | "CoalescePartitionsExec" | "CooperativeExec" | "SortExec" | "BufferExec"
    )
}

/// The rows of a join, of whose order nothing is told: no sort and no projection passes.
#[derive(Clone, Debug)]
struct UnorderedExec {
    input: Arc<dyn ExecutionPlan>,
    properties: Arc<PlanProperties>,
}

impl UnorderedExec {
    fn new(input: Arc<dyn ExecutionPlan>) -> Self {
        let mut equal = input.properties().equivalence_properties().clone();
        equal.clear_orderings();
        let properties = PlanProperties::clone(input.properties()).with_eq_properties(equal);
        Self { input, properties: Arc::new(properties) }
    }

    fn over(children: Vec<Arc<dyn ExecutionPlan>>) -> Result<Arc<dyn ExecutionPlan>> {
        match <[_; 1]>::try_from(children) {
            Ok([input]) => Ok(Arc::new(Self::new(input))),
            Err(children) => internal_err!("rows without order of {} inputs", children.len()),
        }
    }
}

impl DisplayAs for UnorderedExec {
    fn fmt_as(&self, t: DisplayFormatType, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match t {
            DisplayFormatType::TreeRender => Ok(()),
            DisplayFormatType::Default | DisplayFormatType::Verbose => f.write_str("UnorderedExec"),
        }
    }
}

impl ExecutionPlan for UnorderedExec {
    fn name(&self) -> &'static str {
        "UnorderedExec"
    }

    fn properties(&self) -> &Arc<PlanProperties> {
        &self.properties
    }

    fn children(&self) -> Vec<&Arc<dyn ExecutionPlan>> {
        vec![&self.input]
    }

    fn benefits_from_input_partitioning(&self) -> Vec<bool> {
        vec![false]
    }

    fn replace_children(
        self: Arc<Self>,
        children: Vec<Arc<dyn ExecutionPlan>>,
        _options: ReplaceChildrenOptions,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        Self::over(children)
    }

    fn with_new_children(
        self: Arc<Self>,
        children: Vec<Arc<dyn ExecutionPlan>>,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        Self::over(children)
    }

    fn apply_expressions(
        &self,
        _f: &mut dyn FnMut(&Arc<dyn PhysicalExpr>) -> Result<TreeNodeRecursion>,
    ) -> Result<TreeNodeRecursion> {
        Ok(TreeNodeRecursion::Continue)
    }

    fn execute(&self, partition: usize, context: Arc<TaskContext>) -> Result<SendableRecordBatchStream> {
        self.input.execute(partition, context)
    }
}
