//! Back-pressure: hot rows stay within their limit, whatever the speed of writers and the fate of checkpoints.

use std::time::Duration;

use super::*;
use crate::error::ErrorKind;
use crate::scratch::scratch;

const HARD_BYTES: u64 = 256 << 10;

fn options() -> OpenOptions {
    OpenOptions {
        memtable_soft_bytes: HARD_BYTES / 2,
        memtable_hard_bytes: HARD_BYTES,
        memtable_wait: Duration::from_millis(100),
        ..OpenOptions::default()
    }
}

fn wide_rows(first: i64) -> Vec<(i64, String)> {
    (first..first + 20).map(|k| (k, "x".repeat(500))).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn commits_wait_for_a_checkpoint_at_the_limit() {
    let dir = scratch().unwrap();
    let root = Root::Path(dir.path().join("db"));
    let options = OpenOptions { memtable_wait: Duration::from_secs(60), ..options() };
    let db = Database::open(root, options).await.unwrap();
    let table = create(&db, "t", true).await.unwrap();
    let mut largest = 0;
    for round in 0..200 {
        insert(&db, table, &wide_rows(round * 20)).await.unwrap();
        largest = largest.max(db.snapshot().state().hot_bytes());
    }
    // One commit may still enter below the limit.
    assert!(largest < HARD_BYTES + (64 << 10), "{largest} bytes of hot rows");
    assert!(largest > HARD_BYTES / 2, "the limit was never near");
    assert_eq!(contents(&db.snapshot().table(table).unwrap()).await.unwrap().len(), 4_000);
    db.close().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_checkpoint_that_cannot_write_makes_commits_fail_cleanly() {
    let dir = scratch().unwrap();
    let path = dir.path().join("db");
    let db = Database::open(Root::Path(path.clone()), options()).await.unwrap();
    let table = create(&db, "t", true).await.unwrap();
    // A file where the folder of segments should be.
    std::fs::write(path.join("table"), b"in the way").unwrap();
    let mut inserted = 0;
    let error = loop {
        match insert(&db, table, &wide_rows(inserted * 20)).await {
            Ok(()) => inserted += 1,
            Err(error) => break error,
        }
        assert!(inserted < 200, "nothing stopped the writer");
    };
    assert_eq!(error.kind(), ErrorKind::ResourceExhausted, "{error}");
    assert!(error.hint().is_some_and(|h| h.contains("CHECKPOINT")));
    let rows = usize::try_from(inserted).unwrap() * 20;
    assert_eq!(contents(&db.snapshot().table(table).unwrap()).await.unwrap().len(), rows);

    std::fs::remove_file(path.join("table")).unwrap();
    db.checkpoint(crate::checkpoint::CheckpointReason::Statement).await.unwrap();
    insert(&db, table, &wide_rows(inserted * 20)).await.unwrap();
    assert_eq!(contents(&db.snapshot().table(table).unwrap()).await.unwrap().len(), rows + 20);
    db.close().await.unwrap();
}
