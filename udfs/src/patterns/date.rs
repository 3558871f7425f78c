//! Patterns of dates and times as PostgreSQL has them: `YYYY-MM-DD HH24:MI:SS`.
//!
//! Owns: reading a pattern, writing a time by it, reading a text by it. Does not own: `%` formats (DataFusion), numbers (`number`).
//! A text is read as leniently as PostgreSQL does it: a separator stands for any other or none, and what follows the pattern is left.

use std::fmt::Write as _;

use chrono::{Datelike, NaiveDate, NaiveDateTime, NaiveTime, Timelike};
use datafusion::common::Result;

use crate::dates::{DAYS, MONTHS};
use crate::function::invalid;

const ROMAN: [&str; 12] = ["I", "II", "III", "IV", "V", "VI", "VII", "VIII", "IX", "X", "XI", "XII"];

/// A part of a time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Field {
    Hour12,
    Hour24,
    Minute,
    Second,
    /// So many digits behind the second.
    Fraction(u32),
    SecondOfDay,
    Meridiem,
    /// The last so many digits of the year.
    Year(u32),
    YearWithComma,
    IsoYear(u32),
    Era,
    MonthName,
    MonthShort,
    Month,
    DayName,
    DayShort,
    DayOfYear,
    IsoDayOfYear,
    Day,
    /// Sunday is 1.
    Weekday,
    /// Monday is 1.
    IsoWeekday,
    WeekOfMonth,
    WeekOfYear,
    IsoWeek,
    Century,
    Julian,
    Quarter,
    RomanMonth,
    Zone,
    ZoneHours,
    ZoneMinutes,
    Offset,
}

/// What stands for a field; of two that a pattern may go on with, the longer comes first.
const FIELDS: [(&str, Field); 53] = [
    ("A.D.", Field::Era),
    ("A.M.", Field::Meridiem),
    ("AD", Field::Era),
    ("AM", Field::Meridiem),
    ("B.C.", Field::Era),
    ("BC", Field::Era),
    ("CC", Field::Century),
    ("DAY", Field::DayName),
    ("DDD", Field::DayOfYear),
    ("DD", Field::Day),
    ("DY", Field::DayShort),
    ("D", Field::Weekday),
    ("FF1", Field::Fraction(1)),
    ("FF2", Field::Fraction(2)),
    ("FF3", Field::Fraction(3)),
    ("FF4", Field::Fraction(4)),
    ("FF5", Field::Fraction(5)),
    ("FF6", Field::Fraction(6)),
    ("HH24", Field::Hour24),
    ("HH12", Field::Hour12),
    ("HH", Field::Hour12),
    ("IDDD", Field::IsoDayOfYear),
    ("ID", Field::IsoWeekday),
    ("IW", Field::IsoWeek),
    ("IYYY", Field::IsoYear(4)),
    ("IYY", Field::IsoYear(3)),
    ("IY", Field::IsoYear(2)),
    ("I", Field::IsoYear(1)),
    ("J", Field::Julian),
    ("MI", Field::Minute),
    ("MM", Field::Month),
    ("MONTH", Field::MonthName),
    ("MON", Field::MonthShort),
    ("MS", Field::Fraction(3)),
    ("OF", Field::Offset),
    ("P.M.", Field::Meridiem),
    ("PM", Field::Meridiem),
    ("Q", Field::Quarter),
    ("RM", Field::RomanMonth),
    ("SSSSS", Field::SecondOfDay),
    ("SSSS", Field::SecondOfDay),
    ("SS", Field::Second),
    ("TZH", Field::ZoneHours),
    ("TZM", Field::ZoneMinutes),
    ("TZ", Field::Zone),
    ("US", Field::Fraction(6)),
    ("WW", Field::WeekOfYear),
    ("W", Field::WeekOfMonth),
    ("Y,YYY", Field::YearWithComma),
    ("YYYY", Field::Year(4)),
    ("YYY", Field::Year(3)),
    ("YY", Field::Year(2)),
    ("Y", Field::Year(1)),
];

/// A piece of a pattern.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Piece {
    Field {
        field: Field,
        /// As it stands in the pattern: letters of names, and dots, are as there.
        written: String,
        /// FM: without blanks and zeros before it.
        bare: bool,
        /// TH, as it stands there: with the ending of an ordinal number.
        ordinal: Option<bool>,
    },
    /// Anything else.
    Text {
        text: String,
        /// Whether it was in quotes, so that it is no separator.
        quoted: bool,
    },
}

