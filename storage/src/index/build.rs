//! Building units: the job behind CREATE INDEX, REINDEX and the upkeep after checkpoints.
//!
//! Order of one unit, each step durable before the next: (1) the vectors of a snapshot's segments are read where they stand and
//! the unit is built in memory; (2) the object is written; (3) a commit names it and the units it replaces. A crash before
//! (3) leaves an object nothing names; whatever commits meanwhile, rows deleted since are told from the snapshot of each
//! search. Nothing waits for a build, and a build that fails changes nothing.
//!
//! A job is all the units that one index wants, one after the other. What it has committed stays when it fails or is killed; the
//! next one goes on with the rest (`policy`).

use std::collections::HashSet;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use bytes::Bytes;
use cairn_vector::hnsw::{BuildError, BuildOptions, Progress, build};
use object_store::PutPayload;
use xxhash_rust::xxh3::Xxh3;

use super::capacity;
use super::gather::{Gathered, gather};
use super::policy::{self, BuildPlan};
use super::retire::{remove, retire};
use super::{IndexDef, UnitMeta};
use crate::database::Database;
use crate::error::{Error, ErrorKind, Result};
use crate::id::{IndexId, ObjectId, TableId};
use crate::jobs::{JobKind, Meter, NewJob, Stop, StopReason};
use crate::object::put_own;
use crate::transaction::CommitOptions;
use crate::version::{Snapshot, TableSnapshot};
use crate::wal::{CatalogEdit, CommitInfo};

/// A commit of a unit that meets other catalog changes is tried again this often.
const ATTEMPTS: u32 = 8;
/// How often a build looks whether its index is still there, and tells how far it is.
const LOOK_EVERY: Duration = Duration::from_millis(50);

/// Builds units until no index of `table` (of any table when absent) wants one; returns how many were built. What nobody `asked` for
/// leaves tables out whose builds are paused or have failed lately.
///
/// # Errors
/// The first build's that failed, once the other indexes have theirs; units that were built stay.
pub(crate) async fn run(
    database: &Arc<Database>,
    table: Option<TableId>,
    lost: &HashSet<ObjectId>,
    asked: bool,
    cancelled: &Arc<AtomicBool>,
) -> Result<u64> {
    let mut upkeep = Upkeep { database, cancelled, asked, lost: lost.clone(), built: 0 };
    let mut result = Ok(());
    let mut failed = HashSet::new();
    retire(database, table, lost).await?;
    if !asked {
        // As it is before any of these builds: what fails now holds up no other index of its table.
        for state in database.snapshot().state().live_tables() {
            if database.jobs.pauses(JobKind::BuildIndex, Some(state.def.id)) {
                failed.extend(state.def.indexes.iter().map(|index| (state.def.id, index.id)));
            }
        }
    }
    while let Some((table, index)) = due(database, table, &upkeep.lost, &failed) {
        if let Err(error) = upkeep.job(table, &index).await {
            failed.insert((table, index.id));
            result = result.and(Err(error));
        }
        if cancelled.load(Ordering::Relaxed) {
            break;
        }
    }
    result.map(|()| upkeep.built)
}

/// An index that wants a unit.
fn due(
    database: &Database,
    table: Option<TableId>,
    lost: &HashSet<ObjectId>,
    failed: &HashSet<(TableId, IndexId)>,
) -> Option<(TableId, IndexDef)> {
    let snapshot = database.snapshot();
    let wanted = snapshot.state().live_tables().filter(|t| table.is_none_or(|id| id == t.def.id));
    wanted.into_iter().find_map(|state| {
        let mut indexes = state.def.indexes.iter().filter(|i| !failed.contains(&(state.def.id, i.id)));
        let index = indexes.find(|index| policy::next(state, index, lost).is_some())?;
        Some((state.def.id, index.clone()))
    })
}

struct Upkeep<'a> {
    database: &'a Arc<Database>,
    cancelled: &'a Arc<AtomicBool>,
    asked: bool,
    lost: HashSet<ObjectId>,
    built: u64,
}

