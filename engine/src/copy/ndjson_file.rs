//! NDJSON files as pieces of a COPY: whole lines into batches.
//!
//! Owns: where a piece begins and ends, what a key that is missing means (the column's default; null is NULL), the line
//! named in errors. Does not own: decoding (Arrow's reader), casts to the table's types (`columns`).

use std::io::Read;
use std::ops::Range;
use std::sync::Arc;

use cairn_storage::ErrorKind;
use cairn_storage::schema::{ColumnDef, ColumnType};
use cairn_udfs::zones::relabelled;
use datafusion::arrow::array::{Array, ArrayRef, AsArray, BooleanArray, RecordBatch};
use datafusion::arrow::datatypes::{DataType, Field, Float32Type, Float64Type, Schema, SchemaRef};
use datafusion::arrow::error::ArrowError;
use datafusion::arrow::json::ReaderBuilder;
use serde_json::Value;

use super::columns::TableColumns;
use super::csv_split::split;
use super::from::{Piece, Sink, shown};
use super::input::InputFile;
use super::json::Objects;
use super::moments;
use super::options::CopyOptions;
use super::rows::is_infinity;
use super::table_file::{in_file, unreadable};
use super::text_file::TextFile;
use super::vectors::{self, JsonForm};
use crate::error::{Error, Result};

const BLOCK: usize = 1 << 20;
const BATCH_ROWS: usize = 8192;
const SPLIT_BYTES_MIN: u64 = 4 << 20;

/// Whole lines of a file.
pub(super) struct NdjsonPiece {
    lines: Lines,
    range: Range<u64>,
}

/// Adds the pieces of `input`, one JSON object a line.
pub(super) fn pieces(
    input: &InputFile,
    options: &CopyOptions,
    table: &TableColumns,
    workers: usize,
    pieces: &mut Vec<(u64, Piece)>,
) -> Result<()> {
    let text = TextFile::new(input, options)?;
    let len = input.length()?;
    let mut start = Vec::new();
    text.open_at(0)?.take(4096).read_to_end(&mut start).map_err(|e| text.error(e))?;
    if start.trim_ascii_start().first() == Some(&b'[') {
        return Err(unreadable(input.path(), "ndjson", &"it is one JSON array")
            .map(|e| e.with_hint("write one object per line")));
    }
    let columns = table.loaded.iter().map(|i| table.def.columns[*i].clone()).collect();
    let lines = Lines { columns, zone: table.zone.clone(), text };
    let piece = |range| Piece::Ndjson(NdjsonPiece { lines: lines.clone(), range });
    if !lines.text.is_divisible() {
        pieces.push((len, piece(0..u64::MAX)));
        return Ok(());
    }
    let count = if len < SPLIT_BYTES_MIN { 1 } else { workers as u64 };
    // A newline never stands inside a JSON value as itself: no byte acts as a quote here.
    for range in split(input.path(), 0, len, count, 0)? {
        pieces.push((range.end - range.start, piece(range)));
    }
    Ok(())
}

/// Moments are of the session's `zone`, in which those are read that name none.
fn json_schema(columns: &[ColumnDef], vectors: JsonForm, zone: Option<&Arc<str>>) -> SchemaRef {
    let field = |column: &ColumnDef| {
        let data_type = vectors.data_type(column);
        let zoned = zone.and_then(|zone| relabelled(&data_type, zone));
        Field::new(&column.name, zoned.unwrap_or(data_type), true)
    };
    Arc::new(Schema::new(columns.iter().map(field).collect::<Vec<_>>()))
}

