//! Sessions of databases in a bucket: who writes, what others see, what reads cost.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use cairn_storage::{Durability, OpenOptions, Root};
use datafusion::object_store::memory::InMemory;
use datafusion::object_store::path::Path;
use datafusion::object_store::{ObjectStore, ObjectStoreExt};
use futures::TryStreamExt;

use super::{all, answer, run, session};
use crate::{Engine, EngineOptions, Session};

/// A bucket of its own.
fn bucket() -> Arc<dyn ObjectStore> {
    Arc::new(InMemory::new())
}

/// A session of an engine of its own, as another process would have it, which sees at once what others have committed.
async fn opened(bucket: &Arc<dyn ObjectStore>, change: impl FnOnce(&mut OpenOptions)) -> Session {
    let store = Some(Arc::clone(bucket));
    let mut storage = OpenOptions { store, poll_interval: Duration::ZERO, ..OpenOptions::default() };
    change(&mut storage);
    let options = EngineOptions {
        storage,
        memory_limit: Some(64 << 20),
        partitions: Some(2),
        ..EngineOptions::default()
    };
    Engine::open(Root::parse("s3://t/db").unwrap(), options).await.unwrap().session()
}

/// A writer of 10,000 rows, which are in a segment.
async fn with_rows(bucket: &Arc<dyn ObjectStore>) -> Session {
    let writer = opened(bucket, |_| ()).await;
    let rows = "INSERT INTO t SELECT value, value FROM generate_series(1, 10000) AS g(value)";
    all(&writer, &["CREATE TABLE t (id INT PRIMARY KEY, n INT)", rows, "CHECKPOINT"]).await;
    writer
}

async fn writer_of(bucket: &Arc<dyn ObjectStore>) -> Option<Bytes> {
    match bucket.get(&Path::from("writer")).await {
        Ok(found) => Some(found.bytes().await.unwrap()),
        Err(_) => None,
    }
}

/// A figure of the last line of EXPLAIN ANALYZE, which is about the whole statement.
fn figure(explained: &str, name: &str) -> u64 {
    let line = explained.rsplit(';').next().unwrap();
    assert!(line.starts_with("Object store,"), "{explained}");
    let (_, rest) = line.split_once(&format!("{name}=")).unwrap();
    rest.split(',').next().unwrap().parse().unwrap()
}

#[tokio::test]
async fn one_writes_and_others_see_it() {
    let bucket = bucket();
    let writer = opened(&bucket, |_| ()).await;
    run(&writer, "CREATE TABLE t (id INT PRIMARY KEY, n INT)", "CREATE TABLE").await;
    let reader = opened(&bucket, |_| ()).await;
    for n in 1..=3 {
        run(&writer, &format!("INSERT INTO t VALUES ({n}, 0)"), "INSERT 1").await;
        run(&reader, "SELECT count(*) FROM t", &n.to_string()).await;
        run(&reader, &format!("SELECT n FROM t WHERE id = {n}"), "0").await;
    }
    all(&writer, &["CHECKPOINT"]).await;
    run(&writer, "UPDATE t SET n = 7 WHERE id = 2", "UPDATE 1").await;
    // A transaction sees what was there at its beginning.
    run(&reader, "BEGIN READ ONLY", "BEGIN").await;
    run(&writer, "DELETE FROM t WHERE id = 1", "DELETE 1").await;
    run(&reader, "SELECT id, n FROM t ORDER BY id", "1,0;2,7;3,0").await;
    run(&reader, "COMMIT", "COMMIT").await;
    run(&reader, "SELECT id, n FROM t ORDER BY id", "2,7;3,0").await;
}

