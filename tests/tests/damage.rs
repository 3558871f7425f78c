//! Damage test: whatever happens to the bytes of one file, the database answers with the right rows or a named error.
//!
//! Each case changes one file of a small database: a flipped bit, a cut, 512 zeros, nothing left, another file of its kind in its place. Then a
//! process of its own opens it, as a reader that runs VERIFY DEEP and as a writer, and is asked for everything. What may come of it stands
//! in `cairn_tests::damage::judge`. By default a seed picks some places in each kind of file.
//!
//! * `CAIRN_DAMAGE=all`: every byte of files up to 64 KiB, that many places of larger ones. In a release build; hours.
//! * `CAIRN_DAMAGE_SEED=<number>`, `CAIRN_DAMAGE_PLACES=<number>` of each kind of file and harm.
//! * `CAIRN_DAMAGE_FILE=<text>`: only files whose `<home>/<path>` contains it, every one of them.
//! * `CAIRN_DAMAGE_HARM=<kind>`, `CAIRN_DAMAGE_AT=<offset>`, `CAIRN_DAMAGE_WITH=<path>` (of a swap): only that. A failure prints all that repeats it.
//!
//! What a repair makes of damage is in `damage/repair.rs`.

#![allow(clippy::unwrap_used, clippy::print_stdout, reason = "test code: a panic is the report")]

#[path = "damage/repair.rs"]
mod repair;

use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Instant;

use cairn_tests::damage::harm::{Case, Change, Harm, ZEROED_BYTES, lay_out, worth_harming};
use cairn_tests::damage::home::{self, FileKind, Home};
use cairn_tests::damage::judge::{Truth, Verdict, found, is_tried, trial};
use cairn_tests::damage::report::{Report, Row};
use cairn_tests::damage::trial::Observed;
use cairn_tests::damage::worker::{Ending, Worker};
use cairn_tests::scratch;
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

const SEED: u64 = 7;
/// Places in each kind of file for each harm.
const PLACES: usize = 2;
/// Most places of one file, for each harm, when all are tried.
const PLACES_MAX: usize = 64 << 10;
/// The same in `wide`, whose every trial takes longer.
const PLACES_MAX_WIDE: usize = 2 << 10;
/// Blocks of zeros begin at multiples of this when all are tried: they overlap all the same.
const ZERO_STEP: usize = 64;
/// Places are picked from so much of a file's beginning and of its end as often as from all of it.
const EDGE_BYTES: usize = 160;
/// A reader is asked everything in one case of so many; VERIFY DEEP runs in each.
const READER_ASKED_ONE_IN: usize = 3;

/// What is to be tried.
struct Plan {
    all: bool,
    seed: u64,
    places: usize,
    file: Option<String>,
    harm: Option<Harm>,
    at: Option<usize>,
    with: Option<String>,
}

impl Plan {
    fn from_environment() -> Self {
        let text = |name: &str| std::env::var(name).ok();
        let number = |name: &str| text(name).map(|text| text.parse::<u64>().unwrap());
        let harm = text("CAIRN_DAMAGE_HARM");
        Self {
            all: text("CAIRN_DAMAGE").is_some_and(|value| value == "all"),
            seed: number("CAIRN_DAMAGE_SEED").unwrap_or(SEED),
            places: number("CAIRN_DAMAGE_PLACES").map_or(PLACES, |number| number.try_into().unwrap()),
            file: text("CAIRN_DAMAGE_FILE"),
            harm: harm.map(|name| *Harm::ALL.iter().find(|harm| harm.as_str() == name).unwrap()),
            at: number("CAIRN_DAMAGE_AT").map(|number| number.try_into().unwrap()),
            with: text("CAIRN_DAMAGE_WITH"),
        }
    }

    /// Whether nothing is left out on purpose.
    fn is_whole(&self) -> bool {
        self.file.is_none() && self.harm.is_none() && self.at.is_none() && self.with.is_none()
    }

    /// Whether each file of a kind is tried, not a few of them.
    fn takes_every_file(&self) -> bool {
        self.all || self.file.is_some()
    }

