//! Column chunks fetched before the Parquet source asks for them, from a store where each request takes long.
//!
//! Owns: what is fetched ahead of whom, how far, within how much memory; handing it to the reader that asks. Does not own: how ranges
//! become requests and how bytes are verified (storage), which row groups are decoded: the source decides that, and whatever it asks for
//! and is not here is read as ever. So a wrong guess costs requests and never rows.
//!
//! # How far
//! The source reads the row groups of a piece one after the other, and asks for the chunks of one when it begins it. While it decodes that one,
//! the same columns of the next row groups, and of the first ones of the pieces nobody has begun, are under way:
//! - none before somebody wants more than the first batch: a LIMIT that is content with it costs nothing;
//! - one more each time a row group that was fetched is used, four at most for each partition, so that what stops early was little ahead;
//! - none whose statistics rule out a match of the filter as it stands then, dynamic filters included;
//! - none beyond the rows of a limit, none once the source reads in another order than this one;
//! - none that the query's memory has no room for, and for a scan not more than a sixteenth of it, nor than 64 MiB.
//!
//! Everything under way belongs to the [`Run`] of one execution, which lives as long as its streams and readers: who drops those ends it.

use std::collections::{HashMap, HashSet};
use std::ops::Range;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::task::{Context, Poll};

use bytes::Bytes;
use cairn_storage::id::ObjectId;
use cairn_storage::segment::{SegmentFile, SegmentMeta};
use datafusion::arrow::array::{ArrayRef, BooleanArray, RecordBatch, UInt64Array};
use datafusion::arrow::datatypes::SchemaRef;
use datafusion::common::pruning::{PrunableStatistics, PruningStatistics};
use datafusion::common::runtime::SpawnedTask;
use datafusion::common::{Column, Result, ScalarValue, Statistics};
use datafusion::datasource::physical_plan::FileScanConfig;
use datafusion::execution::memory_pool::{MemoryConsumer, MemoryLimit, MemoryPool, MemoryReservation};
use datafusion::execution::{RecordBatchStream, SendableRecordBatchStream};
use datafusion::parquet::arrow::arrow_reader::statistics::StatisticsConverter;
use datafusion::parquet::arrow::async_reader::AsyncFileReader;
use datafusion::parquet::errors::{ParquetError, Result as ParquetResult};
use datafusion::parquet::file::metadata::{ColumnChunkMetaData, ParquetMetaData, RowGroupMetaData};
use datafusion::parquet::schema::types::ColumnPath;
use datafusion::physical_expr::PhysicalExpr;
use datafusion::physical_optimizer::pruning::PruningPredicateBuilder;
use futures::future::BoxFuture;
use futures::{FutureExt, Stream, StreamExt};

use super::files::FileOf;

/// Row groups that are ahead of one partition.
const DEPTH_MAX: usize = 4;
/// Bytes that are ahead of all partitions of a scan …
const AHEAD_BYTES_MAX: usize = 64 << 20;
/// … and the share of the query's memory, which others need more.
const AHEAD_SHARE: usize = 16;

/// Opens a segment.
pub(super) type Open =
    dyn Fn(Arc<SegmentMeta>) -> BoxFuture<'static, ParquetResult<SegmentFile>> + Send + Sync;

/// Byte range of a segment, as the source's file entries have it; None: all of it.
pub(super) type Cut = Option<(i64, i64)>;

/// What the readers of one source find their run by.
#[derive(Debug, Default)]
pub(super) struct Runs(Mutex<Weak<Run>>);

impl Runs {
    /// The run that partition `lane` takes part in: the one under way, unless it has had that partition already; then `begin` makes one.
    pub(super) fn join(&self, lane: usize, begin: impl FnOnce() -> Run) -> Arc<Run> {
        let mut current = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(run) = current.upgrade().filter(|run| run.joined(lane)) {
            return run;
        }
        let run = Arc::new(begin());
        run.joined(lane);
        *current = Arc::downgrade(&run);
        run
    }

