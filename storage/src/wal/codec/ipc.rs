//! The Arrow IPC row body: record-batch messages (metadata V5, no compression, no schema, no dictionaries).
//!
//! ```text
//! u32 messages, then each:
//!   u32 metadata length, u32 body length
//!   metadata: the flatbuffer `Message`, padded to 8 bytes by whoever wrote it lately
//!   body: buffers, each padded to 8 bytes
//! ```
//! The arrow reader trusts a message's structure: buffer bounds, bitmap lengths and counts make it panic. [`Shape`]
//! therefore walks every message against the schema first; arrow then validates values (UTF-8, views, offsets).

use std::collections::HashMap;
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, ListArray, RecordBatch, RecordBatchOptions, StructArray};
use arrow::buffer::{Buffer, OffsetBuffer};
use arrow::datatypes::{DataType, SchemaRef};
use arrow::ipc::reader::read_record_batch;
use arrow::ipc::writer::{IpcWriteOptions, StreamWriter};
use arrow::ipc::{MetadataVersion, RecordBatch as Message, root_as_message};
use bytes::Bytes;

use super::body::too_long;
use super::input::{Input, damaged};
use crate::error::{Error, Result};

/// Bytes before a message's metadata, here and in a stream of Arrow's.
const PREFIX_BYTES: usize = 8;

/// Appends one message per batch that has rows: its buffers are copied once, to where they stay.
pub(super) fn encode_ipc(out: &mut Vec<u8>, batches: &[RecordBatch]) -> Result<()> {
    let failed = |e| Error::internal(format!("encoding rows for the WAL: {e}")).with_source(e);
    let options = IpcWriteOptions::try_new(8, false, MetadataVersion::V5).map_err(failed)?;
    let filled: Vec<&RecordBatch> = batches.iter().filter(|b| b.num_rows() > 0).collect();
    let count = u32::try_from(filled.len()).map_err(|_| too_long("row batches"))?;
    out.extend_from_slice(&count.to_le_bytes());
    let Some(first) = filled.first() else { return Ok(()) };
    let start = out.len();
    let schema = first.schema();
    let mut stream = StreamWriter::try_new_with_options(&mut *out, &schema, options).map_err(failed)?;
    // A stream begins with its schema; a body is read with the table's.
    stream.get_mut().truncate(start);
    for batch in filled {
        let at = stream.get_ref().len();
        stream.write(&compacted(batch)?).map_err(failed)?;
        put_lengths(&mut stream.get_mut()[at..])?;
    }
    Ok(())
}

/// A message of a stream has a mark and the length of its metadata before it: our two lengths take that place.
fn put_lengths(message: &mut [u8]) -> Result<()> {
    let lost = || Error::internal("encoding rows for the WAL: a message without its length");
    let (prefix, rest) = message.split_first_chunk_mut::<PREFIX_BYTES>().ok_or_else(lost)?;
    let [.., a, b, c, d] = *prefix;
    let metadata = u32::from_le_bytes([a, b, c, d]);
    let body = rest.len().checked_sub(metadata as usize).ok_or_else(lost)?;
    let body = u32::try_from(body).map_err(|_| too_long("a row batch"))?;
    prefix[..4].copy_from_slice(&metadata.to_le_bytes());
    prefix[4..].copy_from_slice(&body.to_le_bytes());
    Ok(())
}

/// The batch without bytes that none of its views name: the IPC writer writes whole view buffers.
pub(crate) fn compacted(batch: &RecordBatch) -> Result<RecordBatch> {
    let columns = batch.columns().iter().map(compact_array).collect::<Result<Vec<_>>>()?;
    if columns.iter().zip(batch.columns()).all(|(compact, column)| Arc::ptr_eq(compact, column)) {
        return Ok(batch.clone());
    }
    let options = RecordBatchOptions::new().with_row_count(Some(batch.num_rows()));
    RecordBatch::try_new_with_options(batch.schema(), columns, &options)
        .map_err(|e| Error::internal(format!("compacting rows for the WAL: {e}")).with_source(e))
}

