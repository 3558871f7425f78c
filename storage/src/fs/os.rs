//! The operating system's files, with std and, for room, `fallocate` of Linux.
//!
//! Owns: mapping relative names to a root directory, complete reads and writes, and which system call
//! makes what durable. Does not own: when to sync. `sync` is `fdatasync` (`F_FULLFSYNC` on macOS);
//! directories are synced through a handle of their own.

use std::fs::{self, OpenOptions, TryLockError};
use std::io;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::Bytes;

use super::{File, FileSystem, OpenMode, check_path, parent};

/// Zeros written by one call of `preallocate`.
const ZEROS_BYTES: usize = 1 << 20;

/// Files below one directory of the operating system.
#[derive(Debug, Clone)]
pub struct OsFileSystem {
    root: PathBuf,
}

impl OsFileSystem {
    /// The file system below `root`, which need not exist yet (`create_dir_all("")` makes it).
    #[must_use]
    pub fn new(root: PathBuf) -> Self {
        Self { root }
    }

    fn resolve(&self, path: &str) -> io::Result<PathBuf> {
        check_path(path)?;
        Ok(if path.is_empty() { self.root.clone() } else { self.root.join(path) })
    }

    /// Creates the root with its missing parents, each new entry durable.
    fn create_root(&self) -> io::Result<()> {
        let missing: Vec<&Path> =
            self.root.ancestors().filter(|p| !p.as_os_str().is_empty()).take_while(|p| !p.is_dir()).collect();
        for directory in missing.into_iter().rev() {
            create_directory(directory)?;
            let above = directory.parent().filter(|p| !p.as_os_str().is_empty());
            sync_directory(above.unwrap_or(Path::new(".")))?;
        }
        Ok(())
    }
}

fn create_directory(path: &Path) -> io::Result<()> {
    match fs::create_dir(path) {
        Err(e) if e.kind() == io::ErrorKind::AlreadyExists && path.is_dir() => Ok(()),
        other => other,
    }
}

fn sync_directory(path: &Path) -> io::Result<()> {
    fs::File::open(path)?.sync_all()
}

impl FileSystem for OsFileSystem {
    fn open(&self, path: &str, mode: OpenMode) -> io::Result<Arc<dyn File>> {
        let resolved = self.resolve(path)?;
        let mut options = OpenOptions::new();
        options.read(true);
        match mode {
            OpenMode::Read => {}
            OpenMode::Write => {
                options.write(true);
            }
            OpenMode::CreateNew => {
                options.write(true).create_new(true);
            }
            OpenMode::OpenOrCreate => {
                options.write(true).create(true).truncate(false);
            }
        }
        let file = options.open(resolved)?;
        // A directory can be opened for reading; it is no file of ours.
        if mode == OpenMode::Read && !file.metadata()?.is_file() {
            return Err(io::Error::new(io::ErrorKind::NotFound, format!("'{path}' is not a file")));
        }
        Ok(Arc::new(OsFile(file)))
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        fs::rename(self.resolve(from)?, self.resolve(to)?)
    }

    fn hard_link(&self, from: &str, to: &str) -> io::Result<()> {
        fs::hard_link(self.resolve(from)?, self.resolve(to)?)
    }

    fn remove_file(&self, path: &str) -> io::Result<()> {
        fs::remove_file(self.resolve(path)?)
    }

    fn create_dir_all(&self, path: &str) -> io::Result<()> {
        check_path(path)?;
        self.create_root()?;
        let ends = path.match_indices('/').map(|(at, _)| at).chain([path.len()]);
        for end in ends.filter(|end| *end > 0) {
            let directory = &path[..end];
            create_directory(&self.resolve(directory)?)?;
            // Also when it exists: a killed process may have made it and never synced its parent.
            sync_directory(&self.resolve(parent(directory))?)?;
        }
        Ok(())
    }

    fn sync_dir(&self, path: &str) -> io::Result<()> {
        sync_directory(&self.resolve(path)?)
    }

