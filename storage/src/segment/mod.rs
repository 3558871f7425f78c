//! Segments: immutable Parquet objects of one table, with what stands beside each.
//!
//! Owns: the choice of encodings, block checksums, key filters, statistics, deletion vectors and their
//! bytes, lookups by key and row id. Does not own: which segments a table has (`version`, `manifest`), when one is
//! written (`checkpoint`, `transaction`). Nothing here is ever edited in place.

mod bounds;
pub mod cache;
pub(crate) mod checksum;
pub mod columns;
mod contents;
pub mod deletes;
mod encode;
mod encoding;
pub mod filter;
mod kept;
pub mod key;
mod places;
mod profile;
pub mod reader;
mod sink;
pub mod sort;
mod span;
pub mod stats;
#[cfg(test)]
mod testing;
pub mod vectors;
pub mod writer;

use std::sync::Arc;

use serde::{Deserialize, Serialize};

pub(crate) use bounds::BOUND_BYTES;
pub use cache::SegmentCache;
pub use columns::{ColumnCache, ColumnKey, DecodedColumn, KeptColumnFigures};
pub use contents::{ColumnContents, SegmentContents};
pub use deletes::{DeletesMeta, DeletionVector};
pub use filter::KeyFilter;
pub use kept::KeptColumn;
pub use key::{EncodedKey, EncodedKeys, KeyEncoder};
pub use reader::{RowChoice, SegmentFile, SegmentReader};
pub use sort::{SortedRows, sort_batches};
pub(crate) use span::KeySpan;
pub use stats::{ColumnStats, StatValue};
pub(crate) use writer::segment_bytes;
pub use writer::{Addressing, SegmentCompression, SegmentWriter, SegmentWriterOptions};

use crate::id::{CommitVersion, ObjectId, RowId, SchemaVersion, TableId};

/// How a segment knows the commit version that created each row.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Created {
    /// All rows by one commit.
    Constant(CommitVersion),
    /// In the column [`VERSION_COLUMN`](crate::schema::VERSION_COLUMN).
    Column,
}

/// How a segment knows each row's id.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RowIds {
    /// Row at position p has id base + p.
    Base(RowId),
    /// In the column [`ROW_ID_COLUMN`](crate::schema::ROW_ID_COLUMN).
    Column,
}

/// Everything the manifest and WAL say of one segment.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct SegmentMeta {
    /// Its id; the object is `table/<table>/<id>.parquet`.
    pub id: ObjectId,
    /// Table it belongs to.
    pub table: TableId,
    /// Definition its statistics follow.
    pub schema_version: SchemaVersion,
    /// Whether its file has the columns of an older definition: they are found by their ids, and have the types of then.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub reshaped: bool,
    /// Rows in it, deleted ones included.
    pub rows: u64,
    /// Length of the object in bytes.
    pub bytes: u64,
    /// xxh3-128 of the whole object, hexadecimal.
    pub xxh3: String,
    /// Length of the Parquet footer's Thrift part, and crc32c of it.
    pub footer_bytes: u32,
    /// See `footer_bytes`.
    pub footer_crc32c: u32,
    /// Length of the page index, which ends where the footer begins: both are read at once. None: written before this was noted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub page_index_bytes: Option<u32>,
    /// Key filter object (`<id>.keys`): its length; None when the table has no key.
    pub key_filter_bytes: Option<u64>,
    /// crc32c of the key filter object up to the checksum it ends in.
    pub key_filter_crc32c: u32,
    /// Created versions.
    pub created: Created,
    /// Smallest created version.
    pub min_created: CommitVersion,
    /// Largest created version; a scan at or above it adds no filter.
    pub max_created: CommitVersion,
    /// Row ids.
    pub row_ids: RowIds,
    /// Smallest row id.
    pub min_row_id: RowId,
    /// Largest row id.
    pub max_row_id: RowId,
    /// Whether rows stand in order of the table's sort columns.
    pub sorted: bool,
    /// Segments of one run lie beside each other, whatever their bounds say: a compaction has cut them from the same rows in order. It is
    /// named after one of them. None: a run of its own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub run: Option<ObjectId>,
    /// Per user column, in the definition's order.
    pub columns: Vec<ColumnStats>,
}

impl SegmentMeta {
    /// Path of the Parquet object below the root.
    #[must_use]
    pub fn path(&self) -> String {
        format!("table/{}/{}.parquet", self.table, self.id)
    }

    /// The run it belongs to.
    #[must_use]
    pub fn run(&self) -> ObjectId {
        self.run.unwrap_or(self.id)
    }

    /// Path of the key filter object below the root.
    #[must_use]
    pub fn key_filter_path(&self) -> String {
        format!("table/{}/{}.keys", self.table, self.id)
    }

    /// This load's segment with the version and row ids its commit gave it.
    #[must_use]
    pub fn committed(mut self, version: CommitVersion, base: RowId) -> Self {
        self.created = Created::Constant(version);
        self.min_created = version;
        self.max_created = version;
        self.row_ids = RowIds::Base(base);
        self.min_row_id = base;
        self.max_row_id = RowId(base.0.saturating_add(self.rows.saturating_sub(1)));
        self
    }
}

/// A segment's meta shared by every snapshot that holds it.
pub type SegmentRef = Arc<SegmentMeta>;
