//! Numbered manifests and their leaves in an object store.
//!
//! Owns: paths, create-if-absent with read-back (D9), the search for the newest number (D11), which leaves are written
//! anew. Does not own: bytes ([`codec`](super::codec)), rules ([`invariants`]), when one is written.
//! Durability: leaves are durable before the root that names them, since [`ManifestStore::store_segments`] returns first; a root is
//! durable when [`ManifestStore::write`] returns. Manifests are never read through a cache.

mod leaves;
mod probe;

#[cfg(test)]
mod tests;

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use object_store::path::Path;
use object_store::{ObjectStore, ObjectStoreExt, PutMode};
use tokio::time::Instant;

use super::codec::{Mark, decode_manifest, decode_mark, encode_manifest};
use super::invariants;
use super::model::Manifest;
use crate::error::{Error, ErrorKind, Result, newer};
use crate::id::{DatabaseId, ManifestNumber};
use crate::object::judged;
pub(crate) use leaves::{INLINE_BYTES, leaf_path};

/// How often a create that wrote nothing and says "exists" is tried (S3 answers 409 to racing creates).
const CREATE_ATTEMPTS: usize = 4;
/// Pause before a write is tried again; each one is twice as long as the one before.
const PAUSE_FIRST: Duration = Duration::from_millis(50);
const PAUSE_MAX: Duration = Duration::from_secs(2);

/// What the database is opened for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Access {
    /// Unknown writer features do no harm.
    Read,
    /// Unknown writer features are refused.
    Write,
}

/// The manifests of one database.
#[derive(Clone, Debug)]
pub struct ManifestStore {
    store: Arc<dyn ObjectStore>,
    access: Access,
    inline_bytes: usize,
}

/// Path of a manifest below the root.
#[must_use]
pub fn manifest_path(number: ManifestNumber) -> String {
    format!("manifest/{:020}", number.0)
}

impl ManifestStore {
    /// Manifests in `store`, which is rooted at the database.
    #[must_use]
    pub fn new(store: Arc<dyn ObjectStore>, access: Access) -> Self {
        Self { store, access, inline_bytes: INLINE_BYTES }
    }

    /// As this one, but that a list of at least so much JSON stands in leaves.
    #[must_use]
    pub(crate) fn with_inline_bytes(self, inline_bytes: usize) -> Self {
        Self { inline_bytes, ..self }
    }

    /// Publishes `manifest` under its number; durable at return. `previous` is the one before it, None for the first.
    /// The same manifest (same commit id) may be written again after an error.
    ///
    /// # Errors
    /// `Fenced` when another writer's manifest has that number; `Internal` when an invariant does not hold (nothing is
    /// written); else what the store answered, with the outcome unknown.
    pub async fn write(&self, manifest: &Manifest, previous: Option<&Manifest>) -> Result<()> {
        self.write_once(manifest, previous).await.map_err(|(error, _)| error)
    }

    /// As [`write`](Self::write); an error comes with whether something stands, or may come to stand, under that number.
    async fn write_once(
        &self,
        manifest: &Manifest,
        previous: Option<&Manifest>,
    ) -> Result<(), (Error, bool)> {
        invariants::check_manifest(manifest).map_err(|broken| (broken.before_write(), false))?;
        invariants::check_successor(previous, manifest).map_err(|broken| (broken.before_write(), false))?;
        let bytes = encode_manifest(manifest).map_err(|error| (error, false))?;
        let path = manifest_path(manifest.number);
        match self.create_or_find(&path, bytes).await? {
            None => Ok(()),
            Some(found) => self.settle(&path, &found, manifest).map_err(|error| (error, true)),
        }
    }

    /// As [`write`](Self::write), tried until the store says what stands there or `deadline` passes.
    ///
    /// # Errors
    /// As [`write`](Self::write), with whether some attempt may have taken effect or still may, or the number is taken.
    pub(crate) async fn write_settled(
        &self,
        manifest: &Manifest,
        previous: Option<&Manifest>,
        deadline: Instant,
    ) -> Result<(), (Error, bool)> {
        let mut pause = PAUSE_FIRST;
        let mut may_stand = false;
        loop {
            let Err((error, doubtful)) = self.write_once(manifest, previous).await else { return Ok(()) };
            may_stand |= doubtful;
            if error.kind() != ErrorKind::Unavailable || Instant::now() + pause >= deadline {
                return Err((error, may_stand));
            }
            tokio::time::sleep(pause).await;
            pause = (2 * pause).min(PAUSE_MAX);
        }
    }

