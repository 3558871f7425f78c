#![allow(clippy::unwrap_used)]

use std::sync::Mutex;

use async_trait::async_trait;
use futures::stream::BoxStream;
use object_store::memory::InMemory;
use object_store::{
    CopyOptions, GetOptions, GetResult, ListResult, MultipartUpload, ObjectMeta, PutMultipartOptions,
    PutOptions, PutPayload, PutResult,
};

use super::*;
use crate::id::{CommitId, Epoch, ObjectIds};
use crate::manifest::codec::decode_leaf;
use crate::manifest::invariants::tests::{segment_entry, sound, successor};
use crate::manifest::model::{SegmentEntry, SegmentList};

fn first() -> Manifest {
    let mut manifest = sound();
    manifest.number = ManifestNumber(1);
    manifest
}

/// What the next put answers instead of the truth.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Lie {
    /// Written, then the reply is lost.
    LostReply,
    /// Written, and the client's own retry says it exists.
    ExistsAfterOwnWrite,
    /// "Exists" with nothing written.
    ExistsButAbsent,
    /// Failed with nothing written.
    Failed,
    /// Our own store failed after the bytes were visible (a failed sync).
    FailedSync,
}

/// An in-memory store that lies as told, once per entry.
#[derive(Debug, Default)]
struct Lying {
    inner: InMemory,
    lies: Mutex<Vec<Lie>>,
    gets: Mutex<usize>,
}

impl std::fmt::Display for Lying {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("lying")
    }
}

#[async_trait]
impl ObjectStore for Lying {
    async fn put_opts(
        &self,
        path: &Path,
        payload: PutPayload,
        options: PutOptions,
    ) -> object_store::Result<PutResult> {
        let lie = self.lies.lock().unwrap().pop();
        let exists = || object_store::Error::AlreadyExists { path: path.to_string(), source: "told".into() };
        let failed = || object_store::Error::Generic { store: "lying", source: "connection reset".into() };
        match lie {
            None => return self.inner.put_opts(path, payload, options).await,
            Some(Lie::ExistsButAbsent) => return Err(exists()),
            Some(Lie::Failed) => return Err(failed()),
            Some(Lie::LostReply | Lie::ExistsAfterOwnWrite | Lie::FailedSync) => {}
        }
        self.inner.put_opts(path, payload, options).await?;
        Err(match lie {
            Some(Lie::ExistsAfterOwnWrite) => exists(),
            Some(Lie::FailedSync) => Error::new(ErrorKind::Unavailable, "sync failed").into(),
            _ => failed(),
        })
    }

    async fn put_multipart_opts(
        &self,
        path: &Path,
        options: PutMultipartOptions,
    ) -> object_store::Result<Box<dyn MultipartUpload>> {
        self.inner.put_multipart_opts(path, options).await
    }

    async fn get_opts(&self, path: &Path, options: GetOptions) -> object_store::Result<GetResult> {
        *self.gets.lock().unwrap() += 1;
        self.inner.get_opts(path, options).await
    }

    fn delete_stream(
        &self,
        paths: BoxStream<'static, object_store::Result<Path>>,
    ) -> BoxStream<'static, object_store::Result<Path>> {
        self.inner.delete_stream(paths)
    }

    fn list(&self, prefix: Option<&Path>) -> BoxStream<'static, object_store::Result<ObjectMeta>> {
        self.inner.list(prefix)
    }

    async fn list_with_delimiter(&self, prefix: Option<&Path>) -> object_store::Result<ListResult> {
        self.inner.list_with_delimiter(prefix).await
    }

    async fn copy_opts(&self, from: &Path, to: &Path, options: CopyOptions) -> object_store::Result<()> {
        self.inner.copy_opts(from, to, options).await
    }
}

fn lying(lies: &[Lie]) -> (Arc<Lying>, ManifestStore) {
    let store = Arc::new(Lying { lies: Mutex::new(lies.to_vec()), ..Lying::default() });
    (store.clone(), ManifestStore::new(store, Access::Write))
}

async fn write_many(manifests: &ManifestStore, count: u64) -> Manifest {
    let mut last = first();
    manifests.write(&last, None).await.unwrap();
    for _ in 1..count {
        let next = successor(&last);
        manifests.write(&next, Some(&last)).await.unwrap();
        last = next;
    }
    last
}

