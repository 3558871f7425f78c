//! Results between the call that starts them and the call that fetches them, and from there to their last row.
//!
//! Owns: results that wait under a ticket, for `result_wait_max` and at most `results_max` of a session; cancelling those that
//! wait and those being fetched. Does not own: how they are encoded (`encode`).
//!
//! A ticket is good for one fetch, from any connection of the user whose statement it is: rows are produced once.
//!
//! Time in which the server answered nobody counts against nobody: a result goes at the second look that finds it late, so that a
//! client whose call waited meanwhile is told how its statement ended, not that there is no such result.

use std::collections::HashMap;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use cairn_engine::{Error, Identity, Result};
use cairn_storage::ErrorKind;
use datafusion::arrow::array::RecordBatch;
use datafusion::arrow::datatypes::SchemaRef;
use datafusion::error::DataFusionError;
use datafusion::execution::SendableRecordBatchStream;
use futures::{Stream, StreamExt};
use tokio::sync::oneshot;

use super::wire;
use crate::handle::Handle;
use crate::options::ServerOptions;
use crate::session::Lease;

/// A result whose rows have not been fetched.
pub(crate) struct Rows {
    /// The schema its client is promised.
    pub(crate) schema: SchemaRef,
    pub(crate) stream: SendableRecordBatchStream,
    /// The session lives as long as its results.
    pub(crate) session: Lease,
}

impl Rows {
    pub(crate) fn new(stream: SendableRecordBatchStream, session: Lease) -> Self {
        Self { schema: wire::schema(&stream.schema()), stream, session }
    }
}

/// See the module.
#[derive(Debug)]
pub(crate) struct Results {
    wait_max: Duration,
    results_max: usize,
    kept: Mutex<HashMap<Handle, Kept>>,
}

enum Kept {
    Waiting { rows: Rows, until: Instant, found_late: bool },
    Fetched { identity: Identity, cancel: oneshot::Sender<()> },
}

impl Kept {
    /// That it is of a statement of the same user.
    ///
    /// # Errors
    /// 42501.
    fn check(&self, caller: &Identity) -> Result<()> {
        let identity = match self {
            Self::Waiting { rows, .. } => rows.session.identity(),
            Self::Fetched { identity, .. } => identity,
        };
        if identity.is_same_user_as(caller) {
            return Ok(());
        }
        Err(Error::new(ErrorKind::PermissionDenied, "permission denied: the result is another user's")
            .map(|e| e.with_hint("run the statement again, as the user who is to read its rows")))
    }
}

impl std::fmt::Debug for Kept {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Waiting { .. } => "Waiting",
            Self::Fetched { .. } => "Fetched",
        })
    }
}

impl Results {
    pub(crate) fn new(options: &ServerOptions) -> Self {
        Self { wait_max: options.result_wait_max, results_max: options.results_max, kept: Mutex::default() }
    }

    /// Keeps `rows` until they are fetched. When more than `results_max` of the session wait, the one that waits longest is
    /// dropped, those without columns first: drivers run statements without a result that matters, and never come for it.
    pub(crate) fn keep(&self, rows: Rows) -> Handle {
        let mut kept = self.kept();
        let owner = rows.session.id();
        let waiting = kept.iter().filter_map(|(handle, kept)| match kept {
            Kept::Waiting { rows, until, .. } if rows.session.id() == owner => {
                Some((!rows.schema.fields().is_empty(), *until, *handle))
            }
            _ => None,
        });
        let mut waiting: Vec<(bool, Instant, Handle)> = waiting.collect();
        waiting.sort_unstable_by_key(|(has_columns, until, _)| (*has_columns, *until));
        let over = (waiting.len() + 1).saturating_sub(self.results_max.max(1));
        let dropped: Vec<Option<Kept>> =
            waiting.into_iter().take(over).map(|(.., handle)| kept.remove(&handle)).collect();
        let handle = Handle::random();
        let until = Instant::now() + self.wait_max;
        kept.insert(handle, Kept::Waiting { rows, until, found_late: false });
        drop(kept);
        // Outside the lock: their queries end here.
        drop(dropped);
        handle
    }

    /// Keeps `rows` while they are fetched, so that they can be cancelled like any others.
    pub(crate) fn keep_fetched(self: &Arc<Self>, rows: Rows) -> FetchedRows {
        let handle = Handle::random();
        self.fetched(&mut self.kept(), handle, rows)
    }

    fn fetched(
        self: &Arc<Self>,
        kept: &mut HashMap<Handle, Kept>,
        handle: Handle,
        rows: Rows,
    ) -> FetchedRows {
        let (cancel, cancelled) = oneshot::channel();
        kept.insert(handle, Kept::Fetched { identity: rows.session.identity().clone(), cancel });
        let fetch = Fetch { results: Arc::downgrade(self), handle };
        FetchedRows { rows: Some(rows), cancelled, _fetch: fetch }
    }

    /// Takes a result to fetch it; from then on it ends when its stream is dropped, or cancelled.
    ///
    /// # Errors
    /// `NotFound` (34000) when none waits under `handle`; 42501 when it is not of the caller's user.
    pub(crate) fn fetch(self: &Arc<Self>, handle: Handle, caller: &Identity) -> Result<FetchedRows> {
        let mut kept = self.kept_for(handle, caller)?;
        match kept.remove(&handle) {
            Some(Kept::Waiting { rows, .. }) => Ok(self.fetched(&mut kept, handle, rows)),
            other => {
                // Being fetched still: not for this call.
                kept.extend(other.map(|other| (handle, other)));
                Err(gone())
            }
        }
    }

