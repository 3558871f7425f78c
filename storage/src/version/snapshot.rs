//! Reading one version: what is visible, and where it stands.
//!
//! Owns: the read side of the visibility rule over segments, deletion vectors, hot deletes and the memtable. Does not
//! own: Parquet (`segment`), scans (the engine builds them from [`SegmentView`]s). A snapshot never changes.

mod lookup;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use arrow::array::{Array, RecordBatch, UInt64Array};
use arrow::compute::concat_batches;
use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use bytes::Bytes;
use object_store::{ObjectStore, ObjectStoreExt};
use roaring::RoaringBitmap;

use super::pin::Stand;
use super::views::{Before, Views};
use super::{Catalog, Pin, Pins, SegmentState, TableState, Version};
use crate::error::{Error, ErrorKind, Result, expired, missing};
use crate::fs::FileSystem;
use crate::id::{CommitVersion, RowId, TableId};
use crate::object::{CachedStore, ReadMeter, past_cache, read_object};
use crate::schema::{ROW_ID_COLUMN, TableDef, VERSION_COLUMN};
use crate::segment::{ColumnCache, KeyEncoder, RowChoice, SegmentCache, SegmentMeta, SegmentReader};

/// Rows looked at together for NULLs.
const NULL_ROWS: usize = 64 * 1024;

/// What every reader of one database shares.
#[derive(Debug)]
pub struct Shared {
    /// Objects below the root.
    pub store: Arc<dyn ObjectStore>,
    /// Footers, key filters and row-id columns of open segments.
    pub cache: Arc<SegmentCache>,
    /// Files below the root, where objects are files: read in place then.
    pub files: Option<Arc<dyn FileSystem>>,
    /// Whether objects are in a store that other processes use too.
    pub(crate) remote: bool,
    /// The part of `store` that keeps what was read on this machine's disk, where there is one.
    pub(crate) disk_cache: Option<Arc<CachedStore>>,
    /// Whether somebody else may collect objects that any version here names: nothing is written here, or not any more.
    pub(crate) may_expire: AtomicBool,
    /// What is read.
    pub(crate) pins: Pins,
}

impl Shared {
    /// An object's bytes: the file itself where there is one, else as the store gives them, counted in `meter`.
    ///
    /// # Errors
    /// `NotFound`, the store's.
    pub(crate) async fn bytes_in_place(&self, path: &str, meter: Option<&ReadMeter>) -> Result<Bytes> {
        match &self.files {
            Some(files) => files.map(path).map_err(|e| Error::io(format!("reading {path}"), e)),
            None => Ok(read_object(&*self.store, &object_store::path::Path::from(path), meter).await?),
        }
    }

    /// The objects as they are where the database is at home: what a cache on this machine has of them does not count.
    pub(crate) fn past_cache(&self) -> Arc<dyn ObjectStore> {
        match &self.files {
            Some(_) => Arc::clone(&self.store),
            None => past_cache(Arc::clone(&self.store)),
        }
    }

    /// An object's length in bytes; None: it is not there.
    ///
    /// # Errors
    /// The store's.
    pub(crate) async fn length(&self, path: &str) -> Result<Option<u64>> {
        match self.store.head(&object_store::path::Path::from(path)).await {
            Ok(meta) => Ok(Some(meta.size)),
            Err(object_store::Error::NotFound { .. }) => Ok(None),
            Err(error) => Err(error.into()),
        }
    }
}

/// What it means that an object is gone which a version names: asked when it is missed, as a collection may have begun meanwhile.
/// Pins nothing.
#[derive(Clone, Debug)]
pub(crate) struct Expiry {
    shared: Arc<Shared>,
    stand: Stand,
}

impl Expiry {
    /// The error of an object that is named and not there.
    pub(crate) fn missing(&self, path: &str) -> Error {
        let Self { shared, stand } = self;
        let may_be_gone = shared.may_expire.load(Ordering::Relaxed) || shared.pins.may_be_gone(*stand);
        if may_be_gone { expired(path) } else { missing(path) }
    }
}

/// A pin of one commit version. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Snapshot {
    version: Arc<Version>,
    at: CommitVersion,
    shared: Arc<Shared>,
}

