//! The write set of one transaction, from its first row to its commit.
//!
//! A statement is a transaction of its own, or one of those of a [`TransactionBlock`].
//!
//! Owns: collecting rows, deletes and catalog edits against one snapshot; spilling large sets; checks outside the
//! commit order (`check`, `since`); conflict rules inside it (`conflict`). Does not own: the order itself (`database::order`), bytes (`wal`).
//! Nothing of it is visible or durable before [`Transaction::commit`] returns; dropping it changes nothing, and what it has written
//! ahead goes (`staged`).

mod block;
mod check;
mod conflict;
mod since;
mod staged;
mod writer;

use std::collections::BTreeMap;
use std::sync::atomic::AtomicUsize;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};

use arrow::array::RecordBatch;
use roaring::RoaringBitmap;

use conflict::{Claims, Told, WholeTables};
use staged::Staged;

pub use block::TransactionBlock;
pub use writer::TableWriter;

use crate::collect::UploadGuard;
use crate::database::{Accept, Database, replay_row};
use crate::error::{Error, ErrorKind, Result};
use crate::id::{CommitId, CommitVersion, ObjectId, RowId, TableId};
use crate::numbers::Counter;
use crate::schema::TableDef;
use crate::segment::{DeletesMeta, DeletionVector, SegmentMeta};
use crate::version::{LoadedDeletes, Snapshot, TableSnapshot, TableState};
use crate::wal::codec::EncodedBody;
use crate::wal::{CatalogEdit, CommitInfo, RowBody, TableChange, WalEntry};

/// Deleted rows of segments beyond this many go into `.deletes` objects instead of the WAL entry.
const DELETED_ROWS_IN_ENTRY: usize = if cfg!(test) { 12 } else { 32_768 };

/// How often a commit is tried whose deletes by position meet compactions, or that cannot be told from the commits of others by what is in
/// memory.
const ATTEMPTS_MAX: u32 = 8;

/// How to commit.
#[derive(Clone, Debug, Default)]
pub struct CommitOptions {
    /// Who and why.
    pub info: CommitInfo,
    /// The client's own id of the commit, under which it is applied once however often it is tried; None: a random one.
    pub commit_id: Option<CommitId>,
    /// Whether it is still wanted.
    pub last_word: LastWord,
}

/// Asked at the last instant before a change takes effect: is it still wanted? After yes it takes effect, or fails for another reason;
/// after no nothing has changed.
#[derive(Clone, Default)]
pub struct LastWord(Option<Arc<dyn Fn() -> bool + Send + Sync>>);

impl LastWord {
    /// The word of `ask`, which is called once for each change.
    pub fn new(ask: impl Fn() -> bool + Send + Sync + 'static) -> Self {
        Self(Some(Arc::new(ask)))
    }

    /// Asks.
    ///
    /// # Errors
    /// `Cancelled` when the change is not wanted any more.
    pub fn ask(&self) -> Result<()> {
        match &self.0 {
            Some(ask) if !ask() => {
                Err(Error::new(ErrorKind::Cancelled, "nobody waits for the change any more"))
            }
            Some(_) | None => Ok(()),
        }
    }
}

impl std::fmt::Debug for LastWord {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(if self.0.is_some() { "LastWord(asked)" } else { "LastWord(yes)" })
    }
}

/// A durable commit.
#[derive(Clone, Debug)]
pub struct CommitReceipt {
    /// Its version; the snapshot's when there was nothing to commit.
    pub version: CommitVersion,
    /// Per table the id of its first appended row.
    pub first_row_ids: Vec<(TableId, RowId)>,
    /// Whether a commit of the id that the client gave was there already: nothing was changed now, and the version is that
    /// commit's.
    pub repeated: bool,
}

/// Changes of one table's rows.
#[derive(Debug, Default)]
pub(crate) struct TableSet {
    pub(crate) batches: Vec<RecordBatch>,
    pub(crate) segments: Vec<SegmentMeta>,
    pub(crate) deleted: Vec<RowId>,
    pub(crate) truncate: bool,
    /// Whether each appended row has the key of a row that is deleted with it.
    pub(crate) keeps_keys: bool,
    /// Positions of `segments` whose rows were deleted again before the commit.
    pub(crate) gone: BTreeMap<ObjectId, RoaringBitmap>,
}

