//! `a IS [NOT] DISTINCT FROM b AND c`, read as PostgreSQL reads it.
//!
//! The parser takes everything behind FROM as the right side, `b AND c` here, which is another condition. Parentheses are
//! nodes of their own in the tree, so an AND or OR that stands bare where only an operand can be was not written there.

use std::ops::ControlFlow;

use datafusion::sql::sqlparser::ast::{self, BinaryOperator, Expr, UnaryOperator, Value, VisitMut};

use super::at_zone::called;
use super::cast::sized;
use super::known::known;
use super::walk;

/// Puts every AND and OR above the comparison that swallowed it; casts, AT TIME ZONE and calls are settled on the same way.
pub(super) fn settle(statement: &mut ast::Statement) {
    if !holds_only_values(statement) {
        settle_within(statement);
    }
}

/// The same for whatever holds expressions, or is one.
pub(super) fn settle_within(tree: &mut impl VisitMut) {
    // Inner expressions come first, so each step finds at most one swallowed chain.
    let _ = walk::expressions_mut(tree, |expr| {
        let whole = std::mem::replace(expr, Expr::value(Value::Null));
        *expr = known(called(sized(lifted(whole))));
        ControlFlow::<()>::Continue(())
    });
}

/// `INSERT … VALUES` of literals, the statement that is run most: nothing to look for.
fn holds_only_values(statement: &ast::Statement) -> bool {
    let ast::Statement::Insert(insert) = statement else { return false };
    let plain = insert.on.is_none() && insert.returning.is_none();
    match insert
        .source
        .as_deref()
        .filter(|source| plain && source.with.is_none())
        .map(|source| source.body.as_ref())
    {
        Some(ast::SetExpr::Values(values)) => {
            values.rows.iter().all(|row| row.content.iter().all(|value| matches!(value, Expr::Value(_))))
        }
        _ => false,
    }
}

fn lifted(expr: Expr) -> Expr {
    match expr {
        Expr::IsDistinctFrom(left, right) if is_condition(&right) => {
            above(*right, is_condition, |operand| Expr::IsDistinctFrom(left, Box::new(operand)))
        }
        Expr::IsNotDistinctFrom(left, right) if is_condition(&right) => {
            above(*right, is_condition, |operand| Expr::IsNotDistinctFrom(left, Box::new(operand)))
        }
        Expr::UnaryOp { op: UnaryOperator::Not, expr } if is_condition(&expr) => {
            above(*expr, is_condition, |operand| Expr::UnaryOp {
                op: UnaryOperator::Not,
                expr: Box::new(operand),
            })
        }
        Expr::BinaryOp { left, op: BinaryOperator::And, right } if is_or(&right) => {
            above(*right, is_or, |operand| Expr::BinaryOp {
                left,
                op: BinaryOperator::And,
                right: Box::new(operand),
            })
        }
        other => other,
    }
}

fn is_condition(expr: &Expr) -> bool {
    matches!(expr, Expr::BinaryOp { op: BinaryOperator::And | BinaryOperator::Or, .. })
}

fn is_or(expr: &Expr) -> bool {
    matches!(expr, Expr::BinaryOp { op: BinaryOperator::Or, .. })
}

/// `chain` with its first operand, below the links that `is_link` names, in what `around` makes of it.
fn above(chain: Expr, is_link: fn(&Expr) -> bool, around: impl FnOnce(Expr) -> Expr) -> Expr {
    match chain {
        Expr::BinaryOp { left, op, right } if is_link(&left) => {
            Expr::BinaryOp { left: Box::new(above(*left, is_link, around)), op, right }
        }
        Expr::BinaryOp { left, op, right } => Expr::BinaryOp { left: Box::new(around(*left)), op, right },
        other => other,
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use datafusion::sql::sqlparser::parser::Parser;

    use super::*;
    use crate::dialect::CairnDialect;
    use crate::statement::parse_expression;

    #[test]
    fn conditions_stand_above_the_comparison() {
        for (written, meant) in [
            ("a IS DISTINCT FROM b AND c", "(a IS DISTINCT FROM b) AND c"),
            ("a IS NOT DISTINCT FROM b OR c AND d", "(a IS NOT DISTINCT FROM b) OR (c AND d)"),
            ("x AND a IS DISTINCT FROM b OR c", "(x AND (a IS DISTINCT FROM b)) OR c"),
            ("x OR a IS DISTINCT FROM b AND c OR d", "(x OR ((a IS DISTINCT FROM b) AND c)) OR d"),
            ("NOT a IS DISTINCT FROM b AND c", "(NOT (a IS DISTINCT FROM b)) AND c"),
            (
                "a IS DISTINCT FROM b AND c IS DISTINCT FROM d AND e",
                "(a IS DISTINCT FROM b) AND ((c IS DISTINCT FROM d) AND e)",
            ),
            ("a IS DISTINCT FROM (b AND c)", "a IS DISTINCT FROM (b AND c)"),
            ("a IS DISTINCT FROM b + 1", "a IS DISTINCT FROM b + 1"),
        ] {
            let truth = |text: &str| {
                let sql = format!("SELECT {text}");
                let mut statement = Parser::parse_sql(&CairnDialect, &sql).unwrap().remove(0);
                settle(&mut statement);
                statement
            };
            // Equal as conditions for every value of the names.
            for bits in 0..64_u32 {
                let value = |name: &str| bits >> "abcdex".find(name).unwrap() & 1 == 1;
                assert_eq!(evaluate(&truth(written), &value), evaluate(&truth(meant), &value), "{written}");
            }
        }
    }

    #[test]
    fn an_expression_is_read_as_in_a_statement() {
        let sql = "a IS DISTINCT FROM b AND c";
        let parsed = parse_expression(sql).unwrap();
        assert!(matches!(parsed, Expr::BinaryOp { op: BinaryOperator::And, .. }), "{parsed:?}");
    }

    fn evaluate(statement: &ast::Statement, value: &dyn Fn(&str) -> bool) -> bool {
        let ast::Statement::Query(query) = statement else { panic!("no query") };
        let ast::SetExpr::Select(select) = query.body.as_ref() else { panic!("no select") };
        let ast::SelectItem::UnnamedExpr(expr) = &select.projection[0] else { panic!("no expression") };
        truth_of(expr, value)
    }

    fn truth_of(expr: &Expr, value: &dyn Fn(&str) -> bool) -> bool {
        let of = |expr: &Expr| truth_of(expr, value);
        match expr {
            Expr::Identifier(name) => value(&name.value),
            Expr::Nested(inner) => of(inner),
            Expr::IsDistinctFrom(a, b) => of(a) != of(b),
            Expr::IsNotDistinctFrom(a, b) => of(a) == of(b),
            Expr::UnaryOp { expr, .. } => !of(expr),
            Expr::BinaryOp { left, op: BinaryOperator::And, right } => of(left) && of(right),
            Expr::BinaryOp { left, op: BinaryOperator::Or, right } => of(left) || of(right),
            Expr::BinaryOp { left, .. } => of(left),
            other => panic!("{other}"),
        }
    }
}
