//! Reading past the cache: whoever checks objects wants those of the store, not the copies on this machine.

use std::fmt;
use std::sync::Arc;

use async_trait::async_trait;
use futures::stream::BoxStream;
use object_store::path::Path;
use object_store::{
    CopyOptions, GetOptions, GetResult, ListResult, MultipartUpload, ObjectMeta, ObjectStore,
    PutMultipartOptions, PutOptions, PutPayload, PutResult, RenameOptions, Result,
};

/// Travels with a read, in [`GetOptions::extensions`], that the cache has to hand on as it is.
#[derive(Clone, Copy, Debug)]
pub(crate) struct PastCache;

impl PastCache {
    /// Lets it travel with a read.
    #[must_use]
    pub(crate) fn attach(mut options: GetOptions) -> GetOptions {
        options.extensions.insert(Self);
        options
    }

    /// Whether it travels with a read.
    pub(super) fn is_in(options: &GetOptions) -> bool {
        options.extensions.get::<Self>().is_some()
    }
}

/// The same objects as in `store`, every read of which is past the cache.
pub(crate) fn past_cache(store: Arc<dyn ObjectStore>) -> Arc<dyn ObjectStore> {
    Arc::new(PastCacheStore(store))
}

#[derive(Debug)]
struct PastCacheStore(Arc<dyn ObjectStore>);

impl fmt::Display for PastCacheStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "PastCacheStore({})", self.0)
    }
}

/// `get_ranges` is the trait's own, which ends in `get_opts`: it has no options to travel in.
#[async_trait]
impl ObjectStore for PastCacheStore {
    async fn put_opts(&self, location: &Path, payload: PutPayload, options: PutOptions) -> Result<PutResult> {
        self.0.put_opts(location, payload, options).await
    }

    async fn put_multipart_opts(
        &self,
        location: &Path,
        options: PutMultipartOptions,
    ) -> Result<Box<dyn MultipartUpload>> {
        self.0.put_multipart_opts(location, options).await
    }

    async fn get_opts(&self, location: &Path, options: GetOptions) -> Result<GetResult> {
        self.0.get_opts(location, PastCache::attach(options)).await
    }

    fn delete_stream(&self, locations: BoxStream<'static, Result<Path>>) -> BoxStream<'static, Result<Path>> {
        self.0.delete_stream(locations)
    }

    fn list(&self, prefix: Option<&Path>) -> BoxStream<'static, Result<ObjectMeta>> {
        self.0.list(prefix)
    }

    fn list_with_offset(
        &self,
        prefix: Option<&Path>,
        offset: &Path,
    ) -> BoxStream<'static, Result<ObjectMeta>> {
        self.0.list_with_offset(prefix, offset)
    }

    async fn list_with_delimiter(&self, prefix: Option<&Path>) -> Result<ListResult> {
        self.0.list_with_delimiter(prefix).await
    }

    async fn copy_opts(&self, from: &Path, to: &Path, options: CopyOptions) -> Result<()> {
        self.0.copy_opts(from, to, options).await
    }

    async fn rename_opts(&self, from: &Path, to: &Path, options: RenameOptions) -> Result<()> {
        self.0.rename_opts(from, to, options).await
    }
}
