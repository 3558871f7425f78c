//! The WITH clause of COPY.
//!
//! Owns: option names, values and their errors. Does not own: what a format does with them.

use std::path::Path;

use cairn_storage::ErrorKind;

use super::location::Format;
use super::text_file::Compression;
use crate::error::{Error, Result};

/// What a malformed row does to the statement.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum OnError {
    /// Fail, with nothing changed.
    #[default]
    Stop,
    /// Leave the row out, count it and report the first few.
    Skip,
}

/// Options of one COPY; what was not given is `None`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct CopyOptions {
    /// `format`; else the extension of the file decides.
    pub(crate) format: Option<Format>,
    /// `header` of CSV: true by default.
    pub(crate) header: Option<bool>,
    /// `delimiter` of CSV: a comma by default, a tab for `.tsv`.
    pub(crate) delimiter: Option<u8>,
    /// `quote` of CSV: a double quote by default.
    pub(crate) quote: Option<u8>,
    /// `escape` of CSV: the quote doubled by default.
    pub(crate) escape: Option<u8>,
    /// `null`: the text that stands for NULL in CSV; the empty unquoted field by default.
    pub(crate) null: Option<String>,
    /// `on_error`.
    pub(crate) on_error: OnError,
    /// `compression` of what is written, and of text that is read; else the extension of the file decides.
    pub(crate) compression: Option<String>,
    /// `partition_by`: columns that become directories.
    pub(crate) partition_by: Vec<String>,
}

impl CopyOptions {
    /// Reads `name value` pairs; names are lower-cased, a bare `header` has the value "true",
    /// `partition_by (a, b)` the value "a, b".
    ///
    /// # Errors
    /// An unknown name or a value that does not fit it.
    pub(crate) fn parse(pairs: &[(String, String)]) -> Result<Self> {
        let mut options = Self::default();
        for (name, value) in pairs {
            let value = value.as_str();
            match name.to_lowercase().as_str() {
                "format" => options.format = Some(Format::parse(value)?),
                "header" => options.header = Some(boolean("header", value)?),
                "delimiter" | "delim" | "sep" => options.delimiter = Some(one_byte("delimiter", value)?),
                "quote" => options.quote = Some(one_byte("quote", value)?),
                "escape" => options.escape = Some(one_byte("escape", value)?),
                "null" | "nullstr" => options.null = Some(value.to_owned()),
                "on_error" => options.on_error = on_error(value)?,
                "compression" | "codec" => options.compression = Some(value.to_lowercase()),
                "partition_by" => options.partition_by = names(value),
                other => {
                    return Err(invalid(format!("unknown COPY option \"{other}\"")).map(|e| {
                        e.with_hint(
                            "options are format, header, delimiter, quote, escape, null, on_error, compression, \
                             partition_by",
                        )
                    }));
                }
            }
        }
        Ok(options)
    }

    /// How a file of text is packed.
    ///
    /// # Errors
    /// A name that is no compression of text.
    pub(super) fn text_compression(&self, path: &Path) -> Result<Compression> {
        Compression::choose(path, self.compression.as_deref())
    }

    /// Whether the first line of a CSV file holds names.
    pub(crate) fn has_header(&self) -> bool {
        self.header.unwrap_or(true)
    }
}

fn invalid(message: String) -> Error {
    Error::new(ErrorKind::InvalidInput, message).map(|e| e.with_sqlstate("22023"))
}

fn boolean(name: &str, value: &str) -> Result<bool> {
    match value.to_lowercase().as_str() {
        "true" | "on" | "1" | "yes" | "" => Ok(true),
        "false" | "off" | "0" | "no" => Ok(false),
        other => Err(invalid(format!("COPY option {name} takes true or false, not \"{other}\""))),
    }
}

fn one_byte(name: &str, value: &str) -> Result<u8> {
    match (value, value.as_bytes()) {
        ("\\t" | "tab", _) => Ok(b'\t'),
        (_, [byte]) if byte.is_ascii() && *byte != b'\n' && *byte != b'\r' => Ok(*byte),
        _ => Err(invalid(format!("COPY option {name} takes one ASCII character, not \"{value}\""))),
    }
}

fn on_error(value: &str) -> Result<OnError> {
    match value.to_lowercase().as_str() {
        "stop" => Ok(OnError::Stop),
        "skip" | "ignore" => Ok(OnError::Skip),
        other => Err(invalid(format!("COPY option on_error takes 'stop' or 'skip', not \"{other}\""))),
    }
}

fn names(value: &str) -> Vec<String> {
    value
        .trim_matches(|c| c == '(' || c == ')')
        .split(',')
        .map(|name| name.trim().trim_matches('"').to_owned())
        .filter(|name| !name.is_empty())
        .collect()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn parse(pairs: &[(&str, &str)]) -> Result<CopyOptions> {
        CopyOptions::parse(&pairs.iter().map(|(n, v)| ((*n).to_owned(), (*v).to_owned())).collect::<Vec<_>>())
    }

    #[test]
    fn reads_every_option() {
        let options = parse(&[
            ("FORMAT", "csv"),
            ("header", "false"),
            ("delimiter", "\\t"),
            ("null", "NA"),
            ("on_error", "skip"),
            ("partition_by", "(a, \"B c\")"),
        ])
        .unwrap();
        assert_eq!(options.format, Some(Format::Csv));
        assert!(!options.has_header());
        assert_eq!(options.delimiter, Some(b'\t'));
        assert_eq!(options.null.as_deref(), Some("NA"));
        assert_eq!(options.on_error, OnError::Skip);
        assert_eq!(options.partition_by, ["a", "B c"]);
    }

    #[test]
    fn refuses_what_it_does_not_know() {
        assert!(parse(&[("colour", "red")]).unwrap_err().message().contains("colour"));
        assert!(parse(&[("delimiter", "ab")]).is_err());
        assert!(parse(&[("header", "perhaps")]).is_err());
        assert!(parse(&[("format", "xml")]).is_err());
    }
}
