//! Searches of one column at one state of a table: what they share is worked out once, each then only computes distances.
//!
//! Owns: which units and which exact comparisons make up an answer, the rows a condition leaves. Does not own: which unit
//! answers for which segment (`cover`), distances (`cairn_vector`). A searcher never changes and may be used by any number
//! of threads; it keeps the units and segments it reads open.

use std::cell::RefCell;
use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use arrow::array::{Array, RecordBatch};
use cairn_vector::search::{Effort, Filter, Request, SearchError, SearchScratch, SearchStats, TopRows};
use cairn_vector::{Metric, QueryDistance, VectorError};

use super::alive::{self, Alive, Ordinals};
use super::cover::{Answerer, Cover, Part, cover};
use super::exact::{Source, UnitExact, compare_hot, each_hot, hot_to_compare};
use super::{IndexDef, LoadedUnit, RowSet, SearchReport, UnitReport, VectorHit, VectorQuery};
use crate::error::{Error, ErrorKind, Result};
use crate::id::{ObjectId, RowId};
use crate::version::{SegmentView, TableSnapshot};

thread_local! {
    /// Grown once, used by every search of the thread.
    static SCRATCH: RefCell<SearchScratch> = RefCell::default();
}

/// Why rows that a unit is for are compared exactly.
const WHY_LOST: &str = "their unit is lost, or none covers them yet";

/// The same for all rows of a search.
const WHY_LENGTH: &str = "the vector is too short or too long for an index";

/// A unit with the segments it answers for.
#[derive(Debug)]
struct CoveredUnit {
    unit: Arc<LoadedUnit>,
    sources: Vec<Source>,
    alive: Alive,
}

/// The part of a searcher that is in segments.
#[derive(Debug)]
struct Cold {
    /// The index of the metric, if there is one.
    index: Option<IndexDef>,
    units: Vec<CoveredUnit>,
    uncovered: Vec<Source>,
    /// Why `uncovered` is compared exactly.
    why: &'static str,
    lost: Vec<(ObjectId, String)>,
    rows: u64,
    /// Whether a row may have no vector.
    nulls: bool,
}

/// What searchers of one table hold, kept with the state they were worked out for.
#[derive(Debug, Default)]
pub(crate) struct Searchers {
    cold: Mutex<HashMap<(usize, Metric, bool), Arc<Cold>>>,
}

/// See the module.
#[derive(Clone, Debug)]
pub struct VectorSearcher {
    metric: Metric,
    /// Whether every row is compared, units or not.
    exact: bool,
    cold: Arc<Cold>,
    /// The vector column and `_row_id` of visible hot rows.
    hot: Vec<RecordBatch>,
    among: Option<Arc<Among>>,
}

/// The only rows that count.
#[derive(Debug)]
struct Among {
    rows: RowSet,
    /// The same for each unit, by ordinal; an error for a damaged one.
    units: Vec<Result<Ordinals>>,
}

impl TableSnapshot {
    /// What searches of `column`, a position in the definition, by `metric` share; `exact`: no unit is to be used.
    ///
    /// # Errors
    /// `Corrupt` for a damaged segment, the store's. A unit that is missing or damaged is no error: its rows are compared
    /// exactly and every report names it.
    pub async fn searcher(&self, column: usize, metric: Metric, exact: bool) -> Result<VectorSearcher> {
        let hot = self.hot_batches(&[column], true)?;
        // What a state keeps is for its newest version.
        let newest = self.is_newest();
        let key = (column, metric, exact);
        let kept = if newest { self.state().searchers.get(&key) } else { None };
        let cold = match kept {
            Some(cold) => cold,
            None => {
                let cold = Arc::new(self.cold(column, metric, exact).await?);
                // A unit that could not be opened may be there the next time.
                if newest && cold.lost.is_empty() {
                    self.state().searchers.put(key, &cold);
                }
                cold
            }
        };
        Ok(VectorSearcher { metric, exact, cold, hot, among: None })
    }

