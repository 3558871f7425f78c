//! Following a log that another process writes.
//!
//! Owns: a position, and going on from it. Reads only up to `wal/tip`, repairs nothing, and treats a bad frame as "not yet".

use std::io;
use std::sync::Arc;

use bytes::Bytes;

use super::{WalTip, path, read_range};
use crate::error::{Error, Result};
use crate::fs::{File, FileSystem, OpenMode};
use crate::id::{CommitVersion, DatabaseId, WalNumber};
use crate::wal::Recovered;
use crate::wal::frame::{FRAME_HEADER, Found, FrameKind, look};
use crate::wal::header::{FileHeader, HEADER_BYTES};

/// What a poll found.
#[derive(Clone, Debug)]
pub enum Followed {
    /// The durable entries since the last poll, in version order; often none.
    Entries(Vec<Recovered>),
    /// This file was removed by the writer: its effects are in the newest manifest, load that and begin anew.
    Gone(WalNumber),
}

/// Reads a growing log, never beyond what is durable.
#[derive(Debug)]
pub struct FileWalFollower {
    fs: Arc<dyn FileSystem>,
    database_id: DatabaseId,
    number: WalNumber,
    open: Option<Open>,
    next: Option<CommitVersion>,
}

#[derive(Debug)]
struct Open {
    file: Arc<dyn File>,
    salt: u64,
    at: u64,
}

impl FileWalFollower {
    /// Begins with the first entry of file `from`.
    #[must_use]
    pub fn new(fs: Arc<dyn FileSystem>, database_id: DatabaseId, from: WalNumber) -> Self {
        Self { fs, database_id, number: from, open: None, next: None }
    }

    /// File the follower stands in.
    #[must_use]
    pub fn number(&self) -> WalNumber {
        self.number
    }

    /// Entries that became durable since the last poll.
    ///
    /// # Errors
    /// I/O errors, and `Corrupt` when what must be durable is damaged. After an error the follower must not be used again:
    /// entries of that poll are lost to it.
    pub fn poll(&mut self) -> Result<Followed> {
        let mut entries = Vec::new();
        let Some(tip) = WalTip::read(&*self.fs)? else {
            return Ok(Followed::Entries(entries));
        };
        while self.number <= tip.number {
            let Some(limit) = self.limit(tip)? else {
                return Ok(Followed::Gone(self.number));
            };
            let Some(mut open) = self.open.take().map_or_else(|| self.begin(), |open| Ok(Some(open)))? else {
                return Ok(Followed::Gone(self.number));
            };
            self.read(&mut open, limit, &mut entries)?;
            let at = open.at;
            self.open = Some(open);
            if self.number == tip.number {
                break;
            }
            if at < limit {
                let why = "an entry that was durable can't be read";
                return Err(Error::corrupt(format_args!("{} at offset {at}", path(self.number)), why));
            }
            self.number = self.number.next();
            self.open = None;
        }
        Ok(Followed::Entries(entries))
    }

    /// Up to where the present file may be read; None when that is no longer known.
    fn limit(&self, tip: WalTip) -> Result<Option<u64>> {
        if tip.number == self.number {
            return Ok(Some(tip.offset));
        }
        let opened = self.open_file(self.number.next())?;
        Ok(opened.map(|(_, header)| header.predecessor_length))
    }

    fn open_file(&self, number: WalNumber) -> Result<Option<(Arc<dyn File>, FileHeader)>> {
        let name = path(number);
        let reading = |e| Error::io(format!("reading {name}"), e);
        let file = match self.fs.open(&name, OpenMode::Read) {
            Ok(file) => file,
            Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(e) => return Err(reading(e)),
        };
        let bytes = read_range(&*file, 0, HEADER_BYTES as u64).map_err(reading)?;
        let header = FileHeader::decode(&bytes, &name, number, self.database_id)?;
        Ok(Some((file, header)))
    }

    fn begin(&mut self) -> Result<Option<Open>> {
        let Some((file, header)) = self.open_file(self.number)? else { return Ok(None) };
        let next = *self.next.get_or_insert(header.first);
        if next != header.first {
            let why = format!("it begins with version {} instead of {next}", header.first);
            return Err(Error::corrupt(path(self.number), why));
        }
        Ok(Some(Open { file, salt: header.salt, at: HEADER_BYTES as u64 }))
    }

    fn read(&mut self, open: &mut Open, limit: u64, entries: &mut Vec<Recovered>) -> Result<()> {
        if limit <= open.at {
            return Ok(());
        }
        let name = path(self.number);
        let base = open.at;
        let bytes: Bytes =
            read_range(&*open.file, base, limit).map_err(|e| Error::io(format!("reading {name}"), e))?.into();
        let mut at = 0;
        while let Found::Frame(frame) = look(&bytes, at, base, open.salt) {
            if frame.kind == FrameKind::Entry {
                if self.next.is_some_and(|next| next != frame.version) {
                    let why = format!("version {} is out of order", frame.version);
                    return Err(Error::corrupt(format_args!("{name} at offset {}", base + at as u64), why));
                }
                self.next = Some(frame.version.next());
                let payload = at + FRAME_HEADER;
                entries.push(Recovered {
                    number: self.number,
                    offset: base + at as u64,
                    payload: bytes.slice(payload..payload + frame.payload),
                });
            }
            at += frame.length;
        }
        open.at = base + at as u64;
        Ok(())
    }
}
