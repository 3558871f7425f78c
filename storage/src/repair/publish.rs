//! Taking damaged segments out of their table: one commit, with what is left of them in tables of its own.
//!
//! Order, each step durable before the next: (1) the objects are copied to `lost_and_found/`; (2) what can be read is written as segments of new
//! tables; (3) one commit makes these tables and takes the damaged segments away. Until (3) nothing names what was written, and the collector
//! has it; after (3) the damaged objects are what a compaction has replaced.
//!
//! No checkpoint is between its cut and its layout meanwhile, for it would bring the segments back. Whether something was deleted since the
//! rows were read is asked in the commit order; then all of it is done again.

use std::collections::BTreeSet;
use std::ops::RangeInclusive;
use std::sync::Arc;

use object_store::ObjectStoreExt;
use object_store::path::Path;

use super::salvage::{self, Found, lost_table, table_name};
use super::{LOST_AND_FOUND, Repair, RepairStatus, put_aside};
use crate::database::{Accept, Database, Writer, replay_row};
use crate::error::{Error, ErrorKind, Result};
use crate::id::{CommitId, CommitVersion, ObjectId, RowId, TableId};
use crate::schema::TableDef;
use crate::segment::{Addressing, SegmentMeta, SegmentWriter, SegmentWriterOptions};
use crate::version::{Catalog, LoadedDeletes, SegmentState, Snapshot, TableSnapshot, TableState, Version};
use crate::wal::codec::EncodedBody;
use crate::wal::{CatalogEdit, CommitInfo, RowBody, SegmentSwap, TableChange, WalEntry};

/// How often it is done again when rows of the table are deleted meanwhile.
const ATTEMPTS: usize = 8;

/// Segments to take out of a table.
pub(super) struct Removal<'a> {
    pub(super) database: &'a Arc<Database>,
    pub(super) table: TableId,
    pub(super) segments: Vec<ObjectId>,
    /// Who asks.
    pub(super) info: &'a CommitInfo,
}

/// What became of one segment.
#[derive(Debug)]
pub(super) struct Removed {
    pub(super) segment: ObjectId,
    path: String,
    /// Name of its table.
    table: String,
    /// The table with what is left of it, and how many rows that are.
    into: Option<(String, u64)>,
    /// Which rows are gone.
    lost: String,
    why: Option<String>,
    /// Whether rows that were deleted may be among those that are left.
    unsure: bool,
}

impl Removed {
    /// `name`: that of the table which takes what can be read.
    pub(super) fn new(def: &TableDef, segment: &SegmentState, found: &Found, name: Option<String>) -> Self {
        let into =
            name.filter(|_| found.rows > 0).map(|name| (format!("{LOST_AND_FOUND}.{name}"), found.rows));
        Self {
            segment: segment.meta.id,
            path: segment.meta.path(),
            table: def.qualified_name(),
            into,
            lost: found.describe_lost(&segment.meta),
            why: found.why.as_ref().map(|error| error.message().to_owned()),
            unsure: segment.damaged.is_some(),
        }
    }

    /// `what` VERIFY has found.
    pub(super) fn row(&self, status: RepairStatus, what: &str) -> Repair {
        let Self { table, lost, .. } = self;
        let (moved, hint) = match &self.into {
            Some((name, rows)) => (
                format!("{rows} rows of {table} that can be read go to {name}"),
                format!(
                    "look at them, then INSERT INTO {table} SELECT * FROM {name} what is wanted; the objects are kept below \
                     {LOST_AND_FOUND}/"
                ),
            ),
            None => (
                format!("no row of it can be read; it is taken out of {table}"),
                format!(
                    "restore the rows from a backup; what is there of the objects is kept below {LOST_AND_FOUND}/"
                ),
            ),
        };
        let unsure = match self.unsure {
            true => {
                "; which of its rows were deleted is not known in full, so some of them may be deleted ones"
            }
            false => "",
        };
        let why = self.why.as_ref().map_or_else(String::new, |why| format!("; {why}"));
        Repair::new(&self.path, "salvage", status, format!("{moved}; {lost}{unsure}; found: {what}{why}"))
            .with_hint(hint)
    }
}

/// A table with what is left of a segment.
struct LostTable {
    def: Arc<TableDef>,
    meta: SegmentMeta,
}

