//! `length` of a list: how many elements it has.
//!
//! DataFusion's function takes a text and makes one of a list, so `length([1, 2])` was 6. Owns: that rewrite, before types are settled. Does not
//! own: the two functions (DataFusion).

use std::sync::Arc;

use datafusion::arrow::datatypes::DataType;
use datafusion::common::config::ConfigOptions;
use datafusion::common::tree_node::Transformed;
use datafusion::common::{DFSchema, Result};
use datafusion::logical_expr::expr::ScalarFunction;
use datafusion::logical_expr::expr_rewriter::FunctionRewrite;
use datafusion::logical_expr::{Cast, Expr, ExprSchemable, ScalarUDF};

/// Puts `array_length` in the place of `length` where the argument is a list. The type stays.
#[derive(Debug)]
pub(crate) struct ListLengths {
    /// `array_length`.
    pub(crate) of_list: Arc<ScalarUDF>,
}

impl FunctionRewrite for ListLengths {
    fn name(&self) -> &str {
        "list_lengths"
    }

    fn rewrite(&self, expr: Expr, schema: &DFSchema, _config: &ConfigOptions) -> Result<Transformed<Expr>> {
        let call = match &expr {
            Expr::ScalarFunction(call) if call.func.name() == "character_length" => call,
            _ => return Ok(Transformed::no(expr)),
        };
        let [list] = call.args.as_slice() else { return Ok(Transformed::no(expr)) };
        let is_list = matches!(
            list.get_type(schema),
            Ok(DataType::List(_) | DataType::LargeList(_) | DataType::FixedSizeList(..))
        );
        if !is_list {
            return Ok(Transformed::no(expr));
        }
        let to = expr.get_type(schema)?;
        let count = ScalarFunction::new_udf(Arc::clone(&self.of_list), vec![list.clone()]);
        Ok(Transformed::yes(Expr::Cast(Cast::new(Box::new(Expr::ScalarFunction(count)), to))))
    }
}
