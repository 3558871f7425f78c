//! Files on object storage: secrets, COPY either way, queries in place, and what sessions of a server may reach.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use cairn_storage::metrics::ObjectFigures;
use cairn_storage::object::steady;
use cairn_storage::{OpenOptions, Root};
use datafusion::object_store::memory::InMemory;
use datafusion::object_store::path::Path;
use datafusion::object_store::{ObjectStore, ObjectStoreExt};
use futures::TryStreamExt;

use super::{all, answer, run};
use crate::{
    Engine, EngineOptions, Identity, Session, SessionLimits, StatementKind, StatementLog, StatementRecord,
};

/// A session, with the buckets `s3://data` and `gs://other`.
async fn session() -> (Session, Arc<InMemory>, Arc<InMemory>) {
    let (data, other) = (Arc::new(InMemory::new()), Arc::new(InMemory::new()));
    let storage = OpenOptions { create: true, ..OpenOptions::default() };
    let stores = vec![
        ("s3://data".to_owned(), Arc::clone(&data) as Arc<dyn ObjectStore>),
        ("gs://other".to_owned(), Arc::clone(&other) as Arc<dyn ObjectStore>),
    ];
    let memory_limit = Some(256 << 20);
    let options =
        EngineOptions { storage, memory_limit, partitions: Some(2), stores, ..EngineOptions::default() };
    let engine = Engine::open(Root::Memory, options).await.unwrap();
    (engine.session(), data, other)
}

async fn put(store: &InMemory, key: &str, text: &str) {
    store.put(&Path::parse(key).unwrap(), text.to_owned().into()).await.unwrap();
}

async fn text(store: &InMemory, key: &str) -> String {
    let bytes = store.get(&Path::from(key)).await.unwrap().bytes().await.unwrap();
    String::from_utf8(bytes.to_vec()).unwrap()
}

async fn keys(store: &InMemory) -> Vec<String> {
    let listed: Vec<_> = store.list(None).try_collect().await.unwrap();
    listed.into_iter().map(|object| object.location.to_string()).collect()
}

const CREATE: &str = "CREATE SECRET mine (TYPE s3, KEY_ID 'AKIDEXAMPLEKEY', SECRET 'hunter2', SESSION_TOKEN 'hunter2', REGION \
                      'eu-central-1', SCOPE 's3://data/in')";

#[tokio::test]
async fn every_format_goes_out_and_comes_back() {
    let (session, data, _) = session().await;
    all(
        &session,
        &[
            "CREATE TABLE t (id BIGINT, name TEXT)",
            "INSERT INTO t SELECT value, CASE WHEN value % 3 = 0 THEN NULL ELSE 'name ' || value END FROM range(1, 5001) AS r(value)",
            "CREATE TABLE u (id BIGINT, name TEXT)",
        ],
    )
    .await;
    let figures = "count(*), sum(id), count(name), max(name)";
    let expected = answer(&session, &format!("SELECT {figures} FROM t")).await;
    assert!(expected.starts_with("5000,12502500,3334,"), "{expected}");
    for file in ["a.parquet", "a.csv", "a.ndjson", "a.arrow", "a.csv.gz", "a.ndjson.zst"] {
        let url = format!("s3://data/out/{file}");
        run(&session, &format!("COPY t TO '{url}'"), "COPY 5000").await;
        run(&session, &format!("COPY u FROM '{url}'"), "COPY 5000").await;
        run(&session, &format!("SELECT {figures} FROM u"), &expected).await;
        run(&session, "TRUNCATE u", "TRUNCATE 5000").await;
        if file.matches('.').count() == 1 {
            run(&session, &format!("SELECT {figures} FROM '{url}'"), &expected).await;
        } else {
            let got = answer(&session, &format!("SELECT * FROM '{url}'")).await;
            assert!(got.starts_with("0A000 querying compressed file 's3://data/out/"), "{got}");
        }
    }
    assert_eq!(keys(&data).await.len(), 6);
    for (function, file) in [
        ("read_parquet", "a.parquet"),
        ("read_csv", "a.csv"),
        ("read_ndjson", "a.ndjson"),
        ("read_arrow", "*.arrow"),
    ] {
        let call = format!("{function}('s3://data/out/{file}')");
        run(&session, &format!("SELECT {figures} FROM {call}"), &expected).await;
        run(&session, &format!("SELECT x.id FROM {call} AS x WHERE x.id = 77"), "77").await;
    }
    let between = "SELECT a.name FROM 's3://data/out/a.parquet' a JOIN t ON a.id = t.id WHERE t.id BETWEEN 4 AND 5 ORDER BY 1";
    run(&session, between, "name 4;name 5").await;
    run(&session, "INSERT INTO u SELECT * FROM read_csv('s3://data/out/a.csv') WHERE id <= 10", "INSERT 10")
        .await;
    run(&session, "CREATE TABLE w AS SELECT max(id) AS id FROM 's3://data/out/a.ndjson'", "CREATE TABLE 1")
        .await;
    run(
        &session,
        "CREATE VIEW v AS SELECT count(*) AS n FROM read_parquet('s3://data/out/a.parquet')",
        "CREATE VIEW",
    )
    .await;
    run(&session, "SELECT n FROM v", "5000").await;
    let explained = answer(
        &session,
        "EXPLAIN SELECT p.name, q.name FROM read_parquet('s3://data/out/a.parquet') p JOIN 's3://data/out/a.csv' q ON p.id = q.id",
    )
    .await;
    assert!(explained.contains("out/a.parquet") && explained.contains("out/a.csv"), "{explained}");
    let described = session.describe("SELECT id FROM 's3://data/out/a.parquet'").await.unwrap();
    assert_eq!(described.columns.unwrap().fields().len(), 1);
}

