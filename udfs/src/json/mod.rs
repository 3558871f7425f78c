//! JSON in text: what is at a path, what kind it is, values as JSON, and the operators `->` and `->>`.
//!
//! Owns: paths (`path`), values as they stand in a text (`value`), JSON of SQL's values (`write`). What is found is given as it stands in the
//! text, blanks and the order of keys included. Of a key that is there twice, the last counts, as in PostgreSQL. Does not own: the type JSON,
//! which is text that is checked when it is written (engine).

mod get;
mod make;
mod operator;
mod path;
mod value;
mod write;

use datafusion::error::DataFusionError;

use crate::function::{Spec, invalid};

pub(crate) use operator::JsonOperators;
pub(crate) use write::Writer;

/// The functions of this module.
pub(crate) fn functions() -> Vec<Spec> {
    let mut functions = get::functions();
    functions.extend(make::functions());
    functions
}

/// A text that is no JSON.
fn no_json(text: &str, why: &serde_json::Error) -> DataFusionError {
    let cut: String = text.chars().take(60).collect();
    invalid("22032", format!("'{cut}' is no JSON: {why}"))
}
