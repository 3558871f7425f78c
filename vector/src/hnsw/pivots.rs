//! Pivots: rows that stand for the clusters of a unit. They are where a search begins, instead of HNSW's upper layers.
//!
//! Lloyd's k-means on the codes of a sample; the row nearest to each mean becomes the pivot. Where clusters are
//! left without one, more are drawn by their distance, as in k-means|| (Bahmani and others, "Scalable K-Means++", 2012).

use super::BuildError;
use super::space::{CompareScratch, Pack, Space, compare};
use crate::parallel::{Work, fold_chunks};
use crate::random::Random;

const ROUNDS: usize = 5;
/// Times that rows are added where none is near, each time at most this part of what was there first, and how many times the
/// usual distance (squared, but for L1) is far.
const COVERS: usize = 4;
const COVER_SHARE: usize = 4;
const FAR: i32 = 4;
/// Sampled rows per pivot.
pub(super) const SAMPLE_PER_PIVOT: usize = 48;
/// Pivots there are at most per one that [`count`] says: rows are added to those drawn first, and to those that come of them.
pub(super) const GROWTH: u64 = ((COVERS + COVER_SHARE) / COVER_SHARE).pow(2) as u64;
const CHUNK_ROWS: usize = 512;

/// How many pivots `rows` rows get: enough to begin near, few enough that comparing a query to all stays a small part of it. Found
/// by trying 0.8 to 5 times the root of `rows` on the data of `benches/vector_index.py`.
pub(crate) fn count(rows: usize, stride: usize) -> usize {
    // To the power of three quarters: roots have the same bits on every machine.
    let root = (128.0 / stride as f64).sqrt();
    let pivots = (rows as f64).sqrt() * 2.4 * (root * root.sqrt()).min(1.0);
    (pivots as usize).next_multiple_of(16).clamp(1, 4096).min(rows)
}

/// The rows that are pivots, in ascending order and different.
///
/// # Errors
/// Cancellation.
pub(crate) fn choose(space: &Space<'_>, seed: u64, work: &Work<'_>) -> Result<Vec<u32>, BuildError> {
    let rows = space.rows.len();
    let count = count(rows, space.rows.stride());
    if count == rows {
        return Ok((0..rows as u32).collect());
    }
    let mut random = Random::new(seed, 1);
    let sample = random.sample(rows, count * SAMPLE_PER_PIVOT);
    let first = random.sample(sample.len(), count);
    let mut first = first.into_iter().map(|place| sample[place as usize]).collect();
    cover(space, &sample, &mut first, &mut random, work)?;
    let mut means = codes_of(space, &first);
    for _ in 0..ROUNDS {
        let nearest = nearest(space, &sample, &packed(space, &means), work)?;
        means = moved(space, &sample, &nearest, means);
    }
    let nearest = nearest(space, &sample, &packed(space, &means), work)?;
    let mut pivots = medoids(&sample, &nearest, means.len());
    cover(space, &sample, &mut pivots, &mut random, work)?;
    Ok(pivots)
}

/// Adds rows, some at a time, where the sample is much farther from all of `chosen` than elsewhere: a cluster that none of them
/// is in. A search for its rows would begin in another, and may never come near it. Elsewhere nothing changes.
fn cover(
    space: &Space<'_>,
    sample: &[u32],
    chosen: &mut Vec<u32>,
    random: &mut Random,
    work: &Work<'_>,
) -> Result<(), BuildError> {
    let wanted = chosen.len().div_ceil(COVER_SHARE);
    let mut new = 0;
    let mut distances = vec![i32::MAX; sample.len()];
    for _ in 0..COVERS {
        let nearest = nearest(space, sample, &packed(space, &codes_of(space, &chosen[new..])), work)?;
        distances.iter_mut().zip(nearest).for_each(|(least, (_, distance))| *least = distance.min(*least));
        let mut sorted = distances.clone();
        let middle = sorted.len() / 2;
        let (_, &mut usual, _) = sorted.select_nth_unstable(middle);
        let limit = usual.saturating_mul(FAR).max(1);
        let weights: Vec<i32> = distances.iter().map(|&d| if d > limit { d } else { 0 }).collect();
        new = chosen.len();
        let mut drawn = Vec::new();
        draw(&weights, wanted, random, &mut drawn);
        chosen.extend(drawn.into_iter().map(|place| sample[place as usize]));
        if chosen.len() == new {
            break;
        }
    }
    chosen.sort_unstable();
    chosen.dedup();
    Ok(())
}

