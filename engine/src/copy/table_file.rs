//! Parquet, Arrow and NDJSON files as pieces of a COPY.
//!
//! Owns: reading them in parts and their errors, with file and line where there are lines. Does not own: casts to the
//! table's types (`columns`).

use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use cairn_storage::ErrorKind;
use cairn_storage::schema::{ColumnDef, ColumnType};
use datafusion::arrow::array::{Array, ArrayRef, RecordBatch};
use datafusion::arrow::datatypes::{DataType, Field, FieldRef, Schema, SchemaRef};
use datafusion::arrow::error::ArrowError;
use datafusion::arrow::ipc::reader::FileReader;
use datafusion::arrow::json::ReaderBuilder;
use datafusion::parquet::arrow::arrow_reader::{
    ArrowReaderMetadata, ArrowReaderOptions, ParquetRecordBatchReaderBuilder,
};

use super::columns::TableColumns;
use super::csv_split::{line_of, split};
use super::from::{Piece, Sink, length, shown};
use super::vectors::{self, JsonForm};
use crate::error::{Error, Result};

const BLOCK: usize = 1 << 20;
const BATCH_ROWS: usize = 8192;
const SPLIT_BYTES_MIN: u64 = 4 << 20;

/// A part of a file.
pub(super) enum TablePiece {
    /// One row group.
    Parquet { file: Arc<ParquetFile>, row_group: usize, bytes: u64 },
    /// A whole Arrow file.
    Arrow { path: PathBuf, filled: Vec<usize>, bytes: u64 },
    /// Whole lines.
    Ndjson { path: PathBuf, range: Range<u64> },
}

/// An opened Parquet file.
pub(super) struct ParquetFile {
    path: PathBuf,
    metadata: ArrowReaderMetadata,
    filled: Vec<usize>,
}

fn unreadable(path: &Path, what: &str, error: &dyn std::fmt::Display) -> Error {
    Error::new(ErrorKind::InvalidInput, format!("{} is not a readable {what} file: {error}", shown(path)))
        .map(|e| e.with_sqlstate("22P04"))
}

fn open(path: &Path) -> Result<File> {
    Ok(File::open(path).map_err(|e| cairn_storage::Error::io(format!("reading {}", shown(path)), e))?)
}

/// Adds every row group of `path`.
pub(super) fn parquet_pieces(
    path: &Path,
    table: &TableColumns,
    pieces: &mut Vec<(u64, Piece)>,
) -> Result<()> {
    let file = open(path)?;
    let wrong = |e: &dyn std::fmt::Display| unreadable(path, "Parquet", e);
    let plain = ArrowReaderMetadata::load(&file, ArrowReaderOptions::new()).map_err(|e| wrong(&e))?;
    let filled = table.by_name(&shown(path), plain.schema().fields().iter().map(|f| f.name().as_str()))?;
    let options = ArrowReaderOptions::new().with_schema(with_views(plain.schema()));
    let metadata =
        ArrowReaderMetadata::try_new(Arc::clone(plain.metadata()), options).map_err(|e| wrong(&e))?;
    let file = Arc::new(ParquetFile { path: path.to_path_buf(), metadata, filled });
    for (row_group, group) in file.metadata.metadata().row_groups().iter().enumerate() {
        let bytes = u64::try_from(group.compressed_size()).unwrap_or(0);
        let piece = TablePiece::Parquet { file: Arc::clone(&file), row_group, bytes };
        pieces.push((bytes, Piece::Table(piece)));
    }
    Ok(())
}

/// `schema` with text and bytes read as views, which is what tables hold, at no cost.
fn with_views(schema: &SchemaRef) -> SchemaRef {
    let fields = schema.fields().iter().map(|field| -> FieldRef {
        let view = match field.data_type() {
            DataType::Utf8 | DataType::LargeUtf8 => DataType::Utf8View,
            DataType::Binary | DataType::LargeBinary => DataType::BinaryView,
            _ => return Arc::clone(field),
        };
        Arc::new(field.as_ref().clone().with_data_type(view))
    });
    Arc::new(Schema::new_with_metadata(fields.collect::<Vec<_>>(), schema.metadata().clone()))
}

