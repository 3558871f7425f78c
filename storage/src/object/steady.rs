//! Requests to a store that loses some: counted, limited in time, and sent again where that is safe.
//!
//! Owns: what is sent again (`attempts`), whole bodies of reads (`read`), listings that go on where they broke off
//! (`listing`), deletes (`delete`), uploads in parts (`upload`) and whether they were done (`settle`). Does not own: what errors
//! mean (`reason`), the client (`remote`).
//!
//! Sent again is only what may be done twice: reads, listings, deletes, overwriting puts, numbered parts. A put that
//! creates or updates is sent once: whether it was done is settled by whoever wrote a unique id into the object (D9), and its
//! error says when it surely was not (`reason::judged`). An overwriting put that was given up may still arrive after its successor, so nobody overwrites an object whose older bytes
//! would do harm.

mod attempts;
mod delete;
mod listing;
mod read;
mod settle;
mod upload;

use std::fmt;
use std::ops::Range;
use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use futures::stream::BoxStream;
use object_store::multipart::MultipartStore;
use object_store::path::Path;
use object_store::{
    CopyMode, CopyOptions, GetOptions, GetResult, ListResult, MultipartUpload, ObjectMeta, ObjectStore,
    PutMode, PutMultipartOptions, PutOptions, PutPayload, PutResult, Result as StoreResult,
};

pub use self::attempts::RequestLimits;
use self::attempts::{Budget, Repeat, within};
pub use self::read::metered_ranges;
use crate::metrics::ObjectMetrics;

/// A store around another, see the module.
#[derive(Clone, Debug)]
pub struct SteadyStore(Arc<Inner>);

struct Inner {
    store: Arc<dyn ObjectStore>,
    /// The same store, for parts that have numbers.
    parts: Option<Arc<dyn MultipartStore>>,
    limits: RequestLimits,
    budget: Budget,
    metrics: Arc<ObjectMetrics>,
}

impl SteadyStore {
    /// Steadies `store`. `parts` is the same store where it has numbers for the parts of an upload: without them no part
    /// can be sent again.
    #[must_use]
    pub fn new(
        store: Arc<dyn ObjectStore>,
        parts: Option<Arc<dyn MultipartStore>>,
        limits: RequestLimits,
    ) -> Self {
        Self::counting(store, parts, limits, Arc::default())
    }

    /// The same; its requests count in `metrics`, which may be those of other stores too.
    #[must_use]
    pub fn counting(
        store: Arc<dyn ObjectStore>,
        parts: Option<Arc<dyn MultipartStore>>,
        limits: RequestLimits,
        metrics: Arc<ObjectMetrics>,
    ) -> Self {
        let budget = Budget::new(limits.budget);
        Self(Arc::new(Inner { store, parts, limits, budget, metrics }))
    }

    /// What its requests count.
    #[must_use]
    pub fn metrics(&self) -> Arc<ObjectMetrics> {
        Arc::clone(&self.0.metrics)
    }
}

/// Steadies a store with the usual limits; its parts have no numbers.
#[must_use]
pub fn steady(store: Arc<dyn ObjectStore>) -> (Arc<dyn ObjectStore>, Arc<ObjectMetrics>) {
    // The same course each time: this is for stores that are given, by tests above all.
    let limits = RequestLimits { jitter: Some(0.5), ..RequestLimits::default() };
    let steady = SteadyStore::new(store, None, limits);
    let metrics = steady.metrics();
    (Arc::new(steady), metrics)
}

impl fmt::Display for SteadyStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.store.fmt(f)
    }
}

impl fmt::Debug for Inner {
    /// Without the client, whose text could hold credentials.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Inner").field("store", &self.store.to_string()).field("limits", &self.limits).finish()
    }
}

#[async_trait]
impl ObjectStore for SteadyStore {
    async fn put_opts(
        &self,
        location: &Path,
        payload: PutPayload,
        options: PutOptions,
    ) -> StoreResult<PutResult> {
        let repeat = match options.mode {
            PutMode::Overwrite => Repeat::Always,
            PutMode::Create | PutMode::Update(_) => Repeat::Never,
        };
        let bytes = payload.content_length() as u64;
        let (inner, payload, options) = (&*self.0, &payload, &options);
        let put = move || async move {
            inner.metrics.puts.one();
            inner.metrics.written_bytes.add(bytes);
            let put = inner.store.put_opts(location, payload.clone(), options.clone());
            inner.attempt(within(location.as_ref(), inner.limits.time_for(bytes), put)).await
        };
        inner.repeat(location.as_ref(), repeat, put).await
    }

    async fn put_multipart_opts(
        &self,
        location: &Path,
        options: PutMultipartOptions,
    ) -> StoreResult<Box<dyn MultipartUpload>> {
        upload::begin(&self.0, location, options).await
    }

    /// The bytes are collected before it returns, so that a body that breaks off is read again. Objects here are at most
    /// some hundred MiB, and large ones are read in ranges.
    async fn get_opts(&self, location: &Path, options: GetOptions) -> StoreResult<GetResult> {
        self.0.get(location, &options).await
    }

    async fn get_ranges(&self, location: &Path, ranges: &[Range<u64>]) -> StoreResult<Vec<Bytes>> {
        self.0.get_ranges(location, ranges).await
    }

    fn delete_stream(
        &self,
        locations: BoxStream<'static, StoreResult<Path>>,
    ) -> BoxStream<'static, StoreResult<Path>> {
        delete::deleted(Arc::clone(&self.0), locations)
    }

    fn list(&self, prefix: Option<&Path>) -> BoxStream<'static, StoreResult<ObjectMeta>> {
        listing::listed(Arc::clone(&self.0), prefix.cloned(), None)
    }

    fn list_with_offset(
        &self,
        prefix: Option<&Path>,
        offset: &Path,
    ) -> BoxStream<'static, StoreResult<ObjectMeta>> {
        listing::listed(Arc::clone(&self.0), prefix.cloned(), Some(offset.clone()))
    }

    async fn list_with_delimiter(&self, prefix: Option<&Path>) -> StoreResult<ListResult> {
        let inner = &*self.0;
        let at = prefix.map_or("", |prefix| prefix.as_ref());
        let list = move || async move {
            inner.metrics.lists.one();
            let listed = inner.store.list_with_delimiter(prefix);
            inner.attempt(within(at, inner.limits.time_for(0), listed)).await
        };
        inner.repeat(at, Repeat::Always, list).await
    }

    /// A rename is, by the trait's default, this and a delete.
    async fn copy_opts(&self, from: &Path, to: &Path, options: CopyOptions) -> StoreResult<()> {
        let repeat = match options.mode {
            CopyMode::Overwrite => Repeat::Always,
            CopyMode::Create => Repeat::Never,
        };
        let (inner, options) = (&*self.0, &options);
        let copy = move || async move {
            inner.metrics.puts.one();
            let copied = inner.store.copy_opts(from, to, options.clone());
            inner.attempt(within(to.as_ref(), inner.limits.time_for(0), copied)).await
        };
        inner.repeat(to.as_ref(), repeat, copy).await
    }
}

#[cfg(test)]
mod tests;
