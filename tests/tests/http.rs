//! The server over HTTP: forms of rows, parameters, errors, limits, streams, figures, stopping.

#![allow(clippy::unwrap_used, reason = "test code: a panic is the report")]

use std::collections::HashMap;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::{Duration, Instant};

use cairn_engine::{Engine, EngineOptions, Root};
use cairn_server::{Server, ServerOptions};
use cairn_tests::http::{HttpAnswer, HttpRequest, http_get, http_sql, http_sql_as};
use datafusion::arrow::array::{Array, AsArray, RecordBatch};
use datafusion::arrow::datatypes::{DataType, Int64Type};
use datafusion::arrow::ipc::reader::StreamReader;
use serde_json::{Value, json};
use tokio::sync::oneshot;
use tokio::task::JoinHandle;

/// How long anything may take that happens at once on a machine that is not busy with other tests.
const SOON: Duration = Duration::from_secs(60);

/// A server of a database in memory.
struct Running {
    address: SocketAddr,
    stop: Option<oneshot::Sender<()>>,
    ended: JoinHandle<cairn_engine::Result<()>>,
}

impl Running {
    async fn start() -> Self {
        Self::start_with(|options| options).await
    }

    async fn start_with(change: impl FnOnce(ServerOptions) -> ServerOptions) -> Self {
        let engine = Engine::open(Root::Memory, EngineOptions::default()).await.unwrap();
        Self::over(engine, change).await
    }

    async fn over(engine: Arc<Engine>, change: impl FnOnce(ServerOptions) -> ServerOptions) -> Self {
        let http = Some(SocketAddr::from((Ipv4Addr::LOCALHOST, 0)));
        let options = change(ServerOptions { flight: None, http, ..ServerOptions::default() });
        let server = Server::bind(engine, options).await.unwrap();
        let address = server.http_address().unwrap();
        let (stop, stopped) = oneshot::channel();
        let ended = tokio::spawn(server.run(async {
            let _ = stopped.await;
        }));
        Self { address, stop: Some(stop), ended }
    }

    async fn sql(&self, request: Value) -> HttpAnswer {
        http_sql(self.address, request).await
    }

    /// Rows of a statement that succeeds.
    async fn rows(&self, sql: &str) -> Value {
        let answer = self.sql(json!({"sql": sql})).await;
        assert_eq!(answer.status, 200, "{sql}: {}", answer.text());
        answer.json()["rows"].clone()
    }

    async fn run(&self, sql: &str) -> Value {
        let answer = self.sql(json!({"sql": sql})).await;
        assert_eq!(answer.status, 200, "{sql}: {}", answer.text());
        answer.json()
    }

    /// Status, SQLSTATE and message of a request that fails.
    async fn error(&self, request: Value) -> (u16, String, String) {
        let answer = self.sql(request).await;
        let error = answer.json()["error"].clone();
        let text = |name: &str| error[name].as_str().unwrap_or_default().to_owned();
        (answer.status, text("code"), text("message"))
    }

    /// The samples of /metrics, by name with labels.
    async fn metrics(&self) -> HashMap<String, f64> {
        let answer = http_get(self.address, "/metrics").await;
        assert_eq!(answer.status, 200);
        samples(answer.text())
    }

    async fn metric(&self, name: &str) -> f64 {
        self.metrics().await.get(name).copied().unwrap_or(0.0)
    }

