//! Sending entries that a journal holds: every answer of the store may be lost, and the same entries are sent again.
//!
//! Owns: recognising what stands under a number as what was sent before, by this process or an earlier one with the same journal.
//! Does not own: the journal, and when to try again (`database::journal`).

use bytes::Bytes;
use object_store::path::Path;
use tokio::time::Instant;

use super::{ObjectWal, fenced, object_bytes, object_path};
use crate::error::{Error, Result};
use crate::id::CommitVersion;
use crate::object::{Put, put_settled};
use crate::wal::frame::{FRAME_HEADER, Found, FrameKind, look};
use crate::wal::header::{FileHeader, HEADER_BYTES};

impl ObjectWal {
    /// Puts the first `count` of `entries` as the next object; `first` is the version of the first entry. Returns how many of `entries`
    /// stand in the log by now: others than `count` when an earlier attempt, whose answer was lost, was of others.
    ///
    /// # Errors
    /// `Fenced` when another writer's object stands there, or one that holds other entries; nothing can be sent any more then. Else the
    /// store's: calling again with the same entries settles what became of them.
    pub(crate) async fn send(&self, first: CommitVersion, entries: &[Bytes], count: usize) -> Result<usize> {
        let last_put = {
            let state = self.state();
            state.check()?;
            if first != state.next {
                let message = format!("version {first} was sent where {} was due", state.next);
                return Err(Error::internal(message));
            }
            state.last_put
        };
        if let Some(last) = last_put {
            tokio::time::sleep_until(last + self.options.flush_interval).await;
        }
        let begun = Instant::now();
        let parcel = entries.get(..count).unwrap_or(entries);
        loop {
            let (number, header) = {
                let state = self.state();
                (state.number, self.header(&state))
            };
            let bytes = object_bytes(&header, first, parcel);
            let path = Path::from(object_path(number));
            let put = put_settled(&*self.store, &path, &bytes, begun + self.options.timeout).await;
            let (length, sent) = match put.map_err(|(error, _)| error)? {
                Put::Ours => (bytes.len() as u64, parcel.len()),
                Put::Taken(found) => {
                    let theirs = FileHeader::decode(&found, &path, number, self.options.database_id)?;
                    if theirs.epoch < self.options.epoch {
                        // Void: its writer was fenced at a smaller number.
                        self.state().number = number.next();
                        continue;
                    }
                    let is_own = theirs.epoch == self.options.epoch && !theirs.is_fence;
                    match sent_before(&found, &theirs, first, entries).filter(|_| is_own) {
                        Some(sent) => (found.len() as u64, sent),
                        None => {
                            let error = fenced(&path, theirs.epoch, self.options.epoch);
                            return Err(self.state().poison.set(error));
                        }
                    }
                }
            };
            self.metrics.syncs.observe(begun.elapsed());
            self.metrics.written_bytes.add(length);
            self.state().wrote(number, length, CommitVersion(first.0 + sent as u64));
            return Ok(sent);
        }
    }
}

/// How many of `entries` an object holds; None: it holds something else, or more.
fn sent_before(found: &[u8], header: &FileHeader, first: CommitVersion, entries: &[Bytes]) -> Option<usize> {
    let (mut at, mut count) = (HEADER_BYTES, 0);
    while at < found.len() {
        let Found::Frame(frame) = look(found, at, 0, header.salt) else { return None };
        let payload = found.get(at + FRAME_HEADER..at + FRAME_HEADER + frame.payload)?;
        let is_same = frame.kind == FrameKind::Entry
            && frame.version.0 == first.0 + count as u64
            && entries.get(count).is_some_and(|entry| *entry == *payload);
        if !is_same {
            return None;
        }
        count += 1;
        at += frame.length;
    }
    (count > 0).then_some(count)
}
