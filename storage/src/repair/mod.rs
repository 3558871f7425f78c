//! REPAIR: what VERIFY has found is made good, or put aside with a report of what is gone. Never without being asked.
//!
//! Owns: what follows from which finding (`plan`), reading what is left of a segment (`salvage`), taking its place in the table
//! (`publish`), databases that do not open (`offline`). Does not own: the checks (`verify`), merges (`compact`), builds (`index`), what
//! may be removed (`collect`).
//!
//! # Order (ADR 30)
//! 1. Segments: where not more than a byte of a block is wrong, its checksum tells which one, and the object is put back as it was written (ADR 45).
//!    What is whole but for statistics, key filter or deletes is written anew by a merge of it alone. Of others every row that can be read goes
//!    into a table of its own below `lost_and_found`; its objects are copied to `lost_and_found/`; one commit makes that table and takes the segment away.
//! 2. A damaged manifest or log: the log is copied to `lost_and_found/`, then a checkpoint writes both anew from memory. In a directory the
//!    damaged manifest then stands again as it was, or, when nobody knows what it said, a mark in its place: no number may be missing.
//! 3. Where ids of commits can't be read any more, an object of ids that nobody has takes their place: else no id could be called unknown. Which commits
//!    these are its manifest and the one before it tell, or where one was collected, the objects of ids before and after it.
//! 4. Index units are built again, and objects that nothing names are collected.
//!
//! Each step is durable before the next and leaves a database that opens; a repair that was cut off is begun again from what VERIFY
//! finds then. A dry run reads what a repair would read, and writes nothing.

mod offline;
mod plan;
mod publish;
mod salvage;
#[cfg(test)]
mod tests;

use std::collections::HashSet;
use std::ops::Range;
use std::sync::Arc;

use bytes::Bytes;
use futures::TryStreamExt;
use object_store::path::Path;
use object_store::{ObjectStore, ObjectStoreExt};

pub use offline::{OfflineRepair, repair_offline};
use plan::{Plan, Suspect, TablePlan, is_log, left};
use publish::Removal;

use crate::checkpoint::CheckpointReason;
use crate::collect::CollectReceipt;
use crate::database::Database;
use crate::error::{Error, ErrorKind, Result};
use crate::fs::OpenMode;
use crate::id::{CommitId, CommitVersion, ManifestNumber, ObjectId, TableId};
use crate::manifest::Manifest;
use crate::manifest::codec::{Mark, encode_manifest, encode_mark};
use crate::manifest::history::{self, history_path};
use crate::manifest::identity::{IDENTITY_PATH, encode_identity};
use crate::manifest::store::manifest_path;
use crate::object::read_object;
use crate::segment::SegmentMeta;
use crate::segment::reader::{is_damage, mended};
use crate::verify::{Depth, Finding, VerifyScope};
use crate::version::{OWN_SCHEMA, SegmentState, TableSnapshot};
use crate::wal::CommitInfo;

/// The schema of tables with salvaged rows, and the folder of objects that were put aside.
pub const LOST_AND_FOUND: &str = "lost_and_found";
/// Bytes of two objects that are compared at a time.
const COMPARED_BYTES: u64 = 4 << 20;

/// How one action of a repair ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RepairStatus {
    /// A dry run: it would be done.
    Planned,
    /// It is done, and durable.
    Done,
    /// It could not be done; nothing was changed by it.
    Failed,
    /// Nothing can or need be done here; see the hint.
    Left,
}

impl RepairStatus {
    /// As shown.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Planned => "planned",
            Self::Done => "done",
            Self::Failed => "failed",
            Self::Left => "left",
        }
    }

    /// Of an action that a dry run only names.
    fn of(dry_run: bool) -> Self {
        if dry_run { Self::Planned } else { Self::Done }
    }
}

/// One action of a repair.
#[derive(Clone, Debug)]
pub struct Repair {
    /// Path of the object below the root, or the table's name.
    pub object: String,
    /// What is done about it.
    pub action: String,
    /// How that ended.
    pub status: RepairStatus,
    /// What was found, what is gone.
    pub detail: String,
    /// The next step; empty when there is nothing to do.
    pub hint: String,
}

impl Repair {
    fn new(object: impl Into<String>, action: &str, status: RepairStatus, detail: impl Into<String>) -> Self {
        let (object, detail) = (object.into(), detail.into());
        Self { object, action: action.to_owned(), status, detail, hint: String::new() }
    }

