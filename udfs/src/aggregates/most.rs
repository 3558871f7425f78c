//! The value of the row where another is least or greatest, or of several such rows: `arg_min`, `arg_max`.
//!
//! Of n rows less than twice as many are kept: where there are more they are sorted, and the rest let go. Of a frame that moves, all of its rows are.

use std::cmp::Ordering;
use std::collections::VecDeque;

use datafusion::arrow::array::{Array, ArrayRef, AsArray, make_comparator};
use datafusion::arrow::buffer::NullBuffer;
use datafusion::arrow::compute::SortOptions;
use datafusion::arrow::datatypes::{DataType, Int64Type};
use datafusion::common::{Result, ScalarValue, internal_err};
use datafusion::logical_expr::Accumulator;

use super::{Make, Spec};
use crate::function::{Kind, invalid};

/// Rows that may be asked for, as in DuckDB.
const ROWS_MAX: i64 = 1_000_000;

pub(super) fn functions() -> Vec<Spec> {
    let of = Spec {
        name: "arg_min",
        aliases: &["min_by", "argmin"],
        takes: &[&[Kind::Any, Kind::Any], &[Kind::Any, Kind::Any, Kind::Integer]],
        returns,
        states,
        make: |types, _| made(types, Ordering::Less),
        syntax: "arg_min(x, by, n)",
        does: "x of the row where by is least; rows with a NULL do not count. Of several, any. With n, 1 to 1000000, the list of x of the n rows where by is least, the least first; min(x, n) is arg_min(x, x, n).",
        example: "SELECT arg_min(x, y), arg_min(x, y, 2) FROM (VALUES ('a', 2), ('b', 1), ('c', 3)) AS t(x, y)  -- b, [b, a]",
    };
    let greatest = Spec {
        name: "arg_max",
        aliases: &["max_by", "argmax"],
        make: |types, _| made(types, Ordering::Greater),
        syntax: "arg_max(x, by, n)",
        does: "x of the row where by is greatest; rows with a NULL do not count. Of several, any. With n, 1 to 1000000, the list of x of the n rows where by is greatest, the greatest first; max(x, n) is arg_max(x, x, n).",
        example: "SELECT arg_max(x, y), max(x, 2) FROM (VALUES ('a', 2), ('b', 1), ('c', 3)) AS t(x, y)  -- c, [c, b]",
        ..of.clone()
    };
    vec![of, greatest]
}

fn returns(types: &[DataType]) -> DataType {
    match types {
        [value, _, _] => DataType::new_list(value.clone(), true),
        _ => types.first().cloned().unwrap_or(DataType::Null),
    }
}

fn states(types: &[DataType]) -> Vec<DataType> {
    match types {
        [value, by, n] => {
            vec![DataType::new_list(value.clone(), true), DataType::new_list(by.clone(), true), n.clone()]
        }
        _ => types.to_vec(),
    }
}

/// What makes the aggregate of a name for a frame that moves over the rows; None: it is none of these.
pub(super) fn sliding(name: &str) -> Option<Make> {
    match name {
        "arg_min" => Some(|types, _| framed(types, Ordering::Less)),
        "arg_max" => Some(|types, _| framed(types, Ordering::Greater)),
        _ => None,
    }
}

/// What else the aggregate of a name is called as.
pub(super) fn also(name: &str) -> Option<&'static str> {
    match name {
        "arg_min" => Some("min(x, n)"),
        "arg_max" => Some("max(x, n)"),
        _ => None,
    }
}

fn framed(types: &[DataType], better: Ordering) -> Result<Box<dyn Accumulator>> {
    match types {
        [value, by, wanted @ ..] => Ok(Box::new(Frame::new(value, by, better, !wanted.is_empty()))),
        _ => internal_err!("{} arguments in place of 2", types.len()),
    }
}

/// The rows that count: those without a NULL.
fn counted(values: &ArrayRef, by: &ArrayRef) -> impl Iterator<Item = usize> {
    let nulls = NullBuffer::union(values.logical_nulls().as_ref(), by.logical_nulls().as_ref());
    (0..by.len()).filter(move |row| nulls.as_ref().is_none_or(|nulls| nulls.is_valid(*row)))
}

