//! Joins that yield, and that can be ended before they do.
//!
//! DataFusion's operators yield through their leaves, which count the batches they are asked for. A join may make any number of
//! batches of one of its leaf's: a cross join, or one on a key that most rows share, holds its thread for minutes, and can be
//! neither cancelled nor ended by a limit. Here each batch of a join counts too.
//!
//! A join whose condition no pair of rows meets makes no batch at all, however many pairs it looks at. So conditions ask whether their
//! statement is to end, each time they are computed: for at most a batch of pairs. They ask, too, whether others are to have the thread
//! (`turns`).
//!
//! A semi or anti join without any condition, of EXISTS over a query that knows nothing of the outer one, asks only whether the other side
//! has a row. DataFusion pairs each row with each of that side; here it gets the first row that any partition has, and no other is read on.
//!
//! A nested loop join holds one of its sides. When that does not fit into memory, DataFusion runs what makes it once more, to put it on disk: but
//! parts of a scan are taken by whoever comes first, and of those that are taken no row comes again. Partitions that share the side would also each
//! put out the rows that have no partner. So that side comes once, and the join ends where memory does.

use std::fmt;
use std::hash::{Hash, Hasher};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use datafusion::arrow::array::RecordBatch;
use datafusion::arrow::datatypes::{DataType, FieldRef, Schema};
use datafusion::common::tree_node::{Transformed, TransformedResult, TreeNode, TreeNodeRecursion};
use datafusion::common::{JoinType, Result, internal_err, resources_datafusion_err};
use datafusion::error::DataFusionError;
use datafusion::execution::{SendableRecordBatchStream, TaskContext};
use datafusion::logical_expr::ColumnarValue;
use datafusion::physical_expr::PhysicalExpr;
use datafusion::physical_plan::coalesce_partitions::CoalescePartitionsExec;
use datafusion::physical_plan::coop::CooperativeExec;
use datafusion::physical_plan::execution_plan::ReplaceChildrenOptions;
use datafusion::physical_plan::joins::utils::JoinFilter;
use datafusion::physical_plan::joins::{
    HashJoinExec, NestedLoopJoinExec, NestedLoopJoinExecBuilder, SortMergeJoinExec,
};
use datafusion::physical_plan::limit::LocalLimitExec;
use datafusion::physical_plan::{
    DisplayAs, DisplayFormatType, ExecutionPlan, PlanProperties, replace_children_if_necessary,
};

use super::lambdas::opened;
use super::turns::{TURN, TurnsExec, may_compare};
use crate::session::may_go_on;

/// `plan` with joins that yield, and ask.
pub(super) fn yielding(plan: Arc<dyn ExecutionPlan>) -> Result<Arc<dyn ExecutionPlan>> {
    plan.transform_up(|plan| {
        if !plan.name().ends_with("JoinExec") {
            return Ok(Transformed::no(plan));
        }
        // Those that go on behind an error of their condition as if there had been none.
        let has_turns = plan.is::<NestedLoopJoinExec>() || plan.is::<HashJoinExec>();
        let asking = |filter: &JoinFilter| -> Result<Option<Arc<dyn PhysicalExpr>>> {
            let asking = Asking { condition: opened(filter.expression())?, has_turns };
            Ok(Some(Arc::new(asking)))
        };
        let join = with_condition(with_held_once(with_first_rows(plan)?)?, asking)?.data;
        Ok(Transformed::yes(Arc::new(TurnsExec::new(join, TURN)) as Arc<dyn ExecutionPlan>))
    })
    .data()
}

