//! What the catalog and manifests say of an index and its units. A change of a serde form is a format change.

use cairn_vector::Metric;
use serde::{Deserialize, Serialize};

use crate::id::{ColumnId, IndexId, ObjectId, TableId};

/// What near means for an index.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum IndexMetric {
    /// Euclidean distance.
    L2,
    /// One minus the cosine.
    Cosine,
    /// Minus the inner product.
    InnerProduct,
}

impl IndexMetric {
    /// The metric of `cairn_vector`.
    #[must_use]
    pub fn metric(self) -> Metric {
        match self {
            Self::L2 => Metric::L2,
            Self::Cosine => Metric::Cosine,
            Self::InnerProduct => Metric::InnerProduct,
        }
    }
}

/// Who chooses the edges of the graph.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum IndexBuilder {
    /// Cairn's own.
    #[default]
    Partition,
    /// The `hnsw_rs` crate.
    HnswRs,
}

/// One vector index of a table.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct IndexDef {
    /// Its id, unique in the table.
    pub id: IndexId,
    /// Its name, unique in the schema.
    pub name: String,
    /// The VECTOR column.
    pub column: ColumnId,
    /// What near means.
    pub metric: IndexMetric,
    /// Recall of the nearest 10 that searches aim at, in thousandths.
    pub target_recall_permille: u16,
    /// `M` of `hnsw_rs`.
    pub m: u16,
    /// Width of the walk that finds edges (`hnsw_rs`).
    pub ef_construction: u16,
    /// Who chooses the edges.
    pub builder: IndexBuilder,
    /// Memory one build may use; None: the database's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub memory_limit_bytes: Option<u64>,
}

/// A segment as a unit covers it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct UnitSegment {
    /// Which.
    pub id: ObjectId,
    /// Rows that were deleted when the unit was built and are not in it.
    pub left_out: u64,
}

/// Everything the manifest and WAL say of one unit.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct UnitMeta {
    /// Its id; the object is `table/<table>/index/<id>.hnsw`.
    pub id: ObjectId,
    /// Table it belongs to.
    pub table: TableId,
    /// Index it belongs to.
    pub index: IndexId,
    /// Segments whose rows it holds: all that were not deleted and had a vector.
    pub segments: Vec<UnitSegment>,
    /// Rows in it.
    pub rows: u64,
    /// Length of the object in bytes.
    pub bytes: u64,
    /// xxh3-128 of the whole object, hexadecimal.
    pub xxh3: String,
    /// Units it takes the place of.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub replaces: Vec<ObjectId>,
    /// How long the build took, in ms.
    pub build_ms: u64,
    /// Measured recall of the nearest 10 at the width that searches use, in thousandths; 0: too few rows to measure.
    pub recall_permille: u16,
}

impl UnitMeta {
    /// Path of the object below the root.
    #[must_use]
    pub fn path(&self) -> String {
        format!("table/{}/index/{}.hnsw", self.table, self.id)
    }
}
