//! One client's session and what it holds.

use std::collections::HashMap;
use std::ops::Deref;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use cairn_engine::{Error, Identity, Result, Session, StatementKind};
use cairn_storage::ErrorKind;

use super::prepared::PreparedStatement;
use super::sql::SqlSession;
use super::token::TokenHash;
use crate::handle::Handle;

/// Transactions one session may have open at a time; each keeps old versions of what it reads.
const TRANSACTIONS_MAX: usize = 64;

/// See the module.
#[derive(Debug)]
pub(crate) struct ClientSession {
    id: Handle,
    token: Option<TokenHash>,
    begun: Instant,
    /// Statements outside the transactions below.
    sql: Arc<SqlSession>,
    held: Mutex<Held>,
}

#[derive(Debug)]
struct Held {
    transactions: HashMap<Handle, Arc<SqlSession>>,
    prepared: HashMap<Handle, Arc<PreparedStatement>>,
    /// Requests and results that use the session now.
    uses: usize,
    last_used: Instant,
}

impl ClientSession {
    pub(super) fn new(engine: Session, token: Option<TokenHash>) -> Self {
        let held = Held {
            transactions: HashMap::new(),
            prepared: HashMap::new(),
            uses: 0,
            last_used: Instant::now(),
        };
        let (id, begun, sql) = (Handle::random(), Instant::now(), Arc::new(SqlSession::new(engine)));
        Self { id, token, begun, sql, held: Mutex::new(held) }
    }

    pub(crate) fn id(&self) -> Handle {
        self.id
    }

    pub(super) fn token(&self) -> Option<TokenHash> {
        self.token
    }

    pub(crate) fn sql(&self) -> &Arc<SqlSession> {
        &self.sql
    }

    /// Whose it is.
    pub(crate) fn identity(&self) -> &Identity {
        self.sql.engine().identity()
    }

    /// Whether it has a token that was given longer than `life_max` ago.
    pub(super) fn is_expired(&self, now: Instant, life_max: Duration) -> bool {
        self.token.is_some() && now.saturating_duration_since(self.begun) > life_max
    }

    /// Time since the last use ended.
    pub(super) fn idle_for(&self, now: Instant) -> Duration {
        let held = self.held();
        if held.uses > 0 { Duration::ZERO } else { now.saturating_duration_since(held.last_used) }
    }

    /// Where the statements of a request run: in the transaction it names, or in the session.
    ///
    /// # Errors
    /// `NotFound` (25P01) when there is no such transaction, or a statement has ended it.
    pub(crate) fn sql_of(&self, transaction: Option<&[u8]>) -> Result<Arc<SqlSession>> {
        let Some(id) = transaction.filter(|id| !id.is_empty()) else { return Ok(Arc::clone(&self.sql)) };
        let sql = Handle::read(id).and_then(|id| self.held().transactions.get(&id).cloned());
        sql.filter(|sql| sql.engine().in_transaction()).ok_or_else(no_transaction)
    }

    /// Where a prepared statement runs: in the transaction it was prepared in. When that has ended, a client that goes on
    /// with the statement means the transaction it has begun since; without one, the session.
    ///
    /// # Errors
    /// `InvalidInput` (25000) when the client has begun several.
    pub(crate) fn sql_of_prepared(&self, prepared: &PreparedStatement) -> Result<Arc<SqlSession>> {
        let Some(id) = prepared.transaction else { return Ok(Arc::clone(&self.sql)) };
        let held = self.held();
        let mut open = held.transactions.iter().filter(|(_, sql)| sql.engine().in_transaction());
        if let Some((_, sql)) = open.clone().find(|(open, _)| **open == id) {
            return Ok(Arc::clone(sql));
        }
        match (open.next(), open.next()) {
            (None, _) => Ok(Arc::clone(&self.sql)),
            (Some((_, sql)), None) => Ok(Arc::clone(sql)),
            (Some(_), Some(_)) => Err(Error::new(
                ErrorKind::InvalidInput,
                "the transaction this statement was prepared in has ended, and several others are open",
            )
            .map(|e| e.with_sqlstate("25000").with_hint("prepare the statement again, in one of them"))),
        }
    }

    /// Where metadata comes from: the open transaction, when there is just one, else the session.
    pub(crate) fn sql_of_browsing(&self) -> Arc<SqlSession> {
        let held = self.held();
        let mut open = held.transactions.values().filter(|sql| sql.engine().in_transaction());
        match (open.next(), open.next()) {
            (Some(sql), None) => Arc::clone(sql),
            _ => Arc::clone(&self.sql),
        }
    }

    /// Begins a transaction with the session's settings.
    ///
    /// # Errors
    /// `ResourceExhausted` when too many are open; as BEGIN.
    pub(crate) async fn begin(&self) -> Result<Handle> {
        let sql = SqlSession::new(self.sql.engine().fork());
        sql.begin().await?;
        // That of the session's next commit is that of this transaction.
        sql.engine().take_commit_id(self.sql.engine());
        let id = Handle::random();
        let mut held = self.held();
        held.transactions.retain(|_, sql| sql.engine().in_transaction());
        if held.transactions.len() >= TRANSACTIONS_MAX {
            return Err(Error::new(
                ErrorKind::ResourceExhausted,
                format!("the session has {TRANSACTIONS_MAX} open transactions, as many as may be"),
            )
            .map(|e| e.with_hint("commit or roll back those that are done")));
        }
        held.transactions.insert(id, Arc::new(sql));
        Ok(id)
    }

