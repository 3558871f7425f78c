//! Recall does not fall below what was measured when the floors were set.

mod data;

use cairn_vector::Metric;
use cairn_vector::hnsw::{BuildOptions, Builder};
use cairn_vector::search::{Effort, SearchScratch};
use data::{Data, Shape, open};

const ROWS: usize = 12_000;

#[test]
fn every_metric_on_every_shape() {
    for (shape, floor) in [(Shape::Clustered, 0.97), (Shape::Gaussian, 0.85), (Shape::Mixed, 0.85)] {
        let data = Data::new(shape, ROWS, 48, 60);
        for metric in Metric::ALL {
            let (unit, truth) = (data.unit(metric), data.truth(metric));
            assert_eq!(unit.verify(), [], "{shape:?} {metric:?}");
            for (k, width) in [(1, 64), (10, 96), (100, 256)] {
                let recall = data.recall(&unit, &truth, k, Effort::Width(width));
                // Inner products of Gaussians: the nearest rows are the longest, not those around the query.
                let hard = metric == Metric::InnerProduct && !matches!(shape, Shape::Clustered);
                let floor = if hard { 0.5 } else { floor };
                assert!(recall >= floor, "{shape:?} {metric:?} k={k}: {recall}");
            }
        }
    }
}

#[test]
fn the_calibrated_width_reaches_the_recall_asked_for() {
    for shape in [Shape::Clustered, Shape::Gaussian, Shape::Mixed] {
        let data = Data::new(shape, ROWS, 32, 100);
        for metric in [Metric::L2, Metric::InnerProduct] {
            let (unit, truth) = (data.unit(metric), data.truth(metric));
            for wanted in [0.9, 0.95, 0.99] {
                for k in [1, 10, 30, 100] {
                    let recall = data.recall(&unit, &truth, k, Effort::Recall(wanted));
                    // Sampling error of 256 held-out rows and 100 queries, largest where each has one neighbour.
                    let error = if k == 1 { 0.06 } else { 0.03 };
                    assert!(recall >= wanted - error, "{shape:?} {metric:?} k={k} wanted {wanted}: {recall}");
                }
            }
        }
    }
}

#[test]
fn no_cluster_is_out_of_reach() {
    let data = Data::new(Shape::Separated, ROWS, 64, 400);
    let mut scratch = SearchScratch::default();
    for metric in [Metric::L2, Metric::Cosine, Metric::L1] {
        let (unit, truth) = (data.unit(metric), data.truth(metric));
        for k in [1, 10] {
            // A query whose cluster is not found has nothing of its answer, which the mean of hundreds hides.
            let half = |(query, nearest): (&[f32], &Vec<u64>)| {
                let (hits, _) = data.search(&unit, (query, k, Effort::Width(32)), None, &mut scratch);
                2 * hits.iter().filter(|hit| nearest[..k].contains(&hit.row_id)).count() < k
            };
            assert_eq!(
                data.queries().zip(&truth).map(half).filter(|half| *half).count(),
                0,
                "{metric:?} k={k}"
            );
        }
    }
}

#[test]
fn no_query_is_left_on_the_wrong_fold() {
    let data = Data::new(Shape::Folded, ROWS, 64, 1_000);
    let mut scratch = SearchScratch::default();
    let (unit, truth) = (data.unit(Metric::L2), data.truth(Metric::L2));
    let found = |(query, nearest): (&[f32], &Vec<u64>)| {
        let (hits, _) = data.search(&unit, (query, 10, Effort::Width(24)), None, &mut scratch);
        hits.iter().filter(|hit| nearest[..10].contains(&hit.row_id)).count()
    };
    // Walks that ended at their width left twelve with less than half; those of twice the width, one.
    let worst = data.queries().zip(&truth).map(found).min();
    assert!(worst >= Some(5), "{worst:?} of 10");
}

#[test]
fn exact_search_misses_nothing_under_any_metric() {
    for shape in [Shape::Clustered, Shape::Gaussian, Shape::Mixed] {
        let data = Data::new(shape, 5_000, 20, 40);
        for metric in Metric::ALL {
            let (unit, truth) = (data.unit(metric), data.truth(metric));
            for k in [1, 10, 100] {
                assert_eq!(data.recall(&unit, &truth, k, Effort::Exact), 1.0, "{shape:?} {metric:?} {k}");
            }
        }
    }
}

#[test]
fn hnsw_rs_builds_the_same_kind_of_unit() {
    let data = Data::new(Shape::Clustered, 5_000, 24, 50);
    for metric in Metric::ALL {
        let options = BuildOptions { builder: Builder::HnswRs, threads: 2, ..BuildOptions::new(metric) };
        let unit = open(data.build(&options));
        assert_eq!(unit.verify(), []);
        assert_eq!(unit.statistics().builder, Builder::HnswRs);
        let recall = data.recall(&unit, &data.truth(metric), 10, Effort::Width(96));
        assert!(recall >= 0.95, "{metric:?}: {recall}");
    }
}
