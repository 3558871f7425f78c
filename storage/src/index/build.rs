//! Building units: the job behind CREATE INDEX, REINDEX and the upkeep after checkpoints.
//!
//! Order, each step durable before the next: (1) the vectors of a snapshot's segments are read where they stand and the unit
//! is built in memory; (2) the object is written; (3) a commit names it and the units it replaces. A crash before (3)
//! leaves an object nothing names; whatever commits meanwhile, rows deleted since are told from the snapshot of each
//! search. Nothing waits for a build, and a build that fails changes nothing.

use std::collections::HashSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use bytes::Bytes;
use cairn_vector::hnsw::{BuildError, BuildOptions, Builder, HnswRsOptions, build};
use cairn_vector::{Rows, RowsError};
use object_store::path::Path;
use object_store::{ObjectStoreExt, PutMode, PutOptions, PutPayload};
use xxhash_rust::xxh3::xxh3_128;

use super::exact::Source;
use super::policy::{self, BuildPlan};
use super::{IndexBuilder, IndexDef, UnitMeta, UnitSegment};
use crate::database::Database;
use crate::error::{Error, ErrorKind, Result};
use crate::id::{ObjectId, TableId};
use crate::schema::{ColumnType, TableDef};
use crate::transaction::CommitOptions;
use crate::version::TableSnapshot;
use crate::wal::{CatalogEdit, CommitInfo};

/// Memory of a build when the index names no limit.
const MEMORY_LIMIT_BYTES: u64 = 2 << 30;
/// A commit of a unit that meets other catalog changes is tried again this often.
const ATTEMPTS: u32 = 8;

/// Builds units until no index of `table` (of any table when absent) wants one; returns how many were built.
///
/// # Errors
/// The first build's that failed; units built before stay.
pub(crate) async fn run(
    database: &Arc<Database>,
    table: Option<TableId>,
    lost: &HashSet<ObjectId>,
    cancelled: &Arc<AtomicBool>,
) -> Result<u64> {
    let mut built = 0;
    let mut lost = lost.clone();
    retire(database, table).await?;
    while let Some((snapshot, plan)) = next(database, table, &lost) {
        let parameters = format!("table={} index={}", snapshot.def().qualified_name(), plan.index.name);
        let job = database.jobs.begin("build_index", parameters);
        let result = one(database, &snapshot, &plan, cancelled).await;
        if let Ok(unit) = &result {
            database.jobs.progress(job, 1.0, unit.rows, unit.bytes);
        }
        database.jobs.end(job, &result);
        result?;
        lost.retain(|unit| !plan.replaces.contains(unit));
        built += 1;
    }
    Ok(built)
}

fn next(
    database: &Database,
    table: Option<TableId>,
    lost: &HashSet<ObjectId>,
) -> Option<(TableSnapshot, BuildPlan)> {
    let snapshot = database.snapshot();
    let wanted = snapshot.state().live_tables().filter(|t| table.is_none_or(|id| id == t.def.id));
    wanted.into_iter().find_map(|state| Some((snapshot.table(state.def.id)?, policy::next(state, lost)?)))
}