    fn with_hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = hint.into();
        self
    }

    /// With where what stood there is; None: nothing did.
    fn with_kept(self, kept: Option<Path>) -> Self {
        match kept {
            Some(kept) => self.with_hint(format!("what stood there is kept as {kept}")),
            None => self,
        }
    }

    fn failed(object: impl Into<String>, action: &str, error: &Error) -> Self {
        let hint = error.hint().unwrap_or("nothing was changed by this; VERIFY again").to_owned();
        Self::new(object, action, RepairStatus::Failed, error.message()).with_hint(hint)
    }

    /// Whether something is still missing or damaged after it.
    #[must_use]
    pub fn is_open(&self) -> bool {
        self.status == RepairStatus::Failed
    }
}

impl Database {
    /// Checks what `scope` names and repairs what it finds; one row per action, none when all is well. `info` says who asks: it stands with the commits.
    /// With `dry_run` nothing at all is written, and the rows say what would be done.
    ///
    /// # Errors
    /// `ReadOnly` on a follower that is to repair, and what keeps the checks from running; an action that fails is a row.
    pub async fn repair(
        self: &Arc<Self>,
        scope: VerifyScope,
        dry_run: bool,
        info: CommitInfo,
    ) -> Result<Vec<Repair>> {
        if !dry_run {
            if self.follows() {
                self.claim().await?;
            }
            self.check_writable()?;
        }
        let database = Arc::clone(self);
        // In a task of its own: a caller that goes away leaves the repair to end.
        tokio::spawn(
            async move { Work { database: &database, dry_run, info, rows: Vec::new() }.run(scope).await },
        )
        .await
        .map_err(|e| Error::internal(format!("a repair ended early: {e}")))?
    }
}

/// One repair.
struct Work<'a> {
    database: &'a Arc<Database>,
    dry_run: bool,
    info: CommitInfo,
    rows: Vec<Repair>,
}

