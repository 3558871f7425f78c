//! Work that keeps a thread busy: sorting rows, encoding segments, building index units.
//!
//! Owns: where it is done, and for which job it counts. Does not own: what is done; waiting for a local disk (`object::local`) and what
//! is done beside everything else with it (`object::cached`, `index::loaded`): a bucket without a disk cache knows none of that.
//!
//! Nothing of this crate but threads makes the order of things depend on the machine. So a test whose runtime has one thread, and whose
//! store, clock and dice follow a seed, goes the same way each time with [`Computing::InTurn`]. That is asked for, and does not follow from
//! the runtime: most tests have one thread, and some of them stop what computes.

use crate::error::{Error, Result};
use crate::jobs::Meter;

/// Where work is done that keeps a thread busy.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Computing {
    /// On a thread of its own: nobody waits but who asked for it.
    #[default]
    Aside,
    /// As a task like any other, when it is its turn. All others of its thread wait; for tests.
    InTurn,
}

impl Computing {
    /// Does the work. What it uses counts for the job that the caller works for; a caller that goes away leaves it to end.
    ///
    /// # Errors
    /// What `work` says; `Internal` when it panics.
    pub(crate) async fn run<T: Send + 'static>(
        self,
        work: impl FnOnce() -> Result<T> + Send + 'static,
    ) -> Result<T> {
        let meter = Meter::current();
        let counted = move || match meter {
            Some(meter) => meter.on_this_thread(work),
            None => work(),
        };
        let task = match self {
            Self::Aside => tokio::task::spawn_blocking(counted),
            Self::InTurn => tokio::spawn(async move { counted() }),
        };
        task.await.map_err(|e| Error::internal(format!("work on rows ended early: {e}")))?
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::sync::{Arc, Mutex};
    use std::thread;

    use super::*;
    use crate::error::ErrorKind;

    #[tokio::test]
    async fn in_turn_is_on_this_thread_behind_whoever_came_before() {
        let here = thread::current().id();
        let order = Arc::new(Mutex::new(Vec::new()));
        let note = |what: &'static str| {
            let order = Arc::clone(&order);
            move || order.lock().unwrap().push(what)
        };
        let (before, during) = (note("before"), note("during"));
        let earlier = tokio::spawn(async move { before() });
        let there = Computing::InTurn.run(move || {
            during();
            Ok(thread::current().id())
        });
        assert_eq!(there.await.unwrap(), here);
        earlier.await.unwrap();
        assert_eq!(*order.lock().unwrap(), ["before", "during"]);
        assert_ne!(Computing::Aside.run(|| Ok(thread::current().id())).await.unwrap(), here);
    }

    #[tokio::test]
    async fn what_it_uses_counts_and_a_panic_is_an_error() {
        for computing in [Computing::Aside, Computing::InTurn] {
            let meter = Meter::default();
            let held = meter.of(computing.run(|| {
                Meter::current().unwrap().holds(70);
                Ok(Meter::current().is_some())
            }));
            assert!(held.await.unwrap());
            let error = computing.run(|| -> Result<()> { panic!("of a test") }).await.unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Internal, "{computing:?}");
            assert!(Meter::current().is_none());
        }
    }
}
