//! A run and the processes in it.
//!
//! Owns: the settings of a run, opening and ending a process, those that work beside every writer (checkpointer, compactor, collector),
//! reading for the model, and which errors anybody may be told. Does not own: what writers and readers do (`writer`, `reader`).

use std::sync::Arc;
use std::time::Duration;

use object_store::ObjectStore;
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use tokio::task::JoinHandle;

use super::faults::Weather;
use super::handle::Handle;
use super::model::{Life, Model};
use super::rows::{self, Found};
use super::store::SimStore;
use super::trace::Trace;
use crate::checkpoint::CheckpointReason;
use crate::computing::Computing;
use crate::database::{Database, OpenOptions, Root};
use crate::error::{Error, ErrorKind, Result};
use crate::version::Snapshot;

/// How old what a reader sees may be.
pub(super) const POLL_MS: u64 = 1_000;

/// Virtual time in which a database gets closed, with any weather.
const CLOSED_WITHIN: Duration = Duration::from_secs(3600);

/// Who is who; the number is the slot.
pub(super) const WRITER_A: u64 = 0;
pub(super) const WRITER_B: u64 = 1;
pub(super) const READER_R: u64 = 2;
pub(super) const READER_S: u64 = 3;
/// The honest opener at the end.
pub(super) const HONEST: u64 = 4;

/// What a seed decides for all actors.
#[derive(Clone, Debug)]
pub(super) struct Settings {
    pub(super) weather: Weather,
    pub(super) grace_ms: u64,
    pub(super) retention_ms: u64,
    commit_timeout_ms: u64,
    flush_ms: u64,
    checkpoint_wal_objects: u64,
    close_wal_objects: u64,
}

fn one_of<T: Copy>(rng: &mut StdRng, choices: &[T]) -> T {
    choices[rng.random_range(0..choices.len())]
}

impl Settings {
    fn drawn(rng: &mut StdRng) -> Self {
        Self {
            weather: Weather::drawn(rng),
            grace_ms: one_of(rng, &[60_000, 120_000, 300_000]),
            retention_ms: one_of(rng, &[0, 0, 10_000]),
            commit_timeout_ms: one_of(rng, &[2_000, 8_000, 30_000]),
            flush_ms: one_of(rng, &[0, 0, 50]),
            checkpoint_wal_objects: one_of(rng, &[6, 25, 1_024]),
            close_wal_objects: one_of(rng, &[2, 256]),
        }
    }
}

/// One run.
pub(super) struct Sim {
    pub(super) store: SimStore,
    pub(super) model: Model,
    pub(super) settings: Settings,
}

impl Sim {
    /// The run of a seed; within a runtime whose clock is paused.
    pub(super) fn new(seed: u64, trace: Trace) -> Arc<Self> {
        let settings = Settings::drawn(&mut StdRng::seed_from_u64(seed));
        Arc::new(Self { store: SimStore::new(seed, trace), model: Model::default(), settings })
    }

    /// Dice of one task of one life.
    pub(super) fn rng(&self, slot: u64, life: u64, task: u64) -> StdRng {
        StdRng::seed_from_u64((self.store.seed() << 20) ^ (slot << 16) ^ (life << 4) ^ task ^ (1 << 60))
    }

    pub(super) fn note(&self, slot: u64, life: Life, text: &str) {
        self.store.note(slot, format!("{life} {text}"));
    }

    /// What everybody opens the database with.
    pub(super) fn options(&self, handle: &Handle) -> OpenOptions {
        let settings = &self.settings;
        OpenOptions {
            store: Some(Arc::new(handle.clone()) as Arc<dyn ObjectStore>),
            clock: self.store.clock(),
            wal_entry_bytes_max: 4 << 10,
            segment_cache_bytes: 1 << 20,
            version_retention: Duration::from_millis(settings.retention_ms),
            poll_interval: Duration::from_millis(POLL_MS),
            reader_grace: Duration::from_millis(settings.grace_ms),
            wal_flush_interval: Duration::from_millis(settings.flush_ms),
            commit_timeout: Duration::from_millis(settings.commit_timeout_ms),
            checkpoint_wal_objects: settings.checkpoint_wal_objects,
            close_wal_objects: settings.close_wal_objects,
            compacts: false,
            computing: Computing::InTurn,
            ..OpenOptions::default()
        }
    }

    /// Notes an error, and whether it may be told at all: bad luck with the store and other writers, yes; damage and faults of our own, no.
    pub(super) fn told(&self, slot: u64, life: Life, during: &str, error: &Error) {
        let kind = error.kind();
        self.note(slot, life, &format!("{during}: {kind:?}"));
        self.model.told(kind);
        let fine = match kind {
            ErrorKind::Conflict
            | ErrorKind::Fenced
            | ErrorKind::ReadOnly
            | ErrorKind::Unavailable
            | ErrorKind::OutcomeUnknown
            | ErrorKind::SnapshotExpired
            | ErrorKind::Cancelled => true,
            ErrorKind::ConstraintViolation => during == "commit",
            _ => false,
        };
        if !fine {
            let detail = error.detail().unwrap_or_default();
            self.model.violate(format!("{life} was told during {during}: {kind:?}: {error} ({detail})"));
        }
    }

