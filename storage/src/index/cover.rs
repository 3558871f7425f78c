//! Which unit answers for which rows of a snapshot's segments.
//!
//! Every position of every segment has exactly one answerer: one unit, or the exact comparison. Units of one index do not
//! share positions; where they should, the first one has them.

use std::collections::HashMap;
use std::ops::Range;
use std::sync::Arc;

use super::{IndexDef, LoadedUnit, UnitMeta, UnitSegment};
use crate::error::Error;
use crate::id::ObjectId;
use crate::version::{SegmentView, TableSnapshot, TableState};

/// A range of a segment's positions.
#[derive(Clone, Debug)]
pub(super) struct Part {
    pub(super) view: SegmentView,
    pub(super) rows: Range<u32>,
}

impl Part {
    /// All of a segment.
    pub(super) fn whole(view: SegmentView) -> Self {
        Self { rows: 0..u32::try_from(view.meta.rows).unwrap_or(u32::MAX), view }
    }
}

/// The segments of a snapshot, shared out.
pub(super) struct Cover {
    /// Units in use, each with the rows it answers for.
    pub(super) units: Vec<(Arc<LoadedUnit>, Vec<Part>)>,
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
    units.sort_by_key(|unit| (std::cmp::Reverse(unit.rows), unit.id));
    for meta in units {
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
                mine.push(Part { view: views[view].clone(), rows });
            }
        }
        cover.units.push((unit, mine));
    }
    for (view, ranges) in views.into_iter().zip(left.ranges) {
        cover.uncovered.extend(ranges.into_iter().map(|rows| Part { view: view.clone(), rows }));
    }
    cover
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
    /// Visible rows of segments that are in a unit whose object is there.
    pub rows: u64,
    /// Units whose object is missing or has another length; a search compares their rows exactly.
    pub lost: Vec<ObjectId>,
}

impl TableSnapshot {
    /// What the units of `index` cover of `views`, the table's segments; asks the store for each unit, without reading it.
    /// `newest` is the newest state of the table: a unit that it names no more was replaced, and its object removed. A unit that the
    /// store cannot tell of counts as there.
    pub async fn coverage(&self, index: &IndexDef, views: &[SegmentView], newest: &TableState) -> Coverage {
        let mut left = Left::new(views.iter().map(|view| (view.meta.id, view.meta.rows)));
        let mut coverage = Coverage::default();
        for unit in self.state().units.iter().filter(|u| u.index == index.id) {
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
        coverage
    }
}
