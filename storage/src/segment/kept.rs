//! A whole column of a segment, decoded and kept, and the order of its values once that is worth having.
//!
//! Owns: which rows have a value between two others. Does not own: reading the column (`reader`), how long it is kept (`cache`).

use std::cmp::Ordering;
use std::ops::{Bound, Range};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU32, Ordering as Memory};

use arrow::array::{Array, ArrayRef, UInt32Array, make_comparator};
use arrow::compute::{SortOptions, sort_to_indices};
use arrow::datatypes::DataType;

/// The order is made when it is asked for this often: sorting costs what comparing all rows a few dozen times does.
const ORDERED_FROM: u32 = 8;

/// See the module.
#[derive(Debug)]
pub struct KeptColumn {
    values: ArrayRef,
    asked: AtomicU32,
    /// Positions by ascending value, NULLs last; None: the values have no order that comparisons agree with.
    order: OnceLock<Option<UInt32Array>>,
}

impl KeptColumn {
    pub(super) fn new(values: ArrayRef) -> Self {
        Self { values, asked: AtomicU32::new(0), order: OnceLock::new() }
    }

    /// Memory it holds, once in order.
    pub(super) fn bytes(&self) -> usize {
        self.values.get_array_memory_size() + size_of::<u32>() * self.values.len()
    }

    /// The values by position.
    #[must_use]
    pub fn values(&self) -> &ArrayRef {
        &self.values
    }

    /// Positions by ascending value, NULLs last. None: the column was not asked often enough yet, or its type has no order.
    #[must_use]
    pub fn order(&self) -> Option<&[u32]> {
        if self.order.get().is_none() && self.asked.fetch_add(1, Memory::Relaxed) + 1 < ORDERED_FROM {
            return None;
        }
        let order = self.order.get_or_init(|| {
            let options = SortOptions { descending: false, nulls_first: false };
            let ordered = is_ordered(self.values.data_type());
            ordered.then(|| sort_to_indices(&self.values, Some(options), None).ok()).flatten()
        });
        order.as_ref().map(|order| &order.values()[..])
    }

    /// The places in [`order`](Self::order) of the rows whose value lies between two: arrays of one value, not NULL, of the column's
    /// type. NULLs are not between. None: there is no order, or the types differ.
    #[must_use]
    pub fn between(&self, low: Bound<&dyn Array>, high: Bound<&dyn Array>) -> Option<Range<usize>> {
        let order = self.order()?;
        let order = &order[..order.len() - self.values.null_count()];
        let first = match low {
            Bound::Unbounded => 0,
            Bound::Included(value) => self.place(order, value, Ordering::is_lt)?,
            Bound::Excluded(value) => self.place(order, value, Ordering::is_le)?,
        };
        let last = match high {
            Bound::Unbounded => order.len(),
            Bound::Included(value) => self.place(order, value, Ordering::is_le)?,
            Bound::Excluded(value) => self.place(order, value, Ordering::is_lt)?,
        };
        Some(first..last.max(first))
    }

    /// How many values at the beginning of `order` compare to `value` as `before` has it.
    fn place(&self, order: &[u32], value: &dyn Array, before: fn(Ordering) -> bool) -> Option<usize> {
        if value.len() != 1 || value.null_count() > 0 {
            return None;
        }
        let compare = make_comparator(&self.values, value, SortOptions::default()).ok()?;
        Some(order.partition_point(|&position| before(compare(position as usize, 0))))
    }
}

/// Whether sorting and comparing agree on the type.
fn is_ordered(data_type: &DataType) -> bool {
    match data_type {
        DataType::Interval(_) => false,
        DataType::Boolean | DataType::Utf8 | DataType::Utf8View | DataType::Binary | DataType::BinaryView => {
            true
        }
        other => other.is_primitive(),
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use std::sync::Arc;

    use arrow::array::{Float64Array, Int64Array, IntervalDayTimeArray, StringViewArray};

    use super::*;

    fn in_order(values: ArrayRef) -> KeptColumn {
        let column = KeptColumn::new(values);
        for _ in 1..ORDERED_FROM {
            assert!(column.order().is_none());
        }
        column
    }

    fn rows(column: &KeptColumn, low: Bound<&dyn Array>, high: Bound<&dyn Array>) -> Vec<u32> {
        let places = column.between(low, high).unwrap();
        let mut rows = column.order().unwrap()[places].to_vec();
        rows.sort_unstable();
        rows
    }

    #[test]
    fn bounds_leave_nulls_out() {
        let column = in_order(Arc::new(Int64Array::from(vec![
            Some(5),
            None,
            Some(1),
            Some(5),
            Some(9),
            None,
            Some(3),
        ])));
        let value = |n: i64| Int64Array::from(vec![n]);
        let (three, five, nine, ten) = (value(3), value(5), value(9), value(10));
        assert_eq!(rows(&column, Bound::Included(&three), Bound::Excluded(&nine)), [0, 3, 6]);
        assert_eq!(rows(&column, Bound::Excluded(&three), Bound::Included(&nine)), [0, 3, 4]);
        assert_eq!(rows(&column, Bound::Included(&five), Bound::Included(&five)), [0, 3]);
        assert_eq!(rows(&column, Bound::Unbounded, Bound::Unbounded), [0, 2, 3, 4, 6]);
        assert!(rows(&column, Bound::Excluded(&nine), Bound::Unbounded).is_empty());
        assert!(rows(&column, Bound::Included(&ten), Bound::Excluded(&three)).is_empty());
    }

    #[test]
    fn text_and_floats_are_ordered_as_they_compare() {
        let column =
            in_order(Arc::new(StringViewArray::from(vec!["b", "a longer text than twelve", "", "é"])));
        let b = StringViewArray::from(vec!["b"]);
        assert_eq!(rows(&column, Bound::Included(&b), Bound::Unbounded), [0, 3]);
        let column = in_order(Arc::new(Float64Array::from(vec![f64::NAN, -0.0, 0.0, -1.0])));
        let zero = Float64Array::from(vec![0.0]);
        assert_eq!(rows(&column, Bound::Included(&zero), Bound::Unbounded), [0, 2]);
    }

    #[test]
    fn other_types_have_no_order() {
        let column = in_order(Arc::new(IntervalDayTimeArray::from(vec![None, None])));
        assert!(column.order().is_none() && column.order().is_none());
        let numbers = in_order(Arc::new(Int64Array::from(vec![1])));
        let text = StringViewArray::from(vec!["1"]);
        assert!(numbers.between(Bound::Included(&text), Bound::Unbounded).is_none());
    }
}
