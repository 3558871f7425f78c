//! What happened in a run, to be printed when it fails and compared with another run of the same seed.
//!
//! Events at one virtual instant by one actor are put in order of their text: which of its tasks ran first then is nobody's business.
//! Nothing random of the product may stand in an event: no salt, no id that it drew, no length of compressed bytes.

use std::sync::{Arc, Mutex, PoisonError};

/// Events as (virtual ms, slot of the actor, text). Cheap to clone; clones write into the same one.
#[derive(Clone, Debug, Default)]
pub(super) struct Trace(Arc<Mutex<Vec<(u64, u64, String)>>>);

impl Trace {
    pub(super) fn note(&self, at_ms: u64, slot: u64, text: String) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).push((at_ms, slot, text));
    }

    /// All events in order, one a line.
    pub(super) fn lines(&self) -> Vec<String> {
        let mut events = self.0.lock().unwrap_or_else(PoisonError::into_inner).clone();
        events.sort();
        events.into_iter().map(|(at_ms, _, text)| format!("{at_ms:>9} {text}")).collect()
    }
}
