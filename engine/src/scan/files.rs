//! The Parquet side of a scan: segments as files of a DataFusion file source.
//!
//! Owns: file entries (range, hidden rows, statistics, per-file values), the source built over them, and the readers it
//! gets. Readers are storage's own (verified reads, cached footer and page index), opened when the source first touches
//! a segment. Does not own: which segments and pieces (`pruning`, `partition`), rows in memory (`hot`), what is fetched
//! before the source asks (`ahead`), which is nothing of a
//! database in a directory, and what is put out of memory before the source is asked (`columns`).

use std::fmt;
use std::ops::Range;
use std::sync::Arc;

use bytes::Bytes;
use cairn_storage::segment::{SegmentMeta, reader::SegmentFile};
use cairn_storage::{SegmentView, TableSnapshot};
use datafusion::arrow::datatypes::SchemaRef;
use datafusion::catalog::Session;
use datafusion::common::config::TableParquetOptions;
use datafusion::common::{ColumnStatistics, Result, Statistics};
use datafusion::datasource::listing::PartitionedFile;
use datafusion::datasource::physical_plan::parquet::{ParquetFileMetrics, ParquetRowSelection};
use datafusion::datasource::physical_plan::{
    FileGroup, FileScanConfig, FileScanConfigBuilder, FileSource, ParquetFileReaderFactory, ParquetSource,
};
use datafusion::datasource::source::DataSourceExec;
use datafusion::execution::TaskContext;
use datafusion::execution::object_store::ObjectStoreUrl;
use datafusion::execution::runtime_env::RuntimeEnv;
use datafusion::object_store::memory::InMemory;
use datafusion::parquet::arrow::arrow_reader::{ArrowReaderOptions, RowSelection, RowSelector};
use datafusion::parquet::arrow::async_reader::AsyncFileReader;
use datafusion::parquet::errors::{ParquetError, Result as ParquetResult};
use datafusion::parquet::file::metadata::ParquetMetaData;
use datafusion::physical_expr_adapter::PhysicalExprAdapterFactory;
use datafusion::physical_plan::metrics::ExecutionPlanMetricsSet;
use futures::future::BoxFuture;
use futures::{FutureExt, TryFutureExt};
use roaring::RoaringBitmap;

use super::ahead::{AheadReader, Open, Run, Runs};
use super::columns::ColumnSource;
use super::older::{self, OlderFiles};
use super::partition::{Piece, RowGroupSpan};
use super::pseudo::{self, Layout};
use super::{statistics, storage_error};

/// Names the store of segments to DataFusion. No byte is read through it: readers come from storage.
const STORE: &str = "cairn://segments";

/// DataFusion wants a store behind every file source before it asks our readers; an empty one answers for ours.
pub(crate) fn ensure_store(runtime: &RuntimeEnv) -> Result<()> {
    let url = ObjectStoreUrl::parse(STORE)?;
    if runtime.object_store(&url).is_err() {
        runtime.register_object_store(url.as_ref(), Arc::new(InMemory::new()));
    }
    Ok(())
}

/// The segment a file entry stands for.
pub(super) struct FileOf(pub(super) Arc<SegmentMeta>);

/// The rows of a segment that a scan does not show, by their positions.
pub(super) struct Hidden(pub(super) Arc<RoaringBitmap>);

/// The segments of a scan as file entries, with their statistics.
#[derive(Clone, Debug)]
pub(crate) struct Files {
    entries: Vec<PartitionedFile>,
    statistics: Statistics,
    /// None: every file has all columns as they are.
    older: Option<Arc<OlderFiles>>,
    /// None: nothing is read ahead.
    runs: Option<Arc<Runs>>,
}

