//! What reads of one query cost: requests to the store, bytes, what a cache had, and how long was waited.
//!
//! A meter travels with a read in [`GetOptions::extensions`], so that every layer of a store can add to it what it did.
//! Counting is a relaxed addition and no lock.

use std::sync::Arc;
use std::time::Duration;

use object_store::GetOptions;

use crate::metrics::Counter;

/// See the module. Cheap to clone; clones count together.
#[derive(Clone, Debug, Default)]
pub struct ReadMeter(Arc<Counts>);

#[derive(Debug, Default)]
struct Counts {
    requests: Counter,
    bytes: Counter,
    cached_reads: Counter,
    cached_bytes: Counter,
    waited_us: Counter,
}

/// A meter's counts at one moment.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ReadFigures {
    /// Requests sent to the store, those tried again included.
    pub requests: u64,
    /// Bytes the store sent.
    pub bytes: u64,
    /// Ranges that the local cache had.
    pub cached_reads: u64,
    /// Their bytes.
    pub cached_bytes: u64,
    /// Time in which somebody waited for the store; of reads at the same time, the sum.
    pub waited: Duration,
}

impl ReadMeter {
    /// The meter that travels with a read, if any.
    #[must_use]
    pub(crate) fn of(options: &GetOptions) -> Option<Self> {
        options.extensions.get::<Self>().cloned()
    }

    /// Lets this meter travel with a read.
    #[must_use]
    pub fn attach(&self, mut options: GetOptions) -> GetOptions {
        options.extensions.insert(self.clone());
        options
    }

    /// Counts a request that took `waited` and brought `bytes`.
    pub fn request(&self, bytes: u64, waited: Duration) {
        self.0.requests.one();
        self.0.bytes.add(bytes);
        self.0.waited_us.add(u64::try_from(waited.as_micros()).unwrap_or(u64::MAX));
    }

    /// Counts a range that came from the local cache.
    pub fn cached(&self, bytes: u64) {
        self.0.cached_reads.one();
        self.0.cached_bytes.add(bytes);
    }

    /// The counts of now.
    #[must_use]
    pub fn figures(&self) -> ReadFigures {
        let counts = &*self.0;
        ReadFigures {
            requests: counts.requests.value(),
            bytes: counts.bytes.value(),
            cached_reads: counts.cached_reads.value(),
            cached_bytes: counts.cached_bytes.value(),
            waited: Duration::from_micros(counts.waited_us.value()),
        }
    }
}
