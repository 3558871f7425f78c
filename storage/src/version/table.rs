//! One table's state at one version.

use std::sync::Arc;

use arrow::datatypes::SchemaRef;

use super::views::Views;
use super::{HotDeletes, HotKeys, Line, LoadedDeletes};
use crate::alter;
use crate::error::{Error, Result};
use crate::id::{CommitVersion, IndexId, ObjectId, RowId};
use crate::index::{Searchers, UnitMeta};
use crate::memtable::{Chunk, Memtable};
use crate::numbers::Counter;
use crate::schema::TableDef;
use crate::segment::{DeletesMeta, DeletionVector, EncodedKey, KeyEncoder, SegmentMeta};
use crate::wal::TableChange;

/// One segment and what is deleted in it.
#[derive(Clone, Debug)]
pub struct SegmentState {
    /// The segment.
    pub meta: Arc<SegmentMeta>,
    /// `.deletes` objects that make up `deletes`.
    pub delete_objects: Vec<DeletesMeta>,
    /// Its deletion vector; None: clean.
    pub deletes: Option<Arc<DeletionVector>>,
    /// TRUNCATE or DROP at this version took it away; kept for reads before it.
    pub dropped_at: Option<CommitVersion>,
    /// Its `.deletes` objects cannot be read: so neither can the table, but all others can.
    pub damaged: Option<Error>,
}

impl SegmentState {
    /// A segment without deletes.
    #[must_use]
    pub fn clean(meta: Arc<SegmentMeta>) -> Self {
        Self { meta, delete_objects: Vec::new(), deletes: None, dropped_at: None, damaged: None }
    }

    /// Deletes the positions of `vector` at `version`; returns how many were not deleted before. The object was written
    /// before its commit had a version, so its own versions do not count.
    fn delete(&mut self, vector: &DeletionVector, version: CommitVersion) -> u64 {
        let vector = DeletionVector::constant(vector.positions().as_ref().clone(), version);
        let before = self.deletes.as_ref().map_or(0, |d| d.len());
        let merged = match &self.deletes {
            None => Arc::new(vector),
            Some(known) => Arc::new(known.merge(&vector)),
        };
        let deleted = merged.len() - before;
        self.deletes = Some(merged);
        deleted
    }

    /// Whether a read at `at` sees it.
    #[must_use]
    pub fn present_at(&self, at: CommitVersion) -> bool {
        self.dropped_at.is_none_or(|d| d > at) && self.meta.min_created <= at
    }
}

/// Segments of one definition as segments of a newer one.
fn altered(segments: &[Arc<SegmentState>], old: &TableDef, new: &TableDef) -> Vec<Arc<SegmentState>> {
    let altered = |segment: &Arc<SegmentState>| {
        let meta = Arc::new(alter::meta(&segment.meta, old, new));
        Arc::new(SegmentState { meta, ..SegmentState::clone(segment) })
    };
    segments.iter().map(altered).collect()
}

/// Rows, deletes and keys of one table.
#[derive(Clone, Debug)]
pub struct TableState {
    /// Its definition.
    pub def: Arc<TableDef>,
    /// DROP TABLE at this version.
    pub dropped_at: Option<CommitVersion>,
    /// Next unused row id.
    pub next_row_id: RowId,
    /// The number of its identity column up to which all are used up; None: none is, or it has no such column.
    pub numbered: Option<i64>,
    /// Everything at or before this version is in `segments`.
    pub flushed: CommitVersion,
    /// Segments, dropped ones included.
    pub segments: Arc<Vec<Arc<SegmentState>>>,
    /// Units of its indexes.
    pub units: Arc<Vec<Arc<UnitMeta>>>,
    /// Hot rows.
    pub memtable: Memtable,
    /// Hot deletes.
    pub hot_deletes: HotDeletes,
    /// Keys of hot rows; empty without a primary key.
    pub hot_keys: HotKeys,
    /// Rows visible at the newest version.
    pub live_rows: u64,
    /// Version of the last commit that appended rows.
    pub last_append: CommitVersion,
    /// Version of the last commit that appended whole segments.
    pub last_load: CommitVersion,
    /// Version of the last commit that deleted rows.
    pub last_delete: CommitVersion,
    /// Version of the last commit that deleted rows other than one by one (TRUNCATE, `.deletes` objects).
    pub last_bulk_delete: CommitVersion,
    key_encoder: Option<Arc<KeyEncoder>>,
    arrow_schema: SchemaRef,
    /// Numbers of its identity column that were given, to rows of this version, of others or of none; the same for all that came of one.
    pub(crate) counter: Arc<Counter>,
    /// The segments with their invisible rows.
    pub(super) views: Views,
    /// What searches of its vectors share, worked out by the first.
    pub(crate) searchers: Arc<Searchers>,
}

