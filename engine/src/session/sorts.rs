//! The memory of a statement that joins by sorting, among its sorts.
//!
//! A sort that has spilled merges as many files at once as memory is left for, and so takes what those beside it need to go on. Here all merges
//! together get a half, each as much as any other; what can spill has fair shares of what they leave, but for an eighth, which is for what
//! cannot. A sort holds no more than its merge may have: before it spills, it merges all that it holds, and a merge that may not hold that
//! ends the statement.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use datafusion::common::{Result, resources_datafusion_err};
use datafusion::execution::memory_pool::{MemoryConsumer, MemoryLimit, MemoryPool, MemoryReservation};

/// What DataFusion calls the memory in which a sort merges …
const MERGES: &str = "ExternalSorterMerge";
/// … and that in which it collects.
const SORTS: &str = "ExternalSorter[";

/// See the module.
#[derive(Debug)]
pub(super) struct MemoryOfSorts {
    whole: Arc<dyn MemoryPool>,
    limit: usize,
    /// What any merge may have.
    least_of_merge: usize,
    merges: AtomicUsize,
    spillers: AtomicUsize,
    /// Bytes of what cannot spill.
    fixed: AtomicUsize,
    /// The most that a sort has held: it may have been one of fewer, with larger shares.
    most_of_sort: AtomicUsize,
}

impl MemoryOfSorts {
    pub(super) fn new(whole: Arc<dyn MemoryPool>, limit: usize, least_of_merge: usize) -> Self {
        let (merges, spillers, fixed, most_of_sort) = Default::default();
        Self { whole, limit, least_of_merge, merges, spillers, fixed, most_of_sort }
    }

    /// What a consumer of that kind may hold.
    fn most(&self, consumer: &MemoryConsumer) -> usize {
        if consumer.can_spill() {
            let left = (self.limit - self.limit / 8).saturating_sub(self.fixed.load(Ordering::Relaxed));
            let share = left / self.spillers.load(Ordering::Relaxed).max(1);
            if is_sort(consumer) { share.min(self.share_of_merge()) } else { share }
        } else if is_merge(consumer) {
            let of_sort = self.most_of_sort.load(Ordering::Relaxed);
            self.share_of_merge().max(self.least_of_merge).max(of_sort)
        } else {
            usize::MAX
        }
    }

    fn share_of_merge(&self) -> usize {
        self.limit / 2 / self.merges.load(Ordering::Relaxed).max(1)
    }

    /// How many there are of the kind of `consumer`; None: they are not counted.
    fn count_of(&self, consumer: &MemoryConsumer) -> Option<&AtomicUsize> {
        match (consumer.can_spill(), is_merge(consumer)) {
            (true, _) => Some(&self.spillers),
            (false, true) => Some(&self.merges),
            (false, false) => None,
        }
    }
}

fn is_merge(consumer: &MemoryConsumer) -> bool {
    consumer.name().starts_with(MERGES)
}

fn is_sort(consumer: &MemoryConsumer) -> bool {
    consumer.name().starts_with(SORTS)
}

impl fmt::Display for MemoryOfSorts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}(limit: {}, used: {})", self.name(), self.limit, self.reserved())
    }
}

impl MemoryPool for MemoryOfSorts {
    fn name(&self) -> &str {
        "sorts"
    }

    fn register(&self, consumer: &MemoryConsumer) {
        if let Some(count) = self.count_of(consumer) {
            count.fetch_add(1, Ordering::Relaxed);
        }
        self.whole.register(consumer);
    }

    fn unregister(&self, consumer: &MemoryConsumer) {
        if let Some(count) = self.count_of(consumer) {
            count.fetch_sub(1, Ordering::Relaxed);
        }
        self.whole.unregister(consumer);
    }

    fn grow(&self, reservation: &MemoryReservation, additional: usize) {
        if !reservation.consumer().can_spill() {
            self.fixed.fetch_add(additional, Ordering::Relaxed);
        }
        self.whole.grow(reservation, additional);
    }

