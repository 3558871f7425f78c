//! Bytes of a `.deletes` object, little-endian.
//!
//! | bytes | what |
//! |---|---|
//! | 8 | magic `CAIRNDEL` |
//! | 4 | reader features: bit 0 versions follow; unknown ones are refused |
//! | 4 | zero |
//! | 8, 8 | epoch and sequence of the segment's id |
//! | 8 | positions n |
//! | 8 | bytes b of the bitmap |
//! | 8 | bytes v of the versions, 0 without bit 0 |
//! | b | positions, as a portable Roaring bitmap |
//! | v | n versions, each as the zigzag LEB128 difference from the one before (the first from 0) |
//! | 4 k | crc32c of each of the k blocks of 64 KiB before |
//! | 4 | crc32c of the checksums |
//!
//! Magic, features and the checksums keep their place in every form, so that a newer one is told from damage.

use std::sync::Arc;

use roaring::RoaringBitmap;

use super::super::sink::BLOCK_BYTES;
use super::{DeleteVersions, DeletionVector};
use crate::error::{Error, Result, newer};
use crate::id::{CommitVersion, ObjectId};

const MAGIC: &[u8; 8] = b"CAIRNDEL";
const HEADER_BYTES: usize = 56;
const VERSIONS: u32 = 1;

pub(super) fn encode(vector: &DeletionVector, segment: ObjectId, keep_versions: bool) -> Result<Vec<u8>> {
    let mut bitmap = Vec::with_capacity(vector.positions.serialized_size());
    vector.positions.serialize_into(&mut bitmap).map_err(|e| Error::io("encoding a deletion vector", e))?;
    let mut versions = Vec::new();
    if keep_versions {
        let mut last = 0_i64;
        for (_, version) in vector.iter() {
            let step = (version.0 as i64).wrapping_sub(last);
            put_varint(&mut versions, ((step << 1) ^ (step >> 63)) as u64);
            last = version.0 as i64;
        }
    }
    let mut out = Vec::with_capacity(HEADER_BYTES + bitmap.len() + versions.len() + 64);
    out.extend_from_slice(MAGIC);
    out.extend_from_slice(&(if keep_versions { VERSIONS } else { 0 }).to_le_bytes());
    out.extend_from_slice(&[0; 4]);
    for word in [segment.epoch.0, segment.sequence, vector.len(), bitmap.len() as u64, versions.len() as u64]
    {
        out.extend_from_slice(&word.to_le_bytes());
    }
    out.extend_from_slice(&bitmap);
    out.extend_from_slice(&versions);
    let table: Vec<u8> =
        out.chunks(BLOCK_BYTES).flat_map(|block| crc32c::crc32c(block).to_le_bytes()).collect();
    out.extend_from_slice(&table);
    out.extend_from_slice(&crc32c::crc32c(&table).to_le_bytes());
    Ok(out)
}

/// How many bytes of an object of that length are the checksums at its end.
pub(super) fn own_checksum_bytes(length: usize) -> usize {
    length.saturating_sub(4).div_ceil(BLOCK_BYTES + 4) * 4 + 4
}

pub(super) fn decode(
    path: &str,
    bytes: &[u8],
    segment: ObjectId,
    version: Option<CommitVersion>,
) -> Result<DeletionVector> {
    let damaged = |why: &str| Error::corrupt(path, why);
    let header = bytes.get(..HEADER_BYTES).ok_or_else(|| damaged("shorter than its header"))?;
    if &header[..8] != MAGIC {
        return Err(damaged("not a deletion vector (wrong magic)"));
    }
    // Where the checksums stand follows from the object's length alone: what a later Cairn has written is told from damage
    // before the rest of the header is looked at.
    let (data, table) = bytes.split_at(bytes.len().saturating_sub(own_checksum_bytes(bytes.len())));
    let (table, table_crc) = table.split_at(table.len().saturating_sub(4));
    if table.len() != data.len().div_ceil(BLOCK_BYTES) * 4 {
        return Err(damaged("it has not as many checksums as blocks"));
    }
    if crc32c::crc32c(table).to_le_bytes() != table_crc {
        return Err(damaged("checksum table mismatch"));
    }
    for (n, (block, crc)) in data.chunks(BLOCK_BYTES).zip(table.chunks_exact(4)).enumerate() {
        if crc32c::crc32c(block).to_le_bytes() != crc {
            return Err(damaged(&format!("checksum mismatch in block {n} at offset {}", n * BLOCK_BYTES)));
        }
    }
    let word = |at: usize| header[at..at + 8].iter().rev().fold(0_u64, |n, &b| n << 8 | u64::from(b));
    let (features, rows, bitmap_bytes, version_bytes) = (word(8), word(32), word(40), word(48));
    if features & !u64::from(VERSIONS) != 0 {
        return Err(newer(path, format_args!("it needs reader features {features:#x}")));
    }
    // Lengths are checked against the object before anything is read by them.
    let body =
        [bitmap_bytes, version_bytes].iter().try_fold(HEADER_BYTES as u64, |sum, n| sum.checked_add(*n));
    if body != Some(data.len() as u64) {
        return Err(damaged("its length does not match its header"));
    }
    if (word(16), word(24)) != (segment.epoch.0, segment.sequence) {
        return Err(damaged("it belongs to another segment"));
    }
    let (bitmap, versions) = data[HEADER_BYTES..].split_at(bitmap_bytes as usize);
    let positions = RoaringBitmap::deserialize_from(bitmap).map_err(|e| damaged(&e.to_string()))?;
    if positions.len() != rows {
        return Err(damaged("its count does not match its bitmap"));
    }
    match version {
        // The commit's version counts; a spilled delete holds none.
        Some(version) => Ok(DeletionVector::constant(positions, version)),
        None if features == u64::from(VERSIONS) => {
            let versions =
                decode_versions(versions, rows).ok_or_else(|| damaged("its versions do not decode"))?;
            let max_version = versions.iter().max().copied().unwrap_or_default();
            let versions = if versions.iter().all(|v| *v == max_version) {
                DeleteVersions::Constant(max_version)
            } else {
                DeleteVersions::Each(versions.into())
            };
            Ok(DeletionVector { positions: Arc::new(positions), versions, max_version })
        }
        None => Err(damaged("it holds no versions and its commit gave none")),
    }
}

fn decode_versions(mut bytes: &[u8], rows: u64) -> Option<Vec<CommitVersion>> {
    // Every version takes a byte at least, so `rows` is bounded by the object.
    if rows > bytes.len() as u64 {
        return None;
    }
    let mut last = 0_i64;
    let versions = (0..rows)
        .map(|_| {
            let raw = take_varint(&mut bytes)?;
            last = last.wrapping_add((raw >> 1) as i64 ^ -((raw & 1) as i64));
            Some(CommitVersion(last as u64))
        })
        .collect::<Option<Vec<_>>>()?;
    bytes.is_empty().then_some(versions)
}

fn put_varint(out: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

fn take_varint(bytes: &mut &[u8]) -> Option<u64> {
    let mut value = 0;
    for shift in (0..64).step_by(7) {
        let (&byte, rest) = bytes.split_first()?;
        *bytes = rest;
        value |= u64::from(byte & 0x7f) << shift;
        if byte < 0x80 {
            return Some(value);
        }
    }
    None
}