#[tokio::test]
async fn what_is_written_is_read() {
    let (_, manifests) = lying(&[]);
    let last = write_many(&manifests, 3).await;
    assert_eq!(manifests.read(ManifestNumber(3)).await.unwrap(), last);
    assert_eq!(manifests.read(ManifestNumber(4)).await.unwrap_err().kind(), ErrorKind::NotFound);
}

#[tokio::test]
async fn replies_that_lie_are_settled_by_reading_back() {
    for lies in [vec![Lie::LostReply], vec![Lie::ExistsAfterOwnWrite], vec![Lie::ExistsButAbsent; 3]] {
        let (store, manifests) = lying(&lies);
        manifests.write(&first(), None).await.unwrap();
        assert!(store.lies.lock().unwrap().is_empty());
        assert_eq!(manifests.read(ManifestNumber(1)).await.unwrap(), first());
    }
    for lie in [Lie::Failed, Lie::FailedSync] {
        let (_, manifests) = lying(&[lie]);
        let error = manifests.write(&first(), None).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Unavailable, "{lie:?}");
        manifests.write(&first(), None).await.unwrap();
    }
}

#[tokio::test]
async fn another_writers_manifest_fences() {
    for lies in [vec![], vec![Lie::Failed]] {
        let (store, manifests) = lying(&[]);
        manifests.write(&first(), None).await.unwrap();
        *store.lies.lock().unwrap() = lies;
        let mut ours = first();
        ours.commit_id = CommitId(uuid::Uuid::from_u128(77));
        assert_eq!(manifests.write(&ours, None).await.unwrap_err().kind(), ErrorKind::Fenced);
        assert_eq!(manifests.read(ManifestNumber(1)).await.unwrap(), first());
    }
}

#[tokio::test]
async fn a_broken_invariant_is_never_written() {
    let (store, manifests) = lying(&[]);
    let mut bad = first();
    bad.catalog.schemas.clear();
    assert_eq!(manifests.write(&bad, None).await.unwrap_err().kind(), ErrorKind::Internal);
    assert_eq!(manifests.write(&sound(), None).await.unwrap_err().kind(), ErrorKind::Internal);
    assert_eq!(manifests.newest(ManifestNumber(0)).await.unwrap(), None);
    assert_eq!(store.inner.list(None).count_objects().await, 0);
}

trait CountObjects {
    async fn count_objects(self) -> usize;
}

impl CountObjects for BoxStream<'static, object_store::Result<ObjectMeta>> {
    async fn count_objects(self) -> usize {
        futures::StreamExt::count(self).await
    }
}

#[tokio::test]
async fn the_newest_is_found_from_every_hint() {
    let (store, manifests) = lying(&[]);
    assert_eq!(manifests.newest(ManifestNumber(0)).await.unwrap(), None);
    for count in [1, 2, 3, 40] {
        let (_, manifests) = lying(&[]);
        let last = write_many(&manifests, count).await;
        for hint in 0..=count {
            assert_eq!(manifests.newest(ManifestNumber(hint)).await.unwrap().as_ref(), Some(&last));
        }
    }
    let last = write_many(&manifests, 1000).await;
    *store.gets.lock().unwrap() = 0;
    assert_eq!(manifests.newest(ManifestNumber(1)).await.unwrap(), Some(last.clone()));
    assert!(*store.gets.lock().unwrap() < 25, "probes grow with the logarithm");
    // Collected below 900; a hint that is gone or too high still finds it.
    for n in 1..900 {
        store.inner.delete(&Path::from(manifest_path(ManifestNumber(n)))).await.unwrap();
    }
    for hint in [0, 5, 900, 999, 1000, 5000] {
        assert_eq!(manifests.newest(ManifestNumber(hint)).await.unwrap().as_ref(), Some(&last));
    }
}

#[tokio::test]
async fn a_damaged_newest_is_named_and_not_skipped() {
    let (store, manifests) = lying(&[]);
    write_many(&manifests, 2).await;
    let path = Path::from(manifest_path(ManifestNumber(2)));
    store.inner.put(&path, "CAIRNMAN".into()).await.unwrap();
    let error = manifests.newest(ManifestNumber(0)).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Corrupt);
    assert!(error.message().contains("manifest/00000000000000000002"));
    let other = store.inner.get(&Path::from(manifest_path(ManifestNumber(1)))).await.unwrap();
    store.inner.put(&path, other.bytes().await.unwrap().into()).await.unwrap();
    assert_eq!(manifests.newest(ManifestNumber(0)).await.unwrap_err().kind(), ErrorKind::Corrupt);
}

