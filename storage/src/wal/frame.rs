//! Frames: how one entry, or the seal at the end of a file, stands in a WAL file or object.
//!
//! Owns: the bytes of a frame and telling a valid one from anything else. Does not own: what a bad frame means
//! (`file::reader`: torn tail or corruption). All integers are little-endian; a frame is a multiple of 8 bytes long.
//!
//! | offset | bytes | what |
//! |---|---|---|
//! | 0 | 4 | length of the payload |
//! | 4 | 4 | crc32c of the file's salt, bytes 0..4 and bytes 8.. of the frame, padding included |
//! | 8 | 1 | kind: 1 entry, 2 seal |
//! | 9 | 7 | zero |
//! | 16 | 8 | `synced_upto`: bytes of this file known to be synced when the frame was written |
//! | 24 | 8 | commit version; of a seal, the last version before it |
//! | 32 | … | payload, then zeros up to a multiple of 8 |
//!
//! Thirty-two zero bytes, or the end of the file, are the end of what was written.

use crate::id::CommitVersion;

/// Bytes before the payload.
pub(crate) const FRAME_HEADER: usize = 32;
/// Frames begin at multiples of this.
pub(crate) const FRAME_ALIGN: usize = 8;
/// What stands behind a payload, or less of it.
const PADDING: &[u8] = &[0; FRAME_ALIGN];
/// Bytes of a seal.
pub(crate) const SEAL_BYTES: u64 = FRAME_HEADER as u64;

/// What a frame holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum FrameKind {
    /// One commit.
    Entry,
    /// A clean end of the file.
    Seal,
}

/// A valid frame found in a buffer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Frame {
    pub(crate) kind: FrameKind,
    pub(crate) synced_upto: u64,
    pub(crate) version: CommitVersion,
    /// Length of the payload, which begins [`FRAME_HEADER`] bytes behind the frame's start.
    pub(crate) payload: usize,
    /// Length of the whole frame.
    pub(crate) length: usize,
}

/// What stands at some offset.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Found {
    Frame(Frame),
    /// Nothing was written here.
    End,
    Bad(&'static str),
}

/// Appends a frame to `buffer`. The payload is at most `u32::MAX` bytes: the caller checks.
pub(crate) fn encode(
    buffer: &mut Vec<u8>,
    salt: u64,
    kind: FrameKind,
    synced_upto: u64,
    version: CommitVersion,
    payload: &[u8],
) {
    let (header, padding) = around(salt, kind, synced_upto, version, payload);
    buffer.reserve(header.len() + payload.len() + padding.len());
    buffer.extend_from_slice(&header);
    buffer.extend_from_slice(payload);
    buffer.extend_from_slice(padding);
}

/// What stands before and behind a payload in its frame, for whoever does not want to copy that. It is at most `u32::MAX` bytes: the
/// caller checks.
pub(crate) fn around(
    salt: u64,
    kind: FrameKind,
    synced_upto: u64,
    version: CommitVersion,
    payload: &[u8],
) -> ([u8; FRAME_HEADER], &'static [u8]) {
    debug_assert!(u32::try_from(payload.len()).is_ok());
    let mut header = [0; FRAME_HEADER];
    header[..4].copy_from_slice(&(payload.len() as u32).to_le_bytes());
    header[8] = match kind {
        FrameKind::Entry => 1,
        FrameKind::Seal => 2,
    };
    header[16..24].copy_from_slice(&synced_upto.to_le_bytes());
    header[24..].copy_from_slice(&version.0.to_le_bytes());
    // A header is aligned itself.
    let padding = &PADDING[..payload.len().next_multiple_of(FRAME_ALIGN) - payload.len()];
    let checksum = crc32c::crc32c_append(checksum_of_header(salt, &header), payload);
    header[4..8].copy_from_slice(&crc32c::crc32c_append(checksum, padding).to_le_bytes());
    (header, padding)
}

/// Of the salt and of all of a header but the checksum in it.
fn checksum_of_header(salt: u64, header: &[u8; FRAME_HEADER]) -> u32 {
    let salted = crc32c::crc32c(&salt.to_le_bytes());
    crc32c::crc32c_append(crc32c::crc32c_append(salted, &header[..4]), &header[8..])
}

