//! Answers that are lost or wrong, and callers that are gone before theirs comes.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;
use uuid::Uuid;

use super::faults::{Fate, Op};
use super::rows;
use super::stage::{Stage, checkpoint, create, creates, ids, insert, inserting, on_stage, row};
use crate::checkpoint::CheckpointReason;
use crate::database::boundary::Boundary;
use crate::database::tests::is_sound;
use crate::error::ErrorKind;
use crate::id::{CommitId, DatabaseId, ManifestNumber};

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

/// The number in the name of the last object of the log.
fn last_number(stage: &Stage) -> u64 {
    let (path, _) = stage.store.last_below("wal/").unwrap();
    path.trim_start_matches("wal/").parse().unwrap()
}

#[test]
fn an_outage_that_refuses_every_attempt_poisons_nothing() {
    on_stage(|stage| async move {
        let a = stage.begun().await;
        let number = last_number(&stage);
        stage.store.outage("A", creates("wal/"), Fate::Refused);
        for id in 2..4 {
            let error = insert(&a, id).await.unwrap_err();
            assert_eq!((error.kind(), error.sqlstate()), (ErrorKind::Unavailable, "57P03"), "{error}");
            assert!(error.message().starts_with("nothing was committed: "), "{error}");
        }
        assert_eq!(ids(&a).await, [1]);
        stage.store.end_outages();
        insert(&a, 4).await.unwrap();
        assert_eq!(last_number(&stage), number + 1, "the number of the failed ones is used");

        // A checkpoint as well; the commits before it stand.
        stage.store.outage("A", creates("manifest/0"), Fate::Refused);
        let newest = stage.newest_manifest();
        let error = a.checkpoint(CheckpointReason::Statement).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Unavailable, "{error}");
        insert(&a, 5).await.unwrap();
        stage.store.end_outages();
        assert_eq!(stage.newest_manifest(), newest);
        checkpoint(&a).await;
        insert(&a, 6).await.unwrap();
        assert_eq!(ids(&a).await, [1, 4, 5, 6]);
        is_sound(&a).await;
        assert_eq!(ids(&stage.writer("B").await).await, [1, 4, 5, 6]);
    });
}

/// One attempt that may have arrived is enough.
#[test]
fn an_outage_after_an_attempt_without_an_answer_leaves_the_outcome_unknown() {
    for (prefix, first) in
        [("wal/", Fate::Silent), ("wal/", Fate::Lost), ("wal/", Fate::Dropped), ("manifest/0", Fate::Silent)]
    {
        on_stage(|stage| async move {
            let a = stage.begun().await;
            stage.store.meddle("A", creates(prefix), first);
            stage.store.outage("A", move |_, path| path.starts_with(prefix), Fate::Refused);
            let error = match prefix {
                "wal/" => insert(&a, 2).await.unwrap_err(),
                _ => a.checkpoint(CheckpointReason::Statement).await.unwrap_err(),
            };
            if prefix == "wal/" {
                assert_eq!(error.kind(), ErrorKind::OutcomeUnknown, "{first:?}: {error}");
            }
            stage.store.end_outages();
            insert(&a, 3).await.unwrap_err();
            let found = ids(&stage.writer("B").await).await;
            let expected: &[i64] = if prefix == "wal/" && first.takes_effect() { &[1, 2] } else { &[1] };
            assert_eq!(found, expected, "{first:?}");
        });
    }
}

#[test]
fn whoever_loses_the_boundary_to_others_lets_them_go_first() {
    on_stage(|stage| async move {
        let process = stage.process("A");
        let to = |newest| Boundary {
            oldest: ManifestNumber(1),
            ..Boundary::at_least(DatabaseId(Uuid::from_u128(7)), ManifestNumber(newest))
        };
        Boundary::raise(&process, to(1)).await.unwrap();
        let is_raise = |op: Op, path: &str| op == Op::Update && path == "boundary";
        for _ in 0..8 {
            stage.store.meddle("A", is_raise, Fate::Clash);
        }
        let begun = Instant::now();
        assert_eq!(Boundary::raise(&process, to(2)).await.unwrap(), to(2));
        // Half of 10, 20 … 640 and 1000 ms at least.
        assert!(begun.elapsed() >= Duration::from_millis(1_135), "{:?}", begun.elapsed());
        stage.store.outage("A", is_raise, Fate::Clash);
        let begun = Instant::now();
        let error = Boundary::raise(&process, to(3)).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Unavailable);
        assert!(begun.elapsed() < Duration::from_secs(30), "{:?}", begun.elapsed());
    });
}
