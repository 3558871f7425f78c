//! Where objects are: `s3://bucket/prefix`, `gs://bucket/prefix`, `az://container/prefix`.
//!
//! Owns: reading and showing such a text. Credentials are never part of one. Does not own: how the store is reached (`remote`).

use std::fmt;

use crate::error::{Error, ErrorKind, Result};

/// Whose protocol a store speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Scheme {
    /// Amazon S3 and what speaks its protocol.
    S3,
    /// Google Cloud Storage.
    Gcs,
    /// Azure Blob Storage.
    Azure,
}

impl Scheme {
    /// As it stands before `://`.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::S3 => "s3",
            Self::Gcs => "gs",
            Self::Azure => "az",
        }
    }
}

/// A bucket or container, and a prefix in it.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct StoreUrl {
    scheme: Scheme,
    bucket: String,
    prefix: String,
}

impl StoreUrl {
    /// Reads `scheme://bucket/prefix`; `s3a`, `gcs` and `azure` stand for `s3`, `gs` and `az`. The prefix has no `/` at its ends.
    ///
    /// # Errors
    /// `Unsupported` for other schemes; `InvalidInput` without a bucket, with credentials, a query or a fragment.
    pub fn parse(text: &str) -> Result<Self> {
        let wrong = |why: &str| {
            Err(Error::new(
                ErrorKind::InvalidInput,
                format!("'{}' names no bucket: {why}", without_secrets(text)),
            )
            .with_hint("write s3://bucket/prefix; credentials come from the environment"))
        };
        let Some((scheme, rest)) = text.split_once("://") else { return wrong("it has no ://") };
        let scheme = match scheme.to_ascii_lowercase().as_str() {
            "s3" | "s3a" => Scheme::S3,
            "gs" | "gcs" => Scheme::Gcs,
            "az" | "azure" => Scheme::Azure,
            other => {
                return Err(Error::new(ErrorKind::Unsupported, format!("{other}:// is not supported"))
                    .with_hint("s3://, gs://, az://, file:// and memory:// are"));
            }
        };
        let (bucket, prefix) = rest.split_once('/').unwrap_or((rest, ""));
        if bucket.contains('@') {
            return wrong("credentials do not belong into it");
        }
        if rest.contains(['?', '#']) {
            return wrong("? and # do not belong into it");
        }
        let is_name = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
        if bucket.trim_matches('.').is_empty() || !bucket.chars().all(is_name) {
            return wrong("a bucket's name is made of letters, digits, '-', '_' and '.'");
        }
        let prefix = prefix.trim_matches('/');
        if prefix.split('/').any(|part| matches!(part, "." | "..") || (part.is_empty() && !prefix.is_empty()))
        {
            return wrong("its prefix has an empty part, '.' or '..'");
        }
        Ok(Self { scheme, bucket: bucket.to_owned(), prefix: prefix.to_owned() })
    }

    /// Whose protocol.
    #[must_use]
    pub fn scheme(&self) -> Scheme {
        self.scheme
    }

    /// The bucket or container.
    #[must_use]
    pub fn bucket(&self) -> &str {
        &self.bucket
    }

    /// The prefix without `/` at its ends; empty: the whole bucket.
    #[must_use]
    pub fn prefix(&self) -> &str {
        &self.prefix
    }
}

impl fmt::Display for StoreUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}://{}", self.scheme.as_str(), self.bucket)?;
        if self.prefix.is_empty() { Ok(()) } else { write!(f, "/{}", self.prefix) }
    }
}

/// The text without what may be a password or a signature.
fn without_secrets(text: &str) -> String {
    let text = text.split(['?', '#']).next().unwrap_or_default();
    match (text.split_once("://"), text.rsplit_once('@')) {
        (Some((scheme, _)), Some((_, rest))) => format!("{scheme}://…@{rest}"),
        _ => text.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn urls_come_back() {
        for (text, shown) in [
            ("s3://data", "s3://data"),
            ("s3a://data/", "s3://data"),
            ("S3://data/a/b/", "s3://data/a/b"),
            ("gcs://data/x", "gs://data/x"),
            ("azure://container/x y", "az://container/x y"),
        ] {
            assert_eq!(StoreUrl::parse(text).unwrap().to_string(), shown);
        }
    }

    #[test]
    fn what_is_no_bucket_is_refused_without_its_secrets() {
        for (text, kind) in [
            ("s3://", ErrorKind::InvalidInput),
            ("s3:///x", ErrorKind::InvalidInput),
            ("s3://../x", ErrorKind::InvalidInput),
            ("s3://a b", ErrorKind::InvalidInput),
            ("s3://a/../b", ErrorKind::InvalidInput),
            ("s3://a/b//c", ErrorKind::InvalidInput),
            ("s3://key:secret@a/b", ErrorKind::InvalidInput),
            ("s3://a/b?signature=secret", ErrorKind::InvalidInput),
            ("http://a/b", ErrorKind::Unsupported),
        ] {
            let error = StoreUrl::parse(text).unwrap_err();
            assert_eq!(error.kind(), kind, "{text}");
            assert!(!error.message().contains("secret"), "{}", error.message());
        }
    }
}
