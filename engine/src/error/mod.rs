//! What a statement can fail with, as the user sees it.
//!
//! Owns: the error a session returns (storage's error plus a place in the statement) and the translation of
//! DataFusion's and the parser's errors into it. No Rust debug text, build path or secret passes through here.

mod suggest;
mod translate;
mod unplanned;

use std::fmt;

use cairn_storage::ErrorKind;
use datafusion::error::DataFusionError;

pub(crate) use suggest::closest;

/// A place in the statement's text, counted from 1 in characters.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Position {
    /// Line.
    pub line: u64,
    /// Column.
    pub column: u64,
}

/// A failed statement: the kind, SQLSTATE, message, detail and hint of [`cairn_storage::Error`], and where.
#[derive(Clone, Debug)]
pub struct Error {
    inner: cairn_storage::Error,
    position: Option<Position>,
}

/// The crate's result.
pub type Result<T, E = Error> = std::result::Result<T, E>;

impl Error {
    /// An error of `kind` with its message.
    #[must_use]
    pub fn new(kind: ErrorKind, message: impl Into<String>) -> Self {
        cairn_storage::Error::new(kind, message).into()
    }

    /// A word of the SQL surface that a later version brings.
    #[must_use]
    pub fn not_supported_yet(what: impl fmt::Display) -> Self {
        Self::new(ErrorKind::Unsupported, format!("{what} is not supported yet"))
    }

    /// What `error`, met while rows are read, says to the user.
    #[must_use]
    pub fn of(error: &DataFusionError) -> Self {
        translate::translate(error)
    }

    /// Adds the place in the statement.
    #[must_use]
    pub fn at(mut self, position: Position) -> Self {
        self.position = Some(position);
        self
    }

    /// Changes the storage error inside (detail, hint, SQLSTATE).
    #[must_use]
    pub fn map(mut self, change: impl FnOnce(cairn_storage::Error) -> cairn_storage::Error) -> Self {
        self.inner = change(self.inner);
        self
    }

    /// Where in the statement, when known.
    #[must_use]
    pub fn position(&self) -> Option<Position> {
        self.position
    }

    /// Kind.
    #[must_use]
    pub fn kind(&self) -> ErrorKind {
        self.inner.kind()
    }

    /// SQLSTATE.
    #[must_use]
    pub fn sqlstate(&self) -> &'static str {
        self.inner.sqlstate()
    }

    /// One sentence.
    #[must_use]
    pub fn message(&self) -> &str {
        self.inner.message()
    }

    /// Facts behind it.
    #[must_use]
    pub fn detail(&self) -> Option<&str> {
        self.inner.detail()
    }

    /// The next step.
    #[must_use]
    pub fn hint(&self) -> Option<&str> {
        self.inner.hint()
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.inner.message())
    }
}

impl std::error::Error for Error {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        std::error::Error::source(&self.inner)
    }
}

impl From<cairn_storage::Error> for Error {
    fn from(inner: cairn_storage::Error) -> Self {
        Self { inner, position: None }
    }
}

/// An error of ours travelling through DataFusion's plans; comes back whole by the `From` below.
impl From<Error> for DataFusionError {
    fn from(error: Error) -> Self {
        Self::External(Box::new(error))
    }
}

impl From<DataFusionError> for Error {
    fn from(error: DataFusionError) -> Self {
        Self::of(&error)
    }
}

impl From<datafusion::arrow::error::ArrowError> for Error {
    fn from(error: datafusion::arrow::error::ArrowError) -> Self {
        translate::arrow(&error)
    }
}
