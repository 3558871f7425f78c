//! Recovery: everything the files say from some number on, strictly.
//!
//! Owns: the one decision between a torn tail and corruption; finding what stands where nobody reads (VERIFY). Changes nothing on disk.
//!
//! A file with a successor counts up to the length its successor's header names, and every byte up to there must be
//! right. In the last file S is the largest `synced_upto` of any valid frame: a bad frame at or after S was never
//! acknowledged and is cut off with all that stands behind it; before S it is corruption, for acknowledged commits are lost.

use std::io;

use bytes::Bytes;

use super::{files, path, read_range};
use crate::error::{Error, ErrorKind, Result};
use crate::fs::{File, FileSystem, OpenMode};
use crate::id::{CommitVersion, DatabaseId, WalNumber};
use crate::wal::frame::{FRAME_ALIGN, FRAME_HEADER, Found, FrameKind, look, u64_at};
use crate::wal::header::{FileHeader, HEADER_BYTES};
use crate::wal::{Predecessor, Recovered, Recovery};

/// Zeros that are compared at once.
const ZEROS: [u8; 4096] = [0; 4096];

/// How many of `bytes` there are up to the last one that is not zero. Logs end in many zeros, which are read at each opening.
fn without_zeros(bytes: &[u8]) -> usize {
    let mut end = bytes.len();
    while let Some(start) = end.checked_sub(ZEROS.len())
        && bytes[start..end] == ZEROS[..]
    {
        end = start;
    }
    bytes[..end].iter().rposition(|byte| *byte != 0).map_or(0, |last| last + 1)
}

/// Reads the log at open.
#[derive(Debug)]
pub struct FileWalReader;

impl FileWalReader {
    /// Everything in the files from `from` on. No files at all is an empty log whose next number is `from`: the caller
    /// knows whether a new database may look like that (`predecessor` is None).
    ///
    /// # Errors
    /// `Corrupt`, naming file, offset and the versions at stake, when something acknowledged is missing or damaged;
    /// `Unsupported` when written by a newer Cairn.
    pub fn recover(fs: &dyn FileSystem, from: WalNumber, database_id: DatabaseId) -> Result<Recovery> {
        let mut entries = Vec::new();
        let mut take = |found: Vec<Recovered>| entries.extend(found);
        let recovery = Self::recover_each(fs, from, database_id, &mut take)?;
        Ok(Recovery { entries, ..recovery })
    }

    /// The same, without entries: `take` gets those of each file, in order, and nothing of a file is held once the one after it was read.
    ///
    /// # Errors
    /// As [`recover`](Self::recover); `take` has got what stands before then.
    pub(crate) fn recover_each(
        fs: &dyn FileSystem,
        from: WalNumber,
        database_id: DatabaseId,
        take: &mut dyn FnMut(Vec<Recovered>),
    ) -> Result<Recovery> {
        let numbers = dense(&files(fs)?, from)?;
        let mut recovery = Recovery { next: from, ..Recovery::default() };
        let mut loaded = None;
        for number in numbers {
            let next = Loaded::read(fs, number, database_id)?;
            if let Some(before) = loaded.replace(next)
                && let Some(next) = &loaded
            {
                before.complete(&next.header, &mut recovery)?;
                take(std::mem::take(&mut recovery.entries));
            }
            recovery.next = number.next();
        }
        if let Some(last) = loaded {
            last.last(&mut recovery)?;
            take(std::mem::take(&mut recovery.entries));
        }
        Ok(recovery)
    }

    /// Reads the payload of an entry again that was recovered from `offset` of a file.
    ///
    /// # Errors
    /// I/O errors, also where the file is shorter now.
    pub(crate) fn payload(file: &dyn File, offset: u64, length: usize) -> io::Result<Bytes> {
        let from = offset + FRAME_HEADER as u64;
        let bytes = read_range(file, from, from.saturating_add(length as u64))?;
        if bytes.len() < length { Err(io::ErrorKind::UnexpectedEof.into()) } else { Ok(bytes.into()) }
    }
}

