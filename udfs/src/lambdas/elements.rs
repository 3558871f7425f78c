//! The elements of a batch of lists, and what a lambda answers of each.
//!
//! Owns: the evaluation for all elements of a batch, some thousands at once, and lists, elements and booleans of its answers. Does not own: values made step
//! by step (`reduce`).

use std::ops::Range;
use std::sync::Arc;

use datafusion::arrow::array::{
    Array, ArrayRef, AsArray, BooleanArray, Int64Array, ListArray, UInt64Array, new_empty_array,
};
use datafusion::arrow::buffer::OffsetBuffer;
use datafusion::arrow::compute::{cast, concat, filter, take, take_arrays};
use datafusion::arrow::datatypes::{DataType, Int32Type};
use datafusion::common::utils::{adjust_offsets_for_slice, list_values, list_values_row_number};
use datafusion::common::{Result, internal_err};
use datafusion::logical_expr::LambdaArgument;

/// Elements that a lambda is evaluated for at once: the columns of the row that it reads are there once for each.
const AT_ONCE: usize = 4096;

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

    /// What the lambda answers of each element; of no elements, nothing of type `made`.
    fn answers(&self, lambda: &LambdaArgument, made: &DataType) -> Result<ArrayRef> {
        if self.values.is_empty() {
            return Ok(new_empty_array(made));
        }
        let rows = list_values_row_number(&self.lists)?;
        let mut parts = Vec::with_capacity(self.values.len().div_ceil(AT_ONCE));
        for from in (0..self.values.len()).step_by(AT_ONCE) {
            let count = AT_ONCE.min(self.values.len() - from);
            let rows = rows.slice(from, count);
            let elements = || -> Result<ArrayRef> { Ok(self.values.slice(from, count)) };
            let places = || -> Result<ArrayRef> { self.places(from, &rows) };
            let given: [&dyn Fn() -> Result<ArrayRef>; 2] = [&elements, &places];
            let answers =
                lambda.evaluate(&given, |columns| Ok(take_arrays(columns, rows.as_ref(), None)?))?;
            parts.push(answers.into_array(count)?);
        }
        match parts.as_slice() {
            [answers] => Ok(Arc::clone(answers)),
            _ => {
                let parts: Vec<&dyn Array> = parts.iter().map(AsRef::as_ref).collect();
                Ok(concat(&parts)?)
            }
        }
    }

    /// The places of elements in their lists, from 1: of those from number `from` among all on, which are in `rows`.
    fn places(&self, from: usize, rows: &ArrayRef) -> Result<ArrayRef> {
        let Some(rows) = rows.as_primitive_opt::<Int32Type>() else {
            return internal_err!("rows are numbered by {}", rows.data_type());
        };
        let begins = |row: i32| self.range(usize::try_from(row).unwrap_or(0)).start;
        let place = |(at, row): (usize, &i32)| (from + at + 1).saturating_sub(begins(*row)) as i64;
        Ok(Arc::new(Int64Array::from_iter_values(rows.values().iter().enumerate().map(place))))
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
