//! Which commits must be in objects of `history`, and whether they are: a commit whose object is missing is not one that never was.
//!
//! Owns: the marks that manifests have for it, looking for gaps. Does not own: reading objects.
//!
//! Versions are dense, and each up to the newest manifest's is in an object beside a manifest. So those that are read leave a gap where one
//! is missing, but for the oldest, which go after a day: the marks of the newest manifest tell from which version on objects are certainly
//! younger than that. Clocks of writers and stores may differ, and a checkpoint may be tried again with an object that it had written before:
//! what is an hour from being removed is not asked for. A manifest of an earlier Cairn has no marks, and nothing is known then.

use std::ops::Range;

use object_store::ObjectStore;

use super::{Commits, history_path, is_over, read, read_whole};
use crate::error::{Error, Result};
use crate::id::{CommitVersion, ManifestNumber};
use crate::manifest::model::{HistoryMark, Manifest};

/// From one mark to the next: a manifest has a dozen of them.
const MARK_EVERY_US: i64 = 2 * 3_600 * 1_000_000;
/// Objects that are younger are there: one hour less than they are kept for.
const CERTAIN_US: i64 = 23 * 3_600 * 1_000_000;
/// Objects that are asked for by number where a listing has none.
const PROBED_MAX: u64 = 64;

/// The marks of a manifest whose object begins with version `first`; `before` are those of the manifest before it.
pub(crate) fn marks(before: &[HistoryMark], first: CommitVersion, now_us: i64) -> Vec<HistoryMark> {
    // Where the clock was put back, what comes now is older than a later mark would have it.
    let holds = |mark: &HistoryMark| mark.time_us <= now_us && !is_over(mark.time_us, now_us);
    let mut marks: Vec<HistoryMark> = before.iter().copied().filter(holds).collect();
    if marks.last().is_none_or(|last| now_us.saturating_sub(last.time_us) >= MARK_EVERY_US) {
        marks.push(HistoryMark { version: first, time_us: now_us });
    }
    marks
}

/// Which commits must be found by their ids, as a manifest says.
#[derive(Clone, Debug, Default)]
pub(crate) struct Recorded {
    manifest: ManifestNumber,
    marks: Vec<HistoryMark>,
    /// The newest commit that is in an object.
    through: CommitVersion,
}

impl Recorded {
    /// What that manifest says.
    pub(crate) fn of(manifest: &Manifest) -> Self {
        Self { manifest: manifest.number, marks: manifest.history.clone(), through: manifest.version }
    }

    /// A manifest that says nothing.
    #[cfg(test)]
    pub(super) fn nothing(manifest: ManifestNumber) -> Self {
        Self { manifest, ..Self::default() }
    }

    /// Its number.
    pub(crate) fn manifest(&self) -> ManifestNumber {
        self.manifest
    }

    /// Versions of the commits that are in objects which nobody has removed at `now_us`.
    fn certain(&self, now_us: i64) -> Range<u64> {
        let young = |mark: &&HistoryMark| now_us.saturating_sub(mark.time_us) < CERTAIN_US;
        let first = self.marks.iter().filter(young).map(|mark| mark.version.0).min();
        let end = self.through.next().0;
        first.unwrap_or(end)..end
    }
}

/// What was read of objects: the versions of the commits in each.
#[derive(Clone, Debug, Default)]
pub(crate) struct Covered(Vec<(ManifestNumber, Range<u64>)>);

/// Versions that are in no object that was read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Gap {
    versions: Range<u64>,
    /// Objects of these numbers may have them.
    numbers: Range<u64>,
}

impl Covered {
    /// An object was read.
    pub(super) fn add(&mut self, number: ManifestNumber, commits: &Commits) {
        self.know(number, commits.versions());
    }

    /// The object of that number has the commits of these versions, or that it should have them is known.
    pub(crate) fn know(&mut self, number: ManifestNumber, versions: Range<u64>) {
        self.0.push((number, versions));
    }

    /// Objects that must be there and are in no listing, with their numbers.
    ///
    /// # Errors
    /// `Corrupt` when one is missing or damaged; the store's.
    pub(super) async fn complete(
        &self,
        store: &dyn ObjectStore,
        recorded: &Recorded,
        now_us: i64,
    ) -> Result<Vec<(ManifestNumber, Commits)>> {
        let certain = recorded.certain(now_us);
        let (mut covered, mut unlisted) = (self.clone(), Vec::new());
        let mut gap = covered.gap(&certain, recorded.manifest);
        while let Some(open) = gap {
            for number in open.numbers.clone().map(ManifestNumber) {
                if let Some(commits) = read(store, number).await? {
                    covered.add(number, &commits);
                    unlisted.push((number, commits));
                }
            }
            gap = covered.gap(&certain, recorded.manifest);
            if gap.as_ref().is_some_and(|left| left.versions.start == open.versions.start) {
                return Err(open.missing());
            }
        }
        Ok(unlisted)
    }

