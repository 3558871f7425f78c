//! Bytes of a WAL entry: the payload of one frame.
//!
//! Owns: the byte form of [`WalEntry`] and its row bodies. Does not own: the frame around it (length, crc32c,
//! `synced_upto`) nor files; a payload that reaches [`decode`] has a valid checksum, yet nothing here trusts it: any
//! bytes give an entry or a `Corrupt` error, and no allocation exceeds a small multiple of the payload.
//! Order: [`EncodedBody`] is made outside the commit order (rows are the expensive part), [`EncodedBody::assemble`] inside it
//! only writes the version, the time and one row id per table over zeros.
//!
//! ```text
//! header, 56 bytes, little-endian
//!  0 u16 payload version (1 to 6)  2 u8 kind (0 commit)     3 u8 reserved (0)      4 u32 tables
//!  8 u64 commit version          16 u64 epoch             24 [16] commit id      40 i64 time, µs since 1970 UTC
//! 48 u32 info length             52 u32 catalog length
//! then per table a record of 56 bytes, in order of the entry
//!  0 u64 table    8 u64 first row id    16 u64 rows    24 u64 deleted rows    32 u32 schema version
//! 36 u32 flags (bit 0: truncate)    40 u32 row body length    44 u32 deleted length
//! 48 u32 segments length    52 u32 deletes length
//! then the sections: info, catalog, and per table: row body, deleted, segments, deletes
//!  info       user, session, request id, message: varint length and UTF-8 each
//!  catalog    JSON array of CatalogEdit; absent (length 0) when empty, as are the two below
//!  row body   see `rows`
//!  deleted    varints: the first row id, then differences (>= 1)
//!  segments   JSON array of SegmentMeta        deletes   JSON array of DeletesMeta
//! ```

mod body;
mod compact;
mod input;
mod ipc;
mod rows;

#[cfg(test)]
mod tests;

use bytes::Bytes;
use serde::de::DeserializeOwned;

pub use self::body::EncodedBody;
use self::input::{Input, damaged};
pub(crate) use self::ipc::compacted;
pub use self::rows::{decode_rows, encode_rows, encoded_rows_len};
use super::entry::{CommitInfo, RowBody, TableChange, WalEntry};
use crate::error::{Result, newer};
use crate::id::{CommitId, CommitVersion, Epoch, RowId, SchemaVersion, TableId};

/// The newest payload version known.
const PAYLOAD_VERSION_MAX: u16 = PAYLOAD_IDENTITY;
/// Every entry but those below.
const PAYLOAD_FIRST: u16 = 1;
/// An index unit covers a segment in part: who does not know of that would give its rows for the whole segment's.
const PAYLOAD_PARTIAL_UNITS: u16 = 2;
/// Segments take the place of others: who does not know of that would look for rows in objects that are gone.
const PAYLOAD_SWAPS: u16 = 3;
/// A table was altered: who does not know of that would read its older rows as rows of the new definition.
const PAYLOAD_ALTERED: u16 = 4;
/// Segments were taken away with their rows: who does not know of that would count rows that are gone.
const PAYLOAD_REPAIRED: u16 = 5;
/// A table numbers its rows: who does not know of that would forget how far the numbers have come.
const PAYLOAD_IDENTITY: u16 = 6;
const KIND_COMMIT: u8 = 0;
const HEADER_BYTES: usize = 56;
const TABLE_BYTES: usize = 56;
const FLAG_TRUNCATE: u32 = 1;

/// Bytes of a whole entry, the same as both steps of [`EncodedBody`].
///
/// # Errors
/// As [`EncodedBody::new`].
pub fn encode(entry: &WalEntry) -> Result<Bytes> {
    let ids: Vec<RowId> = entry.tables.iter().map(|t| t.first_row_id).collect();
    EncodedBody::new(entry.epoch, entry.commit_id, &entry.info, &entry.catalog, &entry.tables)?.assemble(
        entry.version,
        entry.time_us,
        &ids,
    )
}

/// The fixed part of an entry, without its tables.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EntryHeader {
    /// Commit version.
    pub version: CommitVersion,
    /// Epoch of the writer.
    pub epoch: Epoch,
    /// Unique id of the commit.
    pub commit_id: CommitId,
    /// Microseconds since 1970 UTC.
    pub time_us: i64,
}

/// Reads only the header.
///
/// # Errors
/// `Corrupt` when it is none, `Unsupported` when a newer Cairn wrote it.
pub fn decode_header(bytes: &[u8]) -> Result<EntryHeader> {
    take_header(&mut Input::new(bytes)).map(|(header, _)| header)
}

