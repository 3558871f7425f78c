//! Random histories on the simulated file system: power loss at any step, failed syncs, full disks.
//!
//! After each end the database is opened again and must hold exactly the acknowledged commits, with or without the one that was
//! under way, and VERIFY must find nothing.

use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

use super::*;
use crate::checkpoint::CheckpointReason;
use crate::error::ErrorKind;
use crate::fs::{Fault, FileSystem, SimFileSystem};
use crate::verify::{FindingStatus, VerifyScope};

struct History {
    seed: u64,
    rng: StdRng,
    fs: SimFileSystem,
    keyed: Option<TableId>,
    model: Rows,
    /// What the model becomes if the operation under way turns out to be durable.
    pending: Option<Rows>,
    next_key: i64,
}

fn options(fs: &SimFileSystem) -> OpenOptions {
    OpenOptions {
        fs: Some(Arc::new(fs.clone()) as Arc<dyn FileSystem>),
        wal_entry_bytes_max: 24 << 10,
        checkpoint_wal_bytes: 40 << 10,
        close_wal_bytes: 4 << 10,
        // As a step of its own, so that a seed tells the same story each time.
        compacts: false,
        compact_segment_bytes: 8 << 10,
        ..OpenOptions::default()
    }
}

impl History {
    fn new(seed: u64) -> Self {
        Self {
            seed,
            rng: StdRng::seed_from_u64(seed),
            fs: SimFileSystem::new(seed),
            keyed: None,
            model: Rows::new(),
            pending: None,
            next_key: 0,
        }
    }

    async fn open(&self) -> Result<Arc<Database>> {
        Database::open(Root::Path("sim".into()), options(&self.fs)).await
    }

    fn new_rows(&mut self, n: i64) -> Vec<(i64, String)> {
        let rows = (self.next_key..self.next_key + n)
            .map(|k| (k, format!("{k} by {}", self.rng.random::<u32>())))
            .collect();
        self.next_key += n;
        rows
    }

    fn some_keys(&mut self, n: usize) -> Vec<i64> {
        let keys: Vec<i64> = self.model.keys().copied().collect();
        if keys.is_empty() {
            return Vec::new();
        }
        let start = self.rng.random_range(0..keys.len());
        keys.into_iter().skip(start).take(n).collect()
    }

    /// One random operation; the model follows when it is acknowledged.
    async fn step(&mut self, db: &Arc<Database>) -> Result<()> {
        let Some(table) = self.keyed else {
            self.keyed = db.snapshot().catalog().table("public", "t").map(|t| t.id);
            if self.keyed.is_none() {
                self.keyed = Some(create(db, "t", true).await?);
            }
            return Ok(());
        };
        let mut next = self.model.clone();
        match self.rng.random_range(0..100) {
            // The columns stay two, under other names and constraints.
            0..4 => {
                let snapshot = db.snapshot();
                let Some(now) = snapshot.table(table) else { return Ok(()) };
                let mut def = TableDef::clone(now.def());
                def.schema_version = def.schema_version.next();
                def.columns[1].name = format!("v{}", self.rng.random::<u32>());
                def.columns[1].nullable = self.rng.random_bool(0.5);
                self.pending = Some(next);
                let tx = db.begin(&snapshot).await?;
                tx.edit(CatalogEdit::PutTable(Arc::new(def)))?;
                tx.commit(CommitOptions::default()).await?;
            }
            4..45 => {
                let n = self.rng.random_range(1..5);
                let rows = self.new_rows(n);
                next.extend(rows.iter().cloned());
                self.pending = Some(next);
                insert(db, table, &rows).await?;
            }
            45..50 => {
                let rows = self.new_rows(600);
                next.extend(rows.iter().cloned());
                self.pending = Some(next);
                insert(db, table, &rows).await?;
            }
            50..65 => {
                let n = if self.rng.random_bool(0.2) { 200 } else { 3 };
                let keys = self.some_keys(n);
                next.retain(|k, _| !keys.contains(k));
                self.pending = Some(next);
                let found = change(db, table, &keys, &[]).await?;
                assert_eq!(found, keys.len(), "seed {}", self.seed);
            }
            65..85 => {
                let n = if self.rng.random_bool(0.3) { 700 } else { 4 };
                let keys = self.some_keys(n);
                let rows: Vec<_> =
                    keys.iter().map(|k| (*k, format!("{k} anew {}", self.rng.random::<u32>()))).collect();
                next.extend(rows.iter().cloned());
                self.pending = Some(next);
                change(db, table, &keys, &rows).await?;
            }
            85..87 => {
                next.clear();
                self.pending = Some(next);
                let tx = db.begin(&db.snapshot()).await?;
                tx.truncate(table)?;
                tx.commit(CommitOptions::default()).await?;
            }
            87..96 => {
                db.checkpoint(CheckpointReason::Statement).await?;
            }
            _ => {
                db.compact(Some(table)).await?;
            }
        }
        if let Some(done) = self.pending.take() {
            self.model = done;
        }
        Ok(())
    }

