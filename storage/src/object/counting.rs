//! A store for tests that says which requests it got, and can hold them back or fail them.
#![allow(clippy::unwrap_used)]

use std::fmt;
use std::ops::Range;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use futures::stream::{self, BoxStream, StreamExt};
use object_store::path::Path;
use object_store::{
    CopyOptions, GetOptions, GetRange, GetResult, GetResultPayload, ListResult, MultipartUpload, ObjectMeta,
    ObjectStore, PutMultipartOptions, PutOptions, PutPayload, PutResult, Result,
};
use tokio::sync::Semaphore;

use super::ReadMeter;

/// Counts reads. Ranges are read as remote stores do it, which merge near ones into requests.
#[derive(Debug)]
pub(crate) struct CountingStore {
    store: Arc<dyn ObjectStore>,
    reads: Mutex<Vec<Read>>,
    held: AtomicBool,
    released: Semaphore,
    failing: AtomicBool,
    listing_fails: AtomicBool,
    listing_hangs: AtomicBool,
}

/// A request to read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Read {
    pub(crate) path: String,
    /// None: the whole object, or only its meta.
    pub(crate) range: Option<GetRange>,
    pub(crate) head: bool,
}

impl CountingStore {
    pub(crate) fn new(store: Arc<dyn ObjectStore>) -> Self {
        Self {
            store,
            reads: Mutex::default(),
            held: AtomicBool::new(false),
            released: Semaphore::new(0),
            failing: AtomicBool::new(false),
            listing_fails: AtomicBool::new(false),
            listing_hangs: AtomicBool::new(false),
        }
    }

    /// The requests since the last call.
    pub(crate) fn reads(&self) -> Vec<Read> {
        std::mem::take(&mut self.reads.lock().unwrap())
    }

    /// How many requests there were since the last call.
    pub(crate) fn count(&self) -> usize {
        self.reads().len()
    }

    /// The ranges asked for since the last call, ascending.
    pub(crate) fn ranges(&self) -> Vec<Range<u64>> {
        let bounded = |read: Read| match read.range {
            Some(GetRange::Bounded(range)) => range,
            other => panic!("{} was read as {other:?}", read.path),
        };
        let mut ranges: Vec<Range<u64>> = self.reads().into_iter().map(bounded).collect();
        ranges.sort_by_key(|range| range.start);
        ranges
    }

    /// Answers no read until [`release`](Self::release).
    pub(crate) fn hold(&self) {
        self.held.store(true, Ordering::SeqCst);
    }

    /// Answers `reads` that were held back, or will be.
    pub(crate) fn release(&self, reads: usize) {
        self.released.add_permits(reads);
    }

    /// Whether reads fail.
    pub(crate) fn fail(&self, failing: bool) {
        self.failing.store(failing, Ordering::SeqCst);
    }

    /// From now on listings fail.
    pub(crate) fn fail_listings(&self) {
        self.listing_fails.store(true, Ordering::SeqCst);
    }

    /// From now on listings are never answered.
    pub(crate) fn hang_listings(&self) {
        self.listing_hangs.store(true, Ordering::SeqCst);
    }
}

fn failure() -> object_store::Error {
    object_store::Error::Generic { store: "test", source: "it fails".into() }
}

impl fmt::Display for CountingStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "CountingStore({})", self.store)
    }
}

#[async_trait]
impl ObjectStore for CountingStore {
    async fn put_opts(&self, location: &Path, payload: PutPayload, options: PutOptions) -> Result<PutResult> {
        self.store.put_opts(location, payload, options).await
    }

    async fn put_multipart_opts(
        &self,
        location: &Path,
        options: PutMultipartOptions,
    ) -> Result<Box<dyn MultipartUpload>> {
        self.store.put_multipart_opts(location, options).await
    }

    async fn get_opts(&self, location: &Path, options: GetOptions) -> Result<GetResult> {
        self.reads.lock().unwrap().push(Read {
            path: location.to_string(),
            range: options.range.clone(),
            head: options.head,
        });
        if self.held.load(Ordering::SeqCst) {
            self.released.acquire().await.unwrap().forget();
        }
        if self.failing.load(Ordering::SeqCst) {
            return Err(failure());
        }
        let meter = ReadMeter::of(&options);
        let found = self.store.get_opts(location, options).await?;
        let (meta, range, attributes) = (found.meta.clone(), found.range.clone(), found.attributes.clone());
        let bytes: Bytes = found.bytes().await?;
        if let Some(meter) = meter {
            meter.request(bytes.len() as u64, Duration::ZERO);
        }
        let payload = GetResultPayload::Stream(stream::once(async move { Ok(bytes) }).boxed());
        Ok(GetResult { payload, meta, range, attributes })
    }

    fn delete_stream(&self, locations: BoxStream<'static, Result<Path>>) -> BoxStream<'static, Result<Path>> {
        self.store.delete_stream(locations)
    }

    fn list(&self, prefix: Option<&Path>) -> BoxStream<'static, Result<ObjectMeta>> {
        if self.listing_fails.load(Ordering::SeqCst) {
            return stream::once(async { Err(failure()) }).boxed();
        }
        if self.listing_hangs.load(Ordering::SeqCst) {
            return stream::pending().boxed();
        }
        self.store.list(prefix)
    }

    async fn list_with_delimiter(&self, prefix: Option<&Path>) -> Result<ListResult> {
        self.store.list_with_delimiter(prefix).await
    }

    async fn copy_opts(&self, from: &Path, to: &Path, options: CopyOptions) -> Result<()> {
        self.store.copy_opts(from, to, options).await
    }
}
