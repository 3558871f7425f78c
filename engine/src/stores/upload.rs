//! Writing one object, which appears whole or not at all.
//!
//! Owns: cutting the bytes into parts, how many of them are on their way, their memory, giving an upload up. Does not own: what the bytes
//! mean (`copy::write_file`). An object is there from [`ObjectUpload::complete`] on; before, nobody sees anything of it, and what is dropped before is
//! never seen. It blocks: it is for threads of blocking work, which the object's runtime serves meanwhile.

use std::io::{self, Write};
use std::sync::Arc;

use cairn_storage::ErrorKind;
use datafusion::execution::memory_pool::{MemoryConsumer, MemoryPool, MemoryReservation};
use datafusion::object_store::path::Path;
use datafusion::object_store::{MultipartUpload, ObjectStoreExt};
use futures::TryStreamExt;
use tokio::runtime::Handle;
use tokio::sync::Semaphore;
use tokio::task::{JoinError, JoinSet};

use super::open::OpenStore;
use super::place::url_of;
use crate::error::{Error, Result};

/// First size of a part; services take 5 MiB at least.
const PART_BYTES: usize = 8 << 20;
/// Parts of one size; the next ones are twice as large, so that the 10,000 that services take are enough for 480 GiB.
const PARTS_OF_A_SIZE: usize = 2_000;
/// Parts of one statement that are on their way at one time.
const PARTS_AT_ONCE: usize = 8;

/// Where the uploads of one statement go: what they share.
#[derive(Clone, Debug)]
pub(crate) struct Uploads {
    open: Arc<OpenStore>,
    runtime: Handle,
    slots: Arc<Semaphore>,
    pool: Arc<dyn MemoryPool>,
}

impl Uploads {
    pub(super) fn new(open: Arc<OpenStore>, runtime: Handle, pool: Arc<dyn MemoryPool>) -> Self {
        Self { open, runtime, slots: Arc::new(Semaphore::new(PARTS_AT_ONCE)), pool }
    }

    /// As `s3://bucket/key`.
    pub(crate) fn url(&self, key: &Path) -> String {
        url_of(self.open.bucket(), key.as_ref())
    }

    /// Begins the object `key`.
    pub(crate) fn begin(&self, key: Path) -> ObjectUpload {
        // Others may read it in an error of theirs.
        let consumer = MemoryConsumer::new("COPY TO");
        ObjectUpload {
            uploads: self.clone(),
            key,
            buffer: Vec::new(),
            memory: consumer.register(&self.pool),
            begun: None,
            parts: 0,
            running: JoinSet::new(),
        }
    }

    /// Whether there is an object below `key`.
    ///
    /// # Errors
    /// Those of the store.
    pub(crate) async fn is_taken(&self, key: &Path) -> Result<bool> {
        let mut listed = self.open.store().list(Some(key));
        Ok(listed.try_next().await.map_err(ours)?.is_some())
    }

    /// Removes an object that was made.
    ///
    /// # Errors
    /// Those of the store.
    pub(crate) fn remove(&self, key: &Path) -> Result<()> {
        self.runtime.block_on(self.open.store().delete(key)).map_err(ours)
    }
}

/// See the module.
pub(crate) struct ObjectUpload {
    uploads: Uploads,
    key: Path,
    /// The next part.
    buffer: Vec<u8>,
    memory: MemoryReservation,
    /// None: one request will do.
    begun: Option<Box<dyn MultipartUpload>>,
    parts: usize,
    running: JoinSet<Result<()>>,
}

impl ObjectUpload {
    /// Its key.
    pub(crate) fn key(&self) -> &Path {
        &self.key
    }

    /// Waits until all but the last request has been answered.
    ///
    /// # Errors
    /// Those of the store.
    pub(crate) fn finish(&mut self) -> Result<()> {
        if self.begun.is_some() && !self.buffer.is_empty() {
            self.send()?;
        }
        let runtime = self.uploads.runtime.clone();
        while let Some(sent) = runtime.block_on(self.running.join_next()) {
            joined(sent)?;
        }
        Ok(())
    }

    /// Makes the object appear; [`finish`](Self::finish) comes first.
    ///
    /// # Errors
    /// Those of the store; `OutcomeUnknown` when no answer came that tells whether the object has appeared.
    pub(crate) fn complete(mut self) -> Result<()> {
        self.appear().map_err(|error| unanswered(&self.uploads.url(&self.key), error))
    }

