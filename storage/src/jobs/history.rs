//! What is kept of jobs beyond their process: rows of an ordinary table, in a schema that no statement can name.
//!
//! Rows are only added: of several with one number that of the newest version counts. When there are twice as many as are shown, all
//! go and those that count are written anew. The table is made with the first row.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use arrow::array::{
    Array, ArrayRef, AsArray, Float64Array, Int64Array, RecordBatch, StringViewArray, UInt64Array,
};
use arrow::datatypes::{Float64Type, Int64Type, UInt64Type};

use super::{JobRow, KEPT_JOBS};
use crate::database::Database;
use crate::error::{Error, ErrorKind, Result};
use crate::id::{ColumnId, SchemaVersion, TableId};
use crate::schema::{ColumnDef, ColumnType, TableDef};
use crate::segment::RowChoice;
use crate::transaction::CommitOptions;
use crate::version::{OWN_SCHEMA, Snapshot, TableSnapshot};
use crate::wal::{CatalogEdit, CommitInfo};

/// Name of the table.
const TABLE: &str = "jobs";
/// A commit that meets changes of the catalog is tried again this often.
const ATTEMPTS: u32 = 8;

/// Columns as (name, type, nullable), in the order of [`batch`] and [`rows_of`].
const COLUMNS: [(&str, ColumnType, bool); 20] = [
    // The version the row was written at: of two rows of a job the later one counts.
    ("written", ColumnType::UInt64, false),
    ("id", ColumnType::UInt64, false),
    ("kind", ColumnType::Text, false),
    ("table_name", ColumnType::Text, true),
    ("table_id", ColumnType::UInt64, true),
    ("parameters", ColumnType::Text, false),
    ("status", ColumnType::Text, false),
    ("attempts", ColumnType::UInt64, false),
    ("next_retry_us", ColumnType::Int64, true),
    ("progress", ColumnType::Float64, false),
    ("rows", ColumnType::UInt64, false),
    ("bytes", ColumnType::UInt64, false),
    ("created_us", ColumnType::Int64, false),
    ("started_us", ColumnType::Int64, true),
    ("finished_us", ColumnType::Int64, true),
    ("heartbeat_us", ColumnType::Int64, true),
    ("cpu_us", ColumnType::UInt64, false),
    ("memory_bytes", ColumnType::UInt64, false),
    ("node", ColumnType::Text, false),
    ("error", ColumnType::Text, true),
];

/// Rows of jobs as they are kept at `snapshot`, by id.
///
/// # Errors
/// Storage errors; `Corrupt` for a row that is not of this form.
pub(crate) async fn read(snapshot: &Snapshot) -> Result<Vec<JobRow>> {
    let Some(def) = snapshot.catalog().own_table(TABLE) else { return Ok(Vec::new()) };
    let Some(table) = snapshot.table(def.id) else { return Ok(Vec::new()) };
    let mut newest: BTreeMap<u64, (u64, JobRow)> = BTreeMap::new();
    for batch in batches(&table).await? {
        for (written, row) in rows_of(&batch).ok_or_else(damaged)? {
            let known = newest.get(&row.id).is_some_and(|(known, _)| *known >= written);
            if !known {
                newest.insert(row.id, (written, row));
            }
        }
    }
    Ok(newest.into_values().map(|(_, row)| row).collect())
}

async fn batches(table: &TableSnapshot) -> Result<Vec<RecordBatch>> {
    let columns: Vec<usize> = (0..COLUMNS.len()).collect();
    let mut batches = table.hot_batches(&columns, false)?;
    for view in table.segments().await? {
        let rows = u32::try_from(view.meta.rows).unwrap_or(u32::MAX);
        let gone = |position: &u32| view.deleted.as_ref().is_some_and(|deleted| deleted.contains(*position));
        let positions: Vec<u32> = (0..rows).filter(|position| !gone(position)).collect();
        let reader = table.open_segment(&view.meta).await?;
        batches.extend(reader.read(&columns, RowChoice::Positions(&positions)).await?);
    }
    Ok(batches)
}

/// Keeps `rows`; `all` are those that are shown. The caller sees to it that there is only one at a time.
///
/// # Errors
/// As for a commit; nothing is kept then.
pub(crate) async fn write(database: &Arc<Database>, rows: &[JobRow], all: &[JobRow]) -> Result<()> {
    if rows.is_empty() {
        return Ok(());
    }
    let mut attempt = 1;
    loop {
        match write_once(database, rows, all).await {
            Err(error) if error.kind() == ErrorKind::Conflict && attempt < ATTEMPTS => attempt += 1,
            other => return other,
        }
    }
}

async fn write_once(database: &Arc<Database>, rows: &[JobRow], all: &[JobRow]) -> Result<()> {
    let snapshot = database.snapshot();
    let transaction = database.begin(&snapshot).await?;
    let catalog = snapshot.catalog();
    if !catalog.has_own_schema() {
        transaction.edit(CatalogEdit::CreateSchema { name: OWN_SCHEMA.to_owned() })?;
    }
    let def = match catalog.own_table(TABLE) {
        Some(def) => Arc::clone(def),
        None => {
            let def = Arc::new(definition(transaction.next_table_id()));
            transaction.edit(CatalogEdit::PutTable(Arc::clone(&def)))?;
            def
        }
    };
    let kept = match snapshot.table(def.id) {
        Some(table) => table.row_count().await?,
        None => 0,
    };
    let rows = if kept + rows.len() as u64 > 2 * KEPT_JOBS as u64 {
        transaction.truncate(def.id)?;
        all
    } else {
        rows
    };
    let mut writer = transaction.writer(def.id)?;
    writer.write(batch(&def, snapshot.version().0 + 1, rows)?).await?;
    writer.finish().await?;
    let info = CommitInfo { message: "jobs".to_owned(), ..CommitInfo::default() };
    transaction.commit(CommitOptions { info, ..CommitOptions::default() }).await.map(|_| ())
}

