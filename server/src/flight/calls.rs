//! Calls before and after they are answered: nobody's messages are read who may not be let in, and every call is in the figures,
//! with its method and the code it ended with.
//!
//! A call that fails at once says so in the head of its answer; one that began well has its code behind its messages. One whose
//! client goes away before that was cancelled.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use axum::body::{Body, HttpBody};
use axum::extract::{Request, State};
use axum::http::HeaderMap;
use axum::middleware::Next;
use axum::response::Response;
use bytes::Bytes;
use http_body::{Frame, SizeHint};
use tonic::Code;

use super::handshake::{self, Caller};
use super::status;
use crate::server::Shared;

pub(super) async fn counted(State(shared): State<Arc<Shared>>, mut request: Request, next: Next) -> Response {
    let path = request.uri().path().to_owned();
    let mut call = Call { shared: Arc::clone(&shared), path, counted: false };
    let caller = handshake::caller(&shared, &call.path, request.headers(), request.extensions()).await;
    let response = match caller {
        Ok(caller) => {
            if let Some(caller) = caller {
                request.extensions_mut().insert::<Caller>(caller);
            }
            next.run(request).await
        }
        Err(error) => status::of(&error).into_http::<Body>(),
    };
    call.read(response.headers());
    response.map(|messages| Body::new(Messages { messages, call }))
}

/// A call that is counted once, when it has ended.
struct Call {
    shared: Arc<Shared>,
    path: String,
    counted: bool,
}

impl Call {
    /// It has ended when `headers` say how.
    fn read(&mut self, headers: &HeaderMap) {
        if let Some(code) = headers.get("grpc-status") {
            self.count(Code::from_bytes(code.as_bytes()));
        }
    }

    fn count(&mut self, code: Code) {
        if !std::mem::replace(&mut self.counted, true) {
            self.shared.metrics.flight.answered(&self.path, code);
        }
    }
}

impl Drop for Call {
    fn drop(&mut self) {
        self.count(Code::Cancelled);
    }
}

/// The messages of an answer, and the code behind them.
struct Messages {
    messages: Body,
    call: Call,
}

impl HttpBody for Messages {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        let frame = std::task::ready!(Pin::new(&mut self.messages).poll_frame(context));
        if let Some(Ok(frame)) = &frame
            && let Some(trailers) = frame.trailers_ref()
        {
            self.call.read(trailers);
        }
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        self.messages.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.messages.size_hint()
    }
}
