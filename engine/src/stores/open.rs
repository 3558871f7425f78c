//! Buckets that are open: clients, and the names that plans know them by.
//!
//! Owns: making a client, the store of the process's environment for each bucket, stores to use in place of clients, what the requests of all
//! clients count, whoever's they are. Does not own: which credentials are used (`super::SessionStores`), trying again (`cairn_storage::object`).
//!
//! All sessions of an engine share one registry of stores. Each open bucket stands in it under a URL of its own, `cairn-<number>://bucket`, which
//! no statement can write: files are named by paths, objects by the schemes of `place`. So no session reads with
//! what another one was given, and one session may reach a bucket in two ways.

use std::collections::HashMap;
use std::fmt;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use cairn_storage::ErrorKind;
use cairn_storage::metrics::{ObjectFigures, ObjectMetrics};
use cairn_storage::object::{ReadMeter, Scheme, StoreSettings, StoreUrl, connect_with};
use datafusion::datasource::listing::ListingTableUrl;
use datafusion::execution::object_store::ObjectStoreUrl;
use datafusion::execution::runtime_env::RuntimeEnv;
use datafusion::object_store::ObjectStore;
use datafusion::object_store::path::Path;

use super::named::{Credentials, NamedStore};
use super::secret::StoreSecret;
use crate::error::{Error, Result};

/// Numbers of stores of this process.
static NEXT: AtomicU64 = AtomicU64::new(1);

/// A bucket that can be read and written, and found by plans as long as this lives.
pub(crate) struct OpenStore {
    named: Arc<NamedStore>,
    /// The same.
    store: Arc<dyn ObjectStore>,
    bucket: StoreUrl,
    url: ObjectStoreUrl,
    runtime: Arc<RuntimeEnv>,
}

impl OpenStore {
    fn register(
        inner: Arc<dyn ObjectStore>,
        bucket: &StoreUrl,
        credentials: Credentials,
        runtime: &Arc<RuntimeEnv>,
    ) -> Result<Arc<Self>> {
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let named = NamedStore::new(inner, bucket.clone(), credentials, number);
        Self::under(number, named, bucket, runtime)
    }

    fn under(
        number: u64,
        named: NamedStore,
        bucket: &StoreUrl,
        runtime: &Arc<RuntimeEnv>,
    ) -> Result<Arc<Self>> {
        let url = ObjectStoreUrl::parse(format!("cairn-{number}://{}", bucket.bucket()))?;
        let named = Arc::new(named);
        let store = Arc::clone(&named) as Arc<dyn ObjectStore>;
        runtime.register_object_store(url.as_ref(), Arc::clone(&store));
        Ok(Arc::new(Self { named, store, bucket: bucket.clone(), url, runtime: Arc::clone(runtime) }))
    }

    /// The same bucket under another name, with reads counted in `meter`.
    ///
    /// # Errors
    /// None that this one did not have.
    pub(crate) fn metered(&self, meter: ReadMeter) -> Result<Arc<Self>> {
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        Self::under(number, self.named.metered(meter), &self.bucket, &self.runtime)
    }

    /// Its objects, by keys from the bucket on.
    pub(crate) fn store(&self) -> &Arc<dyn ObjectStore> {
        &self.store
    }

    /// Its bucket.
    pub(crate) fn bucket(&self) -> &StoreUrl {
        &self.bucket
    }

    /// Whether the tags it tells of objects can be asked for again as they are.
    pub(crate) fn has_tags(&self) -> bool {
        // Azure lists them without the quotes it wants to have back.
        self.bucket.scheme() == Scheme::S3
    }

    /// The object `key` for a plan.
    ///
    /// # Errors
    /// None: every key has a URL.
    pub(crate) fn listing_url(&self, key: &Path) -> Result<ListingTableUrl> {
        let mut url = self.url.as_str().to_owned();
        for byte in key.as_ref().bytes() {
            if byte.is_ascii_alphanumeric() || matches!(byte, b'/' | b'-' | b'_' | b'.' | b'~') {
                url.push(char::from(byte));
            } else {
                url.push_str(&format!("%{byte:02X}"));
            }
        }
        Ok(ListingTableUrl::parse(url)?)
    }
}

impl Drop for OpenStore {
    fn drop(&mut self) {
        // It stands there since it was made.
        let _ = self.runtime.deregister_object_store(self.url.as_ref());
    }
}

impl fmt::Debug for OpenStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("OpenStore").field(&self.bucket.to_string()).finish()
    }
}

/// What all sessions of an engine share: see the module.
pub(crate) struct EngineStores {
    /// Stores to use in place of clients.
    instead: Vec<(StoreUrl, Arc<dyn ObjectStore>)>,
    runtime: Arc<RuntimeEnv>,
    /// Buckets open with the credentials of the process.
    environment: Mutex<HashMap<StoreUrl, Arc<OpenStore>>>,
    /// Of all clients, those that are closed too.
    metrics: Arc<ObjectMetrics>,
    /// Whether there was ever one.
    opened: AtomicBool,
}

