//! Which manifests the versions that are read in this process stand on.
//!
//! A version names objects of the manifest it stands on, and those that the log has named since. So one that a long statement or
//! transaction holds keeps all of them from being collected if the collector keeps what that manifest names (`collect`).
//! Commits hand the pin on: only a checkpoint makes a new one.
//!
//! It cannot keep everything: what a follower has loaded another process collects, and this one's collector waits for a pin only so
//! long. Which versions have lost that protection is known here too, so that what they miss is not taken for damage. A writer that was cut
//! off from its bucket for long may have lost it for all of them: another one may have taken the database over unheard.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::Duration;

use tokio::time::Instant;

use crate::fs::File;
use crate::id::ManifestNumber;

/// The manifest a version stands on; lives as long as any version of that manifest.
#[derive(Clone, Debug, Default)]
pub(crate) struct Pin(Arc<Pinned>);

#[derive(Debug, Default)]
struct Pinned {
    stand: Stand,
    /// The manifest's file, locked so that the writer in another process keeps what it names.
    _lock: Option<Arc<dyn File>>,
}

/// What a pin says. Holding it pins nothing.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Stand {
    /// 0: on none; its objects are seen to otherwise.
    manifest: ManifestNumber,
    /// Another process decides how long its objects stay, whatever becomes of this one.
    followed: bool,
}

impl Pin {
    /// Of versions that stand on `manifest`.
    pub(crate) fn new(manifest: ManifestNumber) -> Self {
        Self::standing(Stand { manifest, followed: false }, None)
    }

    /// Of versions that were loaded from `manifest` while another process might collect what it names.
    pub(crate) fn followed(manifest: ManifestNumber) -> Self {
        Self::standing(Stand { manifest, followed: true }, None)
    }

    /// Of versions that stand on `manifest`, whose file is locked.
    pub(crate) fn locked(manifest: ManifestNumber, lock: Arc<dyn File>) -> Self {
        Self::standing(Stand { manifest, followed: false }, Some(lock))
    }

    fn standing(stand: Stand, lock: Option<Arc<dyn File>>) -> Self {
        Self(Arc::new(Pinned { stand, _lock: lock }))
    }

    pub(super) fn stand(&self) -> Stand {
        self.0.stand
    }
}

/// The pins of versions that may be read: those that were handed out, and in a directory all there are.
#[derive(Debug, Default)]
pub(crate) struct Pins {
    held: Mutex<Vec<Weak<Pinned>>>,
    /// The first manifest that this process's collector has not given up.
    kept_from: AtomicU64,
    /// None: no other process can take the database over, or this one does not write it.
    tenure: Mutex<Option<Tenure>>,
}

/// That this process is the writer of a bucket.
#[derive(Clone, Copy, Debug)]
struct Tenure {
    /// When it was last seen to be.
    seen: Instant,
    /// For how long nobody who came after that has collected anything.
    lasts: Duration,
}

impl Pins {
    /// A version with this pin may be read from now on.
    pub(crate) fn hold(&self, pin: &Pin) {
        let mut held = self.held.lock().unwrap_or_else(PoisonError::into_inner);
        let same = |known: &Weak<Pinned>| std::ptr::eq(known.as_ptr(), Arc::as_ptr(&pin.0));
        // The newest is asked for nearly always.
        if !held.iter().rev().any(same) {
            held.retain(|known| known.strong_count() > 0);
            held.push(Arc::downgrade(&pin.0));
        }
    }

    /// The oldest manifest that a version stands on that is still held.
    pub(crate) fn oldest(&self) -> Option<ManifestNumber> {
        let held = self.held.lock().unwrap_or_else(PoisonError::into_inner);
        held.iter().filter_map(Weak::upgrade).map(|pinned| pinned.stand.manifest).min()
    }

    /// What only manifests before `kept_from` name is collected from now on.
    pub(crate) fn give_up_before(&self, kept_from: ManifestNumber) {
        self.kept_from.fetch_max(kept_from.0, Ordering::Relaxed);
    }

    /// At `seen` this process was the writer of a bucket; whoever comes later has collected nothing before `lasts` are over.
    pub(crate) fn seen_to_write(&self, seen: Instant, lasts: Duration) {
        let mut tenure = self.tenure.lock().unwrap_or_else(PoisonError::into_inner);
        *tenure = Some(Tenure { seen, lasts });
    }

    /// Whether a later writer, of whom nothing was heard here, may have collected what the newest version here names.
    pub(crate) fn may_be_outlived(&self) -> bool {
        let tenure = self.tenure.lock().unwrap_or_else(PoisonError::into_inner);
        tenure.is_some_and(|tenure| tenure.seen.elapsed() > tenure.lasts)
    }

    /// Whether an object that such a version names may have been collected.
    pub(super) fn may_be_gone(&self, stand: Stand) -> bool {
        let kept_from = ManifestNumber(self.kept_from.load(Ordering::Relaxed));
        stand.followed
            || (stand.manifest != ManifestNumber(0) && stand.manifest < kept_from)
            || self.may_be_outlived()
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
        assert_eq!(pins.held.lock().unwrap_or_else(PoisonError::into_inner).len(), 2);
        let reader = old.clone();
        drop(old);
        assert_eq!(pins.oldest(), Some(ManifestNumber(3)));
        drop(reader);
        assert_eq!(pins.oldest(), Some(ManifestNumber(5)));
        drop(new);
        assert_eq!(pins.oldest(), None);
    }

    #[tokio::test(start_paused = true)]
    async fn a_writer_that_nobody_has_seen_for_long_may_be_outlived() {
        let pins = Pins::default();
        assert!(!pins.may_be_outlived(), "of a directory nobody can take anything over");
        for _ in 0..2 {
            pins.seen_to_write(Instant::now(), Duration::from_secs(60));
            tokio::time::sleep(Duration::from_secs(59)).await;
            assert!(!pins.may_be_outlived() && !pins.may_be_gone(Stand::default()));
        }
        tokio::time::sleep(Duration::from_secs(2)).await;
        assert!(pins.may_be_outlived() && pins.may_be_gone(Stand::default()));
    }

    #[test]
    fn what_was_followed_or_given_up_may_be_gone() {
        let pins = Pins::default();
        let gone = |pin: &Pin| pins.may_be_gone(pin.stand());
        let (old, new) = (Pin::new(ManifestNumber(3)), Pin::new(ManifestNumber(5)));
        assert!(!gone(&old) && !gone(&new) && gone(&Pin::followed(ManifestNumber(9))));
        pins.give_up_before(ManifestNumber(5));
        pins.give_up_before(ManifestNumber(4));
        assert!(gone(&old) && !gone(&new) && !gone(&Pin::default()));
    }
}
