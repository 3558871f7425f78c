//! How many statements run at one time, and who is next.
//!
//! Owns: permits to run, of all sessions together and of each user; those that wait for one; its figures. A user's statements
//! get permits in the order they came, users take turns, so nobody starves another. Does not own: which statements need one
//! (`session`), what they may use while they run (`session::limits`).
//!
//! Nothing that holds a permit waits for another: a transaction holds none between its statements, and COMMIT needs none. A
//! client that leaves its results unread keeps their permits, and finds out by waiting for no longer than `wait_max`. A statement
//! that was given up keeps its own until it has really ended: those that do not yield must not pile up.

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use cairn_storage::ErrorKind;
use cairn_storage::metrics::{Counter, Histogram, HistogramFigures};
use tokio::sync::oneshot;

use crate::error::{Error, Result};

/// How many statements may run and wait.
#[derive(Clone, Debug)]
pub struct QueueLimits {
    /// Statements that run at one time, those whose rows are still read included; None: any number.
    pub running_max: Option<usize>,
    /// Those of one user, unless the user has a limit of its own; None: any number.
    pub running_per_user_max: Option<usize>,
    /// Statements that wait to run.
    pub waiting_max: usize,
    /// How long one waits.
    pub wait_max: Duration,
}

impl Default for QueueLimits {
    fn default() -> Self {
        Self {
            running_max: None,
            running_per_user_max: None,
            waiting_max: 1_000,
            wait_max: Duration::from_secs(30),
        }
    }
}

/// A queue at one moment, since its making.
#[derive(Clone, Debug)]
pub struct QueueFigures {
    /// Statements that hold a permit.
    pub running: usize,
    /// Statements that wait for one.
    pub waiting: usize,
    /// Statements refused because too many waited.
    pub refused_full: u64,
    /// Statements refused because they waited too long.
    pub refused_late: u64,
    /// How long those waited that then ran; those that did not have to wait are not in it.
    pub waits: HistogramFigures,
}

/// See the module.
#[derive(Debug)]
pub struct StatementQueue {
    limits: QueueLimits,
    state: Mutex<State>,
    refused_full: Counter,
    refused_late: Counter,
    waits: Histogram,
}

#[derive(Debug, Default)]
struct State {
    running: usize,
    waiting: usize,
    /// Users with statements that run or wait.
    users: HashMap<String, User>,
    /// Users with statements that wait, the next one first.
    turns: VecDeque<String>,
    arrivals: u64,
}

#[derive(Debug, Default)]
struct User {
    running: usize,
    /// As of its last statement.
    running_max: Option<usize>,
    waiting: VecDeque<Waiting>,
}

#[derive(Debug)]
struct Waiting {
    arrival: u64,
    called: oneshot::Sender<Call>,
}

/// What a statement that waits is told.
type Call = Result<Permit, Refused>;

/// There was no room for it.
#[derive(Debug)]
struct Refused;

/// The right to run one statement, until it is dropped.
#[derive(Debug)]
pub(crate) struct Permit {
    queue: Arc<StatementQueue>,
    user: String,
}

/// What is sent once the lock is let go: a permit nobody takes any more comes back at once.
type Calls = Vec<(oneshot::Sender<Call>, Call)>;

impl StatementQueue {
    /// An empty queue.
    #[must_use]
    pub fn new(limits: QueueLimits) -> Self {
        Self {
            limits,
            state: Mutex::default(),
            refused_full: Counter::default(),
            refused_late: Counter::default(),
            waits: Histogram::default(),
        }
    }

    /// What it looks like now.
    #[must_use]
    pub fn figures(&self) -> QueueFigures {
        let (running, waiting) = {
            let state = self.state();
            (state.running, state.waiting)
        };
        QueueFigures {
            running,
            waiting,
            refused_full: self.refused_full.value(),
            refused_late: self.refused_late.value(),
            waits: self.waits.figures(),
        }
    }

