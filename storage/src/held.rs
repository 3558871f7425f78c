//! Memory that rows hold.

use std::collections::HashSet;
use std::ptr::NonNull;

use arrow::array::{Array, ArrayData, RecordBatch};
use arrow::buffer::Buffer;

/// Bytes of memory that the columns of `batch` keep from being freed. Memory that several columns share, as those of one
/// message or file page do, counts once, not once for each.
#[must_use]
pub fn held_bytes(batch: &RecordBatch) -> usize {
    let mut held = Held::default();
    batch.columns().iter().for_each(|column| held.array(&column.to_data()));
    held.bytes
}

#[derive(Default)]
struct Held {
    seen: HashSet<NonNull<u8>>,
    bytes: usize,
}

impl Held {
    fn array(&mut self, array: &ArrayData) {
        array.buffers().iter().for_each(|buffer| self.buffer(buffer));
        array.nulls().into_iter().for_each(|nulls| self.buffer(nulls.buffer()));
        array.child_data().iter().for_each(|child| self.array(child));
    }

    fn buffer(&mut self, buffer: &Buffer) {
        if self.seen.insert(buffer.data_ptr()) {
            self.bytes += buffer.capacity();
        }
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
        assert_eq!(held_bytes(&batch), 24_000);
        assert_eq!(held_bytes(&batch.slice(10, 5)), 24_000);
    }

    #[test]
    fn every_buffer_counts() {
        let text: ArrayRef = Arc::new(StringArray::from(vec![Some("abc"), None, Some("de")]));
        let numbers: ArrayRef = Arc::new(Int64Array::from(vec![1, 2, 3]));
        let plain = RecordBatch::try_from_iter([("t", text), ("n", numbers)]).unwrap();
        let expected: usize = plain.columns().iter().map(|c| c.get_buffer_memory_size()).sum();
        assert_eq!(held_bytes(&plain), expected);
        let nested: ArrayRef = Arc::new(StructArray::from(plain));
        assert_eq!(held_bytes(&RecordBatch::try_from_iter([("s", nested)]).unwrap()), expected);
    }
}
