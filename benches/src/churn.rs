//! What a long run of small changes leaves behind with nobody's help, beside a fresh load of the rows that are left.
//!
//! Both databases keep no columns decoded, so that a scan reads what is there.

use std::collections::BTreeMap;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use cairn_engine::OpenOptions;
use clap::Args;
use datafusion::common::ScalarValue;
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use serde_json::{Value, json};

use crate::data::Home;
use crate::database::Bench;
use crate::{Result, millis};

const CREATE: &str = "CREATE TABLE t (id BIGINT PRIMARY KEY, v BIGINT NOT NULL, s TEXT NOT NULL)";
const SCAN: &str = "SELECT count(*), sum(v), max(s) FROM t";
/// Of so many rows that a connection inserts one is deleted, and three are updated.
const GROUP: usize = 10;
const UPDATES: usize = 3;
/// Nothing goes on when no file has changed for so long: a database at rest takes up to 20 s to notice that it is.
const QUIET_FOR: Duration = Duration::from_secs(40);
/// Longest wait until nothing goes on.
const QUIET_MAX: Duration = Duration::from_secs(900);
/// Scans that are not measured, at the beginning.
const WARM_UP: usize = 1;

/// How much is changed.
#[derive(Args)]
pub(crate) struct Options {
    /// Rows that are inserted, each by a statement; three in ten are updated and one in ten is deleted, by key.
    #[arg(long, default_value_t = 1_000_000)]
    rows: usize,
    /// Connections that do it.
    #[arg(long, default_value_t = 16)]
    connections: usize,
    /// Measured scans of each side.
    #[arg(long, default_value_t = 11)]
    scans: usize,
    /// Seconds for which old versions of rows are kept; the space of those is no waste.
    #[arg(long, default_value_t = 0)]
    retention: u64,
}

/// Changes, waits, loads and scans; one line.
pub(crate) async fn run(home: &Home, options: &Options) -> Result<()> {
    let folder = tempfile::tempdir_in(home.folder())?;
    let storage = OpenOptions {
        column_cache_bytes: Some(0),
        version_retention: Duration::from_secs(options.retention),
        ..OpenOptions::default()
    };
    let path = folder.path().join("changed.db");
    let db = Bench::open(&path, storage.clone()).await?;
    db.run(CREATE).await?;
    let started = Instant::now();
    let commits = change(&db, options).await?;
    let seconds = started.elapsed().as_secs_f64();
    let quiet_after = quiet(&path).await?;
    let rows = db.run("SELECT id FROM t").await?;
    let connections = options.connections.max(1);
    let groups = options.rows / connections / GROUP;
    let expected = groups * connections * (GROUP - 1);
    if rows != expected as u64 {
        return Err(format!("{rows} rows are left, not {expected}").into());
    }

    let file = folder.path().join("rows.parquet");
    db.run(&format!("COPY t TO '{}'", file.display())).await?;
    let fresh_path = folder.path().join("fresh.db");
    let fresh = Bench::open(&fresh_path, storage).await?;
    fresh.run(CREATE).await?;
    fresh.run(&format!("COPY t FROM '{}'", file.display())).await?;
    fresh.run("CHECKPOINT").await?;

    let (mut ours, mut theirs) = (Vec::new(), Vec::new());
    for number in 0..WARM_UP + options.scans {
        for (db, times) in [(&db, &mut ours), (&fresh, &mut theirs)] {
            let started = Instant::now();
            db.run(SCAN).await?;
            if number >= WARM_UP {
                times.push(millis(started));
            }
        }
    }
    let (ours, theirs) = (held(&db, &path, ours).await?, held(&fresh, &fresh_path, theirs).await?);
    let line = json!({
        "commits": commits,
        "seconds": seconds,
        "quiet_after": quiet_after.as_secs_f64(),
        "rows": rows,
        "ours": ours,
        "fresh": theirs,
    });
    println!("{line}");
    fresh.close().await?;
    db.close().await
}