    fn cases(&self, home: &Home, rng: &mut StdRng) -> Vec<Case> {
        let mut cases = Vec::new();
        let mut kinds: Vec<FileKind> = home.files.iter().map(|file| file.kind).collect();
        kinds.sort_unstable();
        kinds.dedup();
        for kind in kinds {
            for harm in Harm::ALL {
                if !is_tried(home, kind, harm) || self.harm.is_some_and(|wanted| wanted != harm) {
                    continue;
                }
                let wanted = |path: &str| {
                    let named = format!("{}/{path}", home.name);
                    self.file.as_ref().is_none_or(|part| named.contains(part))
                };
                let files = home.files.iter().enumerate();
                let files: Vec<usize> = files
                    .filter(|(_, file)| file.kind == kind && wanted(&file.path))
                    .map(|(number, _)| number)
                    .collect();
                if !files.is_empty() {
                    self.cases_of(home, &files, harm, rng, &mut cases);
                }
            }
        }
        cases
    }

    /// Cases of one kind of file and one harm.
    fn cases_of(&self, home: &Home, files: &[usize], harm: Harm, rng: &mut StdRng, cases: &mut Vec<Case>) {
        let case = |file: usize| Case { file, harm, at: 0, other: None };
        if harm == Harm::Swapped {
            let pairs =
                files.iter().flat_map(|file| self.partners(home, *file).map(move |other| (*file, other)));
            let pairs: Vec<(usize, usize)> = pairs.collect();
            let count = if self.takes_every_file() { pairs.len() } else { 1 };
            for pair in picked(&pairs, count, rng) {
                cases.push(Case { other: Some(pair.1), ..case(pair.0) });
            }
            return;
        }
        let every = self.takes_every_file();
        if !harm.has_place() {
            cases.extend(picked(files, if every { files.len() } else { 1 }, rng).map(case));
            return;
        }
        if let Some(at) = self.at {
            let reaches = |file: &&usize| at < home.files[**file].bytes.len();
            cases.extend(files.iter().filter(reaches).map(|file| Case { at, ..case(*file) }));
        } else if self.all {
            for file in files {
                let worth = worth_harming(&home.files[*file]);
                let step = if matches!(harm, Harm::Zero | Harm::TornZero) { ZERO_STEP } else { 1 };
                let max = if home.name == "wide" { PLACES_MAX_WIDE } else { PLACES_MAX };
                let step = step.max(worth.div_ceil(max)).max(1);
                cases.extend((0..worth).step_by(step).map(|at| Case { at, ..case(*file) }));
            }
        } else {
            // Most files of most tables are segments, and most of what can go wrong stands in the log.
            let kind = home.files[files[0]].kind;
            let more = if matches!(kind, FileKind::Segment | FileKind::OpenLog) { 2 } else { 1 };
            let places = if home.name == "wide" { self.places.div_ceil(2) } else { self.places * more };
            for _ in 0..places {
                let file = files[rng.random_range(0..files.len())];
                let at = place(&home.files[file], rng);
                cases.push(Case { at, ..case(file) });
            }
        }
    }

    /// What a file can be swapped with: another of its kind, the older ones of it too. Each pair once.
    fn partners(&self, home: &Home, file: usize) -> impl Iterator<Item = usize> {
        let family = |kind: FileKind| match kind {
            FileKind::OlderManifest => FileKind::Manifest,
            FileKind::OlderLeaf => FileKind::Leaf,
            FileKind::SealedLog => FileKind::OpenLog,
            other => other,
        };
        let own = &home.files[file];
        home.files.iter().enumerate().filter_map(move |(number, other)| {
            let is_wanted = self.with.as_ref().is_none_or(|path| *path == other.path);
            let is_later = number > file || own.kind != other.kind;
            let is_other = number != file && own.bytes != other.bytes;
            (is_wanted && is_later && is_other && family(own.kind) == family(other.kind)).then_some(number)
        })
    }
}

/// `count` of `items`; all of them in order when there are no more.
fn picked<'a, T: Copy>(
    items: &'a [T],
    count: usize,
    rng: &mut StdRng,
) -> impl Iterator<Item = T> + use<'a, T> {
    let first = if count < items.len() { rng.random_range(0..items.len()) } else { 0 };
    items.iter().cycle().skip(first).take(count.min(items.len())).copied()
}

