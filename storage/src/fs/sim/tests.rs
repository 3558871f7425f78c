#![allow(clippy::unwrap_used)]
use std::collections::BTreeSet;

use super::*;

fn file_with(fs: &SimFileSystem, path: &str, bytes: &[u8]) -> Arc<dyn File> {
    let file = fs.open(path, OpenMode::OpenOrCreate).unwrap();
    file.write_at(bytes, 0).unwrap();
    file
}

fn read(fs: &SimFileSystem, path: &str) -> Option<Vec<u8>> {
    let file = fs.open(path, OpenMode::Read).ok()?;
    let mut buf = vec![0; file.len().unwrap() as usize];
    assert_eq!(file.read_at(&mut buf, 0).unwrap(), buf.len());
    Some(buf)
}

#[test]
fn synced_bytes_under_a_synced_name_survive_every_crash() {
    for seed in 0..200 {
        let fs = SimFileSystem::new(seed);
        fs.create_dir_all("d").unwrap();
        file_with(&fs, "d/a", &[7; 1300]).sync().unwrap();
        fs.sync_dir("d").unwrap();
        assert_eq!(read(&fs.crash(seed), "d/a").unwrap(), vec![7; 1300], "seed {seed}");
    }
}

#[test]
fn unsynced_sectors_survive_in_any_subset() {
    let mut seen = BTreeSet::new();
    for seed in 0..400 {
        let fs = SimFileSystem::new(seed);
        let file = file_with(&fs, "a", &[1; 1024]);
        file.sync().unwrap();
        fs.sync_dir("").unwrap();
        file.write_at(&[2; 1024], 0).unwrap();
        let found = read(&fs.crash(seed), "a").unwrap();
        assert_eq!(found.len(), 1024);
        assert!(found[..512].iter().all(|b| *b == found[0]), "a sector is whole");
        seen.insert((found[0], found[512]));
    }
    assert_eq!(seen, BTreeSet::from([(1, 1), (1, 2), (2, 1), (2, 2)]));
}

#[test]
fn preallocated_sectors_are_zeros_until_they_are_written() {
    let mut seen = BTreeSet::new();
    for seed in 0..400 {
        let fs = SimFileSystem::new(seed);
        let file = fs.open("a", OpenMode::CreateNew).unwrap();
        fs.sync_dir("").unwrap();
        file.preallocate(2048).unwrap();
        file.write_at(&[1; 512], 512).unwrap();
        let found = read(&fs.crash(seed), "a").unwrap();
        let others = found.iter().enumerate().filter(|(at, _)| !(512..1024).contains(at));
        assert!(others.map(|(_, byte)| *byte).all(|byte| byte == 0), "seed {seed}");
        seen.insert((found.len(), found.get(512).copied()));
        // What was written stands among zeros once it is synced, and what is cut off and made again is zeros, too.
        file.sync().unwrap();
        file.truncate(512).unwrap();
        file.preallocate(2048).unwrap();
        let found = read(&fs.crash(seed), "a").unwrap();
        seen.insert((10_000 + found.len(), found.get(512).copied()));
        file.sync().unwrap();
        assert_eq!(read(&fs.crash(seed), "a").unwrap(), vec![0; 2048], "seed {seed}");
    }
    for (length, byte) in [(0, None), (2048, Some(0)), (2048, Some(1)), (12_048, Some(0)), (12_048, Some(1))]
    {
        assert!(seen.contains(&(length, byte)), "{length} {byte:?}");
    }
}

#[test]
fn a_name_may_survive_without_its_bytes_and_bytes_without_their_name() {
    let (mut absent, mut empty, mut zeros, mut whole) = (0, 0, 0, 0);
    for seed in 0..400 {
        let fs = SimFileSystem::new(seed);
        file_with(&fs, "a", &[1; 600]);
        match read(&fs.crash(seed), "a") {
            None => absent += 1,
            Some(bytes) if bytes.is_empty() => empty += 1,
            Some(bytes) if bytes == [1; 600] => whole += 1,
            Some(bytes) if bytes.contains(&0) => zeros += 1,
            Some(_) => {}
        }
    }
    assert!(absent > 0 && empty > 0 && zeros > 0 && whole > 0, "{absent} {empty} {zeros} {whole}");
}

#[test]
fn a_rename_is_atomic_and_durable_with_its_directory() {
    let mut seen = BTreeSet::new();
    for seed in 0..200 {
        let fs = SimFileSystem::new(seed);
        file_with(&fs, "old", b"old").sync().unwrap();
        file_with(&fs, "new", b"new").sync().unwrap();
        fs.sync_dir("").unwrap();
        fs.rename("new", "old").unwrap();
        let crashed = fs.crash(seed);
        let found = (read(&crashed, "old").unwrap(), read(&crashed, "new"));
        assert!(found == (b"old".to_vec(), Some(b"new".to_vec())) || found == (b"new".to_vec(), None));
        seen.insert(found);
        fs.sync_dir("").unwrap();
        assert_eq!(read(&fs.crash(seed), "old").unwrap(), b"new");
    }
    assert_eq!(seen.len(), 2);
}

