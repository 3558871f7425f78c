//! CHECKPOINT, COMPACT, VACUUM, VERIFY, WARM TABLE, WAIT FOR VERSION: each answers with a receipt or one row per finding.

use std::sync::Arc;
use std::time::Duration;

use cairn_storage::id::{CommitVersion, TableId};
use cairn_storage::schema::TableDef;
use cairn_storage::{CheckpointReason, Database, ErrorKind, Snapshot, VerifyScope};
use datafusion::arrow::array::{ArrayRef, BooleanArray, Float64Array, StringViewArray, UInt64Array};
use datafusion::arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use datafusion::sql::sqlparser::ast::ObjectName;

use super::show::rows;
use crate::catalog::missing;
use crate::context::StatementContext;
use crate::error::{Error, Result};
use crate::output::Output;
use crate::rights::Right;
use crate::statement::{object_position, schema_and_name};

/// CHECKPOINT [TABLE t]: one receipt row. A manifest describes the whole database, so naming a table only checks that it exists.
pub(super) async fn checkpoint(context: &StatementContext, table: Option<&ObjectName>) -> Result<Output> {
    context.rights.superuser("run CHECKPOINT")?;
    if let Some(name) = table {
        table_id(context, name)?;
    }
    context.db.claim().await?;
    let receipt = context.db.checkpoint(CheckpointReason::Statement).await?;
    let number = |n: u64| Arc::new(UInt64Array::from(vec![n])) as ArrayRef;
    rows(vec![
        ("triggered", Arc::new(BooleanArray::from(vec![receipt.triggered]))),
        ("reason", Arc::new(StringViewArray::from(vec![receipt.reason.as_str()]))),
        ("version", number(receipt.version.0)),
        ("manifest", number(receipt.manifest.0)),
        ("segments", number(receipt.segments)),
        ("rows", number(receipt.rows)),
        ("deletes", number(receipt.deletes)),
        ("bytes", number(receipt.bytes)),
        ("duration_ms", milliseconds(receipt.duration)),
    ])
}

/// A time in milliseconds, to the microsecond.
pub(super) fn milliseconds(time: Duration) -> ArrayRef {
    Arc::new(Float64Array::from(vec![(time.as_secs_f64() * 1e6).round() / 1e3]))
}

/// Columns of CHECKPOINT's receipt.
pub(super) fn checkpoint_columns() -> SchemaRef {
    let number = |name: &str| Field::new(name, DataType::UInt64, false);
    Arc::new(Schema::new(vec![
        Field::new("triggered", DataType::Boolean, false),
        Field::new("reason", DataType::Utf8View, false),
        number("version"),
        number("manifest"),
        number("segments"),
        number("rows"),
        number("deletes"),
        number("bytes"),
        Field::new("duration_ms", DataType::Float64, false),
    ]))
}

/// COMPACT [TABLE t]: one receipt row.
pub(super) async fn compact(context: &StatementContext, table: Option<&ObjectName>) -> Result<Output> {
    not_in_transaction(context, "COMPACT")?;
    let table = match table {
        Some(name) => Some(table_id(context, name)?),
        None => {
            context.rights.superuser("run COMPACT")?;
            None
        }
    };
    context.db.claim().await?;
    let receipt = context.db.compact(table).await?;
    let number = |n: u64| Arc::new(UInt64Array::from(vec![n])) as ArrayRef;
    rows(vec![
        ("triggered", Arc::new(BooleanArray::from(vec![receipt.triggered]))),
        ("reason", Arc::new(StringViewArray::from(vec![receipt.reason.as_str()]))),
        ("tables", number(receipt.tables)),
        ("replaced", number(receipt.replaced)),
        ("replaced_bytes", number(receipt.replaced_bytes)),
        ("segments", number(receipt.segments)),
        ("rows", number(receipt.rows)),
        ("dropped", number(receipt.dropped)),
        ("bytes", number(receipt.bytes)),
        ("duration_ms", milliseconds(receipt.duration)),
    ])
}

/// Columns of COMPACT's receipt.
pub(super) fn compact_columns() -> SchemaRef {
    let number = |name: &str| Field::new(name, DataType::UInt64, false);
    Arc::new(Schema::new(vec![
        Field::new("triggered", DataType::Boolean, false),
        Field::new("reason", DataType::Utf8View, false),
        number("tables"),
        number("replaced"),
        number("replaced_bytes"),
        number("segments"),
        number("rows"),
        number("dropped"),
        number("bytes"),
        Field::new("duration_ms", DataType::Float64, false),
    ]))
}

/// Refuses what would go on with what is committed, not with what a transaction sees.
pub(super) fn not_in_transaction(context: &StatementContext, what: &str) -> Result<()> {
    if context.block.is_none() {
        return Ok(());
    }
    let message = format!("{what} cannot be one of a transaction's statements");
    Err(Error::new(ErrorKind::InvalidInput, message).map(|e| e.with_sqlstate("25001")))
}

/// VACUUM [[TABLE] t]: one receipt row.
pub(super) async fn vacuum(context: &StatementContext, table: Option<&ObjectName>) -> Result<Output> {
    not_in_transaction(context, "VACUUM")?;
    let table = match table {
        Some(name) => Some(table_id(context, name)?),
        None => {
            context.rights.superuser("run VACUUM")?;
            None
        }
    };
    context.db.claim().await?;
    let receipt = context.db.vacuum(table).await?;
    let number = |n: u64| Arc::new(UInt64Array::from(vec![n])) as ArrayRef;
    rows(vec![
        ("triggered", Arc::new(BooleanArray::from(vec![receipt.objects() > 0]))),
        ("reason", Arc::new(StringViewArray::from(vec!["statement"]))),
        ("objects", number(receipt.objects())),
        ("bytes", number(receipt.bytes())),
        ("more", Arc::new(BooleanArray::from(vec![receipt.more]))),
        ("duration_ms", milliseconds(receipt.duration)),
    ])
}

