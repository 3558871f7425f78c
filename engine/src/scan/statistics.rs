//! A segment's statistics as DataFusion reads them.
//!
//! Owns: the form of a bound as a scalar of its column's type, per-segment and per-scan [`Statistics`], and when a
//! number may be called exact: row counts always (live rows), everything else only while no row of the segment is
//! hidden, because the optimizer answers COUNT, MIN and MAX from exact numbers without reading a row.

use cairn_storage::segment::{ColumnStats, StatValue};
use cairn_storage::{SegmentView, TableSnapshot};
use datafusion::arrow::datatypes::{DataType, Schema, SchemaRef, TimeUnit};
use datafusion::common::stats::{NdvFallback, Precision};
use datafusion::common::{ColumnStatistics, Result, ScalarValue, Statistics};

/// The bound as a value of the column's type; None when the two do not belong together.
pub(crate) fn scalar(value: &StatValue, data_type: &DataType) -> Option<ScalarValue> {
    Some(match (value, data_type) {
        (StatValue::Int(v), DataType::Boolean) => ScalarValue::Boolean(Some(*v != 0)),
        (StatValue::Int(v), DataType::Int8) => ScalarValue::Int8(Some(i8::try_from(*v).ok()?)),
        (StatValue::Int(v), DataType::Int16) => ScalarValue::Int16(Some(i16::try_from(*v).ok()?)),
        (StatValue::Int(v), DataType::Int32) => ScalarValue::Int32(Some(i32::try_from(*v).ok()?)),
        (StatValue::Int(v), DataType::Int64) => ScalarValue::Int64(Some(*v)),
        (StatValue::Int(v), DataType::UInt8) => ScalarValue::UInt8(Some(u8::try_from(*v).ok()?)),
        (StatValue::Int(v), DataType::UInt16) => ScalarValue::UInt16(Some(u16::try_from(*v).ok()?)),
        (StatValue::Int(v), DataType::UInt32) => ScalarValue::UInt32(Some(u32::try_from(*v).ok()?)),
        (StatValue::Int(v), DataType::UInt64) => ScalarValue::UInt64(Some(u64::try_from(*v).ok()?)),
        (StatValue::UInt(v), DataType::UInt8) => ScalarValue::UInt8(Some(u8::try_from(*v).ok()?)),
        (StatValue::UInt(v), DataType::UInt16) => ScalarValue::UInt16(Some(u16::try_from(*v).ok()?)),
        (StatValue::UInt(v), DataType::UInt32) => ScalarValue::UInt32(Some(u32::try_from(*v).ok()?)),
        (StatValue::UInt(v), DataType::UInt64) => ScalarValue::UInt64(Some(*v)),
        (StatValue::Int(v), DataType::Date32) => ScalarValue::Date32(Some(i32::try_from(*v).ok()?)),
        (StatValue::Int(v), DataType::Time64(TimeUnit::Microsecond)) => {
            ScalarValue::Time64Microsecond(Some(*v))
        }
        (StatValue::Int(v), DataType::Timestamp(TimeUnit::Microsecond, zone)) => {
            ScalarValue::TimestampMicrosecond(Some(*v), zone.clone())
        }
        (StatValue::Int(v), DataType::Timestamp(TimeUnit::Nanosecond, zone)) => {
            ScalarValue::TimestampNanosecond(Some(*v), zone.clone())
        }
        (StatValue::Decimal(v), DataType::Decimal128(precision, scale)) => {
            ScalarValue::Decimal128(Some(*v), *precision, *scale)
        }
        #[expect(
            clippy::cast_possible_truncation,
            reason = "REAL bounds are f32 values widened by the writer"
        )]
        (StatValue::Float(v), DataType::Float32) => ScalarValue::Float32(Some(*v as f32)),
        (StatValue::Float(v), DataType::Float64) => ScalarValue::Float64(Some(*v)),
        (StatValue::Text(v), DataType::Utf8View) => ScalarValue::Utf8View(Some(v.clone())),
        (StatValue::Bytes(v), DataType::BinaryView) => ScalarValue::BinaryView(Some(v.clone())),
        _ => return None,
    })
}

