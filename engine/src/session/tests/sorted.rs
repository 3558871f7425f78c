//! Joins that need more memory than there is are done by sorting: the same rows, and somebody is told.

use datafusion::arrow::util::pretty::pretty_format_batches;
use futures::TryStreamExt;

use super::{all, answer, run, session, session_within};
use crate::session::shape_of;
use crate::{Output, Session};

/// What a statement answers, joined by sorting or as it comes.
async fn shown(session: &Session, sql: &str, sorts: bool) -> String {
    let prepared = session.prepare(sql).unwrap();
    let shape = shape_of(&prepared.statement);
    let settings = session.lock().settings.clone();
    let (context, catalog) = session.context_of(&shape, &settings, None, sorts).await.unwrap();
    let output = session.attempt(&context, &catalog, &settings, &shape, &prepared).await;
    let batches = match output.unwrap_or_else(|error| panic!("{sql}: {error}")) {
        Output::Rows(rows) => rows.stream.try_collect::<Vec<_>>().await.unwrap(),
        _ => panic!("{sql}: no rows"),
    };
    pretty_format_batches(&batches).unwrap().to_string()
}

#[tokio::test]
async fn joins_by_sorting_have_the_rows_of_hash_joins() {
    let session = session().await;
    // Sides change places where the left one is larger.
    all(
        &session,
        &[
            "CREATE TABLE l (id INT PRIMARY KEY, k BIGINT, t TEXT, f DOUBLE, at TIMESTAMPTZ)",
            "INSERT INTO l SELECT i, CASE WHEN i % 11 > 0 THEN i % 700 END, 'k' || i % 300, CASE i % 50 WHEN 0 THEN CAST('NaN' AS DOUBLE) WHEN 1 THEN CAST('-0' AS DOUBLE) WHEN 2 THEN 0.0 WHEN 3 THEN NULL ELSE i % 400 END, to_timestamp(i % 400) FROM generate_series(1, 1300) g(i)",
            "CREATE TABLE r (n INT, id INT PRIMARY KEY, k BIGINT, t TEXT, f DOUBLE, at TIMESTAMPTZ)",
            "INSERT INTO r SELECT i % 7, i, CASE WHEN i % 13 > 0 THEN i % 900 END, 'k' || i % 500, CASE i % 50 WHEN 0 THEN CAST('NaN' AS DOUBLE) WHEN 1 THEN CAST('-0' AS DOUBLE) WHEN 2 THEN 0.0 WHEN 3 THEN NULL ELSE i % 300 END, to_timestamp(i % 500) FROM generate_series(1, 1100) g(i)",
        ],
    )
    .await;
    let of_both = "SELECT count(*), count(l.id), count(r.id), sum(l.id), sum(r.id), sum(r.n) FROM l";
    let of_left = "SELECT count(*), sum(id) FROM l WHERE";
    for (sql, sorts) in [
        (format!("{of_both} LEFT JOIN r ON l.k = r.k"), true),
        (format!("{of_both} RIGHT JOIN r ON l.k = r.k AND l.t = r.t"), true),
        (format!("{of_both} FULL JOIN r ON l.k = r.k"), true),
        (format!("{of_both} FULL JOIN r ON l.at = r.at AND l.t = r.t"), true),
        (format!("{of_both} FULL JOIN r ON l.k IS NOT DISTINCT FROM r.k"), true),
        (format!("{of_both} JOIN r ON l.k IS NOT DISTINCT FROM r.k"), true),
        // The condition reads columns of both sides, whichever side is which.
        (format!("{of_both} JOIN r ON l.k = r.k AND l.id < r.id AND l.id % 5 <> r.n"), true),
        // A key that cannot be computed of rows that a condition leaves out.
        (format!("{of_both} JOIN r ON l.k / (l.id % 5) = r.k WHERE l.id % 5 <> 0"), true),
        // Rows of both sides have one key: what is sorted by behind it is in no order by itself.
        (
            "SELECT l.k, r.n FROM l JOIN r ON l.k = r.k ORDER BY r.k NULLS FIRST, r.n NULLS FIRST".to_owned(),
            true,
        ),
        // More rows than are kept in memory with the batches they came in.
        ("SELECT l.t, r.id FROM l JOIN r ON l.k = r.k ORDER BY l.t, l.id, r.id LIMIT 40".to_owned(), true),
        (format!("{of_left} EXISTS (SELECT 1 FROM r WHERE r.k = l.k AND r.id > l.id)"), true),
        (format!("{of_left} NOT EXISTS (SELECT 1 FROM r WHERE r.k = l.k)"), true),
        (
            "SELECT count(*), sum(id), sum(n) FROM r WHERE EXISTS (SELECT 1 FROM l WHERE r.k = l.k)"
                .to_owned(),
            true,
        ),
        (format!("{of_left} id < 9 OR EXISTS (SELECT 1 FROM r WHERE r.k = l.k)"), true),
        (format!("{of_left} EXISTS (SELECT 1 FROM r WHERE r.at = l.at)"), true),
        // One NULL on the other side, and there is no row.
        (format!("{of_left} k NOT IN (SELECT k FROM r)"), true),
        (format!("{of_left} k NOT IN (SELECT k FROM r WHERE k IS NOT NULL AND n = 3)"), true),
        (format!("{of_left} k NOT IN (SELECT k FROM r WHERE n < 0)"), true),
        (format!("{of_left} f NOT IN (SELECT f FROM r WHERE f IS NOT NULL AND id % 3 = 0)"), true),
        (format!("{of_both} FULL JOIN r ON l.k = r.k AND l.id < r.id"), false),
        // Both zeros are one number, and NaN is.
        (format!("{of_both} JOIN r ON l.f = r.f"), true),
        (format!("{of_both} FULL JOIN r ON l.f = r.f AND l.k = r.k"), true),
        (format!("{of_left} f IN (SELECT f FROM r)"), true),
        (format!("{of_left} NOT EXISTS (SELECT 1 FROM r WHERE r.f = l.f AND r.id < l.id)"), true),
        // A side that is small stays in a hash join.
        ("SELECT count(*), sum(l.id) FROM l JOIN (VALUES (3), (4)) v(k) ON l.k = v.k".to_owned(), false),
    ] {
        let plan = shown(&session, &format!("EXPLAIN FORMAT indent {sql}"), true).await;
        let is_sorted = plan.contains("SortMergeJoinExec") || plan.contains("NotInJoinExec");
        assert_eq!(is_sorted, sorts, "{sql}\n{plan}");
        if sorts {
            assert_eq!(shown(&session, &sql, true).await, shown(&session, &sql, false).await, "{sql}");
        }
    }
}

