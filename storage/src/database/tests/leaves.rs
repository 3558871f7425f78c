//! Leaves of manifests in a directory: they stay as long as a manifest that names them, and no longer, whatever fails in between.

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::sync::atomic::{AtomicI64, Ordering};

use super::*;
use crate::checkpoint::CheckpointReason;
use crate::collect::{LEAVES, ObjectKind, ObjectName, leaves};
use crate::database::{Clock, now_us};
use crate::error::ErrorKind;
use crate::fs::{Fault, FileSystem, OpenMode, RecordedStep, SimFileSystem, Step};
use crate::id::{ManifestNumber, ObjectId};
use crate::manifest::store::{leaf_path, manifest_path};
use crate::repair::{OfflineRepair, RepairStatus, repair_offline};
use crate::wal::CommitInfo;

/// Files of a machine whose clock is turned, and on which nearly every list of segments stands in a leaf.
#[derive(Clone)]
struct Machine {
    disk: SimFileSystem,
    ahead_us: Arc<AtomicI64>,
}

impl Machine {
    fn new(seed: u64) -> Self {
        Self { disk: SimFileSystem::new(seed), ahead_us: Arc::default() }
    }

    fn with(&self, disk: SimFileSystem) -> Self {
        Self { disk, ..self.clone() }
    }

    fn turn(&self, hours: i64) {
        self.ahead_us.fetch_add(hours * 3_600_000_000, Ordering::Relaxed);
    }

    fn options(&self) -> OpenOptions {
        let ahead_us = Arc::clone(&self.ahead_us);
        OpenOptions {
            fs: Some(Arc::new(self.disk.clone()) as Arc<dyn FileSystem>),
            clock: Clock::new(move || now_us() + ahead_us.load(Ordering::Relaxed)),
            compacts: false,
            segment_list_bytes: 16,
            ..OpenOptions::default()
        }
    }

    async fn open(&self) -> Arc<Database> {
        Database::open(root(), self.options()).await.unwrap()
    }

    async fn reader(&self) -> Arc<Database> {
        Database::open(root(), OpenOptions { read_only: true, ..self.options() }).await.unwrap()
    }

    fn manifests(&self) -> Vec<u64> {
        let listed = self.disk.list("manifest").unwrap();
        let number = |(name, _): (String, u64)| match ObjectName::of(&name) {
            Some(ObjectName::Manifest(number)) => Some(number.0),
            _ => None,
        };
        let mut numbers: Vec<u64> = listed.into_iter().filter_map(number).collect();
        numbers.sort_unstable();
        numbers
    }

    fn leaves(&self) -> BTreeSet<String> {
        let listed = self.disk.list(LEAVES).unwrap().into_iter().map(|(name, _)| name);
        listed.filter(|name| ObjectName::of(name).is_some()).collect()
    }

    /// Leaves that manifests name which are there; marks name none.
    async fn named(&self, db: &Arc<Database>) -> BTreeSet<String> {
        let mut named = BTreeSet::new();
        for number in self.manifests() {
            match db.manifests.read(ManifestNumber(number)).await {
                Ok(manifest) => named.extend(leaves(&manifest).iter().map(|leaf| leaf_path(leaf.id))),
                Err(error) => assert_eq!(error.kind(), ErrorKind::Corrupt, "{error}"),
            }
        }
        named
    }

    /// Each manifest that is there can be loaded, and there is no leaf besides.
    async fn is_tidy(&self, db: &Arc<Database>) {
        assert_eq!(self.leaves(), self.named(db).await);
        for number in self.manifests() {
            for table in &db.manifests.read(ManifestNumber(number)).await.unwrap().tables {
                db.manifests.load_table(table).await.unwrap();
            }
        }
    }
}

fn root() -> Root {
    Root::Path(PathBuf::from("simulated"))
}

/// A table that stays as it is, whose leaf all manifests share, and an empty one.
async fn begun(db: &Arc<Database>) -> TableId {
    let still = create(db, "still", false).await.unwrap();
    insert(db, still, &rows(0..3)).await.unwrap();
    create(db, "t", false).await.unwrap()
}

/// A commit and a checkpoint for each key.
async fn write(db: &Arc<Database>, table: TableId, keys: std::ops::Range<i64>) {
    for key in keys {
        insert(db, table, &rows(key..key + 1)).await.unwrap();
        assert!(db.checkpoint(CheckpointReason::Statement).await.unwrap().triggered);
    }
}

