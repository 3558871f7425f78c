//! What configures a client: the process's environment, or keys and values.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use super::endpoint::Endpoint;
use crate::error::{Error, ErrorKind, Result};
use crate::object::reason;

/// The keys of explicit settings.
const KEYS: [&str; 8] =
    ["key_id", "secret", "session_token", "region", "endpoint", "use_ssl", "url_style", "anonymous"];

/// What configures a client. The text of `Debug` holds no secrets.
#[derive(Clone, Debug)]
pub struct StoreSettings(pub(super) Source);

#[derive(Clone, Debug)]
pub(super) enum Source {
    Environment(Environment),
    Explicit(Box<Explicit>),
}

impl StoreSettings {
    /// The settings of the process: its `AWS_…`, `GOOGLE_…` and `AZURE_…` variables, a profile of `~/.aws` when they have
    /// no key, and the role of the machine when there is none at all.
    ///
    /// Of S3 these are read: `AWS_ACCESS_KEY_ID`, `AWS_SECRET_ACCESS_KEY`, `AWS_SESSION_TOKEN`, `AWS_REGION`,
    /// `AWS_DEFAULT_REGION`, `AWS_ENDPOINT_URL_S3`, `AWS_ENDPOINT_URL`, `AWS_ALLOW_HTTP`,
    /// `AWS_VIRTUAL_HOSTED_STYLE_REQUEST`, `AWS_SKIP_SIGNATURE`, `AWS_WEB_IDENTITY_TOKEN_FILE` with `AWS_ROLE_ARN`, the
    /// `AWS_CONTAINER_…` of ECS and EKS, `AWS_PROXY_URL` and the other names that `object_store` knows; and `AWS_PROFILE`,
    /// `AWS_SHARED_CREDENTIALS_FILE`, `AWS_CONFIG_FILE`. An empty variable counts as none.
    #[must_use]
    pub fn from_env() -> Self {
        let text = |(name, value): (std::ffi::OsString, std::ffi::OsString)| {
            Some((name.into_string().ok()?, value.into_string().ok()?))
        };
        Self(Source::Environment(Environment::of(std::env::vars_os().filter_map(text))))
    }

    /// The settings that `pairs` give, and no others: `key_id`, `secret`, `session_token`, `region`, `endpoint`, `use_ssl`,
    /// `url_style` ('path' or 'vhost'), `anonymous`. For Google `secret` is the JSON of a service account; for Azure
    /// `key_id` is the storage account and `secret` its key.
    ///
    /// # Errors
    /// `InvalidInput` for keys that are unknown or given twice, and values that can't be.
    pub fn explicit(pairs: Vec<(String, String)>) -> Result<Self> {
        let mut explicit = Explicit::default();
        let (mut endpoint, mut use_ssl) = (None, None);
        let mut seen = BTreeSet::new();
        for (key, value) in pairs {
            let key = key.to_ascii_lowercase();
            if value.trim().is_empty() {
                return Err(wrong(format!("'{}' is empty", reason::one_line(&key))));
            }
            match key.as_str() {
                "key_id" => explicit.key_id = Some(sendable("key_id", value)?),
                "secret" => explicit.secret = Some(Secret::new(value)),
                "session_token" => {
                    explicit.session_token = Some(Secret::new(sendable("session_token", value)?));
                }
                "region" => explicit.region = Some(name_like("region", value)?),
                "endpoint" => endpoint = Some(value),
                "use_ssl" => use_ssl = Some(flag("use_ssl", &value)?),
                "anonymous" => explicit.anonymous = flag("anonymous", &value)?,
                "url_style" => {
                    explicit.url_style = Some(match value.to_ascii_lowercase().as_str() {
                        "path" => UrlStyle::Path,
                        "vhost" => UrlStyle::VirtualHost,
                        _ => return Err(wrong("'url_style' is neither 'path' nor 'vhost'")),
                    });
                }
                _ => {
                    let message = format!("'{}' is no setting of an object store", reason::one_line(&key));
                    return Err(wrong(message).with_hint(format!("there are {}", KEYS.join(", "))));
                }
            }
            if let Some(twice) = seen.replace(key) {
                return Err(wrong(format!("'{twice}' is given twice")));
            }
        }
        explicit.endpoint = match (endpoint, use_ssl) {
            (Some(text), ssl) => {
                let endpoint = Endpoint::parse("'endpoint'", &text, Some(ssl.unwrap_or(true)))?;
                if ssl.is_some_and(|ssl| ssl != endpoint.is_https()) {
                    return Err(wrong("'endpoint' begins with what 'use_ssl' denies")
                        .with_hint("write it without http:// or https://, or leave 'use_ssl' out"));
                }
                Some(endpoint)
            }
            (None, Some(false)) => {
                return Err(wrong("'use_ssl' is false, but there is no 'endpoint'")
                    .with_hint("give the endpoint of a store that answers without TLS"));
            }
            (None, _) => None,
        };
        Ok(Self(Source::Explicit(Box::new(explicit))))
    }

