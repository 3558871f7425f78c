//! What others committed since a version, looked up outside the commit order: in the segments and deletion vectors where it stands by now.
//!
//! Owns: comparing rows and keys of a write set with the commits between two durable versions. Does not own: when that is needed, and what comes
//! after the newer version (`conflict`).
//!
//! Row ids tell what is new: a row that the older version did not have has an id from its next one on, whatever segment a checkpoint or a
//! compaction has put it into. So only segments that hold such ids are asked for keys, and a row that is not found any more has been deleted.
//! The cost is that of the check at the snapshot (`check`), and it is paid only by a commit with a checkpoint, a bulk load or a bulk delete of its
//! table between snapshot and commit.

use std::collections::HashMap;
use std::sync::Arc;

use roaring::RoaringBitmap;

use super::check::{LOOKUP_ROWS, ranges_overlap};
use super::conflict::{Claims, same_key, same_rows};
use crate::error::{Error, Result};
use crate::id::{ObjectId, RowId};
use crate::segment::{EncodedKey, KeyEncoder, SegmentMeta, SegmentReader};
use crate::version::{LoadedDeletes, Snapshot, TableSnapshot};
use crate::wal::{TableChange, WalEntry};

/// Compares `entry` with all that was committed after `before` and is in `now`. Tables that are not the same table in both are left out: the order
/// refuses what was made for another definition.
///
/// # Errors
/// `Conflict`; storage errors from reading segments.
pub(super) async fn compare(
    before: &Snapshot,
    now: &Snapshot,
    entry: &WalEntry,
    claims: &mut [Claims],
    loaded: &LoadedDeletes,
) -> Result<()> {
    for (change, claims) in entry.tables.iter().zip(claims) {
        let (Some(before), Some(now)) = (before.table(change.table), now.table(change.table)) else {
            continue;
        };
        if before.def().schema_version != now.def().schema_version {
            continue;
        }
        if !now.shows_all(&before, claims.deleted(change)).await? {
            return Err(same_rows(&now.def().qualified_name()));
        }
        let appended = now.state().last_append > before.version();
        let (Some(encoder), true) = (now.key_encoder()?, claims.writes_keys(change)) else { continue };
        let added = Added { now: &now, encoder: &encoder, first: before.next_row_id() };
        if appended && added.equal_keys(change, claims, loaded).await? {
            return Err(same_key(&now.def().qualified_name()));
        }
        if !change.segments.is_empty() && claims.filters.is_none() {
            let mut filters = Vec::with_capacity(change.segments.len());
            for meta in &change.segments {
                filters.extend(now.open_segment(&Arc::new(meta.clone())).await?.key_filter().await?);
            }
            // One that is missing would hide what its segment holds.
            claims.filters = (filters.len() == change.segments.len()).then_some(filters);
        }
    }
    Ok(())
}

/// The rows of a table that others have added.
struct Added<'a> {
    now: &'a TableSnapshot,
    encoder: &'a KeyEncoder,
    /// Their ids begin here.
    first: RowId,
}

impl Added<'_> {
    /// Whether one of them that lives has a key that `change` writes.
    async fn equal_keys(
        &self,
        change: &TableChange,
        claims: &Claims,
        loaded: &LoadedDeletes,
    ) -> Result<bool> {
        let deleted = claims.deleted(change);
        if let Some(encoded) = &claims.keys {
            for start in (0..encoded.len()).step_by(LOOKUP_ROWS) {
                let end = (start + LOOKUP_ROWS).min(encoded.len());
                let keys: Vec<EncodedKey> = (start..end).map(|row| encoded.to_owned(row)).collect();
                if self.finds(&keys, deleted).await? {
                    return Ok(true);
                }
            }
        }
        let gone = gone(change, loaded);
        for meta in &change.segments {
            if self.equal_keys_of(meta, gone.get(&meta.id).copied(), deleted).await? {
                return Ok(true);
            }
        }
        Ok(false)
    }

    async fn finds(&self, keys: &[EncodedKey], deleted: &[RowId]) -> Result<bool> {
        let found = self.now.lookup_since(keys, self.first).await?;
        Ok(found.iter().flatten().any(|id| deleted.binary_search(id).is_err()))
    }

    /// The same for a segment of the write set: where only rows in memory were added, they are looked up in it, else its rows in the table.
    async fn equal_keys_of(
        &self,
        meta: &SegmentMeta,
        gone: Option<&RoaringBitmap>,
        deleted: &[RowId],
    ) -> Result<bool> {
        let def = self.now.def();
        // Columns of a segment that was written after an ALTER of the same transaction may stand at other places.
        let comparable = meta.schema_version == def.schema_version;
        let overlaps = |other: &SegmentMeta| !comparable || ranges_overlap(def, meta, other);
        let reader = self.now.open_segment(&Arc::new(meta.clone())).await?;
        let beside = self
            .now
            .segments()
            .await?
            .iter()
            .any(|view| view.meta.max_row_id >= self.first && overlaps(&view.meta));
        if beside {
            return self.equal_keys_in_segments(&reader, gone, deleted).await;
        }
        let mut keys = self.now.state().hot_keys_from(self.first, usize::MAX)?.unwrap_or_default();
        keys.sort_unstable();
        for keys in keys.chunks(LOOKUP_ROWS) {
            if reader.lookup_keys(self.encoder, keys, gone).await?.iter().any(Option::is_some) {
                return Ok(true);
            }
        }
        Ok(false)
    }

    async fn equal_keys_in_segments(
        &self,
        reader: &SegmentReader,
        gone: Option<&RoaringBitmap>,
        deleted: &[RowId],
    ) -> Result<bool> {
        let indices = self.now.def().key_indices();
        // A segment has fewer than 2^32 rows.
        let rows =
            u32::try_from(reader.meta().rows).map_err(|_| Error::internal("a segment of too many rows"))?;
        for start in (0..rows).step_by(LOOKUP_ROWS) {
            let end = start.saturating_add(LOOKUP_ROWS as u32).min(rows);
            let left = |position: &u32| !gone.is_some_and(|gone| gone.contains(*position));
            let positions: Vec<u32> = (start..end).filter(left).collect();
            let batch = reader.rows_at(&indices, &positions).await?;
            let encoded = self.encoder.encode(batch.columns())?;
            let keys: Vec<EncodedKey> = (0..encoded.len()).map(|row| encoded.to_owned(row)).collect();
            if self.finds(&keys, deleted).await? {
                return Ok(true);
            }
        }
        Ok(false)
    }
}

/// Rows of the segments of `change` that it deletes again, by segment.
fn gone<'a>(change: &TableChange, loaded: &'a LoadedDeletes) -> HashMap<ObjectId, &'a RoaringBitmap> {
    let own = change.deletes.iter().filter(|deletes| change.appends(deletes.segment));
    own.filter_map(|deletes| match loaded.get(&deletes.id) {
        Some(Ok(vector)) => Some((deletes.segment, &**vector.positions())),
        _ => None,
    })
    .collect()
}
