#![allow(clippy::unwrap_used)]
//! What is damaged is made good or put aside; nothing else changes, no row is invented, and a crash at any step is repaired by repeating it.

use std::path::{Path as FilePath, PathBuf};
use std::sync::atomic::{AtomicI64, Ordering};

use super::*;
use crate::OpenOptions;
use crate::database::tests::{Rows, change, contents, create, insert};
use crate::database::{Clock, Root, now_us, tests};
use crate::fs::{FileSystem, OpenMode, SimFileSystem};
use crate::manifest::store::manifest_path;
use crate::scratch::scratch;

fn some(range: std::ops::Range<i64>) -> Vec<(i64, String)> {
    range.map(|k| (k, format!("value {k} {}", "x".repeat(usize::try_from(k % 50).unwrap())))).collect()
}

fn options() -> OpenOptions {
    OpenOptions { compacts: false, ..OpenOptions::default() }
}

async fn open(path: &FilePath) -> Arc<Database> {
    Database::open(Root::Path(path.to_owned()), options()).await.unwrap()
}

fn objects(root: &FilePath, extension: &str) -> Vec<PathBuf> {
    let fs = crate::fs::OsFileSystem::new(root.to_owned());
    let listed = fs.list("table").unwrap();
    let of = |name: &String| name.ends_with(&format!(".{extension}"));
    listed.into_iter().map(|(name, _)| name).filter(of).map(|name| root.join(name)).collect()
}

/// Every path and its bytes.
fn everything(root: &FilePath) -> std::collections::BTreeMap<String, Vec<u8>> {
    let fs = crate::fs::OsFileSystem::new(root.to_owned());
    let listed = fs.list("").unwrap();
    listed.into_iter().map(|(name, _)| (name.clone(), std::fs::read(root.join(&name)).unwrap())).collect()
}

fn flip(path: &FilePath, at: usize) {
    let mut bytes = std::fs::read(path).unwrap();
    bytes[at] ^= 0x40;
    std::fs::write(path, bytes).unwrap();
}

async fn repair(db: &Arc<Database>, dry_run: bool) -> Vec<Repair> {
    db.repair(VerifyScope::Database, dry_run, CommitInfo::default()).await.unwrap()
}

fn statuses(rows: &[Repair]) -> Vec<(&str, RepairStatus)> {
    rows.iter().map(|row| (row.action.as_str(), row.status)).collect()
}

/// Rows of the tables below `lost_and_found`, together.
async fn lost_and_found(db: &Arc<Database>) -> Rows {
    let snapshot = db.snapshot();
    let mut rows = Rows::new();
    let names: Vec<String> = snapshot.catalog().tables(LOST_AND_FOUND).map(|t| t.name.clone()).collect();
    for name in names {
        rows.extend(contents(&snapshot.table_named(LOST_AND_FOUND, &name).unwrap()).await.unwrap());
    }
    rows
}

#[tokio::test]
async fn nothing_is_done_where_nothing_is_wrong() {
    let dir = scratch().unwrap();
    let db = open(dir.path()).await;
    let table = create(&db, "t", true).await.unwrap();
    insert(&db, table, &some(0..100)).await.unwrap();
    db.checkpoint(CheckpointReason::Statement).await.unwrap();
    let version = db.snapshot().version();
    assert!(repair(&db, false).await.is_empty());
    assert_eq!(db.snapshot().version(), version);
    db.close().await.unwrap();
    let asked = OfflineRepair { dry_run: false, accept_loss: true };
    let root = Root::Path(dir.path().to_owned());
    assert!(repair_offline(&root, &options(), asked).await.unwrap().is_empty());
}

#[tokio::test]
async fn a_segment_that_is_gone_leaves_its_table_with_the_rest() {
    let dir = scratch().unwrap();
    let db = open(dir.path()).await;
    let (table, other) = (create(&db, "t", true).await.unwrap(), create(&db, "u", true).await.unwrap());
    insert(&db, table, &some(0..100)).await.unwrap();
    insert(&db, other, &some(0..10)).await.unwrap();
    db.checkpoint(CheckpointReason::Statement).await.unwrap();
    let first = objects(dir.path(), "parquet").into_iter().find(|p| in_table(p, table)).unwrap();
    insert(&db, table, &some(100..200)).await.unwrap();
    db.checkpoint(CheckpointReason::Statement).await.unwrap();
    // Deleted from the segment that goes and from the one that stays, and in no object yet.
    assert_eq!(change(&db, table, &[3, 4, 150], &some(200..210)).await.unwrap(), 3);
    let before = db.snapshot();
    std::fs::remove_file(&first).unwrap();

    let untouched = everything(dir.path());
    let planned = repair(&db, true).await;
    assert_eq!(statuses(&planned), [("salvage", RepairStatus::Planned)]);
    assert!(planned[0].detail.contains("no row of it can be read"), "{}", planned[0].detail);
    assert_eq!(everything(dir.path()), untouched, "a dry run writes nothing");

    let done = repair(&db, false).await;
    assert_eq!(done[0].status, RepairStatus::Done, "{done:?}");
    assert!(done[0].detail.contains("98 rows of 100 are lost") || done[0].detail.contains("100 rows of 100"));
    let mut expected: Rows = some(100..210).into_iter().collect();
    expected.remove(&150);
    for reopened in [false, true] {
        let db = match reopened {
            false => Arc::clone(&db),
            true => {
                db.close().await.unwrap();
                open(dir.path()).await
            }
        };
        assert_eq!(contents(&db.snapshot().table(table).unwrap()).await.unwrap(), expected);
        assert_eq!(contents(&db.snapshot().table(other).unwrap()).await.unwrap().len(), 10);
        tests_sound(&db).await;
        assert!(repair(&db, true).await.iter().all(|row| row.action == "collect"));
        // Keys that went with it are free again.
        insert(&db, table, &some(0..1)).await.unwrap();
        assert_eq!(change(&db, table, &[0], &[]).await.unwrap(), 1);
    }
    drop(before);
}

