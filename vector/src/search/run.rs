//! One search of one unit.

use super::exact::ExactDistances;
use super::plan::{Costs, Plan, Strategy, plan};
use super::request::{Effort, Found, Request, SearchScratch, SearchStats};
use super::rerank::rerank;
use super::scan::scan;
use super::walk::walk;
use crate::distance::Kernels;
use crate::hnsw::{SEEDS, nearest};
use crate::metric::VectorError;
use crate::unit::codec::Section;
use crate::unit::{FirstUse, Guard, Trusted, Unit, UnitError};

/// Part of the expected matching rows that a walk has to find.
const ENOUGH: f32 = 0.8;

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
            Effort::Recall(recall) => calibration.width(k, recall),
            Effort::Width(width) => width.max(k),
            Effort::Exact => self.len(),
        };
        let scored_per_width = calibration.scored(width) / width.max(1) as f32;
        let matches = matches.unwrap_or(self.len()).min(self.len());
        let mut plan = plan(self.len(), matches, k, Costs { scored_per_width, width });
        if effort == Effort::Exact && matches!(plan.strategy, Strategy::Walk { .. }) {
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
            Strategy::Walk { width } => {
                scratch.query.encode(self.grid(), self.norm_max(), request.query);
                self.walk(request, width, stats, guard, scratch)?;
            }
        }
        Ok(())
    }

    /// Walks, wider each time too few rows match, until a scan is the cheaper way to end.
    fn walk<G: Guard>(
        &self,
        request: &Request<'_>,
        mut width: usize,
        stats: &mut SearchStats,
        guard: &G,
        scratch: &mut SearchScratch,
    ) -> Result<(), G::Damage> {
        // The answer is as good as that of an unfiltered walk when as many matching rows are in the pool as there are
        // rows in its. Fewer by chance do not matter; many fewer mean that rows near the query match less than others.
        let selectivity = stats.plan.matches as f32 / self.len() as f32;
        let expected = width as f32 * selectivity * ENOUGH;
        let enough = (expected as usize).clamp(request.k, stats.plan.matches);
        let budget = stats.plan.scan_cost;
        let mut spent = 0.0;
        loop {
            let scored = self.walk_once(width, stats, guard, scratch)?;
            spent += scored as f32 * super::plan::WALK_OVER_SCAN;
            let pool = scratch.walk.pool.iter();
            scratch.candidates.clear();
            match request.filter {
                Some(filter) => scratch.candidates.extend(pool.filter(|&(_, row)| filter.contains(row))),
                None => scratch.candidates.extend(pool),
            }
            if scratch.candidates.len() >= enough {
                return Ok(());
            }
            if spent * 3.0 > budget || width >= self.len() {
                stats.strategy = Strategy::Scan;
                stats.code_distances += scan(self, request.k, request.filter, guard, scratch)?;
                return Ok(());
            }
            width = (width * 2).min(self.len());
        }
    }

    fn walk_once<G: Guard>(
        &self,
        width: usize,
        stats: &mut SearchStats,
        guard: &G,
        scratch: &mut SearchScratch,
    ) -> Result<usize, G::Damage> {
        for section in [Section::PivotCodes, Section::PivotNorms, Section::PivotRows] {
            guard.section(section)?;
        }
        let (space, query) = (self.space(), &scratch.query.code);
        scratch.walk.clear(self.len(), width);
        let seeds = self.nearest_pivots(&scratch.query.code, &mut scratch.sums);
        stats.code_distances += scratch.sums.len();
        let seeded = scratch.walk.seed(&space, query, seeds.into_iter(), guard)?;
        let (scored, expanded) = walk(&self.graph(), &space, query, &mut scratch.walk, guard)?;
        stats.code_distances += seeded + scored;
        stats.visited += expanded;
        Ok(scored)
    }

    fn nearest_pivots(&self, query: &crate::distance::CodeQuery, sums: &mut Vec<i32>) -> [u32; SEEDS] {
        let panel = self.pivots();
        sums.resize(panel.width(), 0);
        Kernels::get().codes.panel(self.grid().code_sum(), &panel, query.codes.bytes(), 1, sums);
        let scores = self.pivot_norms().zip(sums.iter()).map(|(norm, &sum)| query.score(norm, sum));
        nearest(scores).map(|pivot| self.pivot_row(pivot))
    }
}
