//! Errors as clients of HTTP read them.
//!
//! Owns: the status of each kind of error and the JSON both a failed request and a failed stream say it in:
//! `{"error":{"code","kind","message","detail","hint","line","column"}}`, where `code` is the SQLSTATE and unknown members are
//! left out. Does not own: messages.

use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use cairn_engine::Error;
use cairn_storage::ErrorKind;
use serde_json::{Map, Value, json};

use super::document::document;

/// SQLSTATE of a request that is not one.
const BAD_REQUEST: &str = "08P01";
/// How clients may log in.
const CHALLENGE: &str = "Basic realm=\"cairn\", Bearer";

/// A request that failed.
#[derive(Clone, Debug)]
pub(super) struct Problem {
    status: StatusCode,
    error: Error,
}

impl Problem {
    /// The request itself is wrong, before any statement is read.
    pub(super) fn request(status: StatusCode, message: impl Into<String>) -> Self {
        let error = Error::new(ErrorKind::InvalidInput, message).map(|e| e.with_sqlstate(BAD_REQUEST));
        Self { status, error }
    }

    /// The server is stopping.
    pub(super) fn stopping() -> Self {
        let error = Error::new(ErrorKind::Unavailable, "the server is stopping")
            .map(|e| e.with_sqlstate("57P01").with_hint("try again later, or on another server"));
        error.into()
    }

    pub(super) fn with_hint(mut self, hint: &'static str) -> Self {
        self.error = self.error.map(|e| e.with_hint(hint));
        self
    }

    /// The JSON.
    pub(super) fn to_json(&self) -> Value {
        let error = &self.error;
        let mut members = Map::new();
        members.insert("code".into(), error.sqlstate().into());
        members.insert("kind".into(), kind_name(error.kind()).into());
        members.insert("message".into(), error.message().into());
        let mut known = |name: &str, value: Option<Value>| {
            if let Some(value) = value {
                members.insert(name.into(), value);
            }
        };
        known("detail", error.detail().map(Value::from));
        known("hint", error.hint().map(Value::from));
        known("line", error.position().map(|p| p.line.into()));
        known("column", error.position().map(|p| p.column.into()));
        json!({ "error": members })
    }
}

impl From<Error> for Problem {
    fn from(error: Error) -> Self {
        Self { status: status(error.kind(), error.sqlstate()), error }
    }
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let mut response = (self.status, document(&self.to_json())).into_response();
        if self.status == StatusCode::UNAUTHORIZED {
            response
                .headers_mut()
                .insert(header::WWW_AUTHENTICATE, header::HeaderValue::from_static(CHALLENGE));
        }
        response
    }
}

fn status(kind: ErrorKind, sqlstate: &str) -> StatusCode {
    match (kind, sqlstate) {
        // Who are you?
        (ErrorKind::Unauthenticated, _) => StatusCode::UNAUTHORIZED,
        // Too many connections, sessions or statements: later there is room.
        (_, "53300") => StatusCode::TOO_MANY_REQUESTS,
        (ErrorKind::InvalidInput, _) => StatusCode::BAD_REQUEST,
        (ErrorKind::NotFound, _) => StatusCode::NOT_FOUND,
        (
            ErrorKind::ConstraintViolation
            | ErrorKind::AlreadyExists
            | ErrorKind::Conflict
            | ErrorKind::SnapshotExpired,
            _,
        ) => StatusCode::CONFLICT,
        (ErrorKind::ReadOnly | ErrorKind::PermissionDenied, _) => StatusCode::FORBIDDEN,
        (ErrorKind::Fenced | ErrorKind::Unavailable, _) => StatusCode::SERVICE_UNAVAILABLE,
        (ErrorKind::ResourceExhausted, "57014") => StatusCode::GATEWAY_TIMEOUT,
        // A statement that is too large or too deep is the client's; memory and disk are the server's.
        (ErrorKind::ResourceExhausted, code) if code.starts_with("54") => StatusCode::BAD_REQUEST,
        (ErrorKind::ResourceExhausted, _) => StatusCode::INSUFFICIENT_STORAGE,
        // A client that cancels reads no answer: what is read says that time was up.
        (ErrorKind::Cancelled, _) => StatusCode::GATEWAY_TIMEOUT,
        (ErrorKind::Unsupported, _) => StatusCode::NOT_IMPLEMENTED,
        (ErrorKind::OutcomeUnknown | ErrorKind::Corrupt | ErrorKind::Internal, _) => {
            StatusCode::INTERNAL_SERVER_ERROR
        }
    }
}

fn kind_name(kind: ErrorKind) -> &'static str {
    match kind {
        ErrorKind::InvalidInput => "invalid_input",
        ErrorKind::ConstraintViolation => "constraint_violation",
        ErrorKind::NotFound => "not_found",
        ErrorKind::AlreadyExists => "already_exists",
        ErrorKind::Conflict => "conflict",
        ErrorKind::SnapshotExpired => "snapshot_expired",
        ErrorKind::Fenced => "fenced",
        ErrorKind::ReadOnly => "read_only",
        ErrorKind::Unavailable => "unavailable",
        ErrorKind::OutcomeUnknown => "outcome_unknown",
        ErrorKind::Corrupt => "corrupt",
        ErrorKind::ResourceExhausted => "resource_exhausted",
        ErrorKind::Cancelled => "cancelled",
        ErrorKind::PermissionDenied => "permission_denied",
        ErrorKind::Unauthenticated => "unauthenticated",
        ErrorKind::Unsupported => "unsupported",
        ErrorKind::Internal => "internal",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn statuses() {
        let of = |kind: ErrorKind, sqlstate: &'static str| {
            let error = Error::new(kind, "x").map(|e| e.with_sqlstate(sqlstate));
            Problem::from(error).status.as_u16()
        };
        for (kind, sqlstate, expected) in [
            (ErrorKind::InvalidInput, "42601", 400),
            (ErrorKind::Unauthenticated, "28P01", 401),
            (ErrorKind::PermissionDenied, "42501", 403),
            (ErrorKind::ReadOnly, "25006", 403),
            (ErrorKind::NotFound, "42P01", 404),
            (ErrorKind::ConstraintViolation, "23505", 409),
            (ErrorKind::Conflict, "40001", 409),
            (ErrorKind::SnapshotExpired, "72000", 409),
            (ErrorKind::ResourceExhausted, "53300", 429),
            (ErrorKind::ResourceExhausted, "54000", 400),
            (ErrorKind::ResourceExhausted, "53100", 507),
            (ErrorKind::Cancelled, "57014", 504),
            (ErrorKind::ResourceExhausted, "57014", 504),
            (ErrorKind::Unsupported, "0A000", 501),
            (ErrorKind::Unavailable, "57P03", 503),
            (ErrorKind::Internal, "XX000", 500),
        ] {
            assert_eq!(of(kind, sqlstate), expected, "{sqlstate}");
        }
    }

    #[test]
    fn members_that_are_not_known_are_left_out() {
        let error = Error::new(ErrorKind::NotFound, "no table t")
            .map(|e| e.with_hint("SHOW TABLES"))
            .at(cairn_engine::Position { line: 1, column: 15 });
        assert_eq!(
            Problem::from(error).to_json(),
            json!({"error": {"code": "42704", "kind": "not_found", "message": "no table t",
                "hint": "SHOW TABLES", "line": 1, "column": 15}})
        );
    }
}
