//! Statements: cut, parsed and planned, never run.

use std::sync::LazyLock;

use cairn_engine::{Session, fuzzing};

use super::sample::Sample;
use super::{Seed, is_statement_error};

/// Longer texts only repeat what shorter ones have.
const BYTES_MAX: usize = 16 << 10;

static SAMPLE: LazyLock<Sample> = LazyLock::new(Sample::new);

pub(super) fn run(bytes: &[u8]) {
    if bytes.len() > BYTES_MAX {
        return;
    }
    let sql = String::from_utf8_lossy(bytes);
    cut(&sql);
    parsed(&sql);
    planned(&sql);
}

/// What a script is cut into are parts of it, in their order.
fn cut(sql: &str) {
    let _may_go_on = Session::statement_complete(sql);
    let _may_hold_one = Session::holds_secret(sql);
    match Session::split(sql) {
        Ok(statements) => {
            let mut rest = sql;
            for statement in statements {
                let at = rest.find(&statement.text).expect("a statement is a part of its script");
                rest = &rest[at + statement.text.len()..];
            }
        }
        Err(error) => is_statement_error(&error),
    }
}

/// A query's text, which views keep, says the same as the query, or nothing that can be read. CREATE VIEW refuses the latter.
fn parsed(sql: &str) {
    match fuzzing::query_text(sql) {
        Ok(Some(text)) => {
            if let Ok(Some(again)) = fuzzing::query_text(&text) {
                assert_eq!(again, text, "the text of a query is another query");
            }
        }
        Ok(None) => {}
        Err(error) => is_statement_error(&error),
    }
}

fn planned(sql: &str) {
    SAMPLE.block_on(async {
        let session = SAMPLE.session();
        if let Err(error) = session.statement_kind(sql) {
            return is_statement_error(&error);
        }
        if let Err(error) = session.describe(sql).await {
            return is_statement_error(&error);
        }
        if let Err(error) = session.physical_plan(sql).await {
            is_statement_error(&error);
        }
    });
}

