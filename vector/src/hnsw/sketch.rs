//! Sketches of long rows: short codes whose distances are never larger, so that a scan leaves most rows out unread.
//!
//! Owns: the axes (principal components of a sample, by subspace iteration), projecting the codes of all rows, what a scan by them is
//! worth. Does not own: the bound (`quantize::projection`), the scan (`search`).
//!
//! Rows are projected from their codes, so no vector is read again; how far a row is from its code is part of its sketch's error.

use super::BuildError;
use super::encode::{Codes, encode};
use super::space::Space;
use crate::distance::{CodeQuery, CodeSum, Floats, Kernels, Sum};
use crate::metric::Metric;
use crate::parallel::{Work, each, fold_chunks};
use crate::quantize::{self, AXES, Axes, Sketching, WIDTH};
use crate::random::Random;
use crate::rows::MemoryRows;
use crate::unit::high;

/// Codes shorter than this are scanned as they are.
pub(crate) const STRIDE_MIN: usize = 256;
/// Rows the axes are found on.
pub(crate) const SAMPLE_ROWS: usize = 2048;
pub(super) const SAMPLE_CHUNK_ROWS: usize = 512;
/// Steps of the subspace iteration. More than two find less than one per cent more of what the rows differ by.
const ROUNDS: usize = 2;
const CHUNK_ROWS: usize = 256;
/// Queries and rows that tell what a scan is worth, and the rows wanted of it.
const TRIED_QUERIES: usize = 32;
const TRIED_ROWS: usize = 4096;
const TRIED_K: usize = 10;
/// Sketches that leave more of the rows than this are not worth their bytes.
const LEFT_MAX: f32 = 0.5;

/// The norm of a row of whose distance the sketch says nothing: it is nearer than any.
pub(crate) const SILENT: f32 = -1e30;
/// How much larger the largest error may be than that which one row in a hundred exceeds.
const ERROR_MARGIN: f32 = 1.25;

/// Sketches of the rows of a unit.
#[derive(Clone, Debug)]
pub(crate) struct Sketch {
    pub(crate) axes: Axes,
    /// Codes of the projections; errors are those of projection, code and row together. The norm of a row whose error is larger
    /// than `error_max` is [`SILENT`].
    pub(crate) codes: Codes,
    pub(crate) error_max: f32,
    /// Part of some thousand rows that a search for the nearest few has to look at in full.
    pub(crate) left: f32,
}

impl Sketch {
    /// How the points with codes of `stride` bytes became these.
    pub(crate) fn sketching(&self, stride: usize) -> Sketching<'_> {
        let projection = self.axes.projection(stride);
        Sketching { projection, grid: &self.codes.grid, norm_max: self.codes.norm_max() }
    }
}

/// Whether rows like these are given sketches, if it proves worth it.
pub(crate) fn is_wanted(metric: Metric, stride: usize) -> bool {
    metric != Metric::L1 && stride >= STRIDE_MIN
}

/// The sketches of `codes`; None when scans would be no faster.
///
/// # Errors
/// Cancellation.
pub(crate) fn sketch(codes: &Codes, seed: u64, work: &Work<'_>) -> Result<Option<Sketch>, BuildError> {
    let axes = axes(codes, seed, work)?;
    let (projection, space) = (axes.projection(codes.grid.stride()), codes.space());
    let rows = codes.errors.len();
    let (mut points, mut errors) = (vec![0.0_f32; rows * WIDTH], vec![0.0_f32; rows]);
    let chunks = points.chunks_mut(CHUNK_ROWS * WIDTH).zip(errors.chunks_mut(CHUNK_ROWS)).enumerate();
    each(work, chunks, |(chunk, (points, errors))| {
        let mut point = CodeQuery::default();
        let (points, _) = points.as_chunks_mut::<WIDTH>();
        for (i, (projected, error)) in points.iter_mut().zip(errors).enumerate() {
            let row = chunk * CHUNK_ROWS + i;
            space.ask_row(row as u32, &mut point);
            let signed = point.codes.bytes().iter().map(|code| i32::from(code.cast_signed()));
            let square = signed.map(|code| code * code).sum::<i32>().into();
            // A code's length is always a number.
            let rounded = projection.project(&point, square, projected).unwrap_or(f64::INFINITY);
            projected.iter_mut().for_each(|c| *c *= codes.grid.step);
            let scaled = projected.iter().fold(0.0_f32, |sum, c| sum + c.abs()) * f32::EPSILON;
            *error =
                (rounded as f32 * codes.grid.step + codes.errors[row] + scaled) * (1.0 + 4.0 * f32::EPSILON);
        }
        Ok(())
    })?;
    let points = MemoryRows::new(&points, WIDTH);
    let mut sketched = encode(&points, quantize::fit(&points, Metric::L2, work)?, work)?;
    for (error, of_row) in sketched.errors.iter_mut().zip(errors) {
        *error = (*error + of_row) * (1.0 + f32::EPSILON);
    }
    let largest = sketched.errors.iter().fold(0.0_f32, |max, &error| max.max(error));
    let error_max = largest.min(ERROR_MARGIN * high(&sketched.errors));
    let left = left(codes, &sketched, error_max, seed, work)?;
    for (norm, &error) in sketched.norms.iter_mut().zip(&sketched.errors) {
        if error > error_max {
            *norm = SILENT;
        }
    }
    Ok((left <= LEFT_MAX).then_some(Sketch { axes, codes: sketched, error_max, left }))
}