impl Work<'_> {
    async fn run(mut self, scope: VerifyScope) -> Result<Vec<Repair>> {
        let findings = crate::verify::run(self.database, scope, Depth::Deep).await?.rows;
        let plan = Plan::of(self.database.snapshot().state(), &findings);
        for table in &plan.tables {
            self.table(table).await;
        }
        self.identity(&plan).await;
        self.written_anew(&plan).await;
        self.older(&plan).await;
        self.histories(&plan).await;
        for table in &plan.tables {
            self.units(table).await;
        }
        self.orphans(&plan, scope).await;
        self.rows.extend(plan.left);
        Ok(self.rows)
    }

    async fn table(&mut self, plan: &TablePlan) {
        let mut lost = Vec::new();
        for suspect in &plan.suspects {
            if suspect.itself {
                match self.mend(plan.table, suspect).await {
                    Ok(Some(row)) => {
                        self.rows.push(row);
                        // What stands beside it is looked at with the object that is right.
                        if !suspect.beside || self.dry_run {
                            continue;
                        }
                    }
                    Ok(None) => {}
                    Err(error) => {
                        self.rows.push(Repair::failed(&suspect.path, "mend", &error));
                        continue;
                    }
                }
            }
            match self.probe(plan.table, suspect).await {
                Ok(Probed::Whole) => self.rewrite(plan, suspect).await,
                Ok(Probed::Lost) => lost.push(suspect),
                Ok(Probed::Gone) => {}
                Err(error) => self.rows.push(Repair::failed(&suspect.path, "read", &error)),
            }
        }
        if !lost.is_empty() {
            self.salvage(plan.table, &lost).await;
        }
    }

    /// Puts a segment's object back as it was written, where its checksums tell what that was; None: they don't.
    async fn mend(&self, table: TableId, suspect: &Suspect) -> Result<Option<Repair>> {
        const ACTION: &str = "mend";
        let (shared, path) = (&self.database.shared, Path::from(suspect.path.as_str()));
        let Some(meta) = self.meta(table, suspect.segment) else { return Ok(None) };
        let found = match read_object(&*shared.past_cache(), &path, None).await.map_err(Error::from) {
            Ok(found) => found,
            Err(error) if is_damage(&error) => return Ok(None),
            Err(error) => return Err(error),
        };
        let computing = self.database.options().computing;
        let Some((bytes, wrong)) = computing.run(move || Ok(mended(&meta, found.into()))).await? else {
            return Ok(None);
        };
        let detail = format!(
            "{wrong} wrong {} again what was written, the hash of the whole object says so; no row is lost; {}",
            if wrong == 1 { "byte is" } else { "bytes are" },
            suspect.what.join("; ")
        );
        let row = Repair::new(&suspect.path, ACTION, RepairStatus::of(self.dry_run), detail);
        if self.dry_run {
            return Ok(Some(row));
        }
        // No compaction takes its place meanwhile.
        let _newest = self.database.writer()?.manifest.lock().await;
        if self.meta(table, suspect.segment).is_none() {
            return Ok(None);
        }
        let kept = put_aside(&*shared.past_cache(), &suspect.path).await?;
        shared.store.put(&path, bytes.into()).await?;
        // What is mapped is the file that was damaged.
        shared.cache.forget(&HashSet::from([suspect.segment]));
        Ok(Some(row.with_kept(kept)))
    }

    /// What is known of a segment; None: it is not in its table any more.
    fn meta(&self, table: TableId, segment: ObjectId) -> Option<Arc<SegmentMeta>> {
        let table = self.database.snapshot().table(table)?;
        let found = table.state().segments.iter().find(|known| known.meta.id == segment)?;
        Some(Arc::clone(&found.meta))
    }

    /// Reads all of a segment.
    async fn probe(&self, table: TableId, suspect: &Suspect) -> Result<Probed> {
        let snapshot = self.database.snapshot();
        let Some(table) = snapshot.table(table) else { return Ok(Probed::Gone) };
        let Some(segment) = table.state().segments.iter().find(|s| s.meta.id == suspect.segment) else {
            return Ok(Probed::Gone);
        };
        // What is deleted in it nobody knows any more: its rows can't stay where they would be seen.
        match &segment.damaged {
            None => {}
            Some(error) if is_damage(error) => return Ok(Probed::Lost),
            Some(error) => return Err(error.clone()),
        }
        let found = salvage::scan(&table, segment, None).await?;
        Ok(if found.lost.is_empty() { Probed::Whole } else { Probed::Lost })
    }

    async fn rewrite(&mut self, plan: &TablePlan, suspect: &Suspect) {
        const ACTION: &str = "write anew";
        let detail = suspect.what.join("; ");
        if self.dry_run {
            let detail = format!("every row can be read; {detail}");
            self.rows.push(Repair::new(&suspect.path, ACTION, RepairStatus::Planned, detail));
            return;
        }
        let row = match self.database.rewrite_segment(plan.table, suspect.segment).await {
            Ok(receipt) => {
                let detail = format!(
                    "{} rows are in {} new segments, none is lost; {detail}",
                    receipt.rows, receipt.segments
                );
                Repair::new(&suspect.path, ACTION, RepairStatus::Done, detail)
            }
            Err(error) => Repair::failed(&suspect.path, ACTION, &error),
        };
        self.rows.push(row);
    }

    /// Takes segments out of a table, with what can be read of them put aside.
    async fn salvage(&mut self, table: TableId, lost: &[&Suspect]) {
        const ACTION: &str = "salvage";
        let Some(table) = self.database.snapshot().table(table) else { return };
        if table.def().schema == OWN_SCHEMA {
            self.rows.extend(lost.iter().map(|suspect| {
                let detail =
                    format!("it is of Cairn's own table {}: {}", table.def().name, suspect.what.join("; "));
                Repair::new(&suspect.path, ACTION, RepairStatus::Left, detail).with_hint(
                    "users and grants are never repaired by guesses: restore the object from a backup",
                )
            }));
            return;
        }
        if self.dry_run {
            for suspect in lost {
                let row = match planned(&table, suspect).await {
                    Ok(row) => row,
                    Err(error) => Repair::failed(&suspect.path, ACTION, &error),
                };
                self.rows.push(row);
            }
            return;
        }
        let ids = lost.iter().map(|suspect| suspect.segment).collect();
        let removal =
            Removal { database: self.database, table: table.def().id, segments: ids, info: &self.info };
        drop(table);
        match removal.run().await {
            Ok(removed) => {
                for gone in removed {
                    let what = lost.iter().find(|s| s.segment == gone.segment).map(|s| s.what.join("; "));
                    self.rows.push(gone.row(RepairStatus::Done, &what.unwrap_or_default()));
                }
            }
            Err(error) => {
                self.rows.extend(lost.iter().map(|suspect| Repair::failed(&suspect.path, ACTION, &error)));
            }
        }
    }

    async fn identity(&mut self, plan: &Plan) {
        const ACTION: &str = "write anew";
        let Some(finding) = &plan.identity else { return };
        let id = self.database.id();
        let written = async {
            if !self.dry_run {
                put_aside(&*self.database.shared.past_cache(), IDENTITY_PATH).await?;
                let bytes = encode_identity(id).to_vec();
                self.database.shared.store.put(&Path::from(IDENTITY_PATH), bytes.into()).await?;
            }
            Ok::<_, Error>(())
        };
        let row = match written.await {
            Ok(()) => {
                let detail = format!("it names database {id} again; {}", finding.detail);
                Repair::new(IDENTITY_PATH, ACTION, RepairStatus::of(self.dry_run), detail)
            }
            Err(error) => Repair::failed(IDENTITY_PATH, ACTION, &error),
        };
        self.rows.push(row);
    }

    /// Manifest and log from memory, where one of them is damaged; and whenever something was changed, so that no manifest names
    /// what was taken away.
    async fn written_anew(&mut self, plan: &Plan) {
        const ACTION: &str = "checkpoint";
        let changed = self.rows.iter().any(|row| row.status == RepairStatus::Done);
        let status = RepairStatus::of(self.dry_run);
        if plan.newest.is_empty() {
            if changed && let Err(error) = self.database.checkpoint(CheckpointReason::Statement).await {
                self.rows.push(Repair::failed("manifest", ACTION, &error));
            }
            return;
        }
        let what: Vec<&str> = plan.newest.iter().map(|finding| finding.detail.as_str()).collect();
        let mut detail =
            format!("manifest and log are written anew from memory, no commit is lost; {}", what.join("; "));
        if !self.dry_run {
            let done = async {
                if plan.newest.iter().any(|finding| is_log(&finding.object)) {
                    put_aside_folder(self.database, "wal").await?;
                }
                let before = self.database.writer()?.manifest.lock().await.clone();
                let receipt = self.database.checkpoint(CheckpointReason::Repair).await?;
                if let Some(before) = before
                    && plan.newest.iter().any(|finding| finding.object == manifest_path(before.number))
                {
                    stand_again(self.database, before.number, encode_manifest(&before)?).await?;
                }
                Ok::<_, Error>(receipt)
            };
            match done.await {
                Ok(receipt) => detail = format!("manifest {}: {detail}", receipt.manifest),
                Err(error) => {
                    self.rows.extend(plan.newest.iter().map(|f| Repair::failed(&f.object, ACTION, &error)));
                    return;
                }
            }
        }
        let row = |finding: &Finding| Repair::new(&finding.object, ACTION, status, detail.clone());
        self.rows.extend(plan.newest.iter().map(row));
    }

    /// Marks in place of older manifests.
    async fn older(&mut self, plan: &Plan) {
        const ACTION: &str = "mark";
        for (number, finding) in &plan.older {
            if self.database.shared.remote {
                self.rows
                    .push(left(finding, "a newer manifest stands; nothing reads this one, and it stays"));
                continue;
            }
            if self.database.manifests.read(*number).await.is_ok() {
                self.rows.push(left(finding, "it can be read, and nothing reads it; please report it"));
                continue;
            }
            let done = async {
                if self.dry_run {
                    return Ok(Some(None));
                }
                // No checkpoint removes older ones meanwhile: where they are gone, a mark alone would be taken for the newest.
                let _newest = self.database.writer()?.manifest.lock().await;
                if self.database.swept.has_removed(*number) {
                    return Ok(None);
                }
                let mark = Mark { number: *number, database_id: self.database.id() };
                let kept = stand_again(self.database, *number, encode_mark(mark)?).await?;
                Ok::<_, Error>(Some(kept))
            };
            let row = match done.await {
                Ok(None) => left(finding, "it was removed meanwhile, with those before it; nothing reads it"),
                Ok(Some(kept)) => {
                    let detail =
                        format!("a newer manifest stands, and nothing reads this one; {}", finding.detail);
                    Repair::new(&finding.object, ACTION, RepairStatus::of(self.dry_run), detail)
                        .with_kept(kept)
                }
                Err(error) => Repair::failed(&finding.object, ACTION, &error),
            };
            self.rows.push(row);
        }
    }

    /// Ids of commits that nobody can tell any more are given up, so that others are known again.
    async fn histories(&mut self, plan: &Plan) {
        const ACTION: &str = "give up";
        for (number, finding) in &plan.histories {
            let row = match self.give_up(*number).await {
                Ok((commits, kept)) => {
                    let detail = match commits.is_empty() {
                        true => format!("no commit was in it alone; {}", finding.detail),
                        false => format!(
                            "the ids of commits {} to {} are lost, and unknown from now on; {}",
                            commits.start,
                            commits.end - 1,
                            finding.detail
                        ),
                    };
                    Repair::new(&finding.object, ACTION, RepairStatus::of(self.dry_run), detail)
                        .with_kept(kept)
                }
                Err(error) => Repair::failed(&finding.object, ACTION, &error),
            };
            self.rows.push(row);
        }
    }

    /// Puts an object of ids that nobody has in place of one that is damaged or missing. Its versions, and where the damaged one is kept.
    async fn give_up(&self, number: ManifestNumber) -> Result<(Range<u64>, Option<Path>)> {
        let versions = self.lost_with(number).await?;
        if self.dry_run {
            return Ok((versions, None));
        }
        let path = history_path(number);
        let kept = put_aside(&*self.database.shared.past_cache(), &path).await?;
        let now_us = self.database.options().clock.now_us();
        let nobodys = versions.clone().map(|_| (CommitId::random(), now_us)).collect::<Vec<_>>();
        let first = CommitVersion(versions.start);
        history::put(&*self.database.shared.store, number, first, &nobodys).await?;
        Ok((versions, kept))
    }

    /// Versions of the commits that were in the object of that number: the manifest before it tells the first, its own the last. Where one was collected
    /// or can't be read, the other objects do.
    async fn lost_with(&self, number: ManifestNumber) -> Result<Range<u64>> {
        let (first, end) = self.between_manifests(number).await?;
        if let (Some(first), Some(end)) = (first, end) {
            return Ok(first..end);
        }
        let recorded = Arc::clone(&self.database.snapshot().state().recorded);
        let held = history::held(&*self.database.shared.store, &recorded).await?;
        let beside = held.between(number, &recorded, self.database.options().clock.now_us());
        let end = end.unwrap_or(beside.end);
        Ok(first.unwrap_or(beside.start).min(end)..end)
    }

    /// The first of the commits that the manifest of that number is the first to hold, and the one behind the last of them, as far as manifests
    /// that can be read tell. Neither when it is a claim, beside which an earlier writer may have left any.
    async fn between_manifests(&self, number: ManifestNumber) -> Result<(Option<u64>, Option<u64>)> {
        let manifests = &self.database.manifests;
        let known = |found: Result<Manifest>| match found {
            Ok(manifest) => Ok(Some(manifest)),
            Err(error) if is_damage(&error) => Ok(None),
            Err(error) => Err(error),
        };
        let manifest = known(manifests.read(number).await)?;
        if manifest.as_ref().is_some_and(|manifest| manifest.is_claim) {
            return Ok((None, None));
        }
        let first = match number.0.checked_sub(1).filter(|before| *before > 0).map(ManifestNumber) {
            None => Some(CommitVersion(0)),
            Some(before) => known(manifests.read(before).await)?.map(|before| before.version),
        };
        let end = manifest.map(|manifest| manifest.version.next().0);
        Ok((first.map(|before| before.next().0), end))
    }

    async fn units(&mut self, plan: &TablePlan) {
        const ACTION: &str = "build again";
        if plan.units.is_empty() {
            return;
        }
        let status = RepairStatus::of(self.dry_run);
        let built = match self.dry_run {
            true => Ok(0),
            false => {
                let units = plan.units.iter().map(|(id, _)| *id).collect();
                self.database.rebuild_units(plan.table, units).await
            }
        };
        for (_, finding) in &plan.units {
            self.rows.push(match &built {
                Ok(_) => {
                    let detail = format!("no row is in it alone; {}", finding.detail);
                    Repair::new(&finding.object, ACTION, status, detail)
                }
                Err(error) => Repair::failed(&finding.object, ACTION, error)
                    .with_hint("searches compare its rows exactly; REINDEX builds it again"),
            });
        }
    }

    async fn orphans(&mut self, plan: &Plan, scope: VerifyScope) {
        const ACTION: &str = "collect";
        let Some(total) = &plan.orphans else { return };
        if self.dry_run {
            let detail = format!("{} that nothing names", total.detail);
            self.rows.push(Repair::new("unreferenced objects", ACTION, RepairStatus::Planned, detail));
            return;
        }
        let table = match scope {
            VerifyScope::Database => None,
            VerifyScope::Table(table) => Some(table),
        };
        self.rows.push(match self.database.vacuum(table).await {
            Ok(receipt) => collected(&receipt),
            Err(error) => Repair::failed("unreferenced objects", ACTION, &error),
        });
    }
}

