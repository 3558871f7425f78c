//! Parquet and Arrow files as pieces of a COPY.
//!
//! Owns: reading them in parts and their errors, with the file and the row. Does not own: casts to the
//! table's types (`columns`).

use std::error::Error as StdError;
use std::path::Path;
use std::sync::Arc;

use cairn_storage::ErrorKind;
use datafusion::arrow::array::RecordBatch;
use datafusion::arrow::datatypes::{DataType, FieldRef, Schema, SchemaRef};
use datafusion::arrow::ipc::reader::FileReader;
use datafusion::parquet::arrow::ParquetRecordBatchStreamBuilder;
use datafusion::parquet::arrow::arrow_reader::{
    ArrowReaderMetadata, ArrowReaderOptions, ParquetRecordBatchReaderBuilder,
};
use datafusion::parquet::errors::ParquetError;
use futures::StreamExt;

use super::columns::TableColumns;
use super::from::{Piece, Sink, shown};
use super::input::InputFile;
use crate::error::{Error, Result};
use crate::stores::store_error;

const BATCH_ROWS: usize = 8192;

/// A part of a file.
pub(super) enum TablePiece {
    /// One row group.
    Parquet { file: Arc<ParquetFile>, row_group: usize, first_row: u64, bytes: u64 },
    /// A whole Arrow file.
    Arrow { input: InputFile, filled: Vec<usize>, bytes: u64 },
}

/// An opened Parquet file.
pub(super) struct ParquetFile {
    input: InputFile,
    metadata: ArrowReaderMetadata,
    filled: Vec<usize>,
}

pub(super) fn unreadable(path: &Path, what: &str, error: &dyn std::fmt::Display) -> Error {
    Error::new(ErrorKind::InvalidInput, format!("{} is not a readable {what} file: {error}", shown(path)))
        .map(|e| e.with_sqlstate("22P04"))
}

