//! ALTER TABLE between sessions: what comes again, who wins, who may; and older segments through the planner.

use super::rights::user;
use super::{all, answer, run, session};

#[tokio::test]
async fn statements_that_come_again_see_the_new_definition() {
    let a = session().await;
    let b = a.engine().session();
    all(&a, &["CREATE TABLE t (id INT PRIMARY KEY, n INT, s TEXT)", "INSERT INTO t VALUES (1, 10, 'one')"])
        .await;
    let (read, write) = ("SELECT n FROM t WHERE id = 1", "INSERT INTO t (id) VALUES (9)");
    for _ in 0..2 {
        run(&b, read, "10").await;
        run(&b, write, "INSERT 1").await;
        run(&b, "DELETE FROM t WHERE id = 9", "DELETE 1").await;
    }
    run(&a, "ALTER TABLE t ADD COLUMN extra INT DEFAULT 5", "ALTER TABLE").await;
    run(&b, write, "INSERT 1").await;
    run(&b, "SELECT * FROM t ORDER BY id", "1,10,one,5;9,,,5").await;
    run(&a, "ALTER TABLE t ALTER extra SET DEFAULT 6, DROP COLUMN s", "ALTER TABLE").await;
    run(&b, "DELETE FROM t WHERE id = 9", "DELETE 1").await;
    run(&b, write, "INSERT 1").await;
    run(&b, "SELECT * FROM t ORDER BY id", "1,10,5;9,,6").await;
    run(&a, "ALTER TABLE t RENAME COLUMN n TO m, ALTER m TYPE BIGINT", "ALTER TABLE").await;
    let gone = answer(&b, read).await;
    assert!(gone.starts_with("42703"), "{gone}");
    run(&b, "UPDATE t SET m = 5000000000 WHERE id = 1", "UPDATE 1").await;
    run(&b, "SELECT m FROM t WHERE id = 1", "5000000000").await;
    run(&b, "DESCRIBE t", "id,INTEGER,false,,PRIMARY KEY;m,BIGINT,true,,;extra,INTEGER,true,6,").await;
    run(&a, "ALTER TABLE t RENAME TO u", "ALTER TABLE").await;
    let gone = answer(&b, write).await;
    assert!(gone.starts_with("42P01"), "{gone}");
    run(
        &a,
        "ALTER TABLE u ADD COLUMN IF NOT EXISTS m INT",
        "ALTER TABLE column m of public.u already exists, skipped",
    )
    .await;
}

#[tokio::test]
async fn of_definitions_and_rows_the_first_to_commit_wins() {
    let a = session().await;
    let b = a.engine().session();
    all(&a, &["CREATE TABLE t (id INT PRIMARY KEY, n INT)", "INSERT INTO t VALUES (1, 10)"]).await;
    all(&a, &["BEGIN", "INSERT INTO t VALUES (2, 20)"]).await;
    run(&b, "ALTER TABLE t ADD COLUMN x INT DEFAULT 1", "ALTER TABLE").await;
    let lost = answer(&a, "COMMIT").await;
    assert!(lost.starts_with("40001 another session changed the definition of public.t"), "{lost}");

    // Rows of others get the new column, too.
    all(&a, &["BEGIN", "ALTER TABLE t ADD COLUMN y INT DEFAULT 2"]).await;
    run(&b, "INSERT INTO t VALUES (3, 30, 3)", "INSERT 1").await;
    run(&a, "COMMIT", "COMMIT").await;
    run(&b, "SELECT * FROM t ORDER BY id", "1,10,1,2;3,30,3,2").await;

    // But not where its rows decided.
    all(&a, &["BEGIN", "ALTER TABLE t ALTER n SET NOT NULL"]).await;
    run(&b, "INSERT INTO t (id) VALUES (4)", "INSERT 1").await;
    let lost = answer(&a, "COMMIT").await;
    assert!(lost.starts_with("40001 another session added rows to public.t"), "{lost}");

    // A transaction that writes before and after.
    all(
        &a,
        &[
            "BEGIN",
            "DELETE FROM t WHERE id = 4",
            "INSERT INTO t VALUES (5, 50, 5, 5)",
            "ALTER TABLE t DROP COLUMN x, ADD COLUMN z TEXT DEFAULT 'z', ALTER n SET NOT NULL",
            "INSERT INTO t VALUES (6, 60, 6, 'six')",
            "UPDATE t SET y = y + 100 WHERE id IN (1, 5)",
        ],
    )
    .await;
    run(&a, "SELECT * FROM t ORDER BY id", "1,10,102,z;3,30,2,z;5,50,105,z;6,60,6,six").await;
    run(&b, "SELECT count(*), max(x) FROM t", "3,3").await;
    run(&a, "COMMIT", "COMMIT").await;
    run(&b, "SELECT * FROM t ORDER BY id", "1,10,102,z;3,30,2,z;5,50,105,z;6,60,6,six").await;
}

