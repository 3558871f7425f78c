//! JSON: one array of objects, one object a line, or one array a row.
//!
//! Integers and decimals are numbers with all their digits; NaN and the infinities, which JSON has no number for, are
//! strings; binary is hex; times are ISO 8601 strings; lists and structs are arrays and objects.

use std::collections::{HashMap, HashSet};
use std::io::{self, Write};

use datafusion::arrow::array::{Array, ArrayRef, AsArray, RecordBatch};
use datafusion::arrow::buffer::NullBuffer;
use datafusion::arrow::compute::cast;
use datafusion::arrow::datatypes::{DataType, Fields, SchemaRef};
use datafusion::arrow::util::display::ArrayFormatter;

use super::{RowWriter, value};

/// Writes rows.
pub struct JsonWriter {
    /// Each column's name as a JSON string; a repeated name gets a number, since objects hold a name once.
    names: Vec<String>,
    form: Form,
    numbers: Numbers,
    rows: u64,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Form {
    /// One array of objects.
    Array,
    /// One object a line.
    Lines,
    /// An array for each row, commas between them.
    Rows,
}

/// How numbers are written that a reader of JSON may hold in 64-bit floats: BIGINT, BIGINT UNSIGNED and DECIMAL.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Numbers {
    /// As numbers with all their digits.
    #[default]
    Digits,
    /// As strings.
    Quoted,
}

impl JsonWriter {
    /// One array of objects.
    #[must_use]
    pub fn array(schema: &SchemaRef) -> Self {
        Self::new(schema, Form::Array)
    }

    /// One object a line.
    #[must_use]
    pub fn lines(schema: &SchemaRef) -> Self {
        Self::new(schema, Form::Lines)
    }

    /// For each row an array of its values, with commas and line ends between rows: the inside of an array.
    #[must_use]
    pub fn rows(schema: &SchemaRef) -> Self {
        Self::new(schema, Form::Rows)
    }

    /// Writes long numbers as `numbers` says.
    #[must_use]
    pub fn with_numbers(self, numbers: Numbers) -> Self {
        Self { numbers, ..self }
    }

    fn new(schema: &SchemaRef, form: Form) -> Self {
        let names = object_names(schema.fields()).iter().map(|name| string(name)).collect();
        Self { names, form, numbers: Numbers::default(), rows: 0 }
    }
}

impl RowWriter for JsonWriter {
    fn batch(&mut self, batch: &RecordBatch, out: &mut dyn Write) -> io::Result<()> {
        let arrays = batch.columns().iter().map(plain).collect::<io::Result<Vec<_>>>()?;
        let values = arrays.iter().map(|a| Value::of(a, self.numbers)).collect::<io::Result<Vec<_>>>()?;
        let (open, close) = if self.form == Form::Rows { ('[', ']') } else { ('{', '}') };
        let mut line = String::new();
        for row in 0..batch.num_rows() {
            line.clear();
            line.push_str(match (self.form, self.rows) {
                (Form::Array, 0) => "[",
                (Form::Array, _) => ",\n ",
                (Form::Rows, 1..) => ",\n",
                (Form::Rows, 0) | (Form::Lines, _) => "",
            });
            self.rows += 1;
            line.push(open);
            for (i, (name, value)) in self.names.iter().zip(&values).enumerate() {
                if i > 0 {
                    line.push(',');
                }
                if self.form != Form::Rows {
                    line.push_str(name);
                    line.push(':');
                }
                value.write(row, &mut line)?;
            }
            line.push(close);
            if self.form == Form::Lines {
                line.push('\n');
            }
            out.write_all(line.as_bytes())?;
        }
        Ok(())
    }

    fn finish(&mut self, out: &mut dyn Write) -> io::Result<()> {
        match (self.form, self.rows) {
            (Form::Lines | Form::Rows, _) => Ok(()),
            (Form::Array, 0) => out.write_all(b"[]\n"),
            (Form::Array, _) => out.write_all(b"]\n"),
        }
    }
}

