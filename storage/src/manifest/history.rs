//! Which commits had which ids: objects `history/<manifest>` beside manifests, for whoever was told "outcome unknown".
//!
//! Owns: their bytes, finding a commit in them, how long they are kept, which of them must be there (`covered`), which of them a writer need not
//! read (`known`). Does not own: the commits since the newest manifest, which stand in the log (`database::order`). Durable before the manifest
//! whose commits it holds.
//!
//! ```text
//! 0 [8] magic "CAIRNHIS"    8 u64 version of the first commit    16 u64 number of commits
//! 24 per commit, in order of dense versions: [16] id, i64 time in µs since 1970 UTC
//!    u32 crc32c of everything before
//! ```

mod covered;
mod known;

use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use bytes::Bytes;
use futures::{StreamExt, TryStreamExt};
use object_store::path::Path;
use object_store::{ObjectStore, ObjectStoreExt, PutMode, UpdateVersion};

use crate::error::{Error, ErrorKind, Result, is_later_form, newer};
use crate::id::{CommitId, CommitVersion, ManifestNumber};
use crate::object::{Put, put_if_absent, put_own};

pub(crate) use covered::{Covered, Recorded, marks};
pub(crate) use known::KnownCommits;

const MAGIC: &[u8; 8] = b"CAIRNHIS";
const HEADER_BYTES: usize = 24;
const COMMIT_BYTES: usize = 24;
/// How long a commit can be asked for after the checkpoint that has its rows.
pub const KEPT_FOR: Duration = Duration::from_secs(24 * 3600);
/// Objects read at the same time.
const PARALLEL_READS: usize = 8;
/// So many of the newest objects are asked for by number, whatever a listing shows,
const ASKED: u64 = 8;
/// and so many at most where it ends before those.
const ASKED_MAX: u64 = 32;
/// How often an object that an earlier attempt left is replaced while others of these attempts still land.
const REPLACE_ATTEMPTS: usize = 4;

/// A commit as its id finds it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CommitFound {
    /// Its id.
    pub commit_id: CommitId,
    /// Its version.
    pub version: CommitVersion,
    /// Its time, µs since 1970 UTC.
    pub time_us: i64,
}

/// Path of the object beside a manifest.
#[must_use]
pub(crate) fn history_path(manifest: ManifestNumber) -> String {
    format!("history/{:020}", manifest.0)
}

/// Writes the commits from `first` on, in order of versions, that `manifest` is the first to hold.
///
/// Created, or else put in place of exactly what was seen there: an earlier attempt at the same manifest, which had the first ones of
/// these commits only. What such an attempt sent and gave up can come late; it must not replace this object then, or commits of a
/// manifest that stands would not be found. What stands with the same commits may be of long ago, a process that died then: it is written anew,
/// or else it would be removed a day after that, and be missed (`covered`).
///
/// # Errors
/// The store's; `Unavailable` when earlier attempts land all the time.
pub(crate) async fn put(
    store: &dyn ObjectStore,
    manifest: ManifestNumber,
    first: CommitVersion,
    commits: &[(CommitId, i64)],
) -> Result<()> {
    let (path, bytes) = (Path::from(history_path(manifest)), encode(first, commits));
    for attempt in 0..REPLACE_ATTEMPTS {
        let stood = AtomicBool::new(false);
        let is_ours = |found: &[u8]| {
            let is_same = found == bytes;
            stood.store(is_same, Ordering::Relaxed);
            is_same
        };
        let put = put_if_absent(store, &path, bytes.clone(), is_ours).await?;
        if matches!(put, Put::Ours) && (attempt > 0 || !stood.into_inner()) {
            return Ok(());
        }
        let seen = match store.head(&path).await {
            Ok(meta) => UpdateVersion { e_tag: meta.e_tag, version: meta.version },
            Err(object_store::Error::NotFound { .. }) => continue,
            Err(error) => return Err(error.into()),
        };
        match store.put_opts(&path, bytes.clone().into(), PutMode::Update(seen).into()).await {
            Ok(_) => return Ok(()),
            // A directory: nothing comes late there.
            Err(object_store::Error::NotImplemented { .. }) => {
                return put_own(store, path.to_string(), bytes.into()).await;
            }
            // It changed meanwhile, or the answer to our own change was lost: what stands now tells.
            Err(
                object_store::Error::AlreadyExists { .. }
                | object_store::Error::Precondition { .. }
                | object_store::Error::NotFound { .. },
            ) => {}
            Err(error) => return Err(error.into()),
        }
    }
    Err(Error::new(ErrorKind::Unavailable, format!("{path} can't be replaced")).with_hint("try again"))
}

