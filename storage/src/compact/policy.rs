//! Which segments become one next: a pure function of metadata.
//!
//! Three reasons, in this order: a keyed table has too many sorted runs over each other, so that a lookup asks too many segments;
//! there are several small segments of about one size; too many rows of a segment are dead. Sizes grow geometrically, so a row is
//! written again a number of times that grows with the logarithm of its table.
//!
//! Asking again and again ends when it is asked with what the same pass has made ([`Pass::made`]): every plan takes a segment that
//! the pass did not make.

use std::cmp::Ordering;
use std::collections::{BTreeMap, HashSet};

use crate::collect::Retained;
use crate::id::ObjectId;
use crate::segment::reader::STRETCH_BYTES;
use crate::segment::{SegmentMeta, StatValue};
use crate::version::{SegmentState, TableState};

/// Most segments of one round.
const INPUTS_MAX: usize = 64;

/// What a pass may do.
#[derive(Clone, Copy, Debug)]
pub(super) struct Limits {
    /// Size that segments are merged towards.
    pub(super) segment_bytes: u64,
    /// Bytes read in one round.
    pub(super) round_bytes: u64,
    /// Bytes held while merging.
    pub(super) memory_bytes: u64,
    /// Sorted runs of a keyed table over each other.
    pub(super) runs_max: usize,
    /// Small segments that are left alone, and one.
    pub(super) inputs_min: usize,
    /// Whether small segments are to be of about one size.
    pub(super) alike: bool,
    /// A segment is written again when more than one row in this many is dead; 0: when any is.
    pub(super) dead_one_in: u64,
    /// Whether a merge that is due and beyond `round_bytes` takes the two smallest all the same.
    pub(super) always: bool,
}

impl Limits {
    /// Of upkeep that nobody asked for.
    pub(super) fn upkeep(segment_bytes: u64, round_bytes: u64, memory_bytes: u64) -> Self {
        Self {
            segment_bytes: segment_bytes.max(1),
            round_bytes,
            memory_bytes,
            runs_max: 8,
            inputs_min: 4,
            alike: true,
            dead_one_in: 5,
            always: false,
        }
    }

    /// Of COMPACT: as few segments and runs as there can be, and no dead row.
    pub(super) fn asked(segment_bytes: u64, round_bytes: u64, memory_bytes: u64) -> Self {
        Self {
            runs_max: 1,
            inputs_min: 2,
            alike: false,
            dead_one_in: 0,
            always: true,
            ..Self::upkeep(segment_bytes, round_bytes, memory_bytes)
        }
    }
}

/// What a pass knows besides.
#[derive(Debug, Default)]
pub(super) struct Pass {
    /// Segments it made.
    pub(super) made: HashSet<ObjectId>,
    /// Segments whose merge failed, not to be tried in it again.
    pub(super) left: HashSet<ObjectId>,
}

/// What counts of one segment.
#[derive(Clone, Debug)]
pub(super) struct Facts {
    pub(super) id: ObjectId,
    pub(super) rows: u64,
    /// Rows that nobody can see any more.
    pub(super) dead: u64,
    pub(super) bytes: u64,
    /// Held while it is merged.
    pub(super) memory: u64,
    /// Of the first sort column; None: not known.
    pub(super) bounds: Option<(StatValue, StatValue)>,
    /// Segments of one run lie beside each other.
    pub(super) run: ObjectId,
}

impl Facts {
    /// Bytes that would be left of it.
    fn live_bytes(&self) -> u64 {
        let live = u128::from(self.rows.saturating_sub(self.dead));
        let bytes = u128::from(self.bytes) * live / u128::from(self.rows.max(1));
        u64::try_from(bytes).unwrap_or(u64::MAX)
    }
}

/// What counts of a table.
#[derive(Clone, Debug, Default)]
pub(super) struct TableFacts {
    pub(super) keyed: bool,
    pub(super) segments: Vec<Facts>,
    /// Segments in which nobody can see a row.
    pub(super) gone: Vec<ObjectId>,
}

/// One round.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Plan {
    /// Segments that are merged.
    pub(super) inputs: Vec<ObjectId>,
    /// Segments that are taken away.
    pub(super) gone: Vec<ObjectId>,
}

