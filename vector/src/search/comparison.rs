//! What a walk compares: a query and rows, as codes or as sketches.

use crate::distance::CodeQuery;
use crate::hnsw::Space;
use crate::unit::Guard;
use crate::unit::codec::Section;

/// Rows and a query in one form.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Comparison<'a> {
    space: Space<'a>,
    query: &'a CodeQuery,
    /// Where the rows lie.
    sections: [Section; 2],
}

impl<'a> Comparison<'a> {
    /// Of codes.
    pub(crate) fn codes(space: Space<'a>, query: &'a CodeQuery) -> Self {
        Self { space, query, sections: [Section::Codes, Section::Norms] }
    }

    /// Of sketches.
    pub(crate) fn sketches(space: Space<'a>, query: &'a CodeQuery) -> Self {
        Self { space, query, sections: [Section::SketchCodes, Section::SketchNorms] }
    }

    /// Writes the scores of `rows` to the beginning of `scores`, which grows when it is too short.
    ///
    /// # Errors
    /// The guard's.
    #[inline]
    pub(crate) fn scores<G: Guard>(
        &self,
        rows: &[u32],
        scores: &mut Vec<f32>,
        guard: &G,
    ) -> Result<(), G::Damage> {
        scores.resize(scores.len().max(rows.len()), 0.0);
        guard.rows(self.sections, rows)?;
        self.space.scores(rows, self.query, scores);
        Ok(())
    }
}