impl Snapshot {
    /// The newest state of `version`.
    #[must_use]
    pub fn new(version: Arc<Version>, shared: Arc<Shared>) -> Self {
        // Elsewhere nothing is collected.
        if shared.remote {
            shared.pins.hold(&version.pin);
        }
        Self { at: version.number, version, shared }
    }

    /// Which version is read.
    #[must_use]
    pub fn version(&self) -> CommitVersion {
        self.at
    }

    /// Time of that commit, µs since 1970 UTC.
    #[must_use]
    pub fn time_us(&self) -> i64 {
        self.version.time_us
    }

    /// Names at that version.
    #[must_use]
    pub fn catalog(&self) -> &Arc<Catalog> {
        &self.version.catalog
    }

    /// The whole state behind it.
    #[must_use]
    pub fn state(&self) -> &Arc<Version> {
        &self.version
    }

    /// A table that is there at this version.
    #[must_use]
    pub fn table(&self, id: TableId) -> Option<TableSnapshot> {
        let state = self.version.tables.get(&id)?;
        let there = state.dropped_at.is_none_or(|d| d > self.at);
        there.then(|| TableSnapshot {
            state: Arc::clone(state),
            at: self.at,
            shared: Arc::clone(&self.shared),
            pin: self.version.pin.clone(),
            meter: None,
        })
    }

    /// A table as another process has it, by definition and version alone: it names no segment and has no row, and opens the
    /// segments whose metas the caller brings.
    #[must_use]
    pub fn detached(&self, def: Arc<TableDef>, at: CommitVersion) -> TableSnapshot {
        let state = TableState::restored(def, RowId(1), at, Vec::new(), None);
        TableSnapshot {
            state: Arc::new(state),
            at,
            shared: Arc::clone(&self.shared),
            pin: self.version.pin.clone(),
            meter: None,
        }
    }

    /// A table by name.
    #[must_use]
    pub fn table_named(&self, schema: &str, name: &str) -> Option<TableSnapshot> {
        self.table(self.catalog().table(schema, name)?.id)
    }
}

/// One segment as a reader at one version sees it.
#[derive(Clone, Debug)]
pub struct SegmentView {
    /// The segment.
    pub meta: Arc<SegmentMeta>,
    /// Positions that are deleted; None: clean.
    pub deleted: Option<Arc<RoaringBitmap>>,
    /// Rows that are not deleted. Exact unless the segment holds rows newer than the version read.
    pub live_rows: u64,
}

/// These positions as a set. One by one, each would be looked for in it.
fn set_of(mut positions: Vec<u32>) -> Result<RoaringBitmap> {
    positions.sort_unstable();
    positions.dedup();
    RoaringBitmap::from_sorted_iter(positions)
        .map_err(|error| Error::internal(format!("positions of deleted rows: {error}")))
}

/// One table at one version. Cheap to clone.
#[derive(Clone, Debug)]
pub struct TableSnapshot {
    state: Arc<TableState>,
    at: CommitVersion,
    shared: Arc<Shared>,
    /// It may outlive its snapshot.
    pin: Pin,
    /// Counts what is read through this snapshot; nothing that is shared with others keeps it.
    meter: Option<ReadMeter>,
}

impl TableSnapshot {
    /// A table's state read at `at`. The caller sees to it that its objects stay.
    #[must_use]
    pub fn new(state: Arc<TableState>, at: CommitVersion, shared: Arc<Shared>) -> Self {
        Self { state, at, shared, pin: Pin::default(), meter: None }
    }

    /// The same, with what its readers ask an object store for counted in `meter`; reads of a directory are not counted.
    #[must_use]
    pub fn metered(self, meter: ReadMeter) -> Self {
        let meter = self.shared.files.is_none().then_some(meter);
        Self { meter, ..self }
    }

    /// Whether its segments are in a store where each request takes long.
    #[must_use]
    pub fn is_remote(&self) -> bool {
        self.shared.remote
    }

    /// What is kept decoded of the segments of its database.
    #[must_use]
    pub fn columns(&self) -> &ColumnCache {
        self.shared.cache.columns()
    }

    /// Its definition.
    #[must_use]
    pub fn def(&self) -> &Arc<TableDef> {
        &self.state.def
    }

    /// Which version is read.
    #[must_use]
    pub fn version(&self) -> CommitVersion {
        self.at
    }

