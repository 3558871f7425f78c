//! A durable object store over our own file system: what `object_store`'s own local store is not (D8).
//!
//! Owns: how an object becomes durable. Temporary file beside it, bytes, sync; then a rename (overwrite) or hard link (create
//! if absent); then a sync of the directory. A put that returned is durable and whole; one that failed or was cut off
//! by a crash left the old object, none, or the whole new one. Does not own: which objects there are.
//!
//! File calls run on the caller's thread: reads come from the page cache within microseconds, and a put is
//! awaited by tasks that wait for the disk anyway. Only the sync of a large object moves to a blocking thread when the runtime
//! has several threads. Objects carry no time of change and no etag: no decision here is ever made by a clock.

mod read;
mod upload;

use std::collections::{BTreeSet, HashSet};
use std::fmt;
use std::io;
use std::ops::Range;
use std::sync::atomic::AtomicU64;
use std::sync::{Arc, Mutex, PoisonError};

use async_trait::async_trait;
use bytes::Bytes;
use futures::stream::{self, BoxStream};
use futures::{StreamExt, TryStreamExt};
use object_store::path::Path;
use object_store::{
    CopyMode, CopyOptions, Error as StoreError, GetOptions, GetResult, ListResult, MultipartUpload,
    ObjectMeta, ObjectStore, PutMode, PutMultipartOptions, PutOptions, PutPayload, PutResult, RenameOptions,
    RenameTargetMode, Result as StoreResult,
};

use self::upload::{Temporary, Upload};
use crate::error::{Error, Result};
use crate::fs::{FileSystem, Poison, parent};

/// What the file name of an unfinished object begins with.
const TEMPORARY: &str = ".tmp-";

/// Objects as files below a root directory.
#[derive(Clone, Debug)]
pub struct LocalStore(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    fs: Arc<dyn FileSystem>,
    /// Numbers temporary files.
    temporary: AtomicU64,
    /// Directories this store has made durable.
    directories: Mutex<HashSet<String>>,
    poison: Mutex<Poison>,
}

/// Whether a put may replace what is there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Target {
    Overwrite,
    Create,
}

impl LocalStore {
    /// The objects below the root of `fs`.
    #[must_use]
    pub fn new(fs: Arc<dyn FileSystem>) -> Self {
        Self(Arc::new(Inner {
            fs,
            temporary: AtomicU64::new(0),
            directories: Mutex::default(),
            poison: Mutex::default(),
        }))
    }

    /// Removes what unfinished puts left behind, and makes every name there is durable: a killed process may have
    /// linked an object without syncing its directory. Called at open for writing, under the lock of the root. Returns how
    /// many files were removed.
    ///
    /// # Errors
    /// I/O errors.
    pub fn remove_temporary(&self) -> Result<usize> {
        let fs = &self.0.fs;
        let listed = fs.list("").map_err(|e| Error::io("listing the root", e))?;
        let mut directories = BTreeSet::from([String::new()]);
        let mut removed = 0;
        for (name, _) in listed {
            let mut above = parent(&name);
            while !above.is_empty() {
                directories.insert(above.to_owned());
                above = parent(above);
            }
            if is_temporary(&name) {
                fs.remove_file(&name).map_err(|e| Error::io(format!("removing {name}"), e))?;
                removed += 1;
            }
        }
        for directory in directories {
            fs.sync_dir(&directory).map_err(|e| Error::io(format!("syncing directory '{directory}'"), e))?;
        }
        Ok(removed)
    }
}

impl fmt::Display for LocalStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("LocalStore")
    }
}

fn is_temporary(name: &str) -> bool {
    name.rsplit('/').next().is_some_and(|file| file.starts_with(TEMPORARY))
}

/// An I/O error on object `path`, as object_store's kinds.
fn store_error(what: &str, path: &str, error: io::Error) -> StoreError {
    let path = path.to_owned();
    match error.kind() {
        io::ErrorKind::NotFound => StoreError::NotFound { path, source: Box::new(error) },
        io::ErrorKind::AlreadyExists => StoreError::AlreadyExists { path, source: Box::new(error) },
        _ => Error::io(format_args!("{what} {path}"), error).into(),
    }
}

