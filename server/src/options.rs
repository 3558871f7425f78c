//! How a server is run.
//!
//! Owns: the values and their defaults. Does not own: where they come from.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

use cairn_engine::{QueueLimits, SessionLimits};

/// Port of Flight SQL when none is given.
pub const FLIGHT_PORT: u16 = 8815;
/// Port of HTTP when none is given.
pub const HTTP_PORT: u16 = 8816;

/// How to run a [`Server`](crate::Server).
#[derive(Clone, Debug)]
pub struct ServerOptions {
    /// Where Flight SQL listens; None: nowhere. Port 0 is a free one.
    pub flight: Option<SocketAddr>,
    /// Where HTTP listens; None: nowhere. Port 0 is a free one.
    pub http: Option<SocketAddr>,
    /// Whether HTTP answers `/metrics`, which nobody has to log in for.
    pub metrics: bool,
    /// Whether addresses that other machines reach are allowed although nobody has to log in.
    pub insecure: bool,
    /// Certificates; None: connections are not encrypted.
    pub tls: Option<TlsOptions>,
    /// Bytes of one message of Flight, or of one request over HTTP, that a client may send.
    pub message_bytes_max: usize,
    /// Connections at one time, of all protocols.
    pub connections_max: usize,
    /// Sessions at one time.
    pub sessions_max: usize,
    /// Sessions of one user at one time, superusers too; None: half of them.
    pub sessions_per_user_max: Option<usize>,
    /// A session nobody used for this long ends; its open transactions are rolled back.
    pub session_idle_max: Duration,
    /// How long a result waits for the client to fetch it.
    pub result_wait_max: Duration,
    /// Results of one session that wait to be fetched; one more takes the place of the oldest.
    pub results_max: usize,
    /// Prepared statements of one session.
    pub prepared_max: usize,
    /// How long a token is good for from its login, however often it is used.
    pub token_life_max: Duration,
    /// What each session may use; of the server's files, those below its `copy_root` only, of object storage what lies below its `copy_urls`. Its
    /// queue is the server's own. Without `threads`, statements run on those that answer clients, where one that does not yield may keep others waiting.
    pub limits: SessionLimits,
    /// Statements that run and wait.
    pub queue: QueueLimits,
    /// How long running statements may go on after the server was told to stop.
    pub drain_max: Duration,
    /// File that gets a line of JSON for every statement; None: nobody keeps account.
    pub audit_log: Option<PathBuf>,
    /// File that gets the same lines for statements that took `slow_min` or longer; None: nobody keeps account.
    pub slow_log: Option<PathBuf>,
    /// What is slow.
    pub slow_min: Duration,
}

/// Certificates of a server, PEM files.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TlsOptions {
    /// The server's certificate, followed by those that lead to its root.
    pub certificate: PathBuf,
    /// Its private key.
    pub key: PathBuf,
    /// Roots of the certificates that clients must show; None: clients need none.
    pub client_ca: Option<PathBuf>,
}

impl Default for ServerOptions {
    fn default() -> Self {
        Self {
            flight: Some(SocketAddr::from((Ipv4Addr::LOCALHOST, FLIGHT_PORT))),
            http: Some(SocketAddr::from((Ipv4Addr::LOCALHOST, HTTP_PORT))),
            metrics: true,
            insecure: false,
            tls: None,
            message_bytes_max: 256 << 20,
            connections_max: 4_096,
            sessions_max: 4_096,
            sessions_per_user_max: None,
            session_idle_max: Duration::from_secs(30 * 60),
            result_wait_max: Duration::from_secs(60),
            results_max: 64,
            prepared_max: 1_024,
            token_life_max: Duration::from_secs(24 * 60 * 60),
            limits: SessionLimits::default(),
            queue: QueueLimits::default(),
            drain_max: Duration::from_secs(10),
            audit_log: None,
            slow_log: None,
            slow_min: Duration::from_secs(1),
        }
    }
}