impl FileWalReader {
    /// The same for a log whose replay point nobody has noted: from the first file on behind which none is missing. Removing old
    /// files may have been interrupted, and what is missing then is needed by nobody.
    ///
    /// # Errors
    /// As [`recover`](Self::recover).
    pub(crate) fn recover_all(fs: &dyn FileSystem, database_id: DatabaseId) -> Result<Recovery> {
        let mut from = WalNumber(1);
        let mut expected = None;
        for (number, _) in files(fs)? {
            if expected != Some(number) {
                from = number;
            }
            expected = Some(number.next());
        }
        Self::recover(fs, from, database_id)
    }
}

/// Bytes behind what counts of a file: made as zeros, or not there after a seal.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Remains {
    /// The file.
    pub(crate) path: String,
    /// The first of them.
    pub(crate) offset: u64,
    /// How many.
    pub(crate) bytes: u64,
    /// Whether they are missing rather than not zero.
    pub(crate) is_cut: bool,
}

impl FileWalReader {
    /// What stands behind the entries of the files from `from` on and is not as it was made: torn tails that recovery has cut, and damage
    /// where nobody reads.
    ///
    /// # Errors
    /// As [`recover`](Self::recover), but for what only counts across files.
    pub(crate) fn remains(
        fs: &dyn FileSystem,
        from: WalNumber,
        database_id: DatabaseId,
    ) -> Result<Vec<Remains>> {
        let mut found = Vec::new();
        let mut loaded: Option<Loaded> = None;
        for number in dense(&files(fs)?, from)? {
            let next = Loaded::read(fs, number, database_id)?;
            if let Some(before) = loaded.replace(next)
                && let Some(next) = &loaded
            {
                let end = usize::try_from(next.header.predecessor_length).unwrap_or(usize::MAX);
                found.extend(before.remains(end)?);
            }
        }
        if let Some(last) = loaded {
            found.extend(last.remains(usize::MAX)?);
        }
        Ok(found)
    }
}

/// The numbers from `from` on, none missing.
fn dense(files: &[(WalNumber, u64)], from: WalNumber) -> Result<Vec<WalNumber>> {
    let numbers: Vec<_> = files.iter().map(|(number, _)| *number).filter(|n| *n >= from).collect();
    let mut expected = from;
    for number in &numbers {
        if *number != expected {
            return Err(missing(expected));
        }
        expected = expected.next();
    }
    if numbers.is_empty() && !files.is_empty() {
        return Err(missing(from));
    }
    Ok(numbers)
}

fn missing(number: WalNumber) -> Error {
    Error::new(ErrorKind::Corrupt, format!("{} is missing, with every commit in it", path(number))).with_hint(
        "restore it from a backup of the same moment; opening without it would lose acknowledged commits",
    )
}

/// One file in memory. Entries are slices of `bytes`.
pub(super) struct Loaded {
    name: String,
    pub(super) header: FileHeader,
    pub(super) bytes: Bytes,
}

/// How far the good frames of a file go.
#[derive(Debug)]
pub(super) struct Walked {
    /// Offset behind the last good frame.
    pub(super) at: usize,
    /// Version the next entry would have.
    pub(super) next: CommitVersion,
    /// Largest `synced_upto` of the good frames.
    synced: u64,
    pub(super) sealed: bool,
    /// What is wrong at `at`; None when nothing was written there.
    pub(super) why: Option<&'static str>,
}

impl Loaded {
    pub(super) fn read(fs: &dyn FileSystem, number: WalNumber, database_id: DatabaseId) -> Result<Self> {
        let name = path(number);
        let reading = |e| Error::io(format!("reading {name}"), e);
        let file = fs.open(&name, OpenMode::Read).map_err(reading)?;
        let bytes = read_range(&*file, 0, u64::MAX).map_err(reading)?;
        let header = FileHeader::decode(&bytes, &name, number, database_id)?;
        Ok(Self { name, header, bytes: bytes.into() })
    }

