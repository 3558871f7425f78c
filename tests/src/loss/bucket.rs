//! A bucket that notes every change of it, with itself as it was before.
//!
//! Owns: an object store in memory of this process and the names of what changes in it; each request takes effect at once and as a
//! whole, so a machine that dies leaves the bucket as it was between two of them. Does not own: requests that fail, come late or twice
//! (storage's own tests have a store for those), what an opening must find (`database`).

use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use cairn_engine::{OpenOptions, Root};
use cairn_storage::ClaimAt;
use cairn_storage::object::StoreUrl;
use datafusion::object_store::memory::InMemory;
use datafusion::object_store::path::Path;
use datafusion::object_store::{
    CopyOptions, Error, GetOptions, GetResult, ListResult, MultipartUpload, ObjectMeta, ObjectStore,
    ObjectStoreExt, PutMode, PutMultipartOptions, PutOptions, PutPayload, PutResult, Result,
};
use futures::stream::BoxStream;
use futures::{StreamExt, TryStreamExt};

use super::database::Ledger;
use super::model::Operation;
use super::steps::{Point, Points, object, script};
use crate::answer::SqlError;
use crate::connection::Connection;

/// See the module. Clones are the same bucket.
#[derive(Clone, Debug)]
pub struct RecordingStore(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    objects: InMemory,
    recorded: Mutex<Vec<Recorded>>,
}

/// A change.
#[derive(Debug)]
struct Recorded {
    name: String,
    before: Arc<InMemory>,
}

impl RecordingStore {
    /// A bucket with these objects.
    #[must_use]
    pub fn over(objects: &InMemory) -> Self {
        Self(Arc::new(Inner { objects: objects.fork(), recorded: Mutex::default() }))
    }

    fn log(&self) -> MutexGuard<'_, Vec<Recorded>> {
        self.0.recorded.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn now(&self) -> Arc<InMemory> {
        Arc::new(self.0.objects.fork())
    }

    fn changed(&self, verb: &str, location: &Path, before: Arc<InMemory>) {
        let object = match (verb, object(location.as_ref())) {
            // What is collected goes in one order, whatever it is.
            ("delete", "probe") => "probe",
            ("delete", _) => "object",
            (_, object) => object,
        };
        self.log().push(Recorded { name: format!("{verb} {object}"), before });
    }
}

impl fmt::Display for RecordingStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("RecordingStore")
    }
}

#[async_trait]
impl ObjectStore for RecordingStore {
    async fn put_opts(&self, location: &Path, payload: PutPayload, options: PutOptions) -> Result<PutResult> {
        let verb = match &options.mode {
            PutMode::Overwrite => "put",
            PutMode::Create => "create",
            PutMode::Update(_) => "replace",
        };
        let before = self.now();
        let answer = self.0.objects.put_opts(location, payload, options).await?;
        self.changed(verb, location, before);
        Ok(answer)
    }

    async fn put_multipart_opts(
        &self,
        location: &Path,
        _options: PutMultipartOptions,
    ) -> Result<Box<dyn MultipartUpload>> {
        // The script writes nothing so large; were it done unseen, a step would be missing.
        Err(Error::NotSupported { source: format!("{location} would be sent in parts").into() })
    }

    async fn get_opts(&self, location: &Path, options: GetOptions) -> Result<GetResult> {
        self.0.objects.get_opts(location, options).await
    }

    fn delete_stream(&self, locations: BoxStream<'static, Result<Path>>) -> BoxStream<'static, Result<Path>> {
        let store = self.clone();
        locations
            .and_then(move |location| {
                let store = store.clone();
                async move {
                    let before = store.now();
                    store.0.objects.delete(&location).await?;
                    store.changed("delete", &location, before);
                    Ok::<Path, Error>(location)
                }
            })
            .boxed()
    }

    fn list(&self, prefix: Option<&Path>) -> BoxStream<'static, Result<ObjectMeta>> {
        self.0.objects.list(prefix)
    }

    async fn list_with_delimiter(&self, prefix: Option<&Path>) -> Result<ListResult> {
        self.0.objects.list_with_delimiter(prefix).await
    }

    async fn copy_opts(&self, from: &Path, _to: &Path, _options: CopyOptions) -> Result<()> {
        Err(Error::NotSupported { source: format!("{from} would be copied").into() })
    }
}

/// Opens the database in a bucket for writing, whoever had it before.
///
/// # Errors
/// What the engine says.
pub fn open(store: &RecordingStore) -> std::result::Result<Connection, SqlError> {
    let url = StoreUrl::parse("s3://loss/db").map_err(SqlError::of_test)?;
    let options = OpenOptions {
        store: Some(Arc::new(store.clone()) as Arc<dyn ObjectStore>),
        claim: ClaimAt::Open,
        take_over: true,
        collects: false,
        reader_grace: Duration::ZERO,
        wal_entry_bytes_max: 4 << 10,
        checkpoint_wal_bytes: u64::MAX,
        checkpoint_wal_objects: u64::MAX,
        compacts: false,
        compact_segment_bytes: 8 << 10,
        ..OpenOptions::default()
    };
    Connection::open_alone(Root::Store(url), options)
}

/// Runs the script in an empty bucket, then VACUUM; the last `each` points of every step.
///
/// # Errors
/// What fails, though nothing goes wrong.
pub fn points(seed: u64, each: usize) -> std::result::Result<Points<Arc<InMemory>>, String> {
    let store = RecordingStore::over(&InMemory::new());
    let mut points = Points::new(each);
    let mut ledger = Ledger::new(seed);
    let failed = |place: &str, error: &dyn fmt::Display| format!("{place}: {error}");
    let mut connection = open(&store).map_err(|error| failed("opening", &error))?;
    keep(&mut points, &store, "opening", &Arc::new(ledger.clone()));
    for (at, operation) in script().iter().enumerate() {
        let place = format!("operation {at}, {operation:?}");
        let during = Arc::new(ledger.during(operation));
        if matches!(operation, Operation::Reopen) {
            connection.close().map_err(|error| failed(&place, &error))?;
            connection = open(&store).map_err(|error| failed(&place, &error))?;
        } else {
            // Also a transaction that lost against a build of the index in the background has taken its steps.
            ledger.run(&connection, operation).map_err(|error| failed(&place, &error))?;
        }
        keep(&mut points, &store, &place, &during);
    }
    connection.run("VACUUM").map_err(|error| failed("VACUUM", &error))?;
    keep(&mut points, &store, "VACUUM", &Arc::new(ledger.clone()));
    ledger.settle(&connection)?;
    connection.close().map_err(|error| failed("closing", &error))?;
    keep(&mut points, &store, "closing", &Arc::new(ledger));
    Ok(points)
}

fn keep(points: &mut Points<Arc<InMemory>>, store: &RecordingStore, place: &str, ledger: &Arc<Ledger>) {
    let recorded = std::mem::take(&mut *store.log());
    for (at, Recorded { name, before }) in recorded.iter().enumerate() {
        let after = recorded.get(at + 1).map_or_else(|| store.now(), |next| Arc::clone(&next.before));
        points.add(Point {
            name: name.clone(),
            place: place.to_owned(),
            before: Arc::clone(before),
            after,
            ledger: Arc::clone(ledger),
        });
    }
}
