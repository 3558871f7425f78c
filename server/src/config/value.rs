//! Values as they are written.

use std::net::{SocketAddr, ToSocketAddrs};
use std::path::{Path, PathBuf};
use std::time::Duration;

use cairn_engine::SyncMode;
use cairn_engine::config::{parse_bytes, parse_duration, show_duration};
use cairn_engine::{Durability, default_cache_directory, default_journal_directory};
use cairn_storage::object::StoreUrl;

/// Least memory for statements, in bytes: with less, hardly any can run.
const MEMORY_MIN: usize = 1 << 20;

/// What a value should have been.
type Expected<T> = Result<T, String>;

/// `127.0.0.1:8815`, `localhost:0`; `off` for none.
pub(super) fn address(text: &str) -> Expected<Option<SocketAddr>> {
    if text == "off" {
        return Ok(None);
    }
    let found = text.to_socket_addrs().ok().and_then(|mut addresses| addresses.next());
    found.map(Some).ok_or_else(|| "host:port is expected, or off".to_owned())
}

pub(super) fn show_address(address: Option<SocketAddr>) -> String {
    address.map_or_else(|| "off".to_owned(), |address| address.to_string())
}

pub(super) fn count(text: &str) -> Expected<usize> {
    text.parse().ok().filter(|n| *n > 0).ok_or_else(|| "a whole number above 0 is expected".to_owned())
}

pub(super) fn flag(text: &str) -> Expected<bool> {
    text.parse().map_err(|_| "true or false is expected".to_owned())
}

pub(super) fn bytes(text: &str) -> Expected<usize> {
    let size = parse_bytes(text).ok().and_then(|bytes| usize::try_from(bytes).ok());
    size.ok_or_else(|| "a size is expected, such as 512 MiB".to_owned())
}

/// Memory for statements.
pub(super) fn memory(text: &str) -> Expected<usize> {
    let least = || format!("at least {} is expected", show_bytes(MEMORY_MIN));
    bytes(text).and_then(|bytes| if bytes < MEMORY_MIN { Err(least()) } else { Ok(bytes) })
}

pub(super) fn show_bytes(bytes: usize) -> String {
    for (shift, unit) in [(30, "GiB"), (20, "MiB"), (10, "KiB")] {
        if bytes > 0 && bytes.is_multiple_of(1 << shift) {
            return format!("{} {unit}", bytes >> shift);
        }
    }
    format!("{bytes} B")
}

pub(super) fn duration(text: &str) -> Expected<Duration> {
    let bad = || "a time is expected, such as 250 ms, 5 s or 1 h".to_owned();
    // A number alone could be anything.
    if text.trim().parse::<f64>().is_ok() && text.trim() != "0" {
        return Err(bad());
    }
    parse_duration(text, Duration::from_secs(1)).map_err(|_| bad())
}

/// A time after which something ends.
pub(super) fn lifetime(text: &str) -> Expected<Duration> {
    let none = || "a time above 0 is expected, such as 30 min".to_owned();
    duration(text).and_then(|time| if time.is_zero() { Err(none()) } else { Ok(time) })
}

pub(super) fn show(duration: Duration) -> String {
    show_duration(duration)
}

/// A path, of a file or a directory.
pub(super) fn file(text: &str) -> Expected<PathBuf> {
    if text.trim().is_empty() {
        return Err("a path is expected".to_owned());
    }
    Ok(text.into())
}

pub(super) fn show_file(path: &Path) -> String {
    path.display().to_string()
}

/// Memory of a cache; `off` for none.
pub(super) fn memory_or_off(text: &str) -> Expected<usize> {
    match text.trim() {
        "off" => Ok(0),
        _ => bytes(text).map_err(|_| "a size is expected, such as 512 MiB, or off".to_owned()),
    }
}

pub(super) fn show_memory_or_off(bytes: usize) -> String {
    if bytes == 0 { "off".to_owned() } else { show_bytes(bytes) }
}

