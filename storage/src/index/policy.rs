//! Which unit to build next: a pure function of metadata.
//!
//! A build that would not fit into the index's memory limit is cut, at segments' ends or inside of a segment. Each unit is
//! committed by itself, and what is next follows from the units that are there: so a build that was killed goes on where
//! it was. Asking again and again ends: each unit takes rows from those uncovered, or the place of a worn unit.
//!
//! A compaction leaves rows of segments that no unit was built over. Until one is, older units may have them by their row ids (`cover`): so a unit whose
//! segments are all gone stays as long as a unit is due, up to the one that takes the last of the uncovered rows. Compactions that come faster than a
//! build gets there would leave ever more such units: they are kept up to a limit.

use std::cmp::Reverse;
use std::collections::{HashMap, HashSet};
use std::ops::Range;
use std::sync::Arc;

use super::capacity;
use super::cover::Left;
use super::{IndexDef, UnitMeta};
use crate::id::ObjectId;
use crate::version::{SegmentState, TableState};

/// Rows without a unit are compared exactly up to this many; a unit of its own would cost every search more.
const UNCOVERED_ROWS_MAX: u64 = 4_096;
/// Units that a search goes through, at most, once upkeep is done; those too large to be merged come on top.
const UNITS_MAX: usize = 4;
/// A unit is built again when more than one row in this many is dead.
const DEAD_ONE_IN: u64 = 5;
/// A cut may miss an even share by one part in this many to fall between two segments.
const UNEVEN_ONE_IN: u64 = 8;
/// Units whose segments are all gone are kept until they hold this many times the table's rows.
const MOVED_ROWS_TIMES: u64 = 8;

/// Positions of a segment.
#[derive(Clone, Debug)]
pub(super) struct Span {
    pub(super) segment: Arc<SegmentState>,
    pub(super) rows: Range<u32>,
}

impl Span {
    /// Rows in it that no segment's deletes name.
    fn live(&self) -> u64 {
        let deletes = self.segment.deletes.as_ref();
        let gone = deletes.map_or(0, |d| d.positions().range_cardinality(self.rows.clone()));
        u64::from(self.rows.end - self.rows.start) - gone
    }

    /// The position before which `wanted` rows are alive.
    fn cut(&self, wanted: u64) -> u32 {
        let before =
            |end: u32| Self { segment: Arc::clone(&self.segment), rows: self.rows.start..end }.live();
        let (mut low, mut high) = (self.rows.start, self.rows.end);
        while low < high {
            let middle = low + (high - low) / 2;
            if before(middle) < wanted { low = middle + 1 } else { high = middle }
        }
        low
    }
}

/// A unit to build.
#[derive(Clone, Debug)]
pub(super) struct BuildPlan {
    pub(super) index: IndexDef,
    /// What it will cover, in order of the table's segments.
    pub(super) spans: Vec<Span>,
    /// Rows in them that are alive.
    pub(super) rows: u64,
    /// Units it takes the place of.
    pub(super) replaces: Vec<ObjectId>,
    /// Rows that wait for the units after this one.
    pub(super) rows_after: u64,
    /// How many these will be.
    pub(super) units_after: u64,
}

/// What one unit covers, or none.
struct Group {
    unit: Option<ObjectId>,
    spans: Vec<Span>,
    rows: u64,
}

impl Group {
    fn new(unit: Option<ObjectId>, spans: Vec<Span>) -> Self {
        Self { unit, rows: spans.iter().map(Span::live).sum(), spans }
    }
}

/// The rows of one index, shared out.
struct Shares {
    uncovered: Group,
    /// To be built again.
    worn: Vec<Group>,
    others: Vec<Group>,
}

/// The next unit of one of the table's indexes; None: nothing to do. `lost` names units that could not be opened.
pub(super) fn next(table: &TableState, index: &IndexDef, lost: &HashSet<ObjectId>) -> Option<BuildPlan> {
    let Shares { uncovered, mut worn, others } = shares(table, index, lost);
    let capacity = capacity::rows_max(&table.def, index);
    let empty: Vec<ObjectId> =
        worn.extract_if(.., |unit| unit.spans.is_empty()).filter_map(|unit| unit.unit).collect();
    let rows = uncovered.rows + worn.iter().chain(&others).map(|unit| unit.rows).sum::<u64>();
    // The last share of a cut is to be due, too.
    let few = UNCOVERED_ROWS_MAX.min(capacity / 4);
    let due = uncovered.rows > if worn.is_empty() && others.is_empty() { 0 } else { few };
    if !due && worn.is_empty() {
        return None;
    }
    worn.sort_by_key(|unit| (unit.rows, unit.unit));
    let waiting = worn.iter().map(|unit| unit.rows).sum::<u64>() + if due { uncovered.rows } else { 0 };
    let (first, second) = if due { (uncovered, None) } else { (worn.remove(0), Some(uncovered)) };
    let mut plan = BuildPlan {
        index: index.clone(),
        spans: Vec::new(),
        rows: 0,
        replaces: Vec::new(),
        rows_after: 0,
        units_after: 0,
    };
    if first.rows > capacity {
        plan.add(Group { spans: cut(first.spans, first.rows, capacity), ..first });
        plan.rows_after = waiting - plan.rows;
        plan.replaces.extend(surplus(table, &empty, rows));
    } else {
        plan.rows_after = waiting - first.rows;
        plan.add(first);
        let second = second.filter(|uncovered| plan.rows + uncovered.rows <= capacity);
        if due || second.is_some() {
            // Nothing is left that they might have.
            plan.replaces.extend(empty);
        }
        if let Some(uncovered) = second {
            plan.add(uncovered);
        }
        for unit in worn {
            if plan.rows + unit.rows <= capacity {
                plan.rows_after -= unit.rows;
                plan.add(unit);
            }
        }
        merge(&mut plan, others, capacity);
    }
    plan.units_after = plan.rows_after.div_ceil(capacity);
    Some(plan)
}

