//! Collecting: objects that nobody can need any more are deleted, from an object store as a job of its own, from a directory after
//! checkpoints (`local`).
//!
//! Owns: the order of the steps ([`run`]), what is needed (`live`), what follows from it (`plan`), paths (`name`), the marks of
//! open work (`uploads`). Does not own: when it runs (`database`).
//!
//! # Order
//! 1. manifests are listed; the newest that was published a reader grace ago is chosen, and read: it tells what is needed;
//! 2. everything else is listed and judged;
//! 3. the newest manifest is looked for again: if a later writer claimed the database, nothing is deleted;
//! 4. the boundary is raised to the manifest that was chosen, so that nobody takes a number below it for one that was never used;
//! 5. what was judged dead is deleted.
//!
//! A listing only proposes what to delete (D11): what it does not show stays, and what it shows was judged by a manifest that was
//! read. It can be interrupted anywhere, and a writer that has been fenced between (3) and (5) does no harm: what is
//! dead by that manifest is dead for every later state, and claims and fences are never deleted.

mod live;
mod local;
mod name;
mod plan;
mod uploads;

#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, HashMap};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use futures::StreamExt;
use object_store::ObjectStore;
use object_store::path::Path;

pub(crate) use live::{Named, Retained, Roots, leaves};
pub(crate) use local::{Swept, oldest_kept, sweep, sweep_all};
pub use name::ObjectKind;
pub(crate) use name::{LEAVES, ObjectName};
pub(crate) use plan::{HISTORY_KEPT, Listed, PROBE_KEPT, is_older};
pub(crate) use uploads::{UploadGuard, Uploads};

use crate::database::boundary::Boundary;
use crate::database::{Database, Writer};
use crate::error::{Error, ErrorKind, Result};
use crate::id::{ManifestNumber, TableId};
use crate::jobs::Stop;
use crate::manifest::store::manifest_path;
use plan::{Ages, Bounds, Dead, Plan, fenced, first_kept};

/// Folders of what is collected.
pub(crate) const FOLDERS: &[&str] = &["table", MANIFESTS, "wal", "history", "probe"];
const MANIFESTS: &str = "manifest";
/// Objects in one request to delete; S3 takes no more.
const BATCH: usize = 1_000;

/// What a collection deleted.
#[derive(Clone, Debug, Default)]
pub struct CollectReceipt {
    /// By kind; a kind of which nothing was deleted is absent.
    pub collected: Vec<Collected>,
    /// Whether there is more to delete: one collection takes so many objects only.
    pub more: bool,
    /// The oldest manifest that is kept, claims and manifests of retained versions apart; None: none is old enough to choose by.
    pub oldest: Option<ManifestNumber>,
    /// How long it took.
    pub duration: Duration,
}

/// Objects of one kind.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Collected {
    /// What they were.
    pub kind: ObjectKind,
    /// How many.
    pub objects: u64,
    /// Their bytes.
    pub bytes: u64,
}

impl CollectReceipt {
    /// All objects deleted.
    #[must_use]
    pub fn objects(&self) -> u64 {
        self.collected.iter().map(|kind| kind.objects).sum()
    }

    /// Their bytes.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        self.collected.iter().map(|kind| kind.bytes).sum()
    }

    fn count(&mut self, dead: &Dead) {
        let at = match self.collected.binary_search_by_key(&dead.kind, |known| known.kind) {
            Ok(at) => at,
            Err(at) => {
                self.collected.insert(at, Collected { kind: dead.kind, objects: 0, bytes: 0 });
                at
            }
        };
        self.collected[at].objects += 1;
        self.collected[at].bytes += dead.bytes;
    }
}

/// One collection, of one table's objects where that is given, for job `job`. `roots` is what earlier ones of this process remember. The caller sees to it that there is only one
/// at a time, and that the root is in an object store.
///
/// # Errors
/// `ReadOnly` on a reader, `Fenced` when a later writer is found (this one's commits then fail too), `Cancelled` once `stopped` is set,
/// the log's error when it has failed, the store's. What was deleted by then was dead.
pub(crate) async fn run(
    database: &Database,
    roots: &mut Roots,
    retained: &Retained,
    table: Option<TableId>,
    stopped: &AtomicBool,
    job: u64,
) -> Result<CollectReceipt> {
    let begun = Instant::now();
    let writer = database.writer()?;
    if let Some(error) = writer.order.poisoned() {
        return Err(error);
    }
    let collection = Collection { database, writer, table, stopped, stop: database.jobs.stop(job) };
    let done = collection.run(roots, retained, job).await;
    if let Err(error) = &done
        && error.kind() == ErrorKind::Fenced
    {
        writer.order.poison(error);
        database.shared.may_expire.store(true, Ordering::Relaxed);
    }
    done.map(|receipt| CollectReceipt { duration: begun.elapsed(), ..receipt })
}

struct Collection<'a> {
    database: &'a Database,
    writer: &'a Writer,
    table: Option<TableId>,
    stopped: &'a AtomicBool,
    stop: Stop,
}

