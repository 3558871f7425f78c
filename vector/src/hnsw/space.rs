//! Rows as codes, compared to each other.
//!
//! Owns: distances between rows of one unit, in units of the codes: squared (products) or L1. Does not own: what they mean in
//! the metric (`quantize`).

use crate::distance::{AlignedCodes, CodeQuery, CodeRows, CodeSum, Kernels, PANEL_ROWS, Panel};

/// The codes of a unit under one comparison.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Space<'a> {
    pub(crate) rows: CodeRows<'a>,
    pub(crate) sum: CodeSum,
}

impl Space<'_> {
    /// Makes `query` the row `id`: its scores, plus [`Space::constant`], are distances to that row.
    pub(crate) fn ask_row(&self, id: u32, query: &mut CodeQuery) {
        query.codes.resize(self.rows.stride());
        let sum = self.copy_query(self.rows.row(id), query.codes.bytes_mut());
        (query.bias, query.ratio) = match self.sum {
            CodeSum::Product => (128 * sum, -2.0),
            CodeSum::AbsoluteDifference => (0, 1.0),
        };
    }

    /// What a score with the row `id` as query lacks to the distance.
    pub(crate) fn constant(&self, id: u32) -> f32 {
        self.rows.norm(id)
    }

    /// Scores of `ids`.
    pub(crate) fn scores(&self, ids: &[u32], query: &CodeQuery, out: &mut [f32]) {
        Kernels::get().codes.scores(self.sum, &self.rows, ids, query, out);
    }

    /// The norm of codes that are no row.
    pub(crate) fn norm_of(&self, codes: &[u8]) -> f32 {
        match self.sum {
            CodeSum::Product => codes.iter().map(|&c| (i32::from(c) - 128).pow(2)).sum::<i32>() as f32,
            CodeSum::AbsoluteDifference => 0.0,
        }
    }

    /// Writes a row's codes as those of a query; returns the sum of the signed ones.
    fn copy_query(&self, row: &[u8], query: &mut [u8]) -> i32 {
        match self.sum {
            CodeSum::Product => {
                let mut sum = 0;
                for (to, &from) in query.iter_mut().zip(row) {
                    *to = from ^ 0x80;
                    sum += i32::from(from);
                }
                sum - 128 * row.len() as i32
            }
            CodeSum::AbsoluteDifference => {
                query[..row.len()].copy_from_slice(row);
                0
            }
        }
    }
}

/// Some rows packed to be compared to many.
#[derive(Clone, Debug, Default)]
pub(crate) struct Pack {
    codes: AlignedCodes,
    norms: Vec<i32>,
    stride: usize,
}

impl Pack {
    /// Packs rows given as codes and norms.
    pub(crate) fn fill<'a>(&mut self, stride: usize, rows: impl ExactSizeIterator<Item = (&'a [u8], f32)>) {
        self.stride = stride;
        self.codes.resize(rows.len().next_multiple_of(PANEL_ROWS) * stride);
        self.norms.clear();
        for (i, (codes, norm)) in rows.enumerate() {
            Panel::put(self.codes.bytes_mut(), i, codes);
            self.norms.push(norm as i32);
        }
    }

    pub(crate) fn len(&self) -> usize {
        self.norms.len()
    }

    pub(crate) fn panel(&self) -> Panel<'_> {
        let bytes = self.len().next_multiple_of(PANEL_ROWS) * self.stride;
        Panel::new(&self.codes.bytes()[..bytes], self.stride)
    }
}

/// Rows compared at a time: their sums with a full pack stay in the second cache.
pub(super) const COMPARED_TOGETHER: usize = 16;

/// Buffers of [`compare`].
#[derive(Debug, Default)]
pub(crate) struct CompareScratch {
    queries: AlignedCodes,
    sums: Vec<i32>,
    biases: Vec<i32>,
}

/// Calls `found` with the position of each of `ids` and its distances to all rows of `pack`.
pub(crate) fn compare(
    space: &Space<'_>,
    ids: &[u32],
    pack: &Pack,
    scratch: &mut CompareScratch,
    mut found: impl FnMut(usize, &[i32]),
) {
    let (stride, panel) = (space.rows.stride(), pack.panel());
    scratch.queries.resize(COMPARED_TOGETHER * stride);
    scratch.sums.resize(COMPARED_TOGETHER * panel.width(), 0);
    for (block, ids) in ids.chunks(COMPARED_TOGETHER).enumerate() {
        scratch.biases.clear();
        for (&id, query) in ids.iter().zip(scratch.queries.bytes_mut().chunks_exact_mut(stride)) {
            let sum = space.copy_query(space.rows.row(id), query);
            scratch.biases.push(space.rows.norm(id) as i32 + 256 * sum);
        }
        Kernels::get().codes.panel(space.sum, &panel, scratch.queries.bytes(), ids.len(), &mut scratch.sums);
        let sums = scratch.sums.chunks_exact_mut(panel.width()).map(|sums| &mut sums[..pack.len()]);
        for (i, (sums, &bias)) in sums.zip(&scratch.biases).enumerate() {
            if space.sum == CodeSum::Product {
                // |a - b|² = |a|² + |b|² - 2 a·b, with a·b = sum - 128 Σa; exact in wrapping i32.
                for (sum, &norm) in sums.iter_mut().zip(&pack.norms) {
                    *sum = norm.wrapping_add(bias).wrapping_sub(2 * *sum);
                }
            }
            found(block * COMPARED_TOGETHER + i, sums);
        }
    }
}
