//! Logins that fail, as the audit log hears of them.
//!
//! Owns: how often. The first of a user and address is told at once, those that follow within a minute as one number at its end, so
//! that no flood of them fills a disk. Does not own: what is written (`audit`), slowing down who guesses (`login`).

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use cairn_engine::Error;

use crate::audit::{FailedLogins, StatementFiles};

/// Time that failures are counted over.
const PERIOD: Duration = Duration::from_secs(60);
/// Pairs of user and address that are told apart in it; what comes from others is one number.
const PAIRS_MAX: usize = 100;

/// See the module.
#[derive(Debug)]
pub(crate) struct Refusals {
    log: Arc<StatementFiles>,
    period: Mutex<Period>,
}

#[derive(Debug)]
struct Period {
    begun: Instant,
    pairs: HashMap<(IpAddr, String), Untold>,
    others: Untold,
}

/// Failures that the log has not heard of, with the last of them.
#[derive(Debug, Default)]
struct Untold {
    count: u64,
    last: Option<Error>,
}

impl Untold {
    fn add(&mut self, error: &Error) {
        self.count += 1;
        self.last = Some(error.clone());
    }
}

impl Period {
    fn begin() -> Self {
        Self { begun: Instant::now(), pairs: HashMap::new(), others: Untold::default() }
    }

    /// Whether a failure is to be told at once; it is counted otherwise.
    fn is_first(&mut self, user: &str, from: IpAddr, error: &Error) -> bool {
        let is_full = self.pairs.len() >= PAIRS_MAX;
        match self.pairs.entry((from, user.to_owned())) {
            Entry::Occupied(mut known) => known.get_mut().add(error),
            Entry::Vacant(_) if is_full => self.others.add(error),
            Entry::Vacant(new) => {
                new.insert(Untold::default());
                return true;
            }
        }
        false
    }
}

impl Refusals {
    pub(crate) fn new(log: Arc<StatementFiles>) -> Self {
        Self { log, period: Mutex::new(Period::begin()) }
    }

    /// `user` was not let in from `from`.
    pub(crate) fn add(&self, user: &str, from: IpAddr, error: &Error) {
        let is_first = self.period().is_first(user, from, error);
        if is_first {
            let mut untold = Untold::default();
            untold.add(error);
            self.tell(user, &from.to_string(), &untold);
        }
    }

    /// Tells what was counted, when its time is over.
    pub(crate) fn tidy(&self) {
        let is_over = self.period().begun.elapsed() >= PERIOD;
        if is_over {
            self.end();
        }
    }

    /// Tells what was counted, and begins anew.
    pub(crate) fn end(&self) {
        let over = std::mem::replace(&mut *self.period(), Period::begin());
        for ((from, user), untold) in &over.pairs {
            self.tell(user, &from.to_string(), untold);
        }
        self.tell("", "", &over.others);
    }

    fn tell(&self, user: &str, client: &str, untold: &Untold) {
        if let Untold { count, last: Some(last) } = untold {
            let (outcome, reason) = (last.sqlstate(), last.message());
            self.log.logins_failed(&FailedLogins { user, client, outcome, reason, count: *count });
        }
    }

    fn period(&self) -> MutexGuard<'_, Period> {
        // Nothing panics while holding it.
        self.period.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use cairn_storage::ErrorKind;
    use serde_json::Value;

    use super::*;
    use crate::options::ServerOptions;

    #[test]
    fn a_flood_is_few_lines() {
        let path = std::env::temp_dir().join(format!("cairn-refusals-{:x}", rand::random::<u64>()));
        let options = ServerOptions { audit_log: Some(path.clone()), ..ServerOptions::default() };
        let refusals = Refusals::new(Arc::new(StatementFiles::open(&options).unwrap()));
        let told = || {
            let text = std::fs::read_to_string(&path).unwrap();
            let lines = text.lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
            lines
                .map(|line| (line["user"].as_str().unwrap().to_owned(), line["count"].as_u64().unwrap()))
                .collect::<Vec<_>>()
        };
        let from = IpAddr::from([127, 0, 0, 1]);
        let wrong = Error::new(ErrorKind::Unauthenticated, "wrong");
        for user in ["anna", "anna", "bob", "anna", "anna"] {
            refusals.add(user, from, &wrong);
            refusals.tidy();
        }
        let mut expected = vec![("anna".to_owned(), 1), ("bob".to_owned(), 1)];
        assert_eq!(told(), expected);
        refusals.end();
        expected.push(("anna".to_owned(), 3));
        assert_eq!(told(), expected);
        for number in 0..PAIRS_MAX + 7 {
            refusals.add(&number.to_string(), from, &wrong);
        }
        refusals.end();
        assert_eq!(told().len(), expected.len() + PAIRS_MAX + 1);
        assert_eq!(told().pop(), Some((String::new(), 7)));
        std::fs::remove_file(path).unwrap();
    }
}