#[tokio::test]
async fn its_owner_may_and_grants_follow_the_name() {
    let owner = session().await;
    let bob = user(&owner, "bob").await;
    all(&owner, &["CREATE TABLE t (id INT)", "INSERT INTO t VALUES (1)", "GRANT SELECT ON t TO bob"]).await;
    for sql in
        ["ALTER TABLE t ADD COLUMN x INT", "ALTER TABLE t RENAME TO u", "ALTER TABLE t SET (sort = 'id')"]
    {
        let got = answer(&bob, sql).await;
        assert!(got.starts_with("42501 ") && got.contains("owner of public.t"), "{sql}: {got}");
    }
    run(&owner, "ALTER TABLE t RENAME TO u", "ALTER TABLE").await;
    run(&bob, "SELECT * FROM u", "1").await;
    all(&owner, &["CREATE TABLE t (id INT)"]).await;
    let got = answer(&bob, "SELECT * FROM t").await;
    assert!(got.starts_with("42501 ") || got.starts_with("42P01 "), "{got}");
    all(&owner, &["GRANT CREATE ON SCHEMA public TO bob"]).await;
    all(
        &bob,
        &[
            "CREATE TABLE mine (id INT)",
            "ALTER TABLE mine ADD COLUMN x INT",
            "ALTER TABLE mine RENAME TO ours",
        ],
    )
    .await;
    all(&owner, &["CREATE VIEW over_mine AS SELECT x FROM ours"]).await;
    let got = answer(&bob, "ALTER TABLE ours DROP COLUMN x CASCADE").await;
    assert!(got.starts_with("42501 "), "{got}");
}

#[tokio::test]
async fn older_segments_are_read_by_every_kind_of_plan() {
    let a = session().await;
    all(
        &a,
        &[
            "CREATE TABLE t (id INT PRIMARY KEY, n SMALLINT, s TEXT)",
            "INSERT INTO t SELECT value, value % 100, 'old ' || value FROM generate_series(1, 5000) AS g(value)",
            "CHECKPOINT",
            "DELETE FROM t WHERE id % 10 = 0",
            "ALTER TABLE t ADD COLUMN extra INT DEFAULT 5, ALTER n TYPE BIGINT, RENAME COLUMN s TO word",
            "ALTER TABLE t ADD COLUMN s TEXT",
            "INSERT INTO t VALUES (5001, 70000, 'new', 6, 'x')",
            "CHECKPOINT",
            "INSERT INTO t VALUES (5002, 80000, 'hot', 7, 'y')",
        ],
    )
    .await;
    for pushdown in ["false", "true"] {
        all(&a, &[&format!("SET datafusion.execution.parquet.pushdown_filters = {pushdown}")]).await;
        run(&a, "SELECT count(*), sum(extra), count(s), max(n) FROM t", "4502,22513,2,80000").await;
        run(&a, "SELECT count(*) FROM t WHERE extra = 5", "4500").await;
        run(&a, "SELECT count(*) FROM t WHERE extra > 5 AND s IS NOT NULL", "2").await;
        run(&a, "SELECT count(*) FROM t WHERE s IS NULL AND n = 7", "50").await;
        run(&a, "SELECT count(*) FROM t WHERE s = 'old 7'", "0").await;
        run(&a, "SELECT id, n, word, extra, s FROM t WHERE word = 'old 7'", "7,7,old 7,5,").await;
        run(
            &a,
            "SELECT id, _row_id > 0, _version > 0, extra FROM t WHERE id IN (7, 5001, 5002) OR extra = 6 ORDER BY id",
            "7,true,true,5;5001,true,true,6;5002,true,true,7",
        )
        .await;
        run(&a, "SELECT extra, count(*) FROM t WHERE n >= 90 GROUP BY extra ORDER BY extra", "5,450;6,1;7,1")
            .await;
        run(&a, "SELECT n FROM t ORDER BY n DESC, id LIMIT 3", "80000;70000;99").await;
        run(&a, "SELECT id FROM t ORDER BY id LIMIT 2", "1;2").await;
        run(&a, "SELECT word || extra FROM t WHERE id = 5", "old 55").await;
    }
    all(&a, &["COMPACT TABLE t", "ALTER TABLE t DROP COLUMN word"]).await;
    run(&a, "SELECT count(*), sum(extra), count(s), max(n) FROM t", "4502,22513,2,80000").await;
    run(&a, "SELECT * FROM t WHERE id = 7", "7,7,5,").await;
    let verified = answer(&a, "VERIFY").await;
    assert!(!verified.contains("damaged"), "{verified}");
}

