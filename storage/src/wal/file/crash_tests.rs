//! Random histories against power loss, kills, faults and full disks: acknowledged commits stay, in order, unchanged.
#![allow(clippy::unwrap_used)]

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures::executor::block_on;
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use uuid::Uuid;

use super::*;
use crate::error::ErrorKind;
use crate::fs::{Fault, SimFileSystem};
use crate::id::{CommitVersion, DatabaseId};
use crate::wal::{AppendError, Group, Recovery, SyncMode, Wal};

const ID: DatabaseId = DatabaseId(Uuid::from_u128(42));

/// What the log must and may hold.
struct Model {
    /// Payload of version i + 1.
    written: Vec<Bytes>,
    /// Versions up to here must survive power loss.
    durable: u64,
    /// Recovery begins here (as the manifest would say) ...
    from: WalNumber,
    /// ... with this version.
    first: u64,
}

impl Model {
    fn new() -> Self {
        Self { written: Vec::new(), durable: 0, from: WalNumber(1), first: 1 }
    }

    fn next(&self) -> CommitVersion {
        CommitVersion(self.written.len() as u64 + 1)
    }

    fn group(&mut self, rng: &mut StdRng) -> Group {
        let first = self.next();
        let count = rng.random_range(1..=4);
        let entries: Vec<Bytes> = (0..count)
            .map(|_| {
                let length =
                    if rng.random_bool(0.1) { rng.random_range(0..4000) } else { rng.random_range(0..300) };
                noise(rng.random(), length)
            })
            .collect();
        self.written.extend(entries.iter().cloned());
        Group { first, entries }
    }

    /// Checks what recovery found, and takes it for the truth from now on.
    fn check(&mut self, found: &Recovery, case: &str) {
        let last = self.first - 1 + found.entries.len() as u64;
        assert!(
            last >= self.durable,
            "{case}: version {} was acknowledged, {last} is the last",
            self.durable
        );
        assert!(last <= self.written.len() as u64, "{case}: a version that was never written");
        for (version, entry) in (self.first..).zip(&found.entries) {
            assert_eq!(entry.payload, self.written[version as usize - 1], "{case}: version {version}");
        }
        self.written.truncate(last as usize);
    }
}

fn noise(seed: u64, length: usize) -> Bytes {
    (0..length as u64).map(|i| (seed ^ i).wrapping_mul(0x9e37_79b9_7f4a_7c15).to_be_bytes()[0]).collect()
}

fn options(mode: SyncMode) -> FileWalOptions {
    FileWalOptions { first_bytes: 2048, step_bytes: 4096, ..FileWalOptions::new(ID, mode) }
}

fn open(fs: &SimFileSystem, model: &mut Model, mode: SyncMode, case: &str) -> Result<FileWal> {
    let found = match FileWalReader::recover(fs, model.from, ID) {
        Err(e) if e.kind() == ErrorKind::Corrupt => panic!("{case}: {e} ({:?})", e.detail()),
        found => found?,
    };
    model.check(&found, case);
    let wal =
        FileWal::create(Arc::new(fs.clone()), options(mode), found.next, model.next(), found.predecessor)?;
    // What was recovered has been shown to users: it must never go again.
    model.durable = model.written.len() as u64;
    Ok(wal)
}

/// Random calls until one fails or `calls` are done.
fn work(wal: &FileWal, model: &mut Model, mode: SyncMode, rng: &mut StdRng, calls: usize) -> Result<()> {
    for _ in 0..calls {
        match rng.random_range(0..20) {
            0 => {
                let next = model.next();
                let number = block_on(wal.rotate(next))?;
                model.durable = next.0 - 1;
                if rng.random() {
                    // A manifest is durable now.
                    (model.from, model.first) = (number, next.0);
                    block_on(wal.truncate(number))?;
                }
            }
            1 => {
                block_on(wal.sync())?;
                model.durable = model.written.len() as u64;
            }
            _ => {
                let before = model.written.len();
                match block_on(wal.append(model.group(rng))) {
                    Ok(()) if mode == SyncMode::Full => model.durable = model.written.len() as u64,
                    Ok(()) => {}
                    Err(AppendError::Clean(_)) => model.written.truncate(before),
                    Err(AppendError::Unknown(e)) => return Err(e),
                }
            }
        }
        assert!(wal.status().durable.0 >= model.durable);
    }
    Ok(())
}

