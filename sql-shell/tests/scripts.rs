//! The binary as people and scripts call it: statements in, results, messages and exit codes out.
#![allow(clippy::unwrap_used)]

use std::io::Write;
use std::path::Path;
use std::process::{Command, Output, Stdio};

use cairn_tests::without_settings;

struct Ran {
    code: Option<i32>,
    out: String,
    err: String,
}

fn finished(output: Output) -> Ran {
    Ran {
        code: output.status.code(),
        out: String::from_utf8(output.stdout).unwrap(),
        err: String::from_utf8(output.stderr).unwrap(),
    }
}

fn command(args: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_cairn"));
    without_settings(&mut command);
    command.args(args).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}

fn cairn(args: &[&str]) -> Ran {
    finished(command(args).output().unwrap())
}

fn cairn_reading(args: &[&str], input: &str) -> Ran {
    let mut child = command(args).stdin(Stdio::piped()).spawn().unwrap();
    child.stdin.take().unwrap().write_all(input.as_bytes()).unwrap();
    finished(child.wait_with_output().unwrap())
}

fn path(path: &Path) -> &str {
    path.to_str().unwrap()
}

const THREE_ROWS: &str = "SELECT * FROM (VALUES (1, 'a'), (2, ''), (3, NULL)) AS t (id, word) ORDER BY id";

#[test]
fn every_format_writes_the_same_rows() {
    let run = |format| {
        let ran = cairn(&[":memory:", "--format", format, "-c", THREE_ROWS]);
        assert_eq!((ran.code, ran.err.as_str()), (Some(0), ""), "{format}");
        ran.out
    };
    assert_eq!(run("csv"), "id,word\n1,a\n2,\"\"\n3,\n");
    assert_eq!(run("tsv"), "id\tword\n1\ta\n2\t\n3\t\\N\n");
    assert_eq!(
        run("json"),
        "[{\"id\":1,\"word\":\"a\"},\n {\"id\":2,\"word\":\"\"},\n {\"id\":3,\"word\":null}]\n"
    );
    assert_eq!(
        run("ndjson"),
        "{\"id\":1,\"word\":\"a\"}\n{\"id\":2,\"word\":\"\"}\n{\"id\":3,\"word\":null}\n"
    );
    assert_eq!(run("markdown"), "| id | word |\n|---:|:---|\n| 1 | a |\n| 2 |  |\n| 3 | NULL |\n");
    assert!(run("vertical").ends_with("id   │ 3\nword │ NULL\n3 rows\n"));
    assert_eq!(
        run("box"),
        "┌────┬──────┐\n│ id │ word │\n├────┼──────┤\n│  1 │ a    │\n│  2 │      │\n│  3 │ NULL │\n└────┴──────┘\n3 rows\n"
    );
}

#[test]
fn a_database_is_made_written_and_found_again() {
    let dir = tempfile::tempdir().unwrap();
    let root = dir.path().join("notes");
    let made = cairn(&[
        path(&root),
        "-c",
        "CREATE TABLE notes (id BIGINT PRIMARY KEY, title TEXT NOT NULL)",
        "-c",
        "INSERT INTO notes VALUES (1, 'one'), (2, 'two'), (3, 'three')",
    ]);
    assert_eq!(made.code, Some(0), "{}", made.err);
    assert_eq!(made.out, "CREATE TABLE\nINSERT 3\n");
    assert_eq!(made.err, format!("created {}\n", path(&root)));

    let found = cairn(&[path(&root), "--format", "csv", "-c", "SELECT * FROM notes ORDER BY id"]);
    assert_eq!((found.code, found.out.as_str()), (Some(0), "id,title\n1,one\n2,two\n3,three\n"));
    assert_eq!(found.err, "");
}

#[test]
fn what_the_readme_shows_runs() {
    let readme = include_str!("../../README.md");
    let blocks = readme.split("```sql\n").skip(1).filter_map(|rest| rest.split_once("```"));
    let script: String = blocks.map(|(block, _)| block).collect();
    assert!(script.contains("CREATE TABLE notes") && script.contains("vector_search"), "{script}");
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("tour.sql"), &script).unwrap();
    let ran = finished(command(&["./notes", "-f", "tour.sql"]).current_dir(dir.path()).output().unwrap());
    assert_eq!((ran.code, ran.err.as_str()), (Some(0), "created ./notes\n"), "{}", ran.out);
    assert!(dir.path().join("notes.csv").exists());
}

