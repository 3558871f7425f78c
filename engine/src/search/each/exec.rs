//! Searches for a stream of vectors, some at a time on every core.
//!
//! Memory: the answers of the few slices of a batch that are searched at the same time, told to the pool.

use std::fmt;
use std::sync::Arc;

use cairn_storage::ErrorKind;
use cairn_storage::index::{VectorHit, VectorSearcher};
use cairn_storage::object::ReadMeter;
use cairn_udfs::vector::dimensions;
use datafusion::arrow::array::{Array, ArrayRef, AsArray, RecordBatch, RecordBatchOptions, UInt32Array};
use datafusion::arrow::compute::take;
use datafusion::arrow::datatypes::{Float32Type, Schema, SchemaRef};
use datafusion::common::runtime::SpawnedTask;
use datafusion::common::tree_node::TreeNodeRecursion;
use datafusion::common::{DataFusionError, Result, ScalarValue, internal_datafusion_err, internal_err};
use datafusion::execution::context::SessionState;
use datafusion::execution::{SendableRecordBatchStream, TaskContext};
use datafusion::physical_expr::expressions::Column;
use datafusion::physical_expr::{EquivalenceProperties, PhysicalExpr};
use datafusion::physical_plan::execution_plan::{Boundedness, EmissionType, ReplaceChildrenOptions};
use datafusion::physical_plan::metrics::{
    BaselineMetrics, Count, ExecutionPlanMetricsSet, MetricBuilder, MetricsSet, RecordOutput, Time,
};
use datafusion::physical_plan::projection::ProjectionExec;
use datafusion::physical_plan::stream::RecordBatchStreamAdapter;
use datafusion::physical_plan::{
    DisplayAs, DisplayFormatType, ExecutionPlan, ExecutionPlanProperties, Partitioning, PlanProperties,
};
use futures::TryStreamExt;

use super::row_filter::RowFilter;
use crate::dml::row_text;
use crate::error::Error;
use crate::measure::with_reads;
use crate::search::answer::{self, Pick};
use crate::search::held::{Held, expected};
use crate::search::table::SearchTable;
use crate::search::{SampleRate, exec};

/// Most searches of one task: enough to share the reading of their rows, few enough to be cancelled soon.
const SLICE_ROWS: usize = 64;
/// Rows that the answers of one task together have at most, as long as one answer has fewer.
const SLICE_ANSWERS: usize = 64 * 1024;

/// What the searches share.
#[derive(Clone, Debug)]
pub(super) struct Each {
    pub(super) table: Arc<SearchTable>,
    pub(super) searcher: VectorSearcher,
    pub(super) vector: Arc<dyn PhysicalExpr>,
    /// The vector as the statement has it.
    pub(super) written: Arc<str>,
    /// What tells the rows that each search is among; None: `searcher` is that of all.
    pub(super) rows: Option<RowSearches>,
    pub(super) outer: bool,
    pub(super) rate: SampleRate,
    /// Slices searched at the same time.
    pub(super) tasks: usize,
    /// What their reads are counted by; None: by nothing.
    pub(super) meter: Option<ReadMeter>,
}

/// Conditions that differ from row to row.
#[derive(Clone, Debug)]
pub(super) struct RowSearches {
    pub(super) filter: Arc<RowFilter>,
    /// What they take from a row.
    pub(super) values: Vec<Arc<dyn PhysicalExpr>>,
    /// What evaluates them.
    pub(super) state: Arc<SessionState>,
}

/// One column of the output.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Out {
    Input(usize),
    Answer(Pick),
}

/// See the module.
#[derive(Clone, Debug)]
pub(super) struct EachExec {
    each: Arc<Each>,
    input: Arc<dyn ExecutionPlan>,
    columns: Arc<[Out]>,
    schema: SchemaRef,
    properties: Arc<PlanProperties>,
    metrics: ExecutionPlanMetricsSet,
}

