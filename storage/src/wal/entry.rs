//! The durable form of one commit, as values.
//!
//! Owns: what an entry can say. The byte form is in [`codec`](super::codec); what an entry does to the state is
//! `Version::apply`, the same function for a live commit, recovery and a follower.

use std::sync::Arc;

use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;
use bytes::Bytes;
use serde::{Deserialize, Serialize};

use crate::error::Result;
use crate::id::{CommitId, CommitVersion, Epoch, ObjectId, RowId, SchemaVersion, TableId};
use crate::index::UnitMeta;
use crate::manifest::SegmentEntry;
use crate::schema::{TableDef, ViewDef};
use crate::segment::{DeletesMeta, SegmentMeta};

/// Who committed and why; all optional.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct CommitInfo {
    /// User name.
    pub user: String,
    /// Session name.
    pub session: String,
    /// Request id of a server.
    pub request_id: String,
    /// `SET commit_message`.
    pub message: String,
}

/// One commit.
#[derive(Clone, Debug)]
pub struct WalEntry {
    /// Its version.
    pub version: CommitVersion,
    /// Epoch of the writer.
    pub epoch: Epoch,
    /// Unique id of the commit.
    pub commit_id: CommitId,
    /// Microseconds since 1970 UTC; never smaller than the entry's before it.
    pub time_us: i64,
    /// Who and why.
    pub info: CommitInfo,
    /// Catalog edits, applied before the table changes.
    pub catalog: Vec<CatalogEdit>,
    /// Changes of tables' rows; at most one per table.
    pub tables: Vec<TableChange>,
}

impl WalEntry {
    /// Whether it changes names, definitions or index units.
    #[must_use]
    pub fn changes_catalog(&self) -> bool {
        self.catalog.iter().any(|edit| !matches!(edit, CatalogEdit::SwapSegments(_)))
    }

    /// Whether it changes names or definitions.
    #[must_use]
    pub fn changes_names(&self) -> bool {
        let beside = |edit: &CatalogEdit| {
            use CatalogEdit::{DropUnits, PutUnit, SwapSegments};
            matches!(edit, PutUnit(_) | DropUnits { .. } | SwapSegments(_))
        };
        !self.catalog.iter().all(beside)
    }
}

/// One change of the catalog. Applying it twice is the same as once.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum CatalogEdit {
    /// CREATE SCHEMA
    CreateSchema {
        /// Name.
        name: String,
    },
    /// DROP SCHEMA (empty, or with the objects dropped by edits of their own)
    DropSchema {
        /// Name.
        name: String,
    },
    /// CREATE TABLE, and a new definition of an existing table id
    PutTable(Arc<TableDef>),
    /// DROP TABLE
    DropTable {
        /// Which.
        table: TableId,
    },
    /// CREATE [OR REPLACE] VIEW
    PutView(Arc<ViewDef>),
    /// An index unit was built.
    PutUnit(Arc<UnitMeta>),
    /// Index units that nothing uses any more.
    DropUnits {
        /// Their table.
        table: TableId,
        /// Which.
        units: Vec<ObjectId>,
    },
    /// DROP VIEW
    DropView {
        /// Schema.
        schema: String,
        /// Name.
        name: String,
    },
    /// Segments took the place of others. No change of the catalog, nor of any row: it stands here because it is one more thing that
    /// is known of a table.
    SwapSegments(Arc<SegmentSwap>),
}

/// Segments of a table that others take the place of, with the same rows but for those that nobody can see any more. Which rows the
/// others have deleted stands in `.deletes` objects, each with its version; deletes that are in none yet go by row id. A repair takes segments
/// away whose rows cannot be read any more.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct SegmentSwap {
    /// Which table.
    pub table: TableId,
    /// Segments taken away; all are there.
    pub removed: Vec<ObjectId>,
    /// Segments in their place; none when no row is left.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub added: Vec<SegmentEntry>,
    /// Reads of versions before this one may miss rows from now on.
    pub horizon: CommitVersion,
    /// A repair: rows go with the segments taken away, and this many of the table are visible afterwards. None: no visible row goes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rows_left: Option<u64>,
}

/// What one commit does to one table's rows.
#[derive(Clone, Debug)]
pub struct TableChange {
    /// Which table.
    pub table: TableId,
    /// Definition the rows were made for.
    pub schema_version: SchemaVersion,
    /// Row id of the first appended row; the others follow in order: `rows`, then `segments` in order.
    pub first_row_id: RowId,
    /// Appended rows.
    pub rows: RowBody,
    /// Row ids deleted, sorted, without repeats.
    pub deleted: Vec<RowId>,
    /// Segments written before this entry (large write sets), `created`/`row_id` still to be filled in from
    /// the entry (Constant / Base).
    pub segments: Vec<SegmentMeta>,
    /// `.deletes` objects written before this entry (large deletes).
    pub deletes: Vec<DeletesMeta>,
    /// TRUNCATE: every row visible before this commit is deleted by it.
    pub truncate: bool,
}

/// Appended rows, decoded or as bytes that need the table's schema.
#[derive(Clone, Debug)]
pub enum RowBody {
    /// In memory.
    Batches(Vec<RecordBatch>),
    /// As in the log.
    Encoded {
        /// How many rows.
        rows: u64,
        /// `codec`'s row body.
        bytes: Bytes,
    },
}

impl TableChange {
    /// Whether a segment is one of those it appends.
    #[must_use]
    pub fn appends(&self, segment: ObjectId) -> bool {
        self.segments.iter().any(|meta| meta.id == segment)
    }
}

impl RowBody {
    /// How many rows.
    #[must_use]
    pub fn rows(&self) -> u64 {
        match self {
            Self::Batches(batches) => batches.iter().map(|b| b.num_rows() as u64).sum(),
            Self::Encoded { rows, .. } => *rows,
        }
    }

    /// The rows with the table's surface schema.
    ///
    /// # Errors
    /// `Corrupt` when the bytes are not rows of `schema`.
    pub fn decode(&self, schema: &SchemaRef) -> Result<Vec<RecordBatch>> {
        match self {
            Self::Batches(batches) => Ok(batches.clone()),
            Self::Encoded { rows, bytes } => super::codec::decode_rows(schema, *rows, bytes),
        }
    }
}
