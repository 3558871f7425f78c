//! The arguments of one call, row by row: columns, or constants that are in every row.
//!
//! Owns: access without copies of constants, days and times of any unit and zone. Does not own: conversion to the types of a call,
//! which DataFusion does by what the function takes.

use std::sync::Arc;

use chrono::{DateTime, MappedLocalTime, NaiveDateTime, Offset, TimeZone};
use datafusion::arrow::array::timezone::Tz;
use datafusion::arrow::array::{
    Array, ArrayRef, AsArray, BinaryViewArray, Int64Array, PrimitiveArray, StringViewArray,
};
use datafusion::arrow::datatypes::{
    ArrowPrimitiveType, DataType, Date32Type, Float64Type, Int64Type, IntervalMonthDayNano,
    IntervalMonthDayNanoType, TimeUnit, TimestampMicrosecondType, TimestampMillisecondType,
    TimestampNanosecondType, TimestampSecondType,
};
use datafusion::common::{Result, ScalarValue, internal_err};
use datafusion::logical_expr::ColumnarValue;

use super::invalid;
use crate::zones::utc_of;

/// One call of a function.
pub(crate) struct Call<'a> {
    name: &'static str,
    args: &'a [ColumnarValue],
    rows: usize,
    returns: &'a DataType,
    limit: u64,
}

impl<'a> Call<'a> {
    pub(super) fn new(
        name: &'static str,
        args: &'a [ColumnarValue],
        rows: usize,
        returns: &'a DataType,
        limit: u64,
    ) -> Self {
        Self { name, args, rows, returns, limit }
    }

    /// Name of the function.
    pub(crate) fn name(&self) -> &'static str {
        self.name
    }

    /// How many rows to compute.
    pub(crate) fn rows(&self) -> usize {
        self.rows
    }

    /// How many arguments there are.
    pub(crate) fn len(&self) -> usize {
        self.args.len()
    }

    /// The type to answer with.
    pub(crate) fn returns(&self) -> &'a DataType {
        self.returns
    }

    /// Bytes that may be made for these rows: one value's limit, and what the arguments have.
    pub(crate) fn limit(&self) -> u64 {
        let there = self.args.iter().map(|arg| match arg {
            ColumnarValue::Array(array) => array.get_array_memory_size() as u64,
            ColumnarValue::Scalar(_) => 0,
        });
        self.limit.saturating_add(there.sum())
    }

    fn arg(&self, at: usize) -> Result<&'a ColumnarValue> {
        match self.args.get(at) {
            Some(arg) => Ok(arg),
            None => internal_err!("{} has no argument {at}", self.name),
        }
    }

    /// The type of an argument.
    pub(crate) fn type_of(&self, at: usize) -> Result<DataType> {
        Ok(self.arg(at)?.data_type())
    }

    /// Texts.
    pub(crate) fn texts(&self, at: usize) -> Result<Texts<'a>> {
        match self.arg(at)? {
            ColumnarValue::Scalar(value) => Ok(Texts::Same(value.try_as_str().flatten())),
            ColumnarValue::Array(array) => match array.as_string_view_opt() {
                Some(array) => Ok(Texts::Each(array)),
                None => internal_err!("{} was given {}", self.name, array.data_type()),
            },
        }
    }

    /// Bytes; those of a text where that is the argument.
    pub(crate) fn bytes(&self, at: usize) -> Result<Bytes<'a>> {
        match self.arg(at)? {
            ColumnarValue::Scalar(ScalarValue::BinaryView(bytes)) => Ok(Bytes::Same(bytes.as_deref())),
            ColumnarValue::Scalar(value) => Ok(Bytes::Same(value.try_as_str().flatten().map(str::as_bytes))),
            ColumnarValue::Array(array) => match (array.as_binary_view_opt(), array.as_string_view_opt()) {
                (Some(array), _) => Ok(Bytes::Each(array)),
                (None, Some(array)) => Ok(Bytes::OfTexts(array)),
                (None, None) => internal_err!("{} was given {}", self.name, array.data_type()),
            },
        }
    }

    fn primitives<T: ArrowPrimitiveType>(&self, at: usize) -> Result<Primitives<'a, T>> {
        match self.arg(at)? {
            ColumnarValue::Scalar(value) => {
                let one = value.to_array()?;
                match one.as_primitive_opt::<T>() {
                    Some(one) => Ok(Primitives::Same(one.is_valid(0).then(|| one.value(0)))),
                    None => internal_err!("{} was given {}", self.name, one.data_type()),
                }
            }
            ColumnarValue::Array(array) => match array.as_primitive_opt::<T>() {
                Some(array) => Ok(Primitives::Each(array)),
                None => internal_err!("{} was given {}", self.name, array.data_type()),
            },
        }
    }

    /// Whole numbers.
    pub(crate) fn integers(&self, at: usize) -> Result<Primitives<'a, Int64Type>> {
        self.primitives(at)
    }

    /// Numbers.
    pub(crate) fn numbers(&self, at: usize) -> Result<Primitives<'a, Float64Type>> {
        self.primitives(at)
    }

    /// Intervals.
    pub(crate) fn intervals(&self, at: usize) -> Result<Primitives<'a, IntervalMonthDayNanoType>> {
        self.primitives(at)
    }

    /// Dates or timestamps.
    pub(crate) fn instants(&self, at: usize) -> Result<Instants> {
        Instants::new(self.arg(at)?, self.name)
    }

    /// Values of any type: one where it is a constant, whatever the row.
    pub(crate) fn values(&self, at: usize) -> Result<Values> {
        Ok(match self.arg(at)? {
            ColumnarValue::Scalar(value) => Values { array: value.to_array()?, is_constant: true },
            ColumnarValue::Array(array) => Values { array: Arc::clone(array), is_constant: false },
        })
    }
}

