//! `wal/tip`: how far followers may read. A journal's mark of what it has sent has the same form.
//!
//! Owns: its 32 bytes. Written in place after each sync and never synced itself: it is advice for other processes of the
//! same machine; recovery only checks that the log reaches it. It never names anything that is not durable.
//!
//! | offset | bytes | what (little-endian) |
//! |---|---|---|
//! | 0 | 8 | number of the file appended to |
//! | 8 | 8 | bytes of it that are durable |
//! | 16 | 8 | last durable version |
//! | 24 | 4 | `CTIP` |
//! | 28 | 4 | crc32c of bytes 0..28 |

use std::io;
use std::sync::Arc;

use crate::error::{Error, Result};
use crate::fs::{File, FileSystem, OpenMode};
use crate::id::{CommitVersion, WalNumber};
use crate::wal::frame::{u32_at, u64_at};

pub(crate) const TIP_PATH: &str = "wal/tip";
/// Length of the file.
pub(crate) const BYTES: usize = 32;
const MAGIC: &[u8; 4] = b"CTIP";
/// A reader may meet the writer in the middle of its 32 bytes.
const READS: usize = 8;

/// The durable end of the log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct WalTip {
    /// File now appended to.
    pub number: WalNumber,
    /// Bytes of it that are durable.
    pub offset: u64,
    /// Last durable version.
    pub version: CommitVersion,
}

impl WalTip {
    /// The present tip; None when there is none, or none that can be read.
    ///
    /// # Errors
    /// I/O errors other than absence.
    pub fn read(fs: &dyn FileSystem) -> Result<Option<Self>> {
        Self::read_at(fs, TIP_PATH)
    }

    /// What stands in `path`; None when there is nothing that can be read.
    ///
    /// # Errors
    /// I/O errors other than absence.
    pub(crate) fn read_at(fs: &dyn FileSystem, path: &str) -> Result<Option<Self>> {
        let file = match fs.open(path, OpenMode::Read) {
            Ok(file) => file,
            Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(e) => return Err(Error::io(format!("opening {path}"), e)),
        };
        for _ in 0..READS {
            let mut bytes = [0; BYTES];
            let read = file.read_at(&mut bytes, 0).map_err(|e| Error::io(format!("reading {path}"), e))?;
            if let Some(tip) = Self::decode(&bytes[..read]) {
                return Ok(Some(tip));
            }
            std::hint::spin_loop();
        }
        Ok(None)
    }

    fn encode(self) -> [u8; BYTES] {
        let mut bytes = [0; BYTES];
        bytes[0..8].copy_from_slice(&self.number.0.to_le_bytes());
        bytes[8..16].copy_from_slice(&self.offset.to_le_bytes());
        bytes[16..24].copy_from_slice(&self.version.0.to_le_bytes());
        bytes[24..28].copy_from_slice(MAGIC);
        let checksum = crc32c::crc32c(&bytes[..28]);
        bytes[28..].copy_from_slice(&checksum.to_le_bytes());
        bytes
    }

    fn decode(bytes: &[u8]) -> Option<Self> {
        let whole = bytes.len() == BYTES && &bytes[24..28] == MAGIC;
        (whole && crc32c::crc32c(&bytes[..28]) == u32_at(bytes, 28)).then(|| Self {
            number: WalNumber(u64_at(bytes, 0)),
            offset: u64_at(bytes, 8),
            version: CommitVersion(u64_at(bytes, 16)),
        })
    }
}

/// The writer's end of `wal/tip`, or of another file of that form.
#[derive(Debug)]
pub(crate) struct TipFile(Arc<dyn File>);

impl TipFile {
    pub(super) fn open(fs: &dyn FileSystem) -> Result<Self> {
        Self::open_at(fs, TIP_PATH)
    }

    /// The file `path`, made when it is not there.
    ///
    /// # Errors
    /// I/O errors.
    pub(crate) fn open_at(fs: &dyn FileSystem, path: &str) -> Result<Self> {
        let opened = fs.open(path, OpenMode::OpenOrCreate);
        opened.map(Self).map_err(|e| Error::io(format!("opening {path}"), e))
    }

    pub(crate) fn write(&self, tip: WalTip) {
        // A failure only leaves others behind: it must not fail a commit that is durable.
        let _ignored = self.0.write_at(&tip.encode(), 0);
    }
}
