//! Passwords: argon2id, kept as PHC strings.
//!
//! Owns: making and checking hashes, a few at a time, away from the threads of queries. A check takes the same time whether
//! there is a hash to check against or not.

use std::fmt;
use std::sync::{Arc, OnceLock};

use argon2::Argon2;
use argon2::password_hash::{self, PasswordHash, PasswordHasher, PasswordVerifier, SaltString};
use cairn_storage::ErrorKind;
use tokio::sync::Semaphore;

use crate::error::{Error, Result};

/// Longest password, in bytes.
pub(crate) const PASSWORD_BYTES_MAX: usize = 1024;
/// Hashes computed at a time; each takes 19 MiB and a core.
const AT_ONCE_MAX: usize = 4;

/// A text that is not for showing.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct Secret(String);

impl Secret {
    pub(crate) fn new(text: String) -> Self {
        Self(text)
    }

    /// The text itself.
    pub(crate) fn reveal(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("***")
    }
}

impl fmt::Display for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("***")
    }
}

/// Hashes passwords.
#[derive(Debug)]
pub(crate) struct Passwords {
    permits: Arc<Semaphore>,
    /// What a password is checked against when there is no user.
    nobody: Arc<OnceLock<Option<String>>>,
}

impl Passwords {
    pub(crate) fn new() -> Self {
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        Self { permits: Arc::new(Semaphore::new(cores.min(AT_ONCE_MAX))), nobody: Arc::default() }
    }

    /// The PHC string of a password.
    ///
    /// # Errors
    /// `Internal` when hashing fails.
    pub(crate) async fn hash(&self, password: &Secret) -> Result<String> {
        let password = password.clone();
        self.run(move || hash(password.reveal())).await?
    }

    /// Whether `password` is the one that `phc` was made of; None: there is none.
    ///
    /// # Errors
    /// `Internal` when hashing fails.
    pub(crate) async fn verify(&self, password: &str, phc: Option<String>) -> Result<bool> {
        let too_long = password.len() > PASSWORD_BYTES_MAX;
        let password = Secret::new(if too_long { String::new() } else { password.to_owned() });
        let nobody = Arc::clone(&self.nobody);
        self.run(move || {
            let nobody = nobody.get_or_init(|| hash("nobody has this password").ok());
            let known = phc.is_some() && !too_long;
            let Some(phc) = phc.or_else(|| nobody.clone()) else { return false };
            let Ok(phc) = PasswordHash::new(&phc) else { return false };
            let same = Argon2::default().verify_password(password.reveal().as_bytes(), &phc).is_ok();
            same && known
        })
        .await
    }

    async fn run<T: Send + 'static>(&self, work: impl FnOnce() -> T + Send + 'static) -> Result<T> {
        let failed = |e: &dyn fmt::Display| Error::new(ErrorKind::Internal, format!("hashing stopped: {e}"));
        let permit = Arc::clone(&self.permits).acquire_owned().await.map_err(|e| failed(&e))?;
        tokio::task::spawn_blocking(move || {
            // Given back when the work ends, even if nobody waits for it any more.
            let _permit = permit;
            work()
        })
        .await
        .map_err(|e| failed(&e))
    }
}

fn hash(password: &str) -> Result<String> {
    let failed = |e: password_hash::Error| {
        Error::new(ErrorKind::Internal, format!("the password cannot be hashed: {e}"))
    };
    let salt = SaltString::encode_b64(uuid::Uuid::new_v4().as_bytes()).map_err(failed)?;
    let phc = Argon2::default().hash_password(password.as_bytes(), &salt).map_err(failed)?;
    Ok(phc.to_string())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[tokio::test]
    async fn only_the_password_itself_passes() {
        let passwords = Passwords::new();
        let secret = Secret::new("pâss 'w\"ord".to_owned());
        let phc = passwords.hash(&secret).await.unwrap();
        assert!(phc.starts_with("$argon2id$v=19$m=19456,t=2,p=1$"), "{phc}");
        assert_ne!(phc, passwords.hash(&secret).await.unwrap(), "each has a salt of its own");
        for (password, right) in [(secret.reveal(), true), ("pass", false), ("", false)] {
            assert_eq!(passwords.verify(password, Some(phc.clone())).await.unwrap(), right);
        }
        for password in ["nobody has this password", "", &"x".repeat(2000)] {
            assert!(!passwords.verify(password, None).await.unwrap());
            assert!(!passwords.verify(password, Some(phc.clone())).await.unwrap());
        }
        assert_eq!(format!("{secret:?} {secret}"), "*** ***");
    }
}
