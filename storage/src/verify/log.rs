//! Checks of the log: its frames, how far it goes, and for DEEP that it makes the state that is read, and what stands where nobody reads.
//!
//! What a writer has not written yet and what it writes just now is no damage: its own log is read while nothing is appended, that of another
//! process is looked at twice.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use object_store::path::Path;
use object_store::{ObjectStore, ObjectStoreExt};

use super::{Depth, Finding, FindingStatus, Findings, counted};
use crate::collect::ObjectName;
use crate::database::Database;
use crate::database::replay::{self, Missing};
use crate::error::{Error, ErrorKind, Result};
use crate::fs::{File, FileSystem, OpenMode};
use crate::id::{CommitVersion, Epoch, ObjectId, WalNumber};
use crate::manifest::Manifest;
use crate::version::{Snapshot, TableState, Version};
use crate::wal::{
    FileWalReader, ObjectWalReader, Recovered, Remains, TIP_BYTES, TIP_PATH, WalTip, codec, file_path,
    object_path,
};

/// What another process writes just now is whole after this.
const WRITTEN_WITHIN: Duration = Duration::from_millis(100);
/// Payloads that are read again together, but for one that is longer.
const STRETCH_BYTES: usize = 4 << 20;

/// What was read of the log.
struct Log {
    /// The newest manifest.
    manifest: Option<Manifest>,
    /// Entries behind it.
    entries: Entries,
    /// Where they can be read again.
    source: Source,
    /// The last version in the manifest and the entries.
    last: CommitVersion,
    /// The number behind the last file or object, and how long that is.
    next: WalNumber,
    length: u64,
    /// What was published when reading began: the log holds it.
    seen: Snapshot,
    /// What was synced then, where this process writes.
    durable: Option<CommitVersion>,
    /// What the tip said before.
    tip: Option<WalTip>,
    remains: Vec<Remains>,
}

/// Where an entry stands. Its payload is read again when it is wanted: a log is as long as the rows in memory.
#[derive(Clone, Copy, Debug)]
struct Stored {
    number: WalNumber,
    offset: u64,
    length: usize,
    /// 0 when it does not decode.
    version: CommitVersion,
}

/// Entries that were read.
#[derive(Debug, Default)]
struct Entries {
    stored: Vec<Stored>,
    /// What is wrong with the first that does not decode.
    wrong: Option<Error>,
}

impl Entries {
    /// Decodes each, and forgets it.
    fn take(&mut self, found: Vec<Recovered>) {
        for Recovered { number, offset, payload } in found {
            let length = payload.len();
            let version = match codec::decode(payload) {
                Ok(entry) => entry.version,
                Err(error) => {
                    let place = format!("{} at offset {offset}", file_path(number));
                    self.wrong.get_or_insert_with(|| Error::corrupt(place, error.message()));
                    CommitVersion(0)
                }
            };
            self.stored.push(Stored { number, offset, length, version });
        }
    }
}

/// What entries are read from.
#[derive(Debug)]
enum Source {
    /// Open files: they can be read when their names are gone.
    Files(BTreeMap<WalNumber, Arc<dyn File>>),
    /// The object that was read last is held: its entries are read in several parts.
    Objects { store: Arc<dyn ObjectStore>, held: Option<(WalNumber, Bytes)> },
}

impl Source {
    /// Entries that stand in one file or object.
    async fn read(&mut self, stored: &[Stored]) -> Result<Vec<Recovered>> {
        let Some(number) = stored.first().map(|first| first.number) else { return Ok(Vec::new()) };
        let gone = || Error::new(ErrorKind::NotFound, format!("{} is not there any more", file_path(number)));
        let recovered = |at: &Stored, payload: Bytes| Recovered { number, offset: at.offset, payload };
        match self {
            Self::Files(files) => {
                let file = files.get(&number).ok_or_else(gone)?;
                let read = |at: &Stored| {
                    FileWalReader::payload(&**file, at.offset, at.length)
                        .map(|payload| recovered(at, payload))
                        .map_err(|e| Error::io(format!("reading {}", file_path(number)), e))
                };
                stored.iter().map(read).collect()
            }
            Self::Objects { store, held } => {
                let bytes = match &*held {
                    Some((of, bytes)) if *of == number => bytes.clone(),
                    _ => {
                        let bytes = store.get(&Path::from(object_path(number))).await?.bytes().await?;
                        *held = Some((number, bytes.clone()));
                        bytes
                    }
                };
                let read = |at: &Stored| {
                    let payload = ObjectWalReader::payload(&bytes, at.offset, at.length);
                    payload.map(|payload| recovered(at, payload)).ok_or_else(gone)
                };
                stored.iter().map(read).collect()
            }
        }
    }
}

