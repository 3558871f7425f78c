//! Column types, tables and views as the catalog keeps them.
//!
//! Owns: the closed list of column types with their SQL names and Arrow forms, and table and view
//! definitions. Does not own: name rules and defaults' evaluation (engine), row checks (`transaction`).
//! Serialised into manifests and WAL entries: a change of a serde form is a format change.

use std::fmt;
use std::sync::Arc;

use arrow::datatypes::{DataType, Field, Fields, Schema, SchemaRef, TimeUnit};
use serde::{Deserialize, Serialize};

use crate::id::{ColumnId, SchemaVersion, TableId, UserId};
use crate::index::IndexDef;
pub use crate::numbers::IdentityDef;
use crate::segment::StatValue;

/// Name of the pseudo-column that holds [`RowId`](crate::id::RowId) (UInt64).
pub const ROW_ID_COLUMN: &str = "_row_id";
/// Name of the pseudo-column that holds the commit version that wrote the row version (UInt64).
pub const VERSION_COLUMN: &str = "_version";
/// Parquet field id of [`ROW_ID_COLUMN`]; user columns count from 1 and stay below.
pub const ROW_ID_FIELD: ColumnId = ColumnId(0x7fff_fff0);
/// Parquet field id of [`VERSION_COLUMN`].
pub const VERSION_FIELD: ColumnId = ColumnId(0x7fff_fff1);

/// Components of the longest vector.
pub const VECTOR_DIM_MAX: u16 = 16_000;

/// Every type a column can have.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ColumnType {
    /// BOOLEAN
    Boolean,
    /// TINYINT
    Int8,
    /// SMALLINT
    Int16,
    /// INTEGER
    Int32,
    /// BIGINT
    Int64,
    /// TINYINT UNSIGNED
    UInt8,
    /// SMALLINT UNSIGNED
    UInt16,
    /// INTEGER UNSIGNED
    UInt32,
    /// BIGINT UNSIGNED
    UInt64,
    /// REAL
    Float32,
    /// DOUBLE PRECISION
    Float64,
    /// DECIMAL(precision 1..=38, scale 0..=precision)
    Decimal {
        /// Digits in all.
        precision: u8,
        /// Digits after the point.
        scale: i8,
    },
    /// TEXT, any length; surfaces as Utf8View.
    Text,
    /// BYTEA; surfaces as BinaryView.
    Bytea,
    /// JSON: text checked when written.
    Json,
    /// DATE, days since 1970-01-01.
    Date,
    /// TIME, µs since midnight.
    Time,
    /// TIMESTAMP: µs (ns when `nanos`), without a zone.
    Timestamp {
        /// TIMESTAMP(9)
        nanos: bool,
    },
    /// TIMESTAMPTZ: µs (ns when `nanos`) UTC, shown in `zone`.
    TimestampTz {
        /// TIMESTAMPTZ(9)
        nanos: bool,
        /// IANA name or offset; "UTC" by default.
        zone: String,
    },
    /// VECTOR(n): n finite REAL components, 1 to [`VECTOR_DIM_MAX`].
    Vector(u16),
    /// type\[\]; elements may be NULL.
    List(Box<ColumnType>),
    /// STRUCT(name type, …); members may be NULL.
    Struct(Vec<(String, ColumnType)>),
}

impl ColumnType {
    /// The Arrow type the column has in memory and at the surface.
    #[must_use]
    pub fn arrow(&self) -> DataType {
        let unit = |nanos: bool| if nanos { TimeUnit::Nanosecond } else { TimeUnit::Microsecond };
        match self {
            Self::Boolean => DataType::Boolean,
            Self::Int8 => DataType::Int8,
            Self::Int16 => DataType::Int16,
            Self::Int32 => DataType::Int32,
            Self::Int64 => DataType::Int64,
            Self::UInt8 => DataType::UInt8,
            Self::UInt16 => DataType::UInt16,
            Self::UInt32 => DataType::UInt32,
            Self::UInt64 => DataType::UInt64,
            Self::Float32 => DataType::Float32,
            Self::Float64 => DataType::Float64,
            Self::Decimal { precision, scale } => DataType::Decimal128(*precision, *scale),
            Self::Text | Self::Json => DataType::Utf8View,
            Self::Bytea => DataType::BinaryView,
            Self::Date => DataType::Date32,
            Self::Time => DataType::Time64(TimeUnit::Microsecond),
            Self::Timestamp { nanos } => DataType::Timestamp(unit(*nanos), None),
            Self::TimestampTz { nanos, zone } => {
                DataType::Timestamp(unit(*nanos), Some(zone.as_str().into()))
            }
            // The item is nullable because that is how other programs declare it; no component ever is NULL.
            Self::Vector(dim) => DataType::FixedSizeList(
                Arc::new(Field::new("item", DataType::Float32, true)),
                i32::from(*dim),
            ),
            Self::List(item) => DataType::List(Arc::new(Field::new("item", item.arrow(), true))),
            Self::Struct(members) => DataType::Struct(
                members.iter().map(|(n, t)| Field::new(n, t.arrow(), true)).collect::<Fields>(),
            ),
        }
    }

