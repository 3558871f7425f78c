//! One search of one unit.

use super::exact::ExactDistances;
use super::filter::Filter;
use super::plan::{Costs, Plan, Strategy, WALK_OVER_SCAN, plan, scan_per_row};
use super::request::{Effort, Found, Request, SearchScratch, SearchStats};
use super::rerank::rerank;
use super::scan::scan;
use super::walk::{walk, walk_matching};
use crate::distance::Kernels;
use crate::hnsw::{SEEDS, nearest};
use crate::metric::VectorError;
use crate::unit::codec::Section;
use crate::unit::{FirstUse, Guard, SketchGrid, Trusted, Unit, UnitError};

/// The recall that searches under a condition aim at, at least.
const FILTERED_RECALL_MIN: f32 = 0.99;
/// Rows scored before the surroundings of a query are judged.
const PROBED: usize = 96;
/// Times that a walk is made wider at most where the rows near the query match less often than others.
const WIDER_MAX: f32 = 4.0;
/// The least part of the rows near a query that matches, as far as is known from those a walk sees first.
const RATE_MIN: f32 = 1.0 / 32.0;
/// Part of a scan's cost that a walk may be expected to cost when it takes the scan's place.
const WORTH: f32 = 0.8;

/// Why a search has no answer.
#[derive(Debug, thiserror::Error)]
pub enum SearchError<E> {
    /// The query has another dimension than the unit, or no distance under its metric.
    #[error(transparent)]
    Query(#[from] VectorError),
    /// The unit is not as it was written.
    #[error(transparent)]
    Unit(#[from] UnitError),
    /// Exact vectors could not be read.
    #[error("reading exact vectors: {0}")]
    Exact(E),
}

impl Unit {
    /// The `k` nearest rows that match.
    ///
    /// # Errors
    /// [`SearchError`].
    pub fn search<'s, E: ExactDistances>(
        &self,
        request: &Request<'_>,
        exact: &mut E,
        scratch: &'s mut SearchScratch,
    ) -> Result<Found<'s>, SearchError<E::Error>> {
        if request.query.len() != self.dim() {
            let (expected, found) = (self.dim(), request.query.len());
            return Err(VectorError::Dimension { expected, found }.into());
        }
        self.metric().check(request.query.into())?;
        if self.is_checked() {
            return self.search_with(request, exact, &Trusted, scratch);
        }
        self.undamaged()?;
        self.search_with(request, exact, &FirstUse(self), scratch)
    }

