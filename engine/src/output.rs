//! What a statement answers with.

use datafusion::arrow::datatypes::SchemaRef;
use datafusion::execution::SendableRecordBatchStream;

/// Rows of a result, streamed.
pub struct RowStream {
    /// Column names and types; equal to every batch's.
    pub schema: SchemaRef,
    /// The batches; dropping it cancels the query.
    pub stream: SendableRecordBatchStream,
    /// Remarks for the user: all of them, for none comes up once there are rows.
    pub notes: Vec<String>,
}

impl RowStream {
    /// Rows that nothing is to be remarked about.
    pub(crate) fn new(schema: SchemaRef, stream: SendableRecordBatchStream) -> Self {
        Self { schema, stream, notes: Vec::new() }
    }
}

/// What came of rows that a client has sent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ingested {
    /// How many were written.
    pub rows: u64,
    /// Remarks for the user.
    pub notes: Vec<String>,
}

/// The answer of one statement.
pub enum Output {
    /// A result set: SELECT, RETURNING, SHOW, EXPLAIN, receipts of upkeep statements.
    Rows(RowStream),
    /// INSERT, UPDATE, DELETE, COPY, CTAS, TRUNCATE without RETURNING.
    Affected {
        /// "INSERT", "UPDATE", "DELETE", "COPY", …
        verb: &'static str,
        /// Exact number of rows.
        rows: u64,
        /// Rows skipped by COPY's `on_error 'skip'`, with the first few reasons.
        notes: Vec<String>,
    },
    /// Statements with nothing to count: "CREATE TABLE", "SET", …; and "… already exists, skipped" as a note.
    Done {
        /// "CREATE TABLE", "DROP VIEW", …
        verb: &'static str,
        /// Remarks for the user.
        notes: Vec<String>,
    },
}

impl Output {
    /// The same with more remarks.
    pub(crate) fn with_notes(mut self, more: impl IntoIterator<Item = String>) -> Self {
        match &mut self {
            Self::Rows(RowStream { notes, .. }) | Self::Affected { notes, .. } | Self::Done { notes, .. } => {
                notes.extend(more);
            }
        }
        self
    }
}
