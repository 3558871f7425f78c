//! Vectors with a seed, units over them, and the exact answers.
#![allow(dead_code, unreachable_pub, reason = "each test file takes what it needs")]

use std::convert::Infallible;

use bytes::Bytes;
use cairn_vector::hnsw::{BuildOptions, build};
use cairn_vector::search::{
    Effort, Filter, Hit, MemoryExact, Request, SearchError, SearchScratch, SearchStats, TopRows,
};
use cairn_vector::unit::Unit;
use cairn_vector::{Floats, MemoryRows, Metric, QueryDistance};
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

/// Row ids are not ordinals, nor in their order.
pub const ID_FACTOR: u64 = 7;

pub struct Data {
    pub dim: usize,
    pub base: Vec<f32>,
    pub queries: Vec<f32>,
}

/// How vectors are spread.
#[derive(Clone, Copy, Debug)]
pub enum Shape {
    /// Around a hundred centres.
    Clustered,
    /// The same, with nothing in between.
    Separated,
    /// One Gaussian: all distances are alike.
    Gaussian,
    /// Half of each, at different scales.
    Mixed,
    /// Around a plane of a dozen dimensions, as embeddings are.
    Flat,
    /// Around a surface of few dimensions, folded so often that rows near each other along it are far apart, and others near.
    Folded,
}

/// Dimensions of [`Shape::Flat`].
const PLANE: usize = 12;

/// Dimensions of the surface of [`Shape::Folded`], and how far rows are beside it.
const SURFACE: usize = 6;
const BESIDE: f32 = 0.1;

/// Numbers that do not depend on a random number crate: whether single queries find what they ask for does depend on them.
struct Numbers(u64);

impl Numbers {
    /// From 0 to 1 (splitmix64).
    fn uniform(&mut self) -> f32 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        ((mixed ^ (mixed >> 31)) >> 40) as f32 / (1 << 24) as f32
    }

    fn normal(&mut self) -> f32 {
        (0..12).map(|_| self.uniform()).sum::<f32>() - 6.0
    }
}

/// Each component is the sine of another mixture of the coordinates on the surface.
fn folded(count: usize, dim: usize, seed: u64) -> Vec<f32> {
    let mut shape = Numbers(99);
    let mixtures: Vec<f32> = (0..SURFACE * dim).map(|_| shape.normal()).collect();
    let phases: Vec<f32> = (0..dim).map(|_| shape.uniform() * std::f32::consts::TAU).collect();
    let mut numbers = Numbers(seed);
    let mut out = Vec::with_capacity(count * dim);
    for _ in 0..count {
        let place: [f32; SURFACE] = std::array::from_fn(|_| numbers.normal());
        for (c, phase) in phases.iter().enumerate() {
            let mixed: f32 = place.iter().enumerate().map(|(axis, at)| at * mixtures[axis * dim + c]).sum();
            out.push((mixed + phase).sin() + BESIDE * numbers.normal());
        }
    }
    out
}

fn normal(rng: &mut StdRng) -> f32 {
    (0..12).map(|_| rng.random::<f32>()).sum::<f32>() - 6.0
}

pub fn vectors(shape: Shape, count: usize, dim: usize, seed: u64) -> Vec<f32> {
    if let Shape::Folded = shape {
        return folded(count, dim, seed);
    }
    let mut centres = StdRng::seed_from_u64(99);
    let centres: Vec<f32> = (0..100 * dim).map(|_| normal(&mut centres)).collect();
    let mut rng = StdRng::seed_from_u64(seed);
    let mut place = [0.0; PLANE];
    let mut out = Vec::with_capacity(count * dim);
    for i in 0..count {
        let centre = rng.random_range(0..100) * dim;
        place.fill_with(|| normal(&mut rng));
        for c in 0..dim {
            let noise = normal(&mut rng);
            out.push(match shape {
                Shape::Clustered => centres[centre + c] + 0.5 * noise,
                Shape::Separated => 6.0 * centres[centre + c] + noise,
                Shape::Gaussian => noise,
                Shape::Mixed if i % 2 == 0 => 3.0 * (centres[centre + c] + 0.3 * noise) + 1.0,
                Shape::Mixed => noise,
                Shape::Flat => {
                    let plane = place.iter().enumerate().map(|(axis, at)| at * centres[axis * dim + c]);
                    plane.sum::<f32>() + 0.3 * noise + 2.0
                }
                Shape::Folded => unreachable!("drawn otherwise"),
            });
        }
    }
    out
}

impl Data {
    pub fn new(shape: Shape, count: usize, dim: usize, queries: usize) -> Self {
        Self { dim, base: vectors(shape, count, dim, 1), queries: vectors(shape, queries, dim, 2) }
    }

