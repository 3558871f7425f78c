//! MERGE, and what UPDATE … FROM and DELETE … USING return, end to end.
#![allow(clippy::unwrap_used)]

use std::sync::Arc;

use super::tests::{answer, check, session};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn each_row_goes_to_the_first_clause_that_takes_it() {
    let s = session().await;
    check(&s, &[
        ("CREATE TABLE t (id INT PRIMARY KEY, v INT, n TEXT DEFAULT 'new')", "CREATE TABLE"),
        ("CREATE TABLE s (id INT, v INT)", "CREATE TABLE"),
        ("INSERT INTO t VALUES (1, 10, 'a'), (2, 20, 'b'), (3, 30, 'c'), (4, NULL, 'd'), (9, 90, 'i')", "INSERT 5"),
        ("INSERT INTO s VALUES (1, 1), (2, 0), (3, 3), (5, 5), (6, NULL)", "INSERT 5"),
        (
            "MERGE INTO t USING s ON t.id = s.id \
             WHEN MATCHED AND s.v = 0 THEN DELETE \
             WHEN MATCHED AND 100 / s.v > 50 THEN UPDATE SET v = t.v + s.v, n = DEFAULT \
             WHEN MATCHED THEN DO NOTHING \
             WHEN NOT MATCHED AND v IS NULL THEN DO NOTHING \
             WHEN NOT MATCHED THEN INSERT (id, v) VALUES (id, v * 100) \
             WHEN NOT MATCHED BY SOURCE AND v IS NULL THEN DELETE \
             WHEN NOT MATCHED BY SOURCE THEN UPDATE SET n = n || '!'",
            "MERGE 5",
        ),
        ("SELECT * FROM t ORDER BY id", "1 11 new|3 30 c|5 500 new|9 90 i!"),
        ("MERGE INTO t USING (SELECT 1 AS id) AS s ON false WHEN MATCHED THEN DELETE", "MERGE 0"),
        ("MERGE INTO t x USING (VALUES (1), (7)) AS s(k) ON x.id = s.k WHEN NOT MATCHED THEN INSERT VALUES (k, DEFAULT, 'k')", "MERGE 1"),
        ("WITH gone AS (SELECT 7 AS id) MERGE INTO t USING gone ON t.id = gone.id WHEN MATCHED THEN DELETE", "MERGE 1"),
        ("MERGE INTO t USING t AS o ON t.id = o.id + 2 WHEN MATCHED THEN UPDATE SET v = (SELECT max(s.v) FROM s) + o.v", "MERGE 2"),
        ("SELECT id, v FROM t ORDER BY id", "1 11|3 16|5 35|9 90"),
        ("CREATE TABLE d (id INT DEFAULT 8, at TIMESTAMPTZ DEFAULT now())", "CREATE TABLE"),
        ("MERGE INTO d USING (SELECT 1) AS s(x) ON false WHEN NOT MATCHED THEN INSERT DEFAULT VALUES", "MERGE 1"),
        ("SELECT id, at IS NOT NULL FROM d", "8 true"),
    ]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_merge_that_fails_changes_nothing() {
    let s = session().await;
    check(&s, &[
        ("CREATE TABLE t (id INT PRIMARY KEY, v SMALLINT NOT NULL)", "CREATE TABLE"),
        ("INSERT INTO t VALUES (1, 1), (2, 2)", "INSERT 2"),
        (
            "MERGE INTO t USING (VALUES (1, 5), (1, 6)) AS s(id, v) ON t.id = s.id WHEN MATCHED THEN UPDATE SET v = s.v",
            "21000 MERGE meets the row with (id) = (1) of table \"public.t\" more than once",
        ),
        ("MERGE INTO t USING (VALUES (1), (1)) AS s(id) ON t.id = s.id WHEN MATCHED THEN DELETE", "21000…"),
        ("MERGE INTO t USING (VALUES (1), (1)) AS s(id) ON t.id = s.id WHEN MATCHED THEN DO NOTHING", "MERGE 0"),
        ("MERGE INTO t USING (VALUES (3), (3)) AS s(id) ON t.id = s.id WHEN NOT MATCHED THEN INSERT VALUES (id, 1)", "23505…"),
        ("MERGE INTO t USING (VALUES (3)) AS s(id) ON t.id = s.id WHEN NOT MATCHED THEN INSERT (id) VALUES (id)", "23502…"),
        ("MERGE INTO t USING (VALUES (2)) AS s(id) ON t.id = s.id WHEN MATCHED THEN UPDATE SET v = 100000", "22003…"),
        ("MERGE INTO t USING nowhere AS s ON t.id = s.id WHEN MATCHED THEN DELETE", "42P01…"),
        ("MERGE INTO t USING t AS s ON t.id = s.id WHEN MATCHED AND s.v THEN DELETE", "42804…"),
        ("MERGE INTO t USING t AS s ON t.id = s.id WHEN MATCHED THEN UPDATE SET v = count(*)", "42803…"),
        ("MERGE INTO t USING t AS s ON t.id = s.id WHEN MATCHED THEN DELETE WHEN MATCHED THEN DO NOTHING", "42601…"),
        ("MERGE INTO t USING t AS s ON false WHEN NOT MATCHED THEN INSERT (id, v) VALUES (t.id, 1)", "42…"),
        ("MERGE INTO t USING t AS s ON false WHEN NOT MATCHED THEN INSERT (id, v) VALUES (1)", "42601…"),
        ("EXPLAIN ANALYZE MERGE INTO t USING t AS s ON t.id = s.id WHEN MATCHED THEN DELETE", "Plan…"),
        ("SELECT * FROM t ORDER BY id", "1 1|2 2"),
    ]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn keys_that_others_insert_meanwhile_are_met_again() {
    let s = session().await;
    check(&s, &[("CREATE TABLE t (id INT PRIMARY KEY, n INT)", "CREATE TABLE")]).await;
    let s = Arc::new(s);
    let tasks: Vec<_> = (0..4)
        .map(|_| {
            let s = s.fork();
            tokio::spawn(async move {
                for id in 0..5 {
                    let sql = format!(
                        "MERGE INTO t USING (SELECT {id} AS id) AS s ON t.id = s.id \
                         WHEN MATCHED THEN UPDATE SET n = t.n + 1 WHEN NOT MATCHED THEN INSERT VALUES (s.id, 1)"
                    );
                    loop {
                        match answer(&s, &sql, None).await.as_str() {
                            "MERGE 1" => break,
                            other => assert!(other.starts_with("40001"), "{other}"),
                        }
                    }
                }
            })
        })
        .collect();
    for task in tasks {
        task.await.unwrap();
    }
    check(&s, &[("SELECT * FROM t ORDER BY id", "0 4|1 4|2 4|3 4|4 4")]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn returning_sees_both_sides() {
    let s = session().await;
    check(&s, &[
        ("CREATE TABLE t (id INT PRIMARY KEY, v INT)", "CREATE TABLE"),
        ("CREATE TABLE s (k INT, v INT, w TEXT)", "CREATE TABLE"),
        ("INSERT INTO t VALUES (1, 10), (2, 20), (3, 30)", "INSERT 3"),
        ("INSERT INTO s VALUES (1, 1, 'one'), (2, 2, 'two')", "INSERT 2"),
        ("UPDATE t SET v = t.v + s.v FROM s WHERE k = id AND k = 1 RETURNING *", "1 11 1 1 one"),
        ("UPDATE t SET v = s.v FROM s WHERE k = id AND k = 2 RETURNING w, s.*, t.v + s.k AS sum", "two 2 2 two 4"),
        ("UPDATE t SET v = 0 FROM s WHERE k = id RETURNING v", "42702…"),
        ("UPDATE t SET v = 0 FROM s WHERE k = id RETURNING x.*", "42P01…"),
        (
            "UPDATE t SET v = o.v FROM t AS o LEFT JOIN s ON s.k = o.id WHERE o.id = t.id AND o.id = 3 RETURNING t.id, o.v, w",
            "3 30 NULL",
        ),
        ("UPDATE t SET id = 7 FROM s WHERE t.id = 1", "21000 UPDATE … FROM meets the row with (id) = (1) of table \"public.t\" more than once"),
        ("DELETE FROM t USING s WHERE t.id = 1 RETURNING w", "21000…"),
        ("DELETE FROM t USING s WHERE t.id = s.k AND s.k = 2 RETURNING t.*, w", "2 2 two"),
        ("DELETE FROM t USING s WHERE t.id = 1 RETURNING id", "1"),
        ("DELETE FROM t USING t AS o WHERE t.id = o.id RETURNING _row_id = o._row_id, o.id", "true 3"),
        ("SELECT count(*) FROM t", "0"),
    ]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn merge_returns_what_it_did() {
    let s = session().await;
    check(&s, &[
        ("CREATE TABLE t (id INT PRIMARY KEY, v INT)", "CREATE TABLE"),
        ("CREATE TABLE s (k INT, v INT, w TEXT)", "CREATE TABLE"),
        ("INSERT INTO t VALUES (1, 10), (2, 20), (3, 30)", "INSERT 3"),
        ("INSERT INTO s VALUES (1, 1, 'one'), (2, 2, 'out'), (4, 4, 'new'), (5, 5, NULL)", "INSERT 4"),
        (
            "MERGE INTO t USING s ON t.id = s.k WHEN MATCHED AND w = 'out' THEN DELETE \
             RETURNING merge_action() AS action, *, _row_id IS NULL OR _version IS NULL",
            "DELETE 2 2 out 2 20 false",
        ),
        ("MERGE INTO t USING s ON t.id = s.k AND k = 1 WHEN MATCHED THEN UPDATE SET v = s.v RETURNING s.*, t.v, lower(merge_action())", "1 1 one 1 update"),
        ("MERGE INTO t USING s ON t.id = s.k WHEN NOT MATCHED AND w = 'new' THEN INSERT VALUES (k, v) RETURNING merge_action(), w, t.id, s.v", "INSERT new 4 4"),
        (
            "MERGE INTO t x USING s ON x.id = s.k AND k < 4 WHEN NOT MATCHED BY SOURCE AND id = 3 THEN UPDATE SET v = -1 RETURNING id, k, public.s.w, x.v",
            "3 NULL NULL -1",
        ),
        ("MERGE INTO t USING s ON t.id = s.k WHEN MATCHED THEN DO NOTHING RETURNING *", ""),
        ("MERGE INTO t USING s ON t.id = s.k WHEN MATCHED THEN DELETE RETURNING v", "42702…"),
        ("MERGE INTO t USING s ON t.id = s.k WHEN MATCHED THEN DELETE RETURNING x.*", "42P01…"),
        ("MERGE INTO t USING s ON t.id = s.k WHEN MATCHED THEN DELETE RETURNING s._here", "42…"),
        ("MERGE INTO t USING s ON t.id = s.k WHEN MATCHED THEN DELETE RETURNING 1 / (t.id - 1)", "22012…"),
        ("UPDATE t SET v = 0 RETURNING merge_action()", "42883…"),
        ("SELECT * FROM t ORDER BY id", "1 1|3 -1|4 4"),
    ]).await;
    // New rows have the ids that the commit gives, also beside rows that are deleted.
    check(
        &s,
        &[
            ("CREATE TABLE told (id INT, r BIGINT UNSIGNED, v BIGINT UNSIGNED)", "CREATE TABLE"),
            ("INSERT INTO told SELECT id, _row_id, _version FROM t WHERE id = 3", "INSERT 1"),
        ],
    )
    .await;
    let merge = "MERGE INTO t USING (VALUES (1), (3), (7), (8)) AS s(k) ON t.id = s.k WHEN MATCHED AND k = 3 THEN DELETE \
                 WHEN MATCHED THEN UPDATE SET v = 0 WHEN NOT MATCHED THEN INSERT VALUES (k, 7) RETURNING id, _row_id, _version";
    let rows = answer(&s, merge, None).await;
    let told = answer(
        &s,
        "SELECT id, _row_id, _version FROM t WHERE id IN (1, 7, 8) UNION ALL SELECT id, r, v FROM told ORDER BY id",
        None,
    )
    .await;
    let mut rows: Vec<&str> = rows.split('|').collect();
    rows.sort_unstable();
    assert_eq!(rows.join("|"), told);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn decimals_and_vectors_of_a_merge_are_exact() {
    let s = session().await;
    check(
        &s,
        &[
            ("CREATE TABLE t (id INT PRIMARY KEY, d DECIMAL(30, 20), e VECTOR(2))", "CREATE TABLE"),
            ("INSERT INTO t VALUES (1, 0, '[0,0]')", "INSERT 1"),
            (
                "MERGE INTO t USING (VALUES (1), (2)) AS s(id) ON t.id = s.id \
             WHEN MATCHED THEN UPDATE SET d = 0.12345678901234567891, e = ARRAY[1, 2.5] \
             WHEN NOT MATCHED THEN INSERT VALUES (id, 1234567890.12345678901234567891, '[3,4]')",
                "MERGE 2",
            ),
            (
                "SELECT id, d, e::TEXT FROM t ORDER BY id",
                "1 0.12345678901234567891 [1,2.5]|2 1234567890.12345678901234567891 [3,4]",
            ),
        ],
    )
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn tables_of_one_name_are_told_apart_or_refused() {
    let s = session().await;
    check(
        &s,
        &[
            ("CREATE SCHEMA a", "CREATE SCHEMA"),
            ("CREATE TABLE t (id INT PRIMARY KEY, v INT)", "CREATE TABLE"),
            ("CREATE TABLE a.t (id INT, w INT)", "CREATE TABLE"),
            ("INSERT INTO t VALUES (1, 1), (2, 2)", "INSERT 2"),
            ("INSERT INTO a.t VALUES (2, 7)", "INSERT 1"),
            ("DELETE FROM t USING a.t WHERE t.id = a.t.id", "42712…"),
            ("UPDATE t SET v = w FROM a.t WHERE t.id = a.t.id", "42712…"),
            ("UPDATE a.t SET w = v FROM t WHERE a.t.id = t.id", "42712…"),
            ("UPDATE public.t SET v = w FROM a.t WHERE public.t.id = t.id", "42712…"),
            ("MERGE INTO public.t USING a.t ON public.t.id = t.id WHEN MATCHED THEN DELETE", "42712…"),
            ("SELECT * FROM t ORDER BY id", "1 1|2 2"),
            ("UPDATE t SET v = w FROM a.t AS o WHERE t.id = o.id", "UPDATE 1"),
            ("MERGE INTO t AS x USING a.t ON x.id = t.id WHEN MATCHED THEN UPDATE SET v = v + w", "MERGE 1"),
            ("SELECT * FROM t ORDER BY id", "1 1|2 14"),
        ],
    )
    .await;
}
