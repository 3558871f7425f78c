//! Numbers of identity columns: each is given once, whatever becomes of the rows, the process and the database.

use std::time::Duration;

use object_store::ObjectStore;
use object_store::memory::InMemory;

use super::*;
use crate::checkpoint::CheckpointReason;
use crate::error::ErrorKind;
use crate::schema::IdentityDef;
use crate::scratch::scratch;
use crate::transaction::{LastWord, Transaction, TransactionBlock};

fn numbering(id: TableId, name: &str) -> TableDef {
    let identity =
        IdentityDef { column: ColumnId(1), always: false, start: 1, increment: 1, min: 1, max: 9_999 };
    TableDef { identity: Some(identity), ..definition(id, name, true) }
}

async fn create_numbering(db: &Arc<Database>) -> TableId {
    let tx = db.begin(&db.snapshot()).await.unwrap();
    let id = tx.next_table_id();
    tx.edit(CatalogEdit::PutTable(Arc::new(numbering(id, "t")))).unwrap();
    tx.commit(CommitOptions::default()).await.unwrap();
    id
}

/// Adds rows with these keys, NULL: the next number; the keys that they get.
async fn add(tx: &Transaction, table: TableId, keys: &[Option<i64>]) -> Result<Vec<i64>> {
    let mut writer = tx.writer(table)?;
    let given: ArrayRef = Arc::new(Int64Array::from(keys.to_vec()));
    let texts: ArrayRef = Arc::new(StringViewArray::from_iter_values(keys.iter().map(|_| "row")));
    let columns = writer.numbered(vec![given, texts])?;
    let batch = RecordBatch::try_new(definition(table, "t", true).arrow_schema(), columns)?;
    let numbers = batch.column(0).as_primitive::<Int64Type>().values().to_vec();
    writer.write(batch).await?;
    writer.finish().await?;
    Ok(numbers)
}

async fn insert_numbered(db: &Arc<Database>, table: TableId, keys: &[Option<i64>]) -> Vec<i64> {
    let tx = db.begin(&db.snapshot()).await.unwrap();
    let numbers = add(&tx, table, keys).await.unwrap();
    tx.commit(CommitOptions::default()).await.unwrap();
    numbers
}

#[tokio::test]
async fn numbers_of_rows_that_were_committed_never_come_back() {
    let dir = scratch().unwrap();
    let root = Root::Path(dir.path().join("db"));
    let (mut table, mut next) = (TableId(0), 1);
    for round in 0..6 {
        let db = Database::open(root.clone(), OpenOptions::default()).await.unwrap();
        if round == 0 {
            table = create_numbering(&db).await;
        }
        // What nobody commits is left out by this process.
        let tx = db.begin(&db.snapshot()).await.unwrap();
        assert_eq!(add(&tx, table, &[None]).await.unwrap(), [next]);
        tx.rollback().await.unwrap();
        assert_eq!(insert_numbered(&db, table, &[None, None]).await, [next + 1, next + 2]);
        next += 3;
        // The rows go, their numbers do not come back.
        let tx = db.begin(&db.snapshot()).await.unwrap();
        tx.truncate(table).unwrap();
        tx.commit(CommitOptions::default()).await.unwrap();
        if round % 2 == 1 {
            db.checkpoint(CheckpointReason::Statement).await.unwrap();
        }
        is_sound(&db).await;
        // Else it is left as a kill leaves it.
        if round % 3 == 0 {
            db.close().await.unwrap();
        }
    }
}

#[tokio::test]
async fn numbers_of_loads_count_by_their_segments() {
    let dir = scratch().unwrap();
    let root = Root::Path(dir.path().join("db"));
    let options = || OpenOptions { wal_entry_bytes_max: 24 << 10, ..OpenOptions::default() };
    let db = Database::open(root.clone(), options()).await.unwrap();
    let table = create_numbering(&db).await;
    let loaded = insert_numbered(&db, table, &vec![None; 5000]).await;
    assert_eq!(loaded, (1..=5000).collect::<Vec<i64>>());
    assert!(!db.snapshot().table(table).unwrap().segments().await.unwrap().is_empty());
    drop(db);
    let db = Database::open(root, options()).await.unwrap();
    assert_eq!(insert_numbered(&db, table, &[None]).await, [5001]);
    is_sound(&db).await;
}

