//! The Rust half of `benches/vector_index.py`: builds and searches on request, one command per line of standard input, one JSON
//! object per line of standard output.
//!
//! ```text
//! load DIM BASE QUERIES TRUTH   files of f32, f32 and u32 (the nearest rows of each query), little-endian, without headers
//! build THREADS                 builds a unit          search WIDTH   searches it, one thread, k = 10
//! save FILE / use FILE          writes it / takes it   filter WIDTH P  searches rows where row % 1000 < P (thousandths)
//! exact P                       scans the same rows
//! open FILE DIM BASE QUERIES WIDTH   maps a written unit and its vectors, and searches it: the first command of a process
//! hnsw_rs build THREADS / hnsw_rs search WIDTH         the crate itself
//! scan                          exact kernel against a plain sum over the same bytes
//! ```
#![allow(clippy::print_stdout, reason = "it is the output")]

use std::error::Error;
use std::fmt::Write as _;
use std::hint::black_box;
use std::io::BufRead;
use std::time::Instant;

use cairn_vector::hnsw::{BuildOptions, build};
use cairn_vector::search::{Effort, Filter, MemoryExact, Request, SearchScratch};
use cairn_vector::unit::Unit;
use cairn_vector::{Floats, Kernels, MemoryRows, Metric, QueryDistance};
use hnsw_rs::prelude::{DistL2, Hnsw};

const K: usize = 10;

type Outcome<T> = Result<T, Box<dyn Error>>;

struct Bench {
    dim: usize,
    base: Vec<f32>,
    queries: Vec<f32>,
    truth: Vec<u32>,
    unit: Option<Unit>,
    hnsw: Option<Hnsw<'static, f32, DistL2>>,
}

fn main() -> Outcome<()> {
    let mut bench = Bench { dim: 1, base: vec![], queries: vec![], truth: vec![], unit: None, hnsw: None };
    for line in std::io::stdin().lock().lines() {
        let line = line?;
        let words: Vec<&str> = line.split_whitespace().collect();
        println!("{{{}}}", bench.run(&words)?);
    }
    Ok(())
}

impl Bench {
    fn run(&mut self, words: &[&str]) -> Outcome<String> {
        match words {
            ["load", dim, base, queries, truth] => self.load(dim.parse()?, base, queries, truth),
            ["build", threads] => self.build(threads.parse()?),
            ["search", width] => self.search(Effort::Width(width.parse()?), None),
            ["filter", width, part] => self.search(Effort::Width(width.parse()?), Some(part.parse()?)),
            ["exact", part] => self.search(Effort::Exact, Some(part.parse()?)),
            ["save", file] => {
                std::fs::write(file, self.unit()?.bytes())?;
                Ok("\"saved\":true".into())
            }
            ["use", file] => {
                self.take(std::fs::read(file)?)?;
                Ok("\"used\":true".into())
            }
            ["open", file, dim, base, queries, width] => {
                open([file, base], dim.parse()?, queries, width.parse()?)
            }
            ["hnsw_rs", "build", threads] => self.build_hnsw_rs(threads.parse()?),
            ["hnsw_rs", "search", width] => self.search_hnsw_rs(width.parse()?),
            ["scan"] => self.scan(),
            _ => Err(format!("unknown command {words:?}").into()),
        }
    }

