//! Work on pieces by several threads, with results that do not depend on how many.
//!
//! Owns: handing out pieces, cancellation. Does not own: threads that outlive a call.
//! Ordering: pieces are handed out in order and finish in any; results are returned in the order of the pieces.

use std::ops::Range;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError};

use crate::hnsw::BuildError;

/// How a build may work.
pub(crate) struct Work<'a> {
    /// Threads, at least 1.
    pub(crate) threads: usize,
    /// Asked between pieces; true ends the build.
    pub(crate) cancelled: &'a (dyn Fn() -> bool + Sync),
}

/// Calls `f` with every item, on `work.threads` threads.
///
/// # Errors
/// The first error of `f` in time, or [`BuildError::Cancelled`].
pub(crate) fn each<T, F>(
    work: &Work<'_>,
    items: impl Iterator<Item = T> + Send,
    f: F,
) -> Result<(), BuildError>
where
    T: Send,
    F: Fn(T) -> Result<(), BuildError> + Sync,
{
    let items = Mutex::new(items);
    let failed = AtomicBool::new(false);
    let run = || -> Result<(), BuildError> {
        loop {
            if failed.load(Ordering::Relaxed) {
                return Ok(());
            }
            if (work.cancelled)() {
                return Err(BuildError::Cancelled);
            }
            let Some(item) = items.lock().unwrap_or_else(PoisonError::into_inner).next() else {
                return Ok(());
            };
            f(item)?;
        }
    };
    let noted = || run().inspect_err(|_| failed.store(true, Ordering::Relaxed));
    if work.threads <= 1 {
        return noted();
    }
    std::thread::scope(|scope| {
        let others: Vec<_> = (1..work.threads).map(|_| scope.spawn(noted)).collect();
        let mut result = noted();
        for other in others {
            match other.join() {
                Ok(theirs) => result = result.and(theirs),
                Err(panic) => std::panic::resume_unwind(panic),
            }
        }
        result
    })
}

/// `f` of each range of `size` of `0..len`, in order.
///
/// # Errors
/// As [`each`].
pub(crate) fn fold_chunks<R, F>(work: &Work<'_>, len: usize, size: usize, f: F) -> Result<Vec<R>, BuildError>
where
    R: Send,
    F: Fn(Range<usize>) -> Result<R, BuildError> + Sync,
{
    let mut results: Vec<Option<R>> = (0..len.div_ceil(size)).map(|_| None).collect();
    each(work, results.iter_mut().enumerate(), |(i, slot)| {
        *slot = Some(f(i * size..len.min((i + 1) * size))?);
        Ok(())
    })?;
    Ok(results.into_iter().flatten().collect())
}
