//! A bucket whose errors say which object they are about, and what its user can do.
//!
//! Owns: the texts of such errors, in which no signed URL, key or header stands; objects that changed within one second told apart; long
//! reads in ranges, since a read is held in memory whole until it is done. Does not own: what a service means by its answers, trying again, time
//! limits (`cairn_storage::object`).

use std::fmt;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::ops::Range;
use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use cairn_storage::ErrorKind;
use cairn_storage::object::{ReadMeter, StoreUrl};
use chrono::TimeDelta;
use datafusion::object_store::path::Path;
use datafusion::object_store::{
    self, CopyOptions, GetOptions, GetRange, GetResult, GetResultPayload, ListResult, MultipartUpload,
    ObjectMeta, ObjectStore, PutMultipartOptions, PutOptions, PutPayload, PutResult, UploadPart,
};
use futures::stream::{self, BoxStream};
use futures::{FutureExt, StreamExt, TryStreamExt};

use super::metered::MeteredStore;
use super::place::url_of;

/// Longest range of one request of a read that is taken as it comes.
const RANGE_BYTES: u64 = 8 << 20;
/// Such requests at one time.
const RANGES_AT_ONCE: usize = 2;

/// Whose credentials a bucket is reached with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Credentials {
    /// Those of the process.
    Environment,
    /// Those of the secret of this name.
    Secret(String),
}

/// See the module.
pub(super) struct NamedStore {
    inner: Arc<dyn ObjectStore>,
    name: Arc<Name>,
}

/// What is said of a bucket.
#[derive(Debug)]
struct Name {
    bucket: StoreUrl,
    credentials: Credentials,
    /// No other store of the process has it.
    number: u64,
}

/// What was tried.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Tried {
    Read,
    Write,
    List,
    Delete,
}

impl Tried {
    fn word(self) -> &'static str {
        match self {
            Self::Read => "read",
            Self::Write => "write",
            Self::List => "list",
            Self::Delete => "delete",
        }
    }

    fn past(self) -> &'static str {
        match self {
            Self::Read => "read",
            Self::Write => "written",
            Self::List => "listed",
            Self::Delete => "deleted",
        }
    }
}

impl NamedStore {
    /// The objects of `bucket`; `number` is this store's own.
    pub(super) fn new(
        inner: Arc<dyn ObjectStore>,
        bucket: StoreUrl,
        credentials: Credentials,
        number: u64,
    ) -> Self {
        Self { inner, name: Arc::new(Name { bucket, credentials, number }) }
    }

    /// The same bucket, with reads counted in `meter`: its objects are the same to whoever keeps what he has read of them.
    pub(super) fn metered(&self, meter: ReadMeter) -> Self {
        let inner = Arc::new(MeteredStore::new(Arc::clone(&self.inner), meter));
        Self { inner, name: Arc::clone(&self.name) }
    }

    /// What makes `tried` of `location` of an error.
    fn at(
        &self,
        tried: Tried,
        location: &Path,
    ) -> impl Fn(object_store::Error) -> object_store::Error + use<> {
        let (name, key) = (Arc::clone(&self.name), location.as_ref().to_owned());
        move |error| name.error(error, tried, &key)
    }

