//! Every script of `slt/` gives the same results however its rows are kept.
//!
//! One test a mode; each script of a mode gets a new database. In a script `$DIR` is an empty directory of its own and
//! `$DATA` is `slt/data`. `CAIRN_SLT=<part of a name>` runs only the scripts with that part in their name.

#![allow(clippy::unwrap_used, clippy::print_stdout, reason = "test code: a panic is the report")]

use std::cmp::Reverse;
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use cairn_engine::{OpenOptions, Root};
use cairn_tests::served::Calls;
use cairn_tests::{Answer, Bucket, Connection, Follower, Kind, Served, SqlError, scratch};
use sqllogictest::{DB, DBOutput, Runner, strict_column_validator};
use tempfile::TempDir;

/// Scripts that begin and end transactions themselves, use what a transaction refuses, or show the row ids, versions, segments
/// and index units of every commit.
const NOT_WITHIN_TRANSACTIONS: [&str; 9] = [
    "compact",
    "jobs",
    "many_small_commits",
    "pseudo_columns",
    "system_tables",
    "transactions",
    "users",
    "vectors_search",
    "verify_checkpoint",
];

/// Scripts about what a session keeps in its memory.
const OF_ONE_SESSION: [&str; 1] = ["prepare"];

/// Scripts of which a server refuses what is no fault of its own.
const NOT_SERVED: [&str; 1] = [
    // From the first user on, nobody is let in without a password.
    "users",
];

/// Scripts that read no table, and take long: where rows are kept is nothing to them.
const WITHOUT_TABLES: [&str; 1] = ["large_values"];

/// Scripts of a mode that run at the same time: while one waits for the disk, another process or a server, the other goes on.
const AT_ONCE: usize = 2;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Mode {
    /// Rows stay in the memtable, unless the script says CHECKPOINT.
    Memtable,
    /// CHECKPOINT after every statement that writes.
    Checkpoint,
    /// Close and open after every statement that writes.
    Reopen,
    /// Drop without closing and open after every statement that writes: the WAL brings everything back.
    Recover,
    /// Queries go to a read-only process, at the version the writer has acknowledged.
    Follower,
    /// No directory at all.
    Memory,
    /// Everything within transactions, each committed after some statements that write.
    Transaction,
    /// Over Flight SQL, each statement sent as text.
    Flight,
    /// The same, each statement prepared first.
    FlightPrepared,
    /// On object storage, with a checkpoint after some statements that write, so that rows are read from there.
    Bucket,
}

#[test]
fn memtable_only() {
    run_all(Mode::Memtable);
}

#[test]
fn checkpoint_after_every_statement() {
    run_all(Mode::Checkpoint);
}

#[test]
fn reopen_after_every_statement() {
    run_all(Mode::Reopen);
}

#[test]
fn recover_after_every_statement() {
    run_all(Mode::Recover);
}

#[test]
fn read_only_process_at_the_acknowledged_version() {
    run_all(Mode::Follower);
}

#[test]
fn in_memory() {
    run_all(Mode::Memory);
}

#[test]
fn within_transactions() {
    run_all(Mode::Transaction);
}

#[test]
fn over_flight_sql() {
    run_all(Mode::Flight);
}

#[test]
fn over_flight_sql_prepared() {
    run_all(Mode::FlightPrepared);
}

#[test]
fn in_a_bucket() {
    if Bucket::start().is_some() {
        run_all(Mode::Bucket);
    }
}

