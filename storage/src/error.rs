//! One error type for the crate, cut by what the caller does next.
//!
//! Owns: kinds, SQLSTATE, message, detail, hint, cause. A message names the object concerned (table,
//! file, offset, version); a hint says the next step. Neither ever holds user secrets.

use std::fmt;
use std::sync::Arc;

/// What went wrong, by what the caller can do about it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ErrorKind {
    /// The request is wrong; change it. Nothing was changed.
    InvalidInput,
    /// A row breaks a rule of its table (NOT NULL, key, type); nothing was changed.
    ConstraintViolation,
    /// No such object.
    NotFound,
    /// The object is there already.
    AlreadyExists,
    /// Somebody else changed the same rows or table; run the statement or transaction again.
    Conflict,
    /// Another writer has taken the database over; this handle only reads from now on.
    Fenced,
    /// This handle, root or table can't be written.
    ReadOnly,
    /// Storage or another process does not answer now; try again later.
    Unavailable,
    /// The commit may or may not be durable; look its id up after reopening.
    OutcomeUnknown,
    /// What a pinned version needs was removed meanwhile; read again at a newer one.
    SnapshotExpired,
    /// Bytes on disk are not what was written; see the hint for what is at stake.
    Corrupt,
    /// A limit was hit: disk, memory, size, depth.
    ResourceExhausted,
    /// The caller cancelled.
    Cancelled,
    /// Not allowed.
    PermissionDenied,
    /// Nobody of that name with that password.
    Unauthenticated,
    /// Valid, but this version of Cairn can't do it.
    Unsupported,
    /// A fault of Cairn's own; please report it.
    Internal,
}

impl ErrorKind {
    /// The SQLSTATE used when the error carries no more exact one.
    #[must_use]
    pub const fn sqlstate(self) -> &'static str {
        match self {
            Self::InvalidInput => "22000",
            Self::ConstraintViolation => "23000",
            Self::NotFound => "42704",
            Self::AlreadyExists => "42710",
            Self::Conflict => "40001",
            Self::Fenced => "57P04",
            Self::ReadOnly => "25006",
            Self::Unavailable => "57P03",
            Self::OutcomeUnknown => "40003",
            Self::SnapshotExpired => "72000",
            Self::Corrupt => "XX001",
            Self::ResourceExhausted => "53000",
            Self::Cancelled => "57014",
            Self::PermissionDenied => "42501",
            Self::Unauthenticated => "28P01",
            Self::Unsupported => "0A000",
            Self::Internal => "XX000",
        }
    }
}

/// An error with everything a user or program needs to act on it.
#[derive(Clone, Debug)]
pub struct Error(Box<Inner>);

#[derive(Clone, Debug)]
struct Inner {
    kind: ErrorKind,
    sqlstate: &'static str,
    message: String,
    detail: Option<String>,
    hint: Option<String>,
    source: Option<Arc<dyn std::error::Error + Send + Sync>>,
}

/// The crate's result.
pub type Result<T, E = Error> = std::result::Result<T, E>;

impl Error {
    /// An error of `kind` with its message.
    #[must_use]
    pub fn new(kind: ErrorKind, message: impl Into<String>) -> Self {
        Self(Box::new(Inner {
            kind,
            sqlstate: kind.sqlstate(),
            message: message.into(),
            detail: None,
            hint: None,
            source: None,
        }))
    }

    /// Damage found in `what` (a path, with offset where known).
    #[must_use]
    pub fn corrupt(what: impl fmt::Display, why: impl fmt::Display) -> Self {
        Self::new(ErrorKind::Corrupt, format!("{what} is damaged: {why}"))
    }

    /// A fault of Cairn's own.
    #[must_use]
    pub fn internal(message: impl Into<String>) -> Self {
        Self::new(ErrorKind::Internal, message)
    }

    /// A more exact SQLSTATE than the kind's.
    #[must_use]
    pub fn with_sqlstate(mut self, sqlstate: &'static str) -> Self {
        self.0.sqlstate = sqlstate;
        self
    }

    /// Facts behind the message.
    #[must_use]
    pub fn with_detail(mut self, detail: impl Into<String>) -> Self {
        self.0.detail = Some(detail.into());
        self
    }

    /// The next step.
    #[must_use]
    pub fn with_hint(mut self, hint: impl Into<String>) -> Self {
        self.0.hint = Some(hint.into());
        self
    }

    /// The same in other words: message, detail and hint, each as `rewrite` makes it.
    #[must_use]
    pub fn rewritten(mut self, rewrite: impl Fn(String) -> String) -> Self {
        self.0.message = rewrite(std::mem::take(&mut self.0.message));
        self.0.detail = self.0.detail.take().map(&rewrite);
        self.0.hint = self.0.hint.take().map(&rewrite);
        self
    }

    /// The error that caused this one.
    #[must_use]
    pub fn with_source(mut self, source: impl std::error::Error + Send + Sync + 'static) -> Self {
        self.0.source = Some(Arc::new(source));
        self
    }

