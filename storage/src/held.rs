//! Memory that rows hold.

use std::collections::HashSet;
use std::num::NonZero;

use arrow::array::{Array, ArrayData, RecordBatch};
use arrow::buffer::Buffer;

/// So many buffers are looked through one by one: a row has no more, and of one alone a table of them would cost more than its encoding.
const FEW: usize = 16;

/// Memory that batches keep from being freed, together: what several columns or batches share, as those cut from one message
/// or file page do, counts once. For batches that are all still there: memory is known by its address.
#[derive(Debug, Default)]
pub struct HeldMemory {
    /// The first buffers.
    few: Vec<NonZero<usize>>,
    /// All others.
    seen: HashSet<NonZero<usize>>,
    bytes: usize,
}

impl HeldMemory {
    /// Adds what `batch` holds; returns the bytes that were not counted before.
    pub fn add(&mut self, batch: &RecordBatch) -> usize {
        let before = self.bytes;
        batch.columns().iter().for_each(|column| self.array(&column.to_data()));
        self.bytes - before
    }

    /// Bytes in all.
    #[must_use]
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    fn array(&mut self, array: &ArrayData) {
        array.buffers().iter().for_each(|buffer| self.buffer(buffer));
        array.nulls().into_iter().for_each(|nulls| self.buffer(nulls.buffer()));
        array.child_data().iter().for_each(|child| self.array(child));
    }

    fn buffer(&mut self, buffer: &Buffer) {
        if self.is_new(buffer.data_ptr().addr()) {
            self.bytes += buffer.capacity();
        }
    }

    fn is_new(&mut self, address: NonZero<usize>) -> bool {
        if self.few.contains(&address) {
            return false;
        }
        if self.few.len() < FEW {
            self.few.push(address);
            return true;
        }
        self.seen.insert(address)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::sync::Arc;

    use arrow::array::{ArrayRef, Int64Array, StringArray, StructArray};
    use arrow::buffer::ScalarBuffer;

    use super::*;

    #[test]
    fn shared_memory_counts_once() {
        let message = Buffer::from_vec((0..3_000_i64).collect::<Vec<_>>());
        let column = |first: usize| -> ArrayRef {
            Arc::new(Int64Array::new(ScalarBuffer::new(message.clone(), first, 1_000), None))
        };
        let columns = [("a", column(0)), ("b", column(1_000)), ("c", column(2_000))];
        let batch = RecordBatch::try_from_iter(columns).unwrap();
        let mut held = HeldMemory::default();
        assert_eq!(held.add(&batch.slice(10, 5)), 24_000);
        assert_eq!(held.add(&batch), 0);
        assert_eq!(held.bytes(), 24_000);
    }

    #[test]
    fn many_batches_count_once_each() {
        let batches: Vec<RecordBatch> = (0..3 * FEW as i64)
            .map(|i| {
                let numbers: ArrayRef = Arc::new(Int64Array::from(vec![i; 4]));
                RecordBatch::try_from_iter([("n", numbers)]).unwrap()
            })
            .collect();
        let mut held = HeldMemory::default();
        let bytes: Vec<usize> = batches.iter().map(|batch| held.add(batch)).collect();
        assert_eq!(bytes, vec![32; 3 * FEW]);
        assert!(batches.iter().all(|batch| held.add(batch) == 0));
        assert_eq!(held.bytes(), 3 * FEW * 32);
    }

    #[test]
    fn every_buffer_counts() {
        let text: ArrayRef = Arc::new(StringArray::from(vec![Some("abc"), None, Some("de")]));
        let numbers: ArrayRef = Arc::new(Int64Array::from(vec![1, 2, 3]));
        let plain = RecordBatch::try_from_iter([("t", text), ("n", numbers)]).unwrap();
        let expected: usize = plain.columns().iter().map(|c| c.get_buffer_memory_size()).sum();
        assert_eq!(HeldMemory::default().add(&plain), expected);
        let nested: ArrayRef = Arc::new(StructArray::from(plain));
        let nested = RecordBatch::try_from_iter([("s", nested)]).unwrap();
        assert_eq!(HeldMemory::default().add(&nested), expected);
    }
}
