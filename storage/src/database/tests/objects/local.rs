//! `durability = 'local'`: which commits of a journal reach the bucket, and what is told of the others (ADR 27).

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use uuid::Uuid;

use super::faults::{Fate, Weather};
use super::handle::Handle;
use super::rows::{self, Change};
use super::stage::{Stage, checkpoint, create, creates, ids, insert, is_fenced, on_stage};
use crate::checkpoint::CheckpointReason;
use crate::database::tests::is_sound;
use crate::database::{ClaimAt, Database, Durability, OpenOptions};
use crate::error::{ErrorKind, Result};
use crate::fs::{FileSystem, OpenMode, SimFileSystem};
use crate::id::{CommitId, CommitVersion, DatabaseId, WalNumber};
use crate::wal::{FileWal, FileWalOptions, SyncMode};

/// Longer than anything that goes on in the background takes.
const A_WHILE: Duration = Duration::from_secs(5);

fn options(stage: &Stage, process: &Handle, disk: &SimFileSystem) -> OpenOptions {
    OpenOptions {
        durability: Durability::Local,
        claim: ClaimAt::Open,
        fs: Some(Arc::new(disk.clone()) as Arc<dyn FileSystem>),
        ..stage.options(process)
    }
}

/// The writer of this process, with its journal on `disk`.
async fn writer(stage: &Stage, process: &Handle, disk: &SimFileSystem) -> Result<Arc<Database>> {
    stage.open(options(stage, process, disk)).await
}

/// The first one, with the table and row 1 in the bucket.
async fn begun(stage: &Stage, process: &Handle, disk: &SimFileSystem) -> Arc<Database> {
    let db = writer(stage, process, disk).await.unwrap();
    create(&db).await;
    insert(&db, 1).await.unwrap();
    all_sent(&db).await;
    db
}

fn unsent(db: &Arc<Database>) -> u64 {
    db.unsent().unwrap().commits
}

