//! A store that fails by script.

use std::collections::VecDeque;
use std::fmt;
use std::future::pending;
use std::sync::{Arc, Mutex};

use async_trait::async_trait;
use futures::stream::{self, BoxStream};
use futures::{FutureExt, StreamExt};
use object_store::memory::InMemory;
use object_store::multipart::{MultipartStore, PartId};
use object_store::path::Path;
use object_store::{
    CopyOptions, Error as StoreError, GetOptions, GetResult, GetResultPayload, ListResult, MultipartId,
    MultipartUpload, ObjectMeta, ObjectStore, PutMode, PutMultipartOptions, PutOptions, PutPayload,
    PutResult, Result as StoreResult, UploadPart,
};

use crate::object::{RequestLimits, SteadyStore};

/// What becomes of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fault {
    Fine,
    /// Fails with nothing done.
    Before,
    /// Done, but the reply is lost.
    After,
    /// Never answers.
    Silent,
    /// The store says that it is busy; nothing is done.
    Busy,
    /// The store says no.
    Denied,
    /// There are no credentials.
    NoCredentials,
    /// There is no such bucket.
    NoBucket,
    /// A body that ends in its middle; a listing that fails behind its second object.
    Short,
    /// A body that fails in its middle.
    Broken,
    /// What is to be deleted is not there.
    Absent,
}

use Fault::{Absent, After, Before, Broken, Busy, Denied, Fine, NoBucket, NoCredentials, Short, Silent};

/// A store in memory that fails by script: one entry for each request, and then `always`. Clones share everything.
#[derive(Clone, Debug)]
pub(super) struct Flaky {
    pub(super) inner: InMemory,
    script: Arc<Mutex<VecDeque<Fault>>>,
    pub(super) always: Arc<Mutex<Fault>>,
    requests: Arc<Mutex<Vec<&'static str>>>,
    backwards: bool,
}

impl fmt::Display for Flaky {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Flaky")
    }
}

fn generic(text: &str) -> StoreError {
    StoreError::Generic { store: "flaky", source: text.into() }
}

pub(super) fn reset() -> StoreError {
    generic("connection reset")
}

impl Flaky {
    pub(super) fn new(script: &[Fault]) -> Self {
        Self {
            inner: InMemory::new(),
            script: Arc::new(Mutex::new(script.iter().copied().collect())),
            always: Arc::new(Mutex::new(Fine)),
            requests: Arc::default(),
            backwards: false,
        }
    }

    /// The same, whose listings come backwards.
    pub(super) fn backwards(self) -> Self {
        Self { backwards: true, ..self }
    }

    pub(super) fn steady(&self, limits: RequestLimits) -> SteadyStore {
        SteadyStore::new(Arc::new(self.clone()), Some(Arc::new(self.clone())), limits)
    }

    pub(super) fn script(&self, faults: &[Fault]) {
        self.script.lock().unwrap().extend(faults);
    }

    /// The requests since the last call.
    pub(super) fn requests(&self) -> Vec<&'static str> {
        std::mem::take(&mut *self.requests.lock().unwrap())
    }

    fn next(&self, request: &'static str) -> Fault {
        self.requests.lock().unwrap().push(request);
        let scripted = self.script.lock().unwrap().pop_front();
        scripted.unwrap_or(*self.always.lock().unwrap())
    }

    fn refusal(fault: Fault) -> Option<StoreError> {
        match fault {
            Before => Some(reset()),
            Busy => Some(generic(
                "Server returned non-2xx status code: 503 Slow Down: <Error><Code>SlowDown</Code></Error>",
            )),
            Denied => Some(StoreError::PermissionDenied { path: "x".to_owned(), source: "no".into() }),
            NoCredentials => {
                Some(generic("Error performing PUT http://169.254.169.254/latest/api/token in 1s - none"))
            }
            NoBucket => Some(StoreError::NotFound {
                path: "x".to_owned(),
                source: "status code: 404 Not Found: <Error><Code>NoSuchBucket</Code></Error>".into(),
            }),
            Fine | After | Silent | Short | Broken | Absent => None,
        }
    }

    async fn play<T>(&self, fault: Fault, request: impl Future<Output = StoreResult<T>>) -> StoreResult<T> {
        if let Some(error) = Self::refusal(fault) {
            return Err(error);
        }
        if fault == Silent {
            pending::<()>().await;
        }
        let answer = request.await?;
        if fault == After { Err(reset()) } else { Ok(answer) }
    }

    fn play_listing(
        &self,
        fault: Fault,
        listed: BoxStream<'static, StoreResult<ObjectMeta>>,
    ) -> BoxStream<'static, StoreResult<ObjectMeta>> {
        if let Some(error) = Self::refusal(fault) {
            return stream::once(async { Err(error) }).boxed();
        }
        let mut all: Vec<_> = listed.collect::<Vec<_>>().now_or_never().unwrap();
        if self.backwards {
            all.reverse();
        }
        match fault {
            Silent => stream::iter(all.into_iter().take(1)).chain(stream::pending()).boxed(),
            Short => {
                stream::iter(all.into_iter().take(2)).chain(stream::once(async { Err(reset()) })).boxed()
            }
            _ => stream::iter(all).boxed(),
        }
    }
}

