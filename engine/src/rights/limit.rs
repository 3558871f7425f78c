//! Limits that one user was given, in place of those of the server.
//!
//! Owns: which there are, their units and how their values are written. Does not own: keeping them (`tables`), applying them
//! (`session::limits`, `queue`).

use std::time::Duration;

use cairn_storage::ErrorKind;

use crate::config::{parse_bytes, parse_duration};
use crate::error::{Error, Result};

/// One limit of a user.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum UserLimit {
    /// Longest time of a statement, in milliseconds.
    StatementTimeout,
    /// Memory of the queries of all its sessions together, in bytes.
    Memory,
    /// Most rows of one result.
    Rows,
    /// Statements at one time.
    Concurrency,
}

impl UserLimit {
    /// All of them, in order.
    pub(crate) const ALL: [Self; 4] = [Self::StatementTimeout, Self::Memory, Self::Rows, Self::Concurrency];

    /// Its name in CREATE USER.
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::StatementTimeout => "statement_timeout",
            Self::Memory => "memory_limit",
            Self::Rows => "rows_limit",
            Self::Concurrency => "concurrency",
        }
    }

    /// The one of that name.
    pub(crate) fn of_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|limit| limit.name() == name)
    }

    /// A value as it is written; 0 is none.
    ///
    /// # Errors
    /// 22023 for text that is no such value. It is not shown: it may be a password in the wrong place.
    pub(crate) fn parse(self, text: &str) -> Result<u64> {
        let (value, expected) = match self {
            Self::StatementTimeout => {
                let time = parse_duration(text, Duration::from_millis(1)).ok();
                let millis = time.and_then(|time| u64::try_from(time.as_millis()).ok().map(|ms| (time, ms)));
                // What is shorter than its unit is no "none".
                (millis.map(|(time, ms)| if time.is_zero() { 0 } else { ms.max(1) }), "a time such as '30 s'")
            }
            Self::Memory => (parse_bytes(text).ok(), "a size such as '1 GiB'"),
            Self::Rows | Self::Concurrency => (text.trim().parse().ok(), "a whole number"),
        };
        value.ok_or_else(|| {
            let message = format!("{} of a user must be {expected}; 0 is no limit", self.name());
            Error::new(ErrorKind::InvalidInput, message).map(|e| e.with_sqlstate("22023"))
        })
    }
}

/// The limits of one user.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct UserLimits([Option<u64>; UserLimit::ALL.len()]);

impl UserLimits {
    /// None: the user has none of its own.
    pub(crate) fn of(&self, limit: UserLimit) -> Option<u64> {
        self.0[limit as usize]
    }

    /// Sets one; 0 takes it away.
    pub(crate) fn set(&mut self, limit: UserLimit, value: u64) {
        self.0[limit as usize] = (value > 0).then_some(value);
    }

    /// Those there are.
    pub(crate) fn given(&self) -> impl Iterator<Item = (UserLimit, u64)> {
        UserLimit::ALL.into_iter().filter_map(|limit| Some((limit, self.of(limit)?)))
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn values_have_units() {
        for (limit, text, value) in [
            (UserLimit::StatementTimeout, "1500", 1_500),
            (UserLimit::StatementTimeout, "2 s", 2_000),
            (UserLimit::StatementTimeout, "0.2 ms", 1),
            (UserLimit::StatementTimeout, "0", 0),
            (UserLimit::Memory, "1 KiB", 1_024),
            (UserLimit::Rows, "7", 7),
            (UserLimit::Concurrency, "2", 2),
        ] {
            assert_eq!(limit.parse(text).unwrap(), value, "{text}");
            let error = limit.parse("secret").unwrap_err();
            assert!(error.message().contains(limit.name()) && !error.message().contains("secret"), "{error}");
        }
        let mut limits = UserLimits::default();
        limits.set(UserLimit::Rows, 5);
        limits.set(UserLimit::Concurrency, 1);
        limits.set(UserLimit::Rows, 0);
        assert_eq!(limits.given().collect::<Vec<_>>(), [(UserLimit::Concurrency, 1)]);
    }
}
