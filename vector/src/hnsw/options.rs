//! How a unit is built, what that takes, how far it is, and why it may fail.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use super::build::CALIBRATED_ROWS;
use super::graph::DEGREE;
use super::{memory, sketch};
use crate::metric::Metric;
use crate::quantize::{self, Grid};
use crate::rows::RowsError;

/// Who chooses the edges of the graph.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Builder {
    /// All pairs in overlapping partitions; deterministic.
    #[default]
    Partition,
    /// The `hnsw_rs` crate, whose lowest layer is taken over. Not deterministic; holds all vectors in memory. The rest of the
    /// unit is made as with `Partition`.
    HnswRs,
}

/// How a unit is built.
#[derive(Clone, Debug)]
pub struct BuildOptions {
    /// What near means.
    pub metric: Metric,
    /// Who chooses the edges.
    pub builder: Builder,
    /// Recall of the nearest 10 that a walk of width 16 has to reach; below, the graph is improved once.
    pub target_recall: f32,
    /// Same seed, same rows: same unit.
    pub seed: u64,
    /// Threads; the unit does not depend on it.
    pub threads: usize,
    /// The build is refused when [`Estimate::memory_bytes`] is above.
    pub memory_limit_bytes: u64,
    /// `M` and `ef_construction` of `hnsw_rs`.
    pub hnsw_rs: HnswRsOptions,
    /// Told after each step.
    pub progress: Progress,
}

/// How far a build is. A clone looks at the same build.
#[derive(Clone, Debug, Default)]
pub struct Progress(Arc<AtomicU32>);

impl Progress {
    /// From 0.0 to 1.0, by what the steps usually take.
    #[must_use]
    pub fn done(&self) -> f32 {
        self.0.load(Ordering::Relaxed) as f32 / 100.0
    }

    pub(super) fn reached(&self, percent: u32) {
        self.0.store(percent, Ordering::Relaxed);
    }
}

/// What `hnsw_rs` is told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HnswRsOptions {
    /// Edges per row and layer, 2 to 16: the lowest layer has twice as many.
    pub m: usize,
    /// Width of the walk that finds them.
    pub ef_construction: usize,
}

impl BuildOptions {
    /// The defaults for a metric: one thread, no limit.
    #[must_use]
    pub fn new(metric: Metric) -> Self {
        Self {
            metric,
            builder: Builder::default(),
            target_recall: 0.95,
            seed: 0,
            threads: 1,
            memory_limit_bytes: u64::MAX,
            hnsw_rs: HnswRsOptions { m: 16, ef_construction: 200 },
            progress: Progress::default(),
        }
    }
}

/// Keys kept per row between comparing leaves and pruning.
pub(super) const CANDIDATES: usize = 48;

/// What a build takes.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Estimate {
    /// Largest memory at one time, that of making the file's bytes included; not the caller's row ids, nor what its reader uses.
    pub memory_bytes: u64,
    /// Length of the file.
    pub disk_bytes: u64,
    /// Wall time on a processor of 2023 with AVX-512; a few times more without.
    pub seconds: f64,
}

impl Estimate {
    /// For `rows` vectors of `dim` components.
    #[must_use]
    pub fn new(rows: usize, dim: usize, options: &BuildOptions) -> Self {
        let stride = Grid::stride_of(options.metric, dim) as u64;
        let memory_bytes = memory::peak(rows, dim, options);
        let (rows, threads) = (rows as u64, options.threads.max(1) as u64);
        let unit_row = stride + 4 * DEGREE as u64 + 4 + 4 + 8 + 4;
        let mut seconds = rows as f64 * (8e-6 + stride as f64 * 5e-8) / threads as f64;
        if options.builder == Builder::HnswRs {
            seconds += rows as f64 * (dim as f64 * 4e-6 + 4e-4) / threads as f64;
        }
        let mut disk_bytes = rows * unit_row + rows / 64 * stride + 4096;
        if rows >= CALIBRATED_ROWS as u64 && sketch::is_wanted(options.metric, stride as usize) {
            let short = quantize::WIDTH as u64;
            disk_bytes += rows * (short + 4) + short * stride;
            seconds += rows as f64 * stride as f64 * 6e-9 / threads as f64;
        }
        Self { memory_bytes, disk_bytes, seconds }
    }
}

/// Why no unit was built.
#[derive(Debug, thiserror::Error)]
pub enum BuildError {
    /// The caller asked to stop.
    #[error("the build was cancelled")]
    Cancelled,
    /// The rows could not be read.
    #[error("reading the rows: {0}")]
    Rows(#[source] RowsError),
    /// More memory than allowed: build smaller units.
    #[error("the build needs {needed} bytes of memory and may use {limit}")]
    MemoryLimit {
        /// What it would use.
        needed: u64,
        /// What it may use.
        limit: u64,
    },
    /// More rows than a unit can number, or not one id per row.
    #[error(
        "a unit has up to {} rows with one id each, not {rows} with {ids}",
        crate::search::pool::ROWS_MAX
    )]
    RowCount {
        /// Rows to read.
        rows: usize,
        /// Ids given.
        ids: usize,
    },
    /// No components, or more than a vector may have.
    #[error(transparent)]
    Dimension(#[from] crate::metric::VectorError),
    /// Two rows have the same id.
    #[error("row id {id} is given twice")]
    DuplicateId {
        /// That id.
        id: u64,
    },
}
