//! Scans of columns that are kept decoded.
//!
//! Owns: which pieces of a scan are put out from memory, and which row groups are decoded whole so that they can be the next time; visibility and
//! batches of those. Does not own: what is kept and how long (`cairn_storage::segment::columns`), and every other piece, which the Parquet
//! source reads as ever: it stands behind this one, and is what filters, projections and sort requests are pushed to.
//!
//! A piece is put out from memory when all that it needs is there or may come in: every column that is put out, of every row group that statistics
//! do not rule out. Row groups whose statistics or pages rule out most rows, scans with a limit or for the first rows of an order, and
//! scans of more than the budget read what they need and leave nothing behind. What would have to be fetched from a bucket comes in when it is
//! asked for again: the Parquet source, which decodes as it goes, has more requests under way. The same rows come out, in the same order, as the Parquet
//! source gives: filters stay above either way, since a source that applies them itself is left alone.

use std::collections::{BTreeSet, HashMap};
use std::fmt;
use std::ops::Range;
use std::sync::Arc;
use std::time::{Duration, Instant};

use cairn_storage::TableSnapshot;
use cairn_storage::id::{ColumnId, ObjectId};
use cairn_storage::segment::columns::CHUNK_ROWS;
use cairn_storage::segment::{ColumnKey, DecodedColumn, SegmentReader};
use datafusion::arrow::array::{
    ArrayRef, BooleanArray, BooleanBufferBuilder, RecordBatch, RecordBatchOptions,
};
use datafusion::arrow::compute::filter_record_batch;
use datafusion::arrow::datatypes::{DataType, SchemaRef};
use datafusion::common::config::ConfigOptions;
use datafusion::common::tree_node::TreeNodeRecursion;
use datafusion::common::{Result, internal_datafusion_err};
use datafusion::datasource::listing::PartitionedFile;
use datafusion::datasource::physical_plan::parquet::{
    PagePruningAccessPlanFilter, ParquetAccessPlan, ParquetFileMetrics, RowGroupAccess,
};
use datafusion::datasource::physical_plan::{FileOpener, FileScanConfig, FileSource, ParquetSource};
use datafusion::datasource::table_schema::TableSchema;
use datafusion::object_store::ObjectStore;
use datafusion::parquet::arrow::arrow_reader::RowSelection;
use datafusion::parquet::file::metadata::{ColumnChunkMetaData, ParquetMetaData};
use datafusion::physical_expr::projection::{ProjectionExprs, Projector};
use datafusion::physical_expr::utils::{collect_columns, reassign_expr_columns};
use datafusion::physical_expr::{
    DynamicFilterTracking, EquivalenceProperties, PhysicalExpr, PhysicalExprSimplifier, PhysicalSortExpr,
};
use datafusion::physical_expr_adapter::rewrite::rewrite_input_file_name_in_projection;
use datafusion::physical_expr_adapter::{DefaultPhysicalExprAdapterFactory, PhysicalExprAdapterFactory};
use datafusion::physical_plan::filter_pushdown::FilterPushdownPropagation;
use datafusion::physical_plan::metrics::{Count, ExecutionPlanMetricsSet, MetricBuilder};
use datafusion::physical_plan::{DisplayFormatType, SortOrderPushdownResult};
use datafusion_datasource::morsel::{Morsel, MorselPlan, MorselPlanner, Morselizer};
use futures::stream::BoxStream;
use futures::{StreamExt, TryStreamExt};
use roaring::RoaringBitmap;

use super::ahead::{self, Runs};
use super::files::{FileOf, Hidden};
use super::storage_error;

/// Row groups of a segment that are under way at the same time where they have to be asked for, each of which takes long.
const REMOTE_DEPTH: usize = 2;

/// The Parquet source that a scan reads through, whatever stands before it.
pub(super) fn parquet(source: &Arc<dyn FileSource>) -> Option<&ParquetSource> {
    match source.downcast_ref::<ColumnSource>() {
        Some(columns) => columns.parquet.downcast_ref::<ParquetSource>(),
        None => source.downcast_ref::<ParquetSource>(),
    }
}

