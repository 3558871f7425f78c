//! A number per row of an argument: how often, how long, how wide.

use datafusion::arrow::array::{Array, ArrayRef, AsArray, GenericListArray, OffsetSizeTrait};
use datafusion::arrow::buffer::OffsetBuffer;
use datafusion::arrow::compute::kernels::length::length;
use datafusion::arrow::compute::{self, cast};
use datafusion::arrow::datatypes::{ArrowNativeType, DataType, Float64Type, Int64Type};
use datafusion::common::{Result, ScalarValue};
use datafusion::logical_expr::ColumnarValue;

/// Bytes beside its content that a text or a list takes in its array.
const ENTRY: u64 = 16;
/// Least bytes of an element: lists are put together by indexes of 8 bytes.
const ELEMENT: u64 = 8;

/// What is added up over the values in a row.
struct Measure {
    /// What every value of a type comes to; None: it depends on the value.
    same: fn(&DataType) -> Option<u64>,
    /// What comes to it for each text and list.
    entry: u64,
}

const TEXTS: Measure = Measure { same: |_| None, entry: 0 };
const WIDTHS: Measure = Measure { same: element_width, entry: ENTRY };
const KEPT: Measure = Measure { same: kept_width, entry: ENTRY };
const PRINTED: Measure = Measure { same: printed_width, entry: 0 };
const LEAVES: Measure = Measure { same: leaves_in, entry: 0 };

/// Bytes of a float in digits: `1e308` has 309 of them, ordinary ones have few.
const FLOAT: u64 = 330;
const ORDINARY_FLOAT: u64 = 30;

/// One of a constant, which stands for every row, or one per row.
pub(super) enum Column<T> {
    /// Of a constant.
    Same(T),
    /// Of each row.
    Each(Vec<T>),
}

impl<T: Copy + Default> Column<T> {
    /// That of row `row`.
    pub(super) fn at(&self, row: usize) -> T {
        match self {
            Self::Same(value) => *value,
            Self::Each(values) => values.get(row).copied().unwrap_or_default(),
        }
    }
}

/// The integers of an argument, also those that dates and times are kept as.
pub(super) fn integers(arg: &ColumnarValue) -> Result<Column<Option<i64>>> {
    Ok(match arg {
        ColumnarValue::Scalar(value) => match value.cast_to(&DataType::Int64)? {
            ScalarValue::Int64(number) => Column::Same(number),
            _ => Column::Same(None),
        },
        ColumnarValue::Array(array) => Column::Each(integers_of(array)?),
    })
}

/// How often; 0 for NULL and for what is below 0.
pub(super) fn counts(arg: &ColumnarValue) -> Result<Column<u64>> {
    Ok(match integers(arg)? {
        Column::Same(number) => Column::Same(count(number)),
        Column::Each(numbers) => Column::Each(numbers.into_iter().map(count).collect()),
    })
}

/// Bytes of texts and binaries, elements of lists; 0 for NULL and for what has no length.
pub(super) fn lengths(arg: &ColumnarValue) -> Result<Column<u64>> {
    Ok(match arg {
        ColumnarValue::Scalar(value) => match value.try_as_str() {
            Some(text) => Column::Same(text.map_or(0, str::len) as u64),
            None => Column::Same(first(&lengths_of(value.to_array()?.as_ref())?)),
        },
        ColumnarValue::Array(array) => Column::Each(lengths_of(array.as_ref())?),
    })
}

/// Bytes that a copy of a value takes as an element of a list.
pub(super) fn widths(arg: &ColumnarValue) -> Result<Column<u64>> {
    of_elements(arg, &WIDTHS)
}

/// Bytes that a value takes as an element of a list put together of others.
pub(super) fn members(arg: &ColumnarValue) -> Result<Column<u64>> {
    of_elements(arg, &KEPT)
}

/// The sum of [`members`] of `rows` rows, at most; None: it takes a look at each of them.
pub(super) fn all_members(arg: &ColumnarValue, rows: usize) -> Result<Option<u64>> {
    all(arg, rows, &KEPT)
}

