//! `time_bucket`: the beginning of the bucket that a date or timestamp is in.

use std::sync::Arc;

use chrono::{Datelike, NaiveDate, NaiveDateTime};
use datafusion::arrow::array::{ArrayRef, Int64Array};
use datafusion::arrow::compute::cast;
use datafusion::arrow::datatypes::{DataType, IntervalMonthDayNano};
use datafusion::common::Result;

use super::months;
use crate::function::{Call, Kind, Spec, Unit, interval_out_of_range, invalid, naive, out_of_range};

const DAY: i64 = 86_400_000_000;
/// Monday, 2000-01-03, where buckets of days and less begin.
const MONDAY: i64 = 10_959 * DAY;

pub(super) fn functions() -> Vec<Spec> {
    vec![Spec::new(
        "time_bucket(width, timestamp, origin)",
        &[
            &[Kind::Interval, Kind::Instant],
            &[Kind::Interval, Kind::Instant, Kind::Interval],
            &[Kind::Interval, Kind::Instant, Kind::Instant],
        ],
        |types| types.get(1).cloned().unwrap_or(DataType::Null),
        buckets,
        "The beginning of the bucket of that width, a DATE of a DATE. Buckets are counted from 2000-01-03, a Monday, those of months from 2000-01-01, or \
         from an origin; an interval in place of the origin moves them. Those of a TIMESTAMPTZ are of clocks in its zone, and an hour that they show twice is two.",
        "SELECT time_bucket(INTERVAL '15 minutes', TIMESTAMP '2024-02-10 05:17:00')  -- 2024-02-10T05:15:00",
    )]
}

/// How wide a bucket is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Width {
    Months(i64),
    Micros(i64),
}

impl Width {
    fn of(width: IntervalMonthDayNano) -> Result<Self> {
        let refused = |why: &str| Err(invalid("22023", format!("the width of time_bucket {why}")));
        let (months, days) = (i64::from(width.months), i64::from(width.days));
        if months != 0 && (days != 0 || width.nanoseconds != 0) {
            return refused("has months and something else; buckets of both have no length");
        }
        if months > 0 {
            return Ok(Self::Months(months));
        }
        if width.nanoseconds % 1_000 != 0 {
            return refused("has less than microseconds");
        }
        // Neither can overflow: 32 bits of days, and 64 bits of nanoseconds.
        match days.checked_mul(DAY).and_then(|days| days.checked_add(width.nanoseconds / 1_000)) {
            Some(micros) if micros > 0 => Ok(Self::Micros(micros)),
            Some(_) => refused("is not above 0"),
            None => Err(interval_out_of_range()),
        }
    }

    /// The beginning of the bucket of `time`, both in microseconds.
    fn begin(self, time: i64, origin: Option<i64>) -> Result<i64> {
        match self {
            Self::Micros(width) => {
                let origin = origin.unwrap_or(MONDAY).rem_euclid(width);
                let since = i128::from(time) - i128::from(origin);
                let begin = i128::from(time) - since.rem_euclid(i128::from(width));
                i64::try_from(begin).map_err(|_| out_of_range())
            }
            Self::Months(width) => {
                let of = |micros: i64| naive(micros).map(|time| months(time.year(), time.month()));
                let origin = of(origin.unwrap_or(MONDAY))?;
                let number = of(time)?;
                let begin = number - (number - origin).rem_euclid(width);
                let year = i32::try_from(begin.div_euclid(12)).map_err(|_| out_of_range())?;
                let month = u32::try_from(begin.rem_euclid(12) + 1).map_err(|_| out_of_range())?;
                let first = NaiveDate::from_ymd_opt(year, month, 1).ok_or_else(out_of_range)?;
                Ok(first.and_time(chrono::NaiveTime::MIN).and_utc().timestamp_micros())
            }
        }
    }
}

/// `micros` moved by an interval.
fn moved(micros: i64, by: IntervalMonthDayNano, sign: i64) -> Result<i64> {
    let time = naive(micros)?;
    let target = months(time.year(), time.month()) + sign * i64::from(by.months);
    let year = i32::try_from(target.div_euclid(12)).map_err(|_| out_of_range())?;
    let month = u32::try_from(target.rem_euclid(12) + 1).map_err(|_| out_of_range())?;
    let day = time.day().min(super::days_in_month(year, month));
    let date = NaiveDate::from_ymd_opt(year, month, day).ok_or_else(out_of_range)?;
    let base = date.and_time(time.time()).and_utc().timestamp_micros();
    let rest = i128::from(by.days) * i128::from(DAY) + i128::from(by.nanoseconds / 1_000);
    i64::try_from(i128::from(base) + i128::from(sign) * rest).map_err(|_| out_of_range())
}

