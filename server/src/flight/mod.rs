//! Flight SQL.
//!
//! # Life of a statement
//! 1. `calls` finds the session of a call, before its messages are read; `service` takes the command out of it.
//! 2. `statement` runs it once; its rows wait in `results` under a random ticket.
//! 3. The client fetches them by that ticket; `wire` and `encode` send them as fast as it reads.
//!
//! Changes and rows come in by DoPut (`put`), everything about the database goes out by `metadata`, `action` is the rest:
//! prepared statements, transactions, session options, cancelling.

mod action;
mod calls;
mod command;
mod encode;
pub(crate) mod fuzzing;
mod handshake;
mod metadata;
mod options;
mod outcome;
mod params;
mod progress;
mod put;
mod receive;
mod results;
mod service;
mod statement;
mod status;
pub(crate) mod wire;

use std::convert::Infallible;
use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use arrow_flight::flight_service_server::FlightServiceServer;
use cairn_engine::{Error, Result};
use cairn_storage::ErrorKind;
use futures::StreamExt;
use tonic::service::Routes;
use tonic::transport::Server;

use crate::listen::Listener;
use crate::server::Shared;

pub use handshake::TRANSACTION_HEADER;
pub use outcome::Outcome;
pub use progress::{JobProgress, PROGRESS_ACTION, ProgressReport};
pub(crate) use results::Results;
pub use status::StatementFailure;

/// Bytes a client may send ahead on one stream, and on one connection.
const STREAM_WINDOW_BYTES: u32 = 4 << 20;
const CONNECTION_WINDOW_BYTES: u32 = 16 << 20;
/// Calls of one connection at a time.
const STREAMS_MAX: u32 = 256;
/// A client that vanished without closing its connection is noticed after about twice this.
const KEEPALIVE: Duration = Duration::from_secs(30);

/// Answers the clients of `listener` until `stop`, then those that are being answered.
///
/// # Errors
/// When the transport fails.
pub(crate) async fn serve(
    shared: Arc<Shared>,
    listener: Listener,
    stop: impl Future<Output = ()> + Send,
) -> Result<()> {
    let service = FlightServiceServer::new(service::Flight::new(Arc::clone(&shared)))
        .max_decoding_message_size(shared.options.message_bytes_max);
    let counted = axum::middleware::from_fn_with_state(shared, calls::counted);
    let counted = Routes::new(service).into_axum_router().layer(counted);
    let accepted = listener.accept();
    let incoming = futures::stream::unfold(accepted, |mut accepted| async {
        accepted.recv().await.map(|connection| (Ok::<_, Infallible>(connection), accepted))
    });
    Server::builder()
        .initial_stream_window_size(STREAM_WINDOW_BYTES)
        .initial_connection_window_size(CONNECTION_WINDOW_BYTES)
        .max_concurrent_streams(STREAMS_MAX)
        .http2_keepalive_interval(Some(KEEPALIVE))
        .http2_keepalive_timeout(Some(KEEPALIVE))
        .add_routes(Routes::from(counted))
        .serve_with_incoming_shutdown(incoming.boxed(), stop)
        .await
        .map_err(|error| Error::new(ErrorKind::Internal, format!("Flight SQL has ended: {error}")))
}
