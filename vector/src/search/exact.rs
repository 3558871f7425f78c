//! Exact distances of rows, which the caller computes from the table's vectors.

use std::convert::Infallible;

use crate::distance::Floats;
use crate::query_distance::QueryDistance;

/// Compares the query to rows of a unit exactly.
pub trait ExactDistances {
    /// Why vectors could not be read.
    type Error;

    /// Writes the distance of the query to each of `ordinals`, as [`QueryDistance`] gives it, to the same place in `out`.
    ///
    /// # Errors
    /// The reader's own; it ends the search.
    fn distances(&mut self, ordinals: &[u32], out: &mut [f32]) -> Result<(), Self::Error>;
}

/// Vectors in memory, in any place.
#[derive(Debug)]
pub struct MemoryExact<'a, F> {
    query: QueryDistance,
    vector: F,
    lifetime: std::marker::PhantomData<&'a ()>,
}

impl<'a, F: Fn(u32) -> Floats<'a>> MemoryExact<'a, F> {
    /// `vector` gives the vector of an ordinal.
    pub fn new(query: QueryDistance, vector: F) -> Self {
        Self { query, vector, lifetime: std::marker::PhantomData }
    }
}

impl<'a, F: Fn(u32) -> Floats<'a>> ExactDistances for MemoryExact<'a, F> {
    type Error = Infallible;

    fn distances(&mut self, ordinals: &[u32], out: &mut [f32]) -> Result<(), Infallible> {
        for &ordinal in ordinals {
            prefetch_vector((self.vector)(ordinal));
        }
        for (&ordinal, out) in ordinals.iter().zip(out) {
            self.query.many((self.vector)(ordinal).bytes(), std::slice::from_mut(out));
        }
        Ok(())
    }
}

/// Fetches the beginning of a vector; the processor follows the rest by itself.
fn prefetch_vector(vector: Floats<'_>) {
    let bytes = vector.bytes();
    crate::distance::prefetch(&bytes[..bytes.len().min(256)]);
}
