//! Clients of Google Cloud Storage.

use object_store::gcp::{GoogleCloudStorageBuilder, GoogleConfigKey};

use super::endpoint::Endpoint;
use super::settings::{Environment, Explicit, refuse, wrong};
use crate::error::Result;

pub(super) fn of_environment(bucket: &str, environment: &Environment) -> Result<GoogleCloudStorageBuilder> {
    let mut builder = GoogleCloudStorageBuilder::new();
    if let Some(path) = environment.get("SERVICE_ACCOUNT") {
        builder = builder.with_service_account_path(path);
    }
    for (name, value) in environment.beginning("GOOGLE_") {
        if let Ok(key) = name.parse::<GoogleConfigKey>() {
            builder = builder.with_config(key, value);
        }
    }
    if let Some(address) = builder.get_config_value(&GoogleConfigKey::BaseUrl) {
        builder = builder.with_base_url(&Endpoint::parse("GOOGLE_BASE_URL", &address, None)?.to_string());
    }
    Ok(builder.with_bucket_name(bucket))
}

pub(super) fn of_explicit(bucket: &str, explicit: &Explicit) -> Result<GoogleCloudStorageBuilder> {
    refuse(
        "Google Cloud Storage",
        &[
            ("key_id", explicit.key_id.is_some()),
            ("session_token", explicit.session_token.is_some()),
            ("region", explicit.region.is_some()),
            ("url_style", explicit.url_style.is_some()),
        ],
    )?;
    let builder = GoogleCloudStorageBuilder::new().with_bucket_name(bucket);
    let builder = match (&explicit.secret, explicit.anonymous) {
        (Some(account), false) => builder.with_service_account_key(account.expose()),
        (None, true) => builder.with_skip_signature(true),
        (Some(_), true) => return Err(wrong("'anonymous' needs no 'secret'")),
        (None, false) => {
            return Err(wrong("Google Cloud Storage needs a 'secret'").with_hint(
                "the JSON of a service account; or 'anonymous' for a bucket that everybody may read",
            ));
        }
    };
    Ok(match &explicit.endpoint {
        Some(endpoint) => builder.with_base_url(&endpoint.to_string()),
        None => builder,
    })
}
