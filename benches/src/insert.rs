//! Durable single-row INSERTs, one after the other on one connection: one sync each.

use std::time::Instant;

use cairn_engine::OpenOptions;
use serde_json::json;

use crate::Result;
use crate::data::Home;
use crate::database::Bench;

/// Statements not measured, at the beginning.
const WARM_UP: usize = 200;

/// Inserts `count` rows; commits and seconds.
pub(crate) async fn run(home: &Home, count: usize) -> Result<()> {
    let folder = tempfile::tempdir_in(home.folder())?;
    let db = Bench::open(&folder.path().join("db"), OpenOptions::default()).await?;
    db.run("CREATE TABLE t (id BIGINT PRIMARY KEY, v BIGINT NOT NULL, s TEXT NOT NULL)").await?;
    let mut started = Instant::now();
    for id in 0..WARM_UP + count {
        if id == WARM_UP {
            started = Instant::now();
        }
        db.run(&format!("INSERT INTO t VALUES ({id}, {}, 'a row of some length {id}')", id * 7)).await?;
    }
    println!("{}", json!({ "commits": count, "seconds": started.elapsed().as_secs_f64() }));
    db.close().await
}
