//! Primary keys of hot rows.
//!
//! Owns: key -> row id of the newest hot row with that key. If that row still lives (the hot deletes tell), it is the
//! key's only one: the row it replaced was deleted first. If not, a bulk write may have put the key into a segment since.
//! Kept in generations, so that a checkpoint drops what it wrote without walking the keys.
//!
//! [`HotKeys`] is a value: what is put into one version's is never found in another's that does not come of it. Yet versions that follow
//! each other share one map, in which each looks no further than its own rows go: row ids grow with the versions.
//!
//! Order: ids are put into a map in ascending order, by one line of versions only. Who adds to a map moves its end from where his own
//! version's rows end; he finds it there, or somebody who comes of the same version was first: the commits of a log that was full,
//! whose row ids are given again, a statement that was cancelled at the last instant, what came after a savepoint. Then that
//! one's rows stay what they are, behind the end of what this one sees, and he goes on in a map of his own.

use std::collections::HashMap;
use std::collections::hash_map::{Entry, RandomState};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::id::{CommitVersion, RowId};
use crate::segment::key::filter_hash;
use crate::segment::{EncodedKey, EncodedKeys};

/// Parts of the map that the order adds to; one that grows holds nobody up for long. A power of two.
const SHARDS: usize = 64;
/// So many keys of one commit are put in shard by shard.
const MANY_KEYS: usize = 16 * SHARDS;

/// Who adds keys.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Line {
    /// Commits, one after the other: that of the order, of recovery, of a follower.
    Order,
    /// A transaction block, whose rows nobody else sees. It begins maps of its own: the order's are the order's to add to.
    Aside,
}

/// Keys of hot rows at one version; a value, cheap to clone.
#[derive(Clone, Debug, Default)]
pub struct HotKeys {
    /// What is not added to any more, oldest first.
    earlier: Vec<Layer>,
    current: Option<Layer>,
}

/// What one version sees of a map.
#[derive(Clone, Debug)]
struct Layer {
    keys: Arc<SharedKeys>,
    /// Rows from here on are not this version's.
    end: RowId,
    /// Rows before that.
    rows: u64,
    line: Line,
    /// The version its generation reaches up to; None: it goes on.
    until: Option<CommitVersion>,
}

impl HotKeys {
    /// The newest hot row with this key.
    #[must_use]
    pub fn find(&self, key: &EncodedKey) -> Option<RowId> {
        let mut newest_first = self.current.iter().chain(self.earlier.iter().rev());
        newest_first.find_map(|layer| layer.keys.find(key, layer.end))
    }

    /// Records the keys of new rows, whose ids count up from `first`.
    pub(crate) fn append(&mut self, keys: &EncodedKeys, first: RowId, line: Line) {
        let rows = keys.len() as u64;
        if rows == 0 {
            return;
        }
        let end = RowId(first.0.saturating_add(rows));
        let goes_on =
            |layer: &Layer| layer.line == line && layer.end <= first && layer.keys.move_end(layer.end, end);
        let mut layer = match self.current.take() {
            Some(layer) if goes_on(&layer) => layer,
            known => {
                self.earlier.extend(known);
                self.begun(first, end, rows, line)
            }
        };
        layer.keys.insert_all(keys, first);
        layer.end = end;
        layer.rows += rows;
        self.current = Some(layer);
    }

    /// A map for `rows` rows from `first` up to `end`. Of the layers before it those that are not longer than twice what is in it go into it, so
    /// that there are few, however often one is begun. Only those of its own line: the order's map may have become long behind the few
    /// rows that a block sees of it.
    fn begun(&mut self, first: RowId, end: RowId, rows: u64, line: Line) -> Layer {
        let (mut start, mut taken) = (self.earlier.len(), 0);
        while let Some(layer) = self.earlier[..start].last()
            && layer.line == line
            && layer.until.is_none()
            && layer.end <= first
            && layer.rows <= 2 * (rows + taken)
        {
            taken += layer.rows;
            start -= 1;
        }
        let keys = SharedKeys::new(line, end);
        for layer in self.earlier.drain(start..) {
            keys.take_over(&layer);
        }
        Layer { keys: Arc::new(keys), end, rows: taken, line, until: None }
    }