impl TableState {
    /// Whether an index unit is one of its.
    #[must_use]
    pub fn names_unit(&self, unit: ObjectId) -> bool {
        self.units.iter().any(|named| named.id == unit)
    }

    /// An empty table.
    #[must_use]
    pub fn created(def: Arc<TableDef>, at: CommitVersion) -> Self {
        Self::restored(def, RowId(1), CommitVersion(at.0.saturating_sub(1)), Vec::new(), None)
    }

    /// A table as a manifest describes it.
    #[must_use]
    pub fn restored(
        def: Arc<TableDef>,
        next_row_id: RowId,
        flushed: CommitVersion,
        segments: Vec<Arc<SegmentState>>,
        dropped_at: Option<CommitVersion>,
    ) -> Self {
        let live_rows = segments
            .iter()
            .filter(|s| s.dropped_at.is_none())
            .map(|s| s.meta.rows.saturating_sub(s.deletes.as_ref().map_or(0, |d| d.len())))
            .fold(0, u64::saturating_add);
        // A definition with a key that cannot be encoded was refused when it was made.
        let key_encoder = KeyEncoder::for_key(&def).ok().flatten().map(Arc::new);
        let arrow_schema = def.arrow_schema();
        Self {
            def,
            dropped_at,
            next_row_id,
            numbered: None,
            flushed,
            segments: Arc::new(segments),
            units: Arc::default(),
            memtable: Memtable::default(),
            hot_deletes: HotDeletes::new(),
            hot_keys: HotKeys::default(),
            live_rows,
            last_append: flushed,
            last_load: flushed,
            last_delete: flushed,
            last_bulk_delete: flushed,
            key_encoder,
            arrow_schema,
            counter: Arc::default(),
            views: Views::default(),
            searchers: Arc::default(),
        }
    }

    /// Encoder of the primary key; None without one.
    #[must_use]
    pub fn key_encoder(&self) -> Option<&Arc<KeyEncoder>> {
        self.key_encoder.as_ref()
    }

    /// Arrow schema of its rows: that of its [definition](TableDef::arrow_schema), made once.
    #[must_use]
    pub fn arrow_schema(&self) -> &SchemaRef {
        &self.arrow_schema
    }

    /// Whether a checkpoint would find something to write.
    #[must_use]
    pub fn is_hot(&self) -> bool {
        self.memtable.rows() > 0 || !self.hot_deletes.is_empty()
    }

    /// Whether segments or deletes were written past the memtable since the last checkpoint.
    pub(crate) fn has_bulk_changes(&self) -> bool {
        self.segments.iter().any(|segment| {
            let deletes = segment.deletes.as_ref();
            segment.meta.min_created > self.flushed
                || deletes.is_some_and(|deletes| deletes.max_version() > self.flushed)
        })
    }

    /// Whether one of `ids`, which ascend, is among the hot deletes.
    pub(crate) fn deletes_hot(&self, ids: &[RowId]) -> bool {
        let (Some(first), Some(last)) = (ids.first(), ids.last()) else { return false };
        if ids.len() <= self.hot_deletes.len() {
            return self.hot_deletes.contains_any(ids);
        }
        self.hot_deletes.range(*first..=*last).any(|(id, _)| ids.binary_search(&id).is_ok())
    }

    /// Keys of the hot rows from `first` on that are not deleted; None: there are more than `most` such rows, or there is no key.
    ///
    /// # Errors
    /// `Internal` when a row does not fit the definition.
    pub(crate) fn hot_keys_from(&self, first: RowId, most: usize) -> Result<Option<Vec<EncodedKey>>> {
        let Some(encoder) = &self.key_encoder else { return Ok(None) };
        let indices = self.def.key_indices();
        let mut keys = Vec::new();
        let mut rows = 0;
        for chunk in self.memtable.chunks().filter(|chunk| chunk.row_id_range().1 >= first) {
            let ids = chunk.row_ids().values();
            let start = ids.partition_point(|id| *id < first.0);
            rows += ids.len() - start;
            if rows > most {
                return Ok(None);
            }
            let encoded = encoder.encode_batch(&chunk.rows().slice(start, ids.len() - start), &indices)?;
            let lives = |row: &usize| !self.hot_deletes.contains(RowId(ids[start + row]));
            keys.extend((0..encoded.len()).filter(lives).map(|row| encoded.to_owned(row)));
        }
        Ok(Some(keys))
    }