fn in_table(path: &FilePath, table: TableId) -> bool {
    path.to_string_lossy().contains(&format!("table/{table}/"))
}

async fn tests_sound(db: &Arc<Database>) {
    let findings = crate::verify::run(db, VerifyScope::Database, Depth::Deep).await.unwrap().rows;
    let bad = findings.iter().find(|finding| finding.is_bad());
    assert!(bad.is_none(), "{bad:?}");
}

#[tokio::test]
async fn what_can_be_read_of_a_damaged_segment_is_put_aside_and_is_what_was_written() {
    let dir = scratch().unwrap();
    let path = dir.path().to_owned();
    let small = OpenOptions { wal_entry_bytes_max: 64 << 10, ..options() };
    let db = Database::open(Root::Path(path.clone()), small.clone()).await.unwrap();
    let table = create(&db, "t", true).await.unwrap();
    // More than a page, and more than a block.
    let noise = |k: i64| format!("{:032x}", xxhash_rust::xxh3::xxh3_128(&k.to_le_bytes()));
    let rows: Vec<(i64, String)> = (0..16_000).map(|k| (k, noise(k))).collect();
    insert(&db, table, &rows).await.unwrap();
    db.checkpoint(CheckpointReason::Statement).await.unwrap();
    db.close().await.unwrap();
    let files = objects(&path, "parquet");
    let file = files.iter().max_by_key(|file| std::fs::metadata(file).unwrap().len()).unwrap();
    let length = std::fs::metadata(file).unwrap().len() as usize;
    assert!(length > 3 * 65_536, "{length} bytes");
    // More than a checksum can put right.
    let block = length / 2 / 65_536 * 65_536;
    flip(file, block + 100);
    flip(file, block + 200);
    let damaged = std::fs::read(file).unwrap();

    let db = Database::open(Root::Path(path.clone()), small).await.unwrap();
    let all: Rows = rows.into_iter().collect();
    let planned = repair(&db, true).await;
    assert_eq!(planned[0].action, "salvage", "{planned:?}");
    let done = repair(&db, false).await;
    assert_eq!((done[0].action.as_str(), done[0].status), ("salvage", RepairStatus::Done), "{done:?}");
    assert_eq!(
        done[0].detail.split(';').take(2).collect::<Vec<_>>(),
        planned[0].detail.split(';').take(2).collect::<Vec<_>>(),
        "a dry run foretells it"
    );
    let left = contents(&db.snapshot().table(table).unwrap()).await.unwrap();
    let found = lost_and_found(&db).await;
    assert!(!found.is_empty() && found.len() + left.len() < all.len(), "{} and {}", found.len(), left.len());
    for (key, value) in found.iter().chain(&left) {
        assert_eq!(all.get(key), Some(value));
    }
    let lost = all.len() - found.len() - left.len();
    assert!(done[0].detail.contains(&format!("{lost} rows of")), "{}", done[0].detail);
    let name = file.strip_prefix(&path).unwrap();
    assert_eq!(std::fs::read(path.join(LOST_AND_FOUND).join(name)).unwrap(), damaged, "its bytes are kept");
    tests_sound(&db).await;
    db.close().await.unwrap();
    let db = open(&path).await;
    assert_eq!(contents(&db.snapshot().table(table).unwrap()).await.unwrap(), left);
    assert_eq!(lost_and_found(&db).await, found);
}

