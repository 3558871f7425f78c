//! Flight SQL as a client meets it, over a socket, with arrow-flight's own client.

#![allow(clippy::unwrap_used, clippy::print_stdout, reason = "test code: a panic is the report")]

// Tests begin in the order of their names: the longest begins first.
#[path = "flight/load.rs"]
mod a_minute_of_load;
#[path = "flight/unyielding.rs"]
mod unyielding;

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use arrow_flight::encode::FlightDataEncoderBuilder;
use arrow_flight::sql::client::FlightSqlServiceClient;
use arrow_flight::sql::{
    ActionCreatePreparedStatementRequest, CommandGetDbSchemas, CommandGetPrimaryKeys, CommandGetTables,
    CommandGetXdbcTypeInfo, CommandStatementIngest, CommandStatementQuery, CommandStatementUpdate,
    DoPutUpdateResult, EndTransaction, ProstMessageExt, SqlInfo, TableDefinitionOptions, TableExistsOption,
    TableNotExistOption,
};
use arrow_flight::{
    Action, CancelFlightInfoRequest, FlightData, FlightDescriptor, FlightInfo, IpcMessage, Ticket,
};
use cairn_engine::{Engine, EngineOptions, Root};
use cairn_server::{Outcome, PROGRESS_ACTION, ProgressReport, Server, ServerOptions, TlsOptions};
use cairn_tests::answer::{Answer, render};
use cairn_tests::http::{http_get, http_sql, http_sql_as};
use cairn_tests::served::status;
use datafusion::arrow::array::{
    Array, ArrayRef, AsArray, FixedSizeListArray, Int64Array, LargeListArray, ListArray, RecordBatch,
    StringArray, TimestampMicrosecondArray,
};
use datafusion::arrow::datatypes::{
    DataType, Field, Float32Type, Float64Type, Int32Type, Int64Type, Schema, SchemaRef, TimeUnit,
};
use futures::{StreamExt, TryStreamExt};
use tokio::runtime::{Builder, Handle, Runtime};
use tokio::sync::oneshot;
use tokio::task::JoinHandle;
use tonic::transport::Channel;
use tonic::{Code, Status};

/// How long anything may take that happens at once on a machine that is not busy with other tests.
const SOON: Duration = Duration::from_secs(60);

/// Threads of statements, as `cairn serve` has them: clients are answered, and limits told, whatever a statement does. Nobody waits for
/// them in the end: a statement that was given up may still compute.
struct Threads(Option<Runtime>);

impl Threads {
    fn start(count: usize) -> Self {
        // Statements are planned by recursion, as deep in a test build as the stack of `cairn` allows.
        let mut threads = Builder::new_multi_thread();
        threads.worker_threads(count).thread_stack_size(8 << 20).enable_all();
        Self(Some(threads.build().unwrap()))
    }

    fn handle(&self) -> Handle {
        self.0.as_ref().unwrap().handle().clone()
    }
}

impl Drop for Threads {
    fn drop(&mut self) {
        self.0.take().unwrap().shutdown_background();
    }
}

/// A server of this process on a database in memory.
struct Running {
    engine: Arc<Engine>,
    url: String,
    http: Option<SocketAddr>,
    stop: oneshot::Sender<()>,
    ended: JoinHandle<cairn_engine::Result<()>>,
    /// Unless `change` names others.
    _threads: Threads,
}

impl Running {
    async fn start(change: impl FnOnce(&mut ServerOptions)) -> Self {
        let engine = Engine::open(Root::parse(":memory:").unwrap(), EngineOptions::default()).await.unwrap();
        let mut options = ServerOptions {
            flight: Some("127.0.0.1:0".parse().unwrap()),
            http: None,
            ..ServerOptions::default()
        };
        let threads = Threads::start(2);
        options.limits.threads = Some(threads.handle());
        change(&mut options);
        let server = Server::bind(Arc::clone(&engine), options).await.unwrap();
        let url = format!("http://{}", server.flight_address().unwrap());
        let http = server.http_address();
        let (stop, stopped) = oneshot::channel::<()>();
        let ended = tokio::spawn(server.run(async {
            let _ = stopped.await;
        }));
        Self { engine, url, http, stop, ended, _threads: threads }
    }

    async fn connect(&self) -> Client {
        Client::connect(&self.url).await
    }

    /// A figure of /metrics; 0 when it has no sample.
    async fn metric(&self, name: &str) -> f64 {
        let page = http_get(self.http.unwrap(), "/metrics").await;
        let line = page.text().lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
        line.map_or(0.0, |value| value.parse().unwrap())
    }

    async fn stop(self) {
        self.stop.send(()).unwrap();
        self.ended.await.unwrap().unwrap();
    }
}

/// One connection.
#[derive(Clone)]
struct Client(FlightSqlServiceClient<Channel>);

impl Client {
    async fn connect(url: &str) -> Self {
        let channel = Channel::from_shared(url.to_owned()).unwrap().connect().await.unwrap();
        Self(FlightSqlServiceClient::new(channel))
    }

    async fn info(&mut self, sql: &str) -> FlightInfo {
        self.0.execute(sql.to_owned(), None).await.unwrap_or_else(|error| panic!("{sql}: {error}"))
    }

    async fn fetch(&mut self, info: FlightInfo) -> Result<(SchemaRef, Vec<RecordBatch>), Status> {
        let promised = Arc::new(info.clone().try_decode_schema().unwrap());
        let ticket = info.endpoint[0].ticket.clone().unwrap();
        let rows = self.0.do_get(ticket).await.map_err(status)?;
        let batches: Vec<RecordBatch> = rows.try_collect().await.map_err(status)?;
        for batch in &batches {
            assert_eq!(batch.schema(), promised, "the schema of the rows is the one of FlightInfo");
        }
        Ok((promised, batches))
    }

    async fn answer(&mut self, sql: &str) -> Answer {
        let info = self.info(sql).await;
        let (schema, batches) = self.fetch(info).await.unwrap();
        render(&schema, &batches)
    }

    async fn rows(&mut self, sql: &str) -> Vec<Vec<String>> {
        self.answer(sql).await.rows()
    }

    async fn update(&mut self, sql: &str) -> i64 {
        self.0.execute_update(sql.to_owned(), None).await.unwrap_or_else(|error| panic!("{sql}: {error}"))
    }

    async fn fails(&mut self, sql: &str) -> Status {
        status(self.0.execute(sql.to_owned(), None).await.unwrap_err())
    }

    async fn ingest(
        &mut self,
        table: &str,
        (missing, exists): (TableNotExistOption, TableExistsOption),
        batches: Vec<RecordBatch>,
        transaction_id: Option<bytes::Bytes>,
    ) -> Result<i64, Status> {
        let command = CommandStatementIngest {
            table_definition_options: Some(TableDefinitionOptions {
                if_not_exist: missing.into(),
                if_exists: exists.into(),
            }),
            table: table.to_owned(),
            transaction_id,
            ..CommandStatementIngest::default()
        };
        let batches = futures::stream::iter(batches.into_iter().map(Ok));
        self.0.execute_ingest(command, batches).await.map_err(status)
    }
}

fn numbers(values: impl IntoIterator<Item = i64>) -> RecordBatch {
    let values = Int64Array::from_iter_values(values);
    RecordBatch::try_from_iter([("n", Arc::new(values) as ArrayRef)]).unwrap()
}

