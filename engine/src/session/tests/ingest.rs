//! Rows from a client: more of them than one writer gets, errors in the midst of them.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use datafusion::arrow::array::{ArrayRef, Int64Array, RecordBatch, StringArray};
use datafusion::error::DataFusionError;
use datafusion::physical_plan::stream::RecordBatchStreamAdapter;
use futures::{Stream, StreamExt};

use super::{answer, session};
use crate::{Error, IfExists, IfMissing, IngestTarget, Ingested, Session};

/// Rows of a batch: about 1 MiB.
const BATCH_ROWS: i64 = 4_000;

/// Rows `first` and the following.
fn batch(first: i64) -> RecordBatch {
    let ids = Int64Array::from_iter_values(first..first + BATCH_ROWS);
    let texts = StringArray::from_iter_values((first..first + BATCH_ROWS).map(|id| format!("{id:0250}")));
    RecordBatch::try_from_iter([("id", Arc::new(ids) as ArrayRef), ("t", Arc::new(texts))]).unwrap()
}

async fn ingest(
    session: &Session,
    batches: impl Stream<Item = Result<RecordBatch, DataFusionError>> + Send + 'static,
) -> Result<Ingested, Error> {
    let target = IngestTarget { schema: None, table: "t".to_owned() };
    let rows = Box::pin(RecordBatchStreamAdapter::new(batch(0).schema(), batches));
    session.ingest(&target, IfMissing::Fail, IfExists::Append, rows).await
}

/// How many rows were written.
async fn append(
    session: &Session,
    batches: impl Stream<Item = Result<RecordBatch, DataFusionError>> + Send + 'static,
) -> Result<u64, Error> {
    ingest(session, batches).await.map(|ingested| ingested.rows)
}

#[tokio::test]
async fn rows_that_are_sent_again_are_written_once() {
    let session = session().await;
    answer(&session, "CREATE TABLE t (id BIGINT, t TEXT)").await;
    for (rows, notes) in [(BATCH_ROWS as u64, 0), (0, 1)] {
        session.configure("commit_id", "6f1c9d0e-3a52-4d7e-9b1f-0c8a7e5d2b43").unwrap();
        let written = ingest(&session, futures::stream::iter([Ok(batch(0))])).await.unwrap();
        assert_eq!((written.rows, written.notes.len()), (rows, notes), "{written:?}");
        assert_eq!(session.progress().rows.load(Ordering::Relaxed), rows);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rows_of_many_runs_are_all_there_once() {
    let session = session().await;
    let counted = "SELECT count(*), count(DISTINCT id), sum(id), sum(CAST(t AS BIGINT)) FROM t";
    for columns in ["id BIGINT, t TEXT NOT NULL", "id BIGINT PRIMARY KEY, t TEXT NOT NULL"] {
        answer(&session, &format!("CREATE TABLE t ({columns})")).await;
        let batches = futures::stream::iter((0..60).map(|n| Ok(batch(n * BATCH_ROWS))));
        assert_eq!(append(&session, batches).await.unwrap(), 240_000);
        assert_eq!(answer(&session, counted).await, "240000,240000,28799880000,28799880000", "{columns}");
        if columns.contains("KEY") {
            let again = futures::stream::iter([Ok(batch(30 * BATCH_ROWS))]);
            assert_eq!(append(&session, again).await.unwrap_err().sqlstate(), "23505");
        }
        answer(&session, "DROP TABLE t").await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rows_of_one_run_keep_their_order() {
    let session = session().await;
    answer(&session, "CREATE TABLE t (id BIGINT, t TEXT)").await;
    let batches = futures::stream::iter([8, 3, 5].map(|n| Ok(batch(n * BATCH_ROWS))));
    assert_eq!(append(&session, batches).await.unwrap(), 12_000);
    let order = "SELECT min(_row_id) = (SELECT min(_row_id) FROM t WHERE id >= 32000), max(_row_id) = (SELECT max(_row_id) FROM t
                 WHERE id >= 20000 AND id < 24000) FROM t";
    assert_eq!(answer(&session, order).await, "true,true");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_error_in_a_late_row_ends_every_writer_and_changes_nothing() {
    let session = session().await;
    answer(&session, "CREATE TABLE t (id BIGINT, t INTEGER)").await;
    // Told although the client would go on for ever.
    let many = futures::stream::iter((0..40).map(|n| Ok(batch(n * BATCH_ROWS))));
    let endless = futures::stream::repeat_with(|| Ok(batch(i64::from(i32::MAX))));
    let told = tokio::time::timeout(Duration::from_secs(60), append(&session, many.chain(endless))).await;
    let sqlstate = told.unwrap().unwrap_err().sqlstate();
    assert!(sqlstate.starts_with("22"), "{sqlstate}");
    assert_eq!(answer(&session, "SELECT count(*) FROM t").await, "0");
    answer(&session, "DROP TABLE t").await;
    answer(&session, "CREATE TABLE t (id BIGINT PRIMARY KEY, t TEXT)").await;
    // A key comes twice.
    let batches = futures::stream::iter((0..40).chain([1]).map(|n| Ok(batch(n * BATCH_ROWS))));
    assert_eq!(append(&session, batches).await.unwrap_err().sqlstate(), "23505");
    // The client breaks off.
    let gone = DataFusionError::Execution("gone".to_owned());
    let batches = futures::stream::iter((0..40).map(|n| Ok(batch(n * BATCH_ROWS))).chain([Err(gone)]));
    assert!(append(&session, batches).await.unwrap_err().message().contains("gone"));
    assert_eq!(answer(&session, "SELECT count(*) FROM t").await, "0");
    assert_eq!(append(&session, futures::stream::iter([Ok(batch(0))])).await.unwrap(), 4_000);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_dropped_ingest_has_written_nothing() {
    let session = session().await;
    answer(&session, "CREATE TABLE t (id BIGINT, t TEXT)").await;
    let some = futures::stream::iter((0..40).map(|n| Ok(batch(n * BATCH_ROWS))));
    let waiting = append(&session, some.chain(futures::stream::pending()));
    assert!(tokio::time::timeout(Duration::from_millis(500), waiting).await.is_err());
    assert_eq!(answer(&session, "SELECT count(*) FROM t").await, "0");
    assert_eq!(append(&session, futures::stream::iter([Ok(batch(0))])).await.unwrap(), 4_000);
    assert_eq!(answer(&session, "SELECT count(*) FROM t").await, "4000");
}