impl TableSet {
    fn is_changed(&self) -> bool {
        !self.batches.is_empty() || !self.segments.is_empty() || !self.deleted.is_empty() || self.truncate
    }

    /// Rows that it appends.
    fn rows(&self) -> u64 {
        let in_memory: u64 = self.batches.iter().map(|batch| batch.num_rows() as u64).sum();
        in_memory + self.segments.iter().map(|segment| segment.rows).sum::<u64>()
    }

    /// Each deleted row once, ascending, and no empty batch.
    fn tidy(&mut self) {
        self.deleted.sort_unstable();
        self.deleted.dedup();
        self.batches.retain(|b| b.num_rows() > 0);
    }
}

#[derive(Debug, Default)]
pub(crate) struct WriteSet {
    catalog: Vec<CatalogEdit>,
    /// Tables this transaction creates or alters.
    created: BTreeMap<TableId, Arc<TableDef>>,
    next_table_id: Option<TableId>,
    tables: BTreeMap<TableId, TableSet>,
    /// Whether it is what is left of a block.
    of_block: bool,
    /// What has numbered the rows of tables that the block has made.
    counters: Vec<(TableId, Arc<Counter>)>,
}

/// What a transaction and its writers share.
#[derive(Debug)]
pub(crate) struct Shared {
    pub(crate) database: Arc<Database>,
    pub(crate) snapshot: Snapshot,
    set: Mutex<WriteSet>,
    /// Bytes of rows kept in memory by all writers.
    pub(crate) bytes: AtomicUsize,
    /// What it has written ahead of its commit.
    staged: Staged,
    /// Held from the first object it writes on.
    uploads: OnceLock<Arc<UploadGuard>>,
}

impl Shared {
    pub(crate) fn set(&self) -> MutexGuard<'_, WriteSet> {
        self.set.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// An id for an object that its commit will name. None is collected while this lives.
    pub(crate) fn object_id(&self) -> Result<ObjectId> {
        let writer = self.database.writer()?;
        self.uploads.get_or_init(|| Arc::new(writer.uploads.begin(&writer.ids)));
        self.staged.begun();
        Ok(writer.ids.next())
    }

    /// The first of `count` numbers for rows of a table with an identity column, behind those up to `used` and those that anybody was given
    /// or has committed.
    fn take_numbers(&self, def: &TableDef, used: Option<i64>, count: usize) -> Result<i64> {
        let Some((column, identity)) = def.numbered_by() else {
            return Err(Error::internal(format!("{} does not number its rows", def.qualified_name())));
        };
        let own = self.table(def.id)?;
        let used = identity.later(used, own.state().numbered);
        // The writer's own state, whose counter all transactions share: a snapshot may be of the time before it was the writer. A table that
        // only this transaction knows is not in it.
        let head = self.database.writer()?.order.head();
        let taken = match head.tables.get(&def.id) {
            // Another table may have got that id since: this transaction's commit is refused then, and the other's numbers stay.
            Some(known)
                if Arc::ptr_eq(&known.counter, &own.state().counter)
                    || known.def.qualified_name() == def.qualified_name() =>
            {
                known.counter.take(&identity, identity.later(used, known.numbered), count)
            }
            _ => own.state().counter.take(&identity, used, count),
        };
        taken.ok_or_else(|| {
            let name = def.columns.get(column).map_or("", |column| column.name.as_str());
            Error::new(
                ErrorKind::ResourceExhausted,
                format!("column {name} of table {} has no {count} numbers left", def.qualified_name()),
            )
            .with_sqlstate("2200H")
            .with_detail(format!(
                "its numbers go from {} by {} within {} and {}",
                identity.start, identity.increment, identity.min, identity.max
            ))
            .with_hint("write the rows into a table whose column is of a wider type, or has other bounds")
        })
    }

    /// The table as this transaction sees it.
    pub(crate) fn table(&self, id: TableId) -> Result<TableSnapshot> {
        self.table_among(id, &self.set().created)
    }

