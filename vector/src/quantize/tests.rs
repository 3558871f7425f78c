//! The bounds hold for every pair, wherever rows and query lie.

use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

use super::{QueryCode, fit};
use crate::distance::{AlignedCodes, CodeRows, Floats, Kernels};
use crate::metric::Metric;
use crate::parallel::Work;
use crate::query_distance::QueryDistance;
use crate::rows::MemoryRows;

fn check(metric: Metric, dim: usize, rows: &[f32], queries: &[f32]) {
    let work = Work { threads: 1, cancelled: &|| false };
    let grid = fit(&MemoryRows::new(rows, dim), metric, &work).expect("a grid");
    let count = rows.len() / dim;
    let mut codes = AlignedCodes::zeroed(count * grid.stride());
    let (mut norms, mut errors) = (vec![], vec![]);
    for (row, codes) in rows.chunks_exact(dim).zip(codes.bytes_mut().chunks_exact_mut(grid.stride())) {
        let mut point = row.to_vec();
        point.resize(grid.low.len(), 0.0);
        let code = grid.encode(&mut point, codes);
        norms.push(code.norm);
        errors.push(code.error);
    }
    let code_rows = CodeRows::new(codes.bytes(), Floats::from(&norms).bytes(), grid.stride());
    let ids: Vec<u32> = (0..count as u32).collect();
    let (mut query, mut scores) = (QueryCode::default(), vec![0.0; count]);
    let norm_max = norms.iter().fold(0.0_f32, |max, &n| max.max(n));
    for vector in queries.chunks_exact(dim) {
        query.encode(&grid, norm_max, vector);
        Kernels::get().codes.scores(grid.code_sum(), &code_rows, &ids, &query.code, &mut scores);
        let mut exact = vec![0.0; count];
        QueryDistance::new(metric, vector).many(Floats::from(rows).bytes(), &mut exact);
        for ((&score, &error), &exact) in scores.iter().zip(&errors).zip(&exact) {
            let (low, high) = (query.lower_bound(score, error), query.upper_bound(score, error));
            assert!(low <= exact && exact <= high, "{metric:?} {dim}: {low} <= {exact} <= {high}");
            assert!(score <= query.score_beyond(exact, error), "{metric:?} {dim}: score {score} at {exact}");
        }
    }
}

#[test]
fn no_exact_distance_lies_outside_the_bounds() {
    let mut rng = StdRng::seed_from_u64(5);
    for metric in Metric::ALL {
        for dim in [1, 2, 3, 16, 33, 200, 1_500] {
            for (scale, shift) in [(1.0, 0.0), (1e-6, 0.0), (1e6, 3e6), (1.0, 100.0)] {
                let mut draw = |factor: f32| (rng.random_range(-1.0_f32..1.0) * factor + shift) * scale;
                let mut rows: Vec<f32> = (0..200 * dim).map(|_| draw(1.0)).collect();
                let mut queries: Vec<f32> = (0..3 * dim).map(|_| draw(1.0)).collect();
                queries.extend((0..2 * dim).map(|_| draw(30.0)));
                queries.extend_from_slice(&rows[..dim]);
                check(metric, dim, &rows, &queries);
                rows[..dim].iter_mut().for_each(|c| *c = 1e5 * scale);
                check(metric, dim, &rows, &queries);
            }
        }
    }
}

#[test]
fn bytes_are_met_exactly() {
    // Pictures: integers from 0 to 255, some components always 0.
    let mut rng = StdRng::seed_from_u64(6);
    let dim = 100;
    let row = |rng: &mut StdRng| {
        (0..dim).map(|i| if i < 30 { 0.0 } else { f32::from(rng.random::<u8>()) }).collect()
    };
    let rows: Vec<Vec<f32>> = (0..2_000).map(|_| row(&mut rng)).collect();
    let rows = rows.concat();
    let work = Work { threads: 1, cancelled: &|| false };
    let grid = fit(&MemoryRows::new(&rows, dim), Metric::L2, &work).expect("a grid");
    let mut codes = vec![0; grid.stride()];
    for row in rows.chunks_exact(dim) {
        assert_eq!(grid.encode(&mut row.to_vec(), &mut codes).error, 0.0);
    }
    check(Metric::L2, dim, &rows, &rows[..5 * dim]);
}