/// Texts of an argument.
#[derive(Clone, Copy)]
pub(crate) enum Texts<'a> {
    /// A constant.
    Same(Option<&'a str>),
    /// A column.
    Each(&'a StringViewArray),
}

impl<'a> Texts<'a> {
    /// That of a row.
    pub(crate) fn at(&self, row: usize) -> Option<&'a str> {
        match self {
            Self::Same(text) => *text,
            Self::Each(texts) => texts.is_valid(row).then(|| texts.value(row)),
        }
    }
}

/// Bytes of an argument.
#[derive(Clone, Copy)]
pub(crate) enum Bytes<'a> {
    /// A constant.
    Same(Option<&'a [u8]>),
    /// A column.
    Each(&'a BinaryViewArray),
    /// A column of texts.
    OfTexts(&'a StringViewArray),
}

impl<'a> Bytes<'a> {
    /// Those of a row.
    pub(crate) fn at(&self, row: usize) -> Option<&'a [u8]> {
        match self {
            Self::Same(bytes) => *bytes,
            Self::Each(bytes) => bytes.is_valid(row).then(|| bytes.value(row)),
            Self::OfTexts(texts) => texts.is_valid(row).then(|| texts.value(row).as_bytes()),
        }
    }
}

/// Numbers or intervals of an argument.
pub(crate) enum Primitives<'a, T: ArrowPrimitiveType> {
    /// A constant.
    Same(Option<T::Native>),
    /// A column.
    Each(&'a PrimitiveArray<T>),
}

impl<T: ArrowPrimitiveType> Primitives<'_, T> {
    /// That of a row.
    pub(crate) fn at(&self, row: usize) -> Option<T::Native> {
        match self {
            Self::Same(value) => *value,
            Self::Each(values) => values.is_valid(row).then(|| values.value(row)),
        }
    }
}

/// Values of any type.
pub(crate) struct Values {
    array: ArrayRef,
    is_constant: bool,
}

impl Values {
    /// Where in the array the value of a row is.
    pub(crate) fn at(&self, row: usize) -> usize {
        if self.is_constant { 0 } else { row }
    }

    /// Whether the value of a row is NULL.
    pub(crate) fn is_null(&self, row: usize) -> bool {
        // Where all are, there is no mask of those that are.
        self.array.data_type().is_null() || self.array.is_null(self.at(row))
    }

    /// The values.
    pub(crate) fn array(&self) -> &ArrayRef {
        &self.array
    }
}

/// What dates and timestamps count.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Unit {
    /// Days, of dates.
    Day,
    /// Of timestamps.
    Time(TimeUnit),
}

impl Unit {
    /// Microseconds of `value` of them; None when there are too many.
    fn to_micros(self, value: i64) -> Option<i64> {
        match self {
            Self::Day => value.checked_mul(86_400_000_000),
            Self::Time(TimeUnit::Second) => value.checked_mul(1_000_000),
            Self::Time(TimeUnit::Millisecond) => value.checked_mul(1_000),
            Self::Time(TimeUnit::Microsecond) => Some(value),
            Self::Time(TimeUnit::Nanosecond) => Some(value.div_euclid(1_000)),
        }
    }

    /// How many of them `micros` are, rounded down; None when there are too many.
    fn of_micros(self, micros: i64) -> Option<i64> {
        match self {
            Self::Day => Some(micros.div_euclid(86_400_000_000)),
            Self::Time(TimeUnit::Second) => Some(micros.div_euclid(1_000_000)),
            Self::Time(TimeUnit::Millisecond) => Some(micros.div_euclid(1_000)),
            Self::Time(TimeUnit::Microsecond) => Some(micros),
            Self::Time(TimeUnit::Nanosecond) => micros.checked_mul(1_000),
        }
    }
}

/// Dates or timestamps of an argument.
pub(crate) struct Instants {
    values: Int64Array,
    is_constant: bool,
    unit: Unit,
    zone: Option<Tz>,
}