    fn shrink(&self, reservation: &MemoryReservation, shrink: usize) {
        if !reservation.consumer().can_spill() {
            self.fixed.fetch_sub(shrink, Ordering::Relaxed);
        }
        self.whole.shrink(reservation, shrink);
    }

    fn try_grow(&self, reservation: &MemoryReservation, additional: usize) -> Result<()> {
        let consumer = reservation.consumer();
        let most = self.most(consumer);
        if reservation.size().saturating_add(additional) > most {
            return Err(resources_datafusion_err!(
                "{} bytes more for {} are beyond its share of {} bytes; it uses {}",
                additional,
                consumer.name(),
                most,
                reservation.size()
            ));
        }
        self.whole.try_grow(reservation, additional)?;
        if !consumer.can_spill() {
            self.fixed.fetch_add(additional, Ordering::Relaxed);
        } else if is_sort(consumer) {
            self.most_of_sort.fetch_max(reservation.size() + additional, Ordering::Relaxed);
        }
        Ok(())
    }

    fn reserved(&self) -> usize {
        self.whole.reserved()
    }

    fn memory_limit(&self) -> MemoryLimit {
        self.whole.memory_limit()
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use datafusion::execution::memory_pool::FairSpillPool;

    use super::*;

    #[test]
    fn no_merge_takes_what_the_others_need() {
        let whole: Arc<dyn MemoryPool> = Arc::new(FairSpillPool::new(8_000));
        let pool: Arc<dyn MemoryPool> = Arc::new(MemoryOfSorts::new(whole, 8_000, 100));
        let merge = |i: usize| MemoryConsumer::new(format!("{MERGES}[{i}]")).register(&pool);
        let sort = |i: usize| {
            MemoryConsumer::new(format!("ExternalSorter[{i}]")).with_can_spill(true).register(&pool)
        };
        let (first, second, left, right) = (merge(0), merge(1), sort(0), sort(1));
        first.try_grow(2_000).unwrap();
        assert!(first.try_grow(1).is_err());
        second.try_grow(1_000).unwrap();
        // What cannot spill has 3,000 bytes, an eighth is kept back.
        left.try_grow(2_000).unwrap();
        assert!(left.try_grow(1).is_err());
        right.try_grow(2_000).unwrap();
        let other = MemoryConsumer::new("other").register(&pool);
        other.try_grow(1_000).unwrap();
        assert_eq!(pool.reserved(), 8_000);
        drop((first, left, other));
        second.try_grow(3_000).unwrap();
        assert!(second.try_grow(1).is_err());
        drop((second, right));
        assert_eq!(pool.reserved(), 0);
    }

    #[test]
    fn what_a_sort_holds_can_be_merged() {
        let whole: Arc<dyn MemoryPool> = Arc::new(FairSpillPool::new(8_000));
        let pool: Arc<dyn MemoryPool> = Arc::new(MemoryOfSorts::new(whole, 8_000, 100));
        let merge = |i: usize| MemoryConsumer::new(format!("{MERGES}[{i}]")).register(&pool);
        let spiller = |name: &str| MemoryConsumer::new(name).with_can_spill(true).register(&pool);
        let (sort, mine) = (spiller("ExternalSorter[0]"), merge(0));
        sort.try_grow(4_000).unwrap();
        assert!(sort.try_grow(1).is_err());
        // Others have come meanwhile.
        let others = [merge(1), merge(2), merge(3)];
        sort.free();
        mine.try_grow(4_000).unwrap();
        assert!(mine.try_grow(1).is_err());
        sort.try_grow(1_000).unwrap();
        assert!(sort.try_grow(1).is_err());
        // What does not merge has what is left.
        sort.free();
        let groups = spiller("GroupedHashAggregateStream[0]");
        groups.try_grow(1_500).unwrap();
        assert!(groups.try_grow(1).is_err());
        drop(others);
    }
}
