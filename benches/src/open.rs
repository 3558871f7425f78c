//! Opening a database with lineitem's rows and a WAL of 64 MiB, and its first answers.
//!
//! The process ends without closing: closing would checkpoint, and the next run would find no WAL to read.

use std::path::PathBuf;
use std::time::Instant;

use cairn_engine::OpenOptions;
use cairn_tests::tpch::TABLES;
use serde_json::json;

use crate::Result;
use crate::data::Home;
use crate::database::Bench;
use crate::load::size;

const WAL_BYTES: u64 = 64 << 20;

/// No checkpoint but the one asked for.
fn options() -> OpenOptions {
    OpenOptions { checkpoint_wal_bytes: u64::MAX, checkpoint_interval: None, ..OpenOptions::default() }
}

/// Opens once; milliseconds to open, to the first answer and to an exact count.
pub(crate) async fn run(home: &Home) -> Result<()> {
    let path = database(home).await?;
    let wal_bytes = size(&path.join("wal"))?;
    let started = Instant::now();
    let db = Bench::open(&path, options()).await?;
    let open_ms = started.elapsed().as_secs_f64() * 1e3;
    db.run("SELECT 1").await?;
    let first_ms = started.elapsed().as_secs_f64() * 1e3;
    db.run("SELECT (SELECT count(*) FROM lineitem), (SELECT count(*) FROM hot)").await?;
    let count_ms = started.elapsed().as_secs_f64() * 1e3;
    println!(
        "{}",
        json!({ "wal_bytes": wal_bytes, "open_ms": open_ms, "first_answer_ms": first_ms, "counted_ms": count_ms })
    );
    std::process::exit(0)
}

/// The database, built when it is not there; building ends the process too, and is started again as a child.
async fn database(home: &Home) -> Result<PathBuf> {
    let name = "open.db";
    let building = std::env::var_os("CAIRN_BENCH_BUILD").is_some();
    let (path, ready) = home.database(name)?;
    if ready {
        return Ok(path);
    }
    if !building {
        let status = std::process::Command::new(std::env::current_exe()?)
            .args(std::env::args_os().skip(1))
            .env("CAIRN_BENCH_BUILD", "1")
            .status()?;
        if !status.success() {
            return Err("the database could not be built".into());
        }
        return home.keep(name, &path);
    }
    let lineitem = TABLES.iter().find(|t| t.name == "lineitem").ok_or("no lineitem")?;
    let db = Bench::open(&path, options()).await?;
    db.run(&lineitem.create(false)).await?;
    db.run(&lineitem.copy_from(&home.parquet()?)).await?;
    db.run("CREATE TABLE hot (id BIGINT PRIMARY KEY, v DOUBLE, s TEXT)").await?;
    db.run("CHECKPOINT").await?;
    let rows = 5000;
    for batch in 0.. {
        if size(&path.join("wal"))? >= WAL_BYTES {
            break;
        }
        let first = batch * rows;
        db.run(&format!(
            "INSERT INTO hot SELECT value, value / 3.0, md5(CAST(value AS TEXT)) || md5(CAST(-value AS TEXT)) \
             FROM generate_series({first}, {}) AS g(value)",
            first + rows - 1
        ))
        .await?;
    }
    std::process::exit(0)
}
