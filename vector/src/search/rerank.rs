//! Exact distances of the rows a walk or scan found, as far as the bounds of their codes demand.

use super::exact::ExactDistances;
use super::request::{Hit, SearchScratch};
use super::run::SearchError;
use crate::unit::codec::Section;
use crate::unit::{Guard, Unit, UnitError};

/// Rows per request for exact distances after the first `k`.
const BATCH: usize = 16;

/// Leaves the `k` nearest of the candidates (best score first) in `hits`; returns how many exact distances that took.
///
/// # Errors
/// Those of `exact` and of the guard.
pub(super) fn rerank<E: ExactDistances>(
    unit: &Unit,
    k: usize,
    exact: &mut E,
    guard: &impl Guard,
    scratch: &mut SearchScratch,
) -> Result<usize, SearchError<E::Error>> {
    // Asked for every candidate, used or not: most of them are.
    for &(_, ordinal) in &scratch.candidates {
        guard.row(Section::Errors, ordinal).map_err(Into::<UnitError>::into)?;
    }
    scratch.hits.clear();
    let (mut at, mut asked) = (0, 0);
    while at < scratch.candidates.len() {
        let (full, limit) =
            (scratch.hits.len() == k, scratch.hits.last().map_or(f32::INFINITY, |hit| hit.distance));
        let wanted = if full { BATCH } else { k - scratch.hits.len() };
        scratch.batch.clear();
        while at < scratch.candidates.len() && scratch.batch.len() < wanted {
            let (score, ordinal) = scratch.candidates[at];
            at += 1;
            if !full || scratch.query.lower_bound(score, unit.error(ordinal)) <= limit {
                scratch.batch.push(ordinal);
            } else if scratch.query.lower_bound(score, unit.error_high()) > limit && at.is_multiple_of(BATCH)
            {
                // What follows scores worse: only rows with a large error of their own can still come in.
                at = skip(unit, scratch, at, limit);
            }
        }
        asked += scratch.batch.len();
        take(unit, k, exact, guard, scratch)?;
    }
    Ok(asked)
}

/// The first candidate from `at` on whose own error is large enough to matter.
fn skip(unit: &Unit, scratch: &SearchScratch, at: usize, limit: f32) -> usize {
    let rest = scratch.candidates[at..].iter();
    let matters = |&(score, ordinal): &(f32, u32)| {
        let error = unit.error(ordinal);
        error > unit.error_high() && scratch.query.lower_bound(score, error) <= limit
    };
    rest.clone().position(matters).map_or(scratch.candidates.len(), |place| at + place)
}

/// Asks for the distances of the batch and sorts its rows into the hits.
fn take<E: ExactDistances>(
    unit: &Unit,
    k: usize,
    exact: &mut E,
    guard: &impl Guard,
    scratch: &mut SearchScratch,
) -> Result<(), SearchError<E::Error>> {
    let SearchScratch { batch, distances, hits, .. } = scratch;
    distances.clear();
    distances.resize(batch.len(), 0.0);
    for &ordinal in batch.iter() {
        guard.row(Section::RowIds, ordinal).map_err(Into::<UnitError>::into)?;
    }
    exact.distances(batch, distances).map_err(SearchError::Exact)?;
    for (&ordinal, &distance) in batch.iter().zip(distances.iter()) {
        let hit = Hit { ordinal, row_id: unit.row_id(ordinal).unwrap_or(u64::MAX), distance };
        let before =
            |other: &Hit| other.distance.total_cmp(&hit.distance).then(other.row_id.cmp(&hit.row_id)).is_lt();
        if hits.len() == k {
            if hits.last().is_some_and(before) {
                continue;
            }
            hits.pop();
        }
        let place = hits.partition_point(before);
        hits.insert(place, hit);
    }
    Ok(())
}
