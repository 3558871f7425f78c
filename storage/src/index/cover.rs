//! Which unit answers for which rows of a snapshot's segments.
//!
//! Every position of every segment has exactly one answerer: one unit, or the exact comparison. Units of one index do not
//! share positions; where they should, the first one has them.
//!
//! First come the segments that a unit was built over. A compaction takes some of them away, but rows keep their ids, by which a unit knows them: so
//! what is left then goes, row by row, to units that have lost a segment, until those that are built over the new segments take their place (ADR 43).

use std::cmp::Reverse;
use std::collections::{HashMap, HashSet};
use std::ops::Range;
use std::sync::Arc;

use roaring::RoaringBitmap;

use super::exact::RowIdsOf;
use super::{IndexDef, LoadedUnit, UnitMeta, UnitSegment};
use crate::error::{Error, Result};
use crate::id::ObjectId;
use crate::version::{SegmentView, TableSnapshot, TableState};

/// Positions of a segment.
#[derive(Clone, Debug)]
pub(super) struct Part {
    pub(super) view: SegmentView,
    pub(super) rows: Range<u32>,
    /// The only ones of `rows`; None: all.
    pub(super) only: Option<Arc<RoaringBitmap>>,
}

impl Part {
    /// All of a segment.
    pub(super) fn whole(view: SegmentView) -> Self {
        let rows = 0..u32::try_from(view.meta.rows).unwrap_or(u32::MAX);
        Self::range(view, rows)
    }

    fn range(view: SegmentView, rows: Range<u32>) -> Self {
        Self { view, rows, only: None }
    }

    /// These positions; None: there are none.
    fn of(view: &SegmentView, positions: RoaringBitmap) -> Option<Self> {
        let rows = positions.min()?..positions.max()?.saturating_add(1);
        let only = (positions.len() < rows.len() as u64).then(|| Arc::new(positions));
        Some(Self { view: view.clone(), rows, only })
    }

    /// Those of `positions` that are its.
    pub(super) fn among(&self, positions: &RoaringBitmap) -> RoaringBitmap {
        if let Some(only) = &self.only {
            return &**only & positions;
        }
        let mut rows = RoaringBitmap::new();
        rows.insert_range(self.rows.clone());
        rows & positions
    }
}

/// A unit in use.
pub(super) struct Answerer {
    pub(super) unit: Arc<LoadedUnit>,
    /// What it answers for.
    pub(super) parts: Vec<Part>,
    /// Whether that is everything it was built over.
    pub(super) whole: bool,
}

/// The segments of a snapshot, shared out.
pub(super) struct Cover {
    pub(super) units: Vec<Answerer>,
    /// Rows to compare exactly.
    pub(super) uncovered: Vec<Part>,
    /// Units that cannot be used, and why.
    pub(super) lost: Vec<(Arc<UnitMeta>, Error)>,
}

impl Cover {
    /// No unit is used.
    pub(super) fn exact(views: Vec<SegmentView>) -> Self {
        let uncovered = views.into_iter().map(Part::whole).collect();
        Self { units: Vec::new(), uncovered, lost: Vec::new() }
    }
}

/// Shares out `views`, the segments of `table`, among the units of `index`. A unit holds for a segment when it left out no
/// row that is visible: at a version older than the build, rows deleted in between are in the segment alone.
pub(super) async fn cover(table: &TableSnapshot, index: &IndexDef, views: Vec<SegmentView>) -> Cover {
    let mut cover = Cover { units: Vec::new(), uncovered: Vec::new(), lost: Vec::new() };
    let mut left = Left::new(views.iter().map(|view| (view.meta.id, view.meta.rows)));
    let mut units: Vec<&Arc<UnitMeta>> = table.state().units.iter().filter(|u| u.index == index.id).collect();
    units.sort_by_key(|unit| (Reverse(unit.rows), unit.id));
    for &meta in &units {
        let usable = |left: &Left, segment: &UnitSegment| {
            left.find(segment).filter(|(view, _)| holds(segment, &views[*view]))
        };
        if !meta.segments.iter().any(|segment| usable(&left, segment).is_some()) {
            continue;
        }
        let unit = match LoadedUnit::open(table.shared(), meta, table.meter()).await {
            Ok(unit) => unit,
            Err(error) => {
                cover.lost.push((Arc::clone(meta), error));
                continue;
            }
        };
        let mut mine = Vec::with_capacity(meta.segments.len());
        for segment in &meta.segments {
            if let Some((view, rows)) = usable(&left, segment) {
                left.take(view, &rows);
                mine.push(Part::range(views[view].clone(), rows));
            }
        }
        let whole = mine.len() == meta.segments.len();
        cover.units.push(Answerer { unit, parts: mine, whole });
    }
    let displaced = displaced(table.state(), &units);
    if displaced.is_empty() {
        for (view, ranges) in views.into_iter().zip(left.ranges) {
            cover.uncovered.extend(ranges.into_iter().map(|rows| Part::range(view.clone(), rows)));
        }
        return cover;
    }
    let mut rest = left.positions();
    for meta in displaced {
        cover.by_row_id(table, meta, &views, &mut rest).await;
    }
    cover.uncovered.extend(views.iter().zip(rest).filter_map(|(view, rest)| Part::of(view, rest)));
    cover
}

