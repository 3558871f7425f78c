//! Scores of all matching rows, thinned out as the best become known.
//!
//! Where a unit has sketches, all of them are compared first: the rows whose sketches are nearest give a distance within which k
//! rows lie, and of the others only those are looked at in full whose sketch is not farther than that.

use super::filter::Filter;
use super::request::SearchScratch;
use crate::quantize::WIDTH;
use crate::unit::codec::Section;
use crate::unit::{Guard, Unit};

/// Rows scored at a time.
const BLOCK: usize = 64;
/// Sketches compared at a time.
const SKETCHES: usize = 256;
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
    let scored = if matches >= first + SKETCHED_FROM && ask_sketches(unit, guard, scratch)? {
        match filter {
            Some(filter) => scan_sketches(unit, (k, first), filter.ordinals(unit.len()), guard, scratch)?,
            None => scan_sketches(unit, (k, first), 0..unit.len() as u32, guard, scratch)?,
        }
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
        guard.codes(&scratch.batch)?;
        // The errors of rows near each other stand in one block.
        scratch.batch.iter().try_for_each(|&row| guard.row(Section::Errors, row))?;
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

/// Makes the query a sketch; whether the unit has sketches to compare it to.
fn ask_sketches<G: Guard>(unit: &Unit, guard: &G, scratch: &mut SearchScratch) -> Result<bool, G::Damage> {
    let (Some(sketch), Some(projection)) = (unit.sketch(), unit.projection()) else { return Ok(false) };
    guard.section(Section::SketchAxes)?;
    let SearchScratch { query, point, .. } = scratch;
    let (grid, step) = (unit.grid(), f64::from(unit.grid().step));
    point.clear();
    // In steps around the middle of the codes, as the rows were projected.
    let steps =
        query.point().iter().zip(&grid.low).map(|(&c, &low)| (f64::from(c) - f64::from(low)) / step - 128.0);
    point.extend(steps.map(|c| c as f32));
    let mut projected = [0.0; WIDTH];
    let Some(rounded) = projection.project(point, &mut projected) else { return Ok(false) };
    projected.iter_mut().for_each(|c| *c *= grid.step);
    let length = projected.iter().map(|&c| f64::from(c).powi(2)).sum::<f64>().sqrt();
    scratch.sketch.encode(&sketch.grid, sketch.norm_max, &projected);
    // What each step here rounds, and the middle that rows are counted from.
    scratch.sketch.widen(rounded * step + 3.0 * grid.rounding() + 4.0 * length * f64::from(f32::EPSILON));
    Ok(length.is_finite())
}

/// As [`scan_rows`], for `first` or more rows, the query being a sketch.
fn scan_sketches<G: Guard>(
    unit: &Unit,
    (k, first): (usize, usize),
    mut rows: impl Iterator<Item = u32>,
    guard: &G,
    scratch: &mut SearchScratch,
) -> Result<usize, G::Damage> {
    let space = unit.sketch_space();
    scratch.sketched.clear();
    let mut scores = [0.0; SKETCHES];
    loop {
        scratch.batch.clear();
        scratch.batch.extend(rows.by_ref().take(SKETCHES));
        if scratch.batch.is_empty() {
            break;
        }
        for &row in &scratch.batch {
            for section in [Section::SketchCodes, Section::SketchNorms] {
                guard.row(section, row)?;
            }
        }
        space.scores(&scratch.batch, &scratch.sketch.code, &mut scores);
        scratch.sketched.extend(scores.iter().copied().zip(scratch.batch.iter().copied()));
    }
    let mut sketched = std::mem::take(&mut scratch.sketched);
    if sketched.len() > first {
        sketched.select_nth_unstable_by(first - 1, |a, b| a.0.total_cmp(&b.0));
    }
    let (nearest, others) = sketched.split_at(first.min(sketched.len()));
    let first = scan_rows(unit, (k, None), nearest.iter().map(|&(_, row)| row), guard, scratch)?;
    let beyond = first.farthest.zip(unit.sketch()).map(|(farthest, sketch)| {
        let within = scratch.query.points_within(farthest) * (1.0 + f64::from(f32::EPSILON));
        scratch.sketch.score_beyond(within as f32, sketch.error_max)
    });
    let beyond = beyond.unwrap_or(f32::INFINITY);
    let left = others.iter().filter(|(score, _)| *score <= beyond).map(|&(_, row)| row);
    let rest = scan_rows(unit, (k, first.farthest), left, guard, scratch)?;
    let scored = sketched.len() + first.scored + rest.scored;
    scratch.sketched = sketched;
    Ok(scored)
}
