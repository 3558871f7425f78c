//! Which statements become a search, and that they give what comparing every row gives.

use super::{answer, session};
use crate::Session;

const QUERY: &str = "'[0.3,-0.2,0.9,0.1]'";

async fn indexed() -> Session {
    let session = session().await;
    for sql in [
        "CREATE TABLE v (id INT PRIMARY KEY, tenant INT, e VECTOR(4))",
        "INSERT INTO v SELECT i, i % 100, ARRAY[sin(i), cos(i * 0.7), sin(i * 1.3), cos(i * 2.1)] FROM generate_series(1, 6000) g(i)",
        "INSERT INTO v VALUES (7000, 0, NULL)",
        "CREATE INDEX v_l2 ON v USING hnsw (e)",
        "CREATE INDEX v_ip ON v USING hnsw (e) WITH (metric = 'ip')",
        "DELETE FROM v WHERE id % 7 = 0",
        "INSERT INTO v SELECT i, i % 100, ARRAY[sin(i), cos(i * 0.7), sin(i * 1.3), cos(i * 2.1)] FROM generate_series(6001, 6300) g(i)",
    ] {
        let done = answer(&session, sql).await;
        assert!(
            done.starts_with("CREATE") || done.starts_with("INSERT") || done.starts_with("DELETE"),
            "{done}"
        );
    }
    session
}

async fn is_search(session: &Session, sql: &str) -> bool {
    answer(session, &format!("EXPLAIN FORMAT indent {sql}")).await.contains("SearchExec")
}

#[tokio::test(flavor = "multi_thread")]
async fn sorts_by_an_indexed_distance_are_searches() {
    let session = indexed().await;
    for sql in [
        format!("SELECT id FROM v ORDER BY e <-> {QUERY} LIMIT 5"),
        format!("SELECT id FROM v ORDER BY {QUERY} <-> e LIMIT 5"),
        format!("SELECT id, l2_distance(e, {QUERY}) AS d FROM v ORDER BY d LIMIT 5"),
        format!("SELECT * FROM v AS x WHERE x.tenant < 50 ORDER BY x.e <-> {QUERY} LIMIT 5 OFFSET 3"),
        format!("SELECT id FROM v ORDER BY e <#> {QUERY} LIMIT 5"),
        format!("SELECT id FROM v ORDER BY inner_product(e, {QUERY}) DESC NULLS LAST LIMIT 5"),
        format!("SELECT sum(id) FROM (SELECT id FROM v ORDER BY e <-> {QUERY} LIMIT 5) n"),
        format!(
            "WITH n AS (SELECT id, e <-> {QUERY} AS d FROM v ORDER BY d LIMIT 5) SELECT v.id FROM n JOIN v ON v.id = n.id"
        ),
        format!("SELECT id FROM vector_search('v', 'e', {QUERY}, metric => 'l2') WHERE tenant = 3"),
    ] {
        assert!(
            is_search(&session, &sql).await,
            "{sql}: {}",
            answer(&session, &format!("EXPLAIN FORMAT indent {sql}")).await
        );
    }
    for sql in [
        format!("SELECT id FROM v ORDER BY e <=> {QUERY} LIMIT 5"),
        format!("SELECT id FROM v ORDER BY e <-> {QUERY} DESC LIMIT 5"),
        format!("SELECT id FROM v ORDER BY e <-> {QUERY} NULLS FIRST LIMIT 5"),
        format!("SELECT id FROM v ORDER BY e <-> {QUERY}"),
        format!("SELECT id FROM v ORDER BY e <-> {QUERY}, id LIMIT 5"),
        format!(
            "SELECT id FROM v WHERE tenant IN (SELECT tenant FROM v w WHERE w.id = 3) ORDER BY e <-> {QUERY} LIMIT 5"
        ),
        format!("SELECT tenant FROM v GROUP BY tenant, e ORDER BY e <-> {QUERY} LIMIT 5"),
    ] {
        assert!(!is_search(&session, &sql).await, "{sql}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn searches_give_the_rows_of_a_full_comparison() {
    let session = indexed().await;
    // The right side adds 0 to the sort key, which no rule recognises.
    for (condition, k) in [
        ("true", 10),
        ("true", 300),
        ("tenant < 50", 10),
        ("tenant < 10", 10),
        ("tenant = 3", 10),
        ("id BETWEEN 10 AND 12", 10),
        ("id = 5999", 10),
        ("id = 0", 10),
        ("e <-> '[0,0,0,0]' > 1.2", 10),
        ("tenant = 3 OR id < 40", 10),
        ("e IS NULL", 3),
        ("id > 6990", 3),
    ] {
        let search = format!(
            "SELECT count(*), round(sum(d), 4) FROM (SELECT e <-> {QUERY} AS d FROM v WHERE {condition} ORDER BY d LIMIT {k}) n"
        );
        let full = format!(
            "SELECT count(*), round(sum(d), 4) FROM (SELECT (e <-> {QUERY})::DOUBLE + 0 AS d FROM v WHERE {condition} ORDER BY d LIMIT {k}) n"
        );
        assert_eq!(
            numbers(&answer(&session, &search).await),
            numbers(&answer(&session, &full).await),
            "{condition}"
        );
        let called = format!(
            "SELECT count(*), round(sum(_distance), 4) FROM vector_search('v', 'e', {QUERY}, k => {k}, metric => 'l2') WHERE {condition}"
        );
        let exact = format!(
            "SELECT count(*), round(sum(_distance), 4) FROM vector_search('v', 'e', {QUERY}, k => {k}, metric => 'l2', mode => 'exact') WHERE {condition}"
        );
        assert_eq!(
            numbers(&answer(&session, &called).await),
            numbers(&answer(&session, &exact).await),
            "{condition}"
        );
    }
}

/// Count, and the sum to three digits: a double sum and a REAL one differ behind them.
fn numbers(answer: &str) -> (String, Option<i64>) {
    let (count, sum) = answer.split_once(',').unwrap_or((answer, ""));
    (count.to_owned(), sum.parse::<f64>().ok().map(|sum| (sum * 100.0).round() as i64))
}
