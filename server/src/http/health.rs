//! What a supervisor asks: is the process alive, may it get requests, what does it count? Answered without a login.

use std::sync::Arc;

use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use cairn_engine::Error;
use serde_json::json;

use super::document::document;
use super::error::Problem;
use super::serve::Http;
use crate::metrics;

/// `GET /healthz`: the process answers.
pub(super) async fn alive() -> Response {
    document(&json!({"status": "ok"}))
}

/// `GET /readyz`: statements are taken, and changes where this server makes any.
pub(super) async fn ready(State(http): State<Arc<Http>>) -> Response {
    if !http.gate.is_open() {
        return Problem::stopping().into_response();
    }
    let database = http.shared.engine.database();
    let access = if database.is_read_only() {
        "read-only"
    } else {
        match database.check_writable() {
            Ok(()) => "read-write",
            Err(error) => return not_ready(error.into()),
        }
    };
    document(&json!({"status": "ready", "access": access}))
}

fn not_ready(error: Error) -> Response {
    // Whatever keeps the database from taking changes, this server should get none.
    (StatusCode::SERVICE_UNAVAILABLE, document(&Problem::from(error).to_json())).into_response()
}

/// `GET /metrics`: figures as Prometheus reads them.
pub(super) async fn metrics(State(http): State<Arc<Http>>) -> Response {
    if !http.shared.options.metrics {
        return Problem::request(StatusCode::NOT_FOUND, "this server shows no metrics")
            .with_hint("set http.metrics = true")
            .into_response();
    }
    ([(header::CONTENT_TYPE, metrics::CONTENT_TYPE)], metrics::page(&http.shared)).into_response()
}
