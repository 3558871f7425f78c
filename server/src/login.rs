//! Who may have a session, and what the session may use.
//!
//! Owns: the rule that everybody is let in as long as there are no users, and nobody without a password once there are; slowing
//! down who guesses, and how many may try at one time. Does not own: passwords and rights (`cairn_engine`), sessions (`session`), what
//! is told of those who failed (`refusals`).

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

use crate::refusals::Refusals;

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

/// Tries from one address that wait or are looked at; more are refused.
const TRIES_OF_ADDRESS_MAX: usize = 256;
/// The same of all together.
const TRIES_MAX: usize = 1_024;

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
    trying: Mutex<Trying>,
    refusals: Refusals,
}

#[derive(Debug)]
struct Failures {
    count: u32,
    last: Instant,
    /// As many are looked at at one time as may fail without a wait: a pool of connections logs in at once.
    turns: Arc<Semaphore>,
}

/// How many tries wait or are looked at.
#[derive(Debug, Default)]
struct Trying {
    all: usize,
    of: HashMap<IpAddr, usize>,
}

/// One of them.
struct Try<'a> {
    logins: &'a Logins,
    from: IpAddr,
}

impl Drop for Try<'_> {
    fn drop(&mut self) {
        let mut trying = self.logins.trying();
        trying.all -= 1;
        if let Some(of) = trying.of.get_mut(&self.from) {
            *of -= 1;
            if *of == 0 {
                trying.of.remove(&self.from);
            }
        }
    }
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
    pub(crate) fn new(engine: Arc<Engine>, limits: SessionLimits, closed: bool, refusals: Refusals) -> Self {
        let (failures, trying) = (Mutex::default(), Mutex::default());
        Self { engine, limits, closed, failures, trying, refusals }
    }

    /// Those who were not let in.
    pub(crate) fn refusals(&self) -> &Refusals {
        &self.refusals
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
    /// `Unauthenticated` (28P01) for a wrong name or password; `ResourceExhausted` after too many of them, or when too many try.
    pub(crate) async fn session(&self, user: &str, password: &str, from: IpAddr) -> Result<Session> {
        let session = self.log_in(user, password, from).await;
        if let Err(error) = &session
            && matches!(error.kind(), ErrorKind::Unauthenticated | ErrorKind::ResourceExhausted)
        {
            self.refusals.add(told_apart(user), from, error);
        }
        session
    }

    async fn log_in(&self, user: &str, password: &str, from: IpAddr) -> Result<Session> {
        if !self.engine.has_users().await? {
            self.check_open().await?;
            let session = self.engine.session_as(Identity::owner(), self.limits.clone());
            session.set_user(user);
            return Ok(session);
        }
        let _try = self.begin(from)?;
        let key = (from, told_apart(user).to_owned());
        let turns = self.known(&key, |failures| Arc::clone(&failures.turns));
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
        let identity = identity?;
        // The password may have been changed while it was looked at.
        self.engine.check_login(&identity).await?;
        Ok(self.engine.session_as(identity, self.limits.clone()))
    }

    /// That a session of `identity` may still be used: one of nobody ends when the first user is made, one of a user when they are gone
    /// or have another password.
    ///
    /// # Errors
    /// `Unauthenticated` (28000).
    pub(crate) async fn check(&self, identity: &Identity) -> Result<()> {
        if identity.is_owner() { self.check_open().await } else { self.engine.check_login(identity).await }
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

    /// A try that waits and is looked at: those of a flood keep neither memory nor others waiting without end, and one address
    /// leaves places for others.
    fn begin(&self, from: IpAddr) -> Result<Try<'_>> {
        let mut trying = self.trying();
        let of = trying.of.get(&from).copied().unwrap_or_default();
        if of >= TRIES_OF_ADDRESS_MAX || trying.all >= TRIES_MAX {
            return Err(too_many_tries());
        }
        trying.of.insert(from, of + 1);
        trying.all += 1;
        Ok(Try { logins: self, from })
    }

    fn trying(&self) -> MutexGuard<'_, Trying> {
        // Nothing panics while holding it.
        self.trying.lock().unwrap_or_else(PoisonError::into_inner)
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

/// What of a user's name is told apart.
fn told_apart(user: &str) -> &str {
    user.get(..user.floor_char_boundary(NAME_BYTES_MAX)).unwrap_or_default()
}

fn too_many_tries() -> Error {
    Error::new(ErrorKind::ResourceExhausted, "too many logins at one time").map(|e| {
        e.with_sqlstate("53300").with_hint("try again in a moment; a token takes the place of a login")
    })
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use cairn_engine::{EngineOptions, Root};

    use super::*;
    use crate::audit::StatementFiles;
    use crate::options::ServerOptions;

    #[tokio::test]
    async fn logins_that_wait_are_limited() {
        let engine = Engine::open(Root::Memory, EngineOptions::default()).await.unwrap();
        engine.session().execute("CREATE USER anna PASSWORD 'right'", None).await.unwrap();
        let log = Arc::new(StatementFiles::open(&ServerOptions::default()).unwrap());
        let logins = Logins::new(engine, SessionLimits::default(), false, Refusals::new(log));
        let address = |last| IpAddr::from([127, 0, 0, last]);
        let refused = async |from| {
            let login = logins.session("anna", "right", from).await;
            login.err().map(|error| (error.kind(), error.sqlstate()))
        };
        let too_many = Some((ErrorKind::ResourceExhausted, "53300"));
        let of = |last| (0..TRIES_OF_ADDRESS_MAX).map(move |_| address(last));
        let mut held: Vec<Try<'_>> = of(1).map(|from| logins.begin(from).unwrap()).collect();
        assert_eq!(refused(address(1)).await, too_many);
        assert_eq!(refused(address(2)).await, None, "others have places");
        held.extend((2..=4).flat_map(of).map(|from| logins.begin(from).unwrap()));
        assert_eq!(held.len(), TRIES_MAX);
        assert_eq!(refused(address(5)).await, too_many);
        drop(held);
        assert_eq!(refused(address(1)).await, None);
        let trying = logins.trying();
        assert_eq!((trying.all, trying.of.len()), (0, 0), "places are given back");
    }

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
