//! The frame of manifest roots and leaves: a JSON body with checksums all the way down.
//!
//! Owns: magic, format version, feature bits, lengths, checksums, and which of them this Cairn refuses. Does not own: the
//! body's meaning ([`model`](super::model)) nor where it is stored ([`store`](super::store)). Nothing is allocated from a length
//! that was not compared with the bytes at hand. Documented in `docs/formats/manifest.md`.
//!
//! ```text
//!  0 [8] magic "CAIRNMAN"        8 u32 format version (1)    12 u32 kind (0 root, 1 leaf, 2 mark)
//! 16 u64 reader features        24 u64 writer features       32 u64 body length
//! 40 u32 crc32c of bytes 0..40
//! 44 body: JSON
//!    u32 crc32c of each 64 KiB block of the body
//!    [16] xxh3-128 of everything before, little-endian
//! ```
//! The first 44 bytes keep this layout in every format, so that an older Cairn can say what it can't read.

#[cfg(test)]
mod tests;

use bytes::Bytes;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use xxhash_rust::xxh3::xxh3_128;

use super::model::{Manifest, SegmentEntry};
use crate::error::{Error, Result, newer};
use crate::id::{DatabaseId, ManifestNumber};

const MAGIC: &[u8; 8] = b"CAIRNMAN";
const FORMAT_VERSION: u32 = 1;
const HEADER_BYTES: usize = 44;
const BLOCK_BYTES: usize = 64 << 10;
const HASH_BYTES: usize = 16;

/// A root names an index unit that covers a segment in part.
const PARTIAL_UNITS: u32 = 0;
/// A root names a table that was altered, whose segments may be older than its columns.
const ALTERED_TABLES: u32 = 1;
/// Features a reader must know: bit, name. A bit is set only where it is needed.
const READER_FEATURES: &[(u32, &str)] =
    &[(PARTIAL_UNITS, "units of parts of segments"), (ALTERED_TABLES, "altered tables")];
/// A root names a table that numbers its rows: who does not know of that would forget how far the numbers have come.
const IDENTITY_COLUMNS: u32 = 0;
/// Features a writer must know: bit, name. A bit is set only where it is needed.
const WRITER_FEATURES: &[(u32, &str)] = &[(IDENTITY_COLUMNS, "identity columns")];

/// What a frame holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Root = 0,
    Leaf = 1,
    Mark = 2,
}

/// What a repair has put in place of an older manifest that is damaged or gone: the newest is found by counting, so no number may be missing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Mark {
    /// Of the manifest that is gone.
    pub(crate) number: ManifestNumber,
    /// The database it was of.
    pub(crate) database_id: DatabaseId,
}

/// A manifest read back.
#[derive(Clone, Debug, PartialEq)]
pub struct DecodedManifest {
    /// The manifest.
    pub manifest: Manifest,
    /// Names of writer features this Cairn doesn't know: it may read, not write.
    pub unknown_writer_features: Vec<String>,
}

/// Bytes of `manifest/<number>`.
///
/// # Errors
/// `Internal` when the manifest can't be read back.
pub fn encode_manifest(manifest: &Manifest) -> Result<Bytes> {
    let partial = manifest.tables.iter().flat_map(|table| &table.units).any(|unit| unit.is_partial());
    let altered = manifest.tables.iter().any(|table| table.def.is_altered());
    let identity = manifest.tables.iter().any(|table| table.def.identity.is_some());
    let to_read = (u64::from(partial) << PARTIAL_UNITS) | (u64::from(altered) << ALTERED_TABLES);
    encode(Kind::Root, to_read, u64::from(identity) << IDENTITY_COLUMNS, manifest)
}

/// Bytes of `manifest/leaf/<id>`.
///
/// # Errors
/// `Internal` when the segments can't be read back.
pub fn encode_leaf(segments: &[SegmentEntry]) -> Result<Bytes> {
    encode(Kind::Leaf, 0, 0, &segments.to_vec())
}

/// The manifest in `bytes`; `what` is its path, for messages.
///
/// # Errors
/// `Corrupt` when any checksum or the JSON is wrong, `Unsupported` when a newer Cairn is needed to read it.
pub fn decode_manifest(what: &str, bytes: &[u8]) -> Result<DecodedManifest> {
    let frame = Frame::open(what, Kind::Root, bytes)?;
    Ok(DecodedManifest {
        manifest: frame.json(what)?,
        unknown_writer_features: unknown(frame.writer_features, WRITER_FEATURES),
    })
}

/// The segments in the leaf `bytes`.
///
/// # Errors
/// As [`decode_manifest`].
pub fn decode_leaf(what: &str, bytes: &[u8]) -> Result<Vec<SegmentEntry>> {
    Frame::open(what, Kind::Leaf, bytes)?.json(what)
}

/// Bytes of a mark.
///
/// # Errors
/// `Internal` when it can't be read back.
pub(crate) fn encode_mark(mark: Mark) -> Result<Bytes> {
    encode(Kind::Mark, 0, 0, &mark)
}

/// The mark in `bytes`.
///
/// # Errors
/// As [`decode_manifest`].
pub(crate) fn decode_mark(what: &str, bytes: &[u8]) -> Result<Mark> {
    Frame::open(what, Kind::Mark, bytes)?.json(what)
}

