//! Sessions that insert single rows at the same time: how long a durable commit takes, and what it costs.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Instant;

use cairn_engine::OpenOptions;
use datafusion::object_store::memory::InMemory;

use super::traffic::Counts;
use super::{Bar, Distant, open};
use crate::database::Bench;
use crate::{Result, millis};

/// Rows of a session that are not measured, at the beginning.
const WARM_UP: usize = 20;
/// Rows of one round of `commit`.
const COMMITS: usize = 20_000;
/// Rows of a round of one session alone.
const COMMITS_ALONE: usize = 100;
/// Rows that the price is for.
const MILLION: f64 = 1e6;
/// Dollars for a thousand PUT requests.
const PRICE: f64 = 0.005;

/// What was measured of one run.
struct Run {
    commits: usize,
    seconds: f64,
    /// Of each commit, in order of size.
    ms: Vec<f64>,
    /// Until the last commit.
    counts: Counts,
    /// Of closing.
    closing: Counts,
}

impl Run {
    fn at(&self, part: f64) -> f64 {
        self.ms.get((self.ms.len() as f64 * part) as usize).copied().unwrap_or(f64::NAN)
    }

    fn per_second(&self) -> f64 {
        self.commits as f64 / self.seconds
    }
}

/// Latency and throughput, of all sessions and of one.
pub(super) async fn commits(bench: &Distant<'_>) -> Result<()> {
    let figure = "commit";
    let all = (bench.options.writers, COMMITS, Bar::AtMost(60.0), Bar::AtLeast(2000.0));
    let alone = (1, COMMITS_ALONE, Bar::None, Bar::None);
    for (writers, rows, latency, throughput) in [all, alone] {
        let mut runs = Vec::with_capacity(bench.options.rounds);
        for _ in 0..bench.options.rounds {
            runs.push(write(bench, writers, rows).await?);
        }
        let last = runs.last().ok_or("no round")?;
        let with = format!(
            "{writers} sessions, INSERT of one row into a table with a key, {rows} commits; the last round with {}",
            last.counts.text()
        );
        let print = |what: &str, value: &dyn Fn(&Run) -> f64, bar: Bar| {
            bench.print(figure, what, &runs.iter().map(value).collect::<Vec<_>>(), bar, &with);
        };
        print("ms of a commit, 50th percentile", &|run: &Run| run.at(0.5), latency);
        print("ms of a commit, 99th percentile", &|run: &Run| run.at(0.99), Bar::None);
        print("commits a second", &Run::per_second, throughput);
    }
    Ok(())
}

/// Requests of a million rows, from those of as many as asked for.
pub(super) async fn inserts(bench: &Distant<'_>) -> Result<()> {
    let figure = "inserts";
    let (writers, rows) = (bench.options.writers, bench.options.rows);
    let run = write(bench, writers, rows).await?;
    let puts = (run.counts.puts + run.closing.puts) as f64;
    let scaled = puts * MILLION / rows as f64;
    let with = format!(
        "{writers} sessions, INSERT of one row, {rows} commits in {:.1} s, then closed: {}; closing: {}",
        run.seconds,
        run.counts.text(),
        run.closing.text()
    );
    bench.print(figure, &format!("PUT requests of {rows} rows"), &[puts], Bar::None, &with);
    let with = format!("{puts} PUT requests of {rows} rows, times {}", MILLION / rows as f64);
    bench.print(figure, "PUT requests of 1,000,000 rows", &[scaled.round()], Bar::None, &with);
    let dollars = scaled / 1000.0 * PRICE;
    bench.print(figure, "dollars for them, at 0.005 for 1,000", &[dollars], Bar::None, &with);
    Ok(())
}

/// `rows` rows by `writers` sessions into a new database, each row a statement.
async fn write(bench: &Distant<'_>, writers: usize, rows: usize) -> Result<Run> {
    let slow = bench.slow(Arc::new(InMemory::new()));
    let db = open(slow.clone(), OpenOptions::default()).await?;
    db.run("CREATE TABLE t (id BIGINT PRIMARY KEY, v BIGINT NOT NULL, s TEXT NOT NULL)").await?;
    let next = Arc::new(AtomicUsize::new(0));
    let warm = writers * WARM_UP;
    insert(&db, &next, writers, warm).await?;
    next.store(warm, Ordering::Relaxed);
    slow.take();
    let started = Instant::now();
    let mut ms = insert(&db, &next, writers, warm + rows).await?;
    let seconds = started.elapsed().as_secs_f64();
    let counts = slow.take();
    ms.sort_by(f64::total_cmp);
    db.close().await?;
    Ok(Run { commits: rows, seconds, ms, counts, closing: slow.take() })
}

/// Inserts the rows from `next` up to `end`; milliseconds of each.
async fn insert(db: &Bench, next: &Arc<AtomicUsize>, writers: usize, end: usize) -> Result<Vec<f64>> {
    let mut sessions = Vec::with_capacity(writers);
    for _ in 0..writers {
        let (db, next) = (db.beside(), Arc::clone(next));
        sessions.push(tokio::spawn(async move {
            let mut ms = Vec::new();
            loop {
                let id = next.fetch_add(1, Ordering::Relaxed);
                if id >= end {
                    return Result::Ok(ms);
                }
                let sql = format!("INSERT INTO t VALUES ({id}, {}, 'a row of some length {id}')", id * 7);
                let started = Instant::now();
                db.run(&sql).await?;
                ms.push(millis(started));
            }
        }));
    }
    let mut ms = Vec::new();
    for session in sessions {
        ms.extend(session.await??);
    }
    Ok(ms)
}
