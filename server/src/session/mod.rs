//! Sessions of clients: settings, transactions and prepared statements, from a client's first request to its last.
//!
//! Owns: which session a request belongs to, how sessions end, what they hold. Does not own: what runs in them
//! (`cairn_engine::Session`), results on their way to the client (`flight::results`).
//!
//! A session that its client names, by token or cookie, ends when the client closes it, or after `session_idle_max`; one with a
//! token after `token_life_max` at the latest. One that nobody named belongs to its connection and ends with it. One whose user is gone
//! or has another password ends with its next call, or that user's next login. Ending rolls back what is open.

mod client;
mod prepared;
mod sql;
mod token;

pub(crate) use client::{ClientSession, Lease};
pub(crate) use prepared::PreparedStatement;
pub(crate) use sql::SqlSession;
pub(crate) use token::Token;

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use cairn_engine::{Error, Identity, Result, Session};
use cairn_storage::ErrorKind;

use crate::handle::Handle;
use crate::listen::{ConnectionId, ConnectionInfo};
use crate::options::ServerOptions;
use token::TokenHash;

/// The sessions of a server.
#[derive(Debug)]
pub(crate) struct Sessions {
    sessions_max: usize,
    sessions_per_user_max: usize,
    idle_max: Duration,
    token_life_max: Duration,
    known: Mutex<Known>,
}

#[derive(Debug, Default)]
struct Known {
    sessions: HashMap<Handle, Arc<ClientSession>>,
    tokens: HashMap<TokenHash, Handle>,
    connections: HashMap<ConnectionId, Handle>,
}

impl Known {
    fn of_connection(&self, connection: ConnectionId, identity: &Identity) -> Option<Lease> {
        let session = self.connections.get(&connection).and_then(|id| self.sessions.get(id))?;
        (session.identity() == identity).then(|| Lease::new(Arc::clone(session)))
    }

    fn remove(&mut self, id: Handle) -> Option<Arc<ClientSession>> {
        let session = self.sessions.remove(&id)?;
        if let Some(token) = session.token() {
            self.tokens.remove(&token);
        }
        self.connections.retain(|_, of| *of != id);
        Some(session)
    }
}

impl Sessions {
    pub(crate) fn new(options: &ServerOptions) -> Self {
        Self {
            sessions_max: options.sessions_max,
            sessions_per_user_max: options.sessions_per_user_max.unwrap_or(options.sessions_max.div_ceil(2)),
            idle_max: options.session_idle_max,
            token_life_max: options.token_life_max,
            known: Mutex::default(),
        }
    }

    /// Keeps `session` for whoever shows the token.
    ///
    /// # Errors
    /// `ResourceExhausted` when there are too many sessions.
    pub(crate) fn log_in(&self, session: Session) -> Result<Token> {
        let token = Token::random();
        let session = Arc::new(ClientSession::new(session, Some(token.hash())));
        // Dropped after the lock: open transactions are rolled back then.
        let mut gone = Vec::new();
        let mut known = self.known();
        self.admit(&mut known, &session, &mut gone)?;
        known.tokens.insert(token.hash(), session.id());
        Ok(token)
    }

    /// The session of a token; None for one that was never given, has expired, or whose session has ended.
    pub(crate) fn of_token(&self, token: &str) -> Option<Lease> {
        let known = self.known();
        let id = known.tokens.get(&Token::hash_of(token))?;
        let session = known.sessions.get(id)?;
        // Whether or not it was tidied away by now.
        let is_good = !session.is_expired(Instant::now(), self.token_life_max);
        is_good.then(|| Lease::new(Arc::clone(session)))
    }

    /// The session that a cookie names, which from now on outlives its connection.
    pub(crate) fn of_cookie(&self, id: Handle) -> Option<Lease> {
        let mut known = self.known();
        let session = known.sessions.get(&id).filter(|session| session.token().is_none()).cloned()?;
        known.connections.retain(|_, of| *of != id);
        Some(Lease::new(session))
    }

