//! Text in a given form: `strftime`, `strptime`, `try_strptime`, with the letters of DuckDB.

use std::fmt::Write as _;

use chrono::format::{Item, Parsed, StrftimeItems, parse};
use chrono::{NaiveDateTime, Offset, TimeZone, Utc};
use datafusion::arrow::array::ArrayRef;
use datafusion::arrow::datatypes::{DataType, TimeUnit};
use datafusion::common::Result;

use super::make::timestamps;
use crate::function::{Call, Kind, Spec, TextRows, Texts, invalid, out_of_range};

pub(super) fn functions() -> Vec<Spec> {
    const STAMP: DataType = DataType::Timestamp(TimeUnit::Microsecond, None);
    const TAKES: &[&[Kind]] = &[&[Kind::Text, Kind::Text]];
    vec![
        Spec::new(
            "strftime(timestamp, format)",
            &[&[Kind::Instant, Kind::Text]],
            |_| DataType::Utf8View,
            strftime,
            "The date or timestamp as text: %Y %m %d %H %M %S, %f microseconds, %g milliseconds, %n nanoseconds, %a %A weekday, %b %B month, %j day of the year, \
             %U %W %V week, %w %u weekday, %G ISO year, %p AM or PM with %I, %y, %z offset, %Z zone, %c %x %X in ISO order; %-d without a zero.",
            "SELECT strftime(DATE '2024-02-03', '%d %B %Y')  -- 03 February 2024",
        ),
        Spec::new(
            "strptime(text, format)",
            TAKES,
            |_| STAMP,
            |call| parsed(call, false),
            "The TIMESTAMP that the text says, by the letters of strftime; in UTC where it has an offset. What the format leaves out is \
             1900-01-01 00:00:00. A text of another form is an error.",
            "SELECT strptime('3 Feb 2024 04:05', '%d %b %Y %H:%M')  -- 2024-02-03T04:05:00",
        ),
        Spec::new(
            "try_strptime(text, format)",
            TAKES,
            |_| STAMP,
            |call| parsed(call, true),
            "As strptime; NULL where the text has another form.",
            "SELECT try_strptime('soon', '%Y-%m-%d')  -- NULL",
        ),
    ]
}

/// `format` in chrono's letters. `reads` is whether text is read by it.
fn translated(format: &str, zone: &str, reads: bool) -> String {
    let mut out = String::with_capacity(format.len() + 16);
    let mut chars = format.chars();
    while let Some(c) = chars.next() {
        if c != '%' {
            out.push(c);
            continue;
        }
        match chars.next() {
            // A fraction of fewer digits is read, too.
            Some('f') if reads && out.ends_with('.') => {
                out.pop();
                out.push_str("%.f");
            }
            Some('f') => out.push_str("%6f"),
            Some('g') => out.push_str("%3f"),
            Some('n') => out.push_str("%9f"),
            Some('c') => out.push_str("%Y-%m-%d %H:%M:%S"),
            Some('x') => out.push_str("%Y-%m-%d"),
            Some('X') => out.push_str("%H:%M:%S"),
            Some('Z') if !reads => out.push_str(&zone.replace('%', "%%")),
            Some('z') if !reads => out.push_str("%:z"),
            Some('z') => out.push_str("%#z"),
            Some(other) => {
                out.push('%');
                out.push(other);
            }
            // chrono refuses it.
            None => out.push('%'),
        }
    }
    out
}

fn items(format: &str, zone: &str, reads: bool) -> Result<Vec<Item<'static>>> {
    let translated = translated(format, zone, reads);
    StrftimeItems::new(&translated).parse_to_owned().map_err(|_| {
        let cut: String = format.chars().take(60).collect();
        invalid("22007", format!("'{cut}' is no format of dates and timestamps"))
    })
}

/// The format of each row, read once where it is a constant.
struct Formats<'a> {
    texts: Texts<'a>,
    constant: Option<Vec<Item<'static>>>,
    zone: String,
    reads: bool,
}

impl<'a> Formats<'a> {
    fn new(texts: Texts<'a>, zone: String, reads: bool) -> Result<Self> {
        let constant = match texts {
            Texts::Same(Some(format)) => Some(items(format, &zone, reads)?),
            _ => None,
        };
        Ok(Self { texts, constant, zone, reads })
    }

