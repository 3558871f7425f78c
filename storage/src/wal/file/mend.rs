//! A damaged log: what it still says, and making it one that opens. Only a repair that was asked for comes here; recovery refuses.
//!
//! Owns: how far entries go on without a gap, and the files that take the place of what is behind. Does not own: whether that is wanted,
//! and copies of what is replaced (`repair`).
//!
//! Order: files are replaced from the highest number down, the one with the first damage last, each by a rename of a synced file. So until the
//! last rename recovery meets the damage and refuses, and a mending that was cut off is begun again with the same result. No number is used
//! again: ids of objects begin with one.

use std::io;

use super::reader::Loaded;
use super::tip::{self, WalTip};
use super::{DIRECTORY, files, path, temporary_path};
use crate::error::{Error, ErrorKind, Result};
use crate::fs::{FileSystem, OpenMode};
use crate::id::{CommitVersion, DatabaseId, Epoch, WalNumber};
use crate::wal::Recovered;
use crate::wal::frame::{FRAME_ALIGN, FRAME_HEADER, FrameKind, SEAL_BYTES, encode};
use crate::wal::header::{FileHeader, HEADER_BYTES};

/// Most files made in the place of missing ones.
const FILES_MAX: u64 = 100_000;

/// What a log says without a gap.
#[derive(Debug)]
pub(crate) struct Surviving {
    /// Entries in version order.
    pub(crate) entries: Vec<Recovered>,
    /// The version of the last of them, or the one that is described without the log.
    pub(crate) last: CommitVersion,
    /// The largest version that anything in the log names.
    pub(crate) newest: CommitVersion,
    /// The largest number of a file.
    pub(crate) highest: WalNumber,
    /// Where it is damaged; None: nowhere.
    pub(crate) cut: Option<Cut>,
}

/// Where a log is damaged first.
#[derive(Debug)]
pub(crate) struct Cut {
    /// The file.
    pub(crate) number: WalNumber,
    /// Bytes of it that are whole; 0: not even its header.
    pub(crate) offset: u64,
    /// What is wrong there.
    pub(crate) why: String,
    /// Bytes of the file before it that count; 0: there is none.
    before: u64,
    /// The version of the last whole entry of it; None: it has none of its own.
    last: Option<CommitVersion>,
}

