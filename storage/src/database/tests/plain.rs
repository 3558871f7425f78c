//! Plain use, in memory and in a directory.

use std::time::Duration;

use super::*;
use crate::checkpoint::CheckpointReason;
use crate::error::ErrorKind;
use crate::scratch::scratch;

#[tokio::test]
async fn rows_survive_checkpoint_and_reopen() {
    let dir = scratch().unwrap();
    let root = Root::Path(dir.path().join("db"));
    let mut expected = Rows::new();
    let mut table = TableId(0);
    for round in 0..4 {
        let db = Database::open(root.clone(), OpenOptions::default()).await.unwrap();
        if round == 0 {
            table = create(&db, "t", true).await.unwrap();
        }
        let snapshot = db.snapshot().table(table).unwrap();
        assert_eq!(contents(&snapshot).await.unwrap(), expected);
        let new = rows(round * 100..round * 100 + 70);
        insert(&db, table, &new).await.unwrap();
        expected.extend(new);
        if round % 2 == 1 {
            let receipt = db.checkpoint(CheckpointReason::Statement).await.unwrap();
            assert!(receipt.triggered);
            assert!(!db.checkpoint(CheckpointReason::Statement).await.unwrap().triggered);
        }
        let gone: Vec<i64> = expected.keys().copied().step_by(5).collect();
        assert_eq!(change(&db, table, &gone, &[]).await.unwrap(), gone.len());
        expected.retain(|k, _| !gone.contains(k));
        assert_eq!(contents(&db.snapshot().table(table).unwrap()).await.unwrap(), expected);
        is_sound(&db).await;
        if round != 2 {
            db.close().await.unwrap();
        }
    }
}

#[tokio::test]
async fn a_second_writer_is_told_the_first_ones_pid() {
    let dir = scratch().unwrap();
    let root = Root::Path(dir.path().to_owned());
    let _first = Database::open(root.clone(), OpenOptions::default()).await.unwrap();
    let error = Database::open(root, OpenOptions::default()).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unavailable);
    assert!(error.message().contains(&format!("pid {}", std::process::id())), "{error}");
}

#[tokio::test]
async fn duplicate_keys_are_refused_hot_cold_and_spilled() {
    let (root, mut options) = memory();
    options.wal_entry_bytes_max = 64 << 10;
    let db = Database::open(root, options).await.unwrap();
    let table = create(&db, "t", true).await.unwrap();
    insert(&db, table, &rows(0..10)).await.unwrap();
    let twice = |error: crate::Error| {
        assert_eq!(error.sqlstate(), "23505", "{error}");
    };
    twice(insert(&db, table, &rows(9..12)).await.unwrap_err());
    db.checkpoint(CheckpointReason::Statement).await.unwrap();
    twice(insert(&db, table, &rows(9..12)).await.unwrap_err());
    // Spilled, in order and out of order, against hot and cold rows.
    twice(insert(&db, table, &rows(5..5000)).await.unwrap_err());
    let mut shuffled = rows(20..5000);
    shuffled.reverse();
    shuffled.push((4000, "again".to_owned()));
    twice(insert(&db, table, &shuffled).await.unwrap_err());
    assert_eq!(db.snapshot().table(table).unwrap().row_count().await.unwrap(), 10);
    shuffled.pop();
    insert(&db, table, &shuffled).await.unwrap();
    twice(insert(&db, table, &rows(4999..5001)).await.unwrap_err());
    assert_eq!(contents(&db.snapshot().table(table).unwrap()).await.unwrap().len(), 4990);
    is_sound(&db).await;
}

#[tokio::test]
async fn the_first_of_two_changes_to_a_row_wins() {
    let (root, options) = memory();
    let db = Database::open(root, options).await.unwrap();
    let table = create(&db, "t", true).await.unwrap();
    insert(&db, table, &rows(0..3)).await.unwrap();
    let snapshot = db.snapshot();
    let ids = ids_of(&snapshot.table(table).unwrap(), &[1]).await.unwrap();
    let (first, second) = (db.begin(&snapshot).await.unwrap(), db.begin(&snapshot).await.unwrap());
    first.delete(table, &ids).unwrap();
    second.delete(table, &ids).unwrap();
    first.commit(CommitOptions::default()).await.unwrap();
    let error = second.commit(CommitOptions::default()).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Conflict);
    // The same key, written by two who both saw it free.
    let snapshot = db.snapshot();
    let tx = [db.begin(&snapshot).await.unwrap(), db.begin(&snapshot).await.unwrap()];
    let mut results = Vec::new();
    for tx in tx {
        let mut writer = tx.writer(table).unwrap();
        writer.write(batch(&rows(7..8))).await.unwrap();
        writer.finish().await.unwrap();
        results.push(tx.commit(CommitOptions::default()).await);
    }
    assert!(results[0].is_ok());
    assert_eq!(results[1].as_ref().unwrap_err().kind(), ErrorKind::Conflict);
}

