//! The file of one cached object: whose it is, and its blocks, each with its checksum.
//!
//! Owns: these bytes, and the names of files. Does not own: which blocks are wanted, which file goes. Nothing is synced: whatever a
//! crash, a full disk or another process left here, a block is only what its checksum says it is. Blocks that were never written
//! are holes, which no checksum fits.
//!
//! # File `<2>/<2>/<28 hexadecimal digits of the path's xxh3-128>`, little-endian
//! | bytes | what |
//! |---|---|
//! | 8 | magic `CAIRNOBJ` |
//! | 4 | format: 1 |
//! | 4 | bytes p of the object's path |
//! | 8 | length of the object |
//! | p | path of the object below the root |
//! | 4 | crc32c c of everything before |
//!
//! Block n stands at 4096 + n * 65544:
//!
//! | bytes | what |
//! |---|---|
//! | b | bytes n * 65536 .. n * 65536 + b of the object; b is 65536 but in its last block |
//! | 4 | b |
//! | 4 | crc32c, begun with c, of n in 4 bytes and the bytes |

use std::fs;
use std::io;
use std::os::unix::fs::{DirBuilderExt, FileExt, MetadataExt, OpenOptionsExt};
use std::path::{Path as FilePath, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::SystemTime;

use bytes::Bytes;
use object_store::path::Path;
use xxhash_rust::xxh3::xxh3_128;

use super::{BLOCK, BLOCK_BYTES};

const MAGIC: &[u8; 8] = b"CAIRNOBJ";
const FORMAT: u32 = 1;
/// Bytes of a header before the path.
const FIXED_BYTES: usize = 24;
const CHECKSUM_BYTES: usize = 4;
/// Longer paths are not cached; ours have about 50 bytes.
pub(super) const PATH_BYTES_MAX: usize = 1024;
const HEADER_BYTES_MAX: usize = FIXED_BYTES + PATH_BYTES_MAX + CHECKSUM_BYTES;
/// Where the first block stands.
const BLOCKS_AT: u64 = 4096;
/// Bytes behind each block: its length and checksum.
pub(super) const TRAILER_BYTES: usize = 8;

const _: () = assert!(HEADER_BYTES_MAX as u64 <= BLOCKS_AT);

/// How many blocks an object of `length` bytes has.
pub(super) fn blocks_of(length: u64) -> u32 {
    u32::try_from(length.div_ceil(BLOCK)).unwrap_or(u32::MAX)
}

/// Bytes of one of its blocks; 0 past its end.
pub(super) fn block_bytes(length: u64, number: u32) -> usize {
    length.saturating_sub(u64::from(number) * BLOCK).min(BLOCK) as usize
}

fn slot(number: u32) -> u64 {
    BLOCKS_AT + u64::from(number) * (BLOCK_BYTES + TRAILER_BYTES) as u64
}

/// The header of an object's file; its checksum is what those of its blocks begin with, so that no block is taken for one of
/// another object, or of one that had another length.
fn header(path: &str, length: u64) -> (Vec<u8>, u32) {
    let mut bytes = Vec::with_capacity(FIXED_BYTES + path.len() + CHECKSUM_BYTES);
    bytes.extend_from_slice(MAGIC);
    bytes.extend_from_slice(&FORMAT.to_le_bytes());
    bytes.extend_from_slice(&(path.len() as u32).to_le_bytes());
    bytes.extend_from_slice(&length.to_le_bytes());
    bytes.extend_from_slice(path.as_bytes());
    let checksum = crc32c::crc32c(&bytes);
    bytes.extend_from_slice(&checksum.to_le_bytes());
    (bytes, checksum)
}

/// Path and length of the object whose file begins with `bytes`; None: no header of this format.
fn parse_header(bytes: &[u8]) -> Option<(&str, u64)> {
    let number = |at: usize| Some(u32::from_le_bytes(*bytes.get(at..)?.first_chunk()?));
    let path_bytes = number(12)? as usize;
    if !bytes.starts_with(MAGIC) || number(8)? != FORMAT || path_bytes > PATH_BYTES_MAX {
        return None;
    }
    let end = FIXED_BYTES + path_bytes;
    if number(end)? != crc32c::crc32c(bytes.get(..end)?) {
        return None;
    }
    let length = u64::from_le_bytes(*bytes.get(16..)?.first_chunk()?);
    Some((std::str::from_utf8(bytes.get(FIXED_BYTES..end)?).ok()?, length))
}

/// What stands behind a block.
fn trailer(seed: u32, number: u32, block: &[u8]) -> [u8; TRAILER_BYTES] {
    let checksum = crc32c::crc32c_append(crc32c::crc32c_append(seed, &number.to_le_bytes()), block);
    let mut trailer = [0; TRAILER_BYTES];
    trailer[..4].copy_from_slice(&(block.len() as u32).to_le_bytes());
    trailer[4..].copy_from_slice(&checksum.to_le_bytes());
    trailer
}

/// The place of one object's blocks on disk; there need not be a file yet.
#[derive(Debug)]
pub(super) struct BlockFile {
    name: PathBuf,
    path: String,
}

/// What a file of an earlier time, or of another process, is about.
#[derive(Clone, Copy, Debug)]
pub(super) struct FoundFile {
    /// Length of the object.
    pub(super) length: u64,
    /// Bytes it takes on disk, about.
    pub(super) held_bytes: u64,
}

impl BlockFile {
    /// The file of object `path` below `directory`.
    pub(super) fn new(directory: &FilePath, path: &Path) -> Self {
        let path = path.as_ref();
        let hash = format!("{:032x}", xxh3_128(path.as_bytes()));
        let name = directory.join(&hash[..2]).join(&hash[2..4]).join(&hash[4..]);
        Self { name, path: path.to_owned() }
    }

    /// What is there of the object; None: nothing that can be used.
    pub(super) fn find(&self) -> Option<FoundFile> {
        let (path, found, _) = inspect(&self.name)?;
        (path == self.path).then_some(found)
    }

    /// Opens the file for reading blocks of an object of `length` bytes; None: it is not there, or can't be read.
    pub(super) fn open(&self, length: u64) -> Option<OpenFile> {
        let file = fs::File::open(&self.name).ok()?;
        Some(OpenFile { file, seed: header(&self.path, length).1, length })
    }

    /// Writes blocks of an object of `length` bytes. Writing the same again changes nothing, whoever does it.
    ///
    /// # Errors
    /// The disk's; some of the blocks may be there then.
    pub(super) fn write(&self, length: u64, blocks: &[(u32, Bytes)]) -> io::Result<()> {
        let file = match self.create() {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                if let Some(directory) = self.name.parent() {
                    fs::DirBuilder::new().recursive(true).mode(0o700).create(directory)?;
                }
                self.create()?
            }
            other => other?,
        };
        let (header, seed) = header(&self.path, length);
        file.write_all_at(&header, 0)?;
        let mut bytes = Vec::with_capacity(BLOCK_BYTES + TRAILER_BYTES);
        for (number, block) in blocks {
            bytes.clear();
            bytes.extend_from_slice(block);
            bytes.extend_from_slice(&trailer(seed, *number, block));
            file.write_all_at(&bytes, slot(*number))?;
        }
        Ok(())
    }

    /// Never cuts what another process may be reading or writing.
    fn create(&self) -> io::Result<fs::File> {
        fs::OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .mode(0o600)
            .open(&self.name)
    }

    /// Removes the file. One that can't be removed is found, and tried again, at the next opening.
    pub(super) fn remove(&self) {
        let _ignored = fs::remove_file(&self.name);
    }
}

