//! Objects of a store kept on this machine's disk, block by block, for the next read.
//!
//! Owns: the layer between a database and its object store that saves requests. Only objects below `table/` are kept: they are
//! written once and never change, so nothing gets stale. Everything else passes through as it is, and so does every question
//! that is not for bytes. Does not own: retries and time limits, which the store below has; what bytes mean. Nothing here is
//! durable, and nothing a query reads depends on the disk: a block that is missing, damaged or another's is fetched again.
//!
//! A read of missing blocks fetches neighbours together, and each block once however many readers want it at the same time
//! (`object`). Blocks are written behind the readers by one task (`fill`); until then they are read from memory. Whole objects
//! leave when room is needed (`shelf`). Two processes may share a directory: what both write is the same, files are never cut, and
//! one that is removed is only lost; each keeps the limit by itself for what it has found and written.

mod file;
mod fill;
mod gathered;
mod object;
mod past;
mod read;
mod shelf;
#[cfg(test)]
mod tests;

use std::ffi::OsString;
use std::fmt;
use std::ops::Range;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Once};

use async_trait::async_trait;
use bytes::Bytes;
use futures::stream::{self, BoxStream};
use futures::{StreamExt, TryStreamExt};
use object_store::path::Path;
use object_store::{
    Attributes, CopyOptions, Error as StoreError, Extensions, GetOptions, GetRange, GetResult,
    GetResultPayload, ListResult, MultipartUpload, ObjectMeta, ObjectStore, PutMode, PutMultipartOptions,
    PutOptions, PutPayload, PutResult, RenameOptions, Result as StoreResult,
};
use tokio::runtime::Handle;
use xxhash_rust::xxh3::xxh3_64;

pub(crate) use past::{PastCache, past_cache};

use super::url::StoreUrl;
use crate::error::{Error, ErrorKind, Result};
use crate::id::DatabaseId;
use crate::metrics::{CacheFigures, Counter};
use file::{BlockFile, PATH_BYTES_MAX};
use fill::FillQueue;
use shelf::Shelf;

/// Bytes of a block: those that a segment has a checksum for, so that its readers ask for whole ones.
pub(crate) const BLOCK_BYTES: usize = 64 * 1024;
const BLOCK: u64 = BLOCK_BYTES as u64;

/// Below it stand the objects that never change.
const CACHED: &str = "table/";

/// What the store and the tasks behind it share.
struct Cache {
    store: Arc<dyn ObjectStore>,
    directory: PathBuf,
    shelf: Shelf,
    fills: FillQueue,
    /// What earlier processes left in the directory was listed.
    scanned: Once,
    closing: AtomicBool,
    /// Nothing is written: there is no limit to keep, or the disk did not take it.
    off: AtomicBool,
    hits: Counter,
    misses: Counter,
    failures: Counter,
}

/// See the module.
pub struct CachedStore {
    cache: Arc<Cache>,
}

impl CachedStore {
    /// A cache of the objects of one database in `directory`, which is made at the first write: of at most about `limit_bytes`. What
    /// is there already is used at once, and listed in the background.
    ///
    /// # Errors
    /// `InvalidInput` for an empty path. A directory that can't be written is none: nothing is kept then, and
    /// [`CacheFigures::failures`] counts it.
    pub fn new(inner: Arc<dyn ObjectStore>, directory: PathBuf, limit_bytes: u64) -> Result<Self> {
        if directory.as_os_str().is_empty() {
            return Err(Error::new(ErrorKind::InvalidInput, "the directory of the cache is empty")
                .with_hint("name one, or turn the cache off"));
        }
        let cache = Arc::new(Cache {
            store: inner,
            directory,
            shelf: Shelf::new(limit_bytes),
            fills: FillQueue::default(),
            scanned: Once::new(),
            closing: AtomicBool::new(false),
            off: AtomicBool::new(limit_bytes == 0),
            hits: Counter::default(),
            misses: Counter::default(),
            failures: Counter::default(),
        });
        // Without a runtime, whoever writes first does it.
        if let Ok(runtime) = Handle::try_current() {
            let cache = Arc::clone(&cache);
            runtime.spawn_blocking(move || cache.scan());
        }
        Ok(Self { cache })
    }

    /// Bytes kept, and blocks that were there or not.
    #[must_use]
    pub fn figures(&self) -> CacheFigures {
        CacheFigures {
            bytes: self.cache.shelf.bytes(),
            limit_bytes: self.cache.shelf.limit_bytes(),
            hits: self.cache.hits.value(),
            misses: self.cache.misses.value(),
            failures: self.cache.failures.value(),
        }
    }

