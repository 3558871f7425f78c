//! Casts and sums in a zone, as functions.
//!
//! Owns: what Arrow's casts cannot do, which fail in the hours that clocks skip or show twice, their bytes for another process, and the
//! same for values on their way into a table. Does not own: which casts they stand for (`rule`), the hours' rule (`clock`).

use std::sync::Arc;

use chrono::{Days, FixedOffset, Months, NaiveDateTime, TimeDelta, Utc};
use datafusion::arrow::array::timezone::Tz;
use datafusion::arrow::array::{
    Array, ArrayRef, AsArray, Int64Array, ListArray, StructArray, new_null_array,
};
use datafusion::arrow::compute::kernels::cast_utils::string_to_datetime;
use datafusion::arrow::compute::{CastOptions, cast, cast_with_options};
use datafusion::arrow::datatypes::{
    DataType, Field, FieldRef, Fields, Int64Type, IntervalMonthDayNano, IntervalMonthDayNanoType,
    IntervalUnit, TimeUnit,
};
use datafusion::arrow::error::ArrowError;
use datafusion::common::{Result, ScalarValue, internal_err};
use datafusion::logical_expr::{
    ColumnarValue, Expr, ReturnFieldArgs, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl, Signature, Volatility,
};

use super::clock::{clock_of, counted, moment_of, time_of, timestamps, utc_of};
use super::{is_utc, relabelled};
use crate::function::{invalid, is_text, out_of_range};

/// What is done in a zone.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) enum Conversion {
    /// Text, a date, or what clocks show, to a moment whose type says `label`; what reads as none is NULL when `safe`.
    ToMoment { unit: TimeUnit, label: Arc<str>, safe: bool },
    /// A moment to what clocks show.
    ToClock,
    /// A moment and an interval whose months and days are those of clocks.
    Shift { subtracts: bool },
    /// A list or a struct to another type of those, where only one of the two has moments; what does not read is NULL when `safe`.
    Nested { to: DataType, safe: bool },
}

/// One conversion in one zone as a function.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Zoned {
    zone: Arc<str>,
    conversion: Conversion,
    signature: Signature,
}

const UNITS: [TimeUnit; 4] =
    [TimeUnit::Second, TimeUnit::Millisecond, TimeUnit::Microsecond, TimeUnit::Nanosecond];

impl Zoned {
    /// The function that does `conversion` in `zone`.
    pub(super) fn function(zone: &Arc<str>, conversion: Conversion) -> ScalarUDF {
        let arguments = if matches!(conversion, Conversion::Shift { .. }) { 2 } else { 1 };
        let signature = Signature::any(arguments, Volatility::Immutable);
        ScalarUDF::from(Self { zone: Arc::clone(zone), conversion, signature })
    }

    fn convert(&self, arrays: &[ArrayRef]) -> Result<ArrayRef> {
        let zone: Tz = self.zone.parse()?;
        match (&self.conversion, arrays) {
            (Conversion::ToMoment { unit, label, safe }, [value]) => {
                Ok(moments(value, &zone, *unit, label, *safe)?)
            }
            (Conversion::ToClock, [value]) => Ok(clocks(value, &zone, false)?),
            (Conversion::Nested { to, safe }, [value]) => Ok(nested(value, to, &self.zone, &zone, *safe)?),
            (Conversion::Shift { subtracts }, [moment, interval]) => {
                shifted(moment, interval, &zone, *subtracts)
            }
            _ => internal_err!("{} was given {} values", self.name(), arrays.len()),
        }
    }

    fn written(&self, args: &[Expr], text: impl Fn(&Expr) -> String) -> String {
        let args: Vec<String> = args.iter().map(text).collect();
        match (&self.conversion, args.as_slice()) {
            (Conversion::Shift { subtracts }, [moment, interval]) => {
                let sign = if *subtracts { '-' } else { '+' };
                format!("{moment} {sign} {interval} IN {}", self.zone)
            }
            (Conversion::ToClock, [value]) => format!("CAST({value} AS TIMESTAMP IN {})", self.zone),
            (Conversion::Nested { to, .. }, [value]) => format!("CAST({value} AS {to} IN {})", self.zone),
            (_, args) => format!("CAST({} AS TIMESTAMPTZ IN {})", args.join(", "), self.zone),
        }
    }
}

