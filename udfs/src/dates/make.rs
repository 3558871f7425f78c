//! Timestamps and intervals from numbers.

use std::sync::Arc;

use chrono::{NaiveDate, NaiveTime};
use datafusion::arrow::array::{ArrayRef, IntervalMonthDayNanoBuilder, TimestampMicrosecondBuilder};
use datafusion::arrow::datatypes::{DataType, IntervalMonthDayNano, IntervalUnit, TimeUnit};
use datafusion::common::Result;

use crate::function::{
    Call, Kind, Spec, booleans, interval, interval_out_of_range, invalid, naive, out_of_range,
};

const DAY_NANOS: i64 = 86_400_000_000_000;

/// TIMESTAMP for each row, from microseconds since 1970.
pub(super) fn timestamps(call: &Call<'_>, of: impl Fn(usize) -> Result<Option<i64>>) -> Result<ArrayRef> {
    let mut out = TimestampMicrosecondBuilder::with_capacity(call.rows());
    for row in 0..call.rows() {
        let micros = of(row)?;
        if let Some(micros) = micros {
            naive(micros)?;
        }
        out.append_option(micros);
    }
    Ok(Arc::new(out.finish()))
}

/// INTERVAL for each row.
pub(super) fn intervals(
    call: &Call<'_>,
    of: impl Fn(usize) -> Result<Option<IntervalMonthDayNano>>,
) -> Result<ArrayRef> {
    let mut out = IntervalMonthDayNanoBuilder::with_capacity(call.rows());
    for row in 0..call.rows() {
        out.append_option(of(row)?);
    }
    Ok(Arc::new(out.finish()))
}

pub(super) const INTERVAL: DataType = DataType::Interval(IntervalUnit::MonthDayNano);

/// An interval of whole months, days or microseconds.
macro_rules! whole {
    ($syntax:literal, $does:literal, $example:literal, $months:literal, $days:literal, $micros:literal) => {
        Spec::new(
            $syntax,
            &[&[Kind::Integer]],
            |_| INTERVAL,
            |call| times(call, $months, $days, $micros),
            $does,
            $example,
        )
    };
}

fn times(call: &Call<'_>, months: i64, days: i64, micros: i64) -> Result<ArrayRef> {
    let counts = call.integers(0)?;
    intervals(call, |row| {
        let Some(count) = counts.at(row) else { return Ok(None) };
        let part = |of: i64| count.checked_mul(of).ok_or_else(interval_out_of_range);
        interval(part(months)?, part(days)?, part(micros)?).map(Some)
    })
}

/// `micros` for each 1 of a DOUBLE.
fn fractions(call: &Call<'_>, micros: f64) -> Result<ArrayRef> {
    let counts = call.numbers(0)?;
    intervals(call, |row| {
        let Some(count) = counts.at(row) else { return Ok(None) };
        let micros = (count * micros).round();
        // Where nanoseconds have no room either; NaN is no number of them.
        if micros.is_nan() || micros.abs() >= 9.2e15 {
            return Err(interval_out_of_range());
        }
        interval(0, 0, micros as i64).map(Some)
    })
}

const PARTS: &[&[Kind]] = {
    use Kind::{Integer, Number};
    &[
        &[],
        &[Integer],
        &[Integer, Integer],
        &[Integer, Integer, Integer],
        &[Integer, Integer, Integer, Integer],
        &[Integer, Integer, Integer, Integer, Integer],
        &[Integer, Integer, Integer, Integer, Integer, Integer],
        &[Integer, Integer, Integer, Integer, Integer, Integer, Number],
    ]
};