pub(super) fn seeds() -> Vec<Seed> {
    [
        ("select", "SELECT id, upper(name) AS n, price * 2 FROM item WHERE price BETWEEN 1 AND 3 OR name LIKE 'a%' ORDER BY 2 DESC NULLS LAST LIMIT 3 OFFSET 1"),
        ("join", "SELECT i.name, sum(s.n) FILTER (WHERE s.paid) FROM item i LEFT JOIN sale AS s ON s.item = i.id GROUP BY i.name HAVING count(*) > 1"),
        ("window", "SELECT id, rank() OVER (PARTITION BY day ORDER BY price DESC ROWS BETWEEN 1 PRECEDING AND CURRENT ROW) FROM item"),
        ("with", "WITH RECURSIVE t(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM t WHERE n < 5) SELECT * FROM t, dear WHERE t.n = dear.id"),
        ("subquery", "SELECT * FROM item WHERE id IN (SELECT item FROM sale WHERE n > 1) AND EXISTS (SELECT 1 FROM sale s WHERE s.item = item.id) AND NOT (price = (SELECT max(amount) FROM sale))"),
        ("set", "(SELECT id FROM item EXCEPT SELECT item FROM sale) UNION ALL VALUES (1), (-2), (NULL) INTERSECT SELECT 7"),
        ("case", "SELECT CASE WHEN price > 1 THEN 'x' ELSE coalesce(name, $1) END, CAST(day AS TEXT), tags[1], doc->>'a', point.x FROM item"),
        ("groups", "SELECT day, name, grouping(day), count(DISTINCT id) FROM item GROUP BY GROUPING SETS ((day, name), CUBE (day), ())"),
        ("literals", "SELECT -1, 1e300, .5, 'it''s', E'a\\n', $tag$ a ; b $tag$, DATE '2024-02-29', INTERVAL '1 day', X'00ff', TRUE, NULL, [1, 2], {'a': 1} -- end\n /* and /* more */ */;"),
        ("nearest", "SELECT id, name FROM item ORDER BY v <-> '[1,0,0]' LIMIT 2"),
        ("search", "SELECT id, _distance FROM vector_search('item', 'v', '[1,0,0]', k => 2, filter => 'price > 1')"),
        ("quoted", "SELECT \"a b\", o.\"Select\" FROM \"Odd Name\" o WHERE \"a b\" <> 3 AND \"Select\" IS NOT DISTINCT FROM ''"),
        ("pseudo", "SELECT _row_id, _version, * FROM item WHERE id = 3"),
        ("system", "SELECT table_name, rows FROM system.tables, information_schema.columns WHERE 1 = 1"),
        ("series", "SELECT n, date_trunc('month', DATE '2024-01-31' + n) FROM generate_series(1, 10) AS g(n)"),
        ("lateral", "SELECT i.id, t FROM item i, unnest(i.tags) AS u(t)"),
        ("insert", "INSERT INTO item (id, name, v) VALUES (9, $1, '[1,2,3]'), (10, DEFAULT, NULL) ON CONFLICT (id) DO UPDATE SET name = excluded.name RETURNING id"),
        ("insert-select", "INSERT INTO sale SELECT id, 1, price, NULL, now() FROM item"),
        ("update", "UPDATE item SET price = price * 1.1, tags = ['a'] FROM sale WHERE sale.item = item.id AND sale.n > 1 RETURNING *"),
        ("delete", "DELETE FROM sale WHERE NOT paid OR item NOT IN (SELECT id FROM item)"),
        ("merge", "MERGE INTO item AS t USING sale AS s ON t.id = s.item WHEN MATCHED AND s.n = 0 THEN DELETE WHEN MATCHED THEN UPDATE SET price = s.amount WHEN NOT MATCHED THEN INSERT (id, name) VALUES (s.item, 'new')"),
        ("create", "CREATE TABLE IF NOT EXISTS main.t (a INT PRIMARY KEY, b TEXT[] DEFAULT [], c DECIMAL(38, 10) NOT NULL, d STRUCT(x INT, y VECTOR(4))) WITH (sort = 'a')"),
        ("ctas", "CREATE TABLE t AS SELECT id, name || '!' AS n FROM item WHERE id % 2 = 0"),
        ("view", "CREATE OR REPLACE VIEW dear (a, b) AS SELECT i.id, s.n FROM item i JOIN sale s USING (n)"),
        ("alter", "ALTER TABLE item ADD COLUMN IF NOT EXISTS note TEXT DEFAULT 'x'"),
        ("index", "CREATE INDEX ON item USING hnsw (v vector_cosine_ops) WITH (m = 16)"),
        ("drop", "DROP VIEW IF EXISTS dear, main.none CASCADE"),
        ("copy", "COPY (SELECT * FROM item) TO 'out.parquet' (FORMAT parquet, COMPRESSION 'zstd')"),
        ("explain", "EXPLAIN VERBOSE SELECT count(*) FROM item WHERE id IN (1, 2, 3)"),
        ("set-setting", "SET statement_timeout = '5 s'"),
        ("show", "SHOW TABLES"),
        ("transaction", "BEGIN; SAVEPOINT a; ROLLBACK TO SAVEPOINT a; COMMIT AND CHAIN"),
        ("prepare", "PREPARE p (INT, TEXT) AS SELECT * FROM item WHERE id = $1 AND name = $2"),
        ("account", "CREATE USER ann WITH PASSWORD 'secret' LIMIT (rows = 10)"),
        ("grant", "GRANT SELECT, INSERT ON TABLE item, sale TO ann WITH GRANT OPTION"),
        ("secret", "CREATE SECRET s (TYPE s3, KEY_ID 'k', SECRET 'x', REGION 'eu-central-1')"),
        ("upkeep", "VERIFY DEEP"),
        ("nested", "SELECT ((((((((1 + 2) * 3) - -4) / 5) % 6) || '7') IS NULL) AND NOT (NOT (TRUE)))"),
    ]
    .into_iter()
    .map(|(name, sql)| (name, sql.into()))
    .collect()
}
