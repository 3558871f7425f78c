//! What was asked of a store: requests of each kind, bytes, how many followed one another.
//!
//! A *round trip* here is one step of the longest chain of requests of which each began when the one before it had ended
//! (its last byte received). Requests that depend on each other always form such a chain; some that do not may, too, so the true
//! number is at most this.

use std::ops::Range;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use datafusion::object_store::path::Path;

/// A kind of request, as S3 knows them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Get,
    Head,
    /// Also the requests of an upload in parts.
    Put,
    /// One for each page.
    List,
    Copy,
    /// One for each thousand.
    Delete,
}

/// Counts since the last [`Traffic::take`].
#[derive(Clone, Debug, Default)]
pub(super) struct Counts {
    pub(super) gets: u64,
    pub(super) heads: u64,
    pub(super) puts: u64,
    pub(super) lists: u64,
    pub(super) copies: u64,
    pub(super) deletes: u64,
    /// Bytes received.
    pub(super) read: u64,
    /// Bytes sent.
    pub(super) written: u64,
    pub(super) round_trips: u64,
    /// The ranges that were asked for and found, in order.
    pub(super) ranges: Vec<(Path, Range<u64>)>,
}

impl Counts {
    /// Of all kinds.
    pub(super) fn requests(&self) -> u64 {
        self.gets + self.heads + self.puts + self.lists + self.copies + self.deletes
    }

    /// In words.
    pub(super) fn text(&self) -> String {
        format!(
            "{} GET, {} HEAD, {} PUT, {} LIST, {} COPY, {} DELETE, {} bytes received, {} sent",
            self.gets, self.heads, self.puts, self.lists, self.copies, self.deletes, self.read, self.written
        )
    }
}

/// The counts of one store.
#[derive(Debug, Default)]
pub(super) struct Traffic(Mutex<State>);

#[derive(Debug, Default)]
struct State {
    counts: Counts,
    /// How often the counts began anew: what began earlier no longer counts for round trips.
    era: u64,
    /// Longest chain that has ended.
    chain: u64,
}

impl Traffic {
    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Counts a request, which is under way until the value returned is dropped.
    pub(super) fn begin(self: &Arc<Self>, kind: Kind) -> Underway {
        let mut state = self.state();
        let counts = &mut state.counts;
        let count = match kind {
            Kind::Get => &mut counts.gets,
            Kind::Head => &mut counts.heads,
            Kind::Put => &mut counts.puts,
            Kind::List => &mut counts.lists,
            Kind::Copy => &mut counts.copies,
            Kind::Delete => &mut counts.deletes,
        };
        *count += 1;
        let chain = state.chain + 1;
        state.counts.round_trips = state.counts.round_trips.max(chain);
        Underway { traffic: Arc::clone(self), era: state.era, chain }
    }

    /// The counts, which begin anew.
    pub(super) fn take(&self) -> Counts {
        let mut state = self.state();
        state.era += 1;
        state.chain = 0;
        std::mem::take(&mut state.counts)
    }
}

/// A request that has not ended.
#[derive(Debug)]
pub(super) struct Underway {
    traffic: Arc<Traffic>,
    era: u64,
    chain: u64,
}

impl Underway {
    /// Its answer will be this range.
    pub(super) fn found(&self, path: &Path, range: &Range<u64>) {
        self.traffic.state().counts.ranges.push((path.clone(), range.clone()));
    }

    pub(super) fn received(&self, bytes: usize) {
        self.traffic.state().counts.read += bytes as u64;
    }

    pub(super) fn sent(&self, bytes: usize) {
        self.traffic.state().counts.written += bytes as u64;
    }
}

impl Drop for Underway {
    fn drop(&mut self) {
        let mut state = self.traffic.state();
        if state.era == self.era {
            state.chain = state.chain.max(self.chain);
        }
    }
}
