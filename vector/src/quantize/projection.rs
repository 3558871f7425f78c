//! Points seen along the few axes they differ most along, and the distance that is left at least.
//!
//! Owns: projecting a point that is given as codes, what that may round off, axes as codes. Does not own: choosing the axes
//! (`hnsw::sketch`), codes of what comes out (the grid).
//!
//! # Bound
//! Rows `w` of the matrix W are axes; W shrinks every vector a little or leaves its length, so does `M = (I - WᵀW)^½`, and
//! `|Wd|² + |Md|² = |d|²`. A point c becomes `(Wc, |Mc|)`. For two points `|Wp - Wq|² + (|Mp| - |Mq|)² <= |p - q|²`: what
//! is near has a near projection, and a projection that is far is of a point that is far (filter and refine: Seidl and Kriegel, SIGMOD
//! 1998; the axes are principal components).
//!
//! # Integers
//! Points are codes, so are the axes, each with a scale of its own, and the centre that points are counted from: one panel, whose
//! products with a point are exact. Axes as codes are no longer quite orthogonal. With `WWᵀ = I + E`, W lengthens nothing by more
//! than `(1 + |E|)^½`, which the scales take off, and `|E|` is at most the fourth root of the Frobenius norm of `E⁴`.

use super::grid::FILLER;
use crate::distance::{AlignedCodes, CodeQuery, CodeSum, Kernels, Panel};

/// Axes.
pub(crate) const AXES: usize = 63;
/// Components of a projection: one per axis, and the length of the rest.
pub(crate) const WIDTH: usize = AXES + 1;

/// The largest code of an axis.
const CODE_MAX: f64 = 127.0;
/// Keeps the scales, rounded to f32, from lengthening anything.
const SHRINK: f64 = 1.0 - 1e-6;
/// What sums in f64 may round off, over the sum of the lengths of their terms.
const ROUNDED: f64 = 256.0 * f64::EPSILON;

/// What the sums along axes are worth.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Frame {
    /// Length of a component of each axis per unit of its codes; the last stands for the centre and is not used.
    pub(crate) scales: [f32; WIDTH],
    /// The products of the centre with each axis, all as codes, then with itself.
    pub(crate) centre: [i32; WIDTH],
}

/// Axes and centre as codes.
#[derive(Clone, Debug)]
pub(crate) struct Axes {
    panel: AlignedCodes,
    pub(crate) frame: Frame,
}

impl Axes {
    /// The nearest codes of orthonormal `axes`, one after the other (or zeros for some of them), and of the `centre`, in steps
    /// around the middle of the codes; rows of the panel have `stride` bytes.
    pub(crate) fn new(centre: &[f32], axes: &[f32], stride: usize) -> Self {
        let mut rows: Vec<Vec<i8>> = axes.chunks_exact(centre.len()).map(codes_of_axis).collect();
        rows.push(centre.iter().map(|&c| c.round() as i8).collect());
        let mut panel = AlignedCodes::zeroed(WIDTH * stride);
        let mut padded = vec![FILLER; stride];
        for (place, row) in rows.iter().enumerate() {
            padded.iter_mut().zip(row).for_each(|(to, &code)| *to = code.cast_unsigned() ^ FILLER);
            Panel::put(panel.bytes_mut(), place, &padded);
        }
        let mut frame = Frame { scales: [0.0; WIDTH], centre: [0; WIDTH] };
        let lengths: Vec<f64> = rows.iter().map(|row| f64::from(product(row, row)).sqrt()).collect();
        let shrink = SHRINK / (1.0 + skew(&rows[..AXES], &lengths)).sqrt();
        for (place, row) in rows.iter().enumerate() {
            frame.centre[place] = product(row, &rows[AXES]);
            if place < AXES && lengths[place] > 0.0 {
                frame.scales[place] = (shrink / lengths[place]) as f32;
            }
        }
        Self { panel, frame }
    }

    /// The bytes of the panel.
    pub(crate) fn bytes(&self) -> &[u8] {
        self.panel.bytes()
    }

    pub(crate) fn projection(&self, stride: usize) -> Projection<'_> {
        Projection { panel: Panel::new(self.panel.bytes(), stride), frame: &self.frame }
    }
}

fn codes_of_axis(axis: &[f32]) -> Vec<i8> {
    let largest = axis.iter().fold(0.0_f32, |most, c| most.max(c.abs()));
    let scale = if largest > 0.0 { CODE_MAX / f64::from(largest) } else { 0.0 };
    axis.iter().map(|&c| (f64::from(c) * scale).round() as i8).collect()
}

fn product(a: &[i8], b: &[i8]) -> i32 {
    a.iter().zip(b).map(|(&a, &b)| i32::from(a) * i32::from(b)).sum()
}