/// The value as a number that keeps its order, for guesses; None for NULL, texts, bytes and what has parts.
pub(crate) fn number(value: &ScalarValue) -> Option<f64> {
    Some(match value {
        ScalarValue::Boolean(Some(v)) => f64::from(u8::from(*v)),
        ScalarValue::Int8(Some(v)) => f64::from(*v),
        ScalarValue::Int16(Some(v)) => f64::from(*v),
        ScalarValue::Int32(Some(v)) | ScalarValue::Date32(Some(v)) => f64::from(*v),
        ScalarValue::UInt8(Some(v)) => f64::from(*v),
        ScalarValue::UInt16(Some(v)) => f64::from(*v),
        ScalarValue::UInt32(Some(v)) => f64::from(*v),
        ScalarValue::UInt64(Some(v)) => *v as f64,
        ScalarValue::Float32(Some(v)) => f64::from(*v),
        ScalarValue::Float64(Some(v)) => *v,
        ScalarValue::Decimal128(Some(v), _, scale) => *v as f64 / 10f64.powi(i32::from(*scale)),
        ScalarValue::Int64(Some(v))
        | ScalarValue::Time64Microsecond(Some(v))
        | ScalarValue::TimestampMicrosecond(Some(v), _)
        | ScalarValue::TimestampNanosecond(Some(v), _) => *v as f64,
        _ => return None,
    })
}

/// What is known of a column's values in a whole table, for guesses: nothing here is exact.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Summary {
    /// Distinct values, at least one.
    pub(crate) distinct: f64,
    /// Least and largest of them, where they are numbers or moments.
    pub(crate) bounds: Option<(f64, f64)>,
    /// Part of the rows that are NULL.
    pub(crate) nulls: f64,
}

/// Rows of the table, those that wait for a checkpoint included.
pub(crate) fn rows(table: &TableSnapshot) -> f64 {
    table.state().live_rows as f64
}

/// What the segments say of one of the table's own columns; None when one of another definition is among them, or there is none.
pub(crate) fn summary(table: &TableSnapshot, column: &str) -> Option<Summary> {
    let (def, state) = (table.def(), table.state());
    let column = def.columns.iter().position(|c| c.name == column)?;
    let data_type = def.columns.get(column)?.column_type.arrow();
    let (mut rows, mut nulls, mut most, mut sum) = (0.0, 0.0, 1.0_f64, 0.0);
    let (mut bounds, mut widths) = (None::<(f64, f64)>, 0.0);
    for segment in state.segments.iter().filter(|s| s.present_at(table.version())) {
        let meta = &segment.meta;
        if meta.schema_version != def.schema_version {
            return None;
        }
        let stats = meta.columns.get(column)?;
        let distinct = if stats.distinct == 0 { meta.rows } else { stats.distinct } as f64;
        rows += meta.rows as f64;
        nulls += stats.null_count as f64;
        most = most.max(distinct);
        sum += distinct;
        let bound = |value: &Option<StatValue>| number(&scalar(value.as_ref()?, &data_type)?);
        if let (Some(least), Some(largest)) = (bound(&stats.min), bound(&stats.max)) {
            widths += largest - least;
            let (a, b) = bounds.unwrap_or((least, largest));
            bounds = Some((least.min(a), largest.max(b)));
        }
    }
    if rows == 0.0 {
        return None;
    }
    // Where segments hold ranges of their own, so they do values of their own; where each has the whole range, the same ones.
    let width = bounds.map_or(0.0, |(least, largest)| largest - least);
    let apart = if width > 0.0 { (sum * width / widths.max(width)).max(most) } else { most };
    let whole = data_type.is_integer() || matches!(data_type, DataType::Date32);
    let distinct = if def.key_indices() == [column] {
        rows
    } else if whole && width > 0.0 {
        apart.min(width + 1.0)
    } else {
        apart
    };
    Some(Summary { distinct: distinct.clamp(1.0, rows), bounds, nulls: (nulls / rows).min(1.0) })
}

