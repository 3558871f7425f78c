//! Durable single-row INSERT, UPDATE and DELETE by key with values, one after the other on one connection, and a query that comes again
//! with other values: what a prepared statement costs.

use std::time::Instant;

use cairn_engine::OpenOptions;
use cairn_tests::tpch::TABLES;
use datafusion::common::ScalarValue;
use serde_json::json;

use crate::data::Home;
use crate::database::Bench;
use crate::{Result, millis};

/// Rows that are there before, in segments.
const ROWS: usize = 1_000_000;
/// Statements of each kind that are not measured, at the beginning.
const WARM_UP: usize = 200;

/// Runs each statement `count` times; how many a second.
pub(crate) async fn run(home: &Home, count: usize) -> Result<()> {
    let folder = tempfile::tempdir_in(home.folder())?;
    let db = Bench::open(&folder.path().join("db"), OpenOptions::default()).await?;
    db.run("CREATE TABLE t (id BIGINT PRIMARY KEY, v BIGINT NOT NULL, s TEXT NOT NULL)").await?;
    db.run(&format!(
        "INSERT INTO t SELECT i, i * 7, 'a row of some length ' || CAST(i AS TEXT) FROM range({ROWS}) AS r(i)"
    ))
    .await?;
    db.run("CHECKPOINT").await?;
    for (kind, sql) in [
        ("insert", "INSERT INTO t VALUES ($1, $2, 'a row of some length')"),
        ("update", "UPDATE t SET v = $2 WHERE id = $1"),
        ("delete", "DELETE FROM t WHERE id = $1"),
        ("query", "SELECT max(v), count(*) FROM t WHERE id BETWEEN $1 AND $2 AND s <> 'x'"),
    ] {
        let mut started = Instant::now();
        for number in 0..WARM_UP + count {
            if number == WARM_UP {
                started = Instant::now();
            }
            // Keys all over the table, each once: the step and the number of rows have no common divisor.
            let key = match kind {
                "insert" => ROWS + number,
                _ => number * 7_919 % ROWS,
            };
            let (key, other) = (i64::try_from(key)?, i64::try_from(key + 10)?);
            let values = match kind {
                "delete" => vec![ScalarValue::from(key)],
                _ => vec![ScalarValue::from(key), ScalarValue::from(other)],
            };
            let rows = db.run_with(sql, values).await?;
            if rows != 1 {
                return Err(format!("{sql} met {rows} rows").into());
            }
        }
        println!(
            "{}",
            json!({ "kind": kind, "statements": count, "seconds": started.elapsed().as_secs_f64() })
        );
    }
    db.close().await
}

/// Keys of orders at scale 1 go to 6 million, of which a quarter are used: a range of this many is one row in a hundred.
const RANGE: usize = 60_000;

/// UPDATE, then DELETE, of one row in a hundred of orders by a range of its key, each durable when it returns: milliseconds of each.
pub(crate) async fn range(home: &Home, count: usize) -> Result<()> {
    let folder = tempfile::tempdir_in(home.folder())?;
    let db = Bench::open(&folder.path().join("db"), OpenOptions::default()).await?;
    let orders = TABLES.iter().find(|t| t.name == "orders").ok_or("no orders")?;
    db.run(&orders.create(true)).await?;
    db.run(&orders.copy_from(&home.parquet()?)).await?;
    db.run("CHECKPOINT").await?;
    for (kind, sql) in [
        ("update", "UPDATE orders SET o_totalprice = o_totalprice + 1 WHERE o_orderkey BETWEEN $1 AND $2"),
        ("delete", "DELETE FROM orders WHERE o_orderkey BETWEEN $1 AND $2"),
    ] {
        let (mut times, mut rows) = (Vec::with_capacity(count), 0);
        for number in 0..=count {
            let first = i64::try_from(1 + number * RANGE)?;
            let values = vec![ScalarValue::from(first), ScalarValue::from(first + i64::try_from(RANGE)? - 1)];
            let started = Instant::now();
            rows = db.run_with(sql, values).await?;
            // The first is not measured.
            if number > 0 {
                times.push(millis(started));
            }
        }
        println!("{}", json!({ "kind": kind, "rows": rows, "ms": times }));
    }
    db.close().await
}
