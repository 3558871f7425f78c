//! Vectors as 8-bit codes, and what a comparison of codes proves about the vectors.
//!
//! Owns: the grid of a unit ([`Grid`]), codes of rows ([`Grid::encode`]) and queries ([`QueryCode`]), the bound on the
//! difference between the distance of codes and the exact one. Does not own: how codes are compared (`distance`).
//!
//! # Geometry
//! Each metric is brought to one in which codes are compared as points:
//!
//! | metric | point of a vector x | comparison |
//! |---|---|---|
//! | L2, L1 | x | L2, L1 |
//! | Cosine | x / \|x\|: half the squared distance is the cosine distance | L2 |
//! | InnerProduct | x and √(M² - \|x\|²), M the longest row: the squared distance falls as the product grows | L2 |
//!
//! The added component of the last line is spread evenly over several, which changes no distance and keeps it within
//! the range of the others.
//!
//! # Grid and bound
//! Component i of a row is `low[i] + step · u`, `u` in 0..=255, `step` the same for all. `error(x)` is the distance between
//! a point and its code, stored with every row (a row outside the grid is clamped and has a large one). By the
//! triangle inequality `|d(q, x) - d(code(q), code(x))| <= error(q) + error(x)`, plus what f32 rounds.

mod fit;
mod grid;
mod projection;
mod query;
mod sketching;

#[cfg(test)]
mod tests;

pub(crate) use self::fit::{SAMPLE_ROWS as FIT_ROWS, fit};
pub(crate) use self::grid::FILLER;
pub use self::grid::{Grid, RowCode};
pub(crate) use self::projection::{AXES, Axes, Frame, Projection, WIDTH};
pub use self::query::QueryCode;
pub(crate) use self::sketching::Sketching;
