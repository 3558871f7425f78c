//! One value as text, for people.
//!
//! Owns: which spelling each type has for people, and making text safe for a terminal. Does not own: the spelling for programs
//! (`cairn_engine::text`).

use std::borrow::Cow;
use std::io;

use cairn_engine::short_text_at;
use cairn_engine::text::{Column, columns};
use datafusion::arrow::array::RecordBatch;
use datafusion::arrow::datatypes::DataType;
use datafusion::arrow::util::display::FormatOptions;
use unicode_width::UnicodeWidthChar;

/// What NULL looks like to people.
pub(crate) const NULL: &str = "NULL";

/// For people: a blank between date and time.
const READABLE: FormatOptions<'static> = FormatOptions::new()
    .with_display_error(false)
    .with_null(NULL)
    .with_datetime_format(Some("%Y-%m-%d %H:%M:%S%.f"))
    .with_timestamp_format(Some("%Y-%m-%d %H:%M:%S%.f"))
    .with_timestamp_tz_format(Some("%Y-%m-%d %H:%M:%S%.f%:z"));

/// The batch's columns for people.
pub(crate) fn readable(batch: &RecordBatch) -> io::Result<Vec<Column<'_>>> {
    columns(batch, &READABLE, short_text_at)
}

/// Whether values of the type stand at the right of their column.
pub(crate) fn is_number(data_type: &DataType) -> bool {
    match data_type {
        DataType::Dictionary(_, values) => is_number(values),
        other => other.is_numeric(),
    }
}

/// `text` without anything a terminal would obey: tabs become blanks, other control characters `\x1b`. Line ends stay.
pub(crate) fn printable(text: &str) -> Cow<'_, str> {
    if !text.chars().any(|c| c.is_control() && c != '\n') {
        return Cow::Borrowed(text);
    }
    let mut safe = String::with_capacity(text.len() + 8);
    for c in text.chars() {
        match c {
            '\n' => safe.push(c),
            '\t' => safe.push_str("    "),
            '\r' => safe.push_str("\\r"),
            c if c.is_control() => safe.push_str(&format!("\\x{:02x}", u32::from(c))),
            c => safe.push(c),
        }
    }
    Cow::Owned(safe)
}

/// The longest start of `text` that is at most `width` columns wide, with `…` in its last one when something was cut.
pub(crate) fn cut(text: &str, width: usize) -> Cow<'_, str> {
    let mut used = 0;
    // Where the text would be cut if it turns out too long: the last place that leaves a column for `…`.
    let mut fits = 0;
    for (at, c) in text.char_indices() {
        let next = used + c.width().unwrap_or(0);
        if next > width {
            return Cow::Owned(format!("{}…", &text[..fits]));
        }
        if next < width {
            fits = at + c.len_utf8();
        }
        used = next;
    }
    Cow::Borrowed(text)
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use cairn_engine::text::exact;
    use datafusion::arrow::array::{ArrayRef, FixedSizeListArray};
    use datafusion::arrow::datatypes::Float32Type;

    use super::*;

    #[test]
    fn cutting_counts_columns() {
        assert_eq!(cut("abc", 3), "abc");
        assert_eq!(cut("abcd", 3), "ab…");
        assert_eq!(cut("日本語", 6), "日本語");
        assert_eq!(cut("日本語", 5), "日本…");
        assert_eq!(cut("日本語", 4), "日…");
        assert_eq!(cut("abc", 0), "…");
    }

    #[test]
    fn vectors_are_short_for_people_and_whole_for_programs() {
        let components = (0..9).map(|i| Some(i as f32 / 8.0)).collect::<Vec<_>>();
        let vectors =
            FixedSizeListArray::from_iter_primitive::<Float32Type, _, _>([Some(components), None], 9);
        let batch = RecordBatch::try_from_iter([("v", Arc::new(vectors) as ArrayRef)]).expect("one column");
        let texts = |columns: Vec<Column<'_>>| [0, 1].map(|row| columns[0].value(row).expect("text"));
        let short = texts(readable(&batch).expect("columns"));
        assert_eq!(short, [Some("[0,0.125,0.25,0.375, … 9 dimensions]".to_owned()), None]);
        let whole = texts(exact(&batch).expect("columns"));
        assert_eq!(whole, [Some("[0,0.125,0.25,0.375,0.5,0.625,0.75,0.875,1]".to_owned()), None]);
    }

    #[test]
    fn terminals_obey_nothing_in_a_value() {
        assert_eq!(printable("plain\ntext"), "plain\ntext");
        assert_eq!(printable("\x1b[2J\x07\u{9b}"), "\\x1b[2J\\x07\\x9b");
    }
}
