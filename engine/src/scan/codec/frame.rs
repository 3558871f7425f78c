//! The frame of an encoded scan: sections with one checksum over everything.
//!
//! Owns: magic, format version, lengths, checksum. Does not own: what the sections say. Nothing is allocated from a length that was
//! not compared with the bytes at hand.
//!
//! ```text
//!  0 [8] magic "CAIRNSCN"    8 u32 format version (1)    12 u64 sections
//! 20 u64 length of each section, then the sections
//!    u32 crc32c of everything before
//! ```
//! Numbers are little-endian. These bytes live as long as a query does: a format version is read by itself alone.

use std::fmt;

use bytes::Bytes;
use cairn_storage::ErrorKind;

use crate::error::{Error, Result};

const MAGIC: &[u8; 8] = b"CAIRNSCN";
const FORMAT_VERSION: u32 = 1;
const HEADER_BYTES: usize = 20;
const LENGTH_BYTES: usize = 8;
const CHECKSUM_BYTES: usize = 4;

/// The error for bytes that are no scan.
pub(super) fn damaged(why: impl fmt::Display) -> Error {
    cairn_storage::Error::corrupt("an encoded scan", why).into()
}

/// The sections in a frame.
pub(super) fn write(sections: &[Vec<u8>]) -> Vec<u8> {
    let body: usize = sections.iter().map(|section| LENGTH_BYTES + section.len()).sum();
    let mut out = Vec::with_capacity(HEADER_BYTES + body + CHECKSUM_BYTES);
    out.extend_from_slice(MAGIC);
    out.extend_from_slice(&FORMAT_VERSION.to_le_bytes());
    out.extend_from_slice(&(sections.len() as u64).to_le_bytes());
    for section in sections {
        out.extend_from_slice(&(section.len() as u64).to_le_bytes());
    }
    for section in sections {
        out.extend_from_slice(section);
    }
    let checksum = crc32c::crc32c(&out);
    out.extend_from_slice(&checksum.to_le_bytes());
    out
}

/// The sections of a frame.
///
/// # Errors
/// `Corrupt` for bytes that are none or have changed; `Unsupported` for another format version.
pub(super) fn read(bytes: &[u8]) -> Result<Vec<Bytes>> {
    let Some((framed, checksum)) = bytes.split_last_chunk::<CHECKSUM_BYTES>() else {
        return Err(damaged(format_args!("it has {} bytes", bytes.len())));
    };
    let Some((header, body)) = framed.split_first_chunk::<HEADER_BYTES>() else {
        return Err(damaged(format_args!("it has {} bytes", bytes.len())));
    };
    if !header.starts_with(MAGIC) {
        return Err(damaged("it does not begin with CAIRNSCN"));
    }
    let version = number(&header[8..12]);
    if version != u64::from(FORMAT_VERSION) {
        let message =
            format!("an encoded scan has format version {version}, this Cairn reads {FORMAT_VERSION}");
        return Err(Error::new(ErrorKind::Unsupported, message)
            .map(|e| e.with_hint("run the same version of Cairn in both processes")));
    }
    if crc32c::crc32c(framed).to_le_bytes() != *checksum {
        return Err(damaged("checksum"));
    }
    let count = usize::try_from(number(&header[12..])).ok().filter(|n| *n <= body.len() / LENGTH_BYTES);
    let count = count.ok_or_else(|| damaged("it has more sections than bytes"))?;
    let (lengths, body) = body.split_at(count * LENGTH_BYTES);
    let mut body = Bytes::copy_from_slice(body);
    let mut sections = Vec::with_capacity(count);
    for length in lengths.chunks_exact(LENGTH_BYTES) {
        let length = usize::try_from(number(length)).ok().filter(|n| *n <= body.len());
        let length = length.ok_or_else(|| damaged("a section is longer than what is left"))?;
        sections.push(body.split_to(length));
    }
    if !body.is_empty() {
        return Err(damaged(format_args!("{} bytes behind the last section", body.len())));
    }
    Ok(sections)
}

/// Up to eight bytes as a number.
fn number(bytes: &[u8]) -> u64 {
    bytes.iter().rev().fold(0, |number, byte| number << 8 | u64::from(*byte))
}

#[cfg(test)]
pub(super) mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    /// The bytes with the checksum that belongs to them.
    pub(in super::super) fn sealed(bytes: &[u8]) -> Vec<u8> {
        let framed = &bytes[..bytes.len() - CHECKSUM_BYTES];
        [framed, &crc32c::crc32c(framed).to_le_bytes()].concat()
    }

    #[test]
    fn sections_come_back() {
        let sections = [b"head".to_vec(), Vec::new(), vec![7; 300]];
        assert_eq!(read(&write(&sections)).unwrap(), sections);
        assert_eq!(read(&write(&[])).unwrap(), Vec::<Bytes>::new());
    }

    #[test]
    fn lengths_are_not_believed() {
        let bytes = write(&[b"head".to_vec(), b"more".to_vec()]);
        for (at, claim) in [(12, u64::MAX), (12, 3), (12, 1), (20, u64::MAX), (20, 9), (28, 3), (28, 5)] {
            let mut wrong = bytes.clone();
            wrong[at..at + 8].copy_from_slice(&claim.to_le_bytes());
            assert_eq!(read(&sealed(&wrong)).unwrap_err().kind(), ErrorKind::Corrupt, "{claim} at {at}");
        }
    }

    #[test]
    fn other_versions_are_refused() {
        for version in [0_u8, 2] {
            let mut other = write(&[b"head".to_vec()]);
            other[8] = version;
            assert_eq!(read(&sealed(&other)).unwrap_err().kind(), ErrorKind::Unsupported);
        }
    }
}
