//! HTTP: statements without a session, what a supervisor asks, metrics.
//!
//! Owns: routes, request bodies, answers and their forms, status codes. Does not own: what a statement means
//! (`cairn_engine::Session`), how values are spelled (`cairn_engine::text`), figures (`metrics`).
//!
//! # Life of a request
//! 1. `serve` reads its head; `trace` gives it an id and counts its answer.
//! 2. `request` reads the body, `params` its parameters; `identity` says whose it is.
//! 3. Each statement runs in a session of its own (`sql`). Its first rows are waited for, so that an error in them has a status.
//! 4. `answer` writes rows as the client takes them; a client that goes away cancels the statement.

mod answer;
mod document;
mod error;
mod format;
mod gate;
mod health;
mod identity;
mod params;
mod request;
mod routes;
mod serve;
mod sql;
mod trace;

pub use request::is_request;
pub(crate) use routes::{METHODS, ROUTES};
pub(crate) use serve::serve;
