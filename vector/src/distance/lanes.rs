//! What an instruction set has to offer for the f32 kernels to be written once.
//!
//! Owns: the traits and the loops over them. Does not own: instructions. The loops are inlined into functions that are
//! compiled for one instruction set, so a trait method becomes one or two instructions.
#![allow(unsafe_code, reason = "loads through pointers whose length the safe entry points have checked")]

/// Thirty-two f32 lanes: the width of the canonical sum.
pub(super) const LANES: usize = 32;
const LANE_BYTES: usize = LANES * 4;

/// How far ahead of the sum the next rows are fetched, in bytes: two pages, which the hardware's own prefetch, stopping at
/// the end of each page, does not look past.
const AHEAD_BYTES: usize = 4096;

/// Of `count` rows, how many to fetch ahead from: not the last ones, behind which there is nothing to fetch.
pub(super) fn rows_ahead(count: usize, dim: usize) -> usize {
    count.saturating_sub(AHEAD_BYTES.div_ceil(dim.max(1) * 4))
}

/// Arithmetic on 32 f32 lanes.
///
/// # Safety
/// Every method may only run where the instruction set of the implementation exists.
pub(super) trait F32Lanes: Copy {
    unsafe fn zero() -> Self;
    /// Reads 128 bytes, at any alignment.
    unsafe fn load(bytes: *const u8) -> Self;
    /// Reads `count` < 32 components, at any alignment; the other lanes are zero.
    unsafe fn load_first(bytes: *const u8, count: usize) -> Self;
    unsafe fn add(self, other: Self) -> Self;
    unsafe fn sub(self, other: Self) -> Self;
    unsafe fn mul(self, other: Self) -> Self;
    unsafe fn abs(self) -> Self;
    /// Adds the lanes in halves: 16, 8, 4, 2, 1.
    unsafe fn sum(self) -> f32;
    unsafe fn prefetch(bytes: *const u8);
}

/// One kind of sum: what a pair of components adds to it.
pub(super) trait Term {
    unsafe fn of<L: F32Lanes>(a: L, b: L) -> L;
}

/// `(a - b)²`
pub(super) struct SquaredDifference;
/// `a · b`
pub(super) struct Product;
/// `|a - b|`
pub(super) struct AbsoluteDifference;

impl Term for SquaredDifference {
    #[inline(always)]
    unsafe fn of<L: F32Lanes>(a: L, b: L) -> L {
        // SAFETY: as this function.
        unsafe {
            let difference = a.sub(b);
            difference.mul(difference)
        }
    }
}

impl Term for Product {
    #[inline(always)]
    unsafe fn of<L: F32Lanes>(a: L, b: L) -> L {
        // SAFETY: as this function.
        unsafe { a.mul(b) }
    }
}

impl Term for AbsoluteDifference {
    #[inline(always)]
    unsafe fn of<L: F32Lanes>(a: L, b: L) -> L {
        // SAFETY: as this function.
        unsafe { a.sub(b).abs() }
    }
}

#[inline(always)]
fn canonical(sum: f32) -> f32 {
    if sum.is_nan() { f32::NAN } else { sum }
}

/// The sum of `T` over `dim` components of `a` and `b`.
///
/// # Safety
/// Both pointers have `4 * dim` readable bytes; the instruction set of `L` exists.
#[inline(always)]
pub(super) unsafe fn sum<L: F32Lanes, T: Term>(a: *const u8, b: *const u8, dim: usize, ahead: bool) -> f32 {
    // SAFETY: the offsets stay below `4 * dim`; a prefetch may name any address.
    unsafe {
        let mut total = L::zero();
        let whole = dim / LANES * LANE_BYTES;
        let mut at = 0;
        while at < whole {
            if ahead {
                L::prefetch(b.wrapping_add(at + AHEAD_BYTES));
                L::prefetch(b.wrapping_add(at + AHEAD_BYTES + 64));
            }
            total = total.add(T::of(L::load(a.add(at)), L::load(b.add(at))));
            at += LANE_BYTES;
        }
        let rest = dim % LANES;
        if rest > 0 {
            total = total.add(T::of(L::load_first(a.add(at), rest), L::load_first(b.add(at), rest)));
        }
        canonical(total.sum())
    }
}

/// `a · b` and `b · b` in one pass over `b`, each the same bits as [`sum`] of `Product` gives.
///
/// # Safety
/// As [`sum`].
#[inline(always)]
pub(super) unsafe fn dot_and_norm<L: F32Lanes>(
    a: *const u8,
    b: *const u8,
    dim: usize,
    ahead: bool,
) -> [f32; 2] {
    // SAFETY: as in `sum`.
    unsafe {
        let (mut dot, mut norm) = (L::zero(), L::zero());
        let whole = dim / LANES * LANE_BYTES;
        let mut at = 0;
        while at < whole {
            if ahead {
                L::prefetch(b.wrapping_add(at + AHEAD_BYTES));
                L::prefetch(b.wrapping_add(at + AHEAD_BYTES + 64));
            }
            let y = L::load(b.add(at));
            dot = dot.add(L::load(a.add(at)).mul(y));
            norm = norm.add(y.mul(y));
            at += LANE_BYTES;
        }
        let rest = dim % LANES;
        if rest > 0 {
            let y = L::load_first(b.add(at), rest);
            dot = dot.add(L::load_first(a.add(at), rest).mul(y));
            norm = norm.add(y.mul(y));
        }
        [canonical(dot.sum()), canonical(norm.sum())]
    }
}
