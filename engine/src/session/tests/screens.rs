//! Rows that a view hides stay hidden from those who may read the view only, whatever they ask of it.

use super::rights::user;
use super::{all, answer, run, session};
use crate::Session;

/// An owner with rows that a view hides, and bob, who may read the view.
async fn hidden_rows() -> (Session, Session) {
    let owner = session().await;
    let bob = user(&owner, "bob").await;
    all(
        &owner,
        &[
            "CREATE SCHEMA app",
            "CREATE TABLE app.secret (id BIGINT PRIMARY KEY, owner TEXT, s TEXT)",
            "INSERT INTO app.secret VALUES (1, 'bob', '5'), (2, 'eve', 'hunter2'), (3, 'bob', '0')",
            "CREATE VIEW app.v AS SELECT * FROM app.secret WHERE owner = 'bob'",
            "CREATE TABLE app.n (n INT)",
            "INSERT INTO app.n VALUES (5)",
            "GRANT SELECT ON app.v TO bob",
            "GRANT SELECT, INSERT, UPDATE ON app.n TO bob",
        ],
    )
    .await;
    (owner, bob)
}

#[tokio::test]
async fn what_a_reader_asks_is_asked_of_rows_that_show() {
    let (owner, bob) = hidden_rows().await;
    // Of rows in memory, then of segments.
    for before in ["SELECT 1", "CHECKPOINT"] {
        all(&owner, &[before]).await;
        for (sql, expected) in [
            ("SELECT * FROM app.v WHERE CAST(s AS INT) > 0", "1,bob,5"),
            ("SELECT * FROM app.v WHERE id > 0 AND CAST(s AS INT) > 0", "1,bob,5"),
            (
                "SELECT id FROM app.v WHERE CASE WHEN s = 'hunter2' THEN CAST(s AS INT) ELSE 1 END > 0 ORDER BY id",
                "1;3",
            ),
            ("SELECT x FROM (SELECT CAST(s AS INT) AS x FROM app.v) q WHERE x > 0", "5"),
            ("SELECT id FROM app.v ORDER BY CAST(s AS INT)", "3;1"),
            ("SELECT id FROM app.v ORDER BY CAST(s AS INT) LIMIT 1", "3"),
            ("SELECT id, row_number() OVER (ORDER BY CAST(s AS INT)) FROM app.v ORDER BY id", "1,2;3,1"),
            ("SELECT sum(CAST(s AS INT)) FROM app.v", "5"),
            ("SELECT max(s) FROM app.v", "5"),
            ("SELECT count(*) FROM app.v", "2"),
            ("SELECT CAST(s AS INT) AS x, count(*) FROM app.v GROUP BY CAST(s AS INT) ORDER BY x", "0,1;5,1"),
            ("SELECT v.id FROM app.v JOIN app.n ON CAST(v.s AS INT) = n.n", "1"),
            ("SELECT id FROM app.v WHERE CAST(s AS INT) IN (SELECT n FROM app.n)", "1"),
            ("SELECT id FROM app.v WHERE CAST(s AS INT) = (SELECT max(n) FROM app.n)", "1"),
            ("SELECT id FROM app.v WHERE EXISTS (SELECT 1 FROM app.n WHERE n.n = CAST(v.s AS INT))", "1"),
            ("SELECT n FROM app.n WHERE n IN (SELECT CAST(s AS INT) FROM app.v)", "5"),
        ] {
            run(&bob, sql, expected).await;
        }
    }
    run(&bob, "INSERT INTO app.n SELECT CAST(s AS INT) FROM app.v WHERE CAST(s AS INT) > 0", "INSERT 1")
        .await;
    run(&bob, "UPDATE app.n SET n = 7 WHERE n IN (SELECT CAST(s AS INT) FROM app.v)", "UPDATE 2").await;
}

#[tokio::test]
async fn explain_tells_nothing_of_hidden_rows() {
    let (owner, bob) = hidden_rows().await;
    all(&owner, &["CHECKPOINT", "CREATE VIEW app.names AS SELECT id, s AS name FROM app.secret ORDER BY id"])
        .await;
    all(&owner, &["GRANT SELECT ON app.names TO bob"]).await;
    let sql = "SELECT * FROM app.v WHERE id = 1 AND CAST(s AS INT) > 0";
    let got = answer(&bob, &format!("EXPLAIN VERBOSE {sql}")).await;
    // The condition that fails for no row looks up its key; the other one waits.
    let leaf = "ViewExec: view=app.v, projection=[id, owner, s], filters=[id = Int64(1)]";
    assert!(got.contains(leaf) && got.contains("FilterExec"), "{got}");
    let analysed = answer(&bob, &format!("EXPLAIN ANALYZE {sql}")).await;
    assert!(analysed.contains("ViewExec: view=app.v"), "{analysed}");
    for text in [got, analysed] {
        assert!(!["app.secret", "hunter2", "\"bob\""].iter().any(|told| text.contains(told)), "{text}");
    }
    // Whoever may read the table needs no screen before it, and a view that hides nothing is none.
    let got = answer(&owner, &format!("EXPLAIN VERBOSE {sql}")).await;
    assert!(!got.contains("ViewExec"), "{got}");
    let got = answer(&bob, "EXPLAIN VERBOSE SELECT name FROM app.names WHERE length(name) > 1").await;
    assert!(!got.contains("ViewExec"), "{got}");
}