#[derive(Clone, Debug)]
struct Counts {
    queries: Count,
    codes: Count,
    exact: Count,
    /// What its tasks spend computing.
    time: Time,
}

impl EachExec {
    pub(super) fn new(each: Each, input: Arc<dyn ExecutionPlan>, schema: SchemaRef) -> Self {
        let of_input = input.schema().fields().len();
        let columns = (0..schema.fields().len()).map(|i| match i.checked_sub(of_input) {
            None => Out::Input(i),
            Some(of_answer) => Out::Answer(each.table.pick(of_answer)),
        });
        let columns = columns.collect();
        Self::with_columns(Arc::new(each), input, columns, schema)
    }

    fn over(&self, input: Arc<dyn ExecutionPlan>) -> Self {
        let (each, columns) = (Arc::clone(&self.each), Arc::clone(&self.columns));
        Self::with_columns(each, input, columns, Arc::clone(&self.schema))
    }

    fn with_columns(
        each: Arc<Each>,
        input: Arc<dyn ExecutionPlan>,
        columns: Arc<[Out]>,
        schema: SchemaRef,
    ) -> Self {
        let properties = PlanProperties::new(
            EquivalenceProperties::new(Arc::clone(&schema)),
            Partitioning::UnknownPartitioning(input.output_partitioning().partition_count()),
            EmissionType::Incremental,
            Boundedness::Bounded,
        );
        let metrics = ExecutionPlanMetricsSet::new();
        Self { each, input, columns, schema, properties: Arc::new(properties), metrics }
    }
}

impl DisplayAs for EachExec {
    fn fmt_as(&self, t: DisplayFormatType, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (each, searcher, search) = (&self.each, &self.each.searcher, self.each.table.search());
        // No vector is known yet, but how the search for any begins is.
        let mut facts = match searcher.planned(search.k, search.width) {
            Ok(report) => exec::facts(search, &report, searcher.matching_rows(), false),
            Err(error) => vec![search.to_string(), error.message().to_owned()],
        };
        facts.insert(1, format!("vector={}", each.vector));
        if let Some(rows) = &each.rows {
            facts.insert(2, format!("filter={}", rows.filter.written()));
        }
        if t == DisplayFormatType::TreeRender {
            return facts.iter().try_for_each(|fact| writeln!(f, "{fact}"));
        }
        write!(f, "SearchEachExec: {}", facts.join(", "))?;
        let names: Vec<&str> = self.schema.fields().iter().map(|field| field.name().as_str()).collect();
        write!(f, ", projection=[{}]", names.join(", "))
    }
}