/// An interval of years, months, weeks, days, hours, minutes and seconds; those that are not given are 0.
fn of_parts(call: &Call<'_>) -> Result<ArrayRef> {
    let whole = (0..call.len().min(6)).map(|at| call.integers(at)).collect::<Result<Vec<_>>>()?;
    let seconds = (call.len() > 6).then(|| call.numbers(6)).transpose()?;
    intervals(call, |row| {
        let mut parts = [0_i64; 6];
        for (part, given) in parts.iter_mut().zip(&whole) {
            let Some(given) = given.at(row) else { return Ok(None) };
            *part = given;
        }
        let seconds = match &seconds {
            Some(seconds) => match seconds.at(row) {
                Some(seconds) => seconds,
                None => return Ok(None),
            },
            None => 0.0,
        };
        let micros = (seconds * 1e6).round();
        if micros.is_nan() || micros.abs() >= 9.2e15 {
            return Err(interval_out_of_range());
        }
        let [years, months, weeks, days, hours, minutes] = parts;
        let sum = |of: &[(i64, i64)]| {
            let mut parts = of.iter().map(|(count, of)| count.checked_mul(*of));
            parts.try_fold(0_i64, |sum, part| sum.checked_add(part?)).ok_or_else(interval_out_of_range)
        };
        let micros = sum(&[(hours, 3_600_000_000), (minutes, 60_000_000), (micros as i64, 1)])?;
        interval(sum(&[(years, 12), (months, 1)])?, sum(&[(weeks, 7), (days, 1)])?, micros).map(Some)
    })
}

pub(super) fn functions() -> Vec<Spec> {
    let mut all = vec![
        Spec::new(
            "make_interval(years, months, weeks, days, hours, mins, secs)",
            PARTS,
            |_| INTERVAL,
            of_parts,
            "The interval of these parts, of which any may be left out at the end, or be given by their names; secs may have a fraction. As in PostgreSQL.",
            "SELECT TIMESTAMP '2024-02-03' + make_interval(days => 1, hours => 2)  -- 2024-02-04T02:00:00",
        ),
        whole!(
            "to_years(n)",
            "An interval of n years.",
            "SELECT DATE '2024-02-03' + to_years(1)  -- 2025-02-03",
            12,
            0,
            0
        ),
        whole!(
            "to_quarters(n)",
            "An interval of n quarters.",
            "SELECT DATE '2024-02-03' + to_quarters(1)  -- 2024-05-03",
            3,
            0,
            0
        ),
        whole!(
            "to_months(n)",
            "An interval of n months.",
            "SELECT DATE '2024-01-31' + to_months(1)  -- 2024-02-29",
            1,
            0,
            0
        ),
        whole!(
            "to_weeks(n)",
            "An interval of n weeks.",
            "SELECT DATE '2024-02-03' + to_weeks(1)  -- 2024-02-10",
            0,
            7,
            0
        ),
        whole!(
            "to_days(n)",
            "An interval of n days.",
            "SELECT DATE '2024-02-03' + to_days(3)  -- 2024-02-06",
            0,
            1,
            0
        ),
        whole!(
            "to_hours(n)",
            "An interval of n hours.",
            "SELECT TIMESTAMP '2024-02-03' + to_hours(3)  -- 2024-02-03T03:00:00",
            0,
            0,
            3_600_000_000
        ),
        whole!(
            "to_minutes(n)",
            "An interval of n minutes.",
            "SELECT TIMESTAMP '2024-02-03' + to_minutes(90)  -- 2024-02-03T01:30:00",
            0,
            0,
            60_000_000
        ),
        whole!(
            "to_microseconds(n)",
            "An interval of n microseconds.",
            "SELECT TIMESTAMP '2024-02-03' + to_microseconds(1000000)  -- 2024-02-03T00:00:01",
            0,
            0,
            1
        ),
        Spec::new(
            "to_seconds(n)",
            &[&[Kind::Number]],
            |_| INTERVAL,
            |call| fractions(call, 1e6),
            "An interval of n seconds, which may have a fraction.",
            "SELECT TIMESTAMP '2024-02-03' + to_seconds(1.5)  -- 2024-02-03T00:00:01.500",
        ),
        Spec::new(
            "to_milliseconds(n)",
            &[&[Kind::Number]],
            |_| INTERVAL,
            |call| fractions(call, 1e3),
            "An interval of n milliseconds, which may have a fraction.",
            "SELECT TIMESTAMP '2024-02-03' + to_milliseconds(500)  -- 2024-02-03T00:00:00.500",
        ),
        Spec::new(
            "make_timestamp(year, month, day, hour, minute, second)",
            &[
                &[Kind::Integer, Kind::Integer, Kind::Integer, Kind::Integer, Kind::Integer, Kind::Number],
                &[Kind::Integer],
            ],
            |_| DataType::Timestamp(TimeUnit::Microsecond, None),
            make_timestamp,
            "A TIMESTAMP of its parts; the second may have a fraction. Of one number: microseconds since 1970-01-01 00:00:00.",
            "SELECT make_timestamp(2024, 2, 3, 4, 5, 6.5)  -- 2024-02-03T04:05:06.500",
        ),
        Spec::new(
            "isfinite(x)",
            &[&[Kind::Number], &[Kind::Instant], &[Kind::Interval]],
            |_| DataType::Boolean,
            is_finite,
            "Whether a number is neither infinite nor NaN; dates, timestamps and intervals always are finite.",
            "SELECT isfinite('NaN'::DOUBLE)  -- false",
        ),
    ];
    all.extend(justified());
    all
}

