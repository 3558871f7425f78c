//! Settings of a session: what SET, RESET and SHOW know.
//!
//! Owns: the closed list of settings with their documentation, defaults, checks, and the values of one session. Does not own:
//! how the database was opened (`cairn_storage::OpenOptions`; shown here, read-only).

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use cairn_storage::ErrorKind;
use cairn_storage::id::CommitId;
use cairn_storage::wal::{CommitInfo, SyncMode};
use cairn_udfs::zones;
use datafusion::common::config::ConfigOptions;
use datafusion::prelude::SessionConfig;

use crate::context::GivenCommit;
use crate::defaults::Defaults;
use crate::engine::Engine;
use crate::error::{Error, Result};
use crate::search::{SAMPLE_RATE_DEFAULT, SampleRate};

/// Longest `commit_message`, in bytes.
pub const COMMIT_MESSAGE_BYTES_MAX: usize = 4096;

/// One setting of the list.
#[derive(Clone, Copy, Debug)]
pub struct Setting {
    /// Name.
    pub name: &'static str,
    /// Type of the value: text, duration, bytes, integer, fraction, boolean.
    pub value_type: &'static str,
    /// Whether SET may change it in a session.
    pub changeable: bool,
    /// What it does.
    pub description: &'static str,
}

macro_rules! settings {
    ($($name:literal, $value_type:literal, $changeable:literal, $description:literal;)*) => {
        &[$(Setting { name: $name, value_type: $value_type, changeable: $changeable, description: $description }),*]
    };
}

/// Every setting, by name.
pub const SETTINGS: &[Setting] = settings! {
    "application_name", "text", true, "Name of the session, kept with its commits.";
    "auto_compact", "boolean", false, "Whether segments are merged by themselves after checkpoints; COMPACT does it in any case.";
    "cache_size", "bytes", false, "Most bytes of a database in a bucket that are kept on this machine's disk; 0: none are.";
    "checkpoint_idle", "duration", false, "A checkpoint runs by itself when nothing was committed for so long and the log is worth it (1 MiB); off: never.";
    "checkpoint_interval", "duration", false, "Time between automatic checkpoints; off when not set at open.";
    "checkpoint_wal_bytes", "bytes", false, "Size of the log that starts an automatic checkpoint.";
    "column_cache_size", "bytes", false, "Most memory of columns that are kept decoded for the next scan; queries take it from them, since memory_limit is for both. 0: none are.";
    "commit_id", "text", true, "Id of the session's next commit, a UUID; empty: a random one. What is committed under it already changes nothing again.";
    "commit_message", "text", true, "Text kept with every commit of the session; shown by SHOW VERSIONS.";
    "commit_timeout", "duration", false, "How long a commit is tried while the bucket does not answer; then its outcome is unknown.";
    "compact_round_bytes", "bytes", false, "Most that one round of merging segments reads by itself.";
    "compact_segment_bytes", "bytes", false, "Size that segments are merged towards.";
    "durability", "text", false, "Where a commit to a bucket must be before it is acknowledged: store, or local: in a journal on this machine's disk.";
    "job_retention", "duration", false, "How long rows of jobs that ended are kept; of the newest 1,000 at most.";
    "job_timeout", "duration", false, "Longest time of one attempt at a job; then it ends after its step.";
    "memory_limit", "bytes", false, "Memory of queries together, before they spill or fail, and of the columns that are kept decoded as long as queries leave it.";
    "memtable_hard_bytes", "bytes", false, "Size of the rows not yet in segments at which writers wait.";
    "memtable_soft_bytes", "bytes", false, "Size of the rows not yet in segments at which writers slow down.";
    "partitions", "integer", true, "Parts a query runs in at the same time.";
    "poll_interval", "duration", false, "How old what a reader of a database in a bucket sees may be.";
    "read_only", "boolean", false, "Whether this handle only reads.";
    "reader_grace", "duration", false, "How long replaced objects of a bucket are kept for readers that may hold them.";
    "search_path", "text", true, "Schema that unqualified names resolve in; USE sets it too.";
    "server_version", "text", false, "Version of Cairn.";
    "statement_timeout", "duration", true, "Longest time a statement may run; 0 is no limit.";
    "sync", "text", false, "When an acknowledged commit is durable: full, interval or off.";
"timezone", "text", true, "Time zone that TIMESTAMPTZ is read and shown in, and that its days and hours are those of.";
    "upkeep", "boolean", false, "Whether checkpoints, merges of segments, index builds and collections run by themselves.";
    "vector.recall_sample_rate", "fraction", true, "Part of the searches through an index that are compared with the exact answer, in the background; 1: every one, before it is answered.";
    "version_retention", "duration", false, "How far back old versions are kept.";
    "wal_entry_bytes_max", "bytes", false, "Largest change kept in the log; larger ones are written as segments at once.";
};