fn cells(rows: &[&[&str]]) -> Vec<Vec<String>> {
    rows.iter().map(|row| row.iter().map(|cell| (*cell).to_owned()).collect()).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn every_type_arrives_as_the_engine_gives_it() {
    let server = Running::start(|_| {}).await;
    let mut client = server.connect().await;
    client
        .update(
            "CREATE TABLE t (b BOOLEAN, i8 TINYINT, i16 SMALLINT, i32 INTEGER, i64 BIGINT, u8 TINYINT UNSIGNED,
             u64 BIGINT UNSIGNED, f32 REAL, f64 DOUBLE, d DECIMAL(20,4), s TEXT, y BYTEA, j JSON, dt DATE, tm TIME,
             ts TIMESTAMP, tz TIMESTAMPTZ, v VECTOR(3), l BIGINT[], st STRUCT(a INTEGER, b TEXT))",
        )
        .await;
    let insert = "INSERT INTO t VALUES (true, -1, -2, -3, -4, 5, 6, 1.5, 2.5, '12345.6789', 'hä?', X'00FF',
        '{\"a\": [1]}', '2024-02-29', '12:34:56.789', '2024-02-29 01:02:03.000004', '2024-02-29 01:02:03+02',
        '[1,2,3]', [1, NULL, 3], named_struct('a', 1, 'b', 'x'))";
    assert_eq!(client.update(insert).await, 1);
    assert_eq!(client.update("INSERT INTO t (i64) VALUES (NULL)").await, 1);
    let (schema, batches) = {
        let info = client.info("SELECT * FROM t ORDER BY b NULLS LAST").await;
        client.fetch(info).await.unwrap()
    };
    let expected = {
        let session = server.engine.session();
        let output = session.execute("SELECT * FROM t ORDER BY b NULLS LAST", None).await.unwrap();
        let cairn_engine::Output::Rows(rows) = output else { panic!("no rows") };
        let schema = Arc::clone(&rows.schema);
        let batches: Vec<RecordBatch> = rows.stream.try_collect().await.unwrap();
        render(&schema, &batches).rows()
    };
    assert_eq!(render(&schema, &batches).rows(), expected);
    let data_type = |name: &str| schema.field_with_name(name).unwrap().data_type().clone();
    assert_eq!(data_type("s"), DataType::Utf8, "no views on the wire");
    assert_eq!(data_type("y"), DataType::Binary);
    assert_eq!(data_type("d"), DataType::Decimal128(20, 4));
    assert!(
        matches!(data_type("v"), DataType::FixedSizeList(item, 3) if *item.data_type() == DataType::Float32)
    );
    assert!(matches!(data_type("tz"), DataType::Timestamp(_, Some(zone)) if &*zone == "UTC"));
    assert!(matches!(data_type("st"), DataType::Struct(fields) if *fields[1].data_type() == DataType::Utf8));

    // And back: what came out goes in.
    let stored = client
        .ingest("copy", (TableNotExistOption::Create, TableExistsOption::Fail), batches, None)
        .await
        .unwrap();
    assert_eq!(stored, 2);
    assert_eq!(client.rows("SELECT * FROM copy ORDER BY b NULLS LAST").await, expected);
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_statement_runs_once_and_is_fetched_once() {
    let server = Running::start(|_| {}).await;
    let mut client = server.connect().await;
    client.update("CREATE TABLE t (n BIGINT)").await;
    // JDBC and ADBC send changes this way too.
    let info = client.info("INSERT INTO t VALUES (1), (2)").await;
    assert_eq!(info.total_records, 2);
    assert!(info.clone().try_decode_schema().unwrap().fields().is_empty());
    let (_, batches) = client.fetch(info.clone()).await.unwrap();
    assert_eq!(batches.iter().map(RecordBatch::num_rows).sum::<usize>(), 0);
    assert_eq!(client.rows("SELECT count(*) FROM t").await, cells(&[&["2"]]));
    assert_eq!(client.fetch(info).await.unwrap_err().code(), Code::NotFound);
    let returned = client.rows("INSERT INTO t VALUES (3) RETURNING n, n + 1 AS m").await;
    assert_eq!(returned, cells(&[&["3", "4"]]));
    assert_eq!(client.update("UPDATE t SET n = n + 10 WHERE n < 3").await, 2);
    assert_eq!(client.update("DELETE FROM t").await, 3);
    // A ticket is good on any connection.
    let info = client.info("SELECT 7 AS seven").await;
    let mut other = server.connect().await;
    let (schema, batches) = other.fetch(info).await.unwrap();
    assert_eq!(render(&schema, &batches).rows(), cells(&[&["7"]]));
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn errors_carry_their_kind_place_and_hint() {
    let server = Running::start(|_| {}).await;
    let mut client = server.connect().await;
    client.update("CREATE TABLE notes (id BIGINT PRIMARY KEY, n BIGINT NOT NULL)").await;
    client.update("INSERT INTO notes VALUES (1, 1)").await;
    for (sql, code, sqlstate) in [
        ("SELEC 1", Code::InvalidArgument, "42601"),
        ("SELECT * FROM note", Code::NotFound, "42P01"),
        ("CREATE TABLE notes (a INT)", Code::AlreadyExists, "42P07"),
        ("INSERT INTO notes VALUES (1, 2)", Code::AlreadyExists, "23505"),
        ("INSERT INTO notes VALUES (2, NULL)", Code::InvalidArgument, "23502"),
        ("SELECT 1 / 0", Code::InvalidArgument, "22012"),
        ("LISTEN x", Code::Unimplemented, "0A000"),
    ] {
        let info = client.0.execute(sql.to_owned(), None).await;
        let status = match info {
            Ok(info) => client.fetch(info).await.unwrap_err(),
            Err(error) => status(error),
        };
        assert_eq!(status.code(), code, "{sql}: {status}");
        if let Some(given) = status.metadata().get("cairn-sqlstate") {
            assert_eq!(given, sqlstate, "{sql}");
        }
    }
    let empty = status(client.0.do_get(Ticket::default()).await.map(|_| ()).unwrap_err());
    assert_eq!(empty.code(), Code::InvalidArgument);
    assert_eq!(empty.metadata().get("cairn-sqlstate").unwrap(), "08P01", "{empty}");
    let error = client.fails("SELECT 1,\n  missing FROM notes").await;
    assert!(error.message().contains("at line 2, column 3"), "{}", error.message());
    let error = client.fails("SELECT * FROM note").await;
    assert!(error.message().contains("did you mean notes?"), "{}", error.message());
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn prepared_statements_say_what_they_are() {
    let server = Running::start(|_| {}).await;
    let mut client = server.connect().await;
    client.update("CREATE TABLE t (id INTEGER PRIMARY KEY, s TEXT, at TIMESTAMP)").await;
    for (sql, columns, parameters) in [
        (
            "SELECT id, s FROM t WHERE id = $1 AND s <> $2",
            Some("id s"),
            vec![DataType::Int32, DataType::Utf8],
        ),
        ("SELECT ? AS a, id FROM t", Some("a id"), vec![DataType::Utf8]),
        (
            "INSERT INTO t VALUES (?, ?, ?)",
            None,
            vec![DataType::Int32, DataType::Utf8, DataType::Timestamp(TimeUnit::Microsecond, None)],
        ),
        ("INSERT INTO t (s, id) SELECT $2, $1", None, vec![DataType::Int32, DataType::Utf8]),
        ("UPDATE t SET s = $1 WHERE id = $2", None, vec![DataType::Utf8, DataType::Int32]),
        ("DELETE FROM t WHERE id > $1 RETURNING s", Some("s"), vec![DataType::Int32]),
        ("CREATE TABLE u (a INT)", None, vec![]),
        ("SHOW TABLES", Some("schema name kind rows bytes"), vec![]),
        ("EXPLAIN SELECT 1", Some("plan_type plan"), vec![]),
        ("EXPLAIN ANALYZE SELECT s FROM t WHERE id=?", Some("plan_type plan"), vec![DataType::Int32]),
        ("EXPLAIN DELETE FROM t WHERE id=?", Some("plan_type plan"), vec![DataType::Int32]),
        ("COPY (SELECT s FROM t WHERE id>?) TO 'rows.csv'", None, vec![DataType::Int32]),
        ("SELECT 1^? AS a", Some("a"), vec![DataType::Utf8]),
    ] {
        let prepared = client.0.prepare(sql.to_owned(), None).await.unwrap_or_else(|e| panic!("{sql}: {e}"));
        let names: Vec<&str> =
            prepared.dataset_schema().unwrap().fields().iter().map(|f| f.name().as_str()).collect();
        assert_eq!(names.join(" "), columns.unwrap_or_default(), "{sql}");
        let types: Vec<DataType> =
            prepared.parameter_schema().unwrap().fields().iter().map(|f| f.data_type().clone()).collect();
        assert_eq!(types, parameters, "{sql}");
        prepared.close().await.unwrap();
    }
    for (sql, code, message) in [
        ("SELECT * FROM nowhere", Code::NotFound, "nowhere"),
        ("CREATE VIEW v AS SELECT ?", Code::InvalidArgument, "a view cannot have the parameter $1"),
        ("SELECT $99999999", Code::ResourceExhausted, "a statement has at most 65535 parameters"),
    ] {
        let error = status(client.0.prepare(sql.to_owned(), None).await.unwrap_err());
        assert_eq!(error.code(), code, "{sql}: {error}");
        assert!(error.message().contains(message), "{sql}: {error}");
    }
    assert_eq!(client.rows("SHOW TABLES").await.len(), 1, "preparing creates nothing");
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn parameters_are_bound_and_bound_again() {
    let server = Running::start(|_| {}).await;
    let mut client = server.connect().await;
    client.update("CREATE TABLE t (id INTEGER PRIMARY KEY, s TEXT)").await;
    let row = |id: i64, s: Option<&str>| {
        RecordBatch::try_from_iter([
            ("1", Arc::new(Int64Array::from(vec![id])) as ArrayRef),
            ("2", Arc::new(StringArray::from(vec![s])) as ArrayRef),
        ])
        .unwrap()
    };
    let mut insert = client.0.prepare("INSERT INTO t VALUES (?, ?)".to_owned(), None).await.unwrap();
    for (id, s) in [(1, Some("one")), (2, None)] {
        insert.set_parameters(row(id, s)).unwrap();
        assert_eq!(insert.execute_update().await.unwrap(), 1);
    }
    // A change run as a query, with its parameters bound before.
    insert.set_parameters(row(3, Some("three"))).unwrap();
    assert_eq!(insert.execute().await.unwrap().total_records, 1);
    assert_eq!(
        client.rows("SELECT * FROM t ORDER BY id").await,
        cells(&[&["1", "one"], &["2", "NULL"], &["3", "three"]])
    );
    let mut select = client.0.prepare("SELECT s FROM t WHERE id = $1".to_owned(), None).await.unwrap();
    for (id, s) in [(3, "three"), (1, "one")] {
        select.set_parameters(numbers([id])).unwrap();
        let info = select.execute().await.unwrap();
        let (schema, batches) = client.fetch(info).await.unwrap();
        assert_eq!(render(&schema, &batches).rows(), cells(&[&[s]]));
    }
    // Several rows: one result behind the other.
    select.set_parameters(numbers([3, 1])).unwrap();
    let info = select.execute().await.unwrap();
    let (schema, batches) = client.fetch(info).await.unwrap();
    assert_eq!(render(&schema, &batches).rows(), cells(&[&["three"], &["one"]]));
    select.set_parameters(row(1, None)).unwrap();
    assert_eq!(status(select.execute().await.unwrap_err()).code(), Code::InvalidArgument);
    // Any of them may be NULL, whatever the first one is.
    let mut echo = client.0.prepare("SELECT ? AS a".to_owned(), None).await.unwrap();
    let texts: ArrayRef = Arc::new(StringArray::from(vec![Some("b"), None, Some("c")]));
    echo.set_parameters(RecordBatch::try_from_iter_with_nullable([("a", texts, true)]).unwrap()).unwrap();
    let info = echo.execute().await.unwrap();
    let (schema, batches) = client.fetch(info).await.unwrap();
    assert_eq!(render(&schema, &batches).rows(), cells(&[&["b"], &["NULL"], &["c"]]));
    // Lists are of one kind for all drivers.
    let lists = LargeListArray::from_iter_primitive::<Int64Type, _, _>([Some([Some(1), None])]);
    echo.set_parameters(RecordBatch::try_from_iter([("a", Arc::new(lists) as ArrayRef)]).unwrap()).unwrap();
    let info = echo.execute().await.unwrap();
    let (schema, batches) = client.fetch(info).await.unwrap();
    assert_eq!(schema.field(0).data_type(), &DataType::new_list(DataType::Int64, true));
    assert_eq!(batches[0].column(0).as_list::<i32>().value(0).len(), 2);
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn no_rows_of_parameters_are_no_runs() {
    let server = Running::start(|_| {}).await;
    let mut client = server.connect().await;
    client.update("CREATE TABLE t (id BIGINT PRIMARY KEY)").await;
    client.update("INSERT INTO t VALUES (1)").await;
    let mut delete = client.0.prepare("DELETE FROM t WHERE id = ?".to_owned(), None).await.unwrap();
    let unbound = status(delete.execute_update().await.unwrap_err());
    assert!(unbound.message().contains("the statement has 1 parameter, none were given"), "{unbound}");
    delete.set_parameters(numbers([])).unwrap();
    assert_eq!(delete.execute_update().await.unwrap(), 0);
    assert_eq!(delete.execute().await.unwrap().total_records, 0);
    let mut select = client.0.prepare("SELECT id FROM t WHERE id = ?".to_owned(), None).await.unwrap();
    select.set_parameters(numbers([])).unwrap();
    let info = select.execute().await.unwrap();
    let (schema, batches) = client.fetch(info).await.unwrap();
    assert_eq!(schema.fields().len(), 1);
    assert!(render(&schema, &batches).rows().is_empty());
    assert_eq!(client.rows("SELECT * FROM t").await, cells(&[&["1"]]));
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn values_may_tell_what_a_statement_means() {
    let server = Running::start(|_| {}).await;
    let mut client = server.connect().await;
    client.update("CREATE TABLE t (id BIGINT PRIMARY KEY)").await;
    client.update("INSERT INTO t VALUES (1), (2), (3)").await;
    let sql = "SELECT id FROM t WHERE id = ANY(?) ORDER BY id";
    let mut any = client.0.prepare(sql.to_owned(), None).await.unwrap();
    let ids = ListArray::from_iter_primitive::<Int64Type, _, _>([Some(vec![Some(1), Some(3)])]);
    any.set_parameters(RecordBatch::try_from_iter([("1", Arc::new(ids) as ArrayRef)]).unwrap()).unwrap();
    let info = any.execute().await.unwrap();
    let (schema, batches) = client.fetch(info).await.unwrap();
    assert_eq!(render(&schema, &batches).rows(), cells(&[&["1"], &["3"]]));
    let mut explain = client.0.prepare("EXPLAIN SELECT id FROM t WHERE id=?".to_owned(), None).await.unwrap();
    explain.set_parameters(numbers([2])).unwrap();
    let info = explain.execute().await.unwrap();
    assert!(!client.fetch(info).await.unwrap().1.is_empty());
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn searches_are_prepared_with_their_vector() {
    let server = Running::start(|_| {}).await;
    let mut client = server.connect().await;
    client.update("CREATE TABLE t (id INTEGER PRIMARY KEY, e VECTOR(2))").await;
    client.update("INSERT INTO t VALUES (1, '[1,0]'), (2, '[0,1]'), (3, '[0,3]')").await;
    let sql = "SELECT id, _distance FROM vector_search('t', 'e', ?, k => ?, filter => ?)";
    let mut search = client.0.prepare(sql.to_owned(), None).await.unwrap();
    let vector = DataType::FixedSizeList(Arc::new(Field::new("item", DataType::Float32, true)), 2);
    let schema = search.parameter_schema().unwrap();
    let types: Vec<&DataType> = schema.fields().iter().map(|field| field.data_type()).collect();
    assert_eq!(types, [&vector, &DataType::Int64, &DataType::Utf8]);
    assert_eq!(search.dataset_schema().unwrap().fields().len(), 2);
    let one = [Some(vec![Some(0.0), Some(2.0)])];
    let vectors: [ArrayRef; 4] = [
        Arc::new(ListArray::from_iter_primitive::<Float32Type, _, _>(one.clone())),
        Arc::new(ListArray::from_iter_primitive::<Float64Type, _, _>([Some(vec![Some(0.0), Some(2.0)])])),
        Arc::new(FixedSizeListArray::from_iter_primitive::<Float32Type, _, _>(one, 2)),
        Arc::new(StringArray::from(vec!["[0, 2]"])),
    ];
    for vector in vectors {
        let given = vector.data_type().clone();
        let row = RecordBatch::try_from_iter([
            ("1", vector),
            ("2", Arc::new(Int64Array::from(vec![1])) as ArrayRef),
            ("3", Arc::new(StringArray::from(vec!["id < 3"])) as ArrayRef),
        ]);
        search.set_parameters(row.unwrap()).unwrap();
        let info = search.execute().await.unwrap_or_else(|error| panic!("{given}: {error}"));
        let (schema, batches) = client.fetch(info).await.unwrap();
        assert_eq!(render(&schema, &batches).rows(), cells(&[&["2", "1.0"]]), "{given}");
    }
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn many_parameter_rows_are_one_commit_or_none() {
    let server = Running::start(|_| {}).await;
    let mut client = server.connect().await;
    client.update("CREATE TABLE t (id BIGINT PRIMARY KEY)").await;
    let before = server.engine.database().snapshot().version().0;
    let mut insert = client.0.prepare("INSERT INTO t VALUES ($1)".to_owned(), None).await.unwrap();
    insert.set_parameters(numbers(0..100)).unwrap();
    assert_eq!(insert.execute_update().await.unwrap(), 100);
    assert_eq!(server.engine.database().snapshot().version().0, before + 1);
    insert.set_parameters(numbers([200, 201, 7, 202])).unwrap();
    assert_eq!(status(insert.execute_update().await.unwrap_err()).code(), Code::AlreadyExists);
    assert_eq!(client.rows("SELECT count(*) FROM t").await, cells(&[&["100"]]));
    // Two rows of the same key are no commit either, and what is more than plain values is done row by row.
    insert.set_parameters(numbers([400, 400])).unwrap();
    assert_eq!(status(insert.execute_update().await.unwrap_err()).code(), Code::AlreadyExists);
    let sql = "INSERT INTO t VALUES ($1) ON CONFLICT (id) DO NOTHING";
    let mut skip = client.0.prepare(sql.to_owned(), None).await.unwrap();
    skip.set_parameters(numbers([99, 100, 100])).unwrap();
    assert_eq!(skip.execute_update().await.unwrap(), 1);
    let mut delete = client.0.prepare("DELETE FROM t WHERE id = $1".to_owned(), None).await.unwrap();
    delete.set_parameters(numbers([100, 100, 500])).unwrap();
    assert_eq!(delete.execute_update().await.unwrap(), 1);
    // Within a transaction the rows before stay.
    let transaction = client.0.begin_transaction().await.unwrap();
    let mut insert =
        client.0.prepare("INSERT INTO t VALUES ($1)".to_owned(), Some(transaction.clone())).await.unwrap();
    insert.set_parameters(numbers([300, 301])).unwrap();
    assert_eq!(insert.execute_update().await.unwrap(), 2);
    insert.set_parameters(numbers([302, 7])).unwrap();
    insert.execute_update().await.unwrap_err();
    client.0.end_transaction(transaction, EndTransaction::Commit).await.unwrap();
    assert_eq!(client.rows("SELECT count(*), max(id) FROM t").await, cells(&[&["102", "301"]]));
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn many_parameter_rows_return_theirs() {
    let server = Running::start(|_| {}).await;
    let mut client = server.connect().await;
    client.update("CREATE TABLE t (id BIGINT PRIMARY KEY, n INT DEFAULT 5)").await;
    let before = server.engine.database().snapshot().version().0;
    let mut insert =
        client.0.prepare("INSERT INTO t (id) VALUES ($1) RETURNING id, n".to_owned(), None).await.unwrap();
    insert.set_parameters(numbers([1, 2, 3])).unwrap();
    let info = insert.execute().await.unwrap();
    let (schema, batches) = client.fetch(info).await.unwrap();
    assert_eq!(render(&schema, &batches).rows(), cells(&[&["1", "5"], &["2", "5"], &["3", "5"]]));
    assert_eq!(server.engine.database().snapshot().version().0, before + 1);
    // All or none.
    insert.set_parameters(numbers([7, 1])).unwrap();
    assert_eq!(status(insert.execute().await.unwrap_err()).code(), Code::AlreadyExists);
    // As an update it tells how many.
    insert.set_parameters(numbers([4, 5])).unwrap();
    assert_eq!(insert.execute_update().await.unwrap(), 2);
    let returning = "UPDATE t SET n = n + 1 WHERE id > $1 RETURNING id, n";
    let mut update = client.0.prepare(returning.to_owned(), None).await.unwrap();
    update.set_parameters(numbers([4, 9, 4])).unwrap();
    let info = update.execute().await.unwrap();
    let (schema, batches) = client.fetch(info).await.unwrap();
    assert_eq!(render(&schema, &batches).rows(), cells(&[&["5", "6"], &["5", "7"]]));
    // Row ids are the commit's to give; those of deleted rows are known.
    let mut ids = client
        .0
        .prepare("UPDATE t SET n = 0 WHERE id = $1 RETURNING _row_id".to_owned(), None)
        .await
        .unwrap();
    ids.set_parameters(numbers([1, 2])).unwrap();
    assert!(status(ids.execute().await.unwrap_err()).message().contains("_row_id"));
    let mut delete = client
        .0
        .prepare("DELETE FROM t WHERE id = $1 RETURNING id, _row_id IS NOT NULL".to_owned(), None)
        .await
        .unwrap();
    delete.set_parameters(numbers([1, 9, 2])).unwrap();
    let info = delete.execute().await.unwrap();
    let (schema, batches) = client.fetch(info).await.unwrap();
    assert_eq!(render(&schema, &batches).rows(), cells(&[&["1", "true"], &["2", "true"]]));
    // In a transaction of the client they are its part.
    let transaction = client.0.begin_transaction().await.unwrap();
    let sql = "INSERT INTO t VALUES ($1, 0) RETURNING id".to_owned();
    let mut insert = client.0.prepare(sql, Some(transaction.clone())).await.unwrap();
    insert.set_parameters(numbers([20, 21])).unwrap();
    let info = insert.execute().await.unwrap();
    let (schema, batches) = client.fetch(info).await.unwrap();
    assert_eq!(render(&schema, &batches).rows(), cells(&[&["20"], &["21"]]));
    client.0.end_transaction(transaction, EndTransaction::Rollback).await.unwrap();
    assert_eq!(
        client.rows("SELECT id, n FROM t ORDER BY id").await,
        cells(&[&["3", "5"], &["4", "5"], &["5", "7"]])
    );
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn transactions_are_isolated_and_the_first_to_commit_wins() {
    let server = Running::start(|_| {}).await;
    let (mut one, mut two) = (server.connect().await, server.connect().await);
    one.update("CREATE TABLE t (id BIGINT PRIMARY KEY, n BIGINT)").await;
    one.update("INSERT INTO t VALUES (1, 0)").await;
    let (a, b) = (one.0.begin_transaction().await.unwrap(), two.0.begin_transaction().await.unwrap());
    let update = "UPDATE t SET n = n + 1 WHERE id = 1".to_owned();
    assert_eq!(one.0.execute_update(update.clone(), Some(a.clone())).await.unwrap(), 1);
    assert_eq!(one.rows("SELECT n FROM t").await, cells(&[&["0"]]), "outside of the transaction");
    let info = one.0.execute("SELECT n FROM t".to_owned(), Some(a.clone())).await.unwrap();
    let (schema, batches) = one.fetch(info).await.unwrap();
    assert_eq!(render(&schema, &batches).rows(), cells(&[&["1"]]), "within");
    two.0.execute_update(update, Some(b.clone())).await.unwrap();
    one.0.end_transaction(a.clone(), EndTransaction::Commit).await.unwrap();
    let lost = two.0.end_transaction(b, EndTransaction::Commit).await.unwrap_err();
    assert_eq!(status(lost).code(), Code::Aborted);
    assert_eq!(two.rows("SELECT n FROM t").await, cells(&[&["1"]]));
    let gone = one.0.execute("SELECT 1".to_owned(), Some(a)).await.unwrap_err();
    assert_eq!(status(gone).code(), Code::NotFound);

    // What a call began, a call ends.
    let rolled = one.0.begin_transaction().await.unwrap();
    for sql in ["COMMIT", "ROLLBACK"] {
        let refused = one.0.execute_update(sql.to_owned(), Some(rolled.clone())).await.unwrap_err();
        let refused = status(refused);
        assert_eq!(refused.metadata().get("cairn-sqlstate").unwrap(), "25000", "{refused}");
    }
    one.0.execute_update("SAVEPOINT here".to_owned(), Some(rolled.clone())).await.unwrap();
    one.0.execute_update("ROLLBACK TO SAVEPOINT here".to_owned(), Some(rolled.clone())).await.unwrap();
    one.0.execute_update("DELETE FROM t".to_owned(), Some(rolled.clone())).await.unwrap();
    one.0.end_transaction(rolled, EndTransaction::Rollback).await.unwrap();
    assert_eq!(one.rows("SELECT count(*) FROM t").await, cells(&[&["1"]]));
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_plain_begin_belongs_to_the_connection() {
    let server = Running::start(|_| {}).await;
    let (mut one, mut two) = (server.connect().await, server.connect().await);
    one.update("CREATE TABLE t (n BIGINT)").await;
    one.update("BEGIN").await;
    one.update("INSERT INTO t VALUES (1)").await;
    assert_eq!(one.rows("SELECT count(*) FROM t").await, cells(&[&["1"]]));
    assert_eq!(two.rows("SELECT count(*) FROM t").await, cells(&[&["0"]]));
    one.update("COMMIT").await;
    assert_eq!(two.rows("SELECT count(*) FROM t").await, cells(&[&["1"]]));
    // Settings are the connection's as well.
    one.update("SET statement_timeout = '7s'").await;
    assert_eq!(one.rows("SHOW statement_timeout").await, cells(&[&["7 s"]]));
    assert_ne!(two.rows("SHOW statement_timeout").await, cells(&[&["7 s"]]));
    // A connection that goes away rolls back: its key is free again.
    one.update("CREATE TABLE k (id BIGINT PRIMARY KEY)").await;
    two.update("BEGIN").await;
    two.update("INSERT INTO k VALUES (1)").await;
    drop(two);
    one.update("INSERT INTO k VALUES (1)").await;
    assert_eq!(one.rows("SELECT count(*) FROM k").await, cells(&[&["1"]]));
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn rows_are_stored_in_every_mode() {
    use TableExistsOption as Exists;
    use TableNotExistOption as Missing;
    let server = Running::start(|_| {}).await;
    let mut client = server.connect().await;
    let rows = || vec![numbers(0..10), numbers(10..15)];
    let create = (Missing::Create, Exists::Fail);
    assert_eq!(client.ingest("t", create, rows(), None).await.unwrap(), 15);
    assert_eq!(client.ingest("t", create, rows(), None).await.unwrap_err().code(), Code::AlreadyExists);
    let append = (Missing::Fail, Exists::Append);
    assert_eq!(client.ingest("nowhere", append, rows(), None).await.unwrap_err().code(), Code::NotFound);
    assert_eq!(client.ingest("t", append, rows(), None).await.unwrap(), 15);
    assert_eq!(client.rows("SELECT count(*), max(n) FROM t").await, cells(&[&["30", "14"]]));
    let replace = (Missing::Create, Exists::Replace);
    assert_eq!(client.ingest("t", replace, vec![numbers([7])], None).await.unwrap(), 1);
    assert_eq!(client.rows("SELECT n FROM t").await, cells(&[&["7"]]));
    let either = (Missing::Create, Exists::Append);
    assert_eq!(client.ingest("u", either, vec![numbers([1])], None).await.unwrap(), 1);
    assert_eq!(client.ingest("u", either, vec![numbers([2])], None).await.unwrap(), 1);
    assert_eq!(client.rows("SELECT n FROM u").await, cells(&[&["1"], &["2"]]), "in the order they came");

    // Columns are found by name, others get their default; what does not fit changes nothing.
    client.update("CREATE TABLE d (s TEXT DEFAULT 'new', n INTEGER)").await;
    client.ingest("d", append, vec![numbers([1])], None).await.unwrap();
    assert_eq!(client.rows("SELECT * FROM d").await, cells(&[&["new", "1"]]));
    let large = client.ingest("d", append, vec![numbers([2]), numbers([1 << 40])], None).await;
    assert_eq!(large.unwrap_err().code(), Code::InvalidArgument);
    assert_eq!(client.rows("SELECT count(*) FROM d").await, cells(&[&["1"]]));

    // In a transaction.
    let transaction = client.0.begin_transaction().await.unwrap();
    client.ingest("w", create, rows(), Some(transaction.clone())).await.unwrap();
    assert_eq!(client.fails("SELECT * FROM w").await.code(), Code::NotFound);
    client.0.end_transaction(transaction, EndTransaction::Commit).await.unwrap();
    assert_eq!(client.rows("SELECT count(*) FROM w").await, cells(&[&["15"]]));
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn rows_too_many_for_the_log_are_stored_too() {
    let server = Running::start(|_| {}).await;
    let mut client = server.connect().await;
    let batches: Vec<RecordBatch> = (0..60).map(|i| numbers(i * 20_000..(i + 1) * 20_000)).collect();
    let create = (TableNotExistOption::Create, TableExistsOption::Fail);
    assert_eq!(client.ingest("t", create, batches, None).await.unwrap(), 1_200_000);
    assert_eq!(
        client.rows("SELECT count(*), min(n), max(n), sum(n) FROM t").await,
        cells(&[&["1200000", "0", "1199999", "719999400000"]])
    );
    // And come back, in batches every client takes.
    let info = client.info("SELECT n, CAST(n AS TEXT) AS s FROM t").await;
    let (_, batches) = client.fetch(info).await.unwrap();
    assert_eq!(batches.iter().map(RecordBatch::num_rows).sum::<usize>(), 1_200_000);
    assert!(batches.iter().all(|batch| batch.get_array_memory_size() < 4 << 20));
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_database_can_be_browsed() {
    let server = Running::start(|_| {}).await;
    let mut client = server.connect().await;
    client.update("CREATE TABLE t (b TEXT, a BIGINT, PRIMARY KEY (a, b))").await;
    client.update("CREATE SCHEMA app").await;
    let columns = "d DECIMAL(9,2) NOT NULL, v VECTOR(2), n INT GENERATED ALWAYS AS IDENTITY";
    client.update(&format!("CREATE TABLE app.\"T_x\" ({columns})")).await;
    client.update("CREATE VIEW app.w AS SELECT a + 1 AS c, b FROM t").await;

    let info = client.0.get_catalogs().await.unwrap();
    let (schema, batches) = client.fetch(info).await.unwrap();
    assert_eq!(render(&schema, &batches).rows(), cells(&[&["cairn"]]));
    let info = client.0.get_db_schemas(CommandGetDbSchemas::default()).await.unwrap();
    let (schema, batches) = client.fetch(info).await.unwrap();
    assert_eq!(
        render(&schema, &batches).rows(),
        cells(&[
            &["cairn", "app"],
            &["cairn", "information_schema"],
            &["cairn", "public"],
            &["cairn", "system"]
        ])
    );
    let info = client.0.get_table_types().await.unwrap();
    let (schema, batches) = client.fetch(info).await.unwrap();
    assert_eq!(render(&schema, &batches).rows(), cells(&[&["SYSTEM TABLE"], &["TABLE"], &["VIEW"]]));

    let tables = |command: CommandGetTables| {
        let mut client = client.clone();
        async move {
            let info = client.0.get_tables(command).await.unwrap();
            client.fetch(info).await.unwrap()
        }
    };
    let own = vec!["TABLE".to_owned(), "VIEW".to_owned()];
    let (schema, batches) =
        tables(CommandGetTables { table_types: own.clone(), ..CommandGetTables::default() }).await;
    assert_eq!(
        render(&schema, &batches).rows(),
        cells(&[
            &["cairn", "app", "T_x", "TABLE"],
            &["cairn", "app", "w", "VIEW"],
            &["cairn", "public", "t", "TABLE"]
        ])
    );
    let (_, batches) = tables(CommandGetTables {
        db_schema_filter_pattern: Some("a%".to_owned()),
        include_schema: true,
        ..CommandGetTables::default()
    })
    .await;
    let schemas = batches[0].column(4).as_binary::<i32>();
    let decoded = |row: usize| {
        let message = IpcMessage(bytes::Bytes::copy_from_slice(schemas.value(row)));
        Schema::try_from(message).unwrap()
    };
    let table = decoded(0);
    assert_eq!(table.field(0).data_type(), &DataType::Decimal128(9, 2));
    assert!(!table.field(0).is_nullable());
    assert_eq!(table.field(0).metadata()["ARROW:FLIGHT:SQL:TYPE_NAME"], "DECIMAL(9,2)");
    assert_eq!(table.field(1).metadata()["ARROW:FLIGHT:SQL:TYPE_NAME"], "VECTOR(2)");
    let counts_up = |schema: &Schema| -> Vec<Option<String>> {
        let key = "ARROW:FLIGHT:SQL:IS_AUTO_INCREMENT";
        schema.fields().iter().map(|field| field.metadata().get(key).cloned()).collect()
    };
    assert_eq!(counts_up(&table), ["0", "0", "1"].map(|text| Some(text.to_owned())));
    let view = decoded(1);
    assert_eq!(counts_up(&view), [None::<String>, None]);
    assert_eq!(view.field(0).data_type(), &DataType::Int64);
    assert_eq!(view.field(1).data_type(), &DataType::Utf8);
    // Everything at once, system tables and information_schema included.
    let (_, batches) = tables(CommandGetTables { include_schema: true, ..CommandGetTables::default() }).await;
    assert!(batches.iter().map(RecordBatch::num_rows).sum::<usize>() > 15);

    let keys = CommandGetPrimaryKeys { table: "t".to_owned(), ..CommandGetPrimaryKeys::default() };
    let info = client.0.get_primary_keys(keys).await.unwrap();
    let (schema, batches) = client.fetch(info).await.unwrap();
    assert_eq!(
        render(&schema, &batches).rows(),
        cells(&[&["cairn", "public", "t", "a", "1", "NULL"], &["cairn", "public", "t", "b", "2", "NULL"]])
    );
    let info = client.0.get_sql_info(vec![SqlInfo::FlightSqlServerName]).await.unwrap();
    let (_, batches) = client.fetch(info).await.unwrap();
    assert_eq!(batches[0].num_rows(), 1);
    let info = client.0.get_sql_info(vec![]).await.unwrap();
    let (_, batches) = client.fetch(info).await.unwrap();
    assert!(batches[0].num_rows() > 70, "{}", batches[0].num_rows());
    let info = client.0.get_xdbc_type_info(CommandGetXdbcTypeInfo { data_type: Some(4) }).await.unwrap();
    let (_, batches) = client.fetch(info).await.unwrap();
    assert_eq!(batches[0].column(0).as_string::<i32>().value(0), "INTEGER");
    assert_eq!(batches[0].column(1).as_primitive::<Int32Type>().value(0), 4);
    let counts_up = batches[0].column_by_name("auto_increment").unwrap().as_boolean();
    assert!(counts_up.is_valid(0) && counts_up.value(0));
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn schemas_are_told_without_running_anything() {
    let server = Running::start(|_| {}).await;
    let mut client = server.connect().await;
    client.update("CREATE TABLE t (n BIGINT NOT NULL, s TEXT)").await;
    for (sql, columns) in [
        ("SELECT n, s FROM t", vec!["n", "s"]),
        ("INSERT INTO t VALUES (1, 'a')", vec![]),
        ("DELETE FROM t RETURNING n", vec!["n"]),
    ] {
        let command = CommandStatementQuery { query: sql.to_owned(), transaction_id: None };
        let descriptor = FlightDescriptor::new_cmd(prost::Message::encode_to_vec(&command.as_any()));
        let told = client.0.inner_mut().get_schema(descriptor).await.unwrap().into_inner();
        let told = Schema::try_from(told).unwrap();
        let names: Vec<&str> = told.fields().iter().map(|f| f.name().as_str()).collect();
        assert_eq!(names, columns, "{sql}");
        if sql.starts_with("SELECT") {
            let info = client.info(sql).await;
            assert_eq!(info.try_decode_schema().unwrap(), told);
        }
    }
    assert_eq!(client.rows("SELECT count(*) FROM t").await, cells(&[&["0"]]));
    let command = CommandStatementQuery { query: "SELECT 1".to_owned(), transaction_id: None };
    let descriptor = FlightDescriptor::new_cmd(prost::Message::encode_to_vec(&command.as_any()));
    let poll = client.0.inner_mut().poll_flight_info(descriptor).await.unwrap().into_inner();
    assert_eq!(poll.progress, Some(1.0));
    let (schema, batches) = client.fetch(poll.info.unwrap()).await.unwrap();
    assert_eq!(render(&schema, &batches).rows(), cells(&[&["1"]]));
    server.stop().await;
}

/// Never ends by itself.
const ENDLESS: &str =
    "SELECT a.value FROM range(100) a CROSS JOIN range(1000000000000) b WHERE a.value + b.value < 0";

#[tokio::test(flavor = "multi_thread")]
async fn statements_end_when_they_are_cancelled() {
    let server = Running::start(|_| {}).await;
    let mut client = server.connect().await;
    let info = client.info(ENDLESS).await;
    // From here on they are being fetched.
    let rows = client.0.do_get(info.endpoint[0].ticket.clone().unwrap()).await.unwrap();
    tokio::time::sleep(Duration::from_millis(300)).await;
    let started = Instant::now();
    let request = prost::Message::encode_to_vec(&CancelFlightInfoRequest::new(info.clone()));
    client.0.do_action(Action::new("CancelFlightInfo", request.clone())).await.unwrap();
    let ended = rows.try_collect::<Vec<RecordBatch>>().await.unwrap_err();
    assert_eq!(status(ended).code(), Code::Cancelled);
    println!("cancelled within {:?}", started.elapsed());
    assert!(started.elapsed() < SOON, "{:?}", started.elapsed());
    let again = client.0.do_action(Action::new("CancelFlightInfo", request)).await.map(|_| ());
    assert_eq!(status(again.unwrap_err()).code(), Code::NotFound);
    // One that waits goes at once; a client that goes away ends its statement.
    let waiting = client.info("SELECT 1").await;
    let request = prost::Message::encode_to_vec(&CancelFlightInfoRequest::new(waiting.clone()));
    client.0.do_action(Action::new("CancelFlightInfo", request)).await.unwrap();
    assert_eq!(client.fetch(waiting).await.unwrap_err().code(), Code::NotFound);
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn results_and_sessions_do_not_wait_for_ever() {
    let server = Running::start(|options| {
        options.result_wait_max = Duration::from_millis(500);
        options.session_idle_max = Duration::from_millis(500);
    })
    .await;
    let mut client = server.connect().await;
    // On a machine that is busy, what is late goes later.
    let waits = || [3, 6, 12, 24, 48].map(Duration::from_secs).into_iter();
    let mut gone = None;
    for wait in waits() {
        let info = client.info("SELECT 1").await;
        tokio::time::sleep(wait).await;
        gone = client.fetch(info).await.err();
        if gone.is_some() {
            break;
        }
    }
    assert_eq!(gone.expect("a result waits for ever").code(), Code::NotFound);
    // An idle session ends, with its transaction; the connection gets a new one.
    let mut gone = None;
    for wait in waits() {
        let transaction = client.0.begin_transaction().await.unwrap();
        tokio::time::sleep(wait).await;
        gone = client.0.execute("SELECT 1".to_owned(), Some(transaction)).await.err();
        if gone.is_some() {
            break;
        }
    }
    assert_eq!(status(gone.expect("a session waits for ever")).code(), Code::NotFound);
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_session_keeps_so_many_results_and_prepared_statements() {
    let server = Running::start(|options| {
        options.results_max = 3;
        options.prepared_max = 2;
    })
    .await;
    let mut client = server.connect().await;
    // The fourth takes the place of the first.
    let oldest = client.info("SELECT 1").await;
    let second = client.info("SELECT 1").await;
    client.info("SELECT 1").await;
    client.info("SELECT 1").await;
    assert_eq!(client.fetch(oldest).await.unwrap_err().code(), Code::NotFound);
    client.fetch(second).await.unwrap();
    for expected in [None, None, Some(Code::ResourceExhausted)] {
        let request =
            ActionCreatePreparedStatementRequest { query: "SELECT 1".to_owned(), transaction_id: None };
        let body = prost::Message::encode_to_vec(&request.as_any());
        let made = client.0.do_action(Action::new("CreatePreparedStatement", body)).await.map(|_| ());
        assert_eq!(made.err().map(|error| status(error).code()), expected);
    }
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_session_follows_its_cookie_and_its_token() {
    let server = Running::start(|_| {}).await;
    let mut one = server.connect().await;
    one.update("SET statement_timeout = '7s'").await;
    // The token's session, from two connections.
    let token = one.0.handshake("anna", "any").await.unwrap();
    assert_eq!(token, one.0.token().unwrap().as_bytes());
    one.update("SET statement_timeout = '8s'").await;
    let mut two = server.connect().await;
    assert_ne!(two.rows("SHOW statement_timeout").await, cells(&[&["8 s"]]));
    two.0.set_token(one.0.token().unwrap().clone());
    assert_eq!(two.rows("SHOW statement_timeout").await, cells(&[&["8 s"]]));
    assert_eq!(two.rows("SELECT current_user").await, cells(&[&["anna"]]));
    // It ends for both.
    two.0.do_action(Action::new("CloseSession", "")).await.unwrap();
    assert_eq!(one.fails("SELECT 1").await.code(), Code::Unauthenticated);
    one.0.clear_token();
    assert_eq!(one.rows("SHOW statement_timeout").await, cells(&[&["7 s"]]));

    let mut plain = server.connect().await;
    let answer = plain.0.inner_mut().list_actions(arrow_flight::Empty {}).await.unwrap();
    let cookie = answer.metadata().get("set-cookie").unwrap().to_str().unwrap();
    let cookie = cookie.split(';').next().unwrap().to_owned();
    let actions: Vec<_> = answer.into_inner().map(|action| action.unwrap().r#type).collect().await;
    assert!(actions.iter().any(|action| action == "CancelFlightInfo"), "{actions:?}");
    plain.0.set_header("cookie", &cookie);
    plain.update("SET statement_timeout = '9s'").await;
    drop(plain);
    let mut later = server.connect().await;
    later.0.set_header("cookie", &cookie);
    assert_eq!(later.rows("SHOW statement_timeout").await, cells(&[&["9 s"]]));
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn stopping_lets_running_statements_end() {
    let server = Running::start(|options| options.drain_max = SOON).await;
    let mut client = server.connect().await;
    client.update("CREATE TABLE t (n BIGINT)").await;
    let info = client.info("SELECT value FROM range(300000)").await;
    let ticket = info.endpoint[0].ticket.clone().unwrap();
    let mut rows = client.0.do_get(ticket).await.unwrap();
    let first = rows.next().await.unwrap().unwrap().num_rows();
    let started = Instant::now();
    let (fetched, ()) = tokio::join!(
        async {
            let batches: Vec<RecordBatch> = rows.try_collect().await.unwrap();
            drop(client);
            batches.iter().map(RecordBatch::num_rows).sum::<usize>()
        },
        server.stop()
    );
    assert_eq!(first + fetched, 300_000);
    assert!(started.elapsed() < SOON, "it waits for nothing else");
}

#[tokio::test]
async fn others_are_let_in_only_on_purpose() {
    let engine = Engine::open(Root::parse(":memory:").unwrap(), EngineOptions::default()).await.unwrap();
    let open = |insecure| {
        let options = ServerOptions {
            flight: Some("0.0.0.0:0".parse().unwrap()),
            http: None,
            insecure,
            ..ServerOptions::default()
        };
        Server::bind(Arc::clone(&engine), options)
    };
    let refused = open(false).await.unwrap_err();
    assert_eq!(refused.sqlstate(), "28000");
    open(true).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_schema_of_moments_keeps_its_zone() {
    let server = Running::start(|_| {}).await;
    let mut client = server.connect().await;
    let moments = TimestampMicrosecondArray::from(vec![Some(0), None]).with_timezone("Europe/Berlin");
    let batch = RecordBatch::try_from_iter([("at", Arc::new(moments) as ArrayRef)]).unwrap();
    let create = (TableNotExistOption::Create, TableExistsOption::Fail);
    client.ingest("m", create, vec![batch.clone()], None).await.unwrap();
    let info = client.info("SELECT at FROM m").await;
    let (schema, batches) = client.fetch(info).await.unwrap();
    assert_eq!(schema.field(0).data_type(), batch.schema().field(0).data_type());
    assert_eq!(batches[0].column(0), batch.column(0));
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn with_users_nobody_is_let_in_without_a_password() {
    let server = Running::start(|_| {}).await;
    let mut before = server.connect().await;
    before.update("CREATE TABLE t (n BIGINT)").await;
    before.update("CREATE TABLE other (n BIGINT)").await;
    before.update("INSERT INTO t VALUES (1)").await;
    before.update("CREATE USER anna PASSWORD 'correct horse'").await;
    // Whoever came in without a name is out.
    assert_eq!(before.fails("SELECT 1").await.code(), Code::Unauthenticated);
    let owner = server.engine.session();
    owner.execute("GRANT SELECT ON t TO anna", None).await.unwrap();

    let mut anna = server.connect().await;
    assert_eq!(anna.fails("SELECT 1").await.code(), Code::Unauthenticated);
    anna.0.handshake("anna", "wrong").await.unwrap_err();
    anna.0.handshake("nobody", "correct horse").await.unwrap_err();
    anna.0.handshake("anna", "correct horse").await.unwrap();
    assert_eq!(anna.rows("SELECT n, current_user FROM t").await, cells(&[&["1", "anna"]]));
    assert_eq!(anna.fails("SELECT * FROM other").await.code(), Code::PermissionDenied);
    assert_eq!(anna.fails("INSERT INTO t VALUES (2)").await.code(), Code::PermissionDenied);
    let append = (TableNotExistOption::Fail, TableExistsOption::Append);
    let refused = anna.ingest("t", append, vec![numbers([2])], None).await.unwrap_err();
    assert_eq!(refused.code(), Code::PermissionDenied);
    let replace = (TableNotExistOption::Create, TableExistsOption::Replace);
    let refused = anna.ingest("other", replace, vec![numbers([2])], None).await.unwrap_err();
    assert_eq!(refused.code(), Code::PermissionDenied);
    assert!(anna.0.prepare("DELETE FROM t".to_owned(), None).await.is_err());
    let own = CommandGetTables { table_types: vec!["TABLE".to_owned()], ..CommandGetTables::default() };
    let info = anna.0.get_tables(own).await.unwrap();
    let (schema, batches) = anna.fetch(info).await.unwrap();
    assert_eq!(render(&schema, &batches).rows(), cells(&[&["cairn", "public", "t", "TABLE"]]));
    let file = anna.fails("COPY t TO '/tmp/stolen.csv'").await;
    assert_eq!(file.code(), Code::PermissionDenied, "{file}");

    let mut wrong_token = server.connect().await;
    wrong_token.0.set_token("made-up".to_owned());
    assert_eq!(wrong_token.fails("SELECT 1").await.code(), Code::Unauthenticated);
    // Guessing gets slower; the right password does too.
    let mut guesser = server.connect().await;
    for _ in 0..6 {
        guesser.0.handshake("anna", "guess").await.unwrap_err();
    }
    let slowed = guesser.0.handshake("anna", "correct horse").await.unwrap_err();
    assert!(slowed.to_string().contains("too many wrong passwords"), "{slowed}");
    assert_eq!(anna.rows("SELECT count(*) FROM t").await, cells(&[&["1"]]), "who is in stays in");
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn clients_touch_files_of_one_directory_only() {
    let directory = tempfile::tempdir().unwrap();
    let root = directory.path().join("shared");
    std::fs::create_dir(&root).unwrap();
    std::fs::write(directory.path().join("secret.csv"), "a\n1\n").unwrap();
    for not_there in ["nothing", "secret.csv"] {
        let engine = Engine::open(Root::parse(":memory:").unwrap(), EngineOptions::default()).await.unwrap();
        let mut options = ServerOptions { flight: None, http: None, ..ServerOptions::default() };
        options.limits.copy_root = Some(directory.path().join(not_there));
        let error = Server::bind(engine, options).await.unwrap_err();
        assert!(error.message().contains("copy_root"), "{}", error.message());
    }
    let server = Running::start(|options| options.limits.copy_root = Some(root.clone())).await;
    let mut client = server.connect().await;
    client.update("CREATE TABLE t (a BIGINT)").await;
    client.update("INSERT INTO t VALUES (1)").await;
    client.update("COPY t TO 'out.csv'").await;
    assert!(root.join("out.csv").exists());
    assert_eq!(client.rows("SELECT count(*) FROM 'out.csv'").await, cells(&[&["1"]]));
    for sql in [
        format!("SELECT * FROM '{}'", directory.path().join("secret.csv").display()),
        "SELECT * FROM '../secret.csv'".to_owned(),
        "COPY t FROM '../secret.csv'".to_owned(),
    ] {
        assert_eq!(client.fails(&sql).await.code(), Code::PermissionDenied, "{sql}");
    }
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_statement_beyond_its_limits_ends_and_the_others_go_on() {
    let server = Running::start(|options| {
        // Time enough for the statements that end by themselves.
        options.limits.statement_timeout = Some(Duration::from_secs(3));
        options.limits.rows = Some(1_000);
    })
    .await;
    let mut client = server.connect().await;
    let info = client.info(ENDLESS).await;
    let started = Instant::now();
    assert_eq!(client.fetch(info).await.unwrap_err().code(), Code::ResourceExhausted);
    println!("ended after {:?}", started.elapsed());
    assert!(started.elapsed() < SOON, "{:?}", started.elapsed());
    let info = client.info("SELECT value FROM range(1001)").await;
    assert_eq!(client.fetch(info).await.unwrap_err().code(), Code::ResourceExhausted);
    assert_eq!(client.rows("SELECT count(*) FROM range(1001)").await, cells(&[&["1001"]]));
    server.stop().await;
}

fn with_http(options: &mut ServerOptions) {
    options.http = Some("127.0.0.1:0".parse().unwrap());
}

#[tokio::test(flavor = "multi_thread")]
async fn statements_wait_for_a_place() {
    let server = Running::start(|options| {
        with_http(options);
        options.queue.running_max = Some(1);
        options.queue.waiting_max = 1;
        options.queue.wait_max = Duration::from_secs(5);
    })
    .await;
    let (mut one, mut two, mut three) =
        (server.connect().await, server.connect().await, server.connect().await);
    one.update("CREATE TABLE t (n BIGINT)").await;
    let transaction = two.0.begin_transaction().await.unwrap();
    two.0.execute_update("INSERT INTO t VALUES (1)".to_owned(), Some(transaction.clone())).await.unwrap();

    let unread = one.info("SELECT count(*) FROM t").await;
    let started = Instant::now();
    let late = two.fails("SELECT 1").await;
    assert_eq!(late.code(), Code::ResourceExhausted, "{late}");
    assert_eq!(late.metadata().get("cairn-sqlstate").unwrap(), "53300");
    // Never before its time; how much later depends on the machine.
    assert!((4_900..60_000).contains(&started.elapsed().as_millis()), "{:?}", started.elapsed());
    // A transaction can be ended all the same.
    two.0.end_transaction(transaction, EndTransaction::Commit).await.unwrap();

    // One waits, the next finds no room, whatever way it comes; when the rows are read, the one that waits runs.
    let waiting = tokio::spawn(async move { two.rows("SELECT n FROM t").await });
    while server.metric("cairn_queue_waiting").await < 1.0 {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    let full = http_sql(server.http.unwrap(), serde_json::json!({"sql": "SELECT 1"})).await;
    assert_eq!((full.status, &full.json()["error"]["code"]), (429, &serde_json::json!("53300")));
    let append = (TableNotExistOption::Fail, TableExistsOption::Append);
    let refused = three.ingest("t", append, vec![numbers([2])], None).await.unwrap_err();
    assert_eq!(refused.code(), Code::ResourceExhausted, "{refused}");
    assert_eq!(server.metric("cairn_queue_running").await, 1.0);
    let (_, batches) = one.fetch(unread).await.unwrap();
    assert_eq!(batches[0].num_rows(), 1);
    assert_eq!(waiting.await.unwrap(), cells(&[&["1"]]));
    for (figure, value) in [
        ("cairn_queue_running", 0.0),
        ("cairn_queue_waiting", 0.0),
        ("cairn_queue_refused_total{reason=\"late\"}", 1.0),
        ("cairn_queue_refused_total{reason=\"full\"}", 2.0),
        ("cairn_queue_wait_duration_seconds_count", 1.0),
    ] {
        assert_eq!(server.metric(figure).await, value, "{figure}");
    }
    // A statement that is cancelled while it waits is forgotten; one that fails gives its place back.
    let unread = one.info("SELECT 1").await;
    assert!(
        tokio::time::timeout(Duration::from_millis(50), three.0.execute("SELECT 1".to_owned(), None))
            .await
            .is_err()
    );
    // The server hears of it on another connection than that of the rows.
    while server.metric("cairn_queue_waiting").await > 0.0 {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    drop(one.fetch(unread).await.unwrap());
    one.fails("SELECT nothing").await;
    assert_eq!(one.rows("SELECT count(*) FROM t").await, cells(&[&["1"]]));
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_session_is_told_how_far_its_statement_is() {
    let server = Running::start(|options| {
        options.queue.running_max = Some(1);
        options.queue.wait_max = SOON;
    })
    .await;
    let (mut client, other) = (server.connect().await, server.connect().await);
    let how_far = |client: &Client| {
        let mut client = client.clone();
        async move {
            let action = Action::new(PROGRESS_ACTION, ProgressReport::request(true));
            let mut results = client.0.do_action(action).await.unwrap();
            let result = results.message().await.unwrap();
            result.map(|result| ProgressReport::read(&result.body).unwrap())
        }
    };
    client.update("CREATE TABLE t (n BIGINT)").await;
    assert_eq!(how_far(&client).await, None);
    // It runs until its rows are read.
    let unread = client.info("INSERT INTO t SELECT value FROM range(1000) RETURNING n").await;
    let report = how_far(&client).await.unwrap();
    assert_eq!((report.waiting, report.rows), (false, 1_000));
    assert_eq!(how_far(&other).await, None);
    // The next one waits, and the question does not.
    let mut next = client.clone();
    let next = tokio::spawn(async move { next.rows("SELECT count(*) FROM t").await });
    while !how_far(&client).await.is_some_and(|report| report.waiting) {
        assert!(!next.is_finished(), "it did not wait");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    client.fetch(unread).await.unwrap();
    assert_eq!(next.await.unwrap(), cells(&[&["1000"]]));
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn everything_that_ends_is_counted() {
    let folder = tempfile::tempdir().unwrap();
    let audit = folder.path().join("audit.log");
    let server = Running::start(|options| {
        with_http(options);
        options.audit_log = Some(audit.clone());
    })
    .await;
    let mut client = server.connect().await;
    let create = (TableNotExistOption::Create, TableExistsOption::Fail);
    client.ingest("My t", create, vec![numbers([4711, 4712])], None).await.unwrap();
    client.ingest("My t", create, vec![numbers([4713])], None).await.unwrap_err();
    let mut insert = client.0.prepare("INSERT INTO \"My t\" VALUES ($1)".to_owned(), None).await.unwrap();
    insert.set_parameters(numbers(0..100)).unwrap();
    assert_eq!(insert.execute_update().await.unwrap(), 100);

    let lines = std::fs::read_to_string(&audit).unwrap();
    let lines: Vec<serde_json::Value> =
        lines.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    for line in &lines {
        // Not in the whole line: ports and moments may have any digits.
        let statement = line["statement"].as_str().unwrap();
        assert!(!statement.contains("471"), "{line}");
    }
    let told: Vec<_> = lines
        .iter()
        .filter(|line| line["kind"] != "transaction")
        .map(|line| {
            let text = |name: &str| line[name].as_str().unwrap().to_owned();
            (
                text("kind"),
                text("statement"),
                line["tables"].clone(),
                line["rows"].as_u64().unwrap(),
                text("outcome"),
            )
        })
        .collect();
    let told: Vec<_> = told.iter().map(|t| (t.0.as_str(), t.1.as_str(), t.3, t.4.as_str())).collect();
    assert_eq!(
        told,
        [
            ("copy", "INGEST INTO \"My t\"", 2, "ok"),
            ("copy", "INGEST INTO \"My t\"", 0, "42P07"),
            ("prepare", "INSERT INTO \"My t\" VALUES ($1)", 0, "ok"),
            ("insert", "INSERT INTO \"My t\" VALUES ($1)", 100, "ok"),
        ]
    );
    assert_eq!(lines[0]["tables"], serde_json::json!(["\"My t\""]));
    let statements = "cairn_statement_duration_seconds_count";
    assert_eq!(server.metric(&format!("{statements}{{kind=\"copy\",outcome=\"ok\"}}")).await, 1.0);
    assert_eq!(server.metric(&format!("{statements}{{kind=\"copy\",outcome=\"42\"}}")).await, 1.0);

    // A call that fails behind its first rows has failed; one whose client goes away was cancelled.
    let calls = |code: &str| format!("cairn_flight_requests_total{{method=\"DoGet\",code=\"{code}\"}}");
    let info = client.info("SELECT 10 / (200000 - value) FROM range(300000) WHERE value >= 0").await;
    assert_eq!(client.fetch(info).await.unwrap_err().code(), Code::InvalidArgument);
    assert_eq!(server.metric(&calls("INVALID_ARGUMENT")).await, 1.0);
    client.rows("SELECT 1").await;
    assert_eq!(server.metric(&calls("OK")).await, 1.0);
    let info = client.info("SELECT value, repeat('x', 100) FROM range(10000000)").await;
    let mut rows = client.0.do_get(info.endpoint[0].ticket.clone().unwrap()).await.unwrap();
    rows.next().await.unwrap().unwrap();
    drop(rows);
    let end = Instant::now() + SOON;
    while server.metric(&calls("CANCELLED")).await < 1.0 {
        assert!(Instant::now() < end, "a call that was dropped is not counted");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn passwords_stay_where_they_were_typed() {
    let folder = tempfile::tempdir().unwrap();
    let audit = folder.path().join("audit.log");
    let server = Running::start(|options| options.audit_log = Some(audit.clone())).await;
    let mut client = server.connect().await;
    let mut said = String::new();
    for sql in [
        "CREATE USER anna PASSWRD 'hunter2'",
        "CREATE USER anna PASSWORD 'hunter2",
        "CREATE USER anna PASSWORD 'hunter2' WITH (rows_limit = 'hunter2')",
        "CREATE USER anna PASSWORD hunter2",
        "CREATE USER public PASSWORD 'hunter2'",
    ] {
        let error = client.fails(sql).await;
        said.push_str(&format!("{error:?}"));
        if let Err(error) = client.0.prepare(sql.to_owned(), None).await {
            said.push_str(&error.to_string());
        }
    }
    client.update("CREATE USER anna SUPERUSER PASSWORD 'hunter2'").await;
    client.0.handshake("anna", "hunter2x").await.unwrap_err();
    client.0.handshake("anna", "hunter2").await.unwrap();
    for table in ["users", "roles", "grants", "settings", "jobs", "versions", "wal", "tables", "columns"] {
        let rows = client.rows(&format!("SELECT * FROM system.{table}")).await;
        said.push_str(&format!("{rows:?}"));
    }
    client.fails("SELECT * FROM cairn.users").await;
    said.push_str(&std::fs::read_to_string(&audit).unwrap());
    assert!(said.contains("CREATE USER anna"), "{said}");
    assert!(!said.contains("hunter2") && !said.contains("argon2"), "{said}");
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_change_that_is_called_again_is_made_once() {
    let server = Running::start(|_| ()).await;
    let mut client = server.connect().await;
    client.update("CREATE TABLE t (id INT PRIMARY KEY, n INT)").await;
    let id = |n: u8| format!("6f1c9d0e-3a52-4d7e-9b1f-0c8a7e5d2b4{n}");
    let with_id = |client: &Client, n: u8| {
        let mut with_id = client.clone();
        with_id.0.set_header("x-cairn-commit-id", id(n));
        with_id
    };
    for (sql, first) in [("INSERT INTO t VALUES (1, 0)", 1), ("INSERT INTO t VALUES (1, 0)", 0)] {
        assert_eq!(with_id(&client, 1).update(sql).await, first);
    }
    // By GetFlightInfo and DoGet, and as the session's own setting.
    with_id(&client, 2).info("UPDATE t SET n = n + 1").await;
    client.info(&format!("SET commit_id = '{}'", id(2))).await;
    assert_eq!(client.update("UPDATE t SET n = n + 1").await, 0);
    assert_eq!(client.rows("SHOW commit_id").await, [["(empty)"]]);
    // A transaction of the driver's.
    for _ in 0..2 {
        let mut client = with_id(&client, 3);
        let transaction = client.0.begin_transaction().await.unwrap();
        let update = "UPDATE t SET n = n + 10".to_owned();
        client.0.execute_update(update, Some(transaction.clone())).await.unwrap();
        client.0.end_transaction(transaction, EndTransaction::Commit).await.unwrap();
    }
    // Many rows of parameters are one commit.
    for _ in 0..2 {
        let mut client = with_id(&client, 4);
        let insert = "INSERT INTO t VALUES ($1, $2)".to_owned();
        let mut prepared = client.0.prepare(insert, None).await.unwrap();
        let column = || -> ArrayRef { Arc::new(Int64Array::from(vec![7, 8])) };
        prepared
            .set_parameters(RecordBatch::try_from_iter([("$1", column()), ("$2", column())]).unwrap())
            .unwrap();
        prepared.execute_update().await.unwrap();
    }
    assert_eq!(client.rows("SELECT id, n FROM t ORDER BY id").await, [["1", "11"], ["7", "7"], ["8", "8"]]);
    // Each says so: beside rows, and beside the count of a DoPut, which has no room for it.
    for is_again in [false, true] {
        let mut client = with_id(&client, 5);
        let info = client.info("INSERT INTO t VALUES (9, 9) RETURNING id").await;
        assert_eq!((info.total_records, Outcome::read(&info.app_metadata)), (-1, None));
        let notes = Outcome::notes_beside_rows(&info.app_metadata);
        assert_eq!(notes.len(), usize::from(is_again), "{notes:?}");
        let (_, batches) = client.fetch(info).await.unwrap();
        assert_eq!(batches.iter().map(RecordBatch::num_rows).sum::<usize>(), usize::from(!is_again));
    }
    for is_again in [false, true] {
        let command =
            CommandStatementUpdate { query: "DELETE FROM t WHERE id = 9".to_owned(), transaction_id: None };
        let descriptor = FlightDescriptor::new_cmd(prost::Message::encode_to_vec(&command.as_any()));
        let message = FlightData { flight_descriptor: Some(descriptor), ..FlightData::default() };
        let mut request = tonic::Request::new(futures::stream::iter([message]));
        request.metadata_mut().insert("x-cairn-commit-id", id(6).parse().unwrap());
        let answer = client.0.inner_mut().do_put(request).await.unwrap();
        let notes = answer.metadata().get("cairn-notes").map(|notes| notes.to_str().unwrap().to_owned());
        assert_eq!(notes.is_some(), is_again, "{notes:?}");
        assert!(notes.is_none_or(|notes| notes.starts_with(&format!("[\"commit {} is there", id(6)))));
        let results: Vec<_> = answer.into_inner().try_collect().await.unwrap();
        let result: DoPutUpdateResult = prost::Message::decode(&*results[0].app_metadata).unwrap();
        assert_eq!(result.record_count, i64::from(!is_again));
    }
    for n in 1..=6 {
        assert_eq!(client.rows(&format!("SHOW COMMIT '{}'", id(n))).await[0][3], "committed", "{n}");
    }
    let mut wrong = client.clone();
    wrong.0.set_header("x-cairn-commit-id", "mine");
    assert_eq!(wrong.fails("DELETE FROM t").await.code(), Code::InvalidArgument);
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn tokens_end_with_their_time() {
    let server = Running::start(|options| options.token_life_max = Duration::from_secs(3)).await;
    server.engine.session().execute("CREATE USER anna PASSWORD 'correct horse'", None).await.unwrap();
    let mut anna = server.connect().await;
    anna.0.handshake("anna", "correct horse").await.unwrap();
    let begun = Instant::now();
    // Used all the time, it ends as well.
    let ended = loop {
        match anna.0.execute("SELECT 1".to_owned(), None).await {
            Ok(_) => tokio::time::sleep(Duration::from_millis(100)).await,
            Err(error) => break status(error),
        }
        assert!(begun.elapsed() < SOON, "the token does not end");
    };
    assert_eq!(ended.code(), Code::Unauthenticated, "{ended}");
    // The client would show it instead of the password.
    anna.0.clear_token();
    anna.0.handshake("anna", "correct horse").await.unwrap();
    assert_eq!(anna.rows("SELECT 1").await, cells(&[&["1"]]));
    server.stop().await;
}

/// A server with the users anna and bob, whose passwords are their names.
async fn with_two_users(change: impl FnOnce(&mut ServerOptions)) -> Running {
    let server = Running::start(change).await;
    for sql in ["CREATE USER anna SUPERUSER PASSWORD 'anna'", "CREATE USER bob PASSWORD 'bob'"] {
        server.engine.session().execute(sql, None).await.unwrap();
    }
    server
}

#[tokio::test(flavor = "multi_thread")]
async fn sessions_end_with_the_password_they_began_by() {
    let server = with_two_users(with_http).await;
    let owner = server.engine.session();
    let (mut anna, mut bob) = (server.connect().await, server.connect().await);
    anna.0.handshake("anna", "anna").await.unwrap();
    bob.0.handshake("bob", "bob").await.unwrap();
    // Other changes of a user end nothing.
    owner.execute("ALTER USER anna WITH (rows_limit = 100)", None).await.unwrap();
    assert_eq!(anna.rows("SELECT 1").await, cells(&[&["1"]]));
    owner.execute("ALTER USER anna PASSWORD 'new'", None).await.unwrap();
    let ended = anna.fails("SELECT 1").await;
    assert_eq!(ended.code(), Code::Unauthenticated);
    assert_eq!(ended.metadata().get("cairn-sqlstate").unwrap(), "28000");
    assert!(ended.message().contains("password of user anna was changed"), "{ended}");
    let token = format!("authorization: Bearer {}", anna.0.token().unwrap());
    let request = serde_json::json!({"sql": "SELECT 1"});
    assert_eq!(http_sql_as(server.http.unwrap(), request, &[&token]).await.status, 401);
    anna.0.clear_token();
    anna.0.handshake("anna", "anna").await.unwrap_err();
    anna.0.handshake("anna", "new").await.unwrap();
    assert_eq!(anna.rows("SELECT 1").await, cells(&[&["1"]]));
    assert_eq!(bob.rows("SELECT 1").await, cells(&[&["1"]]), "nobody else's end");
    // Who changes it is no exception, nor is who is dropped.
    bob.update("ALTER USER bob PASSWORD 'x'").await;
    assert_eq!(bob.fails("SELECT 1").await.code(), Code::Unauthenticated);
    owner.execute("DROP USER anna", None).await.unwrap();
    let ended = anna.fails("SELECT 1").await;
    assert_eq!(ended.metadata().get("cairn-sqlstate").unwrap(), "28000");

    // Who shows the password with each call begins another session with another one.
    let mut plain = server.connect().await;
    plain.0.set_header("authorization", "Basic Ym9iOng=");
    plain.update("SET statement_timeout = '7s'").await;
    assert_eq!(plain.rows("SHOW statement_timeout").await, cells(&[&["7 s"]]));
    owner.execute("ALTER USER bob PASSWORD 'y'", None).await.unwrap();
    assert_eq!(plain.fails("SELECT 1").await.code(), Code::Unauthenticated);
    plain.0.set_header("authorization", "Basic Ym9iOnk=");
    assert_ne!(plain.rows("SHOW statement_timeout").await, cells(&[&["7 s"]]));
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn who_is_not_let_in_is_not_listened_to() {
    let server = with_two_users(|options| options.message_bytes_max = 1 << 20).await;
    let (mut wrong, mut bob) = (server.connect().await, server.connect().await);
    let long = format!("SELECT '{}'", "x".repeat(2 << 20));
    wrong.0.set_header("authorization", "Basic Ym9iOndyb25n");
    assert_eq!(wrong.fails(&long).await.code(), Code::Unauthenticated);
    bob.0.handshake("bob", "bob").await.unwrap();
    assert_ne!(bob.fails(&long).await.code(), Code::Unauthenticated);
    assert_eq!(bob.rows("SELECT 1").await, cells(&[&["1"]]));
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn nobody_takes_every_session() {
    let server = with_two_users(|options| options.sessions_max = 4).await;
    let mut clients = Vec::new();
    for _ in 0..2 {
        let mut anna = server.connect().await;
        anna.0.handshake("anna", "anna").await.unwrap();
        clients.push(anna);
    }
    let (mut third, mut bob) = (server.connect().await, server.connect().await);
    let full = third.0.handshake("anna", "anna").await.unwrap_err();
    assert!(full.to_string().contains("session.max_per_user"), "{full}");
    bob.0.handshake("bob", "bob").await.unwrap();
    clients[0].0.do_action(Action::new("CloseSession", "")).await.unwrap();
    third.0.handshake("anna", "anna").await.unwrap();
    // Those begun by an older password take no place.
    server.engine.session().execute("ALTER USER anna PASSWORD 'new'", None).await.unwrap();
    let mut again = server.connect().await;
    again.0.handshake("anna", "new").await.unwrap();
    assert_eq!(again.rows("SELECT 1").await, cells(&[&["1"]]));
    assert_eq!(bob.rows("SELECT 1").await, cells(&[&["1"]]));
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn results_are_for_their_user() {
    let server = with_two_users(|_| {}).await;
    let (mut anna, mut again) = (server.connect().await, server.connect().await);
    let mut bob = server.connect().await;
    anna.0.handshake("anna", "anna").await.unwrap();
    again.0.handshake("anna", "anna").await.unwrap();
    bob.0.handshake("bob", "bob").await.unwrap();
    let info = anna.info("SELECT 7").await;
    assert_eq!(bob.fetch(info.clone()).await.unwrap_err().code(), Code::PermissionDenied);
    let request = prost::Message::encode_to_vec(&CancelFlightInfoRequest::new(info.clone()));
    let cancel = bob.0.do_action(Action::new("CancelFlightInfo", request)).await.map(|_| ());
    assert_eq!(status(cancel.unwrap_err()).code(), Code::PermissionDenied);
    let (schema, batches) = again.fetch(info).await.unwrap();
    assert_eq!(render(&schema, &batches).rows(), cells(&[&["7"]]));
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn failed_logins_are_in_the_audit_log() {
    let folder = tempfile::tempdir().unwrap();
    let audit = folder.path().join("audit.log");
    let server = with_two_users(|options| options.audit_log = Some(audit.clone())).await;
    let mut client = server.connect().await;
    for _ in 0..3 {
        client.0.handshake("anna", "hunter2").await.unwrap_err();
    }
    let counts = || -> Vec<u64> {
        let text = std::fs::read_to_string(&audit).unwrap();
        assert!(!text.contains("hunter2"), "{text}");
        let lines = text.lines().map(|line| serde_json::from_str::<serde_json::Value>(line).unwrap());
        let logins: Vec<_> = lines.filter(|line| line["kind"] == "login").collect();
        for line in &logins {
            let told = [&line["user"], &line["client"], &line["outcome"]];
            assert_eq!(told, ["anna", "127.0.0.1", "28P01"], "{line}");
        }
        logins.iter().map(|line| line["count"].as_u64().unwrap()).collect()
    };
    assert_eq!(counts(), [1]);
    server.stop().await;
    assert_eq!(counts(), [1, 2]);
}

#[tokio::test(flavor = "multi_thread")]
async fn bombs_end_and_the_others_go_on() {
    use datafusion::arrow::array::NullArray;
    use datafusion::arrow::ipc::CompressionType;
    use datafusion::arrow::ipc::writer::IpcWriteOptions;

    let server = Running::start(|options| {
        options.limits.memory = Some(8 << 20);
        options.limits.statement_timeout = Some(Duration::from_secs(5));
        options.message_bytes_max = 4 << 20;
    })
    .await;
    let (mut client, mut other) = (server.connect().await, server.connect().await);
    client.update("CREATE TABLE t (n BIGINT)").await;
    let others = tokio::spawn(async move {
        for _ in 0..20 {
            assert_eq!(other.rows("SELECT count(*) FROM t").await, cells(&[&["0"]]));
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    });
    // Joins, groups, sorts and arrays without end; a statement too deep, one too long.
    let wide = "SELECT value, repeat('wide ', 200) || value AS t FROM range(1000000)";
    for sql in [
        "SELECT count(*) FROM range(100000000) a JOIN range(100000000) b ON a.value = b.value".to_owned(),
        format!("SELECT t, count(*) AS n FROM ({wide}) GROUP BY t HAVING count(*) > 5 ORDER BY n"),
        format!("SELECT array_agg(t) AS all_of_them FROM ({wide})"),
        // Yields now and then in a test build, too: the others are on the same threads.
        "SELECT count(*) FROM range(10) a CROSS JOIN range(1000000000000) b WHERE a.value + b.value < 0"
            .to_owned(),
        format!("SELECT {}1{}", "(".repeat(200), ")".repeat(200)),
        format!("SELECT 1{}", " + 1".repeat(5_000)),
    ] {
        let shown: String = sql.chars().take(100).collect();
        let ended = match client.0.execute(sql, None).await {
            Ok(info) => client.fetch(info).await.unwrap_err(),
            Err(error) => status(error),
        };
        assert_eq!(ended.code(), Code::ResourceExhausted, "{shown}: {ended}");
    }
    let long = format!("SELECT '{}'", "x".repeat(5 << 20));
    let refused = client.0.execute(long, None).await.map(|_| ()).map_err(status).unwrap_err();
    // As gRPC says of a message beyond its limit.
    assert!([Code::OutOfRange, Code::ResourceExhausted].contains(&refused.code()), "{refused}");

    // Messages that are small until they are decompressed, or claim to be large, or stand for many rows.
    let zeros = || {
        RecordBatch::try_from_iter([("n", Arc::new(Int64Array::from(vec![0; 1 << 20])) as ArrayRef)]).unwrap()
    };
    let nothing = Arc::new(NullArray::new(1 << 40)) as ArrayRef;
    let nothing = RecordBatch::try_from_iter_with_nullable([("n", nothing, true)]).unwrap();
    for compression in [CompressionType::ZSTD, CompressionType::LZ4_FRAME] {
        for (batch, claim) in [(zeros(), None), (zeros(), Some(1_i64 << 50)), (nothing.clone(), None)] {
            let command = CommandStatementIngest {
                table_definition_options: Some(TableDefinitionOptions {
                    if_not_exist: TableNotExistOption::Fail.into(),
                    if_exists: TableExistsOption::Append.into(),
                }),
                table: "t".to_owned(),
                ..CommandStatementIngest::default()
            };
            let descriptor = FlightDescriptor::new_cmd(prost::Message::encode_to_vec(&command.as_any()));
            let options = IpcWriteOptions::default().try_with_compression(Some(compression)).unwrap();
            let messages: Vec<_> = FlightDataEncoderBuilder::new()
                .with_flight_descriptor(Some(descriptor))
                .with_options(options)
                .with_max_flight_data_size(usize::MAX)
                .build(futures::stream::iter([Ok(batch)]))
                .try_collect()
                .await
                .unwrap();
            let messages = messages.into_iter().map(move |mut message| {
                if let (Some(claim), false) = (claim, message.data_body.is_empty()) {
                    // Behind the bitmap of NULLs, which has no bytes.
                    let mut body = message.data_body.to_vec();
                    body[..8].copy_from_slice(&claim.to_le_bytes());
                    message.data_body = body.into();
                }
                message
            });
            let answer = client.0.inner_mut().do_put(futures::stream::iter(messages)).await;
            let refused = match answer {
                Ok(answer) => answer.into_inner().try_collect::<Vec<_>>().await.unwrap_err(),
                Err(refused) => refused,
            };
            assert_eq!(refused.code(), Code::ResourceExhausted, "{claim:?}: {refused}");
        }
    }
    others.await.unwrap();
    assert_eq!(client.rows("SELECT count(*) FROM t").await, cells(&[&["0"]]));
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn connections_are_encrypted_and_clients_show_certificates() {
    use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
    use tonic::transport::{Certificate, ClientTlsConfig, Identity};

    let mut authority = CertificateParams::new(Vec::new()).unwrap();
    authority.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let authority = CertifiedIssuer::self_signed(authority, KeyPair::generate().unwrap()).unwrap();
    let signed = |name: &str| {
        let key = KeyPair::generate().unwrap();
        let params = CertificateParams::new(vec![name.to_owned()]).unwrap();
        (params.signed_by(&key, &authority).unwrap().pem(), key.serialize_pem())
    };
    let directory = tempfile::tempdir().unwrap();
    let write = |name: &str, text: &str| {
        let path = directory.path().join(name);
        std::fs::write(&path, text).unwrap();
        path
    };
    let (certificate, key) = signed("localhost");
    let mut tls = TlsOptions {
        certificate: write("cert.pem", &certificate),
        key: write("key.pem", &key),
        client_ca: None,
    };
    let trusting = ClientTlsConfig::new()
        .ca_certificate(Certificate::from_pem(authority.pem()))
        .domain_name("localhost");
    let connect = |url: &str, tls: ClientTlsConfig| {
        let url = url.replace("http://", "https://");
        async move { Channel::from_shared(url).unwrap().tls_config(tls).unwrap().connect().await }
    };
    let asks = async |channel: Channel| {
        let mut client = Client(FlightSqlServiceClient::new(channel));
        client.0.execute("SELECT 1".to_owned(), None).await.map(|_| ())
    };

    let server = Running::start(|options| options.tls = Some(tls.clone())).await;
    asks(connect(&server.url, trusting.clone()).await.unwrap()).await.unwrap();
    let plain = Channel::from_shared(server.url.clone()).unwrap().connect().await;
    assert!(match plain {
        Ok(channel) => asks(channel).await.is_err(),
        Err(_) => true,
    });
    server.stop().await;

    tls.client_ca = Some(write("ca.pem", &authority.pem()));
    let server = Running::start(|options| options.tls = Some(tls.clone())).await;
    let (certificate, key) = signed("client");
    let known = trusting.clone().identity(Identity::from_pem(certificate, key));
    asks(connect(&server.url, known).await.unwrap()).await.unwrap();
    assert!(match connect(&server.url, trusting).await {
        Ok(channel) => asks(channel).await.is_err(),
        Err(_) => true,
    });
    server.stop().await;

    // What can't be used is named.
    tls.key = directory.path().join("nowhere.pem");
    let engine = Engine::open(Root::parse(":memory:").unwrap(), EngineOptions::default()).await.unwrap();
    let options = ServerOptions { tls: Some(tls), http: None, ..ServerOptions::default() };
    let refused = Server::bind(engine, options).await.unwrap_err();
    assert!(refused.message().contains("nowhere.pem"), "{refused}");
}

/// ADBC, polars, DuckDB and pyarrow as clients.
#[tokio::test(flavor = "multi_thread")]
async fn python_programs_are_served() {
    let Some(python) = std::env::var_os("CAIRN_TEST_PYTHON") else {
        println!("NOT RUN: Python clients; set CAIRN_TEST_PYTHON to a Python that has adbc-driver-flightsql");
        return;
    };
    let server = Running::start(|_| {}).await;
    let script = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("python/flight_sql.py");
    let url = server.url.replace("http://", "grpc://");
    let run = tokio::task::spawn_blocking(move || {
        std::process::Command::new(python).arg(script).arg(url).output().unwrap()
    });
    let output = run.await.unwrap();
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(output.status.success(), "{said}\n{}", String::from_utf8_lossy(&output.stderr));
    println!("{said}");
    server.stop().await;
}
