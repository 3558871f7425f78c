//! Numbers with a point that are compared with a DECIMAL column: exact decimals instead of the doubles the planner reads.
//!
//! `price = 70000.07` must find 70000.07; the double beside it, widened, is another number. Only columns of the
//! statement's tables count, and only names that are no REAL or DOUBLE column there too: a double compared with a decimal
//! would be cast to one, which NaN and infinity do not survive.

use std::collections::HashSet;
use std::ops::ControlFlow;

use cairn_storage::Snapshot;
use cairn_storage::schema::ColumnType;
use datafusion::sql::sqlparser::ast::{
    self, BinaryOperator, CastKind, DataType, ExactNumberInfo, Expr, Value, visit_expressions_mut,
    visit_relations,
};

use super::place::schema_and_name;
use crate::dml::ident_text;

/// Digits a DECIMAL holds.
const DIGITS_MAX: usize = 38;

/// Makes the numbers exact that a statement compares with DECIMAL columns.
pub(crate) fn compare_exactly(statement: &mut ast::Statement, snapshot: &Snapshot, search_path: &str) {
    let decimals = decimal_columns(statement, snapshot, search_path);
    if decimals.is_empty() {
        return;
    }
    let is_decimal = |expr: &Expr| match expr {
        Expr::Identifier(name) => decimals.contains(&ident_text(name)),
        Expr::CompoundIdentifier(parts) => parts.last().is_some_and(|n| decimals.contains(&ident_text(n))),
        _ => false,
    };
    let _ = visit_expressions_mut(statement, |expr| {
        match expr {
            Expr::BinaryOp { left, op, right } if is_comparison(op) => {
                if is_decimal(left) {
                    exact(right);
                } else if is_decimal(right) {
                    exact(left);
                }
            }
            Expr::Between { expr, low, high, .. } if is_decimal(expr) => {
                exact(low);
                exact(high);
            }
            Expr::InList { expr, list, .. } if is_decimal(expr) => list.iter_mut().for_each(exact),
            _ => {}
        }
        ControlFlow::<()>::Continue(())
    });
}

/// Names that are DECIMAL columns of the statement's tables and never floating ones.
fn decimal_columns(statement: &ast::Statement, snapshot: &Snapshot, search_path: &str) -> HashSet<String> {
    let (mut decimals, mut floats) = (HashSet::new(), HashSet::new());
    let _ = visit_relations(statement, |name| {
        if let Ok((schema, table)) = schema_and_name(name, search_path)
            && let Some(def) = snapshot.catalog().table(&schema, &table)
        {
            for column in &def.columns {
                match column.column_type {
                    ColumnType::Decimal { .. } => decimals.insert(column.name.clone()),
                    ColumnType::Float32 | ColumnType::Float64 => floats.insert(column.name.clone()),
                    _ => false,
                };
            }
        }
        ControlFlow::<()>::Continue(())
    });
    decimals.retain(|name| !floats.contains(name));
    decimals
}

fn is_comparison(op: &BinaryOperator) -> bool {
    use BinaryOperator::{Eq, Gt, GtEq, Lt, LtEq, NotEq};
    matches!(op, Eq | NotEq | Lt | LtEq | Gt | GtEq)
}

fn exact(expr: &mut Expr) {
    let digits = match expr {
        Expr::UnaryOp { expr, .. } => return exact(expr),
        Expr::Nested(expr) => return exact(expr),
        Expr::Value(value) => match &value.value {
            Value::Number(digits, false) => digits.clone(),
            _ => return,
        },
        _ => return,
    };
    let Some((whole, fraction)) = digits.split_once('.') else { return };
    let plain = |part: &str| part.bytes().all(|b| b.is_ascii_digit());
    let count = whole.trim_start_matches('0').len() + fraction.len();
    if !plain(whole) || !plain(fraction) || fraction.is_empty() || count > DIGITS_MAX {
        return;
    }
    let info = ExactNumberInfo::PrecisionAndScale(count.max(1) as u64, fraction.len() as i64);
    *expr = Expr::Cast {
        kind: CastKind::Cast,
        expr: Box::new(Expr::value(Value::SingleQuotedString(digits))),
        data_type: DataType::Decimal(info),
        array: false,
        format: None,
    };
}