/// The bytes behind the first of such a function; None: it is another one.
pub(crate) fn encode(function: &ScalarUDF) -> Option<Vec<u8>> {
    let zoned = function.inner().downcast_ref::<Zoned>()?;
    let mut bytes = match &zoned.conversion {
        Conversion::ToMoment { unit, label, safe } => {
            let unit = UNITS.iter().position(|of| of == unit)?;
            let mut bytes =
                vec![0, u8::try_from(unit).ok()?, u8::from(*safe), u8::try_from(label.len()).ok()?];
            bytes.extend_from_slice(label.as_bytes());
            bytes
        }
        Conversion::ToClock => vec![1],
        Conversion::Shift { subtracts } => vec![2, u8::from(*subtracts)],
        Conversion::Nested { to, safe } => {
            let text = to.to_string();
            // The name of a member may be one that its text does not tell from what is around.
            text.parse::<DataType>().ok().filter(|read| read == to)?;
            let [low, high] = u16::try_from(text.len()).ok()?.to_le_bytes();
            let mut bytes = vec![3, u8::from(*safe), low, high];
            bytes.extend_from_slice(text.as_bytes());
            bytes
        }
    };
    bytes.extend_from_slice(zoned.zone.as_bytes());
    Some(bytes)
}

/// The function of such bytes; None: they are those of none.
pub(crate) fn decode(bytes: &[u8]) -> Option<ScalarUDF> {
    let (conversion, zone) = match bytes {
        [0, unit, safe @ (0 | 1), length, rest @ ..] => {
            let (label, zone) = rest.split_at_checked(usize::from(*length))?;
            let label: Arc<str> = std::str::from_utf8(label).ok().filter(|label| is_utc(label))?.into();
            let unit = *UNITS.get(usize::from(*unit))?;
            (Conversion::ToMoment { unit, label, safe: *safe == 1 }, zone)
        }
        [1, zone @ ..] => (Conversion::ToClock, zone),
        [2, subtracts @ (0 | 1), zone @ ..] => (Conversion::Shift { subtracts: *subtracts == 1 }, zone),
        [3, safe @ (0 | 1), low, high, rest @ ..] => {
            let (text, zone) = rest.split_at_checked(usize::from(u16::from_le_bytes([*low, *high])))?;
            let to: DataType = std::str::from_utf8(text).ok()?.parse().ok()?;
            (Conversion::Nested { to, safe: *safe == 1 }, zone)
        }
        _ => return None,
    };
    let zone = std::str::from_utf8(zone).ok()?;
    zone.parse::<Tz>().ok()?;
    Some(Zoned::function(&zone.into(), conversion))
}

/// `array` as values of a column of type `to` where that hangs on the zone, what reads as none as NULL; None: it does not.
///
/// # Errors
/// When `zone` is none, or an array is of no type that can be converted.
pub fn assigned(array: &ArrayRef, to: &DataType, zone: &Arc<str>) -> Result<Option<ArrayRef>, ArrowError> {
    let options = CastOptions { safe: !to.is_nested(), ..CastOptions::default() };
    let from = array.data_type();
    let converted = match (from, to) {
        (from, DataType::Timestamp(unit, Some(label)))
            if is_utc(label) && (is_text(from) || is_clock(from)) =>
        {
            moments(array, &zone.parse()?, *unit, label, true)?
        }
        (DataType::Timestamp(_, Some(label)), to) if is_utc(label) && (is_clock(to) || is_time(to)) => {
            cast_with_options(&clocks(array, &zone.parse()?, true)?, to, &options)?
        }
        (from, to) if is_text(to) || to.is_nested() => {
            if relabelled(from, zone).is_none() && relabelled(to, zone).is_none() {
                return Ok(None);
            }
            nested(array, to, zone, &zone.parse()?, options.safe)?
        }
        _ => return Ok(None),
    };
    Ok(Some(converted))
}

