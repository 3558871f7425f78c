//! Databases and files in a bucket: processes that come and go, follow, take over and get killed.
//!
//! The bucket is one of `cairn_tests::Bucket`; without a Python for it nothing here is run.
#![allow(clippy::unwrap_used)]

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, PipeReader, Read, Write};
use std::process::{Child, ChildStdin, Command, Output, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::time::{Duration, Instant};

use cairn_tests::{Bucket, without_settings};
use serde_json::Value;

/// Generous, for a machine that is busy with other tests.
const SOON: Duration = Duration::from_secs(120);
/// How old what a reader sees may be, and a little.
const POLLED: Duration = Duration::from_millis(1200);

#[derive(Debug)]
struct Ran {
    code: Option<i32>,
    out: String,
    err: String,
}

/// `cairn` in an environment that knows of no store.
fn bare_command(args: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_cairn"));
    without_settings(&mut command);
    command.args(args).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}

/// `cairn` in an environment that leads to the bucket, and to a cache directory of the bucket's own.
fn command(bucket: &Bucket, args: &[&str]) -> Command {
    let mut command = bare_command(args);
    command.envs(bucket.env());
    command
}

fn finished(output: Output) -> Ran {
    Ran {
        code: output.status.code(),
        out: String::from_utf8(output.stdout).unwrap(),
        err: String::from_utf8(output.stderr).unwrap(),
    }
}

/// What a process of its own says to these statements, rows as CSV.
fn ask(bucket: &Bucket, root: &str, args: &[&str], sql: &str) -> Ran {
    let args = [&[root, "-q", "--format", "csv", "-c", sql][..], args].concat();
    finished(command(bucket, &args).output().unwrap())
}

/// The same of statements that succeed.
fn rows(bucket: &Bucket, root: &str, sql: &str) -> String {
    let ran = ask(bucket, root, &[], sql);
    assert_eq!(ran.code, Some(0), "{sql}: {}", ran.err);
    ran.out
}

/// The same, whatever they answer.
fn run(bucket: &Bucket, root: &str, sql: &str) {
    rows(bucket, root, sql);
}

fn wait_for(what: &str, mut is: impl FnMut() -> bool) {
    let begun = Instant::now();
    while !is() {
        assert!(begun.elapsed() < SOON, "{what}: not after {:?}", begun.elapsed());
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// A process that is killed when a test is over, if it has not ended by then.
struct Running(Child);

impl Running {
    fn pid(&self) -> String {
        self.0.id().to_string()
    }

    /// As a power cut ends it.
    fn kill(&mut self) {
        self.0.kill().unwrap();
        self.0.wait().unwrap();
    }

    /// Its exit code, once it has ended by itself.
    fn ended(&mut self) -> Option<i32> {
        wait_for("the process ends", || self.0.try_wait().unwrap().is_some());
        self.0.wait().unwrap().code()
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // It has ended, mostly.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// A shell that stays open.
struct Shell {
    process: Running,
    input: Option<ChildStdin>,
    said: Receiver<String>,
}

/// What `.maxrows` says in a [`Shell`]: that the answer before it is over.
const END: &str = "123456789";

impl Shell {
    fn start(bucket: &Bucket, root: &str, args: &[&str]) -> Self {
        let args = [&[root, "-q", "--format", "csv", "--on-error", "continue"][..], args].concat();
        // Rows and errors in one stream, so that they stay in order.
        let (output, said) = std::io::pipe().unwrap();
        let mut command = command(bucket, &args);
        command.stdin(Stdio::piped()).stdout(said.try_clone().unwrap()).stderr(said);
        let mut process = Running(command.spawn().unwrap());
        // It holds the end of the stream that is written.
        drop(command);
        let mut shell = Self { input: process.0.stdin.take(), process, said: lines(output) };
        shell.write(&format!(".maxrows {END}\n"));
        shell
    }

    /// What it says to one statement: rows as CSV, or an error.
    fn ask(&mut self, sql: &str) -> String {
        self.write(&format!("{sql};\n.maxrows\n"));
        let mut answer = String::new();
        loop {
            match self.said.recv_timeout(SOON) {
                Ok(line) if line == END => return answer,
                Ok(line) => answer.push_str(&format!("{line}\n")),
                Err(error) => panic!("{sql}: {error}, after {answer:?}"),
            }
        }
    }

    /// Runs a statement that succeeds.
    fn run(&mut self, sql: &str) {
        let answer = self.ask(sql);
        assert!(!answer.contains("error["), "{sql}: {answer}");
    }

    /// Ends it in order.
    fn leave(mut self) -> Option<i32> {
        drop(self.input.take());
        self.process.ended()
    }

    fn write(&mut self, text: &str) {
        self.input.as_mut().unwrap().write_all(text.as_bytes()).unwrap();
    }
}

/// The lines of a stream, as they come.
fn lines(stream: PipeReader) -> Receiver<String> {
    let (send, lines) = channel();
    std::thread::spawn(move || {
        // A test that is over does not listen any more.
        BufReader::new(stream).lines().map_while(Result::ok).try_for_each(|line| send.send(line))
    });
    lines
}

/// The id a client gives to a commit.
const COMMIT: &str = "6f1c9d0e-3a52-4d7e-9b1f-0c8a7e5d2b43";

#[test]
fn what_one_process_wrote_is_there_for_the_next() {
    let Some(bucket) = Bucket::start() else { return };
    let root: &str = &bucket.url("some/where");
    run(&bucket, root, "CREATE TABLE t (id BIGINT PRIMARY KEY, name TEXT, place VECTOR(2))");
    let load = format!(
        "SET commit_id = '{COMMIT}';
         INSERT INTO t SELECT i, 'n' || i, ARRAY[i, 1] FROM generate_series(1, 1000) AS g(i)"
    );
    run(&bucket, root, &load);
    let count = "SELECT count(*) AS n, sum(id) AS s FROM t";
    assert_eq!(rows(&bucket, root, count), "n,s\n1000,500500\n");
    let version =
        rows(&bucket, root, &format!("SELECT version FROM system.versions WHERE commit_id = '{COMMIT}'"));
    let version = version.lines().nth(1).unwrap();
    run(&bucket, root, "CHECKPOINT");
    assert_eq!(rows(&bucket, root, count), "n,s\n1000,500500\n");
    let told = rows(&bucket, root, &format!("SHOW COMMIT '{COMMIT}'"));
    assert!(told.contains(&format!("\n{COMMIT},{version},")) && told.ends_with(",committed\n"), "{told}");
    // Whoever was not told that it is there writes it again.
    run(&bucket, root, &load);
    assert_eq!(rows(&bucket, root, count), "n,s\n1000,500500\n");

    run(&bucket, root, "DELETE FROM t WHERE id % 10 = 0; UPDATE t SET name = 'changed' WHERE id <= 5");
    let changed = "SELECT count(*) AS n, count(*) FILTER (WHERE name = 'changed') AS c FROM t";
    assert_eq!(rows(&bucket, root, changed), "n,c\n900,5\n");
    let nearest = "SELECT id FROM vector_search('t', 'place', '[10.4,1]', k => 3)";
    assert_eq!(rows(&bucket, root, nearest), "id\n11\n9\n12\n");
    // A compaction, which may come to a process that takes its time, would leave the index to the next checkpoint.
    let index = "CREATE INDEX t_place ON t USING hnsw (place) WITH (metric = 'l2'); CHECKPOINT";
    let built = ask(&bucket, root, &["--no-upkeep"], index);
    assert_eq!(built.code, Some(0), "{}", built.err);
    assert_eq!(rows(&bucket, root, "SELECT state FROM system.indexes"), "state\nready\n");
    assert_eq!(rows(&bucket, root, nearest), "id\n11\n9\n12\n");
    assert_eq!(rows(&bucket, root, changed), "n,c\n900,5\n");
    assert_eq!(
        rows(&bucket, root, "SELECT name FROM t WHERE id IN (5, 7, 10) ORDER BY id"),
        "name\nchanged\nn7\n"
    );
    assert_eq!(ask(&bucket, root, &[], "WARM TABLE t").code, Some(0));

    run(
        &bucket,
        root,
        "CREATE VIEW few AS SELECT * FROM t WHERE id < 4; CREATE TABLE u AS SELECT id FROM t; DROP TABLE u;
         CREATE SCHEMA app; CREATE TABLE app.t (a BIGINT); INSERT INTO app.t VALUES (1)",
    );
    let both = "SELECT (SELECT count(*) FROM few) AS few, (SELECT count(*) FROM app.t) AS app";
    assert_eq!(rows(&bucket, root, both), "few,app\n3,1\n");
    assert!(ask(&bucket, root, &[], "SELECT * FROM u").err.starts_with("error[42P01]"));
    run(&bucket, root, "DROP VIEW few; DROP TABLE t; DROP SCHEMA app CASCADE; CHECKPOINT");
    assert!(ask(&bucket, root, &[], "SELECT * FROM t").err.starts_with("error[42P01]"));
    assert!(bucket.keys("").iter().all(|key| key.starts_with("some/where/")), "{:?}", bucket.keys(""));
}

#[test]
fn whoever_only_looks_disturbs_nobody() {
    let Some(bucket) = Bucket::start() else { return };
    let root: &str = &bucket.url("db");
    let mut writer = Shell::start(&bucket, root, &[]);
    writer.run("CREATE TABLE t (id BIGINT PRIMARY KEY)");
    let mut other = Shell::start(&bucket, root, &[]);
    for id in 0..5 {
        writer.run(&format!("INSERT INTO t VALUES ({id})"));
        let seen = rows(&bucket, root, "SELECT count(*) AS n FROM t");
        assert_eq!(seen, format!("n\n{}\n", id + 1), "a new reader sees everything acknowledged");
        for sql in ["BEGIN", "SELECT count(*) AS n FROM t", "COMMIT", "VERIFY"] {
            other.run(sql);
        }
    }
    writer.run("CHECKPOINT");
    assert_eq!(other.leave(), Some(0));
    writer.run("INSERT INTO t VALUES (5)");
    assert_eq!(writer.leave(), Some(0));
    assert_eq!(rows(&bucket, root, "SELECT count(*) AS n FROM t"), "n\n6\n");
}

#[test]
fn a_reader_follows() {
    let Some(bucket) = Bucket::start() else { return };
    // The whole bucket is the database.
    let root: &str = &bucket.url("");
    let mut writer = Shell::start(&bucket, root, &[]);
    writer.run("CREATE TABLE t (id BIGINT PRIMARY KEY, v BIGINT)");
    let mut reader = Shell::start(&bucket, root, &["--read-only"]);
    for round in 1..=3 {
        writer.run(&format!("INSERT INTO t SELECT {round} * 100 + i, 0 FROM generate_series(1, 10) AS g(i)"));
        writer.run(&format!("UPDATE t SET v = {round}"));
        if round == 2 {
            writer.run("CHECKPOINT");
        }
        std::thread::sleep(POLLED);
        // What is older than poll_interval is seen; later, where asking takes its time.
        let expected = format!("n,v\n{},{round}\n", round * 10);
        wait_for("the reader follows", || reader.ask("SELECT count(*) AS n, min(v) AS v FROM t") == expected);
    }
    let refused = reader.ask("DELETE FROM t");
    assert!(refused.starts_with("error[25006]"), "{refused}");
    writer.run("INSERT INTO t VALUES (1, 1)");
    assert_eq!(writer.leave(), Some(0));
    assert!(bucket.get("CAIRN").is_some(), "{:?}", bucket.keys(""));
}

#[test]
fn a_second_writer_is_refused_until_it_takes_over() {
    let Some(bucket) = Bucket::start() else { return };
    let root: &str = &bucket.url("db");
    let mut first = Shell::start(&bucket, root, &[]);
    first.run("CREATE TABLE t (id BIGINT PRIMARY KEY)");
    first.run("INSERT INTO t VALUES (1), (2), (3)");

    let refused = ask(&bucket, root, &[], "INSERT INTO t VALUES (4)");
    assert_eq!((refused.code, refused.out.as_str()), (Some(1), ""));
    assert!(refused.err.starts_with("error[57P03]"), "{}", refused.err);
    assert!(refused.err.contains(&first.process.pid()), "it names the process: {}", refused.err);
    assert!(refused.err.contains("--take-over"), "{}", refused.err);
    first.run("INSERT INTO t VALUES (4)");

    let mut second = Shell::start(&bucket, root, &["--take-over"]);
    // It may, but has not yet.
    assert_eq!(second.ask("SELECT count(*) AS n FROM t"), "n\n4\n");
    first.run("INSERT INTO t VALUES (5)");
    second.run("INSERT INTO t VALUES (6)");
    let fenced = first.ask("INSERT INTO t VALUES (7)");
    assert!(fenced.starts_with("error[57P04]"), "{fenced}");
    let again = first.ask("DELETE FROM t");
    assert!(again.starts_with("error[57P04]"), "{again}");
    assert_eq!(first.ask("SELECT count(*) AS n FROM t WHERE id <= 5"), "n\n5\n", "it still reads");
    second.run("INSERT INTO t VALUES (8)");
    first.leave();
    second.run("INSERT INTO t VALUES (9)");
    assert_eq!(second.leave(), Some(0));

    assert_eq!(rows(&bucket, root, "SELECT id FROM t ORDER BY id"), "id\n1\n2\n3\n4\n5\n6\n8\n9\n");
    // The last one left in order: nobody needs to take over.
    run(&bucket, root, "INSERT INTO t VALUES (10)");
    assert_eq!(bad_findings(&findings(&bucket, root)), Vec::<String>::new());
}

#[test]
fn of_many_that_take_over_at_once_each_keeps_what_was_acknowledged() {
    let Some(bucket) = Bucket::start() else { return };
    let root: &str = &bucket.url("db");
    run(&bucket, root, "CREATE TABLE t (id BIGINT PRIMARY KEY)");
    let start = |number: usize| {
        let sql: String =
            (0..20).map(|i| format!("INSERT INTO t VALUES ({});\n", number * 100 + i)).collect();
        command(&bucket, &[root, "--take-over", "-c", &sql]).spawn().unwrap()
    };
    let started: Vec<Child> = (0..4).map(start).collect();
    let mut expected = "id\n".to_owned();
    let mut whole = 0;
    for (number, process) in started.into_iter().enumerate() {
        let ran = finished(process.wait_with_output().unwrap());
        let acknowledged = ran.out.lines().filter(|line| *line == "INSERT 1").count();
        if ran.code == Some(0) {
            assert_eq!(acknowledged, 20, "{ran:?}");
            whole += 1;
        } else {
            // It was told that the next one is not there.
            assert!(ran.err.starts_with("error[57P0"), "{ran:?}");
        }
        (0..acknowledged).for_each(|i| expected.push_str(&format!("{}\n", number * 100 + i)));
    }
    assert!(whole > 0, "the last one that took over is left in peace");
    assert_eq!(rows(&bucket, root, "SELECT id FROM t ORDER BY id"), expected);
    assert_eq!(bad_findings(&findings(&bucket, root)), Vec::<String>::new());
}

/// Rows of one statement of the load.
const ROWS: usize = 10;

#[test]
fn nothing_acknowledged_is_lost_by_a_kill() {
    let Some(bucket) = Bucket::start() else { return };
    let root: &str = &bucket.url("db");
    run(&bucket, root, "CREATE TABLE t (id BIGINT PRIMARY KEY, round BIGINT)");
    let home = tempfile::tempdir().unwrap();
    let load = home.path().join("load.sql");
    let mut kept = BTreeMap::new();
    // Killed after so many statements and milliseconds; once while it takes over, maybe.
    for (round, (statements, pause)) in [(3, 0), (0, 400), (9, 7), (16, 23), (28, 3)].into_iter().enumerate()
    {
        let mut script = String::new();
        for number in 0..5000 {
            let first = (round * 5000 + number) * ROWS;
            script.push_str(&format!(
                "INSERT INTO t SELECT {first} + i, {round} FROM generate_series(0, {}) AS g(i);\n",
                ROWS - 1
            ));
            if number % 8 == 7 {
                script.push_str("CHECKPOINT;\n");
            }
        }
        std::fs::write(&load, script).unwrap();
        let args = [root, "--take-over", "-f", load.to_str().unwrap()];
        let mut writer = Running(command(&bucket, &args).stderr(Stdio::inherit()).spawn().unwrap());
        let mut output = BufReader::new(writer.0.stdout.take().unwrap());
        let mut acknowledged = 0;
        while acknowledged < statements {
            let mut line = String::new();
            assert!(output.read_line(&mut line).unwrap() > 0, "round {round}: it ended by itself");
            acknowledged += usize::from(line == format!("INSERT {ROWS}\n"));
        }
        std::thread::sleep(Duration::from_millis(pause));
        writer.kill();
        let mut rest = String::new();
        output.read_to_string(&mut rest).unwrap();
        acknowledged += rest.lines().filter(|line| *line == format!("INSERT {ROWS}")).count();

        let sql = format!("SELECT count(*), count(DISTINCT id), max(id) + 1 FROM t WHERE round = {round}");
        let found = rows(&bucket, root, &sql);
        let numbers: Vec<usize> =
            found.lines().nth(1).unwrap().split(',').map(|n| n.parse().unwrap_or(0)).collect();
        // The statement in flight is there wholly or not at all.
        let possible = [acknowledged * ROWS, (acknowledged + 1) * ROWS];
        assert!(possible.contains(&numbers[0]), "round {round}: {acknowledged} acknowledged, {numbers:?}");
        assert_eq!(numbers[1], numbers[0], "round {round}");
        if numbers[0] > 0 {
            assert_eq!(numbers[2], round * 5000 * ROWS + numbers[0], "round {round}");
            kept.insert(round, numbers[0]);
        }
    }
    let after = ask(&bucket, root, &["--take-over"], "INSERT INTO t VALUES (-1, -1)");
    assert_eq!(after.code, Some(0), "{}", after.err);
    let mut expected = "round,n\n-1,1\n".to_owned();
    kept.iter().for_each(|(round, rows)| expected.push_str(&format!("{round},{rows}\n")));
    let found = rows(&bucket, root, "SELECT round, count(*) AS n FROM t GROUP BY round ORDER BY round");
    assert_eq!(found, expected);
    assert_eq!(bad_findings(&findings(&bucket, root)), Vec::<String>::new());
}

/// A server, and where it listens.
struct Server {
    process: Running,
    url: String,
}

impl Server {
    fn start(bucket: &Bucket, root: &str, args: &[&str]) -> Result<Self, String> {
        let args = [&["serve", root, "--flight-listen=127.0.0.1:0", "--http-listen=off"][..], args].concat();
        let mut process = Running(command(bucket, &args).spawn().unwrap());
        let mut said = String::new();
        let mut lines = BufReader::new(process.0.stderr.take().unwrap());
        while lines.read_line(&mut said).unwrap() > 0 {
            let url = said.lines().last().and_then(|line| line.strip_prefix("Flight SQL: "));
            if let Some(url) = url {
                return Ok(Self { process, url: url.to_owned() });
            }
        }
        assert_eq!(process.ended(), Some(1), "{said}");
        Err(said)
    }
}

#[test]
fn a_server_owns_its_database_from_the_start() {
    let Some(bucket) = Bucket::start() else { return };
    let root: &str = &bucket.url("served");
    let mut server = Server::start(&bucket, root, &[]).unwrap();
    // Nothing was changed yet.
    let refused = ask(&bucket, root, &[], "CREATE TABLE other (a BIGINT)");
    assert_eq!(refused.code, Some(1));
    assert!(refused.err.starts_with("error[57P03]"), "{}", refused.err);
    assert!(refused.err.contains(&server.process.pid()), "{}", refused.err);
    let second = Server::start(&bucket, root, &[]).err().unwrap();
    assert!(second.contains("error[57P03]") && second.contains("--take-over"), "{second}");

    run(&bucket, &server.url, "CREATE TABLE t (id BIGINT PRIMARY KEY); INSERT INTO t VALUES (1), (2)");
    assert_eq!(rows(&bucket, &server.url, "SELECT sum(id) AS s FROM t"), "s\n3\n");
    assert_eq!(rows(&bucket, root, "SELECT sum(id) AS s FROM t"), "s\n3\n", "a reader beside it");
    let sent = Command::new("kill").args(["-TERM", &server.process.pid()]).status().unwrap();
    assert!(sent.success());
    assert_eq!(server.process.ended(), Some(0));
    run(&bucket, root, "INSERT INTO t VALUES (4)");

    // One that is alive is taken over where that is asked for; one whose process is gone from this machine, without.
    let mut alive = Server::start(&bucket, root, &[]).unwrap();
    run(&bucket, &alive.url, "INSERT INTO t VALUES (8)");
    let mut killed = Server::start(&bucket, root, &["--take-over"]).unwrap();
    let fenced = ask(&bucket, &alive.url, &[], "INSERT INTO t VALUES (32)");
    assert!(fenced.err.starts_with("error[57P04]"), "{}", fenced.err);
    killed.process.kill();
    alive.process.kill();
    let taken = Server::start(&bucket, root, &[]).unwrap();
    assert_eq!(rows(&bucket, &taken.url, "INSERT INTO t VALUES (16); SELECT sum(id) AS s FROM t"), "s\n31\n");
}

/// What VERIFY finds, as it says it.
fn findings(bucket: &Bucket, root: &str) -> Vec<Value> {
    let ran =
        finished(command(bucket, &[root, "-q", "--format", "ndjson", "-c", "VERIFY"]).output().unwrap());
    assert_eq!(ran.code, Some(0), "{}", ran.err);
    let found: Vec<Value> = ran.out.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert!(!found.is_empty(), "VERIFY checked nothing");
    found
}

/// Those of what is missing or damaged.
fn bad_findings(findings: &[Value]) -> Vec<String> {
    let bad = findings.iter().filter(|finding| finding["status"] != "ok" && finding["status"] != "warning");
    bad.map(Value::to_string).collect()
}

#[test]
fn verify_misses_nothing_and_finds_what_is_nobodys() {
    let Some(bucket) = Bucket::start() else { return };
    let root: &str = &bucket.url("db");
    run(
        &bucket,
        root,
        "CREATE TABLE t (id BIGINT PRIMARY KEY); INSERT INTO t SELECT i FROM generate_series(1, 100) AS g(i); CHECKPOINT",
    );
    let clean = findings(&bucket, root);
    assert!(clean.iter().all(|finding| finding["status"] == "ok"), "{clean:?}");

    let objects = bucket.keys("db/table/");
    // The table of jobs has segments too, and no key.
    let is_keyed = |key: &&String| objects.contains(&key.replace(".parquet", ".keys"));
    let segments: Vec<&String> =
        objects.iter().filter(|key| key.ends_with(".parquet")).filter(is_keyed).collect();
    let [segment] = segments[..] else { panic!("{objects:?}") };
    let bytes = bucket.get(segment).unwrap();
    // Named as one of a writer's, with another last digit.
    let name = segment.strip_suffix(".parquet").unwrap();
    let other = if name.ends_with('0') { '1' } else { '0' };
    let orphan = format!("{}{other}.parquet", &name[..name.len() - 1]);
    bucket.put(&orphan, &bytes);
    let beside = findings(&bucket, root);
    assert_eq!(bad_findings(&beside), Vec::<String>::new());
    let warned: Vec<String> =
        beside.iter().filter(|finding| finding["status"] == "warning").map(Value::to_string).collect();
    let listed = |warning: &String| {
        warning.contains(orphan.strip_prefix("db/").unwrap()) && warning.contains(&bytes.len().to_string())
    };
    assert!(warned.iter().any(listed), "{orphan} of {} bytes: {warned:?}", bytes.len());

    bucket.delete(segment);
    let missing = bad_findings(&findings(&bucket, root));
    let path = segment.strip_prefix("db/").unwrap();
    assert!(
        missing.iter().any(|finding| finding.contains(path) && finding.contains("missing")),
        "{missing:?}"
    );
    let read = ask(&bucket, root, &[], "SELECT sum(id) FROM t");
    assert_eq!((read.code, read.out.as_str()), (Some(1), ""), "fewer rows are no answer: {}", read.err);
}

#[test]
fn files_go_in_and_out_of_a_bucket() {
    let Some(bucket) = Bucket::start() else { return };
    let create = format!(
        "CREATE SECRET s (TYPE s3, KEY_ID 'test', SECRET 'test', REGION 'us-east-1', ENDPOINT '{}', \
         URL_STYLE 'path', USE_SSL false)",
        bucket.endpoint()
    );
    // By the variables of the environment, then by a secret without any.
    for (folder, first, environment) in
        [("variables", "SELECT 1 AS a", bucket.env()), ("secret", create.as_str(), Vec::new())]
    {
        let run = |sql: &str| {
            let args = [":memory:", "-q", "--format", "csv", "-c", first, "-c", sql];
            let ran = finished(bare_command(&args).envs(environment.clone()).output().unwrap());
            assert_eq!(ran.code, Some(0), "{sql}: {}", ran.err);
            ran.out.strip_prefix("a\n1\n").unwrap_or(&ran.out).to_owned()
        };
        for kind in ["parquet", "csv", "ndjson"] {
            let file = bucket.url(&format!("{folder}/t.{kind}"));
            run(&format!(
                "CREATE TABLE t AS SELECT i AS id, 'n' || i AS name FROM generate_series(1, 100) AS g(i);
                 COPY t TO '{file}'"
            ));
            let read = run(&format!("SELECT count(*) AS n, sum(id) AS s, max(name) AS m FROM '{file}'"));
            assert_eq!(read, "n,s,m\n100,5050,n99\n", "{file}");
            let back = run(&format!(
                "CREATE TABLE t (id BIGINT PRIMARY KEY, name TEXT); COPY t FROM '{file}';
                 SELECT count(*) AS n, sum(id) AS s, max(name) AS m FROM t"
            ));
            assert_eq!(back, "n,s,m\n100,5050,n99\n", "{file}");
        }
        let files = ["csv", "ndjson", "parquet"].map(|kind| format!("{folder}/t.{kind}"));
        assert_eq!(bucket.keys(folder), files);
    }

    let absent = ask(&bucket, ":memory:", &[], &format!("SELECT * FROM '{}'", bucket.url("absent.csv")));
    assert_eq!(absent.code, Some(1));
    assert!(absent.err.contains("absent.csv"), "{}", absent.err);
    let wrong = "CREATE SECRET s (TYPE s3, KEY_ID 'test', SECRET 'hunter2', NONSENSE 'x')";
    let wrong = ask(&bucket, ":memory:", &[], wrong);
    assert_eq!(wrong.code, Some(1));
    assert!(!format!("{wrong:?}").contains("hunter2"), "{wrong:?}");
}

#[test]
fn what_is_not_there_is_said_soon() {
    let Some(bucket) = Bucket::start() else { return };
    let create = "CREATE TABLE t (a BIGINT)";
    let nowhere = ask(&bucket, "s3://cairn-no-such-bucket/db", &[], create);
    assert_eq!((nowhere.code, nowhere.out.as_str()), (Some(1), ""));
    let said = nowhere.err.starts_with("error[3D000]") && nowhere.err.contains("cairn-no-such-bucket");
    assert!(said, "{}", nowhere.err);

    let none = ask(&bucket, &bucket.url("none"), &["--read-only"], "SELECT 1");
    assert_eq!((none.code, none.out.as_str()), (Some(1), ""));
    assert!(none.err.starts_with("error[") && none.err.contains(&bucket.url("none")), "{}", none.err);
    assert_eq!(bucket.keys(""), Vec::<String>::new(), "nothing was made");

    // Nothing listens on the first port.
    let begun = Instant::now();
    let mut refused = command(&bucket, &[bucket.url("db").as_str(), "-q", "-c", create]);
    let refused = finished(refused.env("AWS_ENDPOINT_URL", "http://127.0.0.1:1").output().unwrap());
    assert_eq!((refused.code, refused.out.as_str()), (Some(1), ""));
    assert!(refused.err.starts_with("error[57P03]"), "{}", refused.err);
    assert!(refused.err.contains("127.0.0.1:1"), "{}", refused.err);
    assert!(begun.elapsed() < SOON, "{:?}", begun.elapsed());

    for root in ["s3://key:hunter2@bucket/db", "s3://bucket/db?X-Amz-Signature=hunter2"] {
        let told = ask(&bucket, root, &[], create);
        assert!(matches!(told.code, Some(1 | 2)), "{told:?}");
        assert!(told.err.contains("environment") && !told.err.contains("hunter2"), "{}", told.err);
    }
}
