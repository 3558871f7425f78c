//! Leaves in a directory: one goes when no manifest names it any more (ADR 48).
//!
//! Owns: which leaves those are. Does not own: which manifests stay, and when it is looked (`local`).
//!
//! Order: a manifest goes first, durably, and its leaves after it. So whatever is lost in between, a manifest that is there has all of its leaves, and
//! whoever may choose it (a reader that has locked it, a repair that falls back to it) can load it. A leaf that stays is an orphan, found when later
//! manifests go, and by VACUUM.
//!
//! The rule is that of all objects (`live`), with the oldest manifest that is there for g: a checkpoint names a leaf again only when the one before it
//! did, so below `settled` of g, what g does not name no later manifest names either. Leaves of a checkpoint that runs have ids above every `settled`.

use futures::TryStreamExt;
use object_store::path::Path;
use object_store::{ObjectMeta, ObjectStoreExt};

use super::super::live::Named;
use super::super::name::{LEAVES, ObjectName};
use super::super::plan::Dead;
use super::{CollectReceipt, lowest};
use crate::database::Database;
use crate::error::{ErrorKind, Result};
use crate::id::{ManifestNumber, ObjectId};
use crate::jobs::Stop;
use crate::manifest::Manifest;

/// Leaves removed at the end of one checkpoint: each waits for the disk.
const LEAVES_AT_ONCE: usize = 1_000;

/// Removes leaves that no manifest names. How many leaves there were; None: not all of those are gone that might be. With `asked` it asks every
/// manifest, and goes on until that says to stop: so it finds what checkpoints that failed have left, too. The caller sees to it that no checkpoint
/// runs.
///
/// # Errors
/// Storage errors, `Cancelled`; what was removed by then nobody needed.
pub(super) async fn remove(
    database: &Database,
    newest: &Manifest,
    asked: Option<&Stop>,
    receipt: &mut CollectReceipt,
) -> Result<Option<u64>> {
    let store = &*database.shared.store;
    let listed: Vec<ObjectMeta> = store.list(Some(&Path::from(LEAVES))).try_collect().await?;
    let there = listed.len() as u64;
    if there == 0 {
        return Ok(Some(0));
    }
    let Some((settled, named)) = needed(database, newest, asked).await? else { return Ok(None) };
    let mut removed = 0;
    for ObjectMeta { location, size, .. } in listed {
        let Some(ObjectName::Made(kind, id)) = ObjectName::of(location.as_ref()) else { continue };
        if id >= settled || named.contains(id) {
            continue;
        }
        match asked {
            Some(stop) => stop.check()?,
            None if removed == LEAVES_AT_ONCE => return Ok(None),
            None => removed += 1,
        }
        match store.delete(&location).await {
            Ok(()) => receipt.count(&Dead { location, kind, bytes: size }),
            Err(object_store::Error::NotFound { .. }) => {}
            Err(error) => return Err(error.into()),
        }
        tokio::task::yield_now().await;
    }
    Ok(Some(there))
}

/// Of ids below the first, leaves that the second does not contain are named by no manifest; None: that is not known.
async fn needed(
    database: &Database,
    newest: &Manifest,
    asked: Option<&Stop>,
) -> Result<Option<(ObjectId, Named)>> {
    let manifests = &database.manifests;
    let mut named = Named::default();
    named.add_leaves(newest);
    let mut settled = newest.settled;
    let oldest = lowest(database, newest.number).await?;
    for number in (oldest.0..newest.number.0).map(ManifestNumber) {
        asked.map_or(Ok(()), Stop::check)?;
        match manifests.read(number).await {
            // Copied here from elsewhere: what the one that stood there names nobody knows.
            Ok(manifest) if manifest.database_id != database.id() => return Ok(None),
            Ok(manifest) => {
                named.add_leaves(&manifest);
                if asked.is_none() {
                    settled = settled.min(manifest.settled);
                    break;
                }
            }
            Err(error) if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::Corrupt) => {
                // A mark names nothing. What is damaged may be brought back, and goes in its turn otherwise.
                if !manifests.is_marked(number, database.id()).await? {
                    return Ok(None);
                }
            }
            Err(error) => return Err(error),
        }
        // Reading a file does not wait, and there may be thousands.
        tokio::task::yield_now().await;
    }
    // None: a Cairn wrote it that did not note it.
    Ok(settled.map(|settled| (settled, named)))
}
