//! Who calls, and in which session.
//!
//! A call belongs to the session of its bearer token, else to that of its cookie, else to that of its connection. Owns: reading
//! those from the head of a call, before any of its messages is read; Handshake. Does not own: sessions (`session`).

use std::sync::Arc;

use arrow_flight::HandshakeResponse;
use axum::http::HeaderMap;
use cairn_engine::{Error, Identity, Result, Session};
use cairn_storage::ErrorKind;
use futures::StreamExt;
use futures::stream::BoxStream;
use tonic::metadata::{MetadataMap, MetadataValue};
use tonic::{Extensions, Response, Status};

use super::status;
use crate::handle::Handle;
use crate::listen::ConnectionInfo;
use crate::login::credentials;
use crate::server::Shared;
use crate::session::Lease;

/// Metadata of every answer: `open` when the session's own transaction (BEGIN as a statement) is open after it, else `none`.
pub const TRANSACTION_HEADER: &str = "cairn-transaction";

/// Metadata of a call: the id of the commit that its statement makes. One that is called again changes nothing again.
const COMMIT_ID_HEADER: &str = "x-cairn-commit-id";

const COOKIE: &str = "arrow_flight_session_id";
/// The one call that has no session yet: it makes one, of what stands in its head. Its messages are not read.
const HANDSHAKE: &str = "/Handshake";

/// A call's session.
#[derive(Clone)]
pub(super) struct Caller {
    pub(super) session: Lease,
    /// The cookie that would name the session to a client that keeps cookies.
    cookie: Option<MetadataValue<tonic::metadata::Ascii>>,
}

impl Caller {
    /// The answer of the call.
    pub(super) fn answer<T>(&self, answer: Result<T>) -> std::result::Result<Response<T>, Status> {
        let open = if self.session.sql().engine().in_transaction() { "open" } else { "none" };
        let open = MetadataValue::from_static(open);
        let mut response = match answer {
            Ok(answer) => Response::new(answer),
            Err(error) => {
                let mut status = status::of(&error);
                status.metadata_mut().insert(TRANSACTION_HEADER, open);
                return Err(status);
            }
        };
        response.metadata_mut().insert(TRANSACTION_HEADER, open);
        if let Some(cookie) = &self.cookie {
            response.metadata_mut().insert("set-cookie", cookie.clone());
        }
        Ok(response)
    }
}

/// Finds the caller's session by what stands in the head of a call; None: the call has none yet.
///
/// # Errors
/// 28000 for a token that is not valid any more, and for none when there are users; 28P01 for a wrong password;
/// `ResourceExhausted` for one session too many, or too many logins.
pub(super) async fn caller(
    shared: &Shared,
    path: &str,
    headers: &HeaderMap,
    extensions: &Extensions,
) -> Result<Option<Caller>> {
    if path.ends_with(HANDSHAKE) {
        return Ok(None);
    }
    let metadata = MetadataMap::from_headers(headers.clone());
    let commit_id = commit_id(&metadata)?;
    let Caller { session, cookie } = known_caller(shared, &metadata, extensions).await?;
    Ok(Some(Caller { session: session.with_commit_id(commit_id), cookie }))
}

async fn known_caller(shared: &Shared, metadata: &MetadataMap, extensions: &Extensions) -> Result<Caller> {
    if let Some(token) = authorization(metadata, "Bearer") {
        let session = shared.session_of_token(token).await?;
        return Ok(Caller { session, cookie: None });
    }
    let connection = connection(extensions)?;
    if let Some(basic) = authorization(metadata, "Basic") {
        let (user, password) = credentials(basic)?;
        let own = shared.logins.session(&user, &password, connection.remote.ip()).await?;
        let session = session_of(shared, connection, own)?;
        return Ok(Caller { session, cookie: None });
    }
    shared.logins.check_open().await?;
    if let Some(session) = cookie(metadata).and_then(|id| shared.sessions.of_cookie(id)) {
        return Ok(Caller { session, cookie: None });
    }
    let session = match shared.sessions.of_connection(connection, &Identity::owner()) {
        Some(session) => session,
        None => session_of(shared, connection, shared.logins.anonymous().await?)?,
    };
    let cookie = format!("{COOKIE}={}; Path=/; HttpOnly", session.id().text());
    Ok(Caller { session, cookie: cookie.parse().ok() })
}

