//! The header of a WAL file or object.
//!
//! Owns: its 128 bytes, refusing what is newer, foreign or damaged. All integers are little-endian.
//!
//! | offset | bytes | what |
//! |---|---|---|
//! | 0 | 8 | `CAIRNWAL` |
//! | 8 | 4 | format version, 1 |
//! | 12 | 4 | length of this header, 128 |
//! | 16 | 8 | reader features: who does not know them all can't read |
//! | 24 | 8 | writer features: who does not know them all can't write |
//! | 32 | 16 | database id |
//! | 48 | 8 | number of this file or object |
//! | 56 | 8 | salt: random, seeds every frame's checksum |
//! | 64 | 8 | first version |
//! | 72 | 8 | length of the predecessor up to where it counts (seal or cut); 0: there is none |
//! | 80 | 8 | last version in the predecessor and those before it |
//! | 88 | 8 | length the file was created with; it is shorter only when sealed. Of an object its length; 0 in objects of earlier versions of Cairn |
//! | 96 | 8 | epoch of the writer, in objects and in a bucket's journal; 0 in files of a directory |
//! | 104 | 4 | kind: 0 entries follow, 1 a fence: nothing follows |
//! | 108 | 16 | zero |
//! | 124 | 4 | crc32c of bytes 0..124 |

use std::fmt::Display;

use uuid::Uuid;

use super::frame::{u32_at, u64_at};
use crate::error::{Error, ErrorKind, Result, newer};
use crate::id::{CommitVersion, DatabaseId, Epoch, WalNumber};

/// Length of a header; frames begin behind it.
pub(crate) const HEADER_BYTES: usize = 128;
const MAGIC: &[u8; 8] = b"CAIRNWAL";
const FORMAT: u32 = 1;
const CHECKSUM_AT: usize = HEADER_BYTES - 4;

/// What the header says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct FileHeader {
    pub(crate) database_id: DatabaseId,
    pub(crate) number: WalNumber,
    pub(crate) salt: u64,
    pub(crate) first: CommitVersion,
    pub(crate) predecessor_length: u64,
    pub(crate) predecessor_last: CommitVersion,
    pub(crate) created_length: u64,
    pub(crate) epoch: Epoch,
    /// Whether the object only takes its number away from an older writer.
    pub(crate) is_fence: bool,
}

impl FileHeader {
    pub(crate) fn encode(&self) -> [u8; HEADER_BYTES] {
        let mut bytes = [0; HEADER_BYTES];
        let mut put = |at: usize, value: &[u8]| bytes[at..at + value.len()].copy_from_slice(value);
        put(0, MAGIC);
        put(8, &FORMAT.to_le_bytes());
        put(12, &(HEADER_BYTES as u32).to_le_bytes());
        put(32, self.database_id.0.as_bytes());
        put(48, &self.number.0.to_le_bytes());
        put(56, &self.salt.to_le_bytes());
        put(64, &self.first.0.to_le_bytes());
        put(72, &self.predecessor_length.to_le_bytes());
        put(80, &self.predecessor_last.0.to_le_bytes());
        put(88, &self.created_length.to_le_bytes());
        put(96, &self.epoch.0.to_le_bytes());
        put(104, &u32::from(self.is_fence).to_le_bytes());
        let checksum = crc32c::crc32c(&bytes[..CHECKSUM_AT]);
        bytes[CHECKSUM_AT..].copy_from_slice(&checksum.to_le_bytes());
        bytes
    }

    /// Reads the header of the file or object `what`, which must be number `number` of `database_id`.
    ///
    /// # Errors
    /// `Corrupt` when damaged, `Unsupported` when newer, `InvalidInput` when of another database.
    pub(crate) fn decode(
        bytes: &[u8],
        what: &dyn Display,
        number: WalNumber,
        database_id: DatabaseId,
    ) -> Result<Self> {
        let header = Self::read(bytes, what)?;
        if header.database_id != database_id {
            return Err(Error::new(
                ErrorKind::InvalidInput,
                format!("{what} belongs to database {}, not {database_id}", header.database_id),
            )
            .with_hint("put the directory back as it was; files of two databases have been mixed"));
        }
        if header.number != number {
            return Err(Error::corrupt(what, format!("it calls itself number {}", header.number)));
        }
        Ok(header)
    }

