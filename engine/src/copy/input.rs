//! A file that is read: of this machine, or an object.
//!
//! Owns: which files a text names, wherever they are; a file's name, length and bytes. Does not own: what a session may read
//! (`file_access`, `stores`), what the bytes mean.

use std::fs::File;
use std::io::{Read, Seek};
use std::path::{Path, PathBuf};

use datafusion::catalog::Session;

use super::from::{blocking, shown};
use crate::error::Result;
use crate::file_access::FileAccess;
use crate::measure::ReadMeters;
use crate::stores::{ObjectFile, SessionStores, names_objects};

/// Bytes that can be read from any place on.
pub(crate) trait ReadSeek: Read + Seek + Send {}

impl<T: Read + Seek + Send> ReadSeek for T {}

/// See the module.
#[derive(Clone, Debug)]
pub(crate) struct InputFile {
    /// As messages show it; of an object, its URL.
    path: PathBuf,
    object: Option<ObjectFile>,
}

impl InputFile {
    /// A file of this machine.
    pub(crate) fn local(path: PathBuf) -> Self {
        Self { path, object: None }
    }

    /// An object.
    pub(crate) fn object(object: ObjectFile) -> Self {
        Self { path: PathBuf::from(object.url()), object: Some(object) }
    }

    /// Its name, as messages show it; its end tells format and compression.
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// The object that it is; None: it is a file of this machine.
    pub(crate) fn as_object(&self) -> Option<&ObjectFile> {
        self.object.as_ref()
    }

    /// Its bytes.
    ///
    /// # Errors
    /// It cannot be read.
    pub(crate) fn length(&self) -> Result<u64> {
        match &self.object {
            Some(object) => Ok(object.length()),
            None => {
                let found = std::fs::metadata(&self.path).map_err(|e| self.unreadable(e))?;
                Ok(found.len())
            }
        }
    }

    /// Its bytes from the first on. Of an object they come while they are read, on a thread of blocking work.
    ///
    /// # Errors
    /// It cannot be read.
    pub(crate) fn open(&self) -> Result<Box<dyn ReadSeek>> {
        match &self.object {
            Some(object) => Ok(Box::new(object.reader())),
            None => Ok(Box::new(self.open_local()?)),
        }
    }

    /// The file of this machine that it is.
    ///
    /// # Errors
    /// It cannot be read.
    pub(crate) fn open_local(&self) -> Result<File> {
        Ok(File::open(&self.path).map_err(|e| self.unreadable(e))?)
    }

    fn unreadable(&self, error: std::io::Error) -> cairn_storage::Error {
        cairn_storage::Error::io(format!("reading {}", shown(&self.path)), error)
    }
}

/// Every file that `text` names for the session that plans, by name: one, the matches of a pattern, or those of a directory.
///
/// # Errors
/// As [`FileAccess::read`] and [`SessionStores::objects`].
pub(crate) async fn inputs(session: &dyn Session, text: &str) -> Result<Vec<InputFile>> {
    if names_objects(text) {
        let meters = ReadMeters::of(session);
        let objects = SessionStores::of(session)?.objects(text, meters.as_deref()).await?;
        return Ok(objects.into_iter().map(InputFile::object).collect());
    }
    let (access, text) = (FileAccess::of(session), text.to_owned());
    let files = blocking(move || access.read(&text)).await?;
    Ok(files.into_iter().map(InputFile::local).collect())
}