#[tokio::test]
async fn what_files_cost_is_told() {
    let (writer, data, _) = session().await;
    all(
        &writer,
        &[
            "CREATE TABLE t (id BIGINT, name TEXT)",
            "INSERT INTO t SELECT value, 'name ' || value FROM range(1, 5001) AS r(value)",
            "COPY t TO 's3://data/out/a.parquet'",
        ],
    )
    .await;
    put(&data, "in/a.csv", "id,name\n1,one\n").await;
    put(&data, "in/b.csv", "id,name\n2,two\n").await;
    let (store, metrics) = steady(data);
    let options = EngineOptions {
        storage: OpenOptions { create: true, ..OpenOptions::default() },
        memory_limit: Some(256 << 20),
        partitions: Some(2),
        stores: vec![("s3://data".to_owned(), store)],
        ..EngineOptions::default()
    };
    let session = Engine::open(Root::Memory, options).await.unwrap().session();
    let asked = |figures: &ObjectFigures| figures.gets + figures.heads + figures.lists;
    for (from, files) in [
        ("'s3://data/out/a.parquet'", "s3://data/out/a.parquet"),
        ("read_parquet('s3://data/out/*.parquet')", "s3://data/out/*.parquet"),
        ("'s3://data/in/'", "s3://data/in/"),
    ] {
        let before = metrics.figures();
        let sql = format!("EXPLAIN ANALYZE SELECT sum(id), max(name) FROM {from}");
        let explained = answer(&session, &sql).await;
        let after = metrics.figures();
        let mut lines = explained.rsplit(';');
        let summed = lines.next().unwrap().strip_prefix("Object store,").unwrap();
        assert_eq!(lines.next().unwrap(), format!("Files,{files}: {summed}"), "{explained}");
        let figure = |name: &str| -> u64 {
            let (_, rest) = summed.split_once(&format!("{name}=")).unwrap();
            rest.split(',').next().unwrap().parse().unwrap()
        };
        assert!(asked(&after) > asked(&before), "{explained}");
        assert_eq!(figure("store_requests"), asked(&after) - asked(&before), "{explained}");
        assert_eq!(figure("store_bytes"), after.read_bytes - before.read_bytes, "{explained}");
        let plain = answer(&session, &format!("EXPLAIN SELECT sum(id) FROM {from}")).await;
        assert!(!plain.contains("store_"), "{plain}");
    }
    // Those of a view, too; and who asks for none is told nothing.
    let view = "CREATE VIEW v AS SELECT id FROM read_parquet('s3://data/out/a.parquet')";
    run(&session, view, "CREATE VIEW").await;
    let explained = answer(&session, "EXPLAIN ANALYZE SELECT sum(id) FROM v").await;
    assert!(explained.contains("Files,s3://data/out/a.parquet: store_requests="), "{explained}");
    let explained = answer(&session, "EXPLAIN ANALYZE SELECT count(*) FROM range(1, 5)").await;
    assert!(!explained.contains("store_") && !explained.contains("Object store"), "{explained}");
}

