//! Scores of all matching rows, thinned out as the best become known.

use super::filter::Filter;
use super::request::SearchScratch;
use crate::unit::codec::Section;
use crate::unit::{Guard, Unit};

/// Rows scored at a time.
const BLOCK: usize = 64;
/// Rows collected, beyond twice k, before those that cannot be in the answer are dropped.
const COLLECTED: usize = 1024;

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
    match filter {
        Some(filter) => scan_rows(unit, k, filter.ordinals(unit.len()), guard, scratch),
        None => scan_rows(unit, k, 0..unit.len() as u32, guard, scratch),
    }
}

fn scan_rows<G: Guard>(
    unit: &Unit,
    k: usize,
    mut rows: impl Iterator<Item = u32>,
    guard: &G,
    scratch: &mut SearchScratch,
) -> Result<usize, G::Damage> {
    let space = unit.space();
    // A row with an ordinary error and a larger score is not in the answer.
    let mut limit = f32::INFINITY;
    let mut scored = 0;
    let mut scores = [0.0; BLOCK];
    loop {
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
            limit = thin_out(unit, k, scratch);
        }
    }
    thin_out(unit, k, scratch);
    scratch.candidates.sort_unstable_by(|a, b| a.0.total_cmp(&b.0).then(a.1.cmp(&b.1)));
    Ok(scored)
}

/// Drops candidates that cannot be in the answer; returns the score above which an ordinary row is not.
fn thin_out(unit: &Unit, k: usize, scratch: &mut SearchScratch) -> f32 {
    let (candidates, query) = (&mut scratch.candidates, &scratch.query);
    if candidates.len() <= k {
        return f32::INFINITY;
    }
    candidates.select_nth_unstable_by(k - 1, |a, b| a.0.total_cmp(&b.0));
    // k rows are at most this far away.
    let (first, _) = candidates.split_at(k);
    let farthest = first.iter().map(|&(score, row)| query.upper_bound(score, unit.error(row)));
    let farthest = farthest.fold(f32::NEG_INFINITY, f32::max);
    candidates.retain(|&(score, row)| query.lower_bound(score, unit.error(row)) <= farthest);
    query.score_beyond(farthest, unit.error_high())
}
