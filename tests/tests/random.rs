//! Random statements and queries, against a model, against each other and against DuckDB.
//!
//! * `random/model.rs`: scripts of two sessions, compared with a model after every statement. `CAIRN_MODEL_SEEDS=<how many>`,
//!   `CAIRN_MODEL_SEED=<one>`.
//! * `random/logic.rs`: queries whose answers must agree with each other, wherever the rows are. `CAIRN_LOGIC_SEEDS`, `CAIRN_LOGIC_SEED`.
//! * `random/duck.rs`: queries that DuckDB answers, too. `CAIRN_DUCK_SEEDS`, `CAIRN_DUCK_SEED`.
//! * `random/joins.rs`: joins in the order that the planner chooses and in the written one. `CAIRN_JOINS_SEEDS`, `CAIRN_JOINS_SEED`.
//!
//! A failure says its seed and the statements that repeat it.

#![allow(clippy::unwrap_used, clippy::print_stdout, reason = "test code: a panic is the report")]

#[path = "random/duck.rs"]
mod duck;
#[path = "random/joins.rs"]
mod joins;
#[path = "random/logic.rs"]
mod logic;
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
