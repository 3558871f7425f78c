//! Which path is answered by what.

use std::sync::Arc;

use axum::Router;
use axum::http::{Method, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};

use super::error::Problem;
use super::serve::Http;
use super::{health, sql, trace};

/// Paths, as figures name them; the last is any other.
pub(crate) const ROUTES: [&str; 6] = ["/v1/sql", "/healthz", "/readyz", "/metrics", "/openapi.json", "other"];
/// Methods, as figures name them; the last is any other.
pub(crate) const METHODS: [&str; 4] = ["GET", "POST", "HEAD", "other"];

/// OpenAPI 3.1, by hand.
const OPENAPI: &str = include_str!("openapi.json");

/// All routes over `http`.
pub(super) fn router(http: Arc<Http>) -> Router {
    Router::new()
        .route(ROUTES[0], post(sql::answer))
        .route(ROUTES[1], get(health::alive))
        .route(ROUTES[2], get(health::ready))
        .route(ROUTES[3], get(health::metrics))
        .route(ROUTES[4], get(openapi))
        .fallback(missing)
        .method_not_allowed_fallback(wrong_method)
        .layer(axum::middleware::from_fn_with_state(Arc::clone(&http), trace::traced))
        .with_state(http)
}

async fn openapi() -> Response {
    ([(header::CONTENT_TYPE, "application/json")], OPENAPI).into_response()
}

async fn missing() -> Response {
    Problem::request(StatusCode::NOT_FOUND, "there is nothing at this path")
        .with_hint("GET /openapi.json lists what there is")
        .into_response()
}

async fn wrong_method(method: Method) -> Response {
    Problem::request(StatusCode::METHOD_NOT_ALLOWED, format!("this path does not answer {method}"))
        .with_hint("GET /openapi.json lists what there is")
        .into_response()
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn the_document_describes_every_route() {
        let document: serde_json::Value = serde_json::from_str(OPENAPI).unwrap();
        assert_eq!(document["openapi"], "3.1.0");
        let paths: Vec<&str> = document["paths"].as_object().unwrap().keys().map(String::as_str).collect();
        let mut routes = ROUTES[..ROUTES.len() - 1].to_vec();
        routes.sort_unstable();
        assert_eq!(paths, routes);
        assert_eq!(document["info"]["version"], env!("CARGO_PKG_VERSION"));
    }
}