    fn with<T>(&self, row: usize, of: impl FnOnce(&[Item<'static>]) -> Result<T>) -> Result<Option<T>> {
        match (&self.constant, self.texts.at(row)) {
            (Some(items), _) => of(items).map(Some),
            (None, Some(format)) => of(&items(format, &self.zone, self.reads)?).map(Some),
            (None, None) => Ok(None),
        }
    }
}

fn strftime(call: &Call<'_>) -> Result<ArrayRef> {
    let instants = call.instants(0)?;
    let zone = instants.zone().map(ToString::to_string).unwrap_or_default();
    let formats = Formats::new(call.texts(1)?, zone, false)?;
    TextRows::written(call, |row, out| {
        let Some(local) = instants.local(row)? else { return Ok(false) };
        let utc = crate::function::naive(instants.micros(row)?.unwrap_or_default())?;
        let offset = match instants.zone() {
            Some(zone) => zone.offset_from_utc_datetime(&utc).fix(),
            None => Utc.fix(),
        };
        let time = offset.from_local_datetime(&local).single().ok_or_else(out_of_range)?;
        let written = formats.with(row, |items| {
            let shown = time.format_with_items(items.iter());
            write!(out, "{shown}")
                .map_err(|_| invalid("22007", "the format asks for what a timestamp has not"))
        })?;
        Ok(written.is_some())
    })
}

fn parsed(call: &Call<'_>, tries: bool) -> Result<ArrayRef> {
    let texts = call.texts(0)?;
    let formats = Formats::new(call.texts(1)?, String::new(), true)?;
    timestamps(call, |row| {
        let Some(text) = texts.at(row) else { return Ok(None) };
        let read = formats.with(row, |items| Ok(read(text, items)))?;
        match read {
            None => Ok(None),
            Some(Some(micros)) => Ok(Some(micros)),
            Some(None) if tries => Ok(None),
            Some(None) => {
                let cut: String = text.chars().take(60).collect();
                Err(invalid("22007", format!("'{cut}' is no date or timestamp of the given format")))
            }
        }
    })
}

/// Microseconds since 1970 that `text` says; None when it has another form.
fn read(text: &str, items: &[Item<'static>]) -> Option<i64> {
    let mut parsed = Parsed::new();
    parse(&mut parsed, text, items.iter()).ok()?;
    let offset = i64::from(parsed.offset().unwrap_or(0));
    let has_time = parsed.hour_div_12().is_some() || parsed.hour_mod_12().is_some();
    if !has_time {
        parsed.set_hour(0).ok()?;
    }
    if parsed.hour_div_12().is_none() {
        parsed.set_ampm(false).ok()?;
    }
    if parsed.minute().is_none() {
        parsed.set_minute(0).ok()?;
    }
    if parsed.second().is_none() && parsed.nanosecond().is_some() {
        parsed.set_second(0).ok()?;
    }
    let date = match parsed.to_naive_date() {
        Ok(date) => date,
        Err(_) => {
            if parsed.year().is_none() && parsed.year_mod_100().is_none() && parsed.isoyear().is_none() {
                parsed.set_year(1900).ok()?;
            }
            let has_day = parsed.ordinal().is_some() || parsed.isoweek().is_some();
            if !has_day && parsed.month().is_none() {
                parsed.set_month(1).ok()?;
            }
            if !has_day && parsed.day().is_none() {
                parsed.set_day(1).ok()?;
            }
            parsed.to_naive_date().ok()?
        }
    };
    let time = parsed.to_naive_time().ok()?;
    let micros = NaiveDateTime::new(date, time).and_utc().timestamp_micros();
    micros.checked_sub(offset * 1_000_000)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn said(text: &str, format: &str) -> Option<String> {
        let micros = read(text, &items(format, "", true).unwrap())?;
        Some(crate::function::naive(micros).unwrap().to_string())
    }

    #[test]
    fn what_is_left_out_is_1900() {
        assert_eq!(said("3 Feb 2024 04:05", "%d %b %Y %H:%M").unwrap(), "2024-02-03 04:05:00");
        assert_eq!(said("04:05", "%H:%M").unwrap(), "1900-01-01 04:05:00");
        assert_eq!(said("2024", "%Y").unwrap(), "2024-01-01 00:00:00");
        assert_eq!(said("12 PM", "%I %p").unwrap(), "1900-01-01 12:00:00");
        assert_eq!(
            said("2024-02-03 04:05:06.78", "%Y-%m-%d %H:%M:%S.%f").unwrap(),
            "2024-02-03 04:05:06.780"
        );
        assert_eq!(said("2024-02-03 04:05 +02:00", "%Y-%m-%d %H:%M %z").unwrap(), "2024-02-03 02:05:00");
        assert_eq!(said("2024-02-30", "%Y-%m-%d"), None);
        assert_eq!(said("soon", "%Y"), None);
    }

    #[test]
    fn formats_are_checked() {
        assert!(items("%Y-%K", "", false).is_err());
        assert!(items("%", "", false).is_err());
        assert_eq!(translated("%f %g 100%% %Z", "+02:00", false), "%6f %3f 100%% +02:00");
    }
}