    /// Collects entries up to `end`, the seal or the first frame that is not good.
    pub(super) fn walk(&self, end: usize, entries: &mut Vec<Recovered>) -> Result<Walked> {
        let bytes = self.bytes.get(..end).unwrap_or(&self.bytes);
        let mut walked =
            Walked { at: HEADER_BYTES, next: self.header.first, synced: 0, sealed: false, why: None };
        while !walked.sealed {
            let frame = match look(bytes, walked.at, 0, self.header.salt) {
                Found::Frame(frame) => frame,
                Found::End => break,
                Found::Bad(why) => {
                    walked.why = Some(why);
                    break;
                }
            };
            match frame.kind {
                FrameKind::Entry if frame.version == walked.next => {
                    let payload = walked.at + FRAME_HEADER;
                    entries.push(Recovered {
                        number: self.header.number,
                        offset: walked.at as u64,
                        payload: self.bytes.slice(payload..payload + frame.payload),
                    });
                    walked.next = frame.version.next();
                }
                FrameKind::Seal if frame.version.next() == walked.next => walked.sealed = true,
                FrameKind::Entry | FrameKind::Seal => {
                    let why = format!("version {} stands where {} should", frame.version, walked.next);
                    return Err(self.corrupt(walked.at, &why, walked.next, None));
                }
            }
            walked.synced = walked.synced.max(frame.synced_upto);
            walked.at += frame.length;
        }
        Ok(walked)
    }

    /// A file with a successor: whole up to where the successor says.
    fn complete(&self, successor: &FileHeader, recovery: &mut Recovery) -> Result<()> {
        self.follows(recovery)?;
        let end = usize::try_from(successor.predecessor_length).unwrap_or(usize::MAX);
        let walked = self.walk(end, &mut recovery.entries)?;
        let last = CommitVersion(walked.next.0.saturating_sub(1));
        if walked.at != end || last != successor.predecessor_last || successor.first != walked.next {
            let why = walked.why.unwrap_or("entries are missing");
            return Err(self.corrupt(walked.at, why, walked.next, Some(successor.predecessor_last)));
        }
        recovery.predecessor = Some(self.ended(end as u64, end as u64, last));
        Ok(())
    }

    /// The last file: cut at a torn tail.
    fn last(&self, recovery: &mut Recovery) -> Result<()> {
        self.follows(recovery)?;
        let walked = self.walk(usize::MAX, &mut recovery.entries)?;
        let last = CommitVersion(walked.next.0.saturating_sub(1));
        recovery.predecessor = Some(self.ended(walked.at as u64, walked.synced, last));
        if walked.sealed {
            return Ok(());
        }
        let (synced, newest) = self.behind(&walked);
        if (walked.at as u64) < synced {
            let why = walked.why.unwrap_or("an entry is missing");
            return Err(self.corrupt(walked.at, why, walked.next, newest));
        }
        if (self.bytes.len() as u64) < self.header.created_length {
            let why = "it is shorter than it was created, and not sealed";
            return Err(self.corrupt(self.bytes.len(), why, walked.next, None));
        }
        let tail = without_zeros(&self.bytes);
        if tail > walked.at {
            recovery.torn = Some(format!(
                "{}: {} bytes from offset {} were being written when the writer stopped; they were never acknowledged and are left out",
                self.name,
                tail - walked.at,
                walked.at,
            ));
        }
        Ok(())
    }

