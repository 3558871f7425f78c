//! The leaf of a plan that reads one table at one version.
//!
//! Owns: joining the two halves of a table, rows in memory and rows in segments, into the partitions, statistics and
//! EXPLAIN line of one node. Does not own: reading Parquet, which an inner `DataSourceExec` does and to which filters,
//! dynamic ones included, projections, limits, sort requests and state are handed on. What the inner source promises of
//! its rows (a filter applied, an order) is promised on only while no row is in memory.
//!
//! # Encoding for other processes
//! Everything the node is made from is plain data in [`Scan`] (table, version, segment references with their hidden
//! rows, pieces per partition) plus the inner source's columns, order and limit, and the rows in memory. `codec` writes
//! those, never the inner source, whose protobuf form drops row selections; the reader of the bytes builds the source anew
//! with `files`. A scan that is to be encoded (`portable`) takes neither expressions nor the promise of a filter.

use std::fmt;
use std::sync::Arc;

use cairn_storage::object::ReadMeter;
use cairn_storage::{SegmentView, TableSnapshot};
use datafusion::arrow::datatypes::SchemaRef;
use datafusion::common::config::ConfigOptions;
use datafusion::common::stats::Precision;
use datafusion::common::tree_node::{TreeNode, TreeNodeRecursion};
use datafusion::common::{Result, Statistics};
use datafusion::datasource::physical_plan::{FileScanConfig, FileScanConfigBuilder};
use datafusion::datasource::source::DataSourceExec;
use datafusion::execution::{SendableRecordBatchStream, TaskContext};
use datafusion::physical_expr::expressions::Column;
use datafusion::physical_expr::{
    EquivalenceProperties, HigherOrderFunctionExpr, LexOrdering, PhysicalExpr, PhysicalSortExpr,
};
use datafusion::physical_plan::coop::cooperative;
use datafusion::physical_plan::execution_plan::{Boundedness, EmissionType, SchedulingType};
use datafusion::physical_plan::filter_pushdown::{
    ChildPushdownResult, FilterPushdownPhase, FilterPushdownPropagation, PushedDown,
};
use datafusion::physical_plan::limit::LimitStream;
use datafusion::physical_plan::metrics::{BaselineMetrics, ExecutionPlanMetricsSet, MetricsSet};
use datafusion::physical_plan::projection::ProjectionExec;
use datafusion::physical_plan::statistics::StatisticsArgs;
use datafusion::physical_plan::stream::RecordBatchStreamAdapter;
use datafusion::physical_plan::{
    DisplayAs, DisplayFormatType, ExecutionPlan, ExecutionPlanProperties, Partitioning, PlanProperties,
    ReplaceChildrenOptions, SortOrderPushdownResult,
};
use futures::StreamExt;

use super::ahead::Watched;
use super::files::{self, Files};
use super::hot::MemoryRows;
use super::order::SortedPieces;
use super::partition::Piece;
use super::statistics::{self, Summary};
use crate::measure::with_reads;

/// What a scan reads, decided when it was planned.
#[derive(Debug)]
pub(crate) struct Scan {
    /// The table at its version.
    pub(crate) table: TableSnapshot,
    /// The segments read.
    pub(crate) segments: Vec<SegmentView>,
    /// How many there were before pruning.
    pub(crate) segments_total: usize,
    /// The parts of `segments` each partition starts with.
    pub(crate) pieces: Vec<Vec<Piece>>,
    /// `segments` as file entries.
    pub(crate) files: Option<Files>,
    /// Number of keys looked up when the rows were found by key.
    pub(crate) keys: Option<usize>,
    /// Why a sort by distance above it uses no index.
    pub(crate) unsearched: Option<Arc<str>>,
    /// Whether it is to be encoded: it puts out columns, and filters stay above it.
    pub(crate) portable: bool,
}

/// Reads one table at one version: its rows in memory, then its segments.
#[derive(Clone, Debug)]
pub(crate) struct SegmentScanExec {
    scan: Arc<Scan>,
    memory: MemoryRows,
    inner: Option<Arc<dyn ExecutionPlan>>,
    fetch: Option<usize>,
    properties: Arc<PlanProperties>,
    metrics: ExecutionPlanMetricsSet,
    /// What its reads are counted by, those of its planning included; None: by nothing.
    meter: Option<ReadMeter>,
}