    /// Opens again and compares; the operation under way may have become durable or not.
    async fn settle(&mut self) -> Arc<Database> {
        let db = match self.open().await {
            Ok(db) => db,
            Err(e) => panic!("seed {}: {e} {:?}", self.seed, e.detail()),
        };
        self.keyed = db.snapshot().catalog().table("public", "t").map(|t| t.id);
        let found = match self.keyed {
            Some(id) => contents(&db.snapshot().table(id).unwrap()).await.unwrap(),
            None => Rows::new(),
        };
        let pending = self.pending.take();
        if found != self.model {
            assert_eq!(Some(&found), pending.as_ref(), "seed {}", self.seed);
            self.model = found;
        }
        for finding in db.verify(VerifyScope::Database).await.unwrap() {
            assert!(
                matches!(finding.status, FindingStatus::Ok | FindingStatus::Warning),
                "seed {}: {} {}: {}",
                self.seed,
                finding.object,
                finding.check,
                finding.detail
            );
        }
        db
    }
}

/// `CAIRN_SEED` repeats one seed, `CAIRN_SEEDS` multiplies how many are run.
fn seeds(count: u64) -> std::ops::Range<u64> {
    let number = |name: &str| std::env::var(name).ok().and_then(|s| s.parse::<u64>().ok());
    match number("CAIRN_SEED") {
        Some(seed) => seed..seed + 1,
        None => 0..count * number("CAIRN_SEEDS").unwrap_or(1),
    }
}

fn run(history: impl Future<Output = ()>) {
    tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap().block_on(history);
}

/// Power is lost at a random step, again and again.
#[test]
fn power_loss_at_any_step_loses_nothing_acknowledged() {
    for seed in seeds(400) {
        run(async {
            let mut history = History::new(seed);
            let mut db = history.settle().await;
            for life in 0..3 {
                let steps = history.rng.random_range(1..250);
                history.fs.crash_at_step(history.fs.steps() + steps);
                for _ in 0..30 {
                    match history.step(&db).await {
                        Ok(()) => {}
                        Err(_) if history.fs.is_dead() => break,
                        Err(e) => panic!("seed {seed} life {life}: {e}"),
                    }
                }
                // Background work may still hold the dead disk; its handle goes before the next one opens.
                let _ = db.close().await;
                drop(db);
                history.fs = history.fs.crash(seed * 10 + life);
                db = history.settle().await;
            }
        });
    }
}

/// A sync, write, rename or the like fails once: the statement fails or its outcome is unknown; after a reopening all is there.
#[test]
fn one_failed_call_loses_nothing_acknowledged() {
    for seed in seeds(300) {
        run(async {
            let mut history = History::new(seed);
            let mut db = history.settle().await;
            for life in 0..3 {
                // Opening writes the log's last bytes anew and syncs them, whatever an earlier sync said.
                let retried = history.fs.retried_syncs();
                let n = history.rng.random_range(1..120);
                history.fs.inject(match history.rng.random_range(0..4) {
                    0 => Fault::Sync(n / 4 + 1),
                    1 => Fault::SyncDir(n / 8 + 1),
                    _ => Fault::Step(n),
                });
                for _ in 0..30 {
                    if history.step(&db).await.is_err() {
                        if history.pending.is_none() {
                            continue;
                        }
                        break;
                    }
                }
                let _ = db.close().await;
                drop(db);
                assert_eq!(history.fs.retried_syncs(), retried, "seed {seed}: a failed sync was tried again");
                history.fs = if seed % 2 == 0 {
                    history.fs.crash(seed * 10 + life)
                } else {
                    history.fs.restart(seed * 10 + life)
                };
                db = history.settle().await;
            }
        });
    }
}

/// The disk is full at some point: statements fail, nothing is lost; space freed and reopened, everything goes on.
#[test]
fn a_full_disk_loses_nothing_acknowledged() {
    for seed in seeds(150) {
        run(async {
            let mut history = History::new(seed);
            let db = history.settle().await;
            let room = history.rng.random_range(0..400_000);
            history.fs.limit_free_bytes(room);
            let mut refused = 0;
            for _ in 0..40 {
                if let Err(error) = history.step(&db).await {
                    assert_ne!(error.kind(), ErrorKind::Internal, "seed {seed}: {error}");
                    refused += 1;
                    if history.pending.is_some() && error.kind() == ErrorKind::OutcomeUnknown {
                        break;
                    }
                    history.pending = None;
                    if refused > 3 {
                        break;
                    }
                }
            }
            let _ = db.close().await;
            drop(db);
            history.fs.clear_faults();
            history.fs = history.fs.restart(seed);
            let db = history.settle().await;
            for _ in 0..5 {
                history.step(&db).await.unwrap_or_else(|e| panic!("seed {seed}: {e}"));
            }
        });
    }
}
