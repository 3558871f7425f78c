//! Looking up rows of one version: by key, by row id.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use arrow::array::{ArrayRef, RecordBatch, UInt64Array};
use arrow::compute::interleave;
use arrow::datatypes::SchemaRef;
use futures::StreamExt;

use super::super::SegmentState;
use super::{SegmentView, TableSnapshot};
use crate::error::{Error, Result};
use crate::id::{ObjectId, RowId};
use crate::segment::{EncodedKey, KeySpan, RowIds, SegmentMeta};

/// Segments opened at the same time.
const OPENED_AT_ONCE: usize = 16;
/// Footers of more segments would push each other out of the cache before they are used.
const OPENED_TOGETHER_MAX: usize = 64;

impl TableSnapshot {
    /// For each key the visible row that has it.
    ///
    /// # Errors
    /// `Internal` without a primary key; storage errors from reading segments.
    pub async fn lookup(&self, keys: &[EncodedKey]) -> Result<Vec<Option<RowId>>> {
        self.lookup_for(keys, &[]).await
    }

    /// As [`lookup`](Self::lookup), for [`rows`](Self::rows) of these columns: those of a distant store arrive with the keys.
    ///
    /// # Errors
    /// As [`lookup`](Self::lookup).
    pub async fn lookup_for(&self, keys: &[EncodedKey], columns: &[usize]) -> Result<Vec<Option<RowId>>> {
        self.lookup_among(keys, columns, RowId(0)).await
    }

    /// As [`lookup`](Self::lookup); rows with ids before `first` may be left out, and segments that hold no others are not asked.
    ///
    /// # Errors
    /// As [`lookup`](Self::lookup).
    pub(crate) async fn lookup_since(&self, keys: &[EncodedKey], first: RowId) -> Result<Vec<Option<RowId>>> {
        self.lookup_among(keys, &[], first).await
    }

    async fn lookup_among(
        &self,
        keys: &[EncodedKey],
        columns: &[usize],
        first: RowId,
    ) -> Result<Vec<Option<RowId>>> {
        let mut found: Vec<Option<RowId>> = vec![None; keys.len()];
        let mut open: Vec<usize> = Vec::new();
        for (i, key) in keys.iter().enumerate() {
            match self.state.hot_keys.find(key) {
                Some(row) if !self.is_hot_deleted(row) => found[i] = Some(row),
                // Deleted since, but a bulk write may have put the key back into a segment.
                Some(_) | None => open.push(i),
            }
        }
        let encoder = self
            .state
            .key_encoder()
            .ok_or_else(|| Error::internal(format!("{} has no key", self.def().qualified_name())))?;
        if self.state.segments.is_empty() {
            return Ok(found);
        }
        open.sort_by(|a, b| keys[*a].cmp(&keys[*b]));
        let views = self.segments().await?;
        if self.shared.remote {
            self.open_together(&views, keys, &open, first).await;
        }
        for view in views.iter().rev().filter(|view| view.meta.max_row_id >= first) {
            if open.is_empty() {
                break;
            }
            let mut asked = open.clone();
            // A footer is a request, and one after the other: segments whose bounds rule the keys out are not opened for them.
            if self.shared.remote {
                let span = KeySpan::of(&view.meta, self.def());
                asked.retain(|i| span.may_hold(keys[*i].as_bytes()));
                if asked.is_empty() {
                    continue;
                }
            }
            let reader = self.open_segment(&view.meta).await?.then_reading(columns);
            let wanted: Vec<EncodedKey> = asked.iter().map(|i| keys[*i].clone()).collect();
            let positions = reader.lookup_keys(encoder, &wanted, view.deleted.as_deref()).await?;
            let mut hits: Vec<(usize, u32)> =
                asked.iter().zip(positions).filter_map(|(i, p)| p.map(|p| (*i, p))).collect();
            if hits.is_empty() {
                continue;
            }
            hits.sort_unstable_by_key(|(_, p)| *p);
            let at: Vec<u32> = hits.iter().map(|(_, p)| *p).collect();
            for ((i, _), id) in hits.iter().zip(reader.row_ids_at(&at).await?) {
                found[*i] = Some(id);
            }
            open.retain(|i| found[*i].is_none());
        }
        Ok(found)
    }

