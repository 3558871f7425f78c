//! The numbers of which quantiles are asked, while their rows come.
//!
//! Owns: those of one group, of a frame that moves, of many groups, and how each is handed to who puts parts together: as a list. Does not own: what is
//! computed of them (`places`). NULL does not count, and every number is kept as a plain one.

use std::sync::Arc;

use datafusion::arrow::array::{Array, ArrayRef, AsArray, BooleanArray, ListArray, PrimitiveArray};
use datafusion::arrow::buffer::{NullBuffer, OffsetBuffer, ScalarBuffer};
use datafusion::arrow::datatypes::{ArrowPrimitiveType, Field};
use datafusion::common::{Result, ScalarValue, internal_err};
use datafusion::logical_expr::{Accumulator, EmitTo, GroupsAccumulator};

use super::places::{Asked, Number, is_same};
use crate::bounded::TooLarge;

/// Numbers that come or go one by one in sorted ones; where there are more, all are gone through.
const FEW: usize = 16;
/// Numbers of which it is not looked for equal ones.
const UNSORTED: usize = 1024;

fn column<N: Number>(columns: &[ArrayRef]) -> Result<&PrimitiveArray<N::Column>> {
    match columns.first().map(|column| (column.as_primitive_opt::<N::Column>(), column.data_type())) {
        Some((Some(numbers), _)) => Ok(numbers),
        Some((None, data_type)) => internal_err!("a column of {data_type} in place of numbers"),
        None => internal_err!("a quantile of no column"),
    }
}

/// Puts the numbers of a column behind `numbers`.
fn extend<N: Number>(numbers: &mut Vec<N>, column: &PrimitiveArray<N::Column>) {
    match column.nulls().filter(|nulls| nulls.null_count() > 0) {
        None => numbers.extend(column.values().iter().map(|number| number.plain())),
        Some(nulls) => {
            let values = column.values();
            numbers.extend(nulls.valid_indices().map(|row| values[row].plain()));
        }
    }
}

/// Lists of so many of the numbers each.
fn lists<N: Number>(
    numbers: Vec<N>,
    lengths: impl IntoIterator<Item = usize>,
    nulls: Option<NullBuffer>,
) -> Result<ListArray> {
    if i32::try_from(numbers.len()).is_err() {
        return Err(TooLarge::error(format!(
            "quantiles of {} numbers in one part of a query",
            numbers.len()
        )));
    }
    let numbers = PrimitiveArray::<N::Column>::try_new(ScalarBuffer::from(numbers), None)?;
    let item = Field::new_list_field(<N::Column as ArrowPrimitiveType>::DATA_TYPE, true);
    let offsets = OffsetBuffer::from_lengths(lengths);
    Ok(ListArray::try_new(Arc::new(item), offsets, Arc::new(numbers), nulls)?)
}

/// Gives each list of a column to `take`, with its row; NULL has none.
fn each_list<N: Number>(columns: &[ArrayRef], mut take: impl FnMut(usize, &[N])) -> Result<()> {
    let Some(lists) = columns.first().and_then(|column| column.as_list_opt::<i32>()) else {
        return internal_err!("no lists in place of the numbers of groups");
    };
    let numbers = column::<N>(std::slice::from_ref(lists.values()))?.values();
    for (row, ends) in lists.offsets().windows(2).enumerate() {
        let ends = usize::try_from(ends[0]).ok().zip(usize::try_from(ends[1]).ok());
        if lists.is_valid(row)
            && let Some(of_row) = ends.and_then(|(from, to)| numbers.get(from..to))
        {
            take(row, of_row);
        }
    }
    Ok(())
}

/// The answers of groups. `made` holds those of each that has numbers, one after the other; `has_numbers` says which do.
fn answers<N: Number>(asked: &Asked, made: Vec<N>, has_numbers: Vec<bool>) -> Result<ArrayRef> {
    if asked.is_list {
        let of_each = asked.len();
        let lengths: Vec<usize> = has_numbers.iter().map(|has| if *has { of_each } else { 0 }).collect();
        return Ok(Arc::new(lists(made, lengths, Some(NullBuffer::from(has_numbers)))?));
    }
    let mut made = made.into_iter();
    let rows =
        has_numbers.iter().map(|has| if *has { made.next().unwrap_or_default() } else { N::default() });
    let rows = ScalarBuffer::from(rows.collect::<Vec<N>>());
    Ok(Arc::new(PrimitiveArray::<N::Column>::try_new(rows, Some(NullBuffer::from(has_numbers)))?))
}

