//! Where a walk begins: the pivots nearest to its query.

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
        nearest(scores.zip(self.rows.iter().copied()))
    }
}

/// The rows with the smallest scores; [`NO_ROW`](super::NO_ROW) where there are fewer.
pub(crate) fn nearest(scored: impl Iterator<Item = (f32, u32)>) -> [u32; SEEDS] {
    let mut best = [(f32::INFINITY, super::NO_ROW); SEEDS];
    for (score, row) in scored {
        if score < best[SEEDS - 1].0 {
            let at = best.partition_point(|other| other.0 <= score);
            best.copy_within(at..SEEDS - 1, at + 1);
            best[at] = (score, row);
        }
    }
    best.map(|(_, row)| row)
}