    /// Partition `lane` has the rows of a piece from elsewhere: nothing of it is fetched.
    pub(super) fn passed(&self, lane: usize, segment: ObjectId, cut: Cut) {
        let run = self.0.lock().unwrap_or_else(PoisonError::into_inner).upgrade();
        if let Some(run) = run
            && let Some((piece, _)) = run.take(lane, segment, cut)
        {
            run.end(piece);
        }
    }

    /// Whether chunks of a piece that nobody has begun were fetched, or are being fetched.
    pub(super) fn is_under_way(&self, segment: ObjectId, cut: Cut) -> bool {
        let Some(run) = self.0.lock().unwrap_or_else(PoisonError::into_inner).upgrade() else { return false };
        let state = run.state();
        let is_it = |piece: &Piece| !piece.begun && piece.meta.id == segment && piece.cut == cut;
        state.pieces.iter().any(|piece| is_it(piece) && !piece.ahead.is_empty())
    }

    /// The reader of a piece in the run under way.
    pub(super) fn reader(&self, lane: usize, segment: ObjectId, cut: Cut) -> Option<AheadReader> {
        let run = self.0.lock().unwrap_or_else(PoisonError::into_inner).upgrade()?;
        let (piece, first) = run.take(lane, segment, cut)?;
        Some(AheadReader { run, lane, piece, first, held: Chunks::default(), group: None })
    }
}

/// What one execution of a scan has under way.
pub(super) struct Run {
    open: Arc<Open>,
    /// What rows have to match, in columns of the table.
    predicate: Option<Arc<dyn PhysicalExpr>>,
    /// Partitions take pieces from each other.
    shared: bool,
    partitions: usize,
    /// Rows after which each partition stops.
    limit: Option<usize>,
    memory: MemoryReservation,
    bytes_max: usize,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    pieces: Vec<Piece>,
    lanes: HashMap<usize, Lane>,
    /// The source reads in an order that is not known here.
    lost: bool,
}

/// What the source reads in one go.
struct Piece {
    meta: Arc<SegmentMeta>,
    cut: Cut,
    lane: usize,
    /// Its columns and their bounds; None: they are not those of the table's definition, so nothing is known of them.
    known: Option<(SchemaRef, Option<Arc<Statistics>>)>,
    begun: bool,
    ended: bool,
    ruled_out: bool,
    ahead: Vec<Fetch>,
}

/// How far a partition is.
#[derive(Default)]
struct Lane {
    /// Somebody wanted more than its first batch.
    wanted: bool,
    depth: usize,
    /// Rows of the row groups it asked for.
    rows: u64,
    at: Option<At>,
}

/// The row group a partition reads.
struct At {
    piece: usize,
    file: SegmentFile,
    group: usize,
    /// The columns it asked for.
    leaves: Vec<usize>,
}

/// Chunks under way.
struct Fetch {
    /// None: of the first row group of its piece.
    group: Option<usize>,
    lane: usize,
    rows: u64,
    ranges: Vec<Range<u64>>,
    task: SpawnedTask<ParquetResult<Fetched>>,
    /// Until the reader has them.
    memory: MemoryReservation,
}

impl Fetch {
    async fn arrived(self) -> ParquetResult<Fetched> {
        self.task.join().await.map_err(|error| ParquetError::External(Box::new(error)))?
    }
}

/// Chunks that have arrived.
struct Fetched {
    file: SegmentFile,
    chunks: Chunks,
}

/// Bytes of some ranges.
#[derive(Default)]
struct Chunks(Vec<(Range<u64>, Bytes)>);

impl Chunks {
    fn find(&self, range: &Range<u64>) -> Option<Bytes> {
        let (whole, bytes) = self.0.iter().find(|(whole, _)| covers(whole, range))?;
        Some(bytes.slice((range.start - whole.start) as usize..(range.end - whole.start) as usize))
    }
}

