//! Columns of the table's types filled from text, one field at a time.
//!
//! Owns: how a field reads as each scalar type; the batch a run of rows makes. A field that does not read appends a NULL and says
//! why, so that every column stays as long as the others; the caller drops such rows or stops. Does not own: the grammar.

use std::sync::Arc;

use cairn_storage::schema::{ColumnDef, ColumnType, TableDef};
use cairn_udfs::zones::{UTC, is_utc, moment_said, relabelled};
use datafusion::arrow::array::timezone::Tz;
use datafusion::arrow::array::{
    ArrayRef, BinaryViewBuilder, BooleanBuilder, Date32Builder, Decimal128Builder, PrimitiveBuilder,
    StringViewBuilder, Time64MicrosecondBuilder, TimestampMicrosecondBuilder, TimestampNanosecondBuilder,
};
use datafusion::arrow::compute::kernels::cast_utils::Parser;
use datafusion::arrow::datatypes::{
    ArrowPrimitiveType, Date32Type, Float32Type, Float64Type, Int8Type, Int16Type, Int32Type, Int64Type,
    Time64MicrosecondType, TimeUnit, UInt8Type, UInt16Type, UInt32Type, UInt64Type,
};

use super::json_column::JsonColumn;
use super::vectors::VectorBuilder;
use crate::error::Result;

/// A column being filled.
pub(super) enum ColumnBuilder {
    Boolean(BooleanBuilder),
    Int8(PrimitiveBuilder<Int8Type>),
    Int16(PrimitiveBuilder<Int16Type>),
    Int32(PrimitiveBuilder<Int32Type>),
    Int64(PrimitiveBuilder<Int64Type>),
    UInt8(PrimitiveBuilder<UInt8Type>),
    UInt16(PrimitiveBuilder<UInt16Type>),
    UInt32(PrimitiveBuilder<UInt32Type>),
    UInt64(PrimitiveBuilder<UInt64Type>),
    Float32(PrimitiveBuilder<Float32Type>),
    Float64(PrimitiveBuilder<Float64Type>),
    Decimal(Decimal128Builder, u8, u32),
    Text(StringViewBuilder),
    Bytes(BinaryViewBuilder),
    Date(Date32Builder),
    Time(Time64MicrosecondBuilder),
    Micros(TimestampMicrosecondBuilder, Tz),
    Nanos(TimestampNanosecondBuilder, Tz),
    /// Lists and structs.
    Json(Box<JsonColumn>),
    Vector(VectorBuilder),
}

impl ColumnBuilder {
    /// A builder for the values of `column` of `table`; moments without an offset are those of clocks in the zone of the `session`, or in UTC.
    ///
    /// # Errors
    /// A type with no CSV form.
    pub(super) fn new(table: &TableDef, column: &ColumnDef, session: Option<&str>) -> Result<Self> {
        let rows = 8192;
        Ok(match &column.column_type {
            ColumnType::Boolean => Self::Boolean(BooleanBuilder::with_capacity(rows)),
            ColumnType::Int8 => Self::Int8(PrimitiveBuilder::with_capacity(rows)),
            ColumnType::Int16 => Self::Int16(PrimitiveBuilder::with_capacity(rows)),
            ColumnType::Int32 => Self::Int32(PrimitiveBuilder::with_capacity(rows)),
            ColumnType::Int64 => Self::Int64(PrimitiveBuilder::with_capacity(rows)),
            ColumnType::UInt8 => Self::UInt8(PrimitiveBuilder::with_capacity(rows)),
            ColumnType::UInt16 => Self::UInt16(PrimitiveBuilder::with_capacity(rows)),
            ColumnType::UInt32 => Self::UInt32(PrimitiveBuilder::with_capacity(rows)),
            ColumnType::UInt64 => Self::UInt64(PrimitiveBuilder::with_capacity(rows)),
            ColumnType::Float32 => Self::Float32(PrimitiveBuilder::with_capacity(rows)),
            ColumnType::Float64 => Self::Float64(PrimitiveBuilder::with_capacity(rows)),
            ColumnType::Decimal { precision, scale } => {
                let builder = Decimal128Builder::with_capacity(rows)
                    .with_precision_and_scale(*precision, *scale)
                    .map_err(cairn_storage::Error::from)?;
                Self::Decimal(builder, *precision, u32::from(scale.unsigned_abs()))
            }
            ColumnType::Text | ColumnType::Json => Self::Text(StringViewBuilder::with_capacity(rows)),
            ColumnType::Bytea => Self::Bytes(BinaryViewBuilder::with_capacity(rows)),
            ColumnType::Date => Self::Date(Date32Builder::with_capacity(rows)),
            ColumnType::Time => Self::Time(Time64MicrosecondBuilder::with_capacity(rows)),
            ColumnType::Timestamp { nanos } => timestamps(*nanos, None, None)?,
            ColumnType::TimestampTz { nanos, zone } => {
                timestamps(*nanos, Some(zone), session.filter(|_| is_utc(zone)))?
            }
            ColumnType::Vector(dim) => Self::Vector(VectorBuilder::new(*dim, table.metrics_of(column.id))),
            ColumnType::List(_) | ColumnType::Struct(_) => {
                let data_type = column.column_type.arrow();
                let zoned = session.and_then(|zone| relabelled(&data_type, &zone.into()));
                Self::Json(Box::new(JsonColumn::new(&zoned.unwrap_or(data_type), session.map(Arc::from))?))
            }
        })
    }

