//! Uploads in parts.
//!
//! A part with a number can be sent again: the later one takes the place of the earlier one. Where parts have no numbers (a
//! store known by the `ObjectStore` trait only) each is sent once. An upload whose completion was not answered is complete
//! when the object is what was sent ([`settle`]); otherwise the completion is sent again, and when no answer tells more, nobody
//! knows.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use async_trait::async_trait;
use futures::FutureExt;
use object_store::multipart::{MultipartStore, PartId};
use object_store::path::Path;
use object_store::{
    Error as StoreError, MultipartId, MultipartUpload, PutMultipartOptions, PutPayload, PutResult,
    Result as StoreResult, UploadPart,
};

use super::Inner;
use super::attempts::{Repeat, within};
use super::settle::{self, Sent};
use crate::error::Error;
use crate::object::reason::{self, Verdict};

/// Begins an upload. A beginning without an answer is not repeated: it would leave parts that nobody can name.
pub(super) async fn begin(
    inner: &Arc<Inner>,
    location: &Path,
    options: PutMultipartOptions,
) -> StoreResult<Box<dyn MultipartUpload>> {
    let limit = inner.limits.time_for(0);
    if let Some(parts) = &inner.parts
        && options == PutMultipartOptions::default()
    {
        let create = move || async move {
            inner.metrics.puts.one();
            inner.attempt(within(location.as_ref(), limit, parts.create_multipart(location))).await
        };
        let id = inner.repeat(location.as_ref(), Repeat::WhenRefused, create).await?;
        return Ok(Box::new(Numbered {
            inner: Arc::clone(inner),
            parts: Arc::clone(parts),
            path: location.clone(),
            id,
            next: 0,
            sent: Sent::nothing(),
            done: Arc::default(),
        }));
    }
    let options = &options;
    let create = move || async move {
        inner.metrics.puts.one();
        let created = inner.store.put_multipart_opts(location, options.clone());
        inner.attempt(within(location.as_ref(), limit, created)).await
    };
    let upload = inner.repeat(location.as_ref(), Repeat::WhenRefused, create).await?;
    Ok(Box::new(Unnumbered {
        inner: Arc::clone(inner),
        path: location.clone(),
        upload,
        sent: Sent::nothing(),
    }))
}

/// An upload whose parts have numbers.
struct Numbered {
    inner: Arc<Inner>,
    parts: Arc<dyn MultipartStore>,
    path: Path,
    id: MultipartId,
    /// The number of the next part.
    next: usize,
    sent: Sent,
    /// By number.
    done: Arc<Mutex<BTreeMap<usize, PartId>>>,
}

impl fmt::Debug for Numbered {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Numbered").field("path", &self.path).field("parts", &self.next).finish()
    }
}

fn lock(done: &Mutex<BTreeMap<usize, PartId>>) -> MutexGuard<'_, BTreeMap<usize, PartId>> {
    done.lock().unwrap_or_else(PoisonError::into_inner)
}

#[async_trait]
impl MultipartUpload for Numbered {
    fn put_part(&mut self, data: PutPayload) -> UploadPart {
        let number = self.next;
        let bytes = data.content_length() as u64;
        self.next += 1;
        self.sent.add(&data);
        let (inner, parts, done) = (Arc::clone(&self.inner), Arc::clone(&self.parts), Arc::clone(&self.done));
        let (path, id) = (self.path.clone(), self.id.clone());
        async move {
            let (inner, parts, path, id, data) = (&*inner, &*parts, &path, &id, &data);
            let put = move || async move {
                inner.metrics.puts.one();
                inner.metrics.written_bytes.add(bytes);
                let put = parts.put_part(path, id, number, data.clone());
                inner.attempt(within(path.as_ref(), inner.limits.time_for(bytes), put)).await
            };
            let part = inner.repeat(path.as_ref(), Repeat::Always, put).await?;
            lock(&done).insert(number, part);
            Ok::<(), StoreError>(())
        }
        .boxed()
    }

