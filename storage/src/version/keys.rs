//! Primary keys of hot rows.
//!
//! Owns: key -> row id of the newest hot row with that key. If that row still lives (the hot deletes tell), it is the
//! key's only one: the row it replaced was deleted first. If not, a bulk write may have put the key into a segment since.
//! Kept in generations, so that a checkpoint drops what it wrote without walking the keys.

use imbl::HashMap;

use crate::id::{CommitVersion, RowId};
use crate::segment::EncodedKey;

/// Keys of hot rows at one version; a value, cheap to clone.
#[derive(Clone, Debug, Default)]
pub struct HotKeys {
    /// Sealed generations, oldest first, each with the version it reaches up to.
    sealed: Vec<(CommitVersion, HashMap<EncodedKey, RowId>)>,
    current: HashMap<EncodedKey, RowId>,
}

impl HotKeys {
    /// The newest hot row with this key.
    #[must_use]
    pub fn find(&self, key: &EncodedKey) -> Option<RowId> {
        self.current
            .get(key)
            .or_else(|| self.sealed.iter().rev().find_map(|(_, keys)| keys.get(key)))
            .copied()
    }

    /// Records the key of a new row.
    pub fn insert(&mut self, key: EncodedKey, row: RowId) {
        self.current.insert(key, row);
    }

    /// Whether no key is held.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.current.is_empty() && self.sealed.is_empty()
    }

    /// Begins a new generation; the keys so far belong to rows created at or before `until`.
    pub fn seal(&mut self, until: CommitVersion) {
        if !self.current.is_empty() {
            self.sealed.push((until, std::mem::take(&mut self.current)));
        }
    }

    /// Drops the generations whose rows are all in segments.
    pub fn drop_flushed(&mut self, flushed: CommitVersion) {
        self.sealed.retain(|(until, _)| *until > flushed);
    }
}
