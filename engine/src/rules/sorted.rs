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
//! sides were swapped, or when a projection is moved below the join: that of an inner, left or right join stands above it, full joins with one stay. Projections
//! are moved below semi and mark joins by the columns of a join of both sides, and what is in order by the key is taken for in order by the
//! other side's columns behind it: nothing is told of the order of such a join here, and nothing passes it. Keys that it compares in ways
//! of its own are compared by their bits ([`super::keys`]).
//!
//! Rows that have a NULL among their keys are rows of one key for such a join, however many they are. Where they are not put out, they go
//! before anything is sorted. The side whose rows are put out without a partner is read row by row, and holds none; a full join reads one side
//! so and holds the other, whose rows without a key are kept apart by numbers.

use std::fmt;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};

use datafusion::arrow::compute::SortOptions;
use datafusion::arrow::datatypes::{DataType, Field, Schema};
use datafusion::common::stats::Precision;
use datafusion::common::tree_node::{Transformed, TransformedResult, TreeNode, TreeNodeRecursion};
use datafusion::common::{JoinSide, JoinType, NullEquality, Result, internal_err};
use datafusion::error::DataFusionError;
use datafusion::execution::{SendableRecordBatchStream, TaskContext};
use datafusion::physical_expr::expressions::{Column, IsNotNullExpr};
use datafusion::physical_expr::{HigherOrderFunctionExpr, PhysicalExpr, conjunction_opt};
use datafusion::physical_plan::aggregates::{AggregateExec, PhysicalGroupBy};
use datafusion::physical_plan::execution_plan::ReplaceChildrenOptions;
use datafusion::physical_plan::filter::FilterExec;
use datafusion::physical_plan::joins::utils::{JoinFilter, JoinOn};
use datafusion::physical_plan::joins::{HashJoinExec, SortMergeJoinExec};
use datafusion::physical_plan::limit::LocalLimitExec;
use datafusion::physical_plan::projection::{ProjectionExec, ProjectionExpr};
use datafusion::physical_plan::sorts::sort::SortExec;
use datafusion::physical_plan::statistics::{StatisticsArgs, StatisticsContext};
use datafusion::physical_plan::{
    DisplayAs, DisplayFormatType, ExecutionPlan, ExecutionPlanProperties, PlanProperties,
};

use super::gather::GatherExec;
use super::not_in::NotInJoinExec;
use super::outer::{ConditionExec, Pairs};
use super::sort_keys::{Bits, Numbered};

/// Rows of a side that any hash join holds.
const SMALL_ROWS: usize = 1_000;

/// First rows of an order that are kept in memory with the batches they came in.
const ROWS_OF_TOP: usize = 16;

/// A column of numbers that keep rows apart, on its way through a join.
const NUMBER: &str = "number of the row";

/// The joins of one attempt at a statement, in the configuration it is planned with.
#[derive(Debug, Default)]
pub(crate) struct PlannedJoins {
    sorts: bool,
    could_sort: AtomicBool,
    why_not: OnceLock<&'static str>,
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
        plan.apply(|node| {
            if let Some(join) =
                node.downcast_ref::<HashJoinExec>().filter(|join| join.left().is::<GatherExec>())
            {
                match why_not(join) {
                    None => self.could_sort.store(true, Ordering::Relaxed),
                    // The first one is told of.
                    Some(why) => {
                        let _ = self.why_not.set(why);
                    }
                }
            }
            Ok(TreeNodeRecursion::Continue)
        })?;
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

    /// Why a join of the attempt is not done by sorting, neither in this attempt nor in another; None: they all could be, or are.
    pub(crate) fn why_not(&self) -> Option<&'static str> {
        self.why_not.get().copied().filter(|_| !self.can_sort())
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
        if why_not(join).is_some() || join.contains_projection() || join.fetch().is_some() || is_small(join) {
            return Ok(Transformed::no(plan));
        }
        Ok(Transformed::yes(by_sorting(join)?))
    })
    .data()
}

