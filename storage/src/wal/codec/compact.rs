//! The compact row body: at most [`COMPACT_ROWS_MAX`] rows of flat types, so that a single-row commit costs little more
//! than its values.
//!
//! ```text
//! per column:
//!   ceil(rows / 8) bytes   bit r set: row r is NULL (little-endian bit order; bits beyond the rows are 0)
//!   values of the other rows, in order:
//!     BOOLEAN              one byte, 0 or 1
//!     TEXT, BYTEA, JSON    varint length, bytes
//!     VECTOR(n)            n f32, little-endian
//!     everything else      the Arrow value, little-endian, 1 to 16 bytes
//! ```

use std::sync::Arc;

use arrow::array::{
    Array, ArrayData, ArrayRef, ArrowPrimitiveType, AsArray, BinaryViewBuilder, BooleanArray,
    FixedSizeListArray, Float32Array, RecordBatch, StringViewBuilder, make_array,
};
use arrow::buffer::{BooleanBuffer, Buffer, MutableBuffer, NullBuffer};
use arrow::datatypes::{
    DataType, Date32Type, Decimal128Type, Float32Type, Float64Type, Int8Type, Int16Type, Int32Type,
    Int64Type, SchemaRef, Time64MicrosecondType, TimeUnit, TimestampMicrosecondType, TimestampNanosecondType,
    UInt8Type, UInt16Type, UInt32Type, UInt64Type,
};

use super::input::{Input, damaged, put_counted};
use crate::error::{Error, Result};

/// Most rows of a compact body; its null bits fit in a u64.
pub(super) const COMPACT_ROWS_MAX: usize = 64;

const _: () = assert!(COMPACT_ROWS_MAX <= 64);
const _: () = assert!(cfg!(target_endian = "little"), "values are written as they stand in memory");

/// Appends the columns of `batches` (`rows` rows together, checked flat and of one schema).
pub(super) fn encode_compact(out: &mut Vec<u8>, batches: &[RecordBatch], rows: usize) -> Result<()> {
    let columns = batches.first().map_or(0, RecordBatch::num_columns);
    for column in 0..columns {
        let arrays = batches.iter().map(|b| b.column(column).as_ref());
        put_nulls(out, arrays.clone(), rows);
        for array in arrays {
            put_values(out, array)?;
        }
    }
    Ok(())
}

fn put_nulls<'a>(out: &mut Vec<u8>, arrays: impl Iterator<Item = &'a dyn Array>, rows: usize) {
    let mut bits = 0u64;
    let mut row = 0;
    for array in arrays {
        if let Some(nulls) = array.nulls() {
            for i in 0..array.len() {
                bits |= u64::from(nulls.is_null(i)) << (row + i);
            }
        }
        row += array.len();
    }
    out.extend_from_slice(&bits.to_le_bytes()[..rows.div_ceil(8)]);
}

fn put_values(out: &mut Vec<u8>, array: &dyn Array) -> Result<()> {
    match array.data_type() {
        DataType::Boolean => {
            let array = array.as_boolean();
            for row in (0..array.len()).filter(|r| array.is_valid(*r)) {
                out.push(u8::from(array.value(row)));
            }
        }
        DataType::Utf8View => {
            for value in array.as_string_view().iter().flatten() {
                put_counted(out, value.as_bytes());
            }
        }
        DataType::BinaryView => {
            for value in array.as_binary_view().iter().flatten() {
                put_counted(out, value);
            }
        }
        other => {
            let Some((bytes, width)) = fixed(array) else {
                return Err(Error::internal(format!("{other} in a compact row body")));
            };
            match array.nulls() {
                None => out.extend_from_slice(bytes),
                Some(nulls) => {
                    for row in nulls.valid_indices() {
                        out.extend_from_slice(&bytes[row * width..(row + 1) * width]);
                    }
                }
            }
        }
    }
    Ok(())
}

fn raw<T: ArrowPrimitiveType>(array: &dyn Array) -> Option<(&[u8], usize)> {
    let array = array.as_primitive_opt::<T>()?;
    Some((array.values().inner().as_slice(), size_of::<T::Native>()))
}

