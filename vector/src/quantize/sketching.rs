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
    /// Makes `sketch` that of `query`, a query on `grid`, from its codes, as those of rows were made. False: the query is so far
    /// from the rows that it has none, or they say nothing.
    pub(crate) fn ask(&self, grid: &Grid, query: &QueryCode, sketch: &mut QueryCode) -> bool {
        let mut projected = [0.0; WIDTH];
        let step = f64::from(grid.step);
        let Some(rounded) = self.projection.project(&query.code, query.square(), &mut projected) else {
            return false;
        };
        projected.iter_mut().for_each(|c| *c *= grid.step);
        let length = projected.iter().map(|&c| f64::from(c).powi(2)).sum::<f64>().sqrt();
        sketch.encode(self.grid, self.norm_max, &projected);
        // How far the query is from its codes, and what each step here rounds.
        sketch.widen(query.error() + rounded * step + 4.0 * length * f64::from(f32::EPSILON));
        length.is_finite() && query.says_something() && sketch.says_something()
    }
}
