//! Credentials for object storage, as CREATE SECRET gives them.
//!
//! Owns: the options of a secret, what each may be, which URLs it is for, how it is shown. Does not own: the statement's grammar
//! (`statement`), where secrets are kept ([`SessionStores`](super::SessionStores)). What is secret prints `***` wherever it is printed, and no
//! error shows the value of an option. A value that becomes part of a host's name can hold nothing else: neither
//! a region nor an account leads a request elsewhere.

use cairn_storage::ErrorKind;
use cairn_storage::object::{Scheme, StoreSettings, StoreUrl};

use super::place::ObjectPlace;
use crate::error::{Error, Result};
use crate::rights::Secret;

/// Longest value of an option, in bytes.
const VALUE_BYTES_MAX: usize = 16 << 10;
/// Characters of a key's id that are shown, of one that is longer than twice that.
const KEY_ID_SHOWN: usize = 4;

/// An option of CREATE SECRET.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum SecretOption {
    /// Whose protocol.
    Type,
    /// Id of the key; the account on Azure.
    KeyId,
    /// The key.
    Secret,
    /// Token of a key that ends.
    SessionToken,
    /// Where the buckets are.
    Region,
    /// Another host than the provider's.
    Endpoint,
    /// Where a bucket's name stands in a request: `path` or `vhost`.
    UrlStyle,
    /// Whether requests are encrypted.
    UseSsl,
    /// URLs it is for.
    Scope,
}

impl SecretOption {
    /// All of them.
    pub(crate) const ALL: [Self; 9] = [
        Self::Type,
        Self::KeyId,
        Self::Secret,
        Self::SessionToken,
        Self::Region,
        Self::Endpoint,
        Self::UrlStyle,
        Self::UseSsl,
        Self::Scope,
    ];

    /// Its word.
    pub(crate) const fn word(self) -> &'static str {
        match self {
            Self::Type => "TYPE",
            Self::KeyId => "KEY_ID",
            Self::Secret => "SECRET",
            Self::SessionToken => "SESSION_TOKEN",
            Self::Region => "REGION",
            Self::Endpoint => "ENDPOINT",
            Self::UrlStyle => "URL_STYLE",
            Self::UseSsl => "USE_SSL",
            Self::Scope => "SCOPE",
        }
    }

    /// The option of that word, in any case.
    pub(crate) fn of_word(word: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|option| option.word().eq_ignore_ascii_case(word))
    }

    /// Whether its value may stand there without quotes.
    pub(crate) const fn takes_word(self) -> bool {
        matches!(self, Self::Type | Self::UrlStyle | Self::UseSsl)
    }
}

/// One secret.
#[derive(Clone, Debug)]
pub(crate) struct StoreSecret {
    scheme: Scheme,
    scope: Option<StoreUrl>,
    key_id: Option<Secret>,
    secret: Option<Secret>,
    session_token: Option<Secret>,
    region: Option<String>,
    endpoint: Option<String>,
    url_style: Option<String>,
    use_ssl: Option<bool>,
}

impl StoreSecret {
    /// The secret of these options, of which each stands there once at most.
    ///
    /// # Errors
    /// 22023 for an option that is missing, does not belong to the type, or has a value that it cannot have.
    pub(crate) fn new(options: &[(SecretOption, Secret)]) -> Result<Self> {
        let given = |wanted: SecretOption| {
            options.iter().find(|(option, _)| *option == wanted).map(|(_, value)| value)
        };
        for (option, value) in options {
            check_text(*option, value.reveal())?;
        }
        let text = |option| given(option).map(|value| value.reveal().to_owned());
        let scheme = match text(SecretOption::Type).map(|text| text.to_ascii_lowercase()).as_deref() {
            Some("s3") => Scheme::S3,
            Some("gcs") => Scheme::Gcs,
            Some("azure") => Scheme::Azure,
            Some(_) => return Err(invalid("TYPE is s3, gcs or azure")),
            None => return Err(invalid("a secret has a TYPE: s3, gcs or azure")),
        };
        let secret = Self {
            scheme,
            scope: text(SecretOption::Scope).map(|scope| scope_of(&scope, scheme)).transpose()?,
            key_id: given(SecretOption::KeyId).cloned(),
            secret: given(SecretOption::Secret).cloned(),
            session_token: given(SecretOption::SessionToken).cloned(),
            region: text(SecretOption::Region),
            endpoint: text(SecretOption::Endpoint),
            url_style: text(SecretOption::UrlStyle).map(|style| url_style(&style)).transpose()?,
            use_ssl: text(SecretOption::UseSsl).map(|value| boolean(&value)).transpose()?,
        };
        secret.check()?;
        Ok(secret)
    }

