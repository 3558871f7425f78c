//! Best-first walk over a graph of codes.
//!
//! Owns: the loop every search and every build step runs. Does not own: where it begins, what is made of the rows it found, and
//! whether bytes may be read, which it asks a [`Guard`] before it reads them.
//! A walk ends: each row is scored at most once, whatever the graph says.

use super::pool::{Pool, Visited};
use crate::distance::CodeQuery;
use crate::hnsw::{Adjacency, DEGREE, Space};
use crate::unit::Guard;
use crate::unit::codec::Section;

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
    ///
    /// # Errors
    /// The guard's.
    pub(crate) fn seed<G: Guard>(
        &mut self,
        space: &Space<'_>,
        query: &CodeQuery,
        rows: impl Iterator<Item = u32>,
        guard: &G,
    ) -> Result<usize, G::Damage> {
        let Self { pool, visited, ids, scores } = self;
        ids.clear();
        ids.extend(rows.filter(|&row| visited.first(row)));
        scores.resize(scores.len().max(ids.len()), 0.0);
        guard.codes(ids)?;
        space.scores(ids, query, scores);
        ids.iter().zip(scores.iter()).for_each(|(&id, &score)| pool.offer(score, id));
        Ok(ids.len())
    }
}

/// Expands the pool of `scratch` until all of its rows are. Returns how many rows were scored and how many expanded.
///
/// # Errors
/// The guard's.
pub(crate) fn walk<G: Guard>(
    graph: &impl Adjacency,
    space: &Space<'_>,
    query: &CodeQuery,
    scratch: &mut WalkScratch,
    guard: &G,
) -> Result<(usize, usize), G::Damage> {
    let WalkScratch { pool, visited, ids, scores } = scratch;
    let (mut scored, mut expanded) = (0, 0);
    while let Some(row) = pool.expand() {
        expanded += 1;
        if let Some(next) = pool.peek() {
            graph.prefetch(next);
        }
        guard.row(Section::Graph, row)?;
        ids.clear();
        // A list ends with numbers that are no rows, which are never new.
        ids.extend(graph.neighbours(row).into_iter().filter(|&neighbour| visited.first(neighbour)));
        guard.codes(ids)?;
        space.scores(ids, query, scores);
        scored += ids.len();
        ids.iter().zip(scores.iter()).for_each(|(&id, &score)| pool.offer(score, id));
    }
    Ok((scored, expanded))
}