/// A join that asks for nothing but a row of one side, with no more of that.
fn with_first_rows(plan: Arc<dyn ExecutionPlan>) -> Result<Arc<dyn ExecutionPlan>> {
    let Some(join) = plan.downcast_ref::<NestedLoopJoinExec>().filter(|join| join.filter().is_none()) else {
        return Ok(plan);
    };
    let first = |side: &Arc<dyn ExecutionPlan>| -> Arc<dyn ExecutionPlan> {
        let each = Arc::new(LocalLimitExec::new(Arc::clone(side), 1));
        if side.properties().output_partitioning().partition_count() < 2 {
            return each;
        }
        // A partition without a row is not read to its end when another has one.
        Arc::new(CoalescePartitionsExec::new(each).with_fetch(Some(1)))
    };
    let (left, right) = (join.left(), join.right());
    let sides = match join.join_type() {
        JoinType::LeftSemi | JoinType::LeftAnti | JoinType::LeftMark => vec![Arc::clone(left), first(right)],
        JoinType::RightSemi | JoinType::RightAnti | JoinType::RightMark => {
            vec![first(left), Arc::clone(right)]
        }
        JoinType::Inner | JoinType::Left | JoinType::Right | JoinType::Full => return Ok(plan),
    };
    replace_children_if_necessary(plan, sides)
}

/// A nested loop join whose held side comes once; any other node as it is.
fn with_held_once(plan: Arc<dyn ExecutionPlan>) -> Result<Arc<dyn ExecutionPlan>> {
    let Some(join) = plan.downcast_ref::<NestedLoopJoinExec>() else { return Ok(plan) };
    let held = OnceExec::new(Arc::clone(join.left()));
    let sides = vec![Arc::new(held) as Arc<dyn ExecutionPlan>, Arc::clone(join.right())];
    replace_children_if_necessary(plan, sides)
}

/// `plan` with joins of DataFusion's nodes alone: another process knows neither the questions nor the nodes.
pub(super) fn not_asking(plan: Arc<dyn ExecutionPlan>) -> Result<Arc<dyn ExecutionPlan>> {
    let plain = |filter: &JoinFilter| -> Result<Option<Arc<dyn PhysicalExpr>>> {
        let asking = filter.expression().downcast_ref::<Asking>();
        Ok(asking.map(|asking| Arc::clone(&asking.condition)))
    };
    plan.transform_up(|plan| {
        if let Some(once) = plan.downcast_ref::<OnceExec>() {
            return Ok(Transformed::yes(Arc::clone(&once.input)));
        }
        if let Some(turns) = plan.downcast_ref::<TurnsExec>() {
            let yields = CooperativeExec::new(Arc::clone(turns.join()));
            return Ok(Transformed::yes(Arc::new(yields) as Arc<dyn ExecutionPlan>));
        }
        with_condition(plan, plain)
    })
    .data()
}

/// A join with what `change` makes of the condition it has beside its keys; any other node as it is, and where `change` makes nothing.
pub(super) fn with_condition(
    plan: Arc<dyn ExecutionPlan>,
    change: impl Fn(&JoinFilter) -> Result<Option<Arc<dyn PhysicalExpr>>>,
) -> Result<Transformed<Arc<dyn ExecutionPlan>>> {
    let changed = |filter: Option<&JoinFilter>| -> Result<Option<JoinFilter>> {
        let Some(filter) = filter else { return Ok(None) };
        let (columns, schema) = (filter.column_indices().to_vec(), Arc::clone(filter.schema()));
        Ok(change(filter)?.map(|condition| JoinFilter::new(condition, columns, schema)))
    };
    if let Some(join) = plan.downcast_ref::<NestedLoopJoinExec>()
        && let Some(filter) = changed(join.filter())?
    {
        let join = NestedLoopJoinExecBuilder::from(join).with_filter(Some(filter)).build()?;
        return Ok(Transformed::yes(Arc::new(join) as Arc<dyn ExecutionPlan>));
    }
    if let Some(join) = plan.downcast_ref::<HashJoinExec>()
        && let Some(filter) = changed(join.filter())?
    {
        return Ok(Transformed::yes(join.builder().with_filter(Some(filter)).build_exec()?));
    }
    if let Some(join) = plan.downcast_ref::<SortMergeJoinExec>()
        && let Some(filter) = changed(join.filter().as_ref())?
    {
        let join = SortMergeJoinExec::try_new(
            Arc::clone(join.left()),
            Arc::clone(join.right()),
            join.on().to_vec(),
            Some(filter),
            join.join_type(),
            join.sort_options().to_vec(),
            join.null_equality(),
        )?;
        return Ok(Transformed::yes(Arc::new(join) as Arc<dyn ExecutionPlan>));
    }
    Ok(Transformed::no(plan))
}

