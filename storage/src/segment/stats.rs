//! Statistics of one segment's column: null count and bounds.

use serde::{Deserialize, Serialize};

/// A bound, in the widest type of its family; strings and bytes cut to 32 bytes.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum StatValue {
    /// BOOLEAN, integers, dates, times, timestamps (in their own unit).
    Int(i64),
    /// Unsigned 64-bit integers.
    UInt(u64),
    /// Decimals, unscaled.
    Decimal(#[serde(with = "i128_text")] i128),
    /// REAL, DOUBLE; never NaN. Text in JSON, whose numbers have no infinities.
    Float(#[serde(with = "f64_text")] f64),
    /// TEXT; cut at a character.
    Text(String),
    /// BYTEA.
    Bytes(Vec<u8>),
}

// No bound is a NaN.
impl Eq for StatValue {}

impl StatValue {
    /// Whether it is less than `other`, a bound of the same column. Values of two families never are.
    #[must_use]
    pub fn is_below(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Int(a), Self::Int(b)) => a < b,
            (Self::UInt(a), Self::UInt(b)) => a < b,
            (Self::Decimal(a), Self::Decimal(b)) => a < b,
            (Self::Float(a), Self::Float(b)) => a < b,
            (Self::Text(a), Self::Text(b)) => a < b,
            (Self::Bytes(a), Self::Bytes(b)) => a < b,
            _ => false,
        }
    }
}

/// Statistics of one column of one segment.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct ColumnStats {
    /// NULLs.
    pub null_count: u64,
    /// Lower bound; None: no value but NULL, or a type without order (or a NaN among floats).
    pub min: Option<StatValue>,
    /// Upper bound; likewise.
    pub max: Option<StatValue>,
    /// Whether `min` is a value of the column rather than only a bound.
    pub min_exact: bool,
    /// Whether `max` is a value of the column rather than only a bound.
    pub max_exact: bool,
    /// Estimated distinct values in the segment, 0 when not known.
    #[serde(default)]
    pub distinct: u64,
    /// Uncompressed bytes of the column in memory (Arrow), for planning.
    #[serde(default)]
    pub memory_bytes: u64,
}

mod i128_text {
    use serde::{Deserialize, Deserializer, Serializer};

    pub(super) fn serialize<S: Serializer>(value: &i128, s: S) -> Result<S::Ok, S::Error> {
        s.serialize_str(&value.to_string())
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(d: D) -> Result<i128, D::Error> {
        String::deserialize(d)?.parse().map_err(serde::de::Error::custom)
    }
}

mod f64_text {
    use serde::{Deserialize, Deserializer, Serializer};

    pub(super) fn serialize<S: Serializer>(value: &f64, s: S) -> Result<S::Ok, S::Error> {
        s.collect_str(value)
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(d: D) -> Result<f64, D::Error> {
        String::deserialize(d)?.parse().map_err(serde::de::Error::custom)
    }
}
