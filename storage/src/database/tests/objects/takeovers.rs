//! Who writes, when several want to: fences, claims, and what an older writer still has on its way.

use std::sync::Arc;
use std::time::Duration;

use super::faults::Fate;
use super::stage::{checkpoint, create, creates, ids, insert, inserting, is_fenced, on_stage};
use crate::checkpoint::CheckpointReason;
use crate::database::OpenOptions;
use crate::error::ErrorKind;

#[test]
fn a_stalled_writers_create_collides_with_the_fence() {
    on_stage(|stage| async move {
        let a = stage.begun().await;
        let mut stalled = stage.store.hold("A", creates("wal/"));
        let committing = inserting(&a, 2);
        let path = stalled.arrived().await;
        let b = stage.writer("B").await;
        assert!(stage.store.contains(&path), "the fence has taken its number");
        assert_eq!(ids(&b).await, [1]);
        stalled.release(Fate::Done);
        let error = committing.await.unwrap().unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Fenced, "{error}");
        is_fenced(&a).await;
        insert(&b, 3).await.unwrap();
        assert_eq!(ids(&b).await, [1, 3]);
        assert_eq!(ids(&stage.reader("R").await).await, [1, 3]);
    });
}

#[test]
fn a_takeover_meets_the_old_writers_checkpoint() {
    on_stage(|stage| async move {
        let a = stage.begun().await;
        let mut stalled = stage.store.hold("A", creates("manifest/"));
        let old = Arc::clone(&a);
        let checkpointing = tokio::spawn(async move { old.checkpoint(CheckpointReason::Statement).await });
        stalled.arrived().await;
        let b = stage.writer("B").await;
        stalled.release(Fate::Done);
        let error = checkpointing.await.unwrap().unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Fenced, "{error}");
        is_fenced(&a).await;
        insert(&b, 2).await.unwrap();
        checkpoint(&b).await;
        assert_eq!(ids(&b).await, [1, 2]);

        // The other way round: the checkpoint is faster than the manifest that claims.
        insert(&b, 3).await.unwrap();
        let mut claim = stage.store.hold("C", creates("manifest/"));
        let opening = stage.opening("C");
        let path = claim.arrived().await;
        checkpoint(&b).await;
        assert!(stage.store.contains(&path), "the checkpoint has taken its number");
        insert(&b, 4).await.unwrap();
        claim.release(Fate::Done);
        let c = opening.await.unwrap();
        assert_eq!(ids(&c).await, [1, 2, 3, 4]);
        is_fenced(&b).await;
        insert(&c, 5).await.unwrap();
        assert_eq!(ids(&stage.reader("R").await).await, [1, 2, 3, 4, 5]);
    });
}

#[test]
fn of_many_that_claim_at_once_one_writes_and_the_others_are_told() {
    on_stage(|stage| async move {
        stage.begun().await.close().await.unwrap();
        let mut claims = Vec::new();
        for actor in ["B", "C", "D", "E", "F", "G"] {
            let options = OpenOptions { take_over: false, ..stage.options(&stage.process(actor)) };
            let db = stage.open(options).await.unwrap();
            claims.push(async move { (db.claim().await, db) });
        }
        let claims = futures::future::join_all(claims).await;
        let mut writers = 0;
        for (claimed, db) in &claims {
            match claimed {
                // One that had no note to see may have overtaken another.
                Ok(()) => writers += usize::from(insert(db, 2).await.is_ok()),
                Err(error) => {
                    assert!(error.message().starts_with("another process writes this database"), "{error}");
                }
            }
        }
        assert_eq!(writers, 1);
        assert_eq!(ids(&stage.reader("R").await).await, [1, 2]);
    });
}

