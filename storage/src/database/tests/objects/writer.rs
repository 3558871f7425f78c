//! A writer that opens, commits, stalls, looks commits up, tries them again, loses its network, closes, crashes, and begins anew.

use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

use rand::Rng;
use rand::rngs::StdRng;

use super::actors::{Process, Sim};
use super::model::{Life, Outcome, commit_id, name};
use super::rows::{Change, Found, fill, show_commit};
use crate::database::{ClaimAt, OpenOptions};
use crate::error::{Error, ErrorKind};
use crate::id::CommitId;
use crate::transaction::{CommitOptions, Transaction};
use crate::version::Snapshot;

/// Ids that both writers use; all others are their own.
const SHARED_IDS: Range<i64> = 1..13;

/// What becomes of the process after a step.
enum Then {
    GoOn,
    Close,
    Crash,
}

struct Writer {
    sim: Arc<Sim>,
    actor: &'static str,
    slot: u64,
    rng: StdRng,
    steps: u64,
    lives: u64,
    commits: u64,
    /// Ids and values drawn so far.
    drawn: i64,
    /// Commits whose outcome is not known.
    unknown: Vec<CommitId>,
    /// Commits that are certainly not there, to be tried again.
    absent: Vec<CommitId>,
}

/// Lives for so many steps.
pub(super) async fn writer(sim: Arc<Sim>, actor: &'static str, slot: u64, steps: u64) {
    let rng = sim.rng(slot, 0, 0);
    let (unknown, absent) = (Vec::new(), Vec::new());
    let mut writer = Writer { sim, actor, slot, rng, steps, lives: 0, commits: 0, drawn: 0, unknown, absent };
    while writer.steps > 0 {
        writer.pause(0..3_000).await;
        writer.live().await;
    }
}

impl Writer {
    async fn pause(&mut self, for_ms: Range<u64>) {
        let for_ms = self.rng.random_range(for_ms);
        self.sim.store.pause(self.slot, for_ms).await;
    }

    /// Sometimes a time after which what is begun now ends in the middle.
    fn cut(&mut self, chance: f64, within_ms: u64) -> Option<Duration> {
        let cut = self.rng.random_bool(chance);
        cut.then(|| Duration::from_millis(self.rng.random_range(1..within_ms)))
    }

    async fn live(&mut self) {
        self.lives += 1;
        self.steps -= 1;
        let sim = Arc::clone(&self.sim);
        let life = Life { actor: self.actor, number: self.lives };
        let handle = sim.store.handle(self.actor, self.slot, life.number, sim.settings.weather.clone());
        let claim = if self.rng.random_bool(0.3) { ClaimAt::Open } else { ClaimAt::FirstWrite };
        let take_over = self.rng.random_bool(0.6);
        let options = OpenOptions { take_over, claim, ..sim.options(&handle) };
        sim.note(self.slot, life, &format!("begins, {claim:?}, take over: {take_over}"));
        let opening = Process::open(&sim, self.slot, life, handle.clone(), options);
        let opened = match self.cut(0.05, 1_000) {
            None => opening.await,
            Some(after) => tokio::time::timeout(after, opening).await.unwrap_or(None),
        };
        let Some(mut process) = opened else {
            handle.kill();
            return;
        };
        sim.model.count(|counts| counts.writers += 1);
        process.keep_up(&sim);
        while self.steps > 0 {
            self.steps -= 1;
            self.pause(0..700).await;
            let then = match self.cut(0.05, 600) {
                None => self.step(&process).await,
                Some(after) => tokio::time::timeout(after, self.step(&process)).await.unwrap_or(Then::Crash),
            };
            match then {
                Then::GoOn => {}
                Then::Close => return process.close(&sim).await,
                Then::Crash => break,
            }
        }
        sim.note(self.slot, life, "crashes");
    }

