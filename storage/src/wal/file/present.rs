//! The file appended to: begun, extended, and the one before it settled.
//!
//! Owns: which calls make a new file, its name and its predecessor durable, and in which order; preallocation. Does not own: what
//! is appended (`writer`).

use std::io;
use std::sync::Arc;

use super::{DIRECTORY, path, read_range, temporary_path};
use crate::error::{Error, ErrorKind, Result};
use crate::fs::{File, FileSystem, OpenMode};
use crate::id::WalNumber;
use crate::wal::Predecessor;
use crate::wal::header::{FileHeader, HEADER_BYTES};

/// A group that needs so many bytes more than there are zeros gets room instead.
const RESERVED_BYTES: u64 = if cfg!(test) { 2048 } else { 1 << 20 };

/// The file appended to.
#[derive(Debug)]
pub(super) struct Present {
    pub(super) file: Arc<dyn File>,
    pub(super) number: WalNumber,
    pub(super) salt: u64,
    /// End of what was written.
    pub(super) at: u64,
    /// End of what is synced.
    pub(super) synced: u64,
    /// End of the zeros, or of the room.
    pub(super) allocated: u64,
}

/// What a failure means for the log.
pub(super) enum Failure {
    Clean(Error),
    Final(Error),
}

/// Makes everything that counts of the last file durable.
pub(super) fn settle(fs: &dyn FileSystem, last: Predecessor) -> Result<()> {
    let name = path(last.number);
    let settling = |e| Error::io(format!("making {name} durable"), e);
    let file = fs.open(&name, OpenMode::Write).map_err(settling)?;
    let tail = read_range(&*file, last.synced, last.length).map_err(settling)?;
    if last.synced + tail.len() as u64 != last.length.max(last.synced) {
        return Err(Error::corrupt(name, "it became shorter since it was read"));
    }
    file.write_at(&tail, last.synced).map_err(settling)?;
    file.sync().map_err(settling)?;
    fs.sync_dir(DIRECTORY).map_err(|e| Error::io("syncing wal", e))
}

/// Writes a new file, header and zeros synced, under its temporary name.
pub(super) fn prepare(fs: &dyn FileSystem, header: &FileHeader) -> Result<Arc<dyn File>, Failure> {
    let (name, temporary) = (path(header.number), temporary_path(header.number));
    let creating = |e| Error::io(format!("creating {name}"), e);
    match fs.len(&name) {
        Err(e) if e.kind() == io::ErrorKind::NotFound => {}
        Err(e) => return Err(Failure::Clean(creating(e))),
        Ok(_) => {
            let message = format!("{name} exists already");
            return Err(Failure::Clean(Error::new(ErrorKind::AlreadyExists, message)));
        }
    }
    let write = || {
        match fs.remove_file(&temporary) {
            Err(e) if e.kind() != io::ErrorKind::NotFound => return Err(e),
            Ok(()) | Err(_) => {}
        }
        let file = fs.open(&temporary, OpenMode::CreateNew)?;
        file.preallocate(header.created_length)?;
        file.write_at(&header.encode(), 0)?;
        Ok(file)
    };
    let file = write().map_err(|e| {
        // It has no name that counts; what can't be removed now goes at the next open.
        let _ignored = fs.remove_file(&temporary);
        Failure::Clean(creating(e))
    })?;
    file.sync().map_err(|e| Failure::Final(creating(e)))?;
    Ok(file)
}

/// Gives a prepared file its name.
pub(super) fn name(fs: &dyn FileSystem, number: WalNumber) -> Result<()> {
    let naming = |e| Error::io(format!("creating {}", path(number)), e);
    fs.rename(&temporary_path(number), &path(number)).map_err(naming)?;
    fs.sync_dir(DIRECTORY).map_err(|e| {
        // The name may be seen until the next power loss and be gone after it. Nothing stands in the file yet: without
        // it, the next open does not build on it.
        let _ignored = fs.remove_file(&path(number));
        naming(e)
    })
}

impl Failure {
    pub(super) fn into_error(self) -> Error {
        match self {
            Self::Clean(error) | Self::Final(error) => error,
        }
    }
}

impl Present {
    pub(super) fn new(file: Arc<dyn File>, header: &FileHeader) -> Self {
        Self {
            file,
            number: header.number,
            salt: header.salt,
            at: HEADER_BYTES as u64,
            synced: HEADER_BYTES as u64,
            allocated: header.created_length,
        }
    }

    pub(super) fn doing(&self, what: &str, error: io::Error) -> Error {
        Error::io(format!("{what} {}", path(self.number)), error)
    }

    /// Zeros up to `end` at least, or room where a large group needs it. No byte of the log is touched, so failing is clean. Not synced by itself: the sync of
    /// the group that needed the room covers the zeros and the new length too.
    pub(super) fn allocate(&mut self, end: u64, step: u64) -> Result<()> {
        if end <= self.allocated {
            return Ok(());
        }
        let extended = if end - self.allocated >= RESERVED_BYTES {
            // They are all written now: zeros below them would cost as much again.
            self.file.reserve(end)
        } else {
            self.file.preallocate(end.max(self.allocated.saturating_add(step)))
        };
        // When the disk is full, what fitted may still be enough for this group.
        self.allocated = self.file.len().map_err(|e| self.doing("measuring", e))?;
        match extended {
            Err(e) if self.allocated < end => Err(self.doing("extending", e)),
            Ok(()) | Err(_) => Ok(()),
        }
    }
}
