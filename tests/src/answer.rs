//! The answer of one statement as text.
//!
//! Owns: how values are written in scripts and between the processes of a test. NULL is `NULL`, an empty
//! text `(empty)`, everything else Arrow's text form. Does not own: running statements (`connection`).

use std::fmt;

use datafusion::arrow::array::RecordBatch;
use datafusion::arrow::datatypes::{DataType, Schema};
use datafusion::arrow::util::display::{ArrayFormatter, FormatOptions};
use serde::{Deserialize, Serialize};

/// Kind of a result column, one letter in a script's `query` line.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Kind {
    /// `B`
    Boolean,
    /// `I`: integers of any width.
    Integer,
    /// `R`: floats and decimals.
    Real,
    /// `T`
    Text,
    /// `D`
    Date,
    /// `P`: timestamps with and without zone.
    Timestamp,
    /// `?`: everything else.
    Other,
}

impl Kind {
    /// The kind of an Arrow type.
    #[must_use]
    pub fn of(data_type: &DataType) -> Self {
        match data_type {
            DataType::Boolean => Self::Boolean,
            t if t.is_integer() => Self::Integer,
            t if t.is_floating() || t.is_decimal() => Self::Real,
            DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View => Self::Text,
            DataType::Date32 | DataType::Date64 => Self::Date,
            DataType::Timestamp(..) => Self::Timestamp,
            DataType::Dictionary(_, values) => Self::of(values),
            _ => Self::Other,
        }
    }
}

impl sqllogictest::ColumnType for Kind {
    fn from_char(value: char) -> Option<Self> {
        Some(match value {
            'B' => Self::Boolean,
            'I' => Self::Integer,
            'R' => Self::Real,
            'T' => Self::Text,
            'D' => Self::Date,
            'P' => Self::Timestamp,
            '?' => Self::Other,
            _ => return None,
        })
    }

    fn to_char(&self) -> char {
        match self {
            Self::Boolean => 'B',
            Self::Integer => 'I',
            Self::Real => 'R',
            Self::Text => 'T',
            Self::Date => 'D',
            Self::Timestamp => 'P',
            Self::Other => '?',
        }
    }
}

/// What a statement answered.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Answer {
    /// A result set.
    Rows {
        /// Column names.
        names: Vec<String>,
        /// Column kinds.
        kinds: Vec<Kind>,
        /// Values as text.
        rows: Vec<Vec<String>>,
    },
    /// A row count.
    Affected(u64),
    /// Nothing to count.
    Done,
}

impl Answer {
    /// The rows; none when the statement had no result set.
    #[must_use]
    pub fn rows(self) -> Vec<Vec<String>> {
        match self {
            Self::Rows { rows, .. } => rows,
            Self::Affected(_) | Self::Done => Vec::new(),
        }
    }
}

/// A failed statement, shown as `[SQLSTATE] message`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SqlError {
    /// Five characters.
    pub sqlstate: String,
    /// One sentence.
    pub message: String,
}

impl SqlError {
    /// A fault of the test itself: a broken pipe, a missing file.
    #[must_use]
    pub fn of_test(message: impl fmt::Display) -> Self {
        Self { sqlstate: "TEST0".into(), message: message.to_string() }
    }
}

impl fmt::Display for SqlError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "[{}] {}", self.sqlstate, self.message)
    }
}

impl std::error::Error for SqlError {}

impl From<cairn_engine::Error> for SqlError {
    fn from(error: cairn_engine::Error) -> Self {
        Self { sqlstate: error.sqlstate().into(), message: error.message().into() }
    }
}

/// Writes the batches of one result as text.
///
/// # Panics
/// When a batch's schema is not `schema`: a result must not change its types on the way.
#[must_use]
pub fn render(schema: &Schema, batches: &[RecordBatch]) -> Answer {
    let options = FormatOptions::new()
        .with_null("NULL")
        .with_timestamp_format(Some("%Y-%m-%d %H:%M:%S%.f"))
        .with_timestamp_tz_format(Some("%Y-%m-%d %H:%M:%S%.f%:z"));
    let mut rows = Vec::new();
    for batch in batches {
        let types = |s: &Schema| s.fields().iter().map(|f| f.data_type().clone()).collect::<Vec<_>>();
        assert_eq!(types(schema), types(&batch.schema()), "a batch is not of the result's schema");
        let columns: Vec<_> =
            batch.columns().iter().map(|c| ArrayFormatter::try_new(c.as_ref(), &options).unwrap()).collect();
        for row in 0..batch.num_rows() {
            rows.push(columns.iter().map(|c| cell(&c.value(row).to_string())).collect());
        }
    }
    Answer::Rows {
        names: schema.fields().iter().map(|f| f.name().clone()).collect(),
        kinds: schema.fields().iter().map(|f| Kind::of(f.data_type())).collect(),
        rows,
    }
}

fn cell(text: &str) -> String {
    if text.is_empty() { "(empty)".into() } else { text.replace('\n', "\\n") }
}