impl Inner {
    /// The file of an object that may be written.
    fn writable(&self, location: &Path) -> StoreResult<String> {
        self.poison.lock().unwrap_or_else(PoisonError::into_inner).check()?;
        let path = location.as_ref().to_owned();
        if path.is_empty() || is_temporary(&path) {
            let error = io::Error::new(io::ErrorKind::InvalidInput, "not the name of an object");
            return Err(store_error("writing", &path, error));
        }
        Ok(path)
    }

    /// Makes names in the directory of `path` durable. After a failure nobody knows which names are, and a later sync would
    /// say they are: so nothing is written any more (D1).
    fn sync_parent(&self, path: &str) -> StoreResult<()> {
        self.fs.sync_dir(parent(path)).map_err(|e| {
            let error = Error::io(format!("syncing the directory of {path}"), e);
            self.poison.lock().unwrap_or_else(PoisonError::into_inner).set(error).into()
        })
    }

    /// Creates the directory of `path`, durably, once.
    fn create_parent(&self, path: &str) -> StoreResult<()> {
        let directory = parent(path);
        let known = |set: &HashSet<String>| directory.is_empty() || set.contains(directory);
        if known(&self.directories.lock().unwrap_or_else(PoisonError::into_inner)) {
            return Ok(());
        }
        self.fs.create_dir_all(directory).map_err(|e| store_error("creating the directory of", path, e))?;
        self.directories.lock().unwrap_or_else(PoisonError::into_inner).insert(directory.to_owned());
        Ok(())
    }

    /// Gives the synced temporary file its name, durably.
    fn publish(&self, temporary: Temporary, path: &str, target: Target) -> StoreResult<PutResult> {
        let replaces = target == Target::Overwrite && self.fs.len(path).is_ok();
        match target {
            Target::Overwrite => {
                self.fs.rename(temporary.path(), path).map_err(|e| store_error("naming", path, e))?;
                temporary.forget();
            }
            // The temporary name goes when `temporary` is dropped, before the directory is synced.
            Target::Create => {
                self.fs.hard_link(temporary.path(), path).map_err(|e| store_error("naming", path, e))?;
                drop(temporary);
            }
        }
        self.sync_parent(path).inspect_err(|_| {
            if !replaces {
                // The name may be seen until the next power loss and be gone after it, and no later sync would tell:
                // the next process must not build on it.
                let _ignored = self.fs.remove_file(path);
            }
        })?;
        Ok(PutResult { e_tag: None, version: None })
    }

    fn remove(&self, location: &Path) -> StoreResult<()> {
        let path = self.writable(location)?;
        match self.fs.remove_file(&path) {
            Ok(()) => self.sync_parent(&path),
            // As object stores have it: gone is gone.
            Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(()),
            Err(e) => Err(store_error("removing", &path, e)),
        }
    }

    fn listed(&self, prefix: Option<&Path>) -> StoreResult<Vec<ObjectMeta>> {
        let prefix = prefix.map_or("", |p| p.as_ref());
        let files = self.fs.list(prefix).map_err(|e| store_error("listing", prefix, e))?;
        // A name that is no object path was put there by somebody else.
        let meta = |(name, size): (String, u64)| {
            // Who removes objects by age asks for it.
            let modified_us = self.fs.modified_us(&name).ok().flatten();
            let modified = modified_us.and_then(arrow::temporal_conversions::timestamp_us_to_datetime);
            let last_modified = modified.map(|time| time.and_utc()).unwrap_or_default();
            Some(ObjectMeta { last_modified, ..read::meta(Path::parse(name).ok()?, size) })
        };
        Ok(files.into_iter().filter(|(name, _)| !is_temporary(name)).filter_map(meta).collect())
    }
}