    /// Ends a transaction; its settings are the session's after a commit.
    ///
    /// # Errors
    /// `NotFound` (25P01) when there is no such transaction; `Conflict` when another commit came first. It has ended then.
    pub(crate) async fn end(&self, transaction: &[u8], commit: bool) -> Result<()> {
        let id = Handle::read(transaction).ok_or_else(no_transaction)?;
        let sql = self.held().transactions.remove(&id);
        let sql = sql.filter(|sql| sql.engine().in_transaction()).ok_or_else(no_transaction)?;
        sql.end(commit).await?;
        if commit {
            self.sql.engine().adopt_settings(sql.engine());
        }
        Ok(())
    }

    /// Keeps a prepared statement.
    ///
    /// # Errors
    /// `ResourceExhausted` when there are `prepared_max` already.
    pub(crate) fn keep_prepared(&self, prepared: PreparedStatement, prepared_max: usize) -> Result<Handle> {
        let mut held = self.held();
        if held.prepared.len() >= prepared_max {
            return Err(Error::new(
                ErrorKind::ResourceExhausted,
                format!("the session has {prepared_max} prepared statements, as many as may be"),
            )
            .map(|e| e.with_hint("close those that are done, or raise session.prepared_max")));
        }
        let id = Handle::random();
        held.prepared.insert(id, Arc::new(prepared));
        Ok(id)
    }

    /// A prepared statement.
    ///
    /// # Errors
    /// `NotFound` (26000) when there is none.
    pub(crate) fn prepared(&self, handle: &[u8]) -> Result<Arc<PreparedStatement>> {
        let found = Handle::read(handle).and_then(|id| self.held().prepared.get(&id).cloned());
        found.ok_or_else(|| {
            Error::new(ErrorKind::NotFound, "there is no such prepared statement in this session").map(|e| {
                e.with_sqlstate("26000").with_hint("it was closed, or its session ended: prepare it again")
            })
        })
    }

    /// Forgets a prepared statement; whether there was one.
    pub(crate) fn close_prepared(&self, handle: &[u8]) -> bool {
        Handle::read(handle).is_some_and(|id| self.held().prepared.remove(&id).is_some())
    }

    fn held(&self) -> MutexGuard<'_, Held> {
        // Nothing panics while holding it.
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn no_transaction() -> Error {
    Error::new(ErrorKind::NotFound, "there is no such transaction in this session")
        .map(|e| e.with_sqlstate("25P01").with_hint("it was committed or rolled back, or its session ended"))
}

/// A session in use: it does not end for being idle.
#[derive(Debug)]
pub(crate) struct Lease {
    session: Arc<ClientSession>,
    /// The id that the call gave the commit of its statement.
    commit_id: Option<Arc<str>>,
}

impl Lease {
    pub(super) fn new(session: Arc<ClientSession>) -> Self {
        session.held().uses += 1;
        Self { session, commit_id: None }
    }

    /// The same, for a call that gives the commit of its statement an id.
    pub(crate) fn with_commit_id(mut self, id: Option<&str>) -> Self {
        self.commit_id = id.map(Arc::from);
        self
    }

    /// The id that the call gave the commit of its statement.
    pub(crate) fn commit_id(&self) -> Option<&str> {
        self.commit_id.as_deref()
    }

    /// Where `statement` of the call runs, or rows it sends are written, when `sql` is where others would be: beside it where the call gave
    /// the id of the commit, which no other call of the session must get.
    ///
    /// # Errors
    /// `InvalidInput` (22023) when what it gave is no id.
    pub(crate) fn for_commit(
        &self,
        sql: Arc<SqlSession>,
        statement: Option<&str>,
    ) -> Result<Arc<SqlSession>> {
        let Some(id) = self.commit_id() else { return Ok(sql) };
        let engine = sql.engine();
        match statement.and_then(|text| engine.statement_kind(text).ok()) {
            // COMMIT takes it from the session whose transaction it ends.
            Some(StatementKind::Transaction) => {
                engine.configure("commit_id", id)?;
                Ok(sql)
            }
            Some(StatementKind::Setting) => Ok(sql),
            // Not they commit.
            _ if engine.in_transaction() => Ok(sql),
            _ => {
                let own = engine.fork();
                own.configure("commit_id", id)?;
                Ok(Arc::new(SqlSession::new(own)))
            }
        }
    }
}

impl Clone for Lease {
    fn clone(&self) -> Self {
        Self::new(Arc::clone(&self.session)).with_commit_id(self.commit_id.as_deref())
    }
}

impl Deref for Lease {
    type Target = ClientSession;

    fn deref(&self) -> &ClientSession {
        &self.session
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        let mut held = self.session.held();
        held.uses -= 1;
        held.last_used = Instant::now();
    }
}
