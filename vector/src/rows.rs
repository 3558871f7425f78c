//! Where the vectors of a build come from.
//!
//! Owns: the trait, and its form over memory. Does not own: reading files.

use std::ops::Range;

/// Why rows could not be read; whatever the caller's reader gives.
pub type RowsError = Box<dyn std::error::Error + Send + Sync>;

/// A list of checked vectors of one dimension, read by several threads in pieces of bounded size, more than once.
pub trait Rows: Sync {
    /// How many there are.
    fn len(&self) -> usize;

    /// Components of each.
    fn dim(&self) -> usize;

    /// Writes the vectors of `rows` one after the other to `out`, which holds `rows.len() * dim()`.
    ///
    /// # Errors
    /// The reader's own.
    fn read(&self, rows: Range<usize>, out: &mut [f32]) -> Result<(), RowsError>;

    /// Whether there are none.
    fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

/// Vectors one after the other in memory.
#[derive(Clone, Copy, Debug)]
pub struct MemoryRows<'a> {
    vectors: &'a [f32],
    dim: usize,
}

impl<'a> MemoryRows<'a> {
    /// The whole vectors of `dim` components in `vectors`.
    ///
    /// # Panics
    /// When `dim` is 0.
    #[must_use]
    pub fn new(vectors: &'a [f32], dim: usize) -> Self {
        Self { vectors: &vectors[..vectors.len() / dim * dim], dim }
    }

    /// One of them.
    #[must_use]
    pub fn row(&self, row: usize) -> &'a [f32] {
        &self.vectors[row * self.dim..][..self.dim]
    }
}

impl Rows for MemoryRows<'_> {
    fn len(&self) -> usize {
        self.vectors.len() / self.dim
    }

    fn dim(&self) -> usize {
        self.dim
    }

    fn read(&self, rows: Range<usize>, out: &mut [f32]) -> Result<(), RowsError> {
        out.copy_from_slice(&self.vectors[rows.start * self.dim..rows.end * self.dim]);
        Ok(())
    }
}
