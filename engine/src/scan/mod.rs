//! From a table at a version to the leaf of a plan.
//!
//! # Steps of a scan
//! 1. [`point`]: filters that pin every key column become a key lookup; the rows are read now and nothing else is.
//! 2. [`pruning`]: segments whose statistics rule a match out are dropped.
//! 3. [`visibility`]: rows younger than the version (only when reading the past) join the hidden ones.
//! 4. [`partition`]: the rest is cut by row group and shared among partitions.
//! 5. [`pseudo`], [`files`], [`statistics`], [`older`]: a Parquet source over the pieces; hidden rows are row selections.
//! 6. [`hot`]: the memtable's rows, shared likewise.
//! 7. [`exec`]: one node of both; [`order`] if a sort sits on it. [`codec`]: the node as bytes, for another process.
//! 8. [`columns`]: what was decoded lately is put out from memory; [`ahead`]: while one row group is decoded, the next ones are fetched
//!    from an object store.
//!
//! Planning reads metas held in memory; a footer is looked at only to cut a large segment, and stays cached in storage.

mod ahead;
mod codec;
mod columns;
mod exec;
mod files;
mod hot;
mod older;
mod order;
mod partition;
mod point;
mod pruning;
pub(crate) mod pseudo;
pub(crate) mod statistics;
mod visibility;

use std::sync::Arc;

use cairn_storage::{SegmentView, TableSnapshot};
use datafusion::arrow::datatypes::SchemaRef;
use datafusion::catalog::Session;
use datafusion::common::Result;
use datafusion::error::DataFusionError;
use datafusion::logical_expr::Expr;
use datafusion::physical_plan::ExecutionPlan;

pub(crate) use codec::{Portable, decode, encode};
pub(crate) use exec::SegmentScanExec;

use crate::measure::ReadMeters;
use exec::Scan;
use files::{Files, SourceOptions};
use hot::{MemoryRows, Wanted};
use partition::Piece;
use pseudo::Layout;

/// A storage error on its way through DataFusion; the session takes it out again whole.
pub(crate) fn storage_error(error: cairn_storage::Error) -> DataFusionError {
    crate::error::Error::from(error).into()
}

/// What a query wants of a table.
pub(crate) struct ScanRequest<'a> {
    /// The table at its version.
    pub(crate) table: &'a TableSnapshot,
    /// Its columns, the pseudo-columns included when the query may name them.
    pub(crate) schema: &'a SchemaRef,
    /// Positions in `schema` to put out.
    pub(crate) projection: &'a [usize],
    /// Filters that stay above the scan; used only to read less.
    pub(crate) filters: &'a [Expr],
    /// Rows after which the query has enough.
    pub(crate) limit: Option<usize>,
    /// Why a sort by distance above it uses no index.
    pub(crate) unsearched: Option<Arc<str>>,
}

/// Plans the leaf that answers `request`.
pub(crate) async fn plan(request: ScanRequest<'_>, state: &dyn Session) -> Result<Arc<dyn ExecutionPlan>> {
    let ScanRequest { table, schema, projection, filters, limit, unsearched } = request;
    let meter = ReadMeters::next(state);
    let metered = meter.clone().map(|meter| table.clone().metered(meter));
    let table = metered.as_ref().unwrap_or(table);
    let def = table.def();
    let portable = Portable::is_asked(state);
    let wanted = Wanted::new(projection, def.columns.len());
    let output: SchemaRef = Arc::new(schema.project(projection)?);
    if let Some(keys) = point::keys(filters, schema, &def.key_indices())
        && let Some(rows) = point::rows(table, &keys, &wanted, &output).await?
    {
        let scan = Scan {
            table: table.clone(),
            segments: Vec::new(),
            segments_total: 0,
            pieces: Vec::new(),
            files: None,
            keys: Some(keys.len()),
            unsearched,
            portable,
        };
        return Ok(Arc::new(SegmentScanExec::new(scan, rows, None).metered(meter)));
    }
    let partitions = state.config().target_partitions();
    let all = table.segments().await.map_err(storage_error)?;
    let segments_total = all.len();
    let kept = pruning::keep(all, schema, def.schema_version, filters, state)?;
    let segments = visibility::at_version(table, kept).await?;
    let memory = MemoryRows::of_memtable(table, &wanted, &output, partitions)?;
    let mut scan = Scan {
        table: table.clone(),
        segments,
        segments_total,
        pieces: Vec::new(),
        files: None,
        keys: None,
        unsearched,
        portable,
    };
    if scan.segments.is_empty() {
        return Ok(Arc::new(SegmentScanExec::new(scan, memory, None).metered(meter)));
    }
    scan.pieces = share(table, &scan.segments, partitions).await?;
    let user = def.arrow_schema();
    let layout = Layout::new(&user, projection);
    let late_filters = memory.rows() == 0 && !layout.pseudo && !portable && !older::is_among(&scan.segments);
    let options = SourceOptions::new(state, late_filters, limit);
    let files = Files::new(table, &scan.segments, &layout, &user)?;
    let source = files.source(table, &layout, &scan.pieces, options)?;
    scan.files = Some(files);
    Ok(Arc::new(SegmentScanExec::new(scan, memory, Some(source)).metered(meter)))
}

/// Cuts the segments and shares the pieces.
async fn share(
    table: &TableSnapshot,
    segments: &[SegmentView],
    partitions: usize,
) -> Result<Vec<Vec<Piece>>> {
    let rows = segments.iter().map(|s| s.live_rows).sum();
    let piece_rows = partition::piece_rows(rows, partitions);
    let mut cut = Vec::with_capacity(segments.len());
    for (i, segment) in segments.iter().enumerate() {
        let worth_it = partition::worth_cutting(segment.meta.rows, piece_rows, segments.len(), partitions);
        cut.push(pieces_of(table, i, segment, worth_it.then_some(piece_rows)));
    }
    // All footers at once: few segments are worth cutting, and an object store takes long for each.
    let pieces = futures::future::try_join_all(cut).await?;
    Ok(partition::balance(pieces.into_iter().flatten().collect(), partitions))
}

/// A segment in pieces of about `piece_rows` rows; None: in one.
async fn pieces_of(
    table: &TableSnapshot,
    number: usize,
    segment: &SegmentView,
    piece_rows: Option<u64>,
) -> Result<Vec<Piece>> {
    let Some(piece_rows) = piece_rows else {
        return Ok(vec![Piece { segment: number, range: None, rows: segment.live_rows }]);
    };
    let groups = files::row_groups(table, &segment.meta).await?;
    Ok(partition::cut(number, &groups, segment.meta.bytes, piece_rows))
}