    /// The session of a connection, when `identity` has one there.
    pub(crate) fn of_connection(&self, connection: &ConnectionInfo, identity: &Identity) -> Option<Lease> {
        self.known().of_connection(connection.id, identity)
    }

    /// Keeps `session` for a connection, in place of another identity's; when another call was first, that call's session.
    ///
    /// # Errors
    /// `ResourceExhausted` when there are too many sessions.
    pub(crate) fn keep_for(self: &Arc<Self>, connection: &ConnectionInfo, session: Session) -> Result<Lease> {
        // Dropped after the lock: open transactions are rolled back then.
        let mut gone = Vec::new();
        let mut known = self.known();
        if let Some(found) = known.of_connection(connection.id, session.identity()) {
            return Ok(found);
        }
        let session = Arc::new(ClientSession::new(session, None));
        self.admit(&mut known, &session, &mut gone)?;
        if let Some(other) = known.connections.insert(connection.id, session.id()) {
            gone.extend(known.remove(other));
            return Ok(Lease::new(session));
        }
        drop(known);
        let (sessions, id, ended) = (Arc::downgrade(self), connection.id, connection.clone().ended());
        tokio::spawn(async move {
            ended.await;
            if let Some(sessions) = sessions.upgrade() {
                sessions.connection_ended(id);
            }
        });
        Ok(Lease::new(session))
    }

    /// Ends a session; what still runs in it goes on to its end.
    pub(crate) fn close(&self, id: Handle) {
        let session = self.known().remove(id);
        // Outside the lock: open transactions are rolled back here.
        drop(session);
    }

    /// Ends the sessions nobody used for too long, and those whose tokens have expired.
    pub(crate) fn end_old(&self) {
        let now = Instant::now();
        let ended: Vec<_> = {
            let mut known = self.known();
            let is_old = |session: &ClientSession| {
                session.idle_for(now) > self.idle_max || session.is_expired(now, self.token_life_max)
            };
            let old = known.sessions.values().filter(|session| is_old(session));
            let old: Vec<Handle> = old.map(|session| session.id()).collect();
            old.into_iter().filter_map(|id| known.remove(id)).collect()
        };
        drop(ended);
    }

    /// Sessions there are.
    pub(crate) fn count(&self) -> usize {
        self.known().sessions.len()
    }

    fn connection_ended(&self, connection: ConnectionId) {
        let mut known = self.known();
        let session = known.connections.remove(&connection).and_then(|id| known.remove(id));
        drop(known);
        drop(session);
    }

    /// Takes `session` in. Whoever has just logged in did so by the password of now: their sessions by another one are `ended`.
    fn admit(
        &self,
        known: &mut Known,
        session: &Arc<ClientSession>,
        ended: &mut Vec<Arc<ClientSession>>,
    ) -> Result<()> {
        let identity = session.identity();
        let outdated = known
            .sessions
            .values()
            .filter(|s| s.identity().name() == identity.name() && s.identity() != identity);
        let outdated: Vec<Handle> = outdated.map(|session| session.id()).collect();
        ended.extend(outdated.into_iter().filter_map(|id| known.remove(id)));
        if known.sessions.len() >= self.sessions_max {
            let message = format!("there are {} sessions already, as many as may be", known.sessions.len());
            return Err(full(message, "close sessions that are not used, or raise session.max"));
        }
        let own = known.sessions.values().filter(|session| session.identity() == identity).count();
        // Without users nobody can be kept from taking the places of others.
        if !identity.is_owner() && own >= self.sessions_per_user_max {
            let message = format!("user {} has {own} sessions already, as many as may be", identity.name());
            return Err(full(message, "close sessions that are not used, or raise session.max_per_user"));
        }
        known.sessions.insert(session.id(), Arc::clone(session));
        Ok(())
    }

    fn known(&self) -> MutexGuard<'_, Known> {
        // Nothing panics while holding it.
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn full(message: String, hint: &'static str) -> Error {
    Error::new(ErrorKind::ResourceExhausted, message).map(|e| e.with_sqlstate("53300").with_hint(hint))
}