impl Instants {
    /// Those of an argument of the function `name`.
    pub(crate) fn new(arg: &ColumnarValue, name: &str) -> Result<Self> {
        let (array, is_constant) = match arg {
            ColumnarValue::Scalar(value) => (value.to_array()?, true),
            ColumnarValue::Array(array) => (Arc::clone(array), false),
        };
        let (values, unit, zone) = match array.data_type() {
            DataType::Date32 => (array.as_primitive::<Date32Type>().unary(i64::from), Unit::Day, None),
            DataType::Timestamp(unit, zone) => {
                let values = match unit {
                    TimeUnit::Second => array.as_primitive::<TimestampSecondType>().reinterpret_cast(),
                    TimeUnit::Millisecond => {
                        array.as_primitive::<TimestampMillisecondType>().reinterpret_cast()
                    }
                    TimeUnit::Microsecond => {
                        array.as_primitive::<TimestampMicrosecondType>().reinterpret_cast()
                    }
                    TimeUnit::Nanosecond => {
                        array.as_primitive::<TimestampNanosecondType>().reinterpret_cast()
                    }
                };
                let zone = zone.as_deref().map(str::parse::<Tz>).transpose()?;
                (values, Unit::Time(*unit), zone)
            }
            other => return internal_err!("{name} was given {other}"),
        };
        Ok(Self { values, is_constant, unit, zone })
    }

    /// Microseconds since 1970 in UTC.
    pub(crate) fn micros(&self, row: usize) -> Result<Option<i64>> {
        let row = if self.is_constant { 0 } else { row };
        if self.values.is_null(row) {
            return Ok(None);
        }
        self.unit.to_micros(self.values.value(row)).map(Some).ok_or_else(out_of_range)
    }

    /// As it is stored.
    pub(crate) fn stored(&self, row: usize) -> Option<i64> {
        let row = if self.is_constant { 0 } else { row };
        self.values.is_valid(row).then(|| self.values.value(row))
    }

    /// What the stored numbers count.
    pub(crate) fn unit(&self) -> Unit {
        self.unit
    }

    /// The time of a clock in the zone of the column; UTC where it has none.
    pub(crate) fn local(&self, row: usize) -> Result<Option<NaiveDateTime>> {
        let Some(micros) = self.micros(row)? else { return Ok(None) };
        let utc = naive(micros)?;
        match &self.zone {
            None => Ok(Some(utc)),
            Some(zone) => {
                let offset = zone.offset_from_utc_datetime(&utc).fix();
                utc.checked_add_offset(offset).map(Some).ok_or_else(out_of_range)
            }
        }
    }

    /// The zone of the column.
    pub(crate) fn zone(&self) -> Option<&Tz> {
        self.zone.as_ref()
    }

    /// What is stored for the time `local` of a clock in the zone, at which a span begins that the value of `row` is in. Of two moments at
    /// which clocks show it, the earlier, or where `splits` the last that the value is not before; where they skip it, the one at which
    /// they go on.
    pub(crate) fn begin_of(&self, local: NaiveDateTime, row: usize, splits: bool) -> Result<i64> {
        let utc = match &self.zone {
            None => Some(local),
            Some(zone) => match zone.from_local_datetime(&local) {
                MappedLocalTime::Single(found) => Some(found.naive_utc()),
                MappedLocalTime::Ambiguous(one, other) => {
                    let (one, other) = (one.naive_utc(), other.naive_utc());
                    let (first, second) = (one.min(other), one.max(other));
                    let reached =
                        self.micros(row)?.is_some_and(|at| at >= second.and_utc().timestamp_micros());
                    Some(if splits && reached { second } else { first })
                }
                MappedLocalTime::None => utc_of(zone, local),
            },
        };
        let micros = utc.ok_or_else(out_of_range)?.and_utc().timestamp_micros();
        self.unit.of_micros(micros).ok_or_else(out_of_range)
    }
}

/// Microseconds since 1970 as a day and a time.
pub(crate) fn naive(micros: i64) -> Result<NaiveDateTime> {
    DateTime::from_timestamp_micros(micros).map(|time| time.naive_utc()).ok_or_else(out_of_range)
}

/// A date that is too far away.
pub(crate) fn out_of_range() -> datafusion::error::DataFusionError {
    invalid("22008", "date or timestamp out of range")
}

/// An interval with parts that are too large.
pub(crate) fn interval_out_of_range() -> datafusion::error::DataFusionError {
    invalid("22008", "interval out of range")
}

/// An interval of months, days and microseconds.
pub(crate) fn interval(months: i64, days: i64, micros: i64) -> Result<IntervalMonthDayNano> {
    let made = (i32::try_from(months).ok(), i32::try_from(days).ok(), micros.checked_mul(1_000));
    match made {
        (Some(months), Some(days), Some(nanos)) => Ok(IntervalMonthDayNano::new(months, days, nanos)),
        _ => Err(interval_out_of_range()),
    }
}
