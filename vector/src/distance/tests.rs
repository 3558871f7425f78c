//! All instruction sets of this machine give the same bits, at any length, alignment and magnitude.

use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

use super::codes::AlignedCodes;
use super::{CodeQuery, CodeRows, CodeSum, Floats, Kernels, PANEL_ROWS, Panel, Sum};

const SUMS: [Sum; 3] = [Sum::SquaredDifference, Sum::Product, Sum::AbsoluteDifference];

/// Draws one component.
type Draw = fn(&mut StdRng) -> f32;

const DRAWS: [(&str, Draw); 6] = [
    ("unit", |rng| rng.random_range(-1.0..1.0)),
    ("wide", |rng| rng.random_range(-1.0_f32..1.0) * 10_f32.powi(rng.random_range(-30..30))),
    ("subnormal", |rng| f32::from_bits(rng.random_range(0..0x0080_0000))),
    ("huge", |rng| if rng.random() { 1e38 } else { -1e38 }),
    ("signed zero", |rng| if rng.random() { 0.0 } else { -0.0 }),
    ("any bits", |rng| f32::from_bits(rng.random())),
];

fn unaligned(vector: &[f32], offset: usize) -> Vec<u8> {
    let mut bytes = vec![0; offset];
    bytes.extend_from_slice(Floats::from(vector).bytes());
    bytes
}

/// The canonical order of the module's documentation, word by word.
fn by_definition(sum: Sum, a: &[f32], b: &[f32]) -> f32 {
    let mut lanes = [0.0_f32; 32];
    for (i, (x, y)) in a.iter().zip(b).enumerate() {
        let difference = x - y;
        lanes[i % 32] += match sum {
            Sum::SquaredDifference => difference * difference,
            Sum::Product => x * y,
            Sum::AbsoluteDifference => difference.abs(),
        };
    }
    for half in [16, 8, 4, 2, 1] {
        for i in 0..half {
            lanes[i] += lanes[i + half];
        }
    }
    if lanes[0].is_nan() { f32::NAN } else { lanes[0] }
}

#[test]
fn sums_have_the_same_bits_everywhere() {
    let mut rng = StdRng::seed_from_u64(1);
    for dim in (0..=70).chain([127, 128, 784, 1536, 16_000]) {
        for (name, draw) in DRAWS {
            let a: Vec<f32> = (0..dim).map(|_| draw(&mut rng)).collect();
            let b: Vec<f32> = (0..dim).map(|_| draw(&mut rng)).collect();
            let bytes = unaligned(&b, dim % 4);
            let b_bytes = Floats::from_bytes(&bytes[dim % 4..]);
            for sum in SUMS {
                let expected = by_definition(sum, &a, &b).to_bits();
                for kernels in Kernels::available() {
                    let got = kernels.floats.pair(sum, (&a).into(), b_bytes).to_bits();
                    assert_eq!(got, expected, "{} {sum:?} of {dim} {name}", kernels.name);
                }
            }
        }
    }
}

#[test]
fn one_to_many_gives_the_bits_of_pairs() {
    let mut rng = StdRng::seed_from_u64(2);
    for dim in [1, 3, 31, 32, 33, 64, 100, 784] {
        let query: Vec<f32> = (0..dim).map(|_| rng.random_range(-1.0..1.0)).collect();
        let rows: Vec<f32> = (0..dim * 7).map(|_| rng.random_range(-1.0..1.0)).collect();
        let bytes = unaligned(&rows, 1);
        for kernels in Kernels::available() {
            let floats = &kernels.floats;
            let mut norms = [[0.0; 2]; 7];
            floats.many_with_norm((&query).into(), &bytes[1..], &mut norms);
            for sum in SUMS {
                let mut out = [0.0; 7];
                floats.many(sum, (&query).into(), &bytes[1..], &mut out);
                for (i, row) in rows.chunks(dim).enumerate() {
                    assert_eq!(out[i].to_bits(), floats.pair(sum, (&query).into(), row.into()).to_bits());
                    assert_eq!(norms[i][0], floats.pair(Sum::Product, (&query).into(), row.into()));
                    assert_eq!(norms[i][1], floats.pair(Sum::Product, row.into(), row.into()));
                }
            }
        }
    }
}

fn code_sum(sum: CodeSum, row: &[u8], query: &[u8]) -> i32 {
    row.iter()
        .zip(query)
        .map(|(&r, &q)| match sum {
            CodeSum::Product => i32::from(r) * i32::from(q.cast_signed()),
            CodeSum::AbsoluteDifference => i32::from(r.abs_diff(q)),
        })
        .sum()
}

