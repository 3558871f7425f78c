//! Which commits are lost to others: those that touch the same rows or keys, wherever these have been moved meanwhile, and no more.

use std::sync::atomic::{AtomicBool, Ordering};

use super::*;
use crate::checkpoint::CheckpointReason;
use crate::error::ErrorKind;
use crate::transaction::{LastWord, Transaction, TransactionBlock};

fn options() -> OpenOptions {
    OpenOptions {
        wal_entry_bytes_max: 24 << 10,
        compacts: false,
        compact_segment_bytes: 16 << 10,
        ..OpenOptions::default()
    }
}

/// Keys 0 to 149, in three segments.
async fn database() -> (Arc<Database>, TableId) {
    let db = Database::open(Root::Memory, options()).await.unwrap();
    let table = create(&db, "t", true).await.unwrap();
    for round in 0..3_i64 {
        insert(&db, table, &rows(round * 50..round * 50 + 50)).await.unwrap();
        checkpoint(&db).await;
    }
    (db, table)
}

async fn checkpoint(db: &Arc<Database>) {
    db.checkpoint(CheckpointReason::Statement).await.unwrap();
}

async fn shown(db: &Arc<Database>, table: TableId) -> Rows {
    contents(&db.snapshot().table(table).unwrap()).await.unwrap()
}

/// A write set that is not committed yet.
#[derive(Clone, Debug)]
struct Own {
    gone: Vec<i64>,
    added: Vec<(i64, String)>,
    /// A key it deletes, and one it writes that is new.
    deleted: Option<i64>,
    written: Option<i64>,
}

fn own() -> Vec<Own> {
    let mine = |keys: std::ops::Range<i64>| keys.map(|k| (k, format!("mine {k}"))).collect::<Vec<_>>();
    vec![
        // Rows named by their ids, in memory.
        Own {
            gone: vec![1, 60],
            added: [mine(1..2), mine(60..61), mine(5000..5003)].concat(),
            deleted: Some(60),
            written: Some(5001),
        },
        // By their positions.
        Own { gone: (20..50).collect(), added: Vec::new(), deleted: Some(30), written: None },
        // Segments of its own.
        Own { gone: vec![7], added: mine(10_000..11_200), deleted: Some(7), written: Some(10_300) },
    ]
}

async fn prepare(db: &Arc<Database>, table: TableId, own: &Own) -> Transaction {
    let snapshot = db.snapshot();
    let tx = db.begin(&snapshot).await.unwrap();
    write(&tx, table, own).await;
    tx
}

async fn write(tx: &Transaction, table: TableId, own: &Own) {
    let ids = ids_of(&tx.snapshot().table(table).unwrap(), &own.gone).await.unwrap();
    assert_eq!(ids.len(), own.gone.len());
    tx.delete(table, &ids).unwrap();
    let mut writer = tx.writer(table).unwrap();
    for chunk in own.added.chunks(50) {
        writer.write(batch(chunk)).await.unwrap();
    }
    writer.finish().await.unwrap();
    assert_eq!(tx.has_segments(table), own.added.len() > 1000);
}

/// What moves rows meanwhile.
const EVENTS: [&str; 7] =
    ["nothing", "checkpoint", "checkpoints", "compaction", "bulk load", "bulk delete", "everything"];

/// Keys 100 to 149 and from 20,000 on are of nobody else.
async fn happen(db: &Arc<Database>, table: TableId, event: &str) {
    change(db, table, &[100], &[(100, "theirs".to_owned())]).await.unwrap();
    let all = event == "everything";
    if all || event.starts_with("checkpoint") {
        checkpoint(db).await;
    }
    if all || event == "bulk load" {
        insert(db, table, &rows(20_000..21_200)).await.unwrap();
    }
    if all || event == "bulk delete" {
        let keys: Vec<i64> = (120..140).collect();
        change(db, table, &keys, &[]).await.unwrap();
    }
    if all || event == "compaction" {
        db.compact(Some(table)).await.unwrap();
    }
    if all || event == "checkpoints" {
        change(db, table, &[101], &[(101, "theirs".to_owned())]).await.unwrap();
        checkpoint(db).await;
        insert(db, table, &rows(30_000..30_003)).await.unwrap();
    }
}