/// The facts of a table.
pub(super) fn facts(table: &TableState, retained: &Retained) -> TableFacts {
    let keyed = !table.def.primary_key.is_empty();
    let mut facts = TableFacts { keyed, ..TableFacts::default() };
    let ordered = table.def.sort_indices().first().copied();
    for segment in table.segments.iter() {
        let meta = &segment.meta;
        let dropped = segment.dropped_at.into_iter().chain(table.dropped_at).min();
        if let Some(dropped) = dropped {
            if !retained.sees(meta.min_created, dropped) {
                facts.gone.push(meta.id);
            }
            continue;
        }
        // Nobody knows which of its rows are there.
        if segment.damaged.is_some() {
            continue;
        }
        let dead = dead_rows(segment, retained);
        if dead == meta.rows {
            facts.gone.push(meta.id);
            continue;
        }
        let bounds = ordered.and_then(|column| meta.columns.get(column));
        facts.segments.push(Facts {
            id: meta.id,
            rows: meta.rows,
            dead,
            bytes: meta.bytes + meta.key_filter_bytes.unwrap_or(0),
            memory: memory(meta, ordered.is_some()),
            bounds: bounds.and_then(|column| column.min.clone().zip(column.max.clone())),
            run: meta.run(),
        });
    }
    facts
}

/// Rows that a merge surely leaves out.
fn dead_rows(segment: &SegmentState, retained: &Retained) -> u64 {
    let Some(deletes) = &segment.deletes else { return 0 };
    let created = segment.meta.min_created;
    if retained.is_past(deletes.max_version()) {
        return deletes.len();
    }
    deletes.iter().filter(|(_, deleted)| !retained.sees(created, *deleted)).count() as u64
}

/// An input is read a stretch of rows at a time, with the pages they stand in; one that is not in its table's order is sorted as a whole
/// first.
fn memory(meta: &SegmentMeta, ordered: bool) -> u64 {
    let decoded = meta.columns.iter().map(|column| column.memory_bytes).sum::<u64>().max(meta.bytes);
    if ordered && !meta.sorted {
        return 2 * decoded;
    }
    2 * decoded.min(STRETCH_BYTES) + meta.bytes.min(STRETCH_BYTES)
}

/// The next round; None: nothing to do.
pub(super) fn next(table: &TableFacts, limits: &Limits, pass: &Pass) -> Option<Plan> {
    let segments: Vec<&Facts> = table.segments.iter().filter(|s| !pass.left.contains(&s.id)).collect();
    let is_new = |chosen: &Vec<&Facts>| chosen.iter().any(|segment| !pass.made.contains(&segment.id));
    let runs = || if table.keyed { too_many_runs(&segments, limits) } else { None };
    let inputs = runs()
        .filter(is_new)
        .or_else(|| small(&segments, limits).filter(is_new))
        .or_else(|| worn(&segments, limits, table.keyed).filter(is_new));
    let gone: Vec<ObjectId> = table.gone.iter().filter(|id| !pass.left.contains(id)).copied().collect();
    if inputs.is_none() && gone.is_empty() {
        return None;
    }
    let inputs = inputs.unwrap_or_default().iter().map(|segment| segment.id).collect();
    Some(Plan { inputs, gone })
}

/// What has been chosen for a round.
struct Choice<'a> {
    limits: Limits,
    segments: Vec<&'a Facts>,
    bytes: u64,
    memory: u64,
}

impl<'a> Choice<'a> {
    fn new(limits: &Limits) -> Self {
        Self { limits: *limits, segments: Vec::new(), bytes: 0, memory: 0 }
    }

    /// Adds all of `more` if the limits allow it, or if `forced`.
    fn add(&mut self, more: &[&'a Facts], forced: bool) -> bool {
        let bytes = self.bytes + more.iter().map(|s| s.bytes).sum::<u64>();
        let memory = self.memory + more.iter().map(|s| s.memory).sum::<u64>();
        let fits = bytes <= self.limits.round_bytes
            && memory <= self.limits.memory_bytes
            && self.segments.len() + more.len() <= INPUTS_MAX;
        if fits || forced {
            self.segments.extend_from_slice(more);
            (self.bytes, self.memory) = (bytes, memory);
        }
        fits || forced
    }
}

/// Merges of the smallest runs where the most lie over each other.
fn too_many_runs<'a>(segments: &[&'a Facts], limits: &Limits) -> Option<Vec<&'a Facts>> {
    let mut runs: BTreeMap<ObjectId, Vec<&'a Facts>> = BTreeMap::new();
    for segment in deepest(segments) {
        runs.entry(segment.run).or_default().push(segment);
    }
    let surplus = runs.len().checked_sub(limits.runs_max).filter(|surplus| *surplus > 0)?;
    let mut runs: Vec<Vec<&Facts>> = runs.into_values().collect();
    runs.sort_by_key(|run| (bytes_of(run), run.first().map(|s| s.id)));
    let mut choice = Choice::new(limits);
    let mut taken = 0;
    for run in &runs {
        // A run that is no larger than what is merged anyway comes along.
        if taken > surplus && bytes_of(run) > choice.bytes {
            break;
        }
        // One that takes too much, since it is to be sorted first, holds up no other.
        taken += usize::from(choice.add(run, limits.always && taken < 2));
    }
    (taken >= 2).then_some(choice.segments)
}

