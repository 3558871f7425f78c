//! PREPARE, EXECUTE and DEALLOCATE.

use datafusion::arrow::datatypes::DataType;
use datafusion::common::{ParamValues, ScalarValue};

use super::{all, answer, check, run, session};
use crate::{Identity, SessionLimits};

#[tokio::test]
async fn a_statement_is_prepared_once_and_run_with_values() {
    check(&[
        ("CREATE TABLE t (id INT PRIMARY KEY, n TEXT, d DECIMAL(30, 20))", "CREATE TABLE"),
        ("PREPARE put AS INSERT INTO t VALUES ($1, $2, $3)", "PREPARE"),
        ("EXECUTE put(1, 'one', '0.12345678901234567891')", "INSERT 1"),
        ("EXECUTE put(1 + 1, upper('two'), NULL)", "INSERT 1"),
        ("EXECUTE put(3, NULL, 1)", "INSERT 1"),
        ("EXECUTE put(1, 'again', 0)", "23505 …"),
        ("EXECUTE put(4)", "07001 1:9 the statement has 3 parameters, 1 was given"),
        ("PREPARE find (INT) AS SELECT id, n, d FROM t WHERE id = $1", "PREPARE"),
        ("EXECUTE find(1)", "1,one,0.12345678901234567891"),
        ("EXECUTE find('2')", "2,TWO,"),
        ("EXECUTE find(NULL)", ""),
        ("EXECUTE find('x')", "22P02 …"),
        ("PREPARE find AS SELECT 1", "42P05 …"),
        ("PREPARE typo AS SELECT nope FROM t", "42703 …"),
        ("PREPARE gone AS SELECT 1 FROM nowhere", "42P01 …"),
        ("PREPARE up AS UPDATE t SET n = $2 WHERE id = $1 RETURNING n", "PREPARE"),
        ("EXECUTE up(3, 'three')", "three"),
        (
            "PREPARE both AS MERGE INTO t USING (SELECT $1 AS id) AS s ON t.id = s.id \
             WHEN MATCHED THEN UPDATE SET n = $2 WHEN NOT MATCHED THEN INSERT (id, n) VALUES (s.id, $2)",
            "PREPARE",
        ),
        ("EXECUTE both(3, 'III')", "MERGE 1"),
        ("EXECUTE both(5, 'V')", "MERGE 1"),
        ("SELECT id, n FROM t WHERE id IN (3, 5) ORDER BY id", "3,III;5,V"),
        ("SELECT name, parameters FROM system.prepared_statements", "both,…"),
        ("DEALLOCATE find", "DEALLOCATE"),
        ("EXECUTE find(1)", "26000 …"),
        ("DEALLOCATE find", "26000 …"),
        ("DEALLOCATE PREPARE ALL", "DEALLOCATE"),
        ("SELECT count(*) FROM system.prepared_statements", "0"),
    ])
    .await;
}

#[tokio::test]
async fn a_prepared_statement_sees_definitions_as_they_are() {
    let session = session().await;
    all(&session, &["CREATE TABLE t (a INT)", "INSERT INTO t VALUES (1)", "PREPARE p AS SELECT * FROM t"])
        .await;
    run(&session, "EXECUTE p", "1").await;
    all(&session, &["DROP TABLE t", "CREATE TABLE t (b TEXT, c INT)", "INSERT INTO t VALUES ('x', 2)"]).await;
    run(&session, "EXECUTE p", "x,2").await;
    // A transaction that is rolled back takes it not away, and its changes are seen.
    all(&session, &["BEGIN", "PREPARE q AS SELECT count(*) FROM t", "DELETE FROM t"]).await;
    run(&session, "EXECUTE q", "0").await;
    all(&session, &["ROLLBACK"]).await;
    run(&session, "EXECUTE q", "1").await;
    // Those of a session are its forks', and nobody else's.
    run(&session.fork(), "EXECUTE q", "1").await;
    let got = answer(&session.engine().session(), "EXECUTE q").await;
    assert!(got.starts_with("26000 "), "{got}");
}

#[tokio::test]
async fn execute_is_described_as_its_statement_and_takes_values_itself() {
    let session = session().await;
    all(&session, &["PREPARE p (INT, TEXT) AS SELECT $1 + 1 AS next, $2 AS word"]).await;
    let described = session.describe("EXECUTE p($1, 'x')").await.unwrap();
    assert!(described.reads_only);
    let columns = described.columns.unwrap();
    assert_eq!(columns.field(0).name(), "next");
    let types: Vec<_> = described.parameters.iter().map(|p| p.data_type.clone()).collect();
    assert_eq!(types, [Some(DataType::Int32)]);
    let values = ParamValues::from(vec![ScalarValue::Int64(Some(41))]);
    assert!(session.execute("EXECUTE p($1, 'x')", Some(values.clone())).await.is_ok());
    let error = session.execute("EXECUTE p(1, 'x')", Some(values)).await.err().unwrap();
    assert_eq!(error.sqlstate(), "07001");
}

#[tokio::test]
async fn the_texts_of_a_session_are_bounded_together() {
    let session = session().await;
    let long = "x".repeat(60_000);
    for i in 0..17 {
        run(&session, &format!("PREPARE p{i} AS SELECT '{long}' AS a"), "PREPARE").await;
    }
    let got = answer(&session, &format!("PREPARE p17 AS SELECT '{long}' AS a")).await;
    assert!(got.starts_with("54000 the session's prepared statements would have"), "{got}");
    run(&session, "DEALLOCATE p3", "DEALLOCATE").await;
    run(&session, &format!("PREPARE p17 AS SELECT '{long}' AS a"), "PREPARE").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn values_are_computed_on_the_threads_of_statements() {
    let threads = Some(tokio::runtime::Handle::current());
    let limits = SessionLimits { threads, ..SessionLimits::default() };
    let session = session().await.engine().session_as(Identity::owner(), limits);
    all(&session, &["PREPARE p (INT) AS SELECT $1 + 1 AS next"]).await;
    run(&session, "EXECUTE p(20 + 21)", "42").await;
    assert!(answer(&session, "EXECUTE p('x')").await.starts_with("22P02 "));
    run(&session, "EXECUTE p(NULL)", "").await;
}
