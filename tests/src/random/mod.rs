//! Statements that nobody thought of: generators, and what says whether the answers are right.
//!
//! * [`value`], [`expression`]: values and a small language of expressions that can be written as SQL and evaluated here.
//! * [`schema`], [`statement`]: tables of a seed, and the statements on them, with their weights.
//! * [`model`]: what a database of such tables must answer: rows, keys, transactions, conflicts, in ordered maps.
//! * [`place`]: where the database under test is, and opening it again.
//! * [`script`]: both run side by side, compared after every statement; a script that fails is made short.
//! * [`logic`]: queries whose answers must agree with each other, over tables of all types (TLP, NoREC).
//! * [`common`]: queries that DuckDB understands in the same way.
//!
//! Everything follows from a seed. Nothing here sleeps, and tables stay at some hundred rows.

pub mod common;
pub mod expression;
pub mod logic;
pub mod model;
pub mod place;
pub mod schema;
pub mod script;
pub mod statement;
pub mod value;

use rand::Rng;
use rand::rngs::StdRng;

/// One of `items`.
///
/// # Panics
/// When there are none.
pub fn one_of<'a, T>(random: &mut StdRng, items: &'a [T]) -> &'a T {
    &items[random.random_range(0..items.len())]
}

/// One of `items`, each as often as its weight says.
///
/// # Panics
/// When all weights are 0.
pub fn weighted<T: Copy>(random: &mut StdRng, items: &[(u32, T)]) -> T {
    let all: u32 = items.iter().map(|(weight, _)| weight).sum();
    let mut at = random.random_range(0..all);
    for (weight, item) in items {
        if at < *weight {
            return *item;
        }
        at -= weight;
    }
    unreachable!("at is below the sum of the weights")
}

/// Seeds to run: the one of `one`, or `0..` as many as `many` says, `default` without.
///
/// # Panics
/// When a variable is no number.
#[must_use]
pub fn seeds(one: &str, many: &str, default: u64) -> Vec<u64> {
    let number = |name: &str| std::env::var(name).ok().map(|text| text.parse::<u64>().unwrap());
    match number(one) {
        Some(seed) => vec![seed],
        None => (0..number(many).unwrap_or(default)).collect(),
    }
}