    fn rows(&self) -> MemoryRows<'_> {
        MemoryRows::new(&self.base, self.dim)
    }

    fn unit(&self) -> Outcome<&Unit> {
        self.unit.as_ref().ok_or_else(|| "build first".into())
    }

    fn load(&mut self, dim: usize, base: &str, queries: &str, truth: &str) -> Outcome<String> {
        let floats = |file: &str| {
            Ok::<_, std::io::Error>(Floats::from_bytes(&std::fs::read(file)?).components().collect())
        };
        self.dim = dim;
        (self.base, self.queries) = (floats(base)?, floats(queries)?);
        self.truth = std::fs::read(truth)?.as_chunks().0.iter().map(|c| u32::from_le_bytes(*c)).collect();
        Ok(format!("\"rows\":{},\"kernels\":\"{}\"", self.base.len() / dim, Kernels::get().name))
    }

    fn build(&mut self, threads: usize) -> Outcome<String> {
        self.unit = None;
        let (start, cpu) = (Instant::now(), cpu_seconds());
        let rows = self.rows();
        let row_ids: Vec<u64> = (0..self.base.len() as u64 / self.dim as u64).collect();
        let options = BuildOptions { threads, ..BuildOptions::new(Metric::L2) };
        let parts = build(&rows, &row_ids, &options, &|| false)?;
        let (wall, cpu) = (start.elapsed().as_secs_f64(), cpu_seconds() - cpu);
        let mut points = String::new();
        for point in &parts.calibration().points {
            write!(points, "[{},{},{:.4},{:.0}],", point.k, point.ef, point.recall, point.scored)?;
        }
        let improved = parts.statistics().improved;
        let bytes = parts.into_bytes();
        let length = bytes.len();
        self.take(bytes)?;
        let points = points.trim_end_matches(',');
        Ok(format!(
            "\"wall\":{wall:.3},\"cpu\":{cpu:.3},\"bytes\":{length},\"improved\":{improved},\"calibration\":[{points}]"
        ))
    }

    /// Searches are measured over a unit known whole.
    fn take(&mut self, bytes: Vec<u8>) -> Outcome<()> {
        let unit = Unit::open(bytes.into())?;
        unit.check_blocks(usize::MAX)?;
        self.unit = Some(unit);
        Ok(())
    }

    fn search(&self, effort: Effort, part: Option<usize>) -> Outcome<String> {
        let (unit, rows) = (self.unit()?, self.rows());
        let mut words = vec![0_u64; unit.len().div_ceil(64)];
        let bits = (0..unit.len() as u32).filter(|&o| part.is_none_or(|p| matches(unit, o, p)));
        bits.for_each(|o| words[o as usize / 64] |= 1 << (o % 64));
        let filter = part.map(|_| Filter::new(&words));
        let by_ordinal: Vec<usize> =
            (0..unit.len() as u32).map(|o| unit.row_id(o).unwrap_or(0) as usize).collect();
        let mut scratch = SearchScratch::default();
        let depth = self.truth.len() / (self.queries.len() / self.dim);
        let (mut found, mut wanted, mut scored, mut exact, mut short) = (0, 0, 0, 0, 0);
        let mut answers = Vec::new();
        let (start, cpu) = (Instant::now(), cpu_seconds());
        for query in self.queries.chunks_exact(self.dim) {
            let distance = QueryDistance::new(Metric::L2, query);
            let mut vectors =
                MemoryExact::new(distance, |ordinal| Floats::from(rows.row(by_ordinal[ordinal as usize])));
            let request = Request { query, k: K, effort, filter };
            let answer = unit.search(&request, &mut vectors, &mut scratch)?;
            scored += answer.stats.code_distances;
            exact += answer.stats.exact_distances;
            short += usize::from(answer.hits.len() < K.min(filter.map_or(unit.len(), |f| f.matches())));
            answers.push(
                <[u32; K]>::try_from(
                    answer
                        .hits
                        .iter()
                        .map(|hit| hit.row_id as u32)
                        .chain(std::iter::repeat(u32::MAX))
                        .take(K)
                        .collect::<Vec<_>>(),
                )
                .unwrap_or([0; K]),
            );
        }
        let (wall, cpu) = (start.elapsed().as_secs_f64(), cpu_seconds() - cpu);
        let (mut halves, mut nothing) = (0, 0);
        for (answer, nearest) in answers.iter().zip(self.truth.chunks_exact(depth)) {
            let nearest: Vec<u32> = nearest
                .iter()
                .copied()
                .filter(|&row| part.is_none_or(|p| row as usize % 1000 < p))
                .take(K)
                .collect();
            wanted += nearest.len();
            let hits = nearest.iter().filter(|row| answer.contains(row)).count();
            halves += usize::from(2 * hits < nearest.len());
            nothing += usize::from(hits == 0 && !nearest.is_empty());
            found += hits;
        }
        let count = answers.len() as f64;
        Ok(format!(
            "\"qps\":{:.0},\"cpu_us\":{:.2},\"recall\":{:.5},\"scored\":{:.0},\"exact\":{:.1},\"short\":{short},\
             \"below_half\":{halves},\"nothing\":{nothing}",
            count / wall,
            cpu / count * 1e6,
            found as f64 / wanted as f64,
            scored as f64 / count,
            exact as f64 / count
        ))
    }

    fn build_hnsw_rs(&mut self, threads: usize) -> Outcome<String> {
        let (start, cpu) = (Instant::now(), cpu_seconds());
        let count = self.base.len() / self.dim;
        let hnsw = Hnsw::new(16, count, 16, 200, DistL2 {});
        let rows: Vec<(&[f32], usize)> = self.base.chunks_exact(self.dim).zip(0..).collect();
        std::thread::scope(|scope| {
            for part in rows.chunks(count.div_ceil(threads)) {
                let hnsw = &hnsw;
                scope.spawn(move || part.iter().for_each(|&row| hnsw.insert(row)));
            }
        });
        self.hnsw = Some(hnsw);
        Ok(format!("\"wall\":{:.3},\"cpu\":{:.3}", start.elapsed().as_secs_f64(), cpu_seconds() - cpu))
    }

    fn search_hnsw_rs(&self, width: usize) -> Outcome<String> {
        let hnsw = self.hnsw.as_ref().ok_or("build first")?;
        let (start, cpu) = (Instant::now(), cpu_seconds());
        let answers: Vec<_> = self.queries.chunks_exact(self.dim).map(|q| hnsw.search(q, K, width)).collect();
        let (wall, cpu) = (start.elapsed().as_secs_f64(), cpu_seconds() - cpu);
        let depth = self.truth.len() / answers.len();
        let found: usize = (answers.iter().zip(self.truth.chunks_exact(depth)))
            .map(|(answer, nearest)| {
                answer.iter().filter(|n| nearest[..K].contains(&(n.d_id as u32))).count()
            })
            .sum();
        let count = answers.len() as f64;
        Ok(format!(
            "\"qps\":{:.0},\"cpu_us\":{:.2},\"recall\":{:.5}",
            count / wall,
            cpu / count * 1e6,
            found as f64 / count / K as f64
        ))
    }

    /// Bytes per second of the exact kernel, and of a plain sum, alternating; medians.
    fn scan(&self) -> Outcome<String> {
        let rows = self.base.len() / self.dim;
        let bytes = Floats::from(&self.base).bytes();
        let query = QueryDistance::new(Metric::L2, &self.queries[..self.dim]);
        let mut out = vec![0.0; rows];
        let (mut kernel, mut sum) = (vec![], vec![]);
        for _ in 0..15 {
            let start = Instant::now();
            black_box(sum_of(bytes));
            sum.push(start.elapsed().as_secs_f64());
            let start = Instant::now();
            query.many(bytes, &mut out);
            black_box(&out);
            kernel.push(start.elapsed().as_secs_f64());
        }
        let rate = |times: &mut Vec<f64>| {
            times.sort_by(f64::total_cmp);
            bytes.len() as f64 / times[times.len() / 2] / 1e9
        };
        let (kernel, sum) = (rate(&mut kernel), rate(&mut sum));
        Ok(format!("\"kernel_gb_s\":{kernel:.2},\"sum_gb_s\":{sum:.2},\"ratio\":{:.3}", kernel / sum))
    }
}

