//! How merged segments become part of their table: by a commit, as everything that changes (ADR 26).
//!
//! Owns: carrying over what was deleted while the merge ran, and the commit. Does not own: the merge (`merge`).
//!
//! Order, each step durable before the next: (1) the merged segments; (2) `.deletes` objects with what is deleted in them by now; (3) a
//! commit that names both and the segments they take the place of. Whether (2) still holds is asked in the commit order: a segment's
//! state is one value, so that it is the same one or it has changed, and then (2) is made again. No checkpoint is between its cut and
//! its layout meanwhile, for it would bring the replaced segments back; so nothing but deletes in bulk can change a segment.
//! Deletes that are in no object yet go by row id and need nothing.

use std::sync::Arc;

use object_store::ObjectStoreExt;
use object_store::path::Path;
use roaring::RoaringBitmap;

use super::merge::{Input, Output};
use crate::database::{Accept, Database, Writer, replay_row};
use crate::error::{Error, ErrorKind, Result};
use crate::id::{CommitId, CommitVersion, ObjectId, RowId, SchemaVersion, TableId};
use crate::manifest::SegmentEntry;
use crate::segment::{DeletesMeta, DeletionVector};
use crate::version::{LoadedDeletes, SegmentState, TableSnapshot, TableState, Version};
use crate::wal::codec::EncodedBody;
use crate::wal::{CatalogEdit, CommitInfo, SegmentSwap, WalEntry};

/// How often what is deleted is carried over anew.
const ATTEMPTS: usize = 8;

/// A merge that is done.
pub(super) struct Merged<'a> {
    /// What was merged.
    pub(super) table: &'a TableSnapshot,
    /// The segments that were read.
    pub(super) inputs: &'a [Input],
    /// Segments that go without a row being read.
    pub(super) gone: &'a [ObjectId],
    /// What was written.
    pub(super) outputs: &'a [Output],
    /// The oldest version that was retained.
    pub(super) horizon: CommitVersion,
}

/// Puts the outputs in the place of the inputs; returns the commit's version.
///
/// # Errors
/// `Conflict` when the table or its segments are not what they were: nothing has changed. `OutcomeUnknown` and clean storage errors.
pub(super) async fn publish(
    database: &Database,
    writer: &Writer,
    merged: &Merged<'_>,
) -> Result<CommitVersion> {
    // Until the commit is published no checkpoint begins.
    let _newest = writer.manifest.lock().await;
    for _ in 0..ATTEMPTS {
        let head = writer.order.head();
        let replaced = merged.replaced(&head)?;
        let carried = merged.carry_over(database, writer, &head).await?;
        let written: Vec<DeletesMeta> = carried.entries.iter().flat_map(|e| e.deletes.clone()).collect();
        match commit(database, writer, merged, &replaced, carried).await {
            Ok(version) => {
                // Before the next checkpoint begins, which is to look for what was replaced.
                database.swept.set_due();
                database.forget_columns();
                return Ok(version);
            }
            Err(error) if error.kind() == ErrorKind::OutcomeUnknown => return Err(error),
            Err(error) => {
                remove(database, &written).await;
                if error.kind() != ErrorKind::Conflict {
                    return Err(error);
                }
            }
        }
    }
    Err(changed(merged.table))
}

/// Best effort: nothing names them.
async fn remove(database: &Database, written: &[DeletesMeta]) {
    for meta in written {
        let _ = database.shared.store.delete(&Path::from(meta.path())).await;
    }
}

fn changed(table: &TableSnapshot) -> Error {
    let name = table.def().qualified_name();
    Error::new(ErrorKind::Conflict, format!("{name} was changed while its segments were merged"))
        .with_hint("run COMPACT again; upkeep tries it again by itself")
}

/// The outputs with what is deleted in them.
struct Carried {
    entries: Vec<SegmentEntry>,
    deletes: LoadedDeletes,
}