    /// Waits until a figure is `wanted`.
    async fn until(&self, name: &str, wanted: f64) {
        let end = Instant::now() + SOON;
        loop {
            let now = self.metric(name).await;
            if now == wanted {
                return;
            }
            assert!(Instant::now() < end, "{name} is {now}, not {wanted}, after {SOON:?}");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }
}

/// Reads the text format strictly: families announced once, before their samples; names and values of their form.
fn samples(text: &str) -> HashMap<String, f64> {
    let mut samples = HashMap::new();
    let (mut family, mut kind) = (String::new(), String::new());
    let mut families = Vec::new();
    for line in text.lines() {
        if let Some(rest) = line.strip_prefix("# HELP ") {
            let (name, help) = rest.split_once(' ').unwrap();
            assert!(help.ends_with('.') && !families.contains(&name.to_owned()), "{line}");
            family = name.to_owned();
            families.push(family.clone());
            continue;
        }
        if let Some(rest) = line.strip_prefix("# TYPE ") {
            let (name, of) = rest.split_once(' ').unwrap();
            assert_eq!(name, family, "{line}");
            assert!(["counter", "gauge", "histogram"].contains(&of), "{line}");
            assert_eq!(of == "counter", name.ends_with("_total"), "{line}");
            kind = of.to_owned();
            continue;
        }
        let (series, value) = line.rsplit_once(' ').unwrap();
        let name = series.split('{').next().unwrap();
        assert!(name.bytes().all(|b| b.is_ascii_lowercase() || b == b'_'), "{line}");
        let suffix =
            name.strip_prefix(family.as_str()).unwrap_or_else(|| panic!("{line} is not of {family}"));
        let suffixes: &[&str] = if kind == "histogram" { &["_bucket", "_sum", "_count"] } else { &[""] };
        assert!(suffixes.contains(&suffix), "{line}");
        if let Some(labels) = series.strip_prefix(name).and_then(|l| l.strip_prefix('{')) {
            for label in labels.strip_suffix('}').unwrap().split("\",") {
                let (name, value) = label.split_once("=\"").unwrap();
                assert!(name.bytes().all(|b| b.is_ascii_lowercase()), "{line}");
                assert!(!value.trim_end_matches('"').contains('"'), "{line}");
            }
        }
        let value: f64 = value.parse().unwrap_or_else(|_| panic!("{line}"));
        assert!(samples.insert(series.to_owned(), value).is_none(), "{line} comes twice");
    }
    samples
}

/// A statement whose rows fail after `rows` of them.
fn failing_after(rows: u64) -> String {
    format!("SELECT value, 1 / ({rows} - value) AS x FROM generate_series(1, {}) AS g(value)", rows * 2)
}

#[tokio::test(flavor = "multi_thread")]
async fn every_type_in_every_form() {
    let server = Running::start().await;
    server
        .run(
            "CREATE TABLE t (id BIGINT PRIMARY KEY, u BIGINT UNSIGNED, small SMALLINT, flag BOOLEAN, ratio DOUBLE, real REAL,
             price DECIMAL(20,4), name TEXT, bytes BYTEA, day DATE, at TIMESTAMP, instant TIMESTAMPTZ, tags TEXT[],
             pair STRUCT(a INTEGER, b TEXT), v VECTOR(3))",
        )
        .await;
    let done = server
        .run(
            "INSERT INTO t SELECT 9223372036854775807, 18446744073709551615, -5, true, 0.1, 1.5, CAST('1234567890123456.7891' AS DECIMAL(20,4)),
             'a,\"b\" ü', arrow_cast('ab', 'Binary'), DATE '2024-02-29', TIMESTAMP '2024-02-29 12:34:56.5',
             TIMESTAMP '2024-02-29 12:34:56', ['x', NULL], named_struct('a', 1, 'b', 'y'), '[1,0.5,-2]'",
        )
        .await;
    assert_eq!(done, json!({"statement": "INSERT", "affected": 1, "notes": []}));
    server.run("INSERT INTO t (id) VALUES (1)").await;
    let query = "SELECT * FROM t ORDER BY id DESC";

    let answer = server.sql(json!({"sql": query})).await;
    assert_eq!(answer.header("content-type"), Some("application/json"));
    let document = answer.json();
    let types: Vec<&str> =
        document["columns"].as_array().unwrap().iter().map(|c| c["type"].as_str().unwrap()).collect();
    assert_eq!(
        types,
        [
            "BIGINT",
            "BIGINT UNSIGNED",
            "SMALLINT",
            "BOOLEAN",
            "DOUBLE",
            "REAL",
            "DECIMAL(20,4)",
            "TEXT",
            "BYTEA",
            "DATE",
            "TIMESTAMP",
            "TIMESTAMPTZ",
            "TEXT[]",
            "STRUCT(a INTEGER, b TEXT)",
            "VECTOR(3)"
        ]
    );
    assert_eq!(document["row_count"], 2);
    assert!(
        answer
            .text()
            .contains("[9223372036854775807,18446744073709551615,-5,true,0.1,1.5,1234567890123456.7891,")
    );
    let row = document["rows"][0].as_array().unwrap();
    assert_eq!(
        row[7..],
        [
            json!("a,\"b\" ü"),
            json!("6162"),
            json!("2024-02-29"),
            json!("2024-02-29T12:34:56.500"),
            json!("2024-02-29T12:34:56Z"),
            json!(["x", null]),
            json!({"a": 1, "b": "y"}),
            json!([1.0, 0.5, -2.0])
        ]
    );
    assert!(document["rows"][1].as_array().unwrap()[1..].iter().all(Value::is_null));

    let quoted = server.sql(json!({"sql": query, "numbers": "strings"})).await.json();
    assert_eq!(
        quoted["rows"][0].as_array().unwrap()[..7],
        [
            json!("9223372036854775807"),
            json!("18446744073709551615"),
            json!(-5),
            json!(true),
            json!(0.1),
            json!(1.5),
            json!("1234567890123456.7891")
        ]
    );

    let lines = server.sql(json!({"sql": query, "format": "ndjson"})).await;
    assert_eq!(lines.header("content-type"), Some("application/x-ndjson"));
    let lines: Vec<Value> = lines.text().lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!((lines.len(), &lines[0]["tags"], &lines[1]["v"]), (2, &json!(["x", null]), &Value::Null));

    let csv = http_sql_as(server.address, json!({"sql": query}), &["accept: text/csv"]).await;
    assert!(csv.header("content-type").unwrap().starts_with("text/csv"));
    let mut csv = csv.text().lines();
    assert!(csv.next().unwrap().starts_with("id,u,small,flag,"));
    assert!(csv.next().unwrap().starts_with(
        "9223372036854775807,18446744073709551615,-5,true,0.1,1.5,1234567890123456.7891,\"a,\"\"b\"\" ü\",6162,2024-02-29,"
    ));
    assert_eq!(csv.next().unwrap(), "1,,,,,,,,,,,,,,");