impl SegmentScanExec {
    /// A scan of `memory` and of what `inner` reads; both have the memory rows' schema.
    pub(crate) fn new(scan: Scan, memory: MemoryRows, inner: Option<Arc<dyn ExecutionPlan>>) -> Self {
        let properties = properties(&memory, inner.as_ref());
        Self {
            scan: Arc::new(scan),
            memory,
            inner,
            fetch: None,
            properties,
            metrics: ExecutionPlanMetricsSet::new(),
            meter: None,
        }
    }

    /// The same, showing what `meter` counts of the table it reads.
    pub(crate) fn metered(self, meter: Option<ReadMeter>) -> Self {
        Self { meter, ..self }
    }

    fn with_inner(&self, inner: Arc<dyn ExecutionPlan>) -> Self {
        Self { properties: properties(&self.memory, Some(&inner)), inner: Some(inner), ..self.clone() }
    }

    fn wrap(&self, inner: Arc<dyn ExecutionPlan>) -> Arc<dyn ExecutionPlan> {
        Arc::new(self.with_inner(inner))
    }

    /// What it reads.
    pub(super) fn scan(&self) -> &Scan {
        &self.scan
    }

    /// Its rows in memory.
    pub(super) fn memory(&self) -> &MemoryRows {
        &self.memory
    }

    /// How many rows it has, before the filters above it.
    pub(crate) fn rows(&self) -> f64 {
        let of_segments: u64 = self.scan.segments.iter().map(|segment| segment.live_rows).sum();
        of_segments as f64 + self.memory.rows() as f64
    }

    /// What the table keeps of the values of the column that it puts out there.
    pub(crate) fn summary(&self, at: usize) -> Option<Summary> {
        statistics::summary(&self.scan.table, self.schema().fields().get(at)?.name())
    }

    /// What reads its segments.
    pub(super) fn inner(&self) -> Option<&Arc<dyn ExecutionPlan>> {
        self.inner.as_ref()
    }

    /// The most rows each partition gives, of those in memory and those of segments.
    pub(super) fn limit(&self) -> Option<usize> {
        self.fetch
    }

    pub(super) fn file_config(&self) -> Option<&FileScanConfig> {
        self.inner.as_ref()?.downcast_ref::<DataSourceExec>()?.data_source().downcast_ref::<FileScanConfig>()
    }

    /// This scan with the segments dealt out so that every partition is in `order`; None when they can't be.
    fn in_order(&self, order: &[PhysicalSortExpr]) -> Result<Option<Self>> {
        let Some(over_table) = self.file_config().and_then(|config| in_table_columns(config, order)) else {
            return Ok(None);
        };
        let Some(ordered) = self.ordered_by(over_table) else { return Ok(None) };
        let holds = ordered.properties.equivalence_properties().ordering_satisfy(order.iter().cloned())?;
        Ok(holds.then_some(ordered))
    }

    /// The same by an order over the table's columns, each with its position.
    pub(super) fn ordered_by(&self, over_table: Vec<(usize, PhysicalSortExpr)>) -> Option<Self> {
        let (Some(config), Some(files), true) =
            (self.file_config(), &self.scan.files, self.memory.rows() == 0)
        else {
            return None;
        };
        let def = self.scan.table.def();
        let user = def.arrow_schema();
        let pieces: Vec<Piece> = self.scan.pieces.iter().flatten().copied().collect();
        let sort_columns = def.sort_indices();
        let sorted =
            SortedPieces::new(&self.scan.segments, &user, def.schema_version, &sort_columns, &pieces)?;
        let asked: Vec<usize> = over_table.iter().map(|(index, _)| *index).collect();
        if !sorted.columns.starts_with(&asked) {
            return None;
        }
        let ordering = LexOrdering::new(over_table.into_iter().map(|(_, expr)| expr))?;
        let partitions = self.properties.output_partitioning().partition_count();
        let config = FileScanConfigBuilder::from(config.clone())
            .with_file_groups(files.groups(&sorted.runs(partitions)))
            .with_output_ordering(vec![ordering])
            .build();
        Some(self.with_inner(DataSourceExec::from_data_source(config)))
    }
}