impl ExecutionPlan for EachExec {
    fn name(&self) -> &'static str {
        "SearchEachExec"
    }

    fn properties(&self) -> &Arc<PlanProperties> {
        &self.properties
    }

    fn children(&self) -> Vec<&Arc<dyn ExecutionPlan>> {
        vec![&self.input]
    }

    fn replace_children(
        self: Arc<Self>,
        mut children: Vec<Arc<dyn ExecutionPlan>>,
        _options: ReplaceChildrenOptions,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        match (children.pop(), children.is_empty()) {
            (Some(input), true) => Ok(Arc::new(self.over(input))),
            _ => internal_err!("searches have one input"),
        }
    }

    fn with_new_children(
        self: Arc<Self>,
        mut children: Vec<Arc<dyn ExecutionPlan>>,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        match (children.pop(), children.is_empty()) {
            (Some(input), true) => Ok(Arc::new(self.over(input))),
            _ => internal_err!("searches have one input"),
        }
    }

    fn apply_expressions(
        &self,
        f: &mut dyn FnMut(&Arc<dyn PhysicalExpr>) -> Result<TreeNodeRecursion>,
    ) -> Result<TreeNodeRecursion> {
        let mut recursion = f(&self.each.vector)?;
        for value in self.each.rows.iter().flat_map(|rows| &rows.values) {
            if recursion == TreeNodeRecursion::Stop {
                break;
            }
            recursion = f(value)?;
        }
        Ok(recursion)
    }

    /// Slices of one batch already run on every core.
    fn benefits_from_input_partitioning(&self) -> Vec<bool> {
        vec![false]
    }

    /// Only what is asked for is read.
    fn try_swapping_with_projection(
        &self,
        projection: &ProjectionExec,
    ) -> Result<Option<Arc<dyn ExecutionPlan>>> {
        let mut columns = Vec::with_capacity(projection.expr().len());
        for projected in projection.expr() {
            let Some(column) = projected.expr.downcast_ref::<Column>() else { return Ok(None) };
            let out = self.columns.get(column.index()).copied();
            columns.push(out.ok_or_else(|| internal_datafusion_err!("no column {}", column.index()))?);
        }
        let narrowed = Self::with_columns(
            Arc::clone(&self.each),
            Arc::clone(&self.input),
            columns.into(),
            projection.schema(),
        );
        Ok(Some(Arc::new(narrowed)))
    }

    fn execute(&self, partition: usize, context: Arc<TaskContext>) -> Result<SendableRecordBatchStream> {
        let input = self.input.execute(partition, Arc::clone(&context))?;
        let baseline = BaselineMetrics::new(&self.metrics, partition);
        let count = |name: &'static str| MetricBuilder::new(&self.metrics).counter(name, partition);
        let slices = Slices {
            held: Arc::new(Held::new(context.memory_pool())),
            each: Arc::clone(&self.each),
            columns: Arc::clone(&self.columns),
            schema: Arc::clone(&self.schema),
            counts: Counts {
                queries: count("queries"),
                codes: count("code_distances"),
                exact: count("exact_distances"),
                time: baseline.elapsed_compute().clone(),
            },
        };
        let tasks = self.each.tasks.max(1);
        let most = (SLICE_ANSWERS / self.each.table.search().k).clamp(1, SLICE_ROWS);
        let stream = input
            .map_ok(move |batch| {
                let slices = slices.clone();
                let rows = batch.num_rows().div_ceil(4 * tasks).clamp(1, most);
                let starts = (0..batch.num_rows()).step_by(rows);
                let parts: Vec<_> =
                    starts.map(|at| batch.slice(at, rows.min(batch.num_rows() - at))).collect();
                futures::stream::iter(parts.into_iter().map(move |part| Ok((slices.clone(), part))))
            })
            .try_flatten()
            .map_ok(|(slices, part)| {
                // Dropping the stream ends its tasks.
                let task = SpawnedTask::spawn(async move { slices.search(part).await });
                async move { task.await.map_err(|e| DataFusionError::ExecutionJoin(Box::new(e)))? }
            })
            .try_buffered(tasks)
            // Whoever takes a batch holds it himself.
            .map_ok(|(batch, _held)| batch)
            .inspect_ok(move |batch| {
                batch.record_output(&baseline);
            });
        Ok(Box::pin(RecordBatchStreamAdapter::new(Arc::clone(&self.schema), stream)))
    }

    fn metrics(&self) -> Option<MetricsSet> {
        Some(with_reads(self.metrics.clone_inner(), self.each.meter.as_ref()))
    }
}

/// Searches for the rows of a part of a batch.
#[derive(Clone)]
struct Slices {
    /// Nothing; what its parts hold is of the same pool.
    held: Arc<Held>,
    each: Arc<Each>,
    columns: Arc<[Out]>,
    schema: SchemaRef,
    counts: Counts,
}

