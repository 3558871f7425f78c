//! Appending to the log: one write and one sync for each group; a large entry is a write of its own.
//!
//! Owns: when the present file is written, synced and sealed, when the next begins, removal of old ones. Does not own: how a
//! file is made (`present`), grouping commits, the ticker of `SyncMode::Interval` (whoever opens the database spawns one that calls `sync`).
//!
//! A failed sync, and a failed write of frames, is final (D1): the log is poisoned, every later call fails. Failing to find
//! room before the first byte of a group is not (D2). Calls block on the disk: run them where blocking is fine.

use std::collections::BTreeMap;
use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use async_trait::async_trait;
use bytes::Bytes;

use super::present::{Failure, Present, name, prepare, settle};
use super::tip::TipFile;
use super::{DIRECTORY, WalTip, files, path};
use crate::error::{Error, ErrorKind, Result};
use crate::fs::{FileSystem, Poison};
use crate::id::{CommitVersion, DatabaseId, Epoch, WalNumber};
use crate::metrics::WalMetrics;
use crate::wal::frame::{FRAME_ALIGN, FRAME_HEADER, FrameKind, SEAL_BYTES, around, encode};
use crate::wal::header::{FileHeader, HEADER_BYTES};
use crate::wal::{AppendError, Group, Predecessor, SyncMode, Wal, WalStatus};

/// A write buffer that grew beyond this is given back after the group.
const BUFFER_KEPT_BYTES: usize = 4 << 20;

/// A payload of so many bytes is written from where it is: putting it together with its frame would cost more than two more calls.
const ALONE_BYTES: usize = if cfg!(test) { 512 } else { 256 << 10 };

/// How a [`FileWal`] writes.
#[derive(Clone, Copy, Debug)]
pub struct FileWalOptions {
    /// Database the files belong to.
    pub database_id: DatabaseId,
    /// Epoch of the writer, for the journal of a database in a bucket; else 0.
    pub epoch: Epoch,
    /// When a commit is durable.
    pub sync: SyncMode,
    /// Zeros a new file begins with.
    pub first_bytes: u64,
    /// Zeros added when they are used up.
    pub step_bytes: u64,
}

impl FileWalOptions {
    /// 1 MiB at first, then 4 MiB at a time.
    #[must_use]
    pub fn new(database_id: DatabaseId, sync: SyncMode) -> Self {
        Self { database_id, epoch: Epoch(0), sync, first_bytes: 1 << 20, step_bytes: 4 << 20 }
    }
}

/// The log of a local root.
#[derive(Debug)]
pub struct FileWal {
    fs: Arc<dyn FileSystem>,
    options: FileWalOptions,
    state: Mutex<State>,
    /// As the last call left it. Whoever asks, and each commit does, must not wait for the sync of others.
    shown: Mutex<WalStatus>,
    metrics: Arc<WalMetrics>,
}

#[derive(Debug)]
struct State {
    present: Present,
    /// Version the next entry has.
    next: CommitVersion,
    durable: CommitVersion,
    last_sync: Instant,
    syncs: u64,
    /// Bytes of entries of the files kept.
    kept: BTreeMap<WalNumber, u64>,
    tip: TipFile,
    buffer: Vec<u8>,
    closed: bool,
    poison: Poison,
    metrics: Arc<WalMetrics>,
}

impl FileWal {
    /// Begins file `number` whose first entry will have `next_version`.
    ///
    /// With a predecessor, what counts of it is made durable first: a killed process may have left it in the page cache only,
    /// and after a failed sync the cache calls pages clean that the disk never got, so they are written again, not only synced.
    ///
    /// # Errors
    /// `AlreadyExists` when the file is there; I/O errors. The log is unchanged and can be recovered again.
    pub fn create(
        fs: Arc<dyn FileSystem>,
        options: FileWalOptions,
        number: WalNumber,
        next_version: CommitVersion,
        predecessor: Option<Predecessor>,
    ) -> Result<Self> {
        fs.create_dir_all(DIRECTORY).map_err(|e| Error::io("creating wal", e))?;
        if let Some(predecessor) = predecessor {
            settle(&*fs, predecessor)?;
        }
        let mut kept: BTreeMap<_, _> = files(&*fs)?.into_iter().collect();
        if let Some(Predecessor { number, length, .. }) = predecessor {
            kept.insert(number, length.saturating_sub(HEADER_BYTES as u64));
        }
        kept.insert(number, 0);
        let header = FileHeader {
            database_id: options.database_id,
            number,
            salt: rand::random(),
            first: next_version,
            predecessor_length: predecessor.map_or(0, |p| p.length),
            predecessor_last: predecessor.map_or(CommitVersion(next_version.0.saturating_sub(1)), |p| p.last),
            created_length: options.first_bytes.max(HEADER_BYTES as u64),
            epoch: options.epoch,
            is_fence: false,
        };
        let file = prepare(&*fs, &header).map_err(Failure::into_error)?;
        name(&*fs, number)?;
        let metrics = Arc::new(WalMetrics::default());
        let state = State {
            present: Present::new(file, &header),
            next: next_version,
            durable: CommitVersion(next_version.0.saturating_sub(1)),
            last_sync: Instant::now(),
            syncs: 0,
            kept,
            tip: TipFile::open(&*fs)?,
            buffer: Vec::new(),
            closed: false,
            poison: Poison::default(),
            metrics: Arc::clone(&metrics),
        };
        state.show_tip();
        let shown = Mutex::new(state.status());
        Ok(Self { fs, options, state: Mutex::new(state), shown, metrics })
    }

