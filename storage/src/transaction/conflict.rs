//! Conflict rules, run inside the commit order against the accepted head: only what happened in (snapshot, head]
//! matters, accepted-but-not-durable commits included.
//!
//! Two commits conflict when the later one deletes a row that the earlier one has deleted, or writes a key that a row of the earlier one
//! has. The head's hot deletes and hot keys tell, without I/O. A checkpoint, a bulk load and a bulk delete put such facts into objects; marks
//! of the table say whether that happened since a version. Then the answer is "unsure": the committer looks the facts up outside the order
//! (`since`), up to a newer durable version, and asks again about what came after that one.
//!
//! Order: `compared` never falls behind the snapshot, and everything in (snapshot, compared] was looked up before `compared` was moved.

use std::sync::Arc;

use crate::error::{Error, ErrorKind, Result};
use crate::id::{CommitVersion, IndexId, ObjectId, RowId};
use crate::segment::KeyFilter;
use crate::segment::key::EncodedKeys;
use crate::version::{Snapshot, TableState, Version};
use crate::wal::{CatalogEdit, TableChange, WalEntry};

/// Rows of others whose keys are compared with those of a large write set inside the order; more of them are looked up outside.
const ROWS_IN_ORDER_MAX: usize = 4096;

fn conflict(what: String) -> Error {
    Error::new(ErrorKind::Conflict, what).with_hint("run the statement again")
}

/// Somebody else deleted a row that the change deletes.
pub(super) fn same_rows(name: &str) -> Error {
    conflict(format!("another session changed the same rows of {name} meanwhile"))
}

/// Somebody else wrote a key that the change writes.
pub(super) fn same_key(name: &str) -> Error {
    conflict(format!("another session wrote the same key of {name} meanwhile"))
}

/// What a change of one table can be in conflict by, beside what it says itself.
#[derive(Debug, Default)]
pub(crate) struct Claims {
    /// Keys of its rows in memory; None: the table has no key.
    pub(crate) keys: Option<EncodedKeys>,
    /// All rows that it deletes, ascending, where it names some by their position; None: the change names all by their ids.
    pub(crate) deleted: Option<Vec<RowId>>,
    /// Of its segments, which keys they may hold; None: not read. It is when others have added rows.
    pub(crate) filters: Option<Vec<Arc<KeyFilter>>>,
}

impl Claims {
    /// The rows that `change` deletes, ascending.
    pub(super) fn deleted<'a>(&'a self, change: &'a TableChange) -> &'a [RowId] {
        self.deleted.as_deref().unwrap_or(&change.deleted)
    }

    /// Whether `change` writes keys that somebody else's may equal. Not after a TRUNCATE of its own: no row of others is left.
    pub(super) fn writes_keys(&self, change: &TableChange) -> bool {
        let in_memory = self.keys.as_ref().is_some_and(|keys| !keys.is_empty());
        !change.truncate && (in_memory || !change.segments.is_empty())
    }
}

/// Whether a commit may be made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Told {
    /// Nothing is against it.
    Holds,
    /// What may be against it is in objects by now.
    Unsure,
}

/// Whether objects must be asked what others committed after `compared`. May be asked outside the order; inside, [`check`] asks again.
pub(crate) fn is_unsure(compared: &Snapshot, head: &Version, entry: &WalEntry, claims: &[Claims]) -> bool {
    let since = compared.version();
    entry.tables.iter().zip(claims).any(|(change, claims)| {
        let now = head.tables.get(&change.table);
        now.is_some_and(|now| {
            deletes_moved(since, now, change, claims) || keys_moved(since, now, change, claims)
        })
    })
}

/// Whether the hot deletes don't show everything that was deleted after `since`, and it matters.
fn deletes_moved(since: CommitVersion, now: &TableState, change: &TableChange, claims: &Claims) -> bool {
    let moved = now.last_bulk_delete > since || (now.flushed > since && now.last_delete > since);
    moved && !claims.deleted(change).is_empty()
}

/// Whether the hot keys don't show every key that was written after `since`, and it matters.
fn keys_moved(since: CommitVersion, now: &TableState, change: &TableChange, claims: &Claims) -> bool {
    if now.key_encoder().is_none() || now.last_append <= since || !claims.writes_keys(change) {
        return false;
    }
    let unread = !change.segments.is_empty() && claims.filters.is_none();
    now.last_load > since || now.flushed > since || unread
}

