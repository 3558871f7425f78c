//! The protocol of object storage against everything that a network, a store and other processes can do to it.
//!
//! A seed decides a whole run: two writers that take the database from each other, stall, lose their network, crash and look up what became
//! of their commits; checkpointers, compactors and collectors beside them; readers that hold on to what they saw; and a store that loses
//! answers, delays writes for minutes, answers 409 when nothing was written, and lists what is not there (`faults`). Time is virtual. In
//! the end an honest opener takes over, and the history he finds is compared with what everybody was told and has read (`model`, `history`).
//!
//! `CAIRN_SIM_SEED=n` repeats one seed, `CAIRN_SIM_SEEDS=n` decides how many are run. `takeovers`, `collections`, `compactions`, `answers` and
//! `local` play the interleavings that the protocol names, one by one.

mod actors;
mod answers;
mod collections;
mod compactions;
mod faults;
mod handle;
mod history;
mod local;
mod model;
mod reader;
mod rows;
mod stage;
mod store;
mod takeovers;
mod trace;
mod writer;

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use actors::{HONEST, Process, READER_R, READER_S, Sim, WRITER_A, WRITER_B};
use faults::Weather;
use history::History;
use model::{Counts, Life, commit_id};
use rows::{Change, Row};
use trace::Trace;

use crate::checkpoint::CheckpointReason;
use crate::database::{ClaimAt, OpenOptions};
use crate::error::{Error, ErrorKind};
use crate::verify::VerifyScope;

/// Virtual time after which a run is taken for stuck.
const LONGEST: Duration = Duration::from_secs(2 * 24 * 3600);
/// Seeds run at the same time.
const THREADS: usize = 2;
/// Lines of a trace that a failure shows.
const SHOWN_LINES: usize = 150;
/// A row of the honest opener.
const LAST_ROW: (i64, i64) = (9_000_000, 1);

/// Runs `future` on this thread, in virtual time. What happens in which order depends on nothing but what is played. That rests on how
/// tokio 1.54 is made (`src/runtime` there):
/// - A runtime of one thread takes the next task from the front of one queue, and who is woken on this thread goes to its end. Who is woken
///   by another thread comes by a queue of its own, `inject`, which stays empty here (`scheduler/current_thread`).
/// - A paused clock moves only when no task can be run, and then to the instant of the next timer at once; timers of one instant are fired
///   in an order that follows from when each was set (`time/mod.rs`, `time/wheel`).
/// - From `spawn_blocking` until its work is done the clock does not move by itself (`blocking/schedule.rs`): work on another thread takes no
///   virtual time. But the tasks of that instant go on meanwhile, and the one that waits is woken by the other thread when that is done. So
///   the order of several such works, and of one and the tasks beside it, is the machine's: a put of a merge comes before or after that
///   of a checkpoint, and each has the other's dice. Hence [`Computing::InTurn`](crate::Computing::InTurn): no other thread is ever
///   begun, which is asserted.
///
/// Besides: what the product draws, ids and salts, names objects and stands in them, and decides nothing else; no map whose order is
/// random is walked to make requests; and where time decides, tokio or [`OpenOptions::clock`] is asked.
fn paused<T>(future: impl Future<Output = T>) -> T {
    let threads = Arc::new(AtomicU64::new(0));
    let begun = Arc::clone(&threads);
    let mut builder = tokio::runtime::Builder::new_current_thread();
    builder.on_thread_start(move || {
        begun.fetch_add(1, Ordering::Relaxed);
    });
    // The runtime has ended its threads when it is gone.
    let done = builder.enable_time().start_paused(true).build().unwrap().block_on(future);
    assert_eq!(threads.load(Ordering::Relaxed), 0, "somebody works on a thread of its own");
    done
}

/// What a run came to.
struct Ran {
    violations: Vec<String>,
    counts: Counts,
    trace: Trace,
}

fn run(seed: u64) -> Ran {
    let trace = Trace::default();
    let ended = catch_unwind(AssertUnwindSafe(|| paused(simulate(seed, trace.clone()))));
    let (violations, counts) = ended.unwrap_or_else(|panic| {
        let text = panic.downcast_ref::<String>().cloned();
        let text = text.or_else(|| panic.downcast_ref::<&str>().map(|text| (*text).to_owned()));
        (vec![format!("a panic: {}", text.unwrap_or_default())], Counts::default())
    });
    Ran { violations, counts, trace }
}

