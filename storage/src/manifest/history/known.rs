//! Which objects of `history` may hold a commit, as its writer knows without asking the store: an id that no commit had before costs
//! no request.
//!
//! Owns: fingerprints of the ids in the objects, 32 bits each. They rule objects out; those they do not are read, so that a chance
//! likeness costs requests and never an answer. Does not own: bytes of objects (`history`), commits that are in none yet
//! (`database::order`).
//!
//! Nothing is kept until somebody asks for an id. Then the objects are listed and read, once; those of later checkpoints are added
//! as they are written. Memory: 4 bytes for each commit of the last 25 hours, 64 MiB at most ([`IDS_MAX`]), and 16 for each object.
//! Beyond that the oldest objects have no fingerprints, and are read for each id that is in no younger one.
//!
//! # What happens at the same time
//! - *A checkpoint moves ids out of the log.* It puts the object, adds it here, publishes the manifest, and only then are the ids
//!   dropped from those of the log. Who asks looks there first and here second, so one of the two has it.
//! - *A checkpoint puts an object while the others are listed.* What is asked for is noted before the listing begins. An object whose
//!   checkpoint adds it afterwards is known by that; one whose checkpoint was not told to add it stood before the listing began, and
//!   where the listing is old it is among the numbers that are asked for: the newest manifest's, or the one after it.
//! - *Another writer takes over after the objects were read.* What it commits is not known here. But whoever finds nothing goes on to
//!   commit, meets its fence and has changed nothing. One that knows of its fence asks the store instead.
//! - *This writer has taken over.* It begins with nothing: what it read as a follower may have been replaced since, by an attempt at the
//!   same manifest with more commits. From its claim on only its own objects come, but for one: that of an older writer's last checkpoint,
//!   under the number of the claim, may come or be replaced at any time. All its commits stand below the fence, and after the manifest
//!   before the claim: they were replayed, so the log's ids have them until an own object has.
//! - *Objects are collected.* A fingerprint leads to nothing then, and the id is free, as it is for everybody. Objects that are older
//!   than whatever is kept are forgotten at the next checkpoint.
//! - *An object cannot be read, or is missing.* Then nobody here says "never committed": asking fails, until it can be read or would have been
//!   collected. What was read before that stays, so a statement that is cancelled or fails in the middle leaves less to its successor. What must
//!   be there is told by the manifest that was the newest when the objects were listed; later ones are this writer's own.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use futures::{StreamExt, TryStreamExt};
use object_store::ObjectStore;
use xxhash_rust::xxh3::xxh3_64;

use super::{CommitFound, Covered, KEPT_FOR, PARALLEL_READS, Recorded, numbered, read, search};
use crate::error::{Error, Result};
use crate::id::{CommitId, ManifestNumber};

/// Most fingerprints kept: 64 MiB.
const IDS_MAX: usize = 16 << 20;
/// Objects whose fingerprints are kept together have at most so many ids,
const SPAN_IDS: usize = 64 << 10;
/// and are at most so many: all of them are read for an id that one may have.
const SPAN_OBJECTS: usize = 16;
/// Collections spare an object for an hour longer than it is promised to be there.
const FORGOTTEN_AFTER: Duration = KEPT_FOR.saturating_add(Duration::from_secs(3600));

/// An object's number, and when it was written, µs since 1970 UTC.
type Object = (ManifestNumber, i64);

/// Reading the objects for the first time.
#[derive(Debug)]
struct Unread {
    /// Still to be read, ascending.
    objects: Vec<Object>,
    /// What the others hold.
    covered: Covered,
    /// What all must hold.
    recorded: Recorded,
    /// Whether some are not read, for want of room.
    skips: bool,
}

/// See the module.
#[derive(Debug)]
pub(crate) struct KnownCommits {
    /// None: nobody has asked yet.
    spans: Mutex<Option<Spans>>,
    /// None: not listed yet. Held by whoever reads objects.
    unread: tokio::sync::Mutex<Option<Unread>>,
    /// Whether every object is in a span, and none is missing.
    complete: AtomicBool,
    ids_max: usize,
}

