//! The surface of a session, statement by statement, on a database in memory.
#![allow(clippy::unwrap_used)]

mod alter;
mod book;
mod columns;
mod commit_ids;
mod conditions;
mod defaults;
mod identity;
mod ingest;
mod jobs;
mod limits;
mod named;
mod narrow;
mod objects;
mod parameters;
mod rights;
mod running;
mod screens;
mod search;
mod shown_again;
mod sides;
mod sorted;
mod stores;
mod templates;
mod transactions;

use cairn_storage::{OpenOptions, Root};
use datafusion::arrow::util::pretty::pretty_format_batches;
use futures::TryStreamExt;

use crate::{Engine, EngineOptions, Output, Session};

async fn session() -> Session {
    session_within(64 << 20).await
}

async fn session_within(memory: usize) -> Session {
    session_with(OpenOptions::default(), memory).await
}

async fn session_with(storage: OpenOptions, memory: usize) -> Session {
    // However long a test takes, no compaction comes into it by itself.
    let compact_delay = std::time::Duration::from_secs(3_600);
    let storage = OpenOptions { create: true, compact_delay, ..storage };
    let options = EngineOptions {
        storage,
        memory_limit: Some(memory),
        partitions: Some(2),
        ..EngineOptions::default()
    };
    Engine::open(Root::Memory, options).await.unwrap().session()
}

/// What a statement answers, as text: rows without frame, a verb with count and notes, or SQLSTATE and message with place.
async fn answer(session: &Session, sql: &str) -> String {
    match session.execute(sql, None).await {
        Ok(Output::Rows(rows)) => match rows.stream.try_collect::<Vec<_>>().await {
            Ok(batches) => {
                let table = pretty_format_batches(&batches).unwrap().to_string();
                let lines = table.lines().filter(|l| l.starts_with('|')).skip(1);
                lines
                    .map(|l| l.trim_matches('|').split('|').map(str::trim).collect::<Vec<_>>().join(","))
                    .collect::<Vec<_>>()
                    .join(";")
            }
            Err(error) => {
                let error = crate::Error::from(error);
                format!("{} {}", error.sqlstate(), error.message())
            }
        },
        Ok(Output::Affected { verb, rows, notes }) => {
            format!("{verb} {rows} {}", notes.join("; ")).trim().to_owned()
        }
        Ok(Output::Done { verb, notes }) => format!("{verb} {}", notes.join("; ")).trim().to_owned(),
        Err(error) => {
            let place = error.position().map(|p| format!("{}:{} ", p.line, p.column)).unwrap_or_default();
            let hint = error.hint().map(|h| format!(" [{h}]")).unwrap_or_default();
            format!("{} {place}{}{hint}", error.sqlstate(), error.message())
        }
    }
}

/// Runs a statement that answers `expected`.
async fn run(session: &Session, sql: &str, expected: &str) {
    assert_eq!(answer(session, sql).await, expected, "{sql}");
}

/// Runs statements that answer something else than an error.
async fn all(session: &Session, statements: &[&str]) {
    for sql in statements {
        let got = answer(session, sql).await;
        let failed = got
            .split(' ')
            .next()
            .is_some_and(|word| word.len() == 5 && word.ends_with(|c: char| c.is_ascii_digit()));
        assert!(!failed, "{sql}: {got}");
    }
}