/// How far axes of these lengths are from orthogonal: a bound on the norm of `WWᵀ - I`, each axis having length 1.
fn skew(axes: &[Vec<i8>], lengths: &[f64]) -> f64 {
    let mut matrix = vec![0.0; AXES * AXES];
    for (i, a) in axes.iter().enumerate() {
        for (j, b) in axes.iter().enumerate().filter(|&(j, _)| j != i && lengths[i] * lengths[j] > 0.0) {
            matrix[i * AXES + j] = f64::from(product(a, b)) / (lengths[i] * lengths[j]);
        }
    }
    for _ in 0..2 {
        matrix = squared(&matrix);
    }
    let squares: f64 = matrix.iter().map(|c| c * c).sum();
    // Not a power: roots have the same bits on every machine.
    squares.sqrt().sqrt().sqrt() * (1.0 + 1e-9)
}

/// A symmetric matrix times itself.
fn squared(matrix: &[f64]) -> Vec<f64> {
    let rows = || matrix.chunks_exact(AXES);
    rows().flat_map(|a| rows().map(|b| a.iter().zip(b).map(|(a, b)| a * b).sum())).collect()
}

/// Axes and centre in the bytes of a unit or of [`Axes`].
#[derive(Clone, Copy, Debug)]
pub(crate) struct Projection<'a> {
    panel: Panel<'a>,
    frame: &'a Frame,
}

impl<'a> Projection<'a> {
    /// None when `panel` has not [`WIDTH`] rows.
    pub(crate) fn new(panel: Panel<'a>, frame: &'a Frame) -> Option<Self> {
        (panel.width() == WIDTH).then_some(Self { panel, frame })
    }

