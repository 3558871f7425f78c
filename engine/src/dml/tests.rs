//! Changes end to end: each case is statements and what they must answer.
#![allow(clippy::unwrap_used)]

use std::sync::Arc;

use cairn_storage::OpenOptions;
use datafusion::arrow::array::RecordBatch;
use datafusion::arrow::util::display::{ArrayFormatter, FormatOptions};
use datafusion::common::{ParamValues, ScalarValue};
use futures::TryStreamExt;

use crate::{Engine, EngineOptions, Output, Root, Session};

pub(super) async fn session() -> Session {
    let options = EngineOptions {
        storage: OpenOptions::default(),
        memory_limit: None,
        partitions: Some(2),
        ..EngineOptions::default()
    };
    Engine::open(Root::Memory, options).await.unwrap().session()
}

fn rows(batches: &[RecordBatch]) -> String {
    let options = FormatOptions::default().with_null("NULL");
    let mut lines = Vec::new();
    for batch in batches {
        let columns: Vec<_> =
            batch.columns().iter().map(|c| ArrayFormatter::try_new(c.as_ref(), &options).unwrap()).collect();
        for row in 0..batch.num_rows() {
            lines.push(columns.iter().map(|c| c.value(row).to_string()).collect::<Vec<_>>().join(" "));
        }
    }
    lines.join("|")
}

pub(super) async fn answer(session: &Session, sql: &str, params: Option<ParamValues>) -> String {
    match session.execute(sql, params).await {
        Ok(Output::Rows(stream)) => match stream.stream.try_collect::<Vec<_>>().await {
            Ok(batches) => rows(&batches),
            Err(error) => format!("ERROR {error}"),
        },
        Ok(Output::Affected { verb, rows, notes }) => match notes.first() {
            None => format!("{verb} {rows}"),
            Some(note) => format!("{verb} {rows} ({note})"),
        },
        Ok(Output::Done { verb, .. }) => verb.to_owned(),
        Err(error) => format!("{} {error}", error.sqlstate()),
    }
}

