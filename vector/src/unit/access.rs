//! What the bytes of an open unit say, row by row.
//!
//! Owns: reading single values in place; each access stays inside its section, whatever the bytes hold. Does not own: whether they are
//! as they were written, which a [`Guard`](super::blocks) is asked before.

use bytes::Bytes;

use super::blocks::{FirstUse, Guard};
use super::calibration::Calibration;
use super::codec::{Section, read};
use super::open::{SketchGrid, Unit, UnitError, pivot_stride};
use super::parts::BuildStatistics;
use crate::distance::{CodeRows, CodeSum, Panel};
use crate::hnsw::{Adjacency, DEGREE, NO_ROW, Neighbours, Space};
use crate::metric::Metric;
use crate::quantize::{self, Grid, Projection, Sketching};

impl Unit {
    /// Bytes of one section.
    pub(crate) fn section(&self, section: Section) -> &[u8] {
        &self.bytes[self.sections[section as usize - 1].clone()]
    }

    /// Bytes of a row of a section that has one entry per row of the unit.
    #[inline]
    pub(super) fn row_bytes(&self, section: Section) -> usize {
        match section {
            Section::Codes => self.grid.stride(),
            Section::SketchCodes => quantize::WIDTH,
            Section::Graph => LIST_BYTES,
            Section::RowIds => 8,
            _ => 4,
        }
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

    /// Row id of an ordinal, which a search gave or asks the exact distance of: it has checked the block.
    #[must_use]
    pub fn row_id(&self, ordinal: u32) -> Option<u64> {
        let at = ordinal as usize * 8;
        self.section(Section::RowIds).get(at..at + 8).map(|bytes| read!(bytes, 0, u64))
    }

    /// Ordinal of a row id, by binary search.
    ///
    /// # Errors
    /// [`UnitError::Damaged`].
    pub fn ordinal_of(&self, row_id: u64) -> Result<Option<u32>, UnitError> {
        let by_id = self.section(Section::ById);
        let (mut from, mut to) = (0, self.rows);
        while from < to {
            let middle = from + (to - from) / 2;
            FirstUse(self).row(Section::ById, middle as u32)?;
            let ordinal = read!(by_id, middle * 4, u32);
            FirstUse(self).row(Section::RowIds, ordinal)?;
            match self.row_id(ordinal).map(|id| id.cmp(&row_id)) {
                Some(std::cmp::Ordering::Less) => from = middle + 1,
                Some(std::cmp::Ordering::Greater) => to = middle,
                Some(std::cmp::Ordering::Equal) => return Ok(Some(ordinal)),
                None => break,
            }
        }
        Ok(None)
    }

    /// All row ids, in ascending order; [`Unit::check_row_map`] comes first.
    pub fn row_ids(&self) -> impl DoubleEndedIterator<Item = u64> + '_ {
        self.rows_by_id().map(|(row_id, _)| row_id)
    }

    /// All row ids with their ordinals, in ascending order of the ids; [`Unit::check_row_map`] comes first.
    pub fn rows_by_id(&self) -> impl DoubleEndedIterator<Item = (u64, u32)> + '_ {
        let by_id = self.section(Section::ById).chunks_exact(4);
        by_id.filter_map(|bytes| {
            let ordinal = read!(bytes, 0, u32);
            self.row_id(ordinal).map(|row_id| (row_id, ordinal))
        })
    }

    pub(crate) fn space(&self) -> Space<'_> {
        let (codes, norms) = (self.section(Section::Codes), self.section(Section::Norms));
        Space { rows: CodeRows::new(codes, norms, self.grid.stride()), sum: self.grid.code_sum() }
    }

    /// Of what walks compare.
    pub(crate) fn pivots(&self) -> Panel<'_> {
        Panel::new(self.section(Section::PivotCodes), pivot_stride(self.calibration.compared, &self.grid))
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

    /// How its sketches are codes; None: it has none.
    pub(crate) fn sketch(&self) -> Option<&SketchGrid> {
        self.sketch.as_ref()
    }

    pub(crate) fn sketch_space(&self) -> Space<'_> {
        let (codes, norms) = (self.section(Section::SketchCodes), self.section(Section::SketchNorms));
        Space { rows: CodeRows::new(codes, norms, quantize::WIDTH), sum: CodeSum::Product }
    }

    /// How points become sketches; None: it has none.
    pub(crate) fn sketching(&self) -> Option<Sketching<'_>> {
        let SketchGrid { grid, norm_max, frame, .. } = self.sketch()?;
        let axes = Panel::new(self.section(Section::SketchAxes), self.grid.stride());
        Some(Sketching { projection: Projection::new(axes, frame)?, grid, norm_max: *norm_max })
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
