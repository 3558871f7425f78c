//! SELECT of one row of lineitem by its primary key, through `Session::execute`, after a checkpoint.

use std::path::PathBuf;
use std::time::Instant;

use cairn_engine::OpenOptions;
use cairn_tests::tpch::TABLES;
use datafusion::arrow::array::AsArray;
use datafusion::arrow::datatypes::{Int32Type, Int64Type};
use datafusion::common::ScalarValue;
use datafusion::parquet::arrow::ProjectionMask;
use datafusion::parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use serde_json::json;

use crate::Result;
use crate::data::Home;
use crate::database::Bench;

/// Lookups not measured, at the beginning.
const WARM_UP: usize = 200;
const PREPARED: &str = "SELECT * FROM lineitem WHERE l_orderkey = $1 AND l_linenumber = $2";

/// Looks `count` random existing keys up, `prepared` as values of one text; microseconds of each in order of size.
pub(crate) async fn run(home: &Home, count: usize, prepared: bool) -> Result<()> {
    let keys = random_keys(home, WARM_UP + count)?;
    let db = Bench::open(&database(home).await?, OpenOptions::default()).await?;
    let mut micros = Vec::with_capacity(count);
    for (number, (order, line)) in keys.iter().enumerate() {
        let sql = format!("SELECT * FROM lineitem WHERE l_orderkey = {order} AND l_linenumber = {line}");
        let values = vec![ScalarValue::from(*order), ScalarValue::from(*line)];
        let started = Instant::now();
        let rows = if prepared { db.run_with(PREPARED, values).await? } else { db.run(&sql).await? };
        if number >= WARM_UP {
            micros.push(started.elapsed().as_secs_f64() * 1e6);
        }
        if rows != 1 {
            return Err(format!("{rows} rows for key ({order}, {line})").into());
        }
    }
    micros.sort_by(f64::total_cmp);
    let at = |part: f64| micros.get((micros.len() as f64 * part) as usize).copied();
    println!(
        "{}",
        json!({ "lookups": count, "p50_us": at(0.5), "p90_us": at(0.9), "p99_us": at(0.99), "max_us": micros.last() })
    );
    db.close().await
}

/// lineitem with its key, checkpointed.
async fn database(home: &Home) -> Result<PathBuf> {
    let name = "lookup.db";
    let (path, ready) = home.database(name)?;
    if ready {
        return Ok(path);
    }
    let lineitem = TABLES.iter().find(|t| t.name == "lineitem").ok_or("no lineitem")?;
    let db = Bench::open(&path, OpenOptions::default()).await?;
    db.run(&lineitem.create(true)).await?;
    db.run(&lineitem.copy_from(&home.parquet()?)).await?;
    db.run("CHECKPOINT").await?;
    db.close().await?;
    home.keep(name, &path)
}

/// `count` keys of lineitem, drawn by seed.
pub(crate) fn random_keys(home: &Home, count: usize) -> Result<Vec<(i64, i32)>> {
    let file = std::fs::File::open(home.parquet()?.join("lineitem.parquet"))?;
    let builder = ParquetRecordBatchReaderBuilder::try_new(file)?;
    let mask = ProjectionMask::columns(builder.parquet_schema(), ["l_orderkey", "l_linenumber"]);
    let mut keys = Vec::new();
    for batch in builder.with_projection(mask).build()? {
        let batch = batch?;
        let orders = batch.column(0).as_primitive::<Int64Type>();
        let lines = batch.column(1).as_primitive::<Int32Type>();
        keys.extend((0..orders.len()).map(|row| (orders.value(row), lines.value(row))));
    }
    let mut rng = StdRng::seed_from_u64(1);
    Ok((0..count).map(|_| keys[rng.random_range(0..keys.len())]).collect())
}