fn made(types: &[DataType], better: Ordering) -> Result<Box<dyn Accumulator>> {
    match types {
        [value, by, _] => Ok(Box::new(Several::new(value, by, better))),
        _ => Ok(Box::new(Most::new(types, better)?)),
    }
}

#[derive(Debug)]
struct Most {
    /// How a better one compares with the one that is kept.
    better: Ordering,
    value: ScalarValue,
    /// NULL as long as there is none.
    by: ScalarValue,
}

impl Most {
    fn new(types: &[DataType], better: Ordering) -> Result<Self> {
        match types {
            [value, by] => {
                Ok(Self { better, value: ScalarValue::try_from(value)?, by: ScalarValue::try_from(by)? })
            }
            _ => internal_err!("{} arguments in place of 2", types.len()),
        }
    }

    fn add(&mut self, columns: &[ArrayRef]) -> Result<()> {
        let [values, by] = columns else { return internal_err!("{} columns in place of 2", columns.len()) };
        let compare = make_comparator(by.as_ref(), by.as_ref(), SortOptions::default())?;
        let best = counted(values, by)
            .reduce(|best, row| if compare(row, best) == self.better { row } else { best });
        let Some(best) = best else { return Ok(()) };
        let of_best = ScalarValue::try_from_array(by, best)?;
        if self.by.is_null() || of_best.partial_cmp(&self.by) == Some(self.better) {
            self.value = ScalarValue::try_from_array(values, best)?;
            self.by = of_best;
            // A slice of a batch would keep all of it.
            self.value.compact();
            self.by.compact();
        }
        Ok(())
    }
}

impl Accumulator for Most {
    fn update_batch(&mut self, values: &[ArrayRef]) -> Result<()> {
        self.add(values)
    }

    fn evaluate(&mut self) -> Result<ScalarValue> {
        Ok(self.value.clone())
    }

    fn size(&self) -> usize {
        size_of_val(self) + self.value.size() + self.by.size()
    }

    fn state(&mut self) -> Result<Vec<ScalarValue>> {
        Ok(vec![self.value.clone(), self.by.clone()])
    }

    fn merge_batch(&mut self, states: &[ArrayRef]) -> Result<()> {
        self.add(states)
    }
}

/// The n rows that are best, and others that may be.
#[derive(Debug)]
struct Several {
    /// How a better one compares with another.
    better: Ordering,
    value: DataType,
    by: DataType,
    /// The third argument, from the first row that has one.
    wanted: Option<usize>,
    /// What is compared, and the value.
    rows: Vec<(ScalarValue, ScalarValue)>,
    /// Whether the rows are the best of all so far, best first, and no others.
    is_settled: bool,
    /// Bytes of the rows.
    bytes: usize,
}

impl Several {
    fn new(value: &DataType, by: &DataType, better: Ordering) -> Self {
        let (value, by) = (value.clone(), by.clone());
        Self { better, value, by, wanted: None, rows: Vec::new(), is_settled: true, bytes: 0 }
    }

    fn want(&mut self, wanted: &ArrayRef) -> Result<()> {
        let Some(column) = wanted.as_primitive_opt::<Int64Type>() else {
            return internal_err!("{} in place of a number of rows", wanted.data_type());
        };
        if self.wanted.is_none()
            && let Some(n) = column.iter().flatten().next()
        {
            match usize::try_from(n) {
                Ok(rows) if (1..=ROWS_MAX).contains(&n) => self.wanted = Some(rows),
                _ => return Err(invalid("22003", format!("a list has 1 to {ROWS_MAX} rows, not {n}"))),
            }
        }
        Ok(())
    }

    /// How rows stand behind each other: the better first.
    fn order(better: Ordering, is: Ordering) -> Ordering {
        if better == Ordering::Greater { is.reverse() } else { is }
    }