    async fn step(&mut self, process: &Process) -> Then {
        match self.rng.random_range(0..100) {
            0..58 => return self.commit(process).await,
            58..67 => return self.look_up(process).await,
            67..75 => return self.try_again(process).await,
            75..82 => {
                let snapshot = process.db.snapshot();
                self.sim.model.sees(process.life, snapshot.version());
                // What it says is noted there.
                let _ = self.sim.read(self.slot, process.life, &snapshot, None).await;
            }
            82..85 => {
                if let Err(error) = process.db.claim().await {
                    return self.after(process, "claim", &error);
                }
            }
            85..90 => {
                self.sim.note(self.slot, process.life, "stalls");
                self.pause(15_000..110_000).await;
            }
            90..93 => {
                let for_ms = self.rng.random_range(1_000..90_000);
                self.sim.note(self.slot, process.life, "loses its network");
                process.handle.cut_off(for_ms);
            }
            93..96 => return Then::Close,
            _ => return Then::Crash,
        }
        Then::GoOn
    }

    /// Notes an error; a handle that cannot write any more is mostly given up.
    fn after(&mut self, process: &Process, during: &str, error: &Error) -> Then {
        self.sim.told(self.slot, process.life, during, error);
        let ends = matches!(
            error.kind(),
            ErrorKind::Fenced | ErrorKind::OutcomeUnknown | ErrorKind::Unavailable | ErrorKind::ReadOnly
        );
        match self.rng.random_range(0..10) {
            0..3 if ends => Then::Crash,
            3..6 if ends => Then::Close,
            _ => Then::GoOn,
        }
    }

    async fn commit(&mut self, process: &Process) -> Then {
        if self.rng.random_bool(0.5)
            && let Err(error) = process.db.refresh().await
        {
            return self.after(process, "refresh", &error);
        }
        let snapshot = process.db.snapshot();
        self.sim.model.sees(process.life, snapshot.version());
        let Ok(found) = self.sim.read(self.slot, process.life, &snapshot, None).await else {
            return Then::GoOn;
        };
        let change = match &found {
            None => Change::creating(),
            Some(found) => self.wish(found),
        };
        self.commits += 1;
        let id = commit_id(self.slot, self.commits);
        self.attempt(process, &snapshot, found.as_ref(), id, &change).await
    }

    async fn attempt(
        &mut self,
        process: &Process,
        snapshot: &Snapshot,
        found: Option<&Found>,
        id: CommitId,
        change: &Change,
    ) -> Then {
        let transaction = match process.db.begin(snapshot).await {
            Ok(transaction) => transaction,
            Err(error) => return self.after(process, "begin", &error),
        };
        if self.rng.random_bool(0.06) {
            self.sim.note(self.slot, process.life, "holds a transaction");
            self.pause(1_000..100_000).await;
        }
        if let Err(error) = fill(&transaction, found, change).await {
            return self.after(process, "write", &error);
        }
        self.sim.model.begin(id, process.life, change, self.sim.store.now_ms());
        if !self.unknown.contains(&id) {
            self.unknown.push(id);
        }
        self.settle(process, transaction, id).await
    }

    /// Commits, and lets the model know what came of it.
    async fn settle(&mut self, process: &Process, transaction: Transaction, id: CommitId) -> Then {
        let (sim, life) = (Arc::clone(&self.sim), process.life);
        let options = CommitOptions { commit_id: Some(id), ..CommitOptions::default() };
        let committing = transaction.commit(options);
        let result = match self.cut(0.06, 400) {
            None => committing.await,
            Some(after) => match tokio::time::timeout(after, committing).await {
                Ok(result) => result,
                Err(_) => {
                    sim.note(self.slot, life, &format!("gives {} up", name(id)));
                    return Then::GoOn;
                }
            },
        };
        let outcome = match &result {
            Ok(receipt) => Outcome::Acknowledged(receipt.version),
            Err(error) if error.kind() == ErrorKind::OutcomeUnknown => Outcome::Unknown,
            Err(_) => Outcome::Refused,
        };
        sim.note(self.slot, life, &format!("{}: {outcome:?}", name(id)));
        let may_be_there = sim.model.end(id, sim.store.now_ms(), outcome);
        if !may_be_there || result.is_ok() {
            self.unknown.retain(|unknown| *unknown != id);
        }
        match result {
            Ok(receipt) => {
                let seen = process.db.snapshot().version();
                if seen < receipt.version {
                    sim.model.violate(format!("{life} committed {} and sees {seen}", receipt.version));
                }
                sim.model.sees(life, seen);
                Then::GoOn
            }
            Err(error) => self.after(process, "commit", &error),
        }
    }

