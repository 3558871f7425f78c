//! The one table of a run, `t (id BIGINT PRIMARY KEY, value BIGINT)`: reading it the long way, changing it.

use std::collections::BTreeMap;
use std::sync::Arc;

use arrow::array::{ArrayRef, AsArray, Int64Array, RecordBatch};
use arrow::datatypes::{Int64Type, UInt64Type};

use crate::database::Database;
use crate::database::tests::table_of;
use crate::error::Result;
use crate::id::{CommitId, CommitVersion, RowId, TableId};
use crate::schema::{ColumnType, TableDef};
use crate::segment::RowChoice;
use crate::transaction::{CommitOptions, CommitReceipt, Transaction};
use crate::version::Snapshot;
use crate::wal::CatalogEdit;

/// Visible rows by id.
pub(super) type Rows = BTreeMap<i64, Row>;

/// What stands beside an id.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Row {
    pub(super) value: i64,
    /// The commit that wrote it.
    pub(super) version: CommitVersion,
}

/// What a commit is to do: delete first, then insert.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Change {
    /// Create the table, and nothing else.
    pub(super) create: bool,
    pub(super) delete: Vec<i64>,
    pub(super) insert: Vec<(i64, i64)>,
}

impl Change {
    pub(super) fn creating() -> Self {
        Self { create: true, ..Self::default() }
    }

    pub(super) fn inserting(rows: &[(i64, i64)]) -> Self {
        Self { insert: rows.to_vec(), ..Self::default() }
    }
}

/// The table as a snapshot shows it.
#[derive(Clone, Debug, Default)]
pub(super) struct Found {
    pub(super) table: TableId,
    pub(super) rows: Rows,
    pub(super) ids: BTreeMap<i64, RowId>,
    /// What cannot be.
    pub(super) wrong: Option<String>,
}

impl Found {
    fn add(&mut self, batch: &RecordBatch, row: usize, id: RowId, version: CommitVersion) {
        let key = batch.column(0).as_primitive::<Int64Type>().value(row);
        let value = batch.column(1).as_primitive::<Int64Type>().value(row);
        self.ids.insert(key, id);
        if self.rows.insert(key, Row { value, version }).is_some() {
            self.wrong = Some(format!("id {key} is there twice"));
        }
    }
}

fn definition(id: TableId) -> TableDef {
    table_of(id, "t", &[("id", ColumnType::Int64), ("value", ColumnType::Int64)], true)
}

fn batch(rows: &[(i64, i64)]) -> RecordBatch {
    let keys: ArrayRef = Arc::new(Int64Array::from_iter_values(rows.iter().map(|row| row.0)));
    let values: ArrayRef = Arc::new(Int64Array::from_iter_values(rows.iter().map(|row| row.1)));
    RecordBatch::try_new(definition(TableId(1)).arrow_schema(), vec![keys, values]).unwrap()
}

/// Everything in the table; None: it is not there.
pub(super) async fn read(snapshot: &Snapshot) -> Result<Option<Found>> {
    let Some(table) = snapshot.table_named("public", "t") else { return Ok(None) };
    let mut found = Found { table: table.def().id, ..Found::default() };
    for batch in table.hot_batches(&[0, 1], true)? {
        let ids = batch.column(2).as_primitive::<UInt64Type>();
        let versions = batch.column(3).as_primitive::<UInt64Type>();
        for row in 0..batch.num_rows() {
            found.add(&batch, row, RowId(ids.value(row)), CommitVersion(versions.value(row)));
        }
    }
    for view in table.segments().await? {
        let reader = table.open_segment(&view.meta).await?;
        let is_live = |position: &u32| !view.deleted.as_ref().is_some_and(|gone| gone.contains(*position));
        let live: Vec<u32> = (0..view.meta.rows as u32).filter(is_live).collect();
        if live.is_empty() {
            continue;
        }
        let ids = reader.row_ids_at(&live).await?;
        let versions = reader.versions_at(&live).await?;
        let mut addresses = ids.into_iter().zip(versions);
        for batch in reader.read(&[0, 1], RowChoice::Positions(&live)).await? {
            for row in 0..batch.num_rows() {
                let (id, version) = addresses.next().unwrap();
                found.add(&batch, row, id, version);
            }
        }
    }
    let counted = table.row_count().await?;
    if found.wrong.is_none() && counted != found.rows.len() as u64 {
        found.wrong = Some(format!("{} rows are there, {counted} are counted", found.rows.len()));
    }
    Ok(Some(found))
}

/// Puts a change into a transaction that reads what was `found`.
pub(super) async fn fill(transaction: &Transaction, found: Option<&Found>, change: &Change) -> Result<()> {
    let Some(found) = found.filter(|_| !change.create) else {
        assert!(change.create, "there is no table to change");
        let id = transaction.next_table_id();
        return transaction.edit(CatalogEdit::PutTable(Arc::new(definition(id))));
    };
    let ids: Vec<RowId> = change.delete.iter().map(|key| found.ids[key]).collect();
    if !ids.is_empty() {
        transaction.delete(found.table, &ids)?;
    }
    if !change.insert.is_empty() {
        let mut writer = transaction.writer(found.table)?;
        for rows in change.insert.chunks(64) {
            writer.write(batch(rows)).await?;
        }
        writer.finish().await?;
    }
    Ok(())
}

/// Where SHOW COMMIT finds a commit.
pub(super) async fn show_commit(db: &Arc<Database>, id: CommitId) -> Result<Option<CommitVersion>> {
    Ok(db.commit_version(id).await?.map(|found| found.version))
}

/// One change as one commit.
pub(super) async fn commit(db: &Arc<Database>, change: &Change, id: CommitId) -> Result<CommitReceipt> {
    let snapshot = db.snapshot();
    let found = read(&snapshot).await?;
    let transaction = db.begin(&snapshot).await?;
    fill(&transaction, found.as_ref(), change).await?;
    transaction.commit(CommitOptions { commit_id: Some(id), ..CommitOptions::default() }).await
}
