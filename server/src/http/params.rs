//! Parameters from JSON.
//!
//! Owns: the SQL type of each JSON value: true and false are BOOLEAN; numbers without point or exponent BIGINT (BIGINT UNSIGNED above
//! its range), others DOUBLE; strings TEXT; arrays lists of one of these, arrays of numbers with a point among them DOUBLE[]. What the
//! place in the statement asks for is converted to as from a literal. Digits that neither BIGINT nor DOUBLE hold come as strings.

use std::sync::Arc;

use axum::http::StatusCode;
use datafusion::arrow::array::ArrayRef;
use datafusion::arrow::datatypes::DataType;
use datafusion::common::utils::arrays_into_list_array;
use datafusion::common::{ParamValues, ScalarValue};
use datafusion::error::DataFusionError;
use serde_json::Value;

use super::error::Problem;

/// Deepest array.
const NESTING_MAX: usize = 8;

/// `$1`, `$2`, … from an array, `$name` from an object; None for none.
///
/// # Errors
/// A value no parameter can have, with its place.
pub(super) fn params(params: &Value) -> Result<Option<ParamValues>, Problem> {
    match params {
        Value::Null => Ok(None),
        Value::Array(values) => {
            let values = values.iter().enumerate().map(|(i, v)| scalar(v, &format!("${}", i + 1), 0));
            Ok(Some(ParamValues::from(values.collect::<Result<Vec<_>, _>>()?)))
        }
        Value::Object(values) => {
            let values =
                values.iter().map(|(name, v)| Ok((name.clone(), scalar(v, &format!("${name}"), 0)?)));
            Ok(Some(ParamValues::from(values.collect::<Result<Vec<_>, Problem>>()?)))
        }
        _ => Err(bad("params is neither an array (for $1, $2, …) nor an object (for $name)")),
    }
}

fn scalar(value: &Value, name: &str, depth: usize) -> Result<ScalarValue, Problem> {
    Ok(match value {
        Value::Null => ScalarValue::Null,
        Value::Bool(value) => ScalarValue::from(*value),
        Value::String(text) => ScalarValue::from(text.as_str()),
        Value::Number(number) => match (number.as_i64(), number.as_u64(), number.as_f64()) {
            (Some(number), _, _) => ScalarValue::from(number),
            (_, Some(number), _) => ScalarValue::from(number),
            (_, _, Some(number)) => ScalarValue::from(number),
            _ => return Err(bad(format!("parameter {name} is a number that no type holds"))),
        },
        Value::Array(_) if depth == NESTING_MAX => {
            return Err(bad(format!("parameter {name} has arrays nested deeper than {NESTING_MAX}")));
        }
        Value::Array(items) => {
            let items =
                items.iter().map(|item| scalar(item, name, depth + 1)).collect::<Result<Vec<_>, _>>()?;
            list(items, name)?
        }
        Value::Object(_) => {
            return Err(bad(format!("parameter {name} is an object"))
                .with_hint("give a string with its JSON, or each member by itself"));
        }
    })
}

/// The items as one list of the type that holds them all.
fn list(items: Vec<ScalarValue>, name: &str) -> Result<ScalarValue, Problem> {
    let mut item_type = DataType::Null;
    for item in &items {
        item_type = match (&item_type, item.data_type()) {
            (known, found) if *known == found => found,
            (DataType::Null, found) => found,
            (known, DataType::Null) => known.clone(),
            (known, found) if known.is_numeric() && found.is_numeric() => DataType::Float64,
            (known, found) => {
                return Err(bad(format!("parameter {name} is an array of {known} and {found}"))
                    .with_hint("all items of an array have one type"));
            }
        };
    }
    let made = || -> Result<ScalarValue, DataFusionError> {
        let items = items.iter().map(|item| item.cast_to(&item_type)).collect::<Result<Vec<_>, _>>()?;
        let items: ArrayRef = match items.is_empty() {
            true => datafusion::arrow::array::new_empty_array(&item_type),
            false => ScalarValue::iter_to_array(items)?,
        };
        Ok(ScalarValue::List(Arc::new(arrays_into_list_array([items])?)))
    };
    made().map_err(|error| bad(format!("parameter {name}: {}", error.strip_backtrace())))
}

fn bad(message: impl Into<String>) -> Problem {
    Problem::request(StatusCode::BAD_REQUEST, message)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use serde_json::json;

    use super::*;

    fn shown(value: &Value) -> String {
        match scalar(value, "$1", 0) {
            Ok(value) => format!("{} {value}", value.data_type()),
            Err(problem) => problem.to_json()["error"]["message"].as_str().unwrap().to_owned(),
        }
    }

    #[test]
    fn types_of_values() {
        for (value, expected) in [
            (json!(null), "Null NULL"),
            (json!(true), "Boolean true"),
            (json!(-3), "Int64 -3"),
            (json!(u64::MAX), "UInt64 18446744073709551615"),
            (json!(1.0), "Float64 1"),
            (json!("a"), "Utf8 a"),
            (json!([1, null]), "List(Int64) [1, ]"),
            (json!([1, 0.5]), "List(Float64) [1.0, 0.5]"),
            (json!(["a", "b"]), "List(Utf8) [a, b]"),
            (json!([]), "List(Null) []"),
            (json!([[1], [2.5]]), "parameter $1 is an array of List(Int64) and List(Float64)"),
            (json!([1, "a"]), "parameter $1 is an array of Int64 and Utf8"),
            (json!({"a": 1}), "parameter $1 is an object"),
        ] {
            assert_eq!(shown(&value), expected, "{value}");
        }
    }

    #[test]
    fn by_number_and_by_name() {
        assert!(matches!(params(&json!([1])).unwrap(), Some(ParamValues::List(values)) if values.len() == 1));
        assert!(
            matches!(params(&json!({"a": 1})).unwrap(), Some(ParamValues::Map(values)) if values.contains_key("a"))
        );
        assert!(params(&json!(null)).unwrap().is_none());
        assert!(params(&json!(3)).is_err());
    }
}