impl Upkeep<'_> {
    fn next(&self, table: TableId, index: &IndexDef) -> Option<(TableSnapshot, BuildPlan)> {
        let table = self.database.snapshot().table(table)?;
        let index = defined(&table, index)?;
        let plan = policy::next(table.state(), index, &self.lost)?;
        Some((table, plan))
    }

    /// Every unit that an index wants.
    async fn job(&mut self, table: TableId, index: &IndexDef) -> Result<()> {
        let Some((mut snapshot, mut plan)) = self.next(table, index) else { return Ok(()) };
        let parameters = format!(
            "table={} index={} units={}",
            snapshot.def().qualified_name(),
            index.name,
            1 + plan.units_after
        );
        let jobs = &self.database.jobs;
        let id = jobs.begin(NewJob {
            kind: JobKind::BuildIndex,
            table: Some(snapshot.def()),
            parameters,
            asked: self.asked,
        });
        let (stop, meter) = (jobs.stop(id), jobs.meter(id));
        let mut job = Job { id, rows_read: 0, rows: 0, bytes: 0 };
        let result = loop {
            let built = match stop.check() {
                Ok(()) => meter.of(one(self.database, &snapshot, &plan, job, self.cancelled)).await,
                Err(error) => Err(error),
            };
            match built {
                Ok(unit) => {
                    job.rows_read += plan.rows;
                    job.rows += unit.rows;
                    job.bytes += unit.bytes;
                }
                Err(error) => break Err(error),
            }
            self.lost.retain(|unit| !plan.replaces.contains(unit));
            self.built += 1;
            job.tell(self.database, 0.0, plan.rows_after);
            match self.next(table, index) {
                Some(next) => (snapshot, plan) = next,
                None => break Ok(()),
            }
        };
        if result.is_err() && !is_wanted(&self.database.snapshot(), table, index) {
            stop.ask(StopReason::Dropped);
        }
        self.database.job_ended(JobKind::BuildIndex, jobs.end(id, &result));
        result
    }
}

/// What a job has built so far.
#[derive(Clone, Copy)]
struct Job {
    id: u64,
    /// Rows of segments, those without a vector included.
    rows_read: u64,
    rows: u64,
    bytes: u64,
}

impl Job {
    /// `now` rows of the unit that is built are done, of `waiting` in all that are not built yet.
    fn tell(self, database: &Database, now: f64, waiting: u64) {
        let all = (self.rows_read + waiting).max(1) as f64;
        database.jobs.progress(self.id, (self.rows_read as f64 + now) / all, self.rows, self.bytes);
    }
}

/// The index as the table has it now; None: it was dropped, and perhaps another has its number.
fn defined<'a>(table: &'a TableSnapshot, index: &IndexDef) -> Option<&'a IndexDef> {
    let mut indexes = table.def().indexes.iter();
    indexes.find(|i| i.id == index.id && i.column == index.column && i.metric == index.metric)
}

fn is_wanted(snapshot: &Snapshot, table: TableId, index: &IndexDef) -> bool {
    snapshot.table(table).is_some_and(|table| defined(&table, index).is_some())
}

fn dropped() -> Error {
    Error::new(ErrorKind::Conflict, "the index was dropped while it was built")
}

