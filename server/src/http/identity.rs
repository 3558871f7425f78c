//! Whose request it is.
//!
//! Owns: reading `Authorization`, and the session a statement of that user runs in. Does not own: who may log in.

use std::net::SocketAddr;

use axum::http::{HeaderMap, header};
use cairn_engine::{Error, Session};
use cairn_storage::ErrorKind;

use crate::login::credentials;
use crate::server::Shared;

/// A session of its own for one statement of whoever sent `headers` from `remote`: with the settings of the session a token belongs
/// to, else with the defaults.
///
/// # Errors
/// 28000 for a header that cannot be read, for a token that was never given or whose session has ended, and for none when there are
/// users; 28P01 for a wrong password.
pub(super) async fn session(
    shared: &Shared,
    headers: &HeaderMap,
    remote: SocketAddr,
) -> Result<Session, Error> {
    let Some(value) = headers.get(header::AUTHORIZATION) else { return shared.logins.anonymous().await };
    let (scheme, value) = value.to_str().ok().and_then(|v| v.split_once(' ')).ok_or_else(unreadable)?;
    if scheme.eq_ignore_ascii_case("bearer") {
        return Ok(shared.session_of_token(value.trim()).await?.sql().engine().fork());
    }
    if scheme.eq_ignore_ascii_case("basic") {
        let (user, password) = credentials(value.trim())?;
        return shared.logins.session(&user, &password, remote.ip()).await;
    }
    Err(unreadable())
}

fn unreadable() -> Error {
    Error::new(ErrorKind::Unauthenticated, "the header Authorization cannot be read").map(|e| {
        e.with_sqlstate("28000").with_hint("send Basic with user and password, or Bearer with a token")
    })
}
