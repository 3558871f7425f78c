//! Texts and bytes in other alphabets: of URLs, hexadecimal, base 64, and numbers in other bases.

use std::fmt::Write as _;
use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use datafusion::arrow::array::{ArrayRef, BinaryViewBuilder};
use datafusion::arrow::datatypes::DataType;
use datafusion::common::Result;
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, percent_decode_str, utf8_percent_encode};

use crate::bounded::TooLarge;
use crate::function::{Call, Kind, Spec, TextRows, integers, invalid};

/// What stays in a URL: letters, digits and `-._~`.
const RESERVED: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~');

pub(super) fn functions() -> Vec<Spec> {
    const TEXT: &[&[Kind]] = &[&[Kind::Text]];
    const BYTES: &[&[Kind]] = &[&[Kind::Text], &[Kind::Bytes]];
    const WHOLE: &[&[Kind]] = &[&[Kind::Integer]];
    vec![
        Spec::new(
            "url_encode(text)",
            TEXT,
            |_| DataType::Utf8View,
            |call| {
                let texts = call.texts(0)?;
                TextRows::written(call, |row, out| {
                    Ok(texts.at(row).map(|text| out.extend(utf8_percent_encode(text, RESERVED))).is_some())
                })
            },
            "The text as a part of a URL: all but letters, digits and -._~ by their bytes.",
            "SELECT url_encode('a b/ü')  -- a%20b%2F%C3%BC",
        ),
        Spec::new(
            "url_decode(text)",
            TEXT,
            |_| DataType::Utf8View,
            |call| {
                let texts = call.texts(0)?;
                TextRows::written(call, |row, out| {
                    let Some(text) = texts.at(row) else { return Ok(false) };
                    match percent_decode_str(text).decode_utf8() {
                        Ok(text) => out.push_str(&text),
                        Err(_) => {
                            return Err(invalid("22021", "url_decode would make bytes that are no UTF-8"));
                        }
                    }
                    Ok(true)
                })
            },
            "The text of a part of a URL.",
            "SELECT url_decode('a%20b')  -- a b",
        ),
        Spec::new(
            "hex(value)",
            &[&[Kind::Text], &[Kind::Bytes], &[Kind::Integer]],
            |_| DataType::Utf8View,
            hex,
            "The bytes of a text or BYTEA in hexadecimal, or a whole number in base 16, that of a negative one with 64 bits; upper case.",
            "SELECT hex('ab'), hex(255)  -- 6162, FF",
        ),
        Spec::new(
            "unhex(text)",
            TEXT,
            |_| DataType::BinaryView,
            |call| {
                let texts = call.texts(0)?;
                bytes(call, |row| texts.at(row).map(unhex).transpose())
            },
            "The bytes, a BYTEA, that hexadecimal digits say.",
            "SELECT unhex('6162') = 'ab'::BYTEA  -- true",
        )
        .also(&["from_hex"]),
        Spec::new(
            "to_base64(value)",
            BYTES,
            |_| DataType::Utf8View,
            |call| {
                let values = call.bytes(0)?;
                TextRows::written(call, |row, out| {
                    Ok(values.at(row).map(|value| STANDARD.encode_string(value, out)).is_some())
                })
            },
            "The bytes of a text or BYTEA in base 64.",
            "SELECT to_base64('abc')  -- YWJj",
        )
        .also(&["base64"]),
        Spec::new(
            "from_base64(text)",
            TEXT,
            |_| DataType::BinaryView,
            |call| {
                let texts = call.texts(0)?;
                bytes(call, |row| {
                    let decoded = texts.at(row).map(|text| STANDARD.decode(text)).transpose();
                    decoded.map_err(|error| {
                        invalid("22023", format!("from_base64 was given no base 64: {error}"))
                    })
                })
            },
            "The bytes, a BYTEA, of base 64.",
            "SELECT from_base64('YWJj') = 'abc'::BYTEA  -- true",
        ),
        Spec::new(
            "bin(number)",
            WHOLE,
            |_| DataType::Utf8View,
            |call| {
                let values = call.integers(0)?;
                TextRows::written(call, |row, out| {
                    Ok(values.at(row).map(|value| based(value as u64, 2, 0, out)).is_some())
                })
            },
            "A whole number in base 2; of a negative one its 64 bits.",
            "SELECT bin(5)  -- 101",
        ),
        Spec::new(
            "to_base(number, base, digits)",
            &[&[Kind::Integer, Kind::Integer], &[Kind::Integer, Kind::Integer, Kind::Integer]],
            |_| DataType::Utf8View,
            to_base,
            "A whole number, 0 or above, in a base from 2 to 36, with at least so many digits.",
            "SELECT to_base(5, 2, 8)  -- 00000101",
        ),
        Spec::new(
            "bit_count(number)",
            WHOLE,
            |_| DataType::Int64,
            |call| {
                let values = call.integers(0)?;
                integers(call, |row| Ok(values.at(row).map(|value| i64::from(value.count_ones()))))
            },
            "How many of the 64 bits of a whole number are 1.",
            "SELECT bit_count(255)  -- 8",
        ),
        Spec::new(
            "format_bytes(bytes)",
            WHOLE,
            |_| DataType::Utf8View,
            |call| {
                let values = call.integers(0)?;
                TextRows::written(call, |row, out| {
                    Ok(values.at(row).map(|bytes| sized(bytes, out)).is_some())
                })
            },
            "A number of bytes for people, in KiB, MiB, …",
            "SELECT format_bytes(16384)  -- 16.0 KiB",
        )
        .also(&["pg_size_pretty"]),
    ]
}

