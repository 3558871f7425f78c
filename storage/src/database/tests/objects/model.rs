//! What must hold, whatever happened on the way.
//!
//! Owns: every commit that anybody began, with what he was told of it; everything that anybody read; and what can be found wrong at once.
//! Does not own: the comparison with what is there in the end (`history`).

use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Mutex, MutexGuard, PoisonError};

use uuid::Uuid;

use super::history::History;
use super::rows::{Change, Rows};
use crate::error::ErrorKind;
use crate::id::{CommitId, CommitVersion};

/// One life of an actor: from opening the database to closing it or dying.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Life {
    pub(super) actor: &'static str,
    pub(super) number: u64,
}

impl fmt::Display for Life {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}{}", self.actor, self.number)
    }
}

/// The id of an actor's commit: the same in every run.
pub(super) fn commit_id(slot: u64, number: u64) -> CommitId {
    CommitId(Uuid::from_u128((u128::from(slot + 1) << 64) | u128::from(number)))
}

/// The commit's name in traces.
pub(super) fn name(id: CommitId) -> String {
    let words = id.0.as_u128();
    format!("c{}-{}", (words >> 64) - 1, words & u128::from(u64::MAX))
}

/// What a writer was told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Outcome {
    Acknowledged(CommitVersion),
    Refused,
    Unknown,
}

/// One time that a commit was asked for.
#[derive(Clone, Debug)]
pub(super) struct Attempt {
    pub(super) life: Life,
    pub(super) began_ms: u64,
    pub(super) ended_ms: u64,
    pub(super) outcome: Outcome,
}

/// All that is known of one commit.
#[derive(Clone, Debug)]
pub(super) struct Commit {
    pub(super) id: CommitId,
    pub(super) change: Change,
    pub(super) attempts: Vec<Attempt>,
    /// Versions at which SHOW COMMIT found it.
    pub(super) sightings: Vec<(Life, CommitVersion)>,
}

impl Commit {
    /// When it was acknowledged, and as which version.
    pub(super) fn acknowledged(&self) -> Option<(u64, CommitVersion)> {
        self.attempts.iter().find_map(|attempt| match attempt.outcome {
            Outcome::Acknowledged(version) => Some((attempt.ended_ms, version)),
            Outcome::Refused | Outcome::Unknown => None,
        })
    }

    pub(super) fn may_be_there(&self) -> bool {
        self.attempts.iter().any(|attempt| attempt.outcome != Outcome::Refused)
    }

    /// The life that wrote it, where only one can have.
    pub(super) fn life(&self) -> Option<Life> {
        let mut lives = self.attempts.iter().filter(|attempt| attempt.outcome != Outcome::Refused);
        let life = lives.next()?.life;
        lives.all(|attempt| attempt.life == life).then_some(life)
    }
}

/// What somebody read.
pub(super) struct Observation {
    pub(super) life: Life,
    pub(super) at_ms: u64,
    pub(super) version: CommitVersion,
    pub(super) rows: Rows,
}

/// How often what happened, over all runs: what a test that passes has tested.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Counts {
    pub(super) acknowledged: u64,
    pub(super) refused: u64,
    pub(super) unknown: u64,
    pub(super) fenced: u64,
    pub(super) writers: u64,
    pub(super) checkpoints: u64,
    pub(super) collections: u64,
    /// Those that have written segments anew.
    pub(super) compactions: u64,
    pub(super) removed: u64,
    pub(super) reads: u64,
    pub(super) reads_again: u64,
    pub(super) expired: u64,
}

impl Counts {
    pub(super) fn add(&mut self, other: &Self) {
        self.acknowledged += other.acknowledged;
        self.refused += other.refused;
        self.unknown += other.unknown;
        self.fenced += other.fenced;
        self.writers += other.writers;
        self.checkpoints += other.checkpoints;
        self.collections += other.collections;
        self.compactions += other.compactions;
        self.removed += other.removed;
        self.reads += other.reads;
        self.reads_again += other.reads_again;
        self.expired += other.expired;
    }
}

#[derive(Default)]
struct Record {
    commits: Vec<Commit>,
    observations: Vec<Observation>,
    /// Versions known to be durable, and since when.
    known: Vec<(u64, CommitVersion)>,
    /// The last version each life saw.
    last_seen: BTreeMap<Life, CommitVersion>,
    violations: Vec<String>,
    counts: Counts,
}

/// See the module.
#[derive(Default)]
pub(super) struct Model(Mutex<Record>);

