//! Which local files a path, glob, directory or `file://` URL names, and their format.
//!
//! Owns: path forms and the errors for what is missing or not a local path. Does not own: reading.

use std::fmt;
use std::path::{Path, PathBuf};

use cairn_storage::ErrorKind;

use super::Compression;
use crate::error::{Error, Result};

/// A file format that COPY and queries in place know.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Format {
    /// Comma-separated text.
    Csv,
    /// Apache Parquet.
    Parquet,
    /// JSON, one object a line.
    Ndjson,
    /// Arrow IPC file.
    Arrow,
}

impl fmt::Display for Format {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Csv => "csv",
            Self::Parquet => "parquet",
            Self::Ndjson => "ndjson",
            Self::Arrow => "arrow",
        })
    }
}

impl Format {
    /// A format by its name.
    ///
    /// # Errors
    /// An unknown name.
    pub(crate) fn parse(name: &str) -> Result<Self> {
        match name.to_lowercase().as_str() {
            "csv" | "tsv" => Ok(Self::Csv),
            "parquet" => Ok(Self::Parquet),
            "ndjson" | "json" | "jsonl" => Ok(Self::Ndjson),
            "arrow" | "feather" | "ipc" => Ok(Self::Arrow),
            other => Err(Error::new(ErrorKind::InvalidInput, format!("unknown file format \"{other}\""))
                .map(|e| e.with_sqlstate("22023").with_hint("formats are csv, parquet, ndjson, arrow"))),
        }
    }

    /// The format a file's extension tells, below that of a compression; None for others.
    pub(crate) fn of(path: &Path) -> Option<Self> {
        match data_extension(path)?.as_str() {
            "csv" | "tsv" | "tbl" => Some(Self::Csv),
            "parquet" | "pq" => Some(Self::Parquet),
            "ndjson" | "jsonl" | "json" => Some(Self::Ndjson),
            "arrow" | "feather" | "ipc" => Some(Self::Arrow),
            _ => None,
        }
    }
}

/// Whether the name says that tabs stand between the fields of a CSV file.
pub(crate) fn is_tabbed(path: &Path) -> bool {
    data_extension(path).as_deref() == Some("tsv")
}

/// The extension in lower case, that of a compression left out.
fn data_extension(path: &Path) -> Option<String> {
    let packed = Compression::of(path) != Compression::None;
    let name = if packed { Path::new(path.file_stem()?) } else { path };
    Some(name.extension()?.to_str()?.to_lowercase())
}

/// The local path that `text` names.
///
/// # Errors
/// A URL of another scheme than `file`.
pub(crate) fn local_path(text: &str) -> Result<PathBuf> {
    if let Some(rest) = text.strip_prefix("file://") {
        return Ok(PathBuf::from(rest.strip_prefix("localhost").unwrap_or(rest)));
    }
    if let Some((scheme, _)) = text.split_once("://") {
        return Err(Error::not_supported_yet(format!("reading and writing {scheme}:// locations"))
            .map(|e| e.with_hint("use a local path, or a URL with s3://, gs://, az:// or file://")));
    }
    if text.is_empty() {
        return Err(Error::new(ErrorKind::InvalidInput, "the path is empty"));
    }
    Ok(PathBuf::from(text))
}

/// Every file that `text` names, sorted by path: one file, the matches of a glob, or a directory's files (with
/// sub-directories, hidden ones and those that begin with `_` left out).
///
/// # Errors
/// Nothing there; a file of a compression that is not known; a location that is not local.
pub(crate) fn list_files(text: &str) -> Result<Vec<PathBuf>> {
    let path = local_path(text)?;
    let mut files = Vec::new();
    if path.is_dir() {
        walk(&path, &mut files)?;
        // A directory of several formats: those without a known extension (markers, logs) are not data.
        files.retain(|f| Format::of(f).is_some() || foreign_compression(f).is_some());
        if files.is_empty() {
            return Err(missing(format!("directory '{text}' holds no data files")));
        }
    } else if path.exists() {
        files.push(path);
    } else if let Some(text) = path.to_str().filter(|t| t.contains(['*', '?', '['])) {
        expand(text, &mut files)?;
        if files.is_empty() {
            return Err(missing(format!("no file matches '{text}'")));
        }
    } else {
        return Err(missing(format!("file '{text}' does not exist")));
    }
    if let Some((file, kind)) = files.iter().find_map(|f| Some((f, foreign_compression(f)?))) {
        return Err(Error::not_supported_yet(format!("reading {kind} compressed file '{}'", file.display()))
            .map(|e| e.with_hint("decompress it first")));
    }
    files.sort();
    Ok(files)
}

fn missing(message: String) -> Error {
    Error::new(ErrorKind::NotFound, message).map(|e| e.with_sqlstate("58P01"))
}

/// The name of a compression that is known and not read.
pub(crate) fn foreign_compression(path: &Path) -> Option<&'static str> {
    match path.extension()?.to_str()?.to_lowercase().as_str() {
        "bz2" => Some("bzip2"),
        "xz" => Some("xz"),
        _ => None,
    }
}

fn walk(directory: &Path, files: &mut Vec<PathBuf>) -> Result<()> {
    for entry in read_directory(directory)? {
        let hidden = entry.file_name().and_then(|n| n.to_str()).is_none_or(|n| n.starts_with(['.', '_']));
        if hidden {
            continue;
        }
        if entry.is_dir() {
            walk(&entry, files)?;
        } else {
            files.push(entry);
        }
    }
    Ok(())
}