    pub fn len(&self) -> usize {
        self.base.len() / self.dim
    }

    pub fn row(&self, row_id: u64) -> &[f32] {
        MemoryRows::new(&self.base, self.dim).row((row_id / ID_FACTOR) as usize)
    }

    pub fn queries(&self) -> impl Iterator<Item = &[f32]> {
        self.queries.chunks_exact(self.dim)
    }

    pub fn build(&self, options: &BuildOptions) -> Vec<u8> {
        let ids: Vec<u64> = (0..self.len() as u64).map(|row| row * ID_FACTOR).collect();
        let rows = MemoryRows::new(&self.base, self.dim);
        build(&rows, &ids, options, &|| false).expect("a unit").into_bytes()
    }

    pub fn unit(&self, metric: Metric) -> Unit {
        open(self.build(&BuildOptions { threads: 2, ..BuildOptions::new(metric) }))
    }

    /// The exact answer among rows that match.
    pub fn nearest(
        &self,
        metric: Metric,
        query: &[f32],
        k: usize,
        matches: impl Fn(u64) -> bool,
    ) -> Vec<u64> {
        let distance = QueryDistance::new(metric, query);
        let mut top = TopRows::new(k);
        for id in (0..self.len() as u64).map(|row| row * ID_FACTOR).filter(|&id| matches(id)) {
            top.offer(distance.one(self.row(id).into()).expect("equal dimensions"), id);
        }
        top.into_sorted().iter().map(|row| row.row_id).collect()
    }

    pub fn search(
        &self,
        unit: &Unit,
        (query, k, effort): (&[f32], usize, Effort),
        filter: Option<Filter<'_>>,
        scratch: &mut SearchScratch,
    ) -> (Vec<Hit>, SearchStats) {
        self.try_search(unit, (query, k, effort), filter, scratch).expect("an answer")
    }

    pub fn try_search(
        &self,
        unit: &Unit,
        (query, k, effort): (&[f32], usize, Effort),
        filter: Option<Filter<'_>>,
        scratch: &mut SearchScratch,
    ) -> Result<(Vec<Hit>, SearchStats), SearchError<Infallible>> {
        let ids: Vec<u64> = (0..unit.len() as u32).map(|o| unit.row_id(o).unwrap_or(0)).collect();
        let vector = |ordinal: u32| {
            Floats::from(self.row(ids[ordinal as usize].min((self.len() as u64 - 1) * ID_FACTOR)))
        };
        let mut exact = MemoryExact::new(QueryDistance::new(unit.metric(), query), vector);
        let request = Request { query, k, effort, filter };
        let found = unit.search(&request, &mut exact, scratch)?;
        Ok((found.hits.to_vec(), found.stats))
    }

    /// The nearest 100 rows of every query.
    pub fn truth(&self, metric: Metric) -> Vec<Vec<u64>> {
        self.queries().map(|query| self.nearest(metric, query, 100, |_| true)).collect()
    }

    /// Recall of the `k` nearest over all queries, checking that each answer is full, ordered and without repeats.
    pub fn recall(&self, unit: &Unit, truth: &[Vec<u64>], k: usize, effort: Effort) -> f32 {
        let mut scratch = SearchScratch::default();
        let (mut found, mut wanted) = (0, 0);
        for (query, nearest) in self.queries().zip(truth) {
            let (hits, _) = self.search(unit, (query, k, effort), None, &mut scratch);
            check_answer(&hits, k.min(self.len()));
            let nearest = &nearest[..k.min(nearest.len())];
            wanted += nearest.len();
            found += hits.iter().filter(|hit| nearest.contains(&hit.row_id)).count();
        }
        found as f32 / wanted as f32
    }
}

pub fn check_answer(hits: &[Hit], len: usize) {
    assert_eq!(hits.len(), len, "rows in the answer");
    let ordered = |a: &Hit, b: &Hit| a.distance.total_cmp(&b.distance).then(a.row_id.cmp(&b.row_id)).is_lt();
    assert!(hits.windows(2).all(|pair| ordered(&pair[0], &pair[1])), "order, and each row once");
}

pub fn open(bytes: Vec<u8>) -> Unit {
    Unit::open(Bytes::from(bytes)).expect("a unit")
}

/// The bitmap of the rows of `unit` whose ids match.
pub fn bitmap(unit: &Unit, matches: impl Fn(u64) -> bool) -> Vec<u64> {
    let mut words = vec![0; unit.len().div_ceil(64)];
    for ordinal in 0..unit.len() as u32 {
        if unit.row_id(ordinal).is_some_and(&matches) {
            words[ordinal as usize / 64] |= 1 << (ordinal % 64);
        }
    }
    words
}
