//! What an instruction set has to offer for the kernels over codes to be written once.
//!
//! Owns: the traits and the loops over them. Does not own: instructions; as in `lanes`.
#![allow(unsafe_code, reason = "loads through pointers whose length the safe entry points have checked")]

use super::lanes::{AbsoluteDifference, Product};

/// Sums over 64 bytes of codes at a time.
///
/// # Safety
/// As [`F32Lanes`].
pub(super) trait CodeLanes {
    /// i32 partial sums of one row.
    type Sums: Copy;
    unsafe fn zero() -> Self::Sums;
    /// Adds the 64 products of unsigned `codes` and signed `query`.
    unsafe fn add_products(sums: Self::Sums, codes: *const u8, query: *const u8) -> Self::Sums;
    /// Adds the 64 absolute differences of two unsigned codes.
    unsafe fn add_differences(sums: Self::Sums, codes: *const u8, query: *const u8) -> Self::Sums;
    /// The whole sums of four rows.
    unsafe fn total(rows: [Self::Sums; 4]) -> [i32; 4];
    /// The whole sums of sixteen rows.
    #[inline(always)]
    unsafe fn total_of_sixteen(rows: [Self::Sums; 16]) -> [i32; 16] {
        let mut out = [0; 16];
        let (fours, _) = rows.as_chunks();
        for (four, out) in fours.iter().zip(out.as_chunks_mut().0) {
            // SAFETY: as this function.
            *out = unsafe { Self::total(*four) };
        }
        out
    }
    unsafe fn prefetch(bytes: *const u8);
}

/// Sums of a panel: 16 rows whose codes are interleaved by four bytes.
///
/// # Safety
/// As [`F32Lanes`].
pub(super) trait PanelLanes {
    /// i32 sums of 16 rows.
    type Sums: Copy;
    unsafe fn zero() -> Self::Sums;
    /// Adds the products of four signed codes of the query and the 16 times four unsigned ones at `panel`.
    unsafe fn add_products(sums: Self::Sums, panel: *const u8, query: *const u8) -> Self::Sums;
    /// The same with absolute differences of unsigned codes.
    unsafe fn add_differences(sums: Self::Sums, panel: *const u8, query: *const u8) -> Self::Sums;
    unsafe fn store(sums: Self::Sums, out: *mut i32);
}

/// One kind of code comparison.
pub(super) trait CodeTerm {
    unsafe fn row<L: CodeLanes>(sums: L::Sums, codes: *const u8, query: *const u8) -> L::Sums;
    unsafe fn panel<L: PanelLanes>(sums: L::Sums, panel: *const u8, query: *const u8) -> L::Sums;
}

impl CodeTerm for Product {
    #[inline(always)]
    unsafe fn row<L: CodeLanes>(sums: L::Sums, codes: *const u8, query: *const u8) -> L::Sums {
        // SAFETY: as this function.
        unsafe { L::add_products(sums, codes, query) }
    }
    #[inline(always)]
    unsafe fn panel<L: PanelLanes>(sums: L::Sums, panel: *const u8, query: *const u8) -> L::Sums {
        // SAFETY: as this function.
        unsafe { L::add_products(sums, panel, query) }
    }
}

impl CodeTerm for AbsoluteDifference {
    #[inline(always)]
    unsafe fn row<L: CodeLanes>(sums: L::Sums, codes: *const u8, query: *const u8) -> L::Sums {
        // SAFETY: as this function.
        unsafe { L::add_differences(sums, codes, query) }
    }
    #[inline(always)]
    unsafe fn panel<L: PanelLanes>(sums: L::Sums, panel: *const u8, query: *const u8) -> L::Sums {
        // SAFETY: as this function.
        unsafe { L::add_differences(sums, panel, query) }
    }
}

/// Bytes fetched ahead, of rows that are not long.
const BYTES_AHEAD: usize = 2048;

/// Adds, for each of `ids`, the sum of `T` over its row and the query; `finish` takes four ids and their sums.
///
/// # Safety
/// Every id is a row of `stride` readable bytes at `codes`, `query` has `stride` bytes, `stride` is a
/// multiple of 64; the instruction set of `L` exists.
#[inline(always)]
pub(super) unsafe fn gather<L: CodeLanes, T: CodeTerm>(
    codes: *const u8,
    stride: usize,
    ids: &[u32],
    query: *const u8,
    mut finish: impl FnMut(usize, &[u32], [i32; 4]),
) {
    // SAFETY: the rows of `ids` are readable by contract, the offsets stay below `stride`.
    unsafe {
        // As long before its use as memory takes: short rows are compared faster than they come.
        let ahead = (BYTES_AHEAD / stride).clamp(8, 32);
        for &id in ids.iter().take(ahead) {
            prefetch_row::<L>(codes.add(id as usize * stride), stride);
        }
        let mut at = 0;
        while at < ids.len() {
            let four = &ids[at..ids.len().min(at + 4)];
            for &id in ids.iter().skip(at + ahead).take(4) {
                prefetch_row::<L>(codes.add(id as usize * stride), stride);
            }
            let row = |i: usize| codes.add(four[i.min(four.len() - 1)] as usize * stride);
            let rows = [row(0), row(1), row(2), row(3)];
            let mut sums = [L::zero(); 4];
            let mut byte = 0;
            while byte < stride {
                let q = query.add(byte);
                sums[0] = T::row::<L>(sums[0], rows[0].add(byte), q);
                sums[1] = T::row::<L>(sums[1], rows[1].add(byte), q);
                sums[2] = T::row::<L>(sums[2], rows[2].add(byte), q);
                sums[3] = T::row::<L>(sums[3], rows[3].add(byte), q);
                byte += 64;
            }
            finish(at, four, L::total(sums));
            at += 4;
        }
    }
}

