//! The column that numbers the rows of a table: IDENTITY.
//!
//! Owns: which numbers follow which, those this process has given, what rows and segments say of the ones that are used up. Does not own:
//! where the definition stands (`schema`), who asks for numbers (`transaction::writer`).
//!
//! A number is used up with the commit of a row that has it, and for ever: each commit of rows says by them how far the numbers have come
//! (`TableState::numbered`), and the manifest says it of all rows before it, deleted ones included. So the log needs no entry of its own, and a
//! crash takes no number back. Numbers that were given to rows that nobody committed are left out by this process ([`Counter`]); the next one
//! to open the database may give them again.

use std::sync::{Mutex, PoisonError};

use arrow::array::{Array, ArrayRef, AsArray, Int64Array};
use arrow::compute::kernels::zip::zip;
use arrow::compute::{cast, is_null, max, min};
use arrow::datatypes::{DataType, Int64Type, UInt64Type};
use serde::{Deserialize, Serialize};

use crate::error::Result;
use crate::id::ColumnId;
use crate::segment::{ColumnStats, StatValue};

/// Which column numbers the rows of a table, and how. Its numbers are those of `start + n * increment` within the bounds, in that order.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct IdentityDef {
    /// The column; of an integer type that holds the bounds, and NOT NULL.
    pub column: ColumnId,
    /// Whether INSERT may give no number of its own.
    pub always: bool,
    /// The first number.
    pub start: i64,
    /// From one number to the next; not 0.
    pub increment: i64,
    /// The smallest number.
    pub min: i64,
    /// The largest number.
    pub max: i64,
}

impl IdentityDef {
    fn ascends(&self) -> bool {
        self.increment > 0
    }

    /// Of two numbers the one that comes later.
    pub(crate) fn later(&self, a: Option<i64>, b: Option<i64>) -> Option<i64> {
        match (a, b) {
            (Some(a), Some(b)) => Some(if self.ascends() { a.max(b) } else { a.min(b) }),
            (one, other) => one.or(other),
        }
    }

    /// The number to give when all up to `used` are gone; None: there is no more.
    #[must_use]
    pub fn next(&self, used: Option<i64>) -> Option<i64> {
        let (start, increment) = (i128::from(self.start), i128::from(self.increment));
        let steps = match used.map(i128::from) {
            Some(used) if used == start || (used > start) == self.ascends() => {
                (used - start).checked_div(increment)? + 1
            }
            _ => 0,
        };
        self.bounded(start + steps * increment)
    }

    fn bounded(&self, number: i128) -> Option<i64> {
        i64::try_from(number).ok().filter(|number| (self.min..=self.max).contains(number))
    }

    /// What a value of the column uses up: nothing before the first bound, all behind the last.
    fn used(&self, value: i64) -> Option<i64> {
        let is_before = if self.ascends() { value < self.min } else { value > self.max };
        // Not clamped: bounds from a file may be anything.
        (!is_before).then(|| value.min(self.max).max(self.min))
    }

    /// The latest number that `values` of the column use up.
    ///
    /// # Errors
    /// When they are no integers.
    pub(crate) fn used_by(&self, values: &dyn Array) -> Result<Option<i64>> {
        let latest = if let DataType::UInt64 = values.data_type() {
            let values = values.as_primitive::<UInt64Type>();
            let latest = if self.ascends() { max(values) } else { min(values) };
            latest.map(|value| i64::try_from(value).unwrap_or(i64::MAX))
        } else {
            let values = cast(values, &DataType::Int64)?;
            let values = values.as_primitive::<Int64Type>();
            if self.ascends() { max(values) } else { min(values) }
        };
        Ok(latest.and_then(|value| self.used(value)))
    }

    /// The latest number that a segment uses up, by its statistics of the column.
    pub(crate) fn used_by_segment(&self, statistics: &ColumnStats) -> Option<i64> {
        let latest = if self.ascends() { &statistics.max } else { &statistics.min };
        match latest {
            Some(StatValue::Int(value)) => self.used(*value),
            Some(StatValue::UInt(value)) => self.used(i64::try_from(*value).unwrap_or(i64::MAX)),
            _ => None,
        }
    }

    /// `values` of the column with `first` and the numbers behind it in place of NULLs.
    ///
    /// # Errors
    /// When they are no integers.
    pub(crate) fn filled(&self, values: &ArrayRef, first: i64) -> Result<ArrayRef> {
        let mut next = first;
        let numbers = (0..values.len()).map(|row| {
            values.is_null(row).then(|| {
                let number = next;
                // Nobody takes the one behind the last.
                next = next.wrapping_add(self.increment);
                number
            })
        });
        let numbers = cast(&numbers.collect::<Int64Array>(), values.data_type())?;
        if values.null_count() == values.len() {
            return Ok(numbers);
        }
        Ok(zip(&is_null(values)?, &numbers, values)?)
    }
}

/// The latest number that this process has given to rows of a table, all versions of which share it.
#[derive(Debug, Default)]
pub(crate) struct Counter(Mutex<Option<i64>>);

