//! Connections as they come in, of every protocol.
//!
//! Owns: bound sockets, TLS handshakes (many at a time, each with a time limit), the limit of connections, the id of each.
//! Does not own: what is said on a connection.

mod connection;
mod gather;
mod tls;

pub(crate) use connection::{Connection, ConnectionId, ConnectionInfo};

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use cairn_engine::{Error, Result};
use cairn_storage::ErrorKind;
use cairn_storage::metrics::Counter;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};
use tokio::task::JoinSet;
use tokio_rustls::TlsAcceptor;

use crate::options::TlsOptions;

/// How long a client may take for a TLS handshake.
const HANDSHAKE_MAX: Duration = Duration::from_secs(10);
/// Wait after the system refused to accept, as when it has no file descriptors left.
const REFUSED_WAIT: Duration = Duration::from_millis(50);
/// Accepted connections that wait to be served.
const WAITING_MAX: usize = 16;

/// How many connections there may be; shared by the listeners of a server.
#[derive(Clone, Debug)]
pub(crate) struct Connections {
    free: Arc<Semaphore>,
    open: Arc<Counter>,
}

/// The place of one open connection among them.
pub(crate) struct Place {
    _permit: OwnedSemaphorePermit,
    open: Arc<Counter>,
}

impl Drop for Place {
    fn drop(&mut self) {
        self.open.subtract(1);
    }
}

impl Connections {
    pub(crate) fn new(connections_max: usize) -> Self {
        let free = Arc::new(Semaphore::new(connections_max.min(Semaphore::MAX_PERMITS)));
        Self { free, open: Arc::default() }
    }

    /// Connections that are open.
    pub(crate) fn open(&self) -> u64 {
        self.open.value()
    }

    fn take(&self, permit: OwnedSemaphorePermit) -> Place {
        self.open.one();
        Place { _permit: permit, open: Arc::clone(&self.open) }
    }
}

/// A bound address.
pub(crate) struct Listener {
    socket: TcpListener,
    address: SocketAddr,
    tls: Option<TlsAcceptor>,
    connections: Connections,
}

impl std::fmt::Debug for Listener {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Listener").field("address", &self.address).finish_non_exhaustive()
    }
}

impl Listener {
    /// Binds `address`; with TLS, clients choose one of `protocols`.
    ///
    /// # Errors
    /// `Unavailable` when the address can't be bound, `InvalidInput` for unusable certificates.
    pub(crate) async fn bind(
        address: SocketAddr,
        tls: Option<&TlsOptions>,
        protocols: &[&str],
        connections: &Connections,
    ) -> Result<Self> {
        let tls = tls.map(|tls| tls::acceptor(tls, protocols)).transpose()?;
        let refused = |error: std::io::Error| {
            Error::new(ErrorKind::Unavailable, format!("{address} can't be listened on: {error}")).map(|e| {
                e.with_hint("another process may use the port; choose another one, or 0 for a free one")
            })
        };
        let socket = TcpListener::bind(address).await.map_err(refused)?;
        let address = socket.local_addr().map_err(refused)?;
        Ok(Self { socket, address, tls, connections: connections.clone() })
    }

    /// The address, with the port that was given for 0.
    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    /// Begins to accept, until the receiver is dropped.
    pub(crate) fn accept(self) -> mpsc::Receiver<Connection> {
        let (accepted, connections) = mpsc::channel(WAITING_MAX);
        tokio::spawn(self.accept_into(accepted));
        connections
    }

    async fn accept_into(self, accepted: mpsc::Sender<Connection>) {
        let mut handshakes = JoinSet::new();
        loop {
            // A client beyond the limit waits in the system's queue.
            let permit = tokio::select! {
                permit = Arc::clone(&self.connections.free).acquire_owned() => permit,
                () = accepted.closed() => return,
            };
            let Ok(permit) = permit else { return };
            let socket = tokio::select! {
                socket = self.socket.accept() => socket,
                () = accepted.closed() => return,
            };
            while handshakes.try_join_next().is_some() {}
            match socket {
                Ok((stream, remote)) => {
                    let (tls, accepted) = (self.tls.clone(), accepted.clone());
                    let place = self.connections.take(permit);
                    handshakes.spawn(async move {
                        if let Some(connection) = handshake(stream, remote, tls, place).await {
                            // Nobody takes it when the server stops.
                            let _ = accepted.send(connection).await;
                        }
                    });
                }
                Err(_) => tokio::time::sleep(REFUSED_WAIT).await,
            }
        }
    }
}

/// The connection after its handshake; None when the client did not manage that.
async fn handshake(
    stream: TcpStream,
    remote: SocketAddr,
    tls: Option<TlsAcceptor>,
    place: Place,
) -> Option<Connection> {
    // A statement and its answer are small packets that wait for each other.
    stream.set_nodelay(true).ok()?;
    match tls {
        None => Some(Connection::plain(stream, remote, place)),
        Some(tls) => {
            let stream = tokio::time::timeout(HANDSHAKE_MAX, tls.accept(stream)).await.ok()?.ok()?;
            Some(Connection::encrypted(stream, remote, place))
        }
    }
}