/// The log from the newest manifest's replay point on.
pub(super) async fn check(database: &Database, depth: Depth, findings: &mut Findings) {
    let log = match read(database, depth).await {
        Ok(log) => log,
        Err(error) => {
            let object = file_of(&error);
            findings.push(Finding::new(object, "frames and versions", Err(error)));
            return;
        }
    };
    let bytes: u64 = log.entries.stored.iter().map(|entry| entry.length as u64).sum();
    let checked = log.entries.wrong.clone().map_or(Ok(()), Err).and_then(|()| reaches(database, &log));
    let object = checked.as_ref().err().map_or_else(|| "wal".to_owned(), file_of);
    let entries = match log.entries.stored.len() {
        1 => "1 entry".to_owned(),
        many => format!("{many} entries"),
    };
    let checked = checked.map(|()| format!("{entries} after the newest manifest, {bytes} bytes"));
    findings.read(bytes, 0);
    findings.push(Finding::new(object, "frames and versions", checked));
    if depth == Depth::Plain {
        return;
    }
    if let Some(fs) = &database.shared.files {
        findings.push(tip(&**fs, &log).await);
        unused(&log, findings);
    }
    if database.shared.remote {
        findings.push(noted(database, &log).await);
    }
    let number = log.manifest.as_ref().map(|m| m.number);
    let mut made = replayed(database, log).await;
    if made.is_err()
        && database.writer().is_err()
        && database.newest_manifest().await.is_ok_and(|newest| newest.map(|m| m.number) != number)
    {
        // What it was read from may be gone.
        made = Ok("its writer has published another manifest meanwhile".to_owned());
    }
    findings.push(Finding::new("wal", "replay", made));
}

/// The file or object that an error about the log names at its beginning.
fn file_of(error: &Error) -> String {
    let named = error.message().split([' ', ':']).next().unwrap_or_default();
    let is_file = matches!(ObjectName::of(named), Some(ObjectName::Wal(_)));
    if is_file { named.to_owned() } else { "wal".to_owned() }
}

async fn read(database: &Database, depth: Depth) -> Result<Log> {
    // First: files are removed, and entries appended, only under it.
    let driving = match database.writer() {
        Ok(writer) => Some(writer.order.driving().await),
        Err(_) => None,
    };
    let durable = driving.is_some().then(|| database.wal_status().durable);
    let seen = database.snapshot();
    let newest = database.newest_manifest().await?;
    let Some(fs) = &database.shared.files else { return objects(database, newest, seen).await };
    let from = newest.as_ref().map_or(WalNumber(1), |m| m.replay_from);
    let tip = WalTip::read(&**fs)?;
    let (mut entries, mut files) = (Entries::default(), BTreeMap::new());
    let recovery = FileWalReader::recover_each(&**fs, from, database.id(), &mut |found: Vec<Recovered>| {
        if let Some(first) = found.first()
            && let Ok(file) = fs.open(&file_path(first.number), OpenMode::Read)
        {
            files.insert(first.number, file);
        }
        entries.take(found);
    })?;
    let remains = match depth {
        Depth::Plain => Vec::new(),
        Depth::Deep => {
            let mut remains = FileWalReader::remains(&**fs, from, database.id())?;
            if !remains.is_empty() && driving.is_none() {
                tokio::time::sleep(WRITTEN_WITHIN).await;
                let later = FileWalReader::remains(&**fs, from, database.id())?;
                remains.retain(|found| later.contains(found));
            }
            remains
        }
    };
    drop(driving);
    let last = recovery.predecessor.map_or(CommitVersion(0), |last| last.last);
    let last = last.max(newest.as_ref().map_or(CommitVersion(0), |m| m.version));
    let (next, length) = (recovery.next, recovery.predecessor.map_or(0, |last| last.length));
    let source = Source::Files(files);
    Ok(Log { manifest: newest, entries, source, last, next, length, seen, durable, tip, remains })
}

