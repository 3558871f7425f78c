//! One search of one unit.

use super::comparison::Comparison;
use super::exact::ExactDistances;
use super::filter::Filter;
use super::plan::{Costs, Plan, Strategy, WalkCosts, plan, scan_per_row};
use super::request::{Effort, Found, Request, SearchScratch, SearchStats};
use super::rerank::rerank;
use super::scan::scan;
use super::walk::{Reach, WalkScratch, walk, walk_matching};
use crate::distance::Kernels;
use crate::hnsw::{NO_ROW, SEEDS, nearest};
use crate::metric::VectorError;
use crate::quantize::QueryCode;
use crate::unit::codec::Section;
use crate::unit::{Compared, FirstUse, Guard, SketchGrid, Trusted, Unit, UnitError};

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
        let walk = WalkCosts::new(calibration.compared, self.grid().stride());
        let mut plan = plan(self.len(), matches, k, Costs { scored_per_width, width, scan_per_row, walk });
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
        scratch.is_sketched = false;
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
                if !scratch.query.says_something() {
                    stats.strategy = Strategy::Scan;
                    stats.code_distances += scan(self, request.k, request.filter, guard, scratch)?;
                    return Ok(());
                }
                let sketches = self.calibration().compared == Compared::Sketches;
                let compared = match sketches && scratch.ask_sketches(self, guard)? {
                    true => Compared::Sketches,
                    false => Compared::Codes,
                };
                match request.filter {
                    Some(filter) => {
                        self.walk_matching(request, (filter, compared), width, stats, guard, scratch)?;
                    }
                    None => self.walk(request, compared, width, stats, guard, scratch)?,
                }
            }
        }
        Ok(())
    }

    /// Walks among all rows.
    fn walk<G: Guard>(
        &self,
        request: &Request<'_>,
        compared: Compared,
        width: usize,
        stats: &mut SearchStats,
        guard: &G,
        scratch: &mut SearchScratch,
    ) -> Result<(), G::Damage> {
        // As large whatever the walk compares.
        let room = Reach::beyond(width, request.k, &scratch.query).room();
        let seeds = self.seeds(compared, room, stats, guard, scratch)?;
        let comparison = self.comparison(compared, &scratch.query, &scratch.sketch);
        let asked = if compared == Compared::Codes { &scratch.query } else { &scratch.sketch };
        let reach = Reach::beyond(width, request.k, asked);
        let found = reach.found();
        let seeded = scratch.walk.seed(&comparison, seeds.into_iter(), guard)?;
        let (scored, expanded) = walk(&self.graph(), &comparison, &mut scratch.walk, reach, guard)?;
        stats.code_distances += seeded + scored;
        stats.visited += expanded;
        self.take_found(compared, found, stats, guard, scratch)?;
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
        (filter, compared): (Filter<'_>, Compared),
        width: usize,
        stats: &mut SearchStats,
        guard: &G,
        scratch: &mut SearchScratch,
    ) -> Result<(), G::Damage> {
        let room = Reach::beyond(width, request.k, &scratch.query).room();
        let seeds = self.seeds(compared, room, stats, guard, scratch)?;
        let (graph, plan) = (self.graph(), stats.plan);
        let comparison = self.comparison(compared, &scratch.query, &scratch.sketch);
        let asked = if compared == Compared::Codes { &scratch.query } else { &scratch.sketch };
        let mut reach = Reach::beyond(width, request.k, asked);
        let scratch_walk = &mut scratch.walk;
        stats.code_distances += scratch_walk.seed_matching(&comparison, seeds.into_iter(), filter, guard)?;
        let per_row = WalkCosts::new(compared, self.grid().stride()).per_row;
        let budget = (plan.scan_cost / per_row) as usize;
        let step =
            |walk: &mut WalkScratch, reach: Reach<'_>, stats: &mut SearchStats, most: usize, first: bool| {
                let walked = walk_matching(&graph, &comparison, walk, (filter, reach), (most, first), guard)?;
                stats.code_distances += walked.scored;
                stats.visited += walked.expanded;
                Ok::<_, G::Damage>(walked.ended)
            };
        let mut ended = step(scratch_walk, reach, stats, PROBED.min(budget), true)?;
        if !ended {
            let rate = scratch_walk.near_matching(filter);
            // Far from its matches a walk meets the edge of their region first: it takes more of them to find the nearest.
            let wider = (plan.matches as f32 / self.len() as f32 / rate).clamp(1.0, WIDER_MAX);
            reach = Reach::beyond((width as f32 * wider) as usize, request.k, asked);
            scratch_walk.pool.widen(reach.room());
            let walk_cost = plan.plain_walk_cost * wider / rate.max(RATE_MIN);
            if walk_cost < WORTH * plan.scan_cost {
                ended = step(scratch_walk, reach, stats, budget, false)?;
            }
        }
        // A walk can end without having met enough: what it could not reach matches more often.
        if ended && scratch_walk.pool.iter().len() >= request.k.min(plan.matches) {
            stats.strategy = Strategy::Walk { width };
            let found = reach.found();
            self.take_found(compared, found, stats, guard, scratch)?;
        } else {
            stats.strategy = Strategy::Scan;
            stats.code_distances += scan(self, request.k, request.filter, guard, scratch)?;
        }
        Ok(())
    }

    fn comparison<'a>(
        &'a self,
        compared: Compared,
        query: &'a QueryCode,
        sketch: &'a QueryCode,
    ) -> Comparison<'a> {
        match compared {
            Compared::Codes => Comparison::codes(self.space(), &query.code),
            Compared::Sketches => Comparison::sketches(self.sketch_space(), &sketch.code),
        }
    }

    /// Makes candidates of the nearest rows, up to `most`, that a walk has found: by the scores of their codes, whatever it
    /// compared.
    fn take_found<G: Guard>(
        &self,
        compared: Compared,
        most: usize,
        stats: &mut SearchStats,
        guard: &G,
        scratch: &mut SearchScratch,
    ) -> Result<(), G::Damage> {
        let SearchScratch { walk, query, candidates, batch, distances, .. } = scratch;
        match compared {
            Compared::Codes => candidates.extend(walk.pool.iter().take(most)),
            Compared::Sketches => {
                batch.clear();
                batch.extend(walk.pool.iter().take(most).map(|(_, row)| row));
                Comparison::codes(self.space(), &query.code).scores(batch, distances, guard)?;
                stats.code_distances += batch.len();
                candidates.extend(distances.iter().copied().zip(batch.iter().copied()));
                candidates.sort_unstable_by(|a, b| a.0.total_cmp(&b.0).then(a.1.cmp(&b.1)));
            }
        }
        Ok(())
    }

    /// Where a walk begins, whose pool is made ready for `room` rows.
    fn seeds<G: Guard>(
        &self,
        compared: Compared,
        room: usize,
        stats: &mut SearchStats,
        guard: &G,
        scratch: &mut SearchScratch,
    ) -> Result<[u32; SEEDS], G::Damage> {
        guard.section(Section::PivotRows)?;
        scratch.walk.clear(self.len(), room);
        let SearchScratch { query, sketch, batch, sums, distances, .. } = scratch;
        if compared == self.calibration().compared {
            guard.section(Section::PivotCodes)?;
            guard.section(Section::PivotNorms)?;
            stats.code_distances += self.pivots().width();
            let query = if compared == Compared::Codes { query } else { sketch };
            return Ok(self.nearest_pivots(&query.code, sums));
        }
        // The query is too far away for sketches, which the pivots are kept as.
        batch.clear();
        batch.extend(self.pivot_rows().filter(|&row| (row as usize) < self.len()));
        self.comparison(compared, query, sketch).scores(batch, distances, guard)?;
        stats.code_distances += batch.len();
        let nearest = nearest(distances.iter().copied().take(batch.len()));
        Ok(nearest.map(|place| batch.get(place as usize).copied().unwrap_or(NO_ROW)))
    }

    fn nearest_pivots(&self, query: &crate::distance::CodeQuery, sums: &mut Vec<i32>) -> [u32; SEEDS] {
        let panel = self.pivots();
        sums.resize(panel.width(), 0);
        // Sketches are compared by products, as are the codes of all units that have them.
        Kernels::get().codes.panel(self.grid().code_sum(), &panel, query.codes.bytes(), 1, sums);
        let scores = self.pivot_norms().zip(sums.iter()).map(|(norm, &sum)| query.score(norm, sum));
        nearest(scores).map(|pivot| self.pivot_row(pivot))
    }
}