impl Collection<'_> {
    async fn run(&self, roots: &mut Roots, retained: &Retained, job: u64) -> Result<CollectReceipt> {
        let manifests = self.listed_manifests().await?;
        let published: BTreeMap<ManifestNumber, i64> = manifests.iter().filter_map(number_and_time).collect();
        roots.keep(&published);
        let bounds = self.bounds(roots, &published, retained).await?;
        let mut plan = Plan::default();
        match self.table {
            Some(table) => self.judge(&table_folder(table), &bounds, &mut plan).await?,
            None => {
                for object in manifests {
                    plan.consider(object, &bounds)?;
                }
                for folder in FOLDERS.iter().filter(|folder| **folder != MANIFESTS) {
                    self.judge(folder, &bounds, &mut plan).await?;
                }
            }
        }
        let listed = published.last_key_value().map_or(ManifestNumber(0), |(number, _)| *number);
        let newest = self.newest(listed).await?;
        let oldest = bounds.start.as_ref().map(|start| start.manifest);
        if let Some(oldest) = oldest
            && !plan.dead.is_empty()
        {
            let database_id = self.database.id();
            Boundary::raise(self.store(), Boundary { database_id, oldest, newest }).await?;
            self.database.shared.pins.give_up_before(oldest);
        }
        let mut receipt = CollectReceipt { more: plan.is_full(), oldest, ..CollectReceipt::default() };
        self.delete(&plan, job, &mut receipt).await?;
        Ok(receipt)
    }

    fn store(&self) -> &dyn ObjectStore {
        &*self.database.shared.store
    }

    fn go_on(&self) -> Result<()> {
        if self.stopped.load(Ordering::Acquire) {
            return Err(closed());
        }
        self.stop.check()
    }

    async fn listed_manifests(&self) -> Result<Vec<Listed>> {
        let mut listed = Vec::new();
        let mut objects = self.store().list(Some(&Path::from(MANIFESTS)));
        while let Some(object) = objects.next().await {
            self.go_on()?;
            listed.push(Listed::from(object?));
        }
        Ok(listed)
    }

    async fn bounds(
        &self,
        roots: &mut Roots,
        published: &BTreeMap<ManifestNumber, i64>,
        retained: &Retained,
    ) -> Result<Bounds> {
        let Self { database, writer, .. } = self;
        let options = database.options();
        let boundary = Boundary::read(self.store()).await?;
        let oldest = boundary.map_or(ManifestNumber(1), |(boundary, _)| boundary.oldest);
        let (now_us, grace) = (options.clock.now_us(), options.reader_grace);
        let before =
            |span: Duration| now_us.saturating_sub(i64::try_from(span.as_micros()).unwrap_or(i64::MAX));
        let ages = Ages {
            oldest,
            grace_us: before(grace),
            retention_us: before(options.version_retention),
            pinned: database.shared.pins.oldest(),
        };
        let mut start = None;
        if let Some(first) = first_kept(published, &ages) {
            let mut facts = roots.start(&database.manifests, published, (first, oldest), retained).await?;
            // It follows from the rest; were it wrong, what commits have named would stay all the same.
            facts.named.add_version(&writer.order.head());
            facts.named.add_version(&writer.order.published());
            start = Some(facts);
        }
        Ok(Bounds { epoch: writer.epoch, now_us, grace, start })
    }

    async fn judge(&self, folder: &str, bounds: &Bounds, plan: &mut Plan) -> Result<()> {
        let mut objects = self.store().list(Some(&Path::from(folder)));
        while !plan.is_full()
            && let Some(object) = objects.next().await
        {
            self.go_on()?;
            plan.consider(Listed::from(object?), bounds)?;
        }
        Ok(())
    }

    /// The newest manifest's number, if it is this writer's.
    async fn newest(&self, listed: ManifestNumber) -> Result<ManifestNumber> {
        let (ours, hint) = (self.writer.epoch, self.writer.order.published().manifest.max(listed));
        match self.database.manifests.newest(hint).await? {
            Some(newest) if newest.epoch > ours => {
                Err(fenced(ours, newest.epoch)
                    .with_detail(format!("it wrote {}", manifest_path(newest.number))))
            }
            Some(newest) if newest.epoch == ours => Ok(newest.number),
            Some(_) | None => Err(Error::corrupt(
                "the newest manifest",
                format!("the claim of this writer, whose epoch is {ours}, is not there"),
            )
            .with_hint("nothing was deleted; run VERIFY")),
        }
    }

    async fn delete(&self, plan: &Plan, job: u64, receipt: &mut CollectReceipt) -> Result<()> {
        for batch in plan.dead.chunks(BATCH) {
            self.go_on()?;
            let mut waiting: HashMap<&Path, &Dead> = HashMap::new();
            let mut paths: Vec<object_store::Result<Path>> = Vec::new();
            for dead in batch {
                waiting.insert(&dead.location, dead);
                paths.push(Ok(dead.location.clone()));
            }
            let mut failed = None;
            let mut answers = self.store().delete_stream(futures::stream::iter(paths).boxed());
            while let Some(answer) = answers.next().await {
                match answer {
                    Ok(path) => {
                        if let Some(dead) = waiting.remove(&path) {
                            receipt.count(dead);
                        }
                    }
                    // Gone is gone.
                    Err(object_store::Error::NotFound { .. }) => {}
                    Err(error) => failed = Some(error),
                }
            }
            let done = receipt.objects();
            let share = done as f64 / plan.dead.len() as f64;
            self.database.jobs.progress(job, share, done, receipt.bytes());
            if let Some(error) = failed {
                return Err(error.into());
            }
        }
        Ok(())
    }
}

/// Where objects of a table are.
fn table_folder(table: TableId) -> String {
    format!("table/{table}")
}

/// The error of a collection that is stopped or comes too late.
pub(crate) fn closed() -> Error {
    Error::new(ErrorKind::Cancelled, "the database is closed")
}

fn number_and_time(object: &Listed) -> Option<(ManifestNumber, i64)> {
    match ObjectName::of(object.location.as_ref())? {
        ObjectName::Manifest(number) => Some((number, object.modified_us)),
        ObjectName::Made(..) | ObjectName::Wal(_) | ObjectName::History(_) | ObjectName::Probe => None,
    }
}
