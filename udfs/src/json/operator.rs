//! The operators `->` and `->>`, and `#>` and `#>>` with a path as `'{a,0}'`.
//!
//! Owns: which function they are. Does not own: precedence (the engine's dialect).

use std::sync::Arc;

use datafusion::common::{DFSchema, Result, ScalarValue};
use datafusion::logical_expr::expr::ScalarFunction;
use datafusion::logical_expr::planner::{ExprPlanner, PlannerResult, RawBinaryExpr};
use datafusion::logical_expr::{Expr, ScalarUDF};
use datafusion::sql::sqlparser::ast::BinaryOperator;

use super::path::pointer;
use crate::function::invalid;

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
        let (function, is_listed) = match &expr.op {
            BinaryOperator::Arrow => (&self.of_json, false),
            BinaryOperator::LongArrow => (&self.of_text, false),
            BinaryOperator::HashArrow => (&self.of_json, true),
            BinaryOperator::HashLongArrow => (&self.of_text, true),
            _ => return Ok(PlannerResult::Original(expr)),
        };
        let path = if is_listed { written_path(&expr.right)? } else { expr.right };
        let call = ScalarFunction::new_udf(Arc::clone(function), vec![expr.left, path]);
        Ok(PlannerResult::Planned(Expr::ScalarFunction(call)))
    }
}

/// A path that is written down as an array of texts, as `json_extract` takes it.
fn written_path(path: &Expr) -> Result<Expr> {
    let written = match path {
        Expr::Literal(value, _) => value.try_as_str().flatten().and_then(pointer),
        _ => None,
    };
    match written {
        Some(pointer) => Ok(Expr::Literal(ScalarValue::Utf8View(Some(pointer)), None)),
        None => Err(invalid("22P02", "#> and #>> take a path that is written as '{key,0,\"a key\"}'")),
    }
}
