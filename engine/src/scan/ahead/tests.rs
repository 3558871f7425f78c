#![allow(clippy::unwrap_used)]

use std::fmt;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use cairn_storage::id::{ColumnId, Epoch, SchemaVersion, TableId};
use cairn_storage::schema::{ColumnDef, ColumnType, TableDef};
use cairn_storage::segment::{Addressing, SegmentCache, SegmentReader, SegmentWriter, SegmentWriterOptions};
use datafusion::arrow::array::{AsArray, Int64Array};
use datafusion::arrow::datatypes::Int64Type;
use datafusion::datasource::listing::PartitionedFile;
use datafusion::datasource::physical_plan::{FileGroup, FileScanConfigBuilder, ParquetSource};
use datafusion::datasource::source::DataSourceExec;
use datafusion::execution::TaskContext;
use datafusion::execution::memory_pool::{GreedyMemoryPool, UnboundedMemoryPool};
use datafusion::execution::object_store::ObjectStoreUrl;
use datafusion::logical_expr::Operator;
use datafusion::object_store::memory::InMemory;
use datafusion::object_store::path::Path;
use datafusion::object_store::{
    self, CopyOptions, GetOptions, GetResult, ListResult, MultipartUpload, ObjectMeta, ObjectStore,
    PutMultipartOptions, PutOptions, PutPayload, PutResult,
};
use datafusion::physical_expr::expressions::{binary, col, lit};
use datafusion::physical_plan::ExecutionPlan;
use futures::TryStreamExt;
use futures::stream::BoxStream;
use tokio::time::{Instant, sleep};

use super::*;
use crate::scan::files::{SegmentReaders, ensure_store};

/// Until the answer to any read.
const LATENCY: Duration = Duration::from_millis(20);
/// What the consumer does with a batch, which is a row group.
const WORK: Duration = Duration::from_millis(30);
const GROUP_ROWS: i64 = 1000;

/// A store in memory that answers reads after a while.
#[derive(Debug, Default)]
struct Distant {
    inner: InMemory,
    requests: AtomicUsize,
    under_way: AtomicUsize,
}

impl fmt::Display for Distant {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Distant")
    }
}

/// Counts a request as under way until it is answered or dropped.
struct UnderWay<'a>(&'a AtomicUsize);

impl Drop for UnderWay<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::SeqCst);
    }
}

#[async_trait]
impl ObjectStore for Distant {
    async fn put_opts(
        &self,
        location: &Path,
        payload: PutPayload,
        options: PutOptions,
    ) -> object_store::Result<PutResult> {
        self.inner.put_opts(location, payload, options).await
    }

    async fn put_multipart_opts(
        &self,
        location: &Path,
        options: PutMultipartOptions,
    ) -> object_store::Result<Box<dyn MultipartUpload>> {
        self.inner.put_multipart_opts(location, options).await
    }

    async fn get_opts(&self, location: &Path, options: GetOptions) -> object_store::Result<GetResult> {
        self.requests.fetch_add(1, Ordering::SeqCst);
        self.under_way.fetch_add(1, Ordering::SeqCst);
        let _under_way = UnderWay(&self.under_way);
        sleep(LATENCY).await;
        self.inner.get_opts(location, options).await
    }

    /// As remote stores have it; the one in memory would not ask.
    async fn get_ranges(&self, location: &Path, ranges: &[Range<u64>]) -> object_store::Result<Vec<Bytes>> {
        let get = |range: Range<u64>| async move {
            let options = GetOptions::new().with_range(Some(range));
            self.get_opts(location, options).await?.bytes().await
        };
        object_store::coalesce_ranges(ranges, get, 1 << 20).await
    }

    fn delete_stream(
        &self,
        locations: BoxStream<'static, object_store::Result<Path>>,
    ) -> BoxStream<'static, object_store::Result<Path>> {
        self.inner.delete_stream(locations)
    }

    fn list(&self, prefix: Option<&Path>) -> BoxStream<'static, object_store::Result<ObjectMeta>> {
        self.inner.list(prefix)
    }

    async fn list_with_delimiter(&self, prefix: Option<&Path>) -> object_store::Result<ListResult> {
        self.inner.list_with_delimiter(prefix).await
    }

    async fn copy_opts(&self, from: &Path, to: &Path, options: CopyOptions) -> object_store::Result<()> {
        self.inner.copy_opts(from, to, options).await
    }
}

