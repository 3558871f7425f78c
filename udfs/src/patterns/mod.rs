//! `to_char`, `to_date` and `to_timestamp`, also as seconds to nanoseconds, with the patterns of PostgreSQL: `YYYY-MM-DD HH24:MI`, `999,999.00`.
//!
//! Owns: which of the two kinds a format is, and the functions of DataFusion that take both. A format with a `%` in it is DataFusion's, in the
//! letters of strftime; any other is a pattern. Does not own: what a pattern means (`date`, `number`), how much `to_char` may make (`bounded`).
//!
//! What `to_timestamp` reads without an offset is the time of a clock in the session's zone, which it asks the configuration for.

mod date;
mod number;

use std::sync::Arc;

use chrono::{Datelike, NaiveDateTime, Offset, TimeDelta, TimeZone};
use chrono_tz::OffsetName;
use datafusion::arrow::array::timezone::Tz;
use datafusion::arrow::array::{
    Array, ArrayRef, AsArray, Date32Array, Int64Array, StringArray, StringBuilder,
};
use datafusion::arrow::compute::cast;
use datafusion::arrow::datatypes::{DataType, Float64Type, TimeUnit};
use datafusion::common::{Result, ScalarValue};
use datafusion::execution::FunctionRegistry;
use datafusion::logical_expr::udf_eq::UdfEq;
use datafusion::logical_expr::{
    ColumnarValue, Documentation, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl, Signature, Volatility,
};

use crate::function::{Instants, invalid, is_text, naive, out_of_range, refused};
use crate::zones::{UTC, counted, is_utc, timestamps, utc_of};

