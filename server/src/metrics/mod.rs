//! Figures of a server, as Prometheus reads them.
//!
//! Owns: what the protocols count and its names, the page. Does not own: figures of the database and its statements
//! (`cairn_engine::figures`).

mod flight;
mod http;
mod page;
mod text;

pub(crate) use flight::FlightMetrics;
pub(crate) use http::HttpMetrics;
pub(crate) use page::page;
pub(crate) use text::CONTENT_TYPE;

/// What the protocols count.
#[derive(Debug, Default)]
pub(crate) struct ServerMetrics {
    pub(crate) http: HttpMetrics,
    pub(crate) flight: FlightMetrics,
}