/// A Parquet source behind the columns that are kept.
#[derive(Clone)]
pub(super) struct ColumnSource {
    parquet: Arc<dyn FileSource>,
    table: TableSnapshot,
    /// None: nothing is read ahead.
    runs: Option<Arc<Runs>>,
    batch_rows: usize,
    /// It is asked to begin with what comes first in some order: likely it is not read to the end.
    seeks: bool,
}

impl ColumnSource {
    /// `parquet` behind what is kept of `table`'s segments; None: nothing may be kept.
    pub(super) fn before(
        parquet: &Arc<dyn FileSource>,
        table: &TableSnapshot,
        runs: Option<&Arc<Runs>>,
    ) -> Option<Arc<dyn FileSource>> {
        table.columns().is_on().then(|| {
            let (parquet, table, runs) = (Arc::clone(parquet), table.clone(), runs.cloned());
            Arc::new(Self { parquet, table, runs, batch_rows: CHUNK_ROWS, seeks: false })
                as Arc<dyn FileSource>
        })
    }

    fn wrap(&self, parquet: Arc<dyn FileSource>) -> Arc<dyn FileSource> {
        Arc::new(Self { parquet, ..self.clone() })
    }
}

impl FileSource for ColumnSource {
    fn create_file_opener(
        &self,
        object_store: Arc<dyn ObjectStore>,
        base_config: &FileScanConfig,
        partition: usize,
    ) -> Result<Arc<dyn FileOpener>> {
        self.parquet.create_file_opener(object_store, base_config, partition)
    }

    fn create_morselizer(
        &self,
        object_store: Arc<dyn ObjectStore>,
        base_config: &FileScanConfig,
        partition: usize,
    ) -> Result<Box<dyn Morselizer>> {
        let parquet = self.parquet.create_morselizer(object_store, base_config, partition)?;
        let filters = |source: &ParquetSource| source.table_parquet_options().global.pushdown_filters;
        let Some(projection) =
            self.parquet.projection().filter(|projection| projection.expr_iter().count() > 0)
        else {
            return Ok(parquet);
        };
        if self.parquet.downcast_ref::<ParquetSource>().is_none_or(filters) {
            return Ok(parquet);
        }
        let table_schema = self.parquet.table_schema();
        // What is computed of a row's place in its file the Parquet source knows.
        if !table_schema.virtual_columns().is_empty() || !table_schema.table_partition_cols().is_empty() {
            return Ok(parquet);
        }
        let fits = scanned_bytes(base_config, projection, table_schema) <= self.table.columns().limit_bytes();
        let metrics = self.parquet.metrics();
        let count = |name: &'static str| MetricBuilder::new(metrics).counter(name, partition);
        let scan = ColumnScan {
            table: self.table.clone(),
            runs: self.runs.clone(),
            lane: partition,
            logical: Arc::clone(table_schema.file_schema()),
            output: Arc::new(projection.project_schema(table_schema.table_schema())?),
            projection: projection.clone(),
            predicate: self.parquet.filter(),
            adapters: match &base_config.expr_adapter_factory {
                Some(adapters) => Arc::clone(adapters),
                None => Arc::new(DefaultPhysicalExprAdapterFactory),
            },
            batch_rows: self.batch_rows.max(1),
            decodes: fits && base_config.limit.is_none() && !self.seeks,
            cached: count("cached_row_groups"),
            decoded: count("kept_row_groups"),
            scanned: count("bytes_scanned"),
        };
        Ok(Box::new(ColumnMorselizer { scan: Arc::new(scan), parquet: Arc::from(parquet) }))
    }

    fn table_schema(&self) -> &TableSchema {
        self.parquet.table_schema()
    }

    fn with_batch_size(&self, batch_size: usize) -> Arc<dyn FileSource> {
        let parquet = self.parquet.with_batch_size(batch_size);
        Arc::new(Self { parquet, batch_rows: batch_size, ..self.clone() })
    }

    fn filter(&self) -> Option<Arc<dyn PhysicalExpr>> {
        self.parquet.filter()
    }

    fn projection(&self) -> Option<&ProjectionExprs> {
        self.parquet.projection()
    }

