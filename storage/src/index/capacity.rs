//! How many rows one build may take, and what it takes: pure functions of a definition.
//!
//! An eighth of the limit is set aside for what each thread holds, so that where units are cut does not depend on the
//! machine; threads that do not fit into what is left are not begun.

use cairn_vector::hnsw::{BuildOptions, Builder, HnswRsOptions};

use super::{IndexBuilder, IndexDef};
use crate::schema::{ColumnType, TableDef};

/// Memory of a build when the index names no limit.
const MEMORY_LIMIT_BYTES: u64 = 2 << 30;
/// A limit that a build of this many rows does not keep is refused: a search goes through every unit.
pub(super) const UNIT_ROWS_MIN: u64 = 4_096;
/// Rows a unit can number.
const UNIT_ROWS_MAX: u64 = i32::MAX as u64;
/// Memory per row besides the build itself: its row id, and its bits in bitmaps of positions.
const ROW_BYTES: u64 = 8 + 1;

/// What building an index takes. The vectors themselves are read where they stand.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Estimate {
    /// Units it will have, built one after the other.
    pub units: u64,
    /// Largest memory of one of these builds.
    pub memory_bytes: u64,
    /// Length of all units' files.
    pub disk_bytes: u64,
    /// Wall time of all builds on a processor of 2023 with AVX-512; a few times more without.
    pub seconds: f64,
}

/// What an index over `rows` rows of `def` would take.
#[must_use]
pub fn estimate(def: &TableDef, index: &IndexDef, rows: u64) -> Estimate {
    let units = rows.div_ceil(rows_max(def, index)).max(1);
    let options = options(def, index, rows.div_ceil(units));
    let whole = cairn_vector::hnsw::Estimate::new(count(rows), dim(def, index), &options);
    Estimate {
        units,
        memory_bytes: memory(def, index, rows.div_ceil(units), options.threads),
        disk_bytes: whole.disk_bytes,
        seconds: whole.seconds,
    }
}

/// The least memory limit an index can have, in whole MiB: below, it would be cut into units not worth having.
#[must_use]
pub fn least_memory_limit(def: &TableDef, index: &IndexDef) -> u64 {
    let needed = memory(def, index, UNIT_ROWS_MIN, 1);
    (needed + needed / 7 + 1).next_multiple_of(1 << 20)
}

/// Rows that one unit may have, deleted ones not counted.
pub(super) fn rows_max(def: &TableDef, index: &IndexDef) -> u64 {
    let limit = limit(def, index);
    let fits = |rows: u64| memory(def, index, rows, 1) <= limit - limit / 8;
    let (mut fitting, mut beyond) = (UNIT_ROWS_MIN, UNIT_ROWS_MAX);
    while beyond - fitting > 1 {
        let middle = fitting + (beyond - fitting) / 2;
        if fits(middle) { fitting = middle } else { beyond = middle }
    }
    fitting
}

/// How a unit of `rows` rows is built.
pub(super) fn options(def: &TableDef, index: &IndexDef, rows: u64) -> BuildOptions {
    let limit = limit(def, index);
    let available = std::thread::available_parallelism().map_or(1, usize::from);
    let fits = |threads: &usize| memory(def, index, rows, *threads) <= limit;
    BuildOptions {
        builder: builder(index),
        target_recall: f32::from(index.target_recall_permille) / 1000.0,
        threads: (1..=available).rev().find(fits).unwrap_or(1),
        memory_limit_bytes: limit,
        hnsw_rs: HnswRsOptions { m: index.m.into(), ef_construction: index.ef_construction.into() },
        ..BuildOptions::new(index.metric.metric())
    }
}

/// What the index allows. A definition made before there was a least limit is taken as that.
fn limit(def: &TableDef, index: &IndexDef) -> u64 {
    index.memory_limit_bytes.unwrap_or(MEMORY_LIMIT_BYTES).max(least_memory_limit(def, index))
}

/// Memory of one build, the bytes of its file included.
fn memory(def: &TableDef, index: &IndexDef, rows: u64, threads: usize) -> u64 {
    let options =
        BuildOptions { threads, builder: builder(index), ..BuildOptions::new(index.metric.metric()) };
    let estimate = cairn_vector::hnsw::Estimate::new(count(rows), dim(def, index), &options);
    estimate.memory_bytes + rows * ROW_BYTES
}

fn builder(index: &IndexDef) -> Builder {
    match index.builder {
        IndexBuilder::Partition => Builder::Partition,
        IndexBuilder::HnswRs => Builder::HnswRs,
    }
}

fn dim(def: &TableDef, index: &IndexDef) -> usize {
    def.columns.iter().find(|c| c.id == index.column).map_or(0, |c| match c.column_type {
        ColumnType::Vector(dim) => usize::from(dim),
        _ => 0,
    })
}

fn count(rows: u64) -> usize {
    usize::try_from(rows).unwrap_or(usize::MAX)
}
