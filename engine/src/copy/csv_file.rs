//! CSV files as pieces of a COPY: header, ranges, records into batches.
//!
//! Owns: the header's meaning, where a piece begins and ends, the place named in errors. Does not own: the grammar (`csv`),
//! values (`rows`).

use std::io::Read;
use std::ops::Range;
use std::path::Path;
use std::sync::Arc;

use cairn_storage::ErrorKind;
use datafusion::arrow::array::ArrayRef;

use super::columns::TableColumns;
use super::csv::{Field, Grammar, Next, next_record};
use super::csv_split::split;
use super::from::{Piece, Sink, keep, shown};
use super::input::InputFile;
use super::is_tabbed;
use super::options::CopyOptions;
use super::rows::ColumnBuilder;
use super::text_file::TextFile;
use super::vectors;
use crate::dml::cut;
use crate::error::{Error, Result};

const BLOCK: usize = 1 << 20;
const BATCH_ROWS: usize = 8192;
/// Below this a file is one piece.
const SPLIT_BYTES_MIN: u64 = 4 << 20;
/// Longest record read.
const RECORD_BYTES_MAX: usize = 256 << 20;

/// One file.
struct CsvFile {
    text: TextFile,
    grammar: Grammar,
    /// The table's column each field fills.
    filled: Vec<usize>,
}

/// A range of one file that begins and ends between records.
pub(super) struct CsvPiece {
    file: Arc<CsvFile>,
    range: Range<u64>,
}

/// Adds the pieces of `input` with their weights.
pub(super) fn pieces(
    input: &InputFile,
    options: &CopyOptions,
    table: &TableColumns,
    workers: usize,
    pieces: &mut Vec<(u64, Piece)>,
) -> Result<()> {
    let len = input.length()?;
    let text = TextFile::new(input, options)?;
    let grammar = Grammar::new(options, is_tabbed(input.path()));
    let (filled, start) = header(&text, &grammar, options.header, table)?;
    let own_escape = grammar.escape != grammar.quote;
    let count = if len < SPLIT_BYTES_MIN || own_escape { 1 } else { workers as u64 };
    let quote = grammar.quote;
    let divisible = text.is_divisible();
    let file = Arc::new(CsvFile { text, grammar, filled });
    if !divisible {
        pieces.push((len, Piece::Csv(CsvPiece { file, range: start..u64::MAX })));
        return Ok(());
    }
    for range in split(input.path(), start.min(len), len, count, quote)? {
        let file = Arc::clone(&file);
        pieces.push((range.end - range.start, Piece::Csv(CsvPiece { file, range })));
    }
    Ok(())
}

/// What the fields fill, and where the first row begins.
fn header(
    text: &TextFile,
    grammar: &Grammar,
    wanted: Option<bool>,
    table: &TableColumns,
) -> Result<(Vec<usize>, u64)> {
    let path = text.path();
    let mut start = Vec::new();
    text.open_at(0)?.take(BLOCK as u64).read_to_end(&mut start).map_err(|e| text.error(e))?;
    let mark = if start.starts_with(b"\xEF\xBB\xBF") { 3 } else { 0 };
    let by_position = (table.loaded.clone(), mark as u64);
    if wanted == Some(false) || start.len() == mark {
        return Ok(by_position);
    }
    let mut fields = Vec::new();
    let next = match next_record(&start, mark, start.len() < BLOCK, grammar, &mut fields) {
        Next::Record(next) => next,
        _ if wanted.is_none() => return Ok(by_position),
        _ => return Err(malformed(path, 1, "the header line does not read")),
    };
    let names: Vec<String> = fields
        .iter()
        .map(|f| {
            f.text(&start, grammar).map(|t| String::from_utf8_lossy(&t).trim().to_owned()).unwrap_or_default()
        })
        .collect();
    let by_name = table.by_name(&shown(path), names.iter().map(String::as_str));
    match (by_name, wanted) {
        (Ok(filled), _) => Ok((filled, next as u64)),
        // Not told: a first line that names no column at all is a row.
        (Err(_), None)
            if names.len() == table.loaded.len()
                && !names.iter().any(|n| table.by_name("", std::iter::once(n.as_str())).is_ok()) =>
        {
            Ok(by_position)
        }
        (Err(error), _) => Err(error),
    }
}

fn malformed(path: &Path, line: u64, why: impl std::fmt::Display) -> Error {
    Error::new(ErrorKind::InvalidInput, format!("{}, line {line}: {why}", shown(path)))
        .map(|e| e.with_sqlstate("22P04"))
}

impl CsvPiece {
    /// Reads the range into `sink`.
    pub(super) fn load(self, sink: &mut Sink) -> Result<()> {
        let io = |e| self.file.text.error(e);
        let mut source = self.file.text.open_at(self.range.start)?.take(self.range.end - self.range.start);
        let def = &sink.table.def;
        let zone = sink.table.zone.as_deref();
        let builders = self.file.filled.iter().map(|i| ColumnBuilder::new(def, &def.columns[*i], zone));
        let mut rows =
            Rows { builders: builders.collect::<Result<_>>()?, kept: Vec::with_capacity(BATCH_ROWS) };
        let (mut buffer, mut base, mut fields) =
            (Vec::with_capacity(2 * BLOCK), self.range.start, Vec::new());
        loop {
            let read = (&mut source).take(BLOCK as u64).read_to_end(&mut buffer).map_err(io)?;
            sink.read(source.get_mut().newly_consumed());
            let last = source.limit() == 0 || read == 0;
            let used = self.records(&buffer, base, last, &mut fields, &mut rows, sink)?;
            if last {
                break;
            }
            buffer.drain(..used);
            base += used as u64;
            if buffer.len() > RECORD_BYTES_MAX {
                let line = self.file.text.line_of(base)?;
                return Err(malformed(
                    self.file.text.path(),
                    line,
                    "the record is longer than 256 MiB; a quote may be missing",
                ));
            }
        }
        rows.flush(&self.file.filled, sink)
    }