    let arrow = server.sql(json!({"sql": query, "format": "arrow"})).await;
    assert_eq!(arrow.header("content-type"), Some("application/vnd.apache.arrow.stream"));
    let batches: Vec<RecordBatch> =
        StreamReader::try_new(arrow.body.as_slice(), None).unwrap().map(Result::unwrap).collect();
    assert_eq!(batches.iter().map(RecordBatch::num_rows).sum::<usize>(), 2);
    let schema = batches[0].schema();
    assert_eq!(schema.field_with_name("name").unwrap().data_type(), &DataType::Utf8);
    assert_eq!(batches[0].column(0).as_primitive::<Int64Type>().value(0), i64::MAX);
    assert!(batches.last().unwrap().column(14).is_null(batches.last().unwrap().num_rows() - 1));
}

#[tokio::test(flavor = "multi_thread")]
async fn no_rows_and_no_columns() {
    let server = Running::start().await;
    let none = server.run("SELECT 1 AS a WHERE false").await;
    assert_eq!(none, json!({"columns": [{"name": "a", "type": "BIGINT"}], "rows": [], "row_count": 0}));
    for (format, body) in [("ndjson", ""), ("csv", "a\n")] {
        let answer = server.sql(json!({"sql": "SELECT 1 AS a WHERE false", "format": format})).await;
        assert_eq!(answer.text(), body, "{format}");
    }
    let arrow = server.sql(json!({"sql": "SELECT 1 AS a WHERE false", "format": "arrow"})).await;
    assert_eq!(StreamReader::try_new(arrow.body.as_slice(), None).unwrap().count(), 0);
    let done = server.sql(json!({"sql": "CREATE TABLE t (a INT)", "format": "csv"})).await;
    assert_eq!(done.header("content-type"), Some("application/json"));
    assert_eq!(done.json(), json!({"statement": "CREATE TABLE", "notes": []}));
}

#[tokio::test(flavor = "multi_thread")]
async fn parameters() {
    let server = Running::start().await;
    server
        .run("CREATE TABLE t (id INT PRIMARY KEY, price DECIMAL(30,2), day DATE, tags TEXT[], v VECTOR(2))")
        .await;
    let insert = "INSERT INTO t VALUES ($1, $2, $3, $4, $5)";
    for params in [
        json!([1, "12345678901234567890.12", "2024-02-29", ["a", null], [1, 0.5]]),
        json!([2, 1.5, null, [], [0, 1]]),
        json!([3, null, null, null, null]),
    ] {
        let answer = server.sql(json!({"sql": insert, "params": params})).await;
        assert_eq!(answer.json()["affected"], 1, "{}", answer.text());
    }
    let all = server.sql(json!({"sql": "SELECT * FROM t ORDER BY id", "numbers": "strings"})).await.json();
    assert_eq!(
        all["rows"],
        json!([
            [1, "12345678901234567890.12", "2024-02-29", ["a", null], [1.0, 0.5]],
            [2, "1.50", null, [], [0.0, 1.0]],
            [3, null, null, null, null]
        ])
    );
    for (sql, params, expected) in [
        ("SELECT id FROM t WHERE id = $1", json!([2]), json!([[2]])),
        ("SELECT id FROM t WHERE id = ?", json!([2]), json!([[2]])),
        ("SELECT id FROM t WHERE id > $low AND id < $high", json!({"low": 1, "high": 3}), json!([[2]])),
        ("SELECT id FROM t WHERE day = $1", json!(["2024-02-29"]), json!([[1]])),
        ("SELECT id FROM t WHERE v IS NOT NULL ORDER BY v <-> $1 LIMIT 1", json!([[0.1, 0.9]]), json!([[2]])),
        ("SELECT id FROM t WHERE v IS NOT NULL ORDER BY v <-> $1 LIMIT 1", json!(["[1,0]"]), json!([[1]])),
        ("SELECT id FROM t WHERE id = ANY(?) ORDER BY id", json!([[1, 3]]), json!([[1], [3]])),
        ("SELECT id FROM t WHERE id>=?AND id<? ORDER BY id", json!([1, 3]), json!([[1], [2]])),
        ("SELECT -?, ?||'b', 5%?", json!([1, "a", 3]), json!([[-1, "ab", 2]])),
        ("SELECT $1 IS NULL", json!([null]), json!([[true]])),
        ("SELECT $1", json!([18446744073709551615_u64]), json!([[18446744073709551615_u64]])),
    ] {
        let answer = server.sql(json!({"sql": sql, "params": params})).await;
        assert_eq!(answer.json()["rows"], expected, "{sql}: {}", answer.text());
    }
    let missing = server.error(json!({"sql": "SELECT $2", "params": [1]})).await;
    assert_eq!((missing.0, missing.1.as_str()), (400, "42P02"), "{}", missing.2);
    for (sql, params, message) in [
        ("SELECT $1", json!([1, 2]), "the statement has 1 parameter, 2 were given"),
        ("SELECT 1", json!([1]), "the statement has 0 parameters, 1 was given"),
        ("SELECT $a", json!({"a": 1, "c": 2}), "the statement has no parameter $c"),
        ("INSERT INTO t (id) VALUES ($1)", json!([4, 5]), "the statement has 1 parameter, 2 were given"),
    ] {
        let surplus = server.error(json!({"sql": sql, "params": params})).await;
        assert_eq!((surplus.0, surplus.1.as_str(), surplus.2.as_str()), (400, "07001", message), "{sql}");
    }
    let most = server.error(json!({"sql": "SELECT $99999999", "params": [1]})).await;
    assert_eq!(most.1, "54000", "{}", most.2);
    let object = server.error(json!({"sql": "SELECT $1", "params": [{"a": 1}]})).await;
    assert_eq!((object.0, object.1.as_str()), (400, "08P01"));
}

