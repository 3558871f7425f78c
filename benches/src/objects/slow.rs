//! A store that answers as a distant one does: a wait to the first byte of each request, then so many bytes a second.
//!
//! Owns: the waits, and what counts as one request (as on S3: a page of a listing, a thousand deletes, a part of an upload).
//! Ranges that are asked for together are merged as `object_store` does for S3. Does not own: the objects, the counts (`traffic`).

use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use datafusion::object_store::path::Path;
use datafusion::object_store::{
    CopyOptions, GetOptions, GetResult, GetResultPayload, ListResult, MultipartUpload, ObjectMeta,
    ObjectStore, PutMultipartOptions, PutOptions, PutPayload, PutResult, Result, UploadPart,
};
use futures::stream::{self, BoxStream};
use futures::{StreamExt, TryStreamExt};
use tokio::time::{Instant, sleep, sleep_until};

use super::traffic::{Counts, Kind, Traffic, Underway};

/// Objects of one page of a listing, and of one request that deletes.
const PAGE: usize = 1000;
/// Bytes that arrive together.
const PART_BYTES: usize = 256 << 10;

/// How fast a store answers.
#[derive(Clone, Copy, Debug)]
pub(super) struct Pace {
    /// To the first byte of an answer.
    pub(super) latency: Duration,
    /// In either direction.
    pub(super) bytes_per_second: f64,
    /// All requests share that speed; else each has it, as connections to S3 do.
    pub(super) shared: bool,
}

/// See the module.
#[derive(Clone, Debug)]
pub(super) struct SlowStore {
    inner: Arc<dyn ObjectStore>,
    pace: Pace,
    /// The one for all requests.
    line: Option<Arc<Line>>,
    traffic: Arc<Traffic>,
}

impl SlowStore {
    /// The objects of `inner` at that pace.
    pub(super) fn new(inner: Arc<dyn ObjectStore>, pace: Pace) -> Self {
        let line = pace.shared.then(|| Arc::new(Line::new(pace.bytes_per_second)));
        Self { inner, pace, line, traffic: Arc::default() }
    }

    /// What was asked since the last call.
    pub(super) fn take(&self) -> Counts {
        self.traffic.take()
    }

    fn line(&self) -> Arc<Line> {
        match &self.line {
            Some(line) => Arc::clone(line),
            None => Arc::new(Line::new(self.pace.bytes_per_second)),
        }
    }

    /// A request with nothing in it, until the first byte of its answer.
    async fn ask(&self, kind: Kind) -> Underway {
        let underway = self.traffic.begin(kind);
        sleep(self.pace.latency).await;
        underway
    }

    /// A request with a body, until its answer.
    async fn send(&self, bytes: usize) -> Underway {
        let underway = self.ask(Kind::Put).await;
        sleep_until(self.line().through(Instant::now(), bytes)).await;
        underway.sent(bytes);
        underway
    }
}

/// What bytes go through, one after the other.
#[derive(Debug)]
struct Line {
    bytes_per_second: f64,
    free_at: Mutex<Option<Instant>>,
}

impl Line {
    fn new(bytes_per_second: f64) -> Self {
        Self { bytes_per_second, free_at: Mutex::new(None) }
    }

    /// When `bytes` that are there at `ready` have come through, behind those given before.
    fn through(&self, ready: Instant, bytes: usize) -> Instant {
        let mut free_at = self.free_at.lock().unwrap_or_else(PoisonError::into_inner);
        let begins = free_at.map_or(ready, |free_at| free_at.max(ready));
        let ends = begins + Duration::from_secs_f64(bytes as f64 / self.bytes_per_second);
        *free_at = Some(ends);
        ends
    }
}

/// The rest of an answer.
struct Answer {
    rest: Bytes,
    line: Arc<Line>,
    /// When its first byte was there.
    ready: Instant,
    underway: Underway,
}

impl Answer {
    fn into_stream(self) -> BoxStream<'static, Result<Bytes>> {
        let parts = stream::unfold(self, |mut answer| async move {
            if answer.rest.is_empty() {
                return None;
            }
            let part = answer.rest.split_to(PART_BYTES.min(answer.rest.len()));
            sleep_until(answer.line.through(answer.ready, part.len())).await;
            answer.underway.received(part.len());
            Some((Ok(part), answer))
        });
        parts.boxed()
    }
}

impl fmt::Display for SlowStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SlowStore({})", self.inner)
    }
}

#[async_trait]
impl ObjectStore for SlowStore {
    async fn put_opts(&self, location: &Path, payload: PutPayload, opts: PutOptions) -> Result<PutResult> {
        let _underway = self.send(payload.content_length()).await;
        self.inner.put_opts(location, payload, opts).await
    }

    async fn put_multipart_opts(
        &self,
        location: &Path,
        opts: PutMultipartOptions,
    ) -> Result<Box<dyn MultipartUpload>> {
        let _underway = self.send(0).await;
        let inner = self.inner.put_multipart_opts(location, opts).await?;
        Ok(Box::new(SlowUpload { inner, store: self.clone() }))
    }

    async fn get_opts(&self, location: &Path, options: GetOptions) -> Result<GetResult> {
        let head = options.head;
        let underway = self.ask(if head { Kind::Head } else { Kind::Get }).await;
        let found = self.inner.get_opts(location, options).await?;
        let (meta, range, attributes) = (found.meta.clone(), found.range.clone(), found.attributes.clone());
        if head {
            let payload = GetResultPayload::Stream(stream::empty().boxed());
            return Ok(GetResult { payload, meta, range, attributes });
        }
        underway.found(location, &range);
        let answer =
            Answer { rest: found.bytes().await?, line: self.line(), ready: Instant::now(), underway };
        let payload = GetResultPayload::Stream(answer.into_stream());
        Ok(GetResult { payload, meta, range, attributes })
    }