/// A directory for a cache; `off` for none.
pub(super) fn cache(text: &str) -> Expected<Option<PathBuf>> {
    match text.trim() {
        "off" => Ok(None),
        _ => file(text).map(Some),
    }
}

pub(super) fn show_cache(directory: Option<&Path>) -> String {
    // That of this process: the same words for everybody's default.
    if directory == default_cache_directory().as_deref() {
        return "cairn in the user's cache folder".to_owned();
    }
    directory.map_or_else(|| "off".to_owned(), show_file)
}

/// Where a commit to a bucket must be before it is acknowledged.
pub(super) fn durability(text: &str) -> Expected<Durability> {
    match text.trim() {
        "store" => Ok(Durability::Store),
        "local" => Ok(Durability::Local),
        _ => Err("store or local is expected".to_owned()),
    }
}

/// A directory for journals; `off` for none.
pub(super) fn journal(text: &str) -> Expected<Option<PathBuf>> {
    match text.trim() {
        "off" => Ok(None),
        _ => file(text).map(Some),
    }
}

pub(super) fn show_journal(directory: Option<&Path>) -> String {
    // As for caches.
    if directory == default_journal_directory().as_deref() {
        return "journal in the user's state folder of cairn".to_owned();
    }
    directory.map_or_else(|| "off".to_owned(), show_file)
}

/// How much a cache may hold.
pub(super) fn cache_size(text: &str) -> Expected<u64> {
    let size = parse_bytes(text).ok().filter(|bytes| *bytes > 0);
    size.ok_or_else(|| "a size above 0 is expected, such as 512 MiB".to_owned())
}

pub(super) fn show_cache_size(bytes: u64) -> String {
    usize::try_from(bytes).map_or_else(|_| format!("{bytes} B"), show_bytes)
}

/// `s3://bucket/prefix, gs://bucket`.
pub(super) fn urls(text: &str) -> Expected<Vec<String>> {
    let expected = || "prefixes such as s3://bucket/prefix are expected".to_owned();
    list(text, &|url| StoreUrl::parse(url).map(|url| url.to_string()).ok()).ok_or_else(expected)
}

/// `minio.example:9000, https://store.example`.
pub(super) fn hosts(text: &str) -> Expected<Vec<String>> {
    let is_host = |host: &str| {
        let rest = host.strip_prefix("https://").or_else(|| host.strip_prefix("http://")).unwrap_or(host);
        !rest.is_empty() && !rest.contains("//") && !rest.contains(['@', '?', '#', ' '])
    };
    let expected = || "hosts such as minio.example:9000 are expected".to_owned();
    list(text, &|host| is_host(host).then(|| host.to_owned())).ok_or_else(expected)
}

/// The items between commas, one at least; None when one is not as it should be.
fn list(text: &str, item: &dyn Fn(&str) -> Option<String>) -> Option<Vec<String>> {
    let items = text.split(',').map(str::trim).filter(|part| !part.is_empty());
    items.map(item).collect::<Option<Vec<_>>>().filter(|items| !items.is_empty())
}

pub(super) fn show_list(items: &[String]) -> String {
    if items.is_empty() { "none".to_owned() } else { items.join(", ") }
}

/// `full`, `interval:MS`, `off`.
pub(super) fn sync(text: &str) -> Expected<SyncMode> {
    let bad = || "full, interval:MS or off is expected".to_owned();
    match text.split_once(':') {
        None if text == "full" => Ok(SyncMode::Full),
        None if text == "off" => Ok(SyncMode::Off),
        Some(("interval", ms)) => {
            let ms = ms.parse().ok().filter(|ms| *ms > 0).ok_or_else(bad)?;
            Ok(SyncMode::Interval(Duration::from_millis(ms)))
        }
        _ => Err(bad()),
    }
}

pub(super) fn show_sync(sync: SyncMode) -> String {
    match sync {
        SyncMode::Full => "full".to_owned(),
        SyncMode::Interval(at_most) => format!("interval:{}", at_most.as_millis()),
        SyncMode::Off => "off".to_owned(),
    }
}