impl Files {
    /// Entries for `segments` in `layout`; `user` is the definition's schema.
    pub(crate) fn new(
        table: &TableSnapshot,
        segments: &[SegmentView],
        layout: &Layout,
        user: &SchemaRef,
    ) -> Result<Self> {
        let definition = table.def().schema_version;
        let per_segment: Vec<_> = segments
            .iter()
            .map(|s| statistics::segment(s, user, s.meta.schema_version == definition))
            .collect();
        let unknown = |wanted: usize, mut of: Statistics| {
            of.column_statistics.resize(wanted, ColumnStatistics::new_unknown());
            of
        };
        let merged =
            unknown(layout.table.table_schema().fields().len(), statistics::merged(&per_segment, user)?);
        let file_columns = layout.table.file_schema().fields().len();
        let entries = segments
            .iter()
            .zip(per_segment)
            .map(|(segment, statistics)| {
                let known = segment.meta.schema_version == definition && !segment.meta.reshaped;
                entry(segment, Arc::new(unknown(file_columns, statistics)), layout, known.then_some(user))
            })
            .collect();
        let runs = table.is_remote().then(Arc::default);
        let older = match older::is_among(segments) {
            true => Some(Arc::new(OlderFiles::new(table.def(), layout.table.file_schema())?)),
            false => None,
        };
        Ok(Self { entries, statistics: merged, older, runs })
    }

    /// Partitions of pieces as file groups.
    pub(crate) fn groups(&self, partitions: &[Vec<Piece>]) -> Vec<FileGroup> {
        partitions
            .iter()
            .map(|pieces| FileGroup::new(pieces.iter().filter_map(|piece| self.file(piece)).collect()))
            .collect()
    }

    fn file(&self, piece: &Piece) -> Option<PartitionedFile> {
        let file = self.entries.get(piece.segment)?.clone();
        Some(match piece.range {
            Some((start, end)) => file
                .with_range(i64::try_from(start).unwrap_or(i64::MAX), i64::try_from(end).unwrap_or(i64::MAX)),
            None => file,
        })
    }

    /// The source that reads the pieces in `layout`.
    pub(crate) fn source(
        &self,
        table: &TableSnapshot,
        layout: &Layout,
        partitions: &[Vec<Piece>],
        options: SourceOptions,
    ) -> Result<Arc<DataSourceExec>> {
        let readers = SegmentReaders { open: opener(table), runs: self.runs.clone() };
        let base = ParquetSource::new(layout.table.clone())
            .with_table_parquet_options(options.parquet)
            .with_parquet_file_reader_factory(Arc::new(readers));
        let source = match base.try_pushdown_projection(&layout.projection)? {
            Some(source) => source,
            None => return datafusion::common::internal_err!("the Parquet source takes no projection"),
        };
        let source = match layout.pseudo {
            // They are computed by the row's number in the file, which the Parquet source counts.
            true => source,
            false => ColumnSource::before(&source, table, self.runs.as_ref()).unwrap_or(source),
        };
        let config: FileScanConfig = FileScanConfigBuilder::new(ObjectStoreUrl::parse(STORE)?, source)
            .with_file_groups(self.groups(partitions))
            .with_statistics(self.statistics.clone())
            .with_limit(options.limit)
            .with_expr_adapter(self.older.clone().map(|older| older as Arc<dyn PhysicalExprAdapterFactory>))
            .build();
        Ok(DataSourceExec::from_data_source(config))
    }

    /// What partition `lane` of an execution of the source in `config` reads ahead with; None: nothing.
    pub(super) fn run(
        &self,
        table: &TableSnapshot,
        config: &FileScanConfig,
        lane: usize,
        context: &TaskContext,
    ) -> Option<Arc<Run>> {
        let stealing = context.session_config().options().execution.enable_file_stream_work_stealing;
        let begin = || Run::new(opener(table), config, stealing, context.memory_pool());
        Some(self.runs.as_ref()?.join(lane, begin))
    }
}

fn opener(table: &TableSnapshot) -> Arc<Open> {
    let table = table.clone();
    Arc::new(move |meta: Arc<SegmentMeta>| {
        let table = table.clone();
        let opened = async move { table.open_segment(&meta).await };
        let file = opened.map_ok(|reader| reader.file()).map_err(|e| ParquetError::External(Box::new(e)));
        file.boxed()
    })
}

/// How a source reads.
#[derive(Clone, Debug)]
pub(crate) struct SourceOptions {
    parquet: TableParquetOptions,
    limit: Option<usize>,
}

