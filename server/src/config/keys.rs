//! The keys, in one table that parsing, `--help` and the book share.

use std::path::{Path, PathBuf};

use super::Config;
use super::value::{
    address, bytes, cache, cache_size, count, durability, duration, file, flag, hosts, journal, lifetime,
    memory, memory_or_off, show, show_address, show_bytes, show_cache, show_cache_size, show_file,
    show_journal, show_list, show_memory_or_off, show_sync, sync, urls,
};
use crate::options::TlsOptions;

/// One key.
#[derive(Debug)]
pub struct Key {
    /// Name, as in the file.
    pub name: &'static str,
    /// What a value is, with its unit.
    pub value: &'static str,
    /// What it does.
    pub help: &'static str,
    /// Whether it may have no value, which is its default.
    pub optional: bool,
    /// Takes a value; the error says what was expected.
    pub(super) set: fn(&mut Config, &str) -> Result<(), String>,
    /// The value as text; what stands for none.
    pub(super) get: fn(&Config) -> String,
}

impl Key {
    /// The flag of `cairn serve`, without dashes before it.
    #[must_use]
    pub fn flag(&self) -> String {
        Self::flag_of(self.name)
    }

    pub(super) fn flag_of(name: &str) -> String {
        name.replace(['.', '_'], "-")
    }

    /// Whether a value is a list, whose items commas separate where there are no brackets for them.
    pub(super) fn is_list(&self) -> bool {
        self.value.ends_with('…')
    }

    /// The variable of the environment.
    #[must_use]
    pub fn variable(&self) -> String {
        format!("{}{}", super::PREFIX, self.name.replace('.', "_").to_uppercase())
    }

    /// The default, as text.
    #[must_use]
    pub fn default_text(&self) -> String {
        (self.get)(&Config::default())
    }

    /// The key's row in the book.
    #[must_use]
    pub fn table_row(&self) -> String {
        format!("| `{}` | {} | {} | {} |", self.name, self.value, self.default_text(), self.help)
    }
}

macro_rules! key {
    ($name:literal, $value:literal, $set:expr, $get:expr, $help:literal) => {
        key!($name, $value, $set, $get, $help, false)
    };
    ($name:literal, $value:literal, $set:expr, $get:expr, $help:literal, $optional:literal) => {
        Key { name: $name, value: $value, help: $help, optional: $optional, set: $set, get: $get }
    };
}

fn tls(config: &mut Config) -> &mut TlsOptions {
    let none = TlsOptions { certificate: PathBuf::new(), key: PathBuf::new(), client_ca: None };
    config.server.tls.get_or_insert(none)
}

/// One of the files of TLS, when it was given.
fn tls_file(config: &Config, file: impl FnOnce(&TlsOptions) -> Option<&PathBuf>) -> Option<&Path> {
    config
        .server
        .tls
        .as_ref()
        .and_then(file)
        .map(PathBuf::as_path)
        .filter(|path| !path.as_os_str().is_empty())
}

fn or_none<T>(value: Option<T>, show: impl FnOnce(T) -> String) -> String {
    value.map_or_else(|| "none".to_owned(), show)
}

