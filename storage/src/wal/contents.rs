//! What stands in one file or object of the log, for people who look into it.
//!
//! Owns: reading it alone, as far as it can be read. Does not own: what a bad frame means: whether a tail is torn or the file is damaged
//! only the whole log tells (`file::reader`). Changes nothing.

use bytes::Bytes;
use serde::Serialize;

use super::entry::{CatalogEdit, CommitInfo, TableChange};
use super::frame::{FRAME_HEADER, Found, FrameKind, look};
use super::header::{FileHeader, HEADER_BYTES};
use super::{codec, utc};
use crate::error::Result;
use crate::id::{CommitId, CommitVersion, DatabaseId, Epoch, RowId, SchemaVersion, TableId, WalNumber};
use crate::segment::{DeletesMeta, SegmentMeta};

/// See the module.
#[derive(Clone, Debug, Serialize)]
pub struct LogContents {
    /// Database it belongs to.
    pub database_id: DatabaseId,
    /// Its number.
    pub number: WalNumber,
    /// Epoch of the writer; 0 in files of a directory.
    pub epoch: Epoch,
    /// Version of its first entry.
    pub first: CommitVersion,
    /// Last version before it.
    pub predecessor_last: CommitVersion,
    /// Whether it only takes its number away from an older writer.
    pub is_fence: bool,
    /// Its entries, in version order.
    pub entries: Vec<LogEntry>,
    /// Whether it was ended for good.
    pub is_sealed: bool,
    /// Where the good frames end.
    pub end: u64,
    /// Length of the file.
    pub bytes: u64,
    /// What is wrong at the end of the good frames; None: nothing was written there.
    pub problem: Option<String>,
}

/// One commit.
#[derive(Clone, Debug, Serialize)]
pub struct LogEntry {
    /// Where its frame begins.
    pub offset: u64,
    /// Length of its payload.
    pub bytes: u64,
    /// Bytes of the file that were known to be synced when it was written.
    pub synced_upto: u64,
    /// Its version.
    pub version: CommitVersion,
    /// Epoch of the writer.
    pub epoch: Epoch,
    /// Unique id of the commit.
    pub commit_id: CommitId,
    /// Microseconds since 1970 UTC.
    pub time_us: i64,
    /// The same as text.
    pub time: String,
    /// Who and why.
    pub info: CommitInfo,
    /// Edits of the catalog.
    pub catalog: Vec<CatalogEdit>,
    /// Changes of tables' rows.
    pub tables: Vec<LogTable>,
}

/// What a commit does to one table's rows.
#[derive(Clone, Debug, Serialize)]
pub struct LogTable {
    /// Which table.
    pub table: TableId,
    /// Definition the rows were made for.
    pub schema_version: SchemaVersion,
    /// Row id of the first appended row.
    pub first_row_id: RowId,
    /// Rows in the entry itself.
    pub rows: u64,
    /// Rows deleted by their id.
    pub deleted: Vec<RowId>,
    /// Segments written before the entry.
    pub segments: Vec<SegmentMeta>,
    /// `.deletes` objects written before the entry.
    pub deletes: Vec<DeletesMeta>,
    /// Whether all rows before are deleted.
    pub truncate: bool,
}