#[test]
fn quiet_says_nothing_beside_results() {
    let dir = tempfile::tempdir().unwrap();
    let root = dir.path().join("q");
    let ran =
        cairn(&[path(&root), "-q", "-c", "CREATE TABLE t (a BIGINT); INSERT INTO t VALUES (1), (2), (3);"]);
    assert_eq!((ran.code, ran.out.as_str(), ran.err.as_str()), (Some(0), "", ""));
}

#[test]
fn tags_stay_out_of_program_formats() {
    let ran = cairn(&[
        ":memory:",
        "--format",
        "csv",
        "-c",
        "CREATE TABLE t (a BIGINT); INSERT INTO t VALUES (1), (2), (3); SELECT count(*) AS n FROM t",
    ]);
    assert_eq!((ran.code, ran.out.as_str()), (Some(0), "n\n3\n"));
    assert_eq!(ran.err, "CREATE TABLE\nINSERT 3\n");
}

#[test]
fn errors_have_a_place_and_a_caret() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("bad.sql");
    std::fs::write(&file, "SELECT 1 AS one;\n\nSELECT *\n  FROM nothing_here;\nSELECT 2 AS two;\n").unwrap();
    let ran = cairn(&[":memory:", "--format", "csv", "-f", path(&file)]);
    assert_eq!((ran.code, ran.out.as_str()), (Some(1), "one\n1\n"));
    let lines: Vec<&str> = ran.err.lines().collect();
    assert!(lines[0].starts_with("error[42P01]: ") && lines[0].contains("nothing_here"), "{}", ran.err);
    assert_eq!(lines[1], format!(" --> {}, line 4, column 8", path(&file)), "{}", ran.err);
    assert_eq!(lines[3..5], ["4 |   FROM nothing_here", "  |        ^"], "{}", ran.err);
    assert!(!ran.err.contains('\x1b'));

    let ran = cairn(&[":memory:", "--format", "csv", "--on-error", "continue", "-f", path(&file)]);
    assert_eq!((ran.code, ran.out.as_str()), (Some(1), "one\n1\ntwo\n2\n"));
}

#[test]
fn standard_input_is_a_script_with_commands() {
    let ran =
        cairn_reading(&[":memory:"], ".mode csv\nSELECT 1\n  AS a; SELECT 'x;y' AS b;\n\\x\nSELECT 2 AS c");
    assert_eq!((ran.code, ran.err.as_str()), (Some(0), ""));
    assert_eq!(ran.out, "a\n1\nb\nx;y\n─[ 1 ]\nc │ 2\n1 row\n");
    let ran = cairn_reading(&[":memory:", "-f", "-"], "SELECT 1 AS a;\n.exit 7\nSELECT 2;");
    assert_eq!(ran.code, Some(7));
}

#[test]
fn files_are_read_and_written() {
    let dir = tempfile::tempdir().unwrap();
    let (inner, result) = (dir.path().join("inner file.sql"), dir.path().join("out.csv"));
    std::fs::write(&inner, "SELECT 42 AS answer;\n").unwrap();
    let script = format!(
        ".mode csv\n.output {}\n.read '{}'\n.output\nSELECT 1 AS one;\n",
        path(&result),
        path(&inner)
    );
    let ran = cairn_reading(&[":memory:"], &script);
    assert_eq!((ran.code, ran.out.as_str(), ran.err.as_str()), (Some(0), "one\n1\n", ""));
    assert_eq!(std::fs::read_to_string(&result).unwrap(), "answer\n42\n");

    let recursive = dir.path().join("self.sql");
    std::fs::write(&recursive, format!(".read {}\n", path(&recursive))).unwrap();
    let ran = cairn(&[":memory:", "-f", path(&recursive)]);
    assert_eq!(ran.code, Some(1));
    assert!(ran.err.contains("files may not read themselves"), "{}", ran.err);
}