#[tokio::test]
async fn a_wrong_byte_of_a_segment_is_put_right() {
    let dir = scratch().unwrap();
    let db = open(dir.path()).await;
    let table = create(&db, "t", true).await.unwrap();
    insert(&db, table, &some(0..200)).await.unwrap();
    db.checkpoint(CheckpointReason::Statement).await.unwrap();
    let expected: Rows = some(0..200).into_iter().collect();
    let file = objects(dir.path(), "parquet").pop().unwrap();
    let right = std::fs::read(&file).unwrap();
    // Of a page, of the footer, of what says how long that is.
    for at in [10, right.len() - 20, right.len() - 7] {
        flip(&file, at);
        let before = everything(dir.path());
        let planned = repair(&db, true).await;
        assert_eq!(statuses(&planned), [("mend", RepairStatus::Planned)], "byte {at}: {planned:?}");
        assert_eq!(everything(dir.path()), before, "a dry run writes nothing");
        let done = repair(&db, false).await;
        assert_eq!(statuses(&done), [("mend", RepairStatus::Done)], "byte {at}: {done:?}");
        assert!(
            done[0].detail.contains("no row is lost") && done[0].hint.contains(LOST_AND_FOUND),
            "{done:?}"
        );
        assert!(std::fs::read(&file).unwrap() == right, "byte {at}");
        tests_sound(&db).await;
        assert_eq!(contents(&db.snapshot().table(table).unwrap()).await.unwrap(), expected);
    }
    // What is damaged beside it is looked at then.
    flip(&file, 10);
    std::fs::write(objects(dir.path(), "keys").pop().unwrap(), b"not a filter").unwrap();
    let done = repair(&db, false).await;
    assert_eq!(statuses(&done)[..2], [("mend", RepairStatus::Done), ("write anew", RepairStatus::Done)]);
    tests_sound(&db).await;
    db.close().await.unwrap();
    let db = open(dir.path()).await;
    assert_eq!(contents(&db.snapshot().table(table).unwrap()).await.unwrap(), expected);
    assert!(db.snapshot().catalog().tables(LOST_AND_FOUND).next().is_none());
}

#[tokio::test]
async fn a_key_filter_is_made_again_and_no_row_moves() {
    let dir = scratch().unwrap();
    let db = open(dir.path()).await;
    let table = create(&db, "t", true).await.unwrap();
    insert(&db, table, &some(0..100)).await.unwrap();
    db.checkpoint(CheckpointReason::Statement).await.unwrap();
    change(&db, table, &[7], &[]).await.unwrap();
    let expected = contents(&db.snapshot().table(table).unwrap()).await.unwrap();
    let ids = tests::ids_of(&db.snapshot().table(table).unwrap(), &[3, 99]).await.unwrap();
    for removed in [false, true] {
        let filter = objects(dir.path(), "keys").pop().unwrap();
        match removed {
            true => std::fs::remove_file(&filter).unwrap(),
            false => std::fs::write(&filter, b"not a filter").unwrap(),
        }
        assert_eq!(repair(&db, true).await[0].action, "write anew");
        let done = repair(&db, false).await;
        assert_eq!(done[0].status, RepairStatus::Done, "{done:?}");
        assert!(done[0].detail.contains("none is lost"));
        tests_sound(&db).await;
        let now = db.snapshot().table(table).unwrap();
        assert_eq!(contents(&now).await.unwrap(), expected);
        assert_eq!(tests::ids_of(&now, &[3, 99]).await.unwrap(), ids);
        assert!(db.snapshot().catalog().tables(LOST_AND_FOUND).next().is_none());
    }
}

#[tokio::test]
async fn without_its_deletes_a_segment_goes_aside_and_its_table_answers_again() {
    let dir = scratch().unwrap();
    let db = open(dir.path()).await;
    let table = create(&db, "t", true).await.unwrap();
    insert(&db, table, &some(0..100)).await.unwrap();
    db.checkpoint(CheckpointReason::Statement).await.unwrap();
    insert(&db, table, &some(100..150)).await.unwrap();
    db.checkpoint(CheckpointReason::Statement).await.unwrap();
    let gone: Vec<i64> = (0..50).collect();
    change(&db, table, &gone, &[]).await.unwrap();
    db.checkpoint(CheckpointReason::Statement).await.unwrap();
    db.close().await.unwrap();
    for deletes in objects(dir.path(), "deletes") {
        std::fs::remove_file(deletes).unwrap();
    }
    let db = open(dir.path()).await;
    contents(&db.snapshot().table(table).unwrap()).await.unwrap_err();
    let done = repair(&db, false).await;
    assert_eq!((done[0].action.as_str(), done[0].status), ("salvage", RepairStatus::Done), "{done:?}");
    assert!(done[0].detail.contains("may be deleted ones"), "{}", done[0].detail);
    let expected: Rows = some(100..150).into_iter().collect();
    assert_eq!(contents(&db.snapshot().table(table).unwrap()).await.unwrap(), expected);
    assert_eq!(lost_and_found(&db).await, some(0..100).into_iter().collect::<Rows>());
    // The count that the log says holds wherever it is replayed.
    drop(db);
    let db = open(dir.path()).await;
    assert_eq!(contents(&db.snapshot().table(table).unwrap()).await.unwrap(), expected);
    tests_sound(&db).await;
}