    /// Memory of hot rows, and what it takes to find the places of hot deletes: they are held as runs, but looked for one by one, by the first
    /// reader and the next checkpoint. Hot keys are not counted.
    #[must_use]
    pub fn hot_bytes(&self) -> u64 {
        self.memtable.bytes() + 48 * self.hot_deletes.len() as u64
    }

    /// The same rows under a newer definition: those in memory get its columns, files keep the older ones, which are read as the newer.
    ///
    /// # Errors
    /// `Internal` when `def` does not come of the present one.
    pub(crate) fn with_def(&self, def: Arc<TableDef>) -> Result<Self> {
        let key_encoder = KeyEncoder::for_key(&def).ok().flatten().map(Arc::new);
        let arrow_schema = def.arrow_schema();
        let (views, searchers) = (Views::default(), Arc::default());
        let mut next = Self { def, key_encoder, arrow_schema, views, searchers, ..self.clone() };
        if next.def.schema_version != self.def.schema_version {
            if !alter::same_form(&self.def, &next.def) {
                next.memtable = self.memtable.altered(&self.def, &next.def)?;
            }
            next.segments = Arc::new(altered(&self.segments, &self.def, &next.def));
        }
        let known: Vec<IndexId> = next.def.indexes.iter().map(|index| index.id).collect();
        Ok(next.without_units(|unit| !known.contains(&unit.index)))
    }

    /// With the units a manifest names.
    #[must_use]
    pub fn with_units(mut self, units: Vec<Arc<UnitMeta>>) -> Self {
        self.units = Arc::new(units);
        self
    }

    /// With the numbers used up that a manifest tells of.
    #[must_use]
    pub fn with_numbered(mut self, numbered: Option<i64>) -> Self {
        self.numbered = numbered;
        self
    }

    /// With one more unit; one of an index or a table that was dropped meanwhile is left out.
    pub(super) fn with_unit(&self, unit: &Arc<UnitMeta>) -> Self {
        let mut next = self.without_units(|known| known.id == unit.id || unit.replaces.contains(&known.id));
        if next.dropped_at.is_none() && next.def.indexes.iter().any(|index| index.id == unit.index) {
            Arc::make_mut(&mut next.units).push(Arc::clone(unit));
            next.searchers = Arc::default();
        }
        next
    }

    pub(super) fn without_units(&self, gone: impl Fn(&UnitMeta) -> bool) -> Self {
        let mut next = self.clone();
        if self.units.iter().any(|unit| gone(unit)) {
            next.units = Arc::new(self.units.iter().filter(|unit| !gone(unit)).cloned().collect());
            next.searchers = Arc::default();
        }
        next
    }

    /// Its units go with it: a search at an older version compares its rows exactly.
    pub(super) fn dropped(&self, version: CommitVersion) -> Self {
        Self {
            dropped_at: self.dropped_at.or(Some(version)),
            units: Arc::default(),
            searchers: Arc::default(),
            ..self.clone()
        }
    }

    /// The same table without its hot rows and their keys, for whoever only counts.
    pub(super) fn counted(&self) -> Self {
        Self {
            memtable: Memtable::default(),
            hot_keys: HotKeys::default(),
            views: Views::default(),
            searchers: Arc::default(),
            ..self.clone()
        }
    }

    pub(super) fn sealed(&self, until: CommitVersion) -> Self {
        let mut next = self.clone();
        next.memtable = next.memtable.sealed();
        next.hot_keys.seal(until);
        next
    }

    /// The same rows once a checkpoint at `cut` is published: what was hot then is in `written`, segments of the definition of
    /// then, and segments and deletes that came after it stay.
    #[must_use]
    pub fn relaid(&self, written: &[Arc<SegmentState>], of: &TableDef, cut: CommitVersion) -> Self {
        let mut next = self.clone();
        next.flushed = cut;
        if !written.is_empty() {
            next.segments = Arc::new(match of.schema_version == self.def.schema_version {
                true => self.merged(written, cut),
                false => self.merged(&altered(written, of, &self.def), cut),
            });
        }
        if self.is_hot() {
            next.memtable = self.memtable.after(cut);
            next.hot_deletes = self.hot_deletes.after(cut);
            next.hot_keys.drop_flushed(cut);
        }
        next.views = Views::default();
        next.searchers = Arc::default();
        next
    }