fn encode<T: Serialize + DeserializeOwned + PartialEq>(
    kind: Kind,
    reader_features: u64,
    writer_features: u64,
    value: &T,
) -> Result<Bytes> {
    let unreadable = |why: String| Error::internal(format!("a manifest can't be written: {why}"));
    let body = serde_json::to_vec(value).map_err(|e| unreadable(e.to_string()))?;
    // What can't be read back must not become durable.
    let back: T = serde_json::from_slice(&body).map_err(|e| unreadable(e.to_string()))?;
    if &back != value {
        return Err(unreadable("it reads back as something else".to_owned()));
    }
    Ok(frame(kind, reader_features, writer_features, &body))
}

fn frame(kind: Kind, reader_features: u64, writer_features: u64, body: &[u8]) -> Bytes {
    let mut out = Vec::with_capacity(frame_bytes(body.len()).unwrap_or(0));
    out.extend_from_slice(MAGIC);
    out.extend_from_slice(&FORMAT_VERSION.to_le_bytes());
    out.extend_from_slice(&(kind as u32).to_le_bytes());
    out.extend_from_slice(&reader_features.to_le_bytes());
    out.extend_from_slice(&writer_features.to_le_bytes());
    out.extend_from_slice(&(body.len() as u64).to_le_bytes());
    let header_crc = crc32c::crc32c(&out);
    out.extend_from_slice(&header_crc.to_le_bytes());
    out.extend_from_slice(body);
    for block in body.chunks(BLOCK_BYTES) {
        out.extend_from_slice(&crc32c::crc32c(block).to_le_bytes());
    }
    let hash = xxh3_128(&out);
    out.extend_from_slice(&hash.to_le_bytes());
    out.into()
}

/// Length of a frame around a body; None beyond memory.
fn frame_bytes(body: usize) -> Option<usize> {
    body.div_ceil(BLOCK_BYTES).checked_mul(4)?.checked_add(body)?.checked_add(HEADER_BYTES + HASH_BYTES)
}

/// Names of the features in `bits` that are not in `known`.
fn unknown(bits: u64, known: &[(u32, &str)]) -> Vec<String> {
    (0..64)
        .filter(|bit| bits >> bit & 1 == 1 && !known.iter().any(|(k, _)| k == bit))
        .map(|bit| format!("bit {bit}"))
        .collect()
}

/// A frame whose every checksum holds.
struct Frame<'a> {
    body: &'a [u8],
    writer_features: u64,
}

impl<'a> Frame<'a> {
    fn open(what: &str, kind: Kind, bytes: &'a [u8]) -> Result<Self> {
        let Some((header, _)) = bytes.split_first_chunk::<HEADER_BYTES>() else {
            return Err(Error::corrupt(
                what,
                format_args!("{} bytes, a header has {HEADER_BYTES}", bytes.len()),
            ));
        };
        if &header[..8] != MAGIC {
            return Err(Error::corrupt(what, "it does not begin with CAIRNMAN"));
        }
        if crc32c::crc32c(&header[..40]) != read_u32(header, 40) {
            return Err(Error::corrupt(what, "header checksum"));
        }
        let version = read_u32(header, 8);
        if version > FORMAT_VERSION {
            return Err(newer(what, format_args!("it has manifest format {version}")));
        }
        let features = unknown(read_u64(header, 16), READER_FEATURES);
        if !features.is_empty() {
            return Err(newer(what, format_args!("it needs reader feature {}", features.join(", "))));
        }
        if version == 0 || read_u32(header, 12) != kind as u32 {
            return Err(Error::corrupt(what, format_args!("it is not a manifest {kind:?}")));
        }
        let body = usize::try_from(read_u64(header, 32)).ok();
        if body.and_then(frame_bytes) != Some(bytes.len()) {
            let body = read_u64(header, 32);
            return Err(Error::corrupt(what, format_args!("{} bytes for a body of {body}", bytes.len())));
        }
        let (body, tail) = bytes[HEADER_BYTES..].split_at(body.unwrap_or(0));
        for (i, (block, crc)) in body.chunks(BLOCK_BYTES).zip(tail.chunks(4)).enumerate() {
            if crc32c::crc32c(block).to_le_bytes() != crc {
                let at = HEADER_BYTES + i * BLOCK_BYTES;
                return Err(Error::corrupt(what, format_args!("checksum of the block at offset {at}")));
            }
        }
        let (hashed, hash) = bytes.split_at(bytes.len() - HASH_BYTES);
        if xxh3_128(hashed).to_le_bytes() != hash {
            return Err(Error::corrupt(what, "checksum of the whole"));
        }
        Ok(Self { body, writer_features: read_u64(header, 24) })
    }

    fn json<T: DeserializeOwned>(&self, what: &str) -> Result<T> {
        serde_json::from_slice(self.body).map_err(|e| Error::corrupt(what, format_args!("JSON: {e}")))
    }
}

fn read_u32(header: &[u8; HEADER_BYTES], at: usize) -> u32 {
    let mut out = [0; 4];
    out.copy_from_slice(&header[at..at + 4]);
    u32::from_le_bytes(out)
}

fn read_u64(header: &[u8; HEADER_BYTES], at: usize) -> u64 {
    let mut out = [0; 8];
    out.copy_from_slice(&header[at..at + 8]);
    u64::from_le_bytes(out)
}
