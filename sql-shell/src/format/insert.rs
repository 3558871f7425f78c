//! INSERT statements, which make the rows again wherever the table is.
//!
//! Owns: how a value is written as a literal. A value that SQL has no literal for is a text that INSERT casts.

use std::io::{self, Write};

use cairn_engine::text::{RowWriter, failed};
use cairn_engine::{dimensions, is_whole, text_at};
use datafusion::arrow::array::{Array, AsArray, RecordBatch};
use datafusion::arrow::datatypes::{DataType, SchemaRef};
use datafusion::arrow::util::display::{ArrayFormatter, FormatOptions};

use crate::names::quoted;

/// Rows of one statement.
const ROWS_MAX: usize = 100;
/// ISO 8601, as all formats for programs.
const EXACT: FormatOptions<'static> = FormatOptions::new().with_display_error(false).with_null("NULL");

/// Writes rows as statements.
pub(super) struct InsertWriter {
    /// `INSERT INTO t (a, b) VALUES`
    begin: String,
}

impl InsertWriter {
    /// Into `table`, as SQL writes its name.
    pub(super) fn new(schema: &SchemaRef, table: &str) -> Self {
        let columns: Vec<String> = schema.fields().iter().map(|field| quoted(field.name())).collect();
        Self { begin: format!("INSERT INTO {table} ({}) VALUES", columns.join(", ")) }
    }
}

impl RowWriter for InsertWriter {
    fn batch(&mut self, batch: &RecordBatch, out: &mut dyn Write) -> io::Result<()> {
        for row in 0..batch.num_rows() {
            let values = batch.columns().iter().map(|column| literal(column.as_ref(), row));
            let values = values.collect::<io::Result<Vec<_>>>()?.join(", ");
            let begin = if row % ROWS_MAX == 0 { self.begin.as_str() } else { "" };
            let is_last = (row + 1) % ROWS_MAX == 0 || row + 1 == batch.num_rows();
            writeln!(out, "{begin}{}  ({values}){}", if begin.is_empty() { "" } else { "\n" }, end(is_last))?;
        }
        Ok(())
    }

    fn finish(&mut self, _out: &mut dyn Write) -> io::Result<()> {
        Ok(())
    }
}

fn end(is_last: bool) -> &'static str {
    if is_last { ";" } else { "," }
}

fn literal(array: &dyn Array, row: usize) -> io::Result<String> {
    if array.is_null(row) {
        return Ok("NULL".to_owned());
    }
    Ok(match array.data_type() {
        DataType::Null => "NULL".to_owned(),
        DataType::Boolean if array.as_boolean().value(row) => "TRUE".to_owned(),
        DataType::Boolean => "FALSE".to_owned(),
        DataType::Binary | DataType::LargeBinary | DataType::BinaryView | DataType::FixedSizeBinary(_) => {
            format!("X{}", text(&plain(array, row)?))
        }
        DataType::Interval(_) => format!("INTERVAL {}", text(&plain(array, row)?)),
        DataType::List(_) => list(array.as_list::<i32>().value(row).as_ref())?,
        DataType::LargeList(_) => list(array.as_list::<i64>().value(row).as_ref())?,
        DataType::FixedSizeList(..) => {
            let lists = array.as_fixed_size_list();
            let is_vector = dimensions(array.data_type()).is_some() && is_whole(lists);
            match is_vector.then(|| text_at(lists, row)).flatten() {
                Some(vector) => text(&vector),
                None => list(lists.value(row).as_ref())?,
            }
        }
        DataType::Struct(fields) => {
            let columns = array.as_struct().columns();
            let part = |(name, column): (&str, &dyn Array)| -> io::Result<String> {
                Ok(format!("{}, {}", text(name), literal(column, row)?))
            };
            let named = fields.iter().zip(columns).map(|(f, c)| (f.name().as_str(), c.as_ref()));
            format!("named_struct({})", named.map(part).collect::<io::Result<Vec<_>>>()?.join(", "))
        }
        number if number.is_numeric() => {
            let written = plain(array, row)?;
            // Neither NaN nor the infinities are numbers as SQL writes them.
            if written.ends_with(|c: char| c.is_ascii_digit()) { written } else { text(&written) }
        }
        _ => text(&plain(array, row)?),
    })
}

fn list(elements: &dyn Array) -> io::Result<String> {
    let values = (0..elements.len()).map(|row| literal(elements, row)).collect::<io::Result<Vec<_>>>()?;
    Ok(format!("[{}]", values.join(", ")))
}

/// The value without quotes.
fn plain(array: &dyn Array, row: usize) -> io::Result<String> {
    let text = ArrayFormatter::try_new(array, &EXACT).map_err(failed)?;
    text.value(row).try_to_string().map_err(failed)
}

fn text(value: &str) -> String {
    format!("'{}'", value.replace('\'', "''"))
}
