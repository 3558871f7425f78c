//! Writing an entry in two steps: the body outside the commit order, the numbers of the order last.

use bytes::Bytes;
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::input::{put_counted, put_varint};
use super::{
    FLAG_TRUNCATE, HEADER_BYTES, KIND_COMMIT, PAYLOAD_ALTERED, PAYLOAD_FIRST, PAYLOAD_IDENTITY,
    PAYLOAD_PARTIAL_UNITS, PAYLOAD_REPAIRED, PAYLOAD_SWAPS, TABLE_BYTES, rows,
};
use crate::error::{Error, ErrorKind, Result};
use crate::id::{CommitId, CommitVersion, Epoch, RowId};
use crate::wal::entry::{CatalogEdit, CommitInfo, RowBody, TableChange};

const VERSION_AT: usize = 8;
const TIME_AT: usize = 40;
const FIRST_ROW_ID_AT: usize = 8;
/// A deleted row id takes about this much at most.
const ROW_ID_BYTES: usize = 4;

pub(super) fn too_long(what: &str) -> Error {
    Error::new(ErrorKind::ResourceExhausted, format!("{what} of a commit exceed 4 GiB in the WAL"))
}

/// An entry but for what only the commit order knows: version, time and first row ids.
#[derive(Clone, Debug)]
pub struct EncodedBody {
    bytes: Vec<u8>,
    tables: usize,
}

impl EncodedBody {
    /// Encodes everything else; `first_row_id` of the tables is not used.
    ///
    /// # Errors
    /// `Internal` when the values can't be read back (a type the log doesn't hold, unsorted row ids);
    /// `ResourceExhausted` beyond 4 GiB a section.
    pub fn new(
        epoch: Epoch,
        commit_id: CommitId,
        info: &CommitInfo,
        catalog: &[CatalogEdit],
        tables: &[TableChange],
    ) -> Result<Self> {
        let head = HEADER_BYTES + TABLE_BYTES * tables.len();
        let mut bytes = Vec::with_capacity(head + 256);
        bytes.resize(head, 0);
        let count = u32::try_from(tables.len()).map_err(|_| too_long("tables"))?;
        let needed = |edit: &CatalogEdit| match edit {
            CatalogEdit::PutTable(def) if def.identity.is_some() => PAYLOAD_IDENTITY,
            CatalogEdit::PutTable(def) if def.is_altered() => PAYLOAD_ALTERED,
            CatalogEdit::SwapSegments(swap) if swap.rows_left.is_some() => PAYLOAD_REPAIRED,
            CatalogEdit::SwapSegments(_) => PAYLOAD_SWAPS,
            CatalogEdit::PutUnit(unit) if unit.is_partial() => PAYLOAD_PARTIAL_UNITS,
            _ => PAYLOAD_FIRST,
        };
        let version = catalog.iter().map(needed).max().unwrap_or(PAYLOAD_FIRST);
        bytes[0..2].copy_from_slice(&version.to_le_bytes());
        bytes[2] = KIND_COMMIT;
        bytes[4..8].copy_from_slice(&count.to_le_bytes());
        bytes[16..24].copy_from_slice(&epoch.0.to_le_bytes());
        bytes[24..40].copy_from_slice(commit_id.0.as_bytes());
        section(&mut bytes, 48, |out| {
            for text in [&info.user, &info.session, &info.request_id, &info.message] {
                put_counted(out, text.as_bytes());
            }
            Ok(())
        })?;
        section(&mut bytes, 52, |out| put_json(out, catalog))?;
        for (i, change) in tables.iter().enumerate() {
            put_table(&mut bytes, HEADER_BYTES + TABLE_BYTES * i, change)?;
        }
        Ok(Self { bytes, tables: tables.len() })
    }

    /// Length of the finished payload.
    #[must_use]
    pub fn payload_len(&self) -> usize {
        self.bytes.len()
    }