    /// Takes every whole record of `buffer`, which stands at `base` in the file; returns how many bytes they are.
    fn records(
        &self,
        buffer: &[u8],
        base: u64,
        last: bool,
        fields: &mut Vec<Field>,
        rows: &mut Rows,
        sink: &mut Sink,
    ) -> Result<usize> {
        let mut at = 0;
        while at < buffer.len() {
            match next_record(buffer, at, last, &self.file.grammar, fields) {
                Next::Incomplete => break,
                Next::Record(next) => {
                    self.record(buffer, base, at, fields, rows, sink)?;
                    at = next;
                }
                Next::Malformed(position, why, next) => {
                    sink.reject(|| self.grammar_error(buffer, base, position, why))?;
                    at = next;
                }
            }
            if rows.kept.len() == BATCH_ROWS {
                rows.flush(&self.file.filled, sink)?;
            }
        }
        Ok(at)
    }

    fn record(
        &self,
        buffer: &[u8],
        base: u64,
        at: usize,
        fields: &[Field],
        rows: &mut Rows,
        sink: &mut Sink,
    ) -> Result<()> {
        let wanted = self.file.filled.len();
        if fields.len() != wanted {
            if matches!(fields, [Field { start, end, quoted: false, .. }] if start == end) {
                return Ok(()); // A blank line.
            }
            return sink.reject(|| {
                let line = self.file.text.line_of(base + at as u64)?;
                Ok(malformed(
                    self.file.text.path(),
                    line,
                    format_args!("expected {wanted} fields, found {}", fields.len()),
                ))
            });
        }
        let mut bad = None;
        for (position, (field, builder)) in fields.iter().zip(&mut rows.builders).enumerate() {
            match field.text(buffer, &self.file.grammar) {
                None => {
                    if bad.is_none() && !sink.table.takes_null(self.file.filled[position]) {
                        bad = Some(Bad::Null(position));
                    }
                    builder.append_null();
                }
                Some(text) => {
                    if !builder.append(&text) && bad.is_none() {
                        bad = Some(Bad::Value(position));
                    }
                }
            }
        }
        rows.kept.push(bad.is_none());
        match bad {
            None => Ok(()),
            Some(bad) => {
                let table = Arc::clone(&sink.table);
                sink.reject(|| match bad {
                    Bad::Null(position) => self.null_error(base + at as u64, position, &table),
                    Bad::Value(position) => {
                        self.value_error(buffer, base, &fields[position], position, &table)
                    }
                })
            }
        }
    }

    fn grammar_error(&self, buffer: &[u8], base: u64, position: usize, why: &str) -> Result<Error> {
        let line = self.file.text.line_of(base + position as u64)?;
        let begin = buffer[..position].iter().rposition(|b| *b == b'\n').map_or(0, |p| p + 1);
        let column = String::from_utf8_lossy(&buffer[begin..position]).chars().count() + 1;
        Ok(malformed(self.file.text.path(), line, format_args!("{why} (character {column})")))
    }

    fn null_error(&self, offset: u64, position: usize, table: &TableColumns) -> Result<Error> {
        let line = self.file.text.line_of(offset)?;
        let place = format!("{}, line {line}", shown(self.file.text.path()));
        Ok(table.null_error(&place, self.file.filled[position]))
    }

    fn value_error(
        &self,
        buffer: &[u8],
        base: u64,
        field: &Field,
        position: usize,
        table: &TableColumns,
    ) -> Result<Error> {
        let line = self.file.text.line_of(base + field.start as u64)?;
        let column = &table.def.columns[self.file.filled[position]];
        let text = field.text(buffer, &self.file.grammar).unwrap_or_default();
        let Ok(text) = std::str::from_utf8(&text) else {
            return Ok(malformed(
                self.file.text.path(),
                line,
                format_args!("column \"{}\": the text is not valid UTF-8", column.name),
            )
            .map(|e| e.with_sqlstate("22021")));
        };
        let why = match vectors::problem(text, &table.def, column) {
            Some(why) => format!("column \"{}\": {why}", column.name),
            None => {
                format!("column \"{}\": \"{}\" is not a valid {}", column.name, cut(text), column.column_type)
            }
        };
        Ok(malformed(self.file.text.path(), line, why).map(|e| e.with_sqlstate("22P02")))
    }
}

/// Why a record is left out, and at which of its fields.
enum Bad {
    Null(usize),
    Value(usize),
}

/// The rows of the batch being filled.
struct Rows {
    builders: Vec<ColumnBuilder>,
    /// For each row whether it stays.
    kept: Vec<bool>,
}

impl Rows {
    fn flush(&mut self, filled: &[usize], sink: &mut Sink) -> Result<()> {
        let arrays: Vec<ArrayRef> =
            self.builders.iter_mut().map(ColumnBuilder::finish).collect::<Result<_>>()?;
        let kept = std::mem::take(&mut self.kept);
        if kept.contains(&false) {
            let (arrays, rows) = keep(&arrays, kept)?;
            return sink.write(filled, &arrays, rows);
        }
        sink.write(filled, &arrays, kept.len())
    }
}