impl SourceOptions {
    /// The session's Parquet options. `late_filters` says whether filters may be applied while decoding, which a scan
    /// with rows in memory or computed columns can't promise for all its rows.
    pub(crate) fn new(state: &dyn Session, late_filters: bool, limit: Option<usize>) -> Self {
        let mut parquet = TableParquetOptions {
            global: state.config_options().execution.parquet.clone(),
            ..Default::default()
        };
        parquet.global.pushdown_filters &= late_filters;
        // Segments carry no Parquet bloom filters; keys have filters of our own.
        parquet.global.bloom_filter_on_read = false;
        Self { parquet, limit }
    }
}

fn entry(
    segment: &SegmentView,
    statistics: Arc<Statistics>,
    layout: &Layout,
    schema: Option<&SchemaRef>,
) -> PartitionedFile {
    let meta = &segment.meta;
    let mut file = PartitionedFile::new(meta.path(), meta.bytes).with_extension(FileOf(Arc::clone(meta)));
    if let Some(user) = schema {
        file = file.with_arrow_schema(pseudo::file_schema(user, meta));
    }
    if layout.pseudo {
        file = file.with_partition_values(pseudo::partition_values(meta));
    }
    if let Some(hidden) = segment.deleted.as_ref().filter(|hidden| !hidden.is_empty()) {
        file = file
            .with_extension(ParquetRowSelection::new(visible_rows(hidden, meta.rows)))
            .with_extension(Hidden(Arc::clone(hidden)));
    }
    file.with_statistics(statistics)
}

/// The rows to read of a segment with hidden rows, of `rows` in all. One without gets none, which keeps every shortcut of the reader open.
fn visible_rows(hidden: &RoaringBitmap, rows: u64) -> RowSelection {
    let total = usize::try_from(rows).unwrap_or(usize::MAX);
    let mut selectors: Vec<RowSelector> = Vec::new();
    let (mut hidden, mut next) = (hidden.iter(), 0);
    while let Some(run) = hidden.next_range() {
        let (first, end) = (*run.start() as usize, (*run.end() as usize + 1).min(total));
        if first >= total {
            break;
        }
        if first > next {
            selectors.push(RowSelector::select(first - next));
        }
        selectors.push(RowSelector::skip(end - first));
        next = end;
    }
    if total > next {
        selectors.push(RowSelector::select(total - next));
    }
    RowSelection::from(selectors)
}

/// Row groups of an opened segment, for cutting it.
pub(crate) async fn row_groups(table: &TableSnapshot, meta: &Arc<SegmentMeta>) -> Result<Vec<RowGroupSpan>> {
    let reader = table.open_segment(meta).await.map_err(storage_error)?;
    let span = |group: &datafusion::parquet::file::metadata::RowGroupMetaData| {
        // The file source assigns a row group to a range by this offset.
        let first = group.columns().first();
        let start = first.map_or(0, |c| c.dictionary_page_offset().unwrap_or_else(|| c.data_page_offset()));
        RowGroupSpan {
            start: u64::try_from(start).unwrap_or(0),
            rows: u64::try_from(group.num_rows()).unwrap_or(0),
        }
    };
    Ok(reader.metadata().row_groups().iter().map(span).collect())
}

/// Hands the Parquet source storage's readers.
pub(super) struct SegmentReaders {
    pub(super) open: Arc<Open>,
    /// None: nothing is read ahead.
    pub(super) runs: Option<Arc<Runs>>,
}

impl fmt::Debug for SegmentReaders {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SegmentReaders").field("runs", &self.runs).finish_non_exhaustive()
    }
}

