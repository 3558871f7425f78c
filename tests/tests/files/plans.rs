//! Plans made in this process and run in another one, which reads the same objects: those of a directory, and those of a bucket.

use std::path::Path;

use cairn_engine::{OpenOptions, Root};
use cairn_tests::{Answer, Bucket, Connection, PlanRunner};

/// `items` has two segments with deleted rows, rows in memory and NULLs; `sorted` is in segments alone; `wide` is cut.
const TABLES: [&str; 18] = [
    "CREATE TABLE sorted (id BIGINT PRIMARY KEY, n INT)",
    "INSERT INTO sorted SELECT i, i % 10 FROM generate_series(1, 600) g(i)",
    "CHECKPOINT TABLE sorted",
    "INSERT INTO sorted SELECT i, i % 10 FROM generate_series(601, 900) g(i)",
    "CHECKPOINT TABLE sorted",
    "CREATE TABLE wide (id BIGINT, v INT)",
    "INSERT INTO wide SELECT i, i % 1000 FROM generate_series(1, 300000) g(i)",
    "CHECKPOINT TABLE wide",
    "CREATE TABLE kinds (kind INT, label TEXT)",
    "INSERT INTO kinds VALUES (0, 'base'), (1, 'blue'), (2, 'coral'), (3, NULL), (9, 'unused')",
    "CREATE TABLE items (id BIGINT PRIMARY KEY, kind INT, name TEXT, price DECIMAL(12, 2), day DATE, tags TEXT[], e VECTOR(3))",
    "INSERT INTO items SELECT i, i % 5, CASE WHEN i % 3 = 0 THEN NULL ELSE 'item number ' || i END, i / 8.0, CAST(CAST(i AS INT) AS DATE), make_array('a', 'b' || i), ARRAY[sin(i), cos(i), sin(i * 0.7)] FROM generate_series(1, 1500) g(i)",
    "CHECKPOINT",
    "INSERT INTO items (id, kind, name, price) SELECT i, i % 5, 'late ' || i, i / 8.0 FROM generate_series(1501, 3000) g(i)",
    "CHECKPOINT",
    "DELETE FROM items WHERE id % 7 = 0",
    "UPDATE items SET price = price + 1 WHERE id % 11 = 0",
    "INSERT INTO items (id, name, e) SELECT i, 'hot ' || i, ARRAY[sin(i), cos(i), sin(i * 0.7)] FROM generate_series(3001, 3100) g(i)",
];

const QUERIES: [&str; 27] = [
    "SELECT * FROM items",
    "SELECT id, name, price FROM items WHERE price > 100 AND name IS NOT NULL",
    "SELECT kind, count(*), count(name), sum(price), min(day), max(id), avg(price) FROM items GROUP BY kind",
    "SELECT sum(id), count(DISTINCT kind) FROM items WHERE name IS NULL",
    "SELECT kind, sum(id) AS s FROM items GROUP BY kind HAVING count(*) > 100",
    "SELECT i.id, k.label FROM items i JOIN kinds k ON i.kind = k.kind WHERE i.id % 13 = 1",
    "SELECT k.label, count(i.id) FROM kinds k LEFT JOIN items i ON i.kind = k.kind AND i.price < 20 GROUP BY k.label",
    "SELECT a.id, b.id AS below FROM items a JOIN items b ON a.id = b.id + 1 WHERE a.id < 200",
    "SELECT id FROM items WHERE kind IN (SELECT kind FROM kinds WHERE label LIKE 'b%')",
    "SELECT id FROM items WHERE price > (SELECT avg(price) FROM items)",
    "SELECT id, price FROM items ORDER BY price DESC NULLS LAST, id LIMIT 20 OFFSET 5",
    "SELECT id, n FROM sorted ORDER BY id LIMIT 9",
    "SELECT n, id FROM sorted WHERE n < 4 ORDER BY id",
    "SELECT id, -id AS minus, id * 2 + 1 - kind AS n, name || ' ' || id AS label FROM items",
    "SELECT id, e <-> '[0.1,0.2,0.3]' AS d FROM items WHERE e IS NOT NULL ORDER BY d, id LIMIT 10",
    "SELECT id, e, CAST(e AS TEXT) AS t, cosine_distance(e, '[1,0,0]') AS c, vector_dims(e) AS n FROM items WHERE id < 50",
    "SELECT CAST('[' || id || ',1]' AS VECTOR(2)) AS v FROM items WHERE id < 30",
    "SELECT id FROM items WHERE TRY_CAST(name AS VECTOR(3)) IS NULL AND id < 100",
    "SELECT id, _row_id, _version FROM items WHERE id > 2900",
    "SELECT name FROM items WHERE id = 13",
    "SELECT name, e FROM items WHERE id IN (3005, 15, 14)",
    "SELECT count(*) FROM (SELECT id FROM items LIMIT 7)",
    "SELECT kind, id, row_number() OVER (PARTITION BY kind ORDER BY id) AS n FROM items WHERE id < 100 ORDER BY id",
    "SELECT id FROM items WHERE id < 10 UNION ALL SELECT kind FROM kinds",
    "SELECT DISTINCT kind, CASE WHEN price > 50 THEN 'high' ELSE 'low' END AS class FROM items",
    "SELECT id, tags[1] AS first, repeat(name, 2) AS twice, extract(year FROM day) AS y FROM items WHERE id < 40",
    "SELECT count(*), sum(v), max(id) FROM wide WHERE v > 3",
];

