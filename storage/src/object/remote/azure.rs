//! Clients of Azure Blob Storage.

use object_store::azure::{AzureConfigKey, MicrosoftAzureBuilder};

use super::endpoint::Endpoint;
use super::settings::{Environment, Explicit, name_like, refuse, sendable, wrong};
use crate::error::Result;

pub(super) fn of_environment(container: &str, environment: &Environment) -> Result<MicrosoftAzureBuilder> {
    let mut builder = MicrosoftAzureBuilder::new();
    for (name, value) in environment.beginning("AZURE_") {
        if let Ok(key) = name.parse::<AzureConfigKey>() {
            builder = builder.with_config(key, value);
        }
    }
    if let Some(address) = environment.get("IDENTITY_ENDPOINT") {
        builder = builder.with_msi_endpoint(address);
    }
    if let Some(account) = builder.get_config_value(&AzureConfigKey::AccountName) {
        name_like("AZURE_STORAGE_ACCOUNT_NAME", account)?;
    }
    if let Some(token) = builder.get_config_value(&AzureConfigKey::Token) {
        sendable("AZURE_STORAGE_TOKEN", token)?;
    }
    let builder = builder.with_container_name(container);
    match builder.get_config_value(&AzureConfigKey::Endpoint) {
        Some(address) => {
            Ok(at_endpoint(builder, &Endpoint::parse("AZURE_STORAGE_ENDPOINT", &address, None)?))
        }
        None => Ok(builder),
    }
}

pub(super) fn of_explicit(container: &str, explicit: &Explicit) -> Result<MicrosoftAzureBuilder> {
    refuse(
        "Azure Blob Storage",
        &[
            ("session_token", explicit.session_token.is_some()),
            ("region", explicit.region.is_some()),
            ("url_style", explicit.url_style.is_some()),
        ],
    )?;
    let Some(account) = explicit.key_id.clone() else {
        return Err(wrong("Azure Blob Storage needs a 'key_id'").with_hint("the name of the storage account"));
    };
    let builder = MicrosoftAzureBuilder::new()
        .with_container_name(container)
        .with_account(name_like("key_id", account)?);
    let builder = match (&explicit.secret, explicit.anonymous) {
        (Some(key), false) => builder.with_access_key(key.expose()),
        (None, true) => builder.with_skip_signature(true),
        (Some(_), true) => return Err(wrong("'anonymous' needs no 'secret'")),
        (None, false) => {
            return Err(wrong("Azure Blob Storage needs a 'secret'").with_hint(
                "the key of the storage account; or 'anonymous' for a container that everybody may read",
            ));
        }
    };
    Ok(match &explicit.endpoint {
        Some(endpoint) => at_endpoint(builder, endpoint),
        None => builder,
    })
}

fn at_endpoint(builder: MicrosoftAzureBuilder, endpoint: &Endpoint) -> MicrosoftAzureBuilder {
    let builder = builder.with_endpoint(endpoint.to_string());
    if endpoint.is_https() { builder } else { builder.with_allow_http(true) }
}
