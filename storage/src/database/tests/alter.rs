//! ALTER TABLE against a model: every row is read under the definition of whoever reads it, however it is kept.

use std::time::Duration;

use arrow::array::Array;
use arrow::compute::{cast, concat_batches};
use arrow::datatypes::DataType;
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

use super::*;
use crate::checkpoint::CheckpointReason;
use crate::error::ErrorKind;
use crate::scratch::scratch;
use crate::segment::StatValue;
use crate::transaction::{LastWord, TransactionBlock};

/// Key -> values that were written.
type Model = BTreeMap<i64, BTreeMap<ColumnId, Option<i64>>>;
/// Key -> values of all columns of a definition.
type Shown = BTreeMap<i64, Vec<Option<i64>>>;

fn options() -> OpenOptions {
    OpenOptions {
        wal_entry_bytes_max: 24 << 10,
        compacts: false,
        compact_segment_bytes: 16 << 10,
        ..OpenOptions::default()
    }
}

async fn table(db: &Arc<Database>) -> TableId {
    let tx = db.begin(&db.snapshot()).await.unwrap();
    let id = tx.next_table_id();
    let mut def = table_of(
        id,
        "t",
        &[("k", ColumnType::Int64), ("a", ColumnType::Int8), ("b", ColumnType::Int8)],
        true,
    );
    def.columns[2].nullable = true;
    tx.edit(CatalogEdit::PutTable(Arc::new(def))).unwrap();
    tx.commit(CommitOptions::default()).await.unwrap();
    id
}

fn def_of(db: &Arc<Database>, table: TableId) -> TableDef {
    TableDef::clone(db.snapshot().table(table).unwrap().def())
}

fn next(def: &TableDef) -> TableDef {
    TableDef { schema_version: def.schema_version.next(), ..def.clone() }
}

/// `def` with one column more.
fn added(def: &TableDef, name: &str, initial: Option<i64>, nullable: bool) -> TableDef {
    let mut new = next(def);
    new.columns.push(ColumnDef {
        id: def.next_column_id,
        name: name.to_owned(),
        column_type: ColumnType::Int8,
        nullable,
        default: None,
        initial: initial.map(StatValue::Int),
    });
    new.next_column_id = def.next_column_id.next();
    new
}

async fn alter(db: &Arc<Database>, def: TableDef) -> Result<()> {
    let tx = db.begin(&db.snapshot()).await?;
    tx.edit(CatalogEdit::PutTable(Arc::new(def)))?;
    tx.commit(CommitOptions::default()).await.map(|_| ())
}

/// Rows of `def` as the table takes them.
fn rows_of(def: &TableDef, rows: &Model) -> RecordBatch {
    let columns = def.columns.iter().map(|column| {
        let values = rows.iter().map(|(key, row)| match column.id {
            ColumnId(1) => Some(*key),
            id => row.get(&id).copied().flatten(),
        });
        cast(&Int64Array::from_iter(values), &column.column_type.arrow()).unwrap()
    });
    RecordBatch::try_new(def.arrow_schema(), columns.collect()).unwrap()
}

async fn insert_all(db: &Arc<Database>, table: TableId, rows: &Model) {
    let tx = db.begin(&db.snapshot()).await.unwrap();
    let mut writer = tx.writer(table).unwrap();
    writer.write(rows_of(&def_of(db, table), rows)).await.unwrap();
    writer.finish().await.unwrap();
    tx.commit(CommitOptions::default()).await.unwrap();
}

fn expected(def: &TableDef, model: &Model) -> Shown {
    let initial = |column: &ColumnDef| match column.initial {
        Some(StatValue::Int(value)) => Some(value),
        _ => None,
    };
    let value = |key: i64, row: &BTreeMap<ColumnId, Option<i64>>, column: &ColumnDef| match column.id {
        ColumnId(1) => Some(key),
        id => row.get(&id).copied().unwrap_or_else(|| initial(column)),
    };
    let shown = |(key, row): (&i64, &BTreeMap<ColumnId, Option<i64>>)| {
        (*key, def.columns.iter().map(|column| value(*key, row, column)).collect())
    };
    model.iter().map(shown).collect()
}