    async fn cold(&self, column: usize, metric: Metric, exact: bool) -> Result<Cold> {
        let views = self.segments().await?;
        let index = self.index_of(column, metric, &views).await;
        let (cover, why) = match index {
            _ if exact => (Cover::exact(views), "mode is exact"),
            Some(index) => (cover(self, index, views).await, "no unit covers them yet"),
            None => (Cover::exact(views), "there is no such index"),
        };
        let mut lost: Vec<(ObjectId, String)> =
            cover.lost.iter().map(|(unit, error)| (unit.id, error.message().to_owned())).collect();
        let mut units = Vec::with_capacity(cover.units.len());
        let mut uncovered = cover.uncovered;
        for Answerer { unit, parts, whole } in cover.units {
            let sources = self.sources(parts.clone(), column).await?;
            let opened: Vec<_> = sources.iter().map(|s| (s.part(), s.ids.clone())).collect();
            match alive::alive(&unit, &opened, whole) {
                Ok(alive) => units.push(CoveredUnit { unit, sources, alive }),
                Err(error) if error.kind() == ErrorKind::Corrupt => {
                    lost.push((unit.meta.id, error.message().to_owned()));
                    uncovered.extend(parts);
                }
                Err(error) => return Err(error),
            }
        }
        let uncovered = self.sources(uncovered, column).await?;
        let mut sources = units.iter().flat_map(|covered| &covered.sources).chain(&uncovered);
        let nulls = sources.any(|s| s.vectors.as_ref().is_none_or(|v| !v.nulls().is_empty()));
        Ok(Cold {
            index: index.cloned(),
            units,
            uncovered,
            why,
            lost,
            rows: self.state().segments.iter().map(|s| s.meta.rows).sum(),
            nulls,
        })
    }

    /// Checks that every visible vector of a column has a distance under `metric`.
    ///
    /// # Errors
    /// `InvalidInput` (22000) naming column, row id and what is wrong; storage errors.
    pub async fn check_vectors(&self, column: usize, metric: Metric) -> Result<()> {
        let name = &self.def().columns[column].name;
        let wrong = |row: u64, why: VectorError| {
            let message = format!("column {name} of {}, row id {row}: {why}", self.def().qualified_name());
            Error::new(ErrorKind::InvalidInput, message).with_sqlstate("22000")
        };
        for source in self.sources(Cover::exact(self.segments().await?).uncovered, column).await? {
            source.each(|row, vector| metric.check(vector).map_err(|why| wrong(row, why)))?;
        }
        for batch in self.hot_batches(&[column], true)? {
            each_hot(&batch, |row, vector| metric.check(vector).map_err(|why| wrong(row, why)))?;
        }
        Ok(())
    }

    /// The index of a column that answers by `metric`: of several, the one whose units cover most rows of `views`, the
    /// table's segments; the oldest of equals.
    async fn index_of(&self, column: usize, metric: Metric, views: &[SegmentView]) -> Option<&IndexDef> {
        let column = self.def().columns.get(column)?.id;
        let indexes = self.def().indexes.iter();
        let fitting: Vec<&IndexDef> =
            indexes.filter(|i| i.column == column && i.metric.metric() == metric).collect();
        if fitting.len() < 2 {
            return fitting.first().copied();
        }
        let mut best: Option<(&IndexDef, u64)> = None;
        for index in fitting {
            let rows = self.coverage(index, views, self.state()).await.rows;
            if best.is_none_or(|(_, most)| rows > most) {
                best = Some((index, rows));
            }
        }
        best.map(|(index, _)| index)
    }

    async fn sources(&self, parts: Vec<Part>, column: usize) -> Result<Vec<Source>> {
        let mut sources = Vec::with_capacity(parts.len());
        for part in parts {
            sources.push(Source::open(self, part, column).await?);
        }
        sources.sort_by_key(|source| source.view.meta.max_row_id);
        Ok(sources)
    }
}

impl Searchers {
    fn get(&self, key: &(usize, Metric, bool)) -> Option<Arc<Cold>> {
        self.cold.lock().unwrap_or_else(PoisonError::into_inner).get(key).cloned()
    }

    fn put(&self, key: (usize, Metric, bool), cold: &Arc<Cold>) {
        self.cold.lock().unwrap_or_else(PoisonError::into_inner).insert(key, Arc::clone(cold));
    }
}

impl VectorSearcher {
    /// The same over no other rows than `rows`, which are visible.
    #[must_use]
    pub fn among(&self, rows: RowSet) -> Self {
        let units = self.cold.units.iter().map(|covered| covered.matching(&rows)).collect();
        Self { among: Some(Arc::new(Among { rows, units })), ..self.clone() }
    }

    /// The index that is used, if one is.
    #[must_use]
    pub fn index(&self) -> Option<&IndexDef> {
        self.cold.index.as_ref().filter(|_| !self.exact)
    }

    /// How many rows [`among`](Self::among) left.
    #[must_use]
    pub fn matching_rows(&self) -> Option<u64> {
        self.among.as_ref().map(|among| among.rows.len())
    }

    /// Whether the column may be NULL in a visible row.
    #[must_use]
    pub fn has_nulls(&self) -> bool {
        self.cold.nulls || self.hot.iter().any(|batch| batch.column(0).null_count() > 0)
    }

