//! The order in which conditions are asked: what is cheap and leaves little first, where none can fail, and the same rows.

use super::{all, answer, session_within};

/// Conditions, and what of them comes before what.
const CONDITIONS: [(&str, &str, &str); 7] = [
    ("(mode = 'm7' OR mode = 'm8') AND k < 100", "k@", "mode@"),
    ("mode = 'm7' AND d > q AND q < 50 AND k < 1000", "d@", "mode@"),
    // The text leaves next to nothing out.
    ("mode <> 'm7' AND k IS NOT NULL AND q IN (3, 5, 7)", "q@", "mode@"),
    ("NOT (mode = 'm7') AND (k < 9 OR k IS NULL) AND d < 50", "k@", "mode@"),
    ("mode LIKE 'm_' AND mode = 'm7'", "= m7", "LIKE"),
    // What may fail stays behind what it is written behind, and before what it is written before.
    ("mode <> 'm7' AND 100 / (d + 1) > 3 AND k < 100", "mode@", "k@"),
    ("k < 100 AND q <> 0 AND 100 / q > 3", "q@", "100 / "),
];

#[tokio::test]
async fn conditions_are_in_order_and_leave_the_same_rows() {
    let session = session_within(256 << 20).await;
    all(&session, &[
        "CREATE TABLE line (k BIGINT, q INT NOT NULL, d INT NOT NULL, mode TEXT)",
        "INSERT INTO line SELECT CASE WHEN i % 11 > 0 THEN i % 2500 END, i % 97, i % 89, CASE WHEN i % 7 > 0 THEN 'm' || (i % 100) END \
         FROM generate_series(1, 10000) g(i)",
        "CHECKPOINT",
        "DELETE FROM line WHERE k % 13 = 5",
        "INSERT INTO line VALUES (3, 7, 9, 'm7'), (NULL, 0, 7, 'm7')",
    ])
    .await;
    let mut wrong = Vec::new();
    for (condition, first, then) in CONDITIONS {
        let sql = &format!("SELECT count(*), sum(q), count(mode) FROM line WHERE {condition}");
        let explain = format!("EXPLAIN FORMAT indent {sql}");
        all(&session, &["SET datafusion.optimizer.join_reordering = false"]).await;
        let written = answer(&session, sql).await;
        all(&session, &["SET datafusion.optimizer.join_reordering = true"]).await;
        let (ordered, plan) = (answer(&session, sql).await, answer(&session, &explain).await);
        if written != ordered {
            wrong.push(format!("{sql}\n  as written {written}\n  in order   {ordered}"));
        }
        let filter =
            plan.split("FilterExec: ").nth(1).and_then(|rest| rest.split(';').next()).unwrap_or_default();
        let (first, then) = (filter.find(first), filter.find(then));
        if first.is_none() || first > then {
            wrong.push(format!("{sql}\n{plan}"));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}
