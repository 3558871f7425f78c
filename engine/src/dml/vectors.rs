//! Values on their way into VECTOR columns.
//!
//! Owns: vectors as written in a statement brought to one form, text, so that rows may write them differently; errors that
//! name column and row. Does not own: the conversion (`cairn_udfs::vector`), its last check (storage).

use cairn_storage::ErrorKind;
use cairn_storage::schema::ColumnDef;
use cairn_udfs::vector::{self, BadVector, Why};
use datafusion::arrow::array::ArrayRef;
use datafusion::sql::sqlparser::ast::{Array, DataType as SqlType, Expr, Value};

use super::assign::mismatch;
use super::insert::number_text;
use crate::error::{Error, Result};

/// `array` as vectors of `column`, which has `dim` dimensions. `place` gives the words by which an error names a row of it.
///
/// # Errors
/// The first value that is no such vector.
pub(super) fn assign(
    column: &ColumnDef,
    dim: u16,
    array: &ArrayRef,
    place: impl FnOnce(usize) -> String,
) -> Result<ArrayRef> {
    vector::vectors(array, Some(dim.into())).map_err(|BadVector { row, why }| {
        if let Why::Type(_) = why {
            return mismatch(column, array.data_type());
        }
        Error::new(
            ErrorKind::InvalidInput,
            format!(
                "invalid value for column \"{}\" of type {}{}: {why}",
                column.name,
                column.column_type,
                place(row)
            ),
        )
        .map(|e| e.with_sqlstate(why.sqlstate()))
    })
}

/// The text of a vector that is written out: `ARRAY[1, 2.5]`, `'[1,2.5]'::VECTOR(2)`; None for anything else.
pub(super) fn written(value: &Expr) -> Option<String> {
    match value {
        Expr::Array(Array { elem, named: true }) => {
            let components = elem.iter().map(component).collect::<Option<Vec<_>>>()?;
            Some(format!("[{}]", components.join(",")))
        }
        Expr::Cast { expr, data_type: SqlType::Custom(name, _), .. }
            if name.to_string().eq_ignore_ascii_case("vector") =>
        {
            text(expr).map(str::to_owned).or_else(|| written(expr))
        }
        Expr::Nested(inner) => written(inner),
        _ => None,
    }
}

fn component(expr: &Expr) -> Option<String> {
    match expr {
        Expr::Value(value) if value.value == Value::Null => Some("NULL".to_owned()),
        other => number_text(other),
    }
}

/// The text of a string.
fn text(value: &Expr) -> Option<&str> {
    match value {
        Expr::Value(value) => match &value.value {
            Value::SingleQuotedString(text) => Some(text),
            _ => None,
        },
        Expr::Nested(inner) => text(inner),
        _ => None,
    }
}

/// Brings the values of a VECTOR column in several rows to one type: what is no text yet is cast to it.
pub(super) fn align<'a>(values: impl Iterator<Item = &'a mut Expr>) {
    for value in values {
        let is_null = matches!(value, Expr::Value(v) if v.value == Value::Null);
        if is_null || text(value).is_some() {
            continue;
        }
        let expr = std::mem::replace(value, Expr::value(Value::Null));
        *value = Expr::Cast {
            kind: datafusion::sql::sqlparser::ast::CastKind::Cast,
            expr: Box::new(expr),
            data_type: SqlType::Text,
            array: false,
            format: None,
        };
    }
}
