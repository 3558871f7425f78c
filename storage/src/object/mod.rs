//! The way to objects: the only module that knows how `object_store` stores behave.
//!
//! Owns: the durable local store, the in-memory store, settling of create-if-absent (D9). Does not own: what
//! the objects are. A put that returned is durable.

mod cached;
#[cfg(test)]
pub(crate) mod counting;
mod local;
mod meter;
mod ranges;
mod url;

use std::sync::Arc;

use bytes::Bytes;
use object_store::memory::InMemory;
use object_store::path::Path;
use object_store::{ObjectStore, ObjectStoreExt, PutMode};

pub use cached::{CachedStore, default_cache_directory};
pub use local::LocalStore;
pub use meter::{ReadFigures, ReadMeter};
pub use url::{Scheme, StoreUrl};

pub(crate) use cached::{BLOCK_BYTES as CACHE_BLOCK_BYTES, PastCache, past_cache};
pub(crate) use ranges::{read_object, read_ranges};

use crate::error::{Error, ErrorKind, Result};

/// How often a store may say "exists" and then "not found" (S3's 409) before its first answer is believed.
const ATTEMPTS: usize = 4;

/// An empty store in memory.
#[must_use]
pub fn open_memory() -> Arc<dyn ObjectStore> {
    Arc::new(InMemory::new())
}

/// Creates the object `path`, or finds that it stands there already by our own hand.
///
/// A store may answer "exists" to a put whose first reply was lost, and some answer so when nothing was written. So the
/// object is read back: `is_ours` looks for the unique id that was put into `bytes` (D9).
///
/// # Errors
/// `AlreadyExists` when somebody else's object is there. After any other error the object may or may not exist.
pub async fn put_if_absent(
    store: &dyn ObjectStore,
    path: &Path,
    bytes: Bytes,
    is_ours: impl Fn(&[u8]) -> bool + Send,
) -> Result<()> {
    let mut attempt = 1;
    loop {
        let exists = match store.put_opts(path, bytes.clone().into(), PutMode::Create.into()).await {
            Ok(_) => return Ok(()),
            Err(
                e @ (object_store::Error::AlreadyExists { .. } | object_store::Error::Precondition { .. }),
            ) => e,
            Err(e) => return Err(e.into()),
        };
        match store.get(path).await {
            Ok(found) => {
                if is_ours(&found.bytes().await?) {
                    return Ok(());
                }
            }
            Err(object_store::Error::NotFound { .. }) if attempt < ATTEMPTS => {
                attempt += 1;
                continue;
            }
            Err(object_store::Error::NotFound { .. }) => {}
            Err(e) => return Err(e.into()),
        }
        let message = format!("{path} is there already, by another writer");
        return Err(Error::new(ErrorKind::AlreadyExists, message).with_source(exists));
    }
}

#[cfg(test)]
mod tests;