/// Reads the log from file `from` on as far as it goes; what is `described` by a manifest need not stand in it.
///
/// # Errors
/// I/O errors, `Unsupported` and `InvalidInput` where a file is of a newer Cairn or of another database.
pub(crate) fn survive(
    fs: &dyn FileSystem,
    from: WalNumber,
    database_id: DatabaseId,
    described: CommitVersion,
) -> Result<Surviving> {
    let numbers: Vec<WalNumber> = files(fs)?.into_iter().map(|(n, _)| n).filter(|n| *n >= from).collect();
    let highest = numbers.last().copied().unwrap_or(WalNumber(from.0.saturating_sub(1)));
    let mut found = Surviving { entries: Vec::new(), last: described, newest: described, highest, cut: None };
    let (mut expected, mut before) = (from, 0);
    let mut next: Option<CommitVersion> = None;
    for (at, number) in numbers.iter().enumerate() {
        let cut = |number, offset, why: String| Some(Cut { number, offset, why, before, last: None });
        if *number != expected {
            found.cut = cut(expected, 0, "it is missing".to_owned());
            break;
        }
        let file = match Loaded::read(fs, *number, database_id) {
            Ok(file) => file,
            Err(error) if error.kind() == ErrorKind::Corrupt => {
                found.cut = cut(*number, 0, error.message().to_owned());
                break;
            }
            Err(error) => return Err(error),
        };
        let first = file.header.first;
        if next.map_or(first > described.next(), |next| next != first) {
            found.cut = cut(*number, 0, format!("it begins with version {first}"));
            break;
        }
        // Where recovery has cut it once, or it was sealed.
        let successor = numbers.get(at + 1).and_then(|n| Loaded::read(fs, *n, database_id).ok());
        let end = successor.as_ref().map(|file| file.header.predecessor_length);
        let length = end.and_then(|end| usize::try_from(end).ok()).unwrap_or(usize::MAX);
        let (whole, why) = match file.walk(length, &mut found.entries) {
            Ok(walked) => {
                next = Some(walked.next);
                let (synced, _) = file.behind(&walked);
                let short = (file.bytes.len() as u64) < file.header.created_length && !walked.sealed;
                let why = match end {
                    Some(end) if (walked.at as u64) < end => {
                        Some(walked.why.unwrap_or("entries are missing"))
                    }
                    None if !walked.sealed && (walked.at as u64) < synced => {
                        Some(walked.why.unwrap_or("an entry is missing"))
                    }
                    None if short => Some("it is shorter than it was created, and not sealed"),
                    Some(_) | None => None,
                };
                (walked.at as u64, why.map(str::to_owned))
            }
            Err(error) => {
                let last = found.entries.last().filter(|entry| entry.number == *number);
                let whole = last.map_or(HEADER_BYTES, |entry| {
                    entry.offset as usize + (FRAME_HEADER + entry.payload.len()).next_multiple_of(FRAME_ALIGN)
                });
                next = None;
                (whole as u64, Some(error.message().to_owned()))
            }
        };
        let last = match next {
            Some(next) => CommitVersion(next.0.saturating_sub(1)),
            // Entries are dense from the file's first.
            None => {
                let here = found.entries.iter().filter(|entry| entry.number == *number).count() as u64;
                CommitVersion(first.0.saturating_sub(1) + here)
            }
        };
        found.last = found.last.max(last);
        if let Some(why) = why {
            found.cut = Some(Cut { number: *number, offset: whole, why, before, last: Some(last) });
            break;
        }
        before = whole;
        expected = number.next();
    }
    found.newest = found.last.max(newest(fs, &numbers, database_id)?);
    let tip = WalTip::read(fs)?.map_or(CommitVersion(0), |tip| tip.version);
    if found.cut.is_none() && (numbers.is_empty() || tip > found.last) {
        let why = "it is missing".to_owned();
        found.cut = Some(Cut { number: expected, offset: 0, why, before, last: None });
    }
    Ok(found)
}

/// The largest version that a frame or a header of the files, or the tip, names.
fn newest(fs: &dyn FileSystem, numbers: &[WalNumber], database_id: DatabaseId) -> Result<CommitVersion> {
    let mut newest = WalTip::read(fs)?.map_or(CommitVersion(0), |tip| tip.version);
    for number in numbers {
        let Ok(file) = Loaded::read(fs, *number, database_id) else { continue };
        newest = newest.max(file.header.predecessor_last);
        let mut entries = Vec::new();
        if let Ok(walked) = file.walk(usize::MAX, &mut entries) {
            newest = newest.max(CommitVersion(walked.next.0.saturating_sub(1)));
            newest = newest.max(file.behind(&walked).1.unwrap_or_default());
        }
    }
    Ok(newest)
}

/// Makes the log end behind what survives, in file `highest` or the last there is: opening goes on with the number after it. Nothing when it
/// is not damaged. The tip is to be [removed](remove_tip) afterwards.
///
/// # Errors
/// I/O errors; the log is then as damaged as it was, and mending it again is the same.
pub(crate) fn mend(
    fs: &dyn FileSystem,
    database_id: DatabaseId,
    surviving: &Surviving,
    highest: WalNumber,
) -> Result<()> {
    let highest = highest.max(surviving.highest);
    let (start, mut before) = match &surviving.cut {
        Some(cut) => (cut.number, cut.before),
        None => return Ok(()),
    };
    if highest.0.saturating_sub(start.0) > FILES_MAX {
        return Err(Error::new(
            ErrorKind::ResourceExhausted,
            format!("{} log files would take the place of what is missing", highest.0 - start.0),
        ));
    }
    let mut files = Vec::new();
    for number in (start.0..=highest.0.max(start.0)).map(WalNumber) {
        let is_kept = |cut: &&Cut| cut.number == number && cut.last == Some(surviving.last);
        let kept = surviving.cut.as_ref().filter(is_kept);
        let bytes = match kept {
            Some(cut) => kept_with_seal(fs, database_id, number, cut.offset, surviving.last)?,
            None => empty(database_id, number, before, surviving.last),
        };
        before = bytes.len() as u64;
        files.push((number, bytes));
    }
    fs.create_dir_all(DIRECTORY).map_err(|e| Error::io("creating wal", e))?;
    for (number, bytes) in files.iter().rev() {
        replace(fs, *number, bytes)?;
    }
    Ok(())
}

