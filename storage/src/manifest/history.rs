//! Which commits had which ids: objects `history/<manifest>` beside manifests, for whoever was told "outcome unknown".
//!
//! Owns: their bytes, finding a commit in them, how long they are kept. Does not own: the commits since the newest manifest, which
//! stand in the log (`database::order`). Durable before the manifest whose commits it holds.
//!
//! ```text
//! 0 [8] magic "CAIRNHIS"    8 u64 version of the first commit    16 u64 number of commits
//! 24 per commit, in order of dense versions: [16] id, i64 time in µs since 1970 UTC
//!    u32 crc32c of everything before
//! ```

use std::time::Duration;

use bytes::Bytes;
use futures::{StreamExt, TryStreamExt};
use object_store::path::Path;
use object_store::{ObjectStore, ObjectStoreExt};

use crate::error::{Error, Result};
use crate::id::{CommitId, CommitVersion, ManifestNumber};
use crate::object::{Put, put_if_absent, put_own};

const MAGIC: &[u8; 8] = b"CAIRNHIS";
const HEADER_BYTES: usize = 24;
const COMMIT_BYTES: usize = 24;
/// How long a commit can be asked for after the checkpoint that has its rows.
pub const KEPT_FOR: Duration = Duration::from_secs(24 * 3600);
/// Objects read at the same time.
const PARALLEL_READS: usize = 8;

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
/// Created, so that what an earlier attempt sent and gave up cannot come late and replace it. Where that attempt's object stands
/// already it has landed, and is replaced by this one, which holds its commits too.
///
/// # Errors
/// The store's.
pub(crate) async fn put(
    store: &dyn ObjectStore,
    manifest: ManifestNumber,
    first: CommitVersion,
    commits: &[(CommitId, i64)],
) -> Result<()> {
    let (path, bytes) = (history_path(manifest), encode(first, commits));
    match put_if_absent(store, &Path::from(path.as_str()), bytes.clone(), |found| found == bytes).await? {
        Put::Ours => Ok(()),
        Put::Taken(_) => put_own(store, path, bytes).await,
    }
}

/// The commit of that id in the objects beside `newest` and the manifests before it.
///
/// # Errors
/// `Corrupt`; the store's.
pub(crate) async fn find(
    store: &dyn ObjectStore,
    newest: ManifestNumber,
    id: CommitId,
) -> Result<Option<CommitFound>> {
    // A listing may lack what is new; what is new is asked for by number.
    let asked = (newest.0.saturating_sub(PARALLEL_READS as u64) + 1..=newest.0).map(ManifestNumber);
    let mut numbers: Vec<ManifestNumber> =
        listed(store).await?.into_iter().map(|(number, _)| number).collect();
    numbers.extend(asked);
    numbers.sort_unstable();
    numbers.dedup();
    let objects = numbers.into_iter().rev().map(|number| async move {
        let path = history_path(number);
        match store.get(&Path::from(path.as_str())).await {
            Ok(found) => decode(&path, &found.bytes().await?, id),
            Err(object_store::Error::NotFound { .. }) => Ok(None),
            Err(error) => Err(error.into()),
        }
    });
    let mut found = futures::stream::iter(objects).buffered(PARALLEL_READS);
    while let Some(commit) = found.try_next().await? {
        if commit.is_some() {
            return Ok(commit);
        }
    }
    Ok(None)
}

/// Removes objects that nobody can ask for any more.
///
/// # Errors
/// The store's.
pub(crate) async fn prune(store: &dyn ObjectStore, now_us: i64) -> Result<()> {
    for (number, written_us) in listed(store).await? {
        if is_over(written_us, now_us) {
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

/// Numbers with the times they were written at.
async fn listed(store: &dyn ObjectStore) -> Result<Vec<(ManifestNumber, i64)>> {
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

/// The commit of that id among those of the object `path`.
fn decode(path: &str, bytes: &[u8], id: CommitId) -> Result<Option<CommitFound>> {
    let damaged = |why| Err(Error::corrupt(path, why));
    let Some((body, crc)) = bytes.split_last_chunk::<4>() else { return damaged("it is too short") };
    if crc32c::crc32c(body) != u32::from_le_bytes(*crc) {
        return damaged("its checksum is wrong");
    }
    let Some((header, commits)) = body.split_first_chunk::<HEADER_BYTES>() else {
        return damaged("it is too short");
    };
    let (first, count) = (word(&header[8..]), word(&header[16..]));
    if !header.starts_with(MAGIC) || count != (commits.len() / COMMIT_BYTES) as u64 {
        return damaged("it is not a history of commits");
    }
    let at = commits.chunks_exact(COMMIT_BYTES).position(|commit| commit.starts_with(id.0.as_bytes()));
    Ok(at.map(|at| CommitFound {
        commit_id: id,
        version: CommitVersion(first.saturating_add(at as u64)),
        time_us: word(&commits[at * COMMIT_BYTES + 16..]).cast_signed(),
    }))
}

fn word(bytes: &[u8]) -> u64 {
    bytes.first_chunk().map_or(0, |word| u64::from_le_bytes(*word))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use object_store::memory::InMemory;

    use super::*;

    fn id(n: u128) -> CommitId {
        CommitId(uuid::Uuid::from_u128(n))
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

    #[test]
    fn every_flip_and_cut_is_noticed() {
        let good = encode(CommitVersion(7), &[(id(1), 5)]);
        assert_eq!(decode("h", &good, id(1)).unwrap().unwrap().version, CommitVersion(7));
        for at in 0..good.len() {
            decode("h", &good[..at], id(1)).unwrap_err();
            let mut bad = good.to_vec();
            bad[at] ^= 4;
            decode("h", &bad, id(1)).unwrap_err();
        }
    }
}
