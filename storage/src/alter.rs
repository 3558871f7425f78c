//! What becomes of rows and segments when the definition of their table changes.
//!
//! Owns: rows in the columns of a newer definition, what a segment's meta says of them, which types hold all values of others.
//! Does not own: when that happens (`version`), files, which stay as they are and are read by the ids of their columns
//! (`segment::reader`).
//!
//! Columns are the same by id, not by name. One that rows have not is filled with its initial value; one of a narrower type is cast;
//! one that the newer definition has not is left out. Two steps, one after the other, give what both at once give.

use std::sync::Arc;

use arrow::array::{
    Array, ArrayRef, AsArray, BinaryViewArray, Decimal128Array, Float64Array, Int64Array, RecordBatch,
    RecordBatchOptions, StringViewArray, UInt32Array, UInt64Array, make_array, new_null_array,
};
use arrow::compute::{cast, take};
use arrow::datatypes::DataType;

use crate::error::{Error, Result};
use crate::id::ColumnId;
use crate::schema::{ColumnDef, ColumnType, TableDef};
use crate::segment::{BOUND_BYTES, ColumnStats, SegmentMeta, StatValue};

impl ColumnType {
    /// Whether it holds every value of `narrower`, and orders them as that does: a column's type may become it without a row being
    /// written.
    #[must_use]
    pub fn widens(&self, narrower: &Self) -> bool {
        use ColumnType::{
            Decimal, Float32, Float64, Int8, Int16, Int32, Int64, UInt8, UInt16, UInt32, UInt64,
        };
        match (narrower, self) {
            (Int8, Int16 | Int32 | Int64)
            | (Int16, Int32 | Int64)
            | (Int32, Int64)
            | (UInt8, UInt16 | UInt32 | UInt64 | Int16 | Int32 | Int64)
            | (UInt16, UInt32 | UInt64 | Int32 | Int64)
            | (UInt32, UInt64 | Int64)
            | (Float32, Float64) => true,
            (Decimal { precision: p, scale: s }, Decimal { precision, scale }) => {
                (p, s) != (precision, scale)
                    && scale >= s
                    && i16::from(*precision) - i16::from(*scale) >= i16::from(*p) - i16::from(*s)
            }
            _ => false,
        }
    }

    /// A value of a column of `narrower`, or a bound of one, as this type has it.
    #[must_use]
    pub fn widened(&self, narrower: &Self, value: &StatValue) -> Option<StatValue> {
        match (value, narrower, self) {
            (StatValue::Int(value), _, Self::UInt64) => u64::try_from(*value).ok().map(StatValue::UInt),
            (StatValue::Decimal(value), Self::Decimal { scale: from, .. }, Self::Decimal { scale, .. }) => {
                let more = u32::try_from(scale - from).ok()?;
                value.checked_mul(10_i128.checked_pow(more)?).map(StatValue::Decimal)
            }
            _ => Some(value.clone()),
        }
    }
}

/// Whether rows of the two definitions have the same form.
pub(crate) fn same_form(old: &TableDef, new: &TableDef) -> bool {
    let form = |def: &TableDef| -> Vec<(ColumnId, String, ColumnType, bool)> {
        let columns = def.columns.iter();
        columns.map(|c| (c.id, c.name.clone(), c.column_type.clone(), c.nullable)).collect()
    };
    form(old) == form(new)
}

/// Rows of `old` as rows of `new`.
///
/// # Errors
/// `Internal` when `new` does not come of `old`.
pub(crate) fn rows(batch: &RecordBatch, old: &TableDef, new: &TableDef) -> Result<RecordBatch> {
    let columns = new.columns.iter().map(|column| match position(old, column.id) {
        Some(at) => shaped(batch.column(at), &column.column_type.arrow(), column.nullable),
        None => filled(column, batch.num_rows()),
    });
    let columns = columns.collect::<Result<Vec<_>>>()?;
    let options = RecordBatchOptions::new().with_row_count(Some(batch.num_rows()));
    Ok(RecordBatch::try_new_with_options(new.arrow_schema(), columns, &options)?)
}

/// What is known of a segment of `old`, said of the columns of `new`.
pub(crate) fn meta(meta: &SegmentMeta, old: &TableDef, new: &TableDef) -> SegmentMeta {
    let mut next = SegmentMeta { schema_version: new.schema_version, ..meta.clone() };
    if !same_form(old, new) {
        let statistics = |column: &ColumnDef| match position(old, column.id) {
            Some(at) => changed(&old.columns[at], column, meta.columns.get(at)),
            None => statistics_of_filled(column, meta.rows),
        };
        next.columns = new.columns.iter().map(statistics).collect();
        next.reshaped = true;
    }
    let sorted_by = |def: &TableDef| -> Vec<ColumnId> {
        def.sort_indices().into_iter().map(|i| def.columns[i].id).collect()
    };
    next.sorted &= sorted_by(old) == sorted_by(new);
    next
}

fn position(def: &TableDef, id: ColumnId) -> Option<usize> {
    def.columns.iter().position(|column| column.id == id)
}