#[tokio::test]
async fn patterns_and_directories_are_one_table() {
    let (session, data, other) = session().await;
    put(&data, "in/2024/a.csv", "id,name\n1,one\n").await;
    put(&data, "in/2024/b.csv", "id,name\n2,two\n").await;
    put(&data, "in/2025/c.csv", "id,name\n3,three\n").await;
    put(&data, "in/2025/_SUCCESS", "").await;
    put(&data, "in/d e#ä%.csv", "id,name\n4,four\n").await;
    put(&other, "f.ndjson", "{\"id\": 5, \"name\": \"five\"}\n").await;
    all(&session, &["CREATE TABLE t (id INT, name TEXT)"]).await;
    for (from, ids) in [
        ("s3://data/in/2024/*.csv", "1;2"),
        ("s3://data/in/*/c.csv", "3"),
        ("s3://data/in/**/*.csv", "1;2;3;4"),
        ("s3://data/in/", "1;2;3;4"),
        ("s3://data/in/2025", "3"),
        ("s3://data/in/d e#ä%.csv", "4"),
        ("gs://other", "5"),
    ] {
        run(&session, &format!("SELECT id FROM '{from}' ORDER BY id"), ids).await;
        let rows = ids.split(';').count();
        run(&session, &format!("COPY t FROM '{from}'"), &format!("COPY {rows}")).await;
        run(&session, "SELECT id FROM t ORDER BY id", ids).await;
        all(&session, &["TRUNCATE t"]).await;
    }
    put(&data, "in/2024/b.csv", "id,name\n2,two\nx,three\n").await;
    for (sql, expected) in [
        ("COPY t FROM 's3://data/in/2024/'", "22P02 's3://data/in/2024/b.csv', line 3: column \"id\""),
        ("COPY t FROM 's3://data/none.csv'", "58P01 object 's3://data/none.csv' does not exist"),
        ("SELECT * FROM 's3://data/none/*.csv'", "58P01 no object matches 's3://data/none/*.csv'"),
        ("SELECT * FROM read_parquet('s3://data/in/2025/c.csv')", "22"),
        (
            "COPY t FROM 's3://data/in/2025/c.csv' WITH (format parquet)",
            "22P04 's3://data/in/2025/c.csv' is not a readable",
        ),
        ("SELECT * FROM read_csv('s3://data/' || 'in/x.csv')", "0A000"),
        ("SELECT * FROM 's3://data/in/../x.csv'", "22023"),
        ("COPY t FROM 's3://key:hunter2@data/x.csv'", "22023"),
        ("COPY t FROM 'http://data/x.csv'", "0A000"),
        ("COPY t TO 's3://data/out/'", "22023"),
        ("COPY t TO 's3://data/*.csv'", "22023"),
        ("COPY t TO 's3://data/out'", "22023 the format of"),
    ] {
        let got = answer(&session, sql).await;
        assert!(got.starts_with(expected) && !got.contains("hunter2"), "{sql}: {got}");
    }
    run(&session, "COPY t FROM 's3://data/in/2024/' WITH (on_error 'skip')", "COPY 2 1 row was skipped; 's3://data/in/2024/b.csv', line 3: column \"id\": \"x\" is not a valid INTEGER").await;
}

