//! Which unit to build next: a pure function of metadata.

use std::collections::HashSet;
use std::sync::Arc;

use super::cover::without_unit;
use super::{IndexDef, UnitMeta};
use crate::id::ObjectId;
use crate::segment::SegmentMeta;
use crate::version::TableState;

/// Rows without a unit are compared exactly up to this many; a unit of its own would cost every search more.
const UNCOVERED_ROWS_MAX: u64 = 4_096;
/// Units that a search goes through, at most, once upkeep is done.
const UNITS_MAX: usize = 4;
/// A unit is built again when more than one row in this many is dead.
const DEAD_ONE_IN: u64 = 5;

/// A unit to build.
#[derive(Clone, Debug)]
pub(super) struct BuildPlan {
    pub(super) index: IndexDef,
    /// Segments it will cover.
    pub(super) segments: Vec<Arc<SegmentMeta>>,
    /// Units it takes the place of.
    pub(super) replaces: Vec<ObjectId>,
}

/// The next unit for one of the table's indexes; None: nothing to do. `lost` names units that could not be opened.
pub(super) fn next(table: &TableState, lost: &HashSet<ObjectId>) -> Option<BuildPlan> {
    table.def.indexes.iter().find_map(|index| for_index(table, index, lost))
}

fn for_index(table: &TableState, index: &IndexDef, lost: &HashSet<ObjectId>) -> Option<BuildPlan> {
    let present = || table.segments.iter().filter(|s| s.dropped_at.is_none());
    let live = |id: ObjectId| {
        present()
            .find(|s| s.meta.id == id)
            .map_or(0, |s| s.meta.rows - s.deletes.as_ref().map_or(0, |d| d.len()))
    };
    let units: Vec<&Arc<UnitMeta>> = table.units.iter().filter(|u| u.index == index.id).collect();
    let stored = |id: ObjectId| table.segments.iter().find(|s| s.meta.id == id).map_or(0, |s| s.meta.rows);
    let is_worn = |unit: &UnitMeta| {
        // Rows without a vector count on both sides.
        let built: u64 = unit.segments.iter().map(|s| stored(s.id).saturating_sub(s.left_out)).sum();
        let alive: u64 = unit.segments.iter().map(|s| live(s.id)).sum();
        lost.contains(&unit.id) || alive < built - built / DEAD_ONE_IN
    };
    let uncovered = without_unit(&table.units, index, present().map(|s| &s.meta));
    let uncovered_rows: u64 = uncovered.iter().map(|s| live(s.id)).sum();
    let mut merged: Vec<&Arc<UnitMeta>> = units.iter().copied().filter(|u| is_worn(u)).collect();
    let due = uncovered_rows > if units.is_empty() { 0 } else { UNCOVERED_ROWS_MAX };
    if !due && merged.is_empty() {
        return None;
    }
    // Tiers: a unit joins when what is built anyway is not much smaller than it, or when there would be too many.
    let mut rows = uncovered_rows + merged.iter().map(|u| u.rows).sum::<u64>();
    let mut others: Vec<&Arc<UnitMeta>> = units.iter().copied().filter(|u| !is_worn(u)).collect();
    others.sort_by_key(|unit| unit.rows);
    let mut left = others.len();
    for unit in others {
        if unit.rows <= 2 * rows || left >= UNITS_MAX {
            rows += unit.rows;
            merged.push(unit);
            left -= 1;
        }
    }
    let covered: HashSet<ObjectId> = merged.iter().flat_map(|u| u.segments.iter().map(|s| s.id)).collect();
    let mut segments: Vec<Arc<SegmentMeta>> =
        present().map(|s| &s.meta).filter(|meta| covered.contains(&meta.id)).cloned().collect();
    segments.extend(uncovered);
    (!segments.is_empty()).then(|| BuildPlan {
        index: index.clone(),
        segments,
        replaces: merged.iter().map(|unit| unit.id).collect(),
    })
}