    fn appear(&mut self) -> Result<()> {
        let runtime = self.uploads.runtime.clone();
        if self.begun.is_none() {
            let bytes = std::mem::take(&mut self.buffer);
            let put = self.uploads.open.store().put(&self.key, bytes.into());
            return runtime.block_on(put).map(|_| ()).map_err(ours);
        }
        let completed = match &mut self.begun {
            Some(begun) => runtime.block_on(begun.complete()).map(|_| ()).map_err(ours),
            None => Ok(()),
        };
        if completed.is_ok() {
            // It is an object now, and nothing to give up.
            self.begun = None;
        }
        completed
    }

    /// Sends what has gathered as a part.
    fn send(&mut self) -> Result<()> {
        let runtime = self.uploads.runtime.clone();
        let (bytes, held) = (std::mem::take(&mut self.buffer), self.memory.take());
        if self.begun.is_none() {
            let begun = runtime.block_on(self.uploads.open.store().put_multipart(&self.key));
            self.begun = Some(begun.map_err(ours)?);
        }
        let slots = Arc::clone(&self.uploads.slots);
        // Nobody closes it.
        let slot = runtime.block_on(slots.acquire_owned()).ok();
        let Some(begun) = &mut self.begun else { return Ok(()) };
        let part = begun.put_part(bytes.into());
        self.parts += 1;
        let sending = async move {
            let sent = part.await;
            drop((slot, held));
            sent.map_err(ours)
        };
        self.running.spawn_on(sending, &runtime);
        while let Some(sent) = self.running.try_join_next() {
            joined(sent)?;
        }
        Ok(())
    }

    /// Makes room for `more` bytes in a part of `part` at most.
    fn reserve(&mut self, more: usize, part: usize) -> Result<()> {
        let needed = self.buffer.len() + more;
        if needed > self.buffer.capacity() {
            let capacity = needed.max(2 * self.buffer.capacity()).min(part);
            self.memory.try_resize(capacity)?;
            self.buffer.reserve_exact(capacity - self.buffer.len());
        }
        Ok(())
    }
}

/// Size of the part behind `parts` others.
fn part_bytes(parts: usize) -> usize {
    PART_BYTES << (parts / PARTS_OF_A_SIZE).min(4)
}

fn joined(sent: Result<Result<()>, JoinError>) -> Result<()> {
    sent.map_err(|e| Error::new(ErrorKind::Internal, format!("a part of an upload ended early: {e}")))?
}

/// What the last request for the object at `url` failed with. What stands there is compared with what was sent where the store
/// answers at all (`cairn_storage::object`); one that does not may have done what it was asked for.
fn unanswered(url: &str, error: Error) -> Error {
    if error.kind() != ErrorKind::Unavailable {
        return error;
    }
    let detail = error.detail().map(|detail| format!("; {detail}")).unwrap_or_default();
    let detail = format!("{}{detail}", error.message());
    Error::new(ErrorKind::OutcomeUnknown, format!("nobody knows whether {url} was written")).map(|e| {
        e.with_detail(detail)
            .with_hint("look what stands there, or run the statement again: it writes the whole object anew")
    })
}

fn ours(error: datafusion::object_store::Error) -> Error {
    cairn_storage::Error::from(error).into()
}