impl Removal<'_> {
    /// Does it; what became of each segment.
    ///
    /// # Errors
    /// `Conflict` when rows of the table are deleted all the time, clean storage errors: nothing has changed. `OutcomeUnknown`.
    pub(super) async fn run(&self) -> Result<Vec<Removed>> {
        let writer = self.database.writer()?;
        for _ in 1..ATTEMPTS {
            match self.attempt(writer).await {
                Err(error) if error.kind() == ErrorKind::Conflict => {}
                result => return result,
            }
        }
        self.attempt(writer).await
    }

    async fn attempt(&self, writer: &Writer) -> Result<Vec<Removed>> {
        // Until the commit is published no checkpoint and no compaction comes between.
        let _newest = writer.manifest.lock().await;
        writer.order.settle_all().await;
        // Until the commit that names the segments is in the order: none is collected before.
        let _upload = writer.uploads.begin(&writer.ids);
        let snapshot = self.database.snapshot();
        let table = snapshot.table(self.table).ok_or_else(|| changed("it was dropped"))?;
        let mut segments = Vec::with_capacity(self.segments.len());
        for id in &self.segments {
            let found = table.state().segments.iter().find(|s| s.meta.id == *id && s.dropped_at.is_none());
            segments.push(Arc::clone(found.ok_or_else(|| changed("a segment was replaced"))?));
        }
        for path in paths(&segments) {
            put_aside(&*self.database.shared.past_cache(), &path).await?;
        }
        let mut written = Vec::new();
        let done = self.take_out(writer, &snapshot, &table, &segments, &mut written).await;
        if let Err(error) = &done
            && error.kind() != ErrorKind::OutcomeUnknown
        {
            self.remove(&written).await;
        }
        let removed = done?;
        // What was taken away is looked for by the next checkpoint, and units over it are worn.
        self.database.swept.set_due();
        self.database.index_soon();
        Ok(removed)
    }

    async fn take_out(
        &self,
        writer: &Writer,
        snapshot: &Snapshot,
        table: &TableSnapshot,
        segments: &[Arc<SegmentState>],
        written: &mut Vec<SegmentMeta>,
    ) -> Result<Vec<Removed>> {
        let lost = visible_rows(table, segments).await?;
        let mut next = snapshot.state().next_table_id;
        let (mut tables, mut removed) = (Vec::new(), Vec::new());
        for segment in segments {
            let name = free_name(snapshot.catalog(), table_name(table.def(), segment.meta.id));
            let def = Arc::new(lost_table(table.def(), next, name));
            let mut file = SegmentWriter::new(
                Arc::clone(&self.database.shared.store),
                Arc::clone(&def),
                writer.ids.next(),
                Addressing::Load,
                SegmentWriterOptions::of_table(def.layout, self.database.shared.remote),
            )?;
            let found = match salvage::scan(table, segment, Some((&mut file, &*def))).await {
                Ok(found) => found,
                Err(error) => {
                    file.abort().await;
                    return Err(error);
                }
            };
            removed.push(Removed::new(table.def(), segment, &found, Some(def.name.clone())));
            if found.rows == 0 {
                file.abort().await;
                continue;
            }
            let meta = file.finish().await?;
            written.push(meta.clone());
            tables.push(LostTable { def, meta });
            next = next.next();
        }
        let first = snapshot.state().next_table_id;
        self.commit(writer, table.state(), segments, lost, (first, tables)).await?;
        Ok(removed)
    }

    /// Commits when the table is as it was read.
    async fn commit(
        &self,
        writer: &Writer,
        read: &Arc<TableState>,
        segments: &[Arc<SegmentState>],
        lost: u64,
        (first_table, tables): (TableId, Vec<LostTable>),
    ) -> Result<CommitVersion> {
        let mut version = CommitVersion(0);
        let ticket = writer.order.accept(None, |head| {
            let now = unchanged(head, read, segments)?;
            let taken = |lost: &LostTable| {
                let (schema, name) = (&lost.def.schema, &lost.def.name);
                head.catalog.table(schema, name).is_some() || head.catalog.view(schema, name).is_some()
            };
            if head.next_table_id != first_table || tables.iter().any(taken) {
                return Err(changed("another table was made"));
            }
            let swap = SegmentSwap {
                table: read.def.id,
                removed: segments.iter().map(|segment| segment.meta.id).collect(),
                added: Vec::new(),
                horizon: head.number,
                rows_left: Some(now.live_rows.saturating_sub(lost)),
            };
            let entry = self.entry(writer, head, swap, tables);
            version = entry.version;
            let ids: Vec<RowId> = entry.tables.iter().map(|change| change.first_row_id).collect();
            // Here and not before: how many rows are left is known only now. It is metadata, and little of it.
            let body =
                EncodedBody::new(entry.epoch, entry.commit_id, &entry.info, &entry.catalog, &entry.tables)?;
            let payload = body.assemble(entry.version, entry.time_us, &ids)?;
            let after = head.apply(&entry, &LoadedDeletes::new())?;
            Ok(Accept { after, payload, row: replay_row(&entry) })
        })?;
        writer.order.settle(ticket).await?;
        Ok(version)
    }

    fn entry(&self, writer: &Writer, head: &Version, swap: SegmentSwap, tables: Vec<LostTable>) -> WalEntry {
        let mut catalog = Vec::new();
        if !tables.is_empty() && !head.catalog.has_schema(LOST_AND_FOUND) {
            catalog.push(CatalogEdit::CreateSchema { name: LOST_AND_FOUND.to_owned() });
        }
        catalog.extend(tables.iter().map(|lost| CatalogEdit::PutTable(Arc::clone(&lost.def))));
        catalog.push(CatalogEdit::SwapSegments(Arc::new(swap)));
        let changes = tables.into_iter().map(|lost| TableChange {
            table: lost.def.id,
            schema_version: lost.def.schema_version,
            first_row_id: RowId(1),
            rows: RowBody::Batches(Vec::new()),
            deleted: Vec::new(),
            segments: vec![lost.meta],
            deletes: Vec::new(),
            truncate: false,
        });
        let mut info = self.info.clone();
        if info.message.is_empty() {
            "repair".clone_into(&mut info.message);
        }
        WalEntry {
            version: head.number.next(),
            epoch: writer.epoch,
            commit_id: CommitId::random(),
            time_us: self.database.options().clock.now_us().max(head.time_us),
            info,
            catalog,
            tables: changes.collect(),
        }
    }

    /// Best effort: nothing names them.
    async fn remove(&self, written: &[SegmentMeta]) {
        for meta in written {
            for path in [meta.path(), meta.key_filter_path()] {
                let _ = self.database.shared.store.delete(&Path::from(path)).await;
            }
        }
    }
}

