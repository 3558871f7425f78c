//! The kernels in NEON, which every 64-bit ARM processor has.
#![allow(unsafe_code, reason = "intrinsics of the baseline of this architecture")]

use std::arch::aarch64::*;

use super::Kernels;
use super::code_lanes::CodeLanes;
use super::codes::code_kernels;
use super::floats::float_kernels;
use super::lanes::{F32Lanes, LANES};
use super::scalar::ScalarCodes;

static KERNELS: Kernels = Kernels {
    name: "neon",
    floats: float_kernels!(Lanes),
    // Panels: the scalar loop over 16 rows is what the compiler turns into NEON by itself.
    codes: code_kernels!(Neon, ScalarCodes),
};

/// These kernels.
pub(super) fn kernels() -> &'static Kernels {
    &KERNELS
}

/// Eight times four lanes.
#[derive(Clone, Copy)]
struct Lanes([float32x4_t; 8]);

impl Lanes {
    #[inline(always)]
    unsafe fn each(self, other: Self, f: impl Fn(float32x4_t, float32x4_t) -> float32x4_t) -> Self {
        Self(std::array::from_fn(|i| f(self.0[i], other.0[i])))
    }
}

#[rustfmt::skip]
impl F32Lanes for Lanes {
    // SAFETY (every block): the caller guarantees the readable bytes.
    #[inline(always)]
    unsafe fn zero() -> Self {
        unsafe { Self([vdupq_n_f32(0.0); 8]) }
    }
    #[inline(always)]
    unsafe fn load(bytes: *const u8) -> Self {
        Self(std::array::from_fn(|i| unsafe { vreinterpretq_f32_u8(vld1q_u8(bytes.add(i * 16))) }))
    }
    #[inline(always)]
    unsafe fn load_first(bytes: *const u8, count: usize) -> Self {
        let mut lanes = [0.0_f32; LANES];
        unsafe {
            std::ptr::copy_nonoverlapping(bytes, lanes.as_mut_ptr().cast(), count * 4);
            Self::load(lanes.as_ptr().cast())
        }
    }
    #[inline(always)]
    unsafe fn add(self, other: Self) -> Self {
        unsafe { self.each(other, |a, b| vaddq_f32(a, b)) }
    }
    #[inline(always)]
    unsafe fn sub(self, other: Self) -> Self {
        unsafe { self.each(other, |a, b| vsubq_f32(a, b)) }
    }
    #[inline(always)]
    unsafe fn mul(self, other: Self) -> Self {
        unsafe { self.each(other, |a, b| vmulq_f32(a, b)) }
    }
    #[inline(always)]
    unsafe fn abs(self) -> Self {
        Self(self.0.map(|a| unsafe { vabsq_f32(a) }))
    }
    #[inline(always)]
    unsafe fn sum(self) -> f32 {
        unsafe {
            let l = self.0;
            let sixteen = [vaddq_f32(l[0], l[4]), vaddq_f32(l[1], l[5]), vaddq_f32(l[2], l[6]), vaddq_f32(l[3], l[7])];
            let eight = [vaddq_f32(sixteen[0], sixteen[2]), vaddq_f32(sixteen[1], sixteen[3])];
            let four = vaddq_f32(eight[0], eight[1]);
            let two = vadd_f32(vget_low_f32(four), vget_high_f32(four));
            vget_lane_f32::<0>(two) + vget_lane_f32::<1>(two)
        }
    }
    #[inline(always)]
    unsafe fn prefetch(_: *const u8) {}
}

/// Code sums by widening multiplies.
struct Neon;

#[rustfmt::skip]
impl CodeLanes for Neon {
    // SAFETY (every block): the caller guarantees the readable bytes.
    type Sums = int32x4_t;
    #[inline(always)]
    unsafe fn zero() -> int32x4_t {
        unsafe { vdupq_n_s32(0) }
    }
    #[inline(always)]
    unsafe fn add_products(mut sums: int32x4_t, codes: *const u8, query: *const u8) -> int32x4_t {
        unsafe {
            for part in 0..4 {
                let codes = vld1q_u8(codes.add(part * 16));
                let query = vld1q_s8(query.add(part * 16).cast());
                for (codes, query) in [
                    (vmovl_u8(vget_low_u8(codes)), vmovl_s8(vget_low_s8(query))),
                    (vmovl_u8(vget_high_u8(codes)), vmovl_s8(vget_high_s8(query))),
                ] {
                    let codes = vreinterpretq_s16_u16(codes);
                    sums = vmlal_s16(sums, vget_low_s16(codes), vget_low_s16(query));
                    sums = vmlal_s16(sums, vget_high_s16(codes), vget_high_s16(query));
                }
            }
            sums
        }
    }
    #[inline(always)]
    unsafe fn add_differences(mut sums: int32x4_t, codes: *const u8, query: *const u8) -> int32x4_t {
        unsafe {
            for part in 0..4 {
                let difference = vabdq_u8(vld1q_u8(codes.add(part * 16)), vld1q_u8(query.add(part * 16)));
                sums = vaddq_s32(sums, vreinterpretq_s32_u32(vpaddlq_u16(vpaddlq_u8(difference))));
            }
            sums
        }
    }
    #[inline(always)]
    unsafe fn total(rows: [int32x4_t; 4]) -> [i32; 4] {
        rows.map(|row| unsafe { vaddvq_s32(row) })
    }
    #[inline(always)]
    unsafe fn prefetch(_: *const u8) {}
}
