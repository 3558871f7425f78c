//! CSV and TSV.

use std::borrow::Cow;
use std::io::{self, Write};

use datafusion::arrow::array::RecordBatch;
use datafusion::arrow::datatypes::SchemaRef;

use super::{RowWriter, value};

/// Which of the two.
#[derive(Clone, Copy)]
enum Dialect {
    Csv,
    Tsv,
}

/// Writes rows with a delimiter, after one header line or none.
pub struct DelimitedWriter {
    dialect: Dialect,
    names: Vec<String>,
    header_written: bool,
}

impl DelimitedWriter {
    /// RFC 4180 with a header; NULL is empty, an empty text is `""`.
    #[must_use]
    pub fn csv(schema: &SchemaRef) -> Self {
        Self::new(Dialect::Csv, schema)
    }

    /// Tab-separated with a header; NULL is `\N`, tabs and line ends are escaped.
    #[must_use]
    pub fn tsv(schema: &SchemaRef) -> Self {
        Self::new(Dialect::Tsv, schema)
    }

    fn new(dialect: Dialect, schema: &SchemaRef) -> Self {
        let names = schema.fields().iter().map(|f| f.name().clone()).collect();
        Self { dialect, names, header_written: false }
    }

    /// The same without the header line.
    #[must_use]
    pub fn without_header(self) -> Self {
        Self { header_written: true, ..self }
    }

    fn write_header(&mut self, out: &mut dyn Write) -> io::Result<()> {
        if self.header_written {
            return Ok(());
        }
        self.header_written = true;
        let names: Vec<_> = self.names.iter().map(|name| self.dialect.value(Some(name))).collect();
        writeln!(out, "{}", names.join(self.dialect.delimiter()))
    }
}

impl Dialect {
    fn delimiter(self) -> &'static str {
        match self {
            Self::Csv => ",",
            Self::Tsv => "\t",
        }
    }

    fn value(self, value: Option<&str>) -> Cow<'_, str> {
        match (self, value) {
            (Self::Csv, None) => Cow::Borrowed(""),
            (Self::Csv, Some(text)) if text.is_empty() || text.contains([',', '"', '\n', '\r']) => {
                Cow::Owned(format!("\"{}\"", text.replace('"', "\"\"")))
            }
            (Self::Tsv, None) => Cow::Borrowed("\\N"),
            (Self::Tsv, Some(text)) if text.contains(['\\', '\t', '\n', '\r']) => Cow::Owned(
                text.replace('\\', "\\\\").replace('\t', "\\t").replace('\n', "\\n").replace('\r', "\\r"),
            ),
            (Self::Csv | Self::Tsv, Some(text)) => Cow::Borrowed(text),
        }
    }
}

impl RowWriter for DelimitedWriter {
    fn batch(&mut self, batch: &RecordBatch, out: &mut dyn Write) -> io::Result<()> {
        self.write_header(out)?;
        let columns = value::exact(batch)?;
        for row in 0..batch.num_rows() {
            for (i, column) in columns.iter().enumerate() {
                if i > 0 {
                    out.write_all(self.dialect.delimiter().as_bytes())?;
                }
                out.write_all(self.dialect.value(column.value(row)?.as_deref()).as_bytes())?;
            }
            out.write_all(b"\n")?;
        }
        Ok(())
    }

    fn finish(&mut self, out: &mut dyn Write) -> io::Result<()> {
        self.write_header(out)
    }
}