fn applied(mut rows: Rows, own: &Own) -> Rows {
    rows.retain(|key, _| !own.gone.contains(key));
    rows.extend(own.added.iter().cloned());
    rows
}

#[tokio::test]
async fn who_touches_other_rows_and_keys_takes_nothing_away() {
    for event in EVENTS {
        for (number, own) in own().into_iter().enumerate() {
            let (db, table) = database().await;
            let tx = prepare(&db, table, &own).await;
            happen(&db, table, event).await;
            // A key that was there between and is not any more is in nobody's way.
            if let Some(key) = own.written {
                insert(&db, table, &rows(key..key + 1)).await.unwrap();
                change(&db, table, &[key], &[]).await.unwrap();
            }
            let before = shown(&db, table).await;
            let done = tx.commit(CommitOptions::default()).await;
            assert!(done.is_ok(), "write set {number} after {event}: {done:?}");
            assert_eq!(shown(&db, table).await, applied(before, &own), "write set {number} after {event}");
            checkpoint(&db).await;
            is_sound(&db).await;
        }
    }
}

#[tokio::test]
async fn who_touches_the_same_rows_or_keys_is_found_wherever_they_are() {
    for event in EVENTS {
        for (number, own) in own().into_iter().enumerate() {
            for same_row in [true, false] {
                let key = if same_row { own.deleted } else { own.written };
                let Some(key) = key else { continue };
                let orders: &[bool] =
                    if ["checkpoint", "everything"].contains(&event) { &[false, true] } else { &[false] };
                for &late in orders {
                    let (db, table) = database().await;
                    let tx = prepare(&db, table, &own).await;
                    if late {
                        happen(&db, table, event).await;
                    }
                    if same_row {
                        change(&db, table, &[key], &[]).await.unwrap();
                    } else {
                        insert(&db, table, &rows(key..key + 1)).await.unwrap();
                    }
                    if !late {
                        happen(&db, table, event).await;
                    }
                    let before = shown(&db, table).await;
                    let what = format!("write set {number}, key {key}, late {late}, {event}");
                    let error = tx.commit(CommitOptions::default()).await.expect_err(&what);
                    assert_eq!(error.kind(), ErrorKind::Conflict, "{what}: {error}");
                    let why = if same_row { "the same rows" } else { "the same key" };
                    assert!(
                        error.message().contains(why) || error.message().contains("merged"),
                        "{what}: {error}"
                    );
                    assert_eq!(shown(&db, table).await, before, "{what}");
                }
            }
        }
    }
}

/// What others do with many rows at once: to the rows and keys of a commit, then to others.
#[tokio::test]
async fn rows_and_keys_in_bulk_count_one_by_one() {
    for own in own() {
        let Some(deleted) = own.deleted else { continue };
        let (db, table) = database().await;
        let tx = prepare(&db, table, &own).await;
        let keys: Vec<i64> = (deleted..deleted + 15).collect();
        change(&db, table, &keys, &[]).await.unwrap();
        let error = tx.commit(CommitOptions::default()).await.unwrap_err();
        assert!(error.message().contains("the same rows"), "{error}");
        let Some(written) = own.written else { continue };
        for (first, holds) in [(written, false), (100_000, true)] {
            let (db, table) = database().await;
            let tx = prepare(&db, table, &own).await;
            insert(&db, table, &rows(first..first + 1200)).await.unwrap();
            checkpoint(&db).await;
            let done = tx.commit(CommitOptions::default()).await;
            assert_eq!(done.is_ok(), holds, "{done:?}");
        }
    }
}

