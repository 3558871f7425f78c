//! `printf`: texts by the formats of C.

use datafusion::arrow::array::{Array, ArrayRef, AsArray};
use datafusion::arrow::compute::cast;
use datafusion::arrow::datatypes::{DataType, Decimal128Type, Float64Type};
use datafusion::common::Result;
use datafusion::error::DataFusionError;

use super::quote::{WIDTH_MAX, pad};
use super::{formatter, write_value};
use crate::bounded::TooLarge;
use crate::function::{Call, Kind, Spec, TextRows, Values, invalid};

pub(super) fn functions() -> Vec<Spec> {
    vec![
        Spec::new(
            "printf(format, value, …)",
            &[&[Kind::Text]],
            |_| DataType::Utf8View,
            printf,
            "The format with values in it as C writes them: %d, %i and %u whole numbers, %x, %X, %o and %b in other bases, %f, %e and %g numbers, %s anything, %c \
             a character, %%; with flags - + blank 0 # and , (thousands), width and digits: %,d %08.3f %-10s. NULL when a value is.",
            "SELECT printf('%s: %,d of %.2f', 'a', 1234567, 1.5)  -- a: 1,234,567 of 1.50",
        )
        .and_more(Kind::Any),
    ]
}

fn bad(why: &str) -> DataFusionError {
    invalid("22023", format!("the format of printf cannot be used: {why}"))
}

/// One field: `%[flags][width][.digits]kind`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Field {
    is_left: bool,
    has_sign: bool,
    has_blank: bool,
    has_zeros: bool,
    is_other_form: bool,
    has_thousands: bool,
    width: usize,
    digits: Option<usize>,
    kind: char,
}

/// The field that `rest`, which is behind a `%`, begins with, and how many bytes it has.
fn field(rest: &str) -> Result<(Field, usize)> {
    let mut field = Field::default();
    let mut at = 0;
    for byte in rest.bytes() {
        match byte {
            b'-' => field.is_left = true,
            b'+' => field.has_sign = true,
            b' ' => field.has_blank = true,
            b'0' => field.has_zeros = true,
            b'#' => field.is_other_form = true,
            b',' | b'\'' => field.has_thousands = true,
            _ => break,
        }
        at += 1;
    }
    let number = |from: usize| {
        let digits = rest[from..].bytes().take_while(u8::is_ascii_digit).count();
        let number = if digits == 0 { 0 } else { rest[from..from + digits].parse().unwrap_or(usize::MAX) };
        (number, from + digits)
    };
    (field.width, at) = number(at);
    if rest[at..].starts_with('.') {
        let (digits, end) = number(at + 1);
        field.digits = Some(digits);
        at = end;
    }
    if field.width > WIDTH_MAX || field.digits.is_some_and(|digits| digits > WIDTH_MAX) {
        return Err(bad(&format!("a field has at most {WIDTH_MAX} characters")));
    }
    // How long C's integers are is no matter here.
    while matches!(rest.as_bytes().get(at), Some(b'l' | b'h' | b'z' | b'j')) {
        at += 1;
    }
    match rest[at..].chars().next() {
        Some(kind) if "diuxXobfFeEgGsc".contains(kind) => {
            field.kind = kind;
            Ok((field, at + 1))
        }
        Some(other) => Err(bad(&format!("there is no %{other}"))),
        None => Err(bad("it ends in the middle of a field")),
    }
}

/// A value as printf sees it.
#[derive(Clone, Copy, Debug)]
enum Shown<'a> {
    Whole(i128),
    Number(f64),
    Text(&'a str),
}

/// Values of one argument.
struct Column {
    values: Values,
    of: Of,
}

enum Of {
    Whole(ArrayRef),
    Numbers(ArrayRef),
    Texts,
}

impl Column {
    fn new(values: Values) -> Result<Self> {
        let array = values.array();
        let of = match array.data_type() {
            from if from.is_integer() => Of::Whole(cast(array, &DataType::Decimal128(38, 0))?),
            DataType::Boolean => {
                Of::Whole(cast(&cast(array, &DataType::Int64)?, &DataType::Decimal128(38, 0))?)
            }
            from if from.is_numeric() => Of::Numbers(cast(array, &DataType::Float64)?),
            _ => Of::Texts,
        };
        Ok(Self { values, of })
    }
}

