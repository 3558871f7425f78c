//! What a text such as `s3://bucket/dir/*.parquet` names.
//!
//! Owns: reading such a text, and its key, pattern or directory in the bucket. Does not own: who may reach it (`access`), what is
//! there (`list`). A text never holds credentials: one that does is refused, and shown without them.

use std::fmt;

use cairn_storage::ErrorKind;
use cairn_storage::object::StoreUrl;
use datafusion::object_store::path::Path;

use crate::error::{Error, Result};

/// What stands before `://` where objects are named.
const SCHEMES: [&str; 6] = ["s3", "s3a", "gs", "gcs", "az", "azure"];
/// What a URL that gives its reader a right holds.
const SIGNED: [&str; 4] = ["x-amz-signature", "x-goog-signature", "?sig=", "&sig="];

/// See the module.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct ObjectPlace {
    bucket: StoreUrl,
    /// Without `/` at its ends; empty: the whole bucket.
    key: String,
    /// Nothing but a directory can be meant.
    is_directory: bool,
}

/// Whether `text` names objects, and no file of this machine.
pub(crate) fn names_objects(text: &str) -> bool {
    let scheme = text.split_once("://").map(|(scheme, _)| scheme);
    scheme.is_some_and(|scheme| SCHEMES.iter().any(|known| scheme.eq_ignore_ascii_case(known)))
}

/// How an object of `bucket` is named.
pub(crate) fn url_of(bucket: &StoreUrl, key: &str) -> String {
    if key.is_empty() { bucket.to_string() } else { format!("{bucket}/{key}") }
}

impl ObjectPlace {
    /// Reads `scheme://bucket/key`; `*`, `?` and `[…]` in the key make a pattern of it.
    ///
    /// # Errors
    /// 22023 for what names no bucket, holds a signature, or has a part that no key may have (empty, `.`, `..`).
    pub(crate) fn parse(text: &str) -> Result<Self> {
        let (scheme, rest) = text.split_once("://").unwrap_or(("", text));
        let (bucket, key) = rest.split_once('/').unwrap_or((rest, ""));
        let bucket = StoreUrl::parse(&format!("{scheme}://{bucket}")).map_err(|error| {
            // Only the whole text tells what of it is not for showing.
            let error = StoreUrl::parse(text).err().unwrap_or(error);
            error.with_sqlstate("22023").with_hint("write s3://bucket/key; CREATE SECRET gives credentials")
        })?;
        let lower = key.to_ascii_lowercase();
        if SIGNED.iter().any(|mark| lower.contains(mark)) {
            return Err(invalid(format!("the name of an object of {bucket} stands there with a signature"))
                .map(|e| e.with_hint("name the object alone; CREATE SECRET gives credentials")));
        }
        let wrong =
            || invalid(format!("'{bucket}/{key}' names no object: a part of it is empty, '.' or '..'"));
        // It would be taken for the same key without.
        if key.starts_with('/') {
            return Err(wrong());
        }
        let path = Path::parse(key).map_err(|_| wrong())?;
        let is_directory = key.is_empty() || key.ends_with('/');
        Ok(Self { bucket, key: path.as_ref().to_owned(), is_directory })
    }

    /// Its bucket, without a prefix.
    pub(crate) fn bucket(&self) -> &StoreUrl {
        &self.bucket
    }

    /// Its key or pattern.
    pub(crate) fn key(&self) -> &str {
        &self.key
    }

    /// Whether it ends in `/`, or is a whole bucket.
    pub(crate) fn is_directory(&self) -> bool {
        self.is_directory
    }

    /// Whether it names any number of objects.
    pub(crate) fn is_pattern(&self) -> bool {
        is_pattern(&self.key)
    }

    /// What every key that it names begins with: the key itself, or the directories before the first part that is a pattern.
    pub(crate) fn base(&self) -> &str {
        if !self.is_pattern() {
            return &self.key;
        }
        let mut end = 0;
        for part in self.key.split('/') {
            if is_pattern(part) {
                break;
            }
            end += part.len() + 1;
        }
        self.key.get(..end.saturating_sub(1)).unwrap_or_default()
    }

    /// Whether all that it names is `prefix`, or lies below it.
    pub(crate) fn is_below(&self, prefix: &StoreUrl) -> bool {
        if (prefix.scheme(), prefix.bucket()) != (self.bucket.scheme(), self.bucket.bucket()) {
            return false;
        }
        match self.base().strip_prefix(prefix.prefix()) {
            Some(rest) => prefix.prefix().is_empty() || rest.is_empty() || rest.starts_with('/'),
            None => false,
        }
    }

