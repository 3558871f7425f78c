//! `INSERT … VALUES` whose rows write one column in several forms: `(1), ('2.5')`.
//!
//! The planner finds one type for each column of VALUES before the table's types are known, and would read `'2.5'` as a
//! BIGINT here. Where a column's literals differ in form, all of them become text, which every scalar type of a table reads
//! exactly. Owns: which columns those are, and the text. Does not own: reading it as the column's type (`assign`).

use cairn_storage::schema::{ColumnDef, ColumnType};
use datafusion::sql::sqlparser::ast::{CastKind, DataType as SqlType, Expr as SqlExpr, Value, Values};

use super::insert::{number_text, stored_value};
use super::target::Target;
use super::vectors;
use crate::error::Result;

/// Gives every value the form its column needs.
///
/// # Errors
/// A default that does not parse.
pub(super) fn shape(target: &Target, columns: &[usize], values: &mut Values) -> Result<()> {
    for (position, index) in columns.iter().enumerate() {
        let column = target.column_def(*index);
        for row in &mut values.rows {
            let value = &mut row.content[position];
            let given = std::mem::replace(value, SqlExpr::value(Value::Null));
            *value = stored_value(column, given)?;
        }
        if let ColumnType::Vector(_) = column.column_type {
            if values.rows.len() > 1 {
                vectors::align(values.rows.iter_mut().map(|row| &mut row.content[position]));
            }
            continue;
        }
        let forms = Forms::of(values.rows.iter().map(|row| &row.content[position]));
        if !forms.are_mixed(&column.column_type) {
            continue;
        }
        let texts: Option<Vec<SqlExpr>> =
            values.rows.iter().map(|row| as_text(column, &row.content[position])).collect();
        for (row, text) in values.rows.iter_mut().zip(texts.into_iter().flatten()) {
            row.content[position] = text;
        }
    }
    Ok(())
}

/// Which forms a column's values have.
#[derive(Debug, Default)]
struct Forms {
    whole: bool,
    fraction: bool,
    text: bool,
    boolean: bool,
    other: bool,
}

impl Forms {
    fn of<'a>(values: impl Iterator<Item = &'a SqlExpr>) -> Self {
        let mut forms = Self::default();
        for value in values {
            match (literal(value), number_text(value)) {
                (_, Some(digits)) if is_whole(&digits) => forms.whole = true,
                (_, Some(_)) => forms.fraction = true,
                (Some(Value::Null), _) => {}
                (Some(Value::Boolean(_)), _) => forms.boolean = true,
                (Some(Value::SingleQuotedString(_)), _) => forms.text = true,
                _ => forms.other = true,
            }
        }
        forms
    }

    /// Whether the planner's common type could lose or refuse what the column takes.
    fn are_mixed(&self, column: &ColumnType) -> bool {
        let beside_text = self.whole || self.fraction || self.boolean || self.other;
        // Their common type is a double, which does not hold every BIGINT and writes 1 as 1.0.
        let widened = self.whole && self.fraction && !self.boolean && !is_float(column);
        (self.text && beside_text) || widened
    }
}

fn is_float(column: &ColumnType) -> bool {
    matches!(column, ColumnType::Float32 | ColumnType::Float64)
}

fn is_integer(column: &ColumnType) -> bool {
    column.arrow().is_integer()
}

fn is_whole(digits: &str) -> bool {
    digits.bytes().all(|b| b.is_ascii_digit() || b == b'-')
}

fn literal(value: &SqlExpr) -> Option<&Value> {
    match value {
        SqlExpr::Value(value) => Some(&value.value),
        SqlExpr::Nested(inner) => literal(inner),
        _ => None,
    }
}

/// `value` as text; None where no text means the same to the column.
fn as_text(column: &ColumnDef, value: &SqlExpr) -> Option<SqlExpr> {
    let text = |text: String| Some(SqlExpr::value(Value::SingleQuotedString(text)));
    if let Some(digits) = number_text(value) {
        return text(if is_integer(&column.column_type) { rounded(digits) } else { digits });
    }
    match literal(value) {
        Some(Value::Null) => return Some(value.clone()),
        Some(Value::SingleQuotedString(given)) => return text(given.clone()),
        Some(Value::Boolean(given)) => return text(given.to_string()),
        Some(Value::HexStringLiteral(hex)) if column.column_type == ColumnType::Bytea => {
            return text(format!("\\x{hex}"));
        }
        _ => {}
    }
    let given = value.clone();
    match &column.column_type {
        ColumnType::Json | ColumnType::Bytea | ColumnType::List(_) | ColumnType::Struct(_) => None,
        // A moment is cut to its day before it is text.
        ColumnType::Date => Some(cast(cast(given, SqlType::Date), SqlType::Text)),
        _ => Some(cast(given, SqlType::Text)),
    }
}

fn cast(expr: SqlExpr, data_type: SqlType) -> SqlExpr {
    SqlExpr::Cast { kind: CastKind::Cast, expr: Box::new(expr), data_type, array: false, format: None }
}

/// A number with a fraction as the integer it is stored as.
fn rounded(digits: String) -> String {
    match digits.parse::<f64>() {
        Ok(number) if !is_whole(&digits) && number.is_finite() => {
            format!("{:.0}", number.round_ties_even())
        }
        _ => digits,
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use cairn_storage::id::ColumnId;
    use datafusion::sql::sqlparser::dialect::PostgreSqlDialect;
    use datafusion::sql::sqlparser::parser::Parser;

    use super::*;

    fn expr(text: &str) -> SqlExpr {
        Parser::new(&PostgreSqlDialect {}).try_with_sql(text).unwrap().parse_expr().unwrap()
    }

    fn mixed(column: &ColumnType, values: &[&str]) -> bool {
        let values: Vec<SqlExpr> = values.iter().map(|v| expr(v)).collect();
        Forms::of(values.iter()).are_mixed(column)
    }

    #[test]
    fn forms_that_differ() {
        assert!(mixed(&ColumnType::Float64, &["1", "'2.5'"]));
        assert!(mixed(&ColumnType::Boolean, &["true", "NULL", "'false'"]));
        assert!(mixed(&ColumnType::Int64, &["9007199254740993", "2.5"]));
        assert!(!mixed(&ColumnType::Float64, &["1", "2.5", "NULL"]));
        assert!(!mixed(&ColumnType::Int64, &["1", "-2", "1 + 1"]));
    }

    #[test]
    fn text_says_the_same() {
        let column = |column_type| ColumnDef {
            id: ColumnId(1),
            name: "c".into(),
            column_type,
            nullable: true,
            default: None,
            initial: None,
        };
        let text =
            |column_type, value: &str| as_text(&column(column_type), &expr(value)).unwrap().to_string();
        assert_eq!(text(ColumnType::Float64, "-0.1"), "'-0.1'");
        assert_eq!(text(ColumnType::Int32, "2.5"), "'2'");
        assert_eq!(text(ColumnType::Int64, "9007199254740993"), "'9007199254740993'");
        assert_eq!(text(ColumnType::Date, "now()"), "CAST(CAST(now() AS DATE) AS TEXT)");
        assert_eq!(text(ColumnType::Int32, "1 + 1"), "CAST(1 + 1 AS TEXT)");
        assert!(as_text(&column(ColumnType::Json), &expr("1 + 1")).is_none());
    }
}
