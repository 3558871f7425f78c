//! Safe entry to the products of 8-bit codes.
//!
//! Owns: the forms codes have in memory ([`CodeRows`], [`Panel`], [`CodeQuery`]), the score they give, the checks before pointers
//! are made. Does not own: how a vector becomes codes and what a score means as a distance (`quantize`).
//!
//! A score is `norm(row) + ratio · (sum - bias)` in f32, where `sum` is the exact integer sum over the codes: the
//! products for Euclidean geometry, the absolute differences for L1. It orders rows by their distance to the query.
#![allow(unsafe_code, reason = "kernels called after their lengths and ids are checked")]

use super::round::Rounded;

/// Rows of a group of a [`Panel`].
pub const PANEL_ROWS: usize = 16;

/// Bytes on a cache line of their own.
#[derive(Clone, Copy, Debug)]
#[repr(C, align(64))]
struct Line([u8; 64]);

/// Codes on cache-line boundaries.
#[derive(Clone, Debug, Default)]
pub struct AlignedCodes(Vec<Line>);

impl AlignedCodes {
    /// `bytes` zeros, rounded up to whole lines.
    #[must_use]
    pub fn zeroed(bytes: usize) -> Self {
        Self(vec![Line([0; 64]); bytes.div_ceil(64)])
    }

    /// Makes it `bytes` long, rounded up to whole lines; new bytes are zero.
    pub fn resize(&mut self, bytes: usize) {
        self.0.resize(bytes.div_ceil(64), Line([0; 64]));
    }

    /// All bytes.
    #[must_use]
    pub fn bytes(&self) -> &[u8] {
        // SAFETY: a `Line` is 64 initialised bytes without padding.
        unsafe { std::slice::from_raw_parts(self.0.as_ptr().cast(), self.0.len() * 64) }
    }

    /// All bytes.
    pub fn bytes_mut(&mut self) -> &mut [u8] {
        // SAFETY: as in `bytes`; any bytes are a valid `Line`.
        unsafe { std::slice::from_raw_parts_mut(self.0.as_mut_ptr().cast(), self.0.len() * 64) }
    }
}

impl AsRef<[u8]> for AlignedCodes {
    fn as_ref(&self) -> &[u8] {
        self.bytes()
    }
}

/// Rows of codes one after the other, with the norm of each.
#[derive(Clone, Copy, Debug)]
pub struct CodeRows<'a> {
    codes: &'a [u8],
    norms: &'a [u8],
    stride: usize,
}

impl<'a> CodeRows<'a> {
    /// `codes` in rows of `stride` bytes, `norms` their f32 norms, little-endian. As many rows as both hold.
    ///
    /// # Panics
    /// When `stride` is not a positive multiple of 64.
    #[must_use]
    pub fn new(codes: &'a [u8], norms: &'a [u8], stride: usize) -> Self {
        assert!(stride > 0 && stride.is_multiple_of(64), "a code row is whole cache lines");
        let rows = (codes.len() / stride).min(norms.len() / 4);
        Self { codes: &codes[..rows * stride], norms: &norms[..rows * 4], stride }
    }

    /// How many rows there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.norms.len() / 4
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.norms.is_empty()
    }

    /// Bytes of a row.
    #[must_use]
    pub fn stride(&self) -> usize {
        self.stride
    }

    /// The codes of row `id`.
    ///
    /// # Panics
    /// When there is no such row.
    #[must_use]
    pub fn row(&self, id: u32) -> &'a [u8] {
        &self.codes[id as usize * self.stride..][..self.stride]
    }

    /// The norm of row `id`.
    ///
    /// # Panics
    /// When there is no such row.
    #[must_use]
    pub fn norm(&self, id: u32) -> f32 {
        let at = id as usize * 4;
        f32::from_le_bytes([self.norms[at], self.norms[at + 1], self.norms[at + 2], self.norms[at + 3]])
    }
}

/// Rows of codes for comparing all of them at once: groups of 16 rows, in each group four bytes of row 0, four of row
/// 1, … four of row 15, then the next four bytes of each.
#[derive(Clone, Copy, Debug)]
pub struct Panel<'a> {
    bytes: &'a [u8],
    stride: usize,
}

impl<'a> Panel<'a> {
    /// The whole groups in `bytes`.
    ///
    /// # Panics
    /// When `stride` is not a positive multiple of 64.
    #[must_use]
    pub fn new(bytes: &'a [u8], stride: usize) -> Self {
        assert!(stride > 0 && stride.is_multiple_of(64), "a code row is whole cache lines");
        let group = stride * PANEL_ROWS;
        Self { bytes: &bytes[..bytes.len() / group * group], stride }
    }

