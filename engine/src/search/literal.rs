//! The vector that a constant expression is.

use cairn_udfs::vector::dimensions;
use cairn_vector::text;
use datafusion::arrow::array::{Array, AsArray};
use datafusion::arrow::datatypes::{DataType, Float32Type};
use datafusion::common::ScalarValue;
use datafusion::logical_expr::Expr;

use crate::error::{Error, Result};
use cairn_storage::ErrorKind;

/// The components of a literal vector: a VECTOR, a list of numbers, or text; None: no such literal.
///
/// # Errors
/// 22P02 for text that is no vector.
pub(super) fn vector_of(expr: &Expr) -> Result<Option<Vec<f32>>> {
    match expr {
        Expr::Literal(value, _) => of_scalar(value),
        Expr::Cast(cast) => vector_of(&cast.expr),
        Expr::Alias(alias) => vector_of(&alias.expr),
        _ => Ok(None),
    }
}

/// Whether values of a type may be vectors to search for.
pub(super) fn may_be_vector(data_type: &DataType) -> bool {
    match data_type {
        DataType::Utf8 | DataType::Utf8View | DataType::LargeUtf8 | DataType::List(_) => true,
        other => dimensions(other).is_some(),
    }
}

/// The components of a scalar that is a vector: as [`vector_of`].
///
/// # Errors
/// 22P02 for text that is no vector.
pub(crate) fn of_scalar(value: &ScalarValue) -> Result<Option<Vec<f32>>> {
    let values = match value {
        ScalarValue::Utf8(Some(text))
        | ScalarValue::Utf8View(Some(text))
        | ScalarValue::LargeUtf8(Some(text)) => {
            let parsed = text::parse(text).map_err(|e| {
                Error::new(ErrorKind::InvalidInput, format!("invalid vector: {e}"))
                    .map(|e| e.with_sqlstate("22P02"))
            })?;
            return Ok(Some(parsed));
        }
        ScalarValue::FixedSizeList(list) if list.len() == 1 && list.is_valid(0) => list.value(0),
        ScalarValue::List(list) if list.len() == 1 && list.is_valid(0) => list.value(0),
        _ => return Ok(None),
    };
    let Ok(numbers) = datafusion::arrow::compute::cast(&values, &DataType::Float32) else { return Ok(None) };
    Ok((numbers.null_count() == 0).then(|| numbers.as_primitive::<Float32Type>().values().to_vec()))
}
