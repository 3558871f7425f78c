//! Repairing a directory that does not open: identity, manifests, log.
//!
//! Owns: what is looked at and in which order things are put right. Does not own: the files of the log (`wal::file::mend`), tables
//! (`VERIFY REPAIR`, once it opens).
//!
//! It holds the writer's lock, and works where nobody reads along. What no commit is lost by is done when a repair is asked for. What loses
//! commits is done only when that is accepted as well, and is told before: versions behind the first gap of the log, which end with the newest manifest that can be
//! read where the log does not reach from it.
//!
//! # Order, each step durable before the next (ADR 30)
//! 1. `CAIRN`, where it is damaged: a copy of it aside, then the file anew; marks where manifests are missing before newer ones;
//! 2. copies of the log's files and of `history/<n>` aside; where commits are lost, objects that nothing names any more are moved aside: they may hold
//!    the rows of those commits;
//! 3. the log is mended, from its highest number down, and its tip removed;
//! 4. damaged manifests are moved aside, from the highest number down.
//!
//! Until the last step of those that are needed the directory does not open, and what is looked at again says the same: a repair that was cut off is begun again.

use std::sync::Arc;

use futures::TryStreamExt;
use object_store::path::Path;
use object_store::{ObjectStore, ObjectStoreExt};

use super::{LOST_AND_FOUND, Repair, RepairStatus, aside, put_aside};
use crate::collect::{Named, ObjectName, leaves, oldest_kept};
use crate::database::replay::{self, Missing};
use crate::database::{OpenOptions, Root, lock, pin_path};
use crate::error::{Error, ErrorKind, Result};
use crate::fs::{File, FileSystem, OpenMode, OsFileSystem};
use crate::id::{CommitVersion, DatabaseId, ManifestNumber, WalNumber};
use crate::manifest::codec::{Mark, encode_mark};
use crate::manifest::identity::{self, IDENTITY_PATH};
use crate::manifest::store::{Access, manifest_path};
use crate::manifest::{Manifest, ManifestStore};
use crate::object::LocalStore;
use crate::segment::reader::is_damage;
use crate::version::Version;
use crate::wal::{Surviving, database_ids, mend, remove_tip, survive};

/// What is asked for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct OfflineRepair {
    /// Only say what would be done; nothing is written.
    pub dry_run: bool,
    /// Also do what loses commits that cannot be read any more.
    pub accept_loss: bool,
}

/// Looks at a directory without opening the database, and repairs what keeps it from opening; one row per action, none when there is
/// nothing to do. Of `options` only the file system counts.
///
/// # Errors
/// `Unavailable` when a process has it open, `Unsupported` for a bucket, `NotFound` when there is no database, I/O errors; repeating it goes on.
pub async fn repair_offline(root: &Root, options: &OpenOptions, asked: OfflineRepair) -> Result<Vec<Repair>> {
    let Root::Path(path) = root else {
        return Err(Error::new(ErrorKind::Unsupported, format!("{root} can't be repaired without opening it"))
            .with_hint(
                "a database in a bucket: bring back the object it names from an older version of the bucket, open it, then run VERIFY REPAIR",
            ));
    };
    let fs = match &options.fs {
        Some(fs) => Arc::clone(fs),
        None if path.is_dir() => Arc::new(OsFileSystem::new(path.clone())) as Arc<dyn FileSystem>,
        None => {
            return Err(Error::new(ErrorKind::NotFound, format!("there is no directory {root}")));
        }
    };
    // Nothing is made in a directory that is somebody else's.
    let ours = |folder: &str| fs.list(folder).is_ok_and(|found| !found.is_empty());
    if fs.len(IDENTITY_PATH).is_err() && !ours("manifest") && !ours("wal") {
        return Err(Error::new(ErrorKind::NotFound, format!("there is no database at {root}"))
            .with_hint("check the path"));
    }
    let _held = match asked.dry_run {
        true => lock::hold(&*fs, &root.to_string())?,
        false => Some(lock::take(&*fs, &root.to_string())?),
    };
    let store: Arc<dyn ObjectStore> = Arc::new(LocalStore::new(Arc::clone(&fs)));
    let place = Place { fs, manifests: ManifestStore::new(Arc::clone(&store), Access::Write), store };
    let looked = place.look().await?;
    let mut rows = looked.rows(asked);
    if asked.dry_run || rows.is_empty() {
        return Ok(rows);
    }
    if rows.iter().any(|row| row.status == RepairStatus::Failed) {
        // Nothing is done where not all can be.
        for row in rows.iter_mut().filter(|row| row.status == RepairStatus::Done) {
            row.status = RepairStatus::Left;
        }
        return Ok(rows);
    }
    place.put_right(&looked, asked).await?;
    let left = place.look().await?;
    // Looked at again, what was done is nothing to do.
    for row in left.rows(OfflineRepair { dry_run: true, ..asked }) {
        let is_known = |known: &&mut Repair| known.object == row.object && known.status != RepairStatus::Left;
        if let Some(known) = rows.iter_mut().find(is_known) {
            known.status = RepairStatus::Failed;
            known.detail = format!("it is still so: {}", row.detail);
        }
    }
    Ok(rows)
}