async fn all_sent(db: &Arc<Database>) {
    while unsent(db) > 0 {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

async fn read_elsewhere(stage: &Stage) -> Vec<i64> {
    ids(&stage.reader("R").await).await
}

#[test]
fn a_commit_is_acknowledged_before_the_bucket_has_it() {
    on_stage(|stage| async move {
        let disk = SimFileSystem::new(1);
        let a = begun(&stage, &stage.process("A"), &disk).await;
        let mut held = stage.store.hold("A", creates("wal/"));
        insert(&a, 2).await.unwrap();
        insert(&a, 3).await.unwrap();
        held.arrived().await;
        assert_eq!(ids(&a).await, [1, 2, 3], "its own process sees them at once");
        assert_eq!(read_elsewhere(&stage).await, [1]);
        let told = a.unsent().unwrap();
        assert_eq!((told.commits, a.figures().unsent.unwrap().commits), (2, 2));
        assert!(told.bytes > 0 && told.since_us.is_some(), "{told:?}");
        held.release(Fate::Done);
        all_sent(&a).await;
        assert_eq!(read_elsewhere(&stage).await, [1, 2, 3]);
        a.close().await.unwrap();
        assert!(disk.list("wal").unwrap().is_empty(), "nothing is left here");
        assert_eq!(ids(&stage.writer("B").await).await, [1, 2, 3]);
    });
}

#[test]
fn what_was_not_sent_is_sent_by_the_next_opening() {
    for durability in [Durability::Local, Durability::Store] {
        on_stage(|stage| async move {
            let (disk, first) = (SimFileSystem::new(2), stage.process("A"));
            let a = begun(&stage, &first, &disk).await;
            first.kill();
            insert(&a, 2).await.unwrap();
            insert(&a, 3).await.unwrap();
            drop(a);
            let disk = disk.crash(5);
            let again = OpenOptions {
                durability,
                claim: ClaimAt::FirstWrite,
                ..options(&stage, &stage.process("A"), &disk)
            };
            let a = stage.open(again).await.unwrap();
            assert_eq!(ids(&a).await, [1, 2, 3], "also before it writes anything");
            assert_eq!(read_elsewhere(&stage).await, [1, 2, 3]);
            assert!(a.notes().iter().any(|note| note.starts_with("2 commits")), "{:?}", a.notes());
            insert(&a, 4).await.unwrap();
            a.close().await.unwrap();
            assert_eq!(read_elsewhere(&stage).await, [1, 2, 3, 4]);
        });
    }
}

#[test]
fn what_was_sent_without_an_answer_is_there_once() {
    on_stage(|stage| async move {
        let (disk, first) = (SimFileSystem::new(3), stage.process("A"));
        let a = begun(&stage, &first, &disk).await;
        let mut held = stage.store.hold("A", creates("wal/"));
        insert(&a, 2).await.unwrap();
        let path = held.arrived().await;
        insert(&a, 3).await.unwrap();
        first.kill();
        held.release(Fate::Done);
        tokio::time::sleep(A_WHILE).await;
        assert!(stage.store.contains(&path));
        drop(a);
        let disk = disk.crash(6);
        let a = writer(&stage, &stage.process("A"), &disk).await.unwrap();
        assert_eq!(ids(&a).await, [1, 2, 3]);
        insert(&a, 4).await.unwrap();
        a.close().await.unwrap();
        assert_eq!(read_elsewhere(&stage).await, [1, 2, 3, 4]);
    });
}

#[test]
fn a_put_of_the_dead_may_arrive_at_any_time() {
    for is_first in [true, false] {
        on_stage(|stage| async move {
            let (disk, first) = (SimFileSystem::new(4), stage.process("A"));
            let a = begun(&stage, &first, &disk).await;
            let mut late = stage.store.hold("A", creates("wal/"));
            insert(&a, 2).await.unwrap();
            let path = late.arrived().await;
            insert(&a, 3).await.unwrap();
            first.kill();
            drop(a);
            let disk = disk.crash(7);
            // Another name for the same machine: rules of the store go by it.
            let mut own = stage.store.hold("C", creates("wal/"));
            let (stage_of_c, process) = (stage.clone(), stage.process("C"));
            let opening = tokio::spawn(async move { writer(&stage_of_c, &process, &disk).await });
            assert_eq!(own.arrived().await, path, "both go for the same number");
            if is_first {
                late.release(Fate::Done);
                tokio::time::sleep(A_WHILE).await;
                own.release(Fate::Done);
            } else {
                own.release(Fate::Done);
                tokio::time::sleep(A_WHILE).await;
                late.release(Fate::Done);
            }
            let c = opening.await.unwrap().unwrap();
            tokio::time::sleep(A_WHILE).await;
            assert_eq!(ids(&c).await, [1, 2, 3]);
            insert(&c, 4).await.unwrap();
            c.close().await.unwrap();
            assert_eq!(read_elsewhere(&stage).await, [1, 2, 3, 4]);
        });
    }
}

#[test]
fn a_takeover_before_the_send_is_told_and_nothing_is_dropped_silently() {
    on_stage(|stage| async move {
        let (disk, process) = (SimFileSystem::new(5), stage.process("A"));
        let a = begun(&stage, &process, &disk).await;
        let mut held = stage.store.hold("A", creates("wal/"));
        insert(&a, 2).await.unwrap();
        held.arrived().await;
        let b = stage.writer("B").await;
        assert_eq!(ids(&b).await, [1]);
        held.release(Fate::Done);
        tokio::time::sleep(A_WHILE).await;
        let error = a.check_writable().unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Fenced, "{error}");
        assert!(error.detail().unwrap().contains("1 commit "), "{:?}", error.detail());
        assert!(error.hint().unwrap().contains("--discard-local"), "{:?}", error.hint());
        is_fenced(&a).await;
        assert_eq!(ids(&a).await, [1, 2]);
        assert_eq!(a.close().await.unwrap_err().kind(), ErrorKind::Fenced);
        insert(&b, 3).await.unwrap();

        for durability in [Durability::Local, Durability::Store] {
            let again = OpenOptions { durability, ..options(&stage, &stage.process("A"), &disk) };
            let error = stage.open(again).await.unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Fenced, "{error}");
            assert!(error.message().starts_with("1 commit "), "{error}");
            assert!(error.message().contains(" UTC"), "since when: {error}");
            assert!(error.hint().unwrap().contains("--discard-local"), "{:?}", error.hint());
        }
        // Reading is not refused, and needs no decision.
        let looking = OpenOptions {
            read_only: true,
            durability: Durability::Store,
            ..options(&stage, &process, &disk)
        };
        assert_eq!(ids(&stage.open(looking).await.unwrap()).await, [1, 3]);

        let dropping = OpenOptions { discard_local: true, ..options(&stage, &stage.process("A"), &disk) };
        let a = stage.open(dropping).await.unwrap();
        assert!(a.notes().iter().any(|note| note.contains("1 commit") && note.contains("dropped")));
        assert_eq!(ids(&a).await, [1, 3]);
        insert(&a, 4).await.unwrap();
        a.close().await.unwrap();
        assert_eq!(read_elsewhere(&stage).await, [1, 3, 4]);
    });
}