    /// Gives a waiting result its whole time again.
    ///
    /// # Errors
    /// `NotFound` (34000) when none waits under `handle`; 42501 when it is not of the caller's user.
    pub(crate) fn renew(&self, handle: Handle, caller: &Identity) -> Result<()> {
        let mut kept = self.kept_for(handle, caller)?;
        match kept.get_mut(&handle) {
            Some(Kept::Waiting { until, found_late, .. }) => {
                *until = Instant::now() + self.wait_max;
                *found_late = false;
                Ok(())
            }
            _ => Err(gone()),
        }
    }

    /// Cancels a result that waits or is being fetched; whether there was one.
    ///
    /// # Errors
    /// 42501 when it is not of the caller's user.
    pub(crate) fn cancel(&self, handle: Handle, caller: &Identity) -> Result<bool> {
        let found = self.kept_for(handle, caller)?.remove(&handle);
        Ok(match found {
            Some(Kept::Waiting { .. }) => true,
            // Whoever fetched it may have ended just now.
            Some(Kept::Fetched { cancel, .. }) => cancel.send(()).is_ok(),
            None => false,
        })
    }

    /// Looks for what nobody came for, and drops what the look before has found late already. Calls that have come are to be
    /// answered between two looks.
    pub(crate) fn expire(&self) {
        let now = Instant::now();
        let expired: Vec<Kept> = {
            let mut kept = self.kept();
            let late = kept.iter_mut().filter_map(|(handle, kept)| match kept {
                Kept::Waiting { until, found_late, .. } if *until <= now => {
                    std::mem::replace(found_late, true).then_some(*handle)
                }
                _ => None,
            });
            let late: Vec<Handle> = late.collect();
            late.into_iter().filter_map(|handle| kept.remove(&handle)).collect()
        };
        // Outside the lock: their queries end here.
        drop(expired);
    }

    /// All of them; what is kept under `handle` is of `caller`'s.
    ///
    /// # Errors
    /// 42501 when it is not.
    fn kept_for(&self, handle: Handle, caller: &Identity) -> Result<MutexGuard<'_, HashMap<Handle, Kept>>> {
        let kept = self.kept();
        kept.get(&handle).map_or(Ok(()), |kept| kept.check(caller))?;
        Ok(kept)
    }

    fn kept(&self) -> MutexGuard<'_, HashMap<Handle, Kept>> {
        // Nothing panics while holding it.
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn gone() -> Error {
    Error::new(ErrorKind::NotFound, "there is no such result").map(|e| {
        e.with_sqlstate("34000").with_hint(
            "a result is fetched once, within result.wait, and before result.max later ones: run the statement again",
        )
    })
}

/// Rows on their way to a client.
pub(crate) struct FetchedRows {
    /// None: cancelled.
    rows: Option<Rows>,
    cancelled: oneshot::Receiver<()>,
    _fetch: Fetch,
}

impl FetchedRows {
    /// The schema the client was promised.
    pub(crate) fn schema(&self) -> Option<SchemaRef> {
        self.rows.as_ref().map(|rows| Arc::clone(&rows.schema))
    }
}

impl Stream for FetchedRows {
    type Item = std::result::Result<RecordBatch, DataFusionError>;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        if self.rows.is_some() && Pin::new(&mut self.cancelled).poll(context) == Poll::Ready(Ok(())) {
            self.rows = None;
            let error = Error::new(ErrorKind::Cancelled, "the statement was cancelled");
            return Poll::Ready(Some(Err(error.into())));
        }
        match &mut self.rows {
            Some(rows) => rows.stream.poll_next_unpin(context),
            None => Poll::Ready(None),
        }
    }
}

/// Forgets a fetched result when its stream is dropped.
struct Fetch {
    results: Weak<Results>,
    handle: Handle,
}

impl Drop for Fetch {
    fn drop(&mut self) {
        if let Some(results) = self.results.upgrade() {
            results.kept().remove(&self.handle);
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use cairn_engine::{Engine, EngineOptions, Root};
    use datafusion::arrow::datatypes::Schema;
    use datafusion::physical_plan::EmptyRecordBatchStream;

    use super::*;
    use crate::session::Sessions;

    #[tokio::test]
    async fn what_was_late_at_the_look_before_is_dropped() {
        let engine = Engine::open(Root::Memory, EngineOptions::default()).await.unwrap();
        let options = ServerOptions { result_wait_max: Duration::ZERO, ..ServerOptions::default() };
        let sessions = Sessions::new(&options);
        let token = sessions.log_in(engine.session()).unwrap();
        let session = sessions.of_token(token.text()).unwrap();
        let results = Arc::new(Results::new(&options));
        let keep = || {
            let stream = Box::pin(EmptyRecordBatchStream::new(Arc::new(Schema::empty())));
            results.keep(Rows::new(stream, session.clone()))
        };
        let (fetched, renewed, left) = (keep(), keep(), keep());
        // Late at once. Whose call waited while nobody was answered comes between the looks.
        results.expire();
        results.fetch(fetched, session.identity()).map(drop).unwrap();
        results.renew(renewed, session.identity()).unwrap();
        results.expire();
        let gone = results.fetch(left, session.identity()).map(drop).unwrap_err();
        assert_eq!((gone.kind(), gone.sqlstate()), (ErrorKind::NotFound, "34000"));
        results.renew(renewed, session.identity()).unwrap();
        results.expire();
        results.expire();
        assert!(results.renew(renewed, session.identity()).is_err());
    }
}