/// `array` as values of type `to`; those in lists and structs as they are read and shown by themselves. `clock` is `zone`.
fn nested(
    array: &ArrayRef,
    to: &DataType,
    zone: &Arc<str>,
    clock: &Tz,
    safe: bool,
) -> Result<ArrayRef, ArrowError> {
    let options = CastOptions { safe, ..CastOptions::default() };
    match (array.data_type(), to) {
        (from, DataType::Timestamp(unit, Some(label)))
            if is_utc(label) && (is_text(from) || is_clock(from)) =>
        {
            moments(array, clock, *unit, label, safe)
        }
        (DataType::Timestamp(_, Some(label)), to) if is_utc(label) && (is_clock(to) || is_time(to)) => {
            cast_with_options(&clocks(array, clock, safe)?, to, &options)
        }
        (DataType::List(_), DataType::List(item)) => {
            let list = array.as_list::<i32>();
            let values = nested(list.values(), item.data_type(), zone, clock, safe)?;
            let (offsets, nulls) = (list.offsets().clone(), list.nulls().cloned());
            Ok(Arc::new(ListArray::try_new(Arc::clone(item), offsets, values, nulls)?))
        }
        (DataType::Struct(from), DataType::Struct(members)) if have_the_same_names(from, members) => {
            let structs = array.as_struct();
            let columns = structs.columns().iter().zip(members);
            let columns = columns.map(|(column, to)| nested(column, to.data_type(), zone, clock, safe));
            let columns = columns.collect::<Result<Vec<_>, _>>()?;
            Ok(Arc::new(StructArray::try_new(members.clone(), columns, structs.nulls().cloned())?))
        }
        (from, to) => {
            let steps = [relabelled(from, zone), relabelled(to, zone), Some(to.clone())];
            let mut array = Arc::clone(array);
            for step in steps.into_iter().flatten() {
                array = cast_with_options(&array, &step, &options)?;
            }
            Ok(array)
        }
    }
}

fn have_the_same_names(one: &Fields, other: &Fields) -> bool {
    one.len() == other.len() && one.iter().zip(other).all(|(one, other)| one.name() == other.name())
}

/// The moment that `text` says, as `unit`s from 1970 on; without an offset in it, that of clocks in `zone`. None: it says none.
#[must_use]
pub fn moment_said(text: &str, zone: &Tz, unit: TimeUnit) -> Option<i64> {
    read(text, zone, unit).ok()
}

/// Whether values of the type are what clocks and calendars show.
pub(super) fn is_clock(data_type: &DataType) -> bool {
    matches!(data_type, DataType::Timestamp(_, None) | DataType::Date32 | DataType::Date64)
}

/// Whether values of the type are times of a day.
pub(super) fn is_time(data_type: &DataType) -> bool {
    matches!(data_type, DataType::Time32(_) | DataType::Time64(_))
}

/// Text, dates, or what clocks show, as moments.
fn moments(
    array: &ArrayRef,
    zone: &Tz,
    unit: TimeUnit,
    label: &Arc<str>,
    safe: bool,
) -> Result<ArrayRef, ArrowError> {
    let options = CastOptions { safe, ..CastOptions::default() };
    if array.data_type().is_null() {
        let to = DataType::Timestamp(unit, Some(Arc::clone(label)));
        return Ok(new_null_array(&to, array.len()));
    }
    let values = if is_text(array.data_type()) {
        let texts = cast(array, &DataType::Utf8View)?;
        let read = |text: Option<&str>| match text.map(|text| read(text, zone, unit)) {
            None => Ok(None),
            Some(Err(_)) if safe => Ok(None),
            Some(read) => read.map(Some),
        };
        texts.as_string_view().iter().map(read).collect::<Result<Int64Array, ArrowError>>()?
    } else {
        let local = cast_with_options(array, &DataType::Timestamp(unit, None), &options)?;
        each(&local, safe, |value| moment_of(zone, value, unit))?
    };
    Ok(timestamps(&values, unit, Some(label)))
}

/// Moments as what clocks show.
fn clocks(array: &ArrayRef, zone: &Tz, safe: bool) -> Result<ArrayRef, ArrowError> {
    let DataType::Timestamp(unit, _) = array.data_type() else {
        return Err(ArrowError::CastError(format!("a value of type {} is no moment", array.data_type())));
    };
    let unit = *unit;
    Ok(timestamps(&each(array, safe, |value| clock_of(zone, value, unit))?, unit, None))
}

/// What `of` makes of each timestamp; where it makes nothing, NULL when `safe`.
fn each(array: &ArrayRef, safe: bool, of: impl Fn(i64) -> Option<i64>) -> Result<Int64Array, ArrowError> {
    let values = cast(array, &DataType::Int64)?;
    let values = values.as_primitive::<Int64Type>();
    if safe {
        return Ok(values.unary_opt(of));
    }
    values.try_unary(|value| {
        of(value).ok_or_else(|| ArrowError::CastError("date or timestamp out of range".to_owned()))
    })
}

