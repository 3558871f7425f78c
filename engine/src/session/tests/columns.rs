//! Columns that are kept decoded: the same rows with them as without, whatever happens to the table.

use std::sync::Arc;

use cairn_storage::id::UserId;
use cairn_storage::metrics::ColumnCacheFigures;
use cairn_storage::{OpenOptions, Root};
use datafusion::execution::memory_pool::{MemoryConsumer, MemoryPool};

use super::{all, answer, run};
use crate::{Engine, EngineOptions, Session};

const ROWS: usize = 20_000;

/// A session on an engine whose scans may keep so much.
async fn session(column_cache_bytes: usize) -> Session {
    let storage = OpenOptions { column_cache_bytes: Some(column_cache_bytes), ..OpenOptions::default() };
    let options = EngineOptions {
        storage,
        memory_limit: Some(256 << 20),
        partitions: Some(2),
        ..EngineOptions::default()
    };
    Engine::open(Root::Memory, options).await.unwrap().session()
}

/// A session with a table of many rows, all in segments.
async fn filled(column_cache_bytes: usize) -> Session {
    let session = session(column_cache_bytes).await;
    let insert = format!(
        "INSERT INTO t SELECT i, i % 7, 'a text that stands for number ' || (i % 100), ARRAY[i, NULL], i / 4 \
         FROM generate_series(1, {ROWS}) g(i)"
    );
    let create = "CREATE TABLE t (id BIGINT PRIMARY KEY, n INT, s TEXT, tags BIGINT[], price DECIMAL(12,2))";
    all(&session, &[create, &insert, "CHECKPOINT"]).await;
    session
}

fn figures(session: &Session) -> ColumnCacheFigures {
    session.engine().database().columns().figures()
}

/// What questions about the table are answered, read in files.
const QUESTIONS: [&str; 6] = [
    "SELECT count(*), sum(n), min(s), max(s), sum(price) FROM t",
    "SELECT price, id, s, tags FROM t WHERE n = 3 AND id > 19000 ORDER BY id",
    "SELECT s, count(*), sum(array_length(tags)) FROM t GROUP BY s ORDER BY s LIMIT 20",
    "SELECT id, n FROM t ORDER BY id DESC LIMIT 5",
    "SELECT sum(a.n * b.n) FROM t a JOIN t b ON a.id = b.id + 1",
    "SELECT id, n + 1, upper(s) FROM t WHERE s LIKE '%number 42' ORDER BY n, id LIMIT 7",
];

/// Every question three times, and once from the files alone.
async fn same_rows(session: &Session, after: &str) {
    let columns = session.engine().database().columns();
    let mut answers = Vec::new();
    for question in QUESTIONS {
        let first = answer(session, question).await;
        for _ in 0..2 {
            assert_eq!(answer(session, question).await, first, "{question} after {after}");
        }
        answers.push(first);
    }
    let limit = columns.limit_bytes();
    columns.set_limit(0);
    for (question, first) in QUESTIONS.iter().zip(answers) {
        assert_eq!(answer(session, question).await, first, "{question} of files after {after}");
    }
    columns.set_limit(limit);
}

async fn same_rows_after_changes(column_cache_bytes: usize) {
    let session = filled(column_cache_bytes).await;
    same_rows(&session, "INSERT").await;
    for change in [
        "DELETE FROM t WHERE id % 10 = 3 OR id BETWEEN 8000 AND 17000",
        "UPDATE t SET n = n + 1, s = 'other' WHERE id % 100 = 1",
        "CHECKPOINT",
        "INSERT INTO t VALUES (100001, 3, 'in memory', ARRAY[1], 2.5)",
        "DELETE FROM t WHERE id % 10 = 4",
        "ALTER TABLE t RENAME COLUMN n TO m; ALTER TABLE t ADD COLUMN n INT DEFAULT 9",
        "ALTER TABLE t DROP COLUMN m; ALTER TABLE t ALTER n TYPE BIGINT; ALTER TABLE t ALTER price TYPE DECIMAL(20,2)",
        "INSERT INTO t (id, s, n) VALUES (100002, 'later', 5)",
        "CHECKPOINT",
        "COMPACT TABLE t",
        "TRUNCATE t",
        "INSERT INTO t (id, s, n, tags) VALUES (1, 'anew', 3, ARRAY[7])",
        "CHECKPOINT",
    ] {
        all(&session, &change.split("; ").collect::<Vec<_>>()).await;
        same_rows(&session, change).await;
    }
    let figures = figures(&session);
    assert!(figures.bytes <= figures.limit_bytes, "{figures:?}");
}

#[tokio::test]
async fn the_same_rows_come_out_of_memory() {
    same_rows_after_changes(64 << 20).await;
}