#[tokio::test]
async fn a_truncate_of_others_is_in_the_way_of_deletes_only() {
    let (db, table) = database().await;
    let truncate = async || {
        let tx = db.begin(&db.snapshot()).await.unwrap();
        tx.truncate(table).unwrap();
        tx.commit(CommitOptions::default()).await.unwrap();
    };
    let added = Own { gone: Vec::new(), ..own().swap_remove(2) };
    let (first, second) = (prepare(&db, table, &own()[0]).await, prepare(&db, table, &added).await);
    truncate().await;
    checkpoint(&db).await;
    let error = first.commit(CommitOptions::default()).await.unwrap_err();
    assert!(error.message().contains("the same rows"), "{error}");
    second.commit(CommitOptions::default()).await.unwrap();
    assert_eq!(shown(&db, table).await.len(), 1200);
    // One's own leaves no row of others that could have a key.
    let snapshot = db.snapshot();
    let tx = db.begin(&snapshot).await.unwrap();
    tx.truncate(table).unwrap();
    write(&tx, table, &Own { gone: Vec::new(), ..own().swap_remove(0) }).await;
    insert(&db, table, &rows(5001..5002)).await.unwrap();
    checkpoint(&db).await;
    tx.commit(CommitOptions::default()).await.unwrap();
    assert_eq!(shown(&db, table).await.len(), 5);
    is_sound(&db).await;
}

#[tokio::test]
async fn a_block_is_as_exact_as_a_statement() {
    for (number, own) in own().into_iter().enumerate() {
        for lost in [false, true] {
            let (db, table) = database().await;
            let block = TransactionBlock::begin(Arc::clone(&db), false);
            let tx = db.begin(&block.snapshot()).await.unwrap();
            write(&tx, table, &own).await;
            block.add(tx, &LastWord::default()).await.unwrap();
            happen(&db, table, "everything").await;
            if lost {
                change(&db, table, &[own.deleted.unwrap()], &[]).await.unwrap();
            }
            happen(&db, table, "compaction").await;
            let before = shown(&db, table).await;
            let done = block.commit(CommitOptions::default()).await;
            assert_eq!(done.is_err(), lost, "write set {number}: {done:?}");
            let expected = if lost { before } else { applied(before, &own) };
            assert_eq!(shown(&db, table).await, expected, "write set {number}");
            is_sound(&db).await;
        }
    }
}

/// A load goes on while others insert and checkpoints run: it is compared with what came since, not begun anew.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_large_load_beside_steady_inserts_is_not_lost() {
    let (db, table) = database().await;
    let stop = Arc::new(AtomicBool::new(false));
    let inserts = {
        let (db, stop) = (Arc::clone(&db), Arc::clone(&stop));
        tokio::spawn(async move {
            let mut key = 1_000_000;
            while !stop.load(Ordering::Relaxed) {
                insert(&db, table, &rows(key..key + 1)).await.unwrap();
                key += 1;
                if key % 40 == 0 {
                    checkpoint(&db).await;
                }
                tokio::time::sleep(std::time::Duration::from_millis(1)).await;
            }
            key - 1_000_000
        })
    };
    for round in 0..5_i64 {
        insert(&db, table, &rows(10_000 * (round + 1)..10_000 * (round + 1) + 1200)).await.unwrap();
    }
    stop.store(true, Ordering::Relaxed);
    let inserted = inserts.await.unwrap();
    assert_eq!(shown(&db, table).await.len() as i64, 150 + 5 * 1200 + inserted);
    is_sound(&db).await;
}

/// On one thread, where nobody commits while another's group is logged.
#[tokio::test]
async fn those_who_commit_at_once_share_a_sync_also_after_one_was_alone() {
    let db = Database::open(Root::Memory, options()).await.unwrap();
    let table = create(&db, "t", true).await.unwrap();
    for key in 0..100 {
        insert(&db, table, &rows(key..key + 1)).await.unwrap();
    }
    let alone = db.figures().commit_groups;
    let mut tasks = tokio::task::JoinSet::new();
    for lane in 1..=8_i64 {
        let db = Arc::clone(&db);
        tasks.spawn(async move {
            for key in lane * 1_000..lane * 1_000 + 50 {
                insert(&db, table, &rows(key..key + 1)).await.unwrap();
            }
        });
    }
    while let Some(done) = tasks.join_next().await {
        done.unwrap();
    }
    let together = db.figures().commit_groups - alone;
    assert!(together < 150, "400 commits of 8 tasks in {together} groups");
    assert_eq!(shown(&db, table).await.len(), 500);
}
