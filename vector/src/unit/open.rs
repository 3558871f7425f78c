//! A unit in use.

use std::ops::Range;
use std::sync::{Arc, OnceLock};

use bytes::Bytes;

use super::blocks::Blocks;
use super::calibration::{Calibration, CalibrationPoint, Compared};
use super::codec::{
    ALIGNMENT, BLOCK_BYTES, END_MAGIC, FEATURES, FORMAT_VERSION, HEADER_BYTES, MAGIC, POINT_BYTES,
    SECTION_BYTES, SKETCH_GRID_BYTES, SKETCH_HEAD_BYTES, SKETCHES_SINCE, STATISTICS_BYTES, Section,
    TAIL_BYTES, TAIL_CHECKSUM_AT, compared_number, metric_of, read,
};
use super::parts::BuildStatistics;
use crate::distance::PANEL_ROWS;
use crate::hnsw::{Builder, DEGREE};
use crate::metric::{DIM_MAX, Metric};
use crate::quantize::{self, Frame, Grid};
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

pub(super) fn damaged(offset: usize, problem: impl Into<String>) -> UnitError {
    UnitError::Damaged { offset: offset as u64, problem: problem.into() }
}

/// An index unit over its bytes, which are used in place. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Unit {
    pub(super) bytes: Bytes,
    pub(super) grid: Grid,
    pub(super) rows: usize,
    pub(super) norm_max: f32,
    pub(super) error_high: f32,
    pub(super) calibration: Calibration,
    pub(super) statistics: BuildStatistics,
    pub(super) sketch: Option<SketchGrid>,
    pub(super) sections: [Range<usize>; Section::ALL.len()],
    pub(super) blocks: Arc<Blocks>,
}

/// How the sketches of a unit are codes.
#[derive(Clone, Debug)]
pub(crate) struct SketchGrid {
    pub(crate) grid: Grid,
    pub(crate) norm_max: f32,
    /// Of the axes.
    pub(crate) frame: Frame,
    /// Bound on the distance between the projection of a row and its sketch.
    pub(crate) error_max: f32,
    /// Part of some thousand rows that a search has to look at in full.
    pub(crate) left: f32,
}

impl Unit {
    /// Opens a unit in constant time: reads header, tail, section table, grid and calibration, and checks the blocks these
    /// stand in. The others are checked by the first search that uses them, or by [`Unit::check_blocks`].
    ///
    /// # Errors
    /// [`UnitError`]; what is wrong in other sections is found by searches and by [`Unit::verify`].
    pub fn open(bytes: Bytes) -> Result<Self, UnitError> {
        let format = known_format(&bytes)?;
        let sections = sections(&bytes, format)?;
        let header = &bytes[..HEADER_BYTES];
        let (grid, rows) = header_grid(header)?;
        let compared = compared(header, format)?;
        let pivots = read!(header, 32, u32) as usize;
        check_lengths(&sections, &grid, rows, (pivots, compared))?;
        let blocks = sections[Section::Checksums as usize - 1].len() / 4;
        let mut unit = Self {
            grid,
            rows,
            norm_max: read!(header, 48, f32),
            error_high: read!(header, 52, f32),
            calibration: Calibration { compared, ..Calibration::default() },
            statistics: BuildStatistics::default(),
            sketch: None,
            bytes,
            sections,
            blocks: Arc::new(Blocks::unknown(blocks)),
        };
        for section in [Section::Grid, Section::Calibration, Section::Statistics, Section::SketchGrid] {
            unit.check(unit.sections[section as usize - 1].clone())?;
        }
        unit.grid.low = unit.section(Section::Grid).chunks_exact(4).map(|c| read!(c, 0, f32)).collect();
        unit.calibration = calibration(compared, unit.section(Section::Calibration));
        unit.statistics = statistics(unit.section(Section::Statistics))?;
        unit.sketch = sketch_grid(unit.section(Section::SketchGrid));
        Ok(unit)
    }
}

