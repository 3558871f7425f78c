//! Plans that are kept, and changes by key: the same answers as when everything is planned each time.

use datafusion::arrow::util::pretty::pretty_format_batches;
use datafusion::common::ScalarValue;
use futures::TryStreamExt;

use super::rights::user;
use super::{all, answer, run, session};
use crate::{Output, Session};

/// What a statement with values comes to, the names of its columns included.
async fn with(session: &Session, sql: &str, params: &[ScalarValue]) -> String {
    let values = (!params.is_empty()).then(|| params.to_vec().into());
    match session.execute(sql, values).await {
        Ok(Output::Rows(rows)) => match rows.stream.try_collect::<Vec<_>>().await {
            Ok(batches) => pretty_format_batches(&batches).unwrap().to_string(),
            Err(error) => crate::Error::from(error).message().to_owned(),
        },
        Ok(Output::Affected { verb, rows, .. }) => format!("{verb} {rows}"),
        Ok(Output::Done { verb, .. }) => verb.to_owned(),
        Err(error) => format!("{} {}", error.sqlstate(), error.message()),
    }
}

fn reused(session: &Session) -> u64 {
    session.engine().statement_figures().plans_reused
}

fn int(value: i64) -> ScalarValue {
    ScalarValue::Int64(Some(value))
}

fn text(value: &str) -> ScalarValue {
    ScalarValue::from(value)
}

/// Planned, planned to be kept, and kept.
async fn thrice(session: &Session, sql: &str, expected: &str) {
    for _ in 0..3 {
        run(session, sql, expected).await;
    }
}