    /// What is not as it was made behind the last good frame before `end`.
    fn remains(&self, end: usize) -> Result<Vec<Remains>> {
        let walked = self.walk(end, &mut Vec::new())?;
        let remains = |offset: usize, bytes: u64, is_cut| Remains {
            path: self.name.clone(),
            offset: offset as u64,
            bytes,
            is_cut,
        };
        let mut found = Vec::new();
        let rest = self.bytes.get(walked.at..).unwrap_or_default();
        if let Some(first) = rest.iter().position(|byte| *byte != 0) {
            let last = rest.iter().rposition(|byte| *byte != 0).unwrap_or(first);
            found.push(remains(walked.at + first, (last - first + 1) as u64, false));
        }
        let missing = self.header.created_length.saturating_sub(self.bytes.len() as u64);
        if missing > 0 && !walked.sealed {
            found.push(remains(self.bytes.len(), missing, true));
        }
        Ok(found)
    }

    /// S of the whole file, and the newest version behind the good frames.
    pub(super) fn behind(&self, walked: &Walked) -> (u64, Option<CommitVersion>) {
        let (mut synced, mut newest) = (walked.synced, None);
        let mut at = walked.at + FRAME_ALIGN;
        // No frame begins in the zeros at the end.
        let end = without_zeros(&self.bytes);
        while at < end {
            if !self.may_begin(at, walked) {
                at += FRAME_ALIGN;
                continue;
            }
            match look(&self.bytes, at, 0, self.header.salt) {
                Found::Frame(frame) => {
                    synced = synced.max(frame.synced_upto);
                    newest = newest.max(Some(frame.version));
                    at += frame.length;
                }
                Found::End | Found::Bad(_) => at += FRAME_ALIGN,
            }
        }
        (synced, newest)
    }

    /// Whether a writer may have begun a frame at `at`, behind the good ones: what it says to be synced never falls, and each frame since took a
    /// header at least and the next version. Rows of a torn entry may look like a frame in all but its checksum, which takes as long to work out
    /// as the length there says.
    fn may_begin(&self, at: usize, walked: &Walked) -> bool {
        let (synced, version) = (u64_at(&self.bytes, at + 16), u64_at(&self.bytes, at + 24));
        let since = version.checked_sub(walked.next.0);
        synced >= walked.synced
            && since.is_some_and(|since| since <= ((at - walked.at) / FRAME_HEADER) as u64)
    }

    /// Checks that this file begins where the one before it ended.
    fn follows(&self, recovery: &Recovery) -> Result<()> {
        match recovery.predecessor {
            Some(before) if self.header.first != before.last.next() => {
                let why = format!("it begins with version {}", self.header.first);
                Err(self.corrupt(0, &why, before.last.next(), None))
            }
            Some(_) | None => Ok(()),
        }
    }

    fn ended(&self, length: u64, synced: u64, last: CommitVersion) -> Predecessor {
        Predecessor { number: self.header.number, length, synced, last }
    }

    fn corrupt(&self, at: usize, why: &str, first: CommitVersion, last: Option<CommitVersion>) -> Error {
        let stake = match last {
            Some(last) if last > first => {
                format!("versions {first} to {last}, and any after them, are at stake")
            }
            Some(_) | None => format!("version {first} and any after it are at stake"),
        };
        Error::corrupt(format_args!("{} at offset {at}", self.name), why)
            .with_detail(stake)
            .with_hint("restore the file from a backup; nothing was changed")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn zeros_at_the_end_are_left_out_wherever_they_begin() {
        for length in [0, 1, ZEROS.len() - 1, ZEROS.len(), ZEROS.len() + 1, 3 * ZEROS.len() + 7] {
            let mut bytes = vec![0; length];
            assert_eq!(without_zeros(&bytes), 0);
            for last in [0, 1, ZEROS.len() - 1, ZEROS.len(), 2 * ZEROS.len() + 6, length.saturating_sub(1)] {
                if let Some(byte) = bytes.get_mut(last) {
                    *byte = 1;
                    assert_eq!(without_zeros(&bytes), last + 1);
                    bytes[last] = 0;
                }
            }
        }
    }
}
