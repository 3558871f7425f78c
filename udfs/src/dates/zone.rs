//! `timezone(zone, timestamp)`, which AT TIME ZONE is: from clocks to moments, and back. Moments from numbers, and from the clock.

use std::sync::Arc;

use chrono::Utc;
use datafusion::arrow::array::timezone::Tz;
use datafusion::arrow::array::{ArrayRef, Int64Array};
use datafusion::arrow::datatypes::{DataType, TimeUnit};
use datafusion::common::Result;

use super::make::clocks;
use crate::function::{Call, Kind, Spec, Unit, invalid, out_of_range};
use crate::zones::{clock_of, moment_of, timestamps, zone_named};

pub(super) fn functions() -> Vec<Spec> {
    const WHOLE: Kind = Kind::Integer;
    let zoned = Spec::new(
        "timezone(zone, timestamp)",
        &[&[Kind::Text, Kind::Instant]],
        |types| match types.get(1) {
            Some(DataType::Timestamp(unit, Some(_))) => DataType::Timestamp(*unit, None),
            Some(DataType::Timestamp(unit, None)) => DataType::Timestamp(*unit, Some("UTC".into())),
            _ => DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into())),
        },
        in_zone,
        "`timestamp AT TIME ZONE zone`: of a TIMESTAMP or a DATE the TIMESTAMPTZ at which clocks of the zone show it, of a TIMESTAMPTZ the TIMESTAMP that they \
         show then. Of a time that they show twice it is the later; one that they skip is as much later as they skip.",
        "SELECT timezone('Europe/Zurich', TIMESTAMPTZ '2024-07-01 10:00:00Z')  -- 2024-07-01T12:00:00",
    );
    let made = Spec::new(
        "make_timestamptz(year, month, day, hour, minute, second, zone)",
        &[
            &[WHOLE, WHOLE, WHOLE, WHOLE, WHOLE, Kind::Number],
            &[WHOLE, WHOLE, WHOLE, WHOLE, WHOLE, Kind::Number, Kind::Text],
        ],
        |_| DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into())),
        make_timestamptz,
        "The TIMESTAMPTZ at which clocks of the zone, or of the session's, show these parts; the second may have a fraction.",
        "SELECT make_timestamptz(2024, 7, 1, 12, 0, 0, 'Europe/Zurich')  -- 2024-07-01T10:00:00Z",
    );
    let now = Spec::new(
        "clock_timestamp()",
        &[&[]],
        |_| DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into())),
        |call| {
            let values: Int64Array = (0..call.rows()).map(|_| Some(Utc::now().timestamp_micros())).collect();
            let utc: Arc<str> = "UTC".into();
            Ok(timestamps(&values, TimeUnit::Microsecond, Some(&utc)))
        },
        "The time of the machine's clock, another in each row; now() is that at which the statement began.",
        "SELECT clock_timestamp() >= now()  -- true",
    )
    .volatile();
    vec![zoned, made, now]
}

fn make_timestamptz(call: &Call<'_>) -> Result<ArrayRef> {
    let clocks = clocks(call)?;
    let zones = if call.len() > 6 { Some(call.texts(6)?) } else { None };
    let mut last = None;
    let mut values = Vec::with_capacity(call.rows());
    for row in 0..call.rows() {
        // The rule of zones puts the session's there, where it is not UTC.
        let name = zones.as_ref().map_or(Some("UTC"), |zones| zones.at(row));
        let (Some(local), Some(name)) = (clocks(row)?, name) else {
            values.push(None);
            continue;
        };
        let moment = moment_of(&zone_of(name, &mut last)?, local, TimeUnit::Microsecond);
        values.push(Some(moment.ok_or_else(out_of_range)?));
    }
    let utc: Arc<str> = "UTC".into();
    Ok(timestamps(&Int64Array::from(values), TimeUnit::Microsecond, Some(&utc)))
}

/// The zone of a name, looked up where it is another than the `last`.
fn zone_of(name: &str, last: &mut Option<(String, Tz)>) -> Result<Tz> {
    if let Some((known, zone)) = &*last
        && known == name
    {
        return Ok(*zone);
    }
    let zone: Tz = zone_named(name).map_err(|unknown| invalid("22023", unknown.to_string()))?.parse()?;
    *last = Some((name.to_owned(), zone));
    Ok(zone)
}

fn in_zone(call: &Call<'_>) -> Result<ArrayRef> {
    let (names, instants) = (call.texts(0)?, call.instants(1)?);
    let mut last = None;
    let is_moment = instants.zone().is_some();
    let unit = match instants.unit() {
        Unit::Day => TimeUnit::Microsecond,
        Unit::Time(unit) => unit,
    };
    let mut values = Vec::with_capacity(call.rows());
    for row in 0..call.rows() {
        let value = match instants.unit() {
            Unit::Day => instants.micros(row)?,
            Unit::Time(_) => instants.stored(row),
        };
        let (Some(name), Some(value)) = (names.at(row), value) else {
            values.push(None);
            continue;
        };
        let zone = zone_of(name, &mut last)?;
        let converted = match is_moment {
            true => clock_of(&zone, value, unit),
            false => moment_of(&zone, value, unit),
        };
        values.push(Some(converted.ok_or_else(out_of_range)?));
    }
    let label: Option<Arc<str>> = (!is_moment).then(|| "UTC".into());
    Ok(timestamps(&Int64Array::from(values), unit, label.as_ref()))
}
