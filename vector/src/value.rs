//! What an f32 sum is worth: the value made of it, or, where the sum lost what it was made of, of the same sum in f64.
//!
//! Owns: when a sum is good enough, and the slow sums for when it is not. Does not own: the fast sums (`distance`), which
//! value belongs to which metric (`metric`, `query_distance`). Both ways to a distance come through here, so that they give
//! the same bits.
//!
//! Squares of components below 1e-19 or so vanish in f32, and those above 1e19 are infinite. In f64 neither happens: the
//! product of two f32 is exact there, and no sum of them over- or underflows.

use crate::distance::Floats;

/// Squares that vanished, one of each component of the longest vector, are less than one bit of a sum from here on: 2^-100.
const LEAST: f32 = f32::from_bits(27 << 23);

/// Whether a sum of squares has lost nothing that matters. A zero has not said yet why it is one.
#[inline]
pub(crate) fn is_whole(sum: f32) -> bool {
    (LEAST..=f32::MAX).contains(&sum)
}

/// Euclidean distance, of the sum of squared differences.
#[inline]
pub(crate) fn l2(sum: f32, a: Floats<'_>, b: Floats<'_>) -> f32 {
    if is_whole(sum) { sum.sqrt() } else { slow_l2(a, b) }
}

#[cold]
fn slow_l2(a: Floats<'_>, b: Floats<'_>) -> f32 {
    // Equal vectors are common, and compared as bytes in no time.
    if a.bytes() == b.bytes() && a.components().all(f32::is_finite) {
        return 0.0;
    }
    rounded(pairs(a, b).map(|(x, y)| (x - y) * (x - y)).sum::<f64>().sqrt())
}

/// Euclidean length, of the product with itself.
#[inline]
pub(crate) fn length(sum: f32, vector: Floats<'_>) -> f32 {
    if is_whole(sum) { sum.sqrt() } else { rounded(slow_product(vector, vector).sqrt()) }
}

/// Inner product, of its sum. What vanishes from it is smaller than any normal f32, so only a sum that is not finite is
/// made again.
#[inline]
pub(crate) fn product(sum: f32, a: Floats<'_>, b: Floats<'_>) -> f32 {
    if sum.is_finite() { sum } else { rounded(slow_product(a, b)) }
}

/// `1 - dot / (|a| |b|)`, of the products of `a` with `b`, with itself, and of `b` with itself; NaN where one is zero. The
/// products of the norms and their root are exact or rounded once in f64.
#[inline]
pub(crate) fn cosine([dot, norm_a, norm_b]: [f32; 3], a: Floats<'_>, b: Floats<'_>) -> f32 {
    // What vanishes from `dot` is nothing beside norms that are whole.
    if is_whole(norm_a) && is_whole(norm_b) && dot.is_finite() {
        let cosine = f64::from(dot) / (f64::from(norm_a) * f64::from(norm_b)).sqrt();
        return (1.0 - cosine.clamp(-1.0, 1.0)) as f32;
    }
    slow_cosine(a, b)
}

#[cold]
fn slow_cosine(a: Floats<'_>, b: Floats<'_>) -> f32 {
    let cosine = slow_product(a, b) / (slow_product(a, a) * slow_product(b, b)).sqrt();
    rounded(1.0 - cosine.clamp(-1.0, 1.0))
}

#[cold]
fn slow_product(a: Floats<'_>, b: Floats<'_>) -> f64 {
    pairs(a, b).map(|(x, y)| x * y).sum()
}

fn pairs<'a>(a: Floats<'a>, b: Floats<'a>) -> impl Iterator<Item = (f64, f64)> + 'a {
    a.components().zip(b.components()).map(|(x, y)| (f64::from(x), f64::from(y)))
}

/// To the nearest f32; one NaN, whatever its sign was.
fn rounded(value: f64) -> f32 {
    if value.is_nan() { f32::NAN } else { value as f32 }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::distance::{Kernels, Sum};

    #[test]
    fn sums_that_are_whole_keep_their_bits() {
        let (a, b) = ([0.5_f32, -2.0, 3.25], [1.5_f32, 0.125, -7.0]);
        let (a, b) = (Floats::from(&a[..]), Floats::from(&b[..]));
        let sum = |sum, a, b| Kernels::get().floats.pair(sum, a, b);
        let squares = sum(Sum::SquaredDifference, a, b);
        assert_eq!(l2(squares, a, b).to_bits(), squares.sqrt().to_bits());
        let dot = sum(Sum::Product, a, b);
        assert_eq!(product(dot, a, b).to_bits(), dot.to_bits());
        assert_eq!(length(sum(Sum::Product, a, a), a).to_bits(), sum(Sum::Product, a, a).sqrt().to_bits());
    }

    #[test]
    fn the_least_sum_is_what_its_comment_says() {
        assert_eq!(LEAST, 2.0_f32.powi(-100));
        assert!(
            !is_whole(0.0) && !is_whole(f32::MIN_POSITIVE) && !is_whole(f32::INFINITY) && !is_whole(f32::NAN)
        );
        assert!(is_whole(1e-29) && is_whole(f32::MAX));
    }

    #[test]
    fn equal_vectors_that_are_not_finite_have_no_distance() {
        let vector = [f32::INFINITY, 1.0];
        assert!(l2(f32::NAN, (&vector[..]).into(), (&vector[..]).into()).is_nan());
        let zero = [0.0_f32, -0.0];
        assert_eq!(l2(0.0, (&zero[..]).into(), (&[0.0, 0.0][..]).into()), 0.0);
        assert!(cosine([0.0; 3], (&zero[..]).into(), (&zero[..]).into()).is_nan());
    }
}