fn take_header(input: &mut Input<'_>) -> Result<(EntryHeader, usize)> {
    let payload_version = input.u16()?;
    let kind = input.u8()?;
    let reserved = input.u8()?;
    if payload_version == 0 {
        return Err(damaged("payload version 0"));
    }
    if payload_version > PAYLOAD_VERSION_MAX || kind != KIND_COMMIT || reserved != 0 {
        return Err(newer(
            "a WAL entry",
            format_args!("it has format version {payload_version}, kind {kind}, reserved {reserved}"),
        ));
    }
    let tables = input.u32()? as usize;
    let header = EntryHeader {
        version: CommitVersion(input.u64()?),
        epoch: Epoch(input.u64()?),
        commit_id: CommitId(uuid::Uuid::from_bytes(input.id()?)),
        time_us: input.i64()?,
    };
    Ok((header, tables))
}

/// The entry in `bytes`; row bodies stay slices of them.
///
/// # Errors
/// `Corrupt` when the bytes are not an entry, `Unsupported` when a newer Cairn wrote it.
pub fn decode(bytes: Bytes) -> Result<WalEntry> {
    let mut input = Input::new(&bytes);
    let (header, count) = take_header(&mut input)?;
    let info_length = input.u32()? as usize;
    let catalog_length = input.u32()? as usize;
    if count > input.remaining() / TABLE_BYTES {
        return Err(damaged(format_args!("{count} tables in {} bytes", bytes.len())));
    }
    let records = (0..count).map(|_| TableRecord::take(&mut input)).collect::<Result<Vec<_>>>()?;
    let info = decode_info(input.take(info_length)?)?;
    let catalog = decode_json(input.take(catalog_length)?, "catalog edits")?;
    let tables =
        records.into_iter().map(|r| r.change(&mut input, &bytes)).collect::<Result<Vec<TableChange>>>()?;
    input.end()?;
    Ok(WalEntry {
        version: header.version,
        epoch: header.epoch,
        commit_id: header.commit_id,
        time_us: header.time_us,
        info,
        catalog,
        tables,
    })
}

fn decode_info(bytes: &[u8]) -> Result<CommitInfo> {
    let mut input = Input::new(bytes);
    let info = CommitInfo {
        user: input.text()?.to_owned(),
        session: input.text()?.to_owned(),
        request_id: input.text()?.to_owned(),
        message: input.text()?.to_owned(),
    };
    input.end()?;
    Ok(info)
}

fn decode_json<T: DeserializeOwned>(bytes: &[u8], what: &str) -> Result<Vec<T>> {
    if bytes.is_empty() {
        return Ok(Vec::new());
    }
    serde_json::from_slice(bytes).map_err(|e| damaged(format_args!("{what}: {e}")))
}

/// One table's record in the directory behind the header.
struct TableRecord {
    table: TableId,
    first_row_id: RowId,
    rows: u64,
    deleted: u64,
    schema_version: SchemaVersion,
    truncate: bool,
    /// Lengths of row body, deleted, segments, deletes.
    lengths: [usize; 4],
}

impl TableRecord {
    fn take(input: &mut Input<'_>) -> Result<Self> {
        let record = Self {
            table: TableId(input.u64()?),
            first_row_id: RowId(input.u64()?),
            rows: input.u64()?,
            deleted: input.u64()?,
            schema_version: SchemaVersion(input.u32()?),
            truncate: match input.u32()? {
                0 => false,
                FLAG_TRUNCATE => true,
                flags => return Err(damaged(format_args!("table flags {flags:#x}"))),
            },
            lengths: [
                input.u32()? as usize,
                input.u32()? as usize,
                input.u32()? as usize,
                input.u32()? as usize,
            ],
        };
        if (record.rows == 0) != (record.lengths[0] == 0) {
            return Err(damaged(format_args!("{} rows in {} bytes", record.rows, record.lengths[0])));
        }
        Ok(record)
    }

    fn change(self, input: &mut Input<'_>, bytes: &Bytes) -> Result<TableChange> {
        let start = input.position();
        let body = input.take(self.lengths[0])?;
        Ok(TableChange {
            table: self.table,
            schema_version: self.schema_version,
            first_row_id: self.first_row_id,
            rows: RowBody::Encoded { rows: self.rows, bytes: bytes.slice(start..start + body.len()) },
            deleted: decode_row_ids(input.take(self.lengths[1])?, self.deleted)?,
            segments: decode_json(input.take(self.lengths[2])?, "segments")?,
            deletes: decode_json(input.take(self.lengths[3])?, "deletes")?,
            truncate: self.truncate,
        })
    }
}

fn decode_row_ids(bytes: &[u8], count: u64) -> Result<Vec<RowId>> {
    let mut input = Input::new(bytes);
    // Every id takes a byte or more.
    let count = usize::try_from(count).ok().filter(|c| *c <= bytes.len());
    let count = count.ok_or_else(|| damaged(format_args!("deleted row ids in {} bytes", bytes.len())))?;
    let mut ids = Vec::with_capacity(count);
    let mut last: Option<u64> = None;
    for _ in 0..count {
        let step = input.varint()?;
        let id = match last {
            None => Some(step),
            Some(last) => last.checked_add(step).filter(|_| step > 0),
        };
        let id = id.ok_or_else(|| damaged("deleted row ids out of order"))?;
        ids.push(RowId(id));
        last = Some(id);
    }
    input.end()?;
    Ok(ids)
}