/// Options of the query planner and executor that a session may change.
pub(crate) const DATAFUSION_OPTIONS: &[&str] = &[
    "datafusion.execution.batch_size",
    "datafusion.execution.coalesce_batches",
    "datafusion.execution.parquet.pushdown_filters",
    "datafusion.execution.parquet.reorder_filters",
    "datafusion.execution.sort_spill_reservation_bytes",
    "datafusion.explain.format",
    "datafusion.explain.logical_plan_only",
    "datafusion.explain.physical_plan_only",
    "datafusion.explain.show_schema",
    "datafusion.explain.show_sizes",
    "datafusion.explain.show_statistics",
    "datafusion.optimizer.enable_dynamic_filter_pushdown",
    "datafusion.optimizer.enable_round_robin_repartition",
    "datafusion.optimizer.enable_topk_aggregation",
    "datafusion.optimizer.hash_join_single_partition_threshold",
    "datafusion.optimizer.hash_join_single_partition_threshold_rows",
    "datafusion.optimizer.join_reordering",
    "datafusion.optimizer.max_passes",
    "datafusion.optimizer.prefer_existing_sort",
    "datafusion.optimizer.prefer_hash_join",
    "datafusion.optimizer.repartition_aggregations",
    "datafusion.optimizer.repartition_joins",
    "datafusion.optimizer.repartition_sorts",
    "datafusion.optimizer.repartition_windows",
    "datafusion.optimizer.top_down_join_key_reordering",
];

/// What every session has for itself: the database gives it no value.
const OF_SESSIONS: [&str; 3] = ["application_name", "commit_id", "commit_message"];

/// Default of `search_path`.
pub(crate) const DEFAULT_SCHEMA: &str = "public";

/// The values of one session.
#[derive(Clone, Debug)]
pub(crate) struct Settings {
    pub(crate) search_path: String,
    pub(crate) timezone: String,
    pub(crate) statement_timeout: Option<Duration>,
    pub(crate) info: CommitInfo,
    /// The id of the next commit.
    pub(crate) commit_id: Option<CommitId>,
    /// The id that a statement has taken for its own commit; a session has none.
    pub(crate) given: Option<GivenCommit>,
    /// Where statements come from; empty: this process.
    pub(crate) client: String,
    pub(crate) partitions: Option<usize>,
    pub(crate) recall_sample_rate: f64,
    /// `datafusion.*` options changed in this session.
    pub(crate) options: BTreeMap<String, String>,
    /// Settings that the session has set.
    pub(crate) own: BTreeSet<String>,
    /// Values that the database gives the session; None: they were not asked for yet.
    pub(crate) database: Option<Arc<Defaults>>,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            search_path: DEFAULT_SCHEMA.to_owned(),
            timezone: zones::UTC.to_owned(),
            statement_timeout: None,
            info: CommitInfo::default(),
            commit_id: None,
            given: None,
            client: String::new(),
            partitions: None,
            recall_sample_rate: SAMPLE_RATE_DEFAULT,
            options: BTreeMap::new(),
            own: BTreeSet::new(),
            database: None,
        }
    }
}

