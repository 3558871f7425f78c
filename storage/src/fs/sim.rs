//! A file system in memory for tests: seeded, deterministic, and as unkind as POSIX allows.
//!
//! Owns: what a crash may lose (`inode`, `names`), injected faults and the count of steps (`state`). Every call that changes something
//! is one step, so a test can crash or fail at step k for every k, or record all steps and crash at each of them afterwards. Locks exclude
//! within the process.

mod inode;
mod names;
mod state;

use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use self::inode::Inode;
pub use self::state::Step;
use self::state::{Fate, State, Target, absent, dead, failed};
use super::{File, FileSystem, OpenMode, check_path};

/// Something that goes wrong once; `n` counts calls of that kind from now, 1 is the next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// The nth call that changes anything, of whatever kind.
    Step(u64),
    /// The nth file creation.
    Create(u64),
    /// The nth write or preallocation; a part of it may be done.
    Write(u64),
    /// The nth file sync; each dirty page is lost or kept, and called clean.
    Sync(u64),
    /// The nth rename.
    Rename(u64),
    /// The nth hard link.
    HardLink(u64),
    /// The nth removal of a name.
    Remove(u64),
    /// The nth directory sync; each pending name is lost or kept.
    SyncDir(u64),
}

/// A step that was recorded.
#[derive(Clone, Debug)]
pub struct RecordedStep {
    /// Counted as [`SimFileSystem::steps`] does.
    pub number: u64,
    /// What was done.
    pub step: Step,
    /// The directory; the name that is made or removed; or the present name of the file whose bytes it is about, empty when it has none.
    pub path: String,
    /// Which file, whatever its names are; None for directories.
    pub file: Option<u64>,
    /// The machine just before: nothing of the step is done.
    pub before: SimFileSystem,
}

/// Files in memory. Clones are the same file system.
#[derive(Clone, Debug)]
pub struct SimFileSystem(Arc<Mutex<State>>);

impl SimFileSystem {
    /// An empty file system whose whims follow `seed`.
    #[must_use]
    pub fn new(seed: u64) -> Self {
        Self::of(State::new(seed))
    }

