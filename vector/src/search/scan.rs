//! Scores of all matching rows, thinned out as the best become known.
//!
//! Where a unit has sketches, all of them are compared first: the rows whose sketches are nearest give a distance within which k
//! rows lie, and of the others only those are looked at in full whose sketch is not farther than that.

use super::filter::Filter;
use super::request::SearchScratch;
use crate::hnsw::SILENT;
use crate::unit::codec::Section;
use crate::unit::{Guard, Unit};

/// Rows scored at a time.
const BLOCK: usize = 64;
/// Scores of sketches compared to a limit at a time.
const COMPARED: usize = 16;
/// Scores in the sample that tells how low the lowest are, and those of them wanted at least.
const SAMPLED: usize = 1024;
const SAMPLED_LOWEST: usize = 8;
/// Below any score of a sketch that says something; see [`SILENT`].
const SILENT_BELOW: f32 = SILENT / 2.0;
/// Rows collected, beyond twice k, before those that cannot be in the answer are dropped.
const COLLECTED: usize = 1024;
/// Rows looked at in full before sketches leave any out.
const FIRST: usize = 64;
/// Fewer rows than this, beyond those, are looked at in full all.
const SKETCHED_FROM: usize = 64;

/// Leaves in `candidates`, best score first, every matching row that the bounds of the codes do not exclude from the nearest
/// `k`. Returns how many rows were scored.
///
/// # Errors
/// The guard's.
pub(super) fn scan<G: Guard>(
    unit: &Unit,
    k: usize,
    filter: Option<Filter<'_>>,
    guard: &G,
    scratch: &mut SearchScratch,
) -> Result<usize, G::Damage> {
    scratch.candidates.clear();
    let first = 2 * k + FIRST;
    let matches = filter.map_or(unit.len(), |filter| filter.matches());
    let scored = if matches >= first + SKETCHED_FROM && scratch.ask_sketches(unit, guard)? {
        scan_sketches(unit, (k, first), filter, guard, scratch)?
    } else {
        let scanned = match filter {
            Some(filter) => scan_rows(unit, (k, None), filter.ordinals(unit.len()), guard, scratch)?,
            None => scan_rows(unit, (k, None), 0..unit.len() as u32, guard, scratch)?,
        };
        scanned.scored
    };
    scratch.candidates.sort_unstable_by(|a, b| a.0.total_cmp(&b.0).then(a.1.cmp(&b.1)));
    Ok(scored)
}

struct Scanned {
    scored: usize,
    /// A distance within which k rows lie.
    farthest: Option<f32>,
}

/// Adds the rows to the candidates, but for those that cannot be in the answer. `farthest`: k of the candidates are within.
fn scan_rows<G: Guard>(
    unit: &Unit,
    (k, mut farthest): (usize, Option<f32>),
    mut rows: impl Iterator<Item = u32>,
    guard: &G,
    scratch: &mut SearchScratch,
) -> Result<Scanned, G::Damage> {
    let space = unit.space();
    let mut scored = 0;
    let mut scores = [0.0; BLOCK];
    loop {
        // A row with an ordinary error and a larger score is not in the answer.
        let beyond = |farthest| scratch.query.score_beyond(farthest, unit.error_high());
        let limit = farthest.map_or(f32::INFINITY, beyond);
        scratch.batch.clear();
        scratch.batch.extend(rows.by_ref().take(BLOCK));
        if scratch.batch.is_empty() {
            break;
        }
        scored += scratch.batch.len();
        guard.rows([Section::Codes, Section::Norms, Section::Errors], &scratch.batch)?;
        space.scores(&scratch.batch, &scratch.query.code, &mut scores);
        for (&score, &row) in scores.iter().zip(&scratch.batch) {
            if score <= limit || unit.error(row) > unit.error_high() {
                scratch.candidates.push((score, row));
            }
        }
        if scratch.candidates.len() > COLLECTED + 2 * k {
            farthest = thin_out(unit, k, scratch);
        }
    }
    Ok(Scanned { scored, farthest: thin_out(unit, k, scratch) })
}