    /// What kind of error this is.
    #[must_use]
    pub fn kind(&self) -> ErrorKind {
        self.0.kind
    }

    /// Five characters of the SQL standard's class and subclass.
    #[must_use]
    pub fn sqlstate(&self) -> &'static str {
        self.0.sqlstate
    }

    /// One sentence, without detail and hint.
    #[must_use]
    pub fn message(&self) -> &str {
        &self.0.message
    }

    /// Facts behind the message.
    #[must_use]
    pub fn detail(&self) -> Option<&str> {
        self.0.detail.as_deref()
    }

    /// The next step.
    #[must_use]
    pub fn hint(&self) -> Option<&str> {
        self.0.hint.as_deref()
    }

    /// An I/O error while doing `what` ("writing wal/3"); keeps the cause and its kind.
    #[must_use]
    pub fn io(what: impl fmt::Display, error: std::io::Error) -> Self {
        use std::io::ErrorKind as Io;
        let (kind, hint) = match error.kind() {
            Io::StorageFull | Io::QuotaExceeded => {
                (ErrorKind::ResourceExhausted, Some("free disk space, then try again"))
            }
            Io::ReadOnlyFilesystem => {
                (ErrorKind::ReadOnly, Some("open the database with --read-only, or make it writable"))
            }
            Io::PermissionDenied => {
                (ErrorKind::PermissionDenied, Some("check the owner and mode of the directory"))
            }
            Io::NotFound => (ErrorKind::NotFound, None),
            _ => (ErrorKind::Unavailable, None),
        };
        let mut made = Self::new(kind, format!("{what}: {error}")).with_source(error);
        if kind == ErrorKind::ResourceExhausted {
            made = made.with_sqlstate("53100");
        }
        if let Some(hint) = hint {
            made = made.with_hint(hint);
        }
        made
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0.message)
    }
}

impl std::error::Error for Error {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        self.0.source.as_deref().map(|s| s as _)
    }
}

/// What to do about damage.
pub(crate) const DAMAGE_HINT: &str =
    "run VERIFY, keep a copy of the database, restore the object from a backup";

/// The error of an object that the writer has collected while it was read here.
pub(crate) fn expired(path: &str) -> Error {
    Error::new(ErrorKind::SnapshotExpired, "the snapshot has expired: what it reads was collected meanwhile")
        .with_detail(format!("{path} is not there any more"))
        .with_hint(
            "run the statement again, in a transaction all of it; a longer reader_grace at the writer keeps replaced objects longer; if it \
             stays so, VERIFY tells whether an object is missing",
        )
}

/// The error of an object that the manifest or log names but that is not there.
pub(crate) fn missing(path: &str) -> Error {
    Error::corrupt(path, "it is missing").with_hint(DAMAGE_HINT)
}

/// The error of bytes that only a later Cairn can read or go on with: it does not know that `why`, "it has format 2".
pub(crate) fn newer(what: impl fmt::Display, why: impl fmt::Display) -> Error {
    let this = env!("CARGO_PKG_VERSION");
    let message = format!("{what} was written by a newer Cairn: {why}, which Cairn {this} does not know");
    Error::new(ErrorKind::Unsupported, message).with_hint(format!(
        "nothing is damaged; open the database with that Cairn or a later one, newer than {this}"
    ))
}

/// Whether `bytes` are of a later form of an object that says no version: then the last of the eight letters it begins with is a digit, and its
/// last four bytes are the crc32c of those before them, as in the form that is known.
pub(crate) fn is_later_form(bytes: &[u8], magic: &[u8; 8]) -> bool {
    let Some((body, crc)) = bytes.split_last_chunk::<4>() else { return false };
    let of_kind = body.len() >= magic.len() && body[..7] == magic[..7] && body[7].is_ascii_digit();
    of_kind && crc32c::crc32c(body) == u32::from_le_bytes(*crc)
}

impl From<arrow::error::ArrowError> for Error {
    fn from(error: arrow::error::ArrowError) -> Self {
        Self::new(ErrorKind::Internal, format!("arrow: {error}")).with_source(error)
    }
}

impl From<parquet::errors::ParquetError> for Error {
    fn from(error: parquet::errors::ParquetError) -> Self {
        // An error of ours that travelled through a Parquet reader comes back whole.
        if let parquet::errors::ParquetError::External(source) = &error
            && let Some(ours) = source.downcast_ref::<Self>()
        {
            return ours.clone();
        }
        Self::new(ErrorKind::Corrupt, format!("parquet: {error}")).with_source(error)
    }
}

impl From<object_store::Error> for Error {
    /// An error of ours that travelled through the `object_store` trait comes back whole.
    fn from(error: object_store::Error) -> Self {
        crate::object::describe(error)
    }
}

impl From<Error> for object_store::Error {
    fn from(error: Error) -> Self {
        Self::Generic { store: "cairn", source: Box::new(error) }
    }
}
