//! Bytes of a unit, little-endian throughout.
//!
//! ```text
//! header, 128 bytes
//!   0 [8] "CAIRNVEC"        8 u16 format version (3)    10 u8 metric (0 L2, 1 cosine, 2 inner product, 3 L1)
//!  11 u8 walks compare (0 codes, 1 sketches)
//!  12 u32 features: bits a reader must know (none yet)
//!  16 u32 dimension        20 u32 stride: bytes of a row of codes, a multiple of 64
//!  24 u64 rows             32 u32 pivots                36 u32 reserved (0)
//!  40 f32 step of the grid 44 f32 longest row (inner product)
//!  48 f32 largest norm     52 f32 error exceeded by one row in a hundred
//!  56 reserved (0)        124 u32 crc32c of the 124 bytes before
//! sections in this order, each at a multiple of 64, zeros between; format version 1 has no 15 to 18, those of version 2
//! are not read, nor is what its walks compare, as if the unit had no sketches
//!   1 grid          f32 per component of a point: value of code 0
//!   2 pivot codes   panel: groups of 16 rows interleaved by 4 bytes; of what walks compare, as are the norms
//!   3 pivot norms   f32 per pivot
//!   4 pivot rows    u32 per pivot: its ordinal
//!   5 pivot starts  u32 per pivot and one more: pivot i stands for ordinals start[i]..start[i + 1]
//!   6 codes         stride bytes per row, filled up with 128
//!   7 norms         f32 per row
//!   8 errors        f32 per row: bound on the distance between point and code
//!   9 graph         32 u32 per row: ordinals of neighbours, 0xFFFFFFFF after the last
//!  10 row ids       u64 per row
//!  11 by id         u32 per row: ordinals in ascending order of row id
//!  12 calibration   16 bytes per point: u32 k, u32 width, f32 recall, f32 rows scored
//!  13 statistics    u8 builder (0 partition, 1 hnsw_rs), 3 reserved, u32 improved, u64 seed, f32 target recall
//!  15 sketch grid   f32 step, largest norm, error no row exceeds, part of the rows left; then 64 f32: value of code 0 per
//!                   component, 64 f32: scale of each axis, 64 i32: product of the centre with each axis and with itself.
//!                   This section and the next three are empty without sketches
//!  16 sketch axes   panel as the pivot codes: 63 axes, then the centre
//!  17 sketch codes  64 bytes per row
//!  18 sketch norms  f32 per row; -1e30: the sketch says nothing of the row, whose error is larger
//!  14 checksums     u32 per 64 KiB block of all bytes before this section: crc32c
//! section table, 24 bytes per section: u32 section, u32 reserved (0), u64 offset, u64 length
//! tail, 40 bytes
//!   0 u64 offset of the checksums   8 u64 offset of the section table   16 u64 length of the file
//!  24 u32 sections                 28 u32 crc32c from the checksums up to here   32 [8] "CAIRNEND"
//! ```

mod write;

use super::calibration::Compared;
use crate::metric::Metric;

pub(super) const MAGIC: [u8; 8] = *b"CAIRNVEC";
pub(super) const END_MAGIC: [u8; 8] = *b"CAIRNEND";
pub(super) const FORMAT_VERSION: u16 = 3;
/// The first format version with sketches as they are now.
pub(super) const SKETCHES_SINCE: u16 = 3;
/// Feature bits this version knows.
pub(super) const FEATURES: u32 = 0;
pub(super) const HEADER_BYTES: usize = 128;
pub(super) const SECTION_BYTES: usize = 24;
pub(super) const TAIL_BYTES: usize = 40;
/// Where in the tail its checksum lies.
pub(super) const TAIL_CHECKSUM_AT: usize = 28;
pub(super) const ALIGNMENT: usize = 64;
/// Bytes per checksum.
pub const BLOCK_BYTES: usize = 64 * 1024;
pub(super) const POINT_BYTES: usize = 16;
pub(super) const STATISTICS_BYTES: usize = 20;
/// Of the sketch grid, before the lowest values.
pub(super) const SKETCH_HEAD_BYTES: usize = 16;
/// Of all of it.
pub(super) const SKETCH_GRID_BYTES: usize = SKETCH_HEAD_BYTES + 3 * 4 * crate::quantize::WIDTH;

const _: () = assert!(HEADER_BYTES.is_multiple_of(ALIGNMENT) && BLOCK_BYTES.is_multiple_of(ALIGNMENT));

/// A section, by its number in the file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
pub enum Section {
    /// Value of code 0 by component.
    Grid = 1,
    /// Codes of the pivots, or their sketches: what walks compare.
    PivotCodes,
    /// Norms of the pivots.
    PivotNorms,
    /// Ordinals of the pivots.
    PivotRows,
    /// First ordinals of their clusters.
    PivotStarts,
    /// Codes of all rows.
    Codes,
    /// Norms of all rows.
    Norms,
    /// Errors of all rows.
    Errors,
    /// Neighbours of all rows.
    Graph,
    /// Row id by ordinal.
    RowIds,
    /// Ordinals by row id.
    ById,
    /// Recall by width.
    Calibration,
    /// How the unit was built.
    Statistics,
    /// Checksums of the blocks before.
    Checksums,
    /// How projections became codes, and what these are worth.
    SketchGrid,
    /// What rows are projected on.
    SketchAxes,
    /// Codes of the projections of all rows.
    SketchCodes,
    /// Their norms.
    SketchNorms,
}

impl Section {
    /// All, in the order of the file.
    pub const ALL: [Section; 18] = [
        Section::Grid,
        Section::PivotCodes,
        Section::PivotNorms,
        Section::PivotRows,
        Section::PivotStarts,
        Section::Codes,
        Section::Norms,
        Section::Errors,
        Section::Graph,
        Section::RowIds,
        Section::ById,
        Section::Calibration,
        Section::Statistics,
        Section::SketchGrid,
        Section::SketchAxes,
        Section::SketchCodes,
        Section::SketchNorms,
        Section::Checksums,
    ];

    /// Those a file of this format version has, in its order.
    pub(super) fn of_format(version: u16) -> Vec<Section> {
        let had = |section: &Section| version > 1 || !section.is_of_sketches();
        Self::ALL.into_iter().filter(had).collect()
    }

    /// Whether it is empty in a unit without sketches.
    pub(super) fn is_of_sketches(self) -> bool {
        SKETCH_SECTIONS.contains(&self)
    }
}

/// Empty in a unit without sketches.
pub(super) const SKETCH_SECTIONS: [Section; 4] =
    [Section::SketchGrid, Section::SketchAxes, Section::SketchCodes, Section::SketchNorms];

/// The number of a metric in the header.
pub(super) fn metric_number(metric: Metric) -> u8 {
    match metric {
        Metric::L2 => 0,
        Metric::Cosine => 1,
        Metric::InnerProduct => 2,
        Metric::L1 => 3,
    }
}

pub(super) fn metric_of(number: u8) -> Option<Metric> {
    Metric::ALL.into_iter().find(|&metric| metric_number(metric) == number)
}

/// The number in the header of what walks compare.
pub(super) fn compared_number(compared: Compared) -> u8 {
    match compared {
        Compared::Codes => 0,
        Compared::Sketches => 1,
    }
}

/// The integer or float at `at`; the caller has checked the length.
macro_rules! read {
    ($bytes:expr, $at:expr, $type:ty) => {{
        let mut raw = [0; size_of::<$type>()];
        raw.copy_from_slice(&$bytes[$at..$at + size_of::<$type>()]);
        <$type>::from_le_bytes(raw)
    }};
}
pub(super) use read;