fn covers(whole: &Range<u64>, range: &Range<u64>) -> bool {
    whole.start <= range.start && range.end <= whole.end
}

/// What may be fetched next.
enum Next {
    Group {
        piece: usize,
        file: SegmentFile,
        group: usize,
        ranges: Vec<Range<u64>>,
        bytes: usize,
        rows: u64,
    },
    /// The first row group of a piece that was not begun.
    Piece {
        piece: usize,
        columns: Vec<ColumnPath>,
        bytes: usize,
    },
}

impl Run {
    /// The run of the source of `config`, which reads through `open`; what is ahead counts in `pool`.
    pub(super) fn new(
        open: Arc<Open>,
        config: &FileScanConfig,
        stealing: bool,
        pool: &Arc<dyn MemoryPool>,
    ) -> Self {
        let mut pieces = Vec::new();
        for (lane, group) in config.file_groups.iter().enumerate() {
            for file in group.iter() {
                let Some(FileOf(meta)) = file.extension::<FileOf>() else { continue };
                let schema = file.arrow_schema.clone();
                pieces.push(Piece {
                    meta: Arc::clone(meta),
                    cut: file.range.as_ref().map(|range| (range.start, range.end)),
                    lane,
                    known: schema.map(|schema| (schema, file.statistics.clone())),
                    begun: false,
                    ended: false,
                    ruled_out: false,
                    ahead: Vec::new(),
                });
            }
        }
        let bytes_max = match pool.memory_limit() {
            MemoryLimit::Finite(limit) => AHEAD_BYTES_MAX.min(limit / AHEAD_SHARE),
            MemoryLimit::Infinite | MemoryLimit::Unknown => AHEAD_BYTES_MAX,
        };
        Self {
            open,
            predicate: config.file_source.filter(),
            shared: stealing && !config.preserve_order,
            partitions: config.file_groups.len(),
            limit: config.limit,
            memory: MemoryConsumer::new("chunks read ahead").register(pool),
            bytes_max,
            state: Mutex::new(State { pieces, ..State::default() }),
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // Nothing panics while holding it; a guess of what comes next may be wrong anyway.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether the partition has not been in this run before; it is now.
    fn joined(&self, lane: usize) -> bool {
        let mut state = self.state();
        let new = !state.lanes.contains_key(&lane);
        state.lanes.entry(lane).or_default();
        new
    }

    /// The piece, which is begun, and what was fetched of its first row group.
    fn take(&self, lane: usize, segment: ObjectId, cut: Cut) -> Option<(usize, Option<Fetch>)> {
        let mut state = self.state();
        let is_it = |piece: &Piece| !piece.begun && piece.meta.id == segment && piece.cut == cut;
        let place = state.pieces.iter().position(is_it)?;
        let before = &state.pieces[..place];
        let left_out =
            before.iter().filter(|piece| !piece.begun && (self.shared || piece.lane == lane)).count();
        // Partitions that begin at the same time may get here in any order.
        if left_out >= self.partitions.max(1) {
            state.lose_track();
        }
        let piece = &mut state.pieces[place];
        piece.begun = true;
        Some((place, piece.ahead.pop()))
    }

    /// A reader asks for columns of a row group of a piece; returns what is under way of it. `used`: the reader has some of it already.
    fn asked(
        &self,
        lane: usize,
        piece: usize,
        file: &SegmentFile,
        (group, leaves): (usize, Vec<usize>),
        used: bool,
    ) -> Vec<Fetch> {
        let mut state = self.state();
        let before = state.lanes.get(&lane).and_then(|lane| lane.at.as_ref()).filter(|at| at.piece == piece);
        let same = before.is_some_and(|at| at.group == group);
        if before.is_some_and(|at| at.group > group) {
            state.lose_track();
        }
        let (taken, others): (Vec<Fetch>, Vec<Fetch>) =
            state.pieces[piece].ahead.drain(..).partition(|fetch| fetch.group == Some(group));
        // Those before it have been passed by.
        state.pieces[piece].ahead = others.into_iter().filter(|fetch| fetch.group > Some(group)).collect();
        let rows = file.metadata().row_group(group).num_rows().unsigned_abs();
        let lane = state.lanes.entry(lane).or_default();
        if !same {
            lane.rows += rows;
            if used || !taken.is_empty() {
                lane.depth = (lane.depth + 1).min(DEPTH_MAX);
            }
        }
        match lane.at.as_mut().filter(|_| same) {
            Some(at) => {
                at.leaves.extend(leaves);
                at.leaves.sort_unstable();
                at.leaves.dedup();
            }
            None => lane.at = Some(At { piece, file: file.clone(), group, leaves }),
        }
        taken
    }

    /// Somebody wants more of a partition than its first batch.
    fn wanted(&self, lane: usize) {
        if let Some(lane) = self.state().lanes.get_mut(&lane) {
            lane.wanted = true;
            lane.depth = lane.depth.max(1);
        }
        self.advance(lane);
    }

    /// Begins what may be fetched for a partition.
    fn advance(&self, lane: usize) {
        let mut state = self.state();
        while let Some(next) = self.next(&mut state, lane) {
            let (piece, bytes) = match &next {
                Next::Group { piece, bytes, .. } | Next::Piece { piece, bytes, .. } => (*piece, *bytes),
            };
            let memory = self.memory.new_empty();
            if memory.try_grow(bytes).is_err() {
                return;
            }
            let fetch = match next {
                Next::Group { mut file, group, ranges, rows, .. } => {
                    let wanted = ranges.clone();
                    let task = SpawnedTask::spawn(async move {
                        let bytes = file.get_byte_ranges(wanted.clone()).await?;
                        let chunks = Chunks(wanted.into_iter().zip(bytes).collect());
                        Ok::<_, ParquetError>(Fetched { file, chunks })
                    });
                    Fetch { group: Some(group), lane, rows, ranges, task, memory }
                }
                Next::Piece { piece, columns, .. } => {
                    let rows = state.pieces[piece].meta.rows;
                    let task = SpawnedTask::spawn(self.first_of(&state.pieces[piece], columns));
                    Fetch { group: None, lane, rows, ranges: Vec::new(), task, memory }
                }
            };
            state.pieces[piece].ahead.push(fetch);
        }
    }

    /// Opens a piece and reads `columns` of the first row group that is needed.
    fn first_of(
        &self,
        piece: &Piece,
        columns: Vec<ColumnPath>,
    ) -> BoxFuture<'static, ParquetResult<Fetched>> {
        let opened = (self.open)(Arc::clone(&piece.meta));
        let (cut, predicate) = (piece.cut, self.predicate.clone());
        let schema = piece.known.as_ref().map(|(schema, _)| Arc::clone(schema));
        async move {
            let mut file = opened.await?;
            let metadata = Arc::clone(file.metadata());
            let needed = |group: &usize| may_match(predicate.as_ref(), schema.as_ref(), &metadata, *group);
            let Some(group) = groups(&metadata, cut).into_iter().find(needed) else {
                return Ok::<_, ParquetError>(Fetched { file, chunks: Chunks::default() });
            };
            let descriptor = metadata.file_metadata().schema_descr();
            let leaves = (0..descriptor.num_columns())
                .filter(|leaf| columns.contains(descriptor.column(*leaf).path()));
            let ranges: Vec<Range<u64>> = chunks(metadata.row_group(group), leaves);
            // Maybe nobody needs them; who does reads what failed again and says why it does.
            let bytes = file.get_byte_ranges(ranges.clone()).await.unwrap_or_default();
            Ok(Fetched { file, chunks: Chunks(ranges.into_iter().zip(bytes).collect()) })
        }
        .boxed()
    }

    fn next(&self, state: &mut State, lane: usize) -> Option<Next> {
        let Lane { wanted, depth, rows, at } = state.lanes.get(&lane)?;
        let at = at.as_ref().filter(|at| *wanted && !state.lost && !at.leaves.is_empty())?;
        let under_way = || state.pieces.iter().flat_map(|piece| &piece.ahead);
        let mine = || under_way().filter(move |fetch| fetch.lane == lane);
        let enough = |limit: usize| rows + mine().map(|fetch| fetch.rows).sum::<u64>() >= limit as u64;
        if mine().count() >= *depth || self.limit.is_some_and(enough) {
            return None;
        }
        let room = self.bytes_max.saturating_sub(under_way().map(|fetch| fetch.memory.size()).sum());
        let piece = state.pieces.get(at.piece)?;
        let metadata = at.file.metadata();
        if !piece.ended {
            let schema = piece.known.as_ref().map(|(schema, _)| schema);
            let left = groups(metadata, piece.cut).into_iter().filter(|group| *group > at.group);
            let fetched: HashSet<usize> = piece.ahead.iter().filter_map(|fetch| fetch.group).collect();
            let group = left
                .filter(|group| !fetched.contains(group))
                .find(|group| may_match(self.predicate.as_ref(), schema, metadata, *group));
            if let Some(group) = group {
                let of_group = metadata.row_group(group);
                let ranges = chunks(of_group, at.leaves.iter().copied());
                let bytes = usize::try_from(at.file.held_bytes(&ranges).ok()?).ok()?;
                let rows = of_group.num_rows().unsigned_abs();
                let (piece, file) = (at.piece, at.file.clone());
                return (bytes <= room).then_some(Next::Group { piece, file, group, ranges, bytes, rows });
            }
        }
        // Of segments of another definition nobody knows here which columns are meant.
        piece.known.as_ref()?;
        let descriptor = metadata.file_metadata().schema_descr();
        let columns = at.leaves.iter().map(|leaf| descriptor.column(*leaf).path().clone()).collect();
        // About as much as of this one.
        let ranges = chunks(metadata.row_group(at.group), at.leaves.iter().copied());
        let bytes = usize::try_from(at.file.held_bytes(&ranges).ok()?).ok()?;
        if bytes > room {
            return None;
        }
        loop {
            let place = state.pieces.iter().position(|piece| {
                let free = !piece.begun && !piece.ruled_out && piece.ahead.is_empty();
                free && (self.shared || piece.lane == lane)
            })?;
            let piece = &mut state.pieces[place];
            piece.known.as_ref()?;
            if self.may_have(piece) {
                return Some(Next::Piece { piece: place, columns, bytes });
            }
            // Filters only get narrower.
            piece.ruled_out = true;
        }
    }

    /// Whether a row of the piece may match, by the bounds of its segment.
    fn may_have(&self, piece: &Piece) -> bool {
        let (Some(predicate), Some((schema, Some(statistics)))) = (&self.predicate, &piece.known) else {
            return true;
        };
        let bounds = PrunableStatistics::new(vec![Arc::clone(statistics)], Arc::clone(schema));
        is_kept(predicate, schema, &bounds)
    }

    /// The reader of a piece is gone.
    fn end(&self, piece: usize) {
        if let Some(piece) = self.state().pieces.get_mut(piece) {
            piece.ended = true;
            piece.ahead.clear();
        }
    }
}

impl State {
    /// Nothing more is fetched ahead: what comes next is not known.
    fn lose_track(&mut self) {
        self.lost = true;
        self.pieces.iter_mut().for_each(|piece| piece.ahead.clear());
    }
}

/// Reads a piece through what was fetched ahead of it.
pub(super) struct AheadReader {
    run: Arc<Run>,
    lane: usize,
    piece: usize,
    /// Under way since before it was begun.
    first: Option<Fetch>,
    /// What has arrived of the row group it reads.
    held: Chunks,
    group: Option<usize>,
}

impl AheadReader {
    /// The piece's segment, when opening it is under way.
    pub(super) async fn opened(&mut self) -> ParquetResult<Option<SegmentFile>> {
        let Some(first) = self.first.take() else { return Ok(None) };
        let Fetched { file, chunks } = first.arrived().await?;
        self.held = chunks;
        Ok(Some(file))
    }

