//! Rows a client sends, written into a table that is there, or made for them.
//!
//! Owns: which of the two, the way from batches to the write set. Does not own: casts and defaults (`columns`). Rows keep
//! their order; two batches are held beside what the write set keeps. All or nothing: one commit, with the new table in it.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use cairn_storage::schema::TableDef;
use cairn_storage::{ErrorKind, TableWriter, Transaction};
use datafusion::arrow::array::RecordBatch;
use datafusion::execution::SendableRecordBatchStream;
use datafusion::sql::sqlparser::ast::{Ident, ObjectName};
use futures::StreamExt;
use tokio::sync::mpsc;
use tokio::task::JoinSet;

use super::columns::TableColumns;
use crate::context::{Progress, StatementContext};
use crate::ddl;
use crate::dml::{Target, split_name};
use crate::error::{Error, Result};
use crate::rights::Right;

/// Batches between the task that receives them and the one that writes them.
const BATCHES_BETWEEN: usize = 2;

/// The table rows are sent to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct IngestTarget {
    /// Its schema, as stored; None: the session's.
    pub schema: Option<String>,
    /// Its name, as stored.
    pub table: String,
}

/// What happens when the table is not there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum IfMissing {
    /// It is made, with the columns of the rows.
    Create,
    /// An error (42P01).
    Fail,
}

/// What happens when the table is there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum IfExists {
    /// The rows are added, their columns found by name.
    Append,
    /// It is dropped and made anew, with the columns of the rows.
    Replace,
    /// An error (42P07).
    Fail,
}

/// As its client named it.
impl std::fmt::Display for IngestTarget {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.name().fmt(f)
    }
}

impl IngestTarget {
    fn name(&self) -> ObjectName {
        let parts = self.schema.iter().chain([&self.table]);
        ObjectName::from(parts.map(|part| Ident::with_quote('"', part.clone())).collect::<Vec<_>>())
    }
}

/// Writes and commits `rows`; returns how many.
///
/// # Errors
/// As the two choices say; a column the table does not have, a value that does not fit, what ends the rows early. Nothing has
/// changed then.
pub(crate) async fn run(
    ctx: &StatementContext,
    target: &IngestTarget,
    if_missing: IfMissing,
    if_exists: IfExists,
    rows: SendableRecordBatchStream,
) -> Result<u64> {
    let name = target.name();
    let fields = rows.schema();
    let (schema, table) = split_name(&name, &ctx.search_path)?;
    let exists = ctx.snapshot.catalog().table(&schema, &table).is_some();
    let transaction = ctx.db.begin(&ctx.snapshot)?;
    let create = match exists {
        true => if_exists != IfExists::Append,
        // What else may stand under the name is told by whoever looks for the table.
        false => if_missing == IfMissing::Create,
    };
    let (def, removed) = if create {
        let replace = if_exists == IfExists::Replace;
        let (def, removed) =
            ddl::create_table_for(ctx, &transaction, &name, fields.fields(), replace).await?;
        (def, Some(removed))
    } else {
        (Target::resolve(ctx, &name, Right::Insert)?.def, None)
    };
    let written = write(ctx, &transaction, &def, rows).await;
    let rows = match written {
        Ok(rows) => rows,
        Err(error) => {
            transaction.rollback().await?;
            return Err(error);
        }
    };
    ctx.commit(transaction).await?;
    if let Some(removed) = removed {
        removed.remove(ctx).await;
    }
    Ok(rows)
}

async fn write(
    ctx: &StatementContext,
    transaction: &Transaction,
    def: &Arc<TableDef>,
    mut rows: SendableRecordBatchStream,
) -> Result<u64> {
    let columns = TableColumns::over(ctx, def, (0..def.columns.len()).collect())?;
    let fields = rows.schema();
    let filled = columns.by_name("the rows", fields.fields().iter().map(|f| f.name().as_str()))?;
    let writer = transaction.writer(def.id)?;
    let (batches, received) = mpsc::channel(BATCHES_BETWEEN);
    let mut task = JoinSet::new();
    task.spawn(write_all(columns, filled, writer, received, Arc::clone(&ctx.progress)));
    let mut failed = None;
    while let Some(batch) = rows.next().await {
        match batch {
            Ok(batch) => {
                if batches.send(batch).await.is_err() {
                    // The writer has ended with the reason.
                    break;
                }
            }
            Err(error) => {
                failed = Some(Error::from(error));
                break;
            }
        }
    }
    drop(batches);
    let written = match task.join_next().await {
        Some(Ok(written)) => written,
        Some(Err(error)) => {
            Err(Error::new(ErrorKind::Internal, format!("the task that writes ended early: {error}")))
        }
        None => Err(Error::new(ErrorKind::Internal, "there is no task that writes")),
    };
    match failed {
        Some(error) => Err(error),
        None => written,
    }
}

async fn write_all(
    columns: TableColumns,
    filled: Vec<usize>,
    mut writer: TableWriter,
    mut batches: mpsc::Receiver<RecordBatch>,
    progress: Arc<Progress>,
) -> Result<u64> {
    while let Some(batch) = batches.recv().await {
        let rows = batch.num_rows();
        writer.write(columns.batch(&filled, batch.columns(), rows)?).await?;
        progress.rows.fetch_add(rows as u64, Ordering::Relaxed);
    }
    Ok(writer.finish().await?)
}
