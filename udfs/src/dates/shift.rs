//! Dates and timestamps moved by an interval, by name: `date_add`, and `date_sub` with two arguments.

use std::sync::Arc;

use datafusion::arrow::array::timezone::Tz;
use datafusion::arrow::array::{ArrayRef, Int64Array};
use datafusion::arrow::datatypes::{DataType, IntervalMonthDayNano, TimeUnit};
use datafusion::common::Result;

use super::between::Part;
use super::bucket::stored;
use crate::function::{Call, Instants, Kind, Spec, Unit, invalid, out_of_range};
use crate::zones::{UTC, moved};

pub(super) fn functions() -> Vec<Spec> {
    vec![
        Spec::new(
            "date_add(timestamp, interval)",
            &[&[Kind::Instant, Kind::Interval], &[Kind::Text, Kind::Integer, Kind::Instant]],
            |types| types.get(if types.len() == 3 { 2 } else { 0 }).cloned().unwrap_or(DataType::Null),
            date_add,
            "The date or timestamp, and an interval later; also date_add(part, n, timestamp), with a part of date_diff. A DATE takes months and days.",
            "SELECT date_add(DATE '2024-01-31', INTERVAL '1 month'), date_add('day', 2, DATE '2024-01-31')  -- 2024-02-29, 2024-02-02",
        )
        .also(&["dateadd"]),
    ]
}

fn date_add(call: &Call<'_>) -> Result<ArrayRef> {
    if call.len() == 2 {
        let by = call.intervals(1)?;
        return shifted(call, &call.instants(0)?, |row| Ok(by.at(row)), false);
    }
    let (parts, counts) = (call.texts(0)?, call.integers(1)?);
    let by = |row| match (parts.at(row), counts.at(row)) {
        (Some(part), Some(count)) => Part::of(part)?.times(count).map(Some),
        _ => Ok(None),
    };
    shifted(call, &call.instants(2)?, by, false)
}

/// `times`, each moved by an interval: months and days by the clocks of their zone.
pub(super) fn shifted(
    call: &Call<'_>,
    times: &Instants,
    by: impl Fn(usize) -> Result<Option<IntervalMonthDayNano>>,
    subtracts: bool,
) -> Result<ArrayRef> {
    const DAY_SECONDS: i64 = 86_400;
    let zone: Tz = match times.zone() {
        Some(zone) => *zone,
        None => UTC.parse::<Tz>()?,
    };
    let mut out = Vec::with_capacity(call.rows());
    for row in 0..call.rows() {
        let (Some(value), Some(by)) = (times.stored(row), by(row)?) else {
            out.push(None);
            continue;
        };
        let made = match times.unit() {
            Unit::Day if by.nanoseconds != 0 => {
                let why = "is moved by months and days; a TIMESTAMP is by hours and less, too";
                return Err(invalid("22023", format!("a DATE {why}")));
            }
            Unit::Day => moved(value * DAY_SECONDS, by, TimeUnit::Second, &zone, subtracts)
                .map(|seconds| seconds.div_euclid(DAY_SECONDS)),
            Unit::Time(unit) => moved(value, by, unit, &zone, subtracts),
        };
        out.push(Some(made.ok_or_else(out_of_range)?));
    }
    stored(&(Arc::new(Int64Array::from(out)) as ArrayRef), times.unit(), call.returns())
}