fn compact_array(array: &ArrayRef) -> Result<ArrayRef> {
    let wasteful = |buffers: &[Buffer], used: usize| buffers.iter().map(Buffer::len).sum::<usize>() > used;
    Ok(match array.data_type() {
        DataType::Utf8View => {
            let views = array.as_string_view();
            if wasteful(views.data_buffers(), views.total_buffer_bytes_used()) {
                Arc::new(views.gc())
            } else {
                array.clone()
            }
        }
        DataType::BinaryView => {
            let views = array.as_binary_view();
            if wasteful(views.data_buffers(), views.total_buffer_bytes_used()) {
                Arc::new(views.gc())
            } else {
                array.clone()
            }
        }
        DataType::List(item) => {
            let list = array.as_list::<i32>();
            let offsets = list.value_offsets();
            let (first, last) = match (offsets.first(), offsets.last()) {
                (Some(first), Some(last)) => (*first, *last),
                _ => (0, 0),
            };
            let values = compact_array(&list.values().slice(first as usize, (last - first) as usize))?;
            let offsets = OffsetBuffer::new(offsets.iter().map(|o| o - first).collect::<Vec<_>>().into());
            let list = ListArray::try_new(item.clone(), offsets, values, list.nulls().cloned());
            Arc::new(list.map_err(|e| Error::internal(format!("compacting a list: {e}")))?)
        }
        DataType::Struct(fields) => {
            let members = array.as_struct();
            let columns = members.columns().iter().map(compact_array).collect::<Result<Vec<_>>>()?;
            let made = StructArray::try_new_with_length(
                fields.clone(),
                columns,
                members.nulls().cloned(),
                members.len(),
            );
            Arc::new(made.map_err(|e| Error::internal(format!("compacting a struct: {e}")))?)
        }
        _ => array.clone(),
    })
}

/// Reads all messages; together they hold exactly `rows` rows. Aligned buffers are not copied.
pub(super) fn decode_ipc(bytes: &Bytes, schema: &SchemaRef, rows: usize) -> Result<Vec<RecordBatch>> {
    let mut input = Input::new(bytes);
    let count = input.length()?;
    let mut left = rows;
    let mut batches = Vec::new();
    for _ in 0..count {
        let metadata_length = input.length()?;
        let body_length = input.length()?;
        let metadata = input.take(metadata_length)?;
        let start = input.position();
        input.take(body_length)?;
        let batch = decode_message(metadata, bytes.slice(start..start + body_length), schema, left)?;
        left -= batch.num_rows();
        batches.push(batch);
    }
    input.end()?;
    if left != 0 {
        return Err(damaged(format_args!("{left} of {rows} rows missing")));
    }
    Ok(batches)
}

fn decode_message(metadata: &[u8], body: Bytes, schema: &SchemaRef, rows_max: usize) -> Result<RecordBatch> {
    let message = root_as_message(metadata).map_err(|e| damaged(format_args!("row batch: {e}")))?;
    if message.version() != MetadataVersion::V5 || message.bodyLength() != body.len() as i64 {
        return Err(damaged("row batch: other metadata version or body length"));
    }
    let Some(header) = message.header_as_record_batch() else {
        return Err(damaged("a message that is no row batch"));
    };
    Shape::check(&header, schema, body.len(), rows_max)?;
    let body = Buffer::from(body);
    let batch = read_record_batch(&body, header, schema.clone(), &HashMap::new(), None, &MetadataVersion::V5)
        .map_err(|e| damaged(format_args!("row batch: {e}")))?;
    Ok(batch)
}

/// What is left of a message's structure while it is compared with the schema.
struct Shape {
    /// (values, NULLs) per field, depth first.
    nodes: std::vec::IntoIter<(i64, i64)>,
    /// Buffer lengths, in bounds.
    buffers: std::vec::IntoIter<usize>,
    /// Data buffers per view column.
    variadic: std::vec::IntoIter<i64>,
    /// No column of the message can hold more values.
    values_max: usize,
}

