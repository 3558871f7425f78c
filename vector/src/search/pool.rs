//! The nearest rows a walk has seen, and which of them it has still to expand.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

/// Scores as integers that sort the same.
fn sortable(score: f32) -> u32 {
    let bits = score.to_bits();
    if bits >> 31 == 0 { bits | 0x8000_0000 } else { !bits }
}

fn from_sortable(bits: u32) -> f32 {
    f32::from_bits(if bits >> 31 == 1 { bits & 0x7FFF_FFFF } else { !bits })
}

/// Rows of a unit; one bit of their number is the mark of an expanded entry.
pub(crate) const ROWS_MAX: usize = 1 << 31;

/// Entries of a pool up to which a place is found by shifting from the end.
const SHIFTED: usize = 96;

/// Up to `capacity` rows, ascending by score, then row.
#[derive(Clone, Debug, Default)]
pub(crate) struct Pool {
    /// Score, row, and in the lowest bit whether it was expanded.
    entries: Vec<u64>,
    capacity: usize,
    /// No entry before this one waits to be expanded.
    next: usize,
}

impl Pool {
    /// Empties it.
    pub(crate) fn clear(&mut self, capacity: usize) {
        self.entries.clear();
        (self.capacity, self.next) = (capacity.max(1), 0);
    }

    /// Gives it room for `capacity` rows, when that is more; rows that found no room are not back.
    pub(crate) fn widen(&mut self, capacity: usize) {
        self.capacity = self.capacity.max(capacity);
    }

    /// Takes a row in when it is among the best. The row must not have been offered before.
    #[inline]
    pub(crate) fn offer(&mut self, score: f32, row: u32) {
        let entry = (u64::from(sortable(score)) << 32) | u64::from(row << 1);
        if self.entries.len() < self.capacity {
            self.entries.push(entry);
        } else {
            match self.entries.last_mut() {
                Some(last) if entry < *last => *last = entry,
                _ => return,
            }
        }
        let end = self.entries.len() - 1;
        let entries = &mut self.entries[..=end];
        let mut at = end;
        if end > SHIFTED {
            at = entries[..end].partition_point(|&other| other < entry);
            entries.copy_within(at..end, at + 1);
        } else {
            // Short moves from the end beat a search and a call.
            for place in (0..end).rev() {
                let before = entries[place];
                if before < entry {
                    break;
                }
                entries[place + 1] = before;
                at = place;
            }
        }
        entries[at] = entry;
        self.next = self.next.min(at);
    }

    /// The best row that was not expanded yet, which is expanded now, if it is one of the first `width` or its score is not above
    /// `limit`.
    #[inline]
    pub(crate) fn expand(&mut self, width: usize, limit: f32) -> Option<u32> {
        while let Some(entry) = self.entries.get_mut(self.next) {
            if self.next >= width && from_sortable((*entry >> 32) as u32) > limit {
                return None;
            }
            self.next += 1;
            if *entry & 1 == 0 {
                *entry |= 1;
                return Some((*entry as u32) >> 1);
            }
        }
        None
    }

    /// The row that would be expanded next.
    #[inline]
    pub(crate) fn peek(&self) -> Option<u32> {
        self.entries.get(self.next).map(|&entry| (entry as u32) >> 1)
    }

    /// The score at a place; none is above it where there are fewer rows.
    #[inline]
    pub(crate) fn score(&self, place: usize) -> f32 {
        self.entries.get(place).map_or(f32::INFINITY, |&entry| from_sortable((entry >> 32) as u32))
    }

    /// The score that a row must not exceed to come in.
    #[inline]
    pub(crate) fn limit(&self) -> f32 {
        match self.entries.last() {
            Some(&last) if self.entries.len() == self.capacity => from_sortable((last >> 32) as u32),
            _ => f32::INFINITY,
        }
    }

    /// Scores and rows, the best first.
    pub(crate) fn iter(&self) -> impl ExactSizeIterator<Item = (f32, u32)> + '_ {
        self.entries.iter().map(|&entry| (from_sortable((entry >> 32) as u32), (entry as u32) >> 1))
    }
}

