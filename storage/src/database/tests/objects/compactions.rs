//! Compactions while others take the database over, read, delete, collect, and while their process dies.

use std::sync::Arc;
use std::time::Duration;

use tokio::task::JoinHandle;
use tokio::time::Instant;

use super::faults::{Fate, Op};
use super::rows::{self, Change};
use super::stage::{GRACE, checkpoint, create, creates, ids, insert, is_fenced, on_stage};
use crate::compact::CompactReceipt;
use crate::database::Database;
use crate::database::tests::is_sound;
use crate::error::{ErrorKind, Result};
use crate::id::CommitId;

/// The rows 1 to 4, in two segments.
async fn fill(db: &Arc<Database>) {
    create(db).await;
    for pair in [[1, 2], [3, 4]] {
        for id in pair {
            insert(db, id).await.unwrap();
        }
        checkpoint(db).await;
    }
    assert_eq!(segments(db).await.len(), 2);
}

/// Paths of the table's segments.
async fn segments(db: &Arc<Database>) -> Vec<String> {
    let table = db.snapshot().table_named("public", "t").unwrap();
    let views = table.segments().await.unwrap();
    views.iter().map(|view| view.meta.path()).collect()
}

fn compacting(db: &Arc<Database>) -> JoinHandle<Result<CompactReceipt>> {
    let db = Arc::clone(db);
    tokio::spawn(async move { db.compact(None).await })
}

#[test]
fn a_stalled_compaction_collides_with_the_fence() {
    on_stage(|stage| async move {
        let a = stage.writer("A").await;
        fill(&a).await;
        let mut stalled = stage.store.hold("A", creates("wal/"));
        let compacting = compacting(&a);
        let path = stalled.arrived().await;
        let (merged, _) = stage.store.last_below("table/").unwrap();
        let b = stage.writer("B").await;
        assert!(stage.store.contains(&path), "the fence has taken its number");
        stalled.release(Fate::Done);
        let error = compacting.await.unwrap().unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Fenced, "{error}");
        is_fenced(&a).await;
        assert!(!stage.store.contains(&merged), "nobody names what it has written");
        // What it stood for is as it was, and can be merged by whoever writes now.
        assert_eq!((ids(&b).await, segments(&b).await.len()), (vec![1, 2, 3, 4], 2));
        assert!(b.compact(None).await.unwrap().triggered);
        assert_eq!((ids(&b).await, segments(&b).await.len()), (vec![1, 2, 3, 4], 1));
        is_sound(&b).await;
        assert_eq!(ids(&stage.reader("R").await).await, [1, 2, 3, 4]);
    });
}

#[test]
fn a_compaction_whose_answer_is_lost_is_made_once() {
    for fate in [Fate::Lost, Fate::Silent, Fate::OwnClash, Fate::Clash, Fate::Refused, Fate::Dropped] {
        on_stage(|stage| async move {
            let a = stage.writer("A").await;
            fill(&a).await;
            let before = a.snapshot().version();
            stage.store.meddle("A", creates("wal/"), fate);
            assert!(a.compact(None).await.unwrap().triggered, "{fate:?}");
            assert_eq!(a.snapshot().version(), before.next(), "{fate:?}");
            assert_eq!((ids(&a).await, segments(&a).await.len()), (vec![1, 2, 3, 4], 1), "{fate:?}");
            let b = stage.writer("B").await;
            assert_eq!((ids(&b).await, segments(&b).await.len()), (vec![1, 2, 3, 4], 1), "{fate:?}");
            is_sound(&b).await;
        });
    }
}