/// A name for each of `fields` that no other has: a repeated one gets the next number behind it that makes a name nobody has.
pub(crate) fn object_names(fields: &Fields) -> Vec<String> {
    let mut taken: HashSet<String> = fields.iter().map(|field| field.name().clone()).collect();
    let mut counts: HashMap<&str, u64> = HashMap::new();
    let mut names = Vec::with_capacity(fields.len());
    for field in fields.iter() {
        let count = counts.entry(field.name()).or_default();
        *count += 1;
        let mut name = field.name().clone();
        while *count > 1 {
            name = format!("{}_{count}", field.name());
            if taken.insert(name.clone()) {
                break;
            }
            *count += 1;
        }
        names.push(name);
    }
    names
}

fn string(text: &str) -> String {
    serde_json::Value::from(text).to_string()
}

/// `array` without dictionaries or list forms that need code of their own.
fn plain(array: &ArrayRef) -> io::Result<ArrayRef> {
    let as_type = |data_type: &DataType| cast(array, data_type).map_err(value::failed);
    match array.data_type() {
        DataType::Dictionary(_, values) => plain(&as_type(values)?),
        DataType::RunEndEncoded(_, values) => plain(&as_type(values.data_type())?),
        DataType::FixedSizeList(item, _) | DataType::LargeList(item) => {
            as_type(&DataType::List(item.clone()))
        }
        _ => Ok(array.clone()),
    }
}

/// One array, ready to be written value by value.
struct Value<'a> {
    nulls: Option<NullBuffer>,
    shape: Shape<'a>,
}

