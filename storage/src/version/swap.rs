//! Segments that others took the place of: what compaction does to the state, and a repair, which takes rows away with them.
//!
//! In a compaction no row changes, so neither do the marks that conflicts are told by, nor the hot rows: hot deletes go by row id, which the
//! rows keep. A version that somebody reads keeps the segments it has. A repair is a delete in bulk: who read the rows before conflicts with
//! it, and versions before it cannot be read. Its entry says how many rows are left, since a state that was loaded later may know less of what was
//! deleted in a damaged segment than the state it was made on.

use std::sync::Arc;

use super::views::Views;
use super::{LoadedDeletes, SegmentState, TableState, Version};
use crate::error::{Error, Result};
use crate::id::CommitVersion;
use crate::manifest::SegmentEntry;
use crate::segment::DeletionVector;
use crate::wal::SegmentSwap;

impl Version {
    /// With the segments of `swap` in place of those it removes; nothing when they are in the table's segments already.
    ///
    /// # Errors
    /// `Corrupt` when it does not fit the state.
    pub(super) fn swap(
        &mut self,
        swap: &SegmentSwap,
        version: CommitVersion,
        deletes: &LoadedDeletes,
    ) -> Result<()> {
        let Some(table) = self.tables.get(&swap.table) else {
            return Err(unfit(version, format!("it compacts table {}, which does not exist", swap.table)));
        };
        if version <= table.flushed {
            return Ok(());
        }
        let swapped = table.swapped(swap, version, deletes)?;
        self.tables.insert(swap.table, Arc::new(swapped));
        self.horizon = self.horizon.max(match swap.rows_left {
            Some(_) => version,
            None => swap.horizon,
        });
        Ok(())
    }
}

impl TableState {
    fn swapped(&self, swap: &SegmentSwap, version: CommitVersion, deletes: &LoadedDeletes) -> Result<Self> {
        if let Some(id) =
            swap.removed.iter().find(|id| !self.segments.iter().any(|segment| segment.meta.id == **id))
        {
            return Err(unfit(version, format!("it takes the place of segment {id}, which is unknown")));
        }
        let stays = |segment: &&Arc<SegmentState>| !swap.removed.contains(&segment.meta.id);
        let mut segments: Vec<Arc<SegmentState>> = self.segments.iter().filter(stays).cloned().collect();
        for entry in &swap.added {
            segments.push(Arc::new(segment(entry, version, deletes)?));
        }
        let mut next = self.clone();
        next.segments = Arc::new(segments);
        if let Some(left) = swap.rows_left {
            next.live_rows = left;
            next.last_delete = version;
            next.last_bulk_delete = version;
        }
        next.views = Views::default();
        next.searchers = Arc::default();
        Ok(next)
    }
}

fn segment(entry: &SegmentEntry, version: CommitVersion, loaded: &LoadedDeletes) -> Result<SegmentState> {
    let mut state = SegmentState::clean(Arc::clone(&entry.segment));
    for meta in &entry.deletes {
        let found = loaded.get(&meta.id).filter(|_| meta.segment == entry.segment.id);
        match found.ok_or_else(|| unfit(version, format!("its deletes object {} is unknown", meta.id)))? {
            Ok(vector) => {
                state.deletes = Some(match &state.deletes {
                    None => Arc::clone(vector),
                    Some(known) => Arc::new(DeletionVector::merge(known, vector)),
                });
            }
            Err(error) => state.damaged = Some(error.clone()),
        }
    }
    state.delete_objects.clone_from(&entry.deletes);
    Ok(state)
}

fn unfit(version: CommitVersion, why: String) -> Error {
    Error::corrupt(format!("WAL entry of version {version}"), why)
}