/// Everything a snapshot shows, read the long way and, for a few rows of each segment, by position.
async fn shown(table: &TableSnapshot) -> Shown {
    let columns: Vec<usize> = (0..table.def().columns.len()).collect();
    let mut batches = table.hot_batches(&columns, false).unwrap();
    for view in table.segments().await.unwrap() {
        assert_eq!(view.meta.columns.len(), columns.len());
        let reader = table.open_segment(&view.meta).await.unwrap();
        let positions: Vec<u32> = (0..view.meta.rows as u32)
            .filter(|p| !view.deleted.as_ref().is_some_and(|d| d.contains(*p)))
            .collect();
        if positions.is_empty() {
            continue;
        }
        let read = reader.read(&columns, RowChoice::Positions(&positions)).await.unwrap();
        let few = reader.rows_at(&columns, &positions[..positions.len().min(3)]).await.unwrap();
        let all = concat_batches(&few.schema(), &read).unwrap();
        assert_eq!(few, all.slice(0, few.num_rows()));
        for column in &columns {
            if let Some(kept) = reader.kept_column(*column).await.unwrap() {
                assert_eq!(kept.values().len() as u64, view.meta.rows);
            }
        }
        batches.extend(read);
    }
    let mut rows = Shown::new();
    for batch in &batches {
        let columns: Vec<ArrayRef> =
            batch.columns().iter().map(|column| cast(column, &DataType::Int64).unwrap()).collect();
        for row in 0..batch.num_rows() {
            let value = |column: &ArrayRef| {
                let column = column.as_primitive::<Int64Type>();
                column.is_valid(row).then(|| column.value(row))
            };
            let values: Vec<Option<i64>> = columns.iter().map(value).collect();
            assert!(rows.insert(values[0].unwrap(), values).is_none(), "a key is there twice");
        }
    }
    assert_eq!(table.row_count().await.unwrap(), rows.len() as u64);
    rows
}

/// A change of the columns, and whether it may be made of these rows.
async fn changed(
    random: &mut StdRng,
    db: &Arc<Database>,
    table: TableId,
    model: &Model,
    step: i64,
) -> TableDef {
    let def = def_of(db, table);
    let mut new = next(&def);
    // Never the key.
    let at = (def.columns.len() > 1).then(|| random.random_range(1..def.columns.len()));
    let Some(at) = at.filter(|_| random.random_bool(0.7)) else {
        let initial = random.random_bool(0.6).then(|| random.random_range(0..100));
        let nullable = initial.is_none() || random.random_bool(0.5);
        return added(&def, &format!("c{step}"), initial, nullable);
    };
    let column = &mut new.columns[at];
    match random.random_range(0..4) {
        0 => {
            new.columns.remove(at);
        }
        1 => column.name = format!("renamed{step}"),
        2 => {
            let wider = match column.column_type {
                ColumnType::Int8 => ColumnType::Int16,
                ColumnType::Int16 => ColumnType::Int32,
                _ => ColumnType::Int64,
            };
            assert!(wider == column.column_type || wider.widens(&column.column_type));
            column.column_type = wider;
        }
        _ if column.nullable => {
            let has_null = expected(&def, model).values().any(|row| row[at].is_none());
            let found = db.snapshot().table(table).unwrap().has_null(at).await.unwrap();
            assert_eq!(found, has_null);
            column.nullable = has_null;
        }
        _ => column.nullable = true,
    }
    new
}