enum Shape<'a> {
    /// Digits as they are.
    Number(ArrayFormatter<'a>),
    /// Anything else that is one value.
    String(ArrayFormatter<'a>),
    /// Offsets into the items.
    List(&'a [i32], Box<Value<'a>>),
    /// Names as JSON strings, and their values.
    Struct(Vec<(String, Value<'a>)>),
    /// Offsets into keys and values.
    Map(&'a [i32], ArrayFormatter<'a>, Box<Value<'a>>),
}

impl<'a> Value<'a> {
    fn of(array: &'a ArrayRef, numbers: Numbers) -> io::Result<Self> {
        let shape = match array.data_type() {
            DataType::Boolean => Shape::Number(value::exact_array(array)?),
            data_type if data_type.is_numeric() && !(numbers == Numbers::Quoted && is_long(data_type)) => {
                Shape::Number(value::exact_array(array)?)
            }
            DataType::List(_) => {
                let list = array.as_list::<i32>();
                Shape::List(list.value_offsets(), Box::new(Self::of(list.values(), numbers)?))
            }
            DataType::Map(_, _) => {
                let map = array.as_map();
                let keys = value::exact_array(map.keys())?;
                Shape::Map(map.value_offsets(), keys, Box::new(Self::of(map.values(), numbers)?))
            }
            DataType::Struct(fields) => {
                let members = object_names(fields).into_iter().zip(array.as_struct().columns());
                Shape::Struct(
                    members
                        .map(|(name, a)| Ok((string(&name), Self::of(a, numbers)?)))
                        .collect::<io::Result<_>>()?,
                )
            }
            _ => Shape::String(value::exact_array(array)?),
        };
        Ok(Self { nulls: array.logical_nulls(), shape })
    }

    fn write(&self, row: usize, line: &mut String) -> io::Result<()> {
        if self.nulls.as_ref().is_some_and(|nulls| nulls.is_null(row)) {
            line.push_str("null");
            return Ok(());
        }
        match &self.shape {
            Shape::Number(text) => {
                let text = text.value(row).try_to_string().map_err(value::failed)?;
                match text.as_str() {
                    "inf" => line.push_str("\"Infinity\""),
                    "-inf" => line.push_str("\"-Infinity\""),
                    "NaN" => line.push_str("\"NaN\""),
                    _ => line.push_str(&text),
                }
            }
            Shape::String(text) => {
                line.push_str(&string(&text.value(row).try_to_string().map_err(value::failed)?))
            }
            Shape::List(offsets, items) => {
                line.push('[');
                for (i, item) in span(offsets, row).enumerate() {
                    if i > 0 {
                        line.push(',');
                    }
                    items.write(item, line)?;
                }
                line.push(']');
            }
            Shape::Struct(members) => {
                line.push('{');
                for (i, (name, value)) in members.iter().enumerate() {
                    if i > 0 {
                        line.push(',');
                    }
                    line.push_str(name);
                    line.push(':');
                    value.write(row, line)?;
                }
                line.push('}');
            }
            Shape::Map(offsets, keys, values) => {
                line.push('{');
                for (i, item) in span(offsets, row).enumerate() {
                    if i > 0 {
                        line.push(',');
                    }
                    line.push_str(&string(&keys.value(item).try_to_string().map_err(value::failed)?));
                    line.push(':');
                    values.write(item, line)?;
                }
                line.push('}');
            }
        }
        Ok(())
    }
}

fn is_long(data_type: &DataType) -> bool {
    matches!(
        data_type,
        DataType::Int64
            | DataType::UInt64
            | DataType::Decimal32(..)
            | DataType::Decimal64(..)
            | DataType::Decimal128(..)
            | DataType::Decimal256(..)
    )
}

fn span(offsets: &[i32], row: usize) -> std::ops::Range<usize> {
    // Arrow's offsets never are negative.
    offsets[row].unsigned_abs() as usize..offsets[row + 1].unsigned_abs() as usize
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use std::sync::Arc;

    use datafusion::arrow::array::{FixedSizeListArray, Float32Array, Int64Array, StringDictionaryBuilder};
    use datafusion::arrow::datatypes::{Field, Float32Type, Int32Type, Schema};

    use super::*;

    fn lines(batch: &RecordBatch) -> String {
        let mut out = Vec::new();
        JsonWriter::lines(&batch.schema()).batch(batch, &mut out).unwrap();
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn repeated_names_are_numbered() {
        let written = |names: &[&str]| {
            let fields = names.iter().map(|name| Field::new(*name, DataType::Int64, false));
            let columns =
                (1_i64..).take(names.len()).map(|i| Arc::new(Int64Array::from(vec![i])) as ArrayRef);
            let schema = Arc::new(Schema::new(fields.collect::<Vec<_>>()));
            lines(&RecordBatch::try_new(schema, columns.collect()).unwrap())
        };
        assert_eq!(written(&["a", "a"]), "{\"a\":1,\"a_2\":2}\n");
        assert_eq!(written(&["a", "a", "a_2"]), "{\"a\":1,\"a_3\":2,\"a_2\":3}\n");
        assert_eq!(written(&["a_2", "a", "a_2", "a"]), "{\"a_2\":1,\"a\":2,\"a_2_2\":3,\"a_3\":4}\n");
    }

    #[test]
    fn rows_without_names_and_long_numbers_as_strings() {
        let ids: ArrayRef = Arc::new(Int64Array::from(vec![Some(i64::MAX), None]));
        let small: ArrayRef = Arc::new(Float32Array::from(vec![1.5, f32::NAN]));
        let batch = RecordBatch::try_from_iter_with_nullable([("a", ids, true), ("a", small, true)]).unwrap();
        let written = |numbers| {
            let mut writer = JsonWriter::rows(&batch.schema()).with_numbers(numbers);
            let mut out = Vec::new();
            writer.batch(&batch, &mut out).unwrap();
            writer.batch(&batch.slice(0, 1), &mut out).unwrap();
            writer.finish(&mut out).unwrap();
            String::from_utf8(out).unwrap()
        };
        assert_eq!(
            written(Numbers::Digits),
            "[9223372036854775807,1.5],\n[null,\"NaN\"],\n[9223372036854775807,1.5]"
        );
        assert_eq!(
            written(Numbers::Quoted),
            "[\"9223372036854775807\",1.5],\n[null,\"NaN\"],\n[\"9223372036854775807\",1.5]"
        );
    }

    #[test]
    fn dictionaries_vectors_and_infinities() {
        let mut words = StringDictionaryBuilder::<Int32Type>::new();
        words.append_value("x");
        words.append_null();
        let vectors = FixedSizeListArray::from_iter_primitive::<Float32Type, _, _>(
            [Some([Some(1.5), Some(-0.25)]), None],
            2,
        );
        let batch = RecordBatch::try_from_iter_with_nullable(vec![
            ("w", Arc::new(words.finish()) as ArrayRef, true),
            ("v", Arc::new(vectors) as ArrayRef, true),
            ("f", Arc::new(Float32Array::from(vec![f32::INFINITY, f32::NEG_INFINITY])) as ArrayRef, true),
        ])
        .unwrap();
        assert_eq!(
            lines(&batch),
            "{\"w\":\"x\",\"v\":[1.5,-0.25],\"f\":\"Infinity\"}\n{\"w\":null,\"v\":null,\"f\":\"-Infinity\"}\n"
        );
    }
}