    fn delete_stream(&self, locations: BoxStream<'static, Result<Path>>) -> BoxStream<'static, Result<Path>> {
        let store = self.clone();
        let deleted = locations.try_chunks(PAGE).then(move |page| {
            let store = store.clone();
            async move {
                let page = match page {
                    Ok(page) => page,
                    Err(failed) => return stream::once(async move { Err::<Path, _>(failed.1) }).boxed(),
                };
                let _underway = store.ask(Kind::Delete).await;
                let page = stream::iter(page.into_iter().map(Ok)).boxed();
                let deleted: Vec<_> = store.inner.delete_stream(page).collect().await;
                stream::iter(deleted).boxed()
            }
        });
        deleted.flatten().boxed()
    }

    fn list(&self, prefix: Option<&Path>) -> BoxStream<'static, Result<ObjectMeta>> {
        self.pages(self.inner.list(prefix))
    }

    fn list_with_offset(
        &self,
        prefix: Option<&Path>,
        offset: &Path,
    ) -> BoxStream<'static, Result<ObjectMeta>> {
        self.pages(self.inner.list_with_offset(prefix, offset))
    }

    async fn list_with_delimiter(&self, prefix: Option<&Path>) -> Result<ListResult> {
        let _underway = self.ask(Kind::List).await;
        self.inner.list_with_delimiter(prefix).await
    }

    async fn copy_opts(&self, from: &Path, to: &Path, options: CopyOptions) -> Result<()> {
        let _underway = self.ask(Kind::Copy).await;
        self.inner.copy_opts(from, to, options).await
    }
}

impl SlowStore {
    /// One request for each page; one for none.
    fn pages(
        &self,
        listed: BoxStream<'static, Result<ObjectMeta>>,
    ) -> BoxStream<'static, Result<ObjectMeta>> {
        let store = self.clone();
        let pages = stream::unfold((listed.chunks(PAGE), true), move |(mut pages, first)| {
            let store = store.clone();
            async move {
                let page = match pages.next().await {
                    Some(page) => page,
                    None if first => Vec::new(),
                    None => return None,
                };
                drop(store.ask(Kind::List).await);
                Some((stream::iter(page), (pages, false)))
            }
        });
        pages.flatten().boxed()
    }
}

/// An upload in parts, each a request.
#[derive(Debug)]
struct SlowUpload {
    inner: Box<dyn MultipartUpload>,
    store: SlowStore,
}

#[async_trait]
impl MultipartUpload for SlowUpload {
    fn put_part(&mut self, payload: PutPayload) -> UploadPart {
        let bytes = payload.content_length();
        let part = self.inner.put_part(payload);
        let store = self.store.clone();
        Box::pin(async move {
            let _underway = store.send(bytes).await;
            part.await
        })
    }

    async fn complete(&mut self) -> Result<PutResult> {
        let _underway = self.store.send(0).await;
        self.inner.complete().await
    }

    async fn abort(&mut self) -> Result<()> {
        let _underway = self.store.ask(Kind::Delete).await;
        self.inner.abort().await
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use datafusion::object_store::ObjectStoreExt;
    use datafusion::object_store::memory::InMemory;

    use super::*;

    fn slow(shared: bool) -> SlowStore {
        let pace = Pace { latency: Duration::from_millis(20), bytes_per_second: 100e6, shared };
        SlowStore::new(Arc::new(InMemory::new()), pace)
    }

    /// Milliseconds from `started`, which the clock of the tests makes exact to one.
    fn ms(started: Instant) -> u64 {
        u64::try_from(started.elapsed().as_millis()).unwrap()
    }

    async fn get(store: &SlowStore, path: &Path) -> usize {
        store.get(path).await.unwrap().bytes().await.unwrap().len()
    }

    #[tokio::test(start_paused = true)]
    async fn requests_wait_for_the_first_byte_and_for_each_byte() {
        for (shared, together) in [(false, 30..=32), (true, 40..=42)] {
            let store = slow(shared);
            let path = Path::from("a");
            store.put(&path, vec![0; 1_000_000].into()).await.unwrap();
            let counts = store.take();
            assert_eq!((counts.puts, counts.written, counts.round_trips), (1, 1_000_000, 1));

            let started = Instant::now();
            assert_eq!(get(&store, &path).await, 1_000_000);
            assert!((30..=32).contains(&ms(started)), "{} ms", ms(started));
            let started = Instant::now();
            futures::join!(get(&store, &path), get(&store, &path));
            assert!(together.contains(&ms(started)), "{} ms", ms(started));
            let counts = store.take();
            assert_eq!((counts.gets, counts.read, counts.round_trips), (3, 3_000_000, 2));
        }
    }

    #[tokio::test(start_paused = true)]
    async fn what_is_not_there_and_what_is_listed_costs_a_request() {
        let store = slow(false);
        assert!(store.head(&Path::from("a")).await.is_err());
        assert!(store.list(None).next().await.is_none());
        for n in 0..3 {
            store.inner.put(&Path::from(format!("{n}")), vec![1].into()).await.unwrap();
        }
        assert_eq!(store.list(None).try_collect::<Vec<_>>().await.unwrap().len(), 3);
        let names: Vec<_> = (0..3).map(|n| Ok(Path::from(format!("{n}")))).collect();
        let deleted: Vec<_> = store.delete_stream(stream::iter(names).boxed()).try_collect().await.unwrap();
        assert_eq!(deleted.len(), 3);
        let counts = store.take();
        assert_eq!((counts.heads, counts.lists, counts.deletes, counts.requests()), (1, 2, 1, 4));
        assert_eq!(counts.round_trips, 4);
    }
}
