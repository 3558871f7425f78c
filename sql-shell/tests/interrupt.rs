//! Ctrl-C and readers that go away.
#![allow(clippy::unwrap_used)]

use std::io::{BufRead, BufReader};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use cairn_tests::without_settings;

const ENDLESS: &str = "SELECT count(*) FROM generate_series(1, 1000000) AS a, generate_series(1, 1000000) AS b \
     WHERE a.value * b.value % 7 = 8";

/// Generous, for a machine that is busy with other tests.
const ENDS_WITHIN: Duration = Duration::from_secs(120);

fn signalled(signal: &str) -> (Option<i32>, Duration, String) {
    let mut command = Command::new(env!("CARGO_BIN_EXE_cairn"));
    without_settings(&mut command);
    let mut child = command
        .args([":memory:", "--format", "csv", "-c", "SELECT 1 AS one", "-c", ENDLESS])
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    // The answer to the first one says that the process is up.
    let mut answers = BufReader::new(child.stdout.take().unwrap()).lines();
    for line in ["one", "1"] {
        assert_eq!(answers.next().unwrap().unwrap(), line);
    }
    std::thread::sleep(Duration::from_secs(2));
    let begun = Instant::now();
    let sent = Command::new("kill").args([signal, &child.id().to_string()]).status().unwrap();
    assert!(sent.success());
    while child.try_wait().unwrap().is_none() {
        if begun.elapsed() > ENDS_WITHIN {
            child.kill().unwrap();
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    let output = child.wait_with_output().unwrap();
    (output.status.code(), begun.elapsed(), String::from_utf8(output.stderr).unwrap())
}

#[test]
fn ctrl_c_cancels_a_statement() {
    let (code, took, err) = signalled("-INT");
    assert_eq!((code, err.as_str()), (Some(130), "cancelled\n"));
    assert!(took < ENDS_WITHIN, "{took:?}");
}

#[test]
fn terminate_ends_the_process() {
    let (code, took, _) = signalled("-TERM");
    assert_eq!(code, Some(143));
    assert!(took < ENDS_WITHIN, "{took:?}");
}

#[test]
fn a_reader_that_goes_away_is_no_error() {
    let mut child = without_settings(&mut Command::new(env!("CARGO_BIN_EXE_cairn")))
        .args([":memory:", "--format", "csv", "-c", "SELECT value FROM generate_series(1, 3000000)"])
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut first = String::new();
    BufReader::new(child.stdout.take().unwrap()).read_line(&mut first).unwrap();
    let output = child.wait_with_output().unwrap();
    assert_eq!(first, "value\n");
    assert_eq!((output.status.code(), String::from_utf8(output.stderr).unwrap().as_str()), (Some(0), ""));
}