    /// Bytes of the ranges, which are of one row group of `file`.
    pub(super) async fn read(
        &mut self,
        file: &mut SegmentFile,
        ranges: Vec<Range<u64>>,
    ) -> ParquetResult<Vec<Bytes>> {
        let Some((group, leaves)) = asked_for(file.metadata(), &ranges) else {
            return file.get_byte_ranges(ranges).await;
        };
        let used = ranges.iter().any(|range| self.held.find(range).is_some());
        if self.group.replace(group) != Some(group) && !used {
            self.held = Chunks::default();
        }
        let under_way = self.run.asked(self.lane, self.piece, file, (group, leaves), used);
        let is_here = |range: &Range<u64>| {
            let coming = under_way.iter().flat_map(|fetch| &fetch.ranges).any(|whole| covers(whole, range));
            coming || self.held.find(range).is_some()
        };
        let missing: Vec<Range<u64>> = ranges.iter().filter(|range| !is_here(range)).cloned().collect();
        let direct = async {
            match missing.is_empty() {
                true => Ok(Vec::new()),
                false => file.get_byte_ranges(missing.clone()).await,
            }
        };
        let arriving = futures::future::try_join_all(under_way.into_iter().map(Fetch::arrived));
        let (direct, arrived) = futures::future::try_join(direct, arriving).await?;
        self.held.0.extend(arrived.into_iter().flat_map(|fetched| fetched.chunks.0));
        self.run.advance(self.lane);
        let direct = Chunks(missing.into_iter().zip(direct).collect());
        let found = |range: &Range<u64>| self.held.find(range).or_else(|| direct.find(range));
        let read: Option<Vec<Bytes>> = ranges.iter().map(found).collect();
        read.ok_or_else(|| ParquetError::General("bytes that were read are not there".to_owned()))
    }
}

impl Drop for AheadReader {
    fn drop(&mut self) {
        self.run.end(self.piece);
    }
}

/// A partition's rows, telling its run when more than the first batch is wanted.
pub(super) struct Watched {
    rows: SendableRecordBatchStream,
    run: Arc<Run>,
    lane: usize,
    given: bool,
    told: bool,
}

impl Watched {
    /// The rows of partition `lane` of `run`.
    pub(super) fn new(rows: SendableRecordBatchStream, run: Arc<Run>, lane: usize) -> Self {
        Self { rows, run, lane, given: false, told: false }
    }
}

impl Stream for Watched {
    type Item = Result<RecordBatch>;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        if self.given && !self.told {
            self.told = true;
            self.run.wanted(self.lane);
        }
        let polled = self.rows.poll_next_unpin(context);
        self.given |= matches!(polled, Poll::Ready(Some(Ok(_))));
        polled
    }
}

