//! The leaf of a plan that hands on the rows of a search, and says how they were found.

use std::sync::Arc;

use cairn_storage::index::SearchReport;
use cairn_storage::object::ReadMeter;
use cairn_vector::search::Strategy;
use datafusion::arrow::array::RecordBatch;
use datafusion::common::tree_node::TreeNodeRecursion;
use datafusion::common::{Result, Statistics};
use datafusion::execution::{SendableRecordBatchStream, TaskContext};
use datafusion::physical_expr::{EquivalenceProperties, PhysicalExpr, PhysicalSortExpr};
use datafusion::physical_plan::execution_plan::{Boundedness, EmissionType, ReplaceChildrenOptions};
use datafusion::physical_plan::metrics::{
    BaselineMetrics, ExecutionPlanMetricsSet, MetricsSet, RecordOutput,
};
use datafusion::physical_plan::statistics::StatisticsArgs;
use datafusion::physical_plan::stream::RecordBatchStreamAdapter;
use datafusion::physical_plan::{DisplayAs, DisplayFormatType, ExecutionPlan, Partitioning, PlanProperties};
use futures::StreamExt;

use super::Search;
use super::held::Held;
use crate::measure::with_reads;

/// See the module. The search ran when the plan was made.
#[derive(Clone, Debug)]
pub(super) struct SearchExec {
    batch: RecordBatch,
    /// The batch.
    held: Arc<Held>,
    facts: String,
    properties: Arc<PlanProperties>,
    metrics: ExecutionPlanMetricsSet,
    /// What the reads of the search were counted by; None: by nothing.
    meter: Option<ReadMeter>,
}

impl SearchExec {
    /// `batch` is in each of `orders`.
    pub(super) fn new(
        search: &Search,
        (batch, held): (RecordBatch, Held),
        orders: Vec<PhysicalSortExpr>,
        report: SearchReport,
        matching: Option<u64>,
    ) -> Self {
        let properties = PlanProperties::new(
            EquivalenceProperties::new_with_orderings(batch.schema(), orders.into_iter().map(|by| [by])),
            Partitioning::UnknownPartitioning(1),
            EmissionType::Incremental,
            Boundedness::Bounded,
        );
        let facts = facts(search, &report, matching, true).join(", ");
        let metrics = ExecutionPlanMetricsSet::new();
        let (held, properties) = (Arc::new(held), Arc::new(properties));
        Self { batch, held, facts, properties, metrics, meter: None }
    }

    /// The same, showing what `meter` has counted.
    pub(super) fn metered(self, meter: Option<ReadMeter>) -> Self {
        Self { meter, ..self }
    }
}

/// What EXPLAIN says of a search that `ran`, or of what it would begin with.
pub(super) fn facts(search: &Search, report: &SearchReport, matching: Option<u64>, ran: bool) -> Vec<String> {
    let mut facts = vec![search.to_string()];
    facts.extend(report.index.iter().map(|index| format!("index={index}")));
    facts.extend(matching.map(|rows| format!("matching_rows={rows}")));
    for unit in &report.units {
        if !ran {
            facts.push(format!("unit {}: [{}]", unit.unit, unit.plan));
            continue;
        }
        let ended = match (unit.plan.strategy, unit.strategy) {
            (Strategy::Walk { .. } | Strategy::Probe { .. }, Strategy::Scan) => ", then scanned",
            (Strategy::Probe { .. }, Strategy::Walk { .. }) => ", then walked",
            _ => "",
        };
        facts.push(format!(
            "unit {}: [{}{ended}; {} codes, {} exact]",
            unit.unit, unit.plan, unit.code_distances, unit.exact_distances
        ));
    }
    if report.exact.segments > 0 {
        facts.push(format!("exact_rows={} ({})", report.exact.segments, report.exact.why));
    }
    if report.exact.hot > 0 {
        facts.push(format!("hot_rows={}", report.exact.hot));
    }
    facts.extend(report.lost.iter().map(|(unit, why)| format!("unit {unit} lost: {why}")));
    facts
}

impl DisplayAs for SearchExec {
    fn fmt_as(&self, t: DisplayFormatType, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        if t == DisplayFormatType::TreeRender {
            return self.facts.split(", ").try_for_each(|fact| writeln!(f, "{fact}"));
        }
        let schema = self.batch.schema();
        let names: Vec<&str> = schema.fields().iter().map(|field| field.name().as_str()).collect();
        write!(f, "SearchExec: {}, projection=[{}]", self.facts, names.join(", "))
    }
}

impl ExecutionPlan for SearchExec {
    fn name(&self) -> &'static str {
        "SearchExec"
    }

    fn properties(&self) -> &Arc<PlanProperties> {
        &self.properties
    }

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

    fn execute(&self, partition: usize, _context: Arc<TaskContext>) -> Result<SendableRecordBatchStream> {
        RecordOutput::record_output(&self.batch, &BaselineMetrics::new(&self.metrics, partition));
        let (schema, batch, held) = (self.batch.schema(), self.batch.clone(), Arc::clone(&self.held));
        // The plan may be gone by then; whoever takes the batch holds it himself.
        let stream = futures::stream::iter([(batch, held)]).map(|(batch, _held)| Ok(batch));
        Ok(Box::pin(RecordBatchStreamAdapter::new(schema, stream)))
    }

    fn metrics(&self) -> Option<MetricsSet> {
        Some(with_reads(self.metrics.clone_inner(), self.meter.as_ref()))
    }

    fn statistics_from_inputs(
        &self,
        _inputs: &[Arc<Statistics>],
        _args: &StatisticsArgs,
    ) -> Result<Arc<Statistics>> {
        let rows = datafusion::common::stats::Precision::Exact(self.batch.num_rows());
        Ok(Arc::new(Statistics::new_unknown(&self.batch.schema()).with_num_rows(rows)))
    }
}