/// Rows that wait to be expanded, in no other order than that the best comes first.
#[derive(Clone, Debug, Default)]
pub(crate) struct Frontier(BinaryHeap<Reverse<u64>>);

impl Frontier {
    pub(crate) fn clear(&mut self) {
        self.0.clear();
    }

    #[inline]
    pub(crate) fn push(&mut self, score: f32, row: u32) {
        self.0.push(Reverse((u64::from(sortable(score)) << 32) | u64::from(row)));
    }

    /// The best one with its score.
    #[inline]
    pub(crate) fn pop(&mut self) -> Option<(f32, u32)> {
        self.0.pop().map(|Reverse(entry)| (from_sortable((entry >> 32) as u32), entry as u32))
    }

    /// The row that would be popped next.
    #[inline]
    pub(crate) fn peek(&self) -> Option<u32> {
        self.0.peek().map(|Reverse(entry)| *entry as u32)
    }
}

/// Which rows a walk has seen; emptied in constant time but for every 255th.
#[derive(Clone, Debug, Default)]
pub(crate) struct Visited {
    marks: Vec<u8>,
    mark: u8,
    /// Rows of this unit; there may be marks of a larger one behind.
    rows: usize,
}

impl Visited {
    /// Forgets all rows.
    pub(crate) fn clear(&mut self, rows: usize) {
        self.rows = rows;
        if self.marks.len() < rows {
            self.marks.resize(rows, 0);
        }
        if self.mark == u8::MAX {
            self.marks.fill(0);
            self.mark = 0;
        }
        self.mark += 1;
    }

    /// Whether `row` is seen for the first time; never when it does not exist.
    #[inline]
    pub(crate) fn first(&mut self, row: u32) -> bool {
        match self.marks[..self.rows].get_mut(row as usize) {
            Some(mark) if *mark != self.mark => {
                *mark = self.mark;
                true
            }
            _ => false,
        }
    }

    /// Adds those of `rows` to `ids` that are seen for the first time. Which of them are is nothing a processor foresees, so
    /// every row is written, and the next one over it where it is not new.
    #[inline]
    pub(crate) fn add_first<const N: usize>(&mut self, rows: &[u32; N], ids: &mut Vec<u32>) {
        let begin = ids.len();
        ids.resize(begin + N, 0);
        let (to, marks, mut new) = (&mut ids[begin..], &mut self.marks[..self.rows], 0);
        for &row in rows {
            if let Some(mark) = marks.get_mut(row as usize) {
                to[new] = row;
                new += usize::from(*mark != self.mark);
                *mark = self.mark;
            }
        }
        ids.truncate(begin + new);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keeps_the_best_in_order_and_expands_each_once() {
        let mut pool = Pool::default();
        pool.clear(3);
        for (score, row) in [(2.0, 1), (-1.0, 9), (5.0, 3), (2.0, 0), (7.0, 4)] {
            pool.offer(score, row);
        }
        assert_eq!(pool.iter().collect::<Vec<_>>(), [(-1.0, 9), (2.0, 0), (2.0, 1)]);
        assert_eq!((pool.expand(3, 0.0), pool.peek()), (Some(9), Some(0)));
        pool.offer(-3.0, 7);
        // Of -3, -1 and 2 the second was expanded before; the third is beyond a width of 2.
        assert_eq!((pool.score(2), pool.score(3)), (2.0, f32::INFINITY));
        assert_eq!([pool.expand(2, 1.9), pool.expand(2, 1.9), pool.expand(2, 2.0)], [Some(7), None, Some(0)]);
        assert_eq!(pool.expand(3, 2.0), None);
    }

    #[test]
    fn rows_are_new_once_per_round() {
        let mut visited = Visited::default();
        for _ in 0..600 {
            visited.clear(2);
            assert!(visited.first(1) && !visited.first(1) && visited.first(0) && !visited.first(2));
            let mut ids = vec![9];
            visited.clear(4);
            assert!(visited.first(2));
            visited.add_first(&[3, 2, 4, 3, u32::MAX, 0], &mut ids);
            assert_eq!(ids, [9, 3, 0]);
        }
    }
}