impl RecordBatchStream for Watched {
    fn schema(&self) -> SchemaRef {
        self.rows.schema()
    }
}

/// The row group that ranges are of, and its columns of which they are half or more: a column of which less is needed now need not be needed
/// at all in the next one.
fn asked_for(metadata: &ParquetMetaData, ranges: &[Range<u64>]) -> Option<(usize, Vec<usize>)> {
    let first = ranges.iter().find(|range| range.start < range.end)?.start;
    let has_first =
        |group: &RowGroupMetaData| group.columns().iter().any(|chunk| span(chunk).contains(&first));
    let group = metadata.row_groups().iter().position(has_first)?;
    let half = |chunk: &Range<u64>| {
        let shared =
            |range: &Range<u64>| range.end.min(chunk.end).saturating_sub(range.start.max(chunk.start));
        let asked: u64 = ranges.iter().map(shared).sum();
        asked > 0 && 2 * asked >= chunk.end - chunk.start
    };
    let columns = metadata.row_group(group).columns().iter().enumerate();
    let leaves = columns.filter(|(_, chunk)| half(&span(chunk))).map(|(leaf, _)| leaf);
    Some((group, leaves.collect()))
}

/// Where a column of a row group is.
pub(super) fn span(chunk: &ColumnChunkMetaData) -> Range<u64> {
    let (start, length) = chunk.byte_range();
    start..start + length
}

