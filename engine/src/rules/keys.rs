//! Keys of which a join only asks whether they are there, once of each batch.
//!
//! DataFusion's semi, anti and mark joins pair each row with each that has its key on the side that is only asked. `k IN (SELECT k FROM …)` over a few values in many
//! rows compares as many pairs as a cross join has. Which of them have a partner shows as well when that side has each key once. So what comes again within a batch is
//! left out there, as long as there is much of it: a look at one batch of many tells. Between two batches such a join lets others have their turn, too, and asks
//! whether its statement is to end.

use std::collections::HashSet;
use std::fmt;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use datafusion::arrow::array::{ArrayRef, RecordBatch, UInt32Array};
use datafusion::arrow::compute::take_record_batch;
use datafusion::arrow::datatypes::{Schema, SchemaRef};
use datafusion::arrow::row::{RowConverter, SortField};
use datafusion::common::config::ConfigOptions;
use datafusion::common::tree_node::{Transformed, TransformedResult, TreeNode, TreeNodeRecursion};
use datafusion::common::{JoinType, Result, internal_err};
use datafusion::error::DataFusionError;
use datafusion::execution::{RecordBatchStream, SendableRecordBatchStream, TaskContext};
use datafusion::physical_expr::PhysicalExpr;
use datafusion::physical_expr_common::physical_expr::is_volatile;
use datafusion::physical_plan::execution_plan::ReplaceChildrenOptions;
use datafusion::physical_plan::filter_pushdown::{
    ChildPushdownResult, FilterDescription, FilterPushdownPhase, FilterPushdownPropagation,
};
use datafusion::physical_plan::joins::HashJoinExec;
use datafusion::physical_plan::{
    DisplayAs, DisplayFormatType, ExecutionPlan, PlanProperties, replace_children_if_necessary,
};
use futures::{Stream, StreamExt};

use super::turns::comes_back;
use crate::session::may_go_on;

/// Rows of a batch for each of its keys, from which on those that come again are left out.
const ROWS_OF_KEY_MIN: usize = 8;

/// Batches that are handed on behind one whose keys hardly come again, before the next is looked at.
const BATCHES_UNSEEN: usize = 31;

/// `plan` with fewer rows where a join asks for keys alone.
pub(super) fn once(plan: Arc<dyn ExecutionPlan>) -> Result<Arc<dyn ExecutionPlan>> {
    plan.transform_up(|plan| {
        let Some(join) = plan.downcast_ref::<HashJoinExec>().filter(|join| join.filter().is_none()) else {
            return Ok(Transformed::no(plan));
        };
        let (left, right) = (join.left(), join.right());
        let sides = match join.join_type() {
            JoinType::LeftSemi | JoinType::LeftAnti | JoinType::LeftMark => {
                let keys = join.on().iter().map(|(_, key)| Arc::clone(key)).collect();
                vec![Arc::clone(left), keys_once(right, keys)?]
            }
            JoinType::RightSemi | JoinType::RightAnti | JoinType::RightMark => {
                let keys = join.on().iter().map(|(key, _)| Arc::clone(key)).collect();
                vec![keys_once(left, keys)?, Arc::clone(right)]
            }
            JoinType::Inner | JoinType::Left | JoinType::Right | JoinType::Full => {
                return Ok(Transformed::no(plan));
            }
        };
        Ok(Transformed::yes(replace_children_if_necessary(plan, sides)?))
    })
    .data()
}

/// `plan` with these sides as they come, for a process that does not know the node.
pub(super) fn apart(plan: Arc<dyn ExecutionPlan>) -> Result<Arc<dyn ExecutionPlan>> {
    plan.transform_up(|plan| {
        Ok(match plan.downcast_ref::<KeysOnceExec>() {
            Some(once) => Transformed::yes(Arc::clone(&once.input)),
            None => Transformed::no(plan),
        })
    })
    .data()
}

