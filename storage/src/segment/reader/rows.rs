//! Decoding chosen rows of chosen columns.

use std::ops::Range;
use std::sync::Arc;

use arrow::array::{ArrayRef, RecordBatch, RecordBatchOptions};
use arrow::datatypes::{DataType, Field, FieldRef, Schema, SchemaRef};
use parquet::DecodeResult;
use parquet::arrow::ProjectionMask;
use parquet::arrow::arrow_reader::{RowSelection, RowSelector};
use parquet::arrow::push_decoder::{ParquetPushDecoder, ParquetPushDecoderBuilder};

use super::super::cache::SegmentCache;
use super::super::vectors::to_surface;
use super::blocks::BlockSource;
use super::{Opened, SegmentReader, decode_error};
use crate::alter::{filled, shaped};
use crate::error::{Error, Result};
use crate::schema::{ColumnDef, ROW_ID_COLUMN, VERSION_COLUMN};

/// Most rows for which blocks are kept in the cache: above it a read is a scan.
const CACHED_ROWS_MAX: u64 = 16 * 1024;

/// Which rows of a segment.
#[derive(Clone, Debug)]
pub enum RowChoice<'a> {
    /// All of them.
    All,
    /// These positions, ascending without repeats.
    Positions(&'a [u32]),
    /// These ranges of positions, ascending and apart.
    Ranges(&'a [Range<u32>]),
    /// A Parquet selection over all rows of the file.
    Selection(RowSelection),
}

/// Batches of one read, decoded as they are asked for. Decoding runs on the caller's task.
#[derive(Debug)]
pub struct SegmentBatches {
    decoder: ParquetPushDecoder,
    source: BlockSource,
    /// None: a scan, whose blocks are not kept.
    cache: Option<Arc<SegmentCache>>,
    shape: Shape,
}

/// How a decoded batch becomes one of the columns asked for.
#[derive(Debug)]
enum Shape {
    /// Surface schema, and where each of its columns comes from.
    Surface(SchemaRef, Vec<Source>),
    AsDecoded,
}

#[derive(Debug)]
enum Source {
    /// The decoded column of that place.
    Decoded(usize),
    /// The segment is older than the column.
    Filled(Box<ColumnDef>),
}

pub(super) fn batches(
    reader: &SegmentReader,
    columns: &[usize],
    rows: RowChoice<'_>,
    batch_rows: usize,
) -> Result<SegmentBatches> {
    let opened = &reader.opened;
    if columns.iter().any(|&c| c >= opened.roots.len()) {
        return Err(Error::internal("a read names a column its table does not have"));
    }
    let roots: Vec<Option<usize>> = columns.iter().map(|&c| opened.roots[c]).collect();
    let mut decoded: Vec<usize> = roots.iter().copied().flatten().collect();
    decoded.sort_unstable();
    decoded.dedup();
    let shape = Shape::Surface(reader.surface_schema(columns), sources(reader, columns, &roots, &decoded)?);
    start(reader, &decoded, rows, batch_rows, shape)
}

/// The columns of the definition, then those of the pseudo-columns that are in the file, of some rows; nothing read is kept.
pub(super) fn addressed_batches(
    reader: &SegmentReader,
    rows: Range<u32>,
    batch_rows: usize,
) -> Result<SegmentBatches> {
    let opened = &reader.opened;
    let columns: Vec<usize> = (0..opened.roots.len()).collect();
    let mut fields: Vec<FieldRef> = reader.surface_schema(&columns).fields().iter().cloned().collect();
    let mut roots: Vec<Option<usize>> = opened.roots.clone();
    for (name, root) in [(ROW_ID_COLUMN, opened.row_id_root), (VERSION_COLUMN, opened.version_root)] {
        if root.is_some() {
            fields.push(Arc::new(Field::new(name, DataType::UInt64, false)));
            roots.push(root);
        }
    }
    let mut decoded: Vec<usize> = roots.iter().copied().flatten().collect();
    decoded.sort_unstable();
    decoded.dedup();
    let sources = sources(reader, &columns, &roots, &decoded)?;
    let shape = Shape::Surface(Arc::new(Schema::new(fields)), sources);
    let batches = start(reader, &decoded, RowChoice::Ranges(&[rows]), batch_rows, shape)?;
    Ok(SegmentBatches { cache: None, ..batches })
}

/// Root columns of some rows of the file as they are; nothing read is kept.
pub(super) fn scanned_batches(
    reader: &SegmentReader,
    roots: &[usize],
    rows: Range<u32>,
    batch_rows: usize,
) -> Result<SegmentBatches> {
    let batches = start(reader, roots, RowChoice::Ranges(&[rows]), batch_rows, Shape::AsDecoded)?;
    Ok(SegmentBatches { cache: None, ..batches })
}

/// Where each of `roots` comes from, the first of which are those of `columns`.
fn sources(
    reader: &SegmentReader,
    columns: &[usize],
    roots: &[Option<usize>],
    decoded: &[usize],
) -> Result<Vec<Source>> {
    let place = |root: &usize| decoded.binary_search(root).ok();
    let source = |(i, root): (usize, &Option<usize>)| match root.as_ref().and_then(place) {
        Some(place) => Ok(Source::Decoded(place)),
        None => {
            let column = columns.get(i).and_then(|column| reader.def.columns.get(*column));
            let column = column.ok_or_else(|| Error::internal("a read names a column that is nowhere"))?;
            Ok(Source::Filled(Box::new(column.clone())))
        }
    };
    roots.iter().enumerate().map(source).collect()
}

/// Batches of root columns of the file as they are.
pub(super) fn root_batches(
    reader: &SegmentReader,
    roots: &[usize],
    rows: RowChoice<'_>,
    batch_rows: usize,
) -> Result<SegmentBatches> {
    start(reader, roots, rows, batch_rows, Shape::AsDecoded)
}

/// The same of all rows, through the blocks that are kept: what was fetched ahead is not asked for again.
pub(super) fn kept_batches(
    reader: &SegmentReader,
    roots: &[usize],
    batch_rows: usize,
) -> Result<SegmentBatches> {
    let batches = start(reader, roots, RowChoice::All, batch_rows, Shape::AsDecoded)?;
    Ok(SegmentBatches { cache: Some(Arc::clone(&reader.cache)), ..batches })
}

fn start(
    reader: &SegmentReader,
    roots: &[usize],
    rows: RowChoice<'_>,
    batch_rows: usize,
    shape: Shape,
) -> Result<SegmentBatches> {
    let opened = &reader.opened;
    let mask = ProjectionMask::roots(opened.arrow.parquet_schema(), roots.iter().copied());
    let mut builder = ParquetPushDecoderBuilder::new_with_metadata(opened.arrow.clone())
        .with_batch_size(batch_rows)
        .with_projection(mask);
    let mut chosen = u64::MAX;
    match rows {
        RowChoice::All => {}
        RowChoice::Selection(selection) => builder = builder.with_row_selection(selection),
        RowChoice::Positions(positions) => {
            chosen = positions.len() as u64;
            let (groups, selection) = select(opened, positions.iter().map(|&p| p..p.saturating_add(1)))?;
            builder = builder.with_row_groups(groups).with_row_selection(selection);
        }
        RowChoice::Ranges(ranges) => {
            chosen = ranges.iter().map(|r| r.len() as u64).sum();
            let (groups, selection) = select(opened, ranges.iter().cloned())?;
            builder = builder.with_row_groups(groups).with_row_selection(selection);
        }
    }
    let decoder = builder.build().map_err(|e| decode_error(reader.source.path().as_ref(), e))?;
    let cache = (chosen <= CACHED_ROWS_MAX).then(|| Arc::clone(&reader.cache));
    Ok(SegmentBatches { decoder, source: reader.source.clone(), cache, shape })
}

/// The row groups that ascending `ranges` touch, and the selection over just those.
fn select(opened: &Opened, ranges: impl Iterator<Item = Range<u32>>) -> Result<(Vec<usize>, RowSelection)> {
    let starts = &opened.group_starts;
    let mut groups: Vec<usize> = Vec::new();
    let mut selectors: Vec<RowSelector> = Vec::new();
    // Rows of the last group already covered by a selector.
    let mut covered = 0;
    let mut last_end = 0;
    for range in ranges {
        let (mut from, to) = (u64::from(range.start), u64::from(range.end));
        if from < last_end || to < from || to > starts.last().copied().unwrap_or(0) {
            return Err(Error::internal(format!("rows {from}..{to} are not ascending rows of the segment")));
        }
        last_end = to;
        while from < to {
            let group = starts.partition_point(|&start| start <= from) - 1;
            if groups.last() != Some(&group) {
                if let Some(&before) = groups.last() {
                    push_skip(&mut selectors, starts[before + 1] - starts[before] - covered);
                }
                groups.push(group);
                covered = 0;
            }
            let end = to.min(starts[group + 1]);
            push_skip(&mut selectors, from - starts[group] - covered);
            selectors.push(RowSelector::select((end - from) as usize));
            covered = end - starts[group];
            from = end;
        }
    }
    if let Some(&group) = groups.last() {
        push_skip(&mut selectors, starts[group + 1] - starts[group] - covered);
    }
    Ok((groups, RowSelection::from(selectors)))
}

fn push_skip(selectors: &mut Vec<RowSelector>, rows: u64) {
    if rows > 0 {
        selectors.push(RowSelector::skip(rows as usize));
    }
}

impl SegmentBatches {
    /// The next batch; None: no more. Not cancel-safe: after a cancelled call, drop the reader.
    ///
    /// # Errors
    /// `Corrupt` for damage, the store's.
    pub async fn next(&mut self) -> Result<Option<RecordBatch>> {
        loop {
            let step = self.decoder.try_decode().map_err(|e| decode_error(self.source.path().as_ref(), e))?;
            match step {
                DecodeResult::Data(batch) => return self.shape(batch).map(Some),
                DecodeResult::Finished => return Ok(None),
                DecodeResult::NeedsData(ranges) => {
                    let bytes = match &self.cache {
                        Some(cache) => self.source.read_cached(cache, &ranges).await?,
                        None => self.source.read_ranges(&ranges).await?,
                    };
                    self.decoder
                        .push_ranges(ranges, bytes)
                        .map_err(|e| decode_error(self.source.path().as_ref(), e))?;
                }
            }
        }
    }

    fn shape(&self, batch: RecordBatch) -> Result<RecordBatch> {
        let Shape::Surface(schema, sources) = &self.shape else {
            return Ok(batch);
        };
        let columns: Vec<ArrayRef> = schema
            .fields()
            .iter()
            .zip(sources)
            .map(|(field, source)| match source {
                Source::Decoded(place) => {
                    let array = match field.data_type() {
                        DataType::FixedSizeList(..) => to_surface(batch.column(*place))?,
                        _ => Arc::clone(batch.column(*place)),
                    };
                    shaped(&array, field.data_type(), field.is_nullable())
                }
                Source::Filled(column) => filled(column, batch.num_rows()),
            })
            .collect::<Result<_>>()?;
        let options = RecordBatchOptions::new().with_row_count(Some(batch.num_rows()));
        Ok(RecordBatch::try_new_with_options(Arc::clone(schema), columns, &options)?)
    }
}