    fn of(state: State) -> Self {
        Self(Arc::new(Mutex::new(state)))
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What the machine finds after losing power now: everything synced, any subset of the rest.
    #[must_use]
    pub fn crash(&self, seed: u64) -> Self {
        let old = self.state();
        let mut new = State::new(seed);
        new.names = old.names.crashed(&mut new.rng);
        new.next_inode = old.next_inode;
        let mut numbers: Vec<u64> = new.names.seen.values().copied().collect();
        numbers.sort_unstable();
        numbers.dedup();
        for number in numbers {
            let found = old.inodes.get(&number).map(|inode| inode.crashed(&mut new.rng));
            new.inodes.insert(number, Arc::new(Inode::settled(found.unwrap_or_default())));
        }
        Self::of(new)
    }

    /// What the machine finds after losing power now, and with it everything that was not synced.
    #[must_use]
    pub fn synced(&self, seed: u64) -> Self {
        let old = self.state();
        let mut new = State::new(seed);
        new.names = old.names.synced();
        new.next_inode = old.next_inode;
        for number in new.names.seen.values() {
            let found = old.inodes.get(number).map(|inode| inode.synced());
            new.inodes.insert(*number, Arc::new(Inode::settled(found.unwrap_or_default())));
        }
        Self::of(new)
    }

    /// What the next process finds when this one is killed: every byte and name as seen, still not durable where
    /// it was not; locks free, faults gone.
    #[must_use]
    pub fn restart(&self, seed: u64) -> Self {
        Self::of(self.state().image(seed))
    }

    /// From now on each step is recorded, with the machine as it was before.
    pub fn record(&self) {
        self.state().recorded.get_or_insert_default();
    }

    /// The steps recorded since this was asked last, in order.
    #[must_use]
    pub fn recorded(&self) -> Vec<RecordedStep> {
        self.state().recorded.as_mut().map(std::mem::take).unwrap_or_default()
    }

    /// Arms a fault.
    pub fn inject(&self, fault: Fault) {
        self.state().faults.push(fault);
    }

    /// Takes all armed faults away.
    pub fn clear_faults(&self) {
        let mut state = self.state();
        state.faults.clear();
        state.capacity = None;
        state.full_at = None;
    }

    /// The disk has room for this many more bytes; a write beyond does what fits and fails.
    pub fn limit_free_bytes(&self, bytes: u64) {
        let mut state = self.state();
        state.capacity = Some(state.used() + bytes);
    }

    /// From step `step` on (counted as [`SimFileSystem::steps`] does) the disk has no room for anything more.
    pub fn fill_at_step(&self, step: u64) {
        self.state().full_at = Some(step);
    }

    /// Steps so far.
    #[must_use]
    pub fn steps(&self) -> u64 {
        self.state().steps
    }

    /// The machine dies at step `step` (counted as [`SimFileSystem::steps`] does): that call and every later one fails.
    /// Then call [`SimFileSystem::crash`].
    pub fn crash_at_step(&self, step: u64) {
        self.state().crash_at = Some(step);
    }

    /// Whether the machine has died.
    #[must_use]
    pub fn is_dead(&self) -> bool {
        self.state().dead
    }

    /// How often a file was synced again after a sync of it had failed (never allowed, D1).
    #[must_use]
    pub fn retried_syncs(&self) -> u64 {
        self.state().retried_syncs
    }
}

impl FileSystem for SimFileSystem {
    fn open(&self, path: &str, mode: OpenMode) -> io::Result<Arc<dyn File>> {
        check_path(path)?;
        let mut state = self.state();
        state.alive()?;
        let existing = state.names.seen.get(path).copied();
        let inode = match (existing, mode) {
            (Some(_), OpenMode::CreateNew) => return Err(io::Error::from(io::ErrorKind::AlreadyExists)),
            (Some(inode), _) => inode,
            (None, OpenMode::Read | OpenMode::Write) => return Err(absent(path)),
            (None, OpenMode::CreateNew | OpenMode::OpenOrCreate) => {
                state.need_directory(path)?;
                let inode = state.next_inode;
                state.next_inode += 1;
                state.name_step(Step::Create, Target::Name(path, inode), |state| {
                    state.inodes.insert(inode, Arc::default());
                    state.names.link(path, inode);
                })?;
                inode
            }
        };
        let handle = state.next_handle;
        state.next_handle += 1;
        let writable = mode != OpenMode::Read;
        Ok(Arc::new(SimFile { fs: self.clone(), inode, handle, writable }))
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        check_path(to)?;
        let mut state = self.state();
        let inode = state.named(from)?;
        state.need_directory(to)?;
        state.name_step(Step::Rename, Target::Name(to, inode), |state| state.names.rename(from, to, inode))
    }

    fn hard_link(&self, from: &str, to: &str) -> io::Result<()> {
        check_path(to)?;
        let mut state = self.state();
        let inode = state.named(from)?;
        state.need_directory(to)?;
        if state.names.seen.contains_key(to) {
            return Err(io::Error::from(io::ErrorKind::AlreadyExists));
        }
        state.name_step(Step::HardLink, Target::Name(to, inode), |state| state.names.link(to, inode))
    }

    fn remove_file(&self, path: &str) -> io::Result<()> {
        let mut state = self.state();
        let inode = state.named(path)?;
        state.name_step(Step::Remove, Target::Name(path, inode), |state| state.names.unlink(path))
    }

    fn create_dir_all(&self, path: &str) -> io::Result<()> {
        check_path(path)?;
        let mut state = self.state();
        state.alive()?;
        let ends = path.match_indices('/').map(|(at, _)| at).chain([path.len()]);
        for end in ends.filter(|end| *end > 0) {
            let directory = &path[..end];
            if state.names.seen.contains_key(directory) {
                return Err(io::Error::from(io::ErrorKind::NotADirectory));
            }
            if !state.names.directories.contains(directory) {
                state.name_step(Step::CreateDir, Target::Directory(directory), |state| {
                    state.names.directories.insert(directory.to_owned());
                })?;
            }
        }
        Ok(())
    }

