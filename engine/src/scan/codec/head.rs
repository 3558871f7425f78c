//! What the bytes of a scan say, but for the bitmaps and rows behind it: one JSON object.
//!
//! Owns: the fields, and whether they fit each other. Whoever builds a scan of a checked head indexes by its numbers without
//! looking again.

use std::sync::Arc;

use cairn_storage::id::{CommitVersion, DatabaseId};
use cairn_storage::schema::{ColumnType, TableDef, VECTOR_DIM_MAX};
use cairn_storage::segment::SegmentMeta;
use datafusion::arrow::datatypes::{Field, Schema, SchemaRef};
use serde::{Deserialize, Serialize};

use super::super::partition::Piece;
use super::frame::damaged;
use crate::error::Result;

/// Most digits of a DECIMAL.
const PRECISION_MAX: u8 = 38;
/// Most rows of one share, whose number nothing else may bound.
const SHARE_ROWS_MAX: u64 = u32::MAX as u64;

/// The first section.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct Head {
    /// The database the table is in.
    pub(super) database: DatabaseId,
    /// The table as its segments are read.
    pub(super) table: Arc<TableDef>,
    /// The version read.
    pub(super) version: CommitVersion,
    /// The segments read.
    pub(super) segments: Vec<Segment>,
    /// How many there were before pruning.
    pub(super) segments_total: usize,
    /// The parts of the segments each partition starts with.
    pub(super) pieces: Vec<Vec<Piece>>,
    /// Number of keys looked up when the rows were found by key.
    pub(super) keys: Option<usize>,
    /// Why a sort by distance above it uses no index.
    pub(super) unsearched: Option<Arc<str>>,
    /// The columns it puts out.
    pub(super) output: Vec<OutputColumn>,
    /// Rows in memory of each partition that has some: a section each, behind the bitmaps.
    pub(super) shares: Vec<u64>,
    /// What reads the segments; None: there is none to read.
    pub(super) source: Option<Source>,
    /// The most rows each partition gives.
    pub(super) limit: Option<usize>,
}

/// A segment of the scan.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct Segment {
    /// As the manifest has it.
    pub(super) meta: Arc<SegmentMeta>,
    /// Whether rows of it are hidden: a section with their positions, in the segments' order.
    pub(super) hides: bool,
}

/// A column of the result.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct OutputColumn {
    pub(super) name: String,
    pub(super) column_type: ColumnType,
    pub(super) nullable: bool,
}

/// How the segments are read.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct Source {
    /// For each column of the result its place among the table's, the pseudo-columns behind them.
    pub(super) columns: Vec<usize>,
    /// What each partition's rows are sorted by; empty: nothing.
    pub(super) order: Vec<OrderColumn>,
    /// Whether the result has an order that what stands above it may rely on.
    pub(super) ordered: bool,
    /// Whether files are read in the order they are in.
    pub(super) preserve_order: bool,
    /// Rows after which a partition has enough.
    pub(super) limit: Option<usize>,
}

/// A column that rows are sorted by.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct OrderColumn {
    /// Its place among the table's.
    pub(super) column: usize,
    pub(super) descending: bool,
    pub(super) nulls_first: bool,
}

impl Head {
    /// Schema of the result.
    pub(super) fn schema(&self) -> SchemaRef {
        let field = |c: &OutputColumn| Field::new(&c.name, c.column_type.arrow(), c.nullable);
        Arc::new(Schema::new(self.output.iter().map(field).collect::<Vec<_>>()))
    }

    /// That everything is there that is named, and within its limits.
    ///
    /// # Errors
    /// `Corrupt`.
    pub(super) fn check(&self) -> Result<()> {
        let types = self.table.columns.iter().map(|c| &c.column_type);
        if !types.chain(self.output.iter().map(|c| &c.column_type)).all(is_sound) {
            return Err(damaged("a column of a type that there is not"));
        }
        if self.segments.iter().any(|s| s.meta.table != self.table.id) {
            return Err(damaged("a segment of another table"));
        }
        if !self.can_be_counted() {
            return Err(damaged("segments of more than there can be"));
        }
        if !self.pieces.iter().flatten().all(|piece| self.has(piece)) {
            return Err(damaged("a piece that no segment has"));
        }
        if self.shares.iter().any(|rows| !(1..=SHARE_ROWS_MAX).contains(rows)) {
            return Err(damaged("rows in memory of a number that there cannot be"));
        }
        match &self.source {
            Some(source) if !self.segments.is_empty() => self.check_source(source),
            None if self.segments.is_empty() => Ok(()),
            Some(_) => Err(damaged("no segment to read")),
            None => Err(damaged("segments that nothing reads")),
        }
    }

    /// Whether what is added up of the segments' statistics has a sum.
    fn can_be_counted(&self) -> bool {
        let of_columns = |meta: &SegmentMeta| {
            let counts = meta.columns.iter().map(|c| [c.null_count, c.distinct, c.memory_bytes]);
            counts.flatten().chain([meta.rows, meta.bytes]).try_fold(0_u64, u64::checked_add)
        };
        let mut sums = self.segments.iter().map(|segment| of_columns(&segment.meta));
        let total = sums.try_fold(0_u64, |total, sum| total.checked_add(sum?));
        total.is_some_and(|total| i64::try_from(total).is_ok())
    }

    fn check_source(&self, source: &Source) -> Result<()> {
        let width = self.table.columns.len();
        if self.pieces.is_empty() {
            return Err(damaged("segments that no partition reads"));
        }
        if source.columns.len() != self.output.len() || source.columns.iter().any(|i| *i >= width + 2) {
            return Err(damaged("a column that the table has not"));
        }
        if source.order.iter().any(|by| by.column >= width) {
            return Err(damaged("an order by a column that the table has not"));
        }
        Ok(())
    }

    fn has(&self, piece: &Piece) -> bool {
        self.segments.get(piece.segment).is_some_and(|segment| match piece.range {
            Some((start, end)) => start < end && end <= segment.meta.bytes,
            None => true,
        })
    }
}

/// Whether there can be a column of that type.
fn is_sound(column_type: &ColumnType) -> bool {
    match column_type {
        ColumnType::Decimal { precision, scale } => {
            (1..=PRECISION_MAX).contains(precision) && u8::try_from(*scale).is_ok_and(|s| s <= *precision)
        }
        ColumnType::Vector(dim) => (1..=VECTOR_DIM_MAX).contains(dim),
        ColumnType::List(item) => is_sound(item),
        ColumnType::Struct(members) => members.iter().all(|(_, member)| is_sound(member)),
        ColumnType::Boolean
        | ColumnType::Int8
        | ColumnType::Int16
        | ColumnType::Int32
        | ColumnType::Int64
        | ColumnType::UInt8
        | ColumnType::UInt16
        | ColumnType::UInt32
        | ColumnType::UInt64
        | ColumnType::Float32
        | ColumnType::Float64
        | ColumnType::Text
        | ColumnType::Bytea
        | ColumnType::Json
        | ColumnType::Date
        | ColumnType::Time
        | ColumnType::Timestamp { .. }
        | ColumnType::TimestampTz { .. } => true,
    }
}