/// Every key, by name.
pub const KEYS: &[Key] = &[
    key!(
        "audit.file",
        "path",
        |c, v| file(v).map(|v| c.server.audit_log = Some(v)),
        |c| or_none(c.server.audit_log.as_deref(), show_file),
        "file that gets a line of JSON for every statement and failed login: who, from where, which tables; no values",
        true
    ),
    key!(
        "cache.columns",
        "bytes, off",
        |c, v| memory_or_off(v).map(|v| c.engine.storage.column_cache_bytes = Some(v)),
        |c| {
            let given = c.engine.storage.column_cache_bytes;
            given.map_or_else(|| "a quarter of memory_limit".to_owned(), show_memory_or_off)
        },
        "memory of columns that are kept decoded for the next query, as long as queries leave it of memory_limit",
        true
    ),
    key!(
        "connections.max",
        "number",
        |c, v| count(v).map(|v| c.server.connections_max = v),
        |c| c.server.connections_max.to_string(),
        "connections at one time, of all protocols; more wait"
    ),
    key!(
        "copy.endpoints",
        "host:port, …",
        |c, v| hosts(v).map(|v| c.server.limits.copy_endpoints = v),
        |c| show_list(&c.server.limits.copy_endpoints),
        "hosts that CREATE SECRET may name as ENDPOINT; none: only the providers' own",
        true
    ),
    key!(
        "copy.urls",
        "s3://bucket/prefix, …",
        |c, v| urls(v).map(|v| c.server.limits.copy_urls = v),
        |c| show_list(&c.server.limits.copy_urls),
        "prefixes on object storage that statements may read and write below; none: nothing there",
        true
    ),
    key!(
        "copy_root",
        "path",
        |c, v| file(v).map(|v| c.server.limits.copy_root = Some(v)),
        |c| or_none(c.server.limits.copy_root.as_deref(), show_file),
        "directory whose files statements may read and write; none: no file",
        true
    ),
    key!(
        "discard_local",
        "true, false",
        |c, v| flag(v).map(|v| c.engine.storage.discard_local = v),
        |c| c.engine.storage.discard_local.to_string(),
        "in a bucket: drops commits of this machine's journal that can't be sent any more, another process having taken the database over"
    ),
    key!(
        "drain",
        "time",
        |c, v| duration(v).map(|v| c.server.drain_max = v),
        |c| show(c.server.drain_max),
        "how long running statements may go on after SIGTERM"
    ),
    key!(
        "flight.listen",
        "host:port, off",
        |c, v| address(v).map(|v| c.server.flight = v),
        |c| show_address(c.server.flight),
        "where Flight SQL listens; port 0 is a free one"
    ),
    key!(
        "flight.message_max",
        "bytes",
        |c, v| bytes(v).map(|v| c.server.message_bytes_max = v),
        |c| show_bytes(c.server.message_bytes_max),
        "largest message (batch of rows) a client may send"
    ),
    key!(
        "http.listen",
        "host:port, off",
        |c, v| address(v).map(|v| c.server.http = v),
        |c| show_address(c.server.http),
        "where HTTP listens; port 0 is a free one"
    ),
    key!(
        "http.metrics",
        "true, false",
        |c, v| flag(v).map(|v| c.server.metrics = v),
        |c| c.server.metrics.to_string(),
        "whether HTTP answers /metrics, which nobody has to log in for"
    ),
    key!(
        "insecure",
        "true, false",
        |c, v| flag(v).map(|v| c.server.insecure = v),
        |c| c.server.insecure.to_string(),
        "lets everybody in from other machines when there are no users"
    ),
    key!(
        "limit.concurrent",
        "number",
        |c, v| count(v).map(|v| c.server.queue.running_max = Some(v)),
        |c| or_none(c.server.queue.running_max, |n| n.to_string()),
        "statements that run at one time, until their rows are read; more wait",
        true
    ),
    key!(
        "limit.concurrent_per_user",
        "number",
        |c, v| count(v).map(|v| c.server.queue.running_per_user_max = Some(v)),
        |c| or_none(c.server.queue.running_per_user_max, |n| n.to_string()),
        "the same for each user",
        true
    ),
    key!(
        "limit.memory",
        "bytes",
        |c, v| memory(v).map(|v| c.server.limits.memory = Some(v)),
        |c| or_none(c.server.limits.memory, show_bytes),
        "memory the queries of one session may use",
        true
    ),
    key!(
        "limit.queue",
        "number",
        |c, v| count(v).map(|v| c.server.queue.waiting_max = v),
        |c| c.server.queue.waiting_max.to_string(),
        "statements that wait to run; more are refused"
    ),
    key!(
        "limit.queue_wait",
        "time",
        |c, v| duration(v).map(|v| c.server.queue.wait_max = v),
        |c| show(c.server.queue.wait_max),
        "how long a statement waits to run before it is refused"
    ),
    key!(
        "limit.rows",
        "number",
        |c, v| count(v).map(|v| c.server.limits.rows = Some(v as u64)),
        |c| or_none(c.server.limits.rows, |n| n.to_string()),
        "rows of one result",
        true
    ),
    key!(
        "limit.time",
        "time",
        |c, v| lifetime(v).map(|v| c.server.limits.statement_timeout = Some(v)),
        |c| or_none(c.server.limits.statement_timeout, show),
        "time of one statement, its rows included, waiting to run not",
        true
    ),
    key!(
        "memory_limit",
        "bytes",
        |c, v| memory(v).map(|v| c.engine.memory_limit = Some(v)),
        |c| c.engine.memory_limit.map_or_else(|| "70 % of the machine".to_owned(), show_bytes),
        "memory queries may use together before they spill or fail",
        true
    ),
    key!(
        "partitions",
        "number",
        |c, v| count(v).map(|v| c.engine.partitions = Some(v)),
        |c| c.engine.partitions.map_or_else(|| "one per core".to_owned(), |n| n.to_string()),
        "parts a query runs in at the same time",
        true
    ),
    key!(
        "read_only",
        "true, false",
        |c, v| flag(v).map(|v| c.engine.storage.read_only = v),
        |c| c.engine.storage.read_only.to_string(),
        "follows the process that writes; several may"
    ),
    key!(
        "result.max",
        "number",
        |c, v| count(v).map(|v| c.server.results_max = v),
        |c| c.server.results_max.to_string(),
        "results of one session that wait to be fetched; one more takes the place of the oldest"
    ),
    key!(
        "result.wait",
        "time",
        |c, v| lifetime(v).map(|v| c.server.result_wait_max = v),
        |c| show(c.server.result_wait_max),
        "how long a result waits to be fetched"
    ),
    key!(
        "session.idle",
        "time",
        |c, v| lifetime(v).map(|v| c.server.session_idle_max = v),
        |c| show(c.server.session_idle_max),
        "a session nobody used for this long ends; its transactions are rolled back"
    ),
    key!(
        "session.lifetime",
        "time",
        |c, v| lifetime(v).map(|v| c.server.token_life_max = v),
        |c| show(c.server.token_life_max),
        "how long a token is good for, however often it is used; then the client logs in again"
    ),
    key!(
        "session.max",
        "number",
        |c, v| count(v).map(|v| c.server.sessions_max = v),
        |c| c.server.sessions_max.to_string(),
        "sessions at one time"
    ),
    key!(
        "session.max_per_user",
        "number",
        |c, v| count(v).map(|v| c.server.sessions_per_user_max = Some(v)),
        |c| c
            .server
            .sessions_per_user_max
            .map_or_else(|| "half of session.max".to_owned(), |n| n.to_string()),
        "sessions of one user at one time, superusers too",
        true
    ),
    key!(
        "session.prepared_max",
        "number",
        |c, v| count(v).map(|v| c.server.prepared_max = v),
        |c| c.server.prepared_max.to_string(),
        "prepared statements of one session"
    ),
    key!(
        "slow.file",
        "path",
        |c, v| file(v).map(|v| c.server.slow_log = Some(v)),
        |c| or_none(c.server.slow_log.as_deref(), show_file),
        "file that gets such lines for slow statements only",
        true
    ),
    key!(
        "slow.min",
        "time",
        |c, v| duration(v).map(|v| c.server.slow_min = v),
        |c| show(c.server.slow_min),
        "time from which on a statement is slow"
    ),
    key!(
        "spill_directory",
        "path",
        |c, v| file(v).map(|v| c.engine.spill_directory = Some(v)),
        |c| or_none(c.engine.spill_directory.as_deref(), show_file),
        "where queries spill to; none: the system's temporary folder",
        true
    ),
    key!(
        "storage.auto_compact",
        "true, false",
        |c, v| flag(v).map(|v| c.engine.storage.compacts = v),
        |c| c.engine.storage.compacts.to_string(),
        "whether segments are merged by themselves after checkpoints"
    ),
    key!(
        "storage.cache_directory",
        "path, off",
        |c, v| cache(v).map(|v| c.engine.storage.cache_directory = v),
        |c| show_cache(c.engine.storage.cache_directory.as_deref()),
        "of a database in a bucket: where what was read is kept for the next time; off: nowhere",
        true
    ),
    key!(
        "storage.cache_size",
        "bytes",
        |c, v| cache_size(v).map(|v| c.engine.storage.cache_directory_bytes = v),
        |c| show_cache_size(c.engine.storage.cache_directory_bytes),
        "in a bucket: most that is kept there"
    ),
    key!(
        "storage.checkpoint_wal_objects",
        "number",
        |c, v| count(v).map(|v| c.engine.storage.checkpoint_wal_objects = v as u64),
        |c| c.engine.storage.checkpoint_wal_objects.to_string(),
        "in a bucket: objects of the log at which a checkpoint runs by itself"
    ),
    key!(
        "storage.commit_timeout",
        "time",
        |c, v| lifetime(v).map(|v| c.engine.storage.commit_timeout = v),
        |c| show(c.engine.storage.commit_timeout),
        "in a bucket: how long a commit is tried while the store does not answer; then it has failed, or its outcome is unknown where a request may have arrived"
    ),
    key!(
        "storage.durability",
        "store, local",
        |c, v| durability(v).map(|v| c.engine.storage.durability = v),
        |c| c.engine.storage.durability.as_str().to_owned(),
        "in a bucket: where a commit must be before it is acknowledged; local: in a journal on this machine's disk, sent in the background"
    ),
    key!(
        "storage.job_retention",
        "time",
        |c, v| lifetime(v).map(|v| c.engine.storage.job_retention = v),
        |c| show(c.engine.storage.job_retention),
        "how long rows of jobs that ended are kept; of the newest 1,000 at most"
    ),
    key!(
        "storage.job_timeout",
        "time",
        |c, v| lifetime(v).map(|v| c.engine.storage.job_timeout = v),
        |c| show(c.engine.storage.job_timeout),
        "longest time of one attempt at a job; then it ends after its step"
    ),
    key!(
        "storage.journal_directory",
        "path, off",
        |c, v| journal(v).map(|v| c.engine.storage.journal_directory = v),
        |c| show_journal(c.engine.storage.journal_directory.as_deref()),
        "in a bucket: below which directory journals of durability = local stand; off: none is written or looked for",
        true
    ),
    key!(
        "storage.poll_interval",
        "time",
        |c, v| duration(v).map(|v| c.engine.storage.poll_interval = v),
        |c| show(c.engine.storage.poll_interval),
        "in a bucket: how old what a reader sees may be"
    ),
    key!(
        "storage.reader_grace",
        "time",
        |c, v| lifetime(v).map(|v| c.engine.storage.reader_grace = v),
        |c| show(c.engine.storage.reader_grace),
        "in a bucket: how long replaced objects are kept for readers that may hold them"
    ),
    key!(
        "storage.upkeep",
        "true, false",
        |c, v| flag(v).map(|v| c.engine.storage.upkeep = v),
        |c| c.engine.storage.upkeep.to_string(),
        "whether checkpoints, merges of segments, index builds and collections run by themselves"
    ),
    key!(
        "storage.wal_flush_interval",
        "time",
        |c, v| duration(v).map(|v| c.engine.storage.wal_flush_interval = v),
        |c| show(c.engine.storage.wal_flush_interval),
        "in a bucket: least time between two objects of the log, for fewer requests and slower commits"
    ),
    key!(
        "sync",
        "full, interval:MS, off",
        |c, v| sync(v).map(|v| c.engine.storage.sync = v),
        |c| show_sync(c.engine.storage.sync),
        "when an acknowledged commit is durable"
    ),
    key!(
        "take_over",
        "true, false",
        |c, v| flag(v).map(|v| c.engine.storage.take_over = v),
        |c| c.engine.storage.take_over.to_string(),
        "in a bucket: starts also when another writer is alive, which can't commit any more then"
    ),
    key!(
        "threads",
        "number",
        |c, v| count(v).map(|v| c.threads = Some(v)),
        |c| c.threads.map_or_else(|| "one per core".to_owned(), |n| n.to_string()),
        "threads that statements run on; clients are answered on others",
        true
    ),
    key!(
        "tls.certificate",
        "path",
        |c, v| file(v).map(|v| tls(c).certificate = v),
        |c| or_none(tls_file(c, |tls| Some(&tls.certificate)), show_file),
        "PEM file of the server's certificate and those that lead to its root",
        true
    ),
    key!(
        "tls.client_ca",
        "path",
        |c, v| file(v).map(|v| tls(c).client_ca = Some(v)),
        |c| or_none(tls_file(c, |tls| tls.client_ca.as_ref()), show_file),
        "PEM file of the roots of certificates that clients must show",
        true
    ),
    key!(
        "tls.key",
        "path",
        |c, v| file(v).map(|v| tls(c).key = v),
        |c| or_none(tls_file(c, |tls| Some(&tls.key)), show_file),
        "PEM file of the certificate's private key",
        true
    ),
];
