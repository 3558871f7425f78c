//! The order of joins.
//!
//! DataFusion 55 joins tables in the order in which they are written, and only exchanges the two sides of a join. Here inner joins in a row are put in
//! the order that is expected to make the fewest rows, and semi and anti joins (EXISTS, IN) go below them where that is cheaper. Where nothing is
//! known of one of the relations, or little would be won, the order is the written one; `datafusion.optimizer.join_reordering` switches it off.

pub(super) mod estimate;
pub(super) mod selectivity;
mod tree;

use std::sync::Arc;

use datafusion::common::Result;
use datafusion::common::tree_node::{Transformed, TreeNode, TreeNodeRecursion};
use datafusion::logical_expr::{LogicalPlan, Projection};
use datafusion::optimizer::{OptimizerConfig, OptimizerRule};

use self::tree::Tree;
pub(super) use self::tree::step;

/// The rule of DataFusion's behind which conditions stand where they belong, and columns that nobody needs are still there.
pub(super) const BEHIND: &str = "push_down_filter";

/// Puts joins in order.
#[derive(Debug)]
pub(super) struct JoinsInOrder;

impl OptimizerRule for JoinsInOrder {
    fn name(&self) -> &'static str {
        "joins_in_order"
    }

    fn rewrite(&self, plan: LogicalPlan, config: &dyn OptimizerConfig) -> Result<Transformed<LogicalPlan>> {
        if !config.options().optimizer.join_reordering || !is_worth_it(&plan)? {
            return Ok(Transformed::no(plan));
        }
        ordered(plan)
    }
}

/// Whether there is a join on a join, or a semi join on one.
fn is_worth_it(plan: &LogicalPlan) -> Result<bool> {
    let mut joins = 0;
    plan.apply_with_subqueries(|node| {
        joins += usize::from(matches!(node, LogicalPlan::Join(_)));
        Ok(if joins > 1 { TreeNodeRecursion::Stop } else { TreeNodeRecursion::Continue })
    })?;
    Ok(joins > 1)
}

fn ordered(plan: LogicalPlan) -> Result<Transformed<LogicalPlan>> {
    if !tree::is_inner(&plan) && tree::half(&plan).is_none() {
        let plan = plan.map_subqueries(ordered)?;
        return plan.transform_sibling(|plan| plan.map_children(ordered));
    }
    above_joins(plan)?.transform_sibling(|plan| {
        let ordered = Tree::of(&plan).map(|tree| tree.ordered()).transpose()?.flatten();
        match ordered {
            Some(ordered) => restored(ordered, &plan).map(Transformed::yes),
            None => Ok(Transformed::no(plan)),
        }
    })
}

/// A tree with the semi joins above it, all its relations in order.
fn above_joins(plan: LogicalPlan) -> Result<Transformed<LogicalPlan>> {
    if tree::half(&plan).is_none() {
        return relations(plan);
    }
    let mut is_left = true;
    plan.map_children(|side| if std::mem::take(&mut is_left) { above_joins(side) } else { ordered(side) })
}

/// A tree with all its relations in order.
fn relations(plan: LogicalPlan) -> Result<Transformed<LogicalPlan>> {
    if tree::is_inner(&plan) { plan.map_children(relations) } else { ordered(plan) }
}

/// `ordered` with the columns in the order of `plan`.
fn restored(ordered: LogicalPlan, plan: &LogicalPlan) -> Result<LogicalPlan> {
    if ordered.schema().columns() == plan.schema().columns() {
        return Ok(ordered);
    }
    Ok(LogicalPlan::Projection(Projection::new_from_schema(Arc::new(ordered), Arc::clone(plan.schema()))))
}
