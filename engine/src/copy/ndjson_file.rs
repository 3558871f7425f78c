//! NDJSON files as pieces of a COPY: whole lines into batches.
//!
//! Owns: where a piece begins and ends, what a key that is missing means (the column's default; null is NULL), the line
//! named in errors. Does not own: decoding (Arrow's reader), casts to the table's types (`columns`).

use std::io::Read;
use std::ops::Range;
use std::path::PathBuf;
use std::sync::Arc;

use cairn_storage::ErrorKind;
use datafusion::arrow::array::{ArrayRef, BooleanArray, RecordBatch};
use datafusion::arrow::datatypes::{Field, Schema, SchemaRef};
use datafusion::arrow::error::ArrowError;
use datafusion::arrow::json::ReaderBuilder;

use super::columns::TableColumns;
use super::csv_split::split;
use super::from::{Piece, Sink, length, shown};
use super::json::Objects;
use super::options::CopyOptions;
use super::table_file::{in_file, unreadable};
use super::text_file::TextFile;
use crate::error::{Error, Result};

const BLOCK: usize = 1 << 20;
const BATCH_ROWS: usize = 8192;
const SPLIT_BYTES_MIN: u64 = 4 << 20;

/// Whole lines of a file.
pub(super) struct NdjsonPiece {
    lines: Lines,
    range: Range<u64>,
}

/// Adds the pieces of `path`, one JSON object a line.
pub(super) fn pieces(
    path: &PathBuf,
    options: &CopyOptions,
    table: &TableColumns,
    workers: usize,
    pieces: &mut Vec<(u64, Piece)>,
) -> Result<()> {
    let text = TextFile::new(path, options)?;
    let len = length(path)?;
    let mut start = Vec::new();
    text.open_at(0)?.take(4096).read_to_end(&mut start).map_err(|e| text.error(e))?;
    if start.trim_ascii_start().first() == Some(&b'[') {
        return Err(unreadable(path, "ndjson", &"it is one JSON array")
            .map(|e| e.with_hint("write one object per line")));
    }
    let lines = Lines { schema: json_schema(table), text };
    let piece = |range| Piece::Ndjson(NdjsonPiece { lines: lines.clone(), range });
    if !lines.text.is_plain() {
        pieces.push((len, piece(0..u64::MAX)));
        return Ok(());
    }
    let count = if len < SPLIT_BYTES_MIN { 1 } else { workers as u64 };
    // A newline never stands inside a JSON value as itself: no byte acts as a quote here.
    for range in split(path, 0, len, count, 0)? {
        pieces.push((range.end - range.start, piece(range)));
    }
    Ok(())
}

fn json_schema(table: &TableColumns) -> SchemaRef {
    let field = |i: &usize| {
        let column = &table.def.columns[*i];
        Field::new(&column.name, column.column_type.arrow(), true)
    };
    Arc::new(Schema::new(table.loaded.iter().map(field).collect::<Vec<_>>()))
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
    schema: SchemaRef,
    text: TextFile,
}

impl Lines {
    /// Loads whole lines that stand at `base`.
    fn block(&self, bytes: &[u8], base: u64, sink: &mut Sink) -> Result<()> {
        if let Ok(batches) = self.decode(bytes) {
            return self.write(&batches, bytes, base, sink);
        }
        // Something in it does not read: line by line, to find out what and to keep the others.
        let mut offset = base;
        for line in bytes.split_inclusive(|b| *b == b'\n') {
            match self.decode(line) {
                Ok(batches) => self.write(&batches, line, offset, sink)?,
                Err(error) => sink.reject(|| self.line_error(offset, &error))?,
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
                        .map_err(|e| in_file(e, &self.text.path))?;
                }
            }
            let place = |row: usize| {
                let start = Objects::find(bytes, &[]).starts.get(first + row).copied().unwrap_or(0);
                Ok(format!("{}, line {}", shown(&self.text.path), self.text.line_of(base + start as u64)?))
            };
            let (arrays, kept) = sink.without_nulls(&table.loaded, &arrays, rows, &place)?;
            sink.write(&table.loaded, &arrays, kept).map_err(|e| in_file(e, &self.text.path))?;
            first += rows;
        }
        Ok(())
    }

    fn decode(&self, mut bytes: &[u8]) -> Result<Vec<RecordBatch>, ArrowError> {
        let mut decoder = ReaderBuilder::new(Arc::clone(&self.schema))
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

    fn line_error(&self, offset: u64, error: &ArrowError) -> Result<Error> {
        let line = self.text.line_of(offset)?;
        let why = match error {
            ArrowError::JsonError(why) => why.clone(),
            other => other.to_string(),
        };
        Ok(Error::new(ErrorKind::InvalidInput, format!("{}, line {line}: {why}", shown(&self.text.path)))
            .map(|e| e.with_sqlstate("22P02")))
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::path::Path;

    use datafusion::arrow::datatypes::DataType;

    use super::*;

    #[test]
    fn lines_decode_or_say_why() {
        let schema = Schema::new(vec![
            Field::new("id", DataType::Int32, true),
            Field::new("name", DataType::Utf8View, true),
        ]);
        let text = TextFile::new(Path::new("x.ndjson"), &CopyOptions::default()).unwrap();
        let lines = Lines { schema: Arc::new(schema), text };
        let rows = |text: &str| {
            lines.decode(text.as_bytes()).map(|b| b.iter().map(RecordBatch::num_rows).sum::<usize>())
        };
        assert_eq!(rows("{\"id\":1,\"name\":\"a\"}\n{\"id\":2}\n\n{\"name\":null}").unwrap(), 3);
        assert!(rows("{\"id\":1,\"other\":2}\n").unwrap_err().to_string().contains("other"));
        assert!(rows("{\"id\":\"x\"}").is_err());
        assert!(rows("{\"id\":1").is_err());
        let long = "{\"id\":1}\n".repeat(20_000);
        assert_eq!(rows(&long).unwrap(), 20_000);
    }
}
