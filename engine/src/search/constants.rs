//! Constant expressions as arguments of `vector_search`: `k => 2 + 3`, `filter => 'tenant = ' || $1`.
//!
//! Owns: computing each argument that is no plain value, once, before the call is planned, within the limits that functions have
//! anywhere. What names columns or is a subquery stays what it is: `call` and `relation` have words for it. So do the names of
//! table and column, which others look for in the statement.

use std::ops::ControlFlow;

use datafusion::common::DFSchema;
use datafusion::execution::context::SessionState;
use datafusion::logical_expr::Expr;
use datafusion::sql::sqlparser::ast::{
    self, Expr as SqlExpr, ExprWithAlias, FunctionArg, FunctionArgExpr, TableFactor, UnaryOperator, Value,
    VisitorMut,
};

use super::call::{arguments_mut, call_of};
use crate::dml;
use crate::error::{Error, Result};
use crate::statement::walk;

/// Whole numbers of so many digits are all of type BIGINT.
const BIGINT_DIGITS: usize = 18;

/// Puts values in the places of constant expressions, in every call of a statement whose parameters are bound.
///
/// # Errors
/// What is wrong with an expression.
pub(super) fn compute(state: &SessionState, statement: &mut ast::Statement) -> Result<()> {
    match walk::visit_mut(statement, &mut Calls(state)) {
        ControlFlow::Break(error) => Err(error),
        ControlFlow::Continue(()) => Ok(()),
    }
}

struct Calls<'a>(&'a SessionState);

impl VisitorMut for Calls<'_> {
    type Break = Error;

    fn pre_visit_table_factor(&mut self, factor: &mut TableFactor) -> ControlFlow<Error> {
        if call_of(factor).is_none() {
            return ControlFlow::Continue(());
        }
        let mut positional = 0;
        for arg in arguments_mut(factor) {
            let expr = match arg {
                FunctionArg::Named { arg: FunctionArgExpr::Expr(expr), .. } => expr,
                FunctionArg::Unnamed(FunctionArgExpr::Expr(expr)) => {
                    positional += 1;
                    if positional <= 2 {
                        continue;
                    }
                    expr
                }
                _ => continue,
            };
            match self.value(expr) {
                Ok(Some(value)) => *expr = value,
                Ok(None) => {}
                Err(error) => return ControlFlow::Break(error),
            }
        }
        ControlFlow::Continue(())
    }
}

impl Calls<'_> {
    /// The value of an expression; None: it is one already, or is none.
    fn value(&self, expr: &SqlExpr) -> Result<Option<SqlExpr>> {
        if is_value(expr) || walk::expressions(expr, depends).is_break() {
            return Ok(None);
        }
        let (expr, schema) = (ExprWithAlias { expr: expr.clone(), alias: None }, DFSchema::empty());
        let expr = self.0.create_logical_expr_from_sql_expr(expr, &schema)?;
        match dml::simplified(self.0, expr, &schema)? {
            // What cannot be written is no argument either.
            Expr::Literal(value, _) => Ok(dml::literal(&value).ok()),
            _ => Ok(None),
        }
    }
}

/// A value as it is written, or as that of a parameter is.
fn is_value(expr: &SqlExpr) -> bool {
    match expr {
        SqlExpr::Value(_) => true,
        SqlExpr::Cast { expr, data_type, .. } => {
            let is_number = matches!(data_type, ast::DataType::BigInt(_) | ast::DataType::Custom(..));
            is_number && matches!(expr.as_ref(), SqlExpr::Value(_))
        }
        // Numbers of one type need nothing done to them.
        SqlExpr::Array(array) => {
            let whole = array.elem.first().and_then(is_whole);
            whole.is_some() && array.elem.iter().all(|element| is_whole(element) == whole)
        }
        _ => false,
    }
}

/// Whether a plain number is a BIGINT, not a DOUBLE; None: it is neither for sure.
fn is_whole(element: &SqlExpr) -> Option<bool> {
    match element {
        SqlExpr::UnaryOp { op: UnaryOperator::Minus, expr } => is_whole(expr),
        SqlExpr::Value(value) => match &value.value {
            Value::Number(number, _) => {
                // That of a parameter has its sign in it.
                let digits = number.strip_prefix('-').unwrap_or(number);
                match digits.bytes().all(|b| b.is_ascii_digit()) {
                    true => (digits.len() <= BIGINT_DIGITS).then_some(true),
                    false => Some(false),
                }
            }
            _ => None,
        },
        _ => None,
    }
}

/// Breaks at what has no value before the statement runs.
fn depends(expr: &SqlExpr) -> ControlFlow<()> {
    let depends = match expr {
        SqlExpr::Identifier(_)
        | SqlExpr::CompoundIdentifier(_)
        | SqlExpr::Subquery(_)
        | SqlExpr::InSubquery { .. }
        | SqlExpr::Exists { .. } => true,
        SqlExpr::Value(value) => matches!(value.value, Value::Placeholder(_)),
        _ => false,
    };
    if depends { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
}