#[tokio::test]
async fn an_object_appears_when_its_copy_has_ended_well() {
    let (session, data, _) = session().await;
    all(
        &session,
        &["CREATE TABLE t (k TEXT, v INT)", "INSERT INTO t VALUES ('a', 1), (NULL, 2), ('a', 3), ('x/y', 4)"],
    )
    .await;
    put(&data, "out.csv", "before").await;
    let fails = "COPY (SELECT 10 / (value - 90000) FROM range(1, 100001) AS r(value)) TO 's3://data/out.csv'";
    let got = answer(&session, fails).await;
    assert!(got.starts_with("22012"), "{got}");
    assert_eq!(text(&data, "out.csv").await, "before");
    run(&session, "COPY (SELECT v FROM t ORDER BY v) TO 's3://data/out.csv'", "COPY 4").await;
    assert_eq!(text(&data, "out.csv").await, "v\n1\n2\n3\n4\n", "written over");
    run(&session, "COPY (SELECT 1 AS id WHERE false) TO 's3://data/empty.parquet'", "COPY 0").await;
    run(&session, "SELECT count(*) FROM 's3://data/empty.parquet'", "0").await;
    let parts = "COPY t TO 's3://data/parts' WITH (format csv, partition_by (k), compression 'none')";
    run(&session, parts, "COPY 4").await;
    let written: Vec<_> = keys(&data).await.into_iter().filter(|key| key.starts_with("parts/")).collect();
    assert_eq!(
        written,
        ["parts/k=__HIVE_DEFAULT_PARTITION__/data_0.csv", "parts/k=a/data_0.csv", "parts/k=x%2Fy/data_0.csv"]
    );
    assert_eq!(text(&data, "parts/k=a/data_0.csv").await, "v\n1\n3\n");
    run(&session, "SELECT v FROM 's3://data/parts/' ORDER BY v", "1;2;3;4").await;
    let got = answer(&session, parts).await;
    assert!(got.starts_with("58P02 's3://data/parts' already exists"), "{got}");
    // Large enough for several parts.
    let large = "COPY (SELECT value, repeat('wide ', 40) AS w FROM range(1, 60001) AS r(value)) TO 's3://data/large.csv'";
    run(&session, large, "COPY 60000").await;
    run(&session, "SELECT count(*), sum(value) FROM 's3://data/large.csv'", "60000,1800030000").await;
    all(&session, &["CREATE TABLE l (value BIGINT, w TEXT)"]).await;
    run(&session, "COPY l FROM 's3://data/large.csv'", "COPY 60000").await;
}

#[tokio::test]
async fn an_object_that_was_overwritten_is_read_anew() {
    let (session, _, _) = session().await;
    // The same size, within the same second: caches of planning must tell them apart.
    for id in [1, 2, 3, 2] {
        run(&session, &format!("COPY (SELECT {id} AS id) TO 's3://data/x.parquet'"), "COPY 1").await;
        run(&session, "SELECT id FROM 's3://data/x.parquet'", &id.to_string()).await;
        run(&session, &format!("SELECT id FROM 's3://data/x.parquet' WHERE id = {id}"), &id.to_string())
            .await;
        run(&session, "SELECT max(id) FROM 's3://data/x.parquet'", &id.to_string()).await;
    }
}

#[tokio::test]
async fn secrets_live_in_their_session() {
    let (session, data, _) = session().await;
    put(&data, "in/a.csv", "id\n1\n").await;
    let note = "it lives in this session and ends with it";
    run(&session, "SHOW SECRETS", "").await;
    run(&session, CREATE, &format!("CREATE SECRET {note}")).await;
    run(&session, "SHOW SECRETS", "mine,s3,s3://data/in,eu-central-1,,***EKEY,***").await;
    let got = answer(&session, CREATE).await;
    assert!(got.starts_with("42710 secret mine already exists [CREATE OR REPLACE SECRET"), "{got}");
    let again = CREATE.replace("SECRET mine", "SECRET IF NOT EXISTS mine");
    run(&session, &again, "CREATE SECRET secret mine already exists, skipped").await;
    let replaced = CREATE.replace("CREATE SECRET mine", "CREATE OR REPLACE TEMPORARY SECRET mine");
    run(&session, &replaced.replace("eu-central-1", "eu-west-1"), &format!("CREATE SECRET {note}")).await;
    run(&session, "SHOW SECRETS", "mine,s3,s3://data/in,eu-west-1,,***EKEY,***").await;
    run(&session, "SELECT id FROM 's3://data/in/a.csv'", "1").await;
    let fork = session.fork();
    run(&fork, "SHOW SECRETS", "mine,s3,s3://data/in,eu-west-1,,***EKEY,***").await;
    run(&session.engine().session(), "SHOW SECRETS", "").await;
    // Neither a transaction nor a setting has to do with them.
    all(&session, &["BEGIN", "DROP SECRET mine", "ROLLBACK", "RESET ALL"]).await;
    run(&session, "SHOW SECRETS", "").await;
    run(&fork, "SHOW SECRETS", "").await;
    let got = answer(&session, "DROP SECRET mine").await;
    assert!(got.starts_with("42704 secret mine does not exist"), "{got}");
    run(&session, "DROP SECRET IF EXISTS mine", "DROP SECRET secret mine does not exist, skipped").await;
    let described = session.describe("SHOW SECRETS").await.unwrap();
    assert_eq!((described.columns.unwrap().fields().len(), described.reads_only), (7, true));
    assert!(session.describe(CREATE).await.unwrap().columns.is_none());
    assert_eq!(session.statement_kind(CREATE).unwrap(), StatementKind::Setting);
}