impl Slices {
    /// The rows of a part with their answers, and what holds them.
    async fn search(&self, part: RecordBatch) -> Result<(RecordBatch, Held)> {
        // All answers of the part, and the one that is searched for. Conditions of a row only leave fewer.
        let held = self.held.another();
        let most = self.each.searcher.most_rows(self.each.table.search().k);
        held.searching(most.saturating_mul(part.num_rows() + 1))?;
        let vectors = self.vectors(&part)?;
        let left = held.another();
        let searchers = self.searchers(&part, &vectors, &left).await?;
        let searching = self.counts.time.timer();
        let mut queries = Vec::with_capacity(part.num_rows());
        let (mut hits, mut ranks) = (Vec::new(), Vec::new());
        // For each row of the output its row of the input, and of the answers.
        let (mut of_input, mut of_answers) = (Vec::new(), Vec::new());
        Queries::new(&vectors, self.each.table.search().dim())?.each(|row, query| {
            queries.push(row);
            let found = match query {
                Some(query) => {
                    let searcher = match &searchers {
                        None => Some(&self.each.searcher),
                        Some(searchers) => searchers.get(row).and_then(Option::as_ref),
                    };
                    let searcher =
                        searcher.ok_or_else(|| internal_datafusion_err!("a row without its searcher"))?;
                    self.nearest(searcher, query).map_err(|e| self.of_row(&part, row, &e))?
                }
                None => Vec::new(),
            };
            if found.is_empty() && self.each.outer {
                of_input.push(row as u32);
                of_answers.push(None);
            }
            for (rank, hit) in (1..).zip(found) {
                of_input.push(row as u32);
                of_answers.push(Some(hits.len() as u32));
                hits.push(hit);
                ranks.push(rank);
            }
            Ok(())
        })?;
        searching.done();
        self.counts.queries.add(queries.len());
        let picks: Vec<Pick> = self
            .columns
            .iter()
            .filter_map(|out| if let Out::Answer(pick) = out { Some(*pick) } else { None })
            .collect();
        let fields: Vec<_> = self
            .columns
            .iter()
            .zip(self.schema.fields())
            .filter(|(out, _)| matches!(out, Out::Answer(_)))
            .map(|(_, field)| Arc::clone(field))
            .collect();
        let table = self.each.table.search().snapshot();
        held.searching(hits.len())?;
        let (fetched, schema) = (held.another(), Arc::new(Schema::new(fields)));
        let answers = answer::rows(table, &hits, &ranks, &picks, &schema, &fetched).await?;
        let _joining = self.counts.time.timer();
        let joined = held.another();
        let inputs = self.columns.iter().filter_map(|out| match out {
            Out::Input(i) => Some(expected(part.column(*i).data_type(), of_input.len())),
            Out::Answer(_) => None,
        });
        joined.set(inputs.fold(fetched.bytes(), usize::saturating_add))?;
        let (of_input, of_answers) = (UInt32Array::from(of_input), UInt32Array::from(of_answers));
        let mut answers = answers.columns().iter();
        let arrays = self.columns.iter().map(|out| -> Result<ArrayRef> {
            match out {
                Out::Input(i) => Ok(take(part.column(*i), &of_input, None)?),
                Out::Answer(_) => match answers.next() {
                    Some(array) => Ok(take(array, &of_answers, None)?),
                    None => internal_err!("an answer without a column"),
                },
            }
        });
        let options = RecordBatchOptions::new().with_row_count(Some(of_input.len()));
        let arrays = arrays.collect::<Result<Vec<_>>>()?;
        let batch = RecordBatch::try_new_with_options(Arc::clone(&self.schema), arrays, &options)?;
        joined.batch(&batch)?;
        Ok((batch, joined))
    }

    /// The query vectors of a part.
    fn vectors(&self, part: &RecordBatch) -> Result<ArrayRef> {
        let evaluated = |part: &RecordBatch| -> Result<ArrayRef> {
            self.each.vector.evaluate(part)?.into_array(part.num_rows())
        };
        evaluated(part).map_err(|error| {
            // Only their vectors one by one tell whose it was.
            let bad = (0..part.num_rows())
                .find_map(|row| evaluated(&part.slice(row, 1)).err().map(|error| (row, error)));
            match bad {
                Some((row, error)) => self.of_row(part, row, &Error::of(&error)).into(),
                None => error,
            }
        })
    }

