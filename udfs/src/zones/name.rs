//! Names of time zones.
//!
//! Owns: which texts name one, and the one spelling each has inside: `+00:00` for UTC, `+02:00` for an offset, else the name in the
//! IANA database. Does not own: the database (`chrono_tz`, compiled in: it does not change with the machine's).

use std::fmt;

use chrono_tz::TZ_VARIANTS;

use super::UTC;

/// Most edits between a name that is not there and one that may be meant.
const EDITS_MAX: usize = 3;

/// A text that names no zone.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UnknownZone {
    /// The text, cut.
    pub text: String,
    /// The name that may be meant.
    pub near: Option<&'static str>,
}

impl fmt::Display for UnknownZone {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "there is no time zone '{}'", self.text)?;
        match self.near {
            Some(near) => write!(f, "; did you mean {near}?"),
            None => Ok(()),
        }
    }
}

impl std::error::Error for UnknownZone {}

/// The zone that `text` names, in the spelling it has inside: `UTC`, an offset in hours (`2`, `-7`, `+5:30`, `+0530`), or a name of the
/// IANA database in letters of any case.
///
/// # Errors
/// When it names none.
pub fn zone_named(text: &str) -> Result<String, UnknownZone> {
    let text = text.trim();
    if ["UTC", "GMT", "Z"].iter().any(|name| text.eq_ignore_ascii_case(name)) {
        return Ok(UTC.to_owned());
    }
    if let Some(offset) = offset(text) {
        return Ok(offset);
    }
    match zone_names().find(|name| text.eq_ignore_ascii_case(name)) {
        Some(name) => Ok(name.to_owned()),
        None => Err(UnknownZone { text: text.chars().take(64).collect(), near: near(text) }),
    }
}

/// Names of the IANA database that [`zone_named`] takes.
pub fn zone_names() -> impl Iterator<Item = &'static str> {
    TZ_VARIANTS.iter().map(|zone| zone.name())
}

/// `text` as `+hh:mm`, when it is an offset east of UTC.
fn offset(text: &str) -> Option<String> {
    let (sign, digits) = match text.strip_prefix('-') {
        Some(digits) => ('-', digits),
        None => ('+', text.strip_prefix('+').unwrap_or(text)),
    };
    if !digits.bytes().all(|b| b.is_ascii_digit() || b == b':') {
        return None;
    }
    let (hours, minutes) = match digits.split_once(':') {
        Some(parts) => parts,
        None if digits.len() == 4 => digits.split_at(2),
        None => (digits, "00"),
    };
    if !(1..=2).contains(&hours.len()) || minutes.len() != 2 {
        return None;
    }
    let (hours, minutes): (u32, u32) = (hours.parse().ok()?, minutes.parse().ok()?);
    // As far as PostgreSQL goes; the farthest in use is 14 hours.
    if hours > 15 || minutes > 59 {
        return None;
    }
    let sign = if hours == 0 && minutes == 0 { '+' } else { sign };
    Some(format!("{sign}{hours:02}:{minutes:02}"))
}

/// The name that `text` may mean: that of the same city, or else the one of the fewest edits.
fn near(text: &str) -> Option<&'static str> {
    let wanted: String = text.chars().take(64).collect::<String>().to_lowercase().replace(' ', "_");
    let city = |name: &str| name.rsplit('/').next().unwrap_or(name).to_lowercase();
    if let Some(name) = zone_names().find(|name| name.contains('/') && city(name) == wanted) {
        return Some(name);
    }
    let most = EDITS_MAX.min(wanted.chars().count() / 3);
    zone_names()
        .map(|name| {
            let whole = strsim::osa_distance(&wanted, &name.to_lowercase());
            (whole.min(strsim::osa_distance(&wanted, &city(name))), name)
        })
        .filter(|(edits, _)| *edits <= most)
        .min()
        .map(|(_, name)| name)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use datafusion::arrow::array::timezone::Tz;

    use super::*;

    #[test]
    fn every_spelling_becomes_one() {
        for (text, zone) in [
            ("utc", UTC),
            ("GMT", UTC),
            ("z", UTC),
            ("0", UTC),
            ("-00:00", UTC),
            ("2", "+02:00"),
            ("+2", "+02:00"),
            ("-7", "-07:00"),
            ("+0530", "+05:30"),
            ("5:30", "+05:30"),
            ("europe/zurich", "Europe/Zurich"),
            (" America/New_York ", "America/New_York"),
            ("cet", "CET"),
        ] {
            let named = zone_named(text).unwrap();
            assert_eq!(named, zone, "{text}");
            assert!(named.parse::<Tz>().is_ok(), "{text}");
        }
        for text in ["", "16", "+02:60", "1:2:3", "+2:5", "123", "nowhere at all", "ü2", "+"] {
            assert!(zone_named(text).is_err(), "{text}");
        }
    }

    #[test]
    fn the_name_that_is_meant_is_told() {
        for (text, near) in [
            ("Europe/Zurch", Some("Europe/Zurich")),
            ("Zurich", Some("Europe/Zurich")),
            ("new york", Some("America/New_York")),
            ("Amercia/New_York", Some("America/New_York")),
            ("somewhere else", None),
            ("", None),
        ] {
            assert_eq!(zone_named(text).unwrap_err().near, near, "{text}");
        }
        let told = zone_named("Europe/Zurch").unwrap_err().to_string();
        assert_eq!(told, "there is no time zone 'Europe/Zurch'; did you mean Europe/Zurich?");
    }
}