/// Rows of one line that [`gather_lines`] compares at a time, and how many ahead of them are fetched.
const LINES: usize = 16;
const LINES_AHEAD: usize = 32;

/// As [`gather`] for rows of 64 bytes, as many as fill whole sixteens; returns how many those are. The sums of such a row
/// cost more than its products: sixteen are added up together.
///
/// # Safety
/// As [`gather`] with a `stride` of 64.
#[inline(always)]
pub(super) unsafe fn gather_lines<L: CodeLanes, T: CodeTerm>(
    codes: *const u8,
    ids: &[u32],
    query: *const u8,
    mut finish: impl FnMut(usize, &[u32; LINES], [i32; LINES]),
) -> usize {
    let (sixteens, _) = ids.as_chunks::<LINES>();
    // SAFETY: the rows of `ids` are readable by contract.
    unsafe {
        for &id in ids.iter().take(LINES_AHEAD) {
            L::prefetch(codes.add(id as usize * 64));
        }
        for (i, sixteen) in sixteens.iter().enumerate() {
            if let Some(ahead) = sixteens.get(i + LINES_AHEAD / LINES) {
                for &id in ahead {
                    L::prefetch(codes.add(id as usize * 64));
                }
            }
            // A loop, not `map`: closures called from other functions are compiled without the instruction set.
            let mut sums = [L::zero(); LINES];
            for (sum, &id) in sums.iter_mut().zip(sixteen) {
                *sum = T::row::<L>(*sum, codes.add(id as usize * 64), query);
            }
            finish(i * LINES, sixteen, L::total_of_sixteen(sums));
        }
    }
    sixteens.len() * LINES
}

/// Fetches the beginning of a row; the hardware follows the rest of a long one.
#[inline(always)]
unsafe fn prefetch_row<L: CodeLanes>(row: *const u8, stride: usize) {
    // SAFETY: the offsets are inside the row.
    unsafe {
        let mut byte = 0;
        while byte < stride.min(512) {
            L::prefetch(row.add(byte));
            byte += 64;
        }
    }
}

/// The sums of `T` over `Q` queries and `G` groups of 16 rows: those of query `q` and group `g` go to
/// `out[q * width + g * 16 ..][..16]`.
///
/// # Safety
/// `panel` has `G * 16 * stride` readable bytes, every one of the `Q` queries `stride`, `out` room for the sums; `stride` is a
/// multiple of 4; the instruction set of `L` exists.
#[inline(always)]
pub(super) unsafe fn tile<L: PanelLanes, T: CodeTerm, const Q: usize, const G: usize>(
    panel: *const u8,
    stride: usize,
    queries: *const u8,
    out: *mut i32,
    width: usize,
) {
    // SAFETY: the offsets stay inside the ranges of the contract.
    unsafe {
        let mut sums = [[L::zero(); G]; Q];
        let mut byte = 0;
        while byte < stride {
            for (q, sums) in sums.iter_mut().enumerate() {
                let query = queries.add(q * stride + byte);
                for (g, sum) in sums.iter_mut().enumerate() {
                    *sum = T::panel::<L>(*sum, panel.add((g * stride + byte) * 16), query);
                }
            }
            byte += 4;
        }
        for (q, sums) in sums.iter().enumerate() {
            for (g, sum) in sums.iter().enumerate() {
                L::store(*sum, out.add(q * width + g * 16));
            }
        }
    }
}

/// The sums of `T` over `count` queries and all `groups` of a panel, `groups * 16` sums per query.
///
/// # Safety
/// As [`tile`] for all of them.
#[inline(always)]
pub(super) unsafe fn panel<L: PanelLanes, T: CodeTerm>(
    panel: *const u8,
    (stride, groups): (usize, usize),
    queries: *const u8,
    count: usize,
    out: *mut i32,
) {
    let width = groups * 16;
    // SAFETY: every tile lies inside the ranges of the contract.
    unsafe {
        let mut g = 0;
        // As many sums at a time as keep the multipliers busy: 16 where queries share what is loaded, 8 for the last ones.
        while g + 8 <= groups {
            let at = |q: usize, g: usize| {
                (panel.add(g * 16 * stride), queries.add(q * stride), out.add(q * width + g * 16))
            };
            let mut q = 0;
            while q + 4 <= count {
                for g in [g, g + 4] {
                    let (rows, query, out) = at(q, g);
                    tile::<L, T, 4, 4>(rows, stride, query, out, width);
                }
                q += 4;
            }
            while q < count {
                let (rows, query, out) = at(q, g);
                tile::<L, T, 1, 8>(rows, stride, query, out, width);
                q += 1;
            }
            g += 8;
        }
        while g + 4 <= groups {
            for q in 0..count {
                let rows = panel.add(g * 16 * stride);
                tile::<L, T, 1, 4>(rows, stride, queries.add(q * stride), out.add(q * width + g * 16), width);
            }
            g += 4;
        }
        while g < groups {
            for q in 0..count {
                let rows = panel.add(g * 16 * stride);
                tile::<L, T, 1, 1>(rows, stride, queries.add(q * stride), out.add(q * width + g * 16), width);
            }
            g += 1;
        }
    }
}