impl Settings {
    /// SET `name` = `value`; None sets the default, which is the database's where it has one.
    ///
    /// # Errors
    /// 42704 for a name not listed, 22023 for a value it cannot have, 55P02 for a setting fixed at open.
    pub(crate) fn set(&mut self, name: &str, value: Option<&str>) -> Result<()> {
        let name = named(name);
        match value {
            Some(_) => {
                self.put(name, value)?;
                // It is asked for before every statement, and lasts for one.
                if name != "commit_id" {
                    self.own.insert(name.to_owned());
                }
            }
            None => {
                let database = self.database.clone();
                let given = database.as_ref().and_then(|given| given.get(name));
                self.put(name, given.map(String::as_str))?;
                self.own.remove(name);
            }
        }
        Ok(())
    }

    /// Name and value as the database keeps them for sessions that begin; a value of None takes the one it has away.
    ///
    /// # Errors
    /// As [`set`](Self::set); 55P02 for a setting that every session has for itself.
    pub(crate) fn for_database(name: &str, value: Option<&str>) -> Result<(String, Option<String>)> {
        let name = named(name);
        let mut probe = Self::default();
        probe.put(name, value)?;
        if OF_SESSIONS.contains(&name) {
            let message = format!("setting {name} is each session's own: the database keeps no value of it");
            return Err(Error::new(ErrorKind::InvalidInput, message)
                .map(|e| e.with_sqlstate("55P02").with_hint("SET it in the session, without FOR DATABASE")));
        }
        let kept = value.map(|value| match name {
            "search_path" => probe.search_path,
            _ => value.to_owned(),
        });
        Ok((name.to_owned(), kept))
    }

    /// Whether the session has asked for the database's values.
    pub(crate) fn has_begun(&self) -> bool {
        self.database.is_some()
    }

    /// Takes the database's values where the session has set none of its own. One that this version does not take is left out.
    pub(crate) fn begin(&mut self, defaults: &Defaults) {
        let mut taken = Defaults::new();
        for (name, value) in defaults {
            if Self::for_database(name, Some(value.as_str())).is_err() {
                continue;
            }
            if self.own.contains(name) || self.put(name, Some(value.as_str())).is_ok() {
                taken.insert(name.clone(), value.clone());
            }
        }
        self.database = Some(Arc::new(taken));
    }

