//! Calls in the figures: which method, and with which code it was answered.

use std::sync::Arc;

use axum::extract::{Request, State};
use axum::middleware::Next;
use axum::response::Response;
use tonic::Code;

use crate::server::Shared;

pub(super) async fn counted(State(shared): State<Arc<Shared>>, request: Request, next: Next) -> Response {
    let path = request.uri().path().to_owned();
    let response = next.run(request).await;
    // A call that fails at once says so in the head; one that began well has its code behind its messages.
    let code =
        response.headers().get("grpc-status").map_or(Code::Ok, |code| Code::from_bytes(code.as_bytes()));
    shared.metrics.flight.answered(&path, code);
    response
}
