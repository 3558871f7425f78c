//! Numbers and UUIDs for new rows, and what a UUID says about itself.
//!
//! Owns: `uuidv7`, `uuidv4`, `snowflake_id`; those of one process are in the order in which they were made. Does not own: `uuid`
//! (DataFusion).

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{SystemTime, UNIX_EPOCH};

use datafusion::arrow::array::{ArrayRef, Int64Array, TimestampMicrosecondBuilder};
use datafusion::arrow::datatypes::{DataType, TimeUnit};
use datafusion::common::Result;
use uuid::Uuid;
use uuid::fmt::Hyphenated;

use crate::function::{Call, Kind, Spec, TextRows, integers, invalid};

/// The functions of this module.
pub(crate) fn functions() -> Vec<Spec> {
    vec![
        Spec::new(
            "uuidv7()",
            &[&[]],
            |_| DataType::Utf8View,
            |call| uuids(call, Uuid::now_v7),
            "A new UUID of version 7: it begins with the time, so that new rows are stored behind the old ones.",
            "CREATE TABLE events (id TEXT DEFAULT uuidv7() PRIMARY KEY, body TEXT)",
        )
        .also(&["uuid7"])
        .volatile(),
        Spec::new(
            "uuidv4()",
            &[&[]],
            |_| DataType::Utf8View,
            |call| uuids(call, Uuid::new_v4),
            "A new random UUID, of version 4.",
            "SELECT uuidv4()  -- 0b8d29b4-8f3f-4a53-9c13-7d8a9f6bb4a7",
        )
        .also(&["gen_random_uuid"])
        .volatile(),
        Spec::new(
            "uuid_extract_timestamp(uuid)",
            &[&[Kind::Text]],
            |_| DataType::Timestamp(TimeUnit::Microsecond, Some(Arc::from("+00:00"))),
            times,
            "When a UUID of version 1, 6 or 7 was made, a TIMESTAMPTZ; NULL of other versions.",
            "SELECT uuid_extract_timestamp('0190d3f0-1234-7000-8000-000000000000')  -- 2024-07-21T06:17:24.276Z",
        ),
        Spec::new(
            "uuid_extract_version(uuid)",
            &[&[Kind::Text]],
            |_| DataType::Int64,
            |call| {
                let texts = call.texts(0)?;
                integers(call, |row| {
                    let Some(text) = texts.at(row) else { return Ok(None) };
                    let uuid = read(text)?;
                    let is_known = uuid.get_variant() == uuid::Variant::RFC4122;
                    Ok(is_known.then(|| i64::try_from(uuid.get_version_num()).unwrap_or_default()))
                })
            },
            "The version of a UUID; NULL of one that is not by RFC 9562.",
            "SELECT uuid_extract_version('0190d3f0-1234-7000-8000-000000000000')  -- 7",
        ),
        Spec::new(
            "snowflake_id(machine)",
            &[&[], &[Kind::Integer]],
            |_| DataType::Int64,
            snowflakes,
            "A new BIGINT, greater than those made before: 41 bits of milliseconds since 2024, 10 bits of the machine, 0 to 1023 and 0 by \
             default, 12 bits that count. Two processes that make them at a time need machines of their own.",
            "CREATE TABLE events (id BIGINT DEFAULT snowflake_id() PRIMARY KEY, body TEXT)",
        )
        .volatile(),
    ]
}

fn uuids(call: &Call<'_>, make: fn() -> Uuid) -> Result<ArrayRef> {
    let mut rows = TextRows::new(call);
    let mut buffer = [0; Hyphenated::LENGTH];
    for _ in 0..call.rows() {
        let text: &str = make().hyphenated().encode_lower(&mut buffer);
        rows.push(Some(text))?;
    }
    Ok(rows.finish())
}

fn read(text: &str) -> Result<Uuid> {
    Uuid::try_parse(text).map_err(|_| {
        let cut: String = text.chars().take(60).collect();
        invalid("22P02", format!("'{cut}' is no UUID"))
    })
}

