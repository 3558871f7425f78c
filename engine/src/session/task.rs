//! A statement in a task of its own, on other threads than those of whoever waits for it: these go on whatever it does.
//!
//! Owns: the task, the way of its answer and rows to whoever waits, giving it up. Does not own: when time is over (`limits`),
//! panics (`panics`).
//!
//! Cancel safety: dropping what waits for the answer, or the rows, gives the statement up at once. Its task ends where it next
//! yields, and holds its place in the queue until then. A change that was given up before its commit is not committed.

use std::any::Any;
use std::future::Future;
use std::pin::pin;
use std::sync::atomic::{AtomicU8, Ordering};
use std::sync::{Arc, Weak};

use cairn_storage::{ErrorKind, LastWord};
use datafusion::arrow::array::RecordBatch;
use datafusion::arrow::datatypes::SchemaRef;
use datafusion::common::runtime::{JoinSetTracer, set_join_set_tracer};
use datafusion::error::DataFusionError;
use datafusion::physical_plan::stream::RecordBatchStreamAdapter;
use futures::future::BoxFuture;
use futures::{FutureExt, StreamExt};
use tokio::runtime::Handle;
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinHandle;

use super::asked::Asked;
use crate::error::{Error, Result};
use crate::output::{Output, RowStream};
use crate::queue::Permit;

/// Batches that wait to be taken, beside the one that is made.
const BATCHES_WAITING_MAX: usize = 2;

tokio::task_local! {
    /// Whether somebody waits for the statement of this task.
    static AWAITED: Awaited;
    /// The place of the statement whose task this is.
    static PLACE: Weak<Permit>;
}

type Batch = std::result::Result<RecordBatch, DataFusionError>;

/// Gives the tasks that DataFusion starts for a statement a part in its place: when that is given up, they go on until they next yield.
/// They ask, too, whether it may go on.
struct Places;

/// From now on subtasks keep the places of their statements.
pub(crate) fn keep_places() {
    // By another engine of the process otherwise.
    let _ = set_join_set_tracer(&Places);
}

fn place_of_task() -> Option<Arc<Permit>> {
    PLACE.try_with(Weak::upgrade).ok().flatten()
}

impl JoinSetTracer for Places {
    fn trace_future(
        &self,
        task: BoxFuture<'static, Box<dyn Any + Send>>,
    ) -> BoxFuture<'static, Box<dyn Any + Send>> {
        let task = match Asked::of_task() {
            Some(asked) => asked.within(task).boxed(),
            None => task,
        };
        let Some(place) = place_of_task() else { return task };
        let of_subtasks = Arc::downgrade(&place);
        let task = async move {
            let done = task.await;
            drop(place);
            done
        };
        PLACE.scope(of_subtasks, task).boxed()
    }

    fn trace_block(
        &self,
        block: Box<dyn FnOnce() -> Box<dyn Any + Send> + Send>,
    ) -> Box<dyn FnOnce() -> Box<dyn Any + Send> + Send> {
        let Some(place) = place_of_task() else { return block };
        Box::new(move || {
            let done = block();
            drop(place);
            done
        })
    }
}

/// What a statement says first.
enum First {
    /// Columns and remarks; the batches come.
    Rows(SchemaRef, Vec<String>, mpsc::Receiver<Batch>),
    Whole(Output),
}

const WAITED_FOR: u8 = 0;
const GIVEN_UP: u8 = 1;
/// Or committed.
const COMMITTING: u8 = 2;
/// The same, and to be given up as soon as it goes on or the commit fails.
const COMMITTING_UNWANTED: u8 = 3;

/// Whether somebody waits for a statement, and whether it is past giving up: a statement that may change something is either told
/// to have ended or changes it, never both.
#[derive(Clone, Default)]
pub(crate) struct Awaited(Option<Arc<AtomicU8>>);

impl Awaited {
    /// That of the statement whose task this is. Without a task a statement ends with whoever waits.
    pub(crate) fn of_task() -> Self {
        AWAITED.try_with(Clone::clone).unwrap_or_default()
    }

    /// That somebody waits.
    ///
    /// # Errors
    /// `Cancelled`, which nobody reads.
    pub(crate) fn check(&self) -> Result<()> {
        match &self.0 {
            Some(state) if state.load(Ordering::SeqCst) == GIVEN_UP => {
                Err(Error::new(ErrorKind::Cancelled, "nobody waits for the statement any more"))
            }
            Some(_) | None => Ok(()),
        }
    }