#[tokio::test]
async fn a_snapshot_never_changes() {
    let (root, options) = memory();
    let db = Database::open(root, options).await.unwrap();
    let table = create(&db, "t", true).await.unwrap();
    insert(&db, table, &rows(0..300)).await.unwrap();
    let pinned = db.snapshot().table(table).unwrap();
    let before = contents(&pinned).await.unwrap();
    change(&db, table, &(0..100).collect::<Vec<_>>(), &rows(1000..1010)).await.unwrap();
    assert_eq!(contents(&pinned).await.unwrap(), before);
    db.checkpoint(CheckpointReason::Statement).await.unwrap();
    assert_eq!(contents(&pinned).await.unwrap(), before);
    let tx = db.begin(&db.snapshot()).await.unwrap();
    tx.truncate(table).unwrap();
    tx.commit(CommitOptions::default()).await.unwrap();
    assert_eq!(contents(&pinned).await.unwrap(), before);
    assert!(contents(&db.snapshot().table(table).unwrap()).await.unwrap().is_empty());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn many_writers_and_checkpoints_at_once() {
    let dir = scratch().unwrap();
    let root = Root::Path(dir.path().to_owned());
    let db = Database::open(root.clone(), OpenOptions::default()).await.unwrap();
    let table = create(&db, "t", true).await.unwrap();
    let mut tasks = Vec::new();
    for writer in 0..8_i64 {
        let db = Arc::clone(&db);
        tasks.push(tokio::spawn(async move {
            for i in 0..60 {
                let key = writer * 1000 + i;
                loop {
                    match insert(&db, table, &rows(key..key + 1)).await {
                        Ok(()) => break,
                        Err(e) if e.kind() == ErrorKind::Conflict => {}
                        Err(e) => panic!("{e}"),
                    }
                }
                if i % 3 == 2 {
                    loop {
                        match change(&db, table, &[key - 1], &[]).await {
                            Ok(1) => break,
                            Ok(n) => panic!("{n} rows"),
                            Err(e) if e.kind() == ErrorKind::Conflict => {}
                            Err(e) => panic!("{e}"),
                        }
                    }
                }
            }
        }));
    }
    let checkpoints = {
        let db = Arc::clone(&db);
        tokio::spawn(async move {
            for _ in 0..15 {
                db.checkpoint(CheckpointReason::Statement).await.unwrap();
                tokio::time::sleep(Duration::from_millis(3)).await;
            }
        })
    };
    for task in tasks {
        task.await.unwrap();
    }
    checkpoints.await.unwrap();
    let expected = contents(&db.snapshot().table(table).unwrap()).await.unwrap();
    assert_eq!(expected.len(), 8 * 40);
    is_sound(&db).await;
    drop(db);
    let db = Database::open(root, OpenOptions::default()).await.unwrap();
    assert_eq!(contents(&db.snapshot().table(table).unwrap()).await.unwrap(), expected);
}

#[tokio::test]
async fn a_follower_sees_what_is_acknowledged() {
    let dir = scratch().unwrap();
    let root = Root::Path(dir.path().to_owned());
    let db = Database::open(root.clone(), OpenOptions::default()).await.unwrap();
    let options = OpenOptions { read_only: true, ..OpenOptions::default() };
    let follower = Database::open(root, options).await.unwrap();
    let table = create(&db, "t", true).await.unwrap();
    for round in 0..30_i64 {
        insert(&db, table, &rows(round * 10..round * 10 + 10)).await.unwrap();
        if round % 4 == 3 {
            change(&db, table, &[round * 10], &[]).await.unwrap();
        }
        if round % 5 == 4 {
            db.checkpoint(CheckpointReason::Statement).await.unwrap();
        }
        let version = db.snapshot().version();
        follower.wait_for_version(version, Duration::from_secs(120)).await.unwrap();
        assert_eq!(follower.snapshot().version(), version);
        let theirs = contents(&db.snapshot().table(table).unwrap()).await.unwrap();
        assert_eq!(contents(&follower.snapshot().table(table).unwrap()).await.unwrap(), theirs);
    }
    assert_eq!(follower.begin(&follower.snapshot()).await.unwrap_err().kind(), ErrorKind::ReadOnly);
    let error = follower
        .wait_for_version(crate::id::CommitVersion(1_000_000), Duration::from_millis(20))
        .await
        .unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unavailable);
}