    fn metrics(&self) -> &ExecutionPlanMetricsSet {
        self.parquet.metrics()
    }

    fn file_type(&self) -> &str {
        self.parquet.file_type()
    }

    fn fmt_extra(&self, t: DisplayFormatType, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.parquet.fmt_extra(t, f)
    }

    fn supports_repartitioning(&self) -> bool {
        self.parquet.supports_repartitioning()
    }

    fn try_pushdown_filters(
        &self,
        filters: Vec<Arc<dyn PhysicalExpr>>,
        config: &ConfigOptions,
    ) -> Result<FilterPushdownPropagation<Arc<dyn FileSource>>> {
        let pushed = self.parquet.try_pushdown_filters(filters, config)?;
        Ok(FilterPushdownPropagation {
            filters: pushed.filters,
            updated_node: pushed.updated_node.map(|parquet| self.wrap(parquet)),
        })
    }

    fn try_pushdown_sort(
        &self,
        order: &[PhysicalSortExpr],
        eq_properties: &EquivalenceProperties,
    ) -> Result<SortOrderPushdownResult<Arc<dyn FileSource>>> {
        let pushed = self.parquet.try_pushdown_sort(order, eq_properties)?;
        let seeks = self.seeks || matches!(pushed, SortOrderPushdownResult::Inexact { .. });
        Ok(pushed.map(|parquet| Arc::new(Self { parquet, seeks, ..self.clone() }) as Arc<dyn FileSource>))
    }

    fn reorder_files(&self, files: Vec<PartitionedFile>) -> Vec<PartitionedFile> {
        self.parquet.reorder_files(files)
    }

    fn try_pushdown_projection(&self, projection: &ProjectionExprs) -> Result<Option<Arc<dyn FileSource>>> {
        Ok(self.parquet.try_pushdown_projection(projection)?.map(|parquet| self.wrap(parquet)))
    }

    fn apply_expressions(
        &self,
        f: &mut dyn FnMut(&Arc<dyn PhysicalExpr>) -> Result<TreeNodeRecursion>,
    ) -> Result<TreeNodeRecursion> {
        self.parquet.apply_expressions(f)
    }
}

/// About what all columns of a scan take decoded, by the rows of its segments.
fn scanned_bytes(config: &FileScanConfig, projection: &ProjectionExprs, table: &TableSchema) -> usize {
    let columns: BTreeSet<usize> =
        projection.expr_iter().flat_map(|expr| collect_columns(&expr)).map(|column| column.index()).collect();
    let fields = table.table_schema().fields();
    let width: usize =
        columns.iter().filter_map(|column| fields.get(*column)).map(|f| width(f.data_type())).sum();
    let files = config.file_groups.iter().flat_map(|group| group.iter());
    let segments: HashMap<ObjectId, u64> = files
        .filter_map(|file| file.extension::<FileOf>())
        .map(|FileOf(meta)| (meta.id, meta.rows))
        .collect();
    let rows: u64 = segments.values().sum();
    usize::try_from(rows).unwrap_or(usize::MAX).saturating_mul(width)
}

/// About what a value takes decoded.
fn width(data_type: &DataType) -> usize {
    match data_type {
        DataType::Boolean => 1,
        DataType::FixedSizeBinary(bytes) => usize::try_from(*bytes).unwrap_or(0),
        other => other.primitive_width().unwrap_or(if other.is_nested() { 64 } else { 32 }),
    }
}

/// What all pieces of one partition share.
#[derive(Debug)]
struct ColumnScan {
    table: TableSnapshot,
    runs: Option<Arc<Runs>>,
    lane: usize,
    /// The files' columns as the table has them.
    logical: SchemaRef,
    output: SchemaRef,
    /// Over the table's columns.
    projection: ProjectionExprs,
    predicate: Option<Arc<dyn PhysicalExpr>>,
    adapters: Arc<dyn PhysicalExprAdapterFactory>,
    batch_rows: usize,
    /// Whether row groups may be decoded whole.
    decodes: bool,
    /// Row groups put out of what was there …
    cached: Count,
    /// … and those that were decoded whole.
    decoded: Count,
    scanned: Count,
}

