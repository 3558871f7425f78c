//! Opening: find or make the database, lock it, bring its state back.
//!
//! Order for a writer: directory, identity, lock, leftovers of a crash removed, newest manifest, log replayed, a new log file begun.
//! Nothing of the database is changed before the lock is held; a damaged log or manifest changes nothing at all.

use std::sync::Arc;

use object_store::ObjectStore;

use super::follow::Follower;
use super::{CommitOrder, Database, OpenOptions, Role, Root, Writer, lock, replay};
use crate::error::{Error, ErrorKind, Result};
use crate::fs::{File, FileSystem, OsFileSystem};
use crate::id::{CommitVersion, DatabaseId, Epoch, ManifestNumber, ObjectIds, WalNumber};
use crate::jobs::Jobs;
use crate::manifest::store::Access;
use crate::manifest::{ManifestStore, identity};
use crate::object::LocalStore;
use crate::segment::SegmentCache;
use crate::version::Shared;
use crate::wal::{FileWal, FileWalOptions, FileWalReader, ObjectWal, Recovery, Wal, WalTip};

impl Database {
    /// Opens the database at `root` for writing, or for following with `read_only`.
    ///
    /// # Errors
    /// `NotFound` when it is not there and `create` is off or `read_only` on; `Unavailable` when another process writes it;
    /// `Corrupt`, `Unsupported` (a newer format) and I/O errors naming the object.
    pub async fn open(root: Root, options: OpenOptions) -> Result<Arc<Self>> {
        let fs = match (&root, &options.fs) {
            (Root::Memory, _) => None,
            (Root::Path(_), Some(fs)) => Some(Arc::clone(fs)),
            (Root::Path(path), None) => {
                if !path.exists() {
                    prepare_directory(&root, path, &options)?;
                }
                Some(Arc::new(OsFileSystem::new(path.clone())) as Arc<dyn FileSystem>)
            }
        };
        let local = fs.as_ref().map(|fs| LocalStore::new(Arc::clone(fs)));
        let store: Arc<dyn ObjectStore> = match &local {
            Some(local) => Arc::new(local.clone()),
            None => crate::object::open_memory(),
        };
        let found = identity::read_identity(&*store).await?;
        if found.is_none() {
            refuse_foreign(&root, fs.as_deref(), &options)?;
        }
        let mut notes = Vec::new();
        let mut held = None;
        if !options.read_only {
            if let Some(fs) = &fs {
                held = Some(lock::take(&**fs, &root.to_string())?);
            }
            if let Some(local) = &local {
                let removed = local.remove_temporary()?;
                if removed > 0 {
                    notes.push(format!("removed {removed} unfinished file(s) of an earlier process"));
                }
            }
        }
        let id = match found {
            Some(id) => id,
            None => {
                let id = DatabaseId(uuid::Uuid::new_v4());
                identity::create_identity(&*store, id).await?;
                id
            }
        };
        let access = if options.read_only { Access::Read } else { Access::Write };
        let manifests = ManifestStore::new(Arc::clone(&store), access);
        let cache = SegmentCache::new(options.segment_cache_bytes);
        let shared = Arc::new(Shared { store, cache, files: fs.clone(), pins: Default::default() });
        let role = match (&fs, options.read_only) {
            (Some(fs), true) => {
                Role::Follower(Follower::open(Arc::clone(fs), id, &manifests, &shared).await?)
            }
            (None, true) => {
                return Err(Error::new(ErrorKind::InvalidInput, "a database in memory has no readers")
                    .with_hint("open it without --read-only"));
            }
            (_, false) => {
                let writer = writer(fs.clone(), held, id, &manifests, &shared, &options, &mut notes).await;
                Role::Writer(writer.map_err(for_writing)?)
            }
        };
        let database = Arc::new(Self {
            root,
            options,
            fs,
            id,
            shared,
            manifests,
            jobs: Jobs::default(),
            role,
            notes,
            tasks: std::sync::Mutex::default(),
            checkpoint_due: false.into(),
            indexes: Default::default(),
            collector: Default::default(),
            closed: false.into(),
        });
        database.start_timers();
        database.checkpoint_if_due();
        database.index_soon();
        Ok(database)
    }
}

fn prepare_directory(root: &Root, path: &std::path::Path, options: &OpenOptions) -> Result<()> {
    if options.read_only || !options.create {
        return Err(Error::new(ErrorKind::NotFound, format!("there is no database at {root}"))
            .with_hint("check the path; opening it without --read-only creates it"));
    }
    // Each new name is made durable, those of missing parents too.
    OsFileSystem::new(path.to_path_buf())
        .create_dir_all("")
        .map_err(|e| Error::io(format!("creating {root}"), e))
}

