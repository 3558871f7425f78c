//! JSON as COPY writes it, and which keys the objects of a file have.
//!
//! Owns: NaN and infinities, which JSON has no numbers for and which are written as text (a FLOAT or DOUBLE column reads
//! them back); explicit nulls, since a key that is missing means the column's default; one key for each column; finding keys
//! in text that has already been decoded. Does not own: decoding (Arrow's reader).

use std::fmt::Debug;
use std::io::Write;
use std::sync::Arc;

use datafusion::arrow::array::{
    Array, ArrowPrimitiveType, AsArray, PrimitiveArray, RecordBatch, RecordBatchOptions,
};
use datafusion::arrow::datatypes::{DataType, Field, FieldRef, Float32Type, Float64Type, Schema};
use datafusion::arrow::error::ArrowError;
use datafusion::arrow::json::writer::{Encoder, LineDelimited, NullableEncoder};
use datafusion::arrow::json::{EncoderFactory, EncoderOptions, Writer, WriterBuilder};

use crate::text::object_names;

/// Writer of one object a line.
pub(super) type NdjsonWriter<W> = Writer<W, LineDelimited>;

/// A writer of one object a line.
pub(super) fn ndjson_writer<W: Write>(out: W) -> NdjsonWriter<W> {
    WriterBuilder::new().with_explicit_nulls(true).with_encoder_factory(Arc::new(Floats)).build(out)
}

/// `batch` with a name for each column that no other has: an object has a key once.
///
/// # Errors
/// None: its columns are those of `batch`.
pub(super) fn with_keys(batch: &RecordBatch) -> Result<RecordBatch, ArrowError> {
    let fields = batch.schema_ref().fields();
    let keyed = |(field, name): (&FieldRef, String)| Field::clone(field).with_name(name);
    let schema = Schema::new(fields.iter().zip(object_names(fields)).map(keyed).collect::<Vec<Field>>());
    let options = RecordBatchOptions::new().with_row_count(Some(batch.num_rows()));
    RecordBatch::try_new_with_options(Arc::new(schema), batch.columns().to_vec(), &options)
}

/// How single values are written, lists and structs among them.
pub(super) fn value_options() -> EncoderOptions {
    EncoderOptions::default().with_explicit_nulls(true).with_encoder_factory(Arc::new(Floats))
}

/// Writes floating numbers that JSON has no number for as text.
#[derive(Debug)]
struct Floats;

impl EncoderFactory for Floats {
    fn make_default_encoder<'a>(
        &self,
        _field: &'a FieldRef,
        array: &'a dyn Array,
        _options: &'a EncoderOptions,
    ) -> Result<Option<NullableEncoder<'a>>, ArrowError> {
        let encoder: Box<dyn Encoder + 'a> = match array.data_type() {
            DataType::Float32 => Box::new(FloatEncoder(array.as_primitive::<Float32Type>())),
            DataType::Float64 => Box::new(FloatEncoder(array.as_primitive::<Float64Type>())),
            _ => return Ok(None),
        };
        Ok(Some(NullableEncoder::new(encoder, array.nulls().cloned())))
    }
}

struct FloatEncoder<'a, T: ArrowPrimitiveType>(&'a PrimitiveArray<T>);

impl<T> Encoder for FloatEncoder<'_, T>
where
    T: ArrowPrimitiveType,
    T::Native: Debug + Into<f64>,
{
    fn encode(&mut self, index: usize, out: &mut Vec<u8>) {
        let value = self.0.value(index);
        match value.into() {
            wide if wide.is_nan() => out.extend_from_slice(b"\"NaN\""),
            f64::INFINITY => out.extend_from_slice(b"\"Infinity\""),
            f64::NEG_INFINITY => out.extend_from_slice(b"\"-Infinity\""),
            // The shortest digits that read back as the same number. Writing into memory does not fail.
            _ => drop(write!(out, "{value:?}")),
        }
    }
}

