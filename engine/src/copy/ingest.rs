//! Rows a client sends, written into a table that is there, or made for them.
//!
//! Owns: which of the two, what of the rows is written by whom. Does not own: writing them (`runs`). All or nothing: one commit,
//! with the new table in it.

use std::sync::Arc;

use cairn_storage::Transaction;
use cairn_storage::schema::TableDef;
use datafusion::execution::SendableRecordBatchStream;
use datafusion::sql::sqlparser::ast::{Ident, ObjectName};

use super::columns::TableColumns;
use super::runs::RunWriters;
use crate::context::StatementContext;
use crate::ddl;
use crate::dml::{Target, split_name};
use crate::error::{Error, Result};
use crate::rights::Right;

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
    let create = match exists {
        true => if_exists != IfExists::Append,
        // What else may stand under the name is told by whoever looks for the table.
        false => if_missing == IfMissing::Create,
    };
    let known = match create {
        true => None,
        false => Some(Target::resolve(ctx, &name, Right::Insert)?.def),
    };
    let transaction = ctx.db.begin(&ctx.snapshot).await?;
    let (def, removed) = match known {
        Some(def) => (def, None),
        None => {
            let replace = if_exists == IfExists::Replace;
            let (def, removed) =
                ddl::create_table_for(ctx, &transaction, &name, fields.fields(), replace).await?;
            (def, Some(removed))
        }
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
    rows: SendableRecordBatchStream,
) -> Result<u64> {
    let columns = TableColumns::over(ctx, def, (0..def.columns.len()).collect())?;
    let fields = rows.schema();
    let filled = columns.by_name("the rows", fields.fields().iter().map(|f| f.name().as_str()))?;
    let workers = match def.sort_indices().is_empty() {
        true => ctx.state.config().target_partitions(),
        // Segments whose keys overlap would have to be searched for each other's keys.
        false => 1,
    };
    let writers = RunWriters::new(columns, filled, workers, Arc::clone(&ctx.progress));
    writers.write(rows, || transaction.writer(def.id).map_err(Error::from)).await
}
