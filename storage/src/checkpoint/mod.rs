//! Checkpoint: hot rows become segments, hot deletes become deletion vectors, a manifest describes the result.
//!
//! Owns: the order of the steps and what a table's flush writes (`flush`). Does not own: when it runs (`database`), bytes.
//!
//! Order, each step durable before the next: (1) cut: everything accepted is logged, the log goes on in a new file, hot rows get a
//! border; (2) segments and `.deletes` objects; (3) the manifest; (4) the new layout is published in the commit order; (5) log
//! files before the cut are removed, and in a directory objects that no manifest in use names any more. A crash between any two
//! leaves a state that replay makes whole. Readers and writers are held up only by (1) and (4), which move pointers.

mod flush;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::database::boundary::Boundary;
use crate::database::{Database, Writer};
use crate::error::{ErrorKind, Result};
use crate::id::{CommitId, CommitVersion, Epoch, ManifestNumber, ObjectId, TableId, WalNumber};
use crate::jobs::{JobKind, NewJob};
use crate::manifest::history::Recorded;
use crate::manifest::{Manifest, SegmentEntry, TableRecord, history};
use crate::version::{Pin, TableState, Version};
use flush::Flushed;

/// How long commits are held up while the last of them are sent to the store (durability = 'local').
const LAST_SENT_MAX: Duration = Duration::from_secs(5);

/// Why a checkpoint runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CheckpointReason {
    /// CHECKPOINT
    Statement,
    /// The log or the memtable has grown enough.
    WalBytes,
    /// `checkpoint_interval`
    Interval,
    /// Nothing was committed for a while.
    Idle,
    /// Segments were compacted.
    Compaction,
    /// The one before failed.
    Retry,
    /// The database is being closed.
    Close,
    /// The newest manifest or the log is damaged, and is written anew whatever has changed.
    Repair,
}

impl CheckpointReason {
    /// As shown in receipts and jobs.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Statement => "statement",
            Self::WalBytes => "wal_bytes",
            Self::Interval => "interval",
            Self::Idle => "idle",
            Self::Compaction => "compaction",
            Self::Retry => "retry",
            Self::Close => "close",
            Self::Repair => "repair",
        }
    }
}

/// What a checkpoint did.
#[derive(Clone, Debug)]
pub struct CheckpointReceipt {
    /// Whether there was anything to do.
    pub triggered: bool,
    /// Why it ran.
    pub reason: CheckpointReason,
    /// Every commit up to here is in segments.
    pub version: CommitVersion,
    /// The newest manifest.
    pub manifest: ManifestNumber,
    /// Segments written.
    pub segments: u64,
    /// Rows written.
    pub rows: u64,
    /// Deletes moved into deletion vectors.
    pub deletes: u64,
    /// Bytes of all objects written.
    pub bytes: u64,
    /// How long it took.
    pub duration: Duration,
}

/// Runs one checkpoint as a job; a second one waits for the first.
///
/// # Errors
/// Storage errors; nothing is published then.
pub(crate) async fn run(database: &Arc<Database>, reason: CheckpointReason) -> Result<CheckpointReceipt> {
    let begun = Instant::now();
    let writer = database.writer()?;
    if let Some(error) = writer.order.poisoned() {
        return Err(error);
    }
    let mut newest = writer.manifest.lock().await;
    let mut receipt = CheckpointReceipt {
        triggered: false,
        reason,
        version: CommitVersion(0),
        manifest: newest.as_ref().map_or(ManifestNumber(0), |m| m.number),
        segments: 0,
        rows: 0,
        deletes: 0,
        bytes: 0,
        duration: Duration::ZERO,
    };
    writer.order.settle_all().await;
    // Its number alone: a version that is held keeps objects.
    let published = writer.order.published().number;
    let described = newest.as_ref().map_or(CommitVersion(0), |m| m.version);
    if described == published && reason != CheckpointReason::Repair {
        receipt.version = published;
        receipt.duration = begun.elapsed();
        return Ok(receipt);
    }
    let job = database.jobs.begin(NewJob {
        kind: JobKind::Checkpoint,
        table: None,
        parameters: format!("reason={}", reason.as_str()),
        asked: matches!(
            reason,
            CheckpointReason::Statement | CheckpointReason::Close | CheckpointReason::Repair
        ),
    });
    let meter = database.jobs.meter(job);
    let result = meter.of(checkpoint(database, writer, newest.as_deref(), job, &mut receipt)).await;
    let truncated = match result {
        Ok((manifest, truncated)) => {
            // What stays is found by the next checkpoint that looks.
            let _ = crate::collect::sweep(database, writer, &manifest, receipt.deletes > 0).await;
            *newest = Some(Arc::new(manifest));
            truncated
        }
        Err(error) => Err(error),
    };
    database.job_ended(JobKind::Checkpoint, database.jobs.end(job, &truncated));
    truncated?;
    receipt.triggered = true;
    receipt.duration = begun.elapsed();
    Ok(receipt)
}

