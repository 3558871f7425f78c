//! Operators of PostgreSQL that are functions here: `&&` of lists, and `^@` of texts.
//!
//! Owns: which function they are. Does not own: those of JSON (`json`) and vectors (`vector`), precedence (the engine's dialect).

use std::sync::Arc;

use datafusion::common::{DFSchema, Result};
use datafusion::logical_expr::expr::ScalarFunction;
use datafusion::logical_expr::planner::{ExprPlanner, PlannerResult, RawBinaryExpr};
use datafusion::logical_expr::{Expr, ScalarUDF};
use datafusion::sql::sqlparser::ast::BinaryOperator;

/// Plans the operators as calls.
#[derive(Debug)]
pub(crate) struct Operators {
    /// `array_has_any`.
    pub(crate) overlap: Arc<ScalarUDF>,
    /// `starts_with`.
    pub(crate) prefix: Arc<ScalarUDF>,
}

impl ExprPlanner for Operators {
    fn plan_binary_op(
        &self,
        expr: RawBinaryExpr,
        _schema: &DFSchema,
    ) -> Result<PlannerResult<RawBinaryExpr>> {
        let function = match &expr.op {
            BinaryOperator::PGOverlap => &self.overlap,
            BinaryOperator::PGStartsWith => &self.prefix,
            _ => return Ok(PlannerResult::Original(expr)),
        };
        let call = ScalarFunction::new_udf(Arc::clone(function), vec![expr.left, expr.right]);
        Ok(PlannerResult::Planned(Expr::ScalarFunction(call)))
    }
}
