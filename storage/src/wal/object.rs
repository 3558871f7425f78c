//! The log as objects `wal/<number>`: one object for each group, created only if absent.
//!
//! Owns: object bytes (the header and frames of a WAL file, whole or absent), settling of lost replies (D9), fences, which object
//! is void, reading on by probing numbers. Does not own: who may be the writer (`database::claim`), when objects go (`collect`; a root in
//! memory removes them itself). What is there is found by its number; a listing only says how many may be asked for at once. There is nothing to
//! sync or seal.
//!
//! Objects are acknowledged in the order of their numbers: the next one is put only when the one before it stands. So where a
//! number is free every later one is, and what stands is durable, whoever put it has heard of it or not.

mod read;
mod send;

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use object_store::path::Path;
use object_store::{ObjectStore, ObjectStoreExt};
use tokio::time::Instant;

pub use read::ObjectWalReader;

use super::frame::{FrameKind, encode};
use super::header::{FileHeader, HEADER_BYTES};
use super::{AppendError, Group, Wal, WalStatus};
use crate::error::{Error, ErrorKind, Result};
use crate::fs::Poison;
use crate::id::{CommitVersion, DatabaseId, Epoch, WalNumber};
use crate::metrics::WalMetrics;
use crate::object::{Put, put_settled};

/// Length of a fence; every other object is longer.
pub const FENCE_BYTES: u64 = HEADER_BYTES as u64;

/// Path of an object of the log below the root.
#[must_use]
pub fn object_path(number: WalNumber) -> String {
    format!("wal/{number:020}", number = number.0)
}

/// How the log of a root in an object store is written.
#[derive(Clone, Debug)]
pub struct ObjectWalOptions {
    /// The database.
    pub database_id: DatabaseId,
    /// The writer's epoch.
    pub epoch: Epoch,
    /// Least time between two objects.
    pub flush_interval: Duration,
    /// How long a put is tried while the store does not answer. Where each attempt was surely refused, the commit then fails and
    /// nothing else does; where one may have arrived, nobody knows, and nothing more is written.
    pub timeout: Duration,
    /// Whether [`Wal::truncate`] removes objects; else the collector does, which knows of readers.
    pub removes: bool,
}

/// The log of a root in an object store.
#[derive(Debug)]
pub struct ObjectWal {
    store: Arc<dyn ObjectStore>,
    options: ObjectWalOptions,
    state: Mutex<State>,
    metrics: Arc<WalMetrics>,
}

#[derive(Debug)]
struct State {
    number: WalNumber,
    next: CommitVersion,
    predecessor_length: u64,
    last_put: Option<Instant>,
    puts: u64,
    kept: BTreeMap<WalNumber, u64>,
    closed: bool,
    poison: Poison,
}