    /// The same, the tables of `created` being those the transaction creates or alters.
    pub(super) fn table_among(
        &self,
        id: TableId,
        created: &BTreeMap<TableId, Arc<TableDef>>,
    ) -> Result<TableSnapshot> {
        if let Some(def) = created.get(&id) {
            let state = match self.snapshot.table(id) {
                Some(known) => known.state().with_def(Arc::clone(def))?,
                None => TableState::created(Arc::clone(def), self.snapshot.version()),
            };
            let shared = Arc::clone(&self.database.shared);
            return Ok(TableSnapshot::new(Arc::new(state), self.snapshot.version(), shared));
        }
        self.snapshot
            .table(id)
            .ok_or_else(|| Error::new(ErrorKind::NotFound, format!("there is no table with id {id}")))
    }
}

/// One write set at one snapshot. Writers of it may run in parallel tasks.
#[derive(Debug)]
pub struct Transaction {
    shared: Arc<Shared>,
}

/// A table's share of the commit, checked and ready for the commit order.
#[derive(Debug)]
pub(crate) struct Prepared {
    pub(crate) change: TableChange,
    pub(crate) claims: Claims,
}

impl Transaction {
    pub(crate) fn new(database: Arc<Database>, snapshot: Snapshot) -> Self {
        let bytes = AtomicUsize::new(0);
        let (uploads, staged) = (OnceLock::new(), Staged::new(&database.shared.store, &database.swept));
        Self {
            shared: Arc::new(Shared { database, snapshot, set: Mutex::default(), bytes, staged, uploads }),
        }
    }

    /// What it reads.
    #[must_use]
    pub fn snapshot(&self) -> &Snapshot {
        &self.shared.snapshot
    }

    /// A writer that appends rows to a table, one created by this transaction included.
    ///
    /// # Errors
    /// `NotFound` when there is no such table at the snapshot.
    pub fn writer(&self, table: TableId) -> Result<TableWriter> {
        let snapshot = self.shared.table(table)?;
        let (def, schema) = (Arc::clone(snapshot.def()), Arc::clone(snapshot.state().arrow_schema()));
        Ok(TableWriter::new(Arc::clone(&self.shared), def, schema))
    }

    /// Deletes rows; naming one twice is the same as once.
    ///
    /// # Errors
    /// None today.
    pub fn delete(&self, table: TableId, rows: &[RowId]) -> Result<()> {
        self.shared.set().tables.entry(table).or_default().deleted.extend_from_slice(rows);
        Ok(())
    }

    /// Each row that is appended to the table has taken the place of one that is deleted, under the same key: an UPDATE that leaves
    /// the key alone. Its keys are not looked for then, unless there are not as many rows as different ones were deleted.
    ///
    /// # Errors
    /// None today.
    pub fn keeps_keys(&self, table: TableId) -> Result<()> {
        self.shared.set().tables.entry(table).or_default().keeps_keys = true;
        Ok(())
    }

    /// Deletes every row the commit finds, whoever wrote it.
    ///
    /// # Errors
    /// None today.
    pub fn truncate(&self, table: TableId) -> Result<()> {
        self.shared.set().tables.entry(table).or_default().truncate = true;
        Ok(())
    }

    /// Whether rows of the table were written as segments already. Their order, and so the order of their row ids, is
    /// the table's sort order, not that of arrival.
    #[must_use]
    pub fn has_segments(&self, table: TableId) -> bool {
        self.shared.set().tables.get(&table).is_some_and(|t| !t.segments.is_empty())
    }

    /// Changes the catalog.
    ///
    /// # Errors
    /// None today; conflicts show at commit.
    pub fn edit(&self, edit: CatalogEdit) -> Result<()> {
        let mut set = self.shared.set();
        let known = |def: &TableDef| self.shared.snapshot.table(def.id);
        if let CatalogEdit::PutTable(def) = &edit
            && known(def).is_none_or(|known| known.def().schema_version != def.schema_version)
        {
            set.created.insert(def.id, Arc::clone(def));
        }
        set.catalog.push(edit);
        Ok(())
    }

