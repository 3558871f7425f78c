//! A short answer in JSON, one line of text.

use axum::http::header;
use axum::response::{IntoResponse, Response};
use serde_json::Value;

/// `value` as an answer.
pub(super) fn document(value: &Value) -> Response {
    ([(header::CONTENT_TYPE, "application/json")], format!("{value}\n")).into_response()
}
