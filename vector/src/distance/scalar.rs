//! The kernels in plain Rust: for machines without the others, and what the others are compared to.
#![allow(unsafe_code, reason = "the traits read through pointers")]

use super::Kernels;
use super::code_lanes::{CodeLanes, PanelLanes};
use super::codes::code_kernels;
use super::floats::float_kernels;
use super::lanes::{F32Lanes, LANES};

pub(super) static KERNELS: Kernels =
    Kernels { name: "scalar", floats: float_kernels!(Lanes), codes: code_kernels!(ScalarCodes, ScalarCodes) };

#[derive(Clone, Copy)]
struct Lanes([f32; LANES]);

impl Lanes {
    #[inline(always)]
    fn zip(self, other: Self, f: impl Fn(f32, f32) -> f32) -> Self {
        Self(std::array::from_fn(|i| f(self.0[i], other.0[i])))
    }
}

impl F32Lanes for Lanes {
    #[inline(always)]
    unsafe fn zero() -> Self {
        Self([0.0; LANES])
    }
    #[inline(always)]
    unsafe fn load(bytes: *const u8) -> Self {
        // SAFETY: the caller gives 128 readable bytes.
        Self(unsafe { bytes.cast::<[f32; LANES]>().read_unaligned() })
    }
    #[inline(always)]
    unsafe fn load_first(bytes: *const u8, count: usize) -> Self {
        let mut lanes = [0.0; LANES];
        // SAFETY: the caller gives `4 * count` readable bytes, `count` < 32.
        unsafe { std::ptr::copy_nonoverlapping(bytes, lanes.as_mut_ptr().cast(), count * 4) };
        Self(lanes)
    }
    #[inline(always)]
    unsafe fn add(self, other: Self) -> Self {
        self.zip(other, |a, b| a + b)
    }
    #[inline(always)]
    unsafe fn sub(self, other: Self) -> Self {
        self.zip(other, |a, b| a - b)
    }
    #[inline(always)]
    unsafe fn mul(self, other: Self) -> Self {
        self.zip(other, |a, b| a * b)
    }
    #[inline(always)]
    unsafe fn abs(self) -> Self {
        Self(self.0.map(f32::abs))
    }
    #[inline(always)]
    unsafe fn sum(mut self) -> f32 {
        let mut half = LANES / 2;
        while half > 0 {
            for i in 0..half {
                self.0[i] += self.0[i + half];
            }
            half /= 2;
        }
        self.0[0]
    }
    #[inline(always)]
    unsafe fn prefetch(_: *const u8) {}
}

/// Sums in plain integers.
pub(super) struct ScalarCodes;

impl CodeLanes for ScalarCodes {
    type Sums = i32;
    #[inline(always)]
    unsafe fn zero() -> i32 {
        0
    }
    #[inline(always)]
    unsafe fn add_products(sums: i32, codes: *const u8, query: *const u8) -> i32 {
        // SAFETY: the caller gives 64 readable bytes on both sides.
        let (codes, query) = unsafe { (&*codes.cast::<[u8; 64]>(), &*query.cast::<[i8; 64]>()) };
        codes.iter().zip(query).fold(sums, |sum, (&c, &q)| sum + i32::from(c) * i32::from(q))
    }
    #[inline(always)]
    unsafe fn add_differences(sums: i32, codes: *const u8, query: *const u8) -> i32 {
        // SAFETY: the caller gives 64 readable bytes on both sides.
        let (codes, query) = unsafe { (&*codes.cast::<[u8; 64]>(), &*query.cast::<[u8; 64]>()) };
        codes.iter().zip(query).fold(sums, |sum, (&c, &q)| sum + i32::from(c.abs_diff(q)))
    }
    #[inline(always)]
    unsafe fn total(rows: [i32; 4]) -> [i32; 4] {
        rows
    }
    #[inline(always)]
    unsafe fn prefetch(_: *const u8) {}
}

impl PanelLanes for ScalarCodes {
    type Sums = [i32; 16];
    #[inline(always)]
    unsafe fn zero() -> [i32; 16] {
        [0; 16]
    }
    #[inline(always)]
    unsafe fn add_products(mut sums: [i32; 16], panel: *const u8, query: *const u8) -> [i32; 16] {
        // SAFETY: the caller gives 64 and 4 readable bytes.
        let (panel, query) = unsafe { (&*panel.cast::<[[u8; 4]; 16]>(), &*query.cast::<[i8; 4]>()) };
        for (sum, codes) in sums.iter_mut().zip(panel) {
            for (&c, &q) in codes.iter().zip(query) {
                *sum += i32::from(c) * i32::from(q);
            }
        }
        sums
    }
    #[inline(always)]
    unsafe fn add_differences(mut sums: [i32; 16], panel: *const u8, query: *const u8) -> [i32; 16] {
        // SAFETY: the caller gives 64 and 4 readable bytes.
        let (panel, query) = unsafe { (&*panel.cast::<[[u8; 4]; 16]>(), &*query.cast::<[u8; 4]>()) };
        for (sum, codes) in sums.iter_mut().zip(panel) {
            for (&c, &q) in codes.iter().zip(query) {
                *sum += i32::from(c.abs_diff(q));
            }
        }
        sums
    }
    #[inline(always)]
    unsafe fn store(sums: [i32; 16], out: *mut i32) {
        // SAFETY: the caller gives room for 16.
        unsafe { out.cast::<[i32; 16]>().write_unaligned(sums) }
    }
}
