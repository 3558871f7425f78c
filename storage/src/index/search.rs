//! One search over one table: its units, and the rows no unit covers.

use std::cell::RefCell;

use cairn_vector::search::{Filter, Plan, Request, SearchError, SearchScratch, SearchStats, TopRows};
use cairn_vector::{Metric, QueryDistance, VectorError};

use super::alive::{self, Alive, Ordinals};
use super::cover::{Cover, Part, cover};
use super::exact::{Source, UnitExact, compare_hot, each_hot};
use super::{IndexDef, LoadedUnit};
use crate::error::{Error, ErrorKind, Result};
use crate::id::{ObjectId, RowId};
use crate::version::TableSnapshot;

/// How hard to search.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Effort {
    /// As the index's `target_recall` asks.
    Target,
    /// Walks of this width.
    Width(usize),
    /// Every visible row is compared; units are not used.
    Exact,
}

/// Row ids, each once.
#[derive(Clone, Debug, Default)]
pub struct RowSet(Vec<u64>);

impl RowSet {
    /// Of ids in any order.
    #[must_use]
    pub fn new(mut ids: Vec<u64>) -> Self {
        ids.sort_unstable();
        ids.dedup();
        Self(ids)
    }

    /// How many.
    #[must_use]
    pub fn len(&self) -> u64 {
        self.0.len() as u64
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Whether a row is among them.
    #[must_use]
    pub fn contains(&self, row_id: u64) -> bool {
        self.0.binary_search(&row_id).is_ok()
    }

    /// Those from `first` to `last`, ascending.
    pub(super) fn within(&self, first: u64, last: u64) -> impl Iterator<Item = u64> + '_ {
        let from = self.0.partition_point(|id| *id < first);
        self.0[from..].iter().copied().take_while(move |id| *id <= last)
    }

    fn iter(&self) -> impl Iterator<Item = u64> + '_ {
        self.0.iter().copied()
    }
}

/// The k nearest rows of a column.
#[derive(Clone, Debug)]
pub struct VectorQuery<'a> {
    /// Position of the VECTOR column in the definition.
    pub column: usize,
    /// What near means.
    pub metric: Metric,
    /// A vector of the column's dimension, checked under the metric.
    pub query: &'a [f32],
    /// Rows wanted.
    pub k: usize,
    /// How hard to search.
    pub effort: Effort,
    /// The only rows that count; None: all.
    pub rows: Option<&'a RowSet>,
}

/// One row of the answer.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct VectorHit {
    /// The row.
    pub row: RowId,
    /// Its exact distance.
    pub distance: f32,
}

/// What one unit did.
#[derive(Clone, Debug)]
pub struct UnitReport {
    /// Which.
    pub unit: ObjectId,
    /// How it was searched, in words.
    pub plan: String,
    /// Whether the walk was given up for a scan.
    pub bailed_out: bool,
    /// Distances of codes that were computed.
    pub code_distances: u64,
    /// Exact distances that were computed.
    pub exact_distances: u64,
}

/// Rows compared one by one, and why.
#[derive(Clone, Debug, Default)]
pub struct ExactRows {
    /// In segments no unit covers.
    pub segments: u64,
    /// Not yet in a segment.
    pub hot: u64,
    /// Why segments had to be.
    pub why: String,
}

/// How an answer came about.
#[derive(Clone, Debug, Default)]
pub struct SearchReport {
    /// Name of the index used, if one was.
    pub index: Option<String>,
    /// Its units.
    pub units: Vec<UnitReport>,
    /// Everything else.
    pub exact: ExactRows,
    /// Units that are missing or damaged, with the reason: to be built again.
    pub lost: Vec<(ObjectId, String)>,
}

thread_local! {
    /// Grown once, used by every search of the thread.
    static SCRATCH: RefCell<SearchScratch> = RefCell::default();
}

