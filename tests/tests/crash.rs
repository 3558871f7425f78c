//! Kill test: what was acknowledged is there after SIGKILL, what was not is there wholly or not at all.
//!
//! The writers of a child process run the random workload of a seed, each on a connection of its own, and say which units (statements and
//! transactions) have ended, beside checkpoints, compactions, index builds and a reader; it is killed at a random moment, in
//! some rounds while it still recovers from the kill before. The parent opens the directory, compares every row, its number and its version with the
//! model, searches the vectors, runs VERIFY, and the next round goes on with the same directory. All the time a reader of the parent follows
//! whoever writes: what it has seen must never be taken back.
//!
//! Repeat a failure with `CAIRN_CRASH_SEED=<printed seed>`: the same units, though not the same moments; `CAIRN_CRASH_ROUNDS` sets the
//! number of rounds. Without a seed two databases share the rounds, each with a seed of its own, one on the disk and one in memory.

#![allow(clippy::unwrap_used, clippy::print_stdout, reason = "test code: a panic is the report")]

use std::path::Path;
use std::time::{Duration, Instant, SystemTime};

use cairn_tests::workload::{self, Model, Recall, Said, Unit, Watcher};
use cairn_tests::{Connection, Writers, scratch};
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

const ROUNDS: u64 = 200;
/// Databases that are worked at beside each other, each in a part of the rounds: of one, either its writers or its judge keeps a core busy.
const DATABASES: u64 = 2;
/// Of the rows that searches must find that need not be exact.
const RECALL_MIN: f64 = 0.8;

fn number(variable: &str) -> Option<u64> {
    std::env::var(variable).ok().map(|text| text.parse().unwrap())
}

#[test]
fn nothing_acknowledged_is_lost_by_a_kill() {
    let rounds = number("CAIRN_CRASH_ROUNDS").unwrap_or(ROUNDS);
    // One that is given is that of one database, as a failure prints it.
    let seeds: Vec<u64> = match number("CAIRN_CRASH_SEED") {
        Some(seed) => vec![seed],
        None => {
            let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap();
            let seed = u64::from(now.subsec_nanos()) ^ now.as_secs();
            (seed..seed + DATABASES).collect()
        }
    };
    let rounds_each = rounds.div_ceil(seeds.len() as u64);
    let started = Instant::now();
    let mut all = Tally::default();
    std::thread::scope(|scope| {
        let databases: Vec<_> = (0..)
            .zip(&seeds)
            .map(|(number, seed)| scope.spawn(move || kill(number, *seed, rounds_each)))
            .collect();
        for database in databases {
            all.add(database.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)));
        }
    });
    let Tally { acknowledged, in_flight_done, looks, recall, rows } = all;
    println!(
        "{} kills in {:.1} s: {acknowledged} acknowledged units all there, {in_flight_done} units in flight were done, \
         {looks} looks of a reader, {} of {} nearest rows found, {rows} rows at the end",
        rounds_each * seeds.len() as u64,
        started.elapsed().as_secs_f64(),
        recall.found,
        recall.of,
    );
    assert!(acknowledged > 0, "no unit was ever acknowledged: the test tested nothing");
    assert!(looks > 0, "the reader never looked");
    let found = recall.found as f64;
    assert!(found >= RECALL_MIN * recall.of as f64, "searches found {recall:?}");
}

/// What came of the rounds.
#[derive(Default)]
struct Tally {
    acknowledged: u64,
    in_flight_done: u64,
    looks: u64,
    recall: Recall,
    rows: usize,
}

impl Tally {
    fn add(&mut self, other: Self) {
        self.acknowledged += other.acknowledged;
        self.in_flight_done += other.in_flight_done;
        self.looks += other.looks;
        self.recall += other.recall;
        self.rows += other.rows;
    }
}

