//! The log of statements: who ran what, when, from where, for how long, and how it ended; and of logins that failed.
//!
//! Owns: one line of JSON for each statement, appended to a file; another file for slow ones. Does not own: what is told (`cairn_engine::StatementLog`, never a
//! literal; `refusals`), rotation: the file is opened anew when it was renamed or removed, so any tool that rotates will do.

use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use cairn_engine::{Result, StatementLog, StatementRecord};
use cairn_storage::metrics::Counter;
use serde_json::json;

use crate::options::ServerOptions;

/// How often it is looked whether a file is still where it was.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// The files of a server.
#[derive(Debug)]
pub(crate) struct StatementFiles {
    audit: Option<StatementFile>,
    slow: Option<StatementFile>,
    lost: Counter,
}

/// Logins of one user from one address that failed.
#[derive(Debug)]
pub(crate) struct FailedLogins<'a> {
    pub(crate) user: &'a str,
    pub(crate) client: &'a str,
    /// SQLSTATE and message of the last one.
    pub(crate) outcome: &'static str,
    pub(crate) reason: &'a str,
    pub(crate) count: u64,
}

impl StatementFiles {
    /// Opens the files of `options`, which are made when they are not there.
    ///
    /// # Errors
    /// When one can't be opened.
    pub(crate) fn open(options: &ServerOptions) -> Result<Self> {
        let open = |path: &Option<PathBuf>, least| {
            path.as_deref().map(|path| StatementFile::open(path, least)).transpose()
        };
        let audit = open(&options.audit_log, Duration::ZERO)?;
        let slow = open(&options.slow_log, options.slow_min)?;
        Ok(Self { audit, slow, lost: Counter::default() })
    }

    /// Whether nobody keeps account.
    pub(crate) fn is_empty(&self) -> bool {
        self.files().next().is_none()
    }

    /// Tells of logins that failed, whoever reads the audit log.
    pub(crate) fn logins_failed(&self, logins: &FailedLogins<'_>) {
        if let Some(audit) = &self.audit {
            self.write(audit, &login_line(logins));
        }
    }

    /// Lines that could not be written.
    pub(crate) fn lost(&self) -> u64 {
        self.lost.value()
    }

    fn files(&self) -> impl Iterator<Item = &StatementFile> {
        self.audit.iter().chain(&self.slow)
    }

    fn write(&self, file: &StatementFile, line: &[u8]) {
        if file.write(line).is_err() {
            // What is told of is done whether or not a disk has room for its line.
            self.lost.one();
        }
    }
}

impl StatementLog for StatementFiles {
    fn least(&self) -> Duration {
        self.files().map(|file| file.least).min().unwrap_or(Duration::MAX)
    }

    fn ended(&self, record: &StatementRecord) {
        let line = line(record);
        self.files().filter(|file| record.took >= file.least).for_each(|file| self.write(file, &line));
    }
}

/// One file, for statements that took `least` or longer.
#[derive(Debug)]
struct StatementFile {
    path: PathBuf,
    least: Duration,
    open: Mutex<Open>,
}

#[derive(Debug)]
struct Open {
    file: File,
    looked: Instant,
}

impl StatementFile {
    fn open(path: &Path, least: Duration) -> Result<Self> {
        let file =
            append(path).map_err(|e| cairn_storage::Error::io(format!("opening '{}'", path.display()), e))?;
        let open = Open { file, looked: Instant::now() };
        Ok(Self { path: path.to_path_buf(), least, open: Mutex::new(open) })
    }

    fn write(&self, line: &[u8]) -> io::Result<()> {
        // A panic while it was held can at worst have cost its own line.
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        if open.looked.elapsed() >= LOOK_EVERY {
            open.looked = Instant::now();
            if !is_same(&open.file, &self.path) {
                open.file = append(&self.path)?;
            }
        }
        open.file.write_all(line)
    }
}

