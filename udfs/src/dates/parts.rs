//! One part of a date or timestamp: `year(x)`, `dayname(x)`, `last_day(x)`, `epoch_ms(x)`.

use std::sync::Arc;

use chrono::{Datelike, NaiveDate, NaiveDateTime, Timelike};
use datafusion::arrow::array::{ArrayRef, Date32Builder};
use datafusion::arrow::datatypes::{DataType, TimeUnit};
use datafusion::common::Result;

use super::days_in_month;
use crate::function::{Call, Kind, Spec, TextRows, Unit, integers, numbers, out_of_range};

const TAKES: &[&[Kind]] = &[&[Kind::Instant]];
const DAY_MICROS: i64 = 86_400_000_000;

/// BIGINT from the time of a clock.
fn of_local(call: &Call<'_>, of: impl Fn(NaiveDateTime) -> i64) -> Result<ArrayRef> {
    let instants = call.instants(0)?;
    integers(call, |row| Ok(instants.local(row)?.map(&of)))
}

/// A function `$syntax` whose result is `$of` the time of a clock.
macro_rules! part {
    ($syntax:literal, $does:literal, $example:literal, $of:expr) => {
        Spec::new($syntax, TAKES, |_| DataType::Int64, |call| of_local(call, $of), $does, $example)
    };
}

/// Years of which a year that is no multiple of `of` has begun another.
fn begun(year: i32, of: i64) -> i64 {
    let year = i64::from(year);
    if year > 0 { (year - 1) / of + 1 } else { year / of - 1 }
}

fn sub_minute_nanos(time: &NaiveDateTime) -> i64 {
    i64::from(time.second()) * 1_000_000_000 + i64::from(time.nanosecond())
}

fn sunday_based(time: &NaiveDateTime) -> i64 {
    i64::from(time.weekday().num_days_from_sunday())
}

pub(super) fn functions() -> Vec<Spec> {
    let mut all = vec![
        part!("year(date)", "The year.", "SELECT year(DATE '2024-02-03')  -- 2024", |t| i64::from(t.year())),
        part!("quarter(date)", "The quarter, 1 to 4.", "SELECT quarter(DATE '2024-05-03')  -- 2", |t| {
            i64::from(t.month0() / 3 + 1)
        }),
        part!("month(date)", "The month, 1 to 12.", "SELECT month(DATE '2024-02-03')  -- 2", |t| {
            i64::from(t.month())
        }),
        part!("day(date)", "The day of the month.", "SELECT day(DATE '2024-02-03')  -- 3", |t| {
            i64::from(t.day())
        })
        .also(&["dayofmonth"]),
        part!(
            "hour(timestamp)",
            "The hour, 0 to 23.",
            "SELECT hour(TIMESTAMP '2024-02-03 04:05:06')  -- 4",
            |t| { i64::from(t.hour()) }
        ),
        part!(
            "minute(timestamp)",
            "The minute.",
            "SELECT minute(TIMESTAMP '2024-02-03 04:05:06')  -- 5",
            |t| { i64::from(t.minute()) }
        ),
        part!(
            "second(timestamp)",
            "The second, whole.",
            "SELECT second(TIMESTAMP '2024-02-03 04:05:06.7')  -- 6",
            |t| { i64::from(t.second()) }
        ),
        part!(
            "millisecond(timestamp)",
            "Milliseconds since the minute began.",
            "SELECT millisecond(TIMESTAMP '2024-02-03 04:05:06.7')  -- 6700",
            |t| sub_minute_nanos(&t) / 1_000_000
        ),
        part!(
            "microsecond(timestamp)",
            "Microseconds since the minute began.",
            "SELECT microsecond(TIMESTAMP '2024-02-03 04:05:06.7')  -- 6700000",
            |t| sub_minute_nanos(&t) / 1_000
        ),
        part!("week(date)", "The ISO week.", "SELECT week(DATE '2024-12-30')  -- 1", |t| {
            i64::from(t.iso_week().week())
        })
        .also(&["weekofyear"]),
        part!(
            "isoyear(date)",
            "The year of the ISO week.",
            "SELECT isoyear(DATE '2024-12-30')  -- 2025",
            |t| { i64::from(t.iso_week().year()) }
        ),
        part!("yearweek(date)", "ISO year and week.", "SELECT yearweek(DATE '2024-12-30')  -- 202501", |t| {
            i64::from(t.iso_week().year()) * 100 + i64::from(t.iso_week().week())
        }),
        part!(
            "isodow(date)",
            "The weekday, Monday 1 to Sunday 7.",
            "SELECT isodow(DATE '2024-02-04')  -- 7",
            |t| { i64::from(t.weekday().number_from_monday()) }
        ),
        part!(
            "dayofweek(date)",
            "The weekday, Sunday 0 to Saturday 6.",
            "SELECT dayofweek(DATE '2024-02-04')  -- 0",
            |t| sunday_based(&t)
        )
        .also(&["weekday"]),
        part!(
            "dayofyear(date)",
            "The day of the year, from 1.",
            "SELECT dayofyear(DATE '2024-02-03')  -- 34",
            |t| { i64::from(t.ordinal()) }
        ),
        part!("decade(date)", "The year divided by 10.", "SELECT decade(DATE '1999-01-01')  -- 199", |t| {
            i64::from(t.year()) / 10
        }),
        part!(
            "century(date)",
            "The century; 2000 is in the 20th.",
            "SELECT century(DATE '2000-01-01')  -- 20",
            |t| { begun(t.year(), 100) }
        ),
        part!("millennium(date)", "The millennium.", "SELECT millennium(DATE '2001-01-01')  -- 3", |t| {
            begun(t.year(), 1_000)
        }),
        part!(
            "days_in_month(date)",
            "How many days the month has.",
            "SELECT days_in_month(DATE '2024-02-03')  -- 29",
            |t| { i64::from(days_in_month(t.year(), t.month())) }
        ),
    ];
    all.extend(names());
    all.extend(epochs());
    all
}

