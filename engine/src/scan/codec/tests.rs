#![allow(clippy::unwrap_used)]

use std::sync::Arc;

use cairn_storage::{ErrorKind, Root};
use datafusion::arrow::util::pretty::pretty_format_batches;
use datafusion::common::config::ConfigOptions;
use datafusion::logical_expr::{Operator, col, lit};
use datafusion::physical_optimizer::PhysicalOptimizerRule;
use datafusion::physical_optimizer::filter_pushdown::FilterPushdown;
use datafusion::physical_plan::expressions;
use datafusion::physical_plan::filter::FilterExec;
use datafusion::physical_plan::{ExecutionPlan, ExecutionPlanProperties, collect, displayable};
use datafusion::prelude::SessionContext;
use futures::TryStreamExt;

use super::super::exec::SegmentScanExec;
use super::frame::tests::sealed;
use crate::provider::CairnTable;
use crate::{Engine, EngineOptions, Output, Session};

async fn engine() -> Arc<Engine> {
    let options =
        EngineOptions { memory_limit: Some(64 << 20), partitions: Some(2), ..EngineOptions::default() };
    Engine::open(Root::Memory, options).await.unwrap()
}

async fn all(session: &Session, statements: &[&str]) {
    for sql in statements {
        match session.execute(sql, None).await {
            Ok(Output::Rows(rows)) => drop(rows.stream.try_collect::<Vec<_>>().await.unwrap()),
            Ok(Output::Affected { .. } | Output::Done { .. }) => {}
            Err(error) => panic!("{sql}: {error}"),
        }
    }
}

/// Two segments with deleted rows, rows in memory.
const TABLE: [&str; 8] = [
    "CREATE TABLE t (id BIGINT PRIMARY KEY, name TEXT, price DECIMAL(10, 2), tags TEXT[], e VECTOR(2))",
    "INSERT INTO t SELECT i, CASE WHEN i % 3 = 0 THEN NULL ELSE 'name ' || i END, i / 4.0, make_array('a', 'b' || i), ARRAY[sin(i), cos(i)] FROM generate_series(1, 200) g(i)",
    "CHECKPOINT",
    "INSERT INTO t (id, name, price) SELECT i, 'a longer name, which no view holds in itself ' || i, i / 4.0 FROM generate_series(201, 400) g(i)",
    "CHECKPOINT",
    "DELETE FROM t WHERE id % 7 = 0",
    "INSERT INTO t (id, name, tags, e) SELECT i, 'hot ' || i, make_array('x', 'y'), ARRAY[sin(i), cos(i)] FROM generate_series(401, 500) g(i)",
    "DELETE FROM t WHERE id = 450",
];
/// The same without rows in memory, in order.
const SORTED: [&str; 6] = [
    "CREATE TABLE s (id BIGINT PRIMARY KEY, n INT)",
    "INSERT INTO s SELECT i, i % 10 FROM generate_series(1, 300) g(i)",
    "CHECKPOINT",
    "INSERT INTO s SELECT i, i % 10 FROM generate_series(301, 400) g(i)",
    "CHECKPOINT",
    "DELETE FROM s WHERE id % 5 = 0",
];

fn scans(plan: &Arc<dyn ExecutionPlan>) -> Vec<Arc<dyn ExecutionPlan>> {
    if plan.is::<SegmentScanExec>() {
        return vec![Arc::clone(plan)];
    }
    plan.children().into_iter().flat_map(scans).collect()
}

/// What EXPLAIN says of a scan, but for what it reads less by.
fn shown(scan: &Arc<dyn ExecutionPlan>) -> String {
    let text = displayable(scan.as_ref()).indent(false).to_string();
    text.split(", predicate=").next().unwrap().trim_end().to_owned()
}

/// How many rows, and which, in whatever order.
async fn rows(engine: &Arc<Engine>, plan: Arc<dyn ExecutionPlan>) -> (usize, Vec<String>) {
    let has_columns = !plan.schema().fields().is_empty();
    let batches = collect(plan, engine.task_context()).await.unwrap();
    let count = batches.iter().map(|batch| batch.num_rows()).sum();
    let mut lines = Vec::new();
    if has_columns {
        let text = pretty_format_batches(&batches).unwrap().to_string();
        lines = text.lines().filter(|line| line.starts_with('|')).map(str::to_owned).collect();
        lines.sort_unstable();
    }
    (count, lines)
}

