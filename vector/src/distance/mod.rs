//! Distance kernels: the only place of this crate with `unsafe`, and the only one that knows instruction sets.
//!
//! Owns: sums over f32 vectors ([`F32Kernels`]), products of 8-bit codes ([`CodeKernels`]), the choice of an
//! instruction set ([`Kernels::get`]). Does not own: what a distance means in SQL (`metric`), nor how vectors become
//! codes (`quantize`).
//!
//! # The canonical sum
//! Every f32 sum is made the same way on every machine, so equal input gives equal bits in SQL, in the index, with AVX-512
//! and without: 32 lanes, lane `i` adds the terms of the components `i, i + 32, i + 64, …` in that order; product and sum
//! round apart (no fused multiply-add, which not every machine has); at the end the lanes are added in
//! halves, `i` and `i + 16`, then `i` and `i + 8`, down to 1. Missing components of the last 32 are zero. A NaN comes
//! out as `f32::NAN`, whatever its payload was.
//!
//! Codes are integers: their products have one value in any order.

mod code_lanes;
mod codes;
mod floats;
mod lanes;
mod round;
mod scalar;

#[cfg(target_arch = "x86_64")]
mod avx2;
#[cfg(target_arch = "x86_64")]
mod avx512;
#[cfg(target_arch = "aarch64")]
mod neon;

#[cfg(test)]
mod tests;

use std::sync::OnceLock;

pub use self::codes::{AlignedCodes, CodeKernels, CodeQuery, CodeRows, CodeSum, PANEL_ROWS, Panel};
pub use self::floats::{F32Kernels, Floats, Sum};
pub(crate) use self::round::{LANES as ROUND_LANES, ROUND, Rounded};

const _: () = assert!(cfg!(target_endian = "little"), "vectors are read in place as little-endian bytes");

static CHOSEN: OnceLock<&'static Kernels> = OnceLock::new();

/// The kernels of one instruction set.
#[derive(Debug)]
pub struct Kernels {
    /// Its name, as EXPLAIN and the benches print it.
    pub name: &'static str,
    /// Sums over f32 vectors.
    pub floats: F32Kernels,
    /// Products of 8-bit codes.
    pub codes: CodeKernels,
}

impl Kernels {
    /// The kernels in use: the fastest this machine can run, unless [`Kernels::choose`] came first.
    #[must_use]
    #[inline]
    pub fn get() -> &'static Kernels {
        CHOSEN.get_or_init(|| Kernels::available()[0])
    }

    /// Uses the kernels of that name for the whole process: to compare instruction sets in tests and benches. None when this
    /// machine has no such kernels, or others are in use already.
    pub fn choose(name: &str) -> Option<&'static Kernels> {
        let wanted = Kernels::available().into_iter().find(|kernels| kernels.name == name)?;
        let used = *CHOSEN.get_or_init(|| wanted);
        (used.name == name).then_some(used)
    }

    /// Every set of kernels this machine can run, the fastest first, the scalar one last.
    #[must_use]
    pub fn available() -> Vec<&'static Kernels> {
        let mut sets = Vec::new();
        #[cfg(target_arch = "x86_64")]
        {
            sets.extend(avx512::kernels());
            sets.extend(avx2::kernels());
        }
        #[cfg(target_arch = "aarch64")]
        sets.push(neon::kernels());
        sets.push(&scalar::KERNELS);
        sets
    }
}

/// Brings the cache lines of `value` nearer to the processor; a hint, without effect on any result.
#[inline(always)]
pub(crate) fn prefetch<T: ?Sized>(value: &T) {
    #[cfg(target_arch = "x86_64")]
    {
        let start: *const u8 = std::ptr::from_ref(value).cast();
        for line in (0..size_of_val(value)).step_by(64) {
            // SAFETY: a prefetch reads nothing; SSE is part of every x86-64.
            #[expect(unsafe_code, reason = "an intrinsic, even one that cannot fault")]
            unsafe {
                std::arch::x86_64::_mm_prefetch::<{ std::arch::x86_64::_MM_HINT_T0 }>(
                    start.wrapping_add(line).cast(),
                );
            }
        }
    }
    #[cfg(not(target_arch = "x86_64"))]
    let _ = value;
}