    fn settle(&self, path: &str, found: &[u8], manifest: &Manifest) -> Result<()> {
        let found = self.decode(path, found)?;
        if found.commit_id == manifest.commit_id {
            return Ok(());
        }
        Err(Error::new(ErrorKind::Fenced, format!("{path} was written by another writer"))
            .with_detail(format!("its epoch is {}, this writer's {}", found.epoch, manifest.epoch))
            .with_hint("reopen the database; this handle only reads from now on"))
    }

    /// The manifest of that number, checked.
    ///
    /// # Errors
    /// `NotFound`; `Corrupt` and `Unsupported` naming the object.
    pub async fn read(&self, number: ManifestNumber) -> Result<Manifest> {
        match self.read_if_present(number).await? {
            Some(manifest) => Ok(manifest),
            None => Err(Error::new(ErrorKind::NotFound, format!("there is no {}", manifest_path(number)))),
        }
    }

    /// Whether a [mark](Mark) stands in place of that manifest.
    ///
    /// # Errors
    /// The store's.
    pub(crate) async fn is_marked(&self, number: ManifestNumber, database_id: DatabaseId) -> Result<bool> {
        let path = manifest_path(number);
        let found = self.fetch(&path).await?;
        let mark = found.and_then(|bytes| decode_mark(&path, &bytes).ok());
        Ok(mark == Some(Mark { number, database_id }))
    }

    async fn read_if_present(&self, number: ManifestNumber) -> Result<Option<Manifest>> {
        let path = manifest_path(number);
        let Some(bytes) = self.fetch(&path).await? else {
            return Ok(None);
        };
        let manifest = self.decode(&path, &bytes)?;
        if manifest.number != number {
            return Err(Error::corrupt(&path, format_args!("it holds manifest {}", manifest.number)));
        }
        Ok(Some(manifest))
    }

    fn decode(&self, path: &str, bytes: &[u8]) -> Result<Manifest> {
        let decoded = decode_manifest(path, bytes)?;
        if self.access == Access::Write && !decoded.unknown_writer_features.is_empty() {
            let features = decoded.unknown_writer_features.join(", ");
            return Err(newer(path, format_args!("it needs writer feature {features}")));
        }
        invariants::check_manifest(&decoded.manifest).map_err(|broken| broken.after_read(path))?;
        Ok(decoded.manifest)
    }

    /// Creates an object, durable at return; when the answer is an error, what stands there instead, maybe our own
    /// bytes (D9). An error when nothing does, with whether something may come to.
    async fn create_or_find(&self, path: &str, bytes: Bytes) -> Result<Option<Bytes>, (Error, bool)> {
        let location = Path::from(path);
        let mut attempt = 1;
        loop {
            let put = self.store.put_opts(&location, bytes.clone().into(), PutMode::Create.into());
            let Err(error) = put.await else { return Ok(None) };
            if is_ours(&error) {
                // The local store knows what it did; after a failed sync its bytes must not count as durable (D1).
                let error = Error::from(error);
                let may_stand = error.kind() != ErrorKind::ResourceExhausted;
                return Err((error, may_stand));
            }
            match self.fetch(path).await {
                Ok(Some(found)) => return Ok(Some(found)),
                Ok(None) if says_exists(&error) && attempt < CREATE_ATTEMPTS => attempt += 1,
                Ok(None) if says_exists(&error) => {
                    let message = format!("{path} can be neither created nor read");
                    return Err((Error::new(ErrorKind::Unavailable, message).with_source(error), true));
                }
                Err(unread) if says_exists(&error) => return Err((unread, true)),
                Ok(None) | Err(_) => {
                    let (error, may_stand) = judged(error);
                    return Err((error, may_stand || attempt > 1));
                }
            }
        }
    }

    /// The object's bytes; None when there is no such object.
    async fn fetch(&self, path: &str) -> Result<Option<Bytes>> {
        match self.store.get(&Path::from(path)).await {
            Ok(found) => Ok(Some(found.bytes().await?)),
            Err(object_store::Error::NotFound { .. }) => Ok(None),
            Err(e) => Err(e.into()),
        }
    }
}

/// Whether a create answered that the object is there (true or, after a race, not).
fn says_exists(error: &object_store::Error) -> bool {
    matches!(error, object_store::Error::AlreadyExists { .. } | object_store::Error::Precondition { .. })
}

/// Whether the error came from a store of this crate, which has no lost replies.
fn is_ours(error: &object_store::Error) -> bool {
    matches!(error, object_store::Error::Generic { source, .. } if source.is::<Error>())
}