/// Days of the week, from Sunday.
pub(crate) const DAYS: [&str; 7] =
    ["Sunday", "Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday"];
/// Months of the year.
pub(crate) const MONTHS: [&str; 12] = [
    "January",
    "February",
    "March",
    "April",
    "May",
    "June",
    "July",
    "August",
    "September",
    "October",
    "November",
    "December",
];

fn names() -> Vec<Spec> {
    vec![
        Spec::new(
            "dayname(date)",
            TAKES,
            |_| DataType::Utf8View,
            |call| {
                let instants = call.instants(0)?;
                let name = |t: NaiveDateTime| DAYS[t.weekday().num_days_from_sunday() as usize % 7];
                TextRows::parts(call, |row| Ok(instants.local(row)?.map(name)))
            },
            "The weekday's name in English.",
            "SELECT dayname(DATE '2024-02-03')  -- Saturday",
        ),
        Spec::new(
            "monthname(date)",
            TAKES,
            |_| DataType::Utf8View,
            |call| {
                let instants = call.instants(0)?;
                let name = |t: NaiveDateTime| MONTHS[t.month0() as usize % 12];
                TextRows::parts(call, |row| Ok(instants.local(row)?.map(name)))
            },
            "The month's name in English.",
            "SELECT monthname(DATE '2024-02-03')  -- February",
        ),
        Spec::new(
            "last_day(date)",
            TAKES,
            |_| DataType::Date32,
            last_day,
            "The last day of the month, a DATE.",
            "SELECT last_day(DATE '2024-02-03')  -- 2024-02-29",
        ),
    ]
}

fn last_day(call: &Call<'_>) -> Result<ArrayRef> {
    let instants = call.instants(0)?;
    let mut out = Date32Builder::with_capacity(call.rows());
    for row in 0..call.rows() {
        let last = |time: NaiveDateTime| {
            let (year, month) = (time.year(), time.month());
            NaiveDate::from_ymd_opt(year, month, days_in_month(year, month)).ok_or_else(out_of_range)
        };
        let last = instants.local(row)?.map(last).transpose()?;
        out.append_option(last.map(|day| day.num_days_from_ce() - 719_163));
    }
    Ok(Arc::new(out.finish()))
}