/// `side` with fewer rows of the same keys, where these can be told apart.
fn keys_once(
    side: &Arc<dyn ExecutionPlan>,
    keys: Vec<Arc<dyn PhysicalExpr>>,
) -> Result<Arc<dyn ExecutionPlan>> {
    let fields = fields_of(&keys, &side.schema())?;
    if keys.is_empty() || keys.iter().any(is_volatile) || !RowConverter::supports_fields(&fields) {
        return Ok(Arc::clone(side));
    }
    Ok(Arc::new(KeysOnceExec { input: Arc::clone(side), keys }))
}

fn fields_of(keys: &[Arc<dyn PhysicalExpr>], schema: &Schema) -> Result<Vec<SortField>> {
    keys.iter().map(|key| Ok(SortField::new(key.data_type(schema)?))).collect()
}

/// The rows of each partition, without most of those whose keys come again.
#[derive(Debug)]
struct KeysOnceExec {
    input: Arc<dyn ExecutionPlan>,
    keys: Vec<Arc<dyn PhysicalExpr>>,
}

impl KeysOnceExec {
    fn over(&self, children: Vec<Arc<dyn ExecutionPlan>>) -> Result<Arc<dyn ExecutionPlan>> {
        match <[_; 1]>::try_from(children) {
            Ok([input]) => Ok(Arc::new(Self { input, keys: self.keys.clone() })),
            Err(children) => internal_err!("the keys of {} inputs", children.len()),
        }
    }
}

impl DisplayAs for KeysOnceExec {
    fn fmt_as(&self, t: DisplayFormatType, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match t {
            DisplayFormatType::TreeRender => Ok(()),
            DisplayFormatType::Default | DisplayFormatType::Verbose => f.write_str("KeysOnceExec"),
        }
    }
}

impl ExecutionPlan for KeysOnceExec {
    fn name(&self) -> &'static str {
        "KeysOnceExec"
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

    // What the join filters the side by are its keys.
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
        let input = self.input.execute(partition, context)?;
        let converter = RowConverter::new(fields_of(&self.keys, &input.schema())?)?;
        Ok(Box::pin(KeysOnce { input, keys: self.keys.clone(), converter, unseen: 0 }))
    }
}

struct KeysOnce {
    input: SendableRecordBatchStream,
    keys: Vec<Arc<dyn PhysicalExpr>>,
    converter: RowConverter,
    /// Batches to hand on as they are.
    unseen: usize,
}

impl KeysOnce {
    fn once(&mut self, batch: RecordBatch) -> Result<RecordBatch> {
        if self.unseen > 0 {
            self.unseen -= 1;
            return Ok(batch);
        }
        match self.firsts(&batch)? {
            Some(firsts) => Ok(take_record_batch(&batch, &UInt32Array::from(firsts))?),
            None => {
                self.unseen = BATCHES_UNSEEN;
                Ok(batch)
            }
        }
    }

    /// The first row of each key of `batch`; None: there are many keys.
    fn firsts(&self, batch: &RecordBatch) -> Result<Option<Vec<u32>>> {
        let most = batch.num_rows() / ROWS_OF_KEY_MIN;
        let value = |key: &Arc<dyn PhysicalExpr>| key.evaluate(batch)?.into_array(batch.num_rows());
        let keys: Vec<ArrayRef> = self.keys.iter().map(value).collect::<Result<_>>()?;
        // Keys that are not what they were planned as are the join's to tell of.
        let Ok(rows) = self.converter.convert_columns(&keys) else { return Ok(None) };
        let (mut seen, mut firsts) = (HashSet::with_capacity(most), Vec::with_capacity(most));
        for (place, row) in (0_u32..).zip(rows.iter()) {
            if seen.insert(row) {
                if firsts.len() == most {
                    return Ok(None);
                }
                firsts.push(place);
            }
        }
        Ok(Some(firsts))
    }
}

impl Stream for KeysOnce {
    type Item = Result<RecordBatch>;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        if comes_back(context) {
            return Poll::Pending;
        }
        may_go_on().map_err(DataFusionError::from)?;
        let batch = ready!(self.input.poll_next_unpin(context));
        Poll::Ready(batch.map(|batch| self.once(batch?)))
    }
}

