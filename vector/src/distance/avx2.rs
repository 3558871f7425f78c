//! The kernels in AVX2.
#![allow(unsafe_code, reason = "intrinsics; `kernels` gives them out only where the processor has them")]

use std::arch::x86_64::*;

use super::Kernels;
use super::code_lanes::{CodeLanes, PanelLanes};
use super::codes::code_kernels;
use super::floats::float_kernels;
use super::lanes::{F32Lanes, LANES};

static KERNELS: Kernels = Kernels {
    name: "avx2",
    floats: float_kernels!(Lanes, #[target_feature(enable = "avx2")]),
    codes: code_kernels!(Avx2, Avx2, #[target_feature(enable = "avx2")]),
};

/// These kernels, when the processor has the instructions.
pub(super) fn kernels() -> Option<&'static Kernels> {
    is_x86_feature_detected!("avx2").then_some(&KERNELS)
}

/// Four times eight lanes.
#[derive(Clone, Copy)]
struct Lanes([__m256; 4]);

impl Lanes {
    #[inline(always)]
    unsafe fn each(self, other: Self, f: impl Fn(__m256, __m256) -> __m256) -> Self {
        Self([
            f(self.0[0], other.0[0]),
            f(self.0[1], other.0[1]),
            f(self.0[2], other.0[2]),
            f(self.0[3], other.0[3]),
        ])
    }
}

#[rustfmt::skip]
impl F32Lanes for Lanes {
    // SAFETY (every block): the caller guarantees the instruction set and the readable bytes.
    #[inline(always)]
    unsafe fn zero() -> Self {
        unsafe { Self([_mm256_setzero_ps(); 4]) }
    }
    #[inline(always)]
    unsafe fn load(bytes: *const u8) -> Self {
        unsafe {
            Self([
                _mm256_loadu_ps(bytes.cast()),
                _mm256_loadu_ps(bytes.add(32).cast()),
                _mm256_loadu_ps(bytes.add(64).cast()),
                _mm256_loadu_ps(bytes.add(96).cast()),
            ])
        }
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
        unsafe { self.each(other, |a, b| _mm256_add_ps(a, b)) }
    }
    #[inline(always)]
    unsafe fn sub(self, other: Self) -> Self {
        unsafe { self.each(other, |a, b| _mm256_sub_ps(a, b)) }
    }
    #[inline(always)]
    unsafe fn mul(self, other: Self) -> Self {
        unsafe { self.each(other, |a, b| _mm256_mul_ps(a, b)) }
    }
    #[inline(always)]
    unsafe fn abs(self) -> Self {
        unsafe { self.each(Self([_mm256_set1_ps(-0.0); 4]), |a, sign| _mm256_andnot_ps(sign, a)) }
    }
    #[inline(always)]
    unsafe fn sum(self) -> f32 {
        unsafe {
            let low = _mm256_add_ps(self.0[0], self.0[2]);
            let high = _mm256_add_ps(self.0[1], self.0[3]);
            let eight = _mm256_add_ps(low, high);
            let four = _mm_add_ps(_mm256_castps256_ps128(eight), _mm256_extractf128_ps::<1>(eight));
            let two = _mm_add_ps(four, _mm_movehl_ps(four, four));
            _mm_cvtss_f32(_mm_add_ss(two, _mm_movehdup_ps(two)))
        }
    }
    #[inline(always)]
    unsafe fn prefetch(bytes: *const u8) {
        unsafe { _mm_prefetch::<_MM_HINT_T0>(bytes.cast()) }
    }
}

/// Code sums over bytes widened to i16: `vpmaddubsw` would saturate.
struct Avx2;

#[rustfmt::skip]
impl CodeLanes for Avx2 {
    // SAFETY (every block): the caller guarantees the instruction set and the readable bytes.
    type Sums = __m256i;
    #[inline(always)]
    unsafe fn zero() -> __m256i {
        unsafe { _mm256_setzero_si256() }
    }
    #[inline(always)]
    unsafe fn add_products(mut sums: __m256i, codes: *const u8, query: *const u8) -> __m256i {
        unsafe {
            for part in 0..4 {
                let codes = _mm256_cvtepu8_epi16(_mm_loadu_si128(codes.add(part * 16).cast()));
                let query = _mm256_cvtepi8_epi16(_mm_loadu_si128(query.add(part * 16).cast()));
                sums = _mm256_add_epi32(sums, _mm256_madd_epi16(codes, query));
            }
            sums
        }
    }
    #[inline(always)]
    unsafe fn add_differences(sums: __m256i, codes: *const u8, query: *const u8) -> __m256i {
        unsafe {
            let sad = |at: usize| {
                _mm256_sad_epu8(_mm256_loadu_si256(codes.add(at).cast()), _mm256_loadu_si256(query.add(at).cast()))
            };
            _mm256_add_epi32(sums, _mm256_add_epi32(sad(0), sad(32)))
        }
    }
    #[inline(always)]
    unsafe fn total([a, b, c, d]: [__m256i; 4]) -> [i32; 4] {
        unsafe {
            let all = _mm256_hadd_epi32(_mm256_hadd_epi32(a, b), _mm256_hadd_epi32(c, d));
            let four = _mm_add_epi32(_mm256_castsi256_si128(all), _mm256_extracti128_si256::<1>(all));
            let mut out = [0; 4];
            _mm_storeu_si128(out.as_mut_ptr().cast(), four);
            out
        }
    }
    #[inline(always)]
    unsafe fn prefetch(bytes: *const u8) {
        unsafe { _mm_prefetch::<_MM_HINT_T0>(bytes.cast()) }
    }
}

#[rustfmt::skip]
impl PanelLanes for Avx2 {
    // SAFETY (every block): the caller guarantees the instruction set, the readable bytes and the room.
    /// Of every row two partial sums; each register holds four rows.
    type Sums = [__m256i; 4];
    #[inline(always)]
    unsafe fn zero() -> [__m256i; 4] {
        unsafe { [_mm256_setzero_si256(); 4] }
    }
    #[inline(always)]
    unsafe fn add_products(mut sums: [__m256i; 4], panel: *const u8, query: *const u8) -> [__m256i; 4] {
        unsafe {
            let query = _mm256_cvtepi8_epi16(_mm_set1_epi32(query.cast::<i32>().read_unaligned()));
            for (part, sum) in sums.iter_mut().enumerate() {
                let codes = _mm256_cvtepu8_epi16(_mm_loadu_si128(panel.add(part * 16).cast()));
                *sum = _mm256_add_epi32(*sum, _mm256_madd_epi16(codes, query));
            }
            sums
        }
    }
    #[inline(always)]
    unsafe fn add_differences(mut sums: [__m256i; 4], panel: *const u8, query: *const u8) -> [__m256i; 4] {
        unsafe {
            let query = _mm256_cvtepu8_epi16(_mm_set1_epi32(query.cast::<i32>().read_unaligned()));
            for (part, sum) in sums.iter_mut().enumerate() {
                let codes = _mm256_cvtepu8_epi16(_mm_loadu_si128(panel.add(part * 16).cast()));
                let difference = _mm256_abs_epi16(_mm256_sub_epi16(codes, query));
                *sum = _mm256_add_epi32(*sum, _mm256_madd_epi16(difference, _mm256_set1_epi16(1)));
            }
            sums
        }
    }
    #[inline(always)]
    unsafe fn store(sums: [__m256i; 4], out: *mut i32) {
        unsafe {
            for half in 0..2 {
                // The horizontal add works within halves of 128 bits: rows 0 1 4 5 | 2 3 6 7.
                let pairs = _mm256_hadd_epi32(sums[half * 2], sums[half * 2 + 1]);
                let rows = _mm256_permute4x64_epi64::<0b11_01_10_00>(pairs);
                _mm256_storeu_si256(out.add(half * 8).cast(), rows);
            }
        }
    }
}
