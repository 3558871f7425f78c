//! What is done to a file, and what that makes of the directory.
//!
//! Owns: kinds of harm, the bytes they leave, copies of a directory with harm in them, frames of the log as far as judging needs them. Does not
//! own: which cases are tried (`tests/damage.rs`), what must come of them (`judge`).

use std::fmt;
use std::fs;
use std::path::Path;

use super::home::{FileKind, Home, Stored};

/// Bytes of a zeroed block.
pub const ZEROED_BYTES: usize = 512;
/// Length of a log file's header.
const LOG_HEADER_BYTES: usize = 128;
/// Bytes of a frame before its payload.
const FRAME_HEADER_BYTES: usize = 32;
/// Frames begin at multiples of this.
const FRAME_ALIGN: usize = 8;
/// So much of the zeros behind the last frame is worth harming.
const BEHIND_BYTES: usize = 1024;
const TIP: &str = "wal/tip";

/// What is done to one file.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Harm {
    /// One bit is another.
    Flip,
    /// The file ends here.
    Cut,
    /// [`ZEROED_BYTES`] zeros from here on.
    Zero,
    /// The file is not there.
    Missing,
    /// It holds what another of its kind held, and that one what it held.
    Swapped,
    /// It has no bytes.
    Empty,
    /// As [`Flip`](Self::Flip) in the log's last file, and no `wal/tip`: a power cut leaves that, too.
    TornFlip,
    /// As [`Zero`](Self::Zero) there.
    TornZero,
}

impl Harm {
    /// All of them.
    pub const ALL: [Self; 8] = [
        Self::Flip,
        Self::Cut,
        Self::Zero,
        Self::Missing,
        Self::Swapped,
        Self::Empty,
        Self::TornFlip,
        Self::TornZero,
    ];

    /// As it is written in variables and reports.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Flip => "flip",
            Self::Cut => "cut",
            Self::Zero => "zero",
            Self::Missing => "missing",
            Self::Swapped => "swapped",
            Self::Empty => "empty",
            Self::TornFlip => "torn-flip",
            Self::TornZero => "torn-zero",
        }
    }

    /// Whether it is done at a place in the file, not to all of it.
    #[must_use]
    pub fn has_place(self) -> bool {
        matches!(self, Self::Flip | Self::Cut | Self::Zero | Self::TornFlip | Self::TornZero)
    }

    /// Whether it leaves what a power cut may leave, too.
    #[must_use]
    pub fn is_torn(self) -> bool {
        matches!(self, Self::TornFlip | Self::TornZero)
    }

    /// Whether files of that kind can be harmed so.
    #[must_use]
    pub fn fits(self, kind: FileKind) -> bool {
        !self.is_torn() || kind == FileKind::OpenLog
    }
}

impl fmt::Display for Harm {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

/// One thing to try.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Case {
    /// Which file of its home.
    pub file: usize,
    /// What is done to it.
    pub harm: Harm,
    /// Where; 0 where it has no place.
    pub at: usize,
    /// The file it is swapped with.
    pub other: Option<usize>,
}

/// What a file becomes: bytes, or nothing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Change {
    /// Below the root.
    pub path: String,
    /// None: it is removed.
    pub bytes: Option<Vec<u8>>,
}

impl Case {
    /// What becomes of the files; none when nothing would be another.
    ///
    /// # Panics
    /// When it is no case of that home.
    #[must_use]
    pub fn changes(&self, home: &Home, seed: u64) -> Vec<Change> {
        let file = &home.files[self.file];
        let one = |bytes: Option<Vec<u8>>| vec![Change { path: file.path.clone(), bytes }];
        let mut changes = match self.harm {
            Harm::Missing => one(None),
            Harm::Swapped => {
                let other = &home.files[self.other.unwrap()];
                let mut changes = one(Some(other.bytes.clone()));
                changes.push(Change { path: other.path.clone(), bytes: Some(file.bytes.clone()) });
                changes
            }
            Harm::Empty => one(Some(Vec::new())),
            Harm::Cut => one(Some(file.bytes[..self.at].to_vec())),
            Harm::Flip | Harm::TornFlip => {
                let mut bytes = file.bytes.clone();
                if let Some(byte) = bytes.get_mut(self.at) {
                    *byte ^= 1_u8 << ((self.at as u64).wrapping_add(seed) % 8);
                }
                one(Some(bytes))
            }
            Harm::Zero | Harm::TornZero => {
                let mut bytes = file.bytes.clone();
                let end = bytes.len().min(self.at + ZEROED_BYTES);
                bytes[self.at..end].fill(0);
                one(Some(bytes))
            }
        };
        if changes[0].bytes.as_ref() == Some(&file.bytes) {
            return Vec::new();
        }
        if self.harm.is_torn() {
            changes.push(Change { path: TIP.to_owned(), bytes: None });
        }
        changes
    }
}

