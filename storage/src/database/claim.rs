//! Taking a database on an object store over, to write it.
//!
//! Owns: the order of the steps, each of which makes the next one safe whatever else happens at the same time. Does not own: the bytes
//! of manifests and of the log.
//!
//! 1. The store is tried: without conditional puts two writers would destroy each other's commits. What an earlier process has left in
//!    this machine's journal is sent, as the writer that it was (`journal`).
//! 2. Unless told to take over: that no other writer is alive (`advisory`).
//! 3. The newest manifest, m - 1, is found, and m is created: the same content with the next epoch. An older writer's next manifest
//!    meets it for ever. Where nothing but fences has come after m - 1, replay begins behind them.
//! 4. The boundary is read again. If its oldest number has passed m, others collected what was being searched: start over.
//! 5. The log is read from m's replay point on, and a fence is created under the first free number. An older writer's next object
//!    meets it for ever, whenever it lands; an object that was faster is read, and the next number is tried. What stands below the
//!    fence is replayed.
//! 6. A manifest newer than m means that somebody else has claimed it meanwhile, and may have collected the numbers that were
//!    searched: start over; without leave to take over after a pause, in which the other one puts its note. From here on commits
//!    need no further check.
//! 7. The note of this writer is put.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use tokio::time::Instant;

use super::advisory::{RENEWED_EVERY, WRITER_PATH, WriterNote};
use super::boundary::Boundary;
use super::journal::{Bucket, Journal};
use super::replay::Missing;
use super::{CommitOrder, Database, Durability, Half, Writer, open, replay};
use crate::error::{Error, ErrorKind, Result};
use crate::id::{CommitId, CommitVersion, DatabaseId, Epoch, ManifestNumber, TableId, WalNumber};
use crate::manifest::{Manifest, ManifestStore};
use crate::version::{Catalog, Shared};
use crate::wal::{ObjectWal, ObjectWalOptions, ObjectWalReader, Wal, fenced, put_fence};

/// How often a claim begins anew when others write manifests meanwhile.
const ATTEMPTS: u32 = 10;
/// How long a claim that met another waits for that one's note; times the number of attempts.
const PAUSE: Duration = Duration::from_millis(200);
/// Most attempts that count for it.
const PAUSES_MAX: u32 = 5;

impl Database {
    /// Makes this the one that writes, if it is not yet; on a directory it always is.
    ///
    /// # Errors
    /// `ReadOnly` with `read_only` or once it is closed; `Unavailable` when another writer is alive and `take_over` is off, or the store
    /// does not answer; `Unsupported` when the store has no conditional puts; `Fenced` when this machine's journal holds commits that
    /// can't be sent any more; `Corrupt`.
    pub async fn claim(self: &Arc<Self>) -> Result<()> {
        let Some(claimable) = self.claimable() else { return self.writer().map(|_| ()) };
        let _one_at_a_time = claimable.claiming.lock().await;
        if claimable.writer.get().is_some() {
            return Ok(());
        }
        if self.closed.load(Ordering::Acquire) {
            return Err(Error::new(ErrorKind::ReadOnly, "the database is closed"));
        }
        let begun = Instant::now();
        let writer = self.take_over().await?;
        let epoch = writer.epoch;
        writes_on(self, begun);
        // Only here, and under the lock, is it set.
        let _ = claimable.writer.set(writer);
        claimable.follower.release();
        self.shared.may_expire.store(false, Ordering::Relaxed);
        let waiting = self.restore_jobs().await;
        self.start_timers();
        self.checkpoint_if_due();
        self.index_soon();
        self.compact_soon();
        self.resume_restored(waiting);
        // Processes that live for less than a checkpoint would leave it to nobody.
        self.collect_soon();
        // Last: whoever gives the claim up here has it, and the note is renewed. Before, it would keep this very process out.
        let note = note(self, epoch, false);
        // Only advice: the next time comes soon.
        let _ = note.put(&*self.shared.store).await;
        Ok(())
    }