fn run_all(mode: Mode) {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("slt");
    let only = std::env::var("CAIRN_SLT").unwrap_or_default();
    let mut scripts: Vec<PathBuf> =
        std::fs::read_dir(&folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    scripts.retain(|p| p.extension().is_some_and(|e| e == "slt") && p.to_string_lossy().contains(&only));
    assert!(!scripts.is_empty(), "no script matches {only:?}");
    // The longest first, so that none of them runs alone in the end.
    scripts.sort_by_cached_key(|p| (Reverse(std::fs::metadata(p).unwrap().len()), p.clone()));
    let (next, failures) = (AtomicUsize::new(0), Mutex::new(Vec::new()));
    let work = || {
        while let Some(script) = scripts.get(next.fetch_add(1, Ordering::Relaxed)) {
            let started = Instant::now();
            let name = script.file_stem().unwrap().to_string_lossy().into_owned();
            if is_left_out(mode, &name) {
                continue;
            }
            if let Err(failure) = run_script(mode, script, &folder.join("data")) {
                failures.lock().unwrap().push(format!("{name}: {failure}"));
            }
            println!("{mode:?} {name}: {:.2} s", started.elapsed().as_secs_f64());
        }
    };
    std::thread::scope(|scope| {
        for _ in 0..AT_ONCE {
            scope.spawn(work);
        }
    });
    let mut failures = failures.into_inner().unwrap();
    failures.sort();
    assert!(
        failures.is_empty(),
        "{mode:?}: {} of {} scripts fail\n\n{}",
        failures.len(),
        scripts.len(),
        failures.join("\n\n")
    );
}

fn is_left_out(mode: Mode, script: &str) -> bool {
    let left_out: &[&str] = match mode {
        Mode::Transaction => &NOT_WITHIN_TRANSACTIONS,
        Mode::Flight | Mode::FlightPrepared => &NOT_SERVED,
        Mode::Reopen | Mode::Recover | Mode::Follower => &OF_ONE_SESSION,
        _ => &[],
    };
    let keeps_rows = !matches!(mode, Mode::Memory | Mode::FlightPrepared);
    left_out.contains(&script) || keeps_rows && WITHOUT_TABLES.contains(&script)
}

fn run_script(mode: Mode, script: &Path, data: &Path) -> Result<(), String> {
    let mut runner = Runner::new(|| async { Subject::new(mode, data) });
    runner.with_column_validator(strict_column_validator);
    runner.add_label(&format!("{mode:?}").to_lowercase());
    let result = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| runner.run_file(script)));
    match result {
        Ok(result) => result.map_err(|error| error.to_string()),
        Err(_) => Err("a panic, see above".into()),
    }
}

/// What comes by itself after a while does not come within a script, however long that takes: some show segments, sizes and jobs.
fn at_rest(options: OpenOptions) -> OpenOptions {
    OpenOptions { compact_delay: Duration::from_secs(3_600), checkpoint_idle: None, ..options }
}

/// The database under test.
struct Subject {
    mode: Mode,
    home: TempDir,
    bucket: Option<Bucket>,
    data: PathBuf,
    connection: Option<Connection>,
    served: Option<Served>,
    follower: Option<Follower>,
    /// Statements that set up the session, run again after each reopening.
    session: Vec<String>,
    writes: usize,
}

impl Subject {
    fn new(mode: Mode, data: &Path) -> Result<Self, SqlError> {
        let home = scratch().map_err(SqlError::of_test)?;
        let mut subject = Self {
            mode,
            home,
            bucket: if mode == Mode::Bucket { Bucket::start() } else { None },
            data: data.to_path_buf(),
            connection: None,
            served: None,
            follower: None,
            session: Vec::new(),
            writes: 0,
        };
        std::fs::create_dir(subject.home.path().join("files")).map_err(SqlError::of_test)?;
        subject.open()?;
        if mode == Mode::Follower {
            let program = Path::new(env!("CARGO_BIN_EXE_cairn-test-process"));
            subject.follower = Some(Follower::start(program, &subject.root()).map_err(SqlError::of_test)?);
        }
        Ok(subject)
    }

    fn root(&self) -> PathBuf {
        self.home.path().join("db")
    }

    fn open(&mut self) -> Result<(), SqlError> {
        let connection = match (self.mode, &self.bucket) {
            (Mode::Memory, _) => Connection::open(Root::Memory, at_rest(OpenOptions::default()))?,
            (_, Some(bucket)) => {
                let (root, options) = bucket.database("db");
                Connection::open(root, at_rest(options))?
            }
            _ => Connection::open_dir(&self.root(), &at_rest(OpenOptions::default()))?,
        };
        for statement in &self.session {
            connection.run(statement)?;
        }
        if self.mode == Mode::Transaction {
            connection.run("BEGIN")?;
        }
        let calls = match self.mode {
            Mode::Flight => Some(Calls::Plain),
            Mode::FlightPrepared => Some(Calls::Prepared),
            _ => None,
        };
        if let Some(calls) = calls {
            let engine = connection.engine().clone();
            self.served = Some(connection.block_on(Served::start(engine, calls))?);
        }
        self.connection = Some(connection);
        Ok(())
    }

    fn here(&self) -> Result<&Connection, SqlError> {
        self.connection.as_ref().ok_or_else(|| SqlError::of_test("did not open again"))
    }

    /// Runs a statement in the session under test.
    fn run_here(&mut self, sql: &str) -> Result<Answer, SqlError> {
        match (&mut self.served, &self.connection) {
            (Some(served), Some(connection)) => connection.block_on(served.run(sql)),
            _ => self.here()?.run(sql),
        }
    }

