//! Keys of rows in memory: found by whoever sees the row, and by nobody else, also when its row id is given again.

use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

use super::*;
use crate::checkpoint::CheckpointReason;
use crate::error::ErrorKind;
use crate::fs::{FileSystem, SimFileSystem};
use crate::transaction::{LastWord, TransactionBlock};
use crate::version::Snapshot;

async fn id_of(snapshot: &Snapshot, table: TableId, key: i64) -> Option<RowId> {
    ids_of(&snapshot.table(table).unwrap(), &[key]).await.unwrap().first().copied()
}

/// `lost` failed, `other` got its row id: the key of the lost row is nobody's, and can be written.
async fn is_free(db: &Arc<Database>, table: TableId, lost: i64, other: i64) {
    let row = |key: i64| vec![(key, format!("row {key}"))];
    let next = db.snapshot().table(table).unwrap().next_row_id();
    insert(db, table, &row(other)).await.unwrap();
    let now = db.snapshot();
    assert_eq!(id_of(&now, table, other).await, Some(next), "the id is given again");
    assert_eq!(id_of(&now, table, lost).await, None);
    insert(db, table, &row(lost)).await.unwrap();
    let now = db.snapshot();
    assert_eq!(id_of(&now, table, lost).await, Some(next.next()));
    assert_eq!(id_of(&now, table, other).await, Some(next));
    for key in [lost, other] {
        assert_eq!(insert(db, table, &row(key)).await.unwrap_err().sqlstate(), "23505");
        change(db, table, &[key], &row(key)).await.unwrap();
    }
    let shown = contents(&db.snapshot().table(table).unwrap()).await.unwrap();
    assert_eq!(
        (shown[&lost].clone(), shown[&other].clone()),
        (format!("row {lost}"), format!("row {other}"))
    );
}

#[tokio::test]
async fn a_key_that_the_log_had_no_room_for_is_free() {
    let fs = SimFileSystem::new(1);
    let options =
        OpenOptions { fs: Some(Arc::new(fs.clone()) as Arc<dyn FileSystem>), ..OpenOptions::default() };
    let db = Database::open(Root::Path("sim".into()), options).await.unwrap();
    let table = create(&db, "t", true).await.unwrap();
    // Nothing makes it shorter.
    let mut rng = StdRng::seed_from_u64(1);
    let text: String = (0..50_000).map(|_| rng.random_range('a'..='z')).collect();
    let mut key = 0;
    for round in 1..=3_i64 {
        fs.limit_free_bytes(0);
        // What the log has room for already.
        let lost = loop {
            key += 1;
            match insert(&db, table, &[(key, text[..40_000].to_owned())]).await {
                Ok(()) => assert!(key < 1000, "nothing was refused"),
                Err(error) => {
                    assert_eq!(error.kind(), ErrorKind::ResourceExhausted, "{error}");
                    break key;
                }
            }
        };
        // Once more, with the same row id.
        insert(&db, table, &[(lost + 1, text.clone())]).await.unwrap_err();
        fs.clear_faults();
        is_free(&db, table, lost, -round).await;
        assert_eq!(id_of(&db.snapshot(), table, lost + 1).await, None);
        key = lost + 1;
        insert(&db, table, &[(key, String::new())]).await.unwrap();
    }
    is_sound(&db).await;
    db.close().await.unwrap();
}

#[tokio::test]
async fn a_key_of_a_cancelled_commit_is_free() {
    let db = Database::open(Root::Memory, OpenOptions::default()).await.unwrap();
    let table = create(&db, "t", true).await.unwrap();
    insert(&db, table, &rows(0..3)).await.unwrap();
    for round in 0..20 {
        let (lost, other) = (100 + round, 200 + round);
        let tx = db.begin(&db.snapshot()).await.unwrap();
        let mut writer = tx.writer(table).unwrap();
        writer.write(batch(&rows(lost..lost + 1))).await.unwrap();
        writer.finish().await.unwrap();
        let options = CommitOptions { last_word: LastWord::new(|| false), ..CommitOptions::default() };
        assert_eq!(tx.commit(options).await.unwrap_err().kind(), ErrorKind::Cancelled);
        is_free(&db, table, lost, other).await;
    }
    assert_eq!(contents(&db.snapshot().table(table).unwrap()).await.unwrap().len(), 43);
}

