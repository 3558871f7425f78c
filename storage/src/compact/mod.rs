//! Compaction: several segments become few, without the rows that nobody can see any more.
//!
//! Owns: which segments (`policy`), which rows (`retained`), writing them (`merge`), how the result becomes part of the table
//! (`publish`). Does not own: when it runs, what it may use (`database::compaction`), removing what was replaced: that is done once no
//! manifest that anybody stands on names it (`collect`).
//!
//! Nothing waits for a merge, and one that fails or is killed changes nothing: the segments it has written are named by no commit. Row
//! ids and versions stay, so that transactions which name rows are not disturbed; one that deletes so many rows that it names them
//! by position looks for them anew when their segment was replaced meanwhile.
//!
//! Index units are left alone: they know rows by their ids, and go on with those of the new segments until units over these are built (`index`).

mod merge;
mod policy;
mod publish;
mod retained;
#[cfg(test)]
mod tests;

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::time::Instant;

use crate::collect::Retained;
use crate::database::{Database, Writer};
use crate::error::{Error, ErrorKind, Result};
use crate::id::{CommitVersion, ObjectId, TableId};
use crate::jobs::{JobKind, NewJob, Stop, StopReason};
use crate::schema::TableDef;
use crate::segment::{SegmentWriterOptions, segment_bytes};
use crate::version::{SegmentState, TableSnapshot, TableState};
use merge::{Input, Output, Setting};
use policy::{Limits, Pass, Plan};
use publish::Merged;

/// Most rounds of upkeep for one table in a row; the next checkpoint asks again.
const ROUNDS_MAX: usize = 16;
/// How often a running merge tells how far it is and looks whether its table is still there.
const LOOK_EVERY: Duration = Duration::from_millis(50);

/// Why a compaction runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CompactReason {
    /// COMPACT
    Statement,
    /// Upkeep after a checkpoint.
    Upkeep,
    /// One of upkeep that has failed or was stopped is wanted now.
    Retry,
}

impl CompactReason {
    /// As shown in receipts and jobs.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Statement => "statement",
            Self::Upkeep => "upkeep",
            Self::Retry => "retry",
        }
    }
}

/// What a compaction did.
#[derive(Clone, Debug)]
pub struct CompactReceipt {
    /// Whether there was anything to do.
    pub triggered: bool,
    /// Why it ran.
    pub reason: CompactReason,
    /// Tables whose segments were changed.
    pub tables: u64,
    /// Segments replaced.
    pub replaced: u64,
    /// Their bytes.
    pub replaced_bytes: u64,
    /// Segments written.
    pub segments: u64,
    /// Rows written.
    pub rows: u64,
    /// Rows left out, which nobody could see any more.
    pub dropped: u64,
    /// Bytes written.
    pub bytes: u64,
    /// How long it took.
    pub duration: Duration,
}

impl CompactReceipt {
    /// Of one that has done nothing yet.
    pub(crate) fn new(reason: CompactReason) -> Self {
        Self {
            triggered: false,
            reason,
            tables: 0,
            replaced: 0,
            replaced_bytes: 0,
            segments: 0,
            rows: 0,
            dropped: 0,
            bytes: 0,
            duration: Duration::ZERO,
        }
    }
}

/// What one table's compaction needs.
pub(crate) struct Work<'a> {
    pub(crate) database: &'a Arc<Database>,
    pub(crate) reason: CompactReason,
    pub(crate) retained: &'a Retained,
    pub(crate) stopped: &'a AtomicBool,
}

