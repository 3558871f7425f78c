//! Conditions on the rows that are searched for come before the searches.

use std::sync::Arc;

use datafusion::common::Result;
use datafusion::common::tree_node::{Transformed, TreeNode};
use datafusion::logical_expr::utils::{conjunction, split_conjunction};
use datafusion::logical_expr::{Expr, Extension, Filter, LogicalPlan};
use datafusion::optimizer::{OptimizerConfig, OptimizerRule};

use super::EachNode;

/// Moves the conjuncts of a filter over an [`EachNode`] that are about its input alone below it.
#[derive(Debug)]
pub(in crate::search) struct InputsFirst;

impl OptimizerRule for InputsFirst {
    fn name(&self) -> &'static str {
        "inputs_first"
    }

    fn rewrite(&self, plan: LogicalPlan, _config: &dyn OptimizerConfig) -> Result<Transformed<LogicalPlan>> {
        plan.transform_down(|plan| {
            let LogicalPlan::Filter(filter) = &plan else { return Ok(Transformed::no(plan)) };
            let LogicalPlan::Extension(Extension { node }) = filter.input.as_ref() else {
                return Ok(Transformed::no(plan));
            };
            let Some(each) = node.as_any().downcast_ref::<EachNode>() else {
                return Ok(Transformed::no(plan));
            };
            let (below, above): (Vec<&Expr>, Vec<&Expr>) =
                split_conjunction(&filter.predicate).into_iter().partition(|e| each.is_of_input(e));
            let Some(below) = conjunction(below.into_iter().cloned()) else {
                return Ok(Transformed::no(plan));
            };
            let moved = each.filtered(below)?;
            Ok(Transformed::yes(match conjunction(above.into_iter().cloned()) {
                Some(above) => LogicalPlan::Filter(Filter::try_new(above, Arc::new(moved))?),
                None => moved,
            }))
        })
    }
}
