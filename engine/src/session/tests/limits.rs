//! Limits of time and memory stop the statement and nothing else; EXPLAIN ANALYZE of a change measures it and changes
//! nothing.

use std::sync::Arc;
use std::time::Duration;

use cairn_storage::version::OWN_SCHEMA;
use cairn_storage::wal::CatalogEdit;
use cairn_storage::{CommitOptions, ErrorKind};

use super::{all, answer, check, run, session, session_within};
use crate::{Identity, Output, QueueLimits, Session, SessionLimits, StatementKind, StatementQueue};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_statement_over_its_time_is_cancelled_and_the_session_goes_on() {
    let session = session().await;
    answer(&session, "CREATE TABLE t (x BIGINT)").await;
    answer(&session, "SET statement_timeout = '500 ms'").await;
    // Batch after batch: what a single operator does between two batches cannot be cut short.
    let endless = "SELECT sum(value) FROM generate_series(1, 1000000000000) AS g(value) WHERE value % 2 < 2";
    let started = std::time::Instant::now();
    for sql in
        [endless.to_owned(), format!("INSERT INTO t {endless}"), format!("CREATE TABLE u AS {endless}")]
    {
        let got = answer(&session, &sql).await;
        assert!(got.starts_with("57014 the statement ran longer than statement_timeout"), "{sql}: {got}");
    }
    assert!(started.elapsed().as_secs() < 120, "{:?}", started.elapsed());
    assert_eq!(answer(&session, "SELECT 1").await, "1");
    answer(&session, "RESET statement_timeout").await;
    assert_eq!(answer(&session, "INSERT INTO t VALUES (1)").await, "INSERT 1");
    assert_eq!(answer(&session, "SELECT count(*) FROM t").await, "1");
    assert!(answer(&session, "SELECT * FROM u").await.starts_with("42P01"));
}