    /// Rows, those that fill up the last group included.
    #[must_use]
    pub fn width(&self) -> usize {
        self.bytes.len() / self.stride
    }

    /// Writes the codes of one row into its place in the `bytes` of a panel.
    ///
    /// # Panics
    /// When the panel has no such row.
    pub fn put(bytes: &mut [u8], row: usize, codes: &[u8]) {
        let group = &mut bytes[row / PANEL_ROWS * PANEL_ROWS * codes.len()..][..PANEL_ROWS * codes.len()];
        let lane = row % PANEL_ROWS * 4;
        for (to, from) in group.chunks_exact_mut(4 * PANEL_ROWS).zip(codes.chunks_exact(4)) {
            to[lane..lane + 4].copy_from_slice(from);
        }
    }
}

/// A query as codes, with the constants that make a sum a score.
#[derive(Clone, Debug, Default)]
pub struct CodeQuery {
    /// Signed codes for products, unsigned ones for differences; as long as a row.
    pub codes: AlignedCodes,
    /// Taken off the sum: what the unsigned offset of the rows added to it.
    pub bias: i32,
    /// What one unit of the sum is worth.
    pub ratio: f32,
}

impl CodeQuery {
    /// The score of a row with this norm and sum.
    #[must_use]
    #[inline(always)]
    pub fn score(&self, norm: f32, sum: i32) -> f32 {
        norm + self.ratio * (sum.wrapping_sub(self.bias)) as f32
    }
}

/// Which sum over codes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CodeSum {
    /// Products of unsigned row codes and signed query codes.
    Product,
    /// Absolute differences of unsigned codes.
    AbsoluteDifference,
}