/// A place in a file: near its beginning, near its end, or anywhere.
fn place(file: &home::Stored, rng: &mut StdRng) -> usize {
    let worth = worth_harming(file).max(1);
    let edge = EDGE_BYTES.min(worth);
    match rng.random_range(0..4) {
        0 => rng.random_range(0..edge),
        1 => worth - 1 - rng.random_range(0..edge),
        _ => rng.random_range(0..worth),
    }
}

/// Everything the threads share.
struct Run<'a> {
    plan: &'a Plan,
    homes: &'a [(Home, Truth)],
    /// Which home, and what is done to it.
    cases: &'a [(usize, Case)],
    next: AtomicUsize,
    report: Mutex<Report>,
}

impl Run<'_> {
    /// Tries cases until there are no more.
    fn work(&self, place: &Path) {
        let mut worker = Worker::new(program());
        loop {
            let number = self.next.fetch_add(1, Ordering::Relaxed);
            let Some((home, case)) = self.cases.get(number) else { return };
            let root = place.join(format!("case-{number}"));
            self.try_case(number, &self.homes[*home], case, (&root, &mut worker));
            // A case that removed everything made nothing.
            let _ = std::fs::remove_dir_all(&root);
        }
    }

    fn try_case(
        &self,
        number: usize,
        (home, truth): &(Home, Truth),
        case: &Case,
        (root, worker): (&PathBuf, &mut Worker),
    ) {
        let changes = case.changes(home, self.plan.seed);
        if changes.is_empty() {
            return;
        }
        let row = Row { home: home.name, kind: home.files[case.file].kind, harm: case.harm };
        self.report.lock().unwrap().case(row);
        lay_out(home.root(), home.files.iter().map(|file| file.path.as_str()), &changes, root);
        let reader_is_asked = self.plan.takes_every_file() || number.is_multiple_of(READER_ASKED_ONE_IN);
        for (read_only, asks) in [(true, reader_is_asked), (false, true)] {
            let trial = trial(home, root, read_only, asks);
            let who = if read_only { "reader" } else { "writer" };
            let ending = worker.try_out(&trial);
            let mut report = self.report.lock().unwrap();
            let observed = match ending {
                Ending::Observed(observed) => observed,
                Ending::Hung => {
                    report.failure(row, self.repeat(home, case), format!("{who}: it hangs"));
                    return;
                }
                Ending::Died(how) => {
                    report.failure(row, self.repeat(home, case), format!("{who}: the process died: {how}"));
                    return;
                }
            };
            report.largest(observed.largest_bytes);
            match truth.judge(home, case, &changes, (&trial, &*observed)) {
                Ok(verdict) if asks || matches!(verdict, Verdict::Refused(_)) => {
                    report.verdict(row, &verdict)
                }
                Ok(_) => {}
                Err(why) => report.failure(row, self.repeat(home, case), format!("{who}: {why}")),
            }
            if let Some(found) = found(&changes, &trial, &observed) {
                let harmless = truth.harmless(home, case, &changes);
                if !report.found(row, found, harmless) {
                    let why = format!("VERIFY DEEP does not find it{}", shown(&changes, &observed));
                    report.failure(row, self.repeat(home, case), why);
                }
            }
        }
    }

    /// The variables that repeat a case.
    fn repeat(&self, home: &Home, case: &Case) -> String {
        let (name, path) = (home.name, &home.files[case.file].path);
        let kind = home.files[case.file].kind;
        let mut text = format!(
            "{kind}: CAIRN_DAMAGE_SEED={} CAIRN_DAMAGE_FILE={name}/{path} CAIRN_DAMAGE_HARM={}",
            self.plan.seed, case.harm
        );
        if case.harm.has_place() {
            text.push_str(&format!(" CAIRN_DAMAGE_AT={}", case.at));
        }
        if let Some(other) = case.other {
            text.push_str(&format!(" CAIRN_DAMAGE_WITH={}", home.files[other].path));
        }
        text
    }
}

