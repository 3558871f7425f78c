#![allow(clippy::unwrap_used)]

use std::sync::Arc;

use object_store::memory::InMemory;
use object_store::path::Path;
use object_store::{ObjectStore, ObjectStoreExt};

use super::*;
use crate::id::{Epoch, ObjectIds, WalNumber};
use crate::manifest::invariants::tests::{segment_entry, sound, successor};
use crate::manifest::store::{Access, manifest_path};

/// Manifests of versions 30, 40, 40 (a claim), 50, 60 and 70 with replay points 4, 5, 5, 6, 7 and 8; their table is flushed to 25.
async fn six() -> (Arc<dyn ObjectStore>, ManifestStore, BTreeMap<ManifestNumber, i64>) {
    let store: Arc<dyn ObjectStore> = Arc::new(InMemory::new());
    let manifests = ManifestStore::new(Arc::clone(&store), Access::Write);
    let mut previous: Option<Manifest> = None;
    for (version, replay_from, claim) in
        [(30, 4, false), (40, 5, false), (40, 5, true), (50, 6, false), (60, 7, false), (70, 8, false)]
    {
        let mut next = match &previous {
            None => Manifest { number: ManifestNumber(1), ..sound() },
            Some(previous) => successor(previous),
        };
        next.version = CommitVersion(version);
        next.replay_from = WalNumber(replay_from);
        next.is_claim = claim;
        next.settled = Some(ObjectId { epoch: Epoch(2), sequence: version });
        manifests.write(&next, previous.as_ref()).await.unwrap();
        previous = Some(next);
    }
    (store, manifests, (1..=6).map(|number| (ManifestNumber(number), 0)).collect())
}

fn retained(horizon: u64, versions: &[u64]) -> Retained {
    Retained {
        horizon: CommitVersion(horizon),
        versions: versions.iter().copied().map(CommitVersion).collect(),
    }
}

/// First manifest, manifests that go, first object of the log.
async fn start(first: u64, oldest: u64, retained: &Retained) -> (u64, Vec<u64>, u64) {
    let (_, manifests, published) = six().await;
    let choice = (ManifestNumber(first), ManifestNumber(oldest));
    let start = Roots::default().start(&manifests, &published, choice, retained).await.unwrap();
    // Each names the same.
    assert!(start.named.contains(segment_entry(1, 0).segment.id));
    let version = manifests.read(start.manifest).await.unwrap().version;
    assert_eq!(start.settled, Some(ObjectId { epoch: Epoch(2), sequence: version.0 }));
    (start.manifest.0, start.replaced.iter().map(|number| number.0).collect(), start.wal_from.0)
}

#[tokio::test]
async fn all_before_the_first_go_but_claims() {
    assert_eq!(start(6, 1, &retained(70, &[])).await, (6, vec![1, 2, 4, 5], 8));
    assert_eq!(start(4, 1, &retained(99, &[])).await, (4, vec![1, 2], 6));
    assert_eq!(start(1, 1, &retained(99, &[])).await, (1, vec![], 4));
}

#[tokio::test]
async fn from_the_horizon_on_everything_stays() {
    for (horizon, kept) in [
        (71, (6, vec![1, 2, 4, 5], 8)),
        (70, (6, vec![1, 2, 4, 5], 8)),
        (60, (5, vec![1, 2, 4], 7)),
        (55, (5, vec![1, 2, 4], 7)),
        (41, (4, vec![1, 2], 6)),
        (40, (2, vec![1], 5)),
        (0, (1, vec![], 4)),
    ] {
        assert_eq!(start(6, 1, &retained(horizon, &[])).await, kept, "horizon {horizon}");
    }
    // Not below the boundary: what was there has been collected.
    assert_eq!(start(6, 4, &retained(35, &[])).await, (4, vec![1, 2], 6));
}