#[test]
fn wrong_usage_is_two_and_bad_input_is_one() {
    assert_eq!(cairn(&["--format", "xml"]).code, Some(2));
    assert_eq!(cairn(&["--sync", "never"]).code, Some(2));
    assert_eq!(cairn(&["one", "two"]).code, Some(2));
    let missing = cairn(&[":memory:", "-f", "no-such-file.sql"]);
    assert_eq!(missing.code, Some(1));
    assert!(missing.err.starts_with("error: no-such-file.sql can't be read"), "{}", missing.err);
    let unknown = cairn_reading(&[":memory:"], ".tabels\n");
    assert_eq!(unknown.code, Some(1));
    assert!(unknown.err.contains("there is no command .tabels"), "{}", unknown.err);
    assert_eq!(cairn_reading(&[":memory:"], "SELECT '\u{0}' AS \u{1}oops").code, Some(1));
}

#[test]
fn help_and_version() {
    let help = cairn(&["--help"]);
    assert_eq!(help.code, Some(0));
    assert!(help.out.contains("Examples:") && help.out.contains("cairn demo"));
    let version = cairn(&["--version"]).out;
    assert!(version.starts_with(&format!("cairn {}", env!("CARGO_PKG_VERSION"))), "{version}");
    // With the commit and its date, where there is a repository.
    let commit = version.trim_end().split_once(" (").map(|(_, commit)| commit.trim_end_matches(')'));
    assert!(commit.is_none_or(|commit| commit.split(' ').count() == 2), "{version}");
}

#[test]
fn results_are_shown_again_and_drawn() {
    let script = ".maxrows 2\nSELECT value AS n, value * 2 AS twice FROM generate_series(1, 4) ORDER BY 1;\n\
                  .mode csv\n.last\n.chart spark twice\n.mode insert app.t\n.last\n.mode table\n.last\n";
    let ran = cairn_reading(&[":memory:"], script);
    assert_eq!((ran.code, ran.err.as_str()), (Some(0), ""));
    assert!(ran.out.contains("4 rows (2 shown)\nn,twice\n1,2\n2,4\n3,6\n4,8\ntwice "), "{}", ran.out);
    assert!(
        ran.out.contains("▁▃▆█ 2 to 8\n4 rows\nINSERT INTO app.t (n, twice) VALUES\n  (1, 2),\n"),
        "{}",
        ran.out
    );
    assert!(ran.out.ends_with("| 4 |     8 |\n+---+-------+\n4 rows\n"), "{}", ran.out);
    let nothing = cairn_reading(&[":memory:"], ".last\n");
    assert_eq!(nothing.code, Some(1));
    assert!(nothing.err.contains("there is no last result"), "{}", nothing.err);
}

#[test]
fn statements_are_watched() {
    let ran = cairn_reading(&[":memory:", "-q", "--format", "csv"], "SELECT 7 AS n;\n.watch 0.01 2\n");
    assert_eq!((ran.code, ran.out.as_str(), ran.err.as_str()), (Some(0), "n\n7\nn\n7\nn\n7\n", ""));
    assert_eq!(cairn_reading(&[":memory:"], ".watch 1 1\n").code, Some(1));
}

#[test]
fn definitions_are_listed_as_statements() {
    let script = "CREATE SCHEMA app;\nCREATE TABLE app.\"Odd Name\" (id BIGINT PRIMARY KEY);\nCREATE TABLE t (a TEXT);\n\
                  .schema\n.schema t\n.tables t%\n";
    let ran = cairn_reading(&[":memory:", "-q", "--format", "csv"], script);
    assert_eq!((ran.code, ran.err.as_str()), (Some(0), ""));
    assert_eq!(ran.out.matches("CREATE TABLE ").count(), 3, "{}", ran.out);
    assert!(ran.out.contains("\"Odd Name\"") && ran.out.contains(");\n"), "{}", ran.out);
    let tables: Vec<&str> = ran.out.lines().skip_while(|line| !line.starts_with("schema,name")).collect();
    assert_eq!(tables.len(), 2, "{}", ran.out);
    let missing = cairn_reading(&[":memory:"], ".schema nothing\n");
    assert_eq!(missing.code, Some(1));
    assert!(missing.err.starts_with("error[42P01]"), "{}", missing.err);
}