#[derive(Debug)]
struct ColumnMorselizer {
    scan: Arc<ColumnScan>,
    parquet: Arc<dyn Morselizer>,
}

impl Morselizer for ColumnMorselizer {
    fn plan_file(&self, file: PartitionedFile) -> Result<Box<dyn MorselPlanner>> {
        let (scan, parquet) = (Arc::clone(&self.scan), Arc::clone(&self.parquet));
        Ok(Box::new(Unopened { scan, parquet, file }))
    }
}

/// A piece before anybody has looked what of it is there.
struct Unopened {
    scan: Arc<ColumnScan>,
    parquet: Arc<dyn Morselizer>,
    file: PartitionedFile,
}

impl fmt::Debug for Unopened {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Unopened").field("file", &self.file.path()).finish_non_exhaustive()
    }
}

impl MorselPlanner for Unopened {
    fn plan(self: Box<Self>) -> Result<Option<MorselPlan>> {
        let Self { scan, parquet, file } = *self;
        let looked = async move {
            match scan.rows_of(&file).await? {
                Some(rows) => Ok(Box::new(Opened(rows)) as Box<dyn MorselPlanner>),
                None => parquet.plan_file(file),
            }
        };
        Ok(Some(MorselPlan::new().with_pending_planner(looked)))
    }
}

/// A piece that is put out from memory.
struct Opened(BoxStream<'static, Result<RecordBatch>>);

impl fmt::Debug for Opened {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Opened").finish_non_exhaustive()
    }
}

impl MorselPlanner for Opened {
    fn plan(self: Box<Self>) -> Result<Option<MorselPlan>> {
        let morsels: Vec<Box<dyn Morsel>> = vec![self];
        Ok(Some(MorselPlan::new().with_morsels(morsels)))
    }
}

impl Morsel for Opened {
    fn into_stream(self: Box<Self>) -> BoxStream<'static, Result<RecordBatch>> {
        self.0
    }
}

impl ColumnScan {
    /// The rows of a piece; None: the Parquet source is to read them.
    async fn rows_of(
        self: &Arc<Self>,
        file: &PartitionedFile,
    ) -> Result<Option<BoxStream<'static, Result<RecordBatch>>>> {
        let Some(FileOf(meta)) = file.extension::<FileOf>() else { return Ok(None) };
        let reader = self.table.open_segment(meta).await.map_err(storage_error)?;
        let hidden = file.extension::<Hidden>().map(|Hidden(positions)| Arc::clone(positions));
        let Some(piece) = Piece::new(self, reader, hidden, file.path().as_ref())? else { return Ok(None) };
        let cut = file.range.as_ref().map(|range| (range.start, range.end));
        let groups = piece.groups(cut);
        let Some(depth) = self.depth(&piece, &groups, cut) else { return Ok(None) };
        if let Some(runs) = &self.runs {
            runs.passed(self.lane, meta.id, cut);
        }
        Ok(Some(Arc::new(piece).rows(groups, depth)))
    }

    /// How many of the row groups are to be under way at the same time: all their columns are there, or what is missing may come in.
    /// None: the Parquet source is to read them.
    fn depth(&self, piece: &Piece, groups: &[Group], cut: ahead::Cut) -> Option<usize> {
        let missing: Vec<&Group> = groups.iter().filter(|group| group.missing().next().is_some()).collect();
        if missing.is_empty() {
            return Some(1);
        }
        if !self.decodes || missing.iter().any(|group| group.is_mostly_ruled_out()) {
            return None;
        }
        let keys: Vec<ColumnKey> = missing
            .iter()
            .flat_map(|group| group.missing().map(move |place| piece.key(group, place)))
            .collect();
        let bytes = missing
            .iter()
            .flat_map(|group| {
                group.missing().map(move |place| piece.decoded_bytes(group, piece.roots[place]))
            })
            .fold(0, usize::saturating_add);
        let near = piece.is_near(&missing);
        // From a bucket the Parquet source reads further ahead, and what is fetched ahead of it already is its to use.
        let fetched = self.runs.as_ref().is_some_and(|runs| runs.is_under_way(piece.reader.meta().id, cut));
        let admitted = self.table.columns().admits(&keys, bytes, near && !fetched);
        admitted.then_some(if near { 1 } else { REMOTE_DEPTH })
    }
}

