//! Measures recall by the width of the walk, on rows that are not in the graph yet.

use super::BuildError;
use super::candidates::{Key, key, row_of};
use super::encode::Clustered;
use super::graph::Graph;
use super::seeds::Seeds;
use super::space::{CompareScratch, Pack, compare};
use crate::metric::QueryDistance;
use crate::parallel::{Work, fold_chunks};
use crate::quantize::QueryCode;
use crate::rows::Rows;
use crate::search::walk::{WalkScratch, walk};
use crate::unit::{Calibration, CalibrationPoint};

/// Rows held out of a build.
pub(crate) const HELD_OUT: usize = 256;
/// Answers measured: the nearest 10, and the nearest 100.
const DEPTHS: [usize; 2] = [10, 100];
/// Rows near a held-out one that are compared exactly.
const TRUTH_ROWS: usize = 160;
const WIDTHS: [usize; 11] = [10, 16, 24, 32, 48, 64, 96, 128, 192, 256, 384];
/// Recall from which wider walks are not measured any more.
const RECALL_ENOUGH: f32 = 0.9995;
const CHUNK_ROWS: usize = 1024;

/// The held-out rows with their exact neighbours.
pub(crate) struct Truth {
    queries: Vec<Vec<f32>>,
    nearest: Vec<Vec<u32>>,
}

/// Finds the neighbours of the `held_out` ordinals among all other rows.
///
/// # Errors
/// Those of reading, and cancellation.
pub(crate) fn truth(
    rows: &dyn Rows,
    clustered: &Clustered,
    held_out: &[u32],
    work: &Work<'_>,
) -> Result<Truth, BuildError> {
    let space = clustered.codes.space();
    let mut pack = Pack::default();
    pack.fill(space.rows.stride(), held_out.iter().map(|&id| (space.rows.row(id), space.rows.norm(id))));
    let parts = fold_chunks(work, space.rows.len(), CHUNK_ROWS, |range| {
        let ids: Vec<u32> = (range.start as u32..range.end as u32).collect();
        let mut near: Vec<Vec<Key>> = vec![Vec::new(); held_out.len()];
        compare(&space, &ids, &pack, &mut CompareScratch::default(), |place, distances| {
            if held_out.binary_search(&ids[place]).is_err() {
                near.iter_mut().zip(distances).for_each(|(near, &d)| near.push(key(d as f32, ids[place])));
            }
        });
        near.iter_mut().for_each(|near| keep_smallest(near, TRUTH_ROWS));
        Ok(near)
    })?;
    let read = |ordinal: u32| {
        let mut vector = vec![0.0; rows.dim()];
        let row = clustered.order[ordinal as usize] as usize;
        rows.read(row..row + 1, &mut vector).map_err(BuildError::Rows)?;
        Ok::<_, BuildError>(vector)
    };
    let answers = fold_chunks(work, held_out.len(), 1, |range| {
        let mut near: Vec<Key> = parts.iter().flat_map(|part| part[range.start].iter().copied()).collect();
        keep_smallest(&mut near, TRUTH_ROWS);
        let query = read(held_out[range.start])?;
        let exact = QueryDistance::new(clustered.codes.grid.metric(), &query);
        let mut found = Vec::with_capacity(near.len());
        for key in near {
            let mut distance = [0.0];
            exact.many(crate::Floats::from(&read(row_of(key))?).bytes(), &mut distance);
            found.push((distance[0], row_of(key)));
        }
        found.sort_unstable_by(|a, b| a.0.total_cmp(&b.0).then(a.1.cmp(&b.1)));
        Ok((query, found.into_iter().map(|(_, row)| row).collect()))
    })?;
    let (queries, nearest) = answers.into_iter().unzip();
    Ok(Truth { queries, nearest })
}

fn keep_smallest(keys: &mut Vec<Key>, count: usize) {
    if keys.len() > count {
        keys.select_nth_unstable(count);
        keys.truncate(count);
    }
}

/// Recall of `graph` at growing widths. A neighbour counts as found when the walk has it in its pool: the bound on code
/// distances guarantees that reranking does not lose it.
///
/// # Errors
/// Cancellation.
pub(crate) fn measure(
    clustered: &Clustered,
    graph: &Graph,
    seeds: &Seeds,
    truth: &Truth,
    work: &Work<'_>,
) -> Result<Calibration, BuildError> {
    let mut points = Vec::new();
    for depth in DEPTHS {
        if truth.nearest.iter().any(|nearest| nearest.len() < depth) {
            break;
        }
        for width in WIDTHS.into_iter().filter(|&width| width >= depth) {
            let (found, scored) = total(clustered, graph, seeds, truth, (depth, width), work)?;
            let recall = found as f32 / (depth * truth.queries.len()) as f32;
            let scored = scored as f32 / truth.queries.len() as f32;
            points.push(CalibrationPoint { k: depth as u32, ef: width as u32, recall, scored });
            if recall >= RECALL_ENOUGH {
                break;
            }
        }
    }
    Ok(Calibration { points })
}

/// Neighbours found and rows scored by all queries.
fn total(
    clustered: &Clustered,
    graph: &Graph,
    seeds: &Seeds,
    truth: &Truth,
    (depth, width): (usize, usize),
    work: &Work<'_>,
) -> Result<(usize, usize), BuildError> {
    let (space, grid) = (clustered.codes.space(), &clustered.codes.grid);
    let norm_max = clustered.codes.norm_max();
    let parts = fold_chunks(work, truth.queries.len(), 32, |range| {
        let (mut scratch, mut query, mut sums) = (WalkScratch::default(), QueryCode::default(), vec![]);
        let (mut found, mut scored) = (0, 0);
        for i in range {
            query.encode(grid, norm_max, &truth.queries[i]);
            scratch.clear(space.rows.len(), width);
            let starts = seeds.nearest(&space, &query.code, &mut sums);
            scored += scratch.seed(&space, &query.code, starts.into_iter());
            scored += walk(graph, &space, &query.code, &mut scratch).0;
            let nearest = &truth.nearest[i][..depth];
            found += scratch.pool.iter().filter(|(_, row)| nearest.contains(row)).count();
        }
        Ok((found, scored))
    })?;
    Ok(parts.into_iter().fold((0, 0), |sum, part| (sum.0 + part.0, sum.1 + part.1)))
}
