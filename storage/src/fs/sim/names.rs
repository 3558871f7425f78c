//! The names of the simulated file system: what programs see, what the disk has, what is on its way.
//!
//! Owns: which names may be found after a crash. Rule: of the operations since its directory's last sync any
//! subset survives; a rename is one operation, kept by a sync of the directory it moves to.

use std::collections::{BTreeMap, BTreeSet};

use rand::Rng;
use rand::rngs::StdRng;

use crate::fs::parent;

#[derive(Clone, Debug)]
enum Operation {
    Link { name: String, inode: u64 },
    Unlink { name: String },
    Rename { from: String, to: String, inode: u64 },
}

impl Operation {
    fn directory(&self) -> &str {
        match self {
            Self::Link { name, .. } | Self::Unlink { name } => parent(name),
            Self::Rename { to, .. } => parent(to),
        }
    }

    fn apply(&self, names: &mut BTreeMap<String, u64>) {
        match self {
            Self::Link { name, inode } => {
                names.insert(name.clone(), *inode);
            }
            Self::Unlink { name } => {
                names.remove(name);
            }
            Self::Rename { from, to, inode } => {
                if names.get(from) == Some(inode) {
                    names.remove(from);
                }
                names.insert(to.clone(), *inode);
            }
        }
    }
}

#[derive(Clone, Debug, Default)]
pub(super) struct Names {
    pub(super) seen: BTreeMap<String, u64>,
    durable: BTreeMap<String, u64>,
    pending: Vec<Operation>,
    /// Durable at once: `create_dir_all` promises so.
    pub(super) directories: BTreeSet<String>,
}

impl Names {
    fn push(&mut self, operation: Operation) {
        operation.apply(&mut self.seen);
        self.pending.push(operation);
    }

    pub(super) fn link(&mut self, name: &str, inode: u64) {
        self.push(Operation::Link { name: name.to_owned(), inode });
    }

    pub(super) fn unlink(&mut self, name: &str) {
        self.push(Operation::Unlink { name: name.to_owned() });
    }

    pub(super) fn rename(&mut self, from: &str, to: &str, inode: u64) {
        self.push(Operation::Rename { from: from.to_owned(), to: to.to_owned(), inode });
    }

    pub(super) fn sync(&mut self, directory: &str) {
        let (mine, rest) = std::mem::take(&mut self.pending)
            .into_iter()
            .partition::<Vec<_>, _>(|operation| operation.directory() == directory);
        self.pending = rest;
        for operation in mine {
            operation.apply(&mut self.durable);
        }
    }

    /// A sync that failed: each operation is on the disk or never will be.
    pub(super) fn sync_failed(&mut self, directory: &str, rng: &mut StdRng) {
        let (mine, rest) = std::mem::take(&mut self.pending)
            .into_iter()
            .partition::<Vec<_>, _>(|operation| operation.directory() == directory);
        self.pending = rest;
        for operation in mine {
            if rng.random() {
                operation.apply(&mut self.durable);
            }
        }
    }

    /// What a machine finds after power loss.
    pub(super) fn crashed(&self, rng: &mut StdRng) -> Self {
        let kept = [0.0, 0.3, 0.7, 1.0][rng.random_range(0..4)];
        let mut names = self.durable.clone();
        for operation in &self.pending {
            if rng.random_bool(kept) {
                operation.apply(&mut names);
            }
        }
        self.settled(names)
    }

    /// What a machine finds that has lost everything since the last syncs.
    pub(super) fn synced(&self) -> Self {
        self.settled(self.durable.clone())
    }

    fn settled(&self, names: BTreeMap<String, u64>) -> Self {
        Self {
            seen: names.clone(),
            durable: names,
            pending: Vec::new(),
            directories: self.directories.clone(),
        }
    }
}