async fn simulate(seed: u64, trace: Trace) -> (Vec<String>, Counts) {
    let sim = Sim::new(seed, trace);
    let whole = async {
        play(&sim).await;
        conclude(&sim).await;
    };
    if tokio::time::timeout(LONGEST, whole).await.is_err() {
        sim.model.violate("it does not come to an end".to_owned());
    }
    let mut violations = sim.model.violations();
    violations.extend(sim.store.violations());
    sim.model.count(|counts| counts.removed = sim.store.removed());
    (violations, sim.model.counts())
}

async fn play(sim: &Arc<Sim>) {
    let tasks = [
        tokio::spawn(writer::writer(Arc::clone(sim), "A", WRITER_A, 20)),
        tokio::spawn(writer::writer(Arc::clone(sim), "B", WRITER_B, 20)),
        tokio::spawn(reader::reader(Arc::clone(sim), "R", READER_R, 16)),
        tokio::spawn(reader::reader(Arc::clone(sim), "S", READER_S, 10)),
    ];
    for task in tasks {
        if let Err(error) = task.await {
            sim.model.violate(format!("an actor ended early: {error}"));
        }
    }
}

/// Two honest openers, one while requests of the dead are still on their way, one after all of them have arrived: both find the same.
async fn conclude(sim: &Arc<Sim>) {
    let Some(first) = honest(sim, 1).await else { return };
    let Some(before) = history_of(sim, &first).await else { return };
    sim.store.settle(HONEST).await;
    let Some(second) = honest(sim, 2).await else { return };
    let Some(after) = history_of(sim, &second).await else { return };
    if before != after {
        sim.model.violate(format!("one opener found {before:?}, the next one {after:?}"));
    }
    sim.model.check(&after);
    if let Err(what) = go_on(sim, &first, &second, &after).await {
        sim.model.violate(what);
    }
}

/// Takes the database over, with a store that does what it is asked to.
async fn honest(sim: &Arc<Sim>, number: u64) -> Option<Process> {
    let life = Life { actor: "H", number };
    for attempt in 0..5 {
        let handle = sim.store.handle("H", HONEST, 100 * number + attempt, Weather::calm());
        let options = OpenOptions { take_over: true, claim: ClaimAt::Open, ..sim.options(&handle) };
        if let Some(process) = Process::open(sim, HONEST, life, handle, options).await {
            return Some(process);
        }
        sim.store.pause(HONEST, 1_000).await;
    }
    sim.model
        .violate(format!("{life} cannot open the database, with a store that works and nobody else about"));
    None
}

async fn history_of(sim: &Sim, process: &Process) -> Option<History> {
    let snapshot = process.db.snapshot();
    // What goes wrong here is noted there.
    let found = sim.read(HONEST, process.life, &snapshot, None).await;
    let Ok(found) = found else {
        sim.model.violate(format!("{} cannot read the database", process.life));
        return None;
    };
    let mut history = History {
        newest: snapshot.version(),
        versions: Default::default(),
        compactions: Default::default(),
        rows: found.map(|found| found.rows).unwrap_or_default(),
    };
    for id in sim.model.ids() {
        match rows::show_commit(&process.db, id).await {
            Ok(Some(version)) => {
                history.versions.insert(id, version);
            }
            Ok(None) => {}
            Err(error) => sim.model.violate(format!("SHOW COMMIT of {}: {error}", model::name(id))),
        }
    }
    for id in sim.store.compactions() {
        match rows::show_commit(&process.db, id).await {
            Ok(version) => history.compactions.extend(version),
            Err(error) => sim.model.violate(format!("SHOW COMMIT of a compaction: {error}")),
        }
    }
    Some(history)
}

