//! `embedding IN ('[1,2]', …)`: text in a list across from a vector is one.
//!
//! Owns: the rewrite of such lists, before types are settled. Does not own: what is read as a vector (`operator`).

use datafusion::common::config::ConfigOptions;
use datafusion::common::tree_node::Transformed;
use datafusion::common::{DFSchema, Result};
use datafusion::logical_expr::expr::InList;
use datafusion::logical_expr::expr_rewriter::FunctionRewrite;
use datafusion::logical_expr::{Expr, ExprSchemable};

use super::dimensions;
use super::operator::as_vector;

/// See the module. Planners of expressions are not asked about IN.
#[derive(Debug)]
pub(super) struct VectorLists;

impl FunctionRewrite for VectorLists {
    fn name(&self) -> &str {
        "vector_lists"
    }

    fn rewrite(&self, expr: Expr, schema: &DFSchema, _config: &ConfigOptions) -> Result<Transformed<Expr>> {
        let Some(dim) = dimensions_of_list(&expr, schema) else { return Ok(Transformed::no(expr)) };
        Ok(match expr {
            Expr::InList(InList { expr, list, negated }) => {
                let list = list.into_iter().map(|item| as_vector(item, dim)).collect();
                Transformed::yes(Expr::InList(InList::new(expr, list, negated)))
            }
            other => Transformed::no(other),
        })
    }
}

/// Dimensions of the vector that is looked for in a list; None: it is none, or no list.
fn dimensions_of_list(expr: &Expr, schema: &DFSchema) -> Option<usize> {
    let Expr::InList(list) = expr else { return None };
    dimensions(&list.expr.get_type(schema).ok()?)
}
