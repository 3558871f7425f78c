//! The memory of all queries together, which the columns that are kept decoded may use as long as queries don't (ADR 42).
//!
//! Owns: the limit of both. Does not own: the part of one session or user (`session::memory`), which columns are kept and which leave
//! first (`cairn_storage::segment::ColumnCache`).
//!
//! Queries come first: what they reserve is gone for the columns at the same instant, and no query waits, spills or fails because of
//! them.

use std::fmt;
use std::sync::Arc;

use cairn_storage::segment::ColumnCache;
use datafusion::common::Result;
use datafusion::execution::memory_pool::{
    FairSpillPool, MemoryConsumer, MemoryLimit, MemoryPool, MemoryReservation,
};

/// See the module.
#[derive(Debug)]
pub(crate) struct MemoryOfQueries {
    queries: FairSpillPool,
    columns: Arc<ColumnCache>,
}

impl MemoryOfQueries {
    /// At most `limit` bytes for queries and `columns` together.
    pub(crate) fn new(limit: usize, columns: Arc<ColumnCache>) -> Self {
        columns.share(limit);
        Self { queries: FairSpillPool::new(limit), columns }
    }
}

impl fmt::Display for MemoryOfQueries {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.queries, f)
    }
}

impl MemoryPool for MemoryOfQueries {
    fn name(&self) -> &str {
        self.queries.name()
    }

    fn register(&self, consumer: &MemoryConsumer) {
        self.queries.register(consumer);
    }

    fn unregister(&self, consumer: &MemoryConsumer) {
        self.queries.unregister(consumer);
    }

    fn grow(&self, reservation: &MemoryReservation, additional: usize) {
        self.queries.grow(reservation, additional);
        self.columns.make_way(additional);
    }

    fn shrink(&self, reservation: &MemoryReservation, shrink: usize) {
        self.queries.shrink(reservation, shrink);
        self.columns.give_back(shrink);
    }

    fn try_grow(&self, reservation: &MemoryReservation, additional: usize) -> Result<()> {
        self.queries.try_grow(reservation, additional)?;
        self.columns.make_way(additional);
        Ok(())
    }

    fn reserved(&self) -> usize {
        self.queries.reserved()
    }

    fn memory_limit(&self) -> MemoryLimit {
        self.queries.memory_limit()
    }
}
