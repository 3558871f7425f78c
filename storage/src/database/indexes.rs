//! When index units are built: one build at a time, after whatever made one due.

use std::collections::HashSet;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use super::Database;
use crate::error::{Error, ErrorKind, Result};
use crate::id::{IndexId, ObjectId, TableId};

/// The state of upkeep of one open database.
#[derive(Debug, Default)]
pub(crate) struct IndexUpkeep {
    /// Held by the build that runs.
    running: tokio::sync::Mutex<()>,
    /// Whether a background pass waits or runs.
    due: AtomicBool,
    cancelled: Arc<AtomicBool>,
    /// Whether objects that earlier writers left were looked for.
    swept: AtomicBool,
    /// Units that were found missing or damaged, or that REINDEX replaces.
    lost: Mutex<HashSet<ObjectId>>,
}

impl IndexUpkeep {
    fn lost(&self) -> HashSet<ObjectId> {
        self.lost.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Ends the build that runs and lets none begin.
    pub(super) fn stop(&self) {
        self.cancelled.store(true, Ordering::Release);
    }

    /// Waits for the build that was stopped.
    pub(super) async fn ended(&self) {
        drop(self.running.lock().await);
    }
}

impl Database {
    /// Builds every unit that the indexes of `table` (of all tables when absent) want, after the build that runs now;
    /// returns how many. Readers and writers go on meanwhile.
    ///
    /// # Errors
    /// `ReadOnly` on a follower; what a build met: nothing is changed by it then.
    pub async fn build_indexes(self: &Arc<Self>, table: Option<TableId>) -> Result<u64> {
        self.build(table, true, |_| Vec::new()).await
    }

    /// As [`build_indexes`](Self::build_indexes); the units that `anew` names, once no other build runs, are built again. What nobody
    /// `asked` for is left for later where it is paused or has failed lately.
    pub(super) async fn build(
        self: &Arc<Self>,
        table: Option<TableId>,
        asked: bool,
        anew: impl FnOnce(&Self) -> Vec<ObjectId> + Send + 'static,
    ) -> Result<u64> {
        self.writer()?;
        let database = Arc::clone(self);
        // In a task of its own: a caller that goes away leaves the build to end.
        tokio::spawn(async move {
            let upkeep = &database.indexes;
            let _running = upkeep.running.lock().await;
            if upkeep.cancelled.load(Ordering::Acquire) {
                return Err(Error::new(ErrorKind::Cancelled, "the database is closed"));
            }
            upkeep.lost.lock().unwrap_or_else(PoisonError::into_inner).extend(anew(&database));
            let lost = upkeep.lost();
            let built = crate::index::build_due(&database, table, &lost, asked, &upkeep.cancelled).await?;
            upkeep.lost.lock().unwrap_or_else(PoisonError::into_inner).retain(|unit| !lost.contains(unit));
            Ok(built)
        })
        .await
        .map_err(|e| Error::internal(format!("an index build ended early: {e}")))?
    }

    /// Builds all units of a table's index (of all its indexes when absent) anew; returns how many.
    ///
    /// # Errors
    /// As for [`build_indexes`](Self::build_indexes).
    pub async fn rebuild_indexes(self: &Arc<Self>, table: TableId, index: Option<IndexId>) -> Result<u64> {
        self.build(Some(table), true, move |database| {
            let state = database.snapshot().table(table).map(|t| Arc::clone(t.state()));
            let units = state.iter().flat_map(|s| s.units.iter());
            units.filter(|u| index.is_none_or(|i| i == u.index)).map(|u| u.id).collect()
        })
        .await
    }

    /// Builds these units of a table anew, after the build that runs; returns how many.
    ///
    /// # Errors
    /// As for [`build_indexes`](Self::build_indexes).
    pub(crate) async fn rebuild_units(self: &Arc<Self>, table: TableId, units: Vec<ObjectId>) -> Result<u64> {
        self.build(Some(table), true, move |_| units).await
    }

    /// Removes the objects of units that no commit names any more, best effort.
    pub async fn remove_index_units(&self, table: TableId, units: &[ObjectId]) {
        crate::index::remove_units(self, table, units).await;
    }

    /// Tells that units could not be used; they are built again in the background.
    pub fn index_units_lost(self: &Arc<Self>, units: impl IntoIterator<Item = ObjectId>) {
        if self.follows() {
            return;
        }
        let mut lost = self.indexes.lost.lock().unwrap_or_else(PoisonError::into_inner);
        let before = lost.len();
        lost.extend(units);
        let more = lost.len() > before;
        drop(lost);
        if more {
            self.index_soon();
        }
    }

    /// Looks in the background whether a unit is due.
    pub(crate) fn index_soon(self: &Arc<Self>) {
        let indexed = |db: &Self| db.snapshot().state().live_tables().any(|t| !t.def.indexes.is_empty());
        if self.follows()
            || self.closed.load(Ordering::Acquire)
            || !indexed(self)
            || self.indexes.due.swap(true, Ordering::AcqRel)
        {
            return;
        }
        let database = Arc::clone(self);
        let task = tokio::spawn(async move {
            database.indexes.due.store(false, Ordering::Release);
            if !database.indexes.swept.swap(true, Ordering::AcqRel) {
                // What stays is counted by VERIFY and looked for again at the next opening.
                let _ = crate::index::sweep_units(&database).await;
            }
            // A failure stands in the job's row; searches compare exactly what no unit covers.
            let _ = database.build(None, false, |_| Vec::new()).await;
        });
        self.keep_until_closed(task);
    }
}
