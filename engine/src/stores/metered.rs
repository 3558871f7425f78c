//! A bucket whose reads are counted for one statement.
//!
//! Owns: that the statement's meter goes along with every read and listing. Does not own: requests and their bytes, which the store that sends
//! them counts (`cairn_storage::object`), and what is shown of them (`measure`). What is written is not counted.

use std::fmt;
use std::ops::Range;
use std::sync::Arc;
use std::time::Instant;

use async_trait::async_trait;
use bytes::Bytes;
use cairn_storage::object::{ReadMeter, metered_ranges};
use datafusion::object_store::path::Path;
use datafusion::object_store::{
    self, CopyOptions, GetOptions, GetResult, ListResult, MultipartUpload, ObjectMeta, ObjectStore,
    PutMultipartOptions, PutOptions, PutPayload, PutResult,
};
use futures::StreamExt;
use futures::stream::{self, BoxStream};

/// Objects on a page of a listing, by which its requests are counted: stores tell objects, not pages.
const PAGE_OBJECTS: u64 = 1000;

/// See the module.
#[derive(Debug)]
pub(super) struct MeteredStore {
    inner: Arc<dyn ObjectStore>,
    meter: ReadMeter,
}

impl MeteredStore {
    pub(super) fn new(inner: Arc<dyn ObjectStore>, meter: ReadMeter) -> Self {
        Self { inner, meter }
    }
}

impl fmt::Display for MeteredStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.inner.fmt(f)
    }
}

#[async_trait]
impl ObjectStore for MeteredStore {
    async fn put_opts(
        &self,
        location: &Path,
        payload: PutPayload,
        options: PutOptions,
    ) -> object_store::Result<PutResult> {
        self.inner.put_opts(location, payload, options).await
    }

    async fn put_multipart_opts(
        &self,
        location: &Path,
        options: PutMultipartOptions,
    ) -> object_store::Result<Box<dyn MultipartUpload>> {
        self.inner.put_multipart_opts(location, options).await
    }

    async fn get_opts(&self, location: &Path, options: GetOptions) -> object_store::Result<GetResult> {
        self.inner.get_opts(location, self.meter.attach(options)).await
    }

    async fn get_ranges(&self, location: &Path, ranges: &[Range<u64>]) -> object_store::Result<Vec<Bytes>> {
        metered_ranges(&*self.inner, location, ranges, &self.meter).await
    }

    fn delete_stream(
        &self,
        locations: BoxStream<'static, object_store::Result<Path>>,
    ) -> BoxStream<'static, object_store::Result<Path>> {
        self.inner.delete_stream(locations)
    }

    fn list(&self, prefix: Option<&Path>) -> BoxStream<'static, object_store::Result<ObjectMeta>> {
        let (listed, meter) = (self.inner.list(prefix), self.meter.clone());
        let counted = stream::unfold((listed, meter, 0_u64), |(mut listed, meter, seen)| async move {
            let begun = Instant::now();
            let next = listed.next().await;
            // The first of a page was waited for; an empty one is a page, too.
            if seen == 0 || next.is_some() && seen.is_multiple_of(PAGE_OBJECTS) {
                meter.request(0, begun.elapsed());
            }
            next.map(|object| (object, (listed, meter, seen + 1)))
        });
        counted.boxed()
    }

    async fn list_with_delimiter(&self, prefix: Option<&Path>) -> object_store::Result<ListResult> {
        let begun = Instant::now();
        let listed = self.inner.list_with_delimiter(prefix).await;
        self.meter.request(0, begun.elapsed());
        listed
    }

    async fn copy_opts(&self, from: &Path, to: &Path, options: CopyOptions) -> object_store::Result<()> {
        self.inner.copy_opts(from, to, options).await
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use cairn_storage::object::steady;
    use datafusion::object_store::ObjectStoreExt;
    use datafusion::object_store::memory::InMemory;
    use futures::TryStreamExt;

    use super::*;

    #[tokio::test]
    async fn what_is_told_is_what_was_asked_for() {
        let memory = Arc::new(InMemory::new());
        let bytes: Vec<u8> = (0..20_u32 << 20).map(|i| (i % 251) as u8).collect();
        memory.put(&Path::from("a/x"), bytes.clone().into()).await.unwrap();
        for n in 0..1001 {
            memory.put(&Path::from(format!("b/{n}")), "y".into()).await.unwrap();
        }
        let (steady, metrics) = steady(memory);
        let meter = ReadMeter::default();
        let metered = MeteredStore::new(Arc::clone(&steady), meter.clone());
        let path = Path::from("a/x");
        let ranges = [0..10, 300_000..300_010, 1 << 20..17 << 20, 19 << 20..20 << 20];
        let read = metered.get_ranges(&path, &ranges).await.unwrap();
        assert_eq!(meter.figures().requests, metrics.figures().gets);
        let plain = steady.get_ranges(&path, &ranges).await.unwrap();
        assert_eq!(metrics.figures().gets, 2 * meter.figures().requests, "as many as without a meter");
        assert!(read == plain);
        let before = (metrics.figures(), meter.figures());
        metered.head(&path).await.unwrap();
        assert_eq!(metered.get_range(&path, 5..25).await.unwrap(), bytes[5..25]);
        assert!(metered.get(&Path::from("none")).await.is_err());
        for (prefix, objects) in [("a", 1), ("b", 1001), ("none", 0)] {
            let listed: Vec<_> = metered.list(Some(&Path::from(prefix))).try_collect().await.unwrap();
            assert_eq!(listed.len(), objects);
        }
        let (asked, told) = (metrics.figures(), meter.figures());
        assert_eq!((asked.heads, asked.gets - before.0.gets, asked.lists), (1, 2, 4));
        assert_eq!((told.requests - before.1.requests, told.bytes - before.1.bytes), (7, 20));
    }
}
