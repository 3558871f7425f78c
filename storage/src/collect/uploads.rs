//! Which object ids belong to work that has not ended.
//!
//! Owns: a mark for each such work (a write set that writes objects, a checkpoint, the build of an index unit): the first id
//! it can take. Ids only grow, so the smallest mark parts the ids of work that has ended from all others.
//!
//! Rule: an id is taken under a guard, and the guard lives until the commit that names the object is in the commit order, or
//! can't get there any more.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::id::{ObjectId, ObjectIds};

/// First ids of open work, and how many share each.
type Marks = BTreeMap<ObjectId, usize>;

/// The open work of one writer.
#[derive(Debug, Default)]
pub(crate) struct Uploads(Arc<Mutex<Marks>>);

/// Open work; ends with it.
#[derive(Debug)]
pub(crate) struct UploadGuard {
    marks: Arc<Mutex<Marks>>,
    mark: ObjectId,
}

fn held(marks: &Mutex<Marks>) -> MutexGuard<'_, Marks> {
    marks.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Uploads {
    /// Work begins that takes ids of `ids` from now on.
    pub(crate) fn begin(&self, ids: &ObjectIds) -> UploadGuard {
        let mut marks = held(&self.0);
        // Read under the lock: so no mark is ever set below a low water that was told.
        let mark = ids.upcoming();
        *marks.entry(mark).or_default() += 1;
        UploadGuard { marks: Arc::clone(&self.0), mark }
    }

    /// Smaller ids are of work that has ended. Never goes down.
    pub(crate) fn low_water(&self, ids: &ObjectIds) -> ObjectId {
        let marks = held(&self.0);
        marks.first_key_value().map_or_else(|| ids.upcoming(), |(mark, _)| *mark)
    }
}

impl Drop for UploadGuard {
    fn drop(&mut self) {
        if let Entry::Occupied(mut entry) = held(&self.marks).entry(self.mark) {
            *entry.get_mut() -= 1;
            if *entry.get() == 0 {
                entry.remove();
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::id::Epoch;

    #[test]
    fn the_oldest_open_work_holds_the_low_water() {
        let (uploads, ids) = (Uploads::default(), ObjectIds::new(Epoch(3)));
        let low = || uploads.low_water(&ids).sequence;
        assert_eq!(uploads.low_water(&ids), ObjectId { epoch: Epoch(3), sequence: 1 });
        let first = uploads.begin(&ids);
        let taken = ids.next();
        assert_eq!(low(), 1);
        let (second, third) = (uploads.begin(&ids), uploads.begin(&ids));
        ids.next();
        assert!(taken.sequence >= low());
        drop(first);
        assert!(taken.sequence < low());
        assert_eq!(low(), 2);
        // Two with one mark: both have to end.
        drop(second);
        assert_eq!(low(), 2);
        drop(third);
        assert_eq!(low(), 3);
    }

    #[test]
    fn the_low_water_never_goes_down() {
        let (uploads, ids) = (Uploads::default(), ObjectIds::new(Epoch(1)));
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    for _ in 0..500 {
                        let guard = uploads.begin(&ids);
                        let taken = [ids.next(), ids.next()];
                        let low = uploads.low_water(&ids);
                        assert!(taken.iter().all(|id| *id >= low));
                        drop(guard);
                    }
                });
            }
            let mut last = uploads.low_water(&ids);
            for _ in 0..2_000 {
                let now = uploads.low_water(&ids);
                assert!(now >= last);
                last = now;
            }
        });
        assert_eq!(uploads.low_water(&ids), ids.upcoming());
    }
}