impl Cover {
    /// Gives `meta` what it has of the rest.
    async fn by_row_id(
        &mut self,
        table: &TableSnapshot,
        meta: &Arc<UnitMeta>,
        views: &[SegmentView],
        rest: &mut [RoaringBitmap],
    ) {
        if rest.iter().all(RoaringBitmap::is_empty) || self.lost.iter().any(|(lost, _)| lost.id == meta.id) {
            return;
        }
        let in_use = self.units.iter().position(|known| known.unit.meta.id == meta.id);
        match take_held(table, meta, views, rest).await {
            Ok((unit, taken)) => {
                let parts: Vec<Part> =
                    taken.into_iter().filter_map(|(place, mine)| Part::of(&views[place], mine)).collect();
                match in_use {
                    Some(at) => self.units[at].parts.extend(parts),
                    None if parts.is_empty() => {}
                    None => self.units.push(Answerer { unit, parts, whole: false }),
                }
            }
            Err(error) => {
                // Which of its other rows are alive is found by row id, too.
                if let Some(at) = in_use {
                    self.uncovered.extend(self.units.remove(at).parts);
                }
                self.lost.push((Arc::clone(meta), error));
            }
        }
    }
}

/// Those of `units` that were built over a segment that is gone: its rows may stand in others now.
fn displaced<'u>(table: &TableState, units: &[&'u Arc<UnitMeta>]) -> Vec<&'u Arc<UnitMeta>> {
    let stored: HashSet<ObjectId> = table.segments.iter().map(|segment| segment.meta.id).collect();
    let is_displaced = |unit: &&Arc<UnitMeta>| unit.segments.iter().any(|s| !stored.contains(&s.id));
    units.iter().copied().filter(is_displaced).collect()
}

/// Takes from `rest`, the positions of each segment that nobody answers for, those whose rows a unit has; they come with the places of their
/// segments.
///
/// # Errors
/// Why the unit cannot be used: nothing is taken then.
async fn take_held(
    table: &TableSnapshot,
    meta: &Arc<UnitMeta>,
    views: &[SegmentView],
    rest: &mut [RoaringBitmap],
) -> Result<(Arc<LoadedUnit>, Vec<(usize, RoaringBitmap)>)> {
    let unit = LoadedUnit::open(table.shared(), meta, table.meter()).await?;
    let mut taken = Vec::new();
    for (place, view) in views.iter().enumerate() {
        // What came after the unit was built need not be gone through, nor its ids be read.
        if rest[place].is_empty() || !unit.reaches(&view.meta)? {
            continue;
        }
        // What is wrong with a segment is told where its rows are read.
        let Ok(reader) = table.open_segment(&view.meta).await else { continue };
        let Ok(ids) = RowIdsOf::open(&reader).await else { continue };
        let mine = &unit.held(&view.meta, &ids)?.positions & &rest[place];
        if !mine.is_empty() {
            taken.push((place, mine));
        }
    }
    for (place, mine) in &taken {
        rest[*place] -= mine;
    }
    Ok((unit, taken))
}

fn holds(segment: &UnitSegment, view: &SegmentView) -> bool {
    let deleted = match &view.deleted {
        None => 0,
        Some(deleted) => deleted.range_cardinality(segment.range(view.meta.rows)),
    };
    segment.left_out <= deleted
}

/// Positions of segments that nobody has taken yet.
#[derive(Debug)]
pub(super) struct Left {
    places: HashMap<ObjectId, (usize, u64)>,
    /// Per segment, ascending.
    pub(super) ranges: Vec<Vec<Range<u32>>>,
}

impl Left {
    /// All of segments given by id and rows.
    pub(super) fn new(segments: impl Iterator<Item = (ObjectId, u64)>) -> Self {
        let mut left = Self { places: HashMap::new(), ranges: Vec::new() };
        for (place, (id, rows)) in segments.enumerate() {
            left.places.insert(id, (place, rows));
            left.ranges.push(std::iter::once(0..u32::try_from(rows).unwrap_or(u32::MAX)).collect());
        }
        left
    }