/// A pattern that was read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Pattern {
    pieces: Vec<Piece>,
}

/// `text` behind `prefix`, in letters of any case.
fn behind<'t>(text: &'t str, prefix: &str) -> Option<&'t str> {
    let start = text.get(..prefix.len())?;
    if start.eq_ignore_ascii_case(prefix) { text.get(prefix.len()..) } else { None }
}

impl Pattern {
    /// Any text is a pattern.
    pub(super) fn new(text: &str) -> Self {
        let mut pieces = Vec::new();
        let mut rest = text;
        while let Some(first) = rest.chars().next() {
            if first == '"' {
                let (quoted, behind) = quoted(&rest[1..]);
                pieces.push(Piece::Text { text: quoted, quoted: true });
                rest = behind;
                continue;
            }
            let (mut bare, mut at) = (false, rest);
            while let Some(next) = ["FM", "TM", "FX"].iter().find_map(|prefix| behind(at, prefix)) {
                bare |= behind(at, "FX").is_none();
                at = next;
            }
            let found = FIELDS.iter().find_map(|(name, field)| Some((*field, behind(at, name)?)));
            if let Some((field, mut next)) = found {
                let written = at[..at.len() - next.len()].to_owned();
                let ordinal = behind(next, "TH").map(|behind| {
                    let is_upper = next.starts_with("TH");
                    next = behind;
                    is_upper
                });
                pieces.push(Piece::Field { field, written, bare, ordinal });
                rest = next;
                continue;
            }
            let first = if first == '\\' { rest[1..].chars().next().unwrap_or(first) } else { first };
            let length = rest.chars().next().map_or(0, char::len_utf8);
            let length = if rest.starts_with('\\') && rest.len() > 1 { 1 + first.len_utf8() } else { length };
            match pieces.last_mut() {
                Some(Piece::Text { text, quoted: false }) => text.push(first),
                _ => pieces.push(Piece::Text { text: first.to_string(), quoted: false }),
            }
            rest = &rest[length..];
        }
        Self { pieces }
    }

    /// Writes `time`, which clocks of a zone show, by the pattern.
    pub(super) fn write(&self, time: &NaiveDateTime, zone: &ZoneText, out: &mut String) {
        for piece in &self.pieces {
            match piece {
                Piece::Text { text, .. } => out.push_str(text),
                Piece::Field { field, written, bare, ordinal } => {
                    let begun = out.len();
                    write_field(*field, written, *bare, time, zone, out);
                    if let Some(upper) = ordinal {
                        let ending = ordinal_ending(&out[begun..]);
                        out.push_str(&if *upper { ending.to_uppercase() } else { ending.to_owned() });
                    }
                }
            }
        }
    }

    /// Reads a text by the pattern.
    ///
    /// # Errors
    /// 22007 for a text of another form, 22008 for a time that there is not.
    pub(super) fn read(&self, text: &str) -> Result<Read> {
        let mut found = Found::default();
        let mut rest = text;
        for (at, piece) in self.pieces.iter().enumerate() {
            match piece {
                Piece::Text { text: literal, quoted } => rest = skipped(rest, literal, *quoted),
                Piece::Field { field, .. } => {
                    rest = rest.trim_start();
                    // Digits that follow each other are told apart by how many there are.
                    let is_fixed = matches!(self.pieces.get(at + 1), Some(Piece::Field { .. }));
                    rest = found.take(*field, rest, is_fixed).ok_or_else(|| other_form(text))?;
                    if let Piece::Field { ordinal: Some(_), .. } = piece {
                        rest = rest.get(2..).unwrap_or_default();
                    }
                }
            }
        }
        found.read().ok_or_else(|| {
            let cut: String = text.chars().take(60).collect();
            invalid("22008", format!("there is no such time as '{cut}'"))
        })
    }
}

fn other_form(text: &str) -> datafusion::error::DataFusionError {
    let cut: String = text.chars().take(60).collect();
    invalid("22007", format!("'{cut}' is no date or timestamp of the given format"))
}

