//! Indexes: derived units over the rows of segments, and searches through them.
//!
//! Owns: which unit covers which segment, building units as jobs, searching all units of a table together with the rows no
//! unit covers. Does not own: what is inside a unit (`cairn_vector`), which rows are visible (`version`).
//!
//! A unit is an object like any other: written once, named by a commit, removed when another takes its place. Losing one
//! costs speed, never rows: what no usable unit covers is compared exactly.
//!
//! # Life of a search
//! 1. `cover`: the segments of the snapshot are shared out: each to one usable unit, the others to the exact comparison.
//! 2. `alive`: per unit a bitmap of the rows that are visible. Both are kept with the table's state, so that the next
//!    search of the same state begins with (3).
//! 3. `searcher`: a condition narrows the bitmaps. Each unit gives its nearest rows with exact distances; uncovered segments and hot rows are compared one by one.
//! 4. The k nearest of all, by distance, then row id.

mod alive;
mod build;
mod cover;
mod definition;
mod exact;
mod loaded;
mod policy;
mod query;
mod searcher;
#[cfg(test)]
mod tests;

pub use build::{Estimate, estimate};
pub(crate) use build::{remove as remove_units, run as build_due};
pub use definition::{IndexBuilder, IndexDef, IndexMetric, UnitMeta, UnitSegment};
pub(crate) use loaded::LoadedUnit;
pub use query::{ExactRows, RowSet, SearchReport, UnitReport, VectorHit, VectorQuery};
pub(crate) use searcher::Searchers;
pub use searcher::VectorSearcher;
