//! A unit in use.

use std::ops::Range;

use bytes::Bytes;

use super::calibration::{Calibration, CalibrationPoint};
use super::codec::{
    ALIGNMENT, BLOCK_BYTES, END_MAGIC, FEATURES, FORMAT_VERSION, HEADER_BYTES, MAGIC, POINT_BYTES,
    SECTION_BYTES, STATISTICS_BYTES, Section, TAIL_BYTES, TAIL_CHECKSUM_AT, metric_of, read,
};
use super::parts::BuildStatistics;
use crate::distance::{CodeRows, PANEL_ROWS, Panel};
use crate::hnsw::{Adjacency, Builder, DEGREE, NO_ROW, Neighbours, Space};
use crate::metric::{DIM_MAX, Metric};
use crate::quantize::Grid;
use crate::search::pool::ROWS_MAX;

/// Why bytes are no unit.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum UnitError {
    /// Another Cairn wrote it: open with a newer one, or build the index again.
    #[error("the index unit is newer than this Cairn: format {format}, features {features:#x}")]
    Newer {
        /// Its format version.
        format: u16,
        /// Its feature bits.
        features: u32,
    },
    /// The bytes contradict themselves: build the index again.
    #[error("the index unit is damaged at byte {offset}: {problem}")]
    Damaged {
        /// Where.
        offset: u64,
        /// What is wrong.
        problem: String,
    },
}

fn damaged(offset: usize, problem: impl Into<String>) -> UnitError {
    UnitError::Damaged { offset: offset as u64, problem: problem.into() }
}

/// An index unit over its bytes, which are used in place. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Unit {
    pub(super) bytes: Bytes,
    grid: Grid,
    rows: usize,
    norm_max: f32,
    error_high: f32,
    calibration: Calibration,
    statistics: BuildStatistics,
    pub(super) sections: [Range<usize>; Section::ALL.len()],
}

impl Unit {
    /// Opens a unit in constant time: reads header, tail, section table, grid and calibration.
    ///
    /// # Errors
    /// [`UnitError`]; what is wrong in other sections is found by [`Unit::verify`].
    pub fn open(bytes: Bytes) -> Result<Self, UnitError> {
        let sections = sections(&bytes)?;
        let header = &bytes[..HEADER_BYTES];
        let problem = |problem: &str| Err(damaged(0, problem));
        if crc32c::crc32c(&header[..HEADER_BYTES - 4]) != read!(header, HEADER_BYTES - 4, u32) {
            return problem("checksum of the header");
        }
        let Some(metric) = metric_of(header[10]) else { return problem("unknown metric") };
        let (dim, stride) = (read!(header, 16, u32) as usize, read!(header, 20, u32) as usize);
        if dim == 0 || dim > DIM_MAX || stride != Grid::stride_of(metric, dim) {
            return problem("dimension out of range");
        }
        let rows = read!(header, 24, u64);
        if rows >= ROWS_MAX as u64 {
            return problem("too many rows");
        }
        let pivots = read!(header, 32, u32) as usize;
        check_lengths(&sections, metric, dim, rows as usize, pivots)?;
        let low = &bytes[sections[Section::Grid as usize - 1].clone()];
        let grid = Grid {
            metric,
            dim,
            step: read!(header, 40, f32),
            length_max: read!(header, 44, f32),
            low: low.chunks_exact(4).map(|c| read!(c, 0, f32)).collect(),
        };
        if !(grid.step.is_normal() && grid.step > 0.0) {
            return problem("step of the grid");
        }
        Ok(Self {
            grid,
            rows: rows as usize,
            norm_max: read!(header, 48, f32),
            error_high: read!(header, 52, f32),
            calibration: calibration(&bytes[sections[Section::Calibration as usize - 1].clone()]),
            statistics: statistics(&bytes[sections[Section::Statistics as usize - 1].clone()])?,
            bytes,
            sections,
        })
    }

    /// Bytes of one section.
    pub(crate) fn section(&self, section: Section) -> &[u8] {
        &self.bytes[self.sections[section as usize - 1].clone()]
    }

    /// How many rows it covers.
    #[must_use]
    pub fn len(&self) -> usize {
        self.rows
    }