#[tokio::test(flavor = "multi_thread")]
async fn scans_come_back() {
    let engine = engine().await;
    let session = engine.session();
    // In this order: a checkpoint is one of all tables.
    all(&session, &SORTED).await;
    all(&session, &TABLE).await;
    all(&session, &["CREATE TABLE nothing (a INT)"]).await;
    let mut seen = String::new();
    for sql in [
        "SELECT * FROM t",
        "SELECT name AS n, id AS name FROM t WHERE id > 100",
        "SELECT e, _row_id AS r, _version, id FROM t",
        "SELECT id + 1 AS next, name || '!' AS loud, -id AS minus FROM t WHERE price < 20",
        "SELECT 1 AS one FROM t",
        "SELECT id FROM t LIMIT 5",
        "SELECT name FROM t WHERE id = 11",
        "SELECT tags FROM t WHERE id IN (405, 6, 7)",
        "SELECT id FROM t WHERE id > 390",
        "SELECT a.id, b.name FROM t a JOIN t b ON a.id = b.id + 1",
        "SELECT a FROM nothing",
        "SELECT n + 1 AS m FROM s",
        "SELECT id, n FROM s ORDER BY id",
        "SELECT n FROM s ORDER BY id LIMIT 3",
    ] {
        let plan = session.physical_plan(sql).await.unwrap();
        let scans = scans(&plan);
        assert!(!scans.is_empty(), "{sql}: {}", displayable(plan.as_ref()).indent(false));
        for scan in scans {
            let bytes = engine.encode_scan(&scan).unwrap().unwrap();
            let decoded = engine.decode_scan(&bytes).unwrap();
            assert_eq!(shown(&decoded), shown(&scan), "{sql}");
            assert_eq!(decoded.schema(), scan.schema(), "{sql}");
            let partitions = |plan: &Arc<dyn ExecutionPlan>| plan.output_partitioning().partition_count();
            assert_eq!(partitions(&decoded), partitions(&scan), "{sql}");
            let again = engine.encode_scan(&decoded).unwrap().unwrap();
            assert_eq!(shown(&engine.decode_scan(&again).unwrap()), shown(&scan), "{sql}");
            seen += &shown(&scan);
            assert_eq!(rows(&engine, decoded).await, rows(&engine, scan).await, "{sql}");
        }
    }
    for part in [
        "segments=2/2",
        "segments=1/2",
        "segments=0/0",
        "deleted=57",
        "hot_rows=99",
        "keys=1, rows=1",
        "keys=3, rows=2",
        "projection=[]",
        ", limit=",
        "output_ordering=[",
    ] {
        assert!(seen.contains(part), "no scan had {part}: {seen}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_bytes_say_what_is_read() {
    let engine = engine().await;
    let session = engine.session();
    all(&session, &TABLE).await;
    let plan = session.physical_plan("SELECT id, name FROM t").await.unwrap();
    let scan = scans(&plan).remove(0);
    let before = rows(&engine, Arc::clone(&scan)).await;
    let bytes = engine.encode_scan(&scan).unwrap().unwrap();
    drop((plan, scan));
    all(&session, &["DELETE FROM t WHERE id < 300", "INSERT INTO t (id) VALUES (1000)"]).await;
    assert_eq!(rows(&engine, engine.decode_scan(&bytes).unwrap()).await, before);
}

#[tokio::test(flavor = "multi_thread")]
async fn damage_is_an_error() {
    let engine = engine().await;
    let session = engine.session();
    all(
        &session,
        &[
            "CREATE TABLE t (id BIGINT PRIMARY KEY, name TEXT, e VECTOR(2))",
            "INSERT INTO t VALUES (1, 'one', '[1,2]'), (2, NULL, NULL), (3, 'three', '[5,6]')",
            "CHECKPOINT",
            "DELETE FROM t WHERE id = 2",
            "INSERT INTO t VALUES (4, 'four', '[7,8]')",
        ],
    )
    .await;
    let plan = session.physical_plan("SELECT * FROM t").await.unwrap();
    let bytes = engine.encode_scan(&scans(&plan)[0]).unwrap().unwrap();
    let decoded = engine.decode_scan(&bytes).unwrap();
    assert_eq!(rows(&engine, decoded).await.0, 3);
    for cut in 0..bytes.len() {
        assert!(engine.decode_scan(&bytes[..cut]).is_err(), "the first {cut} bytes");
    }
    for at in 0..bytes.len() {
        let mut wrong = bytes.clone();
        wrong[at] ^= 1;
        assert!(engine.decode_scan(&wrong).is_err(), "byte {at}");
        // With a checksum that says nothing: another scan, or an error.
        drop(engine.decode_scan(&sealed(&wrong)));
    }
    let longer = [bytes.as_slice(), &[0]].concat();
    assert_eq!(engine.decode_scan(&longer).unwrap_err().kind(), ErrorKind::Corrupt);
}

#[tokio::test(flavor = "multi_thread")]
async fn another_database_reads_nothing_of_it() {
    let (engine, other) = (engine().await, self::engine().await);
    let session = engine.session();
    all(&session, &["CREATE TABLE t (id BIGINT)"]).await;
    let plan = session.physical_plan("SELECT id FROM t").await.unwrap();
    let bytes = engine.encode_scan(&scans(&plan)[0]).unwrap().unwrap();
    let refused = other.decode_scan(&bytes).unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::InvalidInput);
    assert!(refused.message().contains(&engine.database().id().to_string()), "{refused}");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_the_bytes_cannot_say_is_refused() {
    let engine = engine().await;
    let session = engine.session();
    all(&session, &SORTED).await;
    let table = engine.database().snapshot().table_named("public", "s").unwrap();
    let plain = vec![col("id"), col("n")];
    let computed = vec![col("id") + lit(1_i64)];
    let some = || vec![col("n").gt(lit(3_i32))];
    for (pushed_down, filters, select, refused) in [
        (false, some(), plain.clone(), false),
        (false, Vec::new(), computed, true),
        (true, Vec::new(), plain.clone(), false),
        (true, some(), plain, true),
    ] {
        let mut state = engine.template().clone();
        state.config_mut().options_mut().execution.parquet.pushdown_filters = pushed_down;
        let context = SessionContext::new_with_state(state);
        let mut frame = context.read_table(Arc::new(CairnTable::new(table.clone()))).unwrap();
        for filter in filters {
            frame = frame.filter(filter).unwrap();
        }
        let plan = frame.select(select).unwrap().create_physical_plan().await.unwrap();
        let text = displayable(plan.as_ref()).indent(false).to_string();
        match engine.encode_scan(&scans(&plan)[0]) {
            Ok(_) => assert!(!refused, "{text}"),
            Err(error) => assert!(refused && error.kind() == ErrorKind::Unsupported, "{error}: {text}"),
        }
    }
    all(&session, &["SET datafusion.execution.parquet.pushdown_filters = true"]).await;
    let plan = session.physical_plan("SELECT id + 1 FROM s WHERE n > 3").await.unwrap();
    assert!(engine.encode_scan(&scans(&plan)[0]).unwrap().is_some());
    assert!(engine.encode_scan(&plan).unwrap().is_none(), "a projection is no scan");
    let refused = session.physical_plan("DELETE FROM s").await.unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::InvalidInput);
}

#[tokio::test(flavor = "multi_thread")]
async fn filters_prune_what_came_back() {
    let engine = engine().await;
    let session = engine.session();
    all(&session, &SORTED).await;
    let plan = session.physical_plan("SELECT id, n FROM s").await.unwrap();
    let bytes = engine.encode_scan(&scans(&plan)[0]).unwrap().unwrap();
    let decoded = engine.decode_scan(&bytes).unwrap();
    let schema = decoded.schema();
    let id = expressions::col("id", &schema).unwrap();
    let condition = expressions::binary(id, Operator::Gt, expressions::lit(390_i64), &schema).unwrap();
    let filtered = Arc::new(FilterExec::try_new(condition, decoded).unwrap());
    let plan = FilterPushdown::new().optimize(filtered, &ConfigOptions::default()).unwrap();
    let text = displayable(plan.as_ref()).indent(false).to_string();
    assert!(text.contains(", predicate=id@0 > 390"), "{text}");
    assert_eq!(rows(&engine, plan).await.0, 8);
}