impl Default for KnownCommits {
    fn default() -> Self {
        Self::with_ids_max(IDS_MAX)
    }
}

impl KnownCommits {
    fn with_ids_max(ids_max: usize) -> Self {
        Self {
            spans: Mutex::default(),
            unread: tokio::sync::Mutex::default(),
            complete: false.into(),
            ids_max,
        }
    }

    fn held(&self) -> MutexGuard<'_, Option<Spans>> {
        self.spans.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The object beside `manifest` stands, and holds `commits`. To be called before anybody else lets go of them.
    pub(crate) fn add(&self, manifest: ManifestNumber, commits: &[(CommitId, i64)], now_us: i64) {
        let mut held = self.held();
        let Some(spans) = &mut *held else { return };
        spans.forget(now_us);
        spans.add(&[(manifest, now_us)], commits.iter().map(|(id, _)| fingerprint(*id)).collect());
    }

    /// The commit of that id in an object of `history`. `recorded` is what this writer's newest manifest says of them.
    ///
    /// # Errors
    /// As [`find`](super::find).
    pub(crate) async fn find(
        &self,
        store: &dyn ObjectStore,
        recorded: &Recorded,
        id: CommitId,
        now_us: i64,
    ) -> Result<Option<CommitFound>> {
        // Before the search: what makes it complete is searched then.
        let complete = self.complete.load(Ordering::Acquire);
        let found = search(store, self.candidates(id), id, &mut Covered::default()).await?;
        if complete || found.is_some() {
            return Ok(found);
        }
        self.load(store, recorded, now_us).await?;
        search(store, self.candidates(id), id, &mut Covered::default()).await
    }

    /// Objects that may have a commit of that id, newest first.
    fn candidates(&self, id: CommitId) -> Vec<ManifestNumber> {
        let fingerprint = fingerprint(id);
        let held = self.held();
        let spans = held.iter().flat_map(|spans| &spans.spans).filter(|span| span.may_have(fingerprint));
        let mut numbers: Vec<ManifestNumber> =
            spans.flat_map(|span| span.objects.iter().map(|(number, _)| *number)).collect();
        numbers.sort_unstable_by(|a, b| b.cmp(a));
        numbers.dedup();
        numbers
    }

    async fn load(&self, store: &dyn ObjectStore, recorded: &Recorded, now_us: i64) -> Result<()> {
        let mut held = self.unread.lock().await;
        // From here on checkpoints add what they write.
        self.change(|_| {});
        if held.is_none() {
            let listed = numbered(store, recorded.manifest()).await?.into_iter();
            let objects = listed.map(|(number, written_us)| (number, written_us.unwrap_or(now_us))).collect();
            let (covered, recorded) = (Covered::default(), recorded.clone());
            *held = Some(Unread { objects, covered, recorded, skips: false });
        }
        let Some(unread) = &mut *held else { return Ok(()) };
        while !unread.objects.is_empty() {
            let from = unread.objects.len().saturating_sub(SPAN_OBJECTS);
            if self.change(|spans| spans.has_room()) {
                let (objects, fingerprints) =
                    read_all(store, &unread.objects[from..], &mut unread.covered).await?;
                self.change(|spans| spans.add(&objects, fingerprints));
            } else {
                unread.skips = true;
                self.change(|spans| spans.add_unknown(&unread.objects[from..]));
            }
            unread.objects.truncate(from);
        }
        if !unread.skips {
            for (number, commits) in unread.covered.complete(store, &unread.recorded, now_us).await? {
                let fingerprints = commits.ids().map(fingerprint).collect();
                self.change(|spans| spans.add(&[(number, now_us)], fingerprints));
            }
        }
        self.complete.store(true, Ordering::Release);
        Ok(())
    }

    fn change<T>(&self, change: impl FnOnce(&mut Spans) -> T) -> T {
        change(self.held().get_or_insert_with(|| Spans { spans: Vec::new(), ids_max: self.ids_max }))
    }
}