impl TableSnapshot {
    /// The `min(k, rows that count)` nearest rows with a vector, by distance, then row id.
    ///
    /// # Errors
    /// `InvalidInput` for a query that has no distance, `Corrupt` when a row's own vector is damaged, the store's. A
    /// unit that is missing or damaged is no error: its rows are compared exactly and the report names it.
    pub async fn nearest(&self, query: &VectorQuery<'_>) -> Result<(Vec<VectorHit>, SearchReport)> {
        let mut report = SearchReport::default();
        let views = self.segments().await?;
        let index = self.index_for(query);
        let (cover, why) = match index {
            Some(index) if query.effort != Effort::Exact => {
                report.index = Some(index.name.clone());
                (cover(self, index, views).await, "no unit covers them yet")
            }
            Some(_) => (Cover::exact(views), "mode is exact"),
            None => (Cover::exact(views), "there is no such index"),
        };
        report.lost = cover.lost.iter().map(|(unit, error)| (unit.id, error.message().to_owned())).collect();
        let mut sources = Vec::with_capacity(cover.units.len());
        for (unit, parts) in cover.units {
            sources.push((unit, self.sources(parts, query.column).await?));
        }
        let uncovered = self.sources(cover.uncovered, query.column).await?;
        let hot = self.hot_batches(&[query.column], true)?;

        let distance = QueryDistance::new(query.metric, query.query);
        // No answer has more rows than the table; what is asked for may be any number.
        let rows: u64 =
            self.state().segments.iter().map(|s| s.meta.rows).sum::<u64>() + self.state().memtable.rows();
        let query =
            &VectorQuery { k: query.k.min(usize::try_from(rows).unwrap_or(usize::MAX)), ..query.clone() };
        let mut top = TopRows::new(query.k);
        for (unit, sources) in &sources {
            let target = index.map_or(1.0, |i| f32::from(i.target_recall_permille) / 1000.0);
            match self.search_unit(unit, sources, query, target, &distance, &mut top) {
                Ok(searched) => report.units.push(searched),
                // Its own bytes, or those of a segment: comparing the rows one by one tells which.
                Err(error) if error.kind() == ErrorKind::Corrupt => {
                    for source in sources {
                        report.exact.segments += source.compare(&distance, query.rows, &mut top)?;
                    }
                    report.lost.push((unit.meta.id, error.message().to_owned()));
                }
                Err(error) => return Err(error),
            }
        }
        for source in &uncovered {
            report.exact.segments += source.compare(&distance, query.rows, &mut top)?;
        }
        report.exact.hot = compare_hot(&hot, &distance, query.rows, &mut top)?;
        if report.exact.segments > 0 {
            why.clone_into(&mut report.exact.why);
        }
        let hits = top.into_sorted();
        Ok((hits.iter().map(|t| VectorHit { row: RowId(t.row_id), distance: t.distance }).collect(), report))
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

    /// The index that answers the query.
    fn index_for(&self, query: &VectorQuery<'_>) -> Option<&IndexDef> {
        let column = self.def().columns.get(query.column)?.id;
        self.def().indexes.iter().find(|i| i.column == column && i.metric.metric() == query.metric)
    }

    async fn sources(&self, parts: Vec<Part>, column: usize) -> Result<Vec<Source>> {
        let mut sources = Vec::with_capacity(parts.len());
        for part in parts {
            sources.push(Source::open(self, part, column).await?);
        }
        sources.sort_by_key(|source| source.view.meta.max_row_id);
        Ok(sources)
    }

    fn search_unit(
        &self,
        unit: &LoadedUnit,
        sources: &[Source],
        query: &VectorQuery<'_>,
        target: f32,
        distance: &QueryDistance,
        top: &mut TopRows,
    ) -> Result<UnitReport> {
        let alive = self.alive_in(unit, sources)?;
        let wanted = query.rows.map(|rows| matching(unit, rows, &alive));
        let allowed = wanted.as_ref().or(alive.as_deref());
        let request = Request {
            query: query.query,
            k: query.k,
            effort: match query.effort {
                Effort::Width(width) => cairn_vector::search::Effort::Width(width),
                Effort::Target | Effort::Exact => cairn_vector::search::Effort::Recall(target),
            },
            filter: allowed.map(|allowed| Filter::with_matches(&allowed.words, allowed.set)),
        };
        let mut exact = UnitExact { unit, sources, query: distance };
        let stats = SCRATCH.with_borrow_mut(|scratch| {
            let found = unit.unit.search(&request, &mut exact, scratch).map_err(search_error)?;
            found.hits.iter().for_each(|hit| top.offer(hit.distance, hit.row_id));
            Ok::<_, Error>(found.stats)
        })?;
        Ok(unit_report(unit, &stats))
    }

    /// The unit's visible rows, worked out once per state of the table.
    fn alive_in(&self, unit: &LoadedUnit, sources: &[Source]) -> Result<Alive> {
        // The state's own answer is for its newest version.
        let newest = self.version() >= self.state().last_delete;
        if newest && let Some(known) = self.state().alive.get(unit.meta.id) {
            return Ok(known);
        }
        let parts: Vec<_> = sources.iter().map(|s| (s.part(), s.ids.clone())).collect();
        let alive = alive::alive(unit, &parts)?;
        if newest {
            self.state().alive.put(unit.meta.id, alive.clone());
        }
        Ok(alive)
    }
}

/// The rows of `rows` that the unit holds and that are alive.
fn matching(unit: &LoadedUnit, rows: &RowSet, alive: &Alive) -> Ordinals {
    let mut matching = Ordinals::none(unit.unit.len());
    for ordinal in rows.iter().filter_map(|row| unit.ordinal(row)) {
        if alive.as_ref().is_none_or(|alive| alive.contains(ordinal)) {
            matching.insert(ordinal);
        }
    }
    matching
}

fn unit_report(unit: &LoadedUnit, stats: &SearchStats) -> UnitReport {
    let plan: &Plan = &stats.plan;
    UnitReport {
        unit: unit.meta.id,
        plan: plan.to_string(),
        bailed_out: stats.bailed_out(),
        code_distances: stats.code_distances as u64,
        exact_distances: stats.exact_distances as u64,
    }
}

fn search_error(error: SearchError<Error>) -> Error {
    match error {
        SearchError::Exact(error) => error,
        SearchError::Query(error) => {
            Error::new(ErrorKind::InvalidInput, error.to_string()).with_sqlstate("22000")
        }
    }
}
