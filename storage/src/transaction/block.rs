//! A transaction block, BEGIN to COMMIT: the write sets of several statements that commit as one.
//!
//! Owns: the private version its statements read, and what is left of their rows at the end. Each statement's write set is
//! checked and applied to a version nobody else sees, on top of the snapshot of BEGIN, by the function that applies commits
//! ([`Version::apply_aside`]). COMMIT puts what is left of them into one write set made at the snapshot of BEGIN, and commits that
//! as any other: snapshot isolation, and of two blocks that changed the same row or wrote the same key the first to
//! commit wins.
//!
//! Row ids and versions that a block shows of its own rows are provisional; COMMIT gives others.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use arrow::array::{BooleanArray, RecordBatch};
use arrow::compute::filter_record_batch;
use roaring::RoaringBitmap;

use super::staged::Staged;
use super::{CommitOptions, CommitReceipt, LastWord, TableWriter, Transaction, check};
use crate::alter;
use crate::collect::UploadGuard;
use crate::database::Database;
use crate::error::{Error, ErrorKind, Result};
use crate::id::{CommitId, Epoch, ObjectId, RowId, TableId};
use crate::memtable::memory;
use crate::schema::TableDef;
use crate::segment::SegmentMeta;
use crate::version::{LoadedDeletes, Snapshot, Version};
use crate::wal::{CatalogEdit, CommitInfo, RowBody, TableChange, WalEntry};

/// Most memory of the rows of one block. Statements that write much at once write segments, which do not count.
const BYTES_MAX: usize = 1 << 30;

/// See the module. Its statements run one after the other.
#[derive(Debug)]
pub struct TransactionBlock {
    database: Arc<Database>,
    /// Of BEGIN.
    base: Snapshot,
    read_only: bool,
    state: Mutex<State>,
    written: Mutex<Written>,
}

/// What its statements wrote.
#[derive(Debug)]
struct Written {
    /// Segments; not all of them may be left at COMMIT.
    staged: Staged,
    /// Of the first statement that wrote one, which stands for the later ones too.
    uploads: Option<Arc<UploadGuard>>,
}

impl Written {
    fn new(database: &Database) -> Self {
        Self { staged: Staged::new(&database.shared.store, &database.swept), uploads: None }
    }

    fn add(&mut self, segments: Vec<SegmentMeta>, uploads: Option<&Arc<UploadGuard>>) {
        self.staged.add(segments);
        if self.uploads.is_none() {
            self.uploads = uploads.cloned();
        }
    }
}

/// What the block has changed so far. Cloning is cheap but for the lists of batches, which share their rows.
#[derive(Clone, Debug)]
struct State {
    /// What the next statement reads.
    version: Arc<Version>,
    catalog: Vec<CatalogEdit>,
    tables: BTreeMap<TableId, OwnChange>,
    /// Memory of rows.
    bytes: usize,
    /// Names of savepoints with what was changed before each.
    savepoints: Vec<(String, Arc<State>)>,
}

/// Of one table.
#[derive(Clone, Debug, Default)]
struct OwnChange {
    /// Appended rows by their provisional first row id, ascending.
    rows: Vec<(RowId, OwnRows)>,
    /// Appended rows that a later statement deleted.
    gone: BTreeSet<RowId>,
    /// Rows of the snapshot.
    deleted: Vec<RowId>,
    truncate: bool,
}

#[derive(Clone, Debug)]
enum OwnRows {
    Batch(RecordBatch),
    Segment(SegmentMeta),
}

impl OwnRows {
    /// The same under a newer definition; a segment's file stays as it is.
    fn altered(&self, old: &TableDef, new: &TableDef) -> Result<Self> {
        Ok(match self {
            Self::Batch(batch) => Self::Batch(alter::rows(batch, old, new)?),
            Self::Segment(meta) => Self::Segment(alter::meta(meta, old, new)),
        })
    }
}

impl TransactionBlock {
    /// BEGIN: from now on everything is read as it is now.
    #[must_use]
    pub fn begin(database: Arc<Database>, read_only: bool) -> Self {
        let base = database.snapshot();
        let (state, written) = (Mutex::new(State::new(&base)), Mutex::new(Written::new(&database)));
        Self { database, base, read_only, state, written }
    }

    /// What the next statement reads: the snapshot of BEGIN with the block's own changes.
    #[must_use]
    pub fn snapshot(&self) -> Snapshot {
        Snapshot::new(Arc::clone(&self.state().version), Arc::clone(&self.database.shared))
    }

