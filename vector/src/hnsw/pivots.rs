//! Pivots: rows that stand for the clusters of a unit. They are where a search begins, instead of HNSW's upper layers.
//!
//! Lloyd's k-means on the codes of a sample; the row nearest to each mean becomes the pivot.

use super::BuildError;
use super::space::{CompareScratch, Pack, Space, compare};
use crate::parallel::{Work, fold_chunks};
use crate::random::Random;

const ROUNDS: usize = 5;
/// Sampled rows per pivot.
const SAMPLE_PER_PIVOT: usize = 48;
const CHUNK_ROWS: usize = 512;

/// How many pivots `rows` rows get: enough to begin near, few enough that comparing a query to all stays a small part of it. Found
/// by trying 0.8 to 5 times the root of `rows` on the data of `benches/vector_index.py`.
pub(crate) fn count(rows: usize, stride: usize) -> usize {
    let pivots = (rows as f64).sqrt() * 2.4 * (128.0 / stride as f64).powf(0.75).min(1.0);
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
    let mut means: Vec<Vec<u8>> =
        first.iter().map(|&i| space.rows.row(sample[i as usize]).to_vec()).collect();
    for _ in 0..ROUNDS {
        let nearest = nearest(space, &sample, &packed(space, &means), work)?;
        means = moved(space, &sample, &nearest, means);
    }
    let nearest = nearest(space, &sample, &packed(space, &means), work)?;
    Ok(medoids(&sample, &nearest, count))
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