#[test]
fn the_shell_is_set_up_by_commands() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("once.csv");
    let script = format!(
        ".nullvalue -\n.headers off\n.mode csv\n.once {}\nSELECT 1 AS a;\nSELECT 2 AS a, NULL AS b;\n.print done\n\
         .bail off\nSELEKT 1;\n.shell printf shell\n.mode vertical\nSELECT NULL AS n;\n",
        path(&file)
    );
    let ran = cairn_reading(&[":memory:"], &script);
    assert_eq!(ran.code, Some(1));
    assert_eq!(std::fs::read_to_string(&file).unwrap(), "1\n");
    assert_eq!(ran.out, "2,\ndone\nshell─[ 1 ]\nn │ -\n1 row\n");
    assert!(ran.err.ends_with("hint: did you mean SELECT?\n"), "{}", ran.err);
}

#[test]
fn the_environment_sets_the_format_and_flags_win() {
    let run = |args: &[&str]| {
        let output = command(args).env("CAIRN_FORMAT", "csv").output().unwrap();
        finished(output).out
    };
    assert_eq!(run(&[":memory:", "-c", "SELECT 1 AS a"]), "a\n1\n");
    assert_eq!(run(&[":memory:", "--format", "ndjson", "-c", "SELECT 1 AS a"]), "{\"a\":1}\n");
}

#[test]
fn a_plan_is_a_tree() {
    let ran = cairn(&[":memory:", "-c", "EXPLAIN SELECT value FROM generate_series(1, 5) WHERE value > 2"]);
    assert!(ran.out.contains("  └─ "), "{}", ran.out);
}

/// The only file below `dir` whose name ends so.
fn file_in(dir: &Path, end: &str) -> std::path::PathBuf {
    let mut found = Vec::new();
    let mut dirs = vec![dir.to_owned()];
    while let Some(dir) = dirs.pop() {
        for entry in std::fs::read_dir(dir).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                dirs.push(path);
            } else if path.to_string_lossy().ends_with(end) {
                found.push(path);
            }
        }
    }
    found.sort();
    found.pop().unwrap()
}