impl Counter {
    /// The first of `count` numbers behind those that were given and those up to `used`; they are nobody else's from now on. None: there are
    /// not so many.
    pub(crate) fn take(&self, of: &IdentityDef, used: Option<i64>, count: usize) -> Option<i64> {
        // One number, changed as a whole.
        let mut given = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let first = of.next(of.later(*given, used))?;
        let more = i128::try_from(count.saturating_sub(1)).ok()?;
        let last = of.bounded(i128::from(first) + more * i128::from(of.increment))?;
        *given = Some(last);
        Some(first)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::sync::Arc;

    use arrow::array::{Int16Array, UInt64Array};

    use super::*;

    fn identity(start: i64, increment: i64, min: i64, max: i64) -> IdentityDef {
        IdentityDef { column: ColumnId(1), always: false, start, increment, min, max }
    }

    #[test]
    fn numbers_follow_their_step_whatever_was_used() {
        let tens = identity(5, 10, 1, 100);
        for (used, next) in
            [(None, Some(5)), (Some(1), Some(5)), (Some(5), Some(15)), (Some(16), Some(25)), (Some(95), None)]
        {
            assert_eq!(tens.next(used), next, "{used:?}");
        }
        let down = identity(-1, -3, -10, -1);
        for (used, next) in [(None, Some(-1)), (Some(-1), Some(-4)), (Some(-5), Some(-7)), (Some(-10), None)]
        {
            assert_eq!(down.next(used), next, "{used:?}");
        }
        let all = identity(i64::MIN, i64::MAX, i64::MIN, i64::MAX);
        assert_eq!(all.next(Some(i64::MIN)), Some(-1));
        assert_eq!(all.next(Some(-1)), Some(i64::MAX - 1));
        assert_eq!(all.next(Some(i64::MAX)), None);
        // Nobody makes these, but bytes may say them.
        assert_eq!(identity(1, 0, 1, 9).next(Some(1)), None);
        assert_eq!(identity(1, 1, 9, 2).used(10), Some(9));
    }

    #[test]
    fn values_use_up_what_is_within_the_bounds() {
        let up = identity(1, 1, 1, 100);
        let used = |of: &IdentityDef, values: &[i16]| of.used_by(&Int16Array::from(values.to_vec())).unwrap();
        assert_eq!(used(&up, &[3, 7, -9]), Some(7));
        assert_eq!(used(&up, &[0, -1]), None);
        assert_eq!(used(&up, &[101]), Some(100));
        assert_eq!(used(&up, &[]), None);
        assert_eq!(used(&identity(-1, -1, -100, -1), &[5, -3, -2]), Some(-3));
        let large = identity(1, 1, 1, i64::MAX);
        assert_eq!(large.used_by(&UInt64Array::from(vec![u64::MAX, 3])).unwrap(), Some(i64::MAX));
        let bounds = |min, max| ColumnStats { min: Some(min), max: Some(max), ..ColumnStats::default() };
        assert_eq!(up.used_by_segment(&bounds(StatValue::Int(-3), StatValue::Int(9))), Some(9));
        assert_eq!(large.used_by_segment(&bounds(StatValue::UInt(1), StatValue::UInt(9))), Some(9));
        assert_eq!(up.used_by_segment(&ColumnStats::default()), None);
    }

    #[test]
    fn nulls_get_numbers_in_their_order() {
        let tens = identity(10, 10, 1, 1000);
        let values: ArrayRef = Arc::new(Int16Array::from(vec![None, Some(7), None]));
        let filled = tens.filled(&values, 30).unwrap();
        assert_eq!(filled.as_ref(), &Int16Array::from(vec![30, 7, 40]) as &dyn Array);
        let values: ArrayRef = Arc::new(UInt64Array::from(vec![None, None]));
        let filled = tens.filled(&values, 10).unwrap();
        assert_eq!(filled.as_ref(), &UInt64Array::from(vec![10, 20]) as &dyn Array);
    }

    #[test]
    fn taken_numbers_are_taken_once_and_not_beyond_the_end() {
        let (counter, five) = (Counter::default(), identity(1, 1, 1, 5));
        assert_eq!(counter.take(&five, None, 2), Some(1));
        assert_eq!(counter.take(&five, Some(1), 1), Some(3), "what was given counts, too");
        assert_eq!(counter.take(&five, None, 3), None, "and nothing is taken of too few");
        assert_eq!(counter.take(&five, Some(4), 1), Some(5));
        assert_eq!(counter.take(&five, None, 1), None);
    }

    #[test]
    fn its_json_stays() {
        let json = r#"{"column":1,"always":false,"start":5,"increment":-1,"min":-9,"max":5}"#;
        assert_eq!(serde_json::to_string(&identity(5, -1, -9, 5)).unwrap(), json);
        assert_eq!(serde_json::from_str::<IdentityDef>(json).unwrap(), identity(5, -1, -9, 5));
    }
}