    /// Becomes the writer and asks for every commit whose outcome is unknown: what it does not find now will never be there, unless
    /// this very process tried it.
    async fn look_up(&mut self, process: &Process) -> Then {
        if let Err(error) = process.db.claim().await {
            return self.after(process, "claim", &error);
        }
        for id in self.unknown.clone() {
            let life = process.life;
            let found = show_commit(&process.db, id).await;
            match found {
                Ok(Some(version)) => {
                    self.sim.note(self.slot, life, &format!("finds {} at {version}", name(id)));
                    self.sim.model.sighted(id, life, version);
                }
                Ok(None) if self.sim.model.tried_by(id, life) => continue,
                Ok(None) => {
                    self.sim.note(self.slot, life, &format!("does not find {}", name(id)));
                    self.sim.model.surely_absent(id);
                    self.absent.push(id);
                }
                Err(error) => return self.after(process, "show commit", &error),
            }
            self.unknown.retain(|unknown| *unknown != id);
        }
        Then::GoOn
    }

    /// Tries a commit again under the same id: one that is not there, or blindly one that may be and only inserts.
    async fn try_again(&mut self, process: &Process) -> Then {
        let snapshot = process.db.snapshot();
        let Ok(Some(found)) = self.sim.read(self.slot, process.life, &snapshot, None).await else {
            return Then::GoOn;
        };
        let is_there = |key: &i64| found.rows.contains_key(key);
        let (id, change) = match self.absent.pop() {
            Some(id) => {
                let change = self.sim.model.change_of(id);
                let mut inserted = change.insert.iter().map(|row| row.0);
                let is_free = |key: i64| !is_there(&key) || change.delete.contains(&key);
                if change.create || !change.delete.iter().all(is_there) || !inserted.all(is_free) {
                    return Then::GoOn;
                }
                (id, change)
            }
            None => {
                let Some(id) = self.unknown.first().copied() else { return Then::GoOn };
                let change = self.sim.model.change_of(id);
                if change.create || !change.delete.is_empty() {
                    return Then::GoOn;
                }
                (id, change)
            }
        };
        self.sim.note(self.slot, process.life, &format!("tries {} again", name(id)));
        self.attempt(process, &snapshot, Some(&found), id, &change).await
    }

    fn wish(&mut self, found: &Found) -> Change {
        let keys: Vec<i64> = found.rows.keys().copied().collect();
        match self.rng.random_range(0..100) {
            0..30 => self.fresh(1..6),
            30..38 => self.fresh(200..330),
            _ if keys.is_empty() => self.fresh(1..3),
            38..54 => {
                let some = self.some(&keys, 1..5);
                self.anew(some)
            }
            54..64 => Change { delete: self.some(&keys, 1..5), ..Change::default() },
            64..72 => Change { delete: self.some(&keys, 13..60), ..Change::default() },
            72..78 => {
                let some = self.some(&keys, 13..60);
                self.anew(some)
            }
            _ => {
                let key = self.rng.random_range(SHARED_IDS);
                match found.rows.contains_key(&key) {
                    true if self.rng.random_bool(0.5) => self.anew(vec![key]),
                    true => Change { delete: vec![key], ..Change::default() },
                    false => Change::inserting(&[(key, self.value())]),
                }
            }
        }
    }

    /// A value that nobody else writes.
    fn value(&mut self) -> i64 {
        self.drawn += 1;
        (self.slot as i64 + 1) * 1_000_000 + self.drawn
    }

    fn fresh(&mut self, rows: Range<usize>) -> Change {
        let rows = self.rng.random_range(rows);
        let insert = (0..rows).map(|_| (self.value(), self.drawn)).collect();
        Change { insert, ..Change::default() }
    }

    fn anew(&mut self, keys: Vec<i64>) -> Change {
        let insert = keys.iter().map(|key| (*key, self.value())).collect();
        Change { delete: keys, insert, ..Change::default() }
    }

    /// Neighbours among the keys.
    fn some(&mut self, keys: &[i64], count: Range<usize>) -> Vec<i64> {
        let count = self.rng.random_range(count);
        let first = self.rng.random_range(0..keys.len());
        keys.iter().skip(first).take(count).copied().collect()
    }
}