    fn state(&self) -> MutexGuard<'_, State> {
        match self.state.lock() {
            Ok(state) => state,
            Err(panicked) => {
                // Nobody knows how far the call that panicked came.
                let mut state = panicked.into_inner();
                state.poison.set(Error::internal("a write to the log panicked"));
                state
            }
        }
    }

    /// Runs `call`, and shows what the log is then.
    fn run<T>(&self, call: impl FnOnce(&mut State) -> T) -> T {
        let mut state = self.state();
        let result = call(&mut state);
        // Under the lock of the state: of two calls the later one is shown last.
        *self.shown() = state.status();
        result
    }

    fn shown(&self) -> MutexGuard<'_, WalStatus> {
        // It is put there whole.
        self.shown.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn status(&self) -> WalStatus {
        WalStatus {
            number: self.present.number,
            oldest: self.kept.keys().next().copied().unwrap_or(self.present.number),
            bytes: self.kept.values().sum(),
            objects: self.kept.len() as u64,
            syncs: self.syncs,
            durable: self.durable,
        }
    }

    fn check(&self) -> Result<()> {
        self.poison.check()?;
        if self.closed {
            return Err(Error::internal("the log is closed"));
        }
        Ok(())
    }

    fn fail(&mut self, error: Error) -> Error {
        self.poison.set(error)
    }

    fn append(&mut self, group: &Group, options: &FileWalOptions) -> Result<(), AppendError> {
        self.check().map_err(AppendError::Unknown)?;
        if group.entries.is_empty() {
            return Ok(());
        }
        self.check_group(group).map_err(AppendError::Clean)?;
        let frame = |payload: &Bytes| (FRAME_HEADER + payload.len()).next_multiple_of(FRAME_ALIGN) as u64;
        let length: u64 = group.entries.iter().map(frame).sum();
        let end = self.present.at + length;
        self.present.allocate(end, options.step_bytes).map_err(AppendError::Clean)?;
        if let Err(e) = self.write(group) {
            let error = self.present.doing("writing", e);
            return Err(AppendError::Unknown(self.fail(unknown(group, error))));
        }
        self.present.at = end;
        self.next = group.last().next();
        *self.kept.entry(self.present.number).or_default() += length;
        self.metrics.written_bytes.add(length);
        if self.buffer.capacity() > BUFFER_KEPT_BYTES {
            self.buffer = Vec::new();
        }
        if self.sync_is_due(options.sync) {
            self.sync().map_err(|e| AppendError::Unknown(unknown(group, e)))?;
        }
        Ok(())
    }

    /// Whether the group is the next, and can be written.
    fn check_group(&self, group: &Group) -> Result<()> {
        if group.first != self.next {
            let message = format!("version {} was appended where {} was due", group.first, self.next);
            return Err(Error::internal(message));
        }
        for (version, payload) in (group.first.0..).zip(&group.entries) {
            if u32::try_from(payload.len()).is_err() {
                let message = format!("commit {version} is longer than a WAL entry can be");
                return Err(Error::new(ErrorKind::ResourceExhausted, message));
            }
        }
        Ok(())
    }

    /// Writes the group's frames, which are put together before as far as that is worth it. From the front to the end: what a call that fails
    /// leaves is the beginning of the group, as of one write.
    fn write(&mut self, group: &Group) -> io::Result<()> {
        let Present { salt, synced, .. } = self.present;
        let mut at = self.present.at;
        self.buffer.clear();
        for (version, payload) in (group.first.0..).map(CommitVersion).zip(&group.entries) {
            if payload.len() < ALONE_BYTES {
                encode(&mut self.buffer, salt, FrameKind::Entry, synced, version, payload);
                continue;
            }
            let (header, padding) = around(salt, FrameKind::Entry, synced, version, payload);
            self.buffer.extend_from_slice(&header);
            self.present.file.write_at(&self.buffer, at)?;
            at += self.buffer.len() as u64;
            self.present.file.write_at(payload, at)?;
            at += payload.len() as u64;
            self.buffer.clear();
            self.buffer.extend_from_slice(padding);
        }
        if !self.buffer.is_empty() {
            self.present.file.write_at(&self.buffer, at)?;
        }
        Ok(())
    }

    fn sync_is_due(&self, mode: SyncMode) -> bool {
        match mode {
            SyncMode::Full => true,
            SyncMode::Interval(gap) => self.last_sync.elapsed() >= gap.max(Duration::from_millis(1)),
            SyncMode::Off => false,
        }
    }

    /// Makes everything written durable; a failure is final.
    fn sync(&mut self) -> Result<()> {
        if self.present.synced == self.present.at {
            return Ok(());
        }
        let begun = Instant::now();
        if let Err(e) = self.present.file.sync() {
            let error = self.present.doing("syncing", e);
            return Err(self.fail(error));
        }
        self.syncs += 1;
        self.last_sync = Instant::now();
        self.metrics.syncs.observe(self.last_sync - begun);
        self.present.synced = self.present.at;
        self.durable = CommitVersion(self.next.0.saturating_sub(1));
        self.show_tip();
        Ok(())
    }

    fn show_tip(&self) {
        let Present { number, synced, .. } = self.present;
        self.tip.write(WalTip { number, offset: synced, version: self.durable });
    }

    /// Writes the seal behind synced entries; room for it has been made.
    fn seal(&mut self) -> Result<()> {
        let mut seal = Vec::with_capacity(SEAL_BYTES as usize);
        let last = CommitVersion(self.next.0.saturating_sub(1));
        let Present { salt, at, .. } = self.present;
        encode(&mut seal, salt, FrameKind::Seal, at, last, &[]);
        if let Err(e) = self.present.file.write_at(&seal, at) {
            let error = self.present.doing("sealing", e);
            return Err(self.fail(error));
        }
        self.present.at += SEAL_BYTES;
        self.sync()
    }

    fn rotate(
        &mut self,
        fs: &dyn FileSystem,
        options: &FileWalOptions,
        next_version: CommitVersion,
    ) -> Result<WalNumber> {
        self.check()?;
        if next_version != self.next {
            let message = format!("rotated at version {next_version} instead of {}", self.next);
            return Err(Error::internal(message));
        }
        self.sync()?;
        // Everything that may find the disk full comes before the seal, so that failing leaves the log usable.
        let sealed = self.present.at + SEAL_BYTES;
        self.present.allocate(sealed, 0)?;
        let header = FileHeader {
            database_id: options.database_id,
            number: self.present.number.next(),
            salt: rand::random(),
            first: next_version,
            predecessor_length: sealed,
            predecessor_last: CommitVersion(next_version.0.saturating_sub(1)),
            created_length: options.first_bytes.max(HEADER_BYTES as u64),
            epoch: options.epoch,
            is_fence: false,
        };
        let file = match prepare(fs, &header) {
            Ok(file) => file,
            Err(Failure::Clean(error)) => return Err(error),
            Err(Failure::Final(error)) => return Err(self.fail(error)),
        };
        self.seal()?;
        name(fs, header.number).map_err(|e| self.fail(e))?;
        let old = std::mem::replace(&mut self.present, Present::new(file, &header));
        self.kept.insert(header.number, 0);
        self.show_tip();
        // Only gives unused zeros back; recovery does not care.
        let _ignored = old.file.truncate(sealed);
        Ok(header.number)
    }

    fn truncate(&mut self, fs: &dyn FileSystem, below: WalNumber) -> Result<()> {
        self.check()?;
        let below = below.min(self.present.number);
        let old: Vec<_> = files(fs)?.into_iter().map(|(n, _)| n).filter(|n| *n < below).collect();
        for number in &old {
            let removing = |e| Error::io(format!("removing {}", path(*number)), e);
            fs.remove_file(&path(*number)).map_err(removing)?;
            self.kept.remove(number);
        }
        if !old.is_empty() {
            fs.sync_dir(DIRECTORY).map_err(|e| self.fail(Error::io("syncing wal", e)))?;
        }
        Ok(())
    }

    fn close(&mut self) -> Result<()> {
        if self.closed {
            return self.poison.check();
        }
        self.check()?;
        self.sync()?;
        // A full disk costs the seal, which is a courtesy: everything is durable without it.
        if self.present.allocate(self.present.at + SEAL_BYTES, 0).is_ok() {
            self.seal()?;
            let _ignored = self.present.file.truncate(self.present.at);
        }
        self.closed = true;
        Ok(())
    }
}

