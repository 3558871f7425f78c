//! A safety rule as a type: after a failed sync or a half-done write nothing more is written (D1).
//!
//! Owns: remembering the first failure and turning every later call away. Does not own: deciding
//! what is final; the writers of the log and of the local store do.

use crate::error::{Error, ErrorKind, Result};

/// Healthy until [`Poison::set`]; from then on every [`Poison::check`] fails.
#[derive(Debug, Default)]
pub(crate) struct Poison(Option<Error>);

impl Poison {
    /// Fails when something final has happened before.
    pub(crate) fn check(&self) -> Result<()> {
        match &self.0 {
            None => Ok(()),
            Some(first) => Err(Error::new(
                ErrorKind::ReadOnly,
                format!("writing stopped after an earlier failure: {first}"),
            )
            .with_source(first.clone())
            .with_hint("reopen the database to go on; nothing acknowledged is lost")),
        }
    }

    /// Remembers the first failure and hands it back.
    pub(crate) fn set(&mut self, error: Error) -> Error {
        self.0.get_or_insert_with(|| error.clone());
        error
    }
}