fn definition(id: TableId) -> TableDef {
    let columns: Vec<ColumnDef> = (1..)
        .zip(COLUMNS)
        .map(|(id, (name, column_type, nullable))| ColumnDef {
            id: ColumnId(id),
            name: name.to_owned(),
            column_type,
            nullable,
            default: None,
            initial: None,
        })
        .collect();
    TableDef {
        id,
        schema: OWN_SCHEMA.to_owned(),
        name: TABLE.to_owned(),
        schema_version: SchemaVersion(1),
        primary_key: Vec::new(),
        sort: Vec::new(),
        next_column_id: columns.last().map_or(ColumnId(1), |column| column.id.next()),
        columns,
        layout: Default::default(),
        indexes: Vec::new(),
        identity: None,
        owner: None,
    }
}

fn batch(def: &TableDef, written: u64, rows: &[JobRow]) -> Result<RecordBatch> {
    let number = |of: &dyn Fn(&JobRow) -> u64| -> ArrayRef {
        Arc::new(UInt64Array::from_iter_values(rows.iter().map(of)))
    };
    let time = |of: &dyn Fn(&JobRow) -> Option<i64>| -> ArrayRef {
        Arc::new(rows.iter().map(of).collect::<Int64Array>())
    };
    let text = |of: &dyn for<'a> Fn(&'a JobRow) -> Option<&'a str>| -> ArrayRef {
        Arc::new(rows.iter().map(of).collect::<StringViewArray>())
    };
    let columns = vec![
        number(&|_| written),
        number(&|row| row.id),
        text(&|row| Some(&row.kind)),
        text(&|row| row.table.as_deref()),
        Arc::new(rows.iter().map(|row| row.table_id.map(|id| id.0)).collect::<UInt64Array>()),
        text(&|row| Some(&row.parameters)),
        text(&|row| Some(&row.status)),
        number(&|row| row.attempts.into()),
        time(&|row| row.next_retry_us),
        Arc::new(Float64Array::from_iter_values(rows.iter().map(|row| row.progress))),
        number(&|row| row.rows),
        number(&|row| row.bytes),
        time(&|row| Some(row.created_us)),
        time(&|row| row.started_us),
        time(&|row| row.finished_us),
        time(&|row| row.heartbeat_us),
        number(&|row| u64::try_from(row.cpu.as_micros()).unwrap_or(u64::MAX)),
        number(&|row| row.memory_bytes),
        text(&|row| Some(&row.node)),
        text(&|row| row.error.as_deref()),
    ];
    Ok(RecordBatch::try_new(def.arrow_schema(), columns)?)
}

/// Rows with the versions they were written at; None: the batch is not of this form.
fn rows_of(batch: &RecordBatch) -> Option<Vec<(u64, JobRow)>> {
    let column = |at: usize| batch.columns().get(at);
    let number = |at: usize| column(at)?.as_primitive_opt::<UInt64Type>();
    let time = |at: usize| column(at)?.as_primitive_opt::<Int64Type>();
    let text = |at: usize| column(at)?.as_string_view_opt();
    let (written, id, kind, table, table_id) = (number(0)?, number(1)?, text(2)?, text(3)?, number(4)?);
    let (parameters, status, attempts, next_retry) = (text(5)?, text(6)?, number(7)?, time(8)?);
    let progress = column(9)?.as_primitive_opt::<Float64Type>()?;
    let (rows, bytes, created, started) = (number(10)?, number(11)?, time(12)?, time(13)?);
    let (finished, heartbeat, cpu, memory) = (time(14)?, time(15)?, number(16)?, number(17)?);
    let (node, error) = (text(18)?, text(19)?);
    let some_time = |column: &Int64Array, i: usize| column.is_valid(i).then(|| column.value(i));
    let some_text =
        |column: &StringViewArray, i: usize| column.is_valid(i).then(|| column.value(i).to_owned());
    let row = |i: usize| JobRow {
        id: id.value(i),
        kind: kind.value(i).to_owned(),
        table: some_text(table, i),
        table_id: table_id.is_valid(i).then(|| TableId(table_id.value(i))),
        parameters: parameters.value(i).to_owned(),
        status: status.value(i).to_owned(),
        attempts: u32::try_from(attempts.value(i)).unwrap_or(u32::MAX),
        next_retry_us: some_time(next_retry, i),
        progress: progress.value(i),
        rows: rows.value(i),
        bytes: bytes.value(i),
        created_us: created.value(i),
        started_us: some_time(started, i),
        finished_us: some_time(finished, i),
        heartbeat_us: some_time(heartbeat, i),
        cpu: Duration::from_micros(cpu.value(i)),
        memory_bytes: memory.value(i),
        node: node.value(i).to_owned(),
        error: some_text(error, i),
    };
    Some((0..batch.num_rows()).map(|i| (written.value(i), row(i))).collect())
}

fn damaged() -> Error {
    Error::corrupt(format!("table {OWN_SCHEMA}.{TABLE}"), "a row is not of its form")
        .with_hint("run VERIFY, and restore the database from a backup")
}