fn buckets(call: &Call<'_>) -> Result<ArrayRef> {
    let (widths, times) = (call.intervals(0)?, call.instants(1)?);
    let is_shift = call.len() == 3 && matches!(call.type_of(2)?, DataType::Interval(_));
    let shifts = if is_shift { Some(call.intervals(2)?) } else { None };
    let origins = if call.len() == 3 && !is_shift { Some(call.instants(2)?) } else { None };
    let micros_of = |time: NaiveDateTime| time.and_utc().timestamp_micros();
    let mut out: Vec<Option<i64>> = Vec::with_capacity(call.rows());
    for row in 0..call.rows() {
        let (Some(width), Some(time)) = (widths.at(row), times.local(row)?) else {
            out.push(None);
            continue;
        };
        let (width, time) = (Width::of(width)?, micros_of(time));
        let begin = match (&shifts, &origins) {
            (Some(shifts), _) => match shifts.at(row) {
                Some(shift) => Some(moved(width.begin(moved(time, shift, -1)?, None)?, shift, 1)?),
                None => None,
            },
            (None, Some(origins)) => match origins.local(row)? {
                Some(origin) => Some(width.begin(time, Some(micros_of(origin)))?),
                None => None,
            },
            (None, None) => Some(width.begin(time, None)?),
        };
        // An hour that clocks show twice is two; a day is one, however long it is.
        let splits = matches!(width, Width::Micros(width) if width < DAY);
        out.push(begin.map(|begin| times.begin_of(naive(begin)?, row, splits)).transpose()?);
    }
    stored(&(Arc::new(Int64Array::from(out)) as ArrayRef), times.unit(), call.returns())
}

/// Numbers that count `unit`s as dates, or as the timestamps that a call `returns`. As many days as dates have fit into 32 bits.
pub(super) fn stored(values: &ArrayRef, unit: Unit, returns: &DataType) -> Result<ArrayRef> {
    match unit {
        Unit::Day => Ok(cast(&cast(values, &DataType::Int32)?, &DataType::Date32)?),
        Unit::Time(_) => Ok(cast(values, returns)?),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn at(text: &str) -> i64 {
        NaiveDateTime::parse_from_str(text, "%Y-%m-%d %H:%M").unwrap().and_utc().timestamp_micros()
    }

    fn width(months: i32, days: i32, minutes: i64) -> Result<Width> {
        Width::of(IntervalMonthDayNano::new(months, days, minutes * 60_000_000_000))
    }

    #[test]
    fn buckets_begin_where_duckdb_has_them() {
        assert_eq!(at("2000-01-03 00:00"), MONDAY);
        let begin = |width: Result<Width>, time| width.unwrap().begin(at(time), None).unwrap();
        assert_eq!(begin(width(0, 7, 0), "2024-01-10 05:00"), at("2024-01-08 00:00"));
        assert_eq!(begin(width(2, 0, 0), "2024-02-10 05:00"), at("2024-01-01 00:00"));
        assert_eq!(begin(width(0, 0, 15), "2024-02-10 05:17"), at("2024-02-10 05:15"));
        assert_eq!(begin(width(0, 3, 0), "2024-02-10 00:00"), at("2024-02-08 00:00"));
        assert_eq!(begin(width(0, 7, 0), "1999-12-31 00:00"), at("1999-12-27 00:00"));
        let of_tuesday = width(0, 7, 0).unwrap().begin(at("2024-01-10 05:00"), Some(at("2024-01-02 00:00")));
        assert_eq!(of_tuesday.unwrap(), at("2024-01-09 00:00"));
    }

    #[test]
    fn widths_are_one_thing_above_nothing() {
        assert!(width(1, 1, 0).is_err());
        assert!(width(0, 0, 0).is_err());
        assert!(width(-1, 0, 0).is_err());
        assert!(width(0, 1, -24 * 60).is_err());
    }

    #[test]
    fn far_times_are_errors() {
        let width = width(0, 7, 0).unwrap();
        assert!(width.begin(i64::MIN, None).is_err());
        assert!(width.begin(i64::MAX, None).is_ok());
    }
}
