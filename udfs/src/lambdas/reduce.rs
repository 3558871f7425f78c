//! `list_reduce`: one value of all elements of a list.
//!
//! Owns: the type that the value is kept in, and the steps: the lambda is evaluated once for the first elements of all lists of a batch, once
//! for the second, and so on. A list that is at its end takes no part in what comes then.

use std::sync::Arc;

use datafusion::arrow::array::{Array, ArrayRef, Int64Array, UInt64Array, new_null_array};
use datafusion::arrow::compute::{CastOptions, cast_with_options, interleave, take, take_arrays};
use datafusion::arrow::datatypes::DataType;
use datafusion::common::Result;
use datafusion::logical_expr::LambdaArgument;

use super::elements::Elements;

/// The type that the value is kept in, from those of the initial value, of the elements and of what the lambda makes: that of the first
/// value, or a wider one for numbers. It hangs on the kind of number that is made and not on its digits, which may be more with each step.
pub(super) fn kept(initial: Option<&DataType>, item: &DataType, made: Option<&DataType>) -> DataType {
    let first = initial.filter(|initial| !initial.is_null()).unwrap_or(item);
    let Some(made) = made else { return first.clone() };
    if first.is_null() {
        return made.clone();
    }
    if first == made || !first.is_numeric() || !made.is_numeric() {
        return first.clone();
    }
    if first.is_floating() || made.is_floating() {
        return DataType::Float64;
    }
    if is_decimal(first) || is_decimal(made) {
        let scale = [first, item].into_iter().filter_map(scale).max().or(scale(made)).unwrap_or(0);
        return match [first, item].iter().any(|of| matches!(of, DataType::Decimal256(..))) {
            true => DataType::Decimal256(76, scale),
            false => DataType::Decimal128(38, scale),
        };
    }
    match first.is_unsigned_integer() && made.is_unsigned_integer() {
        true => DataType::UInt64,
        false => DataType::Int64,
    }
}

fn is_decimal(of: &DataType) -> bool {
    scale(of).is_some()
}

fn scale(of: &DataType) -> Option<i8> {
    match of {
        DataType::Decimal32(_, scale)
        | DataType::Decimal64(_, scale)
        | DataType::Decimal128(_, scale)
        | DataType::Decimal256(_, scale) => Some(*scale),
        _ => None,
    }
}

/// The value of each list, of type `kept`.
pub(super) fn reduced(
    elements: &Elements,
    lambda: &LambdaArgument,
    initial: Option<&ArrayRef>,
    kept: &DataType,
) -> Result<ArrayRef> {
    // Values of lists that are at their end, and where among them that of each row is: at first in a part that is NULL.
    let mut parts = vec![new_null_array(kept, 1)];
    let mut found = vec![(0, 0); elements.rows()];
    let mut done = usize::from(initial.is_none());
    let begins = |row: &usize| !elements.is_null(*row) && elements.range(*row).len() >= done;
    let mut rows: Vec<usize> = (0..elements.rows()).filter(begins).collect();
    let mut values = match initial {
        Some(initial) => converted(&take(initial.as_ref(), &indices(rows.iter().copied()), None)?, kept)?,
        None => converted(&nth(elements, &rows, 0)?, kept)?,
    };
    loop {
        let is_over = |at: &usize| elements.range(rows[*at]).len() <= done;
        let (over, more): (Vec<usize>, Vec<usize>) = (0..rows.len()).partition(is_over);
        if !over.is_empty() {
            for (place, at) in over.iter().enumerate() {
                found[rows[*at]] = (parts.len(), place);
            }
            parts.push(take(values.as_ref(), &indices(over), None)?);
            values = take(values.as_ref(), &indices(more.iter().copied()), None)?;
            rows = more.into_iter().map(|at| rows[at]).collect();
        }
        if rows.is_empty() {
            break;
        }
        values = step(elements, lambda, &rows, done, &values, kept)?;
        done += 1;
    }
    let parts: Vec<&dyn Array> = parts.iter().map(AsRef::as_ref).collect();
    Ok(interleave(&parts, &found)?)
}

/// What the lambda makes of `values`, one for each of `rows`, and of their elements number `done`, counted from 0.
fn step(
    elements: &Elements,
    lambda: &LambdaArgument,
    rows: &[usize],
    done: usize,
    values: &ArrayRef,
    kept: &DataType,
) -> Result<ArrayRef> {
    let value = || -> Result<ArrayRef> { Ok(Arc::clone(values)) };
    let element = || nth(elements, rows, done);
    let place = || -> Result<ArrayRef> {
        let place = i64::try_from(done).map_or(i64::MAX, |done| done.saturating_add(1));
        Ok(Arc::new(Int64Array::from_value(place, rows.len())))
    };
    let given: [&dyn Fn() -> Result<ArrayRef>; 3] = [&value, &element, &place];
    let made = lambda
        .evaluate(&given, |columns| Ok(take_arrays(columns, &indices(rows.iter().copied()), None)?))?
        .into_array(rows.len())?;
    converted(&made, kept)
}

/// The elements number `at` of these rows, which have as many.
fn nth(elements: &Elements, rows: &[usize], at: usize) -> Result<ArrayRef> {
    elements.taken(&indices(rows.iter().map(|row| elements.range(*row).start + at)))
}

fn indices(of: impl IntoIterator<Item = usize>) -> UInt64Array {
    UInt64Array::from_iter_values(of.into_iter().map(|at| at as u64))
}

/// As `to`; what does not fit is an error.
fn converted(values: &ArrayRef, to: &DataType) -> Result<ArrayRef> {
    let options = CastOptions { safe: false, ..CastOptions::default() };
    Ok(cast_with_options(values.as_ref(), to, &options)?)
}
