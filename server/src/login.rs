//! Who may have a session, and what the session may use.
//!
//! Owns: the rule that everybody is let in as long as there are no users, and nobody without a password once there are; slowing
//! down who guesses. Does not own: passwords and rights (`cairn_engine`), sessions (`session`).

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use base64::Engine as _;
use base64::alphabet;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};
use cairn_engine::{Engine, Error, Identity, Result, Session, SessionLimits};
use cairn_storage::ErrorKind;
use tokio::sync::Semaphore;

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

/// Bytes of a user's name that are told apart; no user has a longer one.
const NAME_BYTES_MAX: usize = 128;

/// Some clients (those in Go) leave the padding out.
const BASE64: GeneralPurpose = GeneralPurpose::new(
    &alphabet::STANDARD,
    GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent),
);

/// Name and password of the scheme Basic (RFC 7617).
///
/// # Errors
/// `Unauthenticated` (28000) when it can't be read.
pub(crate) fn credentials(basic: &str) -> Result<(String, String)> {
    let text = BASE64.decode(basic).ok().and_then(|text| String::from_utf8(text).ok());
    let pair = text.as_deref().and_then(|text| text.split_once(':'));
    let (user, password) = pair.ok_or_else(|| {
        Error::new(ErrorKind::Unauthenticated, "user and password of the header Authorization cannot be read")
            .map(|e| e.with_sqlstate("28000").with_hint("send base64 of user:password in UTF-8"))
    })?;
    Ok((user.to_owned(), password.to_owned()))
}

/// See the module.
#[derive(Debug)]
pub(crate) struct Logins {
    engine: Arc<Engine>,
    limits: SessionLimits,
    /// Whether others reach the server who must not be let in when there are no users any more.
    closed: bool,
    failures: Mutex<HashMap<(IpAddr, String), Failures>>,
}

#[derive(Debug)]
struct Failures {
    count: u32,
    last: Instant,
    /// As many tries at one time as may fail without a wait: a pool of connections logs in at once.
    turns: Arc<Semaphore>,
}

impl Failures {
    fn none(last: Instant) -> Self {
        Self { count: 0, last, turns: Arc::new(Semaphore::new(FREE_FAILURES as usize)) }
    }

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
    /// `closed`: nobody is let in without a password, users or not.
    pub(crate) fn new(engine: Arc<Engine>, limits: SessionLimits, closed: bool) -> Self {
        Self { engine, limits, closed, failures: Mutex::default() }
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
            self.check_open().await?;
            let session = self.engine.session_as(Identity::owner(), self.limits.clone());
            session.set_user(user);
            return Ok(session);
        }
        let name = user.get(..user.floor_char_boundary(NAME_BYTES_MAX)).unwrap_or_default();
        let key = (from, name.to_owned());
        let turns = self.turns(&key);
        // Nobody closes it. Who tries many at once finds the failures of the first ones when the turn comes.
        let _turn = turns.acquire().await;
        self.check_wait(&key)?;
        let identity = self.engine.authenticate(user, password).await;
        match &identity {
            Ok(_) => self.known(&key, |failures| failures.count = 0),
            Err(error) if error.kind() == ErrorKind::Unauthenticated => self.known(&key, |failures| {
                failures.count += 1;
                failures.last = Instant::now();
            }),
            Err(_) => {}
        }
        Ok(self.engine.session_as(identity?, self.limits.clone()))
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
        if self.closed || self.engine.has_users().await? {
            return Err(Error::new(ErrorKind::Unauthenticated, "a user name and password are needed").map(
                |e| e.with_sqlstate("28000").with_hint("give them when connecting; CREATE USER makes users"),
            ));
        }
        Ok(())
    }

    /// Where the tries of a user from an address wait for each other.
    fn turns(&self, key: &(IpAddr, String)) -> Arc<Semaphore> {
        self.known(key, |failures| Arc::clone(&failures.turns))
    }

    fn check_wait(&self, key: &(IpAddr, String)) -> Result<()> {
        let wait = self.known(key, |failures| failures.next().saturating_duration_since(Instant::now()));
        if wait.is_zero() {
            return Ok(());
        }
        Err(Error::new(ErrorKind::ResourceExhausted, "too many wrong passwords")
            .map(|e| e.with_sqlstate("53300").with_hint(format!("wait {} s", wait.as_secs() + 1))))
    }

    /// Does `with` what is remembered of a user and address. Beyond [`REMEMBERED_MAX`] the oldest is forgotten: to be forgotten, who
    /// guesses has to try as many other names first.
    fn known<T>(&self, key: &(IpAddr, String), with: impl FnOnce(&mut Failures) -> T) -> T {
        let now = Instant::now();
        let mut failures = self.failures();
        if !failures.contains_key(key) {
            failures.retain(|_, failures| now.saturating_duration_since(failures.last) < FORGOTTEN_AFTER);
            if failures.len() >= REMEMBERED_MAX {
                let oldest =
                    failures.iter().min_by_key(|(_, failures)| failures.last).map(|(key, _)| key.clone());
                oldest.and_then(|oldest| failures.remove(&oldest));
            }
        }
        with(failures.entry(key.clone()).or_insert_with(|| Failures::none(now)))
    }

    fn failures(&self) -> MutexGuard<'_, HashMap<(IpAddr, String), Failures>> {
        // Nothing panics while holding it.
        self.failures.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn credentials_are_read_with_padding_and_without() {
        for basic in ["ZXZlOmV2ZQ==", "ZXZlOmV2ZQ"] {
            assert_eq!(credentials(basic).unwrap(), ("eve".to_owned(), "eve".to_owned()));
        }
        for basic in ["", "ZXZl", "!"] {
            assert_eq!(credentials(basic).unwrap_err().sqlstate(), "28000", "{basic}");
        }
    }

    #[test]
    fn waits_double_and_end() {
        let last = Instant::now();
        let wait = |count| Failures { count, ..Failures::none(last) }.next().duration_since(last).as_secs();
        assert_eq!([1, 5, 6, 7, 8, 100].map(wait), [0, 0, 1, 2, 4, 60]);
    }
}
