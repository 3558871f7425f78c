//! When a request is sent again: its time, its pauses, and what all requests of a store may waste together.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use object_store::{Error as StoreError, Result as StoreResult};
use tokio::time::Instant;

use super::Inner;
use crate::error::{Error, ErrorKind};
use crate::object::reason::{self, NETWORK_HINT, Verdict};

/// A request for so many bytes has a second more.
const BYTES_PER_SECOND: u64 = 2 << 20;

/// Attempts of a request there are no credentials for: a machine without a role would be asked in vain each time.
const CREDENTIAL_ATTEMPTS: u32 = 3;

/// What a retry takes from the budget, in what a success gives back.
const RETRY_COST: u64 = 10;

/// Limits of requests to a store.
#[derive(Clone, Debug, PartialEq)]
pub struct RequestLimits {
    /// Longest time of one attempt; for each 2 MiB that are sent or expected there is a second more.
    pub request: Duration,
    /// How often a request is sent at most.
    pub attempts: u32,
    /// Longest pause before the second attempt; it doubles with each further one. The true pause is drawn between nothing
    /// and that.
    pub first_pause: Duration,
    /// The longest pause does not become longer than this.
    pub longest_pause: Duration,
    /// How many retries all requests may make together; ten successes give one back. When they are used up, requests fail
    /// at their first failure, so that a store that is down is left alone.
    pub budget: u32,
    /// Where pauses lie between nothing and their longest, 0 to 1; None: anywhere, so that many clients do not come back at once.
    pub jitter: Option<f64>,
}

impl Default for RequestLimits {
    fn default() -> Self {
        Self {
            request: Duration::from_secs(10),
            attempts: 8,
            first_pause: Duration::from_millis(50),
            longest_pause: Duration::from_secs(5),
            budget: 100,
            jitter: None,
        }
    }
}

impl RequestLimits {
    /// The time of one attempt that moves so many bytes.
    #[must_use]
    pub fn time_for(&self, bytes: u64) -> Duration {
        self.request + Duration::from_millis(bytes.saturating_mul(1000) / BYTES_PER_SECOND)
    }

    /// The pause after so many attempts.
    fn pause(&self, attempts: u32) -> Duration {
        let doubled = 2_u32.saturating_pow(attempts.saturating_sub(1));
        let longest = self.first_pause.saturating_mul(doubled).min(self.longest_pause);
        longest.mul_f64(self.jitter.unwrap_or_else(rand::random).clamp(0.0, 1.0))
    }
}

/// Whether a request may be sent again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Repeat {
    /// It must not be done twice, and its caller settles whether it was done.
    Never,
    /// Only when it was surely not done.
    WhenRefused,
    /// Done twice is as good as done once.
    Always,
}

impl Repeat {
    fn allows(self, verdict: Verdict) -> bool {
        match (self, verdict) {
            (Self::Never, _) | (_, Verdict::Answer | Verdict::Final) => false,
            (_, Verdict::Refused | Verdict::NoCredentials) | (Self::Always, Verdict::Unknown) => true,
            (Self::WhenRefused, Verdict::Unknown) => false,
        }
    }
}

/// What retries of all requests may still waste, in tenths of a retry.
#[derive(Debug)]
pub(super) struct Budget {
    left: AtomicU64,
    most: u64,
}

impl Budget {
    pub(super) fn new(retries: u32) -> Self {
        let most = u64::from(retries) * RETRY_COST;
        Self { left: AtomicU64::new(most), most }
    }

    /// A request was answered.
    pub(super) fn give(&self) {
        let more = |left: u64| (left < self.most).then_some(left + 1);
        let _full = self.left.fetch_update(Ordering::Relaxed, Ordering::Relaxed, more);
    }

    /// Whether one more retry is allowed.
    fn take(&self) -> bool {
        let less = |left: u64| left.checked_sub(RETRY_COST);
        self.left.fetch_update(Ordering::Relaxed, Ordering::Relaxed, less).is_ok()
    }
}

