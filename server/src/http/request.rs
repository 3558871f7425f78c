//! The body of a request for a statement.
//!
//! Owns: its members, its size, which media type it has. Does not own: parameters (`params`).
//!
//! Only `application/json` is taken, and nothing that says it comes from a web page: so no page that a browser on this machine opens
//! can run statements here.

use std::collections::BTreeMap;
use std::time::Duration;

use axum::body::Body;
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use cairn_engine::text::Numbers;
use futures::StreamExt;
use serde::Deserialize;
use serde_json::Value;

use super::error::Problem;
use super::format::Format;

/// How long a client may take to send a body.
const BODY_TIME_MAX: Duration = Duration::from_secs(300);
/// Bytes beyond the largest body that are read and dropped.
const HEARD_OUT_BYTES: usize = 16 << 20;

/// What a body is made of.
const MEMBERS: &str =
    "members are sql, params, format, settings and numbers; GET /openapi.json describes them";

/// What is asked for.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct SqlRequest {
    /// One statement.
    pub(super) sql: String,
    /// Its parameters.
    #[serde(default)]
    pub(super) params: Value,
    /// The form of its rows, before `Accept`.
    #[serde(default)]
    pub(super) format: Option<Format>,
    /// Settings of its session, as SET knows them.
    #[serde(default)]
    pub(super) settings: BTreeMap<String, Value>,
    /// How BIGINT and DECIMAL are written in JSON.
    #[serde(default)]
    pub(super) numbers: NumberForm,
}

/// How BIGINT and DECIMAL are written in JSON.
#[derive(Clone, Copy, Debug, Default, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum NumberForm {
    /// As numbers with all their digits.
    #[default]
    Digits,
    /// As strings, for readers that hold numbers as 64-bit floats.
    Strings,
}

impl From<NumberForm> for Numbers {
    fn from(form: NumberForm) -> Self {
        match form {
            NumberForm::Digits => Self::Digits,
            NumberForm::Strings => Self::Quoted,
        }
    }
}

impl SqlRequest {
    /// Reads a request.
    ///
    /// # Errors
    /// 403 from a web page, 415 for another media type or a compressed body, 413 for a body of more than `bytes_max`, 408 for one that takes
    /// too long, 400 for other JSON.
    pub(super) async fn read(headers: &HeaderMap, body: Body, bytes_max: usize) -> Result<Self, Problem> {
        if headers.contains_key(header::ORIGIN) {
            return Err(Problem::request(StatusCode::FORBIDDEN, "web pages cannot run statements here")
                .with_hint("send the request from a server of yours, without the header Origin"));
        }
        let media_type = headers.get(header::CONTENT_TYPE).and_then(|v| v.to_str().ok()).unwrap_or_default();
        let media_type = media_type.split(';').next().unwrap_or_default().trim();
        if !media_type.eq_ignore_ascii_case("application/json") {
            return Err(Problem::request(
                StatusCode::UNSUPPORTED_MEDIA_TYPE,
                "the request's Content-Type is not application/json",
            )
            .with_hint("send {\"sql\": \"SELECT 1\"} with Content-Type: application/json"));
        }
        if headers.get_all(header::CONTENT_ENCODING).iter().any(|coding| !is_identity(coding)) {
            return Err(Problem::request(
                StatusCode::UNSUPPORTED_MEDIA_TYPE,
                "the request has a Content-Encoding: compressed bodies are not taken",
            )
            .with_hint("send the body as it is, without the header Content-Encoding"));
        }
        let body =
            tokio::time::timeout(BODY_TIME_MAX, bytes(body, bytes_max)).await.unwrap_or_else(|_| {
                Err(Problem::request(
                    StatusCode::REQUEST_TIMEOUT,
                    "the request's body did not come to its end",
                ))
            })?;
        Self::parse(&body)
    }

    /// The request in a body.
    ///
    /// # Errors
    /// 400 for something else.
    fn parse(body: &[u8]) -> Result<Self, Problem> {
        // The members in their order, as an array, would be read as well.
        if body.trim_ascii_start().first().is_some_and(|first| *first == b'[') {
            return Err(Problem::request(
                StatusCode::BAD_REQUEST,
                "the request's body is an array, an object is expected",
            )
            .with_hint(MEMBERS));
        }
        // What is said is where and what kind of thing was expected: no text of the request.
        serde_json::from_slice(body).map_err(|error| {
            Problem::request(StatusCode::BAD_REQUEST, format!("the request's body: {error}"))
                .with_hint(MEMBERS)
        })
    }

    /// The settings with their values as text.
    ///
    /// # Errors
    /// 400 for a value that is an array or object.
    pub(super) fn settings(&self) -> Result<Vec<(String, String)>, Problem> {
        let text = |(name, value): (&String, &Value)| match value {
            Value::String(text) => Ok((name.to_lowercase(), text.clone())),
            Value::Number(_) | Value::Bool(_) => Ok((name.to_lowercase(), value.to_string())),
            _ => Err(Problem::request(
                StatusCode::BAD_REQUEST,
                format!("the value of setting {name} is neither text nor a number, true or false"),
            )),
        };
        self.settings.iter().map(text).collect()
    }
}

/// Whether `body` asks for a statement, with settings and parameters that can be read; for the fuzz targets.
#[must_use]
pub fn is_request(body: &[u8]) -> bool {
    SqlRequest::parse(body)
        .is_ok_and(|request| request.settings().is_ok() && super::params::params(&request.params).is_ok())
}

fn is_identity(coding: &HeaderValue) -> bool {
    coding.as_bytes().trim_ascii().eq_ignore_ascii_case(b"identity")
}

/// All of a body.
///
/// # Errors
/// 413 when it is larger than `bytes_max`, 400 when it breaks off.
async fn bytes(body: Body, bytes_max: usize) -> Result<Vec<u8>, Problem> {
    let (mut kept, mut length) = (Vec::new(), 0);
    let mut parts = body.into_data_stream();
    while let Some(part) = parts.next().await {
        let part = part.map_err(|error| {
            Problem::request(StatusCode::BAD_REQUEST, format!("the request's body breaks off: {error}"))
        })?;
        length += part.len();
        if length <= bytes_max {
            kept.extend_from_slice(&part);
            continue;
        }
        // Many clients hear an answer only once they have sent everything.
        kept = Vec::new();
        if length > bytes_max.saturating_add(HEARD_OUT_BYTES) {
            break;
        }
    }
    if length <= bytes_max {
        return Ok(kept);
    }
    let message = format!("the request's body is larger than {bytes_max} bytes");
    Err(Problem::request(StatusCode::PAYLOAD_TOO_LARGE, message)
        .with_hint("send less at a time, or load files with COPY"))
}
