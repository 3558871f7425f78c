//! The log as files `wal/<number>`: written, recovered, followed.
//!
//! Owns: names, preallocation, what is synced when, the cut of a torn tail, `wal/tip`. Does not own: frames and
//! headers (`frame`, `header`), which number recovery begins at (the manifest).
//!
//! Order. A file gets its name only when its header and zeros are synced, so a named file always has a header. A file gets
//! a successor only when every byte of it that counts is synced; the successor's header says how many those are.

mod follower;
mod mend;
mod present;
mod reader;
mod tip;
mod writer;

#[cfg(test)]
mod crash_tests;
#[cfg(test)]
mod damage_tests;

use std::io;

pub use follower::{FileWalFollower, Followed};
pub(crate) use mend::{Surviving, database_ids, mend, remove_tip, survive};
pub use reader::FileWalReader;
pub(crate) use reader::Remains;
pub use tip::WalTip;
pub(crate) use tip::{BYTES as TIP_BYTES, TIP_PATH, TipFile};
pub use writer::{FileWal, FileWalOptions};

use crate::error::{Error, Result};
use crate::fs::{File, FileSystem};
use crate::id::WalNumber;

/// The directory of the log.
const DIRECTORY: &str = "wal";

/// Path of a WAL file.
pub(crate) fn path(number: WalNumber) -> String {
    format!("{DIRECTORY}/{number:020}", number = number.0)
}

/// Path of a WAL file that is not complete yet.
fn temporary_path(number: WalNumber) -> String {
    format!("{DIRECTORY}/.tmp-{number:020}", number = number.0)
}

/// All WAL files with their lengths, in order.
fn files(fs: &dyn FileSystem) -> Result<Vec<(WalNumber, u64)>> {
    let listed = fs.list(DIRECTORY).map_err(|e| Error::io("listing wal", e))?;
    let mut found: Vec<_> = listed
        .into_iter()
        .filter_map(|(name, length)| {
            let digits = name.strip_prefix(DIRECTORY)?.strip_prefix('/')?;
            let ours = digits.len() == 20 && digits.bytes().all(|b| b.is_ascii_digit());
            Some((WalNumber(if ours { digits.parse().ok()? } else { return None }), length))
        })
        .collect();
    found.sort_unstable();
    Ok(found)
}

/// Removes the whole log: what it holds is somewhere else, or is not wanted.
///
/// # Errors
/// I/O errors; what is left then reads as a log that ends earlier, or begins later.
pub(crate) fn remove_log(fs: &dyn FileSystem) -> Result<()> {
    fs.create_dir_all(DIRECTORY).map_err(|e| Error::io("creating wal", e))?;
    let removed = |path: &str| match fs.remove_file(path) {
        Err(e) if e.kind() != io::ErrorKind::NotFound => Err(Error::io(format!("removing {path}"), e)),
        Ok(()) | Err(_) => fs.sync_dir(DIRECTORY).map_err(|e| Error::io("syncing wal", e)),
    };
    // First: it says which versions must be there.
    removed(tip::TIP_PATH)?;
    for (number, _) in files(fs)? {
        removed(&path(number))?;
    }
    Ok(())
}

/// Reads `[from, to)`, less when the file ends before; allocates only what is there.
fn read_range(file: &dyn File, from: u64, to: u64) -> io::Result<Vec<u8>> {
    let to = to.min(file.len()?);
    let length =
        usize::try_from(to.saturating_sub(from)).map_err(|_| io::Error::from(io::ErrorKind::FileTooLarge))?;
    let mut bytes = vec![0; length];
    let read = file.read_at(&mut bytes, from)?;
    bytes.truncate(read);
    Ok(bytes)
}