    /// Appends NULL.
    pub(super) fn append_null(&mut self) {
        match self {
            Self::Boolean(b) => b.append_null(),
            Self::Int8(b) => b.append_null(),
            Self::Int16(b) => b.append_null(),
            Self::Int32(b) => b.append_null(),
            Self::Int64(b) => b.append_null(),
            Self::UInt8(b) => b.append_null(),
            Self::UInt16(b) => b.append_null(),
            Self::UInt32(b) => b.append_null(),
            Self::UInt64(b) => b.append_null(),
            Self::Float32(b) => b.append_null(),
            Self::Float64(b) => b.append_null(),
            Self::Decimal(b, ..) => b.append_null(),
            Self::Text(b) => b.append_null(),
            Self::Bytes(b) => b.append_null(),
            Self::Date(b) => b.append_null(),
            Self::Time(b) => b.append_null(),
            Self::Micros(b, _) => b.append_null(),
            Self::Nanos(b, _) => b.append_null(),
            Self::Json(column) => column.append_null(),
            Self::Vector(b) => b.append_null(),
        }
    }

    /// Appends the value `text` reads as; false and a NULL when it does not read.
    pub(super) fn append(&mut self, text: &[u8]) -> bool {
        let Ok(text) = std::str::from_utf8(text) else {
            self.append_null();
            return false;
        };
        match self {
            Self::Text(b) => {
                b.append_value(text);
                true
            }
            Self::Vector(b) => b.append(text),
            Self::Int8(b) => number(b, text),
            Self::Int16(b) => number(b, text),
            Self::Int32(b) => number(b, text),
            Self::Int64(b) => number(b, text),
            Self::UInt8(b) => number(b, text),
            Self::UInt16(b) => number(b, text),
            Self::UInt32(b) => number(b, text),
            Self::UInt64(b) => number(b, text),
            Self::Float32(b) => float(b, text, f32::is_infinite),
            Self::Float64(b) => float(b, text, f64::is_infinite),
            Self::Json(column) => column.append(text),
            Self::Boolean(b) => {
                let value = boolean(text.trim());
                b.append_option(value);
                value.is_some()
            }
            Self::Decimal(b, precision, scale) => {
                let value = decimal(text.trim(), *precision, *scale);
                b.append_option(value);
                value.is_some()
            }
            Self::Bytes(b) => {
                let value = bytes(text);
                b.append_option(value.as_deref());
                value.is_some()
            }
            Self::Date(b) => {
                let value = date(text.trim());
                b.append_option(value);
                value.is_some()
            }
            Self::Time(b) => {
                let value = Time64MicrosecondType::parse(text.trim());
                b.append_option(value);
                value.is_some()
            }
            Self::Micros(b, zone) => {
                let value = moment_said(text.trim(), zone, TimeUnit::Microsecond);
                b.append_option(value);
                value.is_some()
            }
            Self::Nanos(b, zone) => {
                let value = moment_said(text.trim(), zone, TimeUnit::Nanosecond);
                b.append_option(value);
                value.is_some()
            }
        }
    }