impl Write for ObjectUpload {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let part = part_bytes(self.parts);
        let taken = bytes.len().min(part - self.buffer.len());
        self.reserve(taken, part).map_err(io::Error::other)?;
        self.buffer.extend_from_slice(&bytes[..taken]);
        if self.buffer.len() == part {
            self.send().map_err(io::Error::other)?;
        }
        Ok(taken)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Drop for ObjectUpload {
    fn drop(&mut self) {
        let Some(mut begun) = self.begun.take() else { return };
        let mut running = std::mem::take(&mut self.running);
        // A drop cannot wait. What a bucket keeps of an upload that this does not reach, its own rules remove.
        self.uploads.runtime.spawn(async move {
            running.shutdown().await;
            let _ = begun.abort().await;
        });
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::sync::atomic::{AtomicUsize, Ordering};

    use async_trait::async_trait;
    use datafusion::execution::memory_pool::GreedyMemoryPool;
    use datafusion::execution::runtime_env::RuntimeEnv;
    use datafusion::object_store::memory::InMemory;
    use datafusion::object_store::{
        self, CopyOptions, GetOptions, GetResult, ListResult, ObjectMeta, ObjectStore, PutMultipartOptions,
        PutOptions, PutPayload, PutResult, UploadPart,
    };
    use futures::FutureExt;
    use futures::stream::BoxStream;

    use super::super::open::EngineStores;
    use super::super::place::ObjectPlace;
    use super::*;

    /// A store in memory that counts uploads given up, and whose parts fail from some number on.
    #[derive(Debug)]
    struct Counting {
        inner: InMemory,
        fails_from: usize,
        /// Objects appear, and nobody is told.
        loses_answers: bool,
        aborted: Arc<AtomicUsize>,
    }

    fn lost<T>(_answer: T) -> object_store::Result<T> {
        Err(object_store::Error::Generic { store: "S3", source: "connection reset".into() })
    }

    impl std::fmt::Display for Counting {
        fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
            f.write_str("Counting")
        }
    }

    #[async_trait]
    impl ObjectStore for Counting {
        async fn put_opts(
            &self,
            location: &Path,
            payload: PutPayload,
            options: PutOptions,
        ) -> object_store::Result<PutResult> {
            let put = self.inner.put_opts(location, payload, options).await?;
            if self.loses_answers { lost(put) } else { Ok(put) }
        }

        async fn put_multipart_opts(
            &self,
            location: &Path,
            options: PutMultipartOptions,
        ) -> object_store::Result<Box<dyn MultipartUpload>> {
            let inner = self.inner.put_multipart_opts(location, options).await?;
            let (left, aborted) = (self.fails_from, Arc::clone(&self.aborted));
            Ok(Box::new(CountingUpload { inner, left, loses_answers: self.loses_answers, aborted }))
        }

        async fn get_opts(&self, location: &Path, options: GetOptions) -> object_store::Result<GetResult> {
            self.inner.get_opts(location, options).await
        }

        fn delete_stream(
            &self,
            locations: BoxStream<'static, object_store::Result<Path>>,
        ) -> BoxStream<'static, object_store::Result<Path>> {
            self.inner.delete_stream(locations)
        }

        fn list(&self, prefix: Option<&Path>) -> BoxStream<'static, object_store::Result<ObjectMeta>> {
            self.inner.list(prefix)
        }

        async fn list_with_delimiter(&self, prefix: Option<&Path>) -> object_store::Result<ListResult> {
            self.inner.list_with_delimiter(prefix).await
        }