fn is_finite(call: &Call<'_>) -> Result<ArrayRef> {
    if call.type_of(0)? == DataType::Float64 {
        let values = call.numbers(0)?;
        return booleans(call, |row| Ok(values.at(row).map(f64::is_finite)));
    }
    let values = call.values(0)?;
    booleans(call, |row| Ok((!values.is_null(row)).then_some(true)))
}

fn make_timestamp(call: &Call<'_>) -> Result<ArrayRef> {
    if call.len() == 1 {
        let micros = call.integers(0)?;
        return timestamps(call, |row| Ok(micros.at(row)));
    }
    timestamps(call, clocks(call)?)
}

/// What clocks show in a row, in microseconds since 1970: by the first six arguments of `call`, year to second.
pub(super) fn clocks(call: &Call<'_>) -> Result<impl Fn(usize) -> Result<Option<i64>>> {
    let (years, months, days) = (call.integers(0)?, call.integers(1)?, call.integers(2)?);
    let (hours, minutes, seconds) = (call.integers(3)?, call.integers(4)?, call.numbers(5)?);
    Ok(move |row: usize| -> Result<Option<i64>> {
        let date = (years.at(row), months.at(row), days.at(row));
        let time = (hours.at(row), minutes.at(row), seconds.at(row));
        let ((Some(year), Some(month), Some(day)), (Some(hour), Some(minute), Some(second))) = (date, time)
        else {
            return Ok(None);
        };
        let wrong = || {
            let message = format!("there is no timestamp {year}-{month}-{day} {hour}:{minute}:{second}");
            invalid("22008", message)
        };
        let small = |part: i64| u32::try_from(part).unwrap_or(u32::MAX);
        let date = i32::try_from(year)
            .ok()
            .and_then(|year| NaiveDate::from_ymd_opt(year, small(month), small(day)))
            .ok_or_else(wrong)?;
        let time = NaiveTime::from_hms_opt(small(hour), small(minute), 0).ok_or_else(wrong)?;
        if !(0.0..60.0).contains(&second) {
            return Err(wrong());
        }
        let micros = (second * 1e6).round() as i64;
        let base = date.and_time(time).and_utc().timestamp_micros();
        base.checked_add(micros).map(Some).ok_or_else(out_of_range)
    })
}

