//! Aggregates that are computed for the keys of the other side of a join: when they are, and that no answer hangs on it.

use super::{all, answer, session_within};

/// Queries, and whether an aggregate of theirs is narrowed.
const QUERIES: [(&str, bool); 14] = [
    // The average of a part's own lines.
    (
        "SELECT sum(o.q) FROM part, line o WHERE part.p = o.p AND brand = 3 AND o.q < (SELECT avg(i.q) FROM line i WHERE i.p = part.p)",
        true,
    ),
    // The key is the other column of the join.
    (
        "SELECT sum(o.q) FROM part, line o WHERE part.p = o.p AND brand = 3 AND o.q < (SELECT avg(i.q) FROM line i WHERE i.p = o.p)",
        true,
    ),
    // A count of nothing is 0.
    (
        "SELECT sum(n), count(n) FROM (SELECT (SELECT count(*) FROM line i WHERE i.p = part.p AND i.q > 20) AS n FROM part WHERE brand = 3) x",
        true,
    ),
    (
        "SELECT count(*) FROM part WHERE brand = 3 AND p IN (SELECT p FROM line GROUP BY p HAVING sum(q) > 10)",
        true,
    ),
    (
        "SELECT count(*), sum(s) FROM part LEFT JOIN (SELECT p, sum(q) AS s FROM line GROUP BY p) x ON x.p = part.p WHERE brand = 3",
        true,
    ),
    // Several values for each key, NULL among them.
    (
        "SELECT count(*), sum(s) FROM wanted JOIN (SELECT p, sum(q) AS s FROM line GROUP BY p) x ON x.p = w",
        true,
    ),
    (
        "SELECT sum(n) FROM part JOIN (SELECT p, count(DISTINCT q) AS n FROM line GROUP BY p) x ON x.p = part.p WHERE brand = 3",
        true,
    ),
    // All keys are looked for.
    (
        "SELECT sum(o.q) FROM part, line o WHERE part.p = o.p AND o.q < (SELECT avg(i.q) FROM line i WHERE i.p = part.p)",
        false,
    ),
    // One NULL among the groups changes what is in none of them.
    (
        "SELECT count(*) FROM part WHERE brand = 3 AND p NOT IN (SELECT p FROM line GROUP BY p HAVING sum(q) > 10)",
        false,
    ),
    // Groups without a partner are in the result.
    (
        "SELECT count(*), count(x.p) FROM (SELECT p FROM part WHERE brand = 3) a RIGHT JOIN (SELECT p, sum(q) AS s FROM line GROUP BY p) x ON x.p = a.p",
        false,
    ),
    // Other rows each time they are read.
    (
        "SELECT count(*), sum(s) FROM (SELECT p FROM part WHERE brand = 3 AND random() < 2) a JOIN (SELECT p, sum(q) AS s FROM line GROUP BY p) x ON x.p = a.p",
        false,
    ),
    // Of floats, 0 and -0.
    (
        "SELECT count(*), sum(s) FROM (SELECT f FROM part WHERE brand = 3) a JOIN (SELECT f, sum(q) AS s FROM line GROUP BY f) x ON x.f = a.f",
        false,
    ),
    // Grouped by something else, and by more than one set.
    (
        "SELECT count(*) FROM (SELECT p FROM part WHERE brand = 3) a JOIN (SELECT q, max(p) AS p FROM line GROUP BY q) x ON x.p = a.p",
        false,
    ),
    (
        "SELECT count(*), sum(s) FROM (SELECT p FROM part WHERE brand = 3) a JOIN (SELECT p, q, sum(q) AS s FROM line GROUP BY ROLLUP (p, q)) x ON x.p = a.p",
        false,
    ),
];

#[tokio::test]
async fn aggregates_are_narrowed_where_it_pays_and_changes_nothing() {
    let session = session_within(256 << 20).await;
    all(&session, &[
        "CREATE TABLE part (p BIGINT PRIMARY KEY, brand INT, f DOUBLE)",
        "INSERT INTO part SELECT i, i % 50, i FROM generate_series(0, 999) g(i)",
        "CREATE TABLE line (l BIGINT PRIMARY KEY, p BIGINT, q INT, f DOUBLE)",
        "INSERT INTO line SELECT i, CASE WHEN i % 97 > 0 THEN i % 1000 END, i % 101, i % 1000 FROM generate_series(1, 20000) g(i)",
        "CREATE TABLE wanted (w BIGINT)",
        "INSERT INTO wanted VALUES (5), (5), (7), (NULL), (2000)",
        "CHECKPOINT",
        "DELETE FROM line WHERE l % 13 = 5",
        "INSERT INTO line VALUES (30001, 3, 7, 3), (30002, NULL, 7, -0.0)",
    ])
    .await;
    let mut wrong = Vec::new();
    for (sql, is_narrowed) in QUERIES {
        let explain = format!("EXPLAIN FORMAT indent {sql}");
        all(&session, &["SET datafusion.optimizer.join_reordering = false"]).await;
        let (whole, plan) = (answer(&session, sql).await, answer(&session, &explain).await);
        assert!(!plan.contains("__keys"), "switched off: {plan}");
        all(&session, &["SET datafusion.optimizer.join_reordering = true"]).await;
        let (narrowed, plan) = (answer(&session, sql).await, answer(&session, &explain).await);
        if whole != narrowed {
            wrong.push(format!("{sql}\n  the whole {whole}\n  narrowed  {narrowed}"));
        }
        if plan.contains("__keys") != is_narrowed {
            wrong.push(format!("{sql}\n  is to be narrowed: {is_narrowed}\n{plan}"));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}