    /// What its readers share.
    pub(crate) fn shared(&self) -> &Arc<Shared> {
        &self.shared
    }

    /// What it means that one of its objects is gone.
    pub(super) fn expiry(&self) -> Expiry {
        Expiry { shared: Arc::clone(&self.shared), stand: self.pin.stand() }
    }

    /// What counts its reads.
    pub(crate) fn meter(&self) -> Option<&ReadMeter> {
        self.meter.as_ref()
    }

    /// The state behind it.
    #[must_use]
    pub fn state(&self) -> &Arc<TableState> {
        &self.state
    }

    /// Whether the state behind it changed nothing after the version read: what is worked out of both is the same for every
    /// later version of the state.
    #[must_use]
    pub fn is_newest(&self) -> bool {
        let state = &self.state;
        let changed = [state.last_append, state.last_load, state.last_delete, state.last_bulk_delete];
        changed.iter().all(|version| *version <= self.at)
    }

    /// Exact number of visible rows.
    ///
    /// # Errors
    /// Storage errors while working out deletes.
    pub async fn row_count(&self) -> Result<u64> {
        match self.state.segments.iter().find_map(|s| s.damaged.clone()) {
            None => Ok(self.state.live_rows),
            Some(error) => Err(error),
        }
    }

    /// Segments with the rows not visible in each; dropped ones left out. Asynchronous because finding the position of a
    /// hot delete may read a segment's row-id column, where it was not found lately; worked out once per state of the table.
    ///
    /// # Errors
    /// `Corrupt` or `Unavailable` from reading a row-id column.
    pub async fn segments(&self) -> Result<Vec<SegmentView>> {
        if self.at < self.state.last_delete {
            return self.views().await;
        }
        let Views { worked_out, before } = &self.state.views;
        let work_out = || async {
            Ok::<_, Error>(Arc::new(match before {
                Some(before) => self.views_since(before).await?,
                None => self.views().await?,
            }))
        };
        Ok(Vec::clone(worked_out.get_or_try_init(work_out).await?))
    }

    /// The same as [`views`](Self::views) of the newest version of the state, from those of an earlier one.
    async fn views_since(&self, before: &Before) -> Result<Vec<SegmentView>> {
        let metas: Vec<&Arc<SegmentMeta>> = before.views.iter().map(|view| &view.meta).collect();
        let mut ids: Vec<RowId> = before.since.iter().copied().collect();
        ids.sort_unstable();
        ids.dedup();
        let mut deleted: Vec<Vec<u32>> = vec![Vec::new(); metas.len()];
        for (segment, position) in self.places(&metas, &ids).await?.into_iter().flatten() {
            deleted[segment].push(position);
        }
        let views = before.views.iter().zip(deleted).map(|(view, since)| {
            if since.is_empty() {
                return Ok(view.clone());
            }
            let mut all = view.deleted.as_deref().map_or_else(RoaringBitmap::new, RoaringBitmap::clone);
            all |= set_of(since)?;
            let (meta, live_rows) = (Arc::clone(&view.meta), view.meta.rows - all.len());
            Ok::<_, Error>(SegmentView { meta, live_rows, deleted: Some(Arc::new(all)) })
        });
        views.collect()
    }

    async fn views(&self) -> Result<Vec<SegmentView>> {
        let segments: Vec<&Arc<SegmentState>> = self.present().collect();
        if let Some(error) = segments.iter().find_map(|segment| segment.damaged.clone()) {
            return Err(error);
        }
        let metas: Vec<&Arc<SegmentMeta>> = segments.iter().map(|segment| &segment.meta).collect();
        let hot = self.state.hot_deletes.iter().filter(|(_, v)| *v <= self.at).map(|(id, _)| id);
        let mut deleted: Vec<Vec<u32>> = vec![Vec::new(); segments.len()];
        for (segment, position) in self.places(&metas, &hot.collect::<Vec<_>>()).await?.into_iter().flatten()
        {
            deleted[segment].push(position);
        }
        let views = segments.iter().zip(deleted).map(|(segment, hot)| {
            let cold = segment.deletes.as_ref().map(|d| d.deleted_at(self.at)).filter(|d| !d.is_empty());
            let deleted = match (cold, hot.is_empty()) {
                (cold, true) => cold,
                (cold, false) => {
                    let mut all = cold.map_or_else(RoaringBitmap::new, |d| RoaringBitmap::clone(&d));
                    all |= set_of(hot)?;
                    Some(Arc::new(all))
                }
            };
            let gone = deleted.as_ref().map_or(0, |d| d.len());
            let meta = Arc::clone(&segment.meta);
            Ok::<_, Error>(SegmentView { live_rows: meta.rows - gone, meta, deleted })
        });
        views.collect()
    }

