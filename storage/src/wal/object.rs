//! The log as objects `wal/<number>`: one object for each group, created only if absent.
//!
//! Owns: object bytes (the header and frames of a WAL file, whole or absent), settling of lost replies (D9), recovery by
//! probing numbers. Does not own: epochs and fences; a root in memory has one writer. An object is never listed for, and
//! there is nothing to sync or seal.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use async_trait::async_trait;
use bytes::Bytes;
use object_store::path::Path;
use object_store::{ObjectStore, ObjectStoreExt};

use super::frame::{FRAME_HEADER, Found, FrameKind, encode, look};
use super::header::{FileHeader, HEADER_BYTES};
use super::{AppendError, Group, Predecessor, Recovered, Recovery, Wal, WalStatus};
use crate::error::{Error, ErrorKind, Result};
use crate::fs::Poison;
use crate::id::{CommitVersion, DatabaseId, WalNumber};
use crate::metrics::WalMetrics;
use crate::object::put_if_absent;

fn path(number: WalNumber) -> String {
    format!("wal/{number:020}", number = number.0)
}

/// The log of a root in an object store.
#[derive(Debug)]
pub struct ObjectWal {
    store: Arc<dyn ObjectStore>,
    database_id: DatabaseId,
    state: Mutex<State>,
    metrics: Arc<WalMetrics>,
}

#[derive(Debug)]
struct State {
    number: WalNumber,
    next: CommitVersion,
    predecessor_length: u64,
    puts: u64,
    kept: BTreeMap<WalNumber, u64>,
    closed: bool,
    poison: Poison,
}

impl ObjectWal {
    /// Goes on with object `number`, whose first entry will have `next_version`. Writes nothing yet.
    #[must_use]
    pub fn create(
        store: Arc<dyn ObjectStore>,
        database_id: DatabaseId,
        number: WalNumber,
        next_version: CommitVersion,
        predecessor: Option<Predecessor>,
    ) -> Self {
        let state = State {
            number,
            next: next_version,
            predecessor_length: predecessor.map_or(0, |p| p.length),
            puts: 0,
            kept: BTreeMap::new(),
            closed: false,
            poison: Poison::default(),
        };
        Self { store, database_id, state: Mutex::new(state), metrics: Arc::default() }
    }

    /// Everything in the objects from `from` on, found by probing numbers.
    ///
    /// # Errors
    /// `Corrupt` when an object is damaged: objects are whole or absent, so there is no torn tail.
    pub async fn recover(
        store: &dyn ObjectStore,
        from: WalNumber,
        database_id: DatabaseId,
    ) -> Result<Recovery> {
        let mut recovery = Recovery { next: from, ..Recovery::default() };
        loop {
            let name = path(recovery.next);
            let bytes = match store.get(&Path::from(name.as_str())).await {
                Ok(found) => found.bytes().await?,
                Err(object_store::Error::NotFound { .. }) => return Ok(recovery),
                Err(e) => return Err(e.into()),
            };
            read_object(&name, &bytes, database_id, &mut recovery)?;
            recovery.next = recovery.next.next();
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn read_object(name: &str, bytes: &Bytes, database_id: DatabaseId, recovery: &mut Recovery) -> Result<()> {
    let number = recovery.next;
    let header = FileHeader::decode(bytes, &name, number, database_id)?;
    if let Some(before) = recovery.predecessor
        && (header.first != before.last.next() || header.predecessor_length != before.length)
    {
        return Err(Error::corrupt(name, format!("it does not follow number {}", before.number)));
    }
    let (mut at, mut next) = (HEADER_BYTES, header.first);
    while at < bytes.len() {
        let why = match look(bytes, at, 0, header.salt) {
            Found::Frame(frame) if frame.kind == FrameKind::Entry && frame.version == next => {
                let payload = at + FRAME_HEADER;
                let payload = bytes.slice(payload..payload + frame.payload);
                recovery.entries.push(Recovered { number, offset: (at - HEADER_BYTES) as u64, payload });
                at += frame.length;
                next = next.next();
                continue;
            }
            Found::Frame(_) => "a version is out of order",
            Found::End => "entries are missing",
            Found::Bad(why) => why,
        };
        return Err(Error::corrupt(format_args!("{name} at offset {at}"), why)
            .with_detail(format!("version {next} and any after it are at stake")));
    }
    let length = bytes.len() as u64;
    // An object names how many entries it has by its length only: an object cut between frames would pass, so the
    // object behind it, which knows this one's length, is checked against `length` above.
    let last = CommitVersion(next.0.saturating_sub(1));
    recovery.predecessor = Some(Predecessor { number, length, synced: length, last });
    Ok(())
}

#[async_trait]
impl Wal for ObjectWal {
    async fn append(&self, group: Group) -> Result<(), AppendError> {
        let (number, header) = {
            let state = self.state();
            state.check().map_err(AppendError::Unknown)?;
            if group.entries.is_empty() {
                return Ok(());
            }
            if group.first != state.next {
                let message = format!("version {} was appended where {} was due", group.first, state.next);
                return Err(AppendError::Clean(Error::internal(message)));
            }
            (state.number, state.header(self.database_id))
        };
        let mut bytes = header.encode().to_vec();
        for (version, payload) in (group.first.0..).zip(&group.entries) {
            if u32::try_from(payload.len()).is_err() {
                let message = format!("commit {version} is longer than a WAL entry can be");
                return Err(AppendError::Clean(Error::new(ErrorKind::ResourceExhausted, message)));
            }
            encode(&mut bytes, header.salt, FrameKind::Entry, 0, CommitVersion(version), payload);
        }
        let bytes = Bytes::from(bytes);
        // The salt is this object's unique id: equal bytes are ours.
        let ours = bytes.clone();
        let begun = Instant::now();
        let put =
            put_if_absent(&*self.store, &Path::from(path(number)), bytes.clone(), |found| found == ours)
                .await;
        let mut state = self.state();
        match put {
            Ok(()) => {
                state.number = number.next();
                state.next = group.last().next();
                state.predecessor_length = bytes.len() as u64;
                state.puts += 1;
                self.metrics.syncs.observe(begun.elapsed());
                self.metrics.written_bytes.add(bytes.len() as u64);
                state.kept.insert(number, bytes.len() as u64);
                Ok(())
            }
            Err(e) => {
                let kind = match e.kind() {
                    ErrorKind::AlreadyExists => ErrorKind::Fenced,
                    _ => ErrorKind::OutcomeUnknown,
                };
                let message = format!("writing {}: {e}", path(number));
                Err(AppendError::Unknown(state.poison.set(Error::new(kind, message).with_source(e))))
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
        let old: Vec<WalNumber> = self.state().kept.range(..below).map(|(number, _)| *number).collect();
        for number in old {
            match self.store.delete(&Path::from(path(number))).await {
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
            syncs: state.puts,
            durable: CommitVersion(state.next.0.saturating_sub(1)),
        }
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

    fn header(&self, database_id: DatabaseId) -> FileHeader {
        FileHeader {
            database_id,
            number: self.number,
            salt: rand::random(),
            first: self.next,
            predecessor_length: self.predecessor_length,
            predecessor_last: CommitVersion(self.next.0.saturating_sub(1)),
            created_length: 0,
        }
    }
}

#[cfg(test)]
mod tests;