#[tokio::test]
async fn who_only_looks_disturbs_nobody() {
    let empty = bucket();
    let curious = opened(&empty, |_| ()).await;
    all(&curious, &["SELECT 1", "SHOW TABLES", "SELECT * FROM system.tables", "BEGIN", "COMMIT"]).await;
    assert_eq!(writer_of(&empty).await, None);

    let bucket = bucket();
    let writer = opened(&bucket, |_| ()).await;
    all(&writer, &["CREATE TABLE t (id INT PRIMARY KEY)", "INSERT INTO t VALUES (1)", "CHECKPOINT"]).await;
    let before = writer_of(&bucket).await;
    assert!(before.is_some());
    let curious = opened(&bucket, |_| ()).await;
    all(
        &curious,
        &[
            "SELECT * FROM t",
            "SELECT * FROM t WHERE id = 1",
            "EXPLAIN ANALYZE SELECT count(*) FROM t",
            "EXPLAIN INSERT INTO t VALUES (2)",
            "WARM TABLE t",
            "VERIFY TABLE t",
            "SHOW COMMIT '6f1c9d0e-3a52-4d7e-9b1f-0c8a7e5d2b43'",
        ],
    )
    .await;
    // What is refused is refused before it would take anything away.
    let refused = answer(&curious, "INSERT INTO nowhere VALUES (1)").await;
    assert!(refused.starts_with("42P01"), "{refused}");
    assert_eq!(writer_of(&bucket).await, before);
    let refused = answer(&curious, "INSERT INTO t VALUES (2)").await;
    assert!(refused.starts_with("57P03"), "a writer is alive: {refused}");
    run(&writer, "INSERT INTO t VALUES (2)", "INSERT 1").await;
    run(&curious, "SELECT count(*) FROM t", "2").await;
}

#[tokio::test]
async fn a_change_that_takes_the_database_over_sees_all_that_was_there() {
    let bucket = bucket();
    let first = opened(&bucket, |_| ()).await;
    all(&first, &["CREATE TABLE t (id INT PRIMARY KEY, n INT)", "INSERT INTO t VALUES (1, 1)"]).await;
    // It looks seldom: what it has seen is old when it writes.
    for (n, sql) in [
        (2, "INSERT INTO t VALUES (20, 1)"),
        (3, "INSERT INTO t SELECT 30, count(*) FROM t"),
        (4, "UPDATE t SET n = n + 1"),
    ] {
        let writer = opened(&bucket, |options| options.take_over = true).await;
        let next = opened(&bucket, |options| {
            options.take_over = true;
            options.poll_interval = Duration::from_secs(3600);
        })
        .await;
        run(&writer, &format!("INSERT INTO t VALUES ({n}, 1)"), "INSERT 1").await;
        let changed = answer(&next, sql).await;
        assert!(changed.starts_with("INSERT 1") || changed == "UPDATE 6", "{sql}: {changed}");
        run(&next, &format!("SELECT count(*) FROM t WHERE id = {n}"), "1").await;
        let fenced = answer(&writer, "DELETE FROM t").await;
        assert!(fenced.starts_with("57P04"), "{fenced}");
    }
    let last = opened(&bucket, |_| ()).await;
    run(&last, "SELECT id, n FROM t ORDER BY id", "1,2;2,2;3,2;4,2;20,2;30,5").await;
}

#[tokio::test]
async fn what_reads_cost_is_told() {
    let bucket = bucket();
    let writer = with_rows(&bucket).await;
    for sql in ["SELECT sum(n) FROM t", "SELECT n FROM t WHERE id = 77", "SELECT n FROM t WHERE id IN (1, 2)"]
    {
        let cold = opened(&bucket, |_| ()).await;
        let explained = answer(&cold, &format!("EXPLAIN ANALYZE {sql}")).await;
        assert!(figure(&explained, "store_requests") > 0, "{sql}: {explained}");
        assert!(figure(&explained, "store_bytes") > 100, "{sql}: {explained}");
        let scan = explained.split_once("SegmentScanExec").unwrap().1;
        for name in ["store_requests=", "store_bytes=", "cache_reads=", "cache_bytes=", "store_wait="] {
            assert!(scan.contains(name), "{sql}: {explained}");
        }
        let plain = answer(&cold, &format!("EXPLAIN {sql}")).await;
        assert!(!plain.contains("store_"), "{plain}");
    }
    run(
        &writer,
        "SELECT count(*) > 4 FROM system.metrics WHERE name = 'cairn_object_requests_total'",
        "true",
    )
    .await;
    run(
        &writer,
        "SELECT value > 0 FROM system.metrics WHERE name = 'cairn_object_requests_total' AND labels = '{\"operation\":\"put\"}'",
        "true",
    )
    .await;
}

