//! Columns of row groups, decoded and kept for the scans that come back to them.
//!
//! Owns: which of them are kept, within how many bytes, and which leaves first. Does not own: decoding (`reader`), who reads what and what
//! of it is visible (the engine's scans), the rest that is kept of segments ([`cache`](super::cache), which holds this one). Segments never
//! change, so nothing gets stale: what is kept is every row of the row group, deleted ones too, as the file has them. What could not be
//! read is not kept.
//!
//! # What comes in
//! While half of the budget is free, what a scan decodes. Later what is asked for the second time among the last some ten thousand: one
//! scan of what nobody comes back to leaves no trace. The caller asks for no more than fits.
//!
//! # How much
//! At most a limit of its own, and at most what others leave of what is [shared](ColumnCache::share) with them: the queries that run, which come
//! first. They say what they take and give back; what is kept beyond the rest leaves at once.
//!
//! # What leaves
//! What is worth least (GreedyDual-Size with frequency): its uses times the time that decoding it took, for each byte, on top of an age that rises to
//! the worth of whatever leaves. What would come in and is worth less than all that is there stays out, and makes these older.
//!
//! Locks are of a part of the keys each, and held for a look; nothing is decoded or waited for under one.

mod compact;

use std::collections::{BTreeSet, HashMap, HashSet};
use std::fmt;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use crate::id::{ColumnId, ObjectId};
use crate::metrics::{ColumnCacheFigures, Counter};

pub use compact::DecodedColumn;

/// Rows of each array of a column that is kept, but for the last one: what a scan puts out at a time.
pub const CHUNK_ROWS: usize = 8 * 1024;

/// Parts of the keys, each with a lock of its own.
const SHARDS: usize = 16;
/// Keys of a part that were asked for lately: of the newer half and of the older one, each.
const ASKED_MAX: usize = 4096;
/// Uses beyond which another one makes nothing more worth.
const USES_MAX: u64 = 16;

/// One column of one row group.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ColumnKey {
    /// The segment.
    pub segment: ObjectId,
    /// The column, whatever it is called.
    pub column: ColumnId,
    /// The row group's number in the segment.
    pub group: u32,
}

/// A column of a row group that is kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct KeptColumnFigures {
    /// Which.
    pub key: ColumnKey,
    /// Its rows, deleted ones too.
    pub rows: u64,
    /// Memory it takes.
    pub bytes: u64,
    /// Times it was found.
    pub hits: u64,
    /// When it was last found, or came in, µs since 1970 UTC.
    pub last_use_us: i64,
}

struct Entry {
    column: Arc<DecodedColumn>,
    /// Nanoseconds of decoding for each KiB.
    cost: u64,
    /// Its place in the order in which entries leave.
    worth: u64,
    hits: u64,
    last_use_us: i64,
}

impl Entry {
    /// What it is worth at that age.
    fn worth_at(&self, age: u64) -> u64 {
        age.saturating_add(self.cost.saturating_mul((self.hits + 1).min(USES_MAX)))
    }
}

#[derive(Default)]
struct Shard {
    entries: HashMap<ColumnKey, Entry>,
    /// The keys of `entries` by their worth.
    order: BTreeSet<(u64, ColumnKey)>,
    /// What was asked for and not there: the newer half, then the older one.
    asked: [HashSet<ColumnKey>; 2],
}

impl Shard {
    /// Notes that a key was asked for; returns whether it was before.
    fn ask(&mut self, key: ColumnKey) -> bool {
        let [newer, older] = &mut self.asked;
        let before = older.contains(&key);
        if !newer.insert(key) {
            return true;
        }
        if newer.len() >= ASKED_MAX {
            *older = std::mem::take(newer);
        }
        before
    }

    /// Takes an entry out; returns its bytes.
    fn remove(&mut self, key: &ColumnKey) -> usize {
        let Some(entry) = self.entries.remove(key) else { return 0 };
        self.order.remove(&(entry.worth, *key));
        entry.column.bytes()
    }
}

/// The columns kept of the segments of one database.
pub struct ColumnCache {
    /// 0: nothing is kept.
    limit: AtomicUsize,
    /// What is kept and what others take, together.
    shared: AtomicUsize,
    /// Of it, what others take now.
    taken: AtomicUsize,
    /// Bytes of all entries, and of those that are just coming in.
    held: AtomicUsize,
    age: AtomicU64,
    shards: [Mutex<Shard>; SHARDS],
    hits: Counter,
    misses: Counter,
    evictions: Counter,
}

