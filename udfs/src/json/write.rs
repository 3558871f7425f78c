//! Values of SQL as JSON.
//!
//! Owns: how each Arrow type is spelled: numbers and booleans as such, NaN and infinities as null, lists as arrays, structs and maps as
//! objects, everything else as a string of its text. Does not own: the spelling of results for programs (engine).

use std::fmt::Write as _;

use datafusion::arrow::array::{
    Array, ArrayRef, AsArray, BooleanArray, Float64Array, OffsetSizeTrait, StringViewArray,
};
use datafusion::arrow::buffer::NullBuffer;
use datafusion::arrow::compute::cast;
use datafusion::arrow::datatypes::{DataType, FieldRef, Float64Type};
use datafusion::arrow::util::display::{ArrayFormatter, FormatOptions};
use datafusion::common::Result;

use crate::function::{invalid, is_text};

/// Writes the values of one array. `new` borrows what it can; texts and numbers are looked at in one form.
pub(crate) struct Writer<'a> {
    nulls: Option<NullBuffer>,
    of: Of<'a>,
}

enum Of<'a> {
    Null,
    Boolean(&'a BooleanArray),
    Float(Float64Array),
    Text(StringViewArray),
    /// Whatever has a text that is a number of JSON, or, with quotes, any other.
    Shown(ArrayFormatter<'a>, bool),
    List(Vec<usize>, Box<Writer<'a>>),
    Struct(Vec<(String, Writer<'a>)>),
    Map(Vec<usize>, Box<Writer<'a>>, Box<Writer<'a>>),
}

impl<'a> Writer<'a> {
    /// For the values of `array`.
    ///
    /// # Errors
    /// When values of its type have no text.
    pub(crate) fn new(array: &'a ArrayRef) -> Result<Self> {
        const OPTIONS: FormatOptions<'static> = FormatOptions::new();
        let shown = |quoted| -> Result<Of<'a>> {
            Ok(Of::Shown(ArrayFormatter::try_new(array.as_ref(), &OPTIONS)?, quoted))
        };
        let of = match array.data_type() {
            DataType::Null => Of::Null,
            DataType::Boolean => Of::Boolean(array.as_boolean()),
            DataType::Float16 | DataType::Float32 | DataType::Float64 => {
                Of::Float(cast(array, &DataType::Float64)?.as_primitive::<Float64Type>().clone())
            }
            of if of.is_numeric() => shown(false)?,
            of if is_text(of) => Of::Text(cast(array, &DataType::Utf8View)?.as_string_view().clone()),
            DataType::List(_) => lists::<i32>(array)?,
            DataType::LargeList(_) => lists::<i64>(array)?,
            DataType::FixedSizeList(_, size) => {
                let list = array.as_fixed_size_list();
                let size = usize::try_from(*size).unwrap_or(0);
                let offsets = (0..=list.len()).map(|row| row * size).collect();
                Of::List(offsets, Box::new(Self::new(list.values())?))
            }
            DataType::Struct(fields) => {
                let columns = array.as_struct().columns();
                let members = fields.iter().zip(columns);
                let member = |(field, column): (&FieldRef, &'a ArrayRef)| -> Result<(String, Self)> {
                    let mut key = String::new();
                    text(field.name(), &mut key);
                    Ok((key, Self::new(column)?))
                };
                Of::Struct(members.map(member).collect::<Result<_>>()?)
            }
            DataType::Map(..) => {
                let map = array.as_map();
                let offsets =
                    map.value_offsets().iter().map(|at| usize::try_from(*at).unwrap_or(0)).collect();
                Of::Map(offsets, Box::new(Self::new(map.keys())?), Box::new(Self::new(map.values())?))
            }
            _ => shown(true)?,
        };
        Ok(Self { nulls: array.logical_nulls(), of })
    }

    /// The value at `row` behind `out`. `limit` is how many bytes `out` may have.
    ///
    /// # Errors
    /// When it would have more.
    pub(crate) fn write(&self, row: usize, out: &mut String, limit: u64) -> Result<()> {
        if out.len() as u64 > limit {
            let message = format!("a value of JSON would have more than {limit} bytes");
            return Err(crate::bounded::TooLarge::error(message));
        }
        if self.nulls.as_ref().is_some_and(|nulls| nulls.is_null(row)) {
            out.push_str("null");
            return Ok(());
        }
        match &self.of {
            Of::Null => out.push_str("null"),
            Of::Boolean(values) => out.push_str(if values.value(row) { "true" } else { "false" }),
            Of::Float(values) => float(values.value(row), out),
            Of::Text(values) => text(values.value(row), out),
            Of::Shown(values, false) => {
                write!(out, "{}", values.value(row)).map_err(|_| unshown())?;
            }
            Of::Shown(values, true) => {
                let value = values.value(row).try_to_string().map_err(|_| unshown())?;
                text(&value, out);
            }
            Of::List(offsets, values) => {
                out.push('[');
                let range = range(offsets, row);
                let first = range.start;
                for at in range {
                    if at > first {
                        out.push(',');
                    }
                    values.write(at, out, limit)?;
                }
                out.push(']');
            }
            Of::Struct(members) => {
                out.push('{');
                for (at, (key, values)) in members.iter().enumerate() {
                    if at > 0 {
                        out.push(',');
                    }
                    out.push_str(key);
                    out.push(':');
                    values.write(row, out, limit)?;
                }
                out.push('}');
            }
            Of::Map(offsets, keys, values) => {
                out.push('{');
                let range = range(offsets, row);
                let first = range.start;
                for at in range {
                    if at > first {
                        out.push(',');
                    }
                    keys.write_key(at, out, limit)?;
                    out.push(':');
                    values.write(at, out, limit)?;
                }
                out.push('}');
            }
        }
        Ok(())
    }

    /// The value at `row` as a key of an object: a string of its text.
    ///
    /// # Errors
    /// As of [`write`](Self::write).
    pub(crate) fn write_key(&self, row: usize, out: &mut String, limit: u64) -> Result<()> {
        if matches!(self.of, Of::Text(_) | Of::Shown(_, true)) {
            return self.write(row, out, limit);
        }
        let mut key = String::new();
        self.write(row, &mut key, limit)?;
        text(&key, out);
        Ok(())
    }

    /// Whether the value at `row` is NULL.
    pub(crate) fn is_null(&self, row: usize) -> bool {
        matches!(self.of, Of::Null) || self.nulls.as_ref().is_some_and(|nulls| nulls.is_null(row))
    }
}

fn unshown() -> datafusion::error::DataFusionError {
    invalid("22000", "a value has no text that JSON could have")
}

fn range(offsets: &[usize], row: usize) -> std::ops::Range<usize> {
    match (offsets.get(row), offsets.get(row + 1)) {
        (Some(from), Some(to)) => *from..*to,
        _ => 0..0,
    }
}

fn lists<O: OffsetSizeTrait>(array: &ArrayRef) -> Result<Of<'_>> {
    let list = array.as_list::<O>();
    let offsets = list.value_offsets().iter().map(|at| at.as_usize()).collect();
    Ok(Of::List(offsets, Box::new(Writer::new(list.values())?)))
}

/// A number as JSON has it: null where it has none.
fn float(value: f64, out: &mut String) {
    match serde_json::Number::from_f64(value) {
        Some(number) => {
            // A text takes whatever is written.
            let _ = write!(out, "{number}");
        }
        None => out.push_str("null"),
    }
}

/// A string of JSON behind `out`.
pub(super) fn text(value: &str, out: &mut String) {
    out.push('"');
    let mut plain = 0;
    for (at, byte) in value.bytes().enumerate() {
        let escape = match byte {
            b'"' => "\\\"",
            b'\\' => "\\\\",
            b'\n' => "\\n",
            b'\r' => "\\r",
            b'\t' => "\\t",
            0x08 => "\\b",
            0x0c => "\\f",
            0..0x20 => "",
            _ => continue,
        };
        out.push_str(&value[plain..at]);
        out.push_str(escape);
        if escape.is_empty() {
            let _ = write!(out, "\\u{byte:04x}");
        }
        plain = at + 1;
    }
    out.push_str(&value[plain..]);
    out.push('"');
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::sync::Arc;

    use datafusion::arrow::array::{Decimal128Array, Int64Array, ListArray, StringArray, StructArray};
    use datafusion::arrow::datatypes::{Field, Int32Type};

    use super::*;

    fn written(array: ArrayRef, row: usize) -> String {
        let mut out = String::new();
        Writer::new(&array).unwrap().write(row, &mut out, 1_000).unwrap();
        out
    }

    #[test]
    fn values_are_json() {
        let floats: ArrayRef = Arc::new(Float64Array::from(vec![1.5, f64::NAN, -0.25]));
        assert_eq!([0, 1, 2].map(|row| written(Arc::clone(&floats), row)), ["1.5", "null", "-0.25"]);
        let decimals = Decimal128Array::from(vec![125]).with_precision_and_scale(5, 2).unwrap();
        assert_eq!(written(Arc::new(decimals), 0), "1.25");
        let texts: ArrayRef = Arc::new(StringArray::from(vec![Some("a\"\\\n\u{1}→"), None]));
        assert_eq!(written(Arc::clone(&texts), 0), "\"a\\\"\\\\\\n\\u0001→\"");
        assert_eq!(written(texts, 1), "null");
        let lists = ListArray::from_iter_primitive::<Int32Type, _, _>([None, Some(vec![Some(1), None])]);
        let lists: ArrayRef = Arc::new(lists);
        assert_eq!(written(lists.slice(1, 1), 0), "[1,null]");
        let member = (Arc::new(Field::new("l", lists.data_type().clone(), true)), Arc::clone(&lists));
        let number: ArrayRef = Arc::new(Int64Array::from(vec![7, 8]));
        let members =
            StructArray::from(vec![member, (Arc::new(Field::new("n", DataType::Int64, true)), number)]);
        assert_eq!(written(Arc::new(members), 1), "{\"l\":[1,null],\"n\":8}");
    }

    #[test]
    fn there_is_a_limit() {
        let texts: ArrayRef = Arc::new(StringArray::from(vec!["0123456789"]));
        let writer = Writer::new(&texts).unwrap();
        let mut out = "x".repeat(11);
        assert!(writer.write(0, &mut out, 10).is_err());
    }
}