    /// The values so far; the builder starts anew.
    ///
    /// # Errors
    /// Values of lists or structs that do not go into one column.
    pub(super) fn finish(&mut self) -> Result<ArrayRef> {
        Ok(match self {
            Self::Boolean(b) => Arc::new(b.finish()),
            Self::Int8(b) => Arc::new(b.finish()),
            Self::Int16(b) => Arc::new(b.finish()),
            Self::Int32(b) => Arc::new(b.finish()),
            Self::Int64(b) => Arc::new(b.finish()),
            Self::UInt8(b) => Arc::new(b.finish()),
            Self::UInt16(b) => Arc::new(b.finish()),
            Self::UInt32(b) => Arc::new(b.finish()),
            Self::UInt64(b) => Arc::new(b.finish()),
            Self::Float32(b) => Arc::new(b.finish()),
            Self::Float64(b) => Arc::new(b.finish()),
            Self::Decimal(b, ..) => Arc::new(b.finish()),
            Self::Text(b) => Arc::new(b.finish()),
            Self::Bytes(b) => Arc::new(b.finish()),
            Self::Date(b) => Arc::new(b.finish()),
            Self::Time(b) => Arc::new(b.finish()),
            Self::Micros(b, _) => Arc::new(b.finish()),
            Self::Nanos(b, _) => Arc::new(b.finish()),
            Self::Json(column) => column.finish()?,
            Self::Vector(b) => b.finish(),
        })
    }
}

fn timestamps(nanos: bool, zone: Option<&String>, session: Option<&str>) -> Result<ColumnBuilder> {
    let read_in = session.or(zone.map(String::as_str)).unwrap_or(UTC);
    let tz: Tz = read_in.parse().map_err(cairn_storage::Error::from)?;
    let label: Option<Arc<str>> = zone.map(|z| z.as_str().into());
    Ok(if nanos {
        ColumnBuilder::Nanos(TimestampNanosecondBuilder::new().with_timezone_opt(label), tz)
    } else {
        ColumnBuilder::Micros(TimestampMicrosecondBuilder::new().with_timezone_opt(label), tz)
    })
}

fn number<T>(builder: &mut PrimitiveBuilder<T>, text: &str) -> bool
where
    T: ArrowPrimitiveType,
    T::Native: std::str::FromStr,
{
    let value = text.parse().or_else(|_| text.trim().parse()).ok();
    builder.append_option(value);
    value.is_some()
}

/// A number that its type has no room for does not read; only a word is infinity.
fn float<T>(builder: &mut PrimitiveBuilder<T>, text: &str, is_infinite: fn(T::Native) -> bool) -> bool
where
    T: ArrowPrimitiveType,
    T::Native: std::str::FromStr,
{
    let value: Option<T::Native> = text.trim().parse().ok();
    let value = value.filter(|value| !is_infinite(*value) || is_infinity(text));
    builder.append_option(value);
    value.is_some()
}

/// Whether what reads as infinity says so: a number has digits.
pub(super) fn is_infinity(text: &str) -> bool {
    !text.bytes().any(|byte| byte.is_ascii_digit())
}

fn boolean(text: &str) -> Option<bool> {
    match text.to_ascii_lowercase().as_str() {
        "t" | "true" | "yes" | "y" | "on" | "1" => Some(true),
        "f" | "false" | "no" | "n" | "off" | "0" => Some(false),
        _ => None,
    }
}

/// `text` times 10^`scale`, digits behind it rounded half away from zero; None when it has more than `precision` digits.
fn decimal(text: &str, precision: u8, scale: u32) -> Option<i128> {
    let (negative, digits) = match text.as_bytes() {
        [b'-', rest @ ..] => (true, rest),
        [b'+', rest @ ..] => (false, rest),
        all => (false, all),
    };
    let (mut value, mut seen, mut point, mut behind) = (0_i128, 0_u32, false, 0_u32);
    let mut cut: Option<u8> = None;
    for byte in digits {
        match byte {
            b'0'..=b'9' => {
                seen += 1;
                if point && behind == scale {
                    // Only the first digit that is cut off decides the rounding.
                    cut.get_or_insert(*byte);
                    continue;
                }
                behind += u32::from(point);
                value = value.checked_mul(10)?.checked_add(i128::from(byte - b'0'))?;
            }
            b'.' if !point => point = true,
            b'e' | b'E' if seen > 0 => return exponent(text, precision, scale),
            _ => return None,
        }
    }
    if seen == 0 {
        return None;
    }
    let missing = scale.saturating_sub(behind);
    value = value
        .checked_mul(10_i128.checked_pow(missing)?)?
        .checked_add(i128::from(cut.is_some_and(|c| c >= b'5')))?;
    let fits = value < 10_i128.checked_pow(u32::from(precision))?;
    fits.then_some(if negative { -value } else { value })
}