impl ObjectWal {
    /// Goes on behind what `read` has read; the next entry will have `next`. Writes nothing yet.
    #[must_use]
    pub fn create(options: ObjectWalOptions, read: &ObjectWalReader, next: CommitVersion) -> Self {
        let store = Arc::clone(read.store());
        let state = State {
            number: read.number(),
            next,
            predecessor_length: read.predecessor().map_or(0, |p| p.length),
            last_put: None,
            puts: 0,
            kept: read.lengths().clone(),
            closed: false,
            poison: Poison::default(),
        };
        Self { store, options, state: Mutex::new(state), metrics: Arc::default() }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Puts the object of `entries` under the next number that no older writer took.
    ///
    /// # Errors
    /// The store's, with whether some attempt may have taken effect.
    async fn put(&self, first: CommitVersion, entries: &[Bytes]) -> Result<(), (Error, bool)> {
        let last_put = self.state().last_put;
        if let Some(last) = last_put {
            tokio::time::sleep_until(last + self.options.flush_interval).await;
        }
        let begun = Instant::now();
        loop {
            let (number, header) = {
                let state = self.state();
                (state.number, self.header(&state))
            };
            let bytes = object_bytes(&header, first, entries);
            let path = Path::from(object_path(number));
            match put_settled(&*self.store, &path, &bytes, begun + self.options.timeout).await? {
                Put::Ours => {
                    let length = bytes.len() as u64;
                    self.metrics.syncs.observe(begun.elapsed());
                    self.metrics.written_bytes.add(length);
                    self.state().wrote(number, length, CommitVersion(first.0 + entries.len() as u64));
                    return Ok(());
                }
                Put::Taken(found) => {
                    let theirs = FileHeader::decode(&found, &path, number, self.options.database_id);
                    let epoch = theirs.map_err(|error| (error, false))?.epoch;
                    if epoch >= self.options.epoch {
                        return Err((fenced(&path, epoch, self.options.epoch), false));
                    }
                    // Void: its writer was fenced at a smaller number.
                    self.state().number = number.next();
                }
            }
        }
    }

    fn header(&self, state: &State) -> FileHeader {
        FileHeader {
            database_id: self.options.database_id,
            number: state.number,
            salt: rand::random(),
            first: state.next,
            predecessor_length: state.predecessor_length,
            predecessor_last: CommitVersion(state.next.0.saturating_sub(1)),
            // Known when the entries are in it.
            created_length: 0,
            epoch: self.options.epoch,
            is_fence: false,
        }
    }
}

/// Takes the first free number, the one an older writer would put its next object under, so that this one and every later one
/// of it fails; `read` has read everything below and goes on behind.
///
/// # Errors
/// `Fenced` when a newer writer has been there; `Corrupt`; the store's.
pub(crate) async fn put_fence(
    read: &mut ObjectWalReader,
    epoch: Epoch,
    next: CommitVersion,
    timeout: Duration,
) -> Result<()> {
    let predecessor = read.predecessor();
    let header = FileHeader {
        database_id: read.database_id(),
        number: read.number(),
        salt: rand::random(),
        first: next,
        predecessor_length: predecessor.map_or(0, |p| p.length),
        predecessor_last: CommitVersion(next.0.saturating_sub(1)),
        created_length: FENCE_BYTES,
        epoch,
        is_fence: true,
    };
    let bytes = Bytes::copy_from_slice(&header.encode());
    let path = Path::from(object_path(header.number));
    let deadline = Instant::now() + timeout;
    match put_settled(&**read.store(), &path, &bytes, deadline).await.map_err(|(error, _)| error)? {
        Put::Ours => read.take(&bytes).map(|_| ()),
        // Somebody else was faster; what he put is read next.
        Put::Taken(_) => Ok(()),
    }
}

/// The object with its length in the header: one that is cut between two frames is not taken for a shorter one.
fn object_bytes(header: &FileHeader, first: CommitVersion, entries: &[Bytes]) -> Bytes {
    let mut bytes = vec![0; HEADER_BYTES];
    for (version, payload) in (first.0..).zip(entries) {
        encode(&mut bytes, header.salt, FrameKind::Entry, 0, CommitVersion(version), payload);
    }
    let header = FileHeader { created_length: bytes.len() as u64, ..header.clone() };
    bytes[..HEADER_BYTES].copy_from_slice(&header.encode());
    bytes.into()
}

/// The error of a group whose object the store surely never took: the next one is put under the same number.
fn not_written(error: Error) -> Error {
    if error.kind() != ErrorKind::Unavailable {
        return error;
    }
    let told = Error::new(ErrorKind::Unavailable, format!("nothing was committed: {error}"))
        .with_hint("run it again when the object store answers");
    match error.detail().map(str::to_owned) {
        Some(detail) => told.with_detail(detail).with_source(error),
        None => told.with_source(error),
    }
}

/// The error of a writer that finds a newer one's object in its place.
pub(crate) fn fenced(what: &dyn std::fmt::Display, theirs: Epoch, ours: Epoch) -> Error {
    Error::new(ErrorKind::Fenced, "another writer has taken the database over")
        .with_detail(format!("{what} is of epoch {theirs}, this writer's is {ours}"))
        .with_hint("what was acknowledged is kept; open the database again to read or write on")
}

#[async_trait]
impl Wal for ObjectWal {
    async fn append(&self, group: Group) -> Result<(), AppendError> {
        {
            let state = self.state();
            state.check().map_err(AppendError::Unknown)?;
            if group.entries.is_empty() {
                return Ok(());
            }
            if group.first != state.next {
                let message = format!("version {} was appended where {} was due", group.first, state.next);
                return Err(AppendError::Clean(Error::internal(message)));
            }
        }
        if let Some(long) = group.entries.iter().position(|payload| u32::try_from(payload.len()).is_err()) {
            let message = format!("commit {} is longer than a WAL entry can be", group.first.0 + long as u64);
            return Err(AppendError::Clean(Error::new(ErrorKind::ResourceExhausted, message)));
        }
        match self.put(group.first, &group.entries).await {
            Ok(()) => Ok(()),
            Err((error, _)) if error.kind() == ErrorKind::Fenced => {
                Err(AppendError::Unknown(self.state().poison.set(error)))
            }
            Err((error, false)) => Err(AppendError::Clean(not_written(error))),
            Err((error, true)) => {
                let message = format!("writing {}: {error}", object_path(self.state().number));
                let unknown = Error::new(ErrorKind::OutcomeUnknown, message).with_source(error);
                Err(AppendError::Unknown(self.state().poison.set(unknown)))
            }
        }
    }

    async fn sync(&self) -> Result<()> {
        self.state().poison.check()
    }

    async fn rotate(&self, next_version: CommitVersion) -> Result<WalNumber> {
        let state = self.state();
        state.check()?;
        if next_version != state.next {
            let message = format!("rotated at version {next_version} instead of {}", state.next);
            return Err(Error::internal(message));
        }
        Ok(state.number)
    }

    async fn truncate(&self, below: WalNumber) -> Result<()> {
        if !self.options.removes {
            let mut state = self.state();
            state.kept = state.kept.split_off(&below);
            return Ok(());
        }
        let old: Vec<WalNumber> = self.state().kept.range(..below).map(|(number, _)| *number).collect();
        for number in old {
            match self.store.delete(&Path::from(object_path(number))).await {
                Ok(()) | Err(object_store::Error::NotFound { .. }) => self.state().kept.remove(&number),
                Err(e) => return Err(e.into()),
            };
        }
        Ok(())
    }

    async fn close(&self) -> Result<()> {
        let mut state = self.state();
        state.closed = true;
        state.poison.check()
    }

    fn status(&self) -> WalStatus {
        let state = self.state();
        WalStatus {
            number: state.number,
            oldest: state.kept.keys().next().copied().unwrap_or(state.number),
            bytes: state.kept.values().sum(),
            objects: state.kept.len() as u64,
            syncs: state.puts,
            durable: CommitVersion(state.next.0.saturating_sub(1)),
        }
    }

    fn waits(&self) -> bool {
        true
    }

    fn metrics(&self) -> Arc<WalMetrics> {
        Arc::clone(&self.metrics)
    }
}

impl State {
    fn check(&self) -> Result<()> {
        self.poison.check()?;
        if self.closed {
            return Err(Error::internal("the log is closed"));
        }
        Ok(())
    }

    fn wrote(&mut self, number: WalNumber, length: u64, next: CommitVersion) {
        self.number = number.next();
        self.next = next;
        self.predecessor_length = length;
        self.last_put = Some(Instant::now());
        self.puts += 1;
        self.kept.insert(number, length);
    }
}

#[cfg(test)]
mod tests;