/// The answer of one group.
fn answer<N: Number>(asked: &Asked, made: Vec<N>, has_numbers: bool) -> Result<ScalarValue> {
    ScalarValue::try_from_array(&answers(asked, made, vec![has_numbers])?, 0)
}

fn state<N: Number>(numbers: Vec<N>) -> Result<Vec<ScalarValue>> {
    let length = numbers.len();
    Ok(vec![ScalarValue::List(Arc::new(lists(numbers, [length], None)?))])
}

/// All numbers of one group, or all that differ.
#[derive(Debug)]
pub(super) struct Every<N> {
    asked: Asked,
    numbers: Vec<N>,
    /// Where only different numbers count: how many of them there were when it was looked for equal ones.
    different: Option<usize>,
}

impl<N: Number> Every<N> {
    pub(super) fn new(asked: Asked, is_distinct: bool) -> Self {
        Self { asked, numbers: Vec::new(), different: is_distinct.then_some(0) }
    }

    /// Looks for equal numbers where there may be as many as others.
    fn thin(&mut self) {
        if self.different.is_some_and(|there| self.numbers.len() >= there * 2 + UNSORTED) {
            self.settle();
        }
    }

    /// Leaves only numbers that count.
    fn settle(&mut self) {
        if let Some(different) = &mut self.different {
            self.numbers.sort_unstable_by(N::order);
            self.numbers.dedup_by(|a, b| is_same(*a, *b));
            *different = self.numbers.len();
        }
    }
}

impl<N: Number> Accumulator for Every<N> {
    fn update_batch(&mut self, values: &[ArrayRef]) -> Result<()> {
        extend(&mut self.numbers, column::<N>(values)?);
        self.thin();
        Ok(())
    }

    fn evaluate(&mut self) -> Result<ScalarValue> {
        self.settle();
        let mut made = Vec::new();
        self.asked.of(&mut self.numbers, &mut made);
        answer(&self.asked, made, !self.numbers.is_empty())
    }

    fn size(&self) -> usize {
        size_of_val(self) + self.asked.size() + self.numbers.capacity() * size_of::<N>()
    }

    fn state(&mut self) -> Result<Vec<ScalarValue>> {
        self.settle();
        self.different = self.different.map(|_| 0);
        state(std::mem::take(&mut self.numbers))
    }

    fn merge_batch(&mut self, states: &[ArrayRef]) -> Result<()> {
        each_list::<N>(states, |_, of_row| self.numbers.extend_from_slice(of_row))?;
        self.thin();
        Ok(())
    }
}

/// The numbers of a frame that moves over the rows, in their order.
#[derive(Debug)]
pub(super) struct Sliding<N> {
    asked: Asked,
    sorted: Vec<N>,
    is_distinct: bool,
}

impl<N: Number> Sliding<N> {
    pub(super) fn new(asked: Asked, is_distinct: bool) -> Self {
        Self { asked, sorted: Vec::new(), is_distinct }
    }

    fn add(&mut self, numbers: &[N]) {
        if numbers.len() > FEW {
            self.sorted.extend_from_slice(numbers);
            // What is sorted already is found to be.
            self.sorted.sort_by(N::order);
            return;
        }
        for number in numbers {
            let at = self.sorted.partition_point(|there| there.order(number).is_le());
            self.sorted.insert(at, *number);
        }
    }

    /// Whether each of them was there.
    fn remove(&mut self, mut numbers: Vec<N>) -> bool {
        if numbers.len() > FEW {
            numbers.sort_unstable_by(N::order);
            let mut gone = numbers.into_iter().peekable();
            self.sorted.retain(|there| gone.next_if(|number| number.order(there).is_eq()).is_none());
            return gone.next().is_none();
        }
        numbers.iter().all(|number| match self.sorted.binary_search_by(|there| there.order(number)) {
            Ok(at) => {
                self.sorted.remove(at);
                true
            }
            Err(_) => false,
        })
    }
}

impl<N: Number> Accumulator for Sliding<N> {
    fn update_batch(&mut self, values: &[ArrayRef]) -> Result<()> {
        let mut numbers = Vec::new();
        extend(&mut numbers, column::<N>(values)?);
        self.add(&numbers);
        Ok(())
    }