/// What reading a segment said.
enum Probed {
    /// Every row can be read, and what is deleted in it is known.
    Whole,
    Lost,
    /// It is not in the table any more.
    Gone,
}

async fn planned(table: &TableSnapshot, suspect: &Suspect) -> Result<Repair> {
    let segment: Option<&Arc<SegmentState>> =
        table.state().segments.iter().find(|segment| segment.meta.id == suspect.segment);
    let segment = segment.ok_or_else(|| {
        Error::new(ErrorKind::NotFound, format!("{} is not in its table any more", suspect.path))
    })?;
    let found = salvage::scan(table, segment, None).await?;
    let name = salvage::table_name(table.def(), segment.meta.id);
    Ok(publish::Removed::new(table.def(), segment, &found, Some(name))
        .row(RepairStatus::Planned, &suspect.what.join("; ")))
}

fn collected(receipt: &CollectReceipt) -> Repair {
    let detail = format!("{} objects with {} bytes were removed", receipt.objects(), receipt.bytes());
    let row = Repair::new("unreferenced objects", "collect", RepairStatus::Done, detail);
    match receipt.more {
        true => row.with_hint("somebody may still read others: a later VACUUM removes them"),
        false => row,
    }
}

/// Where the nth copy of an object that is taken away stands.
fn aside(path: &str, number: u32) -> Path {
    match number {
        1 => Path::from(format!("{LOST_AND_FOUND}/{path}")),
        number => Path::from(format!("{LOST_AND_FOUND}/{path}.{number}")),
    }
}