/// A directory, nobody else's for now.
struct Place {
    fs: Arc<dyn FileSystem>,
    store: Arc<dyn ObjectStore>,
    manifests: ManifestStore,
}

/// What stands in it.
struct Looked {
    id: DatabaseId,
    /// What is wrong with `CAIRN`.
    identity: Option<String>,
    /// Manifests after `base` that can't be read, newest first.
    bad: Vec<(ManifestNumber, Error)>,
    /// The newest manifest that can be read.
    base: Option<Manifest>,
    /// Missing numbers before it.
    gaps: Vec<ManifestNumber>,
    log: Surviving,
    /// The state that both give.
    state: Result<Version>,
}

impl Looked {
    /// Whether commits are lost.
    fn loses(&self) -> bool {
        self.log.cut.is_some()
    }

    /// Why nothing can be done.
    fn hopeless(&self) -> Option<String> {
        if self.base.is_none()
            && self.log.cut.as_ref().is_some_and(|cut| cut.number == WalNumber(1) && cut.offset == 0)
        {
            return Some(
                "no manifest can be read, and the log does not reach back to the beginning".to_owned(),
            );
        }
        self.state.as_ref().err().map(|error| format!("what can be read gives no state: {}", error.message()))
    }

    fn rows(&self, asked: OfflineRepair) -> Vec<Repair> {
        const CONSENT: &str = "with --accept-loss it is done";
        let mut rows = Vec::new();
        let status = |loses: bool| match (asked.dry_run, loses && !asked.accept_loss) {
            (true, _) => RepairStatus::Planned,
            (false, true) => RepairStatus::Left,
            (false, false) => RepairStatus::Done,
        };
        if let Some(why) = &self.identity {
            let detail =
                format!("{why}; the manifests and the log are of database {}, which it names again", self.id);
            rows.push(Repair::new(IDENTITY_PATH, "write anew", status(false), detail));
        }
        let damaged = !self.bad.is_empty() || self.log.cut.is_some();
        if damaged && let Some(why) = self.hopeless() {
            let row = Repair::new("manifest", "fall back", RepairStatus::Failed, why);
            rows.push(row.with_hint(
                "restore the directory from a backup; the segments below table/ are Parquet files that can be queried in place",
            ));
            return rows;
        }
        let base =
            self.base.as_ref().map_or_else(|| "the log alone".to_owned(), |base| manifest_path(base.number));
        for (number, error) in &self.bad {
            let kept = match self.loses() {
                true => "the log does not reach from it: see wal".to_owned(),
                false => "the log has every commit since".to_owned(),
            };
            let detail = format!("{}; {base} takes its place, {kept}", error.message());
            let row = Repair::new(manifest_path(*number), "fall back", status(self.loses()), detail);
            rows.push(row.with_hint(format!("it is kept below {LOST_AND_FOUND}/")));
        }
        if let Some(cut) = &self.log.cut {
            let (last, newest) = (self.log.last, self.log.newest);
            let gone = match newest > last {
                true => format!("versions {} to {newest}, and any after them, are lost", last.next()),
                false => format!("versions from {} on, if there were any, are lost", last.next()),
            };
            let place = match cut.offset {
                0 => format!("wal/{:020}", cut.number.0),
                offset => format!("wal/{:020} at offset {offset}", cut.number.0),
            };
            let detail = format!("{place}: {}; version {last} is the last without a gap; {gone}", cut.why);
            let row = Repair::new("wal", "cut", status(true), detail);
            rows.push(row.with_hint(match asked.accept_loss {
                true => format!(
                    "what is taken away is kept below {LOST_AND_FOUND}/; run VERIFY REPAIR once it is open"
                ),
                false => format!(
                    "restore the directory wal from a backup of the same moment if there is one; {CONSENT}"
                ),
            }));
        }
        for number in &self.gaps {
            let detail =
                "it is missing; newer ones stand, and nothing reads it, but they are found by counting";
            rows.push(Repair::new(manifest_path(*number), "mark", status(false), detail));
        }
        rows
    }
}