/// Adds `path`, an Arrow IPC file.
pub(super) fn arrow_pieces(
    path: &PathBuf,
    table: &TableColumns,
    pieces: &mut Vec<(u64, Piece)>,
) -> Result<()> {
    let reader = FileReader::try_new(open(path)?, None).map_err(|e| unreadable(path, "Arrow", &e))?;
    let filled = table.by_name(&shown(path), reader.schema().fields().iter().map(|f| f.name().as_str()))?;
    let bytes = length(path)?;
    pieces.push((bytes, Piece::Table(TablePiece::Arrow { path: path.clone(), filled, bytes })));
    Ok(())
}

/// Adds the pieces of `path`, one JSON object a line.
pub(super) fn ndjson_pieces(path: &PathBuf, workers: usize, pieces: &mut Vec<(u64, Piece)>) -> Result<()> {
    let len = length(path)?;
    let mut start = Vec::new();
    open(path)?
        .take(4096)
        .read_to_end(&mut start)
        .map_err(|e| cairn_storage::Error::io(format!("reading {}", shown(path)), e))?;
    if start.trim_ascii_start().first() == Some(&b'[') {
        return Err(unreadable(path, "ndjson", &"it is one JSON array")
            .map(|e| e.with_hint("write one object per line")));
    }

    let count = if len < SPLIT_BYTES_MIN { 1 } else { workers as u64 };
    // A newline never stands inside a JSON value as itself: no byte acts as a quote here.
    for range in split(path, 0, len, count, 0)? {
        let piece = TablePiece::Ndjson { path: path.clone(), range: range.clone() };
        pieces.push((range.end - range.start, Piece::Table(piece)));
    }
    Ok(())
}

fn json_schema(columns: &[ColumnDef], vectors: JsonForm) -> SchemaRef {
    let field = |column: &ColumnDef| Field::new(&column.name, vectors.data_type(column), true);
    Arc::new(Schema::new(columns.iter().map(field).collect::<Vec<_>>()))
}

impl TablePiece {
    /// Reads the piece into `sink`.
    pub(super) fn load(self, sink: &mut Sink) -> Result<()> {
        match self {
            Self::Parquet { file, row_group, bytes } => {
                let wrong = |e: &dyn std::fmt::Display| unreadable(&file.path, "Parquet", e);
                let reader = ParquetRecordBatchReaderBuilder::new_with_metadata(
                    open(&file.path)?,
                    file.metadata.clone(),
                )
                .with_row_groups(vec![row_group])
                .with_batch_size(BATCH_ROWS)
                .build()
                .map_err(|e| wrong(&e))?;
                for batch in reader {
                    let batch = batch.map_err(|e| wrong(&e))?;
                    write(sink, &file.filled, batch.columns(), &file.path)?;
                }
                sink.read(bytes);
                Ok(())
            }
            Self::Arrow { path, filled, bytes } => {
                let wrong = |e: &ArrowError| unreadable(&path, "Arrow", e);
                for batch in FileReader::try_new(open(&path)?, None).map_err(|e| wrong(&e))? {
                    write(sink, &filled, batch.map_err(|e| wrong(&e))?.columns(), &path)?;
                }
                sink.read(bytes);
                Ok(())
            }
            Self::Ndjson { path, range } => {
                let columns = sink.table.loaded.iter().map(|i| sink.table.def.columns[*i].clone()).collect();
                Lines { columns, path }.load(range, sink)
            }
        }
    }
}

fn write(sink: &mut Sink, filled: &[usize], columns: &[ArrayRef], path: &Path) -> Result<()> {
    let rows = columns.first().map_or(0, |c| c.len());
    sink.write(filled, columns, rows).map_err(|e| in_file(e, path))
}

