//! Reading along with another process that writes.
//!
//! Owns: the follower's published version and how it catches up: log entries as they become durable, or the newest
//! manifest when the log it needs is gone. It writes nothing, repairs nothing and never shows what is not durable.

use std::io;
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::time::Duration;

use tokio::time::Instant;

use super::boundary::Boundary;
use super::replay::Missing;
use super::{Database, VersionRow, claim, open, replay};
use crate::error::{Error, ErrorKind, Result};
use crate::fs::OpenMode;
use crate::id::{CommitId, DatabaseId, Epoch, ManifestNumber, WalNumber};
use crate::manifest::history::CommitFound;
use crate::manifest::identity::IDENTITY_PATH;
use crate::manifest::store::manifest_path;
use crate::manifest::{Manifest, ManifestStore};
use crate::version::{Pin, Shared, Version};
use crate::wal::{FileWalFollower, FileWalReader, Followed, ObjectWalReader, Recovered, WalStatus};

/// How often loading is tried while the writer removes what is being loaded.
const LOAD_ATTEMPTS: usize = 20;
/// A follower whose hot rows take this much looks for a newer manifest.
const HOT_BYTES_MAX: u64 = 64 << 20;
/// How often a reader asks whether there is a newer manifest to stand on than its own.
const ANCHORED_EVERY: Duration = Duration::from_secs(60);

/// See the module.
#[derive(Debug)]
pub(crate) struct Follower {
    id: DatabaseId,
    /// None once the database is written here: what nobody reads any more must not be kept from being collected.
    published: RwLock<Option<Arc<Version>>>,
    /// Held while catching up.
    place: tokio::sync::Mutex<Place>,
    history: Mutex<Vec<VersionRow>>,
    /// The commits since the manifest it stands on, however many.
    recent: Mutex<Vec<CommitFound>>,
}

/// How far a follower has read.
#[derive(Debug)]
struct Place {
    /// None after an error: the next refresh loads anew.
    log: Option<Log>,
    /// When the last refresh that found everything began.
    refreshed: Instant,
    /// When it last stood on the newest manifest for certain.
    anchored: Instant,
}

/// The log as it is followed.
#[derive(Debug)]
enum Log {
    Files(FileWalFollower),
    Objects(ObjectWalReader),
}

impl Log {
    fn begin(shared: &Shared, id: DatabaseId, manifest: Option<&Manifest>) -> Self {
        let from = manifest.map_or(WalNumber(1), |m| m.replay_from);
        match &shared.files {
            Some(fs) => Self::Files(FileWalFollower::new(Arc::clone(fs), id, from)),
            None => {
                let epoch = manifest.map_or(Epoch(0), |m| m.replay_epoch);
                Self::Objects(ObjectWalReader::new(Arc::clone(&shared.store), id, from, epoch))
            }
        }
    }

    /// Entries since the last poll; None: the writer removed what is to be read next.
    async fn poll(&mut self, at_once: u64) -> Result<Option<Vec<Recovered>>> {
        match self {
            Self::Files(files) => Ok(match files.poll()? {
                Followed::Entries(entries) => Some(entries),
                Followed::Gone(_) => None,
            }),
            Self::Objects(objects) => objects.read_on(at_once).await.map(Some),
        }
    }
}

impl Follower {
    /// `boundary` is that of an object store, if it was read already.
    pub(super) async fn open(
        id: DatabaseId,
        manifests: &ManifestStore,
        shared: &Shared,
        boundary: Option<Boundary>,
    ) -> Result<Self> {
        let refreshed = Instant::now();
        let (state, history, log) = load(id, manifests, shared, &Version::default(), boundary).await?;
        Ok(Self {
            id,
            recent: Mutex::new(history.iter().map(found).collect()),
            published: RwLock::new(Some(Arc::new(state))),
            place: tokio::sync::Mutex::new(Place { log: Some(log), refreshed, anchored: refreshed }),
            history: Mutex::new(history),
        })
    }

    /// What it has read; the empty version once it was [released](Self::release).
    pub(super) fn published(&self) -> Arc<Version> {
        self.published.read().unwrap_or_else(PoisonError::into_inner).clone().unwrap_or_default()
    }

