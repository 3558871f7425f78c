//! Vector search without I/O: distances, 8-bit codes, and the index unit with its build, file and search.

pub mod distance;
pub mod metric;
pub mod text;

pub mod quantize;
pub mod rows;

pub mod hnsw;
pub mod search;
pub mod unit;

mod parallel;
mod random;

pub use distance::{Floats, Kernels};
pub use metric::{Metric, QueryDistance, VectorError};
pub use rows::{MemoryRows, Rows};