/// The error with the file's name as its detail, when it is about the data.
fn in_file(error: Error, path: &Path) -> Error {
    match error.kind() {
        ErrorKind::InvalidInput | ErrorKind::ConstraintViolation if error.detail().is_none() => {
            error.map(|e| e.with_detail(format!("in file {}", shown(path))))
        }
        _ => error,
    }
}

/// Lines of an NDJSON file.
struct Lines {
    columns: Vec<ColumnDef>,
    path: PathBuf,
}

impl Lines {
    fn load(&self, range: Range<u64>, sink: &mut Sink) -> Result<()> {
        let io = |e| cairn_storage::Error::io(format!("reading {}", shown(&self.path)), e);
        let mut source = open(&self.path)?;
        source.seek(SeekFrom::Start(range.start)).map_err(io)?;
        let mut source = source.take(range.end - range.start);
        let (mut buffer, mut base) = (Vec::with_capacity(2 * BLOCK), range.start);
        loop {
            let read = (&mut source).take(BLOCK as u64).read_to_end(&mut buffer).map_err(io)?;
            sink.read(read as u64);
            let last = source.limit() == 0 || read == 0;
            let whole = if last {
                buffer.len()
            } else {
                buffer.iter().rposition(|b| *b == b'\n').map_or(0, |p| p + 1)
            };
            self.block(&buffer[..whole], base, sink)?;
            if last {
                return Ok(());
            }
            buffer.drain(..whole);
            base += whole as u64;
        }
    }

    /// Loads whole lines that stand at `base`.
    fn block(&self, bytes: &[u8], base: u64, sink: &mut Sink) -> Result<()> {
        let filled = sink.table.loaded.clone();
        if let Ok(batches) = self.decode(bytes) {
            for columns in batches {
                write(sink, &filled, &columns, &self.path)?;
            }
            return Ok(());
        }
        // Something in it does not read: line by line, to find out what and to keep the others.
        let mut offset = base;
        for line in bytes.split_inclusive(|b| *b == b'\n') {
            match self.decode(line) {
                Ok(batches) => {
                    for columns in batches {
                        write(sink, &filled, &columns, &self.path)?;
                    }
                }
                Err(error) => sink.reject(|| self.line_error(offset, &error))?,
            }
            offset += line.len() as u64;
        }
        Ok(())
    }

    /// The rows of whole lines. A block has all its vectors in one form.
    fn decode(&self, bytes: &[u8]) -> Result<Vec<Vec<ArrayRef>>, ArrowError> {
        let has_vectors = self.columns.iter().any(|c| matches!(c.column_type, ColumnType::Vector(_)));
        let batches = match self.decode_as(JsonForm::Arrays, bytes) {
            Err(error) if has_vectors => self.decode_as(JsonForm::Texts, bytes).map_err(|_| error)?,
            decoded => decoded?,
        };
        batches.iter().map(|batch| vectors::made(batch, &self.columns)).collect()
    }

    fn decode_as(&self, vectors: JsonForm, mut bytes: &[u8]) -> Result<Vec<RecordBatch>, ArrowError> {
        let mut decoder = ReaderBuilder::new(json_schema(&self.columns, vectors))
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
        let line = line_of(&self.path, offset)?;
        let why = match error {
            ArrowError::JsonError(why) => why.clone(),
            other => other.to_string(),
        };
        Ok(Error::new(ErrorKind::InvalidInput, format!("{}, line {line}: {why}", shown(&self.path)))
            .map(|e| e.with_sqlstate("22P02")))
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
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
        };
        let columns = vec![
            column("id", ColumnType::Int32),
            column("name", ColumnType::Text),
            column("v", ColumnType::Vector(2)),
        ];
        let lines = Lines { columns, path: PathBuf::from("x.ndjson") };
        let rows =
            |text: &str| lines.decode(text.as_bytes()).map(|b| b.iter().map(|c| c[0].len()).sum::<usize>());
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
        assert!(rows("{\"id\":1").is_err());
        let long = "{\"id\":1}\n".repeat(20_000);
        assert_eq!(rows(&long).unwrap(), 20_000);
    }
}
