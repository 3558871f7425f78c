//! A panic while a statement runs ends that statement, as an error its client can read; the session and all others go on.

use std::any::Any;
use std::future::Future;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;

use cairn_storage::ErrorKind;
use datafusion::error::DataFusionError;
use datafusion::physical_plan::stream::RecordBatchStreamAdapter;
use futures::{FutureExt, StreamExt};

use crate::error::{Error, Result};
use crate::output::RowStream;

// Unwind safe: whatever a panic left half done belongs to the statement and is dropped with it. Locks that outlive it are held by
// code that does not panic.

/// `work`, or the error that it panicked.
pub(super) async fn caught<T>(work: impl Future<Output = Result<T>>) -> Result<T> {
    AssertUnwindSafe(work).catch_unwind().await.unwrap_or_else(|panic| Err(failed(panic.as_ref())))
}

/// `rows`, the last of which may be the error that they panicked.
pub(super) fn caught_rows(rows: RowStream) -> RowStream {
    let stream = AssertUnwindSafe(rows.stream)
        .catch_unwind()
        .map(|batch| batch.unwrap_or_else(|panic| Err(DataFusionError::from(failed(panic.as_ref())))));
    let stream = Box::pin(RecordBatchStreamAdapter::new(Arc::clone(&rows.schema), stream));
    RowStream { schema: rows.schema, stream, notes: rows.notes }
}

fn failed(panic: &(dyn Any + Send)) -> Error {
    let text = panic.downcast_ref::<&str>().copied();
    let text =
        text.or_else(|| panic.downcast_ref::<String>().map(String::as_str)).unwrap_or("for no stated reason");
    Error::new(ErrorKind::Internal, format!("the statement ended by a fault of the program: {text}")).map(
        |e| e.with_hint("nothing it would have changed has changed; please report it with the statement"),
    )
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use datafusion::arrow::datatypes::Schema;
    use futures::stream;

    use super::*;

    #[tokio::test]
    async fn a_panic_is_an_error() {
        let error = caught::<()>(async { panic!("broken {}", 1) }).await.unwrap_err();
        assert_eq!((error.kind(), error.sqlstate()), (ErrorKind::Internal, "XX000"));
        assert!(error.message().ends_with("broken 1"), "{error}");
        let schema = Arc::new(Schema::empty());
        let batches = stream::once(async { panic!("half way") });
        let rows = RecordBatchStreamAdapter::new(Arc::clone(&schema), Box::pin(batches));
        let rows = caught_rows(RowStream::new(schema, Box::pin(rows)));
        let batches: Vec<_> = rows.stream.collect().await;
        assert_eq!(batches.len(), 1);
        assert!(batches[0].as_ref().unwrap_err().to_string().contains("half way"));
    }
}