/// What stands up to the closing quote, and what is behind it.
fn quoted(text: &str) -> (String, &str) {
    let mut out = String::new();
    let mut chars = text.char_indices();
    while let Some((at, c)) = chars.next() {
        match c {
            '"' => return (out, &text[at + 1..]),
            '\\' => out.extend(chars.next().map(|(_, escaped)| escaped)),
            c => out.push(c),
        }
    }
    (out, "")
}

/// `text` behind what stands for `literal` in it.
fn skipped<'t>(text: &'t str, literal: &str, quoted: bool) -> &'t str {
    let mut rest = text;
    for c in literal.chars() {
        let Some(next) = rest.chars().next() else { break };
        let is_separator = |c: char| !c.is_alphanumeric() && c != '+' && c != '-';
        // A sign may belong to what follows, unless the pattern has it.
        let skips =
            quoted || c.is_alphanumeric() || is_separator(next) || next == c || (next == '-' && c != ' ');
        if skips {
            rest = &rest[next.len_utf8()..];
        }
    }
    rest
}

/// What a time of a zone says of it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct ZoneText {
    /// Its name at that time, as `CEST`; empty: it has no zone.
    pub(super) name: String,
    /// Seconds east of UTC.
    pub(super) offset: i32,
}

/// `name` in upper case, in lower case, or as it is, as its pattern is `written`.
fn cased(name: &str, written: &str) -> String {
    let mut letters = written.chars().filter(|c| c.is_alphabetic());
    match (letters.next().is_some_and(char::is_uppercase), letters.next().is_some_and(char::is_uppercase)) {
        (true, true) => name.to_uppercase(),
        (true, false) => name.to_owned(),
        (false, _) => name.to_lowercase(),
    }
}

fn write_field(
    field: Field,
    written: &str,
    bare: bool,
    time: &NaiveDateTime,
    zone: &ZoneText,
    out: &mut String,
) {
    let name = |name: &str, width: usize, out: &mut String| {
        let width = if bare { 0 } else { width };
        // Writing to a text does not fail.
        let _ = write!(out, "{:<width$}", cased(name, written));
    };
    let number = |number: i64, width: usize, out: &mut String| {
        let width = if bare { 0 } else { width };
        let _ = write!(out, "{number:0width$}");
    };
    let hour12 = |time: &NaiveDateTime| i64::from(time.hour12().1);
    let last_digits = |year: i32, digits: u32| i64::from(year) % 10_i64.pow(digits);
    // There is no year 0: it is 1 BC.
    let year = if time.year() > 0 { time.year() } else { 1 - time.year() };
    let iso_year = time.iso_week().year();
    match field {
        Field::Hour12 => number(hour12(time), 2, out),
        Field::Hour24 => number(time.hour().into(), 2, out),
        Field::Minute => number(time.minute().into(), 2, out),
        Field::Second => number(time.second().into(), 2, out),
        Field::Fraction(digits) => {
            let fraction = i64::from(time.nanosecond() % 1_000_000_000) / 10_i64.pow(9 - digits);
            let _ = write!(out, "{fraction:0width$}", width = digits as usize);
        }
        Field::SecondOfDay => number(time.num_seconds_from_midnight().into(), 0, out),
        Field::Meridiem => {
            let half = match (time.hour() < 12, written.contains('.')) {
                (true, false) => "AM",
                (true, true) => "A.M.",
                (false, false) => "PM",
                (false, true) => "P.M.",
            };
            name(half, 0, out);
        }
        Field::Era => {
            let era = match (time.year() > 0, written.contains('.')) {
                (true, false) => "AD",
                (true, true) => "A.D.",
                (false, false) => "BC",
                (false, true) => "B.C.",
            };
            name(era, 0, out);
        }
        Field::Year(4) => number(year.into(), 4, out),
        Field::Year(digits) => number(last_digits(year, digits), digits as usize, out),
        Field::YearWithComma => {
            let _ = write!(out, "{},{:03}", year / 1_000, year % 1_000);
        }
        Field::IsoYear(4) => number(iso_year.into(), 4, out),
        Field::IsoYear(digits) => number(last_digits(iso_year.abs(), digits), digits as usize, out),
        Field::MonthName => name(MONTHS[time.month0() as usize % 12], 9, out),
        Field::MonthShort => name(&MONTHS[time.month0() as usize % 12][..3], 0, out),
        Field::Month => number(time.month().into(), 2, out),
        Field::DayName => name(weekday_name(time), 9, out),
        Field::DayShort => name(&weekday_name(time)[..3], 0, out),
        Field::DayOfYear => number(time.ordinal().into(), 3, out),
        Field::IsoDayOfYear => {
            let day = i64::from(time.iso_week().week0()) * 7 + i64::from(time.weekday().number_from_monday());
            number(day, 3, out);
        }
        Field::Day => number(time.day().into(), 2, out),
        Field::Weekday => number(i64::from(time.weekday().num_days_from_sunday()) + 1, 0, out),
        Field::IsoWeekday => number(time.weekday().number_from_monday().into(), 0, out),
        Field::WeekOfMonth => number(i64::from(time.day0() / 7 + 1), 0, out),
        Field::WeekOfYear => number(i64::from(time.ordinal0() / 7 + 1), 2, out),
        Field::IsoWeek => number(time.iso_week().week().into(), 2, out),
        Field::Century => {
            let century = i64::from((year - 1) / 100 + 1);
            number(if time.year() > 0 { century } else { -century }, 2, out);
        }
        Field::Julian => number(i64::from(time.num_days_from_ce()) + 1_721_425, 0, out),
        Field::Quarter => number(i64::from(time.month0() / 3 + 1), 0, out),
        Field::RomanMonth => name(ROMAN[time.month0() as usize % 12], 4, out),
        Field::Zone => name(&zone.name, 0, out),
        Field::ZoneHours => {
            let _ = write!(out, "{}", signed_hours(zone.offset));
        }
        Field::ZoneMinutes => {
            let _ = write!(out, "{:02}", zone.offset.abs() / 60 % 60);
        }
        Field::Offset => {
            out.push_str(&signed_hours(zone.offset));
            if zone.offset % 3_600 != 0 {
                let _ = write!(out, ":{:02}", zone.offset.abs() / 60 % 60);
            }
        }
    }
}