/// `plan` whose first rows of an order, above a join by sorting, are sorted with all others, where they may be many.
///
/// DataFusion 55 keeps a row with all texts of the batch it came in, and does not write them to disk.
pub(super) fn tops(plan: Arc<dyn ExecutionPlan>) -> Result<Arc<dyn ExecutionPlan>> {
    plan.transform_up(|plan| {
        let Some(sort) = plan.downcast_ref::<SortExec>() else { return Ok(Transformed::no(plan)) };
        let Some(rows) = sort.fetch().filter(|rows| *rows > ROWS_OF_TOP) else {
            return Ok(Transformed::no(plan));
        };
        let is_joined =
            |node: &Arc<dyn ExecutionPlan>| Ok(node.is::<SortMergeJoinExec>() || node.is::<NotInJoinExec>());
        let keeps_texts = sort.schema().fields().iter().any(|field| keeps_texts(field.data_type()));
        if !keeps_texts || !sort.input().exists(is_joined)? {
            return Ok(Transformed::no(plan));
        }
        let all = SortExec::new(sort.expr().clone(), Arc::clone(sort.input()))
            .with_preserve_partitioning(sort.preserve_partitioning());
        let first = LocalLimitExec::new(Arc::new(all), rows);
        Ok(Transformed::yes(Arc::new(first) as Arc<dyn ExecutionPlan>))
    })
    .data()
}

/// Whether a value of a type may be kept with those of its batch.
fn keeps_texts(of_type: &DataType) -> bool {
    of_type.is_nested() || matches!(of_type, DataType::Utf8View | DataType::BinaryView)
}

fn by_sorting(join: &HashJoinExec) -> Result<Arc<dyn ExecutionPlan>> {
    let kind = *join.join_type();
    if join.null_aware {
        return not_in(join);
    }
    if let (Some(filter), Some((partner, key))) = (join.filter(), partner(join)) {
        return with_condition(join, filter, partner, key);
    }
    let above = join.filter().filter(|_| kind == JoinType::Inner);
    let beside = if above.is_some() { None } else { join.filter().cloned() };
    let mut on = compared(join)?;
    let [left, right] = sides(join)?;
    let columns = [left.schema().fields().len(), right.schema().fields().len()];
    if kind == JoinType::Full && holds_nulls(join, &right)? {
        let numbers = columns.map(|behind| Arc::new(Column::new(NUMBER, behind)) as Arc<dyn PhysicalExpr>);
        let [of_left, of_right] = numbers;
        on.push((of_left, of_right));
        let (of_left, of_right) = join.on().iter().cloned().unzip();
        let sorted = merged(join, numbered(left, of_left)?, numbered(right, of_right)?, on, beside)?;
        let kept = (0..columns[0]).chain((0..columns[1]).map(|of_right| columns[0] + 1 + of_right));
        return with_columns(sorted, kept, &join.schema());
    }
    let sorted = merged(join, left, right, on, beside)?;
    match above {
        Some(filter) => {
            let condition = over_both_sides(filter, columns[0], &sorted.schema())?;
            Ok(Arc::new(FilterExec::try_new(condition, sorted)?))
        }
        None => Ok(sorted),
    }
}

/// NOT IN where there may be NULLs: none of them is dropped.
fn not_in(join: &HashJoinExec) -> Result<Arc<dyn ExecutionPlan>> {
    let Ok([keys]) = <[_; 1]>::try_from(compared(join)?) else {
        return internal_err!("NOT IN by {} keys", join.on().len());
    };
    let sides = [Arc::clone(join.left()), Arc::clone(join.right())];
    Ok(Arc::new(NotInJoinExec::new(sides, keys, join.schema())))
}

