//! Recall does not fall below what was measured when the floors were set.

mod data;

use cairn_vector::Metric;
use cairn_vector::hnsw::{BuildOptions, Builder};
use cairn_vector::search::Effort;
use data::{Data, Shape, open};

const ROWS: usize = 12_000;

#[test]
fn every_metric_on_every_shape() {
    for (shape, floor) in [(Shape::Clustered, 0.97), (Shape::Gaussian, 0.80), (Shape::Mixed, 0.90)] {
        let data = Data::new(shape, ROWS, 48, 60);
        for metric in Metric::ALL {
            let unit = data.unit(metric);
            assert_eq!(unit.verify(), [], "{shape:?} {metric:?}");
            for (k, width) in [(1, 64), (10, 96), (100, 256)] {
                let recall = data.recall(&unit, k, Effort::Width(width));
                println!("{shape:?} {metric:?} k={k} width={width}: {recall:.4}");
                assert!(recall >= floor, "{shape:?} {metric:?} k={k}: {recall}");
            }
        }
    }
}

#[test]
fn the_calibrated_width_reaches_the_recall_asked_for() {
    for shape in [Shape::Clustered, Shape::Gaussian, Shape::Mixed] {
        let data = Data::new(shape, ROWS, 32, 100);
        let unit = data.unit(Metric::L2);
        for recall in [0.9, 0.95, 0.99] {
            for k in [1, 10, 30, 100] {
                let got = data.recall(&unit, k, Effort::Recall(recall));
                println!("{shape:?} k={k} asked {recall}: {got:.4}");
                // Sampling error of 256 held-out rows and 100 queries.
                assert!(got >= recall - 0.025, "{shape:?} k={k} asked {recall}: {got}");
            }
        }
    }
}

#[test]
fn exact_search_misses_nothing_under_any_metric() {
    for shape in [Shape::Clustered, Shape::Gaussian, Shape::Mixed] {
        let data = Data::new(shape, 5_000, 20, 40);
        for metric in Metric::ALL {
            let unit = data.unit(metric);
            for k in [1, 10, 100] {
                assert_eq!(data.recall(&unit, k, Effort::Exact), 1.0, "{shape:?} {metric:?} {k}");
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
        let recall = data.recall(&unit, 10, Effort::Width(96));
        assert!(recall >= 0.95, "{metric:?}: {recall}");
    }
}
