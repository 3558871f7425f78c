//! Queries as sketches.

use super::grid::Grid;
use super::projection::{Projection, WIDTH};
use super::query::QueryCode;

/// How the points of a unit became sketches.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Sketching<'a> {
    pub(crate) projection: Projection<'a>,
    /// Of the sketches, with their largest norm.
    pub(crate) grid: &'a Grid,
    pub(crate) norm_max: f32,
}

impl Sketching<'_> {
    /// Makes `sketch` that of `query`, a query on `grid`; `point` is a buffer. False: the query is so far from the rows that it has
    /// none.
    pub(crate) fn ask(
        &self,
        grid: &Grid,
        query: &QueryCode,
        point: &mut Vec<f32>,
        sketch: &mut QueryCode,
    ) -> bool {
        let step = f64::from(grid.step);
        let inverse = 1.0 / step;
        point.clear();
        // In steps around the middle of the codes, as the rows were projected.
        let steps = query
            .point()
            .iter()
            .zip(&grid.low)
            .map(|(&c, &low)| (f64::from(c) - f64::from(low)) * inverse - 128.0);
        point.extend(steps.map(|c| c as f32));
        let mut projected = [0.0; WIDTH];
        let Some(rounded) = self.projection.project(point, &mut projected) else { return false };
        projected.iter_mut().for_each(|c| *c *= grid.step);
        let length = projected.iter().map(|&c| f64::from(c).powi(2)).sum::<f64>().sqrt();
        sketch.encode(self.grid, self.norm_max, &projected);
        // What each step here rounds, and the middle that rows are counted from.
        sketch.widen(rounded * step + 3.0 * grid.rounding() + 4.0 * length * f64::from(f32::EPSILON));
        length.is_finite()
    }
}