impl Place {
    async fn look(&self) -> Result<Looked> {
        let numbers = self.manifest_numbers()?;
        let (id, identity) = self.identity(&numbers).await?;
        let (mut bad, mut base) = (Vec::new(), None);
        for number in numbers.iter().rev() {
            match self.manifest(*number, id).await {
                Ok(manifest) => {
                    base = Some(manifest);
                    break;
                }
                Err(error) if error.kind() == ErrorKind::Corrupt => bad.push((*number, error)),
                Err(error) => return Err(error),
            }
        }
        let below = base.as_ref().map_or(0, |base| base.number.0);
        let there = |number: &ManifestNumber| numbers.binary_search(number).is_ok();
        let first = match (numbers.first(), numbers.last()) {
            (Some(lowest), Some(highest)) => oldest_kept(*lowest, *highest),
            _ => ManifestNumber(1),
        };
        let gaps = (first.0..below).map(ManifestNumber).filter(|number| !there(number)).collect();
        let from = base.as_ref().map_or(WalNumber(1), |base| base.replay_from);
        let described = base.as_ref().map_or(CommitVersion(0), |base| base.version);
        let mut log = survive(&*self.fs, from, id, described)?;
        if base.is_none() && bad.is_empty() && log.highest == WalNumber(0) {
            // Created, and never written.
            log.cut = None;
        }
        let state = self.state(base.as_ref(), &log).await;
        Ok(Looked { id, identity, bad, base, gaps, log, state })
    }

    async fn state(&self, base: Option<&Manifest>, log: &Surviving) -> Result<Version> {
        let state = replay::base(base, &self.manifests, &self.store, Missing::Damage).await?;
        let (state, _) = replay::apply(state, log.entries.clone(), &self.store, Missing::Damage).await?;
        Ok(state)
    }

    /// Numbers of the manifests that are there; a directory's listing leaves none out.
    fn manifest_numbers(&self) -> Result<Vec<ManifestNumber>> {
        let listed = self.fs.list("manifest").map_err(|e| Error::io("listing manifest", e))?;
        let mut numbers: Vec<ManifestNumber> = listed
            .iter()
            .filter_map(|(name, _)| match ObjectName::of(name) {
                Some(ObjectName::Manifest(number)) => Some(number),
                _ => None,
            })
            .collect();
        numbers.sort_unstable();
        Ok(numbers)
    }

    async fn manifest(&self, number: ManifestNumber, id: DatabaseId) -> Result<Manifest> {
        let manifest = self.manifests.read(number).await?;
        if manifest.database_id != id {
            let why = format!("it belongs to database {}, not {id}", manifest.database_id);
            return Err(Error::corrupt(manifest_path(number), why));
        }
        for table in &manifest.tables {
            self.manifests.load_table(table).await?;
        }
        Ok(manifest)
    }

    /// The database's id, and what is wrong with the file that should say it.
    async fn identity(&self, manifests: &[ManifestNumber]) -> Result<(DatabaseId, Option<String>)> {
        let why = match identity::read_identity(&*self.store).await {
            Ok(Some(id)) => return Ok((id, None)),
            Ok(None) => "it is missing".to_owned(),
            Err(error) if matches!(error.kind(), ErrorKind::Corrupt | ErrorKind::InvalidInput) => {
                error.message().to_owned()
            }
            Err(error) => return Err(error),
        };
        for number in manifests.iter().rev() {
            match self.manifests.read(*number).await {
                Ok(manifest) => return Ok((manifest.database_id, Some(why))),
                Err(error) if is_damage(&error) => {}
                Err(error) => return Err(error),
            }
        }
        let ids = database_ids(&*self.fs)?;
        match ids.as_slice() {
            [first, rest @ ..] if rest.iter().all(|id| id == first) => Ok((*first, Some(why))),
            [] => Err(Error::new(
                ErrorKind::NotFound,
                format!("there is no database here: {IDENTITY_PATH}: {why}"),
            )
            .with_detail("no manifest and no file of a log can be read that would name one")
            .with_hint("check the directory; restore it from a backup")),
            _ => Err(Error::corrupt("wal", "its files belong to several databases")
                .with_hint("put the directory back as it was; files of two databases have been mixed")),
        }
    }

