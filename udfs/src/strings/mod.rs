//! Texts: how alike they are, cut by patterns, put together by formats, quoted, and written in other alphabets.
//!
//! Owns: functions of DuckDB and PostgreSQL that DataFusion has not. Positions and lengths count characters. Does not own: DataFusion's
//! functions, and what bounds them (`bounded`).

mod accents;
mod alike;
mod encode;
mod pattern;
mod printf;
mod quote;

use std::fmt::Write as _;

use datafusion::arrow::array::{Array, ArrayRef};
use datafusion::arrow::util::display::{ArrayFormatter, FormatOptions};
use datafusion::common::Result;

use crate::function::{Spec, Values, invalid};

/// The functions of this module.
pub(crate) fn functions() -> Vec<Spec> {
    let mut functions = alike::functions();
    functions.extend(pattern::functions());
    functions.extend(quote::functions());
    functions.extend(printf::functions());
    functions.extend(encode::functions());
    functions
}

/// The value of a row as text behind `out`; false where it is NULL.
fn write_value(
    formatter: &ArrayFormatter<'_>,
    values: &Values,
    row: usize,
    out: &mut String,
) -> Result<bool> {
    if values.is_null(row) {
        return Ok(false);
    }
    let no_text = |_| invalid("22000", format!("a value of type {} has no text", values.array().data_type()));
    write!(out, "{}", formatter.value(values.at(row))).map_err(no_text)?;
    Ok(true)
}

/// What makes texts of the values of `array`.
fn formatter(array: &ArrayRef) -> Result<ArrayFormatter<'_>> {
    const OPTIONS: FormatOptions<'static> = FormatOptions::new();
    Ok(ArrayFormatter::try_new(array.as_ref(), &OPTIONS)?)
}
