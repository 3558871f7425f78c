//! What lies between two dates or timestamps: `date_diff`, `date_sub`, `age`.
//!
//! Parts of a day and of more are those of clocks in the zones of the columns; hours and less are the same everywhere.

use chrono::{Datelike, NaiveDateTime, NaiveTime, Utc};
use datafusion::arrow::array::ArrayRef;
use datafusion::arrow::datatypes::{DataType, IntervalMonthDayNano};
use datafusion::common::Result;

use super::make::{INTERVAL, intervals};
use super::shift::shifted;
use super::{days_in_month, months};
use crate::function::{
    Call, Instants, Kind, Spec, integers, interval, interval_out_of_range, invalid, out_of_range,
};

pub(super) fn functions() -> Vec<Spec> {
    const TAKES: &[&[Kind]] = &[&[Kind::Text, Kind::Instant, Kind::Instant]];
    vec![
        Spec::new(
            "date_diff(part, start, end)",
            TAKES,
            |_| DataType::Int64,
            |call| counted(call, Part::begun),
            "How many beginnings of a part lie between start and end: 'year', 'quarter', 'month', 'week', 'day', 'hour', 'minute', \
             'second', 'millisecond', 'microsecond', 'decade', 'century', 'millennium'.",
            "SELECT date_diff('month', DATE '2024-01-31', DATE '2024-02-01')  -- 1",
        )
        .also(&["datediff"]),
        Spec::new(
            "date_sub(part, start, end)",
            &[&[Kind::Text, Kind::Instant, Kind::Instant], &[Kind::Instant, Kind::Interval]],
            |types| match types {
                [time, _] => time.clone(),
                _ => DataType::Int64,
            },
            date_sub,
            "How many whole parts lie between start and end; the parts of date_diff. date_sub(timestamp, interval) is the timestamp, an interval before.",
            "SELECT date_sub('month', DATE '2024-01-31', DATE '2024-02-01')  -- 0",
        )
        .also(&["datesub"]),
        Spec::new(
            "age(end, start)",
            &[&[Kind::Instant, Kind::Instant], &[Kind::Instant]],
            |_| INTERVAL,
            ages,
            "Years, months, days and time from start to end; of one argument, until today's beginning in UTC.",
            "SELECT age(TIMESTAMP '2024-03-01', TIMESTAMP '2024-01-31') = INTERVAL '1 month 1 day'  -- true",
        )
        .stable(),
    ]
}

fn date_sub(call: &Call<'_>) -> Result<ArrayRef> {
    if call.len() == 3 {
        return counted(call, Part::whole);
    }
    let by = call.intervals(1)?;
    shifted(call, &call.instants(0)?, |row| Ok(by.at(row)), true)
}

/// What is counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Part {
    /// So many microseconds.
    Micros(i64),
    /// So many days.
    Day,
    Week,
    /// So many months.
    Months(i64),
}

const DAY: i64 = 86_400_000_000;

impl Part {
    /// The one of a name.
    ///
    /// # Errors
    /// When it is of none.
    pub(super) fn of(name: &str) -> Result<Self> {
        let lower = name.to_ascii_lowercase();
        Ok(match lower.as_str() {
            "microsecond" | "microseconds" | "us" | "usec" => Self::Micros(1),
            "millisecond" | "milliseconds" | "ms" | "msec" => Self::Micros(1_000),
            "second" | "seconds" | "s" | "sec" | "epoch" => Self::Micros(1_000_000),
            "minute" | "minutes" | "m" | "min" => Self::Micros(60_000_000),
            "hour" | "hours" | "h" | "hr" => Self::Micros(3_600_000_000),
            "day" | "days" | "d" | "dayofmonth" | "dow" | "isodow" | "doy" | "weekday" => Self::Day,
            "week" | "weeks" | "w" | "weekofyear" | "yearweek" => Self::Week,
            "month" | "months" | "mon" => Self::Months(1),
            "quarter" | "quarters" => Self::Months(3),
            "year" | "years" | "y" | "yr" => Self::Months(12),
            "decade" | "decades" => Self::Months(120),
            "century" | "centuries" => Self::Months(1_200),
            "millennium" | "millennia" => Self::Months(12_000),
            _ => {
                let cut: String = name.chars().take(40).collect();
                let message =
                    format!("'{cut}' is no part of a date; there are year, month, day, hour and more");
                return Err(invalid("22023", message));
            }
        })
    }