    fn evaluate(&mut self) -> Result<ScalarValue> {
        let mut made = Vec::new();
        if self.is_distinct {
            let mut different = self.sorted.clone();
            different.dedup_by(|a, b| is_same(*a, *b));
            self.asked.of_sorted(&different, &mut made);
        } else {
            self.asked.of_sorted(&self.sorted, &mut made);
        }
        answer(&self.asked, made, !self.sorted.is_empty())
    }

    fn size(&self) -> usize {
        size_of_val(self) + self.asked.size() + self.sorted.capacity() * size_of::<N>()
    }

    fn state(&mut self) -> Result<Vec<ScalarValue>> {
        state(std::mem::take(&mut self.sorted))
    }

    fn merge_batch(&mut self, states: &[ArrayRef]) -> Result<()> {
        each_list::<N>(states, |_, of_row| self.add(of_row))
    }

    fn retract_batch(&mut self, values: &[ArrayRef]) -> Result<()> {
        let mut numbers = Vec::new();
        extend(&mut numbers, column::<N>(values)?);
        match self.remove(numbers) {
            true => Ok(()),
            false => internal_err!("a number leaves a frame that it is not in"),
        }
    }

    fn supports_retract_batch(&self) -> bool {
        true
    }
}

/// The numbers of many groups.
#[derive(Debug)]
pub(super) struct Groups<N> {
    asked: Asked,
    groups: Vec<Vec<N>>,
    /// Numbers for which there is room in all of them.
    room: usize,
}

impl<N: Number> Groups<N> {
    pub(super) fn new(asked: Asked) -> Self {
        Self { asked, groups: Vec::new(), room: 0 }
    }

    fn add(&mut self, group: usize, numbers: &[N]) {
        let of_group = &mut self.groups[group];
        let room = of_group.capacity();
        of_group.extend_from_slice(numbers);
        self.room += of_group.capacity() - room;
    }

    fn emitted(&mut self, emit_to: EmitTo) -> Vec<Vec<N>> {
        let emitted = emit_to.take_needed(&mut self.groups);
        let room: usize = emitted.iter().map(Vec::capacity).sum();
        self.room = self.room.saturating_sub(room);
        emitted
    }
}

/// The rows that count; None: all.
fn counted(column: &dyn Array, filter: Option<&BooleanArray>) -> Option<NullBuffer> {
    let kept = filter.map(|filter| match filter.nulls() {
        Some(nulls) => NullBuffer::new(filter.values() & nulls.inner()),
        None => NullBuffer::new(filter.values().clone()),
    });
    NullBuffer::union(column.nulls(), kept.as_ref()).filter(|rows| rows.null_count() > 0)
}

impl<N: Number> GroupsAccumulator for Groups<N> {
    fn update_batch(
        &mut self,
        values: &[ArrayRef],
        group_indices: &[usize],
        opt_filter: Option<&BooleanArray>,
        total_num_groups: usize,
    ) -> Result<()> {
        let column = column::<N>(values)?;
        self.groups.resize_with(total_num_groups, Vec::new);
        let (numbers, groups) = (column.values(), &mut self.groups);
        let mut room = 0;
        let mut add = |group: usize, number: N| {
            let of_group = &mut groups[group];
            if of_group.len() == of_group.capacity() {
                let before = of_group.capacity();
                of_group.reserve(1);
                room += of_group.capacity() - before;
            }
            of_group.push(number.plain());
        };
        match counted(column, opt_filter) {
            None => group_indices.iter().zip(numbers.iter()).for_each(|(group, number)| add(*group, *number)),
            Some(rows) => rows.valid_indices().for_each(|row| add(group_indices[row], numbers[row])),
        }
        self.room += room;
        Ok(())
    }

    fn merge_batch(
        &mut self,
        values: &[ArrayRef],
        group_indices: &[usize],
        total_num_groups: usize,
    ) -> Result<()> {
        self.groups.resize_with(total_num_groups, Vec::new);
        each_list::<N>(values, |row, of_row| self.add(group_indices[row], of_row))
    }

    fn evaluate(&mut self, emit_to: EmitTo) -> Result<ArrayRef> {
        let emitted = self.emitted(emit_to);
        let has_numbers: Vec<bool> = emitted.iter().map(|numbers| !numbers.is_empty()).collect();
        let mut made = Vec::with_capacity(emitted.len().saturating_mul(self.asked.len()));
        for mut numbers in emitted {
            self.asked.of(&mut numbers, &mut made);
        }
        answers(&self.asked, made, has_numbers)
    }

