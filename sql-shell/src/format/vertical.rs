//! One line a column, for wide rows.

use std::io::{self, Write};

use cairn_engine::text::RowWriter;
use datafusion::arrow::array::RecordBatch;
use datafusion::arrow::datatypes::SchemaRef;
use unicode_width::UnicodeWidthStr;

use super::Layout;
use super::cell;
use crate::quantity;
use crate::style::Paint;

/// Writes rows one under the other.
pub(crate) struct VerticalWriter {
    /// Names, padded to one width.
    names: Vec<String>,
    width: usize,
    layout: Layout,
    rows: u64,
}

impl VerticalWriter {
    pub(crate) fn new(schema: &SchemaRef, layout: Layout) -> Self {
        let names: Vec<String> =
            schema.fields().iter().map(|f| cell::printable(f.name()).replace('\n', " ")).collect();
        let width = names.iter().map(|n| n.width()).max().unwrap_or(0);
        let padded = names.iter().map(|n| format!("{n}{}", " ".repeat(width - n.width()))).collect();
        Self { names: padded, width, layout, rows: 0 }
    }
}

impl RowWriter for VerticalWriter {
    fn batch(&mut self, batch: &RecordBatch, out: &mut dyn Write) -> io::Result<()> {
        let style = self.layout.style;
        let columns = cell::readable(batch)?;
        for row in 0..batch.num_rows() {
            self.rows += 1;
            let heading = format!("─[ {} ]", quantity::count(self.rows));
            let rule = "─".repeat((self.width + 4).saturating_sub(heading.width()));
            writeln!(out, "{}", style.paint(Paint::Faint, &format!("{heading}{rule}")))?;
            for (name, column) in self.names.iter().zip(&columns) {
                let name = style.paint(Paint::Strong, name);
                let Some(value) = column.value(row)? else {
                    writeln!(out, "{name} │ {}", style.paint(Paint::Faint, &self.layout.wishes.null))?;
                    continue;
                };
                let value = cell::printable(&value);
                let mut lines = value.lines();
                writeln!(out, "{name} │ {}", lines.next().unwrap_or(""))?;
                for line in lines {
                    writeln!(out, "{} │ {line}", " ".repeat(self.width))?;
                }
            }
        }
        Ok(())
    }

    fn finish(&mut self, out: &mut dyn Write) -> io::Result<()> {
        writeln!(out, "{}", quantity::rows(self.rows))
    }
}
