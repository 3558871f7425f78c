//! What is built next, as a function of metadata: limits are kept, positions are shared out, and there is an end.

use super::*;
use crate::id::CommitVersion;
use crate::index::cover::Left;
use crate::index::policy::{self, BuildPlan};
use crate::manifest::invariants::tests::segment_entry;
use crate::segment::{DeletionVector, SegmentMeta};
use crate::version::{SegmentState, TableState};

/// A table of metadata alone.
struct Table {
    def: TableDef,
    segments: Vec<SegmentState>,
    units: Vec<Arc<UnitMeta>>,
    next: u64,
}

impl Table {
    fn new(memory_limit: Option<u64>) -> Self {
        let def = definition(IndexMetric::L2, memory_limit);
        Self { def, segments: Vec::new(), units: Vec::new(), next: 1 }
    }

    fn id(&mut self) -> ObjectId {
        self.next += 1;
        ObjectId { epoch: crate::id::Epoch(2), sequence: self.next }
    }

    fn add(&mut self, rows: u64) {
        let entry = segment_entry(1, 0);
        let meta = SegmentMeta { id: self.id(), rows, ..SegmentMeta::clone(&entry.segment) };
        self.segments.push(SegmentState::clean(Arc::new(meta)));
    }

    fn delete(&mut self, segment: usize, positions: std::ops::Range<u32>) {
        let segment = &mut self.segments[segment];
        let gone = DeletionVector::from_pairs(positions.map(|p| (p, CommitVersion(5))));
        segment.deletes = Some(Arc::new(match &segment.deletes {
            None => gone,
            Some(known) => known.merge(&gone),
        }));
    }

    fn state(&self) -> TableState {
        let segments = self.segments.iter().cloned().map(Arc::new).collect();
        TableState::restored(Arc::new(self.def.clone()), RowId(1), CommitVersion(9), segments, None)
            .with_units(self.units.clone())
    }

    /// The unit that a plan asks for, as if it was built.
    fn build(&mut self, plan: &BuildPlan) {
        let segments = plan.spans.iter().map(|span| {
            let deletes = span.segment.deletes.as_ref();
            UnitSegment {
                id: span.segment.meta.id,
                left_out: deletes.map_or(0, |d| d.positions().range_cardinality(span.rows.clone())),
                positions: Some(Positions { from: span.rows.start, to: span.rows.end }),
            }
        });
        let unit = UnitMeta {
            segments: segments.collect(),
            table: TableId(1),
            index: IndexId(1),
            rows: plan.rows,
            bytes: 1,
            xxh3: String::new(),
            replaces: plan.replaces.clone(),
            build_ms: 0,
            recall_permille: 950,
            id: self.id(),
        };
        self.units.retain(|known| !plan.replaces.contains(&known.id));
        self.units.push(Arc::new(unit));
    }

    /// Builds until nothing is due; returns how many units.
    fn settle(&mut self, lost: &[ObjectId]) -> usize {
        let capacity = capacity::rows_max(&self.def, &self.def.indexes[0]);
        let mut lost = lost.iter().copied().collect();
        let mut built = 0;
        loop {
            let state = self.state();
            let Some(plan) = policy::next(&state, &self.def.indexes[0], &lost) else { return built };
            assert!(plan.rows <= capacity, "{} rows in a build of {capacity}", plan.rows);
            lost.retain(|unit| !plan.replaces.contains(unit));
            self.build(&plan);
            self.check_shared_out();
            built += 1;
            assert!(built < 200, "no end");
        }
    }

    /// No position is in two units.
    fn check_shared_out(&self) {
        let mut left = Left::new(self.segments.iter().map(|s| (s.meta.id, s.meta.rows)));
        for segment in self.units.iter().flat_map(|unit| &unit.segments) {
            let (place, rows) = left.find(segment).expect("positions in two units");
            left.take(place, &rows);
        }
    }

    fn uncovered(&self) -> u64 {
        let mut left = Left::new(self.segments.iter().map(|s| (s.meta.id, s.meta.rows)));
        for segment in self.units.iter().flat_map(|unit| &unit.segments) {
            if let Some((place, rows)) = left.find(segment) {
                left.take(place, &rows);
            }
        }
        left.ranges.iter().flatten().map(|range| range.len() as u64).sum()
    }
}

fn small() -> Table {
    let def = definition(IndexMetric::L2, None);
    Table::new(Some(least_memory_limit(&def, &def.indexes[0])))
}

#[test]
fn limits_fit_what_they_allow() {
    for dim in [DIM as u16, 784, 1_536] {
        limits_fit_what_they_allow_to(|limit| {
            let mut def = definition(IndexMetric::L2, limit);
            def.columns[1].column_type = ColumnType::Vector(dim);
            def
        });
    }
    // A limit from before there was a least one is taken as that.
    let least = definition(IndexMetric::L2, None);
    let least = least_memory_limit(&least, &least.indexes[0]);
    let older = definition(IndexMetric::L2, Some(1 << 20));
    let units = definition(IndexMetric::L2, Some(least));
    assert_eq!(capacity::rows_max(&older, &older.indexes[0]), capacity::rows_max(&units, &units.indexes[0]));
}

fn limits_fit_what_they_allow_to(definition: impl Fn(Option<u64>) -> TableDef) {
    let def = definition(None);
    let least = least_memory_limit(&def, &def.indexes[0]);
    for limit in [least, 2 * least, 10 * least] {
        let def = definition(Some(limit));
        let most = capacity::rows_max(&def, &def.indexes[0]);
        for rows in [1, most, most + 1, 3 * most, 10 * most + 7] {
            let estimate = estimate(&def, &def.indexes[0], rows);
            assert!(estimate.memory_bytes <= limit, "{rows} rows in {limit} bytes: {estimate:?}");
            assert_eq!(estimate.units, rows.div_ceil(most));
        }
    }
}

