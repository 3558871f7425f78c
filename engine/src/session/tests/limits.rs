//! Limits of time and memory stop the statement and nothing else; EXPLAIN ANALYZE of a change measures it and changes
//! nothing.

use super::{answer, check, session, session_within};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_statement_over_its_time_is_cancelled_and_the_session_goes_on() {
    let session = session().await;
    answer(&session, "CREATE TABLE t (x BIGINT)").await;
    answer(&session, "SET statement_timeout = '100 ms'").await;
    // Batch after batch: what a single operator does between two batches cannot be cut short.
    let endless = "SELECT sum(value) FROM generate_series(1, 1000000000000) AS g(value) WHERE value % 2 < 2";
    let started = std::time::Instant::now();
    for sql in
        [endless.to_owned(), format!("INSERT INTO t {endless}"), format!("CREATE TABLE u AS {endless}")]
    {
        let got = answer(&session, &sql).await;
        assert!(got.starts_with("57014 the statement ran longer than statement_timeout"), "{sql}: {got}");
    }
    assert!(started.elapsed().as_secs() < 30, "{:?}", started.elapsed());
    assert_eq!(answer(&session, "SELECT 1").await, "1");
    answer(&session, "RESET statement_timeout").await;
    assert_eq!(answer(&session, "INSERT INTO t VALUES (1)").await, "INSERT 1");
    assert_eq!(answer(&session, "SELECT count(*) FROM t").await, "1");
    assert!(answer(&session, "SELECT * FROM u").await.starts_with("42P01"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn memory_ends_in_spilling_or_in_one_clear_error() {
    let session = session_within(64 << 20).await;
    let wide =
        "SELECT value AS x, repeat('wide ', 40) || value AS t FROM generate_series(1, 400000) AS g(value)";
    // A sort merges its spill files in batches: wide rows in a small limit need small ones.
    answer(&session, "SET datafusion.execution.batch_size = 1024").await;
    answer(&session, "SET datafusion.execution.sort_spill_reservation_bytes = 4000000").await;
    // About 90 MB: sorted through spill files.
    let sorted = format!(
        "SELECT count(*), min(x), max(n) FROM (SELECT x, row_number() OVER (ORDER BY t DESC) AS n FROM ({wide}))"
    );
    assert_eq!(answer(&session, &sorted).await, "400000,1,400000");
    // The build side of a hash join does not spill.
    let joined =
        format!("SELECT count(*) FROM ({wide}) AS a JOIN ({wide}) AS b ON a.t = b.t WHERE a.x + b.x > 0");
    let got = answer(&session, &joined).await;
    assert!(got.starts_with("53200 the query needs more memory than the limit allows"), "{got}");
    assert_eq!(answer(&session, "CREATE TABLE t (x BIGINT PRIMARY KEY)").await, "CREATE TABLE");
    assert_eq!(answer(&session, "INSERT INTO t VALUES (1)").await, "INSERT 1");
    assert_eq!(answer(&session, "SELECT x FROM t").await, "1");
}

#[tokio::test]
async fn explain_analyze_of_a_change_changes_nothing() {
    check(&[
        ("CREATE TABLE t (id BIGINT PRIMARY KEY, n INT)", "CREATE TABLE"),
        ("INSERT INTO t VALUES (1, 10), (2, 20)", "INSERT 2"),
        ("EXPLAIN ANALYZE INSERT INTO t VALUES (3, 30)", "Plan with Metrics,…"),
        (
            "EXPLAIN ANALYZE INSERT INTO t VALUES (1, 30) ON CONFLICT (id) DO UPDATE SET n = 0",
            "Plan with Metrics,…",
        ),
        ("EXPLAIN ANALYZE UPDATE t SET n = n + 1", "Plan with Metrics,…"),
        ("EXPLAIN ANALYZE DELETE FROM t WHERE id = 1", "Plan with Metrics,…"),
        ("SELECT * FROM t ORDER BY id", "1,10;2,20"),
        ("SELECT max(version) FROM system.versions", "2"),
        // What would fail says so.
        ("EXPLAIN ANALYZE INSERT INTO t VALUES (3, 'x')", "22P02 …"),
        ("INSERT INTO t VALUES (3, 30)", "INSERT 1"),
    ])
    .await;
}

#[tokio::test]
async fn jobs_are_listed() {
    check(&[
        ("CREATE TABLE t (id BIGINT PRIMARY KEY)", "CREATE TABLE"),
        ("SHOW JOBS", ""),
        ("INSERT INTO t VALUES (1)", "INSERT 1"),
        ("CHECKPOINT", "true,statement,…"),
        ("SELECT kind, status FROM system.jobs", "checkpoint,completed"),
        ("SHOW JOBS", "1,checkpoint,…"),
        ("SHOW JOBS FOR TABLE t", "…"),
        ("SHOW JOBS FOR TABLE nowhere", "42P01 1:21 table public.nowhere does not exist…"),
        ("SHOW JOBS WHERE id = 1", "0A000 SHOW JOBS … WHERE is not supported yet…"),
    ])
    .await;
}
