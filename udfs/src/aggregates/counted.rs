//! Of any values: how often each is there. `mode`, `histogram`, `entropy`, `mad`, `quantile_disc`, `approx_top_k`.
//!
//! Each different value is kept once. Where two are there as often, the lesser is before the other, so that the answer does not depend on
//! the order of rows.

// Values of SQL do not change while they are keys.
#![allow(clippy::mutable_key_type)]

use std::cmp::Ordering;
use std::collections::HashMap;
use std::sync::Arc;

use datafusion::arrow::array::{Array, ArrayRef, AsArray, Int64Array, MapArray, StructArray, UInt64Array};
use datafusion::arrow::buffer::OffsetBuffer;
use datafusion::arrow::compute::cast;
use datafusion::arrow::datatypes::{DataType, Field, FieldRef, Fields, Float64Type, Int64Type};
use datafusion::common::{Result, ScalarValue, internal_err};
use datafusion::logical_expr::Accumulator;

use super::{Make, Spec};
use crate::function::{Kind, invalid};

const ANY: &[&[Kind]] = &[&[Kind::Any]];

fn first(types: &[DataType]) -> DataType {
    types.first().cloned().unwrap_or(DataType::Null)
}

fn map_of(key: &DataType) -> DataType {
    DataType::Map(Arc::new(Field::new("entries", DataType::Struct(entries(key)), false)), false)
}

fn entries(key: &DataType) -> Fields {
    Fields::from(vec![Field::new("key", key.clone(), false), Field::new("value", DataType::UInt64, true)])
}

/// The values, how often each is there, and what was asked for beside them.
fn states(types: &[DataType]) -> Vec<DataType> {
    let wanted = match asks_for_list(types) {
        true => DataType::new_list(DataType::Float64, true),
        false => DataType::Float64,
    };
    vec![DataType::new_list(first(types), true), DataType::new_list(DataType::Int64, true), wanted]
}

/// Whether there is an answer to each number of a list.
fn asks_for_list(types: &[DataType]) -> bool {
    matches!(types.get(1), Some(DataType::List(_)))
}

fn of(
    syntax: &'static str,
    takes: &'static [&'static [Kind]],
    returns: fn(&[DataType]) -> DataType,
    make: Make,
    does: &'static str,
    example: &'static str,
) -> Spec {
    let name = syntax.split('(').next().unwrap_or(syntax);
    Spec { name, aliases: &[], takes, returns, states, make, syntax, does, example }
}

pub(super) fn functions() -> Vec<Spec> {
    vec![
        of(
            "mode(x)",
            ANY,
            first,
            |types, _| Ok(Box::new(Counted::new(types, Answer::Mode))),
            "The most frequent value; of several, the least. Also mode() WITHIN GROUP (ORDER BY x), of several the first in that order.",
            "SELECT mode(x) FROM (VALUES (1), (2), (2)) AS t(x)  -- 2",
        ),
        of(
            "histogram(x)",
            ANY,
            |types| map_of(&first(types)),
            |types, _| Ok(Box::new(Counted::new(types, Answer::Histogram))),
            "A map from each value to how often it is there, in order; NULL without values.",
            "SELECT histogram(x) FROM (VALUES (1), (2), (2)) AS t(x)  -- {1: 1, 2: 2}",
        ),
        of(
            "entropy(x)",
            ANY,
            |_| DataType::Float64,
            |types, _| Ok(Box::new(Counted::new(types, Answer::Entropy))),
            "The entropy of the values in bits; 0 without values.",
            "SELECT entropy(x) FROM (VALUES (1), (2)) AS t(x)  -- 1.0",
        ),
        of(
            "mad(x)",
            &[&[Kind::Number]],
            |_| DataType::Float64,
            |types, _| Ok(Box::new(Counted::new(types, Answer::Deviation))),
            "The median of how far the numbers are from their median.",
            "SELECT mad(x) FROM (VALUES (1), (2), (2), (5), (9)) AS t(x)  -- 1.0",
        ),
        Spec {
            aliases: &["percentile_disc", "quantile"],
            ..of(
                "quantile_disc(x, fraction)",
                &[&[Kind::Any, Kind::Number], &[Kind::Any, Kind::List]],
                |types| match asks_for_list(types) {
                    true => DataType::new_list(first(types), true),
                    false => first(types),
                },
                |types, _| Ok(Box::new(Counted::new(types, Answer::Quantile))),
                "The value that the fraction, 0 to 1, of all values is not above; it is one of them. Of a list of fractions, a list. Also percentile_disc(fraction) WITHIN GROUP (ORDER BY x).",
                "SELECT quantile_disc(x, 0.5) FROM (VALUES (1), (2), (9), (10)) AS t(x)  -- 2",
            )
        },
        of(
            "approx_top_k(x, k)",
            &[&[Kind::Any, Kind::Number]],
            |types| DataType::new_list(first(types), true),
            |types, _| Ok(Box::new(Counted::new(types, Answer::Most))),
            "The k most frequent values, the most frequent first; here they are counted exactly.",
            "SELECT approx_top_k(x, 1) FROM (VALUES (1), (2), (2)) AS t(x)  -- [2]",
        ),
    ]
}