    /// Where the value of a setting comes from: `open`, `default`, `database` or `session`.
    pub(crate) fn source(&self, setting: &Setting) -> &'static str {
        let is_given = self.database.as_ref().is_some_and(|given| given.contains_key(setting.name));
        match setting.name {
            _ if !setting.changeable => "open",
            "commit_id" if self.commit_id.is_some() => "session",
            name if self.own.contains(name) => "session",
            _ if is_given => "database",
            _ => "default",
        }
    }

    /// Gives `name` a value; None is that of the list.
    fn put(&mut self, name: &str, value: Option<&str>) -> Result<()> {
        let defaults = Self::default();
        if name.starts_with("datafusion.") {
            return self.set_option(name, value);
        }
        let setting = find(name)?;
        if !setting.changeable {
            return Err(Error::new(
                ErrorKind::InvalidInput,
                format!("setting {name} is fixed when the database is opened"),
            )
            .map(|e| e.with_sqlstate("55P02")));
        }
        match name {
            "search_path" => {
                let value = value.unwrap_or(&defaults.search_path);
                if value.contains(',') {
                    return Err(Error::not_supported_yet("a search_path of several schemas"));
                }
                self.search_path = value.trim().trim_matches('"').to_owned();
            }
            "timezone" => self.timezone = time_zone(value.unwrap_or(&defaults.timezone))?,
            "statement_timeout" => {
                let limit = value.map(|v| parse_duration(v, Duration::from_millis(1))).transpose()?;
                self.statement_timeout = limit.filter(|limit| !limit.is_zero());
            }
            "commit_id" => {
                let id = value.filter(|id| !id.trim().is_empty());
                self.commit_id = id.map(commit_id).transpose()?;
            }
            "commit_message" => {
                let message = value.unwrap_or_default();
                if message.len() > COMMIT_MESSAGE_BYTES_MAX {
                    return Err(invalid(
                        name,
                        message.get(..32).unwrap_or("…"),
                        &format!("at most {COMMIT_MESSAGE_BYTES_MAX} bytes"),
                    ));
                }
                self.info.message = message.to_owned();
            }
            "application_name" => self.info.session = value.unwrap_or_default().chars().take(256).collect(),
            "vector.recall_sample_rate" => {
                self.recall_sample_rate = match value {
                    None => SAMPLE_RATE_DEFAULT,
                    Some(v) => v
                        .parse()
                        .ok()
                        .filter(|rate| (0.0..=1.0).contains(rate))
                        .ok_or_else(|| invalid(name, v, "a number from 0 to 1"))?,
                };
            }
            "partitions" => {
                self.partitions = value
                    .map(|v| {
                        v.parse()
                            .ok()
                            .filter(|n| (1..=1024).contains(n))
                            .ok_or_else(|| invalid(name, v, "a number from 1 to 1024"))
                    })
                    .transpose()?;
            }
            _ => return Err(unknown(name)),
        }
        Ok(())
    }

    fn set_option(&mut self, name: &str, value: Option<&str>) -> Result<()> {
        if !DATAFUSION_OPTIONS.contains(&name) {
            if name.starts_with("datafusion.runtime.") {
                return Err(Error::new(
                    ErrorKind::PermissionDenied,
                    format!("setting {name} cannot be changed by a session"),
                )
                .map(|e| e.with_hint("give the limit when the database is opened (memory_limit)")));
            }
            return Err(unknown(name));
        }
        match value {
            Some(value) => {
                let mut probe = datafusion::config::ConfigOptions::new();
                probe.set(name, value).map_err(|_| invalid(name, value, "a value of the option's type"))?;
                self.options.insert(name.to_owned(), value.to_owned());
            }
            None => {
                self.options.remove(name);
            }
        }
        Ok(())
    }

    /// The zone that results are shown in; None: UTC, as they are.
    pub(crate) fn zone(&self) -> Option<Arc<str>> {
        (!zones::is_utc(&self.timezone)).then(|| self.timezone.as_str().into())
    }

    /// RESET ALL.
    pub(crate) fn reset_all(&mut self) {
        let info = CommitInfo { message: String::new(), ..self.info.clone() };
        let database = self.database.take();
        // That stays.
        let own = self.own.take("application_name").into_iter().collect();
        *self = Self { info, own, client: std::mem::take(&mut self.client), ..Self::default() };
        if let Some(database) = database {
            self.begin(&database);
        }
    }

    /// Value of a setting as text.
    ///
    /// # Errors
    /// 42704 for a name not listed.
    pub(crate) fn get(&self, name: &str, engine: &Engine) -> Result<String> {
        let name = named(name);
        if name.starts_with("datafusion.") {
            let mut config = engine.session_config();
            self.apply(&mut config);
            let found = config.options().entries().into_iter().find(|e| e.key == name);
            return found.map(|e| e.value.unwrap_or_default()).ok_or_else(|| unknown(name));
        }
        let options = engine.database().options();
        Ok(match find(name)?.name {
            "application_name" => self.info.session.clone(),
            "auto_compact" => (options.upkeep && options.compacts && !options.read_only).to_string(),
            "cache_size" => {
                let kept = options.cache_directory.as_ref().map_or(0, |_| options.cache_directory_bytes);
                kept.to_string()
            }
            "checkpoint_idle" => options.checkpoint_idle.map_or_else(|| "off".to_owned(), show_duration),
            "checkpoint_interval" => {
                options.checkpoint_interval.map_or_else(|| "off".to_owned(), show_duration)
            }
            "checkpoint_wal_bytes" => options.checkpoint_wal_bytes.to_string(),
            "column_cache_size" => engine.database().columns().limit_bytes().to_string(),
            "commit_id" => self.commit_id.map(|id| id.to_string()).unwrap_or_default(),
            "commit_message" => self.info.message.clone(),
            "commit_timeout" => show_duration(options.commit_timeout),
            "compact_round_bytes" => options.compact_round_bytes.to_string(),
            "compact_segment_bytes" => options.compact_segment_bytes.to_string(),
            "durability" => options.durability.as_str().to_owned(),
            "job_retention" => show_duration(options.job_retention),
            "job_timeout" => show_duration(options.job_timeout),
            "memory_limit" => engine.memory_limit().to_string(),
            "memtable_hard_bytes" => options.memtable_hard_bytes.to_string(),
            "memtable_soft_bytes" => options.memtable_soft_bytes.to_string(),
            "partitions" => self.partitions.unwrap_or_else(|| engine.partitions()).to_string(),
            "poll_interval" => show_duration(options.poll_interval),
            "read_only" => engine.database().is_read_only().to_string(),
            "reader_grace" => show_duration(options.reader_grace),
            "search_path" => self.search_path.clone(),
            "server_version" => env!("CARGO_PKG_VERSION").to_owned(),
            "statement_timeout" => self.statement_timeout.map_or_else(|| "0".to_owned(), show_duration),
            "sync" => match options.sync {
                SyncMode::Full => "full".to_owned(),
                SyncMode::Interval(every) => format!("interval {}", show_duration(every)),
                SyncMode::Off => "off".to_owned(),
            },
            "timezone" => {
                if self.timezone == zones::UTC {
                    "UTC".to_owned()
                } else {
                    self.timezone.clone()
                }
            }
            "upkeep" => (options.upkeep && !options.read_only).to_string(),
            "vector.recall_sample_rate" => self.recall_sample_rate.to_string(),
            "version_retention" => show_duration(options.version_retention),
            "wal_entry_bytes_max" => options.wal_entry_bytes_max.to_string(),
            other => return Err(unknown(other)),
        })
    }

    /// Puts the session's values into DataFusion's configuration.
    pub(crate) fn apply(&self, config: &mut SessionConfig) {
        config.set_extension(Arc::new(SampleRate(self.recall_sample_rate)));
        let options = config.options_mut();
        options.catalog.default_schema.clone_from(&self.search_path);
        // The catalog serves it (`catalog::information_schema`).
        options.catalog.information_schema = false;
        options.execution.time_zone = Some(self.timezone.clone());
        if let Some(partitions) = self.partitions {
            options.execution.target_partitions = partitions;
        }
        for (name, value) in &self.options {
            // Checked when it was set.
            let _ = options.set(name, value);
        }
    }
}