async fn checkpoint(
    database: &Arc<Database>,
    writer: &Writer,
    previous: Option<&Manifest>,
    job: u64,
    receipt: &mut CheckpointReceipt,
) -> Result<(Manifest, Result<()>)> {
    // Before the cut: the commits of all work that has ended by now are in it. What is written here has ids from there on.
    let settled = writer.uploads.low_water(&writer.ids);
    // A manifest mentions only what is in the log for everybody (durability = 'local'); nobody is held up by this wait.
    writer.order.drain(database.options().commit_timeout).await?;
    // Until here it can be cancelled (ADR 8).
    database.jobs.stop(job).go_firm()?;
    let options = database.options();
    let (version, replay_from) = cut(writer, LAST_SENT_MAX + 2 * options.wal_flush_interval).await?;
    let mut flushed: BTreeMap<TableId, Flushed> = BTreeMap::new();
    let tables: Vec<&Arc<TableState>> = version.tables.values().filter(|t| t.is_hot()).collect();
    for (i, table) in tables.iter().enumerate() {
        let done = match flush::table(database, writer, table, version.number).await {
            Ok(done) => done,
            Err(error) => {
                remove(database, &flushed).await;
                return Err(error);
            }
        };
        receipt.segments += done.segments_written;
        receipt.rows += done.rows;
        receipt.deletes += done.deletes;
        receipt.bytes += done.bytes;
        flushed.insert(table.def.id, done);
        database.jobs.progress(job, (i + 1) as f64 / (tables.len() + 1) as f64, receipt.rows, receipt.bytes);
    }
    // A leaf of the one before may be what is damaged.
    let reuses = receipt.reason != CheckpointReason::Repair;
    let made =
        publishable(database, writer, previous, &version, replay_from, settled, &flushed, reuses).await;
    let mut manifest = match made {
        Ok(manifest) => manifest,
        Err(error) => {
            remove(database, &flushed).await;
            return Err(error);
        }
    };
    let (first, commits) = writer.order.ids_up_to(version.number);
    let before = previous.map_or(&[][..], |before| before.history.as_slice());
    // Told before the object is written, which is no older.
    manifest.history = history::marks(before, first, options.clock.now_us());
    let store = &*database.shared.store;
    if let Err(error) = history::put(store, manifest.number, first, &commits).await {
        remove(database, &flushed).await;
        return Err(error);
    }
    // Before the order forgets them.
    writer.known.add(manifest.number, &commits, database.options().clock.now_us());
    let deadline = match database.shared.remote {
        true => tokio::time::Instant::now() + database.options().commit_timeout,
        false => tokio::time::Instant::now(),
    };
    if let Err((error, may_stand)) = database.manifests.write_settled(&manifest, previous, deadline).await {
        let is_full = error.kind() == ErrorKind::ResourceExhausted;
        let passes = is_full || matches!(error.kind(), ErrorKind::Unavailable | ErrorKind::PermissionDenied);
        // Where it may stand all the same, going on could write a second one under its number. A new open decides.
        if may_stand || !passes || (is_full && database.manifests.read(manifest.number).await.is_ok()) {
            writer.order.poison(&error);
        } else {
            remove(database, &flushed).await;
        }
        return Err(error);
    }
    receipt.version = version.number;
    receipt.manifest = manifest.number;
    let driving = writer.order.driving().await;
    let pin = Pin::new(manifest.number);
    database.shared.pins.hold(&pin);
    let recorded = Arc::new(Recorded::of(&manifest));
    driving.relayout(|now| relaid(now, &flushed, version.number, &recorded, &pin));
    writer.order.forget_ids_up_to(version.number);
    // The manifest stands whether or not the files before it could be removed.
    let truncated = driving.wal().truncate(replay_from).await;
    drop(driving);
    if database.shared.remote {
        // A hint: who opens without it searches a little longer.
        let _ = Boundary::raise(store, Boundary::at_least(manifest.database_id, manifest.number)).await;
    } else {
        // What stays is asked for again at the next checkpoint.
        let _ = history::prune(store, database.options().clock.now_us()).await;
    }
    Ok((manifest, truncated))
}