#[tokio::test]
async fn a_block_and_a_commit_with_the_same_row_ids_do_not_see_each_other() {
    let db = Database::open(Root::Memory, OpenOptions::default()).await.unwrap();
    let table = create(&db, "t", true).await.unwrap();
    insert(&db, table, &rows(0..5)).await.unwrap();
    let old = db.snapshot();
    let before = id_of(&old, table, 3).await;
    let block = TransactionBlock::begin(Arc::clone(&db), false);
    let add = async |keys: std::ops::Range<i64>| {
        let tx = db.begin(&block.snapshot()).await.unwrap();
        let mut writer = tx.writer(table).unwrap();
        writer.write(batch(&rows(keys))).await.unwrap();
        writer.finish().await.unwrap();
        block.add(tx, &LastWord::default()).await.unwrap();
    };
    add(100..101).await;
    insert(&db, table, &rows(200..201)).await.unwrap();
    block.savepoint("s");
    add(101..103).await;
    change(&db, table, &[3], &rows(3..4)).await.unwrap();
    block.rollback_to("s").unwrap();
    add(103..104).await;
    let (own, now) = (block.snapshot(), db.snapshot());
    for (key, seen) in [(100, true), (101, false), (102, false), (103, true), (200, false)] {
        assert_eq!(id_of(&own, table, key).await.is_some(), seen, "{key} in the block");
        assert_eq!(id_of(&now, table, key).await.is_some(), key == 200, "{key} outside");
        assert_eq!(id_of(&old, table, key).await, None, "{key} before");
    }
    assert_eq!(id_of(&old, table, 3).await, before);
    assert_eq!(id_of(&own, table, 3).await, before);
    assert_ne!(id_of(&now, table, 3).await, before);
    block.commit(CommitOptions::default()).await.unwrap();
    let now = db.snapshot();
    for key in [0, 3, 100, 103, 200] {
        assert!(id_of(&now, table, key).await.is_some(), "{key}");
    }
    assert_eq!(id_of(&now, table, 101).await, None);
    assert_eq!(id_of(&old, table, 3).await, before);
    assert_eq!(contents(&now.table(table).unwrap()).await.unwrap().len(), 8);
    is_sound(&db).await;
}

/// An UPDATE that leaves the key alone says so, and its keys are not looked for. A row that it names twice is still refused, and one that
/// others have changed meanwhile.
#[tokio::test]
async fn keys_that_are_kept_are_not_looked_for_and_no_key_is_there_twice() {
    let db = Database::open(Root::Memory, OpenOptions::default()).await.unwrap();
    let table = create(&db, "t", true).await.unwrap();
    insert(&db, table, &rows(0..40)).await.unwrap();
    db.checkpoint(CheckpointReason::Statement).await.unwrap();
    insert(&db, table, &rows(40..60)).await.unwrap();
    // Rows of a segment and of the memtable get new values, `named` being the keys of the rows that go.
    let update = async |snapshot: &Snapshot, named: &[i64], written: &[i64]| {
        let ids = ids_of(&snapshot.table(table).unwrap(), named).await.unwrap();
        let tx = db.begin(snapshot).await.unwrap();
        tx.delete(table, &ids).unwrap();
        tx.keeps_keys(table).unwrap();
        let mut writer = tx.writer(table).unwrap();
        let new: Vec<_> = written.iter().map(|key| (*key, format!("new {key}"))).collect();
        writer.write(batch(&new)).await.unwrap();
        writer.finish().await.unwrap();
        tx.commit(CommitOptions::default()).await
    };
    let all: Vec<i64> = (30..50).collect();
    update(&db.snapshot(), all.as_slice(), all.as_slice()).await.unwrap();
    let shown = contents(&db.snapshot().table(table).unwrap()).await.unwrap();
    assert_eq!(shown.len(), 60);
    assert_eq!(
        (shown[&29].as_str(), shown[&30].as_str(), shown[&49].as_str()),
        ("value 29", "new 30", "new 49")
    );
    // One row twice: there are more rows than were named.
    let error = update(&db.snapshot(), &[31, 31], &[31, 31]).await.unwrap_err();
    assert_eq!(error.sqlstate(), "23505", "{error}");
    // Somebody else was first.
    let before = db.snapshot();
    update(&before, &[31, 45], &[31, 45]).await.unwrap();
    let error = update(&before, &[45, 46], &[45, 46]).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Conflict, "{error}");
    // In a block, too.
    let block = TransactionBlock::begin(Arc::clone(&db), false);
    for round in ["first", "second"] {
        let snapshot = block.snapshot();
        let ids = ids_of(&snapshot.table(table).unwrap(), &[2, 55]).await.unwrap();
        let tx = db.begin(&snapshot).await.unwrap();
        tx.delete(table, &ids).unwrap();
        tx.keeps_keys(table).unwrap();
        let mut writer = tx.writer(table).unwrap();
        writer.write(batch(&[(2, round.to_owned()), (55, round.to_owned())])).await.unwrap();
        writer.finish().await.unwrap();
        block.add(tx, &LastWord::default()).await.unwrap();
    }
    block.commit(CommitOptions::default()).await.unwrap();
    let shown = contents(&db.snapshot().table(table).unwrap()).await.unwrap();
    assert_eq!((shown.len(), shown[&2].as_str(), shown[&55].as_str()), (60, "second", "second"));
    is_sound(&db).await;
}