/// What `error`, met while `input` was read, says: that it could not be got, or that it is damaged.
fn wrong(input: &InputFile, what: &str, error: &(dyn StdError + 'static)) -> Error {
    store_error(error).unwrap_or_else(|| unreadable(input.path(), what, &error))
}

/// What a Parquet file says of itself.
///
/// # Errors
/// It cannot be read, or is none.
pub(crate) fn parquet_metadata(input: &InputFile) -> Result<ArrowReaderMetadata> {
    let options = ArrowReaderOptions::new();
    let loaded = match input.as_object() {
        Some(object) => {
            let (runtime, mut object) = (object.runtime().clone(), object.clone());
            runtime.block_on(ArrowReaderMetadata::load_async(&mut object, options))
        }
        None => ArrowReaderMetadata::load(&input.open_local()?, options),
    };
    loaded.map_err(|e| wrong(input, "Parquet", &e))
}

/// Adds every row group of `input`.
pub(super) fn parquet_pieces(
    input: &InputFile,
    table: &TableColumns,
    pieces: &mut Vec<(u64, Piece)>,
) -> Result<()> {
    let plain = parquet_metadata(input)?;
    let names = plain.schema().fields().iter().map(|f| f.name().as_str());
    let filled = table.by_name(&shown(input.path()), names)?;
    let options = ArrowReaderOptions::new().with_schema(with_views(plain.schema()));
    let metadata = ArrowReaderMetadata::try_new(Arc::clone(plain.metadata()), options)
        .map_err(|e| wrong(input, "Parquet", &e))?;
    let file = Arc::new(ParquetFile { input: input.clone(), metadata, filled });
    let mut first_row = 1;
    for (row_group, group) in file.metadata.metadata().row_groups().iter().enumerate() {
        let bytes = u64::try_from(group.compressed_size()).unwrap_or(0);
        let piece = TablePiece::Parquet { file: Arc::clone(&file), row_group, first_row, bytes };
        pieces.push((bytes, Piece::Table(piece)));
        first_row += u64::try_from(group.num_rows()).unwrap_or(0);
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

/// Adds `input`, an Arrow IPC file.
pub(super) fn arrow_pieces(
    input: &InputFile,
    table: &TableColumns,
    pieces: &mut Vec<(u64, Piece)>,
) -> Result<()> {
    let reader = FileReader::try_new(input.open()?, None).map_err(|e| wrong(input, "Arrow", &e))?;
    let schema = reader.schema();
    let names = schema.fields().iter().map(|f| f.name().as_str());
    let filled = table.by_name(&shown(input.path()), names)?;
    let bytes = input.length()?;
    let piece = TablePiece::Arrow { input: input.clone(), filled, bytes };
    pieces.push((bytes, Piece::Table(piece)));
    Ok(())
}

impl TablePiece {
    /// Reads the piece into `sink`.
    pub(super) fn load(self, sink: &mut Sink) -> Result<()> {
        match self {
            Self::Parquet { file, row_group, mut first_row, bytes } => {
                for batch in file.row_group(row_group)? {
                    let batch = batch.map_err(|e| wrong(&file.input, "Parquet", e.as_ref()))?;
                    write(sink, &file.filled, &batch, file.input.path(), &mut first_row)?;
                }
                sink.read(bytes);
                Ok(())
            }
            Self::Arrow { input, filled, bytes } => {
                let mut first_row = 1;
                let reader =
                    FileReader::try_new(input.open()?, None).map_err(|e| wrong(&input, "Arrow", &e))?;
                for batch in reader {
                    let batch = batch.map_err(|e| wrong(&input, "Arrow", &e))?;
                    write(sink, &filled, &batch, input.path(), &mut first_row)?;
                }
                sink.read(bytes);
                Ok(())
            }
        }
    }
}

/// Rows of a file as they come.
type Batches = Box<dyn Iterator<Item = Result<RecordBatch, Box<dyn StdError>>>>;

fn boxed(error: impl StdError + 'static) -> Box<dyn StdError> {
    Box::new(error)
}

impl ParquetFile {
    /// The rows of one row group. Of an object each column is got whole, several at a time.
    fn row_group(&self, row_group: usize) -> Result<Batches> {
        let wrong = |e: ParquetError| wrong(&self.input, "Parquet", &e);
        let metadata = self.metadata.clone();
        let Some(object) = self.input.as_object() else {
            let file = self.input.open_local()?;
            let reader = ParquetRecordBatchReaderBuilder::new_with_metadata(file, metadata)
                .with_row_groups(vec![row_group])
                .with_batch_size(BATCH_ROWS)
                .build()
                .map_err(wrong)?;
            return Ok(Box::new(reader.map(|batch| batch.map_err(boxed))));
        };
        let mut stream = ParquetRecordBatchStreamBuilder::new_with_metadata(object.clone(), metadata)
            .with_row_groups(vec![row_group])
            .with_batch_size(BATCH_ROWS)
            .build()
            .map_err(wrong)?;
        let runtime = object.runtime().clone();
        Ok(Box::new(std::iter::from_fn(move || {
            runtime.block_on(stream.next()).map(|batch| batch.map_err(boxed))
        })))
    }
}

/// Hands on rows, the first of which is the file's row `first_row`, counted from 1.
fn write(
    sink: &mut Sink,
    filled: &[usize],
    batch: &RecordBatch,
    path: &Path,
    first_row: &mut u64,
) -> Result<()> {
    let first = *first_row;
    *first_row += batch.num_rows() as u64;
    let place = |row: usize| Ok(format!("{}, row {}", shown(path), first + row as u64));
    let (arrays, rows) = sink.readable(filled, batch.columns(), batch.num_rows(), &place)?;
    sink.write(filled, &arrays, rows).map_err(|e| in_file(e, path))
}

/// The error with the file's name as its detail, when it is about the data.
pub(super) fn in_file(error: Error, path: &Path) -> Error {
    match error.kind() {
        ErrorKind::InvalidInput | ErrorKind::ConstraintViolation if error.detail().is_none() => {
            error.map(|e| e.with_detail(format!("in file {}", shown(path))))
        }
        _ => error,
    }
}