#[tokio::test(flavor = "multi_thread")]
async fn errors_have_a_status_and_a_place() {
    let server = Running::start().await;
    server.run("CREATE TABLE t (id INT PRIMARY KEY, n INT NOT NULL)").await;
    server.run("INSERT INTO t VALUES (1, 1)").await;
    for (sql, status, code) in [
        ("SELEC 1", 400, "42601"),
        ("SELECT 1; SELECT 2", 400, "42601"),
        ("SELECT * FROM nowhere", 404, "42P01"),
        ("SELECT nothing FROM t", 404, "42703"),
        ("SELECT 1 / 0", 400, "22012"),
        ("CREATE TABLE t (id INT)", 409, "42P07"),
        ("INSERT INTO t VALUES (1, 2)", 409, "23505"),
        ("INSERT INTO t VALUES (2, NULL)", 409, "23502"),
        ("BEGIN", 501, "0A000"),
        ("COMMIT", 501, "0A000"),
        ("SET search_path = 'main'", 501, "0A000"),
        ("", 400, "42601"),
    ] {
        let error = server.error(json!({"sql": sql})).await;
        assert_eq!((error.0, error.1.as_str()), (status, code), "{sql}: {}", error.2);
    }
    let answer = server.sql(json!({"sql": "SELECT id,\n  nothing FROM t"})).await;
    let error = &answer.json()["error"];
    assert_eq!((&error["line"], &error["column"]), (&json!(2), &json!(3)), "{error}");
    let begin = server.sql(json!({"sql": "BEGIN"})).await.json();
    assert!(begin["error"]["hint"].as_str().unwrap().contains("Flight SQL"), "{begin}");
}