#[test]
fn what_a_dying_compaction_has_written_is_collected() {
    // Its commit is lost with it, or arrives when the next writer's fence has long been there.
    for late in [false, true] {
        on_stage(|stage| async move {
            let process = stage.process("A");
            let a = stage.writer_of(&process).await.unwrap();
            fill(&a).await;
            let mut stalled = stage.store.hold("A", creates("wal/"));
            let compacting = compacting(&a);
            stalled.arrived().await;
            let (merged, _) = stage.store.last_below("table/").unwrap();
            process.kill();
            compacting.abort();
            let mut stalled = Some(stalled);
            if !late {
                drop(stalled.take());
            }
            let b = stage.writer("B").await;
            if let Some(stalled) = stalled {
                stalled.release(Fate::Done);
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
            assert_eq!((ids(&b).await, segments(&b).await.len()), (vec![1, 2, 3, 4], 2));
            insert(&b, 5).await.unwrap();
            checkpoint(&b).await;
            assert!(stage.store.contains(&merged));
            stage.collect_away(&b, &merged).await;
            assert_eq!(ids(&b).await, [1, 2, 3, 4, 5]);
            is_sound(&b).await;
        });
    }
}

#[test]
fn what_a_compaction_is_writing_is_not_collected() {
    on_stage(|stage| async move {
        let a = stage.writer("A").await;
        fill(&a).await;
        let mut stalled = stage.store.hold("A", creates("wal/"));
        let compacting = compacting(&a);
        stalled.arrived().await;
        let (merged, _) = stage.store.last_below("table/").unwrap();
        // Longer would be longer than a request may take.
        for _ in 0..2 {
            tokio::time::sleep(GRACE + Duration::from_millis(100)).await;
            a.collect().await.unwrap();
        }
        assert!(stage.store.contains(&merged));
        stalled.release(Fate::Done);
        compacting.await.unwrap().unwrap();
        assert_eq!(segments(&a).await, [merged]);
        assert_eq!(ids(&a).await, [1, 2, 3, 4]);
        is_sound(&a).await;
    });
}

#[test]
fn what_is_deleted_while_it_is_merged_stays_deleted() {
    on_stage(|stage| async move {
        let a = stage.writer("A").await;
        fill(&a).await;
        let mut stalled = stage.store.hold("A", |op, path| op == Op::Put && path.starts_with("table/"));
        let compacting = compacting(&a);
        stalled.arrived().await;
        let deleting = Change { delete: vec![1, 3], ..Change::default() };
        rows::commit(&a, &deleting, CommitId::random()).await.unwrap();
        stalled.release(Fate::Done);
        compacting.await.unwrap().unwrap();
        assert_eq!((ids(&a).await, segments(&a).await.len()), (vec![2, 4], 1));
        for actor in ["B", "C"] {
            let next = stage.writer(actor).await;
            assert_eq!(ids(&next).await, [2, 4]);
            is_sound(&next).await;
            checkpoint(&next).await;
        }
        assert_eq!(ids(&stage.reader("R").await).await, [2, 4]);
    });
}

#[test]
fn a_reader_has_what_was_compacted_for_the_grace_and_never_fewer_rows() {
    on_stage(|stage| async move {
        let a = stage.writer("A").await;
        fill(&a).await;
        let (early, late) = (stage.reader("R").await, stage.reader("S").await);
        let (seen_early, seen_late) = (early.snapshot(), late.snapshot());
        let replaced = segments(&a).await;
        let deleting = Change { delete: vec![2], ..Change::default() };
        rows::commit(&a, &deleting, CommitId::random()).await.unwrap();
        assert!(a.compact(None).await.unwrap().triggered);
        a.collect().await.unwrap();
        let found = rows::read(&seen_early).await.unwrap().unwrap();
        assert_eq!(found.rows.into_keys().collect::<Vec<_>>(), [1, 2, 3, 4]);
        for path in &replaced {
            stage.collect_away(&a, path).await;
        }
        let error = rows::read(&seen_late).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::SnapshotExpired, "{error}");
        for reader in [&early, &late] {
            reader.refresh().await.unwrap();
            assert_eq!(ids(reader).await, [1, 3, 4]);
        }
        assert_eq!(ids(&stage.reader("T").await).await, [1, 3, 4]);
    });
}

#[test]
fn a_writer_that_was_cut_off_takes_nothing_that_was_replaced_for_damage() {
    on_stage(|stage| async move {
        let process = stage.process("A");
        let a = stage.writer_of(&process).await.unwrap();
        fill(&a).await;
        let (begun, replaced) = (Instant::now(), segments(&a).await);
        let seen = a.snapshot();
        assert!(!a.may_be_outlived());
        process.cut_off(50_000);
        let b = stage.writer("B").await;
        assert!(b.compact(None).await.unwrap().triggered);
        for path in &replaced {
            stage.collect_away(&b, path).await;
        }
        // Whether or not it has heard of the other one by now.
        tokio::time::sleep_until(begun + Duration::from_secs(51)).await;
        assert!(a.may_be_outlived());
        let error = rows::read(&seen).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::SnapshotExpired, "{error}");
        assert!(!b.may_be_outlived());
        assert_eq!(ids(&b).await, [1, 2, 3, 4]);
        // It does hear of it.
        tokio::time::sleep(Duration::from_secs(120)).await;
        assert_eq!(a.begin(&seen).await.unwrap_err().kind(), ErrorKind::Fenced);
        assert!(a.may_be_outlived() && !b.may_be_outlived());
    });
}