    /// Whether no key is held.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.current.is_none() && self.earlier.is_empty()
    }

    /// Begins a new generation; the keys so far belong to rows created at or before `until`.
    pub fn seal(&mut self, until: CommitVersion) {
        self.earlier.extend(self.current.take());
        for layer in &mut self.earlier {
            layer.until.get_or_insert(until);
        }
    }

    /// Drops the generations whose rows are all in segments.
    pub fn drop_flushed(&mut self, flushed: CommitVersion) {
        self.earlier.retain(|layer| layer.until.is_none_or(|until| until > flushed));
    }
}

/// A map that versions share.
#[derive(Debug)]
struct SharedKeys {
    /// Where the rows end that were put into it.
    end: AtomicU64,
    shards: Box<[Mutex<HashMap<EncodedKey, Rows>>]>,
}

impl SharedKeys {
    /// An empty one, for rows up to `end`.
    fn new(line: Line, end: RowId) -> Self {
        let shards = match line {
            Line::Order => SHARDS,
            Line::Aside => 1,
        };
        // One secret for all: making one anew each time is not free.
        let hashes = RandomState::new();
        let shards = (0..shards).map(|_| Mutex::new(HashMap::with_hasher(hashes.clone()))).collect();
        Self { end: AtomicU64::new(end.0), shards }
    }

    /// Whether its rows end at `from`; then they end at `to` from now on, and those between are the caller's to put in.
    fn move_end(&self, from: RowId, to: RowId) -> bool {
        self.end.compare_exchange(from.0, to.0, Ordering::AcqRel, Ordering::Acquire).is_ok()
    }

    /// Which shard has a key.
    fn place(&self, key: &[u8]) -> usize {
        // Not the hash of the maps, which would find all keys of a shard alike.
        filter_hash(key) as usize & (self.shards.len() - 1)
    }

    fn shard(&self, key: &EncodedKey) -> MutexGuard<'_, HashMap<EncodedKey, Rows>> {
        held(&self.shards[self.place(key.as_bytes())])
    }

    /// Puts in rows, newer than all before, whose ids count up from `first`. Many go in shard by shard, each of which gets room once.
    fn insert_all(&self, keys: &EncodedKeys, first: RowId) {
        let rows = (first.0..first.0.saturating_add(keys.len() as u64)).map(RowId);
        if keys.len() < MANY_KEYS {
            for (key, row) in keys.iter().zip(rows) {
                insert(&mut held(&self.shards[self.place(key)]), key, row);
            }
            return;
        }
        let mut of_shards: Vec<Vec<(&[u8], RowId)>> = Vec::with_capacity(self.shards.len());
        // Most have a few more or less.
        let usual = keys.len() / self.shards.len() * 5 / 4;
        of_shards.resize_with(self.shards.len(), || Vec::with_capacity(usual));
        for (key, row) in keys.iter().zip(rows) {
            of_shards[self.place(key)].push((key, row));
        }
        for (shard, of_shard) in self.shards.iter().zip(of_shards) {
            let mut shard = held(shard);
            shard.reserve(of_shard.len());
            for (key, row) in of_shard {
                insert(&mut shard, key, row);
            }
        }
    }

    /// The newest row before `end` with this key.
    fn find(&self, key: &EncodedKey, end: RowId) -> Option<RowId> {
        self.shard(key).get(key).and_then(|rows| rows.newest(end))
    }

    /// Puts in the newest row of each key that `layer` sees, newer than all before. Nobody else has this map yet.
    fn take_over(&self, layer: &Layer) {
        for shard in layer.keys.shards.iter() {
            for (key, rows) in held(shard).iter() {
                if let Some(row) = rows.newest(layer.end) {
                    self.shard(key).insert(key.clone(), Rows::One(row));
                }
            }
        }
    }
}

