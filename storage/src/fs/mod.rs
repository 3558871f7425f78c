//! The file system as storage sees it: a small synchronous trait with exactly the calls whose
//! durability we reason about.
//!
//! Two implementations: [`OsFileSystem`] (std) and [`SimFileSystem`] (tests: keeps, on a crash, any subset of what was
//! not synced). Paths are relative to the root the file system was made for, `/`-separated, never absolute, never `..`.
//!
//! Durability rules (POSIX as ext4, xfs and apfs keep it): file bytes are durable after [`File::sync`]; a name (create,
//! rename, link, remove) is durable after [`FileSystem::sync_dir`] of its directory. Nothing else is promised.

mod os;
mod poison;
mod sim;

use std::fmt::Debug;
use std::io;
use std::sync::Arc;

use bytes::Bytes;

pub use os::OsFileSystem;
pub(crate) use poison::Poison;
pub use sim::{Fault, RecordedStep, SimFileSystem, Step};

/// An open file. Reads and writes name their offset; there is no cursor.
#[expect(clippy::len_without_is_empty, reason = "nobody asks whether a file is empty")]
pub trait File: Send + Sync + Debug {
    /// Reads up to `buf.len()` bytes at `offset`; fewer only at the end of the file.
    fn read_at(&self, buf: &mut [u8], offset: u64) -> io::Result<usize>;
    /// Writes all of `buf` at `offset`, extending the file where needed.
    fn write_at(&self, buf: &[u8], offset: u64) -> io::Result<()>;
    /// Makes bytes and length durable (fdatasync). A failure is final: never call it again (D1).
    fn sync(&self) -> io::Result<()>;
    /// Present length in bytes.
    fn len(&self) -> io::Result<u64>;
    /// Fills the file with zeros from its present end up to `length`, blocks allocated and written, so
    /// that later writes below `length` change no metadata. Never shortens. A failure leaves the file
    /// somewhere between its old length and `length`.
    fn preallocate(&self, length: u64) -> io::Result<()>;
    /// Gives the file room up to `length`, which is its length then; zeros are read where nothing was written. For bytes that are
    /// written at once: the disk is found full before the first of them, and nothing is written twice. Never shortens. A failure as
    /// [`preallocate`](Self::preallocate)'s; whoever can't give room otherwise does what that does.
    fn reserve(&self, length: u64) -> io::Result<()> {
        self.preallocate(length)
    }
    /// Cuts the file to `length` bytes; nothing when it is shorter already.
    fn truncate(&self, length: u64) -> io::Result<()>;
    /// Takes an exclusive (`shared` = false) or shared advisory lock without waiting; Ok(false) when
    /// somebody else holds it. Held until the file is dropped or the process ends.
    fn try_lock(&self, shared: bool) -> io::Result<bool>;
}

/// How [`FileSystem::open`] opens.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OpenMode {
    /// Must exist; read only.
    Read,
    /// Must exist; read and write.
    Write,
    /// Must not exist; created empty, read and write.
    CreateNew,
    /// Created empty unless it exists; read and write.
    OpenOrCreate,
}

/// Names and files below one root directory.
pub trait FileSystem: Send + Sync + Debug + 'static {
    /// Opens or creates a file.
    fn open(&self, path: &str, mode: OpenMode) -> io::Result<Arc<dyn File>>;
    /// Renames over `to` if it exists (same file system).
    fn rename(&self, from: &str, to: &str) -> io::Result<()>;
    /// Gives the file a second name; `AlreadyExists` when `to` is taken.
    fn hard_link(&self, from: &str, to: &str) -> io::Result<()>;
    /// Removes a name.
    fn remove_file(&self, path: &str) -> io::Result<()>;
    /// Creates a directory and its missing parents; each new entry made durable in its parent.
    fn create_dir_all(&self, path: &str) -> io::Result<()>;
    /// Makes the names in a directory durable. "" is the root.
    fn sync_dir(&self, path: &str) -> io::Result<()>;
    /// Files (name relative to the root, length) below `path`, recursively, sorted; none if absent.
    fn list(&self, path: &str) -> io::Result<Vec<(String, u64)>>;
    /// Length of a file; `NotFound` when absent.
    fn len(&self, path: &str) -> io::Result<u64>;
    /// When a file was last written to, µs since 1970 UTC; None: nobody knows.
    fn modified_us(&self, path: &str) -> io::Result<Option<i64>> {
        let _ = path;
        Ok(None)
    }
    /// The bytes of a file that never changes; in place where the system can, else a copy. Reading a page that the disk
    /// can't give, or one past the end of a file that somebody cut short, ends the process.
    fn map(&self, path: &str) -> io::Result<Bytes> {
        let file = self.open(path, OpenMode::Read)?;
        let mut bytes = vec![0; usize::try_from(file.len()?).map_err(io::Error::other)?];
        let read = file.read_at(&mut bytes, 0)?;
        bytes.truncate(read);
        Ok(bytes.into())
    }
}

/// The directory a path stands in; "" is the root.
pub(crate) fn parent(path: &str) -> &str {
    path.rsplit_once('/').map_or("", |(directory, _)| directory)
}

/// Refuses what could leave the root: absolute paths, empty parts, `.` and `..`. "" is the root.
pub(crate) fn check_path(path: &str) -> io::Result<()> {
    let bad = |part: &str| part.is_empty() || part == "." || part == ".." || part.contains(['\\', '\0']);
    if !path.is_empty() && path.split('/').any(bad) {
        return Err(io::Error::new(
            io::ErrorKind::InvalidInput,
            format!("'{path}' is not a path below the root"),
        ));
    }
    Ok(())
}
