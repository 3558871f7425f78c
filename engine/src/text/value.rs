//! One value as text, for programs.

use std::io;

use cairn_udfs::vector::{dimensions, is_whole, text_at};
use datafusion::arrow::array::{Array, AsArray, FixedSizeListArray, RecordBatch};
use datafusion::arrow::buffer::NullBuffer;
use datafusion::arrow::error::ArrowError;
use datafusion::arrow::util::display::{ArrayFormatter, FormatOptions};

/// ISO 8601.
const EXACT: FormatOptions<'static> = FormatOptions::new().with_display_error(false).with_null("NULL");

/// The batch's columns for programs.
///
/// # Errors
/// A type that has no text.
pub fn exact(batch: &RecordBatch) -> io::Result<Vec<Column<'_>>> {
    columns(batch, &EXACT, text_at)
}

/// One array for programs.
pub(super) fn exact_array(array: &dyn Array) -> io::Result<ArrayFormatter<'_>> {
    ArrayFormatter::try_new(array, &EXACT).map_err(failed)
}

/// The batch's columns with `options`, and `vector` for vectors.
///
/// # Errors
/// A type that has no text.
pub fn columns<'a>(
    batch: &'a RecordBatch,
    options: &FormatOptions<'a>,
    vector: VectorText,
) -> io::Result<Vec<Column<'a>>> {
    let column = |array: &'a dyn Array| {
        if let Some(vectors) = array.as_fixed_size_list_opt()
            && dimensions(array.data_type()).is_some()
            && is_whole(vectors)
        {
            return Ok(Column(Kind::Vectors(vectors, vector)));
        }
        // Only nested types are not asked for their NULLs here; an array's own formatter knows them.
        let text = ArrayFormatter::try_new(array, options).map_err(failed)?;
        Ok(Column(Kind::Plain { nulls: array.logical_nulls(), text }))
    };
    batch.columns().iter().map(|array| column(array.as_ref())).collect()
}

/// An Arrow error as the I/O error a writer returns.
#[must_use]
pub fn failed(error: ArrowError) -> io::Error {
    io::Error::other(format!("a value can't be shown: {error}"))
}

/// The text of the vector in a row.
pub type VectorText = fn(&FixedSizeListArray, usize) -> Option<String>;

/// One column of a batch.
pub struct Column<'a>(Kind<'a>);

enum Kind<'a> {
    Plain {
        nulls: Option<NullBuffer>,
        text: ArrayFormatter<'a>,
    },
    /// Whole, or short for people.
    Vectors(&'a FixedSizeListArray, VectorText),
}

impl Column<'_> {
    /// The value's text; None for NULL.
    ///
    /// # Errors
    /// A value that has no text.
    pub fn value(&self, row: usize) -> io::Result<Option<String>> {
        match &self.0 {
            Kind::Plain { nulls: Some(nulls), .. } if nulls.is_null(row) => Ok(None),
            Kind::Plain { text, .. } => text.value(row).try_to_string().map(Some).map_err(failed),
            Kind::Vectors(vectors, text) => Ok(text(vectors, row)),
        }
    }
}