#[tokio::test]
async fn what_somebody_else_removed_is_no_snapshot_that_expired() {
    let bucket = bucket();
    let _writer = with_rows(&bucket).await;
    let reader = opened(&bucket, |_| ()).await;
    let objects: Vec<_> = bucket.list(Some(&Path::from("table"))).try_collect().await.unwrap();
    let segment = objects.iter().find(|object| object.location.as_ref().ends_with(".parquet")).unwrap();
    bucket.delete(&segment.location).await.unwrap();
    for sql in ["SELECT sum(n) FROM t", "SELECT n FROM t WHERE id = 77"] {
        let told = answer(&reader, sql).await;
        assert!(told.starts_with("XX001") && told.contains(segment.location.as_ref()), "{sql}: {told}");
    }
    // What does not run again by itself cannot tell.
    let told = answer(&reader, "WARM TABLE t").await;
    assert!(told.starts_with("72000"), "{told}");
}

#[tokio::test]
async fn columns_that_are_kept_ask_for_nothing() {
    let bucket = bucket();
    let _writer = with_rows(&bucket).await;
    let reader = opened(&bucket, |_| ()).await;
    for _ in 0..2 {
        let explained = answer(&reader, "EXPLAIN ANALYZE SELECT sum(n) FROM t").await;
        assert!(figure(&explained, "store_requests") > 0, "{explained}");
    }
    let explained = answer(&reader, "EXPLAIN ANALYZE SELECT sum(n) FROM t").await;
    assert_eq!(figure(&explained, "store_requests"), 0, "{explained}");
    run(&reader, "SELECT sum(n) FROM t", "50005000").await;
}

#[tokio::test]
async fn a_warm_table_asks_for_nothing() {
    let (bucket, cache) = (bucket(), tempfile::tempdir().unwrap());
    let _writer = with_rows(&bucket).await;
    let directory: PathBuf = cache.path().join("cache");
    let warm = opened(&bucket, |options| options.cache_directory = Some(directory)).await;
    let receipt = answer(&warm, "WARM TABLE t").await;
    assert!(receipt.starts_with("public.t,1,0,"), "{receipt}");
    let explained = answer(&warm, "EXPLAIN ANALYZE SELECT sum(n) FROM t").await;
    assert_eq!(figure(&explained, "store_requests"), 0, "{explained}");
    assert!(figure(&explained, "cache_bytes") > 0, "{explained}");
    run(&warm, "SELECT sum(n) FROM t", "50005000").await;
    run(&warm, "SELECT value > 0 FROM system.metrics WHERE name = 'cairn_disk_cache_bytes'", "true").await;
}

/// Another engine with a cache on disk.
async fn caching(bucket: &Arc<dyn ObjectStore>, directory: &std::path::Path) -> Session {
    opened(bucket, |options| options.cache_directory = Some(directory.to_owned())).await
}

