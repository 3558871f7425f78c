//! The shell at a server: the same output, logins, and ends of many kinds.
#![allow(clippy::unwrap_used)]

use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use cairn_tests::without_settings;

/// Generous, for a machine that is busy with other tests.
const SOON: Duration = Duration::from_secs(120);

/// A server on a free port, killed at the end.
struct Server {
    child: Child,
    url: String,
}

impl Server {
    fn start(args: &[&str]) -> Self {
        let mut child = command(&["serve", ":memory:", "--flight-listen=127.0.0.1:0", "--http-listen=off"])
            .args(args)
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(child.stderr.take().unwrap()).lines();
        let url =
            lines.find_map(|line| line.unwrap().strip_prefix("Flight SQL: ").map(str::to_owned)).unwrap();
        Self { child, url }
    }

    fn run(&self, args: &[&str], input: &str) -> Ran {
        reading(command(&[&[self.url.as_str()][..], args].concat()), input)
    }

    fn kill(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // It may have been killed already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[derive(Debug, PartialEq, Eq)]
struct Ran {
    code: Option<i32>,
    out: String,
    err: String,
}

fn command(args: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_cairn"));
    without_settings(&mut command);
    command.args(args).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}

fn finished(output: Output) -> Ran {
    Ran {
        code: output.status.code(),
        out: String::from_utf8(output.stdout).unwrap(),
        err: String::from_utf8(output.stderr).unwrap(),
    }
}

fn reading(mut command: Command, input: &str) -> Ran {
    let mut child = command.stdin(Stdio::piped()).spawn().unwrap();
    // Whoever leaves at once reads nothing.
    let _ = child.stdin.take().unwrap().write_all(input.as_bytes());
    finished(child.wait_with_output().unwrap())
}

fn wait_for(what: &str, mut is: impl FnMut() -> bool) {
    let begun = Instant::now();
    while !is() {
        assert!(begun.elapsed() < SOON, "{what}: not after {:?}", begun.elapsed());
        std::thread::sleep(Duration::from_millis(20));
    }
}

const SCRIPT: &str = r#"
CREATE TABLE notes (id BIGINT PRIMARY KEY, title TEXT NOT NULL, tags TEXT[], at TIMESTAMPTZ, day DATE, price DECIMAL(10,2),
  v VECTOR(9), doc JSON, raw BYTEA, ok BOOLEAN, ratio DOUBLE, part STRUCT(a INTEGER, b TEXT));
INSERT INTO notes VALUES
  (1, 'Häfen', ['sea', NULL], '2024-02-29 01:02:03+02', '2024-02-29', 12.50, '[1,2,3,4,5,6,7,8,9]', '{"a": [1]}', X'00ff', true, 1.5,
   named_struct('a', 1, 'b', 'x')),
  (2, '', [], NULL, NULL, NULL, NULL, NULL, NULL, NULL, 'NaN', NULL);
CREATE TABLE IF NOT EXISTS notes (a INT);
UPDATE notes SET title = upper(title) WHERE id = 1 RETURNING id, title;
UPDATE notes SET price = 1 WHERE id > 5;
SELECT * FROM notes ORDER BY id;
SELECT NULL AS nothing, 1 AS one, INTERVAL '1 day' AS later, 'a' || chr(9) || 'b' AS tab, arrow_cast('x', 'Dictionary(Int32, Utf8)') AS d;
SELECT value AS n FROM generate_series(1, 5000) ORDER BY value;
.mode vertical
SELECT * FROM notes ORDER BY id;
.mode csv
SELECT * FROM notes ORDER BY id;
.mode json
SELECT * FROM notes ORDER BY id;
.mode ndjson
SELECT * FROM notes ORDER BY id;
INSERT INTO notes (id, title) VALUES (3, 'three');
.mode box
CREATE INDEX ON notes USING hnsw (v);
.tables
.schema notes
.schema
.indexes
SELECT *
  FROM nothing_here;
SELECT titel FROM notes;
INSERT INTO notes (id, title) VALUES (1, 'again');
INSERT INTO notes (id, title) VALUES (9, NULL);
SELEC 1;
SELECT 1 / 0;
SELECT CAST('x' AS INTEGER);
BEGIN;
DELETE FROM notes;
SELECT count(*) AS n FROM notes;
BEGIN;
ROLLBACK;
SELECT count(*) AS n FROM notes;
COMMIT;
CREATE SCHEMA app;
USE app;
CREATE TABLE t AS SELECT 1 AS a;
SELECT * FROM t;
SHOW search_path;
EXPLAIN SELECT 1;
.nonsense
BEGIN;
DELETE FROM t;
"#;

#[test]
fn a_script_says_the_same_at_a_server() {
    // Upkeep would compact the table now or later, which sizes and the index show.
    let server = Server::start(&["--storage-upkeep=false"]);
    let args = ["--on-error", "continue"];
    let here = reading(command(&[":memory:", "--no-upkeep", "--on-error", "continue"]), SCRIPT);
    let there = server.run(&args, SCRIPT);
    assert_eq!(here.code, Some(1));
    for (here, there) in [(&here.out, &there.out), (&here.err, &there.err)] {
        let difference = here.lines().zip(there.lines()).find(|(here, there)| here != there);
        assert_eq!(difference, None, "{here}\n----\n{there}");
    }
    assert_eq!(there, here);
    assert!(here.err.ends_with("the open transaction was rolled back: it had no COMMIT\n"), "{}", here.err);
    assert!(here.err.contains("\nhint: did you mean title?\n"), "{}", here.err);
    let after = server.run(&["--format", "csv", "-c", "SELECT count(*) AS n FROM app.t"], "");
    assert_eq!(after, Ran { code: Some(0), out: "n\n1\n".to_owned(), err: String::new() });
}

#[test]
fn remarks_are_told_beside_rows_too() {
    let server = Server::start(&[]);
    let give = "SET commit_id = '6f1c9d0e-3a52-4d7e-9b1f-0c8a7e5d2b43';\n";
    let change = "INSERT INTO t VALUES (1) RETURNING a;\n";
    let script = format!("CREATE TABLE t (a INT);\n{give}{change}{give}{change}");
    let here = reading(command(&[":memory:", "--format", "csv"]), &script);
    for ran in [here, server.run(&["--format", "csv"], &script)] {
        assert_eq!((ran.code, ran.out.as_str()), (Some(0), "a\n1\na\n"), "{}", ran.err);
        let notes: Vec<&str> = ran.err.lines().filter(|line| line.starts_with("note: ")).collect();
        assert!(notes.len() == 1 && notes[0].contains("2b43 is there already, at version "), "{}", ran.err);
    }
}

#[test]
fn rows_stream_and_a_reader_may_go_away() {
    let server = Server::start(&[]);
    let sql = "SELECT value AS n, repeat('x', 100) AS x FROM generate_series(1, 3000000)";
    let mut child = command(&[&server.url, "--format", "csv", "-c", sql]).spawn().unwrap();
    let mut first = String::new();
    BufReader::new(child.stdout.take().unwrap()).read_line(&mut first).unwrap();
    let ran = finished(child.wait_with_output().unwrap());
    assert_eq!((first.as_str(), ran.code, ran.err.as_str()), ("n,x\n", Some(0), ""));
    // Larger than the messages that gRPC clients take by default.
    let wide = server.run(&["--format", "csv", "-c", "SELECT repeat('x', 6000000) AS x"], "");
    assert_eq!((wide.code, wide.out.len()), (Some(0), 2 + 6_000_000 + 1), "{}", wide.err);
}

#[test]
fn users_log_in_with_their_password_only() {
    let server = Server::start(&[]);
    assert_eq!(server.run(&["-c", "CREATE USER anna SUPERUSER PASSWORD 'open: sesame'"], "").code, Some(0));

    let nobody = server.run(&["-c", "SELECT 1"], "");
    assert_eq!((nobody.code, nobody.out.as_str()), (Some(1), ""));
    assert!(nobody.err.starts_with("error[28000]: "), "{}", nobody.err);
    assert!(
        nobody.err.contains("hint: give --user NAME; the password comes from CAIRN_PASSWORD"),
        "{}",
        nobody.err
    );

    let as_anna = ["--user", "anna", "--format", "csv", "-c", "SELECT current_user AS me"];
    let silent = server.run(&as_anna, "");
    assert_eq!(silent.code, Some(1));
    assert!(silent.err.starts_with("error[28000]: there is no password for anna\n"), "{}", silent.err);

    let with = |password: &str| {
        let mut command = command(&[&[server.url.as_str()][..], &as_anna].concat());
        command.env("CAIRN_PASSWORD", password);
        finished(command.output().unwrap())
    };
    let wrong = with("guess");
    assert_eq!((wrong.code, wrong.out.as_str()), (Some(1), ""));
    assert!(wrong.err.starts_with("error[28P01]: "), "{}", wrong.err);
    assert_eq!(with("open: sesame").out, "me\nanna\n");

    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("password");
    fs::write(&file, "open: sesame\n").unwrap();
    let from_file = server.run(&[&as_anna[..], &["--password-file", text(&file)]].concat(), "");
    assert_eq!((from_file.code, from_file.out.as_str()), (Some(0), "me\nanna\n"), "{}", from_file.err);
    fs::remove_file(&file).unwrap();
    let no_file = server.run(&[&as_anna[..], &["--password-file", text(&file)]].concat(), "");
    assert_eq!(no_file.code, Some(1));
    assert!(no_file.err.contains(&format!("{} can't be read", text(&file))), "{}", no_file.err);
}

#[test]
fn wrong_addresses_are_explained() {
    let refused = finished(command(&["grpc://anna:secret@127.0.0.1:1", "-c", "SELECT 1"]).output().unwrap());
    assert_eq!(refused.code, Some(2));
    assert!(refused.err.contains("--user NAME") && !refused.err.contains("secret"), "{}", refused.err);

    let nobody = finished(command(&["grpc://127.0.0.1:1", "-c", "SELECT 1"]).output().unwrap());
    assert_eq!(nobody.code, Some(1));
    let begins = "error[08001]: grpc://127.0.0.1:1 can't be reached: Connection refused";
    assert!(nobody.err.starts_with(begins), "{}", nobody.err);
    assert!(nobody.err.contains("\nhint: `cairn serve ROOT`"), "{}", nobody.err);

    let server = Server::start(&[]);
    let secure = server.url.replace("grpc://", "grpc+tls://");
    let confused = finished(command(&[&secure, "-c", "SELECT 1"]).output().unwrap());
    assert_eq!(confused.code, Some(1));
    assert!(
        confused.err.starts_with("error[08001]: ") && confused.err.contains("hint: grpc://"),
        "{}",
        confused.err
    );
}

#[test]
fn a_script_ends_when_the_server_is_gone() {
    let mut server = Server::start(&[]);
    let mut child = command(&[&server.url, "--format", "csv", "--on-error", "continue"])
        .stdin(Stdio::piped())
        .spawn()
        .unwrap();
    let mut input = child.stdin.take().unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    input.write_all(b"SELECT 1 AS a;\nBEGIN;\nSELECT 2 AS b;\n").unwrap();
    for line in ["a", "1", "b", "2"] {
        assert_eq!(lines.next().unwrap().unwrap(), line);
    }
    server.kill();
    // What was meant for the transaction must not run outside of it.
    let _ = input.write_all(b"SELECT 3 AS c;\nSELECT 4 AS d;\n");
    drop(input);
    let ran = finished(child.wait_with_output().unwrap());
    assert_eq!((ran.code, lines.next().is_none()), (Some(1), true));
    let [said, ..] = ran.err.lines().filter(|line| line.starts_with("error")).collect::<Vec<_>>()[..] else {
        panic!("{}", ran.err)
    };
    assert!(
        said.starts_with(&format!("error[08006]: the connection to {} is lost: ", server.url)),
        "{}",
        ran.err
    );
    assert_eq!(ran.err.matches("error[").count(), 1, "{}", ran.err);
}

#[test]
fn a_session_that_has_ended_ends_the_script() {
    let server = Server::start(&["--session-idle=3 s"]);
    let mut child = command(&[&server.url, "--on-error", "continue"]).stdin(Stdio::piped()).spawn().unwrap();
    let mut input = child.stdin.take().unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    input.write_all(b"BEGIN;\n").unwrap();
    assert_eq!(lines.next().unwrap().unwrap(), "BEGIN");
    std::thread::sleep(Duration::from_secs(8));
    let _ = input.write_all(b"CREATE TABLE outside (a INT);\nSELECT 1;\n");
    drop(input);
    let ran = finished(child.wait_with_output().unwrap());
    assert_eq!(ran.code, Some(1));
    let said = format!(
        "error[28000]: the session at {} has ended; the open transaction is rolled back\n",
        server.url
    );
    assert!(ran.err.starts_with(&said), "{}", ran.err);
    assert_eq!(ran.err.matches("error[").count(), 1, "{}", ran.err);
    assert!(server.run(&["-c", "SELECT * FROM outside"], "").err.starts_with("error[42P01]"));
}

// Of these rows none ever comes; of the others there is no end.
#[test]
fn ctrl_c_cancels_the_statement_at_the_server() {
    cancelled(
        "counted",
        "SELECT count(*) AS counted FROM generate_series(1, 1000000) AS a, generate_series(1, 1000000) AS b \
         WHERE a.value * b.value % 7 = 8",
    );
}

#[test]
fn ctrl_c_cancels_the_statement_whose_rows_are_on_their_way() {
    cancelled("streamed", "SELECT value AS streamed FROM generate_series(1, 1000000000000)");
}

/// Interrupts a shell that waits for `sql`, of which `mark` is a part.
fn cancelled(mark: &str, sql: &str) {
    let dir = tempfile::tempdir().unwrap();
    let audit = dir.path().join(mark);
    // Of its own: what was cancelled may keep the threads of statements for a while.
    let server = Server::start(&["--audit-file", text(&audit)]);
    let outcome = || {
        let log = fs::read_to_string(&audit).unwrap_or_default();
        let line = log.lines().find(|line| line.contains(mark)).map(str::to_owned);
        line.map(|line| serde_json::from_str::<serde_json::Value>(&line).unwrap()["outcome"].clone())
    };
    let args = [server.url.as_str(), "--format", "csv", "-c", "SELECT 1 AS one", "-c", sql];
    let mut child = command(&args).spawn().unwrap();
    // The answer to the first statement says that the shell is up.
    let mut rows = BufReader::new(child.stdout.take().unwrap());
    let mut first = String::new();
    for _ in 0..2 {
        rows.read_line(&mut first).unwrap();
    }
    assert_eq!(first, "one\n1\n");
    let reading = std::thread::spawn(move || std::io::copy(&mut rows, &mut std::io::sink()));
    std::thread::sleep(Duration::from_secs(3));
    assert_eq!(outcome(), None, "it runs");
    let sent = Command::new("kill").args(["-INT", &child.id().to_string()]).status().unwrap();
    assert!(sent.success());
    wait_for("the shell ends", || child.try_wait().unwrap().is_some());
    let ran = finished(child.wait_with_output().unwrap());
    reading.join().unwrap().unwrap();
    assert_eq!((ran.code, ran.err.as_str()), (Some(130), "cancelled\n"));
    wait_for("the server hears of it", || outcome().is_some());
    assert_eq!(outcome().unwrap(), "57014");
}

#[test]
fn a_server_leaves_although_a_statement_never_yields() {
    let mut server = Server::start(&["--threads=1", "--limit-time=500 ms", "--drain=1 s"]);
    let begun = Instant::now();
    // One call of a function, for minutes.
    let sql = "SELECT levenshtein(repeat('a', 300000), repeat('b', 300000))";
    let late = server.run(&["-c", sql], "");
    assert_eq!(late.code, Some(1));
    assert!(late.err.starts_with("error[57014]"), "{}", late.err);
    assert!(begun.elapsed() < SOON, "{:?}", begun.elapsed());

    let sent = Command::new("kill").args(["-TERM", &server.child.id().to_string()]).status().unwrap();
    assert!(sent.success());
    wait_for("the server leaves", || server.child.try_wait().unwrap().is_some());
    // In order it cannot be: the one thread for that is kept.
    assert_eq!(server.child.wait().unwrap().code(), Some(130));
}

#[test]
fn encrypted_connections_prove_who_is_who() {
    use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};

    let dir = tempfile::tempdir().unwrap();
    let write = |name: &str, text: &str| {
        let path = dir.path().join(name);
        fs::write(&path, text).unwrap();
        path.to_str().unwrap().to_owned()
    };
    let mut authority = CertificateParams::new(Vec::new()).unwrap();
    authority.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let authority = CertifiedIssuer::self_signed(authority, KeyPair::generate().unwrap()).unwrap();
    let signed = |name: &str| {
        let key = KeyPair::generate().unwrap();
        let params = CertificateParams::new(vec![name.to_owned()]).unwrap();
        let certificate = params.signed_by(&key, &authority).unwrap().pem();
        (write(&format!("{name}.pem"), &certificate), write(&format!("{name}.key"), &key.serialize_pem()))
    };
    let ca = write("ca.pem", &authority.pem());
    let ((certificate, key), (own, own_key)) = (signed("localhost"), signed("client"));
    let server =
        Server::start(&["--tls-certificate", &certificate, "--tls-key", &key, "--tls-client-ca", &ca]);
    let url = server.url.replace("127.0.0.1", "localhost");
    assert!(url.starts_with("grpc+tls://"), "{url}");
    let ask = |args: &[&str]| {
        let args = [&[url.as_str(), "--format", "csv", "-c", "SELECT 1 AS one"][..], args].concat();
        finished(command(&args).output().unwrap())
    };
    let client = ["--tls-certificate", &own, "--tls-key", &own_key];
    let known = ask(&[&["--tls-ca", &ca][..], &client].concat());
    assert_eq!(known, Ran { code: Some(0), out: "one\n1\n".to_owned(), err: String::new() });
    for args in [&["--tls-ca", &ca][..], &client[..]] {
        let refused = ask(args);
        assert_eq!((refused.code, refused.out.as_str()), (Some(1), ""));
        assert!(refused.err.starts_with("error[08"), "{}", refused.err);
    }
}

fn text(path: &Path) -> &str {
    path.to_str().unwrap()
}
