//! Taking units away: those that cover nothing any more, and objects that nothing names.
//!
//! A removal comes after the commit that takes the name away, and is best effort: what a failure or a crash leaves costs space,
//! VERIFY counts it, and the next writer removes it. In an object store readers elsewhere may hold a unit: there all is left to the
//! collector (`collect`).

use std::collections::HashSet;
use std::sync::Arc;

use futures::StreamExt;
use object_store::ObjectStoreExt;
use object_store::path::Path;

use super::policy;
use crate::database::Database;
use crate::error::{ErrorKind, Result};
use crate::id::{IndexId, ObjectId, TableId};
use crate::transaction::CommitOptions;
use crate::wal::CatalogEdit;

/// Drops units none of whose segments is there any more, where no other is due that would take their place: after TRUNCATE there is none. Where one is
/// due, they may have the rows that it is due for (`cover`). `lost` names units that are to be built anew.
pub(super) async fn retire(
    database: &Arc<Database>,
    table: Option<TableId>,
    lost: &HashSet<ObjectId>,
) -> Result<()> {
    let snapshot = database.snapshot();
    for state in snapshot.state().live_tables().filter(|t| table.is_none_or(|id| id == t.def.id)) {
        let present = |id: ObjectId| state.segments.iter().any(|s| s.meta.id == id && s.dropped_at.is_none());
        let due = state.def.indexes.iter().filter(|index| policy::next(state, index, lost).is_some());
        let due: HashSet<IndexId> = due.map(|index| index.id).collect();
        let gone = state.units.iter().filter(|unit| !unit.segments.iter().any(|s| present(s.id)));
        let gone = gone.filter(|unit| !due.contains(&unit.index));
        let units: Vec<ObjectId> = gone.map(|unit| unit.id).collect();
        if units.is_empty() {
            continue;
        }
        let transaction = database.begin(&snapshot).await?;
        transaction.edit(CatalogEdit::DropUnits { table: state.def.id, units: units.clone() })?;
        match transaction.commit(CommitOptions::default()).await {
            Ok(_) => remove(database, state.def.id, &units).await,
            // The next pass finds them again.
            Err(error) if error.kind() == ErrorKind::Conflict => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

/// Best effort: a search that still wants one compares its rows exactly. On object storage, where readers may hold them, the
/// collector does it.
pub(crate) async fn remove(database: &Database, table: TableId, units: &[ObjectId]) {
    if database.shared.remote {
        return;
    }
    for unit in units {
        let _ = database.object_store().delete(&Path::from(format!("table/{table}/index/{unit}.hnsw"))).await;
    }
    // Mapped, it would keep its space.
    database.shared.cache.forget(&units.iter().copied().collect());
}

/// Removes what earlier writers left of units that no commit names: a build that was killed, a removal that failed.
/// Object ids begin with the writer's epoch, so nothing of this one's is touched. On object storage the collector does it.
pub(crate) async fn sweep(database: &Database) -> Result<()> {
    if database.shared.remote {
        return Ok(());
    }
    let epoch = database.writer()?.epoch;
    let store = database.object_store();
    for (table, state) in &database.snapshot().state().tables {
        if state.def.indexes.is_empty() && state.dropped_at.is_none() {
            continue;
        }
        let named: HashSet<String> = state.units.iter().map(|unit| unit.path()).collect();
        let mut objects = store.list(Some(&Path::from(format!("table/{table}/index"))));
        while let Some(object) = objects.next().await {
            let path = object?.location;
            let older =
                path.filename().and_then(|name| u64::from_str_radix(name.split('-').next()?, 16).ok());
            if older.is_some_and(|of| of < epoch.0) && !named.contains(path.as_ref()) {
                let _ = store.delete(&path).await;
            }
        }
    }
    Ok(())
}