/// The codes of a row around their middle.
fn centred(codes: &Codes, row: usize, point: &mut [f32]) {
    let from = &codes.codes.bytes()[row * codes.grid.stride()..];
    point.iter_mut().zip(from).for_each(|(c, &code)| *c = f32::from(code) - 128.0);
}

/// The axes that a sample differs most along, around its mean.
fn axes(codes: &Codes, seed: u64, work: &Work<'_>) -> Result<Axes, BuildError> {
    let (rows, dim) = (codes.errors.len(), codes.grid.low.len());
    let count = rows.min(SAMPLE_ROWS);
    let mut sample = vec![0.0_f32; count * dim];
    let mut mean = vec![0.0_f64; dim];
    for (i, point) in sample.chunks_exact_mut(dim).enumerate() {
        centred(codes, i * rows / count, point);
        mean.iter_mut().zip(&*point).for_each(|(sum, &c)| *sum += f64::from(c));
    }
    let mean: Vec<f32> = mean.iter().map(|sum| (sum / count as f64) as f32).collect();
    for point in sample.chunks_exact_mut(dim) {
        point.iter_mut().zip(&mean).for_each(|(c, mean)| *c -= mean);
    }
    let mut random = Random::new(seed, u64::MAX - 1);
    let mut axes: Vec<f32> = (0..AXES * dim).map(|_| random.below(2001) as f32 - 1000.0).collect();
    for _ in 0..ROUNDS {
        axes = spread(&sample, &axes, dim, work)?;
        orthonormal(&mut axes, dim);
    }
    Ok(Axes::new(&mean, &axes, codes.grid.stride()))
}

/// `XᵀXW`: each axis moved towards what the rows of X differ by along it.
fn spread(sample: &[f32], axes: &[f32], dim: usize, work: &Work<'_>) -> Result<Vec<f32>, BuildError> {
    let parts = fold_chunks(work, sample.len() / dim, SAMPLE_CHUNK_ROWS, |range| {
        let mut part = vec![0.0_f32; axes.len()];
        let mut along = [0.0; AXES];
        for point in sample[range.start * dim..range.end * dim].chunks_exact(dim) {
            Kernels::get().floats.many(Sum::Product, point.into(), Floats::from(axes).bytes(), &mut along);
            for (sum, along) in part.chunks_exact_mut(dim).zip(along) {
                sum.iter_mut().zip(point).for_each(|(sum, c)| *sum += along * c);
            }
        }
        Ok(part)
    })?;
    let mut total = vec![0.0; axes.len()];
    for part in parts {
        total.iter_mut().zip(part).for_each(|(sum, part)| *sum += part);
    }
    Ok(total)
}

/// Makes the axes orthogonal and of length 1, by Gram and Schmidt, twice; one that adds no direction becomes zero.
fn orthonormal(axes: &mut [f32], dim: usize) {
    let mut done: Vec<Vec<f64>> = Vec::with_capacity(AXES);
    for axis in axes.chunks_exact_mut(dim) {
        let mut axis_now: Vec<f64> = axis.iter().map(|&c| f64::from(c)).collect();
        let before = length(&axis_now);
        for _ in 0..2 {
            for other in &done {
                let along: f64 = axis_now.iter().zip(other).map(|(a, b)| a * b).sum();
                axis_now.iter_mut().zip(other).for_each(|(a, b)| *a -= along * b);
            }
        }
        let after = length(&axis_now);
        let scale = if after > 1e-6 * before { 1.0 / after } else { 0.0 };
        axis_now.iter_mut().for_each(|c| *c *= scale);
        axis.iter_mut().zip(&axis_now).for_each(|(to, c)| *to = *c as f32);
        done.push(axis_now);
    }
}

fn length(vector: &[f64]) -> f64 {
    vector.iter().map(|c| c * c).sum::<f64>().sqrt()
}

