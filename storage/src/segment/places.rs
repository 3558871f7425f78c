//! Where rows were found lately: the segment and position of row ids.
//!
//! Owns: remembering, within a bound. Does not own: whether the segment is one of the version that is read: who asks says which ones are. An object
//! never changes, so what stands here stays true; and a row is in one segment of a version, so that a place in one of its segments also says that
//! no other has the row.
//!
//! After a merge by key, row ids stand in no order in a segment, and each page has some from everywhere: to find a row by its id, all of the
//! segment's row-id column has to be read. A change of a few rows finds them by key, or has just read them: their places are known here, and the
//! versions that follow tell by them which positions are deleted.
//!
//! Two generations: a place that is asked for stays, one that nobody has asked for goes when as many others have come.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};

use crate::id::{ObjectId, RowId, TableId};

/// Places of one generation; both take 8 MiB or so.
const GENERATION_MAX: usize = 64 * 1024;

/// Segment and position of a row.
pub(crate) type Place = (ObjectId, u32);

type Generation = HashMap<(TableId, RowId), Place>;

/// See the module.
#[derive(Debug, Default)]
pub(crate) struct Places(Mutex<Generations>);

#[derive(Debug, Default)]
struct Generations {
    young: Generation,
    old: Generation,
}

impl Generations {
    fn put(&mut self, row: (TableId, RowId), place: Place) {
        if self.young.len() >= GENERATION_MAX {
            self.old = std::mem::take(&mut self.young);
        }
        self.young.insert(row, place);
    }

    fn get(&mut self, row: (TableId, RowId)) -> Option<Place> {
        if let Some(place) = self.young.get(&row) {
            return Some(*place);
        }
        let place = self.old.remove(&row)?;
        self.put(row, place);
        Some(place)
    }
}

impl Places {
    /// Remembers rows of a segment.
    pub(crate) fn note(
        &self,
        table: TableId,
        segment: ObjectId,
        rows: impl IntoIterator<Item = (RowId, u32)>,
    ) {
        let mut held = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        for (row, position) in rows {
            held.put((table, row), (segment, position));
        }
    }

    /// The place of each of `ids` that is known. Not all of very many.
    pub(crate) fn find(&self, table: TableId, ids: &[RowId]) -> Vec<Option<Place>> {
        let mut held = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        ids.iter().map(|id| held.get((table, *id))).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::id::Epoch;

    #[test]
    fn what_is_asked_for_stays_and_the_rest_goes() {
        let places = Places::default();
        let segment = |n| ObjectId { epoch: Epoch(1), sequence: n };
        let (table, asked) = (TableId(1), RowId(7));
        places.note(table, segment(1), [(asked, 3)]);
        for round in 1..=5_u64 {
            let first = round * GENERATION_MAX as u64;
            places.note(table, segment(2), (first..first + GENERATION_MAX as u64).map(|id| (RowId(id), 0)));
            assert_eq!(places.find(table, &[asked]), [Some((segment(1), 3))], "round {round}");
        }
        let held = places.0.lock().unwrap_or_else(PoisonError::into_inner);
        assert!(held.young.len() + held.old.len() <= 2 * GENERATION_MAX);
        drop(held);
        assert_eq!(places.find(table, &[RowId(GENERATION_MAX as u64)]), [None]);
        // Another table's row of the same number is another; a newer place takes the place of the older.
        assert_eq!(places.find(TableId(2), &[asked]), [None]);
        places.note(table, segment(3), [(asked, 9)]);
        assert_eq!(places.find(table, &[asked]), [Some((segment(3), 9))]);
    }
}
