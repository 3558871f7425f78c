//! The operators `<->`, `<=>`, `<#>`, `<+>`, and `=` of a vector and text.
//!
//! Owns: which operator is which distance. Does not own: precedence (the engine's dialect). `<=>` between other values
//! stays what the planner makes of it, IS NOT DISTINCT FROM.

use std::sync::Arc;

use cairn_vector::Metric;
use datafusion::arrow::datatypes::Field;
use datafusion::common::{DFSchema, Result};
use datafusion::logical_expr::expr::{Placeholder, ScalarFunction};
use datafusion::logical_expr::planner::{ExprPlanner, PlannerResult, RawBinaryExpr};
use datafusion::logical_expr::{Cast, Expr, ExprSchemable, ScalarUDF};
use datafusion::sql::sqlparser::ast::BinaryOperator;

use super::distance::Distance;
use super::{dimensions, vector_type};

/// Plans the operators as [`Distance`].
#[derive(Debug)]
pub(super) struct VectorOperators {
    of: [(Metric, Arc<ScalarUDF>); 4],
}

impl Default for VectorOperators {
    fn default() -> Self {
        Self { of: Metric::ALL.map(|metric| (metric, Arc::new(Distance::operator(metric)))) }
    }
}

impl VectorOperators {
    fn call(&self, metric: Metric, left: Expr, right: Expr) -> Option<Expr> {
        let (_, function) = self.of.iter().find(|(of, _)| *of == metric)?;
        Some(Expr::ScalarFunction(ScalarFunction::new_udf(Arc::clone(function), vec![left, right])))
    }
}

impl ExprPlanner for VectorOperators {
    fn plan_binary_op(&self, expr: RawBinaryExpr, schema: &DFSchema) -> Result<PlannerResult<RawBinaryExpr>> {
        let dim = |side: &Expr| side.get_type(schema).ok().as_ref().and_then(dimensions);
        let metric = match &expr.op {
            BinaryOperator::Custom(op) if op == "<->" => Metric::L2,
            BinaryOperator::Spaceship if dim(&expr.left).or_else(|| dim(&expr.right)).is_some() => {
                Metric::Cosine
            }
            BinaryOperator::Custom(op) if op == "<#>" => Metric::InnerProduct,
            BinaryOperator::Custom(op) if op == "<+>" => Metric::L1,
            BinaryOperator::Eq | BinaryOperator::NotEq => {
                return Ok(PlannerResult::Original(compared(expr, dim)));
            }
            _ => return Ok(PlannerResult::Original(expr)),
        };
        let (of_left, of_right) = (dim(&expr.left), dim(&expr.right));
        let (left, right) = (typed(expr.left, of_right), typed(expr.right, of_left));
        match self.call(metric, left.clone(), right.clone()) {
            Some(call) => Ok(PlannerResult::Planned(call)),
            None => Ok(PlannerResult::Original(RawBinaryExpr { op: expr.op, left, right })),
        }
    }
}

/// A parameter across from a vector is one of its dimension, to those who ask; any form of one may be bound.
fn typed(side: Expr, across: Option<usize>) -> Expr {
    match (side, across) {
        (Expr::Placeholder(Placeholder { id, field: None }), Some(dim)) => {
            let field = Arc::new(Field::new("", vector_type(dim), true));
            Expr::Placeholder(Placeholder { id, field: Some(field) })
        }
        (side, _) => side,
    }
}

/// Text, or a parameter, as a vector of `dim` dimensions; anything else as it is.
pub(super) fn as_vector(side: Expr, dim: usize) -> Expr {
    let is_read = match &side {
        Expr::Literal(value, _) => value.try_as_str().flatten().is_some(),
        Expr::Placeholder(_) => true,
        _ => false,
    };
    if is_read { Expr::Cast(Cast::new(Box::new(side), vector_type(dim))) } else { side }
}

/// Text, or a parameter, that is compared with a vector is one.
fn compared(expr: RawBinaryExpr, dim: impl Fn(&Expr) -> Option<usize>) -> RawBinaryExpr {
    let RawBinaryExpr { op, left, right } = expr;
    let of_text = |side: Expr, across: Option<usize>| match across {
        Some(dim) => as_vector(side, dim),
        None => side,
    };
    let (of_left, of_right) = (dim(&left), dim(&right));
    RawBinaryExpr { op, left: of_text(left, of_right), right: of_text(right, of_left) }
}
