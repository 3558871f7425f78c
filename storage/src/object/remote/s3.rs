//! Clients of Amazon S3 and what speaks its protocol.

use object_store::aws::{AmazonS3Builder, AmazonS3ConfigKey};

use super::endpoint::Endpoint;
use super::profile::Profile;
use super::settings::{Environment, Explicit, Secret, UrlStyle, is_true, name_like, sendable, wrong};
use crate::error::Result;

/// The region of a store that has none, such as one of one's own: requests are signed with it.
const DEFAULT_REGION: &str = "us-east-1";

/// What stands in the head of each request.
const SENT: [AmazonS3ConfigKey; 2] = [AmazonS3ConfigKey::AccessKeyId, AmazonS3ConfigKey::Token];

pub(super) fn of_environment(bucket: &str, environment: &Environment) -> Result<AmazonS3Builder> {
    let mut builder = AmazonS3Builder::new();
    for (name, value) in environment.beginning("AWS_") {
        if let Ok(key) = name.parse::<AmazonS3ConfigKey>() {
            builder = builder.with_config(key, value);
        }
    }
    let has = |builder: &AmazonS3Builder, key| builder.get_config_value(&key).is_some();
    let mut endpoint_name = "AWS_ENDPOINT_URL";
    let anonymous =
        builder.get_config_value(&AmazonS3ConfigKey::SkipSignature).is_some_and(|yes| is_true(&yes));
    if !anonymous && let Some(profile) = Profile::of(environment)? {
        if let (Some(key_id), Some(secret)) = (&profile.key_id, &profile.secret) {
            builder = builder.with_access_key_id(key_id).with_secret_access_key(secret.expose());
            if let Some(token) = &profile.session_token {
                builder = builder.with_token(token.expose());
            }
        }
        if let (Some(region), false) = (&profile.region, has(&builder, AmazonS3ConfigKey::Region)) {
            builder = builder.with_region(region);
        }
        let addressed =
            has(&builder, AmazonS3ConfigKey::Endpoint) || has(&builder, AmazonS3ConfigKey::S3Endpoint);
        if let (Some(endpoint), false) = (&profile.endpoint_url, addressed) {
            endpoint_name = "endpoint_url of the profile";
            builder = builder.with_endpoint(endpoint);
        }
    }
    for key in SENT {
        if let Some(value) = builder.get_config_value(&key) {
            sendable(&key.as_ref().to_ascii_uppercase(), value)?;
        }
    }
    if let Some(region) = builder.get_config_value(&AmazonS3ConfigKey::Region) {
        name_like("AWS_REGION", region)?;
    }
    let in_host = builder
        .get_config_value(&AmazonS3ConfigKey::VirtualHostedStyleRequest)
        .is_some_and(|yes| is_true(&yes));
    let endpoint = match builder.get_config_value(&AmazonS3ConfigKey::S3Endpoint) {
        Some(endpoint) => Some(Endpoint::parse("AWS_ENDPOINT_URL_S3", &endpoint, None)?),
        None => builder
            .get_config_value(&AmazonS3ConfigKey::Endpoint)
            .map(|endpoint| Endpoint::parse(endpoint_name, &endpoint, None))
            .transpose()?,
    };
    let builder = builder.with_bucket_name(bucket);
    Ok(match endpoint {
        Some(endpoint) => at_endpoint(builder, bucket, &endpoint, in_host),
        None => builder,
    })
}

pub(super) fn of_explicit(bucket: &str, explicit: &Explicit) -> Result<AmazonS3Builder> {
    let mut builder = AmazonS3Builder::new().with_bucket_name(bucket);
    builder = match (&explicit.key_id, &explicit.secret, explicit.anonymous) {
        (Some(key_id), Some(secret), false) => {
            builder.with_access_key_id(key_id).with_secret_access_key(secret.expose())
        }
        (None, None, true) => builder.with_skip_signature(true),
        (_, _, true) => return Err(wrong("'anonymous' needs neither 'key_id' nor 'secret'")),
        _ => {
            return Err(wrong("S3 needs both 'key_id' and 'secret'")
                .with_hint("or 'anonymous' for a bucket that everybody may read"));
        }
    };
    if let Some(token) = explicit.session_token.as_ref().map(Secret::expose) {
        if explicit.anonymous {
            return Err(wrong("'anonymous' needs no 'session_token'"));
        }
        builder = builder.with_token(token);
    }
    if let Some(region) = &explicit.region {
        builder = builder.with_region(region);
    }
    let in_host = explicit.url_style == Some(UrlStyle::VirtualHost);
    builder = builder.with_virtual_hosted_style_request(in_host);
    Ok(match &explicit.endpoint {
        Some(endpoint) => at_endpoint(builder, bucket, endpoint, in_host),
        None => builder,
    })
}

/// A client of the store at `endpoint`.
fn at_endpoint(
    builder: AmazonS3Builder,
    bucket: &str,
    endpoint: &Endpoint,
    in_host: bool,
) -> AmazonS3Builder {
    let address = if in_host { endpoint.of_bucket(bucket) } else { endpoint.clone() };
    let mut builder = builder.with_config(AmazonS3ConfigKey::S3Endpoint, address.to_string());
    if builder.get_config_value(&AmazonS3ConfigKey::Region).is_none() {
        builder = builder.with_region(DEFAULT_REGION);
    }
    if endpoint.is_https() { builder } else { builder.with_allow_http(true) }
}