/// The id that a call gives the commit of its statement.
///
/// # Errors
/// `InvalidInput` (08P01) when it is no text.
fn commit_id(metadata: &MetadataMap) -> Result<Option<&str>> {
    let Some(id) = metadata.get(COMMIT_ID_HEADER) else { return Ok(None) };
    let text = id.to_str();
    text.map(Some).map_err(|_| status::wrong_request(format!("the header {COMMIT_ID_HEADER} cannot be read")))
}

/// The session that the identity of `own` has on the connection; `own` when there is none.
fn session_of(shared: &Shared, connection: &ConnectionInfo, own: Session) -> Result<Lease> {
    if let Some(session) = shared.sessions.of_connection(connection, own.identity()) {
        return Ok(session);
    }
    own.set_client(&connection.remote.to_string());
    shared.sessions.keep_for(connection, own)
}

/// The connection of a call.
fn connection(extensions: &Extensions) -> Result<&ConnectionInfo> {
    let connection = extensions.get::<Arc<ConnectionInfo>>().map(Arc::as_ref);
    connection.ok_or_else(|| Error::new(ErrorKind::Internal, "the call has no connection"))
}

/// Logs a client in: its name and password for a token, told in the header `authorization` and as payload.
///
/// # Errors
/// 28P01 for a wrong name or password; `ResourceExhausted` for one session too many, or too many wrong passwords.
pub(super) async fn handshake(
    shared: &Shared,
    metadata: &MetadataMap,
    extensions: &Extensions,
) -> Result<Response<BoxStream<'static, std::result::Result<HandshakeResponse, Status>>>> {
    let session = match authorization(metadata, "Basic") {
        Some(basic) => {
            let (user, password) = credentials(basic)?;
            shared.logins.session(&user, &password, connection(extensions)?.remote.ip()).await?
        }
        None => shared.logins.anonymous().await?,
    };
    session.set_client(&connection(extensions)?.remote.to_string());
    let token = shared.sessions.log_in(session)?;
    let answer = HandshakeResponse { protocol_version: 0, payload: token.text().as_bytes().to_vec().into() };
    let mut response = Response::new(futures::stream::iter([Ok(answer)]).boxed());
    if let Ok(header) = format!("Bearer {}", token.text()).parse() {
        response.metadata_mut().insert("authorization", header);
    }
    Ok(response)
}

/// What stands behind `scheme` in the header `authorization`.
fn authorization<'a>(metadata: &'a MetadataMap, scheme: &str) -> Option<&'a str> {
    let value = metadata.get("authorization")?.to_str().ok()?;
    let (given, rest) = value.split_once(' ')?;
    given.eq_ignore_ascii_case(scheme).then(|| rest.trim())
}

fn cookie(metadata: &MetadataMap) -> Option<Handle> {
    let headers = metadata.get_all("cookie");
    let mut cookies =
        headers.iter().filter_map(|header| header.to_str().ok()).flat_map(|header| header.split(';'));
    cookies.find_map(|cookie| {
        let (name, value) = cookie.trim().split_once('=')?;
        if name == COOKIE { Handle::read_text(value.trim_matches('"')) } else { None }
    })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn headers_are_read() {
        let id = Handle::random();
        let mut metadata = MetadataMap::new();
        metadata.insert("authorization", "basic YW5uYTpvcGVuOnNlc2FtZQ==".parse().unwrap());
        metadata.insert("cookie", format!("a=b; {COOKIE}={}", id.text()).parse().unwrap());
        assert_eq!(
            credentials(authorization(&metadata, "Basic").unwrap()).unwrap(),
            ("anna".to_owned(), "open:sesame".to_owned())
        );
        assert_eq!(authorization(&metadata, "Bearer"), None);
        assert_eq!(cookie(&metadata), Some(id));
        metadata.insert("cookie", "arrow_flight_session_id=nonsense".parse().unwrap());
        assert_eq!(cookie(&metadata), None);
    }
}