    /// So many of it, one after the other.
    ///
    /// # Errors
    /// When they are too many for an interval.
    pub(super) fn times(self, count: i64) -> Result<IntervalMonthDayNano> {
        let times = |of: i64| count.checked_mul(of).ok_or_else(interval_out_of_range);
        match self {
            Self::Micros(of) => interval(0, 0, times(of)?),
            Self::Day => interval(0, count, 0),
            Self::Week => interval(0, times(7)?, 0),
            Self::Months(of) => interval(times(of)?, 0, 0),
        }
    }

    /// Parts that begin behind `start` and not behind `end`.
    fn begun(self, start: &Instants, end: &Instants, row: usize) -> Result<Option<i64>> {
        if let Self::Micros(micros) = self {
            let (Some(start), Some(end)) = (start.micros(row)?, end.micros(row)?) else { return Ok(None) };
            return Ok(Some(end.div_euclid(micros) - start.div_euclid(micros)));
        }
        let (Some(start), Some(end)) = (start.local(row)?, end.local(row)?) else { return Ok(None) };
        Ok(Some(self.number(end) - self.number(start)))
    }

    /// The number of the part that a time is in.
    fn number(self, time: NaiveDateTime) -> i64 {
        let micros = time.and_utc().timestamp_micros();
        match self {
            Self::Micros(of) => micros.div_euclid(of),
            Self::Day => micros.div_euclid(DAY),
            // 1970 began on a Thursday, weeks begin on Mondays.
            Self::Week => (micros.div_euclid(DAY) + 3).div_euclid(7),
            Self::Months(of) => months(time.year(), time.month()).div_euclid(of),
        }
    }

    /// Whole parts from `start` to `end`.
    fn whole(self, start: &Instants, end: &Instants, row: usize) -> Result<Option<i64>> {
        if let Self::Micros(micros) = self {
            let (Some(start), Some(end)) = (start.micros(row)?, end.micros(row)?) else { return Ok(None) };
            return end.checked_sub(start).map(|span| Some(span / micros)).ok_or_else(out_of_range);
        }
        let (Some(start), Some(end)) = (start.local(row)?, end.local(row)?) else { return Ok(None) };
        let span = || {
            let (start, end) = (start.and_utc().timestamp_micros(), end.and_utc().timestamp_micros());
            end.checked_sub(start).ok_or_else(out_of_range)
        };
        Ok(Some(match self {
            Self::Micros(of) => span()? / of,
            Self::Day => span()? / DAY,
            Self::Week => span()? / (7 * DAY),
            Self::Months(of) => {
                let whole = if start <= end { whole_months(start, end) } else { -whole_months(end, start) };
                whole / of
            }
        }))
    }
}

/// Whole months from `start` to `end`, which is not before. From the 31st of a month, the last day of a shorter one is a month away.
fn whole_months(start: NaiveDateTime, end: NaiveDateTime) -> i64 {
    let count = months(end.year(), end.month()) - months(start.year(), start.month());
    let last = days_in_month(end.year(), end.month());
    let day = start.day().min(last);
    let is_reached = (end.day(), end.time()) >= (day, start.time());
    if is_reached { count } else { count - 1 }
}

type Count = fn(Part, &Instants, &Instants, usize) -> Result<Option<i64>>;