/// Segments of one column, whose values count on from one to the next.
struct Table {
    store: Arc<Distant>,
    def: Arc<TableDef>,
    segments: Vec<Arc<SegmentMeta>>,
}

impl Table {
    /// With so many row groups in each segment.
    async fn new(groups: &[i64]) -> Self {
        let column = ColumnDef {
            id: ColumnId(1),
            name: "a".to_owned(),
            column_type: ColumnType::Int64,
            nullable: false,
            default: None,
            initial: None,
        };
        let def = Arc::new(TableDef {
            id: TableId(1),
            schema: "public".to_owned(),
            name: "t".to_owned(),
            schema_version: SchemaVersion(1),
            columns: vec![column],
            primary_key: Vec::new(),
            sort: Vec::new(),
            next_column_id: ColumnId(2),
            layout: Default::default(),
            indexes: Vec::new(),
            identity: None,
            owner: None,
        });
        let store = Arc::new(Distant::default());
        let (mut segments, mut first) = (Vec::new(), 0);
        for (sequence, groups) in (1..).zip(groups) {
            let id = ObjectId { epoch: Epoch(1), sequence };
            let options = SegmentWriterOptions {
                row_group_rows: GROUP_ROWS as usize,
                sample_rows: 100,
                ..SegmentWriterOptions::default()
            };
            let target = Arc::clone(&store) as Arc<dyn ObjectStore>;
            let mut writer =
                SegmentWriter::new(target, Arc::clone(&def), id, Addressing::Load, options).unwrap();
            let next = first + groups * GROUP_ROWS;
            let values: ArrayRef = Arc::new(Int64Array::from_iter_values(first..next));
            writer.write(&RecordBatch::try_new(def.arrow_schema(), vec![values]).unwrap()).unwrap();
            writer.close().unwrap();
            segments.push(Arc::new(writer.finish().await.unwrap()));
            first = next;
        }
        store.requests.store(0, Ordering::SeqCst);
        Self { store, def, segments }
    }

    fn rows(&self) -> i64 {
        self.segments.iter().map(|meta| meta.rows as i64).sum()
    }

    fn requests(&self) -> usize {
        self.store.requests.load(Ordering::SeqCst)
    }

    /// A scan by one partition with nothing in memory, which is let ahead within `pool`.
    fn scan(
        &self,
        limit: Option<usize>,
        predicate: Option<Arc<dyn PhysicalExpr>>,
        pool: &Arc<dyn MemoryPool>,
    ) -> SendableRecordBatchStream {
        self.scan_of(&Arc::default(), limit, predicate, pool)
    }

    /// The same, whose run is one of `runs`.
    fn scan_of(
        &self,
        runs: &Arc<Runs>,
        limit: Option<usize>,
        predicate: Option<Arc<dyn PhysicalExpr>>,
        pool: &Arc<dyn MemoryPool>,
    ) -> SendableRecordBatchStream {
        let (store, def, cache) = (self.store.clone(), self.def.clone(), SegmentCache::new(1 << 20));
        let open: Arc<Open> = Arc::new(move |meta: Arc<SegmentMeta>| {
            let opened = SegmentReader::open(store.clone(), meta, def.clone(), cache.clone(), None);
            async move {
                let reader = opened.await.map_err(|error| ParquetError::External(Box::new(error)))?;
                Ok::<_, ParquetError>(reader.file())
            }
            .boxed()
        });
        let readers = SegmentReaders { open: open.clone(), runs: Some(runs.clone()) };
        let schema = self.def.arrow_schema();
        let mut source =
            ParquetSource::new(schema.clone()).with_parquet_file_reader_factory(Arc::new(readers));
        if let Some(predicate) = predicate {
            source = source.with_predicate(predicate);
        }
        let files = self.segments.iter().map(|meta| {
            let file = PartitionedFile::new(meta.path(), meta.bytes).with_extension(FileOf(meta.clone()));
            file.with_arrow_schema(schema.clone())
        });
        let url = ObjectStoreUrl::parse("cairn://segments").unwrap();
        let config = FileScanConfigBuilder::new(url, Arc::new(source))
            .with_file_groups(vec![FileGroup::new(files.collect())])
            .with_limit(limit)
            .build();
        let context = Arc::new(TaskContext::default());
        ensure_store(&context.runtime_env()).unwrap();
        let run = runs.join(0, || Run::new(open, &config, true, pool));
        let rows = DataSourceExec::from_data_source(config).execute(0, context).unwrap();
        Box::pin(Watched::new(rows, run, 0))
    }
}

