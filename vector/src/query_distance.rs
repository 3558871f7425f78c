//! One query compared exactly to many rows.

use crate::distance::{Floats, Kernels, Sum};
use crate::metric::{Metric, VectorError, same_dim};
use crate::value;

/// One query against many rows: what depends on the query alone is computed once.
#[derive(Clone, Debug)]
pub struct QueryDistance {
    metric: Metric,
    query: Vec<f32>,
    /// Under `Cosine`, the product of the query with itself.
    norm: f32,
}

/// Rows per call of a kernel that gives two sums; they go to the stack.
const BLOCK_ROWS: usize = 64;

impl QueryDistance {
    /// Prepares `query`, which the caller has checked.
    #[must_use]
    pub fn new(metric: Metric, query: &[f32]) -> Self {
        let norm = match metric {
            Metric::Cosine => Kernels::get().floats.pair(Sum::Product, query.into(), query.into()),
            Metric::L2 | Metric::InnerProduct | Metric::L1 => 0.0,
        };
        Self { metric, query: query.to_vec(), norm }
    }

    /// Components of the query, and of each row.
    #[must_use]
    pub fn dim(&self) -> usize {
        self.query.len()
    }

    /// The distance of one row: the bits of [`Metric::distance`].
    ///
    /// # Errors
    /// [`VectorError::Dimension`].
    pub fn one(&self, row: Floats<'_>) -> Result<f32, VectorError> {
        same_dim((&self.query).into(), row)?;
        let mut out = [0.0];
        self.many(row.bytes(), &mut out);
        Ok(out[0])
    }

    /// The distances of `out.len()` rows that lie one after the other in `rows`, as little-endian f32 at any alignment.
    ///
    /// # Panics
    /// When `rows` is shorter than that.
    pub fn many(&self, rows: &[u8], out: &mut [f32]) {
        let (floats, query) = (&Kernels::get().floats, Floats::from(&self.query));
        let row_bytes = self.dim() * 4;
        let row = |i: usize| Floats::from_bytes(&rows[i * row_bytes..(i + 1) * row_bytes]);
        match self.metric {
            Metric::L2 => {
                floats.many(Sum::SquaredDifference, query, rows, out);
                // Looked at together first, so that roots are taken many at a time.
                if out.iter().fold(true, |whole, sum| whole & value::is_whole(*sum)) {
                    out.iter_mut().for_each(|d| *d = d.sqrt());
                } else {
                    out.iter_mut().enumerate().for_each(|(i, d)| *d = value::l2(*d, query, row(i)));
                }
            }
            Metric::L1 => floats.many(Sum::AbsoluteDifference, query, rows, out),
            Metric::InnerProduct => {
                floats.many(Sum::Product, query, rows, out);
                if out.iter().fold(true, |finite, sum| finite & sum.is_finite()) {
                    out.iter_mut().for_each(|d| *d = -*d);
                } else {
                    out.iter_mut().enumerate().for_each(|(i, d)| *d = -value::product(*d, query, row(i)));
                }
            }
            Metric::Cosine => {
                let mut sums = [[0.0; 2]; BLOCK_ROWS];
                for (block, out) in out.chunks_mut(BLOCK_ROWS).enumerate() {
                    let sums = &mut sums[..out.len()];
                    let first = block * BLOCK_ROWS;
                    floats.many_with_norm(query, &rows[first * row_bytes..], sums);
                    for (i, (out, [dot, norm])) in (first..).zip(out.iter_mut().zip(sums)) {
                        *out = value::cosine([*dot, self.norm, *norm], query, row(i));
                    }
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn single(metric: Metric, a: &[f32], b: &[f32]) -> f32 {
        metric.distance(a.into(), b.into()).expect("equal dimensions")
    }

    #[test]
    fn many_rows_give_the_bits_of_single_ones() {
        let rows: Vec<f32> = (0..200 * 5).map(|i| ((i * 37 % 101) as f32 - 50.0) / 7.0).collect();
        let query = &rows[35..40];
        for metric in Metric::ALL {
            let prepared = QueryDistance::new(metric, query);
            let mut out = vec![0.0; 200];
            prepared.many(Floats::from(&rows).bytes(), &mut out);
            for (row, d) in rows.chunks(5).zip(out) {
                assert_eq!(d.to_bits(), single(metric, query, row).to_bits(), "{metric:?}");
                assert_eq!(d.to_bits(), prepared.one(row.into()).expect("equal dimensions").to_bits());
            }
        }
    }

    #[test]
    fn rows_of_extreme_length_give_the_same_bits_too() {
        let components = [0.0, -0.0, 1e-45, 1e-30, -3e-20, 1e-15, 1.0, -2.5, 3e18, -1e20, 3e38, f32::MAX];
        let mut next = 0_u64;
        let mut component = || {
            next = next.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            components[(next >> 33) as usize % components.len()]
        };
        let mut rows: Vec<f32> = (0..300 * 3).map(|_| component()).collect();
        // Whole rows of one magnitude, zero among them.
        rows.extend(components.iter().flat_map(|&c| [c; 3]));
        let others: [&[f32]; 3] = [&[0.0, 0.0, 0.0], &[1e-30, 0.0, 1e-30], &[1.0, 2.0, 3.0]];
        for query in rows.chunks(3).step_by(7).chain(others) {
            for metric in Metric::ALL {
                let prepared = QueryDistance::new(metric, query);
                let mut out = vec![0.0; rows.len() / 3];
                prepared.many(Floats::from(&rows).bytes(), &mut out);
                for (row, d) in rows.chunks(3).zip(out) {
                    let alone = prepared.one(row.into()).expect("equal dimensions");
                    assert_eq!(
                        d.to_bits(),
                        single(metric, query, row).to_bits(),
                        "{metric:?} {query:?} {row:?}"
                    );
                    assert_eq!(
                        d.to_bits(),
                        single(metric, row, query).to_bits(),
                        "{metric:?} {query:?} {row:?}"
                    );
                    assert_eq!(d.to_bits(), alone.to_bits(), "{metric:?} {query:?} {row:?}");
                    let zero = |vector: &[f32]| vector.iter().all(|c| *c == 0.0);
                    let none = metric == Metric::Cosine && (zero(query) || zero(row));
                    assert_eq!(d.is_nan(), none, "{metric:?} {query:?} {row:?}");
                }
            }
        }
    }
}
