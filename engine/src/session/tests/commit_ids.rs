//! Ids that clients give their commits: a statement that is run again under the id of its commit changes nothing again.

use datafusion::common::{ParamValues, ScalarValue};
use futures::TryStreamExt;

use super::rights::user;
use super::{all, answer, run, session};
use crate::{Output, Session};

fn id(n: usize) -> String {
    format!("{n:08x}-5eed-4000-8000-000000000001")
}

async fn give(session: &Session, id: &str) {
    run(session, &format!("SET commit_id = '{id}'"), "SET").await;
}

/// The version that SHOW COMMIT tells.
async fn version_of(session: &Session, id: &str) -> String {
    let shown = answer(session, &format!("SHOW COMMIT '{id}'")).await;
    let row: Vec<&str> = shown.split(',').collect();
    assert_eq!((row[0], row[3]), (id, "committed"), "{shown}");
    assert!(row[2].ends_with('Z') && row[2].len() > 10, "{shown}");
    row[1].to_owned()
}

#[tokio::test]
async fn a_statement_is_not_applied_twice() {
    let session = session().await;
    all(&session, &["CREATE TABLE t (id INT PRIMARY KEY, n INT)", "CREATE TABLE log (x INT)"]).await;
    for (n, (sql, first, again)) in [
        ("INSERT INTO t VALUES (1, 10)", "INSERT 1", "INSERT 0"),
        ("INSERT INTO t SELECT 1 + 1, 20", "INSERT 1", "INSERT 0"),
        ("UPDATE t SET n = n + 1", "UPDATE 2", "UPDATE 0"),
        ("DELETE FROM t WHERE id = 2", "DELETE 1", "DELETE 0"),
        ("INSERT INTO log SELECT n FROM t", "INSERT 1", "INSERT 0"),
        ("WITH a AS (SELECT 7 AS x) INSERT INTO log SELECT x FROM a", "INSERT 1", "INSERT 0"),
        ("CREATE TABLE u AS SELECT 1 AS x", "CREATE TABLE 1", "CREATE TABLE 0"),
        ("CREATE TABLE v (x INT)", "CREATE TABLE", "CREATE TABLE"),
        ("CREATE VIEW w AS SELECT x FROM u", "CREATE VIEW", "CREATE VIEW"),
        ("CREATE SCHEMA s", "CREATE SCHEMA", "CREATE SCHEMA"),
        ("TRUNCATE u", "TRUNCATE 1", "TRUNCATE 0"),
        ("DROP VIEW w", "DROP VIEW", "DROP VIEW"),
        ("DROP TABLE u", "DROP TABLE", "DROP TABLE"),
        ("CREATE ROLE readers", "CREATE ROLE", "CREATE ROLE"),
        ("GRANT SELECT ON t TO readers", "GRANT", "GRANT"),
        ("DROP ROLE readers", "DROP ROLE", "DROP ROLE"),
    ]
    .into_iter()
    .enumerate()
    {
        let id = id(n);
        run(&session, &format!("SHOW COMMIT '{id}'"), &format!("{id},,,unknown")).await;
        give(&session, &id).await;
        run(&session, sql, first).await;
        run(&session, "SHOW commit_id", "").await;
        let version = version_of(&session, &id).await;
        for _ in 0..2 {
            give(&session, &id).await;
            let note = format!("commit {id} is there already, at version {version}: nothing was changed now");
            run(&session, sql, &format!("{again} {note}")).await;
            run(&session, "SHOW commit_id", "").await;
        }
        assert_eq!(version_of(&session, &id).await, version, "{sql}");
    }
    run(&session, "SELECT * FROM t", "1,11").await;
    run(&session, "SELECT * FROM log ORDER BY x", "7;11").await;
    // Without its id it is another change.
    run(&session, "UPDATE t SET n = n + 1", "UPDATE 1").await;
}

