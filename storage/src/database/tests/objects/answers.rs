//! Answers that are lost or wrong, and callers that are gone before theirs comes.

use std::sync::Arc;
use std::time::Duration;

use super::faults::Fate;
use super::rows;
use super::stage::{checkpoint, create, creates, ids, insert, inserting, on_stage, row};
use crate::error::ErrorKind;
use crate::id::CommitId;

/// Whatever becomes of one create or its answer, the writer finds out and goes on.
#[test]
fn a_lost_or_wrong_answer_to_a_create_is_settled() {
    let fates = [Fate::Lost, Fate::OwnClash, Fate::Clash, Fate::Silent, Fate::Dropped, Fate::Refused];
    for fate in fates {
        on_stage(|stage| async move {
            let mut a = stage.begun().await;
            let mut next = 2;
            for _ in 0..2 {
                stage.store.meddle("A", creates("wal/"), fate);
                let receipt = insert(&a, next).await.unwrap();
                assert_eq!(a.snapshot().version(), receipt.version);
                stage.store.meddle("A", creates("manifest/"), fate);
                checkpoint(&a).await;
                insert(&a, next + 1).await.unwrap();
                next += 2;
                // The manifest and the fence of a claim.
                stage.store.meddle("A", creates("manifest/"), fate);
                stage.store.meddle("A", creates("wal/"), fate);
                let before = a.snapshot().version();
                a = stage.writer("A").await;
                assert_eq!(a.snapshot().version(), before, "{fate:?}");
                assert_eq!(ids(&a).await, (1..next).collect::<Vec<_>>(), "{fate:?}");
            }
            assert_eq!(ids(&stage.reader("R").await).await, (1..next).collect::<Vec<_>>());
        });
    }
}

#[test]
fn a_commit_whose_caller_went_away_is_settled_before_the_next() {
    on_stage(|stage| async move {
        let a = stage.begun().await;
        let mut held = stage.store.hold("A", creates("wal/"));
        let committing = inserting(&a, 2);
        held.arrived().await;
        committing.abort();
        assert!(committing.await.unwrap_err().is_cancelled());
        held.release(Fate::Done);
        insert(&a, 3).await.unwrap();
        assert_eq!(ids(&a).await, [1, 2, 3]);
        assert_eq!(ids(&stage.writer("B").await).await, [1, 2, 3]);
    });
}

#[test]
fn a_commit_tried_again_under_its_id_is_there_once() {
    for lands in [true, false] {
        on_stage(|stage| async move {
            let process = stage.process("A");
            let a = stage.writer_of(&process).await.unwrap();
            create(&a).await;
            insert(&a, 1).await.unwrap();
            let id = CommitId::random();
            let mut held = stage.store.hold("A", creates("wal/"));
            let dying = Arc::clone(&a);
            let committing = tokio::spawn(async move { rows::commit(&dying, &row(2), id).await });
            held.arrived().await;
            process.kill();
            committing.abort();
            held.release(if lands { Fate::Done } else { Fate::Dropped });
            tokio::time::sleep(Duration::from_millis(50)).await;

            let b = stage.writer("B").await;
            let found = rows::show_commit(&b, id).await.unwrap();
            assert_eq!(found.is_some(), lands);
            match rows::commit(&b, &row(2), id).await {
                Ok(receipt) => {
                    assert!(found.is_none_or(|version| version == receipt.version));
                    assert_eq!(rows::show_commit(&b, id).await.unwrap(), Some(receipt.version));
                }
                Err(error) => {
                    assert!(lands, "{error}");
                    let kind = error.kind();
                    assert!(matches!(kind, ErrorKind::ConstraintViolation | ErrorKind::Conflict), "{error}");
                }
            }
            assert_eq!(ids(&b).await, [1, 2]);
            checkpoint(&b).await;
            let c = stage.writer("C").await;
            assert!(rows::show_commit(&c, id).await.unwrap().is_some());
        });
    }
}
