//! The object `boundary`: from which number on manifests are there, and which was the newest a while ago.
//!
//! Owns: its bytes, and that its numbers only go up, by compare-and-swap. Everything in [`oldest`, the newest manifest] exists;
//! `newest` is a hint where the search may begin. Without the object both are unknown and the search begins at 1. It also says whose
//! numbers these are, so that an opening need not ask for `CAIRN` too.
//!
//! ```text
//! 0 [8] magic "CAIRNBND"    8 u64 oldest    16 u64 newest    24 [16] database id    40 u32 crc32c of bytes 0..40
//! ```

use std::time::Duration;

use object_store::path::Path;
use object_store::{ObjectStore, ObjectStoreExt, PutMode, UpdateVersion};
use uuid::Uuid;
use xxhash_rust::xxh3::xxh3_64_with_seed;

use crate::error::{Error, ErrorKind, Result, is_later_form, newer};
use crate::id::{DatabaseId, ManifestNumber};

/// Path below the root.
pub(crate) const BOUNDARY_PATH: &str = "boundary";
const MAGIC: &[u8; 8] = b"CAIRNBND";
const BYTES: usize = 44;
/// How often a raise is tried against others who raise it too.
const ATTEMPTS: u32 = 16;
/// Longest pause before the second attempt; each further one is twice as long, up to a limit. The true pause is at least half of it.
const PAUSE_FIRST: Duration = Duration::from_millis(10);
const PAUSE_MAX: Duration = Duration::from_secs(1);

/// See the module.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Boundary {
    /// Of which database.
    pub(crate) database_id: DatabaseId,
    /// The first manifest that is certainly there; older ones may have been collected.
    pub(crate) oldest: ManifestNumber,
    /// A manifest at or below the newest.
    pub(crate) newest: ManifestNumber,
}

impl Boundary {
    /// One that says no more than that `newest` has been written.
    pub(crate) fn at_least(database_id: DatabaseId, newest: ManifestNumber) -> Self {
        Self { database_id, oldest: ManifestNumber(0), newest }
    }

    /// The largest number that it knows to have been written.
    pub(crate) fn known(self) -> ManifestNumber {
        self.newest.max(self.oldest)
    }

    /// The boundary of the database in `store`, with what a change of it must name; None: it was never raised.
    ///
    /// # Errors
    /// `Corrupt`; the store's.
    pub(crate) async fn read(store: &dyn ObjectStore) -> Result<Option<(Self, UpdateVersion)>> {
        let found = match store.get(&Path::from(BOUNDARY_PATH)).await {
            Ok(found) => found,
            Err(object_store::Error::NotFound { .. }) => return Ok(None),
            Err(error) => return Err(error.into()),
        };
        let tag = UpdateVersion { e_tag: found.meta.e_tag.clone(), version: found.meta.version.clone() };
        Ok(Some((Self::decode(&found.bytes().await?)?, tag)))
    }

    /// Raises both numbers to at least those of `to`; returns what stands then.
    ///
    /// # Errors
    /// `Unavailable` when others change it all the time; `Corrupt`, also when it is another database's; the store's.
    pub(crate) async fn raise(store: &dyn ObjectStore, to: Self) -> Result<Self> {
        for attempt in 0..ATTEMPTS {
            if attempt > 0 {
                tokio::time::sleep(to.pause(attempt)).await;
            }
            let known = Self::read(store).await?;
            let now = known.as_ref().map(|(now, _)| *now);
            if let Some(now) = now {
                now.check_id(to.database_id)?;
            }
            // Numbers begin with 1.
            let oldest = now.map_or(ManifestNumber(1), |now| now.oldest).max(to.oldest);
            let newest = now.map_or(ManifestNumber(0), |now| now.newest).max(to.newest);
            let raised = Self { oldest, newest, ..to };
            if now == Some(raised) {
                return Ok(raised);
            }
            let mode = known.map_or(PutMode::Create, |(_, tag)| PutMode::Update(tag));
            match store
                .put_opts(&Path::from(BOUNDARY_PATH), raised.encode().to_vec().into(), mode.into())
                .await
            {
                Ok(_) => return Ok(raised),
                // Another change came first, or our own answer was lost: what stands now tells.
                Err(
                    object_store::Error::AlreadyExists { .. }
                    | object_store::Error::Precondition { .. }
                    | object_store::Error::NotFound { .. },
                ) => {}
                Err(error) => {
                    let error = Error::from(error);
                    if error.kind() != ErrorKind::Unavailable {
                        return Err(error);
                    }
                }
            }
        }
        Err(Error::new(ErrorKind::Unavailable, format!("{BOUNDARY_PATH} can't be changed"))
            .with_hint("try again"))
    }

    /// # Errors
    /// `Corrupt` when it is not that of database `id`.
    pub(crate) fn check_id(self, id: DatabaseId) -> Result<()> {
        if self.database_id == id {
            return Ok(());
        }
        let why = format!("it belongs to database {}, and this is {id}", self.database_id);
        Err(Error::corrupt(BOUNDARY_PATH, why).with_hint("somebody copied objects of another database here"))
    }

    /// The pause before another attempt to raise the boundary to this. Those who raise it to different numbers do not come back at
    /// once; of those who raise it to the same the first one's success is everybody's.
    fn pause(self, attempt: u32) -> Duration {
        let longest = PAUSE_FIRST.saturating_mul(2_u32.saturating_pow(attempt - 1)).min(PAUSE_MAX);
        let drawn = xxh3_64_with_seed(&self.encode()[8..24], u64::from(attempt)) % 1_000;
        longest.mul_f64(0.5 + drawn as f64 / 2_000.0)
    }