#[test]
fn rows_are_cut_into_as_few_units_as_fit_and_the_same_again() {
    for segments in [vec![100_000], vec![10_000], vec![1_000; 100], vec![30_000, 10, 50_000, 4_000, 16_000]] {
        let mut cuts = Vec::new();
        for _ in 0..2 {
            let mut table = small();
            segments.iter().for_each(|rows| table.add(*rows));
            let capacity = capacity::rows_max(&table.def, &table.def.indexes[0]);
            let total: u64 = segments.iter().sum();
            assert_eq!(table.settle(&[]) as u64, total.div_ceil(capacity), "{segments:?}");
            assert_eq!(table.uncovered(), 0);
            assert!(table.units.iter().all(|u| u.rows > capacity / 2), "even shares of {segments:?}");
            cuts.push(table.units.iter().map(|u| u.segments.clone()).collect::<Vec<_>>());
        }
        assert_eq!(cuts[0], cuts[1]);
    }
    // Segments smaller than what a share may miss by are not cut.
    let mut table = small();
    (0..200).for_each(|_| table.add(100));
    table.settle(&[]);
    let ranges = table.units.iter().flat_map(|u| &u.segments);
    assert!(ranges.map(|s| s.range(100)).all(|range| range == (0..100)));
}

#[test]
fn upkeep_ends_whatever_is_written_and_deleted() {
    for seed in 0..40 {
        let mut random = StdRng::seed_from_u64(seed);
        let mut table = if seed % 4 == 0 { Table::new(None) } else { small() };
        let capacity = capacity::rows_max(&table.def, &table.def.indexes[0]);
        for _ in 0..30 {
            match random.random_range(0..6) {
                0..3 => table.add(random.random_range(1..3 * capacity.min(6_000))),
                3 if !table.segments.is_empty() => {
                    let segment = random.random_range(0..table.segments.len());
                    let rows = table.segments[segment].meta.rows as u32;
                    let from = random.random_range(0..rows);
                    table.delete(segment, from..random.random_range(from..rows) + 1);
                }
                4 if !table.segments.is_empty() && random.random_bool(0.3) => {
                    let segment = random.random_range(0..table.segments.len());
                    table.segments[segment].dropped_at = Some(CommitVersion(6));
                }
                _ => {
                    let lost: Vec<ObjectId> =
                        table.units.iter().map(|u| u.id).filter(|_| random.random_bool(0.4)).collect();
                    table.settle(&lost);
                }
            }
            table.settle(&[]);
            let live = |unit: &UnitMeta| -> u64 {
                let state = table.state();
                let present = state.segments.iter().filter(|s| s.dropped_at.is_none());
                let of = |s: &Arc<SegmentState>| unit.segments.iter().filter(|u| u.id == s.meta.id).count();
                present.map(|s| of(s) as u64).sum()
            };
            let small = table.units.iter().filter(|u| live(u) > 0 && u.rows <= capacity / 4).count();
            assert!(small <= 8, "seed {seed}: {small} small units");
        }
    }
}

#[test]
fn units_stay_until_the_rows_that_a_compaction_moved_are_all_in_others() {
    let mut table = small();
    let capacity = capacity::rows_max(&table.def, &table.def.indexes[0]);
    (0..6).for_each(|_| table.add(capacity / 2));
    table.settle(&[]);
    let before: HashSet<ObjectId> = table.units.iter().map(|unit| unit.id).collect();
    table.segments.clear();
    table.add(3 * capacity);
    let mut plans = Vec::new();
    while let Some(plan) = policy::next(&table.state(), &table.def.indexes[0], &HashSet::new()) {
        table.build(&plan);
        plans.push(plan);
        assert!(plans.len() < 20, "no end");
    }
    let last = plans.pop().unwrap();
    assert!(plans.len() >= 2 && plans.iter().all(|plan| plan.replaces.is_empty()), "{plans:?}");
    assert_eq!(last.replaces.iter().copied().collect::<HashSet<ObjectId>>(), before);
    table.check_shared_out();
    assert_eq!(table.uncovered(), 0);
}

#[test]
fn builds_that_compactions_overtake_leave_a_limited_number_of_units() {
    let mut table = small();
    let capacity = capacity::rows_max(&table.def, &table.def.indexes[0]);
    for _ in 0..60 {
        table.segments.clear();
        table.add(3 * capacity);
        let plan = policy::next(&table.state(), &table.def.indexes[0], &HashSet::new()).unwrap();
        assert!(plan.rows_after > 0, "the last unit of a build takes the others' place: {plan:?}");
        table.build(&plan);
    }
    // Those of eight times the table's rows, and the one that was just built.
    assert_eq!(table.units.len(), 8 * 3 + 1);
}

#[test]
fn inserts_that_trickle_in_leave_few_units() {
    let mut table = small();
    let mut built = 0;
    for _ in 0..200 {
        table.add(500);
        built += table.settle(&[]);
    }
    let capacity = capacity::rows_max(&table.def, &table.def.indexes[0]);
    let fewest = 100_000_u64.div_ceil(capacity) as usize;
    assert!(table.units.len() <= 2 * fewest + 4, "{} units, {fewest} would do", table.units.len());
    assert!(built <= 4 * table.units.len(), "{built} builds for {} units", table.units.len());
}