/// The zone of a configuration that [`Settings::apply`] made; None: UTC.
pub(crate) fn zone_of(options: &ConfigOptions) -> Option<Arc<str>> {
    options.execution.time_zone.as_deref().filter(|zone| !zones::is_utc(zone)).map(Into::into)
}

/// The name that the list has for it.
fn named(name: &str) -> &str {
    if name == "time_zone" { "timezone" } else { name }
}

fn find(name: &str) -> Result<&'static Setting> {
    SETTINGS.iter().find(|s| s.name == name).ok_or_else(|| unknown(name))
}

fn unknown(name: &str) -> Error {
    let names = SETTINGS.iter().map(|s| s.name).chain(DATAFUSION_OPTIONS.iter().copied());
    let hint = match crate::error::closest(name, names) {
        // What pgvector and others set for a session is said elsewhere here.
        _ if name.ends_with("ef_search") || name.starts_with("hnsw.") || name.starts_with("ivfflat.") => {
            "searches aim at target_recall of CREATE INDEX; vector_search(…, ef => 200) sets the width of one"
                .to_owned()
        }
        Some(near) => format!("did you mean {near}?"),
        None => "SHOW ALL lists the settings".to_owned(),
    };
    Error::new(ErrorKind::NotFound, format!("there is no setting {name}")).map(|e| e.with_hint(hint))
}

fn invalid(name: &str, value: &str, expected: &str) -> Error {
    Error::new(ErrorKind::InvalidInput, format!("'{value}' is not a value of {name}: {expected} is expected"))
        .map(|e| e.with_sqlstate("22023"))
}

/// Reads the id of a commit.
///
/// # Errors
/// 22023 when it is not a UUID.
pub(crate) fn commit_id(text: &str) -> Result<CommitId> {
    let id = uuid::Uuid::try_parse(text.trim()).ok().filter(|id| !id.is_nil());
    id.map(CommitId).ok_or_else(|| {
        let shown: String = text.chars().take(64).collect();
        Error::new(
            ErrorKind::InvalidInput,
            format!("'{shown}' is not the id of a commit: a UUID is expected"),
        )
        .map(|e| e.with_sqlstate("22023").with_hint("such as '6f1c9d0e-3a52-4d7e-9b1f-0c8a7e5d2b43'"))
    })
}

