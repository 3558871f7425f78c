//! What clocks of a zone show, and which moment they mean.
//!
//! Owns: the two directions, and the rule for hours that clocks skip or show twice, which is PostgreSQL's: a time that they skip is read
//! with the offset from before, so it is as much later as they skip (02:30 is 03:30 where they go from 02:00 to 03:00); one
//! that they show twice is the later, of standard time. Does not own: text (`convert`).

use std::sync::Arc;

use chrono::{DateTime, NaiveDateTime, Offset, TimeDelta, TimeZone};
use datafusion::arrow::array::timezone::Tz;
use datafusion::arrow::array::{ArrayRef, Int64Array};
use datafusion::arrow::datatypes::{
    TimeUnit, TimestampMicrosecondType, TimestampMillisecondType, TimestampNanosecondType,
    TimestampSecondType,
};

/// The moment, in UTC, at which clocks of `zone` show `local`; None: too far away.
pub(crate) fn utc_of(zone: &Tz, local: NaiveDateTime) -> Option<NaiveDateTime> {
    if let Some(found) = zone.from_local_datetime(&local).latest() {
        return Some(found.naive_utc());
    }
    // Skipped. No offset is a day, so this moment is before; clocks are not changed twice within two days.
    let before = local.checked_sub_signed(TimeDelta::days(1))?;
    local.checked_sub_offset(zone.offset_from_utc_datetime(&before).fix())
}

fn per_second(unit: TimeUnit) -> i64 {
    match unit {
        TimeUnit::Second => 1,
        TimeUnit::Millisecond => 1_000,
        TimeUnit::Microsecond => 1_000_000,
        TimeUnit::Nanosecond => 1_000_000_000,
    }
}

/// `value` in whole seconds, and what of it is less than one.
fn split(value: i64, unit: TimeUnit) -> Option<(NaiveDateTime, i64)> {
    let of = per_second(unit);
    let seconds = DateTime::from_timestamp(value.div_euclid(of), 0)?.naive_utc();
    Some((seconds, value.rem_euclid(of)))
}

fn joined(seconds: NaiveDateTime, rest: i64, unit: TimeUnit) -> Option<i64> {
    let seconds = seconds.and_utc().timestamp();
    if unit == TimeUnit::Nanosecond && seconds < 0 {
        // The least of them has no whole second.
        return (seconds + 1).checked_mul(per_second(unit))?.checked_add(rest - per_second(unit));
    }
    seconds.checked_mul(per_second(unit))?.checked_add(rest)
}

/// What clocks of `zone` show at the moment `value`, as `unit`s from 1970 on their own; None: too far away.
pub(crate) fn clock_of(zone: &Tz, value: i64, unit: TimeUnit) -> Option<i64> {
    let (utc, rest) = split(value, unit)?;
    let local = utc.checked_add_offset(zone.offset_from_utc_datetime(&utc).fix())?;
    joined(local, rest, unit)
}

/// The moment at which clocks of `zone` show `value`; None: too far away.
pub(crate) fn moment_of(zone: &Tz, value: i64, unit: TimeUnit) -> Option<i64> {
    let (local, rest) = split(value, unit)?;
    joined(utc_of(zone, local)?, rest, unit)
}

/// `time` in `unit`s from 1970 on, rounded down; None: too far away.
pub(crate) fn counted(time: NaiveDateTime, unit: TimeUnit) -> Option<i64> {
    let time = time.and_utc();
    match unit {
        TimeUnit::Second => Some(time.timestamp()),
        TimeUnit::Millisecond => Some(time.timestamp_millis()),
        TimeUnit::Microsecond => Some(time.timestamp_micros()),
        TimeUnit::Nanosecond => time.timestamp_nanos_opt(),
    }
}

/// The time that `value` counts from 1970 on; None: too far away.
pub(crate) fn time_of(value: i64, unit: TimeUnit) -> Option<NaiveDateTime> {
    let (seconds, rest) = split(value, unit)?;
    seconds.checked_add_signed(TimeDelta::nanoseconds(rest * (1_000_000_000 / per_second(unit))))
}

