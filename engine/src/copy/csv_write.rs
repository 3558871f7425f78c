//! Writing CSV text.
//!
//! Owns: how values become fields: NULL unquoted, bytes in hexadecimal, lists and structs as JSON. Does not own: the file
//! (`write_file`).

use std::io::Write;

use datafusion::arrow::array::{Array, ArrayRef, RecordBatch};
use datafusion::arrow::datatypes::{DataType, FieldRef, SchemaRef};
use datafusion::arrow::error::ArrowError;
use datafusion::arrow::json::EncoderOptions;
use datafusion::arrow::json::writer::{NullableEncoder, make_encoder};
use datafusion::arrow::util::display::{ArrayFormatter, FormatOptions};

use super::CopyOptions;
use super::csv::Grammar;
use super::json::value_options;
use super::text_file::TextWriter;

/// CSV that COPY FROM reads back as it was: NULL unquoted, empty text quoted.
pub(super) struct CsvWriter {
    pub(super) out: TextWriter,
    grammar: Grammar,
    line: Vec<u8>,
}

impl CsvWriter {
    pub(super) fn new(out: TextWriter, schema: &SchemaRef, options: &CopyOptions) -> Self {
        let mut writer = Self { out, grammar: Grammar::new(options, false), line: Vec::new() };
        if options.has_header() {
            for (i, field) in schema.fields().iter().enumerate() {
                if i > 0 {
                    writer.line.push(writer.grammar.delimiter);
                }
                push_text(&mut writer.line, field.name().as_bytes(), &writer.grammar);
            }
            writer.line.push(b'\n');
        }
        writer
    }

    pub(super) fn write(&mut self, batch: &RecordBatch) -> Result<(), ArrowError> {
        let (plain, json) = (FormatOptions::default(), value_options());
        let schema = batch.schema();
        let mut cells = schema
            .fields()
            .iter()
            .zip(batch.columns())
            .map(|(field, column)| Cells::new(field, column, &plain, &json))
            .collect::<Result<Vec<_>, _>>()?;
        let mut text = Vec::new();
        for row in 0..batch.num_rows() {
            for (i, (column, cells)) in batch.columns().iter().zip(&mut cells).enumerate() {
                if i > 0 {
                    self.line.push(self.grammar.delimiter);
                }
                if column.is_null(row) {
                    self.line.extend_from_slice(&self.grammar.null);
                    continue;
                }
                text.clear();
                cells.write(row, &mut text)?;
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

/// How the values of one column are written.
enum Cells<'a> {
    Plain(ArrayFormatter<'a>),
    /// In hexadecimal behind `\\x`.
    Bytes(ArrayFormatter<'a>),
    /// Lists and structs, as JSON.
    Json(NullableEncoder<'a>),
}

impl<'a> Cells<'a> {
    fn new(
        field: &'a FieldRef,
        column: &'a ArrayRef,
        plain: &FormatOptions<'a>,
        json: &'a EncoderOptions,
    ) -> Result<Self, ArrowError> {
        Ok(match column.data_type() {
            nested if nested.is_nested() => Self::Json(make_encoder(field, column.as_ref(), json)?),
            bytes if is_bytes(bytes) => Self::Bytes(ArrayFormatter::try_new(column.as_ref(), plain)?),
            _ => Self::Plain(ArrayFormatter::try_new(column.as_ref(), plain)?),
        })
    }

    fn write(&mut self, row: usize, text: &mut Vec<u8>) -> Result<(), ArrowError> {
        match self {
            Self::Plain(formatter) => write!(text, "{}", formatter.value(row))?,
            Self::Bytes(formatter) => write!(text, "\\x{}", formatter.value(row))?,
            Self::Json(encoder) => encoder.encode(row, text),
        }
        Ok(())
    }
}

fn is_bytes(data_type: &DataType) -> bool {
    matches!(
        data_type,
        DataType::Binary | DataType::LargeBinary | DataType::BinaryView | DataType::FixedSizeBinary(_)
    )
}

fn push_text(line: &mut Vec<u8>, text: &[u8], grammar: &Grammar) {
    let special = |b: &u8| *b == grammar.delimiter || *b == grammar.quote || *b == b'\n' || *b == b'\r';
    if !text.is_empty() && text != grammar.null.as_slice() && !text.iter().any(special) {
        line.extend_from_slice(text);
        return;
    }
    line.push(grammar.quote);
    for &byte in text {
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
            push_text(&mut line, s.as_bytes(), &grammar);
            String::from_utf8(line).unwrap()
        };
        assert_eq!(text("plain"), "plain");
        assert_eq!(text(""), "\"\"");
        assert_eq!(text("a,\"b\""), "\"a,\"\"b\"\"\"");
    }
}