#[tokio::test(flavor = "multi_thread")]
async fn types_of_moments_read_back() {
    let server = Running::start().await;
    let sql = "SELECT now() AS a, arrow_cast(now(), 'Timestamp(Microsecond, Some(\"+02:00\"))') AS b";
    let columns = server.run(sql).await["columns"].clone();
    for (column, expected) in [(0_usize, "TIMESTAMPTZ(9, '+00:00')"), (1, "TIMESTAMPTZ('+02:00')")] {
        assert_eq!(columns[column]["type"], json!(expected));
        let again = server.run(&format!("SELECT now()::{expected} AS c")).await;
        assert_eq!(again["columns"][0]["type"], json!(expected));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn requests_that_are_none() {
    let quiet = Running::start_with(|options| ServerOptions { metrics: false, ..options }).await;
    assert_eq!(http_get(quiet.address, "/metrics").await.status, 404);
    let server = Running::start().await;
    let post = async |headers: &[&str], body: &[u8]| {
        HttpRequest::send(server.address, "POST", "/v1/sql", headers, body).await.answer().await
    };
    let json_type = "content-type: application/json";
    let body = br#"{"sql": "SELECT 1"}"#;
    assert_eq!(post(&["content-type: application/json; charset=utf-8"], body).await.status, 200);
    assert_eq!(post(&[json_type, "content-encoding: identity"], body).await.status, 200);
    for (headers, body, status) in [
        (&["content-type: text/plain"][..], &body[..], 415),
        (&[], body, 415),
        (&[json_type, "content-encoding: gzip"], body, 415),
        (&[json_type], b" [\"SELECT 1\", [], \"csv\", {}, \"digits\"]", 400),
        (&[json_type, "origin: http://example.com"], body, 403),
        (&[json_type, "accept: image/png"], body, 406),
        (&[json_type, "authorization: Bearer nothing"], body, 401),
        (&[json_type, "authorization: Digest x"], body, 401),
        (&[json_type], b"{\"sql\": 1}", 400),
        (&[json_type], b"{\"sql\": \"SELECT 1\", \"parameters\": []}", 400),
        (&[json_type], b"{\"sql\": \"SELECT 1\", \"settings\": {\"statement_timeout\": []}}", 400),
        (&[json_type], b"{\"sql\": \"SELECT 1\", \"settings\": {\"no_such\": 1}}", 404),
        (&[json_type], b"not json", 400),
    ] {
        let answer = post(headers, body).await;
        assert_eq!(answer.status, status, "{headers:?} {}", answer.text());
        assert!(answer.json()["error"]["message"].is_string());
        assert_eq!(answer.header("www-authenticate").is_some(), status == 401);
    }
    assert_eq!(http_get(server.address, "/v1/sql").await.status, 405);
    assert_eq!(http_get(server.address, "/nothing").await.status, 404);

    let named = http_sql_as(server.address, json!({"sql": "SELECT 1"}), &["x-request-id: abc-1"]).await;
    assert_eq!(named.header("x-request-id"), Some("abc-1"));
    let odd = http_sql_as(server.address, json!({"sql": "SELECT 1"}), &["x-request-id: a b"]).await;
    assert_eq!(odd.header("x-request-id").unwrap().len(), 32);
    assert!(named.header("access-control-allow-origin").is_none());
}

#[tokio::test(flavor = "multi_thread")]
async fn limits() {
    let server = Running::start_with(|options| ServerOptions { message_bytes_max: 100_000, ..options }).await;
    let large = server.sql(json!({"sql": "SELECT $1", "params": ["x".repeat(200_000)]})).await;
    assert_eq!(large.status, 413);
    let fits = server.sql(json!({"sql": "SELECT octet_length($1)", "params": ["x".repeat(50_000)]})).await;
    assert_eq!(fits.json()["rows"], json!([[50_000]]));

    let begun = Instant::now();
    let slow = "SELECT count(*) FROM generate_series(1, 100000000000)";
    let late = server.error(json!({"sql": slow, "settings": {"statement_timeout": "200ms"}})).await;
    assert_eq!((late.0, late.1.as_str()), (504, "57014"), "{}", late.2);
    assert!(begun.elapsed() < SOON, "{:?}", begun.elapsed());
    server.run("CREATE SCHEMA sales").await;
    server.run("CREATE TABLE sales.t (a INT)").await;
    let there =
        server.sql(json!({"sql": "SELECT count(*) FROM t", "settings": {"search_path": "sales"}})).await;
    assert_eq!(there.json()["rows"], json!([[0]]));
    // Nothing of it is left for the next request.
    assert_eq!(server.error(json!({"sql": "SELECT count(*) FROM t"})).await.0, 404);
}

#[tokio::test(flavor = "multi_thread")]
async fn rows_wait_for_their_reader_and_end_with_it() {
    let server = Running::start().await;
    let before = server.metric("process_resident_memory_bytes").await;
    let headers = ["content-type: application/json"];
    let body = json!({"sql": "SELECT value, 'some text behind it' AS t FROM generate_series(1, 100000000) AS g(value)",
        "format": "ndjson"});
    let mut reader =
        HttpRequest::send(server.address, "POST", "/v1/sql", &headers, body.to_string().as_bytes()).await;
    reader.read_at_least(1 << 20).await;
    // Nobody reads on: after what the sockets take, nothing more is made.
    let end = Instant::now() + SOON;
    let mut made = -1.0;
    loop {
        let now = server.metric("cairn_rows_returned_total").await;
        if now == made {
            break;
        }
        made = now;
        assert!(Instant::now() < end, "rows are made without a reader");
        tokio::time::sleep(Duration::from_secs(1)).await;
    }
    assert!(made < 2e6, "{made} rows were made for a reader that took few");
    // Of all tests of this process; the rows together would take several times as much.
    let grown = server.metric("process_resident_memory_bytes").await - before;
    assert!(grown < 1e9, "memory has grown by {grown} bytes");
    assert_eq!(server.metric("cairn_statements_running").await, 1.0);
    drop(reader);
    server.until("cairn_statements_running", 0.0).await;
    let cancelled = "cairn_statement_duration_seconds_count{kind=\"select\",outcome=\"57\"}";
    assert_eq!(server.metric(cancelled).await, 1.0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_goes_away_cancels_its_statement() {
    let server = Running::start().await;
    let body = json!({"sql": "SELECT count(*) FROM generate_series(1, 100000000000)"}).to_string();
    let headers = ["content-type: application/json"];
    let waiting = HttpRequest::send(server.address, "POST", "/v1/sql", &headers, body.as_bytes()).await;
    server.until("cairn_statements_running", 1.0).await;
    drop(waiting);
    server.until("cairn_statements_running", 0.0).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_error_after_the_first_byte_is_seen() {
    let server = Running::start().await;
    for format in ["json", "ndjson", "csv", "arrow"] {
        let answer = server.sql(json!({"sql": failing_after(200_000), "format": format})).await;
        assert_eq!(answer.status, 200, "{format}");
        assert!(!answer.whole, "{format} looks whole");
        assert!(answer.body.len() > 100_000, "{format}");
        match format {
            "json" => assert!(serde_json::from_slice::<Value>(&answer.body).is_err()),
            "ndjson" => {
                let last: Value = serde_json::from_str(answer.text().lines().last().unwrap()).unwrap();
                assert_eq!(last["error"]["code"], "22012", "{last}");
            }
            _ => {}
        }
    }
    let failed = "cairn_statement_duration_seconds_count{kind=\"select\",outcome=\"22\"}";
    assert_eq!(server.metric(failed).await, 4.0);
}

#[tokio::test(flavor = "multi_thread")]
async fn figures_move() {
    let folder = tempfile::tempdir().unwrap();
    let root = Root::Path(folder.path().join("db"));
    let engine = Engine::open(root, EngineOptions::default()).await.unwrap();
    let server = Running::over(engine, |options| options).await;
    let before = server.metrics().await;
    server.run("CREATE TABLE t (id INT PRIMARY KEY)").await;
    let inserts = (0..20).map(|i| {
        let address = server.address;
        tokio::spawn(async move {
            let answer = http_sql(address, json!({"sql": "INSERT INTO t VALUES ($1)", "params": [i]})).await;
            assert_eq!(answer.status, 200, "{}", answer.text());
        })
    });
    for insert in inserts.collect::<Vec<_>>() {
        insert.await.unwrap();
    }
    assert_eq!(server.error(json!({"sql": "INSERT INTO t VALUES (1)"})).await.0, 409);
    assert_eq!(server.rows("SELECT count(*) FROM t").await, json!([[20]]));
    server.run("DELETE FROM t WHERE id = 3").await;
    server.run("CHECKPOINT").await;
    assert_eq!(server.rows("SELECT id FROM t WHERE id = 4").await, json!([[4]]));
    assert_eq!(server.rows("SELECT id FROM t WHERE id = 4").await, json!([[4]]));
    let after = server.metrics().await;
    let moved =
        |name: &str| after.get(name).copied().unwrap_or(0.0) - before.get(name).copied().unwrap_or(0.0);
    for (name, by) in [
        ("cairn_commits_total", 22.0),
        ("cairn_rows_added_total", 20.0),
        ("cairn_rows_deleted_total", 1.0),
        ("cairn_tables", 1.0),
        ("cairn_segments", 1.0),
        ("cairn_statement_duration_seconds_count{kind=\"insert\",outcome=\"ok\"}", 20.0),
        ("cairn_statement_duration_seconds_count{kind=\"insert\",outcome=\"23\"}", 1.0),
        ("cairn_statement_duration_seconds_count{kind=\"delete\",outcome=\"ok\"}", 1.0),
        ("cairn_statement_duration_seconds_count{kind=\"ddl\",outcome=\"ok\"}", 1.0),
        ("cairn_job_duration_seconds_count{kind=\"checkpoint\",status=\"completed\"}", 1.0),
        ("cairn_http_requests_total{route=\"/v1/sql\",method=\"POST\",code=\"200\"}", 26.0),
        ("cairn_http_requests_total{route=\"/v1/sql\",method=\"POST\",code=\"409\"}", 1.0),
        ("cairn_http_requests_total{route=\"/metrics\",method=\"GET\",code=\"200\"}", 1.0),
    ] {
        assert_eq!(moved(name), by, "{name}");
    }
    let groups = moved("cairn_commit_groups_total");
    assert!((3.0..=22.0).contains(&groups), "{groups} groups");
    for name in [
        "cairn_wal_written_bytes_total",
        "cairn_wal_sync_duration_seconds_count",
        "cairn_wal_sync_duration_seconds_sum",
        "cairn_job_rows_total{kind=\"checkpoint\"}",
        "cairn_job_written_bytes_total{kind=\"checkpoint\"}",
        "cairn_cache_bytes",
        "cairn_cache_hits_total",
        "cairn_cache_misses_total",
        "cairn_rows_returned_total",
        "cairn_segment_bytes",
    ] {
        assert!(moved(name) > 0.0, "{name}");
    }
    for name in [
        "process_resident_memory_bytes",
        "cairn_query_memory_limit_bytes",
        "cairn_connections",
        "cairn_writable",
    ] {
        assert!(after[name] > 0.0, "{name}");
    }
    assert_eq!(after[&format!("cairn_build_info{{version=\"{}\"}}", env!("CARGO_PKG_VERSION"))], 1.0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_change_that_is_sent_again_is_made_once() {
    let server = Running::start().await;
    server.run("CREATE TABLE t (id INT PRIMARY KEY, n INT)").await;
    let id = "6f1c9d0e-3a52-4d7e-9b1f-0c8a7e5d2b43";
    let header = format!("Cairn-Commit-Id: {id}");
    let insert = json!({"sql": "INSERT INTO t VALUES ($1, 0)", "params": [1]});
    let first = http_sql_as(server.address, insert.clone(), &[header.as_str()]).await.json();
    assert_eq!(first, json!({"statement": "INSERT", "affected": 1, "notes": []}));
    for _ in 0..2 {
        let again = http_sql_as(server.address, insert.clone(), &[header.as_str()]).await.json();
        assert_eq!(again["affected"], 0, "{again}");
        let note = again["notes"][0].as_str().unwrap();
        assert!(note.starts_with(&format!("commit {id} is there already, at version ")), "{note}");
    }
    // Beside rows: in the document, and in the head of every form.
    let other = "6f1c9d0e-3a52-4d7e-9b1f-0c8a7e5d2b44";
    let header_of_other = format!("Cairn-Commit-Id: {other}");
    for (format, is_again) in
        [("json", false), ("json", true), ("ndjson", true), ("csv", true), ("arrow", true)]
    {
        let insert = json!({"sql": "INSERT INTO t VALUES (7, 7) RETURNING id", "format": format});
        let answer = http_sql_as(server.address, insert, &[header_of_other.as_str()]).await;
        assert_eq!((answer.status, answer.header("cairn-notes").is_some()), (200, is_again), "{format}");
        let Some(notes) = answer.header("cairn-notes") else {
            assert!(!answer.text().contains("notes"), "{}", answer.text());
            continue;
        };
        let notes: Vec<String> = serde_json::from_str(notes).unwrap();
        assert!(notes.len() == 1 && notes[0].starts_with(&format!("commit {other} is there")), "{notes:?}");
        if format == "json" {
            assert_eq!((&answer.json()["notes"], &answer.json()["rows"]), (&json!(notes), &json!([])));
        }
    }
    assert_eq!(server.run("DELETE FROM t WHERE id = 7").await["affected"], 1);
    // Its own header is a request's alone.
    assert_eq!(server.run("INSERT INTO t VALUES (2, 0)").await["affected"], 1);
    assert_eq!(server.rows(&format!("SHOW COMMIT '{id}'")).await[0][3], "committed");
    let settings = json!({"sql": "UPDATE t SET n = n + 1", "settings": {"commit_id": id}});
    assert_eq!(server.sql(settings).await.json()["affected"], 0);
    assert_eq!(server.rows("SELECT id, n FROM t ORDER BY id").await, json!([[1, 0], [2, 0]]));
    let wrong = http_sql_as(server.address, insert, &["Cairn-Commit-Id: mine"]).await;
    assert_eq!((wrong.status, &wrong.json()["error"]["code"]), (400, &json!("22023")));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_read_only_server_is_ready_and_says_so() {
    let folder = tempfile::tempdir().unwrap();
    let root = Root::Path(folder.path().join("db"));
    let writer = Engine::open(root.clone(), EngineOptions::default()).await.unwrap();
    let mut options = EngineOptions::default();
    options.storage.read_only = true;
    let reader = Engine::open(root, options).await.unwrap();
    let server = Running::over(reader, |options| options).await;
    let ready = http_get(server.address, "/readyz").await;
    assert_eq!((ready.status, ready.json()), (200, json!({"status": "ready", "access": "read-only"})));
    assert_eq!(server.error(json!({"sql": "CREATE TABLE t (a INT)"})).await.0, 403);
    assert_eq!(server.metric("cairn_writable").await, 0.0);
    let server = Running::over(Arc::clone(&writer), |options| options).await;
    assert_eq!(http_get(server.address, "/readyz").await.json()["access"], "read-write");
    writer.close().await.unwrap();
    let closed = http_get(server.address, "/readyz").await;
    assert_eq!((closed.status, &closed.json()["error"]["code"]), (503, &json!("25006")));
    assert_eq!(http_get(server.address, "/healthz").await.status, 200);
}

#[tokio::test(flavor = "multi_thread")]
async fn stopping_lets_statements_end() {
    let mut server =
        Running::start_with(|options| ServerOptions { drain_max: Duration::from_secs(60), ..options }).await;
    let rows = 400_000;
    let body = json!({"sql": format!("SELECT value, 'some text behind it' AS t FROM generate_series(1, {rows}) AS g(value)"),
        "format": "ndjson"});
    let headers = ["content-type: application/json"];
    let mut reader =
        HttpRequest::send(server.address, "POST", "/v1/sql", &headers, body.to_string().as_bytes()).await;
    reader.read_at_least(1000).await;
    assert_eq!(http_get(server.address, "/readyz").await.status, 200);
    server.stop.take().unwrap().send(()).unwrap();
    let end = Instant::now() + SOON;
    let draining = loop {
        let answer = http_get(server.address, "/readyz").await;
        if answer.status == 503 || Instant::now() > end {
            break answer;
        }
    };
    assert_eq!((draining.status, &draining.json()["error"]["code"]), (503, &json!("57P01")));
    assert_eq!(http_get(server.address, "/healthz").await.status, 200);
    assert_eq!(server.error(json!({"sql": "SELECT 1"})).await.0, 503);
    let answer = reader.answer().await;
    assert!(answer.whole);
    assert_eq!(answer.text().lines().count(), rows);
    server.ended.await.unwrap().unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn the_document_lists_what_there_is() {
    let server = Running::start().await;
    let document = http_get(server.address, "/openapi.json").await;
    assert_eq!(document.header("content-type"), Some("application/json"));
    let document = document.json();
    for (path, methods) in document["paths"].as_object().unwrap() {
        for method in methods.as_object().unwrap().keys() {
            let method = method.to_uppercase();
            let answer = HttpRequest::send(server.address, &method, path, &[], b"").await.answer().await;
            assert!(![404, 405].contains(&answer.status), "{method} {path}: {}", answer.status);
        }
    }
    // Every answer the tests above have seen is described.
    let statuses = document["paths"]["/v1/sql"]["post"]["responses"].as_object().unwrap();
    for status in ["200", "400", "401", "403", "404", "406", "409", "413", "415", "501", "503", "504"] {
        assert!(statuses.contains_key(status), "{status}");
    }
}

/// What a line of the log says of its statement's time.
fn took_ms(line: &str) -> f64 {
    serde_json::from_str::<Value>(line).unwrap()["ms"].as_f64().unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn statements_are_logged_without_their_values() {
    let folder = tempfile::tempdir().unwrap();
    let (audit, slow) = (folder.path().join("audit.log"), folder.path().join("slow.log"));
    let server = Running::start_with(|options| ServerOptions {
        audit_log: Some(audit.clone()),
        slow_log: Some(slow.clone()),
        slow_min: Duration::from_millis(300),
        ..options
    })
    .await;
    // Longer than the digits of a port or of a moment, which a line has too.
    server.run("CREATE TABLE t (id BIGINT PRIMARY KEY, name TEXT)").await;
    server.run("INSERT INTO t VALUES (471147114711, 'secret'), (4712, 'secret')").await;
    let anna = ["authorization: Basic YW5uYTo="];
    let read = json!({"sql": "SELECT * FROM t WHERE name = $1 /* secret */", "params": ["secret"]});
    assert_eq!(http_sql_as(server.address, read, &anna).await.json()["row_count"], 2);
    assert_eq!(server.error(json!({"sql": "INSERT INTO t VALUES (471147114711, 'secret')"})).await.0, 409);
    assert_eq!(server.error(json!({"sql": "SELECT 'secret' FRM t"})).await.0, 400);
    let late = json!({"sql": "SELECT count(*) FROM generate_series(1, 100000000000)",
        "settings": {"statement_timeout": "400ms"}});
    assert_eq!(server.error(late).await.0, 504);

    let text = std::fs::read_to_string(&audit).unwrap();
    assert!(!text.contains("secret") && !text.contains("471147114711"), "{text}");
    let lines: Vec<Value> = text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let told: Vec<_> = lines
        .iter()
        .map(|l| {
            (
                l["user"].as_str().unwrap(),
                l["statement"].as_str().unwrap(),
                l["rows"].as_u64().unwrap(),
                l["outcome"].as_str().unwrap(),
            )
        })
        .collect();
    assert_eq!(
        told,
        [
            ("", "CREATE TABLE t (id BIGINT PRIMARY KEY, name TEXT)", 0, "ok"),
            ("", "INSERT INTO t VALUES (?…)", 2, "ok"),
            ("anna", "SELECT * FROM t WHERE name = $1", 2, "ok"),
            ("", "INSERT INTO t VALUES (?…)", 0, "23505"),
            ("", "SELECT ? FRM t", 0, "42601"),
            ("", "SELECT count(*) FROM generate_series(?…)", 0, "57014"),
        ]
    );
    assert_eq!((&lines[1]["tables"], &lines[1]["kind"]), (&json!(["t"]), &json!("insert")));
    assert!(lines.iter().all(|l| l["client"].as_str().unwrap().starts_with("127.0.0.1:")));
    // On a busy machine others may be slow, too.
    let slow = std::fs::read_to_string(&slow).unwrap();
    let expected: Vec<&str> = text.lines().filter(|line| took_ms(line) >= 300.0).collect();
    assert_eq!(slow.lines().collect::<Vec<_>>(), expected);
    assert!(slow.contains("generate_series"));
    assert_eq!(server.metric("cairn_log_lines_lost_total").await, 0.0);
}

#[tokio::test(flavor = "multi_thread")]
async fn with_users_a_login_is_needed() {
    let server = Running::start().await;
    server.run("CREATE USER anna SUPERUSER PASSWORD 'a long secret'").await;
    let me = || json!({"sql": "SELECT current_user"});
    let none = server.sql(me()).await;
    assert_eq!((none.status, &none.json()["error"]["code"]), (401, &json!("28000")));
    assert!(none.header("www-authenticate").unwrap().contains("Basic"));
    let wrong = http_sql_as(server.address, me(), &["authorization: Basic YW5uYTp3cm9uZw=="]).await;
    assert_eq!((wrong.status, &wrong.json()["error"]["code"]), (401, &json!("28P01")));
    let right = http_sql_as(server.address, me(), &["authorization: Basic YW5uYTphIGxvbmcgc2VjcmV0"]).await;
    assert_eq!(right.json()["rows"], json!([["anna"]]));
    for path in ["/healthz", "/readyz", "/metrics", "/openapi.json"] {
        assert_eq!(http_get(server.address, path).await.status, 200, "{path}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_view_keeps_the_rows_it_hides() {
    let engine = Engine::open(Root::Memory, EngineOptions::default()).await.unwrap();
    let server = Running::over(Arc::clone(&engine), |options| options).await;
    for sql in [
        "CREATE USER bob PASSWORD 'pw'",
        "CREATE SCHEMA app",
        "CREATE TABLE app.secret (id BIGINT PRIMARY KEY, owner TEXT, s TEXT)",
        "INSERT INTO app.secret VALUES (1, 'bob', '5'), (2, 'eve', 'hunter2')",
        "CREATE VIEW app.v AS SELECT * FROM app.secret WHERE owner = 'bob'",
        "GRANT SELECT ON app.v TO bob",
    ] {
        engine.session().execute(sql, None).await.unwrap();
    }
    for condition in
        ["CAST(s AS INT) > 0", "CASE WHEN s = 'hunter2' THEN CAST(s AS INT) ELSE 1 END > 0", "id < 9"]
    {
        let read = json!({"sql": format!("SELECT id, s FROM app.v WHERE {condition}")});
        let answer = http_sql_as(server.address, read, &["authorization: Basic Ym9iOnB3"]).await;
        assert_eq!(answer.json()["rows"], json!([[1, "5"]]), "{condition}: {}", answer.text());
    }
}