    /// An id for a table to create.
    #[must_use]
    pub fn next_table_id(&self) -> TableId {
        let mut set = self.shared.set();
        let id = set.next_table_id.unwrap_or(self.shared.snapshot.state().next_table_id);
        set.next_table_id = Some(id.next());
        id
    }

    /// Gives the write set up and removes the objects it wrote. Dropping does the same, without waiting for that.
    ///
    /// # Errors
    /// None; removal is best effort.
    pub async fn rollback(self) -> Result<()> {
        self.shared.staged.remove().await;
        Ok(())
    }

    /// Commits; the change is durable (as the sync mode says) and visible on return. A caller that drops the
    /// future after the first poll may find the change there or not; it is settled at once either way.
    ///
    /// # Errors
    /// `ConstraintViolation` (duplicate key), `Conflict` (run again on a fresh snapshot), `OutcomeUnknown`, and clean
    /// storage errors. But for `OutcomeUnknown`, nothing was changed.
    pub async fn commit(self, options: CommitOptions) -> Result<CommitReceipt> {
        let database = Arc::clone(&self.shared.database);
        let set = std::mem::take(&mut *self.shared.set());
        let loads = set.tables.values().any(|table| !table.segments.is_empty());
        let result = self.commit_set(set, options).await;
        match &result {
            // The commit of that id has others of its own.
            Ok(receipt) if receipt.repeated => self.shared.staged.remove().await,
            Err(error) if error.kind() != ErrorKind::OutcomeUnknown => self.shared.staged.remove().await,
            // Named, or nobody knows.
            Ok(_) | Err(_) => self.shared.staged.named(),
        }
        if result.is_ok() {
            database.checkpoint_if_due();
            // Loads that pass the memory by make segments, and no checkpoint due.
            if loads {
                database.compact_soon();
            }
        }
        result
    }

    async fn commit_set(&self, set: WriteSet, options: CommitOptions) -> Result<CommitReceipt> {
        let CommitOptions { info, commit_id, last_word } = options;
        let database = &self.shared.database;
        let writer = database.writer()?;
        let whole = if set.of_block { WholeTables::AsRead } else { WholeTables::AsFound };
        let named = commit_id;
        let _asking = named.map(|_| writer.order.asking());
        if let Some(id) = named
            && let Some(found) = Box::pin(database.earlier_commit(id)).await?
        {
            return Ok(CommitReceipt { version: found.version, first_row_ids: Vec::new(), repeated: true });
        }
        let mut prepared = Vec::new();
        let mut loaded = LoadedDeletes::new();
        for (id, table) in set.tables {
            if let Some(table) = self.prepare(id, table, &set.created, &mut loaded).await? {
                prepared.push(table);
            }
        }
        if prepared.is_empty() && set.catalog.is_empty() {
            let version = self.shared.snapshot.version();
            return Ok(CommitReceipt { version, first_row_ids: Vec::new(), repeated: false });
        }
        database.make_room().await?;
        let (mut claims, changes): (Vec<_>, Vec<_>) =
            prepared.into_iter().map(|p| (p.claims, p.change)).unzip();
        let commit_id = commit_id.unwrap_or_else(CommitId::random);
        let mut entry = WalEntry {
            version: CommitVersion(0),
            epoch: writer.epoch,
            commit_id,
            time_us: 0,
            info,
            catalog: set.catalog,
            tables: changes,
        };
        let mut receipt =
            CommitReceipt { version: CommitVersion(0), first_row_ids: Vec::new(), repeated: false };
        // Where the segments are those that deletes by position name.
        let mut placed = self.shared.snapshot.clone();
        // Up to where its rows and keys have been compared with those of others.
        let mut compared = self.shared.snapshot.clone();
        let mut unsure = false;
        let mut attempt = 1;
        loop {
            if unsure || conflict::is_unsure(&compared, &writer.order.head(), &entry, &claims) {
                // What it conflicts with may not be durable yet; nobody may hear of it before it is.
                writer.order.settle_all().await;
                let now = database.snapshot();
                let told = Box::pin(since::compare(&compared, &now, &entry, &mut claims, &loaded)).await;
                told.inspect_err(|error| {
                    if error.kind() == ErrorKind::Conflict {
                        writer.order.metrics().conflicts.one();
                    }
                })?;
                compared = now;
            }
            unsure = false;
            let body =
                EncodedBody::new(entry.epoch, entry.commit_id, &entry.info, &entry.catalog, &entry.tables)?;
            let accepted = writer.order.accept(named, |head| {
                let told = conflict::check(&self.shared.snapshot, &compared, head, &entry, &claims, whole)?;
                unsure = told == Told::Unsure;
                if unsure {
                    return Err(outrun());
                }
                entry.version = head.number.next();
                entry.time_us = database.options().clock.now_us().max(head.time_us);
                for change in &mut entry.tables {
                    change.first_row_id = head.tables.get(&change.table).map_or(RowId(1), |t| t.next_row_id);
                }
                let ids: Vec<RowId> = entry.tables.iter().map(|t| t.first_row_id).collect();
                let payload = body.assemble(entry.version, entry.time_us, &ids)?;
                let after = head.apply(&entry, &loaded)?.with_counters(&set.counters);
                last_word.ask()?;
                receipt.version = entry.version;
                receipt.first_row_ids = entry.tables.iter().map(|t| (t.table, t.first_row_id)).collect();
                Ok(Accept { after, payload, row: replay_row(&entry) })
            });
            let error = match accepted {
                Ok(ticket) => {
                    self.shared.staged.named();
                    let mut accepted = Accepted(Some(Arc::clone(database)));
                    let done = writer.order.settle(ticket).await;
                    accepted.0 = None;
                    return done.map(|()| receipt);
                }
                Err(error) => error,
            };
            if error.kind() != ErrorKind::Conflict {
                return Err(error);
            }
            // As above.
            writer.order.settle_all().await;
            if attempt == ATTEMPTS_MAX {
                return Err(error);
            }
            attempt += 1;
            if unsure {
                continue;
            }
            match Box::pin(self.place_again(&placed, &mut entry, &mut loaded)).await? {
                Some(now) => placed = now,
                None => return Err(error),
            }
        }
    }

