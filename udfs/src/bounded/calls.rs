//! Bounds on calls that no name was looked up for.
//!
//! Owns: the analyzer rule that puts bounded functions in place of those that operators, `[…]` and other syntax are planned to.
//! Does not own: functions called by name, which the registry has bounded.

use std::sync::Arc;

use datafusion::arrow::datatypes::DataType;
use datafusion::common::config::ConfigOptions;
use datafusion::common::tree_node::{Transformed, TreeNode};
use datafusion::common::{DFSchema, Result};
use datafusion::logical_expr::expr::ScalarFunction;
use datafusion::logical_expr::{BinaryExpr, Expr, ExprSchemable, LogicalPlan, Operator, ScalarUDF};
use datafusion::optimizer::AnalyzerRule;

use super::function::{bounded, concatenation, is_concatenation};
use super::limit;
use crate::rewrite;

/// Replaces calls by bounded ones, and chains of `||` by one call. Runs after type coercion: both sides have one type.
#[derive(Debug)]
pub struct BoundedCalls {
    limit: u64,
    concatenation: Arc<ScalarUDF>,
}

impl BoundedCalls {
    /// With the bounds of [`register`](crate::register) with that `memory_limit`.
    #[must_use]
    pub fn new(memory_limit: usize) -> Self {
        let limit = limit(memory_limit);
        Self { limit, concatenation: concatenation(limit) }
    }

    /// `expr`, its types settled, with such calls replaced.
    ///
    /// # Errors
    /// None today.
    pub fn rewrite(&self, expr: Expr, schema: &DFSchema) -> Result<Transformed<Expr>> {
        expr.transform_up(|expr| Ok(self.replaced(expr, schema)))
    }

    fn replaced(&self, expr: Expr, schema: &DFSchema) -> Transformed<Expr> {
        match expr {
            Expr::BinaryExpr(BinaryExpr { left, op: Operator::StringConcat, right })
                if is_joined(&left, &right, schema) =>
            {
                let mut parts = match *left {
                    Expr::ScalarFunction(call) if is_concatenation(&call.func) => call.args,
                    left => vec![left],
                };
                parts.push(*right);
                let call = ScalarFunction::new_udf(Arc::clone(&self.concatenation), parts);
                Transformed::yes(Expr::ScalarFunction(call))
            }
            Expr::ScalarFunction(call) => {
                let func = bounded(&call.func, self.limit);
                let is_other = !Arc::ptr_eq(&func, &call.func);
                let call = ScalarFunction { func, args: call.args };
                Transformed::new_transformed(Expr::ScalarFunction(call), is_other)
            }
            other => Transformed::no(other),
        }
    }
}

impl AnalyzerRule for BoundedCalls {
    fn analyze(&self, plan: LogicalPlan, _config: &ConfigOptions) -> Result<LogicalPlan> {
        rewrite::expressions(plan, |expr, schema| self.rewrite(expr, schema))
    }

    fn name(&self) -> &'static str {
        "bounded_calls"
    }
}

/// Whether the function for `||` takes both. Of the left side of a chain, which is one call by now, no type is asked for: it has that
/// of its right side.
fn is_joined(left: &Expr, right: &Expr, schema: &DFSchema) -> bool {
    let Ok(data_type) = right.get_type(schema) else { return false };
    let is_text = matches!(
        data_type,
        DataType::Utf8
            | DataType::LargeUtf8
            | DataType::Utf8View
            | DataType::Binary
            | DataType::LargeBinary
            | DataType::BinaryView
    );
    let is_chain = matches!(left, Expr::ScalarFunction(call) if is_concatenation(&call.func));
    is_text && (is_chain || left.get_type(schema).is_ok_and(|left| left == data_type))
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use datafusion::logical_expr::{binary_expr, lit};

    use super::*;

    #[test]
    fn a_chain_becomes_one_call_with_its_name() {
        let join = |left: Expr, right: Expr| binary_expr(left, Operator::StringConcat, right);
        let chain = join(join(lit("a"), lit("b")), join(lit("c"), lit("d")));
        let name = chain.schema_name().to_string();
        let call = BoundedCalls::new(0).rewrite(chain, &DFSchema::empty()).unwrap().data;
        assert_eq!(call.schema_name().to_string(), name);
        let Expr::ScalarFunction(call) = call else { panic!("no call") };
        assert_eq!(call.args.len(), 3);
    }

    #[test]
    fn what_is_no_text_stays() {
        let numbers = binary_expr(lit(1), Operator::StringConcat, lit(2));
        assert!(!BoundedCalls::new(0).rewrite(numbers, &DFSchema::empty()).unwrap().transformed);
    }
}
