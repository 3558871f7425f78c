//! Databases on an object store that is far away: how many requests, bytes and seconds reading and committing take.
//!
//! Owns: which figures there are, their bars, how they are printed. The store is in memory behind a wait for each request
//! ([`SlowStore`]); databases are loaded without the wait and kept on disk between runs (`kept`).

mod days;
mod kept;
mod lookup;
mod slow;
mod tpch;
mod traffic;
mod writers;

use std::sync::Arc;
use std::time::Duration;

use cairn_engine::{OpenOptions, Root};
use clap::{Args, ValueEnum};
use datafusion::object_store::ObjectStore;
use serde_json::{Value, json};

use crate::Result;
use crate::data::Home;
use crate::database::Bench;
use slow::{Pace, SlowStore};

/// What to measure, and on what store.
#[derive(Args)]
pub(crate) struct Options {
    /// Which figures.
    #[arg(long, value_enum, value_delimiter = ',', default_values_t = Figure::ALL)]
    figures: Vec<Figure>,
    /// How often each is measured.
    #[arg(long, default_value_t = 3)]
    rounds: usize,
    /// Milliseconds to the first byte of each answer.
    #[arg(long, default_value_t = 20)]
    latency_ms: u64,
    /// Megabytes a second that a request sends or receives.
    #[arg(long, default_value_t = 100.0)]
    megabytes_per_second: f64,
    /// All requests together have that speed, not each.
    #[arg(long)]
    shared: bool,
    /// Sessions that write at the same time.
    #[arg(long, default_value_t = 64)]
    writers: usize,
    /// Rows that `inserts` writes; the figure is for a million.
    #[arg(long, default_value_t = 100_000)]
    rows: usize,
    /// TPC-H queries; all when none is named.
    #[arg(long, value_delimiter = ',')]
    queries: Vec<usize>,
}

/// One of the figures.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Figure {
    /// Opening and the first row by key, without a log and with one of 256 objects.
    Lookup,
    /// One day of 100 segments.
    Day,
    /// Commits of many sessions.
    Commit,
    /// The 22 queries, cold and warm.
    Tpch,
    /// Requests of a million inserted rows.
    Inserts,
}

impl Figure {
    const ALL: [Self; 5] = [Self::Lookup, Self::Day, Self::Commit, Self::Tpch, Self::Inserts];
}

/// Measures what was asked for; one line a number.
pub(crate) async fn run(home: &Home, options: &Options) -> Result<()> {
    let speed = options.megabytes_per_second;
    if options.rounds == 0 || options.writers == 0 || options.rows == 0 || speed.is_nan() || speed <= 0.0 {
        return Err("rounds, writers, rows and megabytes per second are more than 0".into());
    }
    let bench = Distant { home, options };
    for figure in Figure::ALL.iter().filter(|figure| options.figures.contains(figure)) {
        match figure {
            Figure::Lookup => lookup::run(&bench).await?,
            Figure::Day => days::run(&bench).await?,
            Figure::Commit => writers::commits(&bench).await?,
            Figure::Tpch => tpch::run(&bench).await?,
            Figure::Inserts => writers::inserts(&bench).await?,
        }
    }
    Ok(())
}

/// What every figure needs.
struct Distant<'a> {
    home: &'a Home,
    options: &'a Options,
}

impl Distant<'_> {
    /// The store `inner` as if it were far away, with counts of its own.
    fn slow(&self, inner: Arc<dyn ObjectStore>) -> Arc<SlowStore> {
        let pace = Pace {
            latency: Duration::from_millis(self.options.latency_ms),
            bytes_per_second: self.options.megabytes_per_second * 1e6,
            shared: self.options.shared,
        };
        Arc::new(SlowStore::new(inner, pace))
    }

    /// How many waits for a first byte fit into `ms`: no more requests than that can have followed one another.
    fn waits_in(&self, ms: f64) -> f64 {
        ms / self.options.latency_ms as f64
    }

    /// Prints one number: the median of `rounds`, the smallest and the largest, the bar and whether the median is within it.
    fn print(&self, figure: &str, what: &str, rounds: &[f64], bar: Bar, with: &str) {
        let ours = median(rounds);
        let (bar, holds) = match bar {
            Bar::AtMost(most) => (json!(format!("<= {most}")), json!(ours <= most)),
            Bar::AtLeast(least) => (json!(format!(">= {least}")), json!(ours >= least)),
            Bar::None => (Value::Null, Value::Null),
        };
        let smallest = rounds.iter().copied().fold(f64::INFINITY, f64::min);
        let largest = rounds.iter().copied().fold(f64::NEG_INFINITY, f64::max);
        let store = format!(
            "{} ms to the first byte, {} MB/s {}",
            self.options.latency_ms,
            self.options.megabytes_per_second,
            if self.options.shared { "for all requests together" } else { "for each request" }
        );
        let line = json!({
            "figure": figure, "what": what, "ours": number(ours), "smallest": number(smallest),
            "largest": number(largest), "rounds": rounds.len(), "bar": bar, "holds": holds,
            "with": format!("{with}; {store}"),
        });
        println!("{line}");
    }
}

/// What we hold a number to.
#[derive(Clone, Copy, Debug)]
enum Bar {
    AtMost(f64),
    AtLeast(f64),
    /// Printed only.
    None,
}

/// The database on `store`.
async fn open(store: Arc<dyn ObjectStore>, storage: OpenOptions) -> Result<Bench> {
    let storage = OpenOptions { store: Some(store), ..storage };
    Bench::open_root(Root::parse("s3://bench/db")?, storage).await
}

/// NaN of none.
fn median(values: &[f64]) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    match sorted.len() {
        0 => f64::NAN,
        length if length % 2 == 1 => sorted[length / 2],
        length => f64::midpoint(sorted[length / 2 - 1], sorted[length / 2]),
    }
}

/// Whole numbers without a point, others with three digits behind it.
fn number(value: f64) -> Value {
    if value.fract() == 0.0 { json!(value as i64) } else { json!((value * 1e3).round() / 1e3) }
}

fn megabytes(bytes: u64) -> f64 {
    bytes as f64 / 1e6
}
