//! RUN, RETRY, CANCEL, PAUSE and RESUME JOB(S).
//!
//! Superusers may run all of them; the owner of a table may run and retry the jobs of that table. None is part of a transaction: what
//! jobs do is not, either.

use std::sync::Arc;

use cairn_storage::id::TableId;
use cairn_storage::{ErrorKind, JobKind, JobRow, JobsWanted};
use datafusion::arrow::array::{ArrayRef, BooleanArray, StringViewArray, UInt64Array};
use datafusion::arrow::datatypes::{DataType, Field, Schema, SchemaRef};

use super::show::rows_in;
use super::upkeep::{milliseconds, not_in_transaction, table_id};
use crate::context::StatementContext;
use crate::error::{Error, Result};
use crate::output::Output;
use crate::statement::{JobStatement, JobsNamed};

/// Runs one of the statements.
pub(super) async fn run(context: &StatementContext, statement: &JobStatement) -> Result<Output> {
    not_in_transaction(context, "a statement about jobs")?;
    let db = &context.db;
    match statement {
        JobStatement::Run { kind, table, limit, strict } => {
            let table = match table {
                Some(name) => Some(table_id(context, name)?),
                None => None,
            };
            check_run(context, *kind, table)?;
            db.claim().await?;
            let wanted = JobsWanted { kind: *kind, table, limit: *limit, strict: *strict };
            let receipt = db.run_jobs(&wanted).await?;
            let number = |n: u64| Arc::new(UInt64Array::from(vec![n])) as ArrayRef;
            let columns = vec![
                Arc::new(BooleanArray::from(vec![receipt.triggered])) as ArrayRef,
                Arc::new(StringViewArray::from(vec!["statement"])),
                number(receipt.completed),
                number(receipt.failed),
                number(receipt.stopped),
                number(receipt.rows),
                number(receipt.bytes),
                milliseconds(receipt.duration),
            ];
            rows_in(columns_of_run(), columns)
        }
        JobStatement::RetryAll(Some(name)) => {
            let table = table_id(context, name)?;
            db.claim().await?;
            shown(&db.retry_jobs(Some(table)).await?)
        }
        JobStatement::RetryAll(None) => {
            context.rights.superuser("retry jobs")?;
            db.claim().await?;
            shown(&db.retry_jobs(None).await?)
        }
        JobStatement::Retry(id) => {
            context.rights.superuser("retry jobs")?;
            db.claim().await?;
            shown(&[db.retry_job(*id).await?])
        }
        JobStatement::Cancel(id) => {
            context.rights.superuser("cancel jobs")?;
            db.claim().await?;
            shown(&[db.cancel_job(*id).await?])
        }
        JobStatement::Pause(named) => {
            context.rights.superuser("pause jobs")?;
            db.claim().await?;
            match named {
                JobsNamed::One(id) => shown(&[db.pause_job(*id).await?]),
                JobsNamed::All(kind) => shown(&db.pause_jobs(*kind).await?),
            }
        }
        JobStatement::Resume(named) => {
            context.rights.superuser("resume jobs")?;
            db.claim().await?;
            match named {
                JobsNamed::One(id) => shown(&[db.resume_job(*id).await?]),
                JobsNamed::All(kind) => shown(&db.resume_jobs(*kind).await?),
            }
        }
    }
}

/// Whether one may run such jobs, and whether there are any.
fn check_run(context: &StatementContext, kind: Option<JobKind>, table: Option<TableId>) -> Result<()> {
    match (kind, table) {
        (Some(JobKind::Checkpoint), Some(_)) => {
            let message = "a checkpoint is of the whole database: RUN JOB checkpoint has no table";
            Err(Error::new(ErrorKind::InvalidInput, message).map(|e| e.with_sqlstate("42601")))
        }
        // Its owner was asked for already.
        (_, Some(_)) => Ok(()),
        (_, None) => context.rights.superuser("run jobs"),
    }
}

/// Columns of what a statement answers.
pub(super) fn columns(statement: &JobStatement) -> SchemaRef {
    match statement {
        JobStatement::Run { .. } => columns_of_run(),
        JobStatement::Retry(_)
        | JobStatement::RetryAll(_)
        | JobStatement::Cancel(_)
        | JobStatement::Pause(_)
        | JobStatement::Resume(_) => columns_of_jobs(),
    }
}

fn columns_of_run() -> SchemaRef {
    let number = |name: &str| Field::new(name, DataType::UInt64, false);
    Arc::new(Schema::new(vec![
        Field::new("triggered", DataType::Boolean, false),
        Field::new("reason", DataType::Utf8View, false),
        number("completed"),
        number("failed"),
        number("stopped"),
        number("rows"),
        number("bytes"),
        Field::new("duration_ms", DataType::Float64, false),
    ]))
}

fn columns_of_jobs() -> SchemaRef {
    Arc::new(Schema::new(vec![
        Field::new("id", DataType::UInt64, false),
        Field::new("kind", DataType::Utf8View, false),
        Field::new("table", DataType::Utf8View, true),
        Field::new("status", DataType::Utf8View, false),
    ]))
}

/// The jobs that a statement was about, as they are now.
fn shown(jobs: &[JobRow]) -> Result<Output> {
    let text = |of: fn(&JobRow) -> Option<&str>| -> ArrayRef {
        Arc::new(jobs.iter().map(of).collect::<StringViewArray>())
    };
    let columns = vec![
        Arc::new(UInt64Array::from_iter_values(jobs.iter().map(|job| job.id))) as ArrayRef,
        text(|job| Some(&job.kind)),
        text(|job| job.table.as_deref()),
        text(|job| Some(&job.status)),
    ];
    rows_in(columns_of_jobs(), columns)
}