fn bytes_of(run: &[&Facts]) -> u64 {
    run.iter().map(|segment| segment.bytes).sum()
}

/// The segments that hold a value which the most runs hold; ends count as inside.
fn deepest<'a>(segments: &[&'a Facts]) -> Vec<&'a Facts> {
    let family = |value: &StatValue| std::mem::discriminant(value);
    let known: Vec<&StatValue> =
        segments.iter().filter_map(|s| s.bounds.as_ref()).flat_map(|(min, max)| [min, max]).collect();
    let one_family = known.windows(2).all(|pair| family(pair[0]) == family(pair[1]));
    if !one_family {
        return segments.to_vec();
    }
    // Those without bounds hold every value.
    let mut open: BTreeMap<ObjectId, Vec<&'a Facts>> = BTreeMap::new();
    let mut ends: Vec<(&'a StatValue, bool, &'a Facts)> = Vec::new();
    for &segment in segments {
        match &segment.bounds {
            None => open.entry(segment.run).or_default().push(segment),
            Some((min, max)) => ends.extend([(min, false, segment), (max, true, segment)]),
        }
    }
    ends.sort_by(|(a, a_ends, x), (b, b_ends, y)| {
        compare(a, b).then(a_ends.cmp(b_ends)).then_with(|| x.id.cmp(&y.id))
    });
    let mut most = open.len();
    let mut deepest: Vec<&Facts> = open.values().flatten().copied().collect();
    for (_, is_end, segment) in ends {
        if !is_end {
            open.entry(segment.run).or_default().push(segment);
            if open.len() > most {
                most = open.len();
                deepest = open.values().flatten().copied().collect();
            }
        } else if let Some(run) = open.get_mut(&segment.run) {
            run.retain(|s| s.id != segment.id);
            if run.is_empty() {
                open.remove(&segment.run);
            }
        }
    }
    deepest
}

fn compare(a: &StatValue, b: &StatValue) -> Ordering {
    match (a.is_below(b), b.is_below(a)) {
        (true, _) => Ordering::Less,
        (_, true) => Ordering::Greater,
        (false, false) => Ordering::Equal,
    }
}

/// Several small segments of about one size, with all that are smaller.
fn small<'a>(segments: &[&'a Facts], limits: &Limits) -> Option<Vec<&'a Facts>> {
    let mut small: Vec<&Facts> =
        segments.iter().filter(|s| s.live_bytes() < limits.segment_bytes / 2).copied().collect();
    small.sort_by_key(|s| (s.live_bytes(), s.id));
    for start in 0..small.len() {
        let (mut bytes, mut alike) = (0_u64, 0);
        for segment in &small[start..] {
            let more = segment.live_bytes();
            if limits.alike && alike > 0 && 2 * more > 3 * bytes {
                break;
            }
            bytes += more;
            alike += 1;
        }
        if alike < limits.inputs_min {
            continue;
        }
        let mut choice = Choice::new(limits);
        for &segment in &small[..start + alike] {
            let forced = limits.always && choice.segments.len() < 2;
            choice.add(&[segment], forced);
        }
        if choice.segments.len() >= limits.inputs_min.min(2) && choice.segments.len() > 1 {
            return Some(choice.segments);
        }
    }
    None
}

