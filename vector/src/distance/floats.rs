//! Safe entry to the sums over f32 vectors.
//!
//! Owns: the borrowed form of a vector ([`Floats`]), the table of sums, the checks before pointers are made.
//! Does not own: the loops (`lanes`) and what SQL makes of a sum (`metric`).
#![allow(unsafe_code, reason = "f32 seen as bytes, and kernels called after their lengths are checked")]

/// A vector: f32 components as little-endian bytes at any alignment, as they lie in a mapped page or in memory.
#[derive(Clone, Copy, Debug)]
pub struct Floats<'a>(&'a [u8]);

impl<'a> Floats<'a> {
    /// The vector in `bytes`; bytes after the last whole component are left out.
    #[must_use]
    pub fn from_bytes(bytes: &'a [u8]) -> Self {
        Self(&bytes[..bytes.len() / 4 * 4])
    }

    /// How many components it has.
    #[must_use]
    pub fn dim(self) -> usize {
        self.0.len() / 4
    }

    /// Its bytes.
    #[must_use]
    pub fn bytes(self) -> &'a [u8] {
        self.0
    }

    /// Its components.
    pub fn components(self) -> impl ExactSizeIterator<Item = f32> + 'a {
        self.0.chunks_exact(4).map(|c| f32::from_le_bytes([c[0], c[1], c[2], c[3]]))
    }
}

impl<'a> From<&'a [f32]> for Floats<'a> {
    fn from(vector: &'a [f32]) -> Self {
        // SAFETY: every byte of an f32 is initialised, and bytes need no alignment; the host is little-endian (`distance`).
        Self(unsafe { std::slice::from_raw_parts(vector.as_ptr().cast(), size_of_val(vector)) })
    }
}

impl<'a> From<&'a Vec<f32>> for Floats<'a> {
    fn from(vector: &'a Vec<f32>) -> Self {
        vector.as_slice().into()
    }
}

/// Which sum.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sum {
    /// `Σ (a - b)²`
    SquaredDifference,
    /// `Σ a · b`
    Product,
    /// `Σ |a - b|`
    AbsoluteDifference,
}

/// `Σ` over one pair; both have `4 * dim` bytes.
pub(super) type PairKernel = unsafe fn(*const u8, *const u8, usize) -> f32;
/// One query and the rows after the other pointer, `dim` components each; as many as the output holds.
pub(super) type ManyKernel = unsafe fn(*const u8, *const u8, usize, &mut [f32]);
/// The same, with the product and the row's own squared norm.
pub(super) type ManyNormKernel = unsafe fn(*const u8, *const u8, usize, &mut [[f32; 2]]);

/// Sums of one instruction set, by [`Sum`].
#[derive(Debug)]
pub struct F32Kernels {
    pub(super) pair: [PairKernel; 3],
    pub(super) many: [ManyKernel; 3],
    pub(super) many_norm: ManyNormKernel,
}

impl F32Kernels {
    /// The sum over two vectors; over the shorter one's components when they differ in length.
    #[must_use]
    pub fn pair(&self, sum: Sum, a: Floats<'_>, b: Floats<'_>) -> f32 {
        // SAFETY: both have `4 * dim` bytes.
        unsafe { self.pair[sum as usize](a.0.as_ptr(), b.0.as_ptr(), a.dim().min(b.dim())) }
    }

    /// The sums over `query` and each of the rows that lie one after the other in `rows`.
    ///
    /// # Panics
    /// When `rows` is shorter than `out.len()` rows of the query's dimension.
    pub fn many(&self, sum: Sum, query: Floats<'_>, rows: &[u8], out: &mut [f32]) {
        assert!(rows.len() / 4 / query.dim().max(1) >= out.len(), "fewer rows than results");
        // SAFETY: `rows` has `out.len()` rows.
        unsafe { self.many[sum as usize](query.0.as_ptr(), rows.as_ptr(), query.dim(), out) }
    }

    /// Per row `[query · row, row · row]`.
    ///
    /// # Panics
    /// As [`F32Kernels::many`].
    pub fn many_with_norm(&self, query: Floats<'_>, rows: &[u8], out: &mut [[f32; 2]]) {
        assert!(rows.len() / 4 / query.dim().max(1) >= out.len(), "fewer rows than results");
        // SAFETY: `rows` has `out.len()` rows.
        unsafe { (self.many_norm)(query.0.as_ptr(), rows.as_ptr(), query.dim(), out) }
    }
}

/// The f32 kernels over one [`F32Lanes`](super::lanes::F32Lanes), compiled for its instruction set.
macro_rules! float_kernels {
    ($lanes:ty $(, #[$feature:meta])?) => {{
        use $crate::distance::lanes::{AbsoluteDifference, Product, SquaredDifference, Term};

        $(#[$feature])?
        unsafe fn pair<T: Term>(a: *const u8, b: *const u8, dim: usize) -> f32 {
            // SAFETY: as this function.
            unsafe { $crate::distance::lanes::sum::<$lanes, T>(a, b, dim, false) }
        }
        $(#[$feature])?
        unsafe fn many<T: Term>(a: *const u8, rows: *const u8, dim: usize, out: &mut [f32]) {
            let ahead = $crate::distance::lanes::rows_ahead(out.len(), dim);
            for (i, out) in out.iter_mut().enumerate() {
                // SAFETY: as this function.
                *out = unsafe {
                    $crate::distance::lanes::sum::<$lanes, T>(a, rows.add(i * dim * 4), dim, i < ahead)
                };
            }
        }
        $(#[$feature])?
        unsafe fn many_norm(a: *const u8, rows: *const u8, dim: usize, out: &mut [[f32; 2]]) {
            let ahead = $crate::distance::lanes::rows_ahead(out.len(), dim);
            for (i, out) in out.iter_mut().enumerate() {
                // SAFETY: as this function.
                *out = unsafe {
                    $crate::distance::lanes::dot_and_norm::<$lanes>(a, rows.add(i * dim * 4), dim, i < ahead)
                };
            }
        }
        $crate::distance::F32Kernels {
            pair: [pair::<SquaredDifference>, pair::<Product>, pair::<AbsoluteDifference>],
            many: [many::<SquaredDifference>, many::<Product>, many::<AbsoluteDifference>],
            many_norm,
        }
    }};
}
pub(super) use float_kernels;