    /// Opens a segment for reading; footers are cached.
    ///
    /// # Errors
    /// `Corrupt` when the footer is not what the manifest says, `NotFound`/`Unavailable` from the store.
    pub async fn open_segment(&self, meta: &Arc<SegmentMeta>) -> Result<SegmentReader> {
        let (store, cache) = (Arc::clone(&self.shared.store), Arc::clone(&self.shared.cache));
        SegmentReader::open(store, Arc::clone(meta), Arc::clone(&self.state.def), cache, self.meter.clone())
            .await
            .map(|reader| {
                let reader = reader.expiring(self.expiry());
                if self.shared.remote { reader.distant(self.shared.disk_cache.clone()) } else { reader }
            })
            .map_err(
                |e| if e.kind() == ErrorKind::NotFound { self.expiry().missing(&meta.path()) } else { e },
            )
    }

    /// Visible rows that are in no segment yet.
    #[must_use]
    pub fn hot_rows(&self) -> u64 {
        let memtable = &self.state.memtable;
        let gone: usize = memtable
            .chunks()
            .filter_map(|c| c.visible(self.at, &self.state.hot_deletes))
            .map(|mask| mask.len() - mask.true_count())
            .sum();
        memtable.rows() - gone as u64
    }

    /// Arrow schema of some columns, with the pseudo-columns at the end when asked for.
    ///
    /// # Errors
    /// `Internal` when an index is out of range.
    pub fn projected_schema(&self, columns: &[usize], pseudo: bool) -> Result<SchemaRef> {
        let schema = self.state.arrow_schema().project(columns)?;
        if !pseudo {
            return Ok(Arc::new(schema));
        }
        let mut fields: Vec<_> = schema.fields().iter().cloned().collect();
        for name in [ROW_ID_COLUMN, VERSION_COLUMN] {
            fields.push(Arc::new(Field::new(name, DataType::UInt64, false)));
        }
        Ok(Arc::new(Schema::new(fields)))
    }

    /// Visible hot rows; with `pseudo`, `_row_id` and `_version` (UInt64, not null) at the end.
    ///
    /// # Errors
    /// `Internal` when an index is out of range.
    pub fn hot_batches(&self, columns: &[usize], pseudo: bool) -> Result<Vec<RecordBatch>> {
        let schema = pseudo.then(|| self.projected_schema(columns, true)).transpose()?;
        self.state.memtable.visible_batches(self.at, &self.state.hot_deletes, columns, schema.as_ref())
    }

    /// Whether a visible row has no value in a column (a position in the definition). Statistics answer for most segments.
    ///
    /// # Errors
    /// `Internal` when the position is out of range, storage errors.
    pub async fn has_null(&self, column: usize) -> Result<bool> {
        let hot = self.hot_batches(&[column], false)?;
        if hot.iter().any(|batch| batch.column(0).null_count() > 0) {
            return Ok(true);
        }
        for view in self.segments().await? {
            if view.meta.columns.get(column).is_some_and(|known| known.null_count == 0) {
                continue;
            }
            let reader = self.open_segment(&view.meta).await?;
            let mut batches = reader.batches(&[column], RowChoice::All, NULL_ROWS)?;
            let mut first = 0;
            while let Some(batch) = batches.next().await? {
                let array = batch.column(0);
                let is_there = |row: u32| view.deleted.as_ref().is_none_or(|d| !d.contains(first + row));
                // A segment has fewer than 2^32 rows.
                let rows = array.len() as u32;
                if array.null_count() > 0 && (0..rows).any(|row| array.is_null(row as usize) && is_there(row))
                {
                    return Ok(true);
                }
                first += rows;
                tokio::task::yield_now().await;
            }
        }
        Ok(false)
    }

    /// Encoder of the primary key; None without one.
    ///
    /// # Errors
    /// None today; kept because building one can fail.
    pub fn key_encoder(&self) -> Result<Option<KeyEncoder>> {
        Ok(self.state.key_encoder().map(|e| KeyEncoder::clone(e)))
    }

