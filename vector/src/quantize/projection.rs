//! Points seen along the few axes they differ most along, and the distance that is left at least.
//!
//! Owns: projecting a point, what that may round off. Does not own: choosing the axes (`hnsw::sketch`), codes of what comes out
//! (the grid).
//!
//! # Bound
//! Rows `w` of the matrix W are axes; W shrinks every vector a little or leaves its length, so does `M = (I - WᵀW)^½`, and
//! `|Wd|² + |Md|² = |d|²`. A point c becomes `(Wc, |Mc|)`. For two points `|Wp - Wq|² + (|Mp| - |Mq|)² <= |p - q|²`: what
//! is near has a near projection, and a projection that is far is of a point that is far (filter and refine: Seidl and Kriegel, SIGMOD
//! 1998; the axes are principal components).

use crate::distance::{Floats, Kernels, Sum};

/// Axes.
pub(crate) const AXES: usize = 63;
/// Components of a projection: one per axis, and the length of the rest.
pub(crate) const WIDTH: usize = AXES + 1;

/// The mean of some points, then the axes through it, each of as many components as a point.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Projection<'a> {
    mean: Floats<'a>,
    axes: &'a [u8],
}

impl<'a> Projection<'a> {
    /// Over `1 + AXES` vectors of `dim` components, one after the other; None when `floats` is not as long.
    pub(crate) fn new(floats: Floats<'a>, dim: usize) -> Option<Self> {
        let (mean, axes) = floats.bytes().split_at_checked(4 * dim)?;
        (dim > 0 && axes.len() == 4 * dim * AXES).then_some(Self { mean: Floats::from_bytes(mean), axes })
    }

    /// Writes the projection of `point`, which is left as its difference to the mean. Returns how far the result may be from where
    /// it should be; None: the point is so far from the others that its length is no f32.
    pub(crate) fn project(&self, point: &mut [f32], out: &mut [f32; WIDTH]) -> Option<f64> {
        point.iter_mut().zip(self.mean.components()).for_each(|(c, mean)| *c -= mean);
        let (point, floats) = (Floats::from(&*point), &Kernels::get().floats);
        let square = f64::from(floats.pair(Sum::Product, point, point));
        if !square.is_finite() {
            return None;
        }
        floats.many(Sum::Product, point, self.axes, &mut out[..AXES]);
        let inside: f64 = out[..AXES].iter().map(|&along| f64::from(along).powi(2)).sum();
        let rest = (square - inside).max(0.0).sqrt();
        out[AXES] = rest as f32;
        Some(rounding(point.dim(), square, rest))
    }
}

/// What sums over `dim` products may round off a projection of a point with this squared length and rest.
fn rounding(dim: usize, square: f64, rest: f64) -> f64 {
    let relative = (dim / 32 + 8) as f64 * f64::from(f32::EPSILON);
    let length = square.sqrt();
    let along = (AXES as f64).sqrt() * relative * length;
    let of_square = relative * square + 2.0 * length * along;
    // Of a root: |√(a + e) - √a| is at most √e, and at most e / √a.
    let of_rest = of_square / rest.max(of_square.sqrt()).max(f64::MIN_POSITIVE);
    along + of_rest + length * f64::from(f32::EPSILON)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::random::Random;

    const DIM: usize = 100;

    fn vector(random: &mut Random, scale: f32) -> Vec<f32> {
        (0..DIM).map(|_| (random.below(2001) as f32 - 1000.0) * scale).collect()
    }

    #[test]
    fn projections_are_never_farther_apart_than_points() {
        let mut random = Random::new(1, 2);
        // Unit vectors of a basis are axes of the kind; the last ones are missing.
        let mut floats = vector(&mut random, 0.01);
        for axis in 0..AXES {
            floats.extend((0..DIM).map(|i| if i == axis { 1.0 } else { 0.0 }));
        }
        let projection = Projection::new((&floats).into(), DIM).unwrap();
        for _ in 0..200 {
            let scale = 10.0_f32.powi(random.below(9) as i32 - 4);
            let points = [vector(&mut random, scale), vector(&mut random, scale / 100.0)];
            let exact: f64 =
                points[0].iter().zip(&points[1]).map(|(a, b)| f64::from(a - b).powi(2)).sum::<f64>().sqrt();
            let mut errors = 0.0;
            let projected = points.map(|mut point| {
                let mut out = [0.0; WIDTH];
                errors += projection.project(&mut point, &mut out).unwrap();
                out
            });
            let between = projected[0].iter().zip(&projected[1]);
            let between: f64 = between.map(|(a, b)| f64::from(a - b).powi(2)).sum::<f64>().sqrt();
            assert!(between - errors <= exact, "{between} - {errors} > {exact}");
            assert!(between >= exact * 0.5, "{between} of {exact}");
        }
    }

    #[test]
    fn lengths_beyond_f32_have_none() {
        let floats = vec![0.0; (1 + AXES) * DIM];
        let projection = Projection::new((&floats).into(), DIM).unwrap();
        assert!(projection.project(&mut [1e30; DIM], &mut [0.0; WIDTH]).is_none());
        assert_eq!(projection.project(&mut [0.0; DIM], &mut [1.0; WIDTH]), Some(0.0));
        assert!(Projection::new((&floats).into(), DIM - 1).is_none());
    }
}
