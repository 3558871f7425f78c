//! One file being written by COPY TO.
//!
//! Owns: the formats' writers, and that a finished file is on disk (fsync). Does not own: names and renames (`to_files`), when an object appears
//! (`to_objects`).

use std::fmt;
use std::fs::File;
use std::io::{self, BufWriter, Write};
use std::path::Path;

use cairn_storage::ErrorKind;
use datafusion::arrow::array::RecordBatch;
use datafusion::arrow::datatypes::SchemaRef;
use datafusion::arrow::error::ArrowError;
use datafusion::arrow::ipc::writer::FileWriter as IpcWriter;
use datafusion::parquet::arrow::ArrowWriter;
use datafusion::parquet::basic::{Compression as ParquetCompression, GzipLevel, ZstdLevel};
use datafusion::parquet::errors::ParquetError;
use datafusion::parquet::file::properties::WriterProperties;

use super::csv_write::CsvWriter;
use super::json::{NdjsonWriter, ndjson_writer, with_keys};
use super::text_file::TextWriter;
use super::{Compression, CopyOptions, Format};
use crate::error::{Error, Result};
use crate::stores::{ObjectUpload, store_error};

/// Where the bytes of a file go.
pub(super) enum OutputFile {
    /// To a file of this machine.
    Local(File),
    /// To an object.
    Object(Box<ObjectUpload>),
}

impl Write for OutputFile {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match self {
            Self::Local(file) => file.write(bytes),
            Self::Object(upload) => upload.write(bytes),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        match self {
            Self::Local(file) => file.flush(),
            Self::Object(upload) => upload.flush(),
        }
    }
}

impl fmt::Debug for OutputFile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Local(_) => "Local",
            Self::Object(_) => "Object",
        })
    }
}

/// A file of one format, open for rows.
pub(super) enum OpenFile {
    Csv(CsvWriter),
    Parquet(Box<ArrowWriter<BufWriter<OutputFile>>>),
    Ndjson(NdjsonWriter<TextWriter>),
    Arrow(Box<IpcWriter<BufWriter<OutputFile>>>),
}

impl OpenFile {
    /// Makes the file at `path`, which must not exist.
    pub(super) fn create(
        path: &Path,
        schema: &SchemaRef,
        format: Format,
        options: &CopyOptions,
    ) -> Result<Self> {
        let file = File::create_new(path)
            .map_err(|e| cairn_storage::Error::io(format!("creating '{}'", path.display()), e))?;
        Self::over(OutputFile::Local(file), path, schema, format, options)
    }

    /// Writes to `file`, which messages call `path`.
    pub(super) fn over(
        file: OutputFile,
        path: &Path,
        schema: &SchemaRef,
        format: Format,
        options: &CopyOptions,
    ) -> Result<Self> {
        let out = BufWriter::with_capacity(1 << 20, file);
        let text = |out| {
            let compression = options.text_compression(path)?;
            TextWriter::new(out, compression).map_err(|e| failed_io(path, e))
        };
        Ok(match format {
            Format::Csv => Self::Csv(CsvWriter::new(text(out)?, schema, options)),
            Format::Parquet => {
                let properties = WriterProperties::builder()
                    .set_compression(parquet_compression(options.compression.as_deref())?)
                    .build();
                let writer = ArrowWriter::try_new(out, schema.clone(), Some(properties))
                    .map_err(|e| failed_parquet(path, e))?;
                Self::Parquet(Box::new(writer))
            }
            Format::Ndjson => Self::Ndjson(ndjson_writer(text(out)?)),
            Format::Arrow => {
                let writer = IpcWriter::try_new(out, schema).map_err(|e| failed(path, e))?;
                Self::Arrow(Box::new(writer))
            }
        })
    }

    /// Appends rows.
    pub(super) fn write(&mut self, batch: &RecordBatch, path: &Path) -> Result<()> {
        match self {
            Self::Csv(writer) => writer.write(batch).map_err(|e| failed(path, e)),
            Self::Parquet(writer) => writer.write(batch).map_err(|e| failed_parquet(path, e)),
            Self::Ndjson(writer) => {
                with_keys(batch).and_then(|batch| writer.write(&batch)).map_err(|e| failed(path, e))
            }
            Self::Arrow(writer) => writer.write(batch).map_err(|e| failed(path, e)),
        }
    }

