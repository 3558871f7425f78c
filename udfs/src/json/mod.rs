//! JSON in text: what is at a path, what kind it is, values as JSON, and the operators `->` and `->>`.
//!
//! Owns: paths (`path`), values as they stand in a text (`value`), JSON of SQL's values (`write`), changes of JSON (`edit`). What is found is given as it stands in the
//! text, blanks and the order of keys included. Of a key that is there twice, the last counts, as in PostgreSQL. Does not own: the type JSON,
//! which is text that is checked when it is written (engine).

mod edit;
mod get;
mod make;
mod operator;
mod path;
mod value;
mod write;

use datafusion::error::{DataFusionError, Result};

use crate::bounded::TooLarge;
use crate::function::{Spec, invalid};

pub(crate) use operator::JsonOperators;
pub(crate) use write::Writer;

/// The functions of this module.
pub(crate) fn functions() -> Vec<Spec> {
    let mut functions = get::functions();
    functions.extend(make::functions());
    functions.extend(edit::functions());
    functions
}

/// How deep JSON may be nested of which each value is written anew.
const DEPTH_MAX: usize = 128;

/// Refuses what is nested deeper; `function` is who would go through it.
fn check_depth(depth: usize, function: &str) -> Result<()> {
    if depth <= DEPTH_MAX {
        return Ok(());
    }
    Err(TooLarge::error(format!("{function} takes JSON nested {DEPTH_MAX} deep at most")))
}

/// A text that is no JSON.
fn no_json(text: &str, why: &serde_json::Error) -> DataFusionError {
    let cut: String = text.chars().take(60).collect();
    invalid("22032", format!("'{cut}' is no JSON: {why}"))
}