#[async_trait]
impl ObjectStore for Flaky {
    async fn put_opts(
        &self,
        location: &Path,
        payload: PutPayload,
        options: PutOptions,
    ) -> StoreResult<PutResult> {
        let request = match options.mode {
            PutMode::Overwrite => "put",
            PutMode::Create => "create",
            PutMode::Update(_) => "update",
        };
        self.play(self.next(request), self.inner.put_opts(location, payload, options)).await
    }

    async fn put_multipart_opts(
        &self,
        location: &Path,
        options: PutMultipartOptions,
    ) -> StoreResult<Box<dyn MultipartUpload>> {
        let upload = self.play(self.next("begin"), self.inner.put_multipart_opts(location, options)).await?;
        Ok(Box::new(FlakyUpload { flaky: self.clone(), upload }))
    }

    async fn get_opts(&self, location: &Path, options: GetOptions) -> StoreResult<GetResult> {
        let fault = self.next(if options.head { "head" } else { "get" });
        let found = self.play(fault, self.inner.get_opts(location, options)).await?;
        if !matches!(fault, Short | Broken) {
            return Ok(found);
        }
        let (meta, range, attributes) = (found.meta.clone(), found.range.clone(), found.attributes.clone());
        let bytes = found.bytes().await?;
        let mut body = vec![Ok(bytes.slice(..bytes.len() / 2))];
        if fault == Broken {
            body.push(Err(reset()));
        }
        let payload = GetResultPayload::Stream(stream::iter(body).boxed());
        Ok(GetResult { payload, meta, range, attributes })
    }

    fn delete_stream(
        &self,
        locations: BoxStream<'static, StoreResult<Path>>,
    ) -> BoxStream<'static, StoreResult<Path>> {
        let fault = self.next("delete");
        if let Some(error) = Self::refusal(fault) {
            return stream::once(async { Err(error) }).boxed();
        }
        if fault == Absent {
            let absent = |path: Path| StoreError::NotFound { path: path.to_string(), source: "gone".into() };
            return locations.map(move |location| location.and_then(|path| Err(absent(path)))).boxed();
        }
        let deleted = self.inner.delete_stream(locations);
        match fault {
            Silent => stream::pending().boxed(),
            After => stream::once(async move {
                deleted.collect::<Vec<_>>().await;
                Err(reset())
            })
            .boxed(),
            _ => deleted,
        }
    }

    fn list(&self, prefix: Option<&Path>) -> BoxStream<'static, StoreResult<ObjectMeta>> {
        self.play_listing(self.next("list"), self.inner.list(prefix))
    }

    fn list_with_offset(
        &self,
        prefix: Option<&Path>,
        offset: &Path,
    ) -> BoxStream<'static, StoreResult<ObjectMeta>> {
        self.play_listing(self.next("list behind"), self.inner.list_with_offset(prefix, offset))
    }

    async fn list_with_delimiter(&self, prefix: Option<&Path>) -> StoreResult<ListResult> {
        self.play(self.next("list level"), self.inner.list_with_delimiter(prefix)).await
    }

    async fn copy_opts(&self, from: &Path, to: &Path, options: CopyOptions) -> StoreResult<()> {
        self.play(self.next("copy"), self.inner.copy_opts(from, to, options)).await
    }
}

#[async_trait]
impl MultipartStore for Flaky {
    async fn create_multipart(&self, path: &Path) -> StoreResult<MultipartId> {
        self.play(self.next("begin"), self.inner.create_multipart(path)).await
    }

    async fn put_part(
        &self,
        path: &Path,
        id: &MultipartId,
        number: usize,
        data: PutPayload,
    ) -> StoreResult<PartId> {
        self.play(self.next("part"), self.inner.put_part(path, id, number, data)).await
    }

    async fn complete_multipart(
        &self,
        path: &Path,
        id: &MultipartId,
        parts: Vec<PartId>,
    ) -> StoreResult<PutResult> {
        self.play(self.next("complete"), self.inner.complete_multipart(path, id, parts)).await
    }

    async fn abort_multipart(&self, path: &Path, id: &MultipartId) -> StoreResult<()> {
        self.play(self.next("abort"), self.inner.abort_multipart(path, id)).await
    }
}

#[derive(Debug)]
struct FlakyUpload {
    flaky: Flaky,
    upload: Box<dyn MultipartUpload>,
}

#[async_trait]
impl MultipartUpload for FlakyUpload {
    fn put_part(&mut self, data: PutPayload) -> UploadPart {
        let (flaky, part) = (self.flaky.clone(), self.upload.put_part(data));
        async move { flaky.play(flaky.next("part"), part).await }.boxed()
    }

    async fn complete(&mut self) -> StoreResult<PutResult> {
        self.flaky.play(self.flaky.next("complete"), self.upload.complete()).await
    }

    async fn abort(&mut self) -> StoreResult<()> {
        self.flaky.play(self.flaky.next("abort"), self.upload.abort()).await
    }
}