    /// Whether what the newest version here names may be gone although nobody has done any harm: this process has written the database, and
    /// another has taken it over since, or may have unheard.
    #[must_use]
    pub fn may_be_outlived(&self) -> bool {
        match self.half() {
            Half::Writes(_) => {
                self.shared.may_expire.load(Ordering::Relaxed) || self.shared.pins.may_be_outlived()
            }
            Half::Follows(_) => false,
        }
    }

    /// What the writer's note says, every byte of it checked: its epoch, and how far the log goes at least. None: there is no note.
    ///
    /// # Errors
    /// `Corrupt`; the store's.
    pub(crate) async fn writer_note(&self) -> Result<Option<(Epoch, CommitVersion)>> {
        let note = WriterNote::check(&*self.shared.store).await?;
        Ok(note.map(|note| (note.epoch(), note.version())))
    }

    async fn take_over(&self) -> Result<Writer> {
        let (store, options) = (&*self.shared.store, self.options());
        crate::object::probe(store).await?;
        let bucket = Bucket {
            id: self.id,
            root: &self.root,
            manifests: &self.manifests,
            shared: &self.shared,
            options,
            // Only where there is somebody to tell: when it is opened.
            discards: false,
        };
        let journal = Journal::take(self.id, &self.root, options, options.durability == Durability::Local)?;
        if let Some(journal) = &journal {
            // Before the next epoch is claimed: what was acknowledged under the one before is sent as its writer would.
            journal.settle(&bucket).await?;
        }
        let journal = journal.filter(|_| options.durability == Durability::Local);
        for attempt in 0..ATTEMPTS {
            // Each time: whoever was faster may be at work by now.
            if !options.take_over {
                if attempt > 0 {
                    // Several that began anew at once would keep each other from the end.
                    tokio::time::sleep(PAUSE * attempt.min(PAUSES_MAX)).await;
                }
                WriterNote::check_nobody_writes(store, options.clock.now_us()).await?;
            }
            let Some(manifest) = self.claim_manifest().await? else { continue };
            let number = manifest.number;
            if Boundary::read(store).await?.is_some_and(|(boundary, _)| boundary.oldest > number) {
                continue;
            }
            Boundary::raise(store, Boundary::at_least(manifest.database_id, number)).await?;
            let claimed = self.fence_and_replay(manifest, journal.as_ref()).await;
            // Whoever claimed it since may have collected the log that was being searched for a free number: a fence among
            // what is gone stops nobody, and what is gone looks like damage. He raised the manifest first.
            match self.manifests.is_newer_than(number).await {
                Ok(true) => {}
                Ok(false) => return claimed,
                Err(error) => return claimed.and(Err(error)),
            }
        }
        Err(Error::new(ErrorKind::Unavailable, "others write manifests of this database all the time")
            .with_hint("another process writes it or takes it over; close that one, or try again"))
    }

    /// Creates the manifest of the next epoch; None: somebody else's came first.
    async fn claim_manifest(&self) -> Result<Option<Manifest>> {
        let newest = newest(&self.manifests, &self.shared, self.snapshot().state().manifest).await?;
        open::check_id(self.id, newest.as_ref().map(|m| m.database_id))?;
        let claim = match &newest {
            Some(newest) => {
                // Else whoever opens would read the fences of all claims since the last checkpoint.
                let barren = match self.claimable() {
                    Some(claimable) => claimable.follower.barren_until(newest).await,
                    None => None,
                };
                let (replay_from, replay_epoch) = barren.unwrap_or((newest.replay_from, newest.replay_epoch));
                Manifest {
                    number: newest.number.next(),
                    epoch: newest.epoch.next(),
                    commit_id: CommitId::random(),
                    replay_from,
                    replay_epoch,
                    is_claim: true,
                    ..newest.clone()
                }
            }
            None => first_manifest(self.id),
        };
        let deadline = Instant::now() + self.options().commit_timeout;
        match self.manifests.write_settled(&claim, newest.as_ref(), deadline).await {
            Ok(()) => Ok(Some(claim)),
            Err((error, _)) if error.kind() == ErrorKind::Fenced => Ok(None),
            Err((error, _)) => Err(error),
        }
    }