    /// Rows keep their ids in a compaction, not their positions: what `entry` deletes by position in segments that were replaced since
    /// `placed` is looked up in those in their place. Whether somebody else has deleted a row meanwhile is asked as before, against
    /// what the statement has read. None: nothing was replaced, or a row is gone.
    async fn place_again(
        &self,
        placed: &Snapshot,
        entry: &mut WalEntry,
        loaded: &mut LoadedDeletes,
    ) -> Result<Option<Snapshot>> {
        let database = &self.shared.database;
        let now = database.snapshot();
        let mut moved = false;
        for change in &mut entry.tables {
            // One that the entry creates has no segments but its own.
            let (Some(before), Some(table)) = (placed.table(change.table), now.table(change.table)) else {
                continue;
            };
            let there = |id: ObjectId| table.state().segments.iter().any(|segment| segment.meta.id == id);
            let (lost, kept): (Vec<DeletesMeta>, Vec<DeletesMeta>) = change
                .deletes
                .iter()
                .cloned()
                .partition(|meta| !change.appends(meta.segment) && !there(meta.segment));
            let mut ids = Vec::new();
            for meta in &lost {
                let segment = before.state().segments.iter().find(|known| known.meta.id == meta.segment);
                let (Some(segment), Some(Ok(vector))) = (segment, loaded.get(&meta.id)) else {
                    return Ok(None);
                };
                let positions: Vec<u32> = vector.positions().iter().collect();
                ids.extend(before.open_segment(&segment.meta).await?.row_ids_at(&positions).await?);
            }
            if lost.is_empty() {
                continue;
            }
            ids.sort_unstable();
            change.deletes = kept;
            change.deletes.extend(self.spill_deletes(&table, &mut ids, loaded).await?);
            if !ids.is_empty() {
                return Ok(None);
            }
            // Nothing names them.
            for meta in lost {
                loaded.remove(&meta.id);
                let path = object_store::path::Path::from(meta.path());
                if object_store::ObjectStoreExt::delete(&*database.shared.store, &path).await.is_err() {
                    database.swept.set_due();
                }
            }
            moved = true;
        }
        Ok(moved.then_some(now))
    }

