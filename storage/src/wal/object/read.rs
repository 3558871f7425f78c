//! Reading the log of an object store on, for recovery, for whoever takes it over, and for readers.
//!
//! Owns: how many objects are asked for at once, and that their entries are handed on in order. Where the log is long a listing says how many
//! that may be. It is advice: what is there, and where the log ends, only asking for a number tells.

use std::collections::BTreeMap;
use std::ops::ControlFlow;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures::future::{Either, select, try_join_all};
use futures::{StreamExt, TryStreamExt};
use object_store::path::Path;
use object_store::{ObjectStore, ObjectStoreExt};
use tokio::time::timeout;

use super::object_path;
use crate::error::{Error, Result};
use crate::id::{CommitVersion, DatabaseId, Epoch, WalNumber};
use crate::wal::frame::{FRAME_HEADER, Found, FrameKind, look};
use crate::wal::header::{FileHeader, HEADER_BYTES};
use crate::wal::{Predecessor, Recovered};

/// Most objects asked for at once, of those that a listing names.
const AT_ONCE_MAX: u64 = 64;
/// Most bytes of them, but for one that is longer.
const AT_ONCE_BYTES_MAX: u64 = 64 << 20;
/// Most objects asked for at once while nobody knows how many there are.
const UNTOLD_MAX: u64 = 32;
/// The log is listed on when so many are asked for that nobody knows of: those before them were all there.
const LISTED_FROM: u64 = 4;
/// The same for whoever asks for one first: a reader that follows a busy writer would pay for a listing at every look, as much as for twelve objects.
const FOLLOWED_LISTED_FROM: u64 = 16;
/// Objects of one listing: a page, which is one request.
const LISTED_MAX: usize = 1000;
/// A listing is not waited for longer than this once what was asked for meanwhile is here.
const LISTING_WAIT: Duration = Duration::from_secs(2);
/// Where the objects of the log stand.
const LOG_FOLDER: &str = "wal";
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
        let mut untold = at_once.clamp(1, UNTOLD_MAX);
        let listed_from = if untold == 1 { FOLLOWED_LISTED_FROM } else { LISTED_FROM };
        let mut listed = Some(Listed::default());
        let mut looks = 0;
        loop {
            let told = listed.as_ref().and_then(|listed| listed.behind(self.number));
            let count = told.unwrap_or(untold);
            let numbers = (self.number.0..self.number.0 + count).map(WalNumber);
            let fetched = try_join_all(numbers.map(|number| fetch(&self.store, number)));
            let found = if listed.is_some() && told.is_none() && count >= listed_from {
                let last = WalNumber(self.number.0 + count - 1);
                let listing = Box::pin(Listed::list(&*self.store, last));
                // Without it the log is read all the same, in more steps.
                match select(Box::pin(fetched), listing).await {
                    Either::Left((fetched, listing)) => {
                        let found = fetched?;
                        // Where the log ends here nobody waits for it.
                        if found.iter().all(Option::is_some) {
                            listed = timeout(LISTING_WAIT, listing).await.ok().and_then(Result::ok);
                        }
                        found
                    }
                    Either::Right((list, fetched)) => {
                        listed = list.ok();
                        fetched.await?
                    }
                }
            } else {
                fetched.await?
            };
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
            if there < usize::try_from(count).unwrap_or(usize::MAX) {
                return Ok(());
            }
            untold = match told {
                // What came since it was listed is little.
                Some(_) => 2,
                None => (2 * untold).min(UNTOLD_MAX),
            };
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

/// Objects of the log that a listing named, with their lengths.
#[derive(Debug, Default)]
struct Listed(BTreeMap<WalNumber, u64>);

impl Listed {
    /// Those behind `number`, one page of them.
    async fn list(store: &dyn ObjectStore, number: WalNumber) -> Result<Self> {
        let named = store
            .list_with_offset(Some(&Path::from(LOG_FOLDER)), &Path::from(object_path(number)))
            .take(LISTED_MAX)
            .try_filter_map(|object| async move {
                Ok(number_of(object.location.as_ref()).map(|number| (number, object.size)))
            });
        Ok(Self(named.try_collect().await?))
    }

    /// How many objects from `number` on are asked for together: as many as may be in memory at once, and behind the last that is known one
    /// more, which tells whether the log ends there. Those between that it does not name are asked for, too: something may be missing.
    /// None: it names none from there on.
    fn behind(&self, number: WalNumber) -> Option<u64> {
        let (mut count, mut bytes) = (0_u64, 0_u64);
        for (known, length) in self.0.range(number..) {
            bytes = bytes.saturating_add(*length);
            let reach = known.0 - number.0 + 1;
            match count {
                0 if reach > AT_ONCE_MAX => return Some(AT_ONCE_MAX),
                0 => {}
                _ if reach > AT_ONCE_MAX || bytes > AT_ONCE_BYTES_MAX => return Some(count),
                _ => {}
            }
            count = reach;
        }
        (count > 0).then_some(count + 1)
    }
}

/// The number of an object of the log, by its path; None: it is somebody else's.
fn number_of(path: &str) -> Option<WalNumber> {
    let number = path.strip_prefix(LOG_FOLDER)?.strip_prefix('/')?.parse().ok().map(WalNumber)?;
    (object_path(number) == path).then_some(number)
}

async fn fetch(store: &Arc<dyn ObjectStore>, number: WalNumber) -> Result<Option<Bytes>> {
    match store.get(&Path::from(object_path(number))).await {
        Ok(found) => Ok(Some(found.bytes().await?)),
        Err(object_store::Error::NotFound { .. }) => Ok(None),
        Err(error) => Err(error.into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Objects of these lengths from number 5 on.
    fn listed(lengths: &[u64]) -> Listed {
        Listed((5..).map(WalNumber).zip(lengths.iter().copied()).collect())
    }

    #[test]
    fn so_many_objects_are_asked_for_at_once() {
        let mib = 1 << 20;
        let behind = |lengths: &[u64], number: u64| listed(lengths).behind(WalNumber(number));
        assert_eq!(behind(&[], 5), None);
        assert_eq!(behind(&[1, 1], 5), Some(3), "and the one behind them");
        assert_eq!(behind(&[1, 1], 6), Some(2));
        assert_eq!(behind(&[1, 1], 7), None);
        assert_eq!(behind(&[1; 64], 5), Some(65));
        assert_eq!(behind(&[1; 65], 5), Some(64));
        assert_eq!(behind(&[30 * mib, 30 * mib, 30 * mib], 5), Some(2));
        assert_eq!(behind(&[200 * mib, 1, 1], 5), Some(1), "one is read whatever its length");
        assert_eq!(behind(&[200 * mib], 5), Some(2));
        // One that is not named is asked for together with what stands behind it.
        let mut with_a_gap = listed(&[1; 6]);
        with_a_gap.0.remove(&WalNumber(7));
        assert_eq!(with_a_gap.behind(WalNumber(5)), Some(7));
        assert_eq!(with_a_gap.behind(WalNumber(7)), Some(5));
        assert_eq!(behind(&[1, 1], 3), Some(5));
        let far = Listed(BTreeMap::from([(WalNumber(1000), 1)]));
        assert_eq!(far.behind(WalNumber(5)), Some(64));
    }

    #[test]
    fn only_objects_of_the_log_have_a_number() {
        assert_eq!(number_of("wal/00000000000000000012"), Some(WalNumber(12)));
        for other in
            ["wal/12", "wal/tip", "wal/00000000000000000012.part", "manifest/00000000000000000012", "wal"]
        {
            assert_eq!(number_of(other), None, "{other}");
        }
    }
}
