//! Row bodies: the appended rows of one table in one entry.
//!
//! Owns: which of the two forms a body takes ([`compact`](super::compact) for a few flat rows, Arrow IPC messages
//! otherwise), the type tags both begin with, and the estimate of a body's length. A body is read with the
//! table's schema; the tags refuse one whose types are not the ones written.
//!
//! ```text
//! 0      form: 1 compact, 2 Arrow IPC
//! 1      u16 columns
//! 3      one type tag per column
//! 3 + c  the form's bytes
//! ```
//! No rows: an empty body.

use arrow::array::{Array, AsArray, GenericByteViewArray, RecordBatch, RecordBatchOptions};
use arrow::buffer::Buffer;
use arrow::datatypes::{ByteViewType, DataType, SchemaRef, TimeUnit};
use bytes::Bytes;

use super::compact::{COMPACT_ROWS_MAX, decode_compact, encode_compact};
use super::input::{Input, damaged};
use super::ipc::{decode_ipc, encode_ipc};
use crate::error::{Error, Result};

const FORM_COMPACT: u8 = 1;
const FORM_IPC: u8 = 2;

/// First tag of types that only the Arrow IPC form holds.
const TAG_NESTED: u8 = 128;

/// The number that stands for a type in a row body; None: not a column type. Never reuse one.
fn tag(data_type: &DataType) -> Option<u8> {
    Some(match data_type {
        DataType::Boolean => 1,
        DataType::Int8 => 2,
        DataType::Int16 => 3,
        DataType::Int32 => 4,
        DataType::Int64 => 5,
        DataType::UInt8 => 6,
        DataType::UInt16 => 7,
        DataType::UInt32 => 8,
        DataType::UInt64 => 9,
        DataType::Float32 => 10,
        DataType::Float64 => 11,
        DataType::Decimal128(_, _) => 12,
        DataType::Utf8View => 13,
        DataType::BinaryView => 14,
        DataType::Date32 => 15,
        DataType::Time64(TimeUnit::Microsecond) => 16,
        DataType::Timestamp(TimeUnit::Microsecond, _) => 17,
        DataType::Timestamp(TimeUnit::Nanosecond, _) => 18,
        DataType::FixedSizeList(_, _) => 19,
        DataType::List(_) => TAG_NESTED,
        DataType::Struct(_) => TAG_NESTED + 1,
        _ => return None,
    })
}

fn column_tag(data_type: &DataType) -> Result<u8> {
    tag(data_type).ok_or_else(|| Error::internal(format!("{data_type} is not a column type of the WAL")))
}

/// Appends the body of `batches` (one schema) to `out`; returns how many rows it holds.
///
/// # Errors
/// `Internal` for types that no column has; `ResourceExhausted` for a batch of 4 GiB.
pub fn encode_rows(out: &mut Vec<u8>, batches: &[RecordBatch]) -> Result<u64> {
    encode_rows_before(out, batches, 0)
}

/// The same where about `behind` bytes follow.
pub(super) fn encode_rows_before(out: &mut Vec<u8>, batches: &[RecordBatch], behind: usize) -> Result<u64> {
    let rows: usize = batches.iter().map(RecordBatch::num_rows).sum();
    let Some(first) = batches.first().filter(|_| rows > 0) else {
        return Ok(0);
    };
    let columns = u16::try_from(first.num_columns())
        .map_err(|_| Error::internal(format!("{} columns in a WAL entry", first.num_columns())))?;
    check_one_schema(batches)?;
    let form = out.len();
    out.push(FORM_COMPACT);
    out.extend_from_slice(&columns.to_le_bytes());
    let mut flat = rows <= COMPACT_ROWS_MAX;
    for column in first.columns() {
        let tag = column_tag(column.data_type())?;
        flat &= tag < TAG_NESTED;
        out.push(tag);
    }
    if flat {
        encode_compact(out, batches, rows)?;
    } else {
        out[form] = FORM_IPC;
        // Megabytes, often: grown bit by bit, they would be moved again and again.
        out.reserve(encoded_rows_len(batches) + behind);
        encode_ipc(out, batches)?;
    }
    Ok(rows as u64)
}