    /// Bytes held for the condition alone.
    #[must_use]
    pub fn condition_bytes(&self) -> usize {
        let bytes = |among: &Arc<Among>| {
            let words: usize = among.units.iter().flatten().map(|unit| unit.words.len()).sum();
            among.rows.bytes() + 8 * words
        };
        self.among.as_ref().map_or(0, bytes)
    }

    /// The `min(k, rows that count)` nearest rows with a vector, by distance, then row id. Computes on the caller's thread. A
    /// query whose square does not fit f32 is compared with every row: no bound on its distances holds.
    ///
    /// # Errors
    /// `InvalidInput` for a query that has no distance, `Corrupt` when a row's own vector is damaged, the store's.
    pub fn nearest(&self, query: &VectorQuery<'_>) -> Result<(Vec<VectorHit>, SearchReport)> {
        let cold = &self.cold;
        let mut report = SearchReport { lost: cold.lost.clone(), ..SearchReport::default() };
        let distance = QueryDistance::new(self.metric, query.query);
        let query = &VectorQuery { k: self.rows_of_answer(query.k), ..query.clone() };
        let wanted = self.wanted();
        let mut top = TopRows::new(query.k);
        report.index = self.index().map(|index| index.name.clone());
        let effort = self.effort(query.width);
        let askable = cold.units.is_empty()
            || !matches!(self.metric.check(query.query.into()), Err(VectorError::Length { .. }));
        for (i, covered) in cold.units.iter().enumerate() {
            if !askable {
                for source in &covered.sources {
                    report.exact.segments += source.compare(&distance, wanted, &mut top)?;
                }
                continue;
            }
            let searched = match self.among_of(i) {
                Ok(among) => covered.nearest(query, effort, among, &distance, &mut top),
                Err(error) => Err(error.clone()),
            };
            match searched {
                Ok(searched) => report.units.push(searched),
                // Its own bytes, or those of a segment: comparing the rows one by one tells which.
                Err(error) if error.kind() == ErrorKind::Corrupt => {
                    for source in &covered.sources {
                        report.exact.segments += source.compare(&distance, wanted, &mut top)?;
                    }
                    report.lost.push((covered.unit.meta.id, error.message().to_owned()));
                }
                Err(error) => return Err(error),
            }
        }
        for source in &cold.uncovered {
            report.exact.segments += source.compare(&distance, wanted, &mut top)?;
        }
        report.exact.hot = compare_hot(&self.hot, &distance, wanted, &mut top)?;
        self.tell_why(&mut report);
        if !askable {
            WHY_LENGTH.clone_into(&mut report.exact.why);
        }
        Ok((hits(top), report))
    }

    /// How [`nearest`](Self::nearest) would begin for any query of `k` rows, and what it would compare exactly; nothing is
    /// searched.
    ///
    /// # Errors
    /// `Internal` for hot rows without vectors.
    pub fn planned(&self, k: usize, width: Option<usize>) -> Result<SearchReport> {
        let mut report = SearchReport { lost: self.cold.lost.clone(), ..SearchReport::default() };
        report.index = self.index().map(|index| index.name.clone());
        let (k, effort, wanted) = (self.rows_of_answer(k), self.effort(width), self.wanted());
        for (i, covered) in self.cold.units.iter().enumerate() {
            match self.among_of(i) {
                Ok(among) => report.units.push(covered.planned(k, effort, among)),
                Err(error) => {
                    report.exact.segments +=
                        covered.sources.iter().map(|s| s.to_compare(wanted)).sum::<u64>();
                    report.lost.push((covered.unit.meta.id, error.message().to_owned()));
                }
            }
        }
        report.exact.segments += self.cold.uncovered.iter().map(|s| s.to_compare(wanted)).sum::<u64>();
        report.exact.hot = hot_to_compare(&self.hot, wanted)?;
        self.tell_why(&mut report);
        Ok(report)
    }

    fn tell_why(&self, report: &mut SearchReport) {
        if report.exact.segments > 0 {
            let why = if report.lost.is_empty() { self.cold.why } else { WHY_LOST };
            why.clone_into(&mut report.exact.why);
        }
    }

    /// No answer has more rows than the table; what is asked for may be any number.
    fn rows_of_answer(&self, k: usize) -> usize {
        let rows = self.cold.rows + self.hot.iter().map(|batch| batch.num_rows() as u64).sum::<u64>();
        k.min(usize::try_from(rows).unwrap_or(usize::MAX))
    }

    /// How many rows an answer of `k` has at most.
    #[must_use]
    pub fn most_rows(&self, k: usize) -> usize {
        let matching =
            self.matching_rows().map_or(usize::MAX, |rows| usize::try_from(rows).unwrap_or(usize::MAX));
        self.rows_of_answer(k).min(matching)
    }