fn epochs() -> Vec<Spec> {
    vec![
        Spec::new(
            "epoch(timestamp)",
            TAKES,
            |_| DataType::Float64,
            |call| {
                let instants = call.instants(0)?;
                numbers(call, |row| Ok(instants.micros(row)?.map(|micros| micros as f64 / 1e6)))
            },
            "Seconds since 1970-01-01 00:00:00 UTC, a DOUBLE.",
            "SELECT epoch(TIMESTAMP '2024-01-01 00:00:00.5')  -- 1704067200.5",
        ),
        Spec::new(
            "epoch_ms(timestamp)",
            &[&[Kind::Instant], &[Kind::Integer]],
            |types| match types {
                [DataType::Int64] => DataType::Timestamp(TimeUnit::Microsecond, None),
                _ => DataType::Int64,
            },
            epoch_ms,
            "Milliseconds since 1970-01-01 00:00:00 UTC, rounded down; of a number of milliseconds, the TIMESTAMP.",
            "SELECT epoch_ms(TIMESTAMP '2024-01-01')  -- 1704067200000\nSELECT epoch_ms(1704067200000)  -- 2024-01-01T00:00:00",
        ),
        Spec::new(
            "epoch_us(timestamp)",
            TAKES,
            |_| DataType::Int64,
            |call| {
                let instants = call.instants(0)?;
                integers(call, |row| instants.micros(row))
            },
            "Microseconds since 1970-01-01 00:00:00 UTC.",
            "SELECT epoch_us(TIMESTAMP '2024-01-01')  -- 1704067200000000",
        ),
        Spec::new(
            "epoch_ns(timestamp)",
            TAKES,
            |_| DataType::Int64,
            |call| {
                let instants = call.instants(0)?;
                integers(call, |row| match (instants.unit(), instants.stored(row)) {
                    (Unit::Time(TimeUnit::Nanosecond), nanos) => Ok(nanos),
                    _ => {
                        let Some(micros) = instants.micros(row)? else { return Ok(None) };
                        micros.checked_mul(1_000).map(Some).ok_or_else(out_of_range)
                    }
                })
            },
            "Nanoseconds since 1970-01-01 00:00:00 UTC.",
            "SELECT epoch_ns(TIMESTAMP '2024-01-01')  -- 1704067200000000000",
        ),
        Spec::new(
            "julian(timestamp)",
            TAKES,
            |_| DataType::Float64,
            |call| {
                let instants = call.instants(0)?;
                numbers(call, |row| {
                    let days = |time: NaiveDateTime| {
                        let micros = time.and_utc().timestamp_micros();
                        let (day, rest) = (micros.div_euclid(DAY_MICROS), micros.rem_euclid(DAY_MICROS));
                        (day + 2_440_588) as f64 + rest as f64 / DAY_MICROS as f64
                    };
                    Ok(instants.local(row)?.map(days))
                })
            },
            "The Julian day, with the part of the day behind the point; days begin at midnight.",
            "SELECT julian(TIMESTAMP '2024-01-01 12:00:00')  -- 2460311.5",
        ),
    ]
}

fn epoch_ms(call: &Call<'_>) -> Result<ArrayRef> {
    if *call.returns() == DataType::Int64 {
        let instants = call.instants(0)?;
        return integers(call, |row| Ok(instants.micros(row)?.map(|micros| micros.div_euclid(1_000))));
    }
    let millis = call.integers(0)?;
    super::make::timestamps(call, |row| {
        millis.at(row).map(|millis| millis.checked_mul(1_000).ok_or_else(out_of_range)).transpose()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn centuries_have_no_year_zero() {
        assert_eq!((begun(2000, 100), begun(2001, 100), begun(1, 100)), (20, 21, 1));
        assert_eq!((begun(0, 100), begun(-99, 100), begun(-100, 100)), (-1, -1, -2));
    }

    #[test]
    fn months_have_their_days() {
        let february = [1900, 2000, 2023, 2024, -4].map(|year| days_in_month(year, 2));
        assert_eq!(february, [28, 29, 28, 29, 29]);
        assert_eq!((1..=12).map(|month| days_in_month(2023, month)).sum::<u32>(), 365);
    }
}