    pub(crate) fn encode(self) -> [u8; BYTES] {
        let mut out = [0; BYTES];
        out[..8].copy_from_slice(MAGIC);
        out[8..16].copy_from_slice(&self.oldest.0.to_le_bytes());
        out[16..24].copy_from_slice(&self.newest.0.to_le_bytes());
        out[24..40].copy_from_slice(self.database_id.0.as_bytes());
        let crc = crc32c::crc32c(&out[..40]);
        out[40..].copy_from_slice(&crc.to_le_bytes());
        out
    }

    /// # Errors
    /// `Corrupt`; `Unsupported` when a later Cairn wrote it.
    pub(crate) fn decode(bytes: &[u8]) -> Result<Self> {
        let damaged = |why| {
            Err(Error::corrupt(BOUNDARY_PATH, why)
                .with_hint("remove this object while no writer is open: it is made again from what is there"))
        };
        let word = |at: usize| bytes.get(at..at + 8).and_then(|b| b.try_into().ok()).map(u64::from_le_bytes);
        let id: Option<[u8; 16]> = bytes.get(24..40).and_then(|b| b.try_into().ok());
        let crc = bytes.get(40..44).and_then(|b| b.try_into().ok()).map(u32::from_le_bytes);
        match (word(8), word(16), id, crc) {
            (Some(oldest), Some(newest), Some(id), Some(crc))
                if bytes.len() == BYTES && bytes.starts_with(MAGIC) =>
            {
                if crc32c::crc32c(&bytes[..40]) != crc {
                    return damaged("its checksum is wrong");
                }
                let database_id = DatabaseId(Uuid::from_bytes(id));
                Ok(Self { database_id, oldest: ManifestNumber(oldest), newest: ManifestNumber(newest) })
            }
            _ if is_later_form(bytes, MAGIC) => Err(newer(BOUNDARY_PATH, "it has another form")),
            _ => damaged("it is not a boundary"),
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use object_store::memory::InMemory;

    use super::*;

    fn boundary(oldest: u64, newest: u64) -> Boundary {
        let database_id = DatabaseId(Uuid::from_u128(7));
        Boundary { database_id, oldest: ManifestNumber(oldest), newest: ManifestNumber(newest) }
    }

    #[tokio::test]
    async fn that_of_another_database_is_not_raised() {
        let store = InMemory::new();
        Boundary::raise(&store, boundary(0, 3)).await.unwrap();
        let other = Boundary { database_id: DatabaseId(Uuid::from_u128(8)), ..boundary(0, 4) };
        assert_eq!(Boundary::raise(&store, other).await.unwrap_err().kind(), ErrorKind::Corrupt);
        assert_eq!(Boundary::read(&store).await.unwrap().unwrap().0, boundary(1, 3));
    }

    #[tokio::test]
    async fn it_only_goes_up() {
        let store = InMemory::new();
        assert_eq!(Boundary::read(&store).await.unwrap(), None);
        assert_eq!(Boundary::raise(&store, boundary(0, 3)).await.unwrap(), boundary(1, 3));
        assert_eq!(Boundary::raise(&store, boundary(2, 1)).await.unwrap(), boundary(2, 3));
        assert_eq!(Boundary::raise(&store, boundary(1, 2)).await.unwrap(), boundary(2, 3));
        assert_eq!(Boundary::read(&store).await.unwrap().unwrap().0, boundary(2, 3));
    }

    #[test]
    fn pauses_grow_within_bounds_and_differ() {
        let pauses = |to: Boundary| (1..ATTEMPTS).map(|attempt| to.pause(attempt)).collect::<Vec<_>>();
        let (one, other) = (pauses(boundary(0, 5)), pauses(boundary(3, 5)));
        assert!(one.iter().zip(&other).filter(|(a, b)| a != b).count() > 10, "{one:?} {other:?}");
        assert!(one.iter().all(|pause| *pause >= PAUSE_FIRST / 2 && *pause <= PAUSE_MAX));
        assert!(one[8..].iter().all(|pause| *pause >= PAUSE_MAX / 2));
        assert!(one.iter().sum::<Duration>() < Duration::from_secs(15));
    }

    #[test]
    fn every_flip_and_cut_is_noticed() {
        let good = boundary(5, 9).encode();
        assert_eq!(Boundary::decode(&good).unwrap(), boundary(5, 9));
        for at in 0..good.len() {
            Boundary::decode(&good[..at]).unwrap_err();
            let mut bad = good;
            bad[at] ^= 1;
            assert_eq!(Boundary::decode(&bad).unwrap_err().kind(), ErrorKind::Corrupt);
        }
    }

    #[test]
    fn a_newer_one_is_told_from_a_damaged_one() {
        for more in [0, 16] {
            let mut later = boundary(5, 9).encode()[..40].to_vec();
            later[7] = b'2';
            later.resize(40 + more, 1);
            later.extend_from_slice(&[0; 4]);
            assert_eq!(Boundary::decode(&later).unwrap_err().kind(), ErrorKind::Corrupt);
            let end = later.len() - 4;
            let crc = crc32c::crc32c(&later[..end]);
            later[end..].copy_from_slice(&crc.to_le_bytes());
            let error = Boundary::decode(&later).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Unsupported, "{error}");
            assert!(error.message().starts_with("boundary was written by a newer Cairn"), "{error}");
        }
    }
}
