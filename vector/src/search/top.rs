//! The k nearest of any rows, in an order that does not depend on how they came.

use std::collections::BinaryHeap;

/// A row at an exact distance; ordered by distance, then row id.
#[derive(Clone, Copy, Debug)]
pub struct TopRow {
    /// Exact distance.
    pub distance: f32,
    /// Row id.
    pub row_id: u64,
}

impl Ord for TopRow {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        self.distance.total_cmp(&other.distance).then(self.row_id.cmp(&other.row_id))
    }
}

impl PartialOrd for TopRow {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl PartialEq for TopRow {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other).is_eq()
    }
}

impl Eq for TopRow {}

/// Keeps the `k` first of the rows offered to it: for rows that no unit covers, and to merge the answers of units.
#[derive(Clone, Debug)]
pub struct TopRows {
    k: usize,
    /// The worst on top.
    heap: BinaryHeap<TopRow>,
}

impl TopRows {
    /// Will keep `k`.
    #[must_use]
    pub fn new(k: usize) -> Self {
        Self { k, heap: BinaryHeap::new() }
    }

    /// Takes a row in when it is among the first `k`.
    #[inline]
    pub fn offer(&mut self, distance: f32, row_id: u64) {
        // A NaN has a sign in its bits, and no place before any number.
        let distance = if distance.is_nan() { f32::NAN } else { distance };
        let row = TopRow { distance, row_id };
        if self.heap.len() < self.k {
            self.heap.push(row);
        } else if let Some(mut worst) = self.heap.peek_mut()
            && row < *worst
        {
            *worst = row;
        }
    }

    /// A row at a larger distance cannot come in any more; infinity while there is room.
    #[must_use]
    pub fn limit(&self) -> f32 {
        match self.heap.peek() {
            Some(worst) if self.heap.len() >= self.k => worst.distance,
            _ => f32::INFINITY,
        }
    }

    /// The rows, the nearest first.
    #[must_use]
    pub fn into_sorted(self) -> Vec<TopRow> {
        self.heap.into_sorted_vec()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ties_go_to_the_smaller_row_id_in_any_order_of_arrival() {
        let rows = [(2.0, 5), (1.0, 9), (2.0, 1), (1.0, 3), (0.5, 7)];
        for shift in 0..rows.len() {
            let mut top = TopRows::new(4);
            rows.iter().cycle().skip(shift).take(rows.len()).for_each(|&(d, id)| top.offer(d, id));
            assert_eq!(top.limit(), 2.0);
            let ids: Vec<u64> = top.into_sorted().iter().map(|row| row.row_id).collect();
            assert_eq!(ids, [7, 3, 9, 1]);
        }
        assert!(TopRows::new(0).into_sorted().is_empty());
    }
}
