//! A built unit in memory, before it is written.

use super::calibration::{Calibration, Compared};
use crate::distance::{PANEL_ROWS, Panel};
use crate::hnsw::sketch::Sketch;
use crate::hnsw::{BuildError, Builder, Clustered, Graph};
use crate::quantize::{FILLER, Grid};

/// How a unit came to be.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct BuildStatistics {
    /// Wall time; not in the file, whose bytes are the same for every run.
    pub seconds: f64,
    /// Who chose the edges.
    pub builder: Builder,
    /// How often the graph was improved to reach the target.
    pub improved: u32,
    /// Seed of all choices.
    pub seed: u64,
    /// Recall that was asked for.
    pub target_recall: f32,
}

/// All sections of a unit. Row i is ordinal i.
#[derive(Clone, Debug)]
pub struct UnitParts {
    pub(crate) grid: Grid,
    pub(crate) codes: crate::distance::AlignedCodes,
    pub(crate) norms: Vec<f32>,
    pub(crate) errors: Vec<f32>,
    pub(crate) norm_max: f32,
    /// Error that few rows are above.
    pub(crate) error_high: f32,
    /// The pivots as a panel of what walks compare, as are their norms.
    pub(crate) pivot_codes: Vec<u8>,
    pub(crate) pivot_norms: Vec<f32>,
    pub(crate) pivot_rows: Vec<u32>,
    pub(crate) pivot_starts: Vec<u32>,
    pub(crate) graph: Graph,
    pub(crate) sketch: Option<Sketch>,
    pub(crate) row_ids: Vec<u64>,
    /// Ordinals by ascending row id.
    pub(crate) by_id: Vec<u32>,
    pub(crate) calibration: Calibration,
    pub(crate) statistics: BuildStatistics,
}

impl UnitParts {
    /// Brings together what the build made; `orphans` become pivots without a cluster.
    ///
    /// # Errors
    /// [`BuildError::DuplicateId`].
    pub(crate) fn new(
        clustered: Clustered,
        (graph, orphans): (Graph, Vec<u32>),
        sketch: Option<Sketch>,
        row_ids: Vec<u64>,
        calibration: Calibration,
        statistics: BuildStatistics,
    ) -> Result<Self, BuildError> {
        let Clustered { codes, mut pivots, mut starts, .. } = clustered;
        let mut by_id: Vec<u32> = (0..row_ids.len() as u32).collect();
        by_id.sort_unstable_by_key(|&ordinal| row_ids[ordinal as usize]);
        let ids = by_id.windows(2).map(|pair| (row_ids[pair[0] as usize], row_ids[pair[1] as usize]));
        if let Some((id, _)) = ids.into_iter().find(|(a, b)| a == b) {
            return Err(BuildError::DuplicateId { id });
        }
        starts.resize(starts.len() + orphans.len(), row_ids.len() as u32);
        pivots.extend(orphans);
        let compared = match (calibration.compared, &sketch) {
            (Compared::Sketches, Some(sketch)) => &sketch.codes,
            _ => &codes,
        };
        let space = compared.space();
        let mut pivot_codes = vec![FILLER; pivots.len().next_multiple_of(PANEL_ROWS) * space.rows.stride()];
        for (i, &row) in pivots.iter().enumerate() {
            Panel::put(&mut pivot_codes, i, space.rows.row(row));
        }
        Ok(Self {
            norm_max: codes.norm_max(),
            error_high: high(&codes.errors),
            pivot_norms: pivots.iter().map(|&row| compared.norms[row as usize]).collect(),
            grid: codes.grid,
            codes: codes.codes,
            norms: codes.norms,
            errors: codes.errors,
            pivot_codes,
            pivot_rows: pivots,
            pivot_starts: starts,
            graph,
            sketch,
            row_ids,
            by_id,
            calibration,
            statistics,
        })
    }

    /// How many rows the unit holds.
    #[must_use]
    pub fn len(&self) -> usize {
        self.row_ids.len()
    }

    /// Whether it holds none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.row_ids.is_empty()
    }

    /// How it was built.
    #[must_use]
    pub fn statistics(&self) -> &BuildStatistics {
        &self.statistics
    }

    /// What it knows about its recall.
    #[must_use]
    pub fn calibration(&self) -> &Calibration {
        &self.calibration
    }
}

/// The error that one row in a hundred exceeds.
pub(crate) fn high(errors: &[f32]) -> f32 {
    if errors.is_empty() {
        return 0.0;
    }
    let mut sorted = errors.to_vec();
    let place = (sorted.len() - 1) * 99 / 100;
    *sorted.select_nth_unstable_by(place, f32::total_cmp).1
}