/// Pairs of rows that do not meet make no batch: it asks while it compares them.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_join_of_which_nothing_comes_is_over_in_time() {
    let session = session().await;
    answer(&session, "CREATE TABLE t (x BIGINT)").await;
    answer(&session, "SET statement_timeout = '500 ms'").await;
    let joined = |on: &str| {
        let rows = "generate_series(1, 300000)";
        format!("SELECT a.x FROM {rows} AS a(x) JOIN {rows} AS b(y) ON {on}")
    };
    let (far, halves) = (joined("a.x + b.y < 0"), joined("a.x % 2 = b.y % 2 AND a.x + b.y < 0"));
    let started = std::time::Instant::now();
    for sql in [format!("INSERT INTO t {far}"), far, halves] {
        let got = answer(&session, &sql).await;
        assert!(got.starts_with("57014 the statement ran longer than statement_timeout"), "{sql}: {got}");
    }
    assert!(started.elapsed().as_secs() < 60, "{:?}", started.elapsed());
    answer(&session, "RESET statement_timeout").await;
    assert_eq!(answer(&session, "SELECT count(*) FROM t").await, "0");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_statement_is_described_and_no_part_of_it_is_run() {
    let owner = session().await;
    all(&owner, &["CREATE TABLE t (id INT PRIMARY KEY, e VECTOR(1))"]).await;
    // Time enough to plan.
    let limit = Some(Duration::from_secs(1));
    let limits = SessionLimits { statement_timeout: limit, ..SessionLimits::default() };
    let session = owner.engine().session_as(Identity::owner(), limits);
    // When a statement runs, the vector is found before the search for it is planned.
    let endless = "SELECT CAST(max(value) AS TEXT) FROM generate_series(1, 1000000000000) AS g(value) WHERE value % 2 < 2";
    for sql in [
        format!("SELECT id FROM t ORDER BY e <-> ({endless}) LIMIT 1"),
        format!("SELECT id FROM vector_search('t', 'e', ({endless}), metric => 'l2')"),
        format!("EXPLAIN ANALYZE SELECT id FROM t ORDER BY e <-> ({endless}) LIMIT 1"),
    ] {
        let described = session.describe(&sql).await.unwrap_or_else(|error| panic!("{sql}: {error}"));
        assert!(described.columns.is_some() && described.reads_only, "{sql}");
        let error = session.execute(&sql, None).await.err().unwrap();
        assert_eq!((error.kind(), error.sqlstate()), (ErrorKind::ResourceExhausted, "57014"), "{error}");
    }
    let described = session.describe("SELECT id FROM t").await.unwrap();
    assert_eq!(described.columns.unwrap().fields().len(), 1);
    let prepared = owner.engine().statement_figures();
    let prepared = prepared.times.iter().filter(|t| t.kind == StatementKind::Prepare);
    let outcomes: Vec<_> = prepared.map(|t| (t.outcome, t.times.count())).collect();
    assert_eq!(outcomes, [("ok", 4)]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn memory_ends_in_spilling_or_in_one_clear_error() {
    let session = session_within(64 << 20).await;
    let wide =
        "SELECT value AS x, repeat('wide ', 40) || value AS t FROM generate_series(1, 400000) AS g(value)";
    // A sort merges its spill files in batches: wide rows in a small limit need small ones.
    answer(&session, "SET datafusion.execution.batch_size = 1024").await;
    answer(&session, "SET datafusion.execution.sort_spill_reservation_bytes = 4000000").await;
    // About 90 MB: sorted through spill files.
    let sorted = format!(
        "SELECT count(*), min(x), max(n) FROM (SELECT x, row_number() OVER (ORDER BY t DESC) AS n FROM ({wide}))"
    );
    assert_eq!(answer(&session, &sorted).await, "400000,1,400000");
    // A list of an aggregate does not spill.
    let listed = format!("SELECT cardinality(array_agg(t)) FROM ({wide})");
    let got = answer(&session, &listed).await;
    assert!(got.starts_with("53200 the query needs more memory than the limit allows"), "{got}");
    assert_eq!(answer(&session, "CREATE TABLE t (x BIGINT PRIMARY KEY)").await, "CREATE TABLE");
    assert_eq!(answer(&session, "INSERT INTO t VALUES (1)").await, "INSERT 1");
    assert_eq!(answer(&session, "SELECT x FROM t").await, "1");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn answers_of_searches_are_memory_of_queries() {
    let owner = session().await;
    all(
        &owner,
        &[
            "CREATE TABLE v (id INT PRIMARY KEY, e VECTOR(2), t TEXT)",
            "INSERT INTO v SELECT i, ARRAY[sin(i), cos(i * 0.7)], repeat('wide ' || i, 100) FROM generate_series(1, 4000) g(i)",
            "CREATE TABLE q (id INT PRIMARY KEY, e VECTOR(2))",
            "INSERT INTO q SELECT id, e FROM v WHERE id <= 8",
            "CREATE INDEX ON v USING hnsw (e)",
        ],
    )
    .await;
    let limits = SessionLimits { memory: Some(1 << 20), ..SessionLimits::default() };
    let session = owner.engine().session_as(Identity::owner(), limits);
    // About 2.6 MB of texts, and once eight times as many.
    for sql in [
        "SELECT sum(length(t)) FROM vector_search('v', 'e', '[0,0]', k => 3000)",
        "SELECT id, t FROM v ORDER BY e <-> '[0,0]' LIMIT 3000",
        "SELECT sum(length(t)) FROM (SELECT t FROM v ORDER BY e <-> '[0,0]' LIMIT 3000) n",
        "SELECT sum(length(n.t)) FROM q, vector_search('v', 'e', q.e, k => 3000) n",
    ] {
        let got = answer(&session, sql).await;
        assert!(got.starts_with("53200 the query needs more memory than the limit allows"), "{sql}: {got}");
        assert!(!answer(&owner, sql).await.starts_with("53200"), "{sql}");
    }
    // What was held is given back, by those that failed and those that did not.
    for _ in 0..4 {
        run(&session, "SELECT count(*) FROM vector_search('v', 'e', '[0,0]', k => 3000)", "3000").await;
        run(&session, "SELECT count(*) FROM q, vector_search('v', 'e', q.e, k => 100) n", "800").await;
        let ids = answer(&session, "SELECT id FROM v ORDER BY e <-> '[0,0]' LIMIT 3000").await;
        assert_eq!(ids.split(';').count(), 3_000, "{ids}");
    }
}

#[tokio::test]
async fn explain_analyze_of_a_change_changes_nothing() {
    check(&[
        ("CREATE TABLE t (id BIGINT PRIMARY KEY, n INT)", "CREATE TABLE"),
        ("INSERT INTO t VALUES (1, 10), (2, 20)", "INSERT 2"),
        ("EXPLAIN ANALYZE INSERT INTO t VALUES (3, 30)", "Plan with Metrics,…"),
        (
            "EXPLAIN ANALYZE INSERT INTO t VALUES (1, 30) ON CONFLICT (id) DO UPDATE SET n = 0",
            "Plan with Metrics,…",
        ),
        ("EXPLAIN ANALYZE UPDATE t SET n = n + 1", "Plan with Metrics,…"),
        ("EXPLAIN ANALYZE DELETE FROM t WHERE id = 1", "Plan with Metrics,…"),
        ("SELECT * FROM t ORDER BY id", "1,10;2,20"),
        ("SELECT max(version) FROM system.versions", "2"),
        // What would fail says so.
        ("EXPLAIN ANALYZE INSERT INTO t VALUES (3, 'x')", "22P02 …"),
        ("INSERT INTO t VALUES (3, 30)", "INSERT 1"),
    ])
    .await;
}

#[tokio::test]
async fn jobs_are_listed() {
    check(&[
        ("CREATE TABLE t (id BIGINT PRIMARY KEY)", "CREATE TABLE"),
        ("SHOW JOBS", ""),
        ("INSERT INTO t VALUES (1)", "INSERT 1"),
        ("CHECKPOINT", "true,statement,…"),
        ("SELECT kind, status FROM system.jobs", "checkpoint,completed"),
        ("SHOW JOBS", "1,checkpoint,…"),
        ("SHOW JOBS FOR TABLE t", "…"),
        ("SHOW JOBS FOR TABLE nowhere", "42P01 1:21 table public.nowhere does not exist…"),
        ("SHOW JOBS WHERE id = 1", "1,checkpoint,…"),
        ("SHOW JOBS WHERE id = 2 OR kind = 'none'", ""),
        ("SHOW JOBS LIKE 'check%' WHERE id < 0 OR status = 'completed'", "1,checkpoint,…"),
        ("SHOW JOBS LIKE 'comp%'", ""),
        ("SHOW JOBS WHERE nothing = 1", "42703 …"),
    ])
    .await;
}

/// The session of a user that `create` makes, with a queue that lets `running` statements in.
async fn user_in_queue(owner: &Session, create: &str, queue: &Arc<StatementQueue>) -> Session {
    all(owner, &[create]).await;
    let identity = owner.engine().authenticate("bob", "pw").await.unwrap();
    let limits = SessionLimits { queue: Some(Arc::clone(queue)), ..SessionLimits::default() };
    owner.engine().session_as(identity, limits)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn users_have_limits_of_their_own() {
    let owner = session().await;
    let queue = Arc::new(StatementQueue::new(QueueLimits::default()));
    let create = "CREATE USER bob WITH PASSWORD 'pw' SUPERUSER WITH (statement_timeout = '2 s', memory_limit = '1 MiB', rows_limit = 3)";
    let bob = user_in_queue(&owner, create, &queue).await;
    let shown = "SELECT statement_timeout_ms, memory_limit_bytes, rows_limit, concurrency FROM system.users";
    run(&owner, shown, "2000,1048576,3,").await;

    run(&bob, "SELECT * FROM range(1, 4)", "1;2;3").await;
    let got = answer(&bob, "SELECT * FROM range(1, 5)").await;
    assert!(got.starts_with("54000"), "{got}");
    all(&bob, &["SET statement_timeout = '1 h'"]).await;
    let endless = "SELECT sum(value) FROM generate_series(1, 1000000000000) AS g(value) WHERE value % 2 < 2";
    let got = answer(&bob, endless).await;
    assert!(got.starts_with("57014 the statement ran longer than a session may"), "{got}");
    // Memory is that of all sessions of the user.
    let hungry = "SELECT cardinality(array_agg(x)) FROM range(1, 300000) a(x)";
    run(&owner, "ALTER USER bob WITH (statement_timeout = 0)", "ALTER USER").await;
    let fork = bob.fork();
    for session in [&bob, &fork] {
        let got = answer(session, hungry).await;
        assert!(got.starts_with("53200"), "{got}");
    }
    run(&owner, "ALTER USER bob WITH (memory_limit = 0, concurrency = 2)", "ALTER USER").await;
    run(&owner, shown, ",,3,2").await;
    run(&bob, hungry, "299999").await;
    run(&fork, hungry, "299999").await;

    // The limits of the server are there again.
    let limits = SessionLimits { rows: Some(1), ..SessionLimits::default() };
    let other = owner.engine().session_as(bob.identity().clone(), limits);
    run(&other, "SELECT * FROM range(1, 4)", "1;2;3").await;
    run(&owner, "ALTER USER bob WITH (rows_limit = 0)", "ALTER USER").await;
    let got = answer(&other, "SELECT * FROM range(1, 4)").await;
    assert!(got.starts_with("54000"), "{got}");

    run(&owner, "ALTER USER bob NOSUPERUSER", "ALTER USER").await;
    let got = answer(&bob, "ALTER USER bob WITH (rows_limit = 100)").await;
    assert!(got.starts_with("42501"), "{got}");
    run(&bob, "ALTER USER bob PASSWORD 'pw 2'", "ALTER USER").await;
    run(&owner, shown, ",,,2").await;
    run(&owner, "DROP USER bob", "DROP USER").await;
    run(&owner, "CREATE USER bob PASSWORD 'pw'", "CREATE USER").await;
    run(&owner, shown, ",,,").await;

    for (options, state, wrong) in [
        ("(rows_limit = 'secret')", "22023", "rows_limit of a user must be a whole number"),
        ("(rows_limit = 1, rows_limit = 2)", "42601", "each limit of a user stands there once"),
        ("(secret = 1)", "42601", "each limit of a user stands there once"),
        ("(rows_limit 1)", "42601", "expected ="),
        ("(rows_limit = secret)", "42601", "expected a number or a text"),
        ("()", "42601", "expected a name"),
        ("", "42601", "expected PASSWORD"),
    ] {
        let got = answer(&owner, &format!("ALTER USER bob WITH {options}")).await;
        assert!(got.starts_with(state) && got.contains(wrong) && !got.contains("secret"), "{options}: {got}");
    }
}

/// A database whose users were made before users had limits.
#[tokio::test]
async fn users_of_an_older_database_get_limits() {
    let owner = session().await;
    all(&owner, &["CREATE USER bob PASSWORD 'pw'", "CREATE USER ada PASSWORD 'pw'"]).await;
    let db = owner.engine().database();
    let snapshot = db.snapshot();
    let transaction = db.begin(&snapshot).await.unwrap();
    let table = snapshot.catalog().own_table("limits").unwrap();
    assert_eq!(table.schema, OWN_SCHEMA);
    transaction.edit(CatalogEdit::DropTable { table: table.id }).unwrap();
    transaction.commit(CommitOptions::default()).await.unwrap();
    assert!(db.snapshot().catalog().own_table("limits").is_none());

    assert!(owner.engine().authenticate("bob", "pw").await.is_ok());
    let shown = "SELECT name, rows_limit FROM system.users ORDER BY name";
    run(&owner, shown, "ada,;bob,").await;
    run(&owner, "ALTER USER bob WITH (rows_limit = 7)", "ALTER USER").await;
    run(&owner, shown, "ada,;bob,7").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn statements_wait_until_the_rows_of_others_are_read() {
    let owner = session().await;
    let limits =
        QueueLimits { running_max: Some(1), wait_max: Duration::from_secs(2), ..QueueLimits::default() };
    let queue = Arc::new(StatementQueue::new(limits));
    let bob = user_in_queue(&owner, "CREATE USER bob PASSWORD 'pw' SUPERUSER", &queue).await;
    let fork = bob.fork();
    all(&bob, &["CREATE TABLE t (x INT)", "BEGIN", "INSERT INTO t VALUES (1)"]).await;

    // Rows that are not read keep their place; whoever waits for it too long is refused, and nothing else is held up.
    let Output::Rows(open) = bob.execute("SELECT * FROM t", None).await.unwrap() else { panic!("no rows") };
    let late = fork.execute("SELECT 1", None).await.err().unwrap();
    assert_eq!((late.kind(), late.sqlstate()), (ErrorKind::ResourceExhausted, "53300"), "{late}");
    run(&fork, "SHOW statement_timeout", "0").await;
    run(&fork, "SET statement_timeout = '5 s'", "SET").await;
    // A statement of the transaction waits for the session's own result; the transaction can be ended all the same.
    let own = bob.execute("INSERT INTO t VALUES (2)", None).await.err().unwrap();
    assert_eq!(own.sqlstate(), "53300", "{own}");
    run(&bob, "COMMIT", "COMMIT").await;
    assert_eq!((queue.figures().running, queue.figures().refused_late), (1, 2));

    let waiting = tokio::spawn(async move { answer(&fork, "SELECT x FROM t").await });
    while queue.figures().waiting == 0 {
        tokio::task::yield_now().await;
    }
    drop(open);
    assert_eq!(waiting.await.unwrap(), "1");
    assert_eq!(queue.figures().running, 0);

    // An error, a change and rows read to their end give the place back, too.
    for sql in
        ["SELECT nothing", "INSERT INTO t VALUES (2)", "SELECT count(*) FROM t", "SELECT 1 / (x - x) FROM t"]
    {
        answer(&bob, sql).await;
        assert_eq!(queue.figures().running, 0, "{sql}");
    }
    // The owner's sessions of a server are told apart by the names they give.
    let limits = SessionLimits { queue: Some(Arc::clone(&queue)), ..SessionLimits::default() };
    let anonymous = owner.engine().session_as(Identity::owner(), limits);
    anonymous.set_user("ada");
    run(&anonymous, "SELECT 1", "1").await;
}