fn mode(rng: &mut StdRng) -> SyncMode {
    match rng.random_range(0..6) {
        0 => SyncMode::Off,
        1 => SyncMode::Interval(Duration::from_secs(3600)),
        2 => SyncMode::Interval(Duration::ZERO),
        _ => SyncMode::Full,
    }
}

/// Histories with a seed each, whose calls end somewhere four times.
fn power_loss_and_kills(seeds: impl Iterator<Item = u64>) {
    for seed in seeds {
        let mut rng = StdRng::seed_from_u64(seed);
        let (mut model, mut fs) = (Model::new(), SimFileSystem::new(seed));
        for round in 0..4 {
            let mode = mode(&mut rng);
            let case = format!("seed {seed}, round {round}, {mode:?}");
            fs.crash_at_step(fs.steps() + rng.random_range(1..80));
            if let Ok(wal) = open(&fs, &mut model, mode, &case)
                && work(&wal, &mut model, mode, &mut rng, 40).is_ok()
                && rng.random()
                && block_on(wal.close()).is_ok()
            {
                model.durable = model.written.len() as u64;
            }
            fs = if rng.random_bool(0.3) { fs.restart(rng.random()) } else { fs.crash(rng.random()) };
        }
        let case = format!("seed {seed}, at the end");
        open(&fs, &mut model, SyncMode::Full, &case).unwrap();
    }
}

#[test]
fn power_loss_and_kills_lose_nothing_acknowledged() {
    // The longest of these tests, and the last to begin: no core is to wait for it.
    std::thread::scope(|scope| {
        scope.spawn(|| power_loss_and_kills((0..2000).step_by(2)));
        power_loss_and_kills((1..2000).step_by(2));
    });
}

#[test]
fn a_failure_at_any_step_is_clean_or_final_and_no_sync_is_tried_again() {
    for seed in 0..100 {
        for step in 1.. {
            let mut rng = StdRng::seed_from_u64(seed);
            let (mut model, fs) = (Model::new(), SimFileSystem::new(seed));
            let mode = mode(&mut rng);
            let case = format!("seed {seed}, step {step}, {mode:?}");
            fs.inject(Fault::Step(step));
            if let Ok(wal) = open(&fs, &mut model, mode, &case)
                && work(&wal, &mut model, mode, &mut rng, 25).is_err()
                && block_on(wal.sync()).is_err()
            {
                let group = Group { first: model.next(), entries: vec![Bytes::new()] };
                assert!(matches!(block_on(wal.append(group)), Err(AppendError::Unknown(_))), "{case}");
                block_on(wal.sync()).unwrap_err();
                block_on(wal.rotate(model.next())).unwrap_err();
                block_on(wal.close()).unwrap_err();
            }
            assert_eq!(fs.retried_syncs(), 0, "{case}");
            let done = fs.steps() < step;
            // First a new process on the same machine, then power loss.
            let next = fs.restart(seed);
            let reopened = open(&next, &mut model, SyncMode::Full, &case);
            drop(reopened.unwrap_or_else(|e| panic!("{case}: {e}")));
            open(&next.crash(seed), &mut model, SyncMode::Full, &case).unwrap();
            if done {
                break;
            }
        }
    }
}

#[test]
fn a_full_disk_fails_commits_cleanly_and_the_log_goes_on() {
    for free in (0..30_000).step_by(97) {
        let mut rng = StdRng::seed_from_u64(free);
        let (mut model, fs) = (Model::new(), SimFileSystem::new(free));
        let case = format!("{free} bytes free");
        let wal = open(&fs, &mut model, SyncMode::Full, &case).unwrap();
        fs.limit_free_bytes(free);
        let (mut refused, mut rotated) = (0, 0);
        for _ in 0..60 {
            let before = model.written.len();
            match block_on(wal.append(model.group(&mut rng))) {
                Ok(()) => model.durable = model.written.len() as u64,
                Err(AppendError::Clean(e)) => {
                    assert_eq!(e.kind(), ErrorKind::ResourceExhausted, "{case}: {e}");
                    model.written.truncate(before);
                    refused += 1;
                }
                Err(AppendError::Unknown(e)) => panic!("{case}: {e}"),
            }
            if rng.random_bool(0.1) {
                match block_on(wal.rotate(model.next())) {
                    Ok(_) => rotated += 1,
                    Err(e) => assert_eq!(e.kind(), ErrorKind::ResourceExhausted, "{case}: {e}"),
                }
            }
        }
        assert!(refused > 0 || rotated > 0 || free > 10_000, "{case}");
        fs.clear_faults();
        block_on(wal.append(model.group(&mut rng))).unwrap();
        model.durable = model.written.len() as u64;
        block_on(wal.close()).unwrap();
        open(&fs.crash(free), &mut model, SyncMode::Full, &case).unwrap();
    }
}

