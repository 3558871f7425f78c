//! Leaves: overlapping groups of rows near each other, small enough to compare all pairs in each.
//!
//! Ball carving (PiPNN, arXiv 2602.21247): some rows become leaders, each row goes to its nearest few; a group that is still
//! too large is carved again, then without overlap.

use super::BuildError;
use super::space::{CompareScratch, Pack, Space, compare};
use crate::parallel::{Work, each, fold_chunks};
use crate::random::Random;
use std::sync::Mutex;

/// Rows of the largest leaf.
pub(crate) const LEAF_ROWS: usize = 1024;
/// Rows a leaf has on average.
const LEAF_ROWS_MEAN: usize = 512;
/// Leaves each row lies in.
pub(crate) const FAN_OUT: usize = 3;
const LEADERS_MAX: usize = 2048;
const CHUNK_ROWS: usize = 512;

/// The leaves of the rows `all`, in an order that depends on the seed alone.
///
/// # Errors
/// Cancellation.
pub(crate) fn carve(
    space: &Space<'_>,
    all: Vec<u32>,
    seed: u64,
    work: &Work<'_>,
) -> Result<Vec<Vec<u32>>, BuildError> {
    if all.len() <= LEAF_ROWS {
        return Ok(vec![all]);
    }
    let balls = balls(space, &all, FAN_OUT, &mut Random::new(seed, 2), work)?;
    let carved: Vec<Mutex<Vec<Vec<u32>>>> = balls.iter().map(|_| Mutex::default()).collect();
    each(work, balls.into_iter().enumerate(), |(i, ball)| {
        let mut leaves = Vec::new();
        let alone = Work { threads: 1, cancelled: work.cancelled };
        split(space, ball, &mut Random::new(seed, 3 + i as u64), &alone, &mut leaves)?;
        *carved[i].lock().unwrap_or_else(std::sync::PoisonError::into_inner) = leaves;
        Ok(())
    })?;
    Ok(carved.into_iter().flat_map(|c| c.into_inner().unwrap_or_default()).collect())
}

/// Carves `ball` until no part is larger than a leaf.
fn split(
    space: &Space<'_>,
    ball: Vec<u32>,
    random: &mut Random,
    work: &Work<'_>,
    leaves: &mut Vec<Vec<u32>>,
) -> Result<(), BuildError> {
    if ball.len() <= LEAF_ROWS {
        if ball.len() > 1 {
            leaves.push(ball);
        }
        return Ok(());
    }
    let parts = balls(space, &ball, 1, random, work)?;
    if parts.iter().any(|part| part.len() > ball.len() / 8 * 7) {
        // Rows that leaders do not tell apart, such as duplicates: any division is as good.
        leaves.extend(ball.chunks(LEAF_ROWS).map(<[u32]>::to_vec));
        return Ok(());
    }
    drop(ball);
    parts.into_iter().try_for_each(|part| split(space, part, random, work, leaves))
}

/// Each of `ids` in the balls of its `fan_out` nearest leaders.
fn balls(
    space: &Space<'_>,
    ids: &[u32],
    fan_out: usize,
    random: &mut Random,
    work: &Work<'_>,
) -> Result<Vec<Vec<u32>>, BuildError> {
    let count = (ids.len() * fan_out / LEAF_ROWS_MEAN).clamp(2, LEADERS_MAX);
    let leaders = random.sample(ids.len(), count);
    let leaders = leaders.iter().map(|&i| ids[i as usize]);
    let mut pack = Pack::default();
    pack.fill(space.rows.stride(), leaders.map(|id| (space.rows.row(id), space.rows.norm(id))));
    let chosen = fold_chunks(work, ids.len(), CHUNK_ROWS, |range| {
        let mut chosen = Vec::with_capacity(range.len() * fan_out);
        compare(space, &ids[range], &pack, &mut CompareScratch::default(), |_, distances| {
            chosen.extend(smallest(distances, fan_out));
        });
        Ok(chosen)
    })?;
    let chosen = chosen.iter().flatten();
    let mut sizes = vec![0; count];
    chosen.clone().for_each(|&leader| sizes[leader as usize] += 1);
    let mut balls: Vec<Vec<u32>> = sizes.into_iter().map(Vec::with_capacity).collect();
    for (leader, id) in chosen.zip(ids.iter().flat_map(|id| std::iter::repeat_n(id, fan_out.min(count)))) {
        balls[*leader as usize].push(*id);
    }
    Ok(balls)
}

/// Places of the `count` smallest (at most [`FAN_OUT`]), the first of equals.
fn smallest(distances: &[i32], count: usize) -> impl Iterator<Item = u32> {
    let mut best = [(i32::MAX, u32::MAX); FAN_OUT];
    for (place, &distance) in distances.iter().enumerate() {
        if distance < best[count - 1].0 {
            let mut at = count - 1;
            while at > 0 && distance < best[at - 1].0 {
                best[at] = best[at - 1];
                at -= 1;
            }
            best[at] = (distance, place as u32);
        }
    }
    best.into_iter().take(count.min(distances.len())).map(|(_, place)| place)
}
