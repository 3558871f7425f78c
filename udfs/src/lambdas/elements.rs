//! The elements of a batch of lists, and what a lambda answers of each.
//!
//! Owns: one evaluation for all elements of a batch, and lists, elements and booleans of its answers. Does not own: values made step by step (`reduce`).

use std::ops::Range;
use std::sync::Arc;

use datafusion::arrow::array::{
    Array, ArrayRef, AsArray, BooleanArray, Int64Array, ListArray, UInt64Array, new_empty_array,
};
use datafusion::arrow::buffer::OffsetBuffer;
use datafusion::arrow::compute::{cast, filter, take, take_arrays};
use datafusion::arrow::datatypes::DataType;
use datafusion::common::utils::{adjust_offsets_for_slice, list_values, list_values_row_number};
use datafusion::common::{Result, internal_err};
use datafusion::logical_expr::LambdaArgument;

/// Lists, those that are NULL without elements.
pub(super) struct Elements {
    lists: ListArray,
    /// The elements of all lists, one list behind the other.
    values: ArrayRef,
    /// Where each list begins among them; the last is their end.
    offsets: OffsetBuffer<i32>,
}

impl Elements {
    pub(super) fn new(lists: &ArrayRef) -> Result<Self> {
        let Some(array) = lists.as_list_opt::<i32>() else {
            return internal_err!("a lambda was given {}", lists.data_type());
        };
        let (values, offsets) = (list_values(lists.as_ref())?, adjust_offsets_for_slice(array));
        Ok(Self { lists: array.clone(), values, offsets })
    }

    pub(super) fn rows(&self) -> usize {
        self.lists.len()
    }

    pub(super) fn is_null(&self, row: usize) -> bool {
        self.lists.is_null(row)
    }

    /// Where the elements of a row are.
    pub(super) fn range(&self, row: usize) -> Range<usize> {
        let at = |at: usize| self.offsets.get(at).and_then(|at| usize::try_from(*at).ok()).unwrap_or(0);
        at(row)..at(row + 1)
    }

    /// The elements at these places among all.
    pub(super) fn taken(&self, places: &UInt64Array) -> Result<ArrayRef> {
        Ok(take(self.values.as_ref(), places, None)?)
    }

    /// The places of elements in their lists, from 1.
    fn places(&self) -> ArrayRef {
        let lengths = self.offsets.windows(2).map(|ends| i64::from(ends[1]) - i64::from(ends[0]));
        Arc::new(Int64Array::from_iter_values(lengths.flat_map(|length| 1..=length)))
    }

    /// What the lambda answers of each element; of no elements, nothing of type `made`.
    fn answers(&self, lambda: &LambdaArgument, made: &DataType) -> Result<ArrayRef> {
        if self.values.is_empty() {
            return Ok(new_empty_array(made));
        }
        let elements = || -> Result<ArrayRef> { Ok(Arc::clone(&self.values)) };
        let places = || -> Result<ArrayRef> { Ok(self.places()) };
        let given: [&dyn Fn() -> Result<ArrayRef>; 2] = [&elements, &places];
        let answers = lambda.evaluate(&given, |columns| {
            let rows = list_values_row_number(&self.lists)?;
            Ok(take_arrays(columns, rows.as_ref(), None)?)
        })?;
        answers.into_array(self.values.len())
    }

    /// Of which elements the lambda is true.
    fn mask(&self, lambda: &LambdaArgument) -> Result<BooleanArray> {
        let answers = cast(self.answers(lambda, &DataType::Boolean)?.as_ref(), &DataType::Boolean)?;
        match answers.as_boolean_opt() {
            Some(mask) => Ok(mask.clone()),
            None => internal_err!("a lambda answered with {}", answers.data_type()),
        }
    }

    /// Lists of the answers.
    pub(super) fn transformed(&self, lambda: &LambdaArgument, returns: &DataType) -> Result<ArrayRef> {
        let DataType::List(item) = returns else {
            return internal_err!("a lambda makes a list, no {returns}");
        };
        let made = self.answers(lambda, item.data_type())?;
        let nulls = self.lists.nulls().cloned();
        Ok(Arc::new(ListArray::try_new(Arc::clone(item), self.offsets.clone(), made, nulls)?))
    }

    /// Lists of the elements that the lambda is true of.
    pub(super) fn filtered(&self, lambda: &LambdaArgument) -> Result<ArrayRef> {
        let DataType::List(item) = self.lists.data_type() else {
            return internal_err!("{} is no list", self.lists.data_type());
        };
        let mask = self.mask(lambda)?;
        let lengths = (0..self.rows()).map(|row| self.range(row).filter(|at| is_true(&mask, *at)).count());
        let offsets = OffsetBuffer::from_lengths(lengths);
        let kept = filter(self.values.as_ref(), &mask)?;
        let nulls = self.lists.nulls().cloned();
        Ok(Arc::new(ListArray::try_new(Arc::clone(item), offsets, kept, nulls)?))
    }

    /// `found` for lists with an element of which the lambda is `sought`; for others the contrary, or NULL where it is NULL of one.
    pub(super) fn matched(&self, lambda: &LambdaArgument, sought: bool, found: bool) -> Result<ArrayRef> {
        let mask = self.mask(lambda)?;
        let matched = (0..self.rows()).map(|row| {
            let mut range = self.range(row);
            if self.is_null(row) {
                None
            } else if range.clone().any(|at| mask.is_valid(at) && mask.value(at) == sought) {
                Some(found)
            } else {
                (!range.any(|at| mask.is_null(at))).then_some(!found)
            }
        });
        Ok(Arc::new(matched.collect::<BooleanArray>()))
    }

    /// The first element of each list that the lambda is true of.
    pub(super) fn first(&self, lambda: &LambdaArgument) -> Result<ArrayRef> {
        let mask = self.mask(lambda)?;
        let first = |row: usize| self.range(row).find(|at| is_true(&mask, *at)).map(|at| at as u64);
        self.taken(&(0..self.rows()).map(first).collect())
    }
}

fn is_true(mask: &BooleanArray, at: usize) -> bool {
    mask.is_valid(at) && mask.value(at)
}