impl Default for ColumnCache {
    /// One that keeps nothing until it [may](Self::set_limit).
    fn default() -> Self {
        Self {
            limit: AtomicUsize::new(0),
            shared: AtomicUsize::new(usize::MAX),
            taken: AtomicUsize::new(0),
            held: AtomicUsize::new(0),
            age: AtomicU64::new(0),
            shards: std::array::from_fn(|_| Mutex::default()),
            hits: Counter::default(),
            misses: Counter::default(),
            evictions: Counter::default(),
        }
    }
}

impl fmt::Debug for ColumnCache {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ColumnCache")
            .field("limit", &self.limit_bytes())
            .field("bytes", &self.bytes())
            .finish_non_exhaustive()
    }
}

impl ColumnCache {
    /// From now on at most `bytes` are kept; 0: nothing. What is too much leaves at once.
    pub fn set_limit(&self, bytes: usize) {
        self.limit.store(bytes, Ordering::Relaxed);
        self.shrink();
    }

    /// From now on what is kept and what others [take](Self::make_way) are at most `bytes` together, as far as the others keep to it.
    pub fn share(&self, bytes: usize) {
        self.shared.store(bytes, Ordering::Relaxed);
        self.shrink();
    }

    /// Others take `bytes` more; what is kept beyond the rest leaves at once. Scans that hold some of it keep it until they end.
    pub fn make_way(&self, bytes: usize) {
        self.taken.fetch_add(bytes, Ordering::Relaxed);
        self.shrink();
    }

    /// Others take `bytes` less, which they took before.
    pub fn give_back(&self, bytes: usize) {
        self.taken.fetch_sub(bytes, Ordering::Relaxed);
    }

    /// Bytes that may be kept now.
    fn room(&self) -> usize {
        let left = self.shared.load(Ordering::Relaxed).saturating_sub(self.taken.load(Ordering::Relaxed));
        self.limit_bytes().min(left)
    }

    /// Lets go of what is too much.
    fn shrink(&self) {
        while self.bytes() > self.room() {
            let Some((_, shard)) = self.least() else { return };
            self.evict_from(shard, u64::MAX);
        }
    }

    /// Most bytes kept.
    #[must_use]
    pub fn limit_bytes(&self) -> usize {
        self.limit.load(Ordering::Relaxed)
    }

    /// Whether anything may be kept.
    #[must_use]
    pub fn is_on(&self) -> bool {
        self.limit_bytes() > 0
    }

    /// Bytes kept now.
    #[must_use]
    pub fn bytes(&self) -> usize {
        self.held.load(Ordering::Relaxed)
    }

    /// Bytes kept, and what was found.
    #[must_use]
    pub fn figures(&self) -> ColumnCacheFigures {
        ColumnCacheFigures {
            bytes: self.bytes() as u64,
            limit_bytes: self.limit_bytes() as u64,
            hits: self.hits.value(),
            misses: self.misses.value(),
            evictions: self.evictions.value(),
        }
    }

    /// The column when it is there; counted, and a use of it.
    #[must_use]
    pub fn find(&self, key: &ColumnKey) -> Option<Arc<DecodedColumn>> {
        let mut shard = self.shard(key);
        let Shard { entries, order, .. } = &mut *shard;
        let Some(entry) = entries.get_mut(key) else {
            self.misses.one();
            return None;
        };
        self.hits.one();
        entry.hits += 1;
        entry.last_use_us = now_us();
        order.remove(&(entry.worth, *key));
        entry.worth = entry.worth_at(self.age.load(Ordering::Relaxed));
        order.insert((entry.worth, *key));
        Some(Arc::clone(&entry.column))
    }

    /// Whether columns that were not found, of `bytes` together, are to be decoded and [kept](Self::keep). `eager`: also what is asked for
    /// the first time, while half of the budget stays free.
    #[must_use]
    pub fn admits(&self, keys: &[ColumnKey], bytes: usize, eager: bool) -> bool {
        let limit = self.room();
        // Each is noted, whatever comes of it.
        let asked = keys.iter().filter(|key| self.shard(key).ask(**key)).count();
        if bytes > limit / 2 {
            return false;
        }
        asked == keys.len() || (eager && self.bytes().saturating_add(bytes) <= limit / 2)
    }