/// Columns of VACUUM's receipt.
pub(super) fn vacuum_columns() -> SchemaRef {
    let number = |name: &str| Field::new(name, DataType::UInt64, false);
    Arc::new(Schema::new(vec![
        Field::new("triggered", DataType::Boolean, false),
        Field::new("reason", DataType::Utf8View, false),
        number("objects"),
        number("bytes"),
        Field::new("more", DataType::Boolean, false),
        Field::new("duration_ms", DataType::Float64, false),
    ]))
}

/// VERIFY [DATABASE | TABLE t] [DEEP]: one row per finding.
pub(super) async fn verify(
    context: &StatementContext,
    table: Option<&ObjectName>,
    deep: bool,
) -> Result<Output> {
    let scope = match table {
        // What it would look at is what is committed, which may have another table under that name.
        Some(_) if context.block.is_some() => {
            return Err(Error::new(
                ErrorKind::InvalidInput,
                "VERIFY TABLE cannot be one of a transaction's statements",
            )
            .map(|e| e.with_sqlstate("25001")));
        }
        Some(name) => VerifyScope::Table(table_id(context, name)?),
        None => {
            context.rights.superuser("verify the database")?;
            VerifyScope::Database
        }
    };
    let findings = match deep {
        true => context.db.verify_deep(scope).await?,
        false => context.db.verify(scope).await?,
    };
    let text = |values: Vec<&str>| Arc::new(StringViewArray::from(values)) as ArrayRef;
    rows(vec![
        ("object", text(findings.iter().map(|f| f.object.as_str()).collect())),
        ("check", text(findings.iter().map(|f| f.check.as_str()).collect())),
        ("status", text(findings.iter().map(|f| f.status.as_str()).collect())),
        ("detail", text(findings.iter().map(|f| f.detail.as_str()).collect())),
        ("hint", text(findings.iter().map(|f| f.hint.as_str()).collect())),
    ])
}

/// Columns of VERIFY's findings.
pub(super) fn verify_columns() -> SchemaRef {
    let text = |name: &str| Field::new(name, DataType::Utf8View, false);
    Arc::new(Schema::new(["object", "check", "status", "detail", "hint"].map(text).to_vec()))
}

/// WARM TABLE t: reads all of the table, so that what is kept near holds it; one receipt row.
pub(super) async fn warm(context: &StatementContext, name: &ObjectName) -> Result<Output> {
    let def = table_def(context, name)?;
    context.rights.table(Right::Select, &def)?;
    let table = context.snapshot.table(def.id);
    let table = table.ok_or_else(|| Error::new(ErrorKind::Internal, "a table has a name and no rows"))?;
    let receipt = table.warm().await?;
    let number = |n: u64| Arc::new(UInt64Array::from(vec![n])) as ArrayRef;
    rows(vec![
        ("table", Arc::new(StringViewArray::from(vec![def.qualified_name()]))),
        ("segments", number(receipt.segments)),
        ("units", number(receipt.units)),
        ("bytes", number(receipt.bytes)),
        ("duration_ms", milliseconds(receipt.duration)),
    ])
}

/// Columns of WARM TABLE's receipt.
pub(super) fn warm_columns() -> SchemaRef {
    let number = |name: &str| Field::new(name, DataType::UInt64, false);
    Arc::new(Schema::new(vec![
        Field::new("table", DataType::Utf8View, false),
        number("segments"),
        number("units"),
        number("bytes"),
        Field::new("duration_ms", DataType::Float64, false),
    ]))
}

/// WAIT FOR VERSION n: returns when this handle sees version n.
pub(super) async fn wait_for_version(db: &Arc<Database>, version: u64, timeout: Duration) -> Result<Output> {
    db.wait_for_version(CommitVersion(version), timeout).await?;
    Ok(super::done("WAIT"))
}

/// Catches a follower up with its writer.
pub(super) async fn refresh(db: &Arc<Database>) -> Result<()> {
    Ok(db.refresh().await?)
}

/// Catches a follower up with its writer after objects of `snapshot` were gone: what it saw last may be just that.
pub(super) async fn refresh_past(db: &Arc<Database>, snapshot: &Snapshot) -> Result<()> {
    if !db.follows() {
        return Ok(());
    }
    db.refresh().await?;
    if Arc::ptr_eq(db.snapshot().state(), snapshot.state()) {
        // It looks so seldom, and has looked just now.
        tokio::time::sleep(db.options().poll_interval).await;
        db.refresh().await?;
    }
    Ok(())
}

/// The table of that name, for its owner.
pub(super) fn table_id(context: &StatementContext, name: &ObjectName) -> Result<TableId> {
    let def = table_def(context, name)?;
    context.rights.own(def.owner, &def.schema, &def.name)?;
    Ok(def.id)
}

/// The table of that name, for whoever may do something with it.
fn table_def(context: &StatementContext, name: &ObjectName) -> Result<Arc<TableDef>> {
    let (schema, table) = schema_and_name(name, &context.search_path)?;
    let catalog = context.snapshot.catalog();
    if let Some(def) = catalog.table(&schema, &table) {
        return Ok(Arc::clone(def));
    }
    let seen = catalog.tables(&schema).filter(|t| context.rights.sees(t.owner, &schema, &t.name));
    let error: Error = missing(&schema, &table, seen.map(|t| t.name.as_str()));
    Err(match object_position(name) {
        Some(position) => error.at(position),
        None => error,
    })
}
