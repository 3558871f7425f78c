//! The nearest rows of a unit.
//!
//! Owns: the choice of a strategy ([`plan`](plan())), the walk, the scan, reranking, filters. Does not own: exact vectors, which the caller
//! compares ([`ExactDistances`]); which rows are visible, which the caller gives as a bitmap ([`Filter`]).
//! Promise: an answer has exactly `min(k, matching rows)` rows, ordered by exact distance, then row id.
//!
//! # Life of a search
//! 1. [`plan`](plan()) compares what a scan of the matching rows and a walk would cost.
//! 2. The query becomes codes once. A scan compares all sketches of matching rows, then scores those that may be near enough. A walk
//!    begins at the nearest pivots and expands the nearest rows seen, matching or not, until none is nearer than the matching ones
//!    it has found.
//!    Where that was faster when the unit was built, it compares sketches; the rows it found are scored then.
//! 3. The rows near the query decide between the two where the plan leaves it open; a walk that finds too few rows ends as a scan.
//! 4. `rerank` asks for exact distances, best score first, of every row that the bound on its code does not exclude.

pub(crate) mod comparison;
mod exact;
mod filter;
mod plan;
pub(crate) mod pool;
mod request;
mod rerank;
mod run;
mod scan;
mod top;
pub(crate) mod walk;

pub use self::exact::{ExactDistances, MemoryExact};
pub use self::filter::Filter;
pub use self::plan::{Costs, Plan, Strategy, WalkCosts, plan};
pub use self::request::{Effort, Found, Hit, Request, SearchScratch, SearchStats};
pub use self::run::SearchError;
pub use self::top::{TopRow, TopRows};