impl EngineStores {
    /// `instead`: stores of whole buckets (`s3://bucket`), to use in place of clients; `runtime` of the engine's plans.
    ///
    /// # Errors
    /// `InvalidInput` for what names no bucket.
    pub(crate) fn new(instead: &[(String, Arc<dyn ObjectStore>)], runtime: Arc<RuntimeEnv>) -> Result<Self> {
        let parse = |(url, store): &(String, Arc<dyn ObjectStore>)| -> Result<_> {
            let bucket = StoreUrl::parse(url)?;
            if bucket.prefix().is_empty() {
                return Ok((bucket, Arc::clone(store)));
            }
            Err(Error::new(ErrorKind::InvalidInput, format!("'{bucket}' is more than a bucket")))
        };
        let instead = instead.iter().map(parse).collect::<Result<_>>()?;
        let (environment, metrics, opened) = (Mutex::default(), Arc::default(), false.into());
        Ok(Self { instead, runtime, environment, metrics, opened })
    }

    /// What requests for files have counted; None: no bucket was ever opened for one.
    pub(crate) fn figures(&self) -> Option<ObjectFigures> {
        self.opened.load(Ordering::Relaxed).then(|| self.metrics.figures())
    }

    /// `bucket` with the credentials of the process, opened once.
    ///
    /// # Errors
    /// What is wrong with the environment's settings.
    pub(super) fn of_environment(&self, bucket: &StoreUrl) -> Result<Arc<OpenStore>> {
        // Nothing panics while holding it.
        let mut open = self.environment.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(store) = open.get(bucket) {
            return Ok(Arc::clone(store));
        }
        let inner = self.inner(bucket, || Ok(StoreSettings::from_env()))?;
        let store = OpenStore::register(inner, bucket, Credentials::Environment, &self.runtime)?;
        open.insert(bucket.clone(), Arc::clone(&store));
        Ok(store)
    }

    /// `bucket` with the credentials of the secret `name`, opened anew; `guarded` for a session that may not reach every host.
    ///
    /// # Errors
    /// What the service's client cannot be told.
    pub(super) fn with_secret(
        &self,
        bucket: &StoreUrl,
        name: &str,
        secret: &StoreSecret,
        guarded: bool,
    ) -> Result<Arc<OpenStore>> {
        let inner = self.inner(bucket, || {
            let settings = secret.settings()?;
            Ok(if guarded { settings.guarded() } else { settings })
        })?;
        OpenStore::register(inner, bucket, Credentials::Secret(name.to_owned()), &self.runtime)
    }

    fn inner(
        &self,
        bucket: &StoreUrl,
        settings: impl FnOnce() -> Result<StoreSettings>,
    ) -> Result<Arc<dyn ObjectStore>> {
        if let Some((_, store)) = self.instead.iter().find(|(replaced, _)| replaced == bucket) {
            return Ok(Arc::clone(store));
        }
        let client = connect_with(bucket, &settings()?, Arc::clone(&self.metrics))?;
        self.opened.store(true, Ordering::Relaxed);
        Ok(client)
    }
}

impl fmt::Debug for EngineStores {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("EngineStores").finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use datafusion::object_store::memory::InMemory;

    use super::*;

    fn stores() -> (EngineStores, Arc<RuntimeEnv>) {
        let runtime = Arc::new(RuntimeEnv::default());
        let memory: Arc<dyn ObjectStore> = Arc::new(InMemory::new());
        let instead = [("s3://my_bucket".to_owned(), memory)];
        (EngineStores::new(&instead, Arc::clone(&runtime)).unwrap(), runtime)
    }

    #[test]
    fn each_open_bucket_has_a_name_of_its_own_as_long_as_it_lives() {
        let (stores, runtime) = stores();
        let bucket = StoreUrl::parse("s3://my_bucket").unwrap();
        let shared = stores.of_environment(&bucket).unwrap();
        assert_eq!(shared.url, stores.of_environment(&bucket).unwrap().url, "opened once");
        let open = || {
            let inner: Arc<dyn ObjectStore> = Arc::new(InMemory::new());
            OpenStore::register(inner, &bucket, Credentials::Secret("a".into()), &runtime).unwrap()
        };
        let (one, two) = (open(), open());
        assert_ne!(one.url, two.url);
        let urls = [one.url.clone(), two.url.clone()];
        assert!(runtime.object_store(&urls[0]).is_ok() && runtime.object_store(&urls[1]).is_ok());
        drop(one);
        assert!(runtime.object_store(&urls[0]).is_err() && runtime.object_store(&urls[1]).is_ok());
        assert!(runtime.object_store(&shared.url).is_ok());
    }

    #[test]
    fn every_key_has_a_url() {
        let (stores, _runtime) = stores();
        let open = stores.of_environment(&StoreUrl::parse("s3://my_bucket").unwrap()).unwrap();
        for key in ["a.csv", "a b/ä?.csv", "100%/x#y.csv", "a=1/b%2Fc.csv", "~x/[1].csv"] {
            let key = Path::parse(key).unwrap();
            let url = open.listing_url(&key).unwrap();
            assert_eq!((url.prefix(), url.object_store()), (&key, open.url.clone()));
            assert!(!url.is_collection());
        }
    }

    #[test]
    fn only_whole_buckets_are_replaced() {
        let memory: Arc<dyn ObjectStore> = Arc::new(InMemory::new());
        let instead = [("s3://bucket/prefix".to_owned(), memory)];
        assert!(EngineStores::new(&instead, Arc::new(RuntimeEnv::default())).is_err());
    }
}