    /// Reads from byte `from` to `to`, or to the end, in ranges; None: there are no bytes to have.
    async fn get_in_ranges(
        &self,
        location: &Path,
        options: &GetOptions,
        from: u64,
        to: Option<u64>,
    ) -> object_store::Result<Option<GetResult>> {
        let until = |end: u64| to.map_or(end, |to| to.min(end));
        let first = options.clone().with_range(Some(from..until(from.saturating_add(RANGE_BYTES))));
        let got = match self.inner.get_opts(location, first).await {
            Ok(got) => got,
            Err(
                error @ (object_store::Error::NotFound { .. }
                | object_store::Error::Precondition { .. }
                | object_store::Error::NotModified { .. }
                | object_store::Error::PermissionDenied { .. }
                | object_store::Error::Unauthenticated { .. }),
            ) => return Err(error),
            // An empty object has no range.
            Err(_) if from == 0 && to.is_none() => return Ok(None),
            Err(error) => return Err(error),
        };
        let (meta, attributes, end) = (got.meta.clone(), got.attributes.clone(), until(got.meta.size));
        let begun = got.range.end;
        let mut rest = options.clone();
        // All of one version, where the service knows them by what it told.
        rest.if_match = rest.if_match.or_else(|| meta.e_tag.clone());
        let starts = (begun..end).step_by(usize::try_from(RANGE_BYTES).unwrap_or(usize::MAX));
        let (inner, location) = (Arc::clone(&self.inner), location.clone());
        let later = stream::iter(starts).map(move |start| {
            let options = rest.clone().with_range(Some(start..end.min(start + RANGE_BYTES)));
            let (inner, location) = (Arc::clone(&inner), location.clone());
            async move { inner.get_opts(&location, options).await?.bytes().await }
        });
        let payload = got.into_stream().chain(later.buffered(RANGES_AT_ONCE)).boxed();
        let payload = GetResultPayload::Stream(payload);
        Ok(Some(GetResult { payload, meta, range: from..end, attributes }))
    }
}

/// Where a read that is too long for one request begins and ends.
fn long_read(options: &GetOptions) -> Option<(u64, Option<u64>)> {
    match &options.range {
        _ if options.head => None,
        None => Some((0, None)),
        Some(GetRange::Offset(from)) => Some((*from, None)),
        Some(GetRange::Bounded(range)) if range.end.saturating_sub(range.start) > 2 * RANGE_BYTES => {
            Some((range.start, Some(range.end)))
        }
        Some(GetRange::Bounded(_) | GetRange::Suffix(_)) => None,
    }
}

impl Name {
    fn error(&self, error: object_store::Error, tried: Tried, key: &str) -> object_store::Error {
        self.told(error, tried, key).into()
    }

    /// The error as users read it. What caused it is not kept: headers and URLs stand in it.
    fn told(&self, error: object_store::Error, tried: Tried, key: &str) -> cairn_storage::Error {
        use object_store::Error as Store;
        let (object, past) = (url_of(&self.bucket, key), tried.past());
        let was_changed = matches!(error, Store::Precondition { .. } | Store::NotModified { .. });
        let said = cairn_storage::Error::from(error);
        let make = |sqlstate: &'static str, message: String| {
            cairn_storage::Error::new(said.kind(), message).with_sqlstate(sqlstate)
        };
        if was_changed {
            return make("58030", format!("{object} was changed while it was {past}"))
                .with_hint("run the statement again");
        }
        let facts = match said.detail() {
            Some(detail) => format!("{}; {detail}", said.message()),
            None => said.message().to_owned(),
        };
        match said.kind() {
            ErrorKind::NotFound => make("58P01", format!("{object} does not exist"))
                .with_hint("look at the names of bucket and object, and at the endpoint and region"),
            ErrorKind::AlreadyExists => make("58P02", format!("{object} already exists")),
            ErrorKind::PermissionDenied => make("42501", format!("not allowed to {} {object}", tried.word()))
                .with_detail(facts)
                .with_hint(self.hint(said.hint())),
            kind => {
                let sqlstate = if kind == ErrorKind::Unavailable { "58030" } else { said.sqlstate() };
                let mut made = make(sqlstate, format!("{object} cannot be {past}: {}", said.message()));
                if let Some(detail) = said.detail() {
                    made = made.with_detail(detail);
                }
                made.with_hint(self.hint(said.hint()))
            }
        }
    }

    /// What to look at; `told` speaks of the environment.
    fn hint(&self, told: Option<&str>) -> String {
        match &self.credentials {
            Credentials::Environment => {
                let told = told.unwrap_or("look at the credentials, region and endpoint of the environment");
                format!("{told}; CREATE SECRET gives others")
            }
            Credentials::Secret(name) => {
                format!("look at KEY_ID, SECRET, SESSION_TOKEN, REGION and ENDPOINT of secret {name}")
            }
        }
    }

    /// `meta` with a time that another version of the object never has. Services count in seconds, and planning takes objects of the
    /// same name, size and time for the same one, in whatever bucket: the rest of the second is made of the version.
    fn dated(&self, mut meta: ObjectMeta) -> ObjectMeta {
        let mut hasher = DefaultHasher::new();
        (self.number, &meta.e_tag, &meta.version).hash(&mut hasher);
        let rest = i64::try_from(hasher.finish() % 1_000_000_000).unwrap_or_default();
        if let Some(dated) = meta.last_modified.checked_add_signed(TimeDelta::nanoseconds(rest)) {
            meta.last_modified = dated;
        }
        meta
    }
}