    /// The write set of a statement becomes the block's: the next statement sees it. Nothing is durable.
    ///
    /// # Errors
    /// `ReadOnly` (25006) in a block that was begun so; `ConstraintViolation` (duplicate key); `Conflict` when it was not made at the newest [`snapshot`](Self::snapshot);
    /// storage errors. Nothing has changed then, and the block goes on.
    pub async fn add(&self, transaction: Transaction, last_word: &LastWord) -> Result<CommitReceipt> {
        let snapshot = transaction.snapshot().clone();
        let set = std::mem::take(&mut *transaction.shared.set());
        let added = self.add_set(&transaction, set, &snapshot, last_word).await;
        let shared = &transaction.shared;
        match &added {
            // The block's from now on.
            Ok(_) => self.written().add(shared.staged.give(|_| true), shared.uploads.get()),
            Err(_) => shared.staged.remove().await,
        }
        added
    }

    async fn add_set(
        &self,
        transaction: &Transaction,
        set: super::WriteSet,
        snapshot: &Snapshot,
        last_word: &LastWord,
    ) -> Result<CommitReceipt> {
        let mut changes = Vec::new();
        for (id, mut table) in set.tables {
            if !table.is_changed() {
                continue;
            }
            table.tidy();
            let there = transaction.shared.table_among(id, &set.created)?;
            check::keys(&there, &table).await?;
            changes.push(TableChange {
                table: id,
                schema_version: there.def().schema_version,
                first_row_id: RowId(0),
                rows: RowBody::Batches(table.batches),
                deleted: table.deleted,
                segments: table.segments,
                deletes: Vec::new(),
                truncate: table.truncate,
            });
        }
        if self.read_only && !(changes.is_empty() && set.catalog.is_empty()) {
            return Err(
                Error::new(ErrorKind::ReadOnly, "the transaction is READ ONLY").with_sqlstate("25006")
            );
        }
        let mut state = self.state();
        if !Arc::ptr_eq(&state.version, snapshot.state()) {
            return Err(Error::new(
                ErrorKind::Conflict,
                "another statement of the same transaction ran meanwhile",
            ));
        }
        if changes.is_empty() && set.catalog.is_empty() {
            return Ok(CommitReceipt {
                version: state.version.number,
                first_row_ids: Vec::new(),
                repeated: false,
            });
        }
        let mut entry = WalEntry {
            version: state.version.number.next(),
            epoch: Epoch(0),
            commit_id: CommitId::random(),
            time_us: self.database.options().clock.now_us().max(state.version.time_us),
            info: CommitInfo::default(),
            catalog: set.catalog,
            tables: changes,
        };
        for change in &mut entry.tables {
            change.first_row_id = state.version.tables.get(&change.table).map_or(RowId(1), |t| t.next_row_id);
        }
        let bytes = state.fits(&entry)?;
        let after = state.version.apply_aside(&entry, &LoadedDeletes::new())?;
        let altered = state.altered(&entry)?;
        last_word.ask()?;
        let receipt = CommitReceipt {
            version: entry.version,
            first_row_ids: entry.tables.iter().map(|t| (t.table, t.first_row_id)).collect(),
            repeated: false,
        };
        for (table, rows) in altered {
            state.tables.entry(table).or_default().rows = rows;
        }
        state.keep(&self.base, entry);
        state.bytes += bytes;
        state.version = Arc::new(after);
        Ok(receipt)
    }

    /// SAVEPOINT: a point to come back to. The same name again hides the earlier one.
    pub fn savepoint(&self, name: &str) {
        let mut state = self.state();
        let before = Arc::new(state.clone());
        state.savepoints.push((name.to_owned(), before));
    }

    /// ROLLBACK TO SAVEPOINT: forgets what was changed after it; the savepoint stays.
    ///
    /// # Errors
    /// `InvalidInput` (3B001) when there is none of that name.
    pub fn rollback_to(&self, name: &str) -> Result<()> {
        let mut state = self.state();
        let at = state.savepoint(name)?;
        let mut savepoints = std::mem::take(&mut state.savepoints);
        savepoints.truncate(at + 1);
        if let Some((_, before)) = savepoints.last() {
            *state = State::clone(before);
        }
        state.savepoints = savepoints;
        Ok(())
    }

    /// RELEASE SAVEPOINT: forgets it and those after it, and keeps the changes.
    ///
    /// # Errors
    /// `InvalidInput` (3B001) when there is none of that name.
    pub fn release(&self, name: &str) -> Result<()> {
        let mut state = self.state();
        let at = state.savepoint(name)?;
        state.savepoints.truncate(at);
        Ok(())
    }