    /// A permit for a statement of `user`, who may run `own_max` at a time, or as many as any user. Dropping the future leaves
    /// the queue.
    ///
    /// # Errors
    /// `ResourceExhausted` (53300) when too many wait, or after `wait_max`.
    pub(crate) async fn enter(self: &Arc<Self>, user: &str, own_max: Option<usize>) -> Result<Permit> {
        let (arrival, mut called) = match self.arrive(user, own_max)? {
            Arrival::Runs(permit) => return Ok(permit),
            Arrival::Waits(arrival, called) => (arrival, called),
        };
        let since = Instant::now();
        let place = Place { queue: self, user, arrival };
        let call = tokio::time::timeout(self.limits.wait_max, &mut called).await;
        // From here on nobody calls.
        drop(place);
        match call.map_or_else(|_| called.try_recv().ok(), std::result::Result::ok) {
            Some(Ok(permit)) => {
                self.waits.observe(since.elapsed());
                Ok(permit)
            }
            Some(Err(Refused)) => Err(self.full()),
            None => {
                self.refused_late.one();
                Err(refused(format!(
                    "the statement waited for {:?} while others ran, as long as may be",
                    self.limits.wait_max
                )))
            }
        }
    }

    fn arrive(self: &Arc<Self>, user: &str, own_max: Option<usize>) -> Result<Arrival> {
        let mut state = self.state();
        let running_max = own_max.or(self.limits.running_per_user_max);
        let of = state.users.entry(user.to_owned()).or_default();
        of.running_max = running_max;
        // Whoever waits while there is room waits for statements of its own.
        if of.waiting.is_empty() && of.may_run() && self.has_room(&state) {
            state.begin(user);
            return Ok(Arrival::Runs(self.permit(user)));
        }
        let mut evicted = None;
        if state.waiting >= self.limits.waiting_max {
            evicted = state.evict_for(user);
            if evicted.is_none() {
                state.forget(user);
                drop(state);
                return Err(self.full());
            }
        }
        let (call, called) = oneshot::channel();
        let arrival = state.wait(user, call);
        drop(state);
        if let Some(evicted) = evicted {
            // One that has gone meanwhile need not be told.
            let _ = evicted.called.send(Err(Refused));
        }
        Ok(Arrival::Waits(arrival, called))
    }

    fn has_room(&self, state: &State) -> bool {
        self.limits.running_max.is_none_or(|most| state.running < most)
    }

    fn permit(self: &Arc<Self>, user: &str) -> Permit {
        Permit { queue: Arc::clone(self), user: user.to_owned() }
    }

    /// Gives permits to those that are next, as long as there is room.
    fn call(self: &Arc<Self>, state: &mut State) -> Calls {
        let mut calls = Calls::new();
        while self.has_room(state) {
            let Some((user, waiting)) = state.take_next() else { break };
            state.begin(&user);
            calls.push((waiting.called, Ok(self.permit(&user))));
        }
        calls
    }

    fn leave(self: &Arc<Self>, user: &str) {
        let calls = {
            let mut state = self.state();
            state.end(user);
            self.call(&mut state)
        };
        for (called, call) in calls {
            // The permit of one that has gone meanwhile is dropped here, and goes to the next.
            let _ = called.send(call);
        }
    }

    fn full(&self) -> Error {
        self.refused_full.one();
        refused(format!("{} statements wait to run already, as many as may", self.limits.waiting_max))
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // Nothing panics while holding it.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn begin(&mut self, user: &str) {
        self.running += 1;
        if let Some(of) = self.users.get_mut(user) {
            of.running += 1;
        }
    }

    fn end(&mut self, user: &str) {
        self.running -= 1;
        if let Some(of) = self.users.get_mut(user) {
            of.running -= 1;
        }
        self.forget(user);
    }

