//! How often a text is cut, or something is put into it: places that depend on what the text says.

use datafusion::arrow::datatypes::DataType;
use datafusion::common::{Result, ScalarValue};
use datafusion::logical_expr::ColumnarValue;

use super::column::{Column, lengths};

/// Whether flags of a regular expression can have `g` among them.
pub(super) fn may_be_global(flags: &ColumnarValue) -> bool {
    match flags {
        ColumnarValue::Scalar(value) => value.try_as_str().flatten().is_some_and(|flags| flags.contains('g')),
        ColumnarValue::Array(_) => true,
    }
}

/// How often a replacement may refer to what matched: `$1`, `\1`.
pub(super) fn references(to: &ColumnarValue) -> Result<Column<u64>> {
    Ok(match to {
        ColumnarValue::Scalar(value) => {
            let text = value.try_as_str().flatten().unwrap_or_default();
            Column::Same(text.bytes().filter(|byte| matches!(byte, b'$' | b'\\')).count() as u64)
        }
        ColumnarValue::Array(_) => match lengths(to)? {
            Column::Same(bytes) => Column::Same(bytes / 2),
            Column::Each(rows) => Column::Each(rows.into_iter().map(|bytes| bytes / 2).collect()),
        },
    })
}

/// What is put in place of matches: bytes of it, and references to what matched among them.
pub(super) struct Replacement {
    /// Bytes.
    pub(super) of: u64,
    /// How many there are.
    pub(super) references: u64,
}

impl Replacement {
    /// Bytes at most of `rows` texts of `bytes` bytes together. What matches is put in once for each reference to it, and matches
    /// do not overlap; they are also between characters, before the first and behind the last. A reference has two bytes itself,
    /// which are not put in.
    pub(super) fn size(&self, bytes: u64, rows: u64, matches_all: bool) -> u64 {
        let matches = if matches_all { bytes.saturating_add(rows) } else { rows };
        let copies = bytes.saturating_mul(self.references.saturating_add(1));
        let plain = self.of.saturating_sub(self.references.saturating_mul(2));
        copies.saturating_add(matches.saturating_mul(plain))
    }
}

/// Bytes that `replace(text, from, to)` makes in each row; places are counted where all that there may be are too many.
pub(super) fn replaced(
    text: &ColumnarValue,
    from: &ColumnarValue,
    to: &ColumnarValue,
    rows: usize,
    limit: u64,
) -> Result<Vec<u64>> {
    let (texts, froms, tos) = (lengths(text)?, lengths(from)?, lengths(to)?);
    (0..rows)
        .map(|row| {
            let (bytes, to) = (texts.at(row), tos.at(row));
            let size = |places: u64| bytes.saturating_add(places.saturating_mul(to));
            // The empty text is nowhere.
            let most = bytes.checked_div(froms.at(row)).unwrap_or(0);
            if size(most) <= limit {
                return Ok(size(most));
            }
            let (text, from) = (value_at(text, row)?, value_at(from, row)?);
            Ok(match (text.try_as_str().flatten(), from.try_as_str().flatten()) {
                (Some(text), Some(from)) => size(text.matches(from).count() as u64),
                _ => size(most),
            })
        })
        .collect()
}

/// Bytes of a text in a list beside its own.
pub(super) fn element_entry(text: &ColumnarValue) -> u64 {
    if text.data_type() == DataType::Utf8View { 16 } else { 8 }
}

/// Bytes that `string_to_array(text, delimiter)` makes in each row, counted likewise.
pub(super) fn split(
    text: &ColumnarValue,
    delimiter: &ColumnarValue,
    rows: usize,
    limit: u64,
) -> Result<Vec<u64>> {
    let (texts, delimiters, entry) = (lengths(text)?, lengths(delimiter)?, element_entry(text));
    (0..rows)
        .map(|row| {
            let bytes = texts.at(row);
            let size = |places: u64| bytes.saturating_add(places.saturating_add(1).saturating_mul(entry));
            // NULL is between all characters.
            let most = bytes.checked_div(delimiters.at(row)).unwrap_or(bytes);
            if size(most) <= limit {
                return Ok(size(most));
            }
            let (text, delimiter) = (value_at(text, row)?, value_at(delimiter, row)?);
            Ok(match (text.try_as_str().flatten(), delimiter.try_as_str().flatten()) {
                (Some(_), Some("")) => size(0),
                (Some(text), Some(delimiter)) => size(text.matches(delimiter).count() as u64),
                (Some(text), None) => size(text.chars().count() as u64),
                (None, _) => size(most),
            })
        })
        .collect()
}

fn value_at(arg: &ColumnarValue, row: usize) -> Result<ScalarValue> {
    match arg {
        ColumnarValue::Scalar(value) => Ok(value.clone()),
        ColumnarValue::Array(array) => ScalarValue::try_from_array(array, row),
    }
}