fn check_one_schema(batches: &[RecordBatch]) -> Result<()> {
    for pair in batches.windows(2) {
        let same = pair[0].num_columns() == pair[1].num_columns()
            && pair[0].columns().iter().zip(pair[1].columns()).all(|(a, b)| a.data_type() == b.data_type());
        if !same {
            return Err(Error::internal("batches of one table change with different types"));
        }
    }
    Ok(())
}

/// The rows of a body written by [`encode`](super::encode), with the table's surface schema.
///
/// # Errors
/// `Corrupt` when the bytes are not `rows` rows of `schema`.
pub fn decode_rows(schema: &SchemaRef, rows: u64, bytes: &Bytes) -> Result<Vec<RecordBatch>> {
    if rows == 0 && bytes.is_empty() {
        return Ok(Vec::new());
    }
    let rows = usize::try_from(rows).map_err(|_| damaged("a row count beyond memory"))?;
    let mut input = Input::new(bytes);
    let form = input.u8()?;
    let columns = input.u16()?;
    if usize::from(columns) != schema.fields().len() {
        return Err(damaged(format_args!("{columns} columns, the table has {}", schema.fields().len())));
    }
    for field in schema.fields() {
        let found = input.u8()?;
        if column_tag(field.data_type())? != found {
            return Err(damaged(format_args!(
                "column {} is {}, not of type tag {found}",
                field.name(),
                field.data_type()
            )));
        }
    }
    match form {
        FORM_COMPACT => {
            let columns = decode_compact(&mut input, schema, rows)?;
            let options = RecordBatchOptions::new().with_row_count(Some(rows));
            let batch = RecordBatch::try_new_with_options(schema.clone(), columns, &options)
                .map_err(|e| damaged(&e))?;
            Ok(vec![batch])
        }
        FORM_IPC => decode_ipc(&bytes.slice(input.position()..), schema, rows),
        other => Err(damaged(format_args!("row body of form {other}"))),
    }
}

/// Bytes that `batches` take in a WAL entry, near enough to decide when a transaction spills: never less than the
/// values themselves, a few bytes per column and batch off.
#[must_use]
pub fn encoded_rows_len(batches: &[RecordBatch]) -> usize {
    batches.iter().map(|b| 64 + b.columns().iter().map(|c| 32 + value_bytes(c.as_ref())).sum::<usize>()).sum()
}

/// Bytes of the buffers behind views that are written: what no view names is left out, and what many rows name stands there once.
fn viewed_bytes<T: ByteViewType>(views: &GenericByteViewArray<T>) -> usize {
    let there: usize = views.data_buffers().iter().map(Buffer::len).sum();
    views.total_buffer_bytes_used().min(there)
}

fn value_bytes(array: &dyn Array) -> usize {
    let rows = array.len();
    rows.div_ceil(8)
        + match array.data_type() {
            DataType::Utf8View => 16 * rows + viewed_bytes(array.as_string_view()),
            DataType::BinaryView => 16 * rows + viewed_bytes(array.as_binary_view()),
            DataType::FixedSizeList(_, dim) => 4 * rows * dim.unsigned_abs() as usize,
            DataType::List(_) => {
                let list = array.as_list::<i32>();
                let first = list.value_offsets().first().copied().unwrap_or(0) as usize;
                let last = list.value_offsets().last().copied().unwrap_or(0) as usize;
                4 * rows + value_bytes(list.values().slice(first, last - first).as_ref())
            }
            DataType::Struct(_) => {
                array.as_struct().columns().iter().map(|c| 32 + value_bytes(c.as_ref())).sum()
            }
            other => other.primitive_width().map_or_else(|| rows.div_ceil(8), |width| width * rows),
        }
}