/// `order` over the table's columns: ascending columns only.
fn in_table_columns(
    config: &FileScanConfig,
    order: &[PhysicalSortExpr],
) -> Option<Vec<(usize, PhysicalSortExpr)>> {
    let projected: Vec<_> = config.file_source().projection()?.expr_iter().collect();
    order
        .iter()
        .map(|sort| {
            let output = sort.expr.downcast_ref::<Column>()?;
            let column = projected.get(output.index())?.downcast_ref::<Column>()?;
            let expr = Arc::new(column.clone()) as Arc<dyn PhysicalExpr>;
            (!sort.options.descending)
                .then_some((column.index(), PhysicalSortExpr { expr, options: sort.options }))
        })
        .collect()
}

/// Whether an expression has a lambda. Its variables are columns behind those of the rows it is planned for, and stay where they are when columns become
/// those of a file: a row number that the source computes, or another column of the file, would be taken for one.
fn holds_lambda(projection: &ProjectionExec) -> Result<bool> {
    for item in projection.expr() {
        if item.expr.exists(|expr| Ok(expr.downcast_ref::<HigherOrderFunctionExpr>().is_some()))? {
            return Ok(true);
        }
    }
    Ok(false)
}

fn properties(memory: &MemoryRows, inner: Option<&Arc<dyn ExecutionPlan>>) -> Arc<PlanProperties> {
    match inner {
        Some(inner) if memory.rows() == 0 => Arc::clone(inner.properties()),
        _ => {
            let of_segments = inner.map_or(0, |i| i.output_partitioning().partition_count());
            let partitions = memory.partitions().max(of_segments).max(1);
            let plain = PlanProperties::new(
                EquivalenceProperties::new(memory.schema().clone()),
                Partitioning::UnknownPartitioning(partitions),
                EmissionType::Incremental,
                Boundedness::Bounded,
            );
            Arc::new(plain.with_scheduling_type(SchedulingType::Cooperative))
        }
    }
}

impl DisplayAs for SegmentScanExec {
    fn fmt_as(&self, t: DisplayFormatType, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let scan = &self.scan;
        let deleted: u64 = scan.segments.iter().map(|s| s.meta.rows.saturating_sub(s.live_rows)).sum();
        let facts = [
            ("table", scan.table.def().qualified_name()),
            ("version", scan.table.version().to_string()),
            ("segments", format!("{}/{}", scan.segments.len(), scan.segments_total)),
            ("hot_rows", if scan.keys.is_some() { 0 } else { self.memory.rows() }.to_string()),
            ("deleted", deleted.to_string()),
        ];
        if t == DisplayFormatType::TreeRender {
            for (name, value) in facts {
                writeln!(f, "{name}={value}")?;
            }
            if let Some(why) = &scan.unsearched {
                writeln!(f, "index_unused={why}")?;
            }
            if let Some(predicate) = self.file_config().and_then(|c| c.file_source().filter()) {
                writeln!(f, "predicate={predicate}")?;
            }
            return Ok(());
        }
        let facts: Vec<String> = facts.iter().map(|(name, value)| format!("{name}={value}")).collect();
        write!(f, "SegmentScanExec: {}", facts.join(", "))?;
        if let Some(keys) = scan.keys {
            write!(f, ", keys={keys}, rows={}", self.memory.rows())?;
        }
        let schema = self.schema();
        let names: Vec<&str> = schema.fields().iter().map(|field| field.name().as_str()).collect();
        write!(f, ", projection=[{}]", names.join(", "))?;
        if let Some(fetch) = self.fetch() {
            write!(f, ", limit={fetch}")?;
        }
        if let Some(why) = &scan.unsearched {
            write!(f, ", index_unused={why}")?;
        }
        if let Some(ordering) = self.properties.output_ordering() {
            write!(f, ", output_ordering=[{ordering}]")?;
        }
        match self.file_config() {
            Some(config) if t == DisplayFormatType::Verbose => config.file_source().fmt_extra(t, f),
            Some(config) => match config.file_source().filter() {
                Some(predicate) => write!(f, ", predicate={predicate}"),
                None => Ok(()),
            },
            None => Ok(()),
        }
    }
}