#[tokio::test]
async fn values_that_are_given_count_once_they_are_committed() {
    let (root, options) = memory();
    let db = Database::open(root, options).await.unwrap();
    let table = create_numbering(&db).await;
    assert_eq!(insert_numbered(&db, table, &[Some(10), None]).await, [10, 11]);
    assert_eq!(insert_numbered(&db, table, &[Some(-5), Some(3)]).await, [-5, 3]);
    let tx = db.begin(&db.snapshot()).await.unwrap();
    add(&tx, table, &[Some(500)]).await.unwrap();
    tx.rollback().await.unwrap();
    assert_eq!(insert_numbered(&db, table, &[None]).await, [12]);
    insert_numbered(&db, table, &[Some(20)]).await;
    assert_eq!(insert_numbered(&db, table, &[None]).await, [21]);
    // Beyond the last one: there is none left, and other values are taken still.
    insert_numbered(&db, table, &[Some(20_000)]).await;
    let tx = db.begin(&db.snapshot()).await.unwrap();
    let error = add(&tx, table, &[None]).await.unwrap_err();
    assert_eq!((error.kind(), error.sqlstate()), (ErrorKind::ResourceExhausted, "2200H"), "{error}");
    assert!(error.message().contains("column k of table public.t"), "{error}");
    assert_eq!(insert_numbered(&db, table, &[Some(22)]).await, [22]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn writers_at_once_have_numbers_of_their_own() {
    let (root, options) = memory();
    let db = Database::open(root, options).await.unwrap();
    let table = create_numbering(&db).await;
    let writers: Vec<_> = (0..8)
        .map(|_| {
            let db = Arc::clone(&db);
            tokio::spawn(async move {
                let mut mine = Vec::new();
                for _ in 0..20 {
                    mine.extend(insert_numbered(&db, table, &[None, None]).await);
                }
                mine
            })
        })
        .collect();
    let mut all = Vec::new();
    for writer in writers {
        all.extend(writer.await.unwrap());
    }
    all.sort_unstable();
    assert_eq!(all, (1..=320).collect::<Vec<i64>>());
    assert_eq!(contents(&db.snapshot().table(table).unwrap()).await.unwrap().len(), 320);
}

#[tokio::test]
async fn a_block_shares_the_numbers_of_tables_that_others_know() {
    let (root, options) = memory();
    let db = Database::open(root, options).await.unwrap();
    let table = create_numbering(&db).await;
    let block = TransactionBlock::begin(Arc::clone(&db), false);
    for (keys, numbers, of_others) in
        [(vec![None], vec![1], 2), (vec![Some(7), None], vec![7, 8], 9), (vec![None], vec![10], 11)]
    {
        let tx = db.begin(&block.snapshot()).await.unwrap();
        assert_eq!(add(&tx, table, &keys).await.unwrap(), numbers);
        block.add(tx, &LastWord::default()).await.unwrap();
        assert_eq!(insert_numbered(&db, table, &[None]).await, [of_others]);
    }
    block.commit(CommitOptions::default()).await.unwrap();
    assert_eq!(insert_numbered(&db, table, &[None]).await, [12]);
    // A table of its own is nobody else's, and begins anew after a rollback.
    for _ in 0..2 {
        let block = TransactionBlock::begin(Arc::clone(&db), false);
        let tx = db.begin(&block.snapshot()).await.unwrap();
        let own = tx.next_table_id();
        tx.edit(CatalogEdit::PutTable(Arc::new(numbering(own, "own")))).unwrap();
        block.add(tx, &LastWord::default()).await.unwrap();
        for numbers in [[1, 2], [3, 4]] {
            let tx = db.begin(&block.snapshot()).await.unwrap();
            assert_eq!(add(&tx, own, &[None, None]).await.unwrap(), numbers);
            block.add(tx, &LastWord::default()).await.unwrap();
        }
        block.rollback().await;
    }
}

#[tokio::test]
async fn the_next_writer_of_a_bucket_goes_on_behind_the_first() {
    let store = Arc::new(InMemory::new());
    let open = || {
        let options = OpenOptions {
            store: Some(Arc::clone(&store) as Arc<dyn ObjectStore>),
            poll_interval: Duration::ZERO,
            ..OpenOptions::default()
        };
        Database::open(Root::parse("s3://bucket/db").unwrap(), options)
    };
    let first = open().await.unwrap();
    let table = create_numbering(&first).await;
    assert_eq!(insert_numbered(&first, table, &[None, None]).await, [1, 2]);
    let second = open().await.unwrap();
    assert_eq!(insert_numbered(&first, table, &[None]).await, [3]);
    first.close().await.unwrap();
    second.claim().await.unwrap();
    assert_eq!(insert_numbered(&second, table, &[None]).await, [4]);
}
