//! What every answer gets: the id of its request, and a place in the figures.
//!
//! An id is the client's `x-request-id` where that is plain, else a random one. It stands in the answer's `x-request-id`.

use std::sync::Arc;
use std::time::Instant;

use axum::extract::{Request, State};
use axum::http::{HeaderName, HeaderValue};
use axum::middleware::Next;
use axum::response::Response;

use super::serve::Http;

const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");
/// Longest id taken from a client, in bytes.
const REQUEST_ID_BYTES_MAX: usize = 128;

pub(super) async fn traced(State(http): State<Arc<Http>>, request: Request, next: Next) -> Response {
    let begun = Instant::now();
    let id = request.headers().get(&REQUEST_ID).filter(|id| is_plain(id)).cloned().unwrap_or_else(random);
    let metrics = &http.shared.metrics.http;
    let counted = metrics.request(request.method(), request.uri().path());
    let mut response = next.run(request).await;
    metrics.answered(counted, response.status(), begun.elapsed());
    response.headers_mut().insert(REQUEST_ID, id);
    response
}

fn is_plain(id: &HeaderValue) -> bool {
    let bytes = id.as_bytes();
    !bytes.is_empty()
        && bytes.len() <= REQUEST_ID_BYTES_MAX
        && bytes.iter().all(|b| b.is_ascii_alphanumeric() || b"-_.:".contains(b))
}

fn random() -> HeaderValue {
    let id = format!("{:032x}", rand::random::<u128>());
    // Hexadecimal digits are a header's text.
    HeaderValue::from_str(&id).unwrap_or_else(|_| HeaderValue::from_static("0"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_that_could_break_a_log_are_not_taken() {
        for (id, plain) in [("a-b_c.1:2", true), ("", false), ("a b", false), ("a\"", false)] {
            assert_eq!(is_plain(&HeaderValue::from_static(id)), plain, "{id}");
        }
        assert!(is_plain(&random()));
        assert_ne!(random(), random());
    }
}
