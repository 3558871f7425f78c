//! The graph: up to 32 neighbours of every row.

use super::BuildError;
use super::candidates::{Candidates, Key, distance_of, key, row_of};
use super::space::Space;
use crate::distance::CodeQuery;
use crate::parallel::{Work, each};

/// Most neighbours of a row.
pub const DEGREE: usize = 32;
/// Fills up a list of neighbours.
pub const NO_ROW: u32 = u32::MAX;

/// Neighbours of one row, [`NO_ROW`] after the last.
pub type Neighbours = [u32; DEGREE];

/// What a walk goes over.
pub trait Adjacency {
    /// The neighbours of `row`; none when there is no such row.
    fn neighbours(&self, row: u32) -> Neighbours;
    /// Brings the neighbours of `row` nearer to the processor.
    fn prefetch(&self, row: u32);
}

/// Neighbours of all rows, in memory.
#[derive(Clone, Debug, Default)]
pub struct Graph(pub(crate) Vec<Neighbours>);

impl Adjacency for Graph {
    fn neighbours(&self, row: u32) -> Neighbours {
        self.0.get(row as usize).copied().unwrap_or([NO_ROW; DEGREE])
    }
    fn prefetch(&self, row: u32) {
        if let Some(neighbours) = self.0.get(row as usize) {
            crate::distance::prefetch(neighbours);
        }
    }
}

impl Graph {
    /// No neighbours for `rows` rows.
    pub(crate) fn empty(rows: usize) -> Self {
        Self(vec![[NO_ROW; DEGREE]; rows])
    }

    /// The neighbours of `row` that are there.
    pub(crate) fn list(&self, row: u32) -> &[u32] {
        let list = &self.0[row as usize];
        &list[..list.iter().position(|&n| n == NO_ROW).unwrap_or(DEGREE)]
    }

    fn set(list: &mut Neighbours, keys: &[Key]) {
        list.fill(NO_ROW);
        list.iter_mut().zip(keys).for_each(|(to, &key)| *to = row_of(key));
    }
}

/// Rows pruned by one thread before it takes the next.
const CHUNK_ROWS: usize = 256;

/// Buffers of [`diverse`].
#[derive(Debug, Default)]
pub(crate) struct PruneScratch {
    query: CodeQuery,
    ids: Vec<u32>,
    scores: Vec<f32>,
    rest: Vec<Key>,
    kept: Vec<Key>,
}

/// Chooses neighbours among `keys` (ascending): the nearest, then each that is nearer to the row than `slack` times
/// its distance to any chosen before (relative neighbourhood). At most `limit`, in ascending order.
pub(crate) fn diverse<'s>(
    space: &Space<'_>,
    keys: &[Key],
    (limit, slack): (usize, f32),
    scratch: &'s mut PruneScratch,
) -> &'s [Key] {
    let PruneScratch { query, ids, scores, rest, kept } = scratch;
    kept.clear();
    rest.clear();
    rest.extend_from_slice(keys);
    while let Some(&nearest) = rest.first() {
        kept.push(nearest);
        rest.remove(0);
        if kept.len() == limit || rest.is_empty() {
            break;
        }
        let chosen = row_of(nearest);
        space.ask_row(chosen, query);
        ids.clear();
        ids.extend(rest.iter().map(|&key| row_of(key)));
        scores.resize(ids.len().max(scores.len()), 0.0);
        space.scores(ids, query, scores);
        let constant = space.constant(chosen);
        let mut place = 0;
        rest.retain(|&key| {
            let between = scores[place] + constant;
            place += 1;
            between * slack >= distance_of(key)
        });
    }
    kept
}

/// How lists become a graph.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Pruning {
    /// Neighbours chosen from a row's own candidates.
    pub(crate) forward: usize,
    /// A neighbour stays when it is nearer than this times its distance to a nearer one; squared distances.
    pub(crate) slack: f32,
}

/// The graph of diverse neighbours among `candidates`, edges in both directions.
///
/// # Errors
/// Cancellation.
pub(crate) fn prune(
    space: &Space<'_>,
    candidates: Candidates,
    pruning: Pruning,
    work: &Work<'_>,
) -> Result<Graph, BuildError> {
    let limits = (pruning.forward, pruning.slack);
    let both = both_ends(space, work, |row, scratch| {
        (diverse(space, candidates.list(row), limits, scratch), Named::Both)
    })?;
    // As large as what is left to make.
    drop(candidates);
    settle(space, &both, pruning, work)
}

/// Who is told of the edges of a row.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Named {
    /// The row itself: its neighbours know already.
    Own,
    /// The row and its neighbours.
    Both,
}

/// The neighbours (ascending) that `choose` finds for each row, with what a thread reuses between rows, and the rows that named each.
///
/// # Errors
/// Cancellation.
pub(super) fn both_ends<S: Default>(
    space: &Space<'_>,
    work: &Work<'_>,
    choose: impl Fn(u32, &mut S) -> (&[Key], Named) + Sync,
) -> Result<Candidates, BuildError> {
    let rows = space.rows.len();
    let mut both = Candidates::new(rows, DEGREE * 2);
    let shared = both.share();
    each(work, (0..rows).step_by(CHUNK_ROWS), |first| {
        let mut scratch = S::default();
        for row in first as u32..rows.min(first + CHUNK_ROWS) as u32 {
            let (keys, named) = choose(row, &mut scratch);
            shared.add(row, keys);
            if named == Named::Both {
                for &neighbour in keys {
                    shared.add(row_of(neighbour), &[key(distance_of(neighbour), row)]);
                }
            }
        }
        Ok(())
    })?;
    drop(shared);
    Ok(both)
}

/// The graph of lists that name both ends of every edge; those longer than [`DEGREE`] are pruned.
///
/// # Errors
/// Cancellation.
pub(super) fn settle(
    space: &Space<'_>,
    both: &Candidates,
    pruning: Pruning,
    work: &Work<'_>,
) -> Result<Graph, BuildError> {
    let mut graph = Graph::empty(space.rows.len());
    each(work, graph.0.chunks_mut(CHUNK_ROWS).enumerate(), |(chunk, lists)| {
        let mut scratch = PruneScratch::default();
        for (i, list) in lists.iter_mut().enumerate() {
            let keys = both.list((chunk * CHUNK_ROWS + i) as u32);
            if keys.len() <= DEGREE {
                Graph::set(list, keys);
            } else {
                Graph::set(list, diverse(space, keys, (DEGREE, pruning.slack), &mut scratch));
            }
        }
        Ok(())
    })?;
    Ok(graph)
}
