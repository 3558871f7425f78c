//! Whatever two sessions do, the database answers as the model does, wherever it is.

use cairn_tests::random::place::Place;
use cairn_tests::random::{script, seeds};

/// Statements of a script.
const LENGTH: usize = 80;
/// Scripts that fail are made short, which takes a while: after so many it is enough.
const FAILURES_MAX: usize = 3;

fn run(place: Place, default_seeds: u64) {
    let seeds = seeds("CAIRN_MODEL_SEED", "CAIRN_MODEL_SEEDS", default_seeds);
    let mut failures = Vec::new();
    for seed in &seeds {
        failures.extend(script::check(place, *seed, LENGTH).err());
        if failures.len() == FAILURES_MAX {
            break;
        }
    }
    super::report(&format!("scripts {place}"), &seeds, &failures);
}

#[test]
fn sessions_do_what_the_model_does_in_memory() {
    run(Place::Memory, 3);
}

#[test]
fn sessions_do_what_the_model_does_in_a_directory() {
    run(Place::Directory, 4);
}

#[test]
fn sessions_do_what_the_model_does_in_an_object_store() {
    run(Place::Objects, 3);
}