    async fn put_right(&self, looked: &Looked, asked: OfflineRepair) -> Result<()> {
        if looked.identity.is_some() {
            put_aside(&*self.store, IDENTITY_PATH).await?;
            let bytes = identity::encode_identity(looked.id).to_vec();
            self.store.put(&Path::from(IDENTITY_PATH), bytes.into()).await?;
        }
        for number in &looked.gaps {
            let mark = Mark { number: *number, database_id: looked.id };
            self.store.put(&Path::from(manifest_path(*number)), encode_mark(mark)?.into()).await?;
        }
        let damaged = !looked.bad.is_empty() || looked.loses();
        if !damaged || (looked.loses() && !asked.accept_loss) {
            return Ok(());
        }
        let _readers = self.nobody_reads(looked)?;
        if looked.loses() {
            self.cut(looked).await?;
        }
        // Last, the highest first: whatever is found in between does not open, or is the same as before.
        for (number, _) in &looked.bad {
            self.move_aside(&manifest_path(*number)).await?;
        }
        Ok(())
    }

    async fn cut(&self, looked: &Looked) -> Result<()> {
        let mut highest = looked.log.highest;
        for path in self.paths("wal").await? {
            put_aside(&*self.store, path.as_ref()).await?;
        }
        let base = looked.base.as_ref().map_or(ManifestNumber(0), |base| base.number);
        for path in self.paths("history").await? {
            // They name commits that are lost now.
            let number = path.filename().and_then(|name| name.parse().ok());
            if number.is_some_and(|number: u64| number > base.0) {
                self.move_aside(path.as_ref()).await?;
            }
        }
        let named = self.named(looked).await?;
        for folder in ["table", "manifest/leaf", LOST_AND_FOUND] {
            for path in self.paths(folder).await? {
                let is_aside =
                    path.as_ref().strip_prefix(LOST_AND_FOUND).and_then(|path| path.strip_prefix('/'));
                let Some(ObjectName::Made(_, id)) = ObjectName::of(is_aside.unwrap_or(path.as_ref())) else {
                    continue;
                };
                // An epoch is the number of a file of the log, and no id is given twice.
                highest = highest.max(WalNumber(id.epoch.0));
                if is_aside.is_none() && !named.contains(id) {
                    self.move_aside(path.as_ref()).await?;
                }
            }
        }
        mend(&*self.fs, looked.id, &looked.log, highest)?;
        remove_tip(&*self.fs)
    }

    async fn named(&self, looked: &Looked) -> Result<Named> {
        let mut named = Named::default();
        if let Some(base) = &looked.base {
            named.add_root(base);
            for leaf in leaves(base) {
                named.add_leaf(&self.manifests, leaf).await?;
            }
        }
        match &looked.state {
            Ok(state) => named.add_version(state),
            Err(error) => return Err(error.clone()),
        }
        Ok(named)
    }

    async fn paths(&self, folder: &str) -> Result<Vec<Path>> {
        let listed = self.store.list(Some(&Path::from(folder)));
        Ok(listed.map_ok(|object| object.location).try_collect().await?)
    }

    /// Moves an object aside; what an earlier repair has put there stays.
    async fn move_aside(&self, path: &str) -> Result<()> {
        let from = Path::from(path);
        let mut number = 1;
        loop {
            match self.store.rename_if_not_exists(&from, &aside(path, number)).await {
                Ok(()) => return Ok(()),
                Err(object_store::Error::AlreadyExists { .. }) => number += 1,
                Err(error) => return Err(error.into()),
            }
        }
    }

    /// Locks of the manifests that are dealt with: whoever reads along stands on one of them.
    fn nobody_reads(&self, looked: &Looked) -> Result<Vec<Arc<dyn File>>> {
        let base = looked.base.as_ref().map_or(ManifestNumber(0), |base| base.number);
        let mut held = Vec::new();
        for number in looked.bad.iter().map(|(number, _)| *number).chain([base]) {
            let path = pin_path(number);
            let what = |e| Error::io(format!("looking whether {path} is read"), e);
            match self.fs.open(&path, OpenMode::Read) {
                Ok(file) if file.try_lock(false).map_err(what)? => held.push(file),
                Ok(_) => {
                    return Err(Error::new(ErrorKind::Unavailable, "another process reads the database")
                        .with_hint("end the readers, then repair it"));
                }
                Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
                Err(error) => return Err(what(error)),
            }
        }
        Ok(held)
    }
}