fn leaf_ids(list: &SegmentList) -> Vec<(String, u64)> {
    match list {
        SegmentList::Leaves(leaves) => leaves.iter().map(|l| (leaf_path(l.id), l.segments)).collect(),
        SegmentList::Inline(_) => panic!("leaves expected"),
    }
}

#[tokio::test]
async fn few_segments_stand_in_the_root_and_many_in_leaves_rewritten_where_changed() {
    let (store, manifests) = lying(&[]);
    let ids = ObjectIds::new(Epoch(3));
    let few: Vec<_> = (0..10).map(|n| segment_entry(n, n * 10)).collect();
    let list = manifests.store_segments(few.clone(), None, &ids).await.unwrap();
    assert_eq!(list, SegmentList::Inline(few.clone()));
    assert_eq!(manifests.load_segments(&list).await.unwrap(), few);

    let mut many: Vec<SegmentEntry> = (0..9000).map(|n| segment_entry(n, n * 10)).collect();
    let one = manifests.store_segments(many.clone(), Some(&list), &ids).await.unwrap();
    assert_eq!(leaf_ids(&one).iter().map(|l| l.1).collect::<Vec<_>>(), [4096, 4096, 808]);
    assert_eq!(manifests.load_segments(&one).await.unwrap(), many);

    // Unchanged: nothing is written.
    let puts = store.inner.list(None).count_objects().await;
    assert_eq!(manifests.store_segments(many.clone(), Some(&one), &ids).await.unwrap(), one);
    assert_eq!(store.inner.list(None).count_objects().await, puts);

    // Segments removed from the first leaf and added at the end: the middle leaf stays.
    many.drain(5..105);
    many.extend((9000..9010).map(|n| segment_entry(n, n * 10)));
    let two = manifests.store_segments(many.clone(), Some(&one), &ids).await.unwrap();
    let (before, after) = (leaf_ids(&one), leaf_ids(&two));
    assert_eq!(before[1], after[1]);
    assert_ne!(before[0], after[0]);
    assert_eq!(after.iter().map(|l| l.1).collect::<Vec<_>>(), [3996, 4096, 818]);
    assert_eq!(manifests.load_segments(&two).await.unwrap(), many);
    assert_eq!(store.inner.list(None).count_objects().await, puts + 2);

    // Grown past twice the size, and emptied.
    many.extend((9010..18000).map(|n| segment_entry(n, n * 10)));
    let three = manifests.store_segments(many.clone(), Some(&two), &ids).await.unwrap();
    assert_eq!(leaf_ids(&three).iter().map(|l| l.1).collect::<Vec<_>>(), [3996, 4096, 4096, 4096, 1616]);
    many.drain(0..3900);
    let four = manifests.store_segments(many.clone(), Some(&three), &ids).await.unwrap();
    assert_eq!(leaf_ids(&four)[1..], leaf_ids(&three)[2..]);
    assert_eq!(manifests.load_segments(&four).await.unwrap(), many);
}

#[tokio::test]
async fn a_leaf_that_is_not_the_one_named_is_damage() {
    let (store, manifests) = lying(&[Lie::LostReply, Lie::ExistsAfterOwnWrite, Lie::ExistsButAbsent]);
    let ids = ObjectIds::new(Epoch(3));
    let many: Vec<SegmentEntry> = (0..9000).map(|n| segment_entry(n, n * 10)).collect();
    let list = manifests.store_segments(many, None, &ids).await.unwrap();
    let leaves = leaf_ids(&list);
    let path = Path::from(leaves[0].0.clone());
    let other = store.inner.get(&Path::from(leaves[1].0.clone())).await.unwrap().bytes().await.unwrap();
    decode_leaf("x", &other).unwrap();
    store.inner.put(&path, other.into()).await.unwrap();
    let error = manifests.load_segments(&list).await.unwrap_err();
    assert!(error.kind() == ErrorKind::Corrupt && error.message().contains(&leaves[0].0), "{error}");
    store.inner.delete(&path).await.unwrap();
    let error = manifests.load_segments(&list).await.unwrap_err();
    assert!(error.kind() == ErrorKind::Corrupt && error.message().contains("missing"), "{error}");
}

#[tokio::test]
async fn a_table_is_checked_against_its_record() {
    let (_, manifests) = lying(&[]);
    let mut table = sound().tables.remove(0);
    assert_eq!(manifests.load_table(&table).await.unwrap().len(), 2);
    table.next_row_id.0 = 5;
    assert_eq!(manifests.load_table(&table).await.unwrap_err().kind(), ErrorKind::Corrupt);
}
