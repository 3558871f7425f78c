//! Random statements and queries, against a model.
//!
//! * `random/model.rs`: scripts of two sessions, compared with a model after every statement. `CAIRN_MODEL_SEEDS=<how many>`,
//!   `CAIRN_MODEL_SEED=<one>`.
//!
//! A failure says its seed and the statements that repeat it.

#![allow(clippy::unwrap_used, clippy::print_stdout, reason = "test code: a panic is the report")]

#[path = "random/model.rs"]
mod model;

/// Says what failed of all seeds, and fails if anything did.
fn report(what: &str, seeds: &[u64], failures: &[String]) {
    println!("{what}: {} seeds, {} fail", seeds.len(), failures.len());
    assert!(
        failures.is_empty(),
        "{what}: {} of {} seeds fail\n\n{}",
        failures.len(),
        seeds.len(),
        failures.join("\n\n")
    );
}