impl Shape {
    fn check(message: &Message<'_>, schema: &SchemaRef, body: usize, rows_max: usize) -> Result<()> {
        let rows = usize::try_from(message.length()).unwrap_or(usize::MAX);
        if rows == 0 || rows > rows_max {
            return Err(damaged(format_args!("row batch of {} rows, at most {rows_max}", message.length())));
        }
        if message.compression().is_some() {
            return Err(damaged("row batch: compressed"));
        }
        let (Some(nodes), Some(buffers)) = (message.nodes(), message.buffers()) else {
            return Err(damaged("row batch without fields or buffers"));
        };
        let buffers = buffers
            .iter()
            .map(|b| {
                let offset = usize::try_from(b.offset()).ok();
                let length = usize::try_from(b.length()).ok();
                match (offset, length) {
                    (Some(o), Some(l)) if o.checked_add(l).is_some_and(|end| end <= body) => Ok(l),
                    _ => Err(damaged("row batch: a buffer out of bounds")),
                }
            })
            .collect::<Result<Vec<_>>>()?;
        let mut shape = Self {
            nodes: nodes.iter().map(|n| (n.length(), n.null_count())).collect::<Vec<_>>().into_iter(),
            buffers: buffers.into_iter(),
            variadic: message
                .variadicBufferCounts()
                .map(|v| v.iter().collect::<Vec<_>>())
                .unwrap_or_default()
                .into_iter(),
            values_max: body.saturating_mul(8).max(rows),
        };
        for field in schema.fields() {
            shape.field(field.data_type(), Some(rows))?;
        }
        if shape.nodes.len() + shape.buffers.len() + shape.variadic.len() != 0 {
            return Err(damaged("row batch: more fields or buffers than columns"));
        }
        Ok(())
    }

    fn field(&mut self, data_type: &DataType, rows: Option<usize>) -> Result<()> {
        let Some((values, nulls)) = self.nodes.next() else {
            return Err(damaged("row batch: a field is missing"));
        };
        let sane = usize::try_from(values).is_ok_and(|v| v <= self.values_max && rows.is_none_or(|r| r == v));
        if !sane || nulls < 0 || nulls > values {
            return Err(damaged(format_args!("row batch: {values} values, {nulls} NULLs in a field")));
        }
        let values = values as usize;
        let bitmap = self.buffer()?;
        if nulls > 0 && bitmap < values.div_ceil(8) {
            return Err(damaged("row batch: a NULL bitmap is too short"));
        }
        match data_type {
            DataType::Utf8View | DataType::BinaryView => {
                self.items(16, values)?;
                let count = self.variadic.next().and_then(|c| usize::try_from(c).ok());
                let Some(count) = count.filter(|c| *c <= self.buffers.len()) else {
                    return Err(damaged("row batch: wrong count of text buffers"));
                };
                for _ in 0..count {
                    self.buffer()?;
                }
            }
            DataType::FixedSizeList(item, dim) => {
                let components = values.checked_mul(dim.unsigned_abs() as usize);
                self.field(item.data_type(), Some(components.unwrap_or(usize::MAX)))?;
            }
            DataType::List(item) => {
                self.items(4, values + 1)?;
                self.field(item.data_type(), None)?;
            }
            DataType::Struct(members) => {
                for member in members {
                    self.field(member.data_type(), Some(values))?;
                }
            }
            DataType::Boolean => self.items(1, values.div_ceil(8))?,
            other => {
                let width = other
                    .primitive_width()
                    .ok_or_else(|| damaged(format_args!("row batch: {other} in the schema")))?;
                self.items(width, values)?;
            }
        }
        Ok(())
    }

    /// A buffer of at least `count` whole items of `width` bytes; arrow panics on a part of one.
    fn items(&mut self, width: usize, count: usize) -> Result<()> {
        let length = self.buffer()?;
        if !length.is_multiple_of(width) || length / width < count {
            return Err(damaged(format_args!("row batch: {length} bytes for {count} values of {width}")));
        }
        Ok(())
    }

    fn buffer(&mut self) -> Result<usize> {
        self.buffers.next().ok_or_else(|| damaged("row batch: a buffer is missing"))
    }
}
