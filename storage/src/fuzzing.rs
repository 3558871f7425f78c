//! Doors of the fuzz targets (`tests/src/fuzz`) to decoders that nothing else outside this crate may call. No part of the interface.
//!
//! Owns: nothing but the way in. What has a public reader is fuzzed through that one; these are objects whose types stay inside. A door
//! gives what was read as bytes again where there is a writer, for the target to compare.

use bytes::Bytes;

use crate::database::advisory::WriterNote;
use crate::database::boundary::Boundary;
use crate::database::journal;
use crate::error::Result;
use crate::fs::FileSystem;
use crate::id::DatabaseId;
use crate::manifest::history::{CommitFound, Commits};

/// The object `boundary`, read and written again.
///
/// # Errors
/// `Corrupt`.
pub fn boundary(bytes: &[u8]) -> Result<Vec<u8>> {
    Ok(Boundary::decode(bytes)?.encode().to_vec())
}

/// The object `writer`, read and written again; None: it is taken for nobody's.
///
/// # Errors
/// `Internal` when what was read can't be written.
pub fn writer(bytes: &[u8]) -> Result<Option<Vec<u8>>> {
    WriterNote::decode(bytes).ok().map(|note| note.encode()).transpose()
}

/// The commits of an object `history/…`, each found by its id.
///
/// # Errors
/// `Corrupt`.
pub fn history(bytes: &Bytes) -> Result<Vec<Option<CommitFound>>> {
    let commits = Commits::parse("history/1", bytes)?;
    Ok(commits.ids().map(|id| commits.find(id)).collect())
}

/// Commits in a journal, and how many of them are marked as sent.
///
/// # Errors
/// `Corrupt`, I/O errors.
pub fn journal(fs: &dyn FileSystem, id: DatabaseId) -> Result<(usize, usize)> {
    journal::commits(fs, id)
}
