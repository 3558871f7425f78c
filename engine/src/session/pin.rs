//! Rows that keep the planner's state of their statement alive.
//!
//! `information_schema` plans views while its rows are read, so the state must live as long as they do. When the rows are
//! dropped, the session lets go of the statement's snapshot: an idle session pins no version.

use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::task::{Context, Poll};

use datafusion::arrow::array::RecordBatch;
use datafusion::arrow::datatypes::SchemaRef;
use datafusion::error::Result;
use datafusion::execution::context::SessionState;
use datafusion::execution::{RecordBatchStream, SendableRecordBatchStream};
use futures::Stream;

use super::Inner;
use crate::output::RowStream;

/// `rows` that hold `state` until they are dropped.
pub(super) fn pinned(rows: RowStream, state: Arc<SessionState>, session: &Arc<Mutex<Inner>>) -> RowStream {
    let RowStream { schema, stream: rows, notes } = rows;
    let stream = PinnedRows { rows, _pin: StatePin { state: Some(state), session: Arc::downgrade(session) } };
    RowStream { schema, stream: Box::pin(stream), notes }
}

struct PinnedRows {
    // Dropped before the pin.
    rows: SendableRecordBatchStream,
    _pin: StatePin,
}

struct StatePin {
    state: Option<Arc<SessionState>>,
    session: Weak<Mutex<Inner>>,
}

impl Drop for StatePin {
    fn drop(&mut self) {
        let (Some(state), Some(session)) = (self.state.take(), self.session.upgrade()) else { return };
        let mut inner = session.lock().unwrap_or_else(PoisonError::into_inner);
        // A later statement has pointed the session elsewhere, or not. The state of one that is measured is not the session's own.
        let newest = Arc::ptr_eq(inner.state.catalog_list(), state.catalog_list());
        drop(state);
        if newest {
            inner.unpin();
        }
    }
}

impl Stream for PinnedRows {
    type Item = Result<RecordBatch>;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        self.rows.as_mut().poll_next(context)
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        self.rows.size_hint()
    }
}

impl RecordBatchStream for PinnedRows {
    fn schema(&self) -> SchemaRef {
        self.rows.schema()
    }
}