impl RecordBatchStream for KeysOnce {
    fn schema(&self) -> SchemaRef {
        self.input.schema()
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use datafusion::arrow::array::AsArray;
    use datafusion::arrow::datatypes::Int64Type;
    use datafusion::execution::session_state::SessionStateBuilder;
    use datafusion::physical_expr::expressions::Column;
    use datafusion::physical_plan::{collect, displayable};
    use datafusion::prelude::{SessionConfig, SessionContext};

    use super::*;

    async fn planned(sql: &str) -> (Arc<dyn ExecutionPlan>, SessionContext) {
        let builder = SessionStateBuilder::new_with_default_features()
            .with_config(SessionConfig::new().with_target_partitions(2).with_batch_size(64));
        let context = SessionContext::new_with_state(crate::rules::register(builder).build());
        let plan = context.sql(sql).await.unwrap().create_physical_plan().await.unwrap();
        (plan, context)
    }

    async fn rows(plan: Arc<dyn ExecutionPlan>, context: &SessionContext) -> Vec<RecordBatch> {
        collect(plan, context.task_ctx()).await.unwrap()
    }

    async fn answer(plan: Arc<dyn ExecutionPlan>, context: &SessionContext) -> i64 {
        rows(plan, context).await[0].column(0).as_primitive::<Int64Type>().value(0)
    }

    #[tokio::test]
    async fn what_comes_again_within_a_batch_is_left_out_where_it_is_much() {
        for (key, expected) in [("value % 3", 3..=60), ("value", 1_000..=1_000)] {
            let (plan, context) = planned(&format!("SELECT {key} AS k FROM generate_series(1, 1000)")).await;
            let fewer = keys_once(&plan, vec![Arc::new(Column::new("k", 0))]).unwrap();
            let found: usize = rows(fewer, &context).await.iter().map(RecordBatch::num_rows).sum();
            assert!(expected.contains(&found), "{key}: {found}");
        }
    }

    #[tokio::test]
    async fn joins_that_ask_for_keys_answer_the_same() {
        let many = "(SELECT value AS x, nullif(value % 7, 6) AS k, value % 2 AS m FROM generate_series(1, 300)) AS a";
        let asked = "(SELECT nullif(value % 3, 2) AS k, value % 2 AS m FROM generate_series(1, 200)) AS b";
        let on = "a.k = b.k";
        let is_in = |asked: &str| format!("a.k IN (SELECT b.k FROM {asked})");
        let not_null = format!("{asked} WHERE b.k IS NOT NULL");
        for of in [
            format!("{many} LEFT SEMI JOIN {asked} ON {on}"),
            format!("{many} LEFT ANTI JOIN {asked} ON {on}"),
            format!("{asked} RIGHT SEMI JOIN {many} ON {on}"),
            format!("{asked} RIGHT ANTI JOIN {many} ON {on}"),
            format!("{many} LEFT SEMI JOIN {asked} ON {on} AND a.m = b.m"),
            format!("{many} WHERE {}", is_in(asked)),
            format!("{many} WHERE NOT {}", is_in(asked)),
            format!("{many} WHERE NOT {}", is_in(&not_null)),
            format!("{many} WHERE a.x = 6 OR {}", is_in(asked)),
            format!("{many} WHERE EXISTS (SELECT 1 FROM {asked} WHERE {on}) OR a.x = 6"),
        ] {
            let sql = format!("SELECT coalesce(sum(a.x), 0) * 1000 + count(*) FROM {of}");
            let (plain, context) = planned(&sql).await;
            let expected = answer(apart(plain).unwrap(), &context).await;
            let (plan, context) = planned(&sql).await;
            let shown = displayable(plan.as_ref()).indent(false).to_string();
            assert!(shown.contains("KeysOnceExec"), "{sql}: {shown}");
            assert_eq!(answer(plan, &context).await, expected, "{sql}");
        }
    }
}