impl NdjsonPiece {
    /// Reads the piece into `sink`.
    pub(super) fn load(self, sink: &mut Sink) -> Result<()> {
        let Self { lines, range } = self;
        let mut source = lines.text.open_at(range.start)?.take(range.end - range.start);
        let (mut buffer, mut base) = (Vec::with_capacity(2 * BLOCK), range.start);
        loop {
            let read =
                (&mut source).take(BLOCK as u64).read_to_end(&mut buffer).map_err(|e| lines.text.error(e))?;
            sink.read(source.get_mut().newly_consumed());
            let last = source.limit() == 0 || read == 0;
            let whole = if last {
                buffer.len()
            } else {
                buffer.iter().rposition(|b| *b == b'\n').map_or(0, |p| p + 1)
            };
            lines.block(&buffer[..whole], base, sink)?;
            if last {
                return Ok(());
            }
            buffer.drain(..whole);
            base += whole as u64;
        }
    }
}

/// How the lines of a file are read.
#[derive(Clone)]
struct Lines {
    columns: Vec<ColumnDef>,
    /// The session's time zone; None: UTC.
    zone: Option<Arc<str>>,
    text: TextFile,
}

impl Lines {
    /// Loads whole lines that stand at `base`.
    fn block(&self, bytes: &[u8], base: u64, sink: &mut Sink) -> Result<()> {
        if let Ok(batches) = self.decode(bytes)
            && !batches.iter().any(has_infinity)
        {
            return self.write(&batches, bytes, base, sink);
        }
        // Something in it does not read, or may be a number that is too large: line by line, to find out what and to keep the others.
        let mut offset = base;
        for line in bytes.split_inclusive(|b| *b == b'\n') {
            match self.decode_line(line) {
                Ok(batches) => self.write(&batches, line, offset, sink)?,
                Err(error) => sink.reject(|| self.line_error(offset, line, &error))?,
            }
            offset += line.len() as u64;
        }
        Ok(())
    }

    /// Hands on the rows that `bytes`, which stand at `base`, decoded to.
    fn write(&self, batches: &[RecordBatch], bytes: &[u8], base: u64, sink: &mut Sink) -> Result<()> {
        let table = Arc::clone(&sink.table);
        let with_default = table.with_default();
        let keys: Vec<&str> = with_default.iter().map(|i| table.def.columns[*i].name.as_str()).collect();
        let objects = if keys.is_empty() { Objects::default() } else { Objects::find(bytes, &keys) };
        let mut first = 0;
        for batch in batches {
            let rows = batch.num_rows();
            let mut arrays: Vec<ArrayRef> = batch.columns().to_vec();
            for (present, column) in objects.present.iter().zip(&with_default) {
                let present = &present[first..first + rows];
                let Some(at) = table.loaded.iter().position(|l| l == column) else { continue };
                if present.contains(&false) {
                    let present = BooleanArray::from(present.to_vec());
                    arrays[at] = table
                        .fill_missing(*column, &arrays[at], &present)
                        .map_err(|e| in_file(e, self.text.path()))?;
                }
            }
            let place = |row: usize| {
                let start = Objects::find(bytes, &[]).starts.get(first + row).copied().unwrap_or(0);
                Ok(format!("{}, line {}", shown(self.text.path()), self.text.line_of(base + start as u64)?))
            };
            let (arrays, kept) = sink.readable(&table.loaded, &arrays, rows, &place)?;
            sink.write(&table.loaded, &arrays, kept).map_err(|e| in_file(e, self.text.path()))?;
            first += rows;
        }
        Ok(())
    }

    /// The rows of one line, whose numbers all are in the range of their types.
    fn decode_line(&self, line: &[u8]) -> Result<Vec<RecordBatch>, ArrowError> {
        let batches = self.decode(line)?;
        if batches.iter().any(has_infinity) {
            let out_of_range = |column: &str| {
                ArrowError::JsonError(format!(
                    "column \"{column}\": a number is out of the range of its type"
                ))
            };
            // It knows no number beyond DOUBLE.
            let object: serde_json::Map<String, Value> = serde_json::from_slice(line.trim_ascii())
                .map_err(|error| ArrowError::JsonError(error.to_string()))?;
            for column in &self.columns {
                let data_type = JsonForm::Arrays.data_type(column);
                if object.get(&column.name).is_some_and(|value| overflows(value, &data_type)) {
                    return Err(out_of_range(&column.name));
                }
            }
        }
        Ok(batches)
    }