fn unknown(group: &Group, error: Error) -> Error {
    let message = format!("the outcome of commits {} to {} is unknown: {error}", group.first, group.last());
    Error::new(ErrorKind::OutcomeUnknown, message)
        .with_source(error)
        .with_hint("reopen the database, then look the commit up by its id")
}

#[async_trait]
impl Wal for FileWal {
    async fn append(&self, group: Group) -> Result<(), AppendError> {
        self.run(|state| state.append(&group, &self.options))
    }

    async fn sync(&self) -> Result<()> {
        self.run(|state| {
            state.poison.check()?;
            state.sync()
        })
    }

    async fn rotate(&self, next_version: CommitVersion) -> Result<WalNumber> {
        self.run(|state| state.rotate(&*self.fs, &self.options, next_version))
    }

    async fn truncate(&self, below: WalNumber) -> Result<()> {
        self.run(|state| state.truncate(&*self.fs, below))
    }

    async fn close(&self) -> Result<()> {
        self.run(State::close)
    }

    fn status(&self) -> WalStatus {
        self.shown().clone()
    }

    fn waits(&self) -> bool {
        false
    }

    fn metrics(&self) -> Arc<WalMetrics> {
        Arc::clone(&self.metrics)
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use bytes::Bytes;
    use futures::executor::block_on;
    use uuid::Uuid;

    use super::*;
    use crate::fs::{SimFileSystem, Step};

    #[test]
    fn the_status_is_that_of_the_last_call_and_waits_for_no_other() {
        let fs = Arc::new(SimFileSystem::new(1));
        let options = FileWalOptions::new(DatabaseId(Uuid::from_u128(42)), SyncMode::Full);
        let log = FileWal::create(fs, options, WalNumber(1), CommitVersion(1), None).unwrap();
        assert_eq!(log.status().durable, CommitVersion(0));
        let entries = vec![Bytes::from_static(b"one"), Bytes::from_static(b"two")];
        block_on(log.append(Group { first: CommitVersion(1), entries })).unwrap();
        // As somebody who appends has it until the disk has answered.
        let appending = log.state();
        let status = log.status();
        assert_eq!((status.durable, status.syncs, status.objects), (CommitVersion(2), 1, 1));
        assert_eq!(status.bytes, appending.status().bytes);
        drop(appending);
        assert_eq!(block_on(log.rotate(CommitVersion(3))).unwrap(), WalNumber(2));
        assert_eq!((log.status().number, log.status().oldest), (WalNumber(2), WalNumber(1)));
        block_on(log.truncate(WalNumber(2))).unwrap();
        assert_eq!((log.status().oldest, log.status().objects), (WalNumber(2), 1));
    }

    /// What it makes room for beyond that is cut off right after, having gone to the disk.
    #[test]
    fn a_seal_needs_room_for_itself_only() {
        let fs = Arc::new(SimFileSystem::new(1));
        let full = (HEADER_BYTES + FRAME_HEADER) as u64;
        let known = FileWalOptions::new(DatabaseId(Uuid::from_u128(42)), SyncMode::Full);
        let options = FileWalOptions { first_bytes: full, ..known };
        let log = FileWal::create(fs.clone(), options, WalNumber(1), CommitVersion(1), None).unwrap();
        let append = |version: u64| {
            block_on(log.append(Group { first: CommitVersion(version), entries: vec![Bytes::new()] }))
                .unwrap();
        };
        append(1);
        fs.record();
        block_on(log.rotate(CommitVersion(2))).unwrap();
        append(2);
        block_on(log.close()).unwrap();
        let cut = fs.recorded().into_iter().filter(|step| step.step == Step::Truncate);
        let lengths: Vec<u64> = cut.map(|step| step.before.len(&step.path).unwrap()).collect();
        assert_eq!(lengths, [full + SEAL_BYTES; 2]);
    }
}