/// A row group of a piece.
struct Group {
    number: usize,
    /// Its first row in the segment.
    first: u32,
    rows: usize,
    /// What is there of the columns of the piece.
    columns: Vec<Option<Arc<DecodedColumn>>>,
    /// The rows of which pages do not rule out a match; None: all.
    selected: Option<Vec<Range<usize>>>,
}

impl Group {
    /// Places of the columns that are not there.
    fn missing(&self) -> impl Iterator<Item = usize> {
        self.columns.iter().enumerate().filter(|(_, column)| column.is_none()).map(|(place, _)| place)
    }

    fn is_mostly_ruled_out(&self) -> bool {
        let selected =
            self.selected.as_ref().map(|ranges| ranges.iter().map(ExactSizeIterator::len).sum::<usize>());
        selected.is_some_and(|selected| selected < self.rows / 2)
    }

    /// Whether one of the rows may match.
    fn may_have(&self, rows: &Range<usize>) -> bool {
        let Some(selected) = &self.selected else { return true };
        let next = selected.partition_point(|range| range.end <= rows.start);
        selected.get(next).is_some_and(|range| range.start < rows.end)
    }
}

/// A segment as a piece is read of it.
struct Piece {
    scan: Arc<ColumnScan>,
    reader: SegmentReader,
    /// Deleted rows, and those that are younger than the version that is read.
    hidden: Option<Arc<RoaringBitmap>>,
    /// The columns of the file that are read, ascending.
    roots: Vec<usize>,
    columns: Vec<ColumnId>,
    /// The same columns.
    schema: SchemaRef,
    /// Over these columns.
    projector: Projector,
    /// Over the file's columns.
    predicate: Option<Arc<dyn PhysicalExpr>>,
    /// Whether the predicate gets narrower meanwhile.
    narrows: bool,
}

impl Piece {
    /// None: no column of the file is read, or one that is not the table's.
    fn new(
        scan: &Arc<ColumnScan>,
        reader: SegmentReader,
        hidden: Option<Arc<RoaringBitmap>>,
        path: &str,
    ) -> Result<Option<Self>> {
        let physical = Arc::clone(reader.file_schema());
        let adapter = scan.adapters.create(Arc::clone(&scan.logical), Arc::clone(&physical))?;
        let simplifier = PhysicalExprSimplifier::new(&physical);
        let adapted = |expr: Arc<dyn PhysicalExpr>| simplifier.simplify(adapter.rewrite(expr)?);
        let projection = rewrite_input_file_name_in_projection(scan.projection.clone(), path)?;
        let projection = projection.try_map_exprs(adapted)?;
        let predicate = scan.predicate.clone().map(adapted).transpose()?;
        let roots: BTreeSet<usize> = projection
            .expr_iter()
            .flat_map(|expr| collect_columns(&expr))
            .map(|column| column.index())
            .collect();
        let roots: Vec<usize> = roots.into_iter().collect();
        let columns: Option<Vec<ColumnId>> = roots.iter().map(|root| reader.column_id(*root)).collect();
        let Some(columns) = columns.filter(|columns| !columns.is_empty()) else { return Ok(None) };
        let schema: SchemaRef = Arc::new(physical.project(&roots)?);
        let projection = projection.try_map_exprs(|expr| reassign_expr_columns(expr, &schema))?;
        let projector = projection.make_projector(&schema)?;
        let narrows = predicate
            .as_ref()
            .is_some_and(|predicate| DynamicFilterTracking::classify(predicate).contains_dynamic_filter());
        let scan = Arc::clone(scan);
        Ok(Some(Self { scan, reader, hidden, roots, columns, schema, projector, predicate, narrows }))
    }