fn weekday_name(time: &NaiveDateTime) -> &'static str {
    DAYS[time.weekday().num_days_from_sunday() as usize % 7]
}

fn signed_hours(offset: i32) -> String {
    let sign = if offset < 0 { '-' } else { '+' };
    format!("{sign}{:02}", offset.abs() / 3_600)
}

fn ordinal_ending(number: &str) -> &'static str {
    let digits = number.trim_start_matches('-');
    let is_teen = digits.len() > 1 && digits[..digits.len() - 1].ends_with('1');
    match digits.chars().last() {
        Some('1') if !is_teen => "st",
        Some('2') if !is_teen => "nd",
        Some('3') if !is_teen => "rd",
        _ => "th",
    }
}

/// What a text says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Read {
    /// The time of a clock.
    pub(super) time: NaiveDateTime,
    /// Seconds east of UTC, where it says them.
    pub(super) offset: Option<i32>,
}

/// Parts of a time that were read.
#[derive(Debug, Default)]
struct Found {
    year: Option<i32>,
    iso_year: Option<i32>,
    is_before_christ: bool,
    century: Option<i32>,
    month: Option<u32>,
    day: Option<u32>,
    day_of_year: Option<u32>,
    iso_week: Option<u32>,
    iso_weekday: Option<u32>,
    week_of_year: Option<u32>,
    julian: Option<i32>,
    hour12: Option<u32>,
    hour24: Option<u32>,
    is_afternoon: Option<bool>,
    minute: Option<u32>,
    second: Option<u32>,
    second_of_day: Option<u32>,
    nanos: Option<u32>,
    zone_sign: i32,
    zone_hours: Option<i32>,
    zone_minutes: i32,
}

/// A number of at most `most` digits at the beginning of `text`, and what is behind it.
fn digits(text: &str, most: usize) -> Option<(u32, &str)> {
    let length = text.bytes().take(most).take_while(u8::is_ascii_digit).count();
    Some((text[..length].parse().ok()?, &text[length..]))
}

/// Which of `names` stands at the beginning of `text`, whole or by its first three letters, and what is behind it.
fn named<'t>(text: &'t str, names: &[&str]) -> Option<(u32, &'t str)> {
    let whole = (0_u32..).zip(names).find_map(|(at, name)| Some((at, behind(text, name)?)));
    whole.or_else(|| (0_u32..).zip(names).find_map(|(at, name)| Some((at, behind(text, name.get(..3)?)?))))
}