    /// What is wrong with the query vector of a row, with the row; any other error as it is.
    fn of_row(&self, part: &RecordBatch, row: usize, error: &Error) -> Error {
        if error.kind() != ErrorKind::InvalidInput {
            return error.clone();
        }
        let schema = part.schema();
        let columns = schema.fields().iter().map(|field| field.name().as_str()).zip(part.columns());
        let message = format!(
            "the query vector {} of the row with {}: {}",
            self.each.written,
            row_text(columns, row),
            error.message()
        );
        Error::new(ErrorKind::InvalidInput, message).map(|e| {
            let e = e.with_sqlstate(error.sqlstate());
            match error.hint() {
                Some(hint) => e.with_hint(hint),
                None => e,
            }
        })
    }

    /// The searcher of each row that has a vector; None: all have the same. Rows of equal values share one. `held` holds the
    /// rows that their conditions left.
    async fn searchers(
        &self,
        part: &RecordBatch,
        vectors: &ArrayRef,
        held: &Held,
    ) -> Result<Option<Vec<Option<VectorSearcher>>>> {
        let Some(rows) = &self.each.rows else { return Ok(None) };
        let columns = rows.values.iter().map(|value| value.evaluate(part)?.into_array(part.num_rows()));
        let columns = columns.collect::<Result<Vec<_>>>()?;
        let mut known: Vec<(Vec<ScalarValue>, VectorSearcher)> = Vec::new();
        let mut searchers = Vec::with_capacity(part.num_rows());
        let mut bytes = 0;
        for row in 0..part.num_rows() {
            if vectors.is_null(row) {
                searchers.push(None);
                continue;
            }
            let values = columns.iter().map(|column| ScalarValue::try_from_array(column, row));
            let values = values.collect::<Result<Vec<_>>>()?;
            // They are few: a part has no more rows than a task searches for.
            if let Some((_, searcher)) = known.iter().find(|(of, _)| *of == values) {
                searchers.push(Some(searcher.clone()));
                continue;
            }
            let conditions = rows.filter.bound(&values)?;
            let searcher = self.each.table.searcher_among(rows.state.as_ref(), conditions).await?;
            bytes += searcher.condition_bytes();
            held.set(bytes)?;
            known.push((values, searcher.clone()));
            searchers.push(Some(searcher));
        }
        Ok(Some(searchers))
    }

    fn nearest(&self, searcher: &VectorSearcher, query: &[f32]) -> Result<Vec<VectorHit>, Error> {
        let search = self.each.table.search();
        search.metric.check_query(query.into()).map_err(|e| {
            Error::new(ErrorKind::InvalidInput, e.to_string()).map(|e| e.with_sqlstate("22000"))
        })?;
        let (hits, report) = self.each.table.searches().nearest(searcher, search, query, self.each.rate)?;
        for unit in &report.units {
            self.counts.codes.add(unit.code_distances as usize);
            self.counts.exact.add(unit.exact_distances as usize);
        }
        Ok(hits)
    }
}

/// The vectors of an array, one after the other.
struct Queries<'a> {
    vectors: &'a ArrayRef,
    dim: usize,
}

impl<'a> Queries<'a> {
    fn new(vectors: &'a ArrayRef, dim: usize) -> Result<Self> {
        match dimensions(vectors.data_type()) {
            Some(found) if found == dim => Ok(Self { vectors, dim }),
            _ => internal_err!("queries of type {}, not of {dim} dimensions", vectors.data_type()),
        }
    }

    /// Shows each row's vector; None: NULL.
    fn each(&self, mut see: impl FnMut(usize, Option<&[f32]>) -> Result<()>) -> Result<()> {
        let list = self.vectors.as_fixed_size_list();
        let values = list.values().as_primitive::<Float32Type>().values();
        for row in 0..list.len() {
            let at = list.value_offset(row) as usize;
            see(row, list.is_valid(row).then(|| &values[at..at + self.dim]))?;
        }
        Ok(())
    }
}
