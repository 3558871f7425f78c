//! The most that a build holds at one time.
//!
//! Owns: the sum of what grows with the rows, their length and the threads, step by step. Does not own: what the caller holds, its row ids
//! above all; the stacks of threads. `tests/memory.rs` compares the sum with what the allocator says: whoever makes a step hold
//! more changes its line here.
//!
//! With `n` rows whose codes have `s` bytes, after clustering every step holds `n · (s + 12)`: codes, norms, errors, and the order
//! the rows were read in; with sketches `72 n` more. Of long builds pruning is what counts: the 48 candidates of every row beside
//! the 64 neighbours that are named from both ends, 8 bytes each, `896 n`. In all `n · (s + 910)`, with sketches `n · (s + 982)`.

use super::build::CALIBRATED_ROWS;
use super::calibrate::{self, HELD_OUT, TRUTH_ROWS};
use super::candidates::Key;
use super::encode;
use super::graph::DEGREE;
use super::leaves::{FAN_OUT, LEAF_ROWS};
use super::options::{BuildOptions, Builder, CANDIDATES};
use super::{pivots, sketch, space};
use crate::distance::PANEL_ROWS;
use crate::quantize::{AXES, FIT_ROWS, Grid, WIDTH};

/// Lists of the results of pieces, locks of lists: of a row, and of the whole.
const SLACK_OF_ROW: u64 = 1;
const SLACK: u64 = 128 << 10;
/// What a thread has besides what is counted: heaps of a walk, ids and scores of the rows it compares.
const SLACK_OF_THREAD: u64 = 64 << 10;
/// A point of `hnsw_rs` without its vector and its neighbours in the lowest layer: itself, its lock and 16 lists, those above the lowest.
const POINT_BYTES: u64 = 704;
/// A neighbour of one: the counted pointer, and its place in a list that grows by doubling.
const EDGE_BYTES: u64 = 48;

const KEY: u64 = size_of::<Key>() as u64;
const NEIGHBOURS: u64 = 4 * DEGREE as u64;

/// Of a build of `rows` vectors of `dim` components, and of the file that is made of it.
pub(super) fn peak(rows: usize, dim: usize, options: &BuildOptions) -> u64 {
    Shape::new(rows, dim, options).peak(options)
}

/// What memory depends on.
struct Shape {
    rows: u64,
    dim: u64,
    /// Components of a point.
    point: u64,
    /// Bytes of a row of codes.
    stride: u64,
    threads: u64,
    /// Pivots before they are added to where none is near, and the most there are then.
    pivots_first: u64,
    pivots: u64,
    is_sketched: bool,
}

impl Shape {
    fn new(rows: usize, dim: usize, options: &BuildOptions) -> Self {
        let stride = Grid::stride_of(options.metric, dim);
        let pivots_first = pivots::count(rows.max(1), stride) as u64;
        Self {
            rows: rows as u64,
            dim: dim as u64,
            point: Grid::point_dim(options.metric, dim) as u64,
            stride: stride as u64,
            threads: options.threads.max(1) as u64,
            pivots_first,
            pivots: pivots_first * pivots::GROWTH + PANEL_ROWS as u64,
            is_sketched: rows >= CALIBRATED_ROWS && sketch::is_wanted(options.metric, stride),
        }
    }

    fn peak(&self, options: &BuildOptions) -> u64 {
        let most = self.fitting().max(self.clustering()).max(self.sketching());
        let most = most.max(self.joining()).max(self.pruning()).max(self.calibrating());
        let most = most.max(self.improving()).max(self.writing());
        let most = match options.builder {
            Builder::Partition => most,
            Builder::HnswRs => most.max(self.inserting(options.hnsw_rs.m.clamp(2, DEGREE / 2) as u64)),
        };
        most + self.rows * SLACK_OF_ROW + SLACK
    }

    /// Codes with norm and error.
    fn codes(&self) -> u64 {
        self.rows * (self.stride + 8)
    }

    /// Held from clustering on.
    fn clustered(&self) -> u64 {
        let axes = if self.is_sketched { WIDTH as u64 * self.stride } else { 0 };
        self.codes() + 4 * self.rows + 8 * self.pivots + axes
    }

    /// Held from the sketches on.
    fn held(&self) -> u64 {
        self.clustered() + self.sketches()
    }

    fn sketches(&self) -> u64 {
        if self.is_sketched { self.rows * (WIDTH as u64 + 8) } else { 0 }
    }

    /// Vectors that the threads read, and what they make of one.
    fn reading(&self) -> u64 {
        self.threads * (4 * encode::CHUNK_ROWS as u64 * self.dim + 16 * self.point)
    }

    /// Buffers of the threads that compare rows to `packed` ones.
    fn comparing(&self, packed: u64) -> u64 {
        self.threads * space::COMPARED_TOGETHER as u64 * (self.stride + 4 * packed + 8)
    }

    /// The pivots packed, as codes.
    fn seeds(&self) -> u64 {
        self.pivots * (self.stride + 8)
    }