    /// Commits that must be in objects, and are in none that can be read, whether or not a listing shows it.
    ///
    /// # Errors
    /// `Unsupported` when a later Cairn wrote one; the store's.
    pub(crate) async fn gaps(
        mut self,
        store: &dyn ObjectStore,
        recorded: &Recorded,
        now_us: i64,
    ) -> Result<Vec<Gap>> {
        let mut certain = recorded.certain(now_us);
        let (mut gaps, mut asked) = (Vec::new(), None);
        while let Some(gap) = self.gap(&certain, recorded.manifest) {
            if asked == Some(gap.versions.start) {
                certain.start = gap.versions.end;
                gaps.push(gap);
                continue;
            }
            asked = Some(gap.versions.start);
            for number in gap.numbers.clone().map(ManifestNumber) {
                if let Some(commits) = read_whole(store, number).await? {
                    self.add(number, &commits);
                }
            }
        }
        Ok(gaps)
    }

    /// Versions of the commits that were in the object of that number alone, as far as those before and after it tell. Where there is none before
    /// it, those that must be in one.
    pub(crate) fn between(&self, number: ManifestNumber, recorded: &Recorded, now_us: i64) -> Range<u64> {
        let certain = recorded.certain(now_us);
        let before = self.0.iter().filter(|(other, _)| *other < number).map(|(_, versions)| versions.end);
        let after = self.0.iter().filter(|(other, _)| *other > number).map(|(_, versions)| versions.start);
        let end = after.min().unwrap_or(certain.end);
        before.max().unwrap_or(certain.start).min(end)..end
    }

    /// The first of the versions `certain` that are in no object.
    fn gap(&self, certain: &Range<u64>, newest: ManifestNumber) -> Option<Gap> {
        let mut objects: Vec<&(ManifestNumber, Range<u64>)> = self.0.iter().collect();
        objects.sort_unstable_by_key(|(_, versions)| versions.start);
        let mut from = certain.start;
        for (_, versions) in &objects {
            if versions.start > from {
                break;
            }
            from = from.max(versions.end);
        }
        if from >= certain.end {
            return None;
        }
        let below = objects.iter().filter(|(_, versions)| versions.start < from).map(|(number, _)| number.0);
        let above = objects.iter().find(|(_, versions)| versions.start > from);
        let first = below.max().unwrap_or(0) + 1;
        let end = above.map_or(newest.next().0, |(number, _)| number.0);
        Some(Gap {
            versions: from..above.map_or(certain.end, |(_, versions)| versions.start.min(certain.end)),
            numbers: first.max(end.saturating_sub(PROBED_MAX))..end,
        })
    }
}

impl Gap {
    /// First and last of the commits.
    pub(crate) fn commits(&self) -> (CommitVersion, CommitVersion) {
        (CommitVersion(self.versions.start), CommitVersion(self.versions.end.saturating_sub(1)))
    }

    /// Whether an object of that number may have them.
    pub(crate) fn may_be_in(&self, number: ManifestNumber) -> bool {
        self.numbers.contains(&number.0)
    }

    /// The number under which an object with them may have been, or can be put: the last that is not `taken`.
    pub(crate) fn number(&self, taken: impl Fn(ManifestNumber) -> bool) -> Option<ManifestNumber> {
        self.numbers.clone().rev().map(ManifestNumber).find(|number| !taken(*number))
    }

