//! How many values `range` and `generate_series` make, of integers, dates and times.
//!
//! A step whose parts have opposite signs can lead nowhere, or away from its stop, and DataFusion goes on with it for ever: that
//! counts as [`u64::MAX`].

use datafusion::arrow::array::AsArray;
use datafusion::arrow::datatypes::{DataType, IntervalMonthDayNano, IntervalMonthDayNanoType, TimeUnit};
use datafusion::common::{Result, ScalarValue};
use datafusion::logical_expr::ColumnarValue;

use super::column::{Column, integers};

const DAY: i128 = 86_400_000_000_000;
/// Hours by which a day may be longer or shorter where clocks are changed.
const CHANGE_HOURS: i128 = 2;

/// The values of each of `rows` series; `args` are their arguments. At most one more than they have.
pub(super) fn counts(args: &[ColumnarValue], rows: usize) -> Result<Vec<u64>> {
    let (start, stop, step) = match args {
        [stop] => (None, stop, None),
        [start, stop] => (Some(start), stop, None),
        [start, stop, step] => (Some(start), stop, Some(step)),
        _ => return Ok(vec![0; rows]),
    };
    // The two may be kept in different units: the one of now() is not that of a literal.
    let starts_unit = start.map_or(1, |start| unit(&start.data_type()));
    let stops_unit = unit(&stop.data_type());
    let starts = start.map_or(Ok(Column::Same(Some(0))), integers)?;
    let stops = integers(stop)?;
    // The zone of the start is the one that steps go by.
    let kind = Kind::of(&start.unwrap_or(stop).data_type());
    let steps = match step {
        None => Column::Same(Some(Step::of(1))),
        Some(step) if is_interval(&step.data_type()) => intervals(step, kind),
        Some(step) => match integers(step)? {
            Column::Same(step) => Column::Same(step.map(Step::of)),
            Column::Each(steps) => Column::Each(steps.into_iter().map(|step| step.map(Step::of)).collect()),
        },
    };
    let count = |row| match (starts.at(row), stops.at(row), steps.at(row)) {
        (Some(start), Some(stop), Some(step)) => {
            step.count(i128::from(stop) * stops_unit - i128::from(start) * starts_unit)
        }
        _ => 0,
    };
    Ok((0..rows).map(count).collect())
}

/// Nanoseconds that 1 in a column of the type stands for; 1 for integers.
fn unit(data_type: &DataType) -> i128 {
    match data_type {
        DataType::Date32 => DAY,
        DataType::Date64 | DataType::Timestamp(TimeUnit::Millisecond, _) => 1_000_000,
        DataType::Timestamp(TimeUnit::Second, _) => 1_000_000_000,
        DataType::Timestamp(TimeUnit::Microsecond, _) => 1_000,
        _ => 1,
    }
}

fn is_interval(data_type: &DataType) -> bool {
    matches!(data_type, DataType::Interval(_))
}

fn intervals(step: &ColumnarValue, kind: Kind) -> Column<Option<Step>> {
    match step {
        ColumnarValue::Scalar(ScalarValue::IntervalMonthDayNano(step)) => {
            Column::Same(step.map(|step| Step::of_interval(step, kind)))
        }
        ColumnarValue::Scalar(_) => Column::Same(None),
        ColumnarValue::Array(steps) => match steps.as_primitive_opt::<IntervalMonthDayNanoType>() {
            Some(steps) => Column::Each(
                steps.iter().map(|step| step.map(|step| Step::of_interval(step, kind))).collect(),
            ),
            None => Column::Same(None),
        },
    }
}

/// What a series is of: steps of months and days go differently far in each.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Dates,
    Times,
    /// Days have 23 hours, or 25, where clocks are changed.
    TimesOfZone,
}

impl Kind {
    fn of(data_type: &DataType) -> Self {
        match data_type {
            DataType::Date32 | DataType::Date64 => Self::Dates,
            DataType::Timestamp(_, Some(_)) => Self::TimesOfZone,
            _ => Self::Times,
        }
    }
}

/// How far one step goes, at least and at most: months differ.
#[derive(Clone, Copy, Debug)]
struct Step {
    least: i128,
    most: i128,
    /// Whether the series ends below its stop.
    ends_below: bool,
    /// Whether DataFusion refuses it.
    is_none: bool,
}

impl Step {
    fn of(step: i64) -> Self {
        Self { least: step.into(), most: step.into(), ends_below: step < 0, is_none: step == 0 }
    }

