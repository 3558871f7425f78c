//! Errors as gRPC tells them.
//!
//! Owns: the code of each kind, the text a client shows, and the metadata a program reads: `cairn-sqlstate`; `cairn-line` and
//! `cairn-column` of the place in the statement; `cairn-detail-bin` and `cairn-hint-bin`, UTF-8. Both ways: what the server
//! writes, [`StatementFailure::read`] takes apart. Does not own: the errors (`cairn_engine::Error`).

use std::borrow::Cow;

use cairn_engine::{Error, Position};
use cairn_storage::ErrorKind;
use datafusion::error::DataFusionError;
use tonic::metadata::{MetadataMap, MetadataValue};
use tonic::{Code, Status};

const SQLSTATE: &str = "cairn-sqlstate";
const LINE: &str = "cairn-line";
const COLUMN: &str = "cairn-column";
const DETAIL: &str = "cairn-detail-bin";
const HINT: &str = "cairn-hint-bin";

/// Bytes of a message; clients take 8 to 16 KiB of headers, in which some characters are three times as long.
const MESSAGE_BYTES_MAX: usize = 2048;
/// Bytes of a detail or a hint, which are sent twice.
const REMARK_BYTES_MAX: usize = 768;

/// `error` for the client.
pub(crate) fn of(error: &Error) -> Status {
    let (detail, hint) = (error.detail().map(remark), error.hint().map(remark));
    let mut metadata = MetadataMap::new();
    metadata.insert(SQLSTATE, MetadataValue::from_static(error.sqlstate()));
    if let Some(position) = error.position() {
        metadata.insert(LINE, position.line.into());
        metadata.insert(COLUMN, position.column.into());
    }
    for (name, remark) in [(DETAIL, &detail), (HINT, &hint)] {
        if let Some(remark) = remark {
            metadata.insert_bin(name, MetadataValue::from_bytes(remark.as_bytes()));
        }
    }
    let message = cut(error.message(), MESSAGE_BYTES_MAX);
    let remarks = remarks(error.position(), detail.as_deref(), hint.as_deref());
    Status::with_metadata(code(error), format!("{message}{remarks}"), metadata)
}

/// An error of rows on their way.
pub(crate) fn of_rows(error: DataFusionError) -> Status {
    of(&Error::from(error))
}

/// A request that is not of the protocol.
pub(crate) fn wrong_request(message: impl Into<String>) -> Error {
    Error::new(ErrorKind::InvalidInput, message).map(|e| e.with_sqlstate("08P01"))
}

fn code(error: &Error) -> Code {
    match error.kind() {
        ErrorKind::Unauthenticated => Code::Unauthenticated,
        ErrorKind::ConstraintViolation if error.sqlstate() == "23505" => Code::AlreadyExists,
        ErrorKind::InvalidInput | ErrorKind::ConstraintViolation => Code::InvalidArgument,
        ErrorKind::NotFound => Code::NotFound,
        ErrorKind::AlreadyExists => Code::AlreadyExists,
        // Both go well when the statement is run again.
        ErrorKind::Conflict | ErrorKind::SnapshotExpired => Code::Aborted,
        ErrorKind::ReadOnly => Code::FailedPrecondition,
        ErrorKind::Fenced | ErrorKind::Unavailable => Code::Unavailable,
        ErrorKind::OutcomeUnknown => Code::Unknown,
        ErrorKind::Corrupt => Code::DataLoss,
        ErrorKind::ResourceExhausted => Code::ResourceExhausted,
        ErrorKind::Cancelled => Code::Cancelled,
        ErrorKind::PermissionDenied => Code::PermissionDenied,
        ErrorKind::Unsupported => Code::Unimplemented,
        ErrorKind::Internal => Code::Internal,
    }
}

fn remark(text: &str) -> Cow<'_, str> {
    cut(text, REMARK_BYTES_MAX)
}

/// The first `most` bytes of `text`, or somewhat fewer.
fn cut(text: &str, most: usize) -> Cow<'_, str> {
    if text.len() <= most {
        return Cow::Borrowed(text);
    }
    Cow::Owned(format!("{}…", &text[..text.floor_char_boundary(most)]))
}

