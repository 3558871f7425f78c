//! From a manifest and the log's entries back to a state: the same for recovery and for a follower.

use std::collections::HashMap;
use std::sync::Arc;

use object_store::ObjectStore;

use super::VersionRow;
use crate::error::{self, DAMAGE_HINT, Error, ErrorKind, Result};
use crate::id::CommitVersion;
use crate::manifest::history::Recorded;
use crate::manifest::{Manifest, ManifestStore, SegmentEntry};
use crate::segment::{DeletesMeta, DeletionVector};
use crate::version::{Catalog, LoadedDeletes, Pin, SegmentState, TableState, Version};
use crate::wal::{CatalogEdit, Recovered, SegmentSwap, WalEntry, codec};

/// What a `.deletes` object that is named and not there means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Missing {
    /// Damage of its segment; the rest of the database goes on.
    Damage,
    /// That it was collected since it was named: load anew.
    Collected,
}

/// The state a manifest describes.
///
/// # Errors
/// Storage errors from leaves and `.deletes` objects.
pub(crate) async fn base(
    manifest: Option<&Manifest>,
    manifests: &ManifestStore,
    store: &Arc<dyn ObjectStore>,
    missing: Missing,
) -> Result<Version> {
    let Some(manifest) = manifest else { return Ok(Version::default()) };
    let mut tables = imbl::OrdMap::new();
    for record in &manifest.tables {
        let mut segments = Vec::new();
        for entry in manifests.load_table(record).await? {
            segments.push(Arc::new(segment(entry, store, missing).await?));
        }
        let state = TableState::restored(
            Arc::clone(&record.def),
            record.next_row_id,
            record.flushed,
            segments,
            record.dropped_at,
        )
        .with_units(record.units.clone())
        .with_numbered(record.numbered);
        tables.insert(record.def.id, Arc::new(state));
    }
    let live = manifest.tables.iter().filter(|t| t.dropped_at.is_none()).map(|t| Arc::clone(&t.def));
    Ok(Version {
        number: manifest.version,
        time_us: manifest.time_us,
        catalog: Arc::new(Catalog::from_record(&manifest.catalog, live)),
        catalog_changed: manifest.version,
        names_changed: manifest.version,
        tables,
        next_table_id: manifest.next_table_id,
        horizon: manifest.horizon,
        manifest: manifest.number,
        recorded: Arc::new(Recorded::of(manifest)),
        pin: Pin::new(manifest.number),
    })
}

async fn segment(
    entry: SegmentEntry,
    store: &Arc<dyn ObjectStore>,
    missing: Missing,
) -> Result<SegmentState> {
    let mut deletes: Option<Arc<DeletionVector>> = None;
    let mut damaged = None;
    for meta in &entry.deletes {
        match load(store, meta, missing).await? {
            Ok(loaded) => {
                deletes = Some(match deletes {
                    None => loaded,
                    Some(known) => Arc::new(DeletionVector::merge(&known, &loaded)),
                });
            }
            Err(error) => damaged = Some(error),
        }
    }
    Ok(SegmentState {
        meta: entry.segment,
        delete_objects: entry.deletes,
        deletes,
        dropped_at: entry.dropped_at,
        damaged,
    })
}

/// Applies recovered entries in order; returns the state and the commits' rows for the history.
///
/// # Errors
/// `Corrupt` naming file and offset when an entry does not decode, does not follow, or does not fit the state.
pub(crate) async fn apply(
    mut state: Version,
    entries: Vec<Recovered>,
    store: &Arc<dyn ObjectStore>,
    missing: Missing,
) -> Result<(Version, Vec<VersionRow>)> {
    let mut history = Vec::with_capacity(entries.len());
    for recovered in entries {
        let place = format!("wal/{:020} at offset {}", recovered.number.0, recovered.offset);
        let entry = codec::decode(recovered.payload).map_err(|e| Error::corrupt(&place, e.message()))?;
        check_order(&state, &entry, &place)?;
        let deletes = load_deletes(&state, &entry, store, missing).await?;
        history.push(row(&entry));
        state = state.apply(&entry, &deletes)?;
    }
    Ok((state, history))
}

fn check_order(state: &Version, entry: &WalEntry, place: &str) -> Result<()> {
    let next = state.number.next();
    // Entries the manifest knows already may stand before; a gap after it never.
    if entry.version > next {
        return Err(Error::corrupt(
            place,
            format!("it holds version {}, but {next} is expected", entry.version),
        ));
    }
    Ok(())
}

async fn load_deletes(
    state: &Version,
    entry: &WalEntry,
    store: &Arc<dyn ObjectStore>,
    missing: Missing,
) -> Result<LoadedDeletes> {
    let mut loaded = HashMap::new();
    for edit in &entry.catalog {
        if let CatalogEdit::SwapSegments(swap) = edit {
            load_swapped(state, entry.version, swap, store, missing, &mut loaded).await?;
        }
    }
    for change in &entry.tables {
        let flushed = state.tables.get(&change.table).map_or(CommitVersion(0), |t| t.flushed);
        if entry.version <= flushed {
            continue;
        }
        for meta in &change.deletes {
            let mut meta = meta.clone();
            meta.version = Some(entry.version);
            loaded.insert(meta.id, load(store, &meta, missing).await?);
        }
    }
    Ok(loaded)
}

/// The deletes of segments that took the place of others.
async fn load_swapped(
    state: &Version,
    version: CommitVersion,
    swap: &SegmentSwap,
    store: &Arc<dyn ObjectStore>,
    missing: Missing,
    loaded: &mut LoadedDeletes,
) -> Result<()> {
    let flushed = state.tables.get(&swap.table).map_or(CommitVersion(0), |t| t.flushed);
    if version <= flushed {
        return Ok(());
    }
    for meta in swap.added.iter().flat_map(|entry| &entry.deletes) {
        loaded.insert(meta.id, load(store, meta, missing).await?);
    }
    Ok(())
}

/// The deletion vector of one object, or what is wrong with it when it is missing or damaged.
async fn load(
    store: &Arc<dyn ObjectStore>,
    meta: &DeletesMeta,
    missing: Missing,
) -> Result<Result<Arc<DeletionVector>>> {
    match DeletionVector::load(&**store, meta).await {
        Ok(vector) => Ok(Ok(Arc::new(vector))),
        Err(error) if error.kind() == ErrorKind::NotFound && missing == Missing::Damage => {
            Ok(Err(error::missing(&meta.path())))
        }
        Err(error) if error.kind() == ErrorKind::Corrupt => Ok(Err(error.with_hint(DAMAGE_HINT))),
        Err(error) => Err(error),
    }
}

/// The history row of an entry.
pub(crate) fn row(entry: &WalEntry) -> VersionRow {
    VersionRow {
        version: entry.version,
        time_us: entry.time_us,
        commit_id: entry.commit_id,
        info: entry.info.clone(),
        tables: entry.tables.iter().map(|t| t.table).collect(),
        rows_added: total(
            entry.tables.iter().flat_map(|t| t.segments.iter().map(|s| s.rows).chain([t.rows.rows()])),
        ),
        rows_deleted: total(
            entry
                .tables
                .iter()
                .flat_map(|t| t.deletes.iter().map(|d| d.rows).chain([t.deleted.len() as u64])),
        ),
    }
}

/// The sum of what bytes claim, which may be anything.
fn total(rows: impl Iterator<Item = u64>) -> u64 {
    rows.fold(0, u64::saturating_add)
}