    /// Runs a statement that only reads.
    fn read(&mut self, sql: &str) -> Result<Answer, SqlError> {
        let version = if self.follower.is_some() { self.here()?.version() } else { 0 };
        let uncommitted = self.here()?.in_transaction();
        match &mut self.follower {
            Some(follower) if !uncommitted => follower.run(sql, version),
            _ => self.run_here(sql),
        }
    }

    /// Runs a statement that writes, then what the mode does after it, failed or not.
    fn write(&mut self, sql: &str) -> Result<Answer, SqlError> {
        let answer = self.run_here(sql);
        self.writes += 1;
        let open = self.here()?.in_transaction();
        match self.mode {
            Mode::Memtable | Mode::Memory | Mode::Flight | Mode::FlightPrepared => {}
            Mode::Transaction if open && self.writes.is_multiple_of(5) => {
                self.here()?.run("COMMIT")?;
                self.here()?.run("BEGIN")?;
            }
            Mode::Transaction => {
                if !open {
                    self.here()?.run("BEGIN")?;
                }
            }
            // It would end the script's transaction.
            Mode::Reopen | Mode::Recover if open => {}
            Mode::Checkpoint => drop(self.here()?.run("CHECKPOINT")?),
            // The follower must also follow from manifest to manifest.
            Mode::Follower if self.writes.is_multiple_of(3) => drop(self.here()?.run("CHECKPOINT")?),
            Mode::Bucket if self.writes.is_multiple_of(5) => drop(self.here()?.run("CHECKPOINT")?),
            Mode::Follower | Mode::Bucket => {}
            Mode::Reopen => {
                if let Some(connection) = self.connection.take() {
                    connection.close()?;
                }
                self.open()?;
            }
            Mode::Recover => {
                if let Some(connection) = self.connection.take() {
                    connection.abandon();
                }
                self.open()?;
            }
        }
        answer
    }
}

/// The setting that a USE, SET or RESET changes.
fn setting(sql: &str) -> String {
    let words: Vec<&str> = sql.split([' ', '=']).filter(|word| !word.is_empty()).collect();
    match words[..] {
        [_, name, ..] if !words[0].eq_ignore_ascii_case("use") => name.to_ascii_lowercase(),
        _ => "search_path".into(),
    }
}

impl DB for Subject {
    type Error = SqlError;
    type ColumnType = Kind;

    fn run(&mut self, sql: &str) -> Result<DBOutput<Kind>, SqlError> {
        let sql = sql
            .replace("$DIR", &self.home.path().join("files").to_string_lossy())
            .replace("$DATA", &self.data.to_string_lossy());
        let word = sql
            .trim_start_matches(['(', ' ', '\n'])
            .split_whitespace()
            .next()
            .unwrap_or("")
            .to_ascii_uppercase();
        let changes = |verb| sql.to_ascii_uppercase().contains(verb);
        let writes = word == "WITH" && ["INSERT INTO", ") UPDATE", ") DELETE"].into_iter().any(changes);
        let answer = match word.as_str() {
            "WITH" if writes => self.write(&sql),
            "SET" | "RESET" if changes("FOR DATABASE") => self.write(&sql),
            "USE" | "SET" | "RESET" => {
                let answer = self.run_here(&sql);
                if answer.is_ok() {
                    // Only the last value of each setting: an earlier one may name a schema that is gone.
                    self.session.retain(|earlier| setting(earlier) != setting(&sql));
                    self.session.push(sql.clone());
                    if self.follower.is_some() {
                        self.read(&sql)?;
                    }
                }
                answer
            }
            "SELECT" | "WITH" | "VALUES" | "TABLE" | "SHOW" | "DESCRIBE" | "DESC" | "EXPLAIN" => {
                self.read(&sql)
            }
            _ => self.write(&sql),
        }?;
        Ok(match answer {
            Answer::Rows { kinds, rows, .. } => DBOutput::Rows { types: kinds, rows },
            Answer::Affected(rows) => DBOutput::StatementComplete(rows),
            Answer::Done => DBOutput::StatementComplete(0),
        })
    }

    fn shutdown(&mut self) {
        self.follower = None;
        if let Some(connection) = self.connection.take() {
            if let Some(served) = self.served.take() {
                connection.block_on(served.stop()).unwrap();
            }
            let _ = connection.close();
        }
    }

    fn engine_name(&self) -> &str {
        "cairn"
    }

    fn error_sql_state(error: &SqlError) -> Option<String> {
        Some(error.sqlstate.clone())
    }
}
