//! Keys below `unnest()`.
//!
//! DataFusion 55 takes what no two rows have in common below `unnest` to be so above it, too, where one row has become several. By such a key
//! it leaves out DISTINCT, columns that stand beside the key in GROUP BY, and a LEFT JOIN that seems to find one row at most: other answers than
//! those asked for. So every pass of the optimizer begins with rows that have no keys there; a later rule of the same pass may make the node
//! anew, which what stands above it has its own schema for.

use std::sync::Arc;

use datafusion::common::tree_node::{Transformed, TreeNodeRecursion};
use datafusion::common::{DFSchema, FunctionalDependencies, Result};
use datafusion::logical_expr::LogicalPlan;
use datafusion::optimizer::{OptimizerConfig, OptimizerRule};

/// Takes the keys away.
#[derive(Debug)]
pub(super) struct UnnestHasNoKeys;

impl OptimizerRule for UnnestHasNoKeys {
    fn name(&self) -> &'static str {
        "unnest_has_no_keys"
    }

    fn rewrite(&self, plan: LogicalPlan, _: &dyn OptimizerConfig) -> Result<Transformed<LogicalPlan>> {
        without_false_keys(plan)
    }
}

/// The same plan, in which no key of the rows below `unnest()` is one of those above it.
pub(super) fn without_false_keys(plan: LogicalPlan) -> Result<Transformed<LogicalPlan>> {
    match unnests(&plan)? {
        true => plan.transform_up_with_subqueries(without_keys),
        false => Ok(Transformed::no(plan)),
    }
}

/// A node without keys if it makes several rows of one, or with those that its inputs have left.
fn without_keys(plan: LogicalPlan) -> Result<Transformed<LogicalPlan>> {
    if plan.schema().functional_dependencies().is_empty() {
        return Ok(Transformed::no(plan));
    }
    if let LogicalPlan::Unnest(mut unnest) = plan {
        let schema = DFSchema::clone(&unnest.schema);
        unnest.schema = Arc::new(schema.with_functional_dependencies(FunctionalDependencies::empty())?);
        return Ok(Transformed::yes(LogicalPlan::Unnest(unnest)));
    }
    let mut is_above = false;
    for input in plan.inputs() {
        is_above |= unnests(input)?;
    }
    match is_above {
        true => Ok(Transformed::yes(plan.recompute_schema()?)),
        false => Ok(Transformed::no(plan)),
    }
}

fn unnests(plan: &LogicalPlan) -> Result<bool> {
    let mut found = false;
    plan.apply_with_subqueries(|node| {
        found |= matches!(node, LogicalPlan::Unnest(_));
        Ok(if found { TreeNodeRecursion::Stop } else { TreeNodeRecursion::Continue })
    })?;
    Ok(found)
}