    /// Memory of hot rows and deletes.
    #[must_use]
    pub fn hot_bytes(&self) -> u64 {
        self.state.hot_bytes()
    }

    /// Everything at or before this version is in segments.
    #[must_use]
    pub fn flushed(&self) -> CommitVersion {
        self.state.flushed
    }

    /// Next unused row id.
    #[must_use]
    pub fn next_row_id(&self) -> RowId {
        self.state.next_row_id
    }

    /// Hot rows in order with their ids and versions, deleted ones included: what a checkpoint writes.
    ///
    /// # Errors
    /// `Internal` when chunks do not fit together.
    pub fn all_hot_rows(&self) -> Result<(RecordBatch, UInt64Array, UInt64Array)> {
        let schema = self.state.arrow_schema();
        let chunks: Vec<_> = self.state.memtable.chunks().collect();
        let rows = concat_batches(schema, chunks.iter().map(|c| c.rows()))?;
        let gather = |of: fn(&crate::memtable::Chunk) -> &UInt64Array| {
            UInt64Array::from_iter_values(chunks.iter().flat_map(|c| of(c).values().iter().copied()))
        };
        Ok((rows, gather(|c| c.row_ids()), gather(|c| c.versions())))
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use rand::rngs::StdRng;
    use rand::{Rng, SeedableRng};

    use super::*;
    use crate::checkpoint::CheckpointReason;
    use crate::database::Database;
    use crate::database::tests::{change, create, insert, memory};
    use crate::transaction::CommitOptions;

    fn told(views: &[SegmentView]) -> Vec<(crate::id::ObjectId, u64, Option<RoaringBitmap>)> {
        views.iter().map(|view| (view.meta.id, view.live_rows, view.deleted.as_deref().cloned())).collect()
    }

    /// Whatever was read before, it is what reading all deletes anew would give.
    #[tokio::test]
    async fn what_is_deleted_since_is_added_to_what_was_known() {
        let (root, options) = memory();
        let db = Database::open(root, options).await.unwrap();
        let table = create(&db, "t", true).await.unwrap();
        let rows = |keys: &[i64]| keys.iter().map(|key| (*key, format!("row {key}"))).collect::<Vec<_>>();
        for keys in [0..300, 300..600] {
            insert(&db, table, &rows(&keys.collect::<Vec<_>>())).await.unwrap();
            db.checkpoint(CheckpointReason::Statement).await.unwrap();
        }
        insert(&db, table, &rows(&(600..650).collect::<Vec<_>>())).await.unwrap();
        let mut rng = StdRng::seed_from_u64(7);
        let mut reused = 0;
        // Of both segments and of the memtable, each deleted once.
        let mut others: Vec<RowId> = (201..=650).map(RowId).collect();
        for round in 1..=90 {
            // By key, which reads them, some into new rows; then by row id, which does not, now and then into an object.
            let mut keys: Vec<i64> = (0..rng.random_range(1..9)).map(|_| rng.random_range(0..200)).collect();
            keys.sort_unstable();
            keys.dedup();
            let new = if rng.random_bool(0.4) { rows(&keys) } else { Vec::new() };
            change(&db, table, &keys, &new).await.unwrap();
            for _ in 0..rng.random_range(0..4) {
                let count: usize = if rng.random_bool(0.05) { 20 } else { rng.random_range(1..5) };
                let ids: Vec<RowId> = (0..count.min(others.len()))
                    .map(|_| others.swap_remove(rng.random_range(0..others.len())))
                    .collect();
                let tx = db.begin(&db.snapshot()).await.unwrap();
                tx.delete(table, &ids).unwrap();
                tx.commit(CommitOptions::default()).await.unwrap();
            }
            if round % 15 == 0 {
                db.checkpoint(CheckpointReason::Statement).await.unwrap();
            }
            let now = db.snapshot().table(table).unwrap();
            let views = &now.state().views;
            reused += usize::from(views.before.is_some() && views.worked_out.get().is_none());
            let kept = now.segments().await.unwrap();
            assert_eq!(told(&kept), told(&now.views().await.unwrap()), "round {round}");
        }
        assert!(reused > 30, "{reused}");
    }
}
