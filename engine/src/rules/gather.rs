//! The side that a hash join holds, put together before the join has it.
//!
//! DataFusion's hash join collects that side, and then copies all of it into one batch while it still has those it came in: what a join of a large
//! side takes is nearly twice what it has reserved. Of one batch it makes no copy. So a large side is put together here, one column after
//! the other: a copy is reserved before it is made, and what it was made of is given up before the next.

use std::fmt;
use std::sync::Arc;

use datafusion::arrow::array::{Array, ArrayRef, RecordBatch, RecordBatchOptions};
use datafusion::arrow::compute::concat;
use datafusion::arrow::datatypes::SchemaRef;
use datafusion::arrow::error::ArrowError;
use datafusion::common::config::ConfigOptions;
use datafusion::common::tree_node::{Transformed, TransformedResult, TreeNode, TreeNodeRecursion};
use datafusion::common::utils::memory::RecordBatchMemoryCounter;
use datafusion::common::{Result, internal_err};
use datafusion::error::DataFusionError;
use datafusion::execution::memory_pool::{MemoryConsumer, MemoryReservation};
use datafusion::execution::{SendableRecordBatchStream, TaskContext};
use datafusion::physical_expr::PhysicalExpr;
use datafusion::physical_plan::execution_plan::ReplaceChildrenOptions;
use datafusion::physical_plan::filter_pushdown::{
    ChildPushdownResult, FilterDescription, FilterPushdownPhase, FilterPushdownPropagation,
};
use datafusion::physical_plan::joins::HashJoinExec;
use datafusion::physical_plan::stream::RecordBatchStreamAdapter;
use datafusion::physical_plan::{
    DisplayAs, DisplayFormatType, ExecutionPlan, PlanProperties, replace_children_if_necessary,
};
use futures::{StreamExt, TryFutureExt, TryStreamExt};

use super::sorted::is_small;

/// Bytes of a side, or of a part of it, from which it is put together.
const LARGE_BYTES: usize = 16 << 20;

/// `plan` with the large sides of its hash joins put together.
pub(super) fn gathered(plan: Arc<dyn ExecutionPlan>) -> Result<Arc<dyn ExecutionPlan>> {
    plan.transform_up(|plan| {
        let sides = match plan.downcast_ref::<HashJoinExec>() {
            Some(join) if !is_small(join) => {
                let held = GatherExec::new(Arc::clone(join.left()));
                vec![Arc::new(held) as Arc<dyn ExecutionPlan>, Arc::clone(join.right())]
            }
            _ => return Ok(Transformed::no(plan)),
        };
        Ok(Transformed::yes(replace_children_if_necessary(plan, sides)?))
    })
    .data()
}

/// `plan` with these sides as they come, for a process that does not know the node.
pub(super) fn apart(plan: Arc<dyn ExecutionPlan>) -> Result<Arc<dyn ExecutionPlan>> {
    plan.transform_up(|plan| {
        Ok(match plan.downcast_ref::<GatherExec>() {
            Some(gather) => Transformed::yes(Arc::clone(&gather.input)),
            None => Transformed::no(plan),
        })
    })
    .data()
}

/// The rows of each partition, in one batch where they are large.
#[derive(Clone, Debug)]
pub(super) struct GatherExec {
    input: Arc<dyn ExecutionPlan>,
}

impl GatherExec {
    fn new(input: Arc<dyn ExecutionPlan>) -> Self {
        Self { input }
    }

    fn over(children: Vec<Arc<dyn ExecutionPlan>>) -> Result<Arc<dyn ExecutionPlan>> {
        match <[_; 1]>::try_from(children) {
            Ok([input]) => Ok(Arc::new(Self::new(input))),
            Err(children) => internal_err!("one side of a join of {} inputs", children.len()),
        }
    }
}

impl DisplayAs for GatherExec {
    fn fmt_as(&self, t: DisplayFormatType, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match t {
            DisplayFormatType::TreeRender => Ok(()),
            DisplayFormatType::Default | DisplayFormatType::Verbose => f.write_str("GatherExec"),
        }
    }
}

impl ExecutionPlan for GatherExec {
    fn name(&self) -> &'static str {
        "GatherExec"
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
        let held = MemoryConsumer::new(format!("GatherExec[{partition}]")).register(context.memory_pool());
        let input = self.input.execute(partition, context)?;
        let schema = input.schema();
        let batches = gather(input, Arc::clone(&schema), held)
            .map_ok(|batches| futures::stream::iter(batches.into_iter().map(Ok::<_, DataFusionError>)));
        let rows = futures::stream::once(batches).try_flatten();
        Ok(Box::pin(RecordBatchStreamAdapter::new(schema, rows)))
    }
}