    fn add(&mut self, values: &ArrayRef, by: &ArrayRef) -> Result<()> {
        let Some(wanted) = self.wanted else { return Ok(()) };
        let compare = make_comparator(by.as_ref(), by.as_ref(), SortOptions::default())?;
        let mut best: Vec<usize> = counted(values, by).collect();
        best.sort_by(|a, b| Self::order(self.better, compare(*a, *b)));
        best.truncate(wanted);
        // Rows that are no better than the last of those are let go. It is compared as they are among themselves.
        let last = match self.rows.last() {
            Some((last, _)) if self.is_settled && self.rows.len() == wanted => {
                let last = last.to_array()?;
                Some(make_comparator(by.as_ref(), last.as_ref(), SortOptions::default())?)
            }
            _ => None,
        };
        for row in best {
            // The rest are no better.
            if last.as_ref().is_some_and(|last| last(row, 0) != self.better) {
                break;
            }
            let mut of_row = ScalarValue::try_from_array(by, row)?;
            let mut value = ScalarValue::try_from_array(values, row)?;
            // A slice of a batch would keep all of it.
            value.compact();
            of_row.compact();
            self.bytes += of_row.size() + value.size();
            self.rows.push((of_row, value));
            self.is_settled = false;
        }
        if self.rows.len() >= wanted.saturating_mul(2) {
            self.settle()?;
        }
        Ok(())
    }

    /// Sorts the rows, and lets those go that are not among the best.
    fn settle(&mut self) -> Result<()> {
        let Some(wanted) = self.wanted.filter(|_| !self.is_settled) else { return Ok(()) };
        let by = ScalarValue::iter_to_array(self.rows.iter().map(|(by, _)| by.clone()))?;
        let compare = make_comparator(by.as_ref(), by.as_ref(), SortOptions::default())?;
        let mut places: Vec<usize> = (0..self.rows.len()).collect();
        places.sort_by(|a, b| Self::order(self.better, compare(*a, *b)));
        places.truncate(wanted);
        let mut rows: Vec<Option<(ScalarValue, ScalarValue)>> =
            std::mem::take(&mut self.rows).into_iter().map(Some).collect();
        self.rows =
            places.into_iter().filter_map(|place| rows.get_mut(place).and_then(Option::take)).collect();
        self.bytes = self.rows.iter().map(|(by, value)| by.size() + value.size()).sum();
        self.is_settled = true;
        Ok(())
    }

    fn values(&self) -> Vec<ScalarValue> {
        self.rows.iter().map(|(_, value)| value.clone()).collect()
    }
}

impl Accumulator for Several {
    fn update_batch(&mut self, values: &[ArrayRef]) -> Result<()> {
        let [values, by, wanted] = values else {
            return internal_err!("{} columns in place of 3", values.len());
        };
        self.want(wanted)?;
        self.add(values, by)
    }

    fn evaluate(&mut self) -> Result<ScalarValue> {
        self.settle()?;
        match self.rows.is_empty() {
            true => ScalarValue::try_from(&DataType::new_list(self.value.clone(), true)),
            false => Ok(ScalarValue::List(ScalarValue::new_list(&self.values(), &self.value, true))),
        }
    }

    fn size(&self) -> usize {
        let row = size_of::<(ScalarValue, ScalarValue)>();
        size_of_val(self) + self.bytes + (self.rows.capacity() - self.rows.len()) * row
    }

    fn state(&mut self) -> Result<Vec<ScalarValue>> {
        self.settle()?;
        let by: Vec<ScalarValue> = self.rows.iter().map(|(by, _)| by.clone()).collect();
        let wanted = self.wanted.and_then(|wanted| i64::try_from(wanted).ok());
        Ok(vec![
            ScalarValue::List(ScalarValue::new_list(&self.values(), &self.value, true)),
            ScalarValue::List(ScalarValue::new_list(&by, &self.by, true)),
            ScalarValue::Int64(wanted),
        ])
    }

    fn merge_batch(&mut self, states: &[ArrayRef]) -> Result<()> {
        let [values, by, wanted] = states else {
            return internal_err!("{} columns of state in place of 3", states.len());
        };
        self.want(wanted)?;
        let (values, by) = (values.as_list::<i32>(), by.as_list::<i32>());
        for row in (0..values.len()).filter(|row| values.is_valid(*row)) {
            self.add(&values.value(row), &by.value(row))?;
        }
        Ok(())
    }
}

/// The rows of a frame, which come and go in one order.
#[derive(Debug)]
struct Frame {
    /// Finds the best of the rows; it has some only while it does.
    best: Several,
    /// Whether several are asked for.
    is_list: bool,
    /// What is compared, and the value.
    rows: VecDeque<(ScalarValue, ScalarValue)>,
    /// Bytes of the rows.
    bytes: usize,
}

