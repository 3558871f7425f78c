//! Joins that yield, and that can be ended before they do.
//!
//! DataFusion's operators yield through their leaves, which count the batches they are asked for. A join may make any number of
//! batches of one of its leaf's: a cross join, or one on a key that most rows share, holds its thread for minutes, and can be
//! neither cancelled nor ended by a limit. Here each batch of a join counts too.
//!
//! A join whose condition no pair of rows meets makes no batch at all, however many pairs it looks at. So conditions ask whether their
//! statement is to end, each time they are computed: for at most a batch of pairs.

use std::fmt;
use std::hash::{Hash, Hasher};
use std::sync::Arc;

use datafusion::arrow::array::RecordBatch;
use datafusion::arrow::datatypes::{DataType, FieldRef, Schema};
use datafusion::common::tree_node::{Transformed, TransformedResult, TreeNode};
use datafusion::common::{Result, internal_err};
use datafusion::error::DataFusionError;
use datafusion::logical_expr::ColumnarValue;
use datafusion::physical_expr::PhysicalExpr;
use datafusion::physical_plan::ExecutionPlan;
use datafusion::physical_plan::coop::CooperativeExec;
use datafusion::physical_plan::joins::utils::JoinFilter;
use datafusion::physical_plan::joins::{HashJoinExec, NestedLoopJoinExec, NestedLoopJoinExecBuilder};

use crate::session::may_go_on;

/// `plan` with joins that yield, and ask.
pub(super) fn yielding(plan: Arc<dyn ExecutionPlan>) -> Result<Arc<dyn ExecutionPlan>> {
    plan.transform_up(|plan| {
        if !plan.name().ends_with("JoinExec") {
            return Ok(Transformed::no(plan));
        }
        let asking = |condition: &Arc<dyn PhysicalExpr>| {
            Some(Arc::new(Asking { condition: Arc::clone(condition) }) as Arc<dyn PhysicalExpr>)
        };
        let join = with_condition(plan, asking)?.data;
        Ok(Transformed::yes(Arc::new(CooperativeExec::new(join)) as Arc<dyn ExecutionPlan>))
    })
    .data()
}

/// `plan` with joins that don't ask: another process knows nothing of the question.
pub(super) fn not_asking(plan: Arc<dyn ExecutionPlan>) -> Result<Arc<dyn ExecutionPlan>> {
    let plain = |condition: &Arc<dyn PhysicalExpr>| {
        condition.downcast_ref::<Asking>().map(|asking| Arc::clone(&asking.condition))
    };
    plan.transform_up(|plan| with_condition(plan, plain)).data()
}

/// A join with what `change` makes of the condition it has beside its keys; any other node as it is, and where `change` makes nothing.
fn with_condition(
    plan: Arc<dyn ExecutionPlan>,
    change: impl Fn(&Arc<dyn PhysicalExpr>) -> Option<Arc<dyn PhysicalExpr>>,
) -> Result<Transformed<Arc<dyn ExecutionPlan>>> {
    let changed = |filter: &JoinFilter| {
        let condition = change(filter.expression())?;
        Some(JoinFilter::new(condition, filter.column_indices().to_vec(), Arc::clone(filter.schema())))
    };
    if let Some(join) = plan.downcast_ref::<NestedLoopJoinExec>()
        && let Some(filter) = join.filter().and_then(&changed)
    {
        let join = NestedLoopJoinExecBuilder::from(join).with_filter(Some(filter)).build()?;
        return Ok(Transformed::yes(Arc::new(join) as Arc<dyn ExecutionPlan>));
    }
    if let Some(join) = plan.downcast_ref::<HashJoinExec>()
        && let Some(filter) = join.filter().and_then(&changed)
    {
        return Ok(Transformed::yes(join.builder().with_filter(Some(filter)).build_exec()?));
    }
    Ok(Transformed::no(plan))
}

/// A condition that fails when its statement is to end. It looks like the one it stands for.
#[derive(Clone, Debug, Eq)]
struct Asking {
    condition: Arc<dyn PhysicalExpr>,
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
            Ok([condition]) => Ok(Arc::new(Self { condition })),
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
    use std::sync::atomic::{AtomicUsize, Ordering};

    use cairn_storage::ErrorKind;
    use datafusion::arrow::array::AsArray;
    use datafusion::arrow::datatypes::Int64Type;
    use datafusion::execution::session_state::SessionStateBuilder;
    use datafusion::physical_plan::{collect, displayable};
    use datafusion::prelude::{SessionConfig, SessionContext};

    use super::*;
    use crate::error::Error;
    use crate::session::{Asked, keep_places};

    /// How many rows each side of the join has, and its condition.
    async fn planned(rows: usize, condition: &str) -> (Arc<dyn ExecutionPlan>, SessionContext) {
        let builder = SessionStateBuilder::new_with_default_features()
            .with_config(SessionConfig::new().with_target_partitions(2));
        let context = SessionContext::new_with_state(crate::rules::register(builder).build());
        let sql = format!(
            "SELECT count(*) FROM generate_series(1, {rows}) AS a(x) JOIN generate_series(1, {rows}) AS b(y) ON {condition}"
        );
        let plan = context.sql(&sql).await.unwrap().create_physical_plan().await.unwrap();
        (plan, context)
    }

    const CONDITIONS: [(&str, &str); 2] =
        [("NestedLoopJoinExec", "a.x + b.y < 10"), ("HashJoinExec", "a.x % 2 = b.y % 2 AND a.x + b.y < 10")];

    #[tokio::test]
    async fn a_join_is_ended_between_two_batches_of_pairs() {
        keep_places();
        for (name, condition) in CONDITIONS {
            let (plan, context) = planned(5_000, condition).await;
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
            let (asking, context) = planned(50, condition).await;
            let plain = not_asking(planned(50, condition).await.0).unwrap();
            assert!(asks(&asking) && !asks(&plain), "{condition}");
            let shown = |plan: &Arc<dyn ExecutionPlan>| displayable(plan.as_ref()).indent(false).to_string();
            assert_eq!(shown(&asking), shown(&plain));
            for plan in [asking, plain] {
                let rows = collect(plan, context.task_ctx()).await.unwrap();
                assert_eq!(rows[0].column(0).as_primitive::<Int64Type>().value(0), expected, "{condition}");
            }
        }
    }
}