/// Copies an object aside, as it is, and tells where; None: it is not there. What an earlier repair has put there stays. Nobody else
/// puts anything aside meanwhile.
async fn put_aside(store: &dyn ObjectStore, path: &str) -> Result<Option<Path>> {
    let from = Path::from(path);
    let Some(bytes) = length(store, &from).await? else { return Ok(None) };
    let mut number = 1;
    loop {
        let to = aside(path, number);
        let Some(kept) = length(store, &to).await? else {
            return match store.copy(&from, &to).await {
                Ok(()) => Ok(Some(to)),
                // A file of the log, which a checkpoint has removed.
                Err(object_store::Error::NotFound { .. }) => Ok(None),
                Err(error) => Err(error.into()),
            };
        };
        // An attempt that was cut off has kept it.
        if kept == bytes && is_same(store, &from, &to, bytes).await? {
            return Ok(Some(to));
        }
        number += 1;
    }
}

async fn length(store: &dyn ObjectStore, path: &Path) -> Result<Option<u64>> {
    match store.head(path).await {
        Ok(meta) => Ok(Some(meta.size)),
        Err(object_store::Error::NotFound { .. }) => Ok(None),
        Err(error) => Err(error.into()),
    }
}

/// Whether two objects of `bytes` bytes have the same ones.
async fn is_same(store: &dyn ObjectStore, one: &Path, other: &Path, bytes: u64) -> Result<bool> {
    let mut at = 0;
    while at < bytes {
        let range = at..bytes.min(at + COMPARED_BYTES);
        at = range.end;
        let (one, other) =
            futures::try_join!(store.get_range(one, range.clone()), store.get_range(other, range))?;
        if one != other {
            return Ok(false);
        }
    }
    Ok(true)
}