/// Whether elements of the type are smaller than the index that a copy of them is made by.
pub(super) fn is_narrow(data_type: &DataType) -> bool {
    match data_type {
        DataType::List(item) | DataType::LargeList(item) | DataType::FixedSizeList(item, _) => {
            is_narrow(item.data_type())
        }
        other => kept_width(other).is_some_and(|bytes| bytes < ELEMENT),
    }
}

/// Bytes of a result.
pub(super) fn kept(array: &dyn Array) -> Result<u64> {
    // Texts of views are new in a column of them; in lists they are copies, which share.
    let texts = match array.data_type() {
        DataType::Utf8View => array.as_string_view().total_bytes_len() as u64,
        DataType::BinaryView => array.as_binary_view().total_bytes_len() as u64,
        _ => 0,
    };
    let rest = match total(array, &KEPT) {
        Some(bytes) => bytes,
        None => sums(array, &KEPT)?.into_iter().fold(0, u64::saturating_add),
    };
    Ok(rest.saturating_add(texts))
}

/// Bytes that the values in a list have as text.
pub(super) fn printed(arg: &ColumnarValue) -> Result<Column<u64>> {
    of_elements(arg, &PRINTED)
}

/// Bytes of all texts and binaries of `rows` rows, at most; None: it takes a look at each of them.
pub(super) fn all_lengths(arg: &ColumnarValue, rows: usize) -> Result<Option<u64>> {
    match arg.data_type() {
        DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View => all(arg, rows, &TEXTS),
        DataType::Binary | DataType::LargeBinary | DataType::BinaryView => all(arg, rows, &TEXTS),
        _ => Ok(None),
    }
}

/// The sum of [`widths`] of `rows` rows, at most; None: it takes a look at each of them.
pub(super) fn all_widths(arg: &ColumnarValue, rows: usize) -> Result<Option<u64>> {
    all(arg, rows, &WIDTHS)
}

/// The largest of [`counts`]; None: it takes a conversion.
pub(super) fn largest_count(arg: &ColumnarValue) -> Result<Option<u64>> {
    Ok(match arg {
        ColumnarValue::Scalar(_) => Some(counts(arg)?.at(0)),
        ColumnarValue::Array(array) => {
            array.as_primitive_opt::<Int64Type>().map(|numbers| count(compute::max(numbers)))
        }
    })
}

/// Values in a list that are no lists themselves.
pub(super) fn leaves(arg: &ColumnarValue) -> Result<Column<u64>> {
    of_elements(arg, &LEAVES)
}

fn of_elements(arg: &ColumnarValue, measure: &Measure) -> Result<Column<u64>> {
    Ok(match arg {
        ColumnarValue::Scalar(value) => Column::Same(first(&sums(value.to_array()?.as_ref(), measure)?)),
        ColumnarValue::Array(array) => Column::Each(sums(array.as_ref(), measure)?),
    })
}

fn all(arg: &ColumnarValue, rows: usize, measure: &Measure) -> Result<Option<u64>> {
    Ok(match arg {
        ColumnarValue::Scalar(value) => {
            let one = match ((measure.same)(&value.data_type()), value.try_as_str()) {
                (Some(one), _) => one,
                (None, Some(text)) => text.map_or(0, str::len) as u64 + measure.entry,
                (None, None) => first(&sums(value.to_array()?.as_ref(), measure)?),
            };
            Some(one.saturating_mul(rows as u64))
        }
        ColumnarValue::Array(array) => total(array.as_ref(), measure),
    })
}

fn count(number: Option<i64>) -> u64 {
    number.and_then(|number| u64::try_from(number).ok()).unwrap_or(0)
}

fn first(numbers: &[u64]) -> u64 {
    numbers.first().copied().unwrap_or(0)
}

fn integers_of(array: &ArrayRef) -> Result<Vec<Option<i64>>> {
    let numbers = cast(array.as_ref(), &DataType::Int64)?;
    Ok(numbers.as_primitive::<Int64Type>().iter().collect())
}

fn lengths_of(array: &dyn Array) -> Result<Vec<u64>> {
    if !has_length(array.data_type()) {
        return Ok(vec![0; array.len()]);
    }
    Ok(integers_of(&length(array)?)?.into_iter().map(count).collect())
}

