//! What is collected while somebody else looks for it, or while the collector has long been replaced.

use std::sync::Arc;

use super::faults::{Fate, Op};
use super::rows::{self, Change};
use super::stage::{GRACE, checkpoint, creates, ids, insert, is_fenced, looks_for, on_stage};
use crate::database::Database;
use crate::database::tests::is_sound;
use crate::error::ErrorKind;
use crate::id::CommitId;
use crate::manifest::store::manifest_path;

/// Where a claimer stands while others go on.
#[derive(Clone, Copy)]
enum Before {
    FirstProbe,
    LastProbe,
    /// The manifest that it believes to be the next one.
    Create,
}

/// It has the rows 1 to 5, and the next one when it looks again.
async fn follows(reader: &Arc<Database>, writer: &Arc<Database>) {
    reader.refresh().await.unwrap();
    assert_eq!(ids(reader).await, [1, 2, 3, 4, 5]);
    insert(writer, 6).await.unwrap();
    tokio::time::sleep(GRACE).await;
    reader.refresh().await.unwrap();
    assert_eq!(ids(reader).await, [1, 2, 3, 4, 5, 6]);
}

#[test]
fn the_boundary_may_pass_a_claimer_while_it_looks_for_the_newest_manifest() {
    for before in [Before::FirstProbe, Before::LastProbe, Before::Create] {
        on_stage(|stage| async move {
            let a = stage.begun().await;
            checkpoint(&a).await;
            let b = stage.newcomer("B").await;
            let newest = stage.newest_manifest();
            let mut stalled = match before {
                Before::FirstProbe => stage.store.hold("B", looks_for("manifest/".to_owned())),
                Before::LastProbe => stage.store.hold("B", looks_for(newest.clone())),
                Before::Create => stage.store.hold("B", creates("manifest/")),
            };
            let claimer = Arc::clone(&b);
            let claiming = tokio::spawn(async move { claimer.claim().await });
            let stalled_at = stalled.arrived().await;
            for id in 2..7 {
                insert(&a, id).await.unwrap();
                checkpoint(&a).await;
            }
            stage.collect_away(&a, &newest).await;
            if matches!(before, Before::Create) {
                // Its number is free again: the create succeeds, far below the newest.
                stage.collect_away(&a, &stalled_at).await;
            }
            stalled.release(Fate::Done);
            claiming.await.unwrap().unwrap();
            assert_eq!(ids(&b).await, [1, 2, 3, 4, 5, 6]);
            is_fenced(&a).await;
            insert(&b, 7).await.unwrap();
            checkpoint(&b).await;
            assert_eq!(ids(&stage.reader("R").await).await, [1, 2, 3, 4, 5, 6, 7]);
        });
    }
}

#[test]
fn a_reader_opens_while_manifests_are_collected() {
    for any in [true, false] {
        on_stage(|stage| async move {
            let a = stage.begun().await;
            checkpoint(&a).await;
            insert(&a, 2).await.unwrap();
            checkpoint(&a).await;
            let newest = stage.newest_manifest();
            let looked_for = if any { "manifest/".to_owned() } else { newest.clone() };
            let mut stalled = stage.store.hold("R", looks_for(looked_for));
            let opener = stage.clone();
            let opening = tokio::spawn(async move { opener.reader("R").await });
            stalled.arrived().await;
            for id in 3..6 {
                insert(&a, id).await.unwrap();
                checkpoint(&a).await;
            }
            stage.collect_away(&a, &newest).await;
            stalled.release(Fate::Done);
            let reader = opening.await.unwrap();
            tokio::time::sleep(GRACE).await;
            follows(&reader, &a).await;
        });
    }
}

#[test]
fn a_reader_catches_up_after_what_it_stood_on_was_collected() {
    on_stage(|stage| async move {
        let a = stage.begun().await;
        checkpoint(&a).await;
        let reader = stage.reader("R").await;
        let stood_on = stage.newest_manifest();
        insert(&a, 2).await.unwrap();
        let (next_object, _) = stage.store.last_below("wal/").unwrap();
        checkpoint(&a).await;
        let next_manifest = stage.newest_manifest();
        for id in 3..6 {
            insert(&a, id).await.unwrap();
            checkpoint(&a).await;
        }
        for path in [&stood_on, &next_object, &next_manifest] {
            stage.collect_away(&a, path).await;
        }
        follows(&reader, &a).await;
    });
}

