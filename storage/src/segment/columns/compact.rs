//! A decoded column in memory that is its own, and how much that is.
//!
//! Decoders make arrays that share memory: a text points into the page it was read from, which may be a file that is mapped, and all batches of a row group
//! into its dictionary. What is kept must hold nothing else than its values, or its size would be a lie.

use std::collections::HashSet;
use std::sync::Arc;

use arrow::array::builder::GenericByteViewBuilder;
use arrow::array::{Array, ArrayData, ArrayRef, AsArray, GenericByteViewArray, make_array};
use arrow::datatypes::{ByteViewType, DataType};

use super::CHUNK_ROWS;
use crate::error::{Error, Result};

/// All rows of a column of a row group, in arrays of [`CHUNK_ROWS`] rows and a last one of what is left.
#[derive(Debug)]
pub struct DecodedColumn {
    chunks: Vec<ArrayRef>,
    rows: usize,
    bytes: usize,
}

impl DecodedColumn {
    /// Of the arrays that a decoder made, each of which gets memory of its own.
    ///
    /// # Errors
    /// `Internal` when they are not of [`CHUNK_ROWS`] rows each, or of several types.
    pub(crate) fn new(decoded: &[ArrayRef]) -> Result<Self> {
        let full = decoded.split_last().map_or(&[][..], |(_, others)| others);
        let uneven = full.iter().any(|chunk| chunk.len() != CHUNK_ROWS)
            || decoded.iter().any(|chunk| chunk.len() > CHUNK_ROWS)
            || decoded.windows(2).any(|pair| pair[0].data_type() != pair[1].data_type());
        if uneven {
            return Err(Error::internal("a column was not decoded in chunks of one size and type"));
        }
        let chunks = decoded.iter().map(compact).collect::<Result<Vec<_>>>()?;
        let mut seen = HashSet::new();
        let bytes =
            chunks.iter().map(|chunk| array_bytes(chunk, &mut seen)).sum::<usize>() + size_of::<Self>();
        let rows = chunks.iter().map(|chunk| chunk.len()).sum();
        Ok(Self { chunks, rows, bytes })
    }

    /// The values.
    #[must_use]
    pub fn chunks(&self) -> &[ArrayRef] {
        &self.chunks
    }

    /// How many there are.
    #[must_use]
    pub fn rows(&self) -> usize {
        self.rows
    }

    /// Memory they take.
    #[must_use]
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// Their type; None: there are none.
    #[must_use]
    pub fn data_type(&self) -> Option<&DataType> {
        self.chunks.first().map(|chunk| chunk.data_type())
    }
}

/// The same values in memory that nobody shares.
fn compact(array: &ArrayRef) -> Result<ArrayRef> {
    let mut own: ArrayRef = match array.data_type() {
        DataType::Utf8View => Arc::new(own_views(array.as_string_view())),
        DataType::BinaryView => Arc::new(own_views(array.as_binary_view())),
        data_type if data_type.is_nested() => {
            let data = array.to_data();
            let children =
                data.child_data().iter().map(|child| Ok(compact(&make_array(child.clone()))?.to_data()));
            let children = children.collect::<Result<Vec<ArrayData>>>()?;
            make_array(data.into_builder().child_data(children).build()?)
        }
        _ => return Ok(Arc::clone(array)),
    };
    if let Some(own) = Arc::get_mut(&mut own) {
        own.shrink_to_fit();
    }
    Ok(own)
}

fn own_views<T: ByteViewType + ?Sized>(array: &GenericByteViewArray<T>) -> GenericByteViewArray<T> {
    let shared: usize = array.data_buffers().iter().map(|buffer| buffer.len()).sum();
    if array.total_buffer_bytes_used() <= shared {
        return array.gc();
    }
    // Values come again, out of a dictionary: here too each stands once.
    let mut builder = GenericByteViewBuilder::<T>::with_capacity(array.len()).with_deduplicate_strings();
    for value in array {
        builder.append_option(value);
    }
    builder.finish()
}

/// Memory of an array, without that of buffers that were `seen`.
fn array_bytes(array: &ArrayRef, seen: &mut HashSet<usize>) -> usize {
    let structure = array.get_array_memory_size().saturating_sub(array.get_buffer_memory_size());
    structure + buffer_bytes(&array.to_data(), seen)
}

fn buffer_bytes(data: &ArrayData, seen: &mut HashSet<usize>) -> usize {
    let nulls = data.nulls().map(|nulls| nulls.buffer());
    let mut bytes = 0;
    for buffer in data.buffers().iter().chain(nulls) {
        if seen.insert(buffer.data_ptr().as_ptr() as usize) {
            // One that somebody else made says that it has no capacity.
            bytes += buffer.capacity().max(buffer.len());
        }
    }
    bytes + data.child_data().iter().map(|child| buffer_bytes(child, seen)).sum::<usize>()
}