/// Where columns of a row group are.
fn chunks(group: &RowGroupMetaData, leaves: impl Iterator<Item = usize>) -> Vec<Range<u64>> {
    leaves.filter_map(|leaf| group.columns().get(leaf)).map(span).collect()
}

/// The row groups of a piece, which the source tells by the offset of their first page.
pub(super) fn groups(metadata: &ParquetMetaData, cut: Cut) -> Vec<usize> {
    let within = |group: &RowGroupMetaData| {
        let (Some(first), Some((start, end))) = (group.columns().first(), cut) else { return cut.is_none() };
        let offset = first.dictionary_page_offset().unwrap_or_else(|| first.data_page_offset());
        start <= offset && offset < end
    };
    let numbered = metadata.row_groups().iter().enumerate();
    numbered.filter(|(_, group)| within(group)).map(|(number, _)| number).collect()
}

/// Whether a row of a row group may match the filter as it is now.
pub(super) fn may_match(
    predicate: Option<&Arc<dyn PhysicalExpr>>,
    schema: Option<&SchemaRef>,
    metadata: &ParquetMetaData,
    group: usize,
) -> bool {
    let (Some(predicate), Some(schema)) = (predicate, schema) else { return true };
    is_kept(predicate, schema, &GroupBounds { schema, metadata, group: metadata.row_group(group) })
}