    /// The rows of whole lines. A block has all its vectors in one form.
    fn decode(&self, bytes: &[u8]) -> Result<Vec<RecordBatch>, ArrowError> {
        if !self.columns.iter().any(|c| matches!(c.column_type, ColumnType::Vector(_))) {
            return self.decode_as(JsonForm::Arrays, bytes);
        }
        let batches = match self.decode_as(JsonForm::Arrays, bytes) {
            Err(error) => self.decode_as(JsonForm::Texts, bytes).map_err(|_| error)?,
            Ok(batches) => batches,
        };
        batches.iter().map(|batch| vectors::made(batch, &self.columns)).collect()
    }

    fn decode_as(&self, vectors: JsonForm, bytes: &[u8]) -> Result<Vec<RecordBatch>, ArrowError> {
        let schema = json_schema(&self.columns, vectors, self.zone.as_ref());
        let error = match decoded(&schema, bytes) {
            Ok(batches) => return Ok(batches),
            Err(error) => error,
        };
        let Some(zone) = &self.zone else { return Err(error) };
        let Some(texts) = moments::as_texts(&schema, zone) else { return Err(error) };
        let said = |batches: Vec<RecordBatch>| -> Result<Vec<RecordBatch>, ArrowError> {
            batches.iter().map(|batch| moments::said(batch, &schema, zone)).collect()
        };
        decoded(&texts, bytes).and_then(said).map_err(|_| error)
    }

    /// What is wrong with the line `bytes` at `offset`: its JSON, with the column, or a value in it.
    fn line_error(&self, offset: u64, bytes: &[u8], error: &ArrowError) -> Result<Error> {
        let mut place = format!("{}, line {}", shown(self.text.path()), self.text.line_of(offset)?);
        let mut why = match error {
            ArrowError::JsonError(why) => why.clone(),
            other => other.to_string(),
        };
        if let Err(syntax) = serde_json::from_slice::<serde::de::IgnoredAny>(bytes.trim_ascii_end()) {
            place = format!("{place}, column {}", syntax.column());
            // Its own words end with a place within the line.
            why = syntax.to_string();
            why.truncate(why.find(" at line ").unwrap_or(why.len()));
        }
        Ok(Error::new(ErrorKind::InvalidInput, format!("{place}: {why}")).map(|e| e.with_sqlstate("22P02")))
    }
}

/// The rows of whole lines, as `schema` has them.
fn decoded(schema: &SchemaRef, mut bytes: &[u8]) -> Result<Vec<RecordBatch>, ArrowError> {
    let mut decoder = ReaderBuilder::new(Arc::clone(schema))
        .with_batch_size(BATCH_ROWS)
        .with_strict_mode(true)
        .build_decoder()?;
    let mut batches = Vec::new();
    loop {
        let used = decoder.decode(bytes)?;
        bytes = &bytes[used..];
        if used == 0 || bytes.is_empty() {
            let end = bytes.is_empty();
            match decoder.flush()? {
                Some(batch) => batches.push(batch),
                None if end => return Ok(batches),
                None => {}
            }
            if end {
                return Ok(batches);
            }
        }
    }
}

fn has_infinity(batch: &RecordBatch) -> bool {
    batch.columns().iter().any(is_infinite)
}

/// Whether infinity is among the values of an array, at any depth.
fn is_infinite(array: &ArrayRef) -> bool {
    match array.data_type() {
        DataType::Float32 => array.as_primitive::<Float32Type>().iter().flatten().any(f32::is_infinite),
        DataType::Float64 => array.as_primitive::<Float64Type>().iter().flatten().any(f64::is_infinite),
        DataType::List(_) => is_infinite(array.as_list::<i32>().values()),
        DataType::Struct(_) => array.as_struct().columns().iter().any(is_infinite),
        _ => false,
    }
}

