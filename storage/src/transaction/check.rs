//! Primary keys, checked at the transaction's snapshot, outside the commit order.
//!
//! Owns: uniqueness within the write set and against the rows visible at the snapshot. Does not own: what was written
//! since (`conflict`, `since`).

use std::collections::HashSet;
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, RecordBatch, new_empty_array};
use arrow::compute::concat;

use super::TableSet;
use crate::error::{Error, ErrorKind, Result};
use crate::id::RowId;
use crate::schema::TableDef;
use crate::segment::key::{EncodedKeys, describe};
use crate::segment::{EncodedKey, SegmentMeta};
use crate::version::TableSnapshot;

/// Rows whose keys are looked up together.
pub(super) const LOOKUP_ROWS: usize = 64 * 1024;

/// Checks the keys of all appended rows of a tidy set; returns the encoded keys of the rows that stay in memory.
///
/// # Errors
/// `ConstraintViolation` (23505) naming table, key columns and value; storage errors from reading segments.
pub(crate) async fn keys(table: &TableSnapshot, set: &TableSet) -> Result<Option<EncodedKeys>> {
    let Some(encoder) = table.state().key_encoder() else { return Ok(None) };
    if set.batches.is_empty() && set.segments.is_empty() {
        return Ok(None);
    }
    let def = table.def();
    let columns = key_columns(def, &set.batches)?;
    let encoded = encoder.encode(&columns)?;
    // As many rows as there were, each of another one: keys that were different are, and whoever has one of them has gone.
    if set.keeps_keys && set.rows() == set.deleted.len() as u64 {
        return Ok(Some(encoded));
    }
    // One row is no other's duplicate.
    if encoded.len() > 1 {
        let mut seen: HashSet<&[u8]> = HashSet::with_capacity(encoded.len());
        for row in 0..encoded.len() {
            if !seen.insert(encoded.get(row)) {
                return Err(duplicate(def, &columns, row));
            }
        }
    }
    against_table(table, set, &columns, &encoded).await?;
    for (i, segment) in set.segments.iter().enumerate() {
        Box::pin(segment_keys(table, set, i, segment, &columns, &encoded)).await?;
    }
    Ok(Some(encoded))
}

/// The key columns of rows in memory, batch after batch.
fn key_columns(def: &TableDef, batches: &[RecordBatch]) -> Result<Vec<ArrayRef>> {
    let of = |batch: &RecordBatch, at: usize| {
        batch.columns().get(at).cloned().ok_or_else(|| Error::internal("a batch lacks key columns"))
    };
    let column = |at: usize| -> Result<ArrayRef> {
        match batches {
            [] => Ok(new_empty_array(&def.columns[at].column_type.arrow())),
            [batch] => of(batch, at),
            _ => {
                let parts = batches.iter().map(|batch| of(batch, at)).collect::<Result<Vec<_>>>()?;
                let parts: Vec<&dyn Array> = parts.iter().map(|part| &**part).collect();
                Ok(concat(&parts)?)
            }
        }
    };
    def.key_indices().into_iter().map(column).collect()
}

/// Rows in memory against the rows visible at the snapshot.
async fn against_table(
    table: &TableSnapshot,
    set: &TableSet,
    columns: &[ArrayRef],
    encoded: &EncodedKeys,
) -> Result<()> {
    if set.truncate {
        return Ok(());
    }
    for start in (0..encoded.len()).step_by(LOOKUP_ROWS) {
        let end = (start + LOOKUP_ROWS).min(encoded.len());
        let keys: Vec<EncodedKey> = (start..end).map(|row| encoded.to_owned(row)).collect();
        for (i, found) in table.lookup(&keys).await?.into_iter().enumerate() {
            if found.is_some_and(|id| !deletes(set, id)) {
                return Err(duplicate(table.def(), columns, start + i));
            }
        }
    }
    Ok(())
}

fn deletes(set: &TableSet, id: RowId) -> bool {
    set.deleted.binary_search(&id).is_ok()
}

