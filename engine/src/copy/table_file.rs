//! Parquet and Arrow files as pieces of a COPY.
//!
//! Owns: reading them in parts and their errors, with the file and the row. Does not own: casts to the
//! table's types (`columns`).

use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use cairn_storage::ErrorKind;
use datafusion::arrow::array::RecordBatch;
use datafusion::arrow::datatypes::{DataType, FieldRef, Schema, SchemaRef};
use datafusion::arrow::error::ArrowError;
use datafusion::arrow::ipc::reader::FileReader;
use datafusion::parquet::arrow::arrow_reader::{
    ArrowReaderMetadata, ArrowReaderOptions, ParquetRecordBatchReaderBuilder,
};

use super::columns::TableColumns;
use super::from::{Piece, Sink, length, shown};
use crate::error::{Error, Result};

const BATCH_ROWS: usize = 8192;

/// A part of a file.
pub(super) enum TablePiece {
    /// One row group.
    Parquet { file: Arc<ParquetFile>, row_group: usize, first_row: u64, bytes: u64 },
    /// A whole Arrow file.
    Arrow { path: PathBuf, filled: Vec<usize>, bytes: u64 },
}

/// An opened Parquet file.
pub(super) struct ParquetFile {
    path: PathBuf,
    metadata: ArrowReaderMetadata,
    filled: Vec<usize>,
}

pub(super) fn unreadable(path: &Path, what: &str, error: &dyn std::fmt::Display) -> Error {
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

impl TablePiece {
    /// Reads the piece into `sink`.
    pub(super) fn load(self, sink: &mut Sink) -> Result<()> {
        match self {
            Self::Parquet { file, row_group, mut first_row, bytes } => {
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
                    write(sink, &file.filled, &batch, &file.path, &mut first_row)?;
                }
                sink.read(bytes);
                Ok(())
            }
            Self::Arrow { path, filled, bytes } => {
                let wrong = |e: &ArrowError| unreadable(&path, "Arrow", e);
                let mut first_row = 1;
                for batch in FileReader::try_new(open(&path)?, None).map_err(|e| wrong(&e))? {
                    write(sink, &filled, &batch.map_err(|e| wrong(&e))?, &path, &mut first_row)?;
                }
                sink.read(bytes);
                Ok(())
            }
        }
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