#[async_trait]
impl ObjectStore for LocalStore {
    async fn put_opts(
        &self,
        location: &Path,
        payload: PutPayload,
        options: PutOptions,
    ) -> StoreResult<PutResult> {
        let target = match options.mode {
            PutMode::Overwrite => Target::Overwrite,
            PutMode::Create => Target::Create,
            PutMode::Update(_) => {
                return Err(StoreError::NotImplemented {
                    operation: "conditional update".to_owned(),
                    implementer: self.to_string(),
                });
            }
        };
        let mut upload = Upload::begin(&self.0, location, target)?;
        for bytes in &payload {
            upload.write(bytes)?;
        }
        upload.finish().await
    }

    async fn put_multipart_opts(
        &self,
        location: &Path,
        _options: PutMultipartOptions,
    ) -> StoreResult<Box<dyn MultipartUpload>> {
        Ok(Box::new(Upload::begin(&self.0, location, Target::Overwrite)?))
    }

    async fn get_opts(&self, location: &Path, options: GetOptions) -> StoreResult<GetResult> {
        read::get(&*self.0.fs, location, &options)
    }

    async fn get_ranges(&self, location: &Path, ranges: &[Range<u64>]) -> StoreResult<Vec<Bytes>> {
        read::get_ranges(&*self.0.fs, location, ranges)
    }

    fn delete_stream(
        &self,
        locations: BoxStream<'static, StoreResult<Path>>,
    ) -> BoxStream<'static, StoreResult<Path>> {
        let inner = Arc::clone(&self.0);
        locations
            .map(move |location| {
                let location = location?;
                inner.remove(&location)?;
                Ok(location)
            })
            .boxed()
    }

    fn list(&self, prefix: Option<&Path>) -> BoxStream<'static, StoreResult<ObjectMeta>> {
        match self.0.listed(prefix) {
            Ok(found) => stream::iter(found.into_iter().map(Ok)).boxed(),
            Err(e) => stream::once(async { Err(e) }).boxed(),
        }
    }

    async fn list_with_delimiter(&self, prefix: Option<&Path>) -> StoreResult<ListResult> {
        let root = Path::default();
        let prefix = prefix.unwrap_or(&root);
        let mut result = ListResult { common_prefixes: Vec::new(), objects: Vec::new() };
        for meta in self.0.listed(Some(prefix))? {
            let Some(mut parts) = meta.location.prefix_match(prefix) else { continue };
            let Some(first) = parts.next() else { continue };
            if parts.next().is_none() {
                drop(parts);
                result.objects.push(meta);
                continue;
            }
            let child = prefix.clone().join(first);
            // Sorted by name, so children of one directory stand together.
            if result.common_prefixes.last() != Some(&child) {
                result.common_prefixes.push(child);
            }
        }
        Ok(result)
    }

    async fn copy_opts(&self, from: &Path, to: &Path, options: CopyOptions) -> StoreResult<()> {
        let target = match options.mode {
            CopyMode::Overwrite => Target::Overwrite,
            CopyMode::Create => Target::Create,
        };
        let mut source = self.get_opts(from, GetOptions::default()).await?.into_stream();
        let mut upload = Upload::begin(&self.0, to, target)?;
        while let Some(bytes) = source.try_next().await? {
            upload.write(&bytes)?;
        }
        upload.finish().await.map(|_| ())
    }

    async fn rename_opts(&self, from: &Path, to: &Path, options: RenameOptions) -> StoreResult<()> {
        let (from, to) = (self.0.writable(from)?, self.0.writable(to)?);
        self.0.create_parent(&to)?;
        match options.target_mode {
            RenameTargetMode::Overwrite => {
                self.0.fs.rename(&from, &to).map_err(|e| store_error("renaming", &from, e))?;
                self.0.sync_parent(&to)?;
            }
            RenameTargetMode::Create => {
                self.0.fs.hard_link(&from, &to).map_err(|e| {
                    let taken = e.kind() == io::ErrorKind::AlreadyExists;
                    store_error("renaming", if taken { &to } else { &from }, e)
                })?;
                // First the new name, then the old one goes: never neither.
                self.0.sync_parent(&to)?;
                self.0.fs.remove_file(&from).map_err(|e| store_error("renaming", &from, e))?;
            }
        }
        self.0.sync_parent(&from)
    }
}

#[cfg(test)]
mod tests;
