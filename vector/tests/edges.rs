//! Small, degenerate and refused input.

mod data;

use std::sync::atomic::{AtomicUsize, Ordering};

use cairn_vector::hnsw::{BuildError, BuildOptions, Estimate, build};
use cairn_vector::search::{Effort, SearchScratch};
use cairn_vector::{MemoryRows, Metric};
use data::{Data, ID_FACTOR, Shape, check_answer, open};

fn with_base(base: Vec<f32>, dim: usize) -> Data {
    let queries = base[..base.len().min(dim * 5)].to_vec();
    Data { dim, base, queries }
}

/// Builds under all metrics and asks for too few, all, and too many rows.
fn check(data: &Data) {
    for metric in Metric::ALL {
        let unit = data.unit(metric);
        assert_eq!(unit.len(), data.len());
        assert_eq!(unit.verify(), [], "{metric:?} of {}", data.len());
        let mut scratch = SearchScratch::default();
        let query = data.queries().next().map_or(vec![1.0; data.dim], <[f32]>::to_vec);
        for k in [0, 1, 10, data.len(), data.len() + 5] {
            for effort in [Effort::Recall(0.99), Effort::Width(10), Effort::Exact] {
                let (hits, _) = data.search(&unit, (&query, k, effort), None, &mut scratch);
                check_answer(&hits, k.min(data.len()));
            }
        }
    }
}

#[test]
fn few_rows() {
    for count in [0, 1, 2, 15, 16, 17, 33, 300, 1_025] {
        check(&Data::new(Shape::Clustered, count, 5, 1));
    }
}

#[test]
fn one_dimension_and_many() {
    check(&with_base((1..6_000).map(|i| i as f32).collect(), 1));
    check(&Data::new(Shape::Gaussian, 40, 4_096, 1));
}

#[test]
fn one_vector_ten_thousand_times() {
    check(&with_base([0.5, -2.0, 8.0].repeat(10_000), 3));
}

#[test]
fn all_in_a_line() {
    check(&with_base((1..5_000).flat_map(|i| [i as f32, 2.0 * i as f32, -(i as f32)]).collect(), 3));
}

#[test]
fn a_few_rows_far_outside_do_not_blur_the_others() {
    let mut data = Data::new(Shape::Clustered, 8_000, 16, 40);
    for row in [17, 4_000, 7_999] {
        data.base[row * 16..][..16].fill(1e6);
    }
    let (unit, truth) = (data.unit(Metric::L2), data.truth(Metric::L2));
    assert!(data.recall(&unit, &truth, 10, Effort::Width(64)) > 0.97);
    assert_eq!(data.recall(&unit, &truth, 10, Effort::Exact), 1.0);
}

#[test]
fn queries_far_outside_the_rows() {
    let mut data = Data::new(Shape::Clustered, 8_000, 16, 40);
    data.queries.iter_mut().for_each(|c| *c *= 50.0);
    for metric in Metric::ALL {
        let (unit, truth) = (data.unit(metric), data.truth(metric));
        assert_eq!(data.recall(&unit, &truth, 10, Effort::Exact), 1.0, "{metric:?}");
        let recall = data.recall(&unit, &truth, 10, Effort::Width(200));
        assert!(recall >= 0.8, "{metric:?}: {recall}");
    }
}

#[test]
fn queries_beyond_all_codes() {
    let mut data = Data::new(Shape::Clustered, 5_000, 8, 1);
    data.base.iter_mut().for_each(|c| *c *= 1e-21);
    data.queries = [vec![1e16; 8], vec![-1e15; 8]].concat();
    let unit = data.unit(Metric::L2);
    for query in data.queries() {
        for effort in [Effort::Recall(0.9), Effort::Exact] {
            let (hits, _) = data.search(&unit, (query, 10, effort), None, &mut SearchScratch::default());
            // All are equally far in f32: those with the lowest ids.
            check_answer(&hits, 10);
            let found: Vec<u64> = hits.iter().map(|hit| hit.row_id).collect();
            assert_eq!(found, data.nearest(Metric::L2, query, 10, |_| true));
        }
    }
}

#[test]
fn rows_are_found_by_id() {
    let data = Data::new(Shape::Clustered, 3_000, 8, 1);
    let unit = data.unit(Metric::L2);
    for ordinal in 0..unit.len() as u32 {
        assert_eq!(unit.row_id(ordinal).map(|id| unit.ordinal_of(id)), Some(Ok(Some(ordinal))));
    }
    let contains = |id| unit.ordinal_of(id).expect("an undamaged unit").is_some();
    assert!(contains(0) && !contains(1) && !contains(3_000 * ID_FACTOR));
    assert!(unit.row_ids().eq((0..3_000).map(|row| row * ID_FACTOR)));
}

#[test]
fn refusals() {
    let vectors = [1.0_f32; 20];
    let rows = MemoryRows::new(&vectors, 2);
    let options = BuildOptions::new(Metric::L2);
    let never = || false;
    let ids: Vec<u64> = (0..10).collect();
    assert!(matches!(build(&rows, &ids[1..], &options, &never), Err(BuildError::RowCount { .. })));
    assert!(matches!(build(&rows, &[3; 10], &options, &never), Err(BuildError::DuplicateId { id: 3 })));
    assert!(matches!(build(&rows, &ids, &options, &|| true), Err(BuildError::Cancelled)));
    let needed = Estimate::new(10, 2, &options).memory_bytes;
    let short = BuildOptions { memory_limit_bytes: needed - 1, ..options.clone() };
    assert!(matches!(build(&rows, &ids, &short, &never), Err(BuildError::MemoryLimit { .. })));
    let enough = BuildOptions { memory_limit_bytes: needed, ..options };
    assert!(build(&rows, &ids, &enough, &never).is_ok());
}

#[test]
fn a_build_can_be_cancelled_at_any_time() {
    let data = Data::new(Shape::Gaussian, 5_000, 8, 1);
    let rows = MemoryRows::new(&data.base, 8);
    let ids: Vec<u64> = (0..5_000).collect();
    let asked = AtomicUsize::new(0);
    let count = || asked.fetch_add(1, Ordering::Relaxed);
    build(&rows, &ids, &BuildOptions::new(Metric::L2), &|| count() == usize::MAX).expect("a unit");
    let total = asked.load(Ordering::Relaxed);
    assert!(total > 100, "asked {total} times");
    for stop in (0..total).step_by(total / 8) {
        asked.store(0, Ordering::Relaxed);
        let result = build(&rows, &ids, &BuildOptions::new(Metric::L2), &|| count() >= stop);
        assert!(matches!(result, Err(BuildError::Cancelled)), "at {stop} of {total}");
    }
}

#[test]
fn the_estimate_of_the_file_is_close() {
    for (shape, dim) in [(Shape::Clustered, 100), (Shape::Flat, 300)] {
        let data = Data::new(shape, 6_000, dim, 1);
        for metric in Metric::ALL {
            let options = BuildOptions { threads: 2, ..BuildOptions::new(metric) };
            let length = open(data.build(&options)).bytes().len() as f64;
            let estimate = Estimate::new(6_000, dim, &options).disk_bytes as f64;
            assert!((0.8..1.25).contains(&(estimate / length)), "{metric:?} {dim}: {estimate} for {length}");
        }
    }
}