    /// Reads all rows of a snapshot for the model. `since_ms`: from when on the reader's grace counts at the earliest.
    pub(super) async fn read(
        &self,
        slot: u64,
        life: Life,
        snapshot: &Snapshot,
        since_ms: Option<u64>,
    ) -> Result<Option<Found>> {
        let found = rows::read(snapshot).await;
        let now_ms = self.store.now_ms();
        match &found {
            Ok(found) => {
                let wrong = found.as_ref().and_then(|found| found.wrong.as_ref());
                if let Some(wrong) = wrong {
                    self.model.violate(format!("{life} at version {}: {wrong}", snapshot.version()));
                }
                let rows = found.as_ref().map(|found| found.rows.clone()).unwrap_or_default();
                self.note(slot, life, &format!("reads version {}: {} rows", snapshot.version(), rows.len()));
                self.model.observe(life, now_ms, snapshot.version(), rows);
            }
            Err(error) => {
                self.told(slot, life, "read", error);
                if error.kind() == ErrorKind::SnapshotExpired
                    && let Some(since_ms) = since_ms
                    && now_ms < since_ms + self.settings.grace_ms
                {
                    let version = snapshot.version();
                    self.model.violate(format!(
                        "{life} lost version {version} at {now_ms} ms, which it has had since {since_ms} ms: \
                         that is within the grace of {} ms",
                        self.settings.grace_ms
                    ));
                }
            }
        }
        found
    }

    /// What was durable `age_ms` before `begun_ms` is seen now.
    pub(super) fn check_fresh(&self, life: Life, db: &Database, begun_ms: u64, age_ms: u64) {
        let seen = db.snapshot().version();
        self.model.sees(life, seen);
        let known = self.model.durable_at(begun_ms.saturating_sub(age_ms));
        // Whoever takes longer than the grace may find collected what he looks for.
        if seen < known && self.store.now_ms() - begun_ms < self.settings.grace_ms {
            self.model.violate(format!("{life} sees version {seen} although {known} was durable before"));
        }
    }
}

/// One life of an actor with the database open. Dropping it is a crash.
pub(super) struct Process {
    pub(super) life: Life,
    pub(super) db: Arc<Database>,
    pub(super) handle: Handle,
    slot: u64,
    upkeep: Vec<JoinHandle<()>>,
}

impl Process {
    /// Opens the database; None: it is not to be had now.
    pub(super) async fn open(
        sim: &Arc<Sim>,
        slot: u64,
        life: Life,
        handle: Handle,
        options: OpenOptions,
    ) -> Option<Self> {
        let was_begun = sim.model.is_begun();
        let reads = options.read_only;
        let begun_ms = sim.store.now_ms();
        match Database::open(Root::parse("s3://sim/db").unwrap(), options).await {
            Ok(db) => {
                sim.note(slot, life, &format!("opens at version {}", db.snapshot().version()));
                sim.check_fresh(life, &db, begun_ms, 0);
                Some(Self { life, db, handle, slot, upkeep: Vec::new() })
            }
            Err(error) if reads && !was_begun && error.kind() == ErrorKind::NotFound => {
                sim.note(slot, life, "finds no database");
                None
            }
            Err(error) => {
                sim.told(slot, life, "open", &error);
                None
            }
        }
    }

    /// Starts those who work beside a writer.
    pub(super) fn keep_up(&mut self, sim: &Arc<Sim>) {
        self.upkeep.push(tokio::spawn(checkpoints(
            Arc::clone(sim),
            self.slot,
            self.life,
            Arc::clone(&self.db),
        )));
        self.upkeep.push(tokio::spawn(collections(
            Arc::clone(sim),
            self.slot,
            self.life,
            Arc::clone(&self.db),
        )));
        self.upkeep.push(tokio::spawn(compactions(
            Arc::clone(sim),
            self.slot,
            self.life,
            Arc::clone(&self.db),
        )));
    }

    /// Ends in order.
    pub(super) async fn close(mut self, sim: &Sim) {
        self.stop();
        match tokio::time::timeout(CLOSED_WITHIN, self.db.close()).await {
            Ok(Ok(())) => sim.note(self.slot, self.life, "closes"),
            Ok(Err(error)) => sim.told(self.slot, self.life, "close", &error),
            Err(_) => sim.model.violate(format!("{} does not get closed", self.life)),
        }
    }

    fn stop(&mut self) {
        for task in self.upkeep.drain(..) {
            task.abort();
        }
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.stop();
        self.handle.kill();
    }
}

async fn checkpoints(sim: Arc<Sim>, slot: u64, life: Life, db: Arc<Database>) {
    let mut rng = sim.rng(slot, life.number, 1);
    loop {
        sim.store.pause(slot, rng.random_range(500..25_000)).await;
        match db.checkpoint(CheckpointReason::Statement).await {
            Ok(receipt) => {
                let done = u64::from(receipt.triggered);
                sim.model.count(|counts| counts.checkpoints += done);
                sim.note(
                    slot,
                    life,
                    &format!("checkpoint up to {} in {}", receipt.version, receipt.manifest),
                );
            }
            Err(error) => sim.told(slot, life, "checkpoint", &error),
        }
    }
}

async fn collections(sim: Arc<Sim>, slot: u64, life: Life, db: Arc<Database>) {
    let mut rng = sim.rng(slot, life.number, 2);
    loop {
        sim.store.pause(slot, rng.random_range(2_000..60_000)).await;
        match db.collect().await {
            Ok(_) => {
                sim.model.count(|counts| counts.collections += 1);
                sim.note(slot, life, "collects");
            }
            Err(error) => sim.told(slot, life, "collection", &error),
        }
    }
}

async fn compactions(sim: Arc<Sim>, slot: u64, life: Life, db: Arc<Database>) {
    let mut rng = sim.rng(slot, life.number, 4);
    loop {
        sim.store.pause(slot, rng.random_range(2_000..50_000)).await;
        match db.compact(None).await {
            Ok(receipt) if receipt.triggered => {
                sim.model.count(|counts| counts.compactions += 1);
                let text = format!("compacts {} segments into {}", receipt.replaced, receipt.segments);
                sim.note(slot, life, &text);
            }
            Ok(_) => {}
            Err(error) => sim.told(slot, life, "compaction", &error),
        }
    }
}
