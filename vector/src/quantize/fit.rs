//! Chooses the grid of a unit from its rows.
//!
//! The step follows the widest component. A few rows far outside the others would make it useless for the rest, so two grids
//! are compared on a sample, one over all values and one over nearly all, and the one with the smaller median error is taken.

use std::sync::OnceLock;

use super::grid::Grid;
use crate::hnsw::BuildError;
use crate::metric::Metric;
use crate::parallel::{Work, fold_chunks};
use crate::rows::Rows;

const CHUNK_ROWS: usize = 256;
/// Rows the choice between the two grids is made on.
pub(crate) const SAMPLE_ROWS: usize = 1024;
/// Values left out at each end of a component's sample for the narrow grid.
const SAMPLE_TRIM: usize = 2;
/// How much wider than the trimmed sample the narrow grid is.
const NARROW_MARGIN: f32 = 1.5;

/// Extent of the points of some rows.
#[derive(Clone)]
struct Extent {
    low: Vec<f32>,
    high: Vec<f32>,
    length_max: f64,
    length_min: f64,
}

impl Extent {
    fn empty(dim: usize) -> Self {
        Self {
            low: vec![f32::INFINITY; dim],
            high: vec![f32::NEG_INFINITY; dim],
            length_max: 0.0,
            length_min: f64::INFINITY,
        }
    }

    fn include(&mut self, point: &[f32]) {
        for ((low, high), &c) in self.low.iter_mut().zip(&mut self.high).zip(point) {
            *low = low.min(c);
            *high = high.max(c);
        }
    }

    fn join(mut self, other: &Self) -> Self {
        self.include(&other.low);
        self.include(&other.high);
        self.length_max = self.length_max.max(other.length_max);
        self.length_min = self.length_min.min(other.length_min);
        self
    }
}

/// The grid for `rows` under `metric`: one pass over all of them, and a sample.
///
/// # Errors
/// Those of reading, and cancellation.
pub(crate) fn fit(rows: &dyn Rows, metric: Metric, work: &Work<'_>) -> Result<Grid, BuildError> {
    let dim = rows.dim();
    let extent = extent(rows, metric, work)?;
    let mut grid = Grid {
        metric,
        dim,
        step: 1.0,
        length_max: extent.length_max as f32,
        low: vec![],
        rounding: OnceLock::new(),
    };
    if metric == Metric::InnerProduct {
        // Rounded up, so that no row is longer.
        grid.length_max *= 1.0 + f32::EPSILON;
    } else {
        grid.length_max = 0.0;
    }
    let (mut low, mut high) = (extent.low, extent.high);
    let added = Grid::point_dim(metric, dim) - dim;
    if added > 0 {
        let rest = (f64::from(grid.length_max).powi(2) - extent.length_min.powi(2)).max(0.0);
        low.resize(dim + added, 0.0);
        high.resize(dim + added, (rest / added as f64).sqrt() as f32);
    }
    if rows.is_empty() {
        grid.low = vec![0.0; dim + added];
        return Ok(grid);
    }
    let sample = sample(rows, &grid)?;
    let wide = with_ranges(&grid, &low, &high, &low, &high);
    let (narrow_low, narrow_high) = trimmed(&sample, low.len());
    let narrow = with_ranges(&grid, &low, &high, &narrow_low, &narrow_high);
    let narrower = narrow.step < wide.step && median_error(&narrow, &sample) < median_error(&wide, &sample);
    Ok(if narrower { narrow } else { wide })
}

fn extent(rows: &dyn Rows, metric: Metric, work: &Work<'_>) -> Result<Extent, BuildError> {
    let dim = rows.dim();
    let parts = fold_chunks(work, rows.len(), CHUNK_ROWS, |range| {
        let mut vectors = vec![0.0; range.len() * dim];
        rows.read(range, &mut vectors).map_err(BuildError::Rows)?;
        let mut part = Extent::empty(dim);
        for vector in vectors.chunks_exact_mut(dim) {
            if metric == Metric::InnerProduct {
                let length = super::grid::squared_length(vector).sqrt();
                part.length_max = part.length_max.max(length);
                part.length_min = part.length_min.min(length);
            }
            if metric == Metric::Cosine {
                Grid::to_point(metric, dim, 0.0, vector);
            }
            part.include(vector);
        }
        Ok(part)
    })?;
    Ok(parts.iter().fold(Extent::empty(dim), Extent::join))
}

/// Points of rows spread evenly over all.
fn sample(rows: &dyn Rows, grid: &Grid) -> Result<Vec<f32>, BuildError> {
    let count = rows.len().min(SAMPLE_ROWS);
    let width = Grid::point_dim(grid.metric, grid.dim);
    let mut points = vec![0.0; count * width];
    for (i, point) in points.chunks_exact_mut(width).enumerate() {
        let row = i * rows.len() / count;
        rows.read(row..row + 1, &mut point[..grid.dim]).map_err(BuildError::Rows)?;
        Grid::to_point(grid.metric, grid.dim, grid.length_max, point);
    }
    Ok(points)
}

fn trimmed(sample: &[f32], width: usize) -> (Vec<f32>, Vec<f32>) {
    let mut column = Vec::with_capacity(SAMPLE_ROWS);
    (0..width)
        .map(|i| {
            column.clear();
            column.extend(sample.iter().skip(i).step_by(width));
            let trim = SAMPLE_TRIM.min((column.len() - 1) / 2);
            let last = column.len() - 1 - trim;
            let low = *column.select_nth_unstable_by(trim, f32::total_cmp).1;
            let high = *column.select_nth_unstable_by(last, f32::total_cmp).1;
            let margin = (high - low) * (NARROW_MARGIN - 1.0) / 2.0;
            (low - margin, high + margin)
        })
        .unzip()
}

/// The grid whose step covers the widest of the given ranges; every component's 256 codes lie around its range, all values if
/// they fit, and begin on a whole step from its smallest value (integers in a range of 255 are then met exactly).
fn with_ranges(grid: &Grid, low: &[f32], high: &[f32], from: &[f32], to: &[f32]) -> Grid {
    let widest = from.iter().zip(to).fold(0.0_f32, |w, (from, to)| w.max(to - from));
    let step = if widest > 0.0 && (widest / 255.0).is_normal() { widest / 255.0 } else { 1.0 };
    let all = low.iter().zip(high).zip(from.iter().zip(to));
    let low = all.map(|((&low, &high), (&from, &to))| {
        let fits = high - low <= step * 255.5;
        let (from, to) = if fits { (low, high) } else { (from, to) };
        from - step * (128.0 - ((to - from) / step / 2.0).ceil()).max(0.0)
    });
    Grid { step, low: low.collect(), rounding: OnceLock::new(), ..grid.clone() }
}

fn median_error(grid: &Grid, sample: &[f32]) -> f32 {
    let mut codes = vec![0; grid.stride()];
    let mut errors: Vec<f32> = (sample.chunks_exact(grid.low.len()))
        .map(|point| {
            // A point is its own point under L2: the sample is already brought into that geometry.
            let flat = Grid { metric: Metric::L2, rounding: OnceLock::new(), ..grid.clone() };
            flat.encode(&mut point.to_vec(), &mut codes).error
        })
        .collect();
    let middle = errors.len() / 2;
    *errors.select_nth_unstable_by(middle, f32::total_cmp).1
}
