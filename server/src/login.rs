//! Who may have a session, and what the session may use.
//!
//! Owns: the rule that everybody is let in as long as there are no users, and nobody without a password once there are; slowing
//! down who guesses. Does not own: passwords and rights (`cairn_engine`), sessions (`session`).

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use cairn_engine::{Engine, Error, Identity, Result, Session, SessionLimits};
use cairn_storage::ErrorKind;

/// Wrong passwords of one user from one address before the next has to wait.
const FREE_FAILURES: u32 = 5;
/// The first wait; each further failure doubles it.
const WAIT_FIRST: Duration = Duration::from_secs(1);
/// The longest wait.
const WAIT_MAX: Duration = Duration::from_secs(60);
/// A user and address of whom nothing was heard for this long begin anew.
const FORGOTTEN_AFTER: Duration = Duration::from_secs(15 * 60);
/// Pairs of user and address that are remembered.
const REMEMBERED_MAX: usize = 10_000;

/// See the module.
#[derive(Debug)]
pub(crate) struct Logins {
    engine: Arc<Engine>,
    limits: SessionLimits,
    failures: Mutex<HashMap<(IpAddr, String), Failures>>,
}

#[derive(Debug)]
struct Failures {
    count: u32,
    last: Instant,
}

impl Failures {
    /// When the next try is looked at.
    fn next(&self) -> Instant {
        let over = self.count.saturating_sub(FREE_FAILURES);
        if over == 0 {
            return self.last;
        }
        self.last + WAIT_FIRST.saturating_mul(1 << (over - 1).min(16)).min(WAIT_MAX)
    }
}

impl Logins {
    pub(crate) fn new(engine: Arc<Engine>, limits: SessionLimits) -> Self {
        Self { engine, limits, failures: Mutex::default() }
    }

    /// A session for somebody who shows no password.
    ///
    /// # Errors
    /// `Unauthenticated` (28000) when there are users.
    pub(crate) async fn anonymous(&self) -> Result<Session> {
        self.check_open().await?;
        Ok(self.engine.session_as(Identity::owner(), self.limits.clone()))
    }

    /// A session for `user`; without users, whoever it is.
    ///
    /// # Errors
    /// `Unauthenticated` (28P01) for a wrong name or password; `ResourceExhausted` after too many of them.
    pub(crate) async fn session(&self, user: &str, password: &str, from: IpAddr) -> Result<Session> {
        if !self.engine.has_users().await? {
            let session = self.engine.session_as(Identity::owner(), self.limits.clone());
            session.set_user(user);
            return Ok(session);
        }
        let key = (from, user.to_owned());
        self.check_wait(&key)?;
        match self.engine.authenticate(user, password).await {
            Ok(identity) => {
                self.failures().remove(&key);
                Ok(self.engine.session_as(identity, self.limits.clone()))
            }
            Err(error) => {
                if error.kind() == ErrorKind::Unauthenticated {
                    self.failed(key);
                }
                Err(error)
            }
        }
    }

    /// That a session may still be used: one of nobody ends when the first user is made.
    ///
    /// # Errors
    /// `Unauthenticated` (28000).
    pub(crate) async fn check(&self, session: &Session) -> Result<()> {
        if session.identity().is_owner() { self.check_open().await } else { Ok(()) }
    }

    /// That nobody has to log in.
    ///
    /// # Errors
    /// `Unauthenticated` (28000) when there are users.
    pub(crate) async fn check_open(&self) -> Result<()> {
        if self.engine.has_users().await? {
            return Err(Error::new(ErrorKind::Unauthenticated, "a user name and password are needed").map(
                |e| e.with_sqlstate("28000").with_hint("give them when connecting; CREATE USER makes users"),
            ));
        }
        Ok(())
    }

    fn check_wait(&self, key: &(IpAddr, String)) -> Result<()> {
        let now = Instant::now();
        let wait = self.failures().get(key).map(|failures| failures.next().saturating_duration_since(now));
        match wait.filter(|wait| !wait.is_zero()) {
            Some(wait) => Err(Error::new(ErrorKind::ResourceExhausted, "too many wrong passwords")
                .map(|e| e.with_sqlstate("53300").with_hint(format!("wait {} s", wait.as_secs() + 1)))),
            None => Ok(()),
        }
    }

    fn failed(&self, key: (IpAddr, String)) {
        let now = Instant::now();
        let mut failures = self.failures();
        failures.retain(|_, failures| now.saturating_duration_since(failures.last) < FORGOTTEN_AFTER);
        if failures.len() >= REMEMBERED_MAX && !failures.contains_key(&key) {
            // Whoever has many addresses is not slowed by this; argon2 is what they pay.
            return;
        }
        let failures = failures.entry(key).or_insert(Failures { count: 0, last: now });
        failures.count += 1;
        failures.last = now;
    }

    fn failures(&self) -> MutexGuard<'_, HashMap<(IpAddr, String), Failures>> {
        // Nothing panics while holding it.
        self.failures.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_double_and_end() {
        let last = Instant::now();
        let wait = |count| Failures { count, last }.next().duration_since(last).as_secs();
        assert_eq!([1, 5, 6, 7, 8, 100].map(wait), [0, 0, 1, 2, 4, 60]);
    }
}
