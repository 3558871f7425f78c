//! Expressions that sort rows as a distance does, or the other way round.
//!
//! Owns: `1 - (v <=> q)`, `(v <#> q) * -1` and what else adds constants to a distance or multiplies it by them, as similarities are
//! written. Each of these steps keeps or turns the order of any two rows, also where it rounds: what was different may become
//! equal, never the other way round, so the rows with the first distances are rows that a sort by the expression may have first.

use std::collections::HashSet;

use cairn_udfs::vector::Distance;
use datafusion::arrow::datatypes::DataType;
use datafusion::common::tree_node::{TreeNode, TreeNodeRecursion};
use datafusion::common::{Column, Result, ScalarValue};
use datafusion::logical_expr::expr::ScalarFunction;
use datafusion::logical_expr::{BinaryExpr, Expr, Operator};

/// The distance that gives a sort its order.
#[derive(Debug)]
pub(super) struct ByDistance<'a> {
    pub(super) function: &'a Distance,
    /// What it is between; one of them is a column.
    pub(super) operands: [&'a Expr; 2],
    /// The direction in which a sort by the distance has this order.
    pub(super) ascending: bool,
}

impl<'a> ByDistance<'a> {
    /// The columns among its operands.
    pub(super) fn columns(&self) -> impl Iterator<Item = &'a Column> {
        self.operands.into_iter().filter_map(|operand| match operand {
            Expr::Column(column) => Some(column),
            _ => None,
        })
    }
}

/// The distance in whose order a sort by `by` has the rows; None: there is none, or it may be another order.
pub(super) fn by_distance(by: &Expr, ascending: bool) -> Option<ByDistance<'_>> {
    let mut ascending = ascending;
    let mut by = by;
    loop {
        let (inner, turned) = match by {
            Expr::Alias(alias) => (alias.expr.as_ref(), false),
            Expr::Cast(cast) if is_float(cast.field.data_type()) => (cast.expr.as_ref(), false),
            Expr::Negative(inner) => (inner.as_ref(), true),
            Expr::BinaryExpr(binary) => step(binary)?,
            Expr::ScalarFunction(call) => {
                let (function, [a, b]) = distance(call)?;
                let has_column = matches!(a, Expr::Column(_)) || matches!(b, Expr::Column(_));
                return has_column.then_some(ByDistance { function, operands: [a, b], ascending });
            }
            _ => return None,
        };
        by = inner;
        ascending ^= turned;
    }
}

/// The columns of every distance in `by`.
pub(super) fn columns_of_distances(by: &Expr) -> Result<HashSet<&Column>> {
    let mut columns = HashSet::new();
    by.apply(|part| {
        if let Expr::ScalarFunction(call) = part
            && distance(call).is_some()
        {
            part.add_column_refs(&mut columns);
        }
        Ok(TreeNodeRecursion::Continue)
    })?;
    Ok(columns)
}

fn distance(call: &ScalarFunction) -> Option<(&Distance, [&Expr; 2])> {
    let function = call.func.inner().downcast_ref::<Distance>()?;
    match call.args.as_slice() {
        [a, b] => Some((function, [a, b])),
        _ => None,
    }
}

/// What a sum, a difference, a product or a quotient has the order of, and whether it is turned.
fn step(binary: &BinaryExpr) -> Option<(&Expr, bool)> {
    let (left, right) = (binary.left.as_ref(), binary.right.as_ref());
    match (binary.op, constant(left), constant(right)) {
        (Operator::Plus | Operator::Minus, None, Some(_)) => Some((left, false)),
        (Operator::Plus, Some(_), None) => Some((right, false)),
        (Operator::Minus, Some(_), None) => Some((right, true)),
        // Times zero, every row is as good as any other.
        (Operator::Multiply | Operator::Divide, None, Some(by)) if by != 0.0 => Some((left, by < 0.0)),
        (Operator::Multiply, Some(by), None) if by != 0.0 => Some((right, by < 0.0)),
        _ => None,
    }
}

/// A finite number.
fn constant(expr: &Expr) -> Option<f64> {
    let Expr::Literal(value, _) = expr else { return None };
    if !is_float(&value.data_type()) {
        return None;
    }
    match value.cast_to(&DataType::Float64) {
        Ok(ScalarValue::Float64(number)) => number.filter(|number| number.is_finite()),
        _ => None,
    }
}

/// Whether numbers of a type round, and fail at no size.
fn is_float(data_type: &DataType) -> bool {
    matches!(data_type, DataType::Float32 | DataType::Float64)
}