/// The ranges of all sections.
fn sections(bytes: &[u8], format: u16) -> Result<[Range<usize>; Section::ALL.len()], UnitError> {
    let present = Section::of_format(format);
    let table = section_table(bytes, present.len())?;
    let mut ranges = [const { 0..0 }; Section::ALL.len()];
    let entries = bytes[table.clone()].chunks_exact(SECTION_BYTES);
    let mut before = HEADER_BYTES as u64;
    for (section, entry) in present.into_iter().zip(entries) {
        let (offset, length) = (read!(entry, 8, u64), read!(entry, 16, u64));
        let named = read!(entry, 0, u32) == section as u32 && offset.is_multiple_of(ALIGNMENT as u64);
        // In order: so every section lies before the checksums, which are of all bytes before them.
        let ordered = offset >= before;
        match offset.checked_add(length) {
            Some(end) if named && ordered && end <= table.start as u64 => {
                before = end;
                if format >= SKETCHES_SINCE || !section.is_of_sketches() {
                    ranges[section as usize - 1] = offset as usize..end as usize;
                }
            }
            _ => return Err(damaged(table.start, format!("section {section:?}"))),
        }
    }
    Ok(ranges)
}

/// The format version.
fn known_format(bytes: &[u8]) -> Result<u16, UnitError> {
    if bytes.len() < HEADER_BYTES + TAIL_BYTES || bytes[..8] != MAGIC {
        return Err(damaged(0, "not an index unit"));
    }
    // A newer header has its checksum where this one has it: what is damaged is not taken for newer.
    if crc32c::crc32c(&bytes[..HEADER_BYTES - 4]) != read!(bytes, HEADER_BYTES - 4, u32) {
        return Err(damaged(0, "checksum of the header"));
    }
    let (format, features) = (read!(bytes, 8, u16), read!(bytes, 12, u32));
    if format > FORMAT_VERSION || features & !FEATURES != 0 {
        return Err(UnitError::Newer { format, features });
    }
    Ok(format)
}

/// Where the table of so many sections lies, from the tail; the checksum over both is right.
fn section_table(bytes: &[u8], sections: usize) -> Result<Range<usize>, UnitError> {
    let tail_at = bytes.len() - TAIL_BYTES;
    let tail = &bytes[tail_at..];
    let [checksums_at, table_at, length] = [0, 8, 16].map(|at| read!(tail, at, u64));
    if tail[32..] != END_MAGIC || length != bytes.len() as u64 {
        return Err(damaged(tail_at, "the tail is missing: the file was cut off or grew"));
    }
    if !(HEADER_BYTES as u64..=table_at).contains(&checksums_at) || table_at > tail_at as u64 {
        return Err(damaged(tail_at, "the tail points outside the file"));
    }
    let checked = &bytes[checksums_at as usize..tail_at + TAIL_CHECKSUM_AT];
    if crc32c::crc32c(checked) != read!(tail, TAIL_CHECKSUM_AT, u32) {
        return Err(damaged(checksums_at as usize, "checksum of the section table"));
    }
    if tail_at - table_at as usize != sections * SECTION_BYTES || read!(tail, 24, u32) as usize != sections {
        return Err(damaged(table_at as usize, "number of sections"));
    }
    Ok(table_at as usize..tail_at)
}

/// The grid in a header, still without its lowest values, and the number of rows.
fn header_grid(header: &[u8]) -> Result<(Grid, usize), UnitError> {
    let metric = metric_of(header[10]).ok_or_else(|| damaged(10, "unknown metric"))?;
    let (dim, stride) = (read!(header, 16, u32) as usize, read!(header, 20, u32) as usize);
    if dim == 0 || dim > DIM_MAX || stride != Grid::stride_of(metric, dim) {
        return Err(damaged(16, "dimension out of range"));
    }
    let rows = read!(header, 24, u64);
    if rows >= ROWS_MAX as u64 {
        return Err(damaged(24, "too many rows"));
    }
    let (step, length_max) = (read!(header, 40, f32), read!(header, 44, f32));
    if !(step.is_normal() && step > 0.0) {
        return Err(damaged(40, "step of the grid"));
    }
    Ok((Grid { metric, dim, step, length_max, low: vec![], rounding: OnceLock::new() }, rows as usize))
}

