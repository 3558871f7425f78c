//! Lists: how many elements there are, and the last one.
//!
//! Owns: functions of DuckDB and PostgreSQL that DataFusion has not. Does not own: DataFusion's functions of lists, most of which have
//! names with `array_` and with `list_`.

use std::collections::HashSet;

use datafusion::arrow::array::{Array, ArrayRef, AsArray, UInt64Array};
use datafusion::arrow::compute::take;
use datafusion::arrow::datatypes::DataType;
use datafusion::arrow::row::{RowConverter, SortField};
use datafusion::common::Result;

use crate::function::{Call, Kind, Spec, integers};

/// The functions of this module.
pub(crate) fn functions() -> Vec<Spec> {
    const LIST: &[&[Kind]] = &[&[Kind::List]];
    const DIMENSION: &[&[Kind]] = &[&[Kind::List, Kind::Integer]];
    vec![
        Spec::new(
            "list_count(list)",
            LIST,
            |_| DataType::Int64,
            |call| {
                let lists = Lists::new(call)?;
                let elements = lists.elements();
                let nulls = elements.logical_nulls();
                integers(call, |row| {
                    Ok(lists.range(row).map(|range| match &nulls {
                        None => count(range.len()),
                        Some(nulls) => count(range.filter(|at| nulls.is_valid(*at)).count()),
                    }))
                })
            },
            "How many elements of the list are not NULL.",
            "SELECT list_count([1, NULL, 2])  -- 2",
        )
        .also(&["array_count"]),
        Spec::new(
            "list_unique(list)",
            LIST,
            |_| DataType::Int64,
            list_unique,
            "How many different elements the list has, NULL not among them.",
            "SELECT list_unique([1, 1, NULL, 2])  -- 2",
        )
        .also(&["array_unique"]),
        Spec::new(
            "list_last(list)",
            LIST,
            |types| match types {
                [DataType::List(item)] => item.data_type().clone(),
                _ => DataType::Null,
            },
            list_last,
            "The last element of the list; NULL of an empty one.",
            "SELECT list_last([1, 2])  -- 2",
        )
        .also(&["array_last"]),
        Spec::new(
            "array_lower(list, dimension)",
            DIMENSION,
            |_| DataType::Int64,
            |call| bound(call, |_| 1),
            "The first index of the list, which is 1; NULL of an empty list, or another dimension than 1. As in PostgreSQL.",
            "SELECT array_lower([5, 6], 1)  -- 1",
        ),
        Spec::new(
            "array_upper(list, dimension)",
            DIMENSION,
            |_| DataType::Int64,
            |call| bound(call, count),
            "The last index of the list; NULL of an empty list, or another dimension than 1. As in PostgreSQL.",
            "SELECT array_upper([5, 6], 1)  -- 2",
        ),
    ]
}

fn count(of: usize) -> i64 {
    i64::try_from(of).unwrap_or(i64::MAX)
}

/// The lists of a call's first argument.
struct Lists(crate::function::Values);

impl Lists {
    fn new(call: &Call<'_>) -> Result<Self> {
        Ok(Self(call.values(0)?))
    }

    fn elements(&self) -> &ArrayRef {
        self.0.array().as_list::<i32>().values()
    }

    /// Where the elements of a row are; None where the list is NULL.
    fn range(&self, row: usize) -> Option<std::ops::Range<usize>> {
        let (lists, row) = (self.0.array().as_list::<i32>(), self.0.at(row));
        let at = |at: usize| lists.value_offsets().get(at).and_then(|at| usize::try_from(*at).ok());
        lists.is_valid(row).then(|| at(row).unwrap_or(0)..at(row + 1).unwrap_or(0))
    }
}

fn list_unique(call: &Call<'_>) -> Result<ArrayRef> {
    let lists = Lists::new(call)?;
    let elements = lists.elements();
    let nulls = elements.logical_nulls();
    let converter = RowConverter::new(vec![SortField::new(elements.data_type().clone())])?;
    let rows = converter.convert_columns(std::slice::from_ref(elements))?;
    integers(call, |row| {
        Ok(lists.range(row).map(|range| {
            let there = range.filter(|at| nulls.as_ref().is_none_or(|nulls| nulls.is_valid(*at)));
            count(there.map(|at| rows.row(at)).collect::<HashSet<_>>().len())
        }))
    })
}

fn list_last(call: &Call<'_>) -> Result<ArrayRef> {
    let lists = Lists::new(call)?;
    let last = (0..call.rows()).map(|row| {
        let range = lists.range(row).filter(|range| !range.is_empty())?;
        Some(range.end as u64 - 1)
    });
    Ok(take(lists.elements().as_ref(), &last.collect::<UInt64Array>(), None)?)
}

fn bound(call: &Call<'_>, of: fn(usize) -> i64) -> Result<ArrayRef> {
    let (lists, dimensions) = (Lists::new(call)?, call.integers(1)?);
    integers(call, |row| {
        let range = lists.range(row).filter(|range| !range.is_empty());
        Ok(range.filter(|_| dimensions.at(row) == Some(1)).map(|range| of(range.len())))
    })
}