    /// The bounds of each piece, and a sample; then all codes while vectors are read.
    fn fitting(&self) -> u64 {
        let pieces = self.rows.div_ceil(encode::CHUNK_ROWS as u64);
        let fitted = pieces * (8 * self.dim + 160) + (4 * FIT_ROWS as u64 + 64) * self.point;
        self.reading() + fitted.max(self.codes())
    }

    /// Means of the sample and their sums; then the nearest pivot of every row, told by each thread and brought together.
    fn clustering(&self) -> u64 {
        let sample = self.rows.min(self.pivots_first * pivots::SAMPLE_PER_PIVOT as u64);
        let choosing = 28 * sample + self.pivots * (3 * self.stride + 32);
        self.codes() + choosing.max(20 * self.rows + self.seeds()) + self.comparing(self.pivots)
    }

    /// A sample as floats and sums along the axes; then all projections as floats, and their codes.
    fn sketching(&self) -> u64 {
        if !self.is_sketched {
            return 0;
        }
        let (width, sample) = (WIDTH as u64, sketch::SAMPLE_ROWS as u64);
        let sums = AXES as u64 * (2 + (sketch::SAMPLE_ROWS / sketch::SAMPLE_CHUNK_ROWS) as u64);
        let axes = (4 * (sample + sums) + 96) * self.point;
        let reading = self.threads * (4 * encode::CHUNK_ROWS as u64 * width + SLACK_OF_THREAD);
        let projections =
            self.rows * (4 * width + 11) + self.sketches() + 4 * FIT_ROWS as u64 * width + reading;
        self.clustered() + axes.max(projections)
    }

    /// Leaves and candidates.
    fn joining(&self) -> u64 {
        let leaf = LEAF_ROWS as u64;
        let packed = self.threads * leaf * (self.stride + 4) + self.comparing(leaf);
        self.held() + self.rows * (1 + 4 * FAN_OUT as u64 + KEY * CANDIDATES as u64) + packed
    }

    /// Candidates beside neighbours named from both ends.
    fn pruning(&self) -> u64 {
        let keys = KEY * (CANDIDATES + 2 * DEGREE) as u64;
        self.held() + self.rows * (1 + keys) + self.threads * (2 * self.stride + 4096)
    }

    /// The graph, and the nearest rows of those held out in each piece.
    fn calibrating(&self) -> u64 {
        let (held_out, block) = (HELD_OUT as u64, calibrate::BLOCK_ROWS as u64);
        // A list that is cut to its nearest before each block grows to twice what it needs at most.
        let list = 8 * (TRUTH_ROWS as u64 + block).next_power_of_two();
        let near = self.rows.div_ceil(calibrate::CHUNK_ROWS as u64) * held_out * (list + 32);
        let queries = held_out * (4 * self.dim + 8 * self.point + 4 * self.stride + 512);
        let blocks = self.threads * (block * (self.stride + 4 * held_out + 8) + SLACK_OF_THREAD);
        self.held() + self.rows * (1 + NEIGHBOURS) + near + queries + blocks + self.seeds()
    }

    /// Two graphs, and neighbours named from both ends; of each thread which rows it has seen.
    fn improving(&self) -> u64 {
        let truth = HELD_OUT as u64 * (4 * self.dim + 4 * TRUTH_ROWS as u64 + 64);
        let seeds = self.seeds() + self.pivots * (WIDTH as u64 + 8);
        let lists = 2 + NEIGHBOURS + 2 * DEGREE as u64 * KEY + NEIGHBOURS.max(self.threads);
        let threads = self.threads * (2 * self.stride + SLACK_OF_THREAD);
        self.held() + self.rows * lists + truth + seeds + threads
    }

    /// All vectors, with the graph of `hnsw_rs` and the one made of it.
    fn inserting(&self, m: u64) -> u64 {
        let row = 1 + NEIGHBOURS + 4 * self.dim + POINT_BYTES + 2 * m * EDGE_BYTES;
        self.held() + self.rows * row + self.threads * (8 * self.dim + 8 * SLACK_OF_THREAD)
    }

    /// The parts of the unit, and the pieces of its file but for the codes, which become one as they are.
    fn writing(&self) -> u64 {
        let sketches = if self.is_sketched { self.rows * (WIDTH as u64 + 4) } else { 0 };
        let parts = self.held() + self.rows * (NEIGHBOURS + 12) + self.pivots * self.stride;
        let pieces = self.rows * (8 + NEIGHBOURS + 12) + sketches + 3 * self.pivots * self.stride;
        let checksums = (self.codes() + pieces) / (crate::unit::codec::BLOCK_BYTES as u64 / 16);
        parts + pieces + checksums
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::metric::Metric;

    #[test]
    fn long_builds_are_as_large_as_the_module_says() {
        let rows = 1_000_000;
        for (dim, row) in [(128, 128 + 910), (1_536, 1_536 + 982)] {
            let bytes = peak(rows, dim, &BuildOptions::new(Metric::L2)) as f64 / rows as f64;
            assert!((1.0..1.01).contains(&(bytes / f64::from(row))), "{dim}: {bytes} of a row, not {row}");
        }
    }
}
