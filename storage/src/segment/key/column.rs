//! One column's share of an encoded key.

use arrow::array::{Array, ArrayRef, AsArray, GenericByteViewArray};
use arrow::datatypes::{
    BinaryViewType, ByteViewType, Date32Type, Decimal128Type, Float32Type, Float64Type, Int8Type, Int16Type,
    Int32Type, Int64Type, StringViewType, Time64MicrosecondType, TimestampMicrosecondType,
    TimestampNanosecondType, UInt8Type, UInt16Type, UInt32Type, UInt64Type,
};

use crate::error::{Error, ErrorKind, Result};
use crate::schema::ColumnType;

const VALUE: u8 = 0;
const NULL: u8 = 1;

/// End of TEXT or BYTEA, and the first byte of an escaped byte.
const END: u8 = 0;
const ESCAPE: u8 = 1;

#[derive(Clone, Debug)]
pub(super) struct KeyColumn {
    column_type: ColumnType,
    nullable: bool,
    /// None: TEXT or BYTEA.
    value_bytes: Option<usize>,
}

impl KeyColumn {
    pub(super) fn new(column_type: &ColumnType, nullable: bool) -> Result<Self> {
        let value_bytes = match column_type {
            ColumnType::Boolean | ColumnType::Int8 | ColumnType::UInt8 => Some(1),
            ColumnType::Int16 | ColumnType::UInt16 => Some(2),
            ColumnType::Int32 | ColumnType::UInt32 | ColumnType::Float32 | ColumnType::Date => Some(4),
            ColumnType::Int64
            | ColumnType::UInt64
            | ColumnType::Float64
            | ColumnType::Time
            | ColumnType::Timestamp { .. }
            | ColumnType::TimestampTz { .. } => Some(8),
            ColumnType::Decimal { .. } => Some(16),
            ColumnType::Text | ColumnType::Bytea => None,
            ColumnType::Json | ColumnType::Vector(_) | ColumnType::List(_) | ColumnType::Struct(_) => {
                return Err(Error::new(
                    ErrorKind::InvalidInput,
                    format!("a column of type {column_type} can't be part of a key or of `sort`"),
                ));
            }
        };
        Ok(Self { column_type: column_type.clone(), nullable, value_bytes })
    }

    /// Bytes it takes in every key; None when that depends on the value.
    pub(super) fn fixed_bytes(&self) -> Option<usize> {
        self.value_bytes.map(|bytes| bytes + usize::from(self.nullable))
    }

    /// Adds the bytes that each row of `array` takes to `lengths`.
    pub(super) fn add_lengths(&self, array: &ArrayRef, lengths: &mut [usize]) -> Result<()> {
        if let Some(fixed) = self.fixed_bytes() {
            lengths.iter_mut().for_each(|length| *length += fixed);
            return Ok(());
        }
        match self.column_type {
            ColumnType::Text => self.add_view_lengths(self.views::<StringViewType>(array)?, lengths),
            _ => self.add_view_lengths(self.views::<BinaryViewType>(array)?, lengths),
        }
        Ok(())
    }

    fn add_view_lengths<T: ByteViewType>(&self, array: &GenericByteViewArray<T>, lengths: &mut [usize]) {
        for (row, length) in lengths.iter_mut().enumerate() {
            *length += usize::from(self.nullable);
            if array.is_valid(row) {
                let value: &[u8] = array.value(row).as_ref();
                *length += value.len() + 1 + value.iter().filter(|&&b| b <= ESCAPE).count();
            }
        }
    }