/// The moment that a text says: one without an offset is what clocks of the zone show.
fn read(text: &str, zone: &Tz, unit: TimeUnit) -> Result<i64, ArrowError> {
    let time = match string_to_datetime(zone, text) {
        Ok(time) => time.naive_utc(),
        Err(error) => clock_in(text).and_then(|local| utc_of(zone, local)).ok_or(error)?,
    };
    counted(time, unit).ok_or_else(|| {
        let cut: String = text.chars().take(60).collect();
        ArrowError::CastError(format!("timestamp '{cut}' is out of range"))
    })
}

/// What a text says that names neither an offset nor a zone: Arrow reads none for hours that clocks skip or show twice.
fn clock_in(text: &str) -> Option<NaiveDateTime> {
    let here = string_to_datetime(&Utc, text).ok()?.naive_utc();
    let there = string_to_datetime(&FixedOffset::east_opt(3_600)?, text).ok()?.naive_utc();
    // With an offset in it, it is the same moment everywhere.
    (here != there).then_some(here)
}

/// Moments moved by intervals.
fn shifted(moment: &ArrayRef, interval: &ArrayRef, zone: &Tz, subtracts: bool) -> Result<ArrayRef> {
    let DataType::Timestamp(unit, label) = moment.data_type() else {
        return internal_err!("an interval was added to {}", moment.data_type());
    };
    let moments = cast(moment, &DataType::Int64)?;
    let moments = moments.as_primitive::<Int64Type>();
    let intervals = cast(interval, &DataType::Interval(IntervalUnit::MonthDayNano))?;
    let intervals = intervals.as_primitive::<IntervalMonthDayNanoType>();
    let mut values = Vec::with_capacity(moments.len());
    for (value, by) in moments.iter().zip(intervals) {
        values.push(match (value, by) {
            (Some(value), Some(by)) => {
                Some(moved(value, by, *unit, zone, subtracts).ok_or_else(out_of_range)?)
            }
            _ => None,
        });
    }
    Ok(timestamps(&Int64Array::from(values), *unit, label.as_ref()))
}

/// The moment `value` moved by an interval, whose months and days are those of clocks in `zone`; None: too far away.
pub(crate) fn moved(
    value: i64,
    by: IntervalMonthDayNano,
    unit: TimeUnit,
    zone: &Tz,
    subtracts: bool,
) -> Option<i64> {
    let back = |negative: bool| negative != subtracts;
    let mut value = value;
    if by.months != 0 || by.days != 0 {
        let mut local = time_of(clock_of(zone, value, unit)?, unit)?;
        let months = Months::new(by.months.unsigned_abs());
        local = match back(by.months < 0) {
            true => local.checked_sub_months(months)?,
            false => local.checked_add_months(months)?,
        };
        let days = Days::new(by.days.unsigned_abs().into());
        local = match back(by.days < 0) {
            true => local.checked_sub_days(days)?,
            false => local.checked_add_days(days)?,
        };
        value = moment_of(zone, counted(local, unit)?, unit)?;
    }
    if by.nanoseconds == 0 {
        return Some(value);
    }
    let span = TimeDelta::nanoseconds(by.nanoseconds);
    let time = time_of(value, unit)?;
    let time = if subtracts { time.checked_sub_signed(span) } else { time.checked_add_signed(span) };
    counted(time?, unit)
}

impl ScalarUDFImpl for Zoned {
    fn name(&self) -> &str {
        match self.conversion {
            Conversion::ToMoment { .. } => "moment_in_zone",
            Conversion::ToClock => "clock_in_zone",
            Conversion::Shift { .. } => "shift_in_zone",
            Conversion::Nested { .. } => "values_in_zone",
        }
    }

    fn display_name(&self, args: &[Expr]) -> Result<String> {
        Ok(self.written(args, ToString::to_string))
    }

