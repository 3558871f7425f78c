//! The state of the database at one commit version: immutable, swapped as a whole after each commit.
//!
//! Owns: what a WAL entry does to the state ([`Version::apply`], one function for a live commit, recovery and a
//! follower), the visibility rule, hot deletes and hot keys. Does not own: I/O, the commit order (`database`), conflicts
//! (`transaction`), when rows move into segments (`checkpoint`).
//!
//! Visibility: a row is visible at version v when created <= v and not (deleted <= v).

mod catalog;
mod deletes;
mod keys;
mod pin;
mod snapshot;
mod swap;
mod table;
mod views;
mod warm;

use std::collections::HashMap;
use std::sync::Arc;

use imbl::OrdMap;

pub use catalog::{Catalog, DEFAULT_SCHEMA, OWN_SCHEMA};
pub use deletes::HotDeletes;
pub use keys::HotKeys;
use keys::Line;
pub(crate) use pin::{Pin, Pins};
pub(crate) use snapshot::Expiry;
pub use snapshot::{SegmentView, Shared, Snapshot, TableSnapshot};
pub use table::{SegmentState, TableState};
pub use warm::WarmReceipt;

use crate::error::{Error, Result};
use crate::id::{CommitVersion, ManifestNumber, ObjectId, TableId};
use crate::manifest::history::Recorded;
use crate::numbers::Counter;
use crate::segment::DeletionVector;
use crate::wal::{CatalogEdit, WalEntry};

/// Deletion vectors of the `.deletes` objects an entry names, loaded beforehand; what is wrong with one that could not be:
/// its segment then answers with that error, the rest of the database goes on.
pub type LoadedDeletes = HashMap<ObjectId, Result<Arc<DeletionVector>>>;

/// All tables and names at one commit version.
#[derive(Clone, Debug)]
pub struct Version {
    /// Which commit.
    pub number: CommitVersion,
    /// Time of that commit, µs since 1970 UTC.
    pub time_us: i64,
    /// Names.
    pub catalog: Arc<Catalog>,
    /// Version of the last commit that edited the catalog.
    pub catalog_changed: CommitVersion,
    /// Version of the last commit that changed names or definitions. Index units come and go beside them.
    pub names_changed: CommitVersion,
    /// Rows, dropped tables included.
    pub tables: OrdMap<TableId, Arc<TableState>>,
    /// Next unused table id.
    pub next_table_id: TableId,
    /// Oldest version a read may name.
    pub horizon: CommitVersion,
    /// The manifest below the hot rows.
    pub manifest: ManifestNumber,
    /// Which commits that manifest says to be found by their ids.
    pub(crate) recorded: Arc<Recorded>,
    /// Keeps that manifest's objects while the version is read.
    pub(crate) pin: Pin,
}

impl Default for Version {
    fn default() -> Self {
        Self {
            number: CommitVersion(0),
            time_us: 0,
            catalog: Arc::default(),
            catalog_changed: CommitVersion(0),
            names_changed: CommitVersion(0),
            tables: OrdMap::new(),
            next_table_id: TableId(1),
            horizon: CommitVersion(0),
            manifest: ManifestNumber(0),
            recorded: Arc::default(),
            pin: Pin::default(),
        }
    }
}

impl Version {
    /// With what has numbered the rows of new tables until now, so that none of these numbers is given again.
    #[must_use]
    pub(crate) fn with_counters(mut self, counters: &[(TableId, Arc<Counter>)]) -> Self {
        for (id, counter) in counters {
            if let Some(table) = self.tables.get(id) {
                let mut table = TableState::clone(table);
                table.counter = Arc::clone(counter);
                self.tables.insert(*id, Arc::new(table));
            }
        }
        self
    }

    /// The state after `entry`. Effects that are in a segment already (version <= the table's `flushed`) are skipped,
    /// so replaying an entry twice is the same as once.
    ///
    /// # Errors
    /// `Corrupt` when the entry does not fit the state: unknown table, rows not of its schema.
    pub fn apply(&self, entry: &WalEntry, deletes: &LoadedDeletes) -> Result<Self> {
        self.applied(entry, deletes, Line::Order)
    }

