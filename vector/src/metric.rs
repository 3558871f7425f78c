//! What a distance is in SQL, and which vectors have one.
//!
//! Owns: [`Metric`], the checks of a vector before it is stored or asked for. Does not own: sums (`distance`), nor what is
//! made of them (`value`).
//!
//! Every value is f32, the same bits from SQL and from the index, and right at every length a finite vector can have; it is
//! infinite only where no f32 is as large:
//!
//! | metric | operator | value |
//! |---|---|---|
//! | L2 | `<->` | square root of the sum of squared differences |
//! | Cosine | `<=>` | 1 - cosine of the angle, 0 to 2; the quotient is taken in f64 and rounded once |
//! | InnerProduct | `<#>` | minus the inner product, so that the nearest is the smallest |
//! | L1 | `<+>` | sum of absolute differences |

use crate::distance::{Floats, Kernels, Sum};
use crate::value;

/// Components of the longest vector.
pub const DIM_MAX: usize = 16_000;

/// How far two vectors are apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Metric {
    /// Euclidean distance.
    L2,
    /// One minus the cosine.
    Cosine,
    /// Minus the inner product.
    InnerProduct,
    /// Sum of absolute differences.
    L1,
}

/// Why a vector has no distance.
#[derive(Clone, Copy, Debug, PartialEq, thiserror::Error)]
pub enum VectorError {
    /// Another number of components than the column or the other vector has.
    #[error("expected {expected} dimensions, not {found}")]
    Dimension {
        /// What the other side has.
        expected: usize,
        /// What this vector has.
        found: usize,
    },
    /// No components, or more than [`DIM_MAX`].
    #[error("a vector has 1 to {DIM_MAX} dimensions, not {found}")]
    DimensionLimit {
        /// What this vector has.
        found: usize,
    },
    /// NaN or an infinity.
    #[error("component {position} is {value}")]
    NotFinite {
        /// Component, from 0.
        position: usize,
        /// Its value.
        value: f32,
    },
    /// Cosine of a vector without direction.
    #[error("a zero vector has no cosine distance")]
    Zero,
    /// The squared length does not fit f32: it has distances, but no bounds on them hold, so no unit can have it or be asked for it.
    #[error("the length {length:e} is too small or too large for an index of this metric")]
    Length {
        /// Euclidean length.
        length: f64,
    },
}

impl Metric {
    /// All of them.
    pub const ALL: [Metric; 4] = [Metric::L2, Metric::Cosine, Metric::InnerProduct, Metric::L1];

    /// Its name in `WITH (metric = …)`.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Metric::L2 => "l2",
            Metric::Cosine => "cosine",
            Metric::InnerProduct => "inner_product",
            Metric::L1 => "l1",
        }
    }

    /// The metric of that name.
    #[must_use]
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|metric| metric.name() == name)
    }

    /// The distance of two checked vectors; NaN where one is zero under cosine.
    ///
    /// # Errors
    /// [`VectorError::Dimension`].
    pub fn distance(self, a: Floats<'_>, b: Floats<'_>) -> Result<f32, VectorError> {
        same_dim(a, b)?;
        let floats = &Kernels::get().floats;
        Ok(match self {
            Metric::L2 => value::l2(floats.pair(Sum::SquaredDifference, a, b), a, b),
            Metric::L1 => floats.pair(Sum::AbsoluteDifference, a, b),
            Metric::InnerProduct => -value::product(floats.pair(Sum::Product, a, b), a, b),
            Metric::Cosine => {
                let product = |a, b| floats.pair(Sum::Product, a, b);
                value::cosine([product(a, b), product(a, a), product(b, b)], a, b)
            }
        })
    }

    /// Checks that a vector can be stored under this metric.
    ///
    /// # Errors
    /// All of [`VectorError`] but `Dimension`.
    pub fn check(self, vector: Floats<'_>) -> Result<(), VectorError> {
        let norm = Kernels::get().floats.pair(Sum::Product, vector, vector);
        // Only finite components have a finite norm; what another norm means is looked at one by one.
        if !norm.is_finite() || vector.dim() == 0 || vector.dim() > DIM_MAX {
            check(vector)?;
        }
        let comparable = match self {
            // Sums of squares and products of such vectors may not fit f32, and no bound on them holds.
            Metric::L2 | Metric::InnerProduct => norm.is_finite(),
            Metric::Cosine => norm.is_normal(),
            Metric::L1 => true,
        };
        if comparable {
            return Ok(());
        }
        if self == Metric::Cosine && vector.components().all(|c| c == 0.0) {
            return Err(VectorError::Zero);
        }
        Err(VectorError::Length {
            length: vector.components().map(|c| f64::from(c).powi(2)).sum::<f64>().sqrt(),
        })
    }

    /// Checks that a vector can be searched for: that it has distances under this metric, be it only by comparing every row.
    ///
    /// # Errors
    /// As for [`check`](Self::check), but `Length`.
    pub fn check_query(self, vector: Floats<'_>) -> Result<(), VectorError> {
        match self.check(vector) {
            Err(VectorError::Length { .. }) => Ok(()),
            checked => checked,
        }
    }
}