    async fn prepare(
        &self,
        id: TableId,
        mut set: TableSet,
        created: &BTreeMap<TableId, Arc<TableDef>>,
        loaded: &mut LoadedDeletes,
    ) -> Result<Option<Prepared>> {
        set.tidy();
        if !set.is_changed() {
            return Ok(None);
        }
        let table = self.shared.table_among(id, created)?;
        let keys = check::keys(&table, &set).await?;
        let mut claims = Claims { keys, ..Claims::default() };
        let mut deletes = Vec::new();
        if set.deleted.len() > DELETED_ROWS_IN_ENTRY {
            claims.deleted = Some(set.deleted.clone());
            deletes = Box::pin(self.spill_deletes(&table, &mut set.deleted, loaded)).await?;
        }
        for (segment, positions) in set.gone {
            deletes.push(Box::pin(self.put_deletes(id, segment, positions, loaded)).await?);
        }
        let change = TableChange {
            table: id,
            schema_version: table.def().schema_version,
            first_row_id: RowId(0),
            rows: RowBody::Batches(set.batches),
            deleted: set.deleted,
            segments: set.segments,
            deletes,
            truncate: set.truncate,
        };
        Ok(Some(Prepared { change, claims }))
    }

    /// Writes the deleted rows of segments as `.deletes` objects; those of the memtable stay in `deleted`.
    async fn spill_deletes(
        &self,
        table: &TableSnapshot,
        deleted: &mut Vec<RowId>,
        loaded: &mut LoadedDeletes,
    ) -> Result<Vec<DeletesMeta>> {
        let mut metas = Vec::new();
        let mut left = std::mem::take(deleted);
        for view in table.segments().await? {
            let first = left.partition_point(|id| *id < view.meta.min_row_id);
            let last = left.partition_point(|id| *id <= view.meta.max_row_id);
            if first == last {
                continue;
            }
            let within: Vec<RowId> = left[first..last].to_vec();
            let reader = table.open_segment(&view.meta).await?;
            let positions = reader.positions_of_row_ids(&within).await?;
            let found: RoaringBitmap = positions.iter().flatten().copied().collect();
            if found.is_empty() {
                continue;
            }
            let elsewhere = within.iter().zip(&positions).filter(|(_, p)| p.is_none()).map(|(id, _)| *id);
            left.splice(first..last, elsewhere.collect::<Vec<_>>());
            metas.push(self.put_deletes(table.def().id, view.meta.id, found, loaded).await?);
        }
        *deleted = left;
        Ok(metas)
    }

    async fn put_deletes(
        &self,
        table: TableId,
        segment: ObjectId,
        positions: RoaringBitmap,
        loaded: &mut LoadedDeletes,
    ) -> Result<DeletesMeta> {
        let vector = DeletionVector::constant(positions, CommitVersion(0));
        let id = self.shared.object_id()?;
        let meta = vector.put(&*self.shared.database.shared.store, id, table, segment, false).await?;
        self.shared.staged.add_deletes(&meta);
        loaded.insert(meta.id, Ok(Arc::new(vector)));
        Ok(meta)
    }
}

/// The error of a commit that others were always ahead of.
fn outrun() -> Error {
    Error::new(
        ErrorKind::Conflict,
        "others wrote so much meanwhile that it is not known whether it was the same",
    )
    .with_hint("run the statement again; many rows at once are best written while others write little")
}

/// An accepted commit must be settled even when its caller goes away: not there now and there later would be worse
/// than either.
struct Accepted(Option<Arc<Database>>);

impl Drop for Accepted {
    fn drop(&mut self) {
        if let (Some(database), Ok(runtime)) = (self.0.take(), tokio::runtime::Handle::try_current()) {
            runtime.spawn(async move {
                if let Ok(writer) = database.writer() {
                    writer.order.settle_all().await;
                }
            });
        }
    }
}