/// The objects of segments.
fn paths(segments: &[Arc<SegmentState>]) -> Vec<String> {
    let mut paths = Vec::new();
    for segment in segments {
        paths.extend([segment.meta.path(), segment.meta.key_filter_path()]);
        paths.extend(segment.delete_objects.iter().map(|deletes| deletes.path()));
    }
    paths
}

fn changed(why: &str) -> Error {
    Error::new(ErrorKind::Conflict, format!("the table was changed while it was repaired: {why}"))
        .with_hint("run VERIFY REPAIR again")
}

/// The table in `head`, when nothing of `segments` and nothing that is deleted has changed since it was `read`.
fn unchanged<'v>(
    head: &'v Version,
    read: &TableState,
    segments: &[Arc<SegmentState>],
) -> Result<&'v Arc<TableState>> {
    let now = head.tables.get(&read.def.id).filter(|now| now.dropped_at.is_none());
    let now = now.ok_or_else(|| changed("it was dropped"))?;
    if now.def.schema_version != read.def.schema_version {
        return Err(changed("it was altered"));
    }
    let there = |segment: &Arc<SegmentState>| now.segments.iter().any(|known| Arc::ptr_eq(known, segment));
    if now.last_delete != read.last_delete || !segments.iter().all(there) {
        return Err(changed("rows were deleted"));
    }
    Ok(now)
}

/// The row ids between which those of a segment are.
fn within(segment: &SegmentState) -> RangeInclusive<RowId> {
    segment.meta.min_row_id..=segment.meta.max_row_id
}

/// How many rows of `segments` count as visible rows of the table.
async fn visible_rows(table: &TableSnapshot, segments: &[Arc<SegmentState>]) -> Result<u64> {
    let state = table.state();
    let mut hot: BTreeSet<RowId> = segments
        .iter()
        .flat_map(|segment| state.hot_deletes.range(within(segment)).map(|(id, _)| id))
        .collect();
    // Row ids of several segments may interleave, and those of the damaged ones can't always be read: what is found nowhere else is theirs.
    if !hot.is_empty() {
        for id in state.memtable.chunks().flat_map(|chunk| chunk.row_ids().values().iter()) {
            hot.remove(&RowId(*id));
        }
    }
    for other in state.segments.iter() {
        if segments.iter().any(|segment| segment.meta.id == other.meta.id) {
            continue;
        }
        let ids: Vec<RowId> = hot.range(within(other)).copied().collect();
        if ids.is_empty() {
            continue;
        }
        let positions = table.open_segment(&other.meta).await?.positions_of_row_ids(&ids).await?;
        for (id, _) in ids.iter().zip(&positions).filter(|(_, position)| position.is_some()) {
            hot.remove(id);
        }
    }
    let stored: u64 =
        segments.iter().map(|s| s.meta.rows - s.deletes.as_ref().map_or(0, |deletes| deletes.len())).sum();
    Ok(stored.saturating_sub(hot.len() as u64))
}

/// The name, or the first of `name_2`, `name_3`, … that is free.
fn free_name(catalog: &Catalog, name: String) -> String {
    let taken = |name: &str| {
        catalog.table(LOST_AND_FOUND, name).is_some() || catalog.view(LOST_AND_FOUND, name).is_some()
    };
    let mut free = name.clone();
    let mut number = 2;
    while taken(&free) {
        free = format!("{name}_{number}");
        number += 1;
    }
    free
}