    /// The statement goes on behind a commit, with work that is not part of it: it can be given up again.
    ///
    /// # Errors
    /// `Cancelled` when that was asked for while it committed.
    pub(crate) fn goes_on(&self) -> Result<()> {
        if let Some(state) = &self.0 {
            end_commit(state);
        }
        self.check()
    }

    /// Runs `commit`, which asks the word before it changes anything: from a yes on the statement cannot be given up, unless the
    /// commit fails or the statement [goes on](Self::goes_on).
    pub(crate) async fn committing<T, E, C>(
        self,
        commit: impl FnOnce(LastWord) -> C,
    ) -> std::result::Result<T, E>
    where
        C: Future<Output = std::result::Result<T, E>>,
    {
        let Some(state) = self.0 else { return commit(LastWord::default()).await };
        let asked = Arc::clone(&state);
        let word = LastWord::new(move || {
            change(&asked, WAITED_FOR, COMMITTING)
                || matches!(asked.load(Ordering::SeqCst), COMMITTING | COMMITTING_UNWANTED)
        });
        let done = commit(word).await;
        if done.is_err() {
            end_commit(&state);
        }
        done
    }

    /// Nobody waits any more; false when a commit is under way or has been, behind which the statement ends if it would go on.
    fn give_up(&self) -> bool {
        let Some(state) = &self.0 else { return true };
        let before = state.fetch_update(Ordering::SeqCst, Ordering::SeqCst, |state| match state {
            WAITED_FOR => Some(GIVEN_UP),
            COMMITTING => Some(COMMITTING_UNWANTED),
            _ => None,
        });
        before == Ok(WAITED_FOR)
    }

    /// What whoever gave a statement up in vain is told when it has ended: `error` where it ended for that, else what it answers.
    fn told<T>(&self, answer: Result<T>, error: Error) -> Result<T> {
        match answer {
            Err(ended) if ended.kind() == ErrorKind::Cancelled && self.check().is_err() => Err(error),
            answer => answer,
        }
    }
}

/// A commit is over, and the statement is not.
fn end_commit(state: &AtomicU8) {
    // Nobody gives up one that is given up.
    let _ = state.fetch_update(Ordering::SeqCst, Ordering::SeqCst, |state| match state {
        COMMITTING => Some(WAITED_FOR),
        COMMITTING_UNWANTED => Some(GIVEN_UP),
        _ => None,
    });
}

fn change(state: &AtomicU8, from: u8, to: u8) -> bool {
    state.compare_exchange(from, to, Ordering::SeqCst, Ordering::SeqCst).is_ok()
}

/// The task of a statement, given up when dropped.
struct Task {
    handle: JoinHandle<()>,
    awaited: Awaited,
}

impl Task {
    fn start(threads: &Handle, place: Weak<Permit>, work: impl Future<Output = ()> + Send + 'static) -> Self {
        let awaited = Awaited(Some(Arc::default()));
        let handle = threads.spawn(AWAITED.scope(awaited.clone(), PLACE.scope(place, work)));
        Self { handle, awaited }
    }

    /// What it answers, or the error of `over`, which ends first. A commit that is under way is waited for all the same.
    async fn answer<T>(
        &self,
        mut answered: oneshot::Receiver<Result<T>>,
        over: impl Future<Output = Error>,
    ) -> Result<T> {
        let answer = tokio::select! {
            biased;
            answer = &mut answered => answer,
            error = over => {
                if self.awaited.give_up() {
                    return Err(error);
                }
                let answer = answered.await.unwrap_or_else(|_| Err(stopped()));
                return self.awaited.told(answer, error);
            }
        };
        answer.unwrap_or_else(|_| Err(stopped()))
    }
}

impl Drop for Task {
    fn drop(&mut self) {
        // A task that does not yield never hears of its end, but asks before it changes anything. One that commits ends by itself.
        if self.awaited.give_up() || self.awaited.check().is_err() {
            self.handle.abort();
        }
    }
}

/// Runs `work` here until `over` ends first. A commit that is under way is waited for all the same: once it is accepted it becomes
/// durable, whatever whoever waits is told.
///
/// # Errors
/// As `work`; that of `over`.
pub(super) async fn run_here<T>(
    over: impl Future<Output = Error>,
    work: impl Future<Output = Result<T>>,
) -> Result<T> {
    let awaited = Awaited(Some(Arc::default()));
    let mut work = pin!(AWAITED.scope(awaited.clone(), work));
    tokio::select! {
        biased;
        done = &mut work => done,
        error = over => match awaited.give_up() {
            true => Err(error),
            false => {
                let answer = work.await;
                awaited.told(answer, error)
            }
        },
    }
}