fn runner(root: &Root, environment: &[(String, String)]) -> PlanRunner {
    PlanRunner::start(Path::new(env!("CARGO_BIN_EXE_cairn-test-process")), root, environment).unwrap()
}

/// The answer, its rows in some order where the query has none.
fn settled(sql: &str, answer: Answer) -> Answer {
    match answer {
        Answer::Rows { names, kinds, mut rows } if !sql.contains("ORDER BY") => {
            rows.sort_unstable();
            Answer::Rows { names, kinds, rows }
        }
        answer => answer,
    }
}

fn answers_are_the_same(db: &Connection, runner: &mut PlanRunner) {
    for sql in QUERIES {
        let here = db.run(sql).unwrap_or_else(|error| panic!("{sql}: {error}"));
        let plan = db.plan(sql).unwrap_or_else(|error| panic!("{sql}: {error}"));
        let there = runner.run(&plan).unwrap_or_else(|error| panic!("{sql}: there: {error}"));
        assert!(!there.clone().rows().is_empty(), "{sql}: no rows say nothing");
        assert_eq!(settled(sql, there), settled(sql, here), "{sql}");
    }
}

/// The other process finds the database at `root` in its `environment`.
fn plans_run_in_another_process(root: &Root, options: OpenOptions, environment: &[(String, String)]) {
    // What a plan names stays where it is.
    let options = OpenOptions { compacts: false, ..options };
    let db = Connection::open(root.clone(), options).unwrap();
    for sql in TABLES {
        db.exec(sql);
    }
    let mut runner = runner(root, environment);
    answers_are_the_same(&db, &mut runner);
    // A reader that would apply filters itself: in a plan for others they stay above it.
    db.exec("SET datafusion.execution.parquet.pushdown_filters = true");
    answers_are_the_same(&db, &mut runner);

    // The plan says what is read, not what the process has seen.
    let sql = "SELECT id, name FROM items";
    let plan = db.plan(sql).unwrap();
    let before = settled(sql, db.run(sql).unwrap());
    db.exec("DELETE FROM items WHERE id % 2 = 0");
    db.exec("INSERT INTO items (id) VALUES (9000)");
    assert_eq!(settled(sql, runner.run(&plan).unwrap()), before);
    let plan = db.plan(sql).unwrap();
    assert_eq!(settled(sql, runner.run(&plan).unwrap()), settled(sql, db.run(sql).unwrap()));

    let at = plan.windows(8).position(|bytes| bytes == b"CAIRNSCN").unwrap();
    let mut damaged = plan;
    damaged[at + 40] ^= 4;
    assert_eq!(runner.run(&damaged).unwrap_err().sqlstate, "XX001");
    drop(runner);
    db.close().unwrap();
}

#[test]
fn plans_run_where_they_were_not_made() {
    let home = tempfile::tempdir().unwrap();
    let root = Root::Path(home.path().join("db"));
    plans_run_in_another_process(&root, OpenOptions::default(), &[]);
}

#[test]
fn plans_run_over_a_bucket() {
    let Some(bucket) = Bucket::start() else { return };
    let (root, options) = bucket.database("plans");
    plans_run_in_another_process(&root, options, &bucket.env());
}

#[test]
fn plans_of_another_database_are_refused() {
    let home = tempfile::tempdir().unwrap();
    let roots = ["a", "b"].map(|name| Root::Path(home.path().join(name)));
    let [a, b] = roots.clone().map(|root| Connection::open(root, OpenOptions::default()).unwrap());
    for db in [&a, &b] {
        db.exec("CREATE TABLE t (n INT)");
        db.exec("INSERT INTO t VALUES (1), (NULL)");
    }
    let plan = a.plan("SELECT n + 1 AS m FROM t").unwrap();
    assert_eq!(runner(&roots[0], &[]).run(&plan).unwrap().rows(), [["2"], ["NULL"]]);
    let refused = runner(&roots[1], &[]).run(&plan).unwrap_err();
    assert!(refused.message.contains("is one of database"), "{refused}");
    let no_query = a.plan("INSERT INTO t VALUES (2)").unwrap_err();
    assert_eq!(no_query.sqlstate, "22000");
}
