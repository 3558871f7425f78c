//! TPC-H warm: ours after COPY and CHECKPOINT, bare DataFusion over the same Parquet files, alternately.

use std::path::{Path, PathBuf};
use std::time::Instant;

use cairn_engine::OpenOptions;
use cairn_tests::tpch;
use datafusion::prelude::{ParquetReadOptions, SessionContext};
use serde_json::json;

use crate::data::Home;
use crate::database::Bench;
use crate::{Result, millis};

/// Runs the queries; one line a query with the milliseconds of each run on both sides.
pub(crate) async fn run(home: &Home, runs: usize, keys: bool, only: &[usize]) -> Result<()> {
    let files = home.parquet()?;
    let ours = Bench::open(&database(home, keys).await?, OpenOptions::default()).await?;
    let bare = SessionContext::new();
    for table in &tpch::TABLES {
        let file = files.join(format!("{}.parquet", table.name));
        bare.register_parquet(table.name, &*file.to_string_lossy(), ParquetReadOptions::default()).await?;
    }
    for number in (1..=22).filter(|n| only.is_empty() || only.contains(n)) {
        let statements = tpch::query(number);
        let (mut our_ms, mut bare_ms) = (Vec::new(), Vec::new());
        let mut rows = (0, 0);
        for round in 0..=runs {
            // Who begins changes with each round, so that neither always finds the caches warm.
            for turn in 0..2 {
                let started = Instant::now();
                if (round + turn) % 2 == 0 {
                    rows.0 = run_ours(&ours, &statements).await?;
                    our_ms.push(millis(started));
                } else {
                    rows.1 = run_bare(&bare, &statements).await?;
                    bare_ms.push(millis(started));
                }
            }
        }
        if rows.0 != rows.1 {
            return Err(format!("q{number}: ours gave {} rows, DataFusion {}", rows.0, rows.1).into());
        }
        // The first of each side warms up.
        println!("{}", json!({ "query": number, "ours_ms": our_ms[1..], "datafusion_ms": bare_ms[1..] }));
    }
    ours.close().await
}

/// The eight tables after CHECKPOINT, in a directory.
pub(crate) async fn database(home: &Home, keys: bool) -> Result<PathBuf> {
    let name = if keys { "tpch-keys.db" } else { "tpch.db" };
    let (path, ready) = home.database(name)?;
    if ready {
        return Ok(path);
    }
    let db = Bench::open(&path, OpenOptions::default()).await?;
    load(&db, &home.parquet()?, keys).await?;
    db.run("CHECKPOINT").await?;
    db.close().await?;
    home.keep(name, &path)
}

/// Makes the eight tables and copies `files` into them.
pub(crate) async fn load(db: &Bench, files: &Path, keys: bool) -> Result<()> {
    for table in &tpch::TABLES {
        db.run(&table.create(keys)).await?;
        db.run(&table.copy_from(files)).await?;
    }
    Ok(())
}

async fn run_ours(db: &Bench, statements: &[String]) -> Result<u64> {
    let mut rows = 0;
    for statement in statements {
        rows += db.run(statement).await?;
    }
    Ok(rows)
}

async fn run_bare(context: &SessionContext, statements: &[String]) -> Result<u64> {
    let mut rows = 0;
    for statement in statements {
        let batches = context.sql(statement).await?.collect().await?;
        rows += batches.iter().map(|b| b.num_rows() as u64).sum::<u64>();
    }
    Ok(rows)
}
