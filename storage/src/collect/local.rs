//! Collecting in a directory, and in memory: what no manifest in use names is removed as soon as nobody stands on one that does.
//!
//! The rule is that of object stores (`live`), without a grace. Let g be the oldest manifest that somebody stands on: the newest one,
//! one that a version read in this process stands on, or one whose file a reader in another process has locked. Below `settled`
//! of g, what g does not name is dead. Whoever reads locks first and then looks whether the manifest is still the newest, so no
//! manifest but the newest is ever locked anew.
//!
//! It runs at the end of a checkpoint, and for VACUUM, while no other begins.
//!
//! Of manifests the newest [`MANIFESTS_KEPT`] stay, g and all after it, and those that tell VERIFY which commits can still be asked for by their ids.
//! They go one after the other, the oldest first, each durably: so at every moment those that are there stand side by side up to the newest, which is
//! found by counting up from any of them (D11), and whoever still finds one that he has locked knows that none after it is gone. Where a number was
//! missing, or has a mark since, it goes in its turn: one that stayed alone below the others would be taken for the newest. Leaves go after them (`leaves`).

mod leaves;

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};
use std::time::Instant;

use futures::StreamExt;
use object_store::ObjectStoreExt;
use object_store::path::Path;

use super::live::Named;
use super::name::ObjectName;
use super::plan::Dead;
use super::{CollectReceipt, table_folder};
use crate::database::{Database, Writer, pin_path};
use crate::error::{ErrorKind, Result};
use crate::fs::OpenMode;
use crate::id::{ManifestNumber, TableId};
use crate::jobs::Stop;
use crate::manifest::Manifest;
use crate::manifest::history::is_over;
use crate::manifest::store::manifest_path;

/// Newest manifests that stay although nobody stands on them: what a repair may fall back to, and what VERIFY compares with each other.
const MANIFESTS_KEPT: u64 = 32;
/// Manifests removed at the end of one checkpoint: each waits for the disk.
const MANIFESTS_AT_ONCE: usize = 1_000;
/// For each so many leaves one more manifest goes before they are listed again: what a checkpoint costs does not grow with those of a day.
const LEAVES_LISTED: u64 = 1_024;

/// What sweeps of one open database remember.
#[derive(Debug)]
pub(crate) struct Swept(Mutex<State>);

#[derive(Debug)]
struct State {
    /// Nobody stands on an older manifest.
    from: ManifestNumber,
    /// Whether there may be something to remove that was not looked for.
    due: bool,
    /// The oldest manifest that should be there: those before it were removed. None: nobody has looked yet.
    lowest: Option<ManifestNumber>,
    /// Leaves that no manifest names are looked for again once the oldest manifest is this one. None: nobody has looked yet.
    leaves_due: Option<ManifestNumber>,
}

impl Default for Swept {
    fn default() -> Self {
        // What earlier processes left is looked for once.
        Self(Mutex::new(State { from: ManifestNumber(0), due: true, lowest: None, leaves_due: None }))
    }
}

impl Swept {
    /// Tells that something was replaced.
    pub(crate) fn set_due(&self) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).due = true;
    }

    /// Whether that manifest was removed. The caller sees to it that no checkpoint runs.
    pub(crate) fn has_removed(&self, number: ManifestNumber) -> bool {
        self.lowest().is_some_and(|lowest| number < lowest)
    }

    /// Whether there may be something to remove; from now on nothing is known to be.
    pub(crate) fn take_due(&self) -> bool {
        std::mem::take(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner).due)
    }

    fn from(&self) -> ManifestNumber {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).from
    }

    fn set_from(&self, from: ManifestNumber) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).from = from;
    }

    fn lowest(&self) -> Option<ManifestNumber> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).lowest
    }

    fn set_lowest(&self, lowest: ManifestNumber) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).lowest = Some(lowest);
    }

    fn leaves_due(&self) -> Option<ManifestNumber> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).leaves_due
    }

    fn set_leaves_due(&self, oldest: ManifestNumber) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).leaves_due = Some(oldest);
    }
}

