//! A running server: its listeners, what they share, and how it stops.
//!
//! Owns: binding, who may be reached from where, the order of stopping: no new connections, running statements go on for
//! `drain_max`, sessions end. Does not own: the engine; whoever opened it closes it after [`Server::run`].
//!
//! Clients are answered, and time limits watched, on the threads that [`Server::bind`] and [`Server::run`] are called on; statements run on
//! those of `ServerOptions::limits`. Nothing on the former computes for long, so they answer whatever a statement does.

use std::future::Future;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use cairn_engine::{Engine, Error, Result, SessionLimits, StatementLog, StatementQueue};
use cairn_storage::ErrorKind;
use futures::FutureExt;
use futures::future::BoxFuture;
use tokio::runtime::Handle;
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::MissedTickBehavior;

use crate::audit::StatementFiles;
use crate::flight;
use crate::http;
use crate::listen::{Connections, Listener};
use crate::login::Logins;
use crate::metrics::ServerMetrics;
use crate::options::ServerOptions;
use crate::refusals::Refusals;
use crate::session::{Lease, Sessions};

/// Time between two looks at what clients have left behind.
const TIDY_INTERVAL: Duration = Duration::from_secs(1);

/// What every protocol works with.
#[derive(Debug)]
pub(crate) struct Shared {
    pub(crate) engine: Arc<Engine>,
    pub(crate) options: ServerOptions,
    pub(crate) logins: Logins,
    /// Where statements of all protocols wait to run.
    pub(crate) queue: Arc<StatementQueue>,
    pub(crate) sessions: Arc<Sessions>,
    /// Results that wait for Flight clients to fetch them.
    pub(crate) results: Arc<flight::Results>,
    pub(crate) connections: Connections,
    pub(crate) metrics: ServerMetrics,
    pub(crate) log: Arc<StatementFiles>,
}

impl Shared {
    /// The session of a token. It ends when whoever the token was given to may not be let in any more.
    ///
    /// # Errors
    /// `Unauthenticated` (28000).
    pub(crate) async fn session_of_token(&self, token: &str) -> Result<Lease> {
        let session = self.sessions.of_token(token).ok_or_else(|| {
            Error::new(ErrorKind::Unauthenticated, "the token is not valid, or its session has ended")
                .map(|e| e.with_sqlstate("28000").with_hint("log in again"))
        })?;
        let checked = self.logins.check(session.identity()).await;
        if checked.as_ref().is_err_and(|error| error.kind() == ErrorKind::Unauthenticated) {
            self.sessions.close(session.id());
        }
        checked.map(|()| session)
    }
}

/// A server whose listeners are bound.
#[derive(Debug)]
pub struct Server {
    shared: Arc<Shared>,
    flight: Option<Listener>,
    http: Option<Listener>,
}

impl Server {
    /// Binds the listeners of `options`; clients can connect, and are answered once it runs, which must be on the same runtime.
    ///
    /// # Errors
    /// `InvalidInput` when an address may be reached by others and nobody has to log in, for certificates that can't be
    /// used, or a `copy_root` that is no directory; `Unavailable` when an address can't be bound.
    pub async fn bind(engine: Arc<Engine>, options: ServerOptions) -> Result<Self> {
        for address in [options.flight, options.http].into_iter().flatten() {
            check_reach(&engine, address, &options).await?;
        }
        if let Some(directory) = &options.limits.copy_root {
            check_directory(directory)?;
        }
        let connections = Connections::new(options.connections_max);
        let bind = async |address: Option<SocketAddr>, protocols| match address {
            Some(address) => {
                Listener::bind(address, options.tls.as_ref(), protocols, &connections).await.map(Some)
            }
            None => Ok(None),
        };
        let flight = bind(options.flight, &["h2"][..]).await?;
        let http = bind(options.http, &["h2", "http/1.1"][..]).await?;
        let sessions = Arc::new(Sessions::new(&options));
        let queue = Arc::new(StatementQueue::new(options.queue.clone()));
        let threads = options.limits.threads.clone().unwrap_or_else(Handle::current);
        let limits = SessionLimits {
            queue: Some(Arc::clone(&queue)),
            threads: Some(threads),
            ..options.limits.clone()
        };
        let reached = [options.flight, options.http].into_iter().flatten().any(|a| !a.ip().is_loopback());
        let closed = reached && !options.insecure;
        let results = Arc::new(flight::Results::new(&options));
        let metrics = ServerMetrics::default();
        let log = Arc::new(StatementFiles::open(&options)?);
        if !log.is_empty() {
            engine.set_log(Arc::clone(&log) as Arc<dyn StatementLog>);
        }
        let logins = Logins::new(Arc::clone(&engine), limits, closed, Refusals::new(Arc::clone(&log)));
        let shared =
            Arc::new(Shared { engine, options, logins, queue, sessions, results, connections, metrics, log });
        Ok(Self { shared, flight, http })
    }

