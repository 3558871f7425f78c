//! Statements whose hash joins need more memory than there is: run once more, joined by sorting (ADR 47).
//!
//! Owns: which statements are, that not one row of theirs has been handed on before, and what the second attempt is planned and runs
//! with: small batches where memory is small, memory shared out among sorts (`sorts`), and few rows of one key on disk. Does not
//! own: which joins can be done by sorting (`rules`).
//!
//! Nothing has been committed by an attempt that is repeated: its changes go with it, as after a conflict. Its time counts.

use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::Duration;

use datafusion::common::{Result as PlanResult, resources_datafusion_err};
use datafusion::error::DataFusionError;
use datafusion::execution::context::SessionState;
use datafusion::execution::disk_manager::{DiskManager, DiskManagerBuilder};
use datafusion::execution::memory_pool::{MemoryLimit, MemoryPool};
use datafusion::execution::runtime_env::RuntimeEnv;
use datafusion::execution::session_state::SessionStateBuilder;
use datafusion::execution::spill_file::{SpillFile, TempFileFactory};
use datafusion::physical_plan::stream::RecordBatchStreamAdapter;
use futures::StreamExt;

use super::memory::PartOfMemory;
use super::sorts::MemoryOfSorts;
use crate::error::{Error, Result};
use crate::output::{Output, RowStream};
use crate::rules::by_sorting;
use crate::statement::Statement;

/// What is told of it.
pub(super) const NOTE: &str = "joined by sorting: the hash join needed more memory than the limit";

/// SQLSTATE of a statement that needs more memory than it may have.
const OUT_OF_MEMORY: &str = "53200";
/// A batch has a row at most for so many bytes that each part of the query may use, and no less than `ROWS_LEAST`.
const BYTES_FOR_ROW: usize = 64 << 10;
const ROWS_LEAST: usize = 32;
/// What a sort keeps back for merging: one in so many bytes that each part of the query may use.
const MERGE_SHARE: usize = 32;
/// Files that a sort which has spilled reads at the same time: what reads one takes memory that nobody counts.
const FILES_AT_ONCE: usize = 64;
/// What DataFusion calls the rows of one key that a join puts into a file.
const ROWS_OF_KEY: &str = "sort_merge_join_buffered_spill";
/// Most batches of such rows in files, for each part of the query.
const BATCHES_OF_KEY: usize = 4;
/// How often, and how long each time, is waited for memory that a failed attempt gives back.
const WAITS: u32 = 200;
const WAIT: Duration = Duration::from_millis(5);

/// Whether running a statement again changes nothing but what its reader sees.
pub(super) fn answers_rows(statement: &Statement) -> bool {
    matches!(statement, Statement::Query(_) | Statement::Explain(_))
}

/// Whether memory was short.
pub(super) fn is_short(error: &Error) -> bool {
    error.sqlstate() == OUT_OF_MEMORY
}

/// The same answer, begun: that memory is short is the statement's error as long as there is no row.
///
/// # Errors
/// That of `result`; that one.
pub(super) async fn begun(result: Result<Output>) -> Result<Output> {
    let RowStream { schema, stream, notes } = match result? {
        Output::Rows(rows) => rows,
        other => return Ok(other),
    };
    let mut stream = stream.fuse();
    let first = loop {
        match stream.next().await {
            Some(Ok(batch)) if batch.num_rows() == 0 => {}
            Some(Err(error)) if is_memory(&error) => return Err(error.into()),
            first => break first,
        }
    };
    let rows = futures::stream::iter(first).chain(stream);
    let stream = Box::pin(RecordBatchStreamAdapter::new(Arc::clone(&schema), rows));
    Ok(Output::Rows(RowStream { schema, stream, notes }))
}

fn is_memory(error: &DataFusionError) -> bool {
    matches!(error.find_root(), DataFusionError::ResourcesExhausted(_))
}

/// `error`, and why less memory would not have done: no other attempt was made, or it has not helped.
pub(super) fn told(error: Error, why_not: &str) -> Error {
    if !is_short(&error) {
        return error;
    }
    let hint = error.hint().map_or_else(String::new, |hint| format!("{hint}; "));
    error.map(|e| {
        e.with_hint(format!(
            "{hint}{why_not} is not done by sorting, which needs less memory than hashing does"
        ))
    })
}

/// Waits until the parts of an attempt that failed, which end a little later than it does, hold no more than `before`.
pub(super) async fn given_back(memory: &PartOfMemory, before: usize) {
    for _ in 0..WAITS {
        if memory.reserved() <= before {
            return;
        }
        tokio::time::sleep(WAIT).await;
    }
}