/// A collector that has passed the replay point meanwhile leaves gaps that are no damage.
async fn objects(database: &Database, mut newest: Option<Manifest>, seen: Snapshot) -> Result<Log> {
    loop {
        let from = newest.as_ref().map_or(WalNumber(1), |m| m.replay_from);
        let epoch = newest.as_ref().map_or(Epoch(0), |m| m.replay_epoch);
        let mut log = ObjectWalReader::new(Arc::clone(&database.shared.store), database.id(), from, epoch);
        let mut entries = Entries::default();
        let read = log.read_each(2, &mut |found: Vec<Recovered>| entries.take(found)).await;
        let error = match read {
            Ok(()) => {
                let last = log.predecessor().map_or(CommitVersion(0), |last| last.last);
                let last = last.max(newest.as_ref().map_or(CommitVersion(0), |m| m.version));
                let (next, length) = (log.number(), log.predecessor().map_or(0, |last| last.length));
                let (durable, tip, remains) = (None, None, Vec::new());
                let source = Source::Objects { store: Arc::clone(&database.shared.store), held: None };
                return Ok(Log {
                    manifest: newest,
                    entries,
                    source,
                    last,
                    next,
                    length,
                    seen,
                    durable,
                    tip,
                    remains,
                });
            }
            Err(error) => error,
        };
        if !database.shared.remote || error.kind() != ErrorKind::Corrupt {
            return Err(error);
        }
        let newer = database.newest_manifest().await?;
        if newer.as_ref().map(|m| m.number) == newest.as_ref().map(|m| m.number) {
            return Err(error);
        }
        newest = newer;
    }
}

/// The log goes as far as it was acknowledged.
fn reaches(database: &Database, log: &Log) -> Result<()> {
    let ends = |at_least: CommitVersion, who: &str| {
        let why = format!("it ends with version {}, but {who} version {at_least}", log.last);
        Err(Error::corrupt("wal", why)
            .with_detail(format!("versions {} to {at_least} are at stake", log.last.next())))
    };
    // From a journal commits come later into the bucket.
    if log.seen.version() > log.last && database.unsent().is_none() {
        return ends(log.seen.version(), "what was acknowledged goes to");
    }
    match log.tip {
        Some(tip) if tip.version > log.last => ends(tip.version, "wal/tip names"),
        Some(_) | None => Ok(()),
    }
}

/// How far readers of a directory may read, and whether it is what its writer says.
async fn tip(fs: &dyn FileSystem, log: &Log) -> Finding {
    let check = "checksum and place";
    let present = fs.len(TIP_PATH).map_err(|e| Error::io(format!("reading {TIP_PATH}"), e));
    let tip = match (present, log.tip) {
        (Err(error), _) => {
            let is_gone = error.kind() == ErrorKind::NotFound;
            let mut finding = Finding::new(TIP_PATH, check, Err(error));
            // It is never synced, so a power cut may take it away.
            if is_gone {
                finding.status = FindingStatus::Warning;
            }
            return finding;
        }
        (Ok(bytes), Some(_)) if bytes != TIP_BYTES as u64 => {
            let why = format!("it has {bytes} bytes, {TIP_BYTES} were written");
            return Finding::new(TIP_PATH, check, Err(Error::corrupt(TIP_PATH, why)));
        }
        (Ok(bytes), None) => {
            let why = format!(
                "its {bytes} bytes are not those that were written: readers see nothing behind the newest manifest"
            );
            return Finding::new(TIP_PATH, check, Err(Error::corrupt(TIP_PATH, why)));
        }
        (Ok(_), Some(tip)) => tip,
    };
    if tip.number >= log.next {
        let path = file_path(tip.number);
        let error = Error::new(ErrorKind::NotFound, format!("{path} is not there, and wal/tip names it"));
        return Finding::new(path, "frames and versions", Err(error));
    }
    let mut is_behind = tip.version < log.durable.unwrap_or(log.last)
        || log.durable.is_none() && tip.number.next() == log.next && tip.offset != log.length;
    if is_behind && log.durable.is_none() {
        tokio::time::sleep(WRITTEN_WITHIN).await;
        is_behind = WalTip::read(fs).ok().flatten() == Some(tip);
    }
    let detail = format!("{} at offset {}, version {}", file_path(tip.number), tip.offset, tip.version);
    let mut finding = Finding::new(TIP_PATH, check, Ok(detail));
    if is_behind {
        finding.status = FindingStatus::Warning;
        let (last, length) = (log.last, log.length);
        finding.detail +=
            &format!(", while the log goes to version {last}, offset {length}: readers see no more");
        "its writer may sync later; the next commit, or opening the database for writing, makes it again"
            .clone_into(&mut finding.hint);
    }
    finding
}