    /// What no option says alone.
    fn check(&self) -> Result<()> {
        // Those that only some services have.
        let given = [
            (SecretOption::KeyId, self.key_id.is_some(), self.scheme != Scheme::Gcs),
            (SecretOption::SessionToken, self.session_token.is_some(), self.scheme == Scheme::S3),
            (SecretOption::Region, self.region.is_some(), self.scheme == Scheme::S3),
            (SecretOption::UrlStyle, self.url_style.is_some(), self.scheme == Scheme::S3),
        ];
        if let Some((option, ..)) = given.iter().find(|(_, given, fits)| *given && !fits) {
            return Err(invalid(&format!("a secret for {} has no {}", self.type_name(), option.word())));
        }
        match (self.scheme, &self.key_id, &self.secret) {
            (Scheme::S3, Some(_), None) | (Scheme::S3, None, Some(_)) => {
                return Err(invalid("KEY_ID and SECRET belong together"));
            }
            (Scheme::S3, None, None) if self.session_token.is_some() => {
                return Err(invalid("SESSION_TOKEN belongs to a KEY_ID and a SECRET"));
            }
            (Scheme::Azure, None, _) => return Err(invalid("KEY_ID is missing: the name of the account")),
            (Scheme::Azure, Some(account), _)
                if !account.reveal().chars().all(|c| c.is_ascii_alphanumeric()) =>
            {
                return Err(invalid("KEY_ID of a secret for azure is an account: letters and digits"));
            }
            _ => {}
        }
        let is_region = |region: &str| region.chars().all(|c| c.is_ascii_alphanumeric() || c == '-');
        if self.region.as_deref().is_some_and(|region| !is_region(region)) {
            return Err(invalid("REGION is made of letters, digits and '-'"));
        }
        if self.endpoint.as_deref().is_some_and(|endpoint| !is_endpoint(endpoint)) {
            return Err(invalid("ENDPOINT is a host, with a port where need be, such as localhost:9000"));
        }
        // What the store knows and this does not.
        self.settings().map(|_| ())
    }

    /// How to reach buckets with it. Without a SECRET requests are not signed: for buckets that everybody may read.
    ///
    /// # Errors
    /// What the store cannot be told.
    pub(crate) fn settings(&self) -> Result<StoreSettings> {
        let mut settings: Vec<(String, String)> = Vec::new();
        let mut add = |key: &str, value: Option<&str>| {
            settings.extend(value.map(|value| (key.to_owned(), value.to_owned())));
        };
        add("key_id", self.key_id.as_ref().map(Secret::reveal));
        add("secret", self.secret.as_ref().map(Secret::reveal));
        add("anonymous", self.secret.is_none().then_some("true"));
        add("session_token", self.session_token.as_ref().map(Secret::reveal));
        add("region", self.region.as_deref());
        add("endpoint", self.endpoint.as_deref());
        add("url_style", self.url_style.as_deref());
        add("use_ssl", self.use_ssl.map(|encrypts| if encrypts { "true" } else { "false" }));
        Ok(StoreSettings::explicit(settings).map_err(|e| e.with_sqlstate("22023"))?)
    }

    /// How much of `place` its scope says; None: it is not for that.
    pub(crate) fn covers(&self, place: &ObjectPlace) -> Option<usize> {
        match &self.scope {
            None => (self.scheme == place.bucket().scheme()).then_some(0),
            Some(scope) => place.is_below(scope).then(|| scope.to_string().len()),
        }
    }

    /// Whether it is for the same URLs as `other`.
    pub(crate) fn covers_as(&self, other: &Self) -> bool {
        self.scheme == other.scheme && self.scope == other.scope
    }

    /// Hosts that it names in place of the provider's.
    pub(crate) fn endpoints(&self) -> Vec<String> {
        let mut endpoints: Vec<String> = self.endpoint.iter().cloned().collect();
        // The file of a service account has a place for one, too.
        if let (Scheme::Gcs, Some(secret)) = (self.scheme, &self.secret)
            && let Ok(account) = serde_json::from_str::<serde_json::Value>(secret.reveal())
            && let Some(base) = account.get("gcs_base_url")
        {
            endpoints.push(base.as_str().unwrap_or_default().to_owned());
        }
        endpoints
    }

