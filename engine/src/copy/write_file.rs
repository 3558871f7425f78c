//! One file being written by COPY TO.
//!
//! Owns: the formats' writers and that a finished file is on disk (fsync). Does not own: names and renames (`to`).

use std::fs::File;
use std::io::{BufWriter, Write};
use std::path::Path;
use std::sync::Arc;

use cairn_storage::ErrorKind;
use cairn_udfs::vector;
use datafusion::arrow::array::{Array, ArrayRef, AsArray, RecordBatch, StringViewArray};
use datafusion::arrow::datatypes::{DataType, SchemaRef};
use datafusion::arrow::error::ArrowError;
use datafusion::arrow::ipc::writer::FileWriter as IpcWriter;
use datafusion::arrow::json::LineDelimitedWriter;
use datafusion::arrow::util::display::{ArrayFormatter, FormatOptions};
use datafusion::parquet::arrow::ArrowWriter;
use datafusion::parquet::basic::{Compression, GzipLevel, ZstdLevel};
use datafusion::parquet::file::properties::WriterProperties;

use super::csv::Grammar;
use super::{CopyOptions, Format};
use crate::error::{Error, Result};

/// A file of one format, open for rows.
pub(super) enum OpenFile {
    Csv(CsvWriter),
    Parquet(Box<ArrowWriter<BufWriter<File>>>),
    Ndjson(LineDelimitedWriter<BufWriter<File>>),
    Arrow(Box<IpcWriter<BufWriter<File>>>),
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
        let out = BufWriter::with_capacity(1 << 20, file);
        Ok(match format {
            Format::Csv => Self::Csv(CsvWriter::new(out, schema, options)?),
            Format::Parquet => {
                let properties = WriterProperties::builder()
                    .set_compression(parquet_compression(options.compression.as_deref())?)
                    .build();
                let writer = ArrowWriter::try_new(out, schema.clone(), Some(properties))
                    .map_err(|e| failed(path, &e))?;
                Self::Parquet(Box::new(writer))
            }
            Format::Ndjson => Self::Ndjson(LineDelimitedWriter::new(out)),
            Format::Arrow => {
                let writer = IpcWriter::try_new(out, schema).map_err(|e| failed(path, &e))?;
                Self::Arrow(Box::new(writer))
            }
        })
    }

    /// Appends rows.
    pub(super) fn write(&mut self, batch: &RecordBatch, path: &Path) -> Result<()> {
        match self {
            Self::Csv(writer) => writer.write(batch).map_err(|e| failed(path, &e)),
            Self::Parquet(writer) => writer.write(batch).map_err(|e| failed(path, &e)),
            Self::Ndjson(writer) => writer.write(batch).map_err(|e| failed(path, &e)),
            Self::Arrow(writer) => writer.write(batch).map_err(|e| failed(path, &e)),
        }
    }

    /// Ends the file and makes it durable.
    pub(super) fn finish(self, path: &Path) -> Result<()> {
        let wrong = |e: &dyn std::fmt::Display| failed(path, e);
        let out = match self {
            Self::Csv(writer) => writer.out,
            Self::Parquet(writer) => writer.into_inner().map_err(|e| wrong(&e))?,
            Self::Ndjson(mut writer) => {
                writer.finish().map_err(|e| wrong(&e))?;
                writer.into_inner()
            }
            Self::Arrow(mut writer) => {
                writer.finish().map_err(|e| wrong(&e))?;
                writer.into_inner().map_err(|e| wrong(&e))?
            }
        };
        let file = out.into_inner().map_err(|e| wrong(e.error()))?;
        Ok(file
            .sync_all()
            .map_err(|e| cairn_storage::Error::io(format!("syncing '{}'", path.display()), e))?)
    }
}

/// Refuses a compression the format does not have, before anything is written.
pub(super) fn check_compression(format: Format, options: &CopyOptions) -> Result<()> {
    match (format, options.compression.as_deref()) {
        (_, None | Some("none" | "uncompressed")) => Ok(()),
        (Format::Parquet, compression) => parquet_compression(compression).map(|_| ()),
        (format, Some(name)) => {
            Err(Error::not_supported_yet(format!("compression '{name}' of {format} files")))
        }
    }
}