    fn sync_dir(&self, path: &str) -> io::Result<()> {
        let mut state = self.state();
        if !path.is_empty() && !state.names.directories.contains(path) {
            return Err(absent(path));
        }
        let fate = state.step(Step::SyncDir, Target::Directory(path))?;
        let State { rng, names, .. } = &mut *state;
        match fate {
            Fate::Done => {
                names.sync(path);
                Ok(())
            }
            Fate::Fails => {
                names.sync_failed(path, rng);
                Err(failed("directory sync"))
            }
            Fate::PowerLoss => Err(dead()),
        }
    }

    fn list(&self, path: &str) -> io::Result<Vec<(String, u64)>> {
        check_path(path)?;
        let state = self.state();
        state.alive()?;
        let below =
            |name: &str| path.is_empty() || name.strip_prefix(path).is_some_and(|rest| rest.starts_with('/'));
        Ok(state
            .names
            .seen
            .iter()
            .filter(|(name, _)| below(name))
            .map(|(name, inode)| (name.clone(), state.bytes(*inode).len() as u64))
            .collect())
    }

    fn len(&self, path: &str) -> io::Result<u64> {
        check_path(path)?;
        let state = self.state();
        state.alive()?;
        let inode = state.named(path)?;
        Ok(state.bytes(inode).len() as u64)
    }
}

#[derive(Debug)]
struct SimFile {
    fs: SimFileSystem,
    inode: u64,
    handle: u64,
    writable: bool,
}

impl SimFile {
    fn may_write(&self) -> io::Result<()> {
        if self.writable { Ok(()) } else { Err(io::Error::from(io::ErrorKind::PermissionDenied)) }
    }
}

fn position(offset: u64) -> io::Result<usize> {
    usize::try_from(offset).map_err(|_| io::Error::from(io::ErrorKind::FileTooLarge))
}

impl File for SimFile {
    fn read_at(&self, buf: &mut [u8], offset: u64) -> io::Result<usize> {
        let state = self.fs.state();
        state.alive()?;
        let data = state.bytes(self.inode);
        let from = position(offset)?.min(data.len());
        let count = buf.len().min(data.len() - from);
        buf[..count].copy_from_slice(&data[from..from + count]);
        Ok(count)
    }

    fn write_at(&self, buf: &[u8], offset: u64) -> io::Result<()> {
        self.may_write()?;
        self.fs.state().write(self.inode, buf, position(offset)?)
    }

    fn sync(&self) -> io::Result<()> {
        self.fs.state().sync(self.inode)
    }

    fn len(&self) -> io::Result<u64> {
        let state = self.fs.state();
        state.alive()?;
        Ok(state.bytes(self.inode).len() as u64)
    }

    fn preallocate(&self, length: u64) -> io::Result<()> {
        self.may_write()?;
        let length = position(length)?;
        let mut state = self.fs.state();
        let old = state.bytes(self.inode).len();
        if old >= length {
            return state.alive();
        }
        state.write(self.inode, &vec![0; length - old], old)
    }

    fn truncate(&self, length: u64) -> io::Result<()> {
        self.may_write()?;
        let length = position(length)?;
        let mut state = self.fs.state();
        let inode = self.inode;
        state.name_step(Step::Truncate, Target::Bytes(inode), |state| state.inode(inode).truncate(length))
    }

    fn try_lock(&self, shared: bool) -> io::Result<bool> {
        let mut state = self.fs.state();
        state.alive()?;
        let holders = state.locks.entry(self.inode).or_default();
        let free = holders.iter().all(|(handle, theirs)| *handle == self.handle || (shared && *theirs));
        if free {
            holders.retain(|(handle, _)| *handle != self.handle);
            holders.push((self.handle, shared));
        }
        Ok(free)
    }
}

impl Drop for SimFile {
    fn drop(&mut self) {
        let mut state = self.fs.state();
        if let Some(holders) = state.locks.get_mut(&self.inode) {
            holders.retain(|(handle, _)| *handle != self.handle);
        }
    }
}

#[cfg(test)]
mod tests;