    /// Place of its segment, and its positions, when none of them is taken.
    pub(super) fn find(&self, segment: &UnitSegment) -> Option<(usize, Range<u32>)> {
        let (place, rows) = *self.places.get(&segment.id)?;
        let wanted = segment.range(rows);
        let free = |range: &Range<u32>| range.start <= wanted.start && wanted.end <= range.end;
        (!wanted.is_empty() && self.ranges[place].iter().any(free)).then_some((place, wanted))
    }

    /// Per segment, as bitmaps.
    fn positions(&self) -> Vec<RoaringBitmap> {
        let of = |ranges: &Vec<Range<u32>>| {
            let mut positions = RoaringBitmap::new();
            for range in ranges {
                positions.insert_range(range.clone());
            }
            positions
        };
        self.ranges.iter().map(of).collect()
    }

    /// Takes positions that were found.
    pub(super) fn take(&mut self, place: usize, wanted: &Range<u32>) {
        let pieces = |range: Range<u32>| {
            let before = range.start..range.end.min(wanted.start);
            let behind = range.start.max(wanted.end)..range.end;
            [before, behind].into_iter().filter(|piece| !piece.is_empty())
        };
        let ranges = std::mem::take(&mut self.ranges[place]);
        self.ranges[place] = ranges.into_iter().flat_map(pieces).collect();
    }
}

/// How far the units of one index cover a table's segments.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Coverage {
    /// Visible rows of segments that are in a unit whose object is there, or in a segment of one and without a vector.
    pub rows: u64,
    /// Units whose object is missing or has another length; a search compares their rows exactly.
    pub lost: Vec<ObjectId>,
}

impl TableSnapshot {
    /// What the units of `index` cover of `views`, the table's segments; asks the store for each unit, without reading it but where a compaction
    /// has moved its rows. `newest` is the newest state of the table: a unit that it names no more was replaced, and its object removed. A unit that the
    /// store cannot tell of counts as there.
    pub async fn coverage(&self, index: &IndexDef, views: &[SegmentView], newest: &TableState) -> Coverage {
        let mut left = Left::new(views.iter().map(|view| (view.meta.id, view.meta.rows)));
        let mut coverage = Coverage::default();
        let units: Vec<&Arc<UnitMeta>> = self.state().units.iter().filter(|u| u.index == index.id).collect();
        for &unit in &units {
            if newest.names_unit(unit.id)
                && self.shared().length(&unit.path()).await.is_ok_and(|bytes| bytes != Some(unit.bytes))
            {
                coverage.lost.push(unit.id);
                continue;
            }
            for segment in &unit.segments {
                if let Some((view, range)) = left.find(segment) {
                    left.take(view, &range);
                    let deleted =
                        views[view].deleted.as_ref().map_or(0, |d| d.range_cardinality(range.clone()));
                    coverage.rows += u64::from(range.end - range.start) - deleted;
                }
            }
        }
        let displaced = displaced(self.state(), &units);
        if !displaced.is_empty() {
            let there = displaced.into_iter().filter(|unit| !coverage.lost.contains(&unit.id)).collect();
            coverage.rows += self.moved(index, there, views, left.positions()).await;
        }
        coverage
    }

    /// Visible rows of `rest` that units have by their row ids. What cannot be read counts as not covered, and is told by whoever searches it.
    async fn moved(
        &self,
        index: &IndexDef,
        units: Vec<&Arc<UnitMeta>>,
        views: &[SegmentView],
        mut rest: Vec<RoaringBitmap>,
    ) -> u64 {
        let visible = |place: usize, rows: &RoaringBitmap| {
            rows.len() - views[place].deleted.as_ref().map_or(0, |deleted| deleted.intersection_len(rows))
        };
        let mut rows = 0;
        let mut places = HashSet::new();
        for unit in units {
            let Ok((_, taken)) = take_held(self, unit, views, &mut rest).await else { continue };
            for (place, mine) in taken {
                rows += visible(place, &mine);
                places.insert(place);
            }
        }
        // Rows without a vector are in no unit, and nothing is to be compared.
        let Some(column) = self.def().columns.iter().position(|c| c.id == index.column) else { return rows };
        for place in places {
            let nulls = without_vector(self, &views[place], column).await.unwrap_or_default();
            rows += visible(place, &(nulls & &rest[place]));
        }
        rows
    }
}

/// Rows of a segment that have no vector in `column`.
async fn without_vector(table: &TableSnapshot, view: &SegmentView, column: usize) -> Result<RoaringBitmap> {
    let known = view.meta.columns.get(column).filter(|_| !view.meta.reshaped);
    if known.is_some_and(|stats| stats.null_count == 0) {
        return Ok(RoaringBitmap::new());
    }
    let vectors = table.open_segment(&view.meta).await?.vectors(table.shared(), column).await?;
    Ok(vectors.map_or_else(RoaringBitmap::new, |vectors| vectors.nulls().clone()))
}