/// Puts in a row, newer than all before.
fn insert(shard: &mut HashMap<EncodedKey, Rows>, key: &[u8], row: RowId) {
    match shard.entry(EncodedKey::new(key)) {
        Entry::Vacant(vacant) => {
            vacant.insert(Rows::One(row));
        }
        Entry::Occupied(mut known) => known.get_mut().push(row),
    }
}

/// A poisoned lock only says that another thread panicked; what is behind ours is whole between two statements.
fn held<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Rows with one key, in ascending order.
#[derive(Debug)]
enum Rows {
    One(RowId),
    More(Vec<RowId>),
}

impl Rows {
    fn push(&mut self, row: RowId) {
        match self {
            Self::One(first) => *self = Self::More(vec![*first, row]),
            Self::More(rows) => rows.push(row),
        }
    }

    /// The newest before `end`.
    fn newest(&self, end: RowId) -> Option<RowId> {
        let rows = match self {
            Self::One(row) => std::slice::from_ref(row),
            Self::More(rows) => rows.as_slice(),
        };
        match rows.last() {
            Some(last) if *last >= end => rows[..rows.partition_point(|row| *row < end)].last().copied(),
            last => last.copied(),
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use std::collections::BTreeMap;

    use arrow::array::{ArrayRef, Int64Array};
    use rand::rngs::StdRng;
    use rand::{Rng, SeedableRng};

    use super::*;
    use crate::schema::ColumnType;
    use crate::segment::KeyEncoder;

    fn encoded(keys: &[i64]) -> EncodedKeys {
        let column: ArrayRef = Arc::new(Int64Array::from(keys.to_vec()));
        KeyEncoder::new(&[ColumnType::Int64]).unwrap().encode(&[column]).unwrap()
    }

    fn append(keys: &mut HotKeys, first: u64, new: &[i64], line: Line) {
        keys.append(&encoded(new), RowId(first), line);
    }

    fn find(keys: &HotKeys, key: i64) -> Option<u64> {
        keys.find(&encoded(&[key]).to_owned(0)).map(|row| row.0)
    }

    #[test]
    fn a_version_finds_its_own_rows_only() {
        let mut first = HotKeys::default();
        assert!(first.is_empty());
        append(&mut first, 1, &[10, 20], Line::Order);
        let mut second = first.clone();
        append(&mut second, 3, &[10, 30], Line::Order);
        let mut third = second.clone();
        append(&mut third, 5, &[10], Line::Order);
        assert_eq!([10, 20, 30].map(|key| find(&first, key)), [Some(1), Some(2), None]);
        assert_eq!([10, 20, 30].map(|key| find(&second, key)), [Some(3), Some(2), Some(4)]);
        assert_eq!([10, 20, 30].map(|key| find(&third, key)), [Some(5), Some(2), Some(4)]);
        assert!(third.earlier.is_empty(), "all share one map");
        assert!(!third.is_empty());
    }

    /// The log was full: what was accepted is given back, and its row ids are those of other rows then.
    #[test]
    fn row_ids_that_are_given_again_are_those_of_the_later_rows() {
        let mut published = HotKeys::default();
        append(&mut published, 1, &[10], Line::Order);
        let mut lost = published.clone();
        append(&mut lost, 2, &[20, 30], Line::Order);
        let mut head = published.clone();
        append(&mut head, 2, &[40], Line::Order);
        append(&mut head, 3, &[50, 10], Line::Order);
        assert_eq!([10, 20, 30, 40, 50].map(|key| find(&head, key)), [Some(4), None, None, Some(2), Some(3)]);
        assert_eq!([10, 20, 30, 40, 50].map(|key| find(&lost, key)), [Some(1), Some(2), Some(3), None, None]);
        assert_eq!([10, 20, 40].map(|key| find(&published, key)), [Some(1), None, None]);
        // Whatever becomes of the one that was lost.
        append(&mut lost, 4, &[60], Line::Order);
        assert_eq!((find(&head, 60), find(&lost, 60)), (None, Some(4)));
        // Nobody was in the way of those since.
        let layers = head.earlier.len();
        append(&mut head, 5, &[70], Line::Order);
        assert_eq!(head.earlier.len(), layers);
    }

    #[test]
    fn what_is_lost_again_and_again_leaves_few_maps() {
        let mut published = HotKeys::default();
        append(&mut published, 1, &(0..500).collect::<Vec<i64>>(), Line::Order);
        let mut most = 0;
        for round in 0..200_i64 {
            let first = 501 + round as u64;
            for _ in 0..3 {
                append(&mut published.clone(), first, &[-1, -2], Line::Order);
            }
            append(&mut published, first, &[1000 + round], Line::Order);
            most = most.max(published.earlier.len());
        }
        assert!((2..=12).contains(&most), "{most}");
        assert_eq!((find(&published, -1), find(&published, -2)), (None, None));
        assert_eq!((find(&published, 7), find(&published, 1042)), (Some(8), Some(543)));
    }

    #[test]
    fn blocks_leave_the_maps_of_the_order_alone() {
        let mut head = HotKeys::default();
        append(&mut head, 1, &(0..100).collect::<Vec<i64>>(), Line::Order);
        let mut block = head.clone();
        append(&mut block, 101, &[7, 200], Line::Aside);
        let before = block.clone();
        append(&mut block, 103, &[300], Line::Aside);
        append(&mut head, 101, &[400], Line::Order);
        assert!(head.earlier.is_empty());
        assert_eq!([7, 200, 300, 400].map(|key| find(&block, key)), [Some(101), Some(102), Some(103), None]);
        assert_eq!([7, 200, 300, 400].map(|key| find(&head, key)), [Some(8), None, None, Some(101)]);
        // ROLLBACK TO SAVEPOINT.
        let mut block = before;
        append(&mut block, 103, &[500], Line::Aside);
        assert_eq!([7, 300, 500].map(|key| find(&block, key)), [Some(101), None, Some(103)]);
    }

    /// All that came since BEGIN is in the map of which the block sees a row.
    #[test]
    fn a_block_does_not_walk_the_maps_of_the_order() {
        let mut head = HotKeys::default();
        append(&mut head, 1, &[7], Line::Order);
        let mut block = head.clone();
        append(&mut head, 2, &(100..1100).collect::<Vec<i64>>(), Line::Order);
        for round in 0..20_u64 {
            // A statement that was rolled back.
            append(&mut block.clone(), 2 + round, &[-1], Line::Aside);
            append(&mut block, 2 + round, &[200 + round as i64], Line::Aside);
        }
        let kept = head.current.iter().zip(block.earlier.first());
        assert!(kept.map(|(head, first)| Arc::ptr_eq(&head.keys, &first.keys)).eq([true]));
        assert!(block.earlier.len() <= 6, "{}", block.earlier.len());
        assert_eq!(
            [7, 100, 200, 219, -1].map(|key| find(&block, key)),
            [Some(1), None, Some(2), Some(21), None]
        );
        assert_eq!([7, 100, 200, 219].map(|key| find(&head, key)), [Some(1), Some(2), Some(102), Some(121)]);
    }

    /// They go in by shards, and are found as those of small commits are.
    #[test]
    fn many_keys_of_one_commit_are_found_by_their_newest_row() {
        for line in [Line::Order, Line::Aside] {
            let mut first = HotKeys::default();
            append(&mut first, 1, &[0, 5], line);
            let mut second = first.clone();
            let many = 3 * MANY_KEYS as u64;
            // Each key twice, and two of those that are there.
            let keys: Vec<i64> = (0..many as i64).map(|row| row / 2 * 5).collect();
            append(&mut second, 3, &keys, line);
            let mut third = second.clone();
            append(&mut third, 3 + many, &[5, -5], line);
            assert_eq!([0, 5, 10, -5].map(|key| find(&first, key)), [Some(1), Some(2), None, None]);
            assert_eq!([5, -5].map(|key| find(&third, key)), [Some(3 + many), Some(4 + many)]);
            for pair in 0..many / 2 {
                let key = pair as i64 * 5;
                assert_eq!(find(&second, key), Some(3 + 2 * pair + 1), "{line:?}, {key}");
                assert_eq!(find(&second, key + 1), None);
            }
        }
    }

    /// A log may be anything: what was put in last counts.
    #[test]
    fn row_ids_that_fall_are_no_harm() {
        let mut keys = HotKeys::default();
        append(&mut keys, 10, &[10, 20, 30], Line::Order);
        append(&mut keys, 1, &[20, 40], Line::Order);
        append(&mut keys, u64::MAX, &[50, 60], Line::Order);
        append(&mut keys, 5, &[40], Line::Order);
        assert_eq!([10, 20, 30, 40].map(|key| find(&keys, key)), [Some(10), Some(1), Some(12), Some(5)]);
    }

    #[test]
    fn a_checkpoint_drops_what_it_wrote() {
        let mut keys = HotKeys::default();
        append(&mut keys, 1, &[10, 20], Line::Order);
        let unsealed = keys.clone();
        keys.seal(CommitVersion(5));
        append(&mut keys, 3, &[20, 30], Line::Order);
        keys.seal(CommitVersion(9));
        append(&mut keys, 5, &[40], Line::Order);
        keys.drop_flushed(CommitVersion(4));
        assert_eq!([10, 20, 30, 40].map(|key| find(&keys, key)), [Some(1), Some(3), Some(4), Some(5)]);
        keys.drop_flushed(CommitVersion(5));
        assert_eq!([10, 20, 30, 40].map(|key| find(&keys, key)), [None, Some(3), Some(4), Some(5)]);
        keys.drop_flushed(CommitVersion(9));
        assert_eq!([10, 20, 30, 40].map(|key| find(&keys, key)), [None, None, None, Some(5)]);
        keys.seal(CommitVersion(12));
        keys.drop_flushed(CommitVersion(12));
        assert!(keys.is_empty());
        assert_eq!([10, 20, 30].map(|key| find(&unsealed, key)), [Some(1), Some(2), None]);
    }

    /// One version and what it should find.
    #[derive(Clone, Default)]
    struct Known {
        keys: HotKeys,
        next: u64,
        /// With the generation of each, sealed ones by the version they reach up to.
        model: BTreeMap<u64, BTreeMap<i64, u64>>,
    }

    impl Known {
        fn expected(&self, key: i64) -> Option<u64> {
            self.model.values().rev().find_map(|generation| generation.get(&key)).copied()
        }
    }

    /// Versions that come of any earlier ones, as maps that share nothing would have it.
    #[test]
    fn versions_of_any_descent_are_as_copies_would_be() {
        for seed in 0..20 {
            let mut rng = StdRng::seed_from_u64(seed);
            let mut all = vec![Known { next: 1, ..Known::default() }];
            for number in 1..=60_u64 {
                // Mostly of the newest.
                let of =
                    if rng.random_range(0..4) == 0 { rng.random_range(0..all.len()) } else { all.len() - 1 };
                let mut next = all[of].clone();
                match rng.random_range(0..12) {
                    0 => {
                        next.keys.seal(CommitVersion(number));
                        if let Some(open) = next.model.remove(&u64::MAX) {
                            next.model.insert(number, open);
                        }
                    }
                    1 => {
                        let flushed = rng.random_range(0..=number);
                        next.keys.drop_flushed(CommitVersion(flushed));
                        next.model.retain(|until, _| *until > flushed);
                    }
                    _ => {
                        let new: Vec<i64> =
                            (0..rng.random_range(1..6)).map(|_| rng.random_range(0..30)).collect();
                        let line = if rng.random_range(0..4) == 0 { Line::Aside } else { Line::Order };
                        append(&mut next.keys, next.next, &new, line);
                        let open = next.model.entry(u64::MAX).or_default();
                        for (key, row) in new.iter().zip(next.next..) {
                            open.insert(*key, row);
                        }
                        // Rows of segments have ids too.
                        let without_key: u64 = rng.random_range(0..2);
                        next.next += new.len() as u64 + without_key;
                    }
                }
                all.push(next);
            }
            for (number, known) in all.iter().enumerate() {
                for key in 0..30 {
                    assert_eq!(
                        find(&known.keys, key),
                        known.expected(key),
                        "seed {seed}, {number}, key {key}"
                    );
                }
            }
        }
    }
}
