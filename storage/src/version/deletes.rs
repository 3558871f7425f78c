//! Deleted rows that stand in no `.deletes` object yet.
//!
//! Owns: row id -> version that deleted it. Kept as runs of rows that follow each other: a change of a range of keys mostly meets such rows, and
//! thousands of them take one entry. Does not own: where the rows stand (`snapshot`), when they leave (`checkpoint`).
//!
//! A value: versions that follow each other share all but what changed.
//!
//! Order: the first delete of a row counts, whatever is said of it later.

use std::ops::RangeInclusive;

use imbl::OrdMap;

use crate::id::{CommitVersion, RowId};

/// Deletes that are in no `.deletes` object yet: row id -> version. The first delete of a row counts.
#[derive(Clone, Debug, Default)]
pub struct HotDeletes {
    /// First row of each run -> the rest of it. No two have a row in common.
    runs: OrdMap<RowId, Run>,
    rows: usize,
}

#[derive(Clone, Copy, Debug)]
struct Run {
    last: RowId,
    version: CommitVersion,
}

/// Rows that follow each other, of `ids`.
fn runs_of(ids: &[RowId]) -> impl Iterator<Item = (RowId, RowId)> {
    let runs = ids.chunk_by(|id, next| id.0.checked_add(1) == Some(next.0));
    runs.filter_map(|run| Some((*run.first()?, *run.last()?)))
}