    /// Keeps a column that took `time` to decode, where it is worth more than what would leave for it.
    pub fn keep(&self, key: ColumnKey, column: &Arc<DecodedColumn>, time: Duration) {
        let is_same = |there: &Entry| there.column.data_type() == column.data_type();
        if self.shard(&key).entries.get(&key).is_some_and(is_same) {
            return;
        }
        let bytes = column.bytes();
        let nanoseconds = u64::try_from(time.as_nanos()).unwrap_or(u64::MAX);
        let cost = (nanoseconds / (bytes as u64 / 1024).max(1)).max(1);
        let mut entry = Entry { column: Arc::clone(column), cost, worth: 0, hits: 0, last_use_us: now_us() };
        entry.worth = entry.worth_at(self.age.load(Ordering::Relaxed));
        if !self.make_room(bytes, entry.worth) {
            return;
        }
        let mut shard = self.shard(&key);
        // Another scan may have been faster; what has another type was decoded before its column was altered.
        let there = shard.entries.get(&key).map(is_same);
        let freed = match there {
            Some(true) => bytes,
            Some(false) => shard.remove(&key),
            None => 0,
        };
        self.held.fetch_sub(freed, Ordering::Relaxed);
        if there == Some(true) {
            return;
        }
        shard.order.insert((entry.worth, key));
        shard.entries.insert(key, entry);
        drop(shard);
        // Others may have taken more meanwhile.
        self.shrink();
    }

    /// Drops what is of these segments.
    pub(crate) fn forget(&self, gone: &HashSet<ObjectId>) {
        self.retain(|segment| !gone.contains(&segment));
    }

    /// Drops what is of other segments than those that `named` says yes to.
    pub(crate) fn retain(&self, named: impl Fn(ObjectId) -> bool) {
        for shard in &self.shards {
            let mut shard = locked(shard);
            let gone: Vec<ColumnKey> =
                shard.entries.keys().filter(|key| !named(key.segment)).copied().collect();
            let freed: usize = gone.iter().map(|key| shard.remove(key)).sum();
            self.held.fetch_sub(freed, Ordering::Relaxed);
        }
    }

    /// All that is kept, in no order.
    #[must_use]
    pub fn kept(&self) -> Vec<KeptColumnFigures> {
        let mut kept = Vec::new();
        for shard in &self.shards {
            let shard = locked(shard);
            kept.extend(shard.entries.iter().map(|(key, entry)| KeptColumnFigures {
                key: *key,
                rows: entry.column.rows() as u64,
                bytes: entry.column.bytes() as u64,
                hits: entry.hits,
                last_use_us: entry.last_use_us,
            }));
        }
        kept
    }

    /// Reserves `bytes`, for which what is worth at most `worth` may leave; false: there is not so much, and nothing is reserved.
    fn make_room(&self, bytes: usize, worth: u64) -> bool {
        let limit = self.room();
        if bytes > limit {
            return false;
        }
        let fits = |held: usize| held.checked_add(bytes).filter(|sum| *sum <= limit);
        while self.held.fetch_update(Ordering::Relaxed, Ordering::Relaxed, fits).is_err() {
            let Some((least, shard)) = self.least() else { return false };
            if least > worth {
                // Who is refused again and again gets in at last, unless the others are used meanwhile.
                let age = self.age.load(Ordering::Relaxed);
                self.age.fetch_max(age + (least - age.min(least)) / 4 + 1, Ordering::Relaxed);
                return false;
            }
            self.evict_from(shard, worth);
        }
        true
    }

    /// What the entry is worth that leaves next, and where it is.
    fn least(&self) -> Option<(u64, usize)> {
        let firsts = self.shards.iter().enumerate().filter_map(|(place, shard)| {
            let (worth, _) = *locked(shard).order.first()?;
            Some((worth, place))
        });
        firsts.min()
    }

    /// Drops the entry of a part that is worth least, when it is worth at most `worth`.
    fn evict_from(&self, shard: usize, worth: u64) {
        let mut shard = locked(&self.shards[shard]);
        let Some((least, key)) = shard.order.first().copied().filter(|(least, _)| *least <= worth) else {
            return;
        };
        let freed = shard.remove(&key);
        drop(shard);
        self.held.fetch_sub(freed, Ordering::Relaxed);
        self.age.fetch_max(least, Ordering::Relaxed);
        self.evictions.one();
    }

    fn shard(&self, key: &ColumnKey) -> MutexGuard<'_, Shard> {
        let mut hasher = DefaultHasher::new();
        key.hash(&mut hasher);
        let shard = usize::try_from(hasher.finish() % SHARDS as u64).unwrap_or(0);
        locked(&self.shards[shard])
    }
}

fn locked(shard: &Mutex<Shard>) -> MutexGuard<'_, Shard> {
    // Nothing panics while holding it.
    shard.lock().unwrap_or_else(PoisonError::into_inner)
}

fn now_us() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_micros()).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests;
