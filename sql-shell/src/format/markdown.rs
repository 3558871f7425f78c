//! A Markdown table.

use std::io::{self, Write};

use cairn_engine::text::RowWriter;
use datafusion::arrow::array::RecordBatch;
use datafusion::arrow::datatypes::SchemaRef;

use super::{Layout, cell};

/// Writes rows as Markdown, without padding, so that they can stream.
pub(crate) struct MarkdownWriter {
    names: Vec<String>,
    right: Vec<bool>,
    layout: Layout,
    header_written: bool,
}

impl MarkdownWriter {
    pub(crate) fn new(schema: &SchemaRef, layout: Layout) -> Self {
        Self {
            names: schema.fields().iter().map(|f| escaped(f.name())).collect(),
            right: schema.fields().iter().map(|f| cell::is_number(f.data_type())).collect(),
            layout,
            header_written: false,
        }
    }

    fn write_header(&mut self, out: &mut dyn Write) -> io::Result<()> {
        if self.header_written {
            return Ok(());
        }
        self.header_written = true;
        writeln!(out, "| {} |", self.names.join(" | "))?;
        let rules: Vec<&str> = self.right.iter().map(|&right| if right { "---:" } else { ":---" }).collect();
        writeln!(out, "|{}|", rules.join("|"))
    }
}

fn escaped(text: &str) -> String {
    cell::printable(text).replace('|', "\\|").replace('\n', "<br>")
}

impl RowWriter for MarkdownWriter {
    fn batch(&mut self, batch: &RecordBatch, out: &mut dyn Write) -> io::Result<()> {
        self.write_header(out)?;
        let columns = cell::readable(batch)?;
        for row in 0..batch.num_rows() {
            for column in &columns {
                let value = column.value(row)?;
                write!(
                    out,
                    "| {} ",
                    value.as_deref().map_or_else(|| self.layout.wishes.null.to_string(), escaped)
                )?;
            }
            writeln!(out, "|")?;
        }
        Ok(())
    }

    fn finish(&mut self, out: &mut dyn Write) -> io::Result<()> {
        self.write_header(out)
    }
}
