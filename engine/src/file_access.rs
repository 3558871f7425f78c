//! Which files of this machine a session may touch.
//!
//! Owns: the rule, for every statement that names a file: COPY either way, `FROM 'file'`, the `read_…` functions. The session
//! of whoever opened the database may touch all; others none, or those below one directory, wherever links lead. Does not
//! own: what is done with a file (`copy`, `files`). Nobody can make a link with SQL, so what was checked stays so.

use std::fs;
use std::path::{Component, Path, PathBuf};
use std::sync::Arc;

use cairn_storage::ErrorKind;
use datafusion::arrow::array::{ArrayRef, AsArray, RecordBatch, StringArray};
use datafusion::arrow::error::ArrowError;
use datafusion::catalog::Session;
use datafusion::datasource::listing::ListingTableUrl;
use datafusion::error::DataFusionError;
use datafusion::physical_plan::stream::RecordBatchStreamAdapter;
use futures::{StreamExt, TryStreamExt};

use crate::copy::{list_files, local_path};
use crate::error::{Error, Result};
use crate::output::{Output, RowStream};

/// See the module.
#[derive(Clone, Debug)]
pub(crate) enum FileAccess {
    /// Every file.
    All,
    /// No file.
    None,
    /// Regular files below this directory.
    Below(PathBuf),
}

impl FileAccess {
    /// That of a session.
    pub(crate) fn of(session: &dyn Session) -> Arc<Self> {
        // A state that belongs to no session names no files.
        session.config().get_extension::<Self>().unwrap_or_else(|| Arc::new(Self::None))
    }

    /// The files that `text` names for reading: one, the matches of a glob, or those of a directory.
    ///
    /// # Errors
    /// 42501 for what lies elsewhere, whether it is there or not; as [`list_files`].
    pub(crate) fn read(&self, text: &str) -> Result<Vec<PathBuf>> {
        let Some((root, path)) = self.below(text)? else { return list_files(text) };
        inside(&root, &path, text)?;
        let named = path.to_str().ok_or_else(|| denied(&format!("'{text}' is not UTF-8")))?;
        let mut files = Vec::new();
        for file in list_files(named)? {
            let real = fs::canonicalize(&file).map_err(|e| unreadable(text, e))?;
            // A device or a pipe may be anything.
            if !real.starts_with(&root) || !fs::metadata(&real).is_ok_and(|m| m.is_file()) {
                return Err(outside(text));
            }
            plain(&real)?;
            files.push(real);
        }
        Ok(files)
    }

    /// The place that `text` names for writing.
    ///
    /// # Errors
    /// 42501 for what lies elsewhere, whether it is there or not.
    pub(crate) fn write(&self, text: &str) -> Result<PathBuf> {
        let Some((root, path)) = self.below(text)? else { return local_path(text) };
        inside(&root, &path, text)?;
        plain(&path)?;
        match fs::canonicalize(&path) {
            // A link's file would be replaced.
            Ok(real) => Ok(real),
            Err(_) => Ok(path),
        }
    }

    /// Whether a file may be named at all.
    ///
    /// # Errors
    /// 42501 when none may.
    pub(crate) fn any(&self) -> Result<()> {
        match self {
            Self::All | Self::Below(_) => Ok(()),
            Self::None => Err(denied("this session may not read or write files of the server")),
        }
    }

    /// What a statement answered, with files named as the session may name them: from its directory on, not by where that is on
    /// this machine.
    pub(crate) fn answer(self: &Arc<Self>, result: Result<Output>) -> Result<Output> {
        let Self::Below(_) = self.as_ref() else { return result };
        Ok(match result.map_err(|error| self.conceal(error))? {
            Output::Rows(RowStream { schema, stream, notes }) => {
                let notes = notes.into_iter().map(|note| self.conceal_in(note)).collect();
                let files = Arc::clone(self);
                let stream = stream.map_err(move |error| DataFusionError::from(files.conceal(error.into())));
                let stream = Box::pin(RecordBatchStreamAdapter::new(Arc::clone(&schema), stream));
                Output::Rows(RowStream { schema, stream, notes })
            }
            Output::Affected { verb, rows, notes } => {
                let notes = notes.into_iter().map(|note| self.conceal_in(note)).collect();
                Output::Affected { verb, rows, notes }
            }
            done @ Output::Done { .. } => done,
        })
    }