    fn list(&self, path: &str) -> io::Result<Vec<(String, u64)>> {
        let mut found = Vec::new();
        let mut open = vec![path.to_owned()];
        while let Some(directory) = open.pop() {
            let entries = match fs::read_dir(self.resolve(&directory)?) {
                Ok(entries) => entries,
                Err(e) if matches!(e.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => {
                    continue;
                }
                Err(e) => return Err(e),
            };
            for entry in entries {
                let entry = entry?;
                // Names that are not UTF-8 were never ours.
                let Ok(name) = entry.file_name().into_string() else { continue };
                let name = if directory.is_empty() { name } else { format!("{directory}/{name}") };
                match fs::metadata(entry.path()) {
                    Ok(m) if m.is_dir() => open.push(name),
                    Ok(m) if m.is_file() => found.push((name, m.len())),
                    Ok(_) => {}
                    // Removed since it was listed.
                    Err(e) if e.kind() == io::ErrorKind::NotFound => {}
                    Err(e) => return Err(e),
                }
            }
        }
        found.sort();
        Ok(found)
    }

    fn len(&self, path: &str) -> io::Result<u64> {
        Ok(fs::metadata(self.resolve(path)?)?.len())
    }

    fn modified_us(&self, path: &str) -> io::Result<Option<i64>> {
        let modified = fs::metadata(self.resolve(path)?)?.modified()?;
        let since = modified.duration_since(std::time::UNIX_EPOCH).ok();
        Ok(since.and_then(|since| i64::try_from(since.as_micros()).ok()))
    }

    fn map(&self, path: &str) -> io::Result<Bytes> {
        let file = fs::File::open(self.resolve(path)?)?;
        if file.metadata()?.len() == 0 {
            return Ok(Bytes::new());
        }
        #[expect(
            unsafe_code,
            reason = "objects are written once under another name and never changed; whoever changes one from outside can \
                      change what these bytes hold, which every reader of them allows for"
        )]
        // SAFETY: the mapping is read-only and lives in the returned owner; see the reason above for its contents.
        let mapped = unsafe { memmap2::Mmap::map(&file)? };
        Ok(Bytes::from_owner(mapped))
    }
}

#[derive(Debug)]
struct OsFile(fs::File);

impl File for OsFile {
    fn read_at(&self, buf: &mut [u8], offset: u64) -> io::Result<usize> {
        let mut done = 0;
        while done < buf.len() {
            match self.0.read_at(&mut buf[done..], offset + done as u64) {
                Ok(0) => break,
                Ok(n) => done += n,
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                Err(e) => return Err(e),
            }
        }
        Ok(done)
    }

    fn write_at(&self, buf: &[u8], offset: u64) -> io::Result<()> {
        self.0.write_all_at(buf, offset)
    }

    fn sync(&self) -> io::Result<()> {
        self.0.sync_data()
    }

    fn len(&self) -> io::Result<u64> {
        Ok(self.0.metadata()?.len())
    }

    fn preallocate(&self, length: u64) -> io::Result<()> {
        let mut at = self.len()?;
        if at >= length {
            return Ok(());
        }
        let zeros = vec![0u8; ZEROS_BYTES.min(usize::try_from(length - at).unwrap_or(ZEROS_BYTES))];
        while at < length {
            let step = (length - at).min(zeros.len() as u64) as usize;
            self.0.write_all_at(&zeros[..step], at)?;
            at += step as u64;
        }
        Ok(())
    }

    #[cfg(target_os = "linux")]
    fn reserve(&self, length: u64) -> io::Result<()> {
        use nix::errno::Errno;
        use nix::fcntl::{FallocateFlags, fallocate};

        let at = self.len()?;
        if at >= length {
            return Ok(());
        }
        let (Ok(from), Ok(more)) = (at.try_into(), (length - at).try_into()) else {
            return self.preallocate(length);
        };
        match fallocate(&self.0, FallocateFlags::empty(), from, more) {
            Ok(()) => Ok(()),
            Err(full @ (Errno::ENOSPC | Errno::EDQUOT)) => Err(full.into()),
            // Not every file system can.
            Err(_) => self.preallocate(length),
        }
    }

    fn truncate(&self, length: u64) -> io::Result<()> {
        if self.len()? > length {
            self.0.set_len(length)?;
        }
        Ok(())
    }