#[tokio::test]
async fn a_view_over_a_view_hides_what_each_of_them_hides() {
    let (owner, bob) = hidden_rows().await;
    let ann = user(&owner, "ann").await;
    all(&owner, &["GRANT SELECT ON app.v TO ann", "GRANT CREATE ON SCHEMA app TO ann, bob"]).await;
    // What ann writes is not asked of rows that she may not see, nor what bob writes of those that she hides from him.
    all(
        &ann,
        &[
            "CREATE VIEW app.w AS SELECT id, s FROM app.v WHERE CAST(s AS INT) > 0",
            "CREATE VIEW app.all_of_v AS SELECT s, id FROM app.v",
            "GRANT SELECT ON app.w TO bob",
            "GRANT SELECT ON app.all_of_v TO bob",
        ],
    )
    .await;
    run(&ann, "SELECT id FROM app.w", "1").await;
    run(&bob, "SELECT id FROM app.w WHERE 10 / CAST(s AS INT) > 0", "1").await;
    run(&bob, "SELECT id FROM app.w WHERE id = 1", "1").await;
    run(&bob, "SELECT id FROM app.w WHERE id = 3", "").await;
    run(&bob, "SELECT id FROM app.all_of_v WHERE CAST(s AS INT) > 0", "1").await;
    let got = answer(&bob, "SELECT id FROM app.all_of_v WHERE 10 / CAST(s AS INT) > 0").await;
    assert!(got.starts_with("22012"), "of a row that shows it may fail: {got}");
    // One's own view is no screen before what is behind it.
    all(&bob, &["CREATE VIEW app.own AS SELECT * FROM app.v WHERE id > 0"]).await;
    run(&bob, "SELECT id FROM app.own WHERE CAST(s AS INT) > 0", "1").await;
    let got = answer(&bob, "EXPLAIN VERBOSE SELECT * FROM app.own").await;
    assert!(got.contains("view=app.v,") && !got.contains("view=app.own"), "{got}");
}

#[tokio::test]
async fn a_screen_changes_no_answer() {
    let (owner, bob) = hidden_rows().await;
    all(
        &owner,
        &[
            "CREATE VIEW app.mixed AS SELECT id, CASE WHEN id = 1 THEN 1 ELSE 2.5 END AS c, s || '!' AS t FROM app.secret WHERE owner = 'bob'",
            "CREATE VIEW app.united AS SELECT n AS m FROM app.n UNION SELECT id FROM app.secret WHERE owner = 'bob'",
            "CREATE VIEW app.counted AS SELECT owner, count(*) AS many FROM app.secret GROUP BY owner",
            "CREATE VIEW app.paired AS SELECT a.id, b.s, n.n FROM app.secret a JOIN app.secret b ON a.id = b.id LEFT JOIN app.n ON a.id = n.n",
            "CREATE VIEW app.lowest AS SELECT id FROM app.secret ORDER BY id LIMIT 2",
            "CREATE VIEW app.latest AS SELECT * FROM app.secret WHERE id = (SELECT max(id) FROM app.secret)",
            "CREATE TABLE app.items (id BIGINT PRIMARY KEY, owner TEXT, e VECTOR(2))",
            "INSERT INTO app.items VALUES (1, 'bob', '[1,0]'), (2, 'eve', '[0,1]'), (3, 'bob', '[0,2]')",
            "CREATE INDEX ON app.items USING hnsw (e)",
            "CREATE VIEW app.near AS SELECT * FROM app.items WHERE owner = 'bob'",
            "CREATE VIEW app.nearest AS SELECT id FROM vector_search('app.items', 'e', '[0,1]', k => 2)",
            "GRANT SELECT ON app.mixed TO bob",
            "GRANT SELECT ON app.united TO bob",
            "GRANT SELECT ON app.counted TO bob",
            "GRANT SELECT ON app.paired TO bob",
            "GRANT SELECT ON app.lowest TO bob",
            "GRANT SELECT ON app.latest TO bob",
            "GRANT SELECT ON app.near TO bob",
            "GRANT SELECT ON app.nearest TO bob",
        ],
    )
    .await;
    for sql in [
        "SELECT id, s, max(owner) FROM app.v GROUP BY id ORDER BY id",
        "SELECT s FROM app.v WHERE id IN (1, 2, 3) AND NOT (s = '5' OR s IS NULL)",
        "SELECT * FROM app.mixed WHERE id = 1 AND c > 0 AND t LIKE '5%'",
        "SELECT t FROM app.mixed WHERE t = '5!'",
        "SELECT m FROM app.united WHERE m > 1 ORDER BY m",
        "SELECT many FROM app.counted WHERE owner = 'bob' AND many > 1",
        "SELECT * FROM app.paired WHERE id >= 2 AND n IS NULL ORDER BY id",
        "SELECT id FROM app.lowest WHERE id > 1",
        "SELECT count(*) FROM (SELECT 1 FROM app.v LIMIT 1) x",
        "SELECT a.id FROM app.v a, app.v b WHERE a.id = b.id AND b.id = 3",
        "SELECT id FROM app.near ORDER BY e <-> '[0,1]' LIMIT 1",
        "SELECT id FROM app.near WHERE id < 3 ORDER BY e <-> '[0,1]' LIMIT 1",
        "SELECT id FROM app.nearest WHERE id > 2",
        "SELECT s FROM app.latest WHERE id > 1",
        "SELECT s FROM app.v WHERE id = (SELECT max(id) FROM app.v)",
        "WITH RECURSIVE r(x) AS (SELECT 1::BIGINT UNION ALL SELECT r.x + 1 FROM r JOIN app.v ON v.id >= r.x WHERE v.id = 3) SELECT x FROM r ORDER BY x",
        "SELECT count(*), count(DISTINCT id) FROM app.v",
    ] {
        run(&bob, sql, &answer(&owner, sql).await).await;
    }
    run(&bob, "SELECT id FROM app.near ORDER BY e <-> '[0,1]' LIMIT 1", "3").await;
    run(&bob, "SELECT id FROM app.lowest WHERE id > 1", "2").await;
}