/// For its owner alone: names of tables and users stand in it.
fn append(path: &Path) -> io::Result<File> {
    let mut options = OpenOptions::new();
    options.append(true).create(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    options.open(path)
}

#[cfg(unix)]
fn is_same(file: &File, path: &Path) -> bool {
    use std::os::unix::fs::MetadataExt;
    match (file.metadata(), std::fs::metadata(path)) {
        (Ok(open), Ok(named)) => (open.dev(), open.ino()) == (named.dev(), named.ino()),
        _ => false,
    }
}

#[cfg(not(unix))]
fn is_same(_: &File, path: &Path) -> bool {
    path.exists()
}

fn line(record: &StatementRecord) -> Vec<u8> {
    let line = json!({
        "time": moment(record.begun),
        "user": record.user,
        "client": record.client,
        "kind": record.kind.name(),
        "statement": record.fingerprint,
        "tables": record.tables,
        "rows": record.rows,
        "ms": (record.took.as_secs_f64() * 1e6).round() / 1e3,
        "outcome": record.error.unwrap_or("ok"),
    });
    format!("{line}\n").into_bytes()
}

fn login_line(logins: &FailedLogins<'_>) -> Vec<u8> {
    let line = json!({
        "time": moment(SystemTime::now()),
        "user": logins.user,
        "client": logins.client,
        "kind": "login",
        "outcome": logins.outcome,
        "reason": logins.reason,
        "count": logins.count,
    });
    format!("{line}\n").into_bytes()
}

fn moment(time: SystemTime) -> String {
    let since = time.duration_since(UNIX_EPOCH).unwrap_or_default();
    let micros = i64::try_from(since.as_micros()).unwrap_or(i64::MAX);
    let moment = chrono::DateTime::from_timestamp_micros(micros).unwrap_or_default();
    moment.to_rfc3339_opts(chrono::SecondsFormat::Micros, true)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use cairn_engine::StatementKind;

    use super::*;

    fn record(user: &str) -> StatementRecord {
        StatementRecord {
            begun: UNIX_EPOCH + Duration::from_millis(1_500),
            took: Duration::from_micros(1_234),
            user: user.to_owned(),
            client: "127.0.0.1:5".to_owned(),
            kind: StatementKind::Select,
            fingerprint: "SELECT ?".to_owned(),
            tables: vec!["t".to_owned()],
            rows: 3,
            error: None,
        }
    }

    #[test]
    fn a_line_is_json() {
        assert_eq!(
            String::from_utf8(line(&record("a\"b\n"))).unwrap(),
            "{\"client\":\"127.0.0.1:5\",\"kind\":\"select\",\"ms\":1.234,\"outcome\":\"ok\",\"rows\":3,\
             \"statement\":\"SELECT ?\",\"tables\":[\"t\"],\"time\":\"1970-01-01T00:00:01.500000Z\",\
             \"user\":\"a\\\"b\\n\"}\n"
        );
        let failed = StatementRecord { error: Some("57014"), begun: SystemTime::now(), ..record("") };
        assert!(String::from_utf8(line(&failed)).unwrap().contains("\"outcome\":\"57014\""));
    }

    #[test]
    fn a_renamed_file_is_left_to_its_reader() {
        let folder = std::env::temp_dir().join(format!("cairn-audit-{:x}", rand::random::<u64>()));
        std::fs::create_dir(&folder).unwrap();
        let (path, old) = (folder.join("log"), folder.join("log.1"));
        let slow = folder.join("slow");
        let log = StatementFiles::open(&ServerOptions {
            audit_log: Some(path.clone()),
            slow_log: Some(slow.clone()),
            ..ServerOptions::default()
        });
        let log = log.unwrap();
        assert_eq!(log.least(), Duration::ZERO);
        log.ended(&record("one"));
        std::fs::rename(&path, &old).unwrap();
        log.audit.as_ref().unwrap().open.lock().unwrap().looked -= LOOK_EVERY;
        log.ended(&record("two"));
        log.ended(&StatementRecord { took: Duration::from_secs(2), ..record("slow") });
        let user = |path: &Path| {
            let text = std::fs::read_to_string(path).unwrap();
            let line: serde_json::Value = serde_json::from_str(text.lines().next().unwrap()).unwrap();
            line["user"].as_str().unwrap().to_owned()
        };
        assert_eq!((user(&old), user(&path), user(&slow)), ("one".into(), "two".into(), "slow".into()));
        assert_eq!(log.lost(), 0);
        std::fs::remove_dir_all(&folder).unwrap();
    }
}