    fn try_lock(&self, shared: bool) -> io::Result<bool> {
        let locked = if shared { self.0.try_lock_shared() } else { self.0.try_lock() };
        match locked {
            Ok(()) => Ok(true),
            Err(TryLockError::WouldBlock) => Ok(false),
            Err(TryLockError::Error(e)) => Err(e),
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn temporary() -> (tempfile::TempDir, OsFileSystem) {
        let dir = tempfile::tempdir().unwrap();
        let fs = OsFileSystem::new(dir.path().join("not/yet"));
        fs.create_dir_all("").unwrap();
        (dir, fs)
    }

    #[test]
    fn bytes_come_back() {
        let (_dir, fs) = temporary();
        fs.create_dir_all("a/b").unwrap();
        fs.create_dir_all("a/b").unwrap();
        let file = fs.open("a/b/c", OpenMode::CreateNew).unwrap();
        file.preallocate(3 << 20).unwrap();
        assert_eq!(file.len().unwrap(), 3 << 20);
        file.write_at(b"hello", 1000).unwrap();
        file.sync().unwrap();
        fs.sync_dir("a/b").unwrap();
        let mut buf = [9; 7];
        assert_eq!(file.read_at(&mut buf, 999).unwrap(), 7);
        assert_eq!(&buf, b"\0hello\0");
        file.truncate(1003).unwrap();
        file.truncate(5000).unwrap();
        assert_eq!(file.read_at(&mut buf, 999).unwrap(), 4);
        assert_eq!(fs.len("a/b/c").unwrap(), 1003);
        assert_eq!(fs.list("").unwrap(), vec![("a/b/c".to_owned(), 1003)]);
        assert_eq!(fs.list("none").unwrap(), vec![]);
    }

    #[test]
    fn room_is_read_as_zeros_and_written_in() {
        let (_dir, fs) = temporary();
        let file = fs.open("a", OpenMode::CreateNew).unwrap();
        file.write_at(b"hello", 0).unwrap();
        file.reserve(300_000).unwrap();
        file.reserve(10).unwrap();
        assert_eq!(file.len().unwrap(), 300_000);
        file.write_at(b"end", 299_997).unwrap();
        file.sync().unwrap();
        let mut bytes = vec![9; 300_001];
        assert_eq!(file.read_at(&mut bytes, 0).unwrap(), 300_000);
        assert_eq!((&bytes[..5], &bytes[299_997..300_000]), (&b"hello"[..], &b"end"[..]));
        assert!(bytes[5..299_997].iter().all(|byte| *byte == 0));
    }

    #[test]
    fn names_move_link_and_go() {
        let (_dir, fs) = temporary();
        fs.open("a", OpenMode::CreateNew).unwrap();
        assert_eq!(fs.open("a", OpenMode::CreateNew).unwrap_err().kind(), io::ErrorKind::AlreadyExists);
        assert_eq!(fs.open("b", OpenMode::Read).unwrap_err().kind(), io::ErrorKind::NotFound);
        fs.hard_link("a", "b").unwrap();
        assert_eq!(fs.hard_link("a", "b").unwrap_err().kind(), io::ErrorKind::AlreadyExists);
        fs.rename("b", "c").unwrap();
        fs.remove_file("a").unwrap();
        assert_eq!(fs.list("").unwrap(), vec![("c".to_owned(), 0)]);
    }

    #[test]
    fn paths_cannot_leave_the_root() {
        let (_dir, fs) = temporary();
        for path in ["/etc/passwd", "../x", "a/../../x", "a//b", "./a", "a/"] {
            let error = fs.open(path, OpenMode::OpenOrCreate).unwrap_err();
            assert_eq!(error.kind(), io::ErrorKind::InvalidInput, "{path}");
        }
    }

    #[test]
    fn locks_exclude() {
        let (_dir, fs) = temporary();
        let a = fs.open("lock", OpenMode::OpenOrCreate).unwrap();
        let b = fs.open("lock", OpenMode::OpenOrCreate).unwrap();
        assert!(a.try_lock(false).unwrap());
        assert!(!b.try_lock(false).unwrap());
        assert!(!b.try_lock(true).unwrap());
        drop(a);
        assert!(b.try_lock(true).unwrap());
    }
}