#[tokio::test]
async fn a_retained_version_keeps_the_manifest_it_is_read_from() {
    // Its table is flushed to 25 only, so that what came after is still in the log.
    for (versions, kept) in [
        (vec![45], (6, vec![1, 2, 5], 6)),
        (vec![50], (6, vec![1, 2, 5], 6)),
        (vec![40], (6, vec![1, 4, 5], 5)),
        (vec![10], (6, vec![2, 4, 5], 8)),
        (vec![31, 58], (6, vec![1, 4], 5)),
        (vec![65], (6, vec![1, 2, 4, 5], 8)),
        (vec![1_000], (6, vec![1, 2, 4, 5], 8)),
    ] {
        assert_eq!(start(6, 1, &retained(70, &versions)).await, kept, "versions {versions:?}");
        // Also when the boundary has passed it.
        assert_eq!(start(6, 6, &retained(70, &versions)).await, kept, "versions {versions:?}");
    }
}

#[tokio::test]
async fn a_manifest_that_cannot_be_read_stays_and_starts_nothing() {
    let (store, manifests, published) = six().await;
    let damage = async |number| {
        let path = Path::from(manifest_path(ManifestNumber(number)));
        store.put(&path, b"damaged".to_vec().into()).await.unwrap();
    };
    damage(2).await;
    damage(4).await;
    let choice = (ManifestNumber(6), ManifestNumber(1));
    let mut roots = Roots::default();
    let start = roots.start(&manifests, &published, choice, &retained(70, &[])).await.unwrap();
    assert_eq!(start.replaced, [ManifestNumber(1), ManifestNumber(5)].into());
    let start = roots.start(&manifests, &published, choice, &retained(45, &[])).await.unwrap();
    assert_eq!(start.manifest, ManifestNumber(5));
    assert_eq!(start.replaced, [ManifestNumber(1)].into());
    damage(6).await;
    let error = roots.start(&manifests, &published, choice, &retained(70, &[])).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Corrupt);
}

#[tokio::test]
async fn manifests_are_read_once() {
    let (store, manifests, mut published) = six().await;
    let choice = (ManifestNumber(6), ManifestNumber(1));
    let mut roots = Roots::default();
    roots.start(&manifests, &published, choice, &retained(70, &[])).await.unwrap();
    let read = |roots: &Roots| roots.0.keys().map(|number| number.0).collect::<Vec<_>>();
    assert_eq!(read(&roots), [1, 2, 3, 4, 5]);
    for number in 1..=5 {
        store.delete(&Path::from(manifest_path(ManifestNumber(number)))).await.unwrap();
    }
    let start = roots.start(&manifests, &published, choice, &retained(70, &[])).await.unwrap();
    assert_eq!(start.replaced.len(), 4);
    published.remove(&ManifestNumber(4));
    roots.keep(&published);
    assert_eq!(read(&roots), [1, 2, 3, 5]);
}

#[tokio::test]
async fn a_manifest_names_its_leaves_and_what_stands_in_them() {
    let store: Arc<dyn ObjectStore> = Arc::new(InMemory::new());
    let manifests = ManifestStore::new(Arc::clone(&store), Access::Write);
    let ids = ObjectIds::new(Epoch(3));
    let entries: Vec<_> = (1..=2_000).map(|n| segment_entry(n, n * 10)).collect();
    let list = manifests.store_segments(entries.clone(), None, &ids).await.unwrap();
    let mut manifest = sound();
    manifest.tables[0].segments = list;
    let leaf = leaves(&manifest)[0].clone();

    let mut named = Named::default();
    named.add_root(&manifest);
    assert!(named.contains(leaf.id) && !named.contains(entries[0].segment.id));
    named.add_manifest(&manifests, &manifest).await.unwrap();
    let mut all = entries.iter().flat_map(|entry| [entry.segment.id, entry.deletes[0].id]);
    assert!(all.all(|id| named.contains(id)));
    assert!(!named.contains(ids.next()));
    // A leaf is read once.
    store.delete(&Path::from(format!("manifest/leaf/{}", leaf.id))).await.unwrap();
    named.add_manifest(&manifests, &manifest).await.unwrap();
    let error = Named::default().add_manifest(&manifests, &manifest).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Corrupt);
}