fn times(call: &Call<'_>) -> Result<ArrayRef> {
    let texts = call.texts(0)?;
    let mut out = TimestampMicrosecondBuilder::with_capacity(call.rows());
    for row in 0..call.rows() {
        let time = match texts.at(row) {
            Some(text) => read(text)?.get_timestamp(),
            None => None,
        };
        // 60 bits of 100 nanoseconds, or 48 of milliseconds: microseconds of either fit.
        out.append_option(time.and_then(|time| {
            let (seconds, nanos) = time.to_unix();
            i64::try_from(seconds).ok()?.checked_mul(1_000_000)?.checked_add(i64::from(nanos / 1_000))
        }));
    }
    Ok(Arc::new(out.finish().with_timezone("+00:00")))
}

const MACHINE_BITS: u32 = 10;
const COUNT_BITS: u32 = 12;
/// 2024-01-01 in milliseconds since 1970.
const BEGIN_MILLIS: u64 = 1_704_067_200_000;

/// Milliseconds and count of the last id, of all machines.
static LAST: AtomicU64 = AtomicU64::new(0);

/// Takes `count` ids in a row that nobody has had, and answers the first: a time and a count. Where the clock stands still, or goes back, the
/// time of ids goes on.
fn take(last: &AtomicU64, now_millis: u64, count: u64) -> u64 {
    let now = now_millis.saturating_sub(BEGIN_MILLIS) << COUNT_BITS;
    let next = |last: u64| (last + 1).max(now);
    let mut seen = last.load(Ordering::Relaxed);
    loop {
        let first = next(seen);
        match last.compare_exchange_weak(
            seen,
            first + count.saturating_sub(1),
            Ordering::Relaxed,
            Ordering::Relaxed,
        ) {
            Ok(_) => return first,
            Err(other) => seen = other,
        }
    }
}

/// The id of a time and a count.
fn id(at: u64, machine: u64) -> i64 {
    let (millis, count) = (at >> COUNT_BITS, at & ((1 << COUNT_BITS) - 1));
    // 41 bits of time last until 2093.
    let millis = millis & ((1 << 41) - 1);
    let id = (millis << (MACHINE_BITS + COUNT_BITS)) | (machine << COUNT_BITS) | count;
    i64::try_from(id).unwrap_or(i64::MAX)
}

fn snowflakes(call: &Call<'_>) -> Result<ArrayRef> {
    let machines = if call.len() == 0 { None } else { Some(call.integers(0)?) };
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    let now = u64::try_from(now.as_millis()).unwrap_or(BEGIN_MILLIS);
    let first = take(&LAST, now, call.rows() as u64);
    let mut ids: Vec<Option<i64>> = Vec::with_capacity(call.rows());
    for (row, at) in (0..call.rows()).zip(first..) {
        let machine = match &machines {
            None => Some(0),
            Some(machines) => machines.at(row),
        };
        let Some(machine) = machine else {
            ids.push(None);
            continue;
        };
        match u64::try_from(machine) {
            Ok(machine) if machine < 1 << MACHINE_BITS => ids.push(Some(id(at, machine))),
            _ => {
                return Err(invalid(
                    "22023",
                    format!("a machine of snowflake_id is 0 to 1023, not {machine}"),
                ));
            }
        }
    }
    Ok(Arc::new(Int64Array::from(ids)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_only_grow() {
        let last = AtomicU64::new(0);
        let now = BEGIN_MILLIS + 5;
        assert_eq!(take(&last, now, 3), 5 << COUNT_BITS);
        assert_eq!(take(&last, now, 1), (5 << COUNT_BITS) + 3);
        assert_eq!(take(&last, now - 2, 5_000), (5 << COUNT_BITS) + 4);
        // The count ran over into later times.
        assert_eq!(take(&last, now, 1), (5 << COUNT_BITS) + 5_004);
        assert_eq!(take(&last, now + 10, 1), 15 << COUNT_BITS);
        assert_eq!(take(&last, 0, 1), (15 << COUNT_BITS) + 1);
    }

    #[test]
    fn ids_hold_time_machine_and_count() {
        assert_eq!(id((7 << COUNT_BITS) + 3, 9), (7 << 22) + (9 << 12) + 3);
        assert!(id(u64::MAX, 1_023) > 0);
    }
}