/// BYTEA for each row.
fn bytes(call: &Call<'_>, of: impl Fn(usize) -> Result<Option<Vec<u8>>>) -> Result<ArrayRef> {
    let mut out = BinaryViewBuilder::with_capacity(call.rows());
    let mut made = 0_u64;
    for row in 0..call.rows() {
        match of(row)? {
            Some(bytes) => {
                made = made.saturating_add(bytes.len() as u64);
                if made > call.limit() {
                    let (name, limit) = (call.name(), call.limit());
                    return Err(TooLarge::error(format!("{name} would make more than {limit} bytes")));
                }
                out.try_append_value(bytes)?;
            }
            None => out.append_null(),
        }
    }
    Ok(Arc::new(out.finish()))
}

fn hex(call: &Call<'_>) -> Result<ArrayRef> {
    if call.type_of(0)? == DataType::Int64 {
        let values = call.integers(0)?;
        return TextRows::written(call, |row, out| {
            Ok(values.at(row).map(|value| based(value as u64, 16, 0, out)).is_some())
        });
    }
    let values = call.bytes(0)?;
    TextRows::written(call, |row, out| {
        let Some(bytes) = values.at(row) else { return Ok(false) };
        for byte in bytes {
            out.push(digit(byte >> 4));
            out.push(digit(byte & 15));
        }
        Ok(true)
    })
}

fn digit(value: u8) -> char {
    char::from(if value < 10 { b'0' + value } else { b'A' + (value - 10) })
}

fn unhex(text: &str) -> Result<Vec<u8>> {
    let value = |byte: u8| {
        char::from(byte)
            .to_digit(16)
            .and_then(|value| u8::try_from(value).ok())
            .ok_or_else(|| invalid("22023", "unhex was given a character that is no hexadecimal digit"))
    };
    let digits = text.as_bytes();
    // The first digit may stand alone.
    let (alone, pairs) = digits.split_at(digits.len() % 2);
    let mut out = Vec::with_capacity(digits.len().div_ceil(2));
    for digit in alone {
        out.push(value(*digit)?);
    }
    for pair in pairs.chunks_exact(2) {
        out.push((value(pair[0])? << 4) | value(pair[1])?);
    }
    Ok(out)
}

/// `value` in `base`, which is 2 to 36, with at least `least` digits, behind `out`.
fn based(mut value: u64, base: u64, least: usize, out: &mut String) {
    let mut digits = [0_u8; 64];
    let mut from = digits.len();
    loop {
        from -= 1;
        digits[from] = u8::try_from(value % base).unwrap_or(0);
        value /= base;
        if value == 0 {
            break;
        }
    }
    let digits = &digits[from..];
    out.extend(std::iter::repeat_n('0', least.saturating_sub(digits.len())));
    out.extend(digits.iter().map(|value| digit(*value)));
}

fn to_base(call: &Call<'_>) -> Result<ArrayRef> {
    let (values, bases) = (call.integers(0)?, call.integers(1)?);
    let least = if call.len() > 2 { Some(call.integers(2)?) } else { None };
    TextRows::written(call, |row, out| {
        let least = match &least {
            None => Some(0),
            Some(least) => least.at(row),
        };
        let (Some(value), Some(base), Some(least)) = (values.at(row), bases.at(row), least) else {
            return Ok(false);
        };
        let wrong = |what: String| invalid("22023", format!("to_base takes {what}"));
        let value =
            u64::try_from(value).map_err(|_| wrong(format!("a number of 0 or above, not {value}")))?;
        if !(2..=36).contains(&base) {
            return Err(wrong(format!("a base from 2 to 36, not {base}")));
        }
        if !(0..=64).contains(&least) {
            return Err(wrong(format!("0 to 64 digits at least, not {least}")));
        }
        based(value, base.unsigned_abs(), usize::try_from(least).unwrap_or(0), out);
        Ok(true)
    })
}

fn sized(bytes: i64, out: &mut String) {
    const UNITS: [&str; 6] = ["KiB", "MiB", "GiB", "TiB", "PiB", "EiB"];
    let sign = if bytes < 0 { "-" } else { "" };
    let bytes = bytes.unsigned_abs();
    if bytes < 1_024 {
        let unit = if bytes == 1 { "byte" } else { "bytes" };
        // Text takes whatever is written.
        let _ = write!(out, "{sign}{bytes} {unit}");
        return;
    }
    let place = (bytes.ilog2() / 10) as usize;
    // Tenths, rounded down, without a loss for large numbers.
    let tenths = (u128::from(bytes) * 10) >> (place * 10);
    let unit = UNITS.get(place - 1).copied().unwrap_or("EiB");
    let _ = write!(out, "{sign}{}.{} {unit}", tenths / 10, tenths % 10);
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn made(of: impl Fn(&mut String)) -> String {
        let mut out = String::new();
        of(&mut out);
        out
    }

    #[test]
    fn numbers_have_bases() {
        assert_eq!(made(|out| based(5, 2, 8, out)), "00000101");
        assert_eq!(made(|out| based(255, 16, 0, out)), "FF");
        assert_eq!(made(|out| based(0, 2, 0, out)), "0");
        assert_eq!(made(|out| based(u64::MAX, 2, 0, out)), "1".repeat(64));
    }

    #[test]
    fn bytes_are_read_and_shown() {
        assert_eq!(unhex("6162").unwrap(), b"ab");
        assert_eq!(unhex("F61").unwrap(), [15, 0x61]);
        assert!(unhex("6g").is_err());
        let size = |bytes| made(|out| sized(bytes, out));
        assert_eq!(
            (size(16_384), size(999), size(1)),
            ("16.0 KiB".into(), "999 bytes".into(), "1 byte".into())
        );
        assert_eq!(size(i64::MIN), "-8.0 EiB");
    }
}