#[tokio::test]
async fn manifest_and_log_are_written_anew_while_it_is_open() {
    let dir = scratch().unwrap();
    let db = open(dir.path()).await;
    let table = create(&db, "t", true).await.unwrap();
    insert(&db, table, &some(0..100)).await.unwrap();
    db.checkpoint(CheckpointReason::Statement).await.unwrap();
    let newest = db.snapshot().state().manifest;
    let manifest = dir.path().join(manifest_path(newest));
    let right = std::fs::read(&manifest).unwrap();
    flip(&manifest, 60);
    assert_eq!(repair(&db, true).await[0].action, "checkpoint");
    let done = repair(&db, false).await;
    assert_eq!(done[0].status, RepairStatus::Done, "{done:?}");
    assert_eq!(db.snapshot().state().manifest, newest.next());
    tests_sound(&db).await;
    assert_eq!(std::fs::read(&manifest).unwrap(), right, "it says again what it said");
    assert!(dir.path().join(LOST_AND_FOUND).join(manifest_path(newest)).exists());
    insert(&db, table, &some(100..120)).await.unwrap();
    db.close().await.unwrap();
    let db = open(dir.path()).await;
    assert_eq!(contents(&db.snapshot().table(table).unwrap()).await.unwrap().len(), 120);
}

#[tokio::test]
async fn an_older_manifest_that_is_damaged_or_gone_leaves_a_mark() {
    let dir = scratch().unwrap();
    let db = open(dir.path()).await;
    let table = create(&db, "t", true).await.unwrap();
    for round in 0..5_i64 {
        insert(&db, table, &some(round * 10..round * 10 + 10)).await.unwrap();
        db.checkpoint(CheckpointReason::Statement).await.unwrap();
    }
    let path = |number| dir.path().join(manifest_path(ManifestNumber(number)));
    flip(&path(3), 60);
    std::fs::remove_file(path(2)).unwrap();
    let before = everything(dir.path());
    let planned = repair(&db, true).await;
    assert_eq!(statuses(&planned), [("mark", RepairStatus::Planned); 2], "{planned:?}");
    assert_eq!(everything(dir.path()), before, "a dry run writes nothing");
    let done = repair(&db, false).await;
    assert_eq!(statuses(&done), [("mark", RepairStatus::Done); 2], "{done:?}");
    tests_sound(&db).await;
    assert!(repair(&db, true).await.iter().all(|row| row.action == "collect"));
    db.close().await.unwrap();
    drop(db);

    // Where one is missing before newer ones, counting ends there.
    std::fs::remove_file(path(2)).unwrap();
    let root = Root::Path(dir.path().to_owned());
    let done = repair_offline(&root, &options(), OfflineRepair::default()).await.unwrap();
    assert_eq!(statuses(&done), [("mark", RepairStatus::Done)], "{done:?}");
    let db = open(dir.path()).await;
    assert_eq!(contents(&db.snapshot().table(table).unwrap()).await.unwrap().len(), 50);
    tests_sound(&db).await;
    db.close().await.unwrap();
    drop(db);

    // One that says that it was put aside is no manifest to fall back to.
    for number in (4..).take_while(|number| path(*number).exists()) {
        flip(&path(number), 60);
    }
    let refused = repair_offline(&root, &options(), OfflineRepair::default()).await.unwrap();
    assert!(refused.iter().any(|row| row.object == manifest_path(ManifestNumber(3))), "{refused:?}");
}

#[tokio::test]
async fn what_an_earlier_repair_has_put_aside_stays() {
    let dir = scratch().unwrap();
    let db = open(dir.path()).await;
    let table = create(&db, "t", true).await.unwrap();
    for round in 0..4_i64 {
        insert(&db, table, &some(round * 10..round * 10 + 10)).await.unwrap();
        db.checkpoint(CheckpointReason::Statement).await.unwrap();
    }
    let path = manifest_path(ManifestNumber(2));
    let stands = dir.path().join(&path);
    let aside = |name: &str| std::fs::read(dir.path().join(LOST_AND_FOUND).join(name));
    let mut damaged = Vec::new();
    // First a manifest, then the mark that stands in its place.
    for at in [60, 8] {
        flip(&stands, at);
        damaged.push(std::fs::read(&stands).unwrap());
        let done = repair(&db, false).await;
        assert_eq!(statuses(&done), [("mark", RepairStatus::Done)], "{done:?}");
        assert!(done[0].hint.contains(LOST_AND_FOUND), "{done:?}");
    }
    let second = format!("{path}.2");
    assert!(aside(&path).unwrap() == damaged[0] && aside(&second).unwrap() == damaged[1]);
    // Nothing is kept twice.
    std::fs::write(&stands, &damaged[1]).unwrap();
    let done = repair(&db, false).await;
    assert!(done[0].hint.ends_with(&second), "{done:?}");
    assert!(aside(&format!("{path}.3")).is_err());
}