/// Where the objects of a text begin and which of some keys each has.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Objects {
    /// Byte each object begins at.
    pub(super) starts: Vec<usize>,
    /// For each key asked for, whether each object has it.
    pub(super) present: Vec<Vec<bool>>,
}

impl Objects {
    /// Looks through `text`, objects one after another that are known to be well formed.
    pub(super) fn find(text: &[u8], keys: &[&str]) -> Self {
        let mut objects = Self { starts: Vec::new(), present: vec![Vec::new(); keys.len()] };
        let (mut depth, mut at, mut key_follows) = (0_usize, 0, false);
        while let Some(byte) = text.get(at) {
            match byte {
                b'"' => {
                    let end = string_end(text, at + 1);
                    if key_follows {
                        objects.note(&text[at..end], keys);
                        key_follows = false;
                    }
                    at = end;
                    continue;
                }
                b'{' if depth == 0 => {
                    objects.starts.push(at);
                    objects.present.iter_mut().for_each(|p| p.push(false));
                    (depth, key_follows) = (1, true);
                }
                b'{' | b'[' => depth += 1,
                b'}' | b']' => depth = depth.saturating_sub(1),
                b',' if depth == 1 => key_follows = true,
                _ => {}
            }
            at += 1;
        }
        objects
    }

    /// Notes `key`, a JSON string with its quotes, for the last object.
    fn note(&mut self, key: &[u8], keys: &[&str]) {
        let plain = &key[1..key.len().saturating_sub(1).max(1)];
        let unescaped: Option<String> =
            if plain.contains(&b'\\') { serde_json::from_slice(key).ok() } else { None };
        let name = unescaped.as_deref().map_or(plain, str::as_bytes);
        for (wanted, present) in keys.iter().zip(&mut self.present) {
            if wanted.as_bytes() == name
                && let Some(last) = present.last_mut()
            {
                *last = true;
            }
        }
    }
}

/// Position after the quote that ends the string whose text begins at `at`.
fn string_end(text: &[u8], mut at: usize) -> usize {
    while let Some(byte) = text.get(at) {
        match byte {
            b'"' => return at + 1,
            b'\\' => at += 2,
            _ => at += 1,
        }
    }
    text.len()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use datafusion::arrow::array::{ArrayRef, Float32Array, Float64Array};

    use super::*;

    #[test]
    fn keys_are_found_where_they_are() {
        let text = br#"{"a":1,"b":{"c":2}} {"x":"\"a\":,{","c":null}
            {"\u0061":[{"b":1},"b"]}"#;
        let objects = Objects::find(text, &["a", "b", "c"]);
        assert_eq!(objects.starts.len(), 3);
        assert_eq!(objects.starts[..2], [0, 20]);
        assert_eq!(objects.present[0], [true, false, true]);
        assert_eq!(objects.present[1], [true, false, false]);
        assert_eq!(objects.present[2], [false, true, false]);
    }

    #[test]
    fn floats_outside_json_are_text() {
        let wide: ArrayRef =
            Arc::new(Float64Array::from(vec![Some(f64::NAN), Some(1e300), None, Some(f64::NEG_INFINITY)]));
        let narrow: ArrayRef =
            Arc::new(Float32Array::from(vec![Some(0.1), Some(f32::INFINITY), Some(-2.0), None]));
        let batch = RecordBatch::try_from_iter([("w", wide), ("n", narrow)]).unwrap();
        let mut writer = ndjson_writer(Vec::new());
        writer.write(&batch).unwrap();
        writer.finish().unwrap();
        assert_eq!(
            String::from_utf8(writer.into_inner()).unwrap(),
            "{\"w\":\"NaN\",\"n\":0.1}\n{\"w\":1e300,\"n\":\"Infinity\"}\n{\"w\":null,\"n\":-2.0}\n\
             {\"w\":\"-Infinity\",\"n\":null}\n"
        );
    }
}
