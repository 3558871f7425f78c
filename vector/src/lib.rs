//! Vector search without I/O: distances, 8-bit codes, and the index unit with its build, file and search.
//!
//! # Life of a vector
//! 1. [`text`] reads it, [`metric`] checks it; SQL compares vectors with [`Metric`] and [`QueryDistance`], on the kernels of
//!    [`distance`], whose f32 results have the same bits on every machine.
//! 2. [`hnsw::build`] reads the vectors of some rows ([`Rows`]), brings them to 8-bit codes ([`quantize`]), and those into a graph.
//! 3. [`mod@unit`] is the file of both: written once, opened in constant time, used in place.
//! 4. [`unit::Unit::search`](search) finds near rows by their codes and asks for exact distances of those that may be in the
//!    answer.
//!
//! No file, no thread that outlives a call, no Arrow: the caller gives bytes and vectors. `unsafe` lives in [`distance`] alone.
//!
//! The words used here are defined in ARCHITECTURE.md.

pub mod distance;
pub mod metric;
mod query_distance;
pub mod text;

pub mod quantize;
pub mod rows;

pub mod hnsw;
pub mod search;
pub mod unit;

mod parallel;
mod random;
mod value;

pub use distance::{Floats, Kernels};
pub use metric::{DIM_MAX, Metric, VectorError};
pub use query_distance::QueryDistance;
pub use rows::{MemoryRows, Rows, RowsError};