    /// Reads the header of the file or object `what`, whichever it is.
    ///
    /// # Errors
    /// `Corrupt` when damaged, `Unsupported` when newer.
    pub(crate) fn read(bytes: &[u8], what: &dyn Display) -> Result<Self> {
        let damaged = |why: &str| Err(Error::corrupt(what, why));
        let Some(bytes) = bytes.first_chunk::<HEADER_BYTES>() else {
            return damaged("it is too short for a WAL header");
        };
        if &bytes[..8] != MAGIC {
            return damaged("it does not begin like a WAL file");
        }
        if crc32c::crc32c(&bytes[..CHECKSUM_AT]) != u32_at(bytes, CHECKSUM_AT) {
            return damaged("the checksum of its header is wrong");
        }
        if u32_at(bytes, 8) != FORMAT || u32_at(bytes, 12) != HEADER_BYTES as u32 {
            return Err(newer(what, format_args!("it has format {}", u32_at(bytes, 8))));
        }
        if let Some(feature) = unknown(u64_at(bytes, 16)) {
            return Err(newer(what, format_args!("it needs reader feature {feature}")));
        }
        if let Some(feature) = unknown(u64_at(bytes, 24)) {
            return Err(newer(what, format_args!("it needs writer feature {feature}")));
        }
        let kind = u32_at(bytes, 104);
        if kind > 1 {
            return Err(newer(what, format_args!("it is of kind {kind}")));
        }
        let mut id = [0; 16];
        id.copy_from_slice(&bytes[32..48]);
        Ok(Self {
            database_id: DatabaseId(Uuid::from_bytes(id)),
            number: WalNumber(u64_at(bytes, 48)),
            salt: u64_at(bytes, 56),
            first: CommitVersion(u64_at(bytes, 64)),
            predecessor_length: u64_at(bytes, 72),
            predecessor_last: CommitVersion(u64_at(bytes, 80)),
            created_length: u64_at(bytes, 88),
            epoch: Epoch(u64_at(bytes, 96)),
            is_fence: kind == 1,
        })
    }
}

/// The lowest feature set; this version of Cairn knows none.
fn unknown(features: u64) -> Option<u32> {
    (features != 0).then(|| features.trailing_zeros())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn sample() -> FileHeader {
        FileHeader {
            database_id: DatabaseId(Uuid::from_u128(7)),
            number: WalNumber(3),
            salt: 0x0123_4567_89ab_cdef,
            first: CommitVersion(10),
            predecessor_length: 4096,
            predecessor_last: CommitVersion(9),
            created_length: 1 << 20,
            epoch: Epoch(0),
            is_fence: false,
        }
    }

    fn decode(bytes: &[u8]) -> Result<FileHeader> {
        FileHeader::decode(bytes, &"wal/3", WalNumber(3), DatabaseId(Uuid::from_u128(7)))
    }

    /// Made by an independent program from the table above.
    #[test]
    fn golden_bytes() {
        let hex: String = sample().encode().iter().map(|b| format!("{b:02x}")).collect();
        let golden = concat!(
            "434149524e57414c010000008000000000000000000000000000000000000000",
            "000000000000000000000000000000070300000000000000efcdab8967452301",
            "0a00000000000000001000000000000009000000000000000000100000000000",
            "00000000000000000000000000000000000000000000000000000000494615ce",
        );
        assert_eq!(hex, golden);
    }

    #[test]
    fn comes_back_and_every_flipped_bit_is_noticed() {
        let mut bytes = sample().encode();
        assert_eq!(decode(&bytes).unwrap(), sample());
        for at in 0..bytes.len() {
            decode(&bytes[..at]).unwrap_err();
            for bit in 0..8 {
                bytes[at] ^= 1 << bit;
                assert_eq!(decode(&bytes).unwrap_err().kind(), ErrorKind::Corrupt);
                bytes[at] ^= 1 << bit;
            }
        }
    }

    #[test]
    fn newer_and_foreign_are_refused_by_name() {
        let patched = |at: usize, value: u8| {
            let mut bytes = sample().encode();
            bytes[at] = value;
            let checksum = crc32c::crc32c(&bytes[..CHECKSUM_AT]);
            bytes[CHECKSUM_AT..].copy_from_slice(&checksum.to_le_bytes());
            decode(&bytes).unwrap_err()
        };
        assert_eq!(patched(8, 2).kind(), ErrorKind::Unsupported);
        assert!(patched(16, 4).message().contains("reader feature 2"));
        assert!(patched(24, 1).message().contains("writer feature 0"));
        assert_eq!(patched(32, 9).kind(), ErrorKind::InvalidInput);
        assert_eq!(patched(48, 9).kind(), ErrorKind::Corrupt);
        assert!(patched(104, 2).message().contains("kind 2"));
    }

    #[test]
    fn a_fence_and_its_epoch_come_back() {
        let fence = FileHeader { epoch: Epoch(5), is_fence: true, ..sample() };
        assert_eq!(decode(&fence.encode()).unwrap(), fence);
    }
}
