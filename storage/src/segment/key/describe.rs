//! A key's values as text for error messages.

use arrow::array::{Array, ArrayRef, AsArray};
use arrow::datatypes::DataType;
use arrow::util::display::array_value_to_string;

/// Longest text shown of one value, in characters.
const VALUE_CHARS_MAX: usize = 64;

/// Row `row` of `columns` as in `(7, 'x')`; long values are cut. Panics past the end, as a slice does.
#[must_use]
pub fn describe(columns: &[ArrayRef], row: usize) -> String {
    let values: Vec<String> = columns.iter().map(|column| value(column, row)).collect();
    format!("({})", values.join(", "))
}

fn value(column: &ArrayRef, row: usize) -> String {
    if column.is_null(row) {
        return "NULL".to_owned();
    }
    if let Some(bytes) = column.as_binary_view_opt() {
        let bytes = bytes.value(row);
        let shown: String = bytes.iter().take(VALUE_CHARS_MAX / 2).map(|b| format!("{b:02x}")).collect();
        return format!("'\\x{shown}{}'", if bytes.len() * 2 > VALUE_CHARS_MAX { "…" } else { "" });
    }
    let text = array_value_to_string(column, row).unwrap_or_else(|_| "?".to_owned());
    let quoted = matches!(
        column.data_type(),
        DataType::Utf8
            | DataType::LargeUtf8
            | DataType::Utf8View
            | DataType::Date32
            | DataType::Time64(_)
            | DataType::Timestamp(_, _)
    );
    let mut shown: String = text.chars().take(VALUE_CHARS_MAX).collect();
    if shown.len() < text.len() {
        shown.push('…');
    }
    if quoted { format!("'{}'", shown.replace('\'', "''")) } else { shown }
}
