//! How a job is told to end, and what it looks at between two steps.
//!
//! One word holds all there is to know, so that a job which makes itself unstoppable and somebody who stops it never both win.

use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};
use std::time::Duration;

use tokio::time::Instant;

use crate::error::{Error, ErrorKind, Result};

/// Why a job is to end before it is done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum StopReason {
    /// CANCEL JOB
    Cancelled = 1,
    /// PAUSE JOB
    Paused = 2,
    /// What it worked on was dropped.
    Dropped = 3,
    /// It takes longer than it may.
    TimedOut = 4,
}

const GOES_ON: u8 = 0;
/// It ends by itself, whatever is asked of it.
const FIRM: u8 = 5;

/// See the module.
#[derive(Clone, Debug)]
pub(crate) struct Stop {
    state: Arc<AtomicU8>,
    until: Option<Instant>,
    timeout: Duration,
}

impl Stop {
    /// Of a job that begins now.
    pub(super) fn new(timeout: Duration) -> Self {
        let until = Instant::now().checked_add(timeout);
        Self { state: Arc::new(AtomicU8::new(GOES_ON)), until, timeout }
    }

    /// Tells the job to end; whether it will because of that, or has been told before.
    pub(crate) fn ask(&self, reason: StopReason) -> bool {
        let asked = self.state.compare_exchange(GOES_ON, reason as u8, Ordering::AcqRel, Ordering::Acquire);
        asked != Err(FIRM)
    }

    /// From here on the job goes on to its end.
    ///
    /// # Errors
    /// `Cancelled` when it was told to end before.
    pub(crate) fn go_firm(&self) -> Result<()> {
        match self.state.compare_exchange(GOES_ON, FIRM, Ordering::AcqRel, Ordering::Acquire) {
            Ok(_) | Err(FIRM) => Ok(()),
            Err(_) => Err(self.error()),
        }
    }

    /// Whether the job is to end; a step of it that has taken too long is noticed here.
    pub(crate) fn is_asked(&self) -> bool {
        if self.until.is_some_and(|until| Instant::now() >= until) {
            self.ask(StopReason::TimedOut);
        }
        self.reason().is_some()
    }

    /// # Errors
    /// `Cancelled` when the job is to end.
    pub(crate) fn check(&self) -> Result<()> {
        if self.is_asked() { Err(self.error()) } else { Ok(()) }
    }

    /// Why it is to end.
    pub(super) fn reason(&self) -> Option<StopReason> {
        match self.state.load(Ordering::Acquire) {
            1 => Some(StopReason::Cancelled),
            2 => Some(StopReason::Paused),
            3 => Some(StopReason::Dropped),
            4 => Some(StopReason::TimedOut),
            _ => None,
        }
    }

    /// What the job ends with.
    pub(crate) fn error(&self) -> Error {
        let why = match self.reason() {
            Some(StopReason::Paused) => "the job was paused".to_owned(),
            Some(StopReason::Dropped) => "what the job worked on was dropped".to_owned(),
            Some(StopReason::TimedOut) => {
                format!("the job took longer than job_timeout ({} s)", self.timeout.as_secs())
            }
            Some(StopReason::Cancelled) | None => "the job was cancelled".to_owned(),
        };
        Error::new(ErrorKind::Cancelled, why)
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn the_first_word_counts() {
        let stop = Stop::new(Duration::from_secs(3600));
        assert!(!stop.is_asked() && stop.check().is_ok());
        assert!(stop.ask(StopReason::Paused) && stop.ask(StopReason::Cancelled));
        assert_eq!(stop.reason(), Some(StopReason::Paused));
        assert!(stop.go_firm().is_err());

        let stop = Stop::new(Duration::from_secs(3600));
        stop.go_firm().unwrap();
        assert!(!stop.ask(StopReason::Cancelled) && !stop.is_asked());
        stop.go_firm().unwrap();
    }

    #[test]
    fn time_runs_out() {
        let stop = Stop::new(Duration::ZERO);
        assert!(stop.is_asked());
        assert!(stop.check().unwrap_err().message().contains("job_timeout"));
        // Longer than any clock goes.
        assert!(!Stop::new(Duration::MAX).is_asked());
    }
}