impl fmt::Debug for NamedStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("NamedStore").field(&self.name.bucket.to_string()).finish()
    }
}

impl fmt::Display for NamedStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.name.bucket.fmt(f)
    }
}

#[async_trait]
impl ObjectStore for NamedStore {
    async fn put_opts(
        &self,
        location: &Path,
        payload: PutPayload,
        options: PutOptions,
    ) -> object_store::Result<PutResult> {
        self.inner.put_opts(location, payload, options).await.map_err(self.at(Tried::Write, location))
    }

    async fn put_multipart_opts(
        &self,
        location: &Path,
        options: PutMultipartOptions,
    ) -> object_store::Result<Box<dyn MultipartUpload>> {
        let begun = self.inner.put_multipart_opts(location, options).await;
        let inner = begun.map_err(self.at(Tried::Write, location))?;
        let (name, key) = (Arc::clone(&self.name), location.as_ref().to_owned());
        Ok(Box::new(NamedUpload { inner, name, key }))
    }

    async fn get_opts(&self, location: &Path, options: GetOptions) -> object_store::Result<GetResult> {
        let in_ranges = match long_read(&options) {
            Some((from, to)) => self.get_in_ranges(location, &options, from, to).await,
            None => Ok(None),
        };
        let got = match in_ranges {
            Ok(None) => self.inner.get_opts(location, options).await,
            Ok(Some(got)) => Ok(got),
            Err(error) => Err(error),
        };
        let mut got = got.map_err(self.at(Tried::Read, location))?;
        got.meta = self.name.dated(got.meta);
        got.payload = match got.payload {
            GetResultPayload::Stream(stream) => {
                GetResultPayload::Stream(stream.map_err(self.at(Tried::Read, location)).boxed())
            }
            file => file,
        };
        Ok(got)
    }

    async fn get_ranges(&self, location: &Path, ranges: &[Range<u64>]) -> object_store::Result<Vec<Bytes>> {
        self.inner.get_ranges(location, ranges).await.map_err(self.at(Tried::Read, location))
    }

    fn delete_stream(
        &self,
        locations: BoxStream<'static, object_store::Result<Path>>,
    ) -> BoxStream<'static, object_store::Result<Path>> {
        let name = Arc::clone(&self.name);
        let deleted = self.inner.delete_stream(locations);
        deleted.map_err(move |error| name.error(error, Tried::Delete, "")).boxed()
    }

    fn list(&self, prefix: Option<&Path>) -> BoxStream<'static, object_store::Result<ObjectMeta>> {
        let name = Arc::clone(&self.name);
        let listed = self.inner.list(prefix).map_err(self.at(Tried::List, prefix.unwrap_or(&Path::ROOT)));
        listed.map_ok(move |meta| name.dated(meta)).boxed()
    }

    async fn list_with_delimiter(&self, prefix: Option<&Path>) -> object_store::Result<ListResult> {
        let listed = self.inner.list_with_delimiter(prefix).await;
        let mut listed = listed.map_err(self.at(Tried::List, prefix.unwrap_or(&Path::ROOT)))?;
        listed.objects = listed.objects.into_iter().map(|meta| self.name.dated(meta)).collect();
        Ok(listed)
    }

    async fn copy_opts(&self, from: &Path, to: &Path, options: CopyOptions) -> object_store::Result<()> {
        self.inner.copy_opts(from, to, options).await.map_err(self.at(Tried::Write, to))
    }
}

