//! Builds a unit: rows to codes, codes to clusters, clusters to a graph.
//!
//! Owns: the choice of edges. Does not own: the file (`unit`), the walk (`search`), distances.
//! Ordering: the same rows, options and seed give the same unit whatever the number of threads.
//!
//! # Life of a build
//! 1. [`quantize::fit`](crate::quantize) chooses the grid; `encode` reads every row once more and writes its codes.
//! 2. `pivots` finds the rows that stand for clusters; `encode` brings all rows into their order.
//! 3. `sketch` makes short codes of long ones, for scans, and for walks where they prove faster.
//! 4. `leaves` carves overlapping groups of rows that are near each other.
//! 5. `pairs` compares all pairs of every group; `candidates` keeps the nearest of every row.
//! 6. `graph` prunes them to diverse neighbours, names them back, prunes again.
//! 7. `calibrate` measures recall on rows held out so far; below the target, `improve` walks the graph to find better
//!    neighbours. `improve` inserts the held-out rows, too.
//! 8. `repair` links what cannot be reached.
//!
//! After PiPNN (arXiv 2602.21247) and, for pivots instead of layers, "Down with the Hierarchy" (arXiv 2412.01940).

mod build;
mod calibrate;
mod candidates;
mod encode;
mod graph;
mod hnsw_rs;
mod improve;
mod leaves;
mod memory;
mod options;
mod pairs;
mod pivots;
mod repair;
mod seeds;
pub(crate) mod sketch;
mod space;

pub use self::build::build;
pub(crate) use self::encode::Clustered;
pub use self::graph::{Adjacency, DEGREE, Graph, NO_ROW, Neighbours};
pub use self::options::{BuildError, BuildOptions, Builder, Estimate, HnswRsOptions, Progress};
pub(crate) use self::seeds::{SEEDS, nearest};
pub(crate) use self::sketch::SILENT;
pub(crate) use self::space::Space;
