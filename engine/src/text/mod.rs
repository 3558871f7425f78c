//! Results as text for programs: JSON, NDJSON, CSV and TSV, written batch by batch.
//!
//! Owns: how each type is spelled, exactly: integers, decimals and times pass through Arrow's display, never through a float.
//! Does not own: formats for people (the shell's), files that COPY writes and reads back (`copy`), where the bytes go.

mod delimited;
mod json;
mod value;

use std::io::{self, Write};

use datafusion::arrow::array::RecordBatch;

pub use delimited::DelimitedWriter;
pub(crate) use json::object_names;
pub use json::{JsonWriter, Numbers};
pub use value::{Column, VectorText, columns, exact, failed};

/// Writes one result set.
pub trait RowWriter: Send {
    /// Takes the next rows.
    ///
    /// # Errors
    /// Those of `out`; a value that has no text.
    fn batch(&mut self, batch: &RecordBatch, out: &mut dyn Write) -> io::Result<()>;
    /// Writes what is left, footer included.
    ///
    /// # Errors
    /// Those of `out`.
    fn finish(&mut self, out: &mut dyn Write) -> io::Result<()>;
}
