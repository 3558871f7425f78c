//! The steps of a build, in order.

use std::time::Instant;

use super::calibrate::{self, HELD_OUT, Walks};
use super::candidates::Candidates;
use super::encode::{Clustered, cluster, encode};
use super::graph::{Graph, Pruning, prune};
use super::improve::{Improve, improve};
use super::options::{BuildError, BuildOptions, Builder, CANDIDATES, Estimate};
use super::seeds::Seeds;
use super::sketch::{self, Sketch};
use super::{hnsw_rs, leaves, pairs, repair};
use crate::parallel::Work;
use crate::quantize;
use crate::random::Random;
use crate::rows::Rows;
use crate::search::WalkCosts;
use crate::search::pool::ROWS_MAX;
use crate::unit::{BuildStatistics, Calibration, UnitParts};

/// Units below this are scanned, not walked: nothing is held out for calibration, and whole codes are scanned.
pub(super) const CALIBRATED_ROWS: usize = 4096;
/// How edges are chosen.
const PRUNING: Pruning = Pruning { forward: 24, slack: 1.12 };
/// How edges are chosen where a walk found the candidates: no slack is better where distances are much alike.
const IMPROVED: Pruning = Pruning { forward: 24, slack: 1.0 };
/// Width at which the target recall is to be reached.
const TARGET_WIDTH: u32 = 16;
/// Width of the walks that improve a graph below its target. Twice the width, or a second pass, cost as much again as the whole
/// build and win a few per cent of recall on one Gaussian, nothing elsewhere.
const IMPROVE_WIDTH: usize = 48;
/// Rows asked for where the costs of walks are compared.
const COMPARED_K: usize = 10;
/// Width of the walks that insert held-out rows.
const INSERT_WIDTH: usize = 160;

/// Builds the unit of `rows`, whose ids are `row_ids`, in the same order.
///
/// # Errors
/// [`BuildError`]; `cancelled` is asked at least every few milliseconds of work.
pub fn build(
    rows: &dyn Rows,
    row_ids: &[u64],
    options: &BuildOptions,
    cancelled: &(dyn Fn() -> bool + Sync),
) -> Result<UnitParts, BuildError> {
    let start = Instant::now();
    check(rows, row_ids, options)?;
    let work = Work { threads: options.threads.max(1), cancelled };
    let progress = &options.progress;
    let grid = quantize::fit(rows, options.metric, &work)?;
    progress.reached(2);
    let codes = encode(rows, grid, &work)?;
    progress.reached(5);
    let clustered = cluster(codes, options.seed, &work)?;
    progress.reached(15);
    let codes = &clustered.codes;
    let sketched = rows.len() >= CALIBRATED_ROWS && sketch::is_wanted(options.metric, codes.grid.stride());
    let sketch = if sketched { sketch::sketch(codes, options.seed, &work)? } else { None };
    progress.reached(20);
    let (mut graph, calibration, improved) = connect(rows, (&clustered, sketch.as_ref()), options, &work)?;
    progress.reached(97);
    let orphans = repair::repair(&mut graph, &clustered.pivots);
    let statistics = BuildStatistics {
        seconds: start.elapsed().as_secs_f64(),
        builder: options.builder,
        improved,
        seed: options.seed,
        target_recall: options.target_recall,
    };
    let row_ids = clustered.order.iter().map(|&row| row_ids[row as usize]).collect();
    UnitParts::new(clustered, (graph, orphans), sketch, row_ids, calibration, statistics)
}

fn check(rows: &dyn Rows, row_ids: &[u64], options: &BuildOptions) -> Result<(), BuildError> {
    if rows.len() != row_ids.len() || rows.len() >= ROWS_MAX {
        return Err(BuildError::RowCount { rows: rows.len(), ids: row_ids.len() });
    }
    if rows.dim() == 0 || rows.dim() > crate::metric::DIM_MAX {
        return Err(crate::metric::VectorError::DimensionLimit { found: rows.dim() }.into());
    }
    let needed = Estimate::new(rows.len(), rows.dim(), options).memory_bytes;
    if needed > options.memory_limit_bytes {
        return Err(BuildError::MemoryLimit { needed, limit: options.memory_limit_bytes });
    }
    Ok(())
}