/// The rounds of a database.
fn kill(number: u64, seed: u64, rounds: u64) -> Tally {
    println!("CAIRN_CRASH_SEED={seed} ({rounds} rounds)");
    // A process that is killed leaves what it has written wherever it was. In memory nobody waits for a disk: every other one is there.
    let home = if number.is_multiple_of(2) { tempfile::tempdir() } else { scratch() };
    let home = home.unwrap();
    let root = home.path().join("db");
    let first = Connection::open_dir(&root, &cairn_engine::OpenOptions::default()).unwrap();
    workload::set_up(&first);
    let mut model = Model::new(first.version());
    first.close().unwrap();

    let mut rng = StdRng::seed_from_u64(seed);
    let watcher = Watcher::start(&root, seed).unwrap();
    let mut tally = Tally::default();
    for round in 0..rounds {
        let place = format!("CAIRN_CRASH_SEED={seed}, round {round}");
        let said = kill_the_writers(&root, seed, round, &mut rng);
        let seen = watcher.seen();
        let heard =
            Heard::of(&said, seed, round, &mut model).unwrap_or_else(|what| panic!("{place}: {what}"));
        tally.acknowledged += heard.acknowledged;

        let connection = Connection::open_dir(&root, &workload::options(seed, round))
            .unwrap_or_else(|error| panic!("{place}: does not open again: {error}"));
        let version = connection.version();
        let newest = heard.newest;
        assert!(version >= newest, "{place}: version {version}, after {newest} was acknowledged");
        assert!(version >= seen, "{place}: version {version}, after a reader has seen {seen}");
        let judged = model.judge(&connection, &heard.in_flight);
        tally.in_flight_done += judged.unwrap_or_else(|what| panic!("{place}: {what}"));
        tally.recall += model.search(&connection, &mut rng).unwrap_or_else(|what| panic!("{place}: {what}"));
        verify(&connection, &place);
        model.tidy(&connection, &root).unwrap_or_else(|what| panic!("{place}: {what}"));
        if rng.random_bool(0.5) {
            connection.close().unwrap();
        } else {
            connection.abandon();
        }
        if watcher.is_over() {
            let ended = watcher.stop();
            panic!("{place}: the reader has ended: {ended:?}");
        }
    }
    tally.looks = watcher.stop().unwrap_or_else(|what| panic!("CAIRN_CRASH_SEED={seed}: {what}"));
    tally.rows = model.rows();
    tally
}

/// What the writers of a round have said.
struct Heard {
    acknowledged: u64,
    /// Newest version that somebody was told.
    newest: u64,
    /// The unit that each writer may have begun.
    in_flight: Vec<Unit>,
}

impl Heard {
    /// Hands what was acknowledged to the model.
    fn of(said: &str, seed: u64, round: u64, model: &mut Model) -> Result<Self, String> {
        let mut units: Vec<_> = (0..workload::WRITERS)
            .map(|writer| (0_u64..).zip(workload::units(seed, round, writer)))
            .collect();
        let (mut acknowledged, mut newest) = (0, 0);
        for line in said.lines() {
            match Said::read(line)? {
                None => {}
                Some(Said::Wrong(what)) => return Err(what),
                Some(Said::Ended { writer, number, version }) => {
                    let next = units.get_mut(usize::try_from(writer).unwrap()).and_then(Iterator::next);
                    let unit = next.filter(|(at, _)| *at == number).map(|(_, unit)| unit);
                    let unit = unit.ok_or_else(|| format!("not the next unit: {line}"))?;
                    model.ended(writer, &unit, version);
                    acknowledged += 1;
                    newest = newest.max(version);
                }
            }
        }
        let in_flight = units.iter_mut().filter_map(|units| Some(units.next()?.1)).collect();
        Ok(Self { acknowledged, newest, in_flight })
    }
}

/// Runs the writers for a random while; what they said until they were killed.
fn kill_the_writers(root: &Path, seed: u64, round: u64, rng: &mut StdRng) -> String {
    let program = Path::new(env!("CARGO_BIN_EXE_cairn-test-process"));
    let writers = Writers::start(program, root, seed, round).unwrap();
    if rng.random_bool(0.8) {
        // Else many rounds would end before the first statement.
        writers.wait_until_ready();
    }
    std::thread::sleep(Duration::from_millis(rng.random_range(1..300)));
    writers.kill().unwrap()
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