#[test]
fn of_two_claimers_at_once_each_commit_is_whole_or_refused() {
    on_stage(|stage| async move {
        stage.begun().await.close().await.unwrap();
        let (b, c) = (stage.newcomer("B").await, stage.newcomer("C").await);
        let mut claims =
            [stage.store.hold("B", creates("manifest/")), stage.store.hold("C", creates("manifest/"))];
        let tasks = [&b, &c].map(|db| {
            let db = Arc::clone(db);
            tokio::spawn(async move { db.claim().await })
        });
        for claim in &mut claims {
            claim.arrived().await;
        }
        for claim in claims {
            claim.release(Fate::Done);
        }
        let mut claimed = 0;
        for task in tasks {
            match task.await.unwrap() {
                Ok(()) => claimed += 1,
                Err(error) => {
                    let kind = error.kind();
                    assert!(matches!(kind, ErrorKind::Fenced | ErrorKind::Unavailable), "{error}");
                }
            }
        }
        assert!(claimed > 0, "one of them must get it");
        let mut expected = vec![1];
        let mut versions = Vec::new();
        for (db, id) in [(&b, 2), (&c, 3)] {
            match insert(db, id).await {
                Ok(receipt) => {
                    expected.push(id);
                    versions.push(receipt.version);
                }
                Err(error) => assert_eq!(error.kind(), ErrorKind::Fenced, "{error}"),
            }
        }
        assert!(!versions.is_empty(), "one of them can write");
        versions.dedup();
        assert_eq!(versions.len(), expected.len() - 1, "no two commits have one version");
        assert_eq!(ids(&stage.reader("R").await).await, expected);
    });
}

#[test]
fn a_claimer_may_die_between_its_manifest_and_its_fence() {
    // The fence is lost, or it arrives when the next claimer's has long been there.
    for late in [false, true] {
        on_stage(|stage| async move {
            let a = stage.begun().await;
            let dying = stage.process("B");
            let mut fence = stage.store.hold("B", creates("wal/"));
            let (claimer, process) = (stage.clone(), dying.clone());
            let claiming = tokio::spawn(async move { claimer.writer_of(&process).await.map(drop) });
            fence.arrived().await;
            dying.kill();
            claiming.abort();
            // Nothing keeps the old writer out yet.
            insert(&a, 2).await.unwrap();
            let mut fence = Some(fence);
            if !late {
                drop(fence.take());
            }
            let c = stage.writer("C").await;
            assert_eq!(ids(&c).await, [1, 2]);
            if let Some(fence) = fence {
                fence.release(Fate::Done);
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
            insert(&c, 3).await.unwrap();
            is_fenced(&a).await;
            checkpoint(&c).await;
            insert(&c, 4).await.unwrap();
            assert_eq!(ids(&stage.reader("R").await).await, [1, 2, 3, 4]);
        });
    }
}

#[test]
fn a_late_put_that_beats_the_fence_counts() {
    on_stage(|stage| async move {
        let a = stage.begun().await;
        let mut late = stage.store.hold("A", creates("wal/"));
        let committing = inserting(&a, 2);
        let path = late.arrived().await;
        let mut fence = stage.store.hold("B", creates("wal/"));
        let opening = stage.opening("B");
        assert_eq!(fence.arrived().await, path, "both are about to take one number");
        late.release(Fate::Done);
        committing.await.unwrap().unwrap();
        fence.release(Fate::Done);
        let b = opening.await.unwrap();
        assert_eq!(ids(&b).await, [1, 2]);
        is_fenced(&a).await;
        insert(&b, 3).await.unwrap();
        assert_eq!(ids(&stage.reader("R").await).await, [1, 2, 3]);
    });
}

#[test]
fn an_object_of_an_older_epoch_behind_the_fence_is_void() {
    on_stage(|stage| async move {
        let process = stage.process("A");
        let a = stage.writer_of(&process).await.unwrap();
        create(&a).await;
        insert(&a, 1).await.unwrap();
        // In another world it goes on undisturbed: the second object it writes there is one that it might have sent ahead here.
        let elsewhere = stage.store.fork();
        process.redirect(&elsewhere);
        insert(&a, 2).await.unwrap();
        insert(&a, 3).await.unwrap();
        let (path, bytes) = elsewhere.last_below("wal/").unwrap();

        let b = stage.writer("B").await;
        let follower = stage.reader("R").await;
        stage.store.plant(&path, bytes);
        insert(&b, 4).await.unwrap();
        assert_eq!(ids(&b).await, [1, 4]);
        tokio::time::sleep(Duration::from_secs(2)).await;
        follower.refresh().await.unwrap();
        assert_eq!(ids(&follower).await, [1, 4]);
        assert_eq!(ids(&stage.reader("R").await).await, [1, 4]);
        let c = stage.writer("C").await;
        assert_eq!(ids(&c).await, [1, 4]);
        insert(&c, 5).await.unwrap();
        checkpoint(&c).await;
        insert(&c, 6).await.unwrap();
        assert_eq!(ids(&stage.reader("R").await).await, [1, 4, 5, 6]);
    });
}
