//! Kill test: what was acknowledged is there after SIGKILL, what was not is there wholly or not at all.
//!
//! A child process runs the random workload of a seed and says `ack` after each statement; it is killed at a random
//! moment, in some rounds while it still recovers from the kill before. The parent opens the directory, compares every
//! row with the model, runs VERIFY, and the next round goes on with the same directory.
//!
//! Repeat a failure with `CAIRN_CRASH_SEED=<printed seed>`; `CAIRN_CRASH_ROUNDS` sets the number of rounds.

#![allow(clippy::unwrap_used, clippy::print_stdout, reason = "test code: a panic is the report")]

use std::io::Read;
use std::path::Path;
use std::time::{Duration, Instant, SystemTime};

use cairn_tests::Connection;
use cairn_tests::child::start_writer;
use cairn_tests::workload::{self, Model, Operation};
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

const ROUNDS: u64 = 100;
/// Rows beyond which the parent thins the table, to keep rounds short.
const ROWS_MAX: usize = 15_000;

fn number(variable: &str) -> Option<u64> {
    std::env::var(variable).ok().map(|text| text.parse().unwrap())
}

#[test]
fn nothing_acknowledged_is_lost_by_a_kill() {
    let seed = number("CAIRN_CRASH_SEED").unwrap_or_else(|| {
        let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap();
        u64::from(now.subsec_nanos()) ^ now.as_secs()
    });
    let rounds = number("CAIRN_CRASH_ROUNDS").unwrap_or(ROUNDS);
    println!("CAIRN_CRASH_SEED={seed} ({rounds} rounds)");
    let home = tempfile::tempdir().unwrap();
    let root = home.path().join("db");
    let first = Connection::open_dir(&root, &workload::options(seed, u64::MAX / 4)).unwrap();
    first.exec(workload::SETUP);
    first.close().unwrap();

    let mut rng = StdRng::seed_from_u64(seed);
    let mut model = Model::default();
    let started = Instant::now();
    let (mut acknowledged_in_all, mut in_flight_done) = (0, 0);
    for round in 0..rounds {
        let said = kill_a_writer(&root, seed, round, &mut rng);
        assert!(!said.contains("wrong"), "seed {seed}, round {round}: {said}");
        let acknowledged = said.lines().filter(|line| line.starts_with("ack ")).count();
        acknowledged_in_all += acknowledged;
        let operations: Vec<Operation> = workload::operations(seed, round).take(acknowledged + 1).collect();
        for operation in &operations[..acknowledged] {
            operation.apply(&mut model);
        }
        let mut with_in_flight = model.clone();
        operations[acknowledged].apply(&mut with_in_flight);

        let connection = Connection::open_dir(&root, &workload::options(seed, round))
            .unwrap_or_else(|error| panic!("seed {seed}, round {round}: does not open again: {error}"));
        let found = Model::read(&connection);
        if with_in_flight.is(&found) && with_in_flight != model {
            in_flight_done += 1;
            if model.is(&found) {
                // A view of the same rows as the one before: which of the two it is cannot be seen yet. It is made again.
                connection.exec(&operations[acknowledged].sql(&root));
            }
            model = with_in_flight;
        }
        assert!(
            model.is(&found),
            "seed {seed}, round {round}: after {acknowledged} acknowledged statements, in flight {:?}:\n{}",
            operations[acknowledged],
            model.difference(&found),
        );
        verify(&connection, &format!("seed {seed}, round {round}"));
        if model.t.len() > ROWS_MAX {
            let thin = Operation::Delete { modulus: 2, remainder: 1 };
            connection.exec(&thin.sql(&root));
            thin.apply(&mut model);
        }
        if rng.random_bool(0.5) {
            connection.close().unwrap();
        } else {
            connection.abandon();
        }
    }
    println!(
        "{rounds} kills in {:.1} s: {acknowledged_in_all} acknowledged statements all there, {in_flight_done} statements in \
         flight were done, {} rows at the end",
        started.elapsed().as_secs_f64(),
        model.t.len()
    );
    assert!(acknowledged_in_all > 0, "no statement was ever acknowledged: the test tested nothing");
}

/// Runs a writer for a random while; what it said until it was killed, whole lines only.
fn kill_a_writer(root: &Path, seed: u64, round: u64, rng: &mut StdRng) -> String {
    let program = Path::new(env!("CARGO_BIN_EXE_cairn-test-process"));
    let mut child = start_writer(program, root, seed, round).unwrap();
    let mut output = child.stdout.take().unwrap();
    let mut said = Vec::new();
    if rng.random_bool(0.8) {
        // Wait for "ready", else many rounds would end before the first statement.
        let mut byte = [0];
        while !said.ends_with(b"ready\n") && output.read(&mut byte).unwrap() == 1 {
            said.push(byte[0]);
        }
    }
    std::thread::sleep(Duration::from_millis(rng.random_range(1..300)));
    child.kill().unwrap();
    output.read_to_end(&mut said).unwrap();
    child.wait().unwrap();
    let whole = said.iter().rposition(|b| *b == b'\n').map_or(0, |end| end + 1);
    String::from_utf8(said[..whole].to_vec()).unwrap()
}

fn verify(connection: &Connection, place: &str) {
    let findings = connection.rows("VERIFY");
    assert!(!findings.is_empty(), "{place}: VERIFY checked nothing");
    for finding in findings {
        // A killed statement or checkpoint may leave objects that nothing refers to.
        let left_over = finding[2] == "warning" && finding[1] == "unreferenced objects";
        assert!(finding[2] == "ok" || left_over, "{place}: VERIFY finds {finding:?}");
    }
}
