//! Conflict rules, run inside the commit order against the accepted head: only what happened in (snapshot, head]
//! matters, accepted-but-not-durable commits included.
//!
//! Where the head can no longer tell exactly (a checkpoint or a bulk load in between moved the facts into
//! segments), the answer is a conflict: the statement runs again on a fresh snapshot.

use crate::error::{Error, ErrorKind, Result};
use crate::segment::key::EncodedKeys;
use crate::version::{Snapshot, TableState, Version};
use crate::wal::{CatalogEdit, TableChange, WalEntry};

fn conflict(what: String) -> Error {
    Error::new(ErrorKind::Conflict, what).with_hint("run the statement again")
}

/// Whether `entry`, made at `snapshot`, still holds on `head`.
///
/// # Errors
/// `Conflict`.
pub(crate) fn check(
    snapshot: &Snapshot,
    head: &Version,
    entry: &WalEntry,
    keys: &[Option<EncodedKeys>],
    whole: WholeTables,
) -> Result<()> {
    if !entry.catalog.is_empty() && head.catalog_changed > snapshot.version() {
        return Err(conflict("another session changed the catalog meanwhile".to_owned()));
    }
    for edit in &entry.catalog {
        definition(snapshot, head, edit, whole)?;
    }
    for (change, keys) in entry.tables.iter().zip(keys) {
        // A table that is not there yet is created by this very entry.
        let Some(now) = head.tables.get(&change.table) else { continue };
        let name = now.def.qualified_name();
        // Rows for a definition of this very entry: it is refused above when another one came between.
        let defined =
            |edit: &CatalogEdit| matches!(edit, CatalogEdit::PutTable(def) if def.id == change.table);
        let of_now = now.def.schema_version == change.schema_version || entry.catalog.iter().any(defined);
        if now.dropped_at.is_some() || !of_now {
            return Err(conflict(format!("another session changed the definition of {name} meanwhile")));
        }
        let base = snapshot.state().tables.get(&change.table);
        // Vectors were checked under the metrics of the indexes there were.
        let indexes_changed = base.is_some_and(|base| base.def.indexes != now.def.indexes);
        if indexes_changed && (change.rows.rows() > 0 || !change.segments.is_empty()) {
            return Err(conflict(format!("another session changed the indexes of {name} meanwhile")));
        }
        if change.truncate && whole == WholeTables::AsRead {
            unchanged(snapshot, now, &name)?;
        }
        deletes(snapshot, now, change, &name)?;
        appends(snapshot, now, change, keys.as_ref(), &name)?;
    }
    Ok(())
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
fn unchanged(snapshot: &Snapshot, now: &TableState, name: &str) -> Result<()> {
    if now.last_append > snapshot.version() || now.last_delete > snapshot.version() {
        return Err(conflict(format!("another session changed rows of {name} meanwhile")));
    }
    Ok(())
}

fn definition(snapshot: &Snapshot, head: &Version, edit: &CatalogEdit, whole: WholeTables) -> Result<()> {
    let table = match edit {
        CatalogEdit::PutTable(def) => def.id,
        CatalogEdit::DropTable { table } if whole == WholeTables::AsRead => *table,
        _ => return Ok(()),
    };
    let Some(now) = head.tables.get(&table) else { return Ok(()) };
    let name = now.def.qualified_name();
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
        _ => unchanged(snapshot, now, &name),
    }
}

fn deletes(snapshot: &Snapshot, now: &TableState, change: &TableChange, name: &str) -> Result<()> {
    let since = snapshot.version();
    if change.deleted.is_empty() && change.deletes.is_empty() {
        return Ok(());
    }
    let other = || conflict(format!("another session changed the same rows of {name} meanwhile"));
    let in_bulk = change.deletes.iter().any(|deletes| !change.appends(deletes.segment));
    // Positions of segments that a compaction has taken away since name nothing.
    let there = |id| now.segments.iter().any(|segment| segment.meta.id == id);
    if change.deletes.iter().any(|deletes| !change.appends(deletes.segment) && !there(deletes.segment)) {
        return Err(conflict(format!("segments of {name} were merged meanwhile")));
    }
    // Deletes since the snapshot that the hot deletes do not show one by one.
    let hidden = now.last_bulk_delete > since || (now.flushed > since && now.last_delete > since);
    if hidden || (in_bulk && now.last_delete > since) {
        return Err(other());
    }
    if now.last_delete > since && change.deleted.iter().any(|id| now.hot_deletes.contains_key(id)) {
        return Err(other());
    }
    Ok(())
}

fn appends(
    snapshot: &Snapshot,
    now: &TableState,
    change: &TableChange,
    keys: Option<&EncodedKeys>,
    name: &str,
) -> Result<()> {
    let since = snapshot.version();
    if now.key_encoder().is_none() || now.last_append <= since {
        return Ok(());
    }
    let writes_keys = keys.is_some_and(|k| !k.is_empty()) || !change.segments.is_empty();
    if !writes_keys {
        return Ok(());
    }
    let other = || conflict(format!("another session wrote the same key of {name} meanwhile"));
    // Keys written since the snapshot that the hot keys do not show, and keys of ours that are in segments.
    if now.last_load > since || now.flushed > since || !change.segments.is_empty() {
        return Err(other());
    }
    let Some(keys) = keys else { return Ok(()) };
    for row in 0..keys.len() {
        if let Some(id) = now.hot_keys.find(&keys.to_owned(row))
            && !now.hot_deletes.contains_key(&id)
            && change.deleted.binary_search(&id).is_err()
            && !change.truncate
        {
            return Err(other());
        }
    }
    Ok(())
}
