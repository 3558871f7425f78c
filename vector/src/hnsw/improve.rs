//! Chooses the neighbours of rows anew among what a walk over the graph finds near them.
//!
//! One pass does what inserting the rows one by one would (Malkov and Yashunin 2016; Vamana), but against a graph that stands still, so
//! that rows are independent of each other and of the number of threads. It inserts rows that were held out, and raises the recall
//! of a graph that is below its target.

use super::BuildError;
use super::candidates::{Key, key};
use super::graph::{DEGREE, Graph, Named, PruneScratch, Pruning, both_ends, diverse, settle};
use super::seeds::Seeds;
use super::space::Space;
use crate::distance::CodeQuery;
use crate::parallel::Work;
use crate::search::comparison::Comparison;
use crate::search::walk::{Reach, WalkScratch, walk};
use crate::unit::Trusted;

/// Rows to work on, and how.
pub(crate) struct Improve<'a> {
    pub(crate) seeds: &'a Seeds,
    /// Whether to choose the neighbours of a row anew.
    pub(crate) wanted: &'a [bool],
    /// Width of the walks.
    pub(crate) ef: usize,
    pub(crate) pruning: Pruning,
}

#[derive(Default)]
struct Scratch {
    query: CodeQuery,
    walk: WalkScratch,
    prune: PruneScratch,
    sums: Vec<i32>,
    keys: Vec<Key>,
}

/// The graph with the neighbours of the wanted rows chosen anew and named back.
///
/// # Errors
/// Cancellation.
pub(crate) fn improve(
    space: &Space<'_>,
    graph: &Graph,
    improve: &Improve<'_>,
    work: &Work<'_>,
) -> Result<Graph, BuildError> {
    let limits = (improve.pruning.forward, improve.pruning.slack);
    let both = both_ends(space, work, |row, scratch: &mut Scratch| {
        if !improve.wanted[row as usize] {
            present(space, graph, row, scratch);
            return (&scratch.keys, Named::Own);
        }
        found(space, graph, improve, row, scratch);
        (diverse(space, &scratch.keys, limits, &mut scratch.prune), Named::Both)
    })?;
    settle(space, &both, improve.pruning, work)
}

/// Keys of the neighbours `row` has.
fn present(space: &Space<'_>, graph: &Graph, row: u32, scratch: &mut Scratch) {
    let list = graph.list(row);
    let scores = &mut scratch.walk.scores;
    scores.resize(scores.len().max(DEGREE), 0.0);
    space.ask_row(row, &mut scratch.query);
    space.scores(list, &scratch.query, scores);
    let constant = space.constant(row);
    scratch.keys.clear();
    scratch.keys.extend(list.iter().zip(scores).map(|(&id, score)| key(*score + constant, id)));
    scratch.keys.sort_unstable();
}

/// Keys of the rows a walk finds near `row`.
fn found(space: &Space<'_>, graph: &Graph, improve: &Improve<'_>, row: u32, scratch: &mut Scratch) {
    let Scratch { query, walk: scratch, sums, keys, .. } = scratch;
    space.ask_row(row, query);
    scratch.clear(space.rows.len(), improve.ef);
    // The row itself may lead nowhere: it is not to fill a place of the pool.
    scratch.visited.first(row);
    let comparison = Comparison::codes(*space, query);
    let Ok(_) = scratch.seed(&comparison, graph.list(row).iter().copied(), &Trusted);
    let seeds = improve.seeds.nearest(space, query, sums).into_iter();
    let Ok(_) = scratch.seed(&comparison, seeds, &Trusted);
    let Ok(_) = walk(graph, &comparison, scratch, Reach::within(improve.ef), &Trusted);
    let constant = space.constant(row);
    keys.clear();
    keys.extend(scratch.pool.iter().map(|(score, id)| key(score + constant, id)));
    keys.sort_unstable();
}
