//! What a checkpoint writes of one table.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use arrow::array::{ArrayRef, RecordBatch, UInt32Array, UInt64Array};
use arrow::datatypes::{DataType, Field, Schema};

use crate::database::{Database, Writer};
use crate::error::Result;
use crate::id::{CommitVersion, ObjectId, RowId};
use crate::jobs::Meter;
use crate::memtable::memory;
use crate::schema::{ROW_ID_COLUMN, TableDef, VERSION_COLUMN};
use crate::segment::sort::sort_batches;
use crate::segment::writer::Addressing;
use crate::segment::{DeletionVector, SegmentMeta, SegmentWriter, SegmentWriterOptions};
use crate::version::{SegmentState, TableSnapshot, TableState};

/// Rows handed to the segment writer at once.
const BATCH_ROWS: usize = 16 * 1024;

/// One table's flush.
pub(super) struct Flushed {
    /// The definition that they are of.
    pub(super) def: Arc<TableDef>,
    /// The table's segments from now on.
    pub(super) segments: Vec<Arc<SegmentState>>,
    /// Paths of the objects written, to remove them when the checkpoint fails.
    pub(super) written: Vec<String>,
    pub(super) segments_written: u64,
    pub(super) rows: u64,
    pub(super) deletes: u64,
    pub(super) bytes: u64,
}

/// Writes a table's hot rows as one segment and its hot deletes as deletion vectors.
///
/// # Errors
/// Storage errors; objects already written stay behind unreferenced.
pub(super) async fn table(
    database: &Arc<Database>,
    writer: &Writer,
    state: &Arc<TableState>,
    at: CommitVersion,
) -> Result<Flushed> {
    let mut flushed = Flushed {
        def: Arc::clone(&state.def),
        segments: Vec::clone(&state.segments),
        written: Vec::new(),
        segments_written: 0,
        rows: 0,
        deletes: 0,
        bytes: 0,
    };
    let snapshot = TableSnapshot::new(Arc::clone(state), at, Arc::clone(&database.shared));
    let mut new_positions = BTreeMap::new();
    if state.memtable.rows() > 0 {
        let (meta, positions) = segment(database, writer, &snapshot).await?;
        flushed.written.extend([meta.path(), meta.key_filter_path()]);
        flushed.segments_written = 1;
        flushed.rows = meta.rows;
        flushed.bytes += meta.bytes + meta.key_filter_bytes.unwrap_or(0);
        flushed.segments.push(Arc::new(SegmentState::clean(Arc::new(meta))));
        new_positions = positions;
    }
    if !state.hot_deletes.is_empty() {
        deletes(database, writer, &snapshot, &new_positions, &mut flushed).await?;
    }
    Ok(flushed)
}

/// Row id -> position of the rows in the new segment that are deleted.
type Positions = BTreeMap<RowId, u32>;

async fn segment(
    database: &Arc<Database>,
    writer: &Writer,
    snapshot: &TableSnapshot,
) -> Result<(SegmentMeta, Positions)> {
    let def = Arc::clone(snapshot.def());
    let store = Arc::clone(&database.shared.store);
    let id = writer.ids.next();
    let hot = snapshot.clone();
    let options = SegmentWriterOptions::of_table(def.layout, database.shared.remote);
    let computing = database.options().computing;
    let encoded = computing.run(move || {
        let (rows, row_ids, versions) = hot.all_hot_rows()?;
        let mut fields: Vec<_> = rows.schema().fields().iter().cloned().collect();
        for name in [ROW_ID_COLUMN, VERSION_COLUMN] {
            fields.push(Arc::new(Field::new(name, DataType::UInt64, false)));
        }
        let mut arrays = rows.columns().to_vec();
        arrays.push(Arc::new(row_ids.clone()) as ArrayRef);
        arrays.push(Arc::new(versions) as ArrayRef);
        let all = RecordBatch::try_new(Arc::new(Schema::new(fields)), arrays)?;
        let bytes = memory(std::slice::from_ref(&all)) as u64;
        let sorted = sort_batches(&def, vec![all])?;
        if let Some(meter) = Meter::current() {
            // Once as they arrived, once in order.
            meter.holds(2 * bytes);
        }
        let order = sorted.permutation.map(UInt32Array::from);
        let positions = deleted_positions(&hot, &row_ids, order.as_ref());
        let mut segment = SegmentWriter::new(store, def, id, Addressing::Columns, options)?;
        for batch in &sorted.batches {
            for start in (0..batch.num_rows()).step_by(BATCH_ROWS) {
                segment.write(&batch.slice(start, BATCH_ROWS.min(batch.num_rows() - start)))?;
            }
        }
        segment.close()?;
        Ok((segment, positions))
    });
    let (segment, positions) = encoded.await?;
    Ok((segment.finish().await?, positions))
}

/// Where the hot rows that are deleted stand in the new segment.
fn deleted_positions(hot: &TableSnapshot, row_ids: &UInt64Array, order: Option<&UInt32Array>) -> Positions {
    let deletes = &hot.state().hot_deletes;
    if deletes.is_empty() {
        return Positions::new();
    }
    let id_at = |position: usize| match order {
        None => row_ids.value(position),
        Some(order) => row_ids.value(order.value(position) as usize),
    };
    (0..row_ids.len())
        .filter(|p| deletes.contains(RowId(id_at(*p))))
        .map(|p| (RowId(id_at(p)), p as u32))
        .collect()
}

async fn deletes(
    database: &Arc<Database>,
    writer: &Writer,
    snapshot: &TableSnapshot,
    new_positions: &Positions,
    flushed: &mut Flushed,
) -> Result<()> {
    let hot = &snapshot.state().hot_deletes;
    let store = &database.shared.store;
    let present: Vec<&Arc<SegmentMeta>> = snapshot.state().segments.iter().map(|s| &s.meta).collect();
    let ids: Vec<RowId> = hot.iter().map(|(id, _)| id).collect();
    let mut older: HashMap<ObjectId, Vec<(u32, CommitVersion)>> = HashMap::new();
    let places = snapshot.places(&present, &ids).await?;
    for ((_, version), place) in hot.iter().zip(places) {
        if let Some((segment, position)) = place {
            older.entry(present[segment].id).or_default().push((position, version));
        }
    }
    for slot in &mut flushed.segments {
        let meta = &slot.meta;
        let within: Vec<(RowId, CommitVersion)> = hot.range(meta.min_row_id..=meta.max_row_id).collect();
        if within.is_empty() {
            continue;
        }
        // Rewriting a deletion vector that could not be read would bring its rows back.
        if let Some(error) = &slot.damaged {
            return Err(error.clone());
        }
        let is_new = !snapshot.state().segments.iter().any(|s| s.meta.id == meta.id);
        let found: Vec<(u32, CommitVersion)> = if is_new {
            within.iter().filter_map(|(id, v)| new_positions.get(id).map(|p| (*p, *v))).collect()
        } else {
            older.remove(&meta.id).unwrap_or_default()
        };
        if found.is_empty() {
            continue;
        }
        let deleted = found.len() as u64;
        let mut vector = DeletionVector::from_pairs(found);
        if let Some(known) = &slot.deletes {
            vector = DeletionVector::merge(known, &vector);
        }
        let object = vector.put(&**store, writer.ids.next(), meta.table, meta.id, true).await?;
        flushed.written.push(object.path());
        flushed.bytes += object.bytes;
        flushed.deletes += deleted;
        let mut changed = SegmentState::clone(slot);
        changed.deletes = Some(Arc::new(vector));
        changed.delete_objects = vec![object];
        *slot = Arc::new(changed);
    }
    Ok(())
}