    /// Writes each row of `array` into `out` from byte `at(row)` on; `out` is all zeros there.
    pub(super) fn write(&self, array: &ArrayRef, out: &mut [u8], at: impl Fn(usize) -> usize) -> Result<()> {
        if !self.nullable && array.null_count() > 0 {
            return Err(
                Error::new(ErrorKind::ConstraintViolation, "a key column is NULL").with_sqlstate("23502")
            );
        }
        macro_rules! fixed {
            ($arrow:ty, $bytes:expr) => {{
                let array = array.as_primitive_opt::<$arrow>().ok_or_else(|| self.mismatch(array))?;
                self.put(array, array.values().iter().map(|&v| $bytes(v)), out, at)
            }};
        }
        match &self.column_type {
            ColumnType::Boolean => {
                let array = array.as_boolean_opt().ok_or_else(|| self.mismatch(array))?;
                self.put(array, array.values().iter().map(|v| [u8::from(v)]), out, at);
            }
            ColumnType::Int8 => fixed!(Int8Type, |v: i8| (v ^ i8::MIN).to_be_bytes()),
            ColumnType::Int16 => fixed!(Int16Type, |v: i16| (v ^ i16::MIN).to_be_bytes()),
            ColumnType::Int32 => fixed!(Int32Type, |v: i32| (v ^ i32::MIN).to_be_bytes()),
            ColumnType::Date => fixed!(Date32Type, |v: i32| (v ^ i32::MIN).to_be_bytes()),
            ColumnType::Int64 => fixed!(Int64Type, signed),
            ColumnType::Time => fixed!(Time64MicrosecondType, signed),
            ColumnType::Timestamp { nanos } | ColumnType::TimestampTz { nanos, .. } => {
                if *nanos {
                    fixed!(TimestampNanosecondType, signed);
                } else {
                    fixed!(TimestampMicrosecondType, signed);
                }
            }
            ColumnType::UInt8 => fixed!(UInt8Type, u8::to_be_bytes),
            ColumnType::UInt16 => fixed!(UInt16Type, u16::to_be_bytes),
            ColumnType::UInt32 => fixed!(UInt32Type, u32::to_be_bytes),
            ColumnType::UInt64 => fixed!(UInt64Type, u64::to_be_bytes),
            ColumnType::Decimal { .. } => {
                fixed!(Decimal128Type, |v: i128| (v ^ i128::MIN).to_be_bytes());
            }
            ColumnType::Float32 => fixed!(Float32Type, float32),
            ColumnType::Float64 => fixed!(Float64Type, float64),
            ColumnType::Text => self.put_views(self.views::<StringViewType>(array)?, out, at),
            ColumnType::Bytea => self.put_views(self.views::<BinaryViewType>(array)?, out, at),
            ColumnType::Json | ColumnType::Vector(_) | ColumnType::List(_) | ColumnType::Struct(_) => {
                return Err(self.mismatch(array));
            }
        }
        Ok(())
    }

    fn put<const N: usize>(
        &self,
        array: &dyn Array,
        values: impl Iterator<Item = [u8; N]>,
        out: &mut [u8],
        at: impl Fn(usize) -> usize,
    ) {
        if !self.nullable {
            for (row, value) in values.enumerate() {
                let start = at(row);
                out[start..start + N].copy_from_slice(&value);
            }
            return;
        }
        for (row, value) in values.enumerate() {
            let start = at(row);
            if array.is_valid(row) {
                out[start] = VALUE;
                out[start + 1..=start + N].copy_from_slice(&value);
            } else {
                out[start] = NULL;
            }
        }
    }

    fn put_views<T: ByteViewType>(
        &self,
        array: &GenericByteViewArray<T>,
        out: &mut [u8],
        at: impl Fn(usize) -> usize,
    ) {
        for row in 0..array.len() {
            let mut next = at(row);
            if self.nullable {
                out[next] = if array.is_valid(row) { VALUE } else { NULL };
                next += 1;
            }
            if array.is_null(row) {
                continue;
            }
            let value: &[u8] = array.value(row).as_ref();
            for &byte in value {
                if byte <= ESCAPE {
                    out[next] = ESCAPE;
                    next += 1;
                    out[next] = byte + 1;
                } else {
                    out[next] = byte;
                }
                next += 1;
            }
            out[next] = END;
        }
    }

    fn views<'a, T: ByteViewType>(&self, array: &'a ArrayRef) -> Result<&'a GenericByteViewArray<T>> {
        array.as_byte_view_opt::<T>().ok_or_else(|| self.mismatch(array))
    }

    fn mismatch(&self, array: &ArrayRef) -> Error {
        Error::internal(format!("a key column of type {} came as {}", self.column_type, array.data_type()))
    }
}

fn signed(value: i64) -> [u8; 8] {
    (value ^ i64::MIN).to_be_bytes()
}

fn float64(value: f64) -> [u8; 8] {
    let value = if value.is_nan() { f64::from_bits(0x7ff8 << 48) } else { value + 0.0 };
    let bits = value.to_bits();
    (if bits >> 63 == 1 { !bits } else { bits | 1 << 63 }).to_be_bytes()
}

fn float32(value: f32) -> [u8; 4] {
    let value = if value.is_nan() { f32::from_bits(0x7fc0 << 16) } else { value + 0.0 };
    let bits = value.to_bits();
    (if bits >> 31 == 1 { !bits } else { bits | 1 << 31 }).to_be_bytes()
}