fn printf(call: &Call<'_>) -> Result<ArrayRef> {
    let formats = call.texts(0)?;
    let columns = (1..call.len()).map(|at| Column::new(call.values(at)?)).collect::<Result<Vec<Column>>>()?;
    let formatters =
        columns.iter().map(|column| formatter(column.values.array())).collect::<Result<Vec<_>>>()?;
    let mut text = String::new();
    TextRows::written(call, |row, out| {
        let Some(format) = formats.at(row) else { return Ok(false) };
        if columns.iter().any(|column| column.values.is_null(row)) {
            return Ok(false);
        }
        let mut given = columns.iter().zip(&formatters);
        let mut rest = format;
        while let Some(at) = rest.find('%') {
            out.push_str(&rest[..at]);
            rest = &rest[at + 1..];
            if let Some(behind) = rest.strip_prefix('%') {
                out.push('%');
                rest = behind;
                continue;
            }
            let (field, bytes) = field(rest)?;
            rest = &rest[bytes..];
            let Some((column, formatter)) = given.next() else { return Err(bad("there are too few values")) };
            let at = column.values.at(row);
            text.clear();
            let shown = match (&column.of, field.kind) {
                (_, 's') | (Of::Texts, _) => {
                    write_value(formatter, &column.values, row, &mut text)?;
                    Shown::Text(&text)
                }
                (Of::Whole(whole), _) => Shown::Whole(whole.as_primitive::<Decimal128Type>().value(at)),
                (Of::Numbers(numbers), _) => Shown::Number(numbers.as_primitive::<Float64Type>().value(at)),
            };
            write_field(&field, shown, out)?;
            if out.len() as u64 > call.limit() {
                let (name, limit) = (call.name(), call.limit());
                return Err(TooLarge::error(format!("{name} would make more than {limit} bytes")));
            }
        }
        out.push_str(rest);
        Ok(true)
    })
}

fn write_field(field: &Field, value: Shown<'_>, out: &mut String) -> Result<()> {
    let (negative, prefix, digits) = match (field.kind, value) {
        ('s', Shown::Text(text)) => {
            let end = field.digits.and_then(|digits| text.char_indices().nth(digits));
            pad(end.map_or(text, |(end, _)| &text[..end]), field.width, field.is_left, out);
            return Ok(());
        }
        ('c', Shown::Text(text)) => {
            let end = text.chars().next().map_or(0, char::len_utf8);
            pad(&text[..end], field.width, field.is_left, out);
            return Ok(());
        }
        ('c', Shown::Whole(code)) => {
            let c = u32::try_from(code).ok().and_then(char::from_u32);
            let c = c.ok_or_else(|| bad(&format!("{code} is no character")))?;
            pad(c.encode_utf8(&mut [0; 4]), field.width, field.is_left, out);
            return Ok(());
        }
        ('d' | 'i' | 'u', Shown::Whole(whole)) => (whole < 0, "", whole.unsigned_abs().to_string()),
        ('x', Shown::Whole(whole)) => (whole < 0, "0x", format!("{:x}", whole.unsigned_abs())),
        ('X', Shown::Whole(whole)) => (whole < 0, "0X", format!("{:X}", whole.unsigned_abs())),
        ('o', Shown::Whole(whole)) => (whole < 0, "0", format!("{:o}", whole.unsigned_abs())),
        ('b', Shown::Whole(whole)) => (whole < 0, "0b", format!("{:b}", whole.unsigned_abs())),
        ('f' | 'F' | 'e' | 'E' | 'g' | 'G', Shown::Whole(whole)) => {
            let number = whole as f64;
            (number.is_sign_negative(), "", of_number(field, number.abs()))
        }
        ('f' | 'F' | 'e' | 'E' | 'g' | 'G', Shown::Number(number)) => {
            (number.is_sign_negative() && !number.is_nan(), "", of_number(field, number.abs()))
        }
        (kind, value) => {
            let of = match value {
                Shown::Whole(_) => "whole number",
                Shown::Number(_) => "number with a fraction",
                Shown::Text(_) => "text",
            };
            return Err(bad(&format!("%{kind} does not write a {of}")));
        }
    };
    let digits = if field.has_thousands { thousands(&digits) } else { digits };
    let sign = match (negative, field.has_sign, field.has_blank) {
        (true, ..) => "-",
        (false, true, _) => "+",
        (false, false, true) => " ",
        (false, false, false) => "",
    };
    let prefix = if field.is_other_form { prefix } else { "" };
    let zeros = if field.has_zeros && !field.is_left {
        field.width.saturating_sub(sign.len() + prefix.len() + digits.len())
    } else {
        0
    };
    let mut number = String::with_capacity(sign.len() + prefix.len() + zeros + digits.len());
    number.push_str(sign);
    number.push_str(prefix);
    number.extend(std::iter::repeat_n('0', zeros));
    number.push_str(&digits);
    pad(&number, field.width, field.is_left, out);
    Ok(())
}

