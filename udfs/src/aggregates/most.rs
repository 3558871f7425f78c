//! The value of the row where another is least or greatest: `arg_min`, `arg_max`.

use std::cmp::Ordering;

use datafusion::arrow::array::{Array, ArrayRef, make_comparator};
use datafusion::arrow::compute::SortOptions;
use datafusion::arrow::datatypes::DataType;
use datafusion::common::{Result, ScalarValue, internal_err};
use datafusion::logical_expr::Accumulator;

use super::Spec;
use crate::function::Kind;

pub(super) fn functions() -> Vec<Spec> {
    let of = Spec {
        name: "arg_min",
        aliases: &["min_by", "argmin"],
        takes: &[&[Kind::Any, Kind::Any]],
        returns: |types| types.first().cloned().unwrap_or(DataType::Null),
        states: |types| types.to_vec(),
        make: |types, _| Ok(Box::new(Most::new(types, Ordering::Less)?)),
        syntax: "arg_min(x, by)",
        does: "x of the row where by is least; rows with a NULL do not count. Of several, any.",
        example: "SELECT arg_min(x, y) FROM (VALUES ('a', 2), ('b', 1)) AS t(x, y)  -- b",
    };
    let greatest = Spec {
        name: "arg_max",
        aliases: &["max_by", "argmax"],
        make: |types, _| Ok(Box::new(Most::new(types, Ordering::Greater)?)),
        syntax: "arg_max(x, by)",
        does: "x of the row where by is greatest; rows with a NULL do not count. Of several, any.",
        example: "SELECT arg_max(x, y) FROM (VALUES ('a', 2), ('b', 1)) AS t(x, y)  -- a",
        ..of.clone()
    };
    vec![of, greatest]
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
        let (no_value, no_by) = (values.logical_nulls(), by.logical_nulls());
        let counts = |row: &usize| {
            no_value.as_ref().is_none_or(|nulls| nulls.is_valid(*row))
                && no_by.as_ref().is_none_or(|nulls| nulls.is_valid(*row))
        };
        let best = (0..by.len())
            .filter(counts)
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
}