    /// It as the key of an object to write.
    ///
    /// # Errors
    /// 22023 for a bucket, a directory or a pattern.
    pub(crate) fn target(&self, into_directory: bool) -> Result<Path> {
        if self.key.is_empty() || (self.is_directory && !into_directory) {
            return Err(invalid(format!("'{self}' does not name an object")));
        }
        if self.is_pattern() {
            return Err(invalid(format!(
                "'{self}' is a pattern: an object's name may not hold *, ? and [ here"
            )));
        }
        Path::parse(&self.key).map_err(|_| invalid(format!("'{self}' does not name an object")))
    }
}

impl fmt::Display for ObjectPlace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&url_of(&self.bucket, &self.key))?;
        if self.is_directory { f.write_str("/") } else { Ok(()) }
    }
}

fn is_pattern(text: &str) -> bool {
    text.contains(['*', '?', '['])
}

fn invalid(message: String) -> Error {
    Error::new(ErrorKind::InvalidInput, message).map(|e| e.with_sqlstate("22023"))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn buckets_keys_and_patterns() {
        for (text, shown, base, is_pattern) in [
            ("s3://data/a/b.csv", "s3://data/a/b.csv", "a/b.csv", false),
            ("S3A://data/a/", "s3://data/a/", "a", false),
            ("gcs://data", "gs://data/", "", false),
            ("az://data/*.csv", "az://data/*.csv", "", true),
            ("s3://data/a/b*/c.csv", "s3://data/a/b*/c.csv", "a", true),
            ("s3://data/a/b/part-?[0-9].csv", "s3://data/a/b/part-?[0-9].csv", "a/b", true),
            (
                "s3://data/user@example.com/x.csv",
                "s3://data/user@example.com/x.csv",
                "user@example.com/x.csv",
                false,
            ),
        ] {
            assert!(names_objects(text), "{text}");
            let place = ObjectPlace::parse(text).unwrap();
            assert_eq!(
                (place.to_string().as_str(), place.base(), place.is_pattern()),
                (shown, base, is_pattern)
            );
        }
        for text in ["a.csv", "/s3/a.csv", "file:///a.csv", "http://a/b", "cairn-1://data/a.csv"] {
            assert!(!names_objects(text), "{text}");
        }
    }

    #[test]
    fn what_is_no_place_is_refused_without_its_secrets() {
        for text in [
            "s3://",
            "s3:///a.csv",
            "s3://data/../other/a.csv",
            "s3://data/a//b.csv",
            "s3://data//b.csv",
            "s3://data/./a.csv",
            "s3://key:hunter2@data/a.csv",
            "s3://key:hun/ter2@data/a.csv",
            "s3://data/a.csv?X-Amz-Signature=hunter2",
            "s3://data/a.csv?X-Amz-Date=1&x-amz-signature=hunter2",
            "az://data/a.csv?sv=1&sig=hunter2",
        ] {
            let error = ObjectPlace::parse(text).unwrap_err();
            assert_eq!(error.sqlstate(), "22023", "{text}: {error}");
            assert!(!format!("{error:?}").contains("ter2"), "{text}: {error:?}");
        }
    }

    #[test]
    fn a_prefix_ends_with_a_part() {
        let below = |text: &str, prefix: &str| {
            ObjectPlace::parse(text).unwrap().is_below(&StoreUrl::parse(prefix).unwrap())
        };
        assert!(below("s3://data/a/b.csv", "s3://data"));
        assert!(below("s3://data/a/b.csv", "s3://data/a/"));
        assert!(below("s3://data/a", "s3a://data/a"));
        assert!(below("s3://data/a/*/c.csv", "s3://data/a"));
        for (text, prefix) in [
            ("s3://data/ab/b.csv", "s3://data/a"),
            ("s3://data/b.csv", "s3://data/a"),
            ("s3://other/a/b.csv", "s3://data/a"),
            ("gs://data/a/b.csv", "s3://data/a"),
            ("s3://data/*/b.csv", "s3://data/a"),
            ("s3://data/a*/b.csv", "s3://data/a"),
            ("s3://data", "s3://data/a"),
        ] {
            assert!(!below(text, prefix), "{text} {prefix}");
        }
    }

    #[test]
    fn targets_are_single_keys() {
        let target = |text: &str, into| ObjectPlace::parse(text).unwrap().target(into);
        assert_eq!(target("s3://data/a/b.csv", false).unwrap().as_ref(), "a/b.csv");
        assert_eq!(target("s3://data/a/", true).unwrap().as_ref(), "a");
        for (text, into) in [("s3://data", true), ("s3://data/a/", false), ("s3://data/*.csv", false)] {
            assert_eq!(target(text, into).unwrap_err().sqlstate(), "22023", "{text}");
        }
    }
}
