//! Reading the log of an object store on, for recovery, for whoever takes it over, and for readers.

use std::collections::BTreeMap;
use std::ops::ControlFlow;
use std::sync::Arc;

use bytes::Bytes;
use futures::future::try_join_all;
use object_store::path::Path;
use object_store::{ObjectStore, ObjectStoreExt};

use super::object_path;
use crate::error::{Error, Result};
use crate::id::{CommitVersion, DatabaseId, Epoch, WalNumber};
use crate::wal::frame::{FRAME_HEADER, Found, FrameKind, look};
use crate::wal::header::{FileHeader, HEADER_BYTES};
use crate::wal::{Predecessor, Recovered};

/// Most objects asked for at once.
const AT_ONCE_MAX: u64 = 32;
/// How often an object that is missing before another one is looked for again.
const LOOKS: usize = 3;

/// A place in the log: everything before it was read.
#[derive(Clone, Debug)]
pub struct ObjectWalReader {
    store: Arc<dyn ObjectStore>,
    database_id: DatabaseId,
    number: WalNumber,
    /// Largest epoch seen so far: an object of a smaller one is void.
    epoch: Epoch,
    predecessor: Option<Predecessor>,
    lengths: BTreeMap<WalNumber, u64>,
    entries: u64,
}

impl ObjectWalReader {
    /// Begins with object `from`; those of epochs below `epoch` are void.
    #[must_use]
    pub fn new(store: Arc<dyn ObjectStore>, database_id: DatabaseId, from: WalNumber, epoch: Epoch) -> Self {
        Self {
            store,
            database_id,
            number: from,
            epoch,
            predecessor: None,
            lengths: BTreeMap::new(),
            entries: 0,
        }
    }

    /// The number to be read next.
    #[must_use]
    pub fn number(&self) -> WalNumber {
        self.number
    }

    /// Largest epoch seen.
    #[must_use]
    pub fn epoch(&self) -> Epoch {
        self.epoch
    }

    /// Whether what was read so far holds no entry: it is fences and void objects.
    #[must_use]
    pub fn is_barren(&self) -> bool {
        self.entries == 0
    }

    /// The last object read that is not void.
    #[must_use]
    pub fn predecessor(&self) -> Option<Predecessor> {
        self.predecessor
    }

    pub(super) fn store(&self) -> &Arc<dyn ObjectStore> {
        &self.store
    }

    pub(super) fn database_id(&self) -> DatabaseId {
        self.database_id
    }

    /// Bytes of the objects read, void ones left out.
    pub(super) fn lengths(&self) -> &BTreeMap<WalNumber, u64> {
        &self.lengths
    }

    /// All entries that are there by now, in version order; `at_once` objects are asked for first, and more as long as all are there.
    ///
    /// # Errors
    /// `Corrupt` when an object is damaged (objects are whole or absent, so there is no torn tail), or missing before another one;
    /// the store's. The place is then behind the last object that was read whole.
    pub async fn read_on(&mut self, at_once: u64) -> Result<Vec<Recovered>> {
        let mut entries = Vec::new();
        self.read_each(at_once, &mut |found: Vec<Recovered>| entries.extend(found)).await?;
        Ok(entries)
    }

    /// The same; `hand` gets the entries of each object, in order, and nothing of it is held.
    ///
    /// # Errors
    /// As [`read_on`](Self::read_on); `hand` has got what stands before then.
    pub(crate) async fn read_each(
        &mut self,
        at_once: u64,
        hand: &mut (dyn FnMut(Vec<Recovered>) + Send),
    ) -> Result<()> {
        let mut at_once = at_once.clamp(1, AT_ONCE_MAX);
        let mut looks = 0;
        loop {
            let numbers = (self.number.0..self.number.0 + at_once).map(WalNumber);
            let found = try_join_all(numbers.map(|number| fetch(&self.store, number))).await?;
            let there = found.iter().take_while(|bytes| bytes.is_some()).count();
            let behind_a_gap = found[there..].iter().any(Option::is_some);
            for bytes in found.into_iter().take(there).flatten() {
                hand(self.take(&bytes)?);
            }
            if behind_a_gap {
                looks = if there > 0 { 1 } else { looks + 1 };
                if looks > LOOKS {
                    let name = object_path(self.number);
                    return Err(Error::corrupt(
                        name,
                        "it is missing, while later objects of the log are there",
                    )
                    .with_hint("restore it from a backup; every commit from it on is at stake"));
                }
                // It was put between two of our questions, or it is gone for good: the next look tells.
                continue;
            }
            if there < usize::try_from(at_once).unwrap_or(usize::MAX) {
                return Ok(());
            }
            at_once = (2 * at_once).min(AT_ONCE_MAX);
        }
    }