/// What of a file is whole, with a seal behind it.
fn kept_with_seal(
    fs: &dyn FileSystem,
    database_id: DatabaseId,
    number: WalNumber,
    offset: u64,
    last: CommitVersion,
) -> Result<Vec<u8>> {
    let file = Loaded::read(fs, number, database_id)?;
    let kept = usize::try_from(offset).ok().and_then(|offset| file.bytes.get(..offset));
    let kept = kept.ok_or_else(|| Error::internal("a log file became shorter since it was read"))?;
    let mut bytes = kept.to_vec();
    encode(&mut bytes, file.header.salt, FrameKind::Seal, offset, last, &[]);
    Ok(bytes)
}

/// A file with nothing but a seal.
fn empty(database_id: DatabaseId, number: WalNumber, before: u64, last: CommitVersion) -> Vec<u8> {
    let header = FileHeader {
        database_id,
        number,
        salt: rand::random(),
        first: last.next(),
        predecessor_length: before,
        predecessor_last: last,
        created_length: HEADER_BYTES as u64 + SEAL_BYTES,
        epoch: Epoch(0),
        is_fence: false,
    };
    let mut bytes = header.encode().to_vec();
    encode(&mut bytes, header.salt, FrameKind::Seal, HEADER_BYTES as u64, last, &[]);
    bytes
}

fn replace(fs: &dyn FileSystem, number: WalNumber, bytes: &[u8]) -> Result<()> {
    let (name, temporary) = (path(number), temporary_path(number));
    let write = || {
        match fs.remove_file(&temporary) {
            Err(e) if e.kind() != io::ErrorKind::NotFound => return Err(e),
            Ok(()) | Err(_) => {}
        }
        let file = fs.open(&temporary, OpenMode::CreateNew)?;
        file.write_at(bytes, 0)?;
        file.sync()?;
        fs.rename(&temporary, &name)?;
        fs.sync_dir(DIRECTORY)
    };
    write().map_err(|e| Error::io(format!("replacing {name}"), e))
}

/// Removes `wal/tip`, which says what must be in the log.
///
/// # Errors
/// I/O errors.
pub(crate) fn remove_tip(fs: &dyn FileSystem) -> Result<()> {
    let removed = match fs.remove_file(tip::TIP_PATH) {
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(()),
        removed => removed,
    };
    removed.and_then(|()| fs.sync_dir(DIRECTORY)).map_err(|e| Error::io("removing wal/tip", e))
}

/// The ids of the databases that headers of the log name, in order of the files.
///
/// # Errors
/// I/O errors.
pub(crate) fn database_ids(fs: &dyn FileSystem) -> Result<Vec<DatabaseId>> {
    let mut ids = Vec::new();
    for (number, _) in files(fs)? {
        let name = path(number);
        let reading = |e| Error::io(format!("reading {name}"), e);
        let file = fs.open(&name, OpenMode::Read).map_err(reading)?;
        let bytes = super::read_range(&*file, 0, HEADER_BYTES as u64).map_err(reading)?;
        if let Ok(header) = FileHeader::read(&bytes, &name) {
            ids.push(header.database_id);
        }
    }
    Ok(ids)
}
