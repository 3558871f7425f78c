//! Indexes: derived units over the rows of segments, and searches through them.
//!
//! Owns: which unit covers which rows of segments, building units as jobs within a limit of memory, searching all units of a table together with the rows no
//! unit covers. Does not own: what is inside a unit (`cairn_vector`), which rows are visible (`version`).
//!
//! A unit is an object like any other: written once, named by a commit, removed when another takes its place. Losing one
//! costs speed, never rows: what no usable unit covers is compared exactly.
//!
//! # Life of a search
//! 1. `cover`: the positions of the snapshot's segments are shared out: each to one usable unit or to the exact comparison. Rows that a compaction
//!    has moved stay with the unit that has them.
//! 2. `alive`: per unit a bitmap of the rows that are visible. Both are kept with the table's state, so that the next
//!    search of the same state begins with (3).
//! 3. `searcher`: a condition narrows the bitmaps. Each unit gives its nearest rows with exact distances; uncovered
//!    positions and hot rows are compared one by one.
//! 4. The k nearest of all, by distance, then row id.

mod alive;
mod build;
mod capacity;
mod contents;
mod cover;
mod definition;
mod exact;
mod gather;
mod loaded;
mod policy;
mod query;
mod retire;
mod searcher;
#[cfg(test)]
mod tests;

pub(crate) use build::run as build_due;
pub use capacity::{Estimate, estimate, least_memory_limit};
pub use contents::{Measured, UnitContents, UnitProblem};
pub use cover::Coverage;
pub use definition::{IndexBuilder, IndexDef, IndexMetric, Positions, UnitMeta, UnitSegment};
pub(crate) use loaded::{LoadedUnit, not_opened};
pub use query::{ExactRows, RowSet, SearchReport, UnitReport, VectorHit, VectorQuery};
pub(crate) use retire::{remove as remove_units, sweep as sweep_units};
pub(crate) use searcher::Searchers;
pub use searcher::VectorSearcher;