fn time_zone(value: &str) -> Result<String> {
    if value.eq_ignore_ascii_case("local") {
        return Ok(zones::UTC.to_owned());
    }
    zones::zone_named(value).map_err(|unknown| {
        let hint = match unknown.near {
            Some(near) => format!("did you mean '{near}'?"),
            None => "a zone is UTC, an offset such as '+02:00', or a name such as 'Europe/Zurich'".to_owned(),
        };
        let message = format!("'{}' is not a value of timezone: there is no such time zone", unknown.text);
        Error::new(ErrorKind::InvalidInput, message).map(|e| e.with_sqlstate("22023").with_hint(hint))
    })
}

/// Reads `4096`, `512 MiB`, `2GB`.
///
/// # Errors
/// 22023 when it is not a size.
pub fn parse_bytes(text: &str) -> Result<u64> {
    let text = text.trim();
    let digits = text.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(text.len());
    let bad = || {
        Error::new(ErrorKind::InvalidInput, format!("'{text}' is not a size"))
            .map(|e| e.with_sqlstate("22023").with_hint("write a number and a unit: 512 MiB, 2 GB"))
    };
    let number: f64 = text[..digits].parse().map_err(|_| bad())?;
    let unit: f64 = match text[digits..].trim().to_ascii_lowercase().as_str() {
        "" | "b" => 1.0,
        "kb" => 1e3,
        "mb" => 1e6,
        "gb" => 1e9,
        "tb" => 1e12,
        "kib" | "k" => 1024.0,
        "mib" | "m" => 1_048_576.0,
        "gib" | "g" => 1_073_741_824.0,
        _ => return Err(bad()),
    };
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "sizes saturate")]
    Ok((number * unit) as u64)
}

/// Reads `5`, `5 s`, `250ms`, `1 hour`, `24h`; a bare number counts `unit`s.
///
/// # Errors
/// 22023 when it is not a duration, or longer than 100 years.
pub fn parse_duration(text: &str, unit: Duration) -> Result<Duration> {
    let text = text.trim();
    let digits = text.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(text.len());
    let bad = || {
        Error::new(
            ErrorKind::InvalidInput,
            format!("'{text}' is not a duration such as '250ms', '5 s' or '1 h'"),
        )
        .map(|e| e.with_sqlstate("22023"))
    };
    let number: f64 = text[..digits].parse().map_err(|_| bad())?;
    let unit = match text[digits..].trim().to_ascii_lowercase().as_str() {
        "" => unit.as_secs_f64(),
        "ms" | "millisecond" | "milliseconds" => 0.001,
        "s" | "sec" | "second" | "seconds" => 1.0,
        "m" | "min" | "minute" | "minutes" => 60.0,
        "h" | "hour" | "hours" => 3_600.0,
        "d" | "day" | "days" => 86_400.0,
        _ => return Err(bad()),
    };
    let seconds = number * unit;
    if !(0.0..=100.0 * 365.25 * 86_400.0).contains(&seconds) {
        return Err(bad());
    }
    Duration::try_from_secs_f64(seconds).map_err(|_| bad())
}