    async fn fence_and_replay(&self, manifest: Manifest, journal: Option<&Journal>) -> Result<Writer> {
        let (shared, options) = (&self.shared, self.options());
        let epoch = manifest.epoch;
        let mut base = replay::base(Some(&manifest), &self.manifests, &shared.store, Missing::Damage).await?;
        let mut history = Vec::new();
        let mut log = ObjectWalReader::new(
            Arc::clone(&shared.store),
            self.id,
            manifest.replay_from,
            manifest.replay_epoch,
        );
        loop {
            let entries = log.read_on(2).await?;
            if log.epoch() > epoch {
                return Err(fenced(&"the log", log.epoch(), epoch));
            }
            let (state, rows) = replay::apply(base, entries, &shared.store, Missing::Damage).await?;
            base = state;
            history.extend(rows);
            put_fence(&mut log, epoch, base.number.next(), options.commit_timeout).await?;
            if log.epoch() == epoch {
                break;
            }
        }
        let wal = ObjectWalOptions {
            database_id: self.id,
            epoch,
            flush_interval: options.wal_flush_interval,
            timeout: options.commit_timeout,
            removes: false,
        };
        let wal = ObjectWal::create(wal, &log, base.number.next());
        let Some(journal) = journal else {
            let order = CommitOrder::new(Arc::new(base), Arc::new(wal), history, manifest.version);
            return Ok(Writer::new(order, epoch, Some(manifest), None));
        };
        let wal = Arc::new(journal.begin(wal, self.id, epoch, base.number.next(), options)?);
        let log = Arc::clone(&wal) as Arc<dyn Wal>;
        let order = CommitOrder::new(Arc::new(base), log, history, manifest.version);
        let writer = Writer::new(order, epoch, Some(manifest), Some(journal.lock()));
        wal.start(&writer.order);
        Ok(writer)
    }
}

/// The newest manifest of a database on an object store; `seen` is a number at or below it.
///
/// Manifests below the boundary may be gone, but for those that claim an epoch: a search that began at one of them would end there.
/// Nothing below the boundary's newest is therefore asked for; where there is no boundary, a listing tells where to begin.
///
/// # Errors
/// As [`ManifestStore::newest`].
pub(super) async fn newest(
    manifests: &ManifestStore,
    shared: &Shared,
    seen: ManifestNumber,
) -> Result<Option<Manifest>> {
    let boundary = Boundary::read(&*shared.store).await?;
    newest_from(manifests, boundary.map(|(boundary, _)| boundary), seen).await
}

/// As [`newest`], for whoever does not look at the boundary again: it was not passed while the search went on. One that began at a claim,
/// which stays when all around it is collected, would end there.
///
/// # Errors
/// As [`ManifestStore::newest`]; `Unavailable` when it is passed again and again.
pub(super) async fn newest_for_certain(
    manifests: &ManifestStore,
    shared: &Shared,
    seen: ManifestNumber,
) -> Result<Option<Manifest>> {
    let mut known = Boundary::read(&*shared.store).await?.map(|(boundary, _)| boundary);
    for _ in 0..ATTEMPTS {
        let newest = newest_from(manifests, known, seen).await?;
        let number = newest.as_ref().map_or(ManifestNumber(0), |manifest| manifest.number);
        known = Boundary::read(&*shared.store).await?.map(|(boundary, _)| boundary);
        if known.is_none_or(|boundary| boundary.oldest <= number.max(ManifestNumber(1))) {
            return Ok(newest);
        }
    }
    Err(Error::new(ErrorKind::Unavailable, "manifests are collected faster than they can be found here")
        .with_hint("try again"))
}

