//! What a statement answers with.

use datafusion::arrow::datatypes::SchemaRef;
use datafusion::execution::SendableRecordBatchStream;

/// Rows of a result, streamed.
pub struct RowStream {
    /// Column names and types; equal to every batch's.
    pub schema: SchemaRef,
    /// The batches; dropping it cancels the query.
    pub stream: SendableRecordBatchStream,
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
