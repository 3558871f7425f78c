//! Statements that never yield, on a server with one thread for statements: clients are answered all the same.
//!
//! What does not yield is one call of a function, which goes on for as long as its arguments are made for.

use std::fmt::Display;
use std::time::{Duration, Instant};

use arrow_flight::{Action, CancelFlightInfoRequest};
use cairn_engine::Output;
use cairn_server::ServerOptions;
use cairn_tests::http::{http_get, http_sql};
use datafusion::arrow::array::RecordBatch;
use futures::TryStreamExt;
use serde_json::json;
use tonic::Code;

use super::{Running, Threads, cells, status, with_http};

/// How long a call computes, about.
const BUSY: Duration = Duration::from_secs(6);
/// How long its end may take, on a machine that is busy with other tests.
const END_MAX: Duration = Duration::from_secs(120);
/// How long an answer may take that waits for nothing, on such a machine; less than what it does not wait for.
const ANSWER_MAX: Duration = Duration::from_secs(4);

async fn serve(threads: &Threads, change: impl FnOnce(&mut ServerOptions)) -> Running {
    Running::start(|options| {
        with_http(options);
        options.limits.threads = Some(threads.handle());
        change(options);
    })
    .await
}

/// A call that compares each character of two texts with each; it takes longer by the square of their `length`.
fn call(length: impl Display) -> String {
    format!("levenshtein(repeat('a', {length}), repeat('b', {length}))")
}

/// The length that keeps a thread of this machine and build for [`BUSY`].
async fn busy_length(server: &Running) -> u32 {
    const MEASURED: u32 = 4_000;
    let begun = Instant::now();
    let sql = format!("SELECT {}", call(MEASURED));
    let Output::Rows(rows) = server.engine.session().execute(&sql, None).await.unwrap() else {
        panic!("no rows")
    };
    rows.stream.try_collect::<Vec<_>>().await.unwrap();
    let times = BUSY.as_secs_f64() / begun.elapsed().as_secs_f64();
    (f64::from(MEASURED) * times.sqrt()) as u32
}

/// Waits until nothing runs any more, whether somebody waits for it or not.
async fn until_free(server: &Running) {
    let end = Instant::now() + END_MAX;
    while server.metric("cairn_queue_running").await > 0.0 {
        assert!(Instant::now() < end, "a statement keeps its place");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn time_is_over_at_once_and_the_place_stays_taken() {
    let threads = Threads::start(1);
    let limit = Duration::from_millis(500);
    let server = serve(&threads, |options| {
        options.limits.statement_timeout = Some(limit);
        options.queue.running_max = Some(1);
        options.queue.wait_max = Duration::from_millis(300);
    })
    .await;
    let http = server.http.unwrap();
    let mut other = server.connect().await;
    let sql = format!("SELECT {}", call(busy_length(&server).await));

    let begun = Instant::now();
    let late = http_sql(http, json!({"sql": sql})).await;
    assert_eq!((late.status, &late.json()["error"]["code"]), (504, &json!("57014")));
    assert!(begun.elapsed() < limit + ANSWER_MAX, "{:?}", begun.elapsed());

    // Nobody waits for it, but it computes: whoever is next waits for its place.
    let begun = Instant::now();
    assert_eq!(http_get(http, "/healthz").await.status, 200);
    assert_eq!(server.metric("cairn_statements_running").await, 0.0);
    assert_eq!(server.metric("cairn_queue_running").await, 1.0);
    assert!(begun.elapsed() < ANSWER_MAX, "{:?}", begun.elapsed());
    let refused = other.fails("SELECT 1").await;
    assert_eq!(refused.metadata().get("cairn-sqlstate").unwrap(), "53300", "{refused}");
    until_free(&server).await;
    let end = Instant::now() + END_MAX;
    while http_sql(http, json!({"sql": "SELECT 1"})).await.status != 200 {
        assert!(Instant::now() < end, "others do not get their turn");
    }
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn whoever_waits_behind_it_is_answered_in_time() {
    let threads = Threads::start(1);
    let limit = Duration::from_millis(500);
    let server = serve(&threads, |options| options.limits.statement_timeout = Some(limit)).await;
    let http = server.http.unwrap();
    let sql = format!("SELECT {}", call(busy_length(&server).await));
    assert_eq!(http_sql(http, json!({"sql": sql})).await.status, 504);
    // Two statements of others that do not begin: one that is run, one that is prepared.
    let mut other = server.connect().await;
    let begun = Instant::now();
    let late = other.fails("SELECT 1").await;
    assert_eq!(late.code(), Code::ResourceExhausted, "{late}");
    let unprepared = other.0.prepare("SELECT 2".to_owned(), None).await.map(|_| ());
    assert_eq!(status(unprepared.unwrap_err()).code(), Code::ResourceExhausted);
    assert!(begun.elapsed() < 2 * limit + ANSWER_MAX, "{:?}", begun.elapsed());
    // They were given up before they began.
    until_free(&server).await;
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn it_is_cancelled_at_once_and_changes_nothing() {
    let threads = Threads::start(1);
    let server = serve(&threads, |_| {}).await;
    let http = server.http.unwrap();
    let mut client = server.connect().await;
    client.update("CREATE TABLE t (n BIGINT)").await;
    let length = busy_length(&server).await;

    // A query that computes its first row.
    let call_of_row = call(format!("({length} + value)"));
    let info = client.info(&format!("SELECT {call_of_row} AS n FROM range(1)")).await;
    // From here on it is being fetched.
    let rows = client.0.do_get(info.endpoint[0].ticket.clone().unwrap()).await.unwrap();
    tokio::time::sleep(Duration::from_millis(300)).await;
    let begun = Instant::now();
    let request = prost::Message::encode_to_vec(&CancelFlightInfoRequest::new(info));
    client.0.do_action(Action::new("CancelFlightInfo", request)).await.unwrap();
    let ended = rows.try_collect::<Vec<RecordBatch>>().await.unwrap_err();
    assert_eq!(status(ended).code(), Code::Cancelled);
    assert!(begun.elapsed() < ANSWER_MAX, "{:?}", begun.elapsed());
    until_free(&server).await;

    // A change whose time is over long before it comes to its commit.
    let change = format!("INSERT INTO t SELECT {}", call(length));
    let late = http_sql(http, json!({"sql": change, "settings": {"statement_timeout": "300ms"}})).await;
    assert_eq!((late.status, &late.json()["error"]["code"]), (504, &json!("57014")));
    until_free(&server).await;
    assert_eq!(client.rows("SELECT count(*) FROM t").await, cells(&[&["0"]]));
    server.stop().await;
}
