//! The leaf of a plan that hands on the rows of a view, whose own plan is not part of it.
//!
//! Owns: showing rules and EXPLAIN what the view's rows are and nothing of how they come about: no rule moves anything into a plan it
//! does not see, and neither bounds of hidden values nor counts of hidden rows are told.

use std::fmt;
use std::sync::Arc;

use datafusion::common::tree_node::TreeNodeRecursion;
use datafusion::common::{Result, Statistics};
use datafusion::execution::{SendableRecordBatchStream, TaskContext};
use datafusion::logical_expr::Expr;
use datafusion::physical_expr::PhysicalExpr;
use datafusion::physical_plan::execution_plan::reset_plan_states;
use datafusion::physical_plan::metrics::{BaselineMetrics, ExecutionPlanMetricsSet, MetricsSet};
use datafusion::physical_plan::statistics::{StatisticsArgs, StatisticsContext};
use datafusion::physical_plan::stream::RecordBatchStreamAdapter;
use datafusion::physical_plan::{
    DisplayAs, DisplayFormatType, ExecutionPlan, PlanProperties, ReplaceChildrenOptions,
};
use futures::TryStreamExt;

/// See the module.
#[derive(Clone, Debug)]
pub(super) struct ViewExec {
    facts: Vec<String>,
    rows: Arc<dyn ExecutionPlan>,
    metrics: ExecutionPlanMetricsSet,
}

impl ViewExec {
    /// `rows` of the view `name`, among which `filters` and `limit` have been applied.
    pub(super) fn new(
        name: &str,
        rows: Arc<dyn ExecutionPlan>,
        filters: &[Expr],
        limit: Option<usize>,
    ) -> Self {
        let schema = rows.schema();
        let names: Vec<&str> = schema.fields().iter().map(|field| field.name().as_str()).collect();
        let mut facts = vec![format!("view={name}"), format!("projection=[{}]", names.join(", "))];
        if !filters.is_empty() {
            let filters: Vec<String> = filters.iter().map(ToString::to_string).collect();
            facts.push(format!("filters=[{}]", filters.join(", ")));
        }
        facts.extend(limit.map(|limit| format!("limit={limit}")));
        Self { facts, rows, metrics: ExecutionPlanMetricsSet::new() }
    }
}

impl DisplayAs for ViewExec {
    fn fmt_as(&self, t: DisplayFormatType, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match t {
            DisplayFormatType::TreeRender => self.facts.iter().try_for_each(|fact| writeln!(f, "{fact}")),
            DisplayFormatType::Default | DisplayFormatType::Verbose => {
                write!(f, "ViewExec: {}", self.facts.join(", "))
            }
        }
    }
}

impl ExecutionPlan for ViewExec {
    fn name(&self) -> &'static str {
        "ViewExec"
    }

    fn properties(&self) -> &Arc<PlanProperties> {
        self.rows.properties()
    }

    /// None that a rule could change, or EXPLAIN show.
    fn children(&self) -> Vec<&Arc<dyn ExecutionPlan>> {
        Vec::new()
    }

    fn replace_children(
        self: Arc<Self>,
        _children: Vec<Arc<dyn ExecutionPlan>>,
        _options: ReplaceChildrenOptions,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        Ok(self)
    }

    fn with_new_children(
        self: Arc<Self>,
        _children: Vec<Arc<dyn ExecutionPlan>>,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        Ok(self)
    }

    fn apply_expressions(
        &self,
        _f: &mut dyn FnMut(&Arc<dyn PhysicalExpr>) -> Result<TreeNodeRecursion>,
    ) -> Result<TreeNodeRecursion> {
        Ok(TreeNodeRecursion::Continue)
    }

    fn reset_state(self: Arc<Self>) -> Result<Arc<dyn ExecutionPlan>> {
        let rows = reset_plan_states(Arc::clone(&self.rows))?;
        Ok(Arc::new(Self { facts: self.facts.clone(), rows, metrics: ExecutionPlanMetricsSet::new() }))
    }

    fn execute(&self, partition: usize, context: Arc<TaskContext>) -> Result<SendableRecordBatchStream> {
        let metrics = BaselineMetrics::new(&self.metrics, partition);
        let rows = self.rows.execute(partition, context)?;
        let rows = rows.inspect_ok(move |batch| metrics.record_output(batch.num_rows()));
        Ok(Box::pin(RecordBatchStreamAdapter::new(self.schema(), rows)))
    }

    fn metrics(&self) -> Option<MetricsSet> {
        Some(self.metrics.clone_inner())
    }

    /// Of rows, not of columns: those would have the least and greatest values of hidden rows in them.
    fn statistics_from_inputs(
        &self,
        _inputs: &[Arc<Statistics>],
        args: &StatisticsArgs,
    ) -> Result<Arc<Statistics>> {
        let statistics = StatisticsContext::new().compute(self.rows.as_ref(), args)?;
        Ok(Arc::new(Statistics::new_unknown(&self.schema()).with_num_rows(statistics.num_rows)))
    }
}