#[test]
fn a_follower_sees_exactly_what_is_durable() {
    for seed in 0..300 {
        let mut rng = StdRng::seed_from_u64(seed);
        let (mut model, fs) = (Model::new(), SimFileSystem::new(seed));
        let mode = mode(&mut rng);
        let case = format!("seed {seed}, {mode:?}");
        let mut wal = open(&fs, &mut model, mode, &case).unwrap();
        let mut follower = FileWalFollower::new(Arc::new(fs.clone()), ID, WalNumber(1));
        let mut seen = 0;
        for round in 0..30 {
            if rng.random_bool(0.1) {
                wal = open(&fs, &mut model, mode, &case).unwrap();
            }
            work(&wal, &mut model, mode, &mut rng, 5).unwrap();
            match follower.poll().unwrap() {
                Followed::Entries(entries) => {
                    for entry in entries {
                        assert_eq!(entry.payload, model.written[seen], "{case}, round {round}");
                        seen += 1;
                    }
                    assert_eq!(seen as u64, wal.status().durable.0, "{case}, round {round}");
                }
                Followed::Gone(number) => {
                    assert!(number < model.from, "{case}");
                    follower = FileWalFollower::new(Arc::new(fs.clone()), ID, model.from);
                    seen = model.first as usize - 1;
                }
            }
        }
    }
}

#[test]
fn sync_modes_sync_as_often_as_they_say() {
    let syncs = |mode: SyncMode| {
        let (mut model, fs) = (Model::new(), SimFileSystem::new(1));
        let wal = open(&fs, &mut model, mode, "").unwrap();
        let mut rng = StdRng::seed_from_u64(1);
        for _ in 0..10 {
            block_on(wal.append(model.group(&mut rng))).unwrap();
        }
        let before = (wal.status().syncs, wal.status().durable);
        block_on(wal.sync()).unwrap();
        assert_eq!(wal.status().durable.next(), model.next());
        before
    };
    assert_eq!(syncs(SyncMode::Full).0, 10);
    assert_eq!(syncs(SyncMode::Off), (0, CommitVersion(0)));
    assert_eq!(syncs(SyncMode::Interval(Duration::from_secs(3600))), (0, CommitVersion(0)));
}

#[test]
fn works_on_the_operating_system() {
    let dir = tempfile::tempdir().unwrap();
    let fs: Arc<dyn FileSystem> = Arc::new(crate::fs::OsFileSystem::new(dir.path().to_owned()));
    let options = FileWalOptions::new(ID, SyncMode::Full);
    let entry = Bytes::from(vec![7; 700_000]);
    let wal = FileWal::create(Arc::clone(&fs), options, WalNumber(1), CommitVersion(1), None).unwrap();
    for version in 1..=10 {
        let group = Group { first: CommitVersion(version), entries: vec![entry.clone()] };
        block_on(wal.append(group)).unwrap();
        if version == 5 {
            assert_eq!(block_on(wal.rotate(CommitVersion(6))).unwrap(), WalNumber(2));
        }
    }
    block_on(wal.close()).unwrap();
    assert!(fs.len(&path(WalNumber(2))).unwrap() < 3_600_000, "sealed files are short");
    let found = FileWalReader::recover(&*fs, WalNumber(1), ID).unwrap();
    assert_eq!((found.entries.len(), found.next, found.torn), (10, WalNumber(3), None));
    assert!(found.entries.iter().all(|e| e.payload == entry));
    assert_eq!(WalTip::read(&*fs).unwrap().unwrap().version, CommitVersion(10));
    FileWal::create(fs, options, WalNumber(2), CommitVersion(11), found.predecessor).unwrap_err();
}