fn is_kept(predicate: &Arc<dyn PhysicalExpr>, schema: &SchemaRef, bounds: &dyn PruningStatistics) -> bool {
    let builder = PruningPredicateBuilder::new().with_file_schema(Arc::clone(schema));
    // A filter that bounds say nothing about keeps everything, as it does in the source.
    let Some(pruning) = builder.build(Arc::clone(predicate)) else { return true };
    pruning.prune(bounds).map_or(true, |kept| kept.contains(&true))
}

/// A row group as the container of a pruning predicate.
struct GroupBounds<'a> {
    schema: &'a SchemaRef,
    metadata: &'a ParquetMetaData,
    group: &'a RowGroupMetaData,
}

impl GroupBounds<'_> {
    fn converter(&self, column: &Column) -> Option<StatisticsConverter<'_>> {
        let descriptor = self.metadata.file_metadata().schema_descr();
        StatisticsConverter::try_new(&column.name, self.schema, descriptor).ok()
    }
}

impl PruningStatistics for GroupBounds<'_> {
    fn min_values(&self, column: &Column) -> Option<ArrayRef> {
        self.converter(column)?.row_group_mins([self.group]).ok()
    }

    fn max_values(&self, column: &Column) -> Option<ArrayRef> {
        self.converter(column)?.row_group_maxes([self.group]).ok()
    }

    fn num_containers(&self) -> usize {
        1
    }

    fn null_counts(&self, column: &Column) -> Option<ArrayRef> {
        let counts = self.converter(column)?.row_group_null_counts([self.group]).ok()?;
        Some(Arc::new(counts))
    }

    fn row_counts(&self) -> Option<ArrayRef> {
        Some(Arc::new(UInt64Array::from(vec![self.group.num_rows().unsigned_abs()])))
    }

    fn contained(&self, _column: &Column, _values: &HashSet<ScalarValue>) -> Option<BooleanArray> {
        None
    }
}

#[cfg(test)]
mod tests;
