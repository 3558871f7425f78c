//! Codes of a query, and the bounds its scores prove.
//!
//! A query is rounded to a grid of its own around the same middle: the unit's step when it lies inside the unit's
//! grid, a coarser one when it does not, so that no direction is lost by clamping. (Under L1 it is clamped: that adds the same
//! to every distance.)

use super::grid::{FILLER, Grid, squared_length, upward};
use crate::distance::{CodeQuery, Kernels, Rounded};
use crate::metric::Metric;

/// A query as codes of one unit's grid; kept by the searching thread and written anew for each query.
#[derive(Clone, Debug, Default)]
pub struct QueryCode {
    /// What the kernels compare to rows.
    pub code: CodeQuery,
    point: Vec<f32>,
    /// Distance = `scale · √(score + constant)`, or `scale · score + constant` under L1.
    scale: f64,
    constant: f64,
    /// Bound on the distance between the query's point and its code.
    error: f64,
    /// Bound on what f32 rounds in a score.
    score_slack: f64,
    metric: Option<Metric>,
    /// Under `InnerProduct`: what the query was multiplied by, and the sum of both squared lengths.
    stretch: f64,
    lengths: f64,
    /// Bound on what f32 rounds in the exact distance, relative or (Cosine, InnerProduct) absolute.
    exact_slack: f64,
}

impl QueryCode {
    /// Encodes `query`, a checked vector of the grid's dimension; `norm_max` is the largest norm of the unit's rows.
    pub fn encode(&mut self, grid: &Grid, norm_max: f32, query: &[f32]) {
        self.place(grid, query);
        self.code.codes.resize(grid.stride());
        self.metric = Some(grid.metric);
        self.scale = f64::from(grid.step);
        if grid.metric == Metric::L1 {
            self.code.codes.bytes_mut().fill(FILLER);
            self.encode_clamped(grid);
        } else {
            self.code.codes.bytes_mut().fill(0);
            self.encode_stretched(grid, norm_max);
        }
        // Of the row's code, the query's, and the middle both are counted from.
        self.error += 3.0 * grid.rounding();
        let terms = (grid.dim / 32 + 16) as f64 * f64::from(f32::EPSILON);
        self.exact_slack = match grid.metric {
            Metric::L2 | Metric::L1 => terms,
            Metric::Cosine => 4.0 * terms,
            Metric::InnerProduct => terms * squared_length(query).sqrt() * f64::from(grid.length_max),
        };
    }

    /// The query's point.
    fn place(&mut self, grid: &Grid, query: &[f32]) {
        self.point.clear();
        self.point.extend_from_slice(query);
        self.point.resize(grid.low.len(), 0.0);
        (self.stretch, self.lengths) = (1.0, 0.0);
        let length = squared_length(query).sqrt();
        if grid.metric == Metric::InnerProduct && length > 0.0 && grid.length_max > 0.0 {
            // Any positive factor keeps the order; this one brings the query into the range of the rows.
            self.stretch = f64::from(grid.length_max) / length;
            self.lengths = 2.0 * f64::from(grid.length_max).powi(2);
            self.point.iter_mut().for_each(|c| *c = (f64::from(*c) * self.stretch) as f32);
        } else if grid.metric == Metric::Cosine {
            Grid::to_point(grid.metric, grid.dim, 0.0, &mut self.point);
        }
    }

    fn encode_stretched(&mut self, grid: &Grid, norm_max: f32) {
        let (codes, offset) = (&Kernels::get().codes, 128.0 * grid.step);
        let farthest = codes.farthest(&self.point, &grid.low, offset) / grid.step;
        // Row codes reach from -128 to 127 around the middle; so may the query's on the same grid.
        let coarser = if farthest <= 127.5 { 1.0 } else { farthest / 127.0 };
        let unit = grid.step * coarser;
        if !(unit.is_finite() && coarser.powi(2).is_finite()) {
            return self.say_nothing();
        }
        let Rounded { squares, sum, squared_codes } =
            codes.round(&self.point, &grid.low, offset, unit, self.code.codes.bytes_mut());
        self.code.bias = 128 * sum;
        self.code.ratio = -2.0 * coarser;
        self.constant = f64::from(coarser).powi(2) * f64::from(squared_codes);
        let length = squared_length(&self.point).sqrt();
        self.error = f64::from(upward(squares, self.point.len()).sqrt()) + length * f64::from(f32::EPSILON);
        self.score_slack = 4.0 * f64::from(f32::EPSILON) * (f64::from(norm_max) + self.constant);
    }

    /// Makes it a query so far from the rows that its codes, and the bounds they give, say nothing.
    fn say_nothing(&mut self) {
        self.code.codes.bytes_mut().fill(0);
        (self.code.bias, self.code.ratio, self.constant) = (0, 0.0, 0.0);
        (self.error, self.score_slack) = (f64::INFINITY, 0.0);
    }

