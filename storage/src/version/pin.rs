//! Which manifests the versions that are read in this process stand on.
//!
//! A version names objects of the manifest it stands on, and those that the log has named since. So one that a long statement or
//! transaction holds keeps all of them from being collected if the collector keeps what that manifest names (`collect`).
//! Commits hand the pin on: only a checkpoint makes a new one.

use std::sync::{Arc, Mutex, PoisonError, Weak};

use crate::fs::File;
use crate::id::ManifestNumber;

/// The manifest a version stands on; lives as long as any version of that manifest.
#[derive(Clone, Debug, Default)]
pub(crate) struct Pin(Arc<Pinned>);

#[derive(Debug, Default)]
struct Pinned {
    manifest: ManifestNumber,
    /// The manifest's file, locked so that the writer in another process keeps what it names.
    _lock: Option<Arc<dyn File>>,
}

impl Pin {
    /// Of versions that stand on `manifest`.
    pub(crate) fn new(manifest: ManifestNumber) -> Self {
        Self(Arc::new(Pinned { manifest, _lock: None }))
    }

    /// Of versions that stand on `manifest`, whose file is locked.
    pub(crate) fn locked(manifest: ManifestNumber, lock: Arc<dyn File>) -> Self {
        Self(Arc::new(Pinned { manifest, _lock: Some(lock) }))
    }
}

/// The pins of versions that may be read: those that were handed out, and in a directory all there are.
#[derive(Debug, Default)]
pub(crate) struct Pins(Mutex<Vec<Weak<Pinned>>>);

impl Pins {
    /// A version with this pin may be read from now on.
    pub(crate) fn hold(&self, pin: &Pin) {
        let mut held = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let same = |known: &Weak<Pinned>| std::ptr::eq(known.as_ptr(), Arc::as_ptr(&pin.0));
        // The newest is asked for nearly always.
        if !held.iter().rev().any(same) {
            held.retain(|known| known.strong_count() > 0);
            held.push(Arc::downgrade(&pin.0));
        }
    }

    /// The oldest manifest that a version stands on that is still held.
    pub(crate) fn oldest(&self) -> Option<ManifestNumber> {
        let held = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        held.iter().filter_map(Weak::upgrade).map(|pinned| pinned.manifest).min()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_oldest_pin_that_is_held_counts() {
        let pins = Pins::default();
        assert_eq!(pins.oldest(), None);
        let (old, new) = (Pin::new(ManifestNumber(3)), Pin::new(ManifestNumber(5)));
        for pin in [&old, &new, &old, &new] {
            pins.hold(pin);
        }
        assert_eq!(pins.0.lock().unwrap_or_else(PoisonError::into_inner).len(), 2);
        let reader = old.clone();
        drop(old);
        assert_eq!(pins.oldest(), Some(ManifestNumber(3)));
        drop(reader);
        assert_eq!(pins.oldest(), Some(ManifestNumber(5)));
        drop(new);
        assert_eq!(pins.oldest(), None);
    }
}
