//! A log that acknowledges from the journal and sends to the bucket in the background.
//!
//! Owns: what waits to be sent, sending it in order and again until it stands, what is told when it can't be. Does not own: both logs.
//!
//! Entries wait in memory as they stand in the journal: a checkpoint waits for them, so that `memtable_hard_bytes` bounds them too.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use tokio::sync::{Notify, watch};
use tokio::task::AbortHandle;

use super::super::{Clock, CommitOrder};
use crate::error::{Error, ErrorKind, Result};
use crate::fs::FileSystem;
use crate::id::{CommitVersion, Epoch, WalNumber};
use crate::metrics::WalMetrics;
use crate::wal::{
    AppendError, FileWal, Group, ObjectWal, TipFile, Unsent, Wal, WalStatus, WalTip, remove_log,
};

/// Bytes after which no further entry goes into the same object.
const PARCEL_BYTES: usize = 4 << 20;
/// Pause before sending again; each one is twice as long as the one before.
const PAUSE_FIRST: Duration = Duration::from_millis(200);
const PAUSE_MAX: Duration = Duration::from_secs(10);

/// What a log is made of.
pub(super) struct Parts {
    pub(super) fs: Arc<dyn FileSystem>,
    pub(super) name: String,
    pub(super) journal: FileWal,
    pub(super) objects: ObjectWal,
    pub(super) mark: TipFile,
    pub(super) epoch: Epoch,
    /// Everything up to here is in the bucket.
    pub(super) sent: CommitVersion,
    pub(super) clock: Clock,
    pub(super) timeout: Duration,
}

/// See the module. Dropping it ends the sending.
#[derive(Debug)]
pub(in crate::database) struct JournaledWal {
    inner: Arc<Inner>,
    sender: Mutex<Option<AbortHandle>>,
}

#[derive(Debug)]
struct Inner {
    fs: Arc<dyn FileSystem>,
    name: String,
    journal: FileWal,
    objects: ObjectWal,
    mark: TipFile,
    epoch: Epoch,
    clock: Clock,
    timeout: Duration,
    waiting: Mutex<Waiting>,
    /// Something waits to be sent.
    filled: Notify,
    progress: watch::Sender<Progress>,
}

#[derive(Debug, Default)]
struct Waiting {
    entries: VecDeque<Entry>,
    bytes: u64,
    /// Another writer's object stands where the next of these would.
    fenced: Option<Error>,
    /// Why the last attempt failed.
    failure: Option<Error>,
}

/// A commit that is in the journal and not in the bucket.
#[derive(Debug)]
struct Entry {
    version: CommitVersion,
    time_us: i64,
    payload: Bytes,
}

/// What those who wait are told.
#[derive(Clone, Copy, Debug)]
struct Progress {
    sent: CommitVersion,
    is_fenced: bool,
}

fn held<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl JournaledWal {
    pub(super) fn new(parts: Parts) -> Self {
        let Parts { fs, name, journal, objects, mark, epoch, sent, clock, timeout } = parts;
        let inner = Inner {
            fs,
            name,
            journal,
            objects,
            mark,
            epoch,
            clock,
            timeout,
            waiting: Mutex::default(),
            filled: Notify::new(),
            progress: watch::Sender::new(Progress { sent, is_fenced: false }),
        };
        Self { inner: Arc::new(inner), sender: Mutex::default() }
    }

    /// Begins to send; `order` is told when it is fenced.
    pub(in crate::database) fn start(&self, order: &Arc<CommitOrder>) {
        let task = tokio::spawn(send(Arc::clone(&self.inner), Arc::downgrade(order)));
        *held(&self.sender) = Some(task.abort_handle());
    }

    fn stop(&self) {
        if let Some(sender) = held(&self.sender).take() {
            sender.abort();
        }
    }
}

impl Drop for JournaledWal {
    fn drop(&mut self) {
        self.stop();
    }
}

/// Sends what waits, for as long as it is not fenced.
async fn send(inner: Arc<Inner>, order: Weak<CommitOrder>) {
    let mut pause = PAUSE_FIRST;
    loop {
        let Some((first, entries)) = inner.parcel() else {
            inner.filled.notified().await;
            continue;
        };
        match inner.objects.send(first, &entries, entries.len()).await {
            Ok(count) => {
                inner.arrived(count);
                pause = PAUSE_FIRST;
            }
            Err(error) if error.kind() == ErrorKind::Fenced => {
                inner.fence(&error);
                if let Some(order) = order.upgrade() {
                    order.poison(&error);
                }
                return;
            }
            Err(error) => {
                held(&inner.waiting).failure = Some(error);
                tokio::time::sleep(pause).await;
                pause = (2 * pause).min(PAUSE_MAX);
            }
        }
    }
}

/// How many of the first of `entries` go into one object.
pub(super) fn parcel<'a>(entries: impl Iterator<Item = &'a Bytes>) -> usize {
    let mut bytes = 0;
    let mut count = 0;
    for entry in entries {
        if count > 0 && bytes + entry.len() > PARCEL_BYTES {
            break;
        }
        bytes += entry.len();
        count += 1;
    }
    count
}

impl Inner {
    /// A group is in the journal.
    fn journaled(&self, group: Group) {
        let time_us = self.clock.now_us();
        let mut waiting = held(&self.waiting);
        for (version, payload) in (group.first.0..).zip(group.entries) {
            waiting.bytes += payload.len() as u64;
            waiting.entries.push_back(Entry { version: CommitVersion(version), time_us, payload });
        }
        drop(waiting);
        self.filled.notify_one();
    }