#[derive(Debug, Default)]
struct Told(Mutex<Vec<String>>);

impl StatementLog for Told {
    fn least(&self) -> Duration {
        Duration::ZERO
    }

    fn ended(&self, record: &StatementRecord) {
        self.0.lock().unwrap().push(format!("{record:?}"));
    }
}

#[tokio::test]
async fn secrets_are_told_nowhere() {
    let (session, _, _) = session().await;
    let told = Arc::new(Told::default());
    session.engine().set_log(Arc::clone(&told) as Arc<dyn StatementLog>);
    for sql in [
        CREATE.to_owned(),
        CREATE.to_owned(),
        CREATE.replace("'hunter2'", "hunter2/hunter2+"),
        CREATE.replace("TYPE s3", "TYPE gcs"),
        CREATE.replace("CREATE SECRET", "CRATE SECRET"),
        CREATE.replace("SCOPE", "SCOPES"),
        CREATE.replace("mine (", "mine "),
        CREATE.replace("CREATE", "EXPLAIN CREATE"),
        CREATE.replace("CREATE", "CREATE PERSISTENT"),
        format!("{CREATE} 'hunter2'"),
        format!("{CREATE}; SELECT 'hunter2'"),
        CREATE[..CREATE.len() - 40].to_owned(),
        "SELECT * FROM 's3://data/none.csv'".to_owned(),
        "COPY (SELECT 1) TO 's3://data/*.csv'".to_owned(),
        "SHOW SECRETS".to_owned(),
        "SHOW ALL".to_owned(),
        "SHOW JOBS".to_owned(),
        "EXPLAIN VERBOSE SELECT 1".to_owned(),
    ] {
        assert!(Session::holds_secret(&sql) || !sql.contains("hunter2"), "{sql}");
        let got = answer(&session, &sql).await;
        assert!(!got.contains("hunter2"), "{sql}: {got}");
        if let Err(error) = session.execute(&sql, None).await {
            assert!(!format!("{error:?}").contains("hunter2"), "{sql}: {error:?}");
        }
    }
    assert!(!format!("{session:?}").contains("hunter2"));
    let told = told.0.lock().unwrap().join("\n");
    assert!(told.contains("CREATE SECRET mine ?") && !told.contains("hunter2"), "{told}");
}