#[test]
fn a_stalled_collector_of_an_older_epoch_removes_nothing_that_lives() {
    for stalls_at in [Op::Delete, Op::List] {
        on_stage(|stage| async move {
            let a = stage.begun().await;
            for id in 2..6 {
                insert(&a, id).await.unwrap();
                checkpoint(&a).await;
            }
            tokio::time::sleep(2 * GRACE).await;
            a.collect().await.unwrap();
            for id in 6..10 {
                insert(&a, id).await.unwrap();
                checkpoint(&a).await;
            }
            tokio::time::sleep(2 * GRACE).await;
            let mut stalled = stage.store.hold("A", move |op, _| op == stalls_at);
            let collector = Arc::clone(&a);
            let collecting = tokio::spawn(async move { collector.collect().await.map(drop) });
            stalled.arrived().await;

            let b = stage.writer("B").await;
            let loaded: Vec<(i64, i64)> = (100..400).map(|id| (id, id)).collect();
            rows::commit(&b, &Change::inserting(&loaded), CommitId::random()).await.unwrap();
            let deleting = Change { delete: (110..150).collect(), ..Change::default() };
            rows::commit(&b, &deleting, CommitId::random()).await.unwrap();
            checkpoint(&b).await;
            insert(&b, 10).await.unwrap();
            let (before, removed) = (ids(&b).await, stage.store.removed_by("A"));
            stalled.release(Fate::Done);
            if let Err(error) = collecting.await.unwrap() {
                assert_eq!(error.kind(), ErrorKind::Fenced, "{error}");
            }
            if stalls_at == Op::List {
                assert_eq!(stage.store.removed_by("A"), removed, "it goes on although its epoch is over");
            }
            assert_eq!(ids(&b).await, before);
            is_sound(&b).await;
            assert_eq!(ids(&stage.reader("R").await).await, before);
            let c = stage.writer("C").await;
            assert_eq!(ids(&c).await, before);
            is_sound(&c).await;
        });
    }
}

#[test]
fn a_reader_never_goes_back() {
    on_stage(|stage| async move {
        let a = stage.begun().await;
        let past = stage.store.fork();
        insert(&a, 2).await.unwrap();
        let process = stage.process("R");
        let reader = stage.reader_of(&process).await;
        assert_eq!(ids(&reader).await, [1, 2]);
        // After an error it loads anew.
        tokio::time::sleep(GRACE).await;
        stage.store.outage("R", |op, _| op == Op::Get, Fate::Refused);
        reader.refresh().await.unwrap_err();
        stage.store.end_outages();
        process.redirect(&past);
        let error = reader.refresh().await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Unavailable, "{error}");
        assert!(error.message().contains("was read here"), "{error}");
        assert_eq!(ids(&reader).await, [1, 2]);
        process.redirect(&stage.store);
        insert(&a, 3).await.unwrap();
        reader.refresh().await.unwrap();
        assert_eq!(ids(&reader).await, [1, 2, 3]);
    });
}

/// Everything around a claim goes, the claim stays: a search that began there would end there.
#[test]
fn a_claim_that_stays_is_not_taken_for_the_newest_manifest() {
    on_stage(|stage| async move {
        let a = stage.begun().await;
        checkpoint(&a).await;
        let b = stage.writer("B").await;
        let claim = stage.newest_manifest();
        let reader = stage.reader("R").await;
        let seen = reader.snapshot().state().manifest;
        let next = manifest_path(seen.next());
        let mut stalled = stage.store.hold("R", looks_for(next.clone()));
        let looking = Arc::clone(&reader);
        let looking = tokio::spawn(async move { looking.newest_manifest().await });
        stalled.arrived().await;
        for id in 2..6 {
            insert(&b, id).await.unwrap();
            checkpoint(&b).await;
        }
        stage.collect_away(&b, &next).await;
        assert!(stage.store.contains(&claim));
        stalled.release(Fate::Done);
        let newest = looking.await.unwrap().unwrap().unwrap();
        assert_eq!(manifest_path(newest.number), stage.newest_manifest());
        // It still stands on the claim.
        assert_eq!(reader.snapshot().state().manifest, seen);
        is_sound(&reader).await;
    });
}