/// Whatever the disk has lost of the mark, and wherever the commits are by now.
#[test]
fn a_takeover_after_the_send_is_no_reason_to_refuse() {
    for seed in 0..6 {
        on_stage(|stage| async move {
            let (disk, first) = (SimFileSystem::new(6), stage.process("A"));
            let a = begun(&stage, &first, &disk).await;
            insert(&a, 2).await.unwrap();
            insert(&a, 3).await.unwrap();
            all_sent(&a).await;
            first.kill();
            drop(a);
            let b = stage.writer("B").await;
            insert(&b, 4).await.unwrap();
            if seed % 2 == 0 {
                checkpoint(&b).await;
                insert(&b, 5).await.unwrap();
            }
            let expected = ids(&b).await;
            b.close().await.unwrap();
            let disk = disk.crash(seed);
            if seed % 3 == 0 && disk.len("sent").is_ok() {
                disk.remove_file("sent").unwrap();
            }
            let a = writer(&stage, &stage.process("A"), &disk).await.unwrap();
            assert_eq!(ids(&a).await, expected);
            insert(&a, 6).await.unwrap();
            a.close().await.unwrap();
        });
    }
}

#[test]
fn a_takeover_between_two_objects_leaves_the_rest() {
    on_stage(|stage| async move {
        let (disk, process) = (SimFileSystem::new(7), stage.process("A"));
        let a = begun(&stage, &process, &disk).await;
        insert(&a, 2).await.unwrap();
        all_sent(&a).await;
        let mut held = stage.store.hold("A", creates("wal/"));
        insert(&a, 3).await.unwrap();
        held.arrived().await;
        insert(&a, 4).await.unwrap();
        process.kill();
        drop(a);
        let disk = disk.crash(8);
        let b = stage.writer("B").await;
        insert(&b, 5).await.unwrap();
        checkpoint(&b).await;
        held.release(Fate::Done);
        // Not even the mark is needed to count them.
        if disk.len("sent").is_ok() {
            disk.remove_file("sent").unwrap();
        }
        let error = writer(&stage, &stage.process("A"), &disk).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Fenced, "{error}");
        assert!(error.message().starts_with("2 commits "), "{error}");
        assert_eq!(ids(&b).await, [1, 2, 5]);
    });
}