#[tokio::test]
async fn sessions_of_a_server_reach_listed_prefixes_only() {
    let (owner, data, other) = session().await;
    put(&data, "in/a.csv", "id\n1\n").await;
    put(&data, "inner/a.csv", "id\n2\n").await;
    put(&other, "a.csv", "id\n3\n").await;
    all(&owner, &["CREATE TABLE t (id INT)", "CREATE USER bob PASSWORD 'pw of bob' SUPERUSER"]).await;
    for url in ["s3://data/in/a.csv", "s3://data/inner/a.csv", "gs://other/a.csv"] {
        all(&owner, &[&format!("SELECT * FROM '{url}'")]).await;
    }
    let bob = owner.engine().authenticate("bob", "pw of bob").await.unwrap();
    let nothing = owner.engine().session_as(bob.clone(), SessionLimits::default());
    let limits = SessionLimits {
        copy_urls: vec!["s3://data/in".to_owned()],
        copy_endpoints: vec!["minio.example:9000".to_owned()],
        ..SessionLimits::default()
    };
    let some = owner.engine().session_as(bob, limits.clone());
    let owner_remote = owner.engine().session_as(Identity::owner(), limits.clone());
    let with_secret = owner.engine().session_as(Identity::owner(), limits);
    all(&with_secret, &[&CREATE.replace("SCOPE 's3://data/in'", "USE_SSL true")]).await;
    for session in [&nothing, &some, &owner_remote, &with_secret] {
        for url in [
            "s3://data/inner/a.csv",
            "s3://data/*.csv",
            "s3://data/i*/a.csv",
            "s3://data",
            "gs://other/a.csv",
        ] {
            for sql in [
                format!("SELECT * FROM '{url}'"),
                format!("SELECT * FROM read_csv('{url}')"),
                format!("COPY t FROM '{url}' WITH (format csv)"),
                format!("COPY t TO '{url}' WITH (format csv)"),
                format!("CREATE VIEW v AS SELECT * FROM '{url}'"),
                format!("INSERT INTO t SELECT id FROM read_csv('{url}')"),
            ] {
                let got = answer(session, &sql).await;
                assert!(got.starts_with("42501 ") && got.contains("permission denied"), "{sql}: {got}");
            }
        }
    }
    for session in [&some, &owner_remote, &with_secret] {
        run(session, "SELECT * FROM 's3://data/in/a.csv'", "1").await;
        run(session, "SELECT * FROM read_csv('s3://data/in/*.csv')", "1").await;
        run(session, "COPY t FROM 's3://data/in/a.csv'", "COPY 1").await;
        run(session, "COPY (SELECT 7 AS id) TO 's3://data/in/out/b.parquet'", "COPY 1").await;
        run(session, "SELECT id FROM 's3://data/in/out/'", "7").await;
        let got = answer(session, "SELECT * FROM '/etc/passwd'").await;
        assert!(got.starts_with("42501"), "{got}");
    }
    let got = answer(&nothing, "SELECT * FROM 's3://data/in/a.csv'").await;
    assert!(got.starts_with("42501 permission denied: this session may not reach object storage"), "{got}");
    for (endpoint, may) in [
        ("minio.example:9000", true),
        ("169.254.169.254", false),
        ("localhost", false),
        ("minio.example", false),
    ] {
        let sql = CREATE.replace("SECRET mine", "SECRET x").replace("SCOPE 's3://data/in'", "");
        let sql = sql.replace(", )", &format!(", SCOPE 's3://data/in/x', ENDPOINT '{endpoint}')"));
        let got = answer(&some, &sql).await;
        assert_eq!(got.starts_with("CREATE SECRET"), may, "{sql}: {got}");
        assert_eq!(got.starts_with("42501 permission denied: the endpoint"), !may, "{sql}: {got}");
        all(&some, &["DROP SECRET IF EXISTS x"]).await;
    }
    // A view reads with the session of whoever reads it, not with that of who made it.
    all(&owner, &["CREATE VIEW spy AS SELECT * FROM 'gs://other/a.csv'"]).await;
    run(&owner, "SELECT * FROM spy", "3").await;
    let got = answer(&some, "SELECT * FROM spy").await;
    assert!(got.starts_with("42501 ") && got.contains("permission denied"), "{got}");
}

#[tokio::test]
async fn rows_that_are_read_survive_the_end_of_their_secret() {
    let (session, data, _) = session().await;
    put(&data, "in/a.csv", "id\n1\n2\n").await;
    all(&session, &[CREATE]).await;
    let read = session.execute("SELECT id FROM 's3://data/in/a.csv'", None).await.unwrap();
    all(&session, &["DROP SECRET mine"]).await;
    drop(session);
    let crate::Output::Rows(rows) = read else { panic!("no rows") };
    let batches: Vec<_> = rows.stream.try_collect().await.unwrap();
    assert_eq!(batches.iter().map(|batch| batch.num_rows()).sum::<usize>(), 2);
}
