//! Results as text.
//!
//! Owns: the output formats for people, and which there are. Does not own: those for programs (`cairn_engine::text`), where the
//! bytes go, or when.
//! Memory: every format but `box` and `table` writes each batch as it comes; those two keep a bounded number of rows, or go over the
//! rows twice ([`whole`]).

mod boxed;
mod cell;
mod insert;
mod markdown;
mod plan;
mod vertical;

use std::io::{self, Write};
use std::sync::Arc;

use cairn_engine::text::{DelimitedWriter, JsonWriter, RowWriter};
use clap::ValueEnum;
use datafusion::arrow::array::RecordBatch;
use datafusion::arrow::datatypes::SchemaRef;

use crate::style::Style;

pub(crate) use cell::{cut, is_number, printable, readable};

/// How results are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Format {
    /// A table with borders; long results show their first and last rows.
    #[value(alias = "duckbox")]
    Box,
    /// The same with borders of + - |, for places that show nothing else.
    #[value(alias = "ascii")]
    Table,
    /// RFC 4180 with a header; NULL is empty, an empty string is "".
    Csv,
    /// Tab-separated with a header; NULL is \N, tabs and line ends are escaped.
    Tsv,
    /// One array of objects.
    Json,
    /// One object a line.
    #[value(alias = "jsonlines")]
    Ndjson,
    /// A Markdown table.
    Markdown,
    /// One line a column.
    #[value(alias = "line")]
    Vertical,
    /// INSERT statements, into the table that `.mode insert TABLE` names.
    Insert,
}

impl Format {
    /// The format's name on the command line.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Box => "box",
            Self::Table => "table",
            Self::Csv => "csv",
            Self::Tsv => "tsv",
            Self::Json => "json",
            Self::Ndjson => "ndjson",
            Self::Markdown => "markdown",
            Self::Vertical => "vertical",
            Self::Insert => "insert",
        }
    }

    /// Whether programs read it: then standard output holds rows and nothing else.
    pub(crate) fn is_for_programs(self) -> bool {
        match self {
            Self::Csv | Self::Tsv | Self::Json | Self::Ndjson | Self::Insert => true,
            Self::Box | Self::Table | Self::Vertical | Self::Markdown => false,
        }
    }

    /// Every format's name.
    pub(crate) fn names() -> impl Iterator<Item = &'static str> {
        Self::value_variants().iter().map(|format| format.name())
    }
}

/// What a format may know about where it is shown, and about the user's wishes.
#[derive(Clone, Debug)]
pub(crate) struct Layout {
    /// Columns of the terminal; None: nothing is cut.
    pub(crate) width: Option<usize>,
    /// Whether more columns than the terminal has can be reached: then none of the result's is left out.
    pub(crate) scrolls: bool,
    /// Colours of the stream.
    pub(crate) style: Style,
    /// The user's wishes.
    pub(crate) wishes: Wishes,
}

/// What a user can say about every result.
#[derive(Clone, Debug)]
pub(crate) struct Wishes {
    /// Most rows a box shows.
    pub(crate) rows_shown_max: usize,
    /// What NULL looks like to people.
    pub(crate) null: Arc<str>,
    /// Whether CSV and TSV begin with the names of the columns.
    pub(crate) headers: bool,
    /// The table that INSERT statements name.
    pub(crate) insert_into: Arc<str>,
}

impl Default for Wishes {
    fn default() -> Self {
        Self {
            rows_shown_max: ROWS_SHOWN_MAX,
            null: Arc::from(cell::NULL),
            headers: true,
            insert_into: Arc::from("\"table\""),
        }
    }
}

/// Rows a box shows unless `.maxrows` says otherwise.
const ROWS_SHOWN_MAX: usize = 1000;

