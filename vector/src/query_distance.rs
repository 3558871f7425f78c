//! One query compared exactly to many rows.

use crate::distance::{Floats, Kernels, Sum};
use crate::metric::{Metric, VectorError, cosine, same_dim};

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
        match self.metric {
            Metric::L2 => {
                floats.many(Sum::SquaredDifference, query, rows, out);
                out.iter_mut().for_each(|d| *d = d.sqrt());
            }
            Metric::L1 => floats.many(Sum::AbsoluteDifference, query, rows, out),
            Metric::InnerProduct => {
                floats.many(Sum::Product, query, rows, out);
                out.iter_mut().for_each(|d| *d = -*d);
            }
            Metric::Cosine => {
                let mut sums = [[0.0; 2]; BLOCK_ROWS];
                for (block, out) in out.chunks_mut(BLOCK_ROWS).enumerate() {
                    let sums = &mut sums[..out.len()];
                    floats.many_with_norm(query, &rows[block * BLOCK_ROWS * self.dim() * 4..], sums);
                    for (out, [dot, norm]) in out.iter_mut().zip(sums) {
                        *out = cosine(*dot, self.norm, *norm);
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
}