/// As [`newest`] where the boundary was read already.
pub(super) async fn newest_from(
    manifests: &ManifestStore,
    boundary: Option<Boundary>,
    seen: ManifestNumber,
) -> Result<Option<Manifest>> {
    let hint = match boundary {
        Some(boundary) => boundary.known(),
        None => manifests.listed().await?.unwrap_or_default(),
    };
    manifests.newest(hint.max(seen)).await
}

/// Of a database in which nothing was ever written.
fn first_manifest(id: DatabaseId) -> Manifest {
    Manifest {
        number: ManifestNumber(1),
        database_id: id,
        epoch: Epoch(1),
        commit_id: CommitId::random(),
        version: CommitVersion(0),
        time_us: 0,
        replay_from: WalNumber(1),
        replay_epoch: Epoch(0),
        is_claim: true,
        horizon: CommitVersion(0),
        next_table_id: TableId(1),
        settled: None,
        history: Vec::new(),
        catalog: Catalog::default().to_record(),
        tables: Vec::new(),
    }
}

/// What the writer of that epoch, this process, says of itself.
fn note(database: &Database, epoch: Epoch, closed: bool) -> WriterNote {
    let journal = database.options().durability == Durability::Local;
    let published = database.snapshot().version();
    // Asked after that: what was acknowledged from a journal may be there only.
    let unsent = database.unsent().is_some_and(|unsent| unsent.commits > 0);
    let version = if unsent { CommitVersion(0) } else { published };
    WriterNote::of_this_process(epoch, database.options().clock.now_us(), closed)
        .with_journal(journal && !closed)
        .with_version(version)
}

/// At `seen` this process was the writer, and nobody had claimed the database after it. Whoever does so later keeps for `reader_grace` what he
/// replaces; half of that is for clocks that differ. It is looked for twice at least.
fn writes_on(database: &Database, seen: Instant) {
    let lasts = (database.options().reader_grace / 2).max(2 * RENEWED_EVERY);
    database.shared.pins.seen_to_write(seen, lasts);
}

/// Says from time to time that the writer is there, as long as it is; false: it is not any more. One that was idle when another
/// took over learns of it here.
pub(super) async fn renew(database: &Database) -> bool {
    let Ok(writer) = database.writer() else { return false };
    if let Some(error) = writer.order.poisoned() {
        // The next writer collects what is still read here.
        let is_fenced = error.kind() == ErrorKind::Fenced;
        database.shared.may_expire.store(is_fenced, Ordering::Relaxed);
        return false;
    }
    let store = &*database.shared.store;
    let asked = Instant::now();
    let newest = database.snapshot().state().manifest;
    // Whoever claims the database creates the manifest behind the newest, and nothing removes that: where there is none, this is the writer.
    if matches!(database.manifests.is_newer_than(newest).await, Ok(false)) {
        writes_on(database, asked);
    } else {
        match WriterNote::read(store).await {
            Ok(Some(note)) if note.epoch() > writer.epoch => {
                writer.order.poison(&fenced(&WRITER_PATH, note.epoch(), writer.epoch));
                database.shared.may_expire.store(true, Ordering::Relaxed);
                return false;
            }
            Ok(_) => {}
            // Who does not know who writes does not put his note over another's.
            Err(_) => return true,
        }
    }
    // Only advice: the next time comes soon.
    let _ = note(database, writer.epoch, false).put(store).await;
    true
}

/// Says that the writer has gone.
pub(super) async fn leave(database: &Database, epoch: Epoch) {
    let store = &*database.shared.store;
    let note = note(database, epoch, true);
    let said = async {
        // A later writer has not gone.
        match WriterNote::read(store).await? {
            Some(there) if there.epoch() > epoch => Ok(()),
            _ => note.put(store).await,
        }
    };
    // Only advice: whoever comes next waits a minute without it.
    let _ = tokio::time::timeout(Duration::from_secs(5), said).await;
}
