//! What a disk loses that was not synced, what a call that fails leaves, what a full disk takes: nothing that was acknowledged is lost, and
//! nothing is there in part.
//!
//! The whole engine on the simulated file system of storage: SQL in, rows out. `CAIRN_LOSS_SEEDS=<how many>` scripts of each kind,
//! `CAIRN_LOSS_SEED=<one>`; the figures of a default run are small enough for every change, 10,000 are for the night.
//!
//! The steps of `docs/formats/durable-steps.md`: a script is run once, and the machine as it was before and after each step is opened
//! again, with all, some and none of what was not synced. `CAIRN_LOSS_STEPS=<n>`: the last n times that each step was taken.

#![allow(clippy::unwrap_used, clippy::print_stdout, reason = "test code: a panic is the report")]

use std::collections::BTreeSet;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Mutex;
use std::time::Instant;

use cairn_tests::loss::bucket::{self, RecordingStore};
use cairn_tests::loss::database::{self, Ledger};
use cairn_tests::loss::in_parallel;
use cairn_tests::loss::model::{Change, Operation};
use cairn_tests::loss::scripts::{self, Tally};
use cairn_tests::loss::steps;
use cairn_tests::random::seeds;
use cairn_tests::{Connection, SqlError};

const DURABLE_STEPS: &str = include_str!("../../docs/formats/durable-steps.md");

/// Runs the scripts of all seeds of a kind.
fn run(what: &str, default_seeds: u64, script: impl Fn(u64) -> Result<Tally, String> + Sync) {
    let seeds = seeds("CAIRN_LOSS_SEED", "CAIRN_LOSS_SEEDS", default_seeds);
    let (begun, all) = (Instant::now(), Mutex::new(Tally::default()));
    let failures = in_parallel(&seeds, |seed| {
        // A panic is told where it happens; here it gets its seed.
        let tally = catch_unwind(AssertUnwindSafe(|| script(*seed)))
            .unwrap_or_else(|_| Err(format!("seed {seed}: it panicked")))?;
        let mut all = all.lock().unwrap();
        all.acknowledged += tally.acknowledged;
        all.failed += tally.failed;
        Ok(())
    });
    let Tally { acknowledged, failed } = *all.lock().unwrap();
    println!(
        "{what}: {} seeds in {:.1} s, {acknowledged} acknowledged commits all there, {failed} operations failed, {} seeds wrong",
        seeds.len(),
        begun.elapsed().as_secs_f64(),
        failures.len()
    );
    assert!(failures.is_empty(), "{what} (CAIRN_LOSS_SEED repeats one)\n{}", failures.join("\n"));
    assert!(
        seeds.len() == 1 || (acknowledged > 0 && failed > 0),
        "{what}: nothing went wrong, so nothing was tested"
    );
}

#[test]
fn power_loss_loses_nothing_acknowledged() {
    run("power loss", 60, scripts::power_loss);
}

#[test]
fn a_call_that_fails_loses_nothing_acknowledged() {
    run("a call that fails", 40, scripts::failed_call);
}

#[test]
fn a_full_disk_loses_nothing_acknowledged() {
    run("a full disk", 30, scripts::full_disk);
}

fn number(variable: &str) -> Option<u64> {
    std::env::var(variable).ok().map(|text| text.parse().unwrap())
}

/// How many times of each step are looked at.
fn each() -> usize {
    usize::try_from(number("CAIRN_LOSS_STEPS").unwrap_or(1)).unwrap()
}

/// The steps that the table below `heading` lists.
fn documented(heading: &str) -> BTreeSet<&'static str> {
    let section = DURABLE_STEPS.split("\n## ").find(|section| section.starts_with(heading)).unwrap();
    let names = section.lines().filter_map(|line| line.strip_prefix("| `")?.split('`').next());
    names.collect()
}

fn assert_documented(heading: &str, seen: BTreeSet<&str>) {
    let documented = documented(heading);
    let missing: Vec<_> = seen.difference(&documented).collect();
    let stale: Vec<_> = documented.difference(&seen).collect();
    assert!(
        missing.is_empty() && stale.is_empty(),
        "docs/formats/durable-steps.md, \"{heading}\": not listed {missing:?}; listed, and never taken {stale:?}"
    );
}

/// Opens what a machine that died has left: it holds what is known, and goes on.
fn recover(ledger: &Ledger, opened: Result<Connection, SqlError>) -> Result<(), String> {
    let connection = opened.map_err(|error| format!("it does not open: {error}"))?;
    let mut ledger = ledger.clone();
    ledger.settle(&connection)?;
    if ledger.model().tables.contains_key("k") {
        let insert = Operation::Change(Change::Insert { table: "k", first: 900_000, rows: 1 });
        ledger.run(&connection, &insert).map_err(|error| format!("it does not go on: {error}"))?;
        ledger.compare(&connection)?;
    }
    connection.abandon();
    Ok(())
}

#[test]
fn every_durable_step_may_be_the_last() {
    let begun = Instant::now();
    let seed = number("CAIRN_LOSS_SEED").unwrap_or(1);
    let points = steps::on_disk(seed, each()).unwrap();
    assert_documented("In a directory", points.names().collect());
    let all = points.all();
    let failures = in_parallel(&all, |point| {
        for (moment, disk) in [
            ("before, with some of what was not synced", point.before.crash(seed)),
            ("after, with all of what was not synced", point.after.restart(seed)),
            ("after, with some of what was not synced", point.after.crash(seed)),
            ("after, with nothing of what was not synced", point.after.synced(seed)),
        ] {
            recover(&point.ledger, database::open(&disk))
                .map_err(|what| format!("'{}' ({}), {moment}: {what}", point.name, point.place))?;
        }
        Ok(())
    });
    println!(
        "{} steps, {} machines opened again in {:.1} s",
        points.names().count(),
        all.len() * 4,
        begun.elapsed().as_secs_f64()
    );
    assert!(failures.is_empty(), "seed {seed}\n{}", failures.join("\n"));
}

#[test]
fn every_change_of_a_bucket_may_be_the_last() {
    let begun = Instant::now();
    let points = bucket::points(1, each()).unwrap();
    assert_documented("In a bucket", points.names().collect());
    let all = points.all();
    let failures = in_parallel(&all, |point| {
        for (moment, objects) in [("before", &point.before), ("after", &point.after)] {
            recover(&point.ledger, bucket::open(&RecordingStore::over(objects)))
                .map_err(|what| format!("{moment} '{}' ({}): {what}", point.name, point.place))?;
        }
        Ok(())
    });
    println!(
        "{} changes of a bucket, {} opened again in {:.1} s",
        points.names().count(),
        all.len() * 2,
        begun.elapsed().as_secs_f64()
    );
    assert!(failures.is_empty(), "{}", failures.join("\n"));
}