/// A left or right join that has a condition beside its keys; `partner` is the side that has no row where there is no partner.
fn with_condition(
    join: &HashJoinExec,
    filter: &JoinFilter,
    partner: JoinSide,
    key: usize,
) -> Result<Arc<dyn ExecutionPlan>> {
    let [mut left, mut right] = sides(join)?;
    let (of_left, of_right) = (left.schema().fields().len(), right.schema().fields().len());
    let number = if partner == JoinSide::Left {
        right = numbered(right, Vec::new())?;
        of_left + of_right
    } else {
        left = numbered(left, Vec::new())?;
        of_left
    };
    let sorted = merged(join, left, right, compared(join)?, None)?;
    let (schema, condition) = (join.schema(), filter.clone());
    Ok(Arc::new(ConditionExec::new(
        sorted,
        Arc::new(Pairs { schema, of_left, number, partner, key, condition }),
    )))
}

/// The side of a left or right join that has no row where there is no partner, and a column of what is put out that is NULL there, and in no
/// pair; None: there is none, or it is another join.
fn partner(join: &HashJoinExec) -> Option<(JoinSide, usize)> {
    if join.null_equality() != NullEquality::NullEqualsNothing {
        return None;
    }
    let column = |key: &Arc<dyn PhysicalExpr>| key.downcast_ref::<Column>().map(Column::index);
    match join.join_type() {
        JoinType::Left => {
            let key = join.on().iter().find_map(|(_, of_right)| column(of_right))?;
            Some((JoinSide::Right, join.left().schema().fields().len() + key))
        }
        JoinType::Right => Some((JoinSide::Left, join.on().iter().find_map(|(of_left, _)| column(of_left))?)),
        _ => None,
    }
}

/// The join of two sides by sorting, as `join` joins them by hashing.
fn merged(
    join: &HashJoinExec,
    left: Arc<dyn ExecutionPlan>,
    right: Arc<dyn ExecutionPlan>,
    on: JoinOn,
    filter: Option<JoinFilter>,
) -> Result<Arc<dyn ExecutionPlan>> {
    let options = vec![SortOptions::default(); on.len()];
    let nulls = join.null_equality();
    Ok(Arc::new(SortMergeJoinExec::try_new(left, right, on, filter, *join.join_type(), options, nulls)?))
}

/// The sides of a join, less the rows that have a NULL among their keys, where these are not put out: no partner of theirs can be found.
fn sides(join: &HashJoinExec) -> Result<[Arc<dyn ExecutionPlan>; 2]> {
    let (of_left, of_right) = match join.null_equality() {
        NullEquality::NullEqualsNothing => join.join_type().on_lr_is_preserved(),
        NullEquality::NullEqualsNull => (false, false),
    };
    let with_keys = |side: &Arc<dyn ExecutionPlan>, keys: Vec<Arc<dyn PhysicalExpr>>, is_dropped: bool| {
        let schema = side.schema();
        let mut conditions = Vec::new();
        for key in keys {
            if is_dropped && key.nullable(&schema)? {
                conditions.push(Arc::new(IsNotNullExpr::new(key)) as Arc<dyn PhysicalExpr>);
            }
        }
        Ok::<_, DataFusionError>(match conjunction_opt(conditions) {
            Some(condition) => {
                Arc::new(FilterExec::try_new(condition, Arc::clone(side))?) as Arc<dyn ExecutionPlan>
            }
            None => Arc::clone(side),
        })
    };
    let (left_keys, right_keys) = join.on().iter().cloned().unzip();
    Ok([with_keys(join.left(), left_keys, of_left)?, with_keys(join.right(), right_keys, of_right)?])
}

/// Whether the right side of a join, of which it holds the rows of one key, may have rows with a NULL among their keys that meet none.
fn holds_nulls(join: &HashJoinExec, right: &Arc<dyn ExecutionPlan>) -> Result<bool> {
    let schema = right.schema();
    for (_, key) in join.on() {
        if join.null_equality() == NullEquality::NullEqualsNothing && key.nullable(&schema)? {
            return Ok(true);
        }
    }
    Ok(false)
}