/// The first byte of a file that a change leaves different, or that is gone.
#[must_use]
pub fn first_harmed(file: &Stored, change: &Change) -> usize {
    let Some(bytes) = &change.bytes else { return 0 };
    let same = file.bytes.iter().zip(bytes).take_while(|(before, after)| before == after);
    same.count()
}

/// Whether something of `range` of a file is different, or gone.
#[must_use]
pub fn harms(file: &Stored, change: &Change, range: std::ops::Range<usize>) -> bool {
    let after = change.bytes.as_deref().unwrap_or_default();
    after.get(range.clone()) != file.bytes.get(range)
}

/// Bytes of a file that are worth harming: of a log file nearly none of the zeros at its end.
#[must_use]
pub fn worth_harming(file: &Stored) -> usize {
    match file.kind {
        FileKind::OpenLog | FileKind::SealedLog => file.bytes.len().min(log_end(&file.bytes) + BEHIND_BYTES),
        _ => file.bytes.len(),
    }
}

/// Makes `to` a copy of the database at `from`, which has files of these paths, with `changes`.
///
/// Objects are linked, for nobody writes to one that is there; the log and `lock` are written in place, and copied.
///
/// # Panics
/// When a file can't be written.
pub fn lay_out<'a>(from: &Path, paths: impl Iterator<Item = &'a str>, changes: &[Change], to: &Path) {
    for path in paths {
        let (source, copy) = (from.join(path), to.join(path));
        fs::create_dir_all(copy.parent().unwrap()).unwrap();
        match changes.iter().find(|change| change.path == path) {
            Some(Change { bytes: Some(bytes), .. }) => fs::write(&copy, bytes).unwrap(),
            Some(Change { bytes: None, .. }) => {}
            None if path.starts_with("wal/") || path == "lock" => {
                fs::copy(&source, &copy).unwrap();
            }
            None => fs::hard_link(&source, &copy).unwrap(),
        }
    }
}

/// One frame of a log file, as `docs/formats/wal.md` has it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Frame {
    /// Where it begins.
    pub at: usize,
    /// Where the next one begins.
    pub end: usize,
    /// Bytes of the file that were synced when it was written.
    pub synced_upto: u64,
}

/// The frames of an undamaged log file.
///
/// # Panics
/// When it is not one.
#[must_use]
pub fn frames(bytes: &[u8]) -> Vec<Frame> {
    let mut frames = Vec::new();
    let mut at = LOG_HEADER_BYTES;
    while let Some(header) = bytes.get(at..at + FRAME_HEADER_BYTES) {
        if header.iter().all(|byte| *byte == 0) {
            break;
        }
        let payload = u32::from_le_bytes(header[..4].try_into().unwrap());
        let length = (FRAME_HEADER_BYTES + payload as usize).next_multiple_of(FRAME_ALIGN);
        let synced_upto = u64::from_le_bytes(header[16..24].try_into().unwrap());
        frames.push(Frame { at, end: at + length, synced_upto });
        at += length;
    }
    frames
}

/// Where the last frame of an undamaged log file ends.
#[must_use]
pub fn log_end(bytes: &[u8]) -> usize {
    frames(bytes).last().map_or(LOG_HEADER_BYTES, |frame| frame.end)
}

/// The header of a log file.
#[must_use]
pub fn log_header() -> std::ops::Range<usize> {
    0..LOG_HEADER_BYTES
}
