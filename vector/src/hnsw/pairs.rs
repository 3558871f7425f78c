//! All pairs of every leaf: the nearest rows of each row among those it shares a leaf with.

use super::BuildError;
use super::candidates::{Candidates, Key, Shared, key};
use super::space::{CompareScratch, Pack, Space, compare};
use crate::parallel::{Work, each};

/// Rows kept per row and leaf.
pub(crate) const NEAREST: usize = 24;

/// Adds the nearest rows of every leaf to `candidates`.
///
/// # Errors
/// Cancellation.
pub(crate) fn join(
    space: &Space<'_>,
    leaves: &[Vec<u32>],
    candidates: &mut Candidates,
    work: &Work<'_>,
) -> Result<(), BuildError> {
    let shared = candidates.share();
    each(work, leaves.iter(), |leaf| {
        join_leaf(space, leaf, &shared);
        Ok(())
    })
}

fn join_leaf(space: &Space<'_>, leaf: &[u32], shared: &Shared<'_>) {
    let mut pack = Pack::default();
    pack.fill(space.rows.stride(), leaf.iter().map(|&id| (space.rows.row(id), space.rows.norm(id))));
    let mut keys = Vec::with_capacity(NEAREST);
    compare(space, leaf, &pack, &mut CompareScratch::default(), |place, distances| {
        nearest(leaf, place, distances, &mut keys);
        shared.add(leaf[place], &keys);
    });
}

/// Distances looked at together.
const BLOCK: usize = 16;

/// Writes the keys of the [`NEAREST`] smallest distances but the one at `own`, ascending.
fn nearest(leaf: &[u32], own: usize, distances: &[i32], keys: &mut Vec<Key>) {
    keys.clear();
    let mut limit = i32::MAX;
    for (block, distances) in distances.chunks(BLOCK).enumerate() {
        // Most blocks hold nothing near enough: one comparison of 16 at once.
        if distances.iter().fold(i32::MAX, |smallest, &d| smallest.min(d)) > limit {
            continue;
        }
        for (i, &distance) in distances.iter().enumerate() {
            let place = block * BLOCK + i;
            if distance > limit || place == own {
                continue;
            }
            let key = key(distance as f32, leaf[place]);
            let at = keys.partition_point(|&other| other < key);
            if at == NEAREST {
                continue;
            }
            keys.truncate(NEAREST - 1);
            keys.insert(at, key);
            if keys.len() == NEAREST {
                limit = super::candidates::distance_of(keys[NEAREST - 1]) as i32;
            }
        }
    }
}