    /// Reads the footers of the segments that may hold one of the keys `open`: asked for one after the other, each would be a wait.
    async fn open_together(&self, views: &[SegmentView], keys: &[EncodedKey], open: &[usize], first: RowId) {
        let mut opening = Vec::new();
        for view in views.iter().filter(|view| view.meta.max_row_id >= first) {
            let span = KeySpan::of(&view.meta, self.def());
            if open.iter().any(|i| span.may_hold(keys[*i].as_bytes())) {
                opening.push(Box::pin(self.open_segment(&view.meta)));
            }
        }
        // Whoever needs one that could not be opened is told.
        if (2..=OPENED_TOGETHER_MAX).contains(&opening.len()) {
            let _ = futures::stream::iter(opening).buffer_unordered(OPENED_AT_ONCE).collect::<Vec<_>>().await;
        }
    }

    fn is_hot_deleted(&self, row: RowId) -> bool {
        self.state.hot_deletes.get(row).is_some_and(|v| v <= self.at)
    }

    /// Whether all of `ids`, which ascend, are visible, as they are in `before`, an older version of the table. Where rows stand is mostly known, since
    /// they were read to be changed; else segments in which nothing was deleted since are asked only where a compaction has replaced others.
    ///
    /// # Errors
    /// Storage errors from reading row-id columns.
    pub(crate) async fn shows_all(&self, before: &Self, ids: &[RowId]) -> Result<bool> {
        if ids.is_empty() {
            return Ok(true);
        }
        if self.state.deletes_hot(ids) {
            return Ok(false);
        }
        let is_cold = |id: &&RowId| self.state.memtable.find(**id).is_none();
        let cold: Vec<RowId> = ids.iter().filter(is_cold).copied().collect();
        let segments: Vec<&Arc<SegmentState>> = self.present().collect();
        if let Some(error) = segments.iter().find_map(|segment| segment.damaged.clone()) {
            return Err(error);
        }
        let mut known: HashSet<ObjectId> = before.present().map(|segment| segment.meta.id).collect();
        let mut changed: HashSet<ObjectId> = HashSet::new();
        for segment in &segments {
            let newest = segment.deletes.as_ref().map(|deletes| deletes.max_version());
            if !known.remove(&segment.meta.id) || newest.is_some_and(|newest| newest > before.at) {
                changed.insert(segment.meta.id);
            }
        }
        // Then a row that is in none of the changed segments is where it was.
        let all_there = known.is_empty() && cold.iter().all(|id| before.state.memtable.find(*id).is_none());
        let metas: Vec<&Arc<SegmentMeta>> = segments.iter().map(|segment| &segment.meta).collect();
        let places = self.places_among(&metas, &cold, all_there.then_some(&changed)).await?;
        let is_there = |(segment, position): (usize, u32)| {
            let deletes = segments[segment].deletes.as_ref();
            !deletes.is_some_and(|deletes| deletes.positions().contains(position))
        };
        Ok(places.into_iter().all(|place| place.map_or(all_there, is_there)))
    }

    /// For each of `ids`, which ascend, which of the segments has it, and where; None: it is in none of them. `segments` are those of the state, or some.
    /// What was found lately is known (`segment/places`); else segments whose row ids are arithmetic cost nothing, others pages of
    /// their row-id column or all of it.
    ///
    /// # Errors
    /// Storage errors from reading row-id columns.
    pub(crate) async fn places(
        &self,
        segments: &[&Arc<SegmentMeta>],
        ids: &[RowId],
    ) -> Result<Vec<Option<(usize, u32)>>> {
        self.places_among(segments, ids, None).await
    }

