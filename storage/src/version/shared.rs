//! What every reader of one database shares: its objects, and what is kept of them in memory.
//!
//! Owns: an object's bytes and length wherever they are, and the error of one that is gone. Does not own: what is visible (`snapshot`), what
//! the bytes mean (`segment`, `index`).

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use bytes::Bytes;
use object_store::path::Path;
use object_store::{ObjectStore, ObjectStoreExt};

use super::Pins;
use crate::error::{Error, Result, expired, missing};
use crate::fs::FileSystem;
use crate::object::{ReadMeter, past_cache, read_object};
use crate::segment::SegmentCache;

/// See the module.
#[derive(Debug)]
pub struct Shared {
    /// Objects below the root.
    pub store: Arc<dyn ObjectStore>,
    /// Footers, key filters and row-id columns of open segments.
    pub cache: Arc<SegmentCache>,
    /// Files below the root, where objects are files: read in place then.
    pub files: Option<Arc<dyn FileSystem>>,
    /// Whether objects are in a store that other processes use too.
    pub(crate) remote: bool,
    /// Whether somebody else may collect objects that are read here.
    pub(crate) may_expire: AtomicBool,
    /// What is read.
    pub(crate) pins: Pins,
}

impl Shared {
    /// The error of an object that is named and not there.
    pub(crate) fn missing(&self, path: &str) -> Error {
        if self.may_expire.load(Ordering::Relaxed) { expired(path) } else { missing(path) }
    }

    /// An object's bytes: the file itself where there is one, else as the store gives them, counted in `meter`.
    ///
    /// # Errors
    /// `NotFound`, the store's.
    pub(crate) async fn bytes_in_place(&self, path: &str, meter: Option<&ReadMeter>) -> Result<Bytes> {
        match &self.files {
            Some(files) => files.map(path).map_err(|e| Error::io(format!("reading {path}"), e)),
            None => Ok(read_object(&*self.store, &Path::from(path), meter).await?),
        }
    }

    /// The objects as they are where the database is at home: what a cache on this machine has of them does not count.
    pub(crate) fn past_cache(&self) -> Arc<dyn ObjectStore> {
        match &self.files {
            Some(_) => Arc::clone(&self.store),
            None => past_cache(Arc::clone(&self.store)),
        }
    }

    /// An object's length in bytes; None: it is not there.
    ///
    /// # Errors
    /// The store's.
    pub(crate) async fn length(&self, path: &str) -> Result<Option<u64>> {
        match self.store.head(&Path::from(path)).await {
            Ok(meta) => Ok(Some(meta.size)),
            Err(object_store::Error::NotFound { .. }) => Ok(None),
            Err(error) => Err(error.into()),
        }
    }
}