/// Runs `work` on `threads` until `over` ends first; it holds `place` until it has really ended.
///
/// # Errors
/// As `work`; that of `over`; `Unavailable` (57P01) when the threads end before it.
pub(super) async fn run<T: Send + 'static>(
    threads: &Handle,
    place: Option<Arc<Permit>>,
    over: impl Future<Output = Error>,
    work: impl Future<Output = Result<T>> + Send + 'static,
) -> Result<T> {
    let (answer, answered) = oneshot::channel();
    let of_subtasks = place.as_ref().map(Arc::downgrade).unwrap_or_default();
    let task = Task::start(threads, of_subtasks, async move {
        let result = work.await;
        // Free before whoever waits hears of the end.
        drop(place);
        // Nobody listens when it was given up.
        let _ = answer.send(result);
    });
    task.answer(answered, over).await
}

/// The same for a statement that may have rows: they are made as they are taken, a few batches ahead.
///
/// # Errors
/// As [`run`].
pub(super) async fn run_statement(
    threads: &Handle,
    place: Option<Arc<Permit>>,
    over: impl Future<Output = Error>,
    statement: impl Future<Output = Result<Output>> + Send + 'static,
) -> Result<Output> {
    let (answer, answered) = oneshot::channel::<Result<First>>();
    let of_subtasks = place.as_ref().map(Arc::downgrade).unwrap_or_default();
    let task = Task::start(threads, of_subtasks, async move {
        match statement.await {
            Ok(Output::Rows(RowStream { schema, mut stream, notes })) => {
                let (send, batches) = mpsc::channel(BATCHES_WAITING_MAX);
                let mut awaited = answer.send(Ok(First::Rows(schema, notes, batches))).is_ok();
                let mut failed = None;
                while awaited && let Some(batch) = stream.next().await {
                    match batch {
                        Ok(batch) => awaited = send.send(Ok(batch)).await.is_ok(),
                        Err(error) => {
                            failed = Some(error);
                            break;
                        }
                    }
                }
                // As above: the memory of its rows, too.
                drop((stream, place));
                if let Some(error) = failed {
                    let _ = send.send(Err(error)).await;
                }
            }
            result => {
                drop(place);
                let _ = answer.send(result.map(First::Whole));
            }
        }
    });
    match task.answer(answered, over).await? {
        First::Whole(output) => Ok(output),
        First::Rows(schema, notes, batches) => {
            let rows = rows_of(task, schema, batches);
            Ok(Output::Rows(RowStream { notes, ..rows }))
        }
    }
}

/// The batches that `task` sends; their end is told when it has ended and holds nothing any more.
fn rows_of(task: Task, schema: SchemaRef, batches: mpsc::Receiver<Batch>) -> RowStream {
    let rows = futures::stream::unfold(Some((batches, task)), |state| async move {
        let (mut batches, mut task) = state?;
        match batches.recv().await {
            Some(batch) => Some((batch, Some((batches, task)))),
            None => match (&mut task.handle).await {
                Ok(()) => None,
                // Rows that stop are not all of them.
                Err(_) => Some((Err(DataFusionError::from(stopped())), None)),
            },
        }
    });
    let stream = Box::pin(RecordBatchStreamAdapter::new(Arc::clone(&schema), rows));
    RowStream::new(schema, stream)
}