#[tokio::test]
async fn the_same_rows_come_out_when_little_can_be_kept() {
    same_rows_after_changes(600_000).await;
}

#[tokio::test]
async fn the_second_scan_reads_no_file() {
    let session = filled(64 << 20).await;
    let question = "EXPLAIN ANALYZE SELECT sum(n), max(s) FROM t";
    let first = answer(&session, question).await;
    assert!(first.contains("kept_row_groups=") && !first.contains("kept_row_groups=0"), "{first}");
    let kept = figures(&session);
    assert!(kept.bytes > 0 && kept.misses > 0, "{kept:?}");
    let second = answer(&session, question).await;
    assert!(second.contains("kept_row_groups=0") && !second.contains("cached_row_groups=0"), "{second}");
    assert!(second.contains("bytes_scanned=0"), "{second}");
    // Of other columns only those that are missing.
    let before = figures(&session);
    answer(&session, "SELECT sum(n), sum(price) FROM t").await;
    let after = figures(&session);
    assert_eq!(after.hits - before.hits, after.misses - before.misses);
    assert!(after.bytes > before.bytes && after.hits > before.hits);

    let shown = "SELECT table_schema, table_name, column_name, sum(rows), sum(bytes) > 0, \
                 bool_and(last_use <= now()) FROM system.cache \
                 GROUP BY table_schema, table_name, column_name ORDER BY column_name";
    let expected = ["n", "price", "s"].map(|column| format!("public,t,{column},{ROWS},true,true"));
    run(&session, shown, &expected.join(";")).await;
    let bytes = figures(&session).bytes;
    run(&session, "SELECT sum(bytes) FROM system.cache", &bytes.to_string()).await;
    run(
        &session,
        "SELECT max(value)::BIGINT FROM system.metrics WHERE name = 'cairn_column_cache_limit_bytes'",
        "67108864",
    )
    .await;
    run(&session, "SHOW column_cache_size", "67108864").await;
}

#[tokio::test]
async fn queries_take_the_memory_of_what_is_kept() {
    let session = filled(64 << 20).await;
    let (engine, question) = (session.engine(), "SELECT count(*), sum(n), max(s) FROM t");
    let pool: Arc<dyn MemoryPool> = engine.user_memory(UserId(7));
    let expected = answer(&session, question).await;
    for can_spill in [false, true] {
        assert_eq!(answer(&session, question).await, expected);
        let all = usize::try_from(figures(&session).bytes).unwrap();
        assert!(all > 0);
        let query = MemoryConsumer::new("query").with_can_spill(can_spill).register(&pool);
        query.try_grow(engine.memory_limit() - all).unwrap();
        assert_eq!(figures(&session).bytes, all as u64);
        query.try_grow(all / 2).unwrap();
        let left = figures(&session).bytes;
        assert!(left <= (all - all / 2) as u64, "{left} of {all}");
        // What is refused takes nothing away.
        assert!(query.try_grow(engine.memory_limit()).is_err());
        assert_eq!(figures(&session).bytes, left);
        drop(query);
        assert_eq!(answer(&session, question).await, expected);
    }
}

#[tokio::test]
async fn replaced_segments_leave_nothing_behind() {
    let session = filled(64 << 20).await;
    all(&session, &["DELETE FROM t WHERE id % 2 = 0"]).await;
    answer(&session, "SELECT sum(n) FROM t").await;
    assert!(figures(&session).bytes > 0);
    all(&session, &["COMPACT TABLE t"]).await;
    run(&session, "SELECT count(*) FROM system.cache", "0").await;
    assert_eq!(figures(&session).bytes, 0);
    answer(&session, "SELECT sum(n) FROM t").await;
    assert!(figures(&session).bytes > 0);
    all(&session, &["DROP TABLE t", "CHECKPOINT"]).await;
    run(&session, "SELECT count(*) FROM system.cache", "0").await;
}

#[tokio::test]
async fn nothing_is_kept_of_what_is_not_worth_it() {
    // No room at all.
    let off = filled(0).await;
    for _ in 0..2 {
        answer(&off, "SELECT sum(n) FROM t").await;
    }
    assert_eq!(figures(&off), ColumnCacheFigures::default());
    run(&off, "SHOW column_cache_size", "0").await;
    // A scan of more than there is room for, however often.
    let small = filled(50_000).await;
    for _ in 0..3 {
        answer(&small, "SELECT sum(n), max(s), sum(price) FROM t").await;
    }
    assert_eq!(figures(&small).bytes, 0);
    // Rows after which the query has enough.
    let large = filled(64 << 20).await;
    for _ in 0..3 {
        answer(&large, "SELECT n, s FROM t LIMIT 3").await;
    }
    assert_eq!(figures(&large).bytes, 0);
}