    /// Writes the projection of the point whose codes are `point`, with the squared length `square`, to `out`, in steps of the
    /// codes. Returns how far the result may be from where it should be; None: the point is so far from the others that its length
    /// is no number.
    pub(crate) fn project(&self, point: &CodeQuery, square: f64, out: &mut [f32; WIDTH]) -> Option<f64> {
        let Frame { scales, centre } = self.frame;
        let mut sums = [0; WIDTH];
        Kernels::get().codes.panel(CodeSum::Product, &self.panel, point.codes.bytes(), 1, &mut sums);
        // Codes of the point are this many steps.
        let factor = -0.5 * f64::from(point.ratio);
        let product = |place: usize| factor * f64::from(sums[place].wrapping_sub(point.bias));
        let mut inside = 0.0;
        for (place, out) in out[..AXES].iter_mut().enumerate() {
            let along = f64::from(scales[place]) * (product(place) - f64::from(centre[place]));
            inside += along * along;
            *out = along as f32;
        }
        let (twice, of_centre) = (2.0 * product(AXES), f64::from(centre[AXES]));
        let distance = square - twice + of_centre;
        let rest = (distance - inside).max(0.0).sqrt();
        out[AXES] = rest as f32;
        // Of a root: |√(a + e) - √a| is at most √e, and at most e / √a.
        let of_square = ROUNDED * (square + twice.abs() + of_centre);
        let of_rest = of_square / rest.max(of_square.sqrt()).max(f64::MIN_POSITIVE);
        let rounded = of_rest + (inside + rest * rest).sqrt() * (f64::from(f32::EPSILON) + ROUNDED);
        (rounded.is_finite() && inside.is_finite()).then_some(rounded)
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::random::Random;

    const DIM: usize = 100;
    const STRIDE: usize = 128;

    /// Codes around their middle as those of a point, with its squared length.
    fn coded(codes: &[i8], factor: f32) -> (CodeQuery, f64) {
        let mut point = CodeQuery { codes: AlignedCodes::zeroed(STRIDE), ..CodeQuery::default() };
        point.codes.bytes_mut().iter_mut().zip(codes).for_each(|(to, code)| *to = code.cast_unsigned());
        point.bias = 128 * codes.iter().map(|&code| i32::from(code)).sum::<i32>();
        point.ratio = -2.0 * factor;
        (point, f64::from(factor).powi(2) * f64::from(product(codes, codes)))
    }

    /// Rows of a rotation by random planes: orthonormal, none along a component.
    fn rotated(random: &mut Random) -> Vec<f32> {
        let mut axes: Vec<f64> = (0..AXES * DIM).map(|i| f64::from(u8::from(i / DIM == i % DIM))).collect();
        for _ in 0..2_000 {
            let (i, j, angle) = (random.below(DIM), random.below(DIM), random.below(628) as f64 / 100.0);
            for axis in axes.chunks_exact_mut(DIM).filter(|_| i != j) {
                let (a, b) = (axis[i], axis[j]);
                (axis[i], axis[j]) = (a * angle.cos() - b * angle.sin(), a * angle.sin() + b * angle.cos());
            }
        }
        axes.into_iter().map(|c| c as f32).collect()
    }

    #[test]
    fn projections_are_never_farther_apart_than_points() {
        let mut random = Random::new(1, 2);
        let centre: Vec<f32> = (0..DIM).map(|_| random.below(200) as f32 - 100.0).collect();
        let axes = Axes::new(&centre, &rotated(&mut random), STRIDE);
        let projection = axes.projection(STRIDE);
        for round in 0..300 {
            let spread = [2, 20, 200][round % 3];
            let around: Vec<i32> = (0..DIM).map(|_| random.below(256) as i32 - 128).collect();
            let factors = [1.0, [1.0, 1.25, 3.0][round % 3]];
            let points = factors.map(|factor| {
                let moved = around.iter().map(|c| c + random.below(spread) as i32 - spread as i32 / 2);
                (moved.map(|c| c.clamp(-128, 127) as i8).collect::<Vec<_>>(), factor)
            });
            let place = |(codes, factor): &(Vec<i8>, f32), i: usize| f64::from(codes[i]) * f64::from(*factor);
            let exact =
                (0..DIM).map(|i| (place(&points[0], i) - place(&points[1], i)).powi(2)).sum::<f64>().sqrt();
            let mut errors = 0.0;
            let projected = points.map(|(codes, factor)| {
                let ((point, square), mut out) = (coded(&codes, factor), [0.0; WIDTH]);
                errors += projection.project(&point, square, &mut out).unwrap();
                out
            });
            let between = projected[0].iter().zip(&projected[1]);
            let between: f64 = between.map(|(a, b)| f64::from(a - b).powi(2)).sum::<f64>().sqrt();
            assert!(between - errors <= exact, "{between} - {errors} > {exact}");
            assert!(between >= exact * 0.5 && errors <= 0.01, "{between} of {exact}, error {errors}");
        }
    }

    #[test]
    fn no_direction_is_lengthened() {
        let mut random = Random::new(3, 4);
        let axes = rotated(&mut random);
        let rows: Vec<Vec<i8>> = axes.chunks_exact(DIM).map(codes_of_axis).collect();
        let axes = Axes::new(&[0.0; DIM], &axes, STRIDE);
        // The direction that the axes lengthen most, by power iteration.
        let mut direction: Vec<f64> = (0..DIM).map(|i| 1.0 + i as f64 / 50.0).collect();
        for _ in 0..2_000 {
            let mut next = vec![0.0; DIM];
            for (row, &scale) in rows.iter().zip(&axes.frame.scales) {
                let along = row.iter().zip(&direction).map(|(&w, d)| f64::from(w) * d).sum::<f64>();
                let along = along * f64::from(scale).powi(2);
                next.iter_mut().zip(row).for_each(|(sum, &w)| *sum += along * f64::from(w));
            }
            let largest = next.iter().fold(0.0_f64, |most, c| most.max(c.abs()));
            direction = next.iter().map(|c| c / largest).collect();
        }
        let codes: Vec<i8> = direction.iter().map(|c| (127.0 * c).round() as i8).collect();
        for factor in [1.0, 1.7] {
            let ((point, square), mut out) = (coded(&codes, factor), [0.0; WIDTH]);
            let rounded = axes.projection(STRIDE).project(&point, square, &mut out).unwrap();
            let along = out[..AXES].iter().map(|&c| f64::from(c).powi(2)).sum::<f64>().sqrt();
            assert!((0.98..=1.0).contains(&(along / square.sqrt())), "{along} of {}", square.sqrt());
            let length = out.iter().map(|&c| f64::from(c).powi(2)).sum::<f64>().sqrt();
            assert!((length - square.sqrt()).abs() <= rounded, "{length} for {}", square.sqrt());
        }
    }

    #[test]
    fn axes_that_are_not_orthogonal_are_shortened() {
        // All the same: together they lengthen by the root of their number.
        let axes = vec![0.1; AXES * DIM];
        let axes = Axes::new(&[0.0; DIM], &axes, STRIDE);
        let (point, square) = coded(&[10; DIM], 1.0);
        let mut out = [0.0; WIDTH];
        axes.projection(STRIDE).project(&point, square, &mut out).unwrap();
        let along = out[..AXES].iter().map(|&c| f64::from(c).powi(2)).sum::<f64>().sqrt();
        assert!((99.0..=100.0).contains(&along), "{along}");
    }

    #[test]
    fn lengths_beyond_numbers_have_none() {
        let axes = Axes::new(&[0.0; DIM], &[0.0; AXES * DIM], STRIDE);
        let projection = axes.projection(STRIDE);
        let (point, square) = coded(&[100; DIM], f32::INFINITY);
        assert!(projection.project(&point, square, &mut [0.0; WIDTH]).is_none());
        let (point, square) = coded(&[0; DIM], 1.0);
        assert!(projection.project(&point, square, &mut [1.0; WIDTH]).unwrap() < 1e-9);
        assert!(Projection::new(Panel::new(&axes.bytes()[..48 * STRIDE], STRIDE), &axes.frame).is_none());
    }
}