/// A writer for results of `schema`.
pub(crate) fn writer(format: Format, schema: &SchemaRef, layout: Layout) -> Box<dyn RowWriter> {
    let headers = layout.wishes.headers;
    let delimited = |writer: DelimitedWriter| if headers { writer } else { writer.without_header() };
    match format {
        Format::Box => Box::new(boxed::BoxWriter::new(schema, &boxed::LINES, layout)),
        Format::Table => Box::new(boxed::BoxWriter::new(schema, &boxed::ASCII, layout)),
        Format::Csv => Box::new(delimited(DelimitedWriter::csv(schema))),
        Format::Tsv => Box::new(delimited(DelimitedWriter::tsv(schema))),
        Format::Json => Box::new(JsonWriter::array(schema)),
        Format::Ndjson => Box::new(JsonWriter::lines(schema)),
        Format::Markdown => Box::new(markdown::MarkdownWriter::new(schema, layout)),
        Format::Vertical => Box::new(vertical::VerticalWriter::new(schema, layout)),
        Format::Insert => Box::new(insert::InsertWriter::new(schema, &layout.wishes.insert_into)),
    }
}

/// Goes over all batches, from the first on.
pub(crate) type Pass<'a> = dyn FnMut(&mut dyn FnMut(&RecordBatch) -> io::Result<()>) -> io::Result<()> + 'a;