/// All batches of `input`, which is over then; one where they are large.
async fn gather(
    mut input: SendableRecordBatchStream,
    schema: SchemaRef,
    held: MemoryReservation,
) -> Result<Vec<RecordBatch>> {
    let (mut counter, mut batches) = (RecordBatchMemoryCounter::new(), Vec::new());
    while let Some(batch) = input.next().await.transpose()? {
        held.try_grow(counter.count_batch(&batch))?;
        batches.push(batch);
    }
    drop((input, counter));
    if held.size() < LARGE_BYTES || batches.len() < 2 {
        return Ok(batches);
    }
    Ok(vec![together(schema, batches, &held)?])
}

/// The rows of `batches` as one; `held` has what they take.
fn together(schema: SchemaRef, batches: Vec<RecordBatch>, held: &MemoryReservation) -> Result<RecordBatch> {
    let rows = batches.iter().map(RecordBatch::num_rows).sum();
    let mut columns: Vec<Vec<ArrayRef>> = vec![Vec::new(); schema.fields().len()];
    for batch in batches {
        let (_, of_batch, _) = batch.into_parts();
        for (column, part) in columns.iter_mut().zip(of_batch) {
            column.push(part);
        }
    }
    // Lists that are cut out of one and the same count all of it each time.
    let most = held.size();
    let columns = columns.into_iter().map(|parts| {
        let sizes = parts.iter().map(|part| part.to_data().get_slice_memory_size());
        let bytes = sizes.sum::<std::result::Result<usize, ArrowError>>()?.min(most);
        held.try_grow(bytes)?;
        let whole = concat(&parts.iter().map(AsRef::as_ref).collect::<Vec<&dyn Array>>())?;
        drop(parts);
        held.shrink(bytes);
        Ok::<_, DataFusionError>(whole)
    });
    let columns = columns.collect::<Result<Vec<ArrayRef>>>()?;
    let options = RecordBatchOptions::new().with_row_count(Some(rows));
    Ok(RecordBatch::try_new_with_options(schema, columns, &options)?)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use datafusion::arrow::array::{Int64Array, StringViewArray};
    use datafusion::arrow::compute::concat_batches;
    use datafusion::execution::memory_pool::{GreedyMemoryPool, MemoryPool};

    use super::*;

    /// Four batches, 1 KB a row.
    fn batches(rows: i64) -> Vec<RecordBatch> {
        let text = "wide ".repeat(200);
        let batch = |first: i64| {
            let numbers = Int64Array::from_iter_values(first..first + rows);
            let texts: StringViewArray = (0..rows).map(|i| (i % 9 > 0).then_some(&text)).collect();
            let columns: [(&str, ArrayRef, bool); 2] =
                [("n", Arc::new(numbers), false), ("t", Arc::new(texts), true)];
            RecordBatch::try_from_iter_with_nullable(columns).unwrap()
        };
        (0..4).map(|i| batch(i * rows)).collect()
    }

    async fn gathered(rows: i64, bytes: usize) -> Result<Vec<RecordBatch>> {
        let pool: Arc<dyn MemoryPool> = Arc::new(GreedyMemoryPool::new(bytes));
        let held = MemoryConsumer::new("test").register(&pool);
        let batches = batches(rows);
        let schema = batches[0].schema();
        let input = futures::stream::iter(batches.into_iter().map(Ok::<_, DataFusionError>));
        let input = Box::pin(RecordBatchStreamAdapter::new(Arc::clone(&schema), input));
        let done = gather(input, schema, held).await;
        assert_eq!(pool.reserved(), 0);
        done
    }

    #[tokio::test]
    async fn large_sides_are_put_together_and_no_others() {
        assert_eq!(gathered(100, 64 << 20).await.unwrap(), batches(100));
        let whole = concat_batches(&batches(6_000)[0].schema(), &batches(6_000)).unwrap();
        assert_eq!(gathered(6_000, 64 << 20).await.unwrap(), [whole]);
        let short = gathered(6_000, 17 << 20).await.unwrap_err();
        assert!(matches!(short.find_root(), DataFusionError::ResourcesExhausted(_)), "{short}");
    }
}
