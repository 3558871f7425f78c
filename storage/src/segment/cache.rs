//! What is kept in memory of segments: footers, key filters, pseudo-columns, verified blocks, decoded pages and columns.
//!
//! Owns: the byte budget and what leaves first (CLOCK: second chance for what was used since the hand last passed).
//! Does not own: reading and verifying (`reader`), what scans decode and come back to (`columns`). One per open database; objects never change, so nothing gets stale.

use std::collections::{HashMap, HashSet, VecDeque};
use std::fmt;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use arrow::array::ArrayRef;
use bytes::Bytes;

use super::columns::ColumnCache;
use super::filter::KeyFilter;
use super::kept::KeptColumn;
use super::places::Places;
use super::reader::{NumberColumn, Opened, SegmentVectors};
use crate::id::{ColumnId, ObjectId};
use crate::index::LoadedUnit;
use crate::metrics::CacheFigures;
use crate::schema::TableDef;

/// Default budget: enough for the footers and hot blocks of a few hundred segments.
pub const CACHE_BYTES_DEFAULT: usize = 256 * 1024 * 1024;

/// How a definition shows segments. Its number does not tell: a transaction that is not committed may have given the same to another.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Form(u64);

impl Form {
    /// That of a definition.
    pub(crate) fn of(def: &TableDef) -> Self {
        let mut hasher = DefaultHasher::new();
        for column in &def.columns {
            (column.id, &column.name, &column.column_type, column.nullable).hash(&mut hasher);
            if let Some(initial) = &column.initial {
                format!("{initial:?}").hash(&mut hasher);
            }
        }
        Self(hasher.finish())
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum CacheKey {
    /// As a definition shows it.
    Opened(ObjectId, Form),
    KeyFilter(ObjectId),
    RowIds(ObjectId),
    Versions(ObjectId),
    /// One page of a pseudo-column, by its root column and first row.
    NumberPage(ObjectId, usize, u32),
    Block(ObjectId, u32),
    /// One page of a column as a definition shows it, by its first row.
    Page(ObjectId, ColumnId, Form, u32),
    /// All of a column as a definition shows it.
    Column(ObjectId, ColumnId, Form),
    Vectors(ObjectId, ColumnId),
    Unit(ObjectId),
}

impl CacheKey {
    fn object(&self) -> ObjectId {
        match self {
            Self::Opened(id, _)
            | Self::KeyFilter(id)
            | Self::RowIds(id)
            | Self::Versions(id)
            | Self::NumberPage(id, ..)
            | Self::Block(id, _)
            | Self::Page(id, ..)
            | Self::Column(id, ..)
            | Self::Vectors(id, _)
            | Self::Unit(id) => *id,
        }
    }
}

#[derive(Clone)]
pub(crate) enum CacheValue {
    Opened(Arc<Opened>),
    KeyFilter(Arc<KeyFilter>),
    Numbers(Arc<NumberColumn>),
    Block(Bytes),
    Decoded(ArrayRef),
    Column(Arc<KeptColumn>),
    Vectors(Arc<SegmentVectors>),
    Unit(Arc<LoadedUnit>),
}

struct Entry {
    value: CacheValue,
    bytes: usize,
    used: bool,
}

#[derive(Default)]
struct Clock {
    entries: HashMap<CacheKey, Entry>,
    /// Keys in the order the hand passes them; may name entries that are gone.
    hand: VecDeque<CacheKey>,
    bytes: usize,
    hits: u64,
    misses: u64,
}

impl Clock {
    /// `hits` of `asked` were there.
    fn count(&mut self, hits: u64, asked: u64) {
        self.hits += hits;
        self.misses += asked - hits;
    }
}

/// Shared cache over the segments of one database.
pub struct SegmentCache {
    budget: usize,
    clock: Mutex<Clock>,
    /// Who reads what is not there yet; others wait for it.
    turns: Mutex<HashMap<CacheKey, Weak<Turn>>>,
    /// Where rows were found; a few MiB beside the budget.
    places: Places,
    /// What scans decoded; beside the budget, with one of its own.
    columns: Arc<ColumnCache>,
}

/// Held while something is read into the cache.
pub(super) type Turn = tokio::sync::Mutex<()>;

impl SegmentCache {
    /// A cache of at most `budget` bytes.
    #[must_use]
    pub fn new(budget: usize) -> Arc<Self> {
        let (clock, turns, places) = (Mutex::default(), Mutex::default(), Places::default());
        Arc::new(Self { budget, clock, turns, places, columns: Arc::default() })
    }

    /// Where rows were found lately.
    pub(crate) fn places(&self) -> &Places {
        &self.places
    }

    /// What scans decoded lately.
    #[must_use]
    pub fn columns(&self) -> &Arc<ColumnCache> {
        &self.columns
    }

    /// Bytes held now.
    #[must_use]
    pub fn bytes(&self) -> usize {
        self.lock().bytes
    }

    /// Bytes held, and what was found.
    #[must_use]
    pub fn figures(&self) -> CacheFigures {
        let clock = self.lock();
        CacheFigures {
            bytes: clock.bytes as u64,
            limit_bytes: self.budget as u64,
            hits: clock.hits,
            misses: clock.misses,
            failures: 0,
        }
    }

    /// Drops everything of objects that are removed. The file of one that is mapped takes its space on the disk until then.
    pub(crate) fn forget(&self, gone: &HashSet<ObjectId>) {
        if gone.is_empty() {
            return;
        }
        self.columns.forget(gone);
        let mut clock = self.lock();
        let mut freed = 0;
        clock.entries.retain(|key, entry| {
            let keep = !gone.contains(&key.object());
            freed += if keep { 0 } else { entry.bytes };
            keep
        });
        clock.bytes -= freed;
        clock.hand.retain(|key| !gone.contains(&key.object()));
    }

    pub(crate) fn get(&self, key: CacheKey) -> Option<CacheValue> {
        let mut clock = self.lock();
        let found = clock.entries.get_mut(&key).map(|entry| {
            entry.used = true;
            entry.value.clone()
        });
        clock.count(u64::from(found.is_some()), 1);
        found
    }

    /// As [`get`](Self::get), not counted.
    pub(super) fn peek(&self, key: CacheKey) -> Option<CacheValue> {
        self.lock().entries.get(&key).map(|entry| entry.value.clone())
    }

    /// For readers of something that is not there and is slow to read: who holds it reads, who gets it next looks again.
    pub(super) fn turn(&self, key: CacheKey) -> Arc<Turn> {
        // Nothing panics while holding it.
        let mut turns = self.turns.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(turn) = turns.get(&key).and_then(Weak::upgrade) {
            return turn;
        }
        turns.retain(|_, turn| turn.strong_count() > 0);
        let turn = Arc::new(Turn::default());
        turns.insert(key, Arc::downgrade(&turn));
        turn
    }

    /// Whether a decoded page or column of `bytes` may come in: only while there is room, or something not used lately gives it, so
    /// that reads all over a large table don't push out each other's pages for nothing.
    pub(super) fn admits_decoded(&self, bytes: usize) -> bool {
        let mut clock = self.lock();
        if bytes > self.budget / 16 {
            return false;
        }
        if clock.bytes + bytes <= self.budget {
            return true;
        }
        let Some(oldest) = clock.hand.pop_front() else { return false };
        match clock.entries.get_mut(&oldest) {
            Some(entry) if entry.used => {
                entry.used = false;
                clock.hand.push_back(oldest);
                false
            }
            Some(entry) => {
                clock.bytes -= entry.bytes;
                clock.entries.remove(&oldest);
                true
            }
            None => true,
        }
    }

    /// The blocks of `id` among `numbers` that are there, under one lock.
    pub(super) fn blocks(&self, id: ObjectId, numbers: &[u32]) -> Vec<Option<Bytes>> {
        let mut clock = self.lock();
        let find = |&number: &u32| match clock.entries.get_mut(&CacheKey::Block(id, number)) {
            Some(Entry { value: CacheValue::Block(bytes), used, .. }) => {
                *used = true;
                Some(bytes.clone())
            }
            _ => None,
        };
        let found: Vec<_> = numbers.iter().map(find).collect();
        clock.count(found.iter().flatten().count() as u64, numbers.len() as u64);
        found
    }

    pub(crate) fn put(&self, key: CacheKey, value: CacheValue, bytes: usize) {
        if bytes > self.budget / 2 {
            return;
        }
        let mut clock = self.lock();
        match clock.entries.insert(key, Entry { value, bytes, used: false }) {
            Some(old) => clock.bytes -= old.bytes,
            None => clock.hand.push_back(key),
        }
        clock.bytes += bytes;
        while clock.bytes > self.budget {
            let Some(oldest) = clock.hand.pop_front() else {
                break;
            };
            match clock.entries.get_mut(&oldest) {
                Some(entry) if entry.used => {
                    entry.used = false;
                    clock.hand.push_back(oldest);
                }
                Some(entry) => {
                    clock.bytes -= entry.bytes;
                    clock.entries.remove(&oldest);
                }
                None => {}
            }
        }
    }

    fn lock(&self) -> MutexGuard<'_, Clock> {
        // A panic while the lock was held can at worst have left the byte count off.
        self.clock.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl fmt::Debug for SegmentCache {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SegmentCache").field("budget", &self.budget).field("bytes", &self.bytes()).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::id::Epoch;

    #[test]
    fn the_budget_holds_and_used_entries_stay() {
        let cache = SegmentCache::new(1000);
        let id = |n| ObjectId { epoch: Epoch(1), sequence: n };
        let block =
            |n: u32| (CacheKey::Block(id(u64::from(n % 2)), n), CacheValue::Block(Bytes::from(vec![0; 100])));
        for n in 0..50 {
            let (key, value) = block(n);
            cache.put(key, value, 100);
            assert!(cache.get(CacheKey::Block(id(0), 0)).is_some(), "the used block was dropped at {n}");
            assert!(cache.bytes() <= 1000);
        }
        assert_eq!((cache.figures().hits, cache.figures().misses), (50, 0));
        cache.forget(&HashSet::from([id(0)]));
        assert!(cache.get(CacheKey::Block(id(0), 0)).is_none());
        cache.forget(&HashSet::from([id(1), id(2)]));
        assert_eq!(cache.bytes(), 0);
        let (key, value) = block(1);
        cache.put(key, value, 600);
        assert_eq!(cache.bytes(), 0, "an entry above half the budget is not kept");
    }
}
