//! Conditions on the rows that are searched for come before the searches.

use std::sync::Arc;

use datafusion::common::Result;
use datafusion::common::tree_node::{Transformed, TreeNode};
use datafusion::logical_expr::utils::{conjunction, split_conjunction};
use datafusion::logical_expr::{Expr, Extension, Filter, LogicalPlan, Projection};
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
            let Some(each) = searches(&filter.input) else { return Ok(Transformed::no(plan)) };
            let (below, above): (Vec<&Expr>, Vec<&Expr>) =
                split_conjunction(&filter.predicate).into_iter().partition(|e| each.is_of_input(e));
            let Some(below) = conjunction(below.into_iter().cloned()) else {
                return Ok(Transformed::no(plan));
            };
            let mut moved = each.filtered(below)?;
            if let LogicalPlan::Projection(projection) = filter.input.as_ref() {
                moved =
                    LogicalPlan::Projection(Projection::try_new(projection.expr.clone(), Arc::new(moved))?);
            }
            Ok(Transformed::yes(match conjunction(above.into_iter().cloned()) {
                Some(above) => LogicalPlan::Filter(Filter::try_new(above, Arc::new(moved))?),
                None => moved,
            }))
        })
    }
}

/// The searches that a plan is, or chooses columns of.
fn searches(plan: &LogicalPlan) -> Option<&EachNode> {
    match plan {
        LogicalPlan::Extension(Extension { node }) => node.as_any().downcast_ref::<EachNode>(),
        // What the optimizer puts in between leaves columns out and renames none.
        LogicalPlan::Projection(projection)
            if projection.expr.iter().all(|e| matches!(e, Expr::Column(_))) =>
        {
            match projection.input.as_ref() {
                input @ LogicalPlan::Extension(_) => searches(input),
                _ => None,
            }
        }
        _ => None,
    }
}