/// What VERIFY said of the harmed files.
fn shown(changes: &[Change], observed: &Observed) -> String {
    let findings = observed.findings.as_ref().and_then(|findings| findings.as_ref().ok());
    let of_change = |row: &&Vec<String>| changes.iter().any(|change| row.join(" ").contains(&change.path));
    let rows = findings.into_iter().flatten().filter(of_change);
    rows.map(|row| format!("\n  it says {row:?}")).collect()
}

fn program() -> &'static Path {
    Path::new(env!("CARGO_BIN_EXE_cairn-test-process"))
}

#[test]
fn damage_gives_right_rows_or_a_named_error() {
    let plan = Plan::from_environment();
    println!("CAIRN_DAMAGE_SEED={}", plan.seed);
    let started = Instant::now();
    let place = scratch().unwrap();
    let mut worker = Worker::new(program());
    let homes: Vec<(Home, Truth)> = [home::small(place.path()), home::wide(place.path())]
        .into_iter()
        .map(|home| {
            let truth = Truth::of(&home, &mut worker, place.path());
            (home, truth)
        })
        .collect();
    drop(worker);
    let mut rng = StdRng::seed_from_u64(plan.seed);
    let mut cases = Vec::new();
    for (number, (home, _)) in homes.iter().enumerate() {
        cases.extend(plan.cases(home, &mut rng).into_iter().map(|case| (number, case)));
    }
    println!("{} cases, made in {:.1} s", cases.len(), started.elapsed().as_secs_f64());
    let run = Run {
        plan: &plan,
        homes: &homes,
        cases: &cases,
        next: AtomicUsize::new(0),
        report: Mutex::default(),
    };
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    std::thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| run.work(place.path()));
        }
    });
    let report = run.report.into_inner().unwrap();
    println!("{report}\n{} cases in {:.1} s", report.cases(), started.elapsed().as_secs_f64());
    if plan.is_whole() {
        let mut kinds: Vec<FileKind> =
            homes.iter().flat_map(|(home, _)| &home.files).map(|file| file.kind).collect();
        kinds.sort_unstable();
        kinds.dedup();
        assert_eq!(report.kinds(), kinds, "a kind of file was not damaged");
        assert_eq!(kinds.len(), 14, "the databases do not have every kind of file");
    }
    assert!(report.cases() > 0, "nothing was tried");
    assert!(report.is_clean(), "{}", report.failures());
}

#[test]
fn harm_is_what_it_says() {
    let file = |kind, bytes: Vec<u8>| home::Stored { path: "x".to_owned(), kind, bytes };
    let home = Home {
        name: "none",
        stages: Vec::new(),
        files: vec![file(FileKind::History, vec![1; 1000]), file(FileKind::History, vec![2; 7])],
        frames: Vec::new(),
        questions: Vec::new(),
        reader_questions: Vec::new(),
        pairs: Vec::new(),
    };
    let after = |harm, at| {
        let case = Case { file: 0, harm, at, other: Some(1) };
        case.changes(&home, 3).into_iter().map(|change| change.bytes).collect::<Vec<_>>()
    };
    let flipped = after(Harm::Flip, 10).remove(0).unwrap();
    let differing: Vec<usize> = (0..1000).filter(|at| flipped[*at] != 1).collect();
    assert_eq!((differing, flipped[10] ^ 1), (vec![10], 1 << 5));
    assert_eq!(after(Harm::Cut, 10), [Some(vec![1; 10])]);
    let zeroed = after(Harm::Zero, 600).remove(0).unwrap();
    assert_eq!(zeroed.iter().filter(|byte| **byte == 0).count(), ZEROED_BYTES.min(400));
    assert_eq!(after(Harm::Missing, 0), [None]);
    assert_eq!(after(Harm::Empty, 0), [Some(Vec::new())]);
    assert_eq!(after(Harm::Swapped, 0), [Some(vec![2; 7]), Some(vec![1; 1000])]);
    let same = Case { file: 1, harm: Harm::Swapped, at: 0, other: Some(1) };
    assert!(same.changes(&home, 3).is_empty(), "nothing is another");
}
