//! A column's bounds over a whole segment, from the statistics Parquet kept while writing.

use parquet::file::metadata::RowGroupMetaData;
use parquet::file::statistics::Statistics;

use super::stats::StatValue;
use crate::schema::ColumnType;

/// Bytes that bounds of TEXT and BYTEA are cut to.
pub(crate) const BOUND_BYTES: usize = 32;

/// Lower and upper bound, each with whether it is a value of the column.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Bounds {
    pub(crate) min: Option<(StatValue, bool)>,
    pub(crate) max: Option<(StatValue, bool)>,
}

/// Bounds of leaf column `leaf` over all row groups; none when a row group with values has none.
pub(crate) fn bounds(column_type: &ColumnType, groups: &[RowGroupMetaData], leaf: usize) -> Bounds {
    let mut merged = Bounds::default();
    for group in groups {
        let Some(statistics) = group.columns().get(leaf).and_then(|c| c.statistics()) else {
            return Bounds::default();
        };
        if statistics.null_count_opt() == Some(group.num_rows() as u64) {
            continue;
        }
        let (Some(min), Some(max)) = (
            value(column_type, statistics, statistics.min_bytes_opt()),
            value(column_type, statistics, statistics.max_bytes_opt()),
        ) else {
            return Bounds::default();
        };
        merged.min = Some(smaller(merged.min.take(), (min, statistics.min_is_exact())));
        merged.max = Some(larger(merged.max.take(), (max, statistics.max_is_exact())));
    }
    merged
}

fn smaller(old: Option<(StatValue, bool)>, new: (StatValue, bool)) -> (StatValue, bool) {
    match old {
        Some(old) if !less(&new.0, &old.0) => old,
        _ => new,
    }
}

fn larger(old: Option<(StatValue, bool)>, new: (StatValue, bool)) -> (StatValue, bool) {
    match old {
        Some(old) if !less(&old.0, &new.0) => old,
        _ => new,
    }
}

/// Order of two bounds of one column.
fn less(a: &StatValue, b: &StatValue) -> bool {
    match (a, b) {
        (StatValue::Int(a), StatValue::Int(b)) => a < b,
        (StatValue::UInt(a), StatValue::UInt(b)) => a < b,
        (StatValue::Decimal(a), StatValue::Decimal(b)) => a < b,
        (StatValue::Float(a), StatValue::Float(b)) => a < b,
        (StatValue::Text(a), StatValue::Text(b)) => a < b,
        (StatValue::Bytes(a), StatValue::Bytes(b)) => a < b,
        _ => false,
    }
}

fn value(column_type: &ColumnType, statistics: &Statistics, bytes: Option<&[u8]>) -> Option<StatValue> {
    let bytes = bytes?;
    let integer = || match statistics {
        Statistics::Boolean(_) => bytes.first().map(|&b| i128::from(b)),
        Statistics::Int32(_) => Some(i128::from(i32::from_le_bytes(bytes.try_into().ok()?))),
        Statistics::Int64(_) => Some(i128::from(i64::from_le_bytes(bytes.try_into().ok()?))),
        Statistics::FixedLenByteArray(_) => big_endian(bytes),
        _ => None,
    };
    Some(match column_type {
        ColumnType::Boolean
        | ColumnType::Int8
        | ColumnType::Int16
        | ColumnType::Int32
        | ColumnType::Int64
        | ColumnType::UInt8
        | ColumnType::UInt16
        | ColumnType::Date
        | ColumnType::Time
        | ColumnType::Timestamp { .. }
        | ColumnType::TimestampTz { .. } => StatValue::Int(i64::try_from(integer()?).ok()?),
        // Parquet keeps unsigned integers in the signed type of the same width.
        ColumnType::UInt32 => StatValue::Int(i64::from(integer()? as u32)),
        ColumnType::UInt64 => StatValue::UInt(integer()? as u64),
        ColumnType::Decimal { .. } => StatValue::Decimal(integer()?),
        ColumnType::Float32 => StatValue::Float(f64::from(f32::from_le_bytes(bytes.try_into().ok()?))),
        ColumnType::Float64 => StatValue::Float(f64::from_le_bytes(bytes.try_into().ok()?)),
        // A bound that could not be cut (an upper bound of all 0xff) is given up.
        ColumnType::Text if bytes.len() <= BOUND_BYTES => {
            StatValue::Text(std::str::from_utf8(bytes).ok()?.to_owned())
        }
        ColumnType::Bytea if bytes.len() <= BOUND_BYTES => StatValue::Bytes(bytes.to_vec()),
        ColumnType::Text
        | ColumnType::Bytea
        | ColumnType::Json
        | ColumnType::Vector(_)
        | ColumnType::List(_)
        | ColumnType::Struct(_) => {
            return None;
        }
    })
}

fn big_endian(bytes: &[u8]) -> Option<i128> {
    if bytes.len() > 16 {
        return None;
    }
    let sign = if bytes.first().is_some_and(|b| b & 0x80 != 0) { -1 } else { 0 };
    Some(bytes.iter().fold(sign, |n, &b| n << 8 | i128::from(b)))
}