/// Values of a fixed-width column as bytes, and the width of one.
fn fixed(array: &dyn Array) -> Option<(&[u8], usize)> {
    match array.data_type() {
        DataType::Int8 => raw::<Int8Type>(array),
        DataType::Int16 => raw::<Int16Type>(array),
        DataType::Int32 => raw::<Int32Type>(array),
        DataType::Int64 => raw::<Int64Type>(array),
        DataType::UInt8 => raw::<UInt8Type>(array),
        DataType::UInt16 => raw::<UInt16Type>(array),
        DataType::UInt32 => raw::<UInt32Type>(array),
        DataType::UInt64 => raw::<UInt64Type>(array),
        DataType::Float32 => raw::<Float32Type>(array),
        DataType::Float64 => raw::<Float64Type>(array),
        DataType::Decimal128(_, _) => raw::<Decimal128Type>(array),
        DataType::Date32 => raw::<Date32Type>(array),
        DataType::Time64(TimeUnit::Microsecond) => raw::<Time64MicrosecondType>(array),
        DataType::Timestamp(TimeUnit::Microsecond, _) => raw::<TimestampMicrosecondType>(array),
        DataType::Timestamp(TimeUnit::Nanosecond, _) => raw::<TimestampNanosecondType>(array),
        DataType::FixedSizeList(_, dim) => {
            let (bytes, width) = raw::<Float32Type>(array.as_fixed_size_list().values().as_ref())?;
            Some((bytes, width * dim.unsigned_abs() as usize))
        }
        _ => None,
    }
}

/// Reads the columns of a compact body to its end.
pub(super) fn decode_compact(
    input: &mut Input<'_>,
    schema: &SchemaRef,
    rows: usize,
) -> Result<Vec<ArrayRef>> {
    if rows == 0 || rows > COMPACT_ROWS_MAX {
        return Err(damaged(format_args!("{rows} rows in a compact row body")));
    }
    let columns = schema
        .fields()
        .iter()
        .map(|field| take_column(input, field.data_type(), rows))
        .collect::<Result<Vec<_>>>()?;
    input.end()?;
    Ok(columns)
}

fn take_column(input: &mut Input<'_>, data_type: &DataType, rows: usize) -> Result<ArrayRef> {
    let mut bits = [0u8; 8];
    let length = rows.div_ceil(8);
    bits[..length].copy_from_slice(input.take(length)?);
    let null = u64::from_le_bytes(bits);
    if rows < 64 && null >> rows != 0 {
        return Err(damaged("NULL bits beyond the rows"));
    }
    let is_null = |row: usize| null >> row & 1 == 1;
    let nulls = (null != 0).then(|| NullBuffer::new(BooleanBuffer::collect_bool(rows, |r| !is_null(r))));
    match data_type {
        DataType::Boolean => {
            let mut values = 0u64;
            for row in (0..rows).filter(|r| !is_null(*r)) {
                match input.u8()? {
                    value @ (0 | 1) => values |= u64::from(value) << row,
                    other => return Err(damaged(format_args!("BOOLEAN value {other}"))),
                }
            }
            let values = BooleanBuffer::collect_bool(rows, |r| values >> r & 1 == 1);
            Ok(Arc::new(BooleanArray::new(values, nulls)))
        }
        DataType::Utf8View => {
            let mut values = StringViewBuilder::with_capacity(rows);
            for row in 0..rows {
                if is_null(row) {
                    values.append_null();
                } else {
                    values.try_append_value(input.text()?).map_err(|e| damaged(&e))?;
                }
            }
            Ok(Arc::new(values.finish()))
        }
        DataType::BinaryView => {
            let mut values = BinaryViewBuilder::with_capacity(rows);
            for row in 0..rows {
                if is_null(row) {
                    values.append_null();
                } else {
                    values.try_append_value(input.counted()?).map_err(|e| damaged(&e))?;
                }
            }
            Ok(Arc::new(values.finish()))
        }
        other => {
            let width =
                fixed_width(other).ok_or_else(|| damaged(format_args!("{other} in a compact row body")))?;
            let mut values = MutableBuffer::with_capacity(width * rows);
            for row in 0..rows {
                if is_null(row) {
                    values.extend_zeros(width);
                } else {
                    values.extend_from_slice(input.take(width)?);
                }
            }
            if let DataType::FixedSizeList(item, dim) = other {
                let components = Float32Array::new(Buffer::from(values).into(), None);
                let list = FixedSizeListArray::try_new(Arc::clone(item), *dim, Arc::new(components), nulls);
                return Ok(Arc::new(list.map_err(|e| damaged(&e))?));
            }
            let data = ArrayData::builder(other.clone())
                .len(rows)
                .add_buffer(values.into())
                .nulls(nulls)
                .build()
                .map_err(|e| damaged(&e))?;
            Ok(make_array(data))
        }
    }
}

/// Bytes of one value.
fn fixed_width(data_type: &DataType) -> Option<usize> {
    match data_type {
        DataType::FixedSizeList(_, dim) => Some(4 * dim.unsigned_abs() as usize),
        other => other.primitive_width(),
    }
}
