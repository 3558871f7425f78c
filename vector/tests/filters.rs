//! A filter never shortens the answer.

mod data;

use cairn_vector::Metric;
use cairn_vector::search::{Effort, Filter, SearchScratch, Strategy};
use cairn_vector::unit::Unit;
use data::{Data, ID_FACTOR, Shape, bitmap, check_answer};

const K: usize = 10;
const EFFORT: Effort = Effort::Recall(0.995);

/// Recall over all queries of searches in a unit over `data` whose matches depend on the query; the strategies seen.
fn run(data: &Data, unit: &Unit, matches: impl Fn(&[f32], u64) -> bool) -> (f32, Vec<Strategy>) {
    let mut scratch = SearchScratch::default();
    let (mut found, mut wanted, mut strategies) = (0, 0, Vec::new());
    for query in data.queries() {
        let words = bitmap(unit, |id| matches(query, id));
        let filter = Filter::new(&words);
        let (hits, stats) = data.search(unit, (query, K, EFFORT), Some(filter), &mut scratch);
        check_answer(&hits, K.min(filter.matches()));
        assert!(hits.iter().all(|hit| matches(query, hit.row_id)), "only matching rows");
        let nearest = data.nearest(unit.metric(), query, K, |id| matches(query, id));
        wanted += nearest.len();
        found += hits.iter().filter(|hit| nearest.contains(&hit.row_id)).count();
        strategies.push(stats.strategy);
    }
    (if wanted == 0 { 1.0 } else { found as f32 / wanted as f32 }, strategies)
}

/// A number below 10,000 that has nothing to do with the vector.
fn lot(id: u64) -> u64 {
    (id / ID_FACTOR).wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 40 & 0xFFFF_FFFF
}

#[test]
fn any_selectivity() {
    for (shape, metrics) in [
        (Shape::Clustered, Metric::ALL.as_slice()),
        (Shape::Gaussian, [Metric::L2, Metric::Cosine].as_slice()),
    ] {
        let data = Data::new(shape, 20_000, 32, 30);
        for metric in metrics {
            let unit = data.unit(*metric);
            for per_10_000 in [9_900, 5_000, 1_000, 100, 10] {
                let (recall, _) = run(&data, &unit, |_, id| lot(id) % 10_000 < per_10_000);
                assert!(recall >= 0.99, "{shape:?} {metric:?} {per_10_000}: {recall}");
            }
            assert_eq!(run(&data, &unit, |_, id| id == 77 * ID_FACTOR).0, 1.0, "one row");
            let (_, strategies) = run(&data, &unit, |_, _| false);
            assert!(strategies.iter().all(|s| *s == Strategy::Nothing), "no row");
        }
    }
}

#[test]
fn matches_near_the_query_or_far_from_it() {
    let data = Data::new(Shape::Clustered, 20_000, 32, 30);
    for metric in [Metric::L2, Metric::Cosine] {
        let unit = data.unit(metric);
        for share in [0.5, 0.1, 0.01] {
            for near in [true, false] {
                // The first component decides: most of a cluster falls on one side.
                let mut firsts: Vec<f32> = data.base.iter().step_by(data.dim).copied().collect();
                firsts.sort_by(f32::total_cmp);
                let at = |share: f32| firsts[((firsts.len() - 1) as f32 * share) as usize];
                let (low, high) = (at(share), at(1.0 - share));
                let matches = |query: &[f32], id: u64| {
                    let value = data.row(id)[0];
                    if (query[0] > 0.0) == near { value >= high } else { value <= low }
                };
                let (recall, _) = run(&data, &unit, matches);
                assert!(recall >= 0.99, "{metric:?} {share} near {near}: {recall}");
            }
        }
    }
}

#[test]
fn a_walk_that_meets_no_match_ends_as_a_scan() {
    // Two far groups of the same size: every query lies in the one that does not match.
    let mut data = Data::new(Shape::Gaussian, 20_000, 16, 20);
    data.base.chunks_exact_mut(16).skip(10_000).for_each(|row| row[0] += 1_000.0);
    let unit = data.unit(Metric::L2);
    let (recall, strategies) = run(&data, &unit, |_, id| id / ID_FACTOR >= 10_000);
    assert_eq!(recall, 1.0);
    assert!(strategies.iter().all(|s| *s == Strategy::Scan), "{strategies:?}");
}

#[test]
fn a_walk_that_cannot_leave_its_group_ends_as_a_scan() {
    // Ten far groups: a walk from pivots of the query's own meets none of the others, and runs out of rows long before
    // it has cost what a scan does.
    let mut data = Data::new(Shape::Gaussian, 20_000, 16, 20);
    data.base
        .chunks_exact_mut(16)
        .enumerate()
        .for_each(|(row, vector)| vector[0] += (row / 2_000) as f32 * 1_000.0);
    let unit = data.unit(Metric::L2);
    for near in [0, 9] {
        let (recall, _) = run(&data, &unit, |_, id| id / ID_FACTOR / 2_000 != near);
        assert_eq!(recall, 1.0, "{near}");
    }
}

#[test]
fn a_short_bitmap_matches_nothing_behind_its_end() {
    let data = Data::new(Shape::Clustered, 300, 8, 1);
    let unit = data.unit(Metric::L2);
    let words = [u64::MAX];
    let (hits, _) = data.search(
        &unit,
        (&data.queries, 100, EFFORT),
        Some(Filter::new(&words)),
        &mut SearchScratch::default(),
    );
    check_answer(&hits, 64);
    assert!(hits.iter().all(|hit| hit.ordinal < 64));
}