impl ExecutionPlan for SegmentScanExec {
    fn name(&self) -> &'static str {
        "SegmentScanExec"
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
        f: &mut dyn FnMut(&Arc<dyn PhysicalExpr>) -> Result<TreeNodeRecursion>,
    ) -> Result<TreeNodeRecursion> {
        match &self.inner {
            Some(inner) => inner.apply_expressions(f),
            None => Ok(TreeNodeRecursion::Continue),
        }
    }

    fn reset_state(self: Arc<Self>) -> Result<Arc<dyn ExecutionPlan>> {
        let mut fresh = Self { metrics: ExecutionPlanMetricsSet::new(), ..Arc::unwrap_or_clone(self) };
        fresh.inner = fresh.inner.map(ExecutionPlan::reset_state).transpose()?;
        Ok(Arc::new(fresh))
    }

    /// Segments were cut by row group when the scan was planned; there is nothing finer.
    fn repartitioned(
        &self,
        _partitions: usize,
        _config: &ConfigOptions,
    ) -> Result<Option<Arc<dyn ExecutionPlan>>> {
        Ok(None)
    }

    fn execute(&self, partition: usize, context: Arc<TaskContext>) -> Result<SendableRecordBatchStream> {
        let of_segments = match &self.inner {
            Some(inner) if partition < inner.output_partitioning().partition_count() => {
                files::ensure_store(&context.runtime_env())?;
                let source = self.scan.files.as_ref().zip(self.file_config());
                let run = source
                    .and_then(|(files, config)| files.run(&self.scan.table, config, partition, &context));
                let rows = inner.execute(partition, Arc::clone(&context))?;
                Some(match run {
                    Some(run) => Box::pin(Watched::new(rows, run, partition)) as SendableRecordBatchStream,
                    None => rows,
                })
            }
            _ => None,
        };
        let share = self.memory.share(partition, context.session_config().batch_size());
        let schema = self.schema();
        let in_memory = || {
            let rows = BaselineMetrics::new(&self.metrics, partition);
            futures::stream::iter(share).map(move |batch| {
                rows.record_output(batch.num_rows());
                Ok(batch)
            })
        };
        let stream: SendableRecordBatchStream = match of_segments {
            Some(stream) if partition >= self.memory.partitions() => return Ok(stream),
            Some(stream) => {
                let both = in_memory().chain(stream);
                Box::pin(cooperative(RecordBatchStreamAdapter::new(schema, both)))
            }
            None => Box::pin(cooperative(RecordBatchStreamAdapter::new(schema, in_memory()))),
        };
        // The inner source counts only its own rows towards the limit.
        Ok(match self.fetch {
            Some(_) => {
                let unseen = BaselineMetrics::new(&ExecutionPlanMetricsSet::new(), partition);
                Box::pin(LimitStream::new(stream, 0, self.fetch, unseen))
            }
            None => stream,
        })
    }

    fn metrics(&self) -> Option<MetricsSet> {
        let mut metrics = self.metrics.clone_inner();
        if let Some(inner) = self.inner.as_ref().and_then(|i| i.metrics()) {
            inner.iter().for_each(|metric| metrics.push(Arc::clone(metric)));
        }
        Some(with_reads(metrics, self.meter.as_ref()))
    }

    fn statistics_from_inputs(
        &self,
        _inputs: &[Arc<Statistics>],
        args: &StatisticsArgs,
    ) -> Result<Arc<Statistics>> {
        let all = match &self.inner {
            Some(inner) => {
                let whole = StatisticsArgs::new();
                let mut known = Arc::unwrap_or_clone(inner.statistics_from_inputs(&[], &whole)?);
                let bytes = statistics::byte_size(&known.column_statistics);
                if bytes != Precision::Absent && !known.column_statistics.is_empty() {
                    known.total_byte_size = bytes;
                }
                known
            }
            None => Statistics::new_unknown(&self.schema()).with_num_rows(Precision::Exact(0)),
        };
        let all = statistics::with_more_rows(all, self.memory.rows());
        if args.partition().is_none() {
            return Ok(Arc::new(all));
        }
        // Partitions take pieces from each other while they run, so a partition's share is only a guess.
        let partitions = self.properties.output_partitioning().partition_count().max(1);
        let rows = all
            .num_rows
            .get_value()
            .map_or(Precision::Absent, |n| Precision::Inexact(n.div_ceil(partitions)));
        Ok(Arc::new(Statistics::new_unknown(&self.schema()).with_num_rows(rows)))
    }

    fn with_fetch(&self, limit: Option<usize>) -> Option<Arc<dyn ExecutionPlan>> {
        let mut limited = match &self.inner {
            Some(inner) => self.with_inner(inner.with_fetch(limit)?),
            None => self.clone(),
        };
        limited.fetch = limit;
        Some(Arc::new(limited))
    }

    fn fetch(&self) -> Option<usize> {
        self.fetch.or_else(|| self.inner.as_ref().filter(|_| self.memory.rows() == 0)?.fetch())
    }

    fn try_swapping_with_projection(
        &self,
        projection: &ProjectionExec,
    ) -> Result<Option<Arc<dyn ExecutionPlan>>> {
        let columns: Option<Vec<usize>> =
            projection.expr().iter().map(|e| e.expr.downcast_ref::<Column>().map(Column::index)).collect();
        let schema: SchemaRef = projection.schema();
        let memory = match columns {
            Some(columns) => self.memory.project(&columns, &schema)?,
            // Expressions go into the source only when it is the only one to compute them.
            None if self.memory.rows() > 0 || self.inner.is_none() || self.scan.portable => return Ok(None),
            None if holds_lambda(projection)? => return Ok(None),
            None => MemoryRows::none(&schema),
        };
        let inner = match &self.inner {
            Some(inner) => match inner.try_swapping_with_projection(projection)? {
                Some(inner) => Some(inner),
                None => return Ok(None),
            },
            None => None,
        };
        let properties = properties(&memory, inner.as_ref());
        Ok(Some(Arc::new(Self { memory, inner, properties, ..self.clone() })))
    }

    fn handle_child_pushdown_result(
        &self,
        phase: FilterPushdownPhase,
        child_pushdown_result: ChildPushdownResult,
        config: &ConfigOptions,
    ) -> Result<FilterPushdownPropagation<Arc<dyn ExecutionPlan>>> {
        let filters = child_pushdown_result.parent_filters.len();
        let Some(inner) = &self.inner else {
            return Ok(FilterPushdownPropagation::with_parent_pushdown_result(vec![PushedDown::No; filters]));
        };
        let computed = self.file_config().is_some_and(|c| !c.table_partition_cols().is_empty());
        let unpromised = computed || self.memory.rows() > 0 || self.scan.portable;
        let only_prune = config.execution.parquet.pushdown_filters && unpromised;
        let pushed = if only_prune {
            let mut pruning = config.clone();
            pruning.execution.parquet.pushdown_filters = false;
            inner.handle_child_pushdown_result(phase, child_pushdown_result, &pruning)?
        } else {
            inner.handle_child_pushdown_result(phase, child_pushdown_result, config)?
        };
        Ok(FilterPushdownPropagation {
            filters: pushed.filters,
            updated_node: pushed.updated_node.map(|inner| self.wrap(inner)),
        })
    }

    fn try_pushdown_sort(
        &self,
        order: &[PhysicalSortExpr],
    ) -> Result<SortOrderPushdownResult<Arc<dyn ExecutionPlan>>> {
        let Some(inner) = &self.inner else {
            return Ok(SortOrderPushdownResult::Unsupported);
        };
        if let Some(ordered) = self.in_order(order)? {
            return Ok(SortOrderPushdownResult::Exact { inner: Arc::new(ordered) });
        }
        let pushed = inner.try_pushdown_sort(order)?.map(|inner| self.wrap(inner));
        Ok(if self.memory.rows() == 0 { pushed } else { pushed.into_inexact() })
    }

    fn with_preserve_order(&self, preserve_order: bool) -> Option<Arc<dyn ExecutionPlan>> {
        self.inner.as_ref()?.with_preserve_order(preserve_order).map(|inner| self.wrap(inner))
    }

    fn with_new_state(&self, state: Arc<dyn std::any::Any + Send + Sync>) -> Option<Arc<dyn ExecutionPlan>> {
        self.inner.as_ref()?.with_new_state(state).map(|inner| self.wrap(inner))
    }
}