async fn history(seed: u64) {
    let mut random = StdRng::seed_from_u64(seed);
    let dir = scratch().unwrap();
    let root = Root::Path(dir.path().join("db"));
    let mut db = Database::open(root.clone(), options()).await.unwrap();
    let table = table(&db).await;
    let (mut model, mut next_key) = (Model::new(), 0);
    let mut held: Vec<(TableSnapshot, Shown)> = Vec::new();
    let reader = OpenOptions { read_only: true, ..options() };
    let mut follower = Database::open(root.clone(), reader.clone()).await.unwrap();
    for step in 0..50 {
        let what = format!("seed {seed} step {step}");
        match random.random_range(0..14) {
            0..4 => {
                let most = if random.random_bool(0.1) { 1_500 } else { 40 };
                let def = def_of(&db, table);
                let mut new = Model::new();
                for key in next_key..next_key + random.random_range(1..most) {
                    let value = |column: &ColumnDef| {
                        let null = column.nullable && random.random_bool(0.2);
                        (column.id, (!null).then(|| random.random_range(0..100)))
                    };
                    new.insert(key, def.columns.iter().skip(1).map(value).collect());
                }
                next_key += new.len() as i64;
                insert_all(&db, table, &new).await;
                model.extend(new);
            }
            4 => {
                let keys: Vec<i64> = model.keys().copied().filter(|_| random.random_bool(0.3)).collect();
                assert_eq!(change(&db, table, &keys, &[]).await.unwrap(), keys.len());
                model.retain(|key, _| !keys.contains(key));
            }
            5 => {
                db.checkpoint(CheckpointReason::Statement).await.unwrap();
            }
            6 => {
                db.compact(Some(table)).await.unwrap();
            }
            7..11 => {
                let new = changed(&mut random, &db, table, &model, step).await;
                alter(&db, new).await.unwrap();
            }
            11 => {
                let version = db.snapshot().version();
                follower.wait_for_version(version, Duration::from_secs(120)).await.unwrap();
                let there = follower.snapshot().table(table).unwrap();
                assert_eq!(shown(&there).await, expected(&def_of(&db, table), &model), "{what}");
            }
            12 => {
                let now = db.snapshot().table(table).unwrap();
                held.push((now, expected(&def_of(&db, table), &model)));
            }
            _ => {
                held.clear();
                db.close().await.unwrap();
                drop(db);
                db = Database::open(root.clone(), options()).await.unwrap();
                follower = Database::open(root.clone(), reader.clone()).await.unwrap();
            }
        }
        let now = db.snapshot().table(table).unwrap();
        assert_eq!(shown(&now).await, expected(now.def(), &model), "{what}");
        for (snapshot, rows) in &held {
            assert_eq!(&shown(snapshot).await, rows, "{what}, held");
        }
    }
    is_sound(&db).await;
}

#[tokio::test]
async fn rows_are_read_under_every_later_definition() {
    for seed in 0..6 {
        history(seed).await;
    }
}

fn one(key: i64, values: &[(u32, i64)]) -> Model {
    let row = values.iter().map(|(id, value)| (ColumnId(*id), Some(*value))).collect();
    Model::from([(key, row)])
}

#[tokio::test]
async fn rows_for_an_older_definition_are_a_conflict() {
    let (root, options) = memory();
    let db = Database::open(root, options).await.unwrap();
    let table = table(&db).await;
    let def = def_of(&db, table);
    let late = db.begin(&db.snapshot()).await.unwrap();
    let mut writer = late.writer(table).unwrap();
    writer.write(rows_of(&def, &one(1, &[(2, 1)]))).await.unwrap();
    writer.finish().await.unwrap();
    alter(&db, added(&def, "c", Some(5), false)).await.unwrap();
    let error = late.commit(CommitOptions::default()).await.unwrap_err();
    assert_eq!((error.kind(), error.sqlstate()), (ErrorKind::Conflict, "40001"));

    // A column becomes NOT NULL by what its rows were before another one came.
    let def = def_of(&db, table);
    let mut strict = next(&def);
    strict.columns[2].nullable = false;
    let tightens = db.begin(&db.snapshot()).await.unwrap();
    tightens.edit(CatalogEdit::PutTable(Arc::new(strict))).unwrap();
    insert_all(&db, table, &one(2, &[(2, 2), (4, 3)])).await;
    let error = tightens.commit(CommitOptions::default()).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Conflict);
    assert!(db.snapshot().table(table).unwrap().has_null(2).await.unwrap());
}

