//! Best-first walk over a graph of codes.
//!
//! Owns: the loop every search and every build step runs. Does not own: where it begins, what is made of the rows it found, and
//! whether bytes may be read, which it asks a [`Guard`] before it reads them.
//! A walk ends: each row is scored at most once, whatever the graph says.
//!
//! A walk among all rows expands the `width` nearest it has seen, and those beyond that are hardly farther than the answer
//! ([`Reach`]): where rows about as near lie in several places, those of one place alone fill the width, and the answer may lie
//! in another.
//!
//! A walk for matching rows expands every row, matching or not, and ends when no row that waits is nearer than the worst of the
//! `width` nearest matching ones, or hardly farther than the answer among them: among rows that match it costs what a plain
//! walk does, and it leaves a region where none does.

use super::comparison::Comparison;
use super::filter::Filter;
use super::pool::{Frontier, Pool, Visited};
use crate::hnsw::Adjacency;
use crate::quantize::QueryCode;
use crate::unit::Guard;
use crate::unit::codec::Section;

/// New rows that a walk among all rows looks for before it scores them: fewer are waited for one after the other.
const SCORED_TOGETHER: usize = 16;
/// Nearest rows by which the surroundings of a query are judged.
const NEAR: usize = 32;

/// Rows of the answer, the last of which those beyond the width of a walk are measured by: at least as many as make it steady, at
/// most as many as leave the width of longer answers, which is large, as it is.
pub(crate) const ANSWER_MIN: usize = 10;
const ANSWER_MAX: usize = 32;
/// How many times as far as that row they may be.
const HARDLY_FARTHER: f64 = 1.08;
/// Times its width that a walk expands at most.
const REACH: usize = 4;
/// Times its width that a walk finds at most: codes and sketches order rows only nearly as they are, so that some of the answer
/// lie beyond the width, but few of them far beyond.
pub(crate) const FOUND: usize = 2;

/// How far a walk goes.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Reach<'a> {
    width: usize,
    /// The place of the row that others are measured by.
    last: usize,
    /// What the walk compares rows to; None: it ends at its width.
    query: Option<&'a QueryCode>,
}

impl<'a> Reach<'a> {
    /// To the `width` nearest rows, and on among those hardly farther than the `k` nearest to `query`.
    pub(crate) fn beyond(width: usize, k: usize, query: &'a QueryCode) -> Self {
        Self { width, last: k.clamp(ANSWER_MIN, ANSWER_MAX) - 1, query: Some(query) }
    }

    /// To the `width` nearest rows.
    pub(crate) fn within(width: usize) -> Self {
        Self { width, last: 0, query: None }
    }

    /// Rows its pool has room for.
    pub(crate) fn room(&self) -> usize {
        self.width.max(1).saturating_mul(if self.query.is_some() { REACH } else { 1 })
    }

    /// Rows of its pool, of the nearest, that it has found.
    pub(crate) fn found(&self) -> usize {
        self.room().min(self.width.max(1).saturating_mul(FOUND))
    }

    /// The score up to which rows beyond the width are expanded.
    #[inline]
    fn limit(&self, pool: &Pool) -> f32 {
        let score = pool.score(self.last);
        self.query.map_or(f32::NEG_INFINITY, |query| query.farther(score, HARDLY_FARTHER))
    }

    /// The score up to which rows are expanded where the pool holds those that match alone.
    #[inline]
    fn end(&self, pool: &Pool) -> f32 {
        let beyond = self.limit(pool).min(pool.limit());
        pool.score(self.width.max(1) - 1).max(beyond)
    }
}

/// What a walk reuses.
#[derive(Clone, Debug, Default)]
pub(crate) struct WalkScratch {
    pub(crate) pool: Pool,
    pub(crate) visited: Visited,
    pub(crate) ids: Vec<u32>,
    pub(crate) scores: Vec<f32>,
    /// Of a walk for matching rows, whose pool holds those alone.
    frontier: Frontier,
    /// The nearest rows it has seen first, matching or not.
    near: Pool,
}

impl WalkScratch {
    /// Ready for a unit of `rows` rows and a pool of `width`.
    pub(crate) fn clear(&mut self, rows: usize, width: usize) {
        self.pool.clear(width);
        self.visited.clear(rows);
        self.frontier.clear();
        self.near.clear(NEAR);
    }

    /// Puts rows in the pool that the walk begins from; returns how many were scored.
    ///
    /// # Errors
    /// The guard's.
    pub(crate) fn seed<G: Guard>(
        &mut self,
        comparison: &Comparison<'_>,
        rows: impl Iterator<Item = u32>,
        guard: &G,
    ) -> Result<usize, G::Damage> {
        self.score(comparison, rows, guard)?;
        let Self { pool, ids, scores, .. } = self;
        ids.iter().zip(scores.iter()).for_each(|(&id, &score)| pool.offer(score, id));
        Ok(ids.len())
    }

