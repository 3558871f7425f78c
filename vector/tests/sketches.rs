//! Sketches leave nothing out that belongs to the answer, and most of the rest.

mod data;

use std::sync::LazyLock;

use cairn_vector::Metric;
use cairn_vector::search::{Effort, Filter, SearchScratch, Strategy};
use cairn_vector::unit::Compared;
use data::{Data, Shape, bitmap, check_answer};

const METRICS: [Metric; 3] = [Metric::L2, Metric::Cosine, Metric::InnerProduct];

#[test]
fn scans_are_exact() {
    let mut data = Data::new(Shape::Flat, 6_000, 210, 12);
    // Near a row, far outside, a little outside, with one large component, in the middle.
    let row = data.base[210 * 77..210 * 78].to_vec();
    data.queries.extend(row.iter().map(|c| c + 1e-3));
    data.queries.extend(row.iter().map(|c| c * 1e4));
    data.queries.extend(row.iter().map(|c| c * 3.0));
    data.queries.extend((0..210).map(|i| if i == 9 { 1e17 } else { 1.0 }));
    data.queries.extend([2.0; 210]);
    for metric in METRICS {
        let unit = data.unit(metric);
        assert_eq!(unit.verify(), []);
        let mut scratch = SearchScratch::default();
        for share in [1, 2, 10, 40] {
            let words = bitmap(&unit, |id| id % share == 0);
            let filter = Filter::new(&words);
            for query in data.queries() {
                for k in [1, 10, 100] {
                    let request = (query, k, Effort::Exact);
                    let (hits, stats) = data.search(&unit, request, Some(filter), &mut scratch);
                    check_answer(&hits, k);
                    assert_eq!(stats.strategy, Strategy::Scan);
                    let found: Vec<u64> = hits.iter().map(|hit| hit.row_id).collect();
                    let right = data.nearest(metric, query, k, |id| id % share == 0);
                    assert!(found == right, "{metric:?} 1/{share} k={k}: {found:?} for {right:?}");
                }
            }
        }
    }
}

#[test]
fn most_rows_are_left_out() {
    let data = Data::new(Shape::Flat, 6_000, 210, 20);
    for metric in METRICS {
        let unit = data.unit(metric);
        let cost = unit.plan(10, Effort::Exact, None).scan_cost;
        assert!(cost < 6_000.0 * 0.8, "{metric:?}: a scan is expected to cost {cost}");
        let mut scratch = SearchScratch::default();
        for query in data.queries() {
            let (_, stats) = data.search(&unit, (query, 10, Effort::Exact), None, &mut scratch);
            // Every sketch is compared, then the codes of some rows.
            assert!(stats.code_distances < 6_000 * 3 / 2, "{metric:?}: {stats:?}");
        }
    }
}

/// Walks in a unit under `metric` find what they are asked for.
fn walks(metric: Metric) {
    static DATA: LazyLock<Data> = LazyLock::new(|| Data::new(Shape::Flat, 12_000, 600, 100));
    let data = &*DATA;
    let unit = data.unit(metric);
    assert_eq!(unit.calibration().compared, Compared::Sketches, "{metric:?}");
    let mut scratch = SearchScratch::default();
    for (filtered, wanted) in [(false, 0.95), (false, 0.99), (true, 0.99)] {
        let matches = |id| !filtered || id % 20 > 0;
        let words = bitmap(&unit, matches);
        let filter = filtered.then(|| Filter::new(&words));
        let (mut found, mut walks) = (0, 0);
        for query in data.queries() {
            let request = (query, 10, Effort::Recall(wanted));
            let (hits, stats) = data.search(&unit, request, filter, &mut scratch);
            check_answer(&hits, 10);
            walks += usize::from(matches!(stats.strategy, Strategy::Walk { .. }));
            let right = data.nearest(metric, query, 10, matches);
            found += hits.iter().filter(|hit| right.contains(&hit.row_id)).count();
        }
        assert!(metric == Metric::InnerProduct || walks > 50, "{metric:?} {filtered}: {walks} walks");
        let recall = found as f32 / 1000.0;
        assert!(recall >= wanted - 0.005, "{metric:?} {filtered}: {recall} for {wanted}");
    }
}

// Side by side, as the longest of these tests.
#[test]
fn walks_that_compare_sketches_find_as_much_by_l2() {
    walks(Metric::L2);
}

#[test]
fn walks_that_compare_sketches_find_as_much_by_cosine() {
    walks(Metric::Cosine);
}

#[test]
fn walks_that_compare_sketches_find_as_much_by_inner_product() {
    walks(Metric::InnerProduct);
}

#[test]
fn rows_that_differ_in_every_direction_have_none() {
    let data = Data::new(Shape::Gaussian, 6_000, 210, 1);
    let plan = data.unit(Metric::L2).plan(10, Effort::Exact, None);
    assert_eq!(plan.scan_cost, 6_000.0);
    let all_alike = Data { dim: 210, base: vec![1.5; 210 * 5_000], queries: vec![1.0; 210] };
    let unit = all_alike.unit(Metric::L2);
    let (hits, _) =
        all_alike.search(&unit, (&all_alike.queries, 10, Effort::Exact), None, &mut SearchScratch::default());
    check_answer(&hits, 10);
}