/// Segments with many dead rows. Those of a keyed table are written one by one: merged, two that lie apart would lie over all between.
fn worn<'a>(segments: &[&'a Facts], limits: &Limits, keyed: bool) -> Option<Vec<&'a Facts>> {
    let is_worn = |s: &&Facts| match limits.dead_one_in {
        0 => s.dead > 0,
        one_in => s.dead > s.rows / one_in,
    };
    let mut worn: Vec<&Facts> = segments.iter().copied().filter(is_worn).collect();
    worn.sort_by_key(|s| (s.live_bytes(), s.id));
    let mut choice = Choice::new(limits);
    let mut live = 0;
    for segment in worn {
        let first = choice.segments.is_empty();
        if !first && (keyed || live + segment.live_bytes() > limits.segment_bytes) {
            break;
        }
        if choice.add(&[segment], limits.always && first) {
            live += segment.live_bytes();
        }
    }
    (!choice.segments.is_empty()).then_some(choice.segments)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::id::Epoch;

    const MIB: u64 = 1 << 20;

    fn id(sequence: u64) -> ObjectId {
        ObjectId { epoch: Epoch(1), sequence }
    }

    fn segment(number: u64, bytes: u64, bounds: (i64, i64)) -> Facts {
        Facts {
            id: id(number),
            rows: 1_000,
            dead: 0,
            bytes,
            memory: bytes / 8,
            bounds: Some((StatValue::Int(bounds.0), StatValue::Int(bounds.1))),
            run: id(number),
        }
    }

    fn limits() -> Limits {
        Limits::upkeep(256 * MIB, 1024 * MIB, 512 * MIB)
    }

    fn table(keyed: bool, segments: Vec<Facts>) -> TableFacts {
        TableFacts { keyed, segments, gone: Vec::new() }
    }

    fn chosen(table: &TableFacts, limits: &Limits) -> Option<Vec<u64>> {
        next(table, limits, &Pass::default()).map(|plan| {
            let mut chosen: Vec<u64> = plan.inputs.iter().map(|id| id.sequence).collect();
            chosen.sort_unstable();
            chosen
        })
    }

    #[test]
    fn nothing_is_due_of_few_or_large_segments() {
        assert_eq!(chosen(&table(true, Vec::new()), &limits()), None);
        let three = (1..=3).map(|n| segment(n, MIB, (0, 9))).collect();
        assert_eq!(chosen(&table(true, three), &limits()), None);
        let large = (1..=30).map(|n| segment(n, 200 * MIB, (n as i64 * 10, n as i64 * 10 + 9))).collect();
        assert_eq!(chosen(&table(true, large), &limits()), None);
    }

    #[test]
    fn four_of_a_size_become_one_with_what_is_smaller() {
        let mut segments: Vec<Facts> = (1..=3).map(|n| segment(n, 20 * MIB, (0, 9))).collect();
        segments.push(segment(4, MIB, (0, 9)));
        assert_eq!(chosen(&table(false, segments.clone()), &limits()), None);
        segments.push(segment(5, 22 * MIB, (0, 9)));
        segments.push(segment(6, 127 * MIB, (0, 9)));
        assert_eq!(chosen(&table(false, segments), &limits()), Some(vec![1, 2, 3, 4, 5]));
    }

    #[test]
    fn a_row_is_written_a_logarithmic_number_of_times() {
        let mut segments: Vec<Facts> = Vec::new();
        let (mut next_id, mut written) = (1, 0);
        for _ in 0..1_000 {
            segments.push(segment(next_id, MIB / 4, (0, 9)));
            next_id += 1;
            while let Some(plan) = next(&table(false, segments.clone()), &limits(), &Pass::default()) {
                let bytes: u64 =
                    segments.iter().filter(|s| plan.inputs.contains(&s.id)).map(|s| s.bytes).sum();
                segments.retain(|s| !plan.inputs.contains(&s.id));
                segments.push(segment(next_id, bytes, (0, 9)));
                next_id += 1;
                written += bytes;
            }
            assert!(segments.len() <= 20, "{} segments", segments.len());
        }
        assert!(written < 8 * 250 * MIB, "{} MiB written", written / MIB);
    }

    #[test]
    fn no_more_than_eight_runs_of_a_key_lie_over_each_other() {
        // One large run of ten beside each other, and eight over all of it.
        let mut segments: Vec<Facts> =
            (1..=10).map(|n| segment(n, 250 * MIB, (n as i64 * 100, n as i64 * 100 + 99))).collect();
        for n in 11..=17 {
            segments.push(segment(n, 200 * MIB + n, (0, 2_000)));
        }
        assert_eq!(chosen(&table(true, segments.clone()), &limits()), None);
        segments.push(segment(18, 150 * MIB, (500, 505)));
        assert_eq!(chosen(&table(true, segments.clone()), &limits()), Some(vec![11, 12, 13, 14, 18]));
        // A table without a key does not mind.
        assert_eq!(chosen(&table(false, segments.clone()), &limits()), None);
        // Nor do segments of one run that touch.
        for segment in &mut segments {
            segment.run = id(1);
        }
        assert_eq!(chosen(&table(true, segments), &limits()), None);
    }

    #[test]
    fn a_round_keeps_its_budgets() {
        let runs: Vec<Facts> = (1..=20).map(|n| segment(n, 255 * MIB, (0, 9))).collect();
        let small: Vec<Facts> = (1..=20).map(|n| segment(n, 100 * MIB, (0, 9))).collect();
        assert_eq!(chosen(&table(true, runs.clone()), &limits()).unwrap().len(), 4);
        assert_eq!(chosen(&table(false, small.clone()), &limits()).unwrap().len(), 10);
        let narrow = Limits { memory_bytes: 40 * MIB, ..limits() };
        assert_eq!(chosen(&table(false, small), &narrow).unwrap().len(), 3);
        let tiny = Limits { round_bytes: 100 * MIB, ..limits() };
        assert_eq!(chosen(&table(true, runs.clone()), &tiny), None);
        let asked = Limits::asked(256 * MIB, 100 * MIB, 512 * MIB);
        assert_eq!(chosen(&table(true, runs), &asked).unwrap().len(), 2);
    }

    #[test]
    fn dead_rows_are_left_out_when_they_are_many() {
        let mut segments = vec![segment(1, 200 * MIB, (0, 9)), segment(2, 201 * MIB, (10, 19))];
        segments[0].dead = 200;
        assert_eq!(chosen(&table(true, segments.clone()), &limits()), None);
        segments[0].dead = 201;
        segments[1].dead = 900;
        assert_eq!(chosen(&table(true, segments.clone()), &limits()), Some(vec![2]));
        assert_eq!(chosen(&table(false, segments.clone()), &limits()), Some(vec![1, 2]));
        segments[1].dead = 0;
        segments[0].dead = 1;
        assert_eq!(
            chosen(&table(true, segments), &Limits::asked(256 * MIB, MIB, MIB)),
            Some(vec![1]),
            "asked for, whatever it takes"
        );
    }

    #[test]
    fn what_nobody_sees_goes_without_a_merge() {
        let facts = TableFacts { keyed: true, segments: Vec::new(), gone: vec![id(7)] };
        let plan = next(&facts, &limits(), &Pass::default()).unwrap();
        assert_eq!(plan, Plan { inputs: Vec::new(), gone: vec![id(7)] });
    }

    #[test]
    fn asking_for_everything_ends() {
        let limits = Limits::asked(256 * MIB, 1024 * MIB, 512 * MIB);
        // A composite key whose first column is constant: bounds never tell two segments apart.
        let mut segments: Vec<Facts> = (1..=12).map(|n| segment(n, 250 * MIB, (5, 5))).collect();
        let (mut pass, mut next_id, mut rounds) = (Pass::default(), 100, 0);
        while let Some(plan) = next(&table(true, segments.clone()), &limits, &pass) {
            let merged = plan.inputs.len() as u64;
            segments.retain(|s| !plan.inputs.contains(&s.id));
            let run = id(next_id);
            for _ in 0..merged {
                segments.push(Facts { run, ..segment(next_id, 250 * MIB, (5, 5)) });
                pass.made.insert(id(next_id));
                next_id += 1;
            }
            rounds += 1;
            assert!(rounds < 100, "it goes on for ever");
        }
        assert_eq!(segments.len(), 12);
    }

    #[test]
    fn bounds_that_cannot_be_compared_lie_over_each_other() {
        let mut segments: Vec<Facts> = (1..=9).map(|n| segment(n, 200 * MIB, (n as i64, n as i64))).collect();
        assert_eq!(chosen(&table(true, segments.clone()), &limits()), None);
        segments[3].bounds = Some((StatValue::Text("a".into()), StatValue::Text("b".into())));
        assert!(chosen(&table(true, segments.clone()), &limits()).is_some());
        segments[3].bounds = None;
        assert_eq!(chosen(&table(true, segments), &limits()), None);
    }
}