    /// Scores those of the rows that were not seen yet.
    fn score<G: Guard>(
        &mut self,
        comparison: &Comparison<'_>,
        rows: impl Iterator<Item = u32>,
        guard: &G,
    ) -> Result<(), G::Damage> {
        let Self { visited, ids, scores, .. } = self;
        ids.clear();
        ids.extend(rows.filter(|&row| visited.first(row)));
        comparison.scores(ids, scores, guard)
    }

    /// As [`seed`](Self::seed), for a walk for matching rows.
    ///
    /// # Errors
    /// The guard's.
    pub(crate) fn seed_matching<G: Guard>(
        &mut self,
        comparison: &Comparison<'_>,
        rows: impl Iterator<Item = u32>,
        filter: Filter<'_>,
        guard: &G,
    ) -> Result<usize, G::Damage> {
        self.score(comparison, rows, guard)?;
        self.offer(filter, f32::INFINITY, true);
        Ok(self.ids.len())
    }

    /// Sorts the scored rows in, which are expanded up to the score `end`; `first`: they are among the first that are seen.
    #[inline]
    fn offer(&mut self, filter: Filter<'_>, end: f32, first: bool) {
        let Self { pool, ids, scores, frontier, near, .. } = self;
        for (&id, &score) in ids.iter().zip(scores.iter()) {
            if first {
                near.offer(score, id);
            }
            if score <= end {
                frontier.push(score, id);
            }
            if filter.contains(id) {
                pool.offer(score, id);
            }
        }
    }

    /// The part of the nearest rows seen first that matches.
    pub(crate) fn near_matching(&self, filter: Filter<'_>) -> f32 {
        let matching = self.near.iter().filter(|&(_, row)| filter.contains(row)).count();
        matching as f32 / self.near.iter().len().max(1) as f32
    }
}

/// What a part of a walk for matching rows did.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Walked {
    pub(crate) scored: usize,
    pub(crate) expanded: usize,
    /// Whether the walk is at its end.
    pub(crate) ended: bool,
}

/// Walks on for matching rows until the end, or until about `scored_max` rows more are scored. `first`: the rows it sees are the first.
///
/// # Errors
/// The guard's.
pub(crate) fn walk_matching<G: Guard>(
    graph: &impl Adjacency,
    comparison: &Comparison<'_>,
    scratch: &mut WalkScratch,
    (filter, reach): (Filter<'_>, Reach<'_>),
    (scored_max, first): (usize, bool),
    guard: &G,
) -> Result<Walked, G::Damage> {
    let mut walked = Walked { scored: 0, expanded: 0, ended: true };
    while let Some((score, row)) = scratch.frontier.pop() {
        let end = reach.end(&scratch.pool);
        if score > end {
            return Ok(walked);
        }
        if walked.scored >= scored_max {
            scratch.frontier.push(score, row);
            walked.ended = false;
            return Ok(walked);
        }
        walked.expanded += 1;
        if let Some(next) = scratch.frontier.peek() {
            graph.prefetch(next);
        }
        guard.row(Section::Graph, row)?;
        let WalkScratch { visited, ids, scores, .. } = scratch;
        ids.clear();
        visited.add_first(&graph.neighbours(row), ids);
        comparison.scores(ids, scores, guard)?;
        walked.scored += ids.len();
        scratch.offer(filter, end, first);
    }
    Ok(walked)
}

/// Expands the pool of `scratch`, which has [`Reach::room`], as far as `reach`. Returns how many rows were scored and how many
/// expanded.
///
/// # Errors
/// The guard's.
pub(crate) fn walk<G: Guard>(
    graph: &impl Adjacency,
    comparison: &Comparison<'_>,
    scratch: &mut WalkScratch,
    reach: Reach<'_>,
    guard: &G,
) -> Result<(usize, usize), G::Damage> {
    let WalkScratch { pool, visited, ids, scores, .. } = scratch;
    let (mut scored, mut expanded) = (0, 0);
    loop {
        ids.clear();
        let limit = reach.limit(pool);
        while ids.len() < SCORED_TOGETHER
            && let Some(row) = pool.expand(reach.width, limit)
        {
            expanded += 1;
            if let Some(next) = pool.peek() {
                graph.prefetch(next);
            }
            guard.row(Section::Graph, row)?;
            // A list ends with numbers that are no rows, which are never new.
            visited.add_first(&graph.neighbours(row), ids);
        }
        if ids.is_empty() {
            return Ok((scored, expanded));
        }
        comparison.scores(ids, scores, guard)?;
        scored += ids.len();
        // The limit only falls: rows above it are never expanded beyond the width, nor found where there are nearer ones enough.
        let most = limit.max(pool.score(reach.found() - 1));
        let soon = pool.score(reach.width.max(1) - 1);
        for (&id, &score) in ids.iter().zip(scores.iter()).filter(|&(_, &score)| score <= most) {
            // Most of those that come in among the first are expanded, some at once.
            if score <= soon {
                graph.prefetch(id);
            }
            pool.offer(score, id);
        }
    }
}