/// Bytes behind what counts. Nobody reads them, so they are no damage of the database.
fn unused(log: &Log, findings: &mut Findings) {
    for Remains { path, offset, bytes, is_cut } in &log.remains {
        let mut finding = Finding::new(path.clone(), "unused bytes", Ok(String::new()));
        finding.status = FindingStatus::Warning;
        finding.detail = match is_cut {
            true => format!("{bytes} bytes are missing at offset {offset}, behind the last entry"),
            false => format!(
                "{bytes} bytes at offset {offset}, behind the last entry, are not zero: left when a writer stopped, or damaged since"
            ),
        };
        "no acknowledged commit is in them and nobody reads them; the next checkpoint but one removes the file"
            .clone_into(&mut finding.hint);
        findings.push(finding);
    }
    if log.remains.is_empty() {
        findings.push(Finding::new("wal", "unused bytes", Ok("as they were made".to_owned())));
    }
}

/// The note of a bucket's writer, which knows how far the log goes when no later object tells.
async fn noted(database: &Database, log: &Log) -> Finding {
    let check = "checksum and place";
    let (epoch, version) = match database.writer_note().await {
        Ok(Some(note)) => note,
        Ok(None) => {
            let mut finding = Finding::new("writer", check, Ok("it is not there".to_owned()));
            if log.last > CommitVersion(0) {
                finding.status = FindingStatus::Warning;
                "nothing depends on it; the writer makes it again within 20 s".clone_into(&mut finding.hint);
            }
            return finding;
        }
        Err(error) => return Finding::new("writer", check, Err(error)),
    };
    let newest = log.manifest.as_ref().map_or(Epoch(0), |m| m.epoch);
    let mut finding = Finding::new("writer", check, Ok(format!("epoch {epoch}, version {version}")));
    let mut missed = None;
    if version > log.last {
        // It was read after the log: what is missing now must be missing still.
        let later = objects(database, log.manifest.clone(), log.seen.clone()).await;
        missed = later.ok().filter(|log| version > log.last);
    }
    let Some(last) = missed else {
        if epoch < newest {
            finding.status = FindingStatus::Warning;
            finding.detail += &format!(", while the newest manifest is of epoch {newest}");
            "nothing depends on it; the writer makes it again within 20 s".clone_into(&mut finding.hint);
        }
        return finding;
    };
    let path = object_path(last.next);
    let why =
        format!("it is not there: the log ends with version {}, its writer has noted {version}", last.last);
    Finding::new(path, "frames and versions", Err(Error::new(ErrorKind::NotFound, why)))
}

/// The newest manifest and the entries behind it, applied anew, make what is read.
async fn replayed(database: &Database, log: Log) -> Result<String> {
    let Log { manifest, entries, mut source, seen, .. } = log;
    let store = database.shared.past_cache();
    let number = manifest.as_ref().map_or(0, |m| m.number.0);
    let base = replay::base(manifest.as_ref(), &database.manifests, &store, Missing::Damage).await?;
    // A reader may stand on an older manifest than there is by now.
    let is_later = base.number > seen.version();
    let mut stored = entries.stored.as_slice();
    if !is_later {
        let later = stored.iter().position(|entry| entry.version > seen.version());
        stored = &stored[..later.unwrap_or(stored.len())];
    }
    let count = stored.len();
    // Neither the log nor its rows are held as a whole.
    let mut made = base;
    while let Some((first, _)) = stored.split_first() {
        let mut bytes = first.length;
        let more = stored[1..].iter().take_while(|entry| {
            bytes += entry.length;
            entry.number == first.number && bytes <= STRETCH_BYTES
        });
        let (stretch, rest) = stored.split_at(1 + more.count());
        let (applied, _) = replay::apply(made, source.read(stretch).await?, &store, Missing::Damage).await?;
        made = applied.counted();
        stored = rest;
    }
    if !is_later {
        agree(&made, seen.state())?;
    }
    let rows: u64 = made.live_tables().map(|table| table.live_rows).sum();
    let tables = counted(made.live_tables().count() as u64, "table");
    Ok(format!(
        "manifest {number} and {count} after it make version {}: {tables}, {}",
        made.number,
        counted(rows, "row")
    ))
}

