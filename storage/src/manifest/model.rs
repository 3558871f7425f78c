//! The manifest as values. Serialised as JSON inside a checksummed frame (`codec`): every name here is format.

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::id::{
    CommitId, CommitVersion, DatabaseId, Epoch, ManifestNumber, ObjectId, RowId, TableId, WalNumber,
};
use crate::index::UnitMeta;
use crate::schema::{TableDef, ViewDef};
use crate::segment::{DeletesMeta, SegmentMeta};

/// The root object `manifest/<number>`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Manifest {
    /// Its number.
    pub number: ManifestNumber,
    /// Database it describes.
    pub database_id: DatabaseId,
    /// Epoch of the writer that wrote it.
    pub epoch: Epoch,
    /// Unique id of this attempt, to settle lost replies.
    pub commit_id: CommitId,
    /// Every commit up to here is at least partly described; the WAL is durable through it.
    pub version: CommitVersion,
    /// Time of that commit, µs since 1970 UTC.
    pub time_us: i64,
    /// Replay starts with this WAL file or object.
    pub replay_from: WalNumber,
    /// Objects of the log from there on are of this epoch or a later one; those of earlier ones are void. 0 for files.
    #[serde(default, skip_serializing_if = "is_first")]
    pub replay_epoch: Epoch,
    /// Whether it only claims its epoch: nothing else differs from the one before, but that replay may begin behind fences. Such a manifest is never collected, so that an
    /// older writer's next one always meets it.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub is_claim: bool,
    /// Oldest version a read may name.
    pub horizon: CommitVersion,
    /// Next unused table id.
    pub next_table_id: TableId,
    /// Objects with smaller ids are named by commits up to `version` or by none ever, so that no state after this manifest
    /// needs one that it does not name. None: nothing is known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub settled: Option<ObjectId>,
    /// Since when commits are in objects of `history`, ascending; empty: nothing is known.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub history: Vec<HistoryMark>,
    /// Schemas and views at `version`.
    pub catalog: CatalogRecord,
    /// Live tables.
    pub tables: Vec<TableRecord>,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde calls it so")]
fn is_first(epoch: &Epoch) -> bool {
    epoch.0 == 0
}

/// Commits of `version` and later ones, up to the manifest's, are in objects of `history` that were written at `time_us` or later. So it is
/// known which must be there, as long as these are kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct HistoryMark {
    /// The first of these commits.
    pub version: CommitVersion,
    /// µs since 1970 UTC.
    pub time_us: i64,
}

/// Catalog without the tables.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct CatalogRecord {
    /// Schema (namespace) names, sorted.
    pub schemas: Vec<String>,
    /// Views.
    pub views: Vec<Arc<ViewDef>>,
}

/// One table in a manifest.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct TableRecord {
    /// Its definition at the manifest's version.
    pub def: Arc<TableDef>,
    /// Every effect of commits <= `flushed` on this table is in `segments`; replay skips them.
    pub flushed: CommitVersion,
    /// Next unused row id at `flushed`.
    pub next_row_id: RowId,
    /// The number of its identity column up to which all are used up at `flushed`; None: none is, or it has no such column.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub numbered: Option<i64>,
    /// Its segments.
    pub segments: SegmentList,
    /// Units of its indexes.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub units: Vec<Arc<UnitMeta>>,
    /// DROP TABLE at this version; kept while a read before it is possible.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub dropped_at: Option<CommitVersion>,
}

/// A table's segments: inline while small, else in leaves that are rewritten only where changed.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum SegmentList {
    /// In the root itself.
    Inline(Vec<SegmentEntry>),
    /// In leaf objects `manifest/leaf/<id>`, in order.
    Leaves(Vec<LeafRef>),
}

/// Reference to a leaf: a frame with a JSON `Vec<SegmentEntry>`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct LeafRef {
    /// Object id; path `manifest/leaf/<id>`.
    pub id: ObjectId,
    /// Id of the first segment in it; leaves stand in order of segment ids.
    pub first: ObjectId,
    /// Segments in it.
    pub segments: u64,
    /// Rows in them.
    pub rows: u64,
    /// Length of the leaf object.
    pub bytes: u64,
    /// crc32c of the whole leaf object.
    pub crc32c: u32,
    /// xxh3-128 of the whole leaf object, hexadecimal; equal content is not written again.
    pub xxh3: String,
}

/// One segment with the deletes folded into it so far.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct SegmentEntry {
    /// The segment.
    pub segment: Arc<SegmentMeta>,
    /// Its `.deletes` objects; together they are its deletion vector.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub deletes: Vec<DeletesMeta>,
    /// TRUNCATE at this version; kept while a read before it is possible.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub dropped_at: Option<CommitVersion>,
}
