//! `cairn-bench`: our side of every figure, one JSON object a line.
//!
//! `run.py`, `vector_sql.py` and `server.py` run it beside the rivals and print ours, theirs and the ratio;
//! `docs/src/benchmarks.md` says what each figure means. Data and databases are made once under `--data` and used again.

#![allow(clippy::print_stdout, reason = "the figures are the output")]

mod busy;
mod change;
mod churn;
mod client;
mod data;
mod database;
mod insert;
mod load;
mod lookup;
mod objects;
mod open;
mod tpch;
mod vector_sql;

use std::path::PathBuf;
use std::time::Instant;

use clap::{Parser, Subcommand, ValueEnum};

// The allocator `cairn` has.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// The program's result: any error ends it with its text.
pub(crate) type Result<T> = std::result::Result<T, Box<dyn std::error::Error + Send + Sync>>;

/// Milliseconds since `started`.
fn millis(started: Instant) -> f64 {
    started.elapsed().as_secs_f64() * 1e3
}

#[derive(Parser)]
#[command(about = "Our side of Cairn's figures, as JSON lines")]
struct Arguments {
    /// Where generated data and databases are kept.
    #[arg(long, default_value = "target/bench-data", global = true)]
    data: PathBuf,
    /// TPC-H scale factor.
    #[arg(long, default_value_t = 1.0, global = true)]
    scale: f64,
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Makes the Parquet files and lineitem.csv.
    Data {
        /// The Parquet files only.
        #[arg(long)]
        no_csv: bool,
    },
    /// Prints the 22 queries.
    Queries,
    /// TPC-H warm: ours after COPY and CHECKPOINT and bare DataFusion on Parquet, alternately in this process.
    Tpch {
        /// Measured runs of each query on each side, after one that is not measured.
        #[arg(long, default_value_t = 5)]
        runs: usize,
        /// Declare the primary keys of the specification.
        #[arg(long)]
        keys: bool,
        /// Only these queries.
        #[arg(long, value_delimiter = ',')]
        only: Vec<usize>,
    },
    /// One COPY of lineitem into a new database, durable at return.
    Load {
        /// File format.
        #[arg(long, value_enum, default_value_t = Format::Parquet)]
        format: Format,
        /// With PRIMARY KEY (l_orderkey, l_linenumber).
        #[arg(long)]
        key: bool,
    },
    /// Durable single-row INSERTs on one connection or on several.
    Insert(insert::Options),
    /// Durable single-row INSERT, UPDATE and DELETE by key, and a query, with values, on one connection.
    Change {
        /// Statements of each kind.
        #[arg(long, default_value_t = 3000)]
        count: usize,
    },
    /// UPDATE and DELETE of one row in a hundred of orders, by a range of keys.
    Range {
        /// Statements of each kind.
        #[arg(long, default_value_t = 9)]
        count: usize,
    },
    /// Single-row changes on many connections, and what they leave with nobody's help beside a fresh load.
    Churn(churn::Options),
    /// Queries while nothing else goes on, during checkpoints and during compactions.
    Busy(busy::Options),
    /// SELECT by primary key among the rows of lineitem, after a checkpoint.
    Lookup {
        /// Statements.
        #[arg(long, default_value_t = 5000)]
        count: usize,
        /// One text with values instead of a text for each key.
        #[arg(long)]
        prepared: bool,
    },
    /// Opens a database with lineitem's rows and a WAL of 64 MiB.
    Open,
    /// Databases on an object store that answers as a distant one does: requests, bytes, times.
    Objects(objects::Options),
    /// Searches vectors through SQL as `vector_sql.py` asks.
    VectorSql(vector_sql::Options),
    /// Clients of a running server, as `server.py` asks.
    Client(client::Options),
}

/// A file format of COPY.
#[derive(Clone, Copy, Debug, ValueEnum)]
pub(crate) enum Format {
    /// One Parquet file.
    Parquet,
    /// One CSV file with a header.
    Csv,
}

fn main() -> Result<()> {
    let arguments = Arguments::parse();
    match &arguments.command {
        // How many threads it has is part of the figure.
        Command::VectorSql(options) => vector_sql::run(&arguments.data, options),
        Command::Client(options) => client::run(options),
        _ => tokio::runtime::Builder::new_multi_thread().enable_all().build()?.block_on(run(arguments)),
    }
}

async fn run(arguments: Arguments) -> Result<()> {
    let home = data::Home::new(&arguments.data, arguments.scale)?;
    match arguments.command {
        Command::Data { no_csv } => {
            home.parquet()?;
            if !no_csv {
                home.csv()?;
            }
            println!("{}", serde_json::json!({ "data": home.folder() }));
            Ok(())
        }
        Command::Queries => {
            for number in 1..=22 {
                println!(
                    "{}",
                    serde_json::json!({ "query": number, "sql": cairn_tests::tpch::query(number) })
                );
            }
            Ok(())
        }
        Command::Tpch { runs, keys, only } => tpch::run(&home, runs, keys, &only).await,
        Command::Load { format, key } => load::run(&home, format, key).await,
        Command::Insert(options) => insert::run(&home, &options).await,
        Command::Change { count } => change::run(&home, count).await,
        Command::Range { count } => change::range(&home, count).await,
        Command::Churn(options) => churn::run(&home, &options).await,
        Command::Busy(options) => busy::run(&home, &options).await,
        Command::Lookup { count, prepared } => lookup::run(&home, count, prepared).await,
        Command::Open => open::run(&home).await,
        Command::Objects(options) => objects::run(&home, &options).await,
        Command::VectorSql(options) => vector_sql::run(&arguments.data, &options),
        Command::Client(options) => client::run(&options),
    }
}