impl Inner {
    /// Sends a request until it is answered, or fails for good. `at` names the object.
    pub(super) async fn repeat<T, F, Fut>(&self, at: &str, repeat: Repeat, mut send: F) -> StoreResult<T>
    where
        T: Send,
        F: FnMut() -> Fut + Send,
        Fut: Future<Output = StoreResult<T>> + Send,
    {
        let mut attempts = 0;
        loop {
            match send().await {
                Ok(answer) => return Ok(answer),
                Err(error) => self.again(at, repeat, &mut attempts, error).await?,
            }
        }
    }

    /// Measures one attempt.
    pub(super) async fn attempt<T>(&self, request: impl Future<Output = StoreResult<T>>) -> StoreResult<T> {
        let begun = Instant::now();
        let answer = request.await;
        self.metrics.waits.observe(begun.elapsed());
        if answer.is_ok() {
            self.budget.give();
        }
        answer
    }

    /// Waits until the request that failed with `error` may be sent again.
    ///
    /// # Errors
    /// The answer or failure that ends it.
    pub(super) async fn again(
        &self,
        at: &str,
        repeat: Repeat,
        attempts: &mut u32,
        error: StoreError,
    ) -> StoreResult<()> {
        *attempts += 1;
        let verdict = reason::verdict(&error);
        let most = match verdict {
            Verdict::NoCredentials => self.limits.attempts.min(CREDENTIAL_ATTEMPTS),
            _ => self.limits.attempts,
        };
        if !repeat.allows(verdict) || *attempts >= most || !self.budget.take() {
            return Err(self.ended(at, *attempts, error));
        }
        self.metrics.retries.one();
        tokio::time::sleep(self.limits.pause(*attempts)).await;
        Ok(())
    }

    /// The answer or failure that ends a request after so many attempts.
    pub(super) fn ended(&self, at: &str, attempts: u32, error: StoreError) -> StoreError {
        if reason::verdict(&error) == Verdict::Answer {
            self.budget.give();
            return reason::settled(error);
        }
        self.metrics.failures.one();
        // Of several attempts an earlier one may have been done.
        let undone = attempts == 1 && reason::is_undone(&error);
        let failed = given_up(at, attempts, error);
        if undone { reason::refusal(failed) } else { reason::failure(failed) }
    }
}

/// The failure that ends a request, with what was tried.
fn given_up(at: &str, attempts: u32, error: StoreError) -> Error {
    let at = Some(at).filter(|at| !at.is_empty());
    let mut error = reason::describe_at(error, at);
    if attempts > 1 {
        let tried = format!("tried {attempts} times");
        let detail = error.detail().map_or_else(|| tried.clone(), |detail| format!("{detail}; {tried}"));
        error = error.with_detail(detail);
    }
    error
}

/// The request, which fails when it takes longer than `limit`.
pub(super) async fn within<T>(
    at: &str,
    limit: Duration,
    request: impl Future<Output = StoreResult<T>>,
) -> StoreResult<T> {
    until(at, Instant::now(), limit, request).await
}

/// The request, which fails when it is not done `limit` after `begun`.
pub(super) async fn until<T>(
    at: &str,
    begun: Instant,
    limit: Duration,
    request: impl Future<Output = StoreResult<T>>,
) -> StoreResult<T> {
    match tokio::time::timeout_at(begun + limit, request).await {
        Ok(answer) => answer,
        Err(_) => Err(silent(at, limit)),
    }
}

/// The store did not answer in time.
fn silent(at: &str, limit: Duration) -> StoreError {
    let what = if at.is_empty() { "a request" } else { at };
    let message = format!("{what}: no answer from the object store within {limit:?}");
    reason::failure(Error::new(ErrorKind::Unavailable, message).with_hint(NETWORK_HINT))
}