pub(super) type GatherKernel = unsafe fn(&CodeRows<'_>, &[u32], &CodeQuery, &mut [f32]);
/// Panel, (stride, groups), queries, their count, sums.
pub(super) type PanelKernel = unsafe fn(*const u8, (usize, usize), *const u8, usize, *mut i32);

/// Point, lowest values, offset; see `round`.
pub(super) type FarthestKernel = unsafe fn(&[f32], &[f32], f32) -> f32;
/// The same, and step and codes.
pub(super) type RoundKernel = unsafe fn(&[f32], &[f32], f32, f32, &mut [u8]) -> Rounded;

/// Code sums of one instruction set, by [`CodeSum`], and the rounding of queries.
#[derive(Debug)]
pub struct CodeKernels {
    pub(super) farthest: FarthestKernel,
    pub(super) round: RoundKernel,
    pub(super) gather: [GatherKernel; 2],
    pub(super) panel: [PanelKernel; 2],
}

impl CodeKernels {
    /// Scores of the rows `ids`, in their order.
    ///
    /// # Panics
    /// When an id is not a row, the query is shorter than a row, or `out` is shorter than `ids`.
    #[inline]
    pub fn scores(&self, sum: CodeSum, rows: &CodeRows<'_>, ids: &[u32], query: &CodeQuery, out: &mut [f32]) {
        let highest = ids.iter().fold(0, |h, &id| h.max(id)) as usize;
        assert!(highest < rows.len() || ids.is_empty(), "row id beyond the codes");
        assert!(query.codes.bytes().len() >= rows.stride && out.len() >= ids.len(), "short query or output");
        // SAFETY: every id is a row, query and output are long enough.
        unsafe { self.gather[sum as usize](rows, ids, query, out) }
    }

    /// The largest `|point - (low + offset)|`.
    #[must_use]
    pub(crate) fn farthest(&self, point: &[f32], low: &[f32], offset: f32) -> f32 {
        // SAFETY: these kernels are given out where their instruction set exists; they check lengths themselves.
        unsafe { (self.farthest)(point, low, offset) }
    }

    /// Writes the signed codes of `point - (low + offset)` in steps of `unit` to the beginning of `codes`.
    ///
    /// # Panics
    /// When `low` or `codes` is shorter than `point`.
    pub(crate) fn round(
        &self,
        point: &[f32],
        low: &[f32],
        offset: f32,
        unit: f32,
        codes: &mut [u8],
    ) -> Rounded {
        // SAFETY: as in `farthest`.
        unsafe { (self.round)(point, low, offset, unit, codes) }
    }

    /// Raw sums of `count` queries of `stride` bytes each and all rows of the panel: `width` sums per query.
    ///
    /// # Panics
    /// When `queries` or `out` is too short.
    pub fn panel(&self, sum: CodeSum, panel: &Panel<'_>, queries: &[u8], count: usize, out: &mut [i32]) {
        assert!(
            queries.len() >= count * panel.stride && out.len() >= count * panel.width(),
            "short queries or output"
        );
        let shape = (panel.stride, panel.width() / PANEL_ROWS);
        // SAFETY: the panel has its groups, queries and output were checked.
        unsafe {
            self.panel[sum as usize](panel.bytes.as_ptr(), shape, queries.as_ptr(), count, out.as_mut_ptr());
        }
    }
}

/// The code kernels over one pair of lanes, compiled for their instruction set.
macro_rules! code_kernels {
    ($rows:ty, $panel:ty $(, #[$feature:meta])?) => {{
        use $crate::distance::codes::{CodeQuery, CodeRows};
        use $crate::distance::code_lanes::CodeTerm;
        use $crate::distance::lanes::{AbsoluteDifference, Product};

        $(#[$feature])?
        unsafe fn gather<T: CodeTerm>(rows: &CodeRows<'_>, ids: &[u32], query: &CodeQuery, out: &mut [f32]) {
            let (codes, stride, vector) = (rows.codes_ptr(), rows.stride(), query.codes.bytes().as_ptr());
            // SAFETY: as this function: every id is a row, the query is as long as one.
            unsafe {
                let mut done = 0;
                if stride == 64 {
                    done = $crate::distance::code_lanes::gather_lines::<$rows, T>(codes, ids, vector, |at, ids, sums| {
                        let norms = rows.norms_unchecked(ids);
                        for ((&norm, &sum), out) in norms.iter().zip(&sums).zip(&mut out[at..at + sums.len()]) {
                            *out = query.score(norm, sum);
                        }
                    });
                }
                let (ids, out) = (&ids[done..], &mut out[done..]);
                $crate::distance::code_lanes::gather::<$rows, T>(codes, stride, ids, vector, |at, four, sums| {
                    for ((&id, &sum), out) in four.iter().zip(&sums).zip(&mut out[at..]) {
                        *out = query.score(rows.norm_unchecked(id), sum);
                    }
                });
            }
        }
        $(#[$feature])?
        unsafe fn panel<T: CodeTerm>(
            panel: *const u8,
            shape: (usize, usize),
            queries: *const u8,
            count: usize,
            out: *mut i32,
        ) {
            // SAFETY: as this function.
            unsafe { $crate::distance::code_lanes::panel::<$panel, T>(panel, shape, queries, count, out) }
        }
        // The loops are safe; that the instruction set exists is what the caller answers for.
        $(#[$feature])?
        unsafe fn farthest(point: &[f32], low: &[f32], offset: f32) -> f32 {
            $crate::distance::round::farthest(point, low, offset)
        }
        $(#[$feature])?
        unsafe fn round(point: &[f32], low: &[f32], offset: f32, unit: f32, codes: &mut [u8]) -> $crate::distance::Rounded {
            $crate::distance::round::signed(point, low, offset, unit, codes)
        }
        $crate::distance::CodeKernels {
            farthest,
            round,
            gather: [gather::<Product>, gather::<AbsoluteDifference>],
            panel: [panel::<Product>, panel::<AbsoluteDifference>],
        }
    }};
}
pub(super) use code_kernels;

impl CodeRows<'_> {
    pub(super) fn codes_ptr(&self) -> *const u8 {
        self.codes.as_ptr()
    }

    /// # Safety
    /// `id` is a row.
    #[inline(always)]
    pub(super) unsafe fn norm_unchecked(&self, id: u32) -> f32 {
        // SAFETY: there are four bytes per row.
        unsafe { self.norms.as_ptr().add(id as usize * 4).cast::<f32>().read_unaligned() }
    }

    /// # Safety
    /// Each of `ids` is a row.
    #[inline(always)]
    pub(super) unsafe fn norms_unchecked<const N: usize>(&self, ids: &[u32; N]) -> [f32; N] {
        let first = ids[0];
        // Of rows next to each other, all at once.
        if ids.iter().zip(0..).fold(true, |all, (&id, i)| all & (id == first.wrapping_add(i))) {
            // SAFETY: there are four bytes per row, and these are N rows.
            return unsafe {
                self.norms.as_ptr().add(first as usize * 4).cast::<[f32; N]>().read_unaligned()
            };
        }
        let mut norms = [0.0; N];
        for (norm, &id) in norms.iter_mut().zip(ids) {
            // SAFETY: as this function.
            *norm = unsafe { self.norm_unchecked(id) };
        }
        norms
    }
}
