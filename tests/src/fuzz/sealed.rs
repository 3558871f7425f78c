//! Bytes with the checksums they should have, computed from `docs/formats`.
//!
//! Each function takes an input of its target and gives it with right checksums, and with the lengths that those depend on; None: it is
//! of no such form, or has none.

use std::ops::Range;

use xxhash_rust::xxh3::xxh3_128;

use super::number;

/// Bytes under one checksum.
const BLOCK: usize = 64 << 10;

const LOG_HEADER: usize = 128;
const FRAME_HEADER: usize = 32;
const MANIFEST_HEADER: usize = 44;
const HASH: usize = 16;
const UNIT_HEADER: usize = 128;
const UNIT_TAIL: usize = 40;
/// Bytes of `wal/tip`, and of a journal's mark of what it has sent.
pub(super) const TIP: usize = 32;

/// Nothing stands under a checksum.
pub(super) fn nothing(_: &[u8]) -> Option<Vec<u8>> {
    None
}

/// The last four bytes are the checksum of all before.
pub(super) fn last_checksum(bytes: &[u8]) -> Option<Vec<u8>> {
    let mut out = bytes.to_vec();
    let at = out.len().checked_sub(4)?;
    put_checksum(&mut out, 0..at, at);
    Some(out)
}

/// Objects that say by their first bytes what they are.
pub(super) fn object(bytes: &[u8]) -> Option<Vec<u8>> {
    match bytes.get(..8)? {
        b"CAIRNMAN" => manifest(bytes),
        b"CAIRN-DB" | b"CAIRNBND" | b"CAIRNHIS" => last_checksum(bytes),
        _ if bytes.len() == TIP && bytes.get(24..28)? == b"CTIP" => last_checksum(bytes),
        _ => None,
    }
}

/// A manifest, or a leaf of one.
fn manifest(bytes: &[u8]) -> Option<Vec<u8>> {
    let behind = bytes.len().checked_sub(MANIFEST_HEADER + HASH)?;
    let blocks = if behind == 0 { 0 } else { blocks_in(behind)? };
    let body = behind - 4 * blocks;
    let mut out = bytes.to_vec();
    out[32..40].copy_from_slice(&(body as u64).to_le_bytes());
    put_checksum(&mut out, 0..40, 40);
    for (i, block) in blocks_of(MANIFEST_HEADER, MANIFEST_HEADER + body).enumerate() {
        put_checksum(&mut out, block, MANIFEST_HEADER + body + 4 * i);
    }
    let end = out.len() - HASH;
    let hash = xxh3_128(&out[..end]);
    out[end..].copy_from_slice(&hash.to_le_bytes());
    Some(out)
}

/// A deletion vector.
pub(super) fn deletes(bytes: &[u8]) -> Option<Vec<u8>> {
    let behind = bytes.len().checked_sub(4)?;
    let blocks = blocks_in(behind)?;
    let body = behind - 4 * blocks;
    let mut out = bytes.to_vec();
    for (i, block) in blocks_of(0, body).enumerate() {
        put_checksum(&mut out, block, body + 4 * i);
    }
    put_checksum(&mut out, body..behind, behind);
    Some(out)
}

/// A file or object of the log: header and frames, as far as their lengths lead.
pub(super) fn log(bytes: &[u8]) -> Option<Vec<u8>> {
    if !bytes.starts_with(b"CAIRNWAL") || bytes.len() < LOG_HEADER {
        return None;
    }
    let mut out = bytes.to_vec();
    put_checksum(&mut out, 0..LOG_HEADER - 4, LOG_HEADER - 4);
    let salted = crc32c::crc32c(&out[56..64]);
    let mut at = LOG_HEADER;
    while let Some(header) = out.get(at..at + FRAME_HEADER) {
        let payload = header.first_chunk().map_or(0, |length| u32::from_le_bytes(*length)) as usize;
        let end = at + (FRAME_HEADER + payload).next_multiple_of(8);
        if header.iter().all(|byte| *byte == 0) || end > out.len() {
            break;
        }
        let sum = crc32c::crc32c_append(salted, &out[at..at + 4]);
        let sum = crc32c::crc32c_append(sum, &out[at + 8..end]);
        out[at + 4..at + 8].copy_from_slice(&sum.to_le_bytes());
        at = end;
    }
    Some(out)
}

/// A mark of what was sent, a tip, and a file of the log.
pub(super) fn journal(bytes: &[u8]) -> Option<Vec<u8>> {
    let (sent, rest) = bytes.split_at_checked(TIP)?;
    let (tip, file) = rest.split_at_checked(TIP)?;
    Some([last_checksum(sent)?, last_checksum(tip)?, log(file)?].concat())
}

/// An index unit.
pub(super) fn unit(bytes: &[u8]) -> Option<Vec<u8>> {
    let tail = bytes.len().checked_sub(UNIT_TAIL).filter(|tail| *tail >= UNIT_HEADER)?;
    let checksums = usize::try_from(number(bytes, tail)?).ok().filter(|at| *at <= tail)?;
    if 4 * checksums.div_ceil(BLOCK) > tail - checksums {
        return None;
    }
    let mut out = bytes.to_vec();
    put_checksum(&mut out, 0..UNIT_HEADER - 4, UNIT_HEADER - 4);
    for (i, block) in blocks_of(0, checksums).enumerate() {
        put_checksum(&mut out, block, checksums + 4 * i);
    }
    put_checksum(&mut out, checksums..tail + 28, tail + 28);
    Some(out)
}

/// The checksum of a range, put where it belongs.
fn put_checksum(bytes: &mut [u8], of: Range<usize>, at: usize) {
    let sum = crc32c::crc32c(&bytes[of]);
    bytes[at..at + 4].copy_from_slice(&sum.to_le_bytes());
}

/// Blocks between two places.
fn blocks_of(from: usize, to: usize) -> impl Iterator<Item = Range<usize>> {
    (from..to).step_by(BLOCK).map(move |start| start..to.min(start + BLOCK))
}

/// How many blocks stand in so many bytes together with their checksums; None: no number of them takes as many.
fn blocks_in(bytes: usize) -> Option<usize> {
    let blocks = bytes.div_ceil(BLOCK + 4);
    let body = bytes.checked_sub(4 * blocks)?;
    (body.div_ceil(BLOCK) == blocks).then_some(blocks)
}

#[cfg(test)]
mod tests {
    use super::super::TARGETS;

    /// Real files have the checksums they should have: or else this module and the storage read the formats differently.
    #[test]
    fn real_files_are_sealed_already() {
        // A scan's seal names the database of this process, too.
        for target in TARGETS.iter().filter(|target| target.name != "scan") {
            for (name, bytes) in target.seeds() {
                if let Some(sealed) = (target.seal)(&bytes) {
                    assert!(sealed == bytes, "{} {name}", target.name);
                }
            }
        }
    }
}
