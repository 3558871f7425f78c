//! `system.queries` and KILL QUERY.

use std::sync::Arc;
use std::time::Duration;

use tokio::runtime::Builder;

use super::rights::user;
use super::{answer, run, session};
use crate::{Identity, Session, SessionLimits, StatementProgress};

const ENDLESS: &str = "SELECT sum(value) FROM generate_series(1, 1000000000000) AS g(value) WHERE value % 2 < 2 AND value <> 77";

/// The id of the statement that `watcher` sees run and that is not its own.
async fn id_of_endless(watcher: &Session) -> String {
    // Its own statement has the function's name in a literal, which does not show.
    let sql = "SELECT id FROM system.queries WHERE statement LIKE '%generate_series%' AND state = 'running'";
    loop {
        let found = answer(watcher, sql).await;
        if !found.is_empty() {
            return found;
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

async fn is_ended_by(session: Session, killer: &Session) {
    let running = tokio::spawn(async move {
        let ended = answer(&session, ENDLESS).await;
        (ended, answer(&session, "SELECT 1").await)
    });
    let id = id_of_endless(killer).await;
    run(killer, &format!("KILL QUERY {id}"), "KILL QUERY").await;
    let (ended, next) = running.await.unwrap();
    assert_eq!(ended, format!("57014 the statement was ended by KILL QUERY {id}"));
    assert_eq!(next, "1");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_statement_that_runs_is_seen_and_ended() {
    let owner = session().await;
    let seen =
        "SELECT \"user\", state, statement, rows, started <= now(), elapsed_ms < 60000 FROM system.queries";
    let shown = "SELECT ?, state, statement, rows, started <= now(), elapsed_ms < ? FROM system.queries";
    assert!(answer(&owner, &seen.replace("\"user\"", "'x'")).await.contains(shown));
    assert_eq!(owner.running_statement(), None);
    is_ended_by(owner.engine().session(), &owner).await;
    let threads = Some(tokio::runtime::Handle::current());
    let limits = SessionLimits { threads, ..SessionLimits::default() };
    is_ended_by(owner.engine().session_as(Identity::owner(), limits), &owner).await;
    let got = answer(&owner, "KILL QUERY 1").await;
    assert!(got.starts_with("42704 no statement with the id 1 runs"), "{got}");
    run(&owner, "SELECT count(*) FROM system.queries", "1").await;
}

#[tokio::test]
async fn a_session_knows_how_far_its_statement_is() {
    let owner = session().await;
    run(&owner, "CREATE TABLE t (n BIGINT)", "CREATE TABLE").await;
    let insert = "INSERT INTO t SELECT value FROM generate_series(1, 500) RETURNING n";
    // It runs until its rows are read.
    let unread = owner.execute(insert, None).await.unwrap();
    let written = StatementProgress { rows: 500, ..StatementProgress::default() };
    assert_eq!(owner.fork().running_statement(), Some(written));
    assert_eq!(owner.engine().session().running_statement(), None);
    drop(unread);
    assert_eq!(owner.running_statement(), None);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_session_ends_what_it_runs_and_nothing_else() {
    let owner = session().await;
    let one = Arc::new(owner.engine().session());
    let runs = Arc::clone(&one);
    let running = tokio::spawn(async move { answer(&runs, ENDLESS).await });
    let id = id_of_endless(&owner).await;
    owner.end_running();
    assert_eq!(id_of_endless(&owner).await, id);
    one.end_running();
    assert_eq!(running.await.unwrap(), format!("57014 the statement was ended by KILL QUERY {id}"));
    run(&one, "SELECT 1", "1").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_user_sees_and_ends_its_own() {
    let owner = session().await;
    let (ann, bob) = (user(&owner, "ann").await, user(&owner, "bob").await);
    let (of_ann, watcher) = (ann.fork(), ann.fork());
    let running = tokio::spawn(async move { answer(&of_ann, ENDLESS).await });
    let id = id_of_endless(&owner).await;
    run(&bob, "SELECT count(*) FROM system.queries", "1").await;
    run(&watcher, "SELECT count(*) FROM system.queries", "2").await;
    let got = answer(&bob, &format!("KILL QUERY {id}")).await;
    assert!(got.starts_with("42501 "), "{got}");
    run(&watcher, &format!("KILL QUERY {id}"), "KILL QUERY").await;
    assert!(running.await.unwrap().starts_with("57014 "));
}

/// Minutes of a test build; no pair of rows meets the condition.
const FRUITLESS: &str = "SELECT count(*) FROM generate_series(1, 100000) AS a(x) JOIN generate_series(1, 100000) AS b(y) ON x * y = -7";

#[tokio::test]
async fn a_join_that_finds_nothing_lets_others_have_their_turn() {
    let owner = session().await;
    let threads = Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    let on_threads = || {
        let limits = SessionLimits { threads: Some(threads.handle().clone()), ..SessionLimits::default() };
        owner.engine().session_as(Identity::owner(), limits)
    };
    let (joins, other) = (on_threads(), on_threads());
    let joining = tokio::spawn(async move { answer(&joins, FRUITLESS).await });
    let id = id_of_endless(&owner).await;
    // The only thread is the join's.
    for _ in 0..10 {
        run(&other, "SELECT 1", "1").await;
        run(&other, &format!("SELECT count(*) FROM system.queries WHERE id = {id}"), "1").await;
    }
    assert!(!joining.is_finished());
    run(&owner, &format!("KILL QUERY {id}"), "KILL QUERY").await;
    assert!(joining.await.unwrap().starts_with("57014 "));
    run(&other, "SELECT 1", "1").await;
    threads.shutdown_background();
}