    /// Whether it covers none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.rows == 0
    }

    /// The bytes of the file.
    #[must_use]
    pub fn bytes(&self) -> &Bytes {
        &self.bytes
    }

    /// How its vectors became codes.
    #[must_use]
    pub fn grid(&self) -> &Grid {
        &self.grid
    }

    /// Metric of its vectors.
    #[must_use]
    pub fn metric(&self) -> Metric {
        self.grid.metric
    }

    /// Components of its vectors.
    #[must_use]
    pub fn dim(&self) -> usize {
        self.grid.dim
    }

    /// What it knows about its recall.
    #[must_use]
    pub fn calibration(&self) -> &Calibration {
        &self.calibration
    }

    /// How it was built; without the time that took.
    #[must_use]
    pub fn statistics(&self) -> &BuildStatistics {
        &self.statistics
    }

    /// Row id of an ordinal.
    #[must_use]
    pub fn row_id(&self, ordinal: u32) -> Option<u64> {
        let at = ordinal as usize * 8;
        self.section(Section::RowIds).get(at..at + 8).map(|bytes| read!(bytes, 0, u64))
    }

    /// Ordinal of a row id, by binary search.
    #[must_use]
    pub fn ordinal_of(&self, row_id: u64) -> Option<u32> {
        let by_id = self.section(Section::ById);
        let ordinal = |place: usize| read!(by_id, place * 4, u32);
        let (mut from, mut to) = (0, self.rows);
        while from < to {
            let middle = from + (to - from) / 2;
            match self.row_id(ordinal(middle))?.cmp(&row_id) {
                std::cmp::Ordering::Less => from = middle + 1,
                std::cmp::Ordering::Greater => to = middle,
                std::cmp::Ordering::Equal => return Some(ordinal(middle)),
            }
        }
        None
    }

    /// Whether it covers a row.
    #[must_use]
    pub fn contains(&self, row_id: u64) -> bool {
        self.ordinal_of(row_id).is_some()
    }

    /// All row ids, in ascending order.
    pub fn row_ids(&self) -> impl Iterator<Item = u64> + '_ {
        let by_id = self.section(Section::ById).chunks_exact(4);
        by_id.filter_map(|bytes| self.row_id(read!(bytes, 0, u32)))
    }

    pub(crate) fn space(&self) -> Space<'_> {
        let (codes, norms) = (self.section(Section::Codes), self.section(Section::Norms));
        Space { rows: CodeRows::new(codes, norms, self.grid.stride()), sum: self.grid.code_sum() }
    }

    pub(crate) fn pivots(&self) -> Panel<'_> {
        Panel::new(self.section(Section::PivotCodes), self.grid.stride())
    }

    /// Ordinals of the pivots; a damaged one may be no row.
    pub(crate) fn pivot_rows(&self) -> impl ExactSizeIterator<Item = u32> + '_ {
        self.section(Section::PivotRows).chunks_exact(4).map(|bytes| read!(bytes, 0, u32))
    }

    /// Ordinal of a pivot; [`NO_ROW`] when there is no such pivot.
    pub(crate) fn pivot_row(&self, pivot: u32) -> u32 {
        let at = pivot as usize * 4;
        self.section(Section::PivotRows).get(at..at + 4).map_or(NO_ROW, |bytes| read!(bytes, 0, u32))
    }

    pub(crate) fn pivot_norms(&self) -> impl ExactSizeIterator<Item = f32> + '_ {
        self.section(Section::PivotNorms).chunks_exact(4).map(|bytes| read!(bytes, 0, f32))
    }

    pub(crate) fn norm_max(&self) -> f32 {
        self.norm_max
    }

    pub(crate) fn error_high(&self) -> f32 {
        self.error_high
    }

    /// Bound on the distance between a row and its code.
    pub(crate) fn error(&self, ordinal: u32) -> f32 {
        let at = ordinal as usize * 4;
        self.section(Section::Errors).get(at..at + 4).map_or(0.0, |bytes| read!(bytes, 0, f32))
    }

    pub(crate) fn graph(&self) -> MappedGraph<'_> {
        MappedGraph(self.section(Section::Graph))
    }
}

/// The graph in the bytes of a unit.
#[derive(Clone, Copy, Debug)]
pub(crate) struct MappedGraph<'a>(&'a [u8]);

const LIST_BYTES: usize = DEGREE * 4;

impl Adjacency for MappedGraph<'_> {
    #[inline]
    fn neighbours(&self, row: u32) -> Neighbours {
        let at = row as usize * LIST_BYTES;
        match self.0.get(at..at + LIST_BYTES) {
            Some(list) => std::array::from_fn(|i| read!(list, i * 4, u32)),
            None => [NO_ROW; DEGREE],
        }
    }

    #[inline]
    fn prefetch(&self, row: u32) {
        let at = row as usize * LIST_BYTES;
        if let Some(list) = self.0.get(at..at + LIST_BYTES) {
            crate::distance::prefetch(list);
        }
    }
}