/// A duration as [`parse_duration`] reads it: `250 ms`, `5 s`, `1 h`.
#[must_use]
pub fn show_duration(duration: Duration) -> String {
    let millis = duration.as_millis();
    match millis {
        0 => "0".to_owned(),
        ms if ms % 3_600_000 == 0 => format!("{} h", ms / 3_600_000),
        ms if ms % 60_000 == 0 => format!("{} min", ms / 60_000),
        ms if ms % 1_000 == 0 => format!("{} s", ms / 1_000),
        ms => format!("{ms} ms"),
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn durations() {
        for (text, millis) in [
            ("5", 5_000),
            ("250ms", 250),
            ("1.5 s", 1_500),
            ("2 min", 120_000),
            ("24h", 86_400_000),
            ("0", 0),
        ] {
            assert_eq!(parse_duration(text, Duration::from_secs(1)).unwrap().as_millis(), millis, "{text}");
        }
        for text in ["", "s", "-1", "5 parsecs", "1e99", "999999999 d"] {
            assert_eq!(
                parse_duration(text, Duration::from_secs(1)).unwrap_err().sqlstate(),
                "22023",
                "{text}"
            );
        }
    }

    #[test]
    fn settings_are_checked() {
        let mut settings = Settings::default();
        for (name, value, sqlstate) in [
            ("no_such", "1", "42704"),
            ("memory_limit", "1", "55P02"),
            ("timezone", "nowhere at all", "22023"),
            ("partitions", "0", "22023"),
            ("search_path", "a, b", "0A000"),
            ("datafusion.runtime.memory_limit", "1G", "42501"),
            ("datafusion.execution.batch_size", "many", "22023"),
            ("commit_id", "7", "22023"),
            ("commit_id", "00000000-0000-0000-0000-000000000000", "22023"),
        ] {
            assert_eq!(settings.set(name, Some(value)).unwrap_err().sqlstate(), sqlstate, "{name}");
        }
        settings.set("statement_timeout", Some("5 s")).unwrap();
        assert_eq!(settings.statement_timeout, Some(Duration::from_secs(5)));
        settings.set("statement_timeout", None).unwrap();
        assert_eq!(settings.statement_timeout, None);
        settings.set("time_zone", Some("europe/zurich")).unwrap();
        assert_eq!(settings.zone().as_deref(), Some("Europe/Zurich"));
        let unknown = settings.set("timezone", Some("Europe/Zurch")).unwrap_err();
        assert_eq!(unknown.hint(), Some("did you mean 'Europe/Zurich'?"));
        settings.set("time_zone", Some("UTC")).unwrap();
        assert_eq!(settings.zone(), None);
        settings.set("datafusion.execution.batch_size", Some("1024")).unwrap();
        assert!(SETTINGS.is_sorted_by_key(|s| s.name));
    }

    #[test]
    fn a_session_takes_what_the_database_gives() {
        let given = |name: &str, value: &str| (name.to_owned(), value.to_owned());
        let defaults = Defaults::from([
            given("statement_timeout", "7 s"),
            given("timezone", "+02:00"),
            given("no_longer", "1"),
            given("commit_message", "of nobody"),
        ]);
        let source = |settings: &Settings, name| settings.source(find(name).unwrap());
        let mut settings = Settings::default();
        settings.set("time_zone", Some("+05:00")).unwrap();
        settings.begin(&defaults);
        assert_eq!(settings.statement_timeout, Some(Duration::from_secs(7)));
        assert_eq!((settings.timezone.as_str(), settings.info.message.as_str()), ("+05:00", ""));
        assert_eq!(source(&settings, "statement_timeout"), "database");
        assert_eq!(source(&settings, "timezone"), "session");
        assert_eq!(source(&settings, "sync"), "open");
        assert_eq!(source(&settings, "partitions"), "default");
        // RESET gives what the session began with.
        settings.set("timezone", None).unwrap();
        settings.set("statement_timeout", Some("0")).unwrap();
        assert_eq!((settings.timezone.as_str(), source(&settings, "timezone")), ("+02:00", "database"));
        assert_eq!((settings.statement_timeout, source(&settings, "statement_timeout")), (None, "session"));
        settings.reset_all();
        assert_eq!(settings.statement_timeout, Some(Duration::from_secs(7)));
        for (name, value, sqlstate) in [
            ("no_such", Some("1"), "42704"),
            ("no_such", None, "42704"),
            ("memory_limit", Some("1"), "55P02"),
            ("commit_message", Some("x"), "55P02"),
            ("partitions", Some("0"), "22023"),
            ("datafusion.runtime.memory_limit", Some("1G"), "42501"),
        ] {
            let refused = Settings::for_database(name, value).unwrap_err();
            assert_eq!(refused.sqlstate(), sqlstate, "{name}");
        }
        let kept = Settings::for_database("search_path", Some(" \"app\" ")).unwrap();
        assert_eq!(kept, ("search_path".to_owned(), Some("app".to_owned())));
    }
}