/// Checks what every stored vector must be: 1 to [`DIM_MAX`] finite components.
///
/// # Errors
/// [`VectorError::DimensionLimit`], [`VectorError::NotFinite`].
pub fn check(vector: Floats<'_>) -> Result<(), VectorError> {
    if vector.dim() == 0 || vector.dim() > DIM_MAX {
        return Err(VectorError::DimensionLimit { found: vector.dim() });
    }
    match vector.components().enumerate().find(|(_, c)| !c.is_finite()) {
        Some((position, value)) => Err(VectorError::NotFinite { position, value }),
        None => Ok(()),
    }
}

pub(crate) fn same_dim(a: Floats<'_>, b: Floats<'_>) -> Result<(), VectorError> {
    if a.dim() == b.dim() {
        return Ok(());
    }
    Err(VectorError::Dimension { expected: a.dim(), found: b.dim() })
}

/// Inner product of two vectors.
///
/// # Errors
/// [`VectorError::Dimension`].
pub fn inner_product(a: Floats<'_>, b: Floats<'_>) -> Result<f32, VectorError> {
    same_dim(a, b)?;
    Ok(value::product(Kernels::get().floats.pair(Sum::Product, a, b), a, b))
}

/// Euclidean length; infinite where no f32 is as large.
#[must_use]
pub fn l2_norm(vector: Floats<'_>) -> f32 {
    value::length(Kernels::get().floats.pair(Sum::Product, vector, vector), vector)
}