#[test]
fn after_a_failed_sync_the_next_one_promises_nothing() {
    let mut lost = 0;
    for seed in 0..100 {
        let fs = SimFileSystem::new(seed);
        let file = file_with(&fs, "a", &[1; 512]);
        fs.sync_dir("").unwrap();
        fs.inject(Fault::Sync(1));
        file.sync().unwrap_err();
        file.sync().unwrap();
        assert_eq!(fs.retried_syncs(), 1);
        lost += usize::from(read(&fs.crash(seed), "a").unwrap() != [1; 512]);
    }
    assert!(lost > 10, "{lost}");
}

#[test]
fn a_full_disk_writes_what_fits() {
    let fs = SimFileSystem::new(1);
    let file = file_with(&fs, "a", &[1; 100]);
    fs.limit_free_bytes(50);
    file.write_at(&[2; 100], 0).unwrap();
    assert_eq!(file.write_at(&[3; 80], 100).unwrap_err().kind(), io::ErrorKind::StorageFull);
    assert_eq!(file.len().unwrap(), 150);
    fs.remove_file("a").unwrap();
    file_with(&fs, "b", &[1; 150]);
}

#[test]
fn power_loss_at_a_step_stops_everything() {
    let fs = SimFileSystem::new(1);
    let file = file_with(&fs, "a", &[1; 100]);
    fs.crash_at_step(fs.steps() + 2);
    file.sync().unwrap();
    file.write_at(b"x", 0).unwrap_err();
    assert!(fs.is_dead());
    file.read_at(&mut [0], 0).unwrap_err();
    fs.sync_dir("").unwrap_err();
}

#[test]
fn a_restart_keeps_what_was_seen_but_not_durable() {
    let mut lost = 0;
    for seed in 0..50 {
        let fs = SimFileSystem::new(seed);
        let held = file_with(&fs, "a", &[1; 100]);
        assert!(held.try_lock(false).unwrap());
        let next = fs.restart(seed);
        assert!(next.open("a", OpenMode::Read).unwrap().try_lock(false).unwrap());
        assert_eq!(read(&next, "a").unwrap(), [1; 100]);
        lost += usize::from(read(&next.crash(seed), "a").is_none());
    }
    assert!(lost > 5);
}

#[test]
fn every_kind_of_fault_fires_once() {
    let fs = SimFileSystem::new(3);
    for fault in [
        Fault::Create(1),
        Fault::Write(1),
        Fault::Rename(1),
        Fault::HardLink(1),
        Fault::Remove(1),
        Fault::SyncDir(1),
    ] {
        fs.inject(fault);
    }
    fs.open("a", OpenMode::CreateNew).unwrap_err();
    let file = fs.open("a", OpenMode::CreateNew).unwrap();
    file.write_at(b"a", 0).unwrap_err();
    file.write_at(b"a", 0).unwrap();
    fs.hard_link("a", "b").unwrap_err();
    fs.rename("a", "b").unwrap_err();
    fs.rename("a", "b").unwrap();
    fs.remove_file("b").unwrap_err();
    fs.remove_file("b").unwrap();
    fs.sync_dir("").unwrap_err();
    fs.sync_dir("").unwrap();
    fs.inject(Fault::Step(2));
    fs.open("a", OpenMode::CreateNew).unwrap();
    fs.open("b", OpenMode::CreateNew).unwrap_err();
}

#[test]
fn a_recorded_step_has_the_machine_as_it_was_before() {
    let fs = SimFileSystem::new(1);
    fs.record();
    let file = file_with(&fs, ".tmp-1", &[1; 600]);
    file.sync().unwrap();
    fs.rename(".tmp-1", "a").unwrap();
    fs.sync_dir("").unwrap();
    file.write_at(&[2; 600], 0).unwrap();
    let recorded = fs.recorded();
    let told: Vec<(u64, Step, &str)> =
        recorded.iter().map(|step| (step.number, step.step, step.path.as_str())).collect();
    let expected = [
        (1, Step::Create, ".tmp-1"),
        (2, Step::Write, ".tmp-1"),
        (3, Step::Sync, ".tmp-1"),
        (4, Step::Rename, "a"),
        (5, Step::SyncDir, ""),
        (6, Step::Write, "a"),
    ];
    assert_eq!(told, expected);
    assert!(recorded.iter().all(|step| step.file == recorded[0].file || step.step == Step::SyncDir));
    let before = |at: usize| recorded[at - 1].before.restart(0);
    assert_eq!((read(&before(1), ".tmp-1"), read(&before(2), ".tmp-1")), (None, Some(Vec::new())));
    assert_eq!((read(&before(5), "a"), read(&recorded[4].before.synced(0), "a")), (Some(vec![1; 600]), None));
    assert_eq!(read(&before(6), "a"), Some(vec![1; 600]), "what comes later leaves it alone");
    assert_eq!(read(&fs.synced(0), "a"), Some(vec![1; 600]));
    assert!(fs.recorded().is_empty());
}

#[test]
fn a_disk_that_fills_up_takes_nothing_more() {
    let fs = SimFileSystem::new(1);
    let file = file_with(&fs, "a", &[1; 600]);
    fs.fill_at_step(fs.steps() + 2);
    file.write_at(&[2; 600], 600).unwrap();
    assert_eq!(file.write_at(&[3; 600], 1000).unwrap_err().kind(), io::ErrorKind::StorageFull);
    file.sync().unwrap();
    assert_eq!(file.len().unwrap(), 1200);
    fs.clear_faults();
    file.write_at(&[3; 600], 1000).unwrap();
}