async fn sample() -> Session {
    let session = session().await;
    all(
        &session,
        &[
            "CREATE TABLE t (id BIGINT PRIMARY KEY, s TEXT, n INT, d DECIMAL(10, 2), day DATE)",
            "INSERT INTO t VALUES (1, 'one', 1, 1.25, '2020-01-01'), (2, 'two', NULL, 2.55, '2020-01-02'), \
             (3, 'three', 3, NULL, '2020-01-03'), (4, NULL, 1, 4.05, NULL)",
            "CREATE VIEW v AS SELECT id, n FROM t WHERE n IS NOT NULL",
        ],
    )
    .await;
    session
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_kept_plan_answers_as_a_new_one() {
    let session = sample().await;
    let null = ScalarValue::Int64(None);
    let cases: &[(&str, &[&[ScalarValue]], bool)] = &[
        (
            "SELECT id, s FROM t WHERE n >= $1 ORDER BY id",
            &[
                &[int(1)],
                &[int(3)],
                std::slice::from_ref(&null),
                &[ScalarValue::Null],
                &[ScalarValue::from(1.5)],
                &[int(2)],
                &[text("2")],
            ],
            true,
        ),
        (
            "SELECT n + $1, $2 AS x FROM t WHERE id = $3 OR s = $2 ORDER BY id",
            &[
                &[int(1), text("one"), int(2)],
                &[ScalarValue::from(0.5), text("x"), int(4)],
                &[int(9), text("two"), int(1)],
            ],
            true,
        ),
        (
            "SELECT s FROM t WHERE s LIKE $1 AND day >= $2 ORDER BY id",
            &[
                &[text("t%"), text("2020-01-02")],
                &[text("%e"), text("2020-01-01")],
                &[text("%"), text("no day")],
            ],
            true,
        ),
        ("SELECT d FROM t WHERE d = $1", &[&[ScalarValue::from(2.55)], &[ScalarValue::from(4.05)]], true),
        (
            "SELECT id FROM t ORDER BY id LIMIT $1 OFFSET $2",
            &[&[int(1), int(0)], &[int(2), int(1)], &[int(0), int(3)]],
            true,
        ),
        (
            "SELECT count(*), sum(b.n) FROM t a JOIN v b ON a.id = b.n WHERE a.n IN ($1, $2, 7)",
            &[&[int(1), int(3)], &[int(3), int(3)]],
            true,
        ),
        (
            "SELECT id, (SELECT max(n) FROM t WHERE id < $1) AS m FROM t WHERE EXISTS (SELECT 1 FROM t u WHERE u.n = $1) ORDER BY id",
            &[&[int(3)], &[int(1)], &[int(9)]],
            true,
        ),
        (
            "SELECT CASE WHEN n > $1 THEN 'a' ELSE s END AS c FROM t ORDER BY id",
            &[&[int(1)], &[int(2)]],
            true,
        ),
        (
            "SELECT n, count(*) FROM t WHERE day BETWEEN $1 AND $2 GROUP BY n ORDER BY n",
            &[&[text("2020-01-01"), text("2020-01-03")]],
            true,
        ),
        ("SELECT s FROM t WHERE id = 1 OR n = 3 ORDER BY s", &[&[]], true),
        ("SELECT id, _row_id FROM t WHERE n = $1 ORDER BY id", &[&[int(1)], &[int(3)]], true),
        // The type of what it gives hangs on a value, or it has another meaning each time.
        ("SELECT round(d, $1) AS r FROM t ORDER BY id", &[&[int(1)], &[int(0)]], false),
        ("SELECT id FROM t WHERE upper(s) = upper($1)", &[&[text("one")], &[text("two")]], false),
        ("SELECT count(*) FROM t WHERE day < now()", &[&[]], false),
        ("SELECT current_schema, count(*) FROM t", &[&[]], false),
        ("SELECT count(*) FROM system.tables WHERE name = $1", &[&[text("t")]], false),
        ("SELECT id FROM t WHERE n = $1 AND nope = 1", &[&[int(1)]], false),
    ];
    for (sql, values, is_kept) in cases {
        let before = reused(&session);
        for _ in 0..3 {
            for params in *values {
                // One of its own keeps nothing.
                let expected = with(&session.fork(), sql, params).await;
                assert_eq!(with(&session, sql, params).await, expected, "{sql} {params:?}");
            }
        }
        assert_eq!(reused(&session) > before, *is_kept, "{sql}");
    }
    let plain = "SELECT id FROM t WHERE n = $1";
    let without = with(&session, plain, &[]).await;
    assert!(without.starts_with("42P02"), "{without}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_kept_plan_reads_what_is_there_now() {
    let session = sample().await;
    let sql = "SELECT count(*), max(n) FROM t WHERE n > 0";
    for _ in 0..3 {
        run(&session, sql, "3,3").await;
    }
    let before = reused(&session);
    all(&session, &["INSERT INTO t (id, n) VALUES (5, 50)"]).await;
    run(&session, sql, "4,50").await;
    all(&session, &["BEGIN", "DELETE FROM t WHERE n = 50", "INSERT INTO t (id, n) VALUES (6, 6)"]).await;
    run(&session, sql, "4,6").await;
    all(&session, &["ROLLBACK"]).await;
    run(&session, sql, "4,50").await;
    all(&session, &["CHECKPOINT"]).await;
    run(&session, sql, "4,50").await;
    all(&session.fork(), &["UPDATE t SET n = 60 WHERE id = 5"]).await;
    run(&session, sql, "4,60").await;
    assert_eq!(reused(&session), before + 5, "changes of rows let plans be");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_kept_plan_does_not_outlive_what_it_names() {
    let session = sample().await;
    let (star, view) = ("SELECT * FROM u WHERE a > 0", "SELECT * FROM w WHERE a > 0");
    all(
        &session,
        &["CREATE TABLE u (a INT)", "INSERT INTO u VALUES (1)", "CREATE VIEW w AS SELECT a FROM u"],
    )
    .await;
    thrice(&session, star, "1").await;
    thrice(&session, view, "1").await;
    all(&session, &["ALTER TABLE u ADD COLUMN b INT DEFAULT 2"]).await;
    thrice(&session, star, "1,2").await;
    all(&session, &["CREATE OR REPLACE VIEW w AS SELECT a, b + 1 AS c FROM u"]).await;
    thrice(&session, view, "1,3").await;
    // By somebody else.
    all(
        &session.fork(),
        &[
            "DROP VIEW w",
            "DROP TABLE u",
            "CREATE TABLE u (a BIGINT, z TEXT)",
            "INSERT INTO u VALUES (9, 'z')",
        ],
    )
    .await;
    thrice(&session, star, "9,z").await;
    for _ in 0..3 {
        let got = answer(&session, view).await;
        assert!(got.starts_with("42P01"), "{got}");
    }
    // In a transaction that is rolled back.
    all(&session, &["BEGIN", "DROP TABLE u", "CREATE TABLE u (a INT)", "INSERT INTO u VALUES (4)"]).await;
    thrice(&session, star, "4").await;
    all(&session, &["ROLLBACK"]).await;
    thrice(&session, star, "9,z").await;
    // The same name elsewhere.
    all(
        &session,
        &[
            "CREATE SCHEMA other",
            "CREATE TABLE other.u (a INT)",
            "INSERT INTO other.u VALUES (5)",
            "USE other",
        ],
    )
    .await;
    thrice(&session, star, "5").await;
    all(&session, &["USE public"]).await;
    thrice(&session, star, "9,z").await;
    // By name, in both.
    all(&session, &["PREPARE p AS SELECT * FROM u WHERE a > $1"]).await;
    thrice(&session, "EXECUTE p(0)", "9,z").await;
    thrice(&session, "EXECUTE p(9)", "").await;
    all(&session, &["USE other"]).await;
    thrice(&session, "EXECUTE p(0)", "5").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_kept_plan_asks_for_rights() {
    let owner = sample().await;
    let bob = user(&owner, "bob").await;
    let (table, view) = ("SELECT count(*) FROM t WHERE n > 0", "SELECT count(*) FROM v WHERE n > 0");
    all(&owner, &["GRANT SELECT ON t TO bob", "GRANT SELECT ON v TO bob"]).await;
    let before = reused(&owner);
    for _ in 0..3 {
        run(&bob, table, "3").await;
        run(&bob, view, "3").await;
    }
    assert!(reused(&owner) > before);
    all(&owner, &["REVOKE SELECT ON t FROM bob"]).await;
    for _ in 0..3 {
        let got = answer(&bob, table).await;
        assert!(got.starts_with("42501"), "{got}");
        run(&bob, view, "3").await;
    }
    all(&owner, &["REVOKE SELECT ON v FROM bob", "GRANT SELECT ON t TO bob"]).await;
    for _ in 0..3 {
        run(&bob, table, "3").await;
        let got = answer(&bob, view).await;
        assert!(got.starts_with("42501"), "{got}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_session_keeps_so_many_plans() {
    let session = sample().await;
    for i in 0..200 {
        let sql = format!("SELECT n + {i} FROM t WHERE n > 1");
        for _ in 0..2 {
            run(&session, &sql, &(i + 3).to_string()).await;
        }
    }
    let before = reused(&session);
    run(&session, "SELECT n + 0 FROM t WHERE n > 1", "3").await;
    assert_eq!(reused(&session), before, "the first is gone");
    run(&session, "SELECT n + 199 FROM t WHERE n > 1", "202").await;
    assert_eq!(reused(&session), before + 1, "the last is there");
    // Values of many types are no many plans.
    let types = [
        int(1),
        ScalarValue::Int32(Some(1)),
        ScalarValue::Int16(Some(1)),
        ScalarValue::Int8(Some(1)),
        ScalarValue::from(1.0),
        ScalarValue::UInt8(Some(1)),
    ];
    for _ in 0..3 {
        for value in &types {
            let got =
                with(&session, "SELECT s FROM t WHERE n > $1 ORDER BY s", std::slice::from_ref(value)).await;
            assert!(got.contains("three"), "{got}");
        }
    }
}

/// Changes by key and the same with a condition more, which are planned, on tables of the same rows.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn changes_by_key_are_those_of_the_planner() {
    let session = session().await;
    let names = ["direct", "planned"];
    for name in names {
        let columns = "a INT, b TEXT, n SMALLINT, m BIGINT NOT NULL, d DECIMAL(8, 2) DEFAULT 7, at TIMESTAMPTZ, j JSON, \
                       v VECTOR(2), PRIMARY KEY (a, b)";
        all(&session, &[&format!("CREATE TABLE {name} ({columns})")]).await;
    }
    let null = ScalarValue::Int64(None);
    let cases: &[(&str, &str, &[ScalarValue])] = &[
        (
            "UPDATE t SET n = $1, d = 1.005, at = '2020-01-01', v = '[1,2]' WHERE a = 1 AND b = 'k1'",
            "UPDATE 1",
            &[int(5)],
        ),
        (
            "UPDATE t SET d = '2.5', j = '{\"x\": 1}' WHERE a = $1 AND b = $2",
            "UPDATE 1",
            &[int(2), text("k2")],
        ),
        ("UPDATE t SET n = n + $1, m = m - 7 WHERE b = 'k3' AND a = 3", "UPDATE 1", &[int(100)]),
        ("UPDATE t SET n = n + 1 WHERE a = 3 AND b = 'nobody'", "UPDATE 0", &[]),
        ("UPDATE t SET m = m + 1, n = NULL WHERE a = 4 AND b = 'k4'", "UPDATE 1", &[]),
        ("UPDATE t SET n = n + 1 WHERE a = 4 AND b = 'k4'", "UPDATE 1", &[]),
        ("UPDATE t SET n = n + 40000 WHERE a = 5 AND b = 'k5'", "22003", &[]),
        ("UPDATE t SET m = m + 9223372036854775807 WHERE a = 5 AND b = 'k5'", "22003", &[]),
        ("UPDATE t SET m = NULL WHERE a = 5 AND b = 'k5'", "23502", &[]),
        ("UPDATE t SET m = $1 WHERE a = 5 AND b = 'k5'", "23502", &[null]),
        ("UPDATE t SET m = $1 WHERE a = 5 AND b = 'k5'", "UPDATE 1", &[text("55")]),
        ("UPDATE t SET m = 1.5, d = DEFAULT WHERE a = 6 AND b = 'k6'", "UPDATE 1", &[]),
        ("UPDATE t SET nope = 1 WHERE a = 6 AND b = 'k6'", "42703", &[]),
        ("UPDATE t SET v = '[1]' WHERE a = 6 AND b = 'k6'", "22", &[]),
        ("UPDATE t SET a = 7, b = 'k7' WHERE a = 6 AND b = 'k6'", "23505", &[]),
        ("UPDATE t SET a = 70, b = 'k70' WHERE a = 7 AND b = 'k7'", "UPDATE 1", &[]),
        ("DELETE FROM t WHERE a = $1 AND b = 'k8'", "DELETE 1", &[int(8)]),
        ("DELETE FROM t WHERE a = $1 AND b = 'k8'", "DELETE 0", &[int(8)]),
        ("DELETE FROM t WHERE a = NULL AND b = 'k9'", "DELETE 0", &[]),
        ("DELETE FROM t WHERE a = 9", "DELETE 1", &[]),
        ("DELETE FROM t WHERE a = 10.0 AND b = 'k10'", "DELETE 1", &[]),
    ];
    for round in 0..2 {
        for name in names {
            let rows = "SELECT i, 'k' || CAST(i AS TEXT), i, i * 10 FROM range(20) AS r(i)";
            let filled = format!("INSERT INTO {name} (a, b, n, m) {rows}");
            all(&session, &[&format!("DELETE FROM {name}"), &filled]).await;
        }
        if round == 1 {
            // The same from segments, and in a transaction.
            all(&session, &["CHECKPOINT", "BEGIN"]).await;
        }
        for (sql, expected, params) in cases {
            if round == 1 && !expected.contains(' ') {
                // Errors were met before.
                continue;
            }
            let direct = with(&session, &sql.replace(" t ", " direct "), params).await;
            let planned =
                with(&session, &format!("{} AND 1 = 1", sql.replace(" t ", " planned ")), params).await;
            assert!(direct.starts_with(expected), "{sql}: {direct}");
            assert_eq!(direct.replace("direct", "planned"), planned, "{sql}");
        }
        let rows = |name: &str| format!("SELECT * FROM {name} ORDER BY a, b");
        if round == 1 {
            all(
                &session,
                &["SAVEPOINT s", "DELETE FROM direct WHERE a = 1 AND b = 'k1'", "ROLLBACK TO SAVEPOINT s"],
            )
            .await;
            assert_eq!(answer(&session, &rows("direct")).await, answer(&session, &rows("planned")).await);
            all(&session, &["COMMIT"]).await;
        }
        let direct = answer(&session, &rows("direct")).await;
        assert_eq!(direct, answer(&session, &rows("planned")).await);
        assert_eq!(direct.split(';').count(), 17, "{direct}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn changes_by_key_ask_for_rights_and_meet_others() {
    let owner = sample().await;
    let bob = user(&owner, "bob").await;
    let (update, delete) = ("UPDATE t SET n = n + 1 WHERE id = 1", "DELETE FROM t WHERE id = 2");
    for granted in ["UPDATE, DELETE", "SELECT"] {
        for sql in [update, delete] {
            let got = answer(&bob, sql).await;
            assert!(got.starts_with("42501"), "{sql}: {got}");
        }
        all(&owner, &[&format!("GRANT {granted} ON t TO bob")]).await;
    }
    run(&bob, update, "UPDATE 1").await;
    run(&bob, delete, "DELETE 1").await;
    run(&owner, "SELECT id, n FROM t ORDER BY id", "1,2;3,3;4,1").await;
    // Each of them is counted, however often two meet.
    let sessions: Vec<Session> = (0..4).map(|_| owner.engine().session()).collect();
    let updates = sessions.iter().map(|session| async move {
        for _ in 0..10 {
            while answer(session, update).await != "UPDATE 1" {}
        }
    });
    futures::future::join_all(updates).await;
    run(&owner, "SELECT n FROM t WHERE id = 1", "42").await;
}
