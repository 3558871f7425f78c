//! The kernels in AVX-512 with VNNI.
#![allow(unsafe_code, reason = "intrinsics; `kernels` gives them out only where the processor has them")]

use std::arch::x86_64::*;

use super::Kernels;
use super::code_lanes::{CodeLanes, PanelLanes};
use super::codes::code_kernels;
use super::floats::float_kernels;
use super::lanes::F32Lanes;

static KERNELS: Kernels = Kernels {
    name: "avx512-vnni",
    floats: float_kernels!(Lanes, #[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512vnni")]),
    codes: code_kernels!(Vnni, Vnni, #[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512vnni")]),
};

/// These kernels, when the processor has the instructions.
pub(super) fn kernels() -> Option<&'static Kernels> {
    (is_x86_feature_detected!("avx512f")
        && is_x86_feature_detected!("avx512bw")
        && is_x86_feature_detected!("avx512dq")
        && is_x86_feature_detected!("avx512vl")
        && is_x86_feature_detected!("avx512vnni"))
    .then_some(&KERNELS)
}

/// Lanes 0–15 and 16–31.
#[derive(Clone, Copy)]
struct Lanes(__m512, __m512);

#[rustfmt::skip]
impl F32Lanes for Lanes {
    // SAFETY (every block): the caller guarantees the instruction set and the readable bytes.
    #[inline(always)]
    unsafe fn zero() -> Self {
        unsafe { Self(_mm512_setzero_ps(), _mm512_setzero_ps()) }
    }
    #[inline(always)]
    unsafe fn load(bytes: *const u8) -> Self {
        unsafe { Self(_mm512_loadu_ps(bytes.cast()), _mm512_loadu_ps(bytes.add(64).cast())) }
    }
    #[inline(always)]
    unsafe fn load_first(bytes: *const u8, count: usize) -> Self {
        let mask = (1_u32 << count) - 1;
        unsafe {
            Self(
                _mm512_maskz_loadu_ps(mask as u16, bytes.cast()),
                _mm512_maskz_loadu_ps((mask >> 16) as u16, bytes.wrapping_add(64).cast()),
            )
        }
    }
    #[inline(always)]
    unsafe fn add(self, other: Self) -> Self {
        unsafe { Self(_mm512_add_ps(self.0, other.0), _mm512_add_ps(self.1, other.1)) }
    }
    #[inline(always)]
    unsafe fn sub(self, other: Self) -> Self {
        unsafe { Self(_mm512_sub_ps(self.0, other.0), _mm512_sub_ps(self.1, other.1)) }
    }
    #[inline(always)]
    unsafe fn mul(self, other: Self) -> Self {
        unsafe { Self(_mm512_mul_ps(self.0, other.0), _mm512_mul_ps(self.1, other.1)) }
    }
    #[inline(always)]
    unsafe fn abs(self) -> Self {
        unsafe { Self(_mm512_abs_ps(self.0), _mm512_abs_ps(self.1)) }
    }
    #[inline(always)]
    unsafe fn sum(self) -> f32 {
        unsafe {
            let lanes = _mm512_add_ps(self.0, self.1);
            let eight = _mm256_add_ps(_mm512_castps512_ps256(lanes), _mm512_extractf32x8_ps::<1>(lanes));
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

/// Code sums by `vpdpbusd`: four products of an unsigned and a signed byte per i32 lane, without saturation.
struct Vnni;

#[inline(always)]
unsafe fn difference(a: __m512i, b: __m512i) -> __m512i {
    // SAFETY: as the callers.
    unsafe { _mm512_or_si512(_mm512_subs_epu8(a, b), _mm512_subs_epu8(b, a)) }
}

/// In each 128 bits the partial sums of the four rows, one after the other.
#[inline(always)]
unsafe fn quarters([a, b, c, d]: [__m512i; 4]) -> __m512i {
    // SAFETY: as the callers.
    unsafe {
        let ab = _mm512_add_epi32(_mm512_unpacklo_epi32(a, b), _mm512_unpackhi_epi32(a, b));
        let cd = _mm512_add_epi32(_mm512_unpacklo_epi32(c, d), _mm512_unpackhi_epi32(c, d));
        _mm512_add_epi32(_mm512_unpacklo_epi64(ab, cd), _mm512_unpackhi_epi64(ab, cd))
    }
}

/// In 256 bits each the first half of `a` plus its second, then the same of `b`.
#[inline(always)]
unsafe fn halves(a: __m512i, b: __m512i) -> __m512i {
    // SAFETY: as the callers.
    unsafe {
        let first = _mm512_shuffle_i32x4::<0b01_00_01_00>(a, b);
        _mm512_add_epi32(first, _mm512_shuffle_i32x4::<0b11_10_11_10>(a, b))
    }
}

#[rustfmt::skip]
impl CodeLanes for Vnni {
    // SAFETY (every block): the caller guarantees the instruction set and the readable bytes.
    type Sums = __m512i;
    #[inline(always)]
    unsafe fn zero() -> __m512i {
        unsafe { _mm512_setzero_si512() }
    }
    #[inline(always)]
    unsafe fn add_products(sums: __m512i, codes: *const u8, query: *const u8) -> __m512i {
        unsafe { _mm512_dpbusd_epi32(sums, _mm512_loadu_si512(codes.cast()), _mm512_loadu_si512(query.cast())) }
    }
    #[inline(always)]
    unsafe fn add_differences(sums: __m512i, codes: *const u8, query: *const u8) -> __m512i {
        unsafe {
            let difference = difference(_mm512_loadu_si512(codes.cast()), _mm512_loadu_si512(query.cast()));
            _mm512_dpbusd_epi32(sums, difference, _mm512_set1_epi8(1))
        }
    }
    #[inline(always)]
    unsafe fn total(rows: [__m512i; 4]) -> [i32; 4] {
        unsafe {
            let all = quarters(rows);
            let half = _mm256_add_epi32(_mm512_castsi512_si256(all), _mm512_extracti64x4_epi64::<1>(all));
            let four = _mm_add_epi32(_mm256_castsi256_si128(half), _mm256_extracti128_si256::<1>(half));
            let mut out = [0; 4];
            _mm_storeu_si128(out.as_mut_ptr().cast(), four);
            out
        }
    }
    #[inline(always)]
    unsafe fn total_of_sixteen(rows: [__m512i; 16]) -> [i32; 16] {
        unsafe {
            let [r0, r1, r2, r3, r4, r5, r6, r7, r8, r9, r10, r11, r12, r13, r14, r15] = rows;
            let ab = halves(quarters([r0, r1, r2, r3]), quarters([r4, r5, r6, r7]));
            let cd = halves(quarters([r8, r9, r10, r11]), quarters([r12, r13, r14, r15]));
            let all = _mm512_add_epi32(
                _mm512_shuffle_i32x4::<0b10_00_10_00>(ab, cd),
                _mm512_shuffle_i32x4::<0b11_01_11_01>(ab, cd),
            );
            let mut out = [0; 16];
            _mm512_storeu_si512(out.as_mut_ptr().cast(), all);
            out
        }
    }
    #[inline(always)]
    unsafe fn prefetch(bytes: *const u8) {
        unsafe { _mm_prefetch::<_MM_HINT_T0>(bytes.cast()) }
    }
}

#[rustfmt::skip]
impl PanelLanes for Vnni {
    // SAFETY (every block): the caller guarantees the instruction set, the readable bytes and the room.
    type Sums = __m512i;
    #[inline(always)]
    unsafe fn zero() -> __m512i {
        unsafe { _mm512_setzero_si512() }
    }
    #[inline(always)]
    unsafe fn add_products(sums: __m512i, panel: *const u8, query: *const u8) -> __m512i {
        unsafe {
            let query = _mm512_set1_epi32(query.cast::<i32>().read_unaligned());
            _mm512_dpbusd_epi32(sums, _mm512_loadu_si512(panel.cast()), query)
        }
    }
    #[inline(always)]
    unsafe fn add_differences(sums: __m512i, panel: *const u8, query: *const u8) -> __m512i {
        unsafe {
            let query = _mm512_set1_epi32(query.cast::<i32>().read_unaligned());
            let difference = difference(_mm512_loadu_si512(panel.cast()), query);
            _mm512_dpbusd_epi32(sums, difference, _mm512_set1_epi8(1))
        }
    }
    #[inline(always)]
    unsafe fn store(sums: __m512i, out: *mut i32) {
        unsafe { _mm512_storeu_si512(out.cast(), sums) }
    }
}