/// Whether `entry`, made at `snapshot`, still holds on `head`. Its rows and keys have been compared with those of all commits up to
/// `compared`.
///
/// # Errors
/// `Conflict`.
pub(crate) fn check(
    snapshot: &Snapshot,
    compared: &Snapshot,
    head: &Version,
    entry: &WalEntry,
    claims: &[Claims],
    whole: WholeTables,
) -> Result<Told> {
    if !entry.catalog.is_empty() && head.names_changed > snapshot.version() {
        return Err(conflict("another session changed the catalog meanwhile".to_owned()));
    }
    for edit in &entry.catalog {
        definition(snapshot, head, edit, whole)?;
    }
    for (change, claims) in entry.tables.iter().zip(claims) {
        // A table that is not there yet is created by this very entry.
        let Some(now) = head.tables.get(&change.table) else { continue };
        // Rows for a definition of this very entry: it is refused above when another one came between.
        let defined =
            |edit: &CatalogEdit| matches!(edit, CatalogEdit::PutTable(def) if def.id == change.table);
        let of_now = now.def.schema_version == change.schema_version || entry.catalog.iter().any(defined);
        if now.dropped_at.is_some() || !of_now {
            let name = now.def.qualified_name();
            return Err(conflict(format!("another session changed the definition of {name} meanwhile")));
        }
        let base = snapshot.state().tables.get(&change.table);
        // Vectors were checked under the metrics of the indexes there were.
        let indexes_changed = base.is_some_and(|base| base.def.indexes != now.def.indexes);
        if indexes_changed && (change.rows.rows() > 0 || !change.segments.is_empty()) {
            let name = now.def.qualified_name();
            return Err(conflict(format!("another session changed the indexes of {name} meanwhile")));
        }
        if change.truncate && whole == WholeTables::AsRead {
            unchanged(snapshot, now)?;
        }
        let told = [deletes(compared, now, change, claims)?, appends(compared, now, change, claims)?];
        if told.contains(&Told::Unsure) {
            return Ok(Told::Unsure);
        }
    }
    Ok(Told::Holds)
}

/// What TRUNCATE and DROP TABLE are about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum WholeTables {
    /// Whatever rows the commit finds: the statement asks for none in particular.
    AsFound,
    /// The rows that the transaction's statements have read.
    AsRead,
}

/// Whether the rows of a table are those of the snapshot.
fn unchanged(snapshot: &Snapshot, now: &TableState) -> Result<()> {
    if now.last_append > snapshot.version() || now.last_delete > snapshot.version() {
        let name = now.def.qualified_name();
        return Err(conflict(format!("another session changed rows of {name} meanwhile")));
    }
    Ok(())
}

fn definition(snapshot: &Snapshot, head: &Version, edit: &CatalogEdit, whole: WholeTables) -> Result<()> {
    let table = match edit {
        CatalogEdit::PutTable(def) => def.id,
        CatalogEdit::DropTable { table } => *table,
        _ => return Ok(()),
    };
    let Some(now) = head.tables.get(&table) else { return Ok(()) };
    let name = now.def.qualified_name();
    // Who takes an index away removes the files of its units: of those that were there.
    let base = snapshot.state().tables.get(&table);
    let known = |unit: ObjectId| base.is_some_and(|base| base.names_unit(unit));
    let stays = |index: IndexId| match edit {
        CatalogEdit::PutTable(def) => def.indexes.iter().any(|kept| kept.id == index),
        _ => false,
    };
    if now.units.iter().any(|unit| !stays(unit.index) && !known(unit.id)) {
        return Err(conflict(format!("an index of {name} was built meanwhile")));
    }
    match edit {
        CatalogEdit::PutTable(def) => {
            let known = |index| now.def.indexes.contains(index);
            // Its vectors were checked under the metric of the new index, those that came since were not.
            if !def.indexes.iter().all(known) && now.last_append > snapshot.version() {
                return Err(conflict(format!("another session added rows to {name} meanwhile")));
            }
            // Its rows were looked at when a column became NOT NULL.
            let known = |id| now.def.columns.iter().find(|column| column.id == id);
            let tightened = def
                .columns
                .iter()
                .filter(|column| !column.nullable)
                .any(|column| known(column.id).map_or(column.initial.is_none(), |known| known.nullable));
            if tightened && now.last_append > snapshot.version() {
                return Err(conflict(format!("another session added rows to {name} meanwhile")));
            }
            Ok(())
        }
        _ if whole == WholeTables::AsRead => unchanged(snapshot, now),
        _ => Ok(()),
    }
}

fn deletes(compared: &Snapshot, now: &TableState, change: &TableChange, claims: &Claims) -> Result<Told> {
    // Positions of segments that a compaction has taken away since name nothing.
    let there = |id| now.segments.iter().any(|segment| segment.meta.id == id);
    if change.deletes.iter().any(|deletes| !change.appends(deletes.segment) && !there(deletes.segment)) {
        let name = now.def.qualified_name();
        return Err(conflict(format!("segments of {name} were merged meanwhile")));
    }
    let deleted = claims.deleted(change);
    let since = compared.version();
    if deleted.is_empty() || now.last_delete <= since {
        return Ok(Told::Holds);
    }
    if now.deletes_hot(deleted) {
        return Err(same_rows(&now.def.qualified_name()));
    }
    Ok(if deletes_moved(since, now, change, claims) { Told::Unsure } else { Told::Holds })
}

