//! What is needed: by whoever opens the database, by readers, by this process, by retained versions.
//!
//! Owns: the ids that a manifest or a version names, what is remembered of manifests, and the facts behind [`Start`].
//! Does not own: what follows from them (`plan`).
//!
//! One manifest tells nearly all of it. Let g be the newest that was published a reader grace ago. Nobody holds a state from
//! before g. An object whose id is below `settled` of g is named by a commit that g holds, or by none ever; so every state
//! from g on that names it has it from g. Hence: below `settled` of g, what g does not name is dead, and all other ids stay. That
//! needs no entry of the log to be read, and what is dead once stays so, whoever the writer is by then.

use std::collections::{BTreeMap, BTreeSet, HashSet};

use super::plan::Start;
use crate::error::{Error, ErrorKind, Result};
use crate::id::{CommitVersion, ManifestNumber, ObjectId};
use crate::manifest::{LeafRef, Manifest, ManifestStore, SegmentEntry, SegmentList};
use crate::version::Version;

/// Manifests before the boundary, claims nearly all of them, that one collection looks at.
const OLD_MANIFESTS: usize = 256;

/// Ids of objects that something names. A segment's stands for its key filter too.
#[derive(Debug, Default)]
pub(crate) struct Named {
    ids: HashSet<ObjectId>,
    /// Leaves whose segments are in `ids`.
    leaves: HashSet<ObjectId>,
}

impl Named {
    #[cfg(test)]
    pub(super) fn add(&mut self, ids: impl IntoIterator<Item = ObjectId>) {
        self.ids.extend(ids);
    }

    /// Whether something names it.
    pub(crate) fn contains(&self, id: ObjectId) -> bool {
        self.ids.contains(&id)
    }

    /// All that a version names.
    pub(crate) fn add_version(&mut self, version: &Version) {
        for table in version.tables.values() {
            for segment in table.segments.iter() {
                self.ids.insert(segment.meta.id);
                self.ids.extend(segment.delete_objects.iter().map(|deletes| deletes.id));
            }
            self.ids.extend(table.units.iter().map(|unit| unit.id));
        }
    }

    /// What a manifest's root names, leaves included, but not what those name.
    pub(crate) fn add_root(&mut self, manifest: &Manifest) {
        for table in &manifest.tables {
            self.ids.extend(table.units.iter().map(|unit| unit.id));
            match &table.segments {
                SegmentList::Inline(entries) => self.add_entries(entries),
                SegmentList::Leaves(leaves) => self.ids.extend(leaves.iter().map(|leaf| leaf.id)),
            }
        }
    }

    /// The leaves that a manifest's root names, and nothing else.
    pub(crate) fn add_leaves(&mut self, manifest: &Manifest) {
        self.ids.extend(leaves(manifest).into_iter().map(|leaf| leaf.id));
    }

    /// What a leaf names; it is read once.
    ///
    /// # Errors
    /// `Corrupt` when it is missing or damaged, the store's.
    pub(crate) async fn add_leaf(&mut self, manifests: &ManifestStore, leaf: &LeafRef) -> Result<()> {
        if self.leaves.contains(&leaf.id) {
            return Ok(());
        }
        let entries = manifests.load_segments(&SegmentList::Leaves(vec![leaf.clone()])).await?;
        self.leaves.insert(leaf.id);
        self.ids.insert(leaf.id);
        self.add_entries(&entries);
        Ok(())
    }

    /// All that a manifest names.
    ///
    /// # Errors
    /// As for [`add_leaf`](Self::add_leaf).
    pub(super) async fn add_manifest(
        &mut self,
        manifests: &ManifestStore,
        manifest: &Manifest,
    ) -> Result<()> {
        self.add_root(manifest);
        for leaf in leaves(manifest) {
            self.add_leaf(manifests, leaf).await?;
        }
        Ok(())
    }

    fn add_entries(&mut self, entries: &[SegmentEntry]) {
        for entry in entries {
            self.ids.insert(entry.segment.id);
            self.ids.extend(entry.deletes.iter().map(|deletes| deletes.id));
        }
    }
}

/// The leaves of a manifest.
pub(crate) fn leaves(manifest: &Manifest) -> Vec<&LeafRef> {
    let lists = manifest.tables.iter().map(|table| match &table.segments {
        SegmentList::Inline(_) => &[][..],
        SegmentList::Leaves(leaves) => leaves.as_slice(),
    });
    lists.flatten().collect()
}

/// Versions that can be read later.
///
/// A read at version v starts from the oldest manifest that holds every commit up to v: it has the rows that v sees, each with
/// the versions that made and deleted it, segments that were dropped after v with their `dropped_at`, and of all
/// manifests that do, the definitions nearest to v.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Retained {
    /// All from here on.
    pub(crate) horizon: CommitVersion,
    /// These before it.
    pub(crate) versions: BTreeSet<CommitVersion>,
}