/// The last writer writes on, the one before is fenced; after checkpoint and collection everything is still there and sound.
async fn go_on(sim: &Arc<Sim>, fenced: &Process, last: &Process, history: &History) -> Result<(), String> {
    let failed = |what: &'static str| {
        move |error: Error| format!("the last writer cannot {what}: {error} {:?}", error.detail())
    };
    let table = rows::read(&last.db.snapshot()).await.map_err(failed("read"))?;
    let change = match table {
        Some(_) => Change::inserting(&[LAST_ROW]),
        None => Change::creating(),
    };
    match rows::commit(&fenced.db, &change, commit_id(HONEST, 1)).await {
        Err(error) if error.kind() == ErrorKind::Fenced => {}
        other => {
            return Err(format!("the writer before the last one is not told that it is fenced: {other:?}"));
        }
    }
    let receipt = rows::commit(&last.db, &change, commit_id(HONEST, 2)).await.map_err(failed("commit"))?;
    if receipt.version != history.newest.next() {
        return Err(format!("the commit after version {} is version {}", history.newest, receipt.version));
    }
    last.db.checkpoint(CheckpointReason::Statement).await.map_err(failed("make a checkpoint"))?;
    for _ in 0..2 {
        sim.store.pause(HONEST, sim.settings.grace_ms + sim.settings.retention_ms + 1_000).await;
        last.db.collect().await.map_err(failed("collect"))?;
    }
    let mut expected = history.rows.clone();
    let (key, value) = LAST_ROW;
    if !change.create {
        expected.insert(key, Row { value, version: receipt.version });
    }
    let handle = sim.store.handle("H", HONEST, 300, Weather::calm());
    let options = OpenOptions { read_only: true, ..sim.options(&handle) };
    let life = Life { actor: "H", number: 3 };
    let reader = Process::open(sim, HONEST, life, handle, options).await;
    let reader = reader.ok_or("an honest reader cannot open the database")?;
    for process in [last, &reader] {
        let found = rows::read(&process.db.snapshot()).await.map_err(failed("read after collection"))?;
        if found.map(|found| found.rows).unwrap_or_default() != expected {
            return Err(format!("{} finds other rows after collection", process.life));
        }
    }
    let findings = last.db.verify(VerifyScope::Database).await.map_err(failed("verify"))?;
    match findings.iter().find(|finding| finding.is_bad()) {
        None => Ok(()),
        Some(bad) => Err(format!("VERIFY: {} {}: {}", bad.object, bad.check, bad.detail)),
    }
}

fn number(name: &str) -> Option<u64> {
    std::env::var(name).ok().and_then(|text| text.parse().ok())
}

/// What a failing seed shows.
fn report(seed: u64, ran: &Ran) -> String {
    let lines = ran.trace.lines();
    let shown = &lines[lines.len().saturating_sub(SHOWN_LINES)..];
    format!(
        "seed {seed}, the end of its trace:\n{}\n\nseed {seed} violates:\n- {}\n\nrun it again with CAIRN_SIM_SEED={seed}\n",
        shown.join("\n"),
        ran.violations.join("\n- ")
    )
}

/// Whatever the dice say, nothing acknowledged is lost, nothing refused appears, and nobody reads what never was.
#[test]
fn a_thousand_seeds() {
    let (first, count) = match number("CAIRN_SIM_SEED") {
        Some(seed) => (seed, 1),
        None => (0, number("CAIRN_SIM_SEEDS").unwrap_or(1_000)),
    };
    let (next, total) = (AtomicU64::new(first), Mutex::new(Counts::default()));
    let failures: Mutex<Vec<String>> = Mutex::default();
    let work = || {
        loop {
            let seed = next.fetch_add(1, Ordering::Relaxed);
            if seed >= first + count || failures.lock().unwrap().len() >= 3 {
                return;
            }
            let ran = run(seed);
            total.lock().unwrap().add(&ran.counts);
            if !ran.violations.is_empty() {
                failures.lock().unwrap().push(report(seed, &ran));
            }
        }
    };
    std::thread::scope(|scope| {
        for _ in 0..THREADS {
            scope.spawn(work);
        }
    });
    let (failures, total) = (failures.into_inner().unwrap(), total.into_inner().unwrap());
    assert!(failures.is_empty(), "{}", failures.join("\n"));
    if count >= 100 {
        // A run in which nothing happens proves nothing.
        assert!(total.acknowledged > 2 * count && total.writers > 2 * count, "{total:?}");
        let happened = [total.refused, total.unknown, total.fenced, total.checkpoints, total.collections];
        assert!(happened.iter().all(|times| *times > 0) && total.compactions > 0, "{total:?}");
        assert!(total.removed > 0 && total.reads > count && total.reads_again > 0, "{total:?}");
    }
}

/// A failure can be repeated: nothing but the seed decides what happens.
#[test]
fn the_same_seed_gives_the_same_trace() {
    let mut compactions = 0;
    for seed in 0..20 {
        // Beside each other: what depends on the machine's pace differs then, if it ever does.
        let (once, again) = std::thread::scope(|scope| {
            let again = scope.spawn(|| run(seed));
            (run(seed), again.join().unwrap())
        });
        compactions += once.counts.compactions;
        let (once, again) = (once.trace.lines(), again.trace.lines());
        let longer = once.len().max(again.len());
        if let Some(line) = (0..longer).find(|line| once.get(*line) != again.get(*line)) {
            let before = once[line.saturating_sub(20)..line].join("\n");
            panic!(
                "seed {seed} goes two ways after\n{before}\nonce:  {:?}\nagain: {:?}",
                once.get(line),
                again.get(line)
            );
        }
    }
    assert!(compactions > 0, "nothing is ever compacted");
}