fn read_directory(directory: &Path) -> Result<Vec<PathBuf>> {
    let io = |e| cairn_storage::Error::io(format!("reading directory '{}'", directory.display()), e);
    let mut entries = Vec::new();
    for entry in std::fs::read_dir(directory).map_err(io)? {
        entries.push(entry.map_err(io)?.path());
    }
    entries.sort();
    Ok(entries)
}

/// Expands a glob one component at a time; `**` stands for any number of directories.
fn expand(pattern: &str, files: &mut Vec<PathBuf>) -> Result<()> {
    let root = if pattern.starts_with('/') { PathBuf::from("/") } else { PathBuf::from(".") };
    let parts: Vec<&str> = pattern.split('/').filter(|p| !p.is_empty() && *p != ".").collect();
    descend(&root, &parts, files)
}

fn descend(base: &Path, parts: &[&str], files: &mut Vec<PathBuf>) -> Result<()> {
    let Some((part, rest)) = parts.split_first() else {
        if base.is_file() {
            files.push(base.strip_prefix(".").unwrap_or(base).to_path_buf());
        }
        return Ok(());
    };
    if !part.contains(['*', '?', '[']) {
        let next = base.join(part);
        return if next.exists() { descend(&next, rest, files) } else { Ok(()) };
    }
    if !base.is_dir() {
        return Ok(());
    }
    if *part == "**" {
        descend(base, rest, files)?;
    }
    for entry in read_directory(base)? {
        let Some(name) = entry.file_name().and_then(|n| n.to_str()) else { continue };
        if name.starts_with('.') && !part.starts_with('.') {
            continue;
        }
        if *part == "**" {
            if entry.is_dir() {
                descend(&entry, parts, files)?;
            }
        } else if matches(part.as_bytes(), name.as_bytes()) {
            descend(&entry, rest, files)?;
        }
    }
    Ok(())
}

/// Whether the parts of a path match those of a pattern; `**` stands for any number of directories.
pub(crate) fn matches_path(pattern: &[&str], path: &[&str]) -> bool {
    let (Some((part, rest)), Some((name, below))) = (pattern.split_first(), path.split_first()) else {
        return pattern.is_empty() && path.is_empty();
    };
    let is_hidden = name.starts_with('.') && !part.starts_with('.');
    if *part == "**" {
        return matches_path(rest, path) || (!is_hidden && !below.is_empty() && matches_path(pattern, below));
    }
    !is_hidden && matches(part.as_bytes(), name.as_bytes()) && matches_path(rest, below)
}

/// Whether `name` matches `pattern` of `*`, `?` and `[a-z]` / `[!a-z]`.
fn matches(pattern: &[u8], name: &[u8]) -> bool {
    match (pattern.split_first(), name.split_first()) {
        (None, None) => true,
        (Some((b'*', rest)), _) => (0..=name.len()).any(|skip| matches(rest, &name[skip..])),
        (Some((b'?', rest)), Some((_, name))) => matches(rest, name),
        (Some((b'[', rest)), Some((byte, name))) => {
            let Some(end) = rest.iter().skip(1).position(|b| *b == b']').map(|p| p + 1) else { return false };
            let (negated, set) = match &rest[..end] {
                [b'!' | b'^', set @ ..] => (true, set),
                set => (false, set),
            };
            in_set(set, *byte) != negated && matches(&rest[end + 1..], name)
        }
        (Some((expected, rest)), Some((byte, name))) => expected == byte && matches(rest, name),
        _ => false,
    }
}

fn in_set(mut set: &[u8], byte: u8) -> bool {
    loop {
        match set {
            [low, b'-', high, rest @ ..] => {
                if (*low..=*high).contains(&byte) {
                    return true;
                }
                set = rest;
            }
            [one, rest @ ..] => {
                if *one == byte {
                    return true;
                }
                set = rest;
            }
            [] => return false,
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn glob_patterns() {
        assert!(matches(b"*.csv", b"a.csv"));
        assert!(matches(b"part-?[0-9].csv", b"part-x7.csv"));
        assert!(!matches(b"part-[!a].csv", b"part-a.csv"));
        assert!(!matches(b"*.csv", b"a.parquet"));
        let path = |pattern: &str, path: &str| {
            let (pattern, path): (Vec<&str>, Vec<&str>) =
                (pattern.split('/').collect(), path.split('/').collect());
            matches_path(&pattern, &path)
        };
        assert!(path("a/*/c.csv", "a/b/c.csv") && path("a/**/c.csv", "a/c.csv"));
        assert!(path("**/c.csv", "a/b/c.csv") && path("a/.x/*", "a/.x/c.csv"));
        assert!(
            !path("a/*", "a/b/c.csv") && !path("a/*/c.csv", "a/c.csv") && !path("**/c.csv", "a/.x/c.csv")
        );
        assert!(!path("a/*", "a/.x") && !path("a/**", "a"));
    }

    #[test]
    fn lists_files_globs_and_directories() {
        let dir = tempfile::tempdir().unwrap();
        for name in ["b.csv", "a.csv", "c.parquet", "_SUCCESS"] {
            std::fs::write(dir.path().join(name), "x").unwrap();
        }
        let at = |p: &str| format!("{}/{p}", dir.path().display());
        assert_eq!(list_files(&at("*.csv")).unwrap().len(), 2);
        assert_eq!(list_files(&at("")).unwrap().len(), 3);
        assert_eq!(list_files(&format!("file://{}", at("a.csv"))).unwrap().len(), 1);
        assert_eq!(list_files(&at("none.csv")).unwrap_err().kind(), ErrorKind::NotFound);
        assert_eq!(list_files("http://host/x").unwrap_err().kind(), ErrorKind::Unsupported);
    }
}