/// Whether the error says that an object is gone or can't be understood, not that the store does not answer.
fn is_lost(error: &Error) -> bool {
    matches!(error.kind(), ErrorKind::NotFound | ErrorKind::Corrupt | ErrorKind::Unsupported)
}

/// What is remembered of a manifest.
#[derive(Clone, Copy, Debug)]
struct Root {
    claim: bool,
    version: CommitVersion,
}

/// Manifests that were read before; they never change.
#[derive(Debug, Default)]
pub(crate) struct Roots(BTreeMap<ManifestNumber, Root>);

impl Roots {
    /// Forgets those that are there no more.
    pub(super) fn keep(&mut self, published: &BTreeMap<ManifestNumber, i64>) {
        self.0.retain(|number, _| published.contains_key(number));
    }

    async fn root(&mut self, manifests: &ManifestStore, number: ManifestNumber) -> Result<Root> {
        if let Some(known) = self.0.get(&number) {
            return Ok(*known);
        }
        let manifest = manifests.read(number).await?;
        let root = Root { claim: manifest.is_claim, version: manifest.version };
        self.0.insert(number, root);
        Ok(root)
    }

    /// The oldest of `numbers` (ascending) that holds every commit up to `version`. Versions never go back from one manifest to
    /// the next; one that cannot be read is no start for anybody.
    async fn start_of(
        &mut self,
        manifests: &ManifestStore,
        numbers: &[ManifestNumber],
        version: CommitVersion,
    ) -> Result<Option<ManifestNumber>> {
        let mut numbers = numbers.to_vec();
        let (mut low, mut high) = (0, numbers.len());
        while low < high {
            let middle = low + (high - low) / 2;
            match self.root(manifests, numbers[middle]).await {
                Ok(root) if root.version < version => low = middle + 1,
                Ok(_) => high = middle,
                Err(error) if is_lost(&error) => {
                    numbers.remove(middle);
                    high -= 1;
                }
                Err(error) => return Err(error),
            }
        }
        Ok(numbers.get(low).copied())
    }

    /// Those of `numbers` (ascending) that go: all but claims and `needed`. Before `oldest` a collection has looked already, so
    /// there only the newest are looked at, among which one that was interrupted may have left some.
    async fn replaced(
        &mut self,
        manifests: &ManifestStore,
        numbers: &[ManifestNumber],
        oldest: ManifestNumber,
        needed: &BTreeSet<ManifestNumber>,
    ) -> Result<BTreeSet<ManifestNumber>> {
        let mut replaced = BTreeSet::new();
        let (before, since) = numbers.split_at(numbers.partition_point(|number| *number < oldest));
        for number in since.iter().chain(before.iter().rev().take(OLD_MANIFESTS)) {
            match self.root(manifests, *number).await {
                Ok(root) if root.claim || needed.contains(number) => {}
                Ok(_) => {
                    replaced.insert(*number);
                }
                // Nobody knows whether it is a claim.
                Err(error) if is_lost(&error) => {}
                Err(error) => return Err(error),
            }
        }
        Ok(replaced)
    }

    /// The facts about everything that is needed, when manifests are kept from `first` on unless the retained versions need more.
    ///
    /// # Errors
    /// `Corrupt` and `NotFound` of a manifest that is needed or a leaf of one, the store's.
    pub(super) async fn start(
        &mut self,
        manifests: &ManifestStore,
        published: &BTreeMap<ManifestNumber, i64>,
        (first, oldest): (ManifestNumber, ManifestNumber),
        retained: &Retained,
    ) -> Result<Start> {
        let mut before: Vec<ManifestNumber> = published.range(..first).map(|(number, _)| *number).collect();
        let since = before.partition_point(|number| *number < oldest);
        let first = self.start_of(manifests, &before[since..], retained.horizon).await?.unwrap_or(first);
        before.retain(|number| *number < first);

        let manifest = manifests.read(first).await?;
        let mut named = Named::default();
        named.add_manifest(manifests, &manifest).await?;
        let mut wal_from = manifest.replay_from;
        let mut needed = BTreeSet::new();
        for version in &retained.versions {
            // One that starts from `first` or later needs nothing more.
            let Some(number) = self.start_of(manifests, &before, *version).await? else { continue };
            let manifest = manifests.read(number).await?;
            named.add_manifest(manifests, &manifest).await?;
            needed.insert(number);
            if manifest.tables.iter().any(|table| table.flushed < *version) {
                wal_from = wal_from.min(manifest.replay_from);
            }
        }
        let replaced = self.replaced(manifests, &before, oldest, &needed).await?;
        Ok(Start { manifest: first, settled: manifest.settled, wal_from, replaced, named })
    }
}

#[cfg(test)]
mod tests;