/// An object's file, open for reading.
#[derive(Debug)]
pub(super) struct OpenFile {
    file: fs::File,
    seed: u32,
    length: u64,
}

impl OpenFile {
    /// Bytes of a block; 0 past the object's end.
    pub(super) fn block_bytes(&self, number: u32) -> usize {
        block_bytes(self.length, number)
    }

    /// Whether a block seems to stand there: a cheap look that tells holes.
    pub(super) fn promises(&self, number: u32) -> bool {
        let bytes = self.block_bytes(number);
        let mut found = [0; 4];
        let read = self.file.read_exact_at(&mut found, slot(number) + bytes as u64);
        read.is_ok() && bytes > 0 && u32::from_le_bytes(found) as usize == bytes
    }

    /// Reads a block to the front of `into`, which has room for it and what stands behind it. False: it is not there, or not
    /// what was written.
    pub(super) fn read(&self, number: u32, into: &mut [u8]) -> bool {
        let bytes = self.block_bytes(number);
        let Some(into) = into.get_mut(..bytes + TRAILER_BYTES) else { return false };
        if bytes == 0 || self.file.read_exact_at(into, slot(number)).is_err() {
            return false;
        }
        let (block, found) = into.split_at(bytes);
        found == trailer(self.seed, number, block)
    }
}