    /// Whether a read of `ranges` of an object needs no request, as far as a look tells: their blocks are on disk, or wait to be written
    /// there. Sends nothing and reads no block; one that turns out to be damaged is fetched all the same.
    pub(crate) fn has(&self, location: &Path, ranges: &[Range<u64>]) -> bool {
        is_cached(location) && self.cache.has(location, ranges)
    }

    /// Waits until everything that has arrived is written, or given up.
    #[cfg(test)]
    pub(crate) async fn settled(&self) {
        while self.cache.fills.is_writing() {
            tokio::time::sleep(std::time::Duration::from_millis(1)).await;
        }
    }
}

impl Drop for CachedStore {
    fn drop(&mut self) {
        // Listing a large directory is not to hold up the end of the process.
        self.cache.closing.store(true, Ordering::Relaxed);
    }
}

impl fmt::Debug for CachedStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Cache { store, directory, .. } = &*self.cache;
        f.debug_struct("CachedStore").field("store", store).field("directory", directory).finish()
    }
}

impl fmt::Display for CachedStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "CachedStore({})", self.cache.store)
    }
}

/// Where objects are kept when nobody says where: `$CAIRN_CACHE_DIR`, else `$XDG_CACHE_HOME/cairn`, else `$HOME/.cache/cairn`. None:
/// none of them is set.
#[must_use]
pub fn default_cache_directory() -> Option<PathBuf> {
    fn variable(name: &str) -> Option<OsString> {
        std::env::var_os(name)
    }
    directory_from(variable)
}

fn directory_from(variable: impl Fn(&str) -> Option<OsString>) -> Option<PathBuf> {
    let path = |name| variable(name).filter(|value| !value.is_empty()).map(PathBuf::from);
    // The XDG base directory specification has relative paths ignored.
    let xdg = || path("XDG_CACHE_HOME").filter(|home| home.is_absolute()).map(|home| home.join("cairn"));
    path("CAIRN_CACHE_DIR")
        .or_else(xdg)
        .or_else(|| path("HOME").map(|home| home.join(".cache").join("cairn")))
}

/// The folder of a database within a directory of caches. A copy of a bucket has the same id, and the ids of objects that are written
/// there later may be those of the original's: so the place is in the name, `address` being that of the store.
pub(crate) fn folder_of(id: DatabaseId, url: &StoreUrl, address: &str) -> String {
    format!("{id}-{:016x}", xxh3_64(format!("{address} {url}").as_bytes()))
}

fn is_cached(location: &Path) -> bool {
    let path = location.as_ref();
    path.starts_with(CACHED) && path.len() <= PATH_BYTES_MAX
}

/// Whether a read asks for bytes of the object as it stands, and for nothing else.
fn is_plain(options: &GetOptions) -> bool {
    let GetOptions { if_match, if_none_match, version, head, .. } = options;
    let dates = options.if_modified_since.is_some() || options.if_unmodified_since.is_some();
    let conditions = if_match.is_some() || if_none_match.is_some() || version.is_some() || dates;
    !conditions && !head && !PastCache::is_in(options)
}

/// The range of an object of `length` bytes; while that is not known, the range as it is asked for.
fn checked(range: &GetRange, length: Option<u64>) -> StoreResult<Option<Range<u64>>> {
    let checked = match (range, length) {
        (range, Some(length)) => range.as_range(length).map(Some),
        (GetRange::Bounded(bounds), None) => range.is_valid().map(|()| Some(bounds.clone())),
        (GetRange::Offset(_) | GetRange::Suffix(_), None) => Ok(None),
    };
    checked.map_err(|wrong| StoreError::Generic { store: "cache", source: Box::new(wrong) })
}

impl Cache {
    /// Bytes of an object; None: they have to be read past the cache.
    async fn get(self: &Arc<Self>, location: &Path, options: &GetOptions) -> StoreResult<Option<GetResult>> {
        let Some(object) = self.object(location) else { return Ok(None) };
        let known = object.length();
        let range = match (&options.range, known) {
            (Some(range), _) => match checked(range, known)? {
                Some(range) => range,
                None => return Ok(None),
            },
            (None, Some(length)) => 0..length,
            (None, None) => {
                let whole = self.read_whole(&object, &options.extensions).await?;
                return Ok(Some(result(location, 0..whole.length, whole.length, whole.bytes)));
            }
        };
        let Some(read) = self.read(&object, std::slice::from_ref(&range), &options.extensions).await? else {
            return Ok(None);
        };
        let range = match known {
            Some(_) => range,
            None => within(&range, read.length)?,
        };
        let bytes = read.gathered.bytes(&range).ok_or_else(|| uncovered(location))?;
        Ok(Some(result(location, range, read.length, bytes)))
    }