impl ParquetFileReaderFactory for SegmentReaders {
    fn create_reader(
        &self,
        partition_index: usize,
        file: PartitionedFile,
        _metadata_size_hint: Option<usize>,
        metrics: &ExecutionPlanMetricsSet,
    ) -> Result<Box<dyn AsyncFileReader + Send>> {
        let Some(FileOf(meta)) = file.extension::<FileOf>() else {
            return datafusion::common::internal_err!("{} is not a segment of this scan", file.path());
        };
        let cut = file.range.as_ref().map(|range| (range.start, range.end));
        let ahead = self.runs.as_ref().and_then(|runs| runs.reader(partition_index, meta.id, cut));
        Ok(Box::new(LazySegment {
            ahead,
            open: Arc::clone(&self.open),
            meta: Arc::clone(meta),
            file: None,
            metrics: ParquetFileMetrics::new(partition_index, file.path().as_ref(), metrics),
        }))
    }
}

/// A segment's file that opens at its first read.
struct LazySegment {
    ahead: Option<AheadReader>,
    open: Arc<Open>,
    meta: Arc<SegmentMeta>,
    file: Option<SegmentFile>,
    metrics: ParquetFileMetrics,
}

impl LazySegment {
    async fn open(&mut self) -> ParquetResult<&mut SegmentFile> {
        let file = match self.file.take() {
            Some(file) => file,
            None => {
                let under_way = match &mut self.ahead {
                    Some(ahead) => ahead.opened().await?,
                    None => None,
                };
                match under_way {
                    Some(file) => file,
                    None => (self.open)(Arc::clone(&self.meta)).await?,
                }
            }
        };
        Ok(self.file.insert(file))
    }

    fn count(&self, ranges: &[Range<u64>]) {
        let bytes: u64 = ranges.iter().map(|r| r.end.saturating_sub(r.start)).sum();
        self.metrics.bytes_scanned.add(usize::try_from(bytes).unwrap_or(usize::MAX));
    }
}

impl AsyncFileReader for LazySegment {
    fn get_bytes(&mut self, range: Range<u64>) -> BoxFuture<'_, ParquetResult<Bytes>> {
        self.count(std::slice::from_ref(&range));
        async move { self.open().await?.get_bytes(range).await }.boxed()
    }

    fn get_byte_ranges(&mut self, ranges: Vec<Range<u64>>) -> BoxFuture<'_, ParquetResult<Vec<Bytes>>> {
        self.count(&ranges);
        async move {
            self.open().await?;
            match (&mut self.file, &mut self.ahead) {
                (Some(file), Some(ahead)) => ahead.read(file, ranges).await,
                (Some(file), None) => file.get_byte_ranges(ranges).await,
                (None, _) => Err(ParquetError::General("a segment that was opened is not".to_owned())),
            }
        }
        .boxed()
    }

    fn get_metadata<'a>(
        &'a mut self,
        options: Option<&'a ArrowReaderOptions>,
    ) -> BoxFuture<'a, ParquetResult<Arc<ParquetMetaData>>> {
        async move { self.open().await?.get_metadata(options).await }.boxed()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn selections_cover_every_row_once() {
        let check = |hidden: &[u32], total: usize| {
            let made = visible_rows(&hidden.iter().copied().collect(), total as u64);
            let within: Vec<usize> = hidden.iter().map(|p| *p as usize).filter(|p| *p < total).collect();
            assert_eq!(made.row_count(), total - within.len());
            assert_eq!(made.iter().map(|s| s.row_count).sum::<usize>(), total);
            let mut at = 0;
            for selector in made.iter() {
                for position in at..at + selector.row_count {
                    assert_eq!(
                        selector.skip,
                        within.binary_search(&position).is_ok(),
                        "{position} of {total}"
                    );
                }
                at += selector.row_count;
            }
        };
        check(&[0], 1);
        check(&[0, 1, 2], 10);
        check(&[9], 10);
        check(&[0, 3, 4, 9], 10);
        check(&[], 3);
        // What is hidden beyond the end is nobody's.
        check(&[1, 2, 3, 4], 3);
        check(&[1, 7, 9], 3);
        // Runs over the borders of a set's parts, and many single ones.
        check(&(65_000..67_000).chain(131_070..131_080).collect::<Vec<u32>>(), 140_000);
        check(&(0..70_000).step_by(2).collect::<Vec<u32>>(), 70_001);
        check(&(5..66_000).filter(|p| p % 300 != 0).collect::<Vec<u32>>(), 66_001);
    }
}
