//! Reading along with another process that writes the same local root.
//!
//! Owns: the follower's published version and how it catches up: log entries as they become durable, or the newest
//! manifest when the log it needs is gone. It writes nothing, repairs nothing and never shows what is not durable.

use std::sync::{Arc, Mutex, PoisonError, RwLock};

use super::{Database, VersionRow, open, replay};
use crate::error::{Error, Result};
use crate::fs::FileSystem;
use crate::id::{DatabaseId, ManifestNumber, WalNumber};
use crate::manifest::ManifestStore;
use crate::version::{Shared, Version};
use crate::wal::{FileWalFollower, Followed, WalStatus};

/// How often loading is tried while the writer removes what is being loaded.
const LOAD_ATTEMPTS: usize = 20;
/// A follower whose hot rows take this much looks for a newer manifest.
const HOT_BYTES_MAX: u64 = 64 << 20;

/// See the module.
#[derive(Debug)]
pub(crate) struct Follower {
    fs: Arc<dyn FileSystem>,
    id: DatabaseId,
    published: RwLock<Arc<Version>>,
    /// Held while catching up. None after an error: the next refresh loads anew.
    log: tokio::sync::Mutex<Option<FileWalFollower>>,
    history: Mutex<Vec<VersionRow>>,
}

impl Follower {
    pub(super) async fn open(
        fs: Arc<dyn FileSystem>,
        id: DatabaseId,
        manifests: &ManifestStore,
        shared: &Shared,
    ) -> Result<Self> {
        let (state, history, log) = load(&fs, id, manifests, shared, ManifestNumber(0)).await?;
        Ok(Self {
            fs,
            id,
            published: RwLock::new(Arc::new(state)),
            log: tokio::sync::Mutex::new(Some(log)),
            history: Mutex::new(history),
        })
    }

    pub(super) fn published(&self) -> Arc<Version> {
        Arc::clone(&self.published.read().unwrap_or_else(PoisonError::into_inner))
    }

    pub(super) fn history(&self) -> Vec<VersionRow> {
        self.history.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    pub(super) fn status(&self) -> WalStatus {
        WalStatus { durable: self.published().number, ..WalStatus::default() }
    }

    pub(super) async fn refresh(&self, database: &Database) -> Result<()> {
        let mut log = self.log.lock().await;
        let now = self.published();
        if let Some(mut follower) = log.take()
            && now.hot_bytes() < HOT_BYTES_MAX
        {
            match follower.poll()? {
                // An entry may name a segment that a checkpoint wrote: only the newest manifest knows it.
                Followed::Entries(entries) => {
                    let applied = replay::apply(Version::clone(&now), entries, &database.shared.store).await;
                    if let Ok((state, rows)) = applied {
                        self.publish(state, rows, false);
                        *log = Some(follower);
                        return Ok(());
                    }
                }
                Followed::Gone(_) => {}
            }
        }
        let (state, history, follower) =
            load(&self.fs, self.id, &database.manifests, &database.shared, now.manifest).await?;
        // Versions never go back, whatever was loaded.
        if state.number >= now.number {
            self.publish(state, history, true);
            *log = Some(follower);
        }
        Ok(())
    }

    fn publish(&self, state: Version, rows: Vec<VersionRow>, anew: bool) {
        *self.published.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(state);
        let mut history = self.history.lock().unwrap_or_else(PoisonError::into_inner);
        let last = history.last().map(|r| r.version);
        if anew && rows.is_empty() {
            return;
        }
        history.extend(rows.into_iter().filter(|r| last.is_none_or(|l| r.version > l)));
        let surplus = history.len().saturating_sub(super::order::HISTORY_COMMITS);
        history.drain(..surplus);
    }
}

/// The newest manifest with the log after it. The writer may publish a newer one and remove files meanwhile: then once more.
async fn load(
    fs: &Arc<dyn FileSystem>,
    id: DatabaseId,
    manifests: &ManifestStore,
    shared: &Shared,
    hint: ManifestNumber,
) -> Result<(Version, Vec<VersionRow>, FileWalFollower)> {
    for _ in 0..LOAD_ATTEMPTS {
        let manifest = manifests.newest(hint).await?;
        open::check_id(id, manifest.as_ref().map(|m| m.database_id))?;
        let from = manifest.as_ref().map_or(WalNumber(1), |m| m.replay_from);
        let base = replay::base(manifest.as_ref(), manifests, &shared.store).await?;
        let mut follower = FileWalFollower::new(Arc::clone(fs), id, from);
        if let Followed::Entries(entries) = follower.poll()? {
            let (state, history) = replay::apply(base, entries, &shared.store).await?;
            return Ok((state, history, follower));
        }
        tokio::time::sleep(std::time::Duration::from_millis(10)).await;
    }
    Err(Error::new(
        crate::error::ErrorKind::Unavailable,
        "the writer removes log files faster than they can be read here",
    )
    .with_hint("try again"))
}