    /// Where Flight SQL listens.
    #[must_use]
    pub fn flight_address(&self) -> Option<SocketAddr> {
        self.flight.as_ref().map(Listener::address)
    }

    /// Where HTTP listens.
    #[must_use]
    pub fn http_address(&self) -> Option<SocketAddr> {
        self.http.as_ref().map(Listener::address)
    }

    /// Answers clients until `stop` is ready and what runs then has ended, or `drain_max` has passed.
    ///
    /// # Errors
    /// When a listener fails.
    pub fn run(self, stop: impl Future<Output = ()> + Send + 'static) -> BoxFuture<'static, Result<()>> {
        // Boxed: who calls it need not compile all that it is made of.
        self.run_until(stop.boxed()).boxed()
    }

    async fn run_until(self, stop: BoxFuture<'static, ()>) -> Result<()> {
        let Self { shared, flight, http } = self;
        let (stopping, stopped) = watch::channel(false);
        let mut services = JoinSet::new();
        if let Some(listener) = flight {
            services.spawn(flight::serve(Arc::clone(&shared), listener, told(stopped.clone())));
        }
        if let Some(listener) = http {
            services.spawn(http::serve(Arc::clone(&shared), listener, told(stopped.clone())));
        }
        let failed = tokio::select! {
            () = stop => None,
            Some(ended) = services.join_next() => Some(ended),
            () = tidy(&shared) => None,
        };
        // Nobody listens when every service has failed.
        let _ = stopping.send(true);
        let drained = tokio::time::timeout(shared.options.drain_max, async {
            while services.join_next().await.is_some() {}
        });
        if drained.await.is_err() {
            services.shutdown().await;
        }
        shared.logins.refusals().end();
        match failed {
            Some(Ok(result)) => result,
            Some(Err(error)) => Err(Error::new(ErrorKind::Internal, format!("a service ended: {error}"))),
            None => Ok(()),
        }
    }
}

/// Ends what clients have left behind, for ever.
async fn tidy(shared: &Shared) {
    let mut interval = tokio::time::interval(TIDY_INTERVAL);
    // Behind a while in which nothing was answered, too, there is time for calls between two looks.
    interval.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        interval.tick().await;
        shared.results.expire();
        shared.sessions.end_old();
        shared.logins.refusals().tidy();
    }
}

/// Ready when the server is told to stop.
async fn told(mut stopped: watch::Receiver<bool>) {
    // The sender is gone only when the server is.
    let _ = stopped.wait_for(|stopped| *stopped).await;
}

/// A `copy_root` that is not there would be told to clients only, with their first file.
fn check_directory(copy_root: &Path) -> Result<()> {
    let shown = copy_root.display();
    let found = std::fs::metadata(copy_root).map_err(|error| {
        cairn_storage::Error::io(format!("opening the directory for files (copy_root) {shown}"), error)
    })?;
    if found.is_dir() {
        return Ok(());
    }
    let message = format!("{shown}, which files are to be in (copy_root), is no directory");
    Err(Error::new(ErrorKind::InvalidInput, message).map(|e| e.with_sqlstate("22023")))
}

/// Addresses that others reach need somebody to check who comes.
async fn check_reach(engine: &Engine, address: SocketAddr, options: &ServerOptions) -> Result<()> {
    if address.ip().is_loopback() || options.insecure || engine.has_users().await? {
        return Ok(());
    }
    let message = format!("{address} can be reached from other machines, and nobody has to log in");
    Err(Error::new(ErrorKind::InvalidInput, message).map(|e| {
        e.with_sqlstate("28000").with_hint(
            "make a user first (CREATE USER admin SUPERUSER PASSWORD '…'), listen on 127.0.0.1, or allow everybody \
             everything with --insecure",
        )
    }))
}