    fn schema_name(&self, args: &[Expr]) -> Result<String> {
        Ok(self.written(args, |arg| arg.schema_name().to_string()))
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, arg_types: &[DataType]) -> Result<DataType> {
        match (&self.conversion, arg_types) {
            (Conversion::ToMoment { unit, label, .. }, _) => {
                Ok(DataType::Timestamp(*unit, Some(Arc::clone(label))))
            }
            (Conversion::ToClock, [DataType::Timestamp(unit, _)]) => Ok(DataType::Timestamp(*unit, None)),
            (Conversion::Shift { .. }, [moment @ DataType::Timestamp(..), _]) => Ok(moment.clone()),
            (Conversion::Nested { to, .. }, _) => Ok(to.clone()),
            _ => Err(invalid("42883", format!("{} takes no such values", self.name()))),
        }
    }

    /// NULL only of NULL, like what it stands for: plans made before it took the place rely on that.
    fn return_field_from_args(&self, args: ReturnFieldArgs<'_>) -> Result<FieldRef> {
        let types: Vec<DataType> = args.arg_fields.iter().map(|field| field.data_type().clone()).collect();
        let is_safe = matches!(
            self.conversion,
            Conversion::ToMoment { safe: true, .. } | Conversion::Nested { safe: true, .. }
        );
        let nullable = is_safe || args.arg_fields.iter().any(|field| field.is_nullable());
        Ok(Arc::new(Field::new(self.name(), self.return_type(&types)?, nullable)))
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        let constant = args.args.iter().all(|arg| matches!(arg, ColumnarValue::Scalar(_)));
        let made = self.convert(&ColumnarValue::values_to_arrays(&args.args)?)?;
        Ok(if constant {
            ColumnarValue::Scalar(ScalarValue::try_from_array(&made, 0)?)
        } else {
            ColumnarValue::Array(made)
        })
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use datafusion::arrow::array::{IntervalMonthDayNanoArray, StringArray, TimestampMicrosecondArray};
    use datafusion::arrow::util::display::array_value_to_string;

    use super::*;

    const MICROS: TimeUnit = TimeUnit::Microsecond;

    fn zurich() -> Arc<str> {
        "Europe/Zurich".into()
    }

    fn shown(array: &ArrayRef) -> String {
        array_value_to_string(array, 0).unwrap()
    }

    fn text(text: &str) -> ArrayRef {
        Arc::new(StringArray::from(vec![text]))
    }

    fn utc() -> DataType {
        DataType::Timestamp(MICROS, Some("UTC".into()))
    }

    fn moment(said: &str) -> ArrayRef {
        assigned(&text(said), &utc(), &zurich()).unwrap().unwrap()
    }

    #[test]
    fn text_without_an_offset_is_read_in_the_zone() {
        for (said, meant) in [
            ("2024-07-01 10:00:00", "2024-07-01T08:00:00Z"),
            ("2024-07-01", "2024-06-30T22:00:00Z"),
            ("2024-07-01 10:00:00Z", "2024-07-01T10:00:00Z"),
            ("2024-07-01T10:00:00+05:00", "2024-07-01T05:00:00Z"),
            ("2024-07-01 10:00:00 America/New_York", "2024-07-01T14:00:00Z"),
            ("2024-03-31 02:30:00", "2024-03-31T01:30:00Z"),
            ("2024-10-27 02:30:00", "2024-10-27T01:30:00Z"),
            ("2024-10-27 02:30:00+02:00", "2024-10-27T00:30:00Z"),
            ("soon", ""),
        ] {
            assert_eq!(shown(&moment(said)), meant, "{said}");
        }
        let refused = moments(&text("soon"), &"+02:00".parse().unwrap(), MICROS, &"UTC".into(), false);
        assert!(refused.unwrap_err().to_string().contains("'soon'"));
    }

    #[test]
    fn columns_get_what_clocks_show() {
        let at = moment("2024-06-30 22:30:00Z");
        for (to, meant) in [
            (DataType::Timestamp(MICROS, None), "2024-07-01T00:30:00"),
            (DataType::Date32, "2024-07-01"),
            (DataType::Time64(MICROS), "00:30:00"),
            (DataType::Utf8View, "2024-07-01T00:30:00+02:00"),
        ] {
            assert_eq!(shown(&assigned(&at, &to, &zurich()).unwrap().unwrap()), meant, "{to}");
        }
        for (array, to) in [(&at, utc()), (&text("2024-07-01"), DataType::Date32)] {
            assert!(assigned(array, &to, &zurich()).unwrap().is_none(), "{to}");
        }
        let list = cast(&moment("2024-06-30 22:30:00Z"), &DataType::new_list(utc(), true)).unwrap();
        let texts = assigned(&list, &DataType::new_list(DataType::Utf8, true), &zurich()).unwrap().unwrap();
        assert_eq!(shown(&texts), "[2024-07-01T00:30:00+02:00]");
    }

    #[test]
    fn values_in_lists_are_read_as_others_are() {
        let texts = |said: &str| {
            let list = cast(&text(said), &DataType::new_list(DataType::Utf8, true)).unwrap();
            let members = Fields::from(vec![Field::new("l", list.data_type().clone(), true)]);
            Arc::new(StructArray::new(members, vec![list], None)) as ArrayRef
        };
        let of = |item: DataType| {
            DataType::Struct(Fields::from(vec![Field::new("l", DataType::new_list(item, true), true)]))
        };
        for (said, meant) in [
            ("2024-03-31 02:30:00", "{l: [2024-03-31T01:30:00Z]}"),
            ("2024-10-27 02:30:00", "{l: [2024-10-27T01:30:00Z]}"),
        ] {
            let read = assigned(&texts(said), &of(utc()), &zurich()).unwrap().unwrap();
            assert_eq!(shown(&read), meant, "{said}");
            let clock = nested(&read, &of(DataType::Date32), &zurich(), &zurich().parse().unwrap(), false);
            assert_eq!(shown(&clock.unwrap()), format!("{{l: [{}]}}", &said[..10]));
        }
        assert!(assigned(&texts("soon"), &of(utc()), &zurich()).is_err());
    }

    #[test]
    fn days_are_those_of_clocks() {
        let by = |months, days, nanos, from: &str, subtracts| {
            let interval: ArrayRef =
                Arc::new(IntervalMonthDayNanoArray::from(vec![IntervalMonthDayNano::new(
                    months, days, nanos,
                )]));
            let zone = "Europe/Zurich".parse().unwrap();
            shown(&shifted(&moment(from), &interval, &zone, subtracts).unwrap())
        };
        // A day with 23 hours, then one with 25.
        assert_eq!(by(0, 1, 0, "2024-03-30 12:00:00", false), "2024-03-31T10:00:00Z");
        assert_eq!(by(0, 1, 0, "2024-10-27 12:00:00", true), "2024-10-26T10:00:00Z");
        assert_eq!(by(0, 0, 86_400_000_000_000, "2024-03-30 12:00:00", false), "2024-03-31T11:00:00Z");
        assert_eq!(by(1, 0, 0, "2024-01-31 12:00:00", false), "2024-02-29T11:00:00Z");
        assert_eq!(by(-1, 0, 0, "2024-01-31 12:00:00", true), "2024-02-29T11:00:00Z");
        // Into an hour that is skipped.
        assert_eq!(by(0, 1, 0, "2024-03-30 02:30:00", false), "2024-03-31T01:30:00Z");
        let far: ArrayRef = Arc::new(TimestampMicrosecondArray::from(vec![i64::MAX]).with_timezone("UTC"));
        let day: ArrayRef =
            Arc::new(IntervalMonthDayNanoArray::from(vec![IntervalMonthDayNano::new(0, 1, 0)]));
        assert!(shifted(&far, &day, &"+02:00".parse().unwrap(), false).is_err());
    }

    #[test]
    fn bytes_come_back() {
        let moment = |safe| Conversion::ToMoment { unit: MICROS, label: "UTC".into(), safe };
        let member = Field::new("a b", utc(), true);
        let to = DataType::new_list(DataType::Struct(Fields::from(vec![member])), true);
        for conversion in [
            moment(true),
            moment(false),
            Conversion::ToClock,
            Conversion::Shift { subtracts: true },
            Conversion::Nested { to, safe: true },
        ] {
            let function = Zoned::function(&zurich(), conversion);
            assert_eq!(decode(&encode(&function).unwrap()).unwrap(), function);
        }
        for wrong in [
            &[] as &[u8],
            &[0],
            &[1],
            &[2],
            &[2, 2, b'Z'],
            &[0, 9, 0, 0],
            &[0, 2, 0, 200, 1],
            &[1, 255],
            &[3, 0, 9, 0, 1],
        ] {
            assert!(decode(wrong).is_none(), "{wrong:?}");
        }
    }
}