#[tokio::test]
async fn ids_of_commits_that_are_lost_are_unknown_only_when_a_repair_gives_them_up() {
    let dir = scratch().unwrap();
    let db = open(dir.path()).await;
    let table = create(&db, "t", true).await.unwrap();
    let (mut ids, mut paths) = (Vec::new(), Vec::new());
    for round in 0..4_i64 {
        insert(&db, table, &some(round * 10..round * 10 + 10)).await.unwrap();
        ids.push(db.versions().last().unwrap().commit_id);
        db.checkpoint(CheckpointReason::Statement).await.unwrap();
        paths.push(history_path(db.snapshot().state().manifest));
    }
    let never = CommitId::random();
    let reader = OpenOptions { read_only: true, create: false, ..options() };
    let reader = Database::open(Root::Path(dir.path().to_owned()), reader).await.unwrap();
    for db in [&db, &reader] {
        assert_eq!(db.commit_version(never).await.unwrap(), None);
    }
    std::fs::remove_file(dir.path().join(&paths[1])).unwrap();
    for (n, id) in ids.iter().enumerate() {
        for found in [db.commit_version(*id).await, reader.commit_version(*id).await] {
            match n {
                1 => assert!(found.unwrap_err().message().starts_with(&paths[1])),
                _ => assert!(found.unwrap().is_some()),
            }
        }
    }
    flip(&dir.path().join(&paths[2]), 30);
    for id in [ids[1], ids[2], never] {
        for found in
            [db.commit_version(id).await, db.earlier_commit(id).await, reader.commit_version(id).await]
        {
            assert_eq!(found.unwrap_err().kind(), ErrorKind::Corrupt);
        }
    }

    let before = everything(dir.path());
    let planned = repair(&db, true).await;
    assert_eq!(statuses(&planned), [("give up", RepairStatus::Planned); 2], "{planned:?}");
    assert_eq!(everything(dir.path()), before, "a dry run writes nothing");
    let done = repair(&db, false).await;
    assert_eq!(statuses(&done), [("give up", RepairStatus::Done); 2], "{done:?}");
    assert!(done.iter().all(|row| row.detail.contains("are lost")), "{done:?}");
    assert!(dir.path().join(LOST_AND_FOUND).join(&paths[2]).exists());
    tests_sound(&db).await;
    for db in [&db, &reader] {
        for (n, id) in ids.iter().enumerate() {
            assert_eq!(db.commit_version(*id).await.unwrap().is_some(), n == 0 || n == 3, "{n}");
        }
    }
    assert_eq!(db.earlier_commit(never).await.unwrap(), None);
}

#[tokio::test]
async fn a_mark_goes_with_the_manifests_around_it() {
    let dir = scratch().unwrap();
    // Files are of the machine's time: the clock is a day behind it first.
    let ahead_us = Arc::new(AtomicI64::new(-25 * 3_600_000_000));
    let opened = async || {
        let ahead_us = Arc::clone(&ahead_us);
        let clock = Clock::new(move || now_us() + ahead_us.load(Ordering::Relaxed));
        Database::open(Root::Path(dir.path().to_owned()), OpenOptions { clock, ..options() }).await.unwrap()
    };
    let write = async |db: &Arc<Database>, table, keys: std::ops::Range<i64>| {
        for key in keys {
            insert(db, table, &some(key..key + 1)).await.unwrap();
            db.checkpoint(CheckpointReason::Statement).await.unwrap();
        }
    };
    let path = |number| dir.path().join(manifest_path(ManifestNumber(number)));
    let db = opened().await;
    let table = create(&db, "t", true).await.unwrap();
    write(&db, table, 0..3).await;
    db.close().await.unwrap();
    drop(db);
    // It is missing when the process that repairs it looks for the oldest.
    std::fs::remove_file(path(1)).unwrap();
    let db = opened().await;
    write(&db, table, 3..4).await;
    let done = repair(&db, false).await;
    assert_eq!((done[0].action.as_str(), done[0].status), ("mark", RepairStatus::Done), "{done:?}");
    ahead_us.store(0, Ordering::Relaxed);
    write(&db, table, 4..36).await;
    let there: Vec<u64> = (1..=37).filter(|number| path(*number).exists()).collect();
    let newest = db.snapshot().state().manifest.0;
    // And the one before them, since commits of its successor can be asked for by their ids.
    assert_eq!(there, (newest - 32..=newest).collect::<Vec<_>>());
    assert!(db.swept.has_removed(ManifestNumber(1)) && !db.swept.has_removed(ManifestNumber(newest - 32)));
    tests_sound(&db).await;
    db.close().await.unwrap();
    drop(db);
    // One that stood alone before the others would be taken for the newest.
    let db = opened().await;
    assert_eq!(contents(&db.snapshot().table(table).unwrap()).await.unwrap().len(), 36);
}