/// The commit of that id in the objects beside the manifests up to that of `recorded`.
///
/// # Errors
/// `Corrupt` or `Unsupported` when the commit is in none that can be read, and some can't or are missing; the store's.
pub(crate) async fn find(
    store: &dyn ObjectStore,
    recorded: &Recorded,
    id: CommitId,
    now_us: i64,
) -> Result<Option<CommitFound>> {
    let numbers = numbered(store, recorded.manifest()).await?.into_keys().rev().collect();
    let mut covered = Covered::default();
    if let Some(found) = search(store, numbers, id, &mut covered).await? {
        return Ok(Some(found));
    }
    let unlisted = covered.complete(store, recorded, now_us).await?;
    Ok(unlisted.iter().find_map(|(_, commits)| commits.find(id)))
}

/// The commit of that id in the first of the objects `numbers` that has it. `covered` is told of those before it.
///
/// # Errors
/// As [`find`], but for what is missing.
async fn search(
    store: &dyn ObjectStore,
    numbers: Vec<ManifestNumber>,
    id: CommitId,
    covered: &mut Covered,
) -> Result<Option<CommitFound>> {
    let objects = numbers.into_iter().map(|number| async move { (number, read(store, number).await) });
    let mut objects = futures::stream::iter(objects).buffered(PARALLEL_READS);
    let mut damaged = None;
    while let Some((number, commits)) = objects.next().await {
        match commits {
            Ok(Some(commits)) => {
                if let Some(found) = commits.find(id) {
                    return Ok(Some(found));
                }
                covered.add(number, &commits);
            }
            Ok(None) => {}
            // Another may have it. If none has, this one may: nobody may take the commit for one that never was.
            Err(error) if matches!(error.kind(), ErrorKind::Corrupt | ErrorKind::Unsupported) => {
                damaged.get_or_insert(error);
            }
            Err(error) => return Err(error),
        }
    }
    damaged.map_or(Ok(None), Err)
}

/// What the objects hold that can be read; one that is damaged holds nothing.
///
/// # Errors
/// `Unsupported` when a later Cairn wrote one; the store's.
pub(crate) async fn held(store: &dyn ObjectStore, recorded: &Recorded) -> Result<Covered> {
    let numbers: Vec<ManifestNumber> = numbered(store, recorded.manifest()).await?.into_keys().collect();
    let objects = numbers.into_iter().map(|number| async move { (number, read_whole(store, number).await) });
    let mut objects = futures::stream::iter(objects).buffered(PARALLEL_READS);
    let mut covered = Covered::default();
    while let Some((number, commits)) = objects.next().await {
        if let Some(commits) = commits? {
            covered.add(number, &commits);
        }
    }
    Ok(covered)
}

/// As [`read`]; None also when it is damaged.
async fn read_whole(store: &dyn ObjectStore, number: ManifestNumber) -> Result<Option<Commits>> {
    match read(store, number).await {
        Err(error) if error.kind() == ErrorKind::Corrupt => Ok(None),
        found => found,
    }
}

/// The object of that number; None: there is none, or it was collected.
async fn read(store: &dyn ObjectStore, number: ManifestNumber) -> Result<Option<Commits>> {
    let path = history_path(number);
    match store.get(&Path::from(path.as_str())).await {
        Ok(found) => Commits::parse(&path, &found.bytes().await?).map(Some),
        Err(object_store::Error::NotFound { .. }) => Ok(None),
        Err(error) => Err(error.into()),
    }
}

/// Objects that may be there, with the times they were written at; None: the listing does not show it.
///
/// A listing may lack what is new; what is new is asked for by number, that beside a manifest which is being written included.
async fn numbered(
    store: &dyn ObjectStore,
    newest: ManifestNumber,
) -> Result<BTreeMap<ManifestNumber, Option<i64>>> {
    let mut objects: BTreeMap<ManifestNumber, Option<i64>> =
        listed(store).await?.into_iter().map(|(number, written_us)| (number, Some(written_us))).collect();
    let shown = objects.last_key_value().map_or(0, |(number, _)| number.0);
    let from = shown.clamp(newest.0.saturating_sub(ASKED_MAX), newest.0.saturating_sub(ASKED)) + 1;
    for number in from..=newest.next().0 {
        objects.entry(ManifestNumber(number)).or_insert(None);
    }
    Ok(objects)
}