#[tokio::test]
async fn outer_joins_by_sorting_have_conditions_beside_their_keys() {
    let session = session().await;
    all(
        &session,
        &[
            "CREATE TABLE l (id INT PRIMARY KEY, k BIGINT, n INT)",
            "INSERT INTO l SELECT i, CASE WHEN i % 11 > 0 THEN i % 130 END, i * 7 % 31 FROM generate_series(1, 1300) g(i)",
            "CREATE TABLE r (n INT, k BIGINT, id INT PRIMARY KEY)",
            "INSERT INTO r SELECT CASE WHEN i % 5 > 0 THEN i * 13 % 29 END, CASE WHEN i % 13 > 0 THEN i % 170 END, i FROM generate_series(1, 1100) g(i)",
        ],
    )
    .await;
    let of_both = "SELECT count(*), count(l.id), count(r.id), sum(l.id * 7 + r.id), sum(l.id), sum(r.id), sum(r.n) FROM l";
    // Pairs of one row in one batch and in many.
    for rows in [8_192, 16] {
        run(&session, &format!("SET datafusion.execution.batch_size = {rows}"), "SET").await;
        for condition in [
            "l.n < r.n",
            "r.n IS NULL AND l.n > 3",
            "r.n > 28",
            "l.id < -1 OR r.id < -1",
            "CASE WHEN l.n = 4 THEN NULL ELSE l.n <> r.n END",
        ] {
            for (join, sorts) in [("LEFT", true), ("RIGHT", true), ("FULL", false)] {
                let sql = format!("{of_both} {join} JOIN r ON l.k = r.k AND ({condition})");
                let plan = shown(&session, &format!("EXPLAIN FORMAT indent {sql}"), true).await;
                assert_eq!(plan.contains("SortMergeJoinExec"), sorts, "{sql}\n{plan}");
                if sorts {
                    assert_eq!(
                        shown(&session, &sql, true).await,
                        shown(&session, &sql, false).await,
                        "{sql}"
                    );
                }
            }
        }
    }
}

