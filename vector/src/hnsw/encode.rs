//! Codes of all rows, in the order of the unit.
//!
//! Rows are encoded as they are read, then brought into cluster order: by pivot, then as they were read.

use super::BuildError;
use super::pivots;
use super::space::{Pack, Space};
use crate::distance::{AlignedCodes, CodeRows, Floats};
use crate::parallel::{Work, each};
use crate::quantize::Grid;
use crate::rows::Rows;

/// Rows read together.
pub(super) const CHUNK_ROWS: usize = 256;

/// Codes of rows, their norms and errors.
#[derive(Clone, Debug)]
pub(crate) struct Codes {
    pub(crate) grid: Grid,
    pub(crate) codes: AlignedCodes,
    pub(crate) norms: Vec<f32>,
    pub(crate) errors: Vec<f32>,
}

impl Codes {
    pub(crate) fn space(&self) -> Space<'_> {
        let rows = CodeRows::new(self.codes.bytes(), Floats::from(&self.norms).bytes(), self.grid.stride());
        Space { rows, sum: self.grid.code_sum() }
    }

    /// The largest norm.
    pub(crate) fn norm_max(&self) -> f32 {
        self.norms.iter().fold(0.0, |max, &norm| max.max(norm))
    }

    fn zeroed(grid: Grid, rows: usize) -> Self {
        let codes = AlignedCodes::zeroed(rows * grid.stride());
        Self { grid, codes, norms: vec![0.0; rows], errors: vec![0.0; rows] }
    }

    /// Brings the rows into another order, `order[new] = old`, which names each once. In place: a second copy of long codes would be
    /// the most that a build holds.
    fn arrange(&mut self, order: &[u32]) {
        let stride = self.grid.stride();
        let codes = self.codes.bytes_mut();
        let mut arranged = vec![false; order.len()];
        let mut codes_of_first = vec![0; stride];
        for first in 0..order.len() {
            if arranged[first] {
                continue;
            }
            // Round a cycle: each place takes the row that belongs there, the last one what stood in the first.
            codes_of_first.copy_from_slice(&codes[first * stride..][..stride]);
            let (norm_of_first, error_of_first) = (self.norms[first], self.errors[first]);
            let mut place = first;
            loop {
                arranged[place] = true;
                let from = order[place] as usize;
                if from == first {
                    break;
                }
                codes.copy_within(from * stride..(from + 1) * stride, place * stride);
                self.norms[place] = self.norms[from];
                self.errors[place] = self.errors[from];
                place = from;
            }
            codes[place * stride..][..stride].copy_from_slice(&codes_of_first);
            (self.norms[place], self.errors[place]) = (norm_of_first, error_of_first);
        }
    }
}

/// Encodes `rows` in the order they are read.
///
/// # Errors
/// Those of reading, and cancellation.
pub(crate) fn encode(rows: &dyn Rows, grid: Grid, work: &Work<'_>) -> Result<Codes, BuildError> {
    let (dim, stride) = (grid.dim(), grid.stride());
    let mut codes = Codes::zeroed(grid.clone(), rows.len());
    let chunks = (codes.codes.bytes_mut().chunks_mut(CHUNK_ROWS * stride))
        .zip(codes.norms.chunks_mut(CHUNK_ROWS))
        .zip(codes.errors.chunks_mut(CHUNK_ROWS))
        .enumerate();
    each(work, chunks, |(chunk, ((codes, norms), errors))| {
        let first = chunk * CHUNK_ROWS;
        let mut vectors = vec![0.0; norms.len() * dim];
        rows.read(first..first + norms.len(), &mut vectors).map_err(BuildError::Rows)?;
        let mut point = vec![0.0; Grid::point_dim(grid.metric, dim)];
        let out = codes.chunks_exact_mut(stride).zip(norms.iter_mut().zip(errors));
        for (vector, (codes, (norm, error))) in vectors.chunks_exact(dim).zip(out) {
            point[..dim].copy_from_slice(vector);
            let row = grid.encode(&mut point, codes);
            (*norm, *error) = (row.norm, row.error);
        }
        Ok(())
    })?;
    Ok(codes)
}

/// Rows in cluster order.
#[derive(Debug)]
pub(crate) struct Clustered {
    pub(crate) codes: Codes,
    /// Input row of each ordinal.
    pub(crate) order: Vec<u32>,
    /// Ordinals of the pivots; pivot i stands for the ordinals `starts[i]..starts[i + 1]`.
    pub(crate) pivots: Vec<u32>,
    pub(crate) starts: Vec<u32>,
}

/// Chooses pivots and brings the rows into their order.
///
/// # Errors
/// Cancellation.
pub(crate) fn cluster(mut codes: Codes, seed: u64, work: &Work<'_>) -> Result<Clustered, BuildError> {
    let space = codes.space();
    let rows = space.rows.len();
    let chosen = pivots::choose(&space, seed, work)?;
    let mut pack = Pack::default();
    pack.fill(space.rows.stride(), chosen.iter().map(|&id| (space.rows.row(id), space.rows.norm(id))));
    let all: Vec<u32> = (0..rows as u32).collect();
    let mut nearest: Vec<u32> = pivots::nearest(&space, &all, &pack, work)?.iter().map(|n| n.0).collect();
    // A pivot stands for itself, also where another lies on the same spot.
    chosen.iter().enumerate().for_each(|(pivot, &row)| nearest[row as usize] = pivot as u32);
    let mut order = all;
    order.sort_by_key(|&row| (nearest[row as usize], row));
    let mut place = vec![0; rows];
    order.iter().enumerate().for_each(|(ordinal, &row)| place[row as usize] = ordinal as u32);
    let starts =
        (0..=chosen.len() as u32).map(|p| order.partition_point(|&row| nearest[row as usize] < p) as u32);
    let starts = starts.collect();
    let pivots = chosen.iter().map(|&row| place[row as usize]).collect();
    codes.arrange(&order);
    Ok(Clustered { codes, order, pivots, starts })
}