/// The oldest manifest that should be there, of a directory in which `lowest` is the oldest that is, and `highest` the newest.
pub(crate) fn oldest_kept(lowest: ManifestNumber, highest: ManifestNumber) -> ManifestNumber {
    match highest.0 <= MANIFESTS_KEPT {
        // None was ever removed.
        true => ManifestNumber(1),
        false => lowest,
    }
}

/// Removes what nobody needs once `newest` is published, if something was `replaced` since the last time. The caller sees to it that no
/// checkpoint runs. On an object store it does nothing.
///
/// # Errors
/// Storage errors; what was removed by then was needed by nobody.
pub(crate) async fn sweep(
    database: &Database,
    writer: &Writer,
    newest: &Manifest,
    replaced: bool,
) -> Result<()> {
    if database.shared.remote {
        return Ok(());
    }
    let swept = &database.swept;
    if replaced {
        swept.set_due();
    }
    let removed = remove_manifests(database, newest.number).await;
    let removed = removed.and(remove_leaves(database, newest).await);
    if !swept.take_due() {
        return removed;
    }
    let done = run(database, writer, newest, None, None).await;
    // Held back, or failed: there may be more at the next checkpoint.
    if !done.as_ref().is_ok_and(|receipt| !receipt.more) {
        swept.set_due();
    }
    done.and(removed)
}

/// Removes manifests that nobody needs any more.
///
/// # Errors
/// Storage errors; what is left is looked for at the next checkpoint.
async fn remove_manifests(database: &Database, newest: ManifestNumber) -> Result<()> {
    let swept = &database.swept;
    let lowest = lowest(database, newest).await?;
    let kept = ManifestNumber(newest.0.saturating_sub(MANIFESTS_KEPT - 1));
    if lowest >= kept {
        return Ok(());
    }
    let oldest = oldest_locked(database, newest)?;
    let oldest = database.shared.pins.oldest().map_or(oldest, |pinned| pinned.min(oldest));
    let now_us = database.options().clock.now_us();
    for number in (lowest.0..kept.min(oldest).0).take(MANIFESTS_AT_ONCE).map(ManifestNumber) {
        // Which commits the next one is the first to hold, only this one tells: their ids are found in `history`, as long as they can be asked for.
        match database.manifests.read(number.next()).await {
            Ok(next) if !is_over(next.time_us, now_us) => break,
            Ok(_) => {}
            // Damaged or missing, or a mark: it tells nothing.
            Err(error) if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::Corrupt) => {}
            Err(error) => return Err(error),
        }
        // Durable when it returns, in a directory.
        match database.shared.store.delete(&Path::from(manifest_path(number))).await {
            Ok(()) | Err(object_store::Error::NotFound { .. }) => {}
            Err(error) => return Err(error.into()),
        }
        swept.set_lowest(number.next());
        tokio::task::yield_now().await;
    }
    Ok(())
}

/// Removes leaves that no manifest names any more, when enough manifests were removed since it was done last, or nobody has looked yet.
///
/// # Errors
/// Storage errors; what is left is looked for at the next checkpoint.
async fn remove_leaves(database: &Database, newest: &Manifest) -> Result<()> {
    let swept = &database.swept;
    let oldest = lowest(database, newest.number).await?;
    if swept.leaves_due().is_some_and(|due| oldest < due) {
        return Ok(());
    }
    if let Some(listed) = leaves::remove(database, newest, None, &mut CollectReceipt::default()).await? {
        swept.set_leaves_due(ManifestNumber(oldest.next().0.saturating_add(listed / LEAVES_LISTED)));
    }
    Ok(())
}

/// The oldest manifest that should be there. While none was ever removed it is the first, whether or not it is missing.
async fn lowest(database: &Database, newest: ManifestNumber) -> Result<ManifestNumber> {
    let swept = &database.swept;
    if let Some(lowest) = swept.lowest() {
        return Ok(lowest);
    }
    let listed = database.manifests.listed_range().await?;
    let lowest = listed.map_or(newest, |(lowest, _)| oldest_kept(lowest, newest));
    swept.set_lowest(lowest);
    Ok(lowest)
}

