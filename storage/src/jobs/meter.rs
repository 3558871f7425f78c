//! What a job uses: processor time, and memory that it says it holds.
//!
//! Processor time is that of the threads while they work for the job, by the system's clock of each thread: while its future is
//! polled, while a blocking part of it runs, and in threads of its own between two of their looks whether to go on. What the store's
//! client does in tasks of its own is not in it, nor is a system without such a clock: there it is zero.
//!
//! Memory is what the large parts of a job are known to hold, each told where it is made; the allocator is not asked, which would
//! count what statements do meanwhile. The most of all instants is kept.

use std::cell::RefCell;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use nix::time::{ClockId, clock_gettime};

tokio::task_local! {
    static CURRENT: Meter;
}

thread_local! {
    /// For whom this thread works, and its clock when that was counted last.
    static COUNTED: RefCell<Option<(Meter, Duration)>> = const { RefCell::new(None) };
}

#[derive(Debug, Default)]
struct Used {
    cpu_ns: AtomicU64,
    memory: AtomicU64,
}

/// The meter of one job.
#[derive(Clone, Debug, Default)]
pub(crate) struct Meter(Arc<Used>);

impl Meter {
    /// The meter of the job that the caller works for, if it does.
    pub(crate) fn current() -> Option<Self> {
        CURRENT.try_with(Self::clone).ok()
    }

    /// Processor time so far.
    pub(super) fn cpu(&self) -> Duration {
        Duration::from_nanos(self.0.cpu_ns.load(Ordering::Relaxed))
    }

    /// The most that was held.
    pub(super) fn memory(&self) -> u64 {
        self.0.memory.load(Ordering::Relaxed)
    }

    /// Tells that the job holds `bytes` now.
    pub(crate) fn holds(&self, bytes: u64) {
        self.0.memory.fetch_max(bytes, Ordering::Relaxed);
    }

    /// Runs a future that works for the job.
    pub(crate) async fn of<T>(&self, work: impl Future<Output = T>) -> T {
        CURRENT.scope(self.clone(), Metered { meter: self.clone(), work: Box::pin(work) }).await
    }

    /// Runs a part of the job on this thread.
    pub(crate) fn on_this_thread<T>(&self, work: impl FnOnce() -> T) -> T {
        let before = self.begin();
        let done = CURRENT.sync_scope(self.clone(), work);
        self.count();
        COUNTED.with_borrow_mut(|counted| *counted = before);
        done
    }

    /// Counts what this thread has used since it was counted last, if it worked for the job then; in any case it does from now on.
    pub(crate) fn count(&self) {
        COUNTED.with_borrow_mut(|counted| {
            let now = thread_time();
            if let Some((of, before)) = counted
                && Arc::ptr_eq(&of.0, &self.0)
            {
                let used = u64::try_from(now.saturating_sub(*before).as_nanos()).unwrap_or(u64::MAX);
                self.0.cpu_ns.fetch_add(used, Ordering::Relaxed);
            }
            *counted = Some((self.clone(), now));
        });
    }

    /// Counts for this job from now on; returns whom the thread worked for.
    fn begin(&self) -> Option<(Self, Duration)> {
        COUNTED.with_borrow_mut(|counted| counted.replace((self.clone(), thread_time())))
    }
}

struct Metered<F> {
    meter: Meter,
    work: Pin<Box<F>>,
}

impl<F: Future> Future for Metered<F> {
    type Output = F::Output;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<F::Output> {
        let meter = self.meter.clone();
        let before = meter.begin();
        let polled = self.work.as_mut().poll(context);
        meter.count();
        COUNTED.with_borrow_mut(|counted| *counted = before);
        polled
    }
}

/// Processor time of this thread.
fn thread_time() -> Duration {
    clock_gettime(ClockId::CLOCK_THREAD_CPUTIME_ID).map_or(Duration::ZERO, Duration::from)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    /// Uses the processor until this thread has had `time` of it.
    fn use_processor(time: Duration) {
        let begun = thread_time();
        while thread_time().saturating_sub(begun) < time {
            std::hint::black_box((0..1_000).sum::<u64>());
        }
    }

    #[tokio::test]
    async fn what_a_job_uses_is_counted_and_nothing_else() {
        let (meter, other) = (Meter::default(), Meter::default());
        let part = Duration::from_millis(4);
        use_processor(part);
        meter
            .of(async {
                use_processor(part);
                tokio::task::yield_now().await;
                Meter::current().unwrap().holds(70);
                let here = Meter::current().unwrap();
                here.holds(30);
                let there = here.clone();
                tokio::task::spawn_blocking(move || there.on_this_thread(|| use_processor(part)))
                    .await
                    .unwrap();
                // A thread of its own counts from its first look on.
                std::thread::scope(|scope| {
                    scope.spawn(|| {
                        here.count();
                        use_processor(part);
                        here.count();
                    });
                });
            })
            .await;
        use_processor(part);
        assert!(meter.cpu() >= 3 * part && meter.cpu() < 5 * part, "{:?}", meter.cpu());
        assert_eq!((meter.memory(), other.cpu()), (70, Duration::ZERO));
        assert!(Meter::current().is_none());
    }
}