    fn of_interval(step: IntervalMonthDayNano, kind: Kind) -> Self {
        let (months, days) = (i128::from(step.months) * DAY, i128::from(step.days) * DAY);
        let rest = match kind {
            // A date takes whole days of them.
            Kind::Dates => i128::from(step.nanoseconds) / DAY * DAY,
            Kind::Times | Kind::TimesOfZone => i128::from(step.nanoseconds),
        };
        let change = if kind == Kind::TimesOfZone { (days * CHANGE_HOURS / 24).abs() } else { 0 };
        let (a, b) = (months * 28 + days + rest, months * 31 + days + rest);
        let (least, most) = (a.min(b) - change, a.max(b) + change);
        // Of dates, DataFusion asks for the signs of the parts, of times for where the first step leads.
        let (ends_below, is_none) = match kind {
            Kind::Dates => (step.months < 0 || step.days < 0, step.months == 0 && step.days == 0),
            Kind::Times | Kind::TimesOfZone => {
                (most < 0, step.months == 0 && step.days == 0 && step.nanoseconds == 0)
            }
        };
        Self { least, most, ends_below, is_none }
    }

    /// Values until a stop that is `span` above the start.
    fn count(self, span: i128) -> u64 {
        if self.is_none {
            return 0;
        }
        // The least that it comes nearer to where it ends. Before the start is looked at: `range` of dates moves the stop by a step
        // first.
        let nearer = if self.ends_below { -self.most } else { self.least };
        if nearer <= 0 {
            return u64::MAX;
        }
        // A series is over when it is beyond its stop; the first value may be.
        let ahead = if self.ends_below { -span } else { span };
        if ahead < 0 {
            return 0;
        }
        u64::try_from(ahead / nearer + 1).unwrap_or(u64::MAX)
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn step(months: i32, days: i32, hours: i64, kind: Kind) -> Step {
        Step::of_interval(IntervalMonthDayNano::new(months, days, hours * 3_600_000_000_000), kind)
    }

    fn days(months: i32, days: i32) -> Step {
        step(months, days, 0, Kind::Dates)
    }

    #[test]
    fn counts_are_never_too_small() {
        assert_eq!(Step::of(1).count(9), 10);
        assert_eq!(Step::of(-3).count(-9), 4);
        assert_eq!((Step::of(1).count(-1), Step::of(-1).count(1), Step::of(0).count(5)), (0, 0, 0));
        assert_eq!(Step::of(1).count(i128::from(i64::MAX) - i128::from(i64::MIN)), u64::MAX);
        assert_eq!(days(0, 7).count(365 * DAY), 53);
        assert!(days(1, 0).count(365 * DAY) >= 12);
        assert_eq!(days(0, 7).count(-DAY), 0);
        assert_eq!(step(0, 0, 1, Kind::Times).count(DAY), 25);
        assert!(step(0, 1, 0, Kind::TimesOfZone).count(10 * DAY) >= 11);
        assert_eq!(step(0, 1, -23, Kind::Times).count(DAY), 25);
    }

    #[test]
    fn start_and_stop_may_have_units_of_their_own() {
        let of = |start: ScalarValue, stop: ScalarValue, step: IntervalMonthDayNano| {
            let step = ScalarValue::IntervalMonthDayNano(Some(step));
            counts(&[start, stop, step].map(ColumnarValue::Scalar), 1).unwrap()
        };
        let seconds = |seconds| ScalarValue::TimestampSecond(Some(seconds), None);
        let nanos = |seconds: i64| ScalarValue::TimestampNanosecond(Some(seconds * 1_000_000_000), None);
        let second = IntervalMonthDayNano::new(0, 0, 1_000_000_000);
        assert_eq!(of(seconds(1_700_000_000), nanos(1_700_000_009), second), [10]);
        assert_eq!(of(nanos(1_700_000_000), seconds(1_700_000_009), second), [10]);
        let (days, millis) = (ScalarValue::Date32(Some(19_000)), 19_009 * 86_400_000);
        let day = IntervalMonthDayNano::new(0, 1, 0);
        assert_eq!(of(days, ScalarValue::Date64(Some(millis)), day), [10]);
    }

    #[test]
    fn steps_that_lead_nowhere_have_no_end() {
        assert_eq!(days(1, -31).count(-DAY), u64::MAX);
        assert_eq!(days(1, -1).count(0), u64::MAX);
        assert_eq!(days(1, -1).count(DAY), u64::MAX);
        assert_eq!(days(1, -30).count(DAY), u64::MAX);
        assert_eq!(step(0, 1, -24, Kind::Dates).count(31 * DAY), u64::MAX);
        assert_eq!(step(0, 2, -48, Kind::Dates).count(31 * DAY), u64::MAX);
        assert_eq!(step(0, 1, -48, Kind::Dates).count(-31 * DAY), u64::MAX);
        assert_eq!(step(0, 1, -24, Kind::Times).count(31 * DAY), u64::MAX);
        assert_eq!(step(0, 1, -23, Kind::TimesOfZone).count(31 * DAY), u64::MAX);
        let time = step(1, -30, 0, Kind::Times);
        assert_eq!((time.count(DAY), time.count(-DAY)), (u64::MAX, u64::MAX));
    }

    #[test]
    fn steps_that_are_refused_count_nothing() {
        assert_eq!(step(0, 0, 1, Kind::Dates).count(DAY), 0);
        assert_eq!(step(0, 0, 48, Kind::Dates).count(DAY), 0);
        assert_eq!(step(0, 0, 0, Kind::Times).count(DAY), 0);
    }
}
