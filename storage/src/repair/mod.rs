//! REPAIR: what VERIFY has found is made good, or put aside with a report of what is gone. Never without being asked.
//!
//! Owns: what follows from which finding (`plan`), reading what is left of a segment (`salvage`), taking its place in the table
//! (`publish`), databases that do not open (`offline`). Does not own: the checks (`verify`), merges (`compact`), builds (`index`), what
//! may be removed (`collect`).
//!
//! # Order (ADR 30)
//! 1. Segments: what is whole but for statistics, key filter or deletes is written anew by a merge of it alone. Of others every row that can be read goes
//!    into a table of its own below `lost_and_found`; its objects are copied to `lost_and_found/`; one commit makes that table and takes the segment away.
//! 2. A damaged manifest or log: the log is copied to `lost_and_found/`, then a checkpoint writes both anew from memory. In a directory the
//!    damaged manifest then stands again as it was, or, when nobody knows what it said, a mark in its place: no number may be missing.
//! 3. Index units are built again, and objects that nothing names are collected.
//!
//! Each step is durable before the next and leaves a database that opens; a repair that was cut off is begun again from what VERIFY
//! finds then. A dry run reads what a repair would read, and writes nothing.

mod offline;
mod plan;
mod publish;
mod salvage;
#[cfg(test)]
mod tests;

use std::sync::Arc;

use bytes::Bytes;
use futures::TryStreamExt;
use object_store::ObjectStoreExt;
use object_store::path::Path;

pub use offline::{OfflineRepair, repair_offline};
use plan::{Plan, Suspect, TablePlan, is_log, left};
use publish::Removal;

use crate::checkpoint::CheckpointReason;
use crate::collect::CollectReceipt;
use crate::database::Database;
use crate::error::{Error, ErrorKind, Result};
use crate::fs::OpenMode;
use crate::id::{ManifestNumber, TableId};
use crate::manifest::codec::{Mark, encode_manifest, encode_mark};
use crate::manifest::identity::{IDENTITY_PATH, encode_identity};
use crate::manifest::store::manifest_path;
use crate::verify::{Depth, Finding, VerifyScope};
use crate::version::{OWN_SCHEMA, SegmentState, TableSnapshot};
use crate::wal::CommitInfo;

/// The schema of tables with salvaged rows, and the folder of objects that were put aside.
pub const LOST_AND_FOUND: &str = "lost_and_found";

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

    /// Reads all of a segment.
    async fn probe(&self, table: TableId, suspect: &Suspect) -> Result<Probed> {
        let snapshot = self.database.snapshot();
        let Some(table) = snapshot.table(table) else { return Ok(Probed::Gone) };
        let Some(segment) = table.state().segments.iter().find(|s| s.meta.id == suspect.segment) else {
            return Ok(Probed::Gone);
        };
        // What is deleted in it nobody knows any more: its rows can't stay where they would be seen.
        if segment.damaged.is_some() {
            return Ok(Probed::Lost);
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
                put_aside(self.database, IDENTITY_PATH).await?;
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
                    return Ok(true);
                }
                // No checkpoint removes older ones meanwhile: where they are gone, a mark alone would be taken for the newest.
                let _newest = self.database.writer()?.manifest.lock().await;
                if self.database.swept.has_removed(*number) {
                    return Ok(false);
                }
                let mark = Mark { number: *number, database_id: self.database.id() };
                stand_again(self.database, *number, encode_mark(mark)?).await?;
                Ok::<_, Error>(true)
            };
            let row = match done.await {
                Ok(false) => {
                    left(finding, "it was removed meanwhile, with those before it; nothing reads it")
                }
                Ok(true) => {
                    let detail =
                        format!("a newer manifest stands, and nothing reads this one; {}", finding.detail);
                    Repair::new(&finding.object, ACTION, RepairStatus::of(self.dry_run), detail)
                        .with_hint(format!("what stood there is kept as {}", aside(&finding.object)))
                }
                Err(error) => Repair::failed(&finding.object, ACTION, &error),
            };
            self.rows.push(row);
        }
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

/// Where a copy of an object that is taken away stands.
fn aside(path: &str) -> Path {
    Path::from(format!("{LOST_AND_FOUND}/{path}"))
}

/// Copies an object aside, as it is; nothing when it is not there.
async fn put_aside(database: &Database, path: &str) -> Result<bool> {
    let store = &database.shared.store;
    match store.copy(&Path::from(path), &aside(path)).await {
        Ok(()) => Ok(true),
        Err(object_store::Error::NotFound { .. }) => Ok(false),
        Err(error) => Err(error.into()),
    }
}

/// Puts bytes in place of a manifest that is damaged or gone, a copy of what stood there aside.
async fn stand_again(database: &Database, number: ManifestNumber, bytes: Bytes) -> Result<()> {
    let path = manifest_path(number);
    put_aside(database, &path).await?;
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
            .map_err(|e| Error::io(format!("writing {path}"), e)),
        None => {
            database.shared.store.put(&Path::from(path), bytes.into()).await?;
            Ok(())
        }
    }
}

async fn put_aside_folder(database: &Database, folder: &str) -> Result<()> {
    let mut objects = database.shared.store.list(Some(&Path::from(folder)));
    while let Some(object) = objects.try_next().await? {
        put_aside(database, object.location.as_ref()).await?;
    }
    Ok(())
}
