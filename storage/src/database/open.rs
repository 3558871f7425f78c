//! Opening: find or make the database, lock it, bring its state back.
//!
//! Order for a writer: directory, identity, lock, leftovers of a crash removed, newest manifest, log replayed, a new log file begun.
//! Nothing of the database is changed before the lock is held; a damaged log or manifest changes nothing at all.

use std::sync::Arc;

use futures::TryStreamExt;
use object_store::ObjectStore;

use super::boundary::Boundary;
use super::follow::Follower;
use super::journal::{self, Bucket, Journal};
use super::replay::Missing;
use super::{
    ClaimAt, Claimable, CommitOrder, Database, Durability, OpenOptions, Role, Root, Writer, lock, replay,
};
use crate::error::{Error, ErrorKind, Result};
use crate::fs::{File, FileSystem, OsFileSystem};
use crate::id::{CommitVersion, DatabaseId, Epoch, ManifestNumber, WalNumber};
use crate::manifest::store::Access;
use crate::manifest::{ManifestStore, identity};
use crate::object::{self, CachedStore, LocalStore, StoreSettings, StoreUrl};
use crate::segment::SegmentCache;
use crate::version::{Pins, Shared, Version};
use crate::wal::{
    FileWal, FileWalOptions, FileWalReader, ObjectWal, ObjectWalOptions, ObjectWalReader, Recovery, WalTip,
};

impl Database {
    /// Opens the database at `root` for writing, or for following with `read_only`. On an object store it follows until it is
    /// [claimed](Self::claim).
    ///
    /// # Errors
    /// `NotFound` when it is not there and `create` is off or `read_only` on; `Unavailable` when another process writes it; `Fenced` when
    /// this machine's journal holds commits of it that can't be sent any more, and `discard_local` is off;
    /// `Corrupt`, `Unsupported` (a newer format) and I/O errors naming the object.
    pub async fn open(root: Root, options: OpenOptions) -> Result<Arc<Self>> {
        let claim_now = options.claim == ClaimAt::Open && !options.read_only;
        let database = match &root {
            Root::Store(url) => {
                let url = url.clone();
                open_remote(root, &url, options).await?
            }
            Root::Path(_) | Root::Memory if options.durability == Durability::Local => {
                return Err(Error::new(
                    ErrorKind::InvalidInput,
                    "durability = 'local' is for a database in a bucket",
                )
                .with_hint("in a directory a commit is on the local disk when it is acknowledged"));
            }
            Root::Path(_) | Root::Memory => open_local(root, options).await?,
        };
        if matches!(database.role, Role::Claimable(_)) {
            if claim_now {
                database.claim().await?;
            }
            return Ok(database);
        }
        let waiting = match database.follows() {
            true => Vec::new(),
            false => database.restore_jobs().await,
        };
        database.start_timers();
        database.checkpoint_if_due();
        database.index_soon();
        // Processes that live for less than a checkpoint would leave it to nobody.
        database.compact_soon();
        database.resume_restored(waiting);
        Ok(database)
    }
}

async fn open_local(root: Root, options: OpenOptions) -> Result<Arc<Database>> {
    let fs = match (&root, &options.fs) {
        (Root::Path(_), Some(fs)) => Some(Arc::clone(fs)),
        (Root::Path(path), None) => {
            if !path.exists() {
                prepare_directory(&root, path, &options)?;
            }
            Some(Arc::new(OsFileSystem::new(path.clone())) as Arc<dyn FileSystem>)
        }
        _ => None,
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
        None => create(&*store).await?,
    };
    let access = if options.read_only { Access::Read } else { Access::Write };
    let manifests =
        ManifestStore::new(Arc::clone(&store), access).with_inline_bytes(options.segment_list_bytes);
    let cache = SegmentCache::new(options.segment_cache_bytes);
    let may_expire = false.into();
    let shared = Arc::new(Shared {
        store,
        cache,
        files: fs.clone(),
        remote: false,
        disk_cache: None,
        may_expire,
        pins: Pins::default(),
    });
    let role = match (&fs, options.read_only) {
        (Some(_), true) => Role::Follower(Follower::open(id, &manifests, &shared, None).await?),
        (None, true) => {
            return Err(Error::new(ErrorKind::InvalidInput, "a database in memory has no readers")
                .with_hint("open it without --read-only"));
        }
        (_, false) => {
            let writer = writer(fs.clone(), held, id, &manifests, &shared, &options, &mut notes).await;
            Role::Writer(writer.map_err(for_writing)?)
        }
    };
    Ok(Database::over(root, options, id, shared, manifests, role, None, notes))
}