fn pool() -> Arc<dyn MemoryPool> {
    Arc::new(UnboundedMemoryPool::default())
}

fn values(batch: &RecordBatch) -> Vec<i64> {
    batch.column(0).as_primitive::<Int64Type>().values().to_vec()
}

/// All values, each batch worked at for a while, and how long it took.
async fn worked_through(mut rows: SendableRecordBatchStream) -> (Vec<i64>, Duration) {
    let begun = Instant::now();
    let mut all = Vec::new();
    while let Some(batch) = rows.try_next().await.unwrap() {
        all.extend(values(&batch));
        sleep(WORK).await;
    }
    (all, begun.elapsed())
}

#[tokio::test(start_paused = true)]
async fn row_groups_arrive_while_others_are_worked_at() {
    let table = Table::new(&[8]).await;
    let (values, elapsed) = worked_through(table.scan(None, None, &pool())).await;
    assert_eq!(values, (0..table.rows()).collect::<Vec<_>>());
    assert_eq!(table.requests(), 1 + 8, "the footer, and one for each row group");
    // The footer, the first row group, the second one, of which nobody knew before; then only the work.
    assert!(elapsed <= 3 * LATENCY + 8 * WORK + Duration::from_millis(15), "{elapsed:?}");
}

#[tokio::test(start_paused = true)]
async fn the_next_segment_is_opened_meanwhile() {
    let table = Table::new(&[2, 2, 1]).await;
    let (values, elapsed) = worked_through(table.scan(None, None, &pool())).await;
    assert_eq!(values, (0..table.rows()).collect::<Vec<_>>());
    assert_eq!(table.requests(), 3 + 5);
    // Footer and first row group of the second segment take longer than the work at one.
    assert!(elapsed <= 4 * LATENCY + 5 * WORK + Duration::from_millis(15), "{elapsed:?}");
}

#[tokio::test(start_paused = true)]
async fn what_is_under_way_is_known_until_it_is_begun() {
    let table = Table::new(&[1, 1, 1, 1]).await;
    let (runs, pool) = (Arc::<Runs>::default(), pool());
    let under_way =
        || table.segments.iter().map(|meta| runs.is_under_way(meta.id, None)).collect::<Vec<bool>>();
    assert_eq!(under_way(), [false; 4], "nobody reads");
    let mut rows = table.scan_of(&runs, None, None, &pool);
    rows.try_next().await.unwrap().unwrap();
    assert_eq!(under_way(), [false; 4], "one batch was wanted so far");
    rows.try_next().await.unwrap().unwrap();
    assert_eq!(under_way()[..3], [false, false, true]);
    drop(rows);
    assert_eq!(under_way(), [false; 4]);
}

#[tokio::test(start_paused = true)]
async fn without_memory_each_row_group_is_waited_for() {
    let table = Table::new(&[4]).await;
    let small: Arc<dyn MemoryPool> = Arc::new(GreedyMemoryPool::new(10));
    let (values, elapsed) = worked_through(table.scan(None, None, &small)).await;
    assert_eq!(values, (0..table.rows()).collect::<Vec<_>>());
    assert_eq!(table.requests(), 1 + 4);
    assert!(elapsed >= 5 * LATENCY + 4 * WORK, "{elapsed:?}");
}