async fn count(db: &Arc<Database>, table: TableId) -> usize {
    contents(&db.snapshot().table(table).unwrap()).await.unwrap().len()
}

async fn unnamed(db: &Arc<Database>) -> Vec<String> {
    let findings = db.verify(VerifyScope::Database).await.unwrap();
    findings.into_iter().filter(|f| f.check == "unreferenced objects").map(|f| f.object).collect()
}

#[tokio::test]
async fn leaves_go_with_the_last_manifest_that_names_them() {
    let machine = Machine::new(1);
    let db = machine.open().await;
    let table = begun(&db).await;
    write(&db, table, 0..2).await;
    let shared = machine.named(&db).await.first().cloned().unwrap();
    let follower = machine.reader().await;
    let seen = follower.snapshot().table(table).unwrap();
    write(&db, table, 2..35).await;
    assert_eq!(machine.manifests(), (1..=35).collect::<Vec<_>>());
    let before = machine.leaves();
    assert_eq!(before.len(), 36, "one of each manifest, and the one they share");
    machine.is_tidy(&db).await;

    machine.turn(25);
    write(&db, table, 35..36).await;
    assert_eq!(machine.manifests(), (2..=36).collect::<Vec<_>>(), "a reader stands on the second");
    machine.is_tidy(&db).await;
    assert_eq!(contents(&seen).await.unwrap().len(), 2);
    let another = machine.reader().await;
    assert_eq!(count(&another, table).await, 36);
    drop((seen, follower, another));
    write(&db, table, 36..37).await;
    assert_eq!(machine.manifests(), (6..=37).collect::<Vec<_>>());
    machine.is_tidy(&db).await;
    assert_eq!(before.difference(&machine.leaves()).count(), 5);
    assert!(machine.leaves().contains(&shared));
    is_sound(&db).await;
    assert_eq!(unnamed(&db).await, Vec::<String>::new());

    db.close().await.unwrap();
    drop(db);
    let db = machine.open().await;
    // However many checkpoints follow, no more is there.
    for key in 37..57 {
        machine.turn(1);
        write(&db, table, key..key + 1).await;
        assert!(machine.manifests().len() <= 34 && machine.leaves().len() <= 35, "{:?}", machine.leaves());
    }
    machine.is_tidy(&db).await;
    assert!(machine.leaves().contains(&shared));
    assert_eq!(count(&db, table).await, 57);
    db.close().await.unwrap();
    drop(db);

    // A repair falls back to the manifest before, and finds it whole.
    let newest = manifest_path(ManifestNumber(57));
    machine.disk.open(&newest, OpenMode::Write).unwrap().write_at(&[0x55; 8], 60).unwrap();
    let dry = OfflineRepair { dry_run: true, accept_loss: false };
    let planned = repair_offline(&root(), &machine.options(), dry).await.unwrap();
    let back: Vec<&str> =
        planned.iter().filter(|row| row.action == "fall back").map(|row| row.object.as_str()).collect();
    assert_eq!(back, [newest.as_str()], "{planned:?}");
    let status = planned.iter().map(|row| row.status).find(|status| *status != RepairStatus::Planned);
    assert_eq!(status, None, "{planned:?}");
}

#[tokio::test]
async fn a_crash_while_they_go_leaves_every_manifest_whole() {
    let machine = Machine::new(2);
    let db = machine.open().await;
    let table = begun(&db).await;
    write(&db, table, 0..35).await;
    machine.turn(25);
    machine.disk.record();
    write(&db, table, 35..36).await;
    machine.is_tidy(&db).await;
    drop(db);
    let removes =
        |step: &RecordedStep, of: &str| matches!(step.step, Step::Remove) && step.path.starts_with(of);
    let steps = machine.disk.recorded().into_iter().skip_while(|step| !removes(step, "manifest/0"));
    let steps: Vec<RecordedStep> = steps.collect();
    assert_eq!(steps.iter().filter(|step| removes(step, "manifest/0")).count(), 4);
    let leaf = steps.iter().position(|step| removes(step, LEAVES)).unwrap();
    assert!(
        steps[leaf..].iter().all(|step| !removes(step, "manifest/0")),
        "manifests go before their leaves"
    );
    for (seed, step) in (1..).zip(&steps) {
        for disk in [step.before.crash(seed), step.before.restart(seed)] {
            let found = machine.with(disk);
            let db = found.open().await;
            let (there, named) = (found.leaves(), found.named(&db).await);
            assert!(named.is_subset(&there), "before step {}: {named:?} but {there:?}", step.number);
            assert_eq!(count(&db, table).await, 36);
            is_sound(&db).await;
            write(&db, table, 36..37).await;
            assert_eq!(found.leaves(), found.named(&db).await, "before step {}", step.number);
        }
    }
}