/// A decimal written with an exponent: shifted as text, then read.
fn exponent(text: &str, precision: u8, scale: u32) -> Option<i128> {
    let (mantissa, exponent) = text.split_once(['e', 'E'])?;
    let exponent: i32 = exponent.parse().ok()?;
    if exponent.abs() > 80 {
        return None;
    }
    let (sign, mantissa) = match mantissa.strip_prefix('-') {
        Some(rest) => ("-", rest),
        None => ("", mantissa.trim_start_matches('+')),
    };
    let (whole, fraction) = mantissa.split_once('.').unwrap_or((mantissa, ""));
    let digits = format!("{whole}{fraction}");
    let place = i32::try_from(whole.len()).ok()? + exponent;
    let shifted = if place <= 0 {
        format!("{sign}0.{}{digits}", "0".repeat(usize::try_from(-place).ok()?))
    } else {
        let place = usize::try_from(place).ok()?;
        if place >= digits.len() {
            format!("{sign}{digits}{}", "0".repeat(place - digits.len()))
        } else {
            format!("{sign}{}.{}", &digits[..place], &digits[place..])
        }
    };
    decimal(&shifted, precision, scale)
}

fn bytes(text: &str) -> Option<Vec<u8>> {
    let Some(hex) = text.strip_prefix("\\x") else { return Some(text.as_bytes().to_vec()) };
    let (pairs, rest) = hex.as_bytes().as_chunks::<2>();
    if !rest.is_empty() {
        return None;
    }
    let digit = |b: u8| char::from(b).to_digit(16);
    pairs.iter().map(|[h, l]| u8::try_from(digit(*h)? * 16 + digit(*l)?).ok()).collect()
}

/// Days since 1970-01-01; `YYYY-MM-DD` by a short way, every other form by Arrow's.
fn date(text: &str) -> Option<i32> {
    if let [y1, y2, y3, y4, b'-', m1, m2, b'-', d1, d2] = text.as_bytes() {
        let digit = |b: &u8| b.is_ascii_digit().then(|| i32::from(b - b'0'));
        let year = digit(y1)? * 1000 + digit(y2)? * 100 + digit(y3)? * 10 + digit(y4)?;
        let (month, day) = (digit(m1)? * 10 + digit(m2)?, digit(d1)? * 10 + digit(d2)?);
        let leap = year % 4 == 0 && (year % 100 != 0 || year % 400 == 0);
        let length = match month {
            1 | 3 | 5 | 7 | 8 | 10 | 12 => 31,
            4 | 6 | 9 | 11 => 30,
            2 => 28 + i32::from(leap),
            _ => return None,
        };
        if day < 1 || day > length || year == 0 {
            return None;
        }
        // Days of the proleptic Gregorian calendar, years beginning in March.
        let year = if month <= 2 { year - 1 } else { year };
        let (era, month) = (year.div_euclid(400), (month + 9) % 12);
        let year_of_era = year.rem_euclid(400);
        let day_of_year = (153 * month + 2) / 5 + day - 1;
        let day_of_era = year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year;
        return Some(era * 146_097 + day_of_era - 719_468);
    }
    Date32Type::parse(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn decimals() {
        assert_eq!(decimal("1.25", 10, 2), Some(125));
        assert_eq!(decimal("-0.005", 10, 2), Some(-1));
        assert_eq!(decimal("0.0049999", 10, 2), Some(0));
        assert_eq!(decimal("7", 10, 2), Some(700));
        assert_eq!(decimal("1.5e2", 10, 2), Some(15_000));
        assert_eq!(decimal("25e-1", 10, 2), Some(250));
        assert_eq!(decimal("99999999.99", 10, 2), Some(9_999_999_999));
        for wrong in ["", "-", ".", "1.2.3", "x", "100000000", "1e999"] {
            assert_eq!(decimal(wrong, 10, 2), None, "{wrong}");
        }
    }

    #[test]
    fn only_a_word_is_infinity() {
        let mut builder = PrimitiveBuilder::<Float32Type>::new();
        for (text, reads) in [
            ("3e38", true),
            (" 1 ", true),
            ("-inf", true),
            ("Infinity", true),
            ("1e39", false),
            ("-1e39", false),
        ] {
            assert_eq!(float(&mut builder, text, f32::is_infinite), reads, "{text}");
        }
    }

    #[test]
    fn dates_agree_with_arrow() {
        for text in
            ["1970-01-01", "2000-02-29", "1969-12-31", "9999-12-31", "1600-03-01", "0001-01-01", "2024-12-31"]
        {
            assert_eq!(date(text), Date32Type::parse(text), "{text}");
        }
        for wrong in ["2023-02-29", "2023-13-01", "2023-00-10", "2023-01-32", "abcd-ef-gh"] {
            assert_eq!(date(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn bytes_in_hexadecimal() {
        assert_eq!(bytes("\\x00fF"), Some(vec![0, 255]));
        assert_eq!(bytes("\\x0"), None);
        assert_eq!(bytes("plain"), Some(b"plain".to_vec()));
    }
}