/// Statistics of one segment over the table's user columns.
///
/// `known` is false for a segment of an older definition: its columns can't be matched by position, so only rows count.
pub(crate) fn segment(view: &SegmentView, schema: &Schema, known: bool) -> Statistics {
    let clean = view.deleted.is_none();
    let columns = schema.fields().iter().enumerate().map(|(i, field)| match view.meta.columns.get(i) {
        Some(stats) if known => column(stats, field.data_type(), clean),
        _ => ColumnStatistics::new_unknown(),
    });
    let column_statistics: Vec<_> = columns.collect();
    Statistics {
        num_rows: Precision::Exact(count(view.live_rows)),
        total_byte_size: byte_size(&column_statistics),
        column_statistics,
    }
}

fn column(stats: &ColumnStats, data_type: &DataType, clean: bool) -> ColumnStatistics {
    let bound =
        |value: &Option<StatValue>, exact: bool| match value.as_ref().and_then(|v| scalar(v, data_type)) {
            Some(value) if exact && clean => Precision::Exact(value),
            Some(value) => Precision::Inexact(value),
            None => Precision::Absent,
        };
    let nulls = count(stats.null_count);
    ColumnStatistics {
        null_count: if clean { Precision::Exact(nulls) } else { Precision::Inexact(nulls) },
        min_value: bound(&stats.min, stats.min_exact),
        max_value: bound(&stats.max, stats.max_exact),
        sum_value: Precision::Absent,
        distinct_count: estimate(stats.distinct),
        byte_size: estimate(stats.memory_bytes),
    }
}

/// Statistics of all segments together. A column without a value in one segment (all NULL) does not spoil the others.
pub(crate) fn merged(segments: &[Statistics], schema: &SchemaRef) -> Result<Statistics> {
    let Some(first) = segments.first() else {
        let mut none = Statistics::new_unknown(schema);
        none.num_rows = Precision::Exact(0);
        return Ok(none);
    };
    let mut merged = Statistics::try_merge_iter_with_ndv_fallback(segments, schema, NdvFallback::Max)?;
    for i in 0..first.column_statistics.len() {
        let Some(into) = merged.column_statistics.get_mut(i) else { continue };
        let with_values = || segments.iter().filter(|s| !all_null(s, i)).map(|s| &s.column_statistics[i]);
        if with_values().count() < segments.len() {
            into.min_value = fold(with_values().map(|c| &c.min_value), |a, b| a.min(b));
            into.max_value = fold(with_values().map(|c| &c.max_value), |a, b| a.max(b));
        }
    }
    merged.total_byte_size = byte_size(&merged.column_statistics);
    Ok(merged)
}

fn fold<'a>(
    mut bounds: impl Iterator<Item = &'a Precision<ScalarValue>>,
    pick: impl Fn(Precision<ScalarValue>, &Precision<ScalarValue>) -> Precision<ScalarValue>,
) -> Precision<ScalarValue> {
    let first = bounds.next().cloned().unwrap_or(Precision::Absent);
    bounds.fold(first, pick)
}

fn all_null(segment: &Statistics, column: usize) -> bool {
    match (segment.num_rows, segment.column_statistics.get(column).map(|c| c.null_count)) {
        (Precision::Exact(rows), Some(Precision::Exact(nulls))) => rows == nulls,
        _ => false,
    }
}

/// Bytes in memory of the given columns together; absent when one of them is not known.
pub(crate) fn byte_size(columns: &[ColumnStatistics]) -> Precision<usize> {
    columns
        .iter()
        .map(|c| c.byte_size.get_value().copied())
        .sum::<Option<usize>>()
        .map_or(Precision::Absent, Precision::Inexact)
}