impl Work<'_> {
    fn limits(&self, def: &TableDef) -> Limits {
        let options = self.database.options();
        let bytes = segment_bytes(def.layout, self.database.shared.remote, options.compact_segment_bytes);
        let limits = match self.reason {
            CompactReason::Statement => Limits::asked,
            CompactReason::Upkeep | CompactReason::Retry => Limits::upkeep,
        };
        limits(bytes, options.compact_round_bytes, options.compact_memory_bytes)
    }

    /// What a job's row says of it.
    pub(crate) fn parameters(&self, def: &TableDef) -> String {
        format!("table={} reason={}", def.qualified_name(), self.reason.as_str())
    }

    /// Whether a round is due for a table.
    pub(crate) fn is_due(&self, table: &TableState) -> bool {
        let facts = policy::facts(table, self.retained);
        policy::next(&facts, &self.limits(&table.def), &Pass::default()).is_some()
    }

    /// Compacts one table until nothing is due, as a job, and counts it in `receipt`.
    ///
    /// # Errors
    /// The first round's that failed; what was published before stays.
    pub(crate) async fn table(&self, id: TableId, receipt: &mut CompactReceipt) -> Result<()> {
        let Some(state) = self.database.snapshot().state().tables.get(&id).cloned() else { return Ok(()) };
        if !self.is_due(&state) {
            return Ok(());
        }
        let jobs = &self.database.jobs;
        let parameters = self.parameters(&state.def);
        let job = jobs.begin(NewJob {
            kind: JobKind::Compact,
            table: Some(&state.def),
            parameters,
            asked: self.reason == CompactReason::Statement,
        });
        let before = (receipt.rows, receipt.bytes, receipt.replaced);
        let result = jobs.meter(job).of(self.rounds(id, job, receipt)).await;
        let progress = if result.is_ok() { 1.0 } else { jobs.row(job).map_or(0.0, |row| row.progress) };
        jobs.progress(job, progress, receipt.rows - before.0, receipt.bytes - before.1);
        self.database.job_ended(JobKind::Compact, jobs.end(job, &result));
        if receipt.replaced > before.2 {
            receipt.triggered = true;
            receipt.tables += 1;
        }
        result
    }

    /// Writes one segment anew, whether or not it is due: its statistics, its key filter and what is deleted in it are then those of its rows.
    ///
    /// # Errors
    /// As for [`table`](Self::table); nothing has changed then.
    pub(crate) async fn rewrite(
        &self,
        id: TableId,
        segment: ObjectId,
        receipt: &mut CompactReceipt,
    ) -> Result<()> {
        let snapshot = self.database.snapshot();
        let Some(state) = snapshot.state().tables.get(&id).cloned() else { return Ok(()) };
        let jobs = &self.database.jobs;
        let parameters = format!("table={} segment={segment}", state.def.qualified_name());
        let job =
            jobs.begin(NewJob { kind: JobKind::Compact, table: Some(&state.def), parameters, asked: true });
        let shared = Arc::clone(&self.database.shared);
        let table = TableSnapshot::new(state, snapshot.version(), shared);
        let plan = Plan { inputs: vec![segment], gone: Vec::new() };
        let limits = self.limits(table.def());
        let round = self.round(&table, &plan, job, &limits, receipt);
        let result = jobs.meter(job).of(round).await.map(|_| ());
        self.database.job_ended(JobKind::Compact, jobs.end(job, &result));
        receipt.triggered |= result.is_ok();
        result
    }

    async fn rounds(&self, id: TableId, job: u64, receipt: &mut CompactReceipt) -> Result<()> {
        let mut pass = Pass::default();
        let mut rounds = 0;
        let stop = self.database.jobs.stop(job);
        loop {
            let snapshot = self.database.snapshot();
            let Some(state) = snapshot.state().tables.get(&id).cloned() else { return Ok(()) };
            let limits = self.limits(&state.def);
            let facts = policy::facts(&state, self.retained);
            let Some(plan) = policy::next(&facts, &limits, &pass) else { return Ok(()) };
            if self.stopped.load(Ordering::Acquire) {
                return Err(Error::new(ErrorKind::Cancelled, "the compaction was stopped"));
            }
            stop.check()?;
            let shared = Arc::clone(&self.database.shared);
            // The snapshot lives on: what it reads stays.
            let table = TableSnapshot::new(Arc::clone(&state), snapshot.version(), shared);
            let round = self.round(&table, &plan, job, &limits, receipt).await;
            drop(snapshot);
            let made = match round {
                Ok(made) => made,
                // Whatever has changed the table, what is due now follows from what it is now.
                Err(error) if error.kind() == ErrorKind::Conflict => {
                    pass.left.extend(plan.inputs.iter().chain(&plan.gone));
                    continue;
                }
                // It was dropped: the next pass takes what is left of it away.
                Err(error)
                    if error.kind() == ErrorKind::Cancelled
                        && !self.stopped.load(Ordering::Acquire)
                        && self.database.snapshot().table(id).is_none() =>
                {
                    stop.ask(StopReason::Dropped);
                    return Ok(());
                }
                Err(error) if error.kind() == ErrorKind::Cancelled && stop.is_asked() => {
                    return Err(stop.error());
                }
                Err(error) => return Err(error),
            };
            pass.made.extend(made);
            rounds += 1;
            if self.reason != CompactReason::Statement && rounds >= ROUNDS_MAX {
                return Ok(());
            }
        }
    }

    /// One round; returns the segments it made.
    async fn round(
        &self,
        table: &TableSnapshot,
        plan: &Plan,
        job: u64,
        limits: &Limits,
        receipt: &mut CompactReceipt,
    ) -> Result<Vec<ObjectId>> {
        let writer = self.database.writer()?;
        if let Some(error) = writer.order.poisoned() {
            return Err(error);
        }
        // Until the commit that names the segments is in the order: none is collected before.
        let _upload = writer.uploads.begin(&writer.ids);
        let inputs = self.open(table, plan).await?;
        let rows_in: u64 = inputs.iter().map(|input| input.reader.meta().rows).sum();
        let outputs = match inputs.is_empty() {
            true => Vec::new(),
            false => self.merge(table, inputs.clone(), job, limits, rows_in, receipt).await?,
        };
        let merged = Merged {
            table,
            inputs: &inputs,
            gone: &plan.gone,
            outputs: &outputs,
            horizon: self.retained.horizon,
        };
        if let Err(error) = publish::publish(self.database, writer, &merged).await {
            if error.kind() != ErrorKind::OutcomeUnknown {
                merge::remove(&*self.database.shared.store, &outputs).await;
            }
            return Err(error);
        }
        let bytes = |meta: &crate::segment::SegmentMeta| meta.bytes + meta.key_filter_bytes.unwrap_or(0);
        let replaced = named(table.state(), plan);
        receipt.replaced += replaced.len() as u64;
        receipt.replaced_bytes += replaced.iter().map(|segment| bytes(&segment.meta)).sum::<u64>();
        let rows: u64 = outputs.iter().map(|output| output.meta.rows).sum();
        receipt.segments += outputs.len() as u64;
        receipt.rows += rows;
        receipt.dropped += replaced.iter().map(|segment| segment.meta.rows).sum::<u64>() - rows;
        receipt.bytes += outputs.iter().map(|output| bytes(&output.meta)).sum::<u64>();
        Ok(outputs.iter().map(|output| output.meta.id).collect())
    }

    async fn open(&self, table: &TableSnapshot, plan: &Plan) -> Result<Vec<Input>> {
        let mut inputs = Vec::with_capacity(plan.inputs.len());
        for id in &plan.inputs {
            let found = table.state().segments.iter().find(|segment| segment.meta.id == *id);
            let segment =
                found.ok_or_else(|| Error::internal("a compaction was planned without its segment"))?;
            let reader = table.open_segment(&segment.meta).await?;
            inputs.push(Input { reader, deletes: segment.deletes.clone() });
        }
        Ok(inputs)
    }

    async fn merge(
        &self,
        table: &TableSnapshot,
        inputs: Vec<Input>,
        job: u64,
        limits: &Limits,
        rows_in: u64,
        receipt: &CompactReceipt,
    ) -> Result<Vec<Output>> {
        let watch = Watch {
            database: self.database,
            stopped: self.stopped,
            table: table.def().id,
            job,
            stop: self.database.jobs.stop(job),
            rows_in,
            rows_read: AtomicU64::new(0),
            done: (receipt.rows, receipt.bytes),
            looked: Mutex::new(Instant::now()),
            unwanted: AtomicBool::new(false),
        };
        let goes_on = || watch.goes_on();
        let setting = Setting {
            store: Arc::clone(&self.database.shared.store),
            def: Arc::clone(table.def()),
            ids: &self.database.writer()?.ids,
            retained: self.retained,
            computing: self.database.options().computing,
            options: SegmentWriterOptions::of_table(table.def().layout, self.database.shared.remote),
            segment_bytes: limits.segment_bytes,
            rows_read: &watch.rows_read,
            goes_on: &goes_on,
        };
        merge::merge(&setting, inputs).await
    }
}

