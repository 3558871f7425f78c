//! Where a walk begins: the pivots nearest to its query.

use super::NO_ROW;
use super::space::{Pack, Space};
use crate::distance::{CodeQuery, Kernels};

/// Pivots a walk begins from.
pub(crate) const SEEDS: usize = 8;

/// Pivots of a graph that is being built.
#[derive(Debug)]
pub(crate) struct Seeds {
    pub(crate) pack: Pack,
    pub(crate) rows: Vec<u32>,
}

impl Seeds {
    pub(crate) fn new(space: &Space<'_>, rows: Vec<u32>) -> Self {
        let mut pack = Pack::default();
        pack.fill(space.rows.stride(), rows.iter().map(|&id| (space.rows.row(id), space.rows.norm(id))));
        Self { pack, rows }
    }

    /// The rows of the nearest pivots.
    pub(crate) fn nearest(&self, space: &Space<'_>, query: &CodeQuery, sums: &mut Vec<i32>) -> [u32; SEEDS] {
        let panel = self.pack.panel();
        sums.resize(panel.width(), 0);
        Kernels::get().codes.panel(space.sum, &panel, query.codes.bytes(), 1, sums);
        let norms = self.rows.iter().map(|&row| space.rows.norm(row));
        let scores = norms.zip(sums.iter()).map(|(norm, &sum)| query.score(norm, sum));
        nearest(scores).map(|pivot| self.rows.get(pivot as usize).copied().unwrap_or(NO_ROW))
    }
}

/// The places of the smallest scores; [`NO_ROW`] where there are fewer.
pub(crate) fn nearest(scores: impl Iterator<Item = f32>) -> [u32; SEEDS] {
    let mut best = [(f32::INFINITY, NO_ROW); SEEDS];
    for (place, score) in scores.enumerate() {
        if score < best[SEEDS - 1].0 {
            let mut at = SEEDS - 1;
            while at > 0 && score < best[at - 1].0 {
                best[at] = best[at - 1];
                at -= 1;
            }
            best[at] = (score, place as u32);
        }
    }
    best.map(|(_, place)| place)
}