#[tokio::test]
async fn what_is_on_this_machine_comes_in_at_the_first_scan() {
    let (bucket, cache) = (bucket(), tempfile::tempdir().unwrap());
    let writer = opened(&bucket, |_| ()).await;
    // Long enough that the blocks with the footer have little of it.
    let rows =
        "INSERT INTO t SELECT value, md5(CAST(value AS TEXT)) FROM generate_series(1, 20000) AS g(value)";
    all(&writer, &["CREATE TABLE t (id INT PRIMARY KEY, s TEXT)", rows, "CHECKPOINT"]).await;
    let question = "EXPLAIN ANALYZE SELECT sum(length(s)) FROM t";
    // What is not is fetched as ever, which fills the cache.
    let cold = caching(&bucket, cache.path()).await;
    let explained = answer(&cold, question).await;
    assert!(figure(&explained, "store_requests") > 0, "{explained}");
    assert!(explained.contains("kept_row_groups=0"), "{explained}");
    run(&cold, "SELECT count(*) FROM system.cache", "0").await;
    // Behind the readers: what an engine does not find yet, it asks for.
    let (warm, explained) = loop {
        let next = caching(&bucket, cache.path()).await;
        let explained = answer(&next, question).await;
        if figure(&explained, "store_requests") == 0 {
            break (next, explained);
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    };
    assert!(explained.contains("kept_row_groups=1"), "{explained}");
    assert!(figure(&explained, "cache_bytes") > 0, "{explained}");
    let kept = "SELECT column_name, sum(rows) FROM system.cache GROUP BY column_name";
    run(&warm, kept, "s,20000").await;
    let again = answer(&warm, question).await;
    assert!(again.contains("cached_row_groups=1"), "{again}");
    assert_eq!((figure(&again, "store_requests"), figure(&again, "cache_bytes")), (0, 0), "{again}");
    run(&warm, "SELECT sum(length(s)) FROM t", "640000").await;
}

#[tokio::test]
async fn a_commit_is_found_by_another_process() {
    let bucket = bucket();
    let id = "6f1c9d0e-3a52-4d7e-9b1f-0c8a7e5d2b43";
    let writer = opened(&bucket, |_| ()).await;
    all(&writer, &["CREATE TABLE t (id INT PRIMARY KEY)", &format!("SET commit_id = '{id}'")]).await;
    run(&writer, "INSERT INTO t VALUES (1)", "INSERT 1").await;
    let shown = answer(&writer, &format!("SHOW COMMIT '{id}'")).await;
    assert!(shown.ends_with(",committed"), "{shown}");
    // The client's next attempt meets another process, which takes nothing over for it.
    let before = writer_of(&bucket).await;
    let other = opened(&bucket, |_| ()).await;
    run(&other, &format!("SHOW COMMIT '{id}'"), &shown).await;
    all(&other, &[&format!("SET commit_id = '{id}'")]).await;
    let again = answer(&other, "INSERT INTO t VALUES (1)").await;
    assert!(again.starts_with(&format!("INSERT 0 commit {id} is there already, at version ")), "{again}");
    assert_eq!(writer_of(&bucket).await, before);
    run(&other, "SELECT count(*) FROM t", "1").await;
}

#[tokio::test]
async fn a_database_without_a_bucket_tells_nothing_of_one() {
    let session = session().await;
    all(
        &session,
        &["CREATE TABLE t (id INT PRIMARY KEY, n INT)", "INSERT INTO t VALUES (1, 2), (2, 4)", "CHECKPOINT"],
    )
    .await;
    let explained = answer(&session, "EXPLAIN ANALYZE SELECT sum(n) FROM t").await;
    assert!(explained.contains("SegmentScanExec") && !explained.contains("store_"), "{explained}");
    assert!(!explained.contains("Object store"), "{explained}");
    run(&session, "SELECT count(*) FROM system.metrics WHERE name LIKE 'cairn_object%'", "0").await;
    run(&session, "SELECT value, labels FROM system.metrics WHERE name = 'cairn_tables'", "1.0,").await;
    let counted = "SELECT value, type FROM system.metrics WHERE name = 'cairn_statement_duration_seconds_count' AND labels = '{\"kind\":\"insert\",\"outcome\":\"ok\"}'";
    run(&session, counted, "1.0,histogram").await;
    // All of it is read all the same.
    let receipt = answer(&session, "WARM TABLE t").await;
    assert!(receipt.starts_with("public.t,1,0,"), "{receipt}");
    let missing = answer(&session, "WARM TABLE u").await;
    assert!(missing.starts_with("42P01 1:12 "), "{missing}");
}

#[tokio::test]
async fn a_journal_on_this_machine_acknowledges_commits() {
    let bucket = bucket();
    let state = tempfile::tempdir().unwrap();
    let directory: PathBuf = state.path().join("journal");
    let writer = opened(&bucket, |options| {
        options.durability = Durability::Local;
        options.journal_directory = Some(directory);
    })
    .await;
    run(&writer, "SHOW durability", "local").await;
    run(&writer, "SELECT durability, unsent_commits FROM system.wal", "local,").await;
    all(&writer, &["CREATE TABLE t (id INT PRIMARY KEY)", "INSERT INTO t VALUES (1)"]).await;
    run(
        &writer,
        "SELECT durability, unsent_commits IS NOT NULL, journal IS NOT NULL FROM system.wal",
        "local,true,true",
    )
    .await;
    run(&writer, "SELECT count(*) FROM system.metrics WHERE name LIKE 'cairn_unsent_%'", "3").await;
    writer.engine().close().await.unwrap();
    let other = opened(&bucket, |_| ()).await;
    run(&other, "SELECT count(*) FROM t", "1").await;
    run(&other, "SHOW durability", "store").await;
    run(&other, "SELECT durability, unsent_commits IS NULL FROM system.wal", "store,true").await;
}