/// Removes objects that nobody can ask for any more.
///
/// # Errors
/// The store's.
pub(crate) async fn prune(store: &dyn ObjectStore, now_us: i64) -> Result<()> {
    for (number, written_us) in listed(store).await? {
        // 0: the store knows no times.
        if written_us != 0 && is_over(written_us, now_us) {
            match store.delete(&Path::from(history_path(number))).await {
                Ok(()) | Err(object_store::Error::NotFound { .. }) => {}
                Err(error) => return Err(error.into()),
            }
        }
    }
    Ok(())
}

/// Whether nobody can ask any more for what was written at `written_us`.
pub(crate) fn is_over(written_us: i64, now_us: i64) -> bool {
    now_us.saturating_sub(written_us) > i64::try_from(KEPT_FOR.as_micros()).unwrap_or(i64::MAX)
}

/// Version of the first commit of the object of that number, and how many it has, every byte of it checked; None: there is none.
///
/// # Errors
/// `Corrupt`; the store's.
pub(crate) async fn check(
    store: &dyn ObjectStore,
    number: ManifestNumber,
) -> Result<Option<(CommitVersion, u64)>> {
    let commits = read(store, number).await?;
    Ok(commits.map(|commits| (commits.first, commits.ids().count() as u64)))
}

/// Numbers with the times they were written at.
///
/// # Errors
/// The store's.
pub(crate) async fn listed(store: &dyn ObjectStore) -> Result<Vec<(ManifestNumber, i64)>> {
    let objects = store.list(Some(&Path::from("history")));
    let numbers = objects.try_filter_map(|object| {
        let number = object.location.filename().and_then(|name| name.parse().ok()).map(ManifestNumber);
        std::future::ready(Ok(number.map(|number| (number, object.last_modified.timestamp_micros()))))
    });
    Ok(numbers.try_collect().await?)
}

fn encode(first: CommitVersion, commits: &[(CommitId, i64)]) -> Bytes {
    let mut out = Vec::with_capacity(HEADER_BYTES + commits.len() * COMMIT_BYTES + 4);
    out.extend_from_slice(MAGIC);
    out.extend_from_slice(&first.0.to_le_bytes());
    out.extend_from_slice(&(commits.len() as u64).to_le_bytes());
    for (id, time_us) in commits {
        out.extend_from_slice(id.0.as_bytes());
        out.extend_from_slice(&time_us.to_le_bytes());
    }
    let crc = crc32c::crc32c(&out);
    out.extend_from_slice(&crc.to_le_bytes());
    out.into()
}

/// The commits of one object, which was checked.
pub(crate) struct Commits {
    first: CommitVersion,
    /// [`COMMIT_BYTES`] each.
    commits: Bytes,
}

impl Commits {
    /// # Errors
    /// `Corrupt` naming the object `path`; `Unsupported` when a later Cairn wrote it.
    pub(crate) fn parse(path: &str, bytes: &Bytes) -> Result<Self> {
        let damaged = |why| Err(Error::corrupt(path, why));
        let Some((body, crc)) = bytes.split_last_chunk::<4>() else { return damaged("it is too short") };
        if crc32c::crc32c(body) != u32::from_le_bytes(*crc) {
            return damaged("its checksum is wrong");
        }
        let Some((header, commits)) = body.split_first_chunk::<HEADER_BYTES>() else {
            return damaged("it is too short");
        };
        if is_later_form(bytes, MAGIC) {
            return Err(newer(path, "it has another form"));
        }
        let whole = commits.len().is_multiple_of(COMMIT_BYTES);
        let (first, count) = (word(&header[8..]), word(&header[16..]));
        if !header.starts_with(MAGIC) || !whole || count != (commits.len() / COMMIT_BYTES) as u64 {
            return damaged("it is not a history of commits");
        }
        Ok(Self { first: CommitVersion(first), commits: bytes.slice_ref(commits) })
    }

    /// Versions of the commits.
    fn versions(&self) -> Range<u64> {
        let count = (self.commits.len() / COMMIT_BYTES) as u64;
        self.first.0..self.first.0.saturating_add(count)
    }

    pub(crate) fn ids(&self) -> impl Iterator<Item = CommitId> {
        let commits = self.commits.chunks_exact(COMMIT_BYTES);
        commits.filter_map(|commit| commit.first_chunk()).map(|id| CommitId(uuid::Uuid::from_bytes(*id)))
    }

