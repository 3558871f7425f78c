//! The memory of one session, or of all sessions of a user: a part of the engine's.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use datafusion::common::{Result, resources_datafusion_err};
use datafusion::execution::memory_pool::{MemoryConsumer, MemoryLimit, MemoryPool, MemoryReservation};

/// Takes from another pool, and no more than its limit.
#[derive(Debug)]
pub(crate) struct PartOfMemory {
    whole: Arc<dyn MemoryPool>,
    /// "session" or "user".
    whose: &'static str,
    limit: AtomicUsize,
    used: AtomicUsize,
}

impl PartOfMemory {
    pub(super) fn of_session(whole: Arc<dyn MemoryPool>, limit: usize) -> Self {
        Self { whole, whose: "session", limit: AtomicUsize::new(limit), used: AtomicUsize::new(0) }
    }

    /// For the sessions of one user; without a limit until one is set.
    pub(crate) fn of_user(whole: Arc<dyn MemoryPool>) -> Self {
        Self { whole, whose: "user", limit: AtomicUsize::new(usize::MAX), used: AtomicUsize::new(0) }
    }

    /// What is taken from now on stays below `limit`; None: there is none.
    pub(super) fn set_limit(&self, limit: Option<usize>) {
        self.limit.store(limit.unwrap_or(usize::MAX), Ordering::Relaxed);
    }

    fn limit(&self) -> usize {
        self.limit.load(Ordering::Relaxed)
    }
}

impl fmt::Display for PartOfMemory {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}(limit: {}, used: {})", self.name(), self.limit(), self.reserved())
    }
}

impl MemoryPool for PartOfMemory {
    fn name(&self) -> &str {
        self.whose
    }

    fn register(&self, consumer: &MemoryConsumer) {
        self.whole.register(consumer);
    }

    fn unregister(&self, consumer: &MemoryConsumer) {
        self.whole.unregister(consumer);
    }

    fn grow(&self, reservation: &MemoryReservation, additional: usize) {
        self.used.fetch_add(additional, Ordering::Relaxed);
        self.whole.grow(reservation, additional);
    }

    fn shrink(&self, reservation: &MemoryReservation, shrink: usize) {
        self.used.fetch_sub(shrink, Ordering::Relaxed);
        self.whole.shrink(reservation, shrink);
    }

    fn try_grow(&self, reservation: &MemoryReservation, additional: usize) -> Result<()> {
        let limit = self.limit();
        let fits = |used: usize| used.checked_add(additional).filter(|used| *used <= limit);
        if self.used.fetch_update(Ordering::Relaxed, Ordering::Relaxed, fits).is_err() {
            return Err(resources_datafusion_err!(
                "{} bytes more for {} are beyond the {} bytes a {} may use; it uses {}",
                additional,
                reservation.consumer().name(),
                limit,
                self.whose,
                self.reserved()
            ));
        }
        self.whole.try_grow(reservation, additional).inspect_err(|_| {
            self.used.fetch_sub(additional, Ordering::Relaxed);
        })
    }

    fn reserved(&self) -> usize {
        self.used.load(Ordering::Relaxed)
    }

    fn memory_limit(&self) -> MemoryLimit {
        match (self.limit(), self.whole.memory_limit()) {
            (usize::MAX, whole) => whole,
            (limit, MemoryLimit::Finite(whole)) => MemoryLimit::Finite(limit.min(whole)),
            (limit, MemoryLimit::Infinite | MemoryLimit::Unknown) => MemoryLimit::Finite(limit),
        }
    }
}
