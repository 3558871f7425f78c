//! From what SQL, files and parameters give to vectors.
//!
//! Owns: which Arrow arrays hold vectors, the one conversion of all of them, the first value that is none and why. Does
//! not own: the grammar of text (`cairn_vector::text`), the name of a column (engine).

use std::fmt;
use std::ops::Range;
use std::sync::Arc;

use cairn_vector::metric::DIM_MAX;
use cairn_vector::text::{self, ParseError};
use datafusion::arrow::array::{
    Array, ArrayRef, AsArray, FixedSizeListArray, Float32Array, StringViewArray, new_null_array,
};
use datafusion::arrow::buffer::NullBuffer;
use datafusion::arrow::compute::cast;
use datafusion::arrow::datatypes::{DataType, Float32Type};
use datafusion::arrow::util::display::array_value_to_string;
use datafusion::error::DataFusionError;

use super::{component_field, vector_type};

/// The first value of an array that is no vector.
#[derive(Clone, Debug, PartialEq)]
pub struct BadVector {
    /// Its row, from 0.
    pub row: usize,
    /// What is wrong with it.
    pub why: Why,
}

/// Why a value is no vector. Components count from 1, as SQL's arrays do.
#[derive(Clone, Debug, PartialEq)]
pub enum Why {
    /// Values of this type never are.
    Type(DataType),
    /// Text that does not read as one.
    Text(String, ParseError),
    /// Another number of components.
    Dimension {
        /// What was wanted.
        expected: usize,
        /// What it has.
        found: usize,
    },
    /// No components, or more than a vector may have.
    Limit(usize),
    /// A component that is NULL.
    Null(usize),
    /// A component that is NaN, infinite or out of the range of REAL, as text.
    Component(usize, String),
}

impl Why {
    /// SQLSTATE of the error.
    #[must_use]
    pub fn sqlstate(&self) -> &'static str {
        match self {
            Why::Type(_) => "42804",
            Why::Text(..) => "22P02",
            Why::Null(_) => "22004",
            Why::Dimension { .. } | Why::Limit(_) | Why::Component(..) => "22000",
        }
    }
}

impl fmt::Display for Why {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Why::Type(data_type) => write!(f, "a value of type {data_type} is no vector"),
            Why::Text(text, error) => write!(f, "\"{text}\" is no vector: {error}"),
            Why::Dimension { expected, found } => write!(f, "expected {expected} dimensions, not {found}"),
            Why::Limit(found) => write!(f, "a vector has 1 to {DIM_MAX} dimensions, not {found}"),
            Why::Null(position) => write!(f, "component {position} of the vector is NULL"),
            Why::Component(position, value) => {
                let problem = if value.parse::<f64>().is_ok_and(f64::is_finite) {
                    "out of the range of REAL"
                } else {
                    "not finite"
                };
                write!(f, "component {position} of the vector is {value}, which is {problem}")
            }
        }
    }
}

/// A vector that a function or a cast cannot take.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InvalidVector {
    /// SQLSTATE.
    pub sqlstate: &'static str,
    /// What is wrong.
    pub message: String,
}

impl fmt::Display for InvalidVector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for InvalidVector {}

impl InvalidVector {
    /// As the error of a function.
    pub(super) fn error(sqlstate: &'static str, message: String) -> DataFusionError {
        DataFusionError::External(Box::new(Self { sqlstate, message }))
    }
}

impl From<BadVector> for DataFusionError {
    fn from(bad: BadVector) -> Self {
        InvalidVector::error(bad.why.sqlstate(), bad.why.to_string())
    }
}

/// Whether values of the type can be vectors.
pub(super) fn is_source(data_type: &DataType) -> bool {
    match data_type {
        DataType::Null | DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View => true,
        DataType::Dictionary(_, values) => is_source(values),
        DataType::List(item) | DataType::LargeList(item) | DataType::FixedSizeList(item, _) => {
            item.data_type().is_numeric() || *item.data_type() == DataType::Null
        }
        _ => false,
    }
}

