//! Signals: Ctrl-C stops a statement, SIGTERM and SIGHUP end the process in order.

use std::io;
use std::process;

use futures::FutureExt;
use tokio::signal::unix::{Signal, SignalKind, signal};

use crate::connection::Connection;

/// Exit code of a process ended by Ctrl-C.
pub(crate) const EXIT_INTERRUPTED: u8 = 130;
/// Exit code of a process ended by SIGTERM.
const EXIT_TERMINATED: i32 = 143;

/// Ctrl-C, heard from when this was made.
pub(crate) struct Interrupts(Signal);

impl Interrupts {
    /// Begins to listen. Must be called inside the runtime.
    ///
    /// # Errors
    /// When the system refuses the handler.
    pub(crate) fn listen() -> io::Result<Self> {
        signal(SignalKind::interrupt()).map(Self)
    }

    /// Forgets what was heard so far: it was meant for a program that the shell waited for.
    pub(crate) fn forget(&mut self) {
        while self.0.recv().now_or_never().flatten().is_some() {}
    }

    /// Waits for Ctrl-C.
    pub(crate) async fn next(&mut self) {
        if self.0.recv().await.is_none() {
            std::future::pending().await
        }
    }
}

/// From now on SIGTERM and SIGHUP close the database and end the process. Must be called inside the runtime.
///
/// # Errors
/// When the system refuses the handlers.
pub(crate) fn close_on_terminate(connection: &Connection) -> io::Result<()> {
    let (mut terminate, mut hangup) = (signal(SignalKind::terminate())?, signal(SignalKind::hangup())?);
    let connection = connection.clone();
    tokio::spawn(async move {
        tokio::select! {
            _ = terminate.recv() => {}
            _ = hangup.recv() => {}
        }
        connection.close_in_a_hurry().await;
        process::exit(EXIT_TERMINATED);
    });
    Ok(())
}
