//! A reader that follows, holds on to what it saw, reads it again much later, and begins anew.

use std::sync::Arc;

use rand::Rng;
use rand::rngs::StdRng;

use super::actors::{POLL_MS, Process, Sim};
use super::model::Life;
use super::rows::Rows;
use crate::database::OpenOptions;
use crate::version::Snapshot;

/// Snapshots held at once.
const PINS_MAX: usize = 3;

/// A snapshot that is held, with what it showed.
struct Pin {
    snapshot: Snapshot,
    rows: Rows,
    /// When the reader was up to date with it.
    since_ms: u64,
}

struct Reader {
    sim: Arc<Sim>,
    slot: u64,
    rng: StdRng,
    pins: Vec<Pin>,
    /// When the last refresh began that found everything.
    refreshed_ms: u64,
}

/// Lives for so many steps.
pub(super) async fn reader(sim: Arc<Sim>, actor: &'static str, slot: u64, mut steps: u64) {
    let mut life = Life { actor, number: 0 };
    let mut rng = sim.rng(slot, 0, 0);
    while steps > 0 {
        life.number += 1;
        steps -= 1;
        sim.store.pause(slot, rng.random_range(0..4_000)).await;
        let refreshed_ms = sim.store.now_ms();
        let handle = sim.store.handle(actor, slot, life.number, sim.settings.weather.clone());
        let options = OpenOptions { read_only: true, ..sim.options(&handle) };
        let Some(process) = Process::open(&sim, slot, life, handle, options).await else { continue };
        let rng = sim.rng(slot, life.number, 3);
        let mut reader = Reader { sim: Arc::clone(&sim), slot, rng, pins: Vec::new(), refreshed_ms };
        while steps > 0 {
            steps -= 1;
            if !reader.step(&process).await {
                break;
            }
        }
        if reader.rng.random_bool(0.5) {
            process.close(&sim).await;
        }
    }
}

impl Reader {
    /// Whether it goes on.
    async fn step(&mut self, process: &Process) -> bool {
        let for_ms = self.rng.random_range(0..5_000);
        self.sim.store.pause(self.slot, for_ms).await;
        match self.rng.random_range(0..100) {
            0..50 => {
                self.refresh(process).await;
                self.read(process).await;
            }
            50..60 => self.read(process).await,
            60..84 => self.read_again(process).await,
            84..91 => {
                let for_ms = self.rng.random_range(20_000..400_000);
                self.sim.note(self.slot, process.life, "sleeps");
                self.sim.store.pause(self.slot, for_ms).await;
            }
            91..95 => {
                let for_ms = self.rng.random_range(1_000..60_000);
                self.sim.note(self.slot, process.life, "loses its network");
                process.handle.cut_off(for_ms);
            }
            _ => return false,
        }
        true
    }

    async fn refresh(&mut self, process: &Process) {
        let begun_ms = self.sim.store.now_ms();
        match process.db.refresh().await {
            Ok(()) => {
                self.sim.check_fresh(process.life, &process.db, begun_ms, POLL_MS);
                // It need not have asked when it did so less than a poll interval ago.
                self.refreshed_ms = begun_ms.saturating_sub(POLL_MS);
            }
            Err(error) => self.sim.told(self.slot, process.life, "refresh", &error),
        }
    }

    async fn read(&mut self, process: &Process) {
        let snapshot = process.db.snapshot();
        self.sim.model.sees(process.life, snapshot.version());
        let since_ms = self.refreshed_ms;
        let found = self.sim.read(self.slot, process.life, &snapshot, Some(since_ms)).await;
        let Ok(found) = found else { return };
        let rows = found.map(|found| found.rows).unwrap_or_default();
        if self.pins.len() < PINS_MAX && self.rng.random_bool(0.5) {
            self.pins.push(Pin { snapshot, rows, since_ms });
        }
    }

    /// Shows what it showed before, or says that it has expired.
    async fn read_again(&mut self, process: &Process) {
        if self.pins.is_empty() {
            return;
        }
        let pin = &self.pins[self.rng.random_range(0..self.pins.len())];
        let found = self.sim.read(self.slot, process.life, &pin.snapshot, Some(pin.since_ms)).await;
        self.sim.model.count(|counts| counts.reads_again += 1);
        if let Ok(found) = found
            && found.map(|found| found.rows).unwrap_or_default() != pin.rows
        {
            let version = pin.snapshot.version();
            self.sim
                .model
                .violate(format!("{} read other rows at version {version} than before", process.life));
        }
        if self.rng.random_bool(0.3) {
            self.pins.remove(0);
        }
    }
}
