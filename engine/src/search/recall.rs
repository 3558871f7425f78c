//! The recall of live searches, sampled: the answer of an index beside the exact one.
//!
//! Owns: which searches are compared, what came of it per index since the database was opened. A comparison runs in the
//! background, one at a time, and takes at most one hundredth of one core; at a rate of 1 every search is compared before it
//! is answered. Sampling never changes an answer and never fails a statement.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use cairn_storage::id::{IndexId, TableId};
use cairn_storage::index::{VectorHit, VectorQuery, VectorSearcher};

/// Part of the searches that are compared when a session says nothing else.
pub(crate) const SAMPLE_RATE_DEFAULT: f64 = 0.01;
/// Time between comparisons over the time of one.
const REST_OVER_WORK: u32 = 99;

/// `vector.recall_sample_rate` of a session, in its configuration.
#[derive(Clone, Copy, Debug)]
pub(crate) struct SampleRate(pub(crate) f64);

/// What comparisons of one index found.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Sampled {
    /// How many.
    pub(crate) samples: u64,
    /// Sum of their recalls.
    recall: f64,
    /// The lowest.
    pub(crate) lowest: f64,
    /// Time the exact answers took.
    exact: Duration,
    /// Of the last, µs since 1970.
    pub(crate) last_us: i64,
}

impl Sampled {
    /// The mean recall.
    pub(crate) fn recall(&self) -> f64 {
        self.recall / self.samples as f64
    }

    /// Mean time of an exact answer, in milliseconds.
    pub(crate) fn exact_ms(&self) -> f64 {
        self.exact.as_secs_f64() * 1000.0 / self.samples as f64
    }
}

/// See the module.
#[derive(Debug, Default)]
pub(crate) struct RecallSampler {
    searches: AtomicU64,
    running: AtomicBool,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    rested: Option<Instant>,
    indexes: HashMap<(TableId, IndexId), Sampled>,
}

impl RecallSampler {
    /// What is known of an index.
    pub(crate) fn of(&self, table: TableId, index: IndexId) -> Option<Sampled> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner).indexes.get(&(table, index)).copied()
    }

    /// Lets go of what is known of an index: another one takes its id.
    pub(crate) fn forget(&self, table: TableId, index: IndexId) {
        self.state.lock().unwrap_or_else(PoisonError::into_inner).indexes.remove(&(table, index));
    }

    /// Takes note of a search that was answered with `hits`.
    pub(super) fn searched(
        self: &Arc<Self>,
        rate: f64,
        key: (TableId, IndexId),
        searcher: &VectorSearcher,
        query: &VectorQuery<'_>,
        hits: &[VectorHit],
    ) {
        if rate <= 0.0 {
            return;
        }
        if rate >= 1.0 {
            self.compare(key, searcher, query, hits);
            return;
        }
        // Every search has its own place between 0 and 1, without a pattern that queries could fall in with.
        let number = self.searches.fetch_add(1, Ordering::Relaxed);
        let place = mixed(number) as f64 / u64::MAX as f64;
        if place >= rate || self.running.swap(true, Ordering::AcqRel) {
            return;
        }
        let rested = self.state.lock().unwrap_or_else(PoisonError::into_inner).rested;
        let runtime = tokio::runtime::Handle::try_current();
        let (Ok(runtime), true) = (runtime, rested.is_none_or(|at| at <= Instant::now())) else {
            self.running.store(false, Ordering::Release);
            return;
        };
        let (sampler, searcher) = (Arc::clone(self), searcher.clone());
        let (vector, k, hits) = (query.query.to_vec(), query.k, hits.to_vec());
        runtime.spawn_blocking(move || {
            sampler.compare(key, &searcher, &VectorQuery { query: &vector, k, width: None }, &hits);
            sampler.running.store(false, Ordering::Release);
        });
    }

    fn compare(
        &self,
        key: (TableId, IndexId),
        searcher: &VectorSearcher,
        query: &VectorQuery<'_>,
        hits: &[VectorHit],
    ) {
        let started = Instant::now();
        // What is damaged the search itself has told.
        let Ok(exact) = searcher.nearest_exactly(query) else { return };
        let took = started.elapsed();
        let recall = recall(hits, &exact);
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        state.rested = Some(Instant::now() + took * REST_OVER_WORK);
        let first = Sampled { samples: 0, recall: 0.0, lowest: 1.0, exact: Duration::ZERO, last_us: 0 };
        let sampled = state.indexes.entry(key).or_insert(first);
        sampled.samples += 1;
        sampled.recall += recall;
        sampled.lowest = sampled.lowest.min(recall);
        sampled.exact += took;
        sampled.last_us = i64::try_from(now.as_micros()).unwrap_or(i64::MAX);
    }
}

/// The part of the exact answer that was found; rows as near as its last are as good.
fn recall(hits: &[VectorHit], exact: &[VectorHit]) -> f64 {
    let Some(last) = exact.last() else { return 1.0 };
    let found = hits.iter().filter(|hit| hit.distance <= last.distance).count();
    found.min(exact.len()) as f64 / exact.len() as f64
}

/// SplitMix64's finalizer (Steele, Lea, Flood, "Fast splittable pseudorandom number generators", 2014).
fn mixed(number: u64) -> u64 {
    let mut z = number.wrapping_mul(0x9e37_79b9_7f4a_7c15).wrapping_add(0x9e37_79b9_7f4a_7c15);
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

#[cfg(test)]
mod tests {
    use cairn_storage::id::RowId;

    use super::*;

    #[test]
    fn recall_counts_what_is_near_enough() {
        let hits = |distances: &[f32]| -> Vec<VectorHit> {
            (0..).zip(distances).map(|(i, d)| VectorHit { row: RowId(i), distance: *d }).collect()
        };
        let exact = hits(&[1.0, 2.0, 2.0, 3.0]);
        assert_eq!(recall(&hits(&[1.0, 2.0, 2.0, 3.0]), &exact), 1.0);
        assert_eq!(recall(&hits(&[1.0, 2.0, 3.0, 4.0]), &exact), 0.75);
        assert_eq!(recall(&hits(&[]), &exact), 0.0);
        assert_eq!(recall(&hits(&[]), &[]), 1.0);
    }

    #[test]
    fn the_rate_is_the_part_of_searches() {
        for rate in [0.01, 0.1, 0.5] {
            let sampled = (0..100_000).filter(|n| (mixed(*n) as f64 / u64::MAX as f64) < rate).count() as f64;
            assert!((sampled / 100_000.0 / rate - 1.0).abs() < 0.1, "{sampled} at {rate}");
        }
    }
}
