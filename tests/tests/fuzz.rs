//! The fuzz targets on their corpora and on changed inputs, the same in every run.
//!
//! `CAIRN_FUZZ_ROUNDS=<how many>` changes each input so often; `CAIRN_FUZZ_WRITE_SEEDS=1` writes the first inputs into `fuzz/corpus`, from the
//! encoders as they are now. An input that fails is kept below the target directory; put it into the corpus with what mends it.
//! `CAIRN_FUZZ_TRACE=1` names each input before it is read, for those that end the whole process.

#![allow(clippy::unwrap_used, clippy::print_stdout, reason = "test code: a panic is the report")]

#[path = "fuzz/allocation.rs"]
mod allocation;

use std::any::Any;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::time::{Duration, Instant};

use cairn_tests::fuzz::{TARGETS, Target, corpus, mutation};
use rand::SeedableRng;
use rand::rngs::StdRng;
use xxhash_rust::xxh3::xxh3_64_with_seed;

#[global_allocator]
static ALLOCATOR: allocation::Counting = allocation::Counting;

/// Failures of a target after which it is enough.
const FAILURES_MAX: usize = 5;
/// Longest time that one input may take: nothing that is read here is large.
const TIME_MAX: Duration = Duration::from_secs(30);

macro_rules! replay {
    ($($name:ident),+) => {
        $(
            #[test]
            fn $name() {
                replayed(stringify!($name));
            }
        )+

        #[test]
        fn no_target_is_left_out() {
            let known: Vec<&str> = TARGETS.iter().map(|target| target.name).collect();
            assert_eq!(known, [$(stringify!($name)),+]);
            fuzzed_at_night(&known);
        }
    };
}

replay!(wal, journal, manifest, deletes, keys, unit, config, sql, scan, flight, http, text);

/// Each has a program of cargo-fuzz, which runs at night.
fn fuzzed_at_night(targets: &[&str]) {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let read = |path: &str| std::fs::read_to_string(root.join(path)).unwrap_or_default();
    let (programs, nightly) = (read("fuzz/Cargo.toml"), read(".github/workflows/nightly.yml"));
    assert!(nightly.contains(&format!("target: [{}]", targets.join(", "))), "nightly.yml runs other targets");
    for target in targets {
        assert!(programs.contains(&format!("name = \"{target}\"")), "fuzz/Cargo.toml has no {target}");
        let program = read(&format!("fuzz/fuzz_targets/{target}.rs"));
        assert!(program.contains(&format!("replay(\"{target}\", bytes)")), "{target}: {program}");
    }
}

fn replayed(name: &str) {
    let target = TARGETS.iter().find(|target| target.name == name).unwrap();
    let seeds = target.seeds();
    if is_set("CAIRN_FUZZ_WRITE_SEEDS") {
        corpus::write(target, &seeds);
    }
    let mut inputs = corpus::files(target);
    assert!(!inputs.is_empty(), "{} is empty: see tests/tests/fuzz.rs", corpus::folder(target).display());
    // What is written now is read as well as what was written then.
    for (name, bytes) in seeds {
        if inputs.iter().all(|(_, known)| *known != bytes) {
            inputs.push((format!("{name} (of now)"), bytes));
        }
    }
    // What is made once, as a kernel or a table of types, is no input's memory.
    if target.memory.is_some() {
        inputs.iter().for_each(|(_, bytes)| drop(caught(target, bytes)));
    }
    let rounds = std::env::var("CAIRN_FUZZ_ROUNDS").map_or(target.rounds, |rounds| rounds.parse().unwrap());
    let (mut failures, mut read) = (Vec::new(), 0);
    'inputs: for (i, (input, bytes)) in inputs.iter().enumerate() {
        for round in 0..=rounds {
            let changed;
            let bytes = if round == 0 {
                bytes
            } else {
                let seed = xxh3_64_with_seed(format!("{name}/{input}").as_bytes(), round as u64);
                let (_, other) = &inputs[(i + round) % inputs.len()];
                changed = mutation::mutated(&mut StdRng::seed_from_u64(seed), bytes, other);
                &changed
            };
            read += 1;
            if let Err(problem) = check(target, &format!("{input}, round {round}"), bytes) {
                failures.push(format!(
                    "{input}, round {round}: {problem}\n  {}",
                    kept(name, input, round, bytes)
                ));
            }
            if failures.len() == FAILURES_MAX {
                break 'inputs;
            }
        }
    }
    println!("{name}: {read} inputs of {}, {} fail", inputs.len(), failures.len());
    assert!(failures.is_empty(), "{name}: {} inputs fail\n{}", failures.len(), failures.join("\n"));
}

/// Reads one input; what is wrong with how it was read.
fn check(target: &Target, input: &str, bytes: &[u8]) -> Result<(), String> {
    if is_set("CAIRN_FUZZ_TRACE") {
        eprintln!("{}: {input}, {} bytes", target.name, bytes.len());
    }
    let started = Instant::now();
    let (outcome, most) = allocation::most_during(|| caught(target, bytes));
    outcome?;
    if started.elapsed() > TIME_MAX {
        return Err(format!("it took {:?}", started.elapsed()));
    }
    match target.memory {
        Some(memory) if most > memory.bytes + memory.per_byte * bytes.len() => {
            Err(format!("it held {most} bytes of memory for {} of input", bytes.len()))
        }
        Some(_) | None => Ok(()),
    }
}

fn caught(target: &Target, bytes: &[u8]) -> Result<(), String> {
    catch_unwind(AssertUnwindSafe(|| target.replay(bytes))).map_err(|panic| said(panic.as_ref()))
}

fn said(panic: &(dyn Any + Send)) -> String {
    let text = panic.downcast_ref::<&str>().map(|text| (*text).to_owned());
    text.or_else(|| panic.downcast_ref::<String>().cloned()).unwrap_or_else(|| "it panicked".to_owned())
}

/// Where an input that failed is for whoever looks into it.
fn kept(target: &str, input: &str, round: usize, bytes: &[u8]) -> String {
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join("fuzz").join(target);
    let path = folder.join(format!("{}-{round}", input.replace(' ', "-")));
    std::fs::create_dir_all(folder).unwrap();
    std::fs::write(&path, bytes).unwrap();
    format!("kept in {}", path.display())
}

fn is_set(variable: &str) -> bool {
    std::env::var_os(variable).is_some_and(|value| !value.is_empty() && value != "0")
}