#[tokio::test]
async fn an_id_is_that_of_the_next_statement_that_commits() {
    let session = session().await;
    all(&session, &["CREATE TABLE t (id INT PRIMARY KEY)", "INSERT INTO t VALUES (1)"]).await;
    let (first, second) = (id(1), id(2));
    give(&session, &first).await;
    run(&session, "SELECT * FROM t", "1").await;
    all(&session, &["EXPLAIN ANALYZE INSERT INTO t VALUES (2)", "SHOW TABLES", "WARM TABLE t"]).await;
    run(&session, "SHOW commit_id", &first).await;
    run(&session, "INSERT INTO t VALUES (3)", "INSERT 1").await;
    version_of(&session, &first).await;
    // What fails has had it, and so has what is rolled back.
    for (statements, error) in
        [(["INSERT INTO t VALUES (1)", "SELECT 1"], "23505"), (["BEGIN", "ROLLBACK"], "BEGIN")]
    {
        give(&session, &second).await;
        let failed = answer(&session, statements[0]).await;
        assert!(failed.starts_with(error), "{failed}");
        all(&session, &statements[1..]).await;
        run(&session, "SHOW commit_id", "").await;
        run(&session, &format!("SHOW COMMIT '{second}'"), &format!("{second},,,unknown")).await;
    }

    // Another session's id is another session's.
    let other = session.fork();
    give(&session, &second).await;
    run(&other, "SHOW commit_id", "").await;
    run(&other, "INSERT INTO t VALUES (4)", "INSERT 1").await;
    run(&session, "SHOW commit_id", &second).await;
    other.take_commit_id(&session);
    run(&session, "SHOW commit_id", "").await;
    run(&other, "SHOW commit_id", &second).await;
    run(&other, "RESET commit_id", "RESET").await;
    run(&other, "INSERT INTO t VALUES (5)", "INSERT 1").await;
    run(&other, &format!("SHOW COMMIT '{second}'"), &format!("{second},,,unknown")).await;

    let wrong = answer(&session, "SET commit_id = 'mine'").await;
    assert!(wrong.starts_with("22023 'mine' is not the id of a commit: a UUID is expected"), "{wrong}");
    let wrong = answer(&session, "SHOW COMMIT 'mine'").await;
    assert!(wrong.starts_with("22023 1:13 'mine' is not the id of a commit"), "{wrong}");
}

#[tokio::test]
async fn rows_of_a_change_come_once() {
    let session = session().await;
    run(&session, "CREATE TABLE t (id INT PRIMARY KEY, n INT)", "CREATE TABLE").await;
    for sql in ["INSERT INTO t VALUES (1, 10) RETURNING id, n", "UPDATE t SET n = n + 1 RETURNING n"] {
        let id = id(sql.len());
        give(&session, &id).await;
        assert_ne!(answer(&session, sql).await, "");
        give(&session, &id).await;
        // The columns, no row, and why.
        let Output::Rows(again) = session.execute(sql, None).await.unwrap() else { panic!("no columns") };
        let note = format!("commit {id} is there already, at version ");
        assert!(again.notes.len() == 1 && again.notes[0].starts_with(&note), "{:?}", again.notes);
        let batches: Vec<_> = again.stream.try_collect().await.unwrap();
        assert!(batches.iter().all(|batch| batch.num_rows() == 0));
    }
    run(&session, "SELECT * FROM t", "1,11").await;
}

#[tokio::test]
async fn a_transaction_is_committed_once() {
    let session = session().await;
    run(&session, "CREATE TABLE t (id INT PRIMARY KEY, n INT)", "CREATE TABLE").await;
    run(&session, "INSERT INTO t VALUES (1, 0)", "INSERT 1").await;
    let id = id(1);
    run(&session, "BEGIN", "BEGIN").await;
    give(&session, &id).await;
    run(&session, "UPDATE t SET n = n + 1", "UPDATE 1").await;
    run(&session, "UPDATE t SET n = n + 1", "UPDATE 1").await;
    run(&session, "SHOW commit_id", &id).await;
    run(&session, "COMMIT", "COMMIT").await;
    run(&session, "SHOW commit_id", "").await;
    let version = version_of(&session, &id).await;
    let note = format!("commit {id} is there already, at version {version}: nothing was changed now");

    give(&session, &id).await;
    run(&session, "BEGIN", &format!("BEGIN {note}")).await;
    run(&session, "UPDATE t SET n = n + 1", "UPDATE 1").await;
    run(&session, "SELECT n FROM t", "3").await;
    run(&session, "COMMIT", &format!("COMMIT {note}")).await;
    assert!(!session.in_transaction());
    run(&session, "SELECT n FROM t", "2").await;
    // As a statement of its own, it is that commit too.
    give(&session, &id).await;
    run(&session, "UPDATE t SET n = 9", &format!("UPDATE 0 {note}")).await;
}

#[tokio::test]
async fn one_id_is_not_that_of_several_commits() {
    let session = session().await;
    run(&session, "CREATE TABLE t (id INT PRIMARY KEY, n INT)", "CREATE TABLE").await;
    let int = |n| ScalarValue::Int32(Some(n));
    let rows = || -> Vec<ParamValues> { vec![vec![int(1), int(10)].into(), vec![int(2), int(20)].into()] };
    let insert = "INSERT INTO t VALUES ($1, $2)";
    // All of them at once.
    for _ in 0..2 {
        give(&session, &id(1)).await;
        session.execute_each(insert, rows()).await.unwrap();
    }
    run(&session, "SELECT count(*) FROM t", "2").await;
    give(&session, &id(2)).await;
    let each = session.execute_each("UPDATE t SET n = $2 WHERE id = $1", rows()).await;
    let error = each.err().unwrap();
    assert_eq!(error.sqlstate(), "0A000", "{}", error.message());
    run(&session, "SHOW commit_id", "").await;
}

#[tokio::test]
async fn whoever_may_connect_may_ask_for_a_commit() {
    let owner = session().await;
    let bob = user(&owner, "bob").await;
    run(&bob, &format!("SHOW COMMIT '{}'", id(1)), &format!("{},,,unknown", id(1))).await;
}
