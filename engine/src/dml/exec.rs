//! The physical plan of a change: runs its input and writes what comes into the write set.
//!
//! Owns: one task per input partition, or one for all where the order or a set of seen rows counts. Does not own: the
//! rows' conversion and writing (`write`). One output partition; dropping the stream aborts every task.

use std::fmt;
use std::sync::Arc;

use cairn_storage::ErrorKind;
use datafusion::arrow::array::{Array, RecordBatch, UInt64Array};
use datafusion::arrow::datatypes::SchemaRef;
use datafusion::common::tree_node::TreeNodeRecursion;
use datafusion::common::{Result as DfResult, internal_err};
use datafusion::error::DataFusionError;
use datafusion::execution::{SendableRecordBatchStream, TaskContext};
use datafusion::physical_expr::{EquivalenceProperties, OrderingRequirements, PhysicalExpr};
use datafusion::physical_plan::coalesce_partitions::CoalescePartitionsExec;
use datafusion::physical_plan::execution_plan::{Boundedness, EmissionType};
use datafusion::physical_plan::stream::RecordBatchStreamAdapter;
use datafusion::physical_plan::{
    DisplayAs, DisplayFormatType, Distribution, ExecutionPlan, ExecutionPlanProperties, Partitioning,
    PlanProperties,
};
use futures::{StreamExt, TryStreamExt};
use tokio::task::JoinSet;

use super::write::{Work, Written};
use crate::error::{Error, Result};
use crate::session::carried;

/// Executes a change.
#[derive(Debug)]
pub(crate) struct DmlExec {
    work: Arc<Work>,
    name: &'static str,
    input: Arc<dyn ExecutionPlan>,
    schema: SchemaRef,
    properties: Arc<PlanProperties>,
}

impl DmlExec {
    pub(crate) fn new(
        work: Work,
        name: &'static str,
        input: Arc<dyn ExecutionPlan>,
        schema: SchemaRef,
    ) -> Self {
        Self::with_work(Arc::new(work), name, input, schema)
    }

    fn with_work(
        work: Arc<Work>,
        name: &'static str,
        input: Arc<dyn ExecutionPlan>,
        schema: SchemaRef,
    ) -> Self {
        let properties = Arc::new(PlanProperties::new(
            EquivalenceProperties::new(Arc::clone(&schema)),
            Partitioning::UnknownPartitioning(1),
            EmissionType::Final,
            Boundedness::Bounded,
        ));
        Self { work, name, input, schema, properties }
    }
}

impl DisplayAs for DmlExec {
    fn fmt_as(&self, _t: DisplayFormatType, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "DmlExec: {} {}", self.name, self.work.target.def.qualified_name())
    }
}

impl ExecutionPlan for DmlExec {
    fn name(&self) -> &str {
        "DmlExec"
    }

    fn properties(&self) -> &Arc<PlanProperties> {
        &self.properties
    }

    fn children(&self) -> Vec<&Arc<dyn ExecutionPlan>> {
        vec![&self.input]
    }

    fn required_input_distribution(&self) -> Vec<Distribution> {
        vec![if self.work.ordered() {
            Distribution::SinglePartition
        } else {
            Distribution::UnspecifiedDistribution
        }]
    }

    fn required_input_ordering(&self) -> Vec<Option<OrderingRequirements>> {
        let ordering = self.input.output_ordering().filter(|_| self.work.ordered()).cloned();
        vec![ordering.map(OrderingRequirements::from)]
    }

    fn maintains_input_order(&self) -> Vec<bool> {
        vec![false]
    }

    /// A few rows are not worth spreading, and their order shall stay.
    fn benefits_from_input_partitioning(&self) -> Vec<bool> {
        vec![false]
    }

    fn apply_expressions(
        &self,
        _f: &mut dyn FnMut(&Arc<dyn PhysicalExpr>) -> DfResult<TreeNodeRecursion>,
    ) -> DfResult<TreeNodeRecursion> {
        Ok(TreeNodeRecursion::Continue)
    }

    fn with_new_children(
        self: Arc<Self>,
        mut children: Vec<Arc<dyn ExecutionPlan>>,
    ) -> DfResult<Arc<dyn ExecutionPlan>> {
        match (children.pop(), children.is_empty()) {
            (Some(input), true) => Ok(Arc::new(Self::with_work(
                Arc::clone(&self.work),
                self.name,
                input,
                Arc::clone(&self.schema),
            ))),
            _ => internal_err!("a change has one input"),
        }
    }

    fn execute(&self, partition: usize, context: Arc<TaskContext>) -> DfResult<SendableRecordBatchStream> {
        if partition != 0 {
            return internal_err!("a change has one output partition");
        }
        let (work, input, schema) =
            (Arc::clone(&self.work), Arc::clone(&self.input), Arc::clone(&self.schema));
        let output = async move {
            let written = run(&work, &input, &context).await?;
            let batches = if work.collected.is_some() {
                written.batches
            } else {
                vec![count_batch(schema, written.rows)?]
            };
            Ok::<_, Error>(futures::stream::iter(batches.into_iter().map(Ok::<_, DataFusionError>)))
        };
        let stream =
            futures::stream::once(async move { output.await.map_err(DataFusionError::from) }).try_flatten();
        Ok(Box::pin(RecordBatchStreamAdapter::new(Arc::clone(&self.schema), stream)))
    }
}

fn count_batch(schema: SchemaRef, rows: u64) -> Result<RecordBatch> {
    RecordBatch::try_new(schema, vec![Arc::new(UInt64Array::from(vec![rows]))]).map_err(super::assign::arrow)
}

/// The count a change's one row holds.
///
/// # Errors
/// The plan gave something else.
pub(crate) fn count_of(batches: &[RecordBatch]) -> Result<u64> {
    let counts = batches.iter().flat_map(|b| b.columns().first());
    counts
        .filter_map(|c| c.as_any().downcast_ref::<UInt64Array>())
        .find(|c| !c.is_empty())
        .map(|c| c.value(0))
        .ok_or_else(|| Error::new(ErrorKind::Internal, "the change gave no count"))
}

async fn run(
    work: &Arc<Work>,
    input: &Arc<dyn ExecutionPlan>,
    context: &Arc<TaskContext>,
) -> Result<Written> {
    work.transaction.open().await?;
    let partitions = input.output_partitioning().partition_count();
    if partitions == 1 {
        return consume(work, input.execute(0, Arc::clone(context))?, true).await;
    }
    if work.one_task() {
        let merged = CoalescePartitionsExec::new(Arc::clone(input));
        return consume(work, merged.execute(0, Arc::clone(context))?, false).await;
    }
    let mut tasks = JoinSet::new();
    for partition in 0..partitions {
        let stream = input.execute(partition, Arc::clone(context))?;
        let work = Arc::clone(work);
        tasks.spawn(carried(async move { consume(&work, stream, false).await }));
    }
    let mut total = Written::default();
    while let Some(done) = tasks.join_next().await {
        let done =
            done.map_err(|e| Error::new(ErrorKind::Internal, format!("a writing task ended early: {e}")))??;
        total.rows += done.rows;
        total.batches.extend(done.batches);
    }
    Ok(total)
}

async fn consume(work: &Arc<Work>, mut stream: SendableRecordBatchStream, numbered: bool) -> Result<Written> {
    let mut worker = work.worker(numbered)?;
    while let Some(batch) = stream.next().await {
        worker.apply(batch?).await?;
    }
    worker.finish().await
}