/// The segments that a round takes away.
fn named(table: &TableState, plan: &Plan) -> Vec<Arc<SegmentState>> {
    let taken = |id: ObjectId| plan.inputs.contains(&id) || plan.gone.contains(&id);
    table.segments.iter().filter(|segment| taken(segment.meta.id)).cloned().collect()
}

/// What a merge asks between two batches: whether to go on. Now and then it tells the job's progress.
struct Watch<'a> {
    database: &'a Database,
    stopped: &'a AtomicBool,
    table: TableId,
    job: u64,
    stop: Stop,
    rows_in: u64,
    rows_read: AtomicU64,
    /// Rows and bytes of the rounds before.
    done: (u64, u64),
    looked: Mutex<Instant>,
    unwanted: AtomicBool,
}

impl Watch<'_> {
    fn goes_on(&self) -> bool {
        if let Ok(mut looked) = self.looked.try_lock()
            && looked.elapsed() >= LOOK_EVERY
        {
            *looked = Instant::now();
            let read = self.rows_read.load(Ordering::Relaxed);
            let share = read as f64 / self.rows_in.max(1) as f64;
            let (rows, bytes) = self.done;
            self.database.jobs.progress(self.job, share.min(0.99), rows + read, bytes);
            if self.database.snapshot().table(self.table).is_none() {
                self.unwanted.store(true, Ordering::Relaxed);
            }
        }
        !self.stopped.load(Ordering::Relaxed)
            && !self.unwanted.load(Ordering::Relaxed)
            && !self.stop.is_asked()
    }
}

/// What is retained while nothing but the newest version can be asked for.
pub(crate) fn newest_only(writer: &Writer) -> Retained {
    // What was read before is held by whoever reads it.
    let horizon: CommitVersion = writer.order.published().number;
    Retained { horizon, versions: std::collections::BTreeSet::new() }
}
