//! The side that a hash join holds: the smaller one by what tables keep of their rows, and that no answer hangs on it.

use super::{all, answer, session_within};

/// Queries, the table that is held, and the one whose rows come by.
const QUERIES: [(&str, &str, &str); 7] = [
    // One of a hundred texts: DataFusion takes it for a fifth of the rows.
    ("SELECT count(*), sum(x) FROM orders JOIN line ON o = k WHERE mode = 'm7'", "line", "orders"),
    ("SELECT count(*), sum(x) FROM line JOIN orders ON o = k WHERE mode = 'm7'", "line", "orders"),
    (
        "SELECT count(*), sum(x) FROM orders LEFT JOIN (SELECT * FROM line WHERE mode = 'm7') l ON o = k",
        "line",
        "orders",
    ),
    (
        "SELECT count(*), sum(q) FROM line WHERE mode = 'm7' AND NOT EXISTS (SELECT 1 FROM orders WHERE o = k AND x <> q)",
        "line",
        "orders",
    ),
    (
        "SELECT count(*), sum(q) FROM line WHERE mode = 'm7' AND EXISTS (SELECT 1 FROM orders WHERE o = k AND x > q)",
        "line",
        "orders",
    ),
    (
        "SELECT count(*), sum(x) FROM orders WHERE o IN (SELECT k FROM line WHERE mode = 'm7' AND q < 50)",
        "line",
        "orders",
    ),
    // All lines are more than all orders.
    ("SELECT count(*), sum(x) FROM line JOIN orders ON o = k", "orders", "line"),
];

#[tokio::test]
async fn the_smaller_side_is_held_and_changes_nothing() {
    let session = session_within(256 << 20).await;
    all(&session, &[
        "CREATE TABLE orders (o BIGINT PRIMARY KEY, x INT)",
        "INSERT INTO orders SELECT i, i % 101 FROM generate_series(1, 2000) g(i)",
        "CREATE TABLE line (k BIGINT, q INT, mode TEXT NOT NULL)",
        "INSERT INTO line SELECT CASE WHEN i % 11 > 0 THEN i % 2500 END, i % 97, 'm' || (i % 100) FROM generate_series(1, 20000) g(i)",
        "CHECKPOINT",
        "DELETE FROM line WHERE k % 13 = 5",
        "INSERT INTO line VALUES (3, 7, 'm7'), (NULL, 7, 'm7')",
    ])
    .await;
    let mut wrong = Vec::new();
    for (sql, held, other) in QUERIES {
        let explain = format!("EXPLAIN FORMAT indent {sql}");
        all(&session, &["SET datafusion.optimizer.join_reordering = false"]).await;
        let written = answer(&session, sql).await;
        all(&session, &["SET datafusion.optimizer.join_reordering = true"]).await;
        let (chosen, plan) = (answer(&session, sql).await, answer(&session, &explain).await);
        if written != chosen {
            wrong.push(format!("{sql}\n  as written {written}\n  chosen     {chosen}"));
        }
        let at = |table: &str| plan.find(&format!("table=public.{table},"));
        let (of_held, of_other) = (at(held), at(other));
        if of_held.is_none() || of_held > of_other || !plan.contains("mode=CollectLeft") {
            wrong.push(format!("{sql}\n  {held} is to be held, whole\n{plan}"));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}