/// A directory whose newest manifest stands beside a log that was not shortened yet, as a crash leaves it.
async fn with_two_manifests(root: &FilePath) -> (TableId, Rows) {
    let db = open(root).await;
    let table = create(&db, "t", true).await.unwrap();
    insert(&db, table, &some(0..50)).await.unwrap();
    db.checkpoint(CheckpointReason::Statement).await.unwrap();
    insert(&db, table, &some(50..80)).await.unwrap();
    // A second name keeps what the checkpoint seals and removes.
    let kept = root.join("kept");
    std::fs::create_dir(&kept).unwrap();
    let log: Vec<_> = everything(root).into_keys().filter(|name| name.starts_with("wal/0")).collect();
    for name in &log {
        std::fs::hard_link(root.join(name), kept.join(name.replace('/', "-"))).unwrap();
    }
    db.checkpoint(CheckpointReason::Statement).await.unwrap();
    insert(&db, table, &some(80..90)).await.unwrap();
    let expected = contents(&db.snapshot().table(table).unwrap()).await.unwrap();
    drop(db);
    let mut brought_back = 0;
    for name in &log {
        let kept = kept.join(name.replace('/', "-"));
        if root.join(name).exists() {
            std::fs::remove_file(kept).unwrap();
        } else {
            std::fs::rename(kept, root.join(name)).unwrap();
            brought_back += 1;
        }
    }
    assert!(brought_back > 0);
    std::fs::remove_dir(kept).unwrap();
    (table, expected)
}

#[tokio::test]
async fn without_its_newest_manifest_it_falls_back_to_the_one_before() {
    let dir = scratch().unwrap();
    let (table, expected) = with_two_manifests(dir.path()).await;
    let newest = dir.path().join(manifest_path(crate::id::ManifestNumber(2)));
    flip(&newest, 60);
    let damaged = std::fs::read(&newest).unwrap();
    let root = Root::Path(dir.path().to_owned());
    Database::open(root.clone(), options()).await.unwrap_err();
    let before = everything(dir.path());
    let dry = OfflineRepair { dry_run: true, accept_loss: false };
    let planned = repair_offline(&root, &options(), dry).await.unwrap();
    assert_eq!(everything(dir.path()), before, "a dry run writes nothing");
    assert_eq!(planned[0].action, "fall back", "{planned:?}");
    assert!(planned[0].detail.contains("the log has every commit since"), "{planned:?}");
    let asked = OfflineRepair::default();
    let done = repair_offline(&root, &options(), asked).await.unwrap();
    assert!(done.iter().all(|row| row.status == RepairStatus::Done), "{done:?}");
    let aside = dir.path().join(LOST_AND_FOUND).join(manifest_path(crate::id::ManifestNumber(2)));
    assert_eq!(std::fs::read(aside).unwrap(), damaged);
    let db = open(dir.path()).await;
    let found = contents(&db.snapshot().table(table).unwrap()).await.unwrap();
    assert_eq!(found, expected);
    insert(&db, table, &some(1_000..1_001)).await.unwrap();
    tests_sound(&db).await;
}

#[tokio::test]
async fn where_the_log_does_not_reach_the_older_manifest_is_taken_only_when_the_loss_is_accepted() {
    let dir = scratch().unwrap();
    let db = open(dir.path()).await;
    let table = create(&db, "t", true).await.unwrap();
    for round in 0..3_i64 {
        insert(&db, table, &some(round * 10..round * 10 + 10)).await.unwrap();
        db.checkpoint(CheckpointReason::Statement).await.unwrap();
    }
    insert(&db, table, &some(30..35)).await.unwrap();
    let epochs = db.snapshot().state().tables[&table].segments.iter().map(|s| s.meta.id.epoch).max().unwrap();
    drop(db);
    let root = Root::Path(dir.path().to_owned());
    flip(&dir.path().join(manifest_path(crate::id::ManifestNumber(3))), 60);
    let refused = repair_offline(&root, &options(), OfflineRepair::default()).await.unwrap();
    assert_eq!(statuses(&refused), [("fall back", RepairStatus::Left), ("cut", RepairStatus::Left)]);
    // 1 made the table; 2 and 3 are in the older manifest.
    assert!(refused[1].detail.contains("versions 4 to 5"), "{}", refused[1].detail);
    Database::open(root.clone(), options()).await.unwrap_err();
    let asked = OfflineRepair { dry_run: false, accept_loss: true };
    let done = repair_offline(&root, &options(), asked).await.unwrap();
    assert!(done.iter().all(|row| row.status == RepairStatus::Done), "{done:?}");
    let db = open(dir.path()).await;
    assert_eq!(contents(&db.snapshot().table(table).unwrap()).await.unwrap().len(), 20);
    insert(&db, table, &some(50..51)).await.unwrap();
    db.checkpoint(CheckpointReason::Statement).await.unwrap();
    let newest = db.snapshot().state().tables[&table].segments.iter().map(|s| s.meta.id.epoch).max().unwrap();
    assert!(newest > epochs, "no id is given twice");
    tests_sound(&db).await;
    // The rows of the lost commits, as far as they were in a segment, are there for who looks.
    let fs = crate::fs::OsFileSystem::new(dir.path().to_owned());
    let aside = fs.list(&format!("{LOST_AND_FOUND}/table")).unwrap();
    assert!(aside.iter().any(|(name, _)| name.ends_with(".parquet")), "{aside:?}");
}

