//! Cairn as a server: Flight SQL and HTTP over one `cairn_engine::Engine`.
//!
//! # Life of a request
//! 1. `listen` accepts a connection, with TLS where asked, and gives it an id.
//! 2. `flight` or `http` finds out what is asked for and in which session.
//! 3. `cairn_engine::Session` runs the statement, on threads of its own; its rows are pulled as fast as the client takes them.
//!
//! The only crate that knows gRPC and HTTP.

mod audit;
mod flight;
mod handle;
mod http;
mod listen;
mod login;
mod metrics;
mod notes;
mod refusals;
mod session;

pub mod config;
#[doc(hidden)]
pub mod fuzzing;
pub mod options;
pub mod server;

pub use config::Config;
pub use flight::{
    JobProgress, Outcome, PROGRESS_ACTION, ProgressReport, StatementFailure, TRANSACTION_HEADER,
};
pub use options::{ServerOptions, TlsOptions};
pub use server::Server;
