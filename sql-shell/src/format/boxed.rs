//! A table with borders.
//!
//! Memory of [`BoxWriter`]: at most `rows_shown_max` rows as text: the first half, and the last half in a ring.

use std::collections::VecDeque;
use std::io::{self, Write};

use cairn_engine::text::{Column, RowWriter};
use datafusion::arrow::array::RecordBatch;
use datafusion::arrow::datatypes::SchemaRef;
use unicode_width::UnicodeWidthStr;

use super::cell;
use super::{Layout, Pass, plan};
use crate::quantity;
use crate::style::Paint;

/// No column is made narrower than this to fit the terminal.
const COLUMN_WIDTH_MIN: usize = 8;

type Row = Vec<Option<String>>;

/// What borders are made of.
pub(super) struct Border {
    across: &'static str,
    down: &'static str,
    /// Left, middle and right of the rules at the top, under the names, and at the bottom.
    rules: [[&'static str; 3]; 3],
}

/// Of lines.
pub(super) const LINES: Border =
    Border {
        across: "─", down: "│", rules: [["┌", "┬", "┐"], ["├", "┼", "┤"], ["└", "┴", "┘"]]
    };
/// Of characters that every place can show.
pub(super) const ASCII: Border =
    Border { across: "-", down: "|", rules: [["+", "+", "+"], ["+", "+", "+"], ["+", "+", "+"]] };

/// Names of the columns and how their rows are drawn.
struct Frame {
    names: Vec<String>,
    right: Vec<bool>,
    border: &'static Border,
    layout: Layout,
}

/// Gathers rows and draws the box at the end.
pub(super) struct BoxWriter {
    frame: Frame,
    head: Vec<Row>,
    tail: VecDeque<Row>,
    rows: u64,
}

impl BoxWriter {
    pub(super) fn new(schema: &SchemaRef, border: &'static Border, layout: Layout) -> Self {
        Self { frame: Frame::new(schema, border, layout), head: Vec::new(), tail: VecDeque::new(), rows: 0 }
    }

    /// Most rows at the end of a long result.
    fn tail_max(&self) -> usize {
        self.frame.layout.wishes.rows_shown_max / 2
    }

    /// Most rows at its beginning.
    fn head_max(&self) -> usize {
        self.frame.layout.wishes.rows_shown_max - self.tail_max()
    }

    fn keep(&mut self, row: Row) {
        self.rows += 1;
        if self.head.len() < self.head_max() {
            self.head.push(row);
            return;
        }
        self.tail.push_back(row);
        if self.tail.len() > self.tail_max() {
            self.tail.pop_front();
        }
    }

    fn shown(&self) -> usize {
        self.head.len() + self.tail.len()
    }

    fn write_plan(&self, out: &mut dyn Write) -> io::Result<()> {
        for row in self.head.iter().chain(&self.tail) {
            let [Some(kind), Some(text)] = row.as_slice() else { continue };
            writeln!(out, "{}", self.frame.layout.style.paint(Paint::Strong, kind))?;
            plan::write(text, &self.frame.layout, out)?;
        }
        Ok(())
    }

    /// How many columns are shown.
    fn write_table(&self, out: &mut dyn Write) -> io::Result<usize> {
        let mut widths = self.frame.name_widths();
        for row in self.head.iter().chain(&self.tail) {
            self.frame.widen(&mut widths, row);
        }
        let columns = self.frame.fit(&widths);
        self.frame.write_head(out, &columns)?;
        for row in &self.head {
            self.frame.write_row(out, &columns, row, false)?;
        }
        if self.rows > self.shown() as u64 {
            let gap: Row = vec![Some("⋮".to_owned()); self.frame.names.len()];
            self.frame.write_row(out, &columns, &gap, false)?;
        }
        for row in &self.tail {
            self.frame.write_row(out, &columns, row, false)?;
        }
        self.frame.write_rule(out, &columns, 2)?;
        Ok(shown_of(&columns))
    }
}

/// Draws every row of a result, in two passes: how wide is each column, then the rows.
pub(super) fn whole(
    schema: &SchemaRef,
    border: &'static Border,
    layout: Layout,
    pass: &mut Pass<'_>,
    out: &mut dyn Write,
) -> io::Result<()> {
    let frame = Frame::new(schema, border, layout);
    if frame.is_plan() {
        let mut rows = BoxWriter { frame, head: Vec::new(), tail: VecDeque::new(), rows: 0 };
        pass(&mut |batch| rows.batch(batch, out))?;
        return rows.finish(out);
    }
    let mut widths = frame.name_widths();
    pass(&mut |batch| {
        each_row(batch, &mut |row| {
            frame.widen(&mut widths, &row);
            Ok(())
        })
    })?;
    let columns = frame.fit(&widths);
    frame.write_head(out, &columns)?;
    let mut rows = 0;
    pass(&mut |batch| {
        each_row(batch, &mut |row| {
            rows += 1;
            frame.write_row(out, &columns, &row, false)
        })
    })?;
    frame.write_rule(out, &columns, 2)?;
    frame.write_footer(out, rows, rows, shown_of(&columns))
}

fn each_row(batch: &RecordBatch, take: &mut dyn FnMut(Row) -> io::Result<()>) -> io::Result<()> {
    let columns = cell::readable(batch)?;
    for row in 0..batch.num_rows() {
        take(cells(&columns, row)?)?;
    }
    Ok(())
}

fn cells(columns: &[Column<'_>], row: usize) -> io::Result<Row> {
    let text = |column: &Column<'_>| -> io::Result<Option<String>> {
        Ok(column.value(row)?.map(|text| cell::printable(&text).into_owned()))
    };
    columns.iter().map(text).collect()
}

/// Columns of the result among those drawn.
fn shown_of(columns: &[Shown]) -> usize {
    columns.iter().filter(|c| c.source.is_some()).count()
}

impl Frame {
    fn new(schema: &SchemaRef, border: &'static Border, layout: Layout) -> Self {
        Self {
            names: schema.fields().iter().map(|f| cell::printable(f.name()).replace('\n', " ")).collect(),
            right: schema.fields().iter().map(|f| cell::is_number(f.data_type())).collect(),
            border,
            layout,
        }
    }

    /// EXPLAIN's answer is read as a tree, not as a table.
    fn is_plan(&self) -> bool {
        self.names == ["plan_type", "plan"]
    }

    fn name_widths(&self) -> Vec<usize> {
        self.names.iter().map(|n| n.width()).collect()
    }

    /// Makes the columns as wide as the values of `row`.
    fn widen(&self, widths: &mut [usize], row: &Row) {
        for (width, value) in widths.iter_mut().zip(row) {
            let lines = value.as_deref().unwrap_or(&self.layout.wishes.null).lines();
            *width = lines.map(|l| l.width()).max().unwrap_or(0).max(*width);
        }
    }

    fn fit(&self, natural: &[usize]) -> Vec<Shown> {
        let columns = fit(natural, &self.right, self.layout.width);
        if self.layout.scrolls && shown_of(&columns) < natural.len() {
            return fit(natural, &self.right, None);
        }
        columns
    }

    fn write_head(&self, out: &mut dyn Write, columns: &[Shown]) -> io::Result<()> {
        let names: Row = self.names.iter().cloned().map(Some).collect();
        self.write_rule(out, columns, 0)?;
        self.write_row(out, columns, &names, true)?;
        self.write_rule(out, columns, 1)
    }

    fn write_rule(&self, out: &mut dyn Write, columns: &[Shown], which: usize) -> io::Result<()> {
        let [left, middle, right] = self.border.rules[which];
        let parts: Vec<String> = columns.iter().map(|c| self.border.across.repeat(c.width + 2)).collect();
        let rule = format!("{left}{}{right}", parts.join(middle));
        writeln!(out, "{}", self.layout.style.paint(Paint::Faint, &rule))
    }

    fn write_row(&self, out: &mut dyn Write, columns: &[Shown], row: &Row, heading: bool) -> io::Result<()> {
        let bar = self.layout.style.paint(Paint::Faint, self.border.down);
        let value = |c: &Shown| c.source.map_or(Some("…"), |i| row[i].as_deref());
        let height =
            columns.iter().map(|c| value(c).map_or(1, |v| v.lines().count())).max().unwrap_or(1).max(1);
        for line in 0..height {
            write!(out, "{bar}")?;
            for column in columns {
                let value = value(column);
                let paint = match (heading, value) {
                    (true, _) => Some(Paint::Strong),
                    (false, None) => Some(Paint::Faint),
                    (false, Some(_)) => None,
                };
                // NULL and empty text have one line.
                let text = match value {
                    None if line == 0 => &*self.layout.wishes.null,
                    None => "",
                    Some(v) => v.lines().nth(line).unwrap_or(""),
                };
                let text = cell::cut(text, column.width);
                let gap = " ".repeat(column.width.saturating_sub(text.width()));
                let text = paint.map_or_else(|| text.to_string(), |p| self.layout.style.paint(p, &text));
                if column.right {
                    write!(out, " {gap}{text} {bar}")?;
                } else {
                    write!(out, " {text}{gap} {bar}")?;
                }
            }
            writeln!(out)?;
        }
        Ok(())
    }

    fn write_footer(
        &self,
        out: &mut dyn Write,
        rows: u64,
        rows_shown: u64,
        columns_shown: usize,
    ) -> io::Result<()> {
        let mut remarks = Vec::new();
        if rows > rows_shown {
            remarks.push(format!("{} shown", quantity::count(rows_shown)));
        }
        if columns_shown < self.names.len() {
            remarks.push(format!("{columns_shown} of {} columns shown", self.names.len()));
        }
        let remarks = if remarks.is_empty() { String::new() } else { format!(" ({})", remarks.join(", ")) };
        writeln!(out, "{}{remarks}", quantity::rows(rows))
    }
}

impl RowWriter for BoxWriter {
    fn batch(&mut self, batch: &RecordBatch, _out: &mut dyn Write) -> io::Result<()> {
        let columns = cell::readable(batch)?;
        // Rows that can neither be among the first nor the last are counted, not formatted.
        let tail_max = self.tail_max();
        let head_room = self.head_max().saturating_sub(self.head.len());
        for row in 0..batch.num_rows() {
            if row >= head_room && row + tail_max < batch.num_rows() {
                self.rows += 1;
                continue;
            }
            self.keep(cells(&columns, row)?);
        }
        Ok(())
    }

    fn finish(&mut self, out: &mut dyn Write) -> io::Result<()> {
        if self.frame.is_plan() {
            return self.write_plan(out);
        }
        let columns_shown = self.write_table(out)?;
        self.frame.write_footer(out, self.rows, self.shown() as u64, columns_shown)
    }
}

/// One drawn column.
#[derive(Debug, PartialEq, Eq)]
struct Shown {
    /// Its place in the result; None for the column that stands for those left out.
    source: Option<usize>,
    width: usize,
    right: bool,
}

/// Chooses widths: as wide as the values; in a terminal text columns are narrowed, the widest first, and when that is
/// not enough columns in the middle are left out.
fn fit(natural: &[usize], right: &[bool], terminal: Option<usize>) -> Vec<Shown> {
    let mut columns: Vec<Shown> = natural
        .iter()
        .zip(right)
        .enumerate()
        .map(|(i, (&width, &right))| Shown { source: Some(i), width, right })
        .collect();
    let Some(terminal) = terminal else { return columns };
    loop {
        narrow(&mut columns, terminal);
        if total(&columns) <= terminal || columns.len() <= 2 {
            break;
        }
        leave_one_out(&mut columns);
    }
    // One or two columns that still are too wide, such as a long number, are cut like text.
    while total(&columns) > terminal && columns.iter().any(|c| c.width > 1) {
        if let Some(widest) = columns.iter_mut().max_by_key(|c| c.width) {
            widest.width -= 1;
        }
    }
    columns
}

fn total(columns: &[Shown]) -> usize {
    columns.iter().map(|c| c.width + 3).sum::<usize>() + 1
}

fn narrow(columns: &mut [Shown], terminal: usize) {
    while total(columns) > terminal {
        let text = columns.iter_mut().filter(|c| !c.right && c.width > COLUMN_WIDTH_MIN);
        match text.max_by_key(|c| c.width) {
            Some(widest) => widest.width -= 1,
            None => return,
        }
    }
}

/// Takes away the column after the middle, leaving one `…` column there.
fn leave_one_out(columns: &mut Vec<Shown>) {
    match columns.iter().position(|c| c.source.is_none()) {
        None => {
            let middle = columns.len() / 2;
            columns[middle] = Shown { source: None, width: 1, right: false };
        }
        Some(at) => {
            // The longer side loses one; equal sides lose on the right.
            let victim = if at > columns.len() - 1 - at { at - 1 } else { at + 1 };
            columns.remove(victim);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_gives_way_before_numbers() {
        let columns = fit(&[10, 40, 20], &[true, false, false], Some(50));
        let widths: Vec<usize> = columns.iter().map(|c| c.width).collect();
        assert_eq!(widths, [10, 15, 15]);
    }

    #[test]
    fn columns_in_the_middle_give_way_last() {
        let columns = fit(&[10; 20], &[true; 20], Some(80));
        assert!(total(&columns) <= 80);
        assert_eq!(columns[0].source, Some(0));
        assert_eq!(columns.last().map(|c| c.source), Some(Some(19)));
        assert_eq!(columns.iter().filter(|c| c.source.is_none()).count(), 1);
    }

    #[test]
    fn nothing_is_cut_without_a_terminal() {
        assert_eq!(fit(&[500, 500], &[false, true], None).iter().map(|c| c.width).sum::<usize>(), 1000);
        assert!(total(&fit(&[500, 500], &[false, true], Some(20))) <= 20);
        assert!(total(&fit(&[500], &[true], Some(20))) <= 20);
    }
}