    /// The row groups within `cut` that statistics do not rule out, with what is there of them.
    fn groups(&self, cut: ahead::Cut) -> Vec<Group> {
        let metadata = self.reader.metadata();
        let needed: Vec<usize> =
            ahead::groups(metadata, cut).into_iter().filter(|group| self.may_match(*group)).collect();
        let mut pages = self.pages(&needed, metadata);
        let mut groups = Vec::with_capacity(needed.len());
        let mut first = 0;
        for (number, group) in metadata.row_groups().iter().enumerate() {
            let rows = usize::try_from(group.num_rows()).unwrap_or(0);
            let access = pages
                .get_mut(number)
                .map_or(RowGroupAccess::Skip, |access| std::mem::replace(access, RowGroupAccess::Skip));
            let selected = match access {
                RowGroupAccess::Skip => None,
                RowGroupAccess::Scan => Some(None),
                RowGroupAccess::Selection(selection) => Some(Some(ranges(&selection))),
            };
            if let Some(selected) = selected.filter(|_| rows > 0) {
                let mut group = Group { number, first, rows, columns: Vec::new(), selected };
                group.columns = (0..self.roots.len()).map(|place| self.find(&group, place)).collect();
                groups.push(group);
            }
            first += u32::try_from(rows).unwrap_or(u32::MAX - first);
        }
        groups
    }

    fn key(&self, group: &Group, place: usize) -> ColumnKey {
        let group = u32::try_from(group.number).unwrap_or(u32::MAX);
        ColumnKey { segment: self.reader.meta().id, column: self.columns[place], group }
    }

    fn find(&self, group: &Group, place: usize) -> Option<Arc<DecodedColumn>> {
        let found = self.scan.table.columns().find(&self.key(group, place))?;
        // A column may have been of another type when it was decoded.
        let fits = found.data_type() == Some(self.schema.field(place).data_type());
        (fits && found.rows() == group.rows).then_some(found)
    }

    /// Whether a row of a row group may match the predicate as it is now.
    fn may_match(&self, group: usize) -> bool {
        let physical = self.reader.file_schema();
        ahead::may_match(self.predicate.as_ref(), Some(physical), self.reader.metadata(), group)
    }

    /// What pages leave of the row groups `needed`.
    fn pages(&self, needed: &[usize], metadata: &ParquetMetaData) -> Vec<RowGroupAccess> {
        let mut plan = ParquetAccessPlan::new_none(metadata.num_row_groups());
        needed.iter().for_each(|group| plan.scan(*group));
        let Some(predicate) = &self.predicate else { return plan.into_inner() };
        let physical = self.reader.file_schema();
        let filter = PagePruningAccessPlanFilter::new(predicate, Arc::clone(physical));
        if filter.filter_number() == 0 {
            return plan.into_inner();
        }
        // What the Parquet source reads it counts itself.
        let uncounted = ParquetFileMetrics::new(0, "", &ExecutionPlanMetricsSet::new());
        let columns = metadata.file_metadata().schema_descr();
        filter.prune_plan_with_page_index(plan, physical, columns, metadata, &uncounted).into_inner()
    }

    /// About what a column of a row group takes decoded.
    fn decoded_bytes(&self, group: &Group, root: usize) -> usize {
        if let Some(width) = self.reader.file_schema().field(root).data_type().primitive_width() {
            return width.saturating_mul(group.rows);
        }
        let (_, uncompressed) = self.chunk_bytes(group, root);
        uncompressed.saturating_add(16 * group.rows)
    }

    /// What the file has of a column of a row group.
    fn chunks(&self, group: &Group, root: usize) -> impl Iterator<Item = &ColumnChunkMetaData> {
        let metadata = self.reader.metadata();
        let descriptor = metadata.file_metadata().schema_descr();
        let chunks = metadata.row_group(group.number).columns().iter().enumerate();
        let of_root = chunks.filter(move |(leaf, _)| descriptor.get_column_root_idx(*leaf) == root);
        of_root.map(|(_, chunk)| chunk)
    }

    /// Bytes of a column of a row group, compressed and not.
    fn chunk_bytes(&self, group: &Group, root: usize) -> (usize, usize) {
        self.chunks(group, root).fold((0, 0), |(compressed, uncompressed), chunk| {
            let size = |bytes: i64| usize::try_from(bytes).unwrap_or(0);
            (compressed + size(chunk.compressed_size()), uncompressed + size(chunk.uncompressed_size()))
        })
    }