/// Runs the statements, on all connections at the same time; how many there were.
async fn change(db: &Bench, options: &Options) -> Result<usize> {
    let connections = options.connections.max(1);
    let groups = options.rows / connections / GROUP;
    let mut running = Vec::with_capacity(connections);
    for connection in 0..connections {
        let session = db.beside();
        running
            .push(tokio::spawn(async move { change_own(&session, connection, connections, groups).await }));
    }
    let mut commits = 0;
    for connection in running {
        commits += connection.await??;
    }
    Ok(commits)
}

/// The part of one connection: keys of its own, so that none waits for another's.
async fn change_own(db: &Bench, connection: usize, connections: usize, groups: usize) -> Result<usize> {
    let mut random = StdRng::seed_from_u64(connection as u64);
    let key = |number: usize| i64::try_from(number * connections + connection).map(ScalarValue::from);
    let mut commits = 0;
    for group in 0..2 * groups {
        // What is deleted was inserted long before: it is in a segment by then.
        if group < groups {
            for number in group * GROUP..(group + 1) * GROUP {
                let text = ScalarValue::from(format!("a row of some length {number}"));
                let values = vec![key(number)?, ScalarValue::from(i64::try_from(number * 7)?), text];
                commits += one(db, "INSERT INTO t VALUES ($1, $2, $3)", values).await?;
            }
            for _ in 0..UPDATES {
                // Not the first of a group, which is the one that is deleted.
                let number = random.random_range(0..=group) * GROUP + random.random_range(1..GROUP);
                let values = vec![key(number)?, ScalarValue::from(random.random_range(0..1_000_000_000_i64))];
                commits += one(db, "UPDATE t SET v = $2 WHERE id = $1", values).await?;
            }
        }
        if group % 2 == 1 {
            commits += one(db, "DELETE FROM t WHERE id = $1", vec![key(group / 2 * GROUP)?]).await?;
        }
    }
    Ok(commits)
}

/// Runs a statement that changes one row.
async fn one(db: &Bench, sql: &str, values: Vec<ScalarValue>) -> Result<usize> {
    match db.run_with(sql, values).await? {
        1 => Ok(1),
        rows => Err(format!("{sql} met {rows} rows").into()),
    }
}

/// Waits until no file of a database changes any more; for how long they did.
async fn quiet(path: &Path) -> Result<Duration> {
    let started = Instant::now();
    let mut before = files(path)?;
    let mut changed = started;
    while changed.elapsed() < QUIET_FOR {
        if started.elapsed() > QUIET_MAX {
            return Err(format!("something goes on after {QUIET_MAX:?}").into());
        }
        tokio::time::sleep(Duration::from_secs(1)).await;
        let now = files(path)?;
        if now != before {
            (before, changed) = (now, Instant::now());
        }
    }
    Ok(changed - started)
}

/// What a database takes, and how fast it is scanned.
async fn held(db: &Bench, path: &Path, scan_ms: Vec<f64>) -> Result<Value> {
    let segments = db.run("SELECT segment FROM system.segments WHERE table_name = 't'").await?;
    let files = files(path)?;
    let bytes: u64 = files.values().sum();
    Ok(json!({ "segments": segments, "files": files.len(), "bytes": bytes, "scan_ms": scan_ms }))
}

/// Every file of a folder with its length; what goes meanwhile is left out.
fn files(folder: &Path) -> Result<BTreeMap<PathBuf, u64>> {
    let mut found = BTreeMap::new();
    let mut folders = vec![folder.to_path_buf()];
    while let Some(folder) = folders.pop() {
        let entries = match std::fs::read_dir(&folder) {
            Err(error) if error.kind() == ErrorKind::NotFound => continue,
            entries => entries?,
        };
        for entry in entries {
            let entry = entry?;
            match entry.metadata() {
                Err(error) if error.kind() == ErrorKind::NotFound => {}
                meta => {
                    let meta = meta?;
                    if meta.is_dir() {
                        folders.push(entry.path());
                    } else {
                        found.insert(entry.path(), meta.len());
                    }
                }
            }
        }
    }
    Ok(found)
}