    /// The column type whose [`arrow`](Self::arrow) form holds every value of `data_type`; None when
    /// there is none (intervals, maps, unions …). Used by CTAS and files queried in place.
    #[must_use]
    pub fn from_arrow(data_type: &DataType) -> Option<Self> {
        Some(match data_type {
            DataType::Boolean => Self::Boolean,
            DataType::Int8 => Self::Int8,
            DataType::Int16 => Self::Int16,
            DataType::Int32 => Self::Int32,
            DataType::Int64 => Self::Int64,
            DataType::UInt8 => Self::UInt8,
            DataType::UInt16 => Self::UInt16,
            DataType::UInt32 => Self::UInt32,
            DataType::UInt64 => Self::UInt64,
            DataType::Float16 | DataType::Float32 => Self::Float32,
            DataType::Float64 => Self::Float64,
            DataType::Decimal32(p, s) | DataType::Decimal64(p, s) | DataType::Decimal128(p, s) if *s >= 0 => {
                Self::Decimal { precision: *p, scale: *s }
            }
            DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View | DataType::Null => Self::Text,
            DataType::Binary
            | DataType::LargeBinary
            | DataType::BinaryView
            | DataType::FixedSizeBinary(_) => Self::Bytea,
            DataType::Date32 | DataType::Date64 => Self::Date,
            DataType::Time32(_) | DataType::Time64(_) => Self::Time,
            DataType::Timestamp(unit, zone) => {
                let nanos = *unit == TimeUnit::Nanosecond;
                match zone {
                    None => Self::Timestamp { nanos },
                    Some(zone) => Self::TimestampTz { nanos, zone: zone.to_string() },
                }
            }
            DataType::FixedSizeList(item, dim)
                if *item.data_type() == DataType::Float32
                    && (1..=i32::from(VECTOR_DIM_MAX)).contains(dim) =>
            {
                Self::Vector(u16::try_from(*dim).ok()?)
            }
            DataType::List(f) | DataType::LargeList(f) | DataType::FixedSizeList(f, _) => {
                Self::List(Box::new(Self::from_arrow(f.data_type())?))
            }
            DataType::Struct(fields) => Self::Struct(
                fields
                    .iter()
                    .map(|f| Some((f.name().clone(), Self::from_arrow(f.data_type())?)))
                    .collect::<Option<_>>()?,
            ),
            DataType::Dictionary(_, values) => Self::from_arrow(values)?,
            _ => return None,
        })
    }

    /// Whether a PRIMARY KEY or `sort` may hold it: any type with one total order.
    #[must_use]
    pub fn is_key(&self) -> bool {
        !matches!(self, Self::List(_) | Self::Struct(_) | Self::Json | Self::Vector(_))
    }
}

impl fmt::Display for ColumnType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Boolean => f.write_str("BOOLEAN"),
            Self::Int8 => f.write_str("TINYINT"),
            Self::Int16 => f.write_str("SMALLINT"),
            Self::Int32 => f.write_str("INTEGER"),
            Self::Int64 => f.write_str("BIGINT"),
            Self::UInt8 => f.write_str("TINYINT UNSIGNED"),
            Self::UInt16 => f.write_str("SMALLINT UNSIGNED"),
            Self::UInt32 => f.write_str("INTEGER UNSIGNED"),
            Self::UInt64 => f.write_str("BIGINT UNSIGNED"),
            Self::Float32 => f.write_str("REAL"),
            Self::Float64 => f.write_str("DOUBLE"),
            Self::Decimal { precision, scale } => write!(f, "DECIMAL({precision},{scale})"),
            Self::Text => f.write_str("TEXT"),
            Self::Bytea => f.write_str("BYTEA"),
            Self::Json => f.write_str("JSON"),
            Self::Date => f.write_str("DATE"),
            Self::Time => f.write_str("TIME"),
            Self::Timestamp { nanos } => f.write_str(if *nanos { "TIMESTAMP(9)" } else { "TIMESTAMP" }),
            Self::TimestampTz { nanos, zone } => match (*nanos, zone.as_str()) {
                (false, "UTC") => f.write_str("TIMESTAMPTZ"),
                (true, "UTC") => f.write_str("TIMESTAMPTZ(9)"),
                (false, zone) => write!(f, "TIMESTAMPTZ('{}')", zone.replace('\'', "''")),
                (true, zone) => write!(f, "TIMESTAMPTZ(9, '{}')", zone.replace('\'', "''")),
            },
            Self::Vector(dim) => write!(f, "VECTOR({dim})"),
            Self::List(item) => write!(f, "{item}[]"),
            Self::Struct(members) => {
                f.write_str("STRUCT(")?;
                for (i, (name, t)) in members.iter().enumerate() {
                    write!(f, "{}{name} {t}", if i == 0 { "" } else { ", " })?;
                }
                f.write_str(")")
            }
        }
    }
}