#[test]
fn a_database_is_verified_and_its_files_are_shown() {
    let dir = tempfile::tempdir().unwrap();
    let root = dir.path().join("db");
    let fill = "CREATE TABLE t (id BIGINT PRIMARY KEY, word TEXT); \
                INSERT INTO t SELECT value, 'w' || value FROM generate_series(1, 1000); CHECKPOINT; \
                DELETE FROM t WHERE id = 7";
    assert_eq!(cairn(&[path(&root), "-q", "-c", fill]).code, Some(0));

    let right = cairn(&["verify", path(&root)]);
    assert_eq!(right.code, Some(0), "{}", right.err);
    assert!(right.err.ends_with("everything is right\n"), "{}", right.err);
    let table = cairn(&["verify", path(&root), "--table", "t", "--format", "csv", "-q"]);
    assert_eq!((table.code, table.out.as_str(), table.err.as_str()), (Some(0), "", ""));
    assert_eq!(cairn(&["verify", path(&dir.path().join("nothing"))]).code, Some(1));

    let newest = |folder: &str| {
        let mut files: Vec<_> =
            std::fs::read_dir(root.join(folder)).unwrap().map(|e| e.unwrap().path()).collect();
        // Numbered files only: the log has a note of its end beside them.
        files.retain(|path| path.to_string_lossy().ends_with(|c: char| c.is_ascii_digit()));
        files.sort();
        files.pop().unwrap()
    };
    let manifest = newest("manifest");
    let shown = cairn(&["dump", "manifest", path(&manifest)]);
    assert_eq!((shown.code, shown.err.as_str()), (Some(0), ""));
    assert!(shown.out.starts_with("manifest ") && shown.out.contains("public.t"), "{}", shown.out);
    let json = cairn(&["dump", "manifest", path(&manifest), "--json"]);
    let value: serde_json::Value = serde_json::from_str(&json.out).unwrap();
    assert!(value["tables"].is_array(), "{}", json.out);

    let log = newest("wal");
    let shown = cairn(&["dump", "wal", path(&log)]);
    assert_eq!((shown.code, shown.err.as_str()), (Some(0), ""));
    assert!(shown.out.starts_with("log ") && shown.out.contains("entries up to byte"), "{}", shown.out);
    let json = cairn(&["dump", "wal", path(&log), "--json"]);
    assert!(serde_json::from_str::<serde_json::Value>(&json.out).unwrap()["entries"].is_array());
    assert_eq!(cairn(&["dump", "wal", path(&manifest)]).code, Some(1));

    let segment = file_in(&root.join("table"), ".parquet");
    let shown = cairn(&["dump", "segment", path(&segment)]);
    assert_eq!((shown.code, shown.err.as_str()), (Some(0), ""));
    assert!(shown.out.contains("column word ") && shown.out.contains("blocks are right"), "{}", shown.out);

    let mut bytes = std::fs::read(&segment).unwrap();
    bytes[100] ^= 1;
    std::fs::remove_file(&segment).unwrap();
    std::fs::write(&segment, &bytes).unwrap();
    let shown = cairn(&["dump", "segment", path(&segment), "--json"]);
    assert_eq!(shown.code, Some(3));
    let value: serde_json::Value = serde_json::from_str(&shown.out).unwrap();
    assert_eq!(value["damaged_blocks"], serde_json::json!([0]));
    let wrong = cairn(&["verify", path(&root), "--format", "csv", "-q"]);
    assert_eq!(wrong.code, Some(3), "{}{}", wrong.out, wrong.err);
    assert!(wrong.out.contains(",damaged,") && !wrong.out.contains(",ok,"), "{}", wrong.out);
}

/// Harms a byte of a file.
fn harm(file: &Path, at: usize) {
    let mut bytes = std::fs::read(file).unwrap();
    bytes[at] ^= 0x40;
    std::fs::remove_file(file).unwrap();
    std::fs::write(file, bytes).unwrap();
}

#[track_caller]
fn verified(root: &Path, more: &[&str], code: i32) {
    let mut args = vec!["verify", path(root), "--format", "csv"];
    args.extend(more);
    let ran = cairn(&args);
    assert_eq!(ran.code, Some(code), "{more:?}\n{}{}", ran.out, ran.err);
}