async fn one(
    database: &Arc<Database>,
    table: &TableSnapshot,
    plan: &BuildPlan,
    job: Job,
    cancelled: &Arc<AtomicBool>,
) -> Result<Arc<UnitMeta>> {
    let begun = Instant::now();
    let Gathered { rows, row_ids, segments } = gather(table, plan).await?;
    let options = capacity::options(table.def(), &plan.index, row_ids.len() as u64);
    let meter = database.jobs.meter(job.id);
    meter.holds(capacity::estimate(table.def(), &plan.index, row_ids.len() as u64).memory_bytes);
    let watch = Watch::new(database, table, plan, job, cancelled, &options);
    let computing = database.options().computing;
    let built = computing.run(move || {
        let parts = build(&rows, &row_ids, &options, &|| watch.ends()).map_err(|e| watch.error(e))?;
        drop((rows, row_ids));
        Ok((parts.len() as u64, parts.calibration().clone(), parts.into_pieces()))
    });
    let (rows, calibration, pieces) = built.await?;
    let mut hash = Xxh3::new();
    pieces.iter().for_each(|piece| hash.update(piece));
    let writer = database.writer()?;
    // Until the commit that names the unit: none is collected before.
    let _upload = writer.uploads.begin(&writer.ids);
    let width = calibration.width(10, f32::from(plan.index.target_recall_permille) / 1000.0);
    let meta = Arc::new(UnitMeta {
        id: writer.ids.next(),
        table: table.def().id,
        index: plan.index.id,
        segments,
        rows,
        bytes: pieces.iter().map(Bytes::len).sum::<usize>() as u64,
        xxh3: format!("{:032x}", hash.digest128()),
        replaces: plan.replaces.clone(),
        build_ms: begun.elapsed().as_millis() as u64,
        recall_permille: permille(calibration.recall(10, u32::try_from(width).unwrap_or(u32::MAX))),
    });
    put_own(&*database.shared.store, meta.path(), PutPayload::from_iter(pieces)).await?;
    if let Err(error) = commit(database, &plan.index, &meta).await {
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

/// What a build asks every few milliseconds: whether to go on. Now and then it tells the job's progress.
struct Watch {
    database: Arc<Database>,
    table: TableId,
    plan: BuildPlan,
    job: Job,
    stop: Stop,
    meter: Meter,
    cancelled: Arc<AtomicBool>,
    progress: Progress,
    looked: Mutex<Instant>,
    unwanted: AtomicBool,
}

impl Watch {
    fn new(
        database: &Arc<Database>,
        table: &TableSnapshot,
        plan: &BuildPlan,
        job: Job,
        cancelled: &Arc<AtomicBool>,
        options: &BuildOptions,
    ) -> Self {
        Self {
            database: Arc::clone(database),
            table: table.def().id,
            plan: plan.clone(),
            job,
            stop: database.jobs.stop(job.id),
            meter: database.jobs.meter(job.id),
            cancelled: Arc::clone(cancelled),
            progress: options.progress.clone(),
            looked: Mutex::new(Instant::now()),
            unwanted: AtomicBool::new(false),
        }
    }

    fn ends(&self) -> bool {
        // The threads of a build are its own.
        self.meter.count();
        if let Ok(mut looked) = self.looked.try_lock()
            && looked.elapsed() >= LOOK_EVERY
        {
            *looked = Instant::now();
            let now = f64::from(self.progress.done()) * self.plan.rows as f64;
            self.job.tell(&self.database, now, self.plan.rows + self.plan.rows_after);
            if !is_wanted(&self.database.snapshot(), self.table, &self.plan.index) {
                self.unwanted.store(true, Ordering::Relaxed);
            }
        }
        self.cancelled.load(Ordering::Relaxed)
            || self.unwanted.load(Ordering::Relaxed)
            || self.stop.is_asked()
    }

    fn error(&self, error: BuildError) -> Error {
        let kind = match error {
            BuildError::Cancelled if self.unwanted.load(Ordering::Relaxed) => return dropped(),
            BuildError::Cancelled if self.stop.is_asked() => return self.stop.error(),
            BuildError::Cancelled => ErrorKind::Cancelled,
            BuildError::MemoryLimit { .. } | BuildError::RowCount { .. } => ErrorKind::ResourceExhausted,
            BuildError::Rows(_) | BuildError::Dimension(_) | BuildError::DuplicateId { .. } => {
                ErrorKind::Corrupt
            }
        };
        Error::new(kind, error.to_string()).with_source(error)
    }
}

/// Names the unit, on whatever the catalog is by then.
async fn commit(database: &Arc<Database>, index: &IndexDef, meta: &Arc<UnitMeta>) -> Result<()> {
    let mut attempt = 1;
    loop {
        let snapshot = database.snapshot();
        if !is_wanted(&snapshot, meta.table, index) {
            return Err(dropped());
        }
        let transaction = database.begin(&snapshot).await?;
        transaction.edit(CatalogEdit::PutUnit(Arc::clone(meta)))?;
        let info = CommitInfo { message: "build_index".to_owned(), ..CommitInfo::default() };
        match transaction.commit(CommitOptions { info, ..CommitOptions::default() }).await {
            Err(error) if error.kind() == ErrorKind::Conflict && attempt < ATTEMPTS => attempt += 1,
            other => return other.map(|_| ()),
        }
    }
}