fn has_length(data_type: &DataType) -> bool {
    match data_type {
        DataType::Dictionary(_, values) => has_length(values),
        DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View => true,
        DataType::Binary | DataType::LargeBinary | DataType::BinaryView | DataType::FixedSizeBinary(_) => {
            true
        }
        DataType::List(_) | DataType::LargeList(_) | DataType::FixedSizeList(_, _) => true,
        DataType::ListView(_) | DataType::LargeListView(_) | DataType::Map(_, _) => true,
        _ => false,
    }
}

/// As [`kept_width`], with the index that a copy is made by.
fn element_width(data_type: &DataType) -> Option<u64> {
    match data_type {
        DataType::FixedSizeList(item, size) => {
            Some(u64::try_from(*size).ok()?.saturating_mul(element_width(item.data_type())?))
        }
        DataType::Dictionary(_, values) => element_width(values),
        other => Some(kept_width(other)?.max(ELEMENT)),
    }
}

/// What every value of a type takes in the array of a list; None: it depends on the value.
fn kept_width(data_type: &DataType) -> Option<u64> {
    match data_type {
        DataType::Null => Some(0),
        DataType::Boolean => Some(1),
        // Copies of a view share its text.
        DataType::Utf8View | DataType::BinaryView => Some(ENTRY),
        DataType::FixedSizeBinary(bytes) => u64::try_from(*bytes).ok(),
        DataType::FixedSizeList(item, size) => {
            Some(u64::try_from(*size).ok()?.saturating_mul(kept_width(item.data_type())?))
        }
        DataType::Dictionary(_, values) => kept_width(values),
        other => Some(other.primitive_width()? as u64),
    }
}

/// What every value of a type has as text at most; None: it depends on the value.
fn printed_width(data_type: &DataType) -> Option<u64> {
    match data_type {
        DataType::Null => Some(0),
        DataType::Float64 => None,
        DataType::Float32 => Some(50),
        DataType::Decimal128(_, _) | DataType::Decimal256(_, _) => Some(160),
        DataType::Interval(_) => Some(120),
        DataType::FixedSizeBinary(bytes) => Some(u64::try_from(*bytes).ok()?.saturating_mul(2)),
        DataType::FixedSizeList(item, size) => {
            Some(u64::try_from(*size).ok()?.saturating_mul(printed_width(item.data_type())?))
        }
        DataType::Dictionary(_, values) => match values.as_ref() {
            DataType::Float64 => Some(FLOAT),
            values => printed_width(values),
        },
        other => (other.is_primitive() || *other == DataType::Boolean).then_some(40),
    }
}

fn printed_float(float: f64) -> u64 {
    match float.abs() {
        ordinary if ordinary == 0.0 || (1e-7..1e17).contains(&ordinary) => ORDINARY_FLOAT,
        _ => FLOAT,
    }
}

fn leaves_in(data_type: &DataType) -> Option<u64> {
    match data_type {
        DataType::FixedSizeList(item, size) => {
            Some(u64::try_from(*size).ok()?.saturating_mul(leaves_in(item.data_type())?))
        }
        DataType::List(_) | DataType::LargeList(_) | DataType::Struct(_) | DataType::Map(_, _) => None,
        _ => Some(1),
    }
}

/// For each row the sum over the values in it.
fn sums(array: &dyn Array, measure: &Measure) -> Result<Vec<u64>> {
    if let Some(one) = (measure.same)(array.data_type()) {
        return Ok(vec![one; array.len()]);
    }
    Ok(match array.data_type() {
        DataType::List(_) => sums_of_lists(array.as_list::<i32>(), measure)?,
        DataType::LargeList(_) => sums_of_lists(array.as_list::<i64>(), measure)?,
        DataType::FixedSizeList(_, size) => {
            let size = usize::try_from(*size).unwrap_or(0);
            let running = running(&sums(array.as_fixed_size_list().values().as_ref(), measure)?);
            (0..array.len()).map(|row| between(&running, row * size, (row + 1) * size)).collect()
        }
        DataType::Map(_, _) => {
            let map = array.as_map();
            let (first, last) = ends(map.offsets());
            let running = running(&sums(&map.entries().slice(first, last - first), measure)?);
            map.offsets()
                .windows(2)
                .map(|ends| between(&running, ends[0].as_usize() - first, ends[1].as_usize() - first))
                .collect()
        }
        DataType::Struct(_) => {
            let mut rows = vec![0_u64; array.len()];
            for member in array.as_struct().columns() {
                for (row, sum) in rows.iter_mut().zip(sums(member.as_ref(), measure)?) {
                    *row = row.saturating_add(sum);
                }
            }
            rows
        }
        // Only where they are printed is a float not like any other.
        DataType::Float64 => {
            array.as_primitive::<Float64Type>().values().iter().copied().map(printed_float).collect()
        }
        _ => lengths_of(array)?.into_iter().map(|bytes| bytes + measure.entry).collect(),
    })
}

