//! The way to a store: a client for each of the protocols, built from settings.
//!
//! Owns: clients, what they are configured by (`settings`, `profile`, `endpoint`; `s3`, `gcs`, `azure` for what each
//! protocol takes), and which addresses those of strangers connect to (`guard`). Does not own: retries and time limits of
//! requests (`steady`): the clients send each request once. TLS needs nothing of the process: a provider it has installed is
//! used, else the client brings its own. No error made here names a secret, and no cause is attached that might.

mod azure;
mod endpoint;
mod gcs;
mod guard;
mod profile;
mod s3;
mod settings;

use std::sync::Arc;
use std::time::Duration;

use object_store::aws::{AmazonS3, AmazonS3Builder, AmazonS3ConfigKey};
use object_store::azure::{AzureConfigKey, MicrosoftAzure, MicrosoftAzureBuilder};
use object_store::gcp::{GoogleCloudStorage, GoogleCloudStorageBuilder, GoogleConfigKey};
use object_store::multipart::MultipartStore;
use object_store::prefix::PrefixStore;
use object_store::{ClientConfigKey, Error as StoreError, ObjectStore, RetryConfig};

use self::guard::Guarded;
use self::settings::Source;
pub use self::settings::StoreSettings;
use super::reason;
use super::steady::{RequestLimits, SteadyStore};
use super::url::{Scheme, StoreUrl};
use crate::error::{Error, ErrorKind, Result};
use crate::metrics::ObjectMetrics;

/// Longest time until there is a connection.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

/// The client's own time limit is that of a request for so many bytes: it only ends what nobody else does.
const LARGEST_REQUEST_BYTES: u64 = 1 << 30;

/// A client of one of the protocols.
enum Client {
    S3(AmazonS3),
    Gcs(GoogleCloudStorage),
    Azure(MicrosoftAzure),
}

/// A client for the bucket of `url`, without its prefix. It sends each request once. Its `Debug` text may hold credentials
/// and is not for logs.
///
/// # Errors
/// `InvalidInput` when settings are missing or wrong, `Unsupported` for credentials Cairn can't get.
pub fn client(
    url: &StoreUrl,
    settings: &StoreSettings,
    limits: &RequestLimits,
) -> Result<Arc<dyn ObjectStore>> {
    let client: Arc<dyn ObjectStore> = match build(url, settings, limits)? {
        Client::S3(client) => Arc::new(client),
        Client::Gcs(client) => Arc::new(client),
        Client::Azure(client) => Arc::new(client),
    };
    Ok(client)
}

/// The steady store below the prefix of `url`, as the process's environment configures it, and what its requests count.
/// Nothing is sent yet.
///
/// # Errors
/// As [`client`].
pub fn connect(url: &StoreUrl) -> Result<(Arc<dyn ObjectStore>, Arc<ObjectMetrics>)> {
    let metrics = Arc::<ObjectMetrics>::default();
    let store = connect_with(url, &StoreSettings::from_env(), Arc::clone(&metrics))?;
    Ok((store, metrics))
}

/// As [`connect`], as `settings` configure it, counted in `metrics`: whoever's credentials are used, requests are limited, repeated and
/// counted alike.
///
/// # Errors
/// As [`client`].
pub fn connect_with(
    url: &StoreUrl,
    settings: &StoreSettings,
    metrics: Arc<ObjectMetrics>,
) -> Result<Arc<dyn ObjectStore>> {
    let limits = RequestLimits::default();
    let (store, parts) = match build(url, settings, &limits)? {
        Client::S3(client) => below(client, url.prefix()),
        Client::Gcs(client) => below(client, url.prefix()),
        Client::Azure(client) => below(client, url.prefix()),
    };
    Ok(Arc::new(SteadyStore::counting(store, Some(parts), limits, metrics)))
}

/// What tells the bucket of `url`, as `settings` reach it, from one of the same name elsewhere: an endpoint or an account.
/// Empty: the provider's own.
///
/// # Errors
/// As [`client`].
pub(crate) fn address(url: &StoreUrl, settings: &StoreSettings) -> Result<String> {
    let told = match url.scheme() {
        Scheme::S3 => {
            // Stands there for every endpoint, whatever named it.
            [s3_builder(url, settings)?.get_config_value(&AmazonS3ConfigKey::S3Endpoint), None]
        }
        Scheme::Gcs => [gcs_builder(url, settings)?.get_config_value(&GoogleConfigKey::BaseUrl), None],
        Scheme::Azure => {
            let builder = azure_builder(url, settings)?;
            [AzureConfigKey::Endpoint, AzureConfigKey::AccountName].map(|key| builder.get_config_value(&key))
        }
    };
    Ok(told.into_iter().flatten().collect::<Vec<_>>().join(" "))
}

/// Both faces of a client below a prefix.
fn below<T: ObjectStore + MultipartStore>(
    client: T,
    prefix: &str,
) -> (Arc<dyn ObjectStore>, Arc<dyn MultipartStore>) {
    if prefix.is_empty() { faces(client) } else { faces(PrefixStore::new(client, prefix)) }
}

fn faces<T: ObjectStore + MultipartStore>(store: T) -> (Arc<dyn ObjectStore>, Arc<dyn MultipartStore>) {
    let store = Arc::new(store);
    (store.clone(), store)
}