/// Statistics of a column that was `old`.
fn changed(old: &ColumnDef, new: &ColumnDef, known: Option<&ColumnStats>) -> ColumnStats {
    let Some(known) = known else { return ColumnStats::default() };
    let mut next = known.clone();
    if old.column_type != new.column_type {
        let widened = |bound: &Option<StatValue>| {
            bound.as_ref().and_then(|value| new.column_type.widened(&old.column_type, value))
        };
        (next.min, next.max) = (widened(&known.min), widened(&known.max));
        next.min_exact &= next.min.is_some();
        next.max_exact &= next.max.is_some();
    }
    if !new.nullable && known.null_count > 0 {
        // Only in rows that are deleted, which have some value instead.
        next = ColumnStats {
            distinct: next.distinct,
            memory_bytes: next.memory_bytes,
            ..ColumnStats::default()
        };
    }
    next
}

fn statistics_of_filled(column: &ColumnDef, rows: u64) -> ColumnStats {
    let bound = column.initial.clone().filter(|value| match value {
        StatValue::Text(text) => text.len() <= BOUND_BYTES && column.column_type == ColumnType::Text,
        StatValue::Bytes(bytes) => bytes.len() <= BOUND_BYTES,
        StatValue::Int(_) | StatValue::UInt(_) | StatValue::Decimal(_) | StatValue::Float(_) => true,
    });
    let width = match &column.initial {
        None => 0,
        Some(StatValue::Text(text)) => 16 + text.len() as u64,
        Some(StatValue::Bytes(bytes)) => 16 + bytes.len() as u64,
        Some(_) => column.column_type.arrow().primitive_width().unwrap_or(1) as u64,
    };
    ColumnStats {
        null_count: if column.initial.is_none() && column.nullable { rows } else { 0 },
        min_exact: bound.is_some(),
        max_exact: bound.is_some(),
        min: bound.clone(),
        max: bound,
        distinct: u64::from(column.initial.is_some()),
        memory_bytes: rows.saturating_mul(width),
    }
}

/// What a column holds in `rows` rows that are older than it.
///
/// # Errors
/// `Internal` when its initial value is none of its type.
pub(crate) fn filled(column: &ColumnDef, rows: usize) -> Result<ArrayRef> {
    let data_type = column.column_type.arrow();
    let Some(value) = &column.initial else {
        return shaped(&new_null_array(&data_type, rows), &data_type, column.nullable);
    };
    let one = single(value, &data_type)?;
    Ok(take(&one, &UInt32Array::from(vec![0; rows]), None)?)
}

/// A column of one row, which holds a bound or an initial value.
///
/// # Errors
/// `Internal` when the value is none of the type.
pub(crate) fn single(value: &StatValue, data_type: &DataType) -> Result<ArrayRef> {
    let plain: ArrayRef = match (value, data_type) {
        (StatValue::Int(value), DataType::Date32) => cast(&Int64Array::from(vec![*value]), &DataType::Int32)?,
        (StatValue::Int(value), _) => Arc::new(Int64Array::from(vec![*value])),
        (StatValue::UInt(value), _) => Arc::new(UInt64Array::from(vec![*value])),
        (StatValue::Float(value), _) => Arc::new(Float64Array::from(vec![*value])),
        (StatValue::Decimal(value), DataType::Decimal128(precision, scale)) => {
            let one = Decimal128Array::from(vec![*value]);
            Arc::new(one.with_precision_and_scale(*precision, *scale)?)
        }
        (StatValue::Text(text), _) => Arc::new(StringViewArray::from_iter_values([text.as_str()])),
        (StatValue::Bytes(bytes), _) => Arc::new(BinaryViewArray::from_iter_values([bytes.as_slice()])),
        (StatValue::Decimal(_), _) => return Err(unfit(data_type)),
    };
    let one = if plain.data_type() == data_type { plain } else { cast(&plain, data_type)? };
    if one.null_count() > 0 { Err(unfit(data_type)) } else { Ok(one) }
}

fn unfit(data_type: &DataType) -> Error {
    Error::internal(format!("the initial value of a column is none of {data_type}"))
}

/// A column as a definition shows it: of a wider type, and without NULLs where it has none. What is NULL there is in rows that are
/// deleted; nobody reads the value that stands for it.
///
/// # Errors
/// `Internal` when there is no such cast.
pub(crate) fn shaped(array: &ArrayRef, data_type: &DataType, nullable: bool) -> Result<ArrayRef> {
    let array = if array.data_type() == data_type { ArrayRef::clone(array) } else { cast(array, data_type)? };
    if nullable || array.null_count() == 0 {
        return Ok(array);
    }
    Ok(match data_type {
        DataType::Utf8View => {
            let texts = array.as_string_view().iter().map(Option::unwrap_or_default);
            Arc::new(StringViewArray::from_iter_values(texts))
        }
        DataType::BinaryView => {
            let bytes = array.as_binary_view().iter().map(Option::unwrap_or_default);
            Arc::new(BinaryViewArray::from_iter_values(bytes))
        }
        _ => make_array(array.to_data().into_builder().nulls(None).build()?),
    })
}