#[test]
fn queries_are_rounded_to_the_same_codes_everywhere() {
    let mut rng = StdRng::seed_from_u64(4);
    for dim in (1..=40).chain([127, 128, 784, 1536]) {
        let mut draw =
            |scale: f32| -> Vec<f32> { (0..dim).map(|_| rng.random_range(-1.0_f32..1.0) * scale).collect() };
        let (point, low) = (draw(300.0), draw(10.0));
        for unit in [0.01, 1.0, 2.5] {
            let sets = Kernels::available().into_iter().map(|kernels| {
                let mut codes = vec![7; dim + 3];
                let rounded = kernels.codes.round(&point, &low, 3.5, unit, &mut codes);
                (codes, rounded, kernels.codes.farthest(&point, &low, 3.5).to_bits())
            });
            let sets: Vec<_> = sets.collect();
            assert!(sets.windows(2).all(|pair| pair[0] == pair[1]), "{dim} by {unit}");
            let (codes, rounded, farthest) = &sets[0];
            let centred = |i: usize| point[i] - (low[i] + 3.5);
            for (i, &code) in codes.iter().enumerate() {
                let expected = (i < dim).then(|| (centred(i) / unit).clamp(-128.0, 127.0));
                let off = expected.map_or(0.0, |e| (e - f32::from(code.cast_signed())).abs());
                assert!(if i < dim { off <= 0.501 } else { code == 7 }, "{dim} by {unit}, component {i}");
            }
            assert_eq!(rounded.sum, codes[..dim].iter().map(|&c| i32::from(c.cast_signed())).sum::<i32>());
            let largest = (0..dim).map(|i| centred(i).abs()).fold(0.0_f32, f32::max);
            assert_eq!(*farthest, largest.to_bits());
        }
    }
}

#[test]
fn code_sums_are_exact_integers_everywhere() {
    let mut rng = StdRng::seed_from_u64(3);
    for stride in [64, 128, 192, 832, 16_000] {
        for extreme in [false, true] {
            let rows = 70;
            let mut draw =
                |_| if extreme { [0, 127, 128, 255][rng.random_range(0..4)] } else { rng.random() };
            let codes: Vec<u8> = (0..rows * stride).map(&mut draw).collect();
            let query: Vec<u8> = (0..stride).map(&mut draw).collect();
            check_codes(&codes, &query, stride);
        }
    }
}

fn check_codes(codes: &[u8], query: &[u8], stride: usize) {
    let count = codes.len() / stride;
    let norms: Vec<u8> = (0..count).flat_map(|i| (i as f32).to_le_bytes()).collect();
    let rows = CodeRows::new(codes, &norms, stride);
    let mut aligned = AlignedCodes::zeroed(stride);
    aligned.bytes_mut().copy_from_slice(query);
    let query = CodeQuery { codes: aligned, bias: 17, ratio: -0.5 };
    let width = count.div_ceil(PANEL_ROWS) * PANEL_ROWS;
    let mut panel = vec![0; width * stride];
    (0..count).for_each(|row| Panel::put(&mut panel, row, &codes[row * stride..][..stride]));
    for sum in [CodeSum::Product, CodeSum::AbsoluteDifference] {
        let rising: Vec<u32> = (0..count as u32).collect();
        let falling: Vec<u32> = rising.iter().rev().copied().collect();
        for (kernels, ids) in Kernels::available().into_iter().flat_map(|k| [(k, &rising), (k, &falling)]) {
            for taken in [0, 1, 3, 4, 5, 9, 16, 33, count] {
                let mut scores = vec![0.0; taken];
                kernels.codes.scores(sum, &rows, &ids[..taken], &query, &mut scores);
                for (&id, &score) in ids.iter().zip(&scores) {
                    let expected = code_sum(sum, rows.row(id), query.codes.bytes());
                    assert_eq!(score, query.score(id as f32, expected), "{}", kernels.name);
                }
            }
            let queries = &codes[..5 * stride];
            let mut sums = vec![0; 5 * width];
            kernels.codes.panel(sum, &Panel::new(&panel, stride), queries, 5, &mut sums);
            for (q, sums) in queries.chunks(stride).zip(sums.chunks(width)) {
                for (row, &got) in codes.chunks(stride).zip(sums) {
                    assert_eq!(got, code_sum(sum, row, q), "{} {sum:?}", kernels.name);
                }
            }
        }
    }
}