/// Puts bytes in place of a manifest that is damaged or gone, a copy of what stood there aside.
async fn stand_again(database: &Database, number: ManifestNumber, bytes: Bytes) -> Result<Option<Path>> {
    let path = manifest_path(number);
    let kept = put_aside(&*database.shared.past_cache(), &path).await?;
    let file = match &database.shared.files {
        Some(files) => match files.open(&path, OpenMode::Write) {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => None,
            opened => Some(opened.map_err(|e| Error::io(format!("writing {path}"), e))?),
        },
        None => None,
    };
    match file {
        // The same file: readers that stand on it hold its lock.
        Some(file) => file
            .write_at(&bytes, 0)
            .and_then(|()| file.truncate(bytes.len() as u64))
            .and_then(|()| file.sync())
            .map_err(|e| Error::io(format!("writing {path}"), e))?,
        None => {
            database.shared.store.put(&Path::from(path), bytes.into()).await?;
        }
    }
    Ok(kept)
}

async fn put_aside_folder(database: &Database, folder: &str) -> Result<()> {
    let mut objects = database.shared.store.list(Some(&Path::from(folder)));
    while let Some(object) = objects.try_next().await? {
        put_aside(&*database.shared.past_cache(), object.location.as_ref()).await?;
    }
    Ok(())
}
