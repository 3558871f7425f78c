//! How many values `range` and `generate_series` make, of integers, dates and times.
//!
//! A step of months and days of opposite signs can go nowhere, and DataFusion goes on with it for ever: that counts as
//! [`u64::MAX`].

use datafusion::arrow::array::AsArray;
use datafusion::arrow::datatypes::{DataType, IntervalMonthDayNano, IntervalMonthDayNanoType, TimeUnit};
use datafusion::common::{Result, ScalarValue};
use datafusion::logical_expr::ColumnarValue;

use super::column::{Column, integers};

const DAY: i128 = 86_400_000_000_000;

/// The values of each of `rows` series; `args` are their arguments. At most one more than they have.
pub(super) fn counts(args: &[ColumnarValue], rows: usize) -> Result<Vec<u64>> {
    let (start, stop, step) = match args {
        [stop] => (None, stop, None),
        [start, stop] => (Some(start), stop, None),
        [start, stop, step] => (Some(start), stop, Some(step)),
        _ => return Ok(vec![0; rows]),
    };
    let unit = unit(&stop.data_type());
    let starts = start.map_or(Ok(Column::Same(Some(0))), integers)?;
    let stops = integers(stop)?;
    let is_date = matches!(stop.data_type(), DataType::Date32 | DataType::Date64);
    let steps = match step {
        None => Column::Same(Some(Step::of(1))),
        Some(step) if is_interval(&step.data_type()) => intervals(step, is_date),
        Some(step) => match integers(step)? {
            Column::Same(step) => Column::Same(step.map(Step::of)),
            Column::Each(steps) => Column::Each(steps.into_iter().map(|step| step.map(Step::of)).collect()),
        },
    };
    let count = |row| match (starts.at(row), stops.at(row), steps.at(row)) {
        (Some(start), Some(stop), Some(step)) => step.count((i128::from(stop) - i128::from(start)) * unit),
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

fn intervals(step: &ColumnarValue, of_dates: bool) -> Column<Option<Step>> {
    match step {
        ColumnarValue::Scalar(ScalarValue::IntervalMonthDayNano(step)) => {
            Column::Same(step.map(|step| Step::of_interval(step, of_dates)))
        }
        ColumnarValue::Scalar(_) => Column::Same(None),
        ColumnarValue::Array(steps) => match steps.as_primitive_opt::<IntervalMonthDayNanoType>() {
            Some(steps) => Column::Each(
                steps.iter().map(|step| step.map(|step| Step::of_interval(step, of_dates))).collect(),
            ),
            None => Column::Same(None),
        },
    }
}

/// How far one step goes, at least and at most: months differ.
#[derive(Clone, Copy, Debug)]
struct Step {
    least: i128,
    most: i128,
    /// Whether the series ends below its stop.
    ends_below: bool,
    /// Whether some steps lead up and some down, and the series to where nobody knows.
    wavers: bool,
}

impl Step {
    fn of(step: i64) -> Self {
        Self { least: step.into(), most: step.into(), ends_below: step < 0, wavers: false }
    }

    fn of_interval(step: IntervalMonthDayNano, of_dates: bool) -> Self {
        let months = i128::from(step.months) * DAY;
        let rest = i128::from(step.days) * DAY + i128::from(step.nanoseconds);
        let (a, b) = (months * 28 + rest, months * 31 + rest);
        let (least, most) = (a.min(b), a.max(b));
        // Of dates, DataFusion asks for the signs of the parts, of times for where the first step leads.
        let ends_below = if of_dates { step.months < 0 || step.days < 0 } else { most < 0 };
        Self { least, most, ends_below, wavers: !of_dates && least <= 0 && most >= 0 }
    }

    /// Values until a stop that is `span` above the start.
    fn count(self, span: i128) -> u64 {
        if self.least == 0 && self.most == 0 && !self.ends_below {
            // DataFusion refuses it.
            return 0;
        }
        if self.wavers {
            return u64::MAX;
        }
        // A series is over when it is beyond its stop; the first value may be.
        let ahead = if self.ends_below { -span } else { span };
        if ahead < 0 {
            return 0;
        }
        let shortest = if self.ends_below { -self.most } else { self.least };
        if shortest <= 0 {
            return u64::MAX;
        }
        u64::try_from(ahead / shortest + 1).unwrap_or(u64::MAX)
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn days(months: i32, days: i32) -> Step {
        Step::of_interval(IntervalMonthDayNano::new(months, days, 0), true)
    }

    #[test]
    fn counts_are_never_too_small() {
        assert_eq!(Step::of(1).count(9), 10);
        assert_eq!(Step::of(-3).count(-9), 4);
        assert_eq!((Step::of(1).count(-1), Step::of(-1).count(1), Step::of(0).count(5)), (0, 0, 0));
        assert_eq!(Step::of(1).count(i128::from(i64::MAX) - i128::from(i64::MIN)), u64::MAX);
        assert_eq!(days(0, 7).count(365 * DAY), 53);
        assert!(days(1, 0).count(365 * DAY) >= 12);
    }

    #[test]
    fn steps_that_lead_nowhere_have_no_end() {
        assert_eq!(days(1, -31).count(-DAY), u64::MAX);
        assert_eq!(days(1, -1).count(0), u64::MAX);
        assert_eq!(days(1, -1).count(DAY), 0);
        let time = Step::of_interval(IntervalMonthDayNano::new(1, -30, 0), false);
        assert_eq!((time.count(DAY), time.count(-DAY)), (u64::MAX, u64::MAX));
    }
}
