//! Figures of a server, as Prometheus reads them.
//!
//! Owns: names of figures, what the protocols count, the page. Does not own: what storage and engine count
//! (`cairn_storage::metrics`, `cairn_engine::StatementFigures`).

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