    fn state(&mut self, emit_to: EmitTo) -> Result<Vec<ArrayRef>> {
        let emitted = self.emitted(emit_to);
        let lengths: Vec<usize> = emitted.iter().map(Vec::len).collect();
        let mut numbers = Vec::with_capacity(lengths.iter().sum());
        for of_group in emitted {
            numbers.extend_from_slice(&of_group);
        }
        Ok(vec![Arc::new(lists(numbers, lengths, None)?)])
    }

    /// Each row as a group of its own.
    fn convert_to_state(
        &self,
        values: &[ArrayRef],
        opt_filter: Option<&BooleanArray>,
    ) -> Result<Vec<ArrayRef>> {
        let column = column::<N>(values)?;
        let numbers: Vec<N> = column.values().iter().map(|number| number.plain()).collect();
        let lengths = std::iter::repeat_n(1, numbers.len());
        Ok(vec![Arc::new(lists(numbers, lengths, counted(column, opt_filter))?)])
    }

    fn size(&self) -> usize {
        self.asked.size() + self.groups.capacity() * size_of::<Vec<N>>() + self.room * size_of::<N>()
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use datafusion::arrow::array::{Float32Array, Float64Array};
    use datafusion::arrow::datatypes::Float64Type;

    use super::*;

    fn asked(fractions: &[f64]) -> Asked {
        Asked::new(fractions.to_vec(), fractions.len() != 1, false)
    }

    fn numbers(numbers: &[Option<f64>]) -> ArrayRef {
        Arc::new(Float64Array::from(numbers.to_vec()))
    }

    fn all(of: &[f64]) -> ArrayRef {
        Arc::new(Float64Array::from(of.to_vec()))
    }

    fn one(value: f64) -> ScalarValue {
        ScalarValue::Float64(Some(value))
    }

    fn several(value: &ScalarValue) -> Option<Vec<f64>> {
        let ScalarValue::List(list) = value else { panic!("{value} is no list") };
        list.is_valid(0).then(|| list.value(0).as_primitive::<Float64Type>().values().to_vec())
    }

    #[test]
    fn parts_are_put_together() {
        let parts = [numbers(&[Some(12.5), None, Some(0.75)]), numbers(&[]), all(&[5.0, 10.0, 2.5, 5.0])];
        // With 5 once and twice.
        for (is_distinct, expected) in [(true, 3.0), (false, 3.75)] {
            let mut whole = Every::<f64>::new(asked(&[0.3]), is_distinct);
            assert_eq!(whole.evaluate().unwrap(), ScalarValue::Float64(None));
            for part in &parts {
                let mut every = Every::<f64>::new(asked(&[0.3]), is_distinct);
                every.update_batch(&[Arc::clone(part), all(&vec![0.3; part.len()])]).unwrap();
                let state = every.state().unwrap().remove(0).to_array().unwrap();
                whole.merge_batch(&[state]).unwrap();
            }
            // Once more for a window that grows.
            assert_eq!(whole.evaluate().unwrap(), one(expected));
            assert_eq!(whole.evaluate().unwrap(), one(expected));
        }
        let mut reals = Every::<f32>::new(asked(&[0.3]), false);
        reals.update_batch(&[Arc::new(Float32Array::from(vec![0.75, 2.5, 5.0, 10.0, 12.5]))]).unwrap();
        assert_eq!(reals.evaluate().unwrap(), ScalarValue::Float32(Some(3.0)));
        assert!(reals.update_batch(&[all(&[1.0])]).is_err());
    }

    #[test]
    fn a_list_of_fractions_gives_a_list() {
        let of = |fractions: &[f64], column: &ArrayRef| {
            let mut every = Every::<f64>::new(asked(fractions), false);
            every.update_batch(std::slice::from_ref(column)).unwrap();
            several(&every.evaluate().unwrap())
        };
        let five = all(&[12.5, 0.75, 5.0, 10.0, 2.5]);
        assert_eq!(of(&[0.5, 0.3], &five), Some(vec![5.0, 3.0]));
        assert_eq!(of(&[], &five), Some(vec![]));
        assert_eq!(of(&[], &numbers(&[None])), None);
        assert_eq!(of(&[0.5, 0.3], &numbers(&[])), None);
    }

    #[test]
    fn equal_numbers_are_not_kept() {
        let mut every = Every::<f64>::new(asked(&[0.5]), true);
        let few: Vec<f64> = (0..8).map(f64::from).collect();
        for _ in 0..10 {
            every.update_batch(&[all(&few.repeat(64))]).unwrap();
            assert!(every.numbers.len() < 2 * UNSORTED);
        }
        assert_eq!((every.evaluate().unwrap(), every.numbers.len()), (one(3.5), 8));
        every.update_batch(&[all(&[f64::NAN, -f64::NAN, 0.0, -0.0])]).unwrap();
        assert_eq!((every.evaluate().unwrap(), every.numbers.len()), (one(4.0), 9));
    }

    #[test]
    fn frames_move() {
        // By one, and by more than few.
        let values: Vec<f64> = (0..200).map(|n| f64::from(n * 37 % 101)).collect();
        for (width, step) in [(5, 1), (60, 20)] {
            for is_distinct in [false, true] {
                let mut sliding = Sliding::<f64>::new(asked(&[0.25]), is_distinct);
                sliding.update_batch(&[all(&values[..width])]).unwrap();
                let mut from = 0;
                while from + width + step <= values.len() {
                    sliding.update_batch(&[all(&values[from + width..from + width + step])]).unwrap();
                    sliding.retract_batch(&[all(&values[from..from + step])]).unwrap();
                    from += step;
                    let mut every = Every::<f64>::new(asked(&[0.25]), is_distinct);
                    every.update_batch(&[all(&values[from..from + width])]).unwrap();
                    assert_eq!(sliding.evaluate().unwrap(), every.evaluate().unwrap(), "{from}");
                }
                assert!(sliding.retract_batch(&[all(&[-1.0])]).is_err());
                assert!(sliding.retract_batch(&[all(&[-1.0; 40])]).is_err());
            }
        }
        let mut none = Sliding::<f64>::new(asked(&[0.25]), false);
        none.update_batch(&[numbers(&[None, Some(1.0)])]).unwrap();
        none.retract_batch(&[numbers(&[None, Some(1.0)])]).unwrap();
        assert_eq!(none.evaluate().unwrap(), ScalarValue::Float64(None));
    }

    #[test]
    fn groups_have_their_own_numbers() {
        let column = numbers(&[Some(4.0), Some(1.0), None, Some(8.0), Some(2.0), Some(9.0)]);
        let of_rows = [0, 1, 2, 0, 1, 0];
        let keep = BooleanArray::from(vec![Some(true), Some(true), Some(true), Some(true), Some(true), None]);
        for fractions in [&[0.5][..], &[0.0, 0.5]] {
            let single = |made: &ArrayRef, row: usize| -> Option<f64> {
                match ScalarValue::try_from_array(made, row).unwrap() {
                    ScalarValue::Float64(value) => value,
                    list => several(&list).map(|list| list[1]),
                }
            };
            let mut plain = Groups::<f64>::new(asked(fractions));
            plain.update_batch(std::slice::from_ref(&column), &of_rows, Some(&keep), 4).unwrap();
            // Through states of groups, and of rows.
            let mut merged = Groups::<f64>::new(asked(fractions));
            let state = plain.state(EmitTo::All).unwrap();
            assert_eq!(plain.room, 0);
            merged.merge_batch(&state, &[0, 1, 2, 3], 4).unwrap();
            let rows =
                plain.convert_to_state(&[Arc::clone(&column), Arc::clone(&column)], Some(&keep)).unwrap();
            let mut of_states = Groups::<f64>::new(asked(fractions));
            of_states.merge_batch(&rows, &of_rows, 4).unwrap();
            plain.update_batch(std::slice::from_ref(&column), &of_rows, Some(&keep), 4).unwrap();
            for groups in [&mut plain, &mut merged, &mut of_states] {
                let room: usize = groups.groups.iter().map(Vec::capacity).sum();
                assert_eq!(groups.room, room);
                let first = groups.evaluate(EmitTo::First(1)).unwrap();
                assert_eq!((first.len(), single(&first, 0)), (1, Some(6.0)));
                let rest = groups.evaluate(EmitTo::All).unwrap();
                let rest: Vec<Option<f64>> = (0..rest.len()).map(|row| single(&rest, row)).collect();
                assert_eq!(rest, [Some(1.5), None, None]);
                assert_eq!(groups.room, 0);
            }
        }
        // Without a NULL and a filter.
        let mut groups = Groups::<f64>::new(asked(&[0.5]));
        groups.update_batch(&[all(&[1.0, 2.0, 4.0])], &[1, 0, 1], None, 2).unwrap();
        assert_eq!(&groups.evaluate(EmitTo::All).unwrap(), &all(&[2.0, 2.5]));
    }
}