#[tokio::test(start_paused = true)]
async fn nothing_is_read_that_nobody_wants() {
    let table = Table::new(&[4, 4]).await;
    let mut rows = table.scan(None, None, &pool());
    rows.try_next().await.unwrap().unwrap();
    sleep(WORK).await;
    assert_eq!(table.requests(), 2, "one batch was wanted so far");
    drop(rows);

    table.store.requests.store(0, Ordering::SeqCst);
    let (values, _) = worked_through(table.scan(Some(1500), None, &pool())).await;
    assert_eq!(values, (0..1500).collect::<Vec<_>>());
    assert_eq!(table.requests(), 1 + 2, "the limit is in the second row group");
}

#[tokio::test(start_paused = true)]
async fn what_statistics_rule_out_is_not_fetched() {
    let table = Table::new(&[4, 4]).await;
    let schema = table.def.arrow_schema();
    let wanted =
        |operator, value: i64| binary(col("a", &schema).unwrap(), operator, lit(value), &schema).unwrap();
    let from_to = binary(wanted(Operator::GtEq, 1000), Operator::And, wanted(Operator::Lt, 3000), &schema);
    let (values, _) = worked_through(table.scan(None, Some(from_to.unwrap()), &pool())).await;
    assert_eq!(values, (1000..3000).collect::<Vec<_>>());
    assert_eq!(table.requests(), 2 + 2, "both footers, of the first segment two row groups of four");
}

#[tokio::test(start_paused = true)]
async fn who_stops_leaves_nothing_behind() {
    let table = Table::new(&[8]).await;
    let pool = pool();
    let mut rows = table.scan(None, None, &pool);
    for _ in 0..2 {
        rows.try_next().await.unwrap().unwrap();
    }
    // Tasks begin when this one waits.
    sleep(Duration::from_millis(1)).await;
    assert!(table.store.under_way.load(Ordering::SeqCst) > 0 && pool.reserved() > 0);
    drop(rows);
    sleep(Duration::from_millis(1)).await;
    assert_eq!(table.store.under_way.load(Ordering::SeqCst), 0);
    assert_eq!(pool.reserved(), 0);
    let requests = table.requests();
    sleep(10 * LATENCY).await;
    assert_eq!(table.requests(), requests);
}

#[tokio::test(start_paused = true)]
async fn ranges_that_were_not_foreseen_are_read_as_ever() {
    let table = Table::new(&[3]).await;
    let plain = table.store.inner.get_opts(&Path::from(table.segments[0].path()), GetOptions::new()).await;
    let bytes = plain.unwrap().bytes().await.unwrap();
    // Read by hand, in another order than the source's.
    let store = table.store.clone() as Arc<dyn ObjectStore>;
    let (def, cache) = (table.def.clone(), SegmentCache::new(1 << 20));
    let reader = SegmentReader::open(store, table.segments[0].clone(), def, cache, None).await.unwrap();
    let mut file = reader.file();
    let config = FileScanConfigBuilder::new(
        ObjectStoreUrl::parse("cairn://segments").unwrap(),
        Arc::new(ParquetSource::new(table.def.arrow_schema())),
    );
    let entry = PartitionedFile::new(table.segments[0].path(), table.segments[0].bytes)
        .with_extension(FileOf(table.segments[0].clone()));
    let config = config.with_file_groups(vec![FileGroup::new(vec![entry])]).build();
    let opened = file.clone();
    let open: Arc<Open> = Arc::new(move |_: Arc<SegmentMeta>| {
        futures::future::ready(Ok::<_, ParquetError>(opened.clone())).boxed()
    });
    let runs = Runs::default();
    let run = runs.join(0, || Run::new(open, &config, true, &pool()));
    let mut ahead = runs.reader(0, table.segments[0].id, None).unwrap();
    run.wanted(0);
    let metadata = Arc::clone(file.metadata());
    for group in [0, 2, 1] {
        let whole = span(metadata.row_group(group).column(0));
        let middle = whole.start + (whole.end - whole.start) / 2;
        let parts = vec![whole.start..middle, middle..whole.end, whole.clone()];
        let read = ahead.read(&mut file, parts.clone()).await.unwrap();
        for (range, read) in parts.iter().zip(read) {
            assert_eq!(read, bytes[range.start as usize..range.end as usize]);
        }
    }
    assert!(run.state().lost, "the source went back");
}
