//! Vectors as text, whole for programs and short for people.
//!
//! Owns: which components a short form shows. Does not own: the digits of a component (`cairn_vector::text`).

use cairn_vector::text::format;
use datafusion::arrow::array::{Array, AsArray, FixedSizeListArray};
use datafusion::arrow::datatypes::Float32Type;

/// A vector of at most this many dimensions is short as it is.
const SHORT_DIM_MAX: usize = 8;
/// Components a short form begins with.
const COMPONENTS_SHOWN: usize = 4;

/// The vector at `row` as text that reads back to the same bits; None where it is NULL.
#[must_use]
pub fn text_at(array: &FixedSizeListArray, row: usize) -> Option<String> {
    components(array, row).map(format)
}

/// Every vector of `array` as [`text_at`].
pub fn text_of(array: &FixedSizeListArray) -> impl Iterator<Item = Option<String>> + '_ {
    (0..array.len()).map(|row| text_at(array, row))
}

/// The vector at `row` for people: `[0.1,0.2,0.3,0.4, … 384 dimensions]`; None where it is NULL.
#[must_use]
pub fn short_text_at(array: &FixedSizeListArray, row: usize) -> Option<String> {
    let vector = components(array, row)?;
    if vector.len() <= SHORT_DIM_MAX {
        return Some(format(vector));
    }
    let shown = format(&vector[..COMPONENTS_SHOWN]);
    Some(format!("{}, … {} dimensions]", shown.trim_end_matches(']'), vector.len()))
}

/// Whether every list that is not NULL has all its components, as vectors have; under a NULL there may be anything.
#[must_use]
pub fn is_whole(array: &FixedSizeListArray) -> bool {
    let (values, dim) = (array.values(), usize::try_from(array.value_length()).unwrap_or(0));
    values.null_count() == 0
        || (0..array.len()).all(|row| array.is_null(row) || values.slice(row * dim, dim).null_count() == 0)
}

fn components(array: &FixedSizeListArray, row: usize) -> Option<&[f32]> {
    let dim = usize::try_from(array.value_length()).unwrap_or(0);
    let all = array.values().as_primitive_opt::<Float32Type>()?.values();
    array.is_valid(row).then(|| all.get(row * dim..(row + 1) * dim)).flatten()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn short_forms_tell_the_dimension() {
        let vectors = |dim: i32| {
            let values = (0..dim).map(|i| Some(i as f32 / 2.0)).collect();
            FixedSizeListArray::from_iter_primitive::<Float32Type, Vec<_>, _>(vec![Some(values), None], dim)
        };
        assert_eq!(short_text_at(&vectors(3), 0).as_deref(), Some("[0,0.5,1]"));
        assert_eq!(short_text_at(&vectors(384), 0).as_deref(), Some("[0,0.5,1,1.5, … 384 dimensions]"));
        assert_eq!(short_text_at(&vectors(384), 1), None);
        assert!(vectors(3).values().null_count() > 0 && is_whole(&vectors(3)));
    }
}
