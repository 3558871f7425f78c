//! The same rows as DuckDB, in the dialect that both have.
//!
//! It runs when `CAIRN_TEST_PYTHON` names a Python that has `duckdb` (`.ci/run` sets it).

use std::ffi::OsStr;
use std::io::Write;
use std::path::Path;
use std::process::{Command, Stdio};

use cairn_engine::{OpenOptions, Root};
use cairn_tests::random::common::{self, Case, Question};
use cairn_tests::random::seeds;
use cairn_tests::{Answer, Connection};
use serde::{Deserialize, Serialize};

/// Queries of a seed.
const QUESTIONS: usize = 40;
/// Differences of one seed that are told.
const TOLD: usize = 5;

#[derive(Serialize)]
struct Asked<'a> {
    setup: &'a [String],
    queries: Vec<&'a str>,
}

#[derive(Deserialize)]
struct Told {
    rows: Option<Vec<Vec<String>>>,
    error: Option<String>,
}

#[test]
fn queries_have_the_rows_that_duckdb_has() {
    let Some(python) = std::env::var_os("CAIRN_TEST_PYTHON") else {
        println!("NOT RUN: queries against DuckDB; set CAIRN_TEST_PYTHON to a Python that has duckdb");
        return;
    };
    let seeds = seeds("CAIRN_DUCK_SEED", "CAIRN_DUCK_SEEDS", 5);
    let failures: Vec<String> = seeds.iter().filter_map(|seed| check(&python, *seed).err()).collect();
    super::report("queries against DuckDB", &seeds, &failures);
}

fn check(python: &OsStr, seed: u64) -> Result<(), String> {
    let case = common::of_seed(seed, QUESTIONS);
    let told = ask_duckdb(python, &case);
    assert_eq!(told.len(), case.questions.len(), "DuckDB was asked all of it");
    let db = Connection::open(Root::Memory, OpenOptions::default()).unwrap();
    for statement in &case.setup {
        db.run(statement).map_err(|error| format!("CAIRN_DUCK_SEED={seed}: {statement}: {error}"))?;
    }
    let mut differences = Vec::new();
    // In memory first, then in segments.
    for state in ["in memory", "after a checkpoint"] {
        for (question, told) in case.questions.iter().zip(&told) {
            if let Err(difference) = ask(&db, question, told) {
                differences.push(format!("{}\n{state}: {difference}", question.sql));
            }
        }
        db.exec("CHECKPOINT");
    }
    if differences.is_empty() {
        return Ok(());
    }
    let count = differences.len();
    differences.truncate(TOLD);
    Err(format!(
        "CAIRN_DUCK_SEED={seed}: {count} answers differ, for example\n{}\nafter:\n{};",
        differences.join("\n"),
        case.setup.join(";\n")
    ))
}

fn ask(db: &Connection, question: &Question, told: &Told) -> Result<(), String> {
    match (db.run(&question.sql), &told.rows, &told.error) {
        (Ok(Answer::Rows { kinds, rows, .. }), Some(theirs), None) => {
            common::compare(&kinds, &rows, theirs, question.ordered)
        }
        // A query that neither takes is none of the common dialect.
        (Err(ours), None, Some(theirs)) => Err(format!("neither takes it: {ours}; DuckDB: {theirs}")),
        (Err(ours), ..) => Err(format!("it fails here: {ours}")),
        (Ok(_), _, Some(theirs)) => Err(format!("it fails in DuckDB: {theirs}")),
        (Ok(answer), ..) => Err(format!("it answers {answer:?}")),
    }
}

fn ask_duckdb(python: &OsStr, case: &Case) -> Vec<Told> {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("python/duckdb_answers.py");
    let mut child =
        Command::new(python).arg(script).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    let asked = Asked {
        setup: &case.setup,
        queries: case.questions.iter().map(|question| question.sql.as_str()).collect(),
    };
    // It reads all of it before it writes.
    child.stdin.take().unwrap().write_all(&serde_json::to_vec(&asked).unwrap()).unwrap();
    let output = child.wait_with_output().unwrap();
    assert!(output.status.success(), "DuckDB refuses the tables, see above");
    serde_json::from_slice(&output.stdout).unwrap()
}