    async fn complete(&mut self) -> StoreResult<PutResult> {
        let parts: Vec<PartId> = lock(&self.done).values().cloned().collect();
        if parts.len() != self.next {
            return Err(incomplete(&self.path));
        }
        let (inner, at, tag) = (&*self.inner, self.path.as_ref(), settle::tag_of(&parts));
        let (mut attempts, mut unsure) = (0, false);
        loop {
            inner.metrics.puts.one();
            let limit = inner.limits.time_for(self.sent.bytes());
            let completed = self.parts.complete_multipart(&self.path, &self.id, parts.clone());
            let completed = inner.attempt(within(at, limit, completed)).await;
            let error = match completed {
                Ok(done) => return Ok(done),
                Err(error) => error,
            };
            unsure |= reason::verdict(&error) == Verdict::Unknown;
            // A store that has completed an upload does not know it any more.
            if unsure && let Some(done) = self.sent.found(inner, &self.path, tag.as_deref()).await {
                return Ok(done);
            }
            if let Err(ended) = inner.again(at, Repeat::Always, &mut attempts, error).await {
                return Err(if unsure { settle::unsettled(&self.path, ended) } else { ended });
            }
        }
    }

    async fn abort(&mut self) -> StoreResult<()> {
        let (inner, parts, path, id) = (&*self.inner, &*self.parts, &self.path, &self.id);
        let abort = move || async move {
            inner.metrics.deletes.one();
            let aborted = parts.abort_multipart(path, id);
            inner.attempt(within(path.as_ref(), inner.limits.time_for(0), aborted)).await
        };
        match inner.repeat(path.as_ref(), Repeat::Always, abort).await {
            Err(StoreError::NotFound { .. }) => Ok(()),
            answer => answer,
        }
    }
}

/// An upload whose parts the store counts.
struct Unnumbered {
    inner: Arc<Inner>,
    path: Path,
    upload: Box<dyn MultipartUpload>,
    sent: Sent,
}

impl fmt::Debug for Unnumbered {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Unnumbered").field("path", &self.path).field("bytes", &self.sent.bytes()).finish()
    }
}

#[async_trait]
impl MultipartUpload for Unnumbered {
    fn put_part(&mut self, data: PutPayload) -> UploadPart {
        let bytes = data.content_length() as u64;
        self.sent.add(&data);
        let (inner, path) = (Arc::clone(&self.inner), self.path.clone());
        let put = self.upload.put_part(data);
        async move {
            inner.metrics.puts.one();
            inner.metrics.written_bytes.add(bytes);
            let put = within(path.as_ref(), inner.limits.time_for(bytes), put);
            inner.attempt(put).await.map_err(|error| inner.ended(path.as_ref(), 1, error))
        }
        .boxed()
    }

    async fn complete(&mut self) -> StoreResult<PutResult> {
        let (inner, at) = (&*self.inner, self.path.as_ref());
        inner.metrics.puts.one();
        let completed = within(at, inner.limits.time_for(self.sent.bytes()), self.upload.complete());
        let error = match inner.attempt(completed).await {
            Ok(done) => return Ok(done),
            Err(error) => error,
        };
        if reason::verdict(&error) != Verdict::Unknown {
            return Err(inner.ended(at, 1, error));
        }
        match self.sent.found(inner, &self.path, None).await {
            Some(done) => Ok(done),
            None => Err(settle::unsettled(&self.path, inner.ended(at, 1, error))),
        }
    }

    async fn abort(&mut self) -> StoreResult<()> {
        let (inner, at) = (&*self.inner, self.path.as_ref());
        inner.metrics.deletes.one();
        match inner.attempt(within(at, inner.limits.time_for(0), self.upload.abort())).await {
            Ok(()) | Err(StoreError::NotFound { .. }) => Ok(()),
            Err(error) => Err(inner.ended(at, 1, error)),
        }
    }
}

/// Not all parts were sent.
fn incomplete(path: &Path) -> StoreError {
    Error::internal(format!("parts of {path} are missing")).into()
}