#[tokio::test]
async fn one_that_could_not_be_removed_goes_the_next_time() {
    let machine = Machine::new(3);
    let db = machine.open().await;
    let table = begun(&db).await;
    write(&db, table, 0..34).await;
    drop(db);
    machine.turn(25);
    let mut stayed = 0;
    for nth in 1..=16 {
        let found = machine.with(machine.disk.restart(nth));
        let db = found.open().await;
        insert(&db, table, &rows(34..35)).await.unwrap();
        found.disk.inject(Fault::Remove(nth));
        let done = db.checkpoint(CheckpointReason::Statement).await;
        found.disk.clear_faults();
        let named = found.named(&db).await;
        assert!(named.is_subset(&found.leaves()), "removal {nth}");
        if done.is_ok() && found.leaves().len() > named.len() {
            stayed += 1;
            write(&db, table, 35..36).await;
            assert_eq!(found.leaves(), found.named(&db).await, "removal {nth}");
        }
    }
    assert!(stayed > 0, "no removal of a leaf was among those that failed");
}

#[tokio::test]
async fn what_nothing_names_is_told_and_goes_with_vacuum() {
    let machine = Machine::new(4);
    let db = machine.open().await;
    let table = begun(&db).await;
    write(&db, table, 0..4).await;
    let epoch = db.manifests.read(ManifestNumber(4)).await.unwrap().epoch;
    let leaf = |sequence| leaf_path(ObjectId { epoch, sequence });
    // What a checkpoint that failed has left, and what one that runs is about to name.
    let (old, young) = (leaf(0), leaf(1 << 30));
    for path in [&old, &young] {
        machine.disk.open(path, OpenMode::CreateNew).unwrap().write_at(b"leaf", 0).unwrap();
    }
    is_sound(&db).await;
    assert_eq!(unnamed(&db).await, [old.as_str(), "total"]);
    let receipt = db.vacuum(None).await.unwrap();
    let collected: Vec<_> =
        receipt.collected.iter().map(|kind| (kind.kind, kind.objects, kind.bytes)).collect();
    assert_eq!(collected, [(ObjectKind::ManifestLeaf, 1, 4)]);
    assert!(machine.leaves().contains(&young) && !machine.leaves().contains(&old));
    assert_eq!(unnamed(&db).await, Vec::<String>::new());
    db.close().await.unwrap();
    drop(db);

    // The next process knows that nobody writes it any more.
    let db = machine.open().await;
    write(&db, table, 4..5).await;
    assert!(db.manifests.read(ManifestNumber(5)).await.unwrap().epoch > epoch);
    assert_eq!(unnamed(&db).await, [young.as_str(), "total"]);
    db.vacuum(None).await.unwrap();
    machine.is_tidy(&db).await;

    // Of a manifest that is damaged nobody knows what it names, of a mark everybody does.
    let second = manifest_path(ManifestNumber(2));
    machine.disk.open(&second, OpenMode::Write).unwrap().write_at(&[0x55; 8], 60).unwrap();
    let before = machine.leaves();
    assert_eq!(unnamed(&db).await, Vec::<String>::new());
    assert!(db.vacuum(None).await.unwrap().more, "it may be brought back");
    assert_eq!(machine.leaves(), before);
    let done = db.repair(VerifyScope::Database, false, CommitInfo::default()).await.unwrap();
    assert!(done.iter().any(|row| row.object == second && row.status == RepairStatus::Done), "{done:?}");
    assert_eq!(unnamed(&db).await.len(), 2);
    db.vacuum(None).await.unwrap();
    assert_eq!(machine.leaves(), machine.named(&db).await);
    assert_eq!(machine.leaves().len() + 1, before.len());
    is_sound(&db).await;
    assert_eq!(count(&db, table).await, 5);
}