/// `side` with a column `NUMBER` behind the others: what keeps apart the rows without one of `keys`.
fn numbered(
    side: Arc<dyn ExecutionPlan>,
    keys: Vec<Arc<dyn PhysicalExpr>>,
) -> Result<Arc<dyn ExecutionPlan>> {
    let mut items: Vec<_> = columns_of(&side.schema()).collect();
    items.push(ProjectionExpr::new(Arc::new(Numbered::without(keys)), NUMBER));
    Ok(Arc::new(ProjectionExec::try_new(items, side)?))
}

/// The columns at `kept` of `plan`, which are those of `schema`.
fn with_columns(
    plan: Arc<dyn ExecutionPlan>,
    kept: impl Iterator<Item = usize>,
    schema: &Schema,
) -> Result<Arc<dyn ExecutionPlan>> {
    let columns: Vec<_> = columns_of(&plan.schema()).collect();
    let items: Vec<_> = kept.filter_map(|index| columns.get(index).cloned()).collect();
    Ok(Arc::new(ProjectionExec::try_new_with_schema_metadata(items, plan, schema)?))
}

fn columns_of(schema: &Schema) -> impl Iterator<Item = ProjectionExpr> {
    let column = |(index, field): (usize, &Arc<Field>)| {
        ProjectionExpr::new(Arc::new(Column::new(field.name(), index)), field.name())
    };
    schema.fields().iter().enumerate().map(column)
}

/// What a join by sorting compares: the keys, or their bits.
fn compared(join: &HashJoinExec) -> Result<JoinOn> {
    let (left, right) = (join.left().schema(), join.right().schema());
    let compared = |key: &Arc<dyn PhysicalExpr>, schema: &Schema| {
        let of_type = key.data_type(schema)?;
        Ok::<_, DataFusionError>(match is_comparable(&of_type, *join.join_type()) {
            true => Arc::clone(key),
            false => Bits::of(key, &of_type).unwrap_or_else(|| Arc::clone(key)),
        })
    };
    join.on()
        .iter()
        .map(|(of_left, of_right)| Ok((compared(of_left, &left)?, compared(of_right, &right)?)))
        .collect()
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

/// Why a join by sorting would not give the same rows; None: it does.
fn why_not(join: &HashJoinExec) -> Option<&'static str> {
    if join.null_aware && (join.filter().is_some() || join.on().len() != 1) {
        return Some("NOT IN where there may be NULLs, with a condition beside it");
    }
    if let Some(filter) = join.filter() {
        let why_not = match join.join_type() {
            JoinType::Full => Some("a full join with a condition beside its equal keys"),
            JoinType::Left | JoinType::Right if partner(join).is_none() => Some(
                "an outer join with a condition beside keys that are computed, or equal where both are NULL",
            ),
            JoinType::Left | JoinType::Right => None,
            _ if holds_lambda(filter.expression()) => Some("a join with a condition that has a lambda"),
            _ => None,
        };
        if why_not.is_some() {
            return why_not;
        }
    }
    let (left, right) = (join.left().schema(), join.right().schema());
    let is_key = |key: &Arc<dyn PhysicalExpr>, left: DataType, right: DataType| {
        let is_comparable = is_comparable(&left, *join.join_type()) || Bits::of(key, &left).is_some();
        left == right && is_comparable
    };
    let are_keys = join.on().iter().all(|(of_left, of_right)| {
        match (of_left.data_type(&left), of_right.data_type(&right)) {
            (Ok(left), Ok(right)) => is_key(of_left, left, right),
            _ => false,
        }
    });
    if are_keys { None } else { Some("a join on keys of a type that is not sorted for joins") }
}

/// Whether a condition has a lambda: its variables are columns behind those of the condition, and stay there when these become others.
fn holds_lambda(condition: &Arc<dyn PhysicalExpr>) -> bool {
    let found = condition.exists(|expr| Ok(expr.downcast_ref::<HigherOrderFunctionExpr>().is_some()));
    found.unwrap_or(true)
}

/// Whether keys of a type are compared by such a join as they are sorted, and as a hash join compares them.
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