    /// `written` with what was added since: new segments, newer deletes, TRUNCATE.
    fn merged(&self, written: &[Arc<SegmentState>], cut: CommitVersion) -> Vec<Arc<SegmentState>> {
        let mut segments = written.to_vec();
        for mine in self.segments.iter() {
            let Some(slot) = segments.iter_mut().find(|s| s.meta.id == mine.meta.id) else {
                segments.push(Arc::clone(mine));
                continue;
            };
            let mut both = SegmentState::clone(slot);
            both.dropped_at = mine.dropped_at;
            let newer: Vec<DeletesMeta> = mine
                .delete_objects
                .iter()
                .filter(|d| d.version.is_some_and(|v| v > cut))
                .filter(|d| !both.delete_objects.iter().any(|known| known.id == d.id))
                .cloned()
                .collect();
            if let Some(vector) = &mine.deletes
                && !newer.is_empty()
            {
                both.deletes = Some(Arc::new(match &both.deletes {
                    Some(known) => DeletionVector::merge(known, vector),
                    None => DeletionVector::clone(vector),
                }));
                both.delete_objects.extend(newer);
            }
            *slot = Arc::new(both);
        }
        segments
    }

    /// The state after one commit's change.
    pub(super) fn apply(
        &self,
        change: &TableChange,
        version: CommitVersion,
        loaded: &LoadedDeletes,
        line: Line,
    ) -> Result<Self> {
        if version <= self.flushed {
            return Ok(self.clone());
        }
        let mut next = self.clone();
        if change.truncate {
            next.truncate(version)?;
        }
        // Rows of a transaction's own segments may have been deleted by a later statement of it.
        next.append(change, version, line)?;
        next.delete(change, version, loaded)?;
        Ok(next)
    }

    fn truncate(&mut self, version: CommitVersion) -> Result<()> {
        let mut segments = Vec::clone(&self.segments);
        for segment in segments.iter_mut().filter(|s| s.dropped_at.is_none()) {
            let mut dropped = SegmentState::clone(segment);
            dropped.dropped_at = Some(version);
            *segment = Arc::new(dropped);
        }
        self.segments = Arc::new(segments);
        let hot: Vec<RowId> =
            self.memtable.chunks().flat_map(|c| c.row_ids().values().iter().map(|id| RowId(*id))).collect();
        self.hot_deletes.delete(&hot, version);
        self.live_rows = 0;
        self.last_delete = version;
        self.last_bulk_delete = version;
        self.views = Views::default();
        self.searchers = Arc::default();
        Ok(())
    }

    fn delete(&mut self, change: &TableChange, version: CommitVersion, loaded: &LoadedDeletes) -> Result<()> {
        if change.deleted.is_empty() && change.deletes.is_empty() {
            return Ok(());
        }
        let deleted = self.hot_deletes.delete(&change.deleted, version);
        self.live_rows = self.live_rows.saturating_sub(deleted);
        if !change.deletes.is_empty() {
            let mut segments = Vec::clone(&self.segments);
            for meta in &change.deletes {
                let missing = || {
                    Error::corrupt(
                        format!("WAL entry of version {version}"),
                        format!("its deletes object {} or segment {} is unknown", meta.id, meta.segment),
                    )
                };
                let segment = segments.iter_mut().find(|s| s.meta.id == meta.segment).ok_or_else(missing)?;
                let mut changed = SegmentState::clone(segment);
                match loaded.get(&meta.id).ok_or_else(missing)? {
                    Ok(vector) => {
                        let deleted = changed.delete(vector, version);
                        self.live_rows = self.live_rows.saturating_sub(deleted);
                    }
                    Err(error) => changed.damaged = Some(error.clone()),
                }
                let mut meta = meta.clone();
                meta.version = Some(version);
                changed.delete_objects.push(meta);
                *segment = Arc::new(changed);
            }
            self.segments = Arc::new(segments);
            if change.deletes.iter().any(|deletes| !change.appends(deletes.segment)) {
                self.last_bulk_delete = version;
            }
        }
        self.last_delete = version;
        self.views = match change.deletes.is_empty() {
            true => self.views.without(&change.deleted),
            false => Views::default(),
        };
        self.searchers = Arc::default();
        Ok(())
    }