fn s3_builder(url: &StoreUrl, settings: &StoreSettings) -> Result<AmazonS3Builder> {
    match &settings.0 {
        Source::Environment(environment) => s3::of_environment(url.bucket(), environment),
        Source::Explicit(explicit) => s3::of_explicit(url.bucket(), explicit),
    }
}

fn gcs_builder(url: &StoreUrl, settings: &StoreSettings) -> Result<GoogleCloudStorageBuilder> {
    match &settings.0 {
        Source::Environment(environment) => gcs::of_environment(url.bucket(), environment),
        Source::Explicit(explicit) => gcs::of_explicit(url.bucket(), explicit),
    }
}

fn azure_builder(url: &StoreUrl, settings: &StoreSettings) -> Result<MicrosoftAzureBuilder> {
    match &settings.0 {
        Source::Environment(environment) => azure::of_environment(url.bucket(), environment),
        Source::Explicit(explicit) => azure::of_explicit(url.bucket(), explicit),
    }
}

fn build(url: &StoreUrl, settings: &StoreSettings, limits: &RequestLimits) -> Result<Client> {
    let once = RetryConfig { max_retries: 0, ..RetryConfig::default() };
    let times = times(limits);
    let unbuilt = |error: StoreError| unbuilt(url, &error);
    let guarded = settings
        .is_guarded()
        .then(|| Guarded { connecting: CONNECT_TIMEOUT, request: limits.time_for(LARGEST_REQUEST_BYTES) });
    Ok(match url.scheme() {
        Scheme::S3 => {
            let mut builder = s3_builder(url, settings)?;
            for (key, value) in times {
                builder = builder.with_config(AmazonS3ConfigKey::Client(key), value);
            }
            if let Some(guarded) = guarded {
                builder = builder.with_http_connector(guarded);
            }
            Client::S3(builder.with_retry(once).build().map_err(unbuilt)?)
        }
        Scheme::Gcs => {
            let mut builder = gcs_builder(url, settings)?;
            for (key, value) in times {
                builder = builder.with_config(GoogleConfigKey::Client(key), value);
            }
            if let Some(guarded) = guarded {
                builder = builder.with_http_connector(guarded);
            }
            Client::Gcs(builder.with_retry(once).build().map_err(unbuilt)?)
        }
        Scheme::Azure => {
            let mut builder = azure_builder(url, settings)?;
            for (key, value) in times {
                builder = builder.with_config(AzureConfigKey::Client(key), value);
            }
            if let Some(guarded) = guarded {
                builder = builder.with_http_connector(guarded);
            }
            Client::Azure(builder.with_retry(once).build().map_err(unbuilt)?)
        }
    })
}

fn times(limits: &RequestLimits) -> [(ClientConfigKey, String); 2] {
    let milliseconds = |time: Duration| format!("{}ms", time.as_millis());
    [
        (ClientConfigKey::ConnectTimeout, milliseconds(CONNECT_TIMEOUT)),
        (ClientConfigKey::Timeout, milliseconds(limits.time_for(LARGEST_REQUEST_BYTES))),
    ]
}

/// What the clients say when they can't be built, in our words: some of theirs repeat what they were given.
const UNBUILT: [(&str, &str, &str); 8] = [
    (
        "Missing AccessKeyId",
        "there is a secret access key without its key id",
        "set AWS_ACCESS_KEY_ID beside AWS_SECRET_ACCESS_KEY",
    ),
    (
        "Missing SecretAccessKey",
        "there is a key id without its secret access key",
        "set AWS_SECRET_ACCESS_KEY beside AWS_ACCESS_KEY_ID",
    ),
    ("Account must be specified", "the storage account is not known", "set AZURE_STORAGE_ACCOUNT_NAME"),
    (
        "Invalid Access Key",
        "the key of the storage account is not in base64",
        "set AZURE_STORAGE_ACCOUNT_KEY to the key as the portal shows it",
    ),
    (
        "One of service account path or service account key",
        "a service account is given both as a file and as a key",
        "unset GOOGLE_SERVICE_ACCOUNT or GOOGLE_SERVICE_ACCOUNT_KEY",
    ),
    (
        "Unable to decode service account",
        "the Google credentials are not the JSON of an account",
        "set GOOGLE_APPLICATION_CREDENTIALS to the file that was downloaded",
    ),
    (
        "RSA key",
        "the private key of the Google service account can't be read",
        "download a new key of the service account",
    ),
    (
        "reading pem file",
        "the private key of the Google service account can't be read",
        "download a new key of the service account",
    ),
];

fn unbuilt(url: &StoreUrl, error: &StoreError) -> Error {
    let text = error.to_string();
    let (why, hint) = match UNBUILT.iter().find(|(theirs, ..)| text.contains(theirs)) {
        Some((_, why, hint)) => ((*why).to_owned(), *hint),
        None => (
            reason::one_line(&text),
            "check the AWS_…, GOOGLE_… or AZURE_… variables, or the secret's settings",
        ),
    };
    Error::new(ErrorKind::InvalidInput, format!("{url} can't be opened: {why}")).with_hint(hint)
}

#[cfg(test)]
mod tests;