impl Merged<'_> {
    fn id(&self) -> TableId {
        self.table.def().id
    }

    fn schema_version(&self) -> SchemaVersion {
        self.table.def().schema_version
    }

    /// The table as it is now, while it can still be compacted.
    fn table_in<'v>(&self, version: &'v Version) -> Result<&'v Arc<TableState>> {
        let table = version.tables.get(&self.id()).filter(|table| {
            let merges = !self.inputs.is_empty();
            !merges || (table.dropped_at.is_none() && table.def.schema_version == self.schema_version())
        });
        table.ok_or_else(|| changed(self.table))
    }

    /// What its segments are now, the inputs' first, in their order.
    fn replaced(&self, version: &Version) -> Result<Vec<Arc<SegmentState>>> {
        let table = self.table_in(version)?;
        let find = |id: ObjectId| {
            let found = table.segments.iter().find(|segment| segment.meta.id == id).cloned();
            found.ok_or_else(|| changed(self.table))
        };
        let mut replaced = Vec::with_capacity(self.inputs.len() + self.gone.len());
        for input in self.inputs {
            let segment = find(input.reader.meta().id)?;
            // TRUNCATE took it away, or nobody knows any more what is deleted in it.
            if segment.dropped_at.is_some() || segment.damaged.is_some() {
                return Err(changed(self.table));
            }
            replaced.push(segment);
        }
        for id in self.gone {
            replaced.push(find(*id)?);
        }
        Ok(replaced)
    }

    /// Writes for each output what is deleted in it: what the merge found, and what `head` has besides.
    async fn carry_over(&self, database: &Database, writer: &Writer, head: &Version) -> Result<Carried> {
        let late = self.late(&self.replaced(head)?).await?;
        let ids: Vec<RowId> = late.iter().map(|(id, _)| *id).collect();
        let mut carried = Carried { entries: Vec::new(), deletes: LoadedDeletes::new() };
        let done = self.put_deletes(database, writer, &late, &ids, &mut carried).await;
        if let Err(error) = done {
            let written: Vec<DeletesMeta> = carried.entries.iter().flat_map(|e| e.deletes.clone()).collect();
            remove(database, &written).await;
            return Err(error);
        }
        Ok(carried)
    }

    async fn put_deletes(
        &self,
        database: &Database,
        writer: &Writer,
        late: &[(RowId, CommitVersion)],
        ids: &[RowId],
        carried: &mut Carried,
    ) -> Result<()> {
        let mut found = 0;
        for output in self.outputs {
            let meta = &output.meta;
            let mut deleted = output.deletes.clone();
            if !late.is_empty() {
                let reader = self.table.open_segment(meta).await?;
                let positions = reader.positions_of_row_ids(ids).await?;
                let here =
                    positions.iter().zip(late).filter_map(|(p, (_, version))| p.map(|p| (p, *version)));
                let before = deleted.len();
                deleted.extend(here);
                found += deleted.len() - before;
            }
            let mut entry = SegmentEntry { segment: Arc::clone(meta), deletes: Vec::new(), dropped_at: None };
            if !deleted.is_empty() {
                let vector = DeletionVector::from_pairs(deleted);
                let store = &*database.shared.store;
                let object = vector.put(store, writer.ids.next(), meta.table, meta.id, true).await?;
                carried.deletes.insert(object.id, Ok(Arc::new(vector)));
                entry.deletes.push(object);
            }
            carried.entries.push(entry);
        }
        // A row that is lost here would come back to life.
        if found != late.len() {
            return Err(Error::internal(format!(
                "{} of {} rows deleted meanwhile were not found in the merged segments",
                late.len() - found,
                late.len()
            )));
        }
        Ok(())
    }

    /// Rows of the inputs that were deleted since they were read.
    async fn late(&self, replaced: &[Arc<SegmentState>]) -> Result<Vec<(RowId, CommitVersion)>> {
        let mut late = Vec::new();
        for (input, now) in self.inputs.iter().zip(replaced) {
            let Some(deletes) = &now.deletes else { continue };
            let new: RoaringBitmap = match &input.deletes {
                Some(known) => &**deletes.positions() - &**known.positions(),
                None => RoaringBitmap::clone(deletes.positions()),
            };
            if new.is_empty() {
                continue;
            }
            let positions: Vec<u32> = new.iter().collect();
            let ids = input.reader.row_ids_at(&positions).await?;
            for (id, position) in ids.into_iter().zip(positions) {
                late.extend(deletes.version_of(position).map(|version| (id, version)));
            }
        }
        Ok(late)
    }

    /// Whether the segments are still the very ones.
    fn check(&self, head: &Version, replaced: &[Arc<SegmentState>]) -> Result<()> {
        let now = self.replaced(head)?;
        let same = now.iter().zip(replaced).all(|(now, then)| Arc::ptr_eq(now, then));
        if same { Ok(()) } else { Err(changed(self.table)) }
    }
}

async fn commit(
    database: &Database,
    writer: &Writer,
    merged: &Merged<'_>,
    replaced: &[Arc<SegmentState>],
    carried: Carried,
) -> Result<CommitVersion> {
    let swap = SegmentSwap {
        table: merged.id(),
        removed: replaced.iter().map(|segment| segment.meta.id).collect(),
        added: carried.entries,
        horizon: merged.horizon,
        rows_left: None,
    };
    let mut entry = WalEntry {
        version: CommitVersion(0),
        epoch: writer.epoch,
        commit_id: CommitId::random(),
        time_us: 0,
        info: CommitInfo { message: "compact".to_owned(), ..CommitInfo::default() },
        catalog: vec![CatalogEdit::SwapSegments(Arc::new(swap))],
        tables: Vec::new(),
    };
    let body = EncodedBody::new(entry.epoch, entry.commit_id, &entry.info, &entry.catalog, &entry.tables)?;
    if body.payload_len() > database.options().wal_entry_bytes_max {
        return Err(Error::new(ErrorKind::ResourceExhausted, "a compaction names too many segments at once"));
    }
    let ticket = writer.order.accept(None, |head| {
        merged.check(head, replaced)?;
        entry.version = head.number.next();
        entry.time_us = database.options().clock.now_us().max(head.time_us);
        let payload = body.assemble(entry.version, entry.time_us, &[])?;
        let after = head.apply(&entry, &carried.deletes)?;
        Ok(Accept { after, payload, row: replay_row(&entry) })
    })?;
    // In a task that nobody drops half-way.
    writer.order.settle(ticket).await?;
    Ok(entry.version)
}