#[test]
fn a_checkpoint_waits_for_what_it_mentions() {
    on_stage(|stage| async move {
        let disk = SimFileSystem::new(8);
        let a = begun(&stage, &stage.process("A"), &disk).await;
        let before = stage.newest_manifest();
        let mut held = stage.store.hold("A", creates("wal/"));
        insert(&a, 2).await.unwrap();
        held.arrived().await;
        let db = Arc::clone(&a);
        let running = tokio::spawn(async move { db.checkpoint(CheckpointReason::Statement).await });
        tokio::time::sleep(A_WHILE).await;
        assert_eq!(stage.newest_manifest(), before);
        insert(&a, 3).await.unwrap();
        held.release(Fate::Done);
        assert!(running.await.unwrap().unwrap().triggered);
        assert_ne!(stage.newest_manifest(), before);
        assert_eq!(read_elsewhere(&stage).await, [1, 2, 3]);
        is_sound(&a).await;
        // The journal began anew with it, and still holds what comes now.
        insert(&a, 4).await.unwrap();
        drop(a);
        let a = writer(&stage, &stage.process("A"), &disk.crash(9)).await.unwrap();
        assert_eq!(ids(&a).await, [1, 2, 3, 4]);
    });
}

#[test]
fn closing_says_what_stays_in_the_journal() {
    on_stage(|stage| async move {
        let (disk, process) = (SimFileSystem::new(9), stage.process("A"));
        let a = begun(&stage, &process, &disk).await;
        tokio::time::sleep(A_WHILE).await;
        process.cut_off(24 * 3_600_000);
        insert(&a, 2).await.unwrap();
        let error = a.close().await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Unavailable, "{error}");
        assert!(error.message().contains("1 commit "), "{error}");
        drop(a);
        let a = writer(&stage, &stage.process("A"), &disk).await.unwrap();
        assert_eq!(ids(&a).await, [1, 2]);
    });
}

#[test]
fn one_process_of_a_machine_has_the_journal() {
    on_stage(|stage| async move {
        let disk = SimFileSystem::new(10);
        let a = begun(&stage, &stage.process("A"), &disk).await;
        insert(&a, 2).await.unwrap();
        let error = writer(&stage, &stage.process("C"), &disk).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Unavailable, "{error}");
        assert!(error.detail().unwrap().contains("journal"), "{:?}", error.detail());
        // Who only looks is not in its way.
        let looking =
            OpenOptions { claim: ClaimAt::FirstWrite, ..options(&stage, &stage.process("C"), &disk) };
        all_sent(&a).await;
        assert_eq!(ids(&stage.open(looking).await.unwrap()).await, [1, 2]);
        insert(&a, 3).await.unwrap();
    });
}

#[test]
fn a_damaged_or_foreign_journal_is_refused() {
    on_stage(|stage| async move {
        let (disk, process) = (SimFileSystem::new(11), stage.process("A"));
        let a = begun(&stage, &process, &disk).await;
        process.kill();
        for id in 2..6 {
            insert(&a, id).await.unwrap();
        }
        drop(a);
        let whole = disk.crash(1);
        let name = whole.list("wal").unwrap().into_iter().find(|(name, _)| name != "wal/tip").unwrap().0;

        let damaged = whole.restart(1);
        damaged.open(&name, OpenMode::Write).unwrap().write_at(&[0x55; 8], 200).unwrap();
        let cut = whole.restart(2);
        cut.open(&name, OpenMode::Write).unwrap().truncate(300).unwrap();
        let foreign = SimFileSystem::new(12);
        let other = FileWalOptions::new(DatabaseId(Uuid::from_u128(1)), SyncMode::Full);
        let fs = Arc::new(foreign.clone()) as Arc<dyn FileSystem>;
        drop(FileWal::create(fs, other, WalNumber(1), CommitVersion(1), None).unwrap());
        for (disk, kind) in
            [(damaged, ErrorKind::Corrupt), (cut, ErrorKind::Corrupt), (foreign, ErrorKind::InvalidInput)]
        {
            let files = disk.list("wal").unwrap();
            let error = writer(&stage, &stage.process("A"), &disk).await.unwrap_err();
            assert_eq!(error.kind(), kind, "{error}");
            assert!(error.hint().unwrap().contains("--discard-local"), "{error}");
            assert_eq!(disk.list("wal").unwrap(), files, "it is kept");
            let dropping = OpenOptions { discard_local: true, ..options(&stage, &stage.process("A"), &disk) };
            let a = stage.open(dropping).await.unwrap();
            assert!(a.notes().iter().any(|note| note.contains("dropped")), "{:?}", a.notes());
            assert_eq!(ids(&a).await, [1]);
        }
        // Another writer has been there since: so much for the whole one.
        let error = writer(&stage, &stage.process("A"), &whole).await.unwrap_err();
        assert!(error.message().starts_with("4 commits "), "{error}");
    });
}