    fn effort(&self, width: Option<usize>) -> Effort {
        let target = self.cold.index.as_ref().map_or(1.0, |i| f32::from(i.target_recall_permille) / 1000.0);
        width.map_or(Effort::Recall(target), Effort::Width)
    }

    fn wanted(&self) -> Option<&RowSet> {
        self.among.as_ref().map(|among| &among.rows)
    }

    /// The rows of unit `i` that count; None: every one.
    fn among_of(&self, i: usize) -> std::result::Result<Option<&Ordinals>, &Error> {
        self.among.as_ref().and_then(|among| among.units.get(i)).map(Result::as_ref).transpose()
    }

    /// The exact answer to what [`nearest`](Self::nearest) is asked: every row that counts is compared.
    ///
    /// # Errors
    /// As for [`nearest`](Self::nearest).
    pub fn nearest_exactly(&self, query: &VectorQuery<'_>) -> Result<Vec<VectorHit>> {
        let distance = QueryDistance::new(self.metric, query.query);
        let wanted = self.wanted();
        let mut top = TopRows::new(query.k);
        let covered = self.cold.units.iter().flat_map(|covered| &covered.sources);
        for source in covered.chain(&self.cold.uncovered) {
            source.compare(&distance, wanted, &mut top)?;
        }
        compare_hot(&self.hot, &distance, wanted, &mut top)?;
        Ok(hits(top))
    }
}

/// Ordered rows as hits.
fn hits(top: TopRows) -> Vec<VectorHit> {
    let sorted = top.into_sorted();
    sorted.iter().map(|top| VectorHit { row: RowId(top.row_id), distance: top.distance }).collect()
}

impl CoveredUnit {
    fn nearest(
        &self,
        query: &VectorQuery<'_>,
        effort: Effort,
        among: Option<&Ordinals>,
        distance: &QueryDistance,
        top: &mut TopRows,
    ) -> Result<UnitReport> {
        let allowed = among.or(self.alive.as_deref());
        let request = Request {
            query: query.query,
            k: query.k,
            effort,
            filter: allowed.map(|allowed| Filter::with_matches(&allowed.words, allowed.set)),
        };
        let mut exact = UnitExact { unit: &self.unit, sources: &self.sources, query: distance };
        let stats = SCRATCH.with_borrow_mut(|scratch| {
            let found = self.unit.unit.search(&request, &mut exact, scratch);
            let found = found.map_err(|e| search_error(&self.unit, e))?;
            found.hits.iter().for_each(|hit| top.offer(hit.distance, hit.row_id));
            Ok::<_, Error>(found.stats)
        })?;
        Ok(unit_report(&self.unit, &stats))
    }

    fn planned(&self, k: usize, effort: Effort, among: Option<&Ordinals>) -> UnitReport {
        let allowed = among.or(self.alive.as_deref());
        let plan = self.unit.unit.plan(k, effort, allowed.map(|allowed| allowed.set));
        let (unit, strategy) = (self.unit.meta.id, plan.strategy);
        UnitReport { unit, plan, strategy, code_distances: 0, exact_distances: 0 }
    }

    /// The rows of `rows` that the unit holds and that are alive in it.
    fn matching(&self, rows: &RowSet) -> Result<Ordinals> {
        let mut matching = Ordinals::none(self.unit.unit.len());
        let parts = self.sources.iter().map(|source| rows.within(source.view.meta.id, &source.rows));
        let lookup = self.unit.lookup(parts.clone().map(|positions| positions.len() as u64).sum())?;
        for (source, positions) in self.sources.iter().zip(parts) {
            lookup.each(&source.ids, positions, |ordinal| {
                if self.alive.as_ref().is_none_or(|alive| alive.contains(ordinal)) {
                    matching.insert(ordinal);
                }
            })?;
        }
        Ok(matching)
    }
}

fn unit_report(unit: &LoadedUnit, stats: &SearchStats) -> UnitReport {
    UnitReport {
        unit: unit.meta.id,
        plan: stats.plan,
        strategy: stats.strategy,
        code_distances: stats.code_distances as u64,
        exact_distances: stats.exact_distances as u64,
    }
}

fn search_error(unit: &LoadedUnit, error: SearchError<Error>) -> Error {
    match error {
        SearchError::Unit(error) => unit.damaged(error),
        SearchError::Exact(error) => error,
        SearchError::Query(error) => {
            Error::new(ErrorKind::InvalidInput, error.to_string()).with_sqlstate("22000")
        }
    }
}