    /// As [`get`](Self::get), for several ranges.
    async fn get_ranges(
        self: &Arc<Self>,
        location: &Path,
        ranges: &[Range<u64>],
    ) -> StoreResult<Option<Vec<Bytes>>> {
        let Some(object) = self.object(location) else { return Ok(None) };
        let known = object.length();
        let mut asked = Vec::with_capacity(ranges.len());
        for range in ranges {
            asked.extend(checked(&GetRange::Bounded(range.clone()), known)?);
        }
        let Some(read) = self.read(&object, &asked, &Extensions::new()).await? else { return Ok(None) };
        let cut = |range: &Range<u64>| {
            read.gathered.bytes(&within(range, read.length)?).ok_or_else(|| uncovered(location))
        };
        asked.iter().map(cut).collect::<StoreResult<Vec<Bytes>>>().map(Some)
    }

    /// Keeps nothing of an object any more.
    fn forget(&self, location: &Path) {
        if !is_cached(location) {
            return;
        }
        match self.shelf.remove(location) {
            Some(object) => object.leave(),
            None => BlockFile::new(&self.directory, location).remove(),
        }
    }
}

/// The part of a range that is within an object of `length` bytes.
fn within(range: &Range<u64>, length: u64) -> StoreResult<Range<u64>> {
    let range = checked(&GetRange::Bounded(range.clone()), Some(length))?;
    range.ok_or_else(|| Error::internal("a range without bounds").into())
}

fn uncovered(location: &Path) -> StoreError {
    Error::internal(format!("blocks do not cover a range of {location}")).into()
}

/// What was read of an object. No time of change and no etag: no decision here is ever made by them.
fn result(location: &Path, range: Range<u64>, size: u64, bytes: Bytes) -> GetResult {
    let meta = ObjectMeta {
        location: location.clone(),
        last_modified: Default::default(),
        size,
        e_tag: None,
        version: None,
    };
    let payload = GetResultPayload::Stream(stream::iter([Ok(bytes)]).boxed());
    GetResult { payload, meta, range, attributes: Attributes::default() }
}

#[async_trait]
impl ObjectStore for CachedStore {
    async fn put_opts(
        &self,
        location: &Path,
        payload: PutPayload,
        options: PutOptions,
    ) -> StoreResult<PutResult> {
        let replaces = !matches!(options.mode, PutMode::Create);
        let put = self.cache.store.put_opts(location, payload, options).await;
        if replaces {
            self.cache.forget(location);
        }
        put
    }

    async fn put_multipart_opts(
        &self,
        location: &Path,
        options: PutMultipartOptions,
    ) -> StoreResult<Box<dyn MultipartUpload>> {
        self.cache.store.put_multipart_opts(location, options).await
    }

    async fn get_opts(&self, location: &Path, options: GetOptions) -> StoreResult<GetResult> {
        if is_cached(location)
            && is_plain(&options)
            && let Some(result) = self.cache.get(location, &options).await?
        {
            return Ok(result);
        }
        self.cache.store.get_opts(location, options).await
    }

    async fn get_ranges(&self, location: &Path, ranges: &[Range<u64>]) -> StoreResult<Vec<Bytes>> {
        if is_cached(location)
            && !ranges.is_empty()
            && let Some(bytes) = self.cache.get_ranges(location, ranges).await?
        {
            return Ok(bytes);
        }
        self.cache.store.get_ranges(location, ranges).await
    }

    fn delete_stream(
        &self,
        locations: BoxStream<'static, StoreResult<Path>>,
    ) -> BoxStream<'static, StoreResult<Path>> {
        let cache = Arc::clone(&self.cache);
        let locations = locations.inspect_ok(move |location| cache.forget(location)).boxed();
        self.cache.store.delete_stream(locations)
    }

    fn list(&self, prefix: Option<&Path>) -> BoxStream<'static, StoreResult<ObjectMeta>> {
        self.cache.store.list(prefix)
    }

    fn list_with_offset(
        &self,
        prefix: Option<&Path>,
        offset: &Path,
    ) -> BoxStream<'static, StoreResult<ObjectMeta>> {
        self.cache.store.list_with_offset(prefix, offset)
    }

    async fn list_with_delimiter(&self, prefix: Option<&Path>) -> StoreResult<ListResult> {
        self.cache.store.list_with_delimiter(prefix).await
    }

    async fn copy_opts(&self, from: &Path, to: &Path, options: CopyOptions) -> StoreResult<()> {
        let copied = self.cache.store.copy_opts(from, to, options).await;
        self.cache.forget(to);
        copied
    }

    async fn rename_opts(&self, from: &Path, to: &Path, options: RenameOptions) -> StoreResult<()> {
        let renamed = self.cache.store.rename_opts(from, to, options).await;
        self.cache.forget(from);
        self.cache.forget(to);
        renamed
    }
}