    /// The payload of an entry that was read at `offset` of the object `bytes`; None: they are others than then.
    pub(crate) fn payload(bytes: &Bytes, offset: u64, length: usize) -> Option<Bytes> {
        let from = usize::try_from(offset).ok()?.checked_add(HEADER_BYTES + FRAME_HEADER)?;
        let to = from.checked_add(length).filter(|to| *to <= bytes.len())?;
        Some(bytes.slice(from..to))
    }

    /// Takes the object of the next number.
    pub(super) fn take(&mut self, bytes: &Bytes) -> Result<Vec<Recovered>> {
        let number = self.number;
        let name = object_path(number);
        let header = FileHeader::decode(bytes, &name, number, self.database_id)?;
        let mut entries = Vec::new();
        if header.epoch >= self.epoch {
            entries = self.read(&name, &header, bytes)?;
            self.entries += entries.len() as u64;
            self.epoch = header.epoch;
            self.lengths.insert(number, bytes.len() as u64);
        }
        self.number = number.next();
        Ok(entries)
    }

    fn read(&mut self, name: &str, header: &FileHeader, bytes: &Bytes) -> Result<Vec<Recovered>> {
        if let Some(before) = self.predecessor
            && (header.first != before.last.next() || header.predecessor_length != before.length)
        {
            return Err(Error::corrupt(name, format!("it does not follow number {}", before.number)));
        }
        // Objects of earlier versions of Cairn do not say how long they are.
        let (length, written) = (bytes.len() as u64, header.created_length);
        if written != 0 && length != written {
            let place = format!("{name} at offset {}", length.min(written));
            return Err(Error::corrupt(place, format!("it has {length} bytes, {written} were written"))
                .with_detail(format!("version {} and any after it are at stake", header.first)));
        }
        let mut entries = Vec::new();
        let (mut at, mut next) = (HEADER_BYTES, header.first);
        while at < bytes.len() {
            match self.entry(header, bytes, at, next) {
                ControlFlow::Continue((recovered, length)) if !header.is_fence => {
                    entries.push(recovered);
                    at += length;
                    next = next.next();
                }
                ControlFlow::Continue(_) => return Err(Error::corrupt(name, "a fence holds entries")),
                ControlFlow::Break(why) => {
                    return Err(Error::corrupt(format_args!("{name} at offset {at}"), why)
                        .with_detail(format!("version {next} and any after it are at stake")));
                }
            }
        }
        // One that does not say how long it is and was cut between frames passes: the object behind it, which knows its length, is
        // checked against it above.
        let last = CommitVersion(next.0.saturating_sub(1));
        self.predecessor = Some(Predecessor { number: header.number, length, synced: length, last });
        Ok(entries)
    }

    fn entry(
        &self,
        header: &FileHeader,
        bytes: &Bytes,
        at: usize,
        next: CommitVersion,
    ) -> ControlFlow<&'static str, (Recovered, usize)> {
        match look(bytes, at, 0, header.salt) {
            Found::Frame(frame) if frame.kind == FrameKind::Entry && frame.version == next => {
                let payload = at + FRAME_HEADER;
                let payload = bytes.slice(payload..payload + frame.payload);
                let offset = (at - HEADER_BYTES) as u64;
                ControlFlow::Continue((Recovered { number: header.number, offset, payload }, frame.length))
            }
            Found::Frame(_) => ControlFlow::Break("a version is out of order"),
            Found::End => ControlFlow::Break("entries are missing"),
            Found::Bad(why) => ControlFlow::Break(why),
        }
    }
}

async fn fetch(store: &Arc<dyn ObjectStore>, number: WalNumber) -> Result<Option<Bytes>> {
    match store.get(&Path::from(object_path(number))).await {
        Ok(found) => Ok(Some(found.bytes().await?)),
        Err(object_store::Error::NotFound { .. }) => Ok(None),
        Err(error) => Err(error.into()),
    }
}