/// Step 1: the state to write, and where replay begins after it.
async fn cut(writer: &Writer, last_sent_max: Duration) -> Result<(Arc<Version>, WalNumber)> {
    let driving = writer.order.driving().await;
    let version = driving.cut().await?;
    // What came since the caller has waited; commits wait for it. A border that no checkpoint uses does no harm.
    driving.wal().drain(last_sent_max).await?;
    // Rotation syncs: the log is durable through `version` before any manifest mentions it.
    match driving.wal().rotate(version.number.next()).await {
        Ok(number) => Ok((version, number)),
        Err(error) => {
            if error.kind() != ErrorKind::ResourceExhausted {
                writer.order.poison(&error);
            }
            Err(error)
        }
    }
}

#[expect(clippy::too_many_arguments, reason = "what a manifest is made of")]
async fn publishable(
    database: &Database,
    writer: &Writer,
    previous: Option<&Manifest>,
    version: &Version,
    replay_from: WalNumber,
    settled: ObjectId,
    flushed: &BTreeMap<TableId, Flushed>,
    reuses_leaves: bool,
) -> Result<Manifest> {
    let mut tables = Vec::new();
    for (id, table) in &version.tables {
        let segments = flushed.get(id).map_or(table.segments.as_slice(), |f| f.segments.as_slice());
        let entries: Vec<SegmentEntry> = segments
            .iter()
            .map(|s| SegmentEntry {
                segment: Arc::clone(&s.meta),
                deletes: s.delete_objects.clone(),
                dropped_at: s.dropped_at,
            })
            .collect();
        let before = previous
            .filter(|_| reuses_leaves)
            .and_then(|m| m.tables.iter().find(|t| t.def.id == *id))
            .map(|t| &t.segments);
        tables.push(TableRecord {
            def: Arc::clone(&table.def),
            flushed: version.number,
            next_row_id: table.next_row_id,
            numbered: table.numbered,
            segments: database.manifests.store_segments(entries, before, &writer.ids).await?,
            units: table.units.to_vec(),
            dropped_at: table.dropped_at,
        });
    }
    Ok(Manifest {
        number: previous.map_or(ManifestNumber(1), |m| m.number.next()),
        database_id: database.id(),
        epoch: writer.epoch,
        commit_id: CommitId::random(),
        version: version.number,
        time_us: version.time_us,
        replay_from,
        replay_epoch: if database.shared.remote { writer.epoch } else { Epoch(0) },
        is_claim: false,
        horizon: previous.map_or(version.horizon, |m| m.horizon.max(version.horizon)),
        next_table_id: version.next_table_id,
        settled: Some(settled),
        history: Vec::new(),
        catalog: version.catalog.to_record(),
        tables,
    })
}

/// Step 4 as a pure function: what was hot at or before `cut` is in segments.
fn relaid(
    now: &Version,
    flushed: &BTreeMap<TableId, Flushed>,
    cut: CommitVersion,
    recorded: &Arc<Recorded>,
    pin: &Pin,
) -> Version {
    let mut next = now.clone();
    next.manifest = recorded.manifest();
    next.recorded = Arc::clone(recorded);
    next.pin = pin.clone();
    for (id, table) in &now.tables {
        // A table created after the cut has nothing in this manifest.
        if table.flushed >= cut {
            continue;
        }
        let state = match flushed.get(id) {
            Some(done) => table.relaid(&done.segments, &done.def, cut),
            None => table.relaid(&[], &table.def, cut),
        };
        next.tables.insert(*id, Arc::new(state));
    }
    next
}

/// Best effort: what stays is referenced by nothing and is found by VERIFY as an orphan.
async fn remove(database: &Database, flushed: &BTreeMap<TableId, Flushed>) {
    for path in flushed.values().flat_map(|f| &f.written) {
        let _ = object_store::ObjectStoreExt::delete(
            &*database.shared.store,
            &object_store::path::Path::from(path.as_str()),
        )
        .await;
    }
}