impl Frame {
    fn new(value: &DataType, by: &DataType, better: Ordering, is_list: bool) -> Self {
        let mut best = Several::new(value, by, better);
        best.wanted = (!is_list).then_some(1);
        Self { best, is_list, rows: VecDeque::new(), bytes: 0 }
    }

    fn null(&self) -> Result<ScalarValue> {
        match self.is_list {
            true => ScalarValue::try_from(&DataType::new_list(self.best.value.clone(), true)),
            false => ScalarValue::try_from(&self.best.value),
        }
    }
}

impl Accumulator for Frame {
    fn update_batch(&mut self, values: &[ArrayRef]) -> Result<()> {
        let [values, by, wanted @ ..] = values else {
            return internal_err!("{} columns in place of 2", values.len());
        };
        if let [wanted, ..] = wanted {
            self.best.want(wanted)?;
        }
        for row in counted(values, by) {
            let mut of_row = ScalarValue::try_from_array(by, row)?;
            let mut value = ScalarValue::try_from_array(values, row)?;
            // A slice of a batch would keep all of it.
            value.compact();
            of_row.compact();
            self.bytes += of_row.size() + value.size();
            self.rows.push_back((of_row, value));
        }
        Ok(())
    }

    fn retract_batch(&mut self, values: &[ArrayRef]) -> Result<()> {
        let [values, by, ..] = values else { return internal_err!("{} columns in place of 2", values.len()) };
        for _ in counted(values, by) {
            let Some((by, value)) = self.rows.pop_front() else {
                return internal_err!("a row leaves a frame that it is not in");
            };
            self.bytes -= by.size() + value.size();
        }
        Ok(())
    }

    fn supports_retract_batch(&self) -> bool {
        true
    }

    fn evaluate(&mut self) -> Result<ScalarValue> {
        if self.rows.is_empty() || self.best.wanted.is_none() {
            return self.null();
        }
        self.best.rows = self.rows.iter().cloned().collect();
        self.best.is_settled = false;
        let best = self.best.evaluate()?;
        self.best.rows = Vec::new();
        match best {
            ScalarValue::List(list) if !self.is_list => ScalarValue::try_from_array(&list.value(0), 0),
            list => Ok(list),
        }
    }

    fn size(&self) -> usize {
        let row = size_of::<(ScalarValue, ScalarValue)>();
        size_of_val(self) + self.bytes + (self.rows.capacity() - self.rows.len()) * row
    }

    fn state(&mut self) -> Result<Vec<ScalarValue>> {
        internal_err!("a frame is in no parts")
    }

