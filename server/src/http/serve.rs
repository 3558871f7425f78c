//! Connections of HTTP, from the first request to the stop.
//!
//! Owns: how long a client may take for a request's head, the order of stopping: statements end, health is answered meanwhile, then
//! connections are closed between requests. HTTP/1.1 and HTTP/2, as the client speaks.

use std::future::Future;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use axum::{Extension, Router};
use cairn_engine::Result;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto::Builder;
use hyper_util::service::TowerToHyperService;
use tokio::sync::watch;
use tokio::task::JoinSet;
use tonic::transport::server::Connected;

use super::gate::Gate;
use super::routes;
use crate::listen::{Connection, Listener};
use crate::server::Shared;

/// How long a client may take to send the head of a request, and how long a connection stays open between requests.
const HEAD_MAX: Duration = Duration::from_secs(60);
/// Bytes of a request's head.
const HEAD_BYTES_MAX: usize = 64 << 10;
/// A client of HTTP/2 that vanished without closing its connection is noticed after about twice this.
const KEEPALIVE: Duration = Duration::from_secs(30);
/// Statements of one HTTP/2 connection at one time.
const STREAMS_MAX: u32 = 128;

/// What requests work with.
#[derive(Debug)]
pub(super) struct Http {
    pub(super) shared: Arc<Shared>,
    pub(super) gate: Gate,
}

/// Answers the clients of `listener` until `stop`; statements that run then are answered to their end.
///
/// # Errors
/// None today: a connection that fails ends alone.
pub(crate) async fn serve(
    shared: Arc<Shared>,
    listener: Listener,
    stop: impl Future<Output = ()> + Send,
) -> Result<()> {
    let http = Arc::new(Http { shared, gate: Gate::new() });
    let router = routes::router(Arc::clone(&http));
    let mut accepted = listener.accept();
    let (closing, close) = watch::channel(false);
    let mut connections = JoinSet::new();
    let mut drained = pin!(async {
        stop.await;
        http.gate.close();
        http.gate.emptied().await;
    });
    loop {
        tokio::select! {
            () = &mut drained => break,
            connection = accepted.recv() => match connection {
                Some(connection) => {
                    while connections.try_join_next().is_some() {}
                    connections.spawn(answer(connection, router.clone(), close.clone()));
                }
                None => break,
            },
        }
    }
    drop(accepted);
    // Nobody listens when there is no connection.
    let _ = closing.send(true);
    while connections.join_next().await.is_some() {}
    Ok(())
}

/// Answers the requests of one connection.
async fn answer(connection: Connection, router: Router, mut close: watch::Receiver<bool>) {
    let service = TowerToHyperService::new(router.layer(Extension(connection.connect_info())));
    let mut builder = Builder::new(TokioExecutor::new());
    builder.http1().timer(TokioTimer::new()).header_read_timeout(HEAD_MAX).max_buf_size(HEAD_BYTES_MAX);
    builder
        .http2()
        .timer(TokioTimer::new())
        .keep_alive_interval(KEEPALIVE)
        .keep_alive_timeout(KEEPALIVE)
        .max_concurrent_streams(STREAMS_MAX)
        .max_header_list_size(HEAD_BYTES_MAX as u32);
    let mut served = pin!(builder.serve_connection(TokioIo::new(connection), service));
    // A connection that fails is the client's: it has heard what there was to say.
    let closed = async {
        // The sender is gone only when the server is.
        let _ = close.wait_for(|close| *close).await;
    };
    tokio::select! {
        _ = served.as_mut() => {}
        () = closed => {
            served.as_mut().graceful_shutdown();
            let _ = served.await;
        }
    }
}