    /// What goes into the next object.
    fn parcel(&self) -> Option<(CommitVersion, Vec<Bytes>)> {
        let waiting = held(&self.waiting);
        let first = waiting.entries.front()?.version;
        let count = parcel(waiting.entries.iter().map(|entry| &entry.payload));
        Some((first, waiting.entries.iter().take(count).map(|entry| entry.payload.clone()).collect()))
    }

    /// The first `count` of what waits are in the bucket.
    fn arrived(&self, count: usize) {
        let mut waiting = held(&self.waiting);
        waiting.failure = None;
        let mut last = None;
        for _ in 0..count {
            let Some(entry) = waiting.entries.pop_front() else { break };
            waiting.bytes -= entry.payload.len() as u64;
            last = Some(entry.version);
        }
        drop(waiting);
        if let Some(version) = last {
            self.mark.write(WalTip { number: WalNumber(self.epoch.0), offset: 0, version });
            self.progress.send_modify(|progress| progress.sent = version);
        }
    }

    fn fence(&self, error: &Error) {
        held(&self.waiting).fenced = Some(error.clone());
        self.progress.send_modify(|progress| progress.is_fenced = true);
    }

    /// The error of a writer that was fenced, as its commits of now need it.
    fn fenced(&self) -> Option<Error> {
        let error = held(&self.waiting).fenced.clone()?;
        Some(self.unsent().beside(&error))
    }

    fn unsent(&self) -> Unsent {
        let waiting = held(&self.waiting);
        Unsent {
            commits: waiting.entries.len() as u64,
            bytes: waiting.bytes,
            since_us: waiting.entries.front().map(|entry| entry.time_us),
            journal: self.name.clone(),
            failure: waiting.failure.as_ref().map(ToString::to_string),
        }
    }

    async fn drain(&self, timeout: Duration) -> Result<()> {
        let Some(target) = held(&self.waiting).entries.back().map(|entry| entry.version) else {
            return Ok(());
        };
        let mut progress = self.progress.subscribe();
        let reached = progress.wait_for(|progress| progress.sent >= target || progress.is_fenced);
        let is_sent = match tokio::time::timeout(timeout, reached).await {
            Ok(Ok(progress)) => progress.sent >= target,
            // The sender of `progress` lives as long as this.
            Ok(Err(_)) | Err(_) => false,
        };
        if is_sent {
            return Ok(());
        }
        if let Some(fenced) = self.fenced() {
            return Err(fenced);
        }
        let unsent = self.unsent();
        if unsent.commits == 0 {
            return Ok(());
        }
        let message = format!(
            "the bucket does not take what was committed: {} are only in the journal on this machine",
            unsent.describe()
        );
        let why = unsent.failure.map_or_else(String::new, |failure| format!("; the last attempt: {failure}"));
        Err(Error::new(ErrorKind::Unavailable, message)
            .with_detail(format!("the journal is {}{why}", unsent.journal))
            .with_hint(
                "nothing is lost: they are sent when the bucket answers, by this process or by the next one that opens the database on this machine",
            ))
    }
}

#[async_trait]
impl Wal for JournaledWal {
    async fn append(&self, group: Group) -> Result<(), AppendError> {
        if let Some(error) = self.inner.fenced() {
            return Err(AppendError::Unknown(error));
        }
        if group.entries.is_empty() {
            return Ok(());
        }
        self.inner.journal.append(group.clone()).await?;
        self.inner.journaled(group);
        Ok(())
    }

    async fn sync(&self) -> Result<()> {
        self.inner.journal.sync().await
    }

    async fn rotate(&self, next_version: CommitVersion) -> Result<WalNumber> {
        let number = self.inner.objects.rotate(next_version).await?;
        // All of the journal is in the bucket: the bucket's log would not have rotated. What can't be done now is done the next time;
        // what is final fails the next commit.
        if let Ok(file) = self.inner.journal.rotate(next_version).await {
            let _ = self.inner.journal.truncate(file).await;
        }
        Ok(number)
    }

    async fn truncate(&self, below: WalNumber) -> Result<()> {
        self.inner.objects.truncate(below).await
    }

    async fn close(&self) -> Result<()> {
        // Who has waited in vain already need not wait again.
        let has_failed = held(&self.inner.waiting).failure.is_some();
        let timeout = if has_failed { Duration::ZERO } else { self.inner.timeout };
        let sent = self.inner.drain(timeout).await;
        self.stop();
        self.inner.journal.close().await?;
        sent?;
        self.inner.objects.close().await?;
        // What stays says that it was sent.
        let _ = remove_log(&*self.inner.fs);
        Ok(())
    }

    async fn drain(&self, timeout: Duration) -> Result<()> {
        self.inner.drain(timeout).await
    }

    fn unsent(&self) -> Option<Unsent> {
        Some(self.inner.unsent())
    }

    fn waits(&self) -> bool {
        false
    }

    fn status(&self) -> WalStatus {
        // What arrives meanwhile counts twice: not at all, and whoever asks would miss that a checkpoint is due.
        let waiting = held(&self.inner.waiting).bytes;
        let (objects, journal) = (self.inner.objects.status(), self.inner.journal.status());
        WalStatus {
            bytes: objects.bytes + waiting,
            syncs: journal.syncs,
            durable: journal.durable,
            ..objects
        }
    }

    fn metrics(&self) -> Arc<WalMetrics> {
        self.inner.journal.metrics()
    }
}