    /// The same settings for somebody else than the owner of the process: names they give are not followed to addresses of this
    /// machine or of services for machines (`guard`), nor are redirects. Those of the environment stay as they are.
    #[must_use]
    pub fn guarded(mut self) -> Self {
        if let Source::Explicit(explicit) = &mut self.0 {
            explicit.guarded = true;
        }
        self
    }

    pub(super) fn is_guarded(&self) -> bool {
        matches!(&self.0, Source::Explicit(explicit) if explicit.guarded)
    }
}

/// A text that is never shown.
#[derive(Clone, PartialEq, Eq)]
pub(super) struct Secret(String);

impl Secret {
    pub(super) fn new(text: impl Into<String>) -> Self {
        Self(text.into())
    }

    /// The text, for the client and nobody else.
    pub(super) fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("***")
    }
}

/// The variables of the process that concern stores.
#[derive(Clone, Debug, Default)]
pub(super) struct Environment(BTreeMap<String, Secret>);

impl Environment {
    pub(super) fn of(variables: impl IntoIterator<Item = (String, String)>) -> Self {
        let concerns = |name: &str| {
            ["AWS_", "GOOGLE_", "AZURE_"].iter().any(|prefix| name.starts_with(prefix))
                || ["SERVICE_ACCOUNT", "IDENTITY_ENDPOINT", "HOME", "USERPROFILE"].contains(&name)
        };
        let kept = variables.into_iter().filter(|(name, value)| concerns(name) && !value.is_empty());
        Self(kept.map(|(name, value)| (name, Secret::new(value))).collect())
    }

    pub(super) fn get(&self, name: &str) -> Option<&str> {
        self.0.get(name).map(Secret::expose)
    }

    /// The variables whose names begin so; the names in small letters, as clients have them.
    pub(super) fn beginning(&self, prefix: &'static str) -> impl Iterator<Item = (String, &str)> {
        let of_it = move |(name, _): &(&String, &Secret)| name.starts_with(prefix);
        self.0.iter().filter(of_it).map(|(name, value)| (name.to_ascii_lowercase(), value.expose()))
    }
}

/// Where a request names the bucket.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum UrlStyle {
    /// `https://endpoint/bucket/key`
    Path,
    /// `https://bucket.endpoint/key`
    VirtualHost,
}

/// Settings that were given one by one.
#[derive(Clone, Debug, Default)]
pub(super) struct Explicit {
    pub(super) key_id: Option<String>,
    pub(super) secret: Option<Secret>,
    pub(super) session_token: Option<Secret>,
    pub(super) region: Option<String>,
    pub(super) endpoint: Option<Endpoint>,
    pub(super) url_style: Option<UrlStyle>,
    pub(super) anonymous: bool,
    /// See [`StoreSettings::guarded`].
    pub(super) guarded: bool,
}

/// Refuses settings that a protocol does not have: keys, and whether they are given.
pub(super) fn refuse(protocol: &str, keys: &[(&str, bool)]) -> Result<()> {
    match keys.iter().find(|(_, given)| *given) {
        Some((key, _)) => Err(wrong(format!("{protocol} has no setting '{key}'"))),
        None => Ok(()),
    }
}

/// Settings that can't be.
pub(super) fn wrong(message: impl Into<String>) -> Error {
    Error::new(ErrorKind::InvalidInput, message)
}

/// A value that stands in the head of requests, where not everything can.
pub(super) fn sendable(name: &str, value: String) -> Result<String> {
    if value.bytes().all(|byte| byte.is_ascii_graphic()) {
        Ok(value)
    } else {
        Err(wrong(format!("'{name}' has a character that it can't have, such as a space or a line end")))
    }
}

/// A value that stands in the name of a host.
pub(super) fn name_like(name: &str, value: String) -> Result<String> {
    if value.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-') {
        Ok(value)
    } else {
        Err(wrong(format!("'{name}' is made of letters, digits and '-' only")))
    }
}

/// Whether the value says yes; as clients read it.
pub(super) fn is_true(value: &str) -> bool {
    matches!(value.to_ascii_lowercase().as_str(), "1" | "true" | "on" | "yes" | "y")
}

fn flag(name: &str, value: &str) -> Result<bool> {
    match value.to_ascii_lowercase().as_str() {
        "true" => Ok(true),
        "false" => Ok(false),
        _ => Err(wrong(format!("'{name}' is neither 'true' nor 'false'"))),
    }
}
