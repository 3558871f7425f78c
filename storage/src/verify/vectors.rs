//! An index unit against the rows it is of: each vector of its segments is in it, with a code that is near enough, and nothing else is.
//!
//! Rows that were deleted when it was built may be missing; whatever else is missing or wrong, searches would miss rows. Of rows that a compaction has moved
//! into other segments, those that it has are compared: the others are not searched through it.

use arrow::array::{Array, AsArray};
use arrow::datatypes::Float32Type;
use cairn_vector::unit::Unit;
use roaring::RoaringBitmap;

use super::counted;
use super::segment::{BATCH_ROWS, Subject};
use crate::error::Error;
use crate::index::UnitMeta;
use crate::segment::RowChoice;
use crate::version::SegmentState;

/// Why a comparison ended.
pub(super) enum Trouble {
    /// The unit is wrong.
    Unit(Error),
    /// A segment of it cannot be read, which is told of that.
    Segment,
}

/// What was seen of a unit's rows.
struct Seen<'a> {
    unit: &'a Unit,
    path: String,
    /// Ordinals that have a row.
    ordinals: RoaringBitmap,
    point: Vec<f32>,
}

impl Seen<'_> {
    /// Takes the vector of a row; false: the unit has no such row.
    fn vector(&mut self, row_id: u64, vector: &[f32]) -> Result<bool, Trouble> {
        let found = self.unit.ordinal_of(row_id).map_err(|e| wrong(&self.path, e))?;
        let Some(ordinal) = found else { return Ok(false) };
        self.ordinals.insert(ordinal);
        match self.unit.wrong_code(ordinal, vector, &mut self.point) {
            None => Ok(true),
            Some(found) => {
                let why = format!("{} (row id {row_id}) at offset {}", found.problem, found.offset);
                Err(wrong(&self.path, why))
            }
        }
    }
}

fn wrong(path: &str, why: impl std::fmt::Display) -> Trouble {
    Trouble::Unit(Error::corrupt(path, why))
}

/// Compares all of them.
///
/// # Errors
/// The first row that differs, or what reading its segments says.
pub(super) async fn compare(subject: &Subject<'_>, meta: &UnitMeta, unit: &Unit) -> Result<(), Trouble> {
    let def = &subject.table.def;
    let path = meta.path();
    let Some(index) = def.indexes.iter().find(|index| index.id == meta.index) else { return Ok(()) };
    let Some(column) = def.columns.iter().position(|column| column.id == index.column) else {
        return Err(wrong(&path, format!("its index {} is of no column", index.name)));
    };
    if unit.metric() != index.metric.metric() {
        return Err(wrong(&path, format!("it is not of the metric of index {}", index.name)));
    }
    let mut seen = Seen { unit, path: path.clone(), ordinals: RoaringBitmap::new(), point: Vec::new() };
    let mut is_whole = true;
    for covered in &meta.segments {
        let Some(segment) = subject.table.segments.iter().find(|s| s.meta.id == covered.id) else {
            // A compaction took its place; its rows stay in the unit.
            is_whole = false;
            continue;
        };
        let range = covered.range(segment.meta.rows);
        let left_out = of_segment(subject, segment, range, column, true, &mut seen).await?;
        if left_out > covered.left_out {
            let why = format!(
                "it lacks {} of segment {}, {} when it was built",
                counted(left_out, "row"),
                covered.id,
                covered.left_out
            );
            return Err(wrong(&path, why));
        }
    }
    if !is_whole {
        moved(subject, meta, column, &mut seen).await?;
    }
    if is_whole && seen.ordinals.len() != unit.len() as u64 {
        let strange = (0..unit.len() as u32).find(|ordinal| !seen.ordinals.contains(*ordinal));
        let id = strange.and_then(|ordinal| unit.row_id(ordinal)).unwrap_or_default();
        return Err(Trouble::Unit(Error::corrupt(
            path,
            format!("row id {id} is not in its segments, or has no vector there"),
        )));
    }
    Ok(())
}

/// Compares the rows that the unit has of segments it was not built over.
async fn moved(
    subject: &Subject<'_>,
    meta: &UnitMeta,
    column: usize,
    seen: &mut Seen<'_>,
) -> Result<(), Trouble> {
    let bounds = {
        let mut ids = seen.unit.row_ids();
        ids.next().map(|first| (first, ids.next_back().unwrap_or(first)))
    };
    let Some((first, last)) = bounds else { return Ok(()) };
    for segment in subject.table.segments.iter() {
        let known = meta.segments.iter().any(|covered| covered.id == segment.meta.id);
        if !known && segment.meta.min_row_id.0 <= last && first <= segment.meta.max_row_id.0 {
            let all = 0..u32::try_from(segment.meta.rows).unwrap_or(u32::MAX);
            of_segment(subject, segment, all, column, false, seen).await?;
        }
    }
    Ok(())
}

/// Compares the rows of one segment; how many that have a vector and are deleted are not in the unit. `covered`: all that are not deleted are to be.
async fn of_segment(
    subject: &Subject<'_>,
    segment: &SegmentState,
    range: std::ops::Range<u32>,
    column: usize,
    covered: bool,
    seen: &mut Seen<'_>,
) -> Result<u64, Trouble> {
    let reader = subject.open(&segment.meta).await.map_err(|_| Trouble::Segment)?;
    if range.is_empty() || reader.file_columns().get(column).copied().flatten().is_none() {
        // The segment is older than the column: it has no vector.
        return Ok(0);
    }
    let mut left_out = 0;
    let mut position = range.start;
    let ranges = RowChoice::Ranges(std::slice::from_ref(&range));
    let mut batches = reader.batches(&[column], ranges, BATCH_ROWS).map_err(|_| Trouble::Segment)?;
    while let Some(batch) = batches.next().await.map_err(|_| Trouble::Segment)? {
        let positions: Vec<u32> = (position..position + batch.num_rows() as u32).collect();
        position += batch.num_rows() as u32;
        let ids = reader.row_ids_at(&positions).await.map_err(|_| Trouble::Segment)?;
        let Some(vectors) = batch.column(0).as_fixed_size_list_opt() else {
            return Err(wrong(&seen.path, "its index is of a column without vectors"));
        };
        for (row, id) in ids.iter().enumerate() {
            if vectors.is_null(row) {
                continue;
            }
            let vector = vectors.value(row);
            let Some(vector) = vector.as_primitive_opt::<Float32Type>() else {
                return Err(wrong(&seen.path, "its index is of vectors that are not of REAL"));
            };
            if seen.vector(id.0, vector.values())? || !covered {
                continue;
            }
            let deleted = segment.deletes.as_ref().is_some_and(|d| d.positions().contains(positions[row]))
                || subject.table.hot_deletes.contains(*id);
            if !deleted {
                let why = format!("row id {id} of segment {} is not in it", segment.meta.id);
                return Err(wrong(&seen.path, why));
            }
            left_out += 1;
        }
        tokio::task::yield_now().await;
    }
    Ok(left_out)
}