async fn check(cases: &[(&str, &str)]) {
    let session = session().await;
    let mut wrong = Vec::new();
    for (sql, expected) in cases {
        let got = answer(&session, sql).await;
        let right = match expected.strip_suffix('…') {
            Some(start) => got.starts_with(start),
            None => got == *expected,
        };
        if !right {
            wrong.push(format!("{sql}\n  expected {expected}\n  got      {got}"));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[tokio::test]
async fn tables_and_views_come_and_go() {
    check(&[
        ("CREATE SCHEMA app", "CREATE SCHEMA"),
        ("CREATE SCHEMA app", "42P06 1:15 schema app already exists…"),
        ("CREATE SCHEMA IF NOT EXISTS app", "CREATE SCHEMA schema app already exists, skipped"),
        ("CREATE SCHEMA system", "42939 1:15 schema name system is reserved…"),
        ("CREATE TABLE app.notes (id BIGINT PRIMARY KEY, title TEXT NOT NULL, tags TEXT[], at TIMESTAMPTZ DEFAULT now(), n INT DEFAULT 7, s STRUCT(a INT, b TEXT)) WITH (sort = 'title')", "CREATE TABLE"),
        ("CREATE TABLE app.notes (id BIGINT)", "42P07 1:14 table app.notes already exists…"),
        ("USE app", "USE"),
        ("SELECT current_schema, current_schema() AS again, current_user", "app,app,cairn"),
        ("DESCRIBE notes", "id,BIGINT,false,,PRIMARY KEY;title,TEXT,false,,;tags,TEXT[],true,,;at,TIMESTAMPTZ,true,now(),;n,INTEGER,true,7,;s,STRUCT(a INTEGER, b TEXT),true,,"),
        ("INSERT INTO notes (id, title) VALUES (1, 'one'), (2, 'two')", "INSERT 2"),
        ("SELECT id, title, n FROM notes ORDER BY id", "1,one,7;2,two,7"),
        ("SELECT id, _row_id, _version > 0 FROM notes ORDER BY id", "1,…"),
        ("SELECT * FROM notes WHERE _row_id < 0", ""),
        ("SELECT count(*) FROM (SELECT * FROM notes WHERE _version > 0) x", "2"),
        ("CREATE VIEW titles AS SELECT title FROM notes WHERE id > 1", "CREATE VIEW"),
        ("CREATE VIEW titles AS SELECT 1", "42P07 1:13 view app.titles already exists…"),
        ("CREATE OR REPLACE VIEW titles AS SELECT * FROM titles", "42P17 1:24 view app.titles would stand on itself"),
        ("CREATE VIEW second (t) AS SELECT * FROM titles", "CREATE VIEW"),
        ("SELECT * FROM second", "two"),
        ("USE public", "USE"),
        ("SELECT * FROM app.second", "two"),
        ("SELECT * FROM notes", "42P01 1:15 table public.notes does not exist [did you mean app.notes?]"),
        ("SELECT titel FROM app.notes", "42703 1:8 column titel does not exist [did you mean title?]"),
        ("SELECT nosuch(1)", "42883 …"),
        ("CREATE TABLE copy AS SELECT id, upper(title) AS title FROM app.notes", "CREATE TABLE 2"),
        ("SELECT * FROM copy ORDER BY id DESC", "2,TWO;1,ONE"),
        ("SHOW TABLES", "public,copy,table,2,…"),
        ("SHOW CREATE TABLE app.notes", "app.notes,CREATE TABLE app.notes (…"),
        ("DROP TABLE app.notes", "2BP01 views stand on it: app.titles…"),
        ("DROP VIEW copy", "42809 1:11 public.copy is a table [use DROP TABLE]"),
        ("TRUNCATE copy", "TRUNCATE 2"),
        ("SELECT count(*) FROM copy", "0"),
        ("DROP SCHEMA app", "2BP01 1:13 schema app is not empty…"),
        ("DROP SCHEMA app CASCADE", "DROP SCHEMA"),
        ("DROP TABLE IF EXISTS app.notes", "DROP TABLE schema app does not exist, skipped"),
        ("SHOW SCHEMAS", "information_schema;public;system"),
    ])
    .await;
}

#[tokio::test]
async fn bad_tables_are_refused_with_their_reason() {
    check(&[
        ("CREATE TABLE t (a HALFVEC(3))", "0A000 1:17 type HALFVEC is not supported yet…"),
        ("CREATE TABLE t (a UUID)", "0A000 1:17 type UUID…"),
        ("CREATE TABLE t (a VARCHAR(10))", "0A000 1:17 VARCHAR(10), a text type with a length limit,…"),
        ("CREATE TABLE t (a DECIMAL(39,2))", "22023 1:17 DECIMAL(39,2)…"),
        ("CREATE TABLE t (a INT, a INT)", "42701 1:24 column a is declared twice"),
        ("CREATE TABLE t (_a INT)", "42939 1:17…"),
        ("CREATE TABLE t (a INT CHECK (a > 0))", "0A000 1:17 CHECK…"),
        ("CREATE TABLE t (a INT UNIQUE)", "0A000 1:17 UNIQUE…"),
        (
            "CREATE TABLE t (a INT DEFAULT 'x')",
            "22P02 1:17 the default of column a cannot be used: 'x' is not a valid INTEGER…",
        ),
        ("CREATE TABLE t (a INT DEFAULT b)", "42703 …"),
        (
            "CREATE TABLE t (a INT PRIMARY KEY, b INT PRIMARY KEY)",
            "42P16 1:36 a table has only one primary key…",
        ),
        ("CREATE TABLE t (a INT, PRIMARY KEY (b))", "42703 1:37 column b in PRIMARY KEY does not exist…"),
        ("CREATE TABLE t (a TEXT[] PRIMARY KEY)", "42P16 column a of type TEXT[] cannot be in a primary key"),
        ("CREATE TABLE t (a INT) WITH (ttl = '1 day')", "0A000 1:30 table option ttl…"),
        ("CREATE TABLE t (a INT) WITH (sort = 'x')", "42703 1:30 column x in sort…"),
        ("CREATE OR REPLACE TABLE t (a INT)", "0A000 1:25 CREATE OR REPLACE TABLE…"),
        ("CREATE TABLE nowhere.t (a INT)", "3F000 1:14 schema nowhere does not exist…"),
        ("CREATE TABLE t AS SELECT 1 AS a, 2 AS a", "42701 …"),
        (
            "SELECT 1 AS a, 2 AS a",
            "42701 two columns of the result have the same name [give one of them another name with AS]",
        ),
        ("CREATE TABLE t AS SELECT INTERVAL '1 day' AS i", "0A000 column i of type…"),
        ("CREATE TABLE system.t (a INT)", "42501 1:14 schema system is Cairn's own…"),
        ("SELECT 1; SELECT 2", "42601 1:11 syntax error: expected the end of the statement, found SELECT"),
        ("SELECT $1", "42P02 there is no value for parameter $1"),
        ("SELECT 1/0", "22012 division by zero"),
        (
            "SELECT * FROM system.tabels",
            "42P01 1:15 table system.tabels does not exist [did you mean tables?]",
        ),
    ])
    .await;
}

#[tokio::test]
async fn the_database_tells_about_itself() {
    check(&[
        ("CREATE TABLE t (id BIGINT PRIMARY KEY, name TEXT)", "CREATE TABLE"),
        ("INSERT INTO t VALUES (1, 'a')", "INSERT 1"),
        ("SELECT name, kind, rows, hot_rows, primary_key FROM system.tables", "t,table,1,1,id"),
        ("SELECT name, type FROM sys.columns ORDER BY position", "id,BIGINT;name,TEXT"),
        ("SELECT column_name FROM information_schema.columns WHERE table_name = 't' ORDER BY 1", "id;name"),
        ("CHECKPOINT", "true,statement,…"),
        ("COMPACT TABLE t", "false,statement,0,0,0,0,0,0,0,…"),
        ("SELECT table_name, live_rows FROM system.segments", "t,1"),
        ("SELECT count(*) > 0 FROM system.versions", "true"),
        ("SELECT count(*) FROM system.wal", "1"),
        ("SELECT kind FROM system.functions WHERE name = 'sum'", "aggregate"),
        ("SELECT value FROM system.settings WHERE name = 'search_path'", "public"),
        ("SHOW search_path", "public"),
        ("SHOW serch_path", "42704 1:6 there is no setting serch_path [did you mean search_path?]"),
        ("SET statement_timeout = '5 s'", "SET"),
        ("SHOW statement_timeout", "5 s"),
        ("RESET ALL", "RESET"),
        ("SHOW statement_timeout", "0"),
        ("SET datafusion.execution.batch_size = 100", "SET"),
        ("SHOW datafusion.execution.batch_size", "100"),
        ("SET search_path = nowhere", "3F000 schema nowhere does not exist…"),
        ("SELECT version()", "Cairn …"),
        ("EXPLAIN SELECT * FROM t", "logical_plan,…"),
        ("EXPLAIN DELETE FROM t", "logical_plan,…"),
        ("SELECT count(*) FROM t", "1"),
        ("WAIT FOR VERSION 1", "WAIT"),
        ("VERIFY", "…"),
        ("SHOW JOBS", "…"),
        ("SHOW VERSIONS", "…"),
        (
            "SELECT '2026-01-02 03:04:05'::timestamp, CAST('1' AS TINYINT UNSIGNED), DATE '2026-01-01'",
            "2026-01-02T03:04:05,1,2026-01-01",
        ),
        ("SELECT * FROM t t1, t t2 WHERE t1._row_id = t2._row_id", "1,a,1,a"),
        ("SELECT t1.*, t2._row_id >= 0 FROM t t1 JOIN t t2 USING (id)", "1,a,true"),
    ])
    .await;
}

#[tokio::test]
async fn rows_outlive_the_next_statement() {
    let session = session().await;
    answer(&session, "CREATE TABLE t (id BIGINT)").await;
    answer(&session, "INSERT INTO t VALUES (1)").await;
    let Output::Rows(first) = session.execute("SELECT count(*) FROM t", None).await.unwrap() else { return };
    assert_eq!(answer(&session, "INSERT INTO t VALUES (2)").await, "INSERT 1");
    let batches: Vec<_> = first.stream.try_collect().await.unwrap();
    assert!(pretty_format_batches(&batches).unwrap().to_string().contains("| 1 "));
    assert_eq!(answer(&session, "SELECT count(*) FROM t").await, "2");
}

#[tokio::test]
async fn statements_run_in_spawned_tasks() {
    let session = std::sync::Arc::new(session().await);
    let task = tokio::spawn(async move { session.execute("SELECT 1", None).await.is_ok() });
    assert!(task.await.unwrap());
}