    pub(crate) fn find(&self, id: CommitId) -> Option<CommitFound> {
        let at = self.ids().position(|there| there == id)?;
        Some(CommitFound {
            commit_id: id,
            version: CommitVersion(self.first.0.saturating_add(at as u64)),
            time_us: word(&self.commits[at * COMMIT_BYTES + 16..]).cast_signed(),
        })
    }
}

fn word(bytes: &[u8]) -> u64 {
    bytes.first_chunk().map_or(0, |word| u64::from_le_bytes(*word))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::sync::Arc;

    use object_store::memory::InMemory;

    use super::*;
    use crate::fs::OsFileSystem;
    use crate::object::LocalStore;

    fn id(n: u128) -> CommitId {
        CommitId(uuid::Uuid::from_u128(n))
    }

    /// As [`super::find`], where nothing says what must be there.
    async fn find(
        store: &dyn ObjectStore,
        newest: ManifestNumber,
        id: CommitId,
    ) -> Result<Option<CommitFound>> {
        super::find(store, &Recorded::nothing(newest), id, present_us()).await
    }

    #[tokio::test]
    async fn a_commit_is_found_by_its_id() {
        let store = InMemory::new();
        put(&store, ManifestNumber(2), CommitVersion(1), &[(id(1), 10), (id(2), -20)]).await.unwrap();
        put(&store, ManifestNumber(40), CommitVersion(3), &[(id(3), 30)]).await.unwrap();
        let found = find(&store, ManifestNumber(41), id(2)).await.unwrap().unwrap();
        assert_eq!((found.version, found.time_us), (CommitVersion(2), -20));
        assert_eq!(find(&store, ManifestNumber(41), id(3)).await.unwrap().unwrap().version, CommitVersion(3));
        assert_eq!(find(&store, ManifestNumber(41), id(4)).await.unwrap(), None);
        let day = i64::try_from(KEPT_FOR.as_micros()).unwrap();
        prune(&store, present_us()).await.unwrap();
        assert!(find(&store, ManifestNumber(41), id(1)).await.unwrap().is_some());
        prune(&store, present_us() + day + 60_000_000).await.unwrap();
        assert!(find(&store, ManifestNumber(41), id(1)).await.unwrap().is_none());
    }

    fn present_us() -> i64 {
        crate::database::now_us()
    }

    /// A checkpoint that failed after this object is tried again with the commits that came meanwhile.
    async fn is_replaced_by_the_next_attempt(store: &dyn ObjectStore) {
        let number = ManifestNumber(3);
        put(store, number, CommitVersion(1), &[(id(1), 10)]).await.unwrap();
        for _ in 0..2 {
            put(store, number, CommitVersion(1), &[(id(1), 10), (id(2), 20)]).await.unwrap();
            for n in 1..=2 {
                let found = find(store, number, id(n)).await.unwrap().unwrap();
                assert_eq!(u128::from(found.version.0), n);
            }
        }
        put_own(store, history_path(number), "damaged".into()).await.unwrap();
        put(store, number, CommitVersion(1), &[(id(1), 10), (id(2), 20)]).await.unwrap();
        assert!(find(store, number, id(2)).await.unwrap().is_some());
    }

    #[tokio::test]
    async fn an_object_of_an_earlier_attempt_is_replaced() {
        is_replaced_by_the_next_attempt(&InMemory::new()).await;
        let directory = tempfile::tempdir().unwrap();
        let fs = OsFileSystem::new(directory.path().to_path_buf());
        is_replaced_by_the_next_attempt(&LocalStore::new(Arc::new(fs))).await;
    }

    #[tokio::test]
    async fn in_a_directory_it_stays_as_long() {
        let directory = tempfile::tempdir().unwrap();
        let store = LocalStore::new(Arc::new(OsFileSystem::new(directory.path().to_path_buf())));
        put(&store, ManifestNumber(2), CommitVersion(1), &[(id(1), 10)]).await.unwrap();
        let day = i64::try_from(KEPT_FOR.as_micros()).unwrap();
        for (later, found) in [(0, true), (day - 60_000_000, true), (day + 60_000_000, false)] {
            prune(&store, present_us() + later).await.unwrap();
            assert_eq!(find(&store, ManifestNumber(41), id(1)).await.unwrap().is_some(), found, "{later} µs");
        }
    }

    #[tokio::test]
    async fn what_cannot_be_read_is_not_taken_for_never_committed() {
        let store = InMemory::new();
        put(&store, ManifestNumber(2), CommitVersion(1), &[(id(1), 10)]).await.unwrap();
        put(&store, ManifestNumber(3), CommitVersion(2), &[(id(2), 20)]).await.unwrap();
        put_own(&store, history_path(ManifestNumber(3)), "damaged".into()).await.unwrap();
        assert!(find(&store, ManifestNumber(3), id(1)).await.unwrap().is_some());
        for n in 2..4 {
            let error = find(&store, ManifestNumber(3), id(n)).await.unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Corrupt);
            assert!(error.message().contains(&history_path(ManifestNumber(3))), "{error}");
        }
    }

    #[tokio::test]
    async fn the_newest_are_asked_for_by_number() {
        let store = InMemory::new();
        let numbers = |newest| {
            let store = &store;
            async move {
                let numbers = numbered(store, ManifestNumber(newest)).await.unwrap();
                numbers.into_keys().map(|number| number.0).collect::<Vec<u64>>()
            }
        };
        assert_eq!(numbers(0).await, [1]);
        assert_eq!(numbers(100).await, (69..=101).collect::<Vec<u64>>());
        put(&store, ManifestNumber(80), CommitVersion(1), &[(id(1), 10)]).await.unwrap();
        assert_eq!(numbers(100).await, (80..=101).collect::<Vec<u64>>());
        assert_eq!(numbers(80).await, (73..=81).collect::<Vec<u64>>());
    }

    #[tokio::test]
    async fn what_an_attempt_of_long_ago_has_left_is_as_young_as_its_manifest() {
        let number = ManifestNumber(3);
        let again = |store: Arc<dyn ObjectStore>| async move {
            put(&*store, number, CommitVersion(1), &[(id(1), 10)]).await.unwrap();
            assert!(find(&*store, number, id(1)).await.unwrap().is_some());
            store.head(&Path::from(history_path(number))).await.unwrap().e_tag
        };
        let bucket: Arc<dyn ObjectStore> = Arc::new(InMemory::new());
        assert_ne!(again(Arc::clone(&bucket)).await, again(Arc::clone(&bucket)).await);

        let directory = tempfile::tempdir().unwrap();
        let fs = OsFileSystem::new(directory.path().to_path_buf());
        let local: Arc<dyn ObjectStore> = Arc::new(LocalStore::new(Arc::new(fs)));
        again(Arc::clone(&local)).await;
        let file = std::fs::File::options().write(true).open(directory.path().join(history_path(number)));
        file.unwrap().set_modified(std::time::SystemTime::now() - KEPT_FOR).unwrap();
        again(Arc::clone(&local)).await;
        prune(&*local, present_us() + 3_600_000_000).await.unwrap();
        assert!(find(&*local, number, id(1)).await.unwrap().is_some());
    }

    #[tokio::test]
    async fn a_newer_one_is_told_from_a_damaged_one() {
        let mut later = encode(CommitVersion(7), &[(id(1), 5)])[..48].to_vec();
        later[7] = b'2';
        later.extend_from_slice(&[3; 10]);
        let crc = crc32c::crc32c(&later);
        later.extend_from_slice(&crc.to_le_bytes());
        let store = InMemory::new();
        put(&store, ManifestNumber(2), CommitVersion(1), &[(id(1), 10)]).await.unwrap();
        put_own(&store, history_path(ManifestNumber(3)), later.into()).await.unwrap();
        assert!(find(&store, ManifestNumber(3), id(1)).await.unwrap().is_some());
        let error = find(&store, ManifestNumber(3), id(2)).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Unsupported, "{error}");
        assert!(error.message().contains("was written by a newer Cairn"), "{error}");
    }

    #[test]
    fn every_flip_and_cut_is_noticed() {
        let parse = |bytes: &[u8]| Commits::parse("h", &Bytes::copy_from_slice(bytes));
        let good = encode(CommitVersion(7), &[(id(1), 5)]);
        assert_eq!(parse(&good).unwrap().find(id(1)).unwrap().version, CommitVersion(7));
        for at in 0..good.len() {
            assert!(parse(&good[..at]).is_err());
            let mut bad = good.to_vec();
            bad[at] ^= 4;
            assert!(parse(&bad).is_err());
        }
    }
}