fn half<'t>(text: &'t str, firsts: [&str; 2], seconds: [&str; 2]) -> Option<(bool, &'t str)> {
    let first = firsts.iter().find_map(|name| Some((false, behind(text, name)?)));
    first.or_else(|| seconds.iter().find_map(|name| Some((true, behind(text, name)?))))
}

impl Found {
    /// Reads a field at the beginning of `text`; what is behind it. None: something else stands there.
    fn take<'t>(&mut self, field: Field, text: &'t str, is_fixed: bool) -> Option<&'t str> {
        let number = |width: usize| digits(text, if is_fixed { width } else { 10 });
        match field {
            Field::Hour12 => keep(&mut self.hour12, number(2)?),
            Field::Hour24 => keep(&mut self.hour24, number(2)?),
            Field::Minute => keep(&mut self.minute, number(2)?),
            Field::Second => keep(&mut self.second, number(2)?),
            Field::SecondOfDay => keep(&mut self.second_of_day, number(5)?),
            Field::Fraction(width) => {
                let (value, rest) = digits(text, width as usize)?;
                let length = u32::try_from(text.len() - rest.len()).ok()?;
                self.nanos = Some(value * 10_u32.pow(9_u32.checked_sub(length)?));
                // What is finer than the pattern is left out.
                Some(rest.trim_start_matches(|c: char| !is_fixed && c.is_ascii_digit()))
            }
            Field::Meridiem => {
                let (is_afternoon, rest) = half(text, ["A.M.", "AM"], ["P.M.", "PM"])?;
                self.is_afternoon = Some(is_afternoon);
                Some(rest)
            }
            Field::Era => {
                let (is_before_christ, rest) = half(text, ["A.D.", "AD"], ["B.C.", "BC"])?;
                self.is_before_christ = is_before_christ;
                Some(rest)
            }
            Field::Year(width) | Field::IsoYear(width) => {
                let (value, rest) = number(width as usize)?;
                let mut value = i32::try_from(value).ok()?;
                if width < 4 {
                    value = whole_year(value, text.len() - rest.len());
                }
                let year = if matches!(field, Field::Year(_)) { &mut self.year } else { &mut self.iso_year };
                *year = Some(value);
                Some(rest)
            }
            Field::YearWithComma => {
                let (thousands, rest) = digits(text, 6)?;
                let (rest_of_it, rest) = digits(rest.strip_prefix(',')?, 3)?;
                self.year = i32::try_from(thousands * 1_000 + rest_of_it).ok();
                Some(rest)
            }
            Field::Century => {
                let (value, rest) = number(2)?;
                self.century = i32::try_from(value).ok();
                Some(rest)
            }
            Field::MonthName | Field::MonthShort => {
                let (at, rest) = named(text, &MONTHS)?;
                self.month = Some(at + 1);
                Some(rest)
            }
            Field::RomanMonth => {
                // The longest first: VIII begins with V.
                let found = (1..).zip(ROMAN).filter_map(|(month, name)| Some((month, behind(text, name)?)));
                let (month, rest) = found.min_by_key(|(_, rest)| rest.len())?;
                self.month = Some(month);
                Some(rest)
            }
            Field::Month => keep(&mut self.month, number(2)?),
            // The date tells it.
            Field::DayName | Field::DayShort => named(text, &DAYS).map(|(_, rest)| rest),
            Field::Weekday | Field::WeekOfMonth | Field::Quarter => number(1).map(|(_, rest)| rest),
            Field::DayOfYear => keep(&mut self.day_of_year, number(3)?),
            Field::Day => keep(&mut self.day, number(2)?),
            Field::IsoWeek => keep(&mut self.iso_week, number(2)?),
            Field::IsoWeekday => keep(&mut self.iso_weekday, number(1)?),
            Field::IsoDayOfYear => {
                let (value, rest) = number(3)?;
                let day = value.checked_sub(1)?;
                (self.iso_week, self.iso_weekday) = (Some(day / 7 + 1), Some(day % 7 + 1));
                Some(rest)
            }
            Field::WeekOfYear => keep(&mut self.week_of_year, number(2)?),
            Field::Julian => {
                let (value, rest) = number(7)?;
                self.julian = Some(i32::try_from(value).ok()?);
                Some(rest)
            }
            Field::ZoneHours | Field::Offset => {
                let (sign, rest) = match text.strip_prefix('-') {
                    Some(rest) => (-1, rest),
                    None => (1, text.strip_prefix('+').unwrap_or(text)),
                };
                let (hours, mut rest) = digits(rest, 2)?;
                (self.zone_sign, self.zone_hours) = (sign, Some(i32::try_from(hours).ok()?));
                if let (Field::Offset, Some(behind)) = (field, rest.strip_prefix(':')) {
                    let (minutes, behind) = digits(behind, 2)?;
                    self.zone_minutes = i32::try_from(minutes).ok()?;
                    rest = behind;
                }
                Some(rest)
            }
            Field::ZoneMinutes => {
                let (minutes, rest) = digits(text, 2)?;
                self.zone_minutes = i32::try_from(minutes).ok()?;
                Some(rest)
            }
            // Of one abbreviation there are several zones.
            Field::Zone => None,
        }
    }

    fn read(&self) -> Option<Read> {
        let offset = match self.zone_hours {
            Some(hours) if hours < 16 && self.zone_minutes < 60 => {
                Some(self.zone_sign * (hours * 3_600 + self.zone_minutes * 60))
            }
            Some(_) => return None,
            None => None,
        };
        Some(Read { time: NaiveDateTime::new(self.date()?, self.time()?), offset })
    }

    /// What the pattern leaves out is 1900-01-01, as strptime has it.
    fn date(&self) -> Option<NaiveDate> {
        if let Some(julian) = self.julian {
            return NaiveDate::from_num_days_from_ce_opt(julian.checked_sub(1_721_425)?);
        }
        if let Some(week) = self.iso_week {
            let day =
                chrono::Weekday::try_from(u8::try_from(self.iso_weekday.unwrap_or(1)).ok()?.checked_sub(1)?);
            return NaiveDate::from_isoywd_opt(self.iso_year.or(self.year)?, week, day.ok()?);
        }
        let year = match (self.year.or(self.iso_year), self.century) {
            (Some(year), _) => year,
            (None, Some(century)) => (century.checked_sub(1)?).checked_mul(100)?.checked_add(1)?,
            (None, None) => 1900,
        };
        let year = if self.is_before_christ { 1 - year } else { year };
        if let Some(day) = self.day_of_year {
            return NaiveDate::from_yo_opt(year, day);
        }
        if let Some(week) = self.week_of_year {
            return NaiveDate::from_yo_opt(year, week.checked_sub(1)?.checked_mul(7)?.checked_add(1)?);
        }
        NaiveDate::from_ymd_opt(year, self.month.unwrap_or(1), self.day.unwrap_or(1))
    }

    fn time(&self) -> Option<NaiveTime> {
        if let Some(second) = self.second_of_day {
            return NaiveTime::from_num_seconds_from_midnight_opt(second, self.nanos.unwrap_or(0));
        }
        let hour = match (self.hour24, self.hour12) {
            (Some(hour), _) => hour,
            (None, Some(hour)) if (1..=12).contains(&hour) => {
                hour % 12 + if self.is_afternoon == Some(true) { 12 } else { 0 }
            }
            (None, Some(_)) => return None,
            (None, None) => 0,
        };
        let (minute, second) = (self.minute.unwrap_or(0), self.second.unwrap_or(0));
        NaiveTime::from_hms_nano_opt(hour, minute, second, self.nanos.unwrap_or(0))
    }
}