/// Components summed at a time by [`add_up`]: eight registers of sixteen f32.
const SUMMED: usize = 128;

/// What reading the bytes once takes at least: their sum as f32, on the widest registers there are.
fn sum_of(bytes: &[u8]) -> f32 {
    #[cfg(target_arch = "x86_64")]
    #[expect(unsafe_code, reason = "compiled for instructions that are there")]
    {
        #[target_feature(enable = "avx512f")]
        fn avx512(bytes: &[u8]) -> f32 {
            add_up(bytes)
        }
        #[target_feature(enable = "avx2")]
        fn avx2(bytes: &[u8]) -> f32 {
            add_up(bytes)
        }
        if is_x86_feature_detected!("avx512f") {
            // SAFETY: it was detected.
            return unsafe { avx512(bytes) };
        }
        if is_x86_feature_detected!("avx2") {
            // SAFETY: it was detected.
            return unsafe { avx2(bytes) };
        }
    }
    add_up(bytes)
}

#[inline(always)]
fn add_up(bytes: &[u8]) -> f32 {
    let mut sums = [0.0_f32; SUMMED];
    for block in bytes.as_chunks::<{ SUMMED * 4 }>().0 {
        for (sum, component) in sums.iter_mut().zip(block.as_chunks().0) {
            *sum += f32::from_le_bytes(*component);
        }
    }
    sums.iter().sum()
}