    /// Its type, as written.
    pub(crate) fn type_name(&self) -> &'static str {
        match self.scheme {
            Scheme::S3 => "s3",
            Scheme::Gcs => "gcs",
            Scheme::Azure => "azure",
        }
    }

    /// URLs it is for; None: all of its type.
    pub(crate) fn scope(&self) -> Option<&StoreUrl> {
        self.scope.as_ref()
    }

    /// Where the buckets are.
    pub(crate) fn region(&self) -> Option<&str> {
        self.region.as_deref()
    }

    /// Another host than the provider's.
    pub(crate) fn endpoint(&self) -> Option<&str> {
        self.endpoint.as_deref()
    }

    /// Whether it has a key.
    pub(crate) fn has_key(&self) -> bool {
        self.secret.is_some()
    }

    /// The end of the key's id, by which its owner knows it.
    pub(crate) fn shown_key_id(&self) -> Option<String> {
        let key_id = self.key_id.as_ref()?.reveal();
        let characters = key_id.chars().count();
        let shown = if characters > 2 * KEY_ID_SHOWN { KEY_ID_SHOWN } else { 0 };
        Some(format!("***{}", key_id.chars().skip(characters - shown).collect::<String>()))
    }
}

fn check_text(option: SecretOption, value: &str) -> Result<()> {
    let word = option.word();
    if value.is_empty() {
        return Err(invalid(&format!("{word} is empty")));
    }
    if value.len() > VALUE_BYTES_MAX {
        return Err(invalid(&format!("{word} is longer than {VALUE_BYTES_MAX} bytes")));
    }
    // The file of a service account, which is a secret for gcs, has lines.
    if option != SecretOption::Secret && value.chars().any(char::is_control) {
        return Err(invalid(&format!("{word} holds a control character")));
    }
    Ok(())
}

fn scope_of(text: &str, scheme: Scheme) -> Result<StoreUrl> {
    let scope = StoreUrl::parse(text)
        .map_err(|_| invalid("SCOPE is a bucket with or without a prefix, such as 's3://bucket/prefix'"))?;
    if scope.scheme() == scheme {
        return Ok(scope);
    }
    Err(invalid("SCOPE and TYPE name different services"))
}

fn url_style(text: &str) -> Result<String> {
    match text.to_ascii_lowercase().as_str() {
        style @ ("path" | "vhost") => Ok(style.to_owned()),
        _ => Err(invalid("URL_STYLE is 'path' or 'vhost'")),
    }
}

fn boolean(text: &str) -> Result<bool> {
    match text.to_ascii_lowercase().as_str() {
        "true" | "1" => Ok(true),
        "false" | "0" => Ok(false),
        _ => Err(invalid("USE_SSL is true or false")),
    }
}

/// A host's name or address, with a port, a protocol and a path where need be, and nothing that could be a password.
fn is_endpoint(text: &str) -> bool {
    let lower = text.to_ascii_lowercase();
    let rest = lower.strip_prefix("https://").or_else(|| lower.strip_prefix("http://")).unwrap_or(&lower);
    let is_part = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_' | ':' | '/' | '[' | ']');
    !rest.is_empty() && !rest.starts_with('/') && !rest.contains("//") && rest.chars().all(is_part)
}