fn keep<'t>(part: &mut Option<u32>, (value, rest): (u32, &'t str)) -> Option<&'t str> {
    *part = Some(value);
    Some(rest)
}

/// A year of fewer than four digits is the one nearest to 2020.
fn whole_year(year: i32, digits: usize) -> i32 {
    match digits {
        1 => 2020 + year,
        2 if year < 70 => 2000 + year,
        2 => 1900 + year,
        3 if year < 520 => 2000 + year,
        3 => 1000 + year,
        _ => year,
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn at(text: &str) -> NaiveDateTime {
        NaiveDateTime::parse_from_str(text, "%Y-%m-%d %H:%M:%S%.f").unwrap()
    }

    fn written(pattern: &str, time: &str) -> String {
        let mut out = String::new();
        let zone = ZoneText { name: "CEST".to_owned(), offset: 7_200 };
        Pattern::new(pattern).write(&at(time), &zone, &mut out);
        out
    }

    fn said(pattern: &str, text: &str) -> String {
        match Pattern::new(pattern).read(text) {
            Ok(Read { time, offset: None }) => time.to_string(),
            Ok(Read { time, offset: Some(offset) }) => format!("{time} {offset}"),
            Err(_) => "refused".to_owned(),
        }
    }

    #[test]
    fn times_are_written_as_postgresql_does() {
        let time = "2024-07-01 15:04:05.678901";
        for (pattern, text) in [
            ("HH24:MI", "15:04"),
            ("YYYY-MM-DD HH24:MI:SS.MS", "2024-07-01 15:04:05.678"),
            ("HH12:MI:SS.US am", "03:04:05.678901 pm"),
            ("HH:MI A.M.", "03:04 P.M."),
            ("FMDay, FMDD FMMonth YYYY", "Monday, 1 July 2024"),
            ("Day|MONTH|dy|Mon", "Monday   |JULY     |mon|Jul"),
            ("DDth FMDDTH", "01st 1ST"),
            ("DDD D ID W WW IW IYYY IDDD", "183 2 1 1 27 27 2024 183"),
            ("YYY YY Y Y,YYY CC Q RM J", "024 24 4 2,024 21 3 VII  2460493"),
            ("TZ tz TZH:TZM OF", "CEST cest +02:00 +02"),
            ("SSSS FF2 AD b.c.", "54245 67 AD a.d."),
            ("\"year: \"YYYY\\D", "year: 2024D"),
            ("kx/ö", "kx/ö"),
            ("", ""),
        ] {
            assert_eq!(written(pattern, time), text, "{pattern}");
        }
        assert_eq!(written("HH12 AM", "2024-07-01 00:00:00"), "12 AM");
        assert_eq!(written("FMDDth", "2024-07-12 00:00:00"), "12th");
        assert_eq!(written("FMDDth", "2024-07-22 00:00:00"), "22nd");
    }

    #[test]
    fn texts_are_read_as_postgresql_does() {
        for (pattern, text, time) in [
            ("YYYY-MM-DD", "2024-02-03", "2024-02-03 00:00:00"),
            ("YYYYMMDDHH24MISS", "20240203040506", "2024-02-03 04:05:06"),
            ("DD Mon YYYY HH12:MI PM", "3 feb 2024 04:05 pm", "2024-02-03 16:05:00"),
            ("Month DD, YYYY", "February 3, 2024", "2024-02-03 00:00:00"),
            ("YYYY/MM/DD", "2024-2-3", "2024-02-03 00:00:00"),
            ("YY-MM-DD", "69-01-02", "2069-01-02 00:00:00"),
            ("YYYY-DDD", "2024-034", "2024-02-03 00:00:00"),
            ("IYYY-IW-ID", "2024-01-1", "2024-01-01 00:00:00"),
            ("YYYY-MM-DD HH24:MI:SS.US", "2024-02-03 04:05:06.78", "2024-02-03 04:05:06.780"),
            ("YYYY-MM-DD HH24:MI TZH:TZM", "2024-02-03 04:05 -05:30", "2024-02-03 04:05:00 -19800"),
            ("YYYY-MM-DD", "2024-02-03 and more", "2024-02-03 00:00:00"),
            ("HH24:MI", "04:05", "1900-01-01 04:05:00"),
            ("DDth Mon YYYY", "3rd Feb 2024", "2024-02-03 00:00:00"),
            ("DD RM YYYY", "3 VIII 2024", "2024-08-03 00:00:00"),
            ("YYYY-MM-DD", "2024-02-30", "refused"),
            ("YYYY-MM-DD", "soon", "refused"),
            ("HH12:MI", "13:00", "refused"),
            ("YYYY-MM-DD", "", "refused"),
            ("YYYY TZ", "2024 CET", "refused"),
        ] {
            assert_eq!(said(pattern, text), time, "{pattern} of {text}");
        }
    }

    #[test]
    fn no_text_and_no_pattern_panics() {
        let texts = [
            "",
            "ö",
            "\"",
            "\\",
            "FM",
            "FMTH",
            "DDTH",
            "-",
            "99999999999",
            "Y,YYY",
            "äöü",
            "1,2",
            "AM1",
            "WW",
            "4000000000",
        ];
        for pattern in texts {
            for text in texts {
                let _ = Pattern::new(pattern).read(text);
            }
            written(pattern, "2024-07-01 00:00:00");
        }
    }
}
