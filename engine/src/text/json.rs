//! JSON: one array, or one object a line.
//!
//! Integers and decimals are numbers with all their digits; NaN and the infinities, which JSON has no number for, are
//! strings; binary is hex; times are ISO 8601 strings; lists and structs are arrays and objects.

use std::collections::HashMap;
use std::io::{self, Write};

use datafusion::arrow::array::{Array, ArrayRef, AsArray, RecordBatch};
use datafusion::arrow::buffer::NullBuffer;
use datafusion::arrow::compute::cast;
use datafusion::arrow::datatypes::{DataType, SchemaRef};
use datafusion::arrow::util::display::ArrayFormatter;

use super::{RowWriter, cell};

/// Writes rows as objects.
pub(crate) struct JsonWriter {
    /// Each column's name as a JSON string; a repeated name gets a number, since objects hold a name once.
    names: Vec<String>,
    array: bool,
    rows: u64,
}

impl JsonWriter {
    pub(crate) fn array(schema: &SchemaRef) -> Self {
        Self::new(schema, true)
    }

    pub(crate) fn lines(schema: &SchemaRef) -> Self {
        Self::new(schema, false)
    }

    fn new(schema: &SchemaRef, array: bool) -> Self {
        let mut seen: HashMap<&str, u32> = HashMap::new();
        let names = schema
            .fields()
            .iter()
            .map(|field| {
                let times = seen.entry(field.name()).or_default();
                *times += 1;
                if *times == 1 { string(field.name()) } else { string(&format!("{}_{times}", field.name())) }
            })
            .collect();
        Self { names, array, rows: 0 }
    }
}

impl RowWriter for JsonWriter {
    fn batch(&mut self, batch: &RecordBatch, out: &mut dyn Write) -> io::Result<()> {
        let arrays = batch.columns().iter().map(plain).collect::<io::Result<Vec<_>>>()?;
        let values = arrays.iter().map(Value::of).collect::<io::Result<Vec<_>>>()?;
        let mut line = String::new();
        for row in 0..batch.num_rows() {
            line.clear();
            if self.array {
                line.push_str(if self.rows == 0 { "[" } else { ",\n " });
            }
            self.rows += 1;
            for (i, (name, value)) in self.names.iter().zip(&values).enumerate() {
                line.push(if i == 0 { '{' } else { ',' });
                line.push_str(name);
                line.push(':');
                value.write(row, &mut line)?;
            }
            line.push_str(if self.names.is_empty() { "{}" } else { "}" });
            if !self.array {
                line.push('\n');
            }
            out.write_all(line.as_bytes())?;
        }
        Ok(())
    }

    fn finish(&mut self, out: &mut dyn Write) -> io::Result<()> {
        match (self.array, self.rows) {
            (false, _) => Ok(()),
            (true, 0) => out.write_all(b"[]\n"),
            (true, _) => out.write_all(b"]\n"),
        }
    }
}

fn string(text: &str) -> String {
    serde_json::Value::from(text).to_string()
}

/// `array` without dictionaries or list forms that need code of their own.
fn plain(array: &ArrayRef) -> io::Result<ArrayRef> {
    let as_type = |data_type: &DataType| cast(array, data_type).map_err(cell::shown);
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
    fn of(array: &'a ArrayRef) -> io::Result<Self> {
        let shape = match array.data_type() {
            DataType::Boolean => Shape::Number(cell::exact_array(array)?),
            data_type if data_type.is_numeric() => Shape::Number(cell::exact_array(array)?),
            DataType::List(_) => {
                let list = array.as_list::<i32>();
                Shape::List(list.value_offsets(), Box::new(Self::of(list.values())?))
            }
            DataType::Map(_, _) => {
                let map = array.as_map();
                let keys = cell::exact_array(map.keys())?;
                Shape::Map(map.value_offsets(), keys, Box::new(Self::of(map.values())?))
            }
            DataType::Struct(fields) => {
                let members = fields.iter().zip(array.as_struct().columns());
                Shape::Struct(
                    members.map(|(f, a)| Ok((string(f.name()), Self::of(a)?))).collect::<io::Result<_>>()?,
                )
            }
            _ => Shape::String(cell::exact_array(array)?),
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
                let text = text.value(row).try_to_string().map_err(cell::shown)?;
                match text.as_str() {
                    "inf" => line.push_str("\"Infinity\""),
                    "-inf" => line.push_str("\"-Infinity\""),
                    "NaN" => line.push_str("\"NaN\""),
                    _ => line.push_str(&text),
                }
            }
            Shape::String(text) => {
                line.push_str(&string(&text.value(row).try_to_string().map_err(cell::shown)?))
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
                    line.push_str(&string(&keys.value(item).try_to_string().map_err(cell::shown)?));
                    line.push(':');
                    values.write(item, line)?;
                }
                line.push('}');
            }
        }
        Ok(())
    }
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
        let schema = Arc::new(Schema::new(vec![
            Field::new("a", DataType::Int64, false),
            Field::new("a", DataType::Int64, false),
        ]));
        let one: ArrayRef = Arc::new(Int64Array::from(vec![1]));
        let batch = RecordBatch::try_new(schema, vec![one.clone(), one]).unwrap();
        assert_eq!(lines(&batch), "{\"a\":1,\"a_2\":1}\n");
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