#[test]
fn scripts_learn_from_exit_codes_what_became_of_damage() {
    let dir = tempfile::tempdir().unwrap();
    let root = dir.path().join("db");
    let fill = "CREATE TABLE t (id BIGINT PRIMARY KEY, e VECTOR(2)); \
                INSERT INTO t SELECT value, ARRAY[value, 1] FROM generate_series(1, 50) AS g(value); CHECKPOINT; \
                CREATE INDEX t_e ON t USING hnsw (e) WITH (metric = 'l2')";
    assert_eq!(cairn(&[path(&root), "-q", "-c", fill]).code, Some(0));
    let sum = || {
        let sql = "SELECT count(*) AS n FROM t";
        cairn(&[path(&root), "--read-only", "--format", "csv", "-c", sql]).out
    };
    // There is nothing to do.
    verified(&root, &["--repair"], 0);

    let unit = file_in(&root.join("table"), ".hnsw");
    let shown = cairn(&["dump", "index", path(&unit)]);
    assert_eq!((shown.code, shown.err.as_str()), (Some(0), ""));
    assert!(shown.out.contains("metric l2") && shown.out.contains("row ids 1 to 50"), "{}", shown.out);
    let json = cairn(&["dump", "index", path(&unit), "--json"]);
    assert_eq!(serde_json::from_str::<serde_json::Value>(&json.out).unwrap()["rows"], 50);
    assert_eq!(cairn(&["dump", "index", path(&root.join("CAIRN"))]).code, Some(1));
    // Its files are those of a log, and a directory has no other journal.
    let json = cairn(&["dump", "journal", path(&root), "--json"]);
    assert!(serde_json::from_str::<serde_json::Value>(&json.out).unwrap()["files"].is_array());
    assert_eq!(cairn(&["dump", "journal", path(dir.path())]).code, Some(1));

    harm(&file_in(&root.join("table"), ".keys"), 40);
    verified(&root, &[], 3);
    verified(&root, &["--repair", "--dry-run"], 3);
    verified(&root, &["--repair"], 0);
    verified(&root, &["--deep"], 0);

    harm(&root.join("CAIRN"), 20);
    // It does not open.
    verified(&root, &[], 3);
    verified(&root, &["--repair"], 0);
    assert_eq!(sum(), "n\n50\n");

    // The commit is in the log alone.
    assert_eq!(cairn(&[path(&root), "-q", "-c", "CHECKPOINT"]).code, Some(0));
    assert_eq!(cairn(&[path(&root), "-q", "-c", "INSERT INTO t VALUES (51, ARRAY[1, 2])"]).code, Some(0));
    assert_eq!(sum(), "n\n51\n");
    let mut logs: Vec<_> =
        std::fs::read_dir(root.join("wal")).unwrap().map(|entry| entry.unwrap().path()).collect();
    logs.retain(|log| log.to_string_lossy().ends_with(|c: char| c.is_ascii_digit()));
    logs.sort();
    harm(logs.last().unwrap(), 200);
    verified(&root, &[], 3);
    // Nobody has agreed to lose it.
    verified(&root, &["--repair"], 3);
    verified(&root, &["--repair", "--accept-loss"], 0);
    verified(&root, &["--deep"], 0);
    assert_eq!(sum(), "n\n50\n");
    // Of what?
    verified(&root, &["--dry-run"], 2);
}

#[test]
fn a_box_of_many_rows_is_bounded_and_other_formats_are_not() {
    let sql = "SELECT value AS n FROM generate_series(1, 5000) ORDER BY value";
    let boxed = cairn(&[":memory:", "-c", sql]);
    assert!(boxed.out.ends_with("5,000 rows (1,000 shown)\n"), "{}", boxed.err);
    assert_eq!(boxed.out.lines().count(), 1000 + 6);
    let csv = cairn(&[":memory:", "--format", "csv", "-c", sql]);
    assert_eq!(csv.out.lines().count(), 5001);
}

#[test]
fn the_second_writer_is_told_and_a_reader_is_let_in() {
    let dir = tempfile::tempdir().unwrap();
    let root = dir.path().join("db");
    let mut writer = command(&[path(&root), "-q"]).stdin(Stdio::piped()).spawn().unwrap();
    let mut input = writer.stdin.take().unwrap();
    input
        .write_all(b"CREATE TABLE t (a BIGINT);\nINSERT INTO t VALUES (1);\nCOPY (SELECT 1 AS a) TO '")
        .unwrap();
    let marker = dir.path().join("ready.csv");
    input.write_all(format!("{}' WITH (format 'csv');\n", path(&marker)).as_bytes()).unwrap();
    input.flush().unwrap();
    let begun = std::time::Instant::now();
    while !marker.exists() && begun.elapsed() < std::time::Duration::from_secs(60) {
        std::thread::sleep(std::time::Duration::from_millis(20));
    }
    let second = cairn(&[path(&root), "-c", "SELECT 1"]);
    let reader = cairn(&[path(&root), "--read-only", "--format", "csv", "-c", "SELECT a FROM t"]);
    let refused = cairn(&[path(&root), "--read-only", "-c", "INSERT INTO t VALUES (2)"]);
    drop(input);
    assert_eq!(writer.wait_with_output().unwrap().status.code(), Some(0));
    assert_eq!(second.code, Some(1));
    assert!(second.err.contains("pid"), "{}", second.err);
    assert_eq!((reader.code, reader.out.as_str()), (Some(0), "a\n1\n"), "{}", reader.err);
    assert_eq!(refused.code, Some(1));
    assert!(refused.err.starts_with("error[25006]"), "{}", refused.err);
}