    fn merge_batch(&mut self, _states: &[ArrayRef]) -> Result<()> {
        internal_err!("a frame is in no parts")
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::sync::Arc;

    use datafusion::arrow::array::{Int64Array, StringArray};

    use super::*;

    #[test]
    fn nulls_do_not_count() {
        let values: ArrayRef = Arc::new(StringArray::from(vec![Some("x"), None, Some("z"), None]));
        let by: ArrayRef = Arc::new(Int64Array::from(vec![Some(1), Some(0), Some(3), Some(9)]));
        let types = [DataType::Utf8, DataType::Int64];
        for (better, wanted) in [(Ordering::Less, "x"), (Ordering::Greater, "z")] {
            let mut most = Most::new(&types, better).unwrap();
            assert!(most.evaluate().unwrap().is_null());
            most.update_batch(&[Arc::clone(&values), Arc::clone(&by)]).unwrap();
            most.update_batch(&[values.slice(1, 1), by.slice(1, 1)]).unwrap();
            assert_eq!(most.evaluate().unwrap(), ScalarValue::Utf8(Some(wanted.to_owned())));
        }
    }

    #[test]
    fn the_best_are_kept_in_order() {
        let values: ArrayRef =
            Arc::new(StringArray::from(vec![Some("a"), None, Some("c"), Some("d"), Some("e")]));
        let by: ArrayRef = Arc::new(Int64Array::from(vec![Some(3), Some(9), Some(1), Some(7), None]));
        let of = |n: i64, better: Ordering| -> Result<ScalarValue> {
            let wanted: ArrayRef = Arc::new(Int64Array::from(vec![n; 5]));
            let columns = [Arc::clone(&values), Arc::clone(&by), wanted];
            // In three parts that are merged.
            let mut whole = Several::new(&DataType::Utf8, &DataType::Int64, better);
            for part in [0..1, 1..3, 3..5] {
                let mut several = Several::new(&DataType::Utf8, &DataType::Int64, better);
                let part: Vec<ArrayRef> =
                    columns.iter().map(|column| column.slice(part.start, part.len())).collect();
                several.update_batch(&part)?;
                let state: Vec<ArrayRef> =
                    several.state()?.iter().map(|state| state.to_array().unwrap()).collect();
                whole.merge_batch(&state)?;
            }
            whole.evaluate()
        };
        for (n, better, expected) in [
            (1, Ordering::Greater, vec!["d"]),
            (2, Ordering::Greater, vec!["d", "a"]),
            (2, Ordering::Less, vec!["c", "a"]),
            (9, Ordering::Less, vec!["c", "a", "d"]),
        ] {
            let ScalarValue::List(list) = of(n, better).unwrap() else { panic!("no list") };
            let list = list.value(0);
            assert_eq!(list.as_string::<i32>().iter().flatten().collect::<Vec<_>>(), expected);
        }
        assert!(of(0, Ordering::Less).is_err() && of(ROWS_MAX + 1, Ordering::Less).is_err());
        let mut none = Several::new(&DataType::Utf8, &DataType::Int64, Ordering::Less);
        assert!(none.evaluate().unwrap().is_null());
    }

    #[test]
    fn few_rows_are_kept() {
        let mut several = Several::new(&DataType::Int64, &DataType::Int64, Ordering::Greater);
        let wanted: ArrayRef = Arc::new(Int64Array::from(vec![3; 100]));
        for batch in 0..20_i64 {
            let numbers: ArrayRef = Arc::new(Int64Array::from_iter_values((0..100).map(|n| n * 20 + batch)));
            several.update_batch(&[Arc::clone(&numbers), numbers, Arc::clone(&wanted)]).unwrap();
            assert!(several.rows.len() < 6);
        }
        let ScalarValue::List(list) = several.evaluate().unwrap() else { panic!("no list") };
        assert_eq!(list.value(0).as_primitive::<Int64Type>().values()[..], [1999, 1998, 1997]);
    }

    #[test]
    fn frames_move() {
        let numbers = |numbers: &[Option<i64>]| -> ArrayRef { Arc::new(Int64Array::from(numbers.to_vec())) };
        let rows = [Some(3), None, Some(7), Some(5), Some(1), None];
        for is_list in [false, true] {
            let mut frame = Frame::new(&DataType::Int64, &DataType::Int64, Ordering::Greater, is_list);
            assert!(frame.evaluate().unwrap().is_null());
            let columns = |from: usize, to: usize| {
                let part = numbers(&rows[from..to]);
                let wanted = numbers(&vec![Some(2); to - from]);
                if is_list { vec![Arc::clone(&part), part, wanted] } else { vec![Arc::clone(&part), part] }
            };
            frame.update_batch(&columns(0, 2)).unwrap();
            for (from, greatest) in [7, 7, 5, 1].into_iter().enumerate() {
                frame.update_batch(&columns(from + 2, from + 3)).unwrap();
                frame.retract_batch(&columns(from, from + 1)).unwrap();
                match frame.evaluate().unwrap() {
                    ScalarValue::List(list) => {
                        let mut best: Vec<i64> = rows[from + 1..from + 3].iter().copied().flatten().collect();
                        best.sort_by(|a, b| b.cmp(a));
                        assert_eq!(list.value(0).as_primitive::<Int64Type>().values().to_vec(), best);
                    }
                    one => assert_eq!(one, ScalarValue::Int64(Some(greatest))),
                }
            }
            frame.retract_batch(&columns(4, 6)).unwrap();
            assert_eq!((frame.evaluate().unwrap().is_null(), frame.bytes), (true, 0));
            assert!(frame.retract_batch(&columns(0, 1)).is_err());
        }
    }
}
