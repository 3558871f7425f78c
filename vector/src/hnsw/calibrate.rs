//! Measures recall by the width of the walk, on rows that are not in the graph yet.

use std::ops::Range;

use super::BuildError;
use super::encode::Clustered;
use super::graph::Graph;
use super::seeds::Seeds;
use super::space::{Pack, Space};
use crate::distance::{Floats, Kernels};
use crate::parallel::{Work, fold_chunks};
use crate::quantize::{QueryCode, Sketching};
use crate::query_distance::QueryDistance;
use crate::rows::Rows;
use crate::search::comparison::Comparison;
use crate::search::walk::{ANSWER_MIN, Reach, WalkScratch, walk};
use crate::unit::{Calibration, CalibrationPoint, Compared, Trusted};

/// Rows held out of a build.
pub(crate) const HELD_OUT: usize = 256;
/// Answers measured: the nearest row, the nearest 10 and 100.
const DEPTHS: [usize; 3] = [1, 10, 100];
/// Rows near a held-out one that are compared exactly.
pub(super) const TRUTH_ROWS: usize = 160;
const WIDTHS: [usize; 9] = [16, 24, 32, 48, 64, 96, 128, 192, 256];
/// Recall from which wider walks are not measured any more.
const RECALL_ENOUGH: f32 = 0.9995;
/// Rows of which each thread keeps those near the held-out ones.
pub(super) const CHUNK_ROWS: usize = 8192;
/// Rows compared to all held-out ones at once.
pub(super) const BLOCK_ROWS: usize = 256;

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
    let read = |ordinal: u32| {
        let mut vector = vec![0.0; rows.dim()];
        let row = clustered.order[ordinal as usize] as usize;
        rows.read(row..row + 1, &mut vector).map_err(BuildError::Rows)?;
        Ok::<_, BuildError>(vector)
    };
    let queries = held_out.iter().map(|&ordinal| read(ordinal)).collect::<Result<Vec<_>, _>>()?;
    let codes = Codes::of(clustered, &queries);
    let count = clustered.order.len();
    let parts = fold_chunks(work, count, CHUNK_ROWS, |range| Ok(codes.near(clustered, range, held_out)))?;
    let nearest = fold_chunks(work, held_out.len(), 1, |range| {
        let mut near: Vec<Near> = parts.iter().flat_map(|part| part[range.start].iter().copied()).collect();
        keep_nearest(&mut near);
        let exact = QueryDistance::new(clustered.codes.grid.metric(), &queries[range.start]);
        let mut found = Vec::with_capacity(near.len());
        for (_, row) in near {
            let mut distance = [0.0];
            exact.many(Floats::from(&read(row)?).bytes(), &mut distance);
            found.push((distance[0], row));
        }
        found.sort_unstable_by(order);
        Ok(found.into_iter().map(|(_, row)| row).collect())
    })?;
    Ok(Truth { queries, nearest })
}

/// Score or distance, and ordinal.
type Near = (f32, u32);

fn order(a: &Near, b: &Near) -> std::cmp::Ordering {
    a.0.total_cmp(&b.0).then(a.1.cmp(&b.1))
}

/// Leaves the [`TRUTH_ROWS`] nearest, in any order; returns the score of the farthest once there are as many.
fn keep_nearest(near: &mut Vec<Near>) -> f32 {
    if near.len() < TRUTH_ROWS {
        return f32::INFINITY;
    }
    let farthest = near.select_nth_unstable_by(TRUTH_ROWS - 1, order).1.0;
    near.truncate(TRUTH_ROWS);
    farthest
}

/// The held-out vectors as queries.
struct Codes {
    queries: Vec<QueryCode>,
    codes: Vec<u8>,
}

impl Codes {
    fn of(clustered: &Clustered, vectors: &[Vec<f32>]) -> Self {
        let mut this = Self { queries: vec![], codes: vec![] };
        for vector in vectors {
            let mut query = QueryCode::default();
            query.encode(&clustered.codes.grid, clustered.codes.norm_max(), vector);
            this.codes.extend_from_slice(query.code.codes.bytes());
            this.queries.push(query);
        }
        this
    }

    /// The nearest rows of the range to each query, by score; never a held-out one.
    fn near(&self, clustered: &Clustered, range: Range<usize>, held_out: &[u32]) -> Vec<Vec<Near>> {
        let space = clustered.codes.space();
        let mut near = vec![Vec::new(); self.queries.len()];
        let mut limits = vec![f32::INFINITY; self.queries.len()];
        let (mut pack, mut sums) = (Pack::default(), vec![]);
        for first in range.clone().step_by(BLOCK_ROWS) {
            let ids: Vec<u32> = (first..range.end.min(first + BLOCK_ROWS)).map(|row| row as u32).collect();
            pack.fill(space.rows.stride(), ids.iter().map(|&id| (space.rows.row(id), space.rows.norm(id))));
            let panel = pack.panel();
            sums.resize(panel.width() * self.queries.len(), 0);
            Kernels::get().codes.panel(space.sum, &panel, &self.codes, self.queries.len(), &mut sums);
            let answers = self.queries.iter().zip(sums.chunks_exact(panel.width()));
            for ((query, sums), (near, limit)) in answers.zip(near.iter_mut().zip(&mut limits)) {
                for (&id, &sum) in ids.iter().zip(sums) {
                    let score = query.code.score(space.rows.norm(id), sum);
                    if score < *limit && held_out.binary_search(&id).is_err() {
                        near.push((score, id));
                    }
                }
                *limit = keep_nearest(near);
            }
        }
        near
    }
}