    /// The same; where the places of rows are not known, only those of `segments` that are `asked`, if any are named, are asked for them.
    async fn places_among(
        &self,
        segments: &[&Arc<SegmentMeta>],
        ids: &[RowId],
        asked: Option<&HashSet<ObjectId>>,
    ) -> Result<Vec<Option<(usize, u32)>>> {
        let mut found: Vec<Option<(usize, u32)>> = vec![None; ids.len()];
        if ids.is_empty() || segments.is_empty() {
            return Ok(found);
        }
        let mut open: Vec<usize> = (0..ids.len()).collect();
        let of = |open: &[usize], meta: &SegmentMeta| {
            let first = open.partition_point(|&at| ids[at] < meta.min_row_id);
            let last = open.partition_point(|&at| ids[at] <= meta.max_row_id);
            first..last.max(first)
        };
        let mut stored: Vec<(usize, &Arc<SegmentMeta>)> = Vec::new();
        for (number, meta) in segments.iter().enumerate().filter(|(_, meta)| meta.rows > 0) {
            let RowIds::Base(base) = meta.row_ids else {
                stored.push((number, *meta));
                continue;
            };
            let within = of(&open, meta);
            for at in open.drain(within) {
                // A segment has fewer than 2^32 rows.
                found[at] = Some((number, (ids[at].0 - base.0) as u32));
            }
        }
        let ends = |meta: &SegmentMeta| (meta.min_row_id, meta.max_row_id);
        let least = stored.iter().map(|(_, meta)| ends(meta).0).min();
        let most = stored.iter().map(|(_, meta)| ends(meta).1).max();
        open.retain(|&at| Some(ids[at]) >= least && Some(ids[at]) <= most);
        let numbers: HashMap<ObjectId, usize> =
            stored.iter().map(|(number, meta)| (meta.id, *number)).collect();
        let left: Vec<RowId> = open.iter().map(|&at| ids[at]).collect();
        for (&at, known) in open.iter().zip(self.shared.cache.places().find(self.def().id, &left)) {
            found[at] = known.and_then(|(id, position)| Some((*numbers.get(&id)?, position)));
        }
        // Rows that are in no segment yet are in none of these.
        open.retain(|&at| found[at].is_none() && self.state.memtable.find(ids[at]).is_none());
        for (number, meta) in stored {
            let within = of(&open, meta);
            if within.is_empty() || asked.is_some_and(|asked| !asked.contains(&meta.id)) {
                continue;
            }
            let wanted: Vec<RowId> = open[within.clone()].iter().map(|&at| ids[at]).collect();
            let positions = self.open_segment(meta).await?.positions_of_row_ids(&wanted).await?;
            for (&at, position) in open[within].iter().zip(positions) {
                found[at] = position.map(|position| (number, position));
            }
            open.retain(|&at| found[at].is_none());
        }
        Ok(found)
    }

    pub(super) fn present(&self) -> impl Iterator<Item = &Arc<SegmentState>> {
        self.state.segments.iter().filter(|segment| segment.present_at(self.at))
    }