        async fn copy_opts(&self, from: &Path, to: &Path, options: CopyOptions) -> object_store::Result<()> {
            self.inner.copy_opts(from, to, options).await
        }
    }

    #[derive(Debug)]
    struct CountingUpload {
        inner: Box<dyn MultipartUpload>,
        left: usize,
        loses_answers: bool,
        aborted: Arc<AtomicUsize>,
    }

    #[async_trait]
    impl MultipartUpload for CountingUpload {
        fn put_part(&mut self, data: PutPayload) -> UploadPart {
            if self.left == 0 {
                return async { Err(object_store::Error::Generic { store: "S3", source: "broken".into() }) }
                    .boxed();
            }
            self.left -= 1;
            self.inner.put_part(data)
        }

        async fn complete(&mut self) -> object_store::Result<PutResult> {
            let done = self.inner.complete().await?;
            if self.loses_answers { lost(done) } else { Ok(done) }
        }

        async fn abort(&mut self) -> object_store::Result<()> {
            self.aborted.fetch_add(1, Ordering::SeqCst);
            self.inner.abort().await
        }
    }

    fn uploads(fails_from: usize, memory: usize) -> (Uploads, Arc<AtomicUsize>, Arc<dyn MemoryPool>) {
        let aborted = Arc::new(AtomicUsize::new(0));
        let inner = Counting {
            inner: InMemory::new(),
            fails_from,
            loses_answers: false,
            aborted: Arc::clone(&aborted),
        };
        let (uploads, pool) = uploads_to(inner, memory);
        (uploads, aborted, pool)
    }

    fn uploads_to(inner: Counting, memory: usize) -> (Uploads, Arc<dyn MemoryPool>) {
        let instead = [("s3://data".to_owned(), Arc::new(inner) as Arc<dyn ObjectStore>)];
        let stores = EngineStores::new(&instead, Arc::new(RuntimeEnv::default())).unwrap();
        let open = stores.of_environment(ObjectPlace::parse("s3://data").unwrap().bucket()).unwrap();
        let pool: Arc<dyn MemoryPool> = Arc::new(GreedyMemoryPool::new(memory));
        (Uploads::new(open, Handle::current(), Arc::clone(&pool)), pool)
    }

    async fn blocking<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> T {
        tokio::task::spawn_blocking(work).await.unwrap()
    }

    async fn read(uploads: &Uploads, key: &str) -> Option<Vec<u8>> {
        let got = uploads.open.store().get(&Path::from(key)).await.ok()?;
        Some(got.bytes().await.unwrap().to_vec())
    }

    #[tokio::test]
    async fn an_object_appears_when_it_is_complete() {
        let (uploads, aborted, pool) = uploads(usize::MAX, 256 << 20);
        for bytes in [0, 10, PART_BYTES, 2 * PART_BYTES + 5] {
            let data: Vec<u8> = (0..bytes).map(|i| (i % 241) as u8).collect();
            let key = format!("{bytes}");
            let mut upload = uploads.begin(Path::from(key.as_str()));
            let written = data.clone();
            let upload = blocking(move || {
                written.chunks(1_000_003).for_each(|chunk| upload.write_all(chunk).unwrap());
                upload.finish().unwrap();
                upload
            })
            .await;
            assert!(read(&uploads, &key).await.is_none(), "{bytes}");
            blocking(move || upload.complete().unwrap()).await;
            assert!(read(&uploads, &key).await.unwrap() == data, "{bytes}");
        }
        assert_eq!((aborted.load(Ordering::SeqCst), pool.reserved()), (0, 0));
    }

    #[tokio::test]
    async fn what_is_given_up_never_appears() {
        let (uploads, aborted, pool) = uploads(1, 256 << 20);
        let begun = |key: &str, bytes: usize| {
            let mut upload = uploads.begin(Path::from(key));
            move || upload.write_all(&vec![1; bytes]).and_then(|()| upload.finish().map_err(io::Error::other))
        };
        blocking(begun("one", PART_BYTES)).await.unwrap();
        let error = blocking(begun("two", 2 * PART_BYTES)).await.unwrap_err();
        let error = crate::stores::store_error(&error).unwrap();
        assert!(error.message().contains("s3://data/two cannot be written"), "{error}");
        while aborted.load(Ordering::SeqCst) < 2 {
            tokio::time::sleep(std::time::Duration::from_millis(1)).await;
        }
        for key in ["one", "two"] {
            assert!(read(&uploads, key).await.is_none(), "{key}");
        }
        assert_eq!(pool.reserved(), 0);
    }

    #[tokio::test]
    async fn what_was_not_answered_is_unknown() {
        let inner = Counting {
            inner: InMemory::new(),
            fails_from: usize::MAX,
            loses_answers: true,
            aborted: Arc::default(),
        };
        let (uploads, _pool) = uploads_to(inner, 256 << 20);
        for bytes in [10, PART_BYTES + 5] {
            let key = format!("{bytes}");
            let mut upload = uploads.begin(Path::from(key.as_str()));
            let error = blocking(move || {
                upload.write_all(&vec![1; bytes]).unwrap();
                upload.finish().unwrap();
                upload.complete().unwrap_err()
            })
            .await;
            assert_eq!((error.kind(), error.sqlstate()), (ErrorKind::OutcomeUnknown, "40003"), "{error:?}");
            assert_eq!(error.message(), format!("nobody knows whether s3://data/{key} was written"));
            assert!(error.detail().unwrap().contains("connection reset"), "{error:?}");
            assert_eq!(read(&uploads, &key).await.unwrap().len(), bytes);
        }
        // What is certain stays so.
        let denied = Error::new(ErrorKind::PermissionDenied, "no");
        assert_eq!(unanswered("s3://data/x", denied).message(), "no");
    }

    #[tokio::test]
    async fn what_gathers_counts_as_memory() {
        let (uploads, _aborted, pool) = uploads(usize::MAX, 1 << 20);
        let mut upload = uploads.begin(Path::from("one"));
        let error = blocking(move || upload.write_all(&vec![1; 2 << 20]).unwrap_err()).await;
        let error = crate::stores::store_error(&error).unwrap();
        assert_eq!((error.kind(), error.sqlstate()), (ErrorKind::ResourceExhausted, "53200"), "{error}");
        assert_eq!(pool.reserved(), 0);
    }

    #[test]
    fn parts_grow_before_they_become_too_many() {
        assert_eq!([0, 1_999, 2_000, 9_999, 20_000].map(part_bytes), [8, 8, 16, 128, 128].map(|n| n << 20));
        let all: usize = (0..10_000).map(part_bytes).sum();
        assert!(all > 480 << 30);
    }
}
