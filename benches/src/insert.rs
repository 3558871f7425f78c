//! Durable single-row INSERTs on one connection or on several at once: the text anew each time, or one text with values.

use std::time::Instant;

use cairn_engine::OpenOptions;
use datafusion::common::ScalarValue;
use futures::future::try_join_all;
use serde_json::json;

use crate::Result;
use crate::data::Home;
use crate::database::Bench;

/// Statements of each connection that are not measured, at the beginning.
const WARM_UP: usize = 200;

/// What is inserted, and by whom.
#[derive(clap::Args)]
pub(crate) struct Options {
    /// Statements of all connections together.
    #[arg(long, default_value_t = 3000)]
    count: usize,
    /// Connections, each of which waits for its own commit.
    #[arg(long, default_value_t = 1)]
    connections: usize,
    /// One text with values instead of a text for each row.
    #[arg(long)]
    prepared: bool,
}

/// Inserts rows into a new table; commits and seconds.
pub(crate) async fn run(home: &Home, options: &Options) -> Result<()> {
    let folder = tempfile::tempdir_in(home.folder())?;
    let db = Bench::open(&folder.path().join("db"), OpenOptions::default()).await?;
    db.run("CREATE TABLE t (id BIGINT PRIMARY KEY, v BIGINT NOT NULL, s TEXT NOT NULL)").await?;
    let each = options.count / options.connections;
    phase(&db, options, 0, WARM_UP).await?;
    let started = Instant::now();
    phase(&db, options, WARM_UP, each).await?;
    println!(
        "{}",
        json!({ "commits": each * options.connections, "seconds": started.elapsed().as_secs_f64() })
    );
    db.close().await
}

/// Every connection inserts `count` rows, from its row `first` on.
async fn phase(db: &Bench, options: &Options, first: usize, count: usize) -> Result<()> {
    let (connections, prepared) = (options.connections, options.prepared);
    let tasks = (0..connections).map(|connection| {
        let db = db.beside();
        tokio::spawn(async move {
            for number in first..first + count {
                // Connections take turns, as ids from a sequence would.
                let id = i64::try_from(number * connections + connection)?;
                if prepared {
                    let values = vec![
                        ScalarValue::from(id),
                        ScalarValue::from(id * 7),
                        ScalarValue::from(format!("a row of some length {id}")),
                    ];
                    db.run_with("INSERT INTO t VALUES ($1, $2, $3)", values).await?;
                } else {
                    db.run(&format!("INSERT INTO t VALUES ({id}, {}, 'a row of some length {id}')", id * 7))
                        .await?;
                }
            }
            Ok::<_, Box<dyn std::error::Error + Send + Sync>>(())
        })
    });
    for ended in try_join_all(tasks).await? {
        ended?;
    }
    Ok(())
}
