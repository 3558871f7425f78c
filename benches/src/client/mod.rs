//! Clients of a running server, with arrow-flight's own client.
//!
//! Owns: connecting, what is asked. Does not own: starting the server and filling it (`server.py`). In Rust, because clients
//! in Python would measure Python.

mod bare;
mod idle;
mod insert;
mod lookup;
mod many;
mod tables;

use std::io::Read;

use arrow_flight::sql::client::FlightSqlServiceClient;
use clap::{Args, Subcommand};
use tonic::transport::{Channel, Endpoint};

use crate::Result;
use many::Many;

/// A connection to the server.
type Client = FlightSqlServiceClient<Channel>;

#[derive(Args)]
pub(crate) struct Options {
    /// The server: http://host:port.
    url: String,
    #[command(subcommand)]
    task: Task,
}

#[derive(Subcommand)]
enum Task {
    /// Serves the rows of a statement from memory with nothing but arrow-flight, until the end of standard input.
    Bare {
        /// The statement.
        sql: String,
    },
    /// Reads rows of `items` by their key, with a prepared statement on each connection.
    Lookup {
        #[command(flatten)]
        many: Many,
        /// Keys are below this.
        #[arg(long)]
        rows: i64,
    },
    /// Inserts rows into `entries`, one a statement, with a prepared statement on each connection.
    Insert {
        #[command(flatten)]
        many: Many,
        /// The first key.
        #[arg(long)]
        first: i64,
    },
    /// Asks for all tables with their schemas.
    Tables {
        /// Times.
        #[arg(long)]
        rounds: usize,
    },
    /// Logs in on many connections and leaves them idle until the end of standard input.
    Idle {
        /// Connections.
        #[arg(long)]
        connections: usize,
    },
}

/// Runs the task; its figures go to standard output.
pub(crate) fn run(options: &Options) -> Result<()> {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    let url = options.url.as_str();
    runtime.block_on(async {
        match &options.task {
            Task::Bare { sql } => bare::run(url, sql).await,
            Task::Lookup { many, rows } => lookup::run(url, *many, *rows).await,
            Task::Insert { many, first } => insert::run(url, *many, *first).await,
            Task::Tables { rounds } => tables::run(url, *rounds).await,
            Task::Idle { connections } => idle::run(url, *connections).await,
        }
    })
}

async fn connect(url: &str) -> Result<Client> {
    Ok(FlightSqlServiceClient::new(Endpoint::from_shared(url.to_owned())?.connect().await?))
}

/// When the process was told to end.
async fn told_to_end() -> Result<()> {
    tokio::task::spawn_blocking(|| std::io::stdin().read_to_end(&mut Vec::new())).await??;
    Ok(())
}