    /// The visible rows among `ids`, in the order of `ids`; others are left out.
    ///
    /// # Errors
    /// Storage errors from reading segments.
    pub async fn rows(&self, ids: &[RowId], columns: &[usize], pseudo: bool) -> Result<RecordBatch> {
        let schema = self.projected_schema(columns, pseudo)?;
        let mut parts: Vec<RecordBatch> = Vec::new();
        let mut places: Vec<Option<(usize, usize)>> = vec![None; ids.len()];
        let mut cold: Vec<(RowId, usize)> = Vec::new();
        for (i, id) in ids.iter().enumerate() {
            match self.state.memtable.find(*id) {
                Some((chunk, row))
                    if !self.is_hot_deleted(*id) && chunk.versions().value(row) <= self.at.0 =>
                {
                    let mut arrays: Vec<ArrayRef> =
                        columns.iter().map(|c| chunk.rows().column(*c).slice(row, 1)).collect();
                    if pseudo {
                        arrays.push(Arc::new(chunk.row_ids().slice(row, 1)));
                        arrays.push(Arc::new(chunk.versions().slice(row, 1)));
                    }
                    places[i] = Some((parts.len(), 0));
                    // No column may be asked for.
                    let one = arrow::array::RecordBatchOptions::new().with_row_count(Some(1));
                    parts.push(RecordBatch::try_new_with_options(Arc::clone(&schema), arrays, &one)?);
                }
                Some(_) => {}
                None => cold.push((*id, i)),
            }
        }
        cold.sort_unstable();
        if !cold.is_empty() {
            let views = self.segments().await?;
            let metas: Vec<&Arc<SegmentMeta>> = views.iter().map(|view| &view.meta).collect();
            let ids: Vec<RowId> = cold.iter().map(|(id, _)| *id).collect();
            let mut hits: Vec<Vec<(u32, usize)>> = vec![Vec::new(); views.len()];
            for ((_, i), place) in cold.iter().zip(self.places(&metas, &ids).await?) {
                if let Some((segment, position)) = place
                    && !views[segment].deleted.as_ref().is_some_and(|d| d.contains(position))
                {
                    hits[segment].push((position, *i));
                }
            }
            for (view, hits) in views.iter().zip(hits).filter(|(_, hits)| !hits.is_empty()) {
                self.rows_of_segment(view, hits, columns, pseudo, &schema, &mut parts, &mut places).await?;
            }
        }
        if parts.len() == 1 && places.iter().enumerate().all(|(i, p)| *p == Some((0, i))) {
            return Ok(parts.swap_remove(0));
        }
        let order: Vec<(usize, usize)> = places.into_iter().flatten().collect();
        let arrays = (0..schema.fields().len())
            .map(|c| {
                let sources: Vec<&dyn arrow::array::Array> =
                    parts.iter().map(|p| p.column(c).as_ref()).collect();
                if sources.is_empty() {
                    return Ok(arrow::array::new_empty_array(schema.field(c).data_type()));
                }
                Ok(interleave(&sources, &order)?)
            })
            .collect::<Result<Vec<_>>>()?;
        let options = arrow::array::RecordBatchOptions::new().with_row_count(Some(order.len()));
        Ok(RecordBatch::try_new_with_options(schema, arrays, &options)?)
    }

    #[expect(clippy::too_many_arguments, reason = "one step of `rows`, split for length only")]
    async fn rows_of_segment(
        &self,
        view: &SegmentView,
        mut hits: Vec<(u32, usize)>,
        columns: &[usize],
        pseudo: bool,
        schema: &SchemaRef,
        parts: &mut Vec<RecordBatch>,
        places: &mut [Option<(usize, usize)>],
    ) -> Result<()> {
        let reader = self.open_segment(&view.meta).await?;
        hits.sort_unstable();
        let mut positions: Vec<u32> = hits.iter().map(|(p, _)| *p).collect();
        positions.dedup();
        let rows = reader.rows_at(columns, &positions).await?;
        let rows = if pseudo {
            let ids = reader.row_ids_at(&positions).await?;
            let versions = reader.versions_at(&positions).await?;
            let mut arrays = rows.columns().to_vec();
            arrays.push(Arc::new(UInt64Array::from_iter_values(ids.iter().map(|i| i.0))));
            arrays.push(Arc::new(UInt64Array::from_iter_values(versions.iter().map(|v| v.0))));
            RecordBatch::try_new(Arc::clone(schema), arrays)?
        } else {
            RecordBatch::try_new_with_options(
                Arc::clone(schema),
                rows.columns().to_vec(),
                &arrow::array::RecordBatchOptions::new().with_row_count(Some(rows.num_rows())),
            )?
        };
        for (p, i) in hits {
            if let Ok(row) = positions.binary_search(&p) {
                places[i] = Some((parts.len(), row));
            }
        }
        parts.push(rows);
        Ok(())
    }
}