/// `array` as vectors of `dim` dimensions, or of as many as its first one has: text `[1,2,3]`, and lists of numbers.
/// Every value is NULL or has finite components. A vector array without a bad value is handed back as it is.
///
/// # Errors
/// The first value that is no such vector.
pub fn vectors(array: &ArrayRef, dim: Option<usize>) -> Result<ArrayRef, BadVector> {
    let refuse = |data_type: &DataType| BadVector { row: 0, why: Why::Type(data_type.clone()) };
    match array.data_type() {
        other if !is_source(other) => Err(refuse(other)),
        DataType::Null => Ok(new_null_array(&vector_type(dim.unwrap_or(1)), array.len())),
        DataType::Dictionary(_, values) => vectors(&cast(array, values).map_err(|_| refuse(values))?, dim),
        DataType::FixedSizeList(..) | DataType::List(_) | DataType::LargeList(_) => {
            Lists::new(array)?.vectors(dim)
        }
        _ => {
            let text = cast(array, &DataType::Utf8View).map_err(|_| refuse(array.data_type()))?;
            from_text(text.as_string_view(), dim)
        }
    }
}

/// The vector in `text`, of `dim` dimensions when that is given.
///
/// # Errors
/// Why it is none.
pub fn parse(text: &str, dim: Option<usize>) -> Result<Vec<f32>, Why> {
    let vector = text::parse(text).map_err(|error| not_parsed(text, error))?;
    match dim {
        Some(expected) if expected != vector.len() => Err(Why::Dimension { expected, found: vector.len() }),
        _ => Ok(vector),
    }
}

fn from_text(array: &StringViewArray, dim: Option<usize>) -> Result<ArrayRef, BadVector> {
    let mut dim = dim;
    let mut components: Vec<f32> = Vec::with_capacity(array.len() * dim.unwrap_or(0));
    for (row, text) in array.iter().enumerate() {
        match text {
            Some(text) => {
                let vector = parse(text, dim).map_err(|why| BadVector { row, why })?;
                dim.get_or_insert_with(|| {
                    components.resize(row * vector.len(), 0.0);
                    vector.len()
                });
                components.extend(vector);
            }
            None => components.resize((row + 1) * dim.unwrap_or(0), 0.0),
        }
    }
    Ok(assemble(components, dim, array.nulls().cloned(), array.len()))
}

/// Words for what no component may be are named as in lists.
fn not_parsed(text: &str, error: ParseError) -> Why {
    let before: String = text.chars().take(error.position - 1).collect();
    let word: String = text.chars().skip(error.position - 1).take_while(|c| !",] ".contains(*c)).collect();
    let position = before.matches(',').count() + 1;
    match word.trim_start_matches(['-', '+']).to_ascii_lowercase().as_str() {
        "null" => return Why::Null(position),
        "nan" | "inf" | "infinity" => return Why::Component(position, word),
        _ => {}
    }
    Why::Text(cut(text), error)
}

/// At most 60 characters of `text`.
pub(super) fn cut(text: &str) -> String {
    match text.char_indices().nth(60) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text.to_owned(),
    }
}

fn assemble(components: Vec<f32>, dim: Option<usize>, nulls: Option<NullBuffer>, rows: usize) -> ArrayRef {
    let Some(dim) = dim else {
        return new_null_array(&vector_type(1), rows);
    };
    list(Arc::new(Float32Array::from(components)), dim, nulls)
}

/// `components`, which are REAL, as vectors of `dim` dimensions.
///
/// # Panics
/// When there are not as many components as `nulls` needs, or they are of another type.
#[must_use]
pub fn list(components: ArrayRef, dim: usize, nulls: Option<NullBuffer>) -> ArrayRef {
    let size = i32::try_from(dim).unwrap_or(i32::MAX);
    Arc::new(FixedSizeListArray::new(component_field(), size, components, nulls))
}

/// Lists of numbers of any kind.
struct Lists<'a> {
    array: &'a ArrayRef,
    /// All components as given …
    given: ArrayRef,
    /// … and as f32.
    values: Float32Array,
    bounds: Bounds<'a>,
    /// Where they begin in the array's components.
    first: usize,
}

fn at(offset: i64) -> usize {
    usize::try_from(offset).unwrap_or(0)
}