/// Looks at `bytes[at..]`. `base` is the offset of `bytes` in its file.
pub(crate) fn look(bytes: &[u8], at: usize, base: u64, salt: u64) -> Found {
    let rest = bytes.get(at..).unwrap_or_default();
    let Some(header) = rest.first_chunk::<FRAME_HEADER>() else {
        let zeros = rest.iter().all(|b| *b == 0);
        return if zeros { Found::End } else { Found::Bad("a frame header is cut short") };
    };
    if header == &[0; FRAME_HEADER] {
        return Found::End;
    }
    let payload = u32_at(header, 0) as usize;
    // The length is believed only as far as bytes are there.
    if payload > rest.len() - FRAME_HEADER {
        return Found::Bad("a frame is longer than what is there");
    }
    let length = (FRAME_HEADER + payload).next_multiple_of(FRAME_ALIGN);
    let Some(frame) = rest.get(..length) else {
        return Found::Bad("a frame is longer than what is there");
    };
    let kind = match (header[8], &header[9..16]) {
        (1, [0, 0, 0, 0, 0, 0, 0]) => FrameKind::Entry,
        (2, [0, 0, 0, 0, 0, 0, 0]) => FrameKind::Seal,
        _ => return Found::Bad("a frame is of an unknown kind"),
    };
    let synced_upto = u64_at(header, 16);
    if synced_upto > base + at as u64 {
        return Found::Bad("a frame says more was synced than stands before it");
    }
    if crc32c::crc32c_append(checksum_of_header(salt, header), &frame[FRAME_HEADER..]) != u32_at(header, 4) {
        return Found::Bad("a frame's checksum is wrong");
    }
    Found::Frame(Frame { kind, synced_upto, version: CommitVersion(u64_at(header, 24)), payload, length })
}

/// A little-endian number; 0 where bytes are missing (callers check lengths first).
pub(crate) fn u32_at(bytes: &[u8], at: usize) -> u32 {
    bytes.get(at..).and_then(|b| b.first_chunk()).map_or(0, |b| u32::from_le_bytes(*b))
}

/// A little-endian number; 0 where bytes are missing (callers check lengths first).
pub(crate) fn u64_at(bytes: &[u8], at: usize) -> u64 {
    bytes.get(at..).and_then(|b| b.first_chunk()).map_or(0, |b| u64::from_le_bytes(*b))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(payload: &[u8], kind: FrameKind) {
        let mut bytes = vec![0; 8];
        encode(&mut bytes, 77, kind, 5, CommitVersion(9), payload);
        assert_eq!(bytes.len() % FRAME_ALIGN, 0);
        let length = bytes.len() - 8;
        let expected =
            Frame { kind, synced_upto: 5, version: CommitVersion(9), payload: payload.len(), length };
        assert_eq!(look(&bytes, 8, 0, 77), Found::Frame(expected));
        assert!(matches!(look(&bytes, 8, 0, 78), Found::Bad(_)), "another salt");
        for at in 8..bytes.len() {
            assert!(!matches!(look(&bytes[..at], 8, 0, 77), Found::Frame(_)), "cut at {at}");
            for bit in 0..8 {
                bytes[at] ^= 1 << bit;
                assert!(!matches!(look(&bytes, 8, 0, 77), Found::Frame(_)), "bit {bit} of byte {at}");
                bytes[at] ^= 1 << bit;
            }
        }
    }

    #[test]
    fn frames_come_back_whole_or_not_at_all() {
        check(b"", FrameKind::Seal);
        check(b"x", FrameKind::Entry);
        check(&[7; 40], FrameKind::Entry);
    }

    /// Made by an independent program from the table above.
    #[test]
    fn golden_bytes() {
        let mut bytes = Vec::new();
        encode(&mut bytes, 0x0123_4567_89ab_cdef, FrameKind::Entry, 128, CommitVersion(10), b"hello");
        let hex: String = bytes.iter().map(|b| format!("{b:02x}")).collect();
        let golden = "050000006336d297010000000000000080000000000000000a0000000000000068656c6c6f000000";
        assert_eq!(hex, golden);
    }

    #[test]
    fn a_frame_is_what_stands_around_its_payload() {
        for length in 0..20_u8 {
            let payload: Vec<u8> = (0..length).collect();
            let (mut whole, version) = (Vec::new(), CommitVersion(9));
            encode(&mut whole, 77, FrameKind::Entry, 5, version, &payload);
            let (header, padding) = around(77, FrameKind::Entry, 5, version, &payload);
            assert_eq!([&header[..], &payload[..], padding].concat(), whole);
        }
    }

    #[test]
    fn zeros_are_the_end() {
        assert_eq!(look(&[0; 64], 0, 0, 1), Found::End);
        assert_eq!(look(&[0; 64], 60, 0, 1), Found::End);
        assert_eq!(look(&[0; 64], 64, 0, 1), Found::End);
        assert!(matches!(look(&[1; 16], 0, 0, 1), Found::Bad(_)));
        assert!(matches!(look(&[255; 64], 0, 0, 1), Found::Bad(_)));
    }
}