impl LogContents {
    /// Reads the file or object `what`.
    ///
    /// # Errors
    /// `Corrupt` when its header, or an entry with a right checksum, can't be read; `Unsupported` when a newer Cairn wrote it.
    pub fn read(what: &str, bytes: &Bytes) -> Result<Self> {
        let header = FileHeader::read(bytes, &what)?;
        let mut contents = Self {
            database_id: header.database_id,
            number: header.number,
            epoch: header.epoch,
            first: header.first,
            predecessor_last: header.predecessor_last,
            is_fence: header.is_fence,
            entries: Vec::new(),
            is_sealed: false,
            end: 0,
            bytes: bytes.len() as u64,
            problem: None,
        };
        let mut at = HEADER_BYTES;
        while !contents.is_sealed {
            let frame = match look(bytes, at, 0, header.salt) {
                Found::Frame(frame) => frame,
                Found::End => break,
                Found::Bad(why) => {
                    contents.problem = Some(why.to_owned());
                    break;
                }
            };
            match frame.kind {
                FrameKind::Seal => contents.is_sealed = true,
                FrameKind::Entry => {
                    let payload = at + FRAME_HEADER;
                    let entry = codec::decode(bytes.slice(payload..payload + frame.payload))?;
                    contents.entries.push(LogEntry {
                        offset: at as u64,
                        bytes: frame.payload as u64,
                        synced_upto: frame.synced_upto,
                        version: entry.version,
                        epoch: entry.epoch,
                        commit_id: entry.commit_id,
                        time_us: entry.time_us,
                        time: utc(entry.time_us),
                        info: entry.info,
                        catalog: entry.catalog,
                        tables: entry.tables.into_iter().map(LogTable::of).collect(),
                    });
                }
            }
            at += frame.length;
        }
        contents.end = at as u64;
        Ok(contents)
    }
}

impl LogTable {
    fn of(change: TableChange) -> Self {
        Self {
            table: change.table,
            schema_version: change.schema_version,
            first_row_id: change.first_row_id,
            rows: change.rows.rows(),
            deleted: change.deleted,
            segments: change.segments,
            deletes: change.deletes,
            truncate: change.truncate,
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::super::WalEntry;
    use super::super::frame;
    use super::*;

    fn file(sealed: bool) -> Vec<u8> {
        let header = FileHeader {
            database_id: DatabaseId(uuid::Uuid::from_u128(7)),
            number: WalNumber(3),
            salt: 99,
            first: CommitVersion(5),
            predecessor_length: 0,
            predecessor_last: CommitVersion(4),
            created_length: 0,
            epoch: Epoch(0),
            is_fence: false,
        };
        let mut bytes = header.encode().to_vec();
        for version in 5..7 {
            let entry = WalEntry {
                version: CommitVersion(version),
                epoch: Epoch(1),
                commit_id: CommitId(uuid::Uuid::from_u128(version.into())),
                time_us: 1_000_000,
                info: CommitInfo { user: "anna".to_owned(), ..CommitInfo::default() },
                catalog: vec![CatalogEdit::CreateSchema { name: format!("s{version}") }],
                tables: Vec::new(),
            };
            let payload = codec::encode(&entry).unwrap();
            frame::encode(&mut bytes, 99, FrameKind::Entry, 0, CommitVersion(version), &payload);
        }
        if sealed {
            frame::encode(&mut bytes, 99, FrameKind::Seal, 0, CommitVersion(6), &[]);
        }
        bytes
    }

    #[test]
    fn entries_are_shown_and_where_they_end() {
        let bytes = file(true);
        let contents = LogContents::read("wal/3", &Bytes::from(bytes.clone())).unwrap();
        assert_eq!(
            (contents.number, contents.first, contents.is_sealed),
            (WalNumber(3), CommitVersion(5), true)
        );
        assert_eq!((contents.end, contents.problem), (bytes.len() as u64, None));
        let versions: Vec<u64> = contents.entries.iter().map(|entry| entry.version.0).collect();
        assert_eq!(versions, [5, 6]);
        assert_eq!(contents.entries[0].offset, HEADER_BYTES as u64);
        assert_eq!(contents.entries[1].info.user, "anna");
        assert!(
            serde_json::to_string(&contents.entries).unwrap().contains("\"create_schema\":{\"name\":\"s6\"}")
        );
    }

    #[test]
    fn what_is_bad_is_told_behind_what_is_good() {
        let mut bytes = file(false);
        let last = bytes.len() - 9;
        bytes[last] ^= 1;
        let contents = LogContents::read("wal/3", &Bytes::from(bytes)).unwrap();
        assert_eq!(contents.entries.len(), 1);
        assert!(contents.problem.is_some_and(|why| why.contains("checksum")));
        assert!(LogContents::read("x", &Bytes::from_static(b"no log")).is_err());
    }
}