enum Bounds<'a> {
    Fixed(usize),
    Small(&'a [i32]),
    Large(&'a [i64]),
}

impl<'a> Lists<'a> {
    fn new(array: &'a ArrayRef) -> Result<Self, BadVector> {
        let (given, bounds) = match array.data_type() {
            DataType::FixedSizeList(_, size) => {
                (array.as_fixed_size_list().values(), Bounds::Fixed(usize::try_from(*size).unwrap_or(0)))
            }
            DataType::LargeList(_) => {
                (array.as_list::<i64>().values(), Bounds::Large(array.as_list::<i64>().value_offsets()))
            }
            _ => (array.as_list::<i32>().values(), Bounds::Small(array.as_list::<i32>().value_offsets())),
        };
        // A slice of lists has the components of all: only its own are looked at.
        let (first, end) = match bounds {
            Bounds::Fixed(_) => (0, given.len()),
            Bounds::Small(offsets) => (at(offsets[0].into()), at(offsets[array.len()].into())),
            Bounds::Large(offsets) => (at(offsets[0]), at(offsets[array.len()])),
        };
        let given = given.slice(first, end - first);
        let values = cast(&given, &DataType::Float32)
            .map_err(|_| BadVector { row: 0, why: Why::Type(array.data_type().clone()) })?;
        Ok(Self { array, given, first, values: values.as_primitive::<Float32Type>().clone(), bounds })
    }

    fn range(&self, row: usize) -> Range<usize> {
        let own = |offset: i64| at(offset) - self.first;
        match self.bounds {
            Bounds::Fixed(size) => row * size..(row + 1) * size,
            Bounds::Small(offsets) => own(offsets[row].into())..own(offsets[row + 1].into()),
            Bounds::Large(offsets) => own(offsets[row])..own(offsets[row + 1]),
        }
    }

    fn vectors(&self, dim: Option<usize>) -> Result<ArrayRef, BadVector> {
        let rows = self.array.len();
        let valid = |row: &usize| self.array.is_valid(*row);
        let Some(first) = (0..rows).find(valid) else {
            return Ok(new_null_array(&vector_type(dim.unwrap_or(1)), rows));
        };
        let expected = dim.unwrap_or_else(|| self.range(first).len());
        if !(1..=DIM_MAX).contains(&expected) {
            return Err(BadVector { row: first, why: Why::Limit(expected) });
        }
        let clean = self.values.null_count() == 0 && self.values.values().iter().all(|c| c.is_finite());
        let start = self.range(0).start;
        let mut dense = true;
        for row in 0..rows {
            let range = self.range(row);
            dense &= range == (start + row * expected..start + (row + 1) * expected);
            if self.array.is_valid(row) {
                self.check(row, range, expected, clean)?;
            }
        }
        if dense && self.array.data_type() == &vector_type(expected) && self.values.null_count() == 0 {
            return Ok(Arc::clone(self.array));
        }
        let nulls = self.array.nulls().cloned();
        if dense && self.values.null_count() == 0 {
            return Ok(list(Arc::new(self.values.slice(start, rows * expected)), expected, nulls));
        }
        let mut components = vec![0.0; rows * expected];
        for row in (0..rows).filter(valid) {
            components[row * expected..][..expected].copy_from_slice(&self.values.values()[self.range(row)]);
        }
        Ok(assemble(components, Some(expected), nulls, rows))
    }

    fn check(&self, row: usize, range: Range<usize>, expected: usize, clean: bool) -> Result<(), BadVector> {
        let bad = |why| Err(BadVector { row, why });
        if range.len() != expected {
            return bad(Why::Dimension { expected, found: range.len() });
        }
        if clean {
            return Ok(());
        }
        for (at, position) in range.zip(1..) {
            if self.given.is_null(at) {
                return bad(Why::Null(position));
            }
            if self.values.is_null(at) || !self.values.value(at).is_finite() {
                let value = array_value_to_string(&self.given, at).unwrap_or_default();
                return bad(Why::Component(position, value));
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use datafusion::arrow::array::{LargeListArray, ListArray, StringArray};
    use datafusion::arrow::datatypes::{Float64Type, Int64Type};

    use super::*;

    use super::super::text_of;

    fn shown(array: &ArrayRef) -> Vec<Option<String>> {
        text_of(array.as_fixed_size_list()).collect()
    }

    fn doubles(rows: Vec<Option<Vec<Option<f64>>>>) -> ArrayRef {
        Arc::new(ListArray::from_iter_primitive::<Float64Type, _, _>(rows))
    }

    fn why(array: &ArrayRef, dim: usize) -> (usize, String) {
        let bad = vectors(array, Some(dim)).unwrap_err();
        (bad.row, bad.why.to_string())
    }

    #[test]
    fn every_source_gives_the_same_vectors() {
        let wanted = vec![Some("[1,2]".to_owned()), None, Some("[3,4]".to_owned())];
        let text: ArrayRef = Arc::new(StringArray::from(vec![Some("[1, 2]"), None, Some("[3,4e0]")]));
        fn two<T>(a: T, b: T) -> Option<Vec<Option<T>>> {
            Some(vec![Some(a), Some(b)])
        }
        let integers: ArrayRef = Arc::new(LargeListArray::from_iter_primitive::<Int64Type, _, _>(vec![
            two(1, 2),
            None,
            two(3, 4),
        ]));
        let fixed: ArrayRef = Arc::new(FixedSizeListArray::from_iter_primitive::<Float64Type, _, _>(
            vec![two(1.0, 2.0), None, two(3.0, 4.0)],
            2,
        ));
        let lists = doubles(vec![two(1.0, 2.0), None, two(3.0, 4.0)]);
        for array in [text, integers, fixed, lists] {
            for dim in [Some(2), None] {
                let got = vectors(&array, dim).unwrap();
                assert_eq!(got.data_type(), &vector_type(2));
                assert_eq!(shown(&got), wanted);
                // Slices, and vectors once more.
                assert_eq!(shown(&vectors(&array.slice(1, 2), dim).unwrap()), wanted[1..]);
                assert_eq!(shown(&vectors(&got.slice(1, 2), dim).unwrap()), wanted[1..]);
            }
        }
    }

    #[test]
    fn dense_lists_are_not_copied() {
        let lists: ArrayRef = Arc::new(ListArray::from_iter_primitive::<Float32Type, _, _>(vec![
            Some(vec![Some(1.0), Some(2.0)]),
            Some(vec![Some(3.0), Some(4.0)]),
        ]));
        let got = vectors(&lists, Some(2)).unwrap();
        let place = |values: &ArrayRef| values.as_primitive::<Float32Type>().values().as_ptr();
        assert_eq!(place(got.as_fixed_size_list().values()), place(lists.as_list::<i32>().values()));
    }

    #[test]
    fn the_first_bad_value_is_named() {
        let good = Some(vec![Some(1.0), Some(2.0)]);
        let bad = |components: Vec<Option<f64>>| doubles(vec![good.clone(), None, Some(components)]);
        assert_eq!(why(&bad(vec![Some(1.0)]), 2), (2, "expected 2 dimensions, not 1".into()));
        assert_eq!(why(&bad(vec![Some(1.0), None]), 2), (2, "component 2 of the vector is NULL".into()));
        for (value, text) in [
            (f64::NAN, "component 1 of the vector is NaN, which is not finite"),
            (f64::NEG_INFINITY, "component 1 of the vector is -inf, which is not finite"),
            (1e39, "component 1 of the vector is 1e39, which is out of the range of REAL"),
        ] {
            assert_eq!(why(&bad(vec![Some(value), Some(0.0)]), 2), (2, text.to_owned()));
        }
        let text: ArrayRef = Arc::new(StringArray::from(vec![Some("[1,2]"), Some("[1,x]")]));
        assert_eq!(why(&text, 2), (1, "\"[1,x]\" is no vector: expected a number at character 4".into()));
        assert!(matches!(vectors(&doubles(vec![Some(vec![])]), None).unwrap_err().why, Why::Limit(0)));
    }

    #[test]
    fn nulls_hide_what_lies_under_them() {
        let nan = Float32Array::from(vec![1.0, 2.0, f32::NAN, 0.0]);
        let array = list(Arc::new(nan), 2, Some(NullBuffer::from(vec![true, false])));
        assert_eq!(shown(&vectors(&array, Some(2)).unwrap()), [Some("[1,2]".to_owned()), None]);
    }
}