#[tokio::test]
async fn a_transaction_writes_before_and_after_it_alters() {
    let dir = scratch().unwrap();
    let root = Root::Path(dir.path().join("db"));
    let db = Database::open(root.clone(), OpenOptions::default()).await.unwrap();
    let table = table(&db).await;
    insert_all(&db, table, &one(1, &[(2, 1)])).await;
    let block = TransactionBlock::begin(Arc::clone(&db), false);
    let write = async |rows: Model| {
        let snapshot = block.snapshot();
        let tx = db.begin(&snapshot).await.unwrap();
        let mut writer = tx.writer(table).unwrap();
        let def = Arc::clone(snapshot.table(table).unwrap().def());
        writer.write(rows_of(&def, &rows)).await.unwrap();
        writer.finish().await.unwrap();
        block.add(tx, &LastWord::default()).await.unwrap();
    };
    let define = async |def: TableDef| {
        let tx = db.begin(&block.snapshot()).await.unwrap();
        tx.edit(CatalogEdit::PutTable(Arc::new(def))).unwrap();
        block.add(tx, &LastWord::default()).await.unwrap();
    };
    write(one(2, &[(2, 2)])).await;
    let def = def_of(&db, table);
    define(added(&def, "c", Some(7), false)).await;
    write(one(3, &[(2, 3), (4, 9)])).await;
    block.savepoint("s");
    let mut without = next(block.snapshot().table(table).unwrap().def());
    without.columns.remove(1);
    define(without).await;
    let mine = shown(&block.snapshot().table(table).unwrap()).await;
    assert_eq!(mine[&3], [Some(3), None, Some(9)]);
    block.rollback_to("s").unwrap();
    // Nobody else sees it, and what others read is not what was kept for the block.
    assert_eq!(shown(&db.snapshot().table(table).unwrap()).await.len(), 1);
    block.commit(CommitOptions::default()).await.unwrap();
    let expected = Shown::from([
        (1, vec![Some(1), Some(1), None, Some(7)]),
        (2, vec![Some(2), Some(2), None, Some(7)]),
        (3, vec![Some(3), Some(3), None, Some(9)]),
    ]);
    assert_eq!(shown(&db.snapshot().table(table).unwrap()).await, expected);
    db.close().await.unwrap();
    drop((block, db));
    let db = Database::open(root, OpenOptions::default()).await.unwrap();
    assert_eq!(shown(&db.snapshot().table(table).unwrap()).await, expected);
}

/// Two definitions of the same number: what a transaction gave up is not what the next one reads.
#[tokio::test]
async fn a_definition_that_was_rolled_back_leaves_nothing() {
    let (root, options) = memory();
    let db = Database::open(root, options).await.unwrap();
    let table = table(&db).await;
    insert_all(&db, table, &one(1, &[(2, 11), (3, 12)])).await;
    db.checkpoint(CheckpointReason::Statement).await.unwrap();
    let def = def_of(&db, table);
    let block = TransactionBlock::begin(Arc::clone(&db), false);
    let tx = db.begin(&block.snapshot()).await.unwrap();
    let mut first = next(&def);
    first.columns.remove(1);
    tx.edit(CatalogEdit::PutTable(Arc::new(first))).unwrap();
    block.add(tx, &LastWord::default()).await.unwrap();
    assert_eq!(shown(&block.snapshot().table(table).unwrap()).await[&1], [Some(1), Some(12)]);
    block.rollback().await;
    let mut second = next(&def);
    second.columns.remove(2);
    alter(&db, second).await.unwrap();
    assert_eq!(shown(&db.snapshot().table(table).unwrap()).await[&1], [Some(1), Some(11)]);
}

#[tokio::test]
async fn a_checkpoint_goes_on_while_the_table_is_altered() {
    let dir = scratch().unwrap();
    let root = Root::Path(dir.path().join("db"));
    let db = Database::open(root.clone(), options()).await.unwrap();
    let table = table(&db).await;
    let mut model = Model::new();
    for round in 0..8 {
        let def = def_of(&db, table);
        for key in round * 10..round * 10 + 10 {
            let values = def.columns.iter().skip(1).map(|column| (column.id, Some(key % 100))).collect();
            let row = Model::from([(key, values)]);
            insert_all(&db, table, &row).await;
            model.extend(row);
        }
        let new = added(&def, &format!("c{round}"), Some(round), false);
        let (written, altered) = tokio::join!(db.checkpoint(CheckpointReason::Statement), alter(&db, new));
        written.unwrap();
        altered.unwrap();
        let now = db.snapshot().table(table).unwrap();
        assert_eq!(shown(&now).await, expected(now.def(), &model), "round {round}");
    }
    db.close().await.unwrap();
    drop(db);
    let db = Database::open(root, options()).await.unwrap();
    let now = db.snapshot().table(table).unwrap();
    assert_eq!(shown(&now).await, expected(now.def(), &model));
    is_sound(&db).await;
}
