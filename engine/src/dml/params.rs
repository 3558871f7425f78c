//! `$n` parameters of a change, put into the AST as literals.
//!
//! Binding before planning gives every value the type a literal in its place would have, so that prepared and plain
//! statements convert alike. Owns: scalar -> SQL literal. Does not own: parameters of SELECT (session).

use std::ops::ControlFlow;

use cairn_storage::ErrorKind;
use cairn_udfs::vector::{dimensions, text_of};
use datafusion::arrow::array::{Array, AsArray, FixedSizeListArray};
use datafusion::arrow::datatypes::DataType;
use datafusion::arrow::util::display::{ArrayFormatter, FormatOptions, array_value_to_string};
use datafusion::common::{ParamValues, ScalarValue};
use datafusion::sql::sqlparser::ast::{
    self, CastKind, DataType as SqlType, ExactNumberInfo, Expr, Ident, ObjectName, Statement, TimezoneInfo,
    Value,
};

use crate::error::{Error, Result};
use crate::statement::walk;

/// `statement` with every placeholder replaced by its value.
///
/// # Errors
/// A placeholder without a value, or a value with no literal form.
pub(crate) fn bind(statement: &Statement, params: Option<&ParamValues>) -> Result<Statement> {
    let mut bound = statement.clone();
    let flow = walk::expressions_mut(&mut bound, |expr| {
        let Expr::Value(value) = &*expr else { return ControlFlow::Continue(()) };
        let Value::Placeholder(name) = &value.value else { return ControlFlow::Continue(()) };
        match lookup(name, params).and_then(literal) {
            Ok(literal) => {
                *expr = literal;
                ControlFlow::Continue(())
            }
            Err(error) => ControlFlow::Break(error),
        }
    });
    match flow {
        ControlFlow::Break(error) => Err(error),
        ControlFlow::Continue(()) => Ok(bound),
    }
}

/// The value of placeholder `name` (`$1`, `$name`).
///
/// # Errors
/// There is none.
pub(crate) fn lookup<'a>(name: &str, params: Option<&'a ParamValues>) -> Result<&'a ScalarValue> {
    let key = name.trim_start_matches(['$', ':', '@']);
    let found = match params {
        Some(ParamValues::List(values)) => {
            key.parse::<usize>().ok().and_then(|n| values.get(n.checked_sub(1)?)).map(|v| &v.value)
        }
        Some(ParamValues::Map(values)) => values.get(key).map(|v| &v.value),
        None => None,
    };
    found.ok_or_else(|| {
        Error::new(ErrorKind::InvalidInput, format!("there is no value for parameter {name}"))
            .map(|e| e.with_sqlstate("42P02"))
    })
}

/// A value as SQL writes it.
///
/// # Errors
/// A value with no literal form.
pub(crate) fn literal(value: &ScalarValue) -> Result<Expr> {
    if value.is_null() {
        return Ok(Expr::value(Value::Null));
    }
    Ok(match value {
        ScalarValue::Boolean(Some(b)) => Expr::value(Value::Boolean(*b)),
        ScalarValue::Utf8(Some(s)) | ScalarValue::LargeUtf8(Some(s)) | ScalarValue::Utf8View(Some(s)) => {
            Expr::value(Value::SingleQuotedString(s.clone()))
        }
        ScalarValue::Binary(Some(b))
        | ScalarValue::LargeBinary(Some(b))
        | ScalarValue::BinaryView(Some(b)) => {
            Expr::value(Value::HexStringLiteral(b.iter().map(|b| format!("{b:02X}")).collect()))
        }
        ScalarValue::FixedSizeList(vector) if dimensions(vector.data_type()).is_some() => {
            vector_literal(vector)
        }
        ScalarValue::List(_) | ScalarValue::LargeList(_) | ScalarValue::FixedSizeList(_) => {
            list_literal(value)?
        }
        other => {
            let sql_type = sql_type(&other.data_type()).ok_or_else(|| {
                Error::not_supported_yet(format!("a parameter of type {}", other.data_type()))
            })?;
            let array = other.to_array()?;
            let formatter = ArrayFormatter::try_new(array.as_ref(), &FormatOptions::default())
                .map_err(super::assign::arrow)?;
            let text = formatter.value(0).to_string();
            Expr::Cast {
                kind: CastKind::Cast,
                expr: Box::new(Expr::value(Value::SingleQuotedString(text))),
                data_type: sql_type,
                array: false,
                format: None,
            }
        }
    })
}

fn vector_literal(vector: &FixedSizeListArray) -> Expr {
    let text = text_of(vector).next().flatten().unwrap_or_default();
    let modifiers = vec![vector.value_length().to_string()];
    Expr::Cast {
        kind: CastKind::Cast,
        expr: Box::new(Expr::value(Value::SingleQuotedString(text))),
        data_type: SqlType::Custom(ObjectName::from(vec![Ident::new("vector")]), modifiers),
        array: false,
        format: None,
    }
}

/// ARRAY[…] of the values of a list; numbers stand as numbers, which keeps their digits.
fn list_literal(value: &ScalarValue) -> Result<Expr> {
    let array = value.to_array()?;
    let items = match array.data_type() {
        DataType::LargeList(_) => array.as_list::<i64>().value(0),
        DataType::FixedSizeList(..) => array.as_fixed_size_list().value(0),
        _ => array.as_list::<i32>().value(0),
    };
    let elem = (0..items.len())
        .map(|i| {
            let item = ScalarValue::try_from_array(&items, i)?;
            match item.cast_to(&DataType::Float64) {
                Ok(ScalarValue::Float64(Some(number)))
                    if item.data_type().is_numeric() && number.is_finite() =>
                {
                    let digits = array_value_to_string(&items, i).map_err(super::assign::arrow)?;
                    Ok(Expr::value(Value::Number(digits, false)))
                }
                _ => literal(&item),
            }
        })
        .collect::<Result<Vec<_>>>()?;
    Ok(Expr::Array(ast::Array { elem, named: true }))
}

fn sql_type(data_type: &DataType) -> Option<SqlType> {
    Some(match data_type {
        DataType::Int8 => SqlType::TinyInt(None),
        DataType::Int16 => SqlType::SmallInt(None),
        DataType::Int32 => SqlType::Int(None),
        DataType::Int64 => SqlType::BigInt(None),
        DataType::UInt8 => SqlType::TinyIntUnsigned(None),
        DataType::UInt16 => SqlType::SmallIntUnsigned(None),
        DataType::UInt32 => SqlType::IntUnsigned(None),
        DataType::UInt64 => SqlType::BigIntUnsigned(None),
        DataType::Float32 => SqlType::Real,
        DataType::Float64 => SqlType::DoublePrecision,
        DataType::Decimal128(precision, scale) if *scale >= 0 => {
            SqlType::Decimal(ExactNumberInfo::PrecisionAndScale(u64::from(*precision), i64::from(*scale)))
        }
        DataType::Date32 | DataType::Date64 => SqlType::Date,
        DataType::Time32(_) | DataType::Time64(_) => SqlType::Time(None, TimezoneInfo::None),
        DataType::Timestamp(_, None) => SqlType::Timestamp(None, TimezoneInfo::None),
        DataType::Timestamp(_, Some(_)) => SqlType::Timestamp(None, TimezoneInfo::WithTimeZone),
        _ => return None,
    })
}