/// What helps beside the message, one fact a line.
fn remarks(position: Option<Position>, detail: Option<&str>, hint: Option<&str>) -> String {
    let mut text = String::new();
    if let Some(position) = position {
        text.push_str(&format!("\nat line {}, column {}", position.line, position.column));
    }
    for (name, value) in [("detail", detail), ("hint", hint)] {
        if let Some(value) = value {
            text.push_str(&format!("\n{name}: {value}"));
        }
    }
    text
}

/// An error of a Cairn server as its client has it: what the server knew of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StatementFailure {
    /// SQLSTATE.
    pub sqlstate: String,
    /// One sentence.
    pub message: String,
    /// Where in the statement, when known.
    pub position: Option<Position>,
    /// Facts behind it.
    pub detail: Option<String>,
    /// The next step.
    pub hint: Option<String>,
}

impl StatementFailure {
    /// What `status` says; None: it is not of a Cairn server, but of the transport or of somebody between.
    #[must_use]
    pub fn read(status: &Status) -> Option<Self> {
        let metadata = status.metadata();
        let sqlstate = metadata.get(SQLSTATE)?.to_str().ok()?.to_owned();
        let number = |name: &str| metadata.get(name)?.to_str().ok()?.parse::<u64>().ok();
        let position = number(LINE).zip(number(COLUMN)).map(|(line, column)| Position { line, column });
        let remark = |name: &str| String::from_utf8(metadata.get_bin(name)?.to_bytes().ok()?.to_vec()).ok();
        let (detail, hint) = (remark(DETAIL), remark(HINT));
        let remarks = remarks(position, detail.as_deref(), hint.as_deref());
        let message = status.message();
        let message = message.strip_suffix(&remarks).unwrap_or(message).to_owned();
        Some(Self { sqlstate, message, position, detail, hint })
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn kinds_have_codes_and_words_stay() {
        let error = Error::new(ErrorKind::NotFound, "table x does not exist")
            .map(|e| e.with_sqlstate("42P01").with_hint("did you mean y?"))
            .at(Position { line: 2, column: 15 });
        let status = of(&error);
        assert_eq!(status.code(), Code::NotFound);
        assert_eq!(status.message(), "table x does not exist\nat line 2, column 15\nhint: did you mean y?");
        assert_eq!(status.metadata().get("cairn-sqlstate").unwrap(), "42P01");
        assert_eq!(status.metadata().get("cairn-line").unwrap(), "2");
        let code = |kind, sqlstate| of(&Error::new(kind, "m").map(|e| e.with_sqlstate(sqlstate))).code();
        assert_eq!(code(ErrorKind::Conflict, "40001"), Code::Aborted);
        assert_eq!(code(ErrorKind::SnapshotExpired, "72000"), Code::Aborted);
        assert_eq!(code(ErrorKind::Unauthenticated, "28P01"), Code::Unauthenticated);
        assert_eq!(code(ErrorKind::ConstraintViolation, "23505"), Code::AlreadyExists);
        assert_eq!(code(ErrorKind::ConstraintViolation, "23502"), Code::InvalidArgument);
    }

    #[test]
    fn errors_come_back_whole() {
        let plain = Error::new(ErrorKind::InvalidInput, "one\nhint: no hint");
        let full = Error::new(ErrorKind::InvalidInput, "größer als 1")
            .map(|e| e.with_sqlstate("22003").with_detail("Wert: 日本").with_hint("kleiner\nmachen"))
            .at(Position { line: 1, column: 7 });
        for error in [plain, full] {
            let back = StatementFailure::read(&of(&error)).unwrap();
            let (message, sqlstate) = (error.message().to_owned(), error.sqlstate().to_owned());
            let (detail, hint) = (error.detail().map(str::to_owned), error.hint().map(str::to_owned));
            let position = error.position();
            assert_eq!(back, StatementFailure { sqlstate, message, position, detail, hint });
        }
        assert_eq!(StatementFailure::read(&Status::unavailable("gone")), None);
    }

    #[test]
    fn long_errors_fit_into_the_headers_of_an_answer() {
        let long = "ä".repeat(100_000);
        let error =
            Error::new(ErrorKind::InvalidInput, &*long).map(|e| e.with_detail(&*long).with_hint(&*long));
        let status = of(&error);
        assert!(status.message().len() < 4_000, "{}", status.message().len());
        let back = StatementFailure::read(&status).unwrap();
        assert!(back.message.ends_with('…') && back.message.len() <= MESSAGE_BYTES_MAX + '…'.len_utf8());
        assert!(back.hint.unwrap().ends_with("ä…"));
    }
}