    /// The rows of EXPLAIN, with files named so. Whoever may query files need not be told where they are.
    pub(crate) fn explained(&self, output: Output) -> Output {
        let Self::Below(given) = self else { return output };
        let rows = match output {
            Output::Rows(rows) => rows,
            other @ (Output::Affected { .. } | Output::Done { .. }) => return other,
        };
        // As a plan spells it: without the first `/`.
        let root = fs::canonicalize(given).ok();
        let root = root.and_then(|root| ListingTableUrl::parse(root.to_string_lossy()).ok());
        let root = root.map(|root| root.prefix().to_string()).filter(|root| !root.is_empty());
        let files = self.clone();
        let conceal = move |text: &str| {
            let text = files.conceal_in(text.to_owned());
            match &root {
                // What stands before the name of a file, in its list and among its figures.
                Some(root) => ["[", " ", "="]
                    .iter()
                    .fold(text, |text, before| text.replace(&format!("{before}{root}/"), before)),
                None => text,
            }
        };
        let stream = rows
            .stream
            .map(move |batch| -> Result<RecordBatch, DataFusionError> { Ok(each_text(&batch?, &conceal)?) });
        let stream = Box::pin(RecordBatchStreamAdapter::new(Arc::clone(&rows.schema), stream));
        Output::Rows(RowStream { stream, ..rows })
    }

    /// `error`, with files named so.
    pub(crate) fn conceal(&self, error: Error) -> Error {
        error.map(|error| error.rewritten(|text| self.conceal_in(text)))
    }

    fn conceal_in(&self, text: String) -> String {
        let Self::Below(given) = self else { return text };
        let real = fs::canonicalize(given).ok();
        let mut text = text;
        for root in real.iter().chain([given]).filter_map(|root| root.to_str()) {
            let root = root.trim_end_matches('/');
            if !root.is_empty() {
                text = text.replace(&format!("{root}/"), "").replace(&format!("'{root}'"), "'.'");
            }
        }
        text
    }

    /// The directory, and `text` as a path below it by its text; None: every file may be touched.
    fn below(&self, text: &str) -> Result<Option<(PathBuf, PathBuf)>> {
        self.any()?;
        let Self::Below(given) = self else { return Ok(None) };
        let root = fs::canonicalize(given)
            .map_err(|e| cairn_storage::Error::io("opening the directory for files (copy_root)", e))?;
        let path = local_path(text)?;
        if path.components().any(|part| part == Component::ParentDir) {
            return Err(outside(text));
        }
        let relative = if path.is_absolute() {
            path.strip_prefix(&root).or_else(|_| path.strip_prefix(given)).map_err(|_| outside(text))?
        } else {
            path.as_path()
        };
        Ok(Some((root.clone(), root.join(relative))))
    }
}

/// `batch` with its texts changed.
fn each_text(batch: &RecordBatch, change: &dyn Fn(&str) -> String) -> Result<RecordBatch, ArrowError> {
    let columns = batch.columns().iter().map(|column| match column.as_string_opt::<i32>() {
        Some(texts) => {
            let texts: StringArray = texts.iter().map(|text| text.map(change)).collect();
            Arc::new(texts) as ArrayRef
        }
        None => Arc::clone(column),
    });
    RecordBatch::try_new(batch.schema(), columns.collect())
}

/// That the name of a file is not a pattern, which whoever opens it may take for other files.
fn plain(path: &Path) -> Result<()> {
    match path.to_str() {
        Some(name) if !name.contains(['*', '?', '[']) => Ok(()),
        _ => Err(denied("a file whose name holds *, ?, [ or is not UTF-8 is not for this session")),
    }
}

/// That whatever there is of `path` lies in `root`.
fn inside(root: &Path, path: &Path, text: &str) -> Result<()> {
    for part in path.ancestors() {
        // A link that leads nowhere is there too.
        if fs::symlink_metadata(part).is_err() {
            continue;
        }
        return match fs::canonicalize(part) {
            Ok(real) if real.starts_with(root) => Ok(()),
            _ => Err(outside(text)),
        };
    }
    Err(outside(text))
}

fn unreadable(text: &str, error: std::io::Error) -> Error {
    cairn_storage::Error::io(format!("reading '{text}'"), error).into()
}

fn outside(text: &str) -> Error {
    denied(&format!("'{text}' is not a file below the directory that sessions may use (copy_root)"))
}

fn denied(message: &str) -> Error {
    Error::new(ErrorKind::PermissionDenied, format!("permission denied: {message}"))
        .map(|e| e.with_hint("load files with the shell on the server, or send the rows with the statement"))
}