    /// Whether what is missing of the row groups is on this machine.
    fn is_near(&self, missing: &[&Group]) -> bool {
        let chunks = missing.iter().flat_map(|group| {
            group.missing().flat_map(move |place| self.chunks(group, self.roots[place]).map(ahead::span))
        });
        self.reader.is_near(chunks)
    }

    /// The visible rows of the row groups, one after the other, `depth` of them under way at the same time.
    fn rows(self: Arc<Self>, groups: Vec<Group>, depth: usize) -> BoxStream<'static, Result<RecordBatch>> {
        let piece = Arc::clone(&self);
        let loaded =
            futures::stream::iter(groups).map(move |group| Arc::clone(&piece).loaded(group)).buffered(depth);
        let batches = loaded.map_ok(move |group| {
            let piece = Arc::clone(&self);
            futures::stream::iter(group.map(|group| Batches { piece, group, next: 0 }).into_iter().flatten())
        });
        batches.try_flatten().boxed()
    }

    /// A row group with all its columns; None: its statistics rule it out by now.
    async fn loaded(self: Arc<Self>, mut group: Group) -> Result<Option<Group>> {
        if self.narrows && !self.may_match(group.number) {
            return Ok(None);
        }
        let missing: Vec<usize> = group.missing().collect();
        if missing.is_empty() {
            self.scan.cached.add(1);
            return Ok(Some(group));
        }
        let roots: Vec<usize> = missing.iter().map(|place| self.roots[*place]).collect();
        let begun = Instant::now();
        let decoded = self.reader.decode_group(group.number, &roots).await.map_err(storage_error)?;
        let elapsed = begun.elapsed();
        let bytes: usize = decoded.iter().map(|column| column.bytes()).sum();
        for (place, column) in missing.into_iter().zip(decoded) {
            if column.rows() != group.rows {
                return Err(internal_datafusion_err!("a row group of other rows than its metadata has"));
            }
            let time = share(elapsed, column.bytes(), bytes);
            self.scan.table.columns().keep(self.key(&group, place), &column, time);
            self.scan.scanned.add(self.chunk_bytes(&group, self.roots[place]).0);
            group.columns[place] = Some(column);
        }
        self.scan.decoded.add(1);
        Ok(Some(group))
    }

    /// The visible ones of some rows of a row group, which are all in one chunk.
    fn batch(&self, group: &Group, rows: &Range<usize>) -> Result<RecordBatch> {
        let (chunk, offset) = (rows.start / CHUNK_ROWS, rows.start % CHUNK_ROWS);
        let column = |column: &Option<Arc<DecodedColumn>>| -> Option<ArrayRef> {
            let values = column.as_ref()?.chunks().get(chunk)?;
            Some(match offset == 0 && rows.len() == values.len() {
                true => Arc::clone(values),
                false => values.slice(offset, rows.len()),
            })
        };
        let columns: Option<Vec<ArrayRef>> = group.columns.iter().map(column).collect();
        let columns =
            columns.ok_or_else(|| internal_datafusion_err!("a column that was read is not there"))?;
        let batch = RecordBatch::try_new(Arc::clone(&self.schema), columns)?;
        let batch = match &self.hidden {
            Some(hidden) => {
                let place = |row: usize| group.first.saturating_add(u32::try_from(row).unwrap_or(u32::MAX));
                visible(batch, hidden, place(rows.start)..place(rows.end))?
            }
            None => batch,
        };
        let (_, columns, count) = self.projector.project_batch(&batch)?.into_parts();
        let options = RecordBatchOptions::new().with_row_count(Some(count));
        Ok(RecordBatch::try_new_with_options(Arc::clone(&self.scan.output), columns, &options)?)
    }
}

/// The batches of a row group whose columns are all there.
struct Batches {
    piece: Arc<Piece>,
    group: Group,
    /// The row that comes next.
    next: usize,
}

impl Iterator for Batches {
    type Item = Result<RecordBatch>;