/// A directory without our identity file is taken only when it is empty (but for what an interrupted creation leaves).
fn refuse_foreign(root: &Root, fs: Option<&dyn FileSystem>, options: &OpenOptions) -> Result<()> {
    if options.read_only || !options.create {
        return Err(Error::new(ErrorKind::NotFound, format!("there is no database at {root}"))
            .with_hint("check the path; opening it without --read-only creates it"));
    }
    let Some(fs) = fs else { return Ok(()) };
    let files = fs.list("").map_err(|e| Error::io(format!("listing {root}"), e))?;
    let ours = |name: &str| name == "lock" || name.rsplit('/').next().is_some_and(|n| n.starts_with(".tmp-"));
    match files.iter().find(|(name, _)| !ours(name)) {
        None => Ok(()),
        Some((name, _)) => {
            Err(Error::new(ErrorKind::InvalidInput, format!("{root} is not a Cairn database and not empty"))
                .with_detail(format!("it holds {name}, and no file CAIRN"))
                .with_hint("give an empty or new directory"))
        }
    }
}

async fn writer(
    fs: Option<Arc<dyn FileSystem>>,
    held: Option<Arc<dyn File>>,
    id: DatabaseId,
    manifests: &ManifestStore,
    shared: &Shared,
    options: &OpenOptions,
    notes: &mut Vec<String>,
) -> Result<Writer> {
    let manifest = manifests.newest(ManifestNumber(0)).await?;
    check_id(id, manifest.as_ref().map(|m| m.database_id))?;
    let from = manifest.as_ref().map_or(WalNumber(1), |m| m.replay_from);
    let base = replay::base(manifest.as_ref(), manifests, &shared.store).await?;
    let recovery = read_log(fs.as_deref(), shared, id, from).await?;
    let Recovery { entries, torn, next, predecessor } = recovery;
    notes.extend(torn);
    let next = next.max(from);
    if fs.is_some() && manifest.is_some() && predecessor.is_none() {
        // Rotation makes that file durable before the manifest that names it.
        return Err(Error::corrupt(
            format!("wal/{:020}", from.0),
            "it is missing, with every commit after the newest manifest",
        )
        .with_hint("restore the directory wal from a backup of the same moment"));
    }
    let (state, history) = replay::apply(base, entries, &shared.store).await?;
    if let Some(fs) = &fs {
        check_tip(&**fs, state.number)?;
    }
    let first = state.number.next();
    let wal: Arc<dyn Wal> = match fs {
        Some(fs) => {
            let settings = FileWalOptions::new(id, options.sync);
            Arc::new(FileWal::create(fs, settings, next, first, predecessor)?)
        }
        None => Arc::new(ObjectWal::create(Arc::clone(&shared.store), id, next, first, predecessor)),
    };
    // The number of the log file an open begins is its epoch: dense, never reused, durable before any object is named.
    let epoch = Epoch(next.0);
    Ok(Writer {
        order: CommitOrder::new(Arc::new(state), wal, history),
        epoch,
        ids: ObjectIds::new(epoch),
        uploads: Default::default(),
        manifest: tokio::sync::Mutex::new(manifest.map(Arc::new)),
        lock: std::sync::Mutex::new(held),
    })
}

/// What followers were told is durable must be here: a newest file that is gone cannot be noticed otherwise. A tip that
/// cannot be read says nothing; it is never synced.
fn check_tip(fs: &dyn FileSystem, recovered: CommitVersion) -> Result<()> {
    match WalTip::read(fs) {
        Ok(Some(tip)) if tip.version > recovered => Err(Error::corrupt(
            format!("wal/{:020}", tip.number.0),
            format!("it or its end is missing, with versions {} to {}", recovered.next(), tip.version),
        )
        .with_hint("restore the directory wal from a backup of the same moment")),
        _ => Ok(()),
    }
}

/// Everything in the log from `from` on.
pub(super) async fn read_log(
    fs: Option<&dyn FileSystem>,
    shared: &Shared,
    id: DatabaseId,
    from: WalNumber,
) -> Result<Recovery> {
    match fs {
        Some(fs) => FileWalReader::recover(fs, from, id),
        None => ObjectWal::recover(&*shared.store, from, id).await,
    }
}

/// A manifest copied in from elsewhere would mix two databases.
pub(super) fn check_id(id: DatabaseId, manifest: Option<DatabaseId>) -> Result<()> {
    match manifest {
        Some(other) if other != id => Err(Error::corrupt(
            "the newest manifest",
            format!("it belongs to database {other}, the file CAIRN to {id}"),
        )),
        _ => Ok(()),
    }
}

/// Opening for writing needs room for a new log file; reading does not.
fn for_writing(error: Error) -> Error {
    if error.kind() == ErrorKind::ResourceExhausted {
        return error.with_hint("free disk space, or open the database with --read-only");
    }
    error
}