/// Writes a whole result, however many rows it has, in bounded memory: `pass` goes over its rows once or twice.
///
/// # Errors
/// Those of `out` and `pass`; a value that has no text.
pub(crate) fn whole(
    format: Format,
    schema: &SchemaRef,
    layout: Layout,
    pass: &mut Pass<'_>,
    out: &mut dyn Write,
) -> io::Result<()> {
    match format {
        Format::Box => boxed::whole(schema, &boxed::LINES, layout, pass, out),
        Format::Table => boxed::whole(schema, &boxed::ASCII, layout, pass, out),
        Format::Csv
        | Format::Tsv
        | Format::Json
        | Format::Ndjson
        | Format::Markdown
        | Format::Vertical
        | Format::Insert => {
            let mut rows = writer(format, schema, layout);
            pass(&mut |batch| rows.batch(batch, out))?;
            rows.finish(out)
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use std::sync::Arc;

    use datafusion::arrow::array::{
        ArrayRef, BinaryArray, BooleanArray, Date32Array, Decimal128Array, Float64Array, Int64Array,
        Int64Builder, ListBuilder, RecordBatch, StringArray, StructArray, TimestampMicrosecondArray,
        UInt64Array,
    };
    use datafusion::arrow::datatypes::{DataType, Field};

    use super::*;

    fn list() -> ArrayRef {
        let mut lists = ListBuilder::new(Int64Builder::new());
        lists.append_value([Some(1), None]);
        lists.append_null();
        Arc::new(lists.finish())
    }

    fn structs() -> ArrayRef {
        let names: ArrayRef = Arc::new(StringArray::from(vec![Some("x\"y"), None]));
        let flags: ArrayRef = Arc::new(BooleanArray::from(vec![true, false]));
        Arc::new(StructArray::from(vec![
            (Arc::new(Field::new("name", DataType::Utf8, true)), names),
            (Arc::new(Field::new("flag", DataType::Boolean, true)), flags),
        ]))
    }

    fn every_type() -> RecordBatch {
        let decimal = Decimal128Array::from(vec![Some(-105), None]).with_precision_and_scale(38, 2).unwrap();
        let time = TimestampMicrosecondArray::from(vec![Some(1_500_000), None]);
        RecordBatch::try_from_iter_with_nullable(vec![
            ("i", Arc::new(Int64Array::from(vec![Some(i64::MIN), None])) as ArrayRef, true),
            ("u", Arc::new(UInt64Array::from(vec![Some(u64::MAX), None])) as ArrayRef, true),
            ("f", Arc::new(Float64Array::from(vec![Some(0.1), Some(f64::NAN)])) as ArrayRef, true),
            ("d", Arc::new(decimal) as ArrayRef, true),
            ("s", Arc::new(StringArray::from(vec![Some(""), None])) as ArrayRef, true),
            ("b", Arc::new(BinaryArray::from(vec![Some(&b"\x00\xff"[..]), None])) as ArrayRef, true),
            ("day", Arc::new(Date32Array::from(vec![Some(0), None])) as ArrayRef, true),
            ("at", Arc::new(time.clone()) as ArrayRef, true),
            ("utc", Arc::new(time.with_timezone("UTC")) as ArrayRef, true),
            ("l", list(), true),
            ("t", structs(), true),
        ])
        .unwrap()
    }

    fn texts() -> RecordBatch {
        RecordBatch::try_from_iter(vec![
            ("id", Arc::new(Int64Array::from(vec![1, 20, 300])) as ArrayRef),
            ("title", Arc::new(StringArray::from(vec![Some("a,\"b\""), Some("日本"), None])) as ArrayRef),
            ("note", Arc::new(StringArray::from(vec!["x|y", "two\nlines", "tab\there\x1b[31m"])) as ArrayRef),
        ])
        .unwrap()
    }

    fn written(format: Format, batch: &RecordBatch, width: Option<usize>) -> String {
        written_from(format, std::slice::from_ref(batch), width, 1000)
    }

    fn layout(width: Option<usize>, rows_shown_max: usize) -> Layout {
        let wishes = Wishes { rows_shown_max, ..Wishes::default() };
        Layout { width, scrolls: false, style: Style::PLAIN, wishes }
    }

    fn written_from(
        format: Format,
        batches: &[RecordBatch],
        width: Option<usize>,
        rows_shown_max: usize,
    ) -> String {
        let layout = layout(width, rows_shown_max);
        let mut out = Vec::new();
        let mut rows = writer(format, &batches[0].schema(), layout);
        for batch in batches {
            rows.batch(batch, &mut out).unwrap();
        }
        rows.finish(&mut out).unwrap();
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn csv_keeps_values_exact_and_null_apart() {
        assert_eq!(
            written(Format::Csv, &every_type(), None),
            "i,u,f,d,s,b,day,at,utc,l,t\n\
             -9223372036854775808,18446744073709551615,0.1,-1.05,\"\",00ff,1970-01-01,1970-01-01T00:00:01.500,\
             1970-01-01T00:00:01.500Z,\"[1, NULL]\",\"{name: x\"\"y, flag: true}\"\n\
             ,,NaN,,,,,,,,\"{name: NULL, flag: false}\"\n"
        );
        assert_eq!(
            written(Format::Csv, &texts(), None),
            "id,title,note\n1,\"a,\"\"b\"\"\",x|y\n20,日本,\"two\nlines\"\n300,,tab\there\x1b[31m\n"
        );
    }

    #[test]
    fn tsv_escapes() {
        assert_eq!(
            written(Format::Tsv, &texts(), None),
            "id\ttitle\tnote\n1\ta,\"b\"\tx|y\n20\t日本\ttwo\\nlines\n300\t\\N\ttab\\there\x1b[31m\n"
        );
    }

    #[test]
    fn json_is_json() {
        let text = written(Format::Json, &every_type(), None);
        let value: serde_json::Value = serde_json::from_str(&text).unwrap();
        assert_eq!(value[0]["i"], serde_json::json!(i64::MIN));
        assert_eq!(value[0]["u"], serde_json::json!(u64::MAX));
        assert_eq!(value[0]["l"], serde_json::json!([1, null]));
        assert_eq!(value[0]["t"], serde_json::json!({"name": "x\"y", "flag": true}));
        assert_eq!(value[0]["b"], serde_json::json!("00ff"));
        assert_eq!(value[0]["at"], serde_json::json!("1970-01-01T00:00:01.500"));
        assert_eq!(value[0]["s"], serde_json::json!(""));
        assert!(text.contains("\"d\":-1.05"), "{text}");
        assert_eq!(value[1]["f"], serde_json::json!("NaN"));
        assert_eq!(value[1]["i"], serde_json::Value::Null);
        assert_eq!(value.as_array().map(Vec::len), Some(2));
    }

    #[test]
    fn ndjson_is_one_object_a_line() {
        let text = written(Format::Ndjson, &texts(), None);
        let lines: Vec<serde_json::Value> = text.lines().map(|l| serde_json::from_str(l).unwrap()).collect();
        assert_eq!(lines[1], serde_json::json!({"id": 20, "title": "日本", "note": "two\nlines"}));
        assert_eq!(lines[2]["note"], "tab\there\u{1b}[31m");
    }

    #[test]
    fn an_empty_result_is_still_a_result() {
        let empty = texts().slice(0, 0);
        assert_eq!(written(Format::Json, &empty, None), "[]\n");
        assert_eq!(written(Format::Ndjson, &empty, None), "");
        assert_eq!(written(Format::Csv, &empty, None), "id,title,note\n");
        assert!(written(Format::Box, &empty, None).ends_with("0 rows\n"));
        assert_eq!(written(Format::Vertical, &empty, None), "0 rows\n");
    }

    #[test]
    fn a_box_aligns_by_the_width_on_the_screen() {
        assert_eq!(
            written(Format::Box, &texts(), None),
            "┌─────┬───────┬─────────────────────┐\n\
             │  id │ title │ note                │\n\
             ├─────┼───────┼─────────────────────┤\n\
             │   1 │ a,\"b\" │ x|y                 │\n\
             │  20 │ 日本  │ two                 │\n\
             │     │       │ lines               │\n\
             │ 300 │ NULL  │ tab    here\\x1b[31m │\n\
             └─────┴───────┴─────────────────────┘\n\
             3 rows\n"
        );
    }

    #[test]
    fn a_box_fits_the_terminal() {
        let text = written(Format::Box, &texts(), Some(30));
        for line in text.lines() {
            assert!(unicode_width::UnicodeWidthStr::width(line) <= 30, "{line}");
        }
        assert!(text.contains('…'), "{text}");
        assert!(text.contains(" 300 "), "{text}");
    }

    #[test]
    fn a_box_shows_the_first_and_last_rows() {
        let numbers = |range: std::ops::Range<i64>| {
            RecordBatch::try_from_iter(vec![("n", Arc::new(Int64Array::from_iter_values(range)) as ArrayRef)])
                .unwrap()
        };
        let text = written_from(Format::Box, &[numbers(0..700), numbers(700..1400)], None, 4);
        let rows: Vec<&str> = text.lines().skip(3).collect();
        assert_eq!(
            rows,
            ["│    0 │", "│    1 │", "│    ⋮ │", "│ 1398 │", "│ 1399 │", "└──────┘", "1,400 rows (4 shown)"]
        );
        let exact = written_from(Format::Box, &[numbers(0..4)], None, 4);
        assert!(exact.ends_with("4 rows\n") && !exact.contains('⋮'), "{exact}");
    }

    #[test]
    fn a_whole_box_has_every_row_and_the_same_columns() {
        let batches = [texts(), texts().slice(0, 2)];
        let expected = written_from(Format::Box, &batches, Some(30), 1000);
        let mut out = Vec::new();
        let mut passes = 0;
        whole(
            Format::Box,
            &texts().schema(),
            layout(Some(30), 2),
            &mut |each| {
                passes += 1;
                batches.iter().try_for_each(&mut *each)
            },
            &mut out,
        )
        .unwrap();
        assert_eq!(String::from_utf8(out).unwrap(), expected);
        assert_eq!(passes, 2);
    }

    #[test]
    fn a_table_has_plain_borders() {
        assert_eq!(
            written(Format::Table, &texts().slice(0, 2), None),
            "+----+-------+-------+\n\
             | id | title | note  |\n\
             +----+-------+-------+\n\
             |  1 | a,\"b\" | x|y   |\n\
             | 20 | 日本  | two   |\n\
             |    |       | lines |\n\
             +----+-------+-------+\n\
             2 rows\n"
        );
    }

    #[test]
    fn wishes_are_heard() {
        let wishes = Wishes { null: Arc::from("·"), headers: false, ..Wishes::default() };
        let shown = |format| {
            let layout = Layout { width: None, scrolls: false, style: Style::PLAIN, wishes: wishes.clone() };
            let mut out = Vec::new();
            let mut rows = writer(format, &texts().schema(), layout);
            rows.batch(&texts().slice(2, 1), &mut out).unwrap();
            rows.finish(&mut out).unwrap();
            String::from_utf8(out).unwrap()
        };
        assert_eq!(shown(Format::Csv), "300,,tab\there\x1b[31m\n");
        for format in [Format::Box, Format::Table, Format::Vertical, Format::Markdown] {
            assert!(shown(format).contains('·') && !shown(format).contains("NULL"), "{format:?}");
        }
    }

    #[test]
    fn a_result_that_scrolls_leaves_no_column_out() {
        let columns: Vec<(String, ArrayRef)> = (0..30)
            .map(|i| (format!("column_{i}"), Arc::new(Int64Array::from(vec![i])) as ArrayRef))
            .collect();
        let batch = RecordBatch::try_from_iter(columns).unwrap();
        let shown = |scrolls| {
            let layout = Layout { scrolls, ..layout(Some(80), 1000) };
            let mut out = Vec::new();
            let mut rows = writer(Format::Box, &batch.schema(), layout);
            rows.batch(&batch, &mut out).unwrap();
            rows.finish(&mut out).unwrap();
            String::from_utf8(out).unwrap()
        };
        assert!(shown(false).contains("of 30 columns shown"));
        assert!(shown(true).contains("column_15") && shown(true).ends_with("1 row\n"));
    }

    #[test]
    fn inserts_are_statements() {
        let text = written(Format::Insert, &every_type(), None);
        assert_eq!(
            text,
            "INSERT INTO \"table\" (i, u, f, d, s, b, day, at, utc, l, t) VALUES\n  \
             (-9223372036854775808, 18446744073709551615, 0.1, -1.05, '', X'00ff', '1970-01-01', \
             '1970-01-01T00:00:01.500', '1970-01-01T00:00:01.500Z', [1, NULL], named_struct('name', 'x\"y', 'flag', TRUE)),\n  \
             (NULL, NULL, 'NaN', NULL, NULL, NULL, NULL, NULL, NULL, NULL, named_struct('name', NULL, 'flag', FALSE));\n"
        );
        assert_eq!(written(Format::Insert, &texts().slice(0, 0), None), "");
    }

    #[test]
    fn a_plan_is_shown_as_a_tree() {
        let batch = RecordBatch::try_from_iter(vec![
            ("plan_type", Arc::new(StringArray::from(vec!["logical_plan"])) as ArrayRef),
            ("plan", Arc::new(StringArray::from(vec!["Projection: a\n  TableScan: t"])) as ArrayRef),
        ])
        .unwrap();
        let text = written(Format::Box, &batch, None);
        assert_eq!(text, "logical_plan\n  Projection: a\n  └─ TableScan: t\n");
    }

    #[test]
    fn vertical_and_markdown() {
        assert_eq!(
            written(Format::Vertical, &texts().slice(1, 2), None),
            "─[ 1 ]───\n\
             id    │ 20\n\
             title │ 日本\n\
             note  │ two\n\
             \x20     │ lines\n\
             ─[ 2 ]───\n\
             id    │ 300\n\
             title │ NULL\n\
             note  │ tab    here\\x1b[31m\n\
             2 rows\n"
        );
        assert_eq!(
            written(Format::Markdown, &texts(), None),
            "| id | title | note |\n|---:|:---|:---|\n| 1 | a,\"b\" | x\\|y |\n| 20 | 日本 | two<br>lines |\n\
             | 300 | NULL | tab    here\\x1b[31m |\n"
        );
    }
}