async fn open_remote(root: Root, url: &StoreUrl, options: OpenOptions) -> Result<Arc<Database>> {
    let (store, metrics) = match &options.store {
        Some(store) => object::steady(Arc::clone(store)),
        None => object::connect(url)?,
    };
    // It names the database too; only one that nobody has written yet is asked for CAIRN.
    let boundary = Boundary::read(&*store).await?.map(|(boundary, _)| boundary);
    let id = match boundary {
        Some(boundary) => boundary.database_id,
        None => match identity::read_identity(&*store).await? {
            Some(id) => id,
            None => match whats_there(&root, &*store, &options).await? {
                Some(id) => id,
                None => create(&*store).await?,
            },
        },
    };
    let disk_cache = match &options.cache_directory {
        Some(directory) => {
            // A store that was given has no other address.
            let address = match &options.store {
                Some(_) => String::new(),
                None => object::address(url, &StoreSettings::from_env())?,
            };
            let directory = directory.join(object::folder_of(id, url, &address));
            Some(Arc::new(CachedStore::new(Arc::clone(&store), directory, options.cache_directory_bytes)?))
        }
        None => None,
    };
    let store = match &disk_cache {
        Some(cached) => Arc::clone(cached) as Arc<dyn ObjectStore>,
        None => store,
    };
    let access = if options.read_only { Access::Read } else { Access::Write };
    let manifests =
        ManifestStore::new(Arc::clone(&store), access).with_inline_bytes(options.segment_list_bytes);
    let cache = SegmentCache::new(options.segment_cache_bytes);
    let shared = Arc::new(Shared {
        store,
        cache,
        files: None,
        remote: true,
        disk_cache,
        may_expire: true.into(),
        pins: Pins::default(),
    });
    let mut notes = Vec::new();
    if !options.read_only {
        // Whoever comes back to this machine sees what was acknowledged on it.
        let bucket = Bucket {
            id,
            root: &root,
            manifests: &manifests,
            shared: &shared,
            options: &options,
            discards: options.discard_local,
        };
        notes.extend(journal::others(id, &root, &options));
        if let Some(journal) = Journal::take(id, &root, &options, false)? {
            notes.extend(journal.settle(&bucket).await?);
        }
    }
    let follower = Follower::open(id, &manifests, &shared, boundary).await?;
    let role = match options.read_only {
        true => Role::Follower(follower),
        false => Role::Claimable(Claimable::new(follower)),
    };
    Ok(Database::over(root, options, id, shared, manifests, role, Some(metrics), notes))
}

async fn create(store: &dyn ObjectStore) -> Result<DatabaseId> {
    let id = DatabaseId(uuid::Uuid::new_v4());
    match identity::create_identity(store, id).await {
        Ok(()) => Ok(id),
        // Two were created at once: the first one stands.
        Err(error) if error.kind() == ErrorKind::AlreadyExists => {
            identity::read_identity(store).await?.ok_or(error)
        }
        Err(error) => Err(error),
    }
}

/// A prefix without our identity object is taken only when there is nothing below it. The id, if somebody else has made the
/// database by now.
async fn whats_there(
    root: &Root,
    store: &dyn ObjectStore,
    options: &OpenOptions,
) -> Result<Option<DatabaseId>> {
    if options.read_only || !options.create {
        return Err(Error::new(ErrorKind::NotFound, format!("there is no database at {root}"))
            .with_hint("check bucket and prefix; opening it without --read-only creates it"));
    }
    let Some(object) = store.list(None).try_next().await? else { return Ok(None) };
    match identity::read_identity(store).await? {
        Some(id) => Ok(Some(id)),
        None => {
            Err(Error::new(ErrorKind::InvalidInput, format!("{root} is not a Cairn database and not empty"))
                .with_detail(format!("it holds {}, and no object CAIRN", object.location))
                .with_hint("give a prefix with nothing below it"))
        }
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
    let base = replay::base(manifest.as_ref(), manifests, &shared.store, Missing::Damage).await?;
    let Some(fs) = fs else { return in_memory(id, base, shared, options) };
    let recovery = FileWalReader::recover(&*fs, from, id)?;
    let Recovery { entries, torn, next, predecessor } = recovery;
    notes.extend(torn);
    let next = next.max(from);
    if manifest.is_some() && predecessor.is_none() {
        // Rotation makes that file durable before the manifest that names it.
        return Err(Error::corrupt(
            format!("wal/{:020}", from.0),
            "it is missing, with every commit after the newest manifest",
        )
        .with_hint("restore the directory wal from a backup of the same moment"));
    }
    let (state, history) = replay::apply(base, entries, &shared.store, Missing::Damage).await?;
    shared.pins.hold(&state.pin);
    check_tip(&*fs, state.number)?;
    let settings = FileWalOptions::new(id, options.sync);
    let wal = FileWal::create(fs, settings, next, state.number.next(), predecessor)?;
    // The number of the log file an open begins is its epoch: dense, never reused, durable before any object is named.
    let described = manifest.as_ref().map_or(CommitVersion(0), |m| m.version);
    let order = CommitOrder::new(Arc::new(state), Arc::new(wal), history, described);
    Ok(Writer::new(order, Epoch(next.0), manifest, held))
}

/// The writer of a database in memory, which nobody else has.
fn in_memory(id: DatabaseId, base: Version, shared: &Shared, options: &OpenOptions) -> Result<Writer> {
    let epoch = Epoch(1);
    shared.pins.hold(&base.pin);
    let wal = ObjectWalOptions {
        database_id: id,
        epoch,
        flush_interval: options.wal_flush_interval,
        timeout: options.commit_timeout,
        removes: true,
    };
    let read = ObjectWalReader::new(Arc::clone(&shared.store), id, WalNumber(1), epoch);
    let wal = ObjectWal::create(wal, &read, base.number.next());
    let order = CommitOrder::new(Arc::new(base), Arc::new(wal), Vec::new(), CommitVersion(0));
    Ok(Writer::new(order, epoch, None, None))
}

/// What followers were told is durable must be here: a newest file that is gone cannot be noticed otherwise. A tip that
/// cannot be read says nothing; it is never synced.
pub(super) fn check_tip(fs: &dyn FileSystem, recovered: CommitVersion) -> Result<()> {
    match WalTip::read(fs) {
        Ok(Some(tip)) if tip.version > recovered => Err(Error::corrupt(
            format!("wal/{:020}", tip.number.0),
            format!("it or its end is missing, with versions {} to {}", recovered.next(), tip.version),
        )
        .with_hint("restore the directory wal from a backup of the same moment")),
        _ => Ok(()),
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