/// What the walks of a graph compare, and where they begin.
pub(crate) struct Walks<'a> {
    pub(crate) space: Space<'a>,
    /// Of the rows in that space.
    pub(crate) seeds: Seeds,
    /// How queries become sketches, when it is of sketches.
    pub(crate) sketching: Option<Sketching<'a>>,
}

impl Walks<'_> {
    fn compared(&self) -> Compared {
        match self.sketching {
            Some(_) => Compared::Sketches,
            None => Compared::Codes,
        }
    }
}

/// Recall of `graph` at growing widths. A neighbour counts as found when the walk has found it: the bound on code
/// distances guarantees that reranking does not lose it.
///
/// # Errors
/// Cancellation.
pub(crate) fn measure(
    clustered: &Clustered,
    graph: &Graph,
    walks: &Walks<'_>,
    truth: &Truth,
    work: &Work<'_>,
) -> Result<Calibration, BuildError> {
    let mut points: Vec<CalibrationPoint> = Vec::new();
    let mut open = DEPTHS.to_vec();
    open.retain(|&depth| truth.nearest.iter().all(|nearest| nearest.len() >= depth));
    for width in WIDTHS {
        if open.is_empty() {
            break;
        }
        let (found, scored) = total(clustered, graph, walks, truth, width, work)?;
        let queries = truth.queries.len() as f32;
        for (depth, found) in DEPTHS.into_iter().zip(found) {
            if !open.contains(&depth) || width < depth {
                continue;
            }
            let recall = found as f32 / (depth as f32 * queries);
            points.push(CalibrationPoint {
                k: depth as u32,
                ef: width as u32,
                recall,
                scored: scored as f32 / queries,
            });
            if recall >= RECALL_ENOUGH {
                open.retain(|&other| other != depth);
            }
        }
    }
    points.sort_by_key(|point| (point.k, point.ef));
    Ok(Calibration { compared: walks.compared(), points })
}

/// Neighbours found, by depth, and rows scored by all queries.
fn total(
    clustered: &Clustered,
    graph: &Graph,
    walks: &Walks<'_>,
    truth: &Truth,
    width: usize,
    work: &Work<'_>,
) -> Result<([usize; DEPTHS.len()], usize), BuildError> {
    let grid = &clustered.codes.grid;
    let norm_max = clustered.codes.norm_max();
    let parts = fold_chunks(work, truth.queries.len(), 32, |range| {
        let (mut scratch, mut sums) = (WalkScratch::default(), vec![]);
        let (mut query, mut sketch) = (QueryCode::default(), QueryCode::default());
        let (mut found, mut scored) = ([0; DEPTHS.len()], 0);
        for i in range {
            query.encode(grid, norm_max, &truth.queries[i]);
            let (asked, comparison) = match &walks.sketching {
                Some(sketching) if sketching.ask(grid, &query, &mut sketch) => {
                    (&sketch, Comparison::sketches(walks.space, &sketch.code))
                }
                // Rows are too far apart for sketches: the walk finds nothing.
                Some(_) => continue,
                None => (&query, Comparison::codes(walks.space, &query.code)),
            };
            let reach = Reach::beyond(width, ANSWER_MIN, asked);
            scratch.clear(walks.space.rows.len(), reach.room());
            let starts = walks.seeds.nearest(&walks.space, &asked.code, &mut sums);
            let Ok(seeded) = scratch.seed(&comparison, starts.into_iter(), &Trusted);
            let Ok((walked, _)) = walk(graph, &comparison, &mut scratch, reach, &Trusted);
            scored += seeded + walked;
            let nearest = &truth.nearest[i];
            for (_, row) in scratch.pool.iter().take(reach.found()) {
                if let Some(place) = nearest.iter().position(|&near| near == row) {
                    (found.iter_mut().zip(DEPTHS))
                        .for_each(|(found, depth)| *found += usize::from(place < depth));
                }
            }
        }
        Ok((found, scored))
    })?;
    Ok(parts.into_iter().fold(([0; DEPTHS.len()], 0), |(mut found, scored), part| {
        found.iter_mut().zip(part.0).for_each(|(sum, part)| *sum += part);
        (found, scored + part.1)
    }))
}
