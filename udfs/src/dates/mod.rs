//! Dates, timestamps and intervals: their parts, what lies between two of them, buckets, and text in a given form.
//!
//! Owns: functions of DuckDB and PostgreSQL that DataFusion has not; where the two differ, DuckDB's unless a function says otherwise.
//! A TIMESTAMPTZ is read in the zone of its type, where the session's has been put in (`zones`). Does not own: `date_part`, `date_trunc`,
//! `date_bin` (DataFusion).

mod between;
mod bucket;
mod format;
mod local;
mod make;
mod parts;
mod shift;
mod years;
mod zone;

use crate::function::Spec;

pub(crate) use local::local_timestamp;
pub(crate) use parts::{DAYS, MONTHS};
pub(crate) use years::{YearsWithEnds, with_ends};

/// The functions of this module.
pub(crate) fn functions() -> Vec<Spec> {
    let mut functions = parts::functions();
    functions.extend(between::functions());
    functions.extend(shift::functions());
    functions.extend(bucket::functions());
    functions.extend(make::functions());
    functions.extend(format::functions());
    functions.extend(zone::functions());
    functions
}

/// Days of a month, which is 1 to 12.
fn days_in_month(year: i32, month: u32) -> u32 {
    match month {
        4 | 6 | 9 | 11 => 30,
        2 if year.rem_euclid(4) == 0 && (year.rem_euclid(100) != 0 || year.rem_euclid(400) == 0) => 29,
        2 => 28,
        _ => 31,
    }
}

/// Months since the year 0.
fn months(year: i32, month: u32) -> i64 {
    i64::from(year) * 12 + i64::from(month) - 1
}