/// The side that a nested loop join holds: it is made once, and not again for the disk.
#[derive(Debug)]
struct OnceExec {
    input: Arc<dyn ExecutionPlan>,
    has_begun: AtomicBool,
}

impl OnceExec {
    fn new(input: Arc<dyn ExecutionPlan>) -> Self {
        Self { input, has_begun: AtomicBool::new(false) }
    }

    fn over(children: Vec<Arc<dyn ExecutionPlan>>) -> Result<Arc<dyn ExecutionPlan>> {
        match <[_; 1]>::try_from(children) {
            Ok([input]) => Ok(Arc::new(Self::new(input))),
            Err(children) => internal_err!("the held side of a join is one, not {}", children.len()),
        }
    }
}

impl DisplayAs for OnceExec {
    fn fmt_as(&self, t: DisplayFormatType, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match t {
            DisplayFormatType::TreeRender => Ok(()),
            DisplayFormatType::Default | DisplayFormatType::Verbose => f.write_str("OnceExec"),
        }
    }
}

impl ExecutionPlan for OnceExec {
    fn name(&self) -> &'static str {
        "OnceExec"
    }

    fn properties(&self) -> &Arc<PlanProperties> {
        self.input.properties()
    }

    fn children(&self) -> Vec<&Arc<dyn ExecutionPlan>> {
        vec![&self.input]
    }

    fn maintains_input_order(&self) -> Vec<bool> {
        vec![true]
    }

    fn benefits_from_input_partitioning(&self) -> Vec<bool> {
        vec![false]
    }

    // A recursive query runs its plan again and again, each time with new nodes.
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
        // The join has one partition of it, and asks again only when it has not got all of that for want of memory.
        if self.has_begun.swap(true, Ordering::Relaxed) {
            return Err(resources_datafusion_err!(
                "the side that a join without equal columns holds in memory is larger than what is left of it"
            ));
        }
        self.input.execute(partition, context)
    }
}

/// A condition that fails when its statement is to end, or the turn of its join is over. It looks like the one it stands for.
#[derive(Clone, Debug, Eq)]
struct Asking {
    condition: Arc<dyn PhysicalExpr>,
    has_turns: bool,
}

impl PartialEq for Asking {
    fn eq(&self, other: &Self) -> bool {
        self.condition.eq(&other.condition)
    }
}

impl Hash for Asking {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.condition.hash(state);
    }
}

impl fmt::Display for Asking {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.condition, f)
    }
}

impl PhysicalExpr for Asking {
    fn data_type(&self, input: &Schema) -> Result<DataType> {
        self.condition.data_type(input)
    }

    fn nullable(&self, input: &Schema) -> Result<bool> {
        self.condition.nullable(input)
    }

    fn return_field(&self, input: &Schema) -> Result<FieldRef> {
        self.condition.return_field(input)
    }

    fn evaluate(&self, batch: &RecordBatch) -> Result<ColumnarValue> {
        may_go_on().map_err(DataFusionError::from)?;
        if self.has_turns {
            may_compare()?;
        }
        self.condition.evaluate(batch)
    }

    fn children(&self) -> Vec<&Arc<dyn PhysicalExpr>> {
        vec![&self.condition]
    }

    fn with_new_children(
        self: Arc<Self>,
        children: Vec<Arc<dyn PhysicalExpr>>,
    ) -> Result<Arc<dyn PhysicalExpr>> {
        match <[_; 1]>::try_from(children) {
            Ok([condition]) => Ok(Arc::new(Self { condition, has_turns: self.has_turns })),
            Err(children) => internal_err!("a condition that asks is one, not {}", children.len()),
        }
    }