/// An upload in parts with the same errors.
struct NamedUpload {
    inner: Box<dyn MultipartUpload>,
    name: Arc<Name>,
    key: String,
}

impl fmt::Debug for NamedUpload {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("NamedUpload").field(&url_of(&self.name.bucket, &self.key)).finish()
    }
}

#[async_trait]
impl MultipartUpload for NamedUpload {
    fn put_part(&mut self, data: PutPayload) -> UploadPart {
        let (part, name, key) = (self.inner.put_part(data), Arc::clone(&self.name), self.key.clone());
        async move { part.await.map_err(|error| name.error(error, Tried::Write, &key)) }.boxed()
    }

    async fn complete(&mut self) -> object_store::Result<PutResult> {
        let done = self.inner.complete().await;
        done.map_err(|error| self.name.error(error, Tried::Write, &self.key))
    }

    async fn abort(&mut self) -> object_store::Result<()> {
        let done = self.inner.abort().await;
        done.map_err(|error| self.name.error(error, Tried::Write, &self.key))
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use datafusion::object_store::ObjectStoreExt;
    use datafusion::object_store::memory::InMemory;

    use super::*;

    fn name(credentials: Credentials) -> Name {
        Name { bucket: StoreUrl::parse("s3://data").unwrap(), credentials, number: 1 }
    }

    #[test]
    fn errors_name_the_object_and_the_next_step() {
        let mine = name(Credentials::Secret("mine".to_owned()));
        let denied = object_store::Error::PermissionDenied {
            path: "a.csv".to_owned(),
            source: "Error performing GET https://data.s3.amazonaws.com/a.csv?X-Amz-Signature=hunter2 in 3ms - Server returned \
                     non-2xx status code: 403 Forbidden: <?xml version=\"1.0\"?><Error><Code>SignatureDoesNotMatch</Code>\
                     <Message>The signature does not match.</Message><StringToSign>hunter2</StringToSign></Error>"
                .into(),
        };
        let told = mine.told(denied, Tried::Read, "a.csv");
        assert_eq!((told.kind(), told.sqlstate()), (ErrorKind::PermissionDenied, "42501"));
        assert_eq!(told.message(), "not allowed to read s3://data/a.csv");
        assert!(told.detail().unwrap().contains("SignatureDoesNotMatch"), "{told:?}");
        assert!(told.hint().unwrap().contains("secret mine"), "{told:?}");
        assert!(!format!("{told:?}").contains("hunter2"), "{told:?}");
        let missing =
            |source: &str| object_store::Error::NotFound { path: String::new(), source: source.into() };
        let shared = name(Credentials::Environment);
        let told = shared.told(missing("404"), Tried::Read, "a.csv");
        assert_eq!((told.message(), told.sqlstate()), ("s3://data/a.csv does not exist", "58P01"));
        let told = shared.told(missing("<Code>NoSuchBucket</Code>"), Tried::Read, "a.csv");
        assert!(told.message().contains("bucket does not exist"), "{told}");
        let changed = object_store::Error::Precondition { path: "a.csv".to_owned(), source: "412".into() };
        let told = shared.told(changed, Tried::Read, "a.csv");
        assert_eq!(told.message(), "s3://data/a.csv was changed while it was read");
        let generic = object_store::Error::Generic { store: "S3", source: "no region".into() };
        let told = shared.told(generic, Tried::Write, "a.csv");
        assert!(told.message().starts_with("s3://data/a.csv cannot be written: "), "{told}");
        assert_eq!(told.sqlstate(), "58030");
        assert!(
            told.message().contains("no region") && told.hint().unwrap().contains("CREATE SECRET"),
            "{told:?}"
        );
        let ours = cairn_storage::Error::new(ErrorKind::Unavailable, "no answer within 30 s");
        let told = shared.told(ours.into(), Tried::List, "");
        assert_eq!(told.message(), "s3://data cannot be listed: no answer within 30 s");
        assert_eq!(told.kind(), ErrorKind::Unavailable);
    }

    #[tokio::test]
    async fn long_reads_come_in_ranges() {
        let inner: Arc<dyn ObjectStore> = Arc::new(InMemory::new());
        let bucket = StoreUrl::parse("s3://data").unwrap();
        let store = NamedStore::new(Arc::clone(&inner), bucket, Credentials::Environment, 1);
        let bytes: Vec<u8> = (0..2 * RANGE_BYTES + 5).map(|i| (i % 251) as u8).collect();
        let path = Path::from("x");
        store.put(&path, bytes.clone().into()).await.unwrap();
        let length = bytes.len() as u64;
        let read = async |options: GetOptions| {
            let got = store.get_opts(&path, options).await.unwrap();
            let range = got.range.clone();
            let chunks: Vec<Bytes> = got.into_stream().try_collect().await.unwrap();
            (range, chunks.len(), chunks.concat())
        };
        for (options, range, chunks) in [
            (GetOptions::new(), 0..length, 3),
            (GetOptions::new().with_range(Some(7_u64..)), 7..length, 2),
            (GetOptions::new().with_range(Some(1..2 * RANGE_BYTES + 4)), 1..2 * RANGE_BYTES + 4, 3),
            (GetOptions::new().with_range(Some(1_u64..9)), 1..9, 1),
            (GetOptions::new().with_range(Some(GetRange::Suffix(3))), length - 3..length, 1),
        ] {
            let (got, count, read) = read(options).await;
            assert_eq!((&got, count), (&range, chunks));
            let range = usize::try_from(range.start).unwrap()..usize::try_from(range.end).unwrap();
            assert!(read == bytes[range], "{got:?}");
        }
        let path = Path::from("empty");
        store.put(&path, "".into()).await.unwrap();
        assert!(store.get(&path).await.unwrap().bytes().await.unwrap().is_empty());
        assert!(store.get(&Path::from("none")).await.is_err());
        // Another version is not read on.
        let path = Path::from("x");
        let mut stream = store.get(&path).await.unwrap().into_stream();
        assert_eq!(stream.try_next().await.unwrap().unwrap().len() as u64, RANGE_BYTES);
        store.put(&path, bytes.into()).await.unwrap();
        let error = stream.try_next().await.unwrap_err().to_string();
        assert!(error.contains("s3://data/x was changed while it was read"), "{error}");
    }

    #[tokio::test]
    async fn versions_of_one_second_have_different_times() {
        let inner: Arc<dyn ObjectStore> = Arc::new(InMemory::new());
        let bucket = StoreUrl::parse("s3://data").unwrap();
        let store =
            |number| NamedStore::new(Arc::clone(&inner), bucket.clone(), Credentials::Environment, number);
        let (one, two) = (store(1), store(2));
        let path = Path::from("a.csv");
        one.put(&path, "x".into()).await.unwrap();
        let meta = one.head(&path).await.unwrap();
        assert_eq!(meta, one.list(None).try_next().await.unwrap().unwrap());
        assert_ne!(meta.last_modified, two.head(&path).await.unwrap().last_modified);
        let version = |tag: &str| one.name.dated(ObjectMeta { e_tag: Some(tag.to_owned()), ..meta.clone() });
        assert_ne!(version("a").last_modified, version("b").last_modified);
        let error = one.get(&Path::from("none")).await.unwrap_err().to_string();
        assert!(error.contains("s3://data/none does not exist"), "{error}");
    }
}
