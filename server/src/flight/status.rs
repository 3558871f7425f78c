//! Errors as gRPC tells them.
//!
//! Owns: the code of each kind, the text a client shows, the metadata a program reads: `cairn-sqlstate`, `cairn-line`,
//! `cairn-column`. Does not own: the errors (`cairn_engine::Error`).

use cairn_engine::Error;
use cairn_storage::ErrorKind;
use datafusion::error::DataFusionError;
use tonic::metadata::{MetadataMap, MetadataValue};
use tonic::{Code, Status};

/// `error` for the client.
pub(crate) fn of(error: &Error) -> Status {
    let mut metadata = MetadataMap::new();
    metadata.insert("cairn-sqlstate", MetadataValue::from_static(error.sqlstate()));
    if let Some(position) = error.position() {
        metadata.insert("cairn-line", position.line.into());
        metadata.insert("cairn-column", position.column.into());
    }
    Status::with_metadata(code(error), text(error), metadata)
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
        ErrorKind::Conflict => Code::Aborted,
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

/// The message with everything that helps, one fact a line.
fn text(error: &Error) -> String {
    let mut text = error.message().to_owned();
    if let Some(position) = error.position() {
        text.push_str(&format!("\nat line {}, column {}", position.line, position.column));
    }
    for (name, value) in [("detail", error.detail()), ("hint", error.hint())] {
        if let Some(value) = value {
            text.push_str(&format!("\n{name}: {value}"));
        }
    }
    text
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use cairn_engine::Position;

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
        assert_eq!(code(ErrorKind::Unauthenticated, "28P01"), Code::Unauthenticated);
        assert_eq!(code(ErrorKind::ConstraintViolation, "23505"), Code::AlreadyExists);
        assert_eq!(code(ErrorKind::ConstraintViolation, "23502"), Code::InvalidArgument);
    }
}