/// Whether a value becomes infinity that is none.
fn overflows(value: &Value, data_type: &DataType) -> bool {
    match (value, data_type) {
        (Value::Number(number), DataType::Float32) => {
            number.as_f64().is_some_and(|number| (number as f32).is_infinite())
        }
        (Value::String(text), DataType::Float32) => {
            text.parse::<f32>().is_ok_and(f32::is_infinite) && !is_infinity(text)
        }
        (Value::String(text), DataType::Float64) => {
            text.parse::<f64>().is_ok_and(f64::is_infinite) && !is_infinity(text)
        }
        (Value::Array(values), DataType::List(item)) => {
            values.iter().any(|value| overflows(value, item.data_type()))
        }
        (Value::Object(members), DataType::Struct(fields)) => fields
            .iter()
            .any(|field| members.get(field.name()).is_some_and(|value| overflows(value, field.data_type()))),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::path::PathBuf;

    use cairn_storage::id::ColumnId;

    use super::*;

    #[test]
    fn lines_decode_or_say_why() {
        let column = |name: &str, column_type| ColumnDef {
            id: ColumnId(1),
            name: name.into(),
            column_type,
            nullable: true,
            default: None,
            initial: None,
        };
        let columns = vec![
            column("id", ColumnType::Int32),
            column("name", ColumnType::Text),
            column("v", ColumnType::Vector(2)),
        ];
        let input = InputFile::local(PathBuf::from("x.ndjson"));
        let text = TextFile::new(&input, &CopyOptions::default()).unwrap();
        let lines = Lines { columns, zone: None, text };
        let rows = |text: &str| {
            lines.decode(text.as_bytes()).map(|b| b.iter().map(RecordBatch::num_rows).sum::<usize>())
        };
        assert_eq!(rows("{\"id\":1,\"v\":[1,2.5]}\n{\"id\":2,\"v\":null}").unwrap(), 2);
        assert_eq!(rows("{\"id\":1,\"v\":\"[1,2.5]\"}\n").unwrap(), 1);
        for (text, why) in [
            ("{\"v\":[1]}", "column \"v\": expected 2 dimensions, not 1"),
            ("{\"v\":[1,null]}", "column \"v\": component 2 of the vector is NULL"),
            ("{\"v\":[1,1e39]}", "column \"v\": component 2"),
            ("{\"v\":\"[1\"}", "column \"v\": \"[1\" is no vector"),
        ] {
            let error = rows(text).unwrap_err().to_string();
            assert!(error.contains(why), "{error}");
        }
        assert_eq!(rows("{\"id\":1,\"name\":\"a\"}\n{\"id\":2}\n\n{\"name\":null}").unwrap(), 3);
        assert!(rows("{\"id\":1,\"other\":2}\n").unwrap_err().to_string().contains("other"));
        assert!(rows("{\"id\":\"x\"}").is_err());
        let columns = vec![column("r", ColumnType::Float32), column("d", ColumnType::Float64)];
        let floats = Lines { columns, ..lines.clone() };
        for finite in ["{\"r\":3e38,\"d\":1e300}", "{\"r\":\"-Infinity\",\"d\":\"Infinity\"}"] {
            assert!(floats.decode_line(finite.as_bytes()).is_ok(), "{finite}");
        }
        for large in ["{\"r\":1e39}", "{\"r\":\"-1e39\"}", "{\"d\":1e999}", "{\"d\":\"1e999\"}"] {
            assert!(floats.decode_line(large.as_bytes()).is_err(), "{large}");
        }
        assert!(rows("{\"id\":1").is_err());
        let long = "{\"id\":1}\n".repeat(20_000);
        assert_eq!(rows(&long).unwrap(), 20_000);
    }
}