/// Adds `rows` rows of which only the number is known: the count stays as exact as it was, nothing else does. Bounds are not known any more:
/// DataFusion's filters take inexact ones for bounds all the same, and with them leave out sorts and rows.
pub(crate) fn with_more_rows(statistics: Statistics, rows: usize) -> Statistics {
    if rows == 0 {
        return statistics;
    }
    let num_rows = statistics.num_rows.add(&Precision::Exact(rows));
    let mut widened = statistics.to_inexact();
    widened.num_rows = num_rows;
    for column in &mut widened.column_statistics {
        (column.min_value, column.max_value) = (Precision::Absent, Precision::Absent);
    }
    widened
}

fn estimate(n: u64) -> Precision<usize> {
    if n == 0 { Precision::Absent } else { Precision::Inexact(count(n)) }
}

fn count(n: u64) -> usize {
    usize::try_from(n).unwrap_or(usize::MAX)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use datafusion::arrow::datatypes::Field;
    use std::sync::Arc;

    fn one(rows: usize, nulls: usize, min: Option<i64>, max: Option<i64>) -> Statistics {
        let bound =
            |v: Option<i64>| v.map_or(Precision::Absent, |v| Precision::Exact(ScalarValue::Int64(Some(v))));
        Statistics {
            num_rows: Precision::Exact(rows),
            total_byte_size: Precision::Absent,
            column_statistics: vec![ColumnStatistics {
                null_count: Precision::Exact(nulls),
                min_value: bound(min),
                max_value: bound(max),
                sum_value: Precision::Absent,
                distinct_count: Precision::Inexact(rows),
                byte_size: Precision::Inexact(rows * 8),
            }],
        }
    }

    fn schema() -> SchemaRef {
        Arc::new(Schema::new(vec![Field::new("a", DataType::Int64, true)]))
    }

    #[test]
    fn rows_and_bounds_add_up() {
        let all = merged(&[one(10, 0, Some(1), Some(9)), one(5, 1, Some(-3), Some(4))], &schema()).unwrap();
        assert_eq!(all.num_rows, Precision::Exact(15));
        assert_eq!(all.column_statistics[0].min_value, Precision::Exact(ScalarValue::Int64(Some(-3))));
        assert_eq!(all.column_statistics[0].max_value, Precision::Exact(ScalarValue::Int64(Some(9))));
        assert_eq!(all.column_statistics[0].null_count, Precision::Exact(1));
    }

    #[test]
    fn a_segment_of_nulls_keeps_the_others_bounds() {
        let all = merged(&[one(4, 4, None, None), one(5, 0, Some(2), Some(3))], &schema()).unwrap();
        assert_eq!(all.column_statistics[0].min_value, Precision::Exact(ScalarValue::Int64(Some(2))));
        let unknown = merged(&[one(4, 0, None, None), one(5, 0, Some(2), Some(3))], &schema()).unwrap();
        assert_eq!(unknown.column_statistics[0].min_value.is_exact(), None);
    }

    #[test]
    fn more_rows_keep_only_the_count_exact() {
        let widened = with_more_rows(one(10, 0, Some(1), Some(9)), 2);
        assert_eq!(widened.num_rows, Precision::Exact(12));
        assert_eq!(widened.column_statistics[0].min_value, Precision::Absent);
        assert_eq!(widened.column_statistics[0].null_count, Precision::Inexact(0));
    }

    #[test]
    fn no_segment_is_exactly_no_row() {
        assert_eq!(merged(&[], &schema()).unwrap().num_rows, Precision::Exact(0));
    }

    #[test]
    fn bounds_take_the_columns_type() {
        let zone: Arc<str> = "Europe/Berlin".into();
        let berlin = DataType::Timestamp(TimeUnit::Microsecond, Some(zone.clone()));
        assert_eq!(
            scalar(&StatValue::Int(7), &berlin),
            Some(ScalarValue::TimestampMicrosecond(Some(7), Some(zone)))
        );
        assert_eq!(scalar(&StatValue::Int(300), &DataType::UInt8), None);
        assert_eq!(scalar(&StatValue::Text("a".into()), &DataType::Int64), None);
        assert_eq!(scalar(&StatValue::Int(1), &DataType::Boolean), Some(ScalarValue::Boolean(Some(true))));
    }
}