fn appends(compared: &Snapshot, now: &TableState, change: &TableChange, claims: &Claims) -> Result<Told> {
    let since = compared.version();
    if now.key_encoder().is_none() || now.last_append <= since || !claims.writes_keys(change) {
        return Ok(Told::Holds);
    }
    if keys_moved(since, now, change, claims) {
        return Ok(Told::Unsure);
    }
    let deleted = claims.deleted(change);
    if let Some(keys) = &claims.keys {
        for row in 0..keys.len() {
            if let Some(id) = now.hot_keys.find(&keys.to_owned(row))
                && !now.hot_deletes.contains(id)
                && deleted.binary_search(&id).is_err()
            {
                return Err(same_key(&now.def.qualified_name()));
            }
        }
    }
    let Some(filters) = claims.filters.as_ref().filter(|filters| !filters.is_empty()) else {
        return Ok(Told::Holds);
    };
    // A table that was created since is not the one whose rows were compared.
    let Some(before) = compared.state().tables.get(&change.table) else { return Ok(Told::Unsure) };
    let Some(keys) = now.hot_keys_from(before.next_row_id, ROWS_IN_ORDER_MAX)? else {
        return Ok(Told::Unsure);
    };
    let may_hold = |hash: u64| filters.iter().any(|filter| filter.contains(hash));
    Ok(if keys.iter().any(|key| may_hold(key.filter_hash())) { Told::Unsure } else { Told::Holds })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use arrow::array::{ArrayRef, Int64Array};

    use super::*;
    use crate::checkpoint::CheckpointReason;
    use crate::database::tests::{change, create, insert, memory};
    use crate::database::{Database, now_us};
    use crate::id::{CommitId, Epoch};
    use crate::wal::{CommitInfo, RowBody};

    fn rows(keys: std::ops::Range<i64>) -> Vec<(i64, String)> {
        keys.map(|key| (key, String::new())).collect()
    }

    /// A large load meets rows that others add after it was compared with everything before.
    #[tokio::test]
    async fn filters_tell_of_rows_that_came_last() {
        let (root, options) = memory();
        let db = Database::open(root, options).await.unwrap();
        let (table, other) = (create(&db, "t", true).await.unwrap(), create(&db, "o", true).await.unwrap());
        insert(&db, other, &rows(0..3)).await.unwrap();
        db.checkpoint(CheckpointReason::Statement).await.unwrap();
        let before = db.snapshot();
        let written = before.state().tables[&other].segments[0].meta.as_ref().clone();
        let entry = WalEntry {
            version: CommitVersion(0),
            epoch: Epoch(1),
            commit_id: CommitId::random(),
            time_us: now_us(),
            info: CommitInfo::default(),
            catalog: Vec::new(),
            tables: vec![TableChange {
                table,
                schema_version: before.table(table).unwrap().def().schema_version,
                first_row_id: RowId(0),
                rows: RowBody::Batches(Vec::new()),
                deleted: Vec::new(),
                segments: vec![written],
                deletes: Vec::new(),
                truncate: false,
            }],
        };
        let encoder = before.table(table).unwrap().key_encoder().unwrap().unwrap();
        let filter = |keys: &[i64]| {
            let column: ArrayRef = Arc::new(Int64Array::from(keys.to_vec()));
            let encoded = encoder.encode(&[column]).unwrap();
            let hashes: Vec<u64> =
                (0..encoded.len()).map(|row| encoded.to_owned(row).filter_hash()).collect();
            Some(vec![Arc::new(KeyFilter::build(hashes.into_iter()))])
        };
        let asked = |filters: Option<Vec<Arc<KeyFilter>>>| {
            let claims = [Claims { filters, ..Claims::default() }];
            let now = db.snapshot();
            let told = check(&before, &before, now.state(), &entry, &claims, WholeTables::AsFound).unwrap();
            (told, is_unsure(&before, now.state(), &entry, &claims))
        };
        assert_eq!(asked(None), (Told::Holds, false), "nobody has added a row");
        insert(&db, table, &rows(5..6)).await.unwrap();
        assert_eq!(asked(None), (Told::Unsure, true), "the filters are to be read");
        assert_eq!(asked(filter(&[6, 7])), (Told::Holds, false));
        assert_eq!(asked(filter(&[5, 7])), (Told::Unsure, false), "only the segment tells");
        change(&db, table, &[5], &[]).await.unwrap();
        assert_eq!(asked(filter(&[5, 7])), (Told::Holds, false), "it is gone again");
        insert(&db, table, &rows(100..101 + ROWS_IN_ORDER_MAX as i64)).await.unwrap();
        assert_eq!(asked(filter(&[6, 7])).0, Told::Unsure, "too many to be compared in the order");
    }
}