fn invalid(message: &str) -> Error {
    Error::new(ErrorKind::InvalidInput, message).map(|e| e.with_sqlstate("22023"))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn secret(options: &[(&str, &str)]) -> Result<StoreSecret> {
        let options: Vec<_> = options
            .iter()
            .map(|(word, value)| (SecretOption::of_word(word).unwrap(), Secret::new((*value).to_owned())))
            .collect();
        StoreSecret::new(&options)
    }

    const KEY: [(&str, &str); 3] = [("type", "S3"), ("key_id", "AKIDEXAMPLE"), ("secret", "hunter2")];

    fn with<'a>(more: &[(&'a str, &'a str)]) -> Result<StoreSecret> {
        secret(&[&KEY[..], more].concat())
    }

    #[test]
    fn nothing_secret_is_shown() {
        let secret = with(&[("session_token", "hunter2"), ("endpoint", "localhost:9000")]).unwrap();
        let shown = format!("{secret:?}");
        assert!(!shown.contains("hunter2") && !shown.contains("AKID") && shown.contains("***"), "{shown}");
        assert_eq!(secret.shown_key_id().unwrap(), "***MPLE");
        let short = StoreSecret { key_id: Some(Secret::new("12345678".to_owned())), ..secret };
        assert_eq!(short.shown_key_id().unwrap(), "***");
    }

    #[test]
    fn values_are_checked_and_not_quoted() {
        for more in [
            ("region", "eu@hunter2/"),
            ("region", "eu.hunter2"),
            ("endpoint", "http://key:hunter2@localhost"),
            ("endpoint", "http://localhost/?hunter2"),
            ("endpoint", "ftp://hunter2"),
            ("url_style", "hunter2"),
            ("use_ssl", "hunter2"),
            ("scope", "gs://hunter2"),
            ("scope", "hunter2"),
            ("session_token", "hunter2\r\nx: y"),
            ("session_token", ""),
        ] {
            let error = with(&[more]).unwrap_err();
            assert_eq!(error.sqlstate(), "22023", "{more:?}");
            assert!(!format!("{error:?}").contains("hunter2"), "{more:?}: {error:?}");
        }
        for options in [
            &[("key_id", "a"), ("secret", "b")][..],
            &[("type", "hunter2"), ("key_id", "a"), ("secret", "b")],
            &[("type", "s3"), ("key_id", "a")],
            &[("type", "s3"), ("secret", "b")],
            &[("type", "s3"), ("session_token", "hunter2")],
            &[("type", "s3"), ("key_id", "a"), ("secret", "b"), ("use_ssl", "false")],
            &[("type", "gcs"), ("key_id", "hunter2"), ("secret", "{}")],
            &[("type", "azure"), ("secret", "Yg==")],
            &[("type", "azure"), ("key_id", "a.hunter2/"), ("secret", "Yg==")],
        ] {
            let error = secret(options).unwrap_err();
            assert_eq!(error.sqlstate(), "22023", "{options:?}");
            assert!(!format!("{error:?}").contains("hunter2"), "{error:?}");
        }
    }

    #[test]
    fn buckets_for_everybody_need_no_key() {
        for options in [
            &[("type", "s3"), ("region", "eu-central-1")][..],
            &[("type", "gcs")],
            &[("type", "azure"), ("key_id", "account")],
        ] {
            assert!(!secret(options).unwrap().has_key(), "{options:?}");
        }
        assert!(with(&[]).unwrap().has_key());
    }

    #[test]
    fn scopes_say_what_they_are_for() {
        let covers = |scope: &[(&str, &str)], text: &str| {
            with(scope).unwrap().covers(&ObjectPlace::parse(text).unwrap())
        };
        assert_eq!(covers(&[], "s3://data/a.csv"), Some(0));
        assert_eq!(covers(&[], "gs://data/a.csv"), None);
        assert_eq!(covers(&[("scope", "s3://other")], "s3://data/a.csv"), None);
        let (wide, narrow) = ([("scope", "s3://data")], [("scope", "s3://data/a/")]);
        assert!(covers(&narrow, "s3://data/a/b.csv") > covers(&wide, "s3://data/a/b.csv"));
        assert!(
            covers(&wide, "s3://data/*/b.csv").is_some() && covers(&narrow, "s3://data/*/b.csv").is_none()
        );
        assert!(with(&wide).unwrap().covers_as(&with(&[("scope", "s3a://data/")]).unwrap()));
        assert!(!with(&wide).unwrap().covers_as(&with(&narrow).unwrap()));
    }

    #[test]
    fn every_endpoint_is_told() {
        assert!(with(&[]).unwrap().endpoints().is_empty());
        assert_eq!(with(&[("endpoint", "localhost:9000")]).unwrap().endpoints(), ["localhost:9000"]);
        let service = Secret::new("{\"gcs_base_url\": \"http://localhost:4443\"}".to_owned());
        let secret = StoreSecret {
            scheme: Scheme::Gcs,
            scope: None,
            key_id: None,
            secret: Some(service),
            session_token: None,
            region: None,
            endpoint: None,
            url_style: None,
            use_ssl: None,
        };
        assert_eq!(secret.endpoints(), ["http://localhost:4443"]);
    }
}
