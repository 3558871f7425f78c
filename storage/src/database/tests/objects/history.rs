//! The history that an honest opener finds, against everything that anybody was told and has read.
//!
//! An acknowledged commit is there at its version, a refused one is not, one whose outcome was unknown is there whole or not at all;
//! versions are dense; a reader saw exactly the rows of the version it named; whoever began after another was acknowledged comes later;
//! and the commits of one life of a writer stand together.

use std::collections::{BTreeMap, BTreeSet};

use imbl::OrdMap;

use super::model::{Commit, Life, Observation, Outcome, name};
use super::rows::{Row, Rows};
use crate::id::{CommitId, CommitVersion};

/// The database as an honest opener finds it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct History {
    pub(super) newest: CommitVersion,
    /// Commits that are there.
    pub(super) versions: BTreeMap<CommitId, CommitVersion>,
    /// Those that are nobody's: they change no row.
    pub(super) compactions: BTreeSet<CommitVersion>,
    pub(super) rows: Rows,
}

impl History {
    /// What cannot be.
    pub(super) fn contradictions(&self, commits: &[Commit], observations: &[Observation]) -> Vec<String> {
        let mut wrong = Vec::new();
        placed(commits, self, &mut wrong);
        let by_version = ordered(commits, self, &mut wrong);
        let states = replayed(&by_version, self.newest, &mut wrong);
        if let Some(last) = states.last()
            && let Some(difference) = difference(last, &self.rows)
        {
            wrong.push(format!("the rows at the end are not those of the history: {difference}"));
        }
        for Observation { life, at_ms, version, rows } in observations {
            match states.get(usize::try_from(version.0).unwrap()) {
                None => wrong.push(format!("{life} saw version {version} at {at_ms} ms, which is not there")),
                Some(state) => {
                    if let Some(difference) = difference(state, rows) {
                        wrong.push(format!("{life} at {at_ms} ms, version {version}: {difference}"));
                    }
                }
            }
        }
        in_time(commits, self, &mut wrong);
        in_turn(&by_version, &mut wrong);
        wrong
    }
}

/// Every commit is where its writer was told that it is.
fn placed(commits: &[Commit], history: &History, wrong: &mut Vec<String>) {
    for commit in commits {
        let (name, there) = (name(commit.id), history.versions.get(&commit.id));
        for attempt in &commit.attempts {
            if let Outcome::Acknowledged(version) = attempt.outcome
                && there != Some(&version)
            {
                let life = attempt.life;
                wrong.push(format!("{name} of {life} was acknowledged as {version} and is at {there:?}"));
            }
        }
        if !commit.may_be_there() && there.is_some() {
            wrong.push(format!("{name} was refused and is at {there:?}"));
        }
        for (life, version) in &commit.sightings {
            if there != Some(version) {
                wrong.push(format!("{life} found {name} at {version}, and it is at {there:?}"));
            }
        }
    }
}

/// The commits in order of their versions, which are dense.
fn ordered<'a>(
    commits: &'a [Commit],
    history: &History,
    wrong: &mut Vec<String>,
) -> BTreeMap<CommitVersion, &'a Commit> {
    let mut by_version: BTreeMap<CommitVersion, &Commit> = BTreeMap::new();
    for commit in commits {
        let Some(version) = history.versions.get(&commit.id) else { continue };
        if let Some(other) = by_version.insert(*version, commit) {
            wrong.push(format!("{} and {} both have version {version}", name(other.id), name(commit.id)));
        }
        if *version > history.newest {
            wrong.push(format!("{} has version {version} of {}", name(commit.id), history.newest));
        }
    }
    for version in (1..=history.newest.0).map(CommitVersion) {
        if by_version.contains_key(&version) == history.compactions.contains(&version) {
            wrong.push(format!(
                "version {version} of {} is nobody's commit, a second time somebody's, or a compaction as well",
                history.newest
            ));
        }
    }
    by_version
}

/// The rows at every version, from 0 on.
fn replayed(
    by_version: &BTreeMap<CommitVersion, &Commit>,
    newest: CommitVersion,
    wrong: &mut Vec<String>,
) -> Vec<OrdMap<i64, Row>> {
    let mut state = OrdMap::new();
    let mut states = vec![state.clone()];
    for version in (1..=newest.0).map(CommitVersion) {
        if let Some(commit) = by_version.get(&version) {
            for key in &commit.change.delete {
                if state.remove(key).is_none() {
                    wrong.push(format!(
                        "{} at {version} deleted id {key}, which was not there",
                        name(commit.id)
                    ));
                }
            }
            for (key, value) in &commit.change.insert {
                if state.insert(*key, Row { value: *value, version }).is_some() {
                    wrong.push(format!("{} at {version} inserted id {key} a second time", name(commit.id)));
                }
            }
        }
        states.push(state.clone());
    }
    states
}

/// The first difference in words.
fn difference(expected: &OrdMap<i64, Row>, found: &Rows) -> Option<String> {
    if expected.iter().eq(found.iter()) {
        return None;
    }
    let keys: BTreeSet<i64> = expected.keys().chain(found.keys()).copied().collect();
    let differs = keys.into_iter().find(|key| expected.get(key) != found.get(key))?;
    Some(format!(
        "{} rows instead of {}; id {differs} is {:?} instead of {:?}",
        found.len(),
        expected.len(),
        found.get(&differs),
        expected.get(&differs)
    ))
}

/// Whoever began after another commit was acknowledged has a later version.
fn in_time(commits: &[Commit], history: &History, wrong: &mut Vec<String>) {
    for first in commits {
        let Some((acknowledged_ms, version)) = first.acknowledged() else { continue };
        for second in commits {
            let began_ms = second.attempts.first().map_or(0, |attempt| attempt.began_ms);
            let Some(later) = history.versions.get(&second.id) else { continue };
            if began_ms > acknowledged_ms && *later <= version {
                let (first, second) = (name(first.id), name(second.id));
                wrong.push(format!(
                    "{second} began after {first} was acknowledged as {version}, and is at {later}"
                ));
            }
        }
    }
}

/// A writer that was followed by another does not come back.
fn in_turn(by_version: &BTreeMap<CommitVersion, &Commit>, wrong: &mut Vec<String>) {
    let mut over: BTreeSet<Life> = BTreeSet::new();
    let mut now: Option<Life> = None;
    for (version, commit) in by_version {
        let Some(life) = commit.life() else { continue };
        if now == Some(life) {
            continue;
        }
        over.extend(now);
        if over.contains(&life) {
            wrong.push(format!("{life} has version {version} after another writer took the database over"));
        }
        now = Some(life);
    }
}