/// What part of [`TRIED_ROWS`] rows the sketches leave to a search for [`TRIED_K`].
fn left(
    codes: &Codes,
    sketched: &Codes,
    error_max: f32,
    seed: u64,
    work: &Work<'_>,
) -> Result<f32, BuildError> {
    let count = codes.errors.len();
    let mut random = Random::new(seed, u64::MAX - 2);
    let (queries, rows) = (random.sample(count, TRIED_QUERIES), random.sample(count, TRIED_ROWS));
    let parts = fold_chunks(work, queries.len(), 1, |range| {
        let query = queries[range.start];
        let (exact, short) = (distances(codes, query, &rows), distances(sketched, query, &rows));
        let mut nearest = exact;
        let wanted = TRIED_K.min(nearest.len() - 1);
        let limit = *nearest.select_nth_unstable_by(wanted, f32::total_cmp).1;
        let error = |row: u32| sketched.errors[row as usize];
        let is_left = |row: u32, d: f32| error(row) > error_max || d - error_max - error(query) <= limit;
        let left = rows.iter().zip(short).filter(|&(&row, d)| is_left(row, d));
        Ok(left.count())
    })?;
    Ok(parts.iter().sum::<usize>() as f32 / (queries.len() * rows.len()) as f32)
}

/// Distances of the codes of rows from those of the row `query`.
fn distances(codes: &Codes, query: u32, rows: &[u32]) -> Vec<f32> {
    let space: Space<'_> = codes.space();
    debug_assert_eq!(space.sum, CodeSum::Product);
    let (mut asked, mut scores) = (CodeQuery::default(), vec![0.0; rows.len()]);
    space.ask_row(query, &mut asked);
    space.scores(rows, &asked, &mut scores);
    let constant = space.constant(query);
    scores.iter().map(|score| codes.grid.step * (score + constant).max(0.0).sqrt()).collect()
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::quantize::QueryCode;
    use crate::query_distance::QueryDistance;

    const DIM: usize = 300;
    const ROWS: usize = 2_000;

    /// Rows on a plane of some dimensions: what the axes leave is next to nothing, and the bound is as close as it gets.
    fn on_a_plane(random: &mut Random, planes: &[f32], rows: usize, spread: f32) -> Vec<f32> {
        let mut points = vec![1.0; rows * DIM];
        for point in points.chunks_exact_mut(DIM) {
            for plane in planes.chunks_exact(DIM) {
                let at = (random.below(2001) as f32 / 1000.0 - 1.0) * spread;
                point.iter_mut().zip(plane).for_each(|(c, along)| *c += at * along);
            }
        }
        points
    }

    #[test]
    fn no_row_is_nearer_than_its_sketch_says() {
        let work = Work { threads: 1, cancelled: &|| false };
        let mut random = Random::new(5, 6);
        let planes: Vec<f32> = (0..20 * DIM).map(|_| random.below(2001) as f32 / 1000.0 - 1.0).collect();
        for metric in [Metric::L2, Metric::Cosine, Metric::InnerProduct] {
            let rows = on_a_plane(&mut random, &planes, ROWS, 1.0);
            let reader = MemoryRows::new(&rows, DIM);
            let codes = encode(&reader, quantize::fit(&reader, metric, &work).unwrap(), &work).unwrap();
            let sketch = sketch(&codes, 7, &work).unwrap().unwrap();
            let sketching = sketch.sketching(codes.grid.stride());
            let ids: Vec<u32> = (0..ROWS as u32).collect();
            let (mut query, mut asked) = (QueryCode::default(), QueryCode::default());
            let (mut scores, mut exact, mut closest) = (vec![0.0; ROWS], vec![0.0; ROWS], f32::INFINITY);
            // On the plane, outside the grid on it, and beside it.
            let mut queries = on_a_plane(&mut random, &planes, 8, 1.0);
            queries.extend(on_a_plane(&mut random, &planes, 8, 2.5));
            queries.extend((0..4 * DIM).map(|_| random.below(2001) as f32 / 100.0 - 10.0));
            queries.extend_from_slice(&rows[..2 * DIM]);
            for vector in queries.chunks_exact(DIM) {
                query.encode(&codes.grid, codes.norm_max(), vector);
                assert!(sketching.ask(&codes.grid, &query, &mut asked));
                sketch.codes.space().scores(&ids, &asked.code, &mut scores);
                QueryDistance::new(metric, vector).many(Floats::from(&rows).bytes(), &mut exact);
                for ((&score, &distance), &error) in scores.iter().zip(&exact).zip(&sketch.codes.errors) {
                    if score == SILENT {
                        continue;
                    }
                    let within = query.points_within(distance) * (1.0 + f64::from(f32::EPSILON));
                    let beyond = asked.score_beyond(within as f32, error);
                    assert!(score <= beyond, "{metric:?}: a score of {score}, not above {beyond}");
                    closest = closest.min((beyond - score) / beyond.abs().max(1.0));
                }
            }
            assert!(closest < 0.2, "{metric:?}: the bound is never closer than {closest}");
        }
    }
}