/// The ranges of all sections, from the tail.
fn sections(bytes: &[u8]) -> Result<[Range<usize>; Section::ALL.len()], UnitError> {
    let length = bytes.len();
    if length < HEADER_BYTES + TAIL_BYTES || bytes[..8] != MAGIC {
        return Err(damaged(0, "not an index unit"));
    }
    let (format, features) = (read!(bytes, 8, u16), read!(bytes, 12, u32));
    if format > FORMAT_VERSION || features & !FEATURES != 0 {
        return Err(UnitError::Newer { format, features });
    }
    let tail_at = length - TAIL_BYTES;
    let tail = &bytes[tail_at..];
    let [checksums_at, table_at, file_length] = [0, 8, 16].map(|at| read!(tail, at, u64) as usize);
    if tail[32..] != END_MAGIC || file_length != length {
        return Err(damaged(tail_at, "the tail is missing: the file was cut off or grew"));
    }
    if checksums_at < HEADER_BYTES || checksums_at > tail_at || table_at < checksums_at || table_at > tail_at
    {
        return Err(damaged(tail_at, "the tail points outside the file"));
    }
    if crc32c::crc32c(&bytes[checksums_at..tail_at + TAIL_CHECKSUM_AT]) != read!(tail, TAIL_CHECKSUM_AT, u32)
    {
        return Err(damaged(checksums_at, "checksum of the section table"));
    }
    let table = &bytes[table_at..tail_at];
    if table.len() != Section::ALL.len() * SECTION_BYTES
        || read!(tail, 24, u32) as usize != Section::ALL.len()
    {
        return Err(damaged(table_at, "number of sections"));
    }
    let mut ranges = [const { 0..0 }; Section::ALL.len()];
    for ((section, entry), range) in
        Section::ALL.into_iter().zip(table.chunks_exact(SECTION_BYTES)).zip(&mut ranges)
    {
        let (offset, length) = (read!(entry, 8, u64), read!(entry, 16, u64));
        let end = offset.checked_add(length).filter(|&end| end <= table_at as u64);
        match end {
            Some(end)
                if read!(entry, 0, u32) == section as u32 && offset.is_multiple_of(ALIGNMENT as u64) =>
            {
                *range = offset as usize..end as usize;
            }
            _ => return Err(damaged(table_at, format!("section {section:?}"))),
        }
    }
    Ok(ranges)
}

fn check_lengths(
    sections: &[Range<usize>; Section::ALL.len()],
    metric: Metric,
    dim: usize,
    rows: usize,
    pivots: usize,
) -> Result<(), UnitError> {
    let stride = Grid::stride_of(metric, dim);
    for (section, range) in Section::ALL.into_iter().zip(sections) {
        let right = match section {
            Section::Grid => range.len() == Grid::point_dim(metric, dim) * 4,
            Section::PivotCodes => range.len() == pivots.next_multiple_of(PANEL_ROWS) * stride,
            Section::PivotNorms | Section::PivotRows => range.len() == pivots * 4,
            Section::PivotStarts => range.len() == (pivots + 1) * 4,
            Section::Codes => range.len() == rows * stride,
            Section::Norms | Section::Errors | Section::ById => range.len() == rows * 4,
            Section::Graph => range.len() == rows * LIST_BYTES,
            Section::RowIds => range.len() == rows * 8,
            Section::Calibration => range.len().is_multiple_of(POINT_BYTES),
            Section::Statistics => range.len() == STATISTICS_BYTES,
            Section::Checksums => range.len() == range.start.div_ceil(BLOCK_BYTES) * 4,
        };
        if !right {
            return Err(damaged(range.start, format!("length of section {section:?}")));
        }
    }
    Ok(())
}

fn calibration(bytes: &[u8]) -> Calibration {
    let point = |bytes: &[u8]| CalibrationPoint {
        k: read!(bytes, 0, u32),
        ef: read!(bytes, 4, u32),
        recall: read!(bytes, 8, f32),
        scored: read!(bytes, 12, f32),
    };
    let points = bytes.chunks_exact(POINT_BYTES).map(point);
    // A damaged point must not make a search unbounded.
    Calibration { points: points.filter(|point| (1..1 << 16).contains(&point.ef)).collect() }
}

fn statistics(bytes: &[u8]) -> Result<BuildStatistics, UnitError> {
    let builder = match bytes[0] {
        0 => Builder::Partition,
        1 => Builder::HnswRs,
        other => return Err(damaged(0, format!("unknown builder {other}"))),
    };
    Ok(BuildStatistics {
        seconds: 0.0,
        builder,
        improved: read!(bytes, 4, u32),
        seed: read!(bytes, 8, u64),
        target_recall: read!(bytes, 16, f32),
    })
}
