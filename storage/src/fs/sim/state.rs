//! The state behind the simulated file system, and what becomes of each step.
//!
//! Owns: counting and recording steps, faults and power loss, the disk's capacity, what a failing write or sync leaves. Does not own:
//! paths and open modes (`sim`).

use std::collections::{BTreeSet, HashMap};
use std::io;
use std::sync::Arc;

use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

use super::inode::{Inode, SECTOR};
use super::names::Names;
use super::{Fault, RecordedStep, SimFileSystem};
use crate::fs::parent;

/// Kinds of steps: calls that change what programs see, or what survives a crash.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Step {
    /// A file is created.
    Create,
    /// Bytes are written, or zeros preallocated.
    Write,
    /// A file is cut.
    Truncate,
    /// A file is synced.
    Sync,
    /// A file gets another name in place of its own.
    Rename,
    /// A file gets a second name.
    HardLink,
    /// A name is removed.
    Remove,
    /// A directory is synced.
    SyncDir,
    /// A directory is created.
    CreateDir,
}

/// What a step is done to.
#[derive(Clone, Copy, Debug)]
pub(super) enum Target<'a> {
    Directory(&'a str),
    /// A name, and which file has it or gets it.
    Name(&'a str, u64),
    /// The bytes of a file.
    Bytes(u64),
}

impl Fault {
    /// The fault after one more step: None when this is the step that fails.
    fn after(self, step: Step) -> Option<Self> {
        let (n, mine, make): (u64, bool, fn(u64) -> Self) = match self {
            Self::Step(n) => (n, true, Self::Step),
            Self::Create(n) => (n, step == Step::Create, Self::Create),
            Self::Write(n) => (n, step == Step::Write, Self::Write),
            Self::Sync(n) => (n, step == Step::Sync, Self::Sync),
            Self::Rename(n) => (n, step == Step::Rename, Self::Rename),
            Self::HardLink(n) => (n, step == Step::HardLink, Self::HardLink),
            Self::Remove(n) => (n, step == Step::Remove, Self::Remove),
            Self::SyncDir(n) => (n, step == Step::SyncDir, Self::SyncDir),
        };
        match (mine, n) {
            (false, _) => Some(self),
            (true, 0 | 1) => None,
            (true, n) => Some(make(n - 1)),
        }
    }
}

/// What a step meets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fate {
    Done,
    Fails,
    /// The machine dies during the step.
    PowerLoss,
}

#[derive(Debug)]
pub(super) struct State {
    pub(super) rng: StdRng,
    /// Shared with the images of recorded steps until they change.
    pub(super) inodes: HashMap<u64, Arc<Inode>>,
    pub(super) names: Names,
    pub(super) next_inode: u64,
    pub(super) next_handle: u64,
    /// Per inode: handles holding it, and whether shared.
    pub(super) locks: HashMap<u64, Vec<(u64, bool)>>,
    pub(super) steps: u64,
    pub(super) crash_at: Option<u64>,
    /// From this step on there is room for nothing more.
    pub(super) full_at: Option<u64>,
    pub(super) dead: bool,
    pub(super) faults: Vec<Fault>,
    /// Bytes the disk holds.
    pub(super) capacity: Option<u64>,
    pub(super) retried_syncs: u64,
    /// None: nobody wants to know.
    pub(super) recorded: Option<Vec<RecordedStep>>,
}

pub(super) fn dead() -> io::Error {
    io::Error::other("simulated power loss")
}

pub(super) fn failed(what: &str) -> io::Error {
    io::Error::other(format!("simulated failure: {what}"))
}

pub(super) fn absent(path: &str) -> io::Error {
    io::Error::new(io::ErrorKind::NotFound, format!("no '{path}'"))
}

impl State {
    pub(super) fn new(seed: u64) -> Self {
        Self {
            rng: StdRng::seed_from_u64(seed),
            inodes: HashMap::new(),
            names: Names::default(),
            next_inode: 1,
            next_handle: 1,
            locks: HashMap::new(),
            steps: 0,
            crash_at: None,
            full_at: None,
            dead: false,
            faults: Vec::new(),
            capacity: None,
            retried_syncs: 0,
            recorded: None,
        }
    }

    /// The same names and bytes, as durable as they are here; no locks, no faults, no steps.
    pub(super) fn image(&self, seed: u64) -> Self {
        Self {
            names: self.names.clone(),
            inodes: self.inodes.clone(),
            next_inode: self.next_inode,
            ..Self::new(seed)
        }
    }

    pub(super) fn alive(&self) -> io::Result<()> {
        if self.dead { Err(dead()) } else { Ok(()) }
    }

