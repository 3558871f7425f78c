//! Statements about jobs.

use cairn_storage::JobRow;

use super::*;

#[tokio::test]
async fn jobs_are_run_paused_and_tried_again() {
    check(&[
        ("CREATE TABLE t (id BIGINT PRIMARY KEY)", "CREATE TABLE"),
        ("INSERT INTO t VALUES (1)", "INSERT 1"),
        ("RUN JOB checkpoint", "true,statement,1,0,0,1,…"),
        ("RUN JOB checkpoint", "false,statement,0,0,0,0,0,…"),
        ("SELECT id, kind, status, attempts, progress FROM system.jobs", "1,checkpoint,completed,1,1.0"),
        (
            "SELECT cpu_ms >= 0, memory_bytes > 0, node <> '', heartbeat <= now() FROM system.jobs",
            "true,true,true,true",
        ),
        (
            "SELECT next_retry_at IS NULL, error IS NULL, finished >= started FROM system.jobs",
            "true,true,true",
        ),
        ("PAUSE JOBS compact", "2,compact,,paused"),
        ("PAUSE JOBS compact", "2,compact,,paused"),
        ("SHOW JOBS WHERE status = 'paused'", "2,compact,,all of this kind,paused,0,…"),
        // Who asks for it gets it.
        ("RUN JOBS FOR TABLE t LIMIT 5 STRICT", "false,statement,0,0,0,…"),
        ("RESUME JOB 2", "2,compact,,completed"),
        ("RESUME JOB 2", "55000 job 2 is completed"),
        ("PAUSE JOB 1", "55000 job 1 is completed"),
        ("CANCEL JOB 1", "55000 job 1 is completed"),
        ("RETRY JOB 1", "55000 job 1 is completed"),
        ("CANCEL JOB 9", "42704 there is no job 9 [SHOW JOBS lists them]"),
        ("RETRY JOBS", ""),
        ("PAUSE JOBS", "3,checkpoint,,paused;4,compact,,paused;5,build_index,,paused;6,collect,,paused"),
        ("RESUME JOBS collect", "6,collect,,completed"),
        ("CANCEL JOB 5", "5,build_index,,cancelled"),
        ("RETRY JOB 5", "5,build_index,,completed"),
        ("RESUME JOBS", "3,checkpoint,,completed;4,compact,,completed"),
        ("INSERT INTO t VALUES (2)", "INSERT 1"),
        // What was resumed may have done it.
        ("CHECKPOINT", "…"),
        ("VACUUM", "false,statement,0,0,…"),
        ("VACUUM t", "false,statement,0,0,…"),
        ("RUN JOB collect ON t", "true,statement,1,0,0,0,0,…"),
        ("VACUUM nowhere", "42P01 1:8 table public.nowhere does not exist…"),
        ("RUN JOB compact ON nowhere", "42P01 1:20 table public.nowhere does not exist…"),
        ("RUN JOB checkpoint ON t", "42601 a checkpoint is of the whole database…"),
        (
            "RUN JOB tidy",
            "42601 1:9 syntax error: expected checkpoint, compact, build_index or collect, found tidy",
        ),
        ("BEGIN", "BEGIN"),
        ("VACUUM", "25001 VACUUM cannot be one of a transaction's statements"),
        ("RUN JOBS", "25001 a statement about jobs cannot be one of a transaction's statements"),
        ("ROLLBACK", "ROLLBACK"),
    ])
    .await;
}

#[tokio::test]
async fn jobs_of_a_table_are_cancelled_with_it() {
    let session = session().await;
    all(&session, &["CREATE TABLE t (id BIGINT PRIMARY KEY)", "INSERT INTO t VALUES (1)", "CHECKPOINT"])
        .await;
    all(&session, &["PAUSE JOBS build_index", "DROP TABLE t"]).await;
    // It stands for no table.
    run(&session, "SELECT status FROM system.jobs WHERE kind = 'build_index'", "paused").await;
    let rows: Vec<JobRow> = session.engine().database().all_jobs().await.unwrap();
    assert!(rows.iter().all(|row| row.table.is_none()), "{rows:?}");
}

#[tokio::test]
async fn rows_of_jobs_are_kept_in_the_database() {
    let dir = tempfile::tempdir().unwrap();
    let open = || async {
        let storage = OpenOptions { keeps_jobs: true, ..OpenOptions::default() };
        let options = EngineOptions { storage, memory_limit: Some(64 << 20), ..EngineOptions::default() };
        Engine::open(Root::Path(dir.path().join("db")), options).await.unwrap()
    };
    let engine = open().await;
    let session = engine.session();
    all(&session, &["CREATE TABLE t (id BIGINT)", "INSERT INTO t VALUES (1)", "CHECKPOINT"]).await;
    all(&session, &["PAUSE JOBS compact"]).await;
    let shown = "SELECT id, kind, status, rows, created, cpu_ms, node FROM system.jobs ORDER BY id";
    let before = answer(&session, shown).await;
    assert!(before.contains("checkpoint,completed,1,") && before.contains("compact,paused,0,"), "{before}");
    // What they are kept in shows nowhere, and users make tables beside it.
    run(&session, "SELECT name FROM system.tables", "t").await;
    run(&session, "SHOW SCHEMAS", "information_schema;public;system").await;
    drop(session);
    engine.database().close().await.unwrap();
    drop(engine);

    let engine = open().await;
    let session = engine.session();
    run(&session, shown, &before).await;
    run(&session, "SHOW job_retention", "168 h").await;
    all(&session, &["CREATE USER anna PASSWORD 'pw'", "RESUME JOBS"]).await;
    run(&session, "SELECT name FROM system.users", "anna").await;
    engine.database().close().await.unwrap();
}