    fn wait(&mut self, user: &str, called: oneshot::Sender<Call>) -> u64 {
        self.arrivals += 1;
        self.waiting += 1;
        let of = self.users.entry(user.to_owned()).or_default();
        if of.waiting.is_empty() {
            self.turns.push_back(user.to_owned());
        }
        of.waiting.push_back(Waiting { arrival: self.arrivals, called });
        self.arrivals
    }

    /// Takes the next statement out of the queue; its user's turn comes again after the others'.
    fn take_next(&mut self) -> Option<(String, Waiting)> {
        let place = self.turns.iter().position(|user| self.users.get(user).is_some_and(User::may_run))?;
        let user = self.turns.remove(place)?;
        let of = self.users.get_mut(&user)?;
        let waiting = of.waiting.pop_front()?;
        self.waiting -= 1;
        if !of.waiting.is_empty() {
            self.turns.push_back(user.clone());
        }
        Some((user, waiting))
    }

    /// Makes room for a statement of `user`: the newest of whoever has more waiting than it would have.
    fn evict_for(&mut self, user: &str) -> Option<Waiting> {
        let own = self.users.get(user).map_or(0, |of| of.waiting.len());
        let longest = self.users.iter().max_by_key(|(_, of)| of.waiting.len());
        let (name, count) = longest.map(|(name, of)| (name.clone(), of.waiting.len()))?;
        if count <= own + 1 {
            return None;
        }
        self.waiting -= 1;
        self.users.get_mut(&name)?.waiting.pop_back()
    }

    /// Takes a statement out of the queue that waits no more.
    fn remove(&mut self, user: &str, arrival: u64) {
        let Some(of) = self.users.get_mut(user) else { return };
        let Some(place) = of.waiting.iter().position(|waiting| waiting.arrival == arrival) else { return };
        of.waiting.remove(place);
        self.waiting -= 1;
        if of.waiting.is_empty() {
            self.turns.retain(|waiting| waiting != user);
        }
        self.forget(user);
    }

    fn forget(&mut self, user: &str) {
        if self.users.get(user).is_some_and(|of| of.running == 0 && of.waiting.is_empty()) {
            self.users.remove(user);
        }
    }
}

impl User {
    fn may_run(&self) -> bool {
        self.running_max.is_none_or(|most| self.running < most)
    }
}

enum Arrival {
    Runs(Permit),
    Waits(u64, oneshot::Receiver<Call>),
}

/// A place in the queue, given up when dropped.
struct Place<'a> {
    queue: &'a StatementQueue,
    user: &'a str,
    arrival: u64,
}

impl Drop for Place<'_> {
    fn drop(&mut self) {
        self.queue.state().remove(self.user, self.arrival);
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        self.queue.leave(&self.user);
    }
}