    pub(super) fn step(&mut self, step: Step, target: Target<'_>) -> io::Result<Fate> {
        self.alive()?;
        self.steps += 1;
        self.record(step, target);
        if self.full_at == Some(self.steps) {
            self.capacity = Some(self.used());
        }
        if self.crash_at == Some(self.steps) {
            self.dead = true;
            return Ok(Fate::PowerLoss);
        }
        let before = self.faults.len();
        self.faults = self.faults.iter().filter_map(|fault| fault.after(step)).collect();
        Ok(if self.faults.len() < before { Fate::Fails } else { Fate::Done })
    }

    fn record(&mut self, step: Step, target: Target<'_>) {
        let Some(mut recorded) = self.recorded.take() else { return };
        let name_of = |file: u64| self.names.seen.iter().find(|(_, named)| **named == file);
        let (path, file) = match target {
            Target::Directory(path) => (path.to_owned(), None),
            Target::Name(path, file) => (path.to_owned(), Some(file)),
            Target::Bytes(file) => {
                (name_of(file).map_or_else(String::new, |(name, _)| name.clone()), Some(file))
            }
        };
        let before = SimFileSystem::of(self.image(self.steps));
        recorded.push(RecordedStep { number: self.steps, step, path, file, before });
        self.recorded = Some(recorded);
    }

    /// A step on names: done and pending when the machine dies, not done when it fails.
    pub(super) fn name_step(
        &mut self,
        step: Step,
        target: Target<'_>,
        change: impl FnOnce(&mut Self),
    ) -> io::Result<()> {
        match self.step(step, target)? {
            Fate::Done => {
                change(self);
                Ok(())
            }
            Fate::Fails => Err(failed(&format!("{step:?}"))),
            Fate::PowerLoss => {
                change(self);
                Err(dead())
            }
        }
    }

    pub(super) fn inode(&mut self, inode: u64) -> &mut Inode {
        Arc::make_mut(self.inodes.entry(inode).or_default())
    }

    /// The bytes of a file as programs see them.
    pub(super) fn bytes(&self, inode: u64) -> &[u8] {
        self.inodes.get(&inode).map(|file| file.data.as_slice()).unwrap_or_default()
    }

    pub(super) fn named(&self, path: &str) -> io::Result<u64> {
        self.names.seen.get(path).copied().ok_or_else(|| absent(path))
    }

    pub(super) fn need_directory(&self, path: &str) -> io::Result<()> {
        let directory = parent(path);
        if directory.is_empty() || self.names.directories.contains(directory) {
            Ok(())
        } else {
            Err(absent(directory))
        }
    }

    pub(super) fn used(&self) -> u64 {
        let named: BTreeSet<u64> = self.names.seen.values().copied().collect();
        named.iter().filter_map(|inode| self.inodes.get(inode)).map(|inode| inode.data.len() as u64).sum()
    }

    pub(super) fn write(&mut self, inode: u64, bytes: &[u8], offset: usize) -> io::Result<()> {
        let fate = self.step(Step::Write, Target::Bytes(inode))?;
        let grows = (offset + bytes.len()).saturating_sub(self.bytes(inode).len()) as u64;
        let room = self.capacity.map_or(u64::MAX, |capacity| capacity.saturating_sub(self.used()));
        let fits =
            bytes.len() - usize::try_from(grows.saturating_sub(room)).unwrap_or(bytes.len()).min(bytes.len());
        let written = match fate {
            Fate::Fails => self.rng.random_range(0..=fits / SECTOR) * SECTOR,
            Fate::Done | Fate::PowerLoss => fits,
        };
        self.inode(inode).write(&bytes[..written], offset);
        match fate {
            Fate::PowerLoss => Err(dead()),
            Fate::Fails => Err(failed("write")),
            Fate::Done if fits < bytes.len() => Err(io::Error::from(io::ErrorKind::StorageFull)),
            Fate::Done => Ok(()),
        }
    }

    pub(super) fn sync(&mut self, inode: u64) -> io::Result<()> {
        let fate = self.step(Step::Sync, Target::Bytes(inode))?;
        if self.inode(inode).sync_failed {
            self.retried_syncs += 1;
        }
        let Self { rng, inodes, .. } = self;
        let file = Arc::make_mut(inodes.entry(inode).or_default());
        match fate {
            Fate::Done => {
                file.sync();
                Ok(())
            }
            Fate::Fails => {
                file.sync_failed(rng);
                Err(failed("sync"))
            }
            Fate::PowerLoss => Err(dead()),
        }
    }
}
