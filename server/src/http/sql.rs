//! `POST /v1/sql`: one statement.
//!
//! Owns: the order of the steps, and what a request without a session cannot run. A request has a session of its own: nothing of it is
//! left for the next one.

use std::sync::Arc;

use axum::Extension;
use axum::body::Body;
use axum::extract::State;
use axum::http::{HeaderMap, HeaderName, StatusCode};
use axum::response::{IntoResponse, Response};
use cairn_engine::{Error, Session, StatementKind};
use cairn_storage::ErrorKind;

use super::answer::{self, Form};
use super::error::Problem;
use super::format::Format;
use super::request::SqlRequest;
use super::serve::Http;
use super::{identity, params};
use crate::listen::ConnectionInfo;

/// The id of the commit that the statement makes: one that is sent again changes nothing again.
const COMMIT_ID: HeaderName = HeaderName::from_static("cairn-commit-id");

pub(super) async fn answer(
    State(http): State<Arc<Http>>,
    Extension(connection): Extension<Arc<ConnectionInfo>>,
    headers: HeaderMap,
    body: Body,
) -> Response {
    run(&http, &connection, &headers, body).await.unwrap_or_else(IntoResponse::into_response)
}

async fn run(
    http: &Http,
    connection: &ConnectionInfo,
    headers: &HeaderMap,
    body: Body,
) -> Result<Response, Problem> {
    let session = identity::session(&http.shared, headers, connection.remote).await?;
    session.set_client(&connection.remote.to_string());
    let request = SqlRequest::read(headers, body, http.shared.options.message_bytes_max).await?;
    let pass = http.gate.enter().ok_or_else(Problem::stopping)?;
    let format = match request.format {
        Some(format) => format,
        None => Format::accepted(headers)?,
    };
    let params = params::params(&request.params)?;
    for (name, value) in request.settings()? {
        session.configure(&name, &value)?;
    }
    if let Some(id) = headers.get(&COMMIT_ID) {
        let unreadable =
            |_| Problem::request(StatusCode::BAD_REQUEST, "the header Cairn-Commit-Id cannot be read");
        session.configure("commit_id", id.to_str().map_err(unreadable)?)?;
    }
    check(&session, &request.sql)?;
    let output = session.execute(&request.sql, params).await?;
    answer::of(output, Form { format, numbers: request.numbers.into() }, pass).await
}

/// Refuses what lives in a session.
fn check(session: &Session, sql: &str) -> Result<(), Error> {
    let refused = |message: &str, hint: &'static str| {
        Err(Error::new(ErrorKind::Unsupported, message).map(|e| e.with_hint(hint)))
    };
    // What cannot be read is refused, and accounted for, where statements run.
    let Ok(kind) = session.statement_kind(sql) else { return Ok(()) };
    match kind {
        StatementKind::Transaction => refused(
            "a transaction needs a session, and requests over HTTP have none",
            "use Flight SQL for transactions; over HTTP each statement is a transaction of its own",
        ),
        StatementKind::Setting => refused(
            "a setting or a secret lasts as long as its session, which over HTTP is one request",
            "give settings with the statement: {\"sql\": \"…\", \"settings\": {\"statement_timeout\": \"5s\"}}; secrets belong \
             to a session of Flight SQL, whose token a request may bear",
        ),
        StatementKind::Select
        | StatementKind::Insert
        | StatementKind::Update
        | StatementKind::Delete
        | StatementKind::Merge
        | StatementKind::Copy
        | StatementKind::Ddl
        | StatementKind::Prepare
        | StatementKind::Other => Ok(()),
    }
}