fn justified() -> Vec<Spec> {
    vec![
        Spec::new(
            "justify_days(interval)",
            &[&[Kind::Interval]],
            |_| INTERVAL,
            |call| each(call, justify_days),
            "The interval with each 30 days as a month, as in PostgreSQL.",
            "SELECT justify_days(INTERVAL '35 days') = INTERVAL '1 month 5 days'  -- true",
        ),
        Spec::new(
            "justify_hours(interval)",
            &[&[Kind::Interval]],
            |_| INTERVAL,
            |call| each(call, justify_hours),
            "The interval with each 24 hours as a day, as in PostgreSQL.",
            "SELECT justify_hours(INTERVAL '50 hours') = INTERVAL '2 days 2 hours'  -- true",
        ),
        Spec::new(
            "justify_interval(interval)",
            &[&[Kind::Interval]],
            |_| INTERVAL,
            |call| each(call, justify_interval),
            "The interval by justify_hours and justify_days, all its parts with one sign, as in PostgreSQL.",
            "SELECT justify_interval(INTERVAL '1 month -1 hour') = INTERVAL '29 days 23 hours'  -- true",
        ),
    ]
}

/// Months, days and nanoseconds, wide enough to carry into.
type Parts = (i64, i64, i64);

fn each(call: &Call<'_>, of: fn(Parts) -> Parts) -> Result<ArrayRef> {
    let given = call.intervals(0)?;
    intervals(call, |row| {
        let Some(given) = given.at(row) else { return Ok(None) };
        let (months, days, nanos) = of((given.months.into(), given.days.into(), given.nanoseconds));
        match (i32::try_from(months), i32::try_from(days)) {
            (Ok(months), Ok(days)) => Ok(Some(IntervalMonthDayNano::new(months, days, nanos))),
            _ => Err(interval_out_of_range()),
        }
    })
}

fn justify_hours((months, days, nanos): Parts) -> Parts {
    let (days, nanos) = (days + nanos / DAY_NANOS, nanos % DAY_NANOS);
    if days > 0 && nanos < 0 {
        (months, days - 1, nanos + DAY_NANOS)
    } else if days < 0 && nanos > 0 {
        (months, days + 1, nanos - DAY_NANOS)
    } else {
        (months, days, nanos)
    }
}

fn justify_days((months, days, nanos): Parts) -> Parts {
    let (months, days) = (months + days / 30, days % 30);
    if months > 0 && days < 0 {
        (months - 1, days + 30, nanos)
    } else if months < 0 && days > 0 {
        (months + 1, days - 30, nanos)
    } else {
        (months, days, nanos)
    }
}

fn justify_interval((months, days, nanos): Parts) -> Parts {
    let (mut days, mut nanos) = (days + nanos / DAY_NANOS, nanos % DAY_NANOS);
    let mut months = months + days / 30;
    days %= 30;
    if months > 0 && (days < 0 || (days == 0 && nanos < 0)) {
        days += 30;
        months -= 1;
    } else if months < 0 && (days > 0 || (days == 0 && nanos > 0)) {
        days -= 30;
        months += 1;
    }
    if days > 0 && nanos < 0 {
        nanos += DAY_NANOS;
        days -= 1;
    } else if days < 0 && nanos > 0 {
        nanos -= DAY_NANOS;
        days += 1;
    }
    (months, days, nanos)
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOUR: i64 = DAY_NANOS / 24;

    #[test]
    fn intervals_carry() {
        assert_eq!(justify_days((0, 35, 0)), (1, 5, 0));
        assert_eq!(justify_days((1, -1, 0)), (0, 29, 0));
        assert_eq!(justify_hours((0, 0, 50 * HOUR)), (0, 2, 2 * HOUR));
        assert_eq!(justify_interval((1, 0, -HOUR)), (0, 29, 23 * HOUR));
        assert_eq!(justify_interval((-1, 0, HOUR)), (0, -29, -23 * HOUR));
        assert_eq!(justify_interval((0, i32::MAX.into(), i64::MAX)).0, 71_586_346);
    }
}