fn refused(message: String) -> Error {
    Error::new(ErrorKind::ResourceExhausted, message).map(|e| {
        e.with_sqlstate("53300").with_hint("read or close the results that are open, or try again later")
    })
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn queue(running: usize, per_user: Option<usize>, waiting: usize) -> Arc<StatementQueue> {
        queue_within(Duration::from_secs(20), running, per_user, waiting)
    }

    fn queue_within(
        wait_max: Duration,
        running: usize,
        per_user: Option<usize>,
        waiting_max: usize,
    ) -> Arc<StatementQueue> {
        let (running_max, running_per_user_max) = (Some(running), per_user);
        let limits = QueueLimits { running_max, running_per_user_max, waiting_max, wait_max };
        Arc::new(StatementQueue::new(limits))
    }

    /// Statements that wait, and the order they run in.
    struct Line {
        queue: Arc<StatementQueue>,
        order: Arc<Mutex<Vec<&'static str>>>,
        tasks: Vec<tokio::task::JoinHandle<Option<&'static str>>>,
    }

    impl Line {
        fn new(queue: &Arc<StatementQueue>) -> Self {
            Self { queue: Arc::clone(queue), order: Arc::default(), tasks: Vec::new() }
        }

        /// `name` of the user that its first letter is comes and waits.
        async fn comes(&mut self, name: &'static str) {
            let (queue, order) = (Arc::clone(&self.queue), Arc::clone(&self.order));
            self.tasks.push(tokio::spawn(async move {
                let permit = match queue.enter(&name[..1], None).await {
                    Ok(permit) => permit,
                    Err(error) => return Some(error.sqlstate()),
                };
                order.lock().unwrap().push(name);
                tokio::task::yield_now().await;
                drop(permit);
                None
            }));
            let arrived = self.tasks.len();
            for _ in 0..100 * arrived {
                tokio::task::yield_now().await;
            }
        }

        async fn order(self) -> (Vec<&'static str>, usize) {
            let mut refused = 0;
            for task in self.tasks {
                refused += usize::from(task.await.unwrap().is_some());
            }
            (self.order.lock().unwrap().clone(), refused)
        }
    }

    fn is_empty(queue: &StatementQueue) -> bool {
        let state = queue.state();
        state.running == 0 && state.waiting == 0 && state.users.is_empty() && state.turns.is_empty()
    }

    #[tokio::test]
    async fn users_take_turns_and_their_statements_keep_their_order() {
        let queue = queue(1, None, 100);
        let first = queue.enter("x", None).await.unwrap();
        let mut line = Line::new(&queue);
        for name in ["a1", "a2", "a3", "a4", "b1", "c1", "b2"] {
            line.comes(name).await;
        }
        assert_eq!((queue.figures().running, queue.figures().waiting), (1, 7));
        drop(first);
        assert_eq!(line.order().await, (vec!["a1", "b1", "c1", "a2", "b2", "a3", "a4"], 0));
        assert!(is_empty(&queue));
        assert_eq!(queue.figures().waits.count(), 7);
    }

    #[tokio::test]
    async fn a_user_at_its_limit_holds_nobody_up() {
        let queue = queue(3, Some(1), 100);
        let first = queue.enter("a", None).await.unwrap();
        let mut line = Line::new(&queue);
        line.comes("a2").await;
        line.comes("b1").await;
        line.comes("c1").await;
        // A limit of its own counts instead.
        let more = queue.enter("d", Some(2)).await.unwrap();
        let most = queue.enter("d", Some(2)).await.unwrap();
        drop((more, most, first));
        assert_eq!(line.order().await, (vec!["b1", "c1", "a2"], 0));
        assert!(is_empty(&queue));
    }

    #[tokio::test]
    async fn a_full_queue_refuses_whoever_waits_most() {
        let queue = queue(1, None, 3);
        let first = queue.enter("x", None).await.unwrap();
        let mut line = Line::new(&queue);
        for name in ["a1", "a2", "a3", "a4", "b1", "b2"] {
            line.comes(name).await;
        }
        // a4 found no room; b1 took that of a3; b2 would have as many as a.
        assert_eq!(queue.figures().refused_full, 3);
        drop(first);
        assert_eq!(line.order().await, (vec!["a1", "b1", "a2"], 3));
        assert!(is_empty(&queue));
    }

    #[tokio::test]
    async fn waiting_ends_and_whoever_leaves_is_forgotten() {
        let queue = queue_within(Duration::from_millis(800), 1, None, 10);
        let permit = queue.enter("a", None).await.unwrap();
        let late = queue.enter("b", None).await.unwrap_err();
        assert_eq!((late.kind(), late.sqlstate()), (ErrorKind::ResourceExhausted, "53300"));
        assert!(late.message().contains("800ms"), "{late}");
        let left = tokio::time::timeout(Duration::from_millis(5), queue.enter("c", None)).await;
        assert!(left.is_err());
        assert_eq!((queue.figures().waiting, queue.figures().refused_late), (0, 1));
        drop(permit);
        assert!(is_empty(&queue));
        drop(queue.enter("d", None).await.unwrap());
        assert!(is_empty(&queue));
    }
}
