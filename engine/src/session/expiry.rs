//! Queries whose version's objects were collected while they were read: run once more, at a newer version.
//!
//! Owns: which statements are, and telling before their first row is handed on; afterwards their reader gets the error; what it means
//! that an object is missed again. Does not own: how long objects are kept (storage).

use cairn_storage::{Database, ErrorKind, Root};
use datafusion::physical_plan::stream::RecordBatchStreamAdapter;
use futures::StreamExt;

use crate::error::{Error, Result};
use crate::output::{Output, RowStream};
use crate::statement::Statement;

/// Whether running a statement again changes nothing but what its reader sees.
pub(super) fn may_be_met_by(statement: &Statement) -> bool {
    matches!(statement, Statement::Query(_))
}

/// Whether objects of a version that is read can go.
pub(super) fn is_possible_at(db: &Database) -> bool {
    matches!(db.root(), Root::Store(_))
}

/// Whether both are about one object that is not there.
pub(super) fn is_same(missed: &Error, error: &Error) -> bool {
    error.kind() == ErrorKind::SnapshotExpired
        && error.detail().is_some()
        && error.detail() == missed.detail()
}

/// The error of an object that is missed again, at the newest version that is known here.
pub(super) fn missed_again(db: &Database, error: &Error) -> Error {
    if db.may_be_outlived() { outlived(error) } else { lost(error) }
}

/// One that this process has written, and a later writer has replaced.
fn outlived(error: &Error) -> Error {
    let message = "the snapshot has expired: another writer seems to have taken the database over and to have removed what is read here";
    Error::new(ErrorKind::SnapshotExpired, message).map(|e| {
        let e = e.with_hint("open the database again to read what is there now");
        match error.detail() {
            Some(detail) => e.with_detail(detail),
            None => e,
        }
    })
}

/// Nobody collects what the newest version names, so it is not that one's age.
fn lost(error: &Error) -> Error {
    let what = error.detail().unwrap_or("an object is not there any more");
    Error::new(ErrorKind::Corrupt, format!("{what}, and the newest version names it")).map(|e| {
        e.with_hint(
            "somebody else has removed it: run VERIFY, bring it back from the bucket's versions or a backup",
        )
    })
}

/// The same answer, with its first rows made: an error that comes instead of them is the statement's.
///
/// # Errors
/// That of `result`, or of the first rows.
pub(super) async fn with_first_rows(result: Result<Output>) -> Result<Output> {
    let RowStream { schema, mut stream, notes } = match result? {
        Output::Rows(rows) => rows,
        other => return Ok(other),
    };
    let first = stream.next().await.transpose()?;
    let rows = futures::stream::iter(first.map(Ok)).chain(stream);
    let stream = Box::pin(RecordBatchStreamAdapter::new(schema.clone(), rows));
    Ok(Output::Rows(RowStream { schema, stream, notes }))
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use std::sync::Arc;

    use datafusion::arrow::array::{Int32Array, RecordBatch};
    use datafusion::error::DataFusionError;
    use futures::TryStreamExt;

    use super::*;

    fn batch(n: i32) -> RecordBatch {
        RecordBatch::try_from_iter([("n", Arc::new(Int32Array::from(vec![n])) as _)]).unwrap()
    }

    fn answer(batches: Vec<Result<RecordBatch>>) -> Result<Output> {
        let schema = batch(0).schema();
        let batches = batches.into_iter().map(|batch| batch.map_err(DataFusionError::from));
        let stream = RecordBatchStreamAdapter::new(Arc::clone(&schema), futures::stream::iter(batches));
        Ok(Output::Rows(RowStream::new(schema, Box::pin(stream))))
    }

    fn expired() -> Error {
        Error::new(ErrorKind::SnapshotExpired, "the version is gone")
    }

    async fn rows(answer: Result<Output>) -> Vec<RecordBatch> {
        match answer {
            Ok(Output::Rows(rows)) => rows.stream.try_collect().await.unwrap(),
            _ => panic!("no rows"),
        }
    }

    #[test]
    fn whoever_was_replaced_is_not_told_of_damage() {
        let missed = expired().map(|e| e.with_detail("table/1/x.parquet is not there any more"));
        let (replaced, removed) = (outlived(&missed), lost(&missed));
        assert_eq!((replaced.sqlstate(), removed.sqlstate()), ("72000", "XX001"));
        assert!(replaced.detail().unwrap().contains("x.parquet") && removed.message().contains("x.parquet"));
    }

    #[tokio::test]
    async fn an_error_before_the_first_row_is_the_statement_s() {
        let told = with_first_rows(answer(vec![Err(expired()), Ok(batch(1))])).await;
        assert_eq!(told.err().unwrap().kind(), ErrorKind::SnapshotExpired);
        assert_eq!(with_first_rows(Err(expired())).await.err().unwrap().kind(), ErrorKind::SnapshotExpired);
        // Afterwards it is its reader's.
        let begun = with_first_rows(answer(vec![Ok(batch(1)), Err(expired())])).await;
        let Ok(Output::Rows(mut begun)) = begun else { panic!("no rows") };
        assert_eq!(begun.stream.next().await.unwrap().unwrap(), batch(1));
        let error = Error::from(begun.stream.next().await.unwrap().unwrap_err());
        assert_eq!(error.kind(), ErrorKind::SnapshotExpired);
    }

    #[tokio::test]
    async fn every_row_stays_in_its_place() {
        let whole = with_first_rows(answer((0..3).map(|n| Ok(batch(n))).collect())).await;
        assert_eq!(rows(whole).await, (0..3).map(batch).collect::<Vec<_>>());
        assert!(rows(with_first_rows(answer(Vec::new())).await).await.is_empty());
    }
}
