//! Values of any type: which type it is, and how many of several are NULL.
//!
//! Owns: the types' names as `typeof` says them, which are those of CREATE TABLE where a column may have the type. Does not own: the types
//! of columns (storage).

use std::fmt::Write as _;

use datafusion::arrow::array::{Array, ArrayRef};
use datafusion::arrow::buffer::NullBuffer;
use datafusion::arrow::datatypes::{DataType, TimeUnit};
use datafusion::common::Result;

use crate::function::{Call, Kind, Spec, TextRows, Values, integers};
use crate::zones::is_utc;

/// The functions of this module.
pub(crate) fn functions() -> Vec<Spec> {
    vec![
        Spec::new(
            "typeof(value)",
            &[&[Kind::Any]],
            |_| DataType::Utf8View,
            |call| {
                let name = type_name(&call.type_of(0)?);
                TextRows::parts(call, |_| Ok(Some(name.as_str())))
            },
            "The type of the value, as CREATE TABLE writes it; of JSON it is TEXT.",
            "SELECT typeof(1.5), typeof([1])  -- DOUBLE, BIGINT[]",
        )
        .also(&["pg_typeof"]),
        Spec::new(
            "num_nulls(value, …)",
            &[&[]],
            |_| DataType::Int64,
            |call| counted(call, true),
            "How many of the values are NULL, as in PostgreSQL.",
            "SELECT num_nulls(1, NULL, 2)  -- 1",
        )
        .and_more(Kind::Any),
        Spec::new(
            "num_nonnulls(value, …)",
            &[&[]],
            |_| DataType::Int64,
            |call| counted(call, false),
            "How many of the values are not NULL, as in PostgreSQL.",
            "SELECT num_nonnulls(1, NULL, 2)  -- 2",
        )
        .and_more(Kind::Any),
    ]
}

fn counted(call: &Call<'_>, nulls: bool) -> Result<ArrayRef> {
    let values = (0..call.len()).map(|at| call.values(at)).collect::<Result<Vec<Values>>>()?;
    let masks: Vec<Option<NullBuffer>> = values.iter().map(|of| of.array().logical_nulls()).collect();
    integers(call, |row| {
        let is_null = |of: &Values, mask: &Option<NullBuffer>| {
            mask.as_ref().is_some_and(|mask| mask.is_null(of.at(row)))
        };
        let count = values.iter().zip(&masks).filter(|pair| is_null(pair.0, pair.1) == nulls).count();
        Ok(i64::try_from(count).ok())
    })
}

/// The type as SQL has it.
pub(crate) fn type_name(data_type: &DataType) -> String {
    let name = match data_type {
        DataType::Null => "NULL",
        DataType::Boolean => "BOOLEAN",
        DataType::Int8 => "TINYINT",
        DataType::Int16 => "SMALLINT",
        DataType::Int32 => "INTEGER",
        DataType::Int64 => "BIGINT",
        DataType::UInt8 => "TINYINT UNSIGNED",
        DataType::UInt16 => "SMALLINT UNSIGNED",
        DataType::UInt32 => "INTEGER UNSIGNED",
        DataType::UInt64 => "BIGINT UNSIGNED",
        DataType::Float16 | DataType::Float32 => "REAL",
        DataType::Float64 => "DOUBLE",
        DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View => "TEXT",
        DataType::Binary | DataType::LargeBinary | DataType::BinaryView | DataType::FixedSizeBinary(_) => {
            "BYTEA"
        }
        DataType::Date32 | DataType::Date64 => "DATE",
        DataType::Time32(_) | DataType::Time64(_) => "TIME",
        DataType::Interval(_) | DataType::Duration(_) => "INTERVAL",
        DataType::Timestamp(unit, zone) => return timestamp(*unit, zone.as_deref()),
        DataType::Decimal32(precision, scale)
        | DataType::Decimal64(precision, scale)
        | DataType::Decimal128(precision, scale)
        | DataType::Decimal256(precision, scale) => return format!("DECIMAL({precision},{scale})"),
        DataType::Dictionary(_, values) => return type_name(values),
        DataType::RunEndEncoded(_, values) => return type_name(values.data_type()),
        DataType::FixedSizeList(item, length) if *item.data_type() == DataType::Float32 => {
            return format!("VECTOR({length})");
        }
        DataType::List(item)
        | DataType::LargeList(item)
        | DataType::FixedSizeList(item, _)
        | DataType::ListView(item)
        | DataType::LargeListView(item) => return format!("{}[]", type_name(item.data_type())),
        DataType::Struct(members) => {
            let mut text = "STRUCT(".to_owned();
            for (at, member) in members.iter().enumerate() {
                let comma = if at == 0 { "" } else { ", " };
                // A text takes whatever is written.
                let _ = write!(text, "{comma}{} {}", member.name(), type_name(member.data_type()));
            }
            text.push(')');
            return text;
        }
        DataType::Map(entries, _) => {
            let of = |at: usize| match entries.data_type() {
                DataType::Struct(members) => members.get(at).map(|member| type_name(member.data_type())),
                _ => None,
            };
            let (key, value) = (of(0).unwrap_or_default(), of(1).unwrap_or_default());
            return format!("MAP({key}, {value})");
        }
        DataType::Union(..) => "UNION",
    };
    name.to_owned()
}

fn timestamp(unit: TimeUnit, zone: Option<&str>) -> String {
    let is_nanos = unit == TimeUnit::Nanosecond;
    match (zone, is_nanos) {
        (None, false) => "TIMESTAMP".to_owned(),
        (None, true) => "TIMESTAMP(9)".to_owned(),
        (Some(zone), false) if is_utc(zone) => "TIMESTAMPTZ".to_owned(),
        (Some(zone), true) if is_utc(zone) => "TIMESTAMPTZ(9)".to_owned(),
        (Some(zone), false) => format!("TIMESTAMPTZ('{zone}')"),
        (Some(zone), true) => format!("TIMESTAMPTZ(9, '{zone}')"),
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use datafusion::arrow::datatypes::{Field, Fields};

    use super::*;

    #[test]
    fn types_are_named_as_tables_have_them() {
        let at = |unit, zone: Option<&str>| DataType::Timestamp(unit, zone.map(Into::into));
        let members = vec![
            Field::new("a", DataType::Int32, true),
            Field::new("b", DataType::new_list(DataType::Utf8View, true), true),
        ];
        let item = Arc::new(Field::new("item", DataType::Float32, true));
        for (data_type, name) in [
            (DataType::Decimal128(10, 2), "DECIMAL(10,2)"),
            (at(TimeUnit::Microsecond, None), "TIMESTAMP"),
            (at(TimeUnit::Nanosecond, Some("+00:00")), "TIMESTAMPTZ(9)"),
            (at(TimeUnit::Microsecond, Some("+02:00")), "TIMESTAMPTZ('+02:00')"),
            (DataType::Struct(Fields::from(members)), "STRUCT(a INTEGER, b TEXT[])"),
            (DataType::FixedSizeList(item, 3), "VECTOR(3)"),
            (DataType::Dictionary(Box::new(DataType::Int32), Box::new(DataType::Utf8)), "TEXT"),
        ] {
            assert_eq!(type_name(&data_type), name);
        }
    }
}