/// Drops units none of whose segments is there any more: after TRUNCATE nothing takes their place.
async fn retire(database: &Arc<Database>, table: Option<TableId>) -> Result<()> {
    let snapshot = database.snapshot();
    for state in snapshot.state().live_tables().filter(|t| table.is_none_or(|id| id == t.def.id)) {
        let present = |id: ObjectId| state.segments.iter().any(|s| s.meta.id == id && s.dropped_at.is_none());
        let gone = state.units.iter().filter(|unit| !unit.segments.iter().any(|s| present(s.id)));
        let units: Vec<ObjectId> = gone.map(|unit| unit.id).collect();
        if units.is_empty() {
            continue;
        }
        let transaction = database.begin(&snapshot)?;
        transaction.edit(CatalogEdit::DropUnits { table: state.def.id, units: units.clone() })?;
        match transaction.commit(CommitOptions::default()).await {
            Ok(_) => remove(database, state.def.id, &units).await,
            // The next pass finds them again.
            Err(error) if error.kind() == ErrorKind::Conflict => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

async fn one(
    database: &Arc<Database>,
    table: &TableSnapshot,
    plan: &BuildPlan,
    cancelled: &Arc<AtomicBool>,
) -> Result<Arc<UnitMeta>> {
    let begun = std::time::Instant::now();
    let (rows, row_ids, segments) = gather(table, plan).await?;
    let options = options(&plan.index);
    let cancel = Arc::clone(cancelled);
    let (parts, bytes) = crate::checkpoint::blocking(move || {
        let parts =
            build(&rows, &row_ids, &options, &|| cancel.load(Ordering::Relaxed)).map_err(build_error)?;
        let bytes = parts.to_bytes();
        Ok((parts, Bytes::from(bytes)))
    })
    .await?;
    let writer = database.writer()?;
    let width = parts.calibration().width(10, f32::from(plan.index.target_recall_permille) / 1000.0);
    let meta = Arc::new(UnitMeta {
        id: writer.ids.next(),
        table: table.def().id,
        index: plan.index.id,
        segments,
        rows: parts.len() as u64,
        bytes: bytes.len() as u64,
        xxh3: format!("{:032x}", xxh3_128(&bytes)),
        replaces: plan.replaces.clone(),
        build_ms: begun.elapsed().as_millis() as u64,
        recall_permille: permille(parts.calibration().recall(10, u32::try_from(width).unwrap_or(u32::MAX))),
    });
    let put = PutOptions { mode: PutMode::Create, ..Default::default() };
    let store = database.object_store();
    store.put_opts(&Path::from(meta.path()), PutPayload::from_bytes(bytes), put).await?;
    if let Err(error) = commit(database, &meta).await {
        if error.kind() != ErrorKind::OutcomeUnknown {
            remove(database, meta.table, &[meta.id]).await;
        }
        return Err(error);
    }
    remove(database, meta.table, &meta.replaces).await;
    Ok(meta)
}

fn permille(recall: f32) -> u16 {
    (recall.clamp(0.0, 1.0) * 1000.0) as u16
}

/// What building an index takes; memory without the vectors themselves, which are read where they stand.
pub use cairn_vector::hnsw::Estimate;

/// What one unit over `rows` rows of `def` would take.
#[must_use]
pub fn estimate(def: &TableDef, index: &IndexDef, rows: u64) -> Estimate {
    let dim = def.columns.iter().find(|c| c.id == index.column).map_or(0, |c| match c.column_type {
        ColumnType::Vector(dim) => usize::from(dim),
        _ => 0,
    });
    Estimate::new(usize::try_from(rows).unwrap_or(usize::MAX), dim, &options(index))
}

fn options(index: &IndexDef) -> BuildOptions {
    BuildOptions {
        builder: match index.builder {
            IndexBuilder::Partition => Builder::Partition,
            IndexBuilder::HnswRs => Builder::HnswRs,
        },
        target_recall: f32::from(index.target_recall_permille) / 1000.0,
        threads: std::thread::available_parallelism().map_or(1, usize::from),
        memory_limit_bytes: index.memory_limit_bytes.unwrap_or(MEMORY_LIMIT_BYTES),
        hnsw_rs: HnswRsOptions { m: index.m.into(), ef_construction: index.ef_construction.into() },
        ..BuildOptions::new(index.metric.metric())
    }
}

fn build_error(error: BuildError) -> Error {
    let kind = match error {
        BuildError::MemoryLimit { .. } | BuildError::RowCount { .. } => ErrorKind::ResourceExhausted,
        BuildError::Cancelled => ErrorKind::Cancelled,
        BuildError::Rows(_) | BuildError::Dimension(_) | BuildError::DuplicateId { .. } => ErrorKind::Corrupt,
    };
    Error::new(kind, error.to_string()).with_source(error)
}

/// Every row of the plan's segments that is not deleted and has a vector.
async fn gather(
    table: &TableSnapshot,
    plan: &BuildPlan,
) -> Result<(SegmentRows, Vec<u64>, Vec<UnitSegment>)> {
    let column = table
        .def()
        .columns
        .iter()
        .position(|c| c.id == plan.index.column)
        .ok_or_else(|| Error::internal(format!("index {} is of no column", plan.index.name)))?;
    let mut rows = SegmentRows { sources: Vec::new(), rows: Vec::new(), dim: 0 };
    let (mut row_ids, mut segments) = (Vec::new(), Vec::new());
    for view in table.segments().await? {
        if !plan.segments.iter().any(|meta| meta.id == view.meta.id) {
            continue;
        }
        let left_out = view.deleted.as_ref().map_or(0, |d| d.len());
        segments.push(UnitSegment { id: view.meta.id, left_out });
        let source = Source::open(table, view, column).await?;
        let place = rows.sources.len() as u32;
        for position in 0..u32::try_from(source.view.meta.rows).unwrap_or(u32::MAX) {
            let gone = source.view.deleted.as_ref().is_some_and(|d| d.contains(position));
            if !gone && source.vectors.as_ref().is_some_and(|v| !v.nulls().contains(position)) {
                row_ids.push(source.ids.at(position)?);
                rows.rows.push((place, position));
            }
        }
        rows.sources.push(source);
    }
    if let ColumnType::Vector(dim) = table.def().columns[column].column_type {
        rows.dim = dim.into();
    }
    Ok((rows, row_ids, segments))
}

/// Vectors read from their segments.
struct SegmentRows {
    sources: Vec<Source>,
    /// Source and position of each row.
    rows: Vec<(u32, u32)>,
    dim: usize,
}

impl Rows for SegmentRows {
    fn len(&self) -> usize {
        self.rows.len()
    }

    fn dim(&self) -> usize {
        self.dim
    }

    fn read(&self, rows: std::ops::Range<usize>, out: &mut [f32]) -> Result<(), RowsError> {
        for ((source, position), out) in self.rows[rows].iter().zip(out.chunks_exact_mut(self.dim)) {
            let vectors = self.sources[*source as usize].vectors.as_ref();
            let vector = match vectors {
                Some(vectors) => vectors.row(*position)?,
                None => None,
            };
            let vector = vector.ok_or("a row without a vector")?;
            for (out, component) in out.iter_mut().zip(cairn_vector::Floats::from_bytes(vector).components())
            {
                *out = component;
            }
        }
        Ok(())
    }
}

/// Names the unit, on whatever the catalog is by then.
async fn commit(database: &Arc<Database>, meta: &Arc<UnitMeta>) -> Result<()> {
    let mut attempt = 1;
    loop {
        let snapshot = database.snapshot();
        let there =
            snapshot.table(meta.table).is_some_and(|t| t.def().indexes.iter().any(|i| i.id == meta.index));
        if !there {
            return Err(Error::new(ErrorKind::Conflict, "the index was dropped while it was built"));
        }
        let transaction = database.begin(&snapshot)?;
        transaction.edit(CatalogEdit::PutUnit(Arc::clone(meta)))?;
        let info = CommitInfo { message: "build_index".to_owned(), ..CommitInfo::default() };
        match transaction.commit(CommitOptions { info, ..CommitOptions::default() }).await {
            Err(error) if error.kind() == ErrorKind::Conflict && attempt < ATTEMPTS => attempt += 1,
            other => return other.map(|_| ()),
        }
    }
}

/// Best effort: a search that still wants one compares its rows exactly.
pub(crate) async fn remove(database: &Database, table: TableId, units: &[ObjectId]) {
    for unit in units {
        let _ = database.object_store().delete(&Path::from(format!("table/{table}/index/{unit}.hnsw"))).await;
    }
}
