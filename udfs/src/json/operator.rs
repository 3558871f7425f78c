//! The operators `->` and `->>`.
//!
//! Owns: which function they are. Does not own: precedence (the engine's dialect).

use std::sync::Arc;

use datafusion::common::{DFSchema, Result};
use datafusion::logical_expr::expr::ScalarFunction;
use datafusion::logical_expr::planner::{ExprPlanner, PlannerResult, RawBinaryExpr};
use datafusion::logical_expr::{Expr, ScalarUDF};
use datafusion::sql::sqlparser::ast::BinaryOperator;

/// Plans the operators as calls.
#[derive(Debug)]
pub(crate) struct JsonOperators {
    /// `json_extract`.
    pub(crate) of_json: Arc<ScalarUDF>,
    /// `json_extract_string`.
    pub(crate) of_text: Arc<ScalarUDF>,
}

impl ExprPlanner for JsonOperators {
    fn plan_binary_op(
        &self,
        expr: RawBinaryExpr,
        _schema: &DFSchema,
    ) -> Result<PlannerResult<RawBinaryExpr>> {
        let function = match &expr.op {
            BinaryOperator::Arrow => &self.of_json,
            BinaryOperator::LongArrow => &self.of_text,
            _ => return Ok(PlannerResult::Original(expr)),
        };
        let call = ScalarFunction::new_udf(Arc::clone(function), vec![expr.left, expr.right]);
        Ok(PlannerResult::Planned(Expr::ScalarFunction(call)))
    }
}
