//! What searches hold, as a part of the memory of queries.
//!
//! Owns: how much an answer takes, while it is searched for and as rows. Does not own: the limits (`memory`, `session::memory`); what threads
//! keep for their next search, which is no longer than the longest answer; conditions that are kept (`matching`). What is held is told before it is made where
//! its size is known then, else at once after.

use std::sync::Arc;

use datafusion::arrow::array::{Array, AsArray, RecordBatch};
use datafusion::arrow::datatypes::DataType;
use datafusion::common::Result;
use datafusion::execution::memory_pool::{MemoryConsumer, MemoryPool, MemoryReservation};

/// Of a row of an answer that is searched for: in the heap of the nearest, as a candidate, in the pool of a walk, as a hit.
const SEARCHED_ROW_BYTES: usize = 128;
/// Of a row that was found: its id and distance, its place in the answer.
const FOUND_ROW_BYTES: usize = 24;
/// Of a value whose length only its row tells, at least.
const VIEW_BYTES: usize = 16;
/// Less than this is not told: all queries ask the same pool.
const SMALL_BYTES: usize = 64 << 10;

/// Memory of queries that a search holds; given back when dropped.
#[derive(Debug)]
pub(crate) struct Held(MemoryReservation);

impl Held {
    /// Nothing yet, of `pool`.
    pub(crate) fn new(pool: &Arc<dyn MemoryPool>) -> Self {
        Self(MemoryConsumer::new("vector search").register(pool))
    }

    /// Nothing yet, of the same pool.
    pub(crate) fn another(&self) -> Self {
        Self(self.0.new_empty())
    }

    /// What it holds.
    pub(crate) fn bytes(&self) -> usize {
        self.0.size()
    }

    /// Makes it hold `bytes`.
    ///
    /// # Errors
    /// `ResourcesExhausted` when there is no more memory.
    pub(crate) fn set(&self, bytes: usize) -> Result<()> {
        self.0.try_resize(if bytes < SMALL_BYTES { 0 } else { bytes })
    }

    /// Makes it hold what searching for `rows` rows takes.
    ///
    /// # Errors
    /// As for [`set`](Self::set).
    pub(crate) fn searching(&self, rows: usize) -> Result<()> {
        self.set(rows.saturating_mul(SEARCHED_ROW_BYTES))
    }

    /// Makes it hold `rows` rows that were found.
    ///
    /// # Errors
    /// As for [`set`](Self::set).
    pub(crate) fn found(&self, rows: usize) -> Result<()> {
        self.set(rows.saturating_mul(FOUND_ROW_BYTES))
    }

    /// Makes it hold `batch`.
    ///
    /// # Errors
    /// As for [`set`](Self::set).
    pub(crate) fn batch(&self, batch: &RecordBatch) -> Result<()> {
        self.set(batch.columns().iter().map(|column| bytes_of(column.as_ref())).sum())
    }
}

/// What `rows` values of a type take at least.
pub(super) fn expected(data_type: &DataType, rows: usize) -> usize {
    fn width(data_type: &DataType) -> usize {
        match data_type {
            DataType::FixedSizeList(item, size) => {
                usize::try_from(*size).unwrap_or(0).saturating_mul(width(item.data_type()))
            }
            other => other.primitive_width().unwrap_or(VIEW_BYTES),
        }
    }
    width(data_type).saturating_mul(rows)
}

/// What the values of an array take by themselves: texts in memory are seen where they are, and held by the table as well.
fn bytes_of(array: &dyn Array) -> usize {
    let texts = match array.data_type() {
        DataType::Utf8View => array.as_string_view().total_buffer_bytes_used(),
        DataType::BinaryView => array.as_binary_view().total_buffer_bytes_used(),
        _ => 0,
    };
    texts + array.to_data().get_slice_memory_size().unwrap_or(0)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use datafusion::arrow::array::{ArrayRef, FixedSizeListArray, Float32Array, StringViewArray};
    use datafusion::arrow::datatypes::Field;
    use datafusion::execution::memory_pool::GreedyMemoryPool;

    use super::*;

    #[test]
    fn rows_count_for_what_they_are() {
        let item = Arc::new(Field::new("item", DataType::Float32, false));
        let vectors = FixedSizeListArray::new(item, 8, Arc::new(Float32Array::from(vec![1.0; 8_000])), None);
        assert_eq!(expected(vectors.data_type(), 1_000), 32_000);
        assert_eq!(bytes_of(&vectors), 32_000);
        assert_eq!(bytes_of(&vectors.slice(10, 100)), 3_200);
        let text = "a text that is longer than a view".to_owned();
        let texts = StringViewArray::from_iter_values(std::iter::repeat_n(&text, 1_000));
        assert_eq!(bytes_of(&texts), 1_000 * (16 + text.len()));

        let pool: Arc<dyn MemoryPool> = Arc::new(GreedyMemoryPool::new(100_000));
        let held = Held::new(&pool);
        let batch = RecordBatch::try_from_iter([
            ("v", Arc::new(vectors) as ArrayRef),
            ("t", Arc::new(texts) as ArrayRef),
        ]);
        held.batch(&batch.unwrap()).unwrap();
        assert_eq!(pool.reserved(), 32_000 + 1_000 * (16 + text.len()));
        let other = held.another();
        other.searching(100).unwrap();
        assert!(other.searching(1_000).is_err() && other.bytes() == 0);
        drop((held, other));
        assert_eq!(pool.reserved(), 0);
    }
}