#[tokio::test]
async fn joins_that_somebody_wants_by_sorting_keep_the_order_that_is_asked_for() {
    let session = session().await;
    all(
        &session,
        &[
            "CREATE TABLE l (k BIGINT, x BIGINT)",
            "INSERT INTO l SELECT i % 5, i FROM generate_series(1, 20) g(i)",
            "CREATE TABLE r (x BIGINT, k BIGINT)",
            "INSERT INTO r SELECT i % 7, i % 5 FROM generate_series(1, 20) g(i)",
        ],
    )
    .await;
    let by_key = "SELECT l.k, r.x FROM l JOIN r ON l.k = r.k ORDER BY r.k NULLS FIRST, r.x NULLS FIRST";
    let beside = "SELECT count(*), sum(r.x) FROM l JOIN r ON l.k = r.k AND l.x % 3 < r.x";
    let hashed = [answer(&session, by_key).await, answer(&session, beside).await];
    run(&session, "SET datafusion.optimizer.prefer_hash_join = false", "SET").await;
    assert!(answer(&session, &format!("EXPLAIN FORMAT indent {by_key}")).await.contains("SortMergeJoinExec"));
    assert_eq!([answer(&session, by_key).await, answer(&session, beside).await], hashed);
}

#[tokio::test]
async fn a_second_attempt_has_the_functions_of_the_first() {
    let session = session().await;
    run(&session, "SET timezone = 'Europe/Berlin'", "SET").await;
    // The type of a column says of which zone it is.
    let sql =
        "SELECT to_timestamp(1767225600) AS a, to_timestamp('2026-07-01 12:00:00') AS b, current_user AS c";
    assert_eq!(shown(&session, sql, true).await, shown(&session, sql, false).await);
}

/// 9 MB: half of it, the larger part of a hash join in two, is more than the 4 MiB of these tests, whatever else is there at the time.
const WIDE: &str =
    "(SELECT value AS x, repeat('wide ', 100) || value AS t FROM generate_series(1, 18000) AS g(value))";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_join_that_needs_more_memory_than_there_is_is_answered() {
    let session = session_within(4 << 20).await;
    let sql = format!(
        "SELECT count(*) AS n, sum(length(a.t)) AS l, sum(length(b.t)) AS m FROM {WIDE} AS a JOIN {WIDE} AS b ON a.x = b.x"
    );
    let note = "joined by sorting: the hash join needed more memory than the limit";
    run(&session, &format!("CREATE TABLE j AS {sql}"), &format!("CREATE TABLE 1 {note}")).await;
    run(&session, "SELECT * FROM j", "18000,9078894,9078894").await;
    let explained = session.execute(&format!("EXPLAIN ANALYZE {sql}"), None).await;
    let Ok(Output::Rows(rows)) = explained else { panic!("no rows") };
    assert_eq!(rows.notes, [note]);
    let plan = rows.stream.try_collect::<Vec<_>>().await.unwrap();
    let plan = pretty_format_batches(&plan).unwrap().to_string();
    assert!(plan.contains("SortMergeJoinExec"), "{plan}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rows_without_a_key_are_not_rows_of_one_key() {
    let session = session_within(4 << 20).await;
    let side = format!("(SELECT CASE WHEN x % 40 = 0 THEN x END AS k, t FROM {WIDE})");
    for (join, answer) in [("JOIN", "450,226975,226975"), ("FULL JOIN", "35550,9078894,9078894")] {
        let sql = format!(
            "SELECT count(*), sum(length(a.t)), sum(length(b.t)) FROM {side} AS a {join} {side} AS b ON a.k = b.k"
        );
        run(&session, &sql, answer).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_does_not_fit_by_sorting_either_fails() {
    let session = session_within(4 << 20).await;
    // All rows have one key.
    let one_key =
        format!("SELECT max(a.t), max(b.t) FROM {WIDE} AS a JOIN {WIDE} AS b ON (a.x > 0) = (b.x > 0)");
    let got = answer(&session, &one_key).await;
    assert!(got.starts_with("53200 the query needs more memory than the limit allows"), "{got}");
    // One that cannot be done so says why.
    let outer = format!(
        "SELECT count(*), sum(length(a.t)), sum(length(b.t)) FROM {WIDE} AS a FULL JOIN {WIDE} AS b ON a.x = b.x AND a.x % 7 < b.x % 5"
    );
    let error = session.execute(&outer, None).await.err().unwrap();
    assert_eq!(error.sqlstate(), "53200", "{error}");
    assert!(error.hint().is_some_and(|hint| hint.contains("full join with a condition")), "{error:?}");
    run(&session, "SELECT count(*) FROM (VALUES (1), (2)) a(x) JOIN (VALUES (2)) b(x) ON a.x = b.x", "1")
        .await;
}