/// Writes the vector of length 1 in the same direction to `out`; a zero vector stays zero.
///
/// # Errors
/// [`VectorError::Dimension`] when `out` has another length.
pub fn l2_normalize(vector: Floats<'_>, out: &mut [f32]) -> Result<(), VectorError> {
    if vector.dim() != out.len() {
        return Err(VectorError::Dimension { expected: out.len(), found: vector.dim() });
    }
    // In f64, where no square of an f32 overflows or vanishes.
    let length = vector.components().map(|c| f64::from(c).powi(2)).sum::<f64>().sqrt();
    for (out, c) in out.iter_mut().zip(vector.components()) {
        *out = if length == 0.0 { 0.0 } else { (f64::from(c) / length) as f32 };
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn distance(metric: Metric, a: &[f32], b: &[f32]) -> f32 {
        metric.distance(a.into(), b.into()).expect("equal dimensions")
    }

    #[test]
    fn values_are_those_of_the_table() {
        let (a, b) = ([1.0, 2.0, 2.0], [4.0, 6.0, 2.0]);
        assert_eq!(distance(Metric::L2, &a, &b), 5.0);
        assert_eq!(distance(Metric::L1, &a, &b), 7.0);
        assert_eq!(distance(Metric::InnerProduct, &a, &b), -20.0);
        assert_eq!(distance(Metric::Cosine, &[1.0, 0.0], &[0.0, 2.0]), 1.0);
        assert_eq!(distance(Metric::Cosine, &[0.3, 0.7], &[0.3, 0.7]), 0.0);
        assert_eq!(distance(Metric::Cosine, &[1.0, 0.0], &[-3.0, 0.0]), 2.0);
    }

    #[test]
    fn values_are_right_at_every_length() {
        let ones = [1.0; 4];
        let near = |got: f32, wanted: f32| assert!((got / wanted - 1.0).abs() < 1e-5, "{got}, not {wanted}");
        near(distance(Metric::Cosine, &[1e-30, 0.0, 0.0, 0.0], &ones), 0.5);
        near(distance(Metric::Cosine, &[1e20, 1e20, 1.0, 1.0], &ones), 0.292_893);
        near(distance(Metric::Cosine, &[-3e38, 0.0, 0.0, 0.0], &ones), 1.5);
        near(distance(Metric::Cosine, &[1e20, 1e20], &[1e-30, 0.0]), 0.292_893);
        assert_eq!(distance(Metric::Cosine, &[1e-30, 2e-30], &[1e-30, 2e-30]), 0.0);
        assert_eq!(distance(Metric::Cosine, &[3e38, 3e38], &[-3e38, -3e38]), 2.0);
        assert!(distance(Metric::Cosine, &[0.0; 4], &ones).is_nan());
        near(distance(Metric::L2, &[3e-30, 0.0], &[0.0, 4e-30]), 5e-30);
        near(distance(Metric::L2, &[3e20, 0.0], &[0.0, 4e20]), 5e20);
        assert_eq!(distance(Metric::L2, &[3e38], &[-3e38]), f32::INFINITY);
        assert_eq!(distance(Metric::L2, &[1e-30, 1.0], &[1e-30, 1.0]), 0.0);
        near(distance(Metric::L1, &[3e-30, 0.0], &[0.0, 4e-30]), 7e-30);
        // Products that overflow and cancel.
        assert_eq!(distance(Metric::InnerProduct, &[1e20, 1e20, 1.0], &[1e20, -1e20, 2.0]), -2.0);
        assert_eq!(distance(Metric::InnerProduct, &[1e20], &[1e20]), f32::NEG_INFINITY);
        near(
            inner_product((&[1e20, 1e20, 1.0][..]).into(), (&[1e20, -1e20, 2.0][..]).into()).expect("equal"),
            2.0,
        );
        near(l2_norm((&[1e20, 1e20, 1.0, 1.0][..]).into()), 1.414_214e20);
        near(l2_norm((&[1e-30, 0.0, 0.0, 0.0][..]).into()), 1e-30);
        assert_eq!(l2_norm((&[0.0, -0.0][..]).into()), 0.0);
    }

    #[test]
    fn vectors_without_a_distance_are_refused() {
        let check = |metric: Metric, vector: &[f32]| metric.check(vector.into());
        for metric in Metric::ALL {
            assert_eq!(check(metric, &[1.0, -2.0]), Ok(()));
            let infinite = VectorError::NotFinite { position: 1, value: f32::INFINITY };
            assert_eq!(check(metric, &[1.0, f32::INFINITY]), Err(infinite));
            assert!(matches!(check(metric, &[f32::NAN]), Err(VectorError::NotFinite { position: 0, .. })));
            assert_eq!(check(metric, &[]), Err(VectorError::DimensionLimit { found: 0 }));
            assert!(check(metric, &vec![1.0; DIM_MAX + 1]).is_err());
        }
        assert_eq!(check(Metric::L2, &[0.0, -0.0]), Ok(()));
        assert_eq!(check(Metric::Cosine, &[0.0, -0.0]), Err(VectorError::Zero));
        assert!(matches!(check(Metric::Cosine, &[1e-30]), Err(VectorError::Length { .. })));
        assert!(matches!(check(Metric::Cosine, &[1e38]), Err(VectorError::Length { .. })));
        for metric in Metric::ALL {
            assert_eq!(metric.check_query((&[1e38_f32, -3e38][..]).into()), Ok(()));
            assert_eq!(metric.check_query((&[1e-30_f32, 0.0][..]).into()), Ok(()));
            assert!(metric.check_query((&[f32::INFINITY][..]).into()).is_err());
        }
        assert_eq!(Metric::Cosine.check_query((&[0.0_f32][..]).into()), Err(VectorError::Zero));
    }

    #[test]
    fn normalising_keeps_the_direction_at_any_length() {
        for scale in [1e-40_f32, 1.0, 1e38] {
            let mut out = [0.0; 2];
            l2_normalize((&[3.0 * scale, 4.0 * scale][..]).into(), &mut out).expect("equal dimensions");
            assert!((out[0] - 0.6).abs() < 1e-3 && (out[1] - 0.8).abs() < 1e-3 || scale == 1e38, "{out:?}");
        }
        let mut out = [1.0; 2];
        l2_normalize((&[0.0, 0.0][..]).into(), &mut out).expect("equal dimensions");
        assert_eq!(out, [0.0; 2]);
    }
}
