//! What stands in a journal, for people who look into it: without its database, and while nobody else has it. Changes nothing.

use std::path::Path;

use serde::Serialize;

use super::{SENT, commits};
use crate::error::{Error, ErrorKind, Result};
use crate::fs::{FileSystem, OpenMode, OsFileSystem};
use crate::id::{CommitVersion, Epoch};
use crate::wal::{LogContents, WalTip};

/// See the module.
#[derive(Clone, Debug, Serialize)]
pub struct JournalContents {
    /// What is marked as sent; None: nothing is, and the bucket has to be asked.
    pub sent: Option<Sent>,
    /// How many commits of the last epoch are in it, …
    pub commits: u64,
    /// … and how many of them are not marked as sent.
    pub unsent: u64,
    /// Its files, in order of their numbers.
    pub files: Vec<LogContents>,
    /// Why it can't be sent as it is.
    pub problem: Option<String>,
}

/// Everything of this epoch up to this version is in the bucket.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct Sent {
    /// Of the writer.
    pub epoch: Epoch,
    /// The last.
    pub version: CommitVersion,
}

impl JournalContents {
    /// Reads the journal in `directory`.
    ///
    /// # Errors
    /// `NotFound` when there is none; `Corrupt` naming the file whose header, or an entry with a right checksum, can't be read;
    /// `Unsupported` when a newer Cairn wrote it; I/O errors.
    pub fn read(directory: &Path) -> Result<Self> {
        let fs = OsFileSystem::new(directory.to_path_buf());
        let listed = fs.list("wal").map_err(|e| Error::io(format!("listing {}", directory.display()), e))?;
        let is_file = |name: &str| {
            name.strip_prefix("wal/")
                .is_some_and(|name| name.len() == 20 && name.bytes().all(|b| b.is_ascii_digit()))
        };
        let mut files = Vec::new();
        for (name, _) in listed.iter().filter(|(name, _)| is_file(name)) {
            files.push(LogContents::read(name, &bytes(&fs, name)?.into())?);
        }
        let Some(id) = files.first().map(|file| file.database_id) else {
            let message = format!("there is no journal in {}", directory.display());
            return Err(Error::new(ErrorKind::NotFound, message)
                .with_hint("a journal is a directory that holds the directory wal"));
        };
        let mark = WalTip::read_at(&fs, SENT)?;
        let (counted, problem) = match commits(&fs, id) {
            Ok((all, sent)) => ((all as u64, (all - sent) as u64), None),
            Err(error) => {
                let all = files.iter().map(|file| file.entries.len() as u64).sum();
                ((all, all), Some(error.message().to_owned()))
            }
        };
        Ok(Self {
            sent: mark.map(|mark| Sent { epoch: Epoch(mark.number.0), version: mark.version }),
            commits: counted.0,
            unsent: counted.1,
            files,
            problem,
        })
    }
}

fn bytes(fs: &OsFileSystem, name: &str) -> Result<Vec<u8>> {
    let reading = |e| Error::io(format!("reading {name}"), e);
    let file = fs.open(name, OpenMode::Read).map_err(reading)?;
    let length = usize::try_from(file.len().map_err(reading)?)
        .map_err(|_| Error::new(ErrorKind::ResourceExhausted, format!("{name} is larger than memory")))?;
    let mut bytes = vec![0; length];
    let read = file.read_at(&mut bytes, 0).map_err(reading)?;
    bytes.truncate(read);
    Ok(bytes)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::id::{DatabaseId, WalNumber};
    use crate::wal::{FileWal, FileWalOptions, SyncMode};

    #[test]
    fn a_journal_is_shown_and_another_directory_is_none() {
        let directory = tempfile::tempdir().unwrap();
        assert_eq!(JournalContents::read(directory.path()).unwrap_err().kind(), ErrorKind::NotFound);
        let fs: Arc<dyn FileSystem> = Arc::new(OsFileSystem::new(directory.path().to_path_buf()));
        fs.create_dir_all("wal").unwrap();
        let id = DatabaseId(uuid::Uuid::from_u128(7));
        let options = FileWalOptions { epoch: Epoch(3), ..FileWalOptions::new(id, SyncMode::Full) };
        let wal = FileWal::create(Arc::clone(&fs), options, WalNumber(1), CommitVersion(5), None).unwrap();
        let journal = JournalContents::read(directory.path()).unwrap();
        assert_eq!((journal.files.len(), journal.commits, journal.unsent), (1, 0, 0));
        assert_eq!((journal.files[0].first, journal.problem), (CommitVersion(5), None));
        drop(wal);
    }
}