    /// Where replay after `manifest` may begin instead: behind the fences and void objects that were read since, when there was
    /// nothing else; with the epoch below which objects from there on are void.
    pub(super) async fn barren_until(&self, manifest: &Manifest) -> Option<(WalNumber, Epoch)> {
        let place = self.place.lock().await;
        match &place.log {
            Some(Log::Objects(log)) if log.is_barren() && self.published().manifest == manifest.number => {
                Some((log.number(), log.epoch()))
            }
            _ => None,
        }
    }

    /// Lets go of what it has read, for good.
    pub(super) fn release(&self) {
        *self.published.write().unwrap_or_else(PoisonError::into_inner) = None;
        *self.recent.lock().unwrap_or_else(PoisonError::into_inner) = Vec::new();
    }

    pub(super) fn history(&self) -> Vec<VersionRow> {
        self.history.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// The commit of that id, if it was seen in the log.
    pub(super) fn commit_of(&self, id: CommitId) -> Option<CommitFound> {
        let recent = self.recent.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(commit) = recent.iter().rfind(|commit| commit.commit_id == id) {
            return Some(*commit);
        }
        drop(recent);
        let history = self.history.lock().unwrap_or_else(PoisonError::into_inner);
        history.iter().rfind(|row| row.commit_id == id).map(found)
    }

    pub(super) fn status(&self) -> WalStatus {
        WalStatus { durable: self.published().number, ..WalStatus::default() }
    }

    /// Sees everything that was durable `max_age` ago.
    pub(super) async fn refresh(&self, database: &Database, max_age: Duration) -> Result<()> {
        let mut place = self.place.lock().await;
        let begun = Instant::now();
        if place.log.is_some() && begun < place.refreshed + max_age {
            return Ok(());
        }
        let now = self.published();
        if let Some(mut log) = place.log.take()
            && !is_crowded(database, &now).await?
            && let Some((state, rows)) = self.read_on(database, &mut log, &now).await?
        {
            if let Some(state) = state {
                self.publish(state, rows, false);
            }
            let mut anchored = place.anchored;
            let every = ANCHORED_EVERY.min(database.options().reader_grace / 4);
            if database.shared.remote && begun >= anchored + every {
                let boundary = Boundary::read(&*database.shared.store).await?;
                // Then what comes next may be gone, and what it stands on may go.
                if boundary.is_some_and(|(boundary, _)| boundary.known() > now.manifest) {
                    return self.load(database, &mut place, &now, begun).await;
                }
                anchored = begun;
            }
            *place = Place { log: Some(log), refreshed: begun, anchored };
            return Ok(());
        }
        self.load(database, &mut place, &now, begun).await
    }

    async fn load(
        &self,
        database: &Database,
        place: &mut Place,
        now: &Arc<Version>,
        begun: Instant,
    ) -> Result<()> {
        let (state, history, log) = load(self.id, &database.manifests, &database.shared, now, None).await?;
        self.publish(state, history, true);
        database.forget_columns();
        *place = Place { log: Some(log), refreshed: begun, anchored: begun };
        Ok(())
    }

    /// The state after what the log has gained, None when it has gained nothing; nothing at all: load anew.
    async fn read_on(
        &self,
        database: &Database,
        log: &mut Log,
        now: &Arc<Version>,
    ) -> Result<Option<(Option<Version>, Vec<VersionRow>)>> {
        let entries = match log.poll(1).await {
            Ok(Some(entries)) => entries,
            Ok(None) => return Ok(None),
            // Objects that the writer has collected look like damage; the newest manifest tells.
            Err(error) if error.kind() == ErrorKind::Corrupt && matches!(log, Log::Objects(_)) => {
                return Ok(None);
            }
            Err(error) => return Err(error),
        };
        if entries.is_empty() {
            let stays = match log {
                Log::Files(_) => true,
                // What it would read next may have been collected.
                Log::Objects(_) => !database.manifests.is_newer_than(now.manifest).await?,
            };
            return Ok(stays.then(|| (None, Vec::new())));
        }
        // An entry may name a segment that a checkpoint wrote: only the newest manifest knows it.
        let applied =
            replay::apply(Version::clone(now), entries, &database.shared.store, Missing::Collected).await;
        Ok(applied.ok().map(|(state, rows)| (Some(state), rows)))
    }

    fn publish(&self, state: Version, rows: Vec<VersionRow>, anew: bool) {
        match &mut *self.published.write().unwrap_or_else(PoisonError::into_inner) {
            Some(published) => *published = Arc::new(state),
            None => return,
        }
        let mut recent = self.recent.lock().unwrap_or_else(PoisonError::into_inner);
        if anew {
            // Those before the manifest are in objects.
            recent.clear();
        }
        recent.extend(rows.iter().map(found));
        drop(recent);
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

fn found(row: &VersionRow) -> CommitFound {
    CommitFound { commit_id: row.commit_id, version: row.version, time_us: row.time_us }
}

/// Whether so much is in memory that a newer manifest is to be loaded. Loading reads the whole log after it again, so only when there is
/// one: the log may be long enough without.
async fn is_crowded(database: &Database, now: &Version) -> Result<bool> {
    Ok(now.hot_bytes() >= HOT_BYTES_MAX && database.manifests.is_newer_than(now.manifest).await?)
}

/// The newest manifest with the log after it. The writer may publish a newer one and remove objects meanwhile: then once more. What is
/// older than `seen` is not the newest, whatever the search says.
async fn load(
    id: DatabaseId,
    manifests: &ManifestStore,
    shared: &Shared,
    seen: &Version,
    mut boundary: Option<Boundary>,
) -> Result<(Version, Vec<VersionRow>, Log)> {
    let mut older = None;
    for attempt in 1..=LOAD_ATTEMPTS {
        // What is missing each time is damage.
        let is_last = attempt == LOAD_ATTEMPTS;
        let missing = if shared.remote && !is_last { Missing::Collected } else { Missing::Damage };
        let known = boundary.take();
        match load_once(id, manifests, shared, seen.manifest, known, missing).await {
            Ok(Some((state, ..))) if state.number < seen.number || state.manifest < seen.manifest => {
                older = Some(state.number);
            }
            Ok(Some(loaded)) => return Ok(loaded),
            Ok(None) => {}
            Err(error) if missing == Missing::Collected && may_be_collected(&error) => {}
            Err(error) => return Err(error),
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    if let Some(older) = older {
        let message = format!(
            "version {} was read here, and now there is only version {older} to be found",
            seen.number
        );
        return Err(Error::new(ErrorKind::Unavailable, message).with_hint(
            "try again; if it stays so, the database was put back to an older state: open it again",
        ));
    }
    let mut what = "the writer removes log objects faster than they can be read here".to_owned();
    if let Some(fs) = &shared.files {
        // A file that is missing each time may be damage, which the log tells.
        let manifest = manifests.newest(seen.manifest).await?;
        let from = manifest.as_ref().map_or(WalNumber(1), |m| m.replay_from);
        let log = FileWalReader::recover(&**fs, from, id)?;
        if log.predecessor.is_none() {
            let why = "it is missing, with every commit after the newest manifest";
            return Err(Error::corrupt(format!("wal/{:020}", from.0), why)
                .with_hint("restore the directory wal from a backup of the same moment"));
        }
        what = format!(
            "wal/{:020} is missing, or the writer removes log files faster than they can be read here",
            log.next.0
        );
    }
    Err(Error::new(ErrorKind::Unavailable, what)
        .with_hint("try again; VERIFY tells whether a file is missing"))
}

fn may_be_collected(error: &Error) -> bool {
    matches!(error.kind(), ErrorKind::NotFound | ErrorKind::Corrupt)
}

async fn load_once(
    id: DatabaseId,
    manifests: &ManifestStore,
    shared: &Shared,
    seen: ManifestNumber,
    boundary: Option<Boundary>,
    missing: Missing,
) -> Result<Option<(Version, Vec<VersionRow>, Log)>> {
    let manifest = match (shared.remote, boundary) {
        (true, Some(known)) => claim::newest_from(manifests, Some(known), seen).await?,
        (true, None) => claim::newest(manifests, shared, seen).await?,
        (false, _) => manifests.newest(seen).await?,
    };
    open::check_id(id, manifest.as_ref().map(|m| m.database_id))?;
    let Some(pin) = pinned(shared, manifests, manifest.as_ref()).await? else { return Ok(None) };
    let mut log = Log::begin(shared, id, manifest.as_ref());
    let boundary = async {
        match shared.remote {
            true => Boundary::read(&*shared.store).await.map(|found| found.map(|(boundary, _)| boundary)),
            false => Ok(None),
        }
    };
    // On object storage each costs a round trip.
    let base = replay::base(manifest.as_ref(), manifests, &shared.store, missing);
    let (base, entries, boundary) = futures::join!(base, log.poll(2), boundary);
    // Collected while it was searched for: the search may have ended before the newest.
    let found = manifest.as_ref().map_or(ManifestNumber(0), |m| m.number);
    if boundary?.is_some_and(|boundary| boundary.oldest > found) {
        return Ok(None);
    }
    let (mut base, Some(entries)) = (base?, entries?) else { return Ok(None) };
    base.pin = pin;
    let (state, history) = replay::apply(base, entries, &shared.store, missing).await?;
    Ok(Some((state, history, log)))
}

/// A pin of the manifest that was found. In a directory its file is locked with it, so that the writer keeps what it names; None: a newer
/// one has come, or the writer is looking whether anybody holds it. Of a database without a manifest it is the file `CAIRN`.
async fn pinned(
    shared: &Shared,
    manifests: &ManifestStore,
    manifest: Option<&Manifest>,
) -> Result<Option<Pin>> {
    let number = manifest.map_or(ManifestNumber(0), |m| m.number);
    // In a bucket it stays one of a follower once this process writes the database itself.
    let Some(fs) = &shared.files else { return Ok(Some(Pin::followed(number))) };
    let path = pin_path(number);
    let what = |e| Error::io(format!("locking {path} for reading"), e);
    let file = match fs.open(&path, OpenMode::Read) {
        Ok(file) => file,
        // Removed, with many newer ones there.
        Err(error) if error.kind() == io::ErrorKind::NotFound && manifest.is_some() => return Ok(None),
        Err(error) => return Err(what(error)),
    };
    if !file.try_lock(true).map_err(what)? {
        return Ok(None);
    }
    // Before it was locked the writer may have gone on, and removed what only this one names.
    if manifests.is_newer_than(number).await? {
        return Ok(None);
    }
    // The first may be gone again, and `CAIRN` never goes.
    if manifest.is_none() && manifests.listed().await?.is_some() {
        return Ok(None);
    }
    // It may even have removed this one and the one after it. The older goes first: while this is there, the other was never written.
    match fs.len(&path) {
        Ok(_) => {}
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(what(error)),
    }
    Ok(Some(Pin::locked(number, file)))
}

/// The file that readers of a directory lock while they stand on a manifest.
pub(crate) fn pin_path(number: ManifestNumber) -> String {
    match number {
        ManifestNumber(0) => IDENTITY_PATH.to_owned(),
        number => manifest_path(number),
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::checkpoint::CheckpointReason;
    use crate::database::tests::{create, insert};
    use crate::database::{OpenOptions, Root};
    use crate::id::RowId;
    use crate::scratch::scratch;
    use crate::version::TableState;

    #[tokio::test]
    async fn much_in_memory_is_loaded_anew_only_when_a_manifest_has_less() {
        let dir = scratch().unwrap();
        let root = || Root::Path(dir.path().join("db"));
        let writer = Database::open(root(), OpenOptions::default()).await.unwrap();
        let table = create(&writer, "t", true).await.unwrap();
        insert(&writer, table, &[(1, "a".to_owned())]).await.unwrap();
        let options = OpenOptions { read_only: true, ..OpenOptions::default() };
        let reader = Database::open(root(), options).await.unwrap();
        let mut now = Version::clone(reader.snapshot().state());
        // As after many commits.
        let mut state = TableState::clone(&now.tables[&table]);
        let deleted: Vec<RowId> = (0..HOT_BYTES_MAX / 32).map(RowId).collect();
        state.hot_deletes.delete(&deleted, now.number);
        now.tables.insert(table, Arc::new(state));
        assert!(now.hot_bytes() >= HOT_BYTES_MAX);
        assert!(!is_crowded(&reader, &now).await.unwrap());
        writer.checkpoint(CheckpointReason::Statement).await.unwrap();
        assert!(is_crowded(&reader, &now).await.unwrap());
        reader.close().await.unwrap();
        writer.close().await.unwrap();
    }
}