impl Model {
    fn record(&self) -> MutexGuard<'_, Record> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A commit is about to be asked for.
    pub(super) fn begin(&self, id: CommitId, life: Life, change: &Change, now_ms: u64) {
        let attempt = Attempt { life, began_ms: now_ms, ended_ms: u64::MAX, outcome: Outcome::Unknown };
        let mut record = self.record();
        match record.commits.iter_mut().find(|commit| commit.id == id) {
            Some(commit) => commit.attempts.push(attempt),
            None => {
                let attempts = vec![attempt];
                record.commits.push(Commit { id, change: change.clone(), attempts, sightings: Vec::new() });
            }
        }
    }

    /// What its writer was told; returns whether it may be there. Until then the outcome is unknown.
    pub(super) fn end(&self, id: CommitId, now_ms: u64, outcome: Outcome) -> bool {
        let mut record = self.record();
        match outcome {
            Outcome::Acknowledged(version) => {
                record.counts.acknowledged += 1;
                record.known.push((now_ms, version));
            }
            Outcome::Refused => record.counts.refused += 1,
            Outcome::Unknown => record.counts.unknown += 1,
        }
        let Some(commit) = record.commits.iter_mut().find(|commit| commit.id == id) else { return false };
        if let Some(attempt) = commit.attempts.last_mut() {
            attempt.ended_ms = now_ms;
            attempt.outcome = outcome;
        }
        commit.may_be_there()
    }

    /// SHOW COMMIT found it.
    pub(super) fn sighted(&self, id: CommitId, life: Life, version: CommitVersion) {
        let mut record = self.record();
        if let Some(commit) = record.commits.iter_mut().find(|commit| commit.id == id) {
            commit.sightings.push((life, version));
        }
    }

    /// A writer that claimed the database after every attempt does not find it: no attempt can arrive any more.
    pub(super) fn surely_absent(&self, id: CommitId) {
        let mut record = self.record();
        let Some(commit) = record.commits.iter_mut().find(|commit| commit.id == id) else { return };
        let lost = commit.acknowledged();
        for attempt in &mut commit.attempts {
            attempt.outcome = Outcome::Refused;
        }
        if let Some((_, version)) = lost {
            record.violations.push(format!(
                "{} was acknowledged as {version}, and SHOW COMMIT of a later writer does not know it",
                name(id)
            ));
        }
    }

    /// Whether this very life has tried it.
    pub(super) fn tried_by(&self, id: CommitId, life: Life) -> bool {
        let record = self.record();
        record.commits.iter().any(|commit| commit.id == id && commit.attempts.iter().any(|a| a.life == life))
    }

    pub(super) fn change_of(&self, id: CommitId) -> Change {
        let record = self.record();
        record.commits.iter().find(|commit| commit.id == id).map(|c| c.change.clone()).unwrap_or_default()
    }

    pub(super) fn ids(&self) -> Vec<CommitId> {
        self.record().commits.iter().map(|commit| commit.id).collect()
    }

    /// Whether anything was ever durable.
    pub(super) fn is_begun(&self) -> bool {
        !self.record().known.is_empty()
    }

    /// The newest version that was certainly durable at that time.
    pub(super) fn durable_at(&self, at_ms: u64) -> CommitVersion {
        let record = self.record();
        let known = record.known.iter().filter(|(since_ms, _)| *since_ms <= at_ms);
        known.map(|(_, version)| *version).max().unwrap_or_default()
    }

    /// Somebody has read all rows at a version.
    pub(super) fn observe(&self, life: Life, at_ms: u64, version: CommitVersion, rows: Rows) {
        let mut record = self.record();
        record.counts.reads += 1;
        record.known.push((at_ms, version));
        record.observations.push(Observation { life, at_ms, version, rows });
    }

    /// Somebody sees a version as the newest.
    pub(super) fn sees(&self, life: Life, version: CommitVersion) {
        let mut record = self.record();
        let before = record.last_seen.insert(life, version);
        if let Some(before) = before.filter(|before| *before > version) {
            record.violations.push(format!("{life} saw version {before}, then version {version}"));
        }
    }

    pub(super) fn violate(&self, what: String) {
        self.record().violations.push(what);
    }

    pub(super) fn violations(&self) -> Vec<String> {
        self.record().violations.clone()
    }

    pub(super) fn count(&self, count: impl FnOnce(&mut Counts)) {
        count(&mut self.record().counts);
    }

    pub(super) fn counts(&self) -> Counts {
        self.record().counts
    }

    /// An error of `kind` was told.
    pub(super) fn told(&self, kind: ErrorKind) {
        let mut record = self.record();
        record.counts.fenced += u64::from(kind == ErrorKind::Fenced);
        record.counts.expired += u64::from(kind == ErrorKind::SnapshotExpired);
    }

    /// Compares everything with what is there in the end.
    pub(super) fn check(&self, history: &History) {
        let mut record = self.record();
        let wrong = history.contradictions(&record.commits, &record.observations);
        record.violations.extend(wrong);
    }
}