/// The object a file is about, and when the file was last written; None: it is none of ours, or not of this format.
fn inspect(name: &FilePath) -> Option<(String, FoundFile, SystemTime)> {
    let file = fs::File::open(name).ok()?;
    let meta = file.metadata().ok()?;
    let mut bytes = vec![0; usize::try_from(meta.len()).unwrap_or(usize::MAX).min(HEADER_BYTES_MAX)];
    file.read_exact_at(&mut bytes, 0).ok()?;
    let (path, length) = parse_header(&bytes)?;
    // Holes take no space. A file system that has not decided yet where to put the bytes says that they take none.
    let held_bytes = if meta.blocks() == 0 { meta.len() } else { meta.len().min(512 * meta.blocks()) };
    let written = meta.modified().unwrap_or(SystemTime::UNIX_EPOCH);
    Some((path.to_owned(), FoundFile { length, held_bytes }, written))
}

/// All files of objects below `directory`, the one written longest ago first. Those that can't be used any more are removed; names
/// that are not ours are left alone. Ends early when `stop` is set.
pub(super) fn list(directory: &FilePath, stop: &AtomicBool) -> Vec<(Path, FoundFile)> {
    let mut found = Vec::new();
    for outer in names(directory, 2) {
        for inner in names(&outer, 2) {
            for name in names(&inner, 28) {
                if stop.load(Ordering::Relaxed) {
                    return Vec::new();
                }
                found.extend(usable(directory, &name));
            }
        }
    }
    found.sort_by_key(|(_, _, written)| *written);
    found.into_iter().map(|(path, file, _)| (path, file)).collect()
}

/// A file that is what its name says; others are removed, but for an empty one, which another process may just have created.
fn usable(directory: &FilePath, name: &FilePath) -> Option<(Path, FoundFile, SystemTime)> {
    let inspected = inspect(name).and_then(|(path, found, written)| {
        let path = Path::parse(path).ok()?;
        (BlockFile::new(directory, &path).name == name).then_some((path, found, written))
    });
    if inspected.is_none() && fs::metadata(name).is_ok_and(|meta| meta.is_file() && meta.len() > 0) {
        let _ignored = fs::remove_file(name);
    }
    inspected
}