    /// COMMIT: durable (as the sync mode says) and visible to all on return.
    ///
    /// # Errors
    /// `Conflict` (40001) when another commit changed the same rows, keys or definitions since BEGIN: run the whole block
    /// again. `OutcomeUnknown`, storage errors. The block has ended in any case; but for `OutcomeUnknown`, nothing was
    /// changed.
    pub async fn commit(&self, options: CommitOptions) -> Result<CommitReceipt> {
        // What it holds of uploads goes when all has ended.
        let (state, written) = self.end();
        let (base, database) = (&self.base, &self.database);
        if !state.is_changed() {
            written.staged.remove().await;
            return Ok(CommitReceipt { version: base.version(), first_row_ids: Vec::new(), repeated: false });
        }
        let (kept, units) = (state.segments(), state.removed_units(base));
        let transaction = match database.begin(base).await {
            Ok(transaction) => transaction,
            Err(error) => {
                written.staged.remove().await;
                return Err(error);
            }
        };
        let committed = match gather(&transaction, state).await {
            // The segments it names are its own now: it removes them where it fails.
            Ok(()) => {
                transaction.shared.staged.add(written.staged.give(|meta| kept.contains(&meta.id)));
                transaction.commit(options).await
            }
            Err(error) => transaction.rollback().await.and(Err(error)),
        };
        written.staged.remove().await;
        let receipt = committed.map_err(|error| match error.kind() {
            ErrorKind::Conflict => error.with_hint("the transaction was rolled back; run it again"),
            _ => error,
        })?;
        if !receipt.repeated {
            for (table, units) in units {
                database.remove_index_units(table, &units).await;
            }
            database.index_soon();
        }
        Ok(receipt)
    }

    /// ROLLBACK: as if it had not been. Dropping the block does the same, without waiting for its files to be removed.
    pub async fn rollback(&self) {
        let (_, written) = self.end();
        written.staged.remove().await;
    }

    /// Takes everything out.
    fn end(&self) -> (State, Written) {
        let state = std::mem::replace(&mut *self.state(), State::new(&self.base));
        let written = std::mem::replace(&mut *self.written(), Written::new(&self.database));
        (state, written)
    }

    fn written(&self) -> MutexGuard<'_, Written> {
        self.written.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // The state is changed as a whole, after everything that can fail.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn new(base: &Snapshot) -> Self {
        Self {
            version: Arc::clone(base.state()),
            catalog: Vec::new(),
            tables: BTreeMap::new(),
            bytes: 0,
            savepoints: Vec::new(),
        }
    }

    fn is_changed(&self) -> bool {
        !self.catalog.is_empty() || !self.tables.is_empty()
    }

    /// Index units of `base` that are there no more.
    fn removed_units(&self, base: &Snapshot) -> Vec<(TableId, Vec<ObjectId>)> {
        let mut removed = Vec::new();
        for (id, before) in &base.state().tables {
            let now = self.version.tables.get(id);
            let there =
                |unit: &ObjectId| now.is_some_and(|now| now.units.iter().any(|known| known.id == *unit));
            let gone: Vec<ObjectId> =
                before.units.iter().map(|unit| unit.id).filter(|unit| !there(unit)).collect();
            if !gone.is_empty() {
                removed.push((*id, gone));
            }
        }
        removed
    }

    fn savepoint(&self, name: &str) -> Result<usize> {
        self.savepoints.iter().rposition(|(known, _)| known == name).ok_or_else(|| {
            Error::new(ErrorKind::InvalidInput, format!("there is no savepoint {name}"))
                .with_sqlstate("3B001")
        })
    }

    /// Memory of the rows of an entry, which may be added: what is held has a limit.
    fn fits(&self, entry: &WalEntry) -> Result<usize> {
        let batches = entry.tables.iter().filter_map(|change| match &change.rows {
            RowBody::Batches(batches) => Some(batches),
            _ => None,
        });
        let bytes: usize = batches.map(|batches| memory(batches)).sum();
        if self.bytes + bytes > BYTES_MAX {
            let message = format!("the transaction holds more than {} MiB of rows", BYTES_MAX >> 20);
            return Err(Error::new(ErrorKind::ResourceExhausted, message)
                .with_sqlstate("54000")
                .with_hint("COMMIT more often, or load the rows with one COPY or INSERT … SELECT"));
        }
        Ok(bytes)
    }

    /// Rows of tables whose definition an entry changes, as rows of the new one: all are committed under one definition.
    fn altered(&self, entry: &WalEntry) -> Result<BTreeMap<TableId, Vec<(RowId, OwnRows)>>> {
        let mut altered = BTreeMap::new();
        for edit in &entry.catalog {
            let CatalogEdit::PutTable(def) = edit else { continue };
            let (Some(known), Some(own)) = (self.version.tables.get(&def.id), self.tables.get(&def.id))
            else {
                continue;
            };
            if own.rows.is_empty() || known.def.schema_version == def.schema_version {
                continue;
            }
            let rows =
                own.rows.iter().map(|(first, rows)| Ok::<_, Error>((*first, rows.altered(&known.def, def)?)));
            altered.insert(def.id, rows.collect::<Result<_>>()?);
        }
        Ok(altered)
    }

    /// Remembers what an applied entry changed.
    fn keep(&mut self, base: &Snapshot, entry: WalEntry) {
        for edit in entry.catalog {
            if let CatalogEdit::DropTable { table } = &edit {
                self.tables.remove(table);
            }
            self.catalog.push(edit);
        }
        for change in entry.tables {
            let first_own = base.state().tables.get(&change.table).map_or(RowId(1), |t| t.next_row_id);
            let own = self.tables.entry(change.table).or_default();
            if change.truncate {
                *own = OwnChange { truncate: base.table(change.table).is_some(), ..OwnChange::default() };
            }
            for row in change.deleted {
                if row >= first_own {
                    own.gone.insert(row);
                } else {
                    own.deleted.push(row);
                }
            }
            let mut next = change.first_row_id;
            if let RowBody::Batches(batches) = change.rows {
                for batch in batches {
                    let first = next;
                    next = RowId(next.0 + batch.num_rows() as u64);
                    own.rows.push((first, OwnRows::Batch(batch)));
                }
            }
            for meta in change.segments {
                let first = next;
                next = RowId(next.0 + meta.rows);
                own.rows.push((first, OwnRows::Segment(meta)));
            }
        }
    }

    /// Segments that are left.
    fn segments(&self) -> Vec<ObjectId> {
        let own = self.tables.values().flat_map(|own| &own.rows);
        own.filter_map(|(_, rows)| match rows {
            OwnRows::Segment(meta) => Some(meta.id),
            OwnRows::Batch(_) => None,
        })
        .collect()
    }
}