    fn next(&mut self) -> Option<Self::Item> {
        while self.next < self.group.rows {
            let left_of_chunk = CHUNK_ROWS - self.next % CHUNK_ROWS;
            let count = left_of_chunk.min(self.group.rows - self.next).min(self.piece.scan.batch_rows);
            let rows = self.next..self.next + count;
            self.next = rows.end;
            if !self.group.may_have(&rows) {
                continue;
            }
            match self.piece.batch(&self.group, &rows) {
                Ok(batch) if batch.num_rows() == 0 => {}
                other => return Some(other),
            }
        }
        None
    }
}

/// What a selection selects.
fn ranges(selection: &RowSelection) -> Vec<Range<usize>> {
    let mut ranges = Vec::new();
    let mut at = 0;
    for selector in selection.iter() {
        if !selector.skip && selector.row_count > 0 {
            ranges.push(at..at + selector.row_count);
        }
        at += selector.row_count;
    }
    ranges
}

/// The rows of a batch whose positions, `rows`, are not hidden.
fn visible(batch: RecordBatch, hidden: &RoaringBitmap, rows: Range<u32>) -> Result<RecordBatch> {
    if hidden.range_cardinality(rows.clone()) == 0 {
        return Ok(batch);
    }
    let mut bits = BooleanBufferBuilder::new(batch.num_rows());
    bits.append_n(batch.num_rows(), true);
    for position in hidden.range(rows.clone()) {
        bits.set_bit((position - rows.start) as usize, false);
    }
    Ok(filter_record_batch(&batch, &BooleanArray::new(bits.finish(), None))?)
}

/// The part of `time` that `bytes` of `all` have.
fn share(time: Duration, bytes: usize, all: usize) -> Duration {
    let nanoseconds = time.as_nanos() * bytes as u128 / (all as u128).max(1);
    Duration::from_nanos(u64::try_from(nanoseconds).unwrap_or(u64::MAX))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use datafusion::arrow::array::{AsArray, Int64Array};
    use datafusion::arrow::datatypes::{Field, Int64Type, Schema};
    use datafusion::parquet::arrow::arrow_reader::RowSelector;

    #[test]
    fn hidden_rows_do_not_show() {
        let schema = Arc::new(Schema::new(vec![Field::new("a", DataType::Int64, false)]));
        let batch =
            RecordBatch::try_new(schema, vec![Arc::new(Int64Array::from_iter_values(100..110))]).unwrap();
        let shown = |hidden: &[u32]| {
            let hidden: RoaringBitmap = hidden.iter().copied().collect();
            let batch = visible(batch.clone(), &hidden, 100..110).unwrap();
            batch.column(0).as_primitive::<Int64Type>().values().to_vec()
        };
        assert_eq!(shown(&[99, 110]).len(), 10);
        assert_eq!(shown(&[99, 100, 105, 109, 110]), [101, 102, 103, 104, 106, 107, 108]);
        assert!(shown(&(90..120).collect::<Vec<_>>()).is_empty());
    }

    #[test]
    fn batches_that_pages_rule_out_are_left_out() {
        let selection = RowSelection::from(vec![
            RowSelector::skip(100),
            RowSelector::select(50),
            RowSelector::skip(50),
            RowSelector::select(1),
            RowSelector::skip(799),
        ]);
        let selected = ranges(&selection);
        assert_eq!(selected, [100..150, 200..201]);
        let group = Group { number: 0, first: 0, rows: 1000, columns: Vec::new(), selected: Some(selected) };
        assert!(group.is_mostly_ruled_out());
        for (rows, expected) in
            [(0..100, false), (0..101, true), (149..160, true), (150..200, false), (201..1000, false)]
        {
            assert_eq!(group.may_have(&rows), expected, "{rows:?}");
        }
        assert!(Group { selected: None, ..group }.may_have(&(0..1)));
    }

    #[test]
    fn time_is_shared_by_size() {
        assert_eq!(share(Duration::from_secs(3), 1, 3), Duration::from_secs(1));
        assert_eq!(share(Duration::from_secs(3), 0, 0), Duration::ZERO);
    }
}