/// The entries of a directory whose names are `digits` hexadecimal digits; none when it can't be read.
fn names(directory: &FilePath, digits: usize) -> Vec<PathBuf> {
    let Ok(entries) = fs::read_dir(directory) else { return Vec::new() };
    let is_ours = |name: &str| {
        name.len() == digits && name.bytes().all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b))
    };
    entries
        .filter_map(Result::ok)
        .filter(|entry| entry.file_name().to_str().is_some_and(is_ours))
        .map(|entry| entry.path())
        .collect()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn hex(bytes: &[u8]) -> String {
        bytes.iter().map(|b| format!("{b:02x}")).collect()
    }

    #[test]
    fn bytes_are_pinned() {
        let directory = tempfile::tempdir().unwrap();
        let file = BlockFile::new(directory.path(), &Path::from("table/1/2-3.parquet"));
        assert!(file.name.starts_with(directory.path()));
        file.write(BLOCK + 3, &[(1, Bytes::from_static(b"abc"))]).unwrap();
        let bytes = fs::read(&file.name).unwrap();
        let (header, seed) = header("table/1/2-3.parquet", BLOCK + 3);
        assert_eq!(hex(&bytes[..header.len()]), hex(&header));
        assert_eq!(
            hex(&header[..43]),
            "434149524e4f424a01000000130000000300010000000000\
             7461626c652f312f322d332e70617271756574"
        );
        assert_eq!(crc32c::crc32c(&header[..43]), seed);
        assert_eq!(bytes.len(), 4096 + 65544 + 3 + 8);
        let checksum = crc32c::crc32c_append(seed, b"\x01\0\0\0abc");
        let block = [&b"abc\x03\0\0\0"[..], &checksum.to_le_bytes()].concat();
        assert_eq!(hex(&bytes[4096 + 65544..]), hex(&block));
        assert!(bytes[header.len()..4096 + 65544].iter().all(|b| *b == 0));
    }

    #[test]
    fn headers_come_back_or_are_refused() {
        let (bytes, _) = header("table/1/a", 70_000);
        assert_eq!(parse_header(&bytes), Some(("table/1/a", 70_000)));
        for at in 0..bytes.len() {
            let mut bad = bytes.clone();
            bad[at] ^= 4;
            assert_eq!(parse_header(&bad), None, "byte {at}");
            assert_eq!(parse_header(&bytes[..at]), None, "{at} bytes");
        }
        let mut newer = bytes[..bytes.len() - 4].to_vec();
        newer[8] = 2;
        newer.extend_from_slice(&crc32c::crc32c(&newer).to_le_bytes());
        assert_eq!(parse_header(&newer), None);
    }

    #[test]
    fn a_block_is_read_as_written_or_not_at_all() {
        let directory = tempfile::tempdir().unwrap();
        let file = BlockFile::new(directory.path(), &Path::from("table/1/a"));
        assert!(file.find().is_none() && file.open(70_000).is_none());
        let (first, last) = (Bytes::from(vec![0; BLOCK_BYTES]), Bytes::from(vec![7; 70_000 - BLOCK_BYTES]));
        file.write(70_000, &[(1, last.clone())]).unwrap();
        let mut buffer = vec![1; BLOCK_BYTES + TRAILER_BYTES];
        let open = file.open(70_000).unwrap();
        assert!(!open.promises(0) && !open.read(0, &mut buffer), "a hole is no block of zeros");
        file.write(70_000, &[(0, first.clone())]).unwrap();
        assert!(open.promises(0) && open.read(0, &mut buffer));
        assert_eq!(buffer[..BLOCK_BYTES], first);
        assert!(open.promises(1) && open.read(1, &mut buffer));
        assert_eq!(buffer[..last.len()], last);
        assert!(!open.promises(2) && !open.read(2, &mut buffer));
        assert!(!open.read(0, &mut buffer[..BLOCK_BYTES]), "no room");
        // Another length of the object: every block counts as another's.
        let longer = file.open(70_001).unwrap();
        assert!(!longer.read(0, &mut buffer) && !longer.read(1, &mut buffer));
        let found = file.find().unwrap();
        assert_eq!(found.length, 70_000);
        assert!(found.held_bytes > 0 && found.held_bytes <= slot(2));
    }

    #[test]
    fn listing_finds_what_can_be_used() {
        let directory = tempfile::tempdir().unwrap();
        let never = AtomicBool::new(false);
        let paths = ["table/1/a", "table/1/b", "table/2/c"].map(Path::from);
        for path in &paths {
            BlockFile::new(directory.path(), path).write(3, &[(0, Bytes::from_static(b"abc"))]).unwrap();
        }
        let file = |path: &Path| BlockFile::new(directory.path(), path).name;
        // Under the name of another, damaged, created just now, and somebody else's.
        fs::rename(file(&paths[0]), file(&paths[1])).unwrap();
        let damaged = file(&Path::from("table/3/d"));
        fs::create_dir_all(damaged.parent().unwrap()).unwrap();
        fs::write(&damaged, b"something else").unwrap();
        let empty = damaged.with_file_name("0".repeat(28));
        fs::write(&empty, b"").unwrap();
        let other = directory.path().join("notes.txt");
        fs::write(&other, b"mine").unwrap();
        let listed = list(directory.path(), &never);
        assert_eq!(listed.iter().map(|(path, _)| path.as_ref()).collect::<Vec<_>>(), ["table/2/c"]);
        assert_eq!(listed[0].1.length, 3);
        assert!(!file(&paths[1]).exists() && !damaged.exists());
        assert!(empty.exists() && other.exists());
        assert!(list(directory.path(), &AtomicBool::new(true)).is_empty());
    }
}