/// Whether the second argument of the aggregate of a name may be a list of fractions.
pub(super) fn takes_fractions(name: &str) -> bool {
    name == "quantile_disc"
}

/// What makes the aggregate of a name where it is called WITHIN GROUP (ORDER BY … DESC); None: it takes no order.
pub(super) fn descending(name: &str) -> Option<Make> {
    match name {
        "mode" => Some(|types, _| Ok(Box::new(Counted::new(types, Answer::GreatestMode)))),
        "quantile_disc" => Some(|types, _| Ok(Box::new(Counted::new(types, Answer::QuantileFromAbove)))),
        _ => None,
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Answer {
    Mode,
    /// Of several, the greatest.
    GreatestMode,
    Histogram,
    Entropy,
    Deviation,
    Quantile,
    /// Counted from the greatest value on.
    QuantileFromAbove,
    Most,
}

impl Answer {
    /// Whether the second argument is a number that it hangs on.
    fn takes_number(self) -> bool {
        matches!(self, Self::Quantile | Self::QuantileFromAbove | Self::Most)
    }
}

#[derive(Debug)]
struct Counted {
    of: DataType,
    answer: Answer,
    counts: HashMap<ScalarValue, i64>,
    /// The second argument, from the first row that has one: a number, or those of a list.
    wanted: Option<Vec<f64>>,
    /// Whether it is a list.
    is_list: bool,
    /// Bytes of the values.
    bytes: usize,
}

impl Counted {
    fn new(types: &[DataType], answer: Answer) -> Self {
        let is_list = asks_for_list(types);
        Self { of: first(types), answer, counts: HashMap::new(), wanted: None, is_list, bytes: 0 }
    }

    fn add(&mut self, mut value: ScalarValue, count: i64) {
        match self.counts.get_mut(&value) {
            Some(there) => *there = there.saturating_add(count),
            None => {
                // A slice of a batch would keep all of it.
                value.compact();
                self.bytes += value.size();
                self.counts.insert(value, count);
            }
        }
    }

    fn want(&mut self, wanted: &ArrayRef) -> Result<()> {
        if self.wanted.is_some() {
            return Ok(());
        }
        let Some(lists) = wanted.as_list_opt::<i32>() else {
            self.wanted = wanted.as_primitive::<Float64Type>().iter().flatten().next().map(|one| vec![one]);
            return Ok(());
        };
        if let Some(list) = lists.iter().flatten().next() {
            let numbers = cast(&list, &DataType::Float64)?;
            if numbers.null_count() > 0 {
                return Err(invalid("22004", "the fraction of a quantile is not NULL"));
            }
            self.wanted = Some(numbers.as_primitive::<Float64Type>().values().to_vec());
        }
        Ok(())
    }

    /// The values in order, each with its count.
    fn sorted(&self) -> Vec<(&ScalarValue, i64)> {
        let mut sorted: Vec<_> = self.counts.iter().map(|(value, count)| (value, *count)).collect();
        sorted.sort_by(|(a, _), (b, _)| a.partial_cmp(b).unwrap_or(Ordering::Equal));
        sorted
    }

    fn total(&self) -> i64 {
        self.counts.values().fold(0, |sum, count| sum.saturating_add(*count))
    }

    fn null(&self) -> Result<ScalarValue> {
        match self.is_list {
            true => ScalarValue::try_from(&DataType::new_list(self.of.clone(), true)),
            false => ScalarValue::try_from(&self.of),
        }
    }

    fn quantile(&self) -> Result<ScalarValue> {
        let Some(fractions) = &self.wanted else { return self.null() };
        if let Some(wrong) = fractions.iter().find(|fraction| !(0.0..=1.0).contains(*fraction)) {
            return Err(invalid("22003", format!("a quantile is from 0 to 1, not {wrong}")));
        }
        if self.counts.is_empty() {
            return self.null();
        }
        let mut sorted = self.sorted();
        if self.answer == Answer::QuantileFromAbove {
            sorted.reverse();
        }
        let total = self.total() as f64;
        let at = |fraction: &f64| nth(&sorted, (fraction * total).ceil().max(1.0) as i64).cloned();
        if self.is_list {
            let values: Vec<ScalarValue> = fractions.iter().filter_map(at).collect();
            return Ok(ScalarValue::List(ScalarValue::new_list(&values, &self.of, true)));
        }
        match fractions.first().and_then(at) {
            Some(value) => Ok(value),
            None => self.null(),
        }
    }

    fn most(&self) -> Result<ScalarValue> {
        let k = match self.wanted.as_ref().and_then(|wanted| wanted.first().copied()) {
            Some(k) if (1.0..=1e6).contains(&k) => k as usize,
            Some(k) => {
                return Err(invalid("22003", format!("approx_top_k takes 1 to 1000000 values, not {k}")));
            }
            None => 0,
        };
        if self.counts.is_empty() {
            return ScalarValue::try_from(&DataType::new_list(self.of.clone(), true));
        }
        let mut sorted = self.sorted();
        // Stable: of the same count, the lesser stays in front.
        sorted.sort_by_key(|(_, count)| std::cmp::Reverse(*count));
        let values: Vec<ScalarValue> = sorted.into_iter().take(k).map(|(value, _)| value.clone()).collect();
        Ok(ScalarValue::List(ScalarValue::new_list(&values, &self.of, true)))
    }

    fn histogram(&self) -> Result<ScalarValue> {
        if self.counts.is_empty() {
            return ScalarValue::try_from(&map_of(&self.of));
        }
        let sorted = self.sorted();
        let keys = ScalarValue::iter_to_array(sorted.iter().map(|(value, _)| (*value).clone()))?;
        let counts: UInt64Array =
            sorted.iter().map(|(_, count)| u64::try_from(*count).unwrap_or(0)).collect();
        let columns: Vec<ArrayRef> = vec![keys, Arc::new(counts)];
        let entries = StructArray::try_new(entries(&self.of), columns, None)?;
        let field: FieldRef = match map_of(&self.of) {
            DataType::Map(field, _) => field,
            other => return internal_err!("{other} is no map"),
        };
        let offsets = OffsetBuffer::from_lengths([entries.len()]);
        Ok(ScalarValue::Map(Arc::new(MapArray::try_new(field, offsets, entries, None, false)?)))
    }

    fn entropy(&self) -> f64 {
        let total = self.total() as f64;
        let bits = self.counts.values().map(|count| {
            let part = *count as f64 / total;
            -part * part.log2()
        });
        // Where there is one value, -0 is no entropy.
        bits.sum::<f64>().max(0.0)
    }

    fn deviation(&self) -> Option<f64> {
        let numbers = self.sorted().into_iter().filter_map(|(value, count)| match value {
            ScalarValue::Float64(Some(number)) => Some((*number, count)),
            _ => None,
        });
        let numbers: Vec<(f64, i64)> = numbers.collect();
        let middle = median(&numbers)?;
        let mut far: Vec<(f64, i64)> =
            numbers.into_iter().map(|(number, count)| ((number - middle).abs(), count)).collect();
        far.sort_by(|(a, _), (b, _)| a.total_cmp(b));
        median(&far)
    }
}

/// The value at `place`, from 1, where each is there as often as its count says.
fn nth<T: Clone>(sorted: &[(T, i64)], place: i64) -> Option<T> {
    let mut before = 0_i64;
    sorted.iter().find_map(|(value, count)| {
        before = before.saturating_add(*count);
        (before >= place).then(|| value.clone())
    })
}

fn median(sorted: &[(f64, i64)]) -> Option<f64> {
    let total = sorted.iter().fold(0_i64, |sum, (_, count)| sum.saturating_add(*count));
    let (low, high) = (nth(sorted, (total + 1) / 2)?, nth(sorted, total / 2 + 1)?);
    Some(low / 2.0 + high / 2.0)
}

impl Accumulator for Counted {
    fn update_batch(&mut self, values: &[ArrayRef]) -> Result<()> {
        let Some(column) = values.first() else { return internal_err!("an aggregate without arguments") };
        // Behind the arguments stands what the rows of WITHIN GROUP are ordered by.
        if self.answer.takes_number()
            && let Some(wanted) = values.get(1)
        {
            self.want(wanted)?;
        }
        let nulls = column.logical_nulls();
        for row in 0..column.len() {
            if nulls.as_ref().is_none_or(|nulls| nulls.is_valid(row)) {
                self.add(ScalarValue::try_from_array(column, row)?, 1);
            }
        }
        Ok(())
    }

    fn evaluate(&mut self) -> Result<ScalarValue> {
        match self.answer {
            Answer::Mode | Answer::GreatestMode => {
                let mut sorted = self.sorted();
                if self.answer == Answer::GreatestMode {
                    sorted.reverse();
                }
                let most = sorted.iter().map(|(_, count)| *count).max();
                match sorted.iter().find(|(_, count)| Some(*count) == most) {
                    Some((value, _)) => Ok((*value).clone()),
                    None => self.null(),
                }
            }
            Answer::Histogram => self.histogram(),
            Answer::Entropy => Ok(ScalarValue::Float64(Some(self.entropy()))),
            Answer::Deviation => Ok(ScalarValue::Float64(self.deviation())),
            Answer::Quantile | Answer::QuantileFromAbove => self.quantile(),
            Answer::Most => self.most(),
        }
    }

    fn size(&self) -> usize {
        // A slot has a value, a count and a byte of the table.
        let slot = size_of::<ScalarValue>() + size_of::<i64>() + 1;
        size_of_val(self) + self.bytes + self.counts.capacity() * slot
    }

    fn state(&mut self) -> Result<Vec<ScalarValue>> {
        let (mut values, mut counts) = (Vec::new(), Vec::new());
        for (value, count) in self.counts.drain() {
            values.push(value);
            counts.push(ScalarValue::Int64(Some(count)));
        }
        self.bytes = 0;
        let wanted = match (&self.wanted, self.is_list) {
            (Some(wanted), true) => {
                let wanted: Vec<ScalarValue> = wanted.iter().map(|one| ScalarValue::from(*one)).collect();
                ScalarValue::List(ScalarValue::new_list(&wanted, &DataType::Float64, true))
            }
            (None, true) => ScalarValue::try_from(&DataType::new_list(DataType::Float64, true))?,
            (wanted, false) => {
                ScalarValue::Float64(wanted.as_ref().and_then(|wanted| wanted.first().copied()))
            }
        };
        Ok(vec![
            ScalarValue::List(ScalarValue::new_list(&values, &self.of, true)),
            ScalarValue::List(ScalarValue::new_list(&counts, &DataType::Int64, true)),
            wanted,
        ])
    }

    fn merge_batch(&mut self, states: &[ArrayRef]) -> Result<()> {
        let [values, counts, wanted] = states else {
            return internal_err!("{} columns of state in place of 3", states.len());
        };
        self.want(wanted)?;
        let (values, counts) = (values.as_list::<i32>(), counts.as_list::<i32>());
        for row in (0..values.len()).filter(|row| values.is_valid(*row)) {
            let (values, counts) = (values.value(row), counts.value(row));
            let counts: &Int64Array = counts.as_primitive::<Int64Type>();
            for at in 0..values.len() {
                self.add(ScalarValue::try_from_array(&values, at)?, counts.value(at));
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use datafusion::arrow::array::{Float64Array, ListArray, StringArray};

    use super::*;

    fn of(answer: Answer, columns: &[ArrayRef]) -> ScalarValue {
        let types: Vec<DataType> = columns.iter().map(|column| column.data_type().clone()).collect();
        // In two parts that are merged.
        let mut whole = Counted::new(&types, answer);
        for part in [0..2, 2..columns[0].len()] {
            let mut counted = Counted::new(&types, answer);
            let part: Vec<ArrayRef> =
                columns.iter().map(|column| column.slice(part.start, part.len())).collect();
            counted.update_batch(&part).unwrap();
            let state: Vec<ArrayRef> =
                counted.state().unwrap().iter().map(|state| state.to_array().unwrap()).collect();
            whole.merge_batch(&state).unwrap();
        }
        whole.evaluate().unwrap()
    }

    fn numbers() -> ArrayRef {
        Arc::new(Float64Array::from(vec![Some(1.0), Some(2.0), Some(2.0), None, Some(5.0), Some(9.0)]))
    }

    #[test]
    fn values_are_counted() {
        let texts: ArrayRef = Arc::new(StringArray::from(vec!["b", "a", "b", "a", "c"]));
        assert_eq!(of(Answer::Mode, &[Arc::clone(&texts)]), ScalarValue::Utf8(Some("a".into())));
        // An order comes behind the arguments.
        let ordered = [Arc::clone(&texts), texts];
        assert_eq!(of(Answer::GreatestMode, &ordered), ScalarValue::Utf8(Some("b".into())));
        assert_eq!(of(Answer::Mode, &[numbers()]), ScalarValue::Float64(Some(2.0)));
        assert_eq!(of(Answer::Deviation, &[numbers()]), ScalarValue::Float64(Some(1.0)));
        let ScalarValue::Float64(Some(entropy)) = of(Answer::Entropy, &[numbers()]) else { panic!() };
        assert!((entropy - 1.921_928_094_887_362_3).abs() < 1e-12);
        let ScalarValue::Map(map) = of(Answer::Histogram, &[numbers()]) else { panic!() };
        assert_eq!(map.value(0).len(), 4);
    }

    #[test]
    fn places_are_found() {
        let of_fraction = |fraction| {
            let wanted: ArrayRef = Arc::new(Float64Array::from(vec![fraction; 6]));
            of(Answer::Quantile, &[numbers(), wanted])
        };
        assert_eq!(of_fraction(0.0), ScalarValue::Float64(Some(1.0)));
        assert_eq!(of_fraction(0.5), ScalarValue::Float64(Some(2.0)));
        assert_eq!(of_fraction(1.0), ScalarValue::Float64(Some(9.0)));
        let quarter: ArrayRef = Arc::new(Float64Array::from(vec![0.25; 6]));
        let from_above = of(Answer::QuantileFromAbove, &[numbers(), quarter]);
        assert_eq!(from_above, ScalarValue::Float64(Some(5.0)));
        let several = |fractions: &[f64]| {
            let list = fractions.iter().map(|fraction| Some(*fraction)).collect::<Vec<_>>();
            let lists = ListArray::from_iter_primitive::<Float64Type, _, _>(vec![Some(list); 6]);
            of(Answer::Quantile, &[numbers(), Arc::new(lists)])
        };
        let ScalarValue::List(list) = several(&[1.0, 0.0, 0.5]) else { panic!() };
        assert_eq!(list.value(0).as_primitive::<Float64Type>().values()[..], [9.0, 1.0, 2.0]);
        let ScalarValue::List(list) = several(&[]) else { panic!() };
        assert_eq!((list.is_valid(0), list.value(0).len()), (true, 0));
        let wanted: ArrayRef = Arc::new(Float64Array::from(vec![2.0; 6]));
        let ScalarValue::List(most) = of(Answer::Most, &[numbers(), wanted]) else { panic!() };
        assert_eq!(most.value(0).as_primitive::<Float64Type>().values()[..], [2.0, 1.0]);
    }

    #[test]
    fn nothing_is_null() {
        let mut none = Counted::new(&[DataType::Int64], Answer::Mode);
        assert_eq!(none.evaluate().unwrap(), ScalarValue::Int64(None));
        for answer in [Answer::Histogram, Answer::Deviation, Answer::Quantile, Answer::Most] {
            assert!(Counted::new(&[DataType::Int64], answer).evaluate().unwrap().is_null());
        }
    }
}