/// Runs `statement => answer` pairs; an answer that ends in `…` needs to match only up to there.
pub(super) async fn check(session: &Session, cases: &[(&str, &str)]) {
    for (sql, expected) in cases {
        let got = answer(session, sql, None).await;
        match expected.strip_suffix('…') {
            Some(start) => assert!(got.starts_with(start), "{sql}\n  got      {got}\n  expected {expected}"),
            None => assert_eq!(&got, expected, "{sql}"),
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn deletes_exactly_what_the_predicate_says() {
    let s = session().await;
    check(&s, &[
        ("CREATE TABLE t (id INT PRIMARY KEY, a INT, b TEXT)", "CREATE TABLE"),
        ("CREATE TABLE u (k INT)", "CREATE TABLE"),
        ("INSERT INTO t VALUES (1, 10, 'x'), (2, NULL, 'y'), (3, 30, NULL), (4, 40, 'z'), (5, 50, 'z'), (6, 60, 'w')", "INSERT 6"),
        ("INSERT INTO u VALUES (1), (3)", "INSERT 2"),
        ("DELETE FROM t WHERE false", "DELETE 0"),
        ("DELETE FROM t WHERE NULL", "DELETE 0"),
        ("DELETE FROM t WHERE a = NULL", "DELETE 0"),
        ("DELETE FROM t WHERE id IN (SELECT k FROM u WHERE k > 100)", "DELETE 0"),
        ("DELETE FROM t WHERE id IN (SELECT k FROM u WHERE k < 2)", "DELETE 1"),
        ("DELETE FROM t AS x WHERE EXISTS (SELECT 1 FROM u WHERE u.k = x.id)", "DELETE 1"),
        ("DELETE FROM t WHERE a = (SELECT max(a) FROM t)", "DELETE 1"),
        ("DELETE FROM t AS x WHERE x.a IS NULL RETURNING id, b, x.id + 1 AS next", "2 y 3"),
        ("SELECT id FROM t ORDER BY id", "4|5"),
        ("DELETE FROM t LIMIT 1", "DELETE 1"),
        ("DELETE FROM t USING u WHERE t.id > u.k", "DELETE 1"),
        ("SELECT count(*) FROM t", "0"),
        ("DELETE FROM nope", "42P01…"),
    ]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn updates_read_one_snapshot() {
    let s = session().await;
    check(
        &s,
        &[
            (
                "CREATE TABLE t (id INT PRIMARY KEY, a SMALLINT NOT NULL, d DECIMAL(10,2) DEFAULT 1.5)",
                "CREATE TABLE",
            ),
            ("INSERT INTO t (id, a) VALUES (1, 1), (2, 2), (3, 3)", "INSERT 3"),
            ("UPDATE t SET id = id + 1", "UPDATE 3"),
            ("SELECT * FROM t ORDER BY id", "2 1 1.50|3 2 1.50|4 3 1.50"),
            ("UPDATE t SET a = a * 20000 WHERE id = 4", "22003…"),
            ("UPDATE t SET a = NULL", "23502…"),
            ("UPDATE t SET a = 'x'", "22P02…"),
            ("UPDATE t SET nope = 1", "42703…"),
            ("UPDATE t SET a = count(*)", "42803…"),
            ("UPDATE t SET id = 2 WHERE id = 3", "23505…"),
            ("UPDATE t SET d = 0.1, a = (SELECT count(*) FROM t) WHERE id = 2 RETURNING *", "2 3 0.10"),
            ("UPDATE t SET (a, d) = (7, DEFAULT) WHERE id IN (SELECT min(id) FROM t)", "UPDATE 1"),
            (
                "UPDATE t AS x SET a = v.b FROM (VALUES (3, 9), (3, 9)) AS v(k, b) WHERE x.id = v.k",
                "21000…",
            ),
            (
                "UPDATE t AS x SET a = v.b FROM (VALUES (3, 9), (5, 9)) AS v(k, b) WHERE x.id = v.k RETURNING x.id, b, k",
                "3 9 3",
            ),
            ("SELECT * FROM t ORDER BY id", "2 7 1.50|3 9 1.50|4 3 1.50"),
        ],
    )
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn inserts_assign_and_default() {
    let s = session().await;
    check(&s, &[
        ("CREATE TABLE t (id BIGINT PRIMARY KEY, n TEXT DEFAULT 'none', d DATE, at TIMESTAMPTZ DEFAULT now(), x DECIMAL(38,20))", "CREATE TABLE"),
        ("INSERT INTO t (id, d, x) VALUES (1 + 0, '2020-01-02', 0.1)", "INSERT 1"),
        ("INSERT INTO t (id, d, x) VALUES (2, '2020-01-02', 0.1)", "INSERT 1"),
        ("SELECT count(DISTINCT x), max(x), count(at), min(n) FROM t", "1 0.10000000000000000000 2 none"),
        ("INSERT INTO t (id, n) VALUES (3, DEFAULT), (4, upper('q')) RETURNING id, n", "3 none|4 Q"),
        ("INSERT INTO t (id) SELECT 5 RETURNING _row_id, _version > 0", "5 true"),
        ("SELECT _row_id FROM t WHERE id = 5", "5"),
        ("INSERT INTO t (id) VALUES (1)", "23505…"),
        ("INSERT INTO t (id) VALUES ('abc')", "22P02…"),
        ("INSERT INTO t (id, d) VALUES (9, 'someday')", "22007…"),
        ("INSERT INTO t (id) VALUES (9, 9)", "42601…"),
        ("INSERT INTO t (id, n) VALUES (9)", "42601…"),
        ("INSERT INTO t (n) VALUES ('x')", "23502…"),
        ("INSERT INTO t (id, id) VALUES (9, 9)", "42701…"),
        ("INSERT INTO t (id, n) SELECT a, a FROM (VALUES (7)) AS v(a)", "INSERT 1"),
        ("SELECT count(*) FROM t", "6"),
    ]).await;
    let params = Some(ParamValues::from(vec![ScalarValue::from(11_i64), ScalarValue::from("p")]));
    assert_eq!(answer(&s, "INSERT INTO t (id, n) VALUES ($1, $2)", params.clone()).await, "INSERT 1");
    assert_eq!(answer(&s, "DELETE FROM t WHERE id = $1 AND n = $2 RETURNING id", params).await, "11");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn conflicts_are_resolved() {
    let s = session().await;
    check(&s, &[
        ("CREATE TABLE t (k INT PRIMARY KEY, v INT)", "CREATE TABLE"),
        ("INSERT INTO t VALUES (1, 1), (2, 2)", "INSERT 2"),
        ("INSERT INTO t VALUES (1, 9), (3, 3), (3, 4) ON CONFLICT DO NOTHING RETURNING k, v", "3 3"),
        ("INSERT INTO t VALUES (1, 9), (4, 4) ON CONFLICT (k) DO UPDATE SET v = t.v + excluded.v", "INSERT 2"),
        ("INSERT INTO t VALUES (1, 9), (2, 9) ON CONFLICT (k) DO UPDATE SET v = 0 WHERE t.v < 5 RETURNING *", "2 0"),
        ("INSERT INTO t VALUES (7, 1), (7, 2) ON CONFLICT (k) DO UPDATE SET v = 0", "21000…"),
        ("INSERT INTO t VALUES (1, 1) ON CONFLICT (v) DO NOTHING", "42P10…"),
        ("SELECT * FROM t ORDER BY k", "1 10|2 0|3 3|4 4"),
    ]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn copies_in_and_out() {
    let s = session().await;
    let dir = tempfile::tempdir().unwrap();
    let at = |name: &str| format!("{}/{name}", dir.path().display());
    check(
        &s,
        &[(
            "CREATE TABLE t (id INT PRIMARY KEY, n TEXT, d DATE, x DECIMAL(10,2), at TIMESTAMP, y BYTEA)",
            "CREATE TABLE",
        )],
    )
    .await;
    let big = "INSERT INTO t SELECT v, CASE WHEN v % 3 = 0 THEN NULL WHEN v % 3 = 1 THEN '' ELSE 'a,\"b\nc' END, CAST(CAST(18000 + v AS INT) AS DATE), v / 4.0, TIMESTAMP '2020-01-01 01:02:03.5', 'q' FROM generate_series(1, 20000) AS g(v)";
    check(
        &s,
        &[
            (big, "INSERT 20000"),
            (
                "CREATE TABLE c (id INT PRIMARY KEY, n TEXT, d DATE, x DECIMAL(10,2), at TIMESTAMP, y BYTEA)",
                "CREATE TABLE",
            ),
        ],
    )
    .await;
    for format in ["csv", "parquet", "ndjson", "arrow"] {
        let file = at(&format!("t.{format}"));
        let subject = if format == "ndjson" { "(SELECT id, n, d, x, at FROM t)" } else { "t" };
        let cases = [
            (format!("COPY {subject} TO '{file}'"), "COPY 20000"),
            (format!("COPY c FROM '{file}'"), "COPY 20000"),
            ("SELECT count(*) FROM c JOIN t ON t.id = c.id AND (t.n IS NOT DISTINCT FROM c.n) AND t.d = c.d AND t.x = c.x AND t.at = c.at".to_owned(), "20000"),
            (format!("SELECT count(*) FROM '{file}'"), "20000"),
            (format!("COPY c FROM '{file}'"), "23505…"),
            ("DELETE FROM c".to_owned(), "DELETE 20000"),
        ];
        for (sql, expected) in &cases {
            check(&s, &[(sql, expected)]).await;
        }
    }
    std::fs::write(at("bad.csv"), "id,n,d\n1,\"x\ny\",2020-01-01\n2,b,2020-02-30\n3,c,2020-01-01\n").unwrap();
    check(
        &s,
        &[
            (
                &format!("COPY c FROM '{}'", at("bad.csv")),
                &format!(
                    "22P02 '{}', line 4: column \"d\": \"2020-02-30\" is not a valid DATE",
                    at("bad.csv")
                ),
            ),
            ("SELECT count(*) FROM c", "0"),
            (
                &format!("COPY c FROM '{}' WITH (on_error 'skip')", at("bad.csv")),
                "COPY 2 (1 row was skipped)",
            ),
            (&format!("COPY c FROM '{}'", at("none.csv")), "58P01…"),
            ("COPY c TO '/nowhere/x.csv'", "58P01…"),
            (&format!("COPY c (id, nope) FROM '{}'", at("bad.csv")), "42703…"),
        ],
    )
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn concurrent_changes_of_one_row_all_count() {
    let s = session().await;
    check(
        &s,
        &[
            ("CREATE TABLE t (k INT PRIMARY KEY, v INT)", "CREATE TABLE"),
            ("INSERT INTO t VALUES (1, 0)", "INSERT 1"),
        ],
    )
    .await;
    let engine = Arc::clone(s.engine());
    let sessions: Vec<Session> = (0..3).map(|_| engine.session()).collect();
    let sql = "INSERT INTO t VALUES (1, 1) ON CONFLICT (k) DO UPDATE SET v = t.v + 1";
    let answers = futures::future::join_all(sessions.iter().map(|session| answer(session, sql, None))).await;
    assert_eq!(answers, ["INSERT 1", "INSERT 1", "INSERT 1"]);
    check(&s, &[("SELECT v FROM t", "3")]).await;
}