impl HotDeletes {
    /// None.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// How many rows.
    #[must_use]
    pub fn len(&self) -> usize {
        self.rows
    }

    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.rows == 0
    }

    /// The version that deleted a row.
    #[must_use]
    pub fn get(&self, id: RowId) -> Option<CommitVersion> {
        let (_, run) = self.runs.get_prev(&id)?;
        (run.last >= id).then_some(run.version)
    }

    /// Whether a row was deleted.
    #[must_use]
    pub fn contains(&self, id: RowId) -> bool {
        self.get(id).is_some()
    }

    /// Whether one of `ids` was deleted. Rows that follow each other are asked for together.
    pub(crate) fn contains_any(&self, ids: &[RowId]) -> bool {
        !self.is_empty() && runs_of(ids).any(|(first, last)| self.runs_within(first, last).next().is_some())
    }

    /// All rows with their versions, ascending.
    pub fn iter(&self) -> impl Iterator<Item = (RowId, CommitVersion)> {
        self.range(RowId(0)..=RowId(u64::MAX))
    }

    /// Those among `ids`, ascending.
    pub fn range(&self, ids: RangeInclusive<RowId>) -> impl Iterator<Item = (RowId, CommitVersion)> {
        self.runs_within(*ids.start(), *ids.end())
            .flat_map(|(first, last, version)| (first.0..=last.0).map(move |id| (RowId(id), version)))
    }

    /// Of each run the part from `from` up to `to`, with its version.
    fn runs_within(&self, from: RowId, to: RowId) -> impl Iterator<Item = (RowId, RowId, CommitVersion)> {
        // The run that begins before may reach in.
        let begin = match self.runs.get_prev(&from) {
            Some((first, run)) if run.last >= from => *first,
            Some(_) | None => from,
        };
        let runs = self.runs.range(begin..).take_while(move |(first, _)| **first <= to);
        runs.map(move |(first, run)| (from.max(*first), to.min(run.last), run.version))
    }

    /// Deletes rows, best in ascending order; how many of them were not deleted before.
    pub(crate) fn delete(&mut self, ids: &[RowId], version: CommitVersion) -> u64 {
        let before = self.rows;
        for (first, last) in runs_of(ids) {
            let known: Vec<_> = self.runs_within(first, last).map(|(first, last, _)| (first, last)).collect();
            self.delete_between(first, last, &known, version);
        }
        (self.rows - before) as u64
    }

    /// Deletes the rows from `first` up to `last` but those that are `known`.
    fn delete_between(
        &mut self,
        mut first: RowId,
        last: RowId,
        known: &[(RowId, RowId)],
        version: CommitVersion,
    ) {
        for (begin, end) in known {
            if first < *begin {
                self.add(first, RowId(begin.0 - 1), version);
            }
            if *end >= last {
                return;
            }
            first = end.next();
        }
        self.add(first, last, version);
    }

    fn add(&mut self, first: RowId, last: RowId, version: CommitVersion) {
        self.rows += (last.0 - first.0) as usize + 1;
        self.runs.insert(first, Run { last, version });
    }

    /// Those of versions after `cut`.
    pub(crate) fn after(&self, cut: CommitVersion) -> Self {
        let mut left = Self::default();
        for (first, run) in self.runs.iter().filter(|(_, run)| run.version > cut) {
            left.add(*first, run.last, run.version);
        }
        left
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use std::collections::BTreeMap;

    use rand::rngs::StdRng;
    use rand::{Rng, SeedableRng};

    use super::*;

    fn ids(numbers: impl IntoIterator<Item = u64>) -> Vec<RowId> {
        numbers.into_iter().map(RowId).collect()
    }

    #[test]
    fn rows_that_follow_each_other_are_one_entry() {
        let mut deletes = HotDeletes::new();
        assert_eq!(deletes.delete(&ids(10..20_010), CommitVersion(3)), 20_000);
        assert_eq!((deletes.runs.len(), deletes.len()), (1, 20_000));
        assert_eq!([9, 10, 20_009, 20_010].map(|id| deletes.contains(RowId(id))), [false, true, true, false]);
        // A part of it, and rows on both sides.
        assert_eq!(deletes.delete(&ids(8..12), CommitVersion(4)), 2);
        assert_eq!(deletes.delete(&ids(20_000..20_012), CommitVersion(5)), 2);
        assert_eq!(deletes.get(RowId(9)), Some(CommitVersion(4)));
        assert_eq!(deletes.get(RowId(11)), Some(CommitVersion(3)));
        assert_eq!(deletes.get(RowId(20_011)), Some(CommitVersion(5)));
        assert_eq!((deletes.runs.len(), deletes.len()), (3, 20_004));
        let left = deletes.after(CommitVersion(3));
        assert_eq!(
            left.iter().map(|(id, version)| (id.0, version.0)).collect::<Vec<_>>(),
            [(8, 4), (9, 4), (20_010, 5), (20_011, 5)]
        );
        assert_eq!(left.len(), 4);
    }

    #[test]
    fn the_last_row_ids_there_can_be_are_no_harm() {
        let mut deletes = HotDeletes::new();
        let last = u64::MAX;
        assert_eq!(deletes.delete(&ids([last - 1, last, 0, last, last]), CommitVersion(1)), 3);
        assert_eq!(deletes.delete(&ids([last - 2, last - 1, last]), CommitVersion(2)), 1);
        let all: Vec<(u64, u64)> = deletes.iter().map(|(id, version)| (id.0, version.0)).collect();
        assert_eq!(all, [(0, 1), (last - 2, 2), (last - 1, 1), (last, 1)]);
        let (first, after) = (RowId(5), RowId(4));
        // Bytes from disk may say so.
        let none = deletes.range(first..=after).count() + deletes.range(RowId(last)..=RowId(0)).count();
        assert_eq!(none, 0);
    }

    /// As a map of each row would have it.
    #[test]
    fn whatever_is_deleted_the_first_delete_counts() {
        for seed in 0..30 {
            let mut rng = StdRng::seed_from_u64(seed);
            let (mut deletes, mut model) = (HotDeletes::new(), BTreeMap::<u64, u64>::new());
            for version in 1..40 {
                let chosen: Vec<u64> = match rng.random_range(0..3) {
                    0 => (0..rng.random_range(1..20)).map(|_| rng.random_range(0..200)).collect(),
                    1 => (0..200).filter(|_| rng.random_bool(0.3)).collect(),
                    _ => {
                        let first = rng.random_range(0..200);
                        (first..rng.random_range(first..210)).collect()
                    }
                };
                let before: usize = model.len();
                let kept = deletes.clone();
                assert_eq!(
                    deletes.contains_any(&ids(chosen.iter().copied())),
                    chosen.iter().any(|id| model.contains_key(id)),
                    "seed {seed}"
                );
                let fresh = deletes.delete(&ids(chosen.iter().copied()), CommitVersion(version));
                for id in chosen {
                    model.entry(id).or_insert(version);
                }
                assert_eq!(
                    (kept.len(), kept.len() as u64 + fresh),
                    (before, model.len() as u64),
                    "seed {seed}"
                );
                if rng.random_bool(0.1) {
                    let cut = rng.random_range(0..=version);
                    deletes = deletes.after(CommitVersion(cut));
                    model.retain(|_, deleted| *deleted > cut);
                }
                assert_eq!(deletes.len(), model.len());
                let told = |found: &mut dyn Iterator<Item = (RowId, CommitVersion)>| -> Vec<(u64, u64)> {
                    found.map(|(id, version)| (id.0, version.0)).collect()
                };
                let all: Vec<(u64, u64)> = model.iter().map(|(id, version)| (*id, *version)).collect();
                assert_eq!(told(&mut deletes.iter()), all, "seed {seed}");
                let (first, last) = (rng.random_range(0..210), rng.random_range(0..210));
                let within: Vec<(u64, u64)> =
                    all.iter().filter(|(id, _)| (first..=last).contains(id)).copied().collect();
                assert_eq!(told(&mut deletes.range(RowId(first)..=RowId(last))), within, "seed {seed}");
                for id in 0..210 {
                    assert_eq!(deletes.get(RowId(id)).map(|v| v.0), model.get(&id).copied(), "seed {seed}");
                }
            }
        }
    }
}
