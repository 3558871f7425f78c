//! The nearest rows known so far of every row.
//!
//! Owns: bounded sorted lists that several threads add to. The result is the same in any order of adding: each list is
//! the smallest keys of all that were added, each once.

use std::sync::{Mutex, PoisonError};

/// A row at a distance: distance in the high half, row in the low, so that keys sort by distance, then row.
pub(crate) type Key = u64;

/// No row.
const NONE: Key = Key::MAX;
const SHARD_ROWS: usize = 256;

/// The key of `row` at `distance`, which is not negative.
pub(crate) fn key(distance: f32, row: u32) -> Key {
    // The bits of floats that are not negative sort as the floats do.
    (u64::from(distance.max(0.0).to_bits()) << 32) | u64::from(row)
}

/// The distance in a key.
pub(crate) fn distance_of(key: Key) -> f32 {
    f32::from_bits((key >> 32) as u32)
}

/// The row in a key.
pub(crate) fn row_of(key: Key) -> u32 {
    key as u32
}

/// Lists of up to `width` keys.
#[derive(Debug)]
pub(crate) struct Candidates {
    keys: Vec<Key>,
    width: usize,
}

impl Candidates {
    pub(crate) fn new(rows: usize, width: usize) -> Self {
        Self { keys: vec![NONE; rows * width], width }
    }

    /// The list of `row`, ascending.
    pub(crate) fn list(&self, row: u32) -> &[Key] {
        let list = &self.keys[row as usize * self.width..][..self.width];
        &list[..list.partition_point(|&key| key != NONE)]
    }

    /// Lets several threads add.
    pub(crate) fn share(&mut self) -> Shared<'_> {
        let width = self.width;
        Shared { shards: self.keys.chunks_mut(SHARD_ROWS * width).map(Mutex::new).collect(), width }
    }
}

/// [`Candidates`] while threads add to them.
#[derive(Debug)]
pub(crate) struct Shared<'a> {
    shards: Vec<Mutex<&'a mut [Key]>>,
    width: usize,
}

impl Shared<'_> {
    /// Adds keys in ascending order to the list of `row`.
    pub(crate) fn add(&self, row: u32, keys: &[Key]) {
        let (shard, place) = (row as usize / SHARD_ROWS, row as usize % SHARD_ROWS);
        let mut shard = self.shards[shard].lock().unwrap_or_else(PoisonError::into_inner);
        let list = &mut shard[place * self.width..][..self.width];
        let mut from = 0;
        for &key in keys {
            if key >= list[self.width - 1] {
                return;
            }
            let at = from + list[from..].partition_point(|&other| other < key);
            if list[at] != key {
                list.copy_within(at..self.width - 1, at + 1);
                list[at] = key;
            }
            from = at + 1;
            if from == self.width {
                return;
            }
        }
    }
}