/// One spilled segment against itself, the rows in memory, the spilled segments after it, and the table.
async fn segment_keys(
    table: &TableSnapshot,
    set: &TableSet,
    index: usize,
    segment: &SegmentMeta,
    columns: &[ArrayRef],
    encoded: &EncodedKeys,
) -> Result<()> {
    let def = table.def();
    let Some(encoder) = table.key_encoder()? else { return Ok(()) };
    let indices = def.key_indices();
    let meta = Arc::new(segment.clone());
    let reader = table.open_segment(&meta).await?;
    // Rows in memory against this segment.
    let mut kept: Vec<EncodedKey> = (0..encoded.len()).map(|row| encoded.to_owned(row)).collect();
    let mut order: Vec<usize> = (0..kept.len()).collect();
    order.sort_by(|a, b| kept[*a].cmp(&kept[*b]));
    kept.sort();
    let gone = set.gone.get(&segment.id);
    if let Some(i) = reader.lookup_keys(&encoder, &kept, gone).await?.iter().position(Option::is_some) {
        return Err(duplicate(def, columns, order[i]));
    }
    let sorted_by_key = segment.sorted && def.sort_indices() == indices;
    let overlapping: Vec<_> = set.segments[index + 1..]
        .iter()
        .filter(|other| ranges_overlap(def, segment, other))
        .map(|other| Arc::new(other.clone()))
        .collect();
    let existing = !set.truncate && table.row_count().await? > 0 && {
        let hot = table.hot_rows() > 0;
        hot || table.segments().await?.iter().any(|view| ranges_overlap(def, segment, &view.meta))
    };
    // The writer has seen to neighbours; what is in key order, alone in its range, holds no duplicate.
    if sorted_by_key && overlapping.is_empty() && !existing {
        return Ok(());
    }
    let mut seen: HashSet<EncodedKey> = HashSet::new();
    for start in (0..segment.rows).step_by(LOOKUP_ROWS) {
        let end = (start + LOOKUP_ROWS as u64).min(segment.rows);
        let mut positions: Vec<u32> = (start as u32..end as u32).collect();
        positions.retain(|position| !gone.is_some_and(|gone| gone.contains(*position)));
        let batch = reader.rows_at(&indices, &positions).await?;
        let chunk = encoder.encode(batch.columns())?;
        let mut keys: Vec<EncodedKey> = (0..chunk.len()).map(|row| chunk.to_owned(row)).collect();
        if !sorted_by_key {
            for (row, key) in keys.iter().enumerate() {
                if !seen.insert(key.clone()) {
                    return Err(duplicate(def, batch.columns(), row));
                }
            }
        }
        if existing {
            for (row, found) in table.lookup(&keys).await?.into_iter().enumerate() {
                if found.is_some_and(|id| !deletes(set, id)) {
                    return Err(duplicate(def, batch.columns(), row));
                }
            }
        }
        let mut order: Vec<usize> = (0..keys.len()).collect();
        order.sort_by(|a, b| keys[*a].cmp(&keys[*b]));
        keys.sort();
        for other in &overlapping {
            let (reader, gone) = (table.open_segment(other).await?, set.gone.get(&other.id));
            let found = reader.lookup_keys(&encoder, &keys, gone).await?;
            if let Some(i) = found.iter().position(Option::is_some) {
                return Err(duplicate(def, batch.columns(), order[i]));
            }
        }
    }
    Ok(())
}

/// Whether two segments can hold the same key, by the bounds of the first key column.
pub(super) fn ranges_overlap(def: &TableDef, a: &SegmentMeta, b: &SegmentMeta) -> bool {
    let Some(first) = def.key_indices().first().copied() else { return true };
    let (Some(a), Some(b)) = (a.columns.get(first), b.columns.get(first)) else { return true };
    match (&a.min, &a.max, &b.min, &b.max) {
        (Some(a_min), Some(a_max), Some(b_min), Some(b_max)) => {
            !(a_max.is_below(b_min) || b_max.is_below(a_min))
        }
        _ => true,
    }
}

/// The error of a key that is there twice.
fn duplicate(def: &TableDef, keys: &[ArrayRef], row: usize) -> Error {
    let names: Vec<&str> = def.key_indices().into_iter().map(|i| def.columns[i].name.as_str()).collect();
    Error::new(
        ErrorKind::ConstraintViolation,
        format!(
            "duplicate key in table {}: ({}) = {}",
            def.qualified_name(),
            names.join(", "),
            describe(keys, row)
        ),
    )
    .with_sqlstate("23505")
    .with_hint("use INSERT … ON CONFLICT to skip or update rows that exist")
}