impl OwnChange {
    /// The rows of those from `first` on that are left, as a mask; None: all of them.
    fn left(&self, first: RowId, rows: usize) -> Option<BooleanArray> {
        let end = RowId(first.0 + rows as u64);
        let mut gone = self.gone.range(first..end).peekable();
        gone.peek()?;
        let mut left = vec![true; rows];
        for row in gone {
            left[(row.0 - first.0) as usize] = false;
        }
        Some(left.into())
    }

    /// Positions that are gone of a segment whose first row is `first`.
    fn gone(&self, first: RowId, rows: u64) -> RoaringBitmap {
        let gone = self.gone.range(first..RowId(first.0 + rows));
        gone.map(|row| (row.0 - first.0) as u32).collect()
    }
}

/// Puts what is left of a block into one write set.
async fn gather(transaction: &Transaction, state: State) -> Result<()> {
    let base = &transaction.shared.snapshot.state().tables;
    let made = state.version.tables.iter().filter(|(id, _)| !base.contains_key(*id));
    let counters = made.map(|(id, table)| (*id, Arc::clone(&table.counter))).collect();
    {
        let mut set = transaction.shared.set();
        set.of_block = true;
        set.counters = counters;
    }
    for edit in state.catalog {
        transaction.edit(edit)?;
    }
    for (table, own) in state.tables {
        // Its rows were checked under the definition that the block has given it.
        let known = state.version.tables.get(&table).cloned();
        let known =
            known.ok_or_else(|| Error::internal("a transaction changed a table that it does not know"))?;
        let (def, schema) = (Arc::clone(&known.def), Arc::clone(known.arrow_schema()));
        let mut writer = TableWriter::new(Arc::clone(&transaction.shared), def, schema);
        for (first, rows) in &own.rows {
            if let OwnRows::Batch(batch) = rows {
                match own.left(*first, batch.num_rows()) {
                    Some(left) => writer.write(filter_record_batch(batch, &left)?).await?,
                    None => writer.write(batch.clone()).await?,
                }
            }
        }
        writer.finish().await?;
        let mut set = transaction.shared.set();
        let set = set.tables.entry(table).or_default();
        for (first, rows) in &own.rows {
            let OwnRows::Segment(meta) = rows else { continue };
            let gone = own.gone(*first, meta.rows);
            if !gone.is_empty() {
                set.gone.insert(meta.id, gone);
            }
            set.segments.push(meta.clone());
        }
        set.deleted = own.deleted;
        set.truncate = own.truncate;
    }
    Ok(())
}
