//! What a search is asked, and what it answers.

use super::filter::Filter;
use super::scan::Sketched;
use super::walk::WalkScratch;
use super::{Plan, Strategy};
use crate::quantize::QueryCode;
use crate::unit::codec::Section;
use crate::unit::{Guard, Unit};

/// How hard to search.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Effort {
    /// The width the unit's calibration gives for this recall.
    Recall(f32),
    /// A walk of this width (at least k).
    Width(usize),
    /// Score every row: nothing is missed.
    Exact,
}

/// One question to one unit.
#[derive(Clone, Copy, Debug)]
pub struct Request<'a> {
    /// A checked vector of the unit's dimension.
    pub query: &'a [f32],
    /// Rows wanted.
    pub k: usize,
    /// How hard to search.
    pub effort: Effort,
    /// Which rows may be in the answer; all when absent.
    pub filter: Option<Filter<'a>>,
}

/// A row of the answer.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Hit {
    /// Its number in the unit.
    pub ordinal: u32,
    /// Its row id.
    pub row_id: u64,
    /// Its exact distance.
    pub distance: f32,
}

/// What a search took.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct SearchStats {
    /// Rows expanded by walks.
    pub visited: usize,
    /// Distances of codes, pivots included.
    pub code_distances: usize,
    /// Exact distances asked for.
    pub exact_distances: usize,
    /// How it began.
    pub plan: Plan,
    /// How it ended: a walk that passes too many rows that do not match gives way to a scan, a probe ends in either.
    pub strategy: Strategy,
}

/// An answer, the nearest row first.
#[derive(Clone, Copy, Debug)]
pub struct Found<'s> {
    /// Exactly `min(k, matching rows)` rows.
    pub hits: &'s [Hit],
    /// What it took.
    pub stats: SearchStats,
}

/// What a searching thread reuses from query to query, over any units: nothing is allocated once it has grown.
#[derive(Clone, Debug, Default)]
pub struct SearchScratch {
    pub(super) walk: WalkScratch,
    pub(super) query: QueryCode,
    /// The query's projection, and whether it is there.
    pub(super) sketch: QueryCode,
    pub(super) is_sketched: bool,
    pub(super) sketched: Sketched,
    pub(super) sums: Vec<i32>,
    /// Score and ordinal of rows to rerank, best first.
    pub(super) candidates: Vec<(f32, u32)>,
    pub(super) batch: Vec<u32>,
    pub(super) distances: Vec<f32>,
    pub(super) hits: Vec<Hit>,
}

impl SearchScratch {
    /// Makes the query, whose codes are there, a sketch; whether the unit has sketches to compare it to.
    ///
    /// # Errors
    /// The guard's.
    pub(super) fn ask_sketches<G: Guard>(&mut self, unit: &Unit, guard: &G) -> Result<bool, G::Damage> {
        if self.is_sketched {
            return Ok(true);
        }
        let Some(sketching) = unit.sketching() else { return Ok(false) };
        guard.section(Section::SketchAxes)?;
        self.is_sketched = sketching.ask(unit.grid(), &self.query, &mut self.sketch);
        Ok(self.is_sketched)
    }
}