/// Drops candidates that cannot be in the answer; returns a distance within which k rows lie.
fn thin_out(unit: &Unit, k: usize, scratch: &mut SearchScratch) -> Option<f32> {
    let (candidates, query) = (&mut scratch.candidates, &scratch.query);
    if candidates.len() < k {
        return None;
    }
    candidates.select_nth_unstable_by(k - 1, |a, b| a.0.total_cmp(&b.0));
    let (first, _) = candidates.split_at(k);
    let farthest = first.iter().map(|&(score, row)| query.upper_bound(score, unit.error(row)));
    let farthest = farthest.fold(f32::NEG_INFINITY, f32::max);
    candidates.retain(|&(score, row)| query.lower_bound(score, unit.error(row)) <= farthest);
    Some(farthest)
}

/// Rows by their sketches.
#[derive(Clone, Debug, Default)]
pub(super) struct Sketched {
    rows: Vec<u32>,
    /// Of each row; NaN once it was looked at in full.
    scores: Vec<f32>,
    /// Score and place of the nearest of them.
    nearest: Vec<(f32, u32)>,
}

/// As [`scan_rows`], for more than `first` rows, the query being a sketch.
fn scan_sketches<G: Guard>(
    unit: &Unit,
    (k, first): (usize, usize),
    filter: Option<Filter<'_>>,
    guard: &G,
    scratch: &mut SearchScratch,
) -> Result<usize, G::Damage> {
    let mut sketched = std::mem::take(&mut scratch.sketched);
    let Sketched { rows, scores, nearest } = &mut sketched;
    match filter {
        Some(filter) => filter.collect(unit.len(), rows),
        None => {
            rows.clear();
            rows.extend(0..unit.len() as u32);
        }
    }
    guard.rows([Section::SketchCodes, Section::SketchNorms], rows)?;
    scores.resize(rows.len(), 0.0);
    unit.sketch_space().scores(rows, &scratch.sketch.code, scores);
    take_nearest(scores, first, nearest);
    let first = nearest.iter().map(|&(_, at)| rows[at as usize]);
    let first = scan_rows(unit, (k, None), first, guard, scratch)?;
    let beyond = first.farthest.zip(unit.sketch()).map(|(farthest, sketch)| {
        let within = scratch.query.points_within(farthest) * (1.0 + f64::from(f32::EPSILON));
        scratch.sketch.score_beyond(within as f32, sketch.error_max)
    });
    let mut left = 0;
    at_most(scores, beyond.unwrap_or(f32::INFINITY), |at, _| {
        rows[left] = rows[at];
        left += 1;
    });
    let rest = scan_rows(unit, (k, first.farthest), rows[..left].iter().copied(), guard, scratch)?;
    let scored = scores.len() + first.scored + rest.scored;
    scratch.sketched = sketched;
    Ok(scored)
}

/// Moves about the `count` lowest scores to `nearest`, with their places, but for those of which a sketch says nothing.
///
/// Which they are decides what the scan costs, not what it finds: a sample tells about how low they lie.
fn take_nearest(scores: &mut [f32], count: usize, nearest: &mut Vec<(f32, u32)>) {
    nearest.clear();
    let step = (scores.len() / SAMPLED).max(1);
    let sample = scores.iter().step_by(step).filter(|&&score| score > SILENT_BELOW);
    nearest.extend(sample.map(|&score| (score, 0)));
    let wanted = (2 * count / step).max(SAMPLED_LOWEST).min(nearest.len());
    let Some(last) = wanted.checked_sub(1) else { return };
    let (_, &mut (limit, _), _) = nearest.select_nth_unstable_by(last, |a, b| a.0.total_cmp(&b.0));
    nearest.clear();
    at_most(scores, limit, |at, score| {
        if score > SILENT_BELOW {
            nearest.push((score, at as u32));
        }
    });
    if nearest.len() > count {
        nearest.select_nth_unstable_by(count - 1, |a, b| a.0.total_cmp(&b.0));
        nearest.truncate(count);
    }
    nearest.iter().for_each(|&(_, at)| scores[at as usize] = f32::NAN);
}

/// Calls `found` with the place of every score that is not above `limit`.
fn at_most(scores: &[f32], limit: f32, mut found: impl FnMut(usize, f32)) {
    for (block, scores) in scores.chunks(COMPARED).enumerate() {
        // Few blocks have one, and all of a block are compared at once.
        if scores.iter().fold(false, |any, &score| any | (score <= limit)) {
            let scores = scores.iter().enumerate().filter(|&(_, &score)| score <= limit);
            scores.for_each(|(i, &score)| found(block * COMPARED + i, score));
        }
    }
}
