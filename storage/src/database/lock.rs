//! The exclusive lock on a local root: one writer at a time.
//!
//! Owns: the file `lock` (holder's pid, host and start time inside, for the error of whoever comes second). The lock is
//! the operating system's, so it goes with its process however that ends.

use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use crate::error::{Error, ErrorKind, Result};
use crate::fs::{File, FileSystem, OpenMode};

const LOCK_PATH: &str = "lock";

/// Takes the lock.
///
/// # Errors
/// `Unavailable` naming the holder's pid; I/O errors (a read-only directory) otherwise.
pub(crate) fn take(fs: &dyn FileSystem, root: &str) -> Result<Arc<dyn File>> {
    let what = || format!("locking {root}");
    let file = fs.open(LOCK_PATH, OpenMode::OpenOrCreate).map_err(|e| Error::io(what(), e))?;
    if !file.try_lock(false).map_err(|e| Error::io(what(), e))? {
        return Err(held(root, &*file));
    }
    let started = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
    let text = format!("pid {}, host {}, started {started}", std::process::id(), host());
    let padded = format!("{text:<200}\n");
    file.write_at(padded.as_bytes(), 0).map_err(|e| Error::io(what(), e))?;
    Ok(file)
}

/// Keeps others from taking the lock as long as the answer lives, and writes nothing. None: nobody has ever had it.
///
/// # Errors
/// As for [`take`].
pub(crate) fn hold(fs: &dyn FileSystem, root: &str) -> Result<Option<Arc<dyn File>>> {
    let what = || format!("locking {root}");
    let file = match fs.open(LOCK_PATH, OpenMode::Read) {
        Ok(file) => file,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(Error::io(what(), error)),
    };
    if !file.try_lock(false).map_err(|e| Error::io(what(), e))? {
        return Err(held(root, &*file));
    }
    Ok(Some(file))
}

fn held(root: &str, file: &dyn File) -> Error {
    let holder = read(file);
    Error::new(
        ErrorKind::Unavailable,
        format!("the database {root} is open for writing in another process ({holder})"),
    )
    .with_hint("close it there, or open it here with --read-only")
}

fn read(file: &dyn File) -> String {
    let mut buf = [0; 256];
    match file.read_at(&mut buf, 0) {
        Ok(n) if n > 0 => String::from_utf8_lossy(&buf[..n]).trim().to_owned(),
        _ => "pid unknown".to_owned(),
    }
}

/// This machine's name.
pub(super) fn host() -> String {
    std::fs::read_to_string("/proc/sys/kernel/hostname")
        .ok()
        .or_else(|| std::env::var("HOSTNAME").ok())
        .map_or_else(|| "unknown".to_owned(), |h| h.trim().to_owned())
}