#[tokio::test]
async fn a_damaged_identity_is_read_from_the_manifest_or_the_log() {
    for checkpoint in [true, false] {
        let dir = scratch().unwrap();
        let db = open(dir.path()).await;
        let id = db.id();
        let table = create(&db, "t", true).await.unwrap();
        insert(&db, table, &some(0..50)).await.unwrap();
        if checkpoint {
            db.checkpoint(CheckpointReason::Statement).await.unwrap();
        }
        db.close().await.unwrap();
        drop(db);
        let root = Root::Path(dir.path().to_owned());
        for damage in 0..3 {
            let identity = dir.path().join(IDENTITY_PATH);
            match damage {
                0 => flip(&identity, 20),
                1 => std::fs::write(&identity, b"").unwrap(),
                _ => std::fs::remove_file(&identity).unwrap(),
            }
            let done = repair_offline(&root, &options(), OfflineRepair::default()).await.unwrap();
            assert_eq!(statuses(&done), [("write anew", RepairStatus::Done)]);
            let db = open(dir.path()).await;
            assert_eq!(db.id(), id);
            assert_eq!(contents(&db.snapshot().table(table).unwrap()).await.unwrap().len(), 50);
            db.close().await.unwrap();
        }
    }
}

#[tokio::test]
async fn a_bucket_and_what_is_no_database_are_told_so() {
    let asked = OfflineRepair::default();
    let bucket = Root::parse("s3://bucket/db").unwrap();
    let error = repair_offline(&bucket, &options(), asked).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unsupported);
    assert!(error.hint().unwrap().contains("VERIFY REPAIR"));
    let dir = scratch().unwrap();
    let root = Root::Path(dir.path().to_owned());
    assert_eq!(repair_offline(&root, &options(), asked).await.unwrap_err().kind(), ErrorKind::NotFound);
    let db = open(dir.path()).await;
    let error = repair_offline(&root, &options(), asked).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unavailable, "somebody has it open");
    db.close().await.unwrap();
}

fn on(fs: &SimFileSystem) -> OpenOptions {
    OpenOptions { fs: Some(Arc::new(fs.clone()) as Arc<dyn FileSystem>), ..options() }
}

fn sim_root() -> Root {
    Root::Path(PathBuf::from("simulated"))
}

/// Commits of one row each, of which the log holds all; the file is damaged where the entry of `lost` stands.
async fn damaged_log(fs: &SimFileSystem, lost: &str) -> TableId {
    let db = Database::open(sim_root(), on(fs)).await.unwrap();
    let table = create(&db, "t", true).await.unwrap();
    for key in 0..8 {
        insert(&db, table, &[(key, format!("payload-{key}"))]).await.unwrap();
    }
    drop(db);
    let (name, bytes) = file_with(fs, lost.as_bytes());
    let at = bytes.windows(lost.len()).position(|window| window == lost.as_bytes()).unwrap();
    let file = fs.open(&name, OpenMode::Write).unwrap();
    file.write_at(b"X", at as u64).unwrap();
    file.sync().unwrap();
    table
}

fn file_with(fs: &SimFileSystem, text: &[u8]) -> (String, Vec<u8>) {
    let listed = fs.list("wal").unwrap();
    let read = |name: &String| {
        let file = fs.open(name, OpenMode::Read).unwrap();
        let mut bytes = vec![0; file.len().unwrap() as usize];
        file.read_at(&mut bytes, 0).unwrap();
        bytes
    };
    let found = listed.into_iter().map(|(name, _)| (read(&name), name));
    let (bytes, name) =
        found.into_iter().find(|(bytes, _)| bytes.windows(text.len()).any(|w| w == text)).unwrap();
    (name, bytes)
}

async fn keys(fs: &SimFileSystem, table: TableId) -> Vec<i64> {
    let db = Database::open(sim_root(), on(fs)).await.unwrap();
    let keys = contents(&db.snapshot().table(table).unwrap()).await.unwrap().into_keys().collect();
    drop(db);
    keys
}