    fn missing(&self) -> Error {
        let Range { start, end } = self.numbers;
        let what = match end.saturating_sub(start) {
            1 => history_path(ManifestNumber(start)),
            _ => "history/".to_owned(),
        };
        let (first, last) = (self.versions.start, self.versions.end.saturating_sub(1));
        Error::corrupt(what, format!("the object with the ids of commits {first} to {last} is missing")).with_hint(
            "whether an id is one of theirs nobody can tell; bring the object back from a backup, or have VERIFY REPAIR give these ids up; a day after their checkpoint nobody asks for them any more",
        )
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use object_store::memory::InMemory;
    use object_store::path::Path;
    use object_store::{ObjectStoreExt, PutPayload};

    use super::super::{find, held, put};
    use super::*;
    use crate::error::ErrorKind;
    use crate::id::CommitId;

    const HOUR_US: i64 = 3_600 * 1_000_000;
    /// Any time.
    const NOW_US: i64 = 1_700_000_000_000_000;

    fn id(n: u64) -> CommitId {
        CommitId(uuid::Uuid::from_u128(n.into()))
    }

    /// Objects beside manifests 2 to `newest`, each with the ids of three commits.
    async fn bucket(newest: u64) -> InMemory {
        let store = InMemory::new();
        for number in 2..=newest {
            let first = 1 + 3 * (number - 2);
            let commits: Vec<(CommitId, i64)> = (first..first + 3).map(|n| (id(n), 7)).collect();
            put(&store, ManifestNumber(number), CommitVersion(first), &commits).await.unwrap();
        }
        store
    }

    fn mark(version: u64, hours_ago: i64) -> HistoryMark {
        HistoryMark { version: CommitVersion(version), time_us: NOW_US - hours_ago * HOUR_US }
    }

    fn recorded(marks: &[HistoryMark], newest: u64) -> Recorded {
        let through = CommitVersion(3 * (newest - 1));
        Recorded { manifest: ManifestNumber(newest), marks: marks.to_vec(), through }
    }

    async fn remove(store: &InMemory, number: u64) {
        store.delete(&Path::from(history_path(ManifestNumber(number)))).await.unwrap();
    }

    #[tokio::test]
    async fn a_commit_whose_object_is_missing_is_not_called_unknown() {
        let recorded = recorded(&[mark(1, 3)], 9);
        for lost in 2..=9 {
            let store = bucket(9).await;
            assert_eq!(find(&store, &recorded, id(1_000), NOW_US).await.unwrap(), None);
            remove(&store, lost).await;
            let path = history_path(ManifestNumber(lost));
            for n in 1..=24 {
                let found = find(&store, &recorded, id(n), NOW_US).await;
                match (n - 1) / 3 + 2 == lost {
                    false => assert_eq!(found.unwrap().unwrap().version, CommitVersion(n)),
                    true => {
                        let error = found.unwrap_err();
                        assert_eq!(error.kind(), ErrorKind::Corrupt);
                        // Nobody knows the number of the first.
                        let named = if lost == 2 { "history/ " } else { path.as_str() };
                        assert!(error.message().starts_with(named), "{error}");
                    }
                }
            }
        }
        let none = InMemory::new();
        let error = find(&none, &recorded, id(1), NOW_US).await.unwrap_err();
        assert!(error.message().contains("commits 1 to 24 is missing"), "{error}");
    }

    #[tokio::test]
    async fn what_may_have_been_removed_is_not_missed() {
        let store = bucket(9).await;
        for number in 2..5 {
            remove(&store, number).await;
        }
        // Versions 1 to 9 are gone.
        for (marks, is_missed) in [
            (vec![], false),
            (vec![mark(1, 30), mark(10, 22)], false),
            (vec![mark(1, 23), mark(10, 22)], false),
            (vec![mark(7, 22), mark(10, 3)], true),
            (vec![mark(25, 1)], false),
        ] {
            let found = find(&store, &recorded(&marks, 9), id(1_000), NOW_US).await;
            assert_eq!(found.is_err(), is_missed, "{marks:?}");
        }
    }

    #[test]
    fn a_gap_is_where_nothing_was_read() {
        let of = |objects: &[(u64, Range<u64>)]| {
            Covered(objects.iter().map(|(n, versions)| (ManifestNumber(*n), versions.clone())).collect())
        };
        let gap = |objects: &[(u64, Range<u64>)]| of(objects).gap(&(10..30), ManifestNumber(9));
        let found = |versions: Range<u64>, numbers: Range<u64>| Some(Gap { versions, numbers });
        assert_eq!(gap(&[(4, 5..20), (7, 20..31)]), None);
        // What an earlier writer has left beside a claim lies over the next one; some have no commits.
        assert_eq!(gap(&[(4, 5..20), (5, 20..24), (6, 20..31), (7, 31..31)]), None);
        assert_eq!(gap(&[(4, 5..20), (7, 24..31)]), found(20..24, 5..7));
        assert_eq!(gap(&[(7, 24..31)]), found(10..24, 1..7));
        assert_eq!(gap(&[(4, 5..20)]), found(20..30, 5..10));
        assert_eq!(gap(&[]), found(10..30, 1..10));
    }

    #[test]
    fn what_an_object_held_is_told_by_those_beside_it() {
        let recorded = recorded(&[mark(10, 3)], 9);
        let fifth = |objects: &[(u64, Range<u64>)]| {
            let objects = objects.iter().map(|(n, versions)| (ManifestNumber(*n), versions.clone()));
            Covered(objects.collect()).between(ManifestNumber(5), &recorded, NOW_US)
        };
        assert_eq!(fifth(&[(4, 5..12), (6, 15..25)]), 12..15);
        assert_eq!(fifth(&[(4, 5..12), (5, 12..13), (6, 15..25)]), 12..15);
        // What can be asked for begins with 10 and ends with 24.
        assert_eq!(fifth(&[(6, 15..25)]), 10..15);
        assert_eq!(fifth(&[(4, 5..12)]), 12..25);
        assert_eq!(fifth(&[]), 10..25);
        // Older than that, and beside a claim.
        assert!(fifth(&[(6, 7..25)]).is_empty() && fifth(&[(4, 5..20), (6, 12..25)]).is_empty());
    }

    #[tokio::test]
    async fn what_is_in_no_object_that_can_be_read_is_told() {
        let (store, recorded) = (bucket(9).await, recorded(&[mark(1, 3)], 9));
        let gaps = async || {
            let covered = held(&store, &recorded).await.unwrap();
            covered.gaps(&store, &recorded, NOW_US).await.unwrap()
        };
        assert!(gaps().await.is_empty());
        for number in [3, 6] {
            remove(&store, number).await;
        }
        let damaged = Path::from(history_path(ManifestNumber(5)));
        store.put(&damaged, PutPayload::from_static(b"damaged")).await.unwrap();
        let told = gaps().await;
        assert_eq!(told, [Gap { versions: 4..7, numbers: 3..4 }, Gap { versions: 10..16, numbers: 5..7 }]);
        assert_eq!(told[1].commits(), (CommitVersion(10), CommitVersion(15)));
        assert!(told[1].may_be_in(ManifestNumber(5)) && !told[1].may_be_in(ManifestNumber(7)));
        assert_eq!(told[1].number(|number| number == ManifestNumber(6)), Some(ManifestNumber(5)));
        assert_eq!(told[0].number(|_| true), None);
    }

    #[tokio::test]
    async fn what_a_listing_lacks_is_asked_for_by_number() {
        let store = bucket(60).await;
        let recorded = recorded(&[mark(1, 3)], 60);
        let mut covered = Covered::default();
        for number in (2..=60).filter(|n| !(20..25).contains(n)) {
            covered
                .add(ManifestNumber(number), &read(&store, ManifestNumber(number)).await.unwrap().unwrap());
        }
        let unlisted = covered.complete(&store, &recorded, NOW_US).await.unwrap();
        assert_eq!(unlisted.iter().map(|(number, _)| number.0).collect::<Vec<_>>(), [20, 21, 22, 23, 24]);
        let path = history_path(ManifestNumber(22));
        store.put(&Path::from(path.as_str()), PutPayload::from_static(b"damaged")).await.unwrap();
        let error = covered.complete(&store, &recorded, NOW_US).await.err().unwrap();
        assert!(error.message().starts_with(&path), "{error}");
    }

    #[test]
    fn marks_are_few_and_none_is_too_late() {
        let mut known = Vec::new();
        for minutes in 0..4_000_u64 {
            let now_us = NOW_US + i64::try_from(minutes).unwrap() * 60 * 1_000_000;
            known = marks(&known, CommitVersion(minutes), now_us);
            assert!(known.len() <= 13, "{}", known.len());
            // Each object is written in the minute of its version.
            for mark in &known {
                let written = NOW_US + i64::try_from(mark.version.0).unwrap() * 60 * 1_000_000;
                assert_eq!(written, mark.time_us);
            }
            let recorded = Recorded {
                manifest: ManifestNumber(1),
                marks: known.clone(),
                through: CommitVersion(minutes),
            };
            let certain = recorded.certain(now_us);
            assert!(certain.start + 23 * 60 > minutes, "kept for less than a day");
            assert!(
                certain.start <= minutes.saturating_sub(20 * 60),
                "what is known goes back for most of a day"
            );
        }
        // The clock was put back by a day.
        let back = marks(&known, CommitVersion(5_000), NOW_US + 3_000 * 60 * 1_000_000);
        assert!(back.iter().all(|mark| mark.time_us <= NOW_US + 3_000 * 60 * 1_000_000));
    }
}