/// Digits of a number that is not below 0.
fn of_number(field: &Field, number: f64) -> String {
    let text = if number.is_nan() {
        "nan".to_owned()
    } else if number.is_infinite() {
        "inf".to_owned()
    } else {
        let digits = field.digits.unwrap_or(6);
        match field.kind {
            'f' | 'F' => format!("{number:.digits$}"),
            'e' | 'E' => scientific(number, digits),
            _ => general(number, digits.max(1), field.is_other_form),
        }
    };
    if field.kind.is_ascii_uppercase() { text.to_ascii_uppercase() } else { text }
}

/// `1.500000e+00`.
fn scientific(number: f64, digits: usize) -> String {
    let text = format!("{number:.digits$e}");
    match text.split_once('e') {
        Some((mantissa, exponent)) => {
            let (sign, exponent) = match exponent.strip_prefix('-') {
                Some(exponent) => ('-', exponent),
                None => ('+', exponent),
            };
            format!("{mantissa}e{sign}{exponent:0>2}")
        }
        None => text,
    }
}

/// The shorter of both forms, with so many digits that count.
fn general(number: f64, digits: usize, keeps_zeros: bool) -> String {
    let rounded = scientific(number, digits - 1);
    let exponent: i64 = rounded.split_once('e').and_then(|(_, e)| e.parse().ok()).unwrap_or(0);
    let is_plain = exponent >= -4 && exponent < i64::try_from(digits).unwrap_or(i64::MAX);
    if is_plain {
        let behind = i64::try_from(digits).unwrap_or(i64::MAX) - 1 - exponent;
        let behind = usize::try_from(behind).unwrap_or(0);
        let text = format!("{number:.behind$}");
        return if keeps_zeros { text } else { without_zeros(&text).to_owned() };
    }
    match rounded.split_once('e') {
        Some((mantissa, exponent)) if !keeps_zeros => format!("{}e{exponent}", without_zeros(mantissa)),
        _ => rounded,
    }
}

fn without_zeros(text: &str) -> &str {
    if text.contains('.') { text.trim_end_matches('0').trim_end_matches('.') } else { text }
}

/// A comma before each three digits of the whole part.
fn thousands(digits: &str) -> String {
    let whole = digits.bytes().take_while(u8::is_ascii_digit).count();
    let mut out = String::with_capacity(digits.len() + whole / 3);
    for (at, c) in digits.chars().enumerate() {
        if at > 0 && at < whole && (whole - at).is_multiple_of(3) {
            out.push(',');
        }
        out.push(c);
    }
    out
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn one(format: &str, value: Shown<'_>) -> String {
        let (field, bytes) = field(format).unwrap();
        assert_eq!(bytes, format.len());
        let mut out = String::new();
        write_field(&field, value, &mut out).unwrap();
        out
    }

    #[test]
    fn numbers_are_as_in_c() {
        assert_eq!(one("05d", Shown::Whole(42)), "00042");
        assert_eq!(one("+d", Shown::Whole(42)), "+42");
        assert_eq!(one(",d", Shown::Whole(-1_234_567)), "-1,234,567");
        assert_eq!(one("#x", Shown::Whole(255)), "0xff");
        assert_eq!(one("5.2f", Shown::Number(1.5)), " 1.50");
        assert_eq!(one("-8.1f", Shown::Number(-1.25)), "-1.2    ");
        assert_eq!(one("e", Shown::Number(12_345.678)), "1.234568e+04");
        assert_eq!(one("g", Shown::Number(0.000_012_5)), "1.25e-05");
        assert_eq!(one("g", Shown::Number(100_000.0)), "100000");
        assert_eq!(one("g", Shown::Number(1e6)), "1e+06");
        assert_eq!(one("G", Shown::Number(f64::INFINITY)), "INF");
        assert_eq!(one("d", Shown::Whole(i128::MIN)), i128::MIN.to_string());
        assert_eq!(one("-5s", Shown::Text("y")), "y    ");
        assert_eq!(one(".2s", Shown::Text("→ab")), "→a");
        assert_eq!(one("c", Shown::Whole(8_594)), "→");
    }

    #[test]
    fn what_does_not_fit_is_refused() {
        let (field_of_d, _) = field("d").unwrap();
        assert!(write_field(&field_of_d, Shown::Number(1.5), &mut String::new()).is_err());
        for wrong in ["", "5", "y", "99999999999999999999d", ".1001f", "→", "*d"] {
            assert!(field(wrong).is_err(), "{wrong}");
        }
    }
}