    /// Whether scores of rows say which of them are near.
    pub(crate) fn says_something(&self) -> bool {
        self.error.is_finite()
    }

    fn encode_clamped(&mut self, grid: &Grid) {
        let inverse = 1.0 / grid.step;
        let (mut error, mut outside) = (0.0_f64, 0.0_f64);
        for ((&c, &low), code) in self.point.iter().zip(&grid.low).zip(self.code.codes.bytes_mut()) {
            let clamped = c.clamp(low, low + 255.0 * grid.step);
            let unsigned = ((clamped - low) * inverse).round_ties_even().clamp(0.0, 255.0);
            error += f64::from((clamped - (low + grid.step * unsigned)).abs());
            outside += f64::from((c - clamped).abs());
            *code = unsigned as u8;
        }
        (self.code.bias, self.code.ratio) = (0, 1.0);
        self.constant = outside;
        self.error = error * (1.0 + f64::from(f32::EPSILON)) + outside * f64::from(f32::EPSILON);
        self.score_slack = 0.0;
    }

    /// Squared length of its codes, in steps of the unit's grid; not under L1.
    pub(crate) fn square(&self) -> f64 {
        self.constant
    }

    /// Bound on the distance between the query's point and its code, with what rows are from theirs by rounding.
    pub(crate) fn error(&self) -> f64 {
        self.error
    }

    /// Makes the bounds of a query that is this much farther from where it should be than [`encode`](Self::encode) knows.
    pub(crate) fn widen(&mut self, error: f64) {
        self.error += error;
    }

    /// Distance of the codes in the geometry of the points, from a score raised by `slack`.
    fn geometric(&self, score: f64) -> f64 {
        if self.metric == Some(Metric::L1) {
            return self.scale * score + self.constant;
        }
        self.scale * (score + self.constant).max(0.0).sqrt()
    }

    /// The score of a row whose code is `times` as far away as that of a row with this score.
    pub(crate) fn farther(&self, score: f32, times: f64) -> f32 {
        let (constant, times) = match self.metric {
            Some(Metric::L1) => (self.constant / self.scale, times),
            _ => (self.constant, times * times),
        };
        ((f64::from(score) + constant).max(0.0) * times - constant) as f32
    }

    fn to_metric(&self, geometric: f64) -> f64 {
        match self.metric {
            Some(Metric::Cosine) => geometric * geometric / 2.0,
            Some(Metric::InnerProduct) => (geometric * geometric - self.lengths) / (2.0 * self.stretch),
            Some(Metric::L2 | Metric::L1) | None => geometric,
        }
    }

    /// No row with this score and `error` has a smaller exact distance.
    #[must_use]
    pub fn lower_bound(&self, score: f32, row_error: f32) -> f32 {
        let code = self.geometric(f64::from(score) - self.score_slack);
        let bound = self.to_metric((code - self.error - f64::from(row_error)).max(0.0));
        self.rounded(bound, -1.0)
    }

    /// No row with this score and `error` has a larger exact distance.
    #[must_use]
    pub fn upper_bound(&self, score: f32, row_error: f32) -> f32 {
        let code = self.geometric(f64::from(score) + self.score_slack);
        self.rounded(self.to_metric(code + self.error + f64::from(row_error)), 1.0)
    }

    /// A row at most this far away has a point at most the result away.
    pub(crate) fn points_within(&self, distance: f32) -> f64 {
        let distance = self.rounded(f64::from(distance), 2.0);
        match self.metric {
            Some(Metric::Cosine) => (2.0 * f64::from(distance)).max(0.0).sqrt(),
            Some(Metric::InnerProduct) => {
                (2.0 * self.stretch * f64::from(distance) + self.lengths).max(0.0).sqrt()
            }
            Some(Metric::L2 | Metric::L1) | None => f64::from(distance),
        }
    }

    /// A row with at most this error and a larger score is farther away than `distance`.
    #[must_use]
    pub fn score_beyond(&self, distance: f32, row_error: f32) -> f32 {
        let geometric = self.points_within(distance);
        let code = (geometric + self.error + f64::from(row_error)) / self.scale * (1.0 + 1e-6);
        if self.metric == Some(Metric::L1) {
            return (code - self.constant / self.scale) as f32;
        }
        ((code * code - self.constant) + self.score_slack) as f32
    }

    /// A bound moved in the direction of `sign` by what the f32 sums of the exact distance may round.
    fn rounded(&self, bound: f64, sign: f64) -> f32 {
        let slack = match self.metric {
            Some(Metric::Cosine | Metric::InnerProduct) => self.exact_slack,
            _ => bound * self.exact_slack,
        };
        (bound + sign * (slack + bound.abs() * f64::from(f32::EPSILON))) as f32
    }
}