fn counted(call: &Call<'_>, of: Count) -> Result<ArrayRef> {
    let (parts, starts, ends) = (call.texts(0)?, call.instants(1)?, call.instants(2)?);
    // It hardly ever is another one in each row.
    let constant = match &parts {
        crate::function::Texts::Same(Some(name)) => Some(Part::of(name)?),
        _ => None,
    };
    integers(call, |row| {
        let Some(name) = parts.at(row) else { return Ok(None) };
        let part = match constant {
            Some(part) => part,
            None => Part::of(name)?,
        };
        of(part, &starts, &ends, row)
    })
}

fn ages(call: &Call<'_>) -> Result<ArrayRef> {
    if call.len() == 1 {
        let today = Utc::now().date_naive().and_time(NaiveTime::MIN);
        let starts = call.instants(0)?;
        return intervals(call, |row| starts.local(row)?.map(|start| age(today, start)).transpose());
    }
    let (ends, starts) = (call.instants(0)?, call.instants(1)?);
    intervals(call, |row| {
        let (Some(end), Some(start)) = (ends.local(row)?, starts.local(row)?) else { return Ok(None) };
        age(end, start).map(Some)
    })
}

fn age(end: NaiveDateTime, start: NaiveDateTime) -> Result<IntervalMonthDayNano> {
    let (earlier, later, sign) = if start <= end { (start, end, 1) } else { (end, start, -1) };
    let time = |time: NaiveDateTime| time.and_utc().timestamp_micros().rem_euclid(DAY);
    let mut months = months(later.year(), later.month()) - months(earlier.year(), earlier.month());
    let mut days = i64::from(later.day()) - i64::from(earlier.day());
    let mut micros = time(later) - time(earlier);
    if micros < 0 {
        micros += DAY;
        days -= 1;
    }
    while days < 0 {
        days += i64::from(days_in_month(earlier.year(), earlier.month()));
        months -= 1;
    }
    interval(sign * months, sign * days, sign * micros)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn at(text: &str) -> NaiveDateTime {
        NaiveDateTime::parse_from_str(text, "%Y-%m-%d %H:%M").unwrap()
    }

    fn aged(end: &str, start: &str) -> (i32, i32, i64) {
        let age = age(at(end), at(start)).unwrap();
        (age.months, age.days, age.nanoseconds / 60_000_000_000)
    }

    #[test]
    fn ages_are_symbolic() {
        assert_eq!(aged("2024-03-01 00:00", "2024-01-31 00:00"), (1, 1, 0));
        assert_eq!(aged("2024-01-31 00:00", "2024-03-01 00:00"), (-1, -1, 0));
        assert_eq!(aged("2001-04-10 00:00", "1957-06-13 12:00"), (43 * 12 + 9, 26, 720));
        assert_eq!(aged("2024-01-01 00:00", "2024-01-01 00:00"), (0, 0, 0));
    }

    #[test]
    fn months_end_with_shorter_ones() {
        let whole = |start, end| whole_months(at(start), at(end));
        assert_eq!(whole("2024-01-31 00:00", "2024-02-29 00:00"), 1);
        assert_eq!(whole("2024-01-31 00:00", "2024-02-28 00:00"), 0);
        assert_eq!(whole("2024-01-31 12:00", "2024-02-29 00:00"), 0);
        assert_eq!(whole("2024-01-31 00:00", "2024-03-01 00:00"), 1);
        assert_eq!(whole("2020-02-29 00:00", "2021-02-28 00:00"), 12);
    }

    #[test]
    fn weeks_begin_on_mondays() {
        let number = |day| Part::Week.number(at(day));
        assert_eq!(number("2024-01-08 00:00") - number("2024-01-07 23:59"), 1);
        assert_eq!(number("1969-12-29 00:00"), 0);
        assert_eq!(number("1969-12-28 00:00"), -1);
    }

    #[test]
    fn parts_have_names() {
        assert_eq!(Part::of("MONTHS").unwrap(), Part::Months(1));
        assert!(Part::of("fortnight").unwrap_err().to_string().contains("no part of a date"));
    }
}