/// What the second attempt is planned and runs with.
///
/// # Errors
/// None that `state` did not have.
pub(super) fn state(state: &SessionState) -> Result<SessionState> {
    let mut runtime = RuntimeEnv::clone(state.runtime_env());
    let limit = match runtime.memory_pool.memory_limit() {
        MemoryLimit::Finite(limit) => limit,
        MemoryLimit::Infinite | MemoryLimit::Unknown => usize::MAX,
    };
    let config = state.config().clone();
    let parts = config.target_partitions().max(1);
    let of_part = limit / parts;
    let rows = config.batch_size().min((of_part / BYTES_FOR_ROW).max(ROWS_LEAST));
    let merge = config.options().execution.sort_spill_reservation_bytes.min(of_part / MERGE_SHARE);
    // Of several batches as one, DataFusion counts the texts again for each batch that comes of it.
    let config = config
        .with_batch_size(rows)
        .with_sort_spill_reservation_bytes(merge)
        .with_sort_in_place_threshold_bytes(0);
    runtime.memory_pool = Arc::new(MemoryOfSorts::new(Arc::clone(&runtime.memory_pool), limit, merge));
    let files = FilesOfSorts::new(Arc::clone(&runtime.disk_manager), parts.saturating_mul(BATCHES_OF_KEY));
    let files = DiskManagerBuilder::default()
        .with_temp_file_factory(Arc::new(files))
        .with_max_spill_merge_fan_in(FILES_AT_ONCE);
    runtime.disk_manager = Arc::new(files.build()?);
    // The builder makes some functions anew by its configuration: those of a session are of UTC, whatever its zone is.
    let mut made_by = config.clone();
    made_by.options_mut().execution.time_zone = Some(cairn_udfs::zones::UTC.to_owned());
    let mut sorts = SessionStateBuilder::new_from_existing(state.clone())
        .with_config(made_by)
        .with_runtime_env(Arc::new(runtime))
        .with_physical_optimizer_rules(by_sorting(state.physical_optimizers()))
        .build();
    *sorts.config_mut() = config;
    Ok(sorts)
}

/// The files of a second attempt: those of the engine, but few for rows of one key. A join has all of these in memory again before it is
/// through with the key, however many they are.
struct FilesOfSorts {
    files: Arc<DiskManager>,
    /// Most batches of rows of one key …
    most: usize,
    /// … and those that there are.
    of_keys: Mutex<Vec<Weak<dyn SpillFile>>>,
}

impl FilesOfSorts {
    fn new(files: Arc<DiskManager>, most: usize) -> Self {
        Self { files, most, of_keys: Mutex::default() }
    }
}

impl TempFileFactory for FilesOfSorts {
    fn create_temp_file(&self, description: &str) -> PlanResult<Arc<dyn SpillFile>> {
        if description != ROWS_OF_KEY {
            return self.files.create_tmp_file(description);
        }
        // Nothing panics while holding it.
        let mut of_keys = self.of_keys.lock().unwrap_or_else(PoisonError::into_inner);
        of_keys.retain(|file| file.strong_count() > 0);
        if of_keys.len() >= self.most {
            return Err(resources_datafusion_err!("the rows of one key of a join do not fit into memory"));
        }
        let file = self.files.create_tmp_file(description)?;
        of_keys.push(Arc::downgrade(&file));
        Ok(file)
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use datafusion::arrow::array::{Int32Array, RecordBatch};
    use futures::TryStreamExt;

    use super::*;

    fn batch(rows: i32) -> RecordBatch {
        RecordBatch::try_from_iter([("n", Arc::new(Int32Array::from_iter_values(0..rows)) as _)]).unwrap()
    }

    fn answer(batches: Vec<PlanResult<RecordBatch>>) -> Result<Output> {
        let schema = batch(0).schema();
        let stream = RecordBatchStreamAdapter::new(Arc::clone(&schema), futures::stream::iter(batches));
        Ok(Output::Rows(RowStream::new(schema, Box::pin(stream))))
    }

    fn short() -> DataFusionError {
        resources_datafusion_err!("no more").context("while joining")
    }

    async fn rows(output: Result<Output>) -> PlanResult<Vec<RecordBatch>> {
        match output {
            Ok(Output::Rows(rows)) => rows.stream.try_collect().await,
            _ => panic!("no rows"),
        }
    }

    #[tokio::test]
    async fn memory_that_is_short_before_the_first_row_is_the_statement_s_error() {
        let error = begun(answer(vec![Ok(batch(0)), Err(short()), Ok(batch(1))])).await.err().unwrap();
        assert!(is_short(&error), "{error}");
        // Behind a row it is the reader's, as any other is.
        let late = begun(answer(vec![Ok(batch(1)), Err(short())])).await;
        assert!(is_memory(&rows(late).await.unwrap_err()));
        let other = begun(answer(vec![Err(DataFusionError::Execution("no".to_owned()))])).await;
        assert!(!is_memory(&rows(other).await.unwrap_err()));
        let whole = begun(answer(vec![Ok(batch(0)), Ok(batch(1)), Ok(batch(2))])).await;
        assert_eq!(rows(whole).await.unwrap(), [batch(1), batch(2)]);
        assert!(rows(begun(answer(Vec::new())).await).await.unwrap().is_empty());
    }

    #[test]
    fn few_rows_of_one_key_are_put_into_files() {
        let files = FilesOfSorts::new(Arc::new(DiskManagerBuilder::default().build().unwrap()), 2);
        let first = files.create_temp_file(ROWS_OF_KEY).unwrap();
        let _second = files.create_temp_file(ROWS_OF_KEY).unwrap();
        assert!(is_memory(&files.create_temp_file(ROWS_OF_KEY).err().unwrap()));
        assert!(files.create_temp_file("Sorting").is_ok());
        drop(first);
        assert!(files.create_temp_file(ROWS_OF_KEY).is_ok());
    }
}