    /// The finished payload; `first_row_ids` in the order of the tables.
    ///
    /// # Errors
    /// `Internal` when there are not as many row ids as tables.
    pub fn assemble(self, version: CommitVersion, time_us: i64, first_row_ids: &[RowId]) -> Result<Bytes> {
        if first_row_ids.len() != self.tables {
            return Err(Error::internal(format!(
                "{} first row ids for {} tables",
                first_row_ids.len(),
                self.tables
            )));
        }
        let mut bytes = self.bytes;
        bytes[VERSION_AT..VERSION_AT + 8].copy_from_slice(&version.0.to_le_bytes());
        bytes[TIME_AT..TIME_AT + 8].copy_from_slice(&time_us.to_le_bytes());
        for (i, id) in first_row_ids.iter().enumerate() {
            let at = HEADER_BYTES + TABLE_BYTES * i + FIRST_ROW_ID_AT;
            bytes[at..at + 8].copy_from_slice(&id.0.to_le_bytes());
        }
        Ok(bytes.into())
    }
}

/// Runs `write` at the end of `bytes` and puts the length it wrote at `length_at`.
fn section(
    bytes: &mut Vec<u8>,
    length_at: usize,
    write: impl FnOnce(&mut Vec<u8>) -> Result<()>,
) -> Result<()> {
    let start = bytes.len();
    write(bytes)?;
    let length = u32::try_from(bytes.len() - start).map_err(|_| too_long("values"))?;
    bytes[length_at..length_at + 4].copy_from_slice(&length.to_le_bytes());
    Ok(())
}

fn put_table(bytes: &mut Vec<u8>, at: usize, change: &TableChange) -> Result<()> {
    let mut rows = 0;
    section(bytes, at + 40, |out| {
        rows = match &change.rows {
            RowBody::Batches(batches) => {
                rows::encode_rows_before(out, batches, ROW_ID_BYTES * change.deleted.len())?
            }
            RowBody::Encoded { rows, bytes } => {
                out.extend_from_slice(bytes);
                *rows
            }
        };
        Ok(())
    })?;
    section(bytes, at + 44, |out| put_row_ids(out, &change.deleted))?;
    section(bytes, at + 48, |out| put_json(out, &change.segments))?;
    section(bytes, at + 52, |out| put_json(out, &change.deletes))?;
    let flags = if change.truncate { FLAG_TRUNCATE } else { 0 };
    bytes[at..at + 8].copy_from_slice(&change.table.0.to_le_bytes());
    bytes[at + 16..at + 24].copy_from_slice(&rows.to_le_bytes());
    bytes[at + 24..at + 32].copy_from_slice(&(change.deleted.len() as u64).to_le_bytes());
    bytes[at + 32..at + 36].copy_from_slice(&change.schema_version.0.to_le_bytes());
    bytes[at + 36..at + 40].copy_from_slice(&flags.to_le_bytes());
    Ok(())
}

fn put_row_ids(out: &mut Vec<u8>, ids: &[RowId]) -> Result<()> {
    let Some(first) = ids.first() else { return Ok(()) };
    put_varint(out, first.0);
    for pair in ids.windows(2) {
        if pair[1] <= pair[0] {
            return Err(Error::internal(format!("deleted row ids {} and {} out of order", pair[0], pair[1])));
        }
        put_varint(out, pair[1].0 - pair[0].0);
    }
    Ok(())
}

/// Appends a JSON array, nothing when it is empty. What can't be read back is refused here, before it is durable.
fn put_json<T: Serialize + DeserializeOwned + PartialEq>(out: &mut Vec<u8>, values: &[T]) -> Result<()> {
    if values.is_empty() {
        return Ok(());
    }
    let unreadable = |why: String| Error::internal(format!("metadata of a commit can't be logged: {why}"));
    let start = out.len();
    serde_json::to_writer(&mut *out, values).map_err(|e| unreadable(e.to_string()))?;
    let back: Vec<T> = serde_json::from_slice(&out[start..]).map_err(|e| unreadable(e.to_string()))?;
    if back != values { Err(unreadable("it reads back as something else".to_owned())) } else { Ok(()) }
}