/// Registers the functions again, with patterns.
pub(crate) fn register(registry: &mut dyn FunctionRegistry) -> Result<()> {
    let moments = [
        "to_timestamp",
        "to_timestamp_seconds",
        "to_timestamp_millis",
        "to_timestamp_micros",
        "to_timestamp_nanos",
    ];
    for which in [Which::Char, Which::Date].into_iter().chain(moments.map(Which::Timestamp)) {
        let function = registry.udf(which.name())?;
        let signature = match which {
            Which::Char => Signature::user_defined(Volatility::Immutable),
            Which::Date | Which::Timestamp(_) => function.signature().clone(),
        };
        let inner = Arc::clone(function.inner()).into();
        registry.register_udf(Arc::new(ScalarUDF::from(Patterned { inner, which, signature })))?;
    }
    Ok(())
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Which {
    Char,
    Date,
    /// The one of that name: they differ in the unit.
    Timestamp(&'static str),
}

impl Which {
    fn name(self) -> &'static str {
        match self {
            Self::Char => "to_char",
            Self::Date => "to_date",
            Self::Timestamp(name) => name,
        }
    }
}

/// A function of DataFusion that takes patterns, too.
#[derive(Debug, PartialEq, Eq, Hash)]
struct Patterned {
    inner: UdfEq<Arc<dyn ScalarUDFImpl>>,
    which: Which,
    signature: Signature,
}

/// Text of a call, one for each row.
fn texts(value: &ColumnarValue, rows: usize) -> Result<StringArray> {
    Ok(cast(&value.to_array(rows)?, &DataType::Utf8)?.as_string::<i32>().clone())
}

fn has_percent(format: Option<&str>) -> bool {
    format.is_some_and(|format| format.contains('%'))
}

/// What `rows` texts or NULLs make: one value where all arguments are constants.
fn answered(made: ArrayRef, constant: bool) -> Result<ColumnarValue> {
    Ok(match constant {
        true => ColumnarValue::Scalar(ScalarValue::try_from_array(&made, 0)?),
        false => ColumnarValue::Array(made),
    })
}

impl Patterned {
    fn to_char(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        let [value, format] = args.args.as_slice() else { return self.inner.invoke_with_args(args) };
        let data_type = value.data_type();
        let constant_format = match format {
            ColumnarValue::Scalar(format) => format.try_as_str().flatten(),
            ColumnarValue::Array(_) => None,
        };
        let is_theirs = has_percent(constant_format) && !data_type.is_numeric();
        if is_theirs || matches!(data_type, DataType::Duration(_)) {
            return self.inner.invoke_with_args(args);
        }
        let constant = args.args.iter().all(|arg| matches!(arg, ColumnarValue::Scalar(_)));
        let rows = if constant { 1 } else { args.number_rows };
        let formats = texts(format, rows)?;
        if data_type.is_numeric() {
            return answered(Arc::new(numbers(&value.to_array(rows)?, &formats)?), constant);
        }
        let theirs = match formats.iter().any(has_percent) {
            true => Some(self.with_percent(&args, value, &formats)?),
            false => None,
        };
        answered(Arc::new(times(value, &formats, theirs.as_ref())?), constant)
    }

    /// What DataFusion makes of those of `formats` that are its own; NULL of the others.
    fn with_percent(
        &self,
        args: &ScalarFunctionArgs,
        value: &ColumnarValue,
        formats: &StringArray,
    ) -> Result<StringArray> {
        let rows = formats.len();
        let own: StringArray = formats.iter().map(|format| format.filter(|f| f.contains('%'))).collect();
        let value = ColumnarValue::Array(value.to_array(rows)?);
        let args = ScalarFunctionArgs {
            args: vec![value, ColumnarValue::Array(Arc::new(own))],
            arg_fields: args.arg_fields.clone(),
            number_rows: rows,
            return_field: Arc::clone(&args.return_field),
            config_options: Arc::clone(&args.config_options),
        };
        texts(&self.inner.invoke_with_args(args)?, rows)
    }

    /// `to_date` or `to_timestamp`.
    fn read(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        let is_read = args.args.len() > 1
            && args.args.iter().all(|arg| is_text(&arg.data_type()) || arg.data_type().is_null());
        if !is_read {
            return self.inner.invoke_with_args(args);
        }
        let constant = args.args.iter().all(|arg| matches!(arg, ColumnarValue::Scalar(_)));
        let rows = if constant { 1 } else { args.number_rows };
        let formats = args.args[1..].iter().map(|format| texts(format, rows)).collect::<Result<Vec<_>>>()?;
        let all = || formats.iter().flatten().flatten();
        let theirs = all().filter(|format| format.contains('%')).count();
        if theirs > 0 && theirs == all().count() {
            return self.read_by_percent(args);
        }
        if theirs > 0 {
            let message = format!("{} takes formats with % or without, not both at once", self.which.name());
            return Err(invalid("22007", message));
        }
        let said = texts(&args.args[0], rows)?;
        let mut patterns = Patterns::default();
        let mut found = Vec::with_capacity(rows);
        for row in 0..rows {
            let given = formats.iter().filter(|format| format.is_valid(row)).map(|format| format.value(row));
            let mut read: Option<Result<date::Read>> = None;
            for format in given.filter(|_| said.is_valid(row)) {
                // Of several formats the first that fits.
                if !matches!(read, Some(Ok(_))) {
                    read = Some(patterns.of(format).read(said.value(row)));
                }
            }
            found.push(read.transpose()?);
        }
        let made: ArrayRef = match self.which {
            Which::Date => {
                let days = found.iter().map(|read| read.map(|read| read.time.num_days_from_ce() - 719_163));
                Arc::new(days.collect::<Date32Array>())
            }
            Which::Char | Which::Timestamp(_) => {
                let zone = args.config_options.execution.time_zone.as_deref().unwrap_or(UTC);
                moments(&found, &zone.parse()?, args.return_field.data_type())?
            }
        };
        answered(made, constant)
    }

    /// By formats of DataFusion, which knows the zone that it was made with.
    fn read_by_percent(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        let is_zoned = args.config_options.execution.time_zone.as_deref().is_some_and(|zone| !is_utc(zone));
        if let (Which::Timestamp(_), true) = (self.which, is_zoned)
            && let Some(zoned) = self.inner.with_updated_config(&args.config_options)
        {
            let to = args.return_field.data_type().clone();
            return zoned.inner().invoke_with_args(args)?.cast_to(&to, None);
        }
        self.inner.invoke_with_args(args)
    }
}

/// The pattern of dates that was read last.
#[derive(Default)]
struct Patterns {
    last: Option<(String, date::Pattern)>,
}

impl Patterns {
    fn of(&mut self, format: &str) -> &date::Pattern {
        if self.last.as_ref().is_none_or(|(known, _)| known != format) {
            self.last = None;
        }
        let made = self.last.get_or_insert_with(|| (format.to_owned(), date::Pattern::new(format)));
        &made.1
    }
}

/// Times that were read, as moments of type `to`.
fn moments(found: &[Option<date::Read>], zone: &Tz, to: &DataType) -> Result<ArrayRef> {
    let DataType::Timestamp(unit, label) = to else {
        return Err(invalid("42804", format!("a timestamp is no value of type {to}")));
    };
    let moment = |read: date::Read| {
        let utc = match read.offset {
            Some(offset) => read.time.checked_sub_signed(TimeDelta::seconds(offset.into())),
            None => utc_of(zone, read.time),
        };
        utc.and_then(|utc| counted(utc, *unit)).ok_or_else(out_of_range)
    };
    let values = found.iter().map(|read| read.map(moment).transpose());
    Ok(timestamps(&values.collect::<Result<Int64Array>>()?, *unit, label.as_ref()))
}

/// Times by patterns; where `theirs` has a text, that one.
fn times(value: &ColumnarValue, formats: &StringArray, theirs: Option<&StringArray>) -> Result<StringArray> {
    let micros = DataType::Timestamp(TimeUnit::Microsecond, None);
    let value = match value.data_type() {
        DataType::Time32(_) | DataType::Time64(_) => {
            let time = value.cast_to(&DataType::Time64(TimeUnit::Microsecond), None)?;
            time.cast_to(&DataType::Int64, None)?.cast_to(&micros, None)?
        }
        DataType::Date64 => value.cast_to(&micros, None)?,
        _ => value.clone(),
    };
    let instants = Instants::new(&value, "to_char")?;
    let named = instants.zone().and_then(|zone| zone.to_string().parse::<chrono_tz::Tz>().ok());
    let (mut out, mut text, mut patterns) = (StringBuilder::new(), String::new(), Patterns::default());
    for row in 0..formats.len() {
        let (true, Some(local)) = (formats.is_valid(row), instants.local(row)?) else {
            out.append_null();
            continue;
        };
        if let Some(theirs) = theirs.filter(|theirs| theirs.is_valid(row)) {
            out.append_value(theirs.value(row));
            continue;
        }
        let zone = match instants.zone() {
            Some(zone) => zone_text(zone, named, naive(instants.micros(row)?.unwrap_or_default())?),
            None => date::ZoneText::default(),
        };
        text.clear();
        patterns.of(formats.value(row)).write(&local, &zone, &mut text);
        out.append_value(&text);
    }
    Ok(out.finish())
}

/// What `zone` is called at a moment; `named` is the same as a zone that has a name.
fn zone_text(zone: &Tz, named: Option<chrono_tz::Tz>, utc: NaiveDateTime) -> date::ZoneText {
    let offset = zone.offset_from_utc_datetime(&utc).fix();
    let of_name =
        named.and_then(|named| named.offset_from_utc_datetime(&utc).abbreviation().map(str::to_owned));
    let offset_seconds = offset.local_minus_utc();
    let name = match of_name {
        Some(name) => name,
        None if offset_seconds == 0 => "UTC".to_owned(),
        None => offset.to_string(),
    };
    date::ZoneText { name, offset: offset_seconds }
}

/// Numbers by patterns.
fn numbers(values: &ArrayRef, formats: &StringArray) -> Result<StringArray> {
    let digits: StringArray = if values.data_type().is_floating() {
        let floats = cast(values, &DataType::Float64)?;
        // Without an exponent, whatever the number.
        floats.as_primitive::<Float64Type>().iter().map(|value| value.map(|v| v.to_string())).collect()
    } else {
        cast(values, &DataType::Utf8)?.as_string::<i32>().clone()
    };
    let (mut out, mut text) = (StringBuilder::new(), String::new());
    let mut last: Option<(String, number::Pattern)> = None;
    for row in 0..formats.len() {
        if digits.is_null(row) || formats.is_null(row) {
            out.append_null();
            continue;
        }
        let format = formats.value(row);
        let pattern = match last.take() {
            Some((known, pattern)) if known == format => pattern,
            _ => number::Pattern::new(format)?,
        };
        let Some(number) = number::Number::rounded(digits.value(row), pattern.fraction()) else {
            return Err(invalid("22003", format!("to_char has no digits for {}", digits.value(row))));
        };
        text.clear();
        pattern.write(&number, &mut text);
        out.append_value(&text);
        last = Some((format.to_owned(), pattern));
    }
    Ok(out.finish())
}

/// What arguments of `to_char` become; None: it has none of such types.
fn written_types(types: &[DataType]) -> Option<Vec<DataType>> {
    let [value, format] = types else { return None };
    if !is_text(format) && !format.is_null() {
        return None;
    }
    let value = match value {
        DataType::Date32
        | DataType::Date64
        | DataType::Time32(_)
        | DataType::Time64(_)
        | DataType::Timestamp(..)
        | DataType::Duration(_) => value.clone(),
        value if value.is_numeric() => value.clone(),
        value if is_text(value) || value.is_null() => DataType::Timestamp(TimeUnit::Microsecond, None),
        _ => return None,
    };
    Some(vec![value, DataType::Utf8])
}

impl ScalarUDFImpl for Patterned {
    fn name(&self) -> &str {
        self.which.name()
    }

    fn aliases(&self) -> &[String] {
        self.inner.aliases()
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, arg_types: &[DataType]) -> Result<DataType> {
        if self.which == Which::Char && written_types(arg_types).is_none() {
            return Err(refused(self.name(), "to_char(value, format)", arg_types));
        }
        self.inner.return_type(arg_types)
    }

    /// Types that fit no call stay as they are: `return_type` says so, in words of its own.
    fn coerce_types(&self, arg_types: &[DataType]) -> Result<Vec<DataType>> {
        Ok(written_types(arg_types).unwrap_or_else(|| arg_types.to_vec()))
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        match self.which {
            Which::Char => self.to_char(args),
            Which::Date => self.read(args),
            Which::Timestamp(_) => {
                // Of a column of texts DataFusion forgets the zone that it has promised.
                let to = args.return_field.data_type().clone();
                let made = self.read(args)?;
                if made.data_type() == to { Ok(made) } else { made.cast_to(&to, None) }
            }
        }
    }

    fn documentation(&self) -> Option<&Documentation> {
        self.inner.documentation()
    }
}
