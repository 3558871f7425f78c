//! OFFSET below something else.
//!
//! DataFusion 55 moves a sort below `LIMIT n OFFSET m` when that is in a coarser order, and then sorts for n rows only: of
//! `SELECT … FROM (… ORDER BY d LIMIT 4 OFFSET 4) ORDER BY d, id` nothing is left. And it drops the sort below an offset when nothing
//! above asks for that order: of `SELECT sum(id) FROM (… ORDER BY g OFFSET 100)` other rows are left. Here an offset is a node
//! that no sort passes, and that asks for the order it was given.

use std::fmt;
use std::sync::Arc;

use datafusion::common::tree_node::{Transformed, TransformedResult, TreeNode, TreeNodeRecursion};
use datafusion::common::{Result, internal_err};
use datafusion::execution::{SendableRecordBatchStream, TaskContext};
use datafusion::physical_expr::{Distribution, OrderingRequirements, PhysicalExpr};
use datafusion::physical_plan::execution_plan::ReplaceChildrenOptions;
use datafusion::physical_plan::limit::{GlobalLimitExec, LimitStream};
use datafusion::physical_plan::metrics::{BaselineMetrics, ExecutionPlanMetricsSet, MetricsSet};
use datafusion::physical_plan::projection::ProjectionExec;
use datafusion::physical_plan::{
    DisplayAs, DisplayFormatType, ExecutionPlan, ExecutionPlanProperties, Partitioning, PlanProperties,
    replace_children_if_necessary,
};

/// `plan` with such offsets. One at the top, or below projections alone, stays DataFusion's.
pub(super) fn staying(plan: Arc<dyn ExecutionPlan>) -> Result<Arc<dyn ExecutionPlan>> {
    if plan.is::<GlobalLimitExec>() || plan.is::<ProjectionExec>() {
        let children = plan.children().into_iter().cloned().map(staying);
        let children = children.collect::<Result<Vec<_>>>()?;
        return replace_children_if_necessary(plan, children);
    }
    plan.transform_up(|plan| match plan.downcast_ref::<GlobalLimitExec>() {
        Some(limit) if limit.skip() > 0 => {
            Ok(Transformed::yes(behind(limit.input(), limit.skip(), limit.fetch())?))
        }
        _ => Ok(Transformed::no(plan)),
    })
    .data()
}

/// The rows of `input` but the first `skip`, `fetch` of them. Below projections, which may leave out what is sorted by.
fn behind(
    input: &Arc<dyn ExecutionPlan>,
    skip: usize,
    fetch: Option<usize>,
) -> Result<Arc<dyn ExecutionPlan>> {
    if let (true, [below]) = (input.is::<ProjectionExec>(), input.children().as_slice()) {
        return replace_children_if_necessary(Arc::clone(input), vec![behind(below, skip, fetch)?]);
    }
    // The order of now decides which rows are the first: whatever the rules behind this one change, it is to stay.
    let order = input.output_ordering().cloned().map(OrderingRequirements::from);
    let input = match fetch {
        Some(fetch) => Arc::new(GlobalLimitExec::new(Arc::clone(input), 0, Some(fetch.saturating_add(skip)))),
        None => Arc::clone(input),
    };
    Ok(Arc::new(OffsetExec::new(input, skip, order)))
}

/// The rows of one partition but the first `skip`, in their order.
#[derive(Clone, Debug)]
struct OffsetExec {
    input: Arc<dyn ExecutionPlan>,
    skip: usize,
    /// What its input is to be in; None: any.
    order: Option<OrderingRequirements>,
    properties: Arc<PlanProperties>,
    metrics: ExecutionPlanMetricsSet,
}

impl OffsetExec {
    fn new(input: Arc<dyn ExecutionPlan>, skip: usize, order: Option<OrderingRequirements>) -> Self {
        let properties = PlanProperties::clone(input.properties());
        let properties = properties.with_partitioning(Partitioning::UnknownPartitioning(1));
        Self { input, skip, order, properties: Arc::new(properties), metrics: ExecutionPlanMetricsSet::new() }
    }

    fn over(&self, children: Vec<Arc<dyn ExecutionPlan>>) -> Result<Arc<dyn ExecutionPlan>> {
        match <[_; 1]>::try_from(children) {
            Ok([input]) => Ok(Arc::new(Self::new(input, self.skip, self.order.clone()))),
            Err(children) => internal_err!("an offset of {} inputs", children.len()),
        }
    }
}

impl DisplayAs for OffsetExec {
    fn fmt_as(&self, t: DisplayFormatType, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match t {
            DisplayFormatType::TreeRender => writeln!(f, "skip={}", self.skip),
            DisplayFormatType::Default | DisplayFormatType::Verbose => {
                write!(f, "OffsetExec: skip={}", self.skip)
            }
        }
    }
}

impl ExecutionPlan for OffsetExec {
    fn name(&self) -> &'static str {
        "OffsetExec"
    }

    fn properties(&self) -> &Arc<PlanProperties> {
        &self.properties
    }

    fn children(&self) -> Vec<&Arc<dyn ExecutionPlan>> {
        vec![&self.input]
    }

    fn required_input_distribution(&self) -> Vec<Distribution> {
        vec![Distribution::SinglePartition]
    }

    fn required_input_ordering(&self) -> Vec<Option<OrderingRequirements>> {
        vec![self.order.clone()]
    }

    /// It does; said otherwise, sorts are moved below it.
    fn maintains_input_order(&self) -> Vec<bool> {
        vec![false]
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

    fn execute(&self, partition: usize, context: Arc<TaskContext>) -> Result<SendableRecordBatchStream> {
        if partition != 0 {
            return internal_err!("an offset has one partition, not {partition}");
        }
        let metrics = BaselineMetrics::new(&self.metrics, partition);
        let input = self.input.execute(0, context)?;
        Ok(Box::pin(LimitStream::new(input, self.skip, None, metrics)))
    }

    fn metrics(&self) -> Option<MetricsSet> {
        Some(self.metrics.clone_inner())
    }
}