fn matches(unit: &Unit, ordinal: u32, part: usize) -> bool {
    unit.row_id(ordinal).is_some_and(|id| (id as usize) % 1000 < part)
}

/// Opens a mapped file and searches it: the first search, then all queries twice before the blocks no search used are
/// checked, and once after. Times of single searches are medians over the queries.
fn open([file, base]: [&str; 2], dim: usize, queries: &str, width: usize) -> Outcome<String> {
    let queries: Vec<f32> = Floats::from_bytes(&std::fs::read(queries)?).components().collect();
    let vectors = map(base)?;
    let start = Instant::now();
    let unit = Unit::open(map(file)?)?;
    let open = start.elapsed().as_secs_f64();
    let mut scratch = SearchScratch::default();
    let mut search = |query: &[f32]| {
        let start = Instant::now();
        let vector = |ordinal| {
            let row = unit.row_id(ordinal).unwrap_or(0) as usize;
            Floats::from_bytes(&vectors[row * dim * 4..][..dim * 4])
        };
        let mut exact = MemoryExact::new(QueryDistance::new(Metric::L2, query), vector);
        let request = Request { query, k: K, effort: Effort::Width(width), filter: None };
        unit.search(&request, &mut exact, &mut scratch)?;
        Ok::<_, Box<dyn Error>>(start.elapsed().as_secs_f64())
    };
    let first = search(&queries[..dim])?;
    let mut pass = || {
        let mut times = queries.chunks_exact(dim).map(&mut search).collect::<Outcome<Vec<f64>>>()?;
        times.sort_by(f64::total_cmp);
        Ok::<_, Box<dyn Error>>(times[times.len() / 2] * 1e6)
    };
    let (new, asking) = (pass()?, pass()?);
    let start = Instant::now();
    unit.check_blocks(usize::MAX)?;
    let check = start.elapsed().as_secs_f64() * 1e3;
    Ok(format!(
        "\"open_ms\":{:.4},\"first_search_ms\":{:.3},\"next_us\":{new:.1},\"asking_us\":{asking:.1},\"check_ms\":{check:.1},\
         \"checked_us\":{:.1},\"bytes\":{}",
        open * 1e3,
        first * 1e3,
        pass()?,
        unit.bytes().len()
    ))
}

/// A file in place, as the database has it.
fn map(file: &str) -> Outcome<bytes::Bytes> {
    let file = std::fs::File::open(file)?;
    #[expect(unsafe_code, reason = "the bench wrote the file and nobody changes it")]
    // SAFETY: the mapping is read-only and lives in the returned owner.
    let mapped = unsafe { memmap2::Mmap::map(&file)? };
    Ok(bytes::Bytes::from_owner(mapped))
}

/// Processor time of this process.
fn cpu_seconds() -> f64 {
    cpu_time::ProcessTime::now().as_duration().as_secs_f64()
}