/// Removes what nobody needs, whether or not anything is known to have been replaced: what was left by work that failed or was killed is
/// found too. Of one table where that is given, and until `stop` says so. The caller sees to it that no checkpoint runs.
///
/// # Errors
/// Storage errors, `Cancelled`; what was removed by then was needed by nobody.
pub(crate) async fn sweep_all(
    database: &Database,
    writer: &Writer,
    newest: &Manifest,
    table: Option<TableId>,
    stop: &Stop,
) -> Result<CollectReceipt> {
    let begun = Instant::now();
    // Locks are looked for from there on.
    lowest(database, newest.number).await?;
    let mut done = run(database, writer, newest, table, Some(stop)).await?;
    if table.is_none() && leaves::remove(database, newest, Some(stop), &mut done).await?.is_none() {
        // A manifest is damaged: what it names stays.
        done.more = true;
    }
    Ok(CollectReceipt { duration: begun.elapsed(), ..done })
}

/// There is `more` in what it returns when not everything that the newest manifest has replaced could be removed.
async fn run(
    database: &Database,
    writer: &Writer,
    newest: &Manifest,
    table: Option<TableId>,
    stop: Option<&Stop>,
) -> Result<CollectReceipt> {
    let oldest = oldest_locked(database, newest.number)?;
    let oldest = database.shared.pins.oldest().map_or(oldest, |pinned| pinned.min(oldest));
    let mut receipt =
        CollectReceipt { more: oldest != newest.number, oldest: Some(oldest), ..CollectReceipt::default() };
    if oldest == ManifestNumber(0) {
        return Ok(CollectReceipt { more: true, oldest: None, ..receipt });
    }
    let held = match oldest == newest.number {
        true => None,
        false => Some(database.manifests.read(oldest).await?),
    };
    let manifest = held.as_ref().unwrap_or(newest);
    // Written by a Cairn that did not note it.
    let Some(settled) = manifest.settled else { return Ok(CollectReceipt { more: true, ..receipt }) };
    let mut named = Named::default();
    named.add_manifest(&database.manifests, manifest).await?;
    // It follows from the rest; were it wrong, what is in use would stay all the same.
    named.add_manifest(&database.manifests, newest).await?;
    named.add_version(&writer.order.published());
    named.add_version(&writer.order.head());
    let store = &*database.shared.store;
    let mut dead = BTreeMap::new();
    let folder = table.map_or_else(|| "table".to_owned(), table_folder);
    let mut objects = store.list(Some(&Path::from(folder)));
    while let Some(object) = objects.next().await {
        let object = object?;
        if let Some(ObjectName::Made(kind, id)) = ObjectName::of(object.location.as_ref())
            && id < settled
            && !named.contains(id)
        {
            dead.insert(object.location, (id, kind, object.size));
        }
    }
    // What is mapped of them would keep their space.
    database.shared.cache.forget(&dead.values().map(|(id, ..)| *id).collect());
    for (location, (_, kind, bytes)) in dead {
        stop.map_or(Ok(()), Stop::check)?;
        match store.delete(&location).await {
            Ok(()) => receipt.count(&Dead { location, kind, bytes }),
            Err(object_store::Error::NotFound { .. }) => {}
            Err(error) => return Err(error.into()),
        }
        // Each waits for the disk on this thread, and there may be many.
        tokio::task::yield_now().await;
    }
    Ok(receipt)
}

/// The oldest manifest that a reader in another process has locked, `newest` when there is none.
fn oldest_locked(database: &Database, newest: ManifestNumber) -> Result<ManifestNumber> {
    let Some(fs) = &database.shared.files else { return Ok(newest) };
    let mut number = database.swept.from();
    let lowest = database.swept.lowest().unwrap_or_default();
    while number < newest {
        let path = pin_path(number);
        let what = |e| crate::error::Error::io(format!("looking whether {path} is read"), e);
        match fs.open(&path, OpenMode::Read) {
            Ok(file) => {
                if !file.try_lock(false).map_err(what)? {
                    break;
                }
            }
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
            Err(error) => return Err(what(error)),
        }
        number = number.next().max(lowest);
        database.swept.set_from(number);
    }
    Ok(number.min(newest))
}