/// `values` as timestamps of `unit` whose type says `zone`.
pub(crate) fn timestamps(values: &Int64Array, unit: TimeUnit, zone: Option<&Arc<str>>) -> ArrayRef {
    let zone = zone.map(Arc::clone);
    match unit {
        TimeUnit::Second => {
            Arc::new(values.reinterpret_cast::<TimestampSecondType>().with_timezone_opt(zone))
        }
        TimeUnit::Millisecond => {
            Arc::new(values.reinterpret_cast::<TimestampMillisecondType>().with_timezone_opt(zone))
        }
        TimeUnit::Microsecond => {
            Arc::new(values.reinterpret_cast::<TimestampMicrosecondType>().with_timezone_opt(zone))
        }
        TimeUnit::Nanosecond => {
            Arc::new(values.reinterpret_cast::<TimestampNanosecondType>().with_timezone_opt(zone))
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn at(text: &str) -> i64 {
        let time = NaiveDateTime::parse_from_str(text, "%Y-%m-%d %H:%M:%S%.f").unwrap();
        time.and_utc().timestamp_micros()
    }

    fn moment(zone: &str, local: &str) -> i64 {
        moment_of(&zone.parse().unwrap(), at(local), TimeUnit::Microsecond).unwrap()
    }

    #[test]
    fn clocks_and_moments() {
        assert_eq!(moment("Europe/Zurich", "2024-07-01 10:00:00.5"), at("2024-07-01 08:00:00.5"));
        assert_eq!(moment("Europe/Zurich", "2024-01-01 10:00:00"), at("2024-01-01 09:00:00"));
        assert_eq!(moment("-07:00", "1969-12-31 20:00:00"), at("1970-01-01 03:00:00"));
        let zone: Tz = "America/New_York".parse().unwrap();
        let shown = clock_of(&zone, at("2024-07-01 10:00:00.25"), TimeUnit::Microsecond);
        assert_eq!(shown, Some(at("2024-07-01 06:00:00.25")));
    }

    #[test]
    fn hours_that_clocks_skip_are_later_by_as_much() {
        // 2024-03-31 02:00 is followed by 03:00.
        assert_eq!(moment("Europe/Zurich", "2024-03-31 01:59:59"), at("2024-03-31 00:59:59"));
        assert_eq!(moment("Europe/Zurich", "2024-03-31 02:30:00"), at("2024-03-31 01:30:00"));
        assert_eq!(moment("Europe/Zurich", "2024-03-31 03:00:00"), at("2024-03-31 01:00:00"));
        // A whole day, and half an hour.
        assert_eq!(moment("Pacific/Apia", "2011-12-30 12:00:00"), at("2011-12-30 22:00:00"));
        assert_eq!(moment("Australia/Lord_Howe", "2024-10-06 02:15:00"), at("2024-10-05 15:45:00"));
    }

    #[test]
    fn hours_that_clocks_show_twice_are_the_later() {
        // 2024-10-27 03:00 is followed by 02:00.
        assert_eq!(moment("Europe/Zurich", "2024-10-27 01:59:59"), at("2024-10-26 23:59:59"));
        assert_eq!(moment("Europe/Zurich", "2024-10-27 02:30:00"), at("2024-10-27 01:30:00"));
        assert_eq!(moment("Europe/Zurich", "2024-10-27 03:00:00"), at("2024-10-27 02:00:00"));
    }

    #[test]
    fn what_is_too_far_away_is_none() {
        let zone: Tz = "+02:00".parse().unwrap();
        for unit in [TimeUnit::Second, TimeUnit::Millisecond, TimeUnit::Microsecond, TimeUnit::Nanosecond] {
            for value in [i64::MIN, i64::MAX, 0, -1, 1] {
                for converted in [clock_of(&zone, value, unit), moment_of(&zone, value, unit)] {
                    assert!(converted.is_some() || value.unsigned_abs() > 1, "{value} {unit:?}");
                }
            }
        }
        assert_eq!(clock_of(&zone, i64::MIN, TimeUnit::Nanosecond), Some(i64::MIN + 7_200_000_000_000));
        assert_eq!(
            time_of(-1, TimeUnit::Microsecond).and_then(|t| counted(t, TimeUnit::Microsecond)),
            Some(-1)
        );
    }
}