#[tokio::test]
async fn a_log_damaged_in_the_middle_opens_only_when_the_loss_is_accepted() {
    let fs = SimFileSystem::new(1);
    let table = damaged_log(&fs, "payload-5").await;
    let error = Database::open(sim_root(), on(&fs)).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Corrupt);
    let steps = fs.steps();
    let dry = OfflineRepair { dry_run: true, accept_loss: true };
    let planned = repair_offline(&sim_root(), &on(&fs), dry).await.unwrap();
    assert_eq!(statuses(&planned), [("cut", RepairStatus::Planned)]);
    assert_eq!(fs.steps(), steps, "a dry run changes nothing");
    // 1 made the table, 2 to 9 the rows.
    assert!(planned[0].detail.contains("versions 7 to 9"), "{}", planned[0].detail);
    let refused = repair_offline(&sim_root(), &on(&fs), OfflineRepair::default()).await.unwrap();
    assert_eq!(statuses(&refused), [("cut", RepairStatus::Left)]);
    Database::open(sim_root(), on(&fs)).await.unwrap_err();
    let asked = OfflineRepair { dry_run: false, accept_loss: true };
    let done = repair_offline(&sim_root(), &on(&fs), asked).await.unwrap();
    assert_eq!(statuses(&done), [("cut", RepairStatus::Done)], "{done:?}");
    assert_eq!(keys(&fs, table).await, [0, 1, 2, 3, 4]);
    assert!(!fs.list(&format!("{LOST_AND_FOUND}/wal")).unwrap().is_empty());
    let db = Database::open(sim_root(), on(&fs)).await.unwrap();
    insert(&db, table, &[(5, "again".to_owned())]).await.unwrap();
    db.checkpoint(CheckpointReason::Statement).await.unwrap();
    drop(db);
    assert_eq!(keys(&fs, table).await, [0, 1, 2, 3, 4, 5]);
}

#[tokio::test]
async fn a_crash_in_the_middle_of_cutting_a_log_is_repaired_by_repeating_it() {
    let mut crashed = 0;
    for step in 1.. {
        let seed = 100 + step;
        let fs = SimFileSystem::new(seed);
        let table = damaged_log(&fs, "payload-5").await;
        // The process that damaged it has ended long ago.
        let fs = fs.crash(seed);
        fs.crash_at_step(fs.steps() + step);
        let asked = OfflineRepair { dry_run: false, accept_loss: true };
        let result = repair_offline(&sim_root(), &on(&fs), asked).await;
        if !fs.is_dead() {
            assert!(result.is_ok(), "{result:?}");
            break;
        }
        crashed += 1;
        let fs = fs.crash(seed + 1);
        // Either it opens as repaired, or it refuses and is repaired now: never something else.
        if let Ok(db) = Database::open(sim_root(), on(&fs)).await {
            drop(db);
        } else {
            let done = repair_offline(&sim_root(), &on(&fs), asked).await.unwrap();
            assert!(done.iter().all(|row| row.status == RepairStatus::Done), "step {step}: {done:?}");
        }
        assert_eq!(keys(&fs, table).await, [0, 1, 2, 3, 4], "step {step}");
    }
    assert!(crashed > 5, "{crashed} steps");
}

#[tokio::test]
async fn a_crash_in_the_middle_of_a_salvage_leaves_all_or_nothing_of_it() {
    let mut crashed = 0;
    for step in 1.. {
        let seed = 500 + step;
        let fs = SimFileSystem::new(seed);
        let db = Database::open(sim_root(), on(&fs)).await.unwrap();
        let table = create(&db, "t", true).await.unwrap();
        insert(&db, table, &some(0..20)).await.unwrap();
        db.checkpoint(CheckpointReason::Statement).await.unwrap();
        insert(&db, table, &some(20..30)).await.unwrap();
        db.checkpoint(CheckpointReason::Statement).await.unwrap();
        let segment = db.snapshot().state().tables[&table].segments[0].meta.path();
        fs.remove_file(&segment).unwrap();
        fs.sync_dir(crate::fs::parent(&segment)).unwrap();
        fs.crash_at_step(fs.steps() + step);
        let rows = db.repair(VerifyScope::Database, false, CommitInfo::default()).await;
        drop(db);
        let whole = !fs.is_dead();
        if whole {
            assert_eq!(rows.unwrap()[0].status, RepairStatus::Done);
        } else {
            crashed += 1;
        }
        let fs = fs.crash(seed + 1);
        let db = Database::open(sim_root(), on(&fs)).await.unwrap();
        repair(&db, false).await;
        let expected: Rows = some(20..30).into_iter().collect();
        assert_eq!(contents(&db.snapshot().table(table).unwrap()).await.unwrap(), expected, "step {step}");
        tests_sound(&db).await;
        if whole {
            break;
        }
    }
    assert!(crashed > 5, "{crashed} steps");
}