    fn search_with<'s, E: ExactDistances>(
        &self,
        request: &Request<'_>,
        exact: &mut E,
        guard: &impl Guard,
        scratch: &'s mut SearchScratch,
    ) -> Result<Found<'s>, SearchError<E::Error>> {
        let plan = self.plan(request.k, request.effort, request.filter.map(|filter| filter.matches()));
        let mut stats =
            SearchStats { visited: 0, code_distances: 0, exact_distances: 0, plan, strategy: plan.strategy };
        self.collect(request, &mut stats, guard, scratch).map_err(Into::<UnitError>::into)?;
        stats.exact_distances = rerank(self, request.k, exact, guard, scratch)?;
        Ok(Found { hits: &scratch.hits, stats })
    }

    /// How [`Unit::search`] would begin, for EXPLAIN; `matches` is absent without a filter.
    #[must_use]
    pub fn plan(&self, k: usize, effort: Effort, matches: Option<usize>) -> Plan {
        let calibration = self.calibration();
        let width = match effort {
            // Rows that match lie farther from each other than those the width was measured with.
            Effort::Recall(recall) if matches.is_some() => {
                calibration.width(k, recall.max(FILTERED_RECALL_MIN))
            }
            Effort::Recall(recall) => calibration.width(k, recall),
            Effort::Width(width) => width.max(k),
            Effort::Exact => self.len(),
        };
        let scored_per_width = calibration.scored(width) / width.max(1) as f32;
        let matches = matches.unwrap_or(self.len()).min(self.len());
        let short = |sketch: &SketchGrid| scan_per_row(self.grid().stride(), sketch.left);
        let scan_per_row = self.sketch().map_or(1.0, short);
        let mut plan = plan(self.len(), matches, k, Costs { scored_per_width, width, scan_per_row });
        if effort == Effort::Exact && matches!(plan.strategy, Strategy::Walk { .. } | Strategy::Probe { .. })
        {
            plan.strategy = Strategy::Scan;
        }
        plan
    }

    /// Fills the candidates to rerank, best score first.
    fn collect<G: Guard>(
        &self,
        request: &Request<'_>,
        stats: &mut SearchStats,
        guard: &G,
        scratch: &mut SearchScratch,
    ) -> Result<(), G::Damage> {
        scratch.candidates.clear();
        match stats.plan.strategy {
            Strategy::Nothing => {}
            Strategy::All => match request.filter {
                Some(filter) => scratch.candidates.extend(filter.ordinals(self.len()).map(|row| (0.0, row))),
                None => scratch.candidates.extend((0..self.len() as u32).map(|row| (0.0, row))),
            },
            Strategy::Scan => {
                scratch.query.encode(self.grid(), self.norm_max(), request.query);
                stats.code_distances += scan(self, request.k, request.filter, guard, scratch)?;
            }
            Strategy::Walk { width } | Strategy::Probe { width } => {
                scratch.query.encode(self.grid(), self.norm_max(), request.query);
                match request.filter {
                    Some(filter) => {
                        self.walk_matching(request, filter, width, stats, guard, scratch)?;
                    }
                    None => self.walk(request, width, stats, guard, scratch)?,
                }
            }
        }
        Ok(())
    }

    /// Walks among all rows.
    fn walk<G: Guard>(
        &self,
        request: &Request<'_>,
        width: usize,
        stats: &mut SearchStats,
        guard: &G,
        scratch: &mut SearchScratch,
    ) -> Result<(), G::Damage> {
        let seeds = self.seeds(width, stats, guard, scratch)?;
        let (space, query) = (self.space(), &scratch.query.code);
        let seeded = scratch.walk.seed(&space, query, seeds.into_iter(), guard)?;
        let (scored, expanded) = walk(&self.graph(), &space, query, &mut scratch.walk, guard)?;
        stats.code_distances += seeded + scored;
        stats.visited += expanded;
        scratch.candidates.extend(scratch.walk.pool.iter());
        // Rows are reachable from all pivots together, not from those a walk begins from.
        if scratch.candidates.len() < request.k.min(self.len()) {
            stats.strategy = Strategy::Scan;
            stats.code_distances += scan(self, request.k, request.filter, guard, scratch)?;
        }
        Ok(())
    }

    /// Walks for matching rows, until a scan is the cheaper way to end; it is at once where few of the rows near
    /// the query match.
    fn walk_matching<G: Guard>(
        &self,
        request: &Request<'_>,
        filter: Filter<'_>,
        width: usize,
        stats: &mut SearchStats,
        guard: &G,
        scratch: &mut SearchScratch,
    ) -> Result<(), G::Damage> {
        let seeds = self.seeds(width, stats, guard, scratch)?;
        let (graph, space, plan) = (self.graph(), self.space(), stats.plan);
        let query = &scratch.query.code;
        stats.code_distances +=
            scratch.walk.seed_matching(&space, query, seeds.into_iter(), filter, guard)?;
        let budget = (plan.scan_cost / WALK_OVER_SCAN) as usize;
        let step = |scratch: &mut SearchScratch, stats: &mut SearchStats, most: usize, first: bool| {
            let of = (&space, &scratch.query.code);
            let walked = walk_matching(&graph, of, &mut scratch.walk, filter, (most, first), guard)?;
            stats.code_distances += walked.scored;
            stats.visited += walked.expanded;
            Ok::<_, G::Damage>(walked.ended)
        };
        let mut ended = step(scratch, stats, PROBED.min(budget), true)?;
        if !ended {
            let rate = scratch.walk.near_matching(filter);
            // Far from its matches a walk meets the edge of their region first: it takes more of them to find the nearest.
            let wider = (plan.matches as f32 / self.len() as f32 / rate).clamp(1.0, WIDER_MAX);
            scratch.walk.pool.widen((width as f32 * wider) as usize);
            let walk_cost = plan.plain_walk_cost * wider / rate.max(RATE_MIN);
            if walk_cost < WORTH * plan.scan_cost {
                ended = step(scratch, stats, budget, false)?;
            }
        }
        // A walk can end without having met enough: what it could not reach matches more often.
        if ended && scratch.walk.pool.iter().len() >= request.k.min(plan.matches) {
            stats.strategy = Strategy::Walk { width };
            scratch.candidates.extend(scratch.walk.pool.iter());
        } else {
            stats.strategy = Strategy::Scan;
            stats.code_distances += scan(self, request.k, request.filter, guard, scratch)?;
        }
        Ok(())
    }

    /// Where a walk of `width` begins.
    fn seeds<G: Guard>(
        &self,
        width: usize,
        stats: &mut SearchStats,
        guard: &G,
        scratch: &mut SearchScratch,
    ) -> Result<[u32; SEEDS], G::Damage> {
        for section in [Section::PivotCodes, Section::PivotNorms, Section::PivotRows] {
            guard.section(section)?;
        }
        scratch.walk.clear(self.len(), width);
        let seeds = self.nearest_pivots(&scratch.query.code, &mut scratch.sums);
        stats.code_distances += scratch.sums.len();
        Ok(seeds)
    }

    fn nearest_pivots(&self, query: &crate::distance::CodeQuery, sums: &mut Vec<i32>) -> [u32; SEEDS] {
        let panel = self.pivots();
        sums.resize(panel.width(), 0);
        Kernels::get().codes.panel(self.grid().code_sum(), &panel, query.codes.bytes(), 1, sums);
        let scores = self.pivot_norms().zip(sums.iter()).map(|(norm, &sum)| query.score(norm, sum));
        nearest(scores).map(|pivot| self.pivot_row(pivot))
    }
}
