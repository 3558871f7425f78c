//! VERIFY … REPAIR [DRY RUN]: one row per action.
//!
//! Superusers only, also for one table: a repair makes a table that others may not have, takes rows away, and writes manifest and log anew.

use std::sync::Arc;

use cairn_storage::{Repair, VerifyScope};
use datafusion::arrow::array::{ArrayRef, RecordBatch, StringViewArray};
use datafusion::arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use datafusion::sql::sqlparser::ast::ObjectName;

use super::show::rows_in;
use super::upkeep::{not_in_transaction, table_id};
use crate::context::StatementContext;
use crate::error::Result;
use crate::output::Output;
use crate::statement;

/// VERIFY [DATABASE | TABLE t] REPAIR [DRY RUN].
pub(super) async fn repair(
    context: &StatementContext,
    table: Option<&ObjectName>,
    asked: statement::Repair,
) -> Result<Output> {
    context.rights.superuser("repair the database")?;
    not_in_transaction(context, asked.words())?;
    let scope = match table {
        Some(name) => VerifyScope::Table(table_id(context, name)?),
        None => VerifyScope::Database,
    };
    let dry_run = asked == statement::Repair::DryRun;
    if !dry_run {
        context.db.claim().await?;
    }
    let batch = repair_batch(&context.db.repair(scope, dry_run, context.info.clone()).await?)?;
    rows_in(batch.schema(), batch.columns().to_vec())
}

/// The rows of a repair, as a statement answers with them.
///
/// # Errors
/// `Internal` when they do not fit their columns.
pub fn repair_batch(repairs: &[Repair]) -> Result<RecordBatch> {
    let text = |value: fn(&Repair) -> &str| -> ArrayRef {
        Arc::new(StringViewArray::from_iter_values(repairs.iter().map(value)))
    };
    let columns = vec![
        text(|repair| &repair.object),
        text(|repair| &repair.action),
        text(|repair| repair.status.as_str()),
        text(|repair| &repair.detail),
        text(|repair| &repair.hint),
    ];
    Ok(RecordBatch::try_new(repair_columns(), columns)?)
}

/// Columns of a repair's rows.
pub(super) fn repair_columns() -> SchemaRef {
    let text = |name: &str| Field::new(name, DataType::Utf8View, false);
    Arc::new(Schema::new(["object", "action", "status", "detail", "hint"].map(text).to_vec()))
}
