//! How long queries take while nothing else goes on, during checkpoints and during compactions.
//!
//! One session asks, one after the other, a row by its key, a sum over a range of keys, and groups of the whole table. Another one, in the second
//! half, changes rows, and runs CHECKPOINT and COMPACT over and over. A query counts where it overlaps one of these; what overlaps
//! the changes alone counts nowhere.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU8, Ordering};
use std::time::{Duration, Instant};

use cairn_engine::OpenOptions;
use clap::Args;
use datafusion::common::ScalarValue;
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use serde_json::json;

use crate::data::Home;
use crate::database::Bench;
use crate::{Result, millis};

/// Keys of a range.
const RANGE: i64 = 10_000;
/// Rows of one of the changes before a checkpoint; so few that they go to memory and not to a segment of their own.
const CHANGED: i64 = 100_000;
const CHANGES: i64 = 3;
/// Queries of each kind that are not measured, at the beginning.
const WARM_UP: usize = 50;

const LOOKUP: &str = "SELECT v, s FROM t WHERE id = $1";
const SUM: &str = "SELECT max(v), count(*) FROM t WHERE id BETWEEN $1 AND $2 AND s <> 'x'";
const GROUPS: &str = "SELECT v % 10, count(*), max(s) FROM t GROUP BY 1";

/// What goes on.
const NOTHING: u8 = 0;
const CHANGING: u8 = 1;
const CHECKPOINT: u8 = 2;
const COMPACTION: u8 = 3;

/// How much is asked.
#[derive(Args)]
pub(crate) struct Options {
    /// Rows of the table.
    #[arg(long, default_value_t = 3_000_000)]
    rows: i64,
    /// Queries of each kind while nothing else goes on, and at least so many during checkpoints and during compactions.
    #[arg(long, default_value_t = 500)]
    count: usize,
    /// Longest time of the second half, in seconds.
    #[arg(long, default_value_t = 900)]
    seconds: u64,
}

/// Milliseconds of the queries of one kind, by what went on.
#[derive(Default)]
struct Times([Vec<f64>; 4]);

impl Times {
    /// The time below which this share of them is.
    fn at(&self, phase: u8, share: f64) -> Option<f64> {
        let times = self.0.get(usize::from(phase))?;
        times.get((times.len() as f64 * share) as usize).copied()
    }
}

/// Asks with and without upkeep beside; one line for each kind of query.
pub(crate) async fn run(home: &Home, options: &Options) -> Result<()> {
    let folder = tempfile::tempdir_in(home.folder())?;
    // So that nothing runs but what is told to.
    let storage = OpenOptions { upkeep: false, version_retention: Duration::ZERO, ..OpenOptions::default() };
    let db = Bench::open(&folder.path().join("db"), storage).await?;
    db.run("CREATE TABLE t (id BIGINT PRIMARY KEY, v BIGINT NOT NULL, s TEXT NOT NULL)").await?;
    let rows = options.rows.max(CHANGED);
    db.run(&format!(
        "INSERT INTO t SELECT i, i * 7, 'a row of some length ' || CAST(i AS TEXT) FROM range({rows}) AS r(i)"
    ))
    .await?;
    db.run("CHECKPOINT").await?;
    db.run("COMPACT").await?;

    let mut times: [Times; 3] = Default::default();
    let phase = Arc::new(AtomicU8::new(NOTHING));
    let mut random = StdRng::seed_from_u64(1);
    for _ in 0..WARM_UP {
        ask(&db, &mut random, rows, &phase, &mut Default::default()).await?;
    }
    for _ in 0..options.count {
        ask(&db, &mut random, rows, &phase, &mut times).await?;
    }
    let stopped = Arc::new(AtomicBool::new(false));
    let upkeep = tokio::spawn({
        let (db, phase, stopped) = (db.beside(), Arc::clone(&phase), Arc::clone(&stopped));
        async move { keep_up(&db, rows, &phase, &stopped).await }
    });
    let started = Instant::now();
    let enough = |times: &[Times; 3]| {
        let counts = |phase: u8| times.iter().map(move |kind| kind.0[usize::from(phase)].len());
        counts(CHECKPOINT).chain(counts(COMPACTION)).all(|count| count >= options.count)
    };
    while !enough(&times) && started.elapsed() < Duration::from_secs(options.seconds) && !upkeep.is_finished()
    {
        ask(&db, &mut random, rows, &phase, &mut times).await?;
    }
    stopped.store(true, Ordering::Relaxed);
    upkeep.await??;
    for (kind, mut times) in ["lookup", "range", "groups"].into_iter().zip(times) {
        times.0.iter_mut().for_each(|times| times.sort_by(f64::total_cmp));
        let of = |phase: u8| {
            let count = times.0[usize::from(phase)].len();
            json!({ "queries": count, "p50_ms": times.at(phase, 0.5), "p99_ms": times.at(phase, 0.99) })
        };
        let line = json!({
            "kind": kind,
            "idle": of(NOTHING),
            "checkpoint": of(CHECKPOINT),
            "compaction": of(COMPACTION),
        });
        println!("{line}");
    }
    db.close().await
}

/// One query of each kind.
async fn ask(
    db: &Bench,
    random: &mut StdRng,
    rows: i64,
    phase: &AtomicU8,
    times: &mut [Times; 3],
) -> Result<()> {
    let key = random.random_range(0..rows - RANGE);
    let (first, last) = (ScalarValue::from(key), ScalarValue::from(key + RANGE));
    for (kind, (sql, values, expected)) in
        [(LOOKUP, vec![first.clone()], 1), (SUM, vec![first, last], 1), (GROUPS, Vec::new(), 10)]
            .into_iter()
            .enumerate()
    {
        let before = phase.load(Ordering::Relaxed);
        let started = Instant::now();
        let found = if values.is_empty() { db.run(sql).await? } else { db.run_with(sql, values).await? };
        let took = millis(started);
        if found != expected {
            return Err(format!("{sql} gave {found} rows, not {expected}").into());
        }
        let during = before.max(phase.load(Ordering::Relaxed));
        if during != CHANGING {
            times[kind].0[usize::from(during)].push(took);
        }
    }
    Ok(())
}

/// Changes rows and tidies up, until it is told to stop.
async fn keep_up(db: &Bench, rows: i64, phase: &AtomicU8, stopped: &AtomicBool) -> Result<()> {
    let mut random = StdRng::seed_from_u64(2);
    while !stopped.load(Ordering::Relaxed) {
        phase.store(CHANGING, Ordering::Relaxed);
        for _ in 0..CHANGES {
            let first = random.random_range(0..=rows - CHANGED);
            let last = first + CHANGED - 1;
            db.run(&format!("UPDATE t SET v = v + 1 WHERE id BETWEEN {first} AND {last}")).await?;
        }
        for (what, statement) in [(CHECKPOINT, "CHECKPOINT"), (COMPACTION, "COMPACT TABLE t")] {
            phase.store(what, Ordering::Relaxed);
            db.run(statement).await?;
            phase.store(CHANGING, Ordering::Relaxed);
        }
    }
    Ok(())
}
