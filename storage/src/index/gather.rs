//! The rows of a build: vectors of segments, read where they stand.
//!
//! Owns: which rows of a plan's spans go into the unit, and finding them again by number. Held meanwhile: one row id per row and, of
//! segments with rows left out, one bit per position; both count against the memory limit (`capacity`).

use std::ops::Range;
use std::sync::Arc;

use cairn_vector::{Floats, Rows, RowsError};
use roaring::RoaringBitmap;

use super::cover::Part;
use super::exact::Source;
use super::policy::BuildPlan;
use super::{Positions, UnitSegment};
use crate::error::{Error, Result};
use crate::schema::ColumnType;
use crate::segment::reader::SegmentVectors;
use crate::version::TableSnapshot;

/// What goes into one unit.
pub(super) struct Gathered {
    pub(super) rows: SegmentRows,
    /// In the same order.
    pub(super) row_ids: Vec<u64>,
    pub(super) segments: Vec<UnitSegment>,
}

/// Every row of the plan's spans that is not deleted and has a vector, in order of the segments.
///
/// # Errors
/// The store's; `Corrupt` for a segment that is not what was written.
pub(super) async fn gather(table: &TableSnapshot, plan: &BuildPlan) -> Result<Gathered> {
    let column = table
        .def()
        .columns
        .iter()
        .position(|c| c.id == plan.index.column)
        .ok_or_else(|| Error::internal(format!("index {} is of no column", plan.index.name)))?;
    let dim = match table.def().columns[column].column_type {
        ColumnType::Vector(dim) => dim.into(),
        _ => 0,
    };
    let mut rows = SegmentRows { pieces: Vec::new(), len: 0, dim };
    let (mut row_ids, mut segments) = (Vec::new(), Vec::new());
    for view in table.segments().await? {
        let ranges = joined(plan.spans.iter().filter(|s| s.segment.meta.id == view.meta.id).map(|s| &s.rows));
        if ranges.is_empty() {
            continue;
        }
        let source = Source::open(table, Part::whole(view), column).await?;
        let deleted = source.view.deleted.as_deref();
        for range in ranges {
            let left_out = deleted.map_or(0, |d| d.range_cardinality(range.clone()));
            let whole = u64::from(range.end - range.start) == source.view.meta.rows;
            let positions = (!whole).then_some(Positions { from: range.start, to: range.end });
            segments.push(UnitSegment { id: source.view.meta.id, left_out, positions });
            let Some(vectors) = &source.vectors else { continue };
            let piece = Piece::new(vectors, range, deleted, rows.len);
            row_ids.reserve_exact(piece.len());
            for position in piece.positions(0) {
                row_ids.push(source.ids.at(position)?);
            }
            rows.len += piece.len();
            rows.pieces.push(piece);
        }
    }
    Ok(Gathered { rows, row_ids, segments })
}

/// Ranges in ascending order, those that touch made one.
fn joined<'a>(ranges: impl Iterator<Item = &'a Range<u32>>) -> Vec<Range<u32>> {
    let mut ranges: Vec<Range<u32>> = ranges.cloned().collect();
    ranges.sort_by_key(|range| range.start);
    ranges.dedup_by(|next, before| {
        let touch = next.start <= before.end;
        if touch {
            before.end = before.end.max(next.end);
        }
        touch
    });
    ranges
}

/// Vectors read from their segments.
pub(super) struct SegmentRows {
    pieces: Vec<Piece>,
    len: usize,
    dim: usize,
}

/// Rows of one range of a segment.
struct Piece {
    vectors: Arc<SegmentVectors>,
    range: Range<u32>,
    /// Those of the range that count; None: all.
    chosen: Option<RoaringBitmap>,
    /// Number of the first.
    first: usize,
}

impl Piece {
    fn new(
        vectors: &Arc<SegmentVectors>,
        range: Range<u32>,
        deleted: Option<&RoaringBitmap>,
        first: usize,
    ) -> Self {
        let left_out = |rows: &RoaringBitmap| rows.range_cardinality(range.clone()) > 0;
        let chosen = (left_out(vectors.nulls()) || deleted.is_some_and(left_out)).then(|| {
            let mut chosen = RoaringBitmap::new();
            chosen.insert_range(range.clone());
            chosen -= vectors.nulls();
            deleted.iter().for_each(|deleted| chosen -= *deleted);
            chosen
        });
        Self { vectors: Arc::clone(vectors), range, chosen, first }
    }

    fn len(&self) -> usize {
        self.chosen.as_ref().map_or(self.range.len(), |chosen| chosen.len() as usize)
    }

    /// Positions from its `from`th row on.
    fn positions(&self, from: usize) -> impl Iterator<Item = u32> + '_ {
        let from = u32::try_from(from).unwrap_or(u32::MAX);
        let start = match &self.chosen {
            None => Some(self.range.start.saturating_add(from)),
            Some(chosen) => chosen.select(from),
        };
        let (all, chosen) = match (&self.chosen, start) {
            (_, None) => (0..0, None),
            (None, Some(start)) => (start..self.range.end, None),
            (Some(chosen), Some(start)) => (0..0, Some(chosen.range(start..))),
        };
        all.chain(chosen.into_iter().flatten())
    }
}

impl Rows for SegmentRows {
    fn len(&self) -> usize {
        self.len
    }

    fn dim(&self) -> usize {
        self.dim
    }

    fn read(&self, rows: Range<usize>, out: &mut [f32]) -> Result<(), RowsError> {
        let first = self.pieces.partition_point(|piece| piece.first <= rows.start).saturating_sub(1);
        let places = self.pieces[first..].iter().flat_map(|piece| {
            let from = rows.start.saturating_sub(piece.first);
            piece.positions(from).map(|position| (&piece.vectors, position))
        });
        let mut written = 0;
        for ((vectors, position), out) in places.zip(out.chunks_exact_mut(self.dim)).take(rows.len()) {
            let vector = vectors.row(position)?.ok_or("a row without a vector")?;
            for (out, component) in out.iter_mut().zip(Floats::from_bytes(vector).components()) {
                *out = component;
            }
            written += 1;
        }
        if written < rows.len() { Err("a row past the last".into()) } else { Ok(()) }
    }
}
