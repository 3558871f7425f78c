//! A stream of rows into parallel writers of one transaction.
//!
//! Owns: cutting the stream into runs, giving each to the next writer that is free, ending all of them when one fails. Does not
//! own: casts and defaults (`columns`). The rows of a run keep their order and their writer; a stream of one run has one
//! writer. Held beside what the write set keeps: a run that is gathered, one that waits, and one with each writer.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use cairn_storage::{ErrorKind, HeldMemory, TableWriter};
use datafusion::arrow::array::RecordBatch;
use datafusion::execution::SendableRecordBatchStream;
use futures::StreamExt;
use tokio::runtime::Handle;
use tokio::sync::{Mutex, Notify, mpsc};
use tokio::task::JoinSet;

use super::columns::TableColumns;
use super::from::CancelOnDrop;
use crate::context::Progress;
use crate::error::{Error, Result};

/// Bytes of a run: about a row group, so that rows that came together are found together.
const RUN_BYTES: usize = 16 << 20;
/// Writers of one stream: these write faster than one connection sends.
const WRITERS_MAX: usize = 4;

/// Batches that came one behind the other.
type Run = Vec<RecordBatch>;

/// See the module.
pub(super) struct RunWriters {
    shared: Arc<Shared>,
    writers_max: usize,
}

/// What every writer works with.
struct Shared {
    columns: TableColumns,
    /// For each column of the stream the table's column it fills.
    filled: Vec<usize>,
    progress: Arc<Progress>,
    runtime: Handle,
    cancelled: Arc<AtomicBool>,
    /// Told when a writer has failed.
    failed: Notify,
}

impl RunWriters {
    /// At most `workers` writers of rows whose columns fill the columns `filled` of the table.
    pub(super) fn new(
        columns: TableColumns,
        filled: Vec<usize>,
        workers: usize,
        progress: Arc<Progress>,
    ) -> Self {
        let (runtime, cancelled, failed) = (Handle::current(), Arc::default(), Notify::new());
        let shared = Arc::new(Shared { columns, filled, progress, runtime, cancelled, failed });
        Self { shared, writers_max: workers.clamp(1, WRITERS_MAX) }
    }

    /// Writes all `rows`; returns how many. Dropping the future ends the writers.
    ///
    /// # Errors
    /// What ends the rows early, a value that does not fit, storage errors. No writer goes on then, and the transaction must be
    /// rolled back.
    pub(super) async fn write(
        self,
        rows: SendableRecordBatchStream,
        writer: impl Fn() -> Result<TableWriter>,
    ) -> Result<u64> {
        let _guard = CancelOnDrop(Arc::clone(&self.shared.cancelled));
        let mut writers = JoinSet::new();
        let fed = tokio::select! {
            fed = self.feed(rows, writer, &mut writers) => fed,
            // With which error is told when it is joined.
            () = self.shared.failed.notified() => Ok(()),
        };
        let (mut written, mut failed) = (0, fed.err());
        if failed.is_some() {
            self.shared.cancelled.store(true, Ordering::Relaxed);
        }
        while let Some(ended) = writers.join_next().await {
            let ended = ended.map_err(|error| {
                Error::new(ErrorKind::Internal, format!("a task that writes ended early: {error}"))
            });
            match ended.flatten() {
                Ok(rows) => written += rows,
                // The others were only told to stop.
                Err(error) => {
                    if failed.as_ref().is_none_or(|failed| failed.kind() == ErrorKind::Cancelled) {
                        failed = Some(error);
                    }
                }
            }
        }
        failed.map_or(Ok(written), Err)
    }

    /// Gives the runs to writers, and starts these.
    async fn feed(
        &self,
        rows: SendableRecordBatchStream,
        writer: impl Fn() -> Result<TableWriter>,
        writers: &mut JoinSet<Result<u64>>,
    ) -> Result<()> {
        let (waiting, taken) = mpsc::channel(1);
        let taken = Arc::new(Mutex::new(taken));
        let mut runs = Runs { rows, first: None };
        while let Some(run) = runs.next().await? {
            if writers.len() < self.writers_max {
                let (shared, taken, writer) = (Arc::clone(&self.shared), Arc::clone(&taken), writer()?);
                writers.spawn_blocking(move || shared.write_or_fail(writer, run, &taken));
            } else if waiting.send(run).await.is_err() {
                return Err(Error::new(ErrorKind::Internal, "nobody takes the rows"));
            }
        }
        Ok(())
    }
}

/// Rows on their way into runs.
struct Runs {
    rows: SendableRecordBatchStream,
    /// The first batch of the next run.
    first: Option<RecordBatch>,
}

impl Runs {
    /// The next run; None: there are no more rows. Batches cut from the same memory stay together, since none of it is free
    /// before the last of them is written.
    async fn next(&mut self) -> Result<Option<Run>> {
        let (mut run, mut held) = (Run::new(), HeldMemory::default());
        if let Some(first) = self.first.take() {
            held.add(&first);
            run.push(first);
        }
        while let Some(batch) = self.rows.next().await.transpose()? {
            let is_full = held.bytes() >= RUN_BYTES;
            if held.add(&batch) > 0 && is_full {
                self.first = Some(batch);
                break;
            }
            run.push(batch);
        }
        Ok((!run.is_empty()).then_some(run))
    }
}

impl Shared {
    fn write_or_fail(
        &self,
        writer: TableWriter,
        first: Run,
        taken: &Mutex<mpsc::Receiver<Run>>,
    ) -> Result<u64> {
        let written = self.write_runs(writer, first, taken);
        if written.is_err() {
            self.cancelled.store(true, Ordering::Relaxed);
            self.failed.notify_one();
        }
        written
    }

    /// Writes `first`, then what else is there.
    fn write_runs(
        &self,
        mut writer: TableWriter,
        first: Run,
        taken: &Mutex<mpsc::Receiver<Run>>,
    ) -> Result<u64> {
        let mut next = Some(first);
        while let Some(run) = next {
            for batch in run {
                self.check_cancelled()?;
                let rows = batch.num_rows();
                let batch = self.columns.batch(&mut writer, &self.filled, batch.columns(), rows)?;
                self.runtime.block_on(writer.write(batch))?;
                self.progress.rows.fetch_add(rows as u64, Ordering::Relaxed);
            }
            // Whoever waits for a run keeps the others waiting behind it.
            next = taken.blocking_lock().blocking_recv();
        }
        self.check_cancelled()?;
        Ok(self.runtime.block_on(writer.finish())?)
    }

    fn check_cancelled(&self) -> Result<()> {
        if self.cancelled.load(Ordering::Relaxed) {
            return Err(Error::new(ErrorKind::Cancelled, "the rows were not written to their end"));
        }
        Ok(())
    }
}