/// Adds up to `wanted` places to `drawn`, each the more likely the larger its weight; those next to each other take turns.
fn draw(weights: &[i32], wanted: usize, random: &mut Random, drawn: &mut Vec<u32>) {
    let total: u64 = weights.iter().map(|&weight| weight.max(0) as u64).sum();
    let step = (total / wanted as u64).max(1);
    let (mut next, mut sum, enough) = (random.below(step as usize) as u64, 0, drawn.len() + wanted);
    for (place, &weight) in weights.iter().enumerate() {
        sum += weight.max(0) as u64;
        if next < sum && drawn.len() < enough {
            drawn.push(place as u32);
            next += step * ((sum - next - 1) / step + 1);
        }
    }
}

fn codes_of(space: &Space<'_>, rows: &[u32]) -> Vec<Vec<u8>> {
    rows.iter().map(|&row| space.rows.row(row).to_vec()).collect()
}

/// Per row of `ids` the nearest row of `pack` and its distance; the first of equals.
///
/// # Errors
/// Cancellation.
pub(crate) fn nearest(
    space: &Space<'_>,
    ids: &[u32],
    pack: &Pack,
    work: &Work<'_>,
) -> Result<Vec<(u32, i32)>, BuildError> {
    let parts = fold_chunks(work, ids.len(), CHUNK_ROWS, |range| {
        let mut part = Vec::with_capacity(range.len());
        compare(space, &ids[range], pack, &mut CompareScratch::default(), |_, distances| {
            let smallest = distances.iter().fold(i32::MAX, |s, &d| s.min(d));
            let place = distances.iter().position(|&d| d == smallest).unwrap_or(0);
            part.push((place as u32, smallest));
        });
        Ok(part)
    })?;
    Ok(parts.concat())
}

fn packed(space: &Space<'_>, means: &[Vec<u8>]) -> Pack {
    let mut pack = Pack::default();
    pack.fill(space.rows.stride(), means.iter().map(|mean| (mean.as_slice(), space.norm_of(mean))));
    pack
}

/// The means of the rows nearest to each; a mean without rows stays.
fn moved(space: &Space<'_>, sample: &[u32], nearest: &[(u32, i32)], old: Vec<Vec<u8>>) -> Vec<Vec<u8>> {
    let stride = space.rows.stride();
    let mut sums = vec![0_u32; old.len() * stride];
    let mut counts = vec![0_u32; old.len()];
    for (&id, &(mean, _)) in sample.iter().zip(nearest) {
        counts[mean as usize] += 1;
        let sums = &mut sums[mean as usize * stride..][..stride];
        sums.iter_mut().zip(space.rows.row(id)).for_each(|(sum, &code)| *sum += u32::from(code));
    }
    let means = old.into_iter().zip(sums.chunks_exact(stride)).zip(&counts);
    means
        .map(|((old, sums), &count)| match count {
            0 => old,
            _ => sums.iter().map(|sum| ((sum + count / 2) / count) as u8).collect(),
        })
        .collect()
}

fn medoids(sample: &[u32], nearest: &[(u32, i32)], count: usize) -> Vec<u32> {
    let mut best = vec![(i32::MAX, u32::MAX); count];
    for (&id, &(mean, distance)) in sample.iter().zip(nearest) {
        let best = &mut best[mean as usize];
        *best = (*best).min((distance, id));
    }
    let mut rows: Vec<u32> = best.into_iter().map(|(_, id)| id).filter(|&id| id != u32::MAX).collect();
    rows.sort_unstable();
    rows.dedup();
    rows
}
