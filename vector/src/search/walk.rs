//! Best-first walk over a graph of codes.
//!
//! Owns: the loop every search and every build step runs. Does not own: where it begins, and what is made of the rows it found.
//! A walk ends: each row is scored at most once, whatever the graph says.

use super::pool::{Pool, Visited};
use crate::distance::CodeQuery;
use crate::hnsw::{Adjacency, DEGREE, Space};

/// What a walk reuses.
#[derive(Clone, Debug, Default)]
pub(crate) struct WalkScratch {
    pub(crate) pool: Pool,
    pub(crate) visited: Visited,
    pub(crate) ids: Vec<u32>,
    pub(crate) scores: Vec<f32>,
}

impl WalkScratch {
    /// Ready for a unit of `rows` rows and a pool of `width`.
    pub(crate) fn clear(&mut self, rows: usize, width: usize) {
        self.pool.clear(width);
        self.visited.clear(rows);
        self.scores.resize(self.scores.len().max(DEGREE), 0.0);
    }

    /// Puts rows in the pool that the walk begins from; returns how many were scored.
    pub(crate) fn seed(
        &mut self,
        space: &Space<'_>,
        query: &CodeQuery,
        rows: impl Iterator<Item = u32>,
    ) -> usize {
        let Self { pool, visited, ids, scores } = self;
        ids.clear();
        ids.extend(rows.filter(|&row| visited.first(row)));
        scores.resize(scores.len().max(ids.len()), 0.0);
        space.scores(ids, query, scores);
        ids.iter().zip(scores.iter()).for_each(|(&id, &score)| pool.offer(score, id));
        ids.len()
    }
}

/// Expands the pool of `scratch` until all of its rows are. Returns how many rows were scored and how many expanded.
pub(crate) fn walk(
    graph: &impl Adjacency,
    space: &Space<'_>,
    query: &CodeQuery,
    scratch: &mut WalkScratch,
) -> (usize, usize) {
    let WalkScratch { pool, visited, ids, scores } = scratch;
    let (mut scored, mut expanded) = (0, 0);
    while let Some(row) = pool.expand() {
        expanded += 1;
        if let Some(next) = pool.peek() {
            graph.prefetch(next);
        }
        ids.clear();
        // A list ends with numbers that are no rows, which are never new.
        ids.extend(graph.neighbours(row).into_iter().filter(|&neighbour| visited.first(neighbour)));
        space.scores(ids, query, scores);
        scored += ids.len();
        ids.iter().zip(scores.iter()).for_each(|(&id, &score)| pool.offer(score, id));
    }
    (scored, expanded)
}