    /// The same for a version that nobody else sees: of a transaction block.
    ///
    /// # Errors
    /// As [`apply`](Self::apply).
    pub(crate) fn apply_aside(&self, entry: &WalEntry, deletes: &LoadedDeletes) -> Result<Self> {
        self.applied(entry, deletes, Line::Aside)
    }

    fn applied(&self, entry: &WalEntry, deletes: &LoadedDeletes, line: Line) -> Result<Self> {
        let mut next = self.clone();
        if entry.version > self.number {
            next.number = entry.version;
            next.time_us = entry.time_us;
        }
        if entry.changes_catalog() && entry.version > self.catalog_changed {
            let mut catalog = Catalog::clone(&self.catalog);
            for edit in &entry.catalog {
                next.edit(&mut catalog, edit, entry.version)?;
            }
            next.catalog = Arc::new(catalog);
            next.catalog_changed = entry.version;
            if entry.changes_names() {
                next.names_changed = entry.version;
            }
        }
        for edit in &entry.catalog {
            if let CatalogEdit::SwapSegments(swap) = edit {
                next.swap(swap, entry.version, deletes)?;
            }
        }
        for change in &entry.tables {
            let Some(table) = next.tables.get(&change.table) else {
                return Err(Error::corrupt(
                    format!("WAL entry of version {}", entry.version),
                    format!("it changes table {}, which does not exist", change.table),
                ));
            };
            let table = table.apply(change, entry.version, deletes, line)?;
            next.tables.insert(change.table, Arc::new(table));
        }
        Ok(next)
    }

    fn edit(&mut self, catalog: &mut Catalog, edit: &CatalogEdit, version: CommitVersion) -> Result<()> {
        catalog.apply(edit);
        match edit {
            CatalogEdit::PutTable(def) => {
                let state = match self.tables.get(&def.id) {
                    Some(known) => known.with_def(Arc::clone(def))?,
                    None => TableState::created(Arc::clone(def), version),
                };
                self.tables.insert(def.id, Arc::new(state));
                self.next_table_id = self.next_table_id.max(def.id.next());
            }
            CatalogEdit::DropTable { table } => {
                if let Some(known) = self.tables.get(table) {
                    let dropped = known.dropped(version);
                    self.tables.insert(*table, Arc::new(dropped));
                }
            }
            CatalogEdit::PutUnit(unit) => {
                if let Some(known) = self.tables.get(&unit.table) {
                    let indexed = known.with_unit(unit);
                    self.tables.insert(unit.table, Arc::new(indexed));
                }
            }
            CatalogEdit::DropUnits { table, units } => {
                if let Some(known) = self.tables.get(table) {
                    let left = known.without_units(|unit| units.contains(&unit.id));
                    self.tables.insert(*table, Arc::new(left));
                }
            }
            CatalogEdit::CreateSchema { .. }
            | CatalogEdit::DropSchema { .. }
            | CatalogEdit::PutView(_)
            | CatalogEdit::DropView { .. }
            | CatalogEdit::SwapSegments(_) => {}
        }
        Ok(())
    }

    /// The same version with a border under its hot rows and keys, so that a checkpoint of it can later take away
    /// exactly what it wrote.
    #[must_use]
    pub fn sealed(&self) -> Self {
        let mut next = self.clone();
        for (id, table) in &self.tables {
            if table.is_hot() {
                next.tables.insert(*id, Arc::new(table.sealed(self.number)));
            }
        }
        next
    }

    /// The same version without its hot rows, of which only the counts are left: definitions, objects and row counts of what is applied to
    /// it are right, what stands in a table is not.
    #[must_use]
    pub(crate) fn counted(&self) -> Self {
        let mut next = self.clone();
        for (id, table) in self.tables.iter().filter(|(_, table)| table.memtable.rows() > 0) {
            next.tables.insert(*id, Arc::new(table.counted()));
        }
        next
    }

    /// Memory of all hot rows.
    #[must_use]
    pub fn hot_bytes(&self) -> u64 {
        self.tables.values().map(|t| t.hot_bytes()).sum()
    }

    /// Tables that are not dropped.
    pub fn live_tables(&self) -> impl Iterator<Item = &Arc<TableState>> {
        self.tables.values().filter(|t| t.dropped_at.is_none())
    }
}