impl BuildPlan {
    fn add(&mut self, group: Group) {
        self.rows += group.spans.iter().map(Span::live).sum::<u64>();
        self.spans.extend(group.spans);
        self.replaces.extend(group.unit);
    }
}

/// Those of `empty`, units whose segments are all gone, that a table of `rows` rows keeps no longer; `cover` asks them in this order.
fn surplus(table: &TableState, empty: &[ObjectId], rows: u64) -> Vec<ObjectId> {
    let mut units: Vec<&Arc<UnitMeta>> = table.units.iter().filter(|unit| empty.contains(&unit.id)).collect();
    units.sort_by_key(|unit| (Reverse(unit.rows), unit.id));
    let mut kept = 0;
    let gone = units.into_iter().filter(|unit| {
        let is_enough = kept >= MOVED_ROWS_TIMES.saturating_mul(rows);
        kept += unit.rows.max(1);
        is_enough
    });
    gone.map(|unit| unit.id).collect()
}

/// Tiers: a unit joins when what is built anyway is not much smaller than it, or when there would be too many; never when
/// both together are beyond `capacity`. One above half of it is as large as units get.
fn merge(plan: &mut BuildPlan, mut others: Vec<Group>, capacity: u64) {
    others.sort_by_key(|unit| (unit.rows, unit.unit));
    let is_small = |unit: &Group| unit.rows <= capacity / 2;
    let mut left = others.iter().filter(|unit| is_small(unit)).count();
    for unit in others {
        let too_many = is_small(&unit) && left >= UNITS_MAX;
        if (unit.rows <= 2 * plan.rows || too_many) && plan.rows + unit.rows <= capacity {
            left -= usize::from(is_small(&unit));
            plan.add(unit);
        }
    }
}

fn shares(table: &TableState, index: &IndexDef, lost: &HashSet<ObjectId>) -> Shares {
    let present: Vec<&Arc<SegmentState>> = table.segments.iter().filter(|s| s.dropped_at.is_none()).collect();
    let stored: HashMap<ObjectId, u64> = table.segments.iter().map(|s| (s.meta.id, s.meta.rows)).collect();
    let span = |place: usize, rows| Span { segment: Arc::clone(present[place]), rows };
    let mut left = Left::new(present.iter().map(|s| (s.meta.id, s.meta.rows)));
    let mut shares = Shares { uncovered: Group::new(None, Vec::new()), worn: Vec::new(), others: Vec::new() };
    for unit in table.units.iter().filter(|u| u.index == index.id) {
        let mut spans = Vec::with_capacity(unit.segments.len());
        // Rows without a vector count on both sides.
        let mut built = 0;
        for segment in &unit.segments {
            let rows = segment.range(stored.get(&segment.id).copied().unwrap_or(0));
            built += u64::from(rows.end.saturating_sub(rows.start)).saturating_sub(segment.left_out);
            if let Some((place, rows)) = left.find(segment) {
                left.take(place, &rows);
                spans.push(span(place, rows));
            }
        }
        let group = Group::new(Some(unit.id), spans);
        // Rows of segments that compaction has replaced are dead in it, too.
        let is_worn = lost.contains(&unit.id)
            || group.rows < built - built / DEAD_ONE_IN
            || group.rows < unit.rows - unit.rows / DEAD_ONE_IN;
        if is_worn { shares.worn.push(group) } else { shares.others.push(group) }
    }
    let uncovered = left.ranges.into_iter().enumerate();
    let spans = uncovered.flat_map(|(place, ranges)| ranges.into_iter().map(move |rows| (place, rows)));
    shares.uncovered = Group::new(None, spans.map(|(place, rows)| span(place, rows)).collect());
    shares
}

/// The first of as many shares as `total` rows, more than `capacity`, have to be cut into.
fn cut(spans: Vec<Span>, total: u64, capacity: u64) -> Vec<Span> {
    let shares = total.div_ceil(capacity);
    let share = total.div_ceil(shares);
    let slack = share / UNEVEN_ONE_IN;
    let rest_fits = |rows: u64| total - rows <= (shares - 1) * capacity;
    let (mut first, mut rows) = (Vec::new(), 0);
    for span in spans {
        let live = span.live();
        if rows + slack >= share && rest_fits(rows) {
            break;
        }
        if rows + live > share {
            if rows + live <= (share + slack).min(capacity) {
                first.push(span);
            } else {
                let to = span.cut(share - rows);
                first.push(Span { rows: span.rows.start..to, ..span });
            }
            break;
        }
        rows += live;
        first.push(span);
    }
    first
}