fn sums_of_lists<O: OffsetSizeTrait>(lists: &GenericListArray<O>, measure: &Measure) -> Result<Vec<u64>> {
    let ends = lists.offsets().windows(2).map(|ends| (ends[0].as_usize(), ends[1].as_usize()));
    let entry = measure.entry;
    if let Some(one) = (measure.same)(&lists.value_type()) {
        return Ok(ends
            .map(|(from, to)| entry.saturating_add(one.saturating_mul((to - from) as u64)))
            .collect());
    }
    // Of a slice, not the lists before and behind it.
    let (first, last) = self::ends(lists.offsets());
    let running = running(&sums(lists.values().slice(first, last - first).as_ref(), measure)?);
    Ok(ends.map(|(from, to)| entry.saturating_add(between(&running, from - first, to - first))).collect())
}

/// The sum over all rows, at most, without anything for each row but the lengths of views; None: not to be had so.
fn total(array: &dyn Array, measure: &Measure) -> Option<u64> {
    let rows = array.len() as u64;
    if let Some(one) = (measure.same)(array.data_type()) {
        return Some(one.saturating_mul(rows));
    }
    let content = match array.data_type() {
        DataType::Utf8 => bytes(array.as_string::<i32>().offsets()),
        DataType::LargeUtf8 => bytes(array.as_string::<i64>().offsets()),
        DataType::Binary => bytes(array.as_binary::<i32>().offsets()),
        DataType::LargeBinary => bytes(array.as_binary::<i64>().offsets()),
        DataType::Utf8View => array.as_string_view().total_bytes_len() as u64,
        DataType::BinaryView => array.as_binary_view().total_bytes_len() as u64,
        DataType::List(_) => total_of_lists(array.as_list::<i32>(), measure)?,
        DataType::LargeList(_) => total_of_lists(array.as_list::<i64>(), measure)?,
        DataType::FixedSizeList(_, _) => return total(array.as_fixed_size_list().values().as_ref(), measure),
        DataType::Struct(_) => {
            let members = array.as_struct().columns().iter();
            return members
                .map(|member| total(member.as_ref(), measure))
                .try_fold(0_u64, |sum, member| Some(sum.saturating_add(member?)));
        }
        _ => return None,
    };
    Some(content.saturating_add(measure.entry.saturating_mul(rows)))
}

fn total_of_lists<O: OffsetSizeTrait>(lists: &GenericListArray<O>, measure: &Measure) -> Option<u64> {
    let (first, last) = ends(lists.offsets());
    total(lists.values().slice(first, last - first).as_ref(), measure)
}

/// Where the first row begins and the last one ends.
fn ends<O: ArrowNativeType>(offsets: &OffsetBuffer<O>) -> (usize, usize) {
    match (offsets.first(), offsets.last()) {
        (Some(first), Some(last)) => (first.as_usize(), last.as_usize()),
        _ => (0, 0),
    }
}

fn bytes<O: ArrowNativeType>(offsets: &OffsetBuffer<O>) -> u64 {
    let (first, last) = ends(offsets);
    (last - first) as u64
}

/// The sum of the values before each, and of all.
fn running(values: &[u64]) -> Vec<u64> {
    let mut sum = 0_u64;
    let before = values.iter().map(|value| {
        sum = sum.saturating_add(*value);
        sum
    });
    std::iter::once(0).chain(before).collect()
}

fn between(running: &[u64], from: usize, to: usize) -> u64 {
    match (running.get(from), running.get(to)) {
        (Some(from), Some(to)) => to.saturating_sub(*from),
        _ => 0,
    }
}