fn stopped() -> Error {
    Error::new(ErrorKind::Unavailable, "the server stopped while the statement ran")
        .map(|e| e.with_sqlstate("57P01"))
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use datafusion::arrow::datatypes::Schema;
    use datafusion::common::runtime::SpawnedTask;
    use futures::stream;
    use tokio::runtime::{Builder, Runtime};

    use super::*;
    use crate::queue::{QueueLimits, StatementQueue};

    fn one_thread() -> Runtime {
        threads(1)
    }

    fn threads(count: usize) -> Runtime {
        Builder::new_multi_thread().worker_threads(count).enable_all().build().unwrap()
    }

    fn rows(batches: impl futures::Stream<Item = Batch> + Send + 'static) -> Output {
        let schema = Arc::new(Schema::empty());
        let stream = Box::pin(RecordBatchStreamAdapter::new(Arc::clone(&schema), batches));
        Output::Rows(RowStream::new(schema, stream))
    }

    /// The rows of a statement that runs on `threads`.
    async fn running(
        threads: &Runtime,
        place: Option<Arc<Permit>>,
        batches: impl futures::Stream<Item = Batch> + Send + 'static,
    ) -> RowStream {
        let statement = async move { Ok(rows(batches)) };
        match run_statement(threads.handle(), place, std::future::pending(), statement).await.unwrap() {
            Output::Rows(rows) => rows,
            _ => panic!("no rows"),
        }
    }

    fn batch() -> RecordBatch {
        RecordBatch::new_empty(Arc::new(Schema::empty()))
    }

    #[tokio::test]
    async fn a_commit_under_way_is_waited_for_without_threads_too() {
        let (tell, told) = oneshot::channel();
        let over = async move {
            told.await.unwrap();
            stopped()
        };
        let committing = async move {
            let commit = |word: LastWord| async move {
                word.ask()?;
                tell.send(()).unwrap();
                tokio::task::yield_now().await;
                Ok::<_, Error>(7)
            };
            Awaited::of_task().committing(commit).await
        };
        assert_eq!(run_here(over, committing).await.unwrap(), 7);
        let never = std::future::pending::<Result<u8>>();
        assert_eq!(run_here(async { stopped() }, never).await.unwrap_err().sqlstate(), "57P01");
    }

    #[tokio::test]
    async fn a_statement_that_is_given_up_keeps_its_place_until_it_ends() {
        let (threads, queue) = (one_thread(), Arc::new(StatementQueue::new(QueueLimits::default())));
        let place = Some(Arc::new(queue.enter("a", None).await.unwrap()));
        let (go, wait) = std::sync::mpsc::channel::<()>();
        let ((begin, begun), (tell, told)) = (oneshot::channel(), oneshot::channel());
        let handle = threads.handle().clone();
        let waiting = tokio::spawn(async move {
            let statement = async move {
                begin.send(()).unwrap();
                // Its thread is held.
                wait.recv().unwrap();
                tell.send(Awaited::of_task().check().is_err()).unwrap();
                Ok(())
            };
            run(&handle, place, std::future::pending(), statement).await
        });
        begun.await.unwrap();
        waiting.abort();
        assert!(waiting.await.unwrap_err().is_cancelled());
        assert_eq!(queue.figures().running, 1);
        go.send(()).unwrap();
        assert!(told.await.unwrap(), "it commits nothing");
        while queue.figures().running > 0 {
            tokio::task::yield_now().await;
        }
        assert!(Awaited::of_task().check().is_ok(), "whoever runs without a task");
        threads.shutdown_background();
    }

    #[tokio::test]
    async fn subtasks_keep_the_place_of_a_statement_that_is_given_up() {
        keep_places();
        let (threads, queue) = (threads(2), Arc::new(StatementQueue::new(QueueLimits::default())));
        let place = Some(Arc::new(queue.enter("a", None).await.unwrap()));
        let (go, wait) = std::sync::mpsc::channel::<()>();
        let (begin, begun) = oneshot::channel();
        let statement = async move {
            let subtask = SpawnedTask::spawn(async move {
                let deeper = SpawnedTask::spawn(async move {
                    begin.send(()).unwrap();
                    wait.recv().unwrap();
                });
                deeper.join().await.unwrap();
            });
            subtask.join().await.unwrap();
            Ok(())
        };
        let handle = threads.handle().clone();
        let waiting =
            tokio::spawn(async move { run(&handle, place, std::future::pending(), statement).await });
        begun.await.unwrap();
        waiting.abort();
        assert!(waiting.await.unwrap_err().is_cancelled());
        tokio::time::sleep(std::time::Duration::from_millis(50)).await;
        assert_eq!(queue.figures().running, 1);
        go.send(()).unwrap();
        while queue.figures().running > 0 {
            tokio::task::yield_now().await;
        }
        threads.shutdown_background();
    }

    #[tokio::test]
    async fn a_commit_under_way_is_waited_for() {
        let threads = one_thread();
        let (go, wait) = std::sync::mpsc::channel::<()>();
        let ((begin, begun), (end, ended)) = (oneshot::channel(), oneshot::channel::<()>());
        let over = async move {
            begun.await.unwrap();
            end.send(()).unwrap();
            go.send(()).unwrap();
            stopped()
        };
        let commits = async move {
            let commit = Awaited::of_task().committing(|last_word| async move {
                last_word.ask()?;
                begin.send(()).unwrap();
                wait.recv().unwrap();
                Ok(7)
            });
            let seven = commit.await;
            // Between the commit and its answer, too.
            tokio::time::sleep(std::time::Duration::from_millis(20)).await;
            seven
        };
        assert_eq!(run(threads.handle(), None, over, commits).await.unwrap(), 7);
        ended.await.unwrap();
        let fails = async {
            let commit = Awaited::of_task().committing(|last_word| async move {
                last_word.ask()?;
                Err::<(), _>(Error::new(ErrorKind::Conflict, "late"))
            });
            assert!(commit.await.is_err());
            std::future::pending::<Result<()>>().await
        };
        let over = async {
            tokio::time::sleep(std::time::Duration::from_millis(20)).await;
            stopped()
        };
        assert_eq!(run(threads.handle(), None, over, fails).await.unwrap_err().sqlstate(), "57P01");
        let never = run(threads.handle(), None, async { stopped() }, async {
            std::future::pending::<()>().await;
            Ok(())
        });
        assert_eq!(never.await.unwrap_err().sqlstate(), "57P01");
        threads.shutdown_background();
    }

    #[tokio::test]
    async fn a_statement_of_several_commits_ends_between_them() {
        let threads = one_thread();
        let commits = Arc::new(AtomicU8::new(0));
        let counted = Arc::clone(&commits);
        let asked = Arc::new(tokio::sync::Notify::new());
        let (begun, over) = (Arc::clone(&asked), Arc::clone(&asked));
        let work = async move {
            loop {
                Awaited::of_task().goes_on()?;
                let commit = Awaited::of_task().committing(|last_word| async move {
                    last_word.ask()?;
                    Ok::<_, Error>(())
                });
                commit.await?;
                if counted.fetch_add(1, Ordering::SeqCst) == 1 {
                    begun.notify_one();
                }
                tokio::task::yield_now().await;
            }
        };
        let over = async move {
            over.notified().await;
            stopped()
        };
        let ended: Result<()> = run(threads.handle(), None, over, work).await;
        assert_eq!(ended.unwrap_err().sqlstate(), "57P01");
        assert!(commits.load(Ordering::SeqCst) >= 2);
        threads.shutdown_background();
        // Told while it commits, it ends behind the commit, and the error is that of whoever ended it.
        let (told, heard) = oneshot::channel();
        let work = async move {
            let commit = Awaited::of_task().committing(|last_word| async move {
                last_word.ask()?;
                let _ = told.send(());
                tokio::task::yield_now().await;
                tokio::task::yield_now().await;
                Ok::<_, Error>(())
            });
            commit.await?;
            Awaited::of_task().goes_on()?;
            std::future::pending::<Result<()>>().await
        };
        let over = async {
            let _ = heard.await;
            stopped()
        };
        assert_eq!(run_here(over, work).await.unwrap_err().sqlstate(), "57P01");
    }

    #[tokio::test]
    async fn rows_run_a_few_batches_ahead_and_end_with_their_place() {
        let (threads, queue) = (one_thread(), Arc::new(StatementQueue::new(QueueLimits::default())));
        let place = Some(Arc::new(queue.enter("a", None).await.unwrap()));
        let made = Arc::new(std::sync::atomic::AtomicUsize::new(0));
        let counted = Arc::clone(&made);
        let batches = stream::iter(0..100).map(move |_| {
            counted.fetch_add(1, Ordering::SeqCst);
            Ok(batch())
        });
        let mut rows = running(&threads, place, batches).await;
        rows.stream.next().await.unwrap().unwrap();
        tokio::time::sleep(std::time::Duration::from_millis(50)).await;
        let ahead = made.load(Ordering::SeqCst);
        assert!(ahead <= 1 + BATCHES_WAITING_MAX + 1, "{ahead} batches for a reader of one");
        assert_eq!(queue.figures().running, 1);
        assert_eq!(rows.stream.by_ref().count().await, 99);
        assert_eq!(queue.figures().running, 0);
        threads.shutdown_background();
    }

    #[tokio::test]
    async fn rows_whose_threads_stop_do_not_look_whole() {
        let threads = one_thread();
        let batches = stream::iter([Ok(batch())]).chain(stream::pending());
        let mut rows = running(&threads, None, batches).await;
        rows.stream.next().await.unwrap().unwrap();
        let handle = threads.handle().clone();
        threads.shutdown_background();
        let error = Error::from(rows.stream.next().await.unwrap().unwrap_err());
        assert_eq!((error.kind(), error.sqlstate()), (ErrorKind::Unavailable, "57P01"));
        assert!(rows.stream.next().await.is_none());
        let late = run(&handle, None, std::future::pending(), async { Ok(()) }).await.unwrap_err();
        assert_eq!(late.sqlstate(), "57P01");
    }
}
