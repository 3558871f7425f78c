//! What the catalog and manifests say of an index and its units. A change of a serde form is a format change.

use std::ops::Range;

use cairn_vector::Metric;
use serde::{Deserialize, Serialize};

use crate::id::{ColumnId, IndexId, ObjectId, TableId};
use crate::schema::TableDef;

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

impl TableDef {
    /// Metrics of the indexes on `column`: each of its vectors must have distances under all of them.
    #[must_use]
    pub fn metrics_of(&self, column: ColumnId) -> Vec<Metric> {
        self.indexes.iter().filter(|i| i.column == column).map(|i| i.metric.metric()).collect()
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

/// A segment, or a range of its positions, as a unit covers it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct UnitSegment {
    /// Which.
    pub id: ObjectId,
    /// Rows among them that were deleted when the unit was built and are not in it.
    pub left_out: u64,
    /// The positions; None: all.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub positions: Option<Positions>,
}

impl UnitSegment {
    /// The positions it covers of a segment of `rows` rows.
    #[must_use]
    pub fn range(&self, rows: u64) -> Range<u32> {
        let all = 0..u32::try_from(rows).unwrap_or(u32::MAX);
        match self.positions {
            None => all,
            Some(Positions { from, to }) => from.min(all.end)..to.min(all.end),
        }
    }
}

/// Positions of a segment: from the first, to before the last.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Positions {
    /// The first.
    pub from: u32,
    /// The one behind the last.
    pub to: u32,
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
    /// Segments, or ranges of them, whose rows it holds: all that were not deleted and had a vector.
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
    /// Whether it covers a segment in part, which Cairn could not always read.
    #[must_use]
    pub fn is_partial(&self) -> bool {
        self.segments.iter().any(|segment| segment.positions.is_some())
    }

    /// Path of the object below the root.
    #[must_use]
    pub fn path(&self) -> String {
        format!("table/{}/index/{}.hnsw", self.table, self.id)
    }
}