/// Those of `objects` that are there, with the fingerprints of their ids; `covered` is told of them.
async fn read_all(
    store: &dyn ObjectStore,
    objects: &[Object],
    covered: &mut Covered,
) -> Result<(Vec<Object>, Vec<u32>)> {
    let reads = objects
        .iter()
        .copied()
        .map(|object| async move { Ok::<_, Error>((object, read(store, object.0).await?)) });
    let mut reads = futures::stream::iter(reads).buffered(PARALLEL_READS);
    let (mut there, mut fingerprints) = (Vec::new(), Vec::new());
    while let Some((object, commits)) = reads.try_next().await? {
        if let Some(commits) = commits {
            there.push(object);
            covered.add(object.0, &commits);
            fingerprints.extend(commits.ids().map(fingerprint));
        }
    }
    Ok((there, fingerprints))
}

fn fingerprint(id: CommitId) -> u32 {
    // Each half of this hash is a good one; not so of ids, which are what clients make them.
    xxh3_64(id.0.as_bytes()) as u32
}

/// Everything that is known.
#[derive(Debug)]
struct Spans {
    spans: Vec<Span>,
    ids_max: usize,
}

impl Spans {
    fn ids(&self) -> usize {
        self.spans.iter().filter_map(|span| span.fingerprints.as_ref()).map(Vec::len).sum()
    }

    /// Whether there may be room for the fingerprints of older objects.
    fn has_room(&self) -> bool {
        self.ids() < self.ids_max && self.spans.iter().all(|span| span.fingerprints.is_some())
    }

    fn add(&mut self, objects: &[Object], fingerprints: Vec<u32>) {
        if objects.is_empty() {
            return;
        }
        match self.spans.last_mut() {
            Some(last) if last.takes(objects, &fingerprints) => last.add(objects, fingerprints),
            _ => {
                let mut span = Span { objects: Vec::new(), fingerprints: Some(Vec::new()) };
                span.add(objects, fingerprints);
                self.spans.push(span);
            }
        }
        while self.ids() > self.ids_max {
            let known = self.spans.iter_mut().filter(|span| span.fingerprints.is_some());
            let Some(oldest) = known.min_by_key(|span| span.newest_us()) else { return };
            oldest.fingerprints = None;
        }
    }

    /// Adds objects for whose fingerprints there is no room.
    fn add_unknown(&mut self, objects: &[Object]) {
        self.spans.push(Span { objects: objects.to_vec(), fingerprints: None });
    }

    /// Lets go of objects that are not kept any more.
    fn forget(&mut self, now_us: i64) {
        let kept_us = i64::try_from(FORGOTTEN_AFTER.as_micros()).unwrap_or(i64::MAX);
        self.spans.retain(|span| now_us.saturating_sub(span.newest_us()) <= kept_us);
    }
}

/// Some objects, most of them neighbours.
#[derive(Debug)]
struct Span {
    objects: Vec<Object>,
    /// Ascending; None: there is no room for them.
    fingerprints: Option<Vec<u32>>,
}

impl Span {
    fn newest_us(&self) -> i64 {
        self.objects.iter().map(|(_, written_us)| *written_us).max().unwrap_or(i64::MIN)
    }

    fn may_have(&self, fingerprint: u32) -> bool {
        self.fingerprints.as_ref().is_none_or(|known| known.binary_search(&fingerprint).is_ok())
    }

    fn takes(&self, objects: &[Object], fingerprints: &[u32]) -> bool {
        self.objects.len() + objects.len() <= SPAN_OBJECTS
            && self.fingerprints.as_ref().is_some_and(|known| known.len() + fingerprints.len() <= SPAN_IDS)
    }