    /// Ends the file. Of this machine it is durable then; an object is still to appear.
    pub(super) fn finish(self, path: &Path) -> Result<OutputFile> {
        let out = match self {
            Self::Csv(writer) => writer.out.finish().map_err(|e| failed_io(path, e))?,
            Self::Parquet(writer) => writer.into_inner().map_err(|e| failed_parquet(path, e))?,
            Self::Ndjson(mut writer) => {
                writer.finish().map_err(|e| failed(path, e))?;
                writer.into_inner().finish().map_err(|e| failed_io(path, e))?
            }
            Self::Arrow(mut writer) => {
                writer.finish().map_err(|e| failed(path, e))?;
                writer.into_inner().map_err(|e| failed(path, e))?
            }
        };
        let file = out.into_inner().map_err(|e| failed_io(path, e.into_error()))?;
        if let OutputFile::Local(file) = &file {
            file.sync_all()
                .map_err(|e| cairn_storage::Error::io(format!("syncing '{}'", path.display()), e))?;
        }
        Ok(file)
    }
}

/// Refuses a compression the format does not have, before anything is written.
pub(super) fn check_compression(path: &Path, format: Format, options: &CopyOptions) -> Result<()> {
    match (format, options.compression.as_deref()) {
        (Format::Csv | Format::Ndjson, _) => options.text_compression(path).map(|_| ()),
        (_, None) if Compression::of(path) != Compression::None => {
            Err(Error::not_supported_yet(format!("a compressed {format} file as '{}'", path.display())))
        }
        (Format::Parquet, compression) => parquet_compression(compression).map(|_| ()),
        (Format::Arrow, None | Some("none" | "uncompressed")) => Ok(()),
        (Format::Arrow, Some(name)) => {
            Err(Error::not_supported_yet(format!("compression '{name}' of {format} files")))
        }
    }
}

fn parquet_compression(name: Option<&str>) -> Result<ParquetCompression> {
    match name {
        None | Some("zstd") => Ok(ParquetCompression::ZSTD(ZstdLevel::default())),
        Some("snappy") => Ok(ParquetCompression::SNAPPY),
        Some("lz4" | "lz4_raw") => Ok(ParquetCompression::LZ4_RAW),
        Some("gzip") => Ok(ParquetCompression::GZIP(GzipLevel::default())),
        Some("none" | "uncompressed") => Ok(ParquetCompression::UNCOMPRESSED),
        Some(other) => {
            Err(Error::new(ErrorKind::InvalidInput, format!("unknown Parquet compression \"{other}\"")).map(
                |e| e.with_sqlstate("22023").with_hint("compressions are zstd, snappy, lz4, gzip, none"),
            ))
        }
    }
}

fn failed(path: &Path, error: ArrowError) -> Error {
    match error {
        ArrowError::IoError(_, error) => failed_io(path, error),
        ArrowError::ExternalError(error) => failed_outside(path, error),
        other => unwritable(path, &other),
    }
}

fn failed_parquet(path: &Path, error: ParquetError) -> Error {
    match error {
        ParquetError::External(error) => failed_outside(path, error),
        other => unwritable(path, &other),
    }
}

fn failed_outside(path: &Path, error: Box<dyn std::error::Error + Send + Sync>) -> Error {
    match error.downcast::<io::Error>() {
        Ok(error) => failed_io(path, *error),
        Err(other) => unwritable(path, &other),
    }
}

/// The disk, by what can be done about it.
fn failed_io(path: &Path, error: io::Error) -> Error {
    if let Some(told) = store_error(&error) {
        return told;
    }
    cairn_storage::Error::io(format!("writing '{}'", path.display()), error).into()
}

fn unwritable(path: &Path, error: &dyn std::fmt::Display) -> Error {
    Error::new(ErrorKind::Unavailable, format!("writing '{}': {error}", path.display()))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    /// Whatever the format, a full disk is said as one, with the file.
    #[cfg(target_os = "linux")]
    #[test]
    fn a_full_disk_is_named() {
        use std::sync::Arc;

        use datafusion::arrow::array::{ArrayRef, Int64Array};
        let ids: ArrayRef = Arc::new(Int64Array::from_iter_values(0..100_000));
        let batch = RecordBatch::try_from_iter([("id", ids)]).unwrap();
        let path = Path::new("out.data");
        for format in [Format::Csv, Format::Ndjson, Format::Parquet, Format::Arrow] {
            for compression in [None, Some("gzip".to_owned())] {
                if format == Format::Arrow && compression.is_some() {
                    continue;
                }
                let options = CopyOptions { compression, ..CopyOptions::default() };
                let full = File::options().write(true).open("/dev/full").unwrap();
                let written =
                    OpenFile::over(OutputFile::Local(full), path, &batch.schema(), format, &options)
                        .and_then(|mut file| file.write(&batch, path).map(|()| file))
                        .and_then(|file| file.finish(path));
                let error = written.unwrap_err();
                assert_eq!(
                    (error.sqlstate(), error.kind()),
                    ("53100", ErrorKind::ResourceExhausted),
                    "{format}"
                );
                assert!(error.message().contains("out.data") && error.hint().is_some(), "{format}: {error}");
            }
        }
    }
}
