//! The grid: points of rows, and their codes.

use std::sync::OnceLock;

use crate::distance::{CodeSum, Floats, Kernels, ROUND, ROUND_LANES as LANES, Sum};
use crate::metric::Metric;

/// The middle of the codes: fills up rows, adding nothing to products with a centred query.
pub(crate) const FILLER: u8 = 128;

/// Maps vectors of one unit to codes.
#[derive(Clone, Debug, PartialEq)]
pub struct Grid {
    pub(crate) metric: Metric,
    pub(crate) dim: usize,
    /// Width of a code.
    pub(crate) step: f32,
    /// Length of the longest row, under `InnerProduct`; else 0.
    pub(crate) length_max: f32,
    /// Value of code 0 by component of the point.
    pub(crate) low: Vec<f32>,
    /// Of [`Grid::rounding`], which every query asks for.
    pub(crate) rounding: OnceLock<f64>,
}

/// What is known of a row besides its codes.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct RowCode {
    /// Its part of a score: the squared length of the codes around their middle; 0 under L1.
    pub norm: f32,
    /// Upper bound on the distance between point and code.
    pub error: f32,
}

impl Grid {
    /// Components of the points of vectors of `dim` components.
    pub(crate) fn point_dim(metric: Metric, dim: usize) -> usize {
        match metric {
            Metric::InnerProduct => dim + (dim / 8).clamp(1, 16),
            Metric::L2 | Metric::Cosine | Metric::L1 => dim,
        }
    }

    /// Metric of the vectors.
    #[must_use]
    pub fn metric(&self) -> Metric {
        self.metric
    }

    /// Components of the vectors.
    #[must_use]
    pub fn dim(&self) -> usize {
        self.dim
    }

    /// Bytes of a code: the components of a point, rounded up to cache lines.
    #[must_use]
    pub fn stride(&self) -> usize {
        Self::stride_of(self.metric, self.dim)
    }

    pub(crate) fn stride_of(metric: Metric, dim: usize) -> usize {
        Self::point_dim(metric, dim).next_multiple_of(64)
    }

    /// Bound on how far the position of a code in f32 is from where it should be.
    pub(crate) fn rounding(&self) -> f64 {
        *self.rounding.get_or_init(|| {
            let parts = self.low.iter().map(|&low| f64::from((low.abs() + 256.0 * self.step) * f32::EPSILON));
            match self.metric {
                Metric::L1 => parts.sum(),
                Metric::L2 | Metric::Cosine | Metric::InnerProduct => {
                    parts.map(|part| part * part).sum::<f64>().sqrt()
                }
            }
        })
    }

    /// How codes are compared.
    #[must_use]
    pub fn code_sum(&self) -> CodeSum {
        match self.metric {
            Metric::L2 | Metric::Cosine | Metric::InnerProduct => CodeSum::Product,
            Metric::L1 => CodeSum::AbsoluteDifference,
        }
    }

    /// The point of a row, in place: `point[..dim]` is the vector. `length_max` as in the grid.
    pub(crate) fn to_point(metric: Metric, dim: usize, length_max: f32, point: &mut [f32]) {
        let (vector, added) = point.split_at_mut(dim);
        match metric {
            Metric::L2 | Metric::L1 => {}
            Metric::Cosine => {
                let scale = 1.0 / squared_length(vector).sqrt();
                vector.iter_mut().for_each(|c| *c = (f64::from(*c) * scale) as f32);
            }
            Metric::InnerProduct => {
                let rest = (f64::from(length_max).powi(2) - squared_length(vector)).max(0.0);
                added.fill((rest / added.len() as f64).sqrt() as f32);
            }
        }
    }

    /// Writes the codes of the vector in `point[..dim]`, which becomes its point, to `codes` (`stride` bytes).
    /// `point` has room for all components of a point.
    pub fn encode(&self, point: &mut [f32], codes: &mut [u8]) -> RowCode {
        Self::to_point(self.metric, self.dim, self.length_max, point);
        codes[point.len()..].fill(FILLER);
        let (squares, absolutes, norm) = self.encode_point(point, codes);
        let rounding = match self.metric {
            Metric::L2 | Metric::L1 => 0.0,
            // The point itself was rounded to f32.
            Metric::Cosine | Metric::InnerProduct => squared_length(point).sqrt() as f32 * f32::EPSILON,
        };
        match self.metric {
            Metric::L1 => RowCode { norm: 0.0, error: upward(absolutes, point.len()) },
            _ => RowCode { norm: norm as f32, error: upward(squares, point.len()).sqrt() + rounding },
        }
    }

    /// Codes of a point; the sums of squared and absolute errors, and of squared codes around 128.
    fn encode_point(&self, point: &[f32], codes: &mut [u8]) -> (f32, f32, i32) {
        let inverse = 1.0 / self.step;
        let mut squares = [0.0_f32; LANES];
        let mut absolutes = [0.0_f32; LANES];
        let mut norms = [0_i32; LANES];
        let lanes = point.chunks(LANES).zip(self.low.chunks(LANES)).zip(codes.chunks_mut(LANES));
        for ((point, low), codes) in lanes {
            for i in 0..point.len() {
                let rounded = ((point[i] - low[i]) * inverse).clamp(0.0, 255.0) + ROUND;
                let error = point[i] - (low[i] + self.step * (rounded - ROUND));
                squares[i] += error * error;
                absolutes[i] += error.abs();
                codes[i] = rounded.to_bits() as u8;
                let centred = i32::from(codes[i]) - 128;
                norms[i] += centred * centred;
            }
        }
        (squares.iter().sum(), absolutes.iter().sum(), norms.iter().sum())
    }
}

/// A sum of `terms` f32 terms, raised by what the sum may have rounded off.
pub(super) fn upward(sum: f32, terms: usize) -> f32 {
    sum * (1.0 + (terms / LANES + LANES + 8) as f32 * f32::EPSILON)
}

pub(super) fn squared_length(vector: &[f32]) -> f64 {
    let sum = Kernels::get().floats.pair(Sum::Product, vector.into(), vector.into());
    if sum.is_normal() {
        return f64::from(sum);
    }
    Floats::from(vector).components().map(|c| f64::from(c).powi(2)).sum()
}