    fn fmt_sql(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.condition.fmt_sql(f)
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use std::sync::atomic::AtomicUsize;
    use std::time::Duration;

    use cairn_storage::ErrorKind;
    use datafusion::arrow::array::AsArray;
    use datafusion::arrow::datatypes::Int64Type;
    use datafusion::execution::runtime_env::RuntimeEnvBuilder;
    use datafusion::execution::session_state::SessionStateBuilder;
    use datafusion::physical_plan::{collect, displayable};
    use datafusion::prelude::{SessionConfig, SessionContext};

    use super::*;
    use crate::error::Error;
    use crate::session::{Asked, keep_places};

    async fn planned(sql: &str) -> (Arc<dyn ExecutionPlan>, SessionContext) {
        planned_within(usize::MAX >> 1, sql).await
    }

    /// The plan, and where it has so many bytes.
    async fn planned_within(memory: usize, sql: &str) -> (Arc<dyn ExecutionPlan>, SessionContext) {
        planned_with(memory, SessionConfig::new(), sql).await
    }

    async fn planned_with(
        memory: usize,
        config: SessionConfig,
        sql: &str,
    ) -> (Arc<dyn ExecutionPlan>, SessionContext) {
        let builder = SessionStateBuilder::new_with_default_features()
            .with_runtime_env(RuntimeEnvBuilder::new().with_memory_limit(memory, 1.0).build_arc().unwrap())
            .with_config(config.with_target_partitions(2));
        let context = SessionContext::new_with_state(crate::rules::register(builder).build());
        let plan = context.sql(sql).await.unwrap().create_physical_plan().await.unwrap();
        (plan, context)
    }

    /// How many rows each side of the join has, and its condition.
    async fn joined(rows: usize, condition: &str) -> (Arc<dyn ExecutionPlan>, SessionContext) {
        let series = format!("generate_series(1, {rows})");
        planned(&format!("SELECT count(*) FROM {series} AS a(x) JOIN {series} AS b(y) ON {condition}")).await
    }

    async fn count(plan: Arc<dyn ExecutionPlan>, context: &SessionContext) -> i64 {
        let rows = collect(plan, context.task_ctx()).await.unwrap();
        rows[0].column(0).as_primitive::<Int64Type>().value(0)
    }

    const CONDITIONS: [(&str, &str); 2] =
        [("NestedLoopJoinExec", "a.x + b.y < 10"), ("HashJoinExec", "a.x % 2 = b.y % 2 AND a.x + b.y < 10")];

    #[tokio::test]
    async fn a_join_is_ended_between_two_batches_of_pairs() {
        keep_places();
        for (name, condition) in CONDITIONS {
            let (plan, context) = joined(5_000, condition).await;
            let shown = displayable(plan.as_ref()).indent(false).to_string();
            assert!(shown.contains(name) && shown.contains("< 10"), "{shown}");
            let asks = Arc::new(AtomicUsize::new(0));
            let counted = Arc::clone(&asks);
            let asked = Asked::new(move || match counted.fetch_add(1, Ordering::SeqCst) {
                0..20 => Ok(()),
                _ => Err(Error::new(ErrorKind::Cancelled, "it is to end")),
            });
            let ended = asked.within(collect(plan, context.task_ctx())).await;
            assert!(ended.unwrap_err().to_string().contains("it is to end"), "{condition}");
            // Once for each part of the join after the first no, not for each of some thousand batches.
            assert!((21..60).contains(&asks.load(Ordering::SeqCst)), "{condition}: {asks:?}");
        }
    }

    fn asks(plan: &Arc<dyn ExecutionPlan>) -> bool {
        let asks = |filter: &JoinFilter| filter.expression().downcast_ref::<Asking>().is_some();
        let found = plan.exists(|plan| {
            let looped = plan.downcast_ref::<NestedLoopJoinExec>().and_then(NestedLoopJoinExec::filter);
            let hashed = plan.downcast_ref::<HashJoinExec>().and_then(HashJoinExec::filter);
            Ok(looped.or(hashed).is_some_and(asks))
        });
        found.unwrap()
    }

    #[tokio::test]
    async fn a_join_that_asks_answers_as_one_that_does_not() {
        for ((_, condition), expected) in CONDITIONS.into_iter().zip([36, 16]) {
            let (asking, context) = joined(50, condition).await;
            let plain = not_asking(joined(50, condition).await.0).unwrap();
            assert!(asks(&asking) && !asks(&plain), "{condition}");
            let shown = |plan: &Arc<dyn ExecutionPlan>| -> Vec<String> {
                let shown = displayable(plan.as_ref()).indent(false).to_string();
                let shown = shown.replace("TurnsExec", "CooperativeExec");
                shown.lines().map(|node| node.trim().to_owned()).filter(|node| node != "OnceExec").collect()
            };
            assert_eq!(shown(&asking), shown(&plain));
            for plan in [asking, plain] {
                assert_eq!(count(plan, &context).await, expected, "{condition}");
            }
        }
    }

    /// `plan` with joins that have their thread for so long.
    fn with_turns(plan: Arc<dyn ExecutionPlan>, turn: Duration) -> Arc<dyn ExecutionPlan> {
        let changed = plan.transform_up(|plan| match plan.downcast_ref::<TurnsExec>() {
            Some(turns) => {
                let turns = TurnsExec::new(Arc::clone(turns.join()), turn);
                Ok(Transformed::yes(Arc::new(turns) as Arc<dyn ExecutionPlan>))
            }
            None => Ok(Transformed::no(plan)),
        });
        changed.data().unwrap()
    }

    /// The plan where a batch has few rows: a join computes its condition often.
    async fn planned_in_pieces(sql: &str) -> (Arc<dyn ExecutionPlan>, SessionContext) {
        planned_with(usize::MAX >> 1, SessionConfig::new().with_batch_size(16), sql).await
    }

    #[tokio::test]
    async fn a_join_whose_turn_is_over_compares_the_same_pairs_again() {
        keep_places();
        for (name, condition) in CONDITIONS {
            let mut asks = Vec::new();
            for turn in [Duration::MAX, Duration::ZERO] {
                let sql = format!(
                    "SELECT count(*) FROM generate_series(1, 100) AS a(x) JOIN generate_series(1, 100) AS b(y) ON {condition}"
                );
                let (plan, context) = planned_in_pieces(&sql).await;
                let shown = displayable(plan.as_ref()).indent(false).to_string();
                assert!(shown.contains(name) && shown.contains("TurnsExec"), "{shown}");
                let asked = Arc::new(AtomicUsize::new(0));
                let counted = Arc::clone(&asked);
                let question = Asked::new(move || {
                    counted.fetch_add(1, Ordering::SeqCst);
                    Ok(())
                });
                let expected = if name == "HashJoinExec" { 16 } else { 36 };
                let found = question.within(count(with_turns(plan, turn), &context)).await;
                assert_eq!(found, expected, "{condition}");
                asks.push(asked.load(Ordering::SeqCst));
            }
            let [whole, interrupted] = asks[..] else { panic!("{asks:?}") };
            assert!(whole > 50 && interrupted > whole * 3 / 2, "{condition}: {asks:?}");
        }
    }

    #[tokio::test]
    async fn joins_of_each_kind_answer_the_same_when_they_are_interrupted() {
        let both = "coalesce(sum(x), 0) * 1000000000 + coalesce(sum(y), 0) * 10000 + count(*)";
        let one = "coalesce(sum(x), 0) * 10000 + count(*)";
        let other = "coalesce(sum(y), 0) * 10000 + count(*)";
        let kinds = [
            (both, "JOIN"),
            (both, "LEFT JOIN"),
            (both, "RIGHT JOIN"),
            (both, "FULL JOIN"),
            (one, "LEFT SEMI JOIN"),
            (one, "LEFT ANTI JOIN"),
            (other, "RIGHT SEMI JOIN"),
            (other, "RIGHT ANTI JOIN"),
            (one, "EXISTS"),
        ];
        // Of few rows a nested loop join compares many with each.
        let sides = [(40, 50), (50, 1), (1, 50)];
        for ((name, condition), (of, kind)) in CONDITIONS.into_iter().flat_map(|c| kinds.map(|k| (c, k))) {
            for (left, right) in sides {
                let (a, b) = (
                    format!("generate_series(1, {left}) AS a(x)"),
                    format!("generate_series(1, {right}) AS b(y)"),
                );
                let condition = condition.replace("< 10", "< 40");
                let sql = match kind {
                    "EXISTS" => {
                        format!(
                            "SELECT {of} FROM {a} WHERE x = 39 OR EXISTS (SELECT 1 FROM {b} WHERE {condition})"
                        )
                    }
                    _ => format!("SELECT {of} FROM {a} {kind} {b} ON {condition}"),
                };
                let (plain, context) = planned_in_pieces(&sql).await;
                let plain = not_asking(plain).unwrap();
                let shown = displayable(plain.as_ref()).indent(false).to_string();
                assert!(shown.contains(name), "{sql}: {shown}");
                let expected = count(plain, &context).await;
                let (asking, context) = planned_in_pieces(&sql).await;
                assert!(asks(&asking), "{sql}");
                assert_eq!(count(with_turns(asking, Duration::ZERO), &context).await, expected, "{sql}");
            }
        }
    }

    #[tokio::test]
    async fn one_row_tells_that_there_is_one() {
        // Nobody would see the last of its rows.
        let (many, none) =
            ("generate_series(1, 1000000000000) AS b(y)", "generate_series(1, 3) AS b(y) WHERE y > 9");
        // One part has rows, and nobody would see the end of the other.
        let half = format!("{many} WHERE y % 2 = 5 UNION ALL SELECT 1 FROM generate_series(1, 3)");
        for (condition, expected) in [
            (format!("EXISTS (SELECT 1 FROM {many})"), 2_000),
            (format!("NOT EXISTS (SELECT 1 FROM {many})"), 0),
            (format!("EXISTS (SELECT 1 FROM {many}) OR x = 1"), 2_000),
            (format!("EXISTS (SELECT 1 FROM {half})"), 2_000),
            (format!("NOT EXISTS (SELECT 1 FROM {half})"), 0),
            (format!("EXISTS (SELECT 1 FROM {half}) OR x = 1"), 2_000),
            (format!("EXISTS (SELECT 1 FROM {none})"), 0),
            (format!("NOT EXISTS (SELECT 1 FROM {none})"), 2_000),
            (format!("EXISTS (SELECT 1 FROM {none}) OR x = 1"), 1),
        ] {
            let sql = format!("SELECT count(*) FROM generate_series(1, 2000) AS a(x) WHERE {condition}");
            let (plan, context) = planned(&sql).await;
            assert_eq!(count(plan, &context).await, expected, "{condition}");
        }
    }

    /// Run again, most of what makes a held side gives the rows that are left of it: an answer from those would be wrong.
    #[tokio::test]
    async fn a_side_that_does_not_fit_is_not_made_again() {
        let sql = "SELECT count(*) FROM generate_series(1, 400000) AS a(x) LEFT JOIN (VALUES (1), (2)) AS b(y) ON a.x < b.y - 5";
        let (plan, context) = planned_within(1 << 30, sql).await;
        let held = |plan: &Arc<dyn ExecutionPlan>| plan.exists(|plan| Ok(plan.is::<OnceExec>())).unwrap();
        assert!(held(&plan) && !held(&not_asking(Arc::clone(&plan)).unwrap()));
        assert_eq!(count(plan, &context).await, 400_000);
        let (plan, context) = planned_within(1 << 20, sql).await;
        let error = Error::from(collect(plan, context.task_ctx()).await.unwrap_err());
        assert_eq!(error.sqlstate(), "53200", "{error}");
        assert!(error.detail().is_some_and(|detail| detail.contains("without equal columns")), "{error:?}");
    }

    #[tokio::test]
    async fn a_recursive_query_holds_a_side_in_each_round() {
        let sql = "WITH RECURSIVE r(n) AS (SELECT 1 UNION ALL SELECT r.n + 1 FROM r JOIN (VALUES (3), (5)) AS b(y) ON r.n < b.y AND r.n + b.y < 9) SELECT count(*) FROM r";
        let (plan, context) = planned(sql).await;
        // 1: 2, 2; each: 3, 3; each of the four, by 5 alone: 4; none further.
        assert_eq!(count(plan, &context).await, 11);
    }
}