    fn append(&mut self, change: &TableChange, version: CommitVersion, line: Line) -> Result<()> {
        let rows = self.numbered(change, version)?;
        let mut next_id = change.first_row_id;
        let numbered_by = self.def.numbered_by();
        let batches = change.rows.decode(&self.arrow_schema)?;
        for chunk in Chunk::committed(batches, next_id, version) {
            let batch = chunk.rows();
            let rows = batch.num_rows() as u64;
            if let Some(encoder) = &self.key_encoder {
                let keys = encoder.encode_batch(batch, &self.def.key_indices())?;
                self.hot_keys.append(&keys, next_id, line);
            }
            if let Some((column, identity)) = numbered_by {
                let used = identity.used_by(batch.column(column))?;
                self.numbered = identity.later(self.numbered, used);
            }
            self.memtable.append(chunk)?;
            next_id = RowId(next_id.0 + rows);
        }
        if !change.segments.is_empty() {
            let mut segments = Vec::clone(&self.segments);
            for meta in &change.segments {
                if let Some((column, identity)) = numbered_by {
                    let used = meta.columns.get(column).and_then(|known| identity.used_by_segment(known));
                    self.numbered = identity.later(self.numbered, used);
                }
                let meta = meta.clone().committed(version, next_id);
                next_id = RowId(next_id.0 + meta.rows);
                segments.push(Arc::new(SegmentState::clean(Arc::new(meta))));
            }
            self.segments = Arc::new(segments);
            self.last_load = version;
            self.views = Views::default();
            self.searchers = Arc::default();
        }
        if next_id > change.first_row_id {
            self.live_rows += rows;
            self.next_row_id = self.next_row_id.max(next_id);
            self.last_append = version;
        }
        Ok(())
    }

    /// How many rows a change appends. Bytes may claim any number of them: they are counted before the first gets its id.
    fn numbered(&self, change: &TableChange, version: CommitVersion) -> Result<u64> {
        let mut stored = change.segments.iter().map(|meta| meta.rows);
        let rows = stored.try_fold(change.rows.rows(), u64::checked_add);
        let fits = |rows: &u64| {
            change.first_row_id.0.checked_add(*rows).is_some() && self.live_rows.checked_add(*rows).is_some()
        };
        rows.filter(fits).ok_or_else(|| {
            Error::corrupt(
                format!("WAL entry of version {version}"),
                format!(
                    "the rows it adds to table {} from row id {} on are more than there are row ids",
                    self.def.qualified_name(),
                    change.first_row_id
                ),
            )
        })
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use arrow::array::{Int64Array, RecordBatch};

    use super::*;
    use crate::error::ErrorKind;
    use crate::id::{ColumnId, SchemaVersion, TableId};
    use crate::schema::{ColumnDef, ColumnType};
    use crate::wal::RowBody;

    fn table() -> TableState {
        let column = ColumnDef {
            id: ColumnId(1),
            name: "n".to_owned(),
            column_type: ColumnType::Int64,
            nullable: true,
            default: None,
            initial: None,
        };
        let def = TableDef {
            id: TableId(1),
            schema: "public".to_owned(),
            name: "t".to_owned(),
            schema_version: SchemaVersion(1),
            next_column_id: ColumnId(2),
            columns: vec![column],
            primary_key: Vec::new(),
            sort: Vec::new(),
            layout: Default::default(),
            indexes: Vec::new(),
            owner: None,
            identity: None,
        };
        TableState::created(Arc::new(def), CommitVersion(1))
    }

    fn rows(first: u64, count: i64) -> TableChange {
        let def = table().def;
        let column = Arc::new(Int64Array::from_iter_values(0..count));
        let batch = RecordBatch::try_new(def.arrow_schema(), vec![column]).unwrap();
        TableChange {
            table: def.id,
            schema_version: def.schema_version,
            first_row_id: RowId(first),
            rows: RowBody::Batches(vec![batch]),
            deleted: Vec::new(),
            segments: Vec::new(),
            deletes: Vec::new(),
            truncate: false,
        }
    }

    #[test]
    fn row_ids_that_no_row_can_have_are_damage() {
        let apply = |table: TableState, change: &TableChange| {
            table.apply(change, CommitVersion(2), &LoadedDeletes::new(), Line::Order)
        };
        let last = apply(table(), &rows(u64::MAX - 3, 3)).unwrap();
        assert_eq!((last.next_row_id, last.live_rows), (RowId(u64::MAX), 3));
        let error = apply(table(), &rows(u64::MAX - 3, 4)).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Corrupt);
        assert!(error.message().contains("version 2"), "{}", error.message());
        let mut counted = table();
        counted.live_rows = u64::MAX;
        let error = apply(counted, &rows(1, 1)).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Corrupt);
    }
}