/// One column of a table.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ColumnDef {
    /// Stable id, also the Parquet field id.
    pub id: ColumnId,
    /// Name as stored (already normalised).
    pub name: String,
    /// Its type.
    pub column_type: ColumnType,
    /// Whether NULL is allowed.
    pub nullable: bool,
    /// SQL text of the default for rows written without a value.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub default: Option<String>,
    /// Value in rows that were written before there was the column; None: NULL.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub initial: Option<StatValue>,
}

impl ColumnDef {
    /// Arrow field of the column at the surface.
    #[must_use]
    pub fn field(&self) -> Field {
        Field::new(&self.name, self.column_type.arrow(), self.nullable)
    }
}

/// What of a table's segments lies near each other in a bucket, where each request takes long (ADR 33). In a directory they are all alike.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum TableLayout {
    /// The values of a column: a scan asks for the columns it needs, in few requests, and one row is many.
    #[default]
    Columns,
    /// The columns of a row: one request brings it, and a scan reads all columns in many.
    Rows,
}

impl TableLayout {
    /// As written and shown: `columns`, `rows`.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Columns => "columns",
            Self::Rows => "rows",
        }
    }

    /// The layout of that name.
    #[must_use]
    pub fn named(name: &str) -> Option<Self> {
        [Self::Columns, Self::Rows].into_iter().find(|layout| layout.as_str() == name)
    }

    /// Whether it is what nobody has to say.
    #[must_use]
    pub fn is_default(&self) -> bool {
        *self == Self::default()
    }
}

/// One table. Immutable: a change is a new definition with the next [`SchemaVersion`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TableDef {
    /// Stable id.
    pub id: TableId,
    /// Schema (namespace) it lives in.
    pub schema: String,
    /// Name within the schema.
    pub name: String,
    /// Which definition this is.
    pub schema_version: SchemaVersion,
    /// Columns in declaration order.
    pub columns: Vec<ColumnDef>,
    /// Primary-key columns in key order; empty: no key. Always NOT NULL.
    pub primary_key: Vec<ColumnId>,
    /// Sort columns of segments, ascending, NULLs last; empty: the key, else arrival order.
    pub sort: Vec<ColumnId>,
    /// Next unused column id.
    pub next_column_id: ColumnId,
    /// How segments lie in a bucket.
    #[serde(default, skip_serializing_if = "TableLayout::is_default")]
    pub layout: TableLayout,
    /// Its indexes, by id.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub indexes: Vec<IndexDef>,
    /// Who made it; None: whoever opened the database.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub owner: Option<UserId>,
    /// The column that numbers its rows.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub identity: Option<IdentityDef>,
}

impl TableDef {
    /// `schema.name`, for messages.
    #[must_use]
    pub fn qualified_name(&self) -> String {
        format!("{}.{}", self.schema, self.name)
    }

    /// Arrow schema at the surface: user columns only.
    #[must_use]
    pub fn arrow_schema(&self) -> SchemaRef {
        Arc::new(Schema::new(self.columns.iter().map(ColumnDef::field).collect::<Vec<_>>()))
    }

    /// Whether it is not the definition that the table was created with.
    #[must_use]
    pub fn is_altered(&self) -> bool {
        self.schema_version > SchemaVersion(1)
    }

    /// The column that numbers its rows, by its position in `columns`, and how.
    #[must_use]
    pub fn numbered_by(&self) -> Option<(usize, IdentityDef)> {
        let identity = self.identity?;
        let at = self.columns.iter().position(|column| column.id == identity.column)?;
        Some((at, identity))
    }

    /// An index by name.
    #[must_use]
    pub fn index_named(&self, name: &str) -> Option<&IndexDef> {
        self.indexes.iter().find(|index| index.name == name)
    }

    /// Positions in `columns` of the primary key, in key order.
    #[must_use]
    pub fn key_indices(&self) -> Vec<usize> {
        self.indices(&self.primary_key)
    }

    /// Positions in `columns` of what segments are sorted by: `sort`, else the key, else none.
    #[must_use]
    pub fn sort_indices(&self) -> Vec<usize> {
        if self.sort.is_empty() { self.key_indices() } else { self.indices(&self.sort) }
    }

    fn indices(&self, ids: &[ColumnId]) -> Vec<usize> {
        ids.iter().filter_map(|id| self.columns.iter().position(|c| c.id == *id)).collect()
    }
}

/// One view: a name for a query.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ViewDef {
    /// Schema (namespace) it lives in.
    pub schema: String,
    /// Name within the schema.
    pub name: String,
    /// Text of the query behind it.
    pub sql: String,
    /// Schema that unqualified names in `sql` resolve in.
    pub search_path: String,
    /// Who wrote it; None: whoever opened the database.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub owner: Option<UserId>,
}
