//! The journal of a database in a bucket, on this machine's disk (`durability = 'local'`, ADR 27).
//!
//! Owns: where it is and who holds it ([`Journal`]), the log that acknowledges from it and sends in the background (`wal`), what becomes
//! of what an earlier process has left in it (`leftovers`). Does not own: its bytes, which are those of a log in a directory
//! (`wal::file`), nor objects (`wal::object`).
//!
//! Order: a commit is synced in the journal, then acknowledged, then put into the bucket; a journal file goes only when everything in
//! it is in the bucket, or when `discard_local` says so. Commits are sent under the epoch they were made in, and an epoch is begun
//! only when none of an earlier one is left: so a commit is in the bucket's history where its writer put it, or nowhere.

mod contents;
mod leftovers;
mod place;
mod wal;

use std::sync::Arc;

pub use contents::{JournalContents, Sent};
pub use place::default_journal_directory;
pub(super) use place::others;

use super::{OpenOptions, Root, lock};
use crate::error::{Error, ErrorKind, Result};
use crate::fs::{File, FileSystem};
use crate::id::{CommitVersion, DatabaseId, Epoch, WalNumber};
use crate::manifest::ManifestStore;
use crate::version::Shared;
use crate::wal::{FileWal, FileWalOptions, ObjectWal, SyncMode, TipFile, WalTip, remove_log};
use leftovers::Left;
use place::Place;
use wal::{JournaledWal, Parts};

/// How much of what the journal holds was sent, as a [`WalTip`] whose number is the epoch. Never synced: what it does not say is asked
/// of the bucket.
const SENT: &str = "sent";

/// How many commits stand in the journal `fs` of the database `id`, read as whoever sends them would; and how many of them are marked as
/// sent.
///
/// # Errors
/// `Corrupt` when it is damaged, I/O errors.
pub(crate) fn commits(fs: &dyn FileSystem, id: DatabaseId) -> Result<(usize, usize)> {
    let left = Left::read(fs, id)?;
    Ok((left.commits.len(), left.up_to(left.sent)))
}

/// The directory of the journal of the database `id` at `root`, and its name; None: there is no place for one.
pub(crate) fn place(
    id: DatabaseId,
    root: &Root,
    options: &OpenOptions,
) -> Option<(Arc<dyn FileSystem>, String)> {
    Place::of(id, root, options).map(|place| (place.fs, place.name))
}

/// The bucket that a journal belongs to.
#[derive(Clone, Copy)]
pub(super) struct Bucket<'a> {
    pub(super) id: DatabaseId,
    pub(super) root: &'a Root,
    pub(super) manifests: &'a ManifestStore,
    pub(super) shared: &'a Shared,
    pub(super) options: &'a OpenOptions,
    /// Whether commits that can't be sent are dropped, which the caller tells.
    pub(super) discards: bool,
}

/// A journal that no other process has.
#[derive(Debug)]
pub(super) struct Journal {
    fs: Arc<dyn FileSystem>,
    /// Its directory, as shown.
    name: String,
    lock: Arc<dyn File>,
}

impl Journal {
    /// The journal of the database `id` at `root`; None: there is none, or another process of this machine has it and sends what it holds.
    /// With `to_write` it is made, and must be free.
    ///
    /// # Errors
    /// With `to_write`: `InvalidInput` when there is no place for it, `Unavailable` when another process has it. I/O errors.
    pub(super) fn take(
        id: DatabaseId,
        root: &Root,
        options: &OpenOptions,
        to_write: bool,
    ) -> Result<Option<Self>> {
        let Some(Place { fs, name }) = Place::of(id, root, options) else {
            if !to_write {
                return Ok(None);
            }
            return Err(Error::new(
                ErrorKind::InvalidInput,
                "durability = 'local' needs a directory for its journal, and none is known",
            )
            .with_hint(
                "set HOME, XDG_STATE_HOME or CAIRN_STATE_DIR, or at a server storage.journal_directory",
            ));
        };
        if to_write {
            fs.create_dir_all("wal").map_err(|e| Error::io(format!("creating the journal {name}"), e))?;
        } else if fs.list("wal").map_err(|e| Error::io(format!("listing the journal {name}"), e))?.is_empty()
        {
            return Ok(None);
        }
        match lock::take(&*fs, &root.to_string()) {
            Ok(lock) => Ok(Some(Self { fs, name, lock })),
            Err(error) if error.kind() == ErrorKind::Unavailable && !to_write => Ok(None),
            Err(error) if error.kind() == ErrorKind::Unavailable => Err(error
                .with_detail(format!("it has the journal {name}"))
                .with_hint("close it there: what it acknowledged and has not sent would be lost otherwise")),
            Err(error) => Err(error),
        }
    }

    /// What keeps others out, for as long as it lives.
    pub(super) fn lock(&self) -> Arc<dyn File> {
        Arc::clone(&self.lock)
    }

    /// Begins the journal of an epoch; what it held before is in the bucket. The next commit is `next`.
    ///
    /// # Errors
    /// I/O errors, `ResourceExhausted` on a full disk.
    pub(super) fn begin(
        &self,
        objects: ObjectWal,
        id: DatabaseId,
        epoch: Epoch,
        next: CommitVersion,
        options: &OpenOptions,
    ) -> Result<JournaledWal> {
        self.remove()?;
        let settings = FileWalOptions { epoch, ..FileWalOptions::new(id, SyncMode::Full) };
        let journal = FileWal::create(Arc::clone(&self.fs), settings, WalNumber(1), next, None)?;
        let mark = TipFile::open_at(&*self.fs, SENT)?;
        let sent = CommitVersion(next.0.saturating_sub(1));
        mark.write(WalTip { number: WalNumber(epoch.0), offset: 0, version: sent });
        Ok(JournaledWal::new(Parts {
            fs: Arc::clone(&self.fs),
            name: self.name.clone(),
            journal,
            objects,
            mark,
            epoch,
            sent,
            clock: options.clock.clone(),
            timeout: options.commit_timeout,
        }))
    }

    /// Removes all that it holds.
    fn remove(&self) -> Result<()> {
        remove_log(&*self.fs)
    }
}