/// What the lives of one machine were told.
#[derive(Debug, Default)]
struct Told {
    acknowledged: BTreeSet<i64>,
    /// The newest id that any of them has tried.
    last: i64,
}

/// Creates, commits, makes a checkpoint, commits and closes, until something fails.
async fn live(stage: &Stage, process: &Handle, disk: &SimFileSystem, told: &Mutex<Told>) {
    let Ok(db) = writer(stage, process, disk).await else { return };
    let is_there = rows::read(&db.snapshot()).await.is_ok_and(|found| found.is_some());
    if !is_there && rows::commit(&db, &Change::creating(), CommitId::random()).await.is_err() {
        return;
    }
    for round in 0..2 {
        let mut id = 0;
        for _ in 0..3 {
            id = {
                let mut told = told.lock().unwrap();
                told.last += 1;
                told.last
            };
            if insert(&db, id).await.is_ok() {
                told.lock().unwrap().acknowledged.insert(id);
            }
        }
        if round == 0 && id % 2 == 0 {
            let _ = db.checkpoint(CheckpointReason::Statement).await;
        }
    }
    let _ = db.close().await;
}

/// An opening with a store and a disk that do what they are asked to finds all of it, and nothing that nobody wrote.
async fn ends_well(stage: &Stage, disk: &SimFileSystem, told: Mutex<Told>) {
    let a = writer(stage, &stage.process("A"), disk).await.unwrap();
    let found = rows::read(&a.snapshot()).await.unwrap().unwrap_or_default();
    assert_eq!(found.wrong, None);
    let found: BTreeSet<i64> = found.rows.into_keys().collect();
    let Told { acknowledged, last } = told.into_inner().unwrap();
    let lost: Vec<_> = acknowledged.difference(&found).collect();
    assert!(lost.is_empty(), "{lost:?} are lost; {found:?} are there");
    assert!(found.iter().all(|id| (1..=last).contains(id)), "{found:?}");
    assert!(acknowledged.len() > 3, "it lives long enough to be worth it: {acknowledged:?}");
    is_sound(&a).await;
    a.close().await.unwrap();
    assert_eq!(read_elsewhere(stage).await, found.into_iter().collect::<Vec<_>>());
}

/// The machine dies at every few steps of its disk; after each death the next life goes on with what the disk kept.
#[test]
fn nothing_acknowledged_is_lost_wherever_the_machine_dies() {
    for seed in 0..4 {
        on_stage(|stage| async move {
            let mut disk = SimFileSystem::new(20 + seed);
            let told = Mutex::new(Told::default());
            for step in 1..30 {
                let process = stage.process("A");
                disk.crash_at_step(disk.steps() + 2 * step + seed % 2);
                live(&stage, &process, &disk, &told).await;
                process.kill();
                disk = disk.crash(seed + step);
            }
            ends_well(&stage, &disk, told).await;
        });
    }
}

/// The same in a network that loses, delays and repeats, and killed at any moment; what is under way arrives in later lives.
#[test]
fn nothing_acknowledged_is_lost_in_bad_weather() {
    for seed in 0..6 {
        on_stage(|stage| async move {
            let mut rng = StdRng::seed_from_u64(seed);
            let mut disk = SimFileSystem::new(40 + seed);
            let told = Mutex::new(Told::default());
            for life in 0..12 {
                let process = stage.store.handle("A", 1, 1_000 + life, Weather::drawn(&mut rng));
                let length = Duration::from_millis(rng.random_range(500..60_000));
                let _ = tokio::time::timeout(length, live(&stage, &process, &disk, &told)).await;
                process.kill();
                disk = disk.crash(100 * seed + life);
            }
            ends_well(&stage, &disk, told).await;
        });
    }
}