/// Files that are older than their table's columns are read without its schema at hand: each type comes of the file's own.
#[tokio::test]
async fn every_type_of_an_older_segment_is_what_it_was() {
    let a = session().await;
    all(
        &a,
        &[
            "CREATE TABLE t (id INT PRIMARY KEY, tiny TINYINT, big BIGINT UNSIGNED, dec DECIMAL(9,2), wide DECIMAL(38,10), r REAL, \
             flag BOOLEAN, txt TEXT, raw BYTEA, doc JSON, d DATE, tm TIME, ts TIMESTAMP, ns TIMESTAMP(9), tz TIMESTAMPTZ, \
             zoned TIMESTAMPTZ('+02:00'), e VECTOR(2), tags TEXT[], nums BIGINT[], person STRUCT(name TEXT, age INT))",
            "INSERT INTO t VALUES \
             (1, -1, 18446744073709551615, 1.25, 2.5, 0.5, true, 'abc', X'00ff10', '{\"a\": 1}', '2024-02-29', \
             '23:59:59.999999', '2024-02-29 12:34:56.123456', '2024-01-01 00:00:00.123456789', '2024-02-29 10:34:56.123456Z', \
             '2024-02-29 10:34:56.123456Z', '[1,2]', ARRAY['a', 'b'], ARRAY[1, 2], named_struct('name', 'Ada', 'age', 36)), \
             (2, 7, 0, -1.25, -2.5, -0.5, false, 'xyz', X'61', '\"text\"', '1970-01-01', '00:00:00', '1970-01-01 00:00:00', \
             '1970-01-01 00:00:00', '1970-01-01 00:00:00Z', '1970-01-01 00:00:00Z', NULL, NULL, ARRAY[3], NULL)",
            "INSERT INTO t (id) VALUES (3)",
            "CHECKPOINT",
            "DELETE FROM t WHERE id = 3",
        ],
    )
    .await;
    let columns = "id, tiny, big, dec, wide, r, flag, txt, raw, doc, d, tm, ts, ns, tz, zoned, e, tags, nums, person, _row_id";
    let every = format!("SELECT {columns} FROM t ORDER BY id");
    let before = answer(&a, &every).await;
    assert!(before.starts_with("1,") && before.contains("Ada"), "{before}");
    // What was NULL is in a deleted row only.
    all(
        &a,
        &[
            "ALTER TABLE t ADD COLUMN later VECTOR(2), ADD COLUMN n INT DEFAULT 5, ALTER txt SET NOT NULL, ALTER tm SET NOT NULL, \
             ALTER zoned SET NOT NULL, ALTER nums SET NOT NULL",
        ],
    )
    .await;
    for pushdown in ["false", "true"] {
        all(&a, &[&format!("SET datafusion.execution.parquet.pushdown_filters = {pushdown}")]).await;
        assert_eq!(answer(&a, &every).await, before);
        run(&a, "SELECT id, later, n FROM t ORDER BY id", "1,,5;2,,5").await;
        for condition in [
            "big = 18446744073709551615",
            "dec = 1.25",
            "wide > 0",
            "txt LIKE 'a%'",
            "raw = X'00ff10'",
            "d > DATE '2024-01-01'",
            "ts > TIMESTAMP '2024-01-01 00:00:00'",
            "tz = '2024-02-29 10:34:56.123456Z'",
            "zoned = '2024-02-29 10:34:56.123456Z'",
            "tags IS NOT NULL AND n = 5 AND later IS NULL",
        ] {
            run(&a, &format!("SELECT id FROM t WHERE {condition}"), "1").await;
        }
    }
    all(&a, &["COMPACT TABLE t"]).await;
    let merged = answer(&a, &every).await;
    assert_eq!(merged, before);
}

/// Two columns that take each other's names in a segment: values, bounds and filters go with the column.
#[tokio::test]
async fn names_that_are_swapped_are_those_of_older_segments_too() {
    let a = session().await;
    all(
        &a,
        &[
            "CREATE TABLE t (id INT PRIMARY KEY, a INT, b INT)",
            "INSERT INTO t VALUES (1, 10, 20), (2, 11, 21)",
            "CHECKPOINT",
            "ALTER TABLE t RENAME COLUMN a TO c, RENAME COLUMN b TO a, RENAME COLUMN c TO b",
        ],
    )
    .await;
    for pushdown in ["false", "true"] {
        all(&a, &[&format!("SET datafusion.execution.parquet.pushdown_filters = {pushdown}")]).await;
        run(&a, "SELECT min(a), max(a), min(b), max(b) FROM t", "20,21,10,11").await;
        run(&a, "SELECT id, a, b FROM t WHERE a = 20", "1,20,10").await;
        run(&a, "SELECT count(*) FROM t WHERE a = 10 OR b = 20", "0").await;
        run(&a, "SELECT a FROM t WHERE id = 2", "21").await;
        run(&a, "SELECT b FROM t ORDER BY b DESC LIMIT 1", "11").await;
    }
}