fn check_lengths(
    sections: &[Range<usize>; Section::ALL.len()],
    grid: &Grid,
    rows: usize,
    (pivots, compared): (usize, Compared),
) -> Result<(), UnitError> {
    let stride = grid.stride();
    // 0 without sketches, else 1.
    let sketches = usize::from(!sections[Section::SketchGrid as usize - 1].is_empty());
    for section in Section::ALL {
        let range = &sections[section as usize - 1];
        let right = match section {
            Section::Grid => range.len() == Grid::point_dim(grid.metric, grid.dim) * 4,
            Section::PivotCodes => {
                range.len() == pivots.next_multiple_of(PANEL_ROWS) * pivot_stride(compared, grid)
            }
            Section::PivotNorms | Section::PivotRows => range.len() == pivots * 4,
            Section::PivotStarts => range.len() == (pivots + 1) * 4,
            Section::Codes => range.len() == rows * stride,
            Section::Norms | Section::Errors | Section::ById => range.len() == rows * 4,
            Section::Graph => range.len() == rows * DEGREE * 4,
            Section::RowIds => range.len() == rows * 8,
            Section::Calibration => range.len().is_multiple_of(POINT_BYTES),
            Section::Statistics => range.len() == STATISTICS_BYTES,
            Section::SketchGrid => range.len() == sketches * SKETCH_GRID_BYTES,
            Section::SketchAxes => range.len() == sketches * quantize::WIDTH * stride,
            Section::SketchCodes => range.len() == sketches * rows * quantize::WIDTH,
            Section::SketchNorms => range.len() == sketches * rows * 4,
            Section::Checksums => range.len() == range.start.div_ceil(BLOCK_BYTES) * 4,
        };
        if !right {
            return Err(damaged(range.start, format!("length of section {section:?}")));
        }
    }
    Ok(())
}

/// None: there are no sketches, or no numbers to compare them by.
fn sketch_grid(bytes: &[u8]) -> Option<SketchGrid> {
    if bytes.len() != SKETCH_GRID_BYTES {
        return None;
    }
    let [step, norm_max, error_max, left] = [0, 4, 8, 12].map(|at| read!(bytes, at, f32));
    let at = |column: usize, place: usize| SKETCH_HEAD_BYTES + 4 * (column * quantize::WIDTH + place);
    let low = (0..quantize::WIDTH).map(|place| read!(bytes, at(0, place), f32)).collect();
    let frame = Frame {
        scales: std::array::from_fn(|place| read!(bytes, at(1, place), f32)),
        centre: std::array::from_fn(|place| read!(bytes, at(2, place), i32)),
    };
    let grid = Grid {
        metric: Metric::L2,
        dim: quantize::WIDTH,
        step,
        length_max: 0.0,
        low,
        rounding: OnceLock::new(),
    };
    let known = [norm_max, error_max, left].iter().chain(&frame.scales).all(|c| c.is_finite() && *c >= 0.0);
    (step.is_normal() && step > 0.0 && known && grid.low.iter().all(|c| c.is_finite()))
        .then_some(SketchGrid { grid, norm_max, frame, error_max, left })
}

/// Bytes of the codes of a pivot: pivots are what walks compare.
pub(super) fn pivot_stride(compared: Compared, grid: &Grid) -> usize {
    match compared {
        Compared::Codes => grid.stride(),
        Compared::Sketches => quantize::WIDTH,
    }
}

/// What walks compare.
fn compared(header: &[u8], format: u16) -> Result<Compared, UnitError> {
    if format < SKETCHES_SINCE {
        return Ok(Compared::Codes);
    }
    let all = [Compared::Codes, Compared::Sketches];
    let known = all.into_iter().find(|&compared| compared_number(compared) == header[11]);
    known.ok_or_else(|| damaged(11, "what walks compare"))
}

fn calibration(compared: Compared, bytes: &[u8]) -> Calibration {
    let point = |bytes: &[u8]| CalibrationPoint {
        k: read!(bytes, 0, u32),
        ef: read!(bytes, 4, u32),
        recall: read!(bytes, 8, f32),
        scored: read!(bytes, 12, f32),
    };
    let points = bytes.chunks_exact(POINT_BYTES).map(point);
    // A damaged point must not make a search unbounded.
    Calibration { compared, points: points.filter(|point| (1..1 << 16).contains(&point.ef)).collect() }
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