/// The graph of all rows, its calibration, and how often it had to be improved.
fn connect(
    rows: &dyn Rows,
    (clustered, sketch): (&Clustered, Option<&Sketch>),
    options: &BuildOptions,
    work: &Work<'_>,
) -> Result<(Graph, Calibration, u32), BuildError> {
    let space = clustered.codes.space();
    let count = space.rows.len();
    let mut wanted = vec![false; count];
    let held_out = if count < CALIBRATED_ROWS { vec![] } else { held_out(clustered, options.seed) };
    held_out.iter().for_each(|&row| wanted[row as usize] = true);
    let mut graph = match options.builder {
        Builder::Partition => {
            let ids = (0..count as u32).filter(|&row| !wanted[row as usize]).collect();
            let leaves = leaves::carve(&space, ids, options.seed, work)?;
            options.progress.reached(35);
            let mut candidates = Candidates::new(count, CANDIDATES);
            pairs::join(&space, &leaves, &mut candidates, work)?;
            drop(leaves);
            options.progress.reached(60);
            prune(&space, candidates, PRUNING, work)?
        }
        Builder::HnswRs => hnsw_rs::connect(rows, clustered, &wanted, options, work)?,
    };
    if held_out.is_empty() {
        return Ok((graph, Calibration::default(), 0));
    }
    options.progress.reached(75);
    let walks = Walks { space, seeds: Seeds::new(&space, clustered.pivots.clone()), sketching: None };
    let truth = calibrate::truth(rows, clustered, &held_out, work)?;
    let mut calibration = calibrate::measure(clustered, &graph, &walks, &truth, work)?;
    let mut improved = 0;
    let others: Vec<bool> = wanted.iter().map(|held_out| !held_out).collect();
    if calibration.recall(10, TARGET_WIDTH) < options.target_recall && options.builder == Builder::Partition {
        let pass = Improve { seeds: &walks.seeds, wanted: &others, ef: IMPROVE_WIDTH, pruning: IMPROVED };
        graph = improve(&space, &graph, &pass, work)?;
        calibration = calibrate::measure(clustered, &graph, &walks, &truth, work)?;
        improved += 1;
    }
    if let Some(sketch) = sketch {
        let (space, sketching) = (sketch.codes.space(), sketch.sketching(clustered.codes.grid.stride()));
        let seeds = Seeds::new(&space, clustered.pivots.clone());
        let walks = Walks { space, seeds, sketching: Some(sketching) };
        let of_sketches = calibrate::measure(clustered, &graph, &walks, &truth, work)?;
        calibration = cheaper(of_sketches, calibration, clustered.codes.grid.stride(), options);
    }
    let pass = Improve { seeds: &walks.seeds, wanted: &wanted, ef: INSERT_WIDTH, pruning: IMPROVED };
    Ok((improve(&space, &graph, &pass, work)?, calibration, improved))
}

/// That of two calibrations whose walks cost less at a recall between the wanted one and 1.
fn cheaper(one: Calibration, other: Calibration, stride: usize, options: &BuildOptions) -> Calibration {
    let recall = (1.0 + options.target_recall) / 2.0;
    let cost = |calibration: &Calibration| {
        let width = calibration.width(COMPARED_K, recall);
        WalkCosts::new(calibration.compared, stride).total(width, calibration.scored(width))
    };
    if cost(&one) < cost(&other) { one } else { other }
}

/// Rows to hold out, ascending; no pivots.
fn held_out(clustered: &Clustered, seed: u64) -> Vec<u32> {
    let chosen = Random::new(seed, u64::MAX).sample(clustered.order.len(), HELD_OUT);
    chosen.into_iter().filter(|row| !clustered.pivots.contains(row)).collect()
}