fn parquet_compression(name: Option<&str>) -> Result<Compression> {
    match name {
        None | Some("zstd") => Ok(Compression::ZSTD(ZstdLevel::default())),
        Some("snappy") => Ok(Compression::SNAPPY),
        Some("lz4" | "lz4_raw") => Ok(Compression::LZ4_RAW),
        Some("gzip") => Ok(Compression::GZIP(GzipLevel::default())),
        Some("none" | "uncompressed") => Ok(Compression::UNCOMPRESSED),
        Some(other) => {
            Err(Error::new(ErrorKind::InvalidInput, format!("unknown Parquet compression \"{other}\"")).map(
                |e| e.with_sqlstate("22023").with_hint("compressions are zstd, snappy, lz4, gzip, none"),
            ))
        }
    }
}

fn failed(path: &Path, error: &dyn std::fmt::Display) -> Error {
    Error::new(ErrorKind::Unavailable, format!("writing '{}': {error}", path.display()))
}

/// CSV that COPY FROM reads back as it was: NULL unquoted, empty text quoted.
pub(super) struct CsvWriter {
    out: BufWriter<File>,
    grammar: Grammar,
    line: Vec<u8>,
}

impl CsvWriter {
    fn new(out: BufWriter<File>, schema: &SchemaRef, options: &CopyOptions) -> Result<Self> {
        let mut writer = Self { out, grammar: Grammar::new(options, false), line: Vec::new() };
        if options.has_header() {
            for (i, field) in schema.fields().iter().enumerate() {
                if i > 0 {
                    writer.line.push(writer.grammar.delimiter);
                }
                push_text(&mut writer.line, field.name(), &writer.grammar);
            }
            writer.line.push(b'\n');
        }
        Ok(writer)
    }

    fn write(&mut self, batch: &RecordBatch) -> Result<(), ArrowError> {
        let options = FormatOptions::default();
        let columns: Vec<ArrayRef> = batch.columns().iter().map(plain).collect();
        let formatters = columns
            .iter()
            .map(|c| ArrayFormatter::try_new(c.as_ref(), &options))
            .collect::<Result<Vec<_>, _>>()?;
        let mut text = String::new();
        for row in 0..batch.num_rows() {
            for (i, (column, formatter)) in columns.iter().zip(&formatters).enumerate() {
                if i > 0 {
                    self.line.push(self.grammar.delimiter);
                }
                if column.is_null(row) {
                    self.line.extend_from_slice(&self.grammar.null);
                    continue;
                }
                text.clear();
                if is_bytes(column.data_type()) {
                    text.push_str("\\x");
                }
                formatter.value(row).write(&mut text)?;
                push_text(&mut self.line, &text, &self.grammar);
            }
            self.line.push(b'\n');
            if self.line.len() > 1 << 16 {
                self.out.write_all(&self.line)?;
                self.line.clear();
            }
        }
        self.out.write_all(&self.line)?;
        self.line.clear();
        Ok(())
    }
}

/// Vectors as their text, which reads back to the same bits; anything else as it is.
fn plain(column: &ArrayRef) -> ArrayRef {
    match vector::dimensions(column.data_type()) {
        Some(_) => Arc::new(vector::text_of(column.as_fixed_size_list()).collect::<StringViewArray>()),
        None => Arc::clone(column),
    }
}

fn is_bytes(data_type: &DataType) -> bool {
    matches!(
        data_type,
        DataType::Binary | DataType::LargeBinary | DataType::BinaryView | DataType::FixedSizeBinary(_)
    )
}

fn push_text(line: &mut Vec<u8>, text: &str, grammar: &Grammar) {
    let special = |b: &u8| *b == grammar.delimiter || *b == grammar.quote || *b == b'\n' || *b == b'\r';
    if !text.is_empty() && text.as_bytes() != grammar.null.as_slice() && !text.as_bytes().iter().any(special)
    {
        line.extend_from_slice(text.as_bytes());
        return;
    }
    line.push(grammar.quote);
    for byte in text.bytes() {
        if byte == grammar.quote || byte == grammar.escape {
            line.push(grammar.escape);
        }
        line.push(byte);
    }
    line.push(grammar.quote);
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn text_is_quoted_where_it_must_be() {
        let grammar = Grammar::new(&CopyOptions::default(), false);
        let text = |s: &str| {
            let mut line = Vec::new();
            push_text(&mut line, s, &grammar);
            String::from_utf8(line).unwrap()
        };
        assert_eq!(text("plain"), "plain");
        assert_eq!(text(""), "\"\"");
        assert_eq!(text("a,\"b\""), "\"a,\"\"b\"\"\"");
    }
}
