#![allow(clippy::unwrap_used)]
//! The database against a model: what was acknowledged is there, whatever happens to machine and disk.

mod alter;
mod compaction;
mod conflicts;
mod history;
mod jobs;
mod keys;
mod leaves;
mod lost;
mod numbers;
mod objects;
mod plain;
mod pressure;
mod store;

use std::collections::BTreeMap;
use std::sync::Arc;

use arrow::array::{ArrayRef, AsArray, Int64Array, RecordBatch, StringViewArray};
use arrow::datatypes::Int64Type;

use super::{Database, OpenOptions, Root};
use crate::error::Result;
use crate::id::{ColumnId, RowId, SchemaVersion, TableId};
use crate::schema::{ColumnDef, ColumnType, TableDef};
use crate::segment::{EncodedKey, RowChoice};
use crate::transaction::CommitOptions;
use crate::verify::VerifyScope;
use crate::version::TableSnapshot;
use crate::wal::CatalogEdit;

pub(crate) type Rows = BTreeMap<i64, String>;

/// A table of columns that hold no NULL, of which the first is the key of a keyed one.
pub(crate) fn table_of(id: TableId, name: &str, columns: &[(&str, ColumnType)], keyed: bool) -> TableDef {
    let columns: Vec<ColumnDef> = (1..)
        .map(ColumnId)
        .zip(columns)
        .map(|(id, (name, column_type))| ColumnDef {
            id,
            name: (*name).to_owned(),
            column_type: column_type.clone(),
            nullable: false,
            default: None,
            initial: None,
        })
        .collect();
    TableDef {
        id,
        schema: "public".to_owned(),
        name: name.to_owned(),
        schema_version: SchemaVersion(1),
        next_column_id: ColumnId(columns.len() as u32 + 1),
        columns,
        primary_key: if keyed { vec![ColumnId(1)] } else { Vec::new() },
        sort: Vec::new(),
        layout: Default::default(),
        indexes: Vec::new(),
        identity: None,
        owner: None,
    }
}

pub(crate) fn definition(id: TableId, name: &str, keyed: bool) -> TableDef {
    table_of(id, name, &[("k", ColumnType::Int64), ("v", ColumnType::Text)], keyed)
}

pub(crate) fn batch(rows: &[(i64, String)]) -> RecordBatch {
    let keys: ArrayRef = Arc::new(Int64Array::from_iter_values(rows.iter().map(|r| r.0)));
    let values: ArrayRef = Arc::new(StringViewArray::from_iter_values(rows.iter().map(|r| &r.1)));
    let schema = definition(TableId(1), "t", true).arrow_schema();
    RecordBatch::try_new(schema, vec![keys, values]).unwrap()
}

pub(crate) async fn create(db: &Arc<Database>, name: &str, keyed: bool) -> Result<TableId> {
    let tx = db.begin(&db.snapshot()).await?;
    let id = tx.next_table_id();
    tx.edit(CatalogEdit::PutTable(Arc::new(definition(id, name, keyed))))?;
    tx.commit(CommitOptions::default()).await?;
    Ok(id)
}

pub(crate) async fn insert(db: &Arc<Database>, table: TableId, rows: &[(i64, String)]) -> Result<()> {
    let tx = db.begin(&db.snapshot()).await?;
    let mut writer = tx.writer(table)?;
    for chunk in rows.chunks(50) {
        writer.write(batch(chunk)).await?;
    }
    writer.finish().await?;
    tx.commit(CommitOptions::default()).await.map(|_| ())
}

pub(crate) async fn ids_of(table: &TableSnapshot, keys: &[i64]) -> Result<Vec<RowId>> {
    let encoder = table.key_encoder()?.unwrap();
    let column: ArrayRef = Arc::new(Int64Array::from(keys.to_vec()));
    let encoded = encoder.encode(&[column])?;
    let keys: Vec<EncodedKey> = (0..encoded.len()).map(|i| encoded.to_owned(i)).collect();
    Ok(table.lookup(&keys).await?.into_iter().flatten().collect())
}

pub(super) fn rows(range: std::ops::Range<i64>) -> Vec<(i64, String)> {
    range.map(|k| (k, format!("value {k}"))).collect()
}

/// Deletes `keys` and inserts `rows` in one commit.
pub(crate) async fn change(
    db: &Arc<Database>,
    table: TableId,
    keys: &[i64],
    rows: &[(i64, String)],
) -> Result<usize> {
    let snapshot = db.snapshot();
    let ids = ids_of(&snapshot.table(table).unwrap(), keys).await?;
    let tx = db.begin(&snapshot).await?;
    tx.delete(table, &ids)?;
    if !rows.is_empty() {
        let mut writer = tx.writer(table)?;
        writer.write(batch(rows)).await?;
        writer.finish().await?;
    }
    tx.commit(CommitOptions::default()).await?;
    Ok(ids.len())
}

/// All visible rows, read the long way; panics when a key is there twice or the counts differ.
pub(crate) async fn contents(table: &TableSnapshot) -> Result<Rows> {
    let mut batches = table.hot_batches(&[0, 1], false)?;
    for view in table.segments().await? {
        let reader = table.open_segment(&view.meta).await?;
        let all = reader.read(&[0, 1], RowChoice::All).await?;
        let mut position = 0;
        for batch in all {
            for row in 0..batch.num_rows() {
                if !view.deleted.as_ref().is_some_and(|d| d.contains(position)) {
                    batches.push(batch.slice(row, 1));
                }
                position += 1;
            }
        }
    }
    let mut rows = Rows::new();
    for batch in &batches {
        let keys = batch.column(0).as_primitive::<Int64Type>();
        let values = batch.column(1).as_string_view();
        for row in 0..batch.num_rows() {
            let before = rows.insert(keys.value(row), values.value(row).to_owned());
            assert!(before.is_none(), "key {} twice", keys.value(row));
        }
    }
    assert_eq!(table.row_count().await?, rows.len() as u64);
    Ok(rows)
}

/// Nothing that it names is missing or damaged.
pub(super) async fn is_sound(db: &Arc<Database>) {
    let findings = db.verify(VerifyScope::Database).await.unwrap();
    let bad = findings.iter().find(|finding| finding.is_bad());
    assert!(bad.is_none(), "{bad:?}");
}

pub(crate) fn memory() -> (Root, OpenOptions) {
    (Root::Memory, OpenOptions::default())
}
