#![allow(clippy::unwrap_used)]
use std::fmt;
use std::ops::Range;
use std::sync::{Arc, Mutex};

use async_trait::async_trait;
use bytes::Bytes;
use futures::StreamExt;
use futures::stream::BoxStream;
use object_store::memory::InMemory;
use object_store::{
    CopyOptions, GetOptions, GetResult, ListResult, MultipartUpload, ObjectMeta, PutMultipartOptions,
    PutOptions,
};

use super::*;
use crate::object::{RequestLimits, SteadyStore};

/// What a store does with a put that has a condition.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Habit {
    Keeps,
    /// Overwrites whatever is there.
    IgnoresCreate,
    /// Overwrites whatever the tag is.
    IgnoresUpdate,
    /// Tells no tags.
    HidesTags,
    /// Has no such puts.
    Refuses,
    /// Updates nothing.
    NeverUpdates,
    /// Says "exists" to the first one, as stores do under load.
    Hesitates,
}

#[derive(Debug)]
struct Store {
    inner: InMemory,
    habit: Mutex<Habit>,
}

impl Store {
    fn of(habit: Habit) -> Self {
        Self { inner: InMemory::new(), habit: Mutex::new(habit) }
    }
}

impl fmt::Display for Store {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Store")
    }
}

#[async_trait]
impl ObjectStore for Store {
    async fn put_opts(
        &self,
        location: &Path,
        payload: PutPayload,
        mut options: PutOptions,
    ) -> StoreResult<PutResult> {
        let habit = *self.habit.lock().unwrap();
        let path = location.to_string();
        let conditional = options.mode != PutMode::Overwrite;
        let updates = conditional && options.mode != PutMode::Create;
        match habit {
            Habit::IgnoresCreate if conditional && !updates => options.mode = PutMode::Overwrite,
            Habit::IgnoresUpdate if updates => options.mode = PutMode::Overwrite,
            Habit::Refuses if conditional => {
                let text = "Server returned non-2xx status code: 501 Not Implemented: \
                            <Error><Code>NotImplemented</Code><Message>A header</Message></Error>";
                return Err(StoreError::Generic { store: "S3", source: text.into() });
            }
            Habit::NeverUpdates if updates => {
                return Err(StoreError::Precondition { path, source: "never".into() });
            }
            Habit::Hesitates => {
                *self.habit.lock().unwrap() = Habit::Keeps;
                return Err(StoreError::AlreadyExists { path, source: "conflicting request".into() });
            }
            _ => {}
        }
        let put = self.inner.put_opts(location, payload, options).await?;
        Ok(if habit == Habit::HidesTags { PutResult { e_tag: None, version: None } } else { put })
    }

    async fn put_multipart_opts(
        &self,
        location: &Path,
        options: PutMultipartOptions,
    ) -> StoreResult<Box<dyn MultipartUpload>> {
        self.inner.put_multipart_opts(location, options).await
    }

    async fn get_opts(&self, location: &Path, options: GetOptions) -> StoreResult<GetResult> {
        self.inner.get_opts(location, options).await
    }

    async fn get_ranges(&self, location: &Path, ranges: &[Range<u64>]) -> StoreResult<Vec<Bytes>> {
        self.inner.get_ranges(location, ranges).await
    }

    fn delete_stream(
        &self,
        locations: BoxStream<'static, StoreResult<Path>>,
    ) -> BoxStream<'static, StoreResult<Path>> {
        self.inner.delete_stream(locations)
    }

    fn list(&self, prefix: Option<&Path>) -> BoxStream<'static, StoreResult<ObjectMeta>> {
        self.inner.list(prefix)
    }

    async fn list_with_delimiter(&self, prefix: Option<&Path>) -> StoreResult<ListResult> {
        self.inner.list_with_delimiter(prefix).await
    }

    async fn copy_opts(&self, from: &Path, to: &Path, options: CopyOptions) -> StoreResult<()> {
        self.inner.copy_opts(from, to, options).await
    }
}

#[tokio::test]
async fn a_store_that_keeps_conditions_passes_with_five_requests() {
    let inner = InMemory::new();
    let steady = SteadyStore::new(Arc::new(inner.clone()), None, RequestLimits::default());
    probe(&steady).await.unwrap();
    let figures = steady.metrics().figures();
    assert_eq!((figures.puts, figures.deletes), (4, 1));
    assert_eq!((figures.gets, figures.heads, figures.lists, figures.failures), (0, 0, 0, 0));
    assert!(inner.list(None).next().await.is_none());
}

#[tokio::test]
async fn a_store_that_does_not_is_refused_and_left_clean() {
    for (habit, what) in [
        (Habit::IgnoresCreate, "does not refuse to overwrite an object"),
        (Habit::IgnoresUpdate, "does not refuse to update an object by a wrong tag"),
        (Habit::HidesTags, "gives no tag"),
        (Habit::Refuses, "takes no puts with a condition"),
        (Habit::NeverUpdates, "refuses to update an object by its own tag"),
    ] {
        let store = Store::of(habit);
        let error = probe(&store).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Unsupported, "{habit:?}");
        assert!(error.message().contains(what), "{habit:?}: {error}");
        assert!(error.message().contains("(conditional PUT), so two writers"), "{error}");
        assert!(store.inner.list(None).next().await.is_none(), "{habit:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_store_under_load_is_asked_again() {
    probe(&Store::of(Habit::Hesitates)).await.unwrap();
}

#[test]
fn an_altered_tag_has_the_form_of_a_tag() {
    for (tag, other) in [
        ("\"9b2cf535f27731c974343645a3985328\"", "\"9b2cf535f27731c974343645a3985321\""),
        ("0", "1"),
        ("1700000000000001", "1700000000000002"),
        ("\"\"", "\"\"1"),
    ] {
        assert_eq!(altered(tag), other);
    }
}