/// Whether two states of the same version are the same, as far as they can be compared without reading rows.
fn agree(made: &Version, read: &Version) -> Result<()> {
    let wrong = |why: String| {
        let why = format!("what it makes is not what is read: {why}");
        Err(Error::corrupt("wal", why)
            .with_hint("open the database again, then VERIFY DEEP; please report it"))
    };
    if made.number != read.number {
        return wrong(format!("version {} instead of {}", made.number, read.number));
    }
    let is_live = |state: &Version, table: &TableState| {
        state.tables.get(&table.def.id).is_some_and(|table| table.dropped_at.is_none())
    };
    if let Some(table) = made.live_tables().find(|table| !is_live(read, table)) {
        return wrong(format!("table {} is not there", table.def.qualified_name()));
    }
    for table in read.live_tables() {
        let name = table.def.qualified_name();
        let Some(other) = made.tables.get(&table.def.id).filter(|other| other.dropped_at.is_none()) else {
            return wrong(format!("table {name} is not in the log"));
        };
        let is_damaged = |table: &TableState| table.segments.iter().any(|s| s.damaged.is_some());
        if is_damaged(table) || is_damaged(other) {
            // Told where its deletes are checked.
            continue;
        }
        if table.def != other.def {
            return wrong(format!("table {name} is defined otherwise"));
        }
        let (rows, ids) = (other.live_rows, other.next_row_id);
        if (rows, ids) != (table.live_rows, table.next_row_id) {
            return wrong(format!(
                "table {name} has {rows} rows, the next id {ids}, instead of {} and {}",
                table.live_rows, table.next_row_id
            ));
        }
        if other.numbered != table.numbered {
            return wrong(format!("table {name} has its numbers used up to somewhere else"));
        }
        if made.manifest == read.manifest && objects_of(table) != objects_of(other) {
            return wrong(format!("table {name} has other segments, deletes or index units"));
        }
    }
    Ok(())
}

/// Segments with their hashes, `.deletes` objects and units that a table names.
fn objects_of(table: &TableState) -> BTreeSet<(ObjectId, &str)> {
    let present = || table.segments.iter().filter(|segment| segment.dropped_at.is_none());
    let segments = present().map(|segment| (segment.meta.id, segment.meta.xxh3.as_str()));
    let deletes = present().flat_map(|segment| &segment.delete_objects).map(|deletes| (deletes.id, ""));
    let units = table.units.iter().map(|unit| (unit.id, unit.xxh3.as_str()));
    segments.chain(deletes).chain(units).collect()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use uuid::Uuid;

    use super::*;
    use crate::id::DatabaseId;
    use crate::object::counting::CountingStore;
    use crate::object::open_memory;
    use crate::wal::{Group, ObjectWal, ObjectWalOptions, Wal};

    #[tokio::test]
    async fn an_object_is_read_once_for_all_its_parts() {
        let counting = Arc::new(CountingStore::new(open_memory()));
        let store = Arc::clone(&counting) as Arc<dyn ObjectStore>;
        let id = DatabaseId(Uuid::from_u128(1));
        let mut log = ObjectWalReader::new(Arc::clone(&store), id, WalNumber(1), Epoch(0));
        let options = ObjectWalOptions {
            database_id: id,
            epoch: Epoch(1),
            flush_interval: Duration::ZERO,
            timeout: Duration::from_secs(1),
            removes: false,
        };
        let wal = ObjectWal::create(options, &log, CommitVersion(1));
        for first in [1, 4] {
            let entries = [b"one", b"two", b"six"].map(|payload| Bytes::from_static(payload)).to_vec();
            wal.append(Group { first: CommitVersion(first), entries }).await.unwrap();
        }
        let found = log.read_on(2).await.unwrap();
        let stored: Vec<Stored> = found
            .iter()
            .map(|entry| Stored {
                number: entry.number,
                offset: entry.offset,
                length: entry.payload.len(),
                version: CommitVersion(0),
            })
            .collect();
        let mut source = Source::Objects { store, held: None };
        counting.count();
        let mut read = Vec::new();
        // Never those of two objects together.
        for part in stored.chunks(3).flat_map(|of_object| of_object.chunks(2)) {
            read.extend(source.read(part).await.unwrap().into_iter().map(|entry| entry.payload));
        }
        assert_eq!(read, found.iter().map(|entry| entry.payload.clone()).collect::<Vec<_>>());
        assert_eq!((read.len(), counting.count()), (6, 2));
    }
}