    fn add(&mut self, objects: &[Object], fingerprints: Vec<u32>) {
        for object in objects {
            // An object that was replaced has all that it had before.
            self.objects.retain(|(number, _)| *number != object.0);
            self.objects.push(*object);
        }
        if let Some(known) = &mut self.fingerprints {
            known.extend(fingerprints);
            known.sort_unstable();
            known.dedup();
            known.shrink_to_fit();
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::sync::Arc;

    use object_store::memory::InMemory;
    use object_store::path::Path;
    use object_store::{ObjectStoreExt, PutPayload};

    use super::super::{history_path, put};
    use super::*;
    use crate::error::ErrorKind;
    use crate::id::CommitVersion;
    use crate::manifest::{HistoryMark, Manifest};
    use crate::object::counting::CountingStore;

    const DAY_US: i64 = 24 * 3_600_000_000;

    /// One writer's objects, each with some commits whose ids are their versions.
    struct Bucket {
        store: CountingStore,
        known: KnownCommits,
        newest: ManifestNumber,
        ids: u64,
    }

    fn id(n: u64) -> CommitId {
        CommitId(uuid::Uuid::from_u128(n.into()))
    }

    impl Bucket {
        fn new(ids_max: usize) -> Self {
            let store = CountingStore::new(Arc::new(InMemory::new()));
            let known = KnownCommits::with_ids_max(ids_max);
            Self { store, known, newest: ManifestNumber(0), ids: 0 }
        }

        /// A checkpoint with so many commits.
        async fn checkpoint(&mut self, commits: u64, now_us: i64) {
            self.newest = self.newest.next();
            let first = self.ids + 1;
            self.ids += commits;
            let commits: Vec<(CommitId, i64)> = (first..=self.ids).map(|n| (id(n), 7)).collect();
            put(&self.store, self.newest, CommitVersion(first), &commits).await.unwrap();
            self.known.add(self.newest, &commits, now_us);
        }

        async fn find(&self, n: u64) -> Result<Option<u64>> {
            let recorded = Recorded::nothing(self.newest);
            let found = self.known.find(&self.store, &recorded, id(n), now()).await?;
            Ok(found.map(|found| found.version.0))
        }

        async fn find_all(&self) {
            for n in 1..=self.ids {
                assert_eq!(self.find(n).await.unwrap(), Some(n));
            }
        }
    }

    fn now() -> i64 {
        crate::database::now_us()
    }

    #[tokio::test]
    async fn an_id_that_nobody_had_costs_nothing_after_the_first() {
        let mut bucket = Bucket::new(IDS_MAX);
        for _ in 0..40 {
            bucket.checkpoint(3, now()).await;
        }
        assert!(bucket.known.held().is_none());
        bucket.store.count();
        assert_eq!(bucket.find(1_000).await.unwrap(), None);
        // 40 objects, and the one after the newest, which may be under way.
        assert_eq!(bucket.store.count(), 41);
        for n in 1_001..1_100 {
            bucket.checkpoint(1, now()).await;
            bucket.store.count();
            assert_eq!(bucket.find(n).await.unwrap(), None);
            assert_eq!(bucket.store.count(), 0);
        }
        bucket.find_all().await;
        let spans = bucket.known.held().as_ref().unwrap().spans.len();
        assert!(spans <= 139 / SPAN_OBJECTS + 2, "{spans}");
    }

    #[tokio::test]
    async fn memory_is_bounded_and_answers_stay_the_same() {
        let mut bucket = Bucket::new(100);
        for _ in 0..120 {
            bucket.checkpoint(2, now()).await;
        }
        bucket.store.count();
        assert_eq!(bucket.find(1_000).await.unwrap(), None);
        // Four spans are read, the fourth of which has no room: that once more, and those that were not read.
        let (objects, read) = (121, 4 * SPAN_OBJECTS);
        assert_eq!(bucket.store.count(), read + objects - 3 * SPAN_OBJECTS);
        assert_eq!(bucket.find(240).await.unwrap(), Some(240));
        assert!(bucket.store.count() <= SPAN_OBJECTS);
        bucket.find_all().await;
        for _ in 0..60 {
            bucket.checkpoint(2, now()).await;
            let ids = bucket.known.held().as_ref().unwrap().ids();
            assert!((60..=100).contains(&ids), "{ids}");
        }
        // More in one than there is room for.
        bucket.checkpoint(101, now()).await;
        assert_eq!(bucket.known.held().as_ref().unwrap().ids(), 0);
        bucket.checkpoint(3, now()).await;
        for n in [1, 200, 300, 360, 361, 461, 462, 464] {
            assert_eq!(bucket.find(n).await.unwrap(), Some(n));
        }
        assert_eq!(bucket.find(465).await.unwrap(), None);
    }

    #[tokio::test]
    async fn objects_that_are_collected_are_forgotten() {
        let mut bucket = Bucket::new(IDS_MAX);
        assert_eq!(bucket.find(1_000).await.unwrap(), None);
        bucket.checkpoint(5, now()).await;
        for number in [1, 2] {
            // Gone in the store first, and here a day later.
            bucket.store.delete(&Path::from(history_path(ManifestNumber(number)))).await.unwrap();
            assert_eq!(bucket.find(1).await.unwrap(), None);
            assert_eq!(bucket.known.candidates(id(1)).is_empty(), number == 2);
            bucket.checkpoint(5, now() + 2 * DAY_US).await;
        }
        assert_eq!(bucket.find(12).await.unwrap(), Some(12));
    }

    #[tokio::test]
    async fn what_could_not_be_read_is_read_again() {
        let mut bucket = Bucket::new(IDS_MAX);
        for _ in 0..40 {
            bucket.checkpoint(2, now()).await;
        }
        let path = Path::from(history_path(ManifestNumber(10)));
        let whole = bucket.store.get(&path).await.unwrap().bytes().await.unwrap();
        bucket.store.put(&path, PutPayload::from_static(b"damaged")).await.unwrap();
        for _ in 0..2 {
            assert_eq!(bucket.find(1_000).await.unwrap_err().kind(), ErrorKind::Corrupt);
        }
        // What younger objects have is known all the same, and they are not read again.
        assert_eq!(bucket.find(80).await.unwrap(), Some(80));
        bucket.store.put(&path, whole.into()).await.unwrap();
        bucket.store.count();
        assert_eq!(bucket.find(1_000).await.unwrap(), None);
        assert!(bucket.store.count() < 40);
        bucket.find_all().await;
    }

    #[tokio::test]
    async fn while_one_is_missing_no_id_is_unknown() {
        let mut bucket = Bucket::new(IDS_MAX);
        for _ in 0..40 {
            bucket.checkpoint(2, now()).await;
        }
        let path = Path::from(history_path(ManifestNumber(10)));
        let whole = bucket.store.get(&path).await.unwrap().bytes().await.unwrap();
        bucket.store.delete(&path).await.unwrap();
        let manifest = |history| Manifest {
            number: ManifestNumber(40),
            version: CommitVersion(80),
            history,
            ..crate::manifest::invariants::tests::sound()
        };
        let recorded =
            Recorded::of(&manifest(vec![HistoryMark { version: CommitVersion(1), time_us: now() }]));
        for n in [19, 20, 1_000] {
            let found = bucket.known.find(&bucket.store, &recorded, id(n), now()).await;
            assert_eq!(found.unwrap_err().kind(), ErrorKind::Corrupt, "{n}");
        }
        let found = bucket.known.find(&bucket.store, &recorded, id(80), now()).await.unwrap();
        assert_eq!(found.unwrap().version, CommitVersion(80));
        // Nobody would miss it a day later.
        let later = bucket.known.find(&bucket.store, &recorded, id(1_000), now() + DAY_US).await;
        assert_eq!(later.unwrap(), None);

        let again = KnownCommits::default();
        let found = again.find(&bucket.store, &recorded, id(20), now()).await;
        assert_eq!(found.unwrap_err().kind(), ErrorKind::Corrupt);
        bucket.store.put(&path, whole.into()).await.unwrap();
        let found = again.find(&bucket.store, &recorded, id(20), now()).await.unwrap();
        assert_eq!(found.unwrap().version, CommitVersion(20));
        bucket.store.count();
        assert_eq!(again.find(&bucket.store, &recorded, id(1_000), now()).await.unwrap(), None);
        assert_eq!(bucket.store.count(), 0);
    }

    #[tokio::test]
    async fn an_object_that_is_replaced_has_more() {
        let mut bucket = Bucket::new(IDS_MAX);
        assert_eq!(bucket.find(1).await.unwrap(), None);
        bucket.checkpoint(2, now()).await;
        // The manifest was not written: the same number once more.
        bucket.newest = ManifestNumber(0);
        bucket.ids = 0;
        bucket.checkpoint(4, now()).await;
        bucket.find_all().await;
        assert_eq!(bucket.find(5).await.unwrap(), None);
    }
}
